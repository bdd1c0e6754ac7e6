//! Bind mounts: host directories passed through, read-only or writable. Nothing is cached across calls: the
//! host may change them at any time. Inodes are shared by host identity while in use, and keep their own host
//! descriptor.
use super::file::File;
use super::host::{self, Op};
use super::inode::{DirEntry, FsInfo, Inode, InodeRef, SetAttr, Stat, next_dev, next_id};
use super::memfs::{MemInode, stat_of_host};
use super::prelude::*;

/// File system, and the host's device and inode number.
type Key = (u64, u64, u64);

/// An inode of a bind mount.
pub struct BindInode {
    fs: Arc<FsInfo>,
    key: Key,
    id: u64,
    kind: u32,
    path: BklCell<Vec<u8>>,
    /// Descriptor and whether it can write.
    fd: BklCell<Option<(u32, bool)>>,
    last: BklCell<Stat>,
    /// A FIFO's in-memory stand-in.
    fifo: BklCell<Option<Arc<MemInode>>>,
    mapped: BklCell<bool>,
}

/// Those in use.
static LIVE: BklCell<BTreeMap<Key, Weak<BindInode>>> = BklCell::new(BTreeMap::new());

/// The root of a bind mount of the host path `path`.
pub fn root(path: &[u8], read_only: bool) -> Result<InodeRef> {
    let fs = Arc::new(FsInfo {
        name: "hostfs",
        magic: 0x00c0_ffee,
        dev: next_dev(),
        read_only,
        cached: false,
        reported: false,
        host: Some(path.to_vec()),
    });
    let mut path = path.to_vec();
    // The user may name a link: resolve the last component here, the host's opens never follow.
    for _ in 0..SYMLINK_MAX {
        let s = host::lstat(&path)?;
        if s.mode as u32 & S_IFMT != S_IFLNK {
            return Ok(at(&fs, &path)?);
        }
        let target = host::readlink(&path)?;
        path = if target.first() == Some(&b'/') {
            target
        } else {
            let dir = path.iter().rposition(|c| *c == b'/').map_or(0, |i| i + 1);
            [&path[..dir], &target].concat()
        };
    }
    Err(ELOOP)
}

fn at(fs: &Arc<FsInfo>, path: &[u8]) -> Result<Arc<BindInode>> {
    let s = stat_of_host(&host::lstat(path)?);
    let key = (fs.dev, s.dev, s.ino);
    if let Some(i) = LIVE.with(|l| l.get(&key).and_then(Weak::upgrade))
        && i.kind == s.mode & S_IFMT
    {
        i.path.set(path.to_vec());
        i.last.set(s);
        return Ok(i);
    }
    let i = Arc::new(BindInode {
        fs: fs.clone(),
        key,
        id: next_id(),
        kind: s.mode & S_IFMT,
        path: BklCell::new(path.to_vec()),
        fd: BklCell::new(None),
        last: BklCell::new(s),
        fifo: BklCell::new(None),
        mapped: BklCell::new(false),
    });
    LIVE.with_mut(|l| l.insert(key, Arc::downgrade(&i)));
    Ok(i)
}

impl Drop for BindInode {
    fn drop(&mut self) {
        if let Some((fd, _)) = self.fd.take() {
            host::close(fd);
        }
        // The host may have given the number to a file of another kind since.
        LIVE.with_mut(|l| {
            if l.get(&self.key).is_some_and(|w| w.strong_count() == 0) {
                l.remove(&self.key);
            }
        });
    }
}

impl BindInode {
    fn host_path(&self) -> Vec<u8> {
        self.path.with(|p| p.clone())
    }
    fn child(&self, name: &[u8]) -> Vec<u8> {
        let mut p = self.host_path();
        if p.last() != Some(&b'/') {
            p.push(b'/');
        }
        p.extend_from_slice(name);
        p
    }
    fn writable(&self) -> Result<()> {
        if self.fs.read_only { Err(EROFS) } else { Ok(()) }
    }
    fn descriptor(&self, write: bool) -> Result<u32> {
        if let Some((fd, can_write)) = self.fd.get()
            && (can_write || !write)
        {
            return Ok(fd);
        }
        let path = self.host_path();
        let rw = if self.fs.read_only { Err(EROFS) } else { host::open(&path, O_RDWR, 0) };
        let (fd, can_write) = match rw {
            Ok(fd) => (fd, true),
            Err(e) if write => return Err(e),
            Err(_) => (host::open(&path, O_RDONLY, 0)?, false),
        };
        if let Some((old, _)) = self.fd.replace(Some((fd, can_write))) {
            host::close(old);
        }
        Ok(fd)
    }
    fn op(&self, op: Op, a: u64, b: u64, path: &[u8], path2: Option<&[u8]>) -> Result<()> {
        self.writable()?;
        host::path_op(op, a, b, path, path2)
    }
}

impl Inode for BindInode {
    fn fs(&self) -> &Arc<FsInfo> {
        &self.fs
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
    fn stat(&self) -> Result<Stat> {
        let s = match self.fd.get() {
            Some((fd, _)) => host::fstat(fd)?,
            None => host::lstat(&self.host_path())?,
        };
        let s = Stat { mode: self.kind | (s.mode as u32 & 0o7777), ..stat_of_host(&s) };
        self.last.set(s);
        Ok(s)
    }
    fn file_id(&self) -> (u64, u64) {
        let s = self.stat().unwrap_or_else(|_| self.last.get());
        (self.id, (s.mtime as u64).rotate_left(20) ^ (s.ctime as u64) ^ s.size)
    }
    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        if self.kind != S_IFDIR {
            return Err(ENOTDIR);
        }
        Ok(at(&self.fs, &self.child(name))?)
    }
    fn create(&self, name: &[u8], mode: u32, _owner: (u32, u32), _rdev: u64) -> Result<InodeRef> {
        self.writable()?;
        let path = self.child(name);
        match mode & S_IFMT {
            S_IFDIR => host::path_op(Op::Mkdir, u64::from(mode & 0o7777), 0, &path, None)?,
            S_IFREG => host::close(host::open(&path, O_RDWR | O_CREAT | O_EXCL, mode & 0o7777)?),
            _ => return Err(EPERM),
        }
        // The host applied its own umask.
        let _ = host::path_op(Op::Chmod, u64::from(mode & 0o7777), 0, &path, None);
        Ok(at(&self.fs, &path)?)
    }
    fn symlink(&self, name: &[u8], target: &[u8], _owner: (u32, u32)) -> Result<InodeRef> {
        let path = self.child(name);
        self.op(Op::Symlink, 0, 0, target, Some(&path))?;
        Ok(at(&self.fs, &path)?)
    }
    fn readlink(&self) -> Result<Vec<u8>> {
        if self.kind == S_IFLNK { host::readlink(&self.host_path()) } else { Err(EINVAL) }
    }
    fn link(&self, name: &[u8], target: &InodeRef) -> Result<()> {
        let t = target.as_any().downcast_ref::<BindInode>().ok_or(EXDEV)?;
        self.op(Op::Link, 0, 0, &t.host_path(), Some(&self.child(name)))
    }
    fn unlink(&self, name: &[u8]) -> Result<()> {
        // An open file must outlive its name: get its descriptor first, if someone holds it.
        if let Ok(i) = at(&self.fs, &self.child(name))
            && Arc::strong_count(&i) > 1
            && i.kind == S_IFREG
        {
            let _ = i.descriptor(false);
        }
        self.op(Op::Unlink, 0, 0, &self.child(name), None)
    }
    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.op(Op::Rmdir, 0, 0, &self.child(name), None)
    }
    fn rename(&self, old: &[u8], to: &InodeRef, new: &[u8], exchange: bool) -> Result<()> {
        let to = to.as_any().downcast_ref::<BindInode>().ok_or(EXDEV)?;
        if exchange {
            return Err(EINVAL);
        }
        let (from, dest) = (self.child(old), to.child(new));
        let moved = at(&self.fs, &from)?;
        self.op(Op::Rename, 0, 0, &from, Some(&dest))?;
        moved.path.set(dest);
        Ok(())
    }
    fn list(&self) -> Result<Vec<DirEntry>> {
        let all = host::list(&self.host_path())?;
        Ok(all.into_iter().map(|e| DirEntry { ino: e.ino, d_type: e.d_type, name: e.name }).collect())
    }
    fn setattr(&self, attr: &SetAttr) -> Result<()> {
        let path = self.host_path();
        if let Some(mode) = attr.mode {
            self.op(Op::Chmod, u64::from(mode & 0o7777), 0, &path, None)?;
        }
        if attr.uid.is_some() || attr.gid.is_some() {
            let id = |v: Option<u32>| v.map_or(u64::from(u32::MAX), u64::from);
            self.op(Op::Chown, id(attr.uid), id(attr.gid), &path, None)?;
        }
        if attr.atime.is_some() || attr.mtime.is_some() {
            let now = self.stat()?;
            let (a, m) = (attr.atime.unwrap_or(now.atime), attr.mtime.unwrap_or(now.mtime));
            self.op(Op::Utimens, a as u64, m as u64, &path, None)?;
        }
        Ok(())
    }
    fn read_at(&self, off: u64, buf: &mut [u8]) -> Result<usize> {
        if self.kind == S_IFDIR {
            return Err(EISDIR);
        }
        super::cold::pread(self.descriptor(false)?, off, buf)
    }
    fn write_at(&self, off: u64, data: &[u8]) -> Result<usize> {
        self.writable()?;
        host::pwrite(self.descriptor(true)?, off, data)
    }
    fn truncate(&self, len: u64) -> Result<()> {
        self.writable()?;
        host::ftruncate(self.descriptor(true)?, len)
    }
    fn allocate(&self, mode: u32, off: u64, len: u64) -> Result<()> {
        let end = off.checked_add(len).ok_or(EFBIG)?;
        if mode != 0 {
            return Err(EOPNOTSUPP);
        }
        if end > self.stat()?.size { self.truncate(end) } else { Ok(()) }
    }
    fn sync(&self) -> Result<()> {
        match self.fd.get() {
            Some((fd, _)) => host::fsync_beside(fd),
            None => Ok(()),
        }
    }
    fn open(&self, _me: &InodeRef, flags: u32) -> Result<Option<Arc<dyn File>>> {
        match self.kind {
            S_IFREG => self.descriptor(flags & O_ACCMODE != O_RDONLY).map(|_| None),
            S_IFDIR => Ok(None),
            S_IFIFO => {
                let node = match self.fifo.with(|f| f.clone()) {
                    Some(n) => n,
                    None => {
                        let n = MemInode::new(&self.fs, S_IFIFO | 0o600, (0, 0), 0);
                        self.fifo.set(Some(n.clone()));
                        n
                    }
                };
                super::pipe::open_fifo(&node, flags).map(Some)
            }
            _ => Err(ENXIO),
        }
    }
}
