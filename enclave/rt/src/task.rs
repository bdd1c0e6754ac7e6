//! Tasks as the CPU sees them: a context, a kernel stack, the switch between two, and the way into the guest.
//!
//! Invariants: I1, I2, I4, I5 of the crate. A context's `KSTACK` is the saved kernel rsp of a task that is
//! not running, and the rsp to load at guest exit of one that runs guest code.
use crate::asm::{REASON_PENDING, label, occlum_rt_enter, occlum_rt_switch};
use crate::bkl::{self, BklCell};
use crate::ctx::{Ctx, MXCSR_AT, XSTATE_BV_AT};
use crate::slot::Slot;
use crate::vcpu::Vcpu;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::sync::atomic::Ordering;
use occlum_sfi_spec::{Returns, ctx, domain, elrange, reason};

/// RFLAGS bits that are always set: reserved bit 1 and IF.
pub(crate) const RFLAGS_FIXED: u64 = 0x202;
/// CF PF AF ZF SF DF OF: all that a guest may set (R14).
const RFLAGS_USER: u64 = 0xcd5;
/// Bits of MXCSR that may be set.
const MXCSR_VALID: u32 = 0xffff;
/// Hardware number of rsp.
const RSP: usize = 4;
/// `Task::stack` of idle contexts.
const NO_STACK: u32 = u32::MAX;

/// RFLAGS with only the guest's bits taken from `v`.
pub(crate) fn user_flags(v: u64) -> u64 {
    v & RFLAGS_USER | RFLAGS_FIXED
}

/// Why the guest left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `syscall`; rip and resume point are behind it, rcx and r11 as the instruction leaves them.
    Syscall,
    /// A direct branch that is not linked: its exit index.
    Link(u32),
    /// Return-table miss: the target.
    MissRet(u32),
    /// Call-table miss: the target.
    MissCall(u32),
    /// The instruction at this original pc must be emulated.
    Emulate(u32),
    /// A hardware exception.
    Exception(Exception),
    /// Kicked; `resume()` is where plain re-entry continues.
    Kick,
}

/// A hardware exception in translated code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// x86 vector.
    pub vector: u8,
    /// Error code of #PF and #GP.
    pub error_code: u32,
    /// For #PF: the offset, if the address lies in the task's slot.
    pub fault_off: Option<u32>,
    /// For #PF: the address.
    pub fault_addr: u64,
    /// For #PF: what the program takes for the address, whether it lies in the slot or not.
    pub fault_rel: u64,
    /// Translated address.
    pub rip: u64,
}

/// A user context and its kernel stack.
pub struct Task {
    ctx: usize,
    stack: u32,
}

/// Kernel stacks: recycled ones first, then fresh ones.
struct Stacks {
    free: Vec<u32>,
    next: u32,
}
static STACKS: BklCell<Stacks> = BklCell::new(Stacks { free: Vec::new(), next: 0 });

static IDLE: [Task; occlum_sgx_arch::layout::MAX_VCPUS as usize] = {
    let mut all = [const { Task { ctx: 0, stack: NO_STACK } }; occlum_sgx_arch::layout::MAX_VCPUS as usize];
    let mut n = 0;
    while n < all.len() {
        all[n].ctx = crate::vcpu::idle_ctx(n as u32);
        n += 1;
    }
    all
};

fn stack_top(index: u32) -> u64 {
    elrange::KSTACK_BASE + (u64::from(index) + 1) * elrange::KSTACK_STRIDE
}

/// A kernel stack: mapped, with its guard below.
fn take_stack() -> Option<u32> {
    if let Some(n) = STACKS.with_mut(|s| s.free.pop()) {
        return Some(n);
    }
    let n = STACKS.with(|s| s.next);
    if u64::from(n) >= elrange::KSTACK_MAX {
        return None;
    }
    let low = stack_top(n) - elrange::KSTACK_SIZE;
    if crate::mem::commit(low, elrange::KSTACK_SIZE, false).is_err() {
        return None;
    }
    STACKS.with_mut(|s| s.next = n + 1);
    Some(n)
}

fn give_stack(n: u32) {
    STACKS.with_mut(|s| s.free.push(n));
}

const LAYOUT: Layout = match Layout::from_size_align(ctx::SIZE as usize, 64) {
    Ok(l) => l,
    Err(_) => panic!("the context's layout is a constant"),
};

/// First Rust code of a task.
pub(crate) extern "C" fn task_start(entry: usize) -> ! {
    // SAFETY: the value was made from a `fn() -> !` in `Task::new`.
    let entry: fn() -> ! = unsafe { core::mem::transmute::<usize, fn() -> !>(entry) };
    entry()
}

impl Task {
    /// A task that starts in `entry`, on its own kernel stack, with the BKL held. `None`: out of memory or
    /// stacks.
    pub fn new(entry: fn() -> !, tag: u64) -> Option<Task> {
        let stack = take_stack()?;
        // SAFETY: LAYOUT has a size.
        let p = unsafe { alloc::alloc::alloc(LAYOUT) };
        if p.is_null() {
            give_stack(stack);
            return None;
        }
        let task = Task { ctx: p.expose_provenance(), stack };
        let c = task.c();
        c.init(tag);
        // As `occlum_rt_switch` leaves a stack: r15 r14 r13 r12 rbx rbp, return address; rsp is 16-aligned
        // behind it.
        let rsp = stack_top(stack) - 72;
        let frame = [0, 0, 0, 0, entry as usize as u64, 0, label::task_start()];
        let p: *mut [u64; 7] = core::ptr::with_exposed_provenance_mut(rsp as usize);
        // SAFETY: 1. the top of the stack is mapped and 8-aligned; 2. nobody else uses this stack.
        unsafe { p.write(frame) };
        c.set_u64(ctx::KSTACK, rsp);
        Some(task)
    }

    /// The context in which `vcpu_main` runs.
    pub fn idle(vcpu: u32) -> &'static Task {
        &IDLE[vcpu as usize]
    }

    fn c(&self) -> Ctx {
        // SAFETY: 1. `new` allocated it, or it is an idle context of the image; 2. it lives as long as the
        // task.
        unsafe { Ctx::from_addr(self.ctx) }
    }
    fn is_current(&self) -> bool {
        self.c() == Ctx::current()
    }

    /// The word given to `new`.
    pub fn tag(&self) -> u64 {
        self.c().u64(ctx::TAG)
    }
    /// General register `n` (hardware number); rsp as an offset.
    pub fn gpr(&self, n: usize) -> u64 {
        let v = self.c().u64(ctx::GPR + 8 * (n as u32 & 15));
        if n == RSP { v & 0xffff_ffff } else { v }
    }
    /// Sets a general register; rsp takes the low 32 bits as an offset.
    pub fn set_gpr(&self, n: usize, v: u64) {
        let v = if n == RSP { self.c().u64(ctx::SLOT_BASE) + (v & 0xffff_ffff) } else { v };
        self.c().set_u64(ctx::GPR + 8 * (n as u32 & 15), v);
    }
    /// Original program counter.
    pub fn rip(&self) -> u32 {
        self.c().u64(ctx::RIP) as u32
    }
    /// Sets it (does not change the resume point).
    pub fn set_rip(&self, v: u32) {
        self.c().set_u64(ctx::RIP, u64::from(v));
    }
    /// RFLAGS.
    pub fn rflags(&self) -> u64 {
        user_flags(self.c().u64(ctx::RFLAGS))
    }
    /// Sets the flags a program may set; others keep their fixed values.
    pub fn set_rflags(&self, v: u64) {
        self.c().set_u64(ctx::RFLAGS, user_flags(v));
    }
    /// The program's FS base.
    pub fn tls(&self) -> u32 {
        self.c().u64(ctx::TLS) as u32
    }
    /// Sets the program's FS base.
    pub fn set_tls(&self, v: u32) {
        self.c().set_u64(ctx::TLS, u64::from(v));
    }
    /// The program's GS base.
    pub fn guest_gs(&self) -> u32 {
        self.c().u64(ctx::GUEST_GS) as u32
    }
    /// Sets the program's GS base.
    pub fn set_guest_gs(&self, v: u32) {
        self.c().set_u64(ctx::GUEST_GS, u64::from(v));
    }
    /// Spill slot of register `n`.
    pub fn spill(&self, n: usize) -> u64 {
        self.c().u64(ctx::spill(n as u32 & 15))
    }
    /// Target of the last indirect call or jump.
    pub fn target(&self) -> u32 {
        self.c().u64(ctx::TARGET) as u32
    }
    /// Sets where the guest continues.
    ///
    /// # Panics
    /// If the address is not in the code cache: that would leave the sandbox.
    pub fn set_resume(&self, translated: u32) {
        assert!(in_cache(u64::from(translated)), "resume address outside the code cache");
        self.c().set_u64(ctx::RESUME, u64::from(translated));
    }
    /// Sets the translated entry where the guest continues: entries expect r11 in its spill slot. The place behind a
    /// system call will do as well, because the register holds the same.
    ///
    /// # Panics
    /// If the verifier has not proven that code can be entered there with rsp anywhere in the slot.
    pub fn set_entry(&self, translated: u32) {
        assert!(crate::code::is_boundary(translated), "resume address that is not proven");
        self.set_resume(translated);
        self.c().set_u64(ctx::spill(11), self.gpr(11));
    }
    /// Where the guest continues.
    pub fn resume(&self) -> u32 {
        self.c().u64(ctx::RESUME) as u32
    }
    /// Sets the slot; rsp keeps its offset.
    pub fn set_slot(&self, slot: Slot) {
        let rsp = self.gpr(RSP);
        self.c().set_u64(ctx::SLOT_BASE, slot.base());
        self.set_gpr(RSP, rsp);
        if self.is_current() {
            crate::arch::set_gs_base(slot.base());
        }
    }
    /// The slot.
    pub fn slot(&self) -> Slot {
        Slot::from_base(self.c().u64(ctx::SLOT_BASE))
    }

    /// Makes sure that the vector state is in the context (I5).
    fn save_vectors(&self) {
        let c = self.c();
        if c.u32(ctx::XSTATE_SAVED) == 0 && self.is_current() {
            // SAFETY: the area belongs to the current context, whose state is live in the CPU.
            unsafe { crate::arch::xsave_clean(c.at(ctx::XSAVE)) };
            c.set_u32(ctx::XSTATE_SAVED, 1);
        }
    }
    /// The x87/SSE/AVX state as a standard-format XSAVE image. The x87 instruction and data pointers are zero
    /// (R12).
    pub fn xsave(&self) -> [u8; 832] {
        self.save_vectors();
        let mut out = [0u8; 832];
        let c = self.c();
        // SAFETY: 1. both areas lie inside the context; 2. `out` is 832 bytes, XMM is 256 bytes at 160.
        unsafe {
            core::ptr::copy_nonoverlapping(c.at(ctx::XSAVE), out.as_mut_ptr(), out.len());
            core::ptr::copy_nonoverlapping(c.at(ctx::XMM), out.as_mut_ptr().add(160), 256);
        }
        out[8..24].fill(0);
        out[28..32].copy_from_slice(&MXCSR_VALID.to_le_bytes());
        out[416..512].fill(0);
        out[512..576].fill(0);
        // Components that were in their initial state read as such; SSE always counts as present.
        let bv = c.u64(ctx::XSAVE + XSTATE_BV_AT) & 5 | 2;
        out[512..520].copy_from_slice(&bv.to_le_bytes());
        if bv & 1 == 0 {
            out[..24].fill(0);
            out[..2].copy_from_slice(&0x37fu16.to_le_bytes());
            out[32..160].fill(0);
        }
        if bv & 4 == 0 {
            out[576..].fill(0);
        }
        out
    }
    /// Takes over such an image. False (and no change) if its header or MXCSR would fault.
    pub fn set_xsave(&self, image: &[u8; 832]) -> bool {
        let u64_at = |i: usize| u64::from_le_bytes(core::array::from_fn(|k| image[i + k]));
        let bv = u64_at(512);
        let mxcsr = u64_at(24) as u32;
        if bv & !7 != 0 || image[520..576].iter().any(|b| *b != 0) || mxcsr & !MXCSR_VALID != 0 {
            return false;
        }
        self.save_vectors();
        let c = self.c();
        // SAFETY: 1. both areas lie inside the context; 2. the image is 832 bytes, its xmm part 256 bytes at
        // 160.
        unsafe {
            core::ptr::copy_nonoverlapping(image.as_ptr(), c.at(ctx::XSAVE), image.len());
            if bv & 2 != 0 {
                core::ptr::copy_nonoverlapping(image.as_ptr().add(160), c.at(ctx::XMM), 256);
            } else {
                c.at(ctx::XMM).write_bytes(0, 256);
            }
        }
        debug_assert_eq!(c.u32(ctx::XSAVE + MXCSR_AT), mxcsr);
        c.set_u32(ctx::XSTATE_SAVED, 1);
        true
    }
    /// fork and clone: the same vector state as `other`.
    pub fn copy_vector_state_from(&self, other: &Task) {
        if self.ctx == other.ctx {
            return;
        }
        other.save_vectors();
        let (to, from) = (self.c(), other.c());
        // SAFETY: two different contexts, areas inside them.
        unsafe {
            core::ptr::copy_nonoverlapping(from.at(ctx::XSAVE), to.at(ctx::XSAVE), ctx::XSAVE_SIZE as usize);
            core::ptr::copy_nonoverlapping(from.at(ctx::XMM), to.at(ctx::XMM), 256);
        }
        to.set_u32(ctx::XSTATE_SAVED, 1);
    }
    /// exec: the initial vector state.
    pub fn reset_vector_state(&self) {
        self.c().init_vectors();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let c = self.c();
        // A context that is in use is leaked rather than freed; the LibOS never does that.
        if self.stack == NO_STACK || crate::vcpu::is_current_anywhere(c) {
            return;
        }
        // SAFETY: 1. `new` allocated it with this layout; 2. no vCPU uses it. Zeroed: it held registers (M6).
        unsafe {
            c.at(0).write_bytes(0, ctx::SIZE as usize);
            alloc::alloc::dealloc(c.at(0), LAYOUT);
        }
        give_stack(self.stack);
    }
}

fn in_cache(addr: u64) -> bool {
    (elrange::CODE_BASE..elrange::CODE_END).contains(&addr)
}

/// The tag of the running task.
pub fn current_tag() -> u64 {
    crate::arch::fs_u64::<{ ctx::TAG }>()
}

/// Continues `next`; returns when somebody switches back to `prev`, which must be the running task. BKL held
/// throughout.
pub fn switch(prev: &Task, next: &Task) {
    assert!(bkl::held() && prev.is_current(), "switch away from a task that does not run");
    if prev.ctx == next.ctx {
        return;
    }
    prev.save_vectors();
    switch_to(prev.c(), next.c());
}

fn switch_to(prev: Ctx, next: Ctx) {
    let v = Vcpu::this();
    next.set_u64(ctx::VCPU, prev.u64(ctx::VCPU));
    // In this order a kick in between marks the one or the other, and is passed on.
    v.current.store(next.addr() as u64, Ordering::SeqCst);
    if prev.take_pending() {
        next.set_pending();
    }
    // SAFETY: 1. prev is current, next is not running anywhere: its KSTACK is what `new` or an earlier switch
    // left; 2. the vector state of prev is saved, that of next loads at its guest entry.
    unsafe { occlum_rt_switch(prev.addr(), next.addr()) };
}

/// Leaves the current task for good: continues this vCPU's idle context. BKL held.
pub fn exit_to_idle() -> ! {
    let idle = Task::idle(crate::vcpu::current());
    assert!(bkl::held() && !idle.is_current());
    // Its vector state is of no use any more, and must not stay live for another.
    let c = Ctx::current();
    if c.u32(ctx::XSTATE_SAVED) == 0 {
        // SAFETY: the area belongs to the current context.
        unsafe { crate::arch::xsave_clean(c.at(ctx::XSAVE)) };
        c.set_u32(ctx::XSTATE_SAVED, 1);
    }
    switch_to(c, idle.c());
    unreachable!("a task that ended was continued")
}

/// Runs the current task's guest code from its resume point, without the BKL; takes the BKL again and says
/// why the guest left.
pub fn enter_guest() -> Exit {
    let c = Ctx::current();
    assert!(in_cache(c.u64(ctx::RESUME)) && bkl::held(), "nothing to enter");
    let v = Vcpu::this();
    if c.u32(ctx::XSTATE_SAVED) != 0 {
        c.set_u32(ctx::XSTATE_SAVED, 0);
        // SAFETY: the image is the runtime's own, or was checked by `set_xsave`.
        unsafe { crate::arch::xrstor(c.at(ctx::XSAVE)) };
    }
    // Readers hold the BKL, which orders this.
    v.in_guest.store(crate::vcpu::INSIDE, Ordering::Relaxed);
    bkl::unlock();
    // SAFETY: 1. RESUME is in the code cache, which holds only published code; 2. GS base is the slot's; 3.
    // flags were masked by `set_rflags` or come from the guest.
    let why = unsafe { occlum_rt_enter() };
    v.in_guest.store(crate::vcpu::LEFT, Ordering::Release);
    bkl::lock();
    v.in_guest.store(0, Ordering::Relaxed);
    exit_of(c, v, why)
}

fn exit_of(c: Ctx, v: &Vcpu, why: u32) -> Exit {
    match why {
        reason::SYSCALL => {
            // What the instruction leaves: rcx = next pc, r11 = flags; and no translated address stays in
            // rcx.
            c.set_u64(ctx::GPR + 8, c.u64(ctx::RIP));
            c.set_u64(ctx::GPR + 8 * 11, c.u64(ctx::RFLAGS));
            c.set_u64(ctx::spill(11), c.u64(ctx::RFLAGS));
            Exit::Syscall
        }
        reason::LINK => Exit::Link(c.u32(ctx::EXIT)),
        reason::MISS_RET => Exit::MissRet(return_target(c)),
        reason::MISS_CALL => Exit::MissCall(c.u64(ctx::TARGET) as u32),
        reason::EMULATE => Exit::Emulate(c.u32(ctx::EXIT)),
        REASON_PENDING => {
            c.take_pending();
            Exit::Kick
        }
        _ => aex_exit(c, v),
    }
}

/// `ret` popped its target: it is still below rsp. Another thread may have changed or unmapped it; then it is
/// as wrong a target as any. With a shadow stack what was compared counts: the shadow word says.
fn return_target(c: Ctx) -> u32 {
    let off = (c.u64(ctx::GPR + 8 * RSP as u32) as u32).wrapping_sub(8);
    if crate::code::returns() == Returns::Shadow {
        return crate::shadow::returned_to(Slot::from_base(c.u64(ctx::SLOT_BASE)), off);
    }
    let mut word = [0; 8];
    let slot = Slot::from_base(c.u64(ctx::SLOT_BASE));
    let _ = slot.read(u64::from(off), &mut word);
    u64::from_le_bytes(word) as u32
}

fn aex_exit(c: Ctx, v: &Vcpu) -> Exit {
    let f = v.fault();
    if !f.valid {
        c.take_pending();
        return Exit::Kick;
    }
    const PAGE_FAULT: u8 = 14;
    let base = c.u64(ctx::SLOT_BASE);
    let off = f.addr.wrapping_sub(base);
    Exit::Exception(Exception {
        vector: f.vector,
        error_code: f.code,
        fault_off: (f.vector == PAGE_FAULT && off < domain::SIZE).then_some(off as u32),
        fault_addr: f.addr,
        fault_rel: off,
        rip: f.rip,
    })
}
