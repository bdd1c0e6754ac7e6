//! Typed OCALLs of the file side. Every result is untrusted: an errno is checked to be one, a length is
//! checked against what was asked for, names are checked to be names.
use super::prelude::*;
use super::uio::try_vec;
use crate::host_events::Source;
use core::sync::atomic::{AtomicU64, Ordering};
use occlum_enclave_abi::{ANYWHERE, HostStat, OCALL_DATA_MAX, Ocall, POLL_EDGES, WORK_DONE, WORK_SYNC};

/// Most bytes moved by one call.
pub const PIECE: usize = OCALL_DATA_MAX;
/// Flags of every host open: the host never follows a final link, never blocks, never leaks the descriptor.
const SAFE_OPEN: u32 = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_LARGEFILE;

/// Sealed stores call without the lock, too.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// A moment lasts until the next system call begins, or the next call is made here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Moment(u64, u64);
impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self(CALLS.load(Ordering::Relaxed), crate::stats::system_calls())
    }
}

fn call(nr: Ocall, args: &[u64], input: &[u8], output: &mut [u8]) -> Result<u64> {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let r = occlum_rt::ocall::call(nr, args, input, output);
    if r >= 0 {
        return Ok(r as u64);
    }
    // Errors that only mean something inside the LibOS (restart codes and the like) are not taken from the
    // host.
    if (-133..0).contains(&r) { Err(errno_from(-r as i32)) } else { Err(EIO) }
}
fn bounded(n: u64, max: usize) -> Result<usize> {
    if n <= max as u64 { Ok(n as usize) } else { Err(EIO) }
}

/// What a path names on the host.
#[derive(Clone, Copy)]
pub struct At<'a> {
    dir: u64,
    path: &'a [u8],
}
impl<'a> At<'a> {
    /// A path that the user named at the start.
    pub fn named(path: &'a [u8]) -> Self {
        Self { dir: ANYWHERE, path }
    }
    /// Names beneath an open directory, which lead nowhere else; without one, what the descriptor stands for.
    pub fn beneath(dir: &HostFd, path: &'a [u8]) -> Self {
        Self { dir: u64::from(dir.number), path }
    }
}

/// Opens what is there.
pub fn open(at: At, flags: u32, mode: u32) -> Result<u32> {
    open_as(at, flags | SAFE_OPEN, mode)
}
fn open_as(at: At, flags: u32, mode: u32) -> Result<u32> {
    let fd = call(Ocall::Open, &[u64::from(flags), u64::from(mode), at.dir], at.path, &mut [])?;
    u32::try_from(fd).map_err(|_| EIO)
}
/// The top of a tree that the user named: a name to resolve others beneath. Links on the way there are followed.
pub fn open_top(path: &[u8]) -> Result<Arc<HostFd>> {
    open_as(At::named(path), O_PATH | O_CLOEXEC, 0).map(HostFd::handed_over)
}
/// Closes a host descriptor; nothing to do about an error.
pub fn close(fd: u32) {
    let _ = call(Ocall::Close, &[u64::from(fd)], &[], &mut []);
}

/// A descriptor of the host's that several share.
#[derive(Debug)]
pub struct HostFd {
    number: u32,
    /// Ours to close, unlike 0 to 2.
    owned: bool,
}
impl HostFd {
    /// A standard stream of the host process: stays open.
    pub fn standard(number: u32) -> Arc<Self> {
        Arc::new(Self { number, owned: false })
    }
    /// One that was handed over: closed with its last user.
    pub fn handed_over(number: u32) -> Arc<Self> {
        Arc::new(Self { number, owned: true })
    }
    /// The number.
    pub fn number(&self) -> u32 {
        self.number
    }
}
impl Drop for HostFd {
    fn drop(&mut self) {
        if self.owned {
            close(self.number);
        }
    }
}

/// Reads at an offset; 0 at the end.
pub fn pread(fd: u32, off: u64, buf: &mut [u8]) -> Result<usize> {
    let want = buf.len().min(PIECE);
    let buf = &mut buf[..want];
    let n = call(Ocall::Pread, &[u64::from(fd), off, want as u64], &[], buf)?;
    bounded(n, want)
}
/// The same; the host is to begin to fetch the `next` bytes behind them.
pub fn pread_on(fd: u32, off: u64, buf: &mut [u8], next: u64) -> Result<usize> {
    let want = buf.len().min(PIECE);
    let buf = &mut buf[..want];
    bounded(call(Ocall::Pread, &[u64::from(fd), off, want as u64, 0, next], &[], buf)?, want)
}
/// The same for what the host has at hand; `EAGAIN` if it would have to wait for it.
pub fn pread_at_hand(fd: u32, off: u64, buf: &mut [u8]) -> Result<usize> {
    let want = buf.len().min(PIECE);
    let buf = &mut buf[..want];
    bounded(call(Ocall::Pread, &[u64::from(fd), off, want as u64, 1], &[], buf)?, want)
}
/// Has the host do work that may take its time, and waits for its end: the task does, the vCPU is free. EINTR: a signal came
/// before.
pub fn beside(work: u64, fd: u32, off: u64, len: u64) -> Result<()> {
    let ended = Arc::new(WaitQueue::new());
    let end = Source::new(ended.clone());
    call(Ocall::Begin, &[work, u64::from(fd), off, len, end.token()], &[], &mut [])?;
    let event = ended.wait_until(None, || Some(end.bits()).filter(|b| b & WORK_DONE != 0))?;
    match event & !WORK_DONE {
        0 => Ok(()),
        e @ 1..=133 => Err(errno_from(e as i32)),
        _ => Err(EIO),
    }
}
/// Writes at an offset.
pub fn pwrite(fd: u32, off: u64, data: &[u8]) -> Result<usize> {
    write_at(fd, off, data, false)
}
/// The same; the host is to begin at once to make it durable, and may still be at it when this returns (`settle`).
pub fn pwrite_through(fd: u32, off: u64, data: &[u8]) -> Result<usize> {
    write_at(fd, off, data, true)
}
fn write_at(fd: u32, off: u64, data: &[u8], through: bool) -> Result<usize> {
    let data = &data[..data.len().min(PIECE)];
    let args = [u64::from(fd), off, u64::from(through)];
    bounded(call(Ocall::Pwrite, &args, data, &mut [])?, data.len())
}
fn stat_call(args: &[u64], path: &[u8]) -> Result<HostStat> {
    let mut b = [0; HostStat::SIZE];
    call(Ocall::Stat, args, path, &mut b)?;
    let mut s = HostStat::from_bytes(&b);
    s.mode &= 0o177777;
    if s.size > i64::MAX as u64 {
        return Err(EIO);
    }
    Ok(s)
}
/// Metadata of what is there, a link not followed.
pub fn lstat(at: At) -> Result<HostStat> {
    stat_call(&[at.dir], at.path)
}
/// Metadata of a descriptor.
pub fn fstat(fd: u32) -> Result<HostStat> {
    stat_call(&[u64::from(fd)], &[])
}
/// Text of a symbolic link.
pub fn readlink(at: At) -> Result<Vec<u8>> {
    let mut buf = try_vec(PATH_MAX)?;
    let n = bounded(call(Ocall::Readlink, &[at.dir], at.path, &mut buf)?, PATH_MAX)?;
    buf.truncate(n);
    if buf.contains(&0) { Err(EIO) } else { Ok(buf) }
}

/// A host directory entry.
pub struct HostEntry {
    /// Inode number.
    pub ino: u64,
    /// `DT_*`.
    pub d_type: u8,
    /// Name: not empty, no slash, no NUL, not `.` or `..`.
    pub name: Vec<u8>,
}

/// All entries of a host directory.
pub fn list(at: At) -> Result<Vec<HostEntry>> {
    let fd = open(at, O_RDONLY | O_DIRECTORY, 0)?;
    let r = list_fd(fd);
    close(fd);
    r
}
/// The same of one that is open.
pub fn list_fd(fd: u32) -> Result<Vec<HostEntry>> {
    /// More entries than any sane directory: a host that goes on for ever is stopped here.
    const MAX_ENTRIES: usize = 4 << 20;
    /// What the bytes of a piece of the host's list may take here, for each of them.
    const NAMES_COST: usize = 8;
    let mut out = Vec::new();
    let mut buf = try_vec(64 << 10)?;
    let mut cookie = 0;
    loop {
        let n = call(Ocall::Readdir, &[u64::from(fd), cookie], &[], &mut buf)?;
        let n = bounded(n, buf.len())?;
        let mut rest = &buf[..n];
        if n == 0 || out.len() > MAX_ENTRIES {
            return Ok(out);
        }
        // Its entries, each with a name of its own, and the list, which moves when it grows.
        crate::mm::admit((n * NAMES_COST + 3 * out.capacity() * size_of::<HostEntry>()) as u64)?;
        while !rest.is_empty() {
            let (e, next, tail) = parse_entry(rest).ok_or(EIO)?;
            rest = tail;
            cookie = next;
            if is_name(&e.name) {
                out.push(e);
            }
        }
    }
}
fn parse_entry(b: &[u8]) -> Option<(HostEntry, u64, &[u8])> {
    let (ino, b) = b.split_first_chunk::<8>()?;
    let (next, b) = b.split_first_chunk::<8>()?;
    let (d_type, b) = b.split_first()?;
    let (len, b) = b.split_first_chunk::<2>()?;
    let (name, b) = b.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    let e = HostEntry { ino: u64::from_le_bytes(*ino), d_type: *d_type, name: name.to_vec() };
    Some((e, u64::from_le_bytes(*next), b))
}
fn is_name(n: &[u8]) -> bool {
    !n.is_empty()
        && n.len() <= NAME_MAX
        && n != b"."
        && n != b".."
        && !n.iter().any(|c| *c == 0 || *c == b'/')
}

/// Reads a stream without blocking.
pub fn read(fd: u32, buf: &mut [u8]) -> Result<usize> {
    let len = buf.len();
    bounded(call(Ocall::Read, &[u64::from(fd), 1], &[], buf)?, len)
}
/// Writes to a stream without blocking.
pub fn write(fd: u32, data: &[u8]) -> Result<usize> {
    // What is traced and what is written may go to one terminal: in order.
    crate::trace::flush();
    bounded(call(Ocall::Write, &[u64::from(fd), 1], data, &mut [])?, data.len())
}
/// Events ready now; registers interest if none is.
pub fn poll(fd: u32, events: u32) -> u32 {
    call(Ocall::Poll, &[u64::from(fd), u64::from(events)], &[], &mut []).map_or(POLLERR, |e| e as u32)
}
/// Makes `Wait` tell of everything new.
pub fn poll_edges(fd: u32) {
    poll(fd, POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLL_EDGES);
}
/// A terminal ioctl: `buf` goes in and comes out.
pub fn ioctl(fd: u32, request: u32, input: &[u8], output: &mut [u8]) -> Result<u64> {
    call(Ocall::Ioctl, &[u64::from(fd), u64::from(request)], input, output)
}
/// FIONREAD: bytes that wait in a stream, never less than none.
pub fn waiting(fd: u32) -> Result<u32> {
    let mut b = [0; 4];
    ioctl(fd, FIONREAD, &[], &mut b)?;
    u32::try_from(i32::from_le_bytes(b)).map_err(|_| EIO)
}
/// Moves a host stream's position.
pub fn seek(fd: u32, whence: u32, off: i64) -> Result<u64> {
    let r = call(Ocall::Seek, &[u64::from(fd), u64::from(whence), off as u64], &[], &mut [])?;
    if r > i64::MAX as u64 { Err(EIO) } else { Ok(r) }
}
/// `ftruncate`.
pub fn ftruncate(fd: u32, len: u64) -> Result<()> {
    call(Ocall::Ftruncate, &[u64::from(fd), len], &[], &mut []).map(drop)
}
/// `fsync` for a caller that may wait; without one that runs, or when a signal comes, the vCPU waits.
pub fn fsync_beside(fd: u32) -> Result<()> {
    if !crate::sched::may_wait() {
        return fsync(fd);
    }
    match beside(WORK_SYNC, fd, 0, 0) {
        Err(EINTR | EAGAIN) => fsync(fd),
        r => r,
    }
}
/// `fsync`.
pub fn fsync(fd: u32) -> Result<()> {
    call(Ocall::Fsync, &[u64::from(fd)], &[], &mut []).map(drop)
}
/// Waits for writes that are on their way.
pub fn settle(fd: u32) -> Result<()> {
    call(Ocall::Fsync, &[u64::from(fd), 1], &[], &mut []).map(drop)
}
/// Takes a cooperative lock on a file, exclusive or shared. `EAGAIN`: somebody has it.
pub fn lock(fd: u32, exclusive: bool) -> Result<()> {
    call(Ocall::Lock, &[u64::from(fd), u64::from(exclusive)], &[], &mut []).map(drop)
}
/// Operations of `Ocall::PathOp`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Op {
    /// `mkdir`.
    Mkdir = 1,
    /// `rmdir`.
    Rmdir = 2,
    /// `unlink`.
    Unlink = 3,
    /// `rename`.
    Rename = 4,
    /// `symlink`.
    Symlink = 5,
    /// `link`.
    Link = 6,
    /// `chmod`.
    Chmod = 7,
    /// `mknod` of a FIFO or socket.
    Mknod = 8,
    /// `utimensat`.
    Utimens = 9,
    /// `chown`.
    Chown = 10,
}
/// An operation on a name.
pub fn path_op(op: Op, a: u64, b: u64, at: At) -> Result<()> {
    call(Ocall::PathOp, &[op as u64, a, b, at.dir], at.path, &mut []).map(drop)
}
/// `rename` or `link`.
pub fn path_op_to(op: Op, from: At, to: At) -> Result<()> {
    let input = [from.path, to.path].join(&0);
    call(Ocall::PathOp, &[op as u64, 0, 0, from.dir, to.dir], &input, &mut []).map(drop)
}
/// `symlink`.
pub fn symlink(text: &[u8], at: At) -> Result<()> {
    let input = [at.path, text].join(&0);
    call(Ocall::PathOp, &[Op::Symlink as u64, 0, 0, at.dir], &input, &mut []).map(drop)
}
/// `statfs` of a descriptor: type, bsize, blocks, bfree, bavail, files, ffree, namelen.
pub fn statfs(of: &HostFd) -> Result<[u64; 8]> {
    let mut b = [0; 64];
    call(Ocall::Statfs, &[u64::from(of.number)], &[], &mut b)?;
    let mut out = [0; 8];
    for (o, c) in out.iter_mut().zip(b.chunks_exact(8)) {
        let mut w = [0; 8];
        w.copy_from_slice(c);
        *o = u64::from_le_bytes(w);
    }
    Ok(out)
}
/// Tells the host about a changed path.
pub fn report_path(path: &[u8]) {
    let _ = call(Ocall::Report, &[1], path, &mut []);
}
