//! Seals of memfd_create(2): what fcntl(F_ADD_SEALS) forbids for good.
//!
//! Neighbours: `ops`, `file` and the mapping calls ask here before they change a file. Invariant: seals are only ever added.
use super::file::OpenFile;
use super::inode::Inode;
use super::prelude::*;

/// No more seals.
pub const SEAL: u32 = 1;
const SHRINK: u32 = 2;
const GROW: u32 = 4;
const WRITE: u32 = 8;
const FUTURE_WRITE: u32 = 16;
/// The execute bits of the mode stay.
pub const EXEC: u32 = 32;
const ALL: u32 = 63;
/// fallocate's FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE.
const KEEP_SIZE: u32 = 1;
const PUNCH_HOLE: u32 = 2;

/// The seals of a file; 0 for files that cannot have any.
pub fn seals(inode: &dyn Inode) -> u32 {
    inode.seals().map_or(0, BklCell::get)
}
fn refuse(inode: &dyn Inode, by: u32) -> Result<()> {
    if seals(inode) & by != 0 { Err(EPERM) } else { Ok(()) }
}

/// F_ADD_SEALS.
pub fn add(f: &OpenFile, more: u32) -> Result<()> {
    let cell = f.inode().seals();
    if !f.can_write() {
        return Err(if cell.is_some() { EPERM } else { EINVAL });
    }
    let cell = cell.ok_or(EINVAL)?;
    if more & !ALL != 0 {
        return Err(EINVAL);
    }
    refuse(f.inode().as_ref(), SEAL)?;
    let old = cell.get();
    if more & WRITE != 0 && old & WRITE == 0 && crate::mm::is_shared_writable(f.inode().as_ref()) {
        return Err(EBUSY);
    }
    // What cannot become executable, nor stop to be, is not to change either.
    let implied = match more & EXEC {
        0 => 0,
        _ if f.inode().stat()?.mode & 0o111 == 0 => 0,
        _ => SHRINK | GROW | WRITE | FUTURE_WRITE,
    };
    cell.set(old | more | implied);
    Ok(())
}

/// Where a write of `len` bytes at `off` has to end: EPERM if nothing may be written.
pub fn write_limit(inode: &dyn Inode, off: u64, len: u64) -> Result<u64> {
    refuse(inode, WRITE | FUTURE_WRITE)?;
    let size = inode.size();
    if seals(inode) & GROW == 0 || off.saturating_add(len) <= size {
        return Ok(u64::MAX);
    }
    // By pages, as Linux writes: the one that would grow the file is left out.
    let end = size / PAGE * PAGE;
    if off < end { Ok(end) } else { Err(EPERM) }
}

/// May the file get this length?
pub fn check_resize(inode: &dyn Inode, len: u64) -> Result<()> {
    if seals(inode) == 0 {
        return Ok(());
    }
    match len.cmp(&inode.size()) {
        core::cmp::Ordering::Less => refuse(inode, SHRINK),
        core::cmp::Ordering::Greater => refuse(inode, GROW),
        core::cmp::Ordering::Equal => Ok(()),
    }
}

/// May fallocate do this?
pub fn check_allocate(inode: &dyn Inode, mode: u32, end: u64) -> Result<()> {
    if seals(inode) == 0 {
        return Ok(());
    }
    if mode & PUNCH_HOLE != 0 {
        return refuse(inode, WRITE | FUTURE_WRITE);
    }
    if mode & KEEP_SIZE == 0 && end > inode.size() { refuse(inode, GROW) } else { Ok(()) }
}

/// May the mode change so?
pub fn check_mode(inode: &dyn Inode, old: u32, new: u32) -> Result<()> {
    if (old ^ new) & 0o111 != 0 { refuse(inode, EXEC) } else { Ok(()) }
}

/// May the file be mapped shared, writable or not? False: it must not become writable later.
pub fn check_map(inode: &dyn Inode, write: bool) -> Result<bool> {
    let sealed = seals(inode) & (WRITE | FUTURE_WRITE) != 0;
    if sealed && write { Err(EPERM) } else { Ok(!sealed) }
}
