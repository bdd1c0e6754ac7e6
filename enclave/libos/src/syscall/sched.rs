//! sched(7): policies, priorities, nice values, affinity; I/O priorities.
//!
//! Neighbours: `sched::class` keeps what is set here, `sched::queue` goes by it. Rights are those of Linux: one's own
//! threads may be lowered, what raises them needs root or RLIMIT_NICE, RLIMIT_RTPRIO.
use crate::errno::{Errno, Result};
use crate::process::{self, Process, Task, caps, current};
use crate::sched::class::{SCHED_BATCH, SCHED_FIFO, SCHED_IDLE, SCHED_OTHER, SCHED_RR, SchedAttr};
use crate::sched::{all_vcpus, follow_affinity, reconsider};
use crate::uaccess::{read_bytes, read_val, write_bytes, write_val};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// In `policy`: children do not inherit.
const RESET_ON_FORK: u32 = 0x4000_0000;
const RLIMIT_NICE: usize = 13;
const RLIMIT_RTPRIO: usize = 14;

fn task(pid: u64) -> Result<Arc<Task>> {
    match pid as i32 {
        ..0 => Err(Errno::EINVAL),
        0 => Ok(current()),
        tid => Task::by_tid(tid).ok_or(Errno::ESRCH),
    }
}

/// Only root, and those whose effective uid is the real or effective one of the target.
fn may_change(t: &Task) -> Result<()> {
    let me = process::cred();
    let same = t.with_cred(|c| me.euid == c.euid || me.euid == c.uid);
    if me.capable(caps::SYS_NICE) || same { Ok(()) } else { Err(Errno::EPERM) }
}

fn may_all() -> bool {
    process::cred().capable(caps::SYS_NICE)
}

/// May a thread of `p` get this nice value, where the present one is greater?
fn may_raise_to(p: &Process, nice: i32) -> bool {
    may_all() || (20 - i64::from(nice)) as u64 <= p.rlimit(RLIMIT_NICE)
}

fn check_attr(a: SchedAttr) -> Result<()> {
    match a.policy {
        SCHED_FIFO | SCHED_RR if (1..=99).contains(&a.rt) => Ok(()),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE if a.rt == 0 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

fn check_rights(t: &Task, new: SchedAttr) -> Result<()> {
    let old = t.sched.attr.get();
    may_change(t)?;
    let limit = t.process.rlimit(RLIMIT_RTPRIO);
    let rt_ok = !new.is_rt()
        || (old.policy == new.policy || limit != 0) && (new.rt <= old.rt || u64::from(new.rt) <= limit);
    let nice_ok = new.is_rt() || new.nice >= old.nice || may_raise_to(&t.process, new.nice);
    let leaves_idle = old.policy == SCHED_IDLE && new.policy != SCHED_IDLE;
    let idle_ok = !leaves_idle || may_raise_to(&t.process, old.nice);
    let reset_ok = !old.reset_on_fork || new.reset_on_fork;
    if may_all() || rt_ok && nice_ok && idle_ok && reset_ok { Ok(()) } else { Err(Errno::EPERM) }
}

fn set_attr(t: &Arc<Task>, new: SchedAttr) -> Result<usize> {
    check_attr(new)?;
    check_rights(t, new)?;
    t.sched.attr.set(new);
    reconsider(t);
    Ok(0)
}

/// sched_yield()
pub fn sys_sched_yield(_a: &[u64; 6]) -> Result<usize> {
    crate::sched::yield_now();
    Ok(0)
}

/// sched_getaffinity(pid, size, mask): the bytes of the mask.
pub fn sys_sched_getaffinity(a: &[u64; 6]) -> Result<usize> {
    if a[1] < 8 || !a[1].is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let t = task(a[0]).map_err(|_| Errno::ESRCH)?;
    write_val(a[2], t.sched.affinity.get() & all_vcpus())?;
    Ok(8)
}

/// sched_setaffinity(pid, size, mask)
pub fn sys_sched_setaffinity(a: &[u64; 6]) -> Result<usize> {
    let mut b = [0u8; 8];
    let n = a[1].min(8) as usize;
    read_bytes(a[2], &mut b[..n])?;
    let t = task(a[0]).map_err(|_| Errno::ESRCH)?;
    may_change(&t)?;
    let mask = u64::from_le_bytes(b) & all_vcpus();
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    t.sched.affinity.set(if mask == all_vcpus() { u64::MAX } else { mask });
    reconsider(&t);
    drop(t);
    follow_affinity();
    Ok(0)
}

/// sched_getscheduler(pid)
pub fn sys_sched_getscheduler(a: &[u64; 6]) -> Result<usize> {
    let attr = task(a[0])?.sched.attr.get();
    Ok((attr.policy | if attr.reset_on_fork { RESET_ON_FORK } else { 0 }) as usize)
}

/// sched_getparam(pid, param)
pub fn sys_sched_getparam(a: &[u64; 6]) -> Result<usize> {
    if a[1] == 0 {
        return Err(Errno::EINVAL);
    }
    write_val(a[1], task(a[0])?.sched.attr.get().rt)?;
    Ok(0)
}

fn param(pid: u64, at: u64) -> Result<(Arc<Task>, u32)> {
    if at == 0 || (pid as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let rt: u32 = read_val(at)?;
    Ok((task(pid)?, rt))
}

/// sched_setparam(pid, param)
pub fn sys_sched_setparam(a: &[u64; 6]) -> Result<usize> {
    let (t, rt) = param(a[0], a[1])?;
    set_attr(&t, SchedAttr { rt, ..t.sched.attr.get() })
}

/// sched_setscheduler(pid, policy, param)
pub fn sys_sched_setscheduler(a: &[u64; 6]) -> Result<usize> {
    if (a[1] as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let (t, rt) = param(a[0], a[2])?;
    let (policy, nice) = (a[1] as u32, t.sched.attr.get().nice);
    let reset_on_fork = policy & RESET_ON_FORK != 0;
    set_attr(&t, SchedAttr { policy: policy & !RESET_ON_FORK, nice, rt, reset_on_fork })
}

/// sched_get_priority_max(policy)
pub fn sys_sched_get_priority_max(a: &[u64; 6]) -> Result<usize> {
    range(a[0]).map(|r| r.1)
}

/// sched_get_priority_min(policy)
pub fn sys_sched_get_priority_min(a: &[u64; 6]) -> Result<usize> {
    range(a[0]).map(|r| r.0)
}

fn range(policy: u64) -> Result<(usize, usize)> {
    const SCHED_DEADLINE: u32 = 6;
    match policy as u32 {
        SCHED_FIFO | SCHED_RR => Ok((1, 99)),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE => Ok((0, 0)),
        _ => Err(Errno::EINVAL),
    }
}

/// sched_rr_get_interval(pid, interval)
pub fn sys_sched_rr_get_interval(a: &[u64; 6]) -> Result<usize> {
    let ns: u64 = match task(a[0])?.sched.attr.get().policy {
        SCHED_RR => 100_000_000,
        SCHED_FIFO => 0,
        _ => 3_000_000,
    };
    write_val(a[1], 0u64)?;
    write_val(a[1] + 8, ns)?;
    Ok(0)
}

/// Size of `struct sched_attr` in its first version, and in the last that is known here.
const ATTR_FIRST: u32 = 48;
const ATTR_LAST: u32 = 56;
const FLAG_RESET_ON_FORK: u64 = 1;
const FLAG_KEEP_POLICY: u64 = 8;
const FLAG_KEEP_PARAMS: u64 = 16;

/// sched_setattr(pid, attr, flags)
pub fn sys_sched_setattr(a: &[u64; 6]) -> Result<usize> {
    if a[1] == 0 || (a[0] as i32) < 0 || a[2] as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let size = match read_val::<u32>(a[1])? {
        0 => ATTR_FIRST,
        n => n,
    };
    let mut b = [0u8; 4096];
    if !(ATTR_FIRST..=4096).contains(&size) {
        write_val(a[1], ATTR_LAST)?;
        return Err(Errno::E2BIG);
    }
    read_bytes(a[1], &mut b[..size as usize])?;
    if b[ATTR_LAST as usize..].iter().any(|x| *x != 0) {
        write_val(a[1], ATTR_LAST)?;
        return Err(Errno::E2BIG);
    }
    let word = |at: usize| u32::from_le_bytes(core::array::from_fn(|i| b[at + i]));
    let flags = u64::from(word(8)) | u64::from(word(12)) << 32;
    if flags & !(FLAG_RESET_ON_FORK | FLAG_KEEP_POLICY | FLAG_KEEP_PARAMS) != 0 || (word(4) as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let t = task(a[0])?;
    let old = t.sched.attr.get();
    let keeps = |bit: u64| flags & bit != 0;
    let policy = if keeps(FLAG_KEEP_POLICY) { old.policy } else { word(4) };
    let (nice, rt) = if keeps(FLAG_KEEP_PARAMS) { (old.nice, old.rt) } else { (word(16) as i32, word(20)) };
    let mut new =
        SchedAttr { policy, nice: nice.clamp(-20, 19), rt, reset_on_fork: keeps(FLAG_RESET_ON_FORK) };
    if new.is_rt() {
        new.nice = old.nice;
    }
    set_attr(&t, new)
}

/// sched_getattr(pid, attr, size, flags)
pub fn sys_sched_getattr(a: &[u64; 6]) -> Result<usize> {
    let size = a[2] as u32;
    if a[1] == 0 || (a[0] as i32) < 0 || !(ATTR_FIRST..=4096).contains(&size) || a[3] as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let attr = task(a[0])?.sched.attr.get();
    let known = size.min(ATTR_LAST);
    let mut b = [0u8; ATTR_LAST as usize];
    b[..4].copy_from_slice(&known.to_le_bytes());
    b[4..8].copy_from_slice(&attr.policy.to_le_bytes());
    b[8] = u8::from(attr.reset_on_fork);
    if !attr.is_rt() {
        b[16..20].copy_from_slice(&attr.nice.to_le_bytes());
    }
    b[20..24].copy_from_slice(&attr.rt.to_le_bytes());
    b[52..56].copy_from_slice(&1024u32.to_le_bytes());
    write_bytes(a[1], &b[..known as usize])?;
    Ok(0)
}

/// Threads that setpriority or ioprio_set mean: one, a process group's, a user's.
enum Which {
    One,
    Group,
    User,
}

fn meant(which: Which, who: i32) -> Vec<Arc<Task>> {
    let me = current();
    let mut found = Vec::new();
    process::with_tasks(|t| {
        let p = &t.process;
        let hit = match which {
            Which::One => t.tid == if who == 0 { me.tid } else { who },
            Which::Group => p.pgid.get() == if who == 0 { me.process.pgid.get() } else { who },
            Which::User => t.with_cred(|c| c.uid) == if who == 0 { me.cred().uid } else { who as u32 },
        };
        if hit {
            found.push(t.clone());
        }
    });
    found
}

fn priority_which(which: u64) -> Result<Which> {
    match which as u32 {
        0 => Ok(Which::One),
        1 => Ok(Which::Group),
        2 => Ok(Which::User),
        _ => Err(Errno::EINVAL),
    }
}

/// getpriority(which, who): the highest, in the kernel's encoding (20 - nice).
pub fn sys_getpriority(a: &[u64; 6]) -> Result<usize> {
    let all = meant(priority_which(a[0])?, a[1] as i32);
    let lowest = all.iter().map(|t| t.sched.attr.get().nice).min().ok_or(Errno::ESRCH)?;
    Ok((20 - lowest) as usize)
}

/// setpriority(which, who, prio)
pub fn sys_setpriority(a: &[u64; 6]) -> Result<usize> {
    let all = meant(priority_which(a[0])?, a[1] as i32);
    let nice = (a[2] as i32).clamp(-20, 19);
    let mut result = Err(Errno::ESRCH);
    for t in all {
        let old = t.sched.attr.get();
        if may_change(&t).is_err() {
            result = Err(Errno::EPERM);
        } else if nice < old.nice && !may_raise_to(&t.process, nice) {
            result = Err(Errno::EACCES);
        } else {
            t.sched.attr.set(SchedAttr { nice, ..old });
            reconsider(&t);
            if result == Err(Errno::ESRCH) {
                result = Ok(0);
            }
        }
    }
    result
}

fn ioprio_which(which: u64) -> Result<Which> {
    match which as u32 {
        n @ 1..=3 => priority_which(u64::from(n - 1)),
        _ => Err(Errno::EINVAL),
    }
}

const IOPRIO_CLASS_RT: u16 = 1;
const IOPRIO_CLASS_BE: u16 = 2;
const IOPRIO_CLASS_IDLE: u16 = 3;

/// ioprio_set(which, who, ioprio)
pub fn sys_ioprio_set(a: &[u64; 6]) -> Result<usize> {
    let value = u16::try_from(a[2] as u32).map_err(|_| Errno::EINVAL)?;
    let (class, level) = (value >> 13, value & 7);
    match class {
        IOPRIO_CLASS_RT if !may_all() => return Err(Errno::EPERM),
        IOPRIO_CLASS_RT | IOPRIO_CLASS_BE | IOPRIO_CLASS_IDLE => {}
        0 if level == 0 => {}
        _ => return Err(Errno::EINVAL),
    }
    let all = meant(ioprio_which(a[0])?, a[1] as i32);
    if all.is_empty() {
        return Err(Errno::ESRCH);
    }
    for t in all {
        may_change(&t)?;
        t.sched.ioprio.set(value);
    }
    Ok(0)
}

/// ioprio_get(which, who): the best; one that was never set follows the nice value.
pub fn sys_ioprio_get(a: &[u64; 6]) -> Result<usize> {
    let all = meant(ioprio_which(a[0])?, a[1] as i32);
    let of = |t: &Arc<Task>| match t.sched.ioprio.get() {
        v if v >> 13 != 0 => v,
        _ => IOPRIO_CLASS_BE << 13 | ((t.sched.attr.get().nice + 20) / 5) as u16,
    };
    all.iter().map(of).min().map(usize::from).ok_or(Errno::ESRCH)
}
