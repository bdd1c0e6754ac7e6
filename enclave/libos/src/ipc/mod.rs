//! System V IPC (shared memory, semaphores, message queues) and POSIX message queues.
//!
//! Neighbours: `mm` maps segments, `process::exit` tells of ends (SEM_UNDO), `fs::proc` prints /proc/sysvipc.
//! Invariants: an id names one object for ever (the index is used again with another sequence number); whoever waits
//! holds the object and finds `removed` set when it goes; what programs can make grow is bounded, counted for its user
//! (`Kept`: it ends with no process), and asked of `mm::admit` first; nothing makes a list of all objects, for there may be
//! very many.
pub mod kept;
pub mod mq;
pub mod msg;
pub mod sem;
pub mod shm;

use crate::errno::{Errno, Result};
use crate::process::caps;
use crate::process::{Cred, current_process};
use crate::sched::WaitQueue;
use crate::uaccess::{read_bytes, write_bytes};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kept::Kept;
use occlum_rt::bkl::BklCell;
use occlum_rt::mem::TryGrow;

const IPC_PRIVATE: i32 = 0;
const IPC_CREAT: u32 = 0o1000;
const IPC_EXCL: u32 = 0o2000;
/// No waiting.
pub const IPC_NOWAIT: u32 = 0o4000;
const IPC_RMID: u32 = 0;
const IPC_SET: u32 = 1;
const IPC_STAT: u32 = 2;
const IPC_INFO: u32 = 3;
/// Bit of an older structure layout, which 64-bit programs may set.
const IPC_64: u32 = 0x100;
const SEQUENCE: u32 = 1 << 15;
const READ: u32 = 4;
const WRITE: u32 = 2;

/// A process ended: its SEM_UNDO operations and notifications.
pub fn process_ended(pid: i32) {
    sem::process_ended(pid);
    mq::process_ended(pid);
}

/// Seconds since the epoch.
fn now() -> u64 {
    crate::time::realtime_ns() / 1_000_000_000
}

/// Owner, creator and permission bits.
#[derive(Clone, Copy)]
pub struct Perm {
    key: i32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    mode: u32,
}

impl Perm {
    fn new(key: i32, mode: u32) -> Self {
        let c = crate::process::cred();
        Self { key, uid: c.euid, gid: c.egid, cuid: c.euid, cgid: c.egid, mode: mode & 0o777 }
    }
    fn is_owner(&self, c: &Cred) -> bool {
        c.capable(caps::SYS_ADMIN) || c.euid == self.uid || c.euid == self.cuid
    }
    /// May the caller do what the bits (4 read, 2 write) say?
    fn check(&self, want: u32) -> Result<()> {
        let c = crate::process::cred();
        let in_group = |g: u32| c.egid == g || c.groups.contains(g);
        let granted = if c.euid == self.uid || c.euid == self.cuid {
            self.mode >> 6
        } else if in_group(self.gid) || in_group(self.cgid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if c.capable(caps::IPC_OWNER) || granted & want == want { Ok(()) } else { Err(Errno::EACCES) }
    }
    /// The same for the three groups of bits that `..get` is given.
    fn check_mode(&self, flags: u32) -> Result<()> {
        self.check((flags >> 6 | flags >> 3 | flags) & 7)
    }
}

/// An object with an id.
pub struct Object<T> {
    id: i32,
    perm: BklCell<Perm>,
    removed: BklCell<bool>,
    changed: WaitQueue,
    _kept: Kept,
    body: T,
}

impl<T> Object<T> {
    fn index(&self) -> i32 {
        self.id % SEQUENCE as i32
    }
    /// `struct ipc64_perm`, at the front of `out`.
    fn put_perm(&self, out: &mut [u8], extra_mode: u32) {
        let p = self.perm.get();
        let seq = self.id as u32 / SEQUENCE;
        let words = [p.key as u32, p.uid, p.gid, p.cuid, p.cgid, p.mode | extra_mode, seq];
        for (i, w) in words.iter().enumerate() {
            out[4 * i..4 * i + 4].copy_from_slice(&w.to_le_bytes());
        }
    }
    /// IPC_SET's part that all kinds share: owner and mode from a structure at `at`.
    fn set_perm(&self, at: u64) -> Result<()> {
        let mut b = [0; 24];
        read_bytes(at, &mut b)?;
        let word = |i: usize| u32::from_le_bytes(core::array::from_fn(|k| b[4 * i + k]));
        self.check_owner()?;
        self.perm.with_mut(|p| {
            (p.uid, p.gid) = (word(1), word(2));
            p.mode = word(5) & 0o777;
        });
        Ok(())
    }
    fn check_owner(&self) -> Result<()> {
        let c = crate::process::cred();
        if self.perm.with(|p| p.is_owner(&c)) { Ok(()) } else { Err(Errno::EPERM) }
    }
}

/// All objects of a kind.
pub struct Ids<T> {
    slots: Vec<Option<Arc<Object<T>>>>,
    sequence: u32,
}

/// What `..get` needs to know of a kind.
struct Get<'a, T> {
    key: i32,
    flags: u32,
    /// Most objects of the kind.
    max: usize,
    /// What a new one takes of the heap.
    cost: u64,
    /// Is the existing one what is asked for?
    fits: &'a dyn Fn(&T) -> Result<()>,
    make: &'a dyn Fn() -> Result<T>,
}

impl<T> Ids<T> {
    const fn new() -> Self {
        Self { slots: Vec::new(), sequence: 0 }
    }
    fn count(&self) -> usize {
        self.slots.iter().flatten().count()
    }
    fn by_id(&self, id: i32) -> Result<Arc<Object<T>>> {
        let index = usize::try_from(id).map_err(|_| Errno::EINVAL)? % SEQUENCE as usize;
        let found = self.slots.get(index).and_then(Option::as_ref).ok_or(Errno::EINVAL)?;
        // The index was used again: the id is of one that is gone.
        if found.id == id { Ok(found.clone()) } else { Err(Errno::EINVAL) }
    }
    fn by_index(&self, index: i32) -> Result<Arc<Object<T>>> {
        let index = usize::try_from(index).map_err(|_| Errno::EINVAL)?;
        self.slots.get(index).and_then(Option::clone).ok_or(Errno::EINVAL)
    }
    fn highest(&self) -> usize {
        self.slots.iter().rposition(Option::is_some).unwrap_or(0)
    }
    fn insert(&mut self, g: &Get<'_, T>, body: T, kept: Kept) -> Result<i32> {
        let index = match self.slots.iter().position(Option::is_none) {
            Some(i) => i,
            None if self.slots.len() < g.max => {
                self.slots.try_room(1).map_err(|_| Errno::ENOMEM)?;
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return Err(Errno::ENOSPC),
        };
        let id = (self.sequence * SEQUENCE) as i32 + index as i32;
        self.sequence = (self.sequence + 1) % (i32::MAX as u32 / SEQUENCE);
        self.slots[index] = Some(Arc::new(Object {
            id,
            perm: BklCell::new(Perm::new(g.key, g.flags)),
            removed: BklCell::new(false),
            changed: WaitQueue::new(),
            _kept: kept,
            body,
        }));
        Ok(id)
    }
    fn remove(&mut self, o: &Object<T>) -> Option<Arc<Object<T>>> {
        self.slots.get_mut(o.index() as usize).and_then(Option::take)
    }
}

/// shmget, semget, msgget.
fn get<T>(ids: &BklCell<Ids<T>>, g: &Get<'_, T>) -> Result<usize> {
    let found = if g.key == IPC_PRIVATE {
        None
    } else {
        ids.with(|i| i.slots.iter().flatten().find(|o| o.perm.with(|p| p.key) == g.key).cloned())
    };
    if let Some(o) = found {
        if g.flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL {
            return Err(Errno::EEXIST);
        }
        o.perm.with(|p| p.check_mode(g.flags))?;
        (g.fits)(&o.body)?;
        return Ok(o.id as usize);
    }
    if g.key != IPC_PRIVATE && g.flags & IPC_CREAT == 0 {
        return Err(Errno::ENOENT);
    }
    let kept = Kept::take(g.cost).ok_or(Errno::ENOSPC)?;
    crate::mm::admit(g.cost)?;
    let body = (g.make)()?;
    ids.with_mut(|i| i.insert(g, body, kept)).map(|id| id as usize)
}

/// All objects of a kind. Each is looked up when it is its turn.
fn all<T>(ids: &BklCell<Ids<T>>) -> impl Iterator<Item = Arc<Object<T>>> {
    let mut next = 0;
    core::iter::from_fn(move || {
        ids.with(|i| {
            let (n, o) = i.slots.iter().enumerate().skip(next).find_map(|(n, o)| Some((n, o.as_ref()?)))?;
            next = n + 1;
            Some(o.clone())
        })
    })
}

/// Longest row of /proc/sysvipc.
const ROW: usize = 256;
/// How many rows its files have at most.
pub fn rows() -> usize {
    msg::count().max(sem::count()).max(shm::count())
}
/// A text with a heading that has room for so many rows. `fs::proc` has asked whether there is.
fn table(heading: &str, rows: usize) -> String {
    let mut out = String::with_capacity(heading.len() + rows * ROW);
    out.push_str(heading);
    out
}

/// Takes the object out of its table and wakes who waits for it.
fn take_out<T>(ids: &BklCell<Ids<T>>, o: &Object<T>) {
    let gone = ids.with_mut(|i| i.remove(o));
    o.removed.set(true);
    o.changed.wake_all();
    drop(gone);
}

/// Little-endian words at their offsets in a structure.
fn put(out: &mut [u8], words: &[(usize, u64)]) {
    for (at, w) in words {
        out[*at..*at + 8].copy_from_slice(&w.to_le_bytes());
    }
}
fn write_ints(at: u64, ints: &[i32]) -> Result<()> {
    let bytes: Vec<u8> = ints.iter().flat_map(|i| i.to_le_bytes()).collect();
    write_bytes(at, &bytes)
}
