//! The page budget of the enclave, the pool of free slots, and the arena of shared pages.
//!
//! Invariants: `used` counts each resident private page, each arena page and each parked page once; `used` and the
//! LibOS heap together never exceed the limit; a slot is either in `free_slots` or owned by one `Mm`.
use super::PAGE;
use super::parked::Parked;
use super::tables::{Affinity, Retained};
use alloc::vec::Vec;
use occlum_rt::bkl::BklCell;
use occlum_rt::slot::Slot;
use occlum_sfi_spec::domain;

pub(super) struct Budget {
    pub(super) used: u64,
    pub(super) limit: u64,
    pub(super) free_slots: Vec<FreeSlot>,
    pub(super) next_slot: u32,
    pub(super) arena_free: Vec<u64>,
    pub(super) arena_next: u64,
}

/// A free slot: the filled tables of the program it ran (P1), and pages for the next process of that program.
pub(super) struct FreeSlot {
    pub(super) index: u32,
    pub(super) affinity: Affinity,
    pub(super) retained: Vec<Retained>,
    pub(super) parked: Vec<Parked>,
}

/// Free slots with tables that are kept before other programs take them over.
pub(super) const SLOTS_KEPT: usize = 256;

pub(super) static BUDGET: BklCell<Budget> = BklCell::new(Budget {
    used: 0,
    limit: 0,
    free_slots: Vec::new(),
    next_slot: 0,
    arena_free: Vec::new(),
    arena_next: 0,
});

/// Sets the budget (bytes of the measured configuration).
pub fn init(memory_bytes: u64) {
    BUDGET.with_mut(|b| b.limit = memory_bytes / PAGE);
}

/// (total, free) pages of the enclave.
pub fn budget() -> (u64, u64) {
    let heap = occlum_rt::mem::heap_used() / PAGE;
    BUDGET.with(|b| (b.limit, b.limit.saturating_sub(b.used + heap)))
}

/// A free slot: the one that ran this program last, a fresh one, or the one that was freed first.
pub(super) fn take_slot(affinity: Affinity) -> Option<FreeSlot> {
    BUDGET.with_mut(|b| {
        if let Some(i) = b.free_slots.iter().rposition(|f| f.affinity == affinity) {
            return Some(b.free_slots.swap_remove(i));
        }
        if u64::from(b.next_slot) < domain::COUNT && b.free_slots.len() < SLOTS_KEPT {
            b.next_slot += 1;
            let index = b.next_slot - 1;
            return Some(FreeSlot { index, affinity, retained: Vec::new(), parked: Vec::new() });
        }
        (!b.free_slots.is_empty()).then(|| b.free_slots.remove(0))
    })
}

/// Takes pages from the budget; parked pages give way.
pub(super) fn charge(pages: u64) -> bool {
    if try_charge(pages) {
        return true;
    }
    BUDGET.with_mut(|b| b.free_slots.iter_mut().for_each(drop_parked_of(&mut b.used)));
    try_charge(pages)
}
pub(super) fn try_charge(pages: u64) -> bool {
    let heap = occlum_rt::mem::heap_used() / PAGE;
    BUDGET.with_mut(|b| {
        if b.used + heap + pages > b.limit {
            return false;
        }
        b.used += pages;
        true
    })
}
/// Drops the parked pages of a slot.
pub(super) fn drop_parked(f: &mut FreeSlot) {
    let mut pages = 0;
    drop_parked_of(&mut pages)(f);
    uncharge(pages.wrapping_neg());
}
/// The same, giving the pages back to `used`.
pub(super) fn drop_parked_of(used: &mut u64) -> impl FnMut(&mut FreeSlot) {
    |f| {
        for p in f.parked.drain(..) {
            let len = p.range.end - p.range.start;
            let _ = Slot::new(f.index).protect(p.range.start, len, 0, false, true);
            *used = used.wrapping_sub(len / PAGE);
        }
    }
}
pub(super) fn uncharge(pages: u64) {
    BUDGET.with_mut(|b| b.used = b.used.saturating_sub(pages));
}

pub(super) fn arena_alloc() -> Option<u64> {
    if !charge(1) {
        return None;
    }
    Some(BUDGET.with_mut(|b| {
        b.arena_free.pop().unwrap_or_else(|| {
            let at = b.arena_next;
            b.arena_next += PAGE;
            at
        })
    }))
}
