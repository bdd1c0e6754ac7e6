//! What the tests of both SFI crates need: addresses, a configuration, a code map that knows nothing, random numbers, and
//! the sections of ELF files. The verifier's tests include this file by its path.

#![allow(dead_code, reason = "each test file uses its own part")]

use iced_x86::CpuidFeature;
use occlum_sfi_spec::{Returns, Stubs};
use occlum_sfi_translator::{Config, Env};

pub const STUBS: Stubs = Stubs {
    syscall: 0x2000_1000,
    link: 0x2000_2000,
    miss_ret: 0x2000_3000,
    miss_call: 0x2000_4000,
    emulate: 0x2000_5000,
};
pub const BASE: u32 = 0x4000_0000;

pub const fn config() -> Config {
    Config {
        stubs: STUBS,
        max_instructions: 400,
        prefetch_returns: true,
        returns: Returns::Table,
        native_tsc: false,
    }
}

/// A code map that knows nothing.
pub struct Nothing;

impl Env for Nothing {
    fn lookup(&self, _off: u32) -> Option<u32> {
        None
    }
}

/// Features whose instructions may stand in translated code. Of 3DNow! only the prefetches.
pub const FEATURES: &[CpuidFeature] = {
    use CpuidFeature as F;
    &[
        F::INTEL8086,
        F::INTEL186,
        F::INTEL286,
        F::INTEL386,
        F::INTEL486,
        F::X64,
        F::FPU,
        F::FPU287,
        F::FPU387,
        F::CMOV,
        F::MMX,
        F::SSE,
        F::SSE2,
        F::SSE3,
        F::SSSE3,
        F::SSE4_1,
        F::SSE4_2,
        F::AVX,
        F::AVX2,
        F::AES,
        F::VAES,
        F::PCLMULQDQ,
        F::VPCLMULQDQ,
        F::GFNI,
        F::FMA,
        F::F16C,
        F::BMI1,
        F::BMI2,
        F::LZCNT,
        F::POPCNT,
        F::MOVBE,
        F::ADX,
        F::SHA,
        F::RDRAND,
        F::RDSEED,
        F::CX8,
        F::CMPXCHG16B,
        F::PAUSE,
        F::CLFSH,
        F::CLFLUSHOPT,
        F::CLWB,
        F::PREFETCHW,
        F::PREFETCHWT1,
        F::MULTIBYTENOP,
        F::D3NOW,
    ]
};

/// A number from the environment.
pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// SplitMix64.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    /// From OCCLUM_TEST_SEED (else from the clock) and OCCLUM_TEST_SHARD, which are printed.
    pub fn seeded() -> Random {
        let seed = setting("OCCLUM_TEST_SEED").unwrap_or_else(|| {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
        });
        let shard = setting("OCCLUM_TEST_SHARD").unwrap_or(0);
        println!("OCCLUM_TEST_SEED={seed} OCCLUM_TEST_SHARD={shard}");
        Random::of(seed, shard)
    }

    /// The generator of one shard of a campaign.
    pub fn of(seed: u64, shard: u64) -> Random {
        let mut r = Random(seed);
        Random(r.next() ^ shard.wrapping_mul(0x9e6c_63d0_876a_9a99))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 32) * n as u64 >> 32) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Mixes a word into a digest of what a shard did.
pub fn mix(digest: &mut u64, word: u64) {
    *digest = Random(*digest ^ word.wrapping_mul(0xff51_afd7_ed55_8ccd)).next();
}

/// Mixes bytes into a digest.
pub fn mix_bytes(digest: &mut u64, bytes: &[u8]) {
    for chunk in bytes.chunks(8) {
        mix(digest, chunk.iter().fold(0, |v, &b| v << 8 | u64::from(b)));
    }
}

pub fn number(file: &[u8], at: usize, n: usize) -> usize {
    file[at..at + n].iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b)) as usize
}

/// A section of an ELF file.
pub struct Section {
    pub name: String,
    pub address: u32,
    /// It has bytes, and they may execute.
    pub code: bool,
    pub content: Vec<u8>,
}

/// All sections with content of an ELF file.
pub fn sections(file: &[u8]) -> Vec<Section> {
    const NOBITS: usize = 8;
    let (table, size, count) = (number(file, 0x28, 8), number(file, 0x3a, 2), number(file, 0x3c, 2));
    let content = |h: usize| {
        let at = number(file, h + 24, 8);
        &file[at..at + number(file, h + 32, 8)]
    };
    let names = content(table + number(file, 0x3e, 2) * size);
    let headers = (0..count).map(|n| table + n * size).filter(|h| number(file, h + 4, 4) != NOBITS);
    let name = |h: usize| {
        let at = &names[number(file, h, 4)..];
        String::from_utf8_lossy(&at[..at.iter().position(|&b| b == 0).unwrap()]).into_owned()
    };
    headers
        .map(|h| Section {
            name: name(h),
            address: number(file, h + 16, 8) as u32,
            code: number(file, h + 4, 4) == 1 && number(file, h + 8, 8) & 4 != 0,
            content: content(h).to_vec(),
        })
        .collect()
}

/// (offset, bytes) of every executable section of an ELF file.
pub fn code_sections(file: &[u8]) -> Vec<(u32, Vec<u8>)> {
    sections(file).into_iter().filter(|s| s.code).map(|s| (s.address, s.content)).collect()
}
