//! Signal dispositions while an enclave runs: faults and kicks of vCPU threads, and the host signals that are meant for
//! the enclave. Everything is put back when the guard is dropped.
use super::entry;
use crate::PalError;
use crate::ocall::{Host, wait};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Exceptions of translated code.
const FAULTS: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];
/// Host signals that the enclave hears about.
const FORWARDED: [i32; 7] =
    [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGWINCH, libc::SIGTERM, libc::SIGHUP, libc::SIGCONT];

static HOST: AtomicPtr<Host> = AtomicPtr::new(std::ptr::null_mut());

extern "C" fn forward(sig: i32) {
    let host = HOST.load(Ordering::Acquire);
    if !host.is_null() {
        // SAFETY: 1. the guard keeps the host alive while the pointer is set; 2. `signal` is async-signal-safe.
        unsafe { (*host).signal(sig) };
    }
}

/// Puts the old dispositions back.
pub(super) struct Guard {
    old: Vec<(i32, libc::sigaction)>,
    _host: Arc<Host>,
}

/// Installs all handlers.
pub(super) fn install(host: &Arc<Host>) -> Result<Guard, PalError> {
    HOST.store(Arc::as_ptr(host).cast_mut(), Ordering::Release);
    let mut guard = Guard { old: Vec::new(), _host: host.clone() };
    let fault = entry::occlum_sim_signal as *const () as usize;
    for sig in FAULTS.into_iter().chain([wait::kick_signal()]) {
        guard.set(sig, fault, libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART)?;
    }
    for sig in FORWARDED {
        guard.set(sig, forward as *const () as usize, libc::SA_RESTART)?;
    }
    Ok(guard)
}

impl Guard {
    fn set(&mut self, sig: i32, handler: usize, flags: i32) -> Result<(), PalError> {
        // SAFETY: 1. all-zero sigactions are valid; 2. the handlers are functions of the matching kind.
        unsafe {
            let mut new: libc::sigaction = std::mem::zeroed();
            let mut old: libc::sigaction = std::mem::zeroed();
            new.sa_sigaction = handler;
            new.sa_flags = flags;
            libc::sigfillset(&mut new.sa_mask);
            if libc::sigaction(sig, &new, &mut old) < 0 {
                return Err(PalError::last_os("sigaction"));
            }
            self.old.push((sig, old));
        }
        Ok(())
    }
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

/// vCPU threads take faults and kicks only; everything else goes to the other threads.
pub(super) fn vcpu_mask() {
    // SAFETY: 1. an all-zero set is filled before use; 2. the mask is this thread's.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        for sig in FAULTS.into_iter().chain([wait::kick_signal()]) {
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
