//! Free memory of the code cache: blocks of 4 to 128 KiB, halved and joined again (buddies).
//!
//! Neighbour: `cache`, which says who has which. Invariant: a block is free once, or somebody has it; two free buddies are
//! joined, so that what small blocks took comes back as large ones.
use alloc::collections::BTreeSet;
use occlum_rt::code as rtcode;

/// Sizes of blocks.
pub(super) const ORDERS: usize = 6;
const SMALLEST: usize = 4 << 10;

/// Bytes of a block.
pub(super) const fn size(order: usize) -> usize {
    SMALLEST << order
}

/// The smallest order of at least so many bytes, or the largest.
pub(super) fn order_for(bytes: usize) -> usize {
    (0..ORDERS - 1).find(|order| size(*order) >= bytes).unwrap_or(ORDERS - 1)
}

/// Free blocks by order. The largest are taken from the runtime one behind the other.
pub(super) struct Pieces {
    free: [BTreeSet<u32>; ORDERS],
    first: Option<u32>,
}

impl Pieces {
    pub(super) const fn new() -> Pieces {
        Pieces { free: [const { BTreeSet::new() }; ORDERS], first: None }
    }

    /// A block; `None`: the cache is full.
    pub(super) fn take(&mut self, order: usize) -> Option<u32> {
        if let Some(base) = self.free[order].pop_first() {
            return Some(base);
        }
        if order == ORDERS - 1 {
            let base = rtcode::alloc(size(order))?;
            self.first.get_or_insert(base);
            return Some(base);
        }
        let base = self.take(order + 1)?;
        self.free[order].insert(base + size(order) as u32);
        Some(base)
    }

    /// Takes a block back.
    pub(super) fn give(&mut self, base: u32, order: usize) {
        let Some(first) = self.first else { return };
        let (mut base, mut order) = (base, order);
        while order < ORDERS - 1 {
            let buddy = first + ((base - first) ^ size(order) as u32);
            if !self.free[order].remove(&buddy) {
                break;
            }
            base = base.min(buddy);
            order += 1;
        }
        self.free[order].insert(base);
    }
}
