//! stat and its relatives, access, statfs.
use super::super::dentry::Dentry;
use super::super::inode::{InodeRef, Stat};
use super::super::prelude::*;
use super::super::{env, ops, path as vpath};
use super::{Args, fd, file, int, path};
use crate::uaccess;

/// Little-endian fields put one after another.
struct Out<const N: usize> {
    buf: [u8; N],
    at: usize,
}
impl<const N: usize> Out<N> {
    fn new() -> Self {
        Self { buf: [0; N], at: 0 }
    }
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.buf[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }
    fn u16(&mut self, v: u16) -> &mut Self {
        self.put(&v.to_le_bytes())
    }
    fn u32(&mut self, v: u32) -> &mut Self {
        self.put(&v.to_le_bytes())
    }
    fn u64(&mut self, v: u64) -> &mut Self {
        self.put(&v.to_le_bytes())
    }
    fn time(&mut self, ns: i64) -> &mut Self {
        self.u64(ns.div_euclid(1_000_000_000) as u64).u64(ns.rem_euclid(1_000_000_000) as u64)
    }
    fn statx_time(&mut self, ns: i64) -> &mut Self {
        self.u64(ns.div_euclid(1_000_000_000) as u64).u32(ns.rem_euclid(1_000_000_000) as u32).u32(0)
    }
}

fn write_stat(off: u64, s: &Stat) -> Result<usize> {
    let mut o = Out::<144>::new();
    o.u64(s.dev).u64(s.ino).u64(s.nlink).u32(s.mode).u32(s.uid).u32(s.gid).u32(0).u64(s.rdev);
    o.u64(s.size).u64(s.blksize).u64(blocks(s)).time(s.atime).time(s.mtime).time(s.ctime);
    uaccess::write_bytes(off, &o.buf)?;
    Ok(0)
}
fn blocks(s: &Stat) -> u64 {
    s.blocks
}
/// major and minor of a `dev_t`.
fn split_dev(d: u64) -> (u32, u32) {
    (((d >> 8) & 0xfff | (d >> 32) & !0xfff) as u32, (d & 0xff | (d >> 12) & !0xff) as u32)
}
fn write_statx(off: u64, s: &Stat, d: &Arc<Dentry>) -> Result<usize> {
    const BASIC_STATS: u32 = 0x7ff;
    const ATTR_MOUNT_ROOT: u64 = 0x2000;
    let root = if d.is_mount() { ATTR_MOUNT_ROOT } else { 0 };
    let mut o = Out::<256>::new();
    o.u32(BASIC_STATS).u32(s.blksize as u32).u64(root).u32(s.nlink as u32).u32(s.uid).u32(s.gid);
    o.u16(s.mode as u16).u16(0).u64(s.ino).u64(s.size).u64(blocks(s)).u64(ATTR_MOUNT_ROOT);
    o.statx_time(s.atime).statx_time(0).statx_time(s.ctime).statx_time(s.mtime);
    let ((rmaj, rmin), (maj, min)) = (split_dev(s.rdev), split_dev(s.dev));
    o.u32(rmaj).u32(rmin).u32(maj).u32(min);
    uaccess::write_bytes(off, &o.buf)?;
    Ok(0)
}
/// Metadata at a path or of a descriptor.
fn stat_at(dirfd: i32, name: &[u8], flags: u32) -> Result<(Stat, Arc<Dentry>)> {
    if name.is_empty() && flags & AT_EMPTY_PATH != 0 && dirfd != AT_FDCWD {
        let f = env::file(dirfd)?;
        return Ok((f.stat()?, f.dentry().clone()));
    }
    let d = ops::object_at(dirfd, name, flags)?;
    Ok((d.inode().stat()?, d))
}

/// stat(2).
pub fn sys_stat(a: &Args) -> Result<usize> {
    write_stat(a[1], &stat_at(AT_FDCWD, &path(a[0])?, 0)?.0)
}
/// lstat(2).
pub fn sys_lstat(a: &Args) -> Result<usize> {
    write_stat(a[1], &stat_at(AT_FDCWD, &path(a[0])?, AT_SYMLINK_NOFOLLOW)?.0)
}
/// fstat(2).
pub fn sys_fstat(a: &Args) -> Result<usize> {
    write_stat(a[1], &file(a[0])?.stat()?)
}
/// newfstatat(2).
pub fn sys_newfstatat(a: &Args) -> Result<usize> {
    let flags = int(a[3]);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC) != 0 {
        return Err(EINVAL);
    }
    let name = if a[1] == 0 && flags & AT_EMPTY_PATH != 0 { Vec::new() } else { path(a[1])? };
    write_stat(a[2], &stat_at(fd(a[0]), &name, flags)?.0)
}
/// statx(2).
pub fn sys_statx(a: &Args) -> Result<usize> {
    let flags = int(a[2]);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC) != 0
        || int(a[3]) & 0x8000_0000 != 0
        || flags & AT_STATX_SYNC == AT_STATX_SYNC
    {
        return Err(EINVAL);
    }
    let name = if a[1] == 0 && flags & AT_EMPTY_PATH != 0 { Vec::new() } else { path(a[1])? };
    let (s, d) = stat_at(fd(a[0]), &name, flags)?;
    write_statx(a[4], &s, &d)
}

fn do_access(dirfd: i32, name: &[u8], mode: u32, flags: u32) -> Result<usize> {
    if mode & !7 != 0 || flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    let cred = if flags & AT_EACCESS != 0 { env::cred() } else { env::real_cred() };
    let d = ops::object_as(&cred, dirfd, name, flags)?;
    let s = d.inode().stat()?;
    let kind = s.mode & S_IFMT;
    if mode & MAY_WRITE != 0 && d.inode().fs().read_only && matches!(kind, S_IFREG | S_IFDIR | S_IFLNK) {
        return Err(EROFS);
    }
    if mode == 0 { Ok(0) } else { d.inode().check(&cred, mode).map(|()| 0) }
}
/// access(2).
pub fn sys_access(a: &Args) -> Result<usize> {
    do_access(AT_FDCWD, &path(a[0])?, int(a[1]), 0)
}
/// faccessat(2).
pub fn sys_faccessat(a: &Args) -> Result<usize> {
    do_access(fd(a[0]), &path(a[1])?, int(a[2]), 0)
}
/// faccessat2(2).
pub fn sys_faccessat2(a: &Args) -> Result<usize> {
    do_access(fd(a[0]), &path(a[1])?, int(a[2]), int(a[3]))
}

fn write_statfs(off: u64, inode: &InodeRef) -> Result<usize> {
    const ST_RDONLY: u64 = 1;
    const ST_VALID: u64 = 0x20;
    let [magic, bsize, blocks, bfree, bavail, files, ffree, namelen] = inode.statfs();
    let info = inode.fs();
    let flags = ST_VALID | if info.read_only { ST_RDONLY } else { 0 };
    let mut o = Out::<120>::new();
    o.u64(magic).u64(bsize).u64(blocks).u64(bfree).u64(bavail).u64(files).u64(ffree);
    o.u64(info.dev).u64(namelen).u64(bsize).u64(flags);
    uaccess::write_bytes(off, &o.buf)?;
    Ok(0)
}
/// statfs(2).
pub fn sys_statfs(a: &Args) -> Result<usize> {
    let d = ops::walk_at(AT_FDCWD, &path(a[0])?, vpath::Last::Follow)?.get()?;
    write_statfs(a[1], d.inode())
}
/// fstatfs(2).
pub fn sys_fstatfs(a: &Args) -> Result<usize> {
    write_statfs(a[1], file(a[0])?.inode())
}
