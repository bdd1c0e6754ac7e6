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
use occlum_rt::code::Around;
use occlum_sfi_spec::table::Kind;

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
/// Of a table's pages, as many missing ones between two come in as well; more, where a domain has many mappings already.
const GAP: u64 = 2;
const WIDE_GAP: u64 = 8;
/// So many.
const SOME: u64 = 1 << 8;
/// Largest part of a hole that is filled to save a mapping.
const FILL_MAX: u64 = 64 << 20;
/// Behind all offsets of a slot, its shadow's included: a unit for each page of its lookup tables.
const TABLES: u64 = 1 << 40;
/// From those of the one to those of the other.
const NEXT_TABLE: u64 = 1 << 32;

static TOTAL: BklCell<u64> = BklCell::new(0);

/// Mappings of all slots.
pub fn total() -> u64 {
    TOTAL.get()
}

/// How many there may still be. Stacks stay when their tasks have ended.
fn left() -> u64 {
    MOST.saturating_sub(TOTAL.get() + STACK * crate::process::peak_tasks() as u64)
}

/// Are they still too few when free slots have given theirs back? A program fails, or ends, only then.
fn unless_given_back(lacks: impl Fn() -> bool) -> bool {
    while lacks() {
        if !super::budget::give_mappings_back() {
            return true;
        }
    }
    false
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
    /// Pages of the lookup tables.
    pub(super) table_pages: u64,
}

impl Pieces {
    pub(super) const fn new() -> Self {
        Self { starts: BTreeMap::new(), last: 0, table_pages: 0 }
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

    /// Pages of the lookup tables are there. What was made elsewhere joins nothing.
    pub(super) fn give_table(&mut self, kind: Kind, pages: Range<u64>, moved_in: bool) {
        self.table_pages += pages.end - pages.start;
        let first = TABLES + NEXT_TABLE * kind as u64;
        let r = first + pages.start..first + pages.end;
        if !moved_in {
            return self.give(r, RW);
        }
        self.last = self.last.wrapping_add(1);
        let piece = Piece::Own(self.last, MOVED_IN);
        self.set(r, |_| piece);
    }

    /// So many are gone, if not all: then which ones is not known, and none is forgotten.
    pub(super) fn take_tables(&mut self, gone: u64) {
        self.table_pages -= gone.min(self.table_pages);
        if self.table_pages == 0 {
            self.take(TABLES..u64::MAX);
        }
    }

    /// Does the host have nothing of it?
    pub(super) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// More than a program that has ended may leave behind?
    pub(super) fn are_many(&self) -> bool {
        self.starts.len() as u64 > FAIR
    }

    /// The least around `window` that makes no new piece when it gets rights: up to the nearer end of the hole where pages
    /// with the same rights begin.
    fn fill(&self, page: u64, window: &Range<u64>, rights: u32) -> Option<Range<u64>> {
        let start = self.starts.range(..=page).next_back().map_or(0, |(start, _)| *start);
        let end = self.starts.range(page + 1..).next().map_or(u64::MAX, |(start, _)| *start);
        let joins = |piece| matches!(piece, Piece::Own(_, same) if same == rights);
        let low = (start > 0 && joins(self.at(start - 1))).then_some(start..window.end.min(end));
        let high = joins(self.at(end)).then_some(window.start.max(start)..end);
        low.into_iter().chain(high).min_by_key(|r| r.end - r.start)
    }
}

impl Mm {
    /// Mappings of the host's that it takes.
    pub fn host_mappings(&self) -> u64 {
        self.pieces.with(|p| p.starts.len() as u64)
    }

    /// May there be one more domain?
    pub(super) fn admit_domain() -> Result<()> {
        let lacks = || left() < RESERVE;
        if unless_given_back(lacks) && super::idle::give_way_and(lacks) { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Does it take so many of the host's mappings that it is not to make more without need?
    pub fn mappings_are_many(&self) -> bool {
        self.host_mappings() > FAIR
    }

    /// Is it to save mappings of the host's, at the price of memory?
    pub(super) fn mappings_count(&self) -> bool {
        self.mappings_are_many() || left() < RESERVE
    }

    /// How far pages of its tables come in.
    pub(super) fn around(&self) -> Around {
        match self.host_mappings() {
            _ if self.mappings_count() => Around::Block,
            0..SOME => Around::Gap(GAP),
            _ => Around::Gap(WIDE_GAP),
        }
    }

    /// Is it to take no more of the host's mappings, `more` of which are asked for?
    pub(super) fn mappings_are_scarce(&self, more: u64) -> bool {
        unless_given_back(|| {
            let (own, left) = (self.host_mappings() + more, left().saturating_sub(more));
            left == 0 || own > FAIR && own > left
        })
    }

    /// May it take some more?
    pub(super) fn admit_mappings(&self) -> Result<()> {
        if self.mappings_are_scarce(0) { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Is it to take no more even for a fault? That ends it where a call would fail, so it gets half as many again.
    pub(super) fn mappings_have_run_out(&self) -> bool {
        let lacks = || {
            let (own, left) = (self.host_mappings(), left());
            left == 0 || own > FAIR && 2 * own > 3 * left
        };
        unless_given_back(lacks) && super::idle::give_way_and(lacks)
    }

    /// What to bring in where mappings are scarce, instead of `window`, in which `page` lies: with all up to the nearer end
    /// of its hole it joins what is there. `None`: that is too much, or cannot be joined, and it may make no mapping of its
    /// own either.
    pub(super) fn thrifty_window(
        &self,
        window: Range<u64>,
        page: u64,
        within: Range<u64>,
        rights: u32,
    ) -> Option<Range<u64>> {
        let fill = self.pieces.with(|p| p.fill(page, &window, rights));
        let fits =
            |r: &Range<u64>| within.start <= r.start && r.end <= within.end && r.end - r.start <= FILL_MAX;
        fill.filter(fits).or_else(|| (!self.mappings_have_run_out()).then_some(window))
    }
}
