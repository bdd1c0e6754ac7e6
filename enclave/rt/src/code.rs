//! The code cache and the lookup tables: the only writer of both (R20). Nothing becomes executable by another way.
//!
//! Invariants: bytes are published only inside what `alloc` gave out, and only if the verifier accepts them; entries and
//! links name entries it has proven; a table page is filled with the miss stubs before any guest thread can see it (R19).
use crate::asm::label;
use crate::bkl::BklCell;
use crate::proven::{self, Buffers, Published};
use crate::slot::Slot;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::arch::asm;
use core::ops::Range;
use core::ptr::with_exposed_provenance_mut;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use occlum_enclave_abi::Ocall;
use occlum_sfi_spec::table::{self, ENTRY, Kind, entry_addr};
use occlum_sfi_spec::{Returns, Stubs, domain, elrange};
use occlum_sfi_verifier::{Proven, Unit, Violation, check_patch, check_table_entry, verify};

/// The tables of a slot.
const KINDS: [Kind; 2] = [Kind::Ret, Kind::Call];
/// Bytes of a page.
const PAGE: u64 = 4096;
/// Offsets whose entries one page of a table holds.
const PAGE_OFFS: u64 = PAGE / ENTRY;
/// Pages that come in together where the host is to keep few mappings.
const BLOCK: u64 = 4;

/// Committed pages of one table: 64 by the number of the first / 64.
type Bitmap = BTreeMap<u64, u64>;

/// By slot and kind.
static TABLES: BklCell<Vec<[Bitmap; KINDS.len()]>> = BklCell::new(Vec::new());
/// The first line stays empty: a patch looks at the two bytes before its displacement.
const FIRST: u32 = elrange::CODE_BASE as u32 + 16;
static NEXT: AtomicU32 = AtomicU32::new(FIRST);

/// Addresses of the stubs.
pub fn stubs() -> Stubs {
    Stubs {
        syscall: label::stub_syscall() as u32,
        link: label::stub_link() as u32,
        miss_ret: label::stub_miss_ret() as u32,
        miss_call: label::stub_miss_call() as u32,
        emulate: label::stub_emulate() as u32,
    }
}

/// Set once, before any code is published.
static SHADOW: AtomicBool = AtomicBool::new(false);

/// How translated code checks returns: what every unit is verified for.
pub fn returns() -> Returns {
    if SHADOW.load(Ordering::Relaxed) { Returns::Shadow } else { Returns::Table }
}

/// Sets that, for all code of the enclave.
///
/// # Panics
/// If code was published before.
pub fn set_returns(returns: Returns) {
    assert!(NEXT.load(Ordering::Relaxed) == FIRST, "code was published for another kind of returns");
    SHADOW.store(returns == Returns::Shadow, Ordering::Relaxed);
}

/// Is this an address of the image's code? (For crash reports.)
pub(crate) fn in_image_text(addr: u64) -> bool {
    const SPAN: u64 = 8 << 20;
    (elrange::IMAGE_BASE..elrange::IMAGE_BASE + SPAN).contains(&addr)
}

/// Takes `len` bytes of the cache, 16-aligned. `None` when it is full. BKL held.
pub fn alloc(len: usize) -> Option<u32> {
    let at = NEXT.load(Ordering::Relaxed);
    let end = (u64::from(at)).checked_add(len as u64)?.checked_next_multiple_of(16)?;
    if end > elrange::CODE_END {
        return None;
    }
    NEXT.store(end as u32, Ordering::Relaxed);
    Some(at)
}

/// Bytes of the cache given out.
pub fn used() -> u64 {
    u64::from(NEXT.load(Ordering::Relaxed)) - elrange::CODE_BASE
}

/// Was all of [addr, addr + len) given out by `alloc`?
fn is_given_out(addr: u32, len: usize) -> bool {
    let end = u64::from(addr) + len as u64;
    let given = elrange::CODE_BASE..=u64::from(NEXT.load(Ordering::Relaxed));
    given.contains(&u64::from(addr)) && given.contains(&end)
}

/// The pointer to [addr, addr + len) of the cache.
///
/// # Panics
/// If that was not given out by `alloc`.
fn cache(addr: u32, len: usize) -> *mut u8 {
    assert!(is_given_out(addr, len), "not in the code cache");
    with_exposed_provenance_mut(addr as usize)
}

/// Why code is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The verifier does not accept it.
    Violation(Violation),
    /// No memory for what is to be remembered of it.
    NoMemory,
}

/// Claims the place of a unit.
///
/// # Panics
/// If it is not aligned, or a unit lies there.
fn claim(addr: u32, bytes: &[u8]) {
    let free = (addr as usize).is_multiple_of(proven::LINE) && !proven::is_taken(addr, bytes.len());
    assert!(free, "code would be published over other code");
    proven::take(addr, bytes.len());
}

/// Takes the unit of `len` bytes at `addr` away: nothing is proven of the place any more, and it may be used again. BKL
/// held.
///
/// The caller has seen to it (R21) that no lookup table, no link of another unit and no task's resume address leads there,
/// and that no vCPU has run guest code there since. `publish` and `Task::set_entry` refuse what is not proven, so a caller
/// that forgot one gets a panic there and no stale code; for tables and links it has to be right.
pub fn retire(addr: u32, len: usize) {
    proven::clear(addr, len);
    // int3: what leads here all the same stops.
    let p = cache(addr, len);
    // SAFETY: the range is cache memory given out by `alloc`, where no Rust object lies.
    unsafe { core::ptr::write_bytes(p, 0xcc, len) };
}

/// Puts a unit into the cache if the verifier accepts it. BKL held; nothing jumps there yet.
///
/// # Panics
/// If `addr` is not 16-aligned, a unit that was not retired lies there, or the enclave's code is for other returns.
pub fn publish(addr: u32, bytes: &[u8], returns: Returns) -> Result<(), Refused> {
    assert!((returns == Returns::Shadow) == (self::returns() == Returns::Shadow), "code for other returns");
    let mut buffers = Buffers::new(bytes.len()).ok_or(Refused::NoMemory)?;
    let unit = Unit { base: addr, code: bytes };
    verify(&stubs(), returns, unit, &Published, &mut buffers.maps()).map_err(Refused::Violation)?;
    if !buffers.reserve(addr) {
        return Err(Refused::NoMemory);
    }
    claim(addr, bytes);
    write(addr, bytes);
    buffers.record(addr);
    Ok(())
}

/// May the table and links lead to this address?
pub fn is_entry(addr: u32) -> bool {
    Published.is_entry(addr)
}

/// May a task go on at this address with its own r11 in the register and in its slot?
pub(crate) fn is_boundary(addr: u32) -> bool {
    Published.is_boundary(addr)
}

/// Puts bytes into the cache that only the self-test runs; all of them count as proven.
#[cfg(feature = "unverified")]
pub fn publish_unverified(addr: u32, bytes: &[u8]) {
    let mut buffers = Buffers::new(bytes.len()).expect("memory");
    assert!(buffers.reserve(addr), "memory");
    buffers.maps().boundaries.fill(0xff);
    buffers.maps().entries.fill(0xff);
    claim(addr, bytes);
    write(addr, bytes);
    buffers.record(addr);
}

fn write(addr: u32, bytes: &[u8]) {
    let p = cache(addr, bytes.len());
    // SAFETY: 1. the range is cache memory given out by `alloc`; 2. no Rust object lies there; 3. no link
    // leads there yet.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), p, bytes.len()) };
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// Copies bytes out of the cache.
pub fn read(addr: u32, buf: &mut [u8]) {
    let p = cache(addr, buf.len());
    // SAFETY: the range is cache memory given out by `alloc`.
    unsafe { core::ptr::copy_nonoverlapping(p, buf.as_mut_ptr(), buf.len()) };
}

/// Where the proven branch with its displacement at `site` leads now.
pub fn link_target(site: u32) -> u32 {
    let mut rel = [0; 4];
    read(site, &mut rel);
    site.wrapping_add(4).wrapping_add(u32::from_le_bytes(rel))
}

/// Points the 4-byte displacement at `site` to `target`, as one store (R21). False, and nothing done: it is not the
/// displacement of a proven branch inside a 16-byte line, or the target is no proven entry.
pub fn patch_rel32(site: u32, target: u32) -> bool {
    let mut before = [0; 2];
    read(site.wrapping_sub(2), &mut before);
    if check_patch(site, before, target, &Published).is_err() {
        return false;
    }
    let p = cache(site, 4);
    let rel = target.wrapping_sub(site.wrapping_add(4));
    // SAFETY: 1. `cache` checked the range; 2. inside a 16-byte line the CPU stores the 4 bytes at once, and
    // other vCPUs execute the old or the new jump.
    unsafe { asm!("mov [{}], {:e}", in(reg) p, in(reg) rel, options(nostack, preserves_flags)) };
    true
}

fn is_committed(slot: Slot, kind: Kind, page: u64) -> bool {
    TABLES.with(|all| {
        let word = all.get(slot.index() as usize).and_then(|t| t[kind as usize].get(&(page / 64)));
        word.is_some_and(|w| w >> (page % 64) & 1 == 1)
    })
}

fn mark_committed(slot: Slot, kind: Kind, pages: Range<u64>, is_there: bool) {
    TABLES.with_mut(|all| {
        let index = slot.index() as usize;
        if all.len() <= index {
            all.resize_with(index + 1, Default::default);
        }
        let table = &mut all[index][kind as usize];
        for page in pages {
            let word = table.entry(page / 64).or_default();
            *word = *word & !(1 << (page % 64)) | u64::from(is_there) << (page % 64);
            if *word == 0 {
                table.remove(&(page / 64));
            }
        }
    });
}

/// The entry of an offset without code: the miss stub.
fn missing(kind: Kind) -> u32 {
    let stubs = stubs();
    match kind {
        Kind::Ret => stubs.miss_ret,
        Kind::Call => stubs.miss_call,
    }
}

/// Lowest address of the entries of `count` offsets from `off` on.
fn lowest_addr(slot: Slot, kind: Kind, off: u64, count: u64) -> u64 {
    let first = match kind {
        Kind::Ret => off + count - 1,
        Kind::Call => off,
    };
    entry_addr(slot.base(), kind, first as u32)
}

/// The offsets whose entries a run of pages holds: the first, and how many.
fn offs_of(pages: &Range<u64>) -> (u64, u64) {
    (pages.start * PAGE_OFFS, (pages.end - pages.start) * PAGE_OFFS)
}

/// Lowest address of a run of pages, and their bytes.
fn place_of(slot: Slot, kind: Kind, pages: &Range<u64>) -> (u64, u64) {
    let (off, count) = offs_of(pages);
    (lowest_addr(slot, kind, off, count), count * ENTRY)
}

/// The runs of pages in the range that are there, or are not.
fn runs(slot: Slot, kind: Kind, pages: Range<u64>, are_there: bool) -> Vec<Range<u64>> {
    let mut found: Vec<Range<u64>> = Vec::new();
    for page in pages.filter(|page| is_committed(slot, kind, *page) == are_there) {
        match found.last_mut() {
            Some(run) if run.end == page => run.end += 1,
            _ => found.push(page..page + 1),
        }
    }
    found
}

fn store_entry(slot: Slot, kind: Kind, off: u32, v: u32) {
    let p = with_exposed_provenance_mut::<u32>(entry_addr(slot.base(), kind, off) as usize);
    // SAFETY: 1. callers checked that the page is committed; 2. entries are 4-aligned; guests read them at
    // any time, so the store is one atomic word.
    unsafe { AtomicU32::from_ptr(p) }.store(v, Ordering::Release);
}

/// Sets the entry of `off`. False: its page is not committed yet.
///
/// # Panics
/// If the target is not a proven entry.
pub fn table_set(slot: Slot, kind: Kind, off: u32, target: u32) -> bool {
    assert!(check_table_entry(target, &Published).is_ok(), "table entry that is not proven");
    if !table_is_there(slot, kind, off) {
        return false;
    }
    store_entry(slot, kind, off, target);
    true
}

/// Is the page with the entry of `off` committed?
pub fn table_is_there(slot: Slot, kind: Kind, off: u32) -> bool {
    is_committed(slot, kind, u64::from(off) / PAGE_OFFS)
}

/// How pages of a table came to be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Committed {
    /// The host has no memory, or no code can be there.
    Not,
    /// Where they are.
    InPlace,
    /// Made elsewhere, with their content: for the host a mapping of its own.
    MovedIn,
}

/// How far pages come in around those that are asked for: each run of pages is a mapping of the host's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Around {
    /// As many missing pages between two that are there come in as well.
    Gap(u64),
    /// The host is to keep few mappings for the slot.
    Block,
}

/// The runs of pages to commit for the entries of these offsets.
pub fn table_missing(slot: Slot, kind: Kind, offs: Range<u32>, around: Around) -> Vec<Range<u64>> {
    let pages = u64::from(offs.start) / PAGE_OFFS..u64::from(offs.end).div_ceil(PAGE_OFFS);
    let pages = match around {
        Around::Gap(near) if !crate::vcpu::slot_runs_elsewhere(slot) => {
            let there = |page: &u64| is_committed(slot, kind, *page);
            let before = (pages.start.saturating_sub(near + 1)..pages.start).rev().find(there);
            let behind = (pages.end..=pages.end + near).find(there);
            before.map_or(pages.start, |page| page + 1)..behind.unwrap_or(pages.end)
        }
        _ => pages.start / BLOCK * BLOCK..pages.end.next_multiple_of(BLOCK),
    };
    // Where code can be. An rsp that is not confined reaches the entries of the lowest offsets (R2).
    let (first, end) = (domain::MAP_MIN / PAGE_OFFS, domain::EXEC_MAX / PAGE_OFFS);
    runs(slot, kind, pages.start.max(first)..pages.end.min(end), false)
}

/// Commits a run of pages that `table_missing` gave, filled with the miss stubs.
pub fn table_commit(slot: Slot, kind: Kind, pages: Range<u64>) -> Committed {
    let (addr, len) = place_of(slot, kind, &pages);
    let moves_in = crate::vcpu::slot_runs_elsewhere(slot);
    let done = if moves_in {
        commit_filled(addr, len, missing(kind))
    } else {
        // No guest thread of this slot runs, and none can start: the BKL is ours. Nobody sees the zeros.
        let done = crate::mem::commit(addr, len, true).is_ok();
        if done {
            fill(slot, kind, offs_of(&pages));
        } else {
            fill_if_there(addr, len, missing(kind));
        }
        done
    };
    if done {
        mark_committed(slot, kind, pages, true);
    }
    match (done, moves_in) {
        (false, _) => Committed::Not,
        (true, false) => Committed::InPlace,
        (true, true) => Committed::MovedIn,
    }
}

/// Commits pages that appear with their content, as EACCEPTCOPY does.
fn commit_filled(addr: u64, len: u64, entry: u32) -> bool {
    const FILLED: u64 = 4;
    let pattern = u64::from(entry) << 32 | u64::from(entry);
    let args = [addr, len, 3, FILLED, pattern];
    crate::ocall::call(Ocall::MemProtect, &args, &[], &mut []) == 0
}

/// The miss stubs into every entry of pages that the host says it did not commit: what it says may not be so,
/// and an entry of zero leads to address 0 (R19).
fn fill_if_there(addr: u64, len: u64, entry: u32) {
    let page = [entry; PAGE_OFFS as usize];
    for at in (addr..addr + len).step_by(PAGE as usize) {
        // SAFETY: 1. the target is a page of a table, which no Rust object overlaps, written by the routine
        // that stage 1 fixes up if nothing is there; 2. the source is `page`.
        unsafe { crate::asm::occlum_rt_user_copy(at, page.as_ptr() as u64, PAGE) };
    }
}

/// The miss stub into the entries of `count` offsets from `off` on, all inside committed pages.
fn fill(slot: Slot, kind: Kind, (off, count): (u64, u64)) {
    let lowest = lowest_addr(slot, kind, off, count);
    let missing = missing(kind);
    for i in 0..count {
        let p = with_exposed_provenance_mut::<u32>((lowest + i * ENTRY) as usize);
        // SAFETY: 1. callers checked that the pages are committed; 2. entries are 4-aligned; guests read them at any
        // time, so the store is one atomic word.
        unsafe { AtomicU32::from_ptr(p) }.store(missing, Ordering::Release);
    }
}

/// Committed entries of [off_start, off_end) back to the miss stubs.
pub fn table_clear(slot: Slot, off_start: u32, off_end: u32) {
    let (start, end) = (u64::from(off_start), u64::from(off_end));
    for kind in KINDS {
        for run in committed(slot, kind, start / PAGE_OFFS..end.div_ceil(PAGE_OFFS)) {
            let (from, to) = (start.max(run.start * PAGE_OFFS), end.min(run.end * PAGE_OFFS));
            fill(slot, kind, (from, to - from));
        }
    }
}

/// Gives the pages of a slot's tables back; how many. Whatever the host does, no entry leads anywhere but to the miss
/// stubs; what it does not take stays committed. A program that runs in the slot misses its entries.
pub fn table_release(slot: Slot) -> u64 {
    KINDS.into_iter().map(|kind| release(slot, kind)).sum()
}

fn release(slot: Slot, kind: Kind) -> u64 {
    const DROP: u64 = 2;
    let mut gone = 0;
    for run in committed(slot, kind, 0..u64::MAX) {
        let (addr, len) = place_of(slot, kind, &run);
        fill(slot, kind, offs_of(&run));
        if crate::ocall::call(Ocall::MemProtect, &[addr, len, 0, DROP], &[], &mut []) == 0 {
            gone += run.end - run.start;
            mark_committed(slot, kind, run, false);
        } else {
            // The content may have gone all the same.
            fill_if_there(addr, len, missing(kind));
        }
    }
    gone
}

/// The runs of committed pages in a range.
fn committed(slot: Slot, kind: Kind, pages: Range<u64>) -> Vec<Range<u64>> {
    let words: Vec<u64> = TABLES.with(|all| {
        let Some(t) = all.get(slot.index() as usize).map(|t| &t[kind as usize]) else { return Vec::new() };
        t.range(pages.start / 64..pages.end.div_ceil(64)).map(|(n, _)| *n).collect()
    });
    let inside = |n: u64| (n * 64).max(pages.start)..(n * 64 + 64).min(pages.end);
    let mut found: Vec<Range<u64>> = Vec::new();
    for run in words.into_iter().flat_map(|n| runs(slot, kind, inside(n), true)) {
        match found.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => found.push(run),
        }
    }
    found
}

/// Is the instruction at a translated address the lookup in a table (R19)?
pub fn is_lookup(rip: u64) -> bool {
    const LOOKUP: [u8; 5] = [0x65, 0x46, 0x8b, 0x1c, 0x9d];
    let mut bytes = [0; LOOKUP.len()];
    let Some(at) = u32::try_from(rip).ok().filter(|at| is_given_out(*at, bytes.len())) else { return false };
    read(at, &mut bytes);
    bytes == LOOKUP
}

/// Which entry of the slot's tables an address belongs to.
pub fn is_table_addr(slot: Slot, addr: u64) -> Option<(Kind, u32)> {
    table::entry_at(slot.base(), addr)
}
