//! Who ends when memory does, as Linux's OOM killer chooses: the largest, moved by /proc/PID/oom_score_adj.
//!
//! Neighbours: a page fault that finds no page asks for room here, and a system call that would begin with too little of the
//! LibOS's own memory.
//! Invariant: a task waits here holding nothing, and not for ever.
use super::{Process, Task};
use crate::errno::Errno;
use crate::mm::FaultError;
use crate::sched::WaitQueue;
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_linux_abi::signo;

/// `oom_score_adj` of one that is never chosen.
pub const NEVER: i32 = -1000;
/// How long the end of a victim is waited for. It takes its time where many wait for a vCPU; but one that does not end must
/// not be what keeps all others from being chosen.
const PATIENCE_NS: u64 = 20_000_000_000;
/// What of the LibOS's memory a process has to keep before the first process is ended for it, in `heap_weight`'s units.
const WORTH_ALL: i64 = 16;

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

/// The host's mappings that its end would free, of which `oom_score_adj` says only whether it may be chosen.
fn pieces(p: &Process) -> Option<i64> {
    let pieces = p.mm().map_or(0, |m| m.host_mappings()) as i64;
    (p.traits.get().oom_score_adj != NEVER).then_some(pieces)
}

/// About how much the LibOS keeps for it, by 64 KiB.
fn heap_weight(p: &Process) -> Option<i64> {
    Some(p.kept_objects() as i64 / 256)
}

/// Is it about to end?
fn is_ending(p: &Process) -> bool {
    p.exiting.get().is_some() || p.pending.with(|q| q.set() & crate::signal::bit(signo::SIGKILL as i32) != 0)
}
/// The same, and worth waiting for: not for long yet.
fn ends_soon(p: &Process) -> bool {
    let now = crate::time::monotonic_ns();
    is_ending(p) && now < p.awaited_since.with_mut(|since| *since.get_or_insert(now)) + PATIENCE_NS
}

/// One that is ending already, else the one that weighs most, the youngest of equals; the first process, with which all
/// others end, only where no other may be chosen.
fn victim(weight: fn(&Process) -> Option<i64>) -> Option<Arc<Process>> {
    let mut all = Process::all();
    all.retain(|p| p.exit_status.get().is_none() && p.mm().is_some());
    if let Some(p) = all.iter().find(|p| ends_soon(p)) {
        return Some(p.clone());
    }
    let weighed = all.into_iter().filter(|p| !is_ending(p)).filter_map(|p| weight(&p).map(|w| (w, p)));
    weighed.max_by_key(|(w, p)| (p.pid != 1, *w, p.start_ns)).map(|(_, p)| p)
}

/// Is it the one that has to end for want of memory?
pub fn is_next(p: &Arc<Process>) -> bool {
    victim(badness).is_some_and(|v| Arc::ptr_eq(&v, p))
}

/// A page fault of `t` failed, and nothing can be given back any more. True: there may be room now, since another process
/// ended (or a signal goes first, and comes back to the access). False: this one has to end, or memory is not what lacks.
pub fn make_room(t: &Arc<Task>, why: FaultError) -> bool {
    match why {
        FaultError::OutOfMemory => end_another(t, badness, why),
        // Who has more than its share may not ask others to make room for more.
        FaultError::Mappings if !crate::process::current_mm().mappings_are_many() => {
            end_another(t, pieces, why)
        }
        _ => false,
    }
}

fn end_another(t: &Arc<Task>, weight: fn(&Process) -> Option<i64>, why: FaultError) -> bool {
    let Some(p) = victim(weight).filter(|p| !Arc::ptr_eq(p, &t.process)) else { return false };
    let Some(mm) = p.mm() else { return true };
    let same = |q: &Arc<Process>| q.mm().is_some_and(|m| Arc::ptr_eq(&m, &mm));
    let sharers: Vec<_> = Process::all().into_iter().filter(same).collect();
    drop(mm);
    if sharers.iter().any(|q| Arc::ptr_eq(q, &t.process)) {
        return false;
    }
    end(&p, &sharers, why);
    ENDED.wait_until(patience(), || sharers.iter().all(|q| q.mm().is_none()).then_some(()))
        != Err(Errno::ETIMEDOUT)
}

fn patience() -> Option<u64> {
    Some(crate::time::monotonic_ns() + PATIENCE_NS)
}

/// Ends the victim, with those that share its memory.
fn end(p: &Arc<Process>, sharers: &[Arc<Process>], why: FaultError) {
    if !is_ending(p) {
        crate::syscall::report_out_of_memory(p.pid, why);
    }
    for q in sharers.iter().filter(|q| q.exiting.get().is_none()) {
        crate::signal::send_process(q, signo::SIGKILL as i32, crate::signal::Info::kernel());
    }
}

/// What becomes of a task that finds too little of the LibOS's own memory.
pub enum Heap {
    /// There may be more now.
    Changed,
    /// The task is to end, for this or for another reason.
    Ends,
    /// There is nobody whose end would free any.
    Hopeless,
}

/// The LibOS's own memory is nearly used up, and nothing can be given back any more: who seems to keep most of it ends.
pub fn make_heap_room(t: &Arc<Task>) -> Heap {
    let worth = |p: &Arc<Process>| p.pid != 1 || is_ending(p) || heap_weight(p) >= Some(WORTH_ALL);
    let Some(p) = victim(heap_weight).filter(worth) else { return Heap::Hopeless };
    if Arc::ptr_eq(&p, &t.process) {
        if !is_ending(&p) {
            crate::syscall::kill_for_memory(t);
        }
        return Heap::Ends;
    }
    end(&p, core::slice::from_ref(&p), FaultError::HeapFull);
    match ENDED.wait_killable(patience(), || p.exit_status.get().map(|_| ())) {
        Err(Errno::EINTR) => Heap::Ends,
        _ => Heap::Changed,
    }
}

/// The memory of a process is free again.
pub fn memory_freed() {
    ENDED.wake_all();
}
