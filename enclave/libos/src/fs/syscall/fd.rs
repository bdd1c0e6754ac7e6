//! Descriptors: dup, fcntl, flock, ioctl, close_range, pipe.
use super::super::locks::{self, Family, Lock};
use super::super::pipe::{self, PipeEnd};
use super::super::prelude::*;
use super::super::{OpenFile, dnotify, env, hints, leases, seal, sigio};
use super::{Args, fd, file, int, real_file};
use crate::sched::Breath;
use crate::uaccess;

/// dup(2).
pub fn sys_dup(a: &Args) -> Result<usize> {
    Ok(env::files().add(file(a[0])?, false)? as usize)
}
/// dup2(2).
pub fn sys_dup2(a: &Args) -> Result<usize> {
    let f = file(a[0])?;
    if fd(a[0]) != fd(a[1]) {
        env::files().put(fd(a[1]), f, false)?;
    }
    Ok(int(a[1]) as usize)
}
/// dup3(2).
pub fn sys_dup3(a: &Args) -> Result<usize> {
    if fd(a[0]) == fd(a[1]) || int(a[2]) & !O_CLOEXEC != 0 {
        return Err(EINVAL);
    }
    env::files().put(fd(a[1]), file(a[0])?, int(a[2]) & O_CLOEXEC != 0)?;
    Ok(int(a[1]) as usize)
}
/// close_range(2).
pub fn sys_close_range(a: &Args) -> Result<usize> {
    const UNSHARE: u32 = 2;
    const CLOEXEC: u32 = 4;
    let (first, last, flags) = (int(a[0]), int(a[1]), int(a[2]));
    if first > last || flags & !(UNSHARE | CLOEXEC) != 0 {
        return Err(EINVAL);
    }
    if flags & UNSHARE != 0 {
        env::unshare_files()?;
    }
    let (t, mut breath) = (env::files(), Breath::begin());
    for fd in t.fds().filter(|f| (first..=last).contains(&(*f as u32))) {
        let _ = if flags & CLOEXEC != 0 { t.set_cloexec(fd, true) } else { t.close(fd) };
        breath.take();
    }
    Ok(0)
}

const F_DUPFD: u32 = 0;
const F_GETFD: u32 = 1;
const F_SETFD: u32 = 2;
const F_GETFL: u32 = 3;
const F_SETFL: u32 = 4;
const F_GETLK: u32 = 5;
const F_SETLK: u32 = 6;
const F_SETLKW: u32 = 7;
const F_SETOWN: u32 = 8;
const F_GETOWN: u32 = 9;
const F_SETSIG: u32 = 10;
const F_GETSIG: u32 = 11;
const F_SETOWN_EX: u32 = 15;
const F_GETOWN_EX: u32 = 16;
const F_OFD_GETLK: u32 = 36;
const F_OFD_SETLK: u32 = 37;
const F_OFD_SETLKW: u32 = 38;
const F_SETLEASE: u32 = 1024;
const F_GETLEASE: u32 = 1025;
const F_NOTIFY: u32 = 1026;
const F_GET_RW_HINT: u32 = 1035;
const F_SET_RW_HINT: u32 = 1036;
const F_DUPFD_CLOEXEC: u32 = 1030;
const F_SETPIPE_SZ: u32 = 1031;
const F_GETPIPE_SZ: u32 = 1032;
const F_ADD_SEALS: u32 = 1033;
const F_GET_SEALS: u32 = 1034;

/// fcntl(2).
pub fn sys_fcntl(a: &Args) -> Result<usize> {
    let f = file(a[0])?;
    let t = env::files();
    let cmd = int(a[1]);
    if f.is_path() && !matches!(cmd, F_DUPFD | F_DUPFD_CLOEXEC | F_GETFD | F_SETFD | F_GETFL) {
        return Err(EBADF);
    }
    match cmd {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let min = int(a[2]) as usize;
            if min >= env::nofile() {
                return Err(EINVAL);
            }
            Ok(t.install(f, min, cmd == F_DUPFD_CLOEXEC)? as usize)
        }
        F_GETFD => Ok(usize::from(t.cloexec(fd(a[0]))?)),
        F_SETFD => t.set_cloexec(fd(a[0]), a[2] & 1 != 0).map(|()| 0),
        F_GETFL => Ok((f.flags() | O_LARGEFILE) as usize),
        F_SETFL => {
            // As in Linux, files that have no signals take O_ASYNC all the same.
            let _ = sigio::set_flags(&f, fd(a[0]), int(a[2]));
            Ok(0)
        }
        F_GETLK | F_OFD_GETLK => get_lock(&f, cmd, a[2]),
        F_SETLK | F_SETLKW | F_OFD_SETLK | F_OFD_SETLKW => set_lock(&f, cmd, a[2]),
        F_SETOWN => sigio::set_owner(&f, int(a[2]) as i32).map(|()| 0),
        F_GETOWN => Ok(sigio::get_owner(&f) as usize),
        F_SETOWN_EX => sigio::set_owner_ex(&f, a[2]).map(|()| 0),
        F_GETOWN_EX => sigio::get_owner_ex(&f, a[2]).map(|()| 0),
        F_SETSIG => sigio::set_signal(&f, a[2]).map(|()| 0),
        F_GETSIG => Ok(f.owner.with(|o| o.sig) as usize),
        F_SETLEASE => leases::set(&f, fd(a[0]), int(a[2])).map(|()| 0),
        F_GETLEASE => Ok(leases::get(&f) as usize),
        F_NOTIFY => dnotify::set(&f, t.id, fd(a[0]), int(a[2])).map(|()| 0),
        F_GET_RW_HINT => hints::get(&f, a[2]).map(|()| 0),
        F_SET_RW_HINT => hints::set(&f, a[2]).map(|()| 0),
        F_SETPIPE_SZ => f.downcast::<PipeEnd>().ok_or(EBADF)?.pipe.resize(int(a[2]) as usize),
        F_GETPIPE_SZ => Ok(f.downcast::<PipeEnd>().ok_or(EBADF)?.pipe.size()),
        F_ADD_SEALS => seal::add(&f, int(a[2])).map(|()| 0),
        F_GET_SEALS => Ok(f.inode().seals().ok_or(EINVAL)?.get() as usize),
        _ => Err(EINVAL),
    }
}

/// Reads a `struct flock`; the lock and its type (0 read, 1 write, 2 unlock).
fn read_flock(f: &OpenFile, cmd: u32, off: u64) -> Result<(Lock, u16)> {
    let mut b = [0u8; 32];
    uaccess::read_bytes(off, &mut b)?;
    let u16_at = |i: usize| u16::from_le_bytes([b[i], b[i + 1]]);
    let i64_at = |i: usize| i64::from_le_bytes(core::array::from_fn(|k| b[i + k]));
    let (kind, whence, start, len) = (u16_at(0), u16_at(2), i64_at(8), i64_at(16));
    if kind > 2 {
        return Err(EINVAL);
    }
    let base = match u32::from(whence) {
        SEEK_SET => 0,
        SEEK_CUR => f.offset() as i64,
        SEEK_END => f.inode().size() as i64,
        _ => return Err(EINVAL),
    };
    let start = base.checked_add(start).ok_or(EOVERFLOW)?;
    let (start, end) = match len {
        0 => (start, i64::MAX),
        n if n > 0 => (start, start.checked_add(n).ok_or(EOVERFLOW)?),
        n => (start.checked_add(n).ok_or(EOVERFLOW)?, start),
    };
    if start < 0 {
        return Err(EINVAL);
    }
    let ofd = cmd >= F_OFD_GETLK;
    if ofd && b[24..28] != [0; 4] {
        return Err(EINVAL);
    }
    let (owner, pid) = if ofd { (f.id, -1) } else { (env::files().id, env::peer().0) };
    let lock =
        Lock { family: Family::Range, owner, pid, start: start as u64, end: end as u64, write: kind == 1 };
    Ok((lock, kind))
}
fn get_lock(f: &OpenFile, cmd: u32, off: u64) -> Result<usize> {
    let (want, kind) = read_flock(f, cmd, off)?;
    if kind == 2 {
        return Err(EINVAL);
    }
    let Some(held) = locks::conflict(f.inode().object_id(), &want) else {
        uaccess::write_val(off, 2u16)?;
        return Ok(0);
    };
    let len = if held.end == i64::MAX as u64 { 0 } else { held.end - held.start };
    uaccess::write_val(off, u16::from(held.write))?;
    uaccess::write_val(off + 2, 0u16)?;
    uaccess::write_val(off + 8, held.start)?;
    uaccess::write_val(off + 16, len)?;
    uaccess::write_val(off + 24, held.pid)?;
    Ok(0)
}
fn set_lock(f: &OpenFile, cmd: u32, off: u64) -> Result<usize> {
    let (want, kind) = read_flock(f, cmd, off)?;
    let id = f.inode().object_id();
    match kind {
        0 if !f.can_read() => return Err(EBADF),
        1 if !f.can_write() => return Err(EBADF),
        2 => {
            locks::unlock(id, &want)?;
            return Ok(0);
        }
        _ => {}
    }
    let wait = match cmd {
        F_SETLKW => locks::Wait::Detect,
        F_OFD_SETLKW => locks::Wait::Blind,
        _ => locks::Wait::No,
    };
    locks::lock(id, &want, wait).map(|()| 0)
}
/// flock(2).
pub fn sys_flock(a: &Args) -> Result<usize> {
    const LOCK_NB: u32 = 4;
    let f = real_file(a[0])?;
    let op = int(a[1]);
    let id = f.inode().object_id();
    let pid = env::peer().0;
    let lock = |write| Lock { family: Family::Whole, owner: f.id, pid, start: 0, end: u64::MAX, write };
    let wait = if op & LOCK_NB == 0 { locks::Wait::Blind } else { locks::Wait::No };
    match op & !LOCK_NB {
        1 => locks::lock(id, &lock(false), wait)?,
        2 => locks::lock(id, &lock(true), wait)?,
        8 => locks::unlock(id, &lock(false))?,
        _ => return Err(EINVAL),
    }
    Ok(0)
}

fn is_socket(f: &OpenFile) -> bool {
    f.special().is_some_and(|s| s.as_socket().is_some())
}
/// ioctl(2): what holds for every file here, the rest at the file.
pub fn sys_ioctl(a: &Args) -> Result<usize> {
    let f = real_file(a[0])?;
    let request = int(a[1]);
    match request {
        FIOCLEX | FIONCLEX => env::files().set_cloexec(fd(a[0]), request == FIOCLEX).map(|()| 0),
        FIONBIO => {
            let on: i32 = uaccess::read_val(a[2])?;
            let flags = f.flags() & !O_NONBLOCK;
            f.set_flags(if on != 0 { flags | O_NONBLOCK } else { flags });
            Ok(0)
        }
        FIOASYNC => {
            let on: i32 = uaccess::read_val(a[2])?;
            let flags = f.flags() & !O_ASYNC | if on != 0 { O_ASYNC } else { 0 };
            sigio::set_flags(&f, fd(a[0]), flags).map(|()| 0)
        }
        FIOSETOWN | SIOCSPGRP if is_socket(&f) => sigio::set_owner(&f, uaccess::read_val(a[2])?).map(|()| 0),
        FIOGETOWN | SIOCGPGRP if is_socket(&f) => uaccess::write_val(a[2], sigio::get_owner(&f)).map(|()| 0),
        _ => match f.special() {
            Some(s) => s.ioctl(request, a[2]),
            None if request == FIONREAD && f.inode().is_regular() => {
                let left = f.inode().size().saturating_sub(f.offset()).min(i32::MAX as u64);
                uaccess::write_val(a[2], left as u32)?;
                Ok(0)
            }
            None => Err(ENOTTY),
        },
    }
}

fn do_pipe(out: u64, flags: u32) -> Result<usize> {
    if flags & !(O_CLOEXEC | O_NONBLOCK | O_DIRECT) != 0 {
        return Err(EINVAL);
    }
    let (r, w) = pipe::new_pair(flags)?;
    install_pair(out, r, w, flags & O_CLOEXEC != 0)
}
/// Installs two files and writes their descriptors to `out`; all or nothing.
pub fn install_pair(out: u64, r: Arc<OpenFile>, w: Arc<OpenFile>, cloexec: bool) -> Result<usize> {
    let t = env::files();
    let a = t.add(r, cloexec)?;
    let b = match t.add(w, cloexec) {
        Ok(b) => b,
        Err(e) => {
            let _ = t.close(a);
            return Err(e);
        }
    };
    let mut bytes = [0u8; 8];
    bytes[..4].copy_from_slice(&a.to_le_bytes());
    bytes[4..].copy_from_slice(&b.to_le_bytes());
    if let Err(e) = uaccess::write_bytes(out, &bytes) {
        let _ = t.close(a);
        let _ = t.close(b);
        return Err(e);
    }
    Ok(0)
}
/// pipe(2).
pub fn sys_pipe(a: &Args) -> Result<usize> {
    do_pipe(a[0], 0)
}
/// pipe2(2).
pub fn sys_pipe2(a: &Args) -> Result<usize> {
    do_pipe(a[0], int(a[1]))
}
