//! Real headers, mutated headers, and a seeded fuzz run.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::panic)]
extern crate std;

use crate::{ElfError, ElfImage, LoadSegment, PROGRAM_HEADER_SIZE, parse};
use alloc::vec::Vec;
use occlum_linux_abi::Errno;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One program header as a test writes it.
#[derive(Clone, Copy)]
struct Ph {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

const TEXT: Ph =
    Ph { kind: 1, flags: 5, offset: 0, vaddr: 0x40_0000, filesz: 0x1200, memsz: 0x1200, align: 0x1000 };
const DATA: Ph =
    Ph { kind: 1, flags: 6, offset: 0x1200, vaddr: 0x40_2200, filesz: 0x300, memsz: 0x5000, align: 0x1000 };
const STACK: Ph = Ph { kind: 0x6474_e551, flags: 6, offset: 0, vaddr: 0, filesz: 0, memsz: 0, align: 16 };
const INTERP: Ph = Ph { kind: 3, flags: 4, offset: 0x200, vaddr: 0x40_0200, filesz: 28, memsz: 28, align: 1 };

fn file_with(kind: u16, phoff: u64, table: &[Ph]) -> Vec<u8> {
    let mut f = alloc::vec![0u8; 0x2000];
    f[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    f[16..18].copy_from_slice(&kind.to_le_bytes());
    f[18..20].copy_from_slice(&62u16.to_le_bytes());
    f[20] = 1;
    f[24..32].copy_from_slice(&0x40_1000u64.to_le_bytes());
    f[32..40].copy_from_slice(&phoff.to_le_bytes());
    f[52..54].copy_from_slice(&64u16.to_le_bytes());
    f[54..56].copy_from_slice(&56u16.to_le_bytes());
    f[56..58].copy_from_slice(&(table.len() as u16).to_le_bytes());
    for (i, p) in table.iter().enumerate() {
        let at = phoff as usize + i * PROGRAM_HEADER_SIZE;
        f[at..at + 4].copy_from_slice(&p.kind.to_le_bytes());
        f[at + 4..at + 8].copy_from_slice(&p.flags.to_le_bytes());
        let words = [p.offset, p.vaddr, p.vaddr, p.filesz, p.memsz, p.align];
        for (j, w) in words.iter().enumerate() {
            f[at + 8 + j * 8..at + 16 + j * 8].copy_from_slice(&w.to_le_bytes());
        }
    }
    f
}

fn read(file: &[u8]) -> Result<ElfImage, ElfError> {
    parse(file.len() as u64, &mut |off, buf: &mut [u8]| {
        let start = usize::try_from(off).unwrap_or(usize::MAX).min(file.len());
        let n = buf.len().min(file.len() - start);
        buf[..n].copy_from_slice(&file[start..start + n]);
        n
    })
}

fn with(table: &[Ph]) -> Result<ElfImage, ElfError> {
    read(&file_with(2, 64, table))
}

#[test]
fn a_plain_program() {
    let image = with(&[INTERP, TEXT, DATA, STACK]).unwrap();
    assert!(!image.is_pie && !image.exec_stack);
    assert_eq!((image.entry, image.phnum, image.phdr_vaddr), (0x40_1000, 4, Some(0x40_0040)));
    assert_eq!(image.interp, Some(0x200..0x21c));
    assert_eq!(image.segments.len(), 2);
    assert_eq!((image.segments[0].prot(), image.segments[1].prot()), (5, 3));
    assert_eq!(image.segments[1].end(), 0x40_7200);
}

#[test]
fn position_independent_with_the_table_far_away() {
    let text = Ph { vaddr: 0, filesz: 0x1f00, memsz: 0x1f00, ..TEXT };
    let image = read(&file_with(3, 0x1800, &[text])).unwrap();
    assert!(image.is_pie);
    assert_eq!(image.phdr_vaddr, Some(0x1800));
    let outside = Ph { filesz: 0x1000, memsz: 0x1000, ..text };
    assert_eq!(read(&file_with(3, 0x1800, &[outside])).unwrap().phdr_vaddr, None);
}

#[test]
fn what_linux_takes_is_taken() {
    let beyond_eof = Ph { filesz: 0x10_0000, memsz: 0x10_0000, ..TEXT };
    assert!(with(&[beyond_eof]).is_ok());
    let same_page = Ph { offset: 0x1800, vaddr: 0x40_1800, ..DATA };
    assert!(with(&[TEXT, same_page]).is_ok());
    let odd_align = Ph { align: 3, ..TEXT };
    assert_eq!(with(&[odd_align]).unwrap().max_align, 4096);
    let wide = Ph { align: 0x20_0000, ..TEXT };
    assert_eq!(with(&[wide]).unwrap().max_align, 0x20_0000);
    let empty = Ph { memsz: 0, filesz: 0, vaddr: 7, ..TEXT };
    assert_eq!(with(&[empty, TEXT]).unwrap().segments.len(), 1);
    let bss_only = Ph { filesz: 0, offset: 0x123, ..DATA };
    assert!(with(&[TEXT, bss_only]).is_ok());
    assert!(with(&[TEXT, Ph { flags: 7, ..STACK }]).unwrap().exec_stack);
}

#[test]
fn bad_segments_are_refused() {
    let cases: &[(&[Ph], ElfError)] = &[
        (&[STACK], ElfError::NothingToLoad),
        (&[Ph { filesz: 0x1201, ..TEXT }], ElfError::BadSize),
        (&[Ph { offset: u64::MAX - 0xfff, ..TEXT }], ElfError::BadSize),
        (&[Ph { offset: 1 << 63, ..TEXT }], ElfError::BadSize),
        (&[Ph { vaddr: u64::MAX - 0xfff, ..TEXT }], ElfError::TooLarge),
        (&[Ph { vaddr: 0xffff_f000, ..TEXT }], ElfError::TooLarge),
        (&[TEXT, Ph { vaddr: 0xf000_0200, ..DATA }], ElfError::TooLarge),
        (&[Ph { vaddr: 0x40_0001, ..TEXT }], ElfError::BadAlignment),
        (&[DATA, TEXT], ElfError::BadOrder),
        (&[TEXT, TEXT], ElfError::BadOrder),
        (&[TEXT, Ph { filesz: 1, ..INTERP }], ElfError::BadInterp),
        (&[TEXT, Ph { filesz: 4097, ..INTERP }], ElfError::BadInterp),
        (&[TEXT, Ph { offset: u64::MAX, ..INTERP }], ElfError::BadInterp),
    ];
    for (i, (table, error)) in cases.iter().enumerate() {
        assert_eq!(with(table), Err(*error), "case {i}");
    }
}

#[test]
fn bad_headers_are_refused() {
    let good = file_with(2, 64, &[TEXT, DATA]);
    let patched = |at: usize, bytes: &[u8]| {
        let mut f = good.clone();
        f[at..at + bytes.len()].copy_from_slice(bytes);
        read(&f)
    };
    assert_eq!(patched(0, b"#!/bin"), Err(ElfError::NotElf));
    assert_eq!(patched(4, &[1]), Err(ElfError::WrongClass));
    assert_eq!(patched(5, &[2]), Err(ElfError::WrongClass));
    assert_eq!(patched(16, &[1]), Err(ElfError::NotExecutable));
    assert_eq!(patched(16, &[4]), Err(ElfError::NotExecutable));
    assert_eq!(patched(18, &[183]), Err(ElfError::WrongMachine));
    assert_eq!(patched(54, &[55]), Err(ElfError::BadTable));
    assert_eq!(patched(56, &[0, 0]), Err(ElfError::BadTable));
    assert_eq!(patched(56, &[0xff, 0xff]), Err(ElfError::BadTable));
    assert_eq!(patched(56, &[0x92, 4]), Err(ElfError::BadTable), "1170 entries do not fit in the file");
    assert_eq!(patched(32, &[0xff; 8]), Err(ElfError::BadTable));
    assert_eq!(patched(29, &[1]), Err(ElfError::BadEntry));
    for len in [0, 1, 4, 63, 64, 100, 175] {
        assert!(read(&good[..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn a_short_read_is_an_error() {
    let good = file_with(2, 64, &[TEXT]);
    let mut half = |off: u64, buf: &mut [u8]| {
        if off == 0 {
            buf.copy_from_slice(&good[..64]);
            64
        } else {
            3
        }
    };
    assert_eq!(parse(good.len() as u64, &mut half), Err(ElfError::BadTable));
    assert_eq!(parse(u64::MAX, &mut |_, _: &mut [u8]| 0), Err(ElfError::NotElf));
}

#[test]
fn errors_have_an_errno() {
    assert_eq!(ElfError::NotElf.errno(), Errno::ENOEXEC);
    assert_eq!(ElfError::TooLarge.errno(), Errno::ENOMEM);
    assert_eq!(ElfError::WrongMachine.interp_errno(), Errno::ELIBBAD);
    assert_eq!(ElfError::BadSize.interp_errno(), Errno::EINVAL);
}

/// xorshift64*: enough to choose bytes.
struct Random(u64);
impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Values that sit on edges.
const EDGES: [u64; 12] =
    [0, 1, 0xfff, 0x1000, 0x7fff_ffff, 0x8000_0000, 0xffff_f000, 1 << 32, 1 << 63, u64::MAX, 0xffff, 0x38];

fn mutate(file: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(6) {
        let at = random.below(64 + 6 * PROGRAM_HEADER_SIZE).min(file.len() - 8);
        match random.below(4) {
            0 => file[at] = random.next() as u8,
            1 => file[at] ^= 1 << random.below(8),
            2 => file[at & !7..(at & !7) + 8].copy_from_slice(&EDGES[random.below(12)].to_le_bytes()),
            _ => file[at..at + 8].copy_from_slice(&random.next().to_le_bytes()),
        }
    }
    if random.below(8) == 0 {
        file.truncate(8 + random.below(file.len() - 8));
    }
}

fn assert_sound(image: &ElfImage) {
    assert!(!image.segments.is_empty() && image.entry < 1 << 32);
    let mut end = 0;
    for s in &image.segments {
        let LoadSegment { vaddr, memsz, file_off, filesz, align, .. } = *s;
        assert!(vaddr >= end && memsz > 0 && filesz <= memsz && align.is_power_of_two());
        assert!(filesz == 0 || file_off % 4096 == vaddr % 4096);
        end = vaddr.checked_add(memsz).unwrap();
        assert!(end <= 1 << 32 && file_off.checked_add(filesz).is_some());
    }
}

#[test]
fn fuzz_never_panics_and_accepts_only_sound_images() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("OCCLUM_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(now) | 1;
    std::println!("repeat with OCCLUM_TEST_SEED={seed}");
    let mut random = Random(seed);
    let deadline = Instant::now() + Duration::from_secs(2);
    let (mut accepted, mut runs) = (0u64, 0u64);
    while Instant::now() < deadline {
        let kind = 2 + (random.next() & 1) as u16;
        let mut file = file_with(kind, 64, &[INTERP, TEXT, DATA, STACK]);
        mutate(&mut file, &mut random);
        if let Ok(image) = read(&file) {
            assert_sound(&image);
            accepted += 1;
        }
        runs += 1;
    }
    assert!(accepted > 0 && accepted < runs, "{accepted} of {runs}");
}

#[test]
fn notes_are_found_by_name_and_type() {
    let note = |name: &[u8], desc: &[u8], kind: u32| {
        let mut b = Vec::new();
        for n in [name.len() as u32, desc.len() as u32, kind] {
            b.extend_from_slice(&n.to_le_bytes());
        }
        for part in [name, desc] {
            b.extend_from_slice(part);
            b.resize(b.len().next_multiple_of(4), 0);
        }
        b
    };
    let both = [note(b"GNU\0", &[7; 5], 5), note(b"Go\0\0", b"id", 4)].concat();
    assert!(crate::has_note(&both, b"Go", 4) && crate::has_note(&both, b"GNU", 5));
    assert!(!crate::has_note(&both, b"Go", 5) && !crate::has_note(&both, b"G", 4));
    assert!(!crate::has_note(&both[..both.len() - 8], b"Go", 4), "cut in its name");
    let mut wild = both.clone();
    wild[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(!crate::has_note(&wild, b"Go", 4), "the first note goes on behind the end");
    assert!(!crate::has_note(&[], b"Go", 4));
}
