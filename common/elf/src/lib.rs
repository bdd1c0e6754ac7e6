//! Reader of ELF programs from hostile files: what to map where, or the errno that `execve` returns.
//!
//! Neighbours: `enclave/libos` (its loader maps what `parse` returns). Only x86-64 executables and position-
//! independent ones; sections, symbols and relocations are the business of the guest's own `ld.so`. Modules:
//! `header` takes the two fixed records apart, `segment` checks the load segments, this file puts them
//! together. Invariants: no input makes it panic, loop or allocate more than the largest program header table
//! that Linux takes (64 KiB); of an accepted image all ranges fit in 4 GiB and all sums of its fields are
//! free of overflow. What Linux maps, we map: a segment may reach beyond the end of the file (its pages raise
//! SIGBUS when touched), and two segments may share a page (the later one wins).
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::panic, missing_docs, unreachable_pub)]
extern crate alloc;

mod header;
mod segment;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::ops::Range;
use header::{FileHeader, HEADER_SIZE, ProgramHeader};
use occlum_linux_abi::Errno;

pub use header::PROGRAM_HEADER_SIZE;
pub use segment::LoadSegment;

/// Addresses of guests are below this.
const ADDRESS_LIMIT: u64 = 1 << 32;
/// Largest distance from the first byte to the last of an image.
const SPAN_LIMIT: u64 = 1 << 31;
/// Shortest and longest path of an interpreter, its NUL included.
const INTERP_LEN: Range<u64> = 2..4097;

/// Why a file is not a program that can run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// It does not start as an ELF file, or is shorter than its header.
    NotElf,
    /// 32-bit or big-endian.
    WrongClass,
    /// Code of another processor.
    WrongMachine,
    /// A relocatable file, a core file or an unknown type.
    NotExecutable,
    /// The program header table is empty, too large, of a wrong entry size, or not in the file.
    BadTable,
    /// No load segment.
    NothingToLoad,
    /// A load segment has more bytes in the file than in memory, or its numbers overflow.
    BadSize,
    /// File offset and address of a load segment differ within the page.
    BadAlignment,
    /// Load segments overlap or are not in ascending order.
    BadOrder,
    /// The image does not fit in the address space of a guest.
    TooLarge,
    /// The interpreter's path is empty or too long.
    BadInterp,
    /// The entry point is not an address of a guest.
    BadEntry,
}
impl ElfError {
    /// What `execve` returns for it.
    pub const fn errno(self) -> Errno {
        match self {
            Self::BadSize | Self::BadAlignment | Self::BadOrder | Self::BadEntry => Errno::EINVAL,
            Self::TooLarge => Errno::ENOMEM,
            _ => Errno::ENOEXEC,
        }
    }

    /// What `execve` returns when the file is the interpreter of another one.
    pub const fn interp_errno(self) -> Errno {
        match self.errno() {
            Errno::ENOEXEC => Errno::ELIBBAD,
            errno => errno,
        }
    }

    /// One sentence for the user.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotElf => "not an ELF file",
            Self::WrongClass => "not a 64-bit little-endian ELF file",
            Self::WrongMachine => "not a program for x86-64",
            Self::NotExecutable => "an ELF file, but not an executable one",
            Self::BadTable => "damaged program header table",
            Self::NothingToLoad => "no load segment",
            Self::BadSize => "a load segment with impossible sizes",
            Self::BadAlignment => "a load segment that is not page-congruent",
            Self::BadOrder => "load segments that overlap or are out of order",
            Self::TooLarge => "the program does not fit in 4 GiB of address space",
            Self::BadInterp => "damaged interpreter path",
            Self::BadEntry => "entry point outside the address space",
        }
    }
}

/// A program, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfImage {
    /// Position-independent: addresses are relative to a base of the loader's choice.
    pub is_pie: bool,
    /// Entry point.
    pub entry: u64,
    /// Number of program headers.
    pub phnum: u16,
    /// Where the program header table is in memory (for `AT_PHDR`), if a load segment covers it.
    pub phdr_vaddr: Option<u64>,
    /// Load segments by ascending address; never empty.
    pub segments: Vec<LoadSegment>,
    /// Where in the file the path of the interpreter stands, its NUL included.
    pub interp: Option<Range<u64>>,
    /// Where in the file its notes stand: ranges of at most `NOTE_MAX` bytes.
    pub notes: Vec<Range<u64>>,
    /// The program wants an executable stack.
    pub exec_stack: bool,
    /// Largest alignment of a load segment, a power of two, at least a page.
    pub max_align: u64,
}

/// Reads the headers of a file of `file_size` bytes. `read_at(offset, buffer)` fills the buffer from the file
/// and returns how many bytes it could give.
pub fn parse<R>(file_size: u64, read_at: &mut R) -> Result<ElfImage, ElfError>
where
    R: FnMut(u64, &mut [u8]) -> usize,
{
    let mut bytes = [0; HEADER_SIZE];
    if file_size < HEADER_SIZE as u64 || read_at(0, &mut bytes) != HEADER_SIZE {
        return Err(ElfError::NotElf);
    }
    let header = FileHeader::parse(&bytes)?;
    let table = read_table(&header, file_size, read_at)?;
    let segments = segment::collect(&table)?;
    if header.entry >= ADDRESS_LIMIT {
        return Err(ElfError::BadEntry);
    }
    Ok(ElfImage {
        is_pie: header.is_pie,
        entry: header.entry,
        phnum: header.phnum,
        phdr_vaddr: phdr_vaddr(&segments, header.phoff),
        interp: interp(&table)?,
        notes: notes(&table),
        exec_stack: exec_stack(&table),
        max_align: segments.iter().map(|s| s.align).max().unwrap_or(segment::PAGE),
        segments,
    })
}

fn read_table<R>(header: &FileHeader, file_size: u64, read_at: &mut R) -> Result<Vec<ProgramHeader>, ElfError>
where
    R: FnMut(u64, &mut [u8]) -> usize,
{
    let len = usize::from(header.phnum).saturating_mul(PROGRAM_HEADER_SIZE);
    let end = header.phoff.checked_add(len as u64).ok_or(ElfError::BadTable)?;
    if end > file_size {
        return Err(ElfError::BadTable);
    }
    let mut bytes = alloc::vec![0; len];
    if read_at(header.phoff, &mut bytes) != len {
        return Err(ElfError::BadTable);
    }
    Ok(bytes.chunks_exact(PROGRAM_HEADER_SIZE).map(ProgramHeader::parse).collect())
}

/// The address of file offset `phoff`, from the load segment that holds it.
fn phdr_vaddr(segments: &[LoadSegment], phoff: u64) -> Option<u64> {
    segments.iter().find_map(|s| {
        let within = phoff.checked_sub(s.file_off).filter(|d| *d < s.filesz)?;
        s.vaddr.checked_add(within)
    })
}

/// The first interpreter counts, as in Linux.
fn interp(table: &[ProgramHeader]) -> Result<Option<Range<u64>>, ElfError> {
    let Some(entry) = table.iter().find(|p| p.kind == header::PT_INTERP) else {
        return Ok(None);
    };
    if !INTERP_LEN.contains(&entry.filesz) {
        return Err(ElfError::BadInterp);
    }
    let end = entry.offset.checked_add(entry.filesz).ok_or(ElfError::BadInterp)?;
    Ok(Some(entry.offset..end))
}

/// Longest note segment that anybody reads.
pub const NOTE_MAX: u64 = 4096;

fn notes(table: &[ProgramHeader]) -> Vec<Range<u64>> {
    let notes = table.iter().filter(|p| p.kind == header::PT_NOTE && p.filesz <= NOTE_MAX);
    notes.filter_map(|p| Some(p.offset..p.offset.checked_add(p.filesz)?)).collect()
}

/// Does a note segment hold a note of this name (without what ends it) and type?
pub fn has_note(bytes: &[u8], name: &[u8], kind: u32) -> bool {
    let mut rest = bytes;
    while let Some((name_len, tail)) = take_word(rest) {
        let Some((desc_len, tail)) = take_word(tail) else { return false };
        let Some((found, tail)) = take_word(tail) else { return false };
        // Go counts its padding as part of the name.
        let own = tail.get(..name_len as usize).and_then(|n| n.strip_prefix(name));
        if found == kind && own.is_some_and(|rest| !rest.is_empty() && rest.iter().all(|b| *b == 0)) {
            return true;
        }
        let padded = |n: u32| (n as usize).next_multiple_of(4);
        let next = padded(name_len).checked_add(padded(desc_len));
        rest = next.and_then(|n| tail.get(n..)).unwrap_or(&[]);
    }
    false
}

fn take_word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes.split_first_chunk::<4>().map(|(word, rest)| (u32::from_le_bytes(*word), rest))
}

/// The last stack header counts, as in Linux; without one the stack is not executable.
fn exec_stack(table: &[ProgramHeader]) -> bool {
    let stack = table.iter().rev().find(|p| p.kind == header::PT_GNU_STACK);
    stack.is_some_and(|p| p.flags & header::PF_X != 0)
}
