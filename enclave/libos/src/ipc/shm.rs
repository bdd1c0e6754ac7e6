//! shmget, shmat, shmdt, shmctl: segments are shared objects of `mm`.
//!
//! `mm` counts the mappings that show one, and tells when one came or went (`note`). A segment that was removed stays until the
//! last mapping is gone.
use super::*;
use crate::mm::{Backing, PAGE, SharedObject, Vma, page_ceil, shared_object};
use crate::sched::Breath;
use crate::syscall::memory::own_mm;
use alloc::format;
use occlum_linux_abi::mmap as mf;
use occlum_sfi_spec::domain;

const SHM_RDONLY: u32 = 0o10000;
const SHM_RND: u32 = 0o20000;
const SHM_REMAP: u32 = 0o40000;
const SHM_EXEC: u32 = 0o100000;
const SHM_DEST: u32 = 0o1000;
const SHM_LOCKED: u32 = 0o2000;
const SHM_HUGETLB: u32 = 0o4000;
const SHM_LOCK: u32 = 11;
const SHM_UNLOCK: u32 = 12;
const SHM_STAT: u32 = 13;
const SHM_INFO: u32 = 14;
const SHM_STAT_ANY: u32 = 15;
/// Most segments (/proc/sys/kernel/shmmni).
pub const MAX: usize = 4096;

/// A segment.
pub struct Segment {
    object: Arc<SharedObject>,
    size: u64,
    creator: i32,
    last: BklCell<i32>,
    /// Attach, detach, change.
    times: BklCell<[u64; 3]>,
    locked: BklCell<bool>,
}

static SEGMENTS: BklCell<Ids<Segment>> = BklCell::new(Ids::new());

/// Largest segment.
pub fn max_size() -> u64 {
    domain::SIZE
}

/// Most pages of all segments: they end with no process, and half of the memory is left to these.
pub fn max_pages() -> u64 {
    crate::mm::total() / 2
}
/// How many segments there are.
pub fn count() -> usize {
    SEGMENTS.with(Ids::count)
}
fn pages() -> u64 {
    all(&SEGMENTS).map(|o| page_ceil(o.body.size) / PAGE).sum()
}

/// A segment that was removed and has no mapping any more goes.
fn sweep(o: &Object<Segment>) {
    if o.removed.get() && o.body.object.shown() == 0 {
        drop(SEGMENTS.with_mut(|s| s.remove(o)));
    }
}

/// What a mapping of a segment did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Did {
    /// It is there: by shmat or fork.
    Attach = 0,
    /// It is gone, or a part of it: by shmdt, munmap, exec or the end of its process.
    Detach = 1,
}
/// A mapping of the object came or went: if it is a segment, it keeps when, and whose doing it was.
pub fn note(object: &SharedObject, did: Did) {
    let Some(Ok(o)) = object.segment.get().map(|id| SEGMENTS.with(|s| s.by_id(id))) else { return };
    if let Some(t) = crate::process::try_current() {
        o.body.last.set(t.process.pid);
    }
    o.body.times.with_mut(|t| t[did as usize] = now());
    sweep(&o);
}

/// shmget(key, size, flags)
pub fn sys_shmget(a: &[u64; 6]) -> Result<usize> {
    let (size, flags) = (a[1], a[2] as u32);
    if flags & SHM_HUGETLB != 0 {
        return Err(Errno::ENOMEM);
    }
    let make = || {
        if size == 0 || size > max_size() {
            return Err(Errno::EINVAL);
        }
        if pages() + page_ceil(size) / PAGE > max_pages() {
            return Err(Errno::ENOSPC);
        }
        Ok(Segment {
            object: shared_object(None),
            size,
            creator: current_process().pid,
            last: BklCell::new(0),
            times: BklCell::new([0, 0, now()]),
            locked: BklCell::new(false),
        })
    };
    let fits = |s: &Segment| if size > s.size { Err(Errno::EINVAL) } else { Ok(()) };
    let cost = 1 << 10;
    let id = get(&SEGMENTS, &Get { key: a[0] as i32, flags, max: MAX, cost, fits: &fits, make: &make })?;
    let o = SEGMENTS.with(|s| s.by_id(id as i32))?;
    o.body.object.segment.set(Some(o.id));
    Ok(id)
}

/// shmat(id, addr, flags)
pub fn sys_shmat(a: &[u64; 6]) -> Result<usize> {
    let (mut at, flags) = (a[1], a[2] as u32);
    let o = SEGMENTS.with(|s| s.by_id(a[0] as i32))?;
    if at % PAGE != 0 {
        if flags & SHM_RND == 0 {
            return Err(Errno::EINVAL);
        }
        at &= !(PAGE - 1);
    }
    if at == 0 && flags & SHM_REMAP != 0 {
        return Err(Errno::EINVAL);
    }
    let read_only = flags & SHM_RDONLY != 0;
    let exec = flags & SHM_EXEC != 0;
    let want = READ | if read_only { 0 } else { WRITE } | u32::from(exec);
    o.perm.with(|p| p.check(want))?;
    let len = page_ceil(o.body.size);
    let mm = own_mm();
    let end = at.checked_add(len).filter(|e| *e <= domain::SIZE).ok_or(Errno::EINVAL)?;
    if at != 0 && flags & SHM_REMAP == 0 && mm.first_in(at..end).is_some() {
        return Err(Errno::EINVAL);
    }
    let prot =
        mf::PROT_READ | if read_only { 0 } else { mf::PROT_WRITE } | if exec { mf::PROT_EXEC } else { 0 };
    let object = o.body.object.clone();
    let start = mm.map((at != 0).then_some(at), 0, len, prot, Backing::Shared(object, 0, !read_only))?;
    mm.set_name(start, "/SYSV");
    note(&o.body.object, Did::Attach);
    Ok(start as usize)
}

/// shmdt(addr)
pub fn sys_shmdt(a: &[u64; 6]) -> Result<usize> {
    let at = a[0];
    let mm = own_mm();
    let mut breath = Breath::begin();
    // The segment whose first byte is at `at`, or was before it was unmapped.
    let mut shown = |(start, v): (u64, Vma)| match v.backing {
        Backing::Shared(o, off, _) if o.segment.get().is_some() && start.wrapping_sub(off) == at => Some(o),
        _ => {
            breath.take();
            None
        }
    };
    let object = mm.vmas_in(at..domain::SIZE).find_map(&mut shown).ok_or(Errno::EINVAL)?;
    for (start, v) in mm.vmas_in(at..domain::SIZE) {
        let end = v.end;
        if shown((start, v)).is_some_and(|o| Arc::ptr_eq(&o, &object)) {
            mm.unmap(start..end)?;
        }
    }
    Ok(0)
}

fn write_stat(o: &Object<Segment>, at: u64) -> Result<()> {
    let s = &o.body;
    let [atime, dtime, ctime] = s.times.get();
    let state = if o.removed.get() { SHM_DEST } else { 0 } | if s.locked.get() { SHM_LOCKED } else { 0 };
    let mut b = [0; 112];
    o.put_perm(&mut b, state);
    let pids = u64::from(s.creator as u32) | u64::from(s.last.get() as u32) << 32;
    let words =
        [(48, s.size), (56, atime), (64, dtime), (72, ctime), (80, pids), (88, s.object.shown() as u64)];
    put(&mut b, &words);
    write_bytes(at, &b)
}

/// shmctl(id, cmd, buf)
pub fn sys_shmctl(a: &[u64; 6]) -> Result<usize> {
    let cmd = a[1] as u32 & !IPC_64;
    if (a[0] as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    match cmd {
        IPC_INFO => {
            let mut b = [0; 72];
            put(&mut b, &[(0, max_size()), (8, 1), (16, MAX as u64), (24, MAX as u64), (32, max_pages())]);
            write_bytes(a[2], &b)?;
            return Ok(SEGMENTS.with(Ids::highest));
        }
        SHM_INFO => {
            let mut b = [0; 48];
            put(&mut b, &[(0, count() as u64), (8, pages()), (16, pages())]);
            write_bytes(a[2], &b)?;
            return Ok(SEGMENTS.with(Ids::highest));
        }
        _ => {}
    }
    let by_index = matches!(cmd, SHM_STAT | SHM_STAT_ANY);
    let o = SEGMENTS.with(|s| if by_index { s.by_index(a[0] as i32) } else { s.by_id(a[0] as i32) })?;
    match cmd {
        IPC_STAT | SHM_STAT | SHM_STAT_ANY => {
            if cmd != SHM_STAT_ANY {
                o.perm.with(|p| p.check(READ))?;
            }
            write_stat(&o, a[2])?;
            return Ok(if by_index { o.id as usize } else { 0 });
        }
        IPC_SET => {
            o.set_perm(a[2])?;
            o.body.times.with_mut(|t| t[2] = now());
        }
        IPC_RMID => {
            o.check_owner()?;
            o.removed.set(true);
            o.perm.with_mut(|p| p.key = IPC_PRIVATE);
            sweep(&o);
        }
        SHM_LOCK | SHM_UNLOCK => {
            o.check_owner()?;
            o.body.locked.set(cmd == SHM_LOCK);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// /proc/sysvipc/shm.
pub fn text() -> Vec<u8> {
    let mut out = table(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n",
        count(),
    );
    for o in all(&SEGMENTS) {
        let (p, s, [at, dt, ct]) = (o.perm.get(), &o.body, o.body.times.get());
        let mode = p.mode | if o.removed.get() { SHM_DEST } else { 0 };
        out += &format!(
            "{:10} {:10}  {mode:4o} {:21} {:5} {:5}  {:5} {:5} {:5} {:5} {:5} {at:10} {dt:10} {ct:10} {:21} {:21}\n",
            p.key,
            o.id,
            s.size,
            s.creator,
            s.last.get(),
            s.object.shown(),
            p.uid,
            p.gid,
            p.cuid,
            p.cgid,
            0,
            0
        );
    }
    out.into_bytes()
}
