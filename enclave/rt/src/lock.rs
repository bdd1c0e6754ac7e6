//! A lock of its own for what is worked on for long, so that the BKL can be given up meanwhile.
//!
//! Order: who holds the BKL may take such a lock; who holds one but not the BKL must not take the BKL before the lock is
//! given up (`Guard::unlocked` does it in that order). So whoever waits for one with the BKL held waits for work that goes on.
use crate::bkl;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// A value, and who may use it now.
pub struct Lock<T> {
    busy: AtomicBool,
    value: UnsafeCell<T>,
}
// SAFETY: 1. `value` is reached only through a `Guard`, of which there is one at a time (`busy`, acquired and released);
// 2. the value may move between vCPUs.
unsafe impl<T: Send> Sync for Lock<T> {}

/// The right to use the value, like `&mut T`: vCPUs may share a guard only where they may share the value (`T: Sync`).
pub struct Guard<'a, T>(&'a Lock<T>, PhantomData<&'a mut T>);

impl<T> Lock<T> {
    /// A free lock.
    pub const fn new(value: T) -> Self {
        Self { busy: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }
    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let free = self.busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        // Not made unless the lock is ours: a guard gives the lock up when it goes.
        free.is_ok().then(|| Guard(self, PhantomData))
    }
    /// Takes the lock. The vCPU waits: only for callers that cannot sleep.
    pub fn lock(&self) -> Guard<'_, T> {
        let mut patience = bkl::Patience::default();
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            patience.wait();
        }
    }
    /// Does somebody have it?
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }
}

impl<T> Guard<'_, T> {
    /// Runs `f` without the BKL, which the caller holds, and gives the lock up. As at any point that can block, the caller
    /// may hold no borrow of shared state, and what it knew of it counts for nothing after. `f` uses nothing that the BKL
    /// protects.
    pub fn unlocked<R>(mut self, f: impl FnOnce(&mut T) -> R) -> R {
        bkl::unlock();
        let result = f(&mut self);
        drop(self);
        bkl::lock();
        result
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: 1. the lock is this guard's.
        unsafe { &*self.0.value.get() }
    }
}
impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: 1. the lock is this guard's, which is borrowed exclusively.
        unsafe { &mut *self.0.value.get() }
    }
}
impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says whether a type is `Sync`: the method of the type itself goes before that of the trait.
    struct Ask<T>(PhantomData<T>);
    trait Otherwise {
        fn is_sync(&self) -> bool {
            false
        }
    }
    impl<T> Otherwise for Ask<T> {}
    impl<T: Sync> Ask<T> {
        fn is_sync(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_guard_is_shared_only_where_its_value_may_be() {
        assert!(Ask::<Lock<core::cell::Cell<u8>>>(PhantomData).is_sync());
        assert!(Ask::<Guard<'_, u8>>(PhantomData).is_sync());
        assert!(!Ask::<Guard<'_, core::cell::Cell<u8>>>(PhantomData).is_sync());
    }

    #[test]
    fn one_at_a_time() {
        let lock = Lock::new(1);
        let mut first = lock.try_lock().expect("a free lock");
        for _ in 0..3 {
            assert!(lock.try_lock().is_none());
            assert!(lock.is_busy());
        }
        *first = 2;
        drop(first);
        assert_eq!(lock.try_lock().as_deref(), Some(&2));
        assert!(!lock.is_busy());
    }
}
