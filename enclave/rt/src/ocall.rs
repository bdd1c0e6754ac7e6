//! The OCALL gate: arguments and data cross by copy through this vCPU's untrusted buffer.
//!
//! Invariant: the buffer lies outside ELRANGE (checked at start); each result is read from it once.
use crate::asm::occlum_rt_ocall;
use crate::ctx::Ctx;
use crate::vcpu::Vcpu;
use core::ptr::with_exposed_provenance_mut;
use occlum_enclave_abi::{OCALL_DATA, OCALL_DATA_MAX, Ocall, OcallFrame};
use occlum_sfi_spec::ctx;

const EINVAL: i64 = 22;

/// Asks the host. Returns its result: untrusted, the caller validates it. Of `output`, as many bytes are
/// written as the host says it produced (never more than fit); the rest keeps its content.
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
        frame.ret
    }
}

/// The host may use any vector register: the guest's live state goes to its context first, and the host sees
/// none of it.
fn save_vectors() {
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
