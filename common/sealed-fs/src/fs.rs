//! The state of a mounted file system, and its commits.
//!
//! Operations change things in memory (pages, records of inodes, nodes); `commit` writes all of it and makes it
//! durable in one transaction of the disk. Commits happen only between operations.
use crate::btree::BTree;
use crate::content::RUN_MAX;
use crate::item::{Attr, Key, Kind, Mode, ROOT, Reader};
use crate::pages::Pages;
use crate::space::{SUPER, Space};
use crate::{Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use occlum_sealed_disk::{BLOCK, BlockDevice, Disk};

const MAGIC: &[u8; 8] = b"OCLMFS1\0";
/// Blocks kept back, so that files can be removed from a full file system.
const MARGIN: u64 = 24;
/// Records of inodes in memory.
const INODES: usize = 8192;

/// Bounds on memory.
#[derive(Clone, Copy, Debug)]
pub struct FsOptions {
    /// Pages of file content.
    pub pages: usize,
    /// Dirty pages before they are written back.
    pub dirty_pages: usize,
    /// Nodes of the tree.
    pub nodes: usize,
    /// Bytes of bitmaps that a store may have to be mounted.
    pub bitmaps: u64,
}

impl Default for FsOptions {
    fn default() -> Self {
        Self { pages: 16384, dirty_pages: 4096, nodes: 4096, bitmaps: u64::MAX }
    }
}

/// What `statfs` returns, in blocks of 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatFs {
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Inodes in use.
    pub files: u64,
}

/// The record of an inode, in memory.
pub(crate) struct Inode {
    pub(crate) attr: Attr,
    pub(crate) dirty: bool,
    /// Read-ahead: the block that a sequential reader wants next, and how far to read.
    pub(crate) ahead: (u32, u32),
}

/// The superblock of the file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Super {
    root: u32,
    groups: u32,
    next_ino: u64,
    inodes: u64,
    seed: u64,
    limit: u64,
}

impl Super {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.root.to_le_bytes());
        out.extend_from_slice(&self.groups.to_le_bytes());
        for n in [self.next_ino, self.inodes, self.seed, self.limit] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.resize(BLOCK, 0);
        out
    }
    fn decode(block: &[u8]) -> Result<Self> {
        let mut r = Reader(block);
        if r.bytes(MAGIC.len())? != MAGIC {
            return Err(Error::Corrupt("no file system in the store"));
        }
        let (root, groups) = (r.u32()?, r.u32()?);
        Ok(Self { root, groups, next_ino: r.u64()?, inodes: r.u64()?, seed: r.u64()?, limit: r.u64()? })
    }
}

/// A mounted file system.
pub struct Fs<D> {
    pub(crate) disk: Disk<D>,
    pub(crate) tree: BTree,
    pub(crate) space: Space,
    pub(crate) pages: Pages,
    inodes: BTreeMap<u64, Inode>,
    dirty_inodes: BTreeSet<u64>,
    pub(crate) held: BTreeMap<u64, u32>,
    superblock: Super,
    stored: Super,
    options: FsOptions,
    /// An operation failed half-way.
    broken: bool,
}

impl<D: BlockDevice> Fs<D> {
    /// Makes a file system on an empty disk.
    pub fn format(disk: Disk<D>, seed: u64, options: FsOptions, now: i64) -> Result<Self> {
        let mut space = Space::new(disk.stats().total);
        let tree = BTree::create(&mut space, options.nodes)?;
        let superblock = Super { next_ino: ROOT + 1, inodes: 1, seed, limit: u64::MAX, ..Super::default() };
        let mut fs = Self::assemble(disk, tree, space, superblock, options);
        let mode = Mode::DIRECTORY | 0o755;
        let root =
            Attr { mode, nlink: 2, atime: now, mtime: now, ctime: now, parent: ROOT, ..Attr::default() };
        fs.put_inode(ROOT, root);
        fs.commit()?;
        Ok(fs)
    }

    fn assemble(disk: Disk<D>, tree: BTree, space: Space, superblock: Super, options: FsOptions) -> Self {
        Self {
            disk,
            tree,
            space,
            pages: Pages::new(options.pages),
            inodes: BTreeMap::new(),
            dirty_inodes: BTreeSet::new(),
            held: BTreeMap::new(),
            superblock,
            stored: Super::default(),
            options,
            broken: false,
        }
    }

    /// Mounts a file system; unless `read_only`, what was unlinked but open at a crash is removed.
    pub fn mount(mut disk: Disk<D>, options: FsOptions, read_only: bool) -> Result<Self> {
        let mut block = alloc::vec![0; BLOCK];
        disk.read(SUPER, &mut block)?;
        let superblock = Super::decode(&block)?;
        let space = Space::load(&mut disk, superblock.groups, options.bitmaps)?;
        let tree = BTree::new(superblock.root, options.nodes);
        let mut fs = Self::assemble(disk, tree, space, superblock, options);
        fs.stored = superblock;
        if !read_only {
            fs.remove_orphans()?;
        }
        Ok(fs)
    }

    fn remove_orphans(&mut self) -> Result<()> {
        let mut key = Key::new(0, Kind::Orphan, 0);
        while let Some((found, _)) = self.tree.next(&mut self.disk, &key)? {
            if found.ino != 0 || found.kind != Kind::Orphan {
                break;
            }
            self.change(|fs| fs.delete(found.at))?;
            key = found;
        }
        Ok(())
    }

    /// Runs an operation that changes things. If it fails in a way that may leave it half done, nothing is written
    /// any more: what is durable is whole.
    pub(crate) fn change<T>(&mut self, op: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.broken {
            return Err(Error::Broken);
        }
        let done = op(self);
        match done {
            Err(Error::Disk(_) | Error::Corrupt(_)) => self.broken = true,
            Err(_) => {}
            Ok(_) => self.limit_dirty()?,
        }
        done
    }

    /// Keeps the bounds on what is dirty. A full disk is not the operation's failure: it is found at the commit.
    fn limit_dirty(&mut self) -> Result<()> {
        if self.pages.dirty() > self.options.dirty_pages {
            self.write_back()?;
        }
        if self.tree.dirty() > self.options.nodes / 2 {
            self.commit()?;
        }
        Ok(())
    }

    /// Is so much dirty that a writer of this file will soon have to write it back? Of a file that is too long to be kept,
    /// little is enough: it is written early, and its pages' memory serves again.
    pub fn is_heavy(&mut self, ino: u64) -> bool {
        let most = self.options.dirty_pages;
        let is_long =
            |fs: &mut Self| fs.attr(ino).is_ok_and(|a| fs.pages.is_long(a.size.div_ceil(BLOCK as u64)));
        self.pages.dirty() > most / 2 || self.pages.dirty_of(ino) >= RUN_MAX && is_long(self)
    }
    /// Writes back content, which becomes durable with the next commit.
    pub fn lighten(&mut self) -> Result<()> {
        if self.broken { Err(Error::Broken) } else { self.write_back() }
    }

    /// Is there room for so many more blocks of content?
    pub(crate) fn admit(&mut self, blocks: u64) -> Result<()> {
        if self.has_room(blocks) {
            return Ok(());
        }
        self.commit()?;
        if !self.has_room(blocks) && self.disk.can_reclaim() {
            self.disk.checkpoint()?;
        }
        if self.has_room(blocks) { Ok(()) } else { Err(Error::NoSpace) }
    }
    fn has_room(&self, blocks: u64) -> bool {
        let dirty = (self.pages.dirty() + self.tree.dirty() + self.dirty_inodes.len()) as u64;
        // Each dirty block may also dirty a leaf of the disk's map.
        let need = (dirty + blocks + self.space.dirty()).saturating_mul(2).saturating_add(MARGIN);
        let allowed = self.superblock.limit.saturating_sub(self.space.used());
        self.disk.available() > need && allowed >= dirty.saturating_add(blocks)
    }
    /// Blocks that may be in use at most, of content and metadata; `None`: as many as there are. What is in use beyond
    /// that stays.
    pub fn set_limit(&mut self, blocks: Option<u64>) -> Result<()> {
        self.superblock.limit = blocks.unwrap_or(u64::MAX);
        self.commit()
    }

    /// The record of an inode.
    pub(crate) fn inode(&mut self, ino: u64) -> Result<&mut Inode> {
        if !self.inodes.contains_key(&ino) {
            let key = Key::new(ino, Kind::Inode, 0);
            let item = self.tree.get(&mut self.disk, &key)?.ok_or(Error::NotFound)?;
            let attr = Attr::decode(&item)?;
            if self.inodes.len() > INODES + self.dirty_inodes.len() {
                self.inodes.retain(|_, i| i.dirty);
            }
            self.inodes.insert(ino, Inode { attr, dirty: false, ahead: (0, 0) });
        }
        self.inodes.get_mut(&ino).ok_or(Error::NotFound)
    }
    /// The attributes of an inode.
    pub fn attr(&mut self, ino: u64) -> Result<Attr> {
        self.inode(ino).map(|i| i.attr)
    }
    /// Changes the attributes of an inode.
    pub(crate) fn update(&mut self, ino: u64, f: impl FnOnce(&mut Attr)) -> Result<()> {
        let inode = self.inode(ino)?;
        f(&mut inode.attr);
        inode.dirty = true;
        self.dirty_inodes.insert(ino);
        Ok(())
    }
    pub(crate) fn put_inode(&mut self, ino: u64, attr: Attr) {
        self.inodes.insert(ino, Inode { attr, dirty: true, ahead: (0, 0) });
        self.dirty_inodes.insert(ino);
    }
    /// A number that nothing has had.
    pub(crate) fn new_number(&mut self) -> u64 {
        let number = self.superblock.next_ino;
        self.superblock.next_ino = number.wrapping_add(1);
        number
    }
    /// A number for a new inode.
    pub(crate) fn new_ino(&mut self) -> u64 {
        self.superblock.inodes += 1;
        self.new_number()
    }
    /// Forgets an inode whose items are gone.
    pub(crate) fn forget(&mut self, ino: u64) {
        self.inodes.remove(&ino);
        self.dirty_inodes.remove(&ino);
        self.superblock.inodes = self.superblock.inodes.saturating_sub(1);
    }
    pub(crate) fn hash_seed(&self) -> u64 {
        self.superblock.seed
    }

    /// Makes everything durable, in one step.
    pub fn commit(&mut self) -> Result<()> {
        if self.broken {
            return Err(Error::Broken);
        }
        self.write_back()?;
        while let Some(ino) = self.dirty_inodes.first().copied() {
            if let Some(inode) = self.inodes.get_mut(&ino) {
                let item = inode.attr.encode();
                self.tree.set(&mut self.disk, &mut self.space, Key::new(ino, Kind::Inode, 0), item)?;
                inode.dirty = false;
            }
            self.dirty_inodes.remove(&ino);
        }
        self.tree.write(&mut self.disk)?;
        self.space.write(&mut self.disk)?;
        self.superblock.root = self.tree.root;
        self.superblock.groups = self.space.groups();
        if self.superblock != self.stored {
            self.disk.write(SUPER, &self.superblock.encode())?;
            self.stored = self.superblock;
        }
        Ok(self.disk.commit()?)
    }

    /// Commits and gives the disk back, closed.
    pub fn unmount(mut self) -> Result<D> {
        self.commit()?;
        Ok(self.disk.close()?)
    }
    /// Gives the disk back without writing anything.
    pub fn abandon(self) -> Disk<D> {
        self.disk
    }
    /// The disk below, for its figures and keys.
    pub fn disk(&mut self) -> &mut Disk<D> {
        &mut self.disk
    }
    /// 4 KiB blocks of a file: those it has, and those that its dirty pages will take.
    pub fn blocks(&mut self, ino: u64) -> Result<u64> {
        let Attr { blocks, size, .. } = self.attr(ino)?;
        let whole = size.div_ceil(BLOCK as u64);
        Ok((blocks + u64::from(self.pages.dirty_of(ino))).min(whole.max(blocks)))
    }
    /// Forgets what can be read again: memory is short.
    pub fn drop_clean(&mut self) {
        self.pages.drop_clean();
        self.inodes.retain(|_, i| i.dirty);
        self.tree.drop_clean();
    }
    /// Is there anything that a crash would lose?
    pub fn is_dirty(&self) -> bool {
        self.pages.dirty() > 0 || self.tree.dirty() > 0 || !self.dirty_inodes.is_empty()
    }
    /// Pages and nodes in memory.
    pub fn cached(&self) -> (usize, usize) {
        (self.pages.cached(), self.tree.cached())
    }

    /// Figures for `statfs`.
    pub fn statfs(&self) -> StatFs {
        let stats = self.disk.stats();
        let dirty = (self.pages.dirty() + self.tree.dirty()) as u64;
        let allowed = self.superblock.limit.saturating_sub(self.space.used() + dirty);
        let free = self.disk.available().saturating_sub(dirty + MARGIN).min(allowed);
        StatFs { blocks: stats.total.min(self.superblock.limit), free, files: self.superblock.inodes }
    }
}
