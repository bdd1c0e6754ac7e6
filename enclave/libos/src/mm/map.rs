//! mmap, munmap, mprotect, mremap, brk and MADV_DONTNEED, after their arguments were checked.
//!
//! Invariants: a range is unmapped before something else is mapped there; pages of a vma that goes are given back, or
//! parked; host rights follow the vma's rights at once.
use super::budget::{admit, uncharge};
use super::parked::{MIXED, UNMAP_PARK_MAX};
use super::vma::{is_covered, is_free, overlapping_mut};
use super::{Backing, Mm, PAGE, Vma, page_ceil, page_floor, rights};
use crate::errno::{Errno, Result};
use crate::sched::Breath;
use alloc::vec::Vec;
use core::ops::Range;
use occlum_linux_abi::mmap as mf;
use occlum_rt::slot::Slot;
use occlum_sfi_spec::domain::{EXEC_MAX, MAP_MAX, MAP_MIN};

/// About what a mapping takes of the heap.
const MAP_COST: u64 = 1 << 10;
/// Most mappings of a domain (vm.max_map_count).
const MAP_COUNT_MAX: usize = 65530;
/// Anonymous mappings up to this size go below 2 GiB.
pub(super) const LOW_MAX: u64 = 64 << 20;
/// Reservations without rights up to this size go below 2 GiB, too: compilers take room for their code so (the JVM 240 MiB,
/// V8 512 MiB and a page or two).
const RESERVED_LOW_MAX: u64 = 520 << 20;
/// Runs of pages up to this size are emptied in place where many mappings of the host's are taken.
const SPLINTER_MAX: u64 = 16 * PAGE;
/// Libraries lie below this and position-independent programs above it: a prefetch reaches the table entries of both
/// (`sfi_spec::table::PREFETCH_MAX`).
pub const CODE_TOP: u64 = 192 << 20;
/// Lowest place for mappings without a hint.
pub(super) const LOW_BASE: u64 = 16 << 20;

/// A change of mappings that lets others get on before it is complete.
struct Turn<'a>(&'a Mm);

impl<'a> Turn<'a> {
    fn take(mm: &'a Mm) -> Self {
        mm.changing.set(true);
        Self(mm)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.changing.set(false);
        self.0.changed.wake_all();
    }
}

impl Mm {
    /// A call that changes mappings begins: waits for the end of one that is under way.
    pub fn wait_turn(&self) {
        self.changed.wait_uninterruptible(|| (!self.changing.get()).then_some(()));
    }

    /// mmap after its arguments were checked. `at`: where, if MAP_FIXED.
    pub fn map(&self, at: Option<u64>, hint: u64, len: u64, prot: u32, backing: Backing) -> Result<u64> {
        self.insert(at, hint, len, Vma::new(0, prot, backing))
    }

    /// The same of what `vma` says, but for its end.
    fn insert(&self, at: Option<u64>, hint: u64, len: u64, mut vma: Vma) -> Result<u64> {
        let (len, prot) = (page_ceil(len), vma.prot());
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        self.admit_vma()?;
        self.admit_mappings()?;
        let start = match at {
            Some(a) => a,
            None => {
                self.choose(hint, len, prot, !matches!(vma.backing, Backing::Anon)).ok_or(Errno::ENOMEM)?
            }
        };
        if start % PAGE != 0 {
            return Err(Errno::EINVAL);
        }
        let end = start.checked_add(len).ok_or(Errno::ENOMEM)?;
        if start < MAP_MIN {
            return Err(Errno::EPERM);
        }
        if end > MAP_MAX || prot & mf::PROT_EXEC != 0 && end > EXEC_MAX {
            return Err(Errno::ENOMEM);
        }
        self.unmap(start..end)?;
        if self.is_lost.get() {
            return Err(Errno::ENOMEM);
        }
        if let Some(mapped) = vma.backing.file().and_then(|f| f.0.inode().mapped()) {
            mapped.set(true);
        }
        vma.end = end;
        self.put(start, vma)?;
        Ok(start)
    }

    /// A vma is there, or one that was there is larger: of what the slot keeps under it, nothing shows.
    pub(super) fn put(&self, start: u64, vma: Vma) -> Result<()> {
        self.settle_parked(start, &vma, true)?;
        self.inner.with_mut(|i| i.vmas.insert(start, vma));
        Ok(())
    }

    /// A free range, top down: files and executable memory first below `CODE_TOP`, then below 2 GiB; other large
    /// memory first above that.
    pub(super) fn choose(&self, hint: u64, len: u64, prot: u32, file: bool) -> Option<u64> {
        let hint = page_floor(hint);
        self.inner.with_mut(|i| {
            if hint >= MAP_MIN
                && hint.saturating_add(len) <= MAP_MAX
                && (prot & mf::PROT_EXEC == 0 || hint + len <= EXEC_MAX)
                && is_free(&i.vmas, hint..hint + len)
            {
                return Some(hint);
            }
            let low = LOW_BASE..EXEC_MAX - (1 << 20);
            let high = EXEC_MAX..MAP_MAX - (16 << 20);
            let is_code = prot & mf::PROT_EXEC != 0;
            if len <= LOW_MAX && (file || is_code) {
                let near = i.search[2].find(&i.vmas, LOW_BASE..CODE_TOP, len);
                if near.is_some() {
                    return near;
                }
            }
            if is_code {
                return i.search[0].find(&i.vmas, low, len);
            }
            // Small anonymous memory goes low too: a JIT may make it executable later.
            let parts = [low, high];
            let low_max = if prot == 0 { RESERVED_LOW_MAX } else { LOW_MAX };
            let order = if file || len <= low_max { [0, 1] } else { [1, 0] };
            order.into_iter().find_map(|n| i.search[n].find(&i.vmas, parts[n].clone(), len))
        })
    }

    /// Removes every mapping in the range, in one go.
    pub fn unmap(&self, r: Range<u64>) -> Result<()> {
        self.take_out(r, None)
    }

    /// munmap: the same bit by bit. Others get on meanwhile.
    pub fn unmap_slowly(&self, r: Range<u64>) -> Result<()> {
        self.take_out(r, Some(Breath::begin()))
    }

    fn take_out(&self, r: Range<u64>, mut breath: Option<Breath>) -> Result<()> {
        self.check_unsealed(r.clone())?;
        // As Linux, memory can be given back where there are no more vmas to be had, but for a hole in one.
        let cuts = |at: u64| self.find(at).is_some_and(|(start, _)| start != at);
        if self.find(r.start).is_some_and(|(start, v)| start < r.start && r.end < v.end) {
            self.admit_vma()?;
        }
        if cuts(r.start) || cuts(r.end) {
            self.admit_mappings()?;
        }
        let _turn = breath.is_some().then(|| Turn::take(self));
        let mut at = r.start;
        while at < r.end {
            let end = if breath.is_some() { self.piece(at..r.end) } else { r.end };
            self.take_out_now(at..end);
            at = end;
            breath.iter_mut().for_each(|b| _ = b.take());
        }
        Ok(())
    }

    /// Up to where there is as much of the range as goes at once.
    fn piece(&self, r: Range<u64>) -> u64 {
        /// Bytes of resident pages.
        const MOST: u64 = 4 << 20;
        self.runs(r.clone(), true).next().map_or(r.end, |run| run.end.min(run.start + MOST))
    }

    fn take_out_now(&self, r: Range<u64>) {
        if self.inner.with(|i| is_free(&i.vmas, r.clone())) {
            return;
        }
        self.drop_translations(r.clone());
        self.forget_shadow(&r);
        self.cut(r.start);
        self.cut(r.end);
        self.inner.with_mut(|i| i.search.iter_mut().for_each(|s| s.freed(r.end)));
        let mut from = r.start;
        let mut next = || {
            self.inner.with_mut(|i| {
                let start = *i.vmas.range(from..r.end).next()?.0;
                let gone = i.vmas.remove(start)?;
                from = gone.end;
                Some((start, gone))
            })
        };
        while let Some((start, vma)) = next() {
            self.release(start, &vma);
        }
    }

    /// Splits vmas so that the range's ends are boundaries, but those that the call does not change, as long as there may be
    /// more and the host's mappings are not scarce. (As Linux asks when it splits one.)
    pub(super) fn split(&self, r: &Range<u64>, changes: impl Fn(&Vma) -> bool) -> Result<()> {
        for at in [r.start, r.end] {
            if !r.is_empty() && self.find(at).is_some_and(|(start, v)| start != at && changes(&v)) {
                self.admit_vma()?;
                self.admit_mappings()?;
                self.cut(at);
            }
        }
        Ok(())
    }

    /// May there be one vma more?
    fn admit_vma(&self) -> Result<()> {
        if self.mapping_count() >= MAP_COUNT_MAX {
            return Err(Errno::ENOMEM);
        }
        admit(MAP_COST)
    }

    pub(super) fn release(&self, start: u64, vma: &Vma) {
        if let Backing::Shared(object, base, _) = &vma.backing {
            return self.release_shared(start, vma, (object, *base));
        }
        for run in self.runs(start..vma.end, true) {
            let pages = (run.end - run.start) / PAGE;
            self.count_pages(-(pages as i64));
            // A thread or spawn stack comes back at once, mostly at the same place.
            let park = pages <= UNMAP_PARK_MAX && rights(vma.prot()) == 3 && self.parked.with(Vec::len) < 64;
            if !park {
                self.withdraw(run.clone());
            } else if self.protect(run.clone(), 0, false, false).is_err() {
                self.park(run.clone(), MIXED);
            } else {
                self.park(run.clone(), 0);
            }
            self.set_resident(run, false);
        }
    }

    /// mprotect. ENOMEM if the range has a hole, EACCES for a write to a file opened read-only is the caller's.
    pub fn mprotect(&self, r: Range<u64>, prot: u32) -> Result<()> {
        if prot & mf::PROT_EXEC != 0 && r.end > EXEC_MAX {
            return Err(Errno::ENOMEM);
        }
        if !self.inner.with(|i| is_covered(&i.vmas, r.clone())) {
            return Err(Errno::ENOMEM);
        }
        self.split(&r, |v| v.prot() != prot)?;
        // Others get on between mappings. Threads may see some changed and others not, as on Linux, which changes page
        // tables one after the other; calls that change mappings wait, as there (mmap_lock).
        let _turn = Turn::take(self);
        let mut breath = Breath::begin();
        for (start, vma) in self.vmas_in(r) {
            if vma.sealed {
                return Err(Errno::EPERM);
            }
            if vma.prot() != prot {
                self.change_rights(start, vma.prot(), prot)?;
            }
            self.merge(start..vma.end);
            breath.take();
        }
        Ok(())
    }

    /// Changes the rights of the mapping at `start`.
    fn change_rights(&self, start: u64, old: u32, prot: u32) -> Result<()> {
        let changed = self.inner.with_mut(|i| {
            let v = i.vmas.get_mut(start)?;
            v.set_prot(prot);
            Some(v.clone())
        });
        let Some(vma) = changed else { return Ok(()) };
        self.code_rights_changed(start, old);
        // Pages of a W+X mapping may be guarded.
        let write_exec = mf::PROT_WRITE | mf::PROT_EXEC;
        if rights(old) != rights(prot) || old & write_exec == write_exec {
            for run in self.runs(start..vma.end, true) {
                self.give_rights(start, &vma, run)?;
            }
        }
        Ok(())
    }

    /// brk: sets the end of the heap if it can; returns the end in force.
    pub fn brk(&self, new: u64, data_limit: u64) -> u64 {
        let l = self.layout();
        if new < l.brk_start || new >= MAP_MAX || new - l.brk_start > data_limit {
            return l.brk;
        }
        let (old_end, new_end) = (page_ceil(l.brk), page_ceil(new));
        if new_end > old_end {
            if !self.inner.with(|i| is_free(&i.vmas, old_end..new_end + PAGE)) {
                return l.brk;
            }
            let rw = mf::PROT_READ | mf::PROT_WRITE;
            if self.map(Some(old_end), 0, new_end - old_end, rw, Backing::Anon).is_err() {
                return l.brk;
            }
            self.set_name(old_end, "[heap]");
            self.merge(old_end..new_end);
        } else if new_end < old_end && self.unmap(new_end..old_end).is_err() {
            return l.brk;
        }
        self.inner.with_mut(|i| i.layout.brk = new);
        new
    }

    /// mremap with its Linux flags.
    pub fn mremap(&self, old: u64, old_len: u64, new_len: u64, flags: u32, new_addr: u64) -> Result<u64> {
        let fixed = flags & mf::MREMAP_FIXED != 0;
        let may_move = flags & mf::MREMAP_MAYMOVE != 0;
        let stays = flags & mf::MREMAP_DONTUNMAP != 0;
        let known = mf::MREMAP_MAYMOVE | mf::MREMAP_FIXED | mf::MREMAP_DONTUNMAP;
        if !old.is_multiple_of(PAGE) || flags & !known != 0 || (fixed || stays) && !may_move {
            return Err(Errno::EINVAL);
        }
        if new_len == 0 || stays && old_len != new_len {
            return Err(Errno::EINVAL);
        }
        if self.find(old).is_some_and(|(_, v)| v.sealed) {
            return Err(Errno::EPERM);
        }
        if old_len == 0 {
            return self.map_again(old, new_len, fixed.then_some(new_addr), may_move);
        }
        let (old_len, new_len) = (page_ceil(old_len), page_ceil(new_len));
        let (start, vma) = self.find(old).ok_or(Errno::EFAULT)?;
        if old + old_len > vma.end {
            return Err(Errno::EFAULT);
        }
        if fixed && (!new_addr.is_multiple_of(PAGE) || new_addr < old + old_len && old < new_addr + new_len) {
            return Err(Errno::EINVAL);
        }
        if !fixed && !stays {
            if new_len <= old_len {
                self.unmap(old + new_len..old + old_len)?;
                return Ok(old);
            }
            let grow = old + old_len..old + new_len;
            let most = if vma.prot() & mf::PROT_EXEC != 0 { EXEC_MAX } else { MAP_MAX };
            let room = grow.end <= most && self.inner.with(|i| is_free(&i.vmas, grow.clone()));
            if room && old + old_len == vma.end {
                self.drop_translations(start..vma.end); // which are those of the smaller mapping
                let (_, mut vma) = self.find(start).ok_or(Errno::EFAULT)?;
                vma.end = grow.end;
                self.put(start, vma)?;
                return Ok(old);
            }
            if !may_move {
                return Err(Errno::ENOMEM);
            }
        }
        if !stays {
            // What moves is a vma of its own, so that it can go when its pages have.
            self.split(&(old..old + old_len), |_| true)?;
        }
        let to = self.insert(fixed.then_some(new_addr), 0, new_len, vma.moved(old - start))?;
        if let Err(e) = self.move_pages(old, to, old_len.min(new_len), &vma) {
            self.unmap(to..to + new_len)?;
            return Err(e);
        }
        if stays {
            self.discard(old..old + old_len);
            self.set_locked(start..vma.end, false)?;
        } else {
            self.unmap(old..old + old_len)?;
        }
        Ok(to)
    }

    /// mremap of nothing: another mapping of the same shared pages.
    fn map_again(&self, old: u64, len: u64, at: Option<u64>, may_move: bool) -> Result<u64> {
        let (start, vma) = self.find(old).ok_or(Errno::EFAULT)?;
        if !vma.is_shared() || at.is_some_and(|at| at % PAGE != 0) {
            return Err(Errno::EINVAL);
        }
        if !may_move {
            return Err(Errno::ENOMEM);
        }
        self.insert(at, 0, page_ceil(len), vma.moved(old - start))
    }

    pub(super) fn move_pages(&self, from: u64, to: u64, len: u64, vma: &Vma) -> Result<()> {
        if vma.is_shared() {
            return Ok(());
        }
        // Parked pages that the new mapping took over: others come.
        for run in self.runs(to..to + len, true) {
            self.take_away(run)?;
        }
        for run in self.runs(from..from + len, true) {
            let n = run.end - run.start;
            let dst = to + (run.start - from);
            if rights(vma.prot()) == 0 {
                self.protect(run.clone(), 1, false, false)?;
            }
            self.add_pages(dst..dst + n, rights(vma.prot()), || {
                Slot::copy(self.slot, run.start, self.slot, dst, n).map_err(|_| Errno::EFAULT)
            })?;
        }
        Ok(())
    }

    /// madvise(MADV_DONTNEED) on private memory: pages read zero (or the file) again.
    pub fn discard(&self, r: Range<u64>) {
        for (start, vma) in self.vmas_in(r.clone()).filter(|(_, v)| !v.is_shared()) {
            let (s, e) = (start.max(r.start), vma.end.min(r.end));
            // What was written is gone, and the code made of it.
            if let Some(region) = vma.region.filter(|r| !r.is_shared()) {
                region.drop_pages(s..e);
            }
            self.forget_shadow(&(s..e));
            for run in self.runs(s..e, true) {
                // Garbage collectors give single pages back: the holes would be as many mappings of the host's.
                let splinters = self.mappings_are_many() && run.end - run.start <= SPLINTER_MAX;
                if (splinters || self.mappings_are_scarce(0)) && self.empty_in_place(&run).is_ok() {
                    continue;
                }
                // Refused, they are zero all the same, and stay.
                if self.take_away(run.clone()).is_err() {
                    self.inner
                        .with_mut(|i| overlapping_mut(&mut i.vmas, run).for_each(|(_, v)| v.pages_change()));
                }
            }
        }
    }

    /// madvise(MADV_REMOVE): what the shared mapping at `start` shows in `r` is zero for everybody, and takes no memory.
    pub fn remove(&self, start: u64, vma: &Vma, r: Range<u64>) -> Result<()> {
        let (object, base) = match &vma.backing {
            Backing::Anon => return Err(Errno::EINVAL),
            Backing::Shared(object, base, true) => (object, base),
            _ => return Err(Errno::EACCES),
        };
        let bytes = base + (r.start - start)..base + (r.end - start);
        match object.file() {
            Some(f) => crate::fs::ops::punch(&f.0, bytes),
            None => {
                object.drop_pages(bytes);
                Ok(())
            }
        }
    }

    pub(super) fn take_away(&self, run: Range<u64>) -> Result<()> {
        self.protect(run.clone(), 0, false, true)?;
        let pages = (run.end - run.start) / PAGE;
        uncharge(pages);
        self.count_pages(-(pages as i64));
        self.set_resident(run, false);
        Ok(())
    }

    /// Writable private pages with the content they had at first, without the holes that taking them would make.
    fn empty_in_place(&self, run: &Range<u64>) -> Result<()> {
        let (start, vma) =
            self.find(run.start).filter(|(_, v)| rights(v.prot()) == 3).ok_or(Errno::EINVAL)?;
        self.refill(start, &vma, run.clone())
    }
}
