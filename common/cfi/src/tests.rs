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
    let mut all: Vec<u32> = Facts::read(&f).expect("an ELF file").named().collect();
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
    let facts = Facts::read(&&f[..]).unwrap();
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
    let facts = Facts::read(&&f[..]).unwrap();
    let table = |end| facts.jump_table(&&f[..], DATA, DATA, end);
    assert_eq!(table(u64::MAX), [1, 2, 3].map(|n| CODE as u32 + n));
    assert_eq!(table(DATA + 8), [1, 2].map(|n| CODE as u32 + n));
    assert_eq!(table(0), [0u32; 0]);
    assert_eq!(facts.jump_table(&&f[..], u64::MAX, 0, u64::MAX), [0u32; 0]);
}

#[test]
fn no_file_and_wild_numbers_are_no_harm() {
    assert!(Facts::read(&&b""[..]).is_none());
    assert!(Facts::read(&&[0u8; 4096][..]).is_none());
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
        if let Some(facts) = Facts::read(&&f[..]) {
            let wild = next();
            facts.is_landing_pad(&&f[..], wild);
            facts.jump_table(&&f[..], DATA, wild, u64::MAX);
            facts.landing_pads(&&f[..]);
        }
    }
}
