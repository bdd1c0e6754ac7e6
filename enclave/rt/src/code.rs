//! The code cache and the lookup tables: the only writer of both (R20). Nothing becomes executable by another way.
//!
//! Invariants: bytes are published only inside what `alloc` gave out, and only if the verifier accepts them; entries and
//! links name entries it has proven; a table page is filled with the miss stubs before any guest thread can see it (R19).
use crate::asm::label;
use crate::bkl::BklCell;
use crate::proven::{self, Buffers, Published};
use crate::slot::Slot;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use core::ptr::with_exposed_provenance_mut;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use occlum_enclave_abi::Ocall;
use occlum_sfi_spec::table::{Kind, STRIDE, entry_addr};
use occlum_sfi_spec::{Returns, Stubs, domain, elrange};
use occlum_sfi_verifier::{Proven, Unit, Violation, check_patch, check_table_entry, verify};

/// Offsets covered by one table chunk: a page of code, 32 KiB of table.
pub const CHUNK_OFFS: u64 = 4096;
/// Bytes of a chunk.
pub const CHUNK_BYTES: u64 = CHUNK_OFFS * STRIDE;
/// Chunks per word group of the bitmap (4 MiB of code).
const GROUP: usize = 1024;

/// Committed chunks of one table.
type Bitmap = Vec<Option<Box<[u64; GROUP / 64]>>>;

static TABLES: BklCell<Vec<Bitmap>> = BklCell::new(Vec::new());
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
    let free = addr as usize % proven::LINE == 0 && !proven::is_taken(addr, bytes.len());
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
/// If `addr` is not 16-aligned, or a unit that was not retired lies there.
pub fn publish(addr: u32, bytes: &[u8]) -> Result<(), Refused> {
    let mut buffers = Buffers::new(bytes.len()).ok_or(Refused::NoMemory)?;
    let unit = Unit { base: addr, code: bytes };
    verify(&stubs(), returns(), unit, &Published, &mut buffers.maps()).map_err(Refused::Violation)?;
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

fn is_committed(slot: Slot, chunk: u64) -> bool {
    TABLES.with(|all| {
        let (group, bit) = (chunk as usize / GROUP, chunk as usize % GROUP);
        let words = all.get(slot.index() as usize).and_then(|t| t.get(group)?.as_ref());
        words.is_some_and(|w| w[bit / 64] >> (bit % 64) & 1 == 1)
    })
}

fn mark_committed(slot: Slot, chunk: u64, is_there: bool) {
    TABLES.with_mut(|all| {
        let index = slot.index() as usize;
        if all.len() <= index {
            all.resize_with(index + 1, Vec::new);
        }
        let (group, bit) = (chunk as usize / GROUP, chunk as usize % GROUP);
        let map = &mut all[index];
        if map.len() <= group {
            map.resize_with(group + 1, || None);
        }
        let word = &mut map[group].get_or_insert_with(|| Box::new([0; GROUP / 64]))[bit / 64];
        *word = *word & !(1 << (bit % 64)) | u64::from(is_there) << (bit % 64);
    });
}

/// The entries of an offset without code: the miss stubs.
fn missing() -> u64 {
    label::stub_miss_call() << 32 | label::stub_miss_ret()
}

/// Lowest address of a chunk (tables grow downwards).
fn chunk_addr(slot: Slot, chunk: u64) -> u64 {
    entry_addr(slot.base(), Kind::Ret, (chunk * CHUNK_OFFS + CHUNK_OFFS - 1) as u32)
}

fn store_entry(slot: Slot, kind: Kind, off: u32, v: u32) {
    let p = with_exposed_provenance_mut::<u32>(entry_addr(slot.base(), kind, off) as usize);
    // SAFETY: 1. callers checked that the chunk is committed; 2. entries are 4-aligned; guests read them at
    // any time, so the store is one atomic word.
    unsafe { AtomicU32::from_ptr(p) }.store(v, Ordering::Release);
}

/// Sets the entry of `off`. False: its chunk is not committed yet.
///
/// # Panics
/// If the target is not a proven entry.
pub fn table_set(slot: Slot, kind: Kind, off: u32, target: u32) -> bool {
    assert!(check_table_entry(target, &Published).is_ok(), "table entry that is not proven");
    if !is_committed(slot, u64::from(off) / CHUNK_OFFS) {
        return false;
    }
    store_entry(slot, kind, off, target);
    true
}

/// Is the chunk around `off` committed?
pub fn table_is_there(slot: Slot, off: u32) -> bool {
    is_committed(slot, u64::from(off) / CHUNK_OFFS)
}

/// How a chunk came to be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Committed {
    /// The host has no memory, or no code can be there.
    Not,
    /// Where it is.
    InPlace,
    /// Made elsewhere, with its content: for the host a mapping of its own.
    MovedIn,
}

/// Commits the chunk around `off`, filled with the miss stubs. Nothing where no code can be: an rsp that is not confined
/// reaches the chunks of the lowest offsets (R2), so they are never committed.
pub fn table_commit(slot: Slot, off: u32) -> Committed {
    if !(domain::MAP_MIN..domain::EXEC_MAX).contains(&u64::from(off)) {
        return Committed::Not;
    }
    let chunk = u64::from(off) / CHUNK_OFFS;
    if is_committed(slot, chunk) {
        return Committed::InPlace;
    }
    let addr = chunk_addr(slot, chunk);
    let moves_in = crate::vcpu::slot_runs_elsewhere(slot);
    let done = if moves_in {
        commit_filled(addr, missing())
    } else {
        // No guest thread of this slot runs, and none can start: the BKL is ours. Nobody sees the zeros.
        let done = crate::mem::commit(addr, CHUNK_BYTES, true).is_ok();
        if done {
            fill(slot, chunk * CHUNK_OFFS, CHUNK_OFFS);
        } else {
            fill_if_there(addr);
        }
        done
    };
    if done {
        mark_committed(slot, chunk, true);
    }
    match (done, moves_in) {
        (false, _) => Committed::Not,
        (true, false) => Committed::InPlace,
        (true, true) => Committed::MovedIn,
    }
}

/// Commits pages that appear with their content, as EACCEPTCOPY does.
fn commit_filled(addr: u64, pattern: u64) -> bool {
    const FILLED: u64 = 4;
    let args = [addr, CHUNK_BYTES, 3, FILLED, pattern];
    crate::ocall::call(Ocall::MemProtect, &args, &[], &mut []) == 0
}

/// The miss stubs into every entry of a chunk that the host says it did not commit: what it says may not be so,
/// and an entry of zero leads to address 0 (R19).
fn fill_if_there(addr: u64) {
    let page = [missing(); 512];
    for at in (addr..addr + CHUNK_BYTES).step_by(4096) {
        // SAFETY: 1. the target is a page of a table, which no Rust object overlaps, written by the routine
        // that stage 1 fixes up if nothing is there; 2. the source is `page`.
        unsafe { crate::asm::occlum_rt_user_copy(at, page.as_ptr() as u64, 4096) };
    }
}

/// The miss stubs into the entries of `count` offsets from `off` on, all inside one committed chunk.
fn fill(slot: Slot, off: u64, count: u64) {
    let lowest = entry_addr(slot.base(), Kind::Ret, (off + count - 1) as u32);
    let missing = missing();
    for i in 0..count {
        let p = with_exposed_provenance_mut::<u64>((lowest + i * STRIDE) as usize);
        // SAFETY: 1. callers checked that the chunk is committed; 2. entries are 8-aligned pairs; guests read
        // them at any time, so the store is one atomic word.
        unsafe { AtomicU64::from_ptr(p) }.store(missing, Ordering::Release);
    }
}

/// Committed entries of [off_start, off_end) back to the miss stubs.
pub fn table_clear(slot: Slot, off_start: u32, off_end: u32) {
    let (mut at, end) = (u64::from(off_start), u64::from(off_end));
    while at < end {
        let chunk = at / CHUNK_OFFS;
        let next = end.min((chunk + 1) * CHUNK_OFFS);
        if is_committed(slot, chunk) {
            fill(slot, at, next - at);
        }
        at = next;
    }
}

/// Gives the chunks of a slot without a program back; how many. Whatever the host does, no entry leads anywhere but to the
/// miss stubs; what it does not take stays committed.
pub fn table_release(slot: Slot) -> u64 {
    const DROP: u64 = 2;
    let mut gone = 0;
    for chunk in committed(slot) {
        fill(slot, chunk * CHUNK_OFFS, CHUNK_OFFS);
        let addr = chunk_addr(slot, chunk);
        if crate::ocall::call(Ocall::MemProtect, &[addr, CHUNK_BYTES, 0, DROP], &[], &mut []) == 0 {
            mark_committed(slot, chunk, false);
            gone += 1;
        } else {
            // The content may have gone all the same.
            fill_if_there(addr);
        }
    }
    gone
}

/// All committed chunks of a table.
fn committed(slot: Slot) -> Vec<u64> {
    TABLES.with(|all| {
        let Some(t) = all.get(slot.index() as usize) else { return Vec::new() };
        let groups = t.iter().enumerate().filter_map(|(n, g)| Some((n, g.as_ref()?)));
        let chunks = groups.flat_map(|(n, words)| {
            let set = (0..GROUP).filter(|b| words[b / 64] >> (b % 64) & 1 == 1);
            set.map(move |b| (n * GROUP + b) as u64)
        });
        chunks.collect()
    })
}

/// Is the instruction at a translated address the lookup in a table (R19)?
pub fn is_lookup(rip: u64) -> bool {
    const LOOKUP: [u8; 5] = [0x65, 0x46, 0x8b, 0x1c, 0xdd];
    let mut bytes = [0; LOOKUP.len()];
    let Some(at) = u32::try_from(rip).ok().filter(|at| is_given_out(*at, bytes.len())) else { return false };
    read(at, &mut bytes);
    bytes == LOOKUP
}

/// Which entry of the slot's table an address belongs to.
pub fn is_table_addr(slot: Slot, addr: u64) -> Option<(Kind, u32)> {
    let below = slot.base().checked_sub(addr)?.checked_sub(1)? / STRIDE;
    let kind = if addr & 4 == 0 { Kind::Ret } else { Kind::Call };
    (below < domain::SIZE).then_some((kind, below as u32))
}
