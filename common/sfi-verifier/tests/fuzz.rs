//! Mutated code: whatever the verifier still accepts, an independent interpreter finds harmless (`slow::unit`). Bytes are
//! changed, and whole instructions left out, doubled, exchanged and taken from other code.
//! `OCCLUM_TEST_SEED`, `OCCLUM_TEST_SHARD` and `OCCLUM_TEST_ROUNDS` repeat a shard of a campaign (`tools/campaign.py`,
//! `make replay`); `OCCLUM_TEST_SECONDS` ends earlier.

mod common;
mod slow;

use common::{
    Accepted, BASE, PROVEN, RETURNS, Random, STUBS, check_with, code_sections, mix, mix_bytes, setting,
    snippets, sweep,
};
use iced_x86::{Decoder, DecoderOptions};
use occlum_sfi_spec::Returns;
use occlum_sfi_verifier::is_set;
use slow::unit::{Places, check_unit};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const ROUNDS: u64 = 400_000;

/// Accepted units: all of `pass/`, and fragments of a library.
fn originals(returns: Returns) -> Vec<Vec<u8>> {
    // All lie at BASE afterwards: jumps to absolute addresses then lead nowhere, unless moved along.
    let own = snippets("pass").into_iter().filter(|s| check_with(returns, s.base, &s.code).is_ok());
    let mut units: Vec<Vec<u8>> = own.map(|s| rebase(s.base, &s.code)).collect();
    let count = units.len();
    let file = std::fs::read("/lib/x86_64-linux-gnu/libm.so.6").unwrap();
    for (start, section) in code_sections(&file) {
        sweep(returns, start, &section, |f| {
            if f.code.len() < 1500 && units.len() < 40 * count {
                units.push(f.code.clone());
            }
        });
    }
    units
}

/// The code for BASE instead of `from`.
fn rebase(from: u32, code: &[u8]) -> Vec<u8> {
    let mut out = code.to_vec();
    for i in Decoder::with_ip(64, code, u64::from(from), DecoderOptions::NONE).iter() {
        let target = i.near_branch_target() as u32;
        let inside = target.wrapping_sub(from) as usize <= code.len();
        if (i.is_jmp_near() || i.is_jcc_near()) && !inside {
            let end = (i.next_ip() as u32 - from) as usize;
            let rel = target.wrapping_sub(BASE + end as u32);
            out[end - 4..end].copy_from_slice(&rel.to_le_bytes());
        }
    }
    out
}

/// Start and length of every instruction.
fn cut(code: &[u8]) -> Vec<(usize, usize)> {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE).iter().map(|i| (i.ip() as usize, i.len())).collect()
}

fn one_of(random: &mut Random, code: &[u8]) -> (usize, usize) {
    let all = cut(code);
    all[random.below(all.len())]
}

/// Interesting bytes: prefixes, escapes, ModRM and SIB bytes that name rsp.
const BYTES: [u8; 24] = [
    0x65, 0x67, 0x66, 0xf2, 0xf3, 0xf0, 0x48, 0x4c, 0x41, 0x64, 0x2e, 0x0f, 0xc4, 0xc5, 0x24, 0x25, 0x44,
    0x84, 0xe4, 0xc4, 0x05, 0x5c, 0x54, 0x90,
];

/// Kinds of change.
#[derive(Clone, Copy, Debug)]
enum Change {
    Bit,
    Byte,
    Telling,
    Insert,
    Remove,
    LeaveOut,
    Double,
    Replace,
    Foreign,
}

const CHANGES: [Change; 9] = [
    Change::Bit,
    Change::Byte,
    Change::Telling,
    Change::Insert,
    Change::Remove,
    Change::LeaveOut,
    Change::Double,
    Change::Replace,
    Change::Foreign,
];

fn mutate(random: &mut Random, code: &mut Vec<u8>, others: &[Vec<u8>]) -> Change {
    let at = random.below(code.len());
    let change = CHANGES[random.below(CHANGES.len())];
    match change {
        Change::Bit => code[at] ^= 1 << random.below(8),
        Change::Byte => code[at] = random.next() as u8,
        Change::Telling => code[at] = BYTES[random.below(BYTES.len())],
        Change::Insert => code.insert(at, BYTES[random.below(BYTES.len())]),
        Change::Remove => drop(code.remove(at)),
        Change::LeaveOut => {
            let (from, len) = one_of(random, code);
            code.drain(from..from + len);
        }
        Change::Double => {
            let (from, len) = one_of(random, code);
            let copy = code[from..from + len].to_vec();
            let (to, _) = one_of(random, code);
            code.splice(to..to, copy);
        }
        Change::Replace => {
            let (from, len) = one_of(random, code);
            let copy = code[from..from + len].to_vec();
            let (to, old) = one_of(random, code);
            code.splice(to..to + old, copy);
        }
        Change::Foreign => {
            let other = &others[random.below(others.len())];
            let (from, len) = one_of(random, other);
            let (to, old) = one_of(random, code);
            let old = if random.below(2) == 0 { 0 } else { old };
            code.splice(to..to + old, other[from..from + len].iter().copied());
        }
    }
    if code.is_empty() {
        code.push(0x90);
    }
    change
}

/// What a campaign's record needs.
#[derive(Default)]
struct Tally {
    mutants: u64,
    accepted: u64,
    changed: u64,
    changes: BTreeMap<String, u64>,
    refusals: BTreeMap<String, u64>,
    digest: u64,
}

impl Tally {
    /// Mixes the mutant and what was said of it into the digest.
    fn mix(&mut self, code: &[u8], answer: u64) {
        mix_bytes(&mut self.digest, code);
        mix(&mut self.digest, answer);
    }

    fn report(&self) {
        for (name, count) in self.changes.iter().chain(&self.refusals) {
            println!("count {name} {count}");
        }
        println!("count accepted {}", self.accepted);
        println!("count accepted-and-changed {}", self.changed);
        println!("shard done {} problems 0 digest {:016x}", self.mutants, self.digest);
    }
}

impl Places for Accepted {
    fn is_entry(&self, at: u32) -> bool {
        at == PROVEN || is_set(&self.entries, at.wrapping_sub(BASE) as usize)
    }

    fn is_boundary(&self, at: u32) -> bool {
        is_set(&self.boundaries, at.wrapping_sub(BASE) as usize)
    }
}

fn second_opinion(returns: Returns, code: &[u8], proven: &Accepted) -> Result<(), String> {
    check_unit(returns, BASE, code, &STUBS, proven)
}

#[test]
fn originals_are_harmless() {
    for returns in RETURNS {
        for code in originals(returns) {
            let proven = check_with(returns, BASE, &code).unwrap_or_else(|v| panic!("{v:x?} of {code:02x?}"));
            second_opinion(returns, &code, &proven).unwrap();
        }
    }
}

#[test]
fn accepted_mutants_are_harmless() {
    let rounds = setting("OCCLUM_TEST_ROUNDS").unwrap_or(ROUNDS);
    let end = setting("OCCLUM_TEST_SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
    let mut random = Random::seeded();
    let originals = RETURNS.map(originals);
    let mut tally = Tally::default();
    while tally.mutants < rounds && end.is_none_or(|e| Instant::now() < e) {
        let which = random.below(RETURNS.len());
        let (returns, originals) = (RETURNS[which], &originals[which]);
        let original = &originals[random.below(originals.len())];
        let mut code = original.clone();
        for _ in 0..1 + random.below(3) {
            let change = mutate(&mut random, &mut code, originals);
            *tally.changes.entry(format!("change-{change:?}")).or_default() += 1;
        }
        tally.mutants += 1;
        let proven = match check_with(returns, BASE, &code) {
            Ok(proven) => proven,
            Err(v) => {
                tally.mix(&code, u64::from(v.at) << 8 | v.check as u64);
                *tally.refusals.entry(format!("refused-{:?}", v.check)).or_default() += 1;
                continue;
            }
        };
        tally.mix(&code, u64::MAX);
        tally.accepted += 1;
        tally.changed += u64::from(&code != original);
        if let Err(what) = second_opinion(returns, &code, &proven) {
            panic!("{returns:?}: accepted, but {what}\n{code:02x?}\nfrom {original:02x?}");
        }
    }
    tally.report();
    assert!(tally.changed > tally.mutants / 100, "hardly anything is accepted: the mutations are too coarse");
}
