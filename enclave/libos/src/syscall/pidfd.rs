//! pidfd_open, pidfd_send_signal, pidfd_getfd.
use crate::errno::{Errno, Result};
use crate::fs::OpenFile;
use crate::fs::pidfd::{self, PIDFD_THREAD, PidFd};
use crate::process::{Ids, Process, Task, current, current_process};
use crate::signal::{self, Info};
use crate::uaccess::read_val;
use alloc::sync::Arc;

const PIDFD_NONBLOCK: u32 = 0o4000;

const PIDFD_SIGNAL_THREAD: u32 = 1;
const PIDFD_SIGNAL_THREAD_GROUP: u32 = 2;
const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 4;

/// pidfd_open(pid, flags)
pub fn sys_pidfd_open(a: &[u64; 6]) -> Result<usize> {
    let (pid, flags) = (a[0] as i32, a[1] as u32);
    if pid <= 0 || flags & !(PIDFD_NONBLOCK | PIDFD_THREAD) != 0 {
        return Err(Errno::EINVAL);
    }
    let (process, task) = (Process::by_pid(pid), Task::by_tid(pid));
    let file = match (process, task) {
        (_, Some(t)) if flags & PIDFD_THREAD != 0 => pidfd::open_thread(&t, flags),
        (Some(p), _) if flags & PIDFD_THREAD == 0 => pidfd::open(&p, flags),
        // A thread that does not lead its group is no process.
        (None, Some(_)) => return Err(Errno::ENOENT),
        _ => return Err(Errno::ESRCH),
    };
    Ok(current_process().files().add(file, true)? as usize)
}

/// The pidfd behind a descriptor.
pub fn get(fd: u64) -> Result<Arc<OpenFile>> {
    let f = current_process().files().get(fd as i32)?;
    if f.downcast::<PidFd>().is_some() { Ok(f) } else { Err(Errno::EBADF) }
}
/// For sending, a process's directory in /proc names it too.
fn target_of(fd: u64) -> Result<(Arc<Process>, i32, u32)> {
    let f = current_process().files().get(fd as i32)?;
    match crate::fs::proc::process_of_directory(&f) {
        Some(p) => p.map(|p| (p.clone(), p.pid, PIDFD_SIGNAL_THREAD_GROUP)),
        None => {
            let file = get(fd)?;
            let f = file.downcast::<PidFd>().ok_or(Errno::EBADF)?;
            let whom = if f.is_of_thread() { PIDFD_SIGNAL_THREAD } else { PIDFD_SIGNAL_THREAD_GROUP };
            Ok((f.process()?, f.pid(), whom))
        }
    }
}
fn process_of(fd: u64) -> Result<Arc<Process>> {
    get(fd)?.downcast::<PidFd>().ok_or(Errno::EBADF)?.process()
}

/// pidfd_send_signal(pidfd, sig, info, flags): what the flags say, or what the pidfd stands for, is sent to.
pub fn sys_pidfd_send_signal(a: &[u64; 6]) -> Result<usize> {
    let flags = a[3] as u32;
    if !matches!(flags, 0 | PIDFD_SIGNAL_THREAD | PIDFD_SIGNAL_THREAD_GROUP | PIDFD_SIGNAL_PROCESS_GROUP) {
        return Err(Errno::EINVAL);
    }
    let sig = a[1] as i32;
    let (p, id, own) = target_of(a[0])?;
    let whom = if flags == 0 { own } else { flags };
    let info = match (a[2], whom) {
        (0, PIDFD_SIGNAL_THREAD) => Info::tkill(),
        (0, _) => Info::user(),
        (at, _) => read_info(at, sig, id == current().tid && whom != PIDFD_SIGNAL_PROCESS_GROUP)?,
    };
    if !(0..=64).contains(&sig) {
        return Err(Errno::EINVAL);
    }
    match whom {
        PIDFD_SIGNAL_THREAD => signal::queue_to_thread(None, id, sig, info)?,
        PIDFD_SIGNAL_PROCESS_GROUP => signal::queue_to_group(id, sig, info)?,
        _ => {
            signal::check_may_send(&p, sig)?;
            if sig != 0 {
                signal::post_process(&p, sig, info)?;
            }
        }
    }
    Ok(0)
}
/// A siginfo from the program, which may not pretend to come from the kernel or from kill(2).
fn read_info(at: u64, sig: i32, to_self: bool) -> Result<Info> {
    const SI_TKILL: i32 = -6;
    let (number, code): (i32, i32) = (read_val(at)?, read_val(at + 8)?);
    if number != sig {
        return Err(Errno::EINVAL);
    }
    if (code >= 0 || code == SI_TKILL) && !to_self {
        return Err(Errno::EPERM);
    }
    Ok(Info { code, payload: [read_val(at + 16)?, read_val(at + 24)?, 0, 0] })
}

/// pidfd_getfd(pidfd, fd, flags)
pub fn sys_pidfd_getfd(a: &[u64; 6]) -> Result<usize> {
    if a[2] as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let p = process_of(a[0])?;
    if !p.may_be_seen(Ids::Real) {
        return Err(Errno::EPERM);
    }
    if p.exit_status.get().is_some() {
        return Err(Errno::ESRCH);
    }
    let file = p.files().get(a[1] as i32)?;
    Ok(current_process().files().add(file, true)? as usize)
}
