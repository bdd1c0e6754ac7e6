//! Inodes of files without a name: pipes, sockets, event files, the host's streams.
use super::file::File;
use super::inode::{FsInfo, Inode, InodeRef, SetAttr, Stat, next_id};
use super::prelude::*;

static INFO: BklCell<Option<Arc<FsInfo>>> = BklCell::new(None);

/// The file system of anonymous inodes.
pub fn info() -> Arc<FsInfo> {
    if let Some(i) = INFO.with(|i| i.clone()) {
        return i;
    }
    let i = Arc::new(FsInfo {
        name: "anon_inodefs",
        magic: 0x0904_1934,
        dev: super::inode::next_dev(),
        read_only: false,
        cached: false,
        reported: false,
        host: None,
    });
    INFO.set(Some(i.clone()));
    i
}

/// An object that can be opened again through `/proc/<pid>/fd/<n>`.
pub trait Reopen: Send + Sync {
    /// A new open file of it.
    fn reopen(self: Arc<Self>, flags: u32) -> Result<Arc<dyn File>>;
}

/// An inode with metadata only.
pub struct AnonInode {
    fs: Arc<FsInfo>,
    /// Whose content it is; its number may be one of another kind of thing, too.
    id: u64,
    meta: BklCell<Stat>,
    object: BklCell<Option<Weak<dyn Reopen>>>,
}
impl AnonInode {
    /// A new one; `kind` 0 is an anonymous inode without a type, as epoll's.
    pub fn new(kind: u32) -> Arc<Self> {
        Self::numbered(kind, next_id())
    }
    /// The same with this number.
    pub fn numbered(kind: u32, ino: u64) -> Arc<Self> {
        let fs = info();
        let t = crate::time::realtime_ns() as i64;
        let cred = super::env::cred();
        let meta = Stat {
            dev: fs.dev,
            ino,
            mode: kind | if kind == S_IFSOCK { 0o777 } else { 0o600 },
            nlink: 1,
            uid: cred.uid,
            gid: cred.gid,
            blksize: PAGE,
            atime: t,
            mtime: t,
            ctime: t,
            ..Stat::default()
        };
        Arc::new(Self { fs, id: next_id(), meta: BklCell::new(meta), object: BklCell::new(None) })
    }
    /// Makes it possible to open `object` again by this inode.
    pub fn set_object(&self, object: &Arc<dyn Reopen>) {
        self.object.set(Some(Arc::downgrade(object)));
    }
    /// Inode number.
    pub fn ino(&self) -> u64 {
        self.meta.with(|m| m.ino)
    }
}
impl Inode for AnonInode {
    fn fs(&self) -> &Arc<FsInfo> {
        &self.fs
    }
    fn stat(&self) -> Result<Stat> {
        Ok(self.meta.get())
    }
    fn kind(&self) -> u32 {
        self.meta.with(|m| m.mode & S_IFMT)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn file_id(&self) -> (u64, u64) {
        (self.id, 0)
    }
    fn open(&self, _me: &InodeRef, flags: u32) -> Result<Option<Arc<dyn File>>> {
        let object = self.object.with(|o| o.as_ref().and_then(Weak::upgrade)).ok_or(ENXIO)?;
        object.reopen(flags).map(Some)
    }
    fn setattr(&self, attr: &SetAttr) -> Result<()> {
        self.meta.with_mut(|m| super::memfs::apply_attr(m, attr));
        Ok(())
    }
}
