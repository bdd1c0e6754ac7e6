//! What a program's file names as targets of indirect calls and jumps.
//!
//! Neighbours: `file` reads, `pads` knows exception tables; `enclave/libos` asks at misses, `host/native` for its report.
//! All addresses are those of the file, before it is moved. Invariants: only addresses in executable segments are kept,
//! at most `TARGETS_MAX`; what is beyond the bounds is left out, which can only refuse more.
use crate::file::{File, Headers, Metered, each_record, u32_at, u64_at};
use crate::pads;
use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// Most targets that are kept of one file, and most entries of one jump table.
const TARGETS_MAX: usize = 1 << 20;
const TABLE_MAX: u64 = 4096;
/// Most bytes of data that are searched for addresses, and most bytes of one table of relocations or symbols.
const DATA_MAX: u64 = 256 << 20;
const RECORDS_MAX: u64 = 64 << 20;
/// Most bytes that are read of one file in all.
const WORK_MAX: u64 = 512 << 20;

const DT_PLTRELSZ: u64 = 2;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_INIT: u64 = 12;
const DT_FINI: u64 = 13;
const DT_JMPREL: u64 = 23;
const DT_RELRSZ: u64 = 35;
const DT_RELR: u64 = 36;
const RELA_SIZE: usize = 24;
const SYM_SIZE: usize = 24;
const R_64: u32 = 1;
const R_JUMP_SLOT: u32 = 7;
const R_RELATIVE: u32 = 8;
const R_IRELATIVE: u32 = 37;
const STT_OBJECT: u8 = 1;
const STT_FUNC: u8 = 2;
const STT_NOTYPE: u8 = 0;
const STT_GNU_IFUNC: u8 = 10;

/// The entries of the dynamic section that matter here, by tag.
struct Dynamic {
    words: [u64; 37],
}

impl Dynamic {
    fn read(file: &dyn File, headers: &Headers) -> Dynamic {
        let mut d = Dynamic { words: [0; 37] };
        if let Some((offset, len)) = headers.dynamic {
            each_record(file, offset, len.min(RECORDS_MAX), 16, |_, record| {
                let tag = usize::try_from(u64_at(record, 0)).unwrap_or(usize::MAX);
                if let Some(word) = d.words.get_mut(tag) {
                    *word = u64_at(record, 8);
                }
            });
        }
        d
    }

    fn get(&self, tag: u64) -> u64 {
        self.words.get(tag as usize).copied().unwrap_or(0)
    }
}

/// The targets that a file names.
pub struct Facts {
    headers: Headers,
    targets: Vec<u32>,
    exported: Vec<u32>,
    is_go: bool,
}

/// Targets that are being collected. Has room for all that it takes from the beginning.
struct Found<'a> {
    headers: &'a Headers,
    targets: Vec<u32>,
}

impl<'a> Found<'a> {
    fn new(headers: &'a Headers) -> Result<Self, TryReserveError> {
        let mut targets = Vec::new();
        targets.try_reserve_exact(TARGETS_MAX)?;
        Ok(Self { headers, targets })
    }

    fn add(&mut self, vaddr: u64) {
        if self.targets.len() < TARGETS_MAX
            && let Ok(v) = u32::try_from(vaddr)
            && self.headers.is_code(vaddr)
        {
            self.targets.push(v);
        }
    }

    fn sorted(mut self) -> Result<Vec<u32>, TryReserveError> {
        self.targets.sort_unstable();
        self.targets.dedup();
        let mut kept = Vec::new();
        kept.try_reserve_exact(self.targets.len())?;
        kept.extend_from_slice(&self.targets);
        Ok(kept)
    }
}

/// Looks for targets.
struct Collector<'a> {
    file: &'a dyn File,
    headers: &'a Headers,
    found: Found<'a>,
}

impl Collector<'_> {
    /// What a place in the file holds.
    fn add_word_at(&mut self, vaddr: u64) {
        let mut word = [0; 8];
        if self.headers.offset_of(vaddr).is_some_and(|at| self.file.read_exact_at(at, &mut word)) {
            self.found.add(u64::from_le_bytes(word));
        }
    }

    /// What `RELATIVE` and its kin put into data, symbols with addends, and the first words of lazily bound slots.
    fn relocations(&mut self, vaddr: u64, len: u64) {
        let Some(offset) = self.headers.offset_of(vaddr) else { return };
        each_record(self.file, offset, len.min(RECORDS_MAX), RELA_SIZE, |_, r| match u32_at(r, 8) {
            R_RELATIVE | R_IRELATIVE => self.found.add(u64_at(r, 16)),
            R_JUMP_SLOT => self.add_word_at(u64_at(r, 0)),
            R_64 if u32_at(r, 12) == 0 => self.found.add(u64_at(r, 16)),
            _ => {}
        });
    }

    /// RELR: an even word is an address, an odd one a bitmap of the 63 words that follow; each place holds its addend.
    fn packed_relocations(&mut self, vaddr: u64, len: u64) {
        let Some(offset) = self.headers.offset_of(vaddr) else { return };
        let mut next = 0u64;
        each_record(self.file, offset, len.min(RECORDS_MAX), 8, |_, r| {
            let word = u64_at(r, 0);
            if word & 1 == 0 {
                self.add_word_at(word);
                next = word.wrapping_add(8);
                return;
            }
            for bit in (1..64u32).filter(|bit| word.wrapping_shr(*bit) & 1 == 1) {
                self.add_word_at(next.wrapping_add(u64::from(bit.wrapping_sub(1)).wrapping_mul(8)));
            }
            next = next.wrapping_add(63 * 8);
        });
    }

    /// Functions of the dynamic symbol table, also those of other files that have an address here (canonical PLT entries).
    fn symbols(&mut self, d: &Dynamic) {
        let (table, strings) = (d.get(DT_SYMTAB), d.get(DT_STRTAB));
        let Some(offset) = self.headers.offset_of(table) else { return };
        // Nothing says how many there are; linkers put the strings behind them.
        let len = strings.saturating_sub(table).min(RECORDS_MAX);
        each_record(self.file, offset, len, SYM_SIZE, |_, s| {
            let kind = s.get(4).copied().unwrap_or(STT_OBJECT) & 0xf;
            if matches!(kind, STT_FUNC | STT_GNU_IFUNC | STT_NOTYPE) {
                self.found.add(u64_at(s, 8));
            }
        });
    }

    /// Aligned words of data that are addresses of code: in a file that is not moved, nothing else names them.
    fn words(&mut self) {
        let mut left = DATA_MAX;
        for s in &self.headers.segments {
            let skip = s.vaddr.wrapping_neg() & 7;
            let len = s.len.saturating_sub(skip).min(left);
            left = left.saturating_sub(len);
            each_record(self.file, s.offset.saturating_add(skip), len, 8, |_, w| {
                self.found.add(u64_at(w, 0))
            });
        }
    }

    /// Entries of Go's function table: interfaces that the runtime makes, and reflection, find methods by distances.
    fn go_functions(&mut self) {
        const MAGICS: [u64; 2] = [0x0801_0000_ffff_fff0, 0x0801_0000_ffff_fff1];
        let mut tables = Vec::new();
        for s in self.headers.segments.iter().filter(|s| !s.executable) {
            each_record(self.file, s.offset, s.len.min(DATA_MAX), 8, |at, w| {
                if MAGICS.contains(&u64_at(w, 0)) && tables.len() < 4 {
                    tables.push(s.offset.saturating_add(at));
                }
            });
        }
        for table in tables {
            let mut h = [0; 72];
            if !self.file.read_exact_at(table, &mut h) {
                continue;
            }
            let (count, text, place) = (u64_at(&h, 8), u64_at(&h, 24), u64_at(&h, 64));
            let len = count.saturating_mul(8).min(RECORDS_MAX);
            each_record(self.file, table.saturating_add(place), len, 8, |_, entry| {
                self.found.add(text.wrapping_add(u64::from(u32_at(entry, 0))));
            });
        }
    }

    /// Landing pads, where no sorted table lets them be found one by one.
    fn landing_pads(&mut self) {
        if self.headers.eh_frame_hdr.is_none() {
            pads::all_by_section(self.file, self.headers, |pad| self.found.add(pad));
        }
    }
}

impl Facts {
    /// Most bytes of memory that `read` takes: two lists, and one more while it is brought to its length.
    pub const MEMORY_MAX: u64 = 3 * (TARGETS_MAX * size_of::<u32>()) as u64 + (256 << 10);

    /// Reads a file. `None`: it is no ELF file of this machine. An error: there is no memory.
    pub fn read(file: &dyn File) -> Result<Option<Facts>, TryReserveError> {
        Self::read_within(file, WORK_MAX)
    }

    pub(crate) fn read_within(file: &dyn File, work: u64) -> Result<Option<Facts>, TryReserveError> {
        let file = &Metered::new(file, work);
        let Some(headers) = Headers::read(file) else { return Ok(None) };
        let d = Dynamic::read(file, &headers);
        let mut symbols = Collector { file, headers: &headers, found: Found::new(&headers)? };
        symbols.symbols(&d);
        let exported = symbols.found.sorted()?;
        let mut c = Collector { file, headers: &headers, found: Found::new(&headers)? };
        for vaddr in [headers.entry, d.get(DT_INIT), d.get(DT_FINI)] {
            c.found.add(vaddr);
        }
        c.relocations(d.get(DT_RELA), d.get(DT_RELASZ));
        c.relocations(d.get(DT_JMPREL), d.get(DT_PLTRELSZ));
        c.packed_relocations(d.get(DT_RELR), d.get(DT_RELRSZ));
        if headers.fixed {
            c.words();
        }
        let is_go = headers.is_go(file);
        if is_go {
            c.go_functions();
        }
        c.landing_pads();
        let targets = c.found.sorted()?;
        Ok(Some(Facts { headers, targets, exported, is_go }))
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> u64 {
        let lists = self.targets.len().saturating_add(self.exported.len());
        (lists.saturating_mul(size_of::<u32>()) as u64).saturating_add(8 << 10)
    }

    /// Address of the code at `offset` of the file.
    pub fn code_at(&self, offset: u64) -> Option<u64> {
        self.headers.code_at(offset)
    }

    /// Address of what a mapping of its code shows that begins at `offset`.
    pub fn page_at(&self, offset: u64) -> Option<u64> {
        self.headers.page_at(offset)
    }

    /// Its executable segments.
    pub fn code(&self) -> impl Iterator<Item = &crate::Segment> {
        self.headers.segments.iter().filter(|s| s.executable)
    }

    /// Does a symbol, a relocation, a word of data or a header name this address?
    pub fn names(&self, vaddr: u64) -> bool {
        let Ok(v) = u32::try_from(vaddr) else { return false };
        self.targets.binary_search(&v).is_ok() || self.is_exported(vaddr)
    }

    /// Is it a function of the dynamic symbol table?
    pub fn is_exported(&self, vaddr: u64) -> bool {
        u32::try_from(vaddr).is_ok_and(|v| self.exported.binary_search(&v).is_ok())
    }

    /// Everything that `names` accepts.
    pub fn named(&self) -> impl Iterator<Item = u32> + '_ {
        self.targets.iter().chain(&self.exported).copied()
    }

    /// May the unwinder jump there?
    pub fn is_landing_pad(&self, file: &dyn File, vaddr: u64) -> bool {
        pads::is_landing_pad(file, &self.headers, vaddr)
    }

    /// All landing pads, for reports.
    pub fn landing_pads(&self, file: &dyn File) -> Vec<u32> {
        let mut all = Vec::new();
        pads::all(file, &self.headers, |pad| all.extend(u32::try_from(pad).ok()));
        all
    }

    /// Does the place look like a target that a runtime's own tables name? `before`, `first`: the byte before it and its
    /// own. Go's `recover` goes on at the call behind a function's `ret`.
    pub fn is_of_a_runtime(&self, file: &dyn File, vaddr: u64, before: u8, first: u8) -> bool {
        const RET: u8 = 0xc3;
        const CALL: u8 = 0xe8;
        self.is_go && (before, first) == (RET, CALL) || self.is_builtin(file, vaddr, before)
    }

    /// Does it look like a builtin of V8? It finds these by distances, and puts them into frames that it rebuilds. No
    /// unwinder's table describes them; they are aligned, with traps between.
    pub fn is_builtin(&self, file: &dyn File, vaddr: u64, before: u8) -> bool {
        const TRAP: u8 = 0xcc;
        before == TRAP && vaddr & 31 == 0 && !pads::is_described(file, &self.headers, vaddr)
    }

    /// The targets of the jump table at `table` whose 4-byte entries are distances from `base`: as many as lead to code.
    /// `end`: another table begins there.
    pub fn jump_table(&self, file: &dyn File, table: u64, base: u64, end: u64) -> Vec<u32> {
        let mut targets = Vec::new();
        if self.headers.is_code(table) && !self.headers.has_data_in_code() {
            return targets;
        }
        let Some(offset) = self.headers.offset_of(table) else { return targets };
        let most = end.saturating_sub(table).checked_div(4).unwrap_or(0).min(TABLE_MAX);
        for n in 0..most {
            let mut word = [0; 4];
            if !file.read_exact_at(offset.saturating_add(n.saturating_mul(4)), &mut word) {
                break;
            }
            let target = base.wrapping_add_signed(i64::from(i32::from_le_bytes(word)));
            match u32::try_from(target) {
                Ok(t) if self.headers.is_code(target) => targets.push(t),
                _ => break,
            }
        }
        targets
    }
}
