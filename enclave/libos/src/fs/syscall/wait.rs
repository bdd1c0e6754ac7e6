//! poll, select, epoll.
use super::super::epoll::Epoll;
use super::super::poll::{self, Watch};
use super::super::prelude::*;
use super::super::uio::try_vec;
use super::super::{OpenFile, env};
use super::{Args, after, fd, int, real_file, timespec};
use crate::sched::Breath;
use crate::uaccess;

/// Deadline of a `struct timespec *`; `None` waits for ever.
fn deadline_of(off: u64) -> Result<Option<u64>> {
    if off == 0 { Ok(None) } else { Ok(Some(after(timespec(off)?))) }
}
/// Deadline of a timeout in ms; negative waits for ever.
fn deadline_ms(v: u64) -> Option<u64> {
    let ms = int(v) as i32;
    (ms >= 0).then(|| after(ms as u64 * 1_000_000))
}
/// May the LibOS keep what waiting for `n` files takes?
fn admit(n: usize) -> Result<()> {
    /// A `Watch` and its number, its queue, the caller's place in that, in vectors that grow.
    const COST: u64 = 128;
    crate::mm::admit(n as u64 * COST)
}
/// Runs `f` with a temporary signal mask, if there is one.
fn with_mask<T>(mask: u64, size: u64, f: impl FnOnce() -> Result<T>) -> Result<T> {
    if mask == 0 {
        return f();
    }
    if size != 8 {
        return Err(EINVAL);
    }
    let old = env::begin_mask(uaccess::read_val(mask)?);
    let r = f();
    env::end_mask(old, matches!(r, Err(EINTR)));
    r
}

fn do_poll(fds: u64, n: u64, deadline: Option<u64>) -> Result<usize> {
    if n > env::nofile() as u64 {
        return Err(EINVAL);
    }
    admit(n as usize)?;
    let mut raw = try_vec(n as usize * 8)?;
    uaccess::read_bytes(fds, &mut raw)?;
    let (t, mut breath) = (env::files(), Breath::begin());
    let mut list = Vec::with_capacity(n as usize);
    let mut index = Vec::with_capacity(n as usize);
    for (i, e) in raw.chunks_exact(8).enumerate() {
        if i % poll::PIECE == poll::PIECE - 1 {
            breath.take();
        }
        let fd = i32::from_le_bytes([e[0], e[1], e[2], e[3]]);
        if fd >= 0 {
            let events = u32::from(u16::from_le_bytes([e[4], e[5]]));
            list.push(Watch { file: t.get(fd).ok(), events, found: 0 });
            index.push(i);
        }
    }
    let ready = poll::wait(&mut list, deadline)?;
    for e in raw.chunks_exact_mut(8) {
        e[6..8].fill(0);
    }
    for (w, i) in list.iter().zip(index) {
        raw[i * 8 + 6..i * 8 + 8].copy_from_slice(&(w.found as u16).to_le_bytes());
    }
    uaccess::write_bytes(fds, &raw)?;
    Ok(ready)
}
/// poll(2).
pub fn sys_poll(a: &Args) -> Result<usize> {
    let deadline = env::restarted().unwrap_or_else(|| deadline_ms(a[2]));
    let r = do_poll(a[0], a[1], deadline);
    if r == Err(EINTR) {
        env::restart_until(deadline);
    }
    r
}
/// Writes the time left, as Linux does for ppoll and pselect6.
fn write_left(off: u64, deadline: Option<u64>, micro: bool) {
    if let Some(d) = deadline {
        let left = d.saturating_sub(crate::time::monotonic_ns());
        let sub = left % 1_000_000_000 / if micro { 1000 } else { 1 };
        // The result of the call counts, not whether this could be written.
        let _ = uaccess::write_val(off, left / 1_000_000_000);
        let _ = uaccess::write_val(off + 8, sub);
    }
}
/// ppoll(2).
pub fn sys_ppoll(a: &Args) -> Result<usize> {
    let deadline = deadline_of(a[2])?;
    let r = with_mask(a[3], a[4], || do_poll(a[0], a[1], deadline));
    write_left(a[2], deadline, false);
    r
}

/// Events that each of the three sets of select stands for, asked and answered.
const SETS: [(u32, u32); 3] = [
    (POLLIN | POLLRDNORM, POLL_IN | POLLRDBAND | POLLHUP | POLLERR),
    (POLLOUT, POLL_OUT | POLLERR),
    (POLLPRI, POLLPRI),
];

fn do_select(n: u64, sets: [u64; 3], deadline: Option<u64>) -> Result<usize> {
    let n = usize::try_from(int(n) as i32).map_err(|_| EINVAL)?.min(env::nofile());
    admit(n)?;
    let bytes = n.div_ceil(64) * 8;
    let t = env::files();
    let mut maps: Vec<Vec<u8>> = Vec::new();
    for off in sets {
        let mut m = vec![0; bytes];
        if off != 0 {
            uaccess::read_bytes(off, &mut m)?;
        }
        maps.push(m);
    }
    let mut list = Vec::new();
    let mut fds = Vec::new();
    for fd in 0..n {
        let asked = |m: &Vec<u8>| m[fd / 8] & (1 << (fd % 8)) != 0;
        let events = maps.iter().zip(SETS).filter(|(m, _)| asked(m)).fold(0, |e, (_, s)| e | s.0);
        if events != 0 {
            list.push(Watch { file: Some(t.get(fd as i32)?), events, found: 0 });
            fds.push(fd);
        }
    }
    poll::wait(&mut list, deadline)?;
    let mut total = 0;
    for (k, (off, (_, answer))) in sets.into_iter().zip(SETS).enumerate() {
        let mut out = vec![0u8; bytes];
        for (w, &fd) in list.iter().zip(&fds) {
            let bit = 1u8 << (fd % 8);
            if maps[k][fd / 8] & bit != 0 && w.found & answer != 0 {
                out[fd / 8] |= bit;
                total += 1;
            }
        }
        if off != 0 {
            uaccess::write_bytes(off, &out)?;
        }
    }
    Ok(total)
}
/// select(2).
pub fn sys_select(a: &Args) -> Result<usize> {
    let deadline = if a[4] == 0 {
        None
    } else {
        let (s, us): (i64, i64) = (uaccess::read_val(a[4])?, uaccess::read_val(a[4] + 8)?);
        if s < 0 || us < 0 {
            return Err(EINVAL);
        }
        Some(after((s as u64).saturating_mul(1_000_000_000).saturating_add((us as u64).saturating_mul(1000))))
    };
    let r = do_select(a[0], [a[1], a[2], a[3]], deadline);
    if a[4] != 0 {
        write_left(a[4], deadline, true);
    }
    r
}
/// pselect6(2).
pub fn sys_pselect6(a: &Args) -> Result<usize> {
    let deadline = deadline_of(a[4])?;
    let (mask, size) =
        if a[5] == 0 { (0, 8) } else { (uaccess::read_val(a[5])?, uaccess::read_val(a[5] + 8)?) };
    let r = with_mask(mask, size, || do_select(a[0], [a[1], a[2], a[3]], deadline));
    write_left(a[4], deadline, false);
    r
}

/// epoll_create1(2).
pub fn sys_epoll_create1(a: &Args) -> Result<usize> {
    if int(a[0]) & !O_CLOEXEC != 0 {
        return Err(EINVAL);
    }
    let f = OpenFile::anonymous(0, "anon_inode:[eventpoll]", Epoll::new(), O_RDWR);
    Ok(env::files().add(f, int(a[0]) & O_CLOEXEC != 0)? as usize)
}
/// epoll_create(2).
pub fn sys_epoll_create(a: &Args) -> Result<usize> {
    if int(a[0]) as i32 <= 0 {
        return Err(EINVAL);
    }
    sys_epoll_create1(&[0; 6])
}
/// epoll_ctl(2).
pub fn sys_epoll_ctl(a: &Args) -> Result<usize> {
    const ADD: u32 = 1;
    const DEL: u32 = 2;
    const MOD: u32 = 3;
    let (set, target) = (real_file(a[0])?, real_file(a[2])?);
    let e = set.downcast::<Epoll>().ok_or(EINVAL)?;
    let op = int(a[1]);
    let fd = fd(a[2]);
    if op == DEL {
        return e.remove(fd, &target).map(|()| 0);
    }
    let mut b = [0u8; 12];
    uaccess::read_bytes(a[3], &mut b)?;
    let events = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    let data = u64::from_le_bytes(core::array::from_fn(|i| b[4 + i]));
    match op {
        ADD => e.add(fd, &target, events, data)?,
        MOD => e.modify(fd, &target, events, data)?,
        _ => return Err(EINVAL),
    }
    Ok(0)
}
/// Bytes of `struct epoll_event`, and most of them that a call may ask for.
const EVENT: usize = 12;
const EVENTS_MAX: i32 = i32::MAX / EVENT as i32;
fn do_epoll_wait(a: &Args, deadline: Option<u64>) -> Result<usize> {
    let max = int(a[2]) as i32;
    let set = real_file(a[0])?;
    let e = set.downcast::<Epoll>().ok_or(EINVAL)?;
    if max <= 0 || max > EVENTS_MAX {
        return Err(EINVAL);
    }
    e.wait(max as usize, deadline, &mut |n, events, data| {
        let mut b = [0; EVENT];
        b[..4].copy_from_slice(&events.to_le_bytes());
        b[4..].copy_from_slice(&data.to_le_bytes());
        uaccess::write_bytes(a[1].wrapping_add((n * EVENT) as u64), &b)
    })
}
/// epoll_wait(2).
pub fn sys_epoll_wait(a: &Args) -> Result<usize> {
    do_epoll_wait(a, deadline_ms(a[3]))
}
/// epoll_pwait(2).
pub fn sys_epoll_pwait(a: &Args) -> Result<usize> {
    with_mask(a[4], a[5], || do_epoll_wait(a, deadline_ms(a[3])))
}
/// epoll_pwait2(2).
pub fn sys_epoll_pwait2(a: &Args) -> Result<usize> {
    let deadline = deadline_of(a[3])?;
    with_mask(a[4], a[5], || do_epoll_wait(a, deadline))
}
