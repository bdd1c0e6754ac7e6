//! semget, semop, semtimedop, semctl: sets of counters that change together, or not at all.
//!
//! Invariant: a counter and what processes would undo of it stay within 0..=SEMVMX and +-SEMVMX.
use super::*;
use crate::uaccess::read_val;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

const SEM_UNDO: u16 = 0o10000;
const GETPID: u32 = 11;
const GETVAL: u32 = 12;
const GETALL: u32 = 13;
const GETNCNT: u32 = 14;
const GETZCNT: u32 = 15;
const SETVAL: u32 = 16;
const SETALL: u32 = 17;
const SEM_STAT: u32 = 18;
const SEM_INFO: u32 = 19;
const SEM_STAT_ANY: u32 = 20;
/// Most counters of a set.
const SEMMSL: u64 = 32000;
/// Most sets (as many as there are index numbers below a sequence number).
const SEMMNI: usize = 32000;
/// Most operations of a call.
const SEMOPM: u64 = 500;
/// Largest value.
const SEMVMX: i32 = 32767;

#[derive(Clone, Copy, Default)]
struct Counter {
    value: i32,
    pid: i32,
    /// Who waits for it to grow, to be zero.
    waiting: [u32; 2],
}

/// A set.
pub struct Set {
    counters: BklCell<Vec<Counter>>,
    undo: BklCell<BTreeMap<i32, Vec<i32>>>,
    /// Last operation, last change.
    times: BklCell<(u64, u64)>,
}

static SETS: BklCell<Ids<Set>> = BklCell::new(Ids::new());

/// /proc/sys/kernel/sem.
pub fn limits() -> Vec<u8> {
    format!("{SEMMSL}\t{}\t{SEMOPM}\t{SEMMNI}\n", SEMMSL * SEMMNI as u64).into_bytes()
}

/// semget(key, nsems, flags)
pub fn sys_semget(a: &[u64; 6]) -> Result<usize> {
    let count = u64::try_from(a[1] as i32).map_err(|_| Errno::EINVAL)?;
    if count > SEMMSL {
        return Err(Errno::EINVAL);
    }
    let make = || {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        let mut counters = Vec::new();
        counters.try_reserve_exact(count as usize).map_err(|_| Errno::ENOMEM)?;
        counters.resize(count as usize, Counter::default());
        Ok(Set {
            counters: BklCell::new(counters),
            undo: BklCell::new(BTreeMap::new()),
            times: BklCell::new((0, now())),
        })
    };
    let fits = |s: &Set| if count > s.counters.with(Vec::len) as u64 { Err(Errno::EINVAL) } else { Ok(()) };
    let cost = (1 << 10) + count * 32;
    get(&SETS, &Get { key: a[0] as i32, flags: a[2] as u32, max: SEMMNI, cost, fits: &fits, make: &make })
}

#[derive(Clone, Copy)]
struct Op {
    num: usize,
    op: i32,
    flags: u16,
}
/// What stands in the way of all operations being done now.
enum Block {
    /// This counter: too small (0), not zero (1). And may the call wait?
    On(usize, usize, bool),
    Error(Errno),
}

impl Set {
    /// Does all operations, or none.
    fn try_ops(&self, ops: &[Op], pid: i32) -> core::result::Result<(), Block> {
        let mut new = self.counters.with(Clone::clone);
        let mut undo: Option<Vec<i32>> = None;
        for o in ops {
            let c = &mut new[o.num];
            let nowait = u32::from(o.flags) & IPC_NOWAIT != 0;
            if o.op == 0 {
                if c.value != 0 {
                    return Err(Block::On(o.num, 1, nowait));
                }
            } else if c.value + o.op < 0 {
                return Err(Block::On(o.num, 0, nowait));
            } else if c.value + o.op > SEMVMX {
                return Err(Block::Error(Errno::ERANGE));
            }
            c.value += o.op;
            c.pid = pid;
            if o.flags & SEM_UNDO != 0 {
                let len = self.counters.with(Vec::len);
                let known =
                    || self.undo.with(|u| u.get(&pid).cloned()).unwrap_or_else(|| alloc::vec![0; len]);
                let adjust = &mut undo.get_or_insert_with(known)[o.num];
                *adjust -= o.op;
                if adjust.abs() > SEMVMX {
                    return Err(Block::Error(Errno::ERANGE));
                }
            }
        }
        self.counters.set(new);
        if let Some(u) = undo {
            self.undo.with_mut(|m| m.insert(pid, u));
        }
        self.times.with_mut(|t| t.0 = now());
        Ok(())
    }
    fn count_waiter(&self, num: usize, kind: usize, by: i32) {
        self.counters.with_mut(|c| {
            if let Some(c) = c.get_mut(num) {
                c.waiting[kind] = c.waiting[kind].saturating_add_signed(by);
            }
        });
    }
}

fn read_ops(at: u64, n: u64) -> Result<Vec<Op>> {
    if n == 0 {
        return Err(Errno::EINVAL);
    }
    if n > SEMOPM {
        return Err(Errno::E2BIG);
    }
    let mut raw = crate::fs::try_vec(n as usize * 6)?;
    read_bytes(at, &mut raw)?;
    let op = |b: &[u8]| Op {
        num: usize::from(u16::from_le_bytes([b[0], b[1]])),
        op: i32::from(i16::from_le_bytes([b[2], b[3]])),
        flags: u16::from_le_bytes([b[4], b[5]]),
    };
    Ok(raw.chunks_exact(6).map(op).collect())
}

fn do_semop(a: &[u64; 6], deadline: Option<u64>) -> Result<usize> {
    let ops = read_ops(a[1], a[2])?;
    if (a[0] as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let o = SETS.with(|s| s.by_id(a[0] as i32))?;
    if ops.iter().any(|x| x.num >= o.body.counters.with(Vec::len)) {
        return Err(Errno::EFBIG);
    }
    let alters = ops.iter().any(|x| x.op != 0);
    o.perm.with(|p| p.check(if alters { WRITE } else { READ }))?;
    if ops.iter().any(|x| x.flags & SEM_UNDO != 0) {
        crate::mm::admit(4 * o.body.counters.with(Vec::len) as u64)?;
    }
    let pid = current_process().pid;
    let mut blocked = None;
    let attempt = || {
        if o.removed.get() {
            return Some(Err(Errno::EIDRM));
        }
        match o.body.try_ops(&ops, pid) {
            Ok(()) => Some(Ok(0)),
            Err(Block::Error(e)) => Some(Err(e)),
            Err(Block::On(_, _, true)) => Some(Err(Errno::EAGAIN)),
            Err(Block::On(num, kind, false)) => {
                let old = blocked.replace((num, kind));
                if old != blocked {
                    old.iter().for_each(|(n, k)| o.body.count_waiter(*n, *k, -1));
                    o.body.count_waiter(num, kind, 1);
                }
                None
            }
        }
    };
    let r = o.changed.wait_until(deadline, attempt);
    if let Some((num, kind)) = blocked {
        o.body.count_waiter(num, kind, -1);
    }
    match r {
        Ok(done) => {
            if alters && done.is_ok() {
                o.changed.wake_all();
            }
            done
        }
        Err(Errno::ETIMEDOUT) => Err(Errno::EAGAIN),
        Err(e) => Err(e),
    }
}
/// semop(id, ops, n)
pub fn sys_semop(a: &[u64; 6]) -> Result<usize> {
    do_semop(a, None)
}
/// semtimedop(id, ops, n, timeout)
pub fn sys_semtimedop(a: &[u64; 6]) -> Result<usize> {
    let deadline = match a[3] {
        0 => None,
        at => {
            let ns = crate::syscall::time::read_timespec(at)?;
            Some(crate::time::monotonic_ns().saturating_add(ns))
        }
    };
    do_semop(a, deadline)
}

fn write_stat(o: &Object<Set>, at: u64) -> Result<()> {
    let (op, change) = o.body.times.get();
    let mut b = [0; 104];
    o.put_perm(&mut b, 0);
    put(&mut b, &[(48, op), (64, change), (80, o.body.counters.with(Vec::len) as u64)]);
    write_bytes(at, &b)
}
fn system(cmd: u32, at: u64) -> Result<usize> {
    let sets = SETS.with(Ids::all);
    let all = (SEMMSL * SEMMNI as u64) as i32;
    // SEM_INFO tells in two of the fields what exists.
    let (used, counters) = match cmd {
        SEM_INFO => {
            (sets.len() as i32, sets.iter().map(|o| o.body.counters.with(Vec::len)).sum::<usize>() as i32)
        }
        _ => (20, SEMVMX),
    };
    let ops = SEMOPM as i32;
    let ints = [all, SEMMNI as i32, all, all, SEMMSL as i32, ops, ops, used, SEMVMX, counters];
    write_ints(at, &ints)?;
    Ok(SETS.with(Ids::highest))
}
fn changed(o: &Object<Set>) {
    o.body.times.with_mut(|t| t.1 = now());
    o.changed.wake_all();
}
fn set_all(o: &Object<Set>, at: u64) -> Result<usize> {
    let n = o.body.counters.with(Vec::len);
    let values: Result<Vec<u16>> = (0..n as u64).map(|i| read_val(at + 2 * i)).collect();
    let values = values?;
    if values.iter().any(|v| i32::from(*v) > SEMVMX) {
        return Err(Errno::ERANGE);
    }
    let pid = current_process().pid;
    o.body.counters.with_mut(|c| {
        for (c, v) in c.iter_mut().zip(&values) {
            (c.value, c.pid) = (i32::from(*v), pid);
        }
    });
    o.body.undo.set(BTreeMap::new());
    changed(o);
    Ok(0)
}
fn set_one(o: &Object<Set>, num: usize, value: i32) -> Result<usize> {
    if !(0..=SEMVMX).contains(&value) {
        return Err(Errno::ERANGE);
    }
    let pid = current_process().pid;
    o.body.counters.with_mut(|c| (c[num].value, c[num].pid) = (value, pid));
    o.body.undo.with_mut(|u| u.values_mut().for_each(|u| u[num] = 0));
    changed(o);
    Ok(0)
}

/// semctl(id, num, cmd, arg)
pub fn sys_semctl(a: &[u64; 6]) -> Result<usize> {
    let cmd = a[2] as u32 & !IPC_64;
    if (a[0] as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    if matches!(cmd, IPC_INFO | SEM_INFO) {
        return system(cmd, a[3]);
    }
    let by_index = matches!(cmd, SEM_STAT | SEM_STAT_ANY);
    let o = SETS.with(|s| if by_index { s.by_index(a[0] as i32) } else { s.by_id(a[0] as i32) })?;
    let num = a[1] as i32 as usize;
    let one = |f: fn(&Counter) -> i32| {
        o.body.counters.with(|c| c.get(num).map(|c| f(c) as usize)).ok_or(Errno::EINVAL)
    };
    let readable = || o.perm.with(|p| p.check(READ));
    match cmd {
        IPC_STAT | SEM_STAT | SEM_STAT_ANY => {
            if cmd != SEM_STAT_ANY {
                readable()?;
            }
            write_stat(&o, a[3])?;
            Ok(if by_index { o.id as usize } else { 0 })
        }
        IPC_SET => {
            o.set_perm(a[3])?;
            o.body.times.with_mut(|t| t.1 = now());
            Ok(0)
        }
        IPC_RMID => {
            o.check_owner()?;
            take_out(&SETS, &o);
            Ok(0)
        }
        GETALL => {
            readable()?;
            let values: Vec<u8> =
                o.body.counters.with(|c| c.iter().flat_map(|c| (c.value as u16).to_le_bytes()).collect());
            write_bytes(a[3], &values)?;
            Ok(0)
        }
        GETVAL | GETPID | GETNCNT | GETZCNT => {
            readable()?;
            one(match cmd {
                GETVAL => |c| c.value,
                GETPID => |c| c.pid,
                GETNCNT => |c| c.waiting[0] as i32,
                _ => |c| c.waiting[1] as i32,
            })
        }
        SETVAL => {
            one(|_| 0)?;
            o.perm.with(|p| p.check(WRITE))?;
            set_one(&o, num, a[3] as i32)
        }
        SETALL => {
            o.perm.with(|p| p.check(WRITE))?;
            set_all(&o, a[3])
        }
        _ => Err(Errno::EINVAL),
    }
}

/// SEM_UNDO of a process that ended: as far as the values allow.
pub(super) fn process_ended(pid: i32) {
    for o in SETS.with(Ids::all) {
        let Some(undo) = o.body.undo.with_mut(|u| u.remove(&pid)) else { continue };
        o.body.counters.with_mut(|c| {
            for (c, by) in c.iter_mut().zip(&undo).filter(|(_, by)| **by != 0) {
                c.value = (c.value + by).clamp(0, SEMVMX);
                c.pid = pid;
            }
        });
        o.changed.wake_all();
    }
}

/// /proc/sysvipc/sem.
pub fn text() -> Vec<u8> {
    let mut out = String::from(
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n",
    );
    for o in SETS.with(Ids::all) {
        let (p, (ot, ct)) = (o.perm.get(), o.body.times.get());
        let n = o.body.counters.with(Vec::len);
        out += &format!(
            "{:10} {:10}  {:4o} {n:10} {:5} {:5} {:5} {:5} {ot:10} {ct:10}\n",
            p.key, o.id, p.mode, p.uid, p.gid, p.cuid, p.cgid
        );
    }
    out.into_bytes()
}
