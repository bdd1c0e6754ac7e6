//! The cache of file content: 4 KiB pages by inode and block, dirty ones until they are written back.
//!
//! Neighbours in a file are kept, looked up and given up in groups: there is one entry of the map for many pages. Readers
//! may keep a page that they were given: who changes it meanwhile gets a copy.
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_sealed_disk::BLOCK;

/// Inode and block of a file.
pub(crate) type PageId = (u64, u32);
/// Content of a page.
pub(crate) type Page = Arc<Vec<u8>>;

/// Blocks of a group.
const GROUP: u32 = 32;
/// Pages that are kept behind who goes along a long file. So few that their memory is in the CPU's caches when it serves again.
const BEHIND: usize = 128;
/// Inode, and number of the group in the file.
type GroupId = (u64, u32);

/// Bits stand for blocks.
#[derive(Default)]
struct Group {
    pages: [Option<Page>; GROUP as usize],
    dirty: u32,
    used: u32,
}

impl Group {
    fn present(&self) -> u32 {
        self.pages.iter().enumerate().fold(0, |bits, (i, p)| bits | u32::from(p.is_some()) << i)
    }
    /// Gives pages up; returns how many there were. Buffers that nobody reads any more go to `spare`.
    fn drop_pages(&mut self, bits: u32, spare: &mut Vec<Vec<u8>>) -> usize {
        let mut gone = 0;
        for (i, page) in self.pages.iter_mut().enumerate().filter(|(i, _)| bits & 1 << i != 0) {
            let Some(page) = page.take() else { continue };
            gone += 1;
            self.used &= !(1 << i);
            if spare.len() < spare.capacity()
                && let Ok(buffer) = Arc::try_unwrap(page)
            {
                spare.push(buffer);
            }
        }
        gone
    }
}

/// The pages.
pub(crate) struct Pages {
    map: BTreeMap<GroupId, Box<Group>>,
    count: usize,
    dirty: usize,
    /// Groups with dirty pages.
    dirty_groups: BTreeSet<GroupId>,
    /// Dirty pages of each file that has some.
    dirty_of: BTreeMap<u64, u32>,
    clock: VecDeque<GroupId>,
    limit: usize,
    /// Buffers of pages that were given up, no more than there is capacity for. What they hold is of no meaning.
    spare: Vec<Vec<u8>>,
}

fn no_memory<E>(_: E) -> Error {
    Error::Disk(occlum_sealed_disk::Error::Memory)
}
/// A page of zeros.
pub(crate) fn zeros() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(BLOCK).map_err(no_memory)?;
    bytes.resize(BLOCK, 0);
    Ok(bytes)
}
/// A page with this content.
fn copy(content: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(content.len()).map_err(no_memory)?;
    bytes.extend_from_slice(content);
    Ok(bytes)
}

fn place(id: PageId) -> (GroupId, u32) {
    ((id.0, id.1 / GROUP), id.1 % GROUP)
}
/// The bits of a group's blocks from `first` to `last` of the file.
fn mask(group: u32, first: u32, last: u32) -> u32 {
    let start = group * GROUP;
    let (low, high) = (first.saturating_sub(start), last.saturating_sub(start).min(GROUP - 1));
    if low >= GROUP || last < start || low > high {
        return 0;
    }
    u32::MAX << low & u32::MAX >> (GROUP - 1 - high)
}

impl Pages {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            map: BTreeMap::new(),
            count: 0,
            dirty: 0,
            dirty_groups: BTreeSet::new(),
            dirty_of: BTreeMap::new(),
            clock: VecDeque::new(),
            limit: limit.max(64),
            spare: Vec::with_capacity(limit / 32),
        }
    }
    /// A buffer for a page that will be filled.
    pub(crate) fn buffer(&mut self) -> Result<Vec<u8>> {
        self.spare.pop().map_or_else(zeros, Ok)
    }
    /// A page with this content.
    pub(crate) fn copy(&mut self, content: &[u8]) -> Result<Vec<u8>> {
        let Some(mut page) = self.spare.pop().filter(|b| b.len() == content.len()) else {
            return copy(content);
        };
        page.copy_from_slice(content);
        Ok(page)
    }
    /// Is a file of so many blocks too long to be kept here as a whole?
    pub(crate) fn is_long(&self, size: u64) -> bool {
        size > self.limit as u64
    }
    /// Somebody goes along a file of `size` blocks in order and has come to `at`. Of a long one, what is far behind is given
    /// up, before it takes the place of what is of more use.
    pub(crate) fn pass(&mut self, ino: u64, size: u64, at: u32, len: u32) {
        let keep = BEHIND.min(self.limit / 8) as u32;
        if !self.is_long(size) || at < keep {
            return;
        }
        self.give_up(ino, (at - keep).saturating_sub(len), at - keep);
    }
    pub(crate) fn dirty(&self) -> usize {
        self.dirty
    }
    /// Dirty pages of a file.
    pub(crate) fn dirty_of(&self, ino: u64) -> u32 {
        self.dirty_of.get(&ino).copied().unwrap_or(0)
    }
    pub(crate) fn cached(&self) -> usize {
        self.count
    }
    /// Forgets what can be read again.
    pub(crate) fn drop_clean(&mut self) {
        for group in self.map.values_mut() {
            self.count -= group.drop_pages(!group.dirty, &mut self.spare);
        }
        self.spare.clear();
        self.map.retain(|_, group| group.dirty != 0);
        self.wind();
    }

    /// A page, which somebody uses.
    pub(crate) fn get(&mut self, id: PageId) -> Option<&Page> {
        let (group, slot) = place(id);
        let group = self.map.get_mut(&group)?;
        group.used |= 1 << slot;
        group.pages.get(slot as usize)?.as_ref()
    }
    /// A page, to be written back.
    pub(crate) fn peek(&self, id: PageId) -> Option<&[u8]> {
        let (group, slot) = place(id);
        self.map.get(&group)?.pages.get(slot as usize)?.as_ref().map(|page| &page[..])
    }
    pub(crate) fn has(&self, id: PageId) -> bool {
        self.peek(id).is_some()
    }
    pub(crate) fn is_dirty(&self, id: PageId) -> bool {
        let (group, slot) = place(id);
        self.map.get(&group).is_some_and(|g| g.dirty & 1 << slot != 0)
    }
    /// The page, to be changed.
    pub(crate) fn get_mut(&mut self, id: PageId) -> Result<&mut [u8]> {
        let (group_id, slot) = place(id);
        let group = self.map.get_mut(&group_id).ok_or(Error::Invalid)?;
        let page = group.pages.get_mut(slot as usize).and_then(Option::as_mut).ok_or(Error::Invalid)?;
        if Arc::get_mut(page).is_none() {
            *page = Arc::new(copy(page)?);
        }
        group.used |= 1 << slot;
        if group.dirty & 1 << slot == 0 {
            if group.dirty == 0 {
                self.dirty_groups.insert(group_id);
            }
            group.dirty |= 1 << slot;
            self.dirty += 1;
            *self.dirty_of.entry(id.0).or_default() += 1;
        }
        Arc::get_mut(page).map(|bytes| &mut bytes[..]).ok_or(Error::Invalid)
    }
    /// Adds a page that was not there.
    pub(crate) fn insert(&mut self, id: PageId, bytes: Vec<u8>) {
        self.evict();
        let (group_id, slot) = place(id);
        let group = self.map.entry(group_id).or_insert_with(|| {
            self.clock.push_back(group_id);
            Box::default()
        });
        if let Some(at) = group.pages.get_mut(slot as usize)
            && at.replace(Arc::new(bytes)).is_none()
        {
            self.count += 1;
        }
    }
    /// Has each group stand in the clock once. It stands there at least once, so no memory is needed, which may be short.
    fn wind(&mut self) {
        self.clock.clear();
        self.clock.extend(self.map.keys());
    }
    /// Second chance among the clean pages.
    fn evict(&mut self) {
        if self.clock.len() > 2 * self.map.len() + 1024 {
            self.wind();
        }
        let mut turns = 2 * self.clock.len();
        while self.count >= self.limit && turns > 0 {
            turns -= 1;
            let Some(id) = self.clock.pop_front() else { return };
            let Some(group) = self.map.get_mut(&id) else { continue };
            let gone = group.drop_pages(!group.dirty & !group.used, &mut self.spare);
            group.used = 0;
            self.count -= gone;
            if group.present() == 0 {
                self.map.remove(&id);
            } else {
                self.clock.push_back(id);
            }
            if gone == 0 && self.dirty * 2 > self.count {
                return;
            }
        }
    }

    /// The first dirty page at or behind `from`.
    fn first_dirty(&self, from: PageId) -> Option<PageId> {
        let (group, slot) = place(from);
        self.dirty_groups.range(group..).find_map(|id| {
            let dirty = self.map.get(id)?.dirty;
            let bits = if *id == group { dirty & u32::MAX << slot } else { dirty };
            (bits != 0).then(|| (id.0, id.1 * GROUP + bits.trailing_zeros()))
        })
    }
    /// Dirty pages in a row, from the first at or behind `from` on.
    pub(crate) fn dirty_run(&self, from: PageId, max: u32) -> Option<(PageId, u32)> {
        let first = self.first_dirty(from)?;
        let mut len = 0;
        while len < max {
            let Some(at) = first.1.checked_add(len) else { break };
            let (group, slot) = place((first.0, at));
            let bits = self.map.get(&group).map_or(0, |g| g.dirty >> slot);
            len += bits.trailing_ones();
            if bits.trailing_ones() < GROUP - slot {
                break;
            }
        }
        Some((first, len.min(max)))
    }
    /// The first page of a file at or behind `from` that is dirty.
    pub(crate) fn next_dirty(&self, ino: u64, from: u32) -> Option<u32> {
        self.first_dirty((ino, from)).filter(|id| id.0 == ino).map(|id| id.1)
    }

    /// These pages are written, or of no use any more.
    pub(crate) fn clean(&mut self, first: PageId, count: u32) {
        let (ino, first) = first;
        let Some(last) = count.checked_sub(1).map(|n| first.saturating_add(n)) else { return };
        for (id, group) in self.map.range_mut((ino, first / GROUP)..=(ino, last / GROUP)) {
            let bits = mask(id.1, first, last) & group.dirty;
            if bits == 0 {
                continue;
            }
            group.dirty &= !bits;
            if group.dirty == 0 {
                self.dirty_groups.remove(id);
            }
            self.dirty = self.dirty.saturating_sub(bits.count_ones() as usize);
            if let Some(n) = self.dirty_of.get_mut(&ino) {
                *n = n.saturating_sub(bits.count_ones());
                if *n == 0 {
                    self.dirty_of.remove(&ino);
                }
            }
        }
    }
    /// Forgets pages of a file, dirty or not.
    pub(crate) fn drop_range(&mut self, ino: u64, first: u32, last: u32) {
        self.clean((ino, first), last.saturating_sub(first).saturating_add(1));
        self.give_up(ino, first, last);
    }
    /// Forgets the clean pages among these.
    fn give_up(&mut self, ino: u64, first: u32, last: u32) {
        let range = (ino, first / GROUP)..=(ino, last / GROUP);
        let mut empty = Vec::new();
        for (id, group) in self.map.range_mut(range) {
            let clean = mask(id.1, first, last) & !group.dirty;
            self.count -= group.drop_pages(clean, &mut self.spare);
            if group.present() == 0 {
                empty.push(*id);
            }
        }
        for id in empty {
            self.map.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        assert_eq!(mask(0, 0, u32::MAX), u32::MAX);
        assert_eq!(mask(1, 33, 34), 0b110);
        assert_eq!(mask(1, 0, 32), 1);
        assert_eq!(mask(1, 63, 200), 1 << 31);
        assert_eq!(mask(2, 0, 63), 0);
        assert_eq!(mask(0, 32, 63), 0);
    }

    #[test]
    fn runs_of_dirty_pages() {
        let mut pages = Pages::new(1000);
        for at in (30..70).chain(80..81) {
            pages.insert((7, at), alloc::vec![at as u8; BLOCK]);
            assert_eq!(pages.get_mut((7, at)).map(|b| b[0]), Ok(at as u8));
        }
        assert_eq!((pages.dirty(), pages.dirty_of(7)), (41, 41));
        assert_eq!(pages.dirty_run((0, 0), 256), Some(((7, 30), 40)));
        assert_eq!(pages.dirty_run((0, 0), 3), Some(((7, 30), 3)));
        assert_eq!(pages.dirty_run((7, 71), 256), Some(((7, 80), 1)));
        pages.clean((7, 30), 40);
        assert_eq!((pages.dirty(), pages.next_dirty(7, 0), pages.next_dirty(6, 0)), (1, Some(80), None));
        pages.drop_range(7, 31, u32::MAX);
        assert_eq!(
            (pages.cached(), pages.dirty(), pages.has((7, 30)), pages.has((7, 31))),
            (1, 0, true, false)
        );
    }

    #[test]
    fn readers_keep_what_they_were_given() {
        let mut pages = Pages::new(64);
        pages.insert((1, 5), alloc::vec![1; BLOCK]);
        let kept = pages.get((1, 5)).cloned().expect("a page");
        pages.get_mut((1, 5)).expect("a page")[0] = 2;
        assert_eq!((kept[0], pages.peek((1, 5)).map(|b| b[0])), (1, Some(2)));
    }

    #[test]
    fn a_long_file_leaves_others_their_place() {
        let mut pages = Pages::new(640);
        for at in 0..100 {
            pages.insert((1, at), alloc::vec![1; BLOCK]);
        }
        for at in 0..1000 {
            pages.insert((2, at), alloc::vec![2; BLOCK]);
            assert!(at % 7 != 0 || pages.get_mut((2, at)).is_ok());
            pages.clean((2, at.saturating_sub(50)), 1);
            pages.pass(2, 1000, at, 1);
        }
        assert!(
            (0..100).all(|at| pages.has((1, at))) && pages.cached() <= 100 + 80 + 1,
            "{}",
            pages.cached()
        );
        assert!((920..1000).all(|at| pages.has((2, at))) && pages.dirty() > 0);
        let kept = pages.buffer().expect("a buffer");
        assert_eq!((kept.len(), kept[0]), (BLOCK, 2), "its memory serves again");
        // A file that has room is kept as a whole.
        pages.pass(1, 640, 600, 600);
        assert!(pages.has((1, 0)));
    }

    #[test]
    fn dirty_pages_stay() {
        let mut pages = Pages::new(64);
        for at in 0..32 {
            pages.insert((1, at * 5), alloc::vec![0; BLOCK]);
            pages.get_mut((1, at * 5)).expect("a page")[0] = 1;
        }
        for at in 0..1000 {
            pages.insert((2, at), alloc::vec![0; BLOCK]);
            assert!(pages.has((2, at)));
        }
        assert!(pages.cached() <= 64 + 1, "{}", pages.cached());
        assert!((0..32).all(|at| pages.is_dirty((1, at * 5)) && pages.has((1, at * 5))));
    }
}
