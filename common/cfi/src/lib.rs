//! What control-flow integrity knows of programs, apart from the LibOS that enforces it (`docs/cfi.md`).
//!
//! Neighbours: `enclave/libos` (its `cfi` asks at a miss of a lookup table). Modules: `flow` keeps what signals allow,
//! `call` looks for a call before an address. Invariants: files and code are hostile: no input panics, loops or
//! allocates more than a bound.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::panic, missing_docs, unreachable_pub)]
extern crate alloc;

mod call;
mod flow;

pub use call::{LONGEST_CALL, ends_with_call};
pub use flow::Flow;
