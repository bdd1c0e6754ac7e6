//! Processes: clone and kin, exec, exit, wait, ids, groups and sessions, limits, prctl, scheduling calls.
use crate::errno::{Errno, Result};
use crate::fs::pidfd::PidFd;
use crate::process::{self, CloneRequest, Groups, Process, WaitFor, caps, current, current_process};
use crate::uaccess::{read_bytes, read_cstr, read_string_array, read_val, write_bytes, write_val};
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_linux_abi::{clone as cl, signo, wait as w};

/// fork()
pub fn sys_fork(_a: &[u64; 6]) -> Result<usize> {
    clone(CloneRequest { exit_signal: signo::SIGCHLD as i32, ..CloneRequest::default() })
}
/// vfork()
pub fn sys_vfork(_a: &[u64; 6]) -> Result<usize> {
    let flags = cl::CLONE_VM | cl::CLONE_VFORK;
    clone(CloneRequest { flags, exit_signal: signo::SIGCHLD as i32, ..CloneRequest::default() })
}
/// clone(flags, stack, parent_tid, child_tid, tls)
pub fn sys_clone(a: &[u64; 6]) -> Result<usize> {
    const BOTH: u64 = cl::CLONE_PIDFD | cl::CLONE_PARENT_SETTID;
    if a[0] & BOTH == BOTH {
        return Err(Errno::EINVAL);
    }
    clone(CloneRequest {
        pidfd: a[2],
        flags: a[0] & 0xffff_ff00,
        exit_signal: (a[0] & 0xff) as i32,
        stack: a[1],
        parent_tid: a[2],
        child_tid: a[3],
        tls: a[4],
    })
}
/// clone3(args, size): the first eight words; set_tid and cgroups are not supported.
pub fn sys_clone3(a: &[u64; 6]) -> Result<usize> {
    const KNOWN: u64 = 0x1_ffff_ff00 & !cl::CLONE_DETACHED;
    let size = a[1] as usize;
    if size < 64 {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let mut b = [0u8; 88];
    read_bytes(a[0], &mut b[..size.min(88)])?;
    let word = |i: usize| u64::from_le_bytes(core::array::from_fn(|k| b[8 * i + k]));
    let flags = word(0);
    if (88..size).any(|i| read_val::<u8>(a[0] + i as u64) != Ok(0)) {
        return Err(Errno::E2BIG);
    }
    if flags & 0xff != 0 || flags & !KNOWN != 0 || word(8) != 0 || word(9) != 0 || word(4) > 64 {
        return Err(Errno::EINVAL);
    }
    let stack = if word(5) == 0 { 0 } else { word(5).wrapping_add(word(6)) };
    if (word(5) == 0) != (word(6) == 0) {
        return Err(Errno::EINVAL);
    }
    clone(CloneRequest {
        pidfd: word(1),
        flags,
        exit_signal: word(4) as i32,
        stack,
        parent_tid: word(3),
        child_tid: word(2),
        tls: word(7),
    })
}
fn clone(r: CloneRequest) -> Result<usize> {
    process::do_clone(&r).map(|tid| tid as usize)
}

/// execve(path, argv, envp)
pub fn sys_execve(a: &[u64; 6]) -> Result<usize> {
    let path = read_path(a[0])?;
    exec(crate::fs::open_exec(&path)?, &path, a[1], a[2])
}
/// execveat(dirfd, path, argv, envp, flags): what has no path of its own is called by its descriptor.
pub fn sys_execveat(a: &[u64; 6]) -> Result<usize> {
    const AT_FDCWD: i32 = -100;
    const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
    const AT_EMPTY_PATH: u32 = 0x1000;
    let (fd, path, flags) = (a[0] as i32, read_path(a[1])?, a[4] as u32);
    if path.is_empty() && flags & AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = crate::fs::open_exec_at(fd, &path, flags)?;
    let shown = match path.first() {
        Some(b'/') => path,
        Some(_) if fd == AT_FDCWD => path,
        Some(_) => [alloc::format!("/dev/fd/{fd}/").as_bytes(), &path].concat(),
        None => alloc::format!("/dev/fd/{fd}").into_bytes(),
    };
    exec(file, &shown, a[2], a[3])
}
fn exec(file: Arc<crate::fs::OpenFile>, path: &[u8], argv: u64, envp: u64) -> Result<usize> {
    let argv = read_string_array(argv, crate::loader::ARG_MAX)?;
    let envp = read_string_array(envp, crate::loader::ARG_MAX)?;
    crate::loader::exec_current(file, path, argv, envp)?;
    Ok(0)
}
fn read_path(at: u64) -> Result<Vec<u8>> {
    read_cstr(at, 4095)
}

/// exit(status): this thread.
pub fn sys_exit(a: &[u64; 6]) -> Result<usize> {
    current().must_exit.set(Some((a[0] as i32 & 0xff) << 8));
    Ok(0)
}
/// exit_group(status)
pub fn sys_exit_group(a: &[u64; 6]) -> Result<usize> {
    process::begin_group_exit(&current_process(), (a[0] as i32 & 0xff) << 8);
    Ok(0)
}

/// wait4(pid, status, options, rusage)
pub fn sys_wait4(a: &[u64; 6]) -> Result<usize> {
    let options = a[2] as u32;
    if options & !(w::WNOHANG | w::WUNTRACED | w::WCONTINUED | 0xe000_0000) != 0 {
        return Err(Errno::EINVAL);
    }
    let which = match a[0] as i32 {
        -1 => WaitFor::Any,
        0 => WaitFor::Group(current_process().pgid.get()),
        i32::MIN => return Err(Errno::ESRCH),
        p if p < 0 => WaitFor::Group(-p),
        p => WaitFor::Pid(p),
    };
    let Some(found) = process::do_wait(which, options | w::WEXITED)? else { return Ok(0) };
    if a[1] != 0 {
        write_val(a[1], found.status)?;
    }
    if a[3] != 0 {
        write_bytes(a[3], &super::time::rusage_of(&found.process))?;
    }
    Ok(found.process.pid as usize)
}

/// waitid(idtype, id, info, options, rusage)
pub fn sys_waitid(a: &[u64; 6]) -> Result<usize> {
    let options = a[3] as u32;
    let known = w::WNOHANG | w::WEXITED | w::WSTOPPED | w::WCONTINUED | w::WNOWAIT | 0xe000_0000;
    if options & !known != 0 || options & (w::WEXITED | w::WSTOPPED | w::WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    let mut nonblocking = false;
    let which = match a[0] {
        0 => WaitFor::Any,
        1 if a[1] as i32 > 0 => WaitFor::Pid(a[1] as i32),
        3 if a[1] as i32 >= 0 => {
            let file = super::pidfd::get(a[1])?;
            // A non-blocking pidfd: EAGAIN instead of waiting.
            nonblocking = file.nonblocking() && options & w::WNOHANG == 0;
            WaitFor::Pid(file.downcast::<PidFd>().ok_or(Errno::EBADF)?.pid())
        }
        2 if a[1] as i32 > 0 => WaitFor::Group(a[1] as i32),
        2 if a[1] == 0 => WaitFor::Group(current_process().pgid.get()),
        _ => return Err(Errno::EINVAL),
    };
    let options = if nonblocking { options | w::WNOHANG } else { options };
    let found = process::do_wait(which, options)?;
    if nonblocking && found.is_none() {
        return Err(Errno::EAGAIN);
    }
    let mut info = [0u8; 128];
    if let Some(f) = &found {
        info = crate::signal::Info::child(&f.process, f.status).to_bytes(signo::SIGCHLD as i32);
        if a[4] != 0 {
            write_bytes(a[4], &super::time::rusage_of(&f.process))?;
        }
    }
    if a[2] != 0 {
        write_bytes(a[2], &info)?;
    }
    Ok(0)
}

macro_rules! ids { ($($(#[$d:meta])* $name:ident => $e:expr;)*) => { $($(#[$d])* pub fn $name(_a: &[u64; 6]) -> Result<usize> {
    let f: fn() -> u64 = $e; Ok(f() as usize)
})* } }
ids! {
    /// getpid()
    sys_getpid => || current_process().pid as u64;
    /// gettid()
    sys_gettid => || current().tid as u64;
    /// getppid()
    sys_getppid => || current_process().ppid() as u64;
    /// getuid()
    sys_getuid => || u64::from(process::cred().uid);
    /// geteuid()
    sys_geteuid => || u64::from(process::cred().euid);
    /// getgid()
    sys_getgid => || u64::from(process::cred().gid);
    /// getegid()
    sys_getegid => || u64::from(process::cred().egid);
    /// getpgrp()
    sys_getpgrp => || current_process().pgid.get() as u64;
}

/// Changes one kind of ids; `u32::MAX` keeps. Unprivileged processes may only pick among their own.
fn set_ids(new: [u32; 3], group: bool) -> Result<usize> {
    let mut c = process::cred();
    let old = if group { [c.gid, c.egid, c.sgid] } else { [c.uid, c.euid, c.suid] };
    let privileged = c.capable(if group { caps::SETGID } else { caps::SETUID });
    let mut ids = old;
    for (slot, want) in ids.iter_mut().zip(new) {
        if want != u32::MAX {
            if !privileged && !old.contains(&want) {
                return Err(Errno::EPERM);
            }
            *slot = want;
        }
    }
    if group {
        [c.gid, c.egid, c.sgid] = ids;
        c.fsgid = c.egid;
    } else {
        [c.uid, c.euid, c.suid] = ids;
        let fs = core::mem::replace(&mut c.fsuid, c.euid);
        c.follow_ids(old);
        c.follow_fs_id(fs);
    }
    process::change_cred(|own| *own = c);
    Ok(0)
}
fn set_one(v: u64, group: bool) -> Result<usize> {
    let v = v as u32;
    let all = process::cred().capable(if group { caps::SETGID } else { caps::SETUID });
    if v == u32::MAX {
        return Err(Errno::EINVAL);
    }
    set_ids(if all { [v; 3] } else { [u32::MAX, v, u32::MAX] }, group)
}
fn set_re(a: &[u64; 6], group: bool) -> Result<usize> {
    let (r, e) = (a[0] as u32, a[1] as u32);
    let c = process::cred();
    let real = if group { c.gid } else { c.uid };
    let saved = if r != u32::MAX || e != u32::MAX && e != real { e } else { u32::MAX };
    set_ids([r, e, saved], group)
}
/// setuid(uid)
pub fn sys_setuid(a: &[u64; 6]) -> Result<usize> {
    set_one(a[0], false)
}
/// setgid(gid)
pub fn sys_setgid(a: &[u64; 6]) -> Result<usize> {
    set_one(a[0], true)
}
/// setreuid(ruid, euid)
pub fn sys_setreuid(a: &[u64; 6]) -> Result<usize> {
    set_re(a, false)
}
/// setregid(rgid, egid)
pub fn sys_setregid(a: &[u64; 6]) -> Result<usize> {
    set_re(a, true)
}
/// setresuid(ruid, euid, suid)
pub fn sys_setresuid(a: &[u64; 6]) -> Result<usize> {
    set_ids([a[0] as u32, a[1] as u32, a[2] as u32], false)
}
/// setresgid(rgid, egid, sgid)
pub fn sys_setresgid(a: &[u64; 6]) -> Result<usize> {
    set_ids([a[0] as u32, a[1] as u32, a[2] as u32], true)
}
/// getresuid(ruid, euid, suid)
pub fn sys_getresuid(a: &[u64; 6]) -> Result<usize> {
    let c = process::cred();
    [c.uid, c.euid, c.suid].iter().zip(a).try_for_each(|(v, at)| write_val(*at, *v))?;
    Ok(0)
}
/// getresgid(rgid, egid, sgid)
pub fn sys_getresgid(a: &[u64; 6]) -> Result<usize> {
    let c = process::cred();
    [c.gid, c.egid, c.sgid].iter().zip(a).try_for_each(|(v, at)| write_val(*at, *v))?;
    Ok(0)
}
/// setfsuid(uid): the id that was in force, whether it changed or not.
pub fn sys_setfsuid(a: &[u64; 6]) -> Result<usize> {
    let new = a[0] as u32;
    Ok(process::change_cred(|c| {
        let old = c.fsuid;
        if new != u32::MAX && (c.capable(caps::SETUID) || [c.uid, c.euid, c.suid].contains(&new)) {
            c.fsuid = new;
            c.follow_fs_id(old);
        }
        old as usize
    }))
}
/// setfsgid(gid)
pub fn sys_setfsgid(a: &[u64; 6]) -> Result<usize> {
    let new = a[0] as u32;
    Ok(process::change_cred(|c| {
        let old = c.fsgid;
        if new != u32::MAX && (c.capable(caps::SETGID) || [c.gid, c.egid, c.sgid].contains(&new)) {
            c.fsgid = new;
        }
        old as usize
    }))
}
/// getgroups(size, list)
pub fn sys_getgroups(a: &[u64; 6]) -> Result<usize> {
    let groups = process::cred().groups;
    let size = a[0] as i32;
    if size < 0 || size != 0 && (size as usize) < groups.list().len() {
        return Err(Errno::EINVAL);
    }
    if size != 0 {
        for (i, g) in groups.list().iter().enumerate() {
            write_val(a[1] + 4 * i as u64, *g)?;
        }
    }
    Ok(groups.list().len())
}
/// setgroups(size, list)
pub fn sys_setgroups(a: &[u64; 6]) -> Result<usize> {
    if !process::cred().capable(caps::SETGID) {
        return Err(Errno::EPERM);
    }
    if a[0] > 65536 {
        return Err(Errno::EINVAL);
    }
    crate::mm::admit(12 * a[0])?;
    let groups: Result<Vec<u32>> = (0..a[0]).map(|i| read_val(a[1] + 4 * i)).collect();
    let groups = Groups::new(groups?);
    process::change_cred(|c| c.groups = groups);
    Ok(0)
}

fn by_pid_or_self(pid: u64) -> Result<Arc<Process>> {
    if pid as i32 == 0 { Ok(current_process()) } else { Process::by_pid(pid as i32).ok_or(Errno::ESRCH) }
}

/// setpgid(pid, pgid)
pub fn sys_setpgid(a: &[u64; 6]) -> Result<usize> {
    let me = current_process();
    let p = by_pid_or_self(a[0])?;
    let pgid = if a[1] as i32 == 0 { p.pid } else { a[1] as i32 };
    if pgid < 0 {
        return Err(Errno::EINVAL);
    }
    if p.pid != me.pid {
        if p.ppid() != me.pid {
            return Err(Errno::ESRCH);
        }
        if p.execed.get() {
            return Err(Errno::EACCES);
        }
    }
    if p.sid.get() == p.pid || p.sid.get() != me.sid.get() {
        return Err(Errno::EPERM);
    }
    let exists = Process::all().iter().any(|q| q.pgid.get() == pgid && q.sid.get() == me.sid.get());
    if pgid != p.pid && !exists {
        return Err(Errno::EPERM);
    }
    p.pgid.set(pgid);
    Ok(0)
}
/// getpgid(pid)
pub fn sys_getpgid(a: &[u64; 6]) -> Result<usize> {
    Ok(by_pid_or_self(a[0])?.pgid.get() as usize)
}
/// setsid()
pub fn sys_setsid(_a: &[u64; 6]) -> Result<usize> {
    let p = current_process();
    if Process::all().iter().any(|q| q.pgid.get() == p.pid) {
        return Err(Errno::EPERM);
    }
    p.sid.set(p.pid);
    p.pgid.set(p.pid);
    Ok(p.pid as usize)
}
/// getsid(pid)
pub fn sys_getsid(a: &[u64; 6]) -> Result<usize> {
    Ok(by_pid_or_self(a[0])?.sid.get() as usize)
}

/// set_tid_address(at)
pub fn sys_set_tid_address(a: &[u64; 6]) -> Result<usize> {
    let t = current();
    t.clear_tid.set(a[0]);
    Ok(t.tid as usize)
}
/// May the caller see and set the limits of `p`? Itself, root, or all ids of `p` equal to its real ones (prlimit(2)).
fn may_limit(p: &Arc<Process>) -> bool {
    let me = current_process();
    let (a, b) = (process::cred(), p.cred());
    let same = [b.uid, b.euid, b.suid].iter().all(|u| *u == a.uid)
        && [b.gid, b.egid, b.sgid].iter().all(|g| *g == a.gid);
    Arc::ptr_eq(&me, p) || a.capable(caps::SYS_RESOURCE) || same
}

/// prlimit64(pid, resource, new, old)
pub fn sys_prlimit64(a: &[u64; 6]) -> Result<usize> {
    const RLIMIT_CPU: usize = 0;
    let p = by_pid_or_self(a[0])?;
    let which = a[1] as usize;
    if which >= 16 {
        return Err(Errno::EINVAL);
    }
    if !may_limit(&p) {
        return Err(Errno::EPERM);
    }
    let old = p.rlimits.get()[which];
    let new = if a[2] == 0 { None } else { Some((read_val::<u64>(a[2])?, read_val::<u64>(a[2] + 8)?)) };
    if let Some((soft, hard)) = new {
        if soft > hard {
            return Err(Errno::EINVAL);
        }
        if hard > old.1 && !process::cred().capable(caps::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        p.rlimits.with_mut(|r| r[which] = (soft, hard));
        if which == RLIMIT_CPU && soft.min(hard) != u64::MAX {
            crate::timers::cpu_timers_changed(&p);
        }
    }
    if a[3] != 0 {
        write_val(a[3], old.0)?;
        write_val(a[3] + 8, old.1)?;
    }
    Ok(0)
}
/// getrlimit(resource, old)
pub fn sys_getrlimit(a: &[u64; 6]) -> Result<usize> {
    sys_prlimit64(&[0, a[0], 0, a[1], 0, 0])
}
/// setrlimit(resource, new)
pub fn sys_setrlimit(a: &[u64; 6]) -> Result<usize> {
    sys_prlimit64(&[0, a[0], a[1], 0, 0, 0])
}

/// arch_prctl(code, addr)
pub fn sys_arch_prctl(a: &[u64; 6]) -> Result<usize> {
    let t = current();
    if matches!(a[0], 0x1001 | 0x1002) && a[1] >> 32 != 0 {
        return Err(Errno::EPERM);
    }
    match a[0] {
        0x1002 => t.rt.set_tls(a[1] as u32),
        0x1001 => t.rt.set_guest_gs(a[1] as u32),
        0x1003 => write_val(a[1], u64::from(t.rt.tls()))?,
        0x1004 => write_val(a[1], u64::from(t.rt.guest_gs()))?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// getcpu(cpu, node)
pub fn sys_getcpu(a: &[u64; 6]) -> Result<usize> {
    if a[0] != 0 {
        write_val(a[0], occlum_rt::vcpu::current())?;
    }
    if a[1] != 0 {
        write_val(a[1], 0u32)?;
    }
    Ok(0)
}
