//! A domain's memory: the vma set, which pages are resident, faults, mmap and friends, fork's copy, the page budget.
//!
//! Neighbours: `rt::slot` (page rights and copies), `code` (translations of executable vmas), `fs` (file content).
//! Invariants: vmas do not overlap and lie in [MAP_MIN, MAP_MAX); a page that is not resident has no rights at the host
//! and reads zero when it gets them; every resident private page is charged to the enclave's budget once.
use crate::code::Region;
use crate::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use occlum_enclave_abi::Ocall;
use occlum_linux_abi::mmap as mf;
use occlum_rt::bkl::BklCell;
use occlum_rt::slot::Slot;
use occlum_sfi_spec::domain::{self, EXEC_MAX, MAP_MAX, MAP_MIN};

/// Page size.
pub const PAGE: u64 = 4096;
/// Pages brought in at one fault (of a small vma; larger ones take more).
const FAULT_PAGES: u64 = 16;

/// Kind of access that faulted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
    /// Instruction fetch (translation).
    Exec,
}

/// Why a fault can't be resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// No mapping: SIGSEGV, SEGV_MAPERR.
    NotMapped,
    /// Mapping without that right: SIGSEGV, SEGV_ACCERR.
    Denied,
    /// Beyond the end of the file: SIGBUS, BUS_ADRERR.
    PastEof,
    /// The enclave's memory is used up.
    OutOfMemory,
}

/// Memory shared between mappings and processes: pages of the backend's shared arena.
pub struct SharedObject {
    /// Arena page by page index of the object.
    pages: BklCell<BTreeMap<u64, u64>>,
    file: Option<MapFile>,
    written: BklCell<bool>,
}

/// A file behind a mapping.
#[derive(Clone)]
pub struct MapFile(pub Arc<crate::fs::OpenFile>);
impl MapFile {
    fn read_at(&self, off: u64, buf: &mut [u8]) -> Result<usize> {
        self.0.inode().read_at(off, buf)
    }
    fn size(&self) -> u64 {
        self.0.inode().size()
    }
    /// Identity and version of the content (R26).
    pub fn id(&self) -> (u64, u64) {
        self.0.inode().file_id()
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
    /// Shared object from this page-aligned offset.
    Shared(Arc<SharedObject>, u64),
}

/// A mapping.
#[derive(Clone)]
pub struct Vma {
    /// Exclusive end.
    pub end: u64,
    /// PROT_*.
    pub prot: u32,
    /// Content.
    pub backing: Backing,
    /// Name shown in maps ("[heap]", "[stack]").
    pub name: &'static str,
    /// Translations, once something ran.
    pub region: Option<Arc<Region>>,
    /// Was writable at some time: its translations are this process's own.
    pub private_code: bool,
}
impl Vma {
    fn shifted(&self, by: u64) -> Backing {
        match &self.backing {
            Backing::Anon => Backing::Anon,
            Backing::File(f, o) => Backing::File(f.clone(), o + by),
            Backing::Shared(s, o) => Backing::Shared(s.clone(), o + by),
        }
    }
    fn is_shared(&self) -> bool {
        matches!(self.backing, Backing::Shared(..))
    }
}

/// Where exec put things, for brk and /proc.
#[derive(Clone, Default)]
pub struct Layout {
    /// Start of the heap.
    pub brk_start: u64,
    /// Its end now.
    pub brk: u64,
    /// Initial stack pointer.
    pub stack_top: u64,
    /// Bytes of argv on the stack.
    pub args: Range<u64>,
    /// Bytes of envp on the stack.
    pub env: Range<u64>,
    /// The auxiliary vector as written.
    pub auxv: Vec<u8>,
    /// Code range of the program.
    pub code: Range<u64>,
}

struct Inner {
    vmas: BTreeMap<u64, Vma>,
    /// Bitmap of 64 pages by start / 256 KiB.
    resident: BTreeMap<u64, u64>,
    layout: Layout,
}

/// A domain in use.
pub struct Mm {
    slot: Slot,
    inner: BklCell<Inner>,
    /// Most pages it ever had.
    pub peak_pages: BklCell<u64>,
    pages: BklCell<u64>,
    affinity: Affinity,
    /// Table entries from the slot's last process, valid once the same region is mapped at the same place.
    retained: BklCell<Vec<Retained>>,
    /// File pages that the slot still holds, without rights.
    parked: BklCell<Vec<Parked>>,
    /// Regions whose entries the tables hold now.
    filled: BklCell<Vec<Retained>>,
}

struct Budget {
    used: u64,
    limit: u64,
    free_slots: Vec<FreeSlot>,
    next_slot: u32,
    arena_free: Vec<u64>,
    arena_next: u64,
}
/// Program identity that a slot's lookup tables were filled for.
pub type Affinity = (u64, u64);

/// A mapping whose table entries a slot still holds: guest range and region.
type Retained = (u64, u64, u64);

/// A free slot: the filled tables of the program it ran (P1), and pages for the next process of that program.
struct FreeSlot {
    index: u32,
    affinity: Affinity,
    retained: Vec<Retained>,
    parked: Vec<Parked>,
}

/// Pages that stay in a slot for the next process that maps the same there.
#[derive(Clone)]
struct Parked {
    range: Range<u64>,
    held: Held,
    /// Rights at the host now.
    host: u32,
}

/// What parked pages hold.
#[derive(Clone, Copy)]
enum Held {
    /// Clean pages of this file and version, from this file offset.
    File((u64, u64), u64),
    /// What the last process left: zeroed or overwritten before anybody can see it (M6).
    Dirty,
}

impl Parked {
    fn pages(&self) -> u64 {
        (self.range.end - self.range.start) / PAGE
    }
    /// The part of it inside `r`.
    fn part(&self, r: Range<u64>) -> Parked {
        let range = self.range.start.max(r.start)..self.range.end.min(r.end);
        let held = match self.held {
            Held::File(file, off) => Held::File(file, off + (range.start - self.range.start)),
            Held::Dirty => Held::Dirty,
        };
        Parked { range, held, host: self.host }
    }
}

/// Largest unmapped run, in pages, that stays parked in the running domain.
const UNMAP_PARK_MAX: u64 = 32;
/// Most dirty pages that a slot keeps.
const DIRTY_MAX: u64 = 2048;

static BUDGET: BklCell<Budget> = BklCell::new(Budget {
    used: 0,
    limit: 0,
    free_slots: Vec::new(),
    next_slot: 0,
    arena_free: Vec::new(),
    arena_next: 0,
});

/// Sets the budget (bytes of the measured configuration).
pub fn init(memory_bytes: u64) {
    BUDGET.with_mut(|b| b.limit = memory_bytes / PAGE);
}

/// (total, free) pages of the enclave.
pub fn budget() -> (u64, u64) {
    let heap = occlum_rt::mem::heap_used() / PAGE;
    BUDGET.with(|b| (b.limit, b.limit.saturating_sub(b.used + heap)))
}

/// Takes pages from the budget; parked pages give way.
fn charge(pages: u64) -> bool {
    if try_charge(pages) {
        return true;
    }
    BUDGET.with_mut(|b| b.free_slots.iter_mut().for_each(drop_parked_of(&mut b.used)));
    try_charge(pages)
}
fn try_charge(pages: u64) -> bool {
    let heap = occlum_rt::mem::heap_used() / PAGE;
    BUDGET.with_mut(|b| {
        if b.used + heap + pages > b.limit {
            return false;
        }
        b.used += pages;
        true
    })
}
/// Drops the parked pages of a slot.
fn drop_parked(f: &mut FreeSlot) {
    let mut pages = 0;
    drop_parked_of(&mut pages)(f);
    uncharge(pages.wrapping_neg());
}
/// The same, giving the pages back to `used`.
fn drop_parked_of(used: &mut u64) -> impl FnMut(&mut FreeSlot) {
    |f| {
        for p in f.parked.drain(..) {
            let len = p.range.end - p.range.start;
            let _ = Slot::new(f.index).protect(p.range.start, len, 0, false, true);
            *used = used.wrapping_sub(len / PAGE);
        }
    }
}
fn uncharge(pages: u64) {
    BUDGET.with_mut(|b| b.used = b.used.saturating_sub(pages));
}

fn page_floor(x: u64) -> u64 {
    x & !(PAGE - 1)
}
/// Rounds up to a page.
pub fn page_ceil(x: u64) -> u64 {
    x.saturating_add(PAGE - 1) & !(PAGE - 1)
}

/// Host rights for guest rights: code is never executed in place, so X is R.
fn rights(prot: u32) -> u32 {
    match prot & (mf::PROT_READ | mf::PROT_WRITE | mf::PROT_EXEC) {
        0 => 0,
        p if p & mf::PROT_WRITE != 0 => 3,
        _ => 1,
    }
}

impl Mm {
    /// An empty domain, in the slot that ran the same program last if one is free.
    pub fn new(affinity: Affinity) -> Result<Arc<Mm>> {
        let free = BUDGET.with_mut(|b| {
            if let Some(i) = b.free_slots.iter().rposition(|f| f.affinity == affinity) {
                return Some(b.free_slots.swap_remove(i));
            }
            if u64::from(b.next_slot) < domain::COUNT && b.free_slots.len() < SLOTS_KEPT {
                b.next_slot += 1;
                return Some(FreeSlot {
                    index: b.next_slot - 1,
                    affinity,
                    retained: Vec::new(),
                    parked: Vec::new(),
                });
            }
            (!b.free_slots.is_empty()).then(|| b.free_slots.remove(0))
        });
        let mut free = free.ok_or(Errno::ENOMEM)?;
        let slot = Slot::new(free.index);
        let same = free.affinity == affinity;
        if !same {
            occlum_rt::code::table_reset(slot);
            drop_parked(&mut free);
        }
        Ok(Arc::new(Mm {
            slot,
            inner: BklCell::new(Inner {
                vmas: BTreeMap::new(),
                resident: BTreeMap::new(),
                layout: Layout::default(),
            }),
            peak_pages: BklCell::new(0),
            pages: BklCell::new(0),
            affinity,
            retained: BklCell::new(if same { free.retained } else { Vec::new() }),
            parked: BklCell::new(free.parked),
            filled: BklCell::new(Vec::new()),
        }))
    }
    /// The program its tables are kept for.
    pub fn affinity(&self) -> Affinity {
        self.affinity
    }
    /// Its slot.
    pub fn slot(&self) -> Slot {
        self.slot
    }
    /// Layout as exec left it.
    pub fn layout(&self) -> Layout {
        self.inner.with(|i| i.layout.clone())
    }
    /// Sets the layout (exec).
    pub fn set_layout(&self, l: Layout) {
        self.inner.with_mut(|i| i.layout = l);
    }
    /// Resident private pages.
    pub fn resident_pages(&self) -> u64 {
        self.pages.get()
    }
    /// Mapped bytes.
    pub fn mapped_bytes(&self) -> u64 {
        self.inner.with(|i| i.vmas.iter().map(|(s, v)| v.end - s).sum())
    }
    /// The vmas in order.
    pub fn vmas(&self) -> Vec<(u64, Vma)> {
        self.inner.with(|i| i.vmas.iter().map(|(s, v)| (*s, v.clone())).collect())
    }
    /// The vma that contains `off`.
    pub fn find(&self, off: u64) -> Option<(u64, Vma)> {
        self.inner.with(|i| find(&i.vmas, off).map(|(s, v)| (s, v.clone())))
    }
    /// Remembers the translations of the vma at `start`.
    pub fn set_region(&self, start: u64, region: Arc<Region>) {
        let end = self.inner.with_mut(|i| {
            let v = i.vmas.get_mut(&start)?;
            v.region = Some(region.clone());
            Some(v.end)
        });
        if let Some(end) = end {
            self.claim_entries((start, end, region.id()));
        }
    }

    /// The tables hold entries of exactly this region in its range: kept ones of the same region, or none.
    fn claim_entries(&self, new: Retained) {
        let overlaps = |r: &Retained| r.0 < new.1 && new.0 < r.1;
        let foreign = self.retained.with(|list| list.iter().any(|r| overlaps(r) && *r != new));
        if foreign {
            occlum_rt::code::table_clear(self.slot, new.0 as u32, new.1.min(EXEC_MAX) as u32);
        }
        self.retained.with_mut(|list| list.retain(|r| !overlaps(r)));
        self.filled.with_mut(|f| {
            f.retain(|r| !overlaps(r));
            f.push(new);
        });
    }

    fn is_resident(&self, page: u64) -> bool {
        let n = page / PAGE;
        self.inner.with(|i| i.resident.get(&(n / 64)).is_some_and(|w| w >> (n % 64) & 1 != 0))
    }
    fn set_resident(&self, r: Range<u64>, on: bool) {
        self.inner.with_mut(|i| {
            for n in r.start / PAGE..r.end / PAGE {
                let w = i.resident.entry(n / 64).or_insert(0);
                if on {
                    *w |= 1 << (n % 64);
                } else {
                    *w &= !(1 << (n % 64));
                }
            }
        });
    }
    /// Runs of pages in `r` whose residency is `want`.
    fn runs(&self, r: Range<u64>, want: bool) -> Vec<Range<u64>> {
        if want {
            return self.resident_runs(r);
        }
        let mut out: Vec<Range<u64>> = Vec::new();
        self.inner.with(|i| {
            let mut n = r.start / PAGE;
            let end = page_ceil(r.end) / PAGE;
            while n < end {
                let word = i.resident.get(&(n / 64)).copied().unwrap_or(0);
                if word >> (n % 64) & 1 == 0 {
                    match out.last_mut() {
                        Some(last) if last.end == n * PAGE => last.end += PAGE,
                        _ => out.push(n * PAGE..(n + 1) * PAGE),
                    }
                }
                n += 1;
            }
        });
        out
    }

    fn resident_runs(&self, r: Range<u64>) -> Vec<Range<u64>> {
        let mut out: Vec<Range<u64>> = Vec::new();
        let (first, last) = (r.start / PAGE, page_ceil(r.end) / PAGE);
        self.inner.with(|i| {
            for (k, word) in i.resident.range(first / 64..=last / 64) {
                let mut left = *word;
                while left != 0 {
                    let n = k * 64 + u64::from(left.trailing_zeros());
                    left &= left - 1;
                    if n < first || n >= last {
                        continue;
                    }
                    match out.last_mut() {
                        Some(run) if run.end == n * PAGE => run.end += PAGE,
                        _ => out.push(n * PAGE..(n + 1) * PAGE),
                    }
                }
            }
        });
        out
    }

    /// Takes the parked pages under [start, end) out of the list, cut to it.
    fn take_parked(&self, start: u64, end: u64) -> Vec<Parked> {
        let mut hit = Vec::new();
        self.parked.with_mut(|list| {
            let mut rest = Vec::new();
            for p in core::mem::take(list) {
                if p.range.end <= start || end <= p.range.start {
                    rest.push(p);
                    continue;
                }
                if p.range.start < start {
                    rest.push(p.part(0..start));
                }
                if end < p.range.end {
                    rest.push(p.part(end..u64::MAX));
                }
                hit.push(p.part(start..end));
            }
            *list = rest;
        });
        hit
    }

    /// Parked pages under a new mapping: those that can serve become resident, others go. `fill`: dirty ones get the
    /// mapping's content now; else the caller overwrites them before the guest runs.
    fn settle_parked(&self, start: u64, vma: &Vma, fill: bool) -> Result<()> {
        if self.parked.with(Vec::is_empty) {
            return Ok(());
        }
        let host = if vma.private_code { 3 } else { rights(vma.prot) };
        for p in self.take_parked(start, vma.end) {
            let clean = match (&vma.backing, p.held) {
                (Backing::File(f, off), Held::File(file, at)) => {
                    host == 1 && f.id() == file && off + (p.range.start - start) == at
                }
                _ => false,
            };
            let dirty = matches!(p.held, Held::Dirty) && rights(vma.prot) == 3 && !vma.is_shared();
            if !clean && !dirty {
                self.protect(p.range.clone(), 0, false, true)?;
                uncharge(p.pages());
                continue;
            }
            let want = if clean { 1 } else { 3 };
            if p.host != want {
                self.protect(p.range.clone(), want, false, false)?;
            }
            self.set_resident(p.range.clone(), true);
            self.count_pages(p.pages() as i64);
            if dirty && fill {
                self.refill(start, vma, p.range)?;
            }
        }
        Ok(())
    }

    /// The mapping's initial content into resident writable pages.
    fn refill(&self, start: u64, vma: &Vma, run: Range<u64>) -> Result<()> {
        self.slot.zero(run.start, run.end - run.start).map_err(|_| Errno::EFAULT)?;
        match &vma.backing {
            Backing::File(f, off) => self.copy_in(f, off + (run.start - start), &run),
            _ => Ok(()),
        }
    }

    /// The domain is about to run: parked pages that no mapping took lose their rights.
    pub fn hide_parked(&self) -> Result<()> {
        let mut list = self.parked.take();
        for p in list.iter_mut().filter(|p| p.host != 0) {
            self.protect(p.range.clone(), 0, false, false)?;
            p.host = 0;
        }
        self.parked.replace(list);
        Ok(())
    }

    /// The private pages of a process that is gone, as parked pages.
    fn parkable(&self, vmas: &BTreeMap<u64, Vma>) -> Vec<Parked> {
        let mut out = Vec::new();
        for (start, v) in vmas.iter().filter(|(_, v)| !v.is_shared()) {
            let host = rights(v.prot);
            let clean = match &v.backing {
                Backing::File(f, off) if !v.private_code && host == 1 => Some((f.id(), *off)),
                _ => None,
            };
            for range in self.resident_runs(*start..v.end) {
                let held = match clean {
                    Some((file, off)) => Held::File(file, off + (range.start - start)),
                    None => Held::Dirty,
                };
                out.push(Parked { range, held, host });
            }
        }
        out
    }

    fn protect(&self, r: Range<u64>, host_rights: u32, populate: bool, drop_content: bool) -> Result<()> {
        self.slot
            .protect(r.start, r.end - r.start, host_rights, populate, drop_content)
            .map_err(|_| Errno::ENOMEM)
    }

    /// Makes the page at `off` (and some around it) accessible, or says why not.
    pub fn handle_fault(&self, off: u32, access: Access) -> core::result::Result<(), FaultError> {
        let off = u64::from(off);
        let (start, vma) = self.find(off).ok_or(FaultError::NotMapped)?;
        let needed = match access {
            Access::Read => mf::PROT_READ | mf::PROT_WRITE | mf::PROT_EXEC,
            Access::Write => mf::PROT_WRITE,
            Access::Exec => mf::PROT_EXEC,
        };
        if vma.prot & needed == 0 {
            return Err(FaultError::Denied);
        }
        let page = page_floor(off);
        if self.is_resident(page) {
            if access == Access::Write && vma.prot & mf::PROT_EXEC != 0 {
                self.unprotect_written_code(start, &vma);
            }
            return Ok(());
        }
        let window = self.window(start, &vma, page);
        for run in self.runs(window, false) {
            self.commit(start, &vma, run.clone(), page)?;
        }
        Ok(())
    }

    /// Write to a W+X page that has translations: they go, the page becomes writable again (RWX, trap C8).
    fn unprotect_written_code(&self, start: u64, vma: &Vma) {
        self.drop_translations(start..vma.end);
        for run in self.runs(start..vma.end, true) {
            let _ = self.protect(run, 3, false, false);
        }
    }

    /// A W+X vma got translations: its pages lose W until the next store.
    pub fn protect_translated(&self, start: u64, vma: &Vma) {
        if vma.prot & mf::PROT_WRITE != 0 && !vma.is_shared() {
            for run in self.runs(start..vma.end, true) {
                let _ = self.protect(run, 1, false, false);
            }
        }
    }

    fn window(&self, start: u64, vma: &Vma, page: u64) -> Range<u64> {
        let len = vma.end - start;
        let file = matches!(vma.backing, Backing::File(..));
        let span = if file || len >= 16 << 20 { 4 * FAULT_PAGES } else { FAULT_PAGES } * PAGE;
        let a = page & !(span - 1);
        let mut r = a.max(start)..(a + span).min(vma.end);
        if let Backing::File(f, foff) = &vma.backing {
            let eof = page_ceil(f.size()).saturating_sub(*foff).saturating_add(start);
            r.end = r.end.min(eof.max(page + PAGE));
        }
        r
    }

    fn commit(
        &self,
        start: u64,
        vma: &Vma,
        run: Range<u64>,
        page: u64,
    ) -> core::result::Result<(), FaultError> {
        match &vma.backing {
            Backing::Shared(object, o) => return self.commit_shared(start, vma, object, *o, run),
            Backing::File(f, foff) => {
                let page_off = foff + (page - start);
                if page_off >= page_ceil(f.size()) && run.contains(&page) {
                    return Err(FaultError::PastEof);
                }
            }
            Backing::Anon => {}
        }
        let pages = (run.end - run.start) / PAGE;
        if !charge(pages) {
            return Err(FaultError::OutOfMemory);
        }
        let done = self.fill(start, vma, &run);
        if done.is_err() {
            uncharge(pages);
            let _ = self.protect(run, 0, false, true);
            return Err(FaultError::OutOfMemory);
        }
        self.count_pages(pages as i64);
        self.set_resident(run, true);
        Ok(())
    }

    fn count_pages(&self, delta: i64) {
        let n = self.pages.get().saturating_add_signed(delta);
        self.pages.set(n);
        self.peak_pages.set(self.peak_pages.get().max(n));
    }

    fn fill(&self, start: u64, vma: &Vma, run: &Range<u64>) -> Result<()> {
        let host = rights(vma.prot);
        let Backing::File(f, foff) = &vma.backing else {
            return self.protect(run.clone(), host, true, false);
        };
        self.protect(run.clone(), 3, true, false)?;
        self.copy_in(f, foff + (run.start - start), run)?;
        if host != 3 {
            self.protect(run.clone(), host, false, false)?;
        }
        Ok(())
    }

    /// File content into pages that are writable now; beyond the end of the file they stay zero.
    fn copy_in(&self, f: &MapFile, mut foff: u64, run: &Range<u64>) -> Result<()> {
        let mut buf = vec![0u8; (run.end - run.start).min(64 << 10) as usize];
        let mut at = run.start;
        while at < run.end {
            let want = (run.end - at).min(buf.len() as u64) as usize;
            let n = f.read_at(foff, &mut buf[..want])?;
            if n == 0 {
                break;
            }
            self.slot.write(at, &buf[..n]).map_err(|_| Errno::EFAULT)?;
            at += n as u64;
            foff += n as u64;
        }
        Ok(())
    }

    fn commit_shared(
        &self,
        start: u64,
        vma: &Vma,
        object: &SharedObject,
        base: u64,
        run: Range<u64>,
    ) -> core::result::Result<(), FaultError> {
        for at in (run.start..run.end).step_by(PAGE as usize) {
            let ooff = base + (at - start);
            if let Some(f) = &object.file
                && ooff >= page_ceil(f.size())
            {
                return Err(FaultError::PastEof);
            }
            let known = object.pages.with(|p| p.get(&(ooff / PAGE)).copied());
            let (arena, fresh) = match known {
                Some(a) => (a, false),
                None => (arena_alloc().ok_or(FaultError::OutOfMemory)?, true),
            };
            let want = rights(vma.prot);
            self.alias(at, arena, if fresh { 3 } else { want }).map_err(|_| FaultError::OutOfMemory)?;
            if fresh {
                let page = at..at + PAGE;
                let filled =
                    self.slot.zero(at, PAGE).map_err(|_| Errno::EFAULT).and_then(|()| match &object.file {
                        Some(f) => self.copy_in(f, ooff, &page),
                        None => Ok(()),
                    });
                filled.map_err(|_| FaultError::OutOfMemory)?;
                object.pages.with_mut(|p| p.insert(ooff / PAGE, arena));
                if want != 3 {
                    self.protect(page, want, false, false).map_err(|_| FaultError::OutOfMemory)?;
                }
            }
            self.set_resident(at..at + PAGE, true);
        }
        Ok(())
    }

    /// Shows one arena page at `at` (a declared capability of the simulated backend).
    fn alias(&self, at: u64, arena: u64, host_rights: u32) -> Result<()> {
        let addr = domain::base(u64::from(self.slot.index())) + at;
        let args = [addr, PAGE, arena, u64::from(host_rights)];
        crate::errno::host_result(occlum_rt::ocall::call(Ocall::MemAlias, &args, &[], &mut [])).map(|_| ())
    }

    /// Commits the pages of a range at once, as far as vmas cover it (what exec knows will be touched).
    pub fn populate(&self, r: Range<u64>) -> Result<()> {
        let parts: Vec<(u64, Vma)> =
            self.inner.with(|i| overlapping(&i.vmas, r.clone()).map(|(s, v)| (s, v.clone())).collect());
        for (start, vma) in parts {
            let part = page_floor(r.start.max(start))..page_ceil(r.end.min(vma.end));
            for run in self.runs(part, false) {
                let first = run.start;
                self.commit(start, &vma, run, first).map_err(|_| Errno::ENOMEM)?;
            }
        }
        Ok(())
    }

    /// Writes into this domain, which need not be the current one.
    pub fn write_foreign(&self, off: u64, data: &[u8]) -> Result<()> {
        if off.saturating_add(data.len() as u64) > domain::SIZE {
            return Err(Errno::EFAULT);
        }
        loop {
            match self.slot.write(off, data) {
                Ok(()) => return Ok(()),
                Err(f) => self.handle_fault(f.off, Access::Write).map_err(|_| Errno::EFAULT)?,
            }
        }
    }
    /// Reads from this domain, which need not be the current one.
    pub fn read_foreign(&self, off: u64, buf: &mut [u8]) -> Result<()> {
        if off.saturating_add(buf.len() as u64) > domain::SIZE {
            return Err(Errno::EFAULT);
        }
        loop {
            match self.slot.read(off, buf) {
                Ok(()) => return Ok(()),
                Err(f) => self.handle_fault(f.off, Access::Read).map_err(|_| Errno::EFAULT)?,
            }
        }
    }

    /// mmap after its arguments were checked. `at`: where, if MAP_FIXED.
    pub fn map(&self, at: Option<u64>, hint: u64, len: u64, prot: u32, backing: Backing) -> Result<u64> {
        let len = page_ceil(len);
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let start = match at {
            Some(a) => a,
            None => self.choose(hint, len, prot, !matches!(backing, Backing::Anon)).ok_or(Errno::ENOMEM)?,
        };
        if start % PAGE != 0 {
            return Err(Errno::EINVAL);
        }
        let end = start.checked_add(len).ok_or(Errno::ENOMEM)?;
        if start < MAP_MIN {
            return Err(Errno::EPERM);
        }
        if end > MAP_MAX || prot & mf::PROT_EXEC != 0 && end > EXEC_MAX {
            return Err(Errno::ENOMEM);
        }
        self.unmap(start..end)?;
        let private_code = prot & mf::PROT_WRITE != 0;
        let vma = Vma { end, prot, backing, name: "", region: None, private_code };
        self.settle_parked(start, &vma, true)?;
        self.inner.with_mut(|i| i.vmas.insert(start, vma));
        Ok(start)
    }

    /// Sets the name that maps shows.
    pub fn set_name(&self, start: u64, name: &'static str) {
        self.inner.with_mut(|i| {
            if let Some(v) = i.vmas.get_mut(&start) {
                v.name = name;
            }
        });
    }

    /// A free range, top down: files and executable memory where tables are in reach of a prefetch, then below 2 GiB;
    /// other anonymous memory above that first.
    fn choose(&self, hint: u64, len: u64, prot: u32, file: bool) -> Option<u64> {
        let hint = page_floor(hint);
        self.inner.with(|i| {
            if hint >= MAP_MIN
                && hint.saturating_add(len) <= MAP_MAX
                && (prot & mf::PROT_EXEC == 0 || hint + len <= EXEC_MAX)
                && is_free(&i.vmas, hint..hint + len)
            {
                return Some(hint);
            }
            let low = LOW_BASE..EXEC_MAX - (1 << 20);
            let high = EXEC_MAX..MAP_MAX - (16 << 20);
            let code = LOW_BASE..CODE_TOP;
            let near = if len <= LOW_MAX && (file || prot & mf::PROT_EXEC != 0) {
                top_down(&i.vmas, code, len)
            } else {
                None
            };
            if near.is_some() || prot & mf::PROT_EXEC != 0 {
                return near.or_else(|| top_down(&i.vmas, low, len));
            }
            // Small anonymous memory goes low too: a JIT may make it executable later.
            let (first, second) = if file || len <= LOW_MAX { (low, high) } else { (high, low) };
            top_down(&i.vmas, first, len).or_else(|| top_down(&i.vmas, second, len))
        })
    }

    /// Splits vmas so that `at` is a boundary.
    fn split(&self, at: u64) {
        self.inner.with_mut(|i| {
            let Some((start, _)) = find(&i.vmas, at) else { return };
            if start == at {
                return;
            }
            let Some(v) = i.vmas.get_mut(&start) else { return };
            let mut tail = v.clone();
            tail.backing = v.shifted(at - start);
            if v.region.take().is_some() {
                v.private_code = true;
                tail.private_code = true;
                tail.region = None;
            }
            v.end = at;
            i.vmas.insert(at, tail);
        });
    }

    /// Removes every mapping in the range.
    pub fn unmap(&self, r: Range<u64>) -> Result<()> {
        if self.inner.with(|i| is_free(&i.vmas, r.clone())) {
            return Ok(());
        }
        self.drop_translations(r.clone());
        self.split(r.start);
        self.split(r.end);
        let gone: Vec<(u64, Vma)> = self.inner.with_mut(|i| {
            let keys: Vec<u64> = i.vmas.range(r.clone()).map(|(k, _)| *k).collect();
            keys.iter().filter_map(|k| i.vmas.remove(k).map(|v| (*k, v))).collect()
        });
        for (start, vma) in &gone {
            self.release(*start, vma);
        }
        Ok(())
    }

    fn release(&self, start: u64, vma: &Vma) {
        for run in self.runs(start..vma.end, true) {
            if vma.is_shared() {
                let addr = domain::base(u64::from(self.slot.index())) + run.start;
                let args = [addr, run.end - run.start, u64::MAX, 0];
                occlum_rt::ocall::call(Ocall::MemAlias, &args, &[], &mut []);
            } else {
                let pages = (run.end - run.start) / PAGE;
                self.count_pages(-(pages as i64));
                let park =
                    pages <= UNMAP_PARK_MAX && rights(vma.prot) == 3 && self.parked.with(Vec::len) < 64;
                let _ = self.protect(run.clone(), 0, false, !park);
                if park {
                    // A thread or spawn stack comes back at once, mostly at the same place.
                    self.parked
                        .with_mut(|p| p.push(Parked { range: run.clone(), held: Held::Dirty, host: 0 }));
                } else {
                    uncharge(pages);
                }
            }
            self.set_resident(run, false);
        }
        if let Backing::Shared(object, _) = &vma.backing
            && vma.prot & mf::PROT_WRITE != 0
        {
            object.written.set(true);
        }
    }

    fn drop_translations(&self, r: Range<u64>) {
        let hit = self.inner.with_mut(|i| {
            let mut hit = false;
            for (_, v) in overlapping_mut(&mut i.vmas, r.clone()) {
                if v.prot & mf::PROT_EXEC != 0 {
                    hit = true;
                    v.region = None;
                    v.private_code = true;
                }
            }
            hit
        });
        if hit {
            occlum_rt::code::table_clear(self.slot, r.start as u32, r.end.min(EXEC_MAX) as u32);
            self.filled.with_mut(|f| f.retain(|x| x.1 <= r.start || r.end <= x.0));
        }
    }

    /// mprotect. ENOMEM if the range has a hole, EACCES for a write to a file opened read-only is the caller's.
    pub fn mprotect(&self, r: Range<u64>, prot: u32) -> Result<()> {
        if prot & mf::PROT_EXEC != 0 && r.end > EXEC_MAX {
            return Err(Errno::ENOMEM);
        }
        if !self.inner.with(|i| is_covered(&i.vmas, r.clone())) {
            return Err(Errno::ENOMEM);
        }
        self.split(r.start);
        self.split(r.end);
        self.drop_translations(r.clone());
        let changed: Vec<(u64, u64, u32)> = self.inner.with_mut(|i| {
            i.vmas
                .range_mut(r.clone())
                .filter(|(_, v)| v.prot != prot)
                .map(|(s, v)| {
                    let old = v.prot;
                    v.prot = prot;
                    v.private_code |= prot & mf::PROT_WRITE != 0;
                    (*s, v.end, old)
                })
                .collect()
        });
        for (s, e, old) in changed {
            if rights(old) != rights(prot) {
                for run in self.runs(s..e, true) {
                    self.protect(run, rights(prot), false, false)?;
                }
            }
        }
        self.merge(r);
        Ok(())
    }

    /// Joins anonymous neighbours with equal rights, so that allocators do not grow the vma set without bound.
    fn merge(&self, r: Range<u64>) {
        self.inner.with_mut(|i| {
            let lo = find(&i.vmas, r.start.saturating_sub(1)).map_or(r.start, |(s, _)| s);
            let keys: Vec<u64> = i.vmas.range(lo..=r.end).map(|(k, _)| *k).collect();
            let mut prev: Option<u64> = None;
            for k in keys {
                let joined = prev.and_then(|p| {
                    let (a, b) = (i.vmas.get(&p)?, i.vmas.get(&k)?);
                    let same = matches!((&a.backing, &b.backing), (Backing::Anon, Backing::Anon))
                        && a.end == k
                        && a.prot == b.prot
                        && a.name == b.name
                        && a.region.is_none()
                        && b.region.is_none();
                    same.then_some((p, b.end))
                });
                match joined {
                    Some((p, end)) => {
                        i.vmas.remove(&k);
                        if let Some(v) = i.vmas.get_mut(&p) {
                            v.end = end;
                        }
                    }
                    None => prev = Some(k),
                }
            }
        });
    }

    /// brk: sets the end of the heap if it can; returns the end in force.
    pub fn brk(&self, new: u64, data_limit: u64) -> u64 {
        let l = self.layout();
        if new < l.brk_start || new >= MAP_MAX || new - l.brk_start > data_limit {
            return l.brk;
        }
        let (old_end, new_end) = (page_ceil(l.brk), page_ceil(new));
        if new_end > old_end {
            if !self.inner.with(|i| is_free(&i.vmas, old_end..new_end + PAGE)) {
                return l.brk;
            }
            let rw = mf::PROT_READ | mf::PROT_WRITE;
            if self.map(Some(old_end), 0, new_end - old_end, rw, Backing::Anon).is_err() {
                return l.brk;
            }
            self.set_name(old_end, "[heap]");
            self.merge(old_end..new_end);
        } else if new_end < old_end && self.unmap(new_end..old_end).is_err() {
            return l.brk;
        }
        self.inner.with_mut(|i| i.layout.brk = new);
        new
    }

    /// mremap with its Linux flags.
    pub fn mremap(&self, old: u64, old_len: u64, new_len: u64, flags: u32, new_addr: u64) -> Result<u64> {
        let fixed = flags & mf::MREMAP_FIXED != 0;
        let may_move = flags & mf::MREMAP_MAYMOVE != 0;
        if old % PAGE != 0 || flags & !3 != 0 || fixed && !may_move || new_len == 0 || old_len == 0 {
            return Err(Errno::EINVAL);
        }
        let (old_len, new_len) = (page_ceil(old_len), page_ceil(new_len));
        let (start, vma) = self.find(old).ok_or(Errno::EFAULT)?;
        if old + old_len > vma.end {
            return Err(Errno::EFAULT);
        }
        if fixed && (new_addr % PAGE != 0 || new_addr < old + old_len && old < new_addr + new_len) {
            return Err(Errno::EINVAL);
        }
        if !fixed {
            if new_len <= old_len {
                self.unmap(old + new_len..old + old_len)?;
                return Ok(old);
            }
            let grow = old + old_len..old + new_len;
            let room = grow.end <= MAP_MAX && self.inner.with(|i| is_free(&i.vmas, grow.clone()));
            if room && old + old_len == vma.end {
                self.inner.with_mut(|i| {
                    if let Some(v) = i.vmas.get_mut(&start) {
                        v.end = grow.end;
                    }
                });
                return Ok(old);
            }
            if !may_move {
                return Err(Errno::ENOMEM);
            }
        }
        let backing = vma.shifted(old - start);
        let to = self.map(fixed.then_some(new_addr), 0, new_len, vma.prot, backing)?;
        self.move_pages(old, to, old_len.min(new_len), &vma)?;
        self.unmap(old..old + old_len)?;
        Ok(to)
    }

    fn move_pages(&self, from: u64, to: u64, len: u64, vma: &Vma) -> Result<()> {
        if vma.is_shared() {
            return Ok(());
        }
        for run in self.runs(from..from + len, true) {
            let n = run.end - run.start;
            let dst = to + (run.start - from);
            if rights(vma.prot) == 0 {
                self.protect(run.clone(), 1, false, false)?;
            }
            if !charge(n / PAGE) {
                return Err(Errno::ENOMEM);
            }
            self.count_pages((n / PAGE) as i64);
            self.protect(dst..dst + n, 3, true, false)?;
            Slot::copy(self.slot, run.start, self.slot, dst, n).map_err(|_| Errno::EFAULT)?;
            if rights(vma.prot) != 3 {
                self.protect(dst..dst + n, rights(vma.prot), false, false)?;
            }
            self.set_resident(dst..dst + n, true);
        }
        Ok(())
    }

    /// madvise(MADV_DONTNEED) on private memory: pages read zero (or the file) again.
    pub fn discard(&self, r: Range<u64>) {
        let parts: Vec<(u64, u64, bool)> = self.inner.with(|i| {
            overlapping(&i.vmas, r.clone())
                .map(|(s, v)| (s.max(r.start), v.end.min(r.end), v.is_shared()))
                .collect()
        });
        for (s, e, shared) in parts {
            if shared {
                continue;
            }
            for run in self.runs(s..e, true) {
                let pages = (run.end - run.start) / PAGE;
                uncharge(pages);
                self.count_pages(-(pages as i64));
                let _ = self.protect(run.clone(), 0, false, true);
                self.set_resident(run, false);
            }
        }
    }

    /// Is every page of the range mapped?
    pub fn is_mapped(&self, r: Range<u64>) -> bool {
        self.inner.with(|i| is_covered(&i.vmas, r))
    }

    /// Writes shared file mappings in the range back.
    pub fn sync(&self, r: Range<u64>) {
        let objects: Vec<Arc<SharedObject>> = self.inner.with(|i| {
            overlapping(&i.vmas, r)
                .filter_map(|(_, v)| match &v.backing {
                    Backing::Shared(o, _) => Some(o.clone()),
                    _ => None,
                })
                .collect()
        });
        for (start, vma) in self.vmas() {
            if let Backing::Shared(o, base) = &vma.backing
                && objects.iter().any(|x| Arc::ptr_eq(x, o))
            {
                self.write_back(start, &vma, o, *base);
            }
        }
    }

    /// Copies one file page into the resident page that shows it.
    fn refresh_page(&self, inode: &dyn crate::fs::Inode, start: u64, vma: &Vma, base: u64, foff: u64) {
        let Some(at) = foff.checked_sub(base).map(|d| start + d).filter(|at| *at < vma.end) else { return };
        let mut page = [0u8; PAGE as usize];
        if self.is_resident(at)
            && let Ok(n) = inode.read_at(foff, &mut page)
        {
            let _ = self.slot.write(at, &page[..n]);
        }
    }

    fn write_back(&self, start: u64, vma: &Vma, object: &SharedObject, base: u64) {
        let Some(f) = &object.file else { return };
        if vma.prot & mf::PROT_WRITE == 0 {
            return;
        }
        let size = f.size();
        let mut page = [0u8; PAGE as usize];
        for run in self.runs(start..vma.end, true) {
            for at in (run.start..run.end).step_by(PAGE as usize) {
                let foff = base + (at - start);
                let n = size.saturating_sub(foff).min(PAGE) as usize;
                if n > 0 && self.slot.read(at, &mut page[..n]).is_ok() {
                    let _ = f.0.inode().write_at(foff, &page[..n]);
                }
            }
        }
    }

    /// A copy of this domain in another slot: same vmas, same offsets, resident pages copied.
    pub fn fork(&self) -> Result<Arc<Mm>> {
        let child = Mm::new(self.affinity)?;
        let vmas = self.vmas();
        for (_, v) in &vmas {
            if let (Some(region), false) = (&v.region, v.private_code) {
                child.claim_entries((region.start(), v.end, region.id()));
            }
        }
        child.inner.with_mut(|i| {
            i.vmas = vmas.iter().map(|(s, v)| (*s, forked(v))).collect();
            i.layout = self.layout();
        });
        for (start, vma) in &vmas {
            child.settle_parked(*start, vma, false)?;
            if vma.is_shared() {
                continue;
            }
            // Pages that the slot had and the parent has not: nobody overwrites them below.
            if rights(vma.prot) == 3 {
                for held in child.resident_runs(*start..vma.end) {
                    for run in self.runs(held, false) {
                        child.refill(*start, vma, run)?;
                    }
                }
            }
            for run in self.resident_runs(*start..vma.end) {
                self.copy_pages(&child, vma, run)?;
            }
        }
        child.hide_parked()?;
        Ok(child)
    }

    /// Copies resident pages into the child: over pages its slot has already, or into new ones.
    fn copy_pages(&self, child: &Mm, vma: &Vma, run: Range<u64>) -> Result<()> {
        if rights(vma.prot) == 3 {
            for part in child.resident_runs(run.clone()) {
                let n = part.end - part.start;
                Slot::copy(self.slot, part.start, child.slot, part.start, n).map_err(|_| Errno::EFAULT)?;
            }
        }
        for part in child.runs(run, false) {
            self.copy_run(child, vma, part)?;
        }
        Ok(())
    }

    fn copy_run(&self, child: &Mm, vma: &Vma, run: Range<u64>) -> Result<()> {
        let n = run.end - run.start;
        let host = rights(vma.prot);
        // Pristine file pages come again from the page cache, or are parked in the slot already.
        if host != 3 && !vma.private_code && matches!(vma.backing, Backing::File(..)) {
            return Ok(());
        }
        if !charge(n / PAGE) {
            return Err(Errno::ENOMEM);
        }
        child.count_pages((n / PAGE) as i64);
        child.set_resident(run.clone(), true);
        if host == 0 {
            self.protect(run.clone(), 1, false, false)?;
        }
        child.protect(run.clone(), 3, true, false)?;
        let copied = Slot::copy(self.slot, run.start, child.slot, run.start, n);
        if host == 0 {
            self.protect(run.clone(), 0, false, false)?;
        }
        copied.map_err(|_| Errno::EFAULT)?;
        if host != 3 {
            child.protect(run, host, false, false)?;
        }
        Ok(())
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        self.sync(0..domain::SIZE);
        let vmas = self.inner.with_mut(|i| core::mem::take(&mut i.vmas));
        for (start, vma) in vmas.iter().filter(|(_, v)| v.is_shared()) {
            self.release(*start, vma);
        }
        let mut parked = self.parkable(&vmas);
        let dirty = |p: &Parked| matches!(p.held, Held::Dirty);
        if parked.iter().filter(|p| dirty(p)).map(Parked::pages).sum::<u64>() > DIRTY_MAX {
            for p in parked.iter().filter(|p| dirty(p)) {
                let _ = self.protect(p.range.clone(), 0, false, true);
                uncharge(p.pages());
            }
            parked.retain(|p| !dirty(p));
        }
        parked.append(&mut self.parked.take());
        let retained = self.close_tables();
        let free = FreeSlot { index: self.slot.index(), affinity: self.affinity, retained, parked };
        BUDGET.with_mut(|b| b.free_slots.push(free));
    }
}

impl Mm {
    /// Leaves only entries of shared regions in the tables.
    fn close_tables(&self) -> Vec<Retained> {
        let mut keep = self.filled.take();
        let private = keep.iter().any(|r| !crate::code::is_shared_region(r.2));
        let stale = !self.retained.with(Vec::is_empty);
        if private {
            for r in keep.iter().filter(|r| !crate::code::is_shared_region(r.2)) {
                occlum_rt::code::table_clear(self.slot, r.0 as u32, r.1.min(EXEC_MAX) as u32);
            }
            keep.retain(|r| crate::code::is_shared_region(r.2));
        }
        if stale {
            keep.extend(self.retained.take());
        }
        keep
    }
}

/// Free slots with tables that are kept before other programs take them over.
const SLOTS_KEPT: usize = 256;

/// Anonymous mappings up to this size go below 2 GiB.
const LOW_MAX: u64 = 64 << 20;
/// Libraries lie below this; position-independent programs above it, still below `table::PREFETCH_MAX`.
pub const CODE_TOP: u64 = 192 << 20;
/// Lowest place for mappings without a hint.
const LOW_BASE: u64 = 16 << 20;

fn forked(v: &Vma) -> Vma {
    let mut c = v.clone();
    if c.private_code {
        c.region = None;
    }
    c
}

fn find(vmas: &BTreeMap<u64, Vma>, off: u64) -> Option<(u64, &Vma)> {
    vmas.range(..=off).next_back().filter(|(_, v)| off < v.end).map(|(s, v)| (*s, v))
}
fn overlapping(vmas: &BTreeMap<u64, Vma>, r: Range<u64>) -> impl Iterator<Item = (u64, &Vma)> {
    let first = find(vmas, r.start).map_or(r.start, |(s, _)| s);
    vmas.range(first..r.end.max(first)).map(|(s, v)| (*s, v)).filter(move |(_, v)| v.end > r.start)
}
fn overlapping_mut(vmas: &mut BTreeMap<u64, Vma>, r: Range<u64>) -> impl Iterator<Item = (u64, &mut Vma)> {
    let first = find(vmas, r.start).map_or(r.start, |(s, _)| s);
    vmas.range_mut(first..r.end.max(first)).map(|(s, v)| (*s, v)).filter(move |(_, v)| v.end > r.start)
}
fn is_free(vmas: &BTreeMap<u64, Vma>, r: Range<u64>) -> bool {
    overlapping(vmas, r).next().is_none()
}
fn is_covered(vmas: &BTreeMap<u64, Vma>, r: Range<u64>) -> bool {
    let mut at = r.start;
    for (s, v) in overlapping(vmas, r.clone()) {
        if s > at {
            return false;
        }
        at = v.end;
    }
    at >= r.end
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

/// Shared objects of files, by file id.
static BY_FILE: BklCell<BTreeMap<u64, Weak<SharedObject>>> = BklCell::new(BTreeMap::new());

/// What mappings wrote to a file becomes visible to read(2). Cheap while no file is mapped shared.
pub fn before_read(inode: &dyn crate::fs::Inode) {
    if BY_FILE.with(BTreeMap::is_empty) {
        return;
    }
    let id = inode.file_id().0;
    let Some(object) = BY_FILE.with(|m| m.get(&id).and_then(Weak::upgrade)) else { return };
    for p in crate::process::Process::all() {
        let Some(mm) = p.mm() else { continue };
        for (start, vma) in mm.vmas() {
            if let Backing::Shared(o, base) = &vma.backing
                && Arc::ptr_eq(o, &object)
            {
                mm.write_back(start, &vma, o, *base);
            }
        }
    }
}

/// What write(2) changed becomes visible in shared mappings: their arena pages are written too.
pub fn after_write(inode: &dyn crate::fs::Inode, off: u64, len: u64) {
    if BY_FILE.with(BTreeMap::is_empty) {
        return;
    }
    let id = inode.file_id().0;
    let Some(object) = BY_FILE.with(|m| m.get(&id).and_then(Weak::upgrade)) else { return };
    let pages: Vec<u64> =
        object.pages.with(|p| p.range(off / PAGE..=(off + len) / PAGE).map(|(k, _)| *k).collect());
    for p in crate::process::Process::all() {
        let Some(mm) = p.mm() else { continue };
        for (start, vma) in mm.vmas() {
            match &vma.backing {
                Backing::Shared(o, base) if Arc::ptr_eq(o, &object) && rights(vma.prot) == 3 => {
                    pages.iter().for_each(|n| mm.refresh_page(inode, start, &vma, *base, n * PAGE));
                }
                _ => {}
            }
        }
    }
}

/// A new shared object: anonymous memory, or the one object of a file.
pub fn shared_object(file: Option<MapFile>) -> Arc<SharedObject> {
    let make = |file| {
        Arc::new(SharedObject { pages: BklCell::new(BTreeMap::new()), file, written: BklCell::new(false) })
    };
    let Some(f) = file else { return make(None) };
    let id = f.id().0;
    if let Some(o) = BY_FILE.with(|m| m.get(&id).and_then(Weak::upgrade)) {
        return o;
    }
    let o = make(Some(f));
    BY_FILE.with_mut(|m| {
        m.retain(|_, w| w.strong_count() > 0);
        m.insert(id, Arc::downgrade(&o));
    });
    o
}

impl Drop for SharedObject {
    fn drop(&mut self) {
        let pages = self.pages.take();
        uncharge(pages.len() as u64);
        BUDGET.with_mut(|b| b.arena_free.extend(pages.values()));
    }
}

fn arena_alloc() -> Option<u64> {
    if !charge(1) {
        return None;
    }
    Some(BUDGET.with_mut(|b| {
        b.arena_free.pop().unwrap_or_else(|| {
            let at = b.arena_next;
            b.arena_next += PAGE;
            at
        })
    }))
}
