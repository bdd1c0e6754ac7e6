//! Whatever the program's bytes are, what the translator makes of them is accepted: over all opcodes with a set of
//! prefixes and operands, one instruction at a time, and over mutated and random code.

mod common;

use common::{BASE, Nothing, RETURNS, Random, STUBS, assert_entries, check_with, code_sections};
use iced_x86::{Decoder, DecoderOptions};
use occlum_sfi_spec::Returns;
use occlum_sfi_translator::{Config, Source, translate};
use std::collections::BTreeMap;

const TAIL: [u8; 12] = [0x10, 0x02, 0, 0, 0x11, 0x03, 0, 0, 0x12, 0x04, 0, 0];
const ADDRESS: &[&[u8]] = &[&[], &[0x64], &[0x65], &[0x67], &[0x65, 0x67], &[0x2e]];
const LEGACY: &[&[u8]] =
    &[&[], &[0x66], &[0xf2], &[0xf3], &[0x66, 0xf2], &[0xf3, 0x66], &[0xf0], &[0x66, 0xf0], &[0xf2, 0xf0]];
const REX: &[&[u8]] = &[&[], &[0x40], &[0x48], &[0x4d]];
const MAPS: &[&[u8]] = &[&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
const OPERANDS: &[&[u8]] = &[
    &[0xc0],
    &[0xcb],
    &[0xd4],
    &[0xe3],
    &[0xe4],
    &[0xec],
    &[0xf9],
    &[0xfc],
    &[0xc4],
    &[0xdc],
    &[0x00],
    &[0x05],
    &[0x24, 0x24],
    &[0x0c, 0x24],
    &[0x54, 0x24],
    &[0x9c, 0x24],
    &[0xa4, 0x24],
    &[0x6c, 0x9d],
    &[0x34, 0x25],
    &[0x3c, 0x24],
    &[0x7b],
    &[0x2c, 0x64],
    &[0x24, 0x25],
    &[0x24, 0xc4],
];

#[derive(Default)]
struct Tally {
    tried: u64,
    wrong: BTreeMap<String, (u64, String)>,
}

impl Tally {
    fn try_one(&mut self, bytes: &[u8], max_instructions: usize) {
        RETURNS.iter().for_each(|&returns| self.try_with(bytes, max_instructions, returns));
    }

    fn try_with(&mut self, bytes: &[u8], max_instructions: usize, returns: Returns) {
        self.tried += 1;
        let config =
            Config { stubs: STUBS, max_instructions, prefetch_returns: true, returns, native_tsc: true };
        let source = Source { start: 0x12345, bytes };
        let Ok(f) = translate(&config, source, BASE, 7, &Nothing) else { return };
        match check_with(returns, f.base, &f.code) {
            Ok(accepted) => assert_entries(&f, &accepted),
            Err(v) => {
                let decode = |bytes, at: u32| {
                    Decoder::with_ip(64, bytes, u64::from(at), DecoderOptions::NONE).decode()
                };
                let at = (v.at - BASE) as usize;
                let (given, bad) = (decode(bytes, source.start), decode(&f.code[at..], v.at));
                let entry = self.wrong.entry(format!("{:?}: {:?}", v.check, bad.code())).or_default();
                entry.0 += 1;
                if entry.1.is_empty() {
                    let end = f.code.len().min(at + 15);
                    entry.1 = format!(
                        "{given} [{:02x?}] -> {bad} [{:02x?}]",
                        &bytes[..bytes.len().min(15)],
                        &f.code[at..end]
                    );
                }
            }
        }
    }

    fn report(&self) {
        println!("{} tried", self.tried);
        for (what, (count, first)) in &self.wrong {
            println!("{count:8} {what}\n         {first}");
        }
        assert!(self.wrong.is_empty(), "{} kinds of emitted code are refused", self.wrong.len());
    }
}

#[test]
fn every_translated_legacy_instruction_is_accepted() {
    let mut tally = Tally::default();
    for prefixes in ADDRESS
        .iter()
        .flat_map(|a| LEGACY.iter().flat_map(move |l| REX.iter().map(move |r| [*a, *l, *r].concat())))
    {
        for map in MAPS {
            for opcode in 0..=255 {
                for operand in OPERANDS {
                    let bytes = [&prefixes[..], map, &[opcode], operand, &TAIL].concat();
                    tally.try_one(&bytes, 1);
                }
            }
        }
    }
    tally.report();
}

#[test]
fn every_translated_vex_instruction_is_accepted() {
    let mut tally = Tally::default();
    for address in ADDRESS {
        for (first, last) in
            [(0xe1, 0), (0xe2, 0), (0xe3, 0), (0x01, 0x80), (0x42, 0x80), (0xa3, 0x80), (0xc2, 0)]
        {
            for fields in [0x78, 0x60, 0x58, 0x7c, 0x64] {
                for pp in 0..4 {
                    for opcode in 0..=255 {
                        for operand in OPERANDS {
                            let bytes =
                                [*address, &[0xc4, first, last | fields | pp, opcode], operand, &TAIL]
                                    .concat();
                            tally.try_one(&bytes, 1);
                        }
                    }
                }
            }
        }
    }
    tally.report();
}

#[test]
fn hostile_code_translates_to_accepted_code() {
    let mut random = Random::seeded();
    let mut tally = Tally::default();
    let text: Vec<u8> = code_sections(&std::fs::read("/lib/x86_64-linux-gnu/libc.so.6").unwrap())
        .into_iter()
        .max_by_key(|s| s.1.len())
        .unwrap()
        .1;
    for round in 0..60_000 {
        let at = random.below(text.len() - 256);
        let mut bytes = text[at..at + 64 + random.below(128)].to_vec();
        let changes = if round % 4 == 0 { bytes.len() } else { 1 + random.below(8) };
        for _ in 0..changes {
            let n = random.below(bytes.len());
            bytes[n] = random.next() as u8;
        }
        tally.try_one(&bytes, 60);
    }
    tally.report();
}
