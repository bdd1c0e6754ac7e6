//! The cache of file content: 4 KiB pages by inode and block, dirty ones until they are written back.
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use occlum_sealed_disk::BLOCK;

/// Inode and block of a file.
pub(crate) type PageId = (u64, u32);
/// Content of a page.
pub(crate) type Bytes = Box<[u8]>;

struct Page {
    bytes: Bytes,
    used: bool,
}

/// The pages.
pub(crate) struct Pages {
    map: BTreeMap<PageId, Page>,
    dirty: BTreeSet<PageId>,
    /// Dirty pages of each file that has some.
    dirty_of: BTreeMap<u64, u32>,
    clock: VecDeque<PageId>,
    limit: usize,
}

/// A page of zeros.
pub(crate) fn zeros() -> Result<Bytes> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(BLOCK).map_err(|_| Error::Disk(occlum_sealed_disk::Error::Memory))?;
    bytes.resize(BLOCK, 0);
    Ok(bytes.into_boxed_slice())
}

impl Pages {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            map: BTreeMap::new(),
            dirty: BTreeSet::new(),
            dirty_of: BTreeMap::new(),
            clock: VecDeque::new(),
            limit: limit.max(64),
        }
    }
    pub(crate) fn dirty(&self) -> usize {
        self.dirty.len()
    }
    /// Dirty pages of a file.
    pub(crate) fn dirty_of(&self, ino: u64) -> u32 {
        self.dirty_of.get(&ino).copied().unwrap_or(0)
    }
    fn undirty(&mut self, id: PageId) {
        if self.dirty.remove(&id)
            && let Some(n) = self.dirty_of.get_mut(&id.0)
        {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.dirty_of.remove(&id.0);
            }
        }
    }
    /// Forgets what can be read again.
    pub(crate) fn drop_clean(&mut self) {
        let dirty = &self.dirty;
        self.map.retain(|id, _| dirty.contains(id));
        self.clock = self.map.keys().copied().collect();
    }
    pub(crate) fn cached(&self) -> usize {
        self.map.len()
    }
    pub(crate) fn get(&mut self, id: PageId) -> Option<&[u8]> {
        self.map.get_mut(&id).map(|page| {
            page.used = true;
            &page.bytes[..]
        })
    }
    pub(crate) fn has(&self, id: PageId) -> bool {
        self.map.contains_key(&id)
    }
    pub(crate) fn is_dirty(&self, id: PageId) -> bool {
        self.dirty.contains(&id)
    }
    /// The page, to be changed.
    pub(crate) fn get_mut(&mut self, id: PageId) -> Option<&mut [u8]> {
        let page = self.map.get_mut(&id)?;
        if self.dirty.insert(id) {
            *self.dirty_of.entry(id.0).or_default() += 1;
        }
        page.used = true;
        Some(&mut page.bytes[..])
    }
    /// Adds a page that was not there.
    pub(crate) fn insert(&mut self, id: PageId, bytes: Bytes) {
        self.evict();
        if self.map.insert(id, Page { bytes, used: false }).is_none() {
            self.clock.push_back(id);
        }
    }
    /// Second chance among the clean pages.
    fn evict(&mut self) {
        let mut turns = 2 * self.clock.len();
        while (self.map.len() >= self.limit || self.clock.len() > 2 * self.map.len() + 1024) && turns > 0 {
            turns -= 1;
            let Some(id) = self.clock.pop_front() else { return };
            let dirty = self.dirty.contains(&id);
            match self.map.get_mut(&id) {
                Some(page) if dirty || page.used => {
                    page.used = false;
                    self.clock.push_back(id);
                    if dirty && self.dirty.len() * 2 > self.map.len() {
                        return;
                    }
                }
                Some(_) => drop(self.map.remove(&id)),
                None => {}
            }
        }
    }
    /// Dirty pages in a row, from the first at or behind `from` on.
    pub(crate) fn dirty_run(&self, from: PageId, max: usize) -> Option<(PageId, u32)> {
        let first = *self.dirty.range(from..).next()?;
        let row = self.dirty.range(first..).take(max).enumerate();
        let len = row.take_while(|(i, id)| id.0 == first.0 && id.1 == first.1 + *i as u32).count();
        Some((first, len as u32))
    }
    /// These pages are written.
    pub(crate) fn clean(&mut self, first: PageId, count: u32) {
        for i in 0..count {
            self.undirty((first.0, first.1 + i));
        }
    }
    /// Forgets pages of a file, dirty or not.
    pub(crate) fn drop_range(&mut self, ino: u64, first: u32, last: u32) {
        let range = (ino, first)..=(ino, last);
        let gone: Vec<PageId> = self.map.range(range).map(|(id, _)| *id).collect();
        for id in gone {
            self.map.remove(&id);
            self.undirty(id);
        }
    }
    /// The first page of a file at or behind `from` that is dirty.
    pub(crate) fn next_dirty(&self, ino: u64, from: u32) -> Option<u32> {
        self.dirty.range((ino, from)..=(ino, u32::MAX)).next().map(|id| id.1)
    }
}
