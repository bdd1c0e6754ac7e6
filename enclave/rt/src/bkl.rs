//! The big kernel lock and the cells it protects.
//!
//! Invariant (I2): `OWNER` is 0 or the vCPU block of the one holder. Kernel code is never preempted, so a
//! holder makes progress unless the host deschedules it; waiters spin a little, then nap at the host.
use crate::arch::pause;
use core::cell::{Ref, RefCell, RefMut};
use core::sync::atomic::{AtomicU64, Ordering};
use occlum_sfi_spec::ctx;

static OWNER: AtomicU64 = AtomicU64::new(0);

/// Looks at the lock this often before the CPU is given up.
const SPINS: u32 = 2000;

fn me() -> u64 {
    crate::arch::fs_u64::<{ ctx::VCPU }>()
}

/// Takes the lock.
pub fn lock() {
    let me = me();
    debug_assert!(OWNER.load(Ordering::Relaxed) != me, "BKL taken twice");
    let mut spins = 0;
    while OWNER.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed).is_err() {
        while OWNER.load(Ordering::Relaxed) != 0 {
            pause();
            spins += 1;
            if spins >= SPINS {
                spins = 0;
                crate::ocall::nap(0);
            }
        }
    }
}

/// Gives the lock up.
pub fn unlock() {
    debug_assert!(held(), "BKL given up by a vCPU that does not hold it");
    OWNER.store(0, Ordering::Release);
}

/// Does this vCPU hold the lock?
#[inline]
pub fn held() -> bool {
    OWNER.load(Ordering::Relaxed) == me()
}

/// LibOS state: usable only while the BKL is held; borrow rules as of `RefCell`.
#[derive(Default)]
pub struct BklCell<T: ?Sized>(RefCell<T>);

// SAFETY: 1. every access asserts that the BKL is held (`cell`), so accesses of different vCPUs exclude each
// other and are ordered by the lock's acquire and release; 2. nothing inside the enclave is bound to a
// thread, so values may move.
unsafe impl<T: ?Sized> Sync for BklCell<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized> Send for BklCell<T> {}

impl<T> BklCell<T> {
    /// A cell with this value.
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }
    /// Puts a value in, gives the old one out.
    pub fn replace(&self, value: T) -> T {
        self.cell().replace(value)
    }
    /// Leaves the default value.
    pub fn take(&self) -> T
    where
        T: Default,
    {
        self.cell().take()
    }
    /// A copy of the value.
    pub fn get(&self) -> T
    where
        T: Copy,
    {
        *self.cell().borrow()
    }
    /// Replaces the value.
    pub fn set(&self, value: T) {
        drop(self.cell().replace(value));
    }
    /// The value, of a cell that is not shared any more.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> BklCell<T> {
    #[inline]
    #[track_caller]
    fn cell(&self) -> &RefCell<T> {
        assert!(held(), "LibOS state used without the BKL");
        &self.0
    }
    /// A shared borrow.
    #[track_caller]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.cell().borrow()
    }
    /// The exclusive borrow.
    #[track_caller]
    pub fn borrow_mut(&self) -> RefMut<'_, T> {
        self.cell().borrow_mut()
    }
    /// Runs `f` with a shared borrow.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.cell().borrow())
    }
    /// Runs `f` with the exclusive borrow.
    #[track_caller]
    pub fn with_mut<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.cell().borrow_mut())
    }
}
