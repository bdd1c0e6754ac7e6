//! What must be accepted and what must not: the snippets of `pass/` and `fail/` (V1 to V12, V15), and in code what is no matter
//! of a unit's bytes (the code cache's limits, patches and table entries: V3, V13, V14).

mod common;

use common::{BASE, Known, PROVEN, STUBS, check, snippets};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use occlum_sfi_spec::{Returns, elrange};
use occlum_sfi_verifier::{
    Check, Invariant, Maps, Proven, Unit, check_patch, check_table_entry, is_set, map_len, verify,
};
use std::collections::BTreeMap;

#[test]
fn every_pass_snippet_is_accepted() {
    for s in snippets("pass") {
        let result = s.check(&s.code);
        assert!(result.is_ok(), "{}: {}: {result:x?}", s.file, s.title);
        assert!(is_set(&result.unwrap().entries, 0));
    }
}

#[test]
fn every_fail_snippet_is_refused_for_its_reason() {
    let mut wrong = Vec::new();
    for s in snippets("fail") {
        match s.check(&s.code) {
            Err(v) if format!("{:?}", v.check) == s.word() => {}
            other => wrong.push(format!("{}: {}: {:x?}", s.file, s.title, other.map(|_| "accepted"))),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Checks whose refusals are shown by the tests below instead.
const IN_CODE: &[Check] =
    &[Check::InCache, Check::PatchLine, Check::PatchSite, Check::PatchTarget, Check::EntryUnproven];

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
    assert_eq!(count.len(), 13, "a file for each of V1 to V12, and V15");
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

/// `mov %fs:SPILL(r11),%r11`
const FETCH: [u8; 9] = [0x64, 0x4c, 0x8b, 0x1c, 0x25, 0x98, 0, 0, 0];

/// Steps that may be left out of their pattern: what remains is whole, or harmless instructions.
const OPTIONAL: &[(&str, usize)] = &[
    ("scas with a 32-bit count", 2),
    ("cmps with a 32-bit count", 2),
    ("segment operand with base and index", 2),
    ("segment load", 0),
    ("call of a stack operand", 3),
    ("call of a segment operand, with a prefetch", 1),
    ("call of a segment operand, with a prefetch", 2),
    ("call of a segment operand, with a prefetch", 5),
    ("call of a segment operand, with a prefetch", 6),
    ("ret n", 2),
    ("ret as a jump", 5),
    ("leave at home", 3),
    ("stos with a 32-bit count at home", 1),
    ("segment operand with base and index at home", 1),
    ("segment load at home", 0),
    ("call of a slot operand at home", 2),
    ("call of a slot operand at home", 3),
    ("jmp of a segment operand at home", 1),
    ("ret n at home", 1),
    ("shadowed call of a segment operand, with a prefetch", 1),
    ("shadowed call of a segment operand, with a prefetch", 2),
    ("shadowed call of a segment operand, with a prefetch", 8),
    ("shadowed call of a slot operand at home", 5),
    ("ret as a jump at home", 4),
];

/// Steps behind which the pattern is over, so that what follows is not part of it.
const LOOSE: &[(&str, usize)] = &[("leave at home", 3)];

/// A snippet that is one pattern.
struct Pattern {
    s: common::Snippet,
    all: Vec<(usize, Instruction)>,
    /// Its steps are the instructions `first..last`.
    first: usize,
    last: usize,
}

fn patterns() -> Vec<Pattern> {
    let files = ["patterns", "home", "shadow"];
    let chosen = snippets("pass").into_iter().filter(|s| files.contains(&s.file.as_str()));
    let all = chosen.map(|s| {
        let i = instructions(s.base, &s.code);
        let (first, last) = (usize::from(s.code.starts_with(&FETCH)), i.len() - usize::from(!s.open));
        Pattern { s, all: i, first, last }
    });
    all.collect()
}

#[test]
fn patterns_without_one_instruction_are_refused() {
    let mut tried = 0;
    for Pattern { s, all, first, last } in patterns() {
        for left in first..last {
            let pieces: Vec<Piece> = (0..all.len()).filter(|&k| k != left).map(Piece::Own).collect();
            let code = join(s.base, &all, &s.code, &pieces);
            let accepted = s.check(&code).is_ok();
            let optional = OPTIONAL.contains(&(&s.title, left - first));
            assert_eq!(accepted, optional, "{} without step {}", s.title, left - first);
            tried += 1;
        }
    }
    assert!(tried > 200);
}

#[test]
fn patterns_with_one_instruction_more_are_refused() {
    for Pattern { s, all, first, last } in patterns() {
        for at in first + 1..last {
            let mut pieces: Vec<Piece> = (0..all.len()).map(Piece::Own).collect();
            pieces.insert(at, Piece::Bytes(vec![0x90]));
            let code = join(s.base, &all, &s.code, &pieces);
            let accepted = s.check(&code).is_ok();
            let loose = LOOSE.contains(&(&s.title, at - first));
            assert_eq!(accepted, loose, "{} with a nop before step {}", s.title, at - first);
        }
    }
}

#[test]
fn patterns_are_entered_at_their_start_only() {
    for Pattern { s, all, first, last } in patterns() {
        for into in first..last {
            let (from, to) = (all[first].0, all[into].0);
            let mut pieces: Vec<Piece> = (0..all.len()).map(Piece::Own).collect();
            pieces.insert(first, Piece::Bytes(vec![0x74, (to - from) as u8]));
            let code = join(s.base, &all, &s.code, &pieces);
            let result = s.check(&code).map(|_| ()).map_err(|v| (v.check, v.at));
            let loose = into == first || LOOSE.contains(&(&s.title, into - first));
            let expected = if loose { Ok(()) } else { Err((Check::TargetInside, s.base + from as u32)) };
            assert_eq!(result, expected, "{} entered at step {}", s.title, into - first);
        }
    }
}

#[test]
fn boundaries_are_the_clean_starts_outside_patterns() {
    for Pattern { s, all, first, last } in patterns() {
        let accepted = s.check(&s.code).unwrap();
        let own = (0..all.len()).filter(|k| {
            let loose = *k > first && *k < last && LOOSE.contains(&(&s.title, k - first));
            *k <= first || *k >= last || loose
        });
        let expected: Vec<usize> = own.map(|k| all[k].0).collect();
        let set = |map: &[u8]| -> Vec<usize> { (0..s.code.len()).filter(|&n| is_set(map, n)).collect() };
        assert_eq!(set(&accepted.boundaries), expected, "{}", s.title);
        let exit = |at: &usize| s.code[*at..].starts_with(&[0x64, 0xc7]);
        let in_register = |at: &usize| *at == 0 || exit(at);
        let entries = if first == 1 { expected.into_iter().filter(in_register).collect() } else { expected };
        assert_eq!(set(&accepted.entries), entries, "{}", s.title);
    }
}

/// An exit reads no register: it is an entry in a unit that has r11 in its register, too, so that links can be taken back.
#[test]
fn exits_are_entries_of_every_unit() {
    const FETCH: [u8; 9] = [0x64, 0x4c, 0x8b, 0x1c, 0x25, 0x98, 0, 0, 0];
    let mut code = FETCH.to_vec();
    code.extend([0x49, 0xff, 0xc3, 0x90]); // inc %r11 ; nop
    let exit = code.len();
    code.extend([0x64, 0xc7, 0x04, 0x25, 0xc8, 0, 0, 0, 1, 0, 0, 0, 0xe9]);
    let rel = STUBS.link.wrapping_sub(BASE + code.len() as u32 + 4);
    code.extend(rel.to_le_bytes());
    let accepted = check(BASE, &code).unwrap();
    let set = |map: &[u8]| -> Vec<usize> { (0..code.len()).filter(|&n| is_set(map, n)).collect() };
    assert_eq!(set(&accepted.entries), [0, exit]);
    assert_eq!(set(&accepted.boundaries), [0, 9, 12, exit]);
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
    let (mut boundaries, mut entries, mut targets) = ([0xff; 1], [0xff; 1], [0xff; 1]);
    assert_eq!(map_len(code.len()), 1);
    let mut maps = Maps { boundaries: &mut boundaries, entries: &mut entries, targets: &mut targets };
    let v = verify(&STUBS, Returns::Table, Unit { base: BASE, code: &code }, &Known, &mut maps).unwrap_err();
    assert_eq!((v.at, v.check, v.invariant()), (BASE + 2, Check::Rule, Invariant::V1));
    assert_eq!((boundaries, entries), ([0], [0]));
}

/// Proven entries at BASE + 0, + 1, + 7, + 0x20 ..
struct Entries(&'static [u32]);

impl Proven for Entries {
    fn is_entry(&self, addr: u32) -> bool {
        self.0.contains(&addr)
    }

    /// BASE + 0x30 is a boundary, but no entry.
    fn is_boundary(&self, addr: u32) -> bool {
        self.is_entry(addr) || addr == BASE + 0x30
    }
}

#[test]
fn patches_change_only_proven_branches() {
    let known = Entries(&[BASE, BASE + 1, BASE + 0xb, BASE + 0xc, BASE + 0x10, PROVEN]);
    let patch = |site, before, target| check_patch(site, before, target, &known).map_err(|v| v.check);
    // jmp at BASE, jcc at BASE + 1, jmp at BASE + 0x10.
    assert_eq!(patch(BASE + 1, [0x00, 0xe9], PROVEN), Ok(()));
    assert_eq!(patch(BASE + 3, [0x0f, 0x84], PROVEN), Ok(()));
    assert_eq!(patch(BASE + 0xc, [0x00, 0xe9], PROVEN), Ok(()), "the last four bytes of a line");
    assert_eq!(patch(BASE + 0x11, [0x00, 0xe9], BASE), Ok(()));
    assert_eq!(
        patch(BASE + 0x31, [0x00, 0xe9], BASE),
        Ok(()),
        "a branch of a unit that has r11 in its register"
    );
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
        (BASE + 1, [0x00, 0xe9], BASE + 0x30, Check::PatchTarget),
        (BASE + 3, [0x0f, 0x85], STUBS.link, Check::PatchTarget),
        (BASE + 3, [0x0f, 0x85], u32::MAX, Check::PatchTarget),
    ];
    for (site, before, target, check) in refused {
        assert_eq!(patch(site, before, target), Err(check), "{site:#x} {before:x?} {target:#x}");
    }
}

#[test]
fn table_entries_are_proven_entries() {
    let known = Entries(&[BASE, PROVEN]);
    let entry = |at| check_table_entry(at, &known).map_err(|v| v.check);
    assert_eq!((entry(BASE), entry(PROVEN)), (Ok(()), Ok(())));
    for at in [0, BASE + 1, BASE + 0x30, PROVEN - 9, PROVEN + 1, STUBS.syscall, STUBS.miss_call, u32::MAX] {
        assert_eq!(entry(at), Err(Check::EntryUnproven), "{at:#x}");
    }
}
