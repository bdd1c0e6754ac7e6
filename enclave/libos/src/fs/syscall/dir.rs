//! Directories and names: getdents, cwd, mkdir, link, rename, unlink.
use super::super::inode::DirEntry;
use super::super::path::Last;
use super::super::prelude::*;
use super::super::{env, ops};
use super::{Args, fd, file, int, path, real_file};
use crate::process::caps;
use crate::uaccess;

/// Most bytes of entries that one call gives, several times what readdir(3) asks for.
const AT_ONCE: usize = 32 << 10;

/// Writes entries from the file's position on, each formed by `form`.
fn do_getdents(a: &Args, form: fn(&DirEntry, u64, &mut Vec<u8>)) -> Result<usize> {
    let f = real_file(a[0])?;
    if !f.inode().is_dir() {
        return Err(ENOTDIR);
    }
    if f.dentry().is_deleted() {
        return Err(ENOENT);
    }
    let entries = f.entries()?;
    let room = (int(a[2]) as usize).min(AT_ONCE);
    let mut out = Vec::new();
    let start = f.offset();
    let mut next = start;
    for e in entries.iter().skip(start as usize) {
        let before = out.len();
        form(e, next + 1, &mut out);
        if out.len() > room {
            out.truncate(before);
            if before == 0 {
                return Err(EINVAL);
            }
            break;
        }
        next += 1;
    }
    uaccess::write_bytes(a[1], &out)?;
    f.set_offset(next);
    Ok(out.len())
}
fn head(e: &DirEntry, next: u64, len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&e.ino.to_le_bytes());
    out.extend_from_slice(&next.to_le_bytes());
    out.extend_from_slice(&(len as u16).to_le_bytes());
}
fn form64(e: &DirEntry, next: u64, out: &mut Vec<u8>) {
    let start = out.len();
    let len = (19 + e.name.len() + 1).next_multiple_of(8);
    head(e, next, len, out);
    out.push(e.d_type);
    out.extend_from_slice(&e.name);
    out.resize(start + len, 0);
}
fn form_old(e: &DirEntry, next: u64, out: &mut Vec<u8>) {
    let start = out.len();
    let len = (18 + e.name.len() + 2).next_multiple_of(8);
    head(e, next, len, out);
    out.extend_from_slice(&e.name);
    out.resize(start + len, 0);
    out[start + len - 1] = e.d_type;
}
/// getdents64(2).
pub fn sys_getdents64(a: &Args) -> Result<usize> {
    do_getdents(a, form64)
}
/// getdents(2).
pub fn sys_getdents(a: &Args) -> Result<usize> {
    do_getdents(a, form_old)
}

/// getcwd(2): the length with its NUL.
pub fn sys_getcwd(a: &Args) -> Result<usize> {
    let ctx = env::fs();
    let cwd = ctx.cwd();
    if cwd.is_deleted() {
        return Err(ENOENT);
    }
    let mut p = match cwd.path_from(&ctx.root(), PATH_MAX - 1) {
        Err(ENOENT) => [b"(unreachable)", &cwd.path()?[..]].concat(),
        r => r?,
    };
    p.push(0);
    if p.len() as u64 > a[1] {
        return Err(ERANGE);
    }
    uaccess::write_bytes(a[0], &p)?;
    Ok(p.len())
}
fn check_dir(d: &Arc<super::super::dentry::Dentry>) -> Result<()> {
    if !d.inode().is_dir() {
        return Err(ENOTDIR);
    }
    d.inode().check(&env::cred(), MAY_EXEC)
}
/// chdir(2).
pub fn sys_chdir(a: &Args) -> Result<usize> {
    let d = ops::walk_at(AT_FDCWD, &path(a[0])?, Last::Follow)?.get()?;
    check_dir(&d)?;
    env::fs().set_cwd(d);
    Ok(0)
}
/// fchdir(2).
pub fn sys_fchdir(a: &Args) -> Result<usize> {
    let d = file(a[0])?.dentry().clone();
    check_dir(&d)?;
    env::fs().set_cwd(d);
    Ok(0)
}
/// chroot(2).
pub fn sys_chroot(a: &Args) -> Result<usize> {
    let d = ops::walk_at(AT_FDCWD, &path(a[0])?, Last::Follow)?.get()?;
    check_dir(&d)?;
    if !env::cred().can(caps::SYS_CHROOT) {
        return Err(EPERM);
    }
    env::fs().set_root(d);
    Ok(0)
}
/// mkdir(2).
pub fn sys_mkdir(a: &Args) -> Result<usize> {
    ops::mkdir(AT_FDCWD, &path(a[0])?, int(a[1])).map(|()| 0)
}
/// mkdirat(2).
pub fn sys_mkdirat(a: &Args) -> Result<usize> {
    ops::mkdir(fd(a[0]), &path(a[1])?, int(a[2])).map(|()| 0)
}
/// mknod(2).
pub fn sys_mknod(a: &Args) -> Result<usize> {
    ops::mknod(AT_FDCWD, &path(a[0])?, int(a[1]), u64::from(int(a[2]))).map(|()| 0)
}
/// mknodat(2).
pub fn sys_mknodat(a: &Args) -> Result<usize> {
    ops::mknod(fd(a[0]), &path(a[1])?, int(a[2]), u64::from(int(a[3]))).map(|()| 0)
}
/// rmdir(2).
pub fn sys_rmdir(a: &Args) -> Result<usize> {
    ops::rmdir(AT_FDCWD, &path(a[0])?).map(|()| 0)
}
/// unlink(2).
pub fn sys_unlink(a: &Args) -> Result<usize> {
    ops::unlink(AT_FDCWD, &path(a[0])?).map(|()| 0)
}
/// unlinkat(2).
pub fn sys_unlinkat(a: &Args) -> Result<usize> {
    let name = path(a[1])?;
    match int(a[2]) {
        0 => ops::unlink(fd(a[0]), &name)?,
        AT_REMOVEDIR => ops::rmdir(fd(a[0]), &name)?,
        _ => return Err(EINVAL),
    }
    Ok(0)
}
/// rename(2).
pub fn sys_rename(a: &Args) -> Result<usize> {
    ops::rename((AT_FDCWD, &path(a[0])?), (AT_FDCWD, &path(a[1])?), 0).map(|()| 0)
}
/// renameat(2).
pub fn sys_renameat(a: &Args) -> Result<usize> {
    ops::rename((fd(a[0]), &path(a[1])?), (fd(a[2]), &path(a[3])?), 0).map(|()| 0)
}
/// renameat2(2).
pub fn sys_renameat2(a: &Args) -> Result<usize> {
    ops::rename((fd(a[0]), &path(a[1])?), (fd(a[2]), &path(a[3])?), int(a[4])).map(|()| 0)
}
fn do_link(from: (i32, u64), to: (i32, u64), flags: u32) -> Result<usize> {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    let follow = if flags & AT_SYMLINK_FOLLOW != 0 { 0 } else { AT_SYMLINK_NOFOLLOW };
    let old = ops::object_at(from.0, &path(from.1)?, follow | (flags & AT_EMPTY_PATH))?;
    ops::link(&old, to.0, &path(to.1)?).map(|()| 0)
}
/// link(2).
pub fn sys_link(a: &Args) -> Result<usize> {
    do_link((AT_FDCWD, a[0]), (AT_FDCWD, a[1]), 0)
}
/// linkat(2).
pub fn sys_linkat(a: &Args) -> Result<usize> {
    do_link((fd(a[0]), a[1]), (fd(a[2]), a[3]), int(a[4]))
}
/// symlink(2).
pub fn sys_symlink(a: &Args) -> Result<usize> {
    ops::symlink(&path(a[0])?, AT_FDCWD, &path(a[1])?).map(|()| 0)
}
/// symlinkat(2).
pub fn sys_symlinkat(a: &Args) -> Result<usize> {
    ops::symlink(&path(a[0])?, fd(a[1]), &path(a[2])?).map(|()| 0)
}
fn do_readlink(dirfd: i32, name: u64, buf: u64, len: u64) -> Result<usize> {
    if int(len) as i32 <= 0 {
        return Err(EINVAL);
    }
    let name = path(name)?;
    let d = ops::object_at(dirfd, &name, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let text = match d.inode().readlink() {
        Err(EINVAL) if name.is_empty() => return Err(ENOENT),
        r => r?,
    };
    let n = text.len().min(int(len) as usize);
    uaccess::write_bytes(buf, &text[..n])?;
    Ok(n)
}
/// readlink(2).
pub fn sys_readlink(a: &Args) -> Result<usize> {
    do_readlink(AT_FDCWD, a[0], a[1], a[2])
}
/// readlinkat(2).
pub fn sys_readlinkat(a: &Args) -> Result<usize> {
    do_readlink(fd(a[0]), a[1], a[2], a[3])
}
