//! Signal dispositions while an enclave runs: faults and kicks of vCPU threads, and the host signals that are meant for
//! the enclave. Everything is put back when the guard is dropped.
//!
//! The process is the caller's: it has threads, handlers and faults of its own. What is not about a vCPU goes where it
//! went before (`pass_on`).
use super::entry;
use crate::PalError;
use crate::ocall::{Host, wait};
use libc::{c_int, siginfo_t, ucontext_t};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Exceptions of translated code.
const FAULTS: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];
/// Host signals that the enclave hears about.
const FORWARDED: [i32; 7] =
    [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGWINCH, libc::SIGTERM, libc::SIGHUP, libc::SIGCONT];
/// Signal numbers are below this.
const SIGNALS: usize = 65;

static HOST: AtomicPtr<Host> = AtomicPtr::new(std::ptr::null_mut());

/// A disposition as a signal handler can read it.
struct Old {
    handler: AtomicUsize,
    flags: AtomicI32,
    mask: AtomicU64,
}

/// What was there before, by signal number. Written before our handler is installed.
static OLD: [Old; SIGNALS] = [const {
    Old { handler: AtomicUsize::new(libc::SIG_DFL), flags: AtomicI32::new(0), mask: AtomicU64::new(0) }
}; SIGNALS];

extern "C" fn forward(sig: c_int) {
    let host = HOST.load(Ordering::Acquire);
    if host.is_null() {
        return;
    }
    // SAFETY: 1. the guard keeps the host alive while the pointer is set; 2. `signal` is async-signal-safe; 3. errno is
    // this thread's, and the interrupted code may be about to read it.
    unsafe {
        let errno = *libc::__errno_location();
        (*host).signal(sig);
        *libc::__errno_location() = errno;
    }
}

/// A fault or kick signal on a thread that is no vCPU, entered as the kernel enters a handler.
pub(super) unsafe extern "C" fn on_foreign(sig: c_int, info: *mut siginfo_t, uc: *mut ucontext_t) {
    // SAFETY: 1. the kernel gave `info` and `uc`; 2. errno as in `forward`.
    unsafe {
        let errno = *libc::__errno_location();
        pass_on(sig, info, uc);
        *libc::__errno_location() = errno;
    }
}

/// Does what would have happened without us.
///
/// # Safety
/// Called in a signal handler with what the kernel gave it; FS and GS are the host's.
pub(super) unsafe fn pass_on(sig: c_int, info: *mut siginfo_t, uc: *mut ucontext_t) {
    let old = &OLD[sig as usize % SIGNALS];
    let (handler, flags) = (old.handler.load(Ordering::Acquire), old.flags.load(Ordering::Relaxed));
    // SAFETY: 1. the caller's.
    let sent = unsafe { (*info).si_code } <= 0;
    match handler {
        // A kick that comes late finds another thread under the same number: it means nothing there.
        libc::SIG_DFL | libc::SIG_IGN if sig == wait::kick_signal() => {}
        libc::SIG_IGN if sent => {}
        libc::SIG_DFL | libc::SIG_IGN => default_action(sig, sent),
        // SAFETY: 1. the caller's; 2. the handler was installed for this signal with these flags.
        _ => unsafe {
            block_for(sig, flags, old.mask.load(Ordering::Relaxed), uc);
            if flags & libc::SA_SIGINFO != 0 {
                let f: extern "C" fn(c_int, *mut siginfo_t, *mut ucontext_t) = std::mem::transmute(handler);
                f(sig, info, uc);
            } else {
                let f: extern "C" fn(c_int) = std::mem::transmute(handler);
                f(sig);
            }
        },
    }
}

/// Ends the process as the signal does: at once or, as it is blocked here, when the handler returns.
fn default_action(sig: c_int, sent: bool) {
    // SAFETY: 1. signal and raise are async-signal-safe.
    unsafe {
        libc::signal(sig, libc::SIG_DFL);
        // A fault happens again by itself, with its own address; a breakpoint does not.
        if sent || sig == libc::SIGTRAP {
            libc::raise(sig);
        }
    }
}

/// The signal mask that the old handler expects.
///
/// # Safety
/// `uc` is what the kernel gave to the handler that runs now, which ends with sigreturn.
unsafe fn block_for(sig: c_int, flags: c_int, handler_mask: u64, uc: *mut ucontext_t) {
    let own = if flags & libc::SA_NODEFER != 0 { 0 } else { 1u64 << (sig - 1) };
    // SAFETY: 1. the kernel's signal set is 8 bytes, also in the context; 2. the mask is this thread's, sigreturn puts it
    // back.
    unsafe {
        let set = (&raw const (*uc).uc_sigmask).cast::<u64>().read() | handler_mask | own;
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const set, 0usize, 8usize);
    }
}

/// Stops the process as if we had no handlers, and returns when it is continued; at once if it cannot be stopped (nobody
/// could continue an orphaned process group). On a vCPU thread, which blocks the stop signals.
pub(super) fn stop_process(sig: i32) {
    if ![libc::SIGTSTP, libc::SIGSTOP, libc::SIGTTIN, libc::SIGTTOU].contains(&sig) {
        return;
    }
    // The continuing signal is not for the enclave: it learns from our return.
    let changed = [libc::SIGTSTP, libc::SIGCONT].map(|sig| (sig, set_action(sig, libc::SIG_DFL, 0)));
    // SAFETY: 1. all-zero sets are initialised before use; 2. a signal sent to the calling thread, which does not block
    // it, is taken before the call returns.
    unsafe {
        let (mut set, mut old): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, sig);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, &mut old);
        libc::raise(sig);
        libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut());
    }
    for (sig, old) in changed {
        if let Some(old) = old {
            // SAFETY: 1. `old` is what sigaction gave.
            unsafe { libc::sigaction(sig, &old, std::ptr::null_mut()) };
        }
    }
}

/// Sets a disposition; the one before, or `None` if that failed.
fn set_action(sig: i32, handler: usize, flags: i32) -> Option<libc::sigaction> {
    // SAFETY: 1. all-zero sigactions are valid; 2. the handlers are functions of the kind that the flags say.
    unsafe {
        let mut new: libc::sigaction = std::mem::zeroed();
        let mut old: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = handler;
        new.sa_flags = flags;
        libc::sigfillset(&mut new.sa_mask);
        (libc::sigaction(sig, &new, &mut old) == 0).then_some(old)
    }
}

/// Puts the old dispositions back.
pub(super) struct Guard {
    old: Vec<(i32, libc::sigaction)>,
    _host: Arc<Host>,
}

/// Installs the handlers for faults and, if they are the enclave's to hear, for the process's own signals.
pub(super) fn install(host: &Arc<Host>, forwards: bool) -> Result<Guard, PalError> {
    HOST.store(Arc::as_ptr(host).cast_mut(), Ordering::Release);
    let mut guard = Guard { old: Vec::new(), _host: host.clone() };
    let fault = entry::occlum_sim_signal as *const () as usize;
    for sig in FAULTS.into_iter().chain([wait::kick_signal()]) {
        // No SA_RESTART: a kick must get a vCPU thread out of a host call that blocks (the servers try again).
        guard.set(sig, fault, libc::SA_SIGINFO | libc::SA_ONSTACK)?;
    }
    for sig in FORWARDED.into_iter().filter(|_| forwards) {
        guard.set(sig, forward as *const () as usize, libc::SA_RESTART)?;
    }
    Ok(guard)
}

impl Guard {
    fn set(&mut self, sig: i32, handler: usize, flags: i32) -> Result<(), PalError> {
        // SAFETY: 1. an all-zero sigaction is valid; 2. nothing is changed.
        let (ok, old) = unsafe {
            let mut old: libc::sigaction = std::mem::zeroed();
            (libc::sigaction(sig, std::ptr::null(), &mut old) == 0, old)
        };
        // The handler may run as soon as it is there.
        remember(sig, &old);
        if !ok || set_action(sig, handler, flags).is_none() {
            return Err(PalError::last_os("sigaction"));
        }
        self.old.push((sig, old));
        Ok(())
    }
}

fn remember(sig: i32, old: &libc::sigaction) {
    let slot = &OLD[sig as usize % SIGNALS];
    // SAFETY: 1. a signal set is at least the kernel's 8 bytes.
    let mask = unsafe { (&raw const old.sa_mask).cast::<u64>().read() };
    slot.mask.store(mask, Ordering::Relaxed);
    slot.flags.store(old.sa_flags, Ordering::Relaxed);
    slot.handler.store(old.sa_sigaction, Ordering::Release);
}

impl Drop for Guard {
    fn drop(&mut self) {
        HOST.store(std::ptr::null_mut(), Ordering::Release);
        for (sig, old) in &self.old {
            // SAFETY: 1. `old` is what sigaction gave.
            unsafe { libc::sigaction(*sig, old, std::ptr::null_mut()) };
        }
    }
}

/// vCPU threads take faults and kicks only; everything else goes to the other threads. What the terminal says to a
/// background process is not blocked: reading it then stops the process, as it does any other.
pub(super) fn vcpu_mask() {
    // SAFETY: 1. an all-zero set is filled before use; 2. the mask is this thread's.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        let terminal = [libc::SIGTTIN, libc::SIGTTOU];
        for sig in FAULTS.into_iter().chain([wait::kick_signal()]).chain(terminal) {
            libc::sigdelset(&mut set, sig);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Takes no signal any more (the thread is about to end).
pub(super) fn block_all() {
    // SAFETY: 1. an all-zero set is filled before use; 2. the mask is this thread's.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}
