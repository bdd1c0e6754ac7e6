//! The host's standard streams as files: non-blocking OCALLs, one queue that is woken when the host says
//! "ready".
use super::anon::{AnonInode, Reopen};
use super::dentry::Dentry;
use super::file::{File, Notify, OpenFile, Tells};
use super::host::{self, HostFd};
use super::inode::Stat;
use super::memfs::stat_of_host;
use super::prelude::*;
use super::tty::Tty;
use super::uio::{Dst, Src, partial, try_vec};
use crate::sched::Breath;
use crate::signal::owner::Band;

/// Bytes moved by one OCALL.
const CHUNK: usize = 128 << 10;

static READY: BklCell<Option<Arc<Notify>>> = BklCell::new(None);
fn ready() -> Arc<Notify> {
    if let Some(n) = READY.with(|r| r.clone()) {
        return n;
    }
    let n = Arc::new(Notify::new());
    READY.set(Some(n.clone()));
    n
}
/// The host reported that some polled descriptor became ready.
pub fn host_ready() {
    ready().notify();
    ready().tell(Band::Any);
}

/// A host stream.
pub struct HostStream {
    host: Arc<HostFd>,
    kind: u32,
    tty: Option<Arc<Tty>>,
    /// A write that takes several pieces is going on.
    writing: BklCell<bool>,
    /// Who waits to write meanwhile.
    turn: WaitQueue,
}
impl HostStream {
    fn new(host: Arc<HostFd>, kind: u32, tty: Option<Arc<Tty>>) -> Arc<Self> {
        Arc::new(Self { host, kind, tty, writing: BklCell::new(false), turn: WaitQueue::new() })
    }
    /// Over a terminal.
    pub fn on_terminal(tty: Arc<Tty>) -> Arc<Self> {
        Self::new(tty.host().clone(), S_IFCHR, Some(tty))
    }
    fn always_ready(&self) -> bool {
        self.kind == S_IFREG || self.kind == S_IFDIR || self.kind == S_IFBLK
    }
    /// Did the host say "would block" although it is ready by now? Registers interest otherwise.
    fn retry(&self, events: u32) -> bool {
        self.always_ready() || host::poll(self.host.number(), events) & (events | POLLERR | POLLHUP) != 0
    }
    fn read_once(&self, buf: &mut [u8]) -> Result<usize> {
        match host::read(self.host.number(), buf) {
            Err(EAGAIN) if self.retry(POLLIN) => host::read(self.host.number(), buf),
            r => r,
        }
    }
    fn write_once(&self, buf: &[u8]) -> Result<usize> {
        match host::write(self.host.number(), buf) {
            Err(EAGAIN) if self.retry(POLLOUT) => host::write(self.host.number(), buf),
            r => r,
        }
    }
}
impl HostStream {
    /// Writes piece by piece, as the host takes it; how much, and why it ended early.
    fn write_all(&self, data: &[u8]) -> (usize, Option<Errno>) {
        let mut done = 0;
        while done < data.len() {
            match self.write_once(&data[done..]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) => return (done, Some(e)),
            }
        }
        (done, None)
    }
    /// Runs a write of `len` bytes. Those to a file are one after the other, also where others get on between their pieces.
    fn alone<T>(&self, len: usize, write: impl FnOnce() -> T) -> T {
        if self.kind != S_IFREG {
            return write();
        }
        if self.writing.get() {
            self.turn.wait_uninterruptible(|| (!self.writing.get()).then_some(()));
        }
        if len <= CHUNK {
            return write();
        }
        self.writing.set(true);
        let r = write();
        self.writing.set(false);
        self.turn.wake_all();
        r
    }
    fn write_pieces(&self, src: &mut Src) -> Result<usize> {
        let mut buf = try_vec(src.remaining().min(CHUNK))?;
        let (mut total, mut breath) = (0, Breath::begin());
        loop {
            let n = match src.pull(&mut buf) {
                Ok(0) => return Ok(total),
                Ok(n) => n,
                Err(e) => return partial(total, e),
            };
            let (done, error) = self.write_all(&buf[..n]);
            src.rewind(n - done);
            total += done;
            match error {
                Some(e) => return partial(total, e),
                None if done < n => return Ok(total),
                None => breath.take(),
            };
        }
    }
    fn pwrite_pieces(&self, off: u64, src: &mut Src) -> Result<usize> {
        let mut buf = try_vec(src.remaining().min(CHUNK))?;
        let (mut total, mut breath) = (0, Breath::begin());
        loop {
            let n = src.pull(&mut buf)?;
            if n == 0 {
                return Ok(total);
            }
            match host::pwrite(self.host.number(), off + total as u64, &buf[..n]) {
                Ok(m) => {
                    src.rewind(n - m);
                    total += m;
                    if m == 0 {
                        return Ok(total);
                    }
                }
                Err(e) => return partial(total, e),
            }
            breath.take();
        }
    }
}
impl Reopen for HostStream {
    fn reopen(self: Arc<Self>, _flags: u32) -> Result<Arc<dyn File>> {
        Ok(self)
    }
}
impl File for HostStream {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        if let Some(t) = &self.tty {
            t.check_read()?;
        }
        let mut buf = try_vec(dst.remaining().min(CHUNK))?;
        let n = self.read_once(&mut buf)?;
        dst.push(&buf[..n])
    }
    fn try_write(&self, src: &mut Src) -> Result<usize> {
        if let Some(t) = &self.tty {
            t.check_write()?;
        }
        self.alone(src.remaining(), || self.write_pieces(src))
    }
    fn poll(&self, want: u32) -> u32 {
        if self.always_ready() {
            return POLL_IN | POLL_OUT;
        }
        let mut e = host::poll(self.host.number(), want & (POLLIN | POLLOUT));
        e &= POLLIN | POLLOUT | POLLERR | POLLHUP | POLLPRI;
        if e & POLLIN != 0 {
            e |= POLLRDNORM;
        }
        if e & POLLOUT != 0 {
            e |= POLLWRNORM;
        }
        e
    }
    fn watch_edges(&self) {
        host::poll_edges(self.host.number());
    }
    fn tells(&self) -> Tells {
        match &self.tty {
            Some(t) => Tells::Group(t.job.foreground()),
            None if self.always_ready() => Tells::Nobody,
            None => Tells::Owner,
        }
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(ready().queue());
    }
    fn ioctl(&self, request: u32, arg: u64) -> Result<usize> {
        if let Some(t) = &self.tty {
            return t.ioctl(request, arg);
        }
        if request == FIONREAD {
            crate::uaccess::write_val(arg, host::waiting(self.host.number())?)?;
            return Ok(0);
        }
        Err(ENOTTY)
    }
    fn seek(&self, whence: u32, off: i64) -> Result<u64> {
        if self.kind != S_IFREG && self.kind != S_IFBLK {
            return Err(ESPIPE);
        }
        if whence > SEEK_HOLE {
            return Err(EINVAL);
        }
        host::seek(self.host.number(), whence, off)
    }
    fn pread(&self, off: u64, dst: &mut Dst) -> Result<usize> {
        if self.kind != S_IFREG {
            return Err(ESPIPE);
        }
        let mut buf = try_vec(dst.remaining().min(CHUNK))?;
        let (mut total, mut breath) = (0, Breath::begin());
        while dst.remaining() > 0 {
            let want = buf.len().min(dst.remaining());
            match host::pread(self.host.number(), off + total as u64, &mut buf[..want]) {
                Ok(0) => break,
                Ok(n) => total += dst.push(&buf[..n])?,
                Err(e) => return partial(total, e),
            }
            breath.take();
        }
        Ok(total)
    }
    fn pwrite(&self, off: u64, src: &mut Src) -> Result<usize> {
        if self.kind != S_IFREG {
            return Err(ESPIPE);
        }
        self.alone(src.remaining(), || self.pwrite_pieces(off, src))
    }
    fn stat(&self) -> Option<Result<Stat>> {
        if self.tty.is_some() {
            return None;
        }
        Some(host::fstat(self.host.number()).map(|s| stat_of_host(&s)))
    }
}

/// A stream that the host gave.
pub struct Given {
    /// Its descriptor.
    pub host: Arc<HostFd>,
    /// O_RDONLY, O_WRONLY or O_RDWR.
    pub mode: u32,
    /// The terminal that it is.
    pub tty: Option<Arc<Tty>>,
}

/// The open file for a given stream; `None` if the host has it closed.
pub fn open_given(given: Given) -> Option<Arc<OpenFile>> {
    let Given { host, mode, tty } = given;
    let s = host::fstat(host.number()).ok()?;
    let kind = s.mode as u32 & S_IFMT;
    if kind == S_IFCHR && s.rdev == super::dev::NULL {
        let d = super::mount::lookup_path(b"/dev/null")?;
        let special = super::dev::open(super::dev::NULL, d.inode(), O_RDWR).ok();
        return Some(OpenFile::new(d, special, O_RDWR));
    }
    let path = tty.as_ref().map(|t| alloc::format!("/dev/pts/{}", t.index()));
    let node = path.and_then(|p| super::mount::lookup_path(p.as_bytes()));
    let stream = HostStream::new(host, kind, tty);
    if let Some(d) = node {
        return Some(OpenFile::new(d, Some(stream), mode));
    }
    let inode = AnonInode::new(kind);
    let object: Arc<dyn Reopen> = stream.clone();
    inode.set_object(&object);
    let label = match kind {
        S_IFIFO => "pipe",
        S_IFSOCK => "socket",
        _ => "host",
    };
    let name = alloc::format!("{label}:[{}]", s.ino);
    Some(OpenFile::new(Dentry::anonymous(inode, name.as_bytes()), Some(stream), mode))
}
