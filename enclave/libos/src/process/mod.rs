//! Tasks, processes, process groups and sessions.
//!
//! Neighbours: `mm` (the domain), `fs` (files), `signal` (dispositions), `loader` (exec), `sched`.
//! Parts: `ids` (the tables), `fork` (creation), `exit` (the end), `wait` (hearing of it), `usage` (what they use), `users` (what they have together).
//! Invariants: a process is in `PIDS` from creation until it is reaped; a task is in `TASKS` until it has ended; a process
//! whose last task ended has no mm and no files.
pub mod caps;
mod exit;
mod fork;
mod ids;
mod look;
pub mod oom;
pub mod usage;
pub mod users;
mod wait;

pub use exit::{begin_group_exit, exit_task, kill_other_threads, wake_for_signal};
pub use fork::{CloneRequest, VforkGate, do_clone, new_init, new_job, new_resident_init, release_vfork};
pub use ids::{init, peak_tasks, pid_max, task_count, try_current, with_current, with_tasks};
pub use look::Ids;
pub use wait::{WaitFor, Waited, do_wait};

use crate::fs::{FileTable, FsContext};
use crate::mm::Mm;
use crate::sched::WaitQueue;
use crate::signal::{Pending, SigActions};
use crate::timers::Timers;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use ids::PIDS;
use occlum_rt::bkl::BklCell;
use usage::Usage;

/// What a task does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskState {
    /// Created, never queued.
    New,
    /// In the run queue.
    Runnable,
    /// On a vCPU.
    Running,
    /// In wait queues, or stopped.
    Blocked,
    /// Ended.
    Dead,
}

/// What ends a task's wait before that comes what it waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndedBy {
    /// Nothing: the wait is short, or the state is not one to leave.
    Nothing,
    /// What ends the task itself.
    Death,
    /// Any signal that is delivered.
    Signal,
}
impl EndedBy {
    /// Is such an end there?
    pub fn is_there(self, t: &Task) -> bool {
        match self {
            Self::Nothing => false,
            Self::Death => crate::signal::is_fatal_pending(t),
            Self::Signal => crate::signal::has_deliverable(t),
        }
    }
}

/// Whether a call that a signal interrupted begins again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// In any case.
    Always,
    /// Unless a handler without SA_RESTART runs.
    Asked,
    /// Unless a handler runs.
    NoHandler,
    /// The same; it waits until the time that it waited for at first (CLOCK_MONOTONIC ns).
    Until(Option<u64>),
    /// Never.
    Never,
}

/// A thread: kernel stack and user context (rt), signal mask, pending signals.
pub struct Task {
    /// Thread id.
    pub tid: i32,
    /// Index in the task table; rt's tag is one more.
    pub index: usize,
    /// Its process.
    pub process: Arc<Process>,
    /// The runtime's part.
    pub rt: occlum_rt::task::Task,
    /// Scheduling state.
    pub state: BklCell<TaskState>,
    /// It was woken, though it may not have slept (`sched::wait_many`).
    pub woken: BklCell<bool>,
    /// What ends its wait early.
    pub ended_by: BklCell<EndedBy>,
    /// vCPU it runs or ran on.
    pub vcpu: BklCell<u32>,
    /// Policy, priority, affinity.
    pub sched: crate::sched::class::Entity,
    /// Blocked signals.
    pub mask: BklCell<u64>,
    /// Mask to restore after sigsuspend-like calls, once a handler frame is built or the call returns.
    pub saved_mask: BklCell<Option<u64>>,
    /// Signals sent to this thread.
    pub pending: BklCell<Pending>,
    /// Alternate stack: (sp, size, flags).
    pub altstack: BklCell<(u64, u64, u32)>,
    /// Cleared and woken at exit (set_tid_address, CLONE_CHILD_CLEARTID).
    pub clear_tid: BklCell<u64>,
    /// Robust list head.
    pub robust_list: BklCell<u64>,
    /// The context's rip is an original offset to be looked up before the next entry.
    pub resolve: BklCell<bool>,
    /// The context's rip is the original pc that belongs to the resume address.
    pub rip_known: BklCell<bool>,
    /// The epoch of the code cache in which the resume address was last seen to be good (`code::settle`).
    pub code_epoch: BklCell<u64>,
    /// Its next instruction changes the code that it belongs to (`code::step`).
    pub must_step: BklCell<bool>,
    /// How often it tried again what had no memory, since its last system call with enough of it.
    pub short_of_memory: BklCell<u32>,
    /// How often in a row there was no room for the code that it would go on with.
    pub short_of_code: BklCell<u32>,
    /// An access that its own domain kept from getting on (`emulate::twice`).
    pub attempt: BklCell<Option<crate::emulate::twice::Attempt>>,
    /// The single instruction that it executes of code that it changes itself.
    pub step: BklCell<Option<crate::code::Step>>,
    /// The flags AC and ID as the program set them (`emulate`).
    pub idle_flags: BklCell<u64>,
    /// rdtsc is a SIGSEGV (`PR_SET_TSC`).
    pub tsc_denied: BklCell<bool>,
    /// Thread name.
    pub comm: BklCell<[u8; 16]>,
    /// Woken when a vfork child lets go of its parent's memory.
    pub vfork_done: BklCell<Option<Arc<VforkGate>>>,
    /// What it has used, without the time since `on_cpu_since`.
    pub usage: BklCell<Usage>,
    /// CPU time at which the measured call began that it is in (`usage`).
    pub in_call_since: BklCell<Option<u64>>,
    /// When it last got a vCPU, CLOCK_MONOTONIC ns.
    pub on_cpu_since: BklCell<u64>,
    /// How the call that a signal interrupts is begun again, if not as `signal` says for its number.
    pub restart: BklCell<Option<Restart>>,
    /// Its credentials, where they are not its process's.
    pub(super) own_cred: BklCell<Option<Cred>>,
    /// In how many lists of waiters of futexes it is.
    pub futexes: BklCell<usize>,
    /// Asked to end with this status (exit, exec from another thread).
    pub must_exit: BklCell<Option<WaitStatus>>,
}

/// Supplementary groups: in order, as Linux keeps them. Copies share one list: there may be 65536, and each look at a file
/// takes a copy.
#[derive(Clone, Debug, Default)]
pub struct Groups(Arc<[u32]>);
impl Groups {
    /// These, in any order.
    pub fn new(mut groups: Vec<u32>) -> Self {
        groups.sort_unstable();
        Self(groups.into())
    }
    /// Is `gid` one of them?
    pub fn contains(&self, gid: u32) -> bool {
        self.0.binary_search(&gid).is_ok()
    }
    /// All of them.
    pub fn list(&self) -> &[u32] {
        &self.0
    }
}

/// User and group ids.
#[derive(Clone, Debug, Default)]
pub struct Cred {
    /// Real uid.
    pub uid: u32,
    /// Effective uid.
    pub euid: u32,
    /// Saved uid.
    pub suid: u32,
    /// The one for files: the effective one, unless setfsuid(2) says otherwise.
    pub fsuid: u32,
    /// Real gid.
    pub gid: u32,
    /// Effective gid.
    pub egid: u32,
    /// Saved gid.
    pub sgid: u32,
    /// The one for files.
    pub fsgid: u32,
    /// Supplementary groups.
    pub groups: Groups,
    /// Capabilities.
    pub caps: caps::Caps,
}

/// How a process ended, in wait4's encoding.
pub type WaitStatus = i32;

/// What getrusage shows.
#[derive(Clone, Copy, Default)]
pub struct Times {
    /// Of its own threads, those included that have ended.
    pub own: Usage,
    /// Of reaped children, with theirs.
    pub children: Usage,
}

/// What a process is told about itself and inherits: prctl(2), personality(2), /proc.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
    /// PR_SET_THP_DISABLE.
    pub thp_disabled: bool,
    /// personality(2).
    pub personality: u32,
    /// PR_SET_TIMERSLACK, ns.
    pub timer_slack: u64,
    /// /proc/PID/oom_score_adj: who dies first when memory ends.
    pub oom_score_adj: i32,
}
/// Of the first process.
pub const DEFAULT_SLACK: u64 = 50_000;
impl Default for Traits {
    fn default() -> Self {
        Self {
            no_new_privs: false,
            thp_disabled: false,
            personality: 0,
            timer_slack: DEFAULT_SLACK,
            oom_score_adj: 0,
        }
    }
}

/// A thread group: owns a domain, files, dispositions.
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Parent; init adopts orphans.
    pub parent: BklCell<Weak<Process>>,
    /// Children, running and zombie.
    pub children: BklCell<Vec<Arc<Process>>>,
    /// Threads alive.
    pub tasks: BklCell<Vec<Arc<Task>>>,
    /// Memory; `None` once ended.
    pub mm: BklCell<Option<Arc<Mm>>>,
    /// Descriptors; `None` once ended.
    pub files: BklCell<Option<Arc<FileTable>>>,
    /// Root, working directory, umask.
    pub fs: BklCell<Arc<FsContext>>,
    /// Credentials of its first thread, which others see, and of all threads that have none of their own.
    pub(super) cred: BklCell<Cred>,
    /// Process group.
    pub pgid: BklCell<i32>,
    /// Session.
    pub sid: BklCell<i32>,
    /// Signal dispositions.
    pub actions: BklCell<SigActions>,
    /// What its signals allow control flow.
    pub flow: BklCell<occlum_cfi::Flow>,
    /// Signals sent to the process.
    pub pending: BklCell<Pending>,
    /// While it makes a copy of itself: signals to several processes that came meanwhile, of which the copy will be one.
    pub forking: BklCell<Option<Pending>>,
    /// Woken when a child changes state.
    pub child_event: Arc<WaitQueue>,
    /// Woken when a signal is sent to it or to one of its threads.
    pub signal_event: Arc<WaitQueue>,
    /// Woken when it ends, and when it is reaped.
    pub end_event: Arc<WaitQueue>,
    /// Set when it ended: a zombie until reaped.
    pub exit_status: BklCell<Option<WaitStatus>>,
    /// exit_group or a fatal signal is under way.
    pub exiting: BklCell<Option<WaitStatus>>,
    /// Since when somebody without memory has waited for its end.
    pub awaited_since: BklCell<Option<u64>>,
    /// Stopped by a job-control signal; `Some(sig)` until SIGCONT.
    pub stopped: BklCell<Option<i32>>,
    /// A stop or continue that wait4 has not yet reported: (status).
    pub job_event: BklCell<Option<WaitStatus>>,
    /// Woken by SIGCONT and SIGKILL.
    pub cont_event: WaitQueue,
    /// Signal that tells the parent about the end.
    pub exit_signal: BklCell<i32>,
    /// Program path.
    pub exe: BklCell<Vec<u8>>,
    /// Resource limits: (soft, hard) by RLIMIT_ number.
    pub rlimits: BklCell<[(u64, u64); 16]>,
    /// CPU times.
    pub times: BklCell<Times>,
    /// Interval timers, POSIX timers, the look at CPU timers.
    pub timers: BklCell<Timers>,
    /// Has called exec since fork (setpgid's EACCES).
    pub execed: BklCell<bool>,
    /// Start, CLOCK_MONOTONIC ns.
    pub start_ns: u64,
    /// PR_SET_CHILD_SUBREAPER.
    pub subreaper: BklCell<bool>,
    /// PR_SET_PDEATHSIG.
    pub pdeathsig: BklCell<i32>,
    /// What else prctl and personality keep.
    pub traits: BklCell<Traits>,
}

/// The running task.
pub fn current() -> Arc<Task> {
    match try_current() {
        Some(t) => t,
        None => panic!("current() in an idle context"),
    }
}

/// The running task's process; the first process while the enclave starts.
pub fn current_process() -> Arc<Process> {
    match with_current(|t| t.process.clone()).or_else(|| Process::by_pid(1)) {
        Some(p) => p,
        None => panic!("no process yet"),
    }
}

/// The running task's memory.
pub fn current_mm() -> Arc<Mm> {
    match with_current(|t| t.process.mm.with(Clone::clone)).flatten() {
        Some(mm) => mm,
        None => panic!("a running task has memory"),
    }
}

/// The running thread's credentials; the first process's while the enclave starts.
pub fn cred() -> Cred {
    with_current(Task::cred).unwrap_or_else(|| current_process().cred())
}
/// Changes the running thread's; those of other threads stay as they are.
pub fn change_cred<R>(f: impl FnOnce(&mut Cred) -> R) -> R {
    current().change_cred(f)
}

impl Process {
    /// The file table (an empty one after exit).
    pub fn files(&self) -> Arc<FileTable> {
        self.files.with(Clone::clone).unwrap_or_else(FileTable::empty)
    }
    /// Root, cwd, umask.
    pub fn fs(&self) -> Arc<FsContext> {
        self.fs.with(Clone::clone)
    }
    /// Credentials, as others see them.
    pub fn cred(&self) -> Cred {
        self.cred.with(Clone::clone)
    }
    /// Looks at them.
    pub fn with_cred<R>(&self, f: impl FnOnce(&Cred) -> R) -> R {
        self.cred.with(f)
    }
    /// The process with this pid.
    pub fn by_pid(pid: i32) -> Option<Arc<Process>> {
        PIDS.with(|p| p.get(&pid).cloned())
    }
    /// All processes, zombies included.
    pub fn all() -> Vec<Arc<Process>> {
        PIDS.with(|p| p.values().cloned().collect())
    }
    /// Memory, if it still has one.
    pub fn mm(&self) -> Option<Arc<Mm>> {
        self.mm.with(Clone::clone)
    }
    /// Parent's pid, 0 for init.
    pub fn ppid(&self) -> i32 {
        self.parent.with(|p| p.upgrade().map_or(0, |p| p.pid))
    }
    /// Soft limit of a resource.
    pub fn rlimit(&self, which: usize) -> u64 {
        self.rlimits.with(|r| r.get(which).map_or(u64::MAX, |l| l.0))
    }
    /// CPU time of all its threads up to now.
    pub fn cpu_now(&self) -> u64 {
        let tasks = self.tasks.with(Clone::clone);
        tasks.iter().filter(|t| t.state.get() == TaskState::Running).for_each(|t| t.charge_cpu());
        self.times.get().own.cpu_ns
    }
    /// About the part of that outside the LibOS; what calls that are under way took so far does not count.
    pub fn user_now(&self) -> u64 {
        self.cpu_now();
        let under_way = self.tasks.with(|t| t.iter().map(|t| t.in_call_for()).sum());
        self.times.get().own.user(under_way)
    }
    /// What it has used up to now.
    pub fn usage(&self) -> Usage {
        self.cpu_now();
        let peak = self.mm().map_or(0, |mm| mm.peak_pages.get() * 4);
        self.times.with_mut(|t| {
            t.own.peak_kib = t.own.peak_kib.max(peak);
            t.own.split();
            t.own
        })
    }
    /// First task (the leader while it lives).
    pub fn main_task(&self) -> Option<Arc<Task>> {
        self.tasks.with(|t| t.first().cloned())
    }
}

impl Process {
    /// About how many objects of some hundred bytes the LibOS keeps for it.
    fn kept_objects(&self) -> usize {
        let mappings = self.mm().map_or(0, |mm| mm.mapping_count());
        // An open file may be a queue full of messages.
        let of_files = |f: &Arc<FileTable>| 16 * f.open_count() + f.lock_count();
        let files = self.files.with(|f| f.as_ref().map_or(0, of_files));
        let of_tasks = |all: &Vec<Arc<Task>>| all.iter().map(|t| 16 + t.futexes.get()).sum::<usize>();
        let own = mappings + files + self.timers.with(Timers::count) + self.tasks.with(of_tasks);
        own + crate::ipc::sem::undo_count(self.pid)
    }
}

impl Task {
    /// Credentials.
    pub fn cred(&self) -> Cred {
        self.with_cred(Clone::clone)
    }
    /// Looks at them.
    pub fn with_cred<R>(&self, f: impl FnOnce(&Cred) -> R) -> R {
        self.own_cred.with(|own| match own {
            Some(c) => f(c),
            None => self.process.cred.with(f),
        })
    }
    /// Changes them, and no other thread's.
    pub fn change_cred<R>(&self, f: impl FnOnce(&mut Cred) -> R) -> R {
        let mut c = self.cred();
        let r = f(&mut c);
        self.set_cred(c);
        r
    }
    fn set_cred(&self, c: Cred) {
        self.with_cred(|old| {
            let ids = |c: &Cred| [c.euid, c.egid, c.fsuid, c.fsgid];
            if ids(old) != ids(&c) || c.caps.permitted & !old.caps.permitted != 0 {
                // What it knows from before is not for those whose ids it has now.
                self.process.mm().iter().for_each(|mm| mm.dumpable.set(false));
                self.process.pdeathsig.set(0);
            }
        });
        if self.tid != self.process.pid {
            self.own_cred.set(Some(c));
            return;
        }
        let old = self.process.cred.replace(c);
        let others = self.process.tasks.with(Clone::clone);
        for t in others.iter().filter(|t| t.tid != self.tid && t.own_cred.with(Option::is_none)) {
            t.own_cred.set(Some(old.clone()));
        }
    }
    /// It is the only thread from now on.
    pub fn settle_cred(&self) {
        if let Some(own) = self.own_cred.take() {
            self.process.cred.set(own);
        }
    }
    /// Until when a call that begins again waits; `None`: it is none.
    pub fn restarted(&self) -> Option<Option<u64>> {
        match self.restart.replace(None) {
            Some(Restart::Until(deadline)) => Some(deadline),
            _ => None,
        }
    }
    /// The status it has to end with, if it has to.
    pub fn ending(&self) -> Option<WaitStatus> {
        self.process.exiting.get().or(self.must_exit.get())
    }
    /// Adds the time since it got its vCPU to the process's CPU time.
    pub fn charge_cpu(&self) {
        let now = crate::time::monotonic_ns();
        let since = self.on_cpu_since.replace(now);
        let ran = now.saturating_sub(since);
        crate::sched::charge(self, ran, now);
        self.count_cpu(ran);
    }
    /// The task gets a vCPU: from now on its time counts.
    pub fn start_cpu(&self) {
        self.on_cpu_since.set(crate::time::monotonic_ns());
        crate::timers::on_run(&self.process);
    }
    /// CPU time up to now.
    pub fn cpu_now(&self) -> u64 {
        if self.state.get() == TaskState::Running {
            self.charge_cpu();
        }
        self.usage.get().cpu_ns
    }
    /// Any task by tid.
    pub fn by_tid(tid: i32) -> Option<Arc<Task>> {
        ids::task_by_tid(tid)
    }
}
