//! Inodes: what a file system offers. Neighbours: `memfs`, `bind`, `proc` implement it; `dentry` and `path`
//! name inodes; `file` opens them. Offsets and lengths come from programs and are checked by the callers.
use super::file::File;
use super::prelude::*;
use super::uio::{Dst, Src, partial, try_vec};

/// A shared inode.
pub type InodeRef = Arc<dyn Inode>;

/// Metadata, in the terms of `stat`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stat {
    /// Device of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Links.
    pub nlink: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// Preferred block size.
    pub blksize: u64,
    /// 512-byte blocks.
    pub blocks: u64,
    /// Last access, ns since the epoch.
    pub atime: i64,
    /// Last modification.
    pub mtime: i64,
    /// Last change of metadata.
    pub ctime: i64,
}

/// Changes of metadata; `None` leaves a field alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Access time.
    pub atime: Option<i64>,
    /// Modification time.
    pub mtime: Option<i64>,
}

/// One directory entry.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// Inode number.
    pub ino: u64,
    /// `DT_*`.
    pub d_type: u8,
    /// Name.
    pub name: Vec<u8>,
}

/// `DT_*` of a mode.
pub fn d_type(mode: u32) -> u8 {
    ((mode & S_IFMT) >> 12) as u8
}

/// What all inodes of one mounted file system share.
#[derive(Debug)]
pub struct FsInfo {
    /// Name, as in /proc/mounts.
    pub name: &'static str,
    /// `statfs` magic.
    pub magic: u64,
    /// Identity of the mounted instance; also `st_dev` where the file system has no better one.
    pub dev: u64,
    /// No writes.
    pub read_only: bool,
    /// Names may be cached in dentries (only the LibOS changes them).
    pub cached: bool,
    /// Changes are listed in the exit report.
    pub reported: bool,
    /// The directory of the host for `statfs`, if it mirrors one.
    pub host: Option<Arc<super::host::HostFd>>,
}

/// A file-system object.
pub trait Inode: Send + Sync + 'static {
    /// The file system it belongs to.
    fn fs(&self) -> &Arc<FsInfo>;
    /// Metadata.
    fn stat(&self) -> Result<Stat>;
    /// Type bits of the mode (never change).
    fn kind(&self) -> u32;
    /// For downcasts.
    fn as_any(&self) -> &dyn Any;
    /// Unique id of the content object, and its version: equal pairs mean equal bytes.
    fn file_id(&self) -> (u64, u64);
    /// Unique id of the object as long as it lives, whatever becomes of its content: what locks, leases, watches and
    /// shared mappings go by.
    fn object_id(&self) -> u64 {
        self.file_id().0
    }

    /// Checks `want` (`MAY_*`), by the permission bits unless there are other rules.
    fn check(&self, cred: &super::path::Cred, want: u32) -> Result<()> {
        cred.check(&self.stat()?, want)
    }

    /// The entry of a directory.
    fn lookup(&self, _name: &[u8]) -> Result<InodeRef> {
        Err(ENOTDIR)
    }
    /// Makes a file, directory, FIFO, socket or device node.
    fn create(&self, _name: &[u8], _mode: u32, _owner: (u32, u32), _rdev: u64) -> Result<InodeRef> {
        Err(EPERM)
    }
    /// Makes a symbolic link.
    fn symlink(&self, _name: &[u8], _target: &[u8], _owner: (u32, u32)) -> Result<InodeRef> {
        Err(EPERM)
    }
    /// Text of a symbolic link.
    fn readlink(&self) -> Result<Vec<u8>> {
        Err(EINVAL)
    }
    /// A link that leads to an object rather than to a path (`/proc/<pid>/fd/<n>`).
    fn magic_link(&self) -> Option<Result<Arc<super::dentry::Dentry>>> {
        None
    }
    /// Adds a name for `target` (same file system).
    fn link(&self, _name: &[u8], _target: &InodeRef) -> Result<()> {
        Err(EPERM)
    }
    /// Removes a name that is not a directory.
    fn unlink(&self, _name: &[u8]) -> Result<()> {
        Err(EPERM)
    }
    /// Removes an empty directory.
    fn rmdir(&self, _name: &[u8]) -> Result<()> {
        Err(EPERM)
    }
    /// Moves `old` of this directory to `new` of `to` (same file system); `exchange` swaps them.
    fn rename(&self, _old: &[u8], _to: &InodeRef, _new: &[u8], _exchange: bool) -> Result<()> {
        Err(EPERM)
    }
    /// All entries but `.` and `..`.
    fn list(&self) -> Result<Vec<DirEntry>> {
        Err(ENOTDIR)
    }
    /// Changes metadata; permission was checked by the caller.
    fn setattr(&self, _attr: &SetAttr) -> Result<()> {
        Err(EPERM)
    }

    /// Reads at an offset; 0 at the end.
    fn read_at(&self, _off: u64, _buf: &mut [u8]) -> Result<usize> {
        Err(EINVAL)
    }
    /// Writes at an offset.
    fn write_at(&self, _off: u64, _data: &[u8]) -> Result<usize> {
        Err(EINVAL)
    }
    /// Streams content to `dst`.
    fn read_to(&self, off: u64, dst: &mut Dst) -> Result<usize> {
        let mut buf = try_vec(dst.remaining().min(64 << 10))?;
        let mut total = 0;
        while dst.remaining() > 0 {
            let want = buf.len().min(dst.remaining());
            let n = match self.read_at(off + total as u64, &mut buf[..want]) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) => return partial(total, e),
            };
            match dst.push(&buf[..n]) {
                Ok(m) if m < n => return Ok(total + m),
                Ok(m) => total += m,
                Err(e) => return partial(total, e),
            }
        }
        Ok(total)
    }
    /// Streams `src` into the content.
    fn write_from(&self, off: u64, src: &mut Src) -> Result<usize> {
        write_pieces(self, off, src)
    }
    /// Sets the length.
    fn truncate(&self, _len: u64) -> Result<()> {
        Err(EINVAL)
    }
    /// `fallocate` mode bits `_mode`.
    fn allocate(&self, _mode: u32, _off: u64, _len: u64) -> Result<()> {
        Err(EOPNOTSUPP)
    }
    /// How many of these pages of the content are in memory.
    fn cached(&self, _pages: core::ops::RangeInclusive<u64>) -> u64 {
        0
    }
    /// Makes the content durable.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    /// The next data (or hole) at or behind `off`; `None` beyond the end. Without better knowledge all is data.
    fn seek_data(&self, off: u64, data: bool) -> Result<Option<u64>> {
        let size = self.size();
        Ok((off < size).then_some(if data { off } else { size }))
    }
    /// The value of an extended attribute.
    fn xattr(&self, _name: &[u8]) -> Result<Vec<u8>> {
        Err(ENODATA)
    }
    /// Names of the extended attributes.
    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }
    /// Sets an extended attribute; `existed` demands that it did, or did not, exist before.
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _existed: Option<bool>) -> Result<()> {
        Err(EOPNOTSUPP)
    }
    /// Removes an extended attribute.
    fn remove_xattr(&self, _name: &[u8]) -> Result<()> {
        Err(ENODATA)
    }
    /// Makes a file without a name in the file system of this directory (`O_TMPFILE`).
    fn unnamed(&self, _mode: u32, _owner: (u32, u32)) -> Result<InodeRef> {
        Err(EOPNOTSUPP)
    }
    /// The node in memory that the running object of a FIFO or socket is attached to.
    fn stand_in(&self) -> Option<Arc<super::memfs::MemInode>> {
        None
    }
    /// `statfs` numbers of its file system: type, bsize, blocks, bfree, bavail, files, ffree, namelen.
    fn statfs(&self) -> [u64; 8] {
        super::mount::statfs(self.fs())
    }
    /// Called at open: a special file (FIFO, device) gives its own operations.
    fn open(&self, _me: &InodeRef, _flags: u32) -> Result<Option<Arc<dyn File>>> {
        Ok(None)
    }

    /// The seals of a file of memfd_create.
    fn seals(&self) -> Option<&BklCell<u32>> {
        None
    }
    /// Set once the content was mapped, so that truncation looks for mappings. `None`: it is never truncated.
    fn mapped(&self) -> Option<&BklCell<bool>> {
        None
    }

    /// Is it a regular file?
    fn is_regular(&self) -> bool {
        self.kind() == S_IFREG
    }
    /// Is it a directory?
    fn is_dir(&self) -> bool {
        self.kind() == S_IFDIR
    }
    /// Bytes of content.
    fn size(&self) -> u64 {
        self.stat().map_or(0, |s| s.size)
    }
}

/// Streams `src` into the content of `inode`. Through a kernel buffer: a fault of the source may read this very file.
pub fn write_pieces<I: Inode + ?Sized>(inode: &I, off: u64, src: &mut Src) -> Result<usize> {
    let mut buf = try_vec(src.remaining().min(64 << 10))?;
    let mut total = 0;
    while src.remaining() > 0 {
        let n = match src.pull(&mut buf) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) => return partial(total, e),
        };
        match inode.write_at(off + total as u64, &buf[..n]) {
            Ok(m) if m < n => {
                src.rewind(n - m);
                return Ok(total + m);
            }
            Ok(m) => total += m,
            Err(e) => {
                src.rewind(n);
                return partial(total, e);
            }
        }
    }
    Ok(total)
}

static NEXT_ID: BklCell<u64> = BklCell::new(1 << 32);
/// A new unique number (inode numbers, content identities, owners of locks).
pub fn next_id() -> u64 {
    NEXT_ID.with_mut(|n| {
        *n += 1;
        *n
    })
}
static NEXT_DEV: BklCell<u64> = BklCell::new(0x20);
/// A new `st_dev`.
pub fn next_dev() -> u64 {
    NEXT_DEV.with_mut(|n| {
        *n += 1;
        *n
    })
}
