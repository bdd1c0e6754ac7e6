//! How epoll sets nest: in no circles, only so deep, and with so few paths from a file to the sets that hold sets that a wake
//! of the file is soon told to all of them. The limits, and what breaks which, are Linux's.
//!
//! Neighbour: `epoll`, which says of every item that it came or went. Invariant: `SETS` has a set for each item of a file
//! that is no set, `Epoll::outer` one for each item of a set.
use super::super::file::OpenFile;
use super::super::prelude::*;
use super::Epoll;
use alloc::collections::BTreeSet;

/// Sets within sets.
const NESTS: usize = 4;
/// Most paths from a file to outermost sets, by the number of sets that are held by others on the way. Without any there may
/// be as many as there are sets.
const PATHS_MAX: [usize; NESTS + 1] = [usize::MAX, 500, 100, 50, 10];

/// Sets that hold something, by address, and how often each does.
#[derive(Default)]
pub(super) struct Holders(BTreeMap<usize, (Weak<Epoll>, usize)>);

impl Holders {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn add(&mut self, set: &Weak<Epoll>) {
        self.0.entry(set.as_ptr().addr()).or_insert_with(|| (set.clone(), 0)).1 += 1;
    }
    fn take_out(&mut self, set: &Weak<Epoll>) {
        let Some((_, times)) = self.0.get_mut(&set.as_ptr().addr()) else { return };
        *times -= 1;
        if *times == 0 {
            self.0.remove(&set.as_ptr().addr());
        }
    }
    /// Those that are still there.
    pub(super) fn list(&self) -> Vec<(Arc<Epoll>, usize)> {
        self.0.values().filter_map(|(set, times)| Some((set.upgrade()?, *times))).collect()
    }
}

/// Sets that watch a file, by its identity.
static SETS: BklCell<BTreeMap<u64, Holders>> = BklCell::new(BTreeMap::new());

/// `set` has an item of `file`.
pub(super) fn came(set: &Weak<Epoll>, file: &OpenFile) {
    match file.downcast::<Epoll>() {
        Some(inner) => inner.outer.with_mut(|o| o.add(set)),
        None => SETS.with_mut(|s| s.entry(file.id).or_default().add(set)),
    }
}

/// An item of the file `id` is gone; `file` is that one if it is still open.
pub(super) fn went(set: &Weak<Epoll>, id: u64, file: Option<&OpenFile>) {
    if let Some(inner) = file.and_then(|f| f.downcast::<Epoll>()) {
        return inner.outer.with_mut(|o| o.take_out(set));
    }
    SETS.with_mut(|s| {
        let Some(holders) = s.get_mut(&id) else { return };
        holders.take_out(set);
        if holders.is_empty() {
            s.remove(&id);
        }
    });
}

/// What was found on a walk through sets: each is walked once.
#[derive(Default)]
struct Walk {
    /// How many sets deep, or high, each one is.
    depth: BTreeMap<usize, usize>,
    /// Files in them that are no sets.
    files: BTreeSet<u64>,
}

impl Walk {
    /// How many sets deep `set` is, up to more than may be. ELOOP where it leads to `to`.
    fn down(&mut self, set: &Epoll, to: &Epoll, left: usize) -> Result<usize> {
        if core::ptr::eq(set, to) || left == 0 {
            return Err(ELOOP);
        }
        let key = core::ptr::from_ref(set).addr();
        if let Some(known) = self.depth.get(&key) {
            return if *known > left { Err(ELOOP) } else { Ok(*known) };
        }
        let mut deepest = 1;
        for file in set.files() {
            match file.downcast::<Epoll>() {
                Some(inner) => deepest = deepest.max(self.down(inner, to, left - 1)? + 1),
                None => _ = self.files.insert(file.id),
            }
        }
        self.depth.insert(key, deepest);
        Ok(deepest)
    }
    /// How many sets `set` is in, one in another, up to more than may be.
    fn up(&mut self, set: &Epoll, left: usize) -> usize {
        let key = core::ptr::from_ref(set).addr();
        if let Some(known) = self.depth.get(&key) {
            return *known;
        }
        let height = match left {
            0 => 0,
            _ => set.outer_sets().iter().map(|(o, _)| self.up(o, left - 1) + 1).max().unwrap_or(0),
        };
        self.depth.insert(key, height);
        height
    }
}

/// May `set` hold the set `inner`? Says which files that concerns.
pub(super) fn check_nesting(set: &Epoll, inner: &Epoll) -> Result<Vec<u64>> {
    let mut below = Walk::default();
    let depth = below.down(inner, set, NESTS + 1)?;
    if depth + Walk::default().up(set, NESTS + 1) > NESTS {
        return Err(ELOOP);
    }
    Ok(below.files.into_iter().collect())
}

/// Are there few enough paths from each of the files?
pub(super) fn check_paths(files: &[u64]) -> Result<()> {
    files.iter().try_for_each(|id| {
        let sets = SETS.with(|s| s.get(id).map_or(Vec::new(), Holders::list));
        count(&sets, 0, 1, &mut [0; NESTS + 1])
    })
}

/// Counts the paths that go on from `sets`, to each of which there are `paths` so far.
fn count(
    sets: &[(Arc<Epoll>, usize)],
    held: usize,
    paths: usize,
    all: &mut [usize; NESTS + 1],
) -> Result<()> {
    if held > NESTS {
        return Err(EINVAL);
    }
    for (set, times) in sets {
        let (outer, paths) = (set.outer_sets(), paths.saturating_mul(*times));
        if !outer.is_empty() {
            count(&outer, held + 1, paths, all)?;
            continue;
        }
        all[held] = all[held].saturating_add(paths);
        if all[held] > PATHS_MAX[held] {
            return Err(EINVAL);
        }
    }
    Ok(())
}
