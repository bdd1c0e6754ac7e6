//! Shared memory: objects whose pages several mappings and processes show.
//!
//! Neighbours: `filemap` keeps the objects of files and the files in step; `copies` has the pages where the arena's may not
//! be aliased. Invariants: otherwise a page of an object is one arena page, charged once, given back with the object; there
//! is at most one object for a file, found by the file's id.
use super::budget::{BUDGET, arena_alloc, arena_free};
use super::copies::{self, Copies};
use super::fault::{Access, FaultError};
use super::filemap::BY_FILE;
use super::{MapFile, Mm, PAGE, Vma, page_ceil};
use crate::errno::{Errno, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::{Range, RangeInclusive};
use occlum_enclave_abi::Ocall;
use occlum_rt::bkl::BklCell;
use occlum_sfi_spec::domain;

/// Memory shared between mappings and processes: pages of the backend's shared arena.
pub struct SharedObject {
    /// Arena page by page index of the object.
    pages: BklCell<BTreeMap<u64, u64>>,
    /// Or its pages, if there are no aliases.
    pub(super) copies: BklCell<BTreeMap<u64, Copies>>,
    /// Page indices that code may have been translated from (`guard`).
    pub(super) code: BklCell<BTreeSet<u64>>,
    file: Option<MapFile>,
}

impl SharedObject {
    pub(super) fn file(&self) -> Option<&MapFile> {
        self.file.as_ref()
    }
    /// Page indices in `r` that have an arena page.
    pub(super) fn pages_in(&self, r: RangeInclusive<u64>) -> Vec<u64> {
        self.pages.with(|p| p.range(r).map(|(n, _)| *n).collect())
    }
    pub(super) fn has(&self, page: u64) -> bool {
        self.pages.with(|p| p.contains_key(&page))
    }
    /// Gives arena pages back that no mapping shows any more.
    pub(super) fn forget(&self, r: Range<u64>) {
        for n in self.pages_in(r.start..=r.end - 1) {
            if let Some(arena) = self.pages.with_mut(|p| p.remove(&n)) {
                arena_free([arena].into_iter());
            }
        }
    }
}

impl Drop for SharedObject {
    fn drop(&mut self) {
        arena_free(self.pages.take().into_values());
    }
}

/// A new shared object: anonymous memory, or the one object of a file.
pub fn shared_object(file: Option<MapFile>) -> Arc<SharedObject> {
    let make = |file| {
        Arc::new(SharedObject {
            pages: BklCell::new(BTreeMap::new()),
            copies: BklCell::new(BTreeMap::new()),
            code: BklCell::new(BTreeSet::new()),
            file,
        })
    };
    let Some(f) = file else { return make(None) };
    let id = f.id().0;
    if let Some(o) = BY_FILE.with(|m| m.get(&id).and_then(Weak::upgrade)) {
        return o;
    }
    let o = make(Some(f));
    BY_FILE.with_mut(|m| {
        m.retain(|_, w| w.strong_count() > 0);
        m.insert(id, Arc::downgrade(&o));
    });
    o
}

impl Mm {
    /// Shows the object's pages in `run`; those around `page` that can't be shown are left out.
    pub(super) fn commit_shared(
        &self,
        start: u64,
        vma: &Vma,
        (object, base): (&Arc<SharedObject>, u64),
        run: Range<u64>,
        (page, access): (u64, Access),
    ) -> core::result::Result<(), FaultError> {
        if self.mappings_are_scarce(0) {
            return Err(FaultError::Mappings);
        }
        if copies::is_on() {
            return self.commit_copies(start, vma, (object, base), run, (page, access));
        }
        for at in (run.start..run.end).step_by(PAGE as usize) {
            match self.show_page(vma, object, base + (at - start), at) {
                Err(e) if at == page => return Err(e),
                Err(_) if at > page => break,
                _ => {}
            }
        }
        Ok(())
    }

    /// Shows the page at `ooff` of the object at `at`.
    fn show_page(
        &self,
        vma: &Vma,
        object: &SharedObject,
        ooff: u64,
        at: u64,
    ) -> core::result::Result<(), FaultError> {
        if object.file.as_ref().is_some_and(|f| ooff >= page_ceil(f.size())) {
            return Err(FaultError::PastEof);
        }
        let known = object.pages.with(|p| p.get(&(ooff / PAGE)).copied());
        let done = match known {
            Some(arena) => self.alias(at, arena, object.rights_of(ooff / PAGE, vma.prot)),
            None => self.show_fresh(vma, object, ooff, at),
        };
        done.map_err(|_| FaultError::OutOfMemory)?;
        self.set_resident(at..at + PAGE, true);
        Ok(())
    }

    fn show_fresh(&self, vma: &Vma, object: &SharedObject, ooff: u64, at: u64) -> Result<()> {
        let arena = arena_alloc().ok_or(Errno::ENOMEM)?;
        let done = self.fill_arena(vma, object, ooff, at, arena);
        if done.is_ok() {
            object.pages.with_mut(|p| p.insert(ooff / PAGE, arena));
        } else {
            self.unalias_pages(at..at + PAGE);
            arena_free([arena].into_iter());
        }
        done
    }

    fn fill_arena(&self, vma: &Vma, object: &SharedObject, ooff: u64, at: u64, arena: u64) -> Result<()> {
        let page = at..at + PAGE;
        // Threads on other vCPUs would see what was in the arena page, and could write what they may only read.
        occlum_rt::vcpu::stop_others(self.slot);
        self.alias(at, arena, 3)?;
        self.slot.zero(at, PAGE).map_err(|_| Errno::EFAULT)?;
        if let Some(f) = &object.file {
            self.copy_in(f, ooff, &page)?;
        }
        match object.rights_of(ooff / PAGE, vma.prot) {
            3 => Ok(()),
            host => self.protect(page, host, false, false),
        }
    }

    /// Shows one arena page at `at` (a declared capability of the simulated backend).
    fn alias(&self, at: u64, arena: u64, host_rights: u32) -> Result<()> {
        let addr = domain::base(u64::from(self.slot.index())) + at;
        let args = [addr, PAGE, arena, u64::from(host_rights)];
        crate::errno::host_result(occlum_rt::ocall::call(Ocall::MemAlias, &args, &[], &mut []))?;
        self.pieces.with_mut(|p| p.show(at..at + PAGE, arena, host_rights));
        Ok(())
    }

    /// A shared mapping goes.
    pub(super) fn release_shared(&self, start: u64, vma: &Vma, (object, base): (&SharedObject, u64)) {
        if copies::is_on() {
            self.leave_copies(start, vma, (object, base));
            object.clean(base / PAGE..(base + vma.end - start) / PAGE);
        } else {
            self.write_back(start, vma, object, base);
            self.unalias(start..vma.end);
        }
    }

    /// The range's resident pages show nothing any more.
    pub(super) fn unalias(&self, r: Range<u64>) {
        for run in self.runs(r, true) {
            self.unalias_pages(run.clone());
            self.set_resident(run, false);
        }
    }

    fn unalias_pages(&self, run: Range<u64>) {
        let addr = domain::base(u64::from(self.slot.index())) + run.start;
        let args = [addr, run.end - run.start, u64::MAX, 0];
        let refused = || occlum_rt::ocall::call(Ocall::MemAlias, &args, &[], &mut []) != 0;
        if refused() && refused() {
            // The domain goes on seeing them. It gets no more memory, and nobody gets its slot or these pages.
            self.is_lost.set(true);
            BUDGET.with_mut(|b| b.arena_lost = true);
        }
        self.pieces.with_mut(|p| p.take(run));
    }
}
