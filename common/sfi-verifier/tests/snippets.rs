//! What must be accepted and what must not: the snippets of `pass/` and `fail/` (V1 to V12), and in code what is no matter
//! of a unit's bytes (the code cache's limits, patches and table entries: V3, V13, V14).

mod common;

use common::{BASE, Known, PROVEN, STUBS, check, snippets};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use occlum_sfi_spec::elrange;
use occlum_sfi_verifier::{
    Check, Invariant, Maps, Proven, Unit, check_patch, check_table_entry, is_indirect_entry, is_set, map_len,
    verify,
};
use std::collections::BTreeMap;

#[test]
fn every_pass_snippet_is_accepted() {
    for s in snippets("pass") {
        let result = check(s.base, &s.code);
        assert!(result.is_ok(), "{}: {}: {result:x?}", s.file, s.title);
        assert!(is_set(&result.unwrap(), 0));
    }
}

#[test]
fn every_fail_snippet_is_refused_for_its_reason() {
    let mut wrong = Vec::new();
    for s in snippets("fail") {
        match check(s.base, &s.code) {
            Err(v) if format!("{:?}", v.check) == s.word() => {}
            other => wrong.push(format!("{}: {}: {:x?}", s.file, s.title, other.map(|_| "accepted"))),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Checks whose refusals are shown by the tests below instead.
const IN_CODE: &[Check] = &[
    Check::InCache,
    Check::PatchLine,
    Check::PatchSite,
    Check::PatchTarget,
    Check::EntryUnproven,
    Check::EntryPrelude,
];

#[test]
fn every_check_and_invariant_has_its_snippets() {
    let all = snippets("fail");
    for c in Check::ALL {
        let n = all.iter().filter(|s| s.word() == format!("{c:?}")).count();
        assert_eq!(n == 0, IN_CODE.contains(c), "{c:?}");
    }
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for s in &all {
        *count.entry(s.file.split('-').next().unwrap()).or_default() += 1;
    }
    assert_eq!(count.len(), 12, "a file for each of V1 to V12");
    assert!(count.values().all(|&n| n >= 5), "{count:?}");
    for s in &all {
        assert!(Check::ALL.iter().any(|c| format!("{c:?}") == s.word()), "{} is no check", s.word());
    }
}

/// Instructions of a snippet with their offsets.
fn instructions(base: u32, code: &[u8]) -> Vec<(usize, Instruction)> {
    let decoder = Decoder::with_ip(64, code, u64::from(base), DecoderOptions::NONE);
    decoder.into_iter().map(|i| ((i.ip() - u64::from(base)) as usize, i)).collect()
}

/// Puts pieces together; branches of `from` keep their absolute targets.
fn join(base: u32, from: &[(usize, Instruction)], code: &[u8], pieces: &[Piece]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(b) => out.extend_from_slice(b),
            Piece::Own(k) => {
                let (at, i) = from[*k];
                out.extend_from_slice(&code[at..at + i.len()]);
                if i.is_jmp_near() {
                    let end = out.len();
                    let rel = (i.near_branch_target() as u32).wrapping_sub(base + end as u32);
                    out[end - 4..].copy_from_slice(&rel.to_le_bytes());
                }
            }
        }
    }
    out
}

enum Piece {
    Bytes(Vec<u8>),
    Own(usize),
}

/// Instructions that may be left out of their pattern: what remains is whole, or no pattern at all.
const OPTIONAL: &[(&str, usize)] = &[
    ("scas with a 32-bit count", 2),
    ("cmps with a 32-bit count", 2),
    ("segment operand with base and index", 0),
    ("segment operand with base and index", 2),
    ("read of rsp", 0),
    ("read of rsp, push %rsp", 0),
    ("segment load", 0),
    ("call of a stack operand", 3),
    ("call of a segment operand", 1),
    ("call of a segment operand", 2),
    ("call of a segment operand", 5),
    ("ret n", 2),
];

#[test]
fn patterns_without_one_instruction_are_refused() {
    let mut tried = 0;
    for s in snippets("pass").iter().filter(|s| s.file == "patterns") {
        let all = instructions(s.base, &s.code);
        let steps = all.len() - usize::from(!s.open);
        for left in 0..steps {
            let pieces: Vec<Piece> = (0..all.len()).filter(|&k| k != left).map(Piece::Own).collect();
            let code = join(s.base, &all, &s.code, &pieces);
            let accepted = check(s.base, &code).is_ok();
            let optional = OPTIONAL.contains(&(&s.title, left));
            assert_eq!(accepted, optional, "{} without instruction {left}", s.title);
            tried += 1;
        }
    }
    assert!(tried > 150);
}

#[test]
fn patterns_with_one_instruction_more_are_refused() {
    for s in snippets("pass").iter().filter(|s| s.file == "patterns") {
        let all = instructions(s.base, &s.code);
        let steps = all.len() - usize::from(!s.open);
        for at in 1..steps {
            let mut pieces: Vec<Piece> = (0..all.len()).map(Piece::Own).collect();
            pieces.insert(at, Piece::Bytes(vec![0x90]));
            let code = join(s.base, &all, &s.code, &pieces);
            assert!(check(s.base, &code).is_err(), "{} with a nop before instruction {at}", s.title);
        }
    }
}

#[test]
fn patterns_are_entered_at_their_start_only() {
    for s in snippets("pass").iter().filter(|s| s.file == "patterns") {
        let all = instructions(s.base, &s.code);
        let steps = all.len() - usize::from(!s.open);
        for into in 0..steps {
            let jump = Piece::Bytes(vec![0x74, all[into].0 as u8]);
            let pieces: Vec<Piece> = std::iter::once(jump).chain((0..all.len()).map(Piece::Own)).collect();
            let code = join(s.base, &all, &s.code, &pieces);
            let result = check(s.base, &code).map(|_| ()).map_err(|v| (v.check, v.at));
            let expected = if into == 0 { Ok(()) } else { Err((Check::TargetInside, s.base)) };
            assert_eq!(result, expected, "{} entered at instruction {into}", s.title);
        }
    }
}

#[test]
fn boundaries_are_the_clean_starts_outside_patterns() {
    for s in snippets("pass").iter().filter(|s| s.file == "patterns") {
        let boundaries = check(s.base, &s.code).unwrap();
        let mut expected = vec![0];
        if !s.open {
            expected.push(s.code.len() - 5);
        }
        let found: Vec<usize> = (0..s.code.len()).filter(|&n| is_set(&boundaries, n)).collect();
        assert_eq!(found, expected, "{}", s.title);
    }
}

#[test]
fn code_outside_the_cache_is_refused() {
    let jump = [0xeb, 0xfe];
    for good in [elrange::CODE_BASE as u32, elrange::CODE_END as u32 - 2] {
        assert!(check(good, &jump).is_ok());
    }
    let bad = [
        0,
        elrange::IMAGE_BASE as u32,
        elrange::CODE_BASE as u32 - 1,
        elrange::CODE_BASE as u32 - 2,
        elrange::CODE_END as u32 - 1,
        elrange::CODE_END as u32,
        0x8000_0000,
        u32::MAX,
    ];
    for base in bad {
        assert_eq!(check(base, &jump).unwrap_err().check, Check::InCache, "{base:#x}");
    }
    assert_eq!(check(BASE, &[]).unwrap_err().check, Check::FallsOff);
}

#[test]
fn maps_are_clear_after_an_error() {
    let code = [0x90, 0x90, 0x0f, 0x05];
    let (mut boundaries, mut targets) = (vec![0xff; map_len(code.len())], vec![0xff; map_len(code.len())]);
    let mut maps = Maps { boundaries: &mut boundaries, targets: &mut targets };
    let v = verify(&STUBS, Unit { base: BASE, code: &code }, &Known, &mut maps).unwrap_err();
    assert_eq!((v.at, v.check, v.invariant()), (BASE + 2, Check::Rule, Invariant::V1));
    assert_eq!(boundaries, [0]);
}

/// Proven entries at BASE + 0, + 1, + 7, + 0x20 ..
struct Entries(&'static [u32]);

impl Proven for Entries {
    fn is_entry(&self, addr: u32) -> bool {
        self.0.contains(&addr)
    }
}

#[test]
fn patches_change_only_proven_branches() {
    let known = Entries(&[BASE, BASE + 1, BASE + 0xc, BASE + 0x10, PROVEN]);
    let patch = |site, before, target| check_patch(site, before, target, &known).map_err(|v| v.check);
    // jmp at BASE, jcc at BASE + 1, jmp at BASE + 0x10.
    assert_eq!(patch(BASE + 1, [0x00, 0xe9], PROVEN), Ok(()));
    assert_eq!(patch(BASE + 3, [0x0f, 0x84], PROVEN), Ok(()));
    assert_eq!(patch(BASE + 0x11, [0x00, 0xe9], BASE), Ok(()));
    let refused = [
        (BASE + 0xd, [0x00, 0xe9], PROVEN, Check::PatchLine),
        (BASE + 0xe, [0x0f, 0x80], PROVEN, Check::PatchLine),
        (BASE + 0xf, [0x00, 0xe9], PROVEN, Check::PatchLine),
        (BASE + 1, [0x00, 0xe8], PROVEN, Check::PatchSite),
        (BASE + 1, [0x00, 0xeb], PROVEN, Check::PatchSite),
        (BASE + 3, [0x00, 0x84], PROVEN, Check::PatchSite),
        (BASE + 3, [0x0f, 0x74], PROVEN, Check::PatchSite),
        (BASE + 3, [0x00, 0xe9], PROVEN, Check::PatchSite),
        (BASE + 4, [0x0f, 0x84], PROVEN, Check::PatchSite),
        (BASE + 0x20, [0x00, 0xe9], PROVEN, Check::PatchSite),
        (0, [0x00, 0xe9], PROVEN, Check::PatchSite),
        (BASE + 1, [0x00, 0xe9], PROVEN + 1, Check::PatchTarget),
        (BASE + 1, [0x00, 0xe9], BASE + 2, Check::PatchTarget),
        (BASE + 1, [0x00, 0xe9], 0, Check::PatchTarget),
        (BASE + 3, [0x0f, 0x85], STUBS.link, Check::PatchTarget),
        (BASE + 3, [0x0f, 0x85], u32::MAX, Check::PatchTarget),
    ];
    for (site, before, target, check) in refused {
        assert_eq!(patch(site, before, target), Err(check), "{site:#x} {before:x?} {target:#x}");
    }
}

#[test]
fn table_entries_reload_r11_first() {
    let prelude = [0x64, 0x4c, 0x8b, 0x1c, 0x25, 0x98, 0, 0, 0, 0x90];
    assert!(is_indirect_entry(&prelude));
    let entry = |at, code: &[u8]| check_table_entry(at, code, &Known).map_err(|v| v.check);
    assert_eq!(entry(PROVEN, &prelude), Ok(()));
    for at in [0, BASE, PROVEN - 9, PROVEN + 1, STUBS.syscall, u32::MAX] {
        assert_eq!(entry(at, &prelude), Err(Check::EntryUnproven), "{at:#x}");
    }
    let refused: [&[u8]; 6] = [
        &[],
        &prelude[..8],
        &[0x90],
        &[0x64, 0x4c, 0x8b, 0x14, 0x25, 0x90, 0, 0, 0],
        &[0x64, 0x44, 0x8b, 0x1c, 0x25, 0x98, 0, 0, 0],
        &[0x64, 0x4c, 0x8b, 0x1c, 0x25, 0x98, 0, 0, 1],
    ];
    for code in refused {
        assert_eq!(entry(PROVEN, code), Err(Check::EntryPrelude), "{code:02x?}");
    }
}
