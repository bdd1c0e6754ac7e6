//! Hostile bytes: whatever is translated, nothing panics, the emitted code passes the checker and the rsp automaton (R2),
//! and `undo` answers at every instruction boundary.

mod common;

use common::{BASE, Nothing, Random, check, check_stack, configs};
use iced_x86::{Decoder, DecoderOptions};
use occlum_sfi_translator::{Source, translate, undo};

/// Prefixes, rsp-heavy opcodes and ModRM bytes that random bytes rarely combine.
const SPICE: &[&[u8]] = &[
    &[0x66],
    &[0x67],
    &[0x64],
    &[0x65],
    &[0xf2],
    &[0xf3],
    &[0xf0],
    &[0x48],
    &[0x4c],
    &[0x41],
    &[0x0f],
    &[0x0f, 0x38],
    &[0x0f, 0x3a],
    &[0xc4, 0xe2, 0x7d],
    &[0xc5, 0xf8],
    &[0x48, 0x81, 0xec],
    &[0x48, 0x83, 0xec],
    &[0x48, 0x8d, 0x64, 0x24],
    &[0x48, 0x83, 0xe4, 0xf0],
    &[0x04, 0x24],
    &[0x54],
    &[0x5c],
    &[0xc9],
    &[0x48, 0x89, 0xe0],
    &[0x48, 0x94],
    &[0xe2, 0xfe],
    &[0xc2],
    &[0xff],
    &[0xa4],
    &[0x74, 0x03],
    &[0xeb, 0x02],
    &[0x0f, 0x05],
];

fn soup(r: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < 160 {
        if r.below(2) == 0 {
            bytes.extend_from_slice(SPICE[r.below(SPICE.len())]);
        } else {
            bytes.push(r.next() as u8);
        }
    }
    bytes
}

#[test]
fn hostile_bytes_stay_confined() {
    let rounds: usize = std::env::var("FUZZ_ROUNDS").ok().and_then(|v| v.parse().ok()).unwrap_or(20_000);
    let mut r = Random::seeded();
    for round in 0..rounds {
        let bytes = soup(&mut r);
        let start = if r.below(8) == 0 { 0x7fff_ff80 } else { r.next() as u32 & 0x7fff_ffff };
        let cfg = configs()[round % 2];
        let Ok(f) = translate(&cfg, Source { start, bytes: &bytes }, BASE, 7, &Nothing) else {
            continue;
        };
        for result in [check(&f), check_stack(&f)] {
            if let Err(what) = result {
                panic!("round {round} start {start:#x}: {what}\n{bytes:02x?}");
            }
        }
        let mut d = Decoder::with_ip(64, &f.code, u64::from(BASE), DecoderOptions::NONE);
        while d.can_decode() {
            let at = d.ip() as u32;
            let _ = d.decode();
            assert!(undo(&f.rows, &f.code, f.base, at).is_some(), "no undo at {at:#x}");
        }
        for _ in 0..4 {
            let _ = undo(&f.rows, &f.code, f.base, f.base.wrapping_add(r.below(4096) as u32));
        }
    }
}
