//! futex_waitv(2): waits for the first of several futexes.
use super::{Waiter, enqueue, key_of, remove};
use crate::errno::{Errno, Result};
use crate::sched::WaitQueue;
use crate::uaccess::read_val;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Most futexes of one call.
const MOST: u32 = 128;
const FUTEX2_SIZE_U32: u32 = 2;
const FUTEX2_PRIVATE: u32 = 128;

/// Address and expected value.
fn read_one(at: u64) -> Result<(u64, u32)> {
    let (value, address): (u64, u64) = (read_val(at)?, read_val(at + 8)?);
    let (flags, reserved): (u32, u32) = (read_val(at + 16)?, read_val(at + 20)?);
    if reserved != 0 || flags & !FUTEX2_PRIVATE != FUTEX2_SIZE_U32 {
        return Err(Errno::EINVAL);
    }
    Ok((address, u32::try_from(value).map_err(|_| Errno::EINVAL)?))
}

/// futex_waitv(waiters, n, flags, timeout, clock): the index of one that was woken.
pub fn sys_futex_waitv(a: &[u64; 6]) -> Result<usize> {
    let n = a[1] as u32;
    if a[2] as u32 != 0 || a[0] == 0 || !(1..=MOST).contains(&n) {
        return Err(Errno::EINVAL);
    }
    let realtime = match a[4] as u32 {
        _ if a[3] == 0 => false,
        0 => true,
        1 => false,
        _ => return Err(Errno::EINVAL),
    };
    let deadline = super::deadline(a[3], true, realtime)?;
    let list: Vec<(u64, u32)> =
        (0..u64::from(n)).map(|i| read_one(a[0].wrapping_add(24 * i))).collect::<Result<_>>()?;
    let keys: Vec<_> = list.iter().map(|(at, _)| key_of(*at)).collect::<Result<_>>()?;
    for (at, expected) in &list {
        if read_val::<u32>(*at)? != *expected {
            return Err(Errno::EAGAIN);
        }
    }
    let queue = Arc::new(WaitQueue::new());
    let all: Vec<Arc<Waiter>> =
        keys.into_iter().map(|key| enqueue(key, u32::MAX, queue.clone(), None)).collect();
    let r = queue.wait_until(deadline, || all.iter().position(|w| w.woken.get()));
    let late = all.iter().position(|w| w.woken.get());
    all.iter().filter(|w| !w.woken.get()).for_each(remove);
    // A wake-up that came together with the end of the wait is not lost.
    r.or_else(|e| late.ok_or(e))
}
