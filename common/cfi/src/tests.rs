//! Facts of small files made by hand: what is named, and that hostile numbers only lead to less.
use crate::Facts;

const CODE: u64 = 0x40_1000;
const DATA: u64 = 0x40_2000;

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}
fn put64(file: &mut [u8], at: usize, value: u64) {
    put(file, at, &value.to_le_bytes());
}
fn segment(file: &mut [u8], n: usize, kind: u32, flags: u32, offset: u64, vaddr: u64, len: u64) {
    let at = 64 + 56 * n;
    put(file, at, &kind.to_le_bytes());
    put(file, at + 4, &flags.to_le_bytes());
    for (k, word) in [offset, vaddr, vaddr, len, len, 4096].into_iter().enumerate() {
        put64(file, at + 8 + 8 * k, word);
    }
}

/// A header page, a page of code at `CODE`, a page of data at `DATA` whose second half is the dynamic section.
fn program(kind: u16) -> Vec<u8> {
    let mut f = vec![0; 0x3000];
    put(&mut f, 0, b"\x7fELF\x02\x01\x01");
    put(&mut f, 16, &kind.to_le_bytes());
    put(&mut f, 18, &62u16.to_le_bytes());
    put64(&mut f, 24, CODE + 0x10);
    put64(&mut f, 32, 64);
    put(&mut f, 54, &56u16.to_le_bytes());
    put(&mut f, 56, &3u16.to_le_bytes());
    segment(&mut f, 0, 1, 5, 0x1000, CODE, 0x1000);
    segment(&mut f, 1, 1, 4, 0x2000, DATA, 0x1000);
    segment(&mut f, 2, 2, 4, 0x2800, DATA + 0x800, 0x100);
    f
}

fn named(f: &[u8]) -> Vec<u32> {
    let mut all: Vec<u32> = Facts::read(&f).unwrap().expect("an ELF file").named().collect();
    all.sort_unstable();
    all.iter().map(|v| v - CODE as u32).collect()
}

#[test]
fn words_name_targets_only_in_files_that_are_not_moved() {
    for (kind, expected) in [(2, vec![0x10, 0x123]), (3, vec![0x10])] {
        let mut f = program(kind);
        put64(&mut f, 0x2008, CODE + 0x123);
        put64(&mut f, 0x2014, CODE + 0x456); // not aligned
        put64(&mut f, 0x2020, DATA); // no code
        assert_eq!(named(&f), expected, "kind {kind}");
    }
}

#[test]
fn relocations_and_symbols_name_targets() {
    let mut f = program(3);
    let tags = [
        (7, DATA),
        (8, 72),
        (5, DATA + 0x148),
        (6, DATA + 0x100),
        (12, CODE + 0x30),
        (36, DATA + 0x200),
        (35, 16),
    ];
    for (n, (tag, value)) in tags.into_iter().enumerate() {
        put64(&mut f, 0x2800 + 16 * n, tag);
        put64(&mut f, 0x2808 + 16 * n, value);
    }
    // RELATIVE with an addend in code, IRELATIVE, and one of another kind.
    for (n, (kind, addend)) in [(8, CODE + 0x40), (37, CODE + 0x50), (6, CODE + 0x60)].into_iter().enumerate()
    {
        put64(&mut f, 0x2008 + 24 * n, kind);
        put64(&mut f, 0x2010 + 24 * n, addend);
    }
    // Symbols: none, a function, an object.
    for (n, (info, value)) in [(0, 0), (0x12, CODE + 0x70), (0x11, CODE + 0x80)].into_iter().enumerate() {
        put(&mut f, 0x2104 + 24 * n, &[info]);
        put64(&mut f, 0x2108 + 24 * n, value);
    }
    // RELR: the word at DATA+0x300, and by the bitmap the third behind it.
    put64(&mut f, 0x2200, DATA + 0x300);
    put64(&mut f, 0x2208, 1 | 1 << 3);
    put64(&mut f, 0x2300, CODE + 0x90);
    put64(&mut f, 0x2318, CODE + 0xa0);
    assert_eq!(named(&f), [0x10, 0x30, 0x40, 0x50, 0x70, 0x90, 0xa0]);
    let facts = Facts::read(&&f[..]).unwrap().unwrap();
    assert!(facts.is_exported(CODE + 0x70) && !facts.is_exported(CODE + 0x40));
    assert!(facts.names(CODE + 0x40) && !facts.names(CODE + 0x41));
}

#[test]
fn jump_tables_end_at_the_first_entry_that_leads_nowhere_or_at_the_next_table() {
    let mut f = program(3);
    let far = |target: u64| (target.wrapping_sub(DATA) as u32).to_le_bytes();
    for (n, target) in [CODE + 1, CODE + 2, CODE + 3, DATA, CODE + 4].into_iter().enumerate() {
        put(&mut f, 0x2000 + 4 * n, &far(target));
    }
    let facts = Facts::read(&&f[..]).unwrap().unwrap();
    let table = |end| facts.jump_table(&&f[..], DATA, DATA, end);
    assert_eq!(table(u64::MAX), [1, 2, 3].map(|n| CODE as u32 + n));
    assert_eq!(table(DATA + 8), [1, 2].map(|n| CODE as u32 + n));
    assert_eq!(table(0), [0u32; 0]);
    assert_eq!(facts.jump_table(&&f[..], u64::MAX, 0, u64::MAX), [0u32; 0]);
}

#[test]
fn no_file_and_wild_numbers_are_no_harm() {
    assert!(Facts::read(&&b""[..]).unwrap().is_none());
    assert!(Facts::read(&&[0u8; 4096][..]).unwrap().is_none());
    let good = program(2);
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..3000 {
        let mut f = good.clone();
        for _ in 0..next() % 8 {
            let at = if next() % 2 == 0 { next() % 0xe8 } else { 0x2800 + next() % 0x100 } as usize;
            f[at] = [0, 0xff, 0x7f, 0x80, next() as u8][(next() % 5) as usize];
        }
        if let Some(facts) = Facts::read(&&f[..]).unwrap() {
            let wild = next();
            facts.is_landing_pad(&&f[..], wild);
            facts.jump_table(&&f[..], DATA, wild, u64::MAX);
            facts.landing_pads(&&f[..]);
        }
    }
}

/// A file with more behind its end than it needs to have: zeros, but for `bytes` and one word again and again.
struct Endless {
    bytes: Vec<u8>,
    word: [u8; 8],
    read: core::cell::Cell<u64>,
    reads: core::cell::Cell<u64>,
}

impl crate::File for Endless {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> bool {
        self.read.set(self.read.get() + buf.len() as u64);
        self.reads.set(self.reads.get() + 1);
        let known = self.bytes.get(offset as usize..).unwrap_or_default();
        let (head, tail) = buf.split_at_mut(known.len().min(buf.len()));
        head.copy_from_slice(&known[..head.len()]);
        let mut word = self.word;
        word.rotate_left((offset as usize + head.len()) % 8);
        tail.chunks_mut(8).for_each(|b| b.copy_from_slice(&word[..b.len()]));
        true
    }
}

impl Endless {
    /// Its code is as in `program`, and `len` bytes of data begin at `DATA`.
    fn new(kind: u16, len: u64, word: u64) -> Self {
        let mut bytes = program(kind);
        segment(&mut bytes, 1, 1, 4, 0x2000, DATA, len);
        let zero = || core::cell::Cell::new(0);
        Self { bytes, word: word.to_le_bytes(), read: zero(), reads: zero() }
    }
}

/// Work that is allowed on a file.
const WORK: u64 = 8 << 20;

#[test]
fn bitmaps_of_relocations_name_no_more_than_is_taken() {
    let mut f = Endless::new(3, 1 << 31, u64::MAX);
    for (n, value) in [36, DATA + 0x1000, 35, 64 << 20].into_iter().enumerate() {
        put64(&mut f.bytes, 0x2800 + 8 * n, value);
    }
    let facts = Facts::read_within(&f, WORK).unwrap().unwrap();
    assert_eq!(facts.named().count(), 1);
    assert!(f.reads.get() <= WORK / 256, "{} reads", f.reads.get());
}

#[test]
fn all_walks_over_a_file_together_have_an_end() {
    // A file that is not moved, with 60 segments of 256 MiB, and what looks like Go's table everywhere.
    let mut f = Endless::new(2, 256 << 20, 0x0801_0000_ffff_fff1);
    put(&mut f.bytes, 56, &60u16.to_le_bytes());
    for n in 3..60 {
        segment(&mut f.bytes, n, 1, 4, 0x2000, DATA, 256 << 20);
    }
    segment(&mut f.bytes, 3, 4, 4, 0xff0, 0, 16);
    put(&mut f.bytes, 0xff0, b"\x04\0\0\0\x08\0\0\0\x04\0\0\0Go\0\0");
    assert!(Facts::read_within(&f, WORK).unwrap().is_some());
    assert!(f.read.get() <= WORK, "{} bytes", f.read.get());
}

#[test]
fn functions_that_share_a_long_table_of_call_sites_have_an_end() {
    const FUNCTIONS: u32 = 100_000;
    let mut f = Endless::new(3, 1 << 31, 0x0000_0101_0000_0101);
    let at = 0x2900;
    put(&mut f.bytes, 56, &2u16.to_le_bytes());
    // A common entry with the augmentation "zLR", all pointers absolute and 4 bytes long.
    put(&mut f.bytes, at, &[20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'L', b'R', 0, 1, 1, 16, 2, 3, 3]);
    f.bytes.resize(at + 24 + 24 * FUNCTIONS as usize + 0x100, 0);
    let table = DATA as u32 + (f.bytes.len() - 0x2000) as u32;
    for n in 0..FUNCTIONS {
        let entry = at + 24 + 24 * n as usize;
        let words = [20, (entry + 4 - at) as u32, CODE as u32, 0x100];
        words.iter().enumerate().for_each(|(k, w)| put(&mut f.bytes, entry + 4 * k, &w.to_le_bytes()));
        put(&mut f.bytes, entry + 16, &[4]);
        put(&mut f.bytes, entry + 17, &table.to_le_bytes());
    }
    f.bytes.extend([0xff, 0xff, 1, 0x80, 0x80, 0x10]);
    // Its sections: one that has the names, and `.eh_frame`.
    let headers = 0x800;
    put64(&mut f.bytes, 40, headers as u64);
    put(&mut f.bytes, 58, &64u16.to_le_bytes());
    put(&mut f.bytes, 60, &2u16.to_le_bytes());
    put64(&mut f.bytes, headers + 24, headers as u64 + 0x80);
    put(&mut f.bytes, headers + 0x80, b"x\0.eh_frame\0");
    put(&mut f.bytes, headers + 64, &2u32.to_le_bytes());
    put64(&mut f.bytes, headers + 64 + 16, DATA + at as u64 - 0x2000);
    put64(&mut f.bytes, headers + 64 + 32, 24 + 24 * u64::from(FUNCTIONS));
    let facts = Facts::read_within(&f, WORK).unwrap().unwrap();
    assert!(facts.names(CODE + 1), "the pads were read");
    assert!(f.read.get() <= WORK, "{} bytes", f.read.get());
    assert!(f.reads.get() <= WORK / 256, "{} reads", f.reads.get());
}
