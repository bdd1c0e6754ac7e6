//! The library OS: processes, memory, signals, files and time for programs that run translated in their domains.
//!
//! Neighbours: below `occlum-rt` (the only unsafe code inside), beside `occlum-sfi-translator` and `occlum-elf`.
//! Invariants: every function here runs under the big kernel lock (BKL); a task blocks only in `sched`, and no
//! `BklCell` borrow is alive across a block. Nothing here panics on guest or host input.
//!
//! Order of knowledge (a module may use those to its right): syscall -> process, signal, ipc -> cfi -> mm, code, loader
//! -> net -> fs -> sched, host_events, uaccess, time -> policy, errno.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod cfi;
mod code;
pub mod emulate;
pub mod errno;
pub mod fs;
mod host_events;
pub mod ipc;
mod jobs;
pub mod loader;
pub mod mm;
pub mod net;
pub mod policy;
pub mod process;
pub mod sched;
mod seal;
pub mod shadow;
pub mod signal;
pub mod stats;
pub mod syscall;
pub mod time;
pub mod timers;
mod trace;
pub mod uaccess;
mod vdso;

mod boot;

pub use boot::HOOKS;
