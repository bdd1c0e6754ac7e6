//! Shared memory without aliases, as hardware has it: a page of the EPC is in one slot, so each mapping that shows a page
//! of an object has a copy of its own, and the copies are kept equal.
//!
//! Neighbours: `shared` (objects; the pages that the simulation can alias), `fault`, `filemap`, `guard`.
//! Invariants: a page has one place that may write it, or any number that may read it; before a place gets the right to
//! write, no other shows the page; before one gets to read, nobody may write. Threads of a slot whose rights shrink are
//! outside meanwhile, so every access is to the one newest content. `home` is what is shown, unless `writer`. Everything
//! happens under the big kernel lock; the LibOS's own copies touch one page at a time (`parts`), because a page that is
//! mapped twice is never shown at both places if one is written.
use super::budget::{charge, uncharge};
use super::shared::SharedObject;
use super::shown::domain;
use super::{Access, Backing, FaultError, MapFile, Mm, PAGE, Vma, page_ceil, rights};
use crate::errno::{Errno, Result};
use crate::fs::Inode;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use occlum_linux_abi::mmap as mf;
use occlum_rt::bkl::BklCell;
use occlum_rt::slot::Slot;
use occlum_rt::vcpu;

/// How long a place keeps what it got while its code runs elsewhere: it must get on, whoever else wants the page.
const HOLD_NS: u64 = 20_000;

static ON: BklCell<bool> = BklCell::new(false);

/// Shared pages are copied instead of aliased from now on.
pub fn forbid_aliases() {
    ON.set(true);
}
/// Are they?
pub(super) fn is_on() -> bool {
    ON.get()
}

/// The parts of a range of guest memory to copy one by one.
pub fn parts(off: u64, len: usize) -> impl Iterator<Item = Range<usize>> {
    let whole = !is_on();
    let mut done = 0;
    core::iter::from_fn(move || {
        let left = len - done;
        let n = if whole { left } else { left.min((PAGE - (off + done as u64) % PAGE) as usize) };
        let piece = done..done + n;
        done += n;
        (n != 0).then_some(piece)
    })
}

/// Where a copy is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    slot: Slot,
    at: u64,
}

/// A page of an object.
pub(super) struct Copies {
    home: Vec<u8>,
    places: Vec<Place>,
    /// The only place may write.
    writer: bool,
    /// Something wrote to it since the file was written.
    dirty: bool,
    /// When a place got it last.
    since_ns: u64,
}

impl Place {
    fn mm(self) -> Option<Arc<Mm>> {
        domain(self.slot.index())
    }
    fn protect(self, host: u32, drop_content: bool) -> Result<()> {
        match self.mm() {
            Some(mm) => mm.protect(self.at..self.at + PAGE, host, false, drop_content),
            // Of a domain that is about to end.
            None => self.slot.protect(self.at, PAGE, host, false, drop_content).map_err(|_| Errno::ENOMEM),
        }
    }
    /// What it holds, whether or not the guest may read it now.
    fn read(self, to: &mut [u8]) -> Result<()> {
        if self.slot.read(self.at, to).is_ok() {
            return Ok(());
        }
        self.protect(1, false)?;
        let read = self.slot.read(self.at, to).map_err(|_| Errno::EFAULT);
        self.protect(0, false).and(read)
    }
    /// Shows the page no more. Where the host refuses that, the domain goes on seeing what was there, and gets no more
    /// memory.
    fn hide(self) -> Result<()> {
        match self.mm() {
            Some(mm) => self.hide_in(&mm),
            None => self.protect(0, true).map(|()| uncharge(1)),
        }
    }
    fn hide_in(self, mm: &Mm) -> Result<()> {
        let page = self.at..self.at + PAGE;
        let hidden = || mm.protect(page.clone(), 0, false, true);
        let gone = hidden().or_else(|_| hidden());
        if gone.is_ok() {
            uncharge(1);
        } else {
            mm.is_lost.set(true);
        }
        mm.set_resident(page, false);
        gone
    }
}

impl Copies {
    fn new(home: Vec<u8>) -> Self {
        Self { home, places: Vec::new(), writer: false, dirty: false, since_ns: 0 }
    }

    /// The writer writes no more; `home` is what it wrote.
    fn settle(&mut self) -> Result<()> {
        let Some(p) = self.places.first().filter(|_| self.writer).copied() else { return Ok(()) };
        vcpu::stop_others(p.slot);
        // Without the right to write first: where the host refuses that, nothing has changed.
        let readable = p.slot.read(p.at, &mut [0]).is_ok();
        p.protect(u32::from(readable), false)?;
        p.read(&mut self.home)?;
        self.writer = false;
        Ok(())
    }

    /// Nobody but `keep` shows it.
    fn recall(&mut self, keep: Option<Place>) -> Result<()> {
        if self.places.iter().all(|p| Some(*p) == keep) {
            return Ok(());
        }
        self.settle()?;
        let mut done = Ok(());
        for p in core::mem::take(&mut self.places) {
            if Some(p) == keep {
                self.places.push(p);
                continue;
            }
            vcpu::stop_others(p.slot);
            done = done.and(p.hide());
        }
        done
    }

    /// Shows it at a place of the running domain.
    fn show(&mut self, mm: &Mm, p: Place, host: u32) -> Result<()> {
        if !charge(1) {
            return Err(Errno::ENOMEM);
        }
        let page = p.at..p.at + PAGE;
        vcpu::stop_others(p.slot);
        let shown = mm.protect(page.clone(), 3, true, false).and_then(|()| {
            p.slot.write(p.at, &self.home).map_err(|_| Errno::EFAULT)?;
            if host == 3 { Ok(()) } else { mm.protect(page.clone(), host, false, false) }
        });
        if shown.is_err() {
            mm.withdraw(page);
            return shown;
        }
        self.places.push(p);
        mm.set_resident(page, true);
        Ok(())
    }

    /// A place of the running domain gets it, or gets to write it.
    fn give(&mut self, mm: &Mm, p: Place, prot: u32, write: bool) -> Result<()> {
        let write = write && prot & mf::PROT_WRITE != 0;
        let is_shown = self.places.contains(&p);
        let within = (write || self.writer) && self.places.iter().any(|q| *q != p && q.slot == p.slot);
        mm.moved_within.set(within);
        if write {
            self.recall(is_shown.then_some(p))?;
        } else if !is_shown {
            self.settle()?;
        }
        let host = if write { 3 } else { rights(prot) & 1 };
        if !is_shown {
            self.show(mm, p, host)?;
        } else if write {
            mm.protect(p.at..p.at + PAGE, host, false, false)?;
        }
        self.writer |= write;
        self.dirty |= write;
        self.since_ns = crate::time::monotonic_ns();
        crate::stats::add("shared_pages_moved", 1);
        Ok(())
    }

    /// Does another place need it for a moment more before `p` may have it?
    fn is_held(&self, p: Place, write: bool) -> bool {
        (write || self.writer)
            && self.places.iter().any(|q| q.slot != p.slot && vcpu::slot_runs_elsewhere(q.slot))
            && crate::time::monotonic_ns() < self.since_ns.saturating_add(HOLD_NS)
    }
}

impl SharedObject {
    /// Reads or changes a page, if there is one.
    fn copy<T>(&self, n: u64, f: impl FnOnce(&mut Copies) -> T) -> Option<T> {
        self.copies.with_mut(|c| c.get_mut(&n).map(f))
    }

    /// There is a page `n` now, with the file's content or zeros.
    fn make_copy(&self, n: u64) -> Result<()> {
        if self.copies.with(|c| c.contains_key(&n)) {
            return Ok(());
        }
        let mut home = crate::fs::try_vec(PAGE as usize)?;
        if let Some(f) = self.file() {
            read_page(f, n, &mut home)?;
        }
        // Another task may have been faster while the file was read.
        self.copies.with_mut(|c| _ = c.entry(n).or_insert_with(|| Copies::new(home)));
        Ok(())
    }

    /// The first page from `from` on.
    pub(super) fn next_copy(&self, from: u64) -> Option<u64> {
        self.copies.with(|c| c.range(from..).next().map(|(n, _)| *n))
    }

    /// What mappings wrote to the pages goes to the file.
    pub(super) fn clean(&self, r: Range<u64>) {
        let Some(f) = self.file() else { return };
        let mut from = r.start;
        let mut next = || {
            let n =
                self.copies.with(|c| c.range(from..r.end).find(|(_, page)| page.dirty).map(|(n, _)| *n))?;
            from = n + 1;
            Some(n)
        };
        while let Some(n) = next() {
            let len = f.size().saturating_sub(n * PAGE).min(PAGE) as usize;
            let mut bytes = [0; PAGE as usize];
            let found = self.copy(n, |page| page.take_dirty(&mut bytes));
            if found == Some(true) && len > 0 {
                let _ = f.0.inode().write_at(n * PAGE, &bytes[..len]);
            }
        }
    }

    /// The page changes otherwise than through a mapping: nobody shows it until it is looked at again.
    pub(super) fn overwrite(&self, n: u64, change: impl FnOnce(&mut [u8])) {
        self.copy(n, |page| {
            if page.recall(None).is_ok() {
                change(&mut page.home);
            }
        });
    }

    /// write(2) changed bytes of the file.
    pub(super) fn rewritten(&self, inode: &dyn Inode, r: Range<u64>) {
        let hit = r.start / PAGE..r.end.div_ceil(PAGE);
        for n in hit.filter(|n| self.copies.with(|c| c.contains_key(n))) {
            let part = r.start.max(n * PAGE)..r.end.min((n + 1) * PAGE);
            let mut bytes = [0; PAGE as usize];
            let bytes = &mut bytes[..(part.end - part.start) as usize];
            if inode.read_at(part.start, bytes) == Ok(bytes.len()) {
                let at = (part.start % PAGE) as usize;
                self.overwrite(n, |page| page[at..at + bytes.len()].copy_from_slice(bytes));
            }
        }
    }

    /// Nothing of these pages is left anywhere.
    pub(super) fn forget_copies(&self, r: Range<u64>) {
        let mut gone = self.copies.with_mut(|c| {
            let mut gone = c.split_off(&r.start);
            c.append(&mut gone.split_off(&r.end));
            gone
        });
        gone.values_mut().for_each(|page| _ = page.recall(None));
    }

    /// May no place write the page as it is?
    pub(super) fn is_read_only(&self, n: u64) -> bool {
        is_on() && !self.copies.with(|c| c.get(&n).is_some_and(|page| page.writer))
    }
}

impl Copies {
    /// What a file has to get; false: nothing. A writer may go on, so the page stays dirty while there is one.
    fn take_dirty(&mut self, to: &mut [u8]) -> bool {
        let was = core::mem::replace(&mut self.dirty, self.writer);
        match self.places.first().filter(|_| self.writer) {
            Some(p) => was && p.read(to).is_ok(),
            None => {
                to.copy_from_slice(&self.home);
                was
            }
        }
    }
}

/// File content of a page; beyond the end of the file it stays as it is.
fn read_page(f: &MapFile, n: u64, to: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < to.len() {
        match f.read_at(n * PAGE + done as u64, &mut to[done..])? {
            0 => break,
            n => done += n,
        }
    }
    Ok(())
}

impl Mm {
    /// Brings in the page at `page` and, where nobody else has them, those around it.
    pub(super) fn commit_copies(
        &self,
        start: u64,
        vma: &Vma,
        (object, base): (&Arc<SharedObject>, u64),
        run: Range<u64>,
        (page, access): (u64, Access),
    ) -> core::result::Result<(), FaultError> {
        for at in run.step_by(PAGE as usize) {
            let n = (base + (at - start)) / PAGE;
            let wanted = at == page;
            let elsewhere = object.copies.with(|c| c.get(&n).is_some_and(|c| !c.places.is_empty()));
            if !wanted && elsewhere {
                continue;
            }
            // Who has it alone gets all rights at once.
            let write = access == Access::Write && wanted || !elsewhere && !object.is_guarded(n);
            match self.bring_copy(vma, object, n, at, write) {
                Err(e) if wanted => return Err(e),
                Err(_) if at > page => break,
                _ => {}
            }
        }
        Ok(())
    }

    fn bring_copy(
        &self,
        vma: &Vma,
        object: &Arc<SharedObject>,
        n: u64,
        at: u64,
        write: bool,
    ) -> core::result::Result<(), FaultError> {
        if object.file().is_some_and(|f| n * PAGE >= page_ceil(f.size())) {
            return Err(FaultError::NoContent);
        }
        if write {
            object.code_changes(n);
        }
        let place = Place { slot: self.slot, at };
        let given = object.make_copy(n).and_then(|()| {
            let given = object.copy(n, |page| page.give(self, place, vma.prot(), write));
            given.unwrap_or(Err(Errno::ENOMEM))
        });
        given.map_err(FaultError::of_content)
    }

    /// The page at `at`, which is shown, may be written now.
    pub(super) fn claim_copy(&self, vma: &Vma, object: &SharedObject, n: u64, at: u64) -> Result<()> {
        let place = Place { slot: self.slot, at };
        object.copy(n, |page| page.give(self, place, vma.prot(), true)).unwrap_or(Err(Errno::EFAULT))
    }

    /// The pages in `r` show nothing any more; their content stays with the object.
    pub(super) fn leave_copies(&self, start: u64, vma: &Vma, (object, base): (&SharedObject, u64)) {
        for run in self.runs(start..vma.end, true) {
            for at in run.step_by(PAGE as usize) {
                let place = Place { slot: self.slot, at };
                object.copy((base + (at - start)) / PAGE, |page| page.leave(self, place));
                self.set_resident(at..at + PAGE, false);
            }
        }
    }

    /// Did the last page that was brought in come from another place of this domain?
    pub fn has_moved_within(&self) -> bool {
        self.moved_within.replace(false)
    }

    /// Should an access of the guest wait for the page, because another domain has only just got it?
    pub fn is_held_elsewhere(&self, off: u32, access: Access) -> bool {
        if !is_on() {
            return false;
        }
        let at = u64::from(off) & !(PAGE - 1);
        let Some((start, vma)) = self.find(at) else { return false };
        let Backing::Shared(object, base, _) = &vma.backing else { return false };
        let place = Place { slot: self.slot, at };
        let n = (base + (at - start)) / PAGE;
        object.copy(n, |page| page.is_held(place, access == Access::Write)).unwrap_or(false)
    }
}

impl Copies {
    fn leave(&mut self, mm: &Mm, p: Place) {
        if !self.places.contains(&p) {
            return;
        }
        // What the host does not let out is lost with the domain.
        let lost = self.writer && self.settle().is_err();
        self.writer = false;
        self.places.retain(|q| *q != p);
        if p.hide_in(mm).is_err() || lost {
            crate::stats::add("shared_pages_lost", 1);
        }
    }
}
