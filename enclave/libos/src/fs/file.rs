//! Open files: the open file description that descriptors share, and the trait of files that are not plain
//! content.
//!
//! Blocking lives here once: a special file offers `try_read`/`try_write` that fail with `EAGAIN`, queues to
//! wait on, and `poll`. Neighbours: `table` holds open files, `syscall` calls them, `poll` and `epoll` watch
//! them.
use super::changes;
use super::dentry::Dentry;
use super::env;
use super::inode::{DirEntry, InodeRef, Stat, next_id};
use super::inotify::{self, event};
use super::leases::Opened;
use super::prelude::*;
use super::sigio::{Teller, UrgentTeller};
use super::uio::{Dst, Place, Src, partial};
use crate::sched::{self, Breath};
use crate::signal::owner::{Band, Owner};
use alloc::collections::BTreeSet;
use occlum_rt::mem::TryGrow;

/// A file with operations of its own (pipe, terminal, socket, event counter, ...).
pub trait File: Send + Sync + 'static {
    /// For downcasts.
    fn as_any(&self) -> &dyn Any;
    /// The socket, if it is one.
    fn as_socket(&self) -> Option<&dyn crate::net::Socket> {
        None
    }
    /// The process closed a descriptor of it, maybe not the last one.
    fn descriptor_closed(&self) {}
    /// The inode number that other lists have of it (/proc/net).
    fn inode_number(&self) -> Option<u64> {
        None
    }
    /// Reads what is there; `EAGAIN` if the caller would have to wait.
    fn try_read(&self, _dst: &mut Dst) -> Result<usize> {
        Err(EINVAL)
    }
    /// The same for a non-blocking reader, where that may get less.
    fn try_read_now(&self, dst: &mut Dst) -> Result<usize> {
        self.try_read(dst)
    }
    /// ns after which a blocking read gives up with nothing (a terminal's VTIME).
    fn read_timeout(&self) -> Option<u64> {
        None
    }
    /// Writes what fits; `EAGAIN` if nothing does.
    fn try_write(&self, _src: &mut Src) -> Result<usize> {
        Err(EINVAL)
    }
    /// Must a blocking write go on until everything is written?
    fn is_stream(&self) -> bool {
        true
    }
    /// Events now (`POLL*`); `want` are those the caller is interested in.
    fn poll(&self, _want: u32) -> u32 {
        POLL_IN | POLL_OUT
    }
    /// Queues that are woken whenever `poll` may say more than before, by time as well.
    fn queues(&self, _out: &mut Vec<Arc<WaitQueue>>) {}
    /// Somebody watches edges: its queues are to be woken by everything new, read or not. Only files need this that hear of
    /// what is new by asking.
    fn watch_edges(&self) {}
    /// Does it tell its owner of what happens (O_ASYNC), by its queues' `tell`?
    fn tells(&self) -> Tells {
        Tells::Nobody
    }
    /// When a read that waits is to look again by itself (CLOCK_MONOTONIC ns).
    fn deadline(&self) -> Option<u64> {
        None
    }
    /// Device control.
    fn ioctl(&self, _request: u32, _arg: u64) -> Result<usize> {
        Err(ENOTTY)
    }
    /// Moves the position; `ESPIPE` if there is none.
    fn seek(&self, _whence: u32, _off: i64) -> Result<u64> {
        Err(ESPIPE)
    }
    /// Reads at an offset.
    fn pread(&self, _off: u64, _dst: &mut Dst) -> Result<usize> {
        Err(ESPIPE)
    }
    /// Writes at an offset.
    fn pwrite(&self, _off: u64, _src: &mut Src) -> Result<usize> {
        Err(ESPIPE)
    }
    /// Metadata, where the inode's is not the truth.
    fn stat(&self) -> Option<Result<Stat>> {
        None
    }
    /// Further lines of /proc/PID/fdinfo.
    fn info(&self) -> String {
        String::new()
    }
    /// The open flags changed (F_SETFL).
    fn set_flags(&self, _flags: u32) {}
}

/// Whom a file tells of what happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tells {
    /// Nobody: it has no signals.
    Nobody,
    /// Its owner (F_SETOWN).
    Owner,
    /// The same; as long as none was named, the terminal's foreground group, or the caller if that is 0.
    Group(i32),
}

/// An open file description.
pub struct OpenFile {
    dentry: Arc<Dentry>,
    special: Option<Arc<dyn File>>,
    flags: BklCell<u32>,
    offset: BklCell<u64>,
    /// Somebody reads or writes at the position, and may wait for the host.
    moving: BklCell<bool>,
    entries: BklCell<Option<Arc<Vec<DirEntry>>>>,
    noted: BklCell<bool>,
    /// F_SETOWN, F_SETSIG.
    pub owner: BklCell<Owner>,
    /// Set while the owner hears of what happens.
    pub teller: BklCell<Option<Arc<Teller>>>,
    /// Tells its owner of urgent data.
    pub urgent_teller: BklCell<Option<Arc<UrgentTeller>>>,
    /// Identity, for locks.
    pub id: u64,
    /// That it has a file open, which leases ask about.
    _opened: Option<Opened>,
}

/// Who waits for a file's position.
static POSITIONS: WaitQueue = WaitQueue::new();
/// Content moves in pieces of this size, between which others get on.
const PIECE: usize = 4 << 20;
/// Files with a write that takes several, and who waits to write there: writes are one after the other.
static LONG_WRITES: BklCell<BTreeSet<u64>> = BklCell::new(BTreeSet::new());
static WRITERS: WaitQueue = WaitQueue::new();
static OPEN: BklCell<u64> = BklCell::new(0);
/// Open files of all processes.
pub fn open_count() -> u64 {
    OPEN.get()
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        OPEN.with_mut(|n| *n -= 1);
        inotify::closed(self);
        super::locks::release_owner(self.id);
        super::leases::closed(self);
    }
}

impl OpenFile {
    /// Opens what `dentry` names; creation, permissions and truncation are done.
    pub fn new(dentry: Arc<Dentry>, special: Option<Arc<dyn File>>, flags: u32) -> Arc<Self> {
        OPEN.with_mut(|n| *n += 1);
        let content = special.is_none() && flags & O_PATH == 0 && dentry.inode().is_regular();
        let opened = content.then(|| Opened::new(dentry.inode().object_id(), flags & O_ACCMODE != O_RDONLY));
        Arc::new(Self {
            dentry,
            special,
            flags: BklCell::new(flags & !(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC)),
            offset: BklCell::new(0),
            moving: BklCell::new(false),
            entries: BklCell::new(None),
            noted: BklCell::new(false),
            owner: BklCell::new(Owner::default()),
            teller: BklCell::new(None),
            urgent_teller: BklCell::new(None),
            id: next_id(),
            _opened: opened,
        })
    }
    /// A file without a name in the tree.
    pub fn anonymous(kind: u32, label: &str, special: Arc<dyn File>, flags: u32) -> Arc<Self> {
        let number = special.inode_number().unwrap_or_else(next_id);
        let inode = super::anon::AnonInode::numbered(kind, number);
        let name = if kind == 0 { String::from(label) } else { alloc::format!("{label}:[{}]", inode.ino()) };
        Self::new(Dentry::anonymous(inode, name.as_bytes()), Some(special), flags)
    }
    /// Flags that are none of open(2)'s here.
    pub fn add_flags(&self, flags: u32) {
        self.flags.with_mut(|f| *f |= flags);
    }
    /// The inode.
    pub fn inode(&self) -> &InodeRef {
        self.dentry.inode()
    }
    /// Its name.
    pub fn dentry(&self) -> &Arc<Dentry> {
        &self.dentry
    }
    /// Operations of a special file.
    pub fn special(&self) -> Option<&Arc<dyn File>> {
        self.special.as_ref()
    }
    /// The special file, if it is a `T`.
    pub fn downcast<T: 'static>(&self) -> Option<&T> {
        self.special.as_ref().and_then(|s| s.as_any().downcast_ref())
    }
    /// `O_*` as F_GETFL shows them.
    pub fn flags(&self) -> u32 {
        self.flags.get()
    }
    /// F_SETFL: only the flags that may change.
    pub fn set_flags(&self, flags: u32) {
        const MAY: u32 = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME;
        self.flags.with_mut(|f| *f = (*f & !MAY) | (flags & MAY));
        if let Some(s) = &self.special {
            s.set_flags(self.flags.get());
        }
    }
    /// Opened for reading?
    pub fn can_read(&self) -> bool {
        let f = self.flags.get();
        f & O_PATH == 0 && f & O_ACCMODE != O_WRONLY
    }
    /// Opened for writing?
    pub fn can_write(&self) -> bool {
        let f = self.flags.get();
        f & O_PATH == 0 && f & O_ACCMODE != O_RDONLY
    }
    /// Only a place in the tree?
    pub fn is_path(&self) -> bool {
        self.flags.get() & O_PATH != 0
    }
    /// Does it return EAGAIN rather than wait?
    pub fn nonblocking(&self) -> bool {
        self.flags.get() & O_NONBLOCK != 0
    }
    /// Metadata.
    pub fn stat(&self) -> Result<Stat> {
        match self.special.as_ref().and_then(|s| s.stat()) {
            Some(s) => s,
            None => self.inode().stat(),
        }
    }

    /// Waits until `f` gives something else than `EAGAIN`.
    pub fn wait<T>(&self, mut f: impl FnMut(&dyn File) -> Result<T>) -> Result<T> {
        let Some(special) = self.special.clone() else { return Err(EINVAL) };
        match f(&*special) {
            Err(EAGAIN) if !self.nonblocking() => {}
            r => return r,
        }
        wait_for(&special, None, || f(&*special))
    }

    /// read(2).
    pub fn read(&self, dst: &mut Dst) -> Result<usize> {
        if !self.can_read() {
            return Err(EBADF);
        }
        if let Some(s) = &self.special {
            return self.read_special(s, dst);
        }
        self.at_position(|off| {
            let n = self.read_content(off, dst)?;
            self.offset.set(off + n as u64);
            self.accessed(n);
            Ok(n)
        })
    }
    /// Runs `f` with the position, which is nobody else's meanwhile.
    fn at_position<T>(&self, f: impl FnOnce(u64) -> T) -> T {
        self.await_position();
        self.moving.set(true);
        let r = f(self.offset.get());
        self.moving.set(false);
        POSITIONS.wake_all();
        r
    }
    /// Waits until nobody moves the position.
    fn await_position(&self) {
        if self.moving.get() {
            POSITIONS.wait_uninterruptible(|| (!self.moving.get()).then_some(()));
        }
    }
    fn read_special(&self, special: &Arc<dyn File>, dst: &mut Dst) -> Result<usize> {
        if self.nonblocking() {
            return special.try_read_now(dst);
        }
        match special.try_read(dst) {
            Err(EAGAIN) => {}
            r => return r,
        }
        let deadline = special.read_timeout().map(|ns| crate::time::monotonic_ns().saturating_add(ns));
        match wait_for(special, deadline, || special.try_read(dst)) {
            Err(ETIMEDOUT) if deadline.is_some() => Ok(0),
            r => r,
        }
    }
    /// pread(2).
    pub fn pread(&self, off: u64, dst: &mut Dst) -> Result<usize> {
        if !self.can_read() {
            return Err(EBADF);
        }
        match &self.special {
            Some(s) => s.pread(off, dst),
            None => self.read_content(off, dst).inspect(|n| self.accessed(*n)),
        }
    }
    fn read_content(&self, off: u64, dst: &mut Dst) -> Result<usize> {
        in_pieces(dst, |done, dst| self.read_piece(off + done as u64, dst))
    }
    fn read_piece(&self, off: u64, dst: &mut Dst) -> Result<usize> {
        crate::mm::before_read(self.inode().as_ref(), off..off.saturating_add(dst.remaining() as u64));
        if crate::sched::may_wait() {
            super::cold::patiently(|n| self.inode().read_to(off + n as u64, dst))
        } else {
            self.inode().read_to(off, dst)
        }
    }
    fn accessed(&self, n: usize) {
        if n > 0 {
            inotify::about(&self.dentry, event::ACCESS);
        }
    }
    /// write(2).
    pub fn write(&self, src: &mut Src) -> Result<usize> {
        if !self.can_write() {
            return Err(EBADF);
        }
        if let Some(s) = &self.special {
            let r = self.write_special(s, src);
            if r == Err(EPIPE) {
                env::signal_self(SIGPIPE);
            }
            return r;
        }
        self.write_where(None, self.flags.get() & O_APPEND != 0, src)
    }
    /// Writes content at `at` or the file's own position, or (`append`) behind its end; the position follows unless `at`
    /// is given.
    pub fn write_where(&self, at: Option<u64>, append: bool, src: &mut Src) -> Result<usize> {
        if !self.can_write() {
            return Err(EBADF);
        }
        let end = |at| if append { self.inode().size() } else { at };
        if let Some(at) = at {
            return self.alone(src.remaining(), || self.write_content(end(at), src));
        }
        self.at_position(|position| {
            self.alone(src.remaining(), || {
                let off = end(position);
                let n = self.write_content(off, src)?;
                self.offset.set(off + n as u64);
                Ok(n)
            })
        })
    }
    /// Runs a write of `len` bytes when no long one of the file is going on, and keeps others out if it is one.
    fn alone<T>(&self, len: usize, write: impl FnOnce() -> T) -> T {
        let id = self.inode().object_id();
        let is_free = || LONG_WRITES.with(|l| !l.contains(&id));
        if !is_free() {
            WRITERS.wait_uninterruptible(|| is_free().then_some(()));
        }
        if len <= PIECE {
            return write();
        }
        LONG_WRITES.with_mut(|l| l.insert(id));
        let r = write();
        LONG_WRITES.with_mut(|l| l.remove(&id));
        WRITERS.wake_all();
        r
    }
    /// read(2) of a special file that never waits.
    pub fn read_now(&self, dst: &mut Dst) -> Result<usize> {
        if !self.can_read() {
            return Err(EBADF);
        }
        self.special.as_ref().ok_or(EINVAL)?.try_read_now(dst)
    }
    /// write(2) to a special file that never waits.
    pub fn write_now(&self, src: &mut Src) -> Result<usize> {
        if !self.can_write() {
            return Err(EBADF);
        }
        let r = self.special.as_ref().ok_or(EINVAL)?.try_write(src);
        if r == Err(EPIPE) {
            env::signal_self(SIGPIPE);
        }
        r
    }
    fn write_special(&self, special: &Arc<dyn File>, src: &mut Src) -> Result<usize> {
        let mut total = 0;
        loop {
            let r = if total == 0 {
                self.wait(|s| s.try_write(src))
            } else {
                match special.try_write(src) {
                    Err(EAGAIN) if !self.nonblocking() => wait_for(special, None, || special.try_write(src)),
                    r => r,
                }
            };
            match r {
                Ok(n) => total += n,
                Err(EPIPE) if total > 0 => {
                    env::signal_self(SIGPIPE);
                    return Ok(total);
                }
                Err(e) => return partial(total, e),
            }
            if src.remaining() == 0 || !special.is_stream() || matches!(r, Ok(0)) {
                return Ok(total);
            }
        }
    }
    /// pwrite(2). As in Linux, O_APPEND wins over the offset.
    pub fn pwrite(&self, off: u64, src: &mut Src) -> Result<usize> {
        if !self.can_write() {
            return Err(EBADF);
        }
        match &self.special {
            Some(s) => s.pwrite(off, src),
            None => self.write_where(Some(off), self.flags.get() & O_APPEND != 0, src),
        }
    }
    fn write_content(&self, off: u64, src: &mut Src) -> Result<usize> {
        in_pieces(src, |done, src| self.write_piece(off + done as u64, src))
    }
    fn write_piece(&self, off: u64, src: &mut Src) -> Result<usize> {
        const SIGXFSZ: i32 = 25;
        if src.remaining() == 0 {
            return Ok(0);
        }
        let limit = env::fsize();
        if off >= limit {
            env::signal_self(SIGXFSZ);
            return Err(EFBIG);
        }
        let limit = limit.min(super::seal::write_limit(self.inode().as_ref(), off, src.remaining() as u64)?);
        super::ops::drop_set_ids(self.inode())?;
        self.note_change();
        let n = if src.remaining() as u64 > limit - off {
            let mut buf = super::uio::try_vec((limit - off).min(64 << 10) as usize)?;
            let n = src.pull(&mut buf)?;
            self.inode().write_from(off, &mut Src::kernel(&buf[..n]))?
        } else {
            self.inode().write_from(off, src)?
        };
        crate::mm::after_write(self.inode().as_ref(), off, n as u64);
        if n > 0 {
            inotify::about(&self.dentry, event::MODIFY);
            // O_SYNC contains O_DSYNC.
            if self.flags.get() & O_DSYNC != 0 {
                self.inode().sync()?;
            }
        }
        Ok(n)
    }
    /// Puts the path on the list of changed ones, once.
    pub fn note_change(&self) {
        if !self.noted.replace(true) {
            changes::note(&self.dentry);
        }
    }

    /// lseek(2).
    pub fn seek(&self, whence: u32, off: i64) -> Result<u64> {
        if self.is_path() {
            return Err(EBADF);
        }
        if let Some(s) = &self.special {
            return s.seek(whence, off);
        }
        self.await_position();
        let inode = self.inode();
        let base = match whence {
            SEEK_SET => 0,
            SEEK_CUR => self.offset.get(),
            SEEK_END => inode.size(),
            SEEK_DATA | SEEK_HOLE => return self.seek_data(whence == SEEK_DATA, off),
            _ => return Err(EINVAL),
        };
        let new = (base as i64).checked_add(off).ok_or(EOVERFLOW)?;
        if new < 0 {
            return Err(EINVAL);
        }
        if inode.is_dir() {
            self.entries.set(None);
        }
        self.offset.set(new as u64);
        Ok(new as u64)
    }
    fn seek_data(&self, data: bool, off: i64) -> Result<u64> {
        let size = self.inode().size();
        let off = u64::try_from(off).map_err(|_| ENXIO)?;
        if off >= size {
            return Err(ENXIO);
        }
        let new = self.inode().seek_data(off, data)?.ok_or(ENXIO)?;
        self.offset.set(new);
        Ok(new)
    }
    /// The position.
    pub fn offset(&self) -> u64 {
        self.offset.get()
    }
    /// Sets the position (sendfile and the like).
    pub fn set_offset(&self, off: u64) {
        self.offset.set(off);
    }

    /// The entries of a directory as they were when reading it began, `.` and `..` first.
    pub fn entries(&self) -> Result<Arc<Vec<DirEntry>>> {
        if let Some(e) = self.entries.with(|e| e.clone()) {
            return Ok(e);
        }
        let dot = |d: &Arc<Dentry>, name: &[u8]| DirEntry {
            ino: d.inode().stat().map_or(1, |s| s.ino),
            d_type: 4,
            name: name.to_vec(),
        };
        let listed = self.inode().list()?;
        let mounts = self.dentry.mounts_in();
        let mut all = Vec::new();
        all.try_room_exact(listed.len() + mounts.len() + 2).map_err(|_| ENOMEM)?;
        all.extend([dot(&self.dentry, b"."), dot(&self.dentry.parent(), b"..")]);
        all.extend(listed);
        for m in mounts {
            let name = m.name();
            if !all.iter().any(|e| e.name == name) {
                let d_type = super::inode::d_type(m.inode().kind());
                all.push(DirEntry { ino: m.inode().stat().map_or(1, |s| s.ino), d_type, name });
            }
        }
        let all = Arc::new(all);
        self.entries.set(Some(all.clone()));
        Ok(all)
    }

    /// Events for poll and friends.
    pub fn poll(&self, want: u32) -> u32 {
        match &self.special {
            Some(s) => s.poll(want),
            None => POLL_IN | POLL_OUT,
        }
    }
    /// Queues to wait on for `poll`.
    pub fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        if let Some(s) = &self.special {
            s.queues(out);
        }
    }
}

/// Waits on a special file's queues until `f` gives something else than `EAGAIN`; `ETIMEDOUT` at the
/// deadline.
pub fn wait_for<T>(
    file: &Arc<dyn File>,
    deadline: Option<u64>,
    mut f: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut queues = Vec::new();
    file.queues(&mut queues);
    loop {
        let own = file.deadline();
        let until = match (deadline, own) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let r = sched::wait_any(&queues, until, || match f() {
            Err(EAGAIN) => None,
            r => Some(r),
        });
        if matches!(r, Err(EINTR)) && deadline.is_some() && file.as_socket().is_some() {
            env::never_restart();
        }
        match r {
            Ok(r) => return r,
            // The file's own deadline: its state has changed, look again.
            Err(ETIMEDOUT) if until != deadline => match f() {
                Err(EAGAIN) => {}
                r => return r,
            },
            Err(e) => return Err(e),
        }
    }
}

/// A wait queue that many can have.
#[derive(Default)]
pub struct Notify {
    queue: Arc<WaitQueue>,
}
impl Notify {
    /// A quiet one.
    pub fn new() -> Self {
        Self { queue: Arc::new(WaitQueue::new()) }
    }
    /// Something happened.
    pub fn notify(&self) {
        self.queue.wake_all();
    }
    /// The same where it is known which events (`POLL*`) that can be: who waits for others in a set is left alone.
    pub fn notify_of(&self, events: u32) {
        self.queue.wake(events);
    }
    /// Tells the owners of the open files that this is for (O_ASYNC).
    pub fn tell(&self, what: Band) {
        self.queue.tell(what);
    }
    /// To wait on.
    pub fn queue(&self) -> Arc<WaitQueue> {
        self.queue.clone()
    }
}

/// Moves content piece by piece. `one` gets how much was moved before, and says how much it moved.
fn in_pieces<P: Place>(place: &mut P, mut one: impl FnMut(usize, &mut P) -> Result<usize>) -> Result<usize> {
    let (mut total, mut breath) = (0, Breath::begin());
    loop {
        let ((want, done), more) = place.within(PIECE, |place| (place.remaining(), one(total, place)));
        match done {
            Ok(n) if more && n == want => total += n,
            Ok(n) => return Ok(total + n),
            Err(e) => return partial(total, e),
        }
        breath.take();
    }
}
