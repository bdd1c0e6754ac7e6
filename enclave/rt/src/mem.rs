//! The LibOS heap: dlmalloc over a region of ELRANGE that grows in large populated pieces; the memory budget.
//!
//! Invariants: the heap never shrinks; it never grows beyond the configured budget less what the LibOS has
//! charged for guest pages; allocation failure is an error of the caller (I6 of the LibOS: an errno).
use crate::arch::pause;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use dlmalloc::Dlmalloc;
use occlum_enclave_abi::Ocall;
use occlum_sfi_spec::elrange;

/// The heap grows by multiples of this.
const PIECE: u64 = 2 << 20;

static LIMIT: AtomicU64 = AtomicU64::new(0);
static USED: AtomicU64 = AtomicU64::new(0);
static CHARGED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn set_limit(bytes: u64) {
    LIMIT.store(bytes.min(elrange::HEAP_SIZE), Ordering::Relaxed);
}

/// Bytes of heap committed so far.
pub fn heap_used() -> u64 {
    USED.load(Ordering::Relaxed)
}
/// Most bytes the heap may take (before charges).
pub fn heap_limit() -> u64 {
    LIMIT.load(Ordering::Relaxed)
}
/// Bytes charged for guest pages.
pub fn charged() -> u64 {
    CHARGED.load(Ordering::Relaxed)
}
/// Charges guest pages to the budget. False (and no charge) if that exceeds it. BKL held.
pub fn charge(bytes: u64) -> bool {
    let total = charged().saturating_add(bytes);
    let fits = total.saturating_add(heap_used()) <= heap_limit();
    if fits {
        CHARGED.store(total, Ordering::Relaxed);
    }
    fits
}
/// Takes a charge back. BKL held.
pub fn uncharge(bytes: u64) {
    CHARGED.store(charged().saturating_sub(bytes), Ordering::Relaxed);
}

/// Makes pages of ELRANGE readable and writable; the host's result if it refuses (it may have done it all the
/// same).
pub(crate) fn commit(addr: u64, len: u64, populate: bool) -> Result<(), i64> {
    let args = [addr, len, 3, u64::from(populate)];
    match crate::ocall::call(Ocall::MemProtect, &args, &[], &mut []) {
        0 => Ok(()),
        refused => Err(refused),
    }
}

/// Where dlmalloc gets its memory.
struct Grow;
// SAFETY: 1. each piece is fresh, readable and writable, and given out once; 2. nothing is taken back.
unsafe impl dlmalloc::Allocator for Grow {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let none = (core::ptr::null_mut(), 0, 0);
        let used = heap_used();
        let Some(len) = (size as u64).checked_next_multiple_of(PIECE) else { return none };
        let fits = used.checked_add(len).is_some_and(|end| end.saturating_add(charged()) <= heap_limit());
        let addr = elrange::HEAP_BASE + used;
        if !fits {
            return none;
        }
        // Inside the budget the memory was promised, and not every caller could do without.
        if let Err(refused) = commit(addr, len, true) {
            crate::ocall::give_up(Ocall::MemProtect, refused);
        }
        USED.store(used + len, Ordering::Relaxed);
        (core::ptr::with_exposed_provenance_mut(addr as usize), len as usize, 0)
    }
    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        core::ptr::null_mut()
    }
    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }
    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }
    fn can_release_part(&self, _: u32) -> bool {
        false
    }
    fn allocates_zeros(&self) -> bool {
        true
    }
    fn page_size(&self) -> usize {
        4096
    }
}

struct Locked {
    busy: AtomicBool,
    heap: UnsafeCell<Dlmalloc<Grow>>,
}
// SAFETY: `heap` is used only while `busy` is set by the user (`with`).
unsafe impl Sync for Locked {}

static LOCKED: Locked =
    Locked { busy: AtomicBool::new(false), heap: UnsafeCell::new(Dlmalloc::new_with_allocator(Grow)) };

impl Locked {
    fn with<R>(&self, f: impl FnOnce(&mut Dlmalloc<Grow>) -> R) -> R {
        while self.busy.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            pause();
        }
        // SAFETY: `busy` is ours; kernel code is never preempted (I4) and `f` does not allocate.
        let r = f(unsafe { &mut *self.heap.get() });
        self.busy.store(false, Ordering::Release);
        r
    }
}

/// The enclave's `#[global_allocator]`.
pub struct Heap;
// SAFETY: dlmalloc fulfils the contract; the lock makes it usable from all vCPUs.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, l: Layout) -> *mut u8 {
        // SAFETY: the layout has a size (contract of `alloc`).
        LOCKED.with(|h| unsafe { h.malloc(l.size(), l.align()) })
    }
    unsafe fn alloc_zeroed(&self, l: Layout) -> *mut u8 {
        // SAFETY: as `alloc`.
        LOCKED.with(|h| unsafe { h.calloc(l.size(), l.align()) })
    }
    unsafe fn dealloc(&self, p: *mut u8, l: Layout) {
        // SAFETY: the pointer came from here with this layout.
        LOCKED.with(|h| unsafe { h.free(p, l.size(), l.align()) })
    }
    unsafe fn realloc(&self, p: *mut u8, l: Layout, size: usize) -> *mut u8 {
        // SAFETY: the pointer came from here with this layout; the new size is not zero.
        LOCKED.with(|h| unsafe { h.realloc(p, l.size(), l.align(), size) })
    }
}
