//! Long system calls let others get on.
//!
//! Kernel code is not preempted, and has the big kernel lock: a call that moves gigabytes would keep everybody out. So it
//! takes a breath now and then, which is a point where it could wait as well. Neighbours: `sched::tick` does the same for
//! programs; `rt::bkl` says who waits for the lock.
use super::{may_wait, tick};
use crate::process::current;
use crate::time::monotonic_ns;
use occlum_rt::bkl;

/// A call goes on so long before it takes a breath.
const HELD_NS: u64 = 1_000_000;

/// When a long call last let others get on.
pub struct Breath {
    since: u64,
}

impl Breath {
    /// A call begins.
    pub fn begin() -> Self {
        Self { since: monotonic_ns() }
    }

    /// Lets others get on if the call has gone on for long. The caller may hold no borrow of shared state, and what it
    /// knew of shared state before counts for nothing after. True: a signal is there, for which a call that can be cut
    /// short ends.
    pub fn take(&mut self) -> bool {
        let held = monotonic_ns().saturating_sub(self.since);
        if held < HELD_NS || !may_wait() {
            return false;
        }
        current().count_long(held);
        tick();
        if bkl::is_wanted() {
            bkl::unlock();
            bkl::lock();
        }
        self.since = monotonic_ns();
        crate::signal::has_deliverable(&current())
    }
}
