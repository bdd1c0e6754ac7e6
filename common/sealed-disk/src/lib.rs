//! The sealed disk: a sparse array of 4 KiB logical blocks on an untrusted block device, changed in atomic
//! transactions, encrypted and authenticated up to one root.
//!
//! Neighbours: `common/sealed-fs` keeps files in the logical blocks; whoever opens a store brings the device,
//! the key, random bytes and, against rollback, a trusted store. The layers, each of which uses only those
//! above it in this list:
//!
//! 0. `device`: the untrusted blocks, as a trait;
//! 1. `guard`: seals one block (AES-256-GCM, or a digest in images), `keys`: how the key is wrapped;
//! 2. `io`: sealed blocks on the device, writes gathered into long ones;
//! 3. `space`: which blocks of the device are in use;
//! 4. `tree`: from a logical block to its place and seal;
//! 5. `journal`: the chain of commits since the last checkpoint, `superblock`: the root;
//! 6. `disk`: transactions, checkpoints, recovery; `freshness`: what rollback is measured against.
//!
//! Invariants: no block that the last durable state refers to is ever overwritten; bytes that came from the
//! device are used only after their seal was checked; no content of a device makes it panic. The format is
//! in docs/sealed-format.md.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]
extern crate alloc;

mod bytes;
mod cipher;
mod device;
mod disk;
mod error;
mod freshness;
mod guard;
mod io;
mod journal;
mod keys;
mod space;
mod superblock;
#[cfg(feature = "testing")]
pub mod testing;
mod tree;

pub use device::{BLOCK, BlockDevice, DeviceError, MemDevice};
pub use disk::{Disk, Options, Stats};
pub use error::{Distrust, Error, Part};
pub use freshness::{Freshness, MARK, Mark, Window};
pub use guard::{Guard, Kind, Place, SEAL, Seal};
pub use keys::{Key, Random};
