//! msgget, msgsnd, msgrcv, msgctl: queues of typed messages.
use super::*;
use crate::uaccess::{read_val, write_val};
use alloc::collections::VecDeque;
use alloc::format;
use occlum_rt::mem::TryGrow;

const MSG_NOERROR: u32 = 0o10000;
const MSG_EXCEPT: u32 = 0o20000;
const MSG_COPY: u32 = 0o40000;
const MSG_STAT: u32 = 11;
const MSG_INFO: u32 = 12;
const MSG_STAT_ANY: u32 = 13;
/// Most queues, largest message, most bytes of a queue.
const MSGMNI: usize = 32000;
const MSGMAX: u64 = 8192;
const MSGMNB: u64 = 16384;
/// What a message takes beside its bytes.
const COST: u64 = 64;

struct Message {
    kind: i64,
    text: Vec<u8>,
    _kept: Option<Kept>,
}
#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: u64,
    /// Most bytes.
    limit: u64,
    /// Last sender and receiver.
    pids: [i32; 2],
    /// Send, receive, change.
    times: [u64; 3],
}
/// A queue.
pub struct Queue(BklCell<State>);

static QUEUES: BklCell<Ids<Queue>> = BklCell::new(Ids::new());

/// How many queues there are.
pub fn count() -> usize {
    QUEUES.with(Ids::count)
}

/// msgget(key, flags)
pub fn sys_msgget(a: &[u64; 6]) -> Result<usize> {
    let make = || Ok(Queue(BklCell::new(State { limit: MSGMNB, times: [0, 0, now()], ..State::default() })));
    let fits = |_: &Queue| Ok(());
    let cost = 1 << 10;
    get(&QUEUES, &Get { key: a[0] as i32, flags: a[1] as u32, max: MSGMNI, cost, fits: &fits, make: &make })
}

fn by_id(id: u64) -> Result<Arc<Object<Queue>>> {
    if (id as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    QUEUES.with(|q| q.by_id(id as i32))
}

/// msgsnd(id, message, size, flags)
pub fn sys_msgsnd(a: &[u64; 6]) -> Result<usize> {
    let (size, nowait) = (a[2], a[3] as u32 & IPC_NOWAIT != 0);
    let kind: i64 = read_val(a[1])?;
    if size > MSGMAX || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut text = crate::fs::try_vec(size as usize)?;
    read_bytes(a[1] + 8, &mut text)?;
    let o = by_id(a[0])?;
    o.perm.with(|p| p.check(WRITE))?;
    let kept = Some(Kept::take(size + COST).ok_or(Errno::ENOMEM)?);
    crate::mm::admit(size + COST)?;
    let mut message = Some(Message { kind, text, _kept: kept });
    let pid = current_process().pid;
    let put = || {
        if o.removed.get() {
            return Some(Err(Errno::EIDRM));
        }
        o.body.0.with_mut(|s| {
            // Messages without bytes count, too, or a queue could grow without end.
            let fits = s.bytes + size <= s.limit && (s.messages.len() as u64) < s.limit;
            if !fits {
                return nowait.then_some(Err(Errno::EAGAIN));
            }
            if s.messages.try_room(1).is_err() {
                return Some(Err(Errno::ENOMEM));
            }
            s.bytes += size;
            s.messages.extend(message.take());
            (s.pids[0], s.times[0]) = (pid, now());
            Some(Ok(0))
        })
    };
    let r = o.changed.wait_until(None, put)?;
    if r.is_ok() {
        o.changed.wake_all();
    }
    r
}

/// Which message msgrcv wants.
fn pick(s: &State, kind: i64, flags: u32) -> Option<usize> {
    let all = || s.messages.iter().enumerate();
    if flags & MSG_COPY != 0 {
        return usize::try_from(kind).ok().filter(|n| *n < s.messages.len());
    }
    match kind {
        0 => (!s.messages.is_empty()).then_some(0),
        k if k > 0 && flags & MSG_EXCEPT != 0 => all().find(|(_, m)| m.kind != k).map(|(i, _)| i),
        k if k > 0 => all().find(|(_, m)| m.kind == k).map(|(i, _)| i),
        k => {
            let most = k.checked_neg().unwrap_or(i64::MAX);
            all().filter(|(_, m)| m.kind <= most).min_by_key(|(_, m)| m.kind).map(|(i, _)| i)
        }
    }
}
/// Takes the message out (or copies it, with MSG_COPY).
fn take(s: &mut State, max: usize, kind: i64, flags: u32) -> Option<Result<Message>> {
    let at = pick(s, kind, flags)?;
    let m = s.messages.get(at)?;
    if m.text.len() > max && flags & MSG_NOERROR == 0 {
        return Some(Err(Errno::E2BIG));
    }
    if flags & MSG_COPY != 0 {
        return Some(Ok(Message { kind: m.kind, text: m.text.clone(), _kept: None }));
    }
    let m = s.messages.remove(at)?;
    s.bytes -= m.text.len() as u64;
    (s.pids[1], s.times[1]) = (current_process().pid, now());
    Some(Ok(m))
}

/// msgrcv(id, message, size, type, flags)
pub fn sys_msgrcv(a: &[u64; 6]) -> Result<usize> {
    let (size, kind, flags) = (a[2], a[3] as i64, a[4] as u32);
    if size as i64 > i64::MAX / 2 || (size as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let copy = flags & MSG_COPY != 0;
    if copy && (flags & MSG_EXCEPT != 0 || flags & IPC_NOWAIT == 0) {
        return Err(Errno::EINVAL);
    }
    let o = by_id(a[0])?;
    o.perm.with(|p| p.check(READ))?;
    let max = size.min(MSGMAX) as usize;
    let attempt = || {
        if o.removed.get() {
            return Some(Err(Errno::EIDRM));
        }
        let found = o.body.0.with_mut(|s| take(s, max, kind, flags));
        let nowait = flags & IPC_NOWAIT != 0;
        found.or_else(|| nowait.then_some(Err(Errno::ENOMSG)))
    };
    let m = o.changed.wait_until(None, attempt)??;
    o.changed.wake_all();
    let n = m.text.len().min(max);
    write_val(a[1], m.kind)?;
    write_bytes(a[1] + 8, &m.text[..n])?;
    Ok(n)
}

fn write_stat(o: &Object<Queue>, at: u64) -> Result<()> {
    let mut b = [0; 120];
    o.put_perm(&mut b, 0);
    o.body.0.with(|s| {
        let [sent, received, changed] = s.times;
        let pids = u64::from(s.pids[0] as u32) | u64::from(s.pids[1] as u32) << 32;
        let n = s.messages.len() as u64;
        put(
            &mut b,
            &[(48, sent), (56, received), (64, changed), (72, s.bytes), (80, n), (88, s.limit), (96, pids)],
        );
    });
    write_bytes(at, &b)
}
fn system(cmd: u32, at: u64) -> Result<usize> {
    let sum = |f: fn(&State) -> u64| all(&QUEUES).map(|o| o.body.0.with(f)).sum::<u64>() as i32;
    let mut ints = [0, 0, MSGMAX as i32, MSGMNB as i32, MSGMNI as i32, 16, 0, 0];
    if cmd == MSG_INFO {
        ints[0] = count() as i32;
        ints[1] = sum(|s| s.messages.len() as u64);
        ints[6] = sum(|s| s.bytes);
    } else {
        // Pool in KiB, map and total: what the limits amount to.
        let pool = (MSGMNI as u64 * MSGMNB / 1024) as i32;
        (ints[0], ints[1], ints[6], ints[7]) = (pool, MSGMNB as i32, MSGMNB as i32, 0xffff);
    }
    write_ints(at, &ints)?;
    Ok(QUEUES.with(Ids::highest))
}

/// msgctl(id, cmd, buf)
pub fn sys_msgctl(a: &[u64; 6]) -> Result<usize> {
    let cmd = a[1] as u32 & !IPC_64;
    if (a[0] as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    if matches!(cmd, IPC_INFO | MSG_INFO) {
        return system(cmd, a[2]);
    }
    let by_index = matches!(cmd, MSG_STAT | MSG_STAT_ANY);
    let o = if by_index { QUEUES.with(|q| q.by_index(a[0] as i32))? } else { by_id(a[0])? };
    match cmd {
        IPC_STAT | MSG_STAT | MSG_STAT_ANY => {
            if cmd != MSG_STAT_ANY {
                o.perm.with(|p| p.check(READ))?;
            }
            write_stat(&o, a[2])?;
            return Ok(if by_index { o.id as usize } else { 0 });
        }
        IPC_SET => {
            let limit: u64 = read_val(a[2] + 88)?;
            // CAP_SYS_RESOURCE is nobody's inside, as in a container.
            if limit > MSGMNB {
                return Err(Errno::EPERM);
            }
            o.set_perm(a[2])?;
            o.body.0.with_mut(|s| (s.limit, s.times[2]) = (limit, now()));
            o.changed.wake_all();
        }
        IPC_RMID => {
            o.check_owner()?;
            take_out(&QUEUES, &o);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// /proc/sysvipc/msg.
pub fn text() -> Vec<u8> {
    let mut out = table(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n",
        count(),
    );
    for o in all(&QUEUES) {
        let p = o.perm.get();
        o.body.0.with(|s| {
            let ([st, rt, ct], [send, receive]) = (s.times, s.pids);
            out += &format!(
                "{:10} {:10}  {:4o}  {:10} {:10} {send:5} {receive:5} {:5} {:5} {:5} {:5} {st:10} {rt:10} {ct:10}\n",
                p.key, o.id, p.mode, s.bytes, s.messages.len(), p.uid, p.gid, p.cuid, p.cgid
            );
        });
    }
    out.into_bytes()
}
