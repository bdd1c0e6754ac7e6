//! Shared memory: objects whose pages several mappings and processes show, and shared file mappings.
//!
//! Invariants: a page of an object is one arena page, charged once, given back with the object; there is at most one
//! object for a file, found by the file's id; read(2) and write(2) see what mappings wrote and the other way round.
use super::budget::{BUDGET, arena_alloc, uncharge};
use super::fault::FaultError;
use super::vma::overlapping;
use super::{Backing, MapFile, Mm, PAGE, Vma, page_ceil, rights};
use crate::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use occlum_enclave_abi::Ocall;
use occlum_linux_abi::mmap as mf;
use occlum_rt::bkl::BklCell;
use occlum_sfi_spec::domain;

/// Memory shared between mappings and processes: pages of the backend's shared arena.
pub struct SharedObject {
    /// Arena page by page index of the object.
    pages: BklCell<BTreeMap<u64, u64>>,
    file: Option<MapFile>,
}

impl Drop for SharedObject {
    fn drop(&mut self) {
        let pages = self.pages.take();
        uncharge(pages.len() as u64);
        BUDGET.with_mut(|b| b.arena_free.extend(pages.values()));
    }
}

impl Mm {
    pub(super) fn commit_shared(
        &self,
        start: u64,
        vma: &Vma,
        object: &SharedObject,
        base: u64,
        run: Range<u64>,
    ) -> core::result::Result<(), FaultError> {
        for at in (run.start..run.end).step_by(PAGE as usize) {
            let ooff = base + (at - start);
            if let Some(f) = &object.file
                && ooff >= page_ceil(f.size())
            {
                return Err(FaultError::PastEof);
            }
            let known = object.pages.with(|p| p.get(&(ooff / PAGE)).copied());
            let (arena, fresh) = match known {
                Some(a) => (a, false),
                None => (arena_alloc().ok_or(FaultError::OutOfMemory)?, true),
            };
            let want = rights(vma.prot);
            self.alias(at, arena, if fresh { 3 } else { want }).map_err(|_| FaultError::OutOfMemory)?;
            if fresh {
                let page = at..at + PAGE;
                let filled =
                    self.slot.zero(at, PAGE).map_err(|_| Errno::EFAULT).and_then(|()| match &object.file {
                        Some(f) => self.copy_in(f, ooff, &page),
                        None => Ok(()),
                    });
                filled.map_err(|_| FaultError::OutOfMemory)?;
                object.pages.with_mut(|p| p.insert(ooff / PAGE, arena));
                if want != 3 {
                    self.protect(page, want, false, false).map_err(|_| FaultError::OutOfMemory)?;
                }
            }
            self.set_resident(at..at + PAGE, true);
        }
        Ok(())
    }

    /// Shows one arena page at `at` (a declared capability of the simulated backend).
    pub(super) fn alias(&self, at: u64, arena: u64, host_rights: u32) -> Result<()> {
        let addr = domain::base(u64::from(self.slot.index())) + at;
        let args = [addr, PAGE, arena, u64::from(host_rights)];
        crate::errno::host_result(occlum_rt::ocall::call(Ocall::MemAlias, &args, &[], &mut [])).map(|_| ())
    }

    /// Writes shared file mappings in the range back.
    pub fn sync(&self, r: Range<u64>) {
        let objects: Vec<Arc<SharedObject>> = self.inner.with(|i| {
            overlapping(&i.vmas, r)
                .filter_map(|(_, v)| match &v.backing {
                    Backing::Shared(o, _) => Some(o.clone()),
                    _ => None,
                })
                .collect()
        });
        for (start, vma) in self.vmas() {
            if let Backing::Shared(o, base) = &vma.backing
                && objects.iter().any(|x| Arc::ptr_eq(x, o))
            {
                self.write_back(start, &vma, o, *base);
            }
        }
    }

    /// Copies one file page into the resident page that shows it.
    pub(super) fn refresh_page(
        &self,
        inode: &dyn crate::fs::Inode,
        start: u64,
        vma: &Vma,
        base: u64,
        foff: u64,
    ) {
        let Some(at) = foff.checked_sub(base).map(|d| start + d).filter(|at| *at < vma.end) else { return };
        let mut page = [0u8; PAGE as usize];
        if self.is_resident(at)
            && let Ok(n) = inode.read_at(foff, &mut page)
        {
            let _ = self.slot.write(at, &page[..n]);
        }
    }

    pub(super) fn write_back(&self, start: u64, vma: &Vma, object: &SharedObject, base: u64) {
        let Some(f) = &object.file else { return };
        if vma.prot & mf::PROT_WRITE == 0 {
            return;
        }
        let size = f.size();
        let mut page = [0u8; PAGE as usize];
        for run in self.runs(start..vma.end, true) {
            for at in (run.start..run.end).step_by(PAGE as usize) {
                let foff = base + (at - start);
                let n = size.saturating_sub(foff).min(PAGE) as usize;
                if n > 0 && self.slot.read(at, &mut page[..n]).is_ok() {
                    let _ = f.0.inode().write_at(foff, &page[..n]);
                }
            }
        }
    }
}

/// Shared objects of files, by file id.
pub(super) static BY_FILE: BklCell<BTreeMap<u64, Weak<SharedObject>>> = BklCell::new(BTreeMap::new());

/// What mappings wrote to a file becomes visible to read(2). Cheap while no file is mapped shared.
pub fn before_read(inode: &dyn crate::fs::Inode) {
    if BY_FILE.with(BTreeMap::is_empty) {
        return;
    }
    let id = inode.file_id().0;
    let Some(object) = BY_FILE.with(|m| m.get(&id).and_then(Weak::upgrade)) else { return };
    for p in crate::process::Process::all() {
        let Some(mm) = p.mm() else { continue };
        for (start, vma) in mm.vmas() {
            if let Backing::Shared(o, base) = &vma.backing
                && Arc::ptr_eq(o, &object)
            {
                mm.write_back(start, &vma, o, *base);
            }
        }
    }
}

/// What write(2) changed becomes visible in shared mappings: their arena pages are written too.
pub fn after_write(inode: &dyn crate::fs::Inode, off: u64, len: u64) {
    if BY_FILE.with(BTreeMap::is_empty) {
        return;
    }
    let id = inode.file_id().0;
    let Some(object) = BY_FILE.with(|m| m.get(&id).and_then(Weak::upgrade)) else { return };
    let pages: Vec<u64> =
        object.pages.with(|p| p.range(off / PAGE..=(off + len) / PAGE).map(|(k, _)| *k).collect());
    for p in crate::process::Process::all() {
        let Some(mm) = p.mm() else { continue };
        for (start, vma) in mm.vmas() {
            match &vma.backing {
                Backing::Shared(o, base) if Arc::ptr_eq(o, &object) && rights(vma.prot) == 3 => {
                    pages.iter().for_each(|n| mm.refresh_page(inode, start, &vma, *base, n * PAGE));
                }
                _ => {}
            }
        }
    }
}

/// A new shared object: anonymous memory, or the one object of a file.
pub fn shared_object(file: Option<MapFile>) -> Arc<SharedObject> {
    let make = |file| Arc::new(SharedObject { pages: BklCell::new(BTreeMap::new()), file });
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
