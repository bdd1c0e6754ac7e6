//! The extended attributes of a file in memory.
//!
//! Neighbours: `syscall::xattr` checks names and rights, `memfs` keeps one table for each inode. Attributes of the host's
//! files are not seen.
use super::prelude::*;

/// Bytes of all names of one file (XATTR_LIST_MAX).
const LIST_LARGEST: usize = 65536;

/// Values by name.
#[derive(Default)]
pub struct Xattrs(BTreeMap<Vec<u8>, Vec<u8>>);

impl Xattrs {
    /// The value.
    pub fn get(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.0.get(name).cloned().ok_or(ENODATA)
    }
    /// All names.
    pub fn names(&self) -> Vec<Vec<u8>> {
        self.0.keys().cloned().collect()
    }
    /// Sets a value; `existed` demands that there was one, or none.
    pub fn set(&mut self, name: &[u8], value: &[u8], existed: Option<bool>) -> Result<()> {
        match (self.0.contains_key(name), existed) {
            (true, Some(false)) => return Err(EEXIST),
            (false, Some(true)) => return Err(ENODATA),
            _ => {}
        }
        if self.0.keys().map(|n| n.len() + 1).sum::<usize>() + name.len() >= LIST_LARGEST {
            return Err(ENOSPC);
        }
        self.0.insert(name.to_vec(), value.to_vec());
        Ok(())
    }
    /// Takes a value away.
    pub fn remove(&mut self, name: &[u8]) -> Result<()> {
        self.0.remove(name).map(drop).ok_or(ENODATA)
    }
}
