//! Which logical blocks are in use. Groups of 32768, each with its bitmap in its first block; groups are added as
//! needed: what is full is decided by the disk, whose logical blocks cost nothing until they are written.
use crate::{Error, Result};
use alloc::vec::Vec;
use occlum_sealed_disk::{BLOCK, BlockDevice, Disk};

/// Blocks of a group.
pub(crate) const GROUP: u32 = 8 * BLOCK as u32;
/// Where the superblock is.
pub(crate) const SUPER: u32 = 1;

struct Group {
    bits: Vec<u64>,
    used: u32,
    dirty: bool,
}

impl Group {
    fn new() -> Self {
        Self { bits: alloc::vec![0; (GROUP / 64) as usize], used: 0, dirty: true }
    }
    fn is_used(&self, at: u32) -> bool {
        self.bits.get((at / 64) as usize).is_none_or(|w| w & 1 << (at % 64) != 0)
    }
    fn set(&mut self, at: u32, used: bool) -> bool {
        if self.is_used(at) == used {
            return false;
        }
        if let Some(word) = self.bits.get_mut((at / 64) as usize) {
            *word ^= 1 << (at % 64);
            self.used = if used { self.used + 1 } else { self.used - 1 };
            self.dirty = true;
        }
        true
    }
    /// The first free block from `at` on.
    fn free_from(&self, at: u32) -> Option<u32> {
        let first = (at / 64) as usize;
        self.bits.iter().enumerate().skip(first).find_map(|(i, word)| {
            let mask = if i == first { u64::MAX << (at % 64) } else { u64::MAX };
            let free = !word & mask;
            (free != 0).then(|| i as u32 * 64 + free.trailing_zeros())
        })
    }
}

/// The blocks in use.
pub(crate) struct Space {
    groups: Vec<Group>,
    /// Blocks in use, in all groups.
    used: u64,
    cursor: u32,
    /// From here on the search begins again at the front, so that the disk's map stays as small as the disk.
    turn: u64,
}

impl Space {
    /// Of a new file system.
    pub(crate) fn new(turn: u64) -> Self {
        let mut space = Self { groups: Vec::new(), used: 0, cursor: 0, turn };
        space.add_group();
        if let Some(group) = space.groups.first_mut() {
            group.set(SUPER, true);
            space.used += 1;
        }
        space
    }
    /// Of `count` groups, unless their bitmaps are more than `most` bytes.
    pub(crate) fn load<D: BlockDevice>(disk: &mut Disk<D>, count: u32, most: u64) -> Result<Self> {
        if u64::from(count) * BLOCK as u64 > most {
            return Err(Error::Disk(occlum_sealed_disk::Error::Memory));
        }
        let mut groups = Vec::new();
        let mut block = alloc::vec![0; BLOCK];
        for index in 0..count {
            disk.read(index.checked_mul(GROUP).ok_or(Error::Corrupt("number of groups"))?, &mut block)?;
            let mut group = Group::new();
            for (word, bytes) in group.bits.iter_mut().zip(block.chunks_exact(8)) {
                *word = u64::from_le_bytes(core::array::from_fn(|i| bytes[i]));
                group.used += word.count_ones();
            }
            group.dirty = false;
            groups.push(group);
        }
        let used = groups.iter().map(|g| u64::from(g.used)).sum();
        Ok(Self { groups, used, cursor: 0, turn: disk.stats().total })
    }
    fn add_group(&mut self) {
        let mut group = Group::new();
        group.set(0, true);
        self.used += 1;
        self.groups.push(group);
    }
    /// Blocks in use.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }
    /// How many groups there are.
    pub(crate) fn groups(&self) -> u32 {
        self.groups.len() as u32
    }
    /// Bitmaps to be written.
    pub(crate) fn dirty(&self) -> u64 {
        self.groups.iter().filter(|g| g.dirty).count() as u64
    }
    pub(crate) fn is_used(&self, block: u32) -> bool {
        self.groups.get((block / GROUP) as usize).is_some_and(|g| g.is_used(block % GROUP))
    }

    /// Up to `want` free blocks in a row, now in use.
    pub(crate) fn allocate(&mut self, want: u32) -> Result<(u32, u32)> {
        if u64::from(self.cursor) >= self.turn {
            self.cursor = 0;
        }
        let (first, count) = ((self.cursor / GROUP) as usize, self.groups.len());
        for i in 0..=count {
            let index = (first + i) % count;
            let from = if i == 0 { self.cursor % GROUP } else { 0 };
            if self.groups.get(index).is_none_or(|g| g.used >= GROUP) {
                continue;
            }
            if let Some(found) = self.allocate_in(index, from, want) {
                return Ok(found);
            }
        }
        if self.groups.len() as u64 * u64::from(GROUP) >= 1 << 32 {
            return Err(Error::NoSpace);
        }
        self.add_group();
        self.allocate_in(count, 0, want).ok_or(Error::NoSpace)
    }
    fn allocate_in(&mut self, index: usize, from: u32, want: u32) -> Option<(u32, u32)> {
        let group = self.groups.get_mut(index)?;
        let start = group.free_from(from)?;
        let mut len = 0;
        while len < want && start + len < GROUP && group.set(start + len, true) {
            len += 1;
        }
        self.used += u64::from(len);
        let first = index as u32 * GROUP + start;
        self.cursor = if start + len < GROUP { first + len } else { index as u32 * GROUP };
        Some((first, len))
    }
    /// Blocks are free again.
    pub(crate) fn free<D: BlockDevice>(&mut self, disk: &mut Disk<D>, first: u32, count: u32) -> Result<()> {
        disk.discard(first, count)?;
        for block in first..first.saturating_add(count) {
            let freed =
                self.groups.get_mut((block / GROUP) as usize).is_some_and(|g| g.set(block % GROUP, false));
            if !freed {
                return Err(Error::Corrupt("a block was freed twice"));
            }
            self.used = self.used.saturating_sub(1);
        }
        Ok(())
    }
    /// Writes the bitmaps that changed.
    pub(crate) fn write<D: BlockDevice>(&mut self, disk: &mut Disk<D>) -> Result<()> {
        for (i, group) in self.groups.iter_mut().enumerate().filter(|(_, g)| g.dirty) {
            let bytes: Vec<u8> = group.bits.iter().flat_map(|w| w.to_le_bytes()).collect();
            disk.write(i as u32 * GROUP, &bytes)?;
            group.dirty = false;
        }
        Ok(())
    }
}
