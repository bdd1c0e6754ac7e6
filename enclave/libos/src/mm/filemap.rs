//! Mappings and file content agree: what a mapping wrote is read by read(2), what write(2) and truncation change shows
//! in mappings.
//!
//! Shared mappings show arena pages, the file has pages of its own; bytes are copied at the calls where the difference
//! could be seen. Invariants: an arena page that no mapping shows is forgotten rather than left stale; truncation takes
//! every page beyond the new end away from all mappings, private copies included, as Linux does.
use super::copies;
use super::shared::SharedObject;
use super::shown::{What, showing};
use super::{Backing, MapFile, Mm, PAGE, Vma, page_ceil, page_floor, rights};
use crate::errno::{Errno, Result};
use crate::fs::Inode;
use crate::sched::Breath;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::ops::Range;
use occlum_linux_abi::mmap as mf;
use occlum_rt::bkl::BklCell;

/// Shared objects of files, by `Inode::object_id`.
pub(super) static BY_FILE: BklCell<BTreeMap<u64, Weak<SharedObject>>> = BklCell::new(BTreeMap::new());

/// Bytes that go to a file between looks at who else wants to get on.
const PIECE: u64 = 1 << 20;

/// One mapping somewhere in the enclave.
pub(super) struct Mapping {
    pub(super) mm: Arc<Mm>,
    start: u64,
    pub(super) vma: Vma,
    /// Offset in the file or object at `start`.
    pub(super) base: u64,
}

/// The object of a file that is mapped shared. Cheap while no file is.
fn object_of(inode: &dyn Inode) -> Option<Arc<SharedObject>> {
    if BY_FILE.with(BTreeMap::is_empty) {
        return None;
    }
    let id = inode.object_id();
    BY_FILE.with(|m| m.get(&id).and_then(Weak::upgrade))
}

fn mappings(what: What) -> impl Iterator<Item = Mapping> {
    showing(what).map(|(mm, start, vma)| Mapping { base: vma.backing.offset(), mm, start, vma })
}
pub(super) fn mappings_of(object: &Arc<SharedObject>) -> impl Iterator<Item = Mapping> {
    mappings(What::Object(Arc::as_ptr(object) as usize))
}

impl Mapping {
    /// The guest range that shows the file's bytes `r`.
    pub(super) fn guest_range(&self, r: Range<u64>) -> Range<u64> {
        let at = |off: u64| self.start.saturating_add(off.saturating_sub(self.base)).min(self.vma.end);
        at(r.start)..at(r.end)
    }
    /// The page that shows the file's page at `foff`, if it is resident.
    pub(super) fn resident_page(&self, foff: u64) -> Option<u64> {
        let at = self.start + foff.checked_sub(self.base)?;
        (at < self.vma.end && self.mm.is_resident(at)).then_some(at)
    }
}

/// Is the file mapped shared where it is, or may become, writable?
pub fn is_shared_writable(inode: &dyn Inode) -> bool {
    object_of(inode).is_some_and(|o| mappings_of(&o).any(|m| m.vma.may_write()))
}

/// What mappings wrote to the file's bytes `r` becomes visible to read(2).
pub fn before_read(inode: &dyn Inode, r: Range<u64>) {
    let Some(object) = object_of(inode) else { return };
    object.write_back(r.start / PAGE..r.end.div_ceil(PAGE));
}

/// What mappings wrote to the file's bytes from `from` on goes to the file. Others get on meanwhile.
pub fn write_back(inode: &dyn Inode, from: u64) {
    let Some(object) = object_of(inode) else { return };
    let (mut from, mut breath) = (from / PAGE, Breath::begin());
    while let Some(n) = object.next_page(from) {
        from = n + PIECE / PAGE;
        object.write_back(n..from);
        breath.take();
    }
}

/// What write(2) changed becomes visible in shared mappings.
pub fn after_write(inode: &dyn Inode, off: u64, len: u64) {
    let Some(object) = object_of(inode) else { return };
    object.code_range_changes(off / PAGE..(off + len) / PAGE + 1);
    if copies::is_on() {
        return object.rewritten(inode, off..off + len);
    }
    if len > 0 {
        refresh(inode, &object, off..off + len);
    }
}

/// Copies what changed of the file into the arena pages, through mappings that show them; an arena page that none shows
/// goes. What mappings wrote beside it stays; beyond the end of the file there are zeros.
fn refresh(inode: &dyn Inode, object: &Arc<SharedObject>, changed: Range<u64>) {
    /// Pages that are looked for at a time.
    const PAGES: u64 = 1 << 12;
    let end = (changed.end - 1) / PAGE + 1;
    for first in (changed.start / PAGE..end).step_by(PAGES as usize) {
        let mut left = object.pages_in(first..end.min(first + PAGES));
        for m in mappings_of(object) {
            left.retain(|n| match m.resident_page(n * PAGE) {
                Some(at) => {
                    refresh_page(inode, &m, at, n * PAGE, &changed);
                    false
                }
                None => true,
            });
            if left.is_empty() {
                break;
            }
        }
        left.into_iter().for_each(|n| object.forget(n..n + 1));
    }
}

fn refresh_page(inode: &dyn Inode, m: &Mapping, at: u64, foff: u64, changed: &Range<u64>) {
    let from = changed.start.max(foff);
    let mut bytes = [0u8; PAGE as usize];
    let bytes = &mut bytes[..(changed.end.min(foff + PAGE) - from) as usize];
    if inode.read_at(from, bytes).is_err() {
        return;
    }
    let to = at + (from - foff);
    let host = rights(m.vma.prot());
    // A page that was guarded may still be read-only where its mapping is writable.
    if host == 3 && m.mm.slot.write(to, bytes).is_ok() {
        return;
    }
    occlum_rt::vcpu::stop_others(m.mm.slot);
    if m.mm.protect(at..at + PAGE, 3, false, false).is_ok() {
        let _ = m.mm.slot.write(to, bytes);
        let _ = m.mm.protect(at..at + PAGE, host, false, false);
    }
}

/// The file is about to get `len` bytes. True: it was mapped and shrinks, so `after_truncate` has to follow.
pub fn before_truncate(inode: &dyn Inode, len: u64) -> bool {
    if !inode.mapped().is_some_and(BklCell::get) || inode.size() <= len {
        return false;
    }
    before_read(inode, page_floor(len)..len);
    for m in mappings(What::File(inode.object_id())) {
        m.drop_private(inode, len);
    }
    true
}

/// The file has `len` bytes now: shared pages beyond go, the rest of the last one is zero.
pub fn after_truncate(inode: &dyn Inode, len: u64) {
    let Some(object) = object_of(inode) else { return };
    let cut = page_ceil(len);
    object.code_range_changes(page_floor(len) / PAGE..cut / PAGE);
    object.drop_pages(cut..u64::MAX);
    if copies::is_on() {
        return object.overwrite(len / PAGE, |bytes| bytes[(len % PAGE) as usize..].fill(0));
    }
    if !len.is_multiple_of(PAGE) && object.has(len / PAGE) {
        refresh(inode, &object, len..cut);
    }
}

impl SharedObject {
    /// The next page from `from` on that there is.
    fn next_page(&self, from: u64) -> Option<u64> {
        if copies::is_on() { self.next_copy(from) } else { self.next_in_arena(from) }
    }

    /// What was written to these pages goes to the file. Each is read where it is shown first.
    fn write_back(self: &Arc<Self>, pages: Range<u64>) {
        if copies::is_on() {
            return self.clean(pages);
        }
        let Some(size) = self.file().map(MapFile::size) else { return };
        let mut from = pages.start;
        while let Some(first) = self.next_page(from).filter(|n| *n < pages.end) {
            from = pages.end.min(first + PIECE / PAGE);
            let mut left = self.pages_in(first..from);
            for m in mappings_of(self).filter(|m| m.vma.is_written()) {
                left.retain(|n| match m.resident_page(n * PAGE) {
                    Some(at) => {
                        m.mm.write_page_back(&m.vma, at, (n * PAGE, size));
                        false
                    }
                    None => true,
                });
                if left.is_empty() {
                    break;
                }
            }
        }
    }

    /// Nobody shows these pages any more; what is behind them comes again, which is zeros without a file.
    pub(super) fn drop_pages(self: &Arc<Self>, r: Range<u64>) {
        let pages = r.start / PAGE..r.end / PAGE;
        self.code_range_changes(pages.clone());
        if copies::is_on() {
            return self.forget_copies(pages);
        }
        for m in mappings_of(self) {
            m.mm.unalias(m.guest_range(r.clone()));
        }
        self.forget(pages);
    }
}

impl Mapping {
    /// Takes the private pages beyond `len` away, and the last one if it is no copy of its own yet.
    fn drop_private(&self, inode: &dyn Inode, len: u64) {
        let mut gone = self.guest_range(page_ceil(len)..u64::MAX);
        let last = page_floor(len);
        if let Some(at) = self.resident_page(last).filter(|_| !len.is_multiple_of(PAGE))
            && self.is_pristine(inode, at, last)
        {
            gone.start = at;
        }
        if gone.is_empty() {
            return;
        }
        if self.vma.prot() & mf::PROT_EXEC != 0 {
            self.mm.drop_translations(gone.clone());
        }
        self.mm.discard(gone);
    }

    /// Is the private page at `at` no copy of its own yet? Which pages were written is not recorded: those that can be
    /// count as written once their bytes are not the file's.
    fn is_pristine(&self, inode: &dyn Inode, at: u64, foff: u64) -> bool {
        if self.vma.is_pristine() {
            return true;
        }
        let (mut mine, mut file) = ([0u8; PAGE as usize], [0u8; PAGE as usize]);
        self.mm.slot.read(at, &mut mine).is_ok() && inode.read_at(foff, &mut file).is_ok() && mine == file
    }
}

impl Mm {
    /// msync: what shared mappings of files in the range wrote goes to the files. Others get on meanwhile. ENOMEM if the
    /// range has a hole, after the rest was done.
    pub fn sync(&self, r: Range<u64>, check: impl Fn(&Vma) -> Result<()>) -> Result<()> {
        let (mut at, mut breath, mut is_covered) = (r.start, Breath::begin(), true);
        while let Some((start, vma)) = self.first_in(at..r.end).filter(|_| at < r.end) {
            check(&vma)?;
            let from = start.max(at);
            is_covered &= from == at;
            let part = from..vma.end.min(r.end).min(from + PIECE);
            at = part.end;
            if let Backing::Shared(object, base, _) = &vma.backing {
                object.write_back(
                    (base + (part.start - start)) / PAGE..(base + (part.end - start)).div_ceil(PAGE),
                );
            }
            breath.take();
        }
        if is_covered && at >= r.end { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// A part of a shared mapping of a file goes: what was written through it goes to the file.
    pub(super) fn write_back(&self, start: u64, vma: &Vma, object: &SharedObject, r: Range<u64>) {
        let Some(size) = object.file().map(MapFile::size).filter(|_| vma.is_written()) else { return };
        for run in self.runs(r, true) {
            for at in run.step_by(PAGE as usize) {
                self.write_page_back(vma, at, (vma.backing.offset() + (at - start), size));
            }
        }
    }

    fn write_page_back(&self, vma: &Vma, at: u64, (off, size): (u64, u64)) {
        let Some(f) = vma.backing.file().filter(|_| off < size) else { return };
        let mut page = [0u8; PAGE as usize];
        let bytes = &mut page[..(size - off).min(PAGE) as usize];
        let is_hidden = rights(vma.prot()) == 0;
        if is_hidden {
            occlum_rt::vcpu::stop_others(self.slot);
            let _ = self.protect(at..at + PAGE, 1, false, false);
        }
        if self.slot.read(at, bytes).is_ok() {
            let _ = f.0.inode().write_at(off, bytes);
        }
        if is_hidden {
            let _ = self.protect(at..at + PAGE, 0, false, false);
        }
    }
}
