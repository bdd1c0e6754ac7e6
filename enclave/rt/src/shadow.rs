//! Shadow words of a slot (`sfi_spec::shadow`): their pages, and the only routines of the LibOS that touch them.
//!
//! Neighbours: translated code reads and writes them in its patterns of calls and returns; `libos::mm` says which pages are
//! there, `libos::shadow` which words the LibOS writes.
//! Invariants: pages come zeroed and lie inside [START, END) of their slot; a word of a page that is not there reads as
//! zero and cannot be written, whatever the host says of the page.
use crate::asm;
use crate::slot::Slot;
use core::ops::Range;
use occlum_enclave_abi::Ocall;
use occlum_sfi_spec::shadow::{DISTANCE, END, START, consumed_site, live};
use occlum_sfi_spec::{PAGE, domain};

/// Where in a slot's shadow an address lies, counted from the slot's base.
pub fn offset(slot: Slot, addr: u64) -> Option<u64> {
    addr.checked_sub(slot.base()).filter(|at| (START..END).contains(at))
}

/// The shadow of the stack words in `r`, counted from the slot's base.
pub fn range_of(r: &Range<u64>) -> Range<u64> {
    r.start + DISTANCE..r.end + DISTANCE
}

/// Address of [r.start, r.end), whole pages of the shadow.
fn pages(slot: Slot, r: &Range<u64>) -> Option<(u64, u64)> {
    let inside = START <= r.start && r.start < r.end && r.end <= END;
    (inside && r.start.is_multiple_of(PAGE) && r.end.is_multiple_of(PAGE))
        .then(|| (slot.base() + r.start, r.end - r.start))
}

/// Makes pages readable and writable, zeroed. False: the host has no memory.
pub fn commit(slot: Slot, r: Range<u64>) -> bool {
    pages(slot, &r).is_some_and(|(addr, len)| crate::mem::commit(addr, len, true).is_ok())
}

/// Takes pages away with their content: the slot's next process is to find zeros.
pub fn release(slot: Slot, r: Range<u64>) {
    let Some((addr, len)) = pages(slot, &r) else { return };
    const DROP: u64 = 2;
    let refused = crate::ocall::call(Ocall::MemProtect, &[addr, len, 0, DROP], &[], &mut []);
    if refused != 0 {
        crate::ocall::give_up(Ocall::MemProtect, refused);
    }
}

/// Zeros in a range that is committed.
pub fn zero(slot: Slot, r: Range<u64>) {
    if START <= r.start && r.start <= r.end && r.end <= END {
        // SAFETY: 1. the range lies in the slot's shadow, which no Rust object overlaps; 2. a fault is fixed up.
        unsafe { asm::occlum_rt_user_zero(slot.base() + r.start, r.end - r.start) };
    }
}

/// Copies pages that are committed in both slots (fork).
pub fn copy(from: Slot, to: Slot, r: Range<u64>) {
    if let (Some((src, len)), Some((dst, _))) = (pages(from, &r), pages(to, &r)) {
        // SAFETY: 1. both lie in the shadows of two slots, which no Rust object overlaps; 2. a fault is fixed up.
        unsafe { asm::occlum_rt_user_copy(dst, src, len) };
    }
}

/// Address of the shadow word of the stack word at `off`.
fn word(slot: Slot, off: u32) -> Option<u64> {
    let off = u64::from(off);
    let mapped = domain::MAP_MIN <= off && off + 8 <= domain::MAP_MAX;
    mapped.then(|| slot.base() + DISTANCE + off)
}

/// The shadow word of the stack word at `off`.
pub fn load(slot: Slot, off: u32) -> u64 {
    let Some(at) = word(slot, off) else { return 0 };
    // SAFETY: 1. a word of the slot's shadow; 2. a fault is fixed up.
    let r = unsafe { asm::occlum_rt_user_load64(at) };
    if r.fault == 0 { r.value } else { 0 }
}

/// Sets it. False: its page is not there.
pub fn store(slot: Slot, off: u32, value: u64) -> bool {
    let Some(at) = word(slot, off) else { return false };
    // SAFETY: 1. a word of the slot's shadow; 2. the source is a local; 3. a fault is fixed up.
    let r = unsafe { asm::occlum_rt_user_copy(at, (&raw const value).addr() as u64, 8) };
    r.fault == 0
}

/// Undoes the consumption of a word: an interrupted return starts again.
pub fn revive(slot: Slot, off: u32) {
    if let Some(site) = consumed_site(load(slot, off)) {
        store(slot, off, live(site));
    }
}

/// Where the return went that consumed the word at `off`; 0, which is no code, if another thread has used it since.
pub(crate) fn returned_to(slot: Slot, off: u32) -> u32 {
    consumed_site(load(slot, off)).unwrap_or(0)
}
