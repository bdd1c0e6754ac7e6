//! Content of a file in memory: 4 KiB pages, either the file's own (dirty) or copies of those of a file below
//! (clean).
//!
//! Clean pages are filled in pieces that grow with sequential access, and dropped file by file when the cache
//! is over its budget. Host descriptors are opened at the first fill and kept, at most `FDS_MAX` of them.
//! Invariants: pages below `lower_len` that are absent have the bytes below, all other absent pages are
//! zero.
use super::below::Below;
use super::host::{self, At};
use super::prelude::*;
use super::uio::try_vec;
use crate::sched::later;
use occlum_rt::mem::TryGrow;

/// A page of zeros.
pub static ZERO_PAGE: [u8; PAGE as usize] = [0; PAGE as usize];
const FDS_MAX: usize = 200;
const FILL_MIN: u64 = 8;
const FILL_MAX: u64 = 64;
/// More of the enclave's pages than one in so many make a cache that is of use.
const MANY_PART: u64 = 16;
/// So many of the enclave's pages, one in so many, are read again before it counts as thrashing.
const THRASH_PART: u64 = 4;

/// One page.
pub struct Page {
    data: BklCell<Arc<Vec<u8>>>,
    dirty: BklCell<bool>,
}
/// Pages of files' own, which end with no process.
static OWN: BklCell<u64> = BklCell::new(0);
/// May files keep `bytes` more, those of `nodes` names included? A quarter of the memory is for programs.
pub fn may_keep(bytes: u64, nodes: u64) -> Result<()> {
    let kept = OWN.get() * PAGE + nodes * (1 << 10);
    if (kept + bytes) / PAGE > crate::mm::total() / 4 * 3 { Err(ENOSPC) } else { Ok(()) }
}

impl Drop for Page {
    fn drop(&mut self) {
        OWN.with_mut(|n| *n -= u64::from(self.dirty.get()));
    }
}
impl Page {
    fn new(data: Vec<u8>, dirty: bool) -> Arc<Self> {
        OWN.with_mut(|n| *n += u64::from(dirty));
        Arc::new(Self { data: BklCell::new(Arc::new(data)), dirty: BklCell::new(dirty) })
    }
    /// The content. Who has it while user memory is touched keeps it: a fault there may write to this very page.
    pub fn bytes(&self) -> Arc<Vec<u8>> {
        self.data.with(Clone::clone)
    }
    fn change(&self, within: core::ops::Range<usize>, f: impl FnOnce(&mut [u8])) {
        self.data.with_mut(|d| f(&mut Arc::make_mut(d)[within]));
    }
}

struct State {
    map: BTreeMap<u64, Arc<Page>>,
    size: u64,
    version: u64,
    clean: u64,
    lower_len: u64,
    next_fill: u64,
    window: u64,
    listed: bool,
    /// Digests of clean pages that were dropped: the host may give other bytes the next time.
    dropped: BTreeMap<u64, u64>,
}

struct Lower {
    of: Below,
    /// Of a host file, while it is open.
    fd: BklCell<Option<u32>>,
}
impl Drop for Lower {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            host::close(fd);
        }
    }
}

/// The pages of one file.
pub struct Pages {
    lower: Option<Arc<Lower>>,
    state: Arc<BklCell<State>>,
}

struct Cache {
    /// Bytes of clean pages of all files, and how many there may be.
    bytes: u64,
    budget: u64,
    files: VecDeque<Weak<BklCell<State>>>,
    fds: VecDeque<Weak<Lower>>,
}
static CACHE: BklCell<Cache> =
    BklCell::new(Cache { bytes: 0, budget: 512 << 20, files: VecDeque::new(), fds: VecDeque::new() });

/// Sets how many bytes of clean pages are kept.
pub fn set_budget(bytes: u64) {
    CACHE.with_mut(|c| c.budget = bytes);
}
/// Bytes of clean pages now.
pub fn cached_bytes() -> u64 {
    CACHE.with(|c| c.bytes)
}

/// Pages that were read again because `reclaim` had dropped them, since it last found many.
static READ_AGAIN: BklCell<u64> = BklCell::new(0);

/// Are files read again and again, because programs leave no room to keep them?
pub fn is_thrashing() -> bool {
    READ_AGAIN.get() > crate::mm::total() / THRASH_PART
}
/// Somebody makes room.
pub fn thrashing_ends() {
    READ_AGAIN.set(0);
}

/// Drops all clean pages.
pub fn reclaim() {
    if cached_bytes() / PAGE > crate::mm::total() / MANY_PART {
        READ_AGAIN.set(0);
    }
    let budget = CACHE.with_mut(|c| core::mem::replace(&mut c.budget, 0));
    shrink(None);
    set_budget(budget);
}
/// Is there memory for `pages` more pages and what hangs on them? Drops clean pages if not.
fn make_room(pages: u64) -> bool {
    crate::mm::admit(pages * (PAGE + 128)).is_ok()
}

/// A digest to tell changed bytes by; its seed is the enclave's secret.
fn digest(bytes: &[u8]) -> u64 {
    static SEED: BklCell<u64> = BklCell::new(0);
    if SEED.get() == 0 {
        let mut seed = [0; 8];
        occlum_rt::random::fill(&mut seed);
        SEED.set(u64::from_le_bytes(seed) | 1);
    }
    let words = bytes.chunks_exact(8).map(|w| u64::from_le_bytes(core::array::from_fn(|i| w[i])));
    words.fold(SEED.get(), |h, w| (h ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}

fn shrink(keep: Option<&Arc<BklCell<State>>>) {
    let turns = CACHE.with(|c| c.files.len());
    for _ in 0..turns {
        let Some(file) = CACHE.with_mut(|c| if c.bytes > c.budget { c.files.pop_front() } else { None })
        else {
            return;
        };
        let Some(file) = file.upgrade() else { continue };
        if keep.is_some_and(|k| Arc::ptr_eq(&file, k)) {
            CACHE.with_mut(|c| c.files.push_back(Arc::downgrade(&file)));
            continue;
        }
        file.with_mut(|s| {
            let State { map, dropped, .. } = s;
            map.retain(|i, p| {
                let keep = p.dirty.get();
                if !keep {
                    dropped.insert(*i, digest(&p.bytes()));
                }
                keep
            });
            let n = core::mem::take(&mut s.clean);
            s.listed = false;
            CACHE.with_mut(|c| c.bytes -= n * PAGE);
        });
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let n = self.clean * PAGE;
        CACHE.with_mut(|c| c.bytes -= n);
        later::use_up(core::mem::take(&mut self.map), drop);
    }
}

impl Lower {
    fn read(self: &Arc<Self>, off: u64, buf: &mut [u8]) -> Result<usize> {
        match &self.of {
            Below::Host(top, path) => super::cold::pread(self.open(At::beneath(top, path))?, off, buf),
            image => image.read_image(off, buf),
        }
    }
    fn open(self: &Arc<Self>, at: At) -> Result<u32> {
        if let Some(fd) = self.fd.get() {
            return Ok(fd);
        }
        let fd = host::open(at, O_RDONLY, 0)?;
        self.fd.set(Some(fd));
        let old = CACHE.with_mut(|c| {
            c.fds.push_back(Arc::downgrade(self));
            if c.fds.len() > FDS_MAX { c.fds.pop_front() } else { None }
        });
        if let Some(fd) = old.and_then(|w| w.upgrade()).and_then(|l| l.fd.take()) {
            host::close(fd);
        }
        Ok(fd)
    }
}

impl Pages {
    /// A file of `size` bytes, over a file below or (if `None`) of zeros.
    pub fn new(lower: Option<Below>, size: u64) -> Self {
        let lower_len = if lower.is_some() { size } else { 0 };
        Self {
            lower: lower.map(|of| Arc::new(Lower { of, fd: BklCell::new(None) })),
            state: Arc::new(BklCell::new(State {
                map: BTreeMap::new(),
                size,
                version: 0,
                clean: 0,
                lower_len,
                next_fill: u64::MAX,
                window: FILL_MIN,
                listed: false,
                dropped: BTreeMap::new(),
            })),
        }
    }
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.state.with(|s| s.size)
    }
    /// Changes with the content.
    pub fn version(&self) -> u64 {
        self.state.with(|s| s.version)
    }
    /// 512-byte blocks for `stat`.
    pub fn resident_blocks(&self, lower_blocks: u64) -> u64 {
        let pages = self.state.with(|s| s.map.len() as u64) * 8;
        if self.state.with(|s| s.lower_len) > 0 { lower_blocks.max(pages) } else { pages }
    }
    /// Pages in memory.
    pub fn resident(&self) -> u64 {
        self.state.with(|s| s.map.len() as u64)
    }
    /// Those of them that are in this part of the file.
    pub fn resident_in(&self, pages: core::ops::RangeInclusive<u64>) -> u64 {
        if pages.is_empty() { 0 } else { self.state.with(|s| s.map.range(pages).count() as u64) }
    }
    /// How much of a write of `len` bytes at `off` needs no more than `room` new pages.
    pub fn fitting(&self, off: u64, len: usize, room: u64) -> usize {
        let mut left = room;
        let end = off.saturating_add(len as u64);
        let mut at = off;
        while at < end {
            if !self.state.with(|s| s.map.contains_key(&(at / PAGE))) {
                if left == 0 {
                    break;
                }
                left -= 1;
            }
            at = (at / PAGE + 1) * PAGE;
        }
        (at.min(end) - off) as usize
    }
    /// Can the host file be read at all? Asked at open, so that the error is reported there.
    pub fn check_host(&self) -> Result<()> {
        let Some(lower) = &self.lower else { return Ok(()) };
        match &lower.of {
            Below::Host(top, path) if self.state.with(|s| s.lower_len > 0) => {
                lower.open(At::beneath(top, path)).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// The page, filled from the host if it must be; `None` is a page of zeros.
    pub fn page(&self, index: u64) -> Result<Option<Arc<Page>>> {
        let (hit, lower_len) = self.state.with(|s| (s.map.get(&index).cloned(), s.lower_len));
        if hit.is_some() || index * PAGE >= lower_len {
            return Ok(hit);
        }
        self.fill(index)?;
        Ok(self.state.with(|s| s.map.get(&index).cloned()))
    }

    fn fill(&self, index: u64) -> Result<()> {
        let Some(lower) = &self.lower else { return Ok(()) };
        let (count, len) = self.state.with_mut(|s| {
            s.window = if s.next_fill == index { (s.window * 2).min(FILL_MAX) } else { FILL_MIN };
            let pages = (s.lower_len - index * PAGE).div_ceil(PAGE);
            let free =
                (0..s.window.min(pages)).take_while(|i| !s.map.contains_key(&(index + i))).count() as u64;
            s.next_fill = index + free;
            (free, (free * PAGE).min(s.lower_len - index * PAGE))
        });
        let (count, len) = match (make_room(2 * count), crate::mm::admit_last().is_ok()) {
            (true, _) => (count, len),
            (false, true) => (1, len.min(PAGE)),
            (false, false) => return Err(ENOMEM),
        };
        let mut buf = try_vec((count * PAGE) as usize)?;
        let mut got = 0;
        while got < len as usize {
            match lower.read(index * PAGE + got as u64, &mut buf[got..len as usize])? {
                // A host file became shorter: the rest reads as zeros.
                0 => break,
                n => got += n,
            }
        }
        for (i, chunk) in buf.chunks_exact(PAGE as usize).enumerate() {
            let mut data = Vec::new();
            data.try_room_exact(chunk.len()).map_err(|_| ENOMEM)?;
            data.extend_from_slice(chunk);
            self.state.with_mut(|s| {
                if let Some(before) = s.dropped.remove(&(index + i as u64)) {
                    READ_AGAIN.with_mut(|n| *n += 1);
                    // Other bytes than before: whoever keyed something by this content starts afresh.
                    s.version += u64::from(before != digest(&data));
                }
                s.map.insert(index + i as u64, Page::new(data, false));
                s.clean += 1;
            });
            CACHE.with_mut(|c| c.bytes += PAGE);
        }
        if !self.state.with_mut(|s| core::mem::replace(&mut s.listed, true)) {
            CACHE.with_mut(|c| c.files.push_back(Arc::downgrade(&self.state)));
        }
        shrink(Some(&self.state));
        Ok(())
    }

    /// The page for writing.
    fn page_mut(&self, index: u64, whole: bool) -> Result<Arc<Page>> {
        let page = if whole { self.state.with(|s| s.map.get(&index).cloned()) } else { self.page(index)? };
        if page.as_ref().is_none_or(|p| !p.dirty.get()) {
            may_keep(PAGE, super::memfs::node_count())?;
        }
        if let Some(p) = page {
            if !p.dirty.replace(true) {
                OWN.with_mut(|n| *n += 1);
                self.state.with_mut(|s| s.clean -= 1);
                CACHE.with_mut(|c| c.bytes -= PAGE);
            }
            return Ok(p);
        }
        if !make_room(1) {
            return Err(ENOSPC);
        }
        let p = Page::new(try_vec(PAGE as usize).map_err(|_| ENOSPC)?, true);
        self.state.with_mut(|s| s.map.insert(index, p.clone()));
        Ok(p)
    }

    /// Writes `data`; short only if memory runs out.
    pub fn write(&self, off: u64, data: &[u8]) -> Result<usize> {
        if off.saturating_add(data.len() as u64) > FILE_MAX {
            return Err(EFBIG);
        }
        let mut done = 0;
        while done < data.len() {
            let pos = off + done as u64;
            let within = (pos % PAGE) as usize;
            let n = (PAGE as usize - within).min(data.len() - done);
            let page = match self.page_mut(pos / PAGE, n == PAGE as usize) {
                Ok(p) => p,
                Err(e) => return super::uio::partial(done, e),
            };
            page.change(within..within + n, |d| d.copy_from_slice(&data[done..done + n]));
            done += n;
            self.state.with_mut(|s| {
                s.size = s.size.max(pos + n as u64);
                s.version += 1;
            });
        }
        Ok(done)
    }

    /// Sets the length; what is cut off is gone for good.
    pub fn truncate(&self, len: u64) -> Result<()> {
        if len > FILE_MAX {
            return Err(EFBIG);
        }
        let size = self.size();
        if len < size {
            self.zero(len, size.min(len.next_multiple_of(PAGE)))?;
            let cut = self.state.with_mut(|s| {
                let cut = s.map.split_off(&len.div_ceil(PAGE));
                let clean = cut.values().filter(|p| !p.dirty.get()).count() as u64;
                s.clean -= clean;
                s.lower_len = s.lower_len.min(len.next_multiple_of(PAGE));
                CACHE.with_mut(|c| c.bytes -= clean * PAGE);
                cut
            });
            later::use_up(cut, drop);
        }
        self.state.with_mut(|s| {
            s.size = len;
            s.lower_len = if len == 0 { 0 } else { s.lower_len };
            s.version += 1;
        });
        Ok(())
    }

    /// Zeroes `[off, end)` without changing the length.
    pub fn zero(&self, off: u64, end: u64) -> Result<()> {
        let mut pos = off;
        while pos < end {
            let n = (PAGE - pos % PAGE).min(end - pos);
            let here = pos / PAGE;
            // Straight to the next page that is not zero anyway.
            let next = self.state.with(|s| {
                if pos < s.lower_len { Some(here) } else { s.map.range(here..).next().map(|(i, _)| *i) }
            });
            match next {
                None => break,
                Some(i) if i > here => {
                    pos = i * PAGE;
                    continue;
                }
                Some(_) => {}
            }
            let within = (pos % PAGE) as usize;
            let page = self.page_mut(here, n == PAGE)?;
            page.change(within..within + n as usize, |d| d.fill(0));
            pos += n;
        }
        self.state.with_mut(|s| s.version += 1);
        Ok(())
    }

    /// Next offset at or after `off` with data (`data`) or a hole, for SEEK_DATA and SEEK_HOLE.
    pub fn seek(&self, off: u64, data: bool) -> Option<u64> {
        self.state.with(|s| {
            if off >= s.size {
                return None;
            }
            let mut page = off / PAGE;
            loop {
                let start = (page * PAGE).max(off);
                if start >= s.size {
                    return if data { None } else { Some(s.size) };
                }
                let present = s.map.contains_key(&page) || page * PAGE < s.lower_len;
                if present == data {
                    return Some(start);
                }
                page = match (data, s.map.range(page..).next()) {
                    (true, Some((next, _))) if *next > page => *next,
                    (true, None) => return None,
                    _ => page + 1,
                };
            }
        })
    }
}
