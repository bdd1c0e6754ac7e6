//! pidfd_open, pidfd_send_signal, pidfd_getfd.
use crate::errno::{Errno, Result};
use crate::fs::OpenFile;
use crate::fs::pidfd::{self, PidFd};
use crate::process::{Ids, Process, Task, current, current_process};
use crate::signal::{self, Info};
use crate::uaccess::read_val;
use alloc::sync::Arc;

const PIDFD_NONBLOCK: u32 = 0o4000;

/// pidfd_open(pid, flags)
pub fn sys_pidfd_open(a: &[u64; 6]) -> Result<usize> {
    let (pid, flags) = (a[0] as i32, a[1] as u32);
    if pid <= 0 || flags & !PIDFD_NONBLOCK != 0 {
        return Err(Errno::EINVAL);
    }
    let process = Process::by_pid(pid);
    // A thread that does not lead its group has no pidfd.
    let absent = if Task::by_tid(pid).is_some() { Errno::EINVAL } else { Errno::ESRCH };
    let file = pidfd::open(&process.ok_or(absent)?, flags);
    Ok(current_process().files().add(file, true)? as usize)
}

/// The pidfd behind a descriptor.
pub fn get(fd: u64) -> Result<Arc<OpenFile>> {
    let f = current_process().files().get(fd as i32)?;
    if f.downcast::<PidFd>().is_some() { Ok(f) } else { Err(Errno::EBADF) }
}
/// For sending, a process's directory in /proc names it too.
fn target_of(fd: u64) -> Result<Arc<Process>> {
    let f = current_process().files().get(fd as i32)?;
    match crate::fs::proc::process_of_directory(&f) {
        Some(p) => p,
        None => process_of(fd),
    }
}
fn process_of(fd: u64) -> Result<Arc<Process>> {
    get(fd)?.downcast::<PidFd>().ok_or(Errno::EBADF)?.process()
}

/// pidfd_send_signal(pidfd, sig, info, flags)
pub fn sys_pidfd_send_signal(a: &[u64; 6]) -> Result<usize> {
    if a[3] as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let sig = a[1] as i32;
    let p = target_of(a[0])?;
    let info = if a[2] == 0 { Info::user() } else { read_info(a[2], sig, &p)? };
    if !(0..=64).contains(&sig) {
        return Err(Errno::EINVAL);
    }
    signal::check_may_send(&p, sig)?;
    if sig != 0 {
        signal::post_process(&p, sig, info)?;
    }
    Ok(0)
}
/// A siginfo from the program, which may not pretend to come from the kernel or from kill(2).
fn read_info(at: u64, sig: i32, target: &Arc<Process>) -> Result<Info> {
    const SI_TKILL: i32 = -6;
    let (number, code): (i32, i32) = (read_val(at)?, read_val(at + 8)?);
    if number != sig {
        return Err(Errno::EINVAL);
    }
    if (code >= 0 || code == SI_TKILL) && !Arc::ptr_eq(target, &current().process) {
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
