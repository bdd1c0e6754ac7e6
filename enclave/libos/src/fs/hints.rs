//! How long what is written to a file will live (F_SET_RW_HINT): kept and shown, for whoever writes beside.
//!
//! Invariant: a file that is not here has no hint (0).
use super::env;
use super::file::OpenFile;
use super::prelude::*;
use crate::process::caps;
use crate::uaccess;

/// RWH_WRITE_LIFE_EXTREME.
const LAST: u64 = 5;
/// About what one takes of the heap.
const COST: u64 = 64;

/// By device and number.
static HINTS: BklCell<BTreeMap<(u64, u64), u64>> = BklCell::new(BTreeMap::new());

/// F_GET_RW_HINT.
pub fn get(f: &OpenFile, at: u64) -> Result<()> {
    let s = f.stat()?;
    uaccess::write_val(at, HINTS.with(|h| h.get(&(s.dev, s.ino)).copied().unwrap_or(0)))
}

/// F_SET_RW_HINT: the owner's, or an administrator's.
pub fn set(f: &OpenFile, at: u64) -> Result<()> {
    let (s, cred) = (f.stat()?, env::cred());
    if s.uid != cred.uid && !cred.can(caps::FOWNER) {
        return Err(EPERM);
    }
    let hint: u64 = uaccess::read_val(at)?;
    if hint > LAST {
        return Err(EINVAL);
    }
    let id = (s.dev, s.ino);
    if hint == 0 {
        HINTS.with_mut(|h| _ = h.remove(&id));
        return Ok(());
    }
    crate::mm::admit(COST)?;
    HINTS.with_mut(|h| _ = h.insert(id, hint));
    Ok(())
}
