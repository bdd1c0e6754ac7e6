//! What of IPC ends with no process, counted for its user: messages, semaphores and their like.
//!
//! Nobody's end frees it, so it must not be what memory ends by: a user may keep a sixteenth of the enclave's memory in it,
//! all together an eighth.
use super::*;
use alloc::collections::BTreeMap;

static BY_USER: BklCell<BTreeMap<u32, u64>> = BklCell::new(BTreeMap::new());

/// So many bytes count for the user as long as this is there.
pub struct Kept {
    uid: u32,
    bytes: u64,
}

impl Kept {
    /// `None`: the user, or all, would keep too much.
    pub fn take(bytes: u64) -> Option<Self> {
        let memory = crate::mm::total() * crate::mm::PAGE;
        let uid = crate::process::cred().uid;
        BY_USER.with_mut(|b| {
            let (own, all) = (b.get(&uid).copied().unwrap_or(0), b.values().sum::<u64>());
            if own + bytes > memory / 16 || all + bytes > memory / 8 {
                return None;
            }
            b.insert(uid, own + bytes);
            Some(Self { uid, bytes })
        })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        BY_USER.with_mut(|b| {
            let left = b.get(&self.uid).copied().unwrap_or(0).saturating_sub(self.bytes);
            if left == 0 {
                b.remove(&self.uid);
            } else {
                b.insert(self.uid, left);
            }
        });
    }
}
