//! Creation: the first process, fork, vfork and clone.
//!
//! Invariants: a child is runnable only when it is complete; a creation that fails part-way leaves nothing behind
//! (`discard`); a vfork parent waits until its child lets go of the memory, or it is told to end itself.
use super::ids::{LIMITS, PIDS, alloc_pid, forget_task, new_task};
use super::{Cred, Process, Restart, Task, TaskState, Times, current, current_mm};
use crate::errno::{Errno, Result};
use crate::fs::{FileTable, FsContext};
use crate::mm::Mm;
use crate::sched::{self, WaitQueue};
use crate::signal::{Pending, SigActions};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use occlum_linux_abi::{clone as cl, signo};
use occlum_rt::bkl::BklCell;

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

/// Creates process 1, without memory: the caller runs exec for it.
pub fn new_init(files: Arc<FileTable>, fs: Arc<FsContext>, cred: Cred) -> Result<Arc<Task>> {
    let process = first_of_session(Weak::new(), files, fs, cred)?;
    PIDS.with_mut(|p| p.insert(process.pid, process.clone()));
    new_task(&process, process.pid)
}

/// Creates process 1 of a resident enclave: no program, no thread. It adopts and reaps, nothing else.
pub fn new_resident_init(fs: Arc<FsContext>) -> Result<()> {
    let process = first_of_session(Weak::new(), FileTable::empty(), fs, Cred::default())?;
    process.actions.with_mut(SigActions::ignore_children);
    PIDS.with_mut(|p| p.insert(process.pid, process));
    Ok(())
}

/// Creates the first process of a job, a child of init in a session of its own, without memory: its task runs exec.
pub fn new_job(init: &Arc<Process>, fs: Arc<FsContext>, cred: Cred) -> Result<Arc<Task>> {
    crate::mm::admit(TASK_COST)?;
    let process = first_of_session(Arc::downgrade(init), FileTable::empty(), fs, cred)?;
    PIDS.with_mut(|p| p.insert(process.pid, process.clone()));
    let task = new_task(&process, process.pid);
    match &task {
        Ok(_) => init.children.with_mut(|c| c.push(process)),
        Err(_) => drop(PIDS.with_mut(|p| p.remove(&process.pid))),
    }
    task
}

/// A process that leads its session and group, in no table yet.
fn first_of_session(
    parent: Weak<Process>,
    files: Arc<FileTable>,
    fs: Arc<FsContext>,
    cred: Cred,
) -> Result<Arc<Process>> {
    let pid = alloc_pid()?;
    Ok(Arc::new(Process {
        pid,
        parent: BklCell::new(parent),
        children: BklCell::new(Vec::new()),
        tasks: BklCell::new(Vec::new()),
        mm: BklCell::new(None),
        files: BklCell::new(Some(files)),
        fs: BklCell::new(fs),
        cred: BklCell::new(cred),
        pgid: BklCell::new(pid),
        sid: BklCell::new(pid),
        actions: BklCell::new(SigActions::default()),
        flow: BklCell::default(),
        pending: BklCell::new(Pending::default()),
        forking: BklCell::default(),
        child_event: Arc::new(WaitQueue::new()),
        signal_event: Arc::new(WaitQueue::new()),
        end_event: Arc::new(WaitQueue::new()),
        exit_status: BklCell::new(None),
        exiting: BklCell::new(None),
        awaited_since: BklCell::new(None),
        stopped: BklCell::new(None),
        job_event: BklCell::new(None),
        cont_event: WaitQueue::new(),
        exit_signal: BklCell::new(signo::SIGCHLD as i32),
        exe: BklCell::new(Vec::new()),
        rlimits: BklCell::new(default_rlimits()),
        times: BklCell::new(Times::default()),
        timers: BklCell::default(),
        execed: BklCell::new(true),
        start_ns: crate::time::monotonic_ns(),
        subreaper: BklCell::new(false),
        pdeathsig: BklCell::new(0),
        traits: BklCell::default(),
    }))
}

pub(super) fn default_rlimits() -> [(u64, u64); 16] {
    const INF: u64 = u64::MAX;
    let mut r = [(INF, INF); 16];
    let c = crate::policy::config();
    let given = |bytes: u64, own: u64| if bytes == 0 { own } else { bytes };
    r[2] = (given(c.data_bytes, INF), INF); // RLIMIT_DATA
    r[3] = (given(c.stack_bytes, 8 << 20), INF); // RLIMIT_STACK
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
    /// CLONE_PIDFD: where its descriptor goes.
    pub pidfd: u64,
}

/// About what a process with its descriptors and mappings takes of the heap, at first.
const TASK_COST: u64 = 32 << 10;

fn check_clone(r: &CloneRequest) -> Result<()> {
    let f = r.flags;
    let has = |bit: u64| f & bit != 0;
    if has(cl::CLONE_SIGHAND) && !has(cl::CLONE_VM) || has(cl::CLONE_THREAD) && !has(cl::CLONE_SIGHAND) {
        return Err(Errno::EINVAL);
    }
    if has(cl::CLONE_FS) && has(cl::CLONE_NEWNS) {
        return Err(Errno::EINVAL);
    }
    if has(cl::CLONE_PIDFD) && f & (cl::CLONE_THREAD | cl::CLONE_DETACHED) != 0 {
        return Err(Errno::EINVAL);
    }
    if has(cl::CLONE_CLEAR_SIGHAND) && has(cl::CLONE_SIGHAND) {
        return Err(Errno::EINVAL);
    }
    if f & cl::NAMESPACES != 0 {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Creates a thread or a process as asked; returns its id to the caller.
pub fn do_clone(r: &CloneRequest) -> Result<i32> {
    check_clone(r)?;
    crate::mm::admit(TASK_COST)?;
    let me = current();
    // What was sent before goes first: else its group's end would pass by the child, which was not there yet.
    if crate::signal::has_deliverable(&me) {
        me.restart.set(Some(Restart::Always));
        return Err(Errno::EINTR);
    }
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
    let words = crate::shadow::Saved::take(&me);
    sched::make_runnable(&child);
    drop(child);
    // Who has to end does not wait for a child that may never let go.
    let _ = gate.queue.wait_killable(None, || gate.open.get().then_some(()));
    if r.flags & cl::CLONE_VM != 0 && r.stack == 0 {
        words.put_back(&me);
    }
    Ok(tid)
}

pub(super) fn clone_thread(me: &Arc<Task>) -> Result<Arc<Task>> {
    if me.process.exiting.get().is_some() {
        return Err(Errno::EAGAIN);
    }
    admit_task(me)?;
    let t = new_task(&me.process, alloc_pid()?)?;
    t.own_cred.set(me.own_cred.with(Clone::clone));
    Ok(t)
}

/// RLIMIT_NPROC: threads of the real user, unless one may have more.
fn admit_task(me: &Task) -> Result<()> {
    const RLIMIT_NPROC: usize = 6;
    let limit = me.process.rlimit(RLIMIT_NPROC);
    let (uid, free) = me.with_cred(|c| {
        (c.uid, c.uid == 0 || c.capable(super::caps::SYS_RESOURCE) || c.capable(super::caps::SYS_ADMIN))
    });
    // The measured limit of tasks holds for all, and is the usual one of each.
    if free || limit >= LIMITS.get().1 as u64 {
        return Ok(());
    }
    let mut count = 0;
    super::with_tasks(|t| count += u64::from(t.with_cred(|c| c.uid) == uid));
    if count >= limit { Err(Errno::EAGAIN) } else { Ok(()) }
}

/// A copy of the memory, and what the copy would have been sent if it had been there from the begin.
fn copy_memory(p: &Arc<Process>, mm: &Arc<Mm>) -> Result<(Arc<Mm>, Pending)> {
    mm.wait_turn();
    p.forking.set(Some(Pending::default()));
    let copy = mm.fork(p.tasks.with(Vec::len) == 1 && Arc::strong_count(mm) <= 2);
    let missed = p.forking.take().unwrap_or_default();
    Ok((copy?, missed))
}

pub(super) fn clone_process(me: &Arc<Task>, r: &CloneRequest) -> Result<Arc<Task>> {
    let p = &me.process;
    admit_task(me)?;
    let mm = current_mm();
    let (mm, missed) =
        if r.flags & cl::CLONE_VM != 0 { (mm, Pending::default()) } else { copy_memory(p, &mm)? };
    // Others may have begun processes, or ended this one, while memory was copied.
    admit_task(me)?;
    if crate::signal::is_fatal_pending(me) {
        return Err(Errno::EINTR);
    }
    let pid = alloc_pid()?;
    let files = p.files();
    let files = if r.flags & cl::CLONE_FILES != 0 { files } else { files.dup_all()? };
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
        cred: BklCell::new(me.cred()),
        pgid: BklCell::new(p.pgid.get()),
        sid: BklCell::new(p.sid.get()),
        actions: BklCell::new(p.actions.with(Clone::clone)),
        flow: BklCell::new(p.flow.with(Clone::clone)),
        pending: BklCell::new(missed),
        forking: BklCell::default(),
        child_event: Arc::new(WaitQueue::new()),
        signal_event: Arc::new(WaitQueue::new()),
        end_event: Arc::new(WaitQueue::new()),
        exit_status: BklCell::new(None),
        exiting: BklCell::new(None),
        awaited_since: BklCell::new(None),
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
        timers: BklCell::default(),
        execed: BklCell::new(false),
        start_ns: crate::time::monotonic_ns(),
        subreaper: BklCell::new(false),
        pdeathsig: BklCell::new(0),
        traits: BklCell::new(p.traits.get()),
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
pub(super) fn init_child(me: &Arc<Task>, child: &Arc<Task>, r: &CloneRequest) -> Result<()> {
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
        child.rt.set_entry(me.rt.resume());
        child.resolve.set(false);
    }
    child.mask.set(me.mask.get());
    child.sched.inherit(&me.sched);
    child.comm.set(me.comm.get());
    child.tsc_denied.set(me.tsc_denied.get());
    if r.flags & (cl::CLONE_VM | cl::CLONE_VFORK) != cl::CLONE_VM {
        child.altstack.set(me.altstack.get());
    }
    if r.flags & cl::CLONE_CLEAR_SIGHAND != 0 {
        child.process.actions.with_mut(SigActions::reset_for_exec);
    }
    let tid = child.tid as u32;
    if r.flags & cl::CLONE_PIDFD != 0 {
        let files = me.process.files();
        let fd = files.add(crate::fs::pidfd::open(&child.process, 0), true)?;
        if let Err(e) = crate::uaccess::write_val(r.pidfd, fd) {
            let _ = files.close(fd);
            return Err(e);
        }
    }
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
pub(super) fn discard(child: &Arc<Task>, whole_process: bool) {
    forget_task(child);
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

/// Lets a vfork parent go on (exec succeeded, or exit).
pub fn release_vfork(task: &Task) {
    if let Some(gate) = task.vfork_done.replace(None) {
        gate.release();
    }
}
