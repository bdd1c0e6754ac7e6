//! Vmas: what each mapping shows, and the ordered set of them.
//!
//! Invariants: vmas do not overlap and lie in [MAP_MIN, MAP_MAX); start and end are page-aligned; a vma that was split
//! or changed under its translations owns its code (`has_own_code`), because a region belongs to one whole vma; a private
//! mapping of a file that was writable at some time is pristine no more (`written`), nor is any that was made of it.
use super::shared::SharedObject;
use super::shown::Vmas;
use super::{Mm, PAGE, page_ceil};
use crate::code::Region;
use crate::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use occlum_linux_abi::mmap as mf;
use occlum_sfi_spec::domain::{MAP_MAX, MAP_MIN};

/// The name of the stack that a program starts with.
pub const STACK: &str = "[stack]";

/// A file behind a mapping.
#[derive(Clone)]
pub struct MapFile(pub Arc<crate::fs::OpenFile>);
impl MapFile {
    pub(super) fn read_at(&self, off: u64, buf: &mut [u8]) -> Result<usize> {
        self.0.inode().read_at(off, buf)
    }
    pub(super) fn size(&self) -> u64 {
        self.0.inode().size()
    }
    /// Identity and version of the content (R26).
    pub fn id(&self) -> (u64, u64) {
        self.0.inode().file_id()
    }
    /// Which file it is, whatever its content.
    pub(super) fn object_id(&self) -> u64 {
        self.0.inode().object_id()
    }
    /// Path for /proc/self/maps.
    pub fn path(&self) -> Vec<u8> {
        crate::fs::path_of(&self.0)
    }
}

/// What a vma shows.
#[derive(Clone)]
pub enum Backing {
    /// Zero pages.
    Anon,
    /// Private copy of a file from this offset.
    File(MapFile, u64),
    /// Shared object from this page-aligned offset; may the mapping become writable (VM_MAYWRITE)?
    Shared(Arc<SharedObject>, u64, bool),
}

impl Backing {
    /// Offset of its first byte in the file or object.
    pub fn offset(&self) -> u64 {
        match self {
            Backing::Anon => 0,
            Backing::File(_, off) | Backing::Shared(_, off, _) => *off,
        }
    }

    /// The file behind it.
    pub fn file(&self) -> Option<&MapFile> {
        match self {
            Backing::Anon => None,
            Backing::File(f, _) => Some(f),
            Backing::Shared(o, ..) => o.file(),
        }
    }
}

/// A mapping: a new one, or what became of another one, with all that is known of its pages.
#[derive(Clone)]
pub struct Vma {
    /// Exclusive end.
    pub end: u64,
    prot: u32,
    /// What a child gets of it.
    pub fork: Fork,
    /// Counts against RLIMIT_MEMLOCK.
    pub locked: bool,
    /// An access below it makes it larger (MAP_GROWSDOWN).
    pub grows_down: bool,
    /// It stays where it is, with its rights (mseal).
    pub sealed: bool,
    /// Content.
    pub backing: Backing,
    /// Name shown in maps ("[heap]", `STACK`).
    pub name: &'static str,
    /// Translations, once something ran.
    pub region: Option<Arc<Region>>,
    /// Its pages may have been written through it.
    written: bool,
    /// A private file's version when it was mapped: a later one may be what came in later.
    seen: Option<(u64, u64)>,
    /// Its translations were lost while it was there.
    own_code: bool,
}
impl Vma {
    /// A new mapping, of which nothing is resident.
    pub(super) fn new(end: u64, prot: u32, backing: Backing) -> Self {
        let seen = if let Backing::File(f, _) = &backing { Some(f.id()) } else { None };
        Self {
            end,
            prot,
            fork: Fork::Copy,
            locked: false,
            grows_down: false,
            sealed: false,
            backing,
            name: "",
            region: None,
            written: prot & mf::PROT_WRITE != 0,
            seen,
            own_code: false,
        }
    }
    /// PROT_*.
    pub fn prot(&self) -> u32 {
        self.prot
    }
    pub(super) fn set_prot(&mut self, prot: u32) {
        self.prot = prot;
        self.written |= prot & mf::PROT_WRITE != 0;
    }
    /// Resident pages hold something else than their file from here on.
    pub(super) fn pages_change(&mut self) {
        self.written = true;
    }
    /// May something have been written through it?
    pub(super) fn is_written(&self) -> bool {
        self.written
    }
    /// Are its pages, resident or not, bytes of a file that nobody wrote to here?
    pub fn is_pristine(&self) -> bool {
        !self.written && matches!(self.backing, Backing::File(..))
    }
    /// The file and version whose bytes all resident pages hold, and where in it they begin.
    pub(super) fn clean(&self) -> Option<((u64, u64), u64)> {
        match &self.backing {
            Backing::File(f, off) if !self.written && self.seen == Some(f.id()) => Some((f.id(), *off)),
            _ => None,
        }
    }
    /// Its translations go and are made anew for this process only.
    pub(super) fn take_region(&mut self) -> Option<Arc<Region>> {
        self.own_code = true;
        self.region.take()
    }
    /// Are its translations this process's own?
    pub fn has_own_code(&self) -> bool {
        self.own_code || !self.is_pristine()
    }
    /// The part from `by` on, elsewhere.
    pub(super) fn moved(&self, by: u64) -> Self {
        let name = if matches!(self.backing, Backing::Anon) { "" } else { self.name };
        Self { backing: self.shifted(by), name, region: None, ..self.clone() }
    }
    /// What a child has of it.
    pub(super) fn forked(&self) -> Self {
        let region = self.region.clone().filter(|r| r.is_shared());
        Self { region, locked: false, ..self.clone() }
    }
    fn shifted(&self, by: u64) -> Backing {
        match &self.backing {
            Backing::Anon => Backing::Anon,
            Backing::File(f, o) => Backing::File(f.clone(), o + by),
            Backing::Shared(s, o, may_write) => Backing::Shared(s.clone(), o + by, *may_write),
        }
    }
    /// Where an access begins to be a SIGBUS, for the vma at `start`: the end of the file, or none.
    pub(super) fn content_end(&self, start: u64) -> u64 {
        match &self.backing {
            Backing::File(f, off) => page_ceil(f.size()).saturating_sub(*off).saturating_add(start),
            _ => u64::MAX,
        }
    }
    /// Could one mapping be this one and `next`, which begins where this one ends?
    fn goes_on_as(&self, next: &Self) -> bool {
        matches!((&self.backing, &next.backing), (Backing::Anon, Backing::Anon))
            && self.prot == next.prot
            && self.fork == next.fork
            && self.locked == next.locked
            && self.grows_down == next.grows_down
            && self.sealed == next.sealed
            && self.name == next.name
            && self.region.is_none()
            && next.region.is_none()
    }
    /// May it become writable?
    pub fn may_write(&self) -> bool {
        !matches!(self.backing, Backing::Shared(_, _, false))
    }
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.backing, Backing::Shared(..))
    }
}

/// What fork does with a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fork {
    /// The child has a copy.
    Copy,
    /// The child has an empty one (MADV_WIPEONFORK).
    Wipe,
    /// The child has none (MADV_DONTFORK).
    Leave,
}
impl Fork {
    /// What a `MADV_*FORK` asks for.
    pub fn of_advice(advice: u32) -> Self {
        match advice {
            mf::MADV_DONTFORK => Self::Leave,
            mf::MADV_WIPEONFORK => Self::Wipe,
            _ => Self::Copy,
        }
    }
}

impl Mm {
    /// mlock or munlock of the range. Pages never leave memory anyway; what counts is the limit.
    pub fn set_locked(&self, r: Range<u64>, locked: bool) -> Result<()> {
        self.split(&r, |v| v.locked != locked)?;
        self.inner.with_mut(|i| overlapping_mut(&mut i.vmas, r.clone()).for_each(|(_, v)| v.locked = locked));
        if !locked {
            self.merge(r);
        }
        Ok(())
    }
    /// mseal of the range.
    pub fn seal(&self, r: Range<u64>) -> Result<()> {
        self.split(&r, |v| !v.sealed)?;
        self.inner.with_mut(|i| overlapping_mut(&mut i.vmas, r.clone()).for_each(|(_, v)| v.sealed = true));
        self.merge(r);
        Ok(())
    }
    /// EPERM if part of the range is sealed.
    pub fn check_unsealed(&self, r: Range<u64>) -> Result<()> {
        let sealed = self.inner.with(|i| overlapping(&i.vmas, r).any(|(_, v)| v.sealed));
        if sealed { Err(Errno::EPERM) } else { Ok(()) }
    }
    /// Bytes of locked mappings, all or within a range.
    pub fn locked_bytes(&self, r: Range<u64>) -> u64 {
        let within = |s: u64, v: &Vma| v.end.min(r.end) - s.max(r.start);
        self.inner.with(|i| {
            overlapping(&i.vmas, r.clone()).filter(|(_, v)| v.locked).map(|(s, v)| within(s, v)).sum()
        })
    }
    /// The mapping at `start` grows downwards.
    pub fn set_grows_down(&self, start: u64) {
        self.inner.with_mut(|i| {
            if let Some(v) = i.vmas.get_mut(start) {
                v.grows_down = true;
            }
        });
    }
    /// An access at `off`, which nothing maps: a mapping above that grows downwards gets there, if it gets no larger than
    /// `most`, by no more than `room`, and stays away from what is below.
    pub(super) fn grow_down(&self, off: u64, most: u64, room: u64) -> Option<(u64, Vma)> {
        /// Linux's stack_guard_gap.
        const GAP: u64 = 256 * PAGE;
        let to = off & !(PAGE - 1);
        let (start, vma) = self.inner.with(|i| {
            let (start, above) = i.vmas.range(off..).next().filter(|(_, v)| v.grows_down)?;
            let (start, end) = (*start, above.end);
            let near = i.vmas.range(..to).next_back();
            let is_near = near.is_some_and(|(_, v)| v.prot != 0 && !v.grows_down && to - v.end < GAP);
            if is_near || to < MAP_MIN || end - to > most || start - to > room {
                return None;
            }
            Some((start, above.clone()))
        })?;
        self.put(to, vma.clone()).ok()?;
        self.inner.with_mut(|i| i.vmas.remove(start));
        Some((to, vma))
    }
    /// The first mapping that has something of the range.
    pub fn first_in(&self, r: Range<u64>) -> Option<(u64, Vma)> {
        self.inner.with(|i| overlapping(&i.vmas, r).next().map(|(s, v)| (s, v.clone())))
    }
    /// Those that have something of the range, in order. Each is looked up when it is its turn: there may be too many for
    /// one list.
    pub fn vmas_in(&self, r: Range<u64>) -> impl Iterator<Item = (u64, Vma)> {
        let mut from = r.start;
        core::iter::from_fn(move || {
            let found = (from < r.end).then(|| self.first_in(from..r.end)).flatten()?;
            from = found.1.end;
            Some(found)
        })
    }
    /// All of them.
    pub fn vmas(&self) -> impl Iterator<Item = (u64, Vma)> {
        self.vmas_in(0..MAP_MAX)
    }
    /// Sets what children get of the range.
    pub fn set_fork(&self, r: Range<u64>, fork: Fork) -> Result<()> {
        self.split(&r, |v| v.fork != fork)?;
        self.inner.with_mut(|i| overlapping_mut(&mut i.vmas, r.clone()).for_each(|(_, v)| v.fork = fork));
        self.merge(r);
        Ok(())
    }
    /// Sets the name that maps shows.
    pub fn set_name(&self, start: u64, name: &'static str) {
        self.inner.with_mut(|i| {
            if let Some(v) = i.vmas.get_mut(start) {
                v.name = name;
            }
        });
    }

    /// May all of the range become writable?
    pub fn may_write(&self, r: Range<u64>) -> bool {
        self.inner.with(|i| overlapping(&i.vmas, r).all(|(_, v)| v.may_write()))
    }

    /// Splits the vma around `at`, so that `at` is a boundary. Whoever asks has seen that there may be one more.
    pub(super) fn cut(&self, at: u64) {
        let Some((start, vma)) = self.find(at).filter(|(start, _)| *start != at) else { return };
        if vma.region.is_some() {
            self.drop_translations(start..vma.end);
        }
        self.inner.with_mut(|i| {
            let Some(v) = i.vmas.get_mut(start) else { return };
            let mut tail = v.clone();
            tail.backing = v.shifted(at - start);
            v.end = at;
            i.vmas.insert(at, tail);
        });
    }

    /// Joins anonymous neighbours with equal rights, so that allocators do not grow the vma set without bound.
    pub(super) fn merge(&self, r: Range<u64>) {
        self.inner.with_mut(|i| {
            let lo = find(&i.vmas, r.start.saturating_sub(1)).map_or(r.start, |(s, _)| s);
            let mut at = lo;
            while at <= r.end
                && let Some((start, a)) = i.vmas.range(at..=r.end).next()
            {
                let (start, end) = (*start, a.end);
                let next = i.vmas.get(&end).filter(|b| end <= r.end && a.goes_on_as(b)).map(|b| b.end);
                let Some(longer) = next else {
                    at = end;
                    continue;
                };
                i.vmas.remove(end);
                if let Some(v) = i.vmas.get_mut(start) {
                    v.end = longer;
                }
                at = start;
            }
        });
    }

    /// Is every page of the range mapped?
    pub fn is_mapped(&self, r: Range<u64>) -> bool {
        self.inner.with(|i| is_covered(&i.vmas, r))
    }
}

pub(super) fn find(vmas: &BTreeMap<u64, Vma>, off: u64) -> Option<(u64, &Vma)> {
    vmas.range(..=off).next_back().filter(|(_, v)| off < v.end).map(|(s, v)| (*s, v))
}
pub(super) fn overlapping(vmas: &BTreeMap<u64, Vma>, r: Range<u64>) -> impl Iterator<Item = (u64, &Vma)> {
    let first = find(vmas, r.start).map_or(r.start, |(s, _)| s);
    vmas.range(first..r.end.max(first)).map(|(s, v)| (*s, v)).filter(move |(_, v)| v.end > r.start)
}
pub(super) fn overlapping_mut(vmas: &mut Vmas, r: Range<u64>) -> impl Iterator<Item = (u64, &mut Vma)> {
    let first = find(vmas, r.start).map_or(r.start, |(s, _)| s);
    vmas.range_mut(first..r.end.max(first)).map(|(s, v)| (*s, v)).filter(move |(_, v)| v.end > r.start)
}
pub(super) fn is_free(vmas: &BTreeMap<u64, Vma>, r: Range<u64>) -> bool {
    overlapping(vmas, r).next().is_none()
}
pub(super) fn is_covered(vmas: &BTreeMap<u64, Vma>, r: Range<u64>) -> bool {
    let mut at = r.start;
    for (s, v) in overlapping(vmas, r.clone()) {
        if s > at {
            return false;
        }
        at = v.end;
    }
    at >= r.end
}
/// What is known of free ranges in one part of the domain: above `from` there is none of `len` bytes or more.
#[derive(Clone, Copy, Default)]
pub(super) struct Search {
    from: u64,
    len: u64,
}
impl Search {
    /// Finds the highest free range of `len` bytes in `r`, which is always the same for one `Search`.
    pub(super) fn find(&mut self, vmas: &BTreeMap<u64, Vma>, r: Range<u64>, len: u64) -> Option<u64> {
        let end = if self.len != 0 && len >= self.len { self.from.min(r.end) } else { r.end };
        let start = top_down(vmas, r.start..end, len)?;
        *self = Self { from: start, len };
        Some(start)
    }
    /// Something below `end` was unmapped.
    pub(super) fn freed(&mut self, end: u64) {
        if end > self.from {
            self.len = 0;
        }
    }
}

fn top_down(vmas: &BTreeMap<u64, Vma>, r: Range<u64>, len: u64) -> Option<u64> {
    let mut end = r.end;
    loop {
        let start = end.checked_sub(len).filter(|s| *s >= r.start)?;
        match overlapping(vmas, start..end).next() {
            None => return Some(start),
            Some((s, _)) => end = s.min(end - PAGE),
        }
    }
}
