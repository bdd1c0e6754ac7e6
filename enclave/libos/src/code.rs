//! The translation manager: which code of which mapping is translated, where, and how to get there.
//!
//! Neighbours: `occlum-sfi-translator` makes fragments, `rt::code` is the only writer of the cache and the tables (the
//! verifier's seam), `mm` says which bytes are executable. Invariants: a region's translations depend only on (file
//! identity and version, file offset, guest offset), so every process that maps the same shares them (R26); regions of
//! memory that was ever writable belong to one process. Direct links stay inside a region.
use crate::cfi;
use crate::errno::{Errno, Result};
use crate::mm::{Access, Backing, FaultError, MapFile, Mm, Vma};
use crate::process::Task;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use occlum_linux_abi::mmap as mf;
use occlum_rt::bkl::BklCell;
use occlum_rt::code as rtcode;
use occlum_sfi_spec::table::Kind;
use occlum_sfi_translator as tr;

/// Most source bytes one translation looks at.
const SOURCE_MAX: u64 = 1024;
/// Most instructions of one fragment.
const FRAGMENT_MAX: usize = 400;
/// The cache is taken from the runtime in pieces of this size.
const PIECE: usize = 4 << 20;
/// Most bytes a fragment can take (checked before it is placed).
const FRAGMENT_BYTES_MAX: usize = 128 << 10;

/// A region with more return sites than this has calls prefetch their entries: they no longer fit the L1 cache. Measured:
/// 12 % faster code for cc1 (100,000 sites), 1-3 % slower for interpreters (5,000-15,000).
const PREFETCH_FROM: usize = 24_000;

/// Translations of one executable mapping.
pub struct Region {
    id: u64,
    /// First guest offset it covers.
    start: u64,
    entries: BklCell<Index>,
}

/// Translated addresses by offset: a sorted list for each page of the region.
struct Index {
    start: u32,
    pages: Vec<Vec<(u32, u32)>>,
    return_sites: usize,
    /// Where calls that were translated return to, by page: also those without an entry.
    returns: BTreeMap<u32, Vec<u16>>,
    /// Executable offsets that translated instructions made.
    taken: BTreeSet<u32>,
    /// Labels to which its code adds an index before it jumps there.
    spreads: BTreeSet<u32>,
    /// Where its jump tables lead; only at the level that asks.
    tabled: BTreeSet<u32>,
}

impl Index {
    fn new(start: u64, end: u64) -> Index {
        let pages = (end - (start & !4095)).div_ceil(4096) as usize;
        Index {
            start: start as u32 & !4095,
            pages: vec![Vec::new(); pages],
            return_sites: 0,
            returns: BTreeMap::new(),
            taken: BTreeSet::new(),
            tabled: BTreeSet::new(),
            spreads: BTreeSet::new(),
        }
    }

    fn page(&self, off: u32) -> usize {
        (off.wrapping_sub(self.start) / 4096) as usize
    }

    fn get(&self, off: u32) -> Option<u32> {
        let page = self.pages.get(self.page(off))?;
        let at = page.binary_search_by_key(&off, |(o, _)| *o).ok()?;
        Some(page[at].1)
    }

    /// Keeps what is there already: links may lead to it.
    fn insert(&mut self, off: u32, at: u32) {
        let n = self.page(off);
        if n >= self.pages.len() {
            self.pages.resize(n + 1, Vec::new()); // the mapping has grown
        }
        let page = &mut self.pages[n];
        if let Err(n) = page.binary_search_by_key(&off, |(o, _)| *o) {
            page.insert(n, (off, at));
        }
    }

    fn insert_return(&mut self, off: u32) {
        let page = self.returns.entry(off / 4096).or_default();
        let at = (off % 4096) as u16;
        if let Err(n) = page.binary_search(&at) {
            page.insert(n, at);
        }
    }

    fn returns_to(&self, off: u32) -> bool {
        self.returns.get(&(off / 4096)).is_some_and(|p| p.binary_search(&((off % 4096) as u16)).is_ok())
    }
}

struct Placed {
    len: u32,
    rows: Vec<tr::Row>,
}

struct ExitInfo {
    region: u64,
    target: u32,
    patch_at: u32,
}

/// What makes two mappings the same code: file id, version, file offset, guest offset, length.
type RegionKey = (u64, u64, u64, u64, u64);

struct Cache {
    next: u32,
    end: u32,
    next_region: u64,
    shared: BTreeMap<RegionKey, Arc<Region>>,
    shared_ids: BTreeSet<u64>,
    fragments: BTreeMap<u32, Placed>,
    exits: Vec<ExitInfo>,
}
static CACHE: BklCell<Cache> = BklCell::new(Cache {
    next: 0,
    end: 0,
    next_region: 1,
    shared: BTreeMap::new(),
    shared_ids: BTreeSet::new(),
    fragments: BTreeMap::new(),
    exits: Vec::new(),
});

/// Why an address can't be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeError {
    /// Not mapped, not executable, past the end of the file: as a fetch fault.
    Fault(FaultError),
    /// The code cache is full.
    Full,
    /// The verifier does not accept the translation, for this reason.
    Refused(&'static str),
    /// Control-flow integrity does not let a branch of this kind go there.
    Forbidden(Kind),
}

/// Is the region one that every process with the same file mapping shares?
pub fn is_shared_region(id: u64) -> bool {
    CACHE.with(|c| c.shared_ids.contains(&id))
}

struct Known<'a>(&'a Region);
impl tr::Env for Known<'_> {
    fn lookup(&self, off: u32) -> Option<u32> {
        self.0.entries.with(|e| e.get(off))
    }
}

/// What names the region of a vma whose translations processes share.
fn shared_key(start: u64, vma: &Vma) -> Option<RegionKey> {
    match &vma.backing {
        Backing::File(f, off) if vma.prot & mf::PROT_EXEC != 0 && !vma.private_code => {
            let (id, version) = f.id();
            Some((id, version, *off, start, vma.end))
        }
        _ => None,
    }
}

/// The region that another process made for such a vma.
pub fn known_region(start: u64, vma: &Vma) -> Option<Arc<Region>> {
    let key = shared_key(start, vma)?;
    CACHE.with(|c| c.shared.get(&key).cloned())
}

/// The region of an executable vma, made if it has none yet.
fn region_of(mm: &Mm, start: u64, vma: &Vma) -> Arc<Region> {
    if let Some(r) = &vma.region {
        return r.clone();
    }
    let fresh = || {
        let id = CACHE.with_mut(|c| {
            c.next_region += 1;
            c.next_region
        });
        Arc::new(Region { id, start, entries: BklCell::new(Index::new(start, vma.end)) })
    };
    let region = match shared_key(start, vma) {
        Some(key) => match known_region(start, vma) {
            Some(r) => r,
            None => {
                let r = fresh();
                CACHE.with_mut(|c| {
                    c.shared_ids.insert(r.id);
                    c.shared.insert(key, r.clone())
                });
                r
            }
        },
        None => fresh(),
    };
    mm.set_region(start, region.clone());
    region
}

/// The executable vma and region of `off`.
fn locate(mm: &Mm, off: u32) -> core::result::Result<(u64, Vma, Arc<Region>), CodeError> {
    let (start, vma) = mm.find(u64::from(off)).ok_or(CodeError::Fault(FaultError::NotMapped))?;
    if vma.prot & mf::PROT_EXEC == 0 {
        return Err(CodeError::Fault(FaultError::Denied));
    }
    let region = region_of(mm, start, &vma);
    Ok((start, vma, region))
}

/// The entry of `off`, translated now if it was not.
fn entry(mm: &Mm, off: u32) -> core::result::Result<(u32, Arc<Region>), CodeError> {
    let (start, vma, region) = locate(mm, off)?;
    let known = || region.entries.with(|e| e.get(off));
    if known().is_none() {
        translate(mm, start, &vma, &region, off)?;
    }
    match known() {
        Some(at) => Ok((at, region)),
        None => Err(CodeError::Fault(FaultError::Denied)),
    }
}

fn source(mm: &Mm, start: u64, vma: &Vma, off: u32) -> core::result::Result<Vec<u8>, CodeError> {
    let off = u64::from(off);
    let end = (off + SOURCE_MAX).min(vma.end);
    let mut bytes = vec![0u8; (end - off) as usize];
    // Pristine file pages are read from the page cache: text need not be resident to run.
    if let Backing::File(f, foff) = &vma.backing
        && !vma.private_code
    {
        let left = f.0.inode().size().saturating_sub(foff + (off - start));
        if left == 0 {
            return Err(CodeError::Fault(FaultError::PastEof));
        }
        // A read that fails or ends early must not become translated zeros, which other processes would share.
        let n = match f.0.inode().read_at(foff + (off - start), &mut bytes) {
            Err(Errno::ENOMEM) => return Err(CodeError::Fault(FaultError::HeapFull)),
            Err(_) | Ok(0) => return Err(CodeError::Fault(FaultError::PastEof)),
            Ok(n) => n,
        };
        if (n as u64) < left {
            bytes.truncate(n);
        }
        return Ok(bytes);
    }
    let mut at = off & !4095;
    while at < end {
        if let Err(e) = mm.handle_fault(at as u32, Access::Exec) {
            if at <= off {
                return Err(CodeError::Fault(e));
            }
            bytes.truncate((at - off) as usize);
            break;
        }
        at += 4096;
    }
    // The pages may have no read right for the guest; the copy then fails and the fetch faults.
    mm.slot().read(off, &mut bytes).map_err(|_| CodeError::Fault(FaultError::Denied))?;
    Ok(bytes)
}

fn translate(
    mm: &Mm,
    start: u64,
    vma: &Vma,
    region: &Arc<Region>,
    off: u32,
) -> core::result::Result<(), CodeError> {
    let bytes = source(mm, start, vma, off)?;
    let base = reserve()?;
    // What a fragment leaves in the heap: asked for before anything is published.
    let room = CACHE.with_mut(|c| c.exits.try_reserve(FRAGMENT_EXITS_MAX)).is_ok();
    if !room || crate::mm::admit_last().is_err() {
        return Err(CodeError::Fault(FaultError::HeapFull));
    }
    let first_exit = CACHE.with(|c| c.exits.len()) as u32;
    let prefetch_returns = region.entries.with(|e| e.return_sites > PREFETCH_FROM);
    let cfg = tr::Config {
        stubs: rtcode::stubs(),
        max_instructions: FRAGMENT_MAX,
        prefetch_returns,
        returns: rtcode::returns(),
    };
    let src = tr::Source { start: off, bytes: &bytes };
    let frag = match tr::translate(&cfg, src, base, first_exit, &Known(region)) {
        Ok(f) => f,
        Err(_) => return Err(CodeError::Fault(FaultError::NotMapped)),
    };
    if frag.code.len() > FRAGMENT_BYTES_MAX {
        return Err(CodeError::Full);
    }
    rtcode::publish(base, &frag.code).map_err(|why| match why {
        rtcode::Refused::Violation(v) => CodeError::Refused(v.check.reason()),
        rtcode::Refused::NoMemory => CodeError::Full,
    })?;
    CACHE.with_mut(|c| c.next = (base + frag.code.len() as u32 + 15) & !15);
    if !frag.entries.iter().all(|e| rtcode::is_entry(e.at)) {
        return Err(CodeError::Refused("an entry that is not proven"));
    }
    crate::stats::add("fragments", 1);
    crate::stats::add("translated_bytes", frag.code.len() as u64);
    let tabled = cfi::jump_tables(start, vma, &frag.taken);
    region.entries.with_mut(|e| {
        e.tabled.extend(tabled);
        e.spreads.extend(&frag.spreads);
        for n in &frag.entries {
            e.insert(n.off, n.at);
            e.return_sites += usize::from(n.kind == tr::EntryKind::ReturnSite);
        }
        for off in &frag.returns {
            e.insert_return(*off);
        }
        e.taken.extend(frag.taken.iter().copied().filter(|off| mm.is_executable(u64::from(*off))));
    });
    CACHE.with_mut(|c| {
        for x in &frag.exits {
            c.exits.push(ExitInfo { region: region.id, target: x.target, patch_at: x.patch_at });
        }
        c.fragments.insert(base, Placed { len: frag.code.len() as u32, rows: frag.rows });
    });
    // Entries at once: each saves a miss. The first return into a new table chunk would fault, so it is committed.
    for e in &frag.entries {
        match e.kind {
            tr::EntryKind::ReturnSite => set_entry(mm, Kind::Ret, e.off, e.at),
            // A branch may go there anyway, unless the level asks each time.
            tr::EntryKind::Start if !cfi::is_strict() => {
                rtcode::table_set(mm.slot(), Kind::Call, e.off, e.at);
            }
            tr::EntryKind::Start | tr::EntryKind::Internal => {}
        }
    }
    mm.protect_translated(start, vma);
    Ok(())
}

/// More exits than a fragment of `FRAGMENT_MAX` instructions has.
const FRAGMENT_EXITS_MAX: usize = 2 * FRAGMENT_MAX;

/// An address with room for the largest fragment.
fn reserve() -> core::result::Result<u32, CodeError> {
    let (next, end) = CACHE.with(|c| (c.next, c.end));
    if next != 0 && (end - next) as usize >= FRAGMENT_BYTES_MAX {
        return Ok(next);
    }
    let base = rtcode::alloc(PIECE).ok_or(CodeError::Full)?;
    CACHE.with_mut(|c| {
        // Adjacent pieces join, so nothing of the last one is lost.
        if c.end != base {
            c.next = base;
        }
        c.end = base + PIECE as u32;
        Ok(c.next)
    })
}

/// Translated address of `off` for a task that resumes there (`rt::task::Task::set_entry`).
pub fn direct(mm: &Mm, off: u32) -> core::result::Result<u32, CodeError> {
    entry(mm, off).map(|(at, _)| at)
}

/// A direct branch that is not linked yet: links it if the target is in the same region; returns where to go on.
pub fn link(mm: &Mm, index: u32) -> core::result::Result<(u32, u32), (u32, CodeError)> {
    let info = CACHE.with(|c| c.exits.get(index as usize).map(|x| (x.region, x.target, x.patch_at)));
    let Some((from, target, patch_at)) = info else {
        return Err((0, CodeError::Fault(FaultError::NotMapped)));
    };
    let (at, region) = entry(mm, target).map_err(|e| (target, e))?;
    if region.id == from {
        rtcode::patch_rel32(patch_at, at);
    }
    Ok((target, at))
}

/// A lookup-table miss of a task: if the branch is allowed, fills the entry and returns where to go on.
pub fn miss(t: &Task, mm: &Arc<Mm>, kind: Kind, target: u32) -> core::result::Result<u32, CodeError> {
    let place = place(mm, target)?;
    let allowed = cfi::check(t, kind, &place)?.ok_or(CodeError::Forbidden(kind))?;
    let (at, _) = entry(mm, target)?;
    if allowed == cfi::Allowed::Always {
        set_entry(mm, kind, target, at);
    }
    Ok(at)
}

/// What is known of an offset.
pub fn place(mm: &Arc<Mm>, off: u32) -> core::result::Result<Place, CodeError> {
    let (start, vma, region) = locate(mm, off)?;
    Ok(Place { mm: mm.clone(), off, start, vma, region })
}

/// An executable offset, with what is known of the code there.
pub struct Place {
    /// Memory.
    pub mm: Arc<Mm>,
    /// The offset.
    pub off: u32,
    /// Translations of the mapping it is in.
    pub region: Arc<Region>,
    start: u64,
    vma: Vma,
}

impl Place {
    /// The file and the offset there, of code that shows it as it is.
    pub fn in_file(&self) -> Option<(&MapFile, u64)> {
        match &self.vma.backing {
            Backing::File(f, off) if !self.vma.private_code => {
                Some((f, off + (u64::from(self.off) - self.start)))
            }
            _ => None,
        }
    }

    /// The bytes there.
    pub fn bytes<const N: usize>(&self) -> Option<[u8; N]> {
        source(&self.mm, self.start, &self.vma, self.off).ok()?.first_chunk().copied()
    }

    /// Was the code written, or its mapping split? Then what was known of it before is lost.
    pub fn code_changed(&self) -> bool {
        self.vma.private_code || !matches!(self.vma.backing, Backing::File(..))
    }

    /// Do the bytes before it decode as a call?
    pub fn is_behind_call(&self) -> bool {
        occlum_cfi::ends_with_call(&self.bytes_before(occlum_cfi::LONGEST_CALL))
    }

    /// Is it one of the steps behind a label that code adds an index to before it jumps?
    pub fn is_step_behind_label(&self) -> bool {
        const STEPS_BYTES: u32 = 1000;
        let lowest = self.off.saturating_sub(STEPS_BYTES);
        let labels: Vec<u32> =
            self.region.entries.with(|e| e.spreads.range(lowest..=self.off).copied().collect());
        labels.into_iter().filter(|label| u64::from(*label) >= self.start).any(|label| {
            let bytes = source(&self.mm, self.start, &self.vma, label).unwrap_or_default();
            occlum_cfi::decodes_to(&bytes, (self.off - label) as usize)
        })
    }

    /// The byte before it.
    pub fn byte_before(&self) -> Option<u8> {
        self.bytes_before(1).last().copied()
    }

    /// Up to `n` bytes of the mapping that lie before it; none if they cannot be read.
    fn bytes_before(&self, n: usize) -> Vec<u8> {
        let n = (u64::from(self.off) - self.start).min(n as u64) as u32;
        let mut bytes = source(&self.mm, self.start, &self.vma, self.off - n).unwrap_or_default();
        bytes.truncate(n as usize);
        if bytes.len() < n as usize { Vec::new() } else { bytes }
    }
}

/// Did an instruction that was translated in some mapping of `mm` make this address?
pub fn is_taken(mm: &Mm, off: u32) -> bool {
    let mut regions = mm.vmas().filter_map(|(_, v)| v.region);
    regions.any(|r| r.entries.with(|e| e.taken.contains(&off)))
}

/// Sets a table entry. If the host has no memory for it, each lookup misses, no more.
fn set_entry(mm: &Mm, kind: Kind, off: u32, at: u32) {
    if !rtcode::table_set(mm.slot(), kind, off, at) && rtcode::table_commit(mm.slot(), off) {
        rtcode::table_set(mm.slot(), kind, off, at);
    }
}

/// Brings a task that was interrupted at a translated pc back to its original state (R22): registers and pc.
pub fn undo(task: &Task, translated: u64) -> Result<u32> {
    let pc = u32::try_from(translated).map_err(|_| Errno::EFAULT)?;
    let undo = CACHE.with(|c| {
        let (base, placed) = c.fragments.range(..=pc).next_back()?;
        if pc - base >= placed.len {
            return None;
        }
        let mut code = vec![0u8; placed.len as usize];
        rtcode::read(*base, &mut code);
        tr::undo(&placed.rows, &code, *base, pc)
    });
    let undo = undo.ok_or(Errno::EFAULT)?;
    for n in 0..16 {
        if undo.restore[n] {
            task.rt.set_gpr(n, task.rt.spill(n));
        }
        if undo.truncate[n] {
            task.rt.set_gpr(n, task.rt.gpr(n) & 0xffff_ffff);
        }
    }
    if let Some(rcx) = undo.rcx {
        task.rt.set_gpr(1, u64::from(rcx));
    }
    if undo.rsp_delta != 0 {
        task.rt.set_gpr(4, task.rt.gpr(4).wrapping_add_signed(i64::from(undo.rsp_delta)));
    }
    undo_shadow(task, undo.shadow);
    task.rt.set_rip(undo.pc);
    Ok(undo.pc)
}

/// The shadow word that an interrupted call wrote goes, that which a return consumed is live again; rsp is undone.
fn undo_shadow(task: &Task, what: tr::ShadowWord) {
    let (slot, rsp) = (task.rt.slot(), task.rt.gpr(4) as u32);
    match what {
        tr::ShadowWord::Kept => {}
        tr::ShadowWord::Pushed => _ = occlum_rt::shadow::store(slot, rsp.wrapping_sub(8), 0),
        tr::ShadowWord::Consumed => occlum_rt::shadow::revive(slot, rsp),
    }
}

impl Region {
    /// Does a jump table of it lead to this offset?
    pub fn has_in_table(&self, off: u32) -> bool {
        self.entries.with(|e| e.tabled.contains(&off))
    }
    /// Has a call been translated that returns to this offset?
    pub fn returns_to(&self, off: u32) -> bool {
        self.entries.with(|e| e.returns_to(off))
    }
    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// First guest offset it covers.
    pub fn start(&self) -> u64 {
        self.start
    }
}
