//! Advisory locks: POSIX (owner: the descriptor table), OFD and flock (owner: the open file).
//!
//! By file identity and owner. flock locks do not meet the other two kinds, as in Linux. Invariants: `OWNERS` says of each
//! owner on which files it has locks, so that what ends looks at nothing else; a file is listed while it has locks or
//! somebody waits for one.
use super::prelude::*;
use crate::sched::later;

/// About what a lock takes of the heap.
const COST: u64 = 256;
/// Locks that go at once.
const PIECE: usize = 256;

/// Kind of owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
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

/// The locks that one owner has of one kind on a file. They do not overlap.
#[derive(Default)]
struct Held {
    /// Which of the file's owners came first.
    since: u64,
    /// By first byte.
    ranges: BTreeMap<u64, Lock>,
}
impl Held {
    /// The first one that meets `what`.
    fn first_met(&self, what: &Lock) -> Option<Lock> {
        let before = self.ranges.range(..=what.start).next_back().filter(|(_, h)| h.meets(what));
        before
            .or_else(|| self.ranges.range(what.start..).next().filter(|(_, h)| h.meets(what)))
            .map(|(_, h)| *h)
    }
    /// Takes out what lies in the range; parts outside it stay.
    fn carve(&mut self, what: &Lock) {
        while let Some(h) = self.first_met(what) {
            self.ranges.remove(&h.start);
            if h.start < what.start {
                self.ranges.insert(h.start, Lock { end: what.start, ..h });
            }
            if h.end > what.end {
                self.ranges.insert(what.end, Lock { start: what.end, ..h });
            }
        }
    }
}

/// The locks on a file, and who waits for one.
#[derive(Default)]
struct OfFile {
    owners: BTreeMap<(u64, Family), Held>,
    next: u64,
    queue: Arc<WaitQueue>,
    waiting: usize,
}
impl OfFile {
    fn conflict(&self, want: &Lock) -> Option<Lock> {
        let others = self.owners.iter().filter(|((owner, _), _)| *owner != want.owner);
        let met = others.filter_map(|(_, held)| {
            let from = held.first_met(want)?.start;
            let mut met = held.ranges.range(from..want.end);
            met.find(|(_, h)| h.conflicts(want)).map(|(_, h)| (held.since, *h))
        });
        met.min_by_key(|(since, _)| *since).map(|(_, h)| h)
    }
}

/// By identity of the file. One without locks has somebody who waits.
static LOCKS: BklCell<BTreeMap<u64, OfFile>> = BklCell::new(BTreeMap::new());
/// On which files each owner has locks.
static OWNERS: BklCell<BTreeSet<(u64, u64)>> = BklCell::new(BTreeSet::new());

/// Changes what an owner has on a file, and what follows from that.
fn change(file: u64, owner: (u64, Family), what: impl FnOnce(&mut Held)) {
    LOCKS.with_mut(|l| {
        let f = l.entry(file).or_default();
        let since = f.next;
        let held = f.owners.entry(owner).or_insert_with(|| Held { since, ..Held::default() });
        f.next += 1;
        what(held);
        if held.ranges.is_empty() {
            f.owners.remove(&owner);
        }
        let all = (owner.0, Family::Range)..=(owner.0, Family::Whole);
        let has_any = f.owners.range(all).next().is_some();
        OWNERS.with_mut(|o| if has_any { o.insert((owner.0, file)) } else { o.remove(&(owner.0, file)) });
        f.queue.wake_all();
        tidy(l, file);
    });
}
fn tidy(locks: &mut BTreeMap<u64, OfFile>, file: u64) {
    if locks.get(&file).is_some_and(|f| f.owners.is_empty() && f.waiting == 0) {
        locks.remove(&file);
    }
}

/// A lock that `want` would have to wait for.
pub fn conflict(file: u64, want: &Lock) -> Option<Lock> {
    LOCKS.with(|l| l.get(&file).and_then(|f| f.conflict(want)))
}
/// How many locks the owner has, about.
pub fn count(owner: u64) -> usize {
    let held = |l: &BTreeMap<u64, OfFile>, file: u64| {
        let f = l.get(&file)?;
        Some(f.owners.get(&(owner, Family::Range))?.ranges.len())
    };
    LOCKS.with(|l| files_of(owner).iter().filter_map(|file| held(l, *file)).sum())
}
fn files_of(owner: u64) -> Vec<u64> {
    OWNERS.with(|o| o.range((owner, 0)..=(owner, u64::MAX)).map(|(_, file)| *file).collect())
}
/// Unlocks the range of `what` for its owner.
pub fn unlock(file: u64, what: &Lock) -> Result<()> {
    let owner = (what.owner, what.family);
    let met = LOCKS.with(|l| l.get(&file)?.owners.get(&owner)?.first_met(what));
    let Some(met) = met else { return Ok(()) };
    if met.start < what.start && met.end > what.end {
        // Two are left.
        crate::mm::admit(COST)?;
    }
    change(file, owner, |held| held.carve(what));
    Ok(())
}
/// False: somebody else has a conflicting lock.
fn try_lock(file: u64, want: &Lock) -> bool {
    let may = conflict(file, want).is_none();
    if may {
        // A downgrade may let others in.
        change(file, (want.owner, want.family), |held| {
            held.carve(want);
            held.ranges.insert(want.start, *want);
        });
    }
    may
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
    crate::mm::admit(COST)?;
    if try_lock(file, want) {
        return Ok(());
    }
    match wait {
        Wait::No => return Err(EAGAIN),
        Wait::Detect if is_deadlock(file, want) => return Err(EDEADLK),
        _ => {}
    }
    if wait == Wait::Detect {
        WAITING.with_mut(|w| w.push((file, *want)));
    }
    let queue = LOCKS.with_mut(|l| {
        let f = l.entry(file).or_default();
        f.waiting += 1;
        f.queue.clone()
    });
    let r = queue.wait_until(None, || match try_lock(file, want) {
        true => Some(Ok(())),
        false if wait == Wait::Detect && is_deadlock(file, want) => Some(Err(EDEADLK)),
        false => None,
    });
    LOCKS.with_mut(|l| {
        l.entry(file).or_default().waiting -= 1;
        tidy(l, file);
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
/// A descriptor of `file` was closed by the table `owner`.
pub fn release_posix(owner: u64, file: u64) {
    if OWNERS.with(|o| o.contains(&(owner, file))) {
        release(owner, file);
    }
}
fn release(owner: u64, file: u64) {
    for family in [Family::Range, Family::Whole] {
        let (key, mut gone) = ((owner, family), BTreeMap::new());
        change(file, key, |held| gone = core::mem::take(&mut held.ranges));
        // There may be very many.
        later::leave(move || {
            (0..PIECE).for_each(|_| _ = gone.pop_first());
            gone.is_empty()
        });
    }
}
/// A table or an open file is gone.
pub fn release_owner(owner: u64) {
    if !OWNERS.with(BTreeSet::is_empty) {
        files_of(owner).into_iter().for_each(|file| release(owner, file));
    }
}
