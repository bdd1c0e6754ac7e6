//! Stage 1: what happens after an asynchronous exit (S2, S3, R22).
//!
//! Runs on its own per-TCS stack with CSSA = 1, FS base = the idle context of its vCPU; it looks at SSA frame
//! 0 only, decides by the interrupted RIP, and may redirect it. It takes no lock, allocates nothing and makes
//! no OCALL.
use crate::asm::label;
use crate::ctx::Ctx;
use crate::panic::Line;
use crate::vcpu::{Fault, Vcpu};
use core::fmt::Write;
use core::sync::atomic::Ordering;
use occlum_enclave_abi::Ocall;
use occlum_sfi_spec::{ctx, domain, elrange, reason, table};
use occlum_sgx_arch::{layout, ssa};

const PAGE_FAULT: u8 = 14;
/// #PF error code: the access was a write.
const PF_WRITE: u32 = 2;

/// An SSA frame.
#[derive(Clone, Copy)]
struct Frame(*mut u8);
impl Frame {
    fn u64(self, at: usize) -> u64 {
        // SAFETY: 1. the frame is a page of ours; 2. `at` is the aligned offset of one of its fields.
        unsafe { self.0.add(at).cast::<u64>().read_volatile() }
    }
    fn set_u64(self, at: usize, v: u64) {
        // SAFETY: as `u64`.
        unsafe { self.0.add(at).cast::<u64>().write_volatile(v) }
    }
    fn fault(self) -> Fault {
        let info = self.u64(ssa::EXITINFO) as u32;
        Fault {
            valid: info & ssa::EXITINFO_VALID != 0,
            vector: info as u8,
            code: self.u64(ssa::ERRCD) as u32,
            addr: self.u64(ssa::MADDR),
            rip: self.u64(ssa::RIP),
            rsp: self.u64(ssa::GPR + 32),
        }
    }
}

/// The handler. `frame` is SSA frame 0 of this vCPU.
pub(crate) extern "C" fn stage1(vcpu: *mut Vcpu, frame: *mut u8) {
    let f = Frame(frame);
    let fault = f.fault();
    let in_range = |start: u64, end: u64| (start..end).contains(&fault.rip);
    let in_guest = in_range(elrange::CODE_BASE, elrange::CODE_END);
    let in_copy = fault.valid && in_range(label::user_start(), label::user_end()) && is_user_fault(&fault);
    // SAFETY: 1. vcpu is this vCPU's block; 2. its kernel code is interrupted and reads `fault` volatile
    // only.
    let v = unsafe {
        // Only for who will look at it: a kick while the LibOS reads what the guest did would leave half of each.
        if in_guest || fault.valid && !in_copy {
            (&raw mut (*vcpu).fault).write_volatile(fault);
        }
        &*vcpu
    };
    if in_guest {
        leave_guest(v, f);
    } else if !fault.valid {
        if in_range(label::enter_start(), label::enter_end()) {
            f.set_u64(ssa::RIP, label::pending());
        }
        v.current_ctx().set_pending();
    } else if in_copy {
        v.user_fault_write.store(u32::from(fault.code & PF_WRITE != 0), Ordering::Relaxed);
        f.set_u64(ssa::GPR + 2 * 8, fault.addr);
        f.set_u64(ssa::RIP, label::user_end());
    } else {
        f.set_u64(ssa::GPR + 7 * 8, vcpu as u64);
        f.set_u64(ssa::GPR + 4 * 8, vcpu as u64 - layout::VCPU + layout::CRASH_STACK_TOP);
        f.set_u64(ssa::RFLAGS, crate::task::RFLAGS_FIXED);
        f.set_u64(ssa::FSBASE, v.current_ctx().addr() as u64);
        f.set_u64(ssa::RIP, label::crash());
    }
}

/// A #PF on guest memory, on shadow words, or on the tables of a slot, which `code` fills where they may not be there.
fn is_user_fault(fault: &Fault) -> bool {
    let known = |at: u64| slot_offset(at).is_some() || is_table(at) || is_shadow(at);
    fault.vector == PAGE_FAULT && known(fault.addr)
}

/// Is an address in the gap above some slot, where its shadow words are?
fn is_shadow(addr: u64) -> bool {
    addr.checked_sub(domain::SIZE).is_some_and(|below| slot_offset(below).is_some())
}

/// Is an address in the tables around some slot?
fn is_table(addr: u64) -> bool {
    let Some(rel) = addr.checked_sub(domain::FIRST_BASE - table::SIZE) else { return false };
    let index = rel / domain::STRIDE;
    index < domain::COUNT && table::entry_at(domain::base(index), addr).is_some()
}

/// Slot base and offset of an address inside some slot's 4 GiB.
pub(crate) fn slot_offset(addr: u64) -> Option<(u64, u32)> {
    let rel = addr.checked_sub(domain::FIRST_BASE)?;
    let (index, off) = (rel / domain::STRIDE, rel % domain::STRIDE);
    (index < domain::COUNT && off < domain::SIZE).then(|| (domain::base(index), off as u32))
}

/// Moves the guest's registers from the SSA to its context and lets ERESUME go to stage 2. x87 and the upper
/// vector halves come back with ERESUME and stay live (I5).
fn leave_guest(v: &Vcpu, f: Frame) {
    let c = v.current_ctx();
    for n in 0..16 {
        c.set_u64(ctx::GPR + 8 * n, f.u64(ssa::GPR + 8 * n as usize));
    }
    c.set_u64(ctx::RFLAGS, crate::task::user_flags(f.u64(ssa::RFLAGS)));
    c.set_u64(ctx::RESUME, f.u64(ssa::RIP));
    c.set_u32(ctx::REASON, reason::AEX);
    copy_xmm(f, c);
    f.set_u64(ssa::RFLAGS, crate::task::RFLAGS_FIXED);
    f.set_u64(ssa::GPR + 4 * 8, c.u64(ctx::KSTACK));
    f.set_u64(ssa::FSBASE, c.addr() as u64);
    f.set_u64(ssa::RIP, label::leave());
}

fn copy_xmm(f: Frame, c: Ctx) {
    const XMM_IN_XSAVE: usize = 160;
    // SAFETY: 1. both areas are 256 bytes inside their page and do not overlap; 2. SSE is in XFRM, so the
    // image has it.
    unsafe { core::ptr::copy_nonoverlapping(f.0.add(XMM_IN_XSAVE), c.at(ctx::XMM), 256) };
}

/// Says what crashed and ends the enclave. Runs on the crash stack after ERESUME.
pub(crate) extern "C" fn crash(vcpu: *mut Vcpu) -> ! {
    // SAFETY: vcpu is this vCPU's block.
    let fault = unsafe { &*vcpu }.fault();
    let mut line = Line::new();
    let _ = writeln!(
        line,
        "occlum: LibOS crash: exception {} (code {:#x}) at rip {:#x}, address {:#x}, rsp {:#x}",
        fault.vector, fault.code, fault.rip, fault.addr, fault.rsp
    );
    line.flush();
    trace(fault.rsp);
    crate::ocall::call(Ocall::Exit, &[2, 102], &[], &mut []);
    crate::vcpu::halt()
}

/// Lists what looks like return addresses on the stack that crashed.
fn trace(rsp: u64) {
    const MOST: usize = 24;
    let rsp = rsp & !7;
    let kstacks = elrange::KSTACK_BASE..elrange::KSTACK_BASE + elrange::KSTACK_MAX * elrange::KSTACK_STRIDE;
    let threads = layout::THREADS_BASE..layout::thread(layout::MAX_VCPUS);
    let (base, stride, size) = if kstacks.contains(&rsp) {
        (kstacks.start, elrange::KSTACK_STRIDE, elrange::KSTACK_SIZE)
    } else if threads.contains(&rsp) {
        let size = layout::IDLE_STACK_TOP - layout::IDLE_STACK;
        (threads.start - (layout::THREAD_STRIDE - layout::IDLE_STACK_TOP), layout::THREAD_STRIDE, size)
    } else {
        return;
    };
    let top = base + (rsp - base) / stride * stride + stride;
    let mut line = Line::new();
    let _ = write!(line, "occlum: stack:");
    let words = (rsp.max(top - size)..top).step_by(8).map(|at| {
        let p: *const u64 = core::ptr::with_exposed_provenance(at as usize);
        // SAFETY: [top - size, top) is the mapped part of a kernel stack.
        unsafe { p.read_volatile() }
    });
    for w in words.filter(|w| crate::code::in_image_text(*w)).take(MOST) {
        let _ = write!(line, " {w:#x}");
    }
    let _ = writeln!(line);
    line.flush();
}
