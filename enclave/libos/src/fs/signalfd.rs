//! signalfd: pending signals as a file. What it shows are the signals of who looks, as in Linux.
//!
//! Neighbours: `signal` keeps the signals and wakes `signal_event` of their process. In a set (epoll), that is the process
//! that put it there, as in Linux.
use super::file::{File, Notify};
use super::prelude::*;
use super::uio::Dst;
use crate::signal::{self, Info};

/// Bytes of one `struct signalfd_siginfo`.
const RECORD: usize = 128;

/// A set of signals.
pub struct SignalFd {
    mask: BklCell<u64>,
    changed: Notify,
}

impl SignalFd {
    /// Shows the signals of `mask`.
    pub fn new(mask: u64) -> Arc<Self> {
        Arc::new(Self { mask: BklCell::new(mask), changed: Notify::new() })
    }
    /// Another set.
    pub fn set_mask(&self, mask: u64) {
        self.mask.set(mask);
        self.changed.notify();
    }
    /// The set.
    pub fn mask(&self) -> u64 {
        self.mask.get()
    }
}

/// What `si_code` says the rest of a siginfo is.
fn record(sig: i32, info: Info) -> [u8; RECORD] {
    const SI_TIMER: i32 = -2;
    const FAULTS: [i32; 5] = [4, 5, 7, 8, 11];
    const SIGCHLD: i32 = 17;
    let mut b = [0; RECORD];
    let mut put = |at: usize, v: u64, n: usize| b[at..at + n].copy_from_slice(&v.to_le_bytes()[..n]);
    let [first, second, ..] = info.payload;
    put(0, sig as u64, 4);
    put(8, info.code as u64, 4);
    match info.code {
        SI_TIMER => {
            put(24, first, 4);
            put(32, first >> 32, 4);
            put(44, second, 4);
            put(48, second, 8);
        }
        c if c > 0 && FAULTS.contains(&sig) => put(72, first, 8),
        c => {
            put(12, first, 4);
            put(16, first >> 32, 4);
            if c > 0 && sig == SIGCHLD {
                put(40, second, 4);
            } else if c < 0 && c != -6 {
                put(44, second, 4);
                put(48, second, 8);
            }
        }
    }
    b
}

impl File for SignalFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn is_stream(&self) -> bool {
        false
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        if dst.remaining() < RECORD {
            return Err(EINVAL);
        }
        let mut total = 0;
        while dst.remaining() >= RECORD {
            let Some((sig, info)) = signal::take_pending(self.mask.get()) else { break };
            match dst.push(&record(sig, info)) {
                Ok(n) => total += n,
                Err(e) => return super::uio::partial(total, e),
            }
        }
        if total == 0 { Err(EAGAIN) } else { Ok(total) }
    }
    fn poll(&self, _want: u32) -> u32 {
        if signal::pending_now() & self.mask.get() != 0 { POLL_IN } else { 0 }
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.changed.queue());
        out.push(crate::process::current_process().signal_event.clone());
    }
    fn info(&self) -> String {
        alloc::format!("sigmask:\t{:016x}\n", self.mask.get())
    }
}
