//! The scheduler: one run queue under the BKL, wait queues, timers, idle vCPUs.
//!
//! Neighbours: `queue` orders what is runnable, by what `class` says of a task; `rt::task::switch` does the switch;
//! `process` owns the tasks. Invariants: a task is in the run queue at most once and only in state `Runnable`; kernel code
//! is never preempted, it yields (S6, S7); a task waits only while each vCPU that may run it is busy with one that goes
//! first, and that vCPU ticks or will look into the queue on its way to the guest.
mod breath;
pub mod class;
pub mod later;
mod load;
mod queue;

pub use breath::Breath;
pub use load::ONE as LOAD_ONE;

use crate::errno::{Errno, Result};
use crate::process::{EndedBy, Task, TaskState, current, try_current};
use crate::signal::owner::Band;
use crate::time::monotonic_ns;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use load::Load;
use occlum_enclave_abi::{HostEvents, Ocall};
use occlum_rt::bkl::{self, BklCell};
use occlum_rt::mem::TryGrow;
use queue::{Enter, RunQueue};

/// Length of a tick while somebody waits.
const TICK_NS: u64 = 1_000_000;
/// `Sched::running` of an idle vCPU: anything goes before it.
const NOBODY: u8 = u8::MAX;
/// vCPUs that the masks of this module can hold.
const VCPUS: usize = u64::BITS as usize;
/// An entry that waited longer than this when a task leaves the kernel is worth waking an idle vCPU.
const WAKE_AFTER_NS: u64 = 60_000;
/// Queues, and watchers of one, that are seen to before others may get on.
const PIECE: usize = 256;

/// What happens at a time.
enum Alarm {
    /// A task is woken.
    Task(Arc<Task>),
    /// A queue is.
    Queue(Weak<WaitQueue>),
    /// `timers` looks at the clock.
    Look,
}
/// Alarms that are no task's have numbers from here on; `timers` has the one before.
const ALARMS: u64 = 1 << 32;
const LOOK: u64 = ALARMS - 1;

struct Sched {
    queue: RunQueue,
    /// Priority of what each vCPU runs.
    running: [u8; VCPUS],
    /// By time, and by a number that keeps those of one time apart: a task's, or `alarm_id`.
    timers: BTreeMap<(u64, u64), Alarm>,
    idle: u64,
    /// Until when each idle vCPU waits.
    idle_until: [u64; VCPUS],
    ticking: u64,
    dead: Vec<Arc<Task>>,
    load: Load,
}

static SCHED: BklCell<Sched> = BklCell::new(Sched {
    queue: RunQueue::new(),
    running: [NOBODY; VCPUS],
    timers: BTreeMap::new(),
    idle: 0,
    idle_until: [u64::MAX; VCPUS],
    ticking: 0,
    dead: Vec::new(),
    load: Load::new(),
});

impl Sched {
    /// Tasks that run or could.
    fn active(&self) -> u64 {
        active(&self.queue, &self.running)
    }
    fn push(&mut self, task: &Arc<Task>, how: Enter, now: u64) {
        self.pass(now);
        self.queue.push(task, how, now);
    }
    /// The number of active tasks is about to change.
    fn pass(&mut self, now: u64) {
        let (queue, running) = (&self.queue, &self.running);
        self.load.pass(now, || active(queue, running));
    }
    /// When the first idle vCPU wakes by itself.
    fn earliest_wake(&self) -> u64 {
        let (mut left, mut first) = (self.idle, u64::MAX);
        while left != 0 {
            first = first.min(self.idle_until[left.trailing_zeros() as usize]);
            left &= left - 1;
        }
        first
    }
}

fn active(queue: &RunQueue, running: &[u8; VCPUS]) -> u64 {
    queue.len() as u64 + running.iter().filter(|p| **p != NOBODY).count() as u64
}

/// Load averages over 1, 5 and 15 minutes, in parts of `LOAD_ONE`, and how many tasks are active.
pub fn load() -> ([u64; 3], u64) {
    let now = monotonic_ns();
    SCHED.with_mut(|s| {
        s.pass(now);
        (s.load.averages(), s.active())
    })
}

/// All vCPUs.
pub fn all_vcpus() -> u64 {
    u64::MAX >> (u64::BITS - occlum_rt::vcpu::count().clamp(1, u64::BITS))
}

/// Puts a task into the run queue (no-op unless it is blocked, stopped or new).
pub fn make_runnable(task: &Arc<Task>) {
    task.woken.set(true);
    if matches!(task.state.get(), TaskState::Blocked | TaskState::New) {
        task.state.set(TaskState::Runnable);
        let now = monotonic_ns();
        SCHED.with_mut(|s| s.push(task, Enter::Woken, now));
        find_vcpu(task);
        // A wake from the idle context (timers, host events) has no running task whose slice could be donated. The first
        // one this vCPU runs itself, at once.
        if try_current().is_none() && SCHED.with(|s| s.queue.len() > 1) {
            wake_idle(SCHED.with(|s| s.queue.wanted()));
        }
    }
}

/// The same for a vCPU that will look into the queue itself soon: nobody is woken for it.
pub fn make_runnable_here(task: &Arc<Task>) {
    task.state.set(TaskState::Runnable);
    let now = monotonic_ns();
    SCHED.with_mut(|s| s.push(task, Enter::Woken, now));
}

/// A task came into the queue. This vCPU looks at it when it leaves the kernel; if that will not do, one that may run it,
/// and has nothing more important to do, is told.
fn find_vcpu(task: &Arc<Task>) {
    let me = occlum_rt::vcpu::current();
    let (here, priority) = (task.sched.allows(me), task.sched.priority());
    if here && (!task.sched.is_rt() || SCHED.with(|s| priority < s.running[me as usize])) {
        return;
    }
    let mask = task.sched.affinity.get() & all_vcpus();
    if wake_idle(mask) {
        return;
    }
    let lowest = SCHED.with(|s| {
        let others = (0..occlum_rt::vcpu::count()).filter(|v| *v != me && mask >> v & 1 != 0);
        others.max_by_key(|v| s.running[*v as usize]).filter(|v| !here || priority < s.running[*v as usize])
    });
    if let Some(v) = lowest {
        occlum_rt::vcpu::kick(v);
    }
}

/// Wakes one idle vCPU of `mask` other than this one; false if there is none.
fn wake_idle(mask: u64) -> bool {
    let me = occlum_rt::vcpu::current();
    let target = SCHED.with_mut(|s| {
        let others = s.idle & mask & !(1 << me);
        if others == 0 {
            return None;
        }
        let v = others.trailing_zeros();
        s.idle &= !(1 << v);
        Some(v)
    });
    if let Some(v) = target {
        occlum_rt::ocall::call(Ocall::Wake, &[u64::from(v), 0], &[], &mut []);
    }
    target.is_some()
}

/// Lends `task` the priority of the first one that waits for it (`None`: nobody does any more).
pub fn lend(task: &Arc<Task>, priority: Option<u8>) {
    if task.sched.lend(priority) {
        reconsider(task);
    }
}

/// What counts for the place of `task` in the queue, or for its vCPU, has changed.
pub fn reconsider(task: &Arc<Task>) {
    match task.state.get() {
        TaskState::Runnable => {
            let now = monotonic_ns();
            SCHED.with_mut(|s| s.push(task, Enter::TurnOver, now));
            find_vcpu(task);
        }
        TaskState::Running => {
            let v = task.vcpu.get();
            SCHED.with_mut(|s| s.running[v as usize] = task.sched.priority());
            kick(task);
        }
        _ => {}
    }
}

/// The first task that this vCPU may run gets it.
fn take_next(vcpu: u32) -> Option<Arc<Task>> {
    let now = monotonic_ns();
    let next = SCHED.with_mut(|s| {
        s.pass(now);
        let next = s.queue.pop(vcpu, now);
        s.running[vcpu as usize] = next.as_ref().map_or(NOBODY, |t| t.sched.priority());
        next
    })?;
    next.state.set(TaskState::Running);
    next.vcpu.set(vcpu);
    next.start_cpu();
    Some(next)
}

/// Switches away from the current task, whose state says why. Returns when it is scheduled again.
pub fn schedule() {
    let prev = current();
    prev.charge_cpu();
    let vcpu = occlum_rt::vcpu::current();
    match take_next(vcpu) {
        Some(next) => {
            if Arc::ptr_eq(&prev, &next) {
                return;
            }
            prev.count_switch();
            let (p, n): (&Task, &Task) = (&prev, &next);
            occlum_rt::task::switch(&p.rt, &n.rt);
        }
        None => {
            prev.count_switch();
            occlum_rt::task::switch(&prev.rt, occlum_rt::task::Task::idle(vcpu));
        }
    }
}

/// Counts the time that a task ran.
pub fn charge(task: &Task, ran: u64, now: u64) {
    SCHED.with_mut(|s| s.queue.charge(&task.sched, ran, now));
}

/// Ends the current task's execution for good; its `Arc` is dropped by the idle context of this vCPU.
pub fn exit_current(task: Arc<Task>) -> ! {
    task.charge_cpu();
    task.state.set(TaskState::Dead);
    SCHED.with_mut(|s| s.dead.push(task));
    occlum_rt::task::exit_to_idle()
}

/// Drops tasks that ended on this vCPU. Called from idle contexts only: nobody runs on a dead task's stack then.
fn drop_dead() {
    while let Some(t) = SCHED.with_mut(|s| s.dead.pop()) {
        drop(t);
    }
}

/// sched_yield: others of the same priority go first, if there are any.
pub fn yield_now() {
    give_way(Enter::Yields);
}

/// Puts the current task into the queue and runs the first one.
fn give_way(how: Enter) {
    if SCHED.with(|s| s.queue.is_empty()) {
        return;
    }
    let task = current();
    task.charge_cpu();
    if how != Enter::Preempted {
        task.sched.round.set(0);
    }
    requeue_current(&task, how);
    drop(task);
    schedule();
}

fn requeue_current(task: &Arc<Task>, how: Enter) {
    task.state.set(TaskState::Runnable);
    let now = monotonic_ns();
    SCHED.with_mut(|s| s.push(task, how, now));
}

/// Goes to a vCPU that the current task may run on, if this is none.
pub fn follow_affinity() {
    let task = current();
    if task.sched.allows(occlum_rt::vcpu::current()) {
        return;
    }
    requeue_current(&task, Enter::TurnOver);
    find_vcpu(&task);
    drop(task);
    schedule();
}

/// The idle loop of one vCPU: runs what is runnable, else waits at the host for a wake, a timer or an event.
pub fn vcpu_main(vcpu: u32) -> ! {
    bkl::lock();
    loop {
        drop_dead();
        fire_timers();
        if let Some(next) = take_next(vcpu) {
            let n: &Task = &next;
            occlum_rt::task::switch(occlum_rt::task::Task::idle(vcpu), &n.rt);
            continue;
        }
        wait_at_host(vcpu);
    }
}

/// Idle until the host reports something. No wake-up is lost: the queue was empty, and this vCPU is marked idle, under one
/// hold of the BKL; a waker, which needs the BKL, finds the mark and sends `Wake`, which the host keeps until `Wait`.
fn wait_at_host(vcpu: u32) {
    let deadline = SCHED.with_mut(|s| {
        let deadline = s.timers.first_key_value().map_or(u64::MAX, |((t, _), _)| *t);
        s.idle_until[vcpu as usize] = deadline;
        s.idle |= 1 << vcpu;
        deadline
    });
    stop_tick(vcpu);
    crate::trace::flush();
    // A time of the host's clock would do only as long as ours is as fast.
    let left = if deadline == u64::MAX { deadline } else { deadline.saturating_sub(monotonic_ns()) };
    let mut out = [0u8; HostEvents::FULL];
    occlum_rt::ocall::call_unlocked(Ocall::Wait, &[left], &[], &mut out);
    SCHED.with_mut(|s| s.idle &= !(1 << vcpu));
    host_events(&out);
}

/// Delivers what the host reported. Untrusted: at worst a spurious signal or wake-up.
fn host_events(out: &[u8; HostEvents::FULL]) {
    let word = |i: usize| u64::from_le_bytes(core::array::from_fn(|k| out[i * 8 + k]));
    let (signals, ready, orders) = (word(0), word(1), word(3));
    for sig in 1..=31 {
        if signals & (1 << (sig - 1)) != 0 {
            crate::signal::from_host(sig);
        }
    }
    if ready != 0 {
        crate::fs::host_ready();
    }
    crate::host_events::take(out);
    if orders != 0 {
        crate::jobs::take_orders();
    }
}

/// Looks at the host without waiting (called on ticks, so that a busy enclave still hears Ctrl-C).
pub fn poll_host() {
    crate::trace::flush();
    let mut out = [0u8; HostEvents::FULL];
    occlum_rt::ocall::call(Ocall::Wait, &[0], &[], &mut out);
    host_events(&out);
}

/// Makes the timers look at the clock at `at_ns` (for timers that other modules keep).
pub fn arm_timer(at_ns: u64) {
    SCHED.with_mut(|s| s.timers.insert((at_ns, ALARMS), Alarm::Look));
}
/// The look that `timers` asked for at `before` is at `at_ns` instead (`u64::MAX`: never).
pub fn move_look(before: u64, at_ns: u64) {
    SCHED.with_mut(|s| {
        s.timers.remove(&(before, LOOK));
        if at_ns != u64::MAX {
            s.timers.insert((at_ns, LOOK), Alarm::Look);
        }
    });
}
/// Wakes `queue` at `at_ns`, once. `id` tells such alarms of one time apart.
pub fn set_alarm(at_ns: u64, id: u64, queue: &Arc<WaitQueue>) {
    SCHED.with_mut(|s| s.timers.insert((at_ns, ALARMS + 1 + id), Alarm::Queue(Arc::downgrade(queue))));
}
/// Takes such an alarm back.
pub fn clear_alarm(at_ns: u64, id: u64) {
    SCHED.with_mut(|s| s.timers.remove(&(at_ns, ALARMS + 1 + id)));
}

/// Does what is due by now.
pub fn fire_timers() {
    if SCHED.with(|s| s.timers.is_empty()) {
        return;
    }
    let now = monotonic_ns();
    loop {
        let due = SCHED.with_mut(|s| match s.timers.first_key_value() {
            Some(((t, _), _)) if *t <= now => s.timers.pop_first().map(|(_, alarm)| alarm),
            _ => None,
        });
        match due {
            Some(Alarm::Task(task)) => make_runnable(&task),
            Some(Alarm::Queue(queue)) => queue.upgrade().iter().for_each(|q| q.wake_all()),
            Some(Alarm::Look) => {}
            None => break,
        }
    }
    crate::timers::fire(now);
    crate::mm::look_for_idle(now);
}

/// Work at the way back to the guest: does another task go first, or wait so long that an idle vCPU should take it?
pub fn leaving_kernel() {
    let me = occlum_rt::vcpu::current();
    crate::host_events::look_in_passing();
    if !SCHED.with(|s| s.queue.is_empty()) {
        pass_on(me);
    }
    let (waiting, idle, timers, late) = SCHED.with(|s| {
        let first = s.timers.first_key_value().map(|((t, _), _)| *t);
        let late = s.idle != 0 && first.is_some_and(|t| t < s.earliest_wake());
        (!s.queue.is_empty(), s.idle, first.is_some(), late)
    });
    // While no vCPU is idle, only ticks hear of the host's sockets.
    let timers = timers || crate::host_events::in_use();
    if late {
        // The idle vCPU does not know of this timer yet; it waits again with the right deadline.
        wake_idle(u64::MAX);
        return;
    }
    if waiting || idle == 0 && timers {
        start_tick(me);
    }
}

/// Somebody waits: gives way to a more important task, has an idle vCPU take one that waits too long.
fn pass_on(me: u32) {
    let now = monotonic_ns();
    let (first, idle) = SCHED.with_mut(|s| (s.queue.peek(me, now), s.idle));
    let since = first.as_ref().map(|f| f.since);
    let task = current();
    if first.is_some_and(|f| f.priority < 100 && f.priority < task.sched.priority()) {
        drop(task);
        return give_way(Enter::Preempted);
    }
    if idle != 0 && since.is_none_or(|t| now.saturating_sub(t) > WAKE_AFTER_NS) {
        wake_idle(SCHED.with(|s| s.queue.wanted()));
    }
}

/// A tick interrupted the guest: share the CPU, fire timers, hear the host.
pub fn tick() {
    fire_timers();
    let me = occlum_rt::vcpu::current();
    follow_affinity();
    if SCHED.with(|s| s.queue.is_empty()) {
        if SCHED.with(|s| s.idle != 0 || s.timers.is_empty()) && !crate::host_events::in_use() {
            stop_tick(me);
        }
        return;
    }
    let task = current();
    task.charge_cpu();
    task.sched.round.with_mut(|r| *r += 1);
    spread();
    let now = monotonic_ns();
    let how = SCHED.with_mut(|s| {
        let first = s.queue.peek(me, now)?;
        s.queue.gives_way(&task.sched, &first, now)
    });
    drop(task);
    if let Some(how) = how {
        give_way(how);
    }
}

/// Tasks wait: an idle vCPU takes one, and the busy ones tick, so that each is shared.
fn spread() {
    let wanted = SCHED.with(|s| s.queue.wanted());
    wake_idle(wanted);
    let me = occlum_rt::vcpu::current();
    let quiet = SCHED.with(|s| !(s.idle | s.ticking)) & wanted & all_vcpus() & !(1 << me);
    (0..occlum_rt::vcpu::count()).filter(|v| quiet >> v & 1 != 0).for_each(occlum_rt::vcpu::kick);
}

/// Notes whether the vCPU ticks; true if that is a change.
fn set_ticking(vcpu: u32, on: bool) -> bool {
    SCHED.with_mut(|s| {
        let old = s.ticking >> vcpu & 1 != 0;
        s.ticking = s.ticking & !(1 << vcpu) | u64::from(on) << vcpu;
        old != on
    })
}

fn start_tick(vcpu: u32) {
    if set_ticking(vcpu, true) {
        occlum_rt::ocall::call(Ocall::Tick, &[1, TICK_NS], &[], &mut []);
    }
}
fn stop_tick(vcpu: u32) {
    if set_ticking(vcpu, false) {
        occlum_rt::ocall::call(Ocall::Tick, &[0, 0], &[], &mut []);
    }
}

/// Makes a task that runs guest code on another vCPU enter the kernel soon (signals, exit).
pub fn kick(task: &Task) {
    let v = task.vcpu.get();
    if task.state.get() == TaskState::Running && v != occlum_rt::vcpu::current() {
        occlum_rt::vcpu::kick(v);
    }
}

/// Hears of every wake of the queues that it watches, at once. It may note and wake, but neither wait nor use the queue.
pub trait Watcher: Send + Sync {
    /// `events` is what happened (`POLL*`; 0: anything). Did it find somebody who takes them?
    fn woken(&self, events: u32) -> bool;
    /// Is one watcher of this kind that takes the events enough?
    fn is_exclusive(&self) -> bool;
}

/// Hears of what happens at the queues it listens to, whether or not somebody has to be woken for it.
pub trait Listener: Send + Sync {
    /// It happened. As for `Watcher`, it neither waits nor uses the queue.
    fn hear(&self, what: Band);
}

/// Tasks that wait for something. Waking is only a hint: waiters check their condition again.
#[derive(Default)]
pub struct WaitQueue {
    waiters: BklCell<VecDeque<Arc<Task>>>,
    /// By what they chose as their key, which is their order.
    watchers: BklCell<BTreeMap<u64, Weak<dyn Watcher>>>,
    listeners: BklCell<Vec<Weak<dyn Listener>>>,
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            waiters: BklCell::new(VecDeque::new()),
            watchers: BklCell::new(BTreeMap::new()),
            listeners: BklCell::new(Vec::new()),
        }
    }
    /// Is nobody waiting?
    pub fn is_empty(&self) -> bool {
        self.waiters.with(VecDeque::is_empty)
    }
    /// Wakes all waiters.
    pub fn wake_all(&self) {
        self.wake(0);
    }
    /// The same; watchers hear which events are the reason (`POLL*`; 0: any).
    pub fn wake(&self, events: u32) {
        self.watchers.with(|w| tell(w, events));
        if self.is_empty() {
            return;
        }
        for t in self.waiters.take() {
            make_runnable(&t);
        }
    }
    /// Tells `watcher` of every `wake` from now on. Its key is its own, and says who hears first.
    pub fn watch(&self, key: u64, watcher: Weak<dyn Watcher>) {
        self.watchers.with_mut(|w| w.insert(key, watcher));
    }
    /// Ends that.
    pub fn unwatch(&self, key: u64) {
        self.watchers.with_mut(|w| w.remove(&key));
    }
    /// Tells `listener`, as long as it is there, of every `tell` from now on.
    pub fn listen(&self, listener: Weak<dyn Listener>) {
        self.listeners.with_mut(|l| {
            l.retain(|x| x.strong_count() > 0);
            l.push(listener);
        });
    }
    /// Something happened that owners of open files are told of (`fs::sigio`).
    pub fn tell(&self, what: Band) {
        if !self.listeners.with(Vec::is_empty) {
            self.listeners.with(Clone::clone).iter().filter_map(Weak::upgrade).for_each(|l| l.hear(what));
        }
    }
    /// Wakes the longest waiter.
    pub fn wake_one(&self) {
        self.wake_n(1);
    }
    /// Wakes up to `n` waiters, longest first; returns how many.
    pub fn wake_n(&self, n: usize) -> usize {
        let mut woken = 0;
        while woken < n {
            let t = self.waiters.with_mut(VecDeque::pop_front);
            let Some(t) = t else { break };
            t.woken.set(true);
            if t.state.get() == TaskState::Blocked {
                woken += 1;
                make_runnable(&t);
            }
        }
        woken
    }
    fn enqueue(&self, t: &Arc<Task>) {
        self.waiters.with_mut(|w| w.push_back(t.clone()));
    }
    fn remove(&self, t: &Arc<Task>) {
        self.waiters.with_mut(|w| w.retain(|x| !Arc::ptr_eq(x, t)));
    }
    /// Waits until `cond` gives a value. Err(EINTR) on a deliverable signal, Err(ETIMEDOUT) at the deadline
    /// (CLOCK_MONOTONIC ns).
    pub fn wait_until<T>(&self, deadline_ns: Option<u64>, cond: impl FnMut() -> Option<T>) -> Result<T> {
        wait_on(&[self], deadline_ns, EndedBy::Signal, cond)
    }
    /// The same, but EINTR means that the task has to end; other signals wait.
    pub fn wait_killable<T>(&self, deadline_ns: Option<u64>, cond: impl FnMut() -> Option<T>) -> Result<T> {
        wait_on(&[self], deadline_ns, EndedBy::Death, cond)
    }
    /// The same, but signals do not end the wait (for short waits of the kernel's own).
    pub fn wait_uninterruptible<T>(&self, cond: impl FnMut() -> Option<T>) -> T {
        let mut cond = cond;
        loop {
            if let Ok(v) = wait_on(&[self], None, EndedBy::Nothing, &mut cond) {
                return v;
            }
        }
    }
}

/// Tells the watchers, those of very many when the call is over: whoever looks at its file before finds it ready as well.
fn tell(watchers: &BTreeMap<u64, Weak<dyn Watcher>>, events: u32) {
    let mut taken = false;
    let mut tell = move |w: Arc<dyn Watcher>| {
        if !w.is_exclusive() {
            w.woken(events);
        } else if !taken {
            taken = w.woken(events);
        }
    };
    let mut rest = Vec::new();
    if watchers.len() > PIECE && may_wait() && rest.try_room_exact(watchers.len() - PIECE).is_ok() {
        rest.extend(watchers.values().skip(PIECE).cloned());
    }
    let now = watchers.len() - rest.len();
    watchers.values().take(now).filter_map(Weak::upgrade).for_each(&mut tell);
    if !rest.is_empty() {
        let mut rest = rest.into_iter();
        later::leave(move || {
            rest.by_ref().take(PIECE).filter_map(|w| w.upgrade()).for_each(&mut tell);
            rest.len() == 0
        });
    }
}

/// Is there a task that can wait?
pub fn may_wait() -> bool {
    crate::process::with_current(|_| ()).is_some()
}
/// Lets others run for a while; no signal ends it.
pub fn pause(ns: u64) {
    let deadline = monotonic_ns().saturating_add(ns);
    let _ = wait_on::<()>(&[], Some(deadline), EndedBy::Nothing, || None);
}

/// Waits on several queues at once.
pub fn wait_any<T>(
    queues: &[Arc<WaitQueue>],
    deadline_ns: Option<u64>,
    cond: impl FnMut() -> Option<T>,
) -> Result<T> {
    let refs: Vec<&WaitQueue> = queues.iter().map(|q| &**q).collect();
    wait_on(&refs, deadline_ns, EndedBy::Signal, cond)
}

/// The same for many queues, where to look at the condition may take long: `cond` may let others get on meanwhile. It is
/// looked at again if a queue was woken since that began.
pub fn wait_many<T>(
    queues: &[Arc<WaitQueue>],
    deadline: Option<u64>,
    mut cond: impl FnMut() -> Option<T>,
) -> Result<T> {
    let (me, mut breath) = (current(), Breath::begin());
    let mut each = |what: fn(&WaitQueue, &Arc<Task>)| {
        for piece in queues.chunks(PIECE) {
            piece.iter().for_each(|q| what(q, &me));
            breath.take();
        }
    };
    loop {
        me.woken.set(false);
        each(WaitQueue::enqueue);
        let mut done = cond().map(Ok);
        let others = done.is_none() && later::finish();
        if done.is_none() && EndedBy::Signal.is_there(&me) {
            done = Some(Err(Errno::EINTR));
        }
        if done.is_none() && deadline.is_some_and(|d| monotonic_ns() >= d) {
            done = Some(Err(Errno::ETIMEDOUT));
        }
        if done.is_none() && !others && !me.woken.get() {
            block(&me, deadline, EndedBy::Signal);
        }
        each(WaitQueue::remove);
        if let Some(done) = done {
            return done;
        }
    }
}

/// Sleeps until somebody wakes the task, or the deadline.
fn block(me: &Arc<Task>, deadline: Option<u64>, ended_by: EndedBy) {
    me.state.set(TaskState::Blocked);
    me.ended_by.set(ended_by);
    if let Some(d) = deadline {
        SCHED.with_mut(|s| s.timers.insert((d, me.tid as u64), Alarm::Task(me.clone())));
    }
    schedule();
    if let Some(d) = deadline {
        SCHED.with_mut(|s| s.timers.remove(&(d, me.tid as u64)));
    }
}

fn wait_on<T>(
    queues: &[&WaitQueue],
    deadline: Option<u64>,
    ended_by: EndedBy,
    mut cond: impl FnMut() -> Option<T>,
) -> Result<T> {
    let me = current();
    loop {
        if let Some(v) = cond() {
            return Ok(v);
        }
        if later::finish() {
            continue;
        }
        if ended_by.is_there(&me) {
            return Err(Errno::EINTR);
        }
        if deadline.is_some_and(|d| monotonic_ns() >= d) {
            return Err(Errno::ETIMEDOUT);
        }
        for q in queues {
            q.enqueue(&me);
        }
        block(&me, deadline, ended_by);
        for q in queues {
            q.remove(&me);
        }
    }
}
