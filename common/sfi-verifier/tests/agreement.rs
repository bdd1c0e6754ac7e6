//! The verifier's decoder against an independent one, over all opcodes of all maps with a set of prefixes and ModRM and
//! SIB forms: for everything that is accepted, length, memory operand, written registers, branch target and the use of
//! rsp agree. Where the two differ on purpose, `slow` says why.

mod common;
mod slow;

use common::STUBS;
use occlum_sfi_verifier::inspect::inspect;
use slow::Slow;
use std::collections::BTreeMap;

const AT: u32 = 0x4000_1000;
/// Displacements and immediates: small, so that rsp operands stay in reach, and different from each other.
const TAIL: [u8; 16] = [0x10, 0x02, 0, 0, 0x11, 0x03, 0, 0, 0x12, 0x04, 0, 0, 0x13, 0x05, 0, 0];

/// Prefixes for the memory operand.
const ADDRESS: &[&[u8]] = &[&[], &[0x65, 0x67], &[0x67], &[0x65]];
const LEGACY: &[&[u8]] =
    &[&[], &[0x66], &[0xf2], &[0xf3], &[0x66, 0xf2], &[0x66, 0xf3], &[0xf0], &[0x66, 0xf0], &[0xf3, 0xf0]];
const REX: &[&[u8]] = &[&[], &[0x40], &[0x41], &[0x44], &[0x48], &[0x4d], &[0x4f]];
/// Prefixes in an order or number that R4 does not have.
const WRONG: &[&[u8]] = &[
    &[0x67, 0x65],
    &[0x66, 0x65, 0x67],
    &[0x65, 0x65, 0x67],
    &[0x65, 0x67, 0x67],
    &[0x66, 0x66],
    &[0xf2, 0xf3],
    &[0xf3, 0xf2],
    &[0xf3, 0x66],
    &[0xf0, 0x66],
    &[0xf0, 0xf3],
    &[0x40, 0x66],
    &[0x48, 0x65, 0x67],
    &[0x48, 0x48],
    &[0x26],
    &[0x2e],
    &[0x36],
    &[0x3e],
    &[0x64],
    &[0x65, 0x67, 0x2e],
    &[0x65, 0x67, 0x3e],
    &[0x65, 0x67, 0x26],
    &[0x64, 0x67],
    &[0x64, 0x65, 0x67],
];

struct Tally {
    tried: u64,
    accepted: u64,
    slow: Slow,
    wrong: BTreeMap<String, (u64, String)>,
}

impl Tally {
    fn new() -> Tally {
        Tally { tried: 0, accepted: 0, slow: Slow::new(), wrong: BTreeMap::new() }
    }

    fn try_one(&mut self, bytes: &[u8; 32]) {
        self.tried += 1;
        let Ok(seen) = inspect(bytes, AT, &STUBS) else { return };
        self.accepted += 1;
        if let Err(what) = self.slow.compare(bytes, AT, &seen) {
            let i = self.slow.decode(bytes, AT);
            let entry = self.wrong.entry(format!("{:?}: {what}", i.code())).or_default();
            entry.0 += 1;
            if entry.1.is_empty() {
                entry.1 = format!("{:02x?} {i}: {seen:?}", &bytes[..15]);
            }
        }
    }

    fn report(&self) {
        println!("{} tried, {} accepted", self.tried, self.accepted);
        for (what, (count, first)) in &self.wrong {
            println!("{count:8} {what}\n         {first}");
        }
        assert!(self.wrong.is_empty(), "{} kinds of disagreement", self.wrong.len());
    }
}

/// ModRM and SIB bytes: all register forms, memory with every digit and some of every kind of base and index.
fn operands() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0xc0..=0xff).map(|m| vec![m]).collect();
    for mode in 0..3u8 {
        for digit in 0..8u8 {
            for rm in [0, 5, 7] {
                all.push(vec![mode << 6 | digit << 3 | rm]);
            }
            for sib in [0x24, 0x25, 0x00, 0x64, 0x9d, 0xcc, 0x23] {
                all.push(vec![mode << 6 | digit << 3 | 4, sib]);
            }
        }
    }
    all
}

fn build(parts: &[&[u8]]) -> [u8; 32] {
    let mut out = [0; 32];
    let bytes = parts.iter().copied().flatten().chain(&TAIL);
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    out
}

const MAPS: &[&[u8]] = &[&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];

fn legacy(tally: &mut Tally, prefixes: &[&[u8]]) {
    let operands = operands();
    for map in MAPS {
        for opcode in 0..=255u8 {
            for operand in &operands {
                let mut parts = prefixes.to_vec();
                let opcode = [opcode];
                parts.extend([map, &opcode[..], operand]);
                tally.try_one(&build(&parts));
            }
        }
    }
}

#[test]
fn legacy_encodings_agree() {
    let mut tally = Tally::new();
    for address in ADDRESS {
        for other in LEGACY {
            for rex in REX {
                legacy(&mut tally, &[address, other, rex]);
            }
        }
    }
    tally.report();
}

#[test]
fn no_other_order_of_prefixes_is_accepted() {
    let mut tally = Tally::new();
    for prefixes in WRONG {
        legacy(&mut tally, &[prefixes]);
    }
    tally.report();
    assert_eq!(tally.accepted, 0);
}

#[test]
fn vex_encodings_agree() {
    let operands: [&[u8]; 12] = [
        &[0xc0],
        &[0xe4],
        &[0xcc],
        &[0xfb],
        &[0xd1],
        &[0x00],
        &[0x24, 0x24],
        &[0x4c, 0x24],
        &[0x94, 0x25],
        &[0x05],
        &[0x5c, 0x8a],
        &[0x2c, 0x64],
    ];
    let mut tally = Tally::new();
    for address in [&[][..], &[0x65, 0x67]] {
        for second in 0..=255u8 {
            for opcode in 0..=255u8 {
                for operand in operands {
                    tally.try_one(&build(&[address, &[0xc5, second, opcode], operand]));
                    for map in [0x00, 0x01, 0x02, 0x03, 0x04] {
                        for extension in [0xe0, 0x00, 0x60, 0xa0, 0xc0] {
                            tally.try_one(&build(&[
                                address,
                                &[0xc4, extension | map, second, opcode],
                                operand,
                            ]));
                        }
                    }
                }
            }
        }
    }
    tally.report();
}
