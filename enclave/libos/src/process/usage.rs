//! What processes use, as getrusage(2) tells it: CPU time of programs and of the system, faults, context switches, memory.
//!
//! CPU time is exact; how it divides is estimated, as Linux does where it counts by ticks: to read the clock at both ends of
//! a short system call would cost a third of its time. So of calls that were short one of some is measured, and stands for
//! the others of its number; calls that were long are all measured, and so are page faults, translation and what calls do
//! between breaths (`sched::Breath`).
//! Invariants: the times that a process is shown never decrease; the system has no more of the CPU time than there was.
use super::{Process, Task, TaskState};
use occlum_rt::bkl::BklCell;

/// What a task, a process or its children have used.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Time on a vCPU (ns).
    pub cpu_ns: u64,
    /// About how much of that the LibOS took.
    system_ns: u64,
    /// How it was divided when it was last shown.
    shown: (u64, u64),
    /// Page faults.
    pub faults: u64,
    /// Context switches: to wait, and because others went first.
    pub switches: [u64; 2],
    /// Most memory (KiB).
    pub peak_kib: u64,
}

impl Usage {
    /// User and system time (ns).
    pub fn split(&mut self) -> (u64, u64) {
        let (user, system) = self.shown;
        let system = self.system_ns.min(self.cpu_ns).max(system);
        let user = self.cpu_ns.saturating_sub(system).max(user);
        self.shown = (user, self.cpu_ns.saturating_sub(user));
        self.shown
    }

    /// User time if the LibOS took so much more than is counted yet.
    pub fn user(&self, more_system_ns: u64) -> u64 {
        self.cpu_ns.saturating_sub(self.system_ns.saturating_add(more_system_ns))
    }

    /// Adds what another one used.
    pub fn add(&mut self, mut other: Usage) {
        let (mine, its) = (self.split(), other.split());
        self.cpu_ns += other.cpu_ns;
        self.shown = (mine.0 + its.0, mine.1 + its.1);
        self.system_ns = self.shown.1;
        self.faults += other.faults;
        (0..2).for_each(|n| self.switches[n] += other.switches[n]);
        self.peak_kib = self.peak_kib.max(other.peak_kib);
    }
}

/// Most numbers of system calls; those above count as one.
const NUMBERS: usize = 512;
/// Of each number: how many calls until one is measured, and from that to the next.
static TURNS: BklCell<[(u8, u8); NUMBERS]> = BklCell::new([(1, 1); NUMBERS]);

/// A system call that is measured: when it began (CPU time of its task), and for how many it stands.
pub struct Measured {
    begun: u64,
    stands_for: u8,
}

/// A system call begins.
#[inline]
pub fn begin(t: &Task, nr: u64) -> Option<Measured> {
    let stands_for = TURNS.with_mut(|turns| {
        let (left, every) = &mut turns[(nr as usize).min(NUMBERS - 1)];
        *left -= 1;
        if *left == 0 {
            *left = *every;
            return Some(*every);
        }
        None
    })?;
    let begun = t.cpu_now();
    t.in_call_since.set(Some(begun));
    Some(Measured { begun, stands_for })
}

/// One that is measured ends.
pub fn end(t: &Task, nr: u64, m: &Measured) {
    let took = t.cpu_now().saturating_sub(m.begun);
    t.in_call_since.set(None);
    let every = match took {
        0..1_000 => 32,
        1_000..4_000 => 8,
        _ => 1,
    };
    // A long one among short ones is no measure of those.
    t.count_system(took.saturating_mul(u64::from(m.stands_for.min(every))));
    TURNS.with_mut(|turns| turns[(nr as usize).min(NUMBERS - 1)] = (every, every));
}

/// What `work` takes is the system's.
pub fn of_system<R>(t: &Task, work: impl FnOnce() -> R) -> R {
    let begun = t.cpu_now();
    let outer = t.in_call_since.replace(Some(begun));
    let r = work();
    t.in_call_since.set(outer);
    t.count_system(t.cpu_now().saturating_sub(begun));
    r
}

impl Task {
    /// What it has used up to now; the memory is its process's.
    pub fn usage_now(&self, process: &Process) -> Usage {
        self.cpu_now();
        let peak_kib = process.usage().peak_kib;
        self.usage.with_mut(|u| {
            u.peak_kib = peak_kib;
            u.split();
            *u
        })
    }
    /// How long it has been in the measured call that it is in (CPU time).
    pub fn in_call_for(&self) -> u64 {
        let now = self.usage.get().cpu_ns;
        self.in_call_since.get().map_or(0, |begun| now.saturating_sub(begun))
    }
    fn count(&self, what: impl Fn(&mut Usage)) {
        self.usage.with_mut(&what);
        self.process.times.with_mut(|times| what(&mut times.own));
    }
    /// It ran for so long.
    pub fn count_cpu(&self, ns: u64) {
        self.count(|u| u.cpu_ns += ns);
    }
    /// So much of that was the LibOS's, about: a guess too high is not held against what comes.
    pub fn count_system(&self, ns: u64) {
        self.count(|u| u.system_ns = u.system_ns.saturating_add(ns).min(u.cpu_ns));
    }
    /// A call has gone on for so long; one that is measured counts when it ends.
    pub fn count_long(&self, ns: u64) {
        if self.in_call_since.get().is_none() {
            self.charge_cpu();
            self.count_system(ns);
        }
    }
    /// A page fault.
    pub fn count_fault(&self) {
        self.count(|u| u.faults += 1);
    }
    /// It leaves its vCPU to another one.
    pub fn count_switch(&self) {
        let forced = usize::from(self.state.get() != TaskState::Blocked);
        self.count(|u| u.switches[forced] += 1);
    }
}
