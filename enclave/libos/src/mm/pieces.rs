//! How many mappings of the host's a slot takes. In simulation the slots of all processes share those of one host process,
//! of which Linux allows 65,530: whoever used them up would take memory away from everybody.
//!
//! Each change of rights in a slot is noted here, so that the count is at least what the host needs: pages that came
//! apart stay apart for it (their anon_vma differs), though they become neighbours with equal rights. Neighbours: `fault`
//! fills holes where mappings are scarce, `map` and `fork` refuse.
//! Invariant: `TOTAL` is the sum of all slots' counts, of used ones and free ones.
use super::Mm;
use crate::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use core::ops::Range;
use occlum_rt::bkl::BklCell;

/// Most mappings of all slots and stacks; the rest of the host's limit is for the heap and the host's own.
const MOST: u64 = 60_000;
/// Programs are not begun where fewer are left: those that run go on to touch their memory.
const RESERVE: u64 = 8 << 10;
/// A task's stack and the guard below it.
const STACK: u64 = 2;
/// Rights, as `rt::slot` gives them.
const RW: u32 = 3;
/// Of what joins nothing.
const MOVED_IN: u32 = 8;
/// So many a domain may have as long as there are any. More, only while as many are left for others.
const FAIR: u64 = 1 << 10;
/// Behind all offsets of a slot, its shadow's included: chunks of its lookup tables, a page for each.
const TABLES: u64 = 1 << 40;

static TOTAL: BklCell<u64> = BklCell::new(0);

/// Mappings of all slots.
pub fn total() -> u64 {
    TOTAL.get()
}

/// How many there may still be. Stacks stay when their tasks have ended.
fn left() -> u64 {
    MOST.saturating_sub(TOTAL.get() + STACK * crate::process::peak_tasks() as u64)
}

/// What the host keeps apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Nothing,
    /// Pages that came together, or next to each other, with their rights.
    Own(u32, u32),
    /// Pages of the arena at the same distance from it.
    Arena(u64, u32),
}

/// The pieces of one slot.
pub(super) struct Pieces {
    /// Where a piece begins, up to the next.
    starts: BTreeMap<u64, Piece>,
    /// Number of the last that came by itself.
    last: u32,
    /// Chunks of the lookup tables.
    pub(super) chunks: u64,
}

impl Pieces {
    pub(super) const fn new() -> Self {
        Self { starts: BTreeMap::new(), last: 0, chunks: 0 }
    }

    fn at(&self, off: u64) -> Piece {
        self.starts.range(..=off).next_back().map_or(Piece::Nothing, |(_, p)| *p)
    }

    /// Every piece in the range becomes what `change` makes of it.
    fn set(&mut self, r: Range<u64>, change: impl Fn(Piece) -> Piece) {
        let before = self.starts.len();
        for cut in [r.start, r.end] {
            let piece = self.at(cut);
            self.starts.entry(cut).or_insert(piece);
        }
        self.starts.range_mut(r.clone()).for_each(|(_, p)| *p = change(*p));
        let mut last = r.start.checked_sub(1).map_or(Piece::Nothing, |off| self.at(off));
        let mut same = alloc::vec::Vec::new();
        for (start, piece) in self.starts.range(r.start..=r.end) {
            if *piece == last {
                same.push(*start);
            }
            last = *piece;
        }
        same.iter().for_each(|start| {
            self.starts.remove(start);
        });
        TOTAL.set((TOTAL.get() + self.starts.len() as u64).saturating_sub(before as u64));
    }

    /// Pages get rights; those that had nothing join a neighbour with the same rights.
    pub(super) fn give(&mut self, r: Range<u64>, rights: u32) {
        let left = r.start.checked_sub(1).map_or(Piece::Nothing, |off| self.at(off));
        let beside = [left, self.at(r.end)];
        let joined = beside.into_iter().find(|p| matches!(p, Piece::Own(_, same) if *same == rights));
        self.last = self.last.wrapping_add(1);
        let fresh = joined.unwrap_or(Piece::Own(self.last, rights));
        self.set(r, |p| match p {
            Piece::Nothing if rights == 0 => p,
            Piece::Nothing => fresh,
            Piece::Own(id, _) => Piece::Own(id, rights),
            Piece::Arena(from, _) => Piece::Arena(from, rights),
        });
    }

    /// Pages go, content and rights.
    pub(super) fn take(&mut self, r: Range<u64>) {
        self.set(r, |_| Piece::Nothing);
    }

    /// A page shows one of the arena.
    pub(super) fn show(&mut self, page: Range<u64>, arena: u64, rights: u32) {
        let piece = Piece::Arena(arena.wrapping_sub(page.start), rights);
        self.set(page, |_| piece);
    }

    /// A chunk of the lookup tables is there. What was made elsewhere joins nothing.
    pub(super) fn give_chunk(&mut self, chunk: u64, moved_in: bool) {
        self.chunks += 1;
        let r = TABLES + chunk..TABLES + chunk + 1;
        if !moved_in {
            return self.give(r, RW);
        }
        self.last = self.last.wrapping_add(1);
        let piece = Piece::Own(self.last, MOVED_IN);
        self.set(r, |_| piece);
    }

    /// So many are gone, if not all: then which ones is not known, and none is forgotten.
    pub(super) fn take_chunks(&mut self, gone: u64) {
        self.chunks -= gone.min(self.chunks);
        if self.chunks == 0 {
            self.take(TABLES..u64::MAX);
        }
    }

    /// More than a program that has ended may leave behind?
    pub(super) fn are_many(&self) -> bool {
        self.starts.len() as u64 > FAIR
    }

    /// The hole that `off` lies in.
    fn hole(&self, off: u64) -> Range<u64> {
        let start = self.starts.range(..=off).next_back().map_or(0, |(start, _)| *start);
        let end = self.starts.range(off + 1..).next().map_or(u64::MAX, |(start, _)| *start);
        start..end
    }
}

impl Mm {
    /// Mappings of the host's that it takes.
    pub fn host_mappings(&self) -> u64 {
        self.pieces.with(|p| p.starts.len() as u64)
    }

    /// May there be one more domain?
    pub(super) fn admit_domain() -> Result<()> {
        if left() < RESERVE {
            super::give_way();
        }
        if left() < RESERVE { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Does it take so many of the host's mappings that it is not to make more without need?
    pub(super) fn mappings_are_many(&self) -> bool {
        self.host_mappings() > FAIR
    }

    /// Is it to take no more of the host's mappings, `more` of which are asked for?
    pub(super) fn mappings_are_scarce(&self, more: u64) -> bool {
        let (own, left) = (self.host_mappings() + more, left().saturating_sub(more));
        left == 0 || own > FAIR && own > left
    }

    /// May it take some more?
    pub(super) fn admit_mappings(&self) -> Result<()> {
        if self.mappings_are_scarce(0) { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// The pages around `page` that have nothing: brought in with it, they make no new mapping.
    pub(super) fn hole_around(&self, page: u64, within: Range<u64>) -> Range<u64> {
        let hole = self.pieces.with(|p| p.hole(page));
        hole.start.max(within.start)..hole.end.min(within.end)
    }
}
