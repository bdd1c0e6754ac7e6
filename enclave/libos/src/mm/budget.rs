//! The page budget of the enclave, the pool of free slots, and the arena of shared pages.
//!
//! `rt::mem` counts: charges and the LibOS heap together never exceed the limit, and charges leave the heap a reserve.
//! Invariants: each resident private page, each arena page in use and each parked page is charged once; a slot is either
//! in `free_slots` or owned by one `Mm`; what a guest can make the LibOS keep asks `admit` first, so that allocations
//! that cannot fail find room.
use super::PAGE;
use super::parked::Parked;
use super::pieces::Pieces;
use super::tables::{Affinity, Retained};
use crate::errno::{Errno, Result};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::ops::Range;
use occlum_rt::bkl::BklCell;
use occlum_rt::mem;
use occlum_rt::slot::Slot;
use occlum_sfi_spec::domain;

pub(super) struct Budget {
    pub(super) free_slots: Vec<FreeSlot>,
    pub(super) next_slot: u32,
    /// Lowest first: neighbours in an object are neighbours in the arena, and one mapping of the host's.
    pub(super) arena_free: BTreeSet<u64>,
    pub(super) arena_next: u64,
    /// The host has refused to take an arena page out of a slot: which are still seen there is not known, so none of them
    /// is used again.
    pub(super) arena_lost: bool,
}

/// A free slot: the filled tables of the program it ran (P1), and pages for the next process of that program.
pub(super) struct FreeSlot {
    pub(super) index: u32,
    pub(super) affinity: Affinity,
    pub(super) retained: Vec<Retained>,
    pub(super) parked: Vec<Parked>,
    pub(super) pieces: Pieces,
}

/// Free slots with tables that are kept before other programs take them over.
pub(super) const SLOTS_KEPT: usize = 256;

pub(super) static BUDGET: BklCell<Budget> = BklCell::new(Budget {
    free_slots: Vec::new(),
    next_slot: 0,
    arena_free: BTreeSet::new(),
    arena_next: 0,
    arena_lost: false,
});

/// Pages of the enclave.
pub fn total() -> u64 {
    mem::heap_limit() / PAGE
}

/// Pages that programs could have: free ones, and those that are only kept.
pub fn available() -> u64 {
    mem::charge_room() / PAGE + parked()
}
fn parked() -> u64 {
    let of = |f: &FreeSlot| f.parked.iter().map(Parked::pages).sum::<u64>() + f.pieces.table_pages;
    BUDGET.with(|b| b.free_slots.iter().map(of).sum())
}
/// Pages that programs have.
pub fn taken() -> u64 {
    mem::charged() / PAGE - parked()
}

/// (slots, arena pages) in use.
pub fn in_use() -> (u64, u64) {
    BUDGET.with(|b| {
        let slots = u64::from(b.next_slot) - b.free_slots.len() as u64;
        (slots, b.arena_next / PAGE - b.arena_free.len() as u64)
    })
}

/// May the LibOS keep `bytes` more for a guest? Leaves room for what cannot fail.
pub fn admit(bytes: u64) -> Result<()> {
    room(bytes.saturating_add(2 << 20), bytes.max(256 << 10))
}

/// Is there room for the little that a program needs to go on at all? More than what others are admitted to.
pub fn admit_last() -> Result<()> {
    room(5 << 18, 160 << 10)
}

fn room(bytes: u64, piece: u64) -> Result<()> {
    if mem::heap_has(bytes, piece) {
        return Ok(());
    }
    give_way();
    if mem::heap_has(bytes, piece) { Ok(()) } else { Err(Errno::ENOMEM) }
}

/// Frees what is only kept because it may be of use again.
pub fn give_way() {
    empty_free_slots(u64::MAX);
    super::idle::give_way();
    crate::fs::reclaim();
    crate::cfi::reclaim();
    mem::trim();
}

/// Gives back what free slots keep, of those that were freed first, until the host has so many mappings less.
fn empty_free_slots(mappings: u64) {
    let before = super::pieces::total();
    let mut slots = BUDGET.with_mut(|b| core::mem::take(&mut b.free_slots));
    for f in &mut slots {
        if before.saturating_sub(super::pieces::total()) >= mappings {
            break;
        }
        drop_parked(f);
        drop_tables(f);
    }
    BUDGET.with_mut(|b| b.free_slots = slots);
}

/// The host's mappings are scarce: some that nobody needs go. False: there are none.
pub(super) fn give_mappings_back() -> bool {
    /// So many at once: finding out that they are scarce again costs more.
    const AT_ONCE: u64 = 4 << 10;
    let before = super::pieces::total();
    if BUDGET.with(|b| b.free_slots.iter().any(|f| !f.pieces.is_empty())) {
        empty_free_slots(AT_ONCE);
    }
    super::pieces::total() < before
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
            let (retained, parked, pieces) = (Vec::new(), Vec::new(), Pieces::new());
            return Some(FreeSlot { index, affinity, retained, parked, pieces });
        }
        (!b.free_slots.is_empty()).then(|| b.free_slots.remove(0))
    })
}

/// Takes pages from the budget; what is kept for later gives way.
pub(super) fn charge(pages: u64) -> bool {
    if mem::charge(pages * PAGE) {
        return true;
    }
    give_way();
    mem::charge(pages * PAGE)
}
pub(super) fn uncharge(pages: u64) {
    mem::uncharge(pages * PAGE);
}
/// Drops the parked pages of a slot, but those that the host does not take.
pub(super) fn drop_parked(f: &mut FreeSlot) {
    let slot = Slot::new(f.index);
    let pieces = &mut f.pieces;
    f.parked.retain(|p| {
        let len = p.range.end - p.range.start;
        let refused = slot.protect(p.range.start, len, 0, false, true).is_err();
        if !refused {
            uncharge(len / PAGE);
            pieces.take(p.range.clone());
        }
        refused
    });
}

/// Gives the pages of a free slot's lookup tables back, but those that the host does not take.
pub(super) fn drop_tables(f: &mut FreeSlot) {
    f.retained.clear();
    let gone = occlum_rt::code::table_release(Slot::new(f.index));
    uncharge(gone);
    f.pieces.take_tables(gone);
}

/// Up to `most` arena pages side by side; none if there is no room.
pub(super) fn arena_alloc(most: u64) -> Range<u64> {
    let pages = if charge(most) { most } else { u64::from(charge(1)) };
    if pages == 0 {
        return 0..0;
    }
    let found = BUDGET.with_mut(|b| {
        let start = b.arena_free.first().copied().unwrap_or(b.arena_next);
        let mut end = start;
        while end < start + pages * PAGE && (b.arena_free.remove(&end) || end == b.arena_next) {
            end += PAGE;
            b.arena_next = b.arena_next.max(end);
        }
        start..end
    });
    uncharge(pages - (found.end - found.start) / PAGE);
    found
}

/// Arena pages that no mapping shows any more.
pub(super) fn arena_free(pages: impl Iterator<Item = u64>) {
    BUDGET.with_mut(|b| {
        if !b.arena_lost {
            uncharge(pages.map(|at| b.arena_free.insert(at)).count() as u64);
        }
    });
}
