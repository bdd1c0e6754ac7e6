//! Translated code does what the hardware does: sequences made by grammar and at random run natively and translated from
//! equal states in scratch processes; registers, flags, vectors, x87, memory, faults and their addresses agree.
//!
//! `OCCLUM_TEST_SEED`, `OCCLUM_TEST_SHARD` and `OCCLUM_TEST_ROUNDS` repeat a shard of a campaign (`tools/campaign.py`, `make replay`);
//! `OCCLUM_TEST_SECONDS` ends earlier; `OCCLUM_TEST_ONE` runs one sequence of the shard only. Each sequence depends on
//! seed, shard and its number alone, so a shard's digest can be reproduced.
//! Modules: `grammar` makes sequences, `machine` enters them, `side` compares, `flags` knows undefined flags, `mutants`
//! runs changed translations that the verifier accepts.

mod flags;
mod grammar;
mod machine;
mod mutants;
#[path = "../common/shared.rs"]
mod shared;
mod side;

use grammar::{FORMS, Grammar, POINTERS, SMALL, SMALL_VECTORS, number};
use machine::{CODE, DATA, DATA_LEN, FLAGS, Machine, STACK, STACK_LEN, State, WINDOWS};
use mutants::Ran;
use occlum_sfi_spec::Returns;
use occlum_sfi_translator::Config;
use shared::{Random, config, mix, mix_bytes, setting};
use side::{End, Known, Outcome, Sides};
use std::time::{Duration, Instant};

/// Sequences in one scratch process.
const BATCH: u64 = 5000;
const ROUNDS: u64 = 20_000;
/// A scratch process that is at one sequence for so many seconds by the clock hangs: each run has milliseconds of CPU time.
const HANGS: u32 = 60;
/// No use to look for more.
const MAX_PROBLEMS: u64 = 1000;
/// Room for templates in the counts.
const TEMPLATES: usize = 4096;
const TEXT: usize = 1 << 16;

/// What a scratch process tells: shared memory.
#[repr(C)]
struct Report {
    digest: u64,
    /// The sequence at work; sequences done.
    at: u64,
    done: u64,
    outcomes: [u64; Kind::ALL.len()],
    counts: [[u32; FORMS.len()]; TEMPLATES],
    problems: u64,
    text_len: usize,
    text: [u8; TEXT],
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Done,
    Emulated,
    Fault,
    Fetch,
    Loop,
    Wild,
    Own,
    Undefined,
    ReturnSlot,
    SegmentBase,
    Probe,
    Leave,
    String,
    Vendor,
    Refused,
}

impl Kind {
    const ALL: [Kind; 15] = [
        Kind::Done,
        Kind::Emulated,
        Kind::Fault,
        Kind::Fetch,
        Kind::Loop,
        Kind::Wild,
        Kind::Own,
        Kind::Undefined,
        Kind::ReturnSlot,
        Kind::SegmentBase,
        Kind::Probe,
        Kind::Leave,
        Kind::String,
        Kind::Vendor,
        Kind::Refused,
    ];

    fn of(outcome: Outcome) -> Kind {
        match outcome {
            Outcome::Wild => Kind::Wild,
            Outcome::Own => Kind::Own,
            Outcome::Undefined(_) => Kind::Undefined,
            Outcome::Known(Known::ReturnSlot, _) => Kind::ReturnSlot,
            Outcome::Known(Known::SegmentBase, _) => Kind::SegmentBase,
            Outcome::Known(Known::Probe, _) => Kind::Probe,
            Outcome::Known(Known::Leave, _) => Kind::Leave,
            Outcome::Known(Known::String, _) => Kind::String,
            Outcome::Known(Known::Vendor, _) => Kind::Vendor,
            Outcome::Same(End::Done) => Kind::Done,
            Outcome::Same(End::Emulate(_) | End::Syscall(_)) => Kind::Emulated,
            Outcome::Same(End::Fault(..)) => Kind::Fault,
            Outcome::Same(End::Fetch(_)) => Kind::Fetch,
            Outcome::Same(End::Refused(_)) => Kind::Refused,
            Outcome::Same(End::Loop) => Kind::Loop,
        }
    }
}

/// Where execution was last known to be: instructions before it were reached.
fn reached(outcome: Outcome) -> u32 {
    match outcome {
        // A fetch that fails is the work of a branch, and behind branches nothing is counted.
        Outcome::Same(End::Done | End::Fetch(_)) | Outcome::Undefined(End::Done) => u32::MAX,
        Outcome::Same(End::Fault(_, pc, _)) => pc,
        Outcome::Same(End::Emulate(pc) | End::Syscall(pc) | End::Refused(pc)) => pc,
        _ => 0,
    }
}

fn start_state(r: &mut Random) -> State {
    let mut s = State::new();
    for gpr in &mut s.gpr {
        *gpr = number(r);
    }
    for n in POINTERS {
        let align = r.pick(&[!0u64, !7, !15, !31]);
        s.gpr[n] = u64::from(DATA) + 0x800 + r.below(DATA_LEN as usize - 0x1000) as u64 & align;
    }
    for n in SMALL {
        s.gpr[n] = r.below(32) as u64;
    }
    let align = r.pick(&[!15u64, !15, !15, !7, !0]);
    s.gpr[4] = u64::from(STACK) + u64::from(STACK_LEN) / 2 + r.below(64) as u64 & align;
    s.flags = r.next() & (FLAGS & !0x400) | if r.one_in(8) { 0x400 } else { 0 } | 0x202;
    for v in &mut s.ymm {
        for word in v {
            *word = if r.one_in(3) { (r.next() as f32).to_bits().into() } else { number(r) };
        }
    }
    for n in SMALL_VECTORS {
        s.ymm[n] = std::array::from_fn(|_| r.below(64) as u64);
    }
    s.fx = x87_state(r);
    s.rip = u64::from(CODE);
    s
}

fn x87_state(r: &mut Random) -> [u8; 512] {
    let mut fx = [0; 512];
    let control: u16 = if r.one_in(8) { r.next() as u16 & 0xf3f | 0x40 } else { 0x37f };
    let status: u16 = (r.below(8) as u16) << 11 | r.next() as u16 & 0x4700;
    let mxcsr: u32 = if r.one_in(8) { r.next() as u32 & 0xffc0 } else { 0x1f80 };
    fx[0..2].copy_from_slice(&control.to_le_bytes());
    fx[2..4].copy_from_slice(&status.to_le_bytes());
    fx[4] = r.pick(&[0, 0xff, 0xff, r.0 as u8]);
    fx[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    for n in 0..8 {
        let at = 32 + 16 * n;
        fx[at..at + 8].copy_from_slice(&(number(r) | 1 << 63).to_le_bytes());
        let exponent = if r.one_in(8) { r.next() as u16 } else { 0x3ff0 + r.below(40) as u16 };
        fx[at + 8..at + 10].copy_from_slice(&exponent.to_le_bytes());
    }
    fx
}

struct Shard {
    seed: u64,
    number: u64,
    rounds: u64,
    what: What,
}

/// What a shard is about.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Sequences,
    /// Translated with a shadow stack.
    Shadow,
    /// Beginning with what comes seldom (`Grammar::seldom`).
    Seldom,
    /// Changed translations are run, and compared with nothing.
    Mutants,
}

impl What {
    fn config(self) -> Config {
        let returns = if self == What::Shadow { Returns::Shadow } else { Returns::Table };
        Config { returns, ..config() }
    }
    fn grammar(self) -> Grammar {
        if self == What::Seldom { Grammar::seldom() } else { Grammar::new() }
    }
}

impl Shard {
    /// The generator of one sequence, and of the memory of its batch.
    fn random(&self, n: u64) -> Random {
        let mut r = Random::of(self.seed, self.number);
        Random(r.next() ^ n.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    fn machine(&self, batch: u64) -> Machine {
        let mut r = self.random(!batch);
        let machine = Machine::new(WINDOWS.iter().map(|(_, len)| grammar::content(&mut r, *len)).collect());
        machine.restore();
        machine
    }

    /// Runs sequences `from..to` in this process and reports.
    fn work(&self, grammar: &Grammar, from: u64, to: u64, end: Instant, report: &mut Report) {
        let mut sides = Sides::new(self.machine(from / BATCH), self.what.config());
        let one = setting("OCCLUM_TEST_ONE");
        for n in (from..to).filter(|n| one.is_none_or(|o| o == *n)) {
            if Instant::now() >= end {
                return;
            }
            report.at = n;
            let mut r = self.random(n);
            let sequence = grammar.sequence(&mut r, self.number.wrapping_mul(self.rounds).wrapping_add(n));
            let start = start_state(&mut r);
            sides.machine.write_code(&sequence.bytes);
            if self.what == What::Mutants {
                if n == from {
                    unnoticed(&mut sides, &start, report);
                    sides.machine.write_code(&sequence.bytes);
                }
                mutate(&mut sides, &mut r, &start, n, report);
                continue;
            }
            match sides.compare_patiently(&start) {
                Ok(outcome) => note(report, &sequence, outcome),
                Err(what) => problem(report, n, &sequence.bytes, &what),
            }
            report.done += 1;
        }
    }
}

/// Runs changed translations of a sequence; `done` counts those that ran.
fn mutate(sides: &mut Sides, r: &mut Random, start: &State, n: u64, report: &mut Report) {
    for _ in 0..mutants::TRIES {
        let kind = match mutants::run(sides, r, start) {
            Ok(Ran::Refused) => continue,
            Ok(Ran::Left) => Kind::Done,
            Ok(Ran::Signal) => Kind::Fault,
            Ok(Ran::Loop) => Kind::Loop,
            Err(what) => {
                problem(report, n, sides.machine.code(), &what);
                continue;
            }
        };
        report.outcomes[kind as usize] += 1;
        report.done += 1;
        // Which ran, not how they ended: what loops for long may end in a fault in time, or not.
        mix(&mut report.digest, n);
    }
}

/// Problems of the harness: code that harms, and was not noticed.
fn unnoticed(sides: &mut Sides, start: &State, report: &mut Report) {
    sides.machine.write_code(&[0xcc]);
    for (n, (what, code)) in mutants::controls().iter().enumerate() {
        if mutants::execute(sides, start, machine::CACHE, code).is_ok() {
            problem(report, n as u64, code, &format!("not noticed: {what}"));
        }
    }
}

fn note(report: &mut Report, sequence: &grammar::Sequence, outcome: Outcome) {
    let kind = Kind::of(outcome);
    report.outcomes[kind as usize] += 1;
    for &(template, form, at) in &sequence.counted {
        if at <= reached(outcome) {
            report.counts[template][form as usize] += 1;
        }
    }
    mix_bytes(&mut report.digest, &sequence.bytes);
    // Whether a long loop ends in time is no property of the sequence.
    mix(&mut report.digest, if kind == Kind::Loop { Kind::Done } else { kind } as u64);
    if let Outcome::Same(End::Fault(signal, pc, at)) = outcome {
        mix(&mut report.digest, signal as u64 | u64::from(pc) << 32);
        mix(&mut report.digest, at.map_or(0, |(code, off)| u64::from(off) | (code as u64) << 32));
    }
}

fn problem(report: &mut Report, n: u64, bytes: &[u8], what: &str) {
    use std::io::Write;
    report.problems += 1;
    let mut text = format!("sequence {n}: {what}\n{bytes:02x?}\n");
    for i in iced_x86::Decoder::with_ip(64, bytes, u64::from(CODE), 0).iter() {
        text += &format!("  {:x} {i}\n", i.ip());
    }
    let len = report.text_len;
    let mut room = &mut report.text[len..];
    let before = room.len();
    let _ = room.write(text.as_bytes());
    report.text_len += before - room.len();
}

#[allow(unsafe_code, reason = "shared memory and scratch processes")]
mod process {
    use super::{BATCH, Grammar, HANGS, Report, Shard};
    use std::io::Write;
    use std::time::Instant;

    /// Zeroed memory that forked processes share.
    pub fn report() -> &'static mut Report {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: 1. A fresh mapping; zeros are a valid report. 2. It is never unmapped.
        unsafe {
            let at = libc::mmap(std::ptr::null_mut(), size_of::<Report>(), rw, flags, -1, 0);
            assert!(at != libc::MAP_FAILED);
            &mut *at.cast()
        }
    }

    /// Runs one batch in a scratch process; the wait status.
    pub fn batch(shard: &Shard, grammar: &Grammar, from: u64, end: Instant, report: &mut Report) -> i32 {
        let to = shard.rounds.min((from / BATCH + 1) * BATCH);
        // SAFETY: 1. The child only computes, on memory of its own and the report, and leaves by `_exit`.
        unsafe {
            let pid = libc::fork();
            assert!(pid >= 0);
            if pid == 0 {
                let work = std::panic::AssertUnwindSafe(|| shard.work(grammar, from, to, end, report));
                libc::_exit(if std::panic::catch_unwind(work).is_ok() { 0 } else { 101 });
            }
            watch(pid, report);
            let mut status = 0;
            assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
            status
        }
    }

    /// Waits until the scratch process has ended, or kills it where it hangs and tells of what.
    fn watch(pid: i32, report: *const Report) {
        // SAFETY: 1. `report` is mapped for ever; the child writes to it meanwhile, hence volatile.
        // 2. The child is not waited for elsewhere, so that `pid` is its own.
        unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
            assert!(fd >= 0);
            let progress =
                || ((&raw const (*report).at).read_volatile(), (&raw const (*report).done).read_volatile());
            let (mut last, mut still) = (progress(), 0);
            let mut ended = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            while libc::poll(&mut ended, 1, 1000) != 1 {
                still = if progress() == last { still + 1 } else { 0 };
                last = progress();
                if still == HANGS {
                    let of =
                        |name| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
                    // Not by `println`: to be seen also where the test passes.
                    let text = format!(
                        "hangs at sequence {}: {}{}\n{}\n",
                        last.0,
                        of("stat"),
                        of("wchan"),
                        of("syscall")
                    );
                    let _ = std::io::stderr().write_all(text.as_bytes());
                    libc::kill(pid, libc::SIGKILL);
                }
            }
            libc::close(fd);
        }
    }
}

/// Runs a shard; prints what a record needs.
fn run(shard: &Shard, seconds: u64) -> u64 {
    let grammar = shard.what.grammar();
    assert!(grammar.templates().len() <= TEMPLATES);
    let report = process::report();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (begin, mut from, mut lost, mut hung) = (Instant::now(), 0, 0, None);
    while from < shard.rounds && report.problems < MAX_PROBLEMS && Instant::now() < end {
        let status = process::batch(shard, &grammar, from, end, report);
        if status == 0 {
            from = shard.rounds.min((from / BATCH + 1) * BATCH);
        } else if status == libc::SIGKILL && hung != Some(report.at) {
            // Once more in another process: a sequence that hangs does so again, a machine that stopped does not.
            hung = Some(report.at);
            from = report.at;
        } else {
            println!("the scratch process died at sequence {}: status {status:#x}", report.at);
            lost += 1;
            from = report.at + 1;
        }
    }
    print_report(&grammar, shard, report, begin.elapsed());
    print!("{}", String::from_utf8_lossy(&report.text[..report.text_len]));
    report.problems + lost
}

fn print_report(grammar: &Grammar, shard: &Shard, report: &Report, time: Duration) {
    for (n, t) in grammar.templates().iter().enumerate().filter(|_| shard.what != What::Mutants) {
        let forms: Vec<String> =
            grammar.wanted(n).map(|f| format!("{f:?}={}", report.counts[n][f as usize])).collect();
        if !forms.is_empty() {
            println!("row {:?} {}", t.code, forms.join(" "));
        }
    }
    for kind in Kind::ALL {
        println!("count {kind:?} {}", report.outcomes[kind as usize]);
    }
    let rate = report.done as f64 / time.as_secs_f64();
    println!(
        "shard {} seed {} done {} problems {} digest {:016x} ({rate:.0}/s)",
        shard.number, shard.seed, report.done, report.problems, report.digest
    );
}

/// The shard that the environment asks for, and the problems that it has.
fn problems(what: What) -> u64 {
    let seconds = setting("OCCLUM_TEST_SECONDS");
    let rounds = if seconds.is_some() { u64::MAX / 2 } else { ROUNDS };
    let shard = Shard {
        seed: setting("OCCLUM_TEST_SEED").unwrap_or(1),
        number: setting("OCCLUM_TEST_SHARD").unwrap_or(0),
        rounds: setting("OCCLUM_TEST_ROUNDS").unwrap_or(rounds),
        what,
    };
    println!("OCCLUM_TEST_SEED={} OCCLUM_TEST_SHARD={}", shard.seed, shard.number);
    run(&shard, seconds.unwrap_or(1 << 20))
}

#[test]
fn sequences_run_like_native() {
    assert_eq!(problems(What::Sequences), 0, "sequences behave differently, or end the scratch process");
}

#[test]
fn sequences_with_a_shadow_stack_run_like_native() {
    assert_eq!(problems(What::Shadow), 0, "sequences behave differently, or end the scratch process");
}

#[test]
fn seldom_operands_run_like_native() {
    assert_eq!(problems(What::Seldom), 0, "sequences behave differently, or end the scratch process");
}

#[test]
fn accepted_mutants_harm_nothing_but_their_slot() {
    assert_eq!(problems(What::Mutants), 0, "mutants do harm, or end the scratch process");
}
