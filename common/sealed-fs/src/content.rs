//! Content of files: reading with read-ahead, writing into the cache, write-back, lengths, holes.
//!
//! An extent is an item with the first logical block and the number of blocks. Blocks of an extent that were never
//! written are zero (the disk says so), which is what preallocation needs.
use crate::fs::Fs;
use crate::item::{Key, Kind, Reader};
use crate::pages::{self, Page, PageId};
use crate::{Error, Result};
use alloc::vec::Vec;
use occlum_sealed_disk::{BLOCK, BlockDevice};

const PAGE: u64 = BLOCK as u64;
/// Longest file: block numbers are 32 bits.
pub(crate) const SIZE_MAX: u64 = PAGE * u32::MAX as u64;
/// Most blocks that are written back as one.
pub(crate) const RUN_MAX: u32 = 128;
/// Read-ahead: from this many blocks, doubled with each sequential read.
const AHEAD_MIN: u32 = 8;
const AHEAD_MAX: u32 = 128;

/// Blocks of a file that are neighbours on the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// First block of the file.
    pub(crate) at: u32,
    /// First logical block.
    pub(crate) block: u32,
    pub(crate) len: u32,
}

impl Extent {
    pub(crate) fn decode(key: &Key, value: &[u8]) -> Result<Self> {
        let mut r = Reader(value);
        let (block, len) = (r.u32()?, r.u32()?);
        let at = u32::try_from(key.at).map_err(|_| Error::Corrupt("an extent"))?;
        if len == 0 || at.checked_add(len).is_none() || block.checked_add(len).is_none() {
            return Err(Error::Corrupt("an extent"));
        }
        Ok(Self { at, block, len })
    }
    fn encode(&self) -> Vec<u8> {
        [self.block.to_le_bytes(), self.len.to_le_bytes()].concat()
    }
    fn end(&self) -> u32 {
        self.at + self.len
    }
}

fn whole_blocks(off: u64, len: u64) -> bool {
    off.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0
}

impl<D: BlockDevice> Fs<D> {
    /// The last extent that begins at or before a block of a file.
    fn extent_before(&mut self, ino: u64, at: u32) -> Result<Option<Extent>> {
        let key = Key::new(ino, Kind::Extent, u64::from(at));
        match self.tree.prev(&mut self.disk, &key)? {
            Some((key, value)) if key.ino == ino && key.kind == Kind::Extent => {
                Extent::decode(&key, &value).map(Some)
            }
            _ => Ok(None),
        }
    }
    /// The first extent that begins at or behind a block of a file.
    fn extent_after(&mut self, ino: u64, at: u32) -> Result<Option<Extent>> {
        let key = Key::new(ino, Kind::Extent, u64::from(at));
        match self.tree.next(&mut self.disk, &key)? {
            Some((key, value)) if key.ino == ino && key.kind == Kind::Extent => {
                Extent::decode(&key, &value).map(Some)
            }
            _ => Ok(None),
        }
    }
    /// Where `at` is on the disk and how many blocks go on like that; no block for a hole.
    fn lookup_block(&mut self, ino: u64, at: u32, max: u32) -> Result<(Option<u32>, u32)> {
        if let Some(e) = self.extent_before(ino, at)?
            && at < e.end()
        {
            return Ok((Some(e.block + (at - e.at)), max.min(e.end() - at)));
        }
        let next = self.extent_after(ino, at)?.map_or(u32::MAX, |e| e.at);
        Ok((None, max.min(next - at).max(1)))
    }
    fn put_extent(&mut self, ino: u64, e: Extent) -> Result<()> {
        let key = Key::new(ino, Kind::Extent, u64::from(e.at));
        self.tree.set(&mut self.disk, &mut self.space, key, e.encode())
    }
    fn remove_extent(&mut self, ino: u64, at: u32) -> Result<()> {
        let key = Key::new(ino, Kind::Extent, u64::from(at));
        self.tree.remove(&mut self.disk, &mut self.space, &key).map(drop)
    }
    /// Adds an extent where there is none, to the one before it if they are neighbours.
    fn add_extent(&mut self, ino: u64, new: Extent) -> Result<()> {
        let before = self.extent_before(ino, new.at)?;
        self.update(ino, |a| a.blocks += u64::from(new.len))?;
        match before {
            Some(e) if e.end() == new.at && e.block + e.len == new.block => {
                self.put_extent(ino, Extent { len: e.len + new.len, ..e })
            }
            _ => self.put_extent(ino, new),
        }
    }
    /// Makes blocks `[from, to)` of a file a hole.
    fn unmap(&mut self, ino: u64, from: u32, to: u32) -> Result<()> {
        let Some(last) = to.checked_sub(1) else { return Ok(()) };
        while let Some(e) = self.extent_before(ino, last)?.filter(|e| e.end() > from) {
            let (cut_from, cut_to) = (e.at.max(from), e.end().min(to));
            self.remove_extent(ino, e.at)?;
            if e.at < cut_from {
                self.put_extent(ino, Extent { len: cut_from - e.at, ..e })?;
            }
            if cut_to < e.end() {
                let block = e.block + (cut_to - e.at);
                self.put_extent(ino, Extent { at: cut_to, block, len: e.end() - cut_to })?;
            }
            self.space.free(&mut self.disk, e.block + (cut_from - e.at), cut_to - cut_from)?;
            self.update(ino, |a| a.blocks = a.blocks.saturating_sub(u64::from(cut_to - cut_from)))?;
        }
        Ok(())
    }

    /// Reads; short only at the end.
    pub fn read(&mut self, ino: u64, off: u64, buf: &mut [u8]) -> Result<usize> {
        let attr = self.attr(ino)?;
        if attr.is_dir() {
            return Err(Error::IsDirectory);
        }
        let len = buf.len().min(usize::try_from(attr.size.saturating_sub(off)).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < len {
            let pos = off + done as u64;
            let within = (pos % PAGE) as usize;
            let n = (BLOCK - within).min(len - done);
            let out = buf.get_mut(done..done + n).ok_or(Error::Invalid)?;
            let page = self.page(ino, (pos / PAGE) as u32, attr.size, (len - done).div_ceil(BLOCK))?;
            match page.as_ref().and_then(|p| p.get(within..within + n)) {
                Some(bytes) => out.copy_from_slice(bytes),
                None => out.fill(0),
            }
            done += n;
        }
        Ok(len)
    }

    /// The pages that hold `len` bytes from `off` on, and how many of the bytes there are: fewer at the end. No page is one
    /// of zeros.
    pub fn pages(&mut self, ino: u64, off: u64, len: usize) -> Result<(Vec<Option<Page>>, usize)> {
        let attr = self.attr(ino)?;
        if attr.is_dir() {
            return Err(Error::IsDirectory);
        }
        let len = len.min(usize::try_from(attr.size.saturating_sub(off)).unwrap_or(usize::MAX));
        let mut pages = Vec::new();
        let (first, end) = (off / PAGE, if len == 0 { 0 } else { (off + len as u64).div_ceil(PAGE) });
        for at in first..end {
            match self.page(ino, at as u32, attr.size, (end - at) as usize) {
                Ok(page) => pages.push(page),
                // What is before the damage can be read.
                Err(_) if !pages.is_empty() => return Ok((pages, (at * PAGE - off) as usize)),
                Err(e) => return Err(e),
            }
        }
        Ok((pages, len))
    }

    /// A page below the end of a file; `None` is one of zeros. `wanted` pages are needed from here on.
    fn page(&mut self, ino: u64, at: u32, size: u64, wanted: usize) -> Result<Option<Page>> {
        if let Some(page) = self.pages.get((ino, at)) {
            return Ok(Some(page.clone()));
        }
        self.fill(ino, at, (size.div_ceil(PAGE) - u64::from(at)) as u32, wanted)?;
        Ok(self.pages.get((ino, at)).cloned())
    }

    /// Reads blocks from `at` on into the cache: at least one, more if the reader is sequential.
    fn fill(&mut self, ino: u64, at: u32, to_end: u32, wanted: usize) -> Result<()> {
        let inode = self.inode(ino)?;
        let (next, window) = inode.ahead;
        let window = if next == at { (window * 2).clamp(AHEAD_MIN, AHEAD_MAX) } else { 1 };
        let want = window.max(wanted.min(AHEAD_MAX as usize) as u32).min(to_end.max(1));
        let (block, len) = self.lookup_block(ino, at, want)?;
        let len = (1..len).find(|i| self.pages.has((ino, at + i))).unwrap_or(len);
        self.inode(ino)?.ahead = (at + len, window);
        let Some(block) = block else { return Ok(()) };
        if window > 1 {
            self.pages.pass(ino, u64::from(at) + u64::from(to_end), at, len);
        }
        let mut fresh = (0..len).map(|_| self.pages.buffer()).collect::<Result<Vec<_>>>()?;
        let mut blocks: Vec<&mut [u8]> = fresh.iter_mut().map(|b| &mut b[..]).collect();
        // What a sequential reader wants next mostly lies behind it on the device, too.
        let next = if window > 1 { (2 * window).min(to_end.saturating_sub(len)) } else { 0 };
        let read = match self.disk.read_blocks(block, &mut blocks, next) {
            // Damage in what nobody asked for yet is not this reader's.
            Err(_) if len > 1 => {
                blocks.truncate(1);
                self.disk.read_blocks(block, &mut blocks, 0)?;
                1
            }
            other => other.map(|()| blocks.len())?,
        };
        fresh.truncate(read);
        // The page that is wanted goes in last: no insertion evicts the one before it.
        for (i, bytes) in fresh.into_iter().enumerate().rev() {
            self.pages.insert((ino, at + i as u32), bytes);
        }
        Ok(())
    }

    /// The page, in the cache and to be changed.
    fn page_mut(&mut self, id: PageId) -> Result<&mut [u8]> {
        if !self.pages.has(id) {
            self.fill(id.0, id.1, 1, 1)?;
        }
        if !self.pages.has(id) {
            self.pages.insert(id, pages::zeros()?);
        }
        self.pages.get_mut(id)
    }

    /// Writes; short if the store gets full on the way.
    pub fn write(&mut self, ino: u64, off: u64, data: &[u8], now: i64) -> Result<usize> {
        let attr = self.attr(ino)?;
        if attr.is_dir() {
            return Err(Error::IsDirectory);
        }
        if off.checked_add(data.len() as u64).is_none_or(|end| end > SIZE_MAX) {
            return Err(Error::TooLarge);
        }
        let mut done = 0;
        // In pieces, so that the bounds on dirty pages hold on the way.
        while done < data.len() {
            let piece = data.get(done..data.len().min(done + 64 * BLOCK)).unwrap_or_default();
            match self.admit(piece.len() as u64 / PAGE + 2) {
                Err(Error::NoSpace) if done > 0 => break,
                other => other?,
            }
            let pos = off + done as u64;
            self.page_in(ino, pos)?;
            self.page_in(ino, pos + piece.len() as u64)?;
            self.change(|fs| fs.write_piece(ino, pos, piece, now))?;
            done += piece.len();
        }
        Ok(done)
    }
    /// Reads the page around `off`, if a change that begins or ends there needs what it has: a page that cannot be
    /// read is then this file's trouble, not that of an operation half done.
    fn page_in(&mut self, ino: u64, off: u64) -> Result<()> {
        let at = (off / PAGE) as u32;
        if off.is_multiple_of(PAGE)
            || off >= self.attr(ino)?.size.next_multiple_of(PAGE)
            || self.pages.has((ino, at))
        {
            return Ok(());
        }
        self.fill(ino, at, 1, 1)
    }
    fn write_piece(&mut self, ino: u64, off: u64, data: &[u8], now: i64) -> Result<()> {
        let mut done = 0;
        while done < data.len() {
            let pos = off + done as u64;
            let within = (pos % PAGE) as usize;
            let n = (BLOCK - within).min(data.len() - done);
            let (id, from) = ((ino, (pos / PAGE) as u32), data.get(done..done + n).unwrap_or_default());
            done += n;
            if n == BLOCK && !self.pages.has(id) {
                let page = self.pages.copy(from)?;
                self.pages.insert(id, page);
                self.pages.get_mut(id)?;
            } else if let Some(to) = self.page_mut(id)?.get_mut(within..within + n) {
                to.copy_from_slice(from);
            }
        }
        self.update(ino, |a| {
            a.size = a.size.max(off + data.len() as u64);
            (a.mtime, a.ctime) = (now, now);
        })
    }

    /// Writes the dirty pages; they are part of the disk's transaction then.
    pub(crate) fn write_back(&mut self) -> Result<()> {
        let mut from = (0, 0);
        while let Some(((ino, at), count)) = self.pages.dirty_run(from, RUN_MAX) {
            let (block, len) = match self.lookup_block(ino, at, count)? {
                (Some(block), len) => (block, len),
                (None, len) => {
                    let (block, len) = self.space.allocate(len)?;
                    self.add_extent(ino, Extent { at, block, len })?;
                    (block, len)
                }
            };
            for i in 0..len {
                let page = self.pages.peek((ino, at + i)).ok_or(Error::Corrupt("a dirty page"))?;
                self.disk.write(block + i, page)?;
            }
            self.pages.clean((ino, at), len);
            if len == RUN_MAX {
                let size = self.attr(ino).map_or(0, |a| a.size.div_ceil(PAGE));
                self.pages.pass(ino, size, at, len);
            }
            from = (ino, at + len);
        }
        Ok(())
    }

    /// Sets the length.
    pub fn truncate(&mut self, ino: u64, size: u64, now: i64) -> Result<()> {
        if size > SIZE_MAX {
            return Err(Error::TooLarge);
        }
        if self.attr(ino)?.is_dir() {
            return Err(Error::IsDirectory);
        }
        self.admit_small();
        self.page_in(ino, size)?;
        self.change(|fs| {
            let old = fs.attr(ino)?.size;
            if size < old {
                fs.cut(ino, size)?;
            }
            fs.update(ino, |a| {
                a.size = size;
                (a.mtime, a.ctime) = (now, now);
            })
        })
    }
    /// Drops everything from `size` on.
    pub(crate) fn cut(&mut self, ino: u64, size: u64) -> Result<()> {
        let first = size.div_ceil(PAGE) as u32;
        self.zero_within(ino, size, u64::from(first) * PAGE)?;
        self.pages.drop_range(ino, first, u32::MAX);
        self.unmap(ino, first, u32::MAX)
    }
    /// Zeroes a range within one page, if there is anything.
    fn zero_within(&mut self, ino: u64, from: u64, to: u64) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let (at, within) = ((from / PAGE) as u32, (from % PAGE) as usize);
        if !self.pages.has((ino, at)) && self.lookup_block(ino, at, 1)?.0.is_none() {
            return Ok(());
        }
        let n = (to - from) as usize;
        if let Some(bytes) = self.page_mut((ino, at))?.get_mut(within..within + n) {
            bytes.fill(0);
        }
        Ok(())
    }
    /// Room for an operation that frees more than it takes is not asked for, but tried for.
    pub(crate) fn admit_small(&mut self) {
        let _ = self.admit(1);
    }

    /// Makes `[off, off+len)` a hole; the length stays.
    pub fn punch(&mut self, ino: u64, off: u64, len: u64, now: i64) -> Result<()> {
        let size = self.attr(ino)?.size;
        let end = off.checked_add(len).ok_or(Error::TooLarge)?.min(size.next_multiple_of(PAGE));
        self.admit_small();
        self.page_in(ino, off)?;
        self.page_in(ino, end)?;
        self.change(|fs| {
            let (first, last) = (off.div_ceil(PAGE), end / PAGE);
            if first > last || off >= end {
                fs.zero_within(ino, off, end.max(off))?;
            } else {
                fs.zero_within(ino, off, first * PAGE)?;
                fs.zero_within(ino, last * PAGE, end)?;
                if first < last {
                    fs.pages.drop_range(ino, first as u32, last as u32 - 1);
                    fs.unmap(ino, first as u32, last as u32)?;
                }
            }
            fs.update(ino, |a| (a.mtime, a.ctime) = (now, now))
        })
    }

    /// Takes `[off, off+len)` out of a file; what is behind moves up. Both in whole blocks, and not to the end.
    pub fn collapse(&mut self, ino: u64, off: u64, len: u64, now: i64) -> Result<()> {
        let size = self.attr(ino)?.size;
        if !whole_blocks(off, len) || off.checked_add(len).is_none_or(|end| end >= size) {
            return Err(Error::Invalid);
        }
        self.admit_small();
        self.write_back()?;
        self.change(|fs| {
            let (first, count) = ((off / PAGE) as u32, (len / PAGE) as u32);
            fs.pages.drop_range(ino, first, u32::MAX);
            fs.unmap(ino, first, first + count)?;
            let mut at = first + count;
            while let Some(e) = fs.extent_after(ino, at)? {
                fs.move_extent(ino, e, e.at - count)?;
                at = e.end();
            }
            fs.update(ino, |a| (a.size, a.mtime, a.ctime) = (size - len, now, now))
        })
    }
    /// Makes room for `[off, off+len)` within a file, a hole; what was there moves back. Both in whole blocks.
    pub fn insert(&mut self, ino: u64, off: u64, len: u64, now: i64) -> Result<()> {
        let size = self.attr(ino)?.size;
        if !whole_blocks(off, len) || off >= size {
            return Err(Error::Invalid);
        }
        let last = self.extent_before(ino, u32::MAX)?.map_or(0, |e| u64::from(e.end()) * PAGE);
        if size.max(last).checked_add(len).is_none_or(|end| end > SIZE_MAX) {
            return Err(Error::TooLarge);
        }
        self.admit(1)?;
        self.write_back()?;
        self.change(|fs| {
            let (first, count) = ((off / PAGE) as u32, (len / PAGE) as u32);
            fs.pages.drop_range(ino, first, u32::MAX);
            if let Some(e) = fs.extent_before(ino, first)?.filter(|e| e.at < first && first < e.end()) {
                let before = first - e.at;
                fs.put_extent(ino, Extent { len: before, ..e })?;
                fs.put_extent(ino, Extent { at: first, block: e.block + before, len: e.len - before })?;
            }
            let mut last = u32::MAX;
            while let Some(e) = fs.extent_before(ino, last)?.filter(|e| e.at >= first) {
                fs.move_extent(ino, e, e.at + count)?;
                match e.at.checked_sub(1) {
                    Some(below) => last = below,
                    None => break,
                }
            }
            fs.update(ino, |a| (a.size, a.mtime, a.ctime) = (size + len, now, now))
        })
    }
    fn move_extent(&mut self, ino: u64, e: Extent, to: u32) -> Result<()> {
        self.remove_extent(ino, e.at)?;
        self.update(ino, |a| a.blocks = a.blocks.saturating_sub(u64::from(e.len)))?;
        self.add_extent(ino, Extent { at: to, ..e })
    }

    /// Gives `[off, off+len)` blocks of its own; `extend` makes the file that long.
    pub fn allocate(&mut self, ino: u64, off: u64, len: u64, extend: bool, now: i64) -> Result<()> {
        let end = off.checked_add(len).filter(|e| *e <= SIZE_MAX).ok_or(Error::TooLarge)?;
        self.admit(len.div_ceil(PAGE))?;
        self.change(|fs| {
            let (mut at, last) = ((off / PAGE) as u32, end.div_ceil(PAGE) as u32);
            while at < last {
                let (block, mut len) = fs.lookup_block(ino, at, last - at)?;
                if block.is_none() {
                    let (block, got) = fs.space.allocate(len)?;
                    fs.add_extent(ino, Extent { at, block, len: got })?;
                    len = got;
                }
                at += len;
            }
            fs.update(ino, |a| {
                a.size = if extend { a.size.max(end) } else { a.size };
                (a.mtime, a.ctime) = (now, now);
            })
        })
    }

    /// The next data (or hole) at or behind `off`; `None` beyond the end.
    pub fn seek(&mut self, ino: u64, off: u64, data: bool) -> Result<Option<u64>> {
        let size = self.attr(ino)?.size;
        let mut pos = off;
        while pos < size {
            let at = (pos / PAGE) as u32;
            let (block, len) = self.lookup_block(ino, at, u32::MAX - at)?;
            let (is_data, len) = match (block, self.pages.is_dirty((ino, at))) {
                (Some(_), _) => (true, len),
                (None, true) => (true, 1),
                (None, false) => {
                    let dirty = self.pages.next_dirty(ino, at).map_or(u32::MAX, |d| d - at);
                    (false, len.min(dirty))
                }
            };
            if is_data == data {
                return Ok(Some(pos));
            }
            pos = (u64::from(at) + u64::from(len)) * PAGE;
        }
        Ok(if data || off >= size { None } else { Some(size) })
    }
}
