//! What needs no more than a check: sync, advice, mount.
use super::super::prelude::*;
use super::super::{env, ops, seal, sealed, tmpfs};
use super::{Args, file, int, path, real_file};
use crate::process::caps;
use crate::uaccess;

/// fsync(2), fdatasync(2).
pub fn sys_fsync(a: &Args) -> Result<usize> {
    let f = real_file(a[0])?;
    match f.inode().kind() {
        S_IFREG | S_IFDIR | S_IFBLK => {
            // What shared mappings wrote is part of it.
            crate::mm::write_back(f.inode().as_ref(), 0);
            f.inode().sync().map(|()| 0)
        }
        _ => Err(EINVAL),
    }
}
/// sync(2).
pub fn sys_sync(_a: &Args) -> Result<usize> {
    sealed::sync_all();
    Ok(0)
}
/// syncfs(2).
pub fn sys_syncfs(a: &Args) -> Result<usize> {
    real_file(a[0])?.inode().sync().map(|()| 0)
}
/// sync_file_range(2).
pub fn sys_sync_file_range(a: &Args) -> Result<usize> {
    const KNOWN: u32 = 7;
    let f = real_file(a[0])?;
    let (start, len) = (a[1] as i64, a[2] as i64);
    if int(a[3]) & !KNOWN != 0 || start < 0 || len < 0 || start.checked_add(len).is_none() {
        return Err(EINVAL);
    }
    match f.inode().kind() {
        S_IFREG | S_IFDIR | S_IFBLK | S_IFLNK => Ok(0),
        _ => Err(ESPIPE),
    }
}
/// fadvise64(2).
pub fn sys_fadvise64(a: &Args) -> Result<usize> {
    let f = real_file(a[0])?;
    if matches!(f.inode().kind(), S_IFIFO | S_IFSOCK) {
        return Err(ESPIPE);
    }
    if int(a[3]) > 5 { Err(EINVAL) } else { Ok(0) }
}
/// cachestat(2): what of a file is in memory. What is written is in memory for good, or with the host: none of it waits.
pub fn sys_cachestat(a: &Args) -> Result<usize> {
    let f = real_file(a[0])?;
    let (off, len): (u64, u64) = (uaccess::read_val(a[1])?, uaccess::read_val(a[1].wrapping_add(8))?);
    let inode = f.inode();
    let may_ask = f.can_write() || {
        let (stat, cred) = (inode.stat()?, env::cred());
        cred.uid == stat.uid || cred.can(caps::FOWNER) || inode.check(&cred, MAY_WRITE).is_ok()
    };
    if !may_ask {
        return Err(EPERM);
    }
    if int(a[3]) != 0 {
        return Err(EINVAL);
    }
    let last = if len == 0 { u64::MAX } else { off.wrapping_add(len - 1) / PAGE };
    let mut out = [0; 40];
    out[..8].copy_from_slice(&inode.cached(off / PAGE..=last).to_le_bytes());
    uaccess::write_bytes(a[2], &out).map(|()| 0)
}
/// readahead(2).
pub fn sys_readahead(a: &Args) -> Result<usize> {
    let f = file(a[0])?;
    if !f.can_read() {
        return Err(EBADF);
    }
    if f.inode().is_regular() { Ok(0) } else { Err(EINVAL) }
}
/// A string argument that may be absent.
fn optional(at: u64) -> Result<Vec<u8>> {
    if at == 0 { Ok(Vec::new()) } else { uaccess::read_cstr(at, PAGE as usize) }
}
/// mount(2): tmpfs only; the other mounts are the configuration's.
pub fn sys_mount(a: &Args) -> Result<usize> {
    let kind = optional(a[2])?;
    let target = path(a[1])?;
    tmpfs::mount_new(&target, &kind, a[3], &optional(a[4])?).map(|()| 0)
}
/// umount2(2).
pub fn sys_umount2(a: &Args) -> Result<usize> {
    tmpfs::unmount(&path(a[0])?, a[1]).map(|()| 0)
}
/// acct(2) and quotas.
pub fn sys_not_permitted(_a: &Args) -> Result<usize> {
    Err(EPERM)
}
/// name_to_handle_at(2).
pub fn sys_name_to_handle_at(_a: &Args) -> Result<usize> {
    Err(EOPNOTSUPP)
}
/// memfd_create(2).
pub fn sys_memfd_create(a: &Args) -> Result<usize> {
    const CLOEXEC: u32 = 1;
    const ALLOW_SEALING: u32 = 2;
    const NOEXEC_SEAL: u32 = 8;
    const EXEC: u32 = 16;
    let flags = int(a[1]);
    if flags & !(CLOEXEC | ALLOW_SEALING | NOEXEC_SEAL | EXEC) != 0 || flags & 24 == NOEXEC_SEAL | EXEC {
        return Err(EINVAL);
    }
    let name = uaccess::read_cstr(a[0], 250).map_err(|e| if e == ENAMETOOLONG { EINVAL } else { e })?;
    let no_exec = flags & NOEXEC_SEAL != 0;
    let seals = match flags & ALLOW_SEALING {
        _ if no_exec => seal::EXEC,
        0 => seal::SEAL,
        _ => 0,
    };
    let f = ops::open_memfd(&name, if no_exec { 0o666 } else { 0o777 }, seals)?;
    Ok(env::files().add(f, flags & CLOEXEC != 0)? as usize)
}
