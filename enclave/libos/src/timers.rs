//! Timers of processes: setitimer's three, POSIX timers, and the CPU-time limit.
//!
//! Parts: `posix` (POSIX timers), `due` (when all of them are looked at). Neighbours: `sched` (asks at those times, and
//! tells when a process with CPU timers gets a vCPU), `signal` (delivery; it asks `on_delivery` for a timer's overruns, and
//! says when SIGALRM is taken), `syscall::{time, timers}`.
//! Invariants: ITIMER_REAL is not due again before its SIGALRM is taken. CPU timers are checked at wall times: while a
//! process runs, the next check is no later than its timers could expire if it had all vCPUs; while it does not run there
//! is none. A process without threads has no timers.
mod due;
mod posix;

pub use posix::{Notify, create, delete, get, on_delivery, on_discard, on_wanted, overrun, set};

use crate::process::{Process, Task, TaskState};
use crate::signal::{self, Info};
use crate::time::{monotonic_ns, realtime_ns};
use alloc::sync::Arc;
use due::{Alarm, What};
use occlum_linux_abi::signo::{SIGALRM, SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU};
use occlum_rt::bkl::BklCell;
use posix::Posix;

const NS: u64 = 1_000_000_000;
/// Shortest time between two looks at CPU timers.
const CPU_CHECK_MIN: u64 = 1_000_000;
/// So long one look goes on; what else is due waits for the next one.
const ROUND_NS: u64 = 500_000;
const RLIMIT_CPU: usize = 0;

/// Has any process ever had a CPU timer or limit?
static CPU_IN_USE: BklCell<bool> = BklCell::new(false);

/// What a timer measures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
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

/// The timers of a process.
#[derive(Default)]
pub struct Timers {
    /// ITIMER_REAL. Armed without an alarm: its SIGALRM has not been taken yet.
    real: Expiry,
    real_alarm: Alarm,
    /// ITIMER_VIRTUAL and ITIMER_PROF.
    cpu: [Expiry; 2],
    posix: Posix,
    /// When the CPU timers are looked at, 0: when the process next gets a vCPU.
    cpu_check: u64,
    check_alarm: Alarm,
}
impl Timers {
    /// POSIX timers.
    pub fn count(&self) -> usize {
        self.posix.count()
    }
    fn set_check(&mut self, pid: i32, at: u64) {
        self.cpu_check = at;
        self.check_alarm.set(at, pid, What::Cpu);
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
    /// What it measures: the wall clock, user time, or all CPU time.
    fn now(self, p: &Process) -> u64 {
        match self {
            Itimer::Real => monotonic_ns(),
            Itimer::Virtual => p.user_now(),
            Itimer::Prof => p.cpu_now(),
        }
    }
}
/// Those that measure CPU time, and their signals.
const CPU_ITIMERS: [(Itimer, u32); 2] = [(Itimer::Virtual, SIGVTALRM), (Itimer::Prof, SIGPROF)];

/// Sets an interval timer: ns from now (0 off) and period; returns the old (left, period).
pub fn set_itimer(p: &Arc<Process>, which: Itimer, value: u64, every: u64) -> (u64, u64) {
    let old = get_itimer(p, which);
    let at = if value == 0 { 0 } else { which.now(p).saturating_add(value) };
    p.timers.with_mut(|t| {
        *t.itimer(which) = Expiry { at, every };
        if which == Itimer::Real {
            t.real_alarm.set(at, p.pid, What::Real);
        }
    });
    if which != Itimer::Real {
        cpu_timers_changed(p);
    }
    old
}

/// (left, period) of an interval timer.
pub fn get_itimer(p: &Arc<Process>, which: Itimer) -> (u64, u64) {
    let now = which.now(p);
    let (e, waits) =
        p.timers.with_mut(|t| (*t.itimer(which), which == Itimer::Real && !t.real_alarm.is_set()));
    // One that is due but has not fired yet still counts as armed.
    (if e.at == 0 || waits { 0 } else { e.left(now).max(1000) }, e.every)
}

/// Fires what is due; called with the scheduler's timers.
pub fn fire(now: u64) {
    if !due::is_time(now) {
        return;
    }
    let until = monotonic_ns().saturating_add(ROUND_NS);
    while let Some((pid, what)) = due::take(now) {
        if let Some(p) = Process::by_pid(pid) {
            match what {
                What::Real => fire_real(&p),
                What::Cpu => check_cpu(&p, now),
                What::Posix(id) => posix::look(&p, id),
            }
        }
        if monotonic_ns() > until {
            break;
        }
    }
    due::look_again();
}

/// A periodic one goes on when its signal is taken: at any shorter period it would keep everybody busy.
fn fire_real(p: &Arc<Process>) {
    p.timers.with_mut(|t| {
        t.real_alarm.clear();
        if t.real.every == 0 {
            t.real.at = 0;
        }
    });
    signal::send_process(p, SIGALRM as i32, Info::kernel());
}

/// A SIGALRM sent to the process is being taken.
pub fn on_alarm(p: &Process) {
    let now = monotonic_ns();
    p.timers.with_mut(|t| {
        if t.real.at != 0 && !t.real_alarm.is_set() {
            t.real.advance(now);
            t.real_alarm.set(t.real.at, p.pid, What::Real);
        }
    });
}

/// exec deletes POSIX timers, with what they have queued; the others stay.
pub fn reset_for_exec(p: &Process) {
    p.timers.with_mut(|t| t.posix.clear());
    posix::forget_signals(p);
}

/// The last thread of the process has ended.
pub fn end(p: &Process) {
    drop(p.timers.take());
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
    for (which, sig) in CPU_ITIMERS {
        let armed = p.timers.with_mut(|t| t.itimer(which).at != 0);
        let now = if armed { which.now(p) } else { 0 };
        if p.timers.with_mut(|t| t.itimer(which).advance(now)) != 0 {
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
    posix::fire_cpu(p);
    p.timers.with_mut(|t| t.set_check(p.pid, 0));
    let running = |t: &Arc<Task>| t.state.get() == TaskState::Running;
    if p.tasks.with(|t| t.iter().any(running)) {
        schedule_check(p, now);
    }
}

fn schedule_check(p: &Arc<Process>, now: u64) {
    let Some(left) = cpu_left(p) else { return };
    let at = now.saturating_add((left / u64::from(occlum_rt::vcpu::count())).max(CPU_CHECK_MIN));
    p.timers.with_mut(|t| t.set_check(p.pid, at));
}

/// CPU time to the nearest expiry of a CPU timer or limit; `None` without any.
fn cpu_left(p: &Arc<Process>) -> Option<u64> {
    let cpu = p.cpu_now();
    let (soft, hard) = p.rlimits.get()[RLIMIT_CPU];
    let limit =
        Some(soft.min(hard)).filter(|l| *l != u64::MAX).map(|l| l.saturating_mul(NS).saturating_sub(cpu));
    let armed = CPU_ITIMERS.map(|(which, _)| (which, p.timers.with_mut(|t| t.itimer(which).at)));
    let armed = armed.into_iter().filter(|(_, at)| *at != 0);
    let fixed = armed.map(|(which, at)| at.saturating_sub(which.now(p))).min();
    let posix = p.timers.with(|t| t.posix.first_of_cpu());
    let posix = posix.iter().map(|(clock, at)| at.saturating_sub(clock.now())).min();
    [limit, fixed, posix].into_iter().flatten().min()
}
