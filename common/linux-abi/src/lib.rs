//! The system call interface of Linux on x86-64: numbers, errors, and the flags that several parts of the LibOS share.
//!
//! Neighbours: `enclave/libos`, where what only one module needs stands beside it (`fs/consts.rs`, `signal.rs`), and the
//! other `common` crates, which report an `Errno`. Written from the interface's documentation; no code, only facts as data.
#![no_std]
#![forbid(unsafe_code)]

mod errno;

pub mod auxv;
pub mod clone;
pub mod futex;
pub mod mmap;
pub mod nr;
pub mod prctl;
pub mod sig;
pub mod signo;
pub mod wait;

pub use errno::Errno;
