//! Advisory locks: POSIX (owner: the descriptor table), OFD and flock (owner: the open file).
//!
//! One list per file identity. flock locks do not meet the other two kinds, as in Linux.
use super::prelude::*;

/// Kind of owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// fcntl locks of either owner.
    Range,
    /// flock.
    Whole,
}
/// A lock held.
#[derive(Clone, Copy, Debug)]
pub struct Lock {
    /// flock or fcntl.
    pub family: Family,
    /// Table or open file.
    pub owner: u64,
    /// Shown by F_GETLK: pid, or -1 for OFD locks.
    pub pid: i32,
    /// First byte.
    pub start: u64,
    /// Byte after the last.
    pub end: u64,
    /// Exclusive?
    pub write: bool,
}
impl Lock {
    fn meets(&self, o: &Lock) -> bool {
        self.family == o.family && self.start < o.end && o.start < self.end
    }
    fn conflicts(&self, o: &Lock) -> bool {
        self.meets(o) && self.owner != o.owner && (self.write || o.write)
    }
}

static LOCKS: BklCell<BTreeMap<u64, Vec<Lock>>> = BklCell::new(BTreeMap::new());
static QUEUE: WaitQueue = WaitQueue::new();

/// A lock that `want` would have to wait for.
pub fn conflict(file: u64, want: &Lock) -> Option<Lock> {
    LOCKS.with(|l| l.get(&file).and_then(|v| v.iter().find(|h| h.conflicts(want)).copied()))
}
/// Takes out the owner's locks in the range; parts outside it stay.
fn carve(v: &mut Vec<Lock>, what: &Lock) -> Result<()> {
    let mut out = Vec::new();
    // One may be cut in two, and the caller may add one.
    out.try_reserve(v.len() + 2).map_err(|_| ENOMEM)?;
    for h in v.drain(..) {
        if h.owner != what.owner || !h.meets(what) {
            out.push(h);
            continue;
        }
        if h.start < what.start {
            out.push(Lock { end: what.start, ..h });
        }
        if h.end > what.end {
            out.push(Lock { start: what.end, ..h });
        }
    }
    *v = out;
    Ok(())
}
/// Unlocks the range of `what` for its owner.
pub fn unlock(file: u64, what: &Lock) -> Result<()> {
    LOCKS.with_mut(|l| {
        if let Some(v) = l.get_mut(&file) {
            carve(v, what)?;
            if v.is_empty() {
                l.remove(&file);
            }
        }
        Ok(())
    })?;
    QUEUE.wake_all();
    Ok(())
}
/// `None`: somebody else has a conflicting lock.
fn try_lock(file: u64, want: &Lock) -> Option<Result<()>> {
    if conflict(file, want).is_some() {
        return None;
    }
    Some(LOCKS.with_mut(|l| {
        let v = l.entry(file).or_default();
        carve(v, want)?;
        v.push(*want);
        Ok(())
    }))
}
/// What to do when somebody else has a conflicting lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// `EAGAIN`.
    No,
    /// Wait.
    Blind,
    /// Wait, unless that one waits for a lock of the caller: `EDEADLK`.
    Detect,
}

/// Owners that wait, and for what.
static WAITING: BklCell<Vec<(u64, Lock)>> = BklCell::new(Vec::new());

/// Would the owner of `want` wait for itself?
fn is_deadlock(file: u64, want: &Lock) -> bool {
    const LONGEST: usize = 64;
    let mut at = (file, *want);
    for _ in 0..LONGEST {
        let Some(holder) = conflict(at.0, &at.1).map(|l| l.owner) else { return false };
        if holder == want.owner {
            return true;
        }
        let next = WAITING.with(|w| w.iter().find(|(_, l)| l.owner == holder).copied());
        match next {
            Some(waits) => at = waits,
            None => return false,
        }
    }
    false
}

/// Locks; waits if asked to, else `EAGAIN`.
pub fn lock(file: u64, want: &Lock, wait: Wait) -> Result<()> {
    crate::mm::admit(256)?;
    if let Some(done) = try_lock(file, want) {
        // A downgrade may let others in.
        QUEUE.wake_all();
        return done;
    }
    match wait {
        Wait::No => return Err(EAGAIN),
        Wait::Detect if is_deadlock(file, want) => return Err(EDEADLK),
        _ => {}
    }
    if wait == Wait::Detect {
        WAITING.with_mut(|w| w.push((file, *want)));
    }
    let r = QUEUE.wait_until(None, || match try_lock(file, want) {
        None if wait == Wait::Detect && is_deadlock(file, want) => Some(Err(EDEADLK)),
        done => done,
    });
    if wait == Wait::Detect {
        WAITING.with_mut(|w| {
            if let Some(i) = w.iter().position(|(f, l)| *f == file && l.owner == want.owner) {
                w.swap_remove(i);
            }
        });
    }
    r?
}
fn drop_where(gone: impl Fn(u64, &Lock) -> bool) {
    let changed = LOCKS.with_mut(|l| {
        if l.is_empty() {
            return false;
        }
        let mut changed = false;
        l.retain(|file, v| {
            let n = v.len();
            v.retain(|h| !gone(*file, h));
            changed |= v.len() != n;
            !v.is_empty()
        });
        changed
    });
    if changed {
        QUEUE.wake_all();
    }
}
/// A descriptor of `file` was closed by the table `owner`.
pub fn release_posix(owner: u64, file: u64) {
    drop_where(|f, h| f == file && h.owner == owner);
}
/// A table is gone.
pub fn release_owner(owner: u64) {
    drop_where(|_, h| h.owner == owner);
}
/// An open file is gone.
pub fn release_file(owner: u64) {
    drop_where(|_, h| h.owner == owner);
}
