//! semget, semop, semtimedop, semctl: sets of counters that change together, or not at all.
//!
//! Invariant: a counter and what processes would undo of it stay within 0..=SEMVMX and +-SEMVMX.
use super::*;
use alloc::collections::BTreeMap;
use alloc::format;
use occlum_rt::mem::TryGrow;

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
    /// What the ends of processes change, by process and counter.
    undo: BklCell<BTreeMap<(i32, usize), i32>>,
    /// Last operation, last change.
    times: BklCell<(u64, u64)>,
}

static SETS: BklCell<Ids<Set>> = BklCell::new(Ids::new());
/// By process and set: of how many counters its end changes some.
static UNDO: BklCell<BTreeMap<(i32, i32), usize>> = BklCell::new(BTreeMap::new());

/// How many sets there are.
pub fn count() -> usize {
    SETS.with(Ids::count)
}
/// How many counters the end of the process changes.
pub fn undo_count(pid: i32) -> usize {
    UNDO.with(|u| u.range((pid, 0)..=(pid, i32::MAX)).map(|(_, n)| *n).sum())
}

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
        counters.try_room_exact(count as usize).map_err(|_| Errno::ENOMEM)?;
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

impl Object<Set> {
    /// Does all operations, or none.
    fn try_ops(&self, ops: &[Op], pid: i32) -> core::result::Result<(), Block> {
        for (n, o) in ops.iter().enumerate() {
            if let Err(block) = self.try_op(o, pid) {
                ops[..n].iter().rev().for_each(|o| self.change(o, pid, -o.op));
                return Err(block);
            }
        }
        self.body.counters.with_mut(|c| ops.iter().for_each(|o| c[o.num].pid = pid));
        self.body.times.with_mut(|t| t.0 = now());
        Ok(())
    }
    fn try_op(&self, o: &Op, pid: i32) -> core::result::Result<(), Block> {
        let nowait = u32::from(o.flags) & IPC_NOWAIT != 0;
        let value = self.body.counters.with(|c| c[o.num].value);
        let undo = self.body.undo.with(|u| u.get(&(pid, o.num)).copied().unwrap_or(0));
        let bounded = o.flags & SEM_UNDO == 0 || (undo - o.op).abs() <= SEMVMX;
        match value + o.op {
            _ if o.op == 0 && value != 0 => Err(Block::On(o.num, 1, nowait)),
            new if new < 0 => Err(Block::On(o.num, 0, nowait)),
            new if new > SEMVMX || !bounded => Err(Block::Error(Errno::ERANGE)),
            _ => {
                self.change(o, pid, o.op);
                Ok(())
            }
        }
    }
    /// Changes a counter, and with SEM_UNDO what the end of the process does to it.
    fn change(&self, o: &Op, pid: i32, by: i32) {
        self.body.counters.with_mut(|c| c[o.num].value += by);
        if o.flags & SEM_UNDO != 0 && by != 0 {
            let at = (pid, o.num);
            let old = self.body.undo.with(|u| u.get(&at).copied().unwrap_or(0));
            self.set_undo(at, old - by);
        }
    }
    fn set_undo(&self, at: (i32, usize), to: i32) {
        let was = self.body.undo.with_mut(|u| if to == 0 { u.remove(&at) } else { u.insert(at, to) });
        let index = (at.0, self.id);
        UNDO.with_mut(|all| match (was.is_some(), to != 0) {
            (false, true) => *all.entry(index).or_insert(0) += 1,
            (true, false) => {
                let left = all.get(&index).map_or(0, |n| n - 1);
                if left == 0 {
                    all.remove(&index);
                } else {
                    all.insert(index, left);
                }
            }
            _ => {}
        });
    }
    /// No end of a process changes a counter that `which` names any more.
    fn forget_undo(&self, which: impl Fn(usize) -> bool) {
        let mut from = (i32::MIN, 0);
        while let Some(at) =
            self.body.undo.with(|u| u.range(from..).map(|(at, _)| *at).find(|at| which(at.1)))
        {
            self.set_undo(at, 0);
            from = at;
        }
    }
}

impl Set {
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
        crate::mm::admit(ops.len() as u64 * 128)?;
    }
    let pid = current_process().pid;
    let mut blocked = None;
    let attempt = || {
        if o.removed.get() {
            return Some(Err(Errno::EIDRM));
        }
        match o.try_ops(&ops, pid) {
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
    let most = (SEMMSL * SEMMNI as u64) as i32;
    // SEM_INFO tells in two of the fields what exists.
    let (used, counters) = match cmd {
        SEM_INFO => {
            (count() as i32, all(&SETS).map(|o| o.body.counters.with(Vec::len)).sum::<usize>() as i32)
        }
        _ => (20, SEMVMX),
    };
    let ops = SEMOPM as i32;
    let ints = [most, SEMMNI as i32, most, most, SEMMSL as i32, ops, ops, used, SEMVMX, counters];
    write_ints(at, &ints)?;
    Ok(SETS.with(Ids::highest))
}
fn changed(o: &Object<Set>) {
    o.body.times.with_mut(|t| t.1 = now());
    o.changed.wake_all();
}
fn set_all(o: &Object<Set>, at: u64) -> Result<usize> {
    let n = o.body.counters.with(Vec::len);
    let mut values = crate::fs::try_vec(2 * n)?;
    read_bytes(at, &mut values)?;
    let values = || values.chunks_exact(2).map(|v| i32::from(u16::from_le_bytes([v[0], v[1]])));
    if values().any(|v| v > SEMVMX) {
        return Err(Errno::ERANGE);
    }
    let pid = current_process().pid;
    o.body.counters.with_mut(|c| {
        for (c, v) in c.iter_mut().zip(values()) {
            (c.value, c.pid) = (v, pid);
        }
    });
    o.forget_undo(|_| true);
    changed(o);
    Ok(0)
}
fn set_one(o: &Object<Set>, num: usize, value: i32) -> Result<usize> {
    if !(0..=SEMVMX).contains(&value) {
        return Err(Errno::ERANGE);
    }
    let pid = current_process().pid;
    o.body.counters.with_mut(|c| (c[num].value, c[num].pid) = (value, pid));
    o.forget_undo(|n| n == num);
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
            o.forget_undo(|_| true);
            take_out(&SETS, &o);
            Ok(0)
        }
        GETALL => {
            readable()?;
            let mut values = crate::fs::try_vec(2 * o.body.counters.with(Vec::len))?;
            o.body.counters.with(|c| {
                let of_each = c.iter().zip(values.chunks_exact_mut(2));
                of_each.for_each(|(c, v)| v.copy_from_slice(&(c.value as u16).to_le_bytes()));
            });
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
    while let Some(id) = UNDO.with(|u| u.range((pid, 0)..=(pid, i32::MAX)).next().map(|((_, id), _)| *id)) {
        let Ok(o) = SETS.with(|s| s.by_id(id)) else { return };
        while let Some((at, by)) =
            o.body.undo.with(|u| u.range((pid, 0)..=(pid, usize::MAX)).next().map(|(at, by)| (*at, *by)))
        {
            o.body.counters.with_mut(|c| {
                c[at.1].value = (c[at.1].value + by).clamp(0, SEMVMX);
                c[at.1].pid = pid;
            });
            o.set_undo(at, 0);
        }
        o.changed.wake_all();
    }
}

/// /proc/sysvipc/sem.
pub fn text() -> Vec<u8> {
    let mut out = table(
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n",
        count(),
    );
    for o in all(&SETS) {
        let (p, (ot, ct)) = (o.perm.get(), o.body.times.get());
        let n = o.body.counters.with(Vec::len);
        out += &format!(
            "{:10} {:10}  {:4o} {n:10} {:5} {:5} {:5} {:5} {ot:10} {ct:10}\n",
            p.key, o.id, p.mode, p.uid, p.gid, p.cuid, p.cgid
        );
    }
    out.into_bytes()
}
