//! Calls about other processes: their memory, what they share, and unshare.
use crate::errno::{Errno, Result};
use crate::fs::pidfd::PidFd;
use crate::mm::{Mm, PAGE};
use crate::process::{Ids, Process, Task, caps, current_mm, current_process};
use crate::sched::Breath;
use crate::uaccess::{read_bytes, read_iovecs, write_bytes};
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_linux_abi::clone as cl;

/// May the caller look into the task?
fn check_seen(t: &Task) -> Result<()> {
    if t.may_be_seen(Ids::Real) { Ok(()) } else { Err(Errno::EPERM) }
}

fn target(pid: u64) -> Result<Arc<Task>> {
    Task::by_tid(pid as i32).ok_or(Errno::ESRCH)
}

/// Most bytes between looks at the clock of others: the other memory may be large.
const PIECE: usize = PAGE as usize;

/// Copies between the caller's ranges and another process's; what was done before a fault counts.
fn transfer(a: &[u64; 6], one: fn(&Mm, u64, u64, &mut [u8]) -> Result<()>) -> Result<usize> {
    if a[5] != 0 {
        return Err(Errno::EINVAL);
    }
    let (local, remote) = (read_iovecs(a[1], a[2])?, read_iovecs(a[3], a[4])?);
    if local.iter().all(|r| r.1 == 0) || remote.iter().all(|r| r.1 == 0) {
        return Ok(0);
    }
    let t = target(a[0])?;
    let mm = t.process.mm().ok_or(Errno::ESRCH)?;
    if !Arc::ptr_eq(&mm, &current_mm()) {
        check_seen(&t)?;
    }
    let mut buf = [0u8; PIECE];
    let (mut mine, mut its) = (Ranges::new(local), Ranges::new(remote));
    let (mut done, mut breath) = (0, Breath::begin());
    while let (Some((at, n)), Some((there, m))) = (mine.rest(), its.rest()) {
        let to_page = PAGE - there % PAGE;
        let len = n.min(m).min(to_page) as usize;
        if let Err(e) = one(&mm, at, there, &mut buf[..len]) {
            return if done > 0 { Ok(done) } else { Err(e) };
        }
        mine.advance(len as u64);
        its.advance(len as u64);
        done += len;
        breath.take();
    }
    Ok(done)
}

/// Ranges with a position.
struct Ranges {
    list: Vec<(u64, u64)>,
    index: usize,
    at: u64,
}
impl Ranges {
    fn new(list: Vec<(u64, u64)>) -> Self {
        Self { list, index: 0, at: 0 }
    }
    /// What is left of the range at the position.
    fn rest(&mut self) -> Option<(u64, u64)> {
        loop {
            let (start, len) = *self.list.get(self.index)?;
            if self.at < len {
                return Some((start.wrapping_add(self.at), len - self.at));
            }
            self.index += 1;
            self.at = 0;
        }
    }
    fn advance(&mut self, n: u64) {
        self.at += n;
    }
}

/// process_vm_readv(pid, local, n, remote, m, flags)
pub fn sys_process_vm_readv(a: &[u64; 6]) -> Result<usize> {
    transfer(a, |mm, at, there, buf| {
        mm.read_foreign(there, buf)?;
        write_bytes(at, buf)
    })
}

/// process_vm_writev(pid, local, n, remote, m, flags)
pub fn sys_process_vm_writev(a: &[u64; 6]) -> Result<usize> {
    transfer(a, |mm, at, there, buf| {
        read_bytes(at, buf)?;
        mm.write_foreign(there, buf)
    })
}

/// An order of two numbers as kcmp tells it.
fn order(a: u64, b: u64) -> usize {
    match a.cmp(&b) {
        core::cmp::Ordering::Equal => 0,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Greater => 2,
    }
}

/// kcmp(pid1, pid2, type, idx1, idx2)
pub fn sys_kcmp(a: &[u64; 6]) -> Result<usize> {
    const FILE: u32 = 0;
    const VM: u32 = 1;
    const FILES: u32 = 2;
    const FS: u32 = 3;
    const SIGHAND: u32 = 4;
    const IO: u32 = 5;
    const SYSVSEM: u32 = 6;
    let (p, q) = (target(a[0])?, target(a[1])?);
    check_seen(&p)?;
    check_seen(&q)?;
    let (p, q) = (&p.process, &q.process);
    match a[2] as u32 {
        FILE => Ok(order(p.files().get(a[3] as i32)?.id, q.files().get(a[4] as i32)?.id)),
        VM => {
            let slot = |p: &Arc<Process>| p.mm().map_or(u64::MAX, |m| u64::from(m.slot().index()));
            Ok(order(slot(p), slot(q)))
        }
        FILES => Ok(order(p.files().id, q.files().id)),
        FS if Arc::ptr_eq(&p.fs(), &q.fs()) => Ok(0),
        FS | SIGHAND => Ok(order(p.pid as u64, q.pid as u64)),
        // Nobody has a context of block I/O of its own; semaphore adjustments are each process's.
        IO => Ok(0),
        SYSVSEM => Ok(order(p.pid as u64, q.pid as u64)),
        _ => Err(Errno::EINVAL),
    }
}

fn of_pidfd(fd: u64) -> Result<Arc<Process>> {
    super::pidfd::get(fd)?.downcast::<PidFd>().ok_or(Errno::EBADF)?.process()
}

/// process_madvise(pidfd, iov, n, advice, flags): hints, which change nothing here but have to be right.
pub fn sys_process_madvise(a: &[u64; 6]) -> Result<usize> {
    const MADV_WILLNEED: u32 = 3;
    const MADV_COLD: u32 = 20;
    const MADV_PAGEOUT: u32 = 21;
    const MADV_COLLAPSE: u32 = 25;
    if a[4] as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let list = read_iovecs(a[1], a[2])?;
    let p = of_pidfd(a[0])?;
    if !matches!(a[3] as u32, MADV_WILLNEED | MADV_COLD | MADV_PAGEOUT | MADV_COLLAPSE) {
        return Err(Errno::EINVAL);
    }
    if !p.may_be_seen(Ids::Files) {
        return Err(Errno::EACCES);
    }
    if !Arc::ptr_eq(&p, &current_process()) && !crate::process::cred().capable(caps::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    let mm = p.mm().ok_or(Errno::ESRCH)?;
    let mut done = 0u64;
    for (at, len) in list {
        let end = at.checked_add(len).ok_or(Errno::EINVAL)?;
        let wrong = if at % PAGE != 0 {
            Some(Errno::EINVAL)
        } else {
            (len > 0 && !mm.is_mapped(at..end)).then_some(Errno::ENOMEM)
        };
        match wrong {
            Some(e) if done == 0 => return Err(e),
            Some(_) => break,
            None => done += len,
        }
    }
    Ok(done as usize)
}

/// process_mrelease(pidfd, flags): memory of a process that is ending goes with it, at once.
pub fn sys_process_mrelease(a: &[u64; 6]) -> Result<usize> {
    if a[1] as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let p = of_pidfd(a[0])?;
    if p.exiting.get().is_some() { Ok(0) } else { Err(Errno::EINVAL) }
}

/// unshare(flags): descriptors and the directory context; there are no other namespaces.
pub fn sys_unshare(a: &[u64; 6]) -> Result<usize> {
    const ALONE: u64 = cl::CLONE_THREAD | cl::CLONE_SIGHAND | cl::CLONE_VM;
    const KNOWN: u64 = cl::CLONE_FILES | cl::CLONE_FS | cl::CLONE_SYSVSEM | ALONE;
    let p = current_process();
    if a[0] & !(KNOWN | cl::NAMESPACES) != 0 || a[0] & ALONE != 0 && p.tasks.with(Vec::len) > 1 {
        return Err(Errno::EINVAL);
    }
    if a[0] & cl::NAMESPACES != 0 {
        return Err(Errno::EPERM);
    }
    if a[0] & cl::CLONE_FILES != 0 {
        crate::fs::unshare_files()?;
    }
    if a[0] & cl::CLONE_FS != 0 {
        let own = p.fs().dup();
        drop(p.fs.replace(own));
    }
    Ok(0)
}
