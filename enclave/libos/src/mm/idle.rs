//! Lookup tables of programs that wait: a cache, whose pages go when nobody looks anything up there.
//!
//! What a table holds comes back entry by entry, by misses, when the program runs again. Neighbours: `tables` brings pages
//! in, `sched` calls `look` with its timers, `budget` asks when memory is short. Invariant: while a program has table pages
//! that it may keep for too long, a look is due.
use super::Mm;
use crate::process::{Process, TaskState, with_tasks};
use crate::time::monotonic_ns;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_rt::bkl::BklCell;

/// Time between two rounds: a program that did not run in between loses its tables.
const ROUND_NS: u64 = 5_000_000_000;
/// Most programs that lose them at one look, for everybody else waits meanwhile; the others, at the next, which is soon.
const MOST: usize = 16;
const SOON_NS: u64 = 100_000_000;

/// When the next look is due, and the next round.
static NEXT: BklCell<u64> = BklCell::new(u64::MAX);
static ROUND: BklCell<u64> = BklCell::new(0);

/// A table got a page.
pub(super) fn expect_look() {
    if NEXT.get() == u64::MAX {
        ROUND.set(monotonic_ns() + ROUND_NS);
        look_at(ROUND.get());
    }
}

fn look_at(at: u64) {
    NEXT.set(at);
    crate::sched::arm_timer(at);
}

/// Takes the tables of programs that did not run between the last two rounds, nor since.
pub fn look(now: u64) {
    if now < NEXT.get() {
        return;
    }
    NEXT.set(u64::MAX);
    let is_round = now >= ROUND.get();
    let mut idle = Vec::new();
    for (mm, ran) in waiting() {
        let (before, was_idle) = mm.ran.get();
        let is_idle = before == ran && (is_round || was_idle);
        mm.ran.set((if is_round { ran } else { before }, is_idle));
        if is_idle {
            idle.push(mm);
        }
    }
    idle.iter().take(MOST).for_each(|mm| mm.drop_tables());
    if is_round {
        ROUND.set(now + ROUND_NS);
    }
    if idle.len() > MOST {
        look_at(now + SOON_NS);
    } else if Process::all().iter().any(|p| p.mm().is_some_and(|mm| mm.has_tables())) {
        look_at(ROUND.get());
    }
}

/// Takes those of all programs that have not run since the last round. Memory is short; whoever is about to go on would
/// need it again at once.
pub(super) fn give_way() {
    let idle = waiting().into_iter().filter(|(mm, ran)| mm.ran.get().0 == *ran);
    idle.for_each(|(mm, _)| mm.drop_tables());
}

/// The same when the host's mappings are scarce. Are they still?
pub(super) fn give_way_and(lacks: impl Fn() -> bool) -> bool {
    give_way();
    lacks()
}

/// Domains with tables of which no task runs or could, and how long their processes ran (ns).
fn waiting() -> Vec<(Arc<Mm>, u64)> {
    let mut busy = BTreeSet::new();
    with_tasks(|t| {
        if !matches!(t.state.get(), TaskState::Blocked | TaskState::Dead) {
            busy.insert(t.rt.slot().index());
        }
    });
    let mut found: BTreeMap<u32, (Arc<Mm>, u64)> = BTreeMap::new();
    for p in Process::all() {
        let Some(mm) = p.mm().filter(|mm| mm.has_tables() && !busy.contains(&mm.slot().index())) else {
            continue;
        };
        found.entry(mm.slot().index()).or_insert((mm, 0)).1 += p.times.get().own.cpu_ns;
    }
    found.into_values().collect()
}

impl Mm {
    fn has_tables(&self) -> bool {
        self.pieces.with(|p| p.table_pages > 0)
    }
    fn drop_tables(&self) {
        let gone = occlum_rt::code::table_release(self.slot);
        super::budget::uncharge(gone);
        self.pieces.with_mut(|p| p.take_tables(gone));
        crate::stats::add("idle_table_pages", gone);
    }
}
