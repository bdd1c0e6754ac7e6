//! Futexes that lend priorities: the word holds the owner's thread id; what waits is known here.
//!
//! Neighbours: `sched::lend` changes the owner's priority. Invariants: a lock is in `LOCKS` exactly while somebody waits for
//! it, or has inherited it and not yet said so in the word; its owner has the priority of the first of those that wait for any of its locks; who hands a lock over writes the
//! word, so no third thread can take it in between. Words are the program's and may hold anything: they decide who owns
//! what only together with `LOCKS`.
use super::{Key, Waiters, enqueue, f, is_waiting, key_of, remove};
use crate::errno::{Errno, Result};
use crate::process::{Restart, Task, current};
use crate::sched::{self, WaitQueue};
use crate::uaccess::{self, read_val, write_val};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_rt::bkl::BklCell;
use occlum_rt::mem::TryGrow;

/// Most steps along "waits for a lock of a thread that waits".
const CHAIN: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// The lock is the waiter's.
    Granted,
    /// The owner ended: the lock is the waiter's, which writes the word itself.
    Heir,
}

struct PiWaiter {
    task: Arc<Task>,
    queue: Arc<WaitQueue>,
    state: BklCell<State>,
}

struct Lock {
    owner: Arc<Task>,
    waiters: Vec<Arc<PiWaiter>>,
}

static LOCKS: BklCell<BTreeMap<Key, Lock>> = BklCell::new(BTreeMap::new());

/// Does somebody wait for a lock here?
pub(super) fn is_in_use(key: Key) -> bool {
    LOCKS.with(|l| l.contains_key(&key))
}

/// Exchanges the word if it is `old`; false if it was not.
fn exchange(at: u64, old: u32, new: u32) -> Result<bool> {
    Ok(uaccess::exchange(at, old, new)? == old)
}

/// The owner gets the priority of the first that waits for it, its own owner that of it, and so on.
fn pass_on(owner: &Arc<Task>) {
    let mut owner = owner.clone();
    for _ in 0..CHAIN {
        let best = LOCKS.with(|l| {
            let mine = l.values().filter(|k| Arc::ptr_eq(&k.owner, &owner));
            mine.flat_map(|k| &k.waiters).map(|w| w.task.sched.priority()).min()
        });
        sched::lend(&owner, best);
        match owner_above(&owner) {
            Some(next) => owner = next,
            None => return,
        }
    }
}

/// The owner of the lock that `t` waits for.
fn owner_above(t: &Arc<Task>) -> Option<Arc<Task>> {
    LOCKS.with(|l| {
        let waits = |k: &&Lock| k.waiters.iter().any(|w| Arc::ptr_eq(&w.task, t));
        l.values().find(waits).map(|k| k.owner.clone())
    })
}

fn is_deadlock(me: &Arc<Task>, owner: &Arc<Task>) -> bool {
    let mut at = Some(owner.clone());
    for _ in 0..CHAIN {
        match at {
            Some(t) if Arc::ptr_eq(&t, me) => return true,
            Some(t) => at = owner_above(&t),
            None => return false,
        }
    }
    true
}

/// The owner that the word and `LOCKS` agree on, or `None`: the lock was free and is the task's now.
fn take_or_owner(key: Key, at: u64, t: &Arc<Task>, set_waiters: bool) -> Result<Option<Arc<Task>>> {
    loop {
        let word: u32 = read_val(at)?;
        let tid = (word & f::FUTEX_TID_MASK) as i32;
        if tid == t.tid {
            return Err(Errno::EDEADLK);
        }
        if Waiters::first(key).is_some_and(|w| w.pi.is_none()) {
            return Err(Errno::EINVAL);
        }
        if let Some(owner) = LOCKS.with(|l| l.get(&key).map(|k| k.owner.clone())) {
            // The word of an heir may still name the dead.
            if tid != owner.tid && word & f::FUTEX_OWNER_DIED == 0 && alive(tid).is_some() {
                return Err(Errno::EINVAL);
            }
            return Ok(Some(owner));
        }
        if tid == 0 {
            let waits = if set_waiters { f::FUTEX_WAITERS } else { 0 };
            if exchange(at, word, word & f::FUTEX_OWNER_DIED | waits | t.tid as u32)? {
                return Ok(None);
            }
            continue;
        }
        let Some(owner) = alive(tid) else {
            if read_val::<u32>(at)? != word {
                continue;
            }
            return Err(Errno::ESRCH);
        };
        if exchange(at, word, word | f::FUTEX_WAITERS)? {
            return Ok(Some(owner));
        }
    }
}

/// The thread `tid`, if its locks have not been passed on.
fn alive(tid: i32) -> Option<Arc<Task>> {
    Task::by_tid(tid).filter(|t| t.process.tasks.with(|all| all.iter().any(|x| Arc::ptr_eq(x, t))))
}

fn add_waiter(key: Key, owner: &Arc<Task>, task: &Arc<Task>, queue: &Arc<WaitQueue>) -> Arc<PiWaiter> {
    let (task, queue) = (task.clone(), queue.clone());
    let w = Arc::new(PiWaiter { task, queue, state: BklCell::new(State::Waiting) });
    LOCKS.with_mut(|l| {
        let lock = l.entry(key).or_insert_with(|| Lock { owner: owner.clone(), waiters: Vec::new() });
        lock.waiters.push(w.clone());
    });
    pass_on(owner);
    w
}

/// Takes a waiter that gave up out again.
fn remove_waiter(key: Key, w: &Arc<PiWaiter>) {
    let owner = LOCKS.with_mut(|l| {
        let lock = l.get_mut(&key)?;
        lock.waiters.retain(|x| !Arc::ptr_eq(x, w));
        let owner = lock.owner.clone();
        if lock.waiters.is_empty() {
            l.remove(&key);
        }
        Some(owner)
    });
    if let Some(owner) = owner {
        pass_on(&owner);
    }
}

/// FUTEX_LOCK_PI, FUTEX_LOCK_PI2
pub(super) fn lock(at: u64, deadline: Option<u64>) -> Result<usize> {
    let key = key_of(at)?;
    let me = current();
    let Some(owner) = take_or_owner(key, at, &me, false)? else { return Ok(0) };
    if is_deadlock(&me, &owner) {
        return Err(Errno::EDEADLK);
    }
    let w = add_waiter(key, &owner, &me, &Arc::new(WaitQueue::new()));
    drop((owner, me));
    wait_for(key, at, &w, deadline)
}

fn wait_for(key: Key, at: u64, w: &Arc<PiWaiter>, deadline: Option<u64>) -> Result<usize> {
    let r = w.queue.wait_until(deadline, || (w.state.get() != State::Waiting).then_some(0));
    match (w.state.get(), r) {
        (State::Waiting, Err(e)) => {
            remove_waiter(key, w);
            if e == Errno::EINTR {
                current().restart.set(Some(Restart::Always));
            }
            Err(e)
        }
        (State::Heir, _) => inherit(key, at, &w.task),
        _ => Ok(0),
    }
}

/// The heir of a lock writes the word.
fn inherit(key: Key, at: u64, me: &Arc<Task>) -> Result<usize> {
    LOCKS.with_mut(|l| {
        if l.get(&key).is_some_and(|k| k.waiters.is_empty()) {
            l.remove(&key);
        }
    });
    write_val(at, me.tid as u32 | f::FUTEX_WAITERS | f::FUTEX_OWNER_DIED)?;
    Ok(0)
}

/// FUTEX_TRYLOCK_PI
pub(super) fn try_lock(at: u64) -> Result<usize> {
    let key = key_of(at)?;
    match take_or_owner(key, at, &current(), false)? {
        None => Ok(0),
        Some(_) => Err(Errno::EAGAIN),
    }
}

/// FUTEX_UNLOCK_PI
pub(super) fn unlock(at: u64) -> Result<usize> {
    let key = key_of(at)?;
    let me = current();
    loop {
        let word: u32 = read_val(at)?;
        if word & f::FUTEX_TID_MASK != me.tid as u32 {
            return Err(Errno::EPERM);
        }
        match LOCKS.with(|l| l.get(&key).map(|k| Arc::ptr_eq(&k.owner, &me))) {
            Some(true) => {
                hand_over(key, at)?;
                return Ok(0);
            }
            Some(false) => return Err(Errno::EINVAL),
            None if exchange(at, word, 0)? => return Ok(0),
            None => {}
        }
    }
}

fn first_waiter(key: Key) -> Option<Arc<PiWaiter>> {
    LOCKS.with(|l| l.get(&key)?.waiters.iter().min_by_key(|w| w.task.sched.priority()).cloned())
}

/// The lock is the first waiter's, which is woken.
fn make_owner(key: Key, first: &Arc<PiWaiter>, state: State) {
    let old = LOCKS.with_mut(|l| {
        let lock = l.get_mut(&key)?;
        lock.waiters.retain(|w| !Arc::ptr_eq(w, first));
        let old = core::mem::replace(&mut lock.owner, first.task.clone());
        if lock.waiters.is_empty() && state == State::Granted {
            l.remove(&key);
        }
        Some(old)
    });
    first.state.set(state);
    if let Some(old) = old {
        pass_on(&old);
    }
    pass_on(&first.task);
    first.queue.wake_all();
}

/// Gives the lock to its first waiter, writing the word in the current memory. On an error nothing has changed.
fn hand_over(key: Key, at: u64) -> Result<()> {
    let Some(first) = first_waiter(key) else { return Ok(()) };
    write_val(at, first.task.tid as u32 | f::FUTEX_WAITERS)?;
    make_owner(key, &first, State::Granted);
    Ok(())
}

/// A thread ends: its locks go to those that wait.
pub fn release_held(t: &Arc<Task>) {
    let held: Vec<Key> =
        LOCKS.with(|l| l.iter().filter(|(_, k)| Arc::ptr_eq(&k.owner, t)).map(|(k, _)| *k).collect());
    for key in held {
        match first_waiter(key) {
            Some(first) => make_owner(key, &first, State::Heir),
            None => drop(LOCKS.with_mut(|l| l.remove(&key))),
        }
    }
}

/// What a FUTEX_WAIT_REQUEUE_PI waits for a move to.
pub(super) struct Target {
    key: Key,
    task: Arc<Task>,
    moved: BklCell<Option<Arc<PiWaiter>>>,
}

/// FUTEX_WAIT_REQUEUE_PI(at, value, -, at2, bitset)
pub(super) fn wait_requeue(a: &[u64; 6], deadline: Option<u64>) -> Result<usize> {
    if a[0] == a[4] || a[5] as u32 == 0 {
        return Err(Errno::EINVAL);
    }
    let (key, target) = (key_of(a[0])?, key_of(a[4])?);
    if key == target {
        return Err(Errno::EINVAL);
    }
    if read_val::<u32>(a[0])? != a[2] as u32 {
        return Err(Errno::EAGAIN);
    }
    let pi = Target { key: target, task: current(), moved: BklCell::new(None) };
    let w = enqueue(key, a[5] as u32, Arc::new(WaitQueue::new()), Some(pi));
    let moved = || w.pi.as_ref().and_then(|p| p.moved.with(Clone::clone));
    let r = w.queue.wait_until(deadline, || match moved() {
        Some(p) => (p.state.get() != State::Waiting).then_some(()),
        None => w.woken.get().then_some(()),
    });
    if !w.woken.get() {
        remove(&w);
    }
    match moved() {
        Some(p) if p.state.get() == State::Granted => return Ok(0),
        Some(p) if p.state.get() == State::Heir => return inherit(target, a[4], &p.task),
        Some(p) => remove_waiter(target, &p),
        None => {}
    }
    // The word has to be looked at again, whatever ended the wait but time.
    Err(if r == Err(Errno::ETIMEDOUT) { Errno::ETIMEDOUT } else { Errno::EAGAIN })
}

/// FUTEX_CMP_REQUEUE_PI(at, 1, most, at2, value)
pub(super) fn requeue(a: &[u64; 6]) -> Result<usize> {
    let (from, to) = (key_of(a[0])?, key_of(a[4])?);
    if a[2] as u32 != 1 || (a[3] as i32) < 0 || from == to {
        return Err(Errno::EINVAL);
    }
    if read_val::<u32>(a[0])? != a[5] as u32 {
        return Err(Errno::EAGAIN);
    }
    // Each has a thread of its own: they are not too many for a list.
    let mut list = Vec::new();
    for w in Waiters::of(from) {
        if w.pi.as_ref().is_none_or(|p| p.key != to) {
            return Err(Errno::EINVAL);
        }
        list.try_room(1).map_err(|_| Errno::ENOMEM)?;
        list.push(w);
    }
    list.sort_by_key(|w| w.pi.as_ref().map_or(u8::MAX, |p| p.task.sched.priority()));
    let mut done = 0;
    for w in list.iter().take((a[3] as usize).saturating_add(1)) {
        let Some(pi) = w.pi.as_ref().filter(|_| is_waiting(w)) else { continue };
        let owner = take_or_owner(to, a[4], &pi.task, true)?;
        remove(w);
        w.woken.set(true);
        done += 1;
        let moved = match &owner {
            Some(o) => add_waiter(to, o, &pi.task, &w.queue),
            None => Arc::new(PiWaiter {
                task: pi.task.clone(),
                queue: w.queue.clone(),
                state: BklCell::new(State::Granted),
            }),
        };
        pi.moved.replace(Some(moved));
        if owner.is_none() {
            w.queue.wake_all();
        }
    }
    Ok(done)
}
