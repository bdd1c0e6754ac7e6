//! The code cache and the lookup tables: the only writer of both (R20, the verifier's seam).
//!
//! Invariants: bytes are published only inside what `alloc` gave out; a table page is filled with the miss
//! stub before any guest thread can see it (R19); entries and links name addresses in the code cache or the
//! stubs only.
use crate::asm::label;
use crate::bkl::BklCell;
use crate::slot::Slot;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use core::ptr::with_exposed_provenance_mut;
use core::sync::atomic::{AtomicU32, Ordering};
use occlum_enclave_abi::Ocall;
use occlum_sfi_spec::table::{Kind, entry_addr};
use occlum_sfi_spec::{Stubs, domain, elrange};

/// Offsets covered by one table chunk: a page of code, 16 KiB of table.
const CHUNK_OFFS: u64 = 4096;
/// Bytes of a chunk.
const CHUNK_BYTES: u64 = CHUNK_OFFS * 4;
/// Chunks per word group of the bitmap (4 MiB of code).
const GROUP: usize = 1024;

/// Committed chunks of one table.
type Bitmap = Vec<Option<Box<[u64; GROUP / 64]>>>;

#[derive(Default)]
struct Tables {
    ret: Bitmap,
    call: Bitmap,
}

static TABLES: BklCell<Vec<Option<Box<Tables>>>> = BklCell::new(Vec::new());
static NEXT: AtomicU32 = AtomicU32::new(elrange::CODE_BASE as u32);

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

/// The pointer to [addr, addr + len) of the cache.
///
/// # Panics
/// If that was not given out by `alloc`.
fn cache(addr: u32, len: usize) -> *mut u8 {
    let end = u64::from(addr) + len as u64;
    let given = elrange::CODE_BASE..=u64::from(NEXT.load(Ordering::Relaxed));
    assert!(given.contains(&u64::from(addr)) && given.contains(&end), "not in the code cache");
    with_exposed_provenance_mut(addr as usize)
}

/// Puts bytes into the cache. BKL held; nothing jumps there yet.
pub fn publish(addr: u32, bytes: &[u8]) {
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

/// Points the 4-byte displacement at `site` to `target`, as one store (R21). A site across a 16-byte line
/// can't be changed atomically and stays as it is: slower, not wrong. Returns false then.
pub fn patch_rel32(site: u32, target: u32) -> bool {
    let p = cache(site, 4);
    if site % 16 > 12 {
        return false;
    }
    let known = u64::from(target) >= elrange::CODE_BASE && u64::from(target) < elrange::CODE_END;
    assert!(known, "link target outside the code cache");
    let rel = target.wrapping_sub(site.wrapping_add(4));
    // SAFETY: 1. `cache` checked the range; 2. inside a 16-byte line the CPU stores the 4 bytes at once, and
    // other vCPUs execute the old or the new jump.
    unsafe { asm!("mov [{}], {:e}", in(reg) p, in(reg) rel, options(nostack, preserves_flags)) };
    true
}

fn bitmap(t: &mut Tables, kind: Kind) -> &mut Bitmap {
    match kind {
        Kind::Ret => &mut t.ret,
        Kind::Call => &mut t.call,
    }
}

fn is_committed(slot: Slot, kind: Kind, chunk: u64) -> bool {
    TABLES.with_mut(|all| {
        let Some(Some(t)) = all.get_mut(slot.index() as usize) else { return false };
        let (group, bit) = (chunk as usize / GROUP, chunk as usize % GROUP);
        bitmap(t, kind)
            .get(group)
            .is_some_and(|g| g.as_ref().is_some_and(|w| w[bit / 64] >> (bit % 64) & 1 == 1))
    })
}

fn mark_committed(slot: Slot, kind: Kind, chunk: u64) {
    TABLES.with_mut(|all| {
        let index = slot.index() as usize;
        if all.len() <= index {
            all.resize_with(index + 1, || None);
        }
        let t = all[index].get_or_insert_with(Box::default);
        let (group, bit) = (chunk as usize / GROUP, chunk as usize % GROUP);
        let map = bitmap(t, kind);
        if map.len() <= group {
            map.resize_with(group + 1, || None);
        }
        map[group].get_or_insert_with(|| Box::new([0; GROUP / 64]))[bit / 64] |= 1 << (bit % 64);
    });
}

fn miss_stub(kind: Kind) -> u32 {
    match kind {
        Kind::Ret => label::stub_miss_ret() as u32,
        Kind::Call => label::stub_miss_call() as u32,
    }
}

/// Lowest address of a chunk (tables grow downwards).
fn chunk_addr(slot: Slot, kind: Kind, chunk: u64) -> u64 {
    entry_addr(slot.base(), kind, (chunk * CHUNK_OFFS + CHUNK_OFFS - 1) as u32)
}

fn store_entry(slot: Slot, kind: Kind, off: u32, v: u32) {
    let p = with_exposed_provenance_mut::<u32>(entry_addr(slot.base(), kind, off) as usize);
    // SAFETY: 1. callers checked that the chunk is committed; 2. entries are 4-aligned; guests read them at
    // any time, so the store is one atomic word.
    unsafe { AtomicU32::from_ptr(p) }.store(v, Ordering::Release);
}

/// Sets the entry of `off`. False: its chunk is not committed yet.
pub fn table_set(slot: Slot, kind: Kind, off: u32, target: u32) -> bool {
    let known = u64::from(target) >= elrange::CODE_BASE && u64::from(target) < elrange::CODE_END;
    assert!(known, "table entry outside the code cache");
    if !is_committed(slot, kind, u64::from(off) / CHUNK_OFFS) {
        return false;
    }
    store_entry(slot, kind, off, target);
    true
}

/// Commits the chunk around `off`, filled with the miss stub. False if the host has no memory.
pub fn table_commit(slot: Slot, kind: Kind, off: u32) -> bool {
    let chunk = u64::from(off) / CHUNK_OFFS;
    if is_committed(slot, kind, chunk) {
        return true;
    }
    let addr = chunk_addr(slot, kind, chunk);
    let done = if crate::vcpu::slot_runs_elsewhere(slot.base()) {
        commit_filled(addr, miss_stub(kind))
    } else {
        // No guest thread of this slot runs, and none can start: the BKL is ours. Nobody sees the zeros.
        let done = crate::mem::commit(addr, CHUNK_BYTES, true).is_ok();
        if done {
            fill(slot, kind, (chunk * CHUNK_OFFS) as u32, CHUNK_OFFS);
        } else {
            fill_if_there(addr, miss_stub(kind));
        }
        done
    };
    if done {
        mark_committed(slot, kind, chunk);
    }
    done
}

/// Commits pages that appear with their content, as EACCEPTCOPY does.
fn commit_filled(addr: u64, pattern: u32) -> bool {
    const FILLED: u64 = 4;
    let args = [addr, CHUNK_BYTES, 3, FILLED, u64::from(pattern)];
    crate::ocall::call(Ocall::MemProtect, &args, &[], &mut []) == 0
}

/// The miss stub into every entry of a chunk that the host says it did not commit: what it says may not be so,
/// and an entry of zero leads to address 0 (R19).
fn fill_if_there(addr: u64, pattern: u32) {
    let page = [pattern; 1024];
    for at in (addr..addr + CHUNK_BYTES).step_by(4096) {
        // SAFETY: 1. the target is a page of a table, which no Rust object overlaps, written by the routine
        // that stage 1 fixes up if nothing is there; 2. the source is `page`.
        unsafe { crate::asm::occlum_rt_user_copy(at, page.as_ptr() as u64, 4096) };
    }
}

/// The miss stub into `count` entries from `off` on, all inside one committed chunk.
fn fill(slot: Slot, kind: Kind, off: u32, count: u64) {
    let v = miss_stub(kind);
    for i in 0..count {
        store_entry(slot, kind, off + i as u32, v);
    }
}

/// Committed entries of [start, end) of one table back to the miss stub.
fn clear_kind(slot: Slot, kind: Kind, start: u64, end: u64) {
    let mut at = start;
    while at < end {
        let chunk = at / CHUNK_OFFS;
        let next = end.min((chunk + 1) * CHUNK_OFFS);
        if is_committed(slot, kind, chunk) {
            fill(slot, kind, at as u32, next - at);
        }
        at = next;
    }
}

/// Committed entries of [off_start, off_end), of both tables, back to the miss stub.
pub fn table_clear(slot: Slot, off_start: u32, off_end: u32) {
    for kind in [Kind::Ret, Kind::Call] {
        clear_kind(slot, kind, u64::from(off_start), u64::from(off_end));
    }
}

/// All entries of the slot back to the miss stub.
pub fn table_reset(slot: Slot) {
    for kind in [Kind::Ret, Kind::Call] {
        for chunk in committed(slot, kind) {
            fill(slot, kind, (chunk * CHUNK_OFFS) as u32, CHUNK_OFFS);
        }
    }
}

/// All committed chunks of a table.
fn committed(slot: Slot, kind: Kind) -> Vec<u64> {
    TABLES.with_mut(|all| {
        let Some(Some(t)) = all.get_mut(slot.index() as usize) else { return Vec::new() };
        let groups = bitmap(t, kind).iter().enumerate().filter_map(|(n, g)| Some((n, g.as_ref()?)));
        let chunks = groups.flat_map(|(n, words)| {
            let set = (0..GROUP).filter(|b| words[b / 64] >> (b % 64) & 1 == 1);
            set.map(move |b| (n * GROUP + b) as u64)
        });
        chunks.collect()
    })
}

/// Which entry of the slot's tables an address belongs to.
pub fn is_table_addr(slot: Slot, addr: u64) -> Option<(Kind, u32)> {
    let below = slot.base().checked_sub(addr)?.checked_sub(1)? / 4;
    match below / domain::SIZE {
        0 => Some((Kind::Ret, below as u32)),
        1 => Some((Kind::Call, below as u32)),
        _ => None,
    }
}
