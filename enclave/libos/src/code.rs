//! The translation manager: which code of which mapping is translated, where, and how to get there.
//!
//! Neighbours: `occlum-sfi-translator` makes fragments, `rt::code` is the only writer of the cache and the tables (the
//! verifier's seam), `mm` says which bytes are executable. Parts: `cache` (where fragments lie and how they go),
//! `pieces` (their memory), `stale` (bringing tasks out of them). Invariants: a shared region's translations depend only on (file identity and version,
//! file offset, guest offset), so every process that maps the same shares them (R26); regions of memory that can change
//! belong to one domain, and a page that fragments of one were made of cannot be written until they are dropped. Direct
//! links stay inside a region.
mod cache;
mod pieces;
mod stale;

pub use cache::{end_account, epoch, new_account, report};
pub use stale::{Step, end_step, settle, undo};

use crate::cfi;
use crate::errno::Errno;
use crate::mm::{Access, Backing, FaultError, MapFile, Mm, PAGE, Vma};
use crate::process::Task;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use occlum_linux_abi::mmap as mf;
use occlum_rt::bkl::BklCell;
use occlum_rt::code as rtcode;
use occlum_rt::slot::Slot;
use occlum_sfi_spec::Returns;
use occlum_sfi_spec::table::Kind;
use occlum_sfi_translator as tr;

/// Most source bytes one translation looks at.
const SOURCE_MAX: u64 = 1024;
/// Most instructions of one fragment.
const FRAGMENT_MAX: usize = 400;
/// Calls of mappings from this length on prefetch the entries of their return sites, which no longer fit the caches.
/// Measured: 10 % more transactions of PostgreSQL (5 MiB), 12 % faster code for cc1 (22 MiB); 1-3 % slower for
/// interpreters (up to 3 MiB).
const PREFETCH_FROM: u64 = 4 << 20;

/// Translations of one executable mapping.
pub struct Region {
    id: u64,
    /// First guest offset it covers.
    start: u64,
    /// The slot of the one domain that has it; `None`: processes share it.
    slot: Option<Slot>,
    entries: BklCell<Index>,
    /// Of a private region: fragments by page of their original bytes.
    pages: BklCell<BTreeMap<u32, Vec<u32>>>,
}

/// Translated addresses by offset: a sorted list for each page of the region.
struct Index {
    start: u32,
    pages: Vec<Vec<(u32, u32)>>,
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
    /// Bytes that it takes when it is new.
    fn cost(start: u64, end: u64) -> u64 {
        (end - start) / 4096 * size_of::<Vec<(u32, u32)>>() as u64
    }

    fn new(start: u64, end: u64) -> Index {
        let pages = (end - (start & !4095)).div_ceil(4096) as usize;
        Index {
            start: start as u32 & !4095,
            pages: vec![Vec::new(); pages],
            returns: BTreeMap::new(),
            taken: BTreeSet::new(),
            spreads: BTreeSet::new(),
            tabled: BTreeSet::new(),
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

    /// Forgets an entry, if it is the one at `at`.
    fn remove(&mut self, off: u32, at: u32) {
        let n = self.page(off);
        let Some(page) = self.pages.get_mut(n) else { return };
        if let Ok(n) = page.binary_search(&(off, at)) {
            page.remove(n);
        }
    }
}

/// What makes two mappings the same code: file id, version, file offset, guest offset, length.
type RegionKey = (u64, u64, u64, u64, u64);

struct Regions {
    last: u64,
    shared_ids: BTreeSet<u64>,
    shared: BTreeMap<RegionKey, Arc<Region>>,
}
static REGIONS: BklCell<Regions> =
    BklCell::new(Regions { last: 0, shared_ids: BTreeSet::new(), shared: BTreeMap::new() });

/// Why an address can't be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeError {
    /// Not mapped, not executable, past the end of the file: as a fetch fault.
    Fault(FaultError),
    /// The same for the part of an instruction that lies at this offset.
    Part(u32, FaultError),
    /// The mapping ends within the instruction, which may go on in the next: `step`.
    Cut,
    /// The code cache is full.
    Full,
    /// The verifier does not accept the translation, for this reason.
    Refused(&'static str),
    /// Control-flow integrity does not let a branch of this kind go there.
    Forbidden(Kind),
}

/// Is the region one that every process with the same file mapping shares?
pub fn is_shared_region(id: u64) -> bool {
    REGIONS.with(|c| c.shared_ids.contains(&id))
}

/// What the translator may jump to without a link. Private fragments may be dropped, so they are always linked.
struct Known<'a>(&'a Region);
impl tr::Env for Known<'_> {
    fn lookup(&self, off: u32) -> Option<u32> {
        if self.0.is_shared() { self.0.entry(off) } else { None }
    }
}

/// What names the region of a vma whose translations processes share.
fn shared_key(start: u64, vma: &Vma) -> Option<RegionKey> {
    match &vma.backing {
        Backing::File(f, off) if vma.prot() & mf::PROT_EXEC != 0 && !vma.has_own_code() => {
            let (id, version) = f.id();
            Some((id, version, *off, start, vma.end))
        }
        _ => None,
    }
}

/// The region that another process made for such a vma.
pub fn known_region(start: u64, vma: &Vma) -> Option<Arc<Region>> {
    let key = shared_key(start, vma)?;
    REGIONS.with(|c| c.shared.get(&key).cloned())
}

/// Drops the regions that processes shared and none has mapped now, with their code: it is translated again when a process
/// maps the file again. For when their room is wanted.
pub fn drop_unmapped() {
    let dead: Vec<Arc<Region>> = REGIONS.with_mut(|c| {
        let dead: Vec<RegionKey> =
            c.shared.iter().filter(|(_, r)| Arc::strong_count(r) == 1).map(|(key, _)| *key).collect();
        dead.iter()
            .filter_map(|key| c.shared.remove(key))
            .inspect(|r| _ = c.shared_ids.remove(&r.id))
            .collect()
    });
    if dead.is_empty() {
        return;
    }
    let ids: Vec<u64> = dead.iter().map(|r| r.id).collect();
    cache::drop_shared(&ids);
    cache::bring_in_all();
    cache::reclaim();
}

/// There is no room for code that a process needs: what nobody maps goes, and all private code of the process that has most
/// of it, which makes it again as it runs.
pub fn make_room() {
    if !cache::may_look() {
        return;
    }
    drop_unmapped();
    let largest = crate::process::Process::all()
        .iter()
        .filter_map(|p| p.mm())
        .max_by_key(|mm| cache::private_bytes(mm.slot().index()));
    if let Some(mm) = largest {
        mm.drop_private_code();
        crate::stats::add("private_code_given_way", 1);
    }
    cache::bring_in_all();
    cache::reclaim();
}

/// The region of an executable vma, made if it has none yet.
fn region_of(mm: &Mm, start: u64, vma: &Vma) -> core::result::Result<Arc<Region>, CodeError> {
    if let Some(r) = &vma.region {
        return Ok(r.clone());
    }
    crate::mm::admit(Index::cost(start, vma.end)).map_err(|_| CodeError::Fault(FaultError::HeapFull))?;
    let region = match shared_key(start, vma) {
        Some(key) => known_region(start, vma).unwrap_or_else(|| {
            let r = Region::new(start, vma, None);
            REGIONS.with_mut(|c| {
                c.shared_ids.insert(r.id);
                c.shared.insert(key, r.clone())
            });
            r
        }),
        None => Region::new(start, vma, Some(mm.slot())),
    };
    mm.set_region(start, region.clone());
    Ok(region)
}

/// The executable vma of `off`.
fn executable(mm: &Mm, off: u32) -> core::result::Result<(u64, Vma), CodeError> {
    let (start, vma) = mm.find(u64::from(off)).ok_or(CodeError::Fault(FaultError::NotMapped))?;
    if vma.prot() & mf::PROT_EXEC == 0 {
        return Err(CodeError::Fault(FaultError::Denied));
    }
    Ok((start, vma))
}

/// The entry of `off`, translated now if it was not.
fn entry(mm: &Mm, off: u32) -> core::result::Result<(u32, Arc<Region>), CodeError> {
    let (start, vma) = executable(mm, off)?;
    let region = region_of(mm, start, &vma)?;
    if region.entry(off).is_none() {
        match translate(mm, start, &vma, &region, off) {
            // Who has brought in more than is left for others goes on with code of its own, which goes when it is too much.
            Err(CodeError::Full) if region.is_shared() => {
                crate::stats::add("regions_not_shared", 1);
                drop(region);
                mm.own_code(start..vma.end);
                return entry(mm, off);
            }
            r => r?,
        }
    }
    match region.entry(off) {
        Some(at) => Ok((at, region)),
        None => Err(CodeError::Fault(FaultError::Denied)),
    }
}

/// The bytes at `off`. With a region, whose translation is to be made of them: a write to them is a fault from here on,
/// which drops it.
fn source(
    mm: &Mm,
    (start, vma): (u64, &Vma),
    off: u32,
    region: Option<&Region>,
) -> core::result::Result<Vec<u8>, CodeError> {
    let off = u64::from(off);
    let end = (off + SOURCE_MAX).min(vma.end);
    let mut bytes = vec![0u8; (end - off) as usize];
    // Pristine file pages are read from the page cache: text need not be resident to run.
    if let Backing::File(f, foff) = &vma.backing
        && !vma.has_own_code()
    {
        let left = f.0.inode().size().saturating_sub(foff + (off - start));
        if left == 0 {
            return Err(CodeError::Fault(FaultError::NoContent));
        }
        // A read that fails or ends early must not become translated zeros, which other processes would share.
        let n = match f.0.inode().read_at(foff + (off - start), &mut bytes) {
            Err(Errno::ENOMEM) => return Err(CodeError::Fault(FaultError::HeapFull)),
            Err(_) | Ok(0) => return Err(CodeError::Fault(FaultError::NoContent)),
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
    if let Some(region) = region {
        mm.guard(start, vma, region, off & !4095..at).map_err(CodeError::Fault)?;
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
    if let Some(slot) = region.slot.filter(|s| cache::is_over_quota(s.index())) {
        // Its own code goes; what it still runs comes back when it is next needed.
        cache::reclaim();
        if cache::is_over_quota(slot.index()) {
            mm.drop_private_code();
        }
    }
    let bytes = source(mm, (start, vma), off, Some(region))?;
    let src = tr::Source { start: off, bytes: &bytes };
    let making = Making {
        account: mm.code_account(),
        max_instructions: FRAGMENT_MAX,
        prefetch_returns: vma.end - start >= PREFETCH_FROM,
        returns: rtcode::returns(),
        native_tsc: crate::vdso::is_code(vma),
    };
    let (base, frag) = publish(region.owner(), src, &Known(region), making)?;
    let origin = region.origin(off..off.saturating_add(frag.source_len));
    let tabled = cfi::jump_tables(start, vma, &frag.taken);
    region.entries.with_mut(|e| {
        e.tabled.extend(tabled);
        e.spreads.extend(&frag.spreads);
    });
    region.add(mm, base, &frag, &origin.source);
    let entries = frag.entries.clone();
    cache::place(base, frag, origin);
    link_known(region, base.base, &entries);
    fill_tables(mm, vma, &entries);
    Ok(())
}

/// A new fragment's entries go into the tables at once: each saves a miss.
fn fill_tables(mm: &Mm, vma: &Vma, entries: &[tr::Entry]) {
    let sites =
        || entries.iter().filter(|e| e.kind == tr::EntryKind::ReturnSite && u64::from(e.off) < vma.end);
    // The first return into a new page of the table would fault, so it is committed.
    if let (Some(first), Some(last)) = (sites().map(|e| e.off).min(), sites().map(|e| e.off).max()) {
        // Without memory each lookup misses, no more.
        let _ = mm.commit_table(Kind::Ret, first..last.saturating_add(1));
    }
    sites().for_each(|e| set_entry(mm, Kind::Ret, e.off, e.at));
    // A branch may go to a start anyway, unless the level asks each time.
    let starts = entries.iter().filter(|e| e.kind == tr::EntryKind::Start && u64::from(e.off) < vma.end);
    for e in starts.filter(|_| !cfi::is_strict()) {
        rtcode::table_set(mm.slot(), Kind::Call, e.off, e.at);
    }
}

/// How a fragment is made.
struct Making {
    /// Who pays for shared code.
    account: u64,
    max_instructions: usize,
    prefetch_returns: bool,
    returns: Returns,
    /// The vDSO's own `rdtsc` is executed; that of programs can be forbidden (`PR_SET_TSC`).
    native_tsc: bool,
}

/// Makes a fragment and publishes it in the owner's pieces; counts the time it took.
fn publish(
    owner: cache::Owner,
    src: tr::Source<'_>,
    env: &dyn tr::Env,
    making: Making,
) -> core::result::Result<(cache::Room, tr::Fragment), CodeError> {
    let begin = crate::time::monotonic_ns();
    let made = make(owner, src, env, making);
    let took = crate::time::monotonic_ns() - begin;
    crate::stats::add("translation_ns", took);
    crate::process::with_current(|t| t.count_system(took));
    made
}

fn make(
    owner: cache::Owner,
    src: tr::Source<'_>,
    env: &dyn tr::Env,
    making: Making,
) -> core::result::Result<(cache::Room, tr::Fragment), CodeError> {
    // What a fragment leaves in the heap: asked for before anything is published.
    if crate::mm::admit_last().is_err() {
        return Err(CodeError::Fault(FaultError::HeapFull));
    }
    let cfg = tr::Config {
        stubs: rtcode::stubs(),
        max_instructions: making.max_instructions,
        prefetch_returns: making.prefetch_returns,
        returns: making.returns,
        native_tsc: making.native_tsc,
    };
    let (mut room, mut frag);
    let mut need = cache::FRAGMENT_BYTES_MIN;
    loop {
        room = cache::room(owner, making.account, need).ok_or(CodeError::Full)?;
        frag = tr::translate(&cfg, src, room.base, room.first_exit(), env).map_err(|e| match e {
            tr::Error::Truncated => CodeError::Cut,
            tr::Error::BadAddress => CodeError::Fault(FaultError::NotMapped),
        })?;
        if frag.code.len() <= room.len {
            break;
        }
        if need == cache::FRAGMENT_BYTES_MAX {
            return Err(CodeError::Full);
        }
        // The place decides about the length, so once more where there is room to spare.
        need = (2 * frag.code.len()).min(cache::FRAGMENT_BYTES_MAX);
    }
    if frag.code.len() > cache::FRAGMENT_BYTES_MAX || frag.exits.len() > cache::EXITS_MAX {
        return Err(CodeError::Full);
    }
    rtcode::publish(room.base, &frag.code, making.returns).map_err(|why| match why {
        rtcode::Refused::Violation(v) => CodeError::Refused(v.check.reason()),
        rtcode::Refused::NoMemory => CodeError::Full,
    })?;
    crate::stats::add("fragments", 1);
    crate::stats::add("translated_bytes", frag.code.len() as u64);
    if !frag.entries.iter().all(|e| rtcode::is_entry(e.at)) {
        // It is proven, so it may lie there; nothing leads to it.
        rtcode::retire(room.base, frag.code.len());
        return Err(CodeError::Refused("an entry that is not proven"));
    }
    Ok((room, frag))
}

/// Links a new private fragment to those of its region, as `Known` does for shared ones.
fn link_known(region: &Region, base: u32, entries: &[tr::Entry]) {
    if region.is_shared() {
        return;
    }
    for (exit, target) in cache::exits_of(base) {
        // What it has an entry for itself it branches to itself.
        if let Some(at) = region.entry(target).filter(|_| entries.iter().all(|e| e.off != target)) {
            cache::link(exit, at);
        }
    }
}

/// Lets the task execute the one instruction at its rip from a fragment of its own, which serves once and guards nothing:
/// one that is about to change code that it belongs to, which would be write-protected again before it could; or one that
/// lies in two mappings, whose translations come and go apart.
pub fn step(task: &Task, mm: &Mm) -> core::result::Result<u32, CodeError> {
    let off = task.rt.rip();
    let (bytes, end) = instruction_bytes(mm, off);
    let src = tr::Source { start: off, bytes: &bytes };
    let (room, frag) = publish(
        cache::Owner::Slot(mm.slot().index()),
        src,
        &Nothing,
        Making {
            account: mm.code_account(),
            max_instructions: 1,
            prefetch_returns: false,
            returns: rtcode::returns(),
            native_tsc: false,
        },
    )
    .map_err(|e| match (e, end) {
        (CodeError::Cut, Some(why)) => CodeError::Part(off.wrapping_add(bytes.len() as u32), why),
        (e, _) => e,
    })?;
    for to in &frag.returns {
        if let Ok((start, vma)) = executable(mm, *to)
            && let Ok(region) = region_of(mm, start, &vma)
        {
            region.entries.with_mut(|e| e.insert_return(*to));
        }
    }
    let source = off..off.saturating_add(frag.source_len);
    let slot = Some(mm.slot().index());
    cache::place(room, frag, cache::Origin { region: Region::number(), start: 0, slot, source });
    drop(task.step.replace(Some(stale::Step(room.base))));
    Ok(room.base)
}

/// The executable bytes at `off`, as many as an instruction may have, in whatever mappings; why there are no more.
fn instruction_bytes(mm: &Mm, off: u32) -> (Vec<u8>, Option<FaultError>) {
    const LONGEST: u64 = 15;
    let (mut at, last) = (u64::from(off), u64::from(off) + LONGEST);
    let mut bytes = Vec::new();
    while at < last {
        let mut part = vec![0; (last.min((at & !(PAGE - 1)) + PAGE) - at) as usize];
        if let Err(e) = mm.handle_fault(at as u32, Access::Exec) {
            return (bytes, Some(e));
        }
        if mm.slot().read(at, &mut part).is_err() {
            return (bytes, Some(FaultError::Denied));
        }
        at += part.len() as u64;
        bytes.extend(part);
    }
    (bytes, None)
}

struct Nothing;
impl tr::Env for Nothing {
    fn lookup(&self, _: u32) -> Option<u32> {
        None
    }
}

/// Translated address of `off` for a task that resumes there (`rt::task::Task::set_entry`).
pub fn direct(mm: &Mm, off: u32) -> core::result::Result<u32, CodeError> {
    entry(mm, off).map(|(at, _)| at)
}

/// A direct branch that is not linked yet: links it if the target is in the same region; returns where to go on.
pub fn link(mm: &Mm, exit: u32) -> core::result::Result<(u32, u32), (u32, CodeError)> {
    let Some((from, target)) = cache::exit_of(exit) else {
        return Err((0, CodeError::Fault(FaultError::NotMapped)));
    };
    let (at, region) = entry(mm, target).map_err(|e| (target, e))?;
    if region.id == from {
        cache::link(exit, at);
    }
    Ok((target, at))
}

/// A lookup-table miss of a task: if the branch is allowed, fills the entry and returns where to go on.
pub fn miss(t: &Task, mm: &Arc<Mm>, kind: Kind, target: u32) -> core::result::Result<u32, CodeError> {
    let place = place(mm, target)?;
    let read = cfi::files_read();
    let allowed = cfi::check(t, kind, &place)?.ok_or(CodeError::Forbidden(kind))?;
    // Something else may be there since others ran.
    let stays = allowed == cfi::Allowed::Always && read == cfi::files_read();
    let (at, _) = entry(mm, target)?;
    if stays {
        set_entry(mm, kind, target, at);
    }
    Ok(at)
}

/// What is known of an offset.
pub fn place(mm: &Arc<Mm>, off: u32) -> core::result::Result<Place, CodeError> {
    let (start, vma) = executable(mm, off)?;
    let region = region_of(mm, start, &vma)?;
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
            Backing::File(f, off) if !self.vma.has_own_code() => {
                Some((f, off + (u64::from(self.off) - self.start)))
            }
            _ => None,
        }
    }

    fn source(&self, off: u32) -> Vec<u8> {
        source(&self.mm, (self.start, &self.vma), off, None).unwrap_or_default()
    }

    /// The bytes there.
    pub fn bytes<const N: usize>(&self) -> Option<[u8; N]> {
        self.source(self.off).first_chunk().copied()
    }

    /// Is it one of the steps behind a label that code adds an index to before it jumps?
    pub fn is_step_behind_label(&self) -> bool {
        const STEPS_BYTES: u32 = 1000;
        let lowest = self.off.saturating_sub(STEPS_BYTES);
        let labels: Vec<u32> =
            self.region.entries.with(|e| e.spreads.range(lowest..=self.off).copied().collect());
        let mut inside = labels.into_iter().filter(|label| u64::from(*label) >= self.start);
        inside.any(|label| occlum_cfi::decodes_to(&self.source(label), (self.off - label) as usize))
    }

    /// Was the code written, or its mapping split? Then what was known of it before is lost.
    pub fn code_changed(&self) -> bool {
        self.vma.has_own_code() || !matches!(self.vma.backing, Backing::File(..))
    }

    /// Is it in memory without a file of the tree, as the code that programs make?
    pub fn is_generated(&self) -> bool {
        self.vma.backing.file().is_none_or(|f| f.0.inode().seals().is_some())
    }

    /// Do the bytes before it decode as a call?
    pub fn is_behind_call(&self) -> bool {
        occlum_cfi::ends_with_call(&self.bytes_before(occlum_cfi::LONGEST_CALL))
    }

    /// The byte before it.
    pub fn byte_before(&self) -> Option<u8> {
        self.bytes_before(1).last().copied()
    }

    /// Up to `n` bytes of the mapping that lie before it; none if they cannot be read.
    fn bytes_before(&self, n: usize) -> Vec<u8> {
        let n = (u64::from(self.off) - self.start).min(n as u64) as u32;
        let mut bytes = self.source(self.off - n);
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
    if !rtcode::table_set(mm.slot(), kind, off, at)
        && mm.commit_table(kind, off..off.saturating_add(1)).is_ok()
    {
        rtcode::table_set(mm.slot(), kind, off, at);
    }
}

impl Region {
    fn number() -> u64 {
        REGIONS.with_mut(|c| {
            c.last += 1;
            c.last
        })
    }

    fn new(start: u64, vma: &Vma, slot: Option<Slot>) -> Arc<Region> {
        let entries = BklCell::new(Index::new(start, vma.end));
        Arc::new(Region { id: Region::number(), start, slot, entries, pages: BklCell::new(BTreeMap::new()) })
    }

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
    /// Is it one that every process with the same file mapping shares?
    pub fn is_shared(&self) -> bool {
        self.slot.is_none()
    }
    /// Was something translated that begins or ends in this page?
    pub fn has_code(&self, page: u64) -> bool {
        self.pages.with(|p| p.contains_key(&((page / PAGE) as u32)))
    }

    fn entry(&self, off: u32) -> Option<u32> {
        self.entries.with(|e| e.get(off))
    }

    fn owner(&self) -> cache::Owner {
        self.slot.map_or(cache::Owner::Region(self.id), |s| cache::Owner::Slot(s.index()))
    }

    fn origin(&self, source: Range<u32>) -> cache::Origin {
        cache::Origin { region: self.id, start: self.start, slot: self.slot.map(Slot::index), source }
    }

    fn add(&self, mm: &Mm, room: cache::Room, frag: &tr::Fragment, source: &Range<u32>) {
        self.entries.with_mut(|e| {
            for n in &frag.entries {
                e.insert(n.off, n.at);
            }
            for off in &frag.returns {
                e.insert_return(*off);
            }
            e.taken.extend(frag.taken.iter().copied().filter(|off| mm.is_executable(u64::from(*off))));
        });
        if !self.is_shared() {
            self.pages.with_mut(|p| {
                for page in pages_of(source) {
                    p.entry(page).or_default().push(room.base);
                }
            });
        }
    }

    /// Drops the fragments of a private region that were made of bytes of these pages.
    pub fn drop_pages(&self, r: Range<u64>) {
        let Some(slot) = self.slot else { return };
        let hit = (r.start / PAGE) as u32..r.end.div_ceil(PAGE) as u32;
        let bases: Vec<u32> =
            self.pages.with(|p| p.range(hit).flat_map(|(_, b)| b.iter().copied()).collect());
        for (base, source, entries) in cache::drop_fragments(slot, bases) {
            self.entries.with_mut(|e| entries.iter().for_each(|(off, at)| e.remove(*off, *at)));
            for (off, _) in entries {
                rtcode::table_clear(slot, off, off.saturating_add(1));
            }
            self.pages.with_mut(|p| {
                for page in pages_of(&source) {
                    let Some(list) = p.get_mut(&page) else { continue };
                    list.retain(|b| *b != base);
                    if list.is_empty() {
                        p.remove(&page);
                    }
                }
            });
        }
    }
}

/// Numbers of the pages that a fragment was made of.
fn pages_of(source: &Range<u32>) -> core::ops::RangeInclusive<u32> {
    source.start / PAGE as u32..=source.end.saturating_sub(1).max(source.start) / PAGE as u32
}

impl Drop for Region {
    fn drop(&mut self) {
        self.drop_pages(0..u64::from(u32::MAX));
    }
}

/// Nobody may go on in translated code of the slot as it was: a region is not mapped, or not executable, any more.
pub fn regions_changed(slot: Slot) {
    cache::new_epoch();
    occlum_rt::vcpu::stop_others(slot);
}
