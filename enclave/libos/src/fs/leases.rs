//! Leases (F_SETLEASE): who has one is told before another process opens the file otherwise, and gets time to be ready.
//!
//! Neighbours: `file` counts who has which file open, `ops` breaks leases where it opens and truncates, `signal::owner`
//! sends. Invariants: an open file has one lease at most, which goes with it; a lease that is being broken ends at its
//! deadline, whatever its holder does.
use super::env;
use super::file::OpenFile;
use super::inode::InodeRef;
use super::prelude::*;
use crate::process::caps;
use crate::signal::owner::{Band, Kind, Owner};
use crate::time::monotonic_ns;

/// Seconds that a holder gets (/proc/sys/fs/lease-break-time); 0 is for ever.
static BREAK_SECONDS: BklCell<u32> = BklCell::new(45);
/// About what a lease takes of the heap.
const COST: u64 = 256;

const F_RDLCK: u32 = 0;
const F_WRLCK: u32 = 1;
const F_UNLCK: u32 = 2;

/// A lease.
struct Lease {
    holder: Weak<OpenFile>,
    /// The open file's identity, and the descriptor by which it asked last.
    id: u64,
    fd: i32,
    write: bool,
    /// When it becomes a read lease, and when it ends (CLOCK_MONOTONIC ns), because another process wants to open the file.
    downgrade: Option<u64>,
    end: Option<u64>,
}

impl Lease {
    /// Is it in the way of who opens the file to write, or to read?
    fn conflicts(&self, write: bool) -> bool {
        self.write || write
    }
    /// What it is, or has to become.
    fn kind(&self) -> u32 {
        match (self.end, self.downgrade) {
            (Some(_), _) => F_UNLCK,
            (_, Some(_)) => F_RDLCK,
            _ if self.write => F_WRLCK,
            _ => F_RDLCK,
        }
    }
    /// Another one wants to open the file. True: the holder has to hear of it.
    fn break_for(&mut self, write: bool, until: u64) -> bool {
        let news = self.end.is_none() && (write || self.downgrade.is_none());
        if news {
            *(if write { &mut self.end } else { &mut self.downgrade }) = Some(until);
        }
        news
    }
}

/// By identity of the file.
static LEASES: BklCell<BTreeMap<u64, Vec<Lease>>> = BklCell::new(BTreeMap::new());
/// Who waits for one to end.
static QUEUE: WaitQueue = WaitQueue::new();
/// How many have a file open, to read only and to write.
static OPENED: BklCell<BTreeMap<u64, [u32; 2]>> = BklCell::new(BTreeMap::new());

/// Somebody has a file open, or is about to.
pub struct Opened {
    file: u64,
    write: bool,
}

impl Opened {
    /// From now on.
    pub fn new(file: u64, write: bool) -> Opened {
        OPENED.with_mut(|o| o.entry(file).or_default()[usize::from(write)] += 1);
        Opened { file, write }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        OPENED.with_mut(|o| {
            let Some(counts) = o.get_mut(&self.file) else { return };
            counts[usize::from(self.write)] -= 1;
            if *counts == [0, 0] {
                o.remove(&self.file);
            }
        });
    }
}

/// Ends and downgrades what is due; leases that changed are gone from the way.
fn expire(file: u64) {
    let now = monotonic_ns();
    let due = |at: Option<u64>| at.is_some_and(|at| at <= now);
    change(file, |leases| {
        leases.retain(|l| {
            let ends = due(l.end);
            if ends {
                ended(l);
            }
            !ends
        });
        leases.iter_mut().filter(|l| due(l.downgrade)).for_each(|l| (l.write, l.downgrade) = (false, None));
    });
}

/// A lease ends: nobody is told of this file any more.
fn ended(lease: &Lease) {
    if let Some(f) = lease.holder.upgrade() {
        f.owner.set(Owner::default());
    }
}

fn change<R>(file: u64, what: impl FnOnce(&mut Vec<Lease>) -> R) -> Option<R> {
    LEASES.with_mut(|all| {
        let leases = all.get_mut(&file)?;
        let r = what(leases);
        if leases.is_empty() {
            all.remove(&file);
        }
        Some(r)
    })
}

/// F_GETLEASE.
pub fn get(f: &OpenFile) -> u32 {
    let file = f.inode().object_id();
    expire(file);
    let own = |leases: &mut Vec<Lease>| leases.iter().find(|l| l.id == f.id).map(Lease::kind);
    change(file, own).flatten().unwrap_or(F_UNLCK)
}

/// F_SETLEASE, by descriptor `fd`.
pub fn set(f: &Arc<OpenFile>, fd: i32, kind: u32) -> Result<()> {
    if kind > F_UNLCK {
        return Err(EINVAL);
    }
    let stat = f.inode().stat()?;
    let cred = env::cred();
    if cred.uid != stat.uid && !cred.can(caps::LEASE) {
        return Err(EACCES);
    }
    if !f.inode().is_regular() {
        return Err(EINVAL);
    }
    let file = f.inode().object_id();
    expire(file);
    if kind == F_UNLCK {
        return if release(f) { Ok(()) } else { Err(EAGAIN) };
    }
    admit_lease(f, file, kind == F_WRLCK)?;
    crate::mm::admit(COST)?;
    let write = kind == F_WRLCK;
    LEASES.with_mut(|all| {
        let leases = all.entry(file).or_default();
        match leases.iter_mut().find(|l| l.id == f.id) {
            Some(own) => {
                (own.write, own.fd) = (write, fd);
                own.downgrade = own.downgrade.filter(|_| write);
            }
            None => leases.push(Lease {
                holder: Arc::downgrade(f),
                id: f.id,
                fd,
                write,
                downgrade: None,
                end: None,
            }),
        }
    });
    f.owner.with_mut(|o| o.set_first(Kind::Process, env::peer().0));
    QUEUE.wake_all();
    Ok(())
}

/// May there be this lease beside who has the file open, and beside the other leases? EAGAIN.
fn admit_lease(f: &OpenFile, file: u64, write: bool) -> Result<()> {
    let opened = OPENED.with(|o| o.get(&file).copied().unwrap_or_default());
    let own = if f.can_write() { [0, 1] } else { [1, 0] };
    let open_otherwise = if write { opened != own } else { opened[1] > 0 };
    let others = change(file, |leases| leases.iter().any(|l| l.id != f.id && (write || l.end.is_some())));
    if open_otherwise || others == Some(true) { Err(EAGAIN) } else { Ok(()) }
}

/// The open file's lease ends. False: it has none.
fn release(f: &OpenFile) -> bool {
    let found = change(f.inode().object_id(), |leases| {
        let at = leases.iter().position(|l| l.id == f.id)?;
        Some(leases.swap_remove(at))
    });
    let Some(lease) = found.flatten() else { return false };
    ended(&lease);
    QUEUE.wake_all();
    true
}

/// An open file is gone.
pub fn closed(f: &OpenFile) {
    if !LEASES.with(BTreeMap::is_empty) {
        release(f);
    }
}

/// Somebody is about to open a file, or to cut it: leases in the way are broken, and their end is waited for. EAGAIN if he
/// does not wait.
pub fn break_all(inode: &InodeRef, write: bool, waits: bool) -> Result<()> {
    if LEASES.with(BTreeMap::is_empty) || !inode.is_regular() {
        return Ok(());
    }
    let file = inode.object_id();
    // He counts, so that no holder gets another lease meanwhile.
    let _opened = Opened::new(file, write);
    let in_the_way = || {
        expire(file);
        change(file, |leases| leases.iter().filter(|l| l.conflicts(write)).map(due).min()).flatten()
    };
    let Some(mut until) = in_the_way() else { return Ok(()) };
    tell_holders(file, write);
    if !waits {
        return Err(EAGAIN);
    }
    loop {
        match QUEUE.wait_until(Some(until), || in_the_way().is_none().then_some(())) {
            Err(ETIMEDOUT) => {}
            done => return done,
        }
        match in_the_way() {
            Some(later) => until = later,
            None => return Ok(()),
        }
    }
}

/// /proc/sys/fs/lease-break-time.
pub fn break_seconds() -> u32 {
    BREAK_SECONDS.get()
}
/// Changes it, for leases that are broken from now on.
pub fn set_break_seconds(seconds: u32) {
    BREAK_SECONDS.set(seconds);
}
/// When a holder that is told now loses his lease.
fn deadline() -> u64 {
    match BREAK_SECONDS.get() {
        0 => u64::MAX,
        seconds => monotonic_ns().saturating_add(u64::from(seconds) * 1_000_000_000),
    }
}

/// When the lease is to be looked at again.
fn due(l: &Lease) -> u64 {
    l.end.or(l.downgrade).unwrap_or_else(deadline)
}

fn tell_holders(file: u64, write: bool) {
    let until = deadline();
    let told = change(file, |leases| {
        let broken = leases.iter_mut().filter(|l| l.conflicts(write));
        broken.filter_map(|l| l.break_for(write, until).then(|| (l.holder.clone(), l.fd))).collect::<Vec<_>>()
    });
    for (holder, fd) in told.unwrap_or_default() {
        if let Some(f) = holder.upgrade() {
            f.owner.with(Clone::clone).tell(fd, Band::Message);
        }
    }
}
