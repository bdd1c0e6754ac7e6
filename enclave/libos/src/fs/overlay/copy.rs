//! Copying up, whiteouts: what changes the upper layer so that the merged tree is right.
use super::super::inode::{InodeRef, SetAttr};
use super::super::prelude::*;
use super::super::uio::try_vec;
use super::{OPAQUE, OverlayInode, PRIVATE, entry, is_whiteout};

const PIECE: usize = 256 << 10;

impl OverlayInode {
    /// The upper inode, made if there is none. `length`: how much of a file's content is still wanted.
    pub(super) fn copy_up(&self, length: u64) -> Result<InodeRef> {
        self.writable()?;
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        let (dir, name) = self.place.with(Clone::clone).ok_or(EROFS)?;
        let dir = dir.copy_up(0)?;
        let lower = self.top()?;
        let upper = copy(&lower, &dir, &name, length)?;
        self.layers.with_mut(|l| {
            l.upper = Some(upper.clone());
            if self.kind != S_IFDIR {
                l.lower.clear();
            }
        });
        if self.kind != S_IFDIR {
            let s = upper.stat()?;
            self.register((s.dev, s.ino));
        }
        Ok(upper)
    }

    /// Takes a whiteout of this name out of the upper layer; was there one?
    pub(super) fn clear_whiteout(&self, name: &[u8]) -> Result<bool> {
        let Some(upper) = self.upper() else { return Ok(false) };
        match entry(&upper, name)? {
            Some(i) if is_whiteout(&i) => upper.unlink(name).map(|()| true),
            _ => Ok(false),
        }
    }
    /// Hides what the layers below have of this name.
    pub(super) fn whiteout(&self, name: &[u8]) -> Result<()> {
        if self.is_below(name)? {
            self.copy_up(0)?.create(name, S_IFCHR, (0, 0), 0)?;
        }
        Ok(())
    }
    /// Removes the whiteouts in the upper part of a directory that shows nothing any more.
    pub(super) fn empty_upper(&self) -> Result<()> {
        if !self.merged()?.is_empty() {
            return Err(ENOTEMPTY);
        }
        let Some(upper) = self.upper() else { return Ok(()) };
        for e in upper.list()? {
            upper.unlink(&e.name)?;
        }
        Ok(())
    }
    /// A new directory hides what is below it.
    pub(super) fn make_opaque(dir: &InodeRef) -> Result<()> {
        dir.set_xattr(OPAQUE, b"y", None)
    }
}

/// Copies an object with all its attributes. A file appears in one step, whole.
fn copy(lower: &InodeRef, dir: &InodeRef, name: &[u8], length: u64) -> Result<InodeRef> {
    let s = lower.stat()?;
    let owner = (s.uid, s.gid);
    let upper = match lower.kind() {
        S_IFLNK => return dir.symlink(name, &lower.readlink()?, owner),
        S_IFREG => {
            let file = dir.unnamed(s.mode, owner)?;
            content(lower, &file, length.min(s.size))?;
            file
        }
        _ => dir.create(name, s.mode, owner, s.rdev)?,
    };
    for attribute in lower.xattrs()?.iter().filter(|n| !n.starts_with(PRIVATE)) {
        upper.set_xattr(attribute, &lower.xattr(attribute)?, None)?;
    }
    let mode = Some(s.mode & 0o7777);
    upper.setattr(&SetAttr { mode, atime: Some(s.atime), mtime: Some(s.mtime), ..SetAttr::default() })?;
    if lower.kind() == S_IFREG {
        dir.link(name, &upper)?;
    }
    Ok(upper)
}

/// Copies the first `length` bytes; holes stay holes.
fn content(from: &InodeRef, to: &InodeRef, length: u64) -> Result<()> {
    let mut buf = try_vec(PIECE.min(length as usize))?;
    let mut at = 0;
    while let Some(data) = from.seek_data(at, true)?.filter(|d| *d < length) {
        let end = from.seek_data(data, false)?.unwrap_or(length).min(length);
        at = data;
        while at < end {
            let want = buf.len().min((end - at) as usize);
            let n = from.read_at(at, &mut buf[..want])?;
            if n == 0 || to.write_at(at, &buf[..n])? != n {
                return Err(EIO);
            }
            at += n as u64;
        }
    }
    if to.size() < length { to.truncate(length) } else { Ok(()) }
}
