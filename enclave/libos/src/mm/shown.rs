//! The vmas of a domain by their places, and where in all domains a file or a shared object is shown: whoever changes one
//! finds its mappings without a look at all others.
//!
//! Neighbours: `vma` (what they are), `filemap` and `guard` (who looks for mappings). Invariant: `SHOWN` has exactly the
//! vmas of all sets that show a file or an object.
use super::{Backing, Mm, Vma};
use alloc::collections::{BTreeMap, BTreeSet, btree_map::RangeMut};
use alloc::sync::{Arc, Weak};
use core::ops::{Deref, RangeBounds};
use occlum_rt::bkl::BklCell;

/// What is shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A file's content, privately, by `Inode::object_id`.
    File(u64),
    /// A shared object, by its address.
    Object(usize),
}
impl What {
    fn of(backing: &Backing) -> Option<Self> {
        match backing {
            Backing::Anon => None,
            Backing::File(f, _) => Some(What::File(f.object_id())),
            Backing::Shared(object, ..) => Some(What::Object(Arc::as_ptr(object) as usize)),
        }
    }
}

/// What, in which slot, at which vma.
static SHOWN: BklCell<BTreeSet<(What, u32, u64)>> = BklCell::new(BTreeSet::new());
/// Domains by slot.
static DOMAINS: BklCell<BTreeMap<u32, Weak<Mm>>> = BklCell::new(BTreeMap::new());

/// The domain that has the slot.
pub(super) fn domain(slot: u32) -> Option<Arc<Mm>> {
    DOMAINS.with(|d| d.get(&slot).and_then(Weak::upgrade))
}
/// Others find a domain by its slot.
pub(super) fn register(mm: &Arc<Mm>) {
    DOMAINS.with_mut(|d| _ = d.insert(mm.slot.index(), Arc::downgrade(mm)));
}
/// They do no more.
pub(super) fn unregister(slot: u32) {
    DOMAINS.with_mut(|d| _ = d.remove(&slot));
}

/// The vmas that show this now, with their domains. Each is looked for when it is its turn: there may be too many for one
/// list.
pub(super) fn showing(what: What) -> impl Iterator<Item = (Arc<Mm>, u64, Vma)> {
    let mut from = (what, 0, 0);
    core::iter::from_fn(move || {
        loop {
            let (_, slot, start) = SHOWN.with(|s| s.range(from..).next().copied().filter(|p| p.0 == what))?;
            from = (what, slot, start + 1);
            if let Some(mm) = domain(slot)
                && let Some(vma) = mm.inner.with(|i| i.vmas.get(&start).cloned())
            {
                return Some((mm, start, vma));
            }
        }
    })
}

/// The vmas of a domain, by where they begin.
pub(super) struct Vmas {
    slot: u32,
    map: BTreeMap<u64, Vma>,
}
impl Vmas {
    pub(super) const fn new(slot: u32) -> Self {
        Self { slot, map: BTreeMap::new() }
    }
    /// Puts a vma there, in place of one that shows the same.
    pub(super) fn insert(&mut self, start: u64, vma: Vma) {
        if let Some(what) = What::of(&vma.backing) {
            SHOWN.with_mut(|s| _ = s.insert((what, self.slot, start)));
        }
        if let (None, Backing::Shared(object, ..)) = (self.map.get(&start), &vma.backing) {
            object.shown.with_mut(|n| *n += 1);
        }
        self.map.insert(start, vma);
    }
    pub(super) fn remove(&mut self, start: u64) -> Option<Vma> {
        let vma = self.map.remove(&start)?;
        self.forget(start, &vma);
        Some(vma)
    }
    /// All of them go.
    pub(super) fn take(&mut self) -> BTreeMap<u64, Vma> {
        let map = core::mem::take(&mut self.map);
        map.iter().for_each(|(start, vma)| self.forget(*start, vma));
        map
    }
    fn forget(&self, start: u64, vma: &Vma) {
        if let Some(what) = What::of(&vma.backing) {
            SHOWN.with_mut(|s| _ = s.remove(&(what, self.slot, start)));
        }
        if let Backing::Shared(object, ..) = &vma.backing {
            object.shown.with_mut(|n| *n -= 1);
        }
    }
    /// To change what is known of it; what it shows stays.
    pub(super) fn get_mut(&mut self, start: u64) -> Option<&mut Vma> {
        self.map.get_mut(&start)
    }
    pub(super) fn range_mut(&mut self, r: impl RangeBounds<u64>) -> RangeMut<'_, u64, Vma> {
        self.map.range_mut(r)
    }
}
impl Deref for Vmas {
    type Target = BTreeMap<u64, Vma>;
    fn deref(&self) -> &Self::Target {
        &self.map
    }
}
