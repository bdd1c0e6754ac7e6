//! inotify: what happens to files and in directories, as records.
//!
//! Neighbours: `ops` and `file` report here; as long as nobody watches, that costs one look; `dnotify` hears of it, too.
//! Invariants: a watch keeps
//! its inode, so an identity is not used twice while it is watched; a queue holds a bounded number of records, then one
//! that says so; a record equal to the last one in the queue is not added.
use super::dentry::Dentry;
use super::file::{File, Notify, OpenFile, Tells};
use super::inode::InodeRef;
use super::prelude::*;
use super::uio::{Dst, partial};
use crate::signal::owner::Band;
use occlum_rt::mem::TryGrow;

/// The events of inotify(7).
pub mod event {
    #![allow(missing_docs)]
    pub const ACCESS: u32 = 1;
    pub const MODIFY: u32 = 2;
    pub const ATTRIB: u32 = 4;
    pub const CLOSE_WRITE: u32 = 8;
    pub const CLOSE_NOWRITE: u32 = 0x10;
    pub const OPEN: u32 = 0x20;
    pub const MOVED_FROM: u32 = 0x40;
    pub const MOVED_TO: u32 = 0x80;
    pub const CREATE: u32 = 0x100;
    pub const DELETE: u32 = 0x200;
    pub const DELETE_SELF: u32 = 0x400;
    pub const MOVE_SELF: u32 = 0x800;
    pub const ALL: u32 = 0xfff;
    pub const OVERFLOW: u32 = 0x4000;
    pub const IGNORED: u32 = 0x8000;
    /// For `dnotify` alone: a name changed within its directory.
    pub const RENAMED: u32 = 1 << 16;
    pub const EXCL_UNLINK: u32 = 1 << 26;
    pub const MASK_CREATE: u32 = 1 << 28;
    pub const MASK_ADD: u32 = 1 << 29;
    pub const ISDIR: u32 = 1 << 30;
    pub const ONESHOT: u32 = 1 << 31;
}
use event::*;

/// /proc/sys/fs/inotify: most records of a queue, instances, watches.
pub const QUEUE_MAX: usize = 16384;
/// Most instances.
pub const INSTANCES_MAX: usize = 128;
/// Most watches of an instance.
pub const WATCHES_MAX: usize = 65536;
/// Bytes of `struct inotify_event` without a name.
const HEAD: usize = 16;
/// About what a watch takes of the heap.
const COST: u64 = 256;

type Key = (u64, u64);
/// Who hears of what happens to an inode.
pub trait Hears: Send + Sync {
    /// An event for one of its watches. `unlinked`: of a file that has lost its name.
    fn hear(&self, wd: i32, mask: u32, cookie: u32, name: &[u8], unlinked: bool);
    /// The inode has ended, and the watch with it.
    fn inode_ended(&self, wd: i32);
}

/// Who watches an inode: instances and descriptors of the watches.
type Watchers = Vec<(Weak<dyn Hears>, i32)>;
static WATCHERS: BklCell<BTreeMap<Key, Watchers>> = BklCell::new(BTreeMap::new());
static INSTANCES: BklCell<usize> = BklCell::new(0);
static COOKIE: BklCell<u32> = BklCell::new(0);

fn key(inode: &InodeRef) -> Key {
    (inode.fs().dev, inode.object_id())
}
fn is_watched() -> bool {
    WATCHERS.with(|w| !w.is_empty())
}

struct Watch {
    mask: u32,
    inode: InodeRef,
}
#[derive(PartialEq, Eq)]
struct Record {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}
impl Record {
    fn len(&self) -> usize {
        let name = if self.name.is_empty() { 0 } else { self.name.len() + 1 };
        HEAD + name.next_multiple_of(HEAD)
    }
    fn to_bytes(&self) -> Vec<u8> {
        let mut b = vec![0; self.len()];
        let words = [self.wd as u32, self.mask, self.cookie, (self.len() - HEAD) as u32];
        for (i, w) in words.iter().enumerate() {
            b[4 * i..4 * i + 4].copy_from_slice(&w.to_le_bytes());
        }
        b[HEAD..HEAD + self.name.len()].copy_from_slice(&self.name);
        b
    }
}

/// An instance.
pub struct Inotify {
    me: Weak<Inotify>,
    watches: BklCell<BTreeMap<i32, Watch>>,
    queue: BklCell<VecDeque<Record>>,
    last_wd: BklCell<i32>,
    changed: Notify,
}

impl Inotify {
    /// An instance without watches.
    pub fn new() -> Result<Arc<Self>> {
        if INSTANCES.get() >= INSTANCES_MAX {
            return Err(EMFILE);
        }
        INSTANCES.with_mut(|n| *n += 1);
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            watches: BklCell::new(BTreeMap::new()),
            queue: BklCell::new(VecDeque::new()),
            last_wd: BklCell::new(0),
            changed: Notify::new(),
        }))
    }
    /// inotify_add_watch(2), after the path was found.
    pub fn add(&self, inode: &InodeRef, mask: u32) -> Result<i32> {
        let key = key(inode);
        let found =
            self.watches.with(|w| w.iter().find(|(_, w)| self::key(&w.inode) == key).map(|(n, _)| *n));
        let keep = mask & (ALL | EXCL_UNLINK | ONESHOT);
        if let Some(wd) = found {
            if mask & MASK_CREATE != 0 {
                return Err(EEXIST);
            }
            self.watches.with_mut(|w| {
                if let Some(w) = w.get_mut(&wd) {
                    w.mask = if mask & MASK_ADD != 0 { w.mask | keep } else { keep };
                }
            });
            return Ok(wd);
        }
        if self.watches.with(BTreeMap::len) >= WATCHES_MAX {
            return Err(ENOSPC);
        }
        crate::mm::admit(COST)?;
        let wd = self.last_wd.with_mut(|n| {
            *n = n.checked_add(1).unwrap_or(1);
            *n
        });
        self.watches.with_mut(|w| w.insert(wd, Watch { mask: keep, inode: inode.clone() }));
        watch(inode, self.me.clone(), wd);
        Ok(wd)
    }
    /// inotify_rm_watch(2).
    pub fn remove(&self, wd: i32) -> Result<()> {
        let watch = self.watches.with_mut(|w| w.remove(&wd)).ok_or(EINVAL)?;
        self.forget(&watch, wd);
        self.push(Record { wd, mask: IGNORED, cookie: 0, name: Vec::new() });
        Ok(())
    }
    fn forget(&self, watch: &Watch, wd: i32) {
        unwatch(&watch.inode, core::ptr::from_ref(self).cast(), wd);
    }
    fn push(&self, record: Record) {
        let is_new = self.queue.with_mut(|q| {
            if q.back() == Some(&record) {
                return false;
            }
            let full = q.len() >= QUEUE_MAX || q.try_room(1).is_err();
            if !full {
                q.push_back(record);
            } else if let Some(last) = q.back_mut() {
                *last = Record { wd: -1, mask: OVERFLOW, cookie: 0, name: Vec::new() };
            }
            true
        });
        if is_new {
            self.changed.notify();
            self.changed.tell(Band::In);
        }
    }
}
impl Hears for Inotify {
    fn hear(&self, wd: i32, mask: u32, cookie: u32, name: &[u8], unlinked: bool) {
        let Some(wanted) = self.watches.with(|w| w.get(&wd).map(|w| w.mask)) else { return };
        if wanted & mask & ALL == 0 || unlinked && wanted & EXCL_UNLINK != 0 {
            return;
        }
        self.push(Record { wd, mask, cookie, name: name.to_vec() });
        if wanted & ONESHOT != 0 {
            // It is there: nobody else removes it meanwhile.
            let _ = self.remove(wd);
        }
    }
    fn inode_ended(&self, wd: i32) {
        // Its own removal says IN_IGNORED.
        let _ = self.remove(wd);
    }
}
impl Drop for Inotify {
    fn drop(&mut self) {
        INSTANCES.with_mut(|n| *n -= 1);
        for (wd, watch) in self.watches.take() {
            self.forget(&watch, wd);
        }
    }
}
impl File for Inotify {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        let mut total = 0;
        loop {
            let fits = self.queue.with(|q| q.front().map(|r| r.len() <= dst.remaining()));
            match fits {
                None if total == 0 => return Err(EAGAIN),
                Some(false) if total == 0 => return Err(EINVAL),
                Some(true) => {}
                _ => return Ok(total),
            }
            let Some(record) = self.queue.with_mut(VecDeque::pop_front) else { return Ok(total) };
            match dst.push(&record.to_bytes()) {
                Ok(n) => total += n,
                Err(e) => return partial(total, e),
            }
        }
    }
    fn poll(&self, _want: u32) -> u32 {
        if self.queue.with(VecDeque::is_empty) { 0 } else { POLL_IN }
    }
    fn tells(&self) -> Tells {
        Tells::Owner
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.changed.queue());
    }
    fn ioctl(&self, request: u32, arg: u64) -> Result<usize> {
        if request != FIONREAD {
            return Err(ENOTTY);
        }
        let bytes: usize = self.queue.with(|q| q.iter().map(Record::len).sum());
        crate::uaccess::write_val(arg, bytes as u32)?;
        Ok(0)
    }
}

/// From now on `who` hears of the inode's events. It keeps the inode meanwhile, and says `unwatch` before it goes.
pub fn watch(inode: &InodeRef, who: Weak<dyn Hears>, wd: i32) {
    WATCHERS.with_mut(|w| w.entry(key(inode)).or_default().push((who, wd)));
}
/// Ends that.
pub fn unwatch(inode: &InodeRef, who: *const (), wd: i32) {
    let key = key(inode);
    WATCHERS.with_mut(|w| {
        let Some(list) = w.get_mut(&key) else { return };
        list.retain(|(i, n)| *n != wd || !core::ptr::eq(i.as_ptr().cast(), who));
        if list.is_empty() {
            w.remove(&key);
        }
    });
}
fn tell(inode: &InodeRef, mask: u32, cookie: u32, name: &[u8], unlinked: bool) {
    let list: Vec<_> = WATCHERS.with(|w| w.get(&key(inode)).cloned()).unwrap_or_default();
    for (instance, wd) in list {
        if let Some(i) = instance.upgrade() {
            i.hear(wd, mask, cookie, name, unlinked);
        }
    }
}
fn with_kind(inode: &InodeRef, mask: u32) -> u32 {
    if inode.is_dir() { mask | ISDIR } else { mask }
}

/// Something happened to what `d` names: its directory hears of it, then its own watchers.
pub fn about(d: &Arc<Dentry>, mask: u32) {
    if !is_watched() {
        return;
    }
    let mask = with_kind(d.inode(), mask);
    let parent = d.parent();
    if !Arc::ptr_eq(&parent, d) && !d.is_mount() {
        tell(parent.inode(), mask, 0, &d.name(), d.is_deleted());
    }
    tell(d.inode(), mask, 0, b"", false);
}
/// Something happened to the object alone: its links changed, it moved.
pub fn itself(d: &Arc<Dentry>, mask: u32) {
    if is_watched() {
        tell(d.inode(), mask, 0, b"", false);
    }
}
/// A name came to a directory, or went.
pub fn entry(dir: &Arc<Dentry>, name: &[u8], object: &InodeRef, mask: u32) {
    if is_watched() {
        tell(dir.inode(), with_kind(object, mask), 0, name, false);
    }
}
/// A name moved. `replaced` is what had the new name.
pub fn moved(
    from: (&Arc<Dentry>, &[u8]),
    to: (&Arc<Dentry>, &[u8]),
    d: &Arc<Dentry>,
    replaced: Option<&Arc<Dentry>>,
) {
    if !is_watched() {
        return;
    }
    let cookie = COOKIE.with_mut(|c| {
        *c = c.wrapping_add(1).max(1);
        *c
    });
    tell(from.0.inode(), with_kind(d.inode(), MOVED_FROM), cookie, from.1, false);
    tell(to.0.inode(), with_kind(d.inode(), MOVED_TO), cookie, to.1, false);
    if key(from.0.inode()) == key(to.0.inode()) {
        tell(from.0.inode(), RENAMED, 0, from.1, false);
    }
    if let Some(r) = replaced {
        itself(r, ATTRIB);
    }
    itself(d, MOVE_SELF);
}
/// The last name of `d` is gone. `others`: references to `d` that the caller and its callers hold. Without more of them
/// nobody has it open: it ends.
pub fn unlinked(d: &Arc<Dentry>, others: usize) {
    if is_watched() && Arc::strong_count(d) <= others && d.inode().stat().is_ok_and(|s| s.nlink == 0) {
        ended(d.inode());
    }
}
fn ended(inode: &InodeRef) {
    tell(inode, DELETE_SELF, 0, b"", false);
    let list: Vec<_> = WATCHERS.with(|w| w.get(&key(inode)).cloned()).unwrap_or_default();
    for (instance, wd) in list {
        if let Some(i) = instance.upgrade() {
            i.inode_ended(wd);
        }
    }
}
/// An open file is closed for the last time.
pub fn closed(f: &OpenFile) {
    if !is_watched() || f.is_path() {
        return;
    }
    about(f.dentry(), if f.can_write() { CLOSE_WRITE } else { CLOSE_NOWRITE });
    unlinked(f.dentry(), 1);
}
