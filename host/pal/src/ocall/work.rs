//! Work on files that may take its time: threads do it beside, so that no vCPU waits for a disk.
//!
//! Neighbours: `wait` tells the enclave of its ends, by token. Invariants: each piece of work has a descriptor of its own,
//! so the enclave may close the one that it named; every piece that was begun ends, and is told of once.
use super::{check, errno};
use occlum_enclave_abi::{WORK_DONE, WORK_FETCH, WORK_SYNC};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};

/// Threads at most; they are made when there is work for them, and stay.
const THREADS: usize = 4;
/// Bytes fetched by one call, and for one piece of work.
const PIECE: usize = 128 << 10;
const FETCH_MAX: u64 = 16 << 20;

struct Piece {
    what: u64,
    file: OwnedFd,
    offset: u64,
    length: u64,
    token: u32,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// Ends that the enclave has not heard of: token and event.
    ends: Vec<(u32, u32)>,
    threads: usize,
    idle: usize,
    over: bool,
}

struct Shared {
    state: Mutex<State>,
    more: Condvar,
    /// Readable while there are `ends`.
    event: OwnedFd,
}

/// The work of one enclave.
pub(super) struct Work(Arc<Shared>);

impl Work {
    pub(super) fn new() -> std::io::Result<Self> {
        let event = super::wait::event_fd()?;
        Ok(Self(Arc::new(Shared { state: Mutex::default(), more: Condvar::new(), event })))
    }
    /// Readable while there are ends to take.
    pub(super) fn event(&self) -> i32 {
        self.0.event.as_raw_fd()
    }
    /// `Ocall::Begin`.
    pub(super) fn begin(&self, a: &[u64; 6]) -> i64 {
        if !matches!(a[0], WORK_FETCH | WORK_SYNC) {
            return -i64::from(libc::EINVAL);
        }
        // SAFETY: 1. fcntl has no memory arguments here.
        let fd = unsafe { libc::fcntl(a[1] as i32, libc::F_DUPFD_CLOEXEC, 3) };
        if fd < 0 {
            return errno();
        }
        // SAFETY: 1. the descriptor is new and nobody else's.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        let piece = Piece { what: a[0], file, offset: a[2], length: a[3].min(FETCH_MAX), token: a[4] as u32 };
        let Ok(mut s) = self.0.state.lock() else { return -i64::from(libc::EIO) };
        s.pieces.push_back(piece);
        if s.idle < s.pieces.len() && s.threads < THREADS {
            let shared = self.0.clone();
            if std::thread::Builder::new().name("occlum-work".into()).spawn(move || shared.serve()).is_ok() {
                s.threads += 1;
            } else if s.threads == 0 {
                s.pieces.pop_back();
                return -i64::from(libc::EAGAIN);
            }
        }
        self.0.more.notify_one();
        0
    }
    /// Up to `max` ends: token and event.
    pub(super) fn take_ends(&self, max: usize) -> Vec<(u32, u32)> {
        let Ok(mut s) = self.0.state.lock() else { return Vec::new() };
        let n = max.min(s.ends.len());
        let taken = s.ends.drain(..n).collect();
        if s.ends.is_empty() {
            super::wait::drain(self.event());
        }
        taken
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Ok(mut s) = self.0.state.lock() {
            s.over = true;
            s.pieces.clear();
        }
        // A thread that waits for a disk ends when it has what it waits for.
        self.0.more.notify_all();
    }
}

impl Shared {
    fn serve(&self) {
        no_signals();
        while let Some(piece) = self.next() {
            let ret = piece.run();
            let event = WORK_DONE | u32::try_from(-ret).unwrap_or(0);
            if let Ok(mut s) = self.state.lock() {
                s.ends.push((piece.token, event));
                super::wait::ring(self.event.as_raw_fd());
            }
        }
    }
    fn next(&self) -> Option<Piece> {
        let mut s = self.state.lock().ok()?;
        loop {
            if s.over {
                return None;
            }
            if let Some(piece) = s.pieces.pop_front() {
                return Some(piece);
            }
            s.idle += 1;
            s = self.more.wait(s).ok()?;
            s.idle -= 1;
        }
    }
}

impl Piece {
    /// 0, or a negated errno.
    fn run(&self) -> i64 {
        let fd = self.file.as_raw_fd();
        if self.what == WORK_SYNC {
            // SAFETY: 1. fsync has no memory arguments.
            return check(i64::from(unsafe { libc::fsync(fd) }));
        }
        let mut buf = vec![0u8; PIECE];
        let mut done = 0;
        while done < self.length {
            let want = (self.length - done).min(PIECE as u64) as usize;
            let at = self.offset.saturating_add(done) as i64;
            // SAFETY: 1. `buf` is writable for `want` bytes.
            match check(unsafe { libc::pread(fd, buf.as_mut_ptr().cast(), want, at) } as i64) {
                0 => break,
                n if n < 0 => return n,
                n => done += n as u64,
            }
        }
        0
    }
}

/// Signals are for the threads that expect them.
pub(super) fn no_signals() {
    // SAFETY: 1. the set is filled before it is used; 2. the mask concerns this thread only.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
    }
}
