//! open and its relatives, close.
use super::super::prelude::*;
use super::super::{env, ops};
use super::{Args, fd, int, path};

fn do_open(dirfd: i32, name: u64, flags: u32, mode: u32) -> Result<usize> {
    let name = path(name)?;
    let f = ops::open_at(dirfd, &name, flags, mode)?;
    Ok(env::files().add(f, flags & O_CLOEXEC != 0)? as usize)
}
/// open(2).
pub fn sys_open(a: &Args) -> Result<usize> {
    do_open(AT_FDCWD, a[0], int(a[1]), int(a[2]))
}
/// openat(2).
pub fn sys_openat(a: &Args) -> Result<usize> {
    do_open(fd(a[0]), a[1], int(a[2]), int(a[3]))
}
/// creat(2).
pub fn sys_creat(a: &Args) -> Result<usize> {
    do_open(AT_FDCWD, a[0], O_CREAT | O_WRONLY | O_TRUNC, int(a[1]))
}
/// openat2(2): not there, callers use openat.
pub fn sys_openat2(_a: &Args) -> Result<usize> {
    Err(ENOSYS)
}
/// close(2).
pub fn sys_close(a: &Args) -> Result<usize> {
    env::files().close(fd(a[0])).map(|()| 0)
}
