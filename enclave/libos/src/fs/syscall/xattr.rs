//! Extended attributes: xattr(7). Name spaces and rights are checked here; what is stored is the file system's.
use super::super::inode::InodeRef;
use super::super::prelude::*;
use super::super::uio::try_vec;
use super::super::{env, inotify, ops};
use super::{Args, int, path, real_file};
use crate::process::caps;
use crate::uaccess;

const XATTR_SIZE_MAX: usize = 65536;
const XATTR_CREATE: u32 = 1;
const XATTR_REPLACE: u32 = 2;

type Target = Arc<super::super::dentry::Dentry>;

fn at_path(a: &Args, flags: u32) -> Result<Target> {
    ops::object_at(AT_FDCWD, &path(a[0])?, flags)
}
fn name_of(off: u64) -> Result<Vec<u8>> {
    let name =
        uaccess::read_cstr(off, NAME_MAX + 1).map_err(|e| if e == ENAMETOOLONG { ERANGE } else { e })?;
    if name.is_empty() || name.len() > NAME_MAX { Err(ERANGE) } else { Ok(name) }
}

/// May the caller use this name on this file? `refused` is what a reader gets for names that are not shown.
fn check(inode: &InodeRef, name: &[u8], write: bool) -> Result<()> {
    let cred = env::cred();
    let refused = if write { EPERM } else { ENODATA };
    if write && inode.fs().read_only {
        return Err(EROFS);
    }
    match name.iter().position(|c| *c == b'.').map(|i| &name[..i]) {
        Some(b"user") => {
            let kind = inode.kind();
            if kind != S_IFREG && kind != S_IFDIR {
                return Err(refused);
            }
            let s = inode.stat()?;
            if write
                && kind == S_IFDIR
                && s.mode & S_ISVTX != 0
                && !cred.can(caps::FOWNER)
                && cred.uid != s.uid
            {
                return Err(EPERM);
            }
            cred.check(&s, if write { MAY_WRITE } else { MAY_READ })
        }
        Some(b"trusted") if !cred.can(caps::SYS_ADMIN) => Err(refused),
        Some(b"security") if write && !cred.can(caps::SYS_ADMIN) => Err(EPERM),
        Some(b"trusted" | b"security") => Ok(()),
        _ => Err(EOPNOTSUPP),
    }
}

/// Hands `value` out; length 0 asks how long it is.
fn give(value: &[u8], off: u64, size: u64) -> Result<usize> {
    if size != 0 {
        if value.len() as u64 > size {
            return Err(ERANGE);
        }
        uaccess::write_bytes(off, value)?;
    }
    Ok(value.len())
}

fn get(d: &Target, a: &Args) -> Result<usize> {
    let name = name_of(a[1])?;
    check(d.inode(), &name, false)?;
    give(&d.inode().xattr(&name)?, a[2], a[3])
}
/// getxattr(2).
pub fn sys_getxattr(a: &Args) -> Result<usize> {
    get(&at_path(a, 0)?, a)
}
/// lgetxattr(2).
pub fn sys_lgetxattr(a: &Args) -> Result<usize> {
    get(&at_path(a, AT_SYMLINK_NOFOLLOW)?, a)
}
/// fgetxattr(2).
pub fn sys_fgetxattr(a: &Args) -> Result<usize> {
    get(real_file(a[0])?.dentry(), a)
}

fn list(d: &Target, a: &Args) -> Result<usize> {
    let root = env::cred().can(caps::SYS_ADMIN);
    let mut names = d.inode().xattrs()?;
    names.retain(|n| root || !n.starts_with(b"trusted."));
    let all: Vec<u8> = names.into_iter().flat_map(|n| n.into_iter().chain([0])).collect();
    give(&all, a[1], a[2])
}
/// listxattr(2).
pub fn sys_listxattr(a: &Args) -> Result<usize> {
    list(&at_path(a, 0)?, a)
}
/// llistxattr(2).
pub fn sys_llistxattr(a: &Args) -> Result<usize> {
    list(&at_path(a, AT_SYMLINK_NOFOLLOW)?, a)
}
/// flistxattr(2).
pub fn sys_flistxattr(a: &Args) -> Result<usize> {
    list(real_file(a[0])?.dentry(), a)
}

fn set(d: &Target, a: &Args) -> Result<usize> {
    let (flags, name) = (int(a[4]), name_of(a[1])?);
    if flags & !(XATTR_CREATE | XATTR_REPLACE) != 0 {
        return Err(EINVAL);
    }
    if a[3] > XATTR_SIZE_MAX as u64 {
        return Err(Errno::E2BIG);
    }
    let mut value = try_vec(a[3] as usize)?;
    uaccess::read_bytes(a[2], &mut value)?;
    check(d.inode(), &name, true)?;
    let existed = match flags {
        0 => None,
        XATTR_CREATE => Some(false),
        XATTR_REPLACE => Some(true),
        _ => return Err(EINVAL),
    };
    d.inode().set_xattr(&name, &value, existed)?;
    inotify::about(d, inotify::event::ATTRIB);
    Ok(0)
}
/// setxattr(2).
pub fn sys_setxattr(a: &Args) -> Result<usize> {
    set(&at_path(a, 0)?, a)
}
/// lsetxattr(2).
pub fn sys_lsetxattr(a: &Args) -> Result<usize> {
    set(&at_path(a, AT_SYMLINK_NOFOLLOW)?, a)
}
/// fsetxattr(2).
pub fn sys_fsetxattr(a: &Args) -> Result<usize> {
    set(real_file(a[0])?.dentry(), a)
}

fn remove(d: &Target, a: &Args) -> Result<usize> {
    let name = name_of(a[1])?;
    check(d.inode(), &name, true)?;
    d.inode().remove_xattr(&name)?;
    inotify::about(d, inotify::event::ATTRIB);
    Ok(0)
}
/// removexattr(2).
pub fn sys_removexattr(a: &Args) -> Result<usize> {
    remove(&at_path(a, 0)?, a)
}
/// lremovexattr(2).
pub fn sys_lremovexattr(a: &Args) -> Result<usize> {
    remove(&at_path(a, AT_SYMLINK_NOFOLLOW)?, a)
}
/// fremovexattr(2).
pub fn sys_fremovexattr(a: &Args) -> Result<usize> {
    remove(real_file(a[0])?.dentry(), a)
}
