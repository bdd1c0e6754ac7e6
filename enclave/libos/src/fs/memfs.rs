//! In-memory file system, optionally over a read-only tree: ramfs and root overlay are the same code.
//!
//! A directory knows its own entries, whiteouts and, if it stands over one, the directory below. A file's
//! pages are its own (dirty) or copies of pages below (clean, see `pages`): copy-up is per page, at the first
//! write. A node keeps what is below through renames, so that moving such a directory costs nothing.
//! Invariants: names below are looked up once and remembered (found or not), so one run sees one tree; dirty
//! pages are never dropped; no borrow of a cell is alive while user memory is touched.
use super::below::Below;
use super::file::File;
use super::inode::{DirEntry, FsInfo, Inode, InodeRef, SetAttr, Stat, d_type, next_id};
use super::pages::Pages;
use super::prelude::*;
use super::tmpfs;
use super::uio::{Dst, partial};
use super::xattr::Xattrs;
use crate::time::realtime_ns;
use occlum_rt::mem::TryGrow;

/// Remembered absent names per directory before they are forgotten.
const NEGATIVE_MAX: usize = 4096;

/// What a directory knows about a name.
enum Entry {
    /// The node, and whether there is one of its name below.
    Node { node: Arc<MemInode>, hides: bool },
    /// There is none below either.
    Absent,
    /// Removed here; the one below is hidden.
    Whiteout,
}

#[derive(Default)]
struct Dir {
    entries: BTreeMap<Vec<u8>, Entry>,
    absent: usize,
    /// The directory below, unless this one is opaque.
    lower: Option<Below>,
}

impl Dir {
    /// Puts a node; a name that was not looked up below may be there.
    fn put(&mut self, name: &[u8], node: Arc<MemInode>) {
        let hides = match self.entries.get(name) {
            Some(Entry::Node { hides, .. }) => *hides,
            Some(Entry::Absent) => false,
            Some(Entry::Whiteout) => true,
            None => self.lower.is_some(),
        };
        self.set(name, Entry::Node { node, hides });
    }
    /// Takes a name out: what is below stays hidden, and nothing is left for good of a name that never was there.
    fn take(&mut self, name: &[u8]) {
        match self.entries.get(name) {
            Some(Entry::Node { hides: true, .. }) => self.set(name, Entry::Whiteout),
            _ if self.lower.is_some() => self.remember_absent(name),
            _ => drop(self.entries.remove(name)),
        }
    }
    fn remember_absent(&mut self, name: &[u8]) {
        if self.absent >= NEGATIVE_MAX {
            self.entries.retain(|_, e| !matches!(e, Entry::Absent));
            self.absent = 0;
        }
        self.set(name, Entry::Absent);
        self.absent += 1;
    }
    fn set(&mut self, name: &[u8], entry: Entry) {
        if let Some(Entry::Absent) = self.entries.insert(name.to_vec(), entry) {
            self.absent -= 1;
        }
    }
}

enum Body {
    Dir(BklCell<Dir>),
    File(Pages),
    Link(Vec<u8>),
    Special,
}

/// A node.
pub struct MemInode {
    fs: Arc<FsInfo>,
    me: Weak<MemInode>,
    id: u64,
    meta: BklCell<Stat>,
    body: Body,
    /// Operations of an open FIFO, or a bound socket, kept while in use.
    attached: BklCell<Option<Weak<dyn Any + Send + Sync>>>,
    mapped: BklCell<bool>,
    xattrs: BklCell<Xattrs>,
    /// Of a memfd; `None` for files in the tree.
    seals: Option<BklCell<u32>>,
}

static HOST_LINKS: BklCell<BTreeMap<(u64, u64), Weak<MemInode>>> = BklCell::new(BTreeMap::new());

/// Wall clock, for file times.
fn now() -> i64 {
    realtime_ns() as i64
}

static NODES: BklCell<u64> = BklCell::new(0);
/// How many nodes there are.
pub fn node_count() -> u64 {
    NODES.get()
}

impl MemInode {
    fn make(fs: &Arc<FsInfo>, meta: Stat, body: Body) -> Arc<Self> {
        Self::make_sealed(fs, meta, body, None)
    }
    fn make_sealed(fs: &Arc<FsInfo>, meta: Stat, body: Body, seals: Option<BklCell<u32>>) -> Arc<Self> {
        NODES.with_mut(|n| *n += 1);
        Arc::new_cyclic(|me| Self {
            fs: fs.clone(),
            me: me.clone(),
            id: next_id(),
            meta: BklCell::new(meta),
            body,
            attached: BklCell::new(None),
            mapped: BklCell::new(false),
            xattrs: BklCell::default(),
            seals,
        })
    }
    /// A file of memfd_create.
    pub fn new_memfd(fs: &Arc<FsInfo>, mode: u32, owner: (u32, u32), seals: u32) -> Arc<Self> {
        let meta = Self::new(fs, S_IFREG | mode, owner, 0).meta.get();
        Self::make_sealed(fs, meta, Body::File(Pages::new(None, 0)), Some(BklCell::new(seals)))
    }
    /// A new node without a host object below.
    pub fn new(fs: &Arc<FsInfo>, mode: u32, owner: (u32, u32), rdev: u64) -> Arc<Self> {
        let t = now();
        let meta = Stat {
            dev: fs.dev,
            ino: next_id(),
            mode,
            nlink: if mode & S_IFMT == S_IFDIR { 2 } else { 1 },
            uid: owner.0,
            gid: owner.1,
            rdev,
            blksize: PAGE,
            atime: t,
            mtime: t,
            ctime: t,
            ..Stat::default()
        };
        let body = match mode & S_IFMT {
            S_IFDIR => Body::Dir(BklCell::new(Dir::default())),
            S_IFREG => Body::File(Pages::new(None, 0)),
            _ => Body::Special,
        };
        Self::make(fs, meta, body)
    }
    fn new_link(fs: &Arc<FsInfo>, target: &[u8], owner: (u32, u32)) -> Arc<Self> {
        let mut meta = Self::new(fs, S_IFLNK | 0o777, owner, 0).meta.get();
        meta.size = target.len() as u64;
        Self::make(fs, meta, Body::Link(target.to_vec()))
    }
    /// A node over an object below.
    pub fn over(fs: &Arc<FsInfo>, below: Below) -> Result<Arc<Self>> {
        let meta = below.stat()?;
        let (s, kind) = (meta, meta.mode & S_IFMT);
        let shared = s.nlink > 1 && kind == S_IFREG;
        if shared && let Some(n) = HOST_LINKS.with(|m| m.get(&(s.dev, s.ino)).and_then(Weak::upgrade)) {
            return Ok(n);
        }
        let body = match kind {
            S_IFDIR => Body::Dir(BklCell::new(Dir { lower: Some(below), ..Dir::default() })),
            S_IFREG => Body::File(Pages::new(Some(below), s.size)),
            S_IFLNK => Body::Link(below.readlink()?),
            _ => Body::Special,
        };
        let n = Self::make(fs, meta, body);
        if shared {
            HOST_LINKS.with_mut(|m| m.insert((s.dev, s.ino), Arc::downgrade(&n)));
        }
        Ok(n)
    }
    /// A regular file with this content.
    pub fn with_content(fs: &Arc<FsInfo>, mode: u32, content: &[u8]) -> Arc<Self> {
        let n = Self::new(fs, S_IFREG | mode, (0, 0), 0);
        // Only fails without memory; the file is then shorter.
        let _ = n.write_at(0, content);
        n
    }
    /// Puts a node into a directory (when a file system is built).
    pub fn add(&self, name: &[u8], node: Arc<MemInode>) {
        if let Body::Dir(d) = &self.body {
            d.with_mut(|d| d.put(name, node));
        }
    }
    /// The node of that name (when a file system is built).
    pub fn child(&self, name: &[u8]) -> Option<Arc<MemInode>> {
        self.find(name).ok()
    }
    /// In memory, of a FIFO or socket whose node lies elsewhere; made when it is first asked for.
    pub fn stand_in(
        kept: &BklCell<Option<Arc<MemInode>>>,
        fs: &Arc<FsInfo>,
        kind: u32,
    ) -> Option<Arc<MemInode>> {
        if !matches!(kind, S_IFIFO | S_IFSOCK) {
            return None;
        }
        if let Some(n) = kept.with(Clone::clone) {
            return Some(n);
        }
        let n = MemInode::new(fs, kind | 0o600, (0, 0), 0);
        kept.set(Some(n.clone()));
        Some(n)
    }
    /// What is attached to a FIFO or socket node.
    pub fn attached(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.attached.with(|a| a.as_ref().and_then(Weak::upgrade))
    }
    /// Attaches the running object of a FIFO or socket node.
    pub fn attach(&self, what: &Arc<dyn Any + Send + Sync>) {
        self.attached.set(Some(Arc::downgrade(what)));
    }
    /// Content pages of a regular file.
    pub fn pages(&self) -> Option<&Pages> {
        if let Body::File(p) = &self.body { Some(p) } else { None }
    }

    fn dir(&self) -> Result<&BklCell<Dir>> {
        if let Body::Dir(d) = &self.body { Ok(d) } else { Err(ENOTDIR) }
    }
    fn writable(&self) -> Result<()> {
        if self.fs.read_only { Err(EROFS) } else { Ok(()) }
    }
    /// Pages of its own.
    fn own_pages(&self) -> u64 {
        if let Body::File(p) = &self.body { p.resident() } else { 0 }
    }
    fn find(&self, name: &[u8]) -> Result<Arc<MemInode>> {
        let dir = self.dir()?;
        let lower = {
            let d = dir.borrow();
            match d.entries.get(name) {
                Some(Entry::Node { node, .. }) => return Ok(node.clone()),
                Some(_) => return Err(ENOENT),
                None => d.lower.clone(),
            }
        };
        let Some(lower) = lower else { return Err(ENOENT) };
        let found = lower.child(name).and_then(|below| Self::over(&self.fs, below));
        match found {
            Ok(n) => {
                dir.with_mut(|d| d.put(name, n.clone()));
                Ok(n)
            }
            Err(ENOENT) => {
                dir.with_mut(|d| d.remember_absent(name));
                Err(ENOENT)
            }
            Err(e) => Err(e),
        }
    }
    /// Puts a new entry; the name must be free.
    fn insert(&self, name: &[u8], node: Arc<MemInode>) -> Result<()> {
        self.writable()?;
        crate::mm::admit(1 << 10).map_err(|_| ENOSPC)?;
        super::pages::may_keep(1 << 10, node_count())?;
        match self.find(name) {
            Ok(_) => return Err(EEXIST),
            Err(ENOENT) => {}
            Err(e) => return Err(e),
        }
        if node.is_dir() {
            self.add_links(1);
        }
        self.dir()?.with_mut(|d| d.put(name, node));
        self.touch();
        Ok(())
    }
    /// Takes a name out of the directory; a host entry below stays hidden.
    fn remove(&self, name: &[u8]) -> Result<()> {
        self.dir()?.with_mut(|d| d.take(name));
        self.touch();
        Ok(())
    }
    fn touch(&self) {
        let t = now();
        self.meta.with_mut(|m| {
            m.mtime = t;
            m.ctime = t;
        });
    }
    fn add_links(&self, n: i64) {
        let t = now();
        self.meta.with_mut(|m| {
            m.nlink = m.nlink.saturating_add_signed(n);
            m.ctime = t;
        });
    }
    fn is_empty(&self) -> Result<bool> {
        Ok(self.list()?.is_empty())
    }
    /// Removes the target of a rename, if it may be replaced by `node`.
    fn replace_target(&self, node: &Arc<MemInode>, name: &[u8]) -> Result<()> {
        let old = match self.find(name) {
            Ok(o) => o,
            Err(ENOENT) => return Ok(()),
            Err(e) => return Err(e),
        };
        match (node.is_dir(), old.is_dir()) {
            (true, false) => return Err(ENOTDIR),
            (false, true) => return Err(EISDIR),
            (true, true) if !old.is_empty()? => return Err(ENOTEMPTY),
            _ => {}
        }
        if old.is_dir() {
            old.add_links(-2);
            self.add_links(-1);
        } else {
            old.add_links(-1);
        }
        Ok(())
    }
}

impl Drop for MemInode {
    fn drop(&mut self) {
        NODES.with_mut(|n| *n -= 1);
        if tmpfs::quota(&self.fs).is_some() {
            tmpfs::give_back(&self.fs, self.own_pages());
        }
    }
}

/// Host metadata as ours.
pub fn stat_of_host(s: &occlum_enclave_abi::HostStat) -> Stat {
    Stat {
        dev: s.dev,
        ino: s.ino,
        mode: s.mode as u32,
        nlink: s.nlink,
        uid: s.uid as u32,
        gid: s.gid as u32,
        rdev: s.rdev,
        size: s.size,
        blksize: PAGE,
        blocks: s.blocks,
        atime: s.atime_ns,
        mtime: s.mtime_ns,
        ctime: s.ctime_ns,
    }
}

/// Applies `attr` to `m`.
pub fn apply_attr(m: &mut Stat, attr: &SetAttr) {
    if let Some(mode) = attr.mode {
        m.mode = (m.mode & S_IFMT) | (mode & 0o7777);
    }
    m.uid = attr.uid.unwrap_or(m.uid);
    m.gid = attr.gid.unwrap_or(m.gid);
    m.atime = attr.atime.unwrap_or(m.atime);
    m.mtime = attr.mtime.unwrap_or(m.mtime);
    m.ctime = now();
}

impl Inode for MemInode {
    fn fs(&self) -> &Arc<FsInfo> {
        &self.fs
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn kind(&self) -> u32 {
        self.meta.with(|m| m.mode & S_IFMT)
    }
    fn mapped(&self) -> Option<&BklCell<bool>> {
        Some(&self.mapped)
    }
    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.xattrs.with(|x| x.get(name))
    }
    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        Ok(self.xattrs.with(Xattrs::names))
    }
    fn set_xattr(&self, name: &[u8], value: &[u8], existed: Option<bool>) -> Result<()> {
        crate::mm::admit((name.len() + value.len()) as u64 + 256).map_err(|_| ENOSPC)?;
        self.xattrs.with_mut(|x| x.set(name, value, existed))?;
        self.meta.with_mut(|m| m.ctime = now());
        Ok(())
    }
    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.xattrs.with_mut(|x| x.remove(name))?;
        self.meta.with_mut(|m| m.ctime = now());
        Ok(())
    }
    fn seals(&self) -> Option<&BklCell<u32>> {
        self.seals.as_ref()
    }
    fn cached(&self, pages: core::ops::RangeInclusive<u64>) -> u64 {
        self.pages().map_or(0, |p| p.resident_in(pages))
    }
    fn stat(&self) -> Result<Stat> {
        let mut s = self.meta.get();
        if let Body::File(p) = &self.body {
            s.size = p.size();
            if p.version() > 0 {
                s.blocks = p.resident_blocks(s.blocks);
            }
        }
        Ok(s)
    }
    fn size(&self) -> u64 {
        if let Body::File(p) = &self.body { p.size() } else { self.meta.with(|m| m.size) }
    }
    fn file_id(&self) -> (u64, u64) {
        (self.id, if let Body::File(p) = &self.body { p.version() } else { 0 })
    }

    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        Ok(self.find(name)?)
    }
    fn create(&self, name: &[u8], mode: u32, owner: (u32, u32), rdev: u64) -> Result<InodeRef> {
        tmpfs::take_node(&self.fs)?;
        let n = Self::new(&self.fs, mode, owner, rdev);
        self.insert(name, n.clone())?;
        Ok(n)
    }
    fn symlink(&self, name: &[u8], target: &[u8], owner: (u32, u32)) -> Result<InodeRef> {
        tmpfs::take_node(&self.fs)?;
        let n = Self::new_link(&self.fs, target, owner);
        self.insert(name, n.clone())?;
        Ok(n)
    }
    fn readlink(&self) -> Result<Vec<u8>> {
        if let Body::Link(t) = &self.body { Ok(t.clone()) } else { Err(EINVAL) }
    }
    fn link(&self, name: &[u8], target: &InodeRef) -> Result<()> {
        let node = target.as_any().downcast_ref::<MemInode>().and_then(|m| m.me.upgrade()).ok_or(EXDEV)?;
        self.insert(name, node.clone())?;
        node.add_links(1);
        Ok(())
    }
    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.writable()?;
        let n = self.find(name)?;
        if n.is_dir() {
            return Err(EISDIR);
        }
        self.remove(name)?;
        n.add_links(-1);
        Ok(())
    }
    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.writable()?;
        let n = self.find(name)?;
        if !n.is_dir() {
            return Err(ENOTDIR);
        }
        if !n.is_empty()? {
            return Err(ENOTEMPTY);
        }
        self.remove(name)?;
        n.add_links(-2);
        self.add_links(-1);
        Ok(())
    }
    fn rename(&self, old: &[u8], to: &InodeRef, new: &[u8], exchange: bool) -> Result<()> {
        self.writable()?;
        let to = to.as_any().downcast_ref::<MemInode>().ok_or(EXDEV)?;
        let node = self.find(old)?;
        if exchange {
            let other = to.find(new)?;
            let t = now();
            for (moved, from, into) in [(&node, self, to), (&other, to, self)] {
                if moved.is_dir() {
                    from.add_links(-1);
                    into.add_links(1);
                }
                moved.meta.with_mut(|m| m.ctime = t);
            }
            to.add(new, node);
            self.add(old, other);
            self.touch();
            to.touch();
            return Ok(());
        }
        if let Ok(t) = to.find(new)
            && Arc::ptr_eq(&t, &node)
        {
            return Ok(());
        }
        to.replace_target(&node, new)?;
        to.add(new, node.clone());
        self.remove(old)?;
        if node.is_dir() {
            self.add_links(-1);
            to.add_links(1);
        }
        let t = now();
        node.meta.with_mut(|m| m.ctime = t);
        to.touch();
        Ok(())
    }
    fn list(&self) -> Result<Vec<DirEntry>> {
        let dir = self.dir()?;
        let lower = dir.with(|d| d.lower.clone());
        let mut out = Vec::new();
        let lower = match lower {
            Some(below) => below.list()?,
            None => Vec::new(),
        };
        // About what an entry takes, with its name.
        const COST: u64 = 96;
        let names = |d: &Dir| d.entries.keys().map(|name| name.len() as u64 + COST).sum::<u64>();
        crate::mm::admit(dir.with(names))?;
        let d = dir.borrow();
        out.try_room_exact(lower.len() + d.entries.len()).map_err(|_| ENOMEM)?;
        let mine = |name: &[u8], e: &Entry| match e {
            Entry::Node { node, .. } => {
                let (ino, mode) = node.meta.with(|m| (m.ino, m.mode));
                Some(DirEntry { ino, d_type: d_type(mode), name: name.to_vec() })
            }
            _ => None,
        };
        // What is below keeps its place when it is looked at or changed: the order of a listing stays the same.
        let mut met = BTreeSet::new();
        for e in lower {
            match d.entries.get_key_value(&e.name) {
                None => out.push(e),
                Some((name, own)) if met.insert(name) => out.extend(mine(name, own)),
                Some(_) => {}
            }
        }
        out.extend(
            d.entries.iter().filter(|(name, _)| !met.contains(name)).filter_map(|(name, e)| mine(name, e)),
        );
        Ok(out)
    }
    fn setattr(&self, attr: &SetAttr) -> Result<()> {
        self.writable()?;
        self.meta.with_mut(|m| apply_attr(m, attr));
        Ok(())
    }

    fn read_at(&self, off: u64, buf: &mut [u8]) -> Result<usize> {
        self.read_to(off, &mut Dst::kernel(buf))
    }
    fn read_to(&self, off: u64, dst: &mut Dst) -> Result<usize> {
        let Body::File(p) = &self.body else { return Err(if self.is_dir() { EISDIR } else { EINVAL }) };
        let mut total = 0;
        while dst.remaining() > 0 {
            let pos = off.saturating_add(total as u64);
            let size = p.size();
            if pos >= size {
                break;
            }
            let within = (pos % PAGE) as usize;
            let n = (PAGE - pos % PAGE).min(size - pos).min(dst.remaining() as u64) as usize;
            let page = match p.page(pos / PAGE) {
                Ok(p) => p,
                Err(e) => return partial(total, e),
            };
            let r = match &page {
                Some(page) => dst.push(&page.bytes()[within..within + n]),
                None => dst.push(&super::pages::ZERO_PAGE[..n]),
            };
            match r {
                Ok(m) => {
                    total += m;
                    if m < n {
                        break;
                    }
                }
                Err(e) => return partial(total, e),
            }
        }
        Ok(total)
    }
    fn write_at(&self, off: u64, data: &[u8]) -> Result<usize> {
        let Body::File(p) = &self.body else { return Err(if self.is_dir() { EISDIR } else { EINVAL }) };
        self.writable()?;
        let before = p.resident();
        let fits = if tmpfs::quota(&self.fs).is_some() {
            p.fitting(off, data.len(), tmpfs::room(&self.fs))
        } else {
            data.len()
        };
        if fits == 0 && !data.is_empty() {
            return Err(ENOSPC);
        }
        let written = p.write(off, &data[..fits]);
        tmpfs::resized(&self.fs, before, p.resident());
        let n = written?;
        self.touch();
        Ok(n)
    }
    fn truncate(&self, len: u64) -> Result<()> {
        let Body::File(p) = &self.body else { return Err(if self.is_dir() { EISDIR } else { EINVAL }) };
        self.writable()?;
        let before = p.resident();
        let done = p.truncate(len);
        tmpfs::resized(&self.fs, before, p.resident());
        done?;
        self.touch();
        Ok(())
    }
    fn allocate(&self, mode: u32, off: u64, len: u64) -> Result<()> {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        const ZERO_RANGE: u32 = 16;
        let Body::File(p) = &self.body else { return Err(ENODEV) };
        self.writable()?;
        let end = off.checked_add(len).filter(|e| *e <= FILE_MAX).ok_or(EFBIG)?;
        match mode & !KEEP_SIZE {
            0 => {}
            PUNCH_HOLE if mode & KEEP_SIZE != 0 => return p.zero(off, end.min(p.size())),
            ZERO_RANGE => p.zero(off, end.min(p.size()))?,
            _ => return Err(EOPNOTSUPP),
        }
        if mode & KEEP_SIZE == 0 && end > p.size() {
            p.truncate(end)?;
            self.touch();
        }
        Ok(())
    }
    fn seek_data(&self, off: u64, data: bool) -> Result<Option<u64>> {
        Ok(self.pages().and_then(|p| p.seek(off, data)))
    }
    fn unnamed(&self, mode: u32, owner: (u32, u32)) -> Result<InodeRef> {
        tmpfs::take_node(&self.fs)?;
        let node = MemInode::new(&self.fs, mode, owner, 0);
        node.meta.with_mut(|m| m.nlink = 0);
        Ok(node)
    }
    fn stand_in(&self) -> Option<Arc<MemInode>> {
        self.me.upgrade()
    }
    fn open(&self, me: &InodeRef, flags: u32) -> Result<Option<Arc<dyn File>>> {
        match self.kind() {
            S_IFIFO => super::pipe::open_fifo(self, flags).map(Some),
            S_IFCHR => super::dev::open(self.meta.with(|m| m.rdev), me, flags).map(Some),
            S_IFREG => {
                if let Body::File(p) = &self.body {
                    p.check_host()?;
                }
                Ok(None)
            }
            S_IFSOCK | S_IFBLK => Err(ENXIO),
            _ => Ok(None),
        }
    }
}
