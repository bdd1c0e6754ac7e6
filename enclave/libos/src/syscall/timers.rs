//! POSIX timers: timer_create and kin. The timers themselves are in `crate::timers`.
use super::time::{read_timespec, write_timespec};
use crate::errno::{Errno, Result};
use crate::process::caps;
use crate::process::{Task, current_process};
use crate::timers::{self, Clock, Notify};
use crate::uaccess::{read_val, write_val};
use alloc::sync::Arc;

/// The clocks that can drive a timer.
fn timer_clock(id: u64) -> Result<Clock> {
    match id as i32 {
        // Clocks that only tell the time.
        4..=6 => Err(Errno::EOPNOTSUPP),
        8 | 9 if !crate::process::cred().capable(caps::WAKE_ALARM) => Err(Errno::EPERM),
        // Another process's CPU time: nobody would look at it in time.
        _ => match super::time::clock_of(id)? {
            Clock::Process(pid) if pid != current_process().pid => Err(Errno::EINVAL),
            clock => Ok(clock),
        },
    }
}

/// struct sigevent.
fn read_sigevent(at: u64) -> Result<(Notify, u64)> {
    const SIGEV_SIGNAL: i32 = 0;
    const SIGEV_NONE: i32 = 1;
    const SIGEV_THREAD: i32 = 2;
    const SIGEV_THREAD_ID: i32 = 4;
    let (value, sig, how): (u64, i32, i32) = (read_val(at)?, read_val(at + 8)?, read_val(at + 12)?);
    let valid = (1..=64).contains(&sig);
    let notify = match how {
        SIGEV_NONE => Notify::None,
        SIGEV_SIGNAL | SIGEV_THREAD if valid => Notify::Process(sig),
        SIGEV_THREAD_ID if valid => {
            let tid: i32 = read_val(at + 16)?;
            let mine = current_process();
            Task::by_tid(tid).filter(|t| Arc::ptr_eq(&t.process, &mine)).ok_or(Errno::EINVAL)?;
            Notify::Thread(tid, sig)
        }
        _ => return Err(Errno::EINVAL),
    };
    Ok((notify, value))
}

/// timer_create(clock, sigevent, id)
pub fn sys_timer_create(a: &[u64; 6]) -> Result<usize> {
    let clock = timer_clock(a[0])?;
    let how = if a[1] == 0 { None } else { Some(read_sigevent(a[1])?) };
    let p = current_process();
    let id = timers::create(&p, clock, how)?;
    if let Err(e) = write_val(a[2], id) {
        timers::delete(&p, id)?;
        return Err(e);
    }
    Ok(0)
}

fn write_itimerspec(at: u64, (left, every): (u64, u64)) -> Result<usize> {
    write_timespec(at, every)?;
    write_timespec(at + 16, left)?;
    Ok(0)
}

/// timer_settime(id, flags, new, old)
pub fn sys_timer_settime(a: &[u64; 6]) -> Result<usize> {
    const TIMER_ABSTIME: u64 = 1;
    if a[2] == 0 {
        return Err(Errno::EINVAL);
    }
    let (every, value) = (read_timespec(a[2])?, read_timespec(a[2] + 16)?);
    let old = timers::set(&current_process(), a[0] as i32, value, every, a[1] & TIMER_ABSTIME != 0)?;
    if a[3] == 0 { Ok(0) } else { write_itimerspec(a[3], old) }
}
/// timer_gettime(id, value)
pub fn sys_timer_gettime(a: &[u64; 6]) -> Result<usize> {
    write_itimerspec(a[1], timers::get(&current_process(), a[0] as i32)?)
}
/// timer_getoverrun(id)
pub fn sys_timer_getoverrun(a: &[u64; 6]) -> Result<usize> {
    timers::overrun(&current_process(), a[0] as i32).map(|n| n as usize)
}
/// timer_delete(id)
pub fn sys_timer_delete(a: &[u64; 6]) -> Result<usize> {
    timers::delete(&current_process(), a[0] as i32).map(|()| 0)
}
