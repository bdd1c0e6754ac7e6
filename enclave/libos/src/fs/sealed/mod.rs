//! Sealed stores in the tree: encrypted ones, read-write, and integrity-only images, read-only.
//!
//! Neighbours: `device` (a host file as blocks), `counter` (which state is the newest), `inode` (the VFS's view),
//! `common/sealed-fs` (does the work), `mount`.
//! Invariants: the file system works under a lock of its own, in system calls that read, write back and sync without the
//! BKL; it knows nothing of the LibOS, and nothing of user memory is touched meanwhile. It is built for AVX, so programs'
//! vector state is saved before it works (`save_vectors`, and every OCALL). What is dirty becomes durable at
//! fsync and sync, when there is too much of it, and at the end of the enclave.
mod counter;
mod device;
mod inode;

use super::inode::{FsInfo, InodeRef, next_dev};
use super::prelude::*;
pub use counter::Slot;
use counter::{Before, Counter, InsecureFile};
use device::HostStore;
use inode::SealedInode;
use occlum_rt::lock::Lock;
use occlum_rt::ocall::save_vectors;
use occlum_sealed_fs::disk::{Disk, Error as DiskError, Freshness, Key, Options, Random, Seal};
use occlum_sealed_fs::{Error, Fs, FsOptions, ROOT};

/// `statfs` magic of sealed file systems: "OCLM".
const MAGIC: u64 = 0x4f43_4c4d;
/// What an operation may allocate without being asked again: nodes, buffers of read-ahead and write-back.
const WORK: u64 = 3 << 20;

/// How a store is mounted.
#[derive(Clone, Default)]
pub struct Spec<'a> {
    /// Host path of the store.
    pub source: &'a [u8],
    /// Key of an encrypted store; `None`: an image, whose integrity is all that is protected.
    pub key: Option<&'a [u8; 32]>,
    /// Keys of older software, the newest first: a store that one of them opens gets `key` from then on.
    pub older: Option<&'a OlderKeys<'a>>,
    /// The only root that is accepted (and kept: no writes).
    pub root: Option<Seal>,
    /// No writes. Images never have any.
    pub read_only: bool,
    /// What its newest state is held against; `None`: any state is accepted.
    pub counter: Option<Slot>,
    /// The same by a file of the host, which proves nothing.
    pub insecure_counter: Option<&'a [u8]>,
}

impl Spec<'_> {
    fn is_read_only(&self) -> bool {
        self.read_only || self.key.is_none() || self.root.is_some()
    }
}

/// The key that is so many steps older than the newest, if there is one.
pub type OlderKeys<'a> = dyn Fn(u16) -> Option<[u8; 32]> + 'a;

/// A mounted store.
struct Store {
    info: Arc<FsInfo>,
    /// Host path, for messages.
    source: Vec<u8>,
    /// `None`: closed.
    fs: Lock<Option<alloc::boxed::Box<Fs<HostStore>>>>,
    /// Wakes when the file system is at rest again.
    at_rest: WaitQueue,
    live: BklCell<BTreeMap<u64, Weak<SealedInode>>>,
    /// Inodes that were given up and not yet let go of.
    released: BklCell<Vec<u64>>,
    /// Damage was reported.
    reported: BklCell<bool>,
}

static STORES: BklCell<Vec<Weak<Store>>> = BklCell::new(Vec::new());

struct Rdrand;
impl Random for Rdrand {
    fn fill(&mut self, bytes: &mut [u8]) {
        occlum_rt::random::fill(bytes);
    }
}

/// Bounds on memory, from that of the enclave: an eighth for pages, a quarter of that dirty; an eighth for bitmaps of either
/// kind, if there is that much.
fn bounds() -> FsOptions {
    let total = crate::mm::total() as usize;
    let pages = (total / 8).clamp(256, 1 << 20);
    let eighth = crate::mm::total() * crate::mm::PAGE / 8;
    let bitmaps = (0..16).map(|n| eighth >> n).find(|bytes| crate::mm::admit(2 * bytes).is_ok());
    FsOptions {
        pages,
        dirty_pages: (pages / 4).min(1 << 15),
        nodes: (total / 64).clamp(128, 1 << 15),
        bitmaps: bitmaps.unwrap_or(0),
    }
}

/// Mounts a store; gives its root directory, or what is wrong with it.
pub fn open(spec: &Spec<'_>) -> core::result::Result<InodeRef, String> {
    let read_only = spec.is_read_only();
    let text = |e: &dyn core::fmt::Display| alloc::format!("{e}");
    let disk = match open_disk(spec, spec.key)? {
        Err(DiskError::WrongKey) => take_over(spec)?,
        disk => disk,
    };
    let disk = disk.map_err(|e| text(&e))?;
    let fs = Fs::mount(disk, bounds(), read_only).map_err(|e| text(&e))?;
    let info = Arc::new(FsInfo {
        name: "sealedfs",
        magic: MAGIC,
        dev: next_dev(),
        read_only,
        cached: true,
        reported: false,
        host: None,
    });
    let store = Arc::new(Store {
        info,
        source: spec.source.to_vec(),
        fs: Lock::new(Some(alloc::boxed::Box::new(fs))),
        at_rest: WaitQueue::new(),
        live: BklCell::new(BTreeMap::new()),
        released: BklCell::new(Vec::new()),
        reported: BklCell::new(false),
    });
    STORES.with_mut(|s| s.push(Arc::downgrade(&store)));
    let root = store.inode(ROOT).map_err(|e| text(&e))?;
    Ok(root)
}

/// What is wrong with a store is for the caller to look at; that the host does not show one is not.
type Opened = core::result::Result<core::result::Result<Disk<HostStore>, DiskError>, String>;

fn open_disk(spec: &Spec<'_>, key: Option<&[u8; 32]>) -> Opened {
    let read_only = spec.is_read_only();
    let device = HostStore::open(spec.source, read_only).map_err(|e| match e {
        EBUSY => String::from("another enclave or tool has the store open"),
        ENOENT => String::from("no such store"),
        e => alloc::format!("the host cannot open it: {e}"),
    })?;
    let bounds = bounds();
    let options = Options {
        read_only,
        expected_root: spec.root,
        cache_nodes: bounds.nodes,
        bitmap: bounds.bitmaps,
        max_pending: bounds.nodes * 16,
        ..Options::default()
    };
    Ok(Disk::open(device, key.map_or(Key::None, Key::Root), &mut Rdrand, freshness(spec), options))
}

/// Opens a store that older software has written, and wraps its data key by today's, which older software has not.
fn take_over(spec: &Spec<'_>) -> Opened {
    for steps in 0..=u16::MAX {
        let Some(key) = spec.older.and_then(|older| older(steps)) else { break };
        match (open_disk(spec, Some(&key))?, spec.key) {
            (Err(DiskError::WrongKey), _) => {}
            (Ok(mut disk), Some(newest)) if !spec.is_read_only() => {
                return Ok(disk.rotate(newest, &mut Rdrand).map(|()| disk));
            }
            (disk, _) => return Ok(disk),
        }
    }
    Ok(Err(DiskError::WrongKey))
}

fn freshness(spec: &Spec<'_>) -> Option<alloc::boxed::Box<dyn Freshness + Send>> {
    match (&spec.counter, spec.insecure_counter) {
        (Some(slot), _) => Some(alloc::boxed::Box::new(Counter::new(slot.clone()))),
        (None, Some(file)) => Some(alloc::boxed::Box::new(InsecureFile(file.to_vec()))),
        (None, None) => None,
    }
}

/// The same; a store that the host has not, or has only zeros of, is made first, `bytes` long. One that was counted must be
/// there; one whose making did not end (so nobody used it) is made once more.
pub fn open_or_make(spec: &Spec<'_>, bytes: u64) -> core::result::Result<InodeRef, String> {
    let failed = |e: &dyn core::fmt::Display| alloc::format!("cannot make the store: {e}");
    let (Some(key), false) = (spec.key, spec.read_only) else { return open(spec) };
    let mut counter = spec.counter.clone().map(Counter::new);
    let before = counter.as_mut().map(Counter::before).transpose().map_err(|e| alloc::format!("{e}"))?;
    let anew = before == Some(Before::Reserved);
    if let Some(device) = HostStore::make(spec.source, bytes, anew).map_err(|e| failed(&e))? {
        if before == Some(Before::Counted) {
            return Err(counter::missing());
        }
        if let (Some(counter), Some(Before::Absent)) = (&mut counter, before) {
            counter.reserve().map_err(|e| failed(&e))?;
        }
        let mut seed = [0; 8];
        Rdrand.fill(&mut seed);
        // It is counted when it is opened: until then it has nothing that could be lost.
        let disk = Disk::format(device, Key::Root(key), &mut Rdrand, None, Options::default())
            .map_err(|e| failed(&e))?;
        let now = crate::time::realtime_ns() as i64;
        let fs = Fs::format(disk, u64::from_le_bytes(seed), bounds(), now).map_err(|e| failed(&e))?;
        fs.unmount().map_err(|e| failed(&e))?;
    }
    open(spec)
}

fn stores() -> Vec<Arc<Store>> {
    STORES.with(|s| s.iter().filter_map(Weak::upgrade).collect())
}
/// sync(2): everything becomes durable. Errors are logged; the next fsync reports them.
pub fn sync_all() {
    for store in stores() {
        let _ = store.commit();
    }
}
/// Drops what can be read again.
pub fn reclaim() {
    for store in stores() {
        if let Some(mut fs) = store.fs.try_lock()
            && let Some(fs) = &mut *fs
        {
            save_vectors();
            fs.drop_clean();
        }
    }
}
/// The end of the enclave: everything becomes durable, and the next start finds a clean store.
pub fn close_all() {
    for store in stores() {
        let Some(fs) = store.fs.lock().take() else { continue };
        save_vectors();
        if !store.info.read_only
            && let Err(e) = fs.unmount()
        {
            store.report(&alloc::format!("what was not synced is lost: {e}"));
        }
    }
}

impl Store {
    /// Lets the file system work. Not while user memory is touched: a fault there may need it, too.
    fn with<T>(&self, f: impl FnOnce(&mut Fs<HostStore>) -> Done<T>) -> Result<T> {
        crate::mm::admit(WORK)?;
        let released = self.released.take();
        let done = work(&mut self.fs.lock(), released, f);
        done.ok_or(EIO)?.map_err(|e| self.errno(e))
    }
    /// The same for what may take its time, in a system call: others have the LibOS meanwhile, so `f` uses nothing of it.
    fn with_time<T>(&self, f: impl FnOnce(&mut Fs<HostStore>) -> Done<T>) -> Result<T> {
        if !crate::sched::may_wait() {
            return self.with(f);
        }
        // Other tasks run meanwhile, whose reads are none of a caller's that looks for what is cold.
        super::cold::block(|| {
            self.at_rest.wait_uninterruptible(|| (!self.fs.is_busy()).then_some(()));
            crate::mm::admit(WORK)?;
            let fs = self.at_rest.wait_uninterruptible(|| self.fs.try_lock());
            let released = self.released.take();
            let done = fs.unlocked(|fs| work(fs, released, f));
            self.at_rest.wake_all();
            done.ok_or(EIO)?.map_err(|e| self.errno(e))
        })
    }
    /// Writes back before a writer of this file must.
    fn ease(&self, ino: u64) {
        save_vectors();
        if self.fs.try_lock().is_some_and(|mut fs| fs.as_mut().is_some_and(|fs| fs.is_heavy(ino))) {
            // What could not be written stays dirty; whoever syncs hears of it.
            let _ = self.with_time(Fs::lighten);
        }
    }

    fn errno(&self, e: Error) -> Errno {
        match e {
            Error::NotFound => ENOENT,
            Error::Exists => EEXIST,
            Error::NotDirectory => ENOTDIR,
            Error::IsDirectory => EISDIR,
            Error::NotEmpty => ENOTEMPTY,
            Error::Invalid => EINVAL,
            Error::NameTooLong => ENAMETOOLONG,
            Error::NoSpace | Error::Disk(DiskError::Device(occlum_sealed_fs::disk::DeviceError::NoSpace)) => {
                ENOSPC
            }
            Error::TooLarge => EFBIG,
            Error::TooManyLinks => Errno::EMLINK,
            Error::NoAttribute => ENODATA,
            Error::NotPermitted => EPERM,
            Error::Disk(DiskError::Memory) => ENOMEM,
            Error::Corrupt(_) | Error::Disk(_) | Error::Broken => {
                self.report(&alloc::format!("{e}"));
                EIO
            }
        }
    }
    /// Once for each store: a message for each damaged read would flood the log.
    fn report(&self, what: &str) {
        if !self.reported.replace(true) {
            let name = String::from_utf8_lossy(&self.source).into_owned();
            occlum_rt::log(&alloc::format!("occlum: {name}: {what}\n"));
        }
    }

    fn commit(&self) -> Result<()> {
        if self.info.read_only { Ok(()) } else { self.with_time(Fs::commit) }
    }

    /// The one inode in memory for an inode of the store.
    fn inode(self: &Arc<Self>, ino: u64) -> Result<Arc<SealedInode>> {
        if let Some(i) = self.live.with(|l| l.get(&ino).and_then(Weak::upgrade)) {
            return Ok(i);
        }
        let mode = self.with(|fs| {
            let attr = fs.attr(ino)?;
            fs.hold(ino);
            Ok(attr.mode)
        })?;
        Ok(self.adopt(ino, mode))
    }
    /// The same for an inode that is held already.
    fn adopt(self: &Arc<Self>, ino: u64, mode: u32) -> Arc<SealedInode> {
        let i = Arc::new(SealedInode::new(self.clone(), ino, mode));
        self.live.with_mut(|l| l.insert(ino, Arc::downgrade(&i)));
        i
    }
    /// An inode is not used any more.
    fn release(&self, ino: u64) {
        self.live.with_mut(|l| {
            if l.get(&ino).is_some_and(|w| w.strong_count() == 0) {
                l.remove(&ino);
            }
        });
        self.released.with_mut(|r| r.push(ino));
        // Only what a removed file had is worth work now; the file system does the rest on its next turn.
        if let Some(mut fs) = self.fs.try_lock() {
            work(&mut fs, self.released.take(), |_| Ok(()));
        }
    }
}

/// What the file system says.
type Done<T> = core::result::Result<T, Error>;

/// Lets go of inodes, then works. `None`: the store is closed.
fn work<T>(
    fs: &mut Option<alloc::boxed::Box<Fs<HostStore>>>,
    released: Vec<u64>,
    f: impl FnOnce(&mut Fs<HostStore>) -> Done<T>,
) -> Option<Done<T>> {
    let fs = fs.as_mut()?;
    save_vectors();
    for ino in released {
        // An inode that cannot be removed now is an orphan, removed at the next mount.
        let _ = fs.release(ino);
    }
    Some(f(fs))
}
