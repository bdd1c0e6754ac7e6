//! futex(2): wait, wake, requeue, bitsets; robust lists at exit.
//!
//! Parts: `pi` (locks that lend priorities), `many` (futex_waitv and the calls beside it). Invariants: a key is that of one
//! word for ever, for waiters may wait where their word is no more; nothing goes through all waiters of a word at once, for
//! there may be very many.
pub mod many;
mod pi;

pub use pi::release_held;

use crate::errno::{Errno, Result};
use crate::mm::Backing;
use crate::process::{Restart, Task, current, current_mm};
use crate::sched::{Breath, WaitQueue};
use crate::uaccess::{self, read_val, write_val};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use occlum_linux_abi::futex as f;
use occlum_rt::bkl::BklCell;

/// A word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// By slot and offset: who waits has the slot.
    Own(u32, u64),
    /// By shared object and offset in it.
    Shared(u64, u64),
}
/// A place among the waiters: by word, then by who came first.
type Place = (Key, u64);

struct Waiter {
    queue: Arc<WaitQueue>,
    bitset: u32,
    place: BklCell<Place>,
    woken: BklCell<bool>,
    /// FUTEX_WAIT_REQUEUE_PI: what it waits for a move to.
    pi: Option<pi::Target>,
}

static WAITERS: BklCell<BTreeMap<Place, Arc<Waiter>>> = BklCell::new(BTreeMap::new());
static NUMBER: BklCell<u64> = BklCell::new(0);

fn key_of(at: u64) -> Result<Key> {
    if !at.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if at >> 32 != 0 {
        return Err(Errno::EFAULT);
    }
    let mm = current_mm();
    let (start, vma) = mm.find(at).ok_or(Errno::EFAULT)?;
    match &vma.backing {
        Backing::Shared(object, base, _) => Ok(Key::Shared(object.id(), base + (at - start))),
        _ => Ok(Key::Own(mm.slot().index(), at)),
    }
}

/// futex(uaddr, op, val, timeout | val2, uaddr2, val3)
pub fn sys_futex(a: &[u64; 6]) -> Result<usize> {
    let op = a[1] as u32;
    let realtime = op & f::FUTEX_CLOCK_REALTIME != 0;
    let command = op & f::FUTEX_CMD_MASK;
    let takes_clock = [f::FUTEX_WAIT_BITSET, f::FUTEX_WAIT_REQUEUE_PI, f::FUTEX_LOCK_PI2].contains(&command);
    if realtime && !takes_clock {
        return Err(Errno::ENOSYS);
    }
    match command {
        f::FUTEX_WAIT => wait(a[0], a[2] as u32, deadline(a[3], false, false)?, u32::MAX),
        f::FUTEX_WAIT_BITSET => wait(a[0], a[2] as u32, deadline(a[3], true, realtime)?, a[5] as u32),
        f::FUTEX_WAKE => wake(a[0], a[2] as i32 as usize, u32::MAX),
        f::FUTEX_WAKE_BITSET => wake(a[0], a[2] as i32 as usize, a[5] as u32),
        f::FUTEX_REQUEUE => requeue(a, None),
        f::FUTEX_CMP_REQUEUE => requeue(a, Some(a[5] as u32)),
        f::FUTEX_WAKE_OP => wake_op(a),
        f::FUTEX_LOCK_PI => pi::lock(a[0], deadline(a[3], true, true)?),
        f::FUTEX_LOCK_PI2 => pi::lock(a[0], deadline(a[3], true, realtime)?),
        f::FUTEX_TRYLOCK_PI => pi::try_lock(a[0]),
        f::FUTEX_UNLOCK_PI => pi::unlock(a[0]),
        f::FUTEX_WAIT_REQUEUE_PI => pi::wait_requeue(a, deadline(a[3], true, realtime)?),
        f::FUTEX_CMP_REQUEUE_PI => pi::requeue(a),
        _ => Err(Errno::ENOSYS),
    }
}

fn deadline(at: u64, absolute: bool, realtime: bool) -> Result<Option<u64>> {
    if at == 0 {
        return Ok(None);
    }
    let ns = super::time::read_timespec(at)?;
    let now = crate::time::monotonic_ns();
    Ok(Some(match (absolute, realtime) {
        (false, _) => now.saturating_add(ns),
        (true, false) => ns,
        (true, true) => now.saturating_add(ns.saturating_sub(crate::time::realtime_ns())),
    }))
}

fn wait(at: u64, expected: u32, deadline: Option<u64>, bitset: u32) -> Result<usize> {
    let r = wait_once(at, expected, deadline, bitset);
    // With a timeout it isn't begun again behind a handler (ERESTART_RESTARTBLOCK in Linux).
    if r == Err(Errno::EINTR) && deadline.is_some() {
        current().restart.set(Some(Restart::Until(deadline)));
    }
    r
}

fn wait_once(at: u64, expected: u32, deadline: Option<u64>, bitset: u32) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let key = key_of(at)?;
    if read_val::<u32>(at)? != expected {
        return Err(Errno::EAGAIN);
    }
    let w = enqueue(key, bitset, Arc::new(WaitQueue::new()), None);
    let r = w.queue.wait_until(deadline, || w.woken.get().then_some(0));
    if !w.woken.get() {
        remove(&w);
    }
    r
}

fn enqueue(key: Key, bitset: u32, queue: Arc<WaitQueue>, pi: Option<pi::Target>) -> Arc<Waiter> {
    let (place, woken) = (BklCell::new((key, 0)), BklCell::new(false));
    let w = Arc::new(Waiter { queue, bitset, place, woken, pi });
    insert(key, &w);
    w
}

/// The waiter is the last for this word.
fn insert(key: Key, w: &Arc<Waiter>) {
    let number = NUMBER.with_mut(|n| {
        *n += 1;
        *n
    });
    w.place.set((key, number));
    WAITERS.with_mut(|m| m.insert((key, number), w.clone()));
}

fn is_waiting(w: &Waiter) -> bool {
    WAITERS.with(|m| m.contains_key(&w.place.get()))
}

fn remove(w: &Waiter) {
    WAITERS.with_mut(|m| m.remove(&w.place.get()));
}

/// Those that wait for the word now, in order. Each is looked for when it is its turn, and others get on meanwhile: it may be
/// one that has just been woken or moved, or gone.
struct Waiters {
    from: Place,
    to: Place,
    breath: Breath,
}
impl Waiters {
    fn of(key: Key) -> Self {
        Self { from: (key, 0), to: (key, NUMBER.get()), breath: Breath::begin() }
    }
    /// The first.
    fn first(key: Key) -> Option<Arc<Waiter>> {
        WAITERS.with(|m| m.range((key, 0)..=(key, u64::MAX)).next().map(|(_, w)| w.clone()))
    }
}
impl Iterator for Waiters {
    type Item = Arc<Waiter>;
    fn next(&mut self) -> Option<Arc<Waiter>> {
        self.breath.take();
        if self.from > self.to {
            return None;
        }
        let found = WAITERS.with(|m| m.range(self.from..=self.to).next().map(|(at, w)| (*at, w.clone())));
        let ((key, number), w) = found?;
        self.from = (key, number + 1);
        Some(w)
    }
}

/// Wakes up to `n` waiters whose bitset meets `bitset`.
pub fn wake(at: u64, n: usize, bitset: u32) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let key = key_of(at)?;
    if pi::is_in_use(key) {
        return Err(Errno::EINVAL);
    }
    wake_key(key, n.max(1), bitset)
}

fn wake_key(key: Key, n: usize, bitset: u32) -> Result<usize> {
    let mut woken = 0;
    for w in Waiters::of(key) {
        if w.pi.is_some() {
            return Err(Errno::EINVAL);
        }
        if w.bitset & bitset == 0 {
            continue;
        }
        remove(&w);
        w.woken.set(true);
        w.queue.wake_all();
        woken += 1;
        if woken >= n {
            break;
        }
    }
    Ok(woken)
}

fn requeue(a: &[u64; 6], expected: Option<u32>) -> Result<usize> {
    let (from, to) = (key_of(a[0])?, key_of(a[4])?);
    if (a[2] as i32) < 0 || (a[3] as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    if let Some(v) = expected
        && read_val::<u32>(a[0])? != v
    {
        return Err(Errno::EAGAIN);
    }
    move_waiters(from, to, a[2] as usize, a[3] as usize)
}

/// Wakes up to `wake` waiters and moves up to `most` others; returns how many it touched.
fn move_waiters(from: Key, to: Key, wake: usize, most: usize) -> Result<usize> {
    let mut done = 0;
    for w in Waiters::of(from) {
        if done >= wake + most {
            break;
        }
        if w.pi.is_some() {
            return Err(Errno::EINVAL);
        }
        remove(&w);
        if done < wake {
            w.woken.set(true);
            w.queue.wake_all();
        } else {
            insert(to, &w);
        }
        done += 1;
    }
    Ok(done)
}

fn wake_op(a: &[u64; 6]) -> Result<usize> {
    let code = a[5] as u32;
    let sext = |v: u32| ((v << 20) as i32 >> 20) as u32;
    let (op, cmp) = (code >> 28 & 7, code >> 24 & 15);
    let (mut oparg, cmparg) = (sext(code >> 12 & 0xfff), sext(code & 0xfff));
    if code >> 31 != 0 {
        oparg = 1u32.wrapping_shl(oparg);
    }
    let (first, second) = (key_of(a[0])?, key_of(a[4])?);
    let old = loop {
        let old: u32 = read_val(a[4])?;
        let new = match op {
            0 => oparg,
            1 => old.wrapping_add(oparg),
            2 => old | oparg,
            3 => old & !oparg,
            4 => old ^ oparg,
            _ => return Err(Errno::ENOSYS),
        };
        if uaccess::exchange(a[4], old, new)? == old {
            break old;
        }
    };
    let hit = match cmp {
        0 => old == cmparg,
        1 => old != cmparg,
        2 => (old as i32) < cmparg as i32,
        3 => (old as i32) <= cmparg as i32,
        4 => (old as i32) > cmparg as i32,
        5 => (old as i32) >= cmparg as i32,
        _ => return Err(Errno::ENOSYS),
    };
    if [first, second].iter().any(|k| pi::is_in_use(*k)) {
        return Err(Errno::EINVAL);
    }
    let mut n = wake_key(first, (a[2] as u32).max(1) as usize, u32::MAX)?;
    if hit {
        n += wake_key(second, (a[3] as u32).max(1) as usize, u32::MAX)?;
    }
    Ok(n)
}

/// set_robust_list(head, len)
pub fn sys_set_robust_list(a: &[u64; 6]) -> Result<usize> {
    if a[1] != 24 {
        return Err(Errno::EINVAL);
    }
    current().robust_list.set(a[0]);
    Ok(0)
}

/// get_robust_list(pid, head_ptr, len_ptr)
pub fn sys_get_robust_list(a: &[u64; 6]) -> Result<usize> {
    let t = if a[0] as i32 == 0 { current() } else { Task::by_tid(a[0] as i32).ok_or(Errno::ESRCH)? };
    if !t.may_be_seen(crate::process::Ids::Real) {
        return Err(Errno::EPERM);
    }
    write_val(a[2], 24u64)?;
    write_val(a[1], t.robust_list.get())?;
    Ok(0)
}

/// Marks the robust futexes of a dying thread; every read is checked, the walk is bounded.
pub fn exit_robust(t: &Arc<Task>) {
    let head = t.robust_list.get();
    if head == 0 || t.process.mm().is_none() {
        return;
    }
    let _ = walk_robust(t, head);
}

fn walk_robust(t: &Arc<Task>, head: u64) -> Result<()> {
    let offset: i64 = read_val(head + 8)?;
    let pending: u64 = read_val(head + 16)?;
    let mut at: u64 = read_val(head)?;
    for _ in 0..2048 {
        if at == head || at == 0 {
            break;
        }
        let next: u64 = read_val(at & !1)?;
        if at & !1 != pending & !1 {
            mark_dead(t, at, offset)?;
        }
        at = next;
    }
    if pending != 0 {
        mark_dead(t, pending, offset)?;
    }
    Ok(())
}

fn mark_dead(t: &Arc<Task>, entry: u64, offset: i64) -> Result<()> {
    let word = (entry & !1).wrapping_add_signed(offset);
    let v = loop {
        let v: u32 = read_val(word)?;
        if v & f::FUTEX_TID_MASK != t.tid as u32 {
            return Ok(());
        }
        if uaccess::exchange(word, v, v & f::FUTEX_WAITERS | f::FUTEX_OWNER_DIED)? == v {
            break v;
        }
    };
    // Bit 0 says that it is a lock of `pi`, which hands itself over.
    if v & f::FUTEX_WAITERS != 0 && entry & 1 == 0 {
        wake(word, 1, u32::MAX)?;
    }
    Ok(())
}
