//! Pipes and FIFOs: a byte ring of 64 KiB with two ends.
//!
//! User memory is copied once, straight to or from the ring: nothing that a user-memory fault does comes back
//! to a pipe. Writes of at most PIPE_BUF bytes are atomic. Queues are woken only when someone waits on them.
use super::env;
use super::file::{File, Notify, OpenFile, Tells};
use super::memfs::MemInode;
use super::prelude::*;
use super::uio::{Dst, Src, partial};
use crate::process::caps;
use crate::process::users::PerUser;
use crate::signal::owner::Band;

const PIPE_BUF: usize = 4096;
const DEFAULT_SIZE: usize = 65536;
/// Size of the pipes of a user who has many.
const LEAST_SIZE: usize = 2 * PIPE_BUF;
/// Largest size that F_SETPIPE_SZ grants to anyone.
pub const MAX_SIZE: usize = 1 << 20;
/// Pages that pipes of a user without privileges may have before new ones get little, and none grows.
pub const USER_PAGES: u64 = 16384;
/// Pages of pipes.
static PAGES: PerUser = PerUser::new();

/// A ring of bytes that grows with what is in it. It is borrowed while user memory is copied: a user-memory fault never
/// comes back to a ring.
pub struct Ring {
    buf: Vec<u8>,
    head: usize,
    len: usize,
    limit: usize,
}
impl Ring {
    /// An empty one that takes up to `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self { buf: Vec::new(), head: 0, len: 0, limit }
    }
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Nothing in it?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Room left.
    pub fn free(&self) -> usize {
        self.limit - self.len
    }
    /// Makes sure that a write of `n` bytes (which fits the limit) fits the buffer.
    fn reserve(&mut self, n: usize) -> Result<()> {
        let need = self.len + n;
        if need <= self.buf.len() {
            return Ok(());
        }
        let size = need.next_power_of_two().clamp(PIPE_BUF, self.limit);
        let mut new = super::uio::try_vec(size)?;
        let (a, b) = self.filled();
        new[..a.len()].copy_from_slice(a);
        new[a.len()..a.len() + b.len()].copy_from_slice(b);
        self.buf = new;
        self.head = 0;
        Ok(())
    }
    /// The content, in two pieces.
    pub fn filled(&self) -> (&[u8], &[u8]) {
        let first = self.len.min(self.buf.len() - self.head);
        (&self.buf[self.head..self.head + first], &self.buf[..self.len - first])
    }
    /// The last byte.
    pub fn last(&self) -> Option<u8> {
        let (a, b) = self.filled();
        b.last().or(a.last()).copied()
    }
    /// Takes bytes out.
    pub fn pop(&mut self, dst: &mut Dst) -> Result<usize> {
        let mut total = 0;
        while self.len > 0 && dst.remaining() > 0 {
            let n = match dst.push(self.filled().0) {
                Ok(n) => n,
                Err(e) => return partial(total, e),
            };
            self.head = if self.head + n == self.buf.len() { 0 } else { self.head + n };
            self.len -= n;
            total += n;
            if n == 0 {
                break;
            }
        }
        if self.len == 0 {
            self.head = 0;
        }
        Ok(total)
    }
    /// Drops up to `max` bytes; how many.
    pub fn skip(&mut self, max: usize) -> usize {
        let n = self.len.min(max);
        self.len -= n;
        self.head = if self.len == 0 { 0 } else { (self.head + n) % self.buf.len() };
        n
    }
    /// Puts up to `max` bytes in, which must have room.
    pub fn push(&mut self, src: &mut Src, max: usize) -> Result<usize> {
        self.reserve(max)?;
        let mut total = 0;
        while total < max {
            let size = self.buf.len();
            let tail = (self.head + self.len) % size;
            let room = (size - tail).min(size - self.len).min(max - total);
            let n = match src.pull(&mut self.buf[tail..tail + room]) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) => return partial(total, e),
            };
            self.len += n;
            total += n;
        }
        Ok(total)
    }
}

/// The shared part of a pipe.
pub struct Pipe {
    ring: BklCell<Ring>,
    readers: BklCell<u32>,
    writers: BklCell<u32>,
    /// Room that splices took for what they are about to read.
    promised: BklCell<usize>,
    /// A splice hands on bytes from the head: nobody else takes any meanwhile.
    moving: BklCell<bool>,
    /// How often an end was opened, for the FIFO's open to wait on.
    opened: BklCell<(u64, u64)>,
    can_read: Notify,
    can_write: Notify,
    /// Whose pages it counts to.
    user: u32,
}
impl Drop for Pipe {
    fn drop(&mut self) {
        PAGES.sub(self.user, pages(self.size()));
    }
}
fn pages(size: usize) -> u64 {
    (size / PIPE_BUF) as u64
}
/// Would `more` pages be more than the user may have?
fn are_too_many(user: u32, more: u64) -> bool {
    let privileged = || env::capable(caps::SYS_RESOURCE) || env::capable(caps::SYS_ADMIN);
    PAGES.of(user) + more > USER_PAGES && !privileged()
}
impl Pipe {
    /// An empty one. ENOMEM.
    pub fn new() -> Result<Arc<Self>> {
        let user = env::real_uid();
        let size = if are_too_many(user, pages(DEFAULT_SIZE)) { LEAST_SIZE } else { DEFAULT_SIZE };
        if !PAGES.add(user, pages(size)) {
            return Err(ENOMEM);
        }
        Ok(Arc::new(Self {
            user,
            ring: BklCell::new(Ring::new(size)),
            readers: BklCell::new(0),
            writers: BklCell::new(0),
            promised: BklCell::new(0),
            moving: BklCell::new(false),
            opened: BklCell::new((0, 0)),
            can_read: Notify::new(),
            can_write: Notify::new(),
        }))
    }
    fn end(self: &Arc<Self>, read: bool, write: bool) -> Arc<PipeEnd> {
        self.readers.with_mut(|n| *n += u32::from(read));
        self.writers.with_mut(|n| *n += u32::from(write));
        self.opened.with_mut(|o| {
            o.0 += u64::from(read);
            o.1 += u64::from(write);
        });
        if read {
            self.can_write.notify();
        }
        if write {
            self.can_read.notify();
        }
        Arc::new(PipeEnd { pipe: self.clone(), read, write })
    }
    /// Bytes in it.
    fn available(&self) -> usize {
        self.ring.with(|r| r.len)
    }
    /// Bytes that can be read now.
    pub fn readable(&self) -> usize {
        if self.moving.get() { 0 } else { self.available() }
    }
    /// Size of the ring.
    pub fn size(&self) -> usize {
        self.ring.with(|r| r.limit)
    }
    /// F_SETPIPE_SZ.
    pub fn resize(&self, want: usize) -> Result<usize> {
        const MOST: usize = 1 << 31;
        let size = want.max(PIPE_BUF).checked_next_power_of_two().filter(|n| *n <= MOST).ok_or(EINVAL)?;
        let grows = size > self.size();
        if grows && size > MAX_SIZE && !env::capable(caps::SYS_RESOURCE) {
            return Err(EPERM);
        }
        let more = pages(size).saturating_sub(pages(self.size()));
        if grows && are_too_many(self.user, more) {
            return Err(EPERM);
        }
        crate::mm::admit(size as u64)?;
        self.ring.with_mut(|r| {
            if r.len + self.promised.get() > size {
                return Err(EBUSY);
            }
            let mut new = super::uio::try_vec(size)?;
            let (a, b) = r.filled();
            new[..a.len()].copy_from_slice(a);
            new[a.len()..a.len() + b.len()].copy_from_slice(b);
            let old = core::mem::replace(&mut r.limit, size);
            (r.buf, r.head) = (new, 0);
            // He is listed: he has this pipe.
            PAGES.sub(self.user, pages(old));
            PAGES.add(self.user, pages(size));
            Ok(())
        })?;
        self.can_write.notify();
        Ok(size)
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        if self.readable() == 0 {
            return if self.has_ended() { Ok(0) } else { Err(EAGAIN) };
        }
        let (n, was_full) = self.ring.with_mut(|r| {
            let was_full = r.free() < PIPE_BUF;
            r.pop(dst).map(|n| (n, was_full))
        })?;
        // Otherwise nobody waits for room, and it was writable already.
        if n > 0 && was_full {
            self.can_write.notify();
        }
        self.can_write.tell(Band::Out);
        Ok(n)
    }
    fn try_write(&self, src: &mut Src) -> Result<usize> {
        if src.remaining() == 0 {
            return Ok(0);
        }
        if self.readers.get() == 0 {
            return Err(EPIPE);
        }
        let want = src.remaining();
        let free = self.room();
        if free == 0 || (want <= PIPE_BUF && free < want) {
            return Err(EAGAIN);
        }
        let n = self.ring.with_mut(|r| r.push(src, want.min(free)))?;
        if n > 0 {
            self.can_read.notify();
            self.can_read.tell(Band::In);
        }
        Ok(n)
    }
}

/// What splice, tee and vmsplice need.
impl Pipe {
    /// Waits until there is something to read: false at the end of the data. EAGAIN rather than waiting, if asked.
    pub fn wait_for_data(&self, no_wait: bool) -> Result<bool> {
        let look = || match self.readable() {
            0 if self.has_ended() => Some(false),
            0 => None,
            _ => Some(true),
        };
        match look() {
            None if no_wait => Err(EAGAIN),
            None => self.can_read.queue().wait_until(None, look),
            Some(r) => Ok(r),
        }
    }
    /// Waits until something can be written. EPIPE without readers; EAGAIN rather than waiting, if asked.
    pub fn wait_for_room(&self, no_wait: bool) -> Result<()> {
        let look = || match (self.room(), self.readers.get()) {
            (_, 0) => Some(Err(EPIPE)),
            (0, _) => None,
            _ => Some(Ok(())),
        };
        match look() {
            None if no_wait => Err(EAGAIN),
            None => self.can_write.queue().wait_until(None, look)?,
            Some(r) => r,
        }
    }
    /// Nothing is in it, and nothing will come.
    fn has_ended(&self) -> bool {
        self.available() == 0 && self.writers.get() == 0
    }
    /// Bytes that can be written now.
    pub fn room(&self) -> usize {
        self.ring.with(Ring::free).saturating_sub(self.promised.get())
    }
    /// Keeps up to `most` bytes of room from others, until what fills it is read. ENOMEM.
    pub fn promise(&self, most: usize) -> Result<Room<'_>> {
        let size = self.room().min(most);
        let all = self.promised.get() + size;
        self.ring.with_mut(|r| r.reserve(all))?;
        self.promised.set(all);
        Ok(Room { pipe: self, size })
    }
    /// Keeps others from reading, until what `peek` gives went on.
    pub fn hand_on(&self) -> Head<'_> {
        self.moving.set(true);
        Head(self)
    }
    /// A copy of up to `max` bytes from the head on, which stay.
    pub fn peek(&self, max: usize) -> Result<Vec<u8>> {
        let mut out = super::uio::try_vec(self.available().min(max))?;
        self.ring.with(|r| {
            let (a, b) = r.filled();
            let n = a.len().min(out.len());
            out[..n].copy_from_slice(&a[..n]);
            let rest = out.len() - n;
            out[n..].copy_from_slice(&b[..rest]);
        });
        Ok(out)
    }
    /// Takes bytes out that `peek` gave.
    pub fn consume(&self, n: usize) {
        self.ring.with_mut(|r| r.skip(n));
        self.can_write.notify();
        self.can_write.tell(Band::Out);
    }
    /// Puts bytes in, which must have room.
    pub fn put(&self, data: &[u8]) -> Result<usize> {
        let n = self.ring.with_mut(|r| r.push(&mut Src::kernel(data), data.len()))?;
        self.can_read.notify();
        self.can_read.tell(Band::In);
        Ok(n)
    }
}

/// Room in a pipe that is kept from others.
pub struct Room<'a> {
    pipe: &'a Pipe,
    /// Bytes of it.
    pub size: usize,
}
impl Room<'_> {
    /// Fills it, with at most its size; the rest is free again.
    pub fn put(mut self, data: &[u8]) -> Result<usize> {
        self.free();
        self.pipe.put(data)
    }
    fn free(&mut self) {
        self.pipe.promised.with_mut(|p| *p -= core::mem::take(&mut self.size));
    }
}
impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.free();
        self.pipe.can_write.notify();
    }
}

/// The head of a pipe, kept from other readers.
pub struct Head<'a>(&'a Pipe);
impl Drop for Head<'_> {
    fn drop(&mut self) {
        self.0.moving.set(false);
        self.0.can_read.notify();
    }
}

impl super::anon::Reopen for Pipe {
    fn reopen(self: Arc<Self>, flags: u32) -> Result<Arc<dyn File>> {
        let mode = flags & O_ACCMODE;
        Ok(self.end(mode != O_WRONLY, mode != O_RDONLY))
    }
}

/// One end (or both, for a FIFO opened read-write).
pub struct PipeEnd {
    /// The pipe.
    pub pipe: Arc<Pipe>,
    read: bool,
    write: bool,
}
impl Drop for PipeEnd {
    fn drop(&mut self) {
        let p = &self.pipe;
        if self.read {
            p.readers.with_mut(|n| *n -= 1);
            p.can_write.notify();
        }
        if self.write {
            p.writers.with_mut(|n| *n -= 1);
            p.can_read.notify();
        }
        // As in Linux: either side hears that the other has ended.
        if (p.readers.get() == 0) != (p.writers.get() == 0) {
            p.can_read.tell(Band::In);
            p.can_write.tell(Band::Out);
        }
    }
}
impl File for PipeEnd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        self.pipe.try_read(dst)
    }
    fn try_write(&self, src: &mut Src) -> Result<usize> {
        self.pipe.try_write(src)
    }
    fn poll(&self, _want: u32) -> u32 {
        let p = &self.pipe;
        let mut e = 0;
        if self.read {
            if p.readable() > 0 {
                e |= POLL_IN;
            }
            if p.writers.get() == 0 && p.opened.get().1 > 0 {
                e |= POLLHUP;
            }
        }
        if self.write {
            if p.room() >= PIPE_BUF || p.room() == p.size() {
                e |= POLL_OUT;
            }
            if p.readers.get() == 0 {
                e |= POLLERR;
            }
        }
        e
    }
    fn tells(&self) -> Tells {
        Tells::Owner
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        if self.read {
            out.push(self.pipe.can_read.queue());
        }
        if self.write {
            out.push(self.pipe.can_write.queue());
        }
    }
    fn ioctl(&self, request: u32, arg: u64) -> Result<usize> {
        if request != FIONREAD {
            return Err(ENOTTY);
        }
        crate::uaccess::write_val(arg, self.pipe.available() as u32)?;
        Ok(0)
    }
}

/// pipe(2): the read end, the write end.
pub fn new_pair(flags: u32) -> Result<(Arc<OpenFile>, Arc<OpenFile>)> {
    let pipe = Pipe::new()?;
    let inode = super::anon::AnonInode::new(S_IFIFO);
    let object: Arc<dyn super::anon::Reopen> = pipe.clone();
    inode.set_object(&object);
    let name = alloc::format!("pipe:[{}]", inode.ino());
    let d = super::dentry::Dentry::anonymous(inode, name.as_bytes());
    let flags = flags & (O_NONBLOCK | O_DIRECT);
    let r = OpenFile::new(d.clone(), Some(pipe.end(true, false)), O_RDONLY | flags);
    let w = OpenFile::new(d, Some(pipe.end(false, true)), O_WRONLY | flags);
    Ok((r, w))
}

/// Opens a FIFO: waits for the other end, unless non-blocking or read-write.
pub fn open_fifo(node: &MemInode, flags: u32) -> Result<Arc<dyn File>> {
    let pipe = match node.attached().and_then(|a| a.downcast::<Pipe>().ok()) {
        Some(p) => p,
        None => {
            let p = Pipe::new()?;
            let any: Arc<dyn Any + Send + Sync> = p.clone();
            node.attach(&any);
            p
        }
    };
    let mode = flags & O_ACCMODE;
    let nonblock = flags & O_NONBLOCK != 0;
    match mode {
        O_RDWR => Ok(pipe.end(true, true)),
        O_WRONLY => {
            if nonblock && pipe.readers.get() == 0 {
                return Err(ENXIO);
            }
            let seen = pipe.opened.get().0;
            let end = pipe.end(false, true);
            let met = || (pipe.readers.get() > 0 || pipe.opened.get().0 != seen).then_some(());
            pipe.can_write.queue().wait_until(None, met)?;
            Ok(end)
        }
        _ => {
            let seen = pipe.opened.get().1;
            let end = pipe.end(true, false);
            if !nonblock {
                let met = || (pipe.writers.get() > 0 || pipe.opened.get().1 != seen).then_some(());
                pipe.can_read.queue().wait_until(None, met)?;
            }
            Ok(end)
        }
    }
}
