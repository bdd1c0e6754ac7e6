//! Layer 3: which blocks of the device are in use. All of the bitmap is in memory (32 KiB for each GiB); the copy
//! on the device lists what the checkpoint's map refers to, and nothing else.
//!
//! Invariant: a block that was given up stays in use until a checkpoint without it is durable.
use crate::device::BLOCK;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Blocks that one block of the bitmap covers.
pub(crate) const PER_BLOCK: u64 = 8 * BLOCK as u64;

pub(crate) struct Space {
    bits: Vec<u64>,
    total: u64,
    free: u64,
    cursor: u64,
    /// Given up since the last checkpoint.
    pub(crate) deferred: Vec<u32>,
    /// Blocks of the bitmap that changed since the last checkpoint.
    pub(crate) dirty: BTreeSet<u32>,
    /// Blocks that hold the bitmap and its tree: not listed in the bitmap.
    pub(crate) own: BTreeSet<u32>,
}

impl Space {
    /// Everything is free.
    pub(crate) fn new(total: u64) -> Self {
        let mut space = Self {
            bits: Vec::new(),
            total: 0,
            free: 0,
            cursor: 0,
            deferred: Vec::new(),
            dirty: BTreeSet::new(),
            own: BTreeSet::new(),
        };
        space.grow(total);
        space
    }
    pub(crate) fn grow(&mut self, total: u64) {
        self.bits.resize(total.div_ceil(64) as usize, 0);
        self.free += total.saturating_sub(self.total);
        self.total = total;
    }
    pub(crate) fn free(&self) -> u64 {
        self.free
    }
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
    /// Blocks of the bitmap.
    pub(crate) fn bitmap_blocks(&self) -> u32 {
        self.total.div_ceil(PER_BLOCK) as u32
    }

    fn bit(&mut self, block: u64) -> Option<(&mut u64, u64)> {
        if block >= self.total {
            return None;
        }
        self.bits.get_mut((block / 64) as usize).map(|word| (word, 1 << (block % 64)))
    }
    /// Marks a block as used; false if it was, or is beyond the device.
    pub(crate) fn take(&mut self, block: u64) -> bool {
        match self.bit(block) {
            Some((word, mask)) if *word & mask == 0 => {
                *word |= mask;
                self.free -= 1;
                true
            }
            _ => false,
        }
    }
    /// Marks a block as free: no durable state may refer to it.
    pub(crate) fn release(&mut self, block: u32) {
        if let Some((word, mask)) = self.bit(u64::from(block))
            && *word & mask != 0
        {
            *word &= !mask;
            self.free += 1;
        }
    }
    /// The next free block, preferably behind the last one.
    pub(crate) fn allocate(&mut self) -> Option<u32> {
        if self.free == 0 {
            return None;
        }
        let words = self.bits.len();
        let first = (self.cursor / 64) as usize;
        for i in 0..=words {
            let at = (first + i) % words;
            let mut word = !self.bits[at];
            if i == 0 {
                word &= u64::MAX << (self.cursor % 64);
            }
            let block = at as u64 * 64 + u64::from(word.trailing_zeros());
            if word != 0 && block < self.total {
                self.take(block);
                self.cursor = if block + 1 < self.total { block + 1 } else { 0 };
                return Some(block as u32);
            }
        }
        None
    }
    /// Notes that the durable bitmap must say something else about a block.
    pub(crate) fn touch(&mut self, block: u32) {
        self.dirty.insert((u64::from(block) / PER_BLOCK) as u32);
    }

    /// Block `index` of the bitmap without the blocks that `leave_out` names.
    pub(crate) fn image(&self, index: u32, leave_out: &[&BTreeSet<u32>]) -> Vec<u8> {
        let first = u64::from(index) * PER_BLOCK;
        let words = self.bits.iter().skip((first / 64) as usize).take(BLOCK / 8);
        let mut image: Vec<u8> = words.flat_map(|w| w.to_le_bytes()).collect();
        image.resize(BLOCK, 0);
        let range = first as u32..=(first + PER_BLOCK - 1).min(u64::from(u32::MAX)) as u32;
        for block in leave_out.iter().flat_map(|set| set.range(range.clone())) {
            let bit = u64::from(*block) - first;
            image[(bit / 8) as usize] &= !(1 << (bit % 8));
        }
        image
    }
    /// Takes over block `index` of the bitmap.
    pub(crate) fn restore(&mut self, index: u32, image: &[u8]) {
        let first = u64::from(index) * PER_BLOCK;
        for (i, byte) in image.iter().enumerate().filter(|(_, b)| **b != 0) {
            for bit in (0..8).filter(|bit| byte & 1 << bit != 0) {
                self.take(first + i as u64 * 8 + bit);
            }
        }
    }
    /// Frees what was given up before the checkpoint that is now durable.
    pub(crate) fn settle(&mut self) {
        for block in core::mem::take(&mut self.deferred) {
            self.release(block);
        }
    }
}
