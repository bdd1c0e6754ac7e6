//! Parked pages: content that stays in a slot without a mapping, for the next process (or mapping) that can use it.
//!
//! Invariants: a parked page is charged to the budget; while its domain runs it has no rights at the host; the bytes a
//! process left (`Held::Dirty`) are zeroed or overwritten before a guest can see them (M6); file pages are kept only
//! with the file's identity and version, so equal identities mean equal bytes.
use super::budget::uncharge;
use super::{Backing, Mm, PAGE, Vma, rights};
use crate::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use occlum_linux_abi::mmap as mf;

/// Pages that stay in a slot for the next process that maps the same there.
#[derive(Clone)]
pub(super) struct Parked {
    pub(super) range: Range<u64>,
    pub(super) held: Held,
    /// Rights at the host now, or `MIXED`.
    pub(super) host: u32,
}

/// What parked pages hold.
#[derive(Clone, Copy)]
pub(super) enum Held {
    /// Clean pages of this file and version, from this file offset.
    File((u64, u64), u64),
    /// What the last process left: zeroed or overwritten before anybody can see it (M6).
    Dirty,
}

impl Parked {
    pub(super) fn pages(&self) -> u64 {
        (self.range.end - self.range.start) / PAGE
    }
    /// The part of it inside `r`.
    pub(super) fn part(&self, r: Range<u64>) -> Parked {
        let range = self.range.start.max(r.start)..self.range.end.min(r.end);
        let held = match self.held {
            Held::File(file, off) => Held::File(file, off + (range.start - self.range.start)),
            Held::Dirty => Held::Dirty,
        };
        Parked { range, held, host: self.host }
    }
}

/// Host rights that differ from page to page: W+X memory loses W where it was translated.
const MIXED: u32 = u32::MAX;

/// Largest unmapped run, in pages, that stays parked in the running domain.
pub(super) const UNMAP_PARK_MAX: u64 = 32;
/// Most dirty pages that a slot keeps.
pub(super) const DIRTY_MAX: u64 = 2048;

impl Mm {
    /// Takes the parked pages under [start, end) out of the list, cut to it.
    pub(super) fn take_parked(&self, start: u64, end: u64) -> Vec<Parked> {
        let mut hit = Vec::new();
        self.parked.with_mut(|list| {
            let mut rest = Vec::new();
            for p in core::mem::take(list) {
                if p.range.end <= start || end <= p.range.start {
                    rest.push(p);
                    continue;
                }
                if p.range.start < start {
                    rest.push(p.part(0..start));
                }
                if end < p.range.end {
                    rest.push(p.part(end..u64::MAX));
                }
                hit.push(p.part(start..end));
            }
            *list = rest;
        });
        hit
    }

    /// Parked pages under a new mapping: those that can serve become resident, others go. `fill`: dirty ones get the
    /// mapping's content now; else the caller overwrites them before the guest runs.
    pub(super) fn settle_parked(&self, start: u64, vma: &Vma, fill: bool) -> Result<()> {
        if self.parked.with(Vec::is_empty) {
            return Ok(());
        }
        let host = if vma.private_code { 3 } else { rights(vma.prot) };
        for p in self.take_parked(start, vma.end) {
            let clean = match (&vma.backing, p.held) {
                (Backing::File(f, off), Held::File(file, at)) => {
                    host == 1 && f.id() == file && off + (p.range.start - start) == at
                }
                _ => false,
            };
            let dirty = matches!(p.held, Held::Dirty)
                && rights(vma.prot) == 3
                && !vma.is_shared()
                && p.range.end <= vma.content_end(start);
            if !clean && !dirty {
                self.protect(p.range.clone(), 0, false, true)?;
                uncharge(p.pages());
                continue;
            }
            let want = if clean { 1 } else { 3 };
            if dirty {
                // Threads on other vCPUs would see what the last process left.
                occlum_rt::vcpu::stop_others(self.slot);
            }
            if p.host != want {
                self.protect(p.range.clone(), want, false, false)?;
            }
            self.set_resident(p.range.clone(), true);
            self.count_pages(p.pages() as i64);
            if dirty && fill {
                self.refill(start, vma, p.range)?;
            }
        }
        Ok(())
    }

    /// The mapping's initial content into resident writable pages.
    pub(super) fn refill(&self, start: u64, vma: &Vma, run: Range<u64>) -> Result<()> {
        self.slot.zero(run.start, run.end - run.start).map_err(|_| Errno::EFAULT)?;
        match &vma.backing {
            Backing::File(f, off) => self.copy_in(f, off + (run.start - start), &run),
            _ => Ok(()),
        }
    }

    /// The domain is about to run: parked pages that no mapping took lose their rights.
    pub fn hide_parked(&self) -> Result<()> {
        let mut list = self.parked.take();
        for p in list.iter_mut().filter(|p| p.host != 0) {
            self.protect(p.range.clone(), 0, false, false)?;
            p.host = 0;
        }
        self.parked.replace(list);
        Ok(())
    }

    /// The private pages of a process that is gone, as parked pages.
    pub(super) fn parkable(&self, vmas: &BTreeMap<u64, Vma>) -> Vec<Parked> {
        let mut out = Vec::new();
        for (start, v) in vmas.iter().filter(|(_, v)| !v.is_shared()) {
            let host = rights(v.prot);
            let mixed = host == 3 && (v.prot & mf::PROT_EXEC != 0 || v.region.is_some());
            let clean = match &v.backing {
                Backing::File(f, off) if !v.private_code && host == 1 && v.seen == Some(f.id()) => {
                    Some((f.id(), *off))
                }
                _ => None,
            };
            for range in self.resident_runs(*start..v.end) {
                let held = match clean {
                    Some((file, off)) => Held::File(file, off + (range.start - start)),
                    None => Held::Dirty,
                };
                out.push(Parked { range, held, host: if mixed { MIXED } else { host } });
            }
        }
        out
    }
}
