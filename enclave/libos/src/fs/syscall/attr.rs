//! Modes, owners, times, lengths, extended attributes.
use super::super::prelude::*;
use super::super::{env, inotify, ops};
use super::{Args, fd, int, path, real_file};
use crate::time::realtime_ns;
use crate::uaccess;

/// chmod(2).
pub fn sys_chmod(a: &Args) -> Result<usize> {
    ops::chmod(&ops::object_at(AT_FDCWD, &path(a[0])?, 0)?, int(a[1])).map(|()| 0)
}
/// fchmod(2).
pub fn sys_fchmod(a: &Args) -> Result<usize> {
    ops::chmod(real_file(a[0])?.dentry(), int(a[1])).map(|()| 0)
}
/// fchmodat(2).
pub fn sys_fchmodat(a: &Args) -> Result<usize> {
    ops::chmod(&ops::object_at(fd(a[0]), &path(a[1])?, 0)?, int(a[2])).map(|()| 0)
}
/// fchmodat2(2).
pub fn sys_fchmodat2(a: &Args) -> Result<usize> {
    let flags = int(a[3]);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    ops::chmod(&ops::object_at(fd(a[0]), &path(a[1])?, flags)?, int(a[2])).map(|()| 0)
}
/// chown(2).
pub fn sys_chown(a: &Args) -> Result<usize> {
    ops::chown(&ops::object_at(AT_FDCWD, &path(a[0])?, 0)?, int(a[1]), int(a[2])).map(|()| 0)
}
/// lchown(2).
pub fn sys_lchown(a: &Args) -> Result<usize> {
    let d = ops::object_at(AT_FDCWD, &path(a[0])?, AT_SYMLINK_NOFOLLOW)?;
    ops::chown(&d, int(a[1]), int(a[2])).map(|()| 0)
}
/// fchown(2).
pub fn sys_fchown(a: &Args) -> Result<usize> {
    ops::chown(real_file(a[0])?.dentry(), int(a[1]), int(a[2])).map(|()| 0)
}
/// fchownat(2).
pub fn sys_fchownat(a: &Args) -> Result<usize> {
    let flags = int(a[4]);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    ops::chown(&ops::object_at(fd(a[0]), &path(a[1])?, flags)?, int(a[2]), int(a[3])).map(|()| 0)
}
/// umask(2).
pub fn sys_umask(a: &Args) -> Result<usize> {
    Ok(env::fs().set_umask(int(a[0])) as usize)
}

fn length(v: u64) -> Result<u64> {
    if v > i64::MAX as u64 { Err(EINVAL) } else { Ok(v) }
}
/// truncate(2).
pub fn sys_truncate(a: &Args) -> Result<usize> {
    let len = length(a[1])?;
    ops::truncate(&ops::object_at(AT_FDCWD, &path(a[0])?, 0)?, len).map(|()| 0)
}
/// ftruncate(2).
pub fn sys_ftruncate(a: &Args) -> Result<usize> {
    let len = length(a[1])?;
    let f = real_file(a[0])?;
    if !f.can_write() || !f.inode().is_regular() {
        return Err(EINVAL);
    }
    f.note_change();
    ops::set_len(f.inode(), len)?;
    inotify::about(f.dentry(), inotify::event::MODIFY);
    Ok(0)
}
/// fallocate(2).
pub fn sys_fallocate(a: &Args) -> Result<usize> {
    let f = real_file(a[0])?;
    if !f.can_write() {
        return Err(EBADF);
    }
    let (off, len) = (length(a[2])?, length(a[3])?);
    if len == 0 {
        return Err(EINVAL);
    }
    match f.inode().kind() {
        S_IFREG => {}
        S_IFIFO => return Err(ESPIPE),
        _ => return Err(ENODEV),
    }
    ops::allocate(&f, int(a[1]), off, len).map(|()| 0)
}

/// A time argument: `UTIME_NOW`, `UTIME_OMIT` or a value. Gives the time and whether it was explicit.
fn utime(off: u64) -> Result<(Option<i64>, bool)> {
    const UTIME_NOW: i64 = (1 << 30) - 1;
    const UTIME_OMIT: i64 = (1 << 30) - 2;
    let (s, ns): (i64, i64) = (uaccess::read_val(off)?, uaccess::read_val(off + 8)?);
    match ns {
        UTIME_NOW => Ok((Some(realtime_ns() as i64), false)),
        UTIME_OMIT => Ok((None, true)),
        0..1_000_000_000 => Ok((Some(s.saturating_mul(1_000_000_000).saturating_add(ns)), true)),
        _ => Err(EINVAL),
    }
}
/// utimensat(2).
pub fn sys_utimensat(a: &Args) -> Result<usize> {
    let flags = int(a[3]);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    let now = Some(realtime_ns() as i64);
    let ((atime, ea), (mtime, em)) =
        if a[2] == 0 { ((now, false), (now, false)) } else { (utime(a[2])?, utime(a[2] + 16)?) };
    if atime.is_none() && mtime.is_none() {
        return Ok(0);
    }
    let d = if a[1] == 0 {
        real_file(a[0])?.dentry().clone()
    } else {
        ops::object_at(fd(a[0]), &path(a[1])?, flags)?
    };
    ops::utimens(&d, atime, mtime, ea || em).map(|()| 0)
}
fn timeval(off: u64) -> Result<i64> {
    let (s, us): (i64, i64) = (uaccess::read_val(off)?, uaccess::read_val(off + 8)?);
    if !(0..1_000_000).contains(&us) {
        return Err(EINVAL);
    }
    Ok(s.saturating_mul(1_000_000_000).saturating_add(us * 1000))
}
fn do_utimes(dirfd: i32, name: u64, times: u64) -> Result<usize> {
    let now = realtime_ns() as i64;
    let (a, m) = if times == 0 { (now, now) } else { (timeval(times)?, timeval(times + 16)?) };
    let d = if name == 0 && dirfd != AT_FDCWD {
        env::file(dirfd)?.dentry().clone()
    } else {
        ops::object_at(dirfd, &path(name)?, 0)?
    };
    ops::utimens(&d, Some(a), Some(m), times != 0).map(|()| 0)
}
/// utimes(2).
pub fn sys_utimes(a: &Args) -> Result<usize> {
    do_utimes(AT_FDCWD, a[0], a[1])
}
/// futimesat(2).
pub fn sys_futimesat(a: &Args) -> Result<usize> {
    do_utimes(fd(a[0]), a[1], a[2])
}
/// utime(2).
pub fn sys_utime(a: &Args) -> Result<usize> {
    let now = realtime_ns() as i64;
    let sec = |off: u64| uaccess::read_val::<i64>(off).map(|s| s.saturating_mul(1_000_000_000));
    let (at, mt) = if a[1] == 0 { (now, now) } else { (sec(a[1])?, sec(a[1] + 8)?) };
    ops::utimens(&ops::object_at(AT_FDCWD, &path(a[0])?, 0)?, Some(at), Some(mt), a[1] != 0).map(|()| 0)
}
