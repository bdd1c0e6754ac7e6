//! The pages of a domain's shadow words (`rt::shadow`): brought in where a call first needs them, copied at fork, dropped
//! with the stack memory that they shadow.
//!
//! Invariants: a page is there exactly if its chunk is in `Mm::shadow`; each is charged to the budget once; nothing of it
//! outlives the domain, or the mapping that it shadows.
use super::budget::{charge, uncharge};
use super::{FaultError, Mm, PAGE};
use crate::errno::{Errno, Result};
use alloc::vec::Vec;
use core::ops::Range;
use occlum_rt::shadow;
use occlum_sfi_spec::shadow::{DISTANCE, END, START};

/// Bytes brought in at once: a fault costs as much as some pages.
const CHUNK: u64 = 4 * PAGE;

/// The chunk as a range, counted from the slot's base.
fn range(chunk: u64) -> Range<u64> {
    (chunk * CHUNK).max(START)..((chunk + 1) * CHUNK).min(END)
}

fn page_count(r: &Range<u64>) -> u64 {
    (r.end - r.start) / PAGE
}

impl Mm {
    /// Makes the shadow word at `at` (from the slot's base) accessible, with some around it.
    pub fn commit_shadow(&self, at: u64) -> core::result::Result<(), FaultError> {
        let chunk = at / CHUNK;
        let r = range(chunk);
        if self.shadow.with(|s| s.contains(&chunk)) || r.is_empty() {
            return Ok(());
        }
        let pages = page_count(&r);
        if self.mappings_have_run_out() {
            return Err(FaultError::Mappings);
        }
        if !charge(pages) {
            return Err(FaultError::OutOfMemory);
        }
        if !shadow::commit(self.slot, r.clone()) {
            shadow::release(self.slot, r);
            uncharge(pages);
            return Err(FaultError::OutOfMemory);
        }
        self.shadow.with_mut(|s| s.insert(chunk));
        self.pieces.with_mut(|p| p.give(r, 3));
        crate::stats::add("shadow_pages", pages);
        Ok(())
    }

    /// Writes the shadow word of the stack word at `off`.
    pub fn set_shadow_word(&self, off: u32, word: u64) -> Result<()> {
        if !shadow::store(self.slot, off, word) {
            for at in [0, 7] {
                self.commit_shadow(u64::from(off) + DISTANCE + at).map_err(FaultError::errno)?;
            }
            if !shadow::store(self.slot, off, word) {
                return Err(Errno::EFAULT);
            }
        }
        Ok(())
    }

    /// The shadow words of a range of memory that goes away.
    pub(super) fn forget_shadow(&self, r: &Range<u64>) {
        let r = shadow::range_of(r);
        let hit: Vec<u64> = self.shadow.with(|s| s.range(r.start / CHUNK..=r.end / CHUNK).copied().collect());
        for chunk in hit {
            let c = range(chunk);
            if r.start <= c.start && c.end <= r.end {
                self.drop_chunk(chunk);
            } else {
                let part = r.start.max(c.start)..r.end.min(c.end);
                if !part.is_empty() {
                    shadow::zero(self.slot, part);
                }
            }
        }
    }

    fn drop_chunk(&self, chunk: u64) {
        let r = range(chunk);
        let pages = page_count(&r);
        shadow::release(self.slot, r.clone());
        self.pieces.with_mut(|p| p.take(r));
        self.shadow.with_mut(|s| s.remove(&chunk));
        uncharge(pages);
    }

    /// All of them, at the domain's end.
    pub(super) fn drop_shadow(&self) {
        while let Some(chunk) = self.shadow.with(|s| s.first().copied()) {
            self.drop_chunk(chunk);
        }
    }

    /// fork: the child has the same words.
    pub(super) fn copy_shadow(&self, child: &Mm) -> Result<()> {
        let mut from = 0;
        while let Some(chunk) = self.shadow.with(|s| s.range(from..).next().copied()) {
            let r = range(chunk);
            child.commit_shadow(r.start).map_err(FaultError::errno)?;
            shadow::copy(self.slot, child.slot, r);
            from = chunk + 1;
        }
        Ok(())
    }
}
