//! The VFS's view of an overlay.
use super::super::file::File;
use super::super::inode::{DirEntry, FsInfo, Inode, InodeRef, SetAttr, Stat};
use super::super::memfs::MemInode;
use super::super::prelude::*;
use super::super::uio::{Dst, Src};
use super::{Layers, OverlayInode, PRIVATE};

/// Copying up takes all of a file's content.
const ALL: u64 = u64::MAX;

impl OverlayInode {
    fn of(inode: &InodeRef) -> Result<Arc<OverlayInode>> {
        inode.as_any().downcast_ref::<OverlayInode>().and_then(|o| o.me.upgrade()).ok_or(EXDEV)
    }
    fn wrap(&self, upper: InodeRef, name: &[u8]) -> Result<InodeRef> {
        let me = self.me.upgrade().ok_or(EIO)?;
        let layers = Layers { upper: Some(upper), lower: Vec::new() };
        Ok(OverlayInode::new(&self.shared, layers, Some((me, name.to_vec())))?)
    }
    /// Takes a name away that is there.
    fn remove(&self, name: &[u8], child: &OverlayInode) -> Result<()> {
        if child.upper().is_some() {
            let upper = self.copy_up(0)?;
            if child.kind == S_IFDIR { upper.rmdir(name)? } else { upper.unlink(name)? }
        }
        self.whiteout(name)
    }
    /// Directories that show something of the layers below stay where they are, as in overlayfs: the caller copies.
    fn may_move(&self) -> Result<()> {
        if self.kind == S_IFDIR && self.has_lower() { Err(EXDEV) } else { Ok(()) }
    }
    fn moved(&self, to: &Arc<OverlayInode>, name: &[u8]) {
        self.place.set(Some((to.clone(), name.to_vec())));
    }
    fn exchange(&self, old: &[u8], to: &Arc<OverlayInode>, new: &[u8]) -> Result<()> {
        let (a, b) = (self.child(old)?, to.child(new)?);
        a.may_move()?;
        b.may_move()?;
        a.copy_up(ALL)?;
        b.copy_up(ALL)?;
        self.copy_up(0)?.rename(old, &to.copy_up(0)?, new, true)?;
        let me = self.me.upgrade().ok_or(EIO)?;
        a.moved(to, new);
        b.moved(&me, old);
        Ok(())
    }
}

impl Inode for OverlayInode {
    fn fs(&self) -> &Arc<FsInfo> {
        &self.shared.info
    }
    fn kind(&self) -> u32 {
        self.kind
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn mapped(&self) -> Option<&BklCell<bool>> {
        Some(&self.mapped)
    }
    fn file_id(&self) -> (u64, u64) {
        self.top().map_or((self.ino, 0), |i| i.file_id())
    }
    fn object_id(&self) -> u64 {
        // Copying up changes where the content is, not which file it is.
        self.ino
    }
    fn stat(&self) -> Result<Stat> {
        self.top()?.stat().map(|s| self.shown(s))
    }
    fn size(&self) -> u64 {
        self.top().map_or(0, |i| i.size())
    }
    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        Ok(self.child(name)?)
    }
    fn create(&self, name: &[u8], mode: u32, owner: (u32, u32), rdev: u64) -> Result<InodeRef> {
        if mode & S_IFMT == S_IFCHR && rdev == 0 {
            // It would be a whiteout.
            return Err(EPERM);
        }
        let upper = self.copy_up(0)?;
        self.clear_whiteout(name)?;
        let made = upper.create(name, mode, owner, rdev)?;
        if made.is_dir() && self.is_below(name)? {
            Self::make_opaque(&made)?;
        }
        self.wrap(made, name)
    }
    fn symlink(&self, name: &[u8], target: &[u8], owner: (u32, u32)) -> Result<InodeRef> {
        let upper = self.copy_up(0)?;
        self.clear_whiteout(name)?;
        self.wrap(upper.symlink(name, target, owner)?, name)
    }
    fn unnamed(&self, mode: u32, owner: (u32, u32)) -> Result<InodeRef> {
        let made = self.copy_up(0)?.unnamed(mode, owner)?;
        self.wrap(made, b"")
    }
    fn readlink(&self) -> Result<Vec<u8>> {
        self.top()?.readlink()
    }
    fn link(&self, name: &[u8], target: &InodeRef) -> Result<()> {
        let target = Self::of(target)?.copy_up(ALL)?;
        let upper = self.copy_up(0)?;
        self.clear_whiteout(name)?;
        upper.link(name, &target)
    }
    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.writable()?;
        let child = self.child(name)?;
        if child.kind == S_IFDIR {
            return Err(EISDIR);
        }
        self.remove(name, &child)
    }
    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.writable()?;
        let child = self.child(name)?;
        if child.kind != S_IFDIR {
            return Err(ENOTDIR);
        }
        child.empty_upper()?;
        self.remove(name, &child)
    }
    fn rename(&self, old: &[u8], to: &InodeRef, new: &[u8], exchange: bool) -> Result<()> {
        self.writable()?;
        let to = Self::of(to)?;
        if exchange {
            return self.exchange(old, &to, new);
        }
        let child = self.child(old)?;
        child.may_move()?;
        let is_dir = child.kind == S_IFDIR;
        let target = match to.child(new) {
            Ok(t) => Some(t),
            Err(ENOENT) => None,
            Err(e) => return Err(e),
        };
        match target.as_ref().map(|t| t.kind == S_IFDIR) {
            Some(false) if is_dir => return Err(ENOTDIR),
            Some(true) if !is_dir => return Err(EISDIR),
            _ => {}
        }
        child.copy_up(ALL)?;
        let (upper, to_upper) = (self.copy_up(0)?, to.copy_up(0)?);
        if let Some(t) = target.filter(|_| is_dir) {
            t.empty_upper()?;
        }
        if is_dir {
            to.clear_whiteout(new)?;
            if to.is_below(new)? {
                Self::make_opaque(&child.top()?)?;
            }
        }
        upper.rename(old, &to_upper, new, false)?;
        child.moved(&to, new);
        self.whiteout(old)
    }
    fn list(&self) -> Result<Vec<DirEntry>> {
        self.merged()
    }
    fn setattr(&self, attr: &SetAttr) -> Result<()> {
        self.copy_up(ALL)?.setattr(attr)
    }
    fn read_at(&self, off: u64, buf: &mut [u8]) -> Result<usize> {
        self.top()?.read_at(off, buf)
    }
    fn read_to(&self, off: u64, dst: &mut Dst) -> Result<usize> {
        self.top()?.read_to(off, dst)
    }
    fn write_at(&self, off: u64, data: &[u8]) -> Result<usize> {
        self.copy_up(ALL)?.write_at(off, data)
    }
    fn write_from(&self, off: u64, src: &mut Src) -> Result<usize> {
        self.copy_up(ALL)?.write_from(off, src)
    }
    fn truncate(&self, len: u64) -> Result<()> {
        self.copy_up(len)?.truncate(len)
    }
    fn allocate(&self, mode: u32, off: u64, len: u64) -> Result<()> {
        self.copy_up(ALL)?.allocate(mode, off, len)
    }
    fn sync(&self) -> Result<()> {
        self.upper().map_or(Ok(()), |u| u.sync())
    }
    fn cached(&self, pages: core::ops::RangeInclusive<u64>) -> u64 {
        self.top().map_or(0, |t| t.cached(pages))
    }
    fn seek_data(&self, off: u64, data: bool) -> Result<Option<u64>> {
        self.top()?.seek_data(off, data)
    }
    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        if name.starts_with(PRIVATE) { Err(ENODATA) } else { self.top()?.xattr(name) }
    }
    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        let mut names = self.top()?.xattrs()?;
        names.retain(|n| !n.starts_with(PRIVATE));
        Ok(names)
    }
    fn set_xattr(&self, name: &[u8], value: &[u8], existed: Option<bool>) -> Result<()> {
        if name.starts_with(PRIVATE) {
            return Err(EPERM);
        }
        self.copy_up(ALL)?.set_xattr(name, value, existed)
    }
    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        if name.starts_with(PRIVATE) {
            return Err(ENODATA);
        }
        self.copy_up(ALL)?.remove_xattr(name)
    }
    fn stand_in(&self) -> Option<Arc<MemInode>> {
        self.top().ok()?.stand_in()
    }
    fn statfs(&self) -> [u64; 8] {
        let mut s = self.top().map_or([0; 8], |i| i.statfs());
        s[0] = super::MAGIC;
        s
    }
    fn open(&self, me: &InodeRef, flags: u32) -> Result<Option<Arc<dyn File>>> {
        let _ = me;
        let top = self.top()?;
        top.open(&top, flags)
    }
}
