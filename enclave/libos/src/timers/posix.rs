//! POSIX timers.
//!
//! Neighbours: `timers` has the clocks and the look at CPU time, `due` says when the others are looked at, `signal` queues
//! and delivers, `syscall::timers` has the calls. Invariants: a timer has at most one signal in a queue; it is not due again
//! before that has been taken, or while its signal is ignored (`parked`); a signal that its timer outlived (set anew) is
//! dropped, and so is one whose timer is gone.
use super::due::{Alarm, What};
use super::{Clock, Expiry, ROUND_NS, Timers, cpu_timers_changed};
use crate::errno::{Errno, Result};
use crate::process::{Process, Task};
use crate::signal::{self, Info, Place, RLIMIT_SIGPENDING};
use crate::time::monotonic_ns;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_linux_abi::sig::SI_TIMER;
use occlum_linux_abi::signo::SIGALRM;
use occlum_rt::bkl::BklCell;

/// Most POSIX timers of a process; each counts to RLIMIT_SIGPENDING.
const TIMERS_MAX: usize = 1 << 12;

static NEXT_SEQ: BklCell<u64> = BklCell::new(1);

/// How a POSIX timer tells about its expiry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notify {
    /// Not at all (SIGEV_NONE).
    None,
    /// A signal to the process.
    Process(i32),
    /// A signal to the thread: (tid, signal).
    Thread(i32, i32),
}
impl Notify {
    fn signal(self) -> Option<i32> {
        match self {
            Notify::None => None,
            Notify::Process(sig) | Notify::Thread(_, sig) => Some(sig),
        }
    }
}

/// What keeps a timer from being due.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Nothing.
    Free,
    /// Its signal is queued.
    Queued,
    /// Its signal is ignored: it goes on when that changes.
    Parked,
}

/// A POSIX timer.
struct Timer {
    clock: Clock,
    notify: Notify,
    /// si_value.
    value: u64,
    expiry: Expiry,
    hold: Hold,
    /// Sequence number of its entry in a queue of signals, 0 if it has none. Without `Hold::Queued` it counts for nothing.
    entry: u64,
    /// Overruns that the last delivered signal reported.
    overrun: u32,
    /// When it is looked at: of a CPU clock its place in `cpu`, else `alarm`.
    cpu_at: u64,
    alarm: Alarm,
    /// Its signal's place in the queue.
    _place: Place,
}
impl Timer {
    fn is_due(&self, now: u64) -> bool {
        let next = self.next();
        next != 0 && next <= now
    }
    /// Time of the next expiry that somebody has to look at.
    fn next(&self) -> u64 {
        if self.hold != Hold::Free || self.notify == Notify::None { 0 } else { self.expiry.at }
    }
    /// Its signal is dropped because it is ignored: a periodic timer waits until it is not.
    fn park(&mut self) {
        self.hold = Hold::Free;
        if self.expiry.every == 0 {
            self.expiry.at = 0;
        } else {
            self.hold = Hold::Parked;
        }
    }
}

/// The POSIX timers of a process.
#[derive(Default)]
pub(super) struct Posix {
    timers: BTreeMap<i32, Timer>,
    /// Those of CPU clocks that are armed, by clock and time.
    cpu: BTreeMap<Clock, BTreeSet<(u64, i32)>>,
    next_id: i32,
}
impl Posix {
    pub(super) fn count(&self) -> usize {
        self.timers.len()
    }
    pub(super) fn clear(&mut self) {
        self.timers.clear();
        self.cpu.clear();
    }
    /// The next expiry by each CPU clock that there is one of.
    pub(super) fn first_of_cpu(&self) -> Vec<(Clock, u64)> {
        self.cpu.iter().filter_map(|(clock, due)| due.first().map(|(at, _)| (*clock, *at))).collect()
    }
    fn new_id(&mut self) -> i32 {
        while self.timers.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1) & i32::MAX;
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1) & i32::MAX;
        id
    }
    /// Has the timer looked at at its next expiry, if it has one. `now` by its clock.
    fn arm(&mut self, pid: i32, id: i32, now: u64) {
        let Some(x) = self.timers.get_mut(&id) else { return };
        let at = x.next();
        if !x.clock.is_cpu() {
            let at = if at == 0 { 0 } else { monotonic_ns().saturating_add(at.saturating_sub(now)) };
            return x.alarm.set(at, pid, What::Posix(id));
        }
        let (clock, before) = (x.clock, core::mem::replace(&mut x.cpu_at, at));
        self.leave_cpu(clock, before, id);
        if at != 0 {
            self.cpu.entry(clock).or_default().insert((at, id));
        }
    }
    fn leave_cpu(&mut self, clock: Clock, at: u64, id: i32) {
        let Some(due) = self.cpu.get_mut(&clock) else { return };
        due.remove(&(at, id));
        if due.is_empty() {
            self.cpu.remove(&clock);
        }
    }
    fn take_cpu(&mut self, clock: Clock, now: u64) -> Option<i32> {
        let (at, id) = *self.cpu.get(&clock)?.first().filter(|(at, _)| *at <= now)?;
        self.leave_cpu(clock, at, id);
        Some(id)
    }
}

fn with<R>(p: &Process, f: impl FnOnce(&mut Posix) -> R) -> R {
    p.timers.with_mut(|t| f(&mut t.posix))
}
fn with_timer<R>(p: &Process, id: i32, f: impl FnOnce(&mut Timer) -> R) -> Option<R> {
    with(p, |t| t.timers.get_mut(&id).map(f))
}

/// Sends what the timers of CPU clocks owe; what would take long is left to the next look.
pub(super) fn fire_cpu(p: &Arc<Process>) {
    let until = monotonic_ns().saturating_add(ROUND_NS);
    for (clock, _) in with(p, |t| t.first_of_cpu()) {
        let now = clock.now();
        while let Some(id) = with(p, |t| t.take_cpu(clock, now)) {
            expire(p, id, now);
            if monotonic_ns() > until {
                return;
            }
        }
    }
}

/// Looks at a timer of another clock.
pub(super) fn look(p: &Arc<Process>, id: i32) {
    if let Some(clock) = with_timer(p, id, |x| x.clock) {
        expire(p, id, clock.now());
    }
}

/// Sends the timer's signal if it is due by `now` and arms its next expiry.
fn expire(p: &Arc<Process>, id: i32, now: u64) {
    if with_timer(p, id, |x| x.is_due(now)) == Some(true) {
        post(p, id);
    }
    with(p, |t| t.arm(p.pid, id, now));
}

/// Queues a timer's signal, or parks the timer: its signal is ignored, or nobody is left to take it.
fn post(p: &Arc<Process>, id: i32) {
    let seq = NEXT_SEQ.with_mut(|s| {
        *s += 1;
        *s
    });
    let Some((notify, value, entry)) = with_timer(p, id, |x| (x.notify, x.value, x.entry)) else { return };
    let info = Info { code: SI_TIMER, payload: [u64::from(id as u32), value, 0, seq] };
    let sent = match notify {
        Notify::None => false,
        _ if entry != 0 => signal::prepare_send(p, notify.signal().unwrap_or(0)),
        Notify::Process(sig) => signal::queue_to_process(p, sig, info),
        Notify::Thread(tid, sig) => Task::by_tid(tid)
            .filter(|t| Arc::ptr_eq(&t.process, p))
            .is_some_and(|t| signal::queue_to_task(&t, sig, info)),
    };
    with_timer(p, id, |x| {
        if !sent {
            return x.park();
        }
        x.hold = Hold::Queued;
        if x.entry == 0 {
            x.entry = seq;
        }
    });
}

/// A signal is being taken: a timer's gets its overruns, and the timer runs on. `None`: its timer is gone or was set anew.
pub fn on_delivery(p: &Arc<Process>, mut info: Info) -> Option<Info> {
    let (id, seq) = (info.payload[0] as u32 as i32, info.payload[3]);
    if info.code != SI_TIMER || seq == 0 {
        return Some(info);
    }
    let clock = with_timer(p, id, |x| {
        let mine = x.entry == seq;
        if mine {
            x.entry = 0;
        }
        (mine && x.hold == Hold::Queued).then_some(x.clock)
    })??;
    let now = clock.now();
    let overrun = with_timer(p, id, |x| {
        x.hold = Hold::Free;
        let missed = x.expiry.advance(now).saturating_sub(1);
        x.overrun = u32::try_from(missed).unwrap_or(u32::MAX).min(i32::MAX as u32);
        x.overrun
    })?;
    info.payload[0] = u64::from(id as u32) | u64::from(overrun) << 32;
    info.payload[3] = 0;
    rearm(p, id, clock);
    Some(info)
}

/// The signal `sig` has become ignored, and those that were queued are gone.
pub fn on_discard(p: &Process, sig: i32) {
    with(p, |t| {
        for x in t.timers.values_mut().filter(|x| x.notify.signal() == Some(sig)) {
            x.entry = 0;
            if x.hold == Hold::Queued {
                x.park();
            }
        }
    });
}

/// The signal `sig` is ignored no more: it is sent at once by those timers that would have sent it meanwhile.
pub fn on_wanted(p: &Arc<Process>, sig: i32) {
    let parked: Vec<i32> = with(p, |t| {
        let these = t.timers.iter().filter(|(_, x)| x.hold == Hold::Parked && x.notify.signal() == Some(sig));
        these.map(|(id, _)| *id).collect()
    });
    parked.into_iter().for_each(|id| post(p, id));
}

/// After a POSIX timer changed: it is due, or will be looked at when it is.
fn rearm(p: &Arc<Process>, id: i32, clock: Clock) {
    expire(p, id, clock.now());
    if clock.is_cpu() {
        cpu_timers_changed(p);
    }
}

/// timer_create. `notify` `None` with a default: SIGALRM with the id as value.
pub fn create(p: &Arc<Process>, clock: Clock, how: Option<(Notify, u64)>) -> Result<i32> {
    if p.timers.with(Timers::count) >= TIMERS_MAX {
        return Err(Errno::EAGAIN);
    }
    let uid = p.with_cred(|c| c.uid);
    let place = Place::take(uid, Some(p.rlimit(RLIMIT_SIGPENDING))).ok_or(Errno::EAGAIN)?;
    with(p, |t| {
        let id = t.new_id();
        let (notify, value) = how.unwrap_or((Notify::Process(SIGALRM as i32), u64::from(id as u32)));
        t.timers.insert(
            id,
            Timer {
                clock,
                notify,
                value,
                expiry: Expiry::default(),
                hold: Hold::Free,
                entry: 0,
                overrun: 0,
                cpu_at: 0,
                alarm: Alarm::default(),
                _place: place,
            },
        );
        Ok(id)
    })
}

/// timer_settime: first expiry (0 disarms), period; returns the old (left, period).
pub fn set(p: &Arc<Process>, id: i32, value: u64, every: u64, absolute: bool) -> Result<(u64, u64)> {
    let old = get(p, id)?;
    let clock = with_timer(p, id, |x| x.clock).ok_or(Errno::EINVAL)?;
    let at = match value {
        0 => 0,
        v if absolute => v,
        v => clock.now().saturating_add(v),
    };
    with_timer(p, id, |x| (x.expiry, x.hold, x.overrun) = (Expiry { at, every }, Hold::Free, 0));
    rearm(p, id, clock);
    Ok(old)
}

/// timer_gettime: (left, period).
pub fn get(p: &Arc<Process>, id: i32) -> Result<(u64, u64)> {
    let clock = with_timer(p, id, |x| x.clock).ok_or(Errno::EINVAL)?;
    let now = clock.now();
    with_timer(p, id, |x| (x.expiry.left(now), x.expiry.every)).ok_or(Errno::EINVAL)
}

/// timer_getoverrun.
pub fn overrun(p: &Process, id: i32) -> Result<u32> {
    with_timer(p, id, |x| x.overrun).ok_or(Errno::EINVAL)
}

/// No timer is left that could have a signal in a queue.
pub(super) fn forget_signals(p: &Process) {
    signal::forget(p, |info| info.code == SI_TIMER && info.payload[3] != 0);
}

/// timer_delete.
pub fn delete(p: &Process, id: i32) -> Result<()> {
    let gone = with(p, |t| {
        let x = t.timers.remove(&id)?;
        t.leave_cpu(x.clock, x.cpu_at, id);
        Some(x)
    });
    let x = gone.ok_or(Errno::EINVAL)?;
    if x.entry != 0 {
        // Its place in the queue goes with it.
        signal::forget(p, |info| info.code == SI_TIMER && info.payload[3] == x.entry);
    }
    Ok(())
}
