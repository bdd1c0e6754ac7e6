//! Load segments: from program headers to checked ranges. Neighbours: `lib`; the loader maps them one after
//! another.
use crate::header::{PF_R, PF_W, PF_X, PT_LOAD, ProgramHeader};
use crate::{ADDRESS_LIMIT, ElfError, SPAN_LIMIT};
use alloc::vec::Vec;
use occlum_linux_abi::mmap::{PROT_EXEC, PROT_READ, PROT_WRITE};

pub(crate) const PAGE: u64 = 4096;

/// A range of the image. Checked: `filesz <= memsz`, `0 < memsz`, `vaddr + memsz` below 4 GiB, `file_off +
/// filesz` does not overflow an i64, offset and address are equal modulo the page size (so `file_off` is at
/// least `vaddr` modulo it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadSegment {
    /// First address, not necessarily at the start of a page.
    pub vaddr: u64,
    /// Bytes in memory; what the file does not give is zero.
    pub memsz: u64,
    /// Where its bytes stand in the file.
    pub file_off: u64,
    /// Bytes from the file.
    pub filesz: u64,
    /// Readable.
    pub read: bool,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub exec: bool,
    /// Wanted alignment, a power of two, at least a page.
    pub align: u64,
}
impl LoadSegment {
    /// The rights as `PROT_*` bits.
    pub const fn prot(&self) -> u32 {
        let mut prot = 0;
        if self.read {
            prot |= PROT_READ;
        }
        if self.write {
            prot |= PROT_WRITE;
        }
        if self.exec {
            prot |= PROT_EXEC;
        }
        prot
    }

    /// The address after its last byte.
    pub const fn end(&self) -> u64 {
        self.vaddr.saturating_add(self.memsz)
    }

    fn check(p: &ProgramHeader) -> Result<Self, ElfError> {
        if p.filesz > p.memsz {
            return Err(ElfError::BadSize);
        }
        let file_end = p.offset.checked_add(p.filesz).ok_or(ElfError::BadSize)?;
        if i64::try_from(file_end).is_err() {
            return Err(ElfError::BadSize);
        }
        let end = p.vaddr.checked_add(p.memsz).ok_or(ElfError::TooLarge)?;
        if end > ADDRESS_LIMIT {
            return Err(ElfError::TooLarge);
        }
        // Without bytes from the file the offset says nothing.
        if p.filesz > 0 && p.offset % PAGE != p.vaddr % PAGE {
            return Err(ElfError::BadAlignment);
        }
        // Linux ignores an alignment that is not a power of two.
        let align = if p.align.is_power_of_two() { p.align.max(PAGE) } else { PAGE };
        Ok(Self {
            vaddr: p.vaddr,
            memsz: p.memsz,
            file_off: p.offset,
            filesz: p.filesz,
            read: p.flags & PF_R != 0,
            write: p.flags & PF_W != 0,
            exec: p.flags & PF_X != 0,
            align,
        })
    }
}

/// The load segments of a table, in its order; empty ones are left out.
pub(crate) fn collect(table: &[ProgramHeader]) -> Result<Vec<LoadSegment>, ElfError> {
    let mut segments: Vec<LoadSegment> = Vec::new();
    for header in table.iter().filter(|p| p.kind == PT_LOAD && p.memsz > 0) {
        let segment = LoadSegment::check(header)?;
        if segments.last().is_some_and(|last| segment.vaddr < last.end()) {
            return Err(ElfError::BadOrder);
        }
        segments.push(segment);
    }
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return Err(ElfError::NothingToLoad);
    };
    if last.end().saturating_sub(first.vaddr) > SPAN_LIMIT {
        return Err(ElfError::TooLarge);
    }
    Ok(segments)
}
