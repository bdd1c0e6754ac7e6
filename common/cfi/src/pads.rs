//! Landing pads: where the unwinder may jump in a function, by the exception tables of its file.
//!
//! Neighbours: `facts`. A lookup goes from `.eh_frame_hdr` by halving to the function's entry in `.eh_frame`, from there
//! to its table in `.gcc_except_table`. Invariants: bounded steps; a table that is not understood has no landing pads.
use crate::file::{Cursor, File, Headers};

/// DW_EH_PE_omit; the one encoding of `.eh_frame_hdr` tables that linkers make (data-relative, 4 bytes, signed).
const OMIT: u8 = 0xff;
const SORTED_TABLE: u8 = 0x3b;
/// Most characters of an augmentation, and most entries of a table of call sites.
const AUGMENTATION_MAX: usize = 8;
const CALL_SITES_MAX: usize = 1 << 16;

/// What the unwinder's tables say of one function.
struct Function {
    start: u64,
    len: u64,
    exceptions: u64,
}

/// Is `vaddr` a landing pad of the function that contains it?
pub(crate) fn is_landing_pad(file: &dyn File, headers: &Headers, vaddr: u64) -> bool {
    let Some(f) = function_at(file, headers, vaddr) else { return false };
    vaddr.wrapping_sub(f.start) < f.len
        && f.exceptions != 0
        && each_pad(file, headers, &f, |pad| pad == vaddr).unwrap_or(false)
}

/// Do the unwinder's tables describe the code at `vaddr`? True also of a file that has none.
pub(crate) fn is_described(file: &dyn File, headers: &Headers, vaddr: u64) -> bool {
    let function = function_at(file, headers, vaddr);
    headers.eh_frame_hdr.is_none() || function.is_some_and(|f| vaddr.wrapping_sub(f.start) < f.len)
}

/// The last function of the table that begins at or before `vaddr`.
fn function_at(file: &dyn File, headers: &Headers, vaddr: u64) -> Option<Function> {
    let hdr = headers.eh_frame_hdr?;
    let mut c = Cursor::new(file, headers, hdr);
    let [version, frame_encoding, count_encoding, table_encoding] = c.u32()?.to_le_bytes();
    if version != 1 || table_encoding != SORTED_TABLE {
        return None;
    }
    c.pointer(frame_encoding, hdr)?;
    let count = c.pointer(count_encoding, hdr)?;
    let entry = |n: u64| {
        let mut c = Cursor::new(file, headers, c.at.checked_add(n.checked_mul(8)?)?);
        Some((c.pointer(SORTED_TABLE, hdr)?, c.pointer(SORTED_TABLE, hdr)?))
    };
    let (mut low, mut high) = (0, count.min(u64::from(u32::MAX)));
    while low < high {
        let middle = low.midpoint(high);
        if entry(middle)?.0 <= vaddr { low = middle.checked_add(1)? } else { high = middle }
    }
    description(file, headers, entry(low.checked_sub(1)?)?.1)
}

/// A frame description entry and what it takes of its common entry.
fn description(file: &dyn File, headers: &Headers, at: u64) -> Option<Function> {
    let mut c = Cursor::new(file, headers, at);
    c.u32()?;
    let place = c.at;
    let common = place.checked_sub(u64::from(c.u32()?))?;
    let (pointer, exceptions) = encodings(file, headers, common)?;
    let start = c.pointer(pointer, 0)?;
    let len = c.pointer(pointer & 0x0f, 0)?;
    c.leb()?;
    let exceptions = if exceptions == OMIT { 0 } else { c.pointer(exceptions, 0)? };
    Some(Function { start, len, exceptions })
}

/// The encodings of addresses and of the pointer to exceptions in the entries that refer to a common entry.
fn encodings(file: &dyn File, headers: &Headers, at: u64) -> Option<(u8, u8)> {
    let mut c = Cursor::new(file, headers, at);
    c.u32()?;
    c.u32()?;
    let version = c.u8()?;
    let mut augmentation = [0; AUGMENTATION_MAX];
    for letter in &mut augmentation {
        *letter = c.u8()?;
        if *letter == 0 {
            break;
        }
    }
    c.leb()?;
    c.leb()?;
    if version == 1 { c.u8().map(u64::from) } else { c.leb() }?;
    let (mut pointer, mut exceptions) = (0, OMIT);
    for letter in augmentation {
        match letter {
            b'z' => _ = c.leb()?,
            b'P' => {
                let encoding = c.u8()?;
                c.pointer(encoding & 0x7f, 0)?;
            }
            b'L' => exceptions = c.u8()?,
            b'R' => pointer = c.u8()?,
            b'S' | b'B' => {}
            _ => break,
        }
    }
    Some((pointer, exceptions))
}

/// Does `wanted` hold for a landing pad of a function?
fn each_pad(
    file: &dyn File,
    headers: &Headers,
    f: &Function,
    mut wanted: impl FnMut(u64) -> bool,
) -> Option<bool> {
    let mut c = Cursor::new(file, headers, f.exceptions);
    let encoding = c.u8()?;
    let base = if encoding == OMIT { f.start } else { c.pointer(encoding, 0)? };
    if c.u8()? != OMIT {
        c.leb()?;
    }
    let encoding = c.u8()? & 0x0f;
    let len = c.leb()?;
    let end = c.at.checked_add(len)?;
    for _ in 0..CALL_SITES_MAX {
        if c.at >= end {
            break;
        }
        c.pointer(encoding, 0)?;
        c.pointer(encoding, 0)?;
        let pad = c.pointer(encoding, 0)?;
        c.leb()?;
        if pad != 0 && wanted(base.wrapping_add(pad)) {
            return Some(true);
        }
    }
    Some(false)
}

/// All landing pads of a file without a sorted table: a static program.
pub(crate) fn all_by_section(file: &dyn File, headers: &Headers, mut found: impl FnMut(u64)) -> Option<()> {
    let (start, len) = headers.section(file, b".eh_frame")?;
    let end = start.checked_add(len)?;
    let mut at = start;
    while at < end {
        let mut c = Cursor::new(file, headers, at);
        let size = u64::from(c.u32()?);
        if size == 0 || size == u64::from(u32::MAX) {
            break;
        }
        let next = c.at.checked_add(size)?;
        // An entry that refers to a common one describes a function.
        if c.u32()? != 0
            && let Some(f) = description(file, headers, at).filter(|f| f.exceptions != 0)
        {
            each_pad(file, headers, &f, |pad| {
                found(pad);
                false
            });
        }
        at = next;
    }
    Some(())
}

/// All landing pads of a file, for reports.
pub(crate) fn all(file: &dyn File, headers: &Headers, mut found: impl FnMut(u64)) -> Option<()> {
    let hdr = headers.eh_frame_hdr?;
    let mut c = Cursor::new(file, headers, hdr);
    let [_, frame_encoding, count_encoding, table_encoding] = c.u32()?.to_le_bytes();
    if table_encoding != SORTED_TABLE {
        return None;
    }
    c.pointer(frame_encoding, hdr)?;
    let count = c.pointer(count_encoding, hdr)?;
    for _ in 0..count.min(u64::from(u32::MAX)) {
        c.pointer(SORTED_TABLE, hdr)?;
        let at = c.pointer(SORTED_TABLE, hdr)?;
        if let Some(f) = description(file, headers, at).filter(|f| f.exceptions != 0) {
            each_pad(file, headers, &f, |pad| {
                found(pad);
                false
            });
        }
    }
    Some(())
}
