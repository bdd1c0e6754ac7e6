//! The system call interface of Linux on x86-64: numbers, flags, errors and structure layouts.
//!
//! Neighbours: `enclave/libos` (everything a guest sees goes through these definitions) and the other
//! `common` crates, which report an `Errno`. Written from the interface's documentation; no code, only facts
//! as data. Invariants: structures cross as explicit little-endian bytes, padding is zero, and no bit pattern
//! is invalid, so reading a guest's bytes cannot fail and writing them cannot leak.
#![no_std]
#![forbid(unsafe_code)]

mod errno;
mod layout;

pub mod auxv;
pub mod clock;
pub mod clone;
pub mod epoll;
pub mod fcntl;
pub mod futex;
pub mod ioctl;
pub mod mmap;
pub mod nr;
pub mod open;
pub mod poll;
pub mod prctl;
pub mod rlimit;
pub mod sig;
pub mod signo;
pub mod stat;
pub mod ucontext;
pub mod wait;

pub use errno::Errno;
pub use layout::file::{Dirent64, Flock, Iovec, Stat, Statfs, Statx, StatxTimestamp};
pub use layout::io::{EpollEvent, Pollfd, Termios, Winsize};
pub use layout::process::{CloneArgs, Rlimit, Rusage, Sysinfo, Utsname};
pub use layout::signal::{SigAltStack, Sigaction, Siginfo};
pub use layout::time::{Itimerspec, Itimerval, Timespec, Timeval, Timezone, Tms};
