//! vCPUs: the block of each TCS, boot, kicks.
//!
//! Invariants: a block stands at a fixed address of the measured image (`layout`); its own vCPU writes it,
//! others only read `current` and `in_guest` under the BKL; stage 1 of the same vCPU writes the exception
//! fields.
use crate::ctx::Ctx;
use crate::slot::Slot;
use crate::{BootInfo, bkl};
use alloc::vec::Vec;
use core::ptr::with_exposed_provenance_mut;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use occlum_enclave_abi::{Config, ConfigError, OCALL_BUF_SIZE, Ocall};
use occlum_sfi_spec::{ctx, elrange};
use occlum_sgx_arch::{PAGE, layout};

/// Offsets of `Vcpu` fields, for the assembly.
pub(crate) mod field {
    use super::Vcpu;
    use core::mem::offset_of;
    pub(crate) const GATE: usize = offset_of!(Vcpu, gate);
    pub(crate) const CURRENT: usize = offset_of!(Vcpu, current);
    pub(crate) const AEP: usize = offset_of!(Vcpu, aep);
    pub(crate) const OCALL_RSP: usize = offset_of!(Vcpu, ocall_rsp);
    pub(crate) const STATE: usize = offset_of!(Vcpu, state);
    /// `state`: never entered.
    pub(crate) const FRESH: u32 = 0;
    /// `state`: inside.
    pub(crate) const INSIDE: u32 = 1;
    /// `state`: outside in an OCALL.
    pub(crate) const OUTSIDE: u32 = 2;
}

/// The block of one vCPU.
#[repr(C)]
pub(crate) struct Vcpu {
    /// See `layout::SIM_GATE`.
    gate: u64,
    /// Address of the current context.
    pub(crate) current: AtomicU64,
    aep: u64,
    ocall_rsp: u64,
    state: u32,
    pub(crate) id: u32,
    /// The untrusted OCALL buffer.
    pub(crate) ocall_buf: u64,
    /// `INSIDE` from just before the BKL is released for a guest entry, `LEFT` from behind it until the BKL is held again.
    pub(crate) in_guest: AtomicU32,
    /// 1 if the last user-memory fault was a write.
    pub(crate) user_fault_write: AtomicU32,
    /// The last guest exception, or the crash.
    pub(crate) fault: Fault,
}

/// An exception as stage 1 saw it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    /// False: a kick.
    pub(crate) valid: bool,
    pub(crate) vector: u8,
    pub(crate) code: u32,
    pub(crate) addr: u64,
    pub(crate) rip: u64,
    pub(crate) rsp: u64,
}

/// `Vcpu::in_guest`: guest code runs, or is about to.
pub(crate) const INSIDE: u32 = 1;
/// `Vcpu::in_guest`: the vCPU waits for the BKL.
pub(crate) const LEFT: u32 = 2;

const _: () = assert!(size_of::<Vcpu>() as u64 <= layout::IDLE_CTX - layout::VCPU);
const _: () = assert!(ctx::SIZE as u64 <= 0x1000 - (layout::IDLE_CTX - layout::VCPU));
const _: () = assert!(layout::SIM_GATE == layout::VCPU && field::GATE == 0);

/// Number of vCPUs.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// 1 when vCPU 0 has run `Hooks::init`.
static BOOTED: AtomicU32 = AtomicU32::new(0);

impl Vcpu {
    /// The block of this vCPU.
    #[inline(always)]
    pub(crate) fn this<'a>() -> &'a Vcpu {
        let p: *mut Vcpu = with_exposed_provenance_mut(crate::arch::fs_u64::<{ ctx::VCPU }>() as usize);
        // SAFETY: 1. ctx::VCPU points to this vCPU's block (I1), mapped for ever; 2. fields that change while
        // shared references exist are atomic, or written by stage 1 only while this vCPU's kernel code does
        // not run.
        unsafe { &*p }
    }
    /// The block of vCPU `n`.
    pub(crate) fn of<'a>(n: u32) -> &'a Vcpu {
        assert!(n < layout::MAX_VCPUS);
        let p: *mut Vcpu = with_exposed_provenance_mut((layout::thread(n) + layout::VCPU) as usize);
        // SAFETY: 1. callers pass n < count(), whose pages are in the measured image; 2. as in `this`.
        unsafe { &*p }
    }
    /// The last exception of this vCPU (volatile: stage 1 wrote it behind the compiler's back).
    pub(crate) fn fault(&self) -> Fault {
        // SAFETY: `self.fault` is a valid, initialised field.
        unsafe { (&raw const self.fault).read_volatile() }
    }
    /// The current context of this vCPU.
    pub(crate) fn current_ctx(&self) -> Ctx {
        // SAFETY: `current` always is the address of a live context (the current one is never freed).
        unsafe { Ctx::from_addr(self.current.load(Ordering::Relaxed) as usize) }
    }
}

/// Number of this vCPU.
#[inline]
pub fn current() -> u32 {
    Vcpu::this().id
}

/// Number of vCPUs.
pub fn count() -> u32 {
    COUNT.load(Ordering::Relaxed)
}

/// Makes vCPU `vcpu` leave the guest soon (it sees `Exit::Kick`). BKL held.
pub fn kick(vcpu: u32) {
    if vcpu >= count() {
        return;
    }
    let target = Vcpu::of(vcpu);
    target.current_ctx().set_pending();
    // Only translated code does not look at the mark by itself.
    if vcpu != current() && target.in_guest.load(Ordering::Relaxed) == INSIDE {
        crate::ocall::call(Ocall::Wake, &[u64::from(vcpu), 1], &[], &mut []);
    }
}

/// Does vCPU `n`, another one, run (or is it about to run) guest code of the slot at `slot_base`? BKL held.
fn runs_slot(n: u32, slot_base: u64) -> bool {
    let v = Vcpu::of(n);
    n != current()
        && v.in_guest.load(Ordering::Acquire) == INSIDE
        && v.current_ctx().u64(ctx::SLOT_BASE) == slot_base
}

/// True if another vCPU runs (or is about to run) guest code of the slot. BKL held.
pub fn slot_runs_elsewhere(slot: Slot) -> bool {
    (0..count()).any(|n| runs_slot(n, slot.base()))
}

/// Has the other vCPUs leave guest code of the slot. BKL held: none comes back before it is given up, so until then
/// pages of the slot can have rights that no thread of it may use.
pub fn stop_others(slot: Slot) {
    const LOOKS: u32 = 20_000;
    for n in 0..count() {
        let mut looks = 0;
        while runs_slot(n, slot.base()) {
            if looks % LOOKS == 0 {
                kick(n);
            }
            looks += 1;
            crate::arch::pause();
        }
    }
}

/// True if some vCPU has this context as its current one.
pub(crate) fn is_current_anywhere(c: Ctx) -> bool {
    (0..count()).any(|n| Vcpu::of(n).current_ctx() == c)
}

/// The context in which `vcpu_main(n)` runs.
pub(crate) const fn idle_ctx(n: u32) -> usize {
    (layout::thread(n) + layout::IDLE_CTX) as usize
}

/// Stops this vCPU for good (after `Ocall::Exit`).
pub fn halt() -> ! {
    loop {
        crate::ocall::nap(1_000_000_000);
    }
}

/// First Rust code of a vCPU: rsp is its idle stack, FS base its idle context (from the TCS), nothing else is
/// set up.
pub(crate) extern "C" fn start(vcpu: *mut Vcpu, ocall_buf: u64, launch: u64, launch_len: u64) -> ! {
    let id = ((vcpu as u64 - layout::VCPU - layout::THREADS_BASE) / layout::THREAD_STRIDE) as u32;
    let idle = idle_ctx(id);
    // SAFETY: 1. vcpu is this vCPU's block, and nobody else uses it yet; 2. the idle context is in the same
    // page.
    let c = unsafe {
        (*vcpu).id = id;
        (*vcpu).ocall_buf = if outside(ocall_buf, OCALL_BUF_SIZE as u64) { ocall_buf } else { 0 };
        (*vcpu).current = AtomicU64::new(idle as u64);
        Ctx::from_addr(idle)
    };
    c.init(u64::MAX);
    c.set_u64(ctx::VCPU, vcpu as u64);
    crate::arch::set_gs_base(0);
    // SAFETY: `entry!` of the blob defines it with this signature.
    let hooks = unsafe { occlum_rt_hooks() };
    if id == 0 {
        boot(hooks.init, launch, launch_len);
    } else {
        while BOOTED.load(Ordering::Acquire) == 0 {
            crate::ocall::nap(100_000);
        }
    }
    (hooks.vcpu_main)(id)
}

unsafe extern "Rust" {
    fn occlum_rt_hooks() -> crate::Hooks;
}

/// Heap until the configuration is read: several times the longest one.
const BOOT_HEAP: u64 = 16 << 20;

fn boot(init: fn(BootInfo), launch: u64, launch_len: u64) {
    // Reading the configuration takes some heap, before it says how much there may be.
    crate::mem::set_limit(BOOT_HEAP);
    let config = config().unwrap_or_else(|why| panic!("the configuration is damaged: {why}"));
    assert!((1..=layout::MAX_VCPUS).contains(&config.vcpus), "unusable number of vCPUs");
    COUNT.store(config.vcpus, Ordering::Relaxed);
    mark_vcpus(config.vcpus);
    crate::mem::set_limit(config.memory_bytes);
    bkl::lock();
    init(BootInfo { config, launch: copy_launch(launch, launch_len) });
    bkl::unlock();
    BOOTED.store(1, Ordering::Release);
}

/// Gives vCPUs that have not started yet a valid `current`, which others may look at.
fn mark_vcpus(count: u32) {
    for n in 1..count {
        let v = Vcpu::of(n);
        let idle = idle_ctx(n) as u64;
        let _ = v.current.compare_exchange(0, idle, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn config() -> Result<Config, ConfigError> {
    let start: *const u8 = core::ptr::with_exposed_provenance(layout::CONFIG_BASE as usize);
    // SAFETY: 1. the configuration has at least one page; 2. it is part of the measured image and never written.
    let first = unsafe { core::slice::from_raw_parts(start, PAGE) };
    let pages = Config::length(first).ok_or("it does not begin as one")?.div_ceil(PAGE);
    // SAFETY: 1. an enclave whose measurement is that of a good configuration has as many pages as it is long; in any
    // other this faults, which ends it; 2. `length` keeps them below the blocks of the vCPUs; 3. never written.
    Config::decode(unsafe { core::slice::from_raw_parts(start, pages * PAGE) })
}

/// Most bytes of launch parameters.
const LAUNCH_MAX: u64 = 64 << 20;

/// Is [addr, addr + len) outside ELRANGE and below the canonical hole?
fn outside(addr: u64, len: u64) -> bool {
    addr >= elrange::BASE + elrange::SIZE && addr.checked_add(len).is_some_and(|end| end < 1 << 47)
}

fn copy_launch(addr: u64, len: u64) -> Vec<u8> {
    if len > LAUNCH_MAX || !outside(addr, len) {
        return Vec::new();
    }
    let mut out = Vec::with_capacity(len as usize);
    let src: *const u8 = core::ptr::with_exposed_provenance(addr as usize);
    // SAFETY: 1. the source is outside ELRANGE, so it does not overlap `out`; if it is not mapped the enclave
    // crashes, which the host may do anyway; 2. `out` has room for len bytes, all of which are written.
    unsafe {
        core::ptr::copy_nonoverlapping(src, out.as_mut_ptr(), len as usize);
        out.set_len(len as usize);
    }
    out
}
