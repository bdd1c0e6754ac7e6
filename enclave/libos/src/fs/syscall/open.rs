//! open and its relatives, close.
use super::super::prelude::*;
use super::super::{env, ops};
use super::{Args, fd, int, path};
use crate::uaccess;

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
/// What open knows; the others it ignores, openat2 refuses them.
const OPEN_FLAGS: u64 = (O_ACCMODE
    | O_CREAT
    | O_EXCL
    | O_NOCTTY
    | O_TRUNC
    | O_APPEND
    | O_NONBLOCK
    | O_ASYNC
    | O_DIRECT
    | O_LARGEFILE
    | O_DIRECTORY
    | O_NOFOLLOW
    | O_NOATIME
    | O_CLOEXEC
    | O_SYNC
    | O_PATH
    | O_TMPFILE) as u64;
const RESOLVE_KNOWN: u64 = 0x3f;
/// Size of `struct open_how` in its first version.
const HOW_SIZE: u64 = 24;

/// openat2(2).
pub fn sys_openat2(a: &Args) -> Result<usize> {
    if a[3] < HOW_SIZE {
        return Err(EINVAL);
    }
    if a[3] > PAGE {
        return Err(E2BIG);
    }
    let mut how = [0u8; PAGE as usize];
    uaccess::read_bytes(a[2], &mut how[..a[3] as usize])?;
    if how[HOW_SIZE as usize..].iter().any(|b| *b != 0) {
        return Err(E2BIG);
    }
    let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| how[at + i]));
    let (flags, mode, resolve) = (word(0), word(8), word(16));
    check_how(flags, mode, resolve)?;
    let f = ops::open_within(fd(a[0]), &path(a[1])?, flags as u32, mode as u32, resolve as u32)?;
    Ok(env::files().add(f, flags as u32 & O_CLOEXEC != 0)? as usize)
}

fn check_how(flags: u64, mode: u64, resolve: u64) -> Result<()> {
    let path_flags = u64::from(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    let has = |f: u32| flags & u64::from(f) == u64::from(f);
    let creates = has(O_CREAT) || has(O_TMPFILE);
    let scoped = u64::from(RESOLVE_BENEATH | RESOLVE_IN_ROOT);
    let bad = flags & !OPEN_FLAGS != 0
        || resolve & !RESOLVE_KNOWN != 0
        || resolve & scoped == scoped
        || mode & !0o7777 != 0
        || mode != 0 && !creates
        || has(O_PATH) && flags & !path_flags != 0;
    if bad {
        return Err(EINVAL);
    }
    if resolve & u64::from(RESOLVE_CACHED) != 0 && (creates || has(O_TRUNC)) {
        return Err(EAGAIN);
    }
    Ok(())
}
/// close(2).
pub fn sys_close(a: &Args) -> Result<usize> {
    env::files().close(fd(a[0])).map(|()| 0)
}
