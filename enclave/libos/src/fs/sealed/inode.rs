//! Inodes of sealed stores.
use super::super::file::File;
use super::super::inode::{DirEntry, FsInfo, Inode, InodeRef, SetAttr, Stat, next_id, write_pieces};
use super::super::memfs::MemInode;
use super::super::pages::ZERO_PAGE;
use super::super::prelude::*;
use super::super::uio::{Dst, Src, partial};
use super::Store;
use crate::time::realtime_ns;
use occlum_sealed_fs::{Fs, Owner, SetAttr as SealedAttr};

/// Entries that one turn of a listing takes.
const LIST: usize = 1024;
/// Bytes that are handed out at a time.
const READ: usize = 128 << 10;
/// Bytes that a directory shows for each entry.
const ENTRY: u64 = 32;

/// An inode.
pub(super) struct SealedInode {
    store: Arc<Store>,
    ino: u64,
    kind: u32,
    id: u64,
    version: BklCell<u64>,
    mapped: BklCell<bool>,
    stand_in: BklCell<Option<Arc<MemInode>>>,
    /// Made without a name, and may get one.
    unnamed: BklCell<bool>,
}

impl Drop for SealedInode {
    fn drop(&mut self) {
        self.store.release(self.ino);
    }
}

fn now() -> i64 {
    realtime_ns() as i64
}
fn owner((uid, gid): (u32, u32)) -> Owner {
    Owner { uid, gid, now: now() }
}
fn of(inode: &InodeRef) -> Result<&SealedInode> {
    inode.as_any().downcast_ref::<SealedInode>().ok_or(EXDEV)
}

impl SealedInode {
    pub(super) fn new(store: Arc<Store>, ino: u64, mode: u32) -> Self {
        Self {
            store,
            ino,
            kind: mode & S_IFMT,
            id: next_id(),
            version: BklCell::new(0),
            mapped: BklCell::new(false),
            stand_in: BklCell::new(None),
            unnamed: BklCell::new(false),
        }
    }
    fn writable(&self) -> Result<()> {
        if self.store.info.read_only { Err(EROFS) } else { Ok(()) }
    }
    fn regular(&self) -> Result<()> {
        match self.kind {
            S_IFREG => Ok(()),
            S_IFDIR => Err(EISDIR),
            _ => Err(EINVAL),
        }
    }
    /// The content is about to change.
    fn changes(&self) -> Result<()> {
        self.writable()?;
        self.regular()?;
        self.version.with_mut(|v| *v += 1);
        Ok(())
    }
}

impl Inode for SealedInode {
    fn fs(&self) -> &Arc<FsInfo> {
        &self.store.info
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
        (self.id, self.version.get())
    }
    fn stat(&self) -> Result<Stat> {
        let (a, blocks) = self.store.with(|fs| Ok((fs.attr(self.ino)?, fs.blocks(self.ino)?)))?;
        Ok(Stat {
            dev: self.store.info.dev,
            ino: self.ino,
            mode: a.mode,
            nlink: u64::from(a.nlink),
            uid: a.uid,
            gid: a.gid,
            rdev: a.rdev,
            size: if a.is_dir() { a.size.saturating_add(2).saturating_mul(ENTRY) } else { a.size },
            blksize: PAGE,
            blocks: blocks * (PAGE / 512),
            atime: a.atime,
            mtime: a.mtime,
            ctime: a.ctime,
        })
    }
    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        let ino = self.store.with(|fs| fs.lookup(self.ino, name))?;
        Ok(self.store.inode(ino)?)
    }
    fn create(&self, name: &[u8], mode: u32, who: (u32, u32), rdev: u64) -> Result<InodeRef> {
        self.writable()?;
        let ino = self.store.with(|fs| fs.create(self.ino, name, mode, rdev, owner(who)))?;
        Ok(self.store.inode(ino)?)
    }
    fn unnamed(&self, mode: u32, who: (u32, u32)) -> Result<InodeRef> {
        self.writable()?;
        let ino = self.store.with(|fs| fs.create_unnamed(mode, owner(who)))?;
        let inode = self.store.adopt(ino, mode);
        inode.unnamed.set(true);
        Ok(inode)
    }
    fn symlink(&self, name: &[u8], target: &[u8], who: (u32, u32)) -> Result<InodeRef> {
        self.writable()?;
        let ino = self.store.with(|fs| fs.symlink(self.ino, name, target, owner(who)))?;
        Ok(self.store.inode(ino)?)
    }
    fn readlink(&self) -> Result<Vec<u8>> {
        self.store.with(|fs| fs.readlink(self.ino))
    }
    fn link(&self, name: &[u8], target: &InodeRef) -> Result<()> {
        self.writable()?;
        let target = of(target)?;
        let ino = target.ino;
        if target.unnamed.get() {
            self.store.with(|fs| fs.link_unnamed(self.ino, name, ino, now()))?;
            target.unnamed.set(false);
            return Ok(());
        }
        self.store.with(|fs| fs.link(self.ino, name, ino, now()))
    }
    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.writable()?;
        self.store.with(|fs| fs.unlink(self.ino, name, now()))
    }
    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.writable()?;
        self.store.with(|fs| fs.rmdir(self.ino, name, now()))
    }
    fn rename(&self, old: &[u8], to: &InodeRef, new: &[u8], exchange: bool) -> Result<()> {
        self.writable()?;
        let to = of(to)?.ino;
        self.store.with(|fs| fs.rename(self.ino, old, to, new, exchange, now()))
    }
    fn list(&self) -> Result<Vec<DirEntry>> {
        let (mut out, mut from) = (Vec::new(), 0);
        loop {
            let (entries, next) = self.store.with(|fs| fs.list(self.ino, from, LIST))?;
            // It moves when it grows.
            crate::mm::admit((3 * out.capacity() * size_of::<DirEntry>()) as u64)?;
            out.extend(entries.into_iter().map(|e| DirEntry {
                ino: e.ino,
                d_type: (e.kind >> 12) as u8,
                name: e.name,
            }));
            match next {
                Some(next) => from = next,
                None => return Ok(out),
            }
        }
    }
    fn setattr(&self, attr: &SetAttr) -> Result<()> {
        self.writable()?;
        let SetAttr { mode, uid, gid, atime, mtime } = *attr;
        self.store.with(|fs| fs.set_attr(self.ino, &SealedAttr { mode, uid, gid, atime, mtime }, now()))
    }

    fn size(&self) -> u64 {
        if self.kind == S_IFREG {
            self.store.with(|fs| fs.attr(self.ino)).map_or(0, |a| a.size)
        } else {
            self.stat().map_or(0, |s| s.size)
        }
    }
    fn read_at(&self, off: u64, buf: &mut [u8]) -> Result<usize> {
        self.regular()?;
        self.store.with(|fs| fs.read(self.ino, off, buf))
    }
    /// From the pages themselves: nothing is kept from others while user memory is touched.
    fn read_to(&self, off: u64, dst: &mut Dst) -> Result<usize> {
        self.regular()?;
        let mut total = 0;
        while dst.remaining() > 0 {
            let (at, want) = (off + total as u64, dst.remaining().min(READ));
            let (pages, len) = match self.store.with_time(|fs| fs.pages(self.ino, at, want)) {
                Ok(found) => found,
                Err(e) => return partial(total, e),
            };
            let end = total + len;
            for page in &pages {
                let within = ((off + total as u64) % PAGE) as usize;
                let n = (PAGE as usize - within).min(end - total);
                let bytes = page.as_ref().map_or(&ZERO_PAGE[..], |p| &p[..]);
                match dst.push(&bytes[within..within + n]) {
                    Ok(m) if m < n => return Ok(total + m),
                    Ok(m) => total += m,
                    Err(e) => return partial(total, e),
                }
            }
            if len < want {
                break;
            }
        }
        Ok(total)
    }
    fn write_at(&self, off: u64, data: &[u8]) -> Result<usize> {
        self.changes()?;
        self.store.with(|fs| fs.write(self.ino, off, data, now()))
    }
    fn write_from(&self, off: u64, src: &mut Src) -> Result<usize> {
        let written = write_pieces(self, off, src);
        self.store.ease(self.ino);
        written
    }
    fn truncate(&self, len: u64) -> Result<()> {
        self.changes()?;
        self.store.with(|fs| fs.truncate(self.ino, len, now()))
    }
    fn allocate(&self, mode: u32, off: u64, len: u64) -> Result<()> {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        const COLLAPSE_RANGE: u32 = 8;
        const ZERO_RANGE: u32 = 16;
        const INSERT_RANGE: u32 = 32;
        self.changes()?;
        let end = off.checked_add(len).filter(|e| *e <= i64::MAX as u64).ok_or(EFBIG)?;
        let grows = mode & KEEP_SIZE == 0;
        let ino = self.ino;
        match mode & !KEEP_SIZE {
            0 => self.store.with(|fs| fs.allocate(ino, off, len, grows, now())),
            PUNCH_HOLE if !grows => self.store.with(|fs| fs.punch(ino, off, len, now())),
            ZERO_RANGE => self.store.with(|fs| {
                fs.punch(ino, off, len, now())?;
                fs.allocate(ino, off, end - off, grows, now())
            }),
            COLLAPSE_RANGE if grows => self.store.with(|fs| fs.collapse(ino, off, len, now())),
            INSERT_RANGE if grows => self.store.with(|fs| fs.insert(ino, off, len, now())),
            COLLAPSE_RANGE | INSERT_RANGE => Err(EINVAL),
            _ => Err(EOPNOTSUPP),
        }
    }
    fn sync(&self) -> Result<()> {
        self.store.commit()
    }
    fn seek_data(&self, off: u64, data: bool) -> Result<Option<u64>> {
        self.store.with(|fs| fs.seek(self.ino, off, data))
    }
    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.store.with(|fs| fs.get_xattr(self.ino, name))
    }
    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        self.store.with(|fs| fs.list_xattr(self.ino))
    }
    fn set_xattr(&self, name: &[u8], value: &[u8], existed: Option<bool>) -> Result<()> {
        self.writable()?;
        self.store.with(|fs| fs.set_xattr(self.ino, name, value, existed, now()))
    }
    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.writable()?;
        self.store.with(|fs| fs.remove_xattr(self.ino, name, now()))
    }
    fn statfs(&self) -> [u64; 8] {
        let figures = |fs: &mut Fs<_>| Ok(fs.statfs());
        let Ok(s) = self.store.with(figures) else { return super::super::mount::statfs(self.fs()) };
        [self.store.info.magic, PAGE, s.blocks, s.free, s.free, s.files + s.free, s.free, NAME_MAX as u64]
    }
    fn stand_in(&self) -> Option<Arc<MemInode>> {
        MemInode::stand_in(&self.stand_in, &self.store.info, self.kind)
    }
    fn open(&self, me: &InodeRef, flags: u32) -> Result<Option<Arc<dyn File>>> {
        match self.kind {
            S_IFREG | S_IFDIR => Ok(None),
            S_IFIFO => super::super::pipe::open_fifo(&*self.stand_in().ok_or(ENXIO)?, flags).map(Some),
            S_IFCHR => super::super::dev::open(self.stat()?.rdev, me, flags).map(Some),
            _ => Err(ENXIO),
        }
    }
}
