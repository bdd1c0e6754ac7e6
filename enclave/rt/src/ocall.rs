//! The OCALL gate: arguments and data cross by copy through this vCPU's untrusted buffer.
//!
//! Invariant: the buffer lies outside ELRANGE (checked at start); each result is read from it once.
use crate::asm::occlum_rt_ocall;
use crate::ctx::Ctx;
use crate::panic::Line;
use crate::vcpu::Vcpu;
use core::fmt::Write;
use core::ptr::with_exposed_provenance_mut;
use occlum_enclave_abi::{OCALL_DATA, OCALL_DATA_MAX, Ocall, OcallFrame};
use occlum_sfi_spec::ctx;

const EINVAL: i64 = 22;

/// Asks the host. Returns its result: untrusted, the caller validates it. Of `output`, as many bytes are
/// written as the host says it produced (never more than fit); the rest is zero, whatever was there: the
/// result may claim that it was read. Where the result says how much was read, what lies beyond it stays.
pub fn call(nr: Ocall, args: &[u64], input: &[u8], output: &mut [u8]) -> i64 {
    let mut frame = OcallFrame { nr: nr as u64, ..OcallFrame::default() };
    if args.len() > frame.args.len() || input.len() > OCALL_DATA_MAX || output.len() > OCALL_DATA_MAX {
        return -EINVAL;
    }
    frame.args[..args.len()].copy_from_slice(args);
    frame.in_len = input.len() as u64;
    frame.out_len = output.len() as u64;
    let buf: *mut u8 = with_exposed_provenance_mut(Vcpu::this().ocall_buf as usize);
    if buf.is_null() {
        return -EINVAL;
    }
    save_vectors();
    // SAFETY: 1. the buffer is OCALL_BUF_SIZE bytes outside ELRANGE, so it overlaps nothing of ours; 2.
    // lengths were checked above; 3. the gate saves and restores what the ABI wants kept, and vectors were
    // saved.
    unsafe {
        buf.cast::<OcallFrame>().write_volatile(frame);
        core::ptr::copy_nonoverlapping(input.as_ptr(), buf.add(OCALL_DATA), input.len());
        occlum_rt_ocall();
        let frame = buf.cast::<OcallFrame>().read_volatile();
        let n = (frame.out_len as usize).min(output.len());
        core::ptr::copy_nonoverlapping(buf.add(OCALL_DATA), output.as_mut_ptr(), n);
        let claimed =
            if nr.reads() { frame.ret.clamp(0, output.len() as i64) as usize } else { output.len() };
        output[n..claimed.max(n)].fill(0);
        frame.ret
    }
}

/// The same for a call that takes its time: other vCPUs have the LibOS meanwhile. The caller may hold no borrow of shared
/// state, as at any point that can block, and what it knew of shared state before counts for nothing after.
pub fn call_unlocked(nr: Ocall, args: &[u64], input: &[u8], output: &mut [u8]) -> i64 {
    crate::bkl::unlock();
    let ret = call(nr, args, input, output);
    crate::bkl::lock();
    ret
}

/// Ends the enclave because the host's result of a call leaves no way to go on. Allocates nothing, takes no lock.
pub(crate) fn give_up(nr: Ocall, ret: i64) -> ! {
    let mut line = Line::new();
    let _ = writeln!(line, "occlum: the host refused {} (result {ret}); the enclave cannot go on", nr.name());
    line.flush();
    call(Ocall::Exit, &[2, 103], &[], &mut []);
    crate::vcpu::halt()
}

/// The guest's live vector state goes to its context until the guest goes on. The host may use any vector register, and sees
/// none of it; code of the LibOS that is built for AVX needs it, too, before it runs.
pub fn save_vectors() {
    let c = Ctx::current();
    if c.u32(ctx::XSTATE_SAVED) == 0 {
        // SAFETY: the area belongs to the current context (I5).
        unsafe { crate::arch::xsave_clean(c.at(ctx::XSAVE)) };
        c.set_u32(ctx::XSTATE_SAVED, 1);
    }
}

/// Gives the host CPU up for about `ns` (0: only yields). A `Wait` without room for events takes none.
pub(crate) fn nap(ns: u64) {
    call(Ocall::Wait, &[ns], &[], &mut []);
}
