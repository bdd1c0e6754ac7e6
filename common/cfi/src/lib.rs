//! What control-flow integrity knows of programs, apart from the LibOS that enforces it (`docs/cfi.md`).
//!
//! Neighbours: `enclave/libos` (its `cfi` asks at a miss of a lookup table). Modules: `flow` keeps what signals allow,
//! `call` looks for a call before an address,
//! `facts` and `pads` say what a file names as targets, `file` reads it. Invariants: files and code are hostile: no input panics, loops or
//! allocates more than a bound.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::panic, missing_docs, unreachable_pub)]
extern crate alloc;

mod call;
mod facts;
mod file;
mod flow;
mod pads;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests;

pub use call::{LONGEST_CALL, decodes_to, ends_with_call};
pub use facts::Facts;
pub use file::{File, Segment};
pub use flow::{Flow, Resumed};
