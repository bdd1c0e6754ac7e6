//! What callers of `translate` rely on: entries, exits, links, limits, errors.

mod common;

use common::{BASE, Nothing, STUBS, config, emulated};
use occlum_sfi_translator::{Config, EntryKind, Env, Error, Fragment, Source, translate, undo};

const START: u32 = 0x40_1000;

struct Known(&'static [(u32, u32)]);

impl Env for Known {
    fn lookup(&self, off: u32) -> Option<u32> {
        self.0.iter().find(|k| k.0 == off).map(|k| k.1)
    }
}

fn make(bytes: &[u8], env: &dyn Env) -> Fragment {
    translate(&config(), Source { start: START, bytes }, BASE, 10, env).unwrap()
}

/// Absolute target of the rel32 at `patch_at`.
fn target(f: &Fragment, patch_at: u32) -> u32 {
    let at = (patch_at - f.base) as usize;
    let rel = i32::from_le_bytes(f.code[at..at + 4].try_into().unwrap());
    (patch_at + 4).wrapping_add_signed(rel)
}

#[test]
fn a_cut_first_instruction_is_an_error() {
    for bytes in [&[][..], &[0x48], &[0xe8, 1, 2]] {
        let source = Source { start: START, bytes };
        assert_eq!(translate(&config(), source, BASE, 0, &Nothing).unwrap_err(), Error::Truncated);
    }
}

#[test]
fn bad_addresses_are_refused() {
    let source = |start| Source { start, bytes: &[0x90; 4] };
    assert_eq!(translate(&config(), source(START), BASE + 1, 0, &Nothing).unwrap_err(), Error::BadAddress);
    assert_eq!(translate(&config(), source(0x8000_0000), BASE, 0, &Nothing).unwrap_err(), Error::BadAddress);
}

#[test]
fn a_cut_later_instruction_becomes_an_exit() {
    let f = make(&[0x50, 0x48], &Nothing); // push %rax, then a lone REX
    assert_eq!(f.source_len, 1);
    assert_eq!(f.exits.len(), 1);
    assert_eq!((f.exits[0].index, f.exits[0].target), (10, START + 1));
}

#[test]
fn the_limit_ends_a_fragment_with_an_exit() {
    let cfg = Config { max_instructions: 3, ..config() };
    let source = Source { start: START, bytes: &[0x50; 100] };
    let f = translate(&cfg, source, BASE, 0, &Nothing).unwrap();
    assert_eq!(f.source_len, 3);
    assert_eq!(f.exits[0].target, START + 3);
}

#[test]
fn entries_name_start_return_sites_and_leaders() {
    // 1: call +0x100 ; dec %ecx ; jne 1 ; ret
    let f = make(&[0xe8, 0, 1, 0, 0, 0xff, 0xc9, 0x75, 0xf7, 0xc3], &Nothing);
    let kinds: Vec<_> = f.entries.iter().map(|e| (e.off - START, e.kind)).collect();
    assert_eq!(kinds, [(0, EntryKind::Start), (5, EntryKind::ReturnSite)]);
    assert_eq!(f.entries[0].at, BASE);
    assert_eq!(f.exits.len(), 1);
    assert_eq!(f.exits[0].target, START + 0x105);
    // 1: nop ; 2: dec %ecx ; jne 2 ; ret
    let f = make(&[0x50, 0xff, 0xc9, 0x75, 0xfc, 0xc3], &Nothing);
    assert_eq!((f.entries[1].off, f.entries[1].kind), (START + 1, EntryKind::Internal));
    assert_eq!(f.entries[1].at, BASE + 1);
}

#[test]
fn code_that_uses_r11_fetches_it_at_entries_and_brings_it_home_at_exits() {
    // 1: dec %r11d ; jne 1 ; ret
    let f = make(&[0x41, 0xff, 0xcb, 0x75, 0xfb, 0xc3], &Nothing);
    let reload = [0x64, 0x4c, 0x8b, 0x1c, 0x25, 0x98, 0, 0, 0];
    let spill = [0x64, 0x4c, 0x89, 0x1c, 0x25, 0x98, 0, 0, 0];
    assert_eq!(f.entries[0].at, BASE);
    assert!(f.code.starts_with(&reload));
    assert_eq!(&f.code[14..23], spill);
    // A leader that needs r11 in the register is entered through code that fetches it.
    let f = make(&[0x50, 0x41, 0xff, 0xcb, 0x75, 0xfb, 0xc3], &Nothing);
    let way = (f.entries[1].at - BASE) as usize;
    assert_eq!((f.entries[1].off, &f.code[way..way + 9]), (START + 1, &reload[..]));
    assert_eq!(target(&f, f.entries[1].at + 10), BASE + 10);
    // Only part of an address: nothing to bring home before a branch.
    let f = make(&[0x41, 0x8b, 0x03, 0xeb, 0x7f], &Nothing);
    assert!(!f.code.windows(9).any(|w| w == spill));
}

#[test]
fn exits_lead_to_their_stub_and_report_their_target() {
    let f = make(&[0x74, 0x7f, 0xc3], &Nothing); // je +0x7f ; ret
    let exit = f.exits[0];
    let stub = target(&f, exit.patch_at);
    assert_eq!(undo(&f.rows, &f.code, f.base, stub).unwrap().pc, exit.target);
    let at = (stub - f.base) as usize;
    assert_eq!(f.code[at + 8..at + 12], 10u32.to_le_bytes());
    assert_eq!(target(&f, stub + 13), STUBS.link);
}

#[test]
fn known_targets_are_linked_at_once() {
    let f = make(&[0x74, 0x7f, 0xc3], &Known(&[(START + 0x81, 0x4100_0000)]));
    assert!(f.exits.is_empty());
    assert_eq!(target(&f, BASE + 2), 0x4100_0000);
}

#[test]
fn a_fragment_stops_where_code_is_known() {
    let f = make(&[0x50, 0x51, 0x52, 0xc3], &Known(&[(START + 2, 0x4100_0000)]));
    assert_eq!(f.source_len, 2);
    assert!(f.exits.is_empty());
}

#[test]
fn a_known_start_gives_a_thunk() {
    let f = make(&[0x50, 0xc3], &Known(&[(START, 0x4100_0000)]));
    assert_eq!(f.entries.len(), 1);
    assert_eq!(target(&f, BASE + 1), 0x4100_0000);
    let u = undo(&f.rows, &f.code, f.base, f.base).unwrap();
    assert!(u.restore[11] && u.pc == START);
}

#[test]
fn undo_refuses_what_is_outside() {
    let f = make(&[0xc3], &Nothing);
    assert!(undo(&f.rows, &f.code, f.base, f.base - 1).is_none());
    assert!(undo(&f.rows, &f.code, f.base, f.base + f.code.len() as u32).is_none());
    assert!(undo(&[], &f.code, f.base, f.base).is_none());
    // in the middle of the first instruction
    assert!(undo(&f.rows, &f.code, f.base, f.base + 1).is_none());
}

#[test]
fn undo_of_ret_gives_rsp_and_r11_back() {
    let f = make(&[0xc3], &Nothing);
    let last = f.base + f.code.len() as u32 - 3; // jmp *%r11
    let u = undo(&f.rows, &f.code, f.base, last).unwrap();
    assert_eq!((u.pc, u.rsp_delta, u.restore[11]), (START, -8, true));
    assert!(u.truncate[4]);
}

#[test]
fn undo_of_syscall_leaves_no_translated_address() {
    let f = make(&[0x0f, 0x05, 0xc3], &Nothing);
    let seen: Vec<_> = (0..18).filter_map(|k| undo(&f.rows, &f.code, f.base, f.base + k)).collect();
    // Before the lea, behind it, behind the mov; then behind the pattern.
    let rcx: Vec<_> = seen.iter().map(|u| (u.pc, u.rcx)).collect();
    assert_eq!(rcx[..3], [(START, None), (START, Some(START + 2)), (START, Some(START + 2))]);
}

/// Displacement of the last lookup of a fragment: 0 return sites, 4 call targets.
fn last_lookup(f: &Fragment) -> u8 {
    let at = f.code.windows(5).rposition(|w| w == [0x65, 0x46, 0x8b, 0x1c, 0x9d]).expect("a lookup");
    f.code[at + 5]
}

#[test]
fn a_ret_to_what_its_own_code_stored_or_on_a_stack_it_switched_to_is_a_jump() {
    const JUMPS: &[(&str, &[u8])] = &[
        ("push %rcx; ret", &[0x51, 0xc3]),
        ("push mem; ret", &[0xff, 0x31, 0xc3]),
        ("push imm; ret", &[0x68, 0, 0x10, 0x40, 0, 0xc3]),
        ("push %rcx; push %rdx; pop %rbx; ret", &[0x51, 0x52, 0x5b, 0xc3]),
        ("mov %rax,(%rsp); ret", &[0x48, 0x89, 0x04, 0x24, 0xc3]),
        ("mov %rax,8(%rsp); pop %rdx; ret", &[0x48, 0x89, 0x44, 0x24, 8, 0x5a, 0xc3]),
        ("pop 0x20(%rsp); add $0x20,%rsp; ret", &[0x8f, 0x44, 0x24, 0x20, 0x48, 0x83, 0xc4, 0x20, 0xc3]),
        ("mov %rcx,%rsp; ret", &[0x48, 0x89, 0xcc, 0xc3]),
        ("mov 8(%rdi),%rsp; pop %rbx; pop %rbp; ret", &[0x48, 0x8b, 0x67, 8, 0x5b, 0x5d, 0xc3]),
        ("mov %rsi,%rsp; mov %rdi,%rax; jne; ret", &[0x48, 0x89, 0xf4, 0x48, 0x89, 0xf8, 0x75, 0x70, 0xc3]),
        ("xchg %rax,%rsp; ret", &[0x48, 0x94, 0xc3]),
        ("pop %rsp; ret", &[0x5c, 0xc3]),
        ("pop %rcx; mov %rax,%rcx; push %rcx; ret", &[0x59, 0x48, 0x89, 0xc1, 0x51, 0xc3]),
    ];
    const RETURNS: &[(&str, &[u8])] = &[
        ("ret", &[0xc3]),
        ("mov %rcx,(%rsp); pop %rbx; ret", &[0x48, 0x89, 0x0c, 0x24, 0x5b, 0xc3]),
        ("push %rbx; pop %rbx; ret", &[0x53, 0x5b, 0xc3]),
        ("push %rbx; call; pop %rbx; ret", &[0x53, 0xe8, 0, 1, 0, 0, 0x5b, 0xc3]),
        ("leave; ret", &[0xc9, 0xc3]),
        ("mov %rbp,%rsp; pop %rbp; ret", &[0x48, 0x89, 0xec, 0x5d, 0xc3]),
        ("lea -8(%rbp),%rsp; pop %rbx; pop %rbp; ret", &[0x48, 0x8d, 0x65, 0xf8, 0x5b, 0x5d, 0xc3]),
        ("lea -8(%r10),%rsp; ret", &[0x49, 0x8d, 0x62, 0xf8, 0xc3]),
        ("add $0x18,%rsp; ret", &[0x48, 0x83, 0xc4, 0x18, 0xc3]),
        ("pop %rdi; syscall; push %rdi; ret", &[0x5f, 0x0f, 0x05, 0x57, 0xc3]),
        (
            "pop %r10; lea (%rsp,%r9,8),%rsp; push %r10; ret",
            &[0x41, 0x5a, 0x4a, 0x8d, 0x24, 0xcc, 0x41, 0x52, 0xc3],
        ),
        ("mov %rcx,%rsp; call; ret", &[0x48, 0x89, 0xcc, 0xe8, 0, 1, 0, 0, 0xc3]),
        ("mov %rax,(%rsp); ret 8", &[0x48, 0x89, 0x04, 0x24, 0xc2, 8, 0]),
    ];
    for (word, rows) in [(4, JUMPS), (0, RETURNS)] {
        for (text, bytes) in rows {
            assert_eq!(last_lookup(&make(bytes, &Nothing)), word, "{text}");
        }
    }
}

#[test]
fn a_fragment_names_where_its_calls_return_and_which_addresses_it_makes() {
    // call +0x100 ; call *%rax ; lea 0x10(%rip),%rax ; mov $0x403000,%ecx ; push $0x404000 ; mov $7,%edx ; ret
    let bytes = [
        0xe8, 0, 1, 0, 0, 0xff, 0xd0, 0x48, 0x8d, 0x05, 0x10, 0, 0, 0, 0xb9, 0, 0x30, 0x40, 0, 0x68, 0, 0x40,
        0x40, 0, 0xba, 7, 0, 0, 0, 0xc3,
    ];
    let f = make(&bytes, &Nothing);
    assert_eq!(f.returns, [START + 5, START + 7]);
    assert_eq!(f.taken, [START + 14 + 0x10, 0x40_3000, 0x40_4000]);
    // Also of a call that is the last instruction, which has no entry behind it.
    assert_eq!(make(&[0xff, 0xd0], &Nothing).returns, [START + 2]);
}

#[test]
fn a_pause_that_cpus_take_for_an_exchange_is_emulated() {
    // With 66, dropping it would exchange 32 bits instead of 16.
    for bytes in [&[0xf3, 0x41, 0x90, 0x50][..], &[0x66, 0xf3, 0x41, 0x90, 0x50], &[0xf3, 0x49, 0x90, 0x50]] {
        let f = make(bytes, &Nothing);
        assert_eq!(emulated(&f, START, bytes).len(), 1, "{bytes:02x?}");
    }
    assert!(emulated(&make(&[0xf3, 0x90, 0x50], &Nothing), START, &[0xf3, 0x90, 0x50]).is_empty());
}
