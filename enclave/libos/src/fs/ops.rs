//! Operations on names: open, create, remove, rename, link, change of metadata. Each checks rights, lets the
//! file system act, keeps the dentries true and notes the change.
use super::changes;
use super::dentry::Dentry;
use super::env;
use super::file::OpenFile;
use super::inode::{InodeRef, SetAttr, Stat};
use super::inotify::{self, event};
use super::leases;
use super::memfs::MemInode;
use super::path::{self, Cred, Last, Walked};
use super::prelude::*;
use crate::process::caps;

/// The directory that a relative `path` starts from; with limits an absolute one, too.
fn base(dirfd: i32, path: &[u8], resolve: u32) -> Result<Arc<Dentry>> {
    let absolute = path.first() == Some(&b'/') && resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT) == 0;
    if absolute || dirfd == AT_FDCWD {
        return Ok(env::fs().cwd());
    }
    let d = env::file(dirfd)?.dentry().clone();
    if d.inode().is_dir() { Ok(d) } else { Err(ENOTDIR) }
}
/// Walks `path` from `dirfd`.
pub fn walk_at(dirfd: i32, path: &[u8], last: Last) -> Result<Walked> {
    walk_within(dirfd, path, last, 0)
}
/// The same within the limits of openat2's `RESOLVE_*`.
fn walk_within(dirfd: i32, path: &[u8], last: Last, resolve: u32) -> Result<Walked> {
    if path.is_empty() {
        return Err(ENOENT);
    }
    path::walk_within(&env::fs(), &env::cred(), &base(dirfd, path, resolve)?, path, last, resolve)
}
/// The object at `path`, or `dirfd`'s own if the path is empty and `AT_EMPTY_PATH` is given.
pub fn object_at(dirfd: i32, path: &[u8], flags: u32) -> Result<Arc<Dentry>> {
    object_as(&env::cred(), dirfd, path, flags)
}
/// The same with other rights than the caller's.
pub fn object_as(cred: &Cred, dirfd: i32, path: &[u8], flags: u32) -> Result<Arc<Dentry>> {
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        if dirfd == AT_FDCWD {
            return Ok(env::fs().cwd());
        }
        return Ok(env::file(dirfd)?.dentry().clone());
    }
    let last = if flags & AT_SYMLINK_NOFOLLOW != 0 { Last::NoFollow } else { Last::Follow };
    if path.is_empty() {
        return Err(ENOENT);
    }
    path::walk(&env::fs(), cred, &base(dirfd, path, 0)?, path, last)?.get()
}

fn writable_fs(i: &InodeRef) -> Result<()> {
    if i.fs().read_only { Err(EROFS) } else { Ok(()) }
}
/// May the caller add or remove names in `dir`?
fn check_dir_write(cred: &Cred, dir: &Arc<Dentry>) -> Result<()> {
    writable_fs(dir.inode())?;
    if !cred.can(caps::DAC_OVERRIDE) {
        cred.check(&dir.inode().stat()?, MAY_WRITE | MAY_EXEC)?;
    }
    if dir.is_deleted() { Err(ENOENT) } else { Ok(()) }
}
/// May the caller remove `victim` from `dir` (sticky bit)?
fn check_remove(cred: &Cred, dir: &Arc<Dentry>, victim: &Arc<Dentry>) -> Result<()> {
    check_dir_write(cred, dir)?;
    if victim.is_mount() {
        return Err(EBUSY);
    }
    let d = dir.inode().stat()?;
    if d.mode & S_ISVTX != 0 && !cred.can(caps::FOWNER) && cred.uid != d.uid {
        return if victim.inode().stat()?.uid == cred.uid { Ok(()) } else { Err(EPERM) };
    }
    Ok(())
}
/// Does a program of this mode run with the rights of its group?
fn runs_as_group(mode: u32) -> bool {
    mode & (S_ISGID | 0o10) == S_ISGID | 0o10
}
/// May the caller leave files of this group to run with its rights?
fn may_set_gid(cred: &Cred, gid: u32) -> bool {
    cred.in_group(gid) || cred.can(caps::FSETID)
}
/// Set-id bits that a file loses when its owner or, by somebody without CAP_FSETID, its content changes.
fn set_ids_lost(cred: &Cred, s: &Stat) -> u32 {
    let group = runs_as_group(s.mode) || !may_set_gid(cred, s.gid);
    s.mode & if group { S_ISUID | S_ISGID } else { S_ISUID }
}
/// The content is about to change: nobody's program is to run as somebody else by it. Of the host's files the host takes care.
pub fn drop_set_ids(inode: &InodeRef) -> Result<()> {
    if !inode.is_regular() || inode.fs().host.is_some() || env::capable(caps::FSETID) {
        return Ok(());
    }
    let s = inode.stat()?;
    let dropped = set_ids_lost(&env::cred(), &s);
    if dropped == 0 {
        return Ok(());
    }
    inode.setattr(&SetAttr { mode: Some(s.mode & 0o7777 & !dropped), ..SetAttr::default() })
}
/// Owner and mode of a new object in `dir`.
fn new_owner(cred: &Cred, dir: &Stat, mode: u32) -> ((u32, u32), u32) {
    if dir.mode & S_ISGID == 0 {
        return ((cred.uid, cred.gid), mode);
    }
    let mode = match mode & S_IFMT {
        S_IFDIR => mode | S_ISGID,
        _ if runs_as_group(mode) && !may_set_gid(cred, dir.gid) => mode & !S_ISGID,
        _ => mode,
    };
    ((cred.uid, dir.gid), mode)
}
/// Makes an object at a free name.
fn make(w: &Walked, mode: u32, rdev: u64) -> Result<Arc<Dentry>> {
    let cred = env::cred();
    check_dir_write(&cred, &w.parent)?;
    let dir = w.parent.inode();
    let mode = (mode & S_IFMT) | (mode & 0o7777 & !env::fs().umask());
    let (owner, mode) = new_owner(&cred, &dir.stat()?, mode);
    let inode = dir.create(&w.name, mode, owner, rdev)?;
    changes::note_entry(&w.parent, &w.name);
    inotify::entry(&w.parent, &w.name, &inode, event::CREATE);
    Ok(w.parent.attach(&w.name, inode))
}

/// open(2). `mode` is that of a new file.
pub fn open_at(dirfd: i32, path: &[u8], flags: u32, mode: u32) -> Result<Arc<OpenFile>> {
    open_within(dirfd, path, flags, mode, 0)
}
/// The same within the limits of openat2's `RESOLVE_*`.
pub fn open_within(dirfd: i32, path: &[u8], flags: u32, mode: u32, resolve: u32) -> Result<Arc<OpenFile>> {
    let mut flags = flags;
    if flags & O_PATH != 0 {
        flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    }
    if flags & O_TMPFILE == O_TMPFILE {
        return open_tmpfile(dirfd, path, flags, mode, resolve);
    }
    let create = flags & O_CREAT != 0;
    if create && flags & O_DIRECTORY != 0 {
        return Err(EINVAL);
    }
    let no_follow = flags & O_NOFOLLOW != 0 || (create && flags & O_EXCL != 0);
    let last = match create && path.ends_with(b"/") {
        true => Last::Name,
        false if no_follow => Last::NoFollow,
        false => Last::Follow,
    };
    let w = walk_within(dirfd, path, last, resolve)?;
    if last == Last::Name && !w.special {
        return Err(EISDIR);
    }
    match &w.found {
        None if !create => Err(ENOENT),
        None if w.slash => Err(EISDIR),
        None => {
            let d = make(&w, S_IFREG | (mode & 0o7777), 0)?;
            open_dentry(d, flags, true)
        }
        Some(_) if create && flags & O_EXCL != 0 => Err(EEXIST),
        Some(d) => open_dentry(d.clone(), flags, false),
    }
}

/// Opens what is there. `fresh`: just created by this call, so no rights are checked.
fn open_dentry(d: Arc<Dentry>, flags: u32, fresh: bool) -> Result<Arc<OpenFile>> {
    let inode = d.inode().clone();
    let kind = inode.kind();
    if flags & O_DIRECTORY != 0 && kind != S_IFDIR {
        return Err(ENOTDIR);
    }
    if flags & O_PATH != 0 {
        return Ok(OpenFile::new(d, None, flags));
    }
    let write = flags & O_ACCMODE != O_RDONLY;
    match kind {
        S_IFLNK => return Err(ELOOP),
        S_IFDIR if write || flags & O_CREAT != 0 => return Err(EISDIR),
        S_IFSOCK => return Err(ENXIO),
        S_IFREG if write || flags & O_TRUNC != 0 => writable_fs(&inode)?,
        _ => {}
    }
    if !fresh {
        inode.check(&env::cred(), access_of(flags))?;
    }
    leases::break_all(&inode, write, flags & O_NONBLOCK == 0)?;
    let special = inode.open(&inode, flags)?;
    inotify::about(&d, event::OPEN);
    if flags & O_TRUNC != 0 && kind == S_IFREG && !fresh {
        resize(&inode, 0)?;
        changes::note(&d);
        inotify::about(&d, event::MODIFY);
    }
    Ok(OpenFile::new(d, special, flags))
}
fn access_of(flags: u32) -> u32 {
    let base = match flags & O_ACCMODE {
        O_RDONLY => MAY_READ,
        O_WRONLY => MAY_WRITE,
        _ => MAY_READ | MAY_WRITE,
    };
    if flags & O_TRUNC != 0 { base | MAY_WRITE } else { base }
}
fn open_tmpfile(dirfd: i32, path: &[u8], flags: u32, mode: u32, resolve: u32) -> Result<Arc<OpenFile>> {
    if flags & O_ACCMODE == O_RDONLY {
        return Err(EINVAL);
    }
    let dir = walk_within(dirfd, path, Last::Follow, resolve)?.get()?;
    if !dir.inode().is_dir() {
        return Err(ENOTDIR);
    }
    let cred = env::cred();
    check_dir_write(&cred, &dir)?;
    let mode = S_IFREG | (mode & 0o7777 & !env::fs().umask());
    let inode = dir.inode().unnamed(mode, (cred.uid, cred.gid))?;
    let name = alloc::format!("/#{}", inode.object_id());
    let flags = flags & !(O_TMPFILE | O_CREAT | O_TRUNC);
    Ok(OpenFile::new(Dentry::anonymous(inode, name.as_bytes()), None, flags))
}

/// mkdir(2).
pub fn mkdir(dirfd: i32, path: &[u8], mode: u32) -> Result<()> {
    let w = walk_at(dirfd, path, Last::Name)?;
    if w.found.is_some() {
        return Err(EEXIST);
    }
    make(&w, S_IFDIR | (mode & 0o1777), 0).map(drop)
}
/// mknod(2).
pub fn mknod(dirfd: i32, path: &[u8], mode: u32, rdev: u64) -> Result<()> {
    let w = walk_at(dirfd, path, Last::Name)?;
    if w.found.is_some() {
        return Err(EEXIST);
    }
    if w.slash {
        return Err(ENOENT);
    }
    let mode = if mode & S_IFMT == 0 { mode | S_IFREG } else { mode };
    match mode & S_IFMT {
        S_IFREG | S_IFIFO | S_IFSOCK => {}
        S_IFCHR | S_IFBLK if env::cred().can(caps::MKNOD) => {}
        S_IFCHR | S_IFBLK => return Err(EPERM),
        S_IFDIR => return Err(EPERM),
        _ => return Err(EINVAL),
    }
    make(&w, mode, rdev).map(drop)
}
/// Makes a socket node for bind(2); `EADDRINUSE` if the name is taken.
pub fn make_socket(path: &[u8]) -> Result<Arc<Dentry>> {
    let w = walk_at(AT_FDCWD, path, Last::Name)?;
    if w.found.is_some() {
        return Err(EADDRINUSE);
    }
    make(&w, S_IFSOCK | 0o777, 0)
}
/// symlink(2).
pub fn symlink(target: &[u8], dirfd: i32, path: &[u8]) -> Result<()> {
    if target.is_empty() {
        return Err(ENOENT);
    }
    let w = walk_at(dirfd, path, Last::Name)?;
    if w.found.is_some() {
        return Err(EEXIST);
    }
    if w.slash {
        return Err(ENOENT);
    }
    let cred = env::cred();
    check_dir_write(&cred, &w.parent)?;
    let dir = w.parent.inode();
    let (owner, _) = new_owner(&cred, &dir.stat()?, S_IFLNK);
    let inode = dir.symlink(&w.name, target, owner)?;
    changes::note_entry(&w.parent, &w.name);
    inotify::entry(&w.parent, &w.name, &inode, event::CREATE);
    w.parent.attach(&w.name, inode);
    Ok(())
}
/// May the caller link to this file? As with fs.protected_hardlinks: not to others' files that it cannot read and write, or
/// that run with their rights.
fn check_link_source(cred: &Cred, s: &Stat) -> Result<()> {
    let safe = s.mode & S_IFMT == S_IFREG && s.mode & S_ISUID == 0 && !runs_as_group(s.mode);
    let owner = cred.uid == s.uid || cred.can(caps::FOWNER);
    if owner || safe && cred.check(s, MAY_READ | MAY_WRITE).is_ok() { Ok(()) } else { Err(EPERM) }
}
/// link(2).
pub fn link(old: &Arc<Dentry>, dirfd: i32, path: &[u8]) -> Result<()> {
    let w = walk_at(dirfd, path, Last::Name)?;
    if w.found.is_some() {
        return Err(EEXIST);
    }
    if w.slash {
        return Err(ENOENT);
    }
    if old.inode().fs().dev != w.parent.inode().fs().dev {
        return Err(EXDEV);
    }
    let cred = env::cred();
    check_link_source(&cred, &old.inode().stat()?)?;
    check_dir_write(&cred, &w.parent)?;
    if old.inode().is_dir() {
        return Err(EPERM);
    }
    w.parent.inode().link(&w.name, old.inode())?;
    changes::note_entry(&w.parent, &w.name);
    inotify::itself(old, event::ATTRIB);
    inotify::entry(&w.parent, &w.name, old.inode(), event::CREATE);
    w.parent.attach(&w.name, old.inode().clone());
    Ok(())
}
/// References to a victim that its remover has: the walk's and its own.
const HELD_HERE: usize = 2;

/// unlink(2).
pub fn unlink(dirfd: i32, path: &[u8]) -> Result<()> {
    let w = walk_at(dirfd, path, Last::Name)?;
    let victim = w.get()?;
    let dir = victim.inode().is_dir();
    if w.special || w.slash {
        return Err(if dir { EISDIR } else { ENOTDIR });
    }
    check_remove(&env::cred(), &w.parent, &victim)?;
    if dir {
        return Err(EISDIR);
    }
    w.parent.inode().unlink(&w.name)?;
    changes::note_entry(&w.parent, &w.name);
    w.parent.detach(&w.name);
    inotify::itself(&victim, event::ATTRIB);
    inotify::unlinked(&victim, HELD_HERE);
    inotify::entry(&w.parent, &w.name, victim.inode(), event::DELETE);
    Ok(())
}
/// rmdir(2).
pub fn rmdir(dirfd: i32, path: &[u8]) -> Result<()> {
    let w = walk_at(dirfd, path, Last::Name)?;
    let victim = w.get()?;
    if w.special {
        return Err(match w.name.as_slice() {
            b"." => EINVAL,
            b".." => ENOTEMPTY,
            _ => EBUSY,
        });
    }
    if !victim.mounts_in().is_empty() {
        return Err(EBUSY);
    }
    check_remove(&env::cred(), &w.parent, &victim)?;
    if !victim.inode().is_dir() {
        return Err(ENOTDIR);
    }
    w.parent.inode().rmdir(&w.name)?;
    changes::note_entry(&w.parent, &w.name);
    w.parent.detach(&w.name);
    inotify::unlinked(&victim, HELD_HERE);
    inotify::entry(&w.parent, &w.name, victim.inode(), event::DELETE);
    Ok(())
}

/// renameat2(2).
pub fn rename(from: (i32, &[u8]), to: (i32, &[u8]), flags: u32) -> Result<()> {
    let exchange = flags & RENAME_EXCHANGE != 0;
    let known = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;
    if flags & !known != 0 || exchange && flags != RENAME_EXCHANGE {
        return Err(EINVAL);
    }
    let whiteout = flags & RENAME_WHITEOUT != 0;
    if whiteout && !env::cred().can(caps::MKNOD) {
        return Err(EPERM);
    }
    let a = walk_at(from.0, from.1, Last::Name)?;
    let b = walk_at(to.0, to.1, Last::Name)?;
    if a.special || b.special {
        return Err(EBUSY);
    }
    // As overlayfs, whose own mark a whiteout is.
    if whiteout && super::overlay::is_merged(a.parent.inode()) {
        return Err(EINVAL);
    }
    let moved = a.get()?;
    check_rename(&a, &b, &moved, flags)?;
    if let Some(target) = &b.found
        && Arc::ptr_eq(target.inode(), moved.inode())
    {
        return Ok(());
    }
    check_rename_rights(&a, &b, &moved, flags)?;
    a.parent.inode().rename(&a.name, b.parent.inode(), &b.name, exchange)?;
    changes::note_entry(&a.parent, &a.name);
    changes::note_entry(&b.parent, &b.name);
    a.parent.renamed(&a.name, &b.parent, &b.name, &moved, exchange);
    if whiteout {
        let cred = env::cred();
        let inode = a.parent.inode().create(&a.name, S_IFCHR, (cred.uid, cred.gid), 0)?;
        a.parent.attach(&a.name, inode);
    }
    let (from, to) = ((&a.parent, &a.name[..]), (&b.parent, &b.name[..]));
    match &b.found {
        Some(other) if exchange => {
            inotify::moved(from, to, &moved, None);
            inotify::moved(to, from, other, None);
        }
        replaced => {
            inotify::moved(from, to, &moved, replaced.as_ref());
            if let Some(r) = replaced {
                inotify::unlinked(r, 1);
            }
        }
    }
    Ok(())
}
/// What rules a rename out whoever asks for it.
fn check_rename(a: &Walked, b: &Walked, moved: &Arc<Dentry>, flags: u32) -> Result<()> {
    let exchange = flags & RENAME_EXCHANGE != 0;
    if a.parent.inode().fs().dev != b.parent.inode().fs().dev {
        return Err(EXDEV);
    }
    match &b.found {
        Some(_) if flags & RENAME_NOREPLACE != 0 => return Err(EEXIST),
        None if exchange => return Err(ENOENT),
        Some(target) if exchange && b.slash && !target.inode().is_dir() => return Err(ENOTDIR),
        _ => {}
    }
    let dir = moved.inode().is_dir();
    if !dir && (a.slash || b.slash && !exchange) {
        return Err(ENOTDIR);
    }
    if dir && b.parent.is_below(moved) {
        return Err(EINVAL);
    }
    match &b.found {
        Some(target) if a.parent.is_below(target) => Err(if exchange { EINVAL } else { ENOTEMPTY }),
        _ => Ok(()),
    }
}
/// May the caller rename so?
fn check_rename_rights(a: &Walked, b: &Walked, moved: &Arc<Dentry>, flags: u32) -> Result<()> {
    let cred = env::cred();
    check_remove(&cred, &a.parent, moved)?;
    let exchange = flags & RENAME_EXCHANGE != 0;
    match &b.found {
        Some(target) => {
            check_remove(&cred, &b.parent, target)?;
            match (moved.inode().is_dir(), target.inode().is_dir()) {
                (true, false) if !exchange => return Err(ENOTDIR),
                (false, true) if !exchange => return Err(EISDIR),
                _ => {}
            }
        }
        None => check_dir_write(&cred, &b.parent)?,
    }
    if Arc::ptr_eq(&a.parent, &b.parent) {
        return Ok(());
    }
    // A directory that moves gets another `..`.
    let other = b.found.iter().filter(|_| exchange);
    for changed in core::iter::once(moved).chain(other).filter(|d| d.inode().is_dir()) {
        cred.check(&changed.inode().stat()?, MAY_WRITE)?;
    }
    Ok(())
}

/// Only the owner may, and who has CAP_FOWNER.
fn check_owner(s: &Stat) -> Result<()> {
    let cred = env::cred();
    if cred.can(caps::FOWNER) || cred.uid == s.uid { Ok(()) } else { Err(EPERM) }
}
/// chmod(2).
pub fn chmod(d: &Arc<Dentry>, mode: u32) -> Result<()> {
    let s = d.inode().stat()?;
    writable_fs(d.inode())?;
    check_owner(&s)?;
    if d.inode().kind() == S_IFLNK {
        return Err(EOPNOTSUPP);
    }
    super::seal::check_mode(d.inode().as_ref(), s.mode, mode)?;
    let cred = env::cred();
    let mut mode = mode & 0o7777;
    if !may_set_gid(&cred, s.gid) {
        mode &= !S_ISGID;
    }
    d.inode().setattr(&SetAttr { mode: Some(mode), ..SetAttr::default() })?;
    changes::note(d);
    inotify::about(d, event::ATTRIB);
    Ok(())
}
/// chown(2); `u32::MAX` leaves an id alone.
pub fn chown(d: &Arc<Dentry>, uid: u32, gid: u32) -> Result<()> {
    let s = d.inode().stat()?;
    writable_fs(d.inode())?;
    let cred = env::cred();
    let keep = |id: u32| (id != u32::MAX).then_some(id);
    let (uid, gid) = (keep(uid), keep(gid));
    if !cred.can(caps::CHOWN) {
        let own = cred.uid == s.uid;
        let uid_ok = uid.is_none_or(|u| own && u == s.uid);
        let gid_ok = gid.is_none_or(|g| own && cred.in_group(g));
        if !uid_ok || !gid_ok {
            return Err(EPERM);
        }
    }
    // Set-id bits do not survive it, not even if nothing else changes.
    let dropped = set_ids_lost(&cred, &s);
    let drops = dropped != 0 && !matches!(d.inode().kind(), S_IFDIR | S_IFLNK);
    if drops && uid.is_none() && gid.is_none() {
        check_owner(&s)?;
    }
    let mode = drops.then_some(s.mode & 0o7777 & !dropped);
    if (uid, gid, mode) == (None, None, None) {
        return Ok(());
    }
    d.inode().setattr(&SetAttr { uid, gid, mode, ..SetAttr::default() })?;
    changes::note(d);
    inotify::about(d, event::ATTRIB);
    Ok(())
}
/// utimensat(2): `None` leaves a time alone; `explicit` says whether a time other than now was given.
pub fn utimens(d: &Arc<Dentry>, atime: Option<i64>, mtime: Option<i64>, explicit: bool) -> Result<()> {
    let s = d.inode().stat()?;
    writable_fs(d.inode())?;
    let cred = env::cred();
    if !cred.can(caps::FOWNER) && cred.uid != s.uid {
        if explicit {
            return Err(EPERM);
        }
        cred.check(&s, MAY_WRITE)?;
    }
    d.inode().setattr(&SetAttr { atime, mtime, ..SetAttr::default() })?;
    changes::note(d);
    let what = match (atime, mtime) {
        (Some(_), None) => event::ACCESS,
        (None, Some(_)) => event::MODIFY,
        _ => event::ATTRIB,
    };
    inotify::about(d, what);
    Ok(())
}
/// truncate(2) of a path.
pub fn truncate(d: &Arc<Dentry>, len: u64) -> Result<()> {
    match d.inode().kind() {
        S_IFREG => {}
        S_IFDIR => return Err(EISDIR),
        _ => return Err(EINVAL),
    }
    writable_fs(d.inode())?;
    env::cred().check(&d.inode().stat()?, MAY_WRITE)?;
    leases::break_all(d.inode(), true, true)?;
    d.inode().open(d.inode(), O_WRONLY)?;
    set_len(d.inode(), len)?;
    changes::note(d);
    inotify::about(d, event::MODIFY);
    Ok(())
}
/// Sets a length within the file size limit.
pub fn set_len(inode: &InodeRef, len: u64) -> Result<()> {
    check_limit(len)?;
    resize(inode, len)
}
/// May files of the process be so long?
fn check_limit(len: u64) -> Result<()> {
    const SIGXFSZ: i32 = 25;
    if len > env::fsize() {
        env::signal_self(SIGXFSZ);
        return Err(EFBIG);
    }
    Ok(())
}
/// Sets a length; mappings of the file follow.
fn resize(inode: &InodeRef, len: u64) -> Result<()> {
    super::seal::check_resize(inode.as_ref(), len)?;
    drop_set_ids(inode)?;
    let shrinks = crate::mm::before_truncate(inode.as_ref(), len);
    inode.truncate(len)?;
    if shrinks {
        crate::mm::after_truncate(inode.as_ref(), len);
    }
    Ok(())
}

/// fallocate(2) after its arguments were checked.
pub fn allocate(f: &OpenFile, mode: u32, off: u64, len: u64) -> Result<()> {
    const KEEP_SIZE: u32 = 1;
    const PUNCH_HOLE: u32 = 2;
    const COLLAPSE_RANGE: u32 = 8;
    const ZERO_RANGE: u32 = 16;
    const INSERT_RANGE: u32 = 32;
    let inode = f.inode().as_ref();
    let (old, end) = (inode.size(), off.saturating_add(len));
    super::seal::check_allocate(inode, mode, end)?;
    // A tmpfs has blocks behind the end count as well.
    let is_limited =
        matches!(mode, 0 | ZERO_RANGE) || mode == KEEP_SIZE && inode.fs().magic == super::tmpfs::MAGIC;
    if end > old && is_limited {
        check_limit(end)?;
    }
    drop_set_ids(f.inode())?;
    f.note_change();
    // Where blocks are taken out or put in, all that is behind moves, with what mappings wrote there.
    let moves = mode & (COLLAPSE_RANGE | INSERT_RANGE) != 0;
    if moves {
        crate::mm::write_back(inode, off);
    }
    inode.allocate(mode, off, len)?;
    let size = inode.size();
    // Zeroed ranges show in shared mappings, and what those wrote elsewhere stays.
    if moves || mode & (PUNCH_HOLE | ZERO_RANGE) != 0 {
        crate::mm::after_write(inode, off, if moves { size.max(old) - off } else { len });
    }
    if size < old {
        crate::mm::after_truncate(inode, size);
    }
    inotify::about(f.dentry(), event::MODIFY);
    Ok(())
}
/// Zeros a range of the file (madvise's MADV_REMOVE), whose blocks go.
pub fn punch(f: &OpenFile, r: core::ops::Range<u64>) -> Result<()> {
    const KEEP_SIZE: u32 = 1;
    const PUNCH_HOLE: u32 = 2;
    allocate(f, PUNCH_HOLE | KEEP_SIZE, r.start, r.end - r.start)
}

static MEMFD_FS: BklCell<Option<Arc<super::inode::FsInfo>>> = BklCell::new(None);
fn unnamed(label: &[u8], mode: u32, owner: (u32, u32), seals: u32) -> Arc<OpenFile> {
    let fs = match MEMFD_FS.with(|f| f.clone()) {
        Some(f) => f,
        None => {
            let f = super::mount::info("tmpfs", super::tmpfs::MAGIC, false);
            MEMFD_FS.set(Some(f.clone()));
            f
        }
    };
    let inode = MemInode::new_memfd(&fs, mode, owner, seals);
    OpenFile::new(Dentry::anonymous(inode, label), None, O_RDWR)
}
/// A file in memory without a name in the tree (memfd_create).
pub fn open_memfd(name: &[u8], mode: u32, seals: u32) -> Result<Arc<OpenFile>> {
    let cred = env::cred();
    let label = [b"/memfd:", name, b" (deleted)"].concat();
    Ok(unnamed(&label, mode, (cred.uid, cred.gid), seals))
}
/// A file in memory that is shown as `label`.
pub fn open_unnamed(label: &[u8], owner: (u32, u32)) -> Arc<OpenFile> {
    unnamed(label, 0o777, owner, super::seal::SEAL)
}
