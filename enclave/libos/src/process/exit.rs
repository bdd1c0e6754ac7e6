//! The end: of a thread, of a process, and who takes over what it leaves.
//!
//! Invariants: descriptors and memory go before the parent hears of the end; a process stays in the table, as a zombie,
//! until its parent (or the nearest subreaper, or init) reaps it; no reference to a task is left on its own stack when it
//! ends.
use super::ids::{PIDS, forget_task};
use super::{EndedBy, Process, Task, TaskState, WaitStatus, release_vfork};
use crate::errno::{Errno, Result};
use crate::sched;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use occlum_linux_abi::signo;

/// Asks every other thread of the process to end and waits until they did (exec). EAGAIN: it has to end itself, another
/// one's exec was faster.
pub fn kill_other_threads(me: &Arc<Task>) -> Result<()> {
    if me.ending().is_some() {
        return Err(Errno::EAGAIN);
    }
    let others: Vec<_> =
        me.process.tasks.with(|t| t.iter().filter(|t| !Arc::ptr_eq(t, me)).cloned().collect());
    for t in &others {
        t.must_exit.set(Some(0));
        wake_for_signal(t);
    }
    drop(others);
    let p = me.process.clone();
    p.cont_event
        .wait_killable(None, || (p.tasks.with(Vec::len) == 1).then_some(()))
        .map_err(|_| Errno::EAGAIN)
}

/// Wakes a task for a signal: out of an interruptible wait, or out of the guest.
pub fn wake_for_signal(t: &Arc<Task>) {
    match t.state.get() {
        TaskState::Blocked => match t.ended_by.get() {
            EndedBy::Signal => sched::make_runnable(t),
            by if by.is_there(t) => sched::make_runnable(t),
            _ => {}
        },
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
    if p.tasks.with(Vec::len) == 1 {
        shed_files(&p);
        p.mm().iter().for_each(|mm| mm.shed(2));
    }
    p.tasks.with_mut(|t| t.retain(|t| !Arc::ptr_eq(t, &me)));
    p.cont_event.wake_all();
    let last = p.tasks.with(Vec::is_empty);
    let status = p.exiting.get().unwrap_or(status);
    crate::trace::end(&me, status, last);
    if last {
        exit_process(&p, status);
    }
    forget_task(&me);
    // Who watches this thread (PIDFD_THREAD).
    p.end_event.wake_all();
    drop(p);
    sched::exit_current(me)
}

/// Closes what nobody shares, while there is a task that can let others get on.
fn shed_files(p: &Process) {
    let Some(files) = p.files.with(Clone::clone) else { return };
    // This reference and the process's.
    if Arc::strong_count(&files) <= 2 {
        files.close_all();
        sched::later::finish();
    }
}

pub(super) fn exit_process(p: &Arc<Process>, status: WaitStatus) {
    crate::timers::end(p);
    // Descriptors and memory go first: what closes or frees may wake others.
    let files = p.files.replace(None);
    drop(files);
    crate::net::garbage::after_end();
    sched::later::finish();
    p.usage();
    let mm = p.mm.replace(None);
    drop(mm);
    p.exit_status.set(Some(status));
    super::oom::memory_freed();
    if p.sid.get() == p.pid {
        crate::fs::session_ended(p.pid);
    }
    crate::ipc::process_ended(p.pid);
    p.end_event.wake_all();
    reparent_children(p);
    crate::jobs::process_ended(p, status);
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
pub(super) fn reaper_of(p: &Arc<Process>) -> Option<Arc<Process>> {
    let mut at = p.parent.with(Weak::upgrade);
    while let Some(q) = at {
        if q.subreaper.get() && q.exit_status.get().is_none() {
            return Some(q);
        }
        at = q.parent.with(Weak::upgrade);
    }
    Process::by_pid(1)
}

pub(super) fn reparent_children(p: &Arc<Process>) {
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
pub(super) fn end_of_init(status: WaitStatus) -> ! {
    crate::boot::finish(status)
}

pub(super) fn reap(parent: &Arc<Process>, child: &Arc<Process>) {
    parent.children.with_mut(|c| c.retain(|c| !Arc::ptr_eq(c, child)));
    let t = child.times.get();
    parent.times.with_mut(|p| [t.own, t.children].into_iter().for_each(|u| p.children.add(u)));
    PIDS.with_mut(|p| p.remove(&child.pid));
    child.end_event.wake_all();
}
