//! Bind mounts: host directories passed through, read-only or writable. Nothing is cached across calls: the
//! host may change them at any time. Inodes are shared by host identity while in use.
//!
//! Neighbour: `host`. An inode knows the directory it is in and its name there, so what is in a directory follows when that is
//! renamed. The host resolves such names beneath the mount's top only, and follows no link. Calls that act on an inode use its
//! own host descriptor, if it has one; an inode in use gets one before its name goes. Invariant: no directory is in itself.
use super::file::File;
use super::host::{self, At, HostFd, Moment, Op};
use super::inode::{DirEntry, FsInfo, Inode, InodeRef, SetAttr, Stat, next_dev, next_id};
use super::memfs::{MemInode, stat_of_host};
use super::prelude::*;

/// File system, and the host's device and inode number.
type Key = (u64, u64, u64);

/// Where an inode is.
enum Place {
    Top,
    In(Arc<BindInode>, Vec<u8>),
    /// Its name was removed, or is another file's.
    Gone,
}

/// What a descriptor is good for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    /// To name the inode.
    Name,
    Read,
    Write,
}

/// An inode of a bind mount.
pub struct BindInode {
    fs: Arc<FsInfo>,
    /// What was mounted.
    top: Arc<HostFd>,
    me: Weak<BindInode>,
    key: Key,
    id: u64,
    kind: u32,
    place: BklCell<Place>,
    fd: BklCell<Option<(Arc<HostFd>, Access)>>,
    last: BklCell<Stat>,
    /// What told its content's last version (times and size), and how many there were.
    version: BklCell<((i64, i64, u64), u64)>,
    /// When it was looked up: `last` is of then.
    found: BklCell<Option<Moment>>,
    /// In memory, of a FIFO or socket, which are the enclave's: the host has the name only.
    stand_in: BklCell<Option<Arc<MemInode>>>,
    mapped: BklCell<bool>,
}

/// Those in use.
static LIVE: BklCell<BTreeMap<Key, Weak<BindInode>>> = BklCell::new(BTreeMap::new());

/// The root of a bind mount of the host path `path`.
pub fn root(path: &[u8], read_only: bool) -> Result<InodeRef> {
    let top = host::open_top(path)?;
    let s = stat_of_host(&host::fstat(top.number())?);
    let fs = Arc::new(FsInfo {
        name: "hostfs",
        magic: 0x00c0_ffee,
        dev: next_dev(),
        read_only,
        cached: false,
        reported: false,
        host: Some(top.clone()),
    });
    Ok(BindInode::fresh(fs, top, Place::Top, s))
}

impl Drop for BindInode {
    fn drop(&mut self) {
        // The host may have given the number to a file of another kind since.
        LIVE.with_mut(|l| {
            if l.get(&self.key).is_some_and(|w| w.strong_count() == 0) {
                l.remove(&self.key);
            }
        });
        // One directory after another: a deep chain must not recurse.
        let mut place = self.place.replace(Place::Gone);
        while let Place::In(dir, _) = place {
            let Some(dir) = Arc::into_inner(dir) else { break };
            place = dir.place.replace(Place::Gone);
        }
    }
}

impl BindInode {
    /// An inode that nobody has yet.
    fn fresh(fs: Arc<FsInfo>, top: Arc<HostFd>, place: Place, s: Stat) -> Arc<Self> {
        let key = (fs.dev, s.dev, s.ino);
        let i = Arc::new_cyclic(|me| Self {
            fs,
            top,
            me: me.clone(),
            key,
            id: next_id(),
            kind: s.mode & S_IFMT,
            place: BklCell::new(place),
            fd: BklCell::new(None),
            last: BklCell::new(s),
            version: BklCell::new(((s.mtime, s.ctime, s.size), 0)),
            found: BklCell::new(None),
            stand_in: BklCell::new(None),
            mapped: BklCell::new(false),
        });
        LIVE.with_mut(|l| l.insert(key, Arc::downgrade(&i)));
        i
    }
    /// The content changes by a call: the host's times may be too coarse to tell.
    fn changes(&self) {
        self.version.with_mut(|(_, count)| *count += 1);
    }
    fn here(&self, name: &[u8]) -> Result<Place> {
        Ok(Place::In(self.me.upgrade().ok_or(ENOENT)?, name.to_vec()))
    }
    /// A new object of this directory.
    fn made(&self, name: &[u8], s: Stat) -> Result<Arc<Self>> {
        Ok(Self::fresh(self.fs.clone(), self.top.clone(), self.here(name)?, s))
    }
    /// What is at `name`.
    fn find(&self, name: &[u8]) -> Result<Arc<Self>> {
        if self.kind != S_IFDIR {
            return Err(ENOTDIR);
        }
        let s = self.with_child(name, |at| Ok(stat_of_host(&host::lstat(at)?)))?;
        let key = (self.fs.dev, s.dev, s.ino);
        let found = match LIVE.with(|l| l.get(&key).and_then(Weak::upgrade)) {
            Some(i) if i.kind == s.mode & S_IFMT && !i.is_lost() && !self.is_in(&i) => {
                drop(i.place.replace(self.here(name)?));
                i.last.set(s);
                i
            }
            _ => self.made(name, s)?,
        };
        found.found.set(Some(Moment::now()));
        Ok(found)
    }
    /// Its name went and nothing holds it on the host, where its number may be another file's.
    fn is_lost(&self) -> bool {
        self.place.with(|p| matches!(p, Place::Gone)) && self.fd.with(Option::is_none)
    }
    /// Is it this directory or below it?
    fn is_in(&self, dir: &Arc<Self>) -> bool {
        let mut at = self.me.upgrade();
        while let Some(i) = at {
            if Arc::ptr_eq(&i, dir) {
                return true;
            }
            at = i.place.with(|p| if let Place::In(up, _) = p { Some(up.clone()) } else { None });
        }
        false
    }

    /// The names that lead to it from the top.
    fn path(&self) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        let mut length = 0;
        let mut at = self.me.upgrade().ok_or(ENOENT)?;
        loop {
            let step = at.place.with(|p| match p {
                Place::Top => Ok(None),
                Place::In(dir, name) => Ok(Some((dir.clone(), name.clone()))),
                Place::Gone => Err(ENOENT),
            });
            let Some((dir, name)) = step? else { break };
            length += name.len() + 1;
            if length > PATH_MAX {
                return Err(ENAMETOOLONG);
            }
            names.push(name);
            at = dir;
        }
        names.reverse();
        Ok(names.join(&b'/'))
    }
    fn with_child<T>(&self, name: &[u8], f: impl FnOnce(At) -> Result<T>) -> Result<T> {
        let mut path = self.path()?;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        f(At::beneath(&self.top, &path))
    }
    /// Calls `f` with itself: what its descriptor stands for, or else what has its name.
    fn with_itself<T>(&self, f: impl FnOnce(At) -> Result<T>) -> Result<T> {
        match self.fd.with(Clone::clone) {
            Some((fd, _)) => f(At::beneath(&fd, b"")),
            None => f(At::beneath(&self.top, &self.path()?)),
        }
    }

    fn writable(&self) -> Result<()> {
        if self.fs.read_only { Err(EROFS) } else { Ok(()) }
    }
    fn descriptor(&self, want: Access) -> Result<Arc<HostFd>> {
        if let Some((fd, access)) = self.fd.with(Clone::clone)
            && access >= want
        {
            return Ok(fd);
        }
        let open = |flags| self.with_itself(|at| host::open(at, flags, 0));
        let (fd, access) = match (want, self.kind) {
            (Access::Name, _) => (open(O_PATH)?, want),
            (_, S_IFDIR) => (open(O_RDONLY | O_DIRECTORY)?, Access::Read),
            _ if self.fs.read_only && want == Access::Write => return Err(EROFS),
            _ if self.fs.read_only => (open(O_RDONLY)?, Access::Read),
            _ => match open(O_RDWR) {
                Ok(fd) => (fd, Access::Write),
                Err(e) if want == Access::Write => return Err(e),
                Err(_) => (open(O_RDONLY)?, Access::Read),
            },
        };
        Ok(self.keep(fd, access))
    }
    fn keep(&self, fd: u32, access: Access) -> Arc<HostFd> {
        let fd = HostFd::handed_over(fd);
        drop(self.fd.replace(Some((fd.clone(), access))));
        fd
    }
    /// What is at `name` and in use, held on the host: that name is about to go.
    fn victim(&self, name: &[u8]) -> Option<Arc<Self>> {
        let victim = self.find(name).ok().filter(|v| Arc::strong_count(v) > 1)?;
        // Without it there will be nothing left to act on.
        let _ = victim.descriptor(Access::Name);
        Some(victim)
    }
    /// `name` of `dir` went.
    fn leave(&self, dir: &Self, name: &[u8]) {
        let was_there =
            |p: &Place| matches!(p, Place::In(d, n) if core::ptr::eq(&raw const **d, dir) && n == name);
        if self.place.with(was_there) {
            drop(self.place.replace(Place::Gone));
        }
    }
    fn remove(&self, op: Op, name: &[u8]) -> Result<()> {
        self.writable()?;
        let victim = self.victim(name);
        self.with_child(name, |at| host::path_op(op, 0, 0, at))?;
        if let Some(v) = victim {
            v.leave(self, name);
        }
        Ok(())
    }
    /// Makes what is not a regular file; its metadata.
    fn make_special(&self, name: &[u8], mode: u32) -> Result<Stat> {
        let op = match mode & S_IFMT {
            S_IFDIR => Op::Mkdir,
            S_IFIFO | S_IFSOCK => Op::Mknod,
            _ => return Err(EPERM),
        };
        let bits = if op == Op::Mkdir { mode & 0o7777 } else { mode & (S_IFMT | 0o7777) };
        self.with_child(name, |at| {
            host::path_op(op, u64::from(bits), 0, at)?;
            // The host applied its own umask.
            let _ = host::path_op(Op::Chmod, u64::from(mode & 0o7777), 0, at);
            Ok(stat_of_host(&host::lstat(at)?))
        })
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
        // What was just looked up is not asked for again.
        if self.found.take() == Some(Moment::now()) {
            return Ok(self.last.get());
        }
        let s = self.with_itself(host::lstat)?;
        let s = Stat { mode: self.kind | (s.mode as u32 & 0o7777), ..stat_of_host(&s) };
        self.last.set(s);
        Ok(s)
    }
    fn file_id(&self) -> (u64, u64) {
        let s = self.stat().unwrap_or_else(|_| self.last.get());
        let now = (s.mtime, s.ctime, s.size);
        self.version.with_mut(|(last, count)| {
            *count += u64::from(core::mem::replace(last, now) != now);
            (self.id, *count)
        })
    }
    fn object_id(&self) -> u64 {
        self.id
    }
    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        Ok(self.find(name)?)
    }
    fn create(&self, name: &[u8], mode: u32, _owner: (u32, u32), _rdev: u64) -> Result<InodeRef> {
        self.writable()?;
        if mode & S_IFMT != S_IFREG {
            let s = self.make_special(name, mode)?;
            return Ok(self.made(name, s)?);
        }
        let mode = mode & 0o7777;
        let fd = self.with_child(name, |at| host::open(at, O_RDWR | O_CREAT | O_EXCL, mode))?;
        let fd = HostFd::handed_over(fd);
        // The host applied its own umask.
        let _ = host::path_op(Op::Chmod, u64::from(mode), 0, At::beneath(&fd, b""));
        let made = self.made(name, stat_of_host(&host::fstat(fd.number())?))?;
        made.fd.set(Some((fd, Access::Write)));
        Ok(made)
    }
    fn symlink(&self, name: &[u8], target: &[u8], _owner: (u32, u32)) -> Result<InodeRef> {
        self.writable()?;
        self.with_child(name, |at| host::symlink(target, at))?;
        Ok(self.find(name)?)
    }
    fn readlink(&self) -> Result<Vec<u8>> {
        if self.kind == S_IFLNK { self.with_itself(host::readlink) } else { Err(EINVAL) }
    }
    fn link(&self, name: &[u8], target: &InodeRef) -> Result<()> {
        let t = target.as_any().downcast_ref::<BindInode>().ok_or(EXDEV)?;
        self.writable()?;
        let link = |from: At| self.with_child(name, |to| host::path_op_to(Op::Link, from, to));
        match t.path() {
            Ok(path) => link(At::beneath(&t.top, &path)),
            Err(_) => t.with_itself(link),
        }
    }
    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove(Op::Unlink, name)
    }
    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove(Op::Rmdir, name)
    }
    fn rename(&self, old: &[u8], to: &InodeRef, new: &[u8], exchange: bool) -> Result<()> {
        let to = to.as_any().downcast_ref::<BindInode>().ok_or(EXDEV)?;
        self.writable()?;
        let moved = self.find(old)?;
        if exchange || to.is_in(&moved) {
            return Err(EINVAL);
        }
        let replaced = to.victim(new);
        self.with_child(old, |from| to.with_child(new, |dest| host::path_op_to(Op::Rename, from, dest)))?;
        if let Some(r) = replaced {
            r.leave(to, new);
        }
        drop(moved.place.replace(to.here(new)?));
        Ok(())
    }
    fn list(&self) -> Result<Vec<DirEntry>> {
        let all = match self.fd.with(Clone::clone) {
            Some((fd, Access::Read)) => host::list_fd(fd.number())?,
            _ => self.with_itself(host::list)?,
        };
        Ok(all.into_iter().map(|e| DirEntry { ino: e.ino, d_type: e.d_type, name: e.name }).collect())
    }
    fn setattr(&self, attr: &SetAttr) -> Result<()> {
        self.writable()?;
        let op = |op, a, b| self.with_itself(|at| host::path_op(op, a, b, at));
        if let Some(mode) = attr.mode {
            op(Op::Chmod, u64::from(mode & 0o7777), 0)?;
        }
        if attr.uid.is_some() || attr.gid.is_some() {
            let id = |v: Option<u32>| v.map_or(u64::from(u32::MAX), u64::from);
            op(Op::Chown, id(attr.uid), id(attr.gid))?;
        }
        if attr.atime.is_some() || attr.mtime.is_some() {
            let now = self.stat()?;
            let (a, m) = (attr.atime.unwrap_or(now.atime), attr.mtime.unwrap_or(now.mtime));
            op(Op::Utimens, a as u64, m as u64)?;
        }
        Ok(())
    }
    fn read_at(&self, off: u64, buf: &mut [u8]) -> Result<usize> {
        if self.kind == S_IFDIR {
            return Err(EISDIR);
        }
        let fd = self.descriptor(Access::Read)?;
        super::cold::pread(fd.number(), off, buf)
    }
    fn write_at(&self, off: u64, data: &[u8]) -> Result<usize> {
        self.writable()?;
        self.changes();
        host::pwrite(self.descriptor(Access::Write)?.number(), off, data)
    }
    fn truncate(&self, len: u64) -> Result<()> {
        self.writable()?;
        self.changes();
        host::ftruncate(self.descriptor(Access::Write)?.number(), len)
    }
    fn allocate(&self, mode: u32, off: u64, len: u64) -> Result<()> {
        let end = off.checked_add(len).ok_or(EFBIG)?;
        if mode != 0 {
            return Err(EOPNOTSUPP);
        }
        if end > self.stat()?.size { self.truncate(end) } else { Ok(()) }
    }
    fn sync(&self) -> Result<()> {
        match self.fd.with(Clone::clone) {
            Some((fd, Access::Read | Access::Write)) => host::fsync_beside(fd.number()),
            _ => Ok(()),
        }
    }
    fn stand_in(&self) -> Option<Arc<MemInode>> {
        MemInode::stand_in(&self.stand_in, &self.fs, self.kind)
    }
    fn open(&self, _me: &InodeRef, flags: u32) -> Result<Option<Arc<dyn File>>> {
        match self.kind {
            S_IFREG if flags & O_ACCMODE != O_RDONLY => self.descriptor(Access::Write).map(|_| None),
            S_IFREG | S_IFDIR => self.descriptor(Access::Read).map(|_| None),
            S_IFIFO => super::pipe::open_fifo(&*self.stand_in().ok_or(ENXIO)?, flags).map(Some),
            _ => Err(ENXIO),
        }
    }
}
