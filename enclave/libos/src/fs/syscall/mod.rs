//! File system calls: arguments are fetched and checked here, the work is done by the modules of `crate::fs`.
//!
//! Each handler takes the six argument registers. 32-bit arguments are the low half of their register, as in
//! Linux.
pub mod attr;
pub mod dir;
pub mod event;
pub mod fd;
pub mod misc;
pub mod open;
pub mod rw;
pub mod splice;
pub mod stat;
pub mod wait;
pub mod xattr;

use super::env;
use super::file::OpenFile;
use super::prelude::*;
use crate::uaccess;

/// The six arguments.
pub type Args = [u64; 6];

/// A descriptor argument.
pub(crate) fn fd(v: u64) -> i32 {
    v as u32 as i32
}
/// A 32-bit argument.
pub(crate) fn int(v: u64) -> u32 {
    v as u32
}
/// The open file behind a descriptor argument.
fn file(v: u64) -> Result<Arc<OpenFile>> {
    env::file(fd(v))
}
/// The same, refusing O_PATH descriptors.
pub(crate) fn real_file(v: u64) -> Result<Arc<OpenFile>> {
    let f = file(v)?;
    if f.is_path() { Err(EBADF) } else { Ok(f) }
}
/// A path argument.
fn path(v: u64) -> Result<Vec<u8>> {
    uaccess::read_cstr(v, PATH_MAX - 1)
}
/// A `struct timespec` in ns; `EINVAL` if it is not one.
pub(crate) fn timespec(off: u64) -> Result<u64> {
    let (s, ns): (i64, i64) = (uaccess::read_val(off)?, uaccess::read_val(off + 8)?);
    if s < 0 || !(0..1_000_000_000).contains(&ns) {
        return Err(EINVAL);
    }
    Ok((s as u64).saturating_mul(1_000_000_000).saturating_add(ns as u64))
}
/// Deadline for a relative timeout in ns.
pub(crate) fn after(ns: u64) -> u64 {
    crate::time::monotonic_ns().saturating_add(ns)
}
