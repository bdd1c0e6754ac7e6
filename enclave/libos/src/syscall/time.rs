//! Clocks, sleeping, interval timers, CPU times.
use crate::errno::{Errno, Result};
use crate::process::{current, current_process};
use crate::sched::WaitQueue;
use crate::time::{monotonic_ns, realtime_ns};
use crate::uaccess::{read_val, write_bytes, write_val};

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

fn clock(id: u64) -> Result<u64> {
    match id as i32 {
        0 | 5 | 8 | 11 => Ok(realtime_ns()),
        1 | 4 | 6 | 7 | 9 => Ok(monotonic_ns()),
        2 => Ok(cpu_ns()),
        3 => Ok(cpu_ns()),
        id if id < 0 => Ok(cpu_ns()),
        _ => Err(Errno::EINVAL),
    }
}

/// CPU time of the process so far.
fn cpu_ns() -> u64 {
    let me = current();
    me.charge_cpu();
    me.process.times.get().cpu_ns
}

/// clock_gettime(clock, ts)
pub fn sys_clock_gettime(a: &[u64; 6]) -> Result<usize> {
    write_timespec(a[1], clock(a[0])?)?;
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

fn sleep_until(deadline: u64, remain_at: u64) -> Result<usize> {
    static SLEEPERS: WaitQueue = WaitQueue::new();
    let queue = &SLEEPERS;
    match queue.wait_until::<()>(Some(deadline), || None) {
        Err(Errno::ETIMEDOUT) => Ok(0),
        Err(e) => {
            if remain_at != 0 {
                write_timespec(remain_at, deadline.saturating_sub(monotonic_ns()))?;
            }
            Err(e)
        }
        Ok(()) => Ok(0),
    }
}
/// nanosleep(req, rem)
pub fn sys_nanosleep(a: &[u64; 6]) -> Result<usize> {
    let ns = read_timespec(a[0])?;
    sleep_until(monotonic_ns().saturating_add(ns), a[1])
}
/// clock_nanosleep(clock, flags, req, rem)
pub fn sys_clock_nanosleep(a: &[u64; 6]) -> Result<usize> {
    let ns = read_timespec(a[2])?;
    let now = clock(a[0])?;
    let left = if a[1] & 1 != 0 { ns.saturating_sub(now) } else { ns };
    let remain = if a[1] & 1 != 0 { 0 } else { a[3] };
    if left == 0 {
        return Ok(0);
    }
    sleep_until(monotonic_ns().saturating_add(left), remain)
}
/// alarm(seconds)
pub fn sys_alarm(a: &[u64; 6]) -> Result<usize> {
    let (left, _) = crate::signal::set_itimer(&current_process(), u64::from(a[0] as u32) * NS, 0);
    Ok(left.div_ceil(NS) as usize)
}
/// setitimer(which, new, old): ITIMER_REAL.
pub fn sys_setitimer(a: &[u64; 6]) -> Result<usize> {
    if a[0] > 2 {
        return Err(Errno::EINVAL);
    }
    if a[0] != 0 {
        return Err(Errno::ENOSYS);
    }
    let tv = |at: u64| -> Result<u64> {
        let (s, us): (i64, i64) = (read_val(at)?, read_val(at + 8)?);
        if s < 0 || !(0..1_000_000).contains(&us) {
            return Err(Errno::EINVAL);
        }
        Ok(s as u64 * NS + us as u64 * 1000)
    };
    let (interval, value) = if a[1] == 0 { (0, 0) } else { (tv(a[1])?, tv(a[1] + 16)?) };
    let (left, old) = crate::signal::set_itimer(&current_process(), value, interval);
    write_itimer(a[2], left, old)
}
fn write_itimer(at: u64, left: u64, interval: u64) -> Result<usize> {
    if at != 0 {
        for (i, ns) in [interval, left].iter().enumerate() {
            write_val(at + 16 * i as u64, ns / NS)?;
            write_val(at + 16 * i as u64 + 8, ns % NS / 1000)?;
        }
    }
    Ok(0)
}
/// getitimer(which, value)
pub fn sys_getitimer(a: &[u64; 6]) -> Result<usize> {
    if a[0] > 2 {
        return Err(Errno::EINVAL);
    }
    let (at, interval) = if a[0] == 0 { current_process().itimer.get() } else { (0, 0) };
    let left = if at == 0 { 0 } else { at.saturating_sub(monotonic_ns()).max(1000) };
    write_itimer(a[1], left, interval)
}

/// struct rusage with user time only.
pub fn rusage(cpu: u64) -> [u8; 144] {
    let mut b = [0; 144];
    b[..8].copy_from_slice(&(cpu / NS).to_le_bytes());
    b[8..16].copy_from_slice(&(cpu % NS / 1000).to_le_bytes());
    b
}
/// getrusage(who, usage)
pub fn sys_getrusage(a: &[u64; 6]) -> Result<usize> {
    let p = current_process();
    let cpu = match a[0] as i32 {
        0 | 1 => cpu_ns(),
        -1 => p.times.get().children_ns,
        _ => return Err(Errno::EINVAL),
    };
    let mut b = rusage(cpu);
    if let Some(mm) = p.mm() {
        b[32..40].copy_from_slice(&(mm.peak_pages.get() * 4).to_le_bytes());
    }
    write_bytes(a[1], &b)?;
    Ok(0)
}
/// times(buf)
pub fn sys_times(a: &[u64; 6]) -> Result<usize> {
    const TICK: u64 = 10_000_000;
    if a[0] != 0 {
        let children = current().process.times.get().children_ns;
        for (i, ns) in [cpu_ns(), 0, children, 0].iter().enumerate() {
            write_val(a[0] + 8 * i as u64, ns / TICK)?;
        }
    }
    Ok((monotonic_ns() / TICK) as usize)
}
