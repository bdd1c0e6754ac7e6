//! Signals: dispositions, masks, queues, delivery, handler frames, sigreturn; robust futexes at exit.
//!
//! Neighbours: `process`, `sched` (waking), `syscall::task_loop` (the only place that delivers). Frame layout: Linux
//! x86-64 `rt_sigframe`. Parts: `pending` (what waits to be taken, and the limit of it), `owner` (SIGIO). Invariants: a handler frame is built only from an original state (after `code::undo`), and
//! sigreturn takes nothing unchecked (R14, R24).
pub mod owner;
mod pending;

pub use pending::{Pending, Place, RLIMIT_SIGPENDING};

use crate::errno::{Errno, Result};
use crate::process::{self, EndedBy, Process, Restart, Task, TaskState, WaitStatus, current};
use crate::sched::{Breath, WaitQueue};
use crate::uaccess;
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_linux_abi::sig::{SI_KERNEL, SI_USER};
use occlum_linux_abi::signo::*;
use occlum_rt::bkl::BklCell;

/// AT_MINSIGSTKSZ: frame, fpstate with AVX, alignment.
pub const MIN_SIGSTKSZ: u64 = 2048;
const XSAVE_SIZE: u64 = 832;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// restorer address, ucontext (304 with the 8-byte mask), siginfo.
const FRAME_SIZE: u64 = 8 + 304 + 128;
const SA_NOCLDSTOP: u64 = 1;
const SA_NOCLDWAIT: u64 = 2;
const SA_SIGINFO: u64 = 4;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;
const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;

/// Bit of a signal in a mask.
pub const fn bit(sig: i32) -> u64 {
    1 << (sig - 1)
}
const UNBLOCKABLE: u64 = bit(SIGKILL as i32) | bit(SIGSTOP as i32);
const STOPS: u64 = bit(SIGSTOP as i32) | bit(SIGTSTP as i32) | bit(SIGTTIN as i32) | bit(SIGTTOU as i32);
const IGNORED: u64 = bit(SIGCHLD as i32) | bit(SIGURG as i32) | bit(SIGWINCH as i32) | bit(SIGCONT as i32);
/// A siginfo, as the 16 bytes header and fields that the kinds use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Info {
    /// si_code.
    pub code: i32,
    /// First payload words at offset 16: pid/uid, address, timer.
    pub payload: [u64; 4],
}
impl Info {
    /// From kill(2) and the like: SI_USER.
    pub fn user() -> Self {
        let p = process::current_process();
        Self {
            code: SI_USER,
            payload: [u64::from(p.pid as u32) | u64::from(process::cred().uid) << 32, 0, 0, 0],
        }
    }
    /// tgkill: SI_TKILL.
    pub fn tkill() -> Self {
        Self { code: -6, ..Self::user() }
    }
    /// From the kernel: SI_KERNEL.
    pub fn kernel() -> Self {
        Self { code: SI_KERNEL, payload: [0; 4] }
    }
    /// A fault at an address.
    pub fn fault(code: i32, addr: u64) -> Self {
        Self { code, payload: [addr, 0, 0, 0] }
    }
    /// A child's change of state.
    pub fn child(c: &Process, status: WaitStatus) -> Self {
        let (code, value) = child_code(status);
        let ids = u64::from(c.pid as u32) | u64::from(c.cred().uid) << 32;
        Self { code, payload: [ids, value as u32 as u64, 0, 0] }
    }
    /// The 128 bytes of siginfo_t.
    pub fn to_bytes(self, sig: i32) -> [u8; 128] {
        let mut b = [0; 128];
        b[..4].copy_from_slice(&sig.to_le_bytes());
        b[8..12].copy_from_slice(&self.code.to_le_bytes());
        for (i, w) in self.payload.iter().enumerate() {
            b[16 + 8 * i..24 + 8 * i].copy_from_slice(&w.to_le_bytes());
        }
        b
    }
}

/// (CLD_ code, value) of a wait status.
pub fn child_code(status: WaitStatus) -> (i32, i32) {
    match status {
        0xffff => (6, SIGCONT as i32),
        s if s & 0xff == 0x7f => (5, s >> 8 & 0xff),
        s if s & 0x7f == 0 => (1, s >> 8 & 0xff),
        s if s & 0x80 != 0 => (3, s & 0x7f),
        s => (2, s & 0x7f),
    }
}

/// A disposition, in the kernel's layout.
#[derive(Clone, Copy, Default, Debug)]
pub struct Action {
    /// SIG_DFL, SIG_IGN or the handler.
    pub handler: u64,
    /// SA_*.
    pub flags: u64,
    /// sa_restorer.
    pub restorer: u64,
    /// Signals blocked while it runs.
    pub mask: u64,
}

/// The dispositions of a process.
#[derive(Clone)]
pub struct SigActions([Action; 64]);
impl Default for SigActions {
    fn default() -> Self {
        Self([Action::default(); 64])
    }
}
impl SigActions {
    /// Disposition of `sig` (1-64).
    pub fn get(&self, sig: i32) -> Action {
        self.0[(sig - 1) as usize & 63]
    }
    /// Sets it.
    pub fn set(&mut self, sig: i32, a: Action) {
        self.0[(sig - 1) as usize & 63] = a;
    }
    /// exec: handlers become default, ignored stays ignored.
    pub fn reset_for_exec(&mut self) {
        for a in &mut self.0 {
            *a = if a.handler == SIG_IGN {
                Action { handler: SIG_IGN, ..Action::default() }
            } else {
                Action::default()
            };
        }
    }
    /// Children are reaped without wait.
    pub fn ignore_children(&mut self) {
        self.ignore(bit(SIGCHLD as i32));
    }
    /// Are children reaped without wait (SIGCHLD ignored or SA_NOCLDWAIT)?
    pub fn auto_reap(&self) -> bool {
        let a = self.get(SIGCHLD as i32);
        a.handler == SIG_IGN || a.flags & SA_NOCLDWAIT != 0
    }
    /// Ignores the signals of a set.
    pub fn ignore(&mut self, set: u64) {
        for sig in (1..=64).filter(|s| set & !UNBLOCKABLE & bit(*s) != 0) {
            self.set(sig, Action { handler: SIG_IGN, ..Action::default() });
        }
    }
    fn is_ignored(&self, sig: i32) -> bool {
        let a = self.get(sig);
        a.handler == SIG_IGN || a.handler == SIG_DFL && IGNORED & bit(sig) != 0
    }
}

/// Will a signal end an interruptible wait of `t`?
pub fn has_deliverable(t: &Task) -> bool {
    let p = &t.process;
    if t.ending().is_some() || p.stopped.get().is_some() {
        return true;
    }
    let set = (t.pending.with(Pending::set) | p.pending.with(Pending::set)) & !t.mask.get();
    if set == 0 {
        return false;
    }
    p.actions.with(|a| (1..=64).any(|s| set & bit(s) != 0 && !a.is_ignored(s)))
}

/// Sends to a process; the kernel's own and the user's way alike. Without room, the receiver is told no more than the number.
pub fn send_process(p: &Arc<Process>, sig: i32, info: Info) {
    // Who is to hear of that uses `post_process`.
    let _ = post_process(p, sig, info);
}

/// The same; EAGAIN if a real-time signal would have to go without what the receiver is to be told.
pub fn post_process(p: &Arc<Process>, sig: i32, info: Info) -> Result<()> {
    if p.exit_status.get().is_none() && prepare_send(p, sig) {
        add(&p.pending, p, sig, info)?;
        wake_taker(p, sig);
    }
    Ok(())
}

/// Adds to the signals that are pending at a process or one of its threads.
fn add(to: &BklCell<Pending>, p: &Process, sig: i32, info: Info) -> Result<()> {
    if sig < 32 && to.with(Pending::set) & bit(sig) != 0 {
        return Ok(());
    }
    // What the kernel says with a classic signal is always said, and counts all the same.
    let limit = (sig >= 32 || info.code < SI_USER).then(|| p.rlimit(RLIMIT_SIGPENDING));
    let place = Place::take(p.with_cred(|c| c.uid), limit);
    if place.is_none() && sig >= 32 && !matches!(info.code, SI_USER | SI_KERNEL) {
        return Err(Errno::EAGAIN);
    }
    to.with_mut(|q| q.add(sig, info, place));
    Ok(())
}

/// Queues a POSIX timer's signal, even if the same signal is pending. False: it is ignored.
pub fn queue_to_process(p: &Arc<Process>, sig: i32, info: Info) -> bool {
    let taken = p.exit_status.get().is_none()
        && prepare_send(p, sig)
        && p.pending.with_mut(|q| q.push(sig, info, None));
    if taken {
        wake_taker(p, sig);
    }
    taken
}

/// The same for one thread.
pub fn queue_to_task(t: &Arc<Task>, sig: i32, info: Info) -> bool {
    let taken = prepare_send(&t.process, sig) && t.pending.with_mut(|q| q.push(sig, info, None));
    if taken {
        process::wake_for_signal(t);
    }
    taken
}

/// Signals that are pending for the caller.
pub fn pending_now() -> u64 {
    let me = current();
    me.pending.with(Pending::set) | me.process.pending.with(Pending::set)
}
/// Takes a signal of `set` that is pending for the caller.
pub fn take_pending(set: u64) -> Option<(i32, Info)> {
    dequeue(&current(), set & !UNBLOCKABLE)
}
/// Takes a signal of `set` that is pending for `t`; timers hear of it.
fn dequeue(t: &Task, set: u64) -> Option<(i32, Info)> {
    loop {
        let mut next = t.pending.with_mut(|q| q.take(set));
        if next.is_none() {
            next = t.process.pending.with_mut(|q| q.take(set));
            if next.is_some_and(|(sig, _)| sig == SIGALRM as i32) {
                crate::timers::on_alarm(&t.process);
            }
        }
        let (sig, info) = next?;
        if let Some(info) = crate::timers::on_delivery(&t.process, info) {
            return Some((sig, info));
        }
    }
}
/// Takes those signals out of the queues of a process and its threads of which `f` says so.
pub fn forget(p: &Process, f: impl Fn(&Info) -> bool) {
    p.pending.with_mut(|q| q.remove_if(&f));
    p.tasks.with(|t| t.iter().for_each(|t| t.pending.with_mut(|q| q.remove_if(&f))));
}
/// sigaction(2): the new disposition of `sig`. What is ignored is dropped at once; what was so goes on.
pub fn set_action(p: &Arc<Process>, sig: i32, action: Action) {
    let is_ignored = |p: &Process| p.actions.with(|a| a.is_ignored(sig));
    let was_ignored = is_ignored(p);
    p.actions.with_mut(|a| a.set(sig, action));
    if is_ignored(p) {
        p.pending.with_mut(|q| q.remove(bit(sig)));
        p.tasks.with(|t| t.iter().for_each(|t| t.pending.with_mut(|q| q.remove(bit(sig)))));
        crate::timers::on_discard(p, sig);
    } else if was_ignored {
        crate::timers::on_wanted(p, sig);
    }
}

/// Wakes who will take a signal sent to the process.
fn wake_taker(p: &Arc<Process>, sig: i32) {
    let tasks = p.tasks.with(Clone::clone);
    if let Some(t) = tasks.iter().find(|t| t.mask.get() & bit(sig) == 0) {
        process::wake_for_signal(t);
    }
    // sigtimedwait-like waiters have it blocked: they look for themselves.
    for t in &tasks {
        if t.state.get() == TaskState::Blocked
            && t.ended_by.get() == EndedBy::Signal
            && t.mask.get() & bit(sig) != 0
        {
            crate::sched::make_runnable(t);
        }
    }
}

/// Sends to one thread.
pub fn send_task(t: &Arc<Task>, sig: i32, info: Info) {
    // Who is to hear of a lack of room uses `post_task`.
    let _ = post_task(t, sig, info);
}

/// The same; EAGAIN as `post_process`.
pub fn post_task(t: &Arc<Task>, sig: i32, info: Info) -> Result<()> {
    if prepare_send(&t.process, sig) {
        add(&t.pending, &t.process, sig, info)?;
        process::wake_for_signal(t);
    }
    Ok(())
}

/// Effects of sending itself: stops and continues cancel each other, kill and continue wake. False: nobody cares.
pub fn prepare_send(p: &Arc<Process>, sig: i32) -> bool {
    if sig == SIGCONT as i32 || sig == SIGKILL as i32 {
        p.pending.with_mut(|q| q.remove(STOPS));
        for t in p.tasks.with(Clone::clone) {
            t.pending.with_mut(|q| q.remove(STOPS));
        }
        if p.stopped.replace(None).is_some() {
            if sig == SIGCONT as i32 {
                notify_job(p, 0xffff);
            }
            p.cont_event.wake_all();
        }
    }
    if STOPS & bit(sig) != 0 {
        p.pending.with_mut(|q| q.remove(bit(SIGCONT as i32)));
    }
    let blocked = p.tasks.with(|t| t.iter().all(|t| t.mask.get() & bit(sig) != 0));
    // An ignored signal is dropped at once, unless somebody may sigwait for it.
    let wanted = blocked || !p.actions.with(|a| a.is_ignored(sig));
    if wanted {
        p.signal_event.wake_all();
    }
    wanted
}

fn notify_job(p: &Arc<Process>, status: WaitStatus) {
    p.job_event.set(Some(status));
    crate::jobs::process_changed(p, status);
    let Some(parent) = p.parent.with(alloc::sync::Weak::upgrade) else { return };
    if parent.actions.with(|a| a.get(SIGCHLD as i32)).flags & SA_NOCLDSTOP == 0 {
        send_process(&parent, SIGCHLD as i32, Info::child(p, status));
    }
    parent.child_event.wake_all();
}

/// Raises a signal for the current thread that it cannot put off: blocked or ignored means default action.
pub fn force(t: &Arc<Task>, sig: i32, info: Info) {
    let a = t.process.actions.with(|x| x.get(sig));
    if a.handler == SIG_IGN || t.mask.get() & bit(sig) != 0 {
        t.process.actions.with_mut(|x| x.set(sig, Action::default()));
        t.mask.set(t.mask.get() & !bit(sig));
    }
    t.pending.with_mut(|q| q.remove(bit(sig)));
    // A classic signal of the kernel's: it always has room.
    let _ = add(&t.pending, &t.process, sig, info);
}

/// SIGPIPE and the like for the current thread.
pub fn send_to_current(sig: i32) {
    send_task(&current(), sig, Info::user());
}

/// EPERM unless the caller may send `sig` to `p`.
pub fn check_may_send(p: &Process, sig: i32) -> Result<()> {
    if may_send(p, sig) { Ok(()) } else { Err(Errno::EPERM) }
}
/// May the caller send to `p`? Root, or equal uids, or SIGCONT in the session.
fn may_send(p: &Process, sig: i32) -> bool {
    let me = process::current_process();
    let (a, b) = (process::cred(), p.cred());
    a.capable(process::caps::KILL)
        || a.euid == b.uid
        || a.euid == b.suid
        || a.uid == b.uid
        || a.uid == b.suid
        || sig == SIGCONT as i32 && me.sid.get() == p.sid.get()
}

/// kill(2): `pid` > 0 process, 0 own group, -1 all but init and self, < -1 group. `sig` 0 checks only.
pub fn kill(pid: i32, sig: i32) -> Result<()> {
    let me = process::current_process();
    let targets = match pid {
        p if p > 0 => Process::by_pid(p).into_iter().collect(),
        -1 => Process::all().into_iter().filter(|p| p.pid != 1 && p.pid != me.pid).collect(),
        0 => group(me.pgid.get()),
        g => group(g.checked_neg().ok_or(Errno::ESRCH)?),
    };
    queue_to_all(&targets, pid <= 0, sig, Info::user())
}
/// The same to a process group, with what the receivers are told.
pub fn queue_to_group(pgid: i32, sig: i32, info: Info) -> Result<()> {
    queue_to_all(&group(pgid), true, sig, info)
}
fn group(pgid: i32) -> Vec<Arc<Process>> {
    Process::all().into_iter().filter(|p| p.pgid.get() == pgid).collect()
}
/// `several`: the signal is for more than the targets by name.
fn queue_to_all(targets: &[Arc<Process>], several: bool, sig: i32, info: Info) -> Result<()> {
    if targets.is_empty() {
        return Err(Errno::ESRCH);
    }
    let allowed: Vec<_> = targets.iter().filter(|p| may_send(p, sig)).collect();
    if allowed.is_empty() {
        return Err(Errno::EPERM);
    }
    if sig != 0 {
        for p in allowed {
            send_guarded(p, sig, info);
            if several {
                also_to_copy(p, sig, info);
            }
        }
    }
    Ok(())
}

/// A process that is about to fork gets a signal as one of several: so does the child.
fn also_to_copy(p: &Process, sig: i32, info: Info) {
    p.forking.with_mut(|f| f.iter_mut().for_each(|missed| missed.add(sig, info, None)));
}

/// Is the task about to end by a signal?
pub fn is_fatal_pending(t: &Task) -> bool {
    let kill = bit(SIGKILL as i32);
    t.ending().is_some() || (t.pending.with(Pending::set) | t.process.pending.with(Pending::set)) & kill != 0
}

/// tgkill/tkill.
pub fn kill_thread(tgid: Option<i32>, tid: i32, sig: i32) -> Result<()> {
    queue_to_thread(tgid, tid, sig, Info::tkill())
}
/// The same with what the receiver is told.
pub fn queue_to_thread(tgid: Option<i32>, tid: i32, sig: i32, info: Info) -> Result<()> {
    let t = Task::by_tid(tid).filter(|t| tgid.is_none_or(|g| g == t.process.pid)).ok_or(Errno::ESRCH)?;
    if !may_send(&t.process, sig) {
        return Err(Errno::EPERM);
    }
    if sig != 0 { post_task(&t, sig, info) } else { Ok(()) }
}

/// Init gets only signals it has handlers for, from inside.
fn send_guarded(p: &Arc<Process>, sig: i32, info: Info) {
    send_process(p, sig, info);
}

/// Every process of a group gets a signal from the terminal.
pub fn send_group(pgid: i32, sig: i32) {
    for p in Process::all() {
        if p.pgid.get() == pgid {
            send_process(&p, sig, Info::kernel());
            also_to_copy(&p, sig, Info::kernel());
        }
    }
}

/// A host signal for the enclave: the terminal's signals go to the foreground group, others to init.
pub fn from_host(sig: i32) {
    const TERMINAL: u64 =
        bit(SIGINT as i32) | bit(SIGQUIT as i32) | bit(SIGTSTP as i32) | bit(SIGWINCH as i32);
    if TERMINAL & bit(sig) != 0
        && let Some(group) = crate::fs::foreground_pgrp()
    {
        send_group(group, sig);
        return;
    }
    if let Some(init) = Process::by_pid(1) {
        send_process(&init, sig, Info::kernel());
    }
}

/// Delivers what is pending to the current task, whose state is original. Returns when the guest may go on.
pub fn deliver(t: &Arc<Task>, interrupted_call: Option<u64>) {
    let (mut call, mut breath) = (interrupted_call, None);
    loop {
        let p = &t.process;
        if t.ending().is_some() {
            return;
        }
        if p.stopped.get().is_some() {
            p.cont_event.wait_uninterruptible(|| p.stopped.get().is_none().then_some(()));
            continue;
        }
        let free = !t.mask.get() | UNBLOCKABLE;
        let Some((sig, info)) = dequeue(t, free) else { break };
        let action = p.actions.with(|a| a.get(sig));
        crate::trace::signal(t, sig, info, action.handler);
        match action.handler {
            SIG_IGN => {}
            SIG_DFL => default_action(t, sig, info),
            _ => {
                restart_or_fail(t, call.take(), Some(action.flags & SA_RESTART != 0));
                if action.flags & SA_RESETHAND != 0 {
                    let once = Action { flags: action.flags & SA_SIGINFO, ..Action::default() };
                    p.actions.with_mut(|x| x.set(sig, once));
                }
                // A frame that can't be written is a fault of its own, which may have a handler on another stack.
                match handle(t, sig, info, action) {
                    Ok(()) => {}
                    Err(_) if sig == SIGSEGV as i32 => fatal(t, sig, info),
                    Err(_) => force(t, SIGSEGV as i32, Info::kernel()),
                }
            }
        }
        // Handlers that are not masked pile up as long as signals come and the stack has room.
        breath.get_or_insert_with(Breath::begin).take();
    }
    restart_or_fail(t, call, None);
    if let Some(m) = t.saved_mask.replace(None) {
        t.mask.set(m & !UNBLOCKABLE);
    }
}

/// A call interrupted before it did anything: run the `syscall` instruction again, or let it return EINTR. `handler`: one
/// runs now, with SA_RESTART or not.
fn restart_or_fail(t: &Task, call: Option<u64>, handler: Option<bool>) {
    let kind = t.restart.replace(None);
    let Some(nr) = call else { return };
    let again = match kind.unwrap_or_else(|| restart_of(nr)) {
        Restart::Always => true,
        Restart::Asked => handler != Some(false),
        Restart::NoHandler | Restart::Until(_) => handler.is_none(),
        Restart::Never => false,
    };
    if again {
        t.rt.set_gpr(0, nr);
        t.rt.set_rip(t.rt.rip().wrapping_sub(2));
        t.resolve.set(true);
        t.restart.set(kind.filter(|k| matches!(k, Restart::Until(_))));
    }
}

/// What signal(7) says of a call that does not say it itself.
fn restart_of(nr: u64) -> Restart {
    use occlum_linux_abi::nr as n;
    match nr as u32 {
        n::PAUSE | n::RT_SIGSUSPEND | n::SELECT | n::PSELECT6 | n::PPOLL | n::MSGSND | n::MSGRCV => {
            Restart::NoHandler
        }
        n::CLOCK_NANOSLEEP => Restart::NoHandler,
        n::RT_SIGTIMEDWAIT | n::SEMOP | n::SEMTIMEDOP => Restart::Never,
        n::EPOLL_WAIT | n::EPOLL_PWAIT | n::EPOLL_PWAIT2 => Restart::Never,
        _ => Restart::Asked,
    }
}

fn default_action(t: &Arc<Task>, sig: i32, info: Info) {
    if IGNORED & bit(sig) != 0 {
        return;
    }
    let p = &t.process;
    if STOPS & bit(sig) != 0 {
        if sig != SIGSTOP as i32 && is_orphaned(p) {
            return;
        }
        p.stopped.set(Some(sig));
        notify_job(p, sig << 8 | 0x7f);
        for other in p.tasks.with(Clone::clone) {
            process::wake_for_signal(&other);
        }
        stop_host(p, sig);
        return;
    }
    // Inside, init ignores what it has no handler for, as the kernel's init does; SIGKILL too ends the enclave.
    fatal(t, sig, info)
}

/// If the terminal's job that just stopped is the one that the user started, the user's shell is to have the terminal: the
/// host stops, and its return means "go on". The BKL is held meanwhile: nobody runs in a stopped process.
fn stop_host(p: &Arc<Process>, sig: i32) {
    let group = p.pgid.get();
    if p.pid == 1 && crate::fs::foreground_pgrp() == Some(group) {
        occlum_rt::ocall::call(occlum_enclave_abi::Ocall::Stop, &[sig as u64], &[], &mut []);
        send_group(group, SIGCONT as i32);
    }
}

/// Has the process group no member whose parent is in another group of the session?
fn is_orphaned(p: &Arc<Process>) -> bool {
    let (g, s) = (p.pgid.get(), p.sid.get());
    !Process::all().iter().filter(|m| m.pgid.get() == g).any(|m| {
        m.parent
            .with(alloc::sync::Weak::upgrade)
            .is_some_and(|parent| parent.pgid.get() != g && parent.sid.get() == s)
    }) && p.pid != 1
        // The host looks after the group that it started.
        && !crate::jobs::is_job(g)
}

/// Ends the process by a signal: each thread leaves at its next way out of the kernel.
fn fatal(t: &Arc<Task>, sig: i32, info: Info) {
    const DUMPED: WaitStatus = 0x80;
    let status = if crate::trace::crash(t, sig, info) { sig | DUMPED } else { sig };
    process::begin_group_exit(&t.process, status);
}

/// Builds the handler's frame and points the task at the handler.
fn handle(t: &Arc<Task>, sig: i32, info: Info, a: Action) -> Result<()> {
    let regs = &t.rt;
    let (alt_sp, alt_size, alt_flags) = t.altstack.get();
    let sp = regs.gpr(4);
    let on_alt = alt_flags & 2 == 0 && sp > alt_sp && sp <= alt_sp + alt_size;
    let enters = a.flags & SA_ONSTACK != 0 && alt_flags & 2 == 0 && !on_alt;
    let top = if enters { alt_sp.wrapping_add(alt_size) } else { sp.wrapping_sub(128) };
    let fp_at = top.wrapping_sub(XSAVE_SIZE + 4) & !63;
    let frame = (fp_at.wrapping_sub(FRAME_SIZE) & !15).wrapping_sub(8);
    // What lies below an alternate stack is not written, even if it could be.
    let overflows = (enters || on_alt) && !(frame > alt_sp && frame <= alt_sp + alt_size);
    if frame > 0xffff_ffff || fp_at > 0xffff_ffff || overflows {
        return Err(Errno::EFAULT);
    }
    let mask = t.saved_mask.get().unwrap_or(t.mask.get());
    write_fpstate(t, fp_at)?;
    let uc = ucontext(t, fp_at, mask, info);
    uaccess::write_val(frame, a.restorer)?;
    crate::shadow::push(frame as u32, a.restorer as u32)?;
    uaccess::write_bytes(frame + 8, &uc)?;
    uaccess::write_bytes(frame + 8 + 304, &info.to_bytes(sig))?;
    t.process.flow.with_mut(|f| f.delivered(frame as u32, FRAME_SIZE as u32, regs.rip(), a.restorer as u32));
    t.saved_mask.set(None);
    regs.set_gpr(4, frame);
    regs.set_gpr(7, sig as u64);
    regs.set_gpr(6, frame + 8 + 304);
    regs.set_gpr(2, frame + 8);
    regs.set_gpr(0, 0);
    regs.set_rip(a.handler as u32);
    regs.set_rflags(regs.rflags() & !0x500);
    t.resolve.set(true);
    let mut blocked = t.mask.get() | a.mask;
    if a.flags & SA_NODEFER == 0 {
        blocked |= bit(sig);
    }
    t.mask.set(blocked & !UNBLOCKABLE);
    Ok(())
}

fn write_fpstate(t: &Task, at: u64) -> Result<()> {
    let mut x = t.rt.xsave();
    // sw_reserved: magic, extended size, feature mask, state size.
    x[464..468].copy_from_slice(&FP_XSTATE_MAGIC1.to_le_bytes());
    x[468..472].copy_from_slice(&((XSAVE_SIZE + 4) as u32).to_le_bytes());
    x[472..480].copy_from_slice(&7u64.to_le_bytes());
    x[480..484].copy_from_slice(&(XSAVE_SIZE as u32).to_le_bytes());
    uaccess::write_bytes(at, &x)?;
    uaccess::write_val(at + XSAVE_SIZE, FP_XSTATE_MAGIC2)
}

/// uc_flags, uc_link, uc_stack, gregs (r8-r15 rdi rsi rbp rbx rdx rax rcx rsp rip efl cs err trapno oldmask cr2),
/// fpstate, reserved, sigmask.
fn ucontext(t: &Task, fp_at: u64, mask: u64, info: Info) -> [u8; 304] {
    let mut b = [0; 304];
    let mut put = |at: usize, v: u64| b[at..at + 8].copy_from_slice(&v.to_le_bytes());
    put(0, 7);
    let (sp, size, flags) = t.altstack.get();
    put(16, sp);
    put(24, u64::from(flags));
    put(32, size);
    for (i, n) in GREGS.iter().enumerate() {
        put(40 + 8 * i, t.rt.gpr(*n));
    }
    put(40 + 8 * 16, u64::from(t.rt.rip()));
    put(40 + 8 * 17, t.rt.rflags());
    put(40 + 8 * 18, 0x002b_0000_0000_0033);
    put(40 + 8 * 19, info.payload[2]);
    put(40 + 8 * 20, info.payload[3]);
    put(40 + 8 * 21, mask);
    put(40 + 8 * 22, info.payload[0]);
    put(40 + 8 * 23, fp_at);
    put(296, mask);
    b
}
/// Hardware numbers in the order of sigcontext.
const GREGS: [usize; 16] = [8, 9, 10, 11, 12, 13, 14, 15, 7, 6, 5, 3, 2, 0, 1, 4];

/// rt_sigreturn: restores the state that the frame at rsp holds. EFAULT ends in SIGSEGV: with the state of the call if the
/// frame can't be read, with that of the frame, but for the vector state, if that can't be. So does a frame that was not
/// delivered, with a signal of its own.
pub fn sigreturn(t: &Arc<Task>) -> Result<()> {
    let uc_at = t.rt.gpr(4);
    let mut b = [0u8; 304];
    uaccess::read_bytes(uc_at, &mut b)?;
    let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| b[at + i]));
    let rip = word(40 + 8 * 16) as u32;
    let frame = uc_at.wrapping_sub(8) as u32;
    if !crate::cfi::may_resume(t, frame, rip) {
        return Ok(());
    }
    t.mask.set(word(296) & !UNBLOCKABLE);
    for (i, n) in GREGS.iter().enumerate() {
        t.rt.set_gpr(*n, word(40 + 8 * i));
    }
    t.rt.set_rip(rip);
    t.rt.set_rflags(word(40 + 8 * 17));
    t.resolve.set(true);
    let fp_at = word(40 + 8 * 23);
    if fp_at != 0 {
        let mut x = [0u8; XSAVE_SIZE as usize];
        uaccess::read_bytes(fp_at, &mut x)?;
        x[464..512].fill(0);
        if !t.rt.set_xsave(&x) {
            return Err(Errno::EFAULT);
        }
    }
    t.altstack.set((word(16), word(32), word(24) as u32 & 2));
    Ok(())
}

/// sigtimedwait: takes a pending signal of `set`, waiting for one.
pub fn wait_for(set: u64, deadline: Option<u64>) -> Result<(i32, Info)> {
    static NOBODY: WaitQueue = WaitQueue::new();
    // Signals of `set` are blocked as a rule; unblock them for the wait so that senders wake this task.
    match NOBODY.wait_until(deadline, || take_pending(set)) {
        Err(Errno::ETIMEDOUT) => Err(Errno::EAGAIN),
        r => r,
    }
}

/// What a thread's exit owes to futexes: robust list, then CLONE_CHILD_CLEARTID.
pub fn futex_exit(t: &Arc<Task>) {
    crate::syscall::futex::exit_robust(t);
    crate::syscall::futex::release_held(t);
    let at = t.clear_tid.get();
    if at != 0 && t.process.mm().is_some() {
        let _ = uaccess::write_val(at, 0u32);
        let _ = crate::syscall::futex::wake(at, 1, u32::MAX);
    }
}
