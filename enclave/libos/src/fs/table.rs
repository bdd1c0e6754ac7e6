//! Descriptor tables and the per-process file context (root, cwd, umask).
//!
//! Invariants: a table's files are dropped after its cell is released (dropping a file may wake or lock);
//! POSIX locks belong to a table and go when any descriptor of the file is closed.
use super::dentry::Dentry;
use super::dnotify;
use super::env;
use super::file::OpenFile;
use super::inode::next_id;
use super::locks;
use super::prelude::*;
use crate::sched::Breath;
use occlum_rt::mem::TryGrow;

#[derive(Clone)]
struct Slot {
    file: Arc<OpenFile>,
    cloexec: bool,
}

/// About what an open file takes of the heap.
const FILE_COST: u64 = 1 << 10;

/// A descriptor table.
pub struct FileTable {
    slots: BklCell<Vec<Option<Slot>>>,
    /// No free descriptor is below this.
    hint: BklCell<usize>,
    /// Owner of POSIX locks.
    pub id: u64,
}

impl Drop for FileTable {
    fn drop(&mut self) {
        locks::release_owner(self.id);
        dnotify::table_ended(self.id);
    }
}

impl FileTable {
    /// A table without descriptors.
    pub fn empty() -> Arc<Self> {
        Self::with(Vec::new())
    }
    fn with(slots: Vec<Option<Slot>>) -> Arc<Self> {
        Arc::new(Self { slots: BklCell::new(slots), hint: BklCell::new(0), id: next_id() })
    }
    /// A copy for fork.
    pub fn dup_all(&self) -> Result<Arc<Self>> {
        let mut copy = Vec::new();
        copy.try_room_exact(self.slots.with(Vec::len)).map_err(|_| ENOMEM)?;
        self.slots.with(|s| copy.extend_from_slice(s));
        let t = Self::with(copy);
        t.hint.set(self.hint.get());
        Ok(t)
    }
    /// Makes room for descriptor `fd`.
    fn grow(slots: &mut Vec<Option<Slot>>, fd: usize) -> Result<()> {
        if fd >= slots.len() {
            slots.try_room(fd + 1 - slots.len()).map_err(|_| ENOMEM)?;
            slots.resize(fd + 1, None);
        }
        Ok(())
    }
    /// The file behind `fd`.
    pub fn get(&self, fd: i32) -> Result<Arc<OpenFile>> {
        let fd = usize::try_from(fd).map_err(|_| EBADF)?;
        self.slots.with(|s| s.get(fd).and_then(|e| e.as_ref()).map(|e| e.file.clone())).ok_or(EBADF)
    }
    /// Installs `file` at the lowest free descriptor from `min`.
    pub fn install(&self, file: Arc<OpenFile>, min: usize, cloexec: bool) -> Result<i32> {
        crate::mm::admit(FILE_COST)?;
        let limit = env::nofile();
        let hint = self.hint.get();
        self.slots.with_mut(|s| {
            let mut fd = min.max(hint);
            while s.get(fd).is_some_and(|e| e.is_some()) {
                fd += 1;
            }
            if fd >= limit {
                return Err(EMFILE);
            }
            Self::grow(s, fd)?;
            s[fd] = Some(Slot { file, cloexec });
            if min <= hint {
                self.hint.set(fd + 1);
            }
            Ok(fd as i32)
        })
    }
    /// Installs at the lowest free descriptor.
    pub fn add(&self, file: Arc<OpenFile>, cloexec: bool) -> Result<i32> {
        self.install(file, 0, cloexec)
    }
    /// Installs `file` at `fd`, closing what was there.
    pub fn put(&self, fd: i32, file: Arc<OpenFile>, cloexec: bool) -> Result<()> {
        let fd = usize::try_from(fd).ok().filter(|f| *f < env::nofile()).ok_or(EBADF)?;
        let old = self.slots.with_mut(|s| {
            Self::grow(s, fd)?;
            Ok(s[fd].replace(Slot { file, cloexec }))
        })?;
        self.closed(old);
        Ok(())
    }
    fn closed(&self, slot: Option<Slot>) {
        if let Some(s) = slot {
            locks::release_posix(self.id, s.file.inode().object_id());
            dnotify::closed(self.id, &s.file);
            s.file.special().iter().for_each(|f| f.descriptor_closed());
            let is_socket = s.file.inode().kind() == S_IFSOCK;
            drop(s);
            if is_socket {
                crate::net::garbage::after_close();
            }
        }
    }
    /// close(2).
    pub fn close(&self, fd: i32) -> Result<()> {
        let fd = usize::try_from(fd).map_err(|_| EBADF)?;
        let old = self.slots.with_mut(|s| s.get_mut(fd).and_then(Option::take));
        if old.is_none() {
            return Err(EBADF);
        }
        self.hint.set(self.hint.get().min(fd));
        self.closed(old);
        Ok(())
    }
    /// Closes everything of a table that is about to end; others get on meanwhile.
    pub fn close_all(&self) {
        let mut breath = Breath::begin();
        while let Some(slot) = self.slots.with_mut(Vec::pop) {
            let is_socket = slot.as_ref().is_some_and(|s| s.file.inode().kind() == S_IFSOCK);
            drop(slot);
            if is_socket {
                crate::net::garbage::after_one_of_many();
            }
            breath.take();
        }
    }
    /// Closes what is marked close-on-exec.
    pub fn close_on_exec(&self) {
        let mut breath = Breath::begin();
        for fd in self.fds() {
            if self.cloexec(fd) == Ok(true) {
                let _ = self.close(fd);
            }
            breath.take();
        }
    }
    /// How many locks on ranges the table and its open files have.
    pub fn lock_count(&self) -> usize {
        let of_files: usize = self.slots.with(|s| s.iter().flatten().map(|e| locks::count(e.file.id)).sum());
        locks::count(self.id) + of_files
    }
    /// The close-on-exec mark.
    pub fn cloexec(&self, fd: i32) -> Result<bool> {
        let fd = usize::try_from(fd).map_err(|_| EBADF)?;
        self.slots.with(|s| s.get(fd).and_then(|e| e.as_ref()).map(|e| e.cloexec)).ok_or(EBADF)
    }
    /// Sets the close-on-exec mark.
    pub fn set_cloexec(&self, fd: i32, on: bool) -> Result<()> {
        let fd = usize::try_from(fd).map_err(|_| EBADF)?;
        self.slots.with_mut(|s| match s.get_mut(fd) {
            Some(Some(e)) => {
                e.cloexec = on;
                Ok(())
            }
            _ => Err(EBADF),
        })
    }
    /// Number of open descriptors.
    pub fn open_count(&self) -> usize {
        self.slots.with(|s| s.iter().flatten().count())
    }
    /// All open descriptors. Each is looked up when it is its turn: there may be too many for one list.
    pub fn fds(&self) -> impl Iterator<Item = i32> {
        let mut from = 0;
        core::iter::from_fn(move || {
            let found = self.slots.with(|s| (from..s.len()).find(|i| s[*i].is_some()))?;
            from = found + 1;
            Some(found as i32)
        })
    }
}

/// Root, working directory and umask.
pub struct FsContext {
    root: BklCell<Arc<Dentry>>,
    cwd: BklCell<Arc<Dentry>>,
    umask: BklCell<u32>,
}
impl FsContext {
    /// A context.
    pub fn new(root: Arc<Dentry>, cwd: Arc<Dentry>, umask: u32) -> Arc<Self> {
        Arc::new(Self { root: BklCell::new(root), cwd: BklCell::new(cwd), umask: BklCell::new(umask) })
    }
    /// A copy for fork.
    pub fn dup(&self) -> Arc<Self> {
        Self::new(self.root(), self.cwd(), self.umask.get())
    }
    /// Root directory.
    pub fn root(&self) -> Arc<Dentry> {
        self.root.with(|r| r.clone())
    }
    /// Working directory.
    pub fn cwd(&self) -> Arc<Dentry> {
        self.cwd.with(|r| r.clone())
    }
    /// umask.
    pub fn umask(&self) -> u32 {
        self.umask.get()
    }
    /// Sets the root directory.
    pub fn set_root(&self, d: Arc<Dentry>) {
        drop(self.root.replace(d));
    }
    /// Sets the working directory.
    pub fn set_cwd(&self, d: Arc<Dentry>) {
        drop(self.cwd.replace(d));
    }
    /// Sets the umask; returns the old one.
    pub fn set_umask(&self, m: u32) -> u32 {
        self.umask.replace(m & 0o777)
    }
}
