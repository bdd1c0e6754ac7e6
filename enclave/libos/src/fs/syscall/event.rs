//! eventfd, timerfd, signalfd, inotify.
use super::super::event::{EventFd, TimerFd};
use super::super::inotify::{Inotify, event};
use super::super::prelude::*;
use super::super::signalfd::SignalFd;
use super::super::{OpenFile, env, ops};
use super::{Args, fd, int, path, real_file, timespec};
use crate::uaccess;

fn install(file: Arc<OpenFile>, flags: u32) -> Result<usize> {
    Ok(env::files().add(file, flags & O_CLOEXEC != 0)? as usize)
}
/// eventfd(2).
pub fn sys_eventfd(a: &Args) -> Result<usize> {
    sys_eventfd2(&[a[0], 0, 0, 0, 0, 0])
}
/// eventfd2(2).
pub fn sys_eventfd2(a: &Args) -> Result<usize> {
    let flags = int(a[1]);
    if flags & !(O_CLOEXEC | O_NONBLOCK | 1) != 0 {
        return Err(EINVAL);
    }
    let e = EventFd::new(u64::from(int(a[0])), flags & 1 != 0);
    install(OpenFile::anonymous(0, "anon_inode:[eventfd]", e, O_RDWR | flags & O_NONBLOCK), flags)
}
/// timerfd_create(2).
pub fn sys_timerfd_create(a: &Args) -> Result<usize> {
    let flags = int(a[1]);
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    let realtime = match int(a[0]) {
        0 | 8 => true,
        1 | 7 | 9 => false,
        _ => return Err(EINVAL),
    };
    let t = TimerFd::new(realtime);
    install(OpenFile::anonymous(0, "anon_inode:[timerfd]", t, O_RDONLY | flags & O_NONBLOCK), flags)
}
fn write_itimerspec(off: u64, (left, interval): (u64, u64)) -> Result<()> {
    for (i, ns) in [interval, left].into_iter().enumerate() {
        uaccess::write_val(off + i as u64 * 16, ns / 1_000_000_000)?;
        uaccess::write_val(off + i as u64 * 16 + 8, ns % 1_000_000_000)?;
    }
    Ok(())
}
/// timerfd_settime(2).
pub fn sys_timerfd_settime(a: &Args) -> Result<usize> {
    let f = real_file(a[0])?;
    let t = f.downcast::<TimerFd>().ok_or(EINVAL)?;
    let flags = int(a[1]);
    if flags & !3 != 0 {
        return Err(EINVAL);
    }
    let (interval, value) = (timespec(a[2])?, timespec(a[2] + 16)?);
    let old = t.set(value, interval, flags & 1 != 0);
    if a[3] != 0 {
        write_itimerspec(a[3], old)?;
    }
    Ok(0)
}
/// timerfd_gettime(2).
pub fn sys_timerfd_gettime(a: &Args) -> Result<usize> {
    let f = real_file(a[0])?;
    write_itimerspec(a[1], f.downcast::<TimerFd>().ok_or(EINVAL)?.left()).map(|()| 0)
}
/// signalfd(2).
pub fn sys_signalfd(a: &Args) -> Result<usize> {
    sys_signalfd4(&[a[0], a[1], a[2], 0, 0, 0])
}
/// signalfd4(2): a new file, or another mask for one that is there.
pub fn sys_signalfd4(a: &Args) -> Result<usize> {
    let flags = int(a[3]);
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 || a[2] != 8 {
        return Err(EINVAL);
    }
    let mask = uaccess::read_val(a[1])?;
    if int(a[0]) == u32::MAX {
        let f =
            OpenFile::anonymous(0, "anon_inode:[signalfd]", SignalFd::new(mask), O_RDWR | flags & O_NONBLOCK);
        return install(f, flags);
    }
    let f = real_file(a[0])?;
    f.downcast::<SignalFd>().ok_or(EINVAL)?.set_mask(mask);
    Ok(int(a[0]) as usize)
}
/// inotify_init(2).
pub fn sys_inotify_init(_a: &Args) -> Result<usize> {
    sys_inotify_init1(&[0; 6])
}
/// inotify_init1(2).
pub fn sys_inotify_init1(a: &Args) -> Result<usize> {
    let flags = int(a[0]);
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    let f = OpenFile::anonymous(0, "anon_inode:inotify", Inotify::new()?, O_RDONLY | flags & O_NONBLOCK);
    install(f, flags)
}
/// inotify_add_watch(2).
pub fn sys_inotify_add_watch(a: &Args) -> Result<usize> {
    const ONLYDIR: u32 = 1 << 24;
    const DONT_FOLLOW: u32 = 1 << 25;
    let mask = int(a[2]);
    let both = event::MASK_ADD | event::MASK_CREATE;
    if mask & (event::ALL | event::OVERFLOW | event::IGNORED) == 0 || mask & both == both {
        return Err(EINVAL);
    }
    let f = real_file(a[0])?;
    let i = f.downcast::<Inotify>().ok_or(EINVAL)?;
    let flags = if mask & DONT_FOLLOW != 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
    let d = ops::object_at(AT_FDCWD, &path(a[1])?, flags)?;
    if mask & ONLYDIR != 0 && !d.inode().is_dir() {
        return Err(ENOTDIR);
    }
    env::cred().check(&d.inode().stat()?, MAY_READ)?;
    i.add(d.inode(), mask).map(|wd| wd as usize)
}
/// inotify_rm_watch(2).
pub fn sys_inotify_rm_watch(a: &Args) -> Result<usize> {
    let f = real_file(a[0])?;
    f.downcast::<Inotify>().ok_or(EINVAL)?.remove(fd(a[1])).map(|()| 0)
}
