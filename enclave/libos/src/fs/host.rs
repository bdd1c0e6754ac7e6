//! Typed OCALLs of the file side. Every result is untrusted: an errno is checked to be one, a length is
//! checked against what was asked for, names are checked to be names.
use super::prelude::*;
use super::uio::try_vec;
use crate::host_events::Source;
use occlum_enclave_abi::{HostStat, OCALL_DATA_MAX, Ocall, POLL_EDGES, WORK_DONE, WORK_SYNC};

/// Most bytes moved by one call.
pub const PIECE: usize = OCALL_DATA_MAX;
/// Flags of every host open: the host never follows a final link, never blocks, never leaks the descriptor.
const SAFE_OPEN: u32 = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_LARGEFILE;

fn call(nr: Ocall, args: &[u64], input: &[u8], output: &mut [u8]) -> Result<u64> {
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

/// Opens a host path.
pub fn open(path: &[u8], flags: u32, mode: u32) -> Result<u32> {
    let fd = call(Ocall::Open, &[u64::from(flags | SAFE_OPEN), u64::from(mode)], path, &mut [])?;
    u32::try_from(fd).map_err(|_| EIO)
}
/// Closes a host descriptor; nothing to do about an error.
pub fn close(fd: u32) {
    let _ = call(Ocall::Close, &[u64::from(fd)], &[], &mut []);
}

/// A descriptor of the host's that streams share.
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
    let data = &data[..data.len().min(PIECE)];
    bounded(call(Ocall::Pwrite, &[u64::from(fd), off], data, &mut [])?, data.len())
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
/// Metadata of a path, a final link not followed.
pub fn lstat(path: &[u8]) -> Result<HostStat> {
    stat_call(&[u64::MAX, 0], path)
}
/// Metadata of a descriptor.
pub fn fstat(fd: u32) -> Result<HostStat> {
    stat_call(&[u64::from(fd), 0], &[])
}
/// Text of a symbolic link.
pub fn readlink(path: &[u8]) -> Result<Vec<u8>> {
    let mut buf = try_vec(PATH_MAX)?;
    let n = bounded(call(Ocall::Readlink, &[], path, &mut buf)?, PATH_MAX)?;
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
pub fn list(path: &[u8]) -> Result<Vec<HostEntry>> {
    let fd = open(path, O_RDONLY | O_DIRECTORY, 0)?;
    let r = list_fd(fd);
    close(fd);
    r
}
fn list_fd(fd: u32) -> Result<Vec<HostEntry>> {
    /// More entries than any sane directory: a host that goes on for ever is stopped here.
    const MAX_ENTRIES: usize = 4 << 20;
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
/// Takes a cooperative lock on a file, exclusive or shared. `EAGAIN`: somebody has it.
pub fn lock(fd: u32, exclusive: bool) -> Result<()> {
    call(Ocall::Lock, &[u64::from(fd), u64::from(exclusive)], &[], &mut []).map(drop)
}
/// Operations of `Ocall::PathOp`.
#[derive(Clone, Copy)]
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
    /// `utimensat`.
    Utimens = 9,
    /// `chown`.
    Chown = 10,
}
/// A path operation.
pub fn path_op(op: Op, a: u64, b: u64, path: &[u8], path2: Option<&[u8]>) -> Result<()> {
    let mut input = path.to_vec();
    if let Some(p) = path2 {
        input.push(0);
        input.extend_from_slice(p);
    }
    call(Ocall::PathOp, &[op as u64, a, b], &input, &mut []).map(drop)
}
/// `statfs` of a path: type, bsize, blocks, bfree, bavail, files, ffree, namelen.
pub fn statfs(path: &[u8]) -> Result<[u64; 8]> {
    let mut b = [0; 64];
    call(Ocall::Statfs, &[], path, &mut b)?;
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
