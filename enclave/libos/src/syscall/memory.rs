//! mmap, munmap, mprotect, brk, mremap, madvise, msync, mincore, mlock.
use crate::errno::{Errno, Result};
use crate::mm::{Access, Backing, FaultError, MapFile, Mm, PAGE, STACK, Vma, page_ceil, shared_object};
use crate::process::{caps, current_mm, current_process};
use crate::sched::Breath;
use alloc::sync::Arc;
use occlum_linux_abi::mmap as mf;
use occlum_sfi_spec::domain;

/// The memory whose mappings a call changes.
pub fn own_mm() -> Arc<Mm> {
    let mm = current_mm();
    mm.wait_turn();
    mm
}

fn range(at: u64, len: u64) -> Result<core::ops::Range<u64>> {
    if !at.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let end = at.checked_add(page_ceil(len)).filter(|e| *e <= domain::SIZE).ok_or(Errno::ENOMEM)?;
    Ok(at..end)
}

/// mmap(addr, length, prot, flags, fd, offset)
pub fn sys_mmap(a: &[u64; 6]) -> Result<usize> {
    let (addr, len, prot, flags, fd, off) = (a[0], a[1], a[2] as u32, a[3] as u32, a[4] as i32, a[5]);
    if len == 0 || off % PAGE != 0 {
        return Err(Errno::EINVAL);
    }
    if len > domain::SIZE || off.checked_add(len).is_none() {
        return Err(Errno::ENOMEM);
    }
    let kind = flags & mf::MAP_TYPE;
    if kind != mf::MAP_PRIVATE && kind != mf::MAP_SHARED && kind != mf::MAP_SHARED_VALIDATE {
        return Err(Errno::EINVAL);
    }
    let shared = kind != mf::MAP_PRIVATE;
    let fixed = flags & (mf::MAP_FIXED | mf::MAP_FIXED_NOREPLACE) != 0;
    if fixed && addr % PAGE != 0 {
        return Err(Errno::EINVAL);
    }
    special_pages(flags)?;
    let mm = own_mm();
    within_address_limit(&mm, len)?;
    if fixed && flags & mf::MAP_FIXED_NOREPLACE != 0 && overlaps(&mm, addr, len) {
        return Err(Errno::EEXIST);
    }
    let prot = prot & (mf::PROT_READ | mf::PROT_WRITE | mf::PROT_EXEC);
    let backing =
        if flags & mf::MAP_ANONYMOUS != 0 { zeros(shared) } else { file_backing(fd, off, prot, shared)? };
    let grows_down = flags & mf::MAP_GROWSDOWN != 0;
    if grows_down && !matches!(backing, Backing::Anon) {
        return Err(Errno::EINVAL);
    }
    let lock = mm.lock_new.get() || flags & mf::MAP_LOCKED != 0;
    if lock {
        match may_lock(&mm, page_ceil(len)) {
            Err(Errno::EPERM) if flags & mf::MAP_LOCKED != 0 => return Err(Errno::EPERM),
            Err(_) => return Err(Errno::EAGAIN),
            Ok(()) => {}
        }
    }
    let start = mm.map(fixed.then_some(addr), addr, len, prot, backing)?;
    if grows_down {
        mm.set_grows_down(start);
    }
    if lock {
        mm.set_locked(start..start + page_ceil(len), true)?;
    }
    Ok(start as usize)
}

/// Huge pages, of which there are none, as where /proc/sys/vm/nr_hugepages is 0; pages of persistent memory.
fn special_pages(flags: u32) -> Result<()> {
    /// Logarithms of page sizes, in the high bits; 0 is the usual one.
    const SIZES: [u32; 3] = [0, 21, 30];
    if flags & mf::MAP_HUGETLB != 0 {
        let no_memory = flags & mf::MAP_ANONYMOUS != 0 && SIZES.contains(&(flags >> 26));
        return Err(if no_memory { Errno::ENOMEM } else { Errno::EINVAL });
    }
    if flags & mf::MAP_TYPE != mf::MAP_SHARED_VALIDATE {
        return Ok(());
    }
    match (flags & mf::MAP_ANONYMOUS != 0, flags & mf::MAP_SYNC != 0) {
        (true, _) => Err(Errno::EINVAL),
        (_, true) => Err(Errno::EOPNOTSUPP),
        _ => Ok(()),
    }
}

/// RLIMIT_AS.
fn within_address_limit(mm: &Mm, more: u64) -> Result<()> {
    let limit = current_process().rlimit(9);
    if limit == u64::MAX || mm.mapped_bytes().saturating_add(more) <= limit {
        Ok(())
    } else {
        Err(Errno::ENOMEM)
    }
}

fn overlaps(mm: &Mm, addr: u64, len: u64) -> bool {
    mm.first_in(addr..addr.saturating_add(page_ceil(len))).is_some()
}

/// /dev/zero: mapping it gives anonymous memory.
const ZERO_DEVICE: u64 = 1 << 8 | 5;

fn zeros(shared: bool) -> Backing {
    if shared { Backing::Shared(shared_object(None), 0, true) } else { Backing::Anon }
}

/// What a mapping of a file shows.
fn file_backing(fd: i32, off: u64, prot: u32, shared: bool) -> Result<Backing> {
    let file = current_process().files().get(fd)?;
    if !file.can_read() {
        return Err(Errno::EACCES);
    }
    if shared && prot & mf::PROT_WRITE != 0 && !file.can_write() {
        return Err(Errno::EACCES);
    }
    if file.stat().is_ok_and(|s| s.rdev == ZERO_DEVICE) {
        return Ok(zeros(shared));
    }
    if !file.inode().is_regular() {
        return Err(Errno::ENODEV);
    }
    if !shared {
        return Ok(Backing::File(MapFile(file), off));
    }
    let unsealed = crate::fs::check_map(file.inode().as_ref(), prot & mf::PROT_WRITE != 0)?;
    let may_write = unsealed && file.can_write();
    Ok(Backing::Shared(shared_object(Some(MapFile(file))), off, may_write))
}

/// munmap(addr, length)
pub fn sys_munmap(a: &[u64; 6]) -> Result<usize> {
    if a[1] == 0 {
        return Err(Errno::EINVAL);
    }
    let r = range(a[0], a[1]).map_err(|_| Errno::EINVAL)?;
    own_mm().unmap_slowly(r).map(|()| 0)
}

/// mprotect(addr, len, prot)
pub fn sys_mprotect(a: &[u64; 6]) -> Result<usize> {
    const GROWS: u64 = (mf::PROT_GROWSDOWN | mf::PROT_GROWSUP) as u64;
    let (grows, mut prot) = (a[2] & GROWS, (a[2] & !GROWS) as u32);
    if grows == GROWS || a[2] & !(GROWS | 0xf) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut r = range(a[0], a[1])?;
    if r.is_empty() {
        return Ok(0);
    }
    let mm = own_mm();
    if grows != 0 {
        let (start, vma) = mm.find(r.start).ok_or(Errno::ENOMEM)?;
        if grows != u64::from(mf::PROT_GROWSDOWN) || vma.name != STACK && !vma.grows_down {
            return Err(Errno::EINVAL);
        }
        r.start = start;
        // The dynamic loader asks for libraries that say nothing of their stack (PT_GNU_STACK) and hardly ever need it:
        // what would run there faults, as in programs that ask themselves.
        prot &= !mf::PROT_EXEC;
    }
    if prot & mf::PROT_WRITE != 0 && !mm.may_write(r.clone()) {
        return Err(Errno::EACCES);
    }
    mm.mprotect(r, prot & 7).map(|()| 0)
}

/// mseal(addr, len, flags): the mappings can no longer be changed, moved or unmapped.
pub fn sys_mseal(a: &[u64; 6]) -> Result<usize> {
    if a[2] != 0 || !a[0].is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    // As Linux rounds: the largest lengths are none, which is an error here.
    let len = a[1].wrapping_add(PAGE - 1) & !(PAGE - 1);
    if len == 0 && a[1] != 0 || a[0].checked_add(len).is_none() {
        return Err(Errno::EINVAL);
    }
    let (mm, r) = (own_mm(), range(a[0], len)?);
    covered(&mm, &r)?;
    mm.seal(r).map(|()| 0)
}

/// brk(addr)
pub fn sys_brk(a: &[u64; 6]) -> Result<usize> {
    let mm = own_mm();
    let end = mm.layout().brk;
    if a[0] > end && within_address_limit(&mm, a[0] - end).is_err() {
        return Ok(end as usize);
    }
    Ok(mm.brk(a[0], current_process().rlimit(2)) as usize)
}

/// mremap(old, old_len, new_len, flags, new_addr)
pub fn sys_mremap(a: &[u64; 6]) -> Result<usize> {
    if a[1] > domain::SIZE || a[2] > domain::SIZE {
        return Err(Errno::EINVAL);
    }
    let mm = own_mm();
    let more = page_ceil(a[2]).saturating_sub(a[1]);
    if more > 0 && mm.find(a[0]).is_some_and(|(_, v)| v.locked) {
        may_lock(&mm, more).map_err(|_| Errno::EAGAIN)?;
    }
    within_address_limit(&mm, more)?;
    Ok(mm.mremap(a[0], a[1], a[2], a[3] as u32, a[4])? as usize)
}

/// madvise(addr, len, advice): where nothing is mapped it is ENOMEM, after the rest was done.
pub fn sys_madvise(a: &[u64; 6]) -> Result<usize> {
    let advice = a[2] as u32;
    if !matches!(advice, mf::MADV_NORMAL..=mf::MADV_DONTNEED | mf::MADV_FREE..=mf::MADV_DONTNEED_LOCKED) {
        return Err(Errno::EINVAL);
    }
    let r = range(a[0], a[1]).map_err(|_| Errno::EINVAL)?;
    let mm = own_mm();
    if matches!(advice, mf::MADV_POPULATE_READ | mf::MADV_POPULATE_WRITE) {
        return populate(&mm, r, advice == mf::MADV_POPULATE_WRITE);
    }
    let is_covered = covered(&mm, &r);
    let mut at = r.start;
    while let Some((start, vma)) = mm.first_in(at..r.end).filter(|_| at < r.end) {
        advise(&mm, (start, &vma), start.max(at)..vma.end.min(r.end), advice)?;
        at = vma.end;
    }
    is_covered
}

/// Advice about a part of one mapping. What is not named changes nothing that a program can see.
fn advise(mm: &Mm, (start, vma): (u64, &Vma), r: core::ops::Range<u64>, advice: u32) -> Result<()> {
    let is_private_anonymous = matches!(vma.backing, Backing::Anon);
    // Sealed memory that cannot be written keeps what it shows, too.
    let takes = matches!(
        advice,
        mf::MADV_DONTNEED
            | mf::MADV_DONTNEED_LOCKED
            | mf::MADV_FREE
            | mf::MADV_REMOVE
            | mf::MADV_DONTFORK
            | mf::MADV_WIPEONFORK
    );
    if takes && vma.sealed && is_private_anonymous && vma.prot() & mf::PROT_WRITE == 0 {
        return Err(Errno::EPERM);
    }
    match advice {
        mf::MADV_DONTNEED | mf::MADV_FREE | mf::MADV_REMOVE | mf::MADV_COLD | mf::MADV_PAGEOUT
            if vma.locked =>
        {
            Err(Errno::EINVAL)
        }
        mf::MADV_FREE | mf::MADV_WIPEONFORK if !is_private_anonymous => Err(Errno::EINVAL),
        mf::MADV_DONTNEED | mf::MADV_DONTNEED_LOCKED => {
            mm.discard(r);
            Ok(())
        }
        mf::MADV_REMOVE => mm.remove(start, vma, r),
        mf::MADV_DONTFORK | mf::MADV_DOFORK | mf::MADV_WIPEONFORK | mf::MADV_KEEPONFORK => {
            // For want of mappings it is EAGAIN, here.
            mm.set_fork(r, crate::mm::Fork::of_advice(advice)).map_err(|_| Errno::EAGAIN)
        }
        _ => Ok(()),
    }
}

fn covered(mm: &Mm, r: &core::ops::Range<u64>) -> Result<usize> {
    if r.is_empty() || mm.is_mapped(r.clone()) { Ok(0) } else { Err(Errno::ENOMEM) }
}

/// MADV_POPULATE_*, up to the first page that cannot be had.
fn populate(mm: &Mm, r: core::ops::Range<u64>, write: bool) -> Result<usize> {
    let access = if write { Access::Write } else { Access::Read };
    let mut breath = Breath::begin();
    for at in r.step_by(PAGE as usize) {
        breath.take();
        let (_, vma) = mm.find(at).ok_or(Errno::ENOMEM)?;
        if vma.prot() & mf::PROT_READ == 0 && !write {
            return Err(Errno::EINVAL);
        }
        mm.handle_fault(at as u32, access).map_err(|e| match e {
            FaultError::Denied => Errno::EINVAL,
            e => e.errno(),
        })?;
    }
    Ok(0)
}

/// msync(addr, len, flags): where nothing is mapped it is ENOMEM, after the rest was done.
pub fn sys_msync(a: &[u64; 6]) -> Result<usize> {
    let (at, flags) = (a[0], a[2] as u32);
    let both = mf::MS_ASYNC | mf::MS_SYNC;
    if flags & !(both | mf::MS_INVALIDATE) != 0 || flags & both == both || at % PAGE != 0 {
        return Err(Errno::EINVAL);
    }
    // As Linux rounds: the largest lengths are none.
    let len = a[1].wrapping_add(PAGE - 1) & !(PAGE - 1);
    let end = at.checked_add(len).filter(|e| *e <= domain::SIZE).ok_or(Errno::ENOMEM)?;
    let locked = |vma: &Vma| flags & mf::MS_INVALIDATE != 0 && vma.locked;
    current_mm().sync(at..end, |vma| if locked(vma) { Err(Errno::EBUSY) } else { Ok(()) }).map(|()| 0)
}

/// mincore(addr, len, vec): everything mapped counts as resident.
pub fn sys_mincore(a: &[u64; 6]) -> Result<usize> {
    let r = range(a[0], a[1])?;
    if !current_mm().is_mapped(r.clone()) {
        return Err(Errno::ENOMEM);
    }
    for i in 0..(r.end - r.start) / PAGE {
        crate::uaccess::write_val(a[2] + i, 1u8)?;
    }
    Ok(0)
}

/// The pages that a range touches.
fn touched(at: u64, len: u64) -> Result<core::ops::Range<u64>> {
    let start = at & !(PAGE - 1);
    range(start, len.checked_add(at - start).ok_or(Errno::EINVAL)?)
}

/// May the process lock `more` bytes? EPERM if it may lock none at all.
fn may_lock(mm: &Mm, more: u64) -> Result<()> {
    const RLIMIT_MEMLOCK: usize = 8;
    let p = current_process();
    let limit = p.rlimit(RLIMIT_MEMLOCK);
    if crate::process::cred().capable(caps::IPC_LOCK) {
        return Ok(());
    }
    match limit {
        0 => Err(Errno::EPERM),
        n if mm.locked_bytes(0..domain::SIZE).saturating_add(more) > n => Err(Errno::ENOMEM),
        _ => Ok(()),
    }
}

/// mlock(addr, len): pages never leave memory; they count against the limit.
pub fn sys_mlock(a: &[u64; 6]) -> Result<usize> {
    let (mm, r) = (own_mm(), touched(a[0], a[1])?);
    may_lock(&mm, r.end - r.start - mm.locked_bytes(r.clone()))?;
    covered(&mm, &r)?;
    mm.set_locked(r, true).map(|()| 0)
}

/// munlock(addr, len)
pub fn sys_munlock(a: &[u64; 6]) -> Result<usize> {
    let (mm, r) = (own_mm(), touched(a[0], a[1])?);
    covered(&mm, &r)?;
    mm.set_locked(r, false).map(|()| 0)
}

/// mlock2(addr, len, flags)
pub fn sys_mlock2(a: &[u64; 6]) -> Result<usize> {
    const MLOCK_ONFAULT: u64 = 1;
    if a[2] & !MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL);
    }
    sys_mlock(a)
}

/// mlockall(flags)
pub fn sys_mlockall(a: &[u64; 6]) -> Result<usize> {
    const MCL_CURRENT: u32 = 1;
    const MCL_FUTURE: u32 = 2;
    const MCL_ONFAULT: u32 = 4;
    let flags = a[0] as u32;
    if flags == 0 || flags & !7 != 0 || flags == MCL_ONFAULT {
        return Err(Errno::EINVAL);
    }
    let mm = own_mm();
    let all = mm.mapped_bytes();
    if flags & MCL_CURRENT != 0 {
        may_lock(&mm, all - mm.locked_bytes(0..domain::SIZE))?;
        mm.set_locked(0..domain::SIZE, true)?;
    } else {
        may_lock(&mm, 0)?;
    }
    mm.lock_new.set(flags & MCL_FUTURE != 0);
    Ok(0)
}

/// munlockall()
pub fn sys_munlockall(_a: &[u64; 6]) -> Result<usize> {
    let mm = own_mm();
    mm.lock_new.set(false);
    mm.set_locked(0..domain::SIZE, false).map(|()| 0)
}

/// membarrier(cmd, flags, cpu): every other thread of the process (or of all) that runs passes through the kernel.
pub fn sys_membarrier(a: &[u64; 6]) -> Result<usize> {
    const GLOBAL: u32 = 1;
    const GLOBAL_EXPEDITED: u32 = 2;
    const REGISTER_GLOBAL: u32 = 4;
    const PRIVATE: u32 = 8;
    const REGISTER_PRIVATE: u32 = 16;
    const PRIVATE_SYNC: u32 = 32;
    const REGISTER_SYNC: u32 = 64;
    const ALL: u32 = 127;
    if a[1] as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let mm = current_mm();
    match a[0] as u32 {
        0 => return Ok(ALL as usize),
        GLOBAL | GLOBAL_EXPEDITED => {
            let all = crate::process::Process::all();
            all.iter().filter_map(|p| p.mm()).for_each(|m| occlum_rt::vcpu::stop_others(m.slot()));
        }
        PRIVATE | PRIVATE_SYNC => {
            if mm.barriers.get() & a[0] as u32 == 0 {
                return Err(Errno::EPERM);
            }
            occlum_rt::vcpu::stop_others(mm.slot());
        }
        REGISTER_GLOBAL => {}
        cmd @ (REGISTER_PRIVATE | REGISTER_SYNC) => mm.barriers.with_mut(|b| *b |= cmd >> 1),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
