//! Write protection of pages that code was translated from (trap C8: self-modifying code, JIT compilers).
//!
//! A page that fragments of private regions were made of is not writable at the host, whatever its mappings allow; nor is
//! any other mapping of a shared page, in whatever process. The first write faults and drops the fragments; then the page
//! is writable until it is next translated. Writes of the LibOS fault likewise, or say what they change
//! (`SharedObject::code_changes`). Neighbours: `code` (fragments), `fault`, `filemap`.
//! Invariant: while a live fragment was made of a page, no mapping of the page is writable at the host.
use super::copies;
use super::filemap::mappings_of;
use super::shared::SharedObject;
use super::{Backing, FaultError, Mm, PAGE, Vma, rights};
use crate::code::Region;
use crate::errno::Result;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::ops::Range;
use occlum_linux_abi::mmap as mf;

/// Host rights of a page that must not be written.
fn read_only(host: u32) -> u32 {
    host & 1
}

impl Mm {
    /// Guards resident pages of the vma at `start`, which are about to be translated.
    pub fn guard(
        &self,
        start: u64,
        vma: &Vma,
        region: &Region,
        r: Range<u64>,
    ) -> core::result::Result<(), FaultError> {
        for page in (r.start..r.end).step_by(PAGE as usize) {
            let done = match &vma.backing {
                Backing::Shared(object, base, _) => object.guard((base + (page - start)) / PAGE),
                _ if rights(vma.prot()) == 3 && !region.has_code(page) => {
                    if self.mappings_have_run_out() {
                        return Err(FaultError::Mappings);
                    }
                    self.protect(page..page + PAGE, 1, false, false)
                }
                _ => Ok(()),
            };
            done.map_err(|_| FaultError::OutOfMemory)?;
        }
        Ok(())
    }

    /// A write to a resident page of a writable vma faulted: what was translated from the page goes, the page becomes
    /// writable.
    pub(super) fn unguard_page(&self, start: u64, vma: &Vma, page: u64) -> Result<()> {
        match &vma.backing {
            Backing::Shared(object, base, _) => {
                let n = (base + (page - start)) / PAGE;
                object.code_changes(n);
                if copies::is_on() {
                    return self.claim_copy(vma, object, n, page);
                }
            }
            _ => {
                if let Some(region) = &vma.region {
                    region.drop_pages(page..page + PAGE);
                }
            }
        }
        self.protect(page..page + PAGE, rights(vma.prot()), false, false)
    }

    /// Pages of a region that leaves its vma get the vma's rights back. (While it is executable, `MIXED` says so.)
    pub(super) fn unguard(&self, region: &Region) {
        let Some((start, vma)) = self.find(region.start()) else { return };
        if rights(vma.prot()) != 3 || vma.is_shared() || vma.prot() & mf::PROT_EXEC != 0 {
            return;
        }
        for run in self.runs(start..vma.end, true) {
            for page in (run.start..run.end).step_by(PAGE as usize).filter(|p| region.has_code(*p)) {
                let _ = self.protect(page..page + PAGE, 3, false, false);
            }
        }
    }

    /// Gives resident pages of the vma at `start` its rights; guarded ones stay so.
    pub(super) fn give_rights(&self, start: u64, vma: &Vma, run: Range<u64>) -> Result<()> {
        let host = rights(vma.prot());
        if host != 3 || vma.region.is_none() && !vma.is_shared() {
            return self.protect(run, host, false, false);
        }
        let mut from = run.start;
        while from < run.end {
            let guarded = self.is_guarded(start, vma, from);
            let same = |at: &u64| self.is_guarded(start, vma, *at) == guarded;
            let pages = (from..run.end).step_by(PAGE as usize).take_while(same).count() as u64;
            let host = if guarded { read_only(host) } else { host };
            self.protect(from..from + pages * PAGE, host, false, false)?;
            from += pages * PAGE;
        }
        Ok(())
    }

    fn is_guarded(&self, start: u64, vma: &Vma, page: u64) -> bool {
        match &vma.backing {
            Backing::Shared(object, base, _) => {
                let n = (base + (page - start)) / PAGE;
                object.is_guarded(n) || object.is_read_only(n)
            }
            _ => vma.region.as_ref().is_some_and(|r| r.has_code(page)),
        }
    }
}

impl SharedObject {
    /// Was the object's page translated, in some process?
    pub(super) fn is_guarded(&self, n: u64) -> bool {
        self.code.with(|c| c.contains(&n))
    }

    /// Host rights of a mapping with these rights of its own.
    pub(super) fn rights_of(&self, n: u64, prot: u32) -> u32 {
        if self.is_guarded(n) { read_only(rights(prot)) } else { rights(prot) }
    }

    /// The object's page is about to be translated: no mapping of it stays writable.
    fn guard(self: &Arc<Self>, n: u64) -> Result<()> {
        if !self.code.with_mut(|c| c.insert(n)) {
            return Ok(());
        }
        for m in mappings_of(self) {
            if let Some(at) = m.resident_page(n * PAGE).filter(|_| rights(m.vma.prot()) == 3) {
                m.mm.protect(at..at + PAGE, 1, false, false)?;
            }
        }
        Ok(())
    }

    /// The object's page is about to change: what any process translated from it goes.
    pub(super) fn code_changes(self: &Arc<Self>, n: u64) {
        self.code_range_changes(n..n + 1);
    }

    /// The same for all of its pages in the range that were translated.
    pub(super) fn code_range_changes(self: &Arc<Self>, r: Range<u64>) {
        let take = |c: &mut BTreeSet<u64>| {
            let first = *c.range(r.clone()).next()?;
            let mut last = first;
            while let Some(n) = c.range(first..r.end).next().copied() {
                c.remove(&n);
                last = n;
            }
            Some(first..last + 1)
        };
        let Some(hit) = self.code.with_mut(take) else { return };
        for m in mappings_of(self) {
            if let Some(region) = &m.vma.region {
                region.drop_pages(m.guest_range(hit.start * PAGE..hit.end * PAGE));
            }
        }
    }
}
