//! The tables of tasks and processes, and the ids they are found by.
//!
//! Invariants: an id is not given out while a process, thread, group or session has it; a task's index is its place in
//! `TASKS` and, plus one, rt's tag; the number of live tasks never exceeds the configured limit.
use super::{Process, Task, TaskState};
use crate::errno::{Errno, Result};
use crate::signal::Pending;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_rt::bkl::BklCell;

pub(super) static TASKS: BklCell<Vec<Option<Arc<Task>>>> = BklCell::new(Vec::new());
/// Where in `TASKS` the task with a tid is.
static TIDS: BklCell<BTreeMap<i32, usize>> = BklCell::new(BTreeMap::new());
pub(super) static PIDS: BklCell<BTreeMap<i32, Arc<Process>>> = BklCell::new(BTreeMap::new());
pub(super) static NEXT_PID: BklCell<i32> = BklCell::new(1);
pub(super) static LIMITS: BklCell<(i32, usize)> = BklCell::new((32768, 1024));

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

/// What `f` finds in the running task, which is not counted as used meanwhile: `f` must not start or end tasks.
pub fn with_current<R>(f: impl FnOnce(&Task) -> R) -> Option<R> {
    let index = occlum_rt::task::current_tag().checked_sub(1)?;
    TASKS.with(|t| Some(f(t.get(usize::try_from(index).ok()?)?.as_ref()?)))
}

/// Any task by tid.
pub(super) fn task_by_tid(tid: i32) -> Option<Arc<Task>> {
    let index = TIDS.with(|t| t.get(&tid).copied())?;
    TASKS.with(|t| t.get(index)?.clone())
}

/// The task has ended, or never began.
pub(super) fn forget_task(task: &Task) {
    TIDS.with_mut(|t| t.remove(&task.tid));
    TASKS.with_mut(|t| t[task.index] = None);
}

/// Calls `f` for each task; `f` must not start or end tasks.
pub fn with_tasks(f: impl FnMut(&Arc<Task>)) {
    TASKS.with(|t| t.iter().flatten().for_each(f));
}

/// Threads alive.
pub fn task_count() -> usize {
    TASKS.with(|t| t.iter().flatten().count())
}

/// A pid not in use by a process, thread, group or session. EAGAIN when there is none.
pub(super) fn alloc_pid() -> Result<i32> {
    let max = pid_max();
    let mut groups: Option<BTreeSet<i32>> = None;
    for _ in 0..max {
        let pid = NEXT_PID.get();
        NEXT_PID.set(if pid + 1 >= max { 2 } else { pid + 1 });
        if PIDS.with(|p| p.contains_key(&pid)) || TIDS.with(|t| t.contains_key(&pid)) {
            continue;
        }
        let is_group = match &groups {
            None => PIDS.with(|p| p.values().any(|x| x.pgid.get() == pid || x.sid.get() == pid)),
            Some(g) => g.contains(&pid),
        };
        if !is_group {
            return Ok(pid);
        }
        // Whoever looks on has one list of them: there may be very many.
        groups.get_or_insert_with(groups_and_sessions);
    }
    Err(Errno::EAGAIN)
}

fn groups_and_sessions() -> BTreeSet<i32> {
    PIDS.with(|p| p.values().flat_map(|x| [x.pgid.get(), x.sid.get()]).collect())
}

/// The most tasks that were ever there at once.
pub fn peak_tasks() -> usize {
    // Places are used again before there are new ones.
    TASKS.with(Vec::len)
}

/// Says once what was hit, and what would help.
fn report_limit(max: usize) {
    static SAID: BklCell<bool> = BklCell::new(false);
    if !SAID.replace(true) {
        let fix = crate::policy::more_tasks();
        occlum_rt::log(&alloc::format!("occlum: all {max} processes and threads are in use: {fix}\n"));
    }
}

pub(super) fn new_task(process: &Arc<Process>, tid: i32) -> Result<Arc<Task>> {
    let (_, max) = LIMITS.get();
    let index = TASKS.with_mut(|t| {
        let live = t.iter().flatten().count();
        if live >= max {
            report_limit(max);
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
        woken: BklCell::new(false),
        ended_by: BklCell::new(super::EndedBy::Signal),
        vcpu: BklCell::new(0),
        sched: crate::sched::class::Entity::default(),
        mask: BklCell::new(0),
        saved_mask: BklCell::new(None),
        pending: BklCell::new(Pending::default()),
        altstack: BklCell::new((0, 0, 2)),
        clear_tid: BklCell::new(0),
        robust_list: BklCell::new(0),
        resolve: BklCell::new(true),
        rip_known: BklCell::new(true),
        code_epoch: BklCell::new(0),
        must_step: BklCell::new(false),
        short_of_memory: BklCell::new(0),
        short_of_code: BklCell::new(0),
        attempt: BklCell::new(None),
        step: BklCell::new(None),
        idle_flags: BklCell::new(0),
        tsc_denied: BklCell::new(false),
        comm: BklCell::new([0; 16]),
        vfork_done: BklCell::new(None),
        usage: BklCell::new(super::usage::Usage::default()),
        in_call_since: BklCell::new(None),
        on_cpu_since: BklCell::new(crate::time::monotonic_ns()),
        restart: BklCell::new(None),
        own_cred: BklCell::new(None),
        futexes: BklCell::new(0),
        must_exit: BklCell::new(None),
    });
    TASKS.with_mut(|t| t[index] = Some(task.clone()));
    TIDS.with_mut(|t| t.insert(tid, index));
    process.tasks.with_mut(|t| t.push(task.clone()));
    Ok(task)
}

/// First and only function of a task's kernel stack.
pub(super) fn task_main() -> ! {
    crate::syscall::task_loop()
}
