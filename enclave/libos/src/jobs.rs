//! Jobs: programs that the host asks a running enclave for, and what it hears of them.
//!
//! Neighbours: `sched` (hears that there are orders), `boot` (finds programs), `process` (creates, ends), `enclave-abi`
//! (`Order`, `JobEvent`). Invariants: an order is only taken in the idle context or on a tick, so it starts a task and
//! does not load anything itself: a job's own task does (`begin`), with the job's rights. Each job gets one `Started` or
//! `Failed`, and after `Started` one `Ended`. The host is not trusted: it can name descriptors and pids of its own only.
use crate::boot::{self, Request};
use crate::errno::{Errno, Result};
use crate::process::{self, Cred, Groups, Process, Task, WaitStatus};
use crate::signal::{self, Info};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_enclave_abi::{
    JobEvent, JobStart, OCALL_DATA_MAX, ORDER_MAX, Ocall, Order, QUERY_PROCESSES, QUERY_STATS, STAGE_CWD,
    STAGE_EXEC, Target,
};
use occlum_rt::bkl::BklCell;

/// A job whose first process is alive.
struct Job {
    /// The host's number.
    number: u64,
    /// What its task has yet to do.
    start: Option<JobStart>,
}

/// By pid of the first process.
static JOBS: BklCell<BTreeMap<i32, Job>> = BklCell::new(BTreeMap::new());
static WATCHED: BklCell<bool> = BklCell::new(false);

fn tell(event: JobEvent, args: &[u64], input: &[u8]) {
    let mut all = [event as u64, 0, 0, 0, 0, 0];
    for (slot, v) in all[1..].iter_mut().zip(args) {
        *slot = *v;
    }
    occlum_rt::ocall::call(Ocall::JobEvent, &all, &input[..input.len().min(OCALL_DATA_MAX)], &mut []);
}

/// Does everything that the host has asked for by now.
pub fn take_orders() {
    while let Some(order) = next_order() {
        match order.ok().and_then(|bytes| Order::decode(&bytes)) {
            Some(Order::Start(mut s)) => {
                crate::policy::restrict_job(&mut s);
                start(s);
            }
            Some(Order::Signal { job, target, signal }) => {
                send(job, target, signal as i32);
                tell(JobEvent::Signalled, &[job], &[]);
            }
            Some(Order::Query { id, what }) => tell(JobEvent::Reply, &[id], &answer(what)),
            Some(Order::Watch(on)) => WATCHED.set(on),
            Some(Order::End) => boot::finish(0),
            None => occlum_rt::log("occlum: an order of the host's makes no sense, or is too long\n"),
        }
    }
}

/// Fetches an order piece by piece. `None`: there is none. An error: it cannot be taken, and the host knows.
fn next_order() -> Option<Result<Vec<u8>>> {
    let mut head = [0u8; 1024];
    let total = usize::try_from(fetch(0, &mut head)).ok().filter(|n| *n >= 1)?;
    let order = rest_of_order(&head, total);
    if let (Err(e), Some(job)) = (&order, Order::job_of(&head)) {
        tell(JobEvent::Failed, &[job, errno_of(*e), STAGE_EXEC], &[]);
    }
    Some(order)
}

fn rest_of_order(head: &[u8], total: usize) -> Result<Vec<u8>> {
    if total <= head.len() {
        // Small ones, as a signal, get through whatever memory is left.
        return Ok(head[..total].to_vec());
    }
    if total > ORDER_MAX {
        return Err(Errno::E2BIG);
    }
    crate::mm::admit(4 * total as u64)?;
    let mut order = crate::fs::try_vec(total)?;
    for (n, chunk) in order.chunks_mut(OCALL_DATA_MAX).enumerate() {
        // Offset 0 would be the next order's.
        let (offset, chunk) = match n {
            0 => {
                chunk[..head.len()].copy_from_slice(head);
                (head.len(), &mut chunk[head.len()..])
            }
            n => (n * OCALL_DATA_MAX, chunk),
        };
        if fetch(offset, chunk) != total as i64 {
            return Err(Errno::EIO);
        }
    }
    Ok(order)
}
fn fetch(offset: usize, out: &mut [u8]) -> i64 {
    occlum_rt::ocall::call(Ocall::NextOrder, &[offset as u64], &[], out)
}

fn errno_of(e: Errno) -> u64 {
    e.as_i32().unsigned_abs().into()
}

/// Creates the job's first process; its task does the rest.
fn start(order: JobStart) {
    let number = order.job;
    let cred = Cred { groups: Groups::new(order.groups.clone()), ..boot::cred_of(order.uid, order.gid) };
    let created = Process::by_pid(1)
        .ok_or(Errno::ESRCH)
        .and_then(|init| process::new_job(&init, crate::fs::boot_context(), cred));
    match created {
        Ok(task) => {
            JOBS.with_mut(|j| j.insert(task.process.pid, Job { number, start: Some(order) }));
            // An idle vCPU or one at a tick: both look into the queue next.
            crate::sched::make_runnable_here(&task);
        }
        Err(e) => {
            drop(crate::fs::HandedOver::new(&order));
            tell(JobEvent::Failed, &[number, errno_of(e), STAGE_EXEC], &[]);
        }
    }
}

/// A task's first step: the first of a job loads its program.
pub fn begin(me: &Arc<Task>) {
    let p = &me.process;
    let order = JOBS.with_mut(|j| if j.is_empty() { None } else { j.get_mut(&p.pid)?.start.take() });
    let Some(order) = order else { return };
    match load(me, &order) {
        Ok(()) => tell(JobEvent::Started, &[order.job, p.pid as u64], &[]),
        Err((stage, e)) => {
            JOBS.with_mut(|j| j.remove(&p.pid));
            tell(JobEvent::Failed, &[order.job, errno_of(e), stage], &[]);
            process::begin_group_exit(p, 127 << 8);
        }
    }
}

fn load(me: &Arc<Task>, order: &JobStart) -> core::result::Result<(), (u64, Errno)> {
    let handed = crate::fs::HandedOver::new(order);
    let fs = crate::fs::job_fs(order).map_err(|e| (STAGE_CWD, e))?;
    me.process.fs.replace(fs);
    load_program(me, order, handed).map_err(|e| (STAGE_EXEC, e))
}

fn load_program(me: &Arc<Task>, order: &JobStart, handed: crate::fs::HandedOver<'_>) -> Result<()> {
    let files = handed.into_files(me.process.pid)?;
    me.process.files.replace(Some(files));
    me.process.actions.with_mut(|a| a.ignore(order.ignored));
    let JobStart { program, argv, envp, cwd, .. } = order;
    boot::exec_searching(me, &Request { program, argv, envp, cwd })
}

fn pid_of(job: u64) -> Option<i32> {
    JOBS.with(|j| j.iter().find(|(_, x)| x.number == job).map(|(pid, _)| *pid))
}

/// A signal from the host. Sending to a job that has ended meanwhile does nothing.
fn send(job: u64, target: Target, sig: i32) {
    let pid = if target == Target::Pid { i32::try_from(job).ok() } else { pid_of(job) };
    let Some(pid) = pid else { return };
    match target {
        Target::Process | Target::Pid => {
            if let Some(p) = Process::by_pid(pid) {
                signal::send_process(&p, sig, Info::user());
            }
        }
        Target::Foreground => signal::send_group(crate::fs::foreground_of(pid).unwrap_or(pid), sig),
        Target::Session => {
            for p in Process::all().iter().filter(|p| p.sid.get() == pid) {
                signal::send_process(p, sig, Info::user());
            }
        }
    }
}

/// Is this the process group that a job started with?
pub fn is_job(pgid: i32) -> bool {
    JOBS.with(|j| j.contains_key(&pgid))
}

/// A process runs a program.
pub fn program_started(p: &Process) {
    if WATCHED.get() {
        tell(JobEvent::ProcessStarted, &[p.pid as u64, p.ppid() as u64], &p.exe.with(Clone::clone));
    }
}

/// A process was stopped or continued.
pub fn process_changed(p: &Process, status: WaitStatus) {
    let Some(number) = JOBS.with(|j| j.get(&p.pid).map(|j| j.number)) else { return };
    match status {
        0xffff => tell(JobEvent::Continued, &[number], &[]),
        s => tell(JobEvent::Stopped, &[number, (s >> 8 & 0xff) as u64], &[]),
    }
}

/// A process has ended.
pub fn process_ended(p: &Process, status: WaitStatus) {
    if let Some(job) = JOBS.with_mut(|j| if j.is_empty() { None } else { j.remove(&p.pid) }) {
        tell(JobEvent::Ended, &[job.number, status as u64 & 0xffff], &[]);
    }
    if WATCHED.get() {
        tell(JobEvent::ProcessEnded, &[p.pid as u64, status as u64 & 0xffff], &[]);
    }
}

fn answer(what: u32) -> Vec<u8> {
    match what {
        QUERY_PROCESSES => processes().into_bytes(),
        QUERY_STATS => stats(),
        _ => Vec::new(),
    }
}

fn stats() -> Vec<u8> {
    let (taken, total) = (crate::mm::taken() * crate::mm::PAGE, crate::mm::total() * crate::mm::PAGE);
    let (all, tasks) = (Process::all().len(), process::task_count());
    let mut out =
        format!("memory_used={taken}\nmemory_total={total}\nprocesses={all}\nthreads={tasks}\n").into_bytes();
    out.append(&mut crate::stats::lines());
    out
}

/// A line for each process but init: see `QUERY_PROCESSES`.
fn processes() -> String {
    let mut out = String::new();
    for p in Process::all().iter().filter(|p| p.pid != 1) {
        let state = match (p.exit_status.get(), p.stopped.get()) {
            (Some(_), _) => 'Z',
            (None, Some(_)) => 'T',
            _ if p.tasks.with(|t| t.iter().any(|t| is_running(t))) => 'R',
            _ => 'S',
        };
        let resident = p.mm().map_or(0, |mm| mm.resident_pages() * crate::mm::PAGE / 1024);
        let exe = p.exe.with(|e| crate::trace::printable(e));
        let (ppid, pgid, sid, cpu) = (p.ppid(), p.pgid.get(), p.sid.get(), p.cpu_now());
        out += &format!("{} {ppid} {pgid} {sid} {state} {resident} {cpu} {exe}\n", p.pid);
    }
    out
}

fn is_running(t: &Task) -> bool {
    matches!(t.state.get(), process::TaskState::Running | process::TaskState::Runnable)
}
