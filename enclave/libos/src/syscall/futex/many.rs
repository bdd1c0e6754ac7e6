//! The calls that say what a futex is: futex_waitv(2), which waits for the first of several, futex_wait, futex_wake and
//! futex_requeue.
use super::{Waiter, enqueue, key_of, remove};
use crate::errno::{Errno, Result};
use crate::sched::WaitQueue;
use crate::uaccess::read_val;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Most futexes of one call.
const MOST: u32 = 128;
/// What a waiter takes of the heap.
const COST: u64 = 256;
const FUTEX2_SIZE_U32: u32 = 2;
const FUTEX2_PRIVATE: u32 = 128;

/// A value or a mask for a futex of these flags: those of four bytes, the only ones there are.
fn word(flags: u32, value: u64) -> Result<u32> {
    if flags & !FUTEX2_PRIVATE != FUTEX2_SIZE_U32 {
        return Err(Errno::EINVAL);
    }
    u32::try_from(value).map_err(|_| Errno::EINVAL)
}
/// Address and expected value.
fn read_one(at: u64) -> Result<(u64, u32)> {
    let (value, address): (u64, u64) = (read_val(at)?, read_val(at + 8)?);
    let (flags, reserved): (u32, u32) = (read_val(at + 16)?, read_val(at + 20)?);
    if reserved != 0 {
        return Err(Errno::EINVAL);
    }
    Ok((address, word(flags, value)?))
}
/// Until when, by CLOCK_REALTIME (0) or CLOCK_MONOTONIC (1).
fn until(timeout: u64, clock: u64) -> Result<Option<u64>> {
    match clock as u32 {
        _ if timeout == 0 => Ok(None),
        clock @ 0..=1 => super::deadline(timeout, true, clock == 0),
        _ => Err(Errno::EINVAL),
    }
}

/// futex_wake(address, mask, most, flags): how many were woken.
pub fn sys_futex_wake(a: &[u64; 6]) -> Result<usize> {
    let mask = word(a[3] as u32, a[1])?;
    let most = a[2] as i32;
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    key_of(a[0])?;
    // Unlike futex(2)'s, none is none.
    if most == 0 { Ok(0) } else { super::wake(a[0], most as usize, mask) }
}

/// futex_wait(address, value, mask, flags, timeout, clock)
pub fn sys_futex_wait(a: &[u64; 6]) -> Result<usize> {
    let flags = a[3] as u32;
    let (expected, mask) = (word(flags, a[1])?, word(flags, a[2])?);
    super::wait_once(a[0], expected, until(a[4], a[5])?, mask)
}

/// futex_requeue(two waiters, flags, to wake, to move): how many it touched.
pub fn sys_futex_requeue(a: &[u64; 6]) -> Result<usize> {
    if a[1] as u32 != 0 || a[0] == 0 {
        return Err(Errno::EINVAL);
    }
    let ((from, expected), (to, _)) = (read_one(a[0])?, read_one(a[0].wrapping_add(24))?);
    super::requeue(&[from, 0, a[2], a[3], to, 0], Some(expected))
}

/// futex_waitv(waiters, n, flags, timeout, clock): the index of one that was woken.
pub fn sys_futex_waitv(a: &[u64; 6]) -> Result<usize> {
    let n = a[1] as u32;
    if a[2] as u32 != 0 || a[0] == 0 || !(1..=MOST).contains(&n) {
        return Err(Errno::EINVAL);
    }
    let deadline = until(a[3], a[4])?;
    let list: Vec<(u64, u32)> =
        (0..u64::from(n)).map(|i| read_one(a[0].wrapping_add(24 * i))).collect::<Result<_>>()?;
    let keys: Vec<_> = list.iter().map(|(at, _)| key_of(*at)).collect::<Result<_>>()?;
    for (at, expected) in &list {
        if read_val::<u32>(*at)? != *expected {
            return Err(Errno::EAGAIN);
        }
    }
    crate::mm::admit(u64::from(n) * COST)?;
    let queue = Arc::new(WaitQueue::new());
    let all: Vec<Arc<Waiter>> =
        keys.into_iter().map(|key| enqueue(key, u32::MAX, queue.clone(), None)).collect();
    let me = crate::process::current();
    me.futexes.set(all.len());
    let r = queue.wait_until(deadline, || all.iter().position(|w| w.woken.get()));
    let late = all.iter().position(|w| w.woken.get());
    all.iter().filter(|w| !w.woken.get()).for_each(|w| remove(w));
    me.futexes.set(0);
    // A wake-up that came together with the end of the wait is not lost.
    r.or_else(|e| late.ok_or(e))
}
