//! Single instructions: segment bases, context words, XSAVE, counters. Nothing here decides anything.
use core::arch::asm;

/// Reads the u64 at FS base + `OFF`.
#[inline(always)]
pub(crate) fn fs_u64<const OFF: u32>() -> u64 {
    let v: u64;
    // SAFETY: 1. FS base is the current context (I1), which is `ctx::SIZE` bytes; 2. OFF is one of its
    // fields.
    unsafe { asm!("mov {}, fs:[{off}]", out(reg) v, off = const OFF, options(nostack, preserves_flags)) };
    v
}

/// Sets GS base.
#[inline(always)]
pub(crate) fn set_gs_base(v: u64) {
    // SAFETY: 1. no kernel code uses GS; 2. FSGSBASE is part of the hardware floor (S1).
    unsafe { asm!("wrgsbase {}", in(reg) v, options(nostack, preserves_flags)) };
}

/// XSAVE components the runtime switches: x87 and AVX (MXCSR comes with AVX; xmm0-15 are kept apart).
const XSTATE: u32 = 0b101;

/// Offsets in an XSAVE area.
const MXCSR: usize = crate::ctx::MXCSR_AT as usize;
const XSTATE_BV: usize = crate::ctx::XSTATE_BV_AT as usize;

/// Components of `XSTATE` that may differ from their initial configuration (XINUSE). Programs seldom have any when they
/// enter the kernel: their C libraries clear the upper halves, and x87 is for `long double`.
fn in_use() -> u32 {
    let low: u32;
    // SAFETY: 1. XGETBV with ECX = 1 is part of the hardware floor; 2. it changes only EAX and EDX.
    unsafe { asm!("xgetbv", in("ecx") 1, out("eax") low, out("edx") _, options(nomem, nostack)) };
    low & XSTATE
}

/// Saves x87, MXCSR and the upper vector halves, then gives the CPU a clean x87, MXCSR and upper halves.
///
/// # Safety
/// `area` is 64-aligned, `ctx::XSAVE_SIZE` bytes, and nobody else uses it.
pub(crate) unsafe fn xsave_clean(area: *mut u8) {
    let mxcsr: u32 = 0x1f80;
    // SAFETY: 1. the caller's; 2. the new state is the architecture's default; 3. where nothing is in use, an image with
    // XSTATE_BV = 0 says all but MXCSR; 4. the compiler keeps nothing in ymm halves.
    unsafe {
        if in_use() == 0 {
            asm!("stmxcsr [{}]", in(reg) area.add(MXCSR), options(nostack));
            area.add(XSTATE_BV).cast::<u64>().write_volatile(0);
        } else {
            asm!("xsave64 [{}]", in(reg) area, in("eax") XSTATE, in("edx") 0, options(nostack));
            asm!("fninit", "vzeroupper", options(nostack));
        }
        asm!("ldmxcsr [{}]", in(reg) &mxcsr, options(nostack));
    }
}

/// Loads what `xsave_clean` saved.
///
/// # Safety
/// `area` is 64-aligned, `ctx::XSAVE_SIZE` bytes; its header and MXCSR are valid (else #GP).
pub(crate) unsafe fn xrstor(area: *const u8) {
    // SAFETY: 1. the caller's; 2. the compiler keeps nothing in x87, MXCSR or ymm halves across calls; 3. what is in its
    // initial configuration, and is to be, needs no loading.
    unsafe {
        if area.add(XSTATE_BV).cast::<u64>().read_volatile() & u64::from(XSTATE) | u64::from(in_use()) == 0 {
            asm!("ldmxcsr [{}]", in(reg) area.add(MXCSR), options(nostack));
        } else {
            asm!("xrstor64 [{}]", in(reg) area, in("eax") XSTATE, in("edx") 0, options(nostack));
        }
    }
}

/// Spin-loop hint.
#[inline(always)]
pub(crate) fn pause() {
    core::hint::spin_loop();
}

/// One RDRAND; `None` if the source is dry.
pub(crate) fn rdrand() -> Option<u64> {
    let v: u64;
    let ok: u8;
    // SAFETY: 1. RDRAND is part of the hardware floor; 2. it changes only the register and the flags.
    unsafe { asm!("rdrand {}", "setc {}", out(reg) v, out(reg_byte) ok, options(nostack)) };
    (ok != 0).then_some(v)
}
