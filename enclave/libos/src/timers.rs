//! Timers of processes: setitimer's three, POSIX timers, and the CPU-time limit.
//!
//! Neighbours: `sched` (asks at the times that `arm` named, and tells when a process with CPU timers gets a vCPU),
//! `signal` (delivery; it asks `on_delivery` for a timer's overruns), `syscall::{time, timers}`.
//! Invariants: `NEXT_DUE` is not later than the earliest expiry of any wall-clock timer and any CPU check; a POSIX timer
//! has at most one signal queued, and is not due again before that is taken; a signal that its timer outlived (deleted
//! or set anew) is dropped. CPU timers are checked at wall times: while a process runs, the next check is no later than
//! its timers could expire if it had all vCPUs; while it does not run there is none.
use crate::errno::{Errno, Result};
use crate::process::{Process, Task, TaskState};
use crate::signal::{self, Info};
use crate::time::{monotonic_ns, realtime_ns};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_linux_abi::signo::{SIGALRM, SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU};
use occlum_rt::bkl::BklCell;

const NS: u64 = 1_000_000_000;
/// Shortest time between two looks at CPU timers.
const CPU_CHECK_MIN: u64 = 1_000_000;
/// Most POSIX timers of a process (and no more than RLIMIT_SIGPENDING).
const TIMERS_MAX: usize = 1 << 12;
/// si_code of a POSIX timer's signal.
const SI_TIMER: i32 = -2;
const RLIMIT_CPU: usize = 0;
const RLIMIT_SIGPENDING: usize = 11;

/// Earliest time (CLOCK_MONOTONIC ns) at which `fire` may have something to do.
static NEXT_DUE: BklCell<u64> = BklCell::new(u64::MAX);
/// Has any process ever had a CPU timer or limit?
static CPU_IN_USE: BklCell<bool> = BklCell::new(false);
static NEXT_SEQ: BklCell<u64> = BklCell::new(1);

/// What a timer measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// Wall clock.
    Real,
    /// Time since the start of the machine.
    Mono,
    /// CPU time of a process.
    Process(i32),
    /// CPU time of a thread.
    Thread(i32),
}
impl Clock {
    /// Reads it; 0 once its process or thread has ended.
    pub fn now(self) -> u64 {
        match self {
            Clock::Real => realtime_ns(),
            Clock::Mono => monotonic_ns(),
            Clock::Process(pid) => Process::by_pid(pid).map_or(0, |p| p.cpu_now()),
            Clock::Thread(tid) => Task::by_tid(tid).map_or(0, |t| t.cpu_now()),
        }
    }
    /// Does it only run while its process does?
    pub fn is_cpu(self) -> bool {
        matches!(self, Clock::Process(_) | Clock::Thread(_))
    }
}

/// Next expiry (0: disarmed) and period (0: once), in ns of some clock.
#[derive(Clone, Copy, Default, Debug)]
struct Expiry {
    at: u64,
    every: u64,
}
impl Expiry {
    /// Moves `at` beyond `now`; how many expiries that passed.
    fn advance(&mut self, now: u64) -> u64 {
        if self.at == 0 || self.at > now {
            return 0;
        }
        let Some(more) = (now - self.at).checked_div(self.every) else {
            self.at = 0;
            return 1;
        };
        self.at = self.at.saturating_add(self.every.saturating_mul(more + 1));
        more + 1
    }
    /// Time to the next expiry; 0 if there is none.
    fn left(self, now: u64) -> u64 {
        let mut ahead = self;
        ahead.advance(now);
        ahead.at.saturating_sub(now)
    }
}

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

/// A POSIX timer.
struct Timer {
    clock: Clock,
    notify: Notify,
    /// si_value.
    value: u64,
    expiry: Expiry,
    /// Sequence number of the queued signal, 0 if none is.
    queued: u64,
    /// Overruns that the last delivered signal reported.
    overrun: u32,
}

/// The timers of a process.
#[derive(Default)]
pub struct Timers {
    real: Expiry,
    /// ITIMER_VIRTUAL and ITIMER_PROF. User and system time are not told apart: both measure CPU time.
    cpu: [Expiry; 2],
    posix: BTreeMap<i32, Timer>,
    next_id: i32,
    /// When the CPU timers are looked at, 0: when the process next gets a vCPU.
    cpu_check: u64,
}
impl Timers {
    /// exec deletes POSIX timers; the others stay.
    pub fn reset_for_exec(&mut self) {
        self.posix.clear();
    }
    /// POSIX timers.
    pub fn count(&self) -> usize {
        self.posix.len()
    }
    fn itimer(&mut self, which: Itimer) -> &mut Expiry {
        match which {
            Itimer::Real => &mut self.real,
            Itimer::Virtual => &mut self.cpu[0],
            Itimer::Prof => &mut self.cpu[1],
        }
    }
}

/// setitimer's timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Itimer {
    /// ITIMER_REAL.
    Real,
    /// ITIMER_VIRTUAL.
    Virtual,
    /// ITIMER_PROF.
    Prof,
}
impl Itimer {
    fn now(self, p: &Process) -> u64 {
        if self == Itimer::Real { monotonic_ns() } else { p.cpu_now() }
    }
}

/// Sets an interval timer: ns from now (0 off) and period; returns the old (left, period).
pub fn set_itimer(p: &Arc<Process>, which: Itimer, value: u64, every: u64) -> (u64, u64) {
    let old = get_itimer(p, which);
    let at = if value == 0 { 0 } else { which.now(p).saturating_add(value) };
    p.timers.with_mut(|t| *t.itimer(which) = Expiry { at, every });
    if which == Itimer::Real {
        arm(at);
    } else {
        cpu_timers_changed(p);
    }
    old
}

/// (left, period) of an interval timer.
pub fn get_itimer(p: &Arc<Process>, which: Itimer) -> (u64, u64) {
    let now = which.now(p);
    let e = p.timers.with_mut(|t| *t.itimer(which));
    // One that is due but has not fired yet still counts as armed.
    (if e.at == 0 { 0 } else { e.left(now).max(1000) }, e.every)
}

/// Makes sure that `fire` looks at `at` (0: never).
fn arm(at: u64) {
    if at != 0 && at < NEXT_DUE.get() {
        NEXT_DUE.set(at);
        crate::sched::arm_timer(at);
    }
}

/// Fires what is due; called with the scheduler's timers.
pub fn fire(now: u64) {
    if now < NEXT_DUE.get() {
        return;
    }
    NEXT_DUE.set(u64::MAX);
    for p in Process::all().iter().filter(|p| p.exit_status.get().is_none()) {
        fire_process(p, now);
    }
}

fn fire_process(p: &Arc<Process>, now: u64) {
    if p.timers.with_mut(|t| t.real.advance(now)) != 0 {
        signal::send_process(p, SIGALRM as i32, Info::kernel());
    }
    arm(p.timers.with(|t| t.real.at));
    fire_posix(p, false);
    let check = p.timers.with(|t| t.cpu_check);
    if check != 0 && check <= now {
        check_cpu(p, now);
    } else {
        arm(check);
    }
}

/// Fires the POSIX timers of a process that measure CPU time, or those that do not, and arms the latter.
fn fire_posix(p: &Arc<Process>, cpu: bool) {
    let ids: Vec<i32> = p.timers.with(|t| {
        let here = t.posix.iter().filter(|(_, x)| x.clock.is_cpu() == cpu);
        here.map(|(id, _)| *id).collect()
    });
    for id in ids {
        expire(p, id);
    }
}

/// Sends the timer's signal if it is due and arms its next expiry.
fn expire(p: &Arc<Process>, id: i32) {
    let Some((clock, notify)) = p.timers.with(|t| t.posix.get(&id).map(|x| (x.clock, x.notify))) else {
        return;
    };
    let now = clock.now();
    let due = p.timers.with(|t| t.posix.get(&id).is_some_and(|x| x.is_due(now)));
    if due && notify != Notify::None {
        let seq = NEXT_SEQ.with_mut(|s| {
            *s += 1;
            *s
        });
        let sent = post(p, id, notify, seq);
        p.timers.with_mut(|t| {
            if let Some(x) = t.posix.get_mut(&id) {
                if sent {
                    x.queued = seq;
                } else {
                    x.expiry.advance(now);
                }
            }
        });
    }
    if !clock.is_cpu() {
        let at = p.timers.with(|t| t.posix.get(&id).map_or(0, Timer::next));
        arm(if at == 0 { 0 } else { monotonic_ns().saturating_add(at.saturating_sub(now)) });
    }
}

impl Timer {
    fn is_due(&self, now: u64) -> bool {
        self.expiry.at != 0 && self.expiry.at <= now && self.queued == 0
    }
    /// Time of the next expiry that somebody has to look at.
    fn next(&self) -> u64 {
        if self.queued != 0 || self.notify == Notify::None { 0 } else { self.expiry.at }
    }
}

/// Queues a timer's signal. False: it is ignored, or nobody is left to take it.
fn post(p: &Arc<Process>, id: i32, notify: Notify, seq: u64) -> bool {
    let value = p.timers.with(|t| t.posix.get(&id).map_or(0, |x| x.value));
    let info = Info { code: SI_TIMER, payload: [u64::from(id as u32), value, 0, seq] };
    match notify {
        Notify::None => false,
        Notify::Process(sig) => signal::queue_to_process(p, sig, info),
        Notify::Thread(tid, sig) => Task::by_tid(tid)
            .filter(|t| Arc::ptr_eq(&t.process, p))
            .is_some_and(|t| signal::queue_to_task(&t, sig, info)),
    }
}

/// A signal is being taken: a timer's gets its overruns, and the timer runs on. `None`: its timer is gone or was set anew.
pub fn on_delivery(p: &Arc<Process>, mut info: Info) -> Option<Info> {
    let (id, seq) = (info.payload[0] as u32 as i32, info.payload[3]);
    if info.code != SI_TIMER || seq == 0 {
        return Some(info);
    }
    let clock = p.timers.with(|t| t.posix.get(&id).filter(|x| x.queued == seq).map(|x| x.clock))?;
    let now = clock.now();
    let overrun = p.timers.with_mut(|t| {
        let x = t.posix.get_mut(&id)?;
        x.queued = 0;
        let missed = x.expiry.advance(now).saturating_sub(1);
        x.overrun = u32::try_from(missed).unwrap_or(u32::MAX).min(i32::MAX as u32);
        Some(x.overrun)
    })?;
    info.payload[0] = u64::from(id as u32) | u64::from(overrun) << 32;
    info.payload[3] = 0;
    rearm(p, id, clock);
    Some(info)
}

/// After a POSIX timer changed: it is due, or will be looked at when it is.
fn rearm(p: &Arc<Process>, id: i32, clock: Clock) {
    if clock.is_cpu() {
        cpu_timers_changed(p);
    } else {
        expire(p, id);
    }
}

/// timer_create. `notify` `None` with a default: SIGALRM with the id as value.
pub fn create(p: &Arc<Process>, clock: Clock, how: Option<(Notify, u64)>) -> Result<i32> {
    crate::mm::admit(256)?;
    let most = p.rlimit(RLIMIT_SIGPENDING).min(TIMERS_MAX as u64);
    p.timers.with_mut(|t| {
        if t.posix.len() as u64 >= most {
            return Err(Errno::EAGAIN);
        }
        while t.posix.contains_key(&t.next_id) {
            t.next_id = t.next_id.wrapping_add(1) & i32::MAX;
        }
        let id = t.next_id;
        t.next_id = id.wrapping_add(1) & i32::MAX;
        let (notify, value) = how.unwrap_or((Notify::Process(SIGALRM as i32), u64::from(id as u32)));
        let timer = Timer { clock, notify, value, expiry: Expiry::default(), queued: 0, overrun: 0 };
        t.posix.insert(id, timer);
        Ok(id)
    })
}

/// timer_settime: first expiry (0 disarms), period; returns the old (left, period).
pub fn set(p: &Arc<Process>, id: i32, value: u64, every: u64, absolute: bool) -> Result<(u64, u64)> {
    let old = get(p, id)?;
    let clock = p.timers.with(|t| t.posix.get(&id).map(|x| x.clock)).ok_or(Errno::EINVAL)?;
    let at = match value {
        0 => 0,
        v if absolute => v,
        v => clock.now().saturating_add(v),
    };
    p.timers.with_mut(|t| {
        if let Some(x) = t.posix.get_mut(&id) {
            (x.expiry, x.queued, x.overrun) = (Expiry { at, every }, 0, 0);
        }
    });
    rearm(p, id, clock);
    Ok(old)
}

/// timer_gettime: (left, period).
pub fn get(p: &Arc<Process>, id: i32) -> Result<(u64, u64)> {
    let clock = p.timers.with(|t| t.posix.get(&id).map(|x| x.clock)).ok_or(Errno::EINVAL)?;
    let now = clock.now();
    p.timers.with(|t| t.posix.get(&id).map(|x| (x.expiry.left(now), x.expiry.every))).ok_or(Errno::EINVAL)
}

/// timer_getoverrun.
pub fn overrun(p: &Process, id: i32) -> Result<u32> {
    p.timers.with(|t| t.posix.get(&id).map(|x| x.overrun)).ok_or(Errno::EINVAL)
}

/// timer_delete.
pub fn delete(p: &Process, id: i32) -> Result<()> {
    p.timers.with_mut(|t| t.posix.remove(&id)).map(drop).ok_or(Errno::EINVAL)
}

/// CPU timers or the CPU limit of a process changed.
pub fn cpu_timers_changed(p: &Arc<Process>) {
    CPU_IN_USE.set(true);
    check_cpu(p, monotonic_ns());
}

/// A task of the process got a vCPU.
pub fn on_run(p: &Arc<Process>) {
    if CPU_IN_USE.get() && p.timers.with(|t| t.cpu_check == 0) {
        schedule_check(p, monotonic_ns());
    }
}

/// A task reads a CPU clock: it must not see it ahead of its timers, however late the host's tick comes.
pub fn on_cpu_clock(p: &Arc<Process>) {
    let now = monotonic_ns();
    if CPU_IN_USE.get() && p.timers.with(|t| t.cpu_check != 0 && t.cpu_check <= now) {
        check_cpu(p, now);
    }
}

/// Sends what CPU timers and the CPU limit owe, and sets the time of the next look.
fn check_cpu(p: &Arc<Process>, now: u64) {
    let cpu = p.cpu_now();
    for (i, sig) in [SIGVTALRM, SIGPROF].into_iter().enumerate() {
        if p.timers.with_mut(|t| t.cpu[i].advance(cpu)) != 0 {
            signal::send_process(p, sig as i32, Info::kernel());
        }
    }
    let (soft, hard) = p.rlimits.get()[RLIMIT_CPU];
    if hard.saturating_mul(NS) <= cpu {
        signal::send_process(p, SIGKILL as i32, Info::kernel());
    } else if soft.saturating_mul(NS) <= cpu {
        signal::send_process(p, SIGXCPU as i32, Info::kernel());
        // Again after each further second, as Linux does.
        p.rlimits.with_mut(|r| r[RLIMIT_CPU].0 = soft.saturating_add(1));
    }
    fire_posix(p, true);
    p.timers.with_mut(|t| t.cpu_check = 0);
    let running = |t: &Arc<Task>| t.state.get() == TaskState::Running;
    if p.tasks.with(|t| t.iter().any(running)) {
        schedule_check(p, now);
    }
}

fn schedule_check(p: &Arc<Process>, now: u64) {
    let Some(left) = cpu_left(p) else { return };
    let at = now.saturating_add((left / u64::from(occlum_rt::vcpu::count())).max(CPU_CHECK_MIN));
    p.timers.with_mut(|t| t.cpu_check = at);
    arm(at);
}

/// CPU time to the nearest expiry of a CPU timer or limit; `None` without any.
fn cpu_left(p: &Arc<Process>) -> Option<u64> {
    let cpu = p.cpu_now();
    let (soft, hard) = p.rlimits.get()[RLIMIT_CPU];
    let limit =
        Some(soft.min(hard)).filter(|l| *l != u64::MAX).map(|l| l.saturating_mul(NS).saturating_sub(cpu));
    let fixed = p.timers.with(|t| t.cpu.iter().filter(|e| e.at != 0).map(|e| e.at.saturating_sub(cpu)).min());
    let posix: Vec<(Clock, u64)> = p.timers.with(|t| {
        let armed = t.posix.values().filter(|x| x.clock.is_cpu() && x.next() != 0);
        armed.map(|x| (x.clock, x.next())).collect()
    });
    let posix = posix.iter().map(|(clock, at)| at.saturating_sub(clock.now())).min();
    [limit, fixed, posix].into_iter().flatten().min()
}
