//! Parked pages: content that stays in a slot without a mapping, for the next process (or mapping) that can use it.
//!
//! Invariants: a parked page is charged to the budget; while its domain runs it has no rights at the host, but where the
//! host would not take them from the process that had the page; the bytes a process left (`Held::Dirty`) are zeroed or
//! overwritten before another guest can see them (M6); file pages are kept only with the file's identity and version, so
//! equal identities mean equal bytes. What the host refuses to take away stays in the list: no page with rights is
//! forgotten.
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
pub(super) const MIXED: u32 = u32::MAX;

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
        let mut list = self.take_parked(start, vma.end).into_iter();
        while let Some(p) = list.next() {
            if let Err(e) = self.settle(start, vma, fill, &p) {
                let left = [Parked { host: MIXED, ..p }].into_iter().chain(list);
                self.parked.with_mut(|all| all.extend(left));
                return Err(e);
            }
        }
        Ok(())
    }

    fn settle(&self, start: u64, vma: &Vma, fill: bool, p: &Parked) -> Result<()> {
        let clean = match (&vma.backing, p.held) {
            (Backing::File(f, off), Held::File(file, at)) => {
                // What shared mappings wrote makes another version.
                super::before_read(f.0.inode().as_ref(), at..at + p.pages() * PAGE);
                let fits = off + (p.range.start - start) == at;
                fits && rights(vma.prot()) == 1 && vma.clean().is_some_and(|(of, _)| of == file)
            }
            _ => false,
        };
        let dirty = matches!(p.held, Held::Dirty)
            && rights(vma.prot()) == 3
            && !vma.is_shared()
            && p.range.end <= vma.content_end(start);
        if !clean && !dirty {
            self.protect(p.range.clone(), 0, false, true)?;
            uncharge(p.pages());
            return Ok(());
        }
        let want = if clean { 1 } else { 3 };
        if dirty {
            // Threads on other vCPUs would see what the last process left.
            occlum_rt::vcpu::stop_others(self.slot);
        }
        if p.host != want {
            self.protect(p.range.clone(), want, false, false)?;
        }
        if dirty && fill {
            self.refill(start, vma, p.range.clone())?;
        }
        self.set_resident(p.range.clone(), true);
        self.count_pages(p.pages() as i64);
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
        let mut hidden = Ok(());
        for p in list.iter_mut().filter(|p| p.host != 0) {
            match self.protect(p.range.clone(), 0, false, false) {
                Ok(()) => p.host = 0,
                Err(e) => hidden = Err(e),
            }
        }
        self.parked.replace(list);
        hidden
    }

    /// Parks what a process leaves in pages that count as its own no more.
    pub(super) fn park(&self, range: Range<u64>, host: u32) {
        self.parked.with_mut(|p| p.push(Parked { range, held: Held::Dirty, host }));
    }

    /// Takes pages away, content and rights; what the host refuses to take stays parked.
    pub(super) fn withdraw(&self, range: Range<u64>) {
        if self.protect(range.clone(), 0, false, true).is_ok() {
            uncharge((range.end - range.start) / PAGE);
        } else {
            self.park(range, MIXED);
        }
    }

    /// The private pages of a process that is gone, as parked pages.
    pub(super) fn parkable(&self, vmas: &BTreeMap<u64, Vma>) -> Vec<Parked> {
        let mut out = Vec::new();
        for (start, v) in vmas.iter().filter(|(_, v)| !v.is_shared()) {
            let host = rights(v.prot());
            let mixed = host == 3 && (v.prot() & mf::PROT_EXEC != 0 || v.region.is_some());
            let clean = v.clean().filter(|_| host == 1);
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
