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
use crate::ipc::shm::{Did, note};
use crate::sched::later;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use occlum_enclave_abi::Ocall;
use occlum_rt::bkl::BklCell;
use occlum_sfi_spec::domain;

/// Memory shared between mappings and processes: pages of the backend's shared arena.
pub struct SharedObject {
    /// No other one's, ever.
    id: u64,
    /// Arena page by page index of the object.
    pages: BklCell<BTreeMap<u64, u64>>,
    /// Or its pages, if there are no aliases.
    pub(super) copies: BklCell<BTreeMap<u64, Copies>>,
    /// Page indices that code may have been translated from (`guard`).
    pub(super) code: BklCell<BTreeSet<u64>>,
    file: Option<MapFile>,
    /// How many mappings show it (`shown`).
    pub(super) shown: BklCell<usize>,
    /// The System V segment that it is, if it is one.
    pub segment: BklCell<Option<i32>>,
}

impl SharedObject {
    /// Its number, which no other object has or will have.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// How many mappings show it, in all processes.
    pub fn shown(&self) -> usize {
        self.shown.get()
    }
    pub(super) fn file(&self) -> Option<&MapFile> {
        self.file.as_ref()
    }
    /// Page indices in `r` that have an arena page.
    pub(super) fn pages_in(&self, r: Range<u64>) -> Vec<u64> {
        self.pages.with(|p| p.range(r).map(|(n, _)| *n).collect())
    }
    /// The first from `from` on.
    pub(super) fn next_in_arena(&self, from: u64) -> Option<u64> {
        self.pages.with(|p| p.range(from..).next().map(|(n, _)| *n))
    }
    pub(super) fn has(&self, page: u64) -> bool {
        self.pages.with(|p| p.contains_key(&page))
    }
    /// How many of the pages from the first on are alike: side by side in the arena, from where is said, or not there at
    /// all.
    fn stretch(&self, pages: Range<u64>, fits: impl Fn(u64) -> bool) -> (Option<u64>, u64) {
        self.pages.with(|p| {
            let first = p.get(&pages.start).copied();
            let expected = |n: u64| first.map(|arena| arena + (n - pages.start) * PAGE);
            let alike = |n: &u64| p.get(n).copied() == expected(*n) && fits(*n);
            (first, pages.clone().take_while(alike).count() as u64)
        })
    }
    /// Gives arena pages back that no mapping shows any more.
    pub(super) fn forget(&self, r: Range<u64>) {
        if self.pages.with(|p| p.last_key_value().is_none_or(|(last, _)| *last < r.end)) {
            return free(self.pages.with_mut(|p| p.split_off(&r.start)));
        }
        let next = || {
            self.pages.with_mut(|p| {
                let n = *p.range(r.clone()).next()?.0;
                p.remove(&n)
            })
        };
        core::iter::from_fn(next).for_each(|arena| arena_free([arena].into_iter()));
    }
}

impl Drop for SharedObject {
    fn drop(&mut self) {
        free(self.pages.take());
    }
}

fn free(pages: BTreeMap<u64, u64>) {
    later::use_up(pages, |arena| arena_free([arena].into_iter()));
}

/// A new shared object: anonymous memory, or the one object of a file.
pub fn shared_object(file: Option<MapFile>) -> Arc<SharedObject> {
    let make = |file| {
        Arc::new(SharedObject {
            id: crate::fs::inode::next_id(),
            pages: BklCell::new(BTreeMap::new()),
            copies: BklCell::new(BTreeMap::new()),
            code: BklCell::new(BTreeSet::new()),
            file,
            shown: BklCell::new(0),
            segment: BklCell::new(None),
        })
    };
    let Some(f) = file else { return make(None) };
    let id = f.object_id();
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
        if self.mappings_have_run_out() {
            return Err(FaultError::Mappings);
        }
        if copies::is_on() {
            return self.commit_copies(start, vma, (object, base), run, (page, access));
        }
        let (mut at, mut most) = (run.start, run.end - run.start);
        while at < run.end {
            match self.show_some(vma, object, base + (at - start), at..run.end.min(at + most)) {
                Ok(shown) => at = shown,
                // One that can't be had is not to keep those before it away.
                Err(_) if most > PAGE => most = PAGE,
                Err(e) if at == page => return Err(e),
                Err(_) if at > page => break,
                Err(_) => at += PAGE,
            }
        }
        Ok(())
    }

    /// Shows the pages of the object from `ooff` on in `run`, as many as one call of the host's does; up to where.
    fn show_some(
        &self,
        vma: &Vma,
        object: &SharedObject,
        ooff: u64,
        run: Range<u64>,
    ) -> core::result::Result<u64, FaultError> {
        let end = object.file.as_ref().map_or(u64::MAX, |f| page_ceil(f.size()));
        if ooff >= end {
            return Err(FaultError::NoContent);
        }
        let most = (run.end - run.start).min(end - ooff) / PAGE;
        let (first, rights) = (ooff / PAGE, object.rights_of(ooff / PAGE, vma.prot()));
        let known = object.stretch(first..first + most, |n| object.rights_of(n, vma.prot()) == rights);
        let shown = |pages: u64| run.start..run.start + pages * PAGE;
        let done = match known {
            (Some(arena), pages) => self.alias(shown(pages), arena, rights).map(|()| shown(pages)),
            (None, pages) => self.show_fresh(object, ooff, shown(pages), rights),
        };
        let run = done.map_err(FaultError::of_content)?;
        self.set_resident(run.clone(), true);
        Ok(run.end)
    }

    /// New pages of the object, as many of `run` as lie side by side in the arena.
    fn show_fresh(
        &self,
        object: &SharedObject,
        ooff: u64,
        run: Range<u64>,
        host_rights: u32,
    ) -> Result<Range<u64>> {
        let arena = arena_alloc((run.end - run.start) / PAGE);
        if arena.is_empty() {
            return Err(Errno::ENOMEM);
        }
        let pages = || arena.clone().step_by(PAGE as usize);
        let run = run.start..run.start + (arena.end - arena.start);
        let done = self.fill_arena(object, ooff, &run, (arena.start, host_rights));
        if done.is_ok() {
            object.pages.with_mut(|p| p.extend((ooff / PAGE..).zip(pages())));
        } else {
            self.unalias_pages(run.clone());
            arena_free(pages());
        }
        done.map(|()| run)
    }

    fn fill_arena(
        &self,
        object: &SharedObject,
        ooff: u64,
        run: &Range<u64>,
        (arena, host_rights): (u64, u32),
    ) -> Result<()> {
        // Threads on other vCPUs would see what was in the arena's pages, and could write what they may only read.
        occlum_rt::vcpu::stop_others(self.slot);
        self.alias(run.clone(), arena, 3)?;
        self.slot.zero(run.start, run.end - run.start).map_err(|_| Errno::EFAULT)?;
        if let Some(f) = &object.file {
            self.copy_in(f, ooff, run)?;
        }
        if host_rights == 3 { Ok(()) } else { self.protect(run.clone(), host_rights, false, false) }
    }

    /// Shows pages of the arena in `run` (a declared capability of the simulated backend).
    fn alias(&self, run: Range<u64>, arena: u64, host_rights: u32) -> Result<()> {
        let addr = domain::base(u64::from(self.slot.index())) + run.start;
        let args = [addr, run.end - run.start, arena, u64::from(host_rights)];
        if occlum_rt::ocall::call(Ocall::MemAlias, &args, &[], &mut []) != 0 {
            return Err(Errno::ENOMEM);
        }
        self.pieces.with_mut(|p| p.show(run, arena, host_rights));
        Ok(())
    }

    /// A shared mapping goes.
    pub(super) fn release_shared(&self, start: u64, vma: &Vma, (object, base): (&SharedObject, u64)) {
        note(object, Did::Detach);
        if copies::is_on() {
            self.leave_copies(start, vma, (object, base));
            object.clean(base / PAGE..(base + vma.end - start) / PAGE);
        } else {
            self.write_back(start, vma, object, start..vma.end);
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
