//! Clocks, sleeping, interval timers, CPU times.
use crate::errno::{Errno, Result};
use crate::process::usage::Usage;
use crate::process::{Process, Restart, Task, current, current_process};
use crate::sched::WaitQueue;
use crate::time::{monotonic_ns, realtime_ns};
use crate::timers::{self, Clock, Itimer};
use crate::uaccess::{read_bytes, read_val, write_bytes, write_val};
use alloc::sync::Arc;

const NS: u64 = 1_000_000_000;

/// Reads a timespec as ns; EINVAL if it is not normalized.
pub fn read_timespec(at: u64) -> Result<u64> {
    let (s, ns): (i64, i64) = (read_val(at)?, read_val(at + 8)?);
    if s < 0 || !(0..NS as i64).contains(&ns) {
        return Err(Errno::EINVAL);
    }
    Ok((s as u64).saturating_mul(NS).saturating_add(ns as u64))
}
/// Writes ns as a timespec.
pub fn write_timespec(at: u64, ns: u64) -> Result<()> {
    write_val(at, ns / NS)?;
    write_val(at + 8, ns % NS)
}

/// What a clock id measures. Negative ids are CPU clocks of a process or thread: `!pid << 3`, 4 for a thread, kind.
pub fn clock_of(id: u64) -> Result<Clock> {
    let me = current();
    match id as i32 {
        0 | 5 | 8 | 11 => Ok(Clock::Real),
        1 | 4 | 6 | 7 | 9 => Ok(Clock::Mono),
        2 => Ok(Clock::Process(me.process.pid)),
        3 => Ok(Clock::Thread(me.tid)),
        id if id < 0 && id & 3 != 3 => match (!(id >> 3), id & 4 != 0) {
            (0, false) => Ok(Clock::Process(me.process.pid)),
            (0, true) => Ok(Clock::Thread(me.tid)),
            (pid, false) => Process::by_pid(pid).map(|p| Clock::Process(p.pid)).ok_or(Errno::EINVAL),
            (tid, true) => Task::by_tid(tid)
                .filter(|t| Arc::ptr_eq(&t.process, &me.process))
                .map(|t| Clock::Thread(t.tid))
                .ok_or(Errno::EINVAL),
        },
        _ => Err(Errno::EINVAL),
    }
}
fn clock(id: u64) -> Result<u64> {
    clock_of(id).map(Clock::now)
}

/// clock_gettime(clock, ts)
pub fn sys_clock_gettime(a: &[u64; 6]) -> Result<usize> {
    let clock = clock_of(a[0])?;
    if clock.is_cpu() {
        timers::on_cpu_clock(&current_process());
    }
    write_timespec(a[1], clock.now())?;
    Ok(0)
}
/// clock_getres(clock, ts)
pub fn sys_clock_getres(a: &[u64; 6]) -> Result<usize> {
    clock(a[0])?;
    if a[1] != 0 {
        write_timespec(a[1], if matches!(a[0], 5 | 6) { 4_000_000 } else { 1 })?;
    }
    Ok(0)
}
/// clock_settime: the host's clock is not the guest's to set.
pub fn sys_clock_settime(_a: &[u64; 6]) -> Result<usize> {
    Err(Errno::EPERM)
}
/// adjtimex(timex): what a clock shows that nobody disciplines, for it is the host's.
pub fn sys_adjtimex(a: &[u64; 6]) -> Result<usize> {
    timex(0, a[0])
}
/// clock_adjtime(clock, timex)
pub fn sys_clock_adjtime(a: &[u64; 6]) -> Result<usize> {
    timex(a[0], a[1])
}
/// Reads and fills in a `struct timex`; the state of the clock.
fn timex(clock: u64, at: u64) -> Result<usize> {
    /// Bytes of the structure.
    const SIZE: usize = 208;
    /// adjtime(3) asks what is left of the last correction.
    const ADJ_OFFSET_SS_READ: u32 = 0xa001;
    const STA_UNSYNC: u32 = 0x40;
    const TIME_ERROR: usize = 5;
    let mut b = [0u8; SIZE];
    read_bytes(at, &mut b)?;
    if clock as i32 != 0 {
        return clock_of(clock).and(Err(Errno::EOPNOTSUPP));
    }
    let modes = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    if modes != 0 && modes != ADJ_OFFSET_SS_READ {
        return Err(Errno::EPERM);
    }
    let now = realtime_ns();
    let words = [
        // Of a clock that NTP never set: most and estimated error (us), time constant, precision (us), tolerance (ppm << 16),
        // the time, us of a tick.
        (24, 16_000_000),
        (32, 16_000_000),
        (48, 2),
        (56, 1),
        (64, 500 << 16),
        (72, now / NS),
        (80, now % NS / 1000),
        (88, 10_000),
    ];
    b[4..].fill(0);
    b[40..44].copy_from_slice(&STA_UNSYNC.to_le_bytes());
    for (i, w) in words {
        b[i..i + 8].copy_from_slice(&u64::to_le_bytes(w));
    }
    write_bytes(at, &b)?;
    Ok(TIME_ERROR)
}
/// gettimeofday(tv, tz)
pub fn sys_gettimeofday(a: &[u64; 6]) -> Result<usize> {
    let now = realtime_ns();
    if a[0] != 0 {
        write_val(a[0], now / NS)?;
        write_val(a[0] + 8, now % NS / 1000)?;
    }
    if a[1] != 0 {
        write_val(a[1], 0u64)?;
    }
    Ok(0)
}
/// time(at)
pub fn sys_time(a: &[u64; 6]) -> Result<usize> {
    let s = realtime_ns() / NS;
    if a[0] != 0 {
        write_val(a[0], s)?;
    }
    Ok(s as usize)
}

/// `remain_at`: where the time left goes, 0 for nowhere; `None` for a sleep until a given time.
fn sleep_until(deadline: u64, remain_at: Option<u64>) -> Result<usize> {
    static SLEEPERS: WaitQueue = WaitQueue::new();
    let queue = &SLEEPERS;
    match queue.wait_until::<()>(Some(deadline), || None) {
        Err(Errno::ETIMEDOUT) => Ok(0),
        Err(e) => {
            if let Some(at) = remain_at {
                current().restart.set(Some(Restart::Until(Some(deadline))));
                if at != 0 {
                    write_timespec(at, deadline.saturating_sub(monotonic_ns()))?;
                }
            }
            Err(e)
        }
        Ok(()) => Ok(0),
    }
}
/// nanosleep(req, rem)
pub fn sys_nanosleep(a: &[u64; 6]) -> Result<usize> {
    let ns = read_timespec(a[0])?;
    let again = current().restarted().flatten();
    sleep_until(again.unwrap_or_else(|| monotonic_ns().saturating_add(ns)), Some(a[1]))
}
/// clock_nanosleep(clock, flags, req, rem)
pub fn sys_clock_nanosleep(a: &[u64; 6]) -> Result<usize> {
    let ns = read_timespec(a[2])?;
    let clock = clock_of(a[0])?;
    if matches!(clock, Clock::Thread(_)) {
        return Err(Errno::EINVAL);
    }
    let now = clock.now();
    let until = if a[1] & 1 != 0 { ns } else { now.saturating_add(ns) };
    let remain = (a[1] & 1 == 0).then_some(a[3]);
    if until <= now {
        return Ok(0);
    }
    if clock.is_cpu() {
        return sleep_cpu(clock, until);
    }
    let again = current().restarted().flatten();
    sleep_until(again.unwrap_or_else(|| monotonic_ns().saturating_add(until - now)), remain)
}
/// Sleeps until other threads used up CPU time: looks whenever they may have.
fn sleep_cpu(clock: Clock, until: u64) -> Result<usize> {
    loop {
        let now = clock.now();
        if now >= until {
            return Ok(0);
        }
        let wait = ((until - now) / u64::from(occlum_rt::vcpu::count())).max(1_000_000);
        sleep_until(monotonic_ns().saturating_add(wait), None)?;
    }
}
/// alarm(seconds)
pub fn sys_alarm(a: &[u64; 6]) -> Result<usize> {
    let p = current_process();
    let (left, _) = timers::set_itimer(&p, Itimer::Real, u64::from(a[0] as u32) * NS, 0);
    Ok(left.div_ceil(NS) as usize)
}
fn itimer(which: u64) -> Result<Itimer> {
    match which as i32 {
        0 => Ok(Itimer::Real),
        1 => Ok(Itimer::Virtual),
        2 => Ok(Itimer::Prof),
        _ => Err(Errno::EINVAL),
    }
}
/// A timeval as ns.
fn read_timeval(at: u64) -> Result<u64> {
    let (s, us): (i64, i64) = (read_val(at)?, read_val(at + 8)?);
    if s < 0 || !(0..1_000_000).contains(&us) {
        return Err(Errno::EINVAL);
    }
    Ok((s as u64).saturating_mul(NS).saturating_add(us as u64 * 1000))
}
/// setitimer(which, new, old)
pub fn sys_setitimer(a: &[u64; 6]) -> Result<usize> {
    let which = itimer(a[0])?;
    let (every, value) = if a[1] == 0 { (0, 0) } else { (read_timeval(a[1])?, read_timeval(a[1] + 16)?) };
    write_itimer(a[2], timers::set_itimer(&current_process(), which, value, every))
}
fn write_itimer(at: u64, (left, every): (u64, u64)) -> Result<usize> {
    if at != 0 {
        for (i, ns) in [every, left].iter().enumerate() {
            write_val(at + 16 * i as u64, ns / NS)?;
            write_val(at + 16 * i as u64 + 8, ns % NS / 1000)?;
        }
    }
    Ok(0)
}
/// getitimer(which, value)
pub fn sys_getitimer(a: &[u64; 6]) -> Result<usize> {
    write_itimer(a[1], timers::get_itimer(&current_process(), itimer(a[0])?))
}

/// `struct rusage`. No fault counts as major, and what Linux leaves at 0 stays 0.
fn rusage(mut u: Usage) -> [u8; 144] {
    let (user, system) = u.split();
    let mut words = [0u64; 18];
    words[..4].copy_from_slice(&[user / NS, user % NS / 1000, system / NS, system % NS / 1000]);
    (words[4], words[8]) = (u.peak_kib, u.faults);
    words[16..].copy_from_slice(&u.switches);
    let mut b = [0; 144];
    b.chunks_exact_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
    b
}
/// That of a child that has ended, with its own children.
pub fn rusage_of(p: &Process) -> [u8; 144] {
    let mut all = p.usage();
    all.add(p.times.get().children);
    rusage(all)
}
/// getrusage(who, usage)
pub fn sys_getrusage(a: &[u64; 6]) -> Result<usize> {
    let p = current_process();
    let used = match a[0] as i32 {
        0 => p.usage(),
        1 => current().usage_now(&p),
        -1 => p.times.get().children,
        _ => return Err(Errno::EINVAL),
    };
    write_bytes(a[1], &rusage(used))?;
    Ok(0)
}
/// times(buf)
pub fn sys_times(a: &[u64; 6]) -> Result<usize> {
    const TICK: u64 = 10_000_000;
    if a[0] != 0 {
        let p = current_process();
        let (own, children) = (p.usage().split(), p.times.get().children.split());
        for (i, ns) in [own.0, own.1, children.0, children.1].iter().enumerate() {
            write_val(a[0] + 8 * i as u64, ns / TICK)?;
        }
    }
    Ok((monotonic_ns() / TICK) as usize)
}
