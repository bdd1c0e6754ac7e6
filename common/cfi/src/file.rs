//! Reading a hostile ELF file: fixed records at offsets, segments, and a cursor over a bounded piece of it.
//!
//! Neighbours: `facts` and `pads` read through it; whoever has the file implements `File`. Invariants: nothing here is
//! larger than its bound, and what lies outside the file reads as `None`.
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

/// Where the bytes come from.
pub trait File {
    /// Fills `buf` with the bytes at `offset`. False: not all of them are there.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> bool;
}

impl File for &[u8] {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> bool {
        let from = usize::try_from(offset).ok().and_then(|at| self.get(at..));
        let Some(bytes) = from.and_then(|b| b.get(..buf.len())) else { return false };
        buf.copy_from_slice(bytes);
        true
    }
}

/// A file of which only so much can be read in all: whoever walks over it ends where the bytes seem to.
pub(crate) struct Metered<'a> {
    file: &'a dyn File,
    left: Cell<u64>,
}

/// What a read counts for besides its bytes.
const READ_COST: u64 = 256;

impl<'a> Metered<'a> {
    pub(crate) fn new(file: &'a dyn File, work: u64) -> Self {
        Self { file, left: Cell::new(work) }
    }
}

impl File for Metered<'_> {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> bool {
        let left = self.left.get().checked_sub(READ_COST.saturating_add(buf.len() as u64));
        self.left.set(left.unwrap_or(0));
        left.is_some() && self.file.read_exact_at(offset, buf)
    }
}

/// Most program headers that are looked at.
const SEGMENTS_MAX: u16 = 64;
const HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: usize = 56;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_NOTE: u32 = 4;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;

/// A load segment: where its bytes are in the file and in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// May it be executed?
    pub executable: bool,
    /// May it be written?
    pub writable: bool,
    /// First byte in the file.
    pub offset: u64,
    /// First byte in memory, before the file is moved.
    pub vaddr: u64,
    /// Bytes in the file.
    pub len: u64,
}

/// What the headers say.
#[derive(Clone, Debug)]
pub(crate) struct Headers {
    pub(crate) fixed: bool,
    pub(crate) entry: u64,
    pub(crate) segments: Vec<Segment>,
    /// File range of the dynamic section.
    pub(crate) dynamic: Option<(u64, u64)>,
    /// Place, entry size, number and names of the section headers.
    sections: (u64, u16, u16, u16),
    /// File offsets of notes.
    notes: Vec<u64>,
    /// Address of `.eh_frame_hdr`.
    pub(crate) eh_frame_hdr: Option<u64>,
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or([0; N])
}
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(word(bytes, at))
}
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(word(bytes, at))
}
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(word(bytes, at))
}

impl Headers {
    /// `None`: no x86-64 program or library.
    pub(crate) fn read(file: &dyn File) -> Option<Headers> {
        let mut h = [0; HEADER_SIZE];
        if !file.read_exact_at(0, &mut h) || !h.starts_with(b"\x7fELF\x02\x01") || u16_at(&h, 18) != EM_X86_64
        {
            return None;
        }
        let kind = u16_at(&h, 16);
        if !matches!(kind, ET_EXEC | ET_DYN) || usize::from(u16_at(&h, 54)) != PROGRAM_HEADER_SIZE {
            return None;
        }
        let mut headers = Headers {
            fixed: kind == ET_EXEC,
            entry: u64_at(&h, 24),
            segments: Vec::new(),
            dynamic: None,
            sections: (u64_at(&h, 40), u16_at(&h, 58), u16_at(&h, 60), u16_at(&h, 62)),
            notes: Vec::new(),
            eh_frame_hdr: None,
        };
        for n in 0..u16_at(&h, 56).min(SEGMENTS_MAX) {
            let mut p = [0; PROGRAM_HEADER_SIZE];
            let at = u64_at(&h, 32).checked_add(u64::from(n).checked_mul(PROGRAM_HEADER_SIZE as u64)?)?;
            if !file.read_exact_at(at, &mut p) {
                break;
            }
            headers.take(&p);
        }
        Some(headers)
    }

    fn take(&mut self, p: &[u8; PROGRAM_HEADER_SIZE]) {
        let (offset, vaddr, len) = (u64_at(p, 8), u64_at(p, 16), u64_at(p, 32));
        match u32_at(p, 0) {
            PT_LOAD => {
                let (executable, writable) = (u32_at(p, 4) & PF_X != 0, u32_at(p, 4) & PF_W != 0);
                self.segments.push(Segment { executable, writable, offset, vaddr, len });
            }
            PT_DYNAMIC => self.dynamic = Some((offset, len)),
            PT_NOTE => self.notes.push(offset),
            PT_GNU_EH_FRAME => self.eh_frame_hdr = Some(vaddr),
            _ => {}
        }
    }

    /// Is the file made by Go's linker? Its note says so.
    pub(crate) fn is_go(&self, file: &dyn File) -> bool {
        self.notes.iter().any(|at| {
            let mut note = [0; 16];
            file.read_exact_at(*at, &mut note) && u32_at(&note, 0) == 4 && note.ends_with(b"Go\0\0")
        })
    }

    /// Address and length of a section, by name.
    pub(crate) fn section(&self, file: &dyn File, name: &[u8]) -> Option<(u64, u64)> {
        const SECTION_HEADER_SIZE: usize = 64;
        let (at, size, count, names) = self.sections;
        let header = |n: u16| {
            let mut h = [0; SECTION_HEADER_SIZE];
            let at = at.checked_add(u64::from(n).checked_mul(SECTION_HEADER_SIZE as u64)?)?;
            (usize::from(size) == h.len() && file.read_exact_at(at, &mut h)).then_some(h)
        };
        let names = u64_at(&header(names)?, 24);
        let mut text = vec![0; name.len().checked_add(1)?];
        (0..count).filter_map(header).find_map(|h| {
            let named = file.read_exact_at(names.checked_add(u64::from(u32_at(&h, 0)))?, &mut text)
                && text.strip_suffix(&[0]) == Some(name);
            named.then_some((u64_at(&h, 16), u64_at(&h, 32)))
        })
    }

    /// File offset of the byte at `vaddr`.
    pub(crate) fn offset_of(&self, vaddr: u64) -> Option<u64> {
        self.rest_of(vaddr).map(|(offset, _)| offset)
    }

    /// The same, and how many bytes its segment has from there on.
    fn rest_of(&self, vaddr: u64) -> Option<(u64, u64)> {
        let s = self.segments.iter().find(|s| vaddr.wrapping_sub(s.vaddr) < s.len)?;
        let at = vaddr.wrapping_sub(s.vaddr);
        Some((s.offset.checked_add(at)?, s.len.saturating_sub(at)))
    }

    /// Address of the byte at `offset` of the file, in an executable segment.
    pub(crate) fn code_at(&self, offset: u64) -> Option<u64> {
        let mut code = self.segments.iter().filter(|s| s.executable);
        let s = code.find(|s| offset.wrapping_sub(s.offset) < s.len)?;
        s.vaddr.checked_add(offset.wrapping_sub(s.offset))
    }

    /// Address of what a mapping shows that begins at `offset`, a multiple of the page size, and has code.
    pub(crate) fn page_at(&self, offset: u64) -> Option<u64> {
        // The segment may begin in the middle of the page.
        let lies_in = |s: &&Segment| {
            let before = s.offset & 0xfff;
            s.executable && offset.wrapping_sub(s.offset.wrapping_sub(before)) < s.len.saturating_add(before)
        };
        let s = self.segments.iter().find(lies_in)?;
        Some(s.vaddr.wrapping_add(offset.wrapping_sub(s.offset)))
    }

    /// Do constants of the program lie between its code? Linkers that put them elsewhere make a segment for them.
    pub(crate) fn has_data_in_code(&self) -> bool {
        !self.segments.iter().any(|s| !s.executable && !s.writable)
    }

    pub(crate) fn is_code(&self, vaddr: u64) -> bool {
        self.segments.iter().any(|s| s.executable && vaddr.wrapping_sub(s.vaddr) < s.len)
    }
}

/// Bytes that a walk over a file holds at once.
const PIECE: u64 = 32 << 10;

/// Calls `f` with each record of `size` bytes in the file range; ends early at what cannot be read.
pub(crate) fn each_record(
    file: &dyn File,
    offset: u64,
    len: u64,
    size: usize,
    mut f: impl FnMut(u64, &[u8]),
) {
    let step = PIECE.saturating_sub(PIECE.checked_rem(size as u64).unwrap_or(0)).max(size as u64);
    let mut piece = vec![0; step as usize];
    let mut at = 0u64;
    while at < len {
        let n = len.saturating_sub(at).min(step) as usize;
        let (Some(part), Some(from)) = (piece.get_mut(..n), offset.checked_add(at)) else { return };
        if !file.read_exact_at(from, part) {
            return;
        }
        for (k, record) in part.chunks_exact(size).enumerate() {
            f(at.saturating_add((k as u64).saturating_mul(size as u64)), record);
        }
        at = at.saturating_add(n as u64);
    }
}

/// Bytes that a cursor has at hand.
const WINDOW: usize = 64;

/// Reads forward from an address: the encodings of exception tables.
pub(crate) struct Cursor<'a> {
    file: &'a dyn File,
    headers: &'a Headers,
    /// Address of the next byte.
    pub(crate) at: u64,
    window: [u8; WINDOW],
    /// The last bytes of `window` that are not read yet.
    ahead: core::ops::Range<usize>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(file: &'a dyn File, headers: &'a Headers, at: u64) -> Self {
        Self { file, headers, at, window: [0; WINDOW], ahead: 0..0 }
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        if self.ahead.len() < N {
            self.fill(N)?;
        }
        let b = *self.window.get(self.ahead.clone())?.first_chunk()?;
        self.ahead.start = self.ahead.start.checked_add(N)?;
        self.at = self.at.checked_add(N as u64)?;
        Some(b)
    }
    /// At least `n` bytes, and what its segment and the file have besides.
    fn fill(&mut self, n: usize) -> Option<()> {
        let (offset, rest) = self.headers.rest_of(self.at)?;
        let most = usize::try_from(rest).unwrap_or(WINDOW).clamp(n, WINDOW);
        let mut read = |n: usize| {
            self.window.get_mut(..n).is_some_and(|w| self.file.read_exact_at(offset, w)).then_some(n)
        };
        self.ahead = 0..read(most).or_else(|| read(n))?;
        Some(())
    }
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[b]| b)
    }
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    /// LEB128; the sign is the caller's matter.
    pub(crate) fn leb(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..63u32).step_by(7) {
            let b = self.u8()?;
            value |= u64::from(b & 0x7f).wrapping_shl(shift);
            if b & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A pointer with a DW_EH_PE encoding: absolute, relative to its own place, or to `data`.
    pub(crate) fn pointer(&mut self, encoding: u8, data: u64) -> Option<u64> {
        let place = self.at;
        let raw = match encoding & 0x0f {
            0x00 | 0x04 | 0x0c => u64::from_le_bytes(self.bytes()?),
            0x01 => self.leb()?,
            0x02 => u64::from(u16::from_le_bytes(self.bytes()?)),
            0x03 => u64::from(self.u32()?),
            0x0a => i64::from(i16::from_le_bytes(self.bytes()?)) as u64,
            0x0b => i64::from(self.u32()? as i32) as u64,
            _ => return None,
        };
        let base = match encoding & 0x70 {
            0x00 => 0,
            0x10 => place,
            0x30 => data,
            _ => return None,
        };
        // A null pointer is null whatever it would be relative to.
        Some(if raw == 0 { 0 } else { raw.wrapping_add(base) })
    }
}
