//! The big kernel lock and the cells it protects.
//!
//! Invariant (I2): `OWNER` is 0 or the vCPU block of the one holder. Kernel code is never preempted, so a
//! holder makes progress unless the host deschedules it; waiters spin a little, then nap at the host. Who has waited for
//! more than some calls is `FIRST`, for whom the others leave the lock: they are short, so that one vCPU could take it again
//! and again before another one looks. Who naps is not, unless it has waited for very long.
use crate::arch::pause;
use core::cell::{Ref, RefCell, RefMut};
use core::sync::atomic::{AtomicU64, Ordering};
use occlum_sfi_spec::ctx;

static OWNER: AtomicU64 = AtomicU64::new(0);
/// The vCPU block of a waiter who goes first, or 0.
static FIRST: AtomicU64 = AtomicU64::new(0);

/// Looks at the lock this often before the CPU is given up.
const SPINS: u32 = 2000;
/// Looks after which a waiter goes first: as long as some short calls. Whoever gives the lock up again and again, as calls
/// that move much do, would wait for chance each time.
const SOON: u32 = 100;
/// For so long: the host has descheduled the holder, and may run it here only if this thread sleeps.
const NAP_NS: u64 = 20_000;
/// Naps after which a waiter stays first. Then it mostly spins: the others wait for it.
const LONG: u32 = 8;
const SPINS_FIRST: u32 = 10 * SPINS;

/// How one waits for a lock.
#[derive(Default)]
pub(crate) struct Patience {
    spins: u32,
    naps: u32,
}

impl Patience {
    /// Lets some time pass: more when it was asked for often.
    pub(crate) fn wait(&mut self) {
        self.spin(SPINS);
    }
    /// The same, with so many looks before the CPU is given up.
    fn spin(&mut self, most: u32) {
        pause();
        self.spins += 1;
        if self.spins >= most {
            (self.spins, self.naps) = (0, self.naps + 1);
            crate::ocall::nap(NAP_NS);
        }
    }
}

fn me() -> u64 {
    crate::arch::fs_u64::<{ ctx::VCPU }>()
}

/// Is the lock free, and no other vCPU to have it first?
fn may_take(me: u64) -> bool {
    let first = FIRST.load(Ordering::Relaxed);
    (first == 0 || first == me) && OWNER.load(Ordering::Relaxed) == 0
}

/// Takes the lock.
pub fn lock() {
    let me = me();
    debug_assert!(OWNER.load(Ordering::Relaxed) != me, "BKL taken twice");
    let mut patience = Patience::default();
    while !may_take(me) || OWNER.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed).is_err() {
        let long = patience.naps >= LONG;
        if patience.spins == SOON || long {
            // Only one waits first; the next one after it.
            let _ = FIRST.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed);
        }
        if patience.spins == SPINS - 1 && !long {
            let _ = FIRST.compare_exchange(me, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        patience.spin(if long { SPINS_FIRST } else { SPINS });
    }
    if FIRST.load(Ordering::Relaxed) == me {
        FIRST.store(0, Ordering::Relaxed);
    }
}

/// Is there a vCPU that has waited for long?
pub fn is_wanted() -> bool {
    FIRST.load(Ordering::Relaxed) != 0
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
