//! AEX: a signal that interrupts the enclave becomes an SSA frame, stage 1 is entered, and ERESUME follows (S2, S3).
//!
//! A fault is a fault only if the kernel says that it raised it: a signal that somebody sent is a kick at most (S2).
//!
//! Runs on the vCPU thread's signal stack with every signal blocked. Invariants: the frame in SSA[0] is complete before
//! CSSA is 1; ERESUME takes everything back from the SSA, so stage 1 decides where the enclave goes on.
use super::entry::{self, Thread};
use libc::{c_int, siginfo_t, ucontext_t};
use occlum_sgx_arch::{layout, ssa, tcs};

/// Indices of `gregs` by hardware register number.
const GREGS: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];
/// Bytes 464-511 of a signal frame's FP state belong to the kernel.
const SW_RESERVED: std::ops::Range<usize> = 464..512;
/// XSTATE_BV in the XSAVE header, first byte: x87, SSE, AVX.
const XSTATE_BV: usize = 512;
const XFRM: u8 = 7;

/// The interrupted FS and GS bases, as the trampoline pushed them; what is here when it returns is loaded.
#[repr(C)]
pub(super) struct Bases {
    fs: u64,
    gs: u64,
}

/// What a signal on a vCPU thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The kernel raised it for the instruction that was interrupted.
    Fault,
    /// It was sent: by another vCPU, the tick, or anybody.
    Kick,
}

fn cause(sig: c_int, code: c_int) -> Cause {
    // Codes of senders are 0 and below, and only the process itself can forge others. A memory error that was found
    // elsewhere comes with no instruction either.
    let about_memory_elsewhere = sig == libc::SIGBUS && code == libc::BUS_MCEERR_AO;
    if sig == crate::ocall::wait::kick_signal() || code <= 0 || about_memory_elsewhere {
        Cause::Kick
    } else {
        Cause::Fault
    }
}

/// The Rust half of the signal entry, on a vCPU thread.
pub(super) unsafe extern "C" fn on_signal(
    sig: c_int,
    info: *mut siginfo_t,
    uc: *mut ucontext_t,
    thread: *mut Thread,
    bases: *mut Bases,
) {
    // SAFETY: 1. the kernel gave `uc` and `info`; 2. the trampoline gave `thread` and `bases`; 3. all are this thread's own.
    let (context, code, thread_ref, bases) = unsafe { (&mut *uc, (*info).si_code, &*thread, &mut *bases) };
    let cause = cause(sig, code);
    let rip = context.uc_mcontext.gregs[libc::REG_RIP as usize] as u64;
    let inside = bases.fs != thread_ref.host_fs && !entry::is_entry_code(rip);
    if !inside {
        if cause == Cause::Fault {
            // SAFETY: 1. the kernel gave `info` and `uc`.
            unsafe { super::signals::pass_on(sig, info, uc) };
        }
        return;
    }
    if thread_ref.host().ended().is_some() {
        return abandon(context, thread_ref, bases);
    }
    save(context, thread_ref.tcs, bases, cause);
    set_cssa(thread_ref.tcs, 1);
    // SAFETY: 1. the frame is in SSA[0], CSSA is 1.
    let exit = unsafe { entry::enter_nested(thread) };
    set_cssa(thread_ref.tcs, 0);
    if exit != layout::EXIT_AEX_DONE {
        // SAFETY: 1. abort has no arguments; the enclave is not as it should be, and the host cannot go on.
        unsafe { libc::abort() };
    }
    resume(context, thread_ref.tcs, bases);
}

fn frame(tcs: u64) -> *mut u8 {
    (tcs + layout::SSA) as *mut u8
}

fn set_cssa(tcs: u64, n: u32) {
    // SAFETY: 1. the TCS page is an added page, writable in the simulator.
    unsafe { ((tcs as usize + tcs::CSSA) as *mut u32).write_volatile(n) };
}

fn put(tcs: u64, at: usize, v: u64) {
    // SAFETY: 1. `at` is an 8-aligned offset inside SSA[0], an added page.
    unsafe { frame(tcs).add(at).cast::<u64>().write_volatile(v) };
}
fn get(tcs: u64, at: usize) -> u64 {
    // SAFETY: as `put`.
    unsafe { frame(tcs).add(at).cast::<u64>().read_volatile() }
}

fn save(uc: &ucontext_t, tcs: u64, bases: &Bases, cause: Cause) {
    let kick = cause == Cause::Kick;
    let g = &uc.uc_mcontext.gregs;
    for (n, index) in GREGS.iter().enumerate() {
        put(tcs, ssa::GPR + 8 * n, g[*index as usize] as u64);
    }
    put(tcs, ssa::RFLAGS, g[libc::REG_EFL as usize] as u64);
    put(tcs, ssa::RIP, g[libc::REG_RIP as usize] as u64);
    put(tcs, ssa::FSBASE, bases.fs);
    put(tcs, ssa::GSBASE, bases.gs);
    let vector = g[libc::REG_TRAPNO as usize] as u32 & 0xff;
    let kind = if vector == 3 { ssa::TYPE_SOFTWARE } else { ssa::TYPE_HARDWARE };
    let info = if kick { 0 } else { ssa::EXITINFO_VALID | kind | vector };
    put(tcs, ssa::EXITINFO, u64::from(info));
    put(tcs, ssa::MADDR, if kick { 0 } else { g[libc::REG_CR2 as usize] as u64 });
    put(tcs, ssa::ERRCD, if kick { 0 } else { g[libc::REG_ERR as usize] as u64 & 0xffff_ffff });
    // SAFETY: 1. fpregs points to the frame's XSAVE image in standard format, at least 832 bytes with AVX on;
    // 2. SSA[0] is a page; they do not overlap.
    unsafe {
        let fp = uc.uc_mcontext.fpregs.cast::<u8>();
        frame(tcs).copy_from_nonoverlapping(fp, ssa::XSAVE_SIZE);
        let x = frame(tcs);
        x.add(SW_RESERVED.start).write_bytes(0, SW_RESERVED.len());
        x.add(XSTATE_BV).write(x.add(XSTATE_BV).read() & XFRM);
        x.add(XSTATE_BV + 1).write_bytes(0, 63);
    }
}

/// ERESUME.
fn resume(uc: &mut ucontext_t, tcs: u64, bases: &mut Bases) {
    let g = &mut uc.uc_mcontext.gregs;
    for (n, index) in GREGS.iter().enumerate() {
        g[*index as usize] = get(tcs, ssa::GPR + 8 * n) as i64;
    }
    g[libc::REG_EFL as usize] = get(tcs, ssa::RFLAGS) as i64;
    g[libc::REG_RIP as usize] = get(tcs, ssa::RIP) as i64;
    bases.fs = get(tcs, ssa::FSBASE);
    bases.gs = get(tcs, ssa::GSBASE);
    // SAFETY: as in `save`; the kernel's words and the header bits beyond XFRM stay the kernel's.
    unsafe {
        let fp = uc.uc_mcontext.fpregs.cast::<u8>();
        let x = frame(tcs);
        fp.copy_from_nonoverlapping(x, SW_RESERVED.start);
        fp.add(XSTATE_BV + 64)
            .copy_from_nonoverlapping(x.add(XSTATE_BV + 64), ssa::XSAVE_SIZE - XSTATE_BV - 64);
        let others = fp.add(XSTATE_BV).read() & !XFRM;
        fp.add(XSTATE_BV).write(others | x.add(XSTATE_BV).read() & XFRM);
    }
}

/// The enclave has ended: this vCPU goes back to the host without asking it.
fn abandon(uc: &mut ucontext_t, t: &Thread, bases: &mut Bases) {
    let g = &mut uc.uc_mcontext.gregs;
    #[cfg(feature = "hostile")]
    crate::hostile::abandoned(t.tcs, g[libc::REG_RIP as usize] as u64);
    g[libc::REG_RSP as usize] = get(t.tcs, ssa::URSP) as i64;
    g[libc::REG_RIP as usize] = entry::after() as i64;
    g[libc::REG_RDI as usize] = entry::EXIT_ABANDONED as i64;
    g[libc::REG_EFL as usize] &= !0x400;
    bases.fs = t.host_fs;
    bases.gs = t.host_gs;
}

#[cfg(test)]
mod tests {
    use super::{Cause, cause};

    #[test]
    fn only_the_kernel_raises_faults() {
        // SI_USER, SI_QUEUE, SI_TIMER, SI_MESGQ, SI_ASYNCIO, SI_SIGIO, SI_TKILL.
        for code in -6..=0 {
            assert_eq!(cause(libc::SIGSEGV, code), Cause::Kick);
        }
        for (sig, code) in
            [(libc::SIGSEGV, 1), (libc::SIGSEGV, libc::SI_KERNEL), (libc::SIGFPE, 1), (libc::SIGTRAP, 1)]
        {
            assert_eq!(cause(sig, code), Cause::Fault);
        }
        assert_eq!(cause(libc::SIGBUS, libc::BUS_MCEERR_AO), Cause::Kick);
        assert_eq!(cause(crate::ocall::wait::kick_signal(), 1), Cause::Kick);
    }
}
