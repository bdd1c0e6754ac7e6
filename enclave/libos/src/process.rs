//! Tasks, processes, process groups and sessions; creation (fork, vfork, clone), exit and wait.
//!
//! Neighbours: `mm` (the domain), `fs` (files), `signal` (dispositions), `loader` (exec), `sched`.
//! Invariants: a process is in `PIDS` from creation until it is reaped; a task is in `TASKS` until it has ended; a process
//! whose last task ended has no mm and no files.
use crate::errno::{Errno, Result};
use crate::fs::{FileTable, FsContext};
use crate::mm::Mm;
use crate::sched::{self, WaitQueue};
use crate::signal::{Pending, SigActions};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use occlum_linux_abi::{clone as cl, signo, wait as w};
use occlum_rt::bkl::BklCell;

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
    /// Whether its wait may be ended by a signal.
    pub interruptible: BklCell<bool>,
    /// vCPU it runs or ran on.
    pub vcpu: BklCell<u32>,
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
    /// Thread name.
    pub comm: BklCell<[u8; 16]>,
    /// Woken when a vfork child lets go of its parent's memory.
    pub vfork_done: BklCell<Option<Arc<VforkGate>>>,
    /// When it last got a vCPU, CLOCK_MONOTONIC ns.
    pub on_cpu_since: BklCell<u64>,
    /// Asked to end with this status (exit, exec from another thread).
    pub must_exit: BklCell<Option<WaitStatus>>,
}

/// What a vfork parent waits on.
#[derive(Default)]
pub struct VforkGate {
    /// Set when the child called exec or ended.
    pub open: BklCell<bool>,
    /// Where the parent waits.
    pub queue: WaitQueue,
}
impl VforkGate {
    fn release(&self) {
        self.open.set(true);
        self.queue.wake_all();
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
    /// Real gid.
    pub gid: u32,
    /// Effective gid.
    pub egid: u32,
    /// Saved gid.
    pub sgid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// How a process ended, in wait4's encoding.
pub type WaitStatus = i32;

/// CPU time and limits: what getrusage and prlimit show.
#[derive(Clone, Copy, Default)]
pub struct Times {
    /// ns on a vCPU (user and system are not told apart).
    pub cpu_ns: u64,
    /// The same of reaped children.
    pub children_ns: u64,
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
    /// Credentials.
    pub cred: BklCell<Cred>,
    /// Process group.
    pub pgid: BklCell<i32>,
    /// Session.
    pub sid: BklCell<i32>,
    /// Signal dispositions.
    pub actions: BklCell<SigActions>,
    /// Signals sent to the process.
    pub pending: BklCell<Pending>,
    /// Woken when a child changes state, or a signal arrives for signalfd-like waits.
    pub child_event: Arc<WaitQueue>,
    /// Set when it ended: a zombie until reaped.
    pub exit_status: BklCell<Option<WaitStatus>>,
    /// exit_group or a fatal signal is under way.
    pub exiting: BklCell<Option<WaitStatus>>,
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
    /// ITIMER_REAL: (next expiry ns or 0, interval ns).
    pub itimer: BklCell<(u64, u64)>,
    /// Has called exec since fork (setpgid's EACCES).
    pub execed: BklCell<bool>,
    /// Start, CLOCK_MONOTONIC ns.
    pub start_ns: u64,
    /// PR_SET_CHILD_SUBREAPER.
    pub subreaper: BklCell<bool>,
    /// PR_SET_PDEATHSIG.
    pub pdeathsig: BklCell<i32>,
}

static TASKS: BklCell<Vec<Option<Arc<Task>>>> = BklCell::new(Vec::new());
static PIDS: BklCell<BTreeMap<i32, Arc<Process>>> = BklCell::new(BTreeMap::new());
static NEXT_PID: BklCell<i32> = BklCell::new(1);
static LIMITS: BklCell<(i32, usize)> = BklCell::new((32768, 1024));

/// Sets pid_max and the task limit (from the measured configuration).
pub fn init(pid_max: u32, max_tasks: u32) {
    LIMITS.set((pid_max.clamp(16, 4_194_304) as i32, max_tasks.clamp(1, 8000) as usize));
}

/// pid_max as configured.
pub fn pid_max() -> i32 {
    LIMITS.get().0
}

/// The running task; `None` in a vCPU's idle context.
pub fn try_current() -> Option<Arc<Task>> {
    // Tag 0 is an idle context.
    let index = occlum_rt::task::current_tag().checked_sub(1)?;
    TASKS.with(|t| t.get(usize::try_from(index).ok()?)?.clone())
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
    match try_current().map(|t| t.process.clone()).or_else(|| Process::by_pid(1)) {
        Some(p) => p,
        None => panic!("no process yet"),
    }
}
/// The running task's memory.
pub fn current_mm() -> Arc<Mm> {
    match current().process.mm.with(Clone::clone) {
        Some(mm) => mm,
        None => panic!("a running task has memory"),
    }
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
    /// Credentials.
    pub fn cred(&self) -> Cred {
        self.cred.with(Clone::clone)
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
    /// First task (the leader while it lives).
    pub fn main_task(&self) -> Option<Arc<Task>> {
        self.tasks.with(|t| t.first().cloned())
    }
}

impl Task {
    /// The status it has to end with, if it has to.
    pub fn ending(&self) -> Option<WaitStatus> {
        self.process.exiting.get().or(self.must_exit.get())
    }
    /// Adds the time since it got its vCPU to the process's CPU time.
    pub fn charge_cpu(&self) {
        let now = crate::time::monotonic_ns();
        let since = self.on_cpu_since.replace(now);
        self.process.times.with_mut(|t| t.cpu_ns += now.saturating_sub(since));
    }
    /// Any task by tid.
    pub fn by_tid(tid: i32) -> Option<Arc<Task>> {
        TASKS.with(|t| t.iter().flatten().find(|t| t.tid == tid).cloned())
    }
}

/// A pid not in use by a process, thread, group or session. EAGAIN when there is none.
fn alloc_pid() -> Result<i32> {
    let max = pid_max();
    for _ in 0..max {
        let pid = NEXT_PID.get();
        NEXT_PID.set(if pid + 1 >= max { 2 } else { pid + 1 });
        let used = PIDS.with(|p| {
            p.contains_key(&pid)
                || p.values().any(|x| {
                    x.pgid.get() == pid
                        || x.sid.get() == pid
                        || x.tasks.with(|t| t.iter().any(|t| t.tid == pid))
                })
        });
        if !used {
            return Ok(pid);
        }
    }
    Err(Errno::EAGAIN)
}

fn new_task(process: &Arc<Process>, tid: i32) -> Result<Arc<Task>> {
    let (_, max) = LIMITS.get();
    let index = TASKS.with_mut(|t| {
        let live = t.iter().flatten().count();
        if live >= max {
            return Err(Errno::EAGAIN);
        }
        if let Some(i) = t.iter().position(Option::is_none) {
            return Ok(i);
        }
        t.push(None);
        Ok(t.len() - 1)
    })?;
    let rt = occlum_rt::task::Task::new(task_main, index as u64 + 1).ok_or(Errno::EAGAIN)?;
    let task = Arc::new(Task {
        tid,
        index,
        process: process.clone(),
        rt,
        state: BklCell::new(TaskState::New),
        interruptible: BklCell::new(true),
        vcpu: BklCell::new(0),
        mask: BklCell::new(0),
        saved_mask: BklCell::new(None),
        pending: BklCell::new(Pending::default()),
        altstack: BklCell::new((0, 0, 2)),
        clear_tid: BklCell::new(0),
        robust_list: BklCell::new(0),
        resolve: BklCell::new(true),
        rip_known: BklCell::new(true),
        comm: BklCell::new([0; 16]),
        vfork_done: BklCell::new(None),
        on_cpu_since: BklCell::new(crate::time::monotonic_ns()),
        must_exit: BklCell::new(None),
    });
    TASKS.with_mut(|t| t[index] = Some(task.clone()));
    process.tasks.with_mut(|t| t.push(task.clone()));
    Ok(task)
}

/// Creates process 1, without memory: the caller runs exec for it.
pub fn new_init(files: Arc<FileTable>, fs: Arc<FsContext>, cred: Cred) -> Result<Arc<Task>> {
    let pid = alloc_pid()?;
    let process = Arc::new(Process {
        pid,
        parent: BklCell::new(Weak::new()),
        children: BklCell::new(Vec::new()),
        tasks: BklCell::new(Vec::new()),
        mm: BklCell::new(None),
        files: BklCell::new(Some(files)),
        fs: BklCell::new(fs),
        cred: BklCell::new(cred),
        pgid: BklCell::new(pid),
        sid: BklCell::new(pid),
        actions: BklCell::new(SigActions::default()),
        pending: BklCell::new(Pending::default()),
        child_event: Arc::new(WaitQueue::new()),
        exit_status: BklCell::new(None),
        exiting: BklCell::new(None),
        stopped: BklCell::new(None),
        job_event: BklCell::new(None),
        cont_event: WaitQueue::new(),
        exit_signal: BklCell::new(signo::SIGCHLD as i32),
        exe: BklCell::new(Vec::new()),
        rlimits: BklCell::new(default_rlimits()),
        times: BklCell::new(Times::default()),
        itimer: BklCell::new((0, 0)),
        execed: BklCell::new(true),
        start_ns: crate::time::monotonic_ns(),
        subreaper: BklCell::new(false),
        pdeathsig: BklCell::new(0),
    });
    PIDS.with_mut(|p| p.insert(pid, process.clone()));
    new_task(&process, pid)
}

fn default_rlimits() -> [(u64, u64); 16] {
    const INF: u64 = u64::MAX;
    let mut r = [(INF, INF); 16];
    r[3] = (8 << 20, INF); // RLIMIT_STACK
    r[4] = (0, INF); // RLIMIT_CORE
    r[6] = (LIMITS.get().1 as u64, LIMITS.get().1 as u64); // RLIMIT_NPROC
    r[7] = (1024, 1 << 20); // RLIMIT_NOFILE
    r[8] = (8 << 20, 8 << 20); // RLIMIT_MEMLOCK
    r[11] = (1 << 16, 1 << 16); // RLIMIT_SIGPENDING
    r[12] = (819_200, 819_200); // RLIMIT_MSGQUEUE
    r[13] = (0, 0); // RLIMIT_NICE
    r[14] = (0, 0); // RLIMIT_RTPRIO
    r
}

/// clone(2) and fork(2), vfork(2), clone3(2) after their arguments were read.
#[derive(Clone, Copy, Default)]
pub struct CloneRequest {
    /// CLONE_* without the signal byte.
    pub flags: u64,
    /// Signal at exit.
    pub exit_signal: i32,
    /// New stack pointer, 0 = the parent's.
    pub stack: u64,
    /// CLONE_PARENT_SETTID.
    pub parent_tid: u64,
    /// CLONE_CHILD_SETTID / CLEARTID.
    pub child_tid: u64,
    /// CLONE_SETTLS.
    pub tls: u64,
}

fn check_clone(r: &CloneRequest) -> Result<()> {
    let f = r.flags;
    let has = |bit: u64| f & bit != 0;
    if has(cl::CLONE_SIGHAND) && !has(cl::CLONE_VM) || has(cl::CLONE_THREAD) && !has(cl::CLONE_SIGHAND) {
        return Err(Errno::EINVAL);
    }
    if has(cl::CLONE_FS) && has(cl::CLONE_NEWNS) {
        return Err(Errno::EINVAL);
    }
    const NAMESPACES: u64 = cl::CLONE_NEWNS
        | cl::CLONE_NEWUTS
        | cl::CLONE_NEWIPC
        | cl::CLONE_NEWUSER
        | cl::CLONE_NEWPID
        | cl::CLONE_NEWNET
        | cl::CLONE_NEWCGROUP;
    if f & NAMESPACES != 0 {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Creates a thread or a process as asked; returns its id to the caller.
pub fn do_clone(r: &CloneRequest) -> Result<i32> {
    check_clone(r)?;
    let me = current();
    let child = if r.flags & cl::CLONE_THREAD != 0 { clone_thread(&me)? } else { clone_process(&me, r)? };
    let tid = child.tid;
    if let Err(e) = init_child(&me, &child, r) {
        discard(&child, r.flags & cl::CLONE_THREAD == 0);
        return Err(e);
    }
    if r.flags & cl::CLONE_VFORK == 0 {
        sched::make_runnable(&child);
        return Ok(tid);
    }
    let gate = Arc::new(VforkGate::default());
    child.vfork_done.replace(Some(gate.clone()));
    sched::make_runnable(&child);
    drop(child);
    gate.queue.wait_uninterruptible(|| (gate.open.get() || me.process.exiting.get().is_some()).then_some(()));
    Ok(tid)
}

fn clone_thread(me: &Arc<Task>) -> Result<Arc<Task>> {
    if me.process.exiting.get().is_some() {
        return Err(Errno::EAGAIN);
    }
    new_task(&me.process, alloc_pid()?)
}

fn clone_process(me: &Arc<Task>, r: &CloneRequest) -> Result<Arc<Task>> {
    let p = &me.process;
    let nproc = p.rlimit(6);
    if PIDS.with(BTreeMap::len) as u64 >= nproc {
        return Err(Errno::EAGAIN);
    }
    let pid = alloc_pid()?;
    let mm = current_mm();
    let mm = if r.flags & cl::CLONE_VM != 0 { mm } else { mm.fork()? };
    let files = p.files();
    let files = if r.flags & cl::CLONE_FILES != 0 { files } else { files.dup_all() };
    let fs = p.fs();
    let fs = if r.flags & cl::CLONE_FS != 0 { fs } else { fs.dup() };
    let parent =
        if r.flags & cl::CLONE_PARENT != 0 { p.parent.with(Clone::clone) } else { Arc::downgrade(p) };
    let child = Arc::new(Process {
        pid,
        parent: BklCell::new(parent.clone()),
        children: BklCell::new(Vec::new()),
        tasks: BklCell::new(Vec::new()),
        mm: BklCell::new(Some(mm)),
        files: BklCell::new(Some(files)),
        fs: BklCell::new(fs),
        cred: BklCell::new(p.cred()),
        pgid: BklCell::new(p.pgid.get()),
        sid: BklCell::new(p.sid.get()),
        actions: BklCell::new(p.actions.with(Clone::clone)),
        pending: BklCell::new(Pending::default()),
        child_event: Arc::new(WaitQueue::new()),
        exit_status: BklCell::new(None),
        exiting: BklCell::new(None),
        stopped: BklCell::new(None),
        job_event: BklCell::new(None),
        cont_event: WaitQueue::new(),
        // A sibling: the parent gets what it expects of this process, not what this process chooses.
        exit_signal: BklCell::new(match r.flags & cl::CLONE_PARENT {
            0 => r.exit_signal,
            _ => p.exit_signal.get(),
        }),
        exe: BklCell::new(p.exe.with(Clone::clone)),
        rlimits: BklCell::new(p.rlimits.get()),
        times: BklCell::new(Times::default()),
        itimer: BklCell::new((0, 0)),
        execed: BklCell::new(false),
        start_ns: crate::time::monotonic_ns(),
        subreaper: BklCell::new(false),
        pdeathsig: BklCell::new(0),
    });
    let task = new_task(&child, pid)?;
    PIDS.with_mut(|m| m.insert(pid, child.clone()));
    if let Some(parent) = parent.upgrade() {
        parent.children.with_mut(|c| c.push(child));
    }
    crate::stats::add("processes", 1);
    Ok(task)
}

/// The child's registers are the parent's, with a zero result.
fn init_child(me: &Arc<Task>, child: &Arc<Task>, r: &CloneRequest) -> Result<()> {
    for n in 0..16 {
        child.rt.set_gpr(n, me.rt.gpr(n));
    }
    let mm = match child.process.mm() {
        Some(mm) => mm,
        None => return Err(Errno::ENOMEM),
    };
    child.rt.set_slot(mm.slot());
    child.rt.set_gpr(4, me.rt.gpr(4));
    child.rt.set_gpr(0, 0);
    if r.stack != 0 {
        child.rt.set_gpr(4, r.stack);
    }
    child.rt.set_rip(me.rt.rip());
    child.rt.set_rflags(me.rt.rflags());
    child.rt.set_tls(if r.flags & cl::CLONE_SETTLS != 0 { r.tls as u32 } else { me.rt.tls() });
    child.rt.set_guest_gs(me.rt.guest_gs());
    child.rt.copy_vector_state_from(&me.rt);
    if !me.resolve.get() {
        child.rt.set_resume(me.rt.resume());
        child.resolve.set(false);
    }
    child.mask.set(me.mask.get());
    child.comm.set(me.comm.get());
    if r.flags & (cl::CLONE_VM | cl::CLONE_VFORK) != cl::CLONE_VM {
        child.altstack.set(me.altstack.get());
    }
    let tid = child.tid as u32;
    if r.flags & cl::CLONE_PARENT_SETTID != 0 {
        crate::uaccess::write_val(r.parent_tid, tid)?;
    }
    if r.flags & cl::CLONE_CHILD_SETTID != 0 {
        mm.write_foreign(r.child_tid, &tid.to_le_bytes())?;
    }
    if r.flags & cl::CLONE_CHILD_CLEARTID != 0 {
        child.clear_tid.set(r.child_tid);
    }
    Ok(())
}

/// Takes back a child that never ran.
fn discard(child: &Arc<Task>, whole_process: bool) {
    TASKS.with_mut(|t| t[child.index] = None);
    let p = &child.process;
    p.tasks.with_mut(|t| t.retain(|t| !Arc::ptr_eq(t, child)));
    child.state.set(TaskState::Dead);
    if whole_process {
        PIDS.with_mut(|m| m.remove(&p.pid));
        if let Some(parent) = p.parent.with(Weak::upgrade) {
            parent.children.with_mut(|c| c.retain(|c| c.pid != p.pid));
        }
        p.mm.replace(None);
        p.files.replace(None);
    }
}

/// First and only function of a task's kernel stack.
fn task_main() -> ! {
    crate::syscall::task_loop()
}

/// Lets a vfork parent go on (exec succeeded, or exit).
pub fn release_vfork(task: &Task) {
    if let Some(gate) = task.vfork_done.replace(None) {
        gate.release();
    }
}

/// Asks every other thread of the process to end and waits until they did (exec).
pub fn kill_other_threads(me: &Arc<Task>) {
    let others: Vec<_> =
        me.process.tasks.with(|t| t.iter().filter(|t| !Arc::ptr_eq(t, me)).cloned().collect());
    for t in &others {
        t.must_exit.set(Some(0));
        wake_for_signal(t);
    }
    drop(others);
    let p = me.process.clone();
    p.cont_event.wait_uninterruptible(|| (p.tasks.with(Vec::len) == 1).then_some(()));
}

/// Wakes a task for a signal: out of an interruptible wait, or out of the guest.
pub fn wake_for_signal(t: &Arc<Task>) {
    match t.state.get() {
        TaskState::Blocked if t.interruptible.get() => sched::make_runnable(t),
        TaskState::Running => sched::kick(t),
        _ => {}
    }
}

/// Marks the process as exiting and wakes its threads; each ends at its next way out of the kernel.
pub fn begin_group_exit(p: &Arc<Process>, status: WaitStatus) {
    if p.exiting.get().is_some() {
        return;
    }
    p.exiting.set(Some(status));
    p.stopped.set(None);
    p.cont_event.wake_all();
    for t in p.tasks.with(Clone::clone) {
        wake_for_signal(&t);
    }
}

/// Ends the current thread; the last one ends the process. Called by `task_loop` only, when no other reference to the
/// task is left on its stack.
pub fn exit_task(me: Arc<Task>, status: WaitStatus) -> ! {
    let p = me.process.clone();
    me.charge_cpu();
    crate::signal::futex_exit(&me);
    release_vfork(&me);
    p.tasks.with_mut(|t| t.retain(|t| !Arc::ptr_eq(t, &me)));
    p.cont_event.wake_all();
    if p.tasks.with(Vec::is_empty) {
        exit_process(&p, p.exiting.get().unwrap_or(status));
    }
    drop(p);
    TASKS.with_mut(|t| t[me.index] = None);
    sched::exit_current(me)
}

fn exit_process(p: &Arc<Process>, status: WaitStatus) {
    // Descriptors and memory go first: what closes or frees may wake others.
    let files = p.files.replace(None);
    drop(files);
    let mm = p.mm.replace(None);
    drop(mm);
    p.exit_status.set(Some(status));
    if p.sid.get() == p.pid {
        crate::fs::session_ended(p.pid);
    }
    reparent_children(p);
    if p.pid == 1 {
        end_of_init(status);
    }
    let parent = p.parent.with(Weak::upgrade);
    let Some(parent) = parent else { return };
    let sig = p.exit_signal.get();
    let ignored = sig == signo::SIGCHLD as i32 && parent.actions.with(|a| a.auto_reap());
    // clone(2) takes any byte; one that is no signal says "none".
    if (1..=64).contains(&sig) {
        crate::signal::send_process(&parent, sig, crate::signal::Info::child(p, status));
    }
    if ignored {
        reap(&parent, p);
    }
    parent.child_event.wake_all();
}

/// Who adopts the children of `p`: the nearest subreaper above it, else init.
fn reaper_of(p: &Arc<Process>) -> Option<Arc<Process>> {
    let mut at = p.parent.with(Weak::upgrade);
    while let Some(q) = at {
        if q.subreaper.get() && q.exit_status.get().is_none() {
            return Some(q);
        }
        at = q.parent.with(Weak::upgrade);
    }
    Process::by_pid(1)
}

fn reparent_children(p: &Arc<Process>) {
    let children = p.children.take();
    if children.is_empty() {
        return;
    }
    let init = reaper_of(p);
    for c in children {
        let sig = c.pdeathsig.get();
        if sig != 0 {
            crate::signal::send_process(&c, sig, crate::signal::Info::kernel());
        }
        let Some(init) = init.as_ref().filter(|i| !Arc::ptr_eq(i, p)) else {
            continue;
        };
        c.parent.replace(Arc::downgrade(init));
        // Nobody but its own parent agreed to another signal: it could end init.
        c.exit_signal.set(signo::SIGCHLD as i32);
        let zombie = c.exit_status.get().is_some();
        init.children.with_mut(|l| l.push(c.clone()));
        if zombie {
            if init.actions.with(|a| a.auto_reap()) {
                reap(init, &c);
            } else {
                crate::signal::send_process(init, signo::SIGCHLD as i32, crate::signal::Info::child(&c, 0));
            }
            init.child_event.wake_all();
        }
    }
}

/// Init ended: the enclave ends, as a PID namespace does.
fn end_of_init(status: WaitStatus) -> ! {
    crate::boot::finish(status)
}

fn reap(parent: &Arc<Process>, child: &Arc<Process>) {
    parent.children.with_mut(|c| c.retain(|c| !Arc::ptr_eq(c, child)));
    let t = child.times.get();
    parent.times.with_mut(|p| p.children_ns += t.cpu_ns + t.children_ns);
    PIDS.with_mut(|p| p.remove(&child.pid));
}

/// Which children wait4/waitid asks for.
#[derive(Clone, Copy)]
pub enum WaitFor {
    /// Any child.
    Any,
    /// This pid.
    Pid(i32),
    /// Children of this group.
    Group(i32),
}

/// One wait result.
pub struct Waited {
    /// The child.
    pub process: Arc<Process>,
    /// Status in wait4's encoding.
    pub status: WaitStatus,
}

/// Waits for a child's change of state. `Ok(None)` under WNOHANG when none is ready; ECHILD without children.
pub fn do_wait(which: WaitFor, options: u32) -> Result<Option<Waited>> {
    let me = current_process();
    let matches = |c: &Arc<Process>| match which {
        WaitFor::Any => true,
        WaitFor::Pid(pid) => c.pid == pid,
        WaitFor::Group(g) => c.pgid.get() == g,
    };
    let mut poll = || -> Option<Result<Option<Waited>>> {
        let candidates: Vec<_> = me.children.with(|c| c.iter().filter(|c| matches(c)).cloned().collect());
        if candidates.is_empty() {
            return Some(Err(Errno::ECHILD));
        }
        for c in &candidates {
            if let Some(status) = ready_status(c, options) {
                if c.exit_status.get().is_some() && options & w::WNOWAIT == 0 {
                    reap(&me, c);
                }
                return Some(Ok(Some(Waited { process: c.clone(), status })));
            }
        }
        if options & w::WNOHANG != 0 { Some(Ok(None)) } else { None }
    };
    let queue = me.child_event.clone();
    queue.wait_until(None, &mut poll)?
}

fn ready_status(c: &Arc<Process>, options: u32) -> Option<WaitStatus> {
    if let Some(s) = c.exit_status.get() {
        return (options & w::WEXITED != 0).then_some(s);
    }
    let event = c.job_event.get()?;
    let wanted = if event == 0xffff { w::WCONTINUED } else { w::WSTOPPED };
    if options & wanted == 0 {
        return None;
    }
    if options & w::WNOWAIT == 0 {
        c.job_event.set(None);
    }
    Some(event)
}
