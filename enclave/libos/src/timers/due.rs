//! When the timers of all processes are due: one table, by time.
//!
//! Neighbours: `timers` and `posix` keep an `Alarm` for each thing that is to be looked at, `sched` looks at the clock.
//! Invariants: an entry is there exactly as long as its `Alarm` is set, unless it has been taken; the scheduler looks no
//! later than at the first entry, but for the one that looks just now; what there is to do costs only those it is for.
use alloc::collections::BTreeSet;
use occlum_rt::bkl::BklCell;

/// What is to be looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// ITIMER_REAL.
    Real,
    /// CPU timers and the CPU limit.
    Cpu,
    /// A POSIX timer, by its id.
    Posix(i32),
}

/// Time (CLOCK_MONOTONIC ns), process, what of it.
type Key = (u64, i32, What);

static DUE: BklCell<BTreeSet<Key>> = BklCell::new(BTreeSet::new());
/// When the scheduler looks next.
static LOOK: BklCell<u64> = BklCell::new(u64::MAX);

/// A time at which something is to be looked at, or none.
#[derive(Default)]
pub(super) struct Alarm(Option<Key>);

impl Alarm {
    /// Sets it to `at` (0: never).
    pub(super) fn set(&mut self, at: u64, pid: i32, what: What) {
        self.clear();
        if at == 0 {
            return;
        }
        DUE.with_mut(|d| d.insert((at, pid, what)));
        self.0 = Some((at, pid, what));
        look_by(at);
    }
    /// Sets it to never.
    pub(super) fn clear(&mut self) {
        if let Some(key) = self.0.take() {
            DUE.with_mut(|d| d.remove(&key));
        }
    }
    /// Is it set, or was it when its time came?
    pub(super) fn is_set(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Has a look come due by `now`? Whoever is told so takes what is due and then says `look_again`.
pub(super) fn is_time(now: u64) -> bool {
    LOOK.get() <= now
}

/// Takes the first entry that is due by `now`: of which process, and what.
pub(super) fn take(now: u64) -> Option<(i32, What)> {
    DUE.with_mut(|d| match d.first() {
        Some((at, ..)) if *at <= now => d.pop_first().map(|(_, pid, what)| (pid, what)),
        _ => None,
    })
}

/// The look is over: the next one is for the first entry.
pub(super) fn look_again() {
    crate::sched::move_look(LOOK.replace(u64::MAX), u64::MAX);
    if let Some(at) = DUE.with(|d| d.first().map(|(at, ..)| *at)) {
        look_by(at);
    }
}

fn look_by(at: u64) {
    let before = LOOK.get();
    if at < before {
        LOOK.set(at);
        crate::sched::move_look(before, at);
    }
}
