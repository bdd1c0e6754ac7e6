//! The sealed file system: POSIX files in the logical blocks of a sealed disk.
//!
//! Neighbours: `common/sealed-disk` below (encryption, atomic transactions); the LibOS mounts it, the host's tools
//! read and write it. All metadata is items of one B-tree, ordered by inode, kind and position. Modules, each using
//! those before it: `item` (keys and records), `node` and `btree`, `space` (which logical blocks are in use),
//! `pages` (the cache of file content), `fs` (the state; commits), then on it `content`, `names`, `xattr`, and
//! `check` (fsck).
//!
//! Invariants: a commit holds whole operations only, so what a crash leaves is the file system as it was at some
//! moment between two operations; beyond a file's size its last page is zero; a store that its key opens but whose
//! content makes no sense is an error, not a panic.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]
extern crate alloc;

mod btree;
mod check;
mod content;
mod error;
mod fs;
mod item;
mod names;
mod node;
mod pages;
mod space;
mod xattr;

pub use check::{Finding, Report};
pub use error::Error;
pub use fs::{Fs, FsOptions, StatFs};
pub use item::{Attr, Mode, NAME_MAX, ROOT};
pub use names::{DirEntry, Owner, SetAttr};
pub use occlum_sealed_disk as disk;

type Result<T> = core::result::Result<T, Error>;
