//! The LibOS heap: dlmalloc over a region of ELRANGE that grows in large populated pieces; the memory budget.
//!
//! Invariants: heap and charges together never exceed the configured budget; charges leave `RESERVE` of it for
//! the heap; `EMERGENCY`, in one piece, is left by charges and by all allocations that may fail (`fallible`), so that those
//! that cannot fail politely have room; who took of it is followed by nobody before it is there again (`heap_is_low`); the
//! heap shrinks only in `trim`; allocation failure is an error of the caller (I6 of the LibOS: an errno).
use alloc::collections::TryReserveError;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use dlmalloc::Dlmalloc;
use occlum_enclave_abi::Ocall;
use occlum_sfi_spec::elrange;

/// The heap grows by multiples of this.
const PIECE: u64 = 2 << 20;
/// Near the limit it grows by multiples of this.
const SMALL_PIECE: u64 = 64 << 10;
/// Memory that charges leave to the heap.
const RESERVE: u64 = 4 << 20;
/// The part of it that only allocations get that cannot fail, whatever pieces the heap is in.
const EMERGENCY: u64 = 2 << 20;
/// Pieces from this size on are asked for (`fallible`, `heap_has`), or `unasked` tells of them.
const LARGE: u64 = 64 << 10;
/// With less free heap than this, only what gives memory back may go on.
const LOW: u64 = 1 << 20;

static LIMIT: AtomicU64 = AtomicU64::new(0);
static USED: AtomicU64 = AtomicU64::new(0);
static CHARGED: AtomicU64 = AtomicU64::new(0);
/// The most that was ever charged.
static PEAK: AtomicU64 = AtomicU64::new(0);
/// Bytes in use inside the heap, with the allocator's own.
static LIVE: AtomicU64 = AtomicU64::new(0);
/// `EMERGENCY` was taken from.
static EMERGENCY_USED: AtomicBool = AtomicBool::new(false);
/// Set while `trim` runs.
static TRIMMING: AtomicBool = AtomicBool::new(false);
/// The vCPUs whose allocation may fail.
static MAY_FAIL: AtomicU64 = AtomicU64::new(0);
/// The largest piece that was last asked for.
static ASKED: AtomicU64 = AtomicU64::new(0);
/// The largest piece that was taken without.
static UNASKED: AtomicU64 = AtomicU64::new(0);
const _: () = assert!(occlum_sgx_arch::layout::MAX_VCPUS <= 64);

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
/// The most that was ever charged.
pub fn peak() -> u64 {
    PEAK.load(Ordering::Relaxed)
}
/// Bytes of live heap objects.
pub fn heap_live() -> u64 {
    LIVE.load(Ordering::Relaxed)
}
/// Bytes that the heap can still give out: free inside it, or not yet committed.
pub fn heap_room() -> u64 {
    heap_limit().saturating_sub(charged()).saturating_sub(heap_live())
}
/// Is the heap so full that allocations which cannot fail are in danger?
#[inline]
pub fn heap_is_low() -> bool {
    heap_room() < LOW || EMERGENCY_USED.load(Ordering::Relaxed)
}
fn fresh() -> u64 {
    heap_limit().saturating_sub(charged()).saturating_sub(heap_used())
}
/// Can the heap give out `room` bytes more, `piece` of them in one piece (more than what the emergency gives)?
pub fn heap_has(room: u64, piece: u64) -> bool {
    let has = fresh() >= room.max(piece) + EMERGENCY + PIECE || heap_room() >= room && has_piece(piece);
    ASKED.store(if has { piece } else { 0 }, Ordering::Relaxed);
    has
}
/// What is free inside may be in pieces: only trying tells.
fn has_piece(len: u64) -> bool {
    fallible(|| alloc::vec::Vec::<u8>::new().try_reserve_exact(len as usize)).is_ok()
}
/// Runs `take`, an allocation that may fail: `EMERGENCY` is not for it.
fn fallible<R>(take: impl FnOnce() -> R) -> R {
    let me = 1 << crate::vcpu::current();
    let before = MAY_FAIL.fetch_or(me, Ordering::Relaxed) & me;
    let r = take();
    if before == 0 {
        MAY_FAIL.fetch_and(!me, Ordering::Relaxed);
    }
    r
}
/// What may ask for room before it grows: the only way to grow without bound.
pub trait TryGrow {
    /// Room for `more` elements, or more.
    fn try_room(&mut self, more: usize) -> Result<(), TryReserveError>;
    /// Room for `more` elements, and no more.
    fn try_room_exact(&mut self, more: usize) -> Result<(), TryReserveError>;
}
macro_rules! try_grow {
    ($([$($t:ident)?] $kind:ty),*) => {$(
        impl<$($t)?> TryGrow for $kind {
            fn try_room(&mut self, more: usize) -> Result<(), TryReserveError> {
                fallible(|| self.try_reserve(more))
            }
            fn try_room_exact(&mut self, more: usize) -> Result<(), TryReserveError> {
                fallible(|| self.try_reserve_exact(more))
            }
        }
    )*};
}
try_grow!([T] alloc::vec::Vec<T>, [T] alloc::collections::VecDeque<T>, [] alloc::string::String);
fn may_fail() -> bool {
    MAY_FAIL.load(Ordering::Relaxed) >> crate::vcpu::current() & 1 != 0
}
/// A call begins: what others asked for is not asked for it.
pub fn nothing_is_asked() {
    ASKED.store(0, Ordering::Relaxed);
}
/// The largest piece that was taken although it could not fail and was not asked for.
pub fn unasked() -> u64 {
    UNASKED.load(Ordering::Relaxed)
}
/// The caller freed something: is the heap well again?
pub fn heap_recovered() -> bool {
    let well = heap_room() >= LOW && (fresh() >= EMERGENCY || has_piece(EMERGENCY));
    if well {
        EMERGENCY_USED.store(false, Ordering::Relaxed);
    }
    well
}
/// Bytes that could be charged.
pub fn charge_room() -> u64 {
    // What the heap has free already counts as reserve.
    let heap = (heap_used() + EMERGENCY).max(heap_live().saturating_add(RESERVE));
    heap_limit().saturating_sub(heap).saturating_sub(charged())
}
/// Charges guest pages to the budget. False (and no charge) if that exceeds it. BKL held.
pub fn charge(bytes: u64) -> bool {
    // The heap grows without the BKL, too.
    LOCKED.with(|_| {
        let fits = bytes <= charge_room();
        if fits {
            CHARGED.store(charged() + bytes, Ordering::Relaxed);
            PEAK.fetch_max(charged(), Ordering::Relaxed);
        }
        fits
    })
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

/// Takes the rights and the content of pages away.
fn release(addr: u64, len: u64) -> bool {
    crate::ocall::call(Ocall::MemProtect, &[addr, len, 0, 2], &[], &mut []) == 0
}

/// Gives the free end of the heap back to the budget.
pub fn trim() {
    TRIMMING.store(true, Ordering::Relaxed);
    // SAFETY: the heap is ours (`with`).
    LOCKED.with(|h| unsafe { h.trim(0) });
    TRIMMING.store(false, Ordering::Relaxed);
}

/// Where dlmalloc gets its memory.
struct Grow;
// SAFETY: 1. each piece is fresh, readable and writable, and given out once; 2. `free_part` takes back only the
// end of the heap, which dlmalloc says is free, and the next piece starts there.
unsafe impl dlmalloc::Allocator for Grow {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let none = (core::ptr::null_mut(), 0, 0);
        let used = heap_used();
        let sized = |piece: u64, keep: u64| {
            let len = (size as u64).checked_next_multiple_of(piece)?;
            let end = used.checked_add(len)?.checked_add(charged())?.checked_add(keep)?;
            (end <= heap_limit()).then_some(len)
        };
        let mut len = sized(PIECE, EMERGENCY).or_else(|| sized(SMALL_PIECE, EMERGENCY));
        if len.is_none() && !may_fail() {
            len = sized(SMALL_PIECE, 0);
            EMERGENCY_USED.store(true, Ordering::Relaxed);
        }
        let Some(len) = len else { return none };
        let addr = elrange::HEAP_BASE + used;
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
    fn free_part(&self, at: *mut u8, old: usize, new: usize) -> bool {
        let end = at.addr() as u64 + old as u64;
        let keep = (new as u64).next_multiple_of(4096);
        let gone = (old as u64).saturating_sub(keep);
        let is_top = end == elrange::HEAP_BASE + heap_used();
        // The content goes with the rights: pages come back zeroed.
        if keep != new as u64 || gone == 0 || !is_top || !release(end - gone, gone) {
            return false;
        }
        USED.store(heap_used() - gone, Ordering::Relaxed);
        true
    }
    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }
    fn can_release_part(&self, _: u32) -> bool {
        TRIMMING.load(Ordering::Relaxed)
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
        // Who has it may wait for the host to give more memory.
        let mut patience = crate::bkl::Patience::default();
        while self.busy.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            patience.wait();
        }
        // SAFETY: `busy` is ours; kernel code is never preempted (I4) and `f` does not allocate.
        let r = f(unsafe { &mut *self.heap.get() });
        self.busy.store(false, Ordering::Release);
        r
    }
}

/// What dlmalloc takes for an object: a word in front, multiples of 16 (0 for none).
fn chunk(size: usize) -> u64 {
    if size == 0 { 0 } else { ((size as u64 + 8 + 15) & !15).max(32) }
}

/// Notes how large a piece is taken that was not asked for.
#[cold]
fn note_large(size: usize) {
    if !may_fail() && size as u64 > ASKED.load(Ordering::Relaxed) {
        UNASKED.fetch_max(size as u64, Ordering::Relaxed);
    }
}

/// Counts a change that gave `p`, if it did. Under the heap's lock, so that no locked instruction is needed.
fn count(old: usize, new: usize, p: *mut u8) -> *mut u8 {
    if new as u64 > LARGE {
        note_large(new);
    }
    if !p.is_null() {
        LIVE.store((heap_live() + chunk(new)).saturating_sub(chunk(old)), Ordering::Relaxed);
    }
    p
}

/// The enclave's `#[global_allocator]`.
pub struct Heap;
// SAFETY: dlmalloc fulfils the contract; the lock makes it usable from all vCPUs.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, l: Layout) -> *mut u8 {
        // SAFETY: the layout has a size (contract of `alloc`).
        LOCKED.with(|h| count(0, l.size(), unsafe { h.malloc(l.size(), l.align()) }))
    }
    unsafe fn alloc_zeroed(&self, l: Layout) -> *mut u8 {
        // SAFETY: as `alloc`.
        LOCKED.with(|h| count(0, l.size(), unsafe { h.calloc(l.size(), l.align()) }))
    }
    unsafe fn dealloc(&self, p: *mut u8, l: Layout) {
        LOCKED.with(|h| {
            count(l.size(), 0, p);
            // SAFETY: the pointer came from here with this layout.
            unsafe { h.free(p, l.size(), l.align()) }
        })
    }
    unsafe fn realloc(&self, p: *mut u8, l: Layout, size: usize) -> *mut u8 {
        // SAFETY: the pointer came from here with this layout; the new size is not zero.
        LOCKED.with(|h| count(l.size(), size, unsafe { h.realloc(p, l.size(), l.align(), size) }))
    }
}
