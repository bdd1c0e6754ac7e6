//! A trusted thread context (`sfi_spec::ctx`) seen from Rust: typed words at fixed offsets.
//!
//! Invariant: a `Ctx` is the address of `ctx::SIZE` bytes, 64-aligned, mapped for as long as the `Ctx` is
//! used.
use core::ptr::with_exposed_provenance_mut;
use occlum_sfi_spec::{ctx, shadow};

/// Pointer to a context.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ctx(usize);

/// Initial MXCSR.
const MXCSR: u32 = 0x1f80;
/// Offset of MXCSR in an XSAVE image.
pub(crate) const MXCSR_AT: u32 = 24;
/// Offset of XSTATE_BV.
pub(crate) const XSTATE_BV_AT: u32 = 512;

impl Ctx {
    /// # Safety
    /// `addr` satisfies the invariant of the module.
    pub(crate) const unsafe fn from_addr(addr: usize) -> Self {
        Self(addr)
    }
    /// The context FS base points to.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        Self(crate::arch::fs_u64::<{ ctx::SELF }>() as usize)
    }
    pub(crate) fn addr(self) -> usize {
        self.0
    }
    pub(crate) fn at(self, off: u32) -> *mut u8 {
        debug_assert!(off < ctx::SIZE);
        with_exposed_provenance_mut(self.0 + off as usize)
    }
    #[inline(always)]
    pub(crate) fn u64(self, off: u32) -> u64 {
        // SAFETY: 1. the context is mapped; 2. off is the 8-aligned offset of a u64 field; volatile, because
        // stubs and stage 1 write it too.
        unsafe { self.at(off).cast::<u64>().read_volatile() }
    }
    #[inline(always)]
    pub(crate) fn set_u64(self, off: u32, v: u64) {
        // SAFETY: as `u64`.
        unsafe { self.at(off).cast::<u64>().write_volatile(v) }
    }
    #[inline(always)]
    pub(crate) fn u32(self, off: u32) -> u32 {
        // SAFETY: 1. the context is mapped; 2. off is the 4-aligned offset of a u32 field.
        unsafe { self.at(off).cast::<u32>().read_volatile() }
    }
    #[inline(always)]
    pub(crate) fn set_u32(self, off: u32, v: u32) {
        // SAFETY: as `u32`.
        unsafe { self.at(off).cast::<u32>().write_volatile(v) }
    }
    /// Takes the pending mark (atomically: stage 1 and other vCPUs set it).
    pub(crate) fn take_pending(self) -> bool {
        self.pending().swap(0, core::sync::atomic::Ordering::Relaxed) != 0
    }
    pub(crate) fn set_pending(self) {
        self.pending().store(1, core::sync::atomic::Ordering::Relaxed);
    }
    fn pending<'a>(self) -> &'a core::sync::atomic::AtomicU32 {
        // SAFETY: 1. the context is mapped and outlives every use here; 2. PENDING is 4-aligned; 3. all Rust
        // code uses it atomically.
        unsafe { core::sync::atomic::AtomicU32::from_ptr(self.at(ctx::PENDING).cast()) }
    }
    /// Fills a fresh context: everything zero, vector state INIT, the links to itself set.
    pub(crate) fn init(self, tag: u64) {
        // SAFETY: 1. the context is ctx::SIZE mapped bytes; 2. the caller owns it (fresh).
        unsafe { self.at(0).write_bytes(0, ctx::SIZE as usize) };
        self.set_u64(ctx::SELF, self.0 as u64);
        self.set_u64(ctx::TAG, tag);
        self.set_u64(ctx::SHADOW, shadow::DISTANCE);
        self.set_u64(ctx::RFLAGS, crate::task::RFLAGS_FIXED);
        self.init_vectors();
    }
    /// INIT state of x87, MXCSR and all vector registers, to be loaded at the next guest entry.
    pub(crate) fn init_vectors(self) {
        // SAFETY: 1. XMM and XSAVE lie inside the context; 2. the caller owns the context (I2).
        unsafe {
            self.at(ctx::XMM).write_bytes(0, 256);
            self.at(ctx::XSAVE).write_bytes(0, ctx::XSAVE_SIZE as usize);
        }
        self.set_u32(ctx::XSAVE + MXCSR_AT, MXCSR);
        // FCW of an image that XRSTOR does not read (XSTATE_BV = 0), but `xsave()` shows.
        self.set_u32(ctx::XSAVE, 0x37f);
        self.set_u32(ctx::XSTATE_SAVED, 1);
    }
}
