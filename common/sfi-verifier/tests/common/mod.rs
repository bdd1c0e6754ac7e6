//! Helpers of the verifier's tests: configuration, fragments of real programs, assembling snippets.

#![allow(dead_code, reason = "each test file uses its own part")]

use occlum_sfi_spec::Stubs;
use occlum_sfi_translator::{Config, Env, Fragment, Source, translate};
use occlum_sfi_verifier::{Maps, Proven, Unit, Violation, is_set, map_len, verify};

pub const STUBS: Stubs = Stubs {
    syscall: 0x2000_1000,
    link: 0x2000_2000,
    miss_ret: 0x2000_3000,
    miss_call: 0x2000_4000,
    emulate: 0x2000_5000,
};
pub const BASE: u32 = 0x4000_0000;
/// The one address outside a unit that counts as proven.
pub const PROVEN: u32 = 0x4100_0000;

pub struct Known;

impl Proven for Known {
    fn is_entry(&self, addr: u32) -> bool {
        addr == PROVEN
    }

    fn is_boundary(&self, addr: u32) -> bool {
        self.is_entry(addr)
    }
}

pub struct Nothing;

impl Env for Nothing {
    fn lookup(&self, _off: u32) -> Option<u32> {
        None
    }
}

pub const fn config() -> Config {
    Config { stubs: STUBS, max_instructions: 400, prefetch_returns: true }
}

/// Entries of an accepted unit.
pub fn check(base: u32, code: &[u8]) -> Result<Vec<u8>, Violation> {
    let mut boundaries = vec![0; map_len(code.len())];
    let (mut targets, mut entries) = (boundaries.clone(), boundaries.clone());
    let mut maps = Maps { boundaries: &mut boundaries, entries: &mut entries, targets: &mut targets };
    verify(&STUBS, Unit { base, code }, &Known, &mut maps)?;
    Ok(entries)
}

/// Every entry that the translator reports must be one of `entries`.
pub fn assert_entries(f: &Fragment, entries: &[u8]) {
    for e in &f.entries {
        assert!(is_set(entries, (e.at - f.base) as usize), "entry {:#x} is not proven", e.at);
    }
}

fn number(file: &[u8], at: usize, n: usize) -> usize {
    file[at..at + n].iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b)) as usize
}

/// (offset, bytes) of every executable section of an ELF file.
pub fn code_sections(file: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let (table, size, count) = (number(file, 0x28, 8), number(file, 0x3a, 2), number(file, 0x3c, 2));
    (0..count)
        .map(|n| table + n * size)
        .filter(|&h| number(file, h + 4, 4) == 1 && number(file, h + 8, 8) & 4 != 0)
        .map(|h| {
            let at = number(file, h + 24, 8);
            (number(file, h + 16, 8) as u32, file[at..at + number(file, h + 32, 8)].to_vec())
        })
        .collect()
}

/// Every fragment of a linear sweep over `bytes`.
pub fn sweep(start: u32, bytes: &[u8], mut visit: impl FnMut(&Fragment)) {
    let mut at = 0;
    while at < bytes.len() {
        let source = Source { start: start + at as u32, bytes: &bytes[at..] };
        let Ok(f) = translate(&config(), source, BASE, 0, &Nothing) else {
            assert!(bytes.len() - at < 16, "no fragment at {:#x}", source.start);
            return;
        };
        visit(&f);
        at += (f.source_len as usize).max(1);
    }
}
