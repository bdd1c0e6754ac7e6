//! Who ends when memory does, as Linux's OOM killer chooses: the largest, moved by /proc/PID/oom_score_adj.
//!
//! Neighbours: a page fault that finds no page asks for room here; what the LibOS itself lacks is `out_of_memory_victim`'s.
//! Invariant: a task waits here holding nothing, and not for ever.
use super::{Process, Task};
use crate::mm::FaultError;
use crate::sched::WaitQueue;
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_linux_abi::signo;

/// `oom_score_adj` of one that is never chosen.
pub const NEVER: i32 = -1000;
/// How long the end of a victim is waited for.
const PATIENCE_NS: u64 = 2_000_000_000;

static ENDED: WaitQueue = WaitQueue::new();

/// Pages that its end would free, moved by a thousandth of all for each point of `oom_score_adj`; `None`: never.
fn badness(p: &Process) -> Option<i64> {
    let adj = p.traits.get().oom_score_adj;
    if adj == NEVER {
        return None;
    }
    let pages = p.mm().map_or(0, |m| m.resident_pages()) as i64;
    let thousandth = (crate::mm::total() / 1000).max(1) as i64;
    Some(pages + i64::from(adj) * thousandth)
}

/// /proc/PID/oom_score: from 0 to 2000 as Linux scales it, 666 for a process without memory and adjustment.
pub fn score(p: &Process) -> u64 {
    let thousandth = (crate::mm::total() / 1000).max(1) as i64;
    badness(p).map_or(0, |b| ((1000 + b / thousandth) * 2 / 3).max(0) as u64)
}

fn victim() -> Option<Arc<Process>> {
    let mut all = Process::all();
    all.retain(|p| p.exit_status.get().is_none() && p.mm().is_some());
    if let Some(p) = all.iter().find(|p| p.exiting.get().is_some()) {
        return Some(p.clone());
    }
    let scored = all.into_iter().filter_map(|p| badness(&p).map(|b| (b, p)));
    scored.max_by_key(|(b, p)| (*b, p.start_ns)).map(|(_, p)| p)
}

/// A page fault of `t` found no page. True: there may be some now, since another process ended. False: this one has to.
pub fn make_room(t: &Arc<Task>) -> bool {
    let Some(p) = victim().filter(|p| !Arc::ptr_eq(p, &t.process)) else { return false };
    let Some(mm) = p.mm() else { return true };
    let same = |q: &Arc<Process>| q.mm().is_some_and(|m| Arc::ptr_eq(&m, &mm));
    let sharers: Vec<_> = Process::all().into_iter().filter(same).collect();
    drop(mm);
    if sharers.iter().any(|q| Arc::ptr_eq(q, &t.process)) {
        return false;
    }
    if p.exiting.get().is_none() {
        crate::syscall::report_out_of_memory(p.pid, FaultError::OutOfMemory);
    }
    for q in sharers.iter().filter(|q| q.exiting.get().is_none()) {
        crate::signal::send_process(q, signo::SIGKILL as i32, crate::signal::Info::kernel());
    }
    let until = crate::time::monotonic_ns() + PATIENCE_NS;
    let gone = || sharers.iter().all(|q| q.mm().is_none()).then_some(());
    ENDED.wait_until(Some(until), gone).is_ok()
}

/// The memory of a process is free again.
pub fn memory_freed() {
    ENDED.wake_all();
}
