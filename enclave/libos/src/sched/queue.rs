//! The run queue: real-time tasks by priority, the others by weighted run time.
//!
//! Neighbours: `sched` holds one under the BKL, `class` says what a task's policy means. Invariants: a task has at most one
//! entry that counts, the one with its ticket; entries without it are skipped. What a fair task ran is kept close to the
//! queue's clock, so nobody has more than one turn of credit or debt, however long it slept or was alone.
use super::class::{Entity, WEIGHT_0};
use crate::process::Task;
use alloc::collections::BinaryHeap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// A fair task gives way to one that ran this much less (weighted ns).
const GRANULARITY: u64 = 3_000_000;
/// Credit of a task that wakes up.
const BONUS: u64 = 2_000_000;
/// Debt that a fair task may carry, at nice 0.
const DEBT: u64 = 10_000_000;
/// What sched_yield costs a fair task.
const YIELD_COST: u64 = 1_000_000;
/// Ticks of a round of SCHED_RR: 100 ms.
pub(super) const RR_TICKS: u32 = 100;
/// Real-time tasks leave this part of each second to the others (ns), as `sched_rt_runtime_us` says in Linux.
const RT_PERIOD: u64 = 1_000_000_000;
const RT_BUDGET: u64 = 950_000_000;

/// How a task comes into the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Enter {
    /// It was woken, or is new.
    Woken,
    /// It has to leave its vCPU to another.
    Preempted,
    /// Its turn is over.
    TurnOver,
    /// It yields.
    Yields,
}

struct Entry {
    /// Real-time: the priority. Fair: weighted run time.
    key: u64,
    /// Order among equals.
    order: i64,
    ticket: u64,
    since: u64,
    task: Arc<Task>,
}

impl Entry {
    fn is_valid(&self) -> bool {
        self.task.sched.ticket.get() == self.ticket
    }
}

impl Ord for Entry {
    // The greatest of a heap is the first: reversed.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.key, other.order).cmp(&(self.key, self.order))
    }
}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Entry {}

/// Runnable tasks.
pub(super) struct RunQueue {
    rt: BinaryHeap<Entry>,
    fair: BinaryHeap<Entry>,
    /// Entries that count.
    len: usize,
    /// Those of tasks that may not run everywhere (a bound: entries are not looked for when a mask changes).
    restricted: usize,
    next_ticket: u64,
    last: i64,
    first: i64,
    /// The run time that fair tasks have reached.
    clock: u64,
    /// Real-time use: start of the second, ns in it.
    rt_use: (u64, u64),
}

/// What is first in the queue.
pub(super) struct First {
    pub(super) since: u64,
    pub(super) priority: u8,
    vruntime: u64,
    idle: bool,
}

impl RunQueue {
    pub(super) const fn new() -> Self {
        Self {
            rt: BinaryHeap::new(),
            fair: BinaryHeap::new(),
            len: 0,
            restricted: 0,
            next_ticket: 0,
            last: 0,
            first: 0,
            clock: 0,
            rt_use: (0, 0),
        }
    }
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub(super) fn len(&self) -> usize {
        self.len
    }
    /// Any vCPUs that could run what waits.
    pub(super) fn wanted(&self) -> u64 {
        if self.restricted == 0 {
            return if self.len == 0 { 0 } else { u64::MAX };
        }
        let all = self.rt.iter().chain(&self.fair).filter(|e| e.is_valid());
        all.fold(0, |mask, e| mask | e.task.sched.affinity.get())
    }
    fn order(&mut self, how: Enter) -> i64 {
        if how == Enter::Preempted {
            self.first -= 1;
            return self.first;
        }
        self.last += 1;
        self.last
    }
    /// Puts a task in, or to its new place if its priority has changed.
    pub(super) fn push(&mut self, task: &Arc<Task>, how: Enter, now: u64) {
        let e = &task.sched;
        self.next_ticket += 1;
        self.len += usize::from(e.ticket.replace(self.next_ticket) == 0);
        self.restricted += usize::from(e.affinity.get() != u64::MAX);
        let is_rt = e.is_rt();
        let order = if is_rt { self.order(how) } else { self.order(Enter::Woken) };
        let key = if is_rt { u64::from(e.priority()) } else { self.fair_key(e, how) };
        let entry = Entry { key, order, ticket: self.next_ticket, since: now, task: task.clone() };
        if is_rt { self.rt.push(entry) } else { self.fair.push(entry) }
    }
    fn fair_key(&self, e: &Entity, how: Enter) -> u64 {
        let credit = if how == Enter::Woken && e.has_bonus() { BONUS } else { 0 };
        let debt = DEBT * WEIGHT_0 / e.weight();
        let mut v = e.vruntime.get().clamp(self.clock.saturating_sub(credit), self.clock + debt);
        if how == Enter::Yields {
            v += YIELD_COST;
        }
        e.vruntime.set(v);
        v
    }
    /// Takes the first task that may run on `vcpu`.
    pub(super) fn pop(&mut self, vcpu: u32, now: u64) -> Option<Arc<Task>> {
        if self.len == 0 {
            self.rt.clear();
            self.fair.clear();
            self.restricted = 0;
            return None;
        }
        let throttled = self.is_throttled(now);
        if !throttled && let Some(t) = Self::take(&mut self.rt, vcpu) {
            self.len -= 1;
            return Some(t);
        }
        if let Some(t) = Self::take(&mut self.fair, vcpu) {
            self.len -= 1;
            self.clock = self.clock.max(t.sched.vruntime.get());
            return Some(t);
        }
        let t = throttled.then(|| Self::take(&mut self.rt, vcpu)).flatten()?;
        self.len -= 1;
        Some(t)
    }
    fn take(heap: &mut BinaryHeap<Entry>, vcpu: u32) -> Option<Arc<Task>> {
        let mut others = Vec::new();
        let found = loop {
            let Some(e) = heap.pop() else { break None };
            if !e.is_valid() {
                continue;
            }
            if e.task.sched.allows(vcpu) {
                e.task.sched.ticket.set(0);
                break Some(e.task);
            }
            others.push(e);
        };
        heap.extend(others);
        found
    }
    fn is_throttled(&self, now: u64) -> bool {
        self.rt_use.1 > RT_BUDGET && now < self.rt_use.0 + RT_PERIOD && !self.fair.is_empty()
    }
    /// Counts the time of a task.
    pub(super) fn charge(&mut self, e: &Entity, ran: u64, now: u64) {
        if !e.is_rt() {
            e.ran(ran);
            return;
        }
        if now >= self.rt_use.0 + RT_PERIOD {
            self.rt_use = (now, 0);
        }
        self.rt_use.1 += ran;
    }
    fn first_of(heap: &mut BinaryHeap<Entry>, vcpu: u32, all: bool) -> Option<First> {
        while heap.peek().is_some_and(|e| !e.is_valid()) {
            heap.pop();
        }
        let found = if all {
            heap.peek()
        } else {
            heap.iter().filter(|e| e.is_valid() && e.task.sched.allows(vcpu)).max()
        };
        found.map(|e| First {
            since: e.since,
            priority: e.task.sched.priority(),
            vruntime: e.key,
            idle: e.task.sched.is_idle(),
        })
    }
    /// What `pop` would take.
    pub(super) fn peek(&mut self, vcpu: u32, now: u64) -> Option<First> {
        if self.len == 0 {
            return None;
        }
        let all = self.restricted == 0;
        let rt = Self::first_of(&mut self.rt, vcpu, all);
        if rt.is_none() || self.is_throttled(now) {
            return Self::first_of(&mut self.fair, vcpu, all).or(rt);
        }
        rt
    }
    /// Has the running task `e` to give way to `first`, and how does it come back into the queue?
    pub(super) fn gives_way(&self, e: &Entity, first: &First, now: u64) -> Option<Enter> {
        let (mine, its) = (e.priority(), first.priority);
        if its < 100 || mine < 100 {
            if mine < 100 && its >= 100 {
                return self.is_throttled(now).then_some(Enter::Preempted);
            }
            let turn_over = its == mine && e.takes_turns() && e.round.get() >= RR_TICKS;
            return if its < mine { Some(Enter::Preempted) } else { turn_over.then_some(Enter::TurnOver) };
        }
        let idle = e.is_idle() && !first.idle;
        (idle || e.vruntime.get() > first.vruntime + GRANULARITY).then_some(Enter::TurnOver)
    }
}
