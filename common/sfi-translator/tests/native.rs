//! Executes translated code and compares it with native execution: registers, flags, vector registers, memory. Then the
//! same with an interruption at every instruction boundary, undone and restarted.

mod common;

use common::configs;
use common::machine::{End, Machine, SLOT, STATUS, State, TF};
use occlum_sfi_spec::{Returns, reason, shadow};
use occlum_sfi_translator::{Config, ShadowWord, undo};
use std::collections::BTreeMap;

const CODE: u32 = 0x0001_0000 * 16;
const DATA: u32 = 0x0200_0000;
const STACK: u32 = 0x0300_0000;
const TLS: u32 = 0x0210_0000;
const GUEST_GS: u32 = 0x0211_0000;
/// Windows of guest memory that are filled before and compared after a run.
const WINDOWS: [(u32, usize); 4] =
    [(DATA, 0x1000), (STACK - 0x14000, 0x15000), (TLS - 64, 512), (GUEST_GS, 512)];

/// Sections of the assembled `tests/snippets.s`, by name; none if there is no assembler.
fn snippets() -> BTreeMap<String, Vec<u8>> {
    let object = std::env::temp_dir().join(format!("snippets-{}.o", std::process::id()));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snippets.s");
    let made = std::process::Command::new("as").arg("-o").arg(&object).arg(source).status();
    if !made.is_ok_and(|s| s.success()) {
        return BTreeMap::new();
    }
    let file = std::fs::read(&object).unwrap();
    let _ = std::fs::remove_file(&object);
    common::named_sections(&file, ".t.")
}

fn fill(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed | 1;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 32) as u8
        })
        .collect()
}

fn prepare(m: &mut Machine, bytes: &[u8]) {
    for (k, (at, len)) in WINDOWS.iter().enumerate() {
        m.write(*at, &fill(k as u64 + 77, *len));
    }
    m.write(TLS, &u64::from(TLS).to_le_bytes());
    m.write(CODE, bytes);
    m.set_tls(TLS, GUEST_GS);
}

fn start_state() -> State {
    let mut s = State::new(CODE);
    for n in 0..16 {
        s.gpr[n] = 0x0102_0304_0506_0708u64.wrapping_mul(n as u64 + 3);
        s.xmm[n] = [n as u64 * 0x1111, !(n as u64)];
    }
    s.gpr[3] = u64::from(DATA) + 0x400;
    s.gpr[4] = u64::from(STACK) - 0x1000;
    s.gpr[5] = u64::from(STACK) - 0x800;
    s.gpr[6] = u64::from(DATA) + 0x100;
    s.gpr[7] = u64::from(DATA) + 0x800;
    s.gpr[8] = 2;
    s.gpr[12] = u64::from(CODE);
    s.flags = 1;
    s
}

/// A run under a small LibOS: links exits and answers misses until int3, a fault or the step limit.
struct Run<'a> {
    m: &'a mut Machine,
    cfg: Config,
    bytes: &'a [u8],
}

impl Run<'_> {
    fn entry(&mut self, pc: u32) -> u32 {
        let at = (pc - CODE) as usize;
        assert!(at < self.bytes.len(), "wild branch to {pc:#x}");
        if let Some(&known) = self.m.map.entries.get(&pc) {
            return known;
        }
        let bytes = self.bytes[at..].to_vec();
        self.m.translate(&self.cfg, pc, &bytes)
    }

    /// Where the return that popped the word at `popped` leads.
    fn return_target(&self, popped: u32) -> u32 {
        match self.cfg.returns {
            Returns::Table => u32::from_le_bytes(self.m.read(popped, 4).0.try_into().unwrap()),
            Returns::Shadow => shadow::consumed_site(self.m.shadow(popped)).expect("a consumed word"),
        }
    }

    /// `ret n` with a shadow stack is the LibOS's.
    fn is_shadow_ret_n(&self, pc: u32) -> bool {
        self.cfg.returns == Returns::Shadow && self.bytes[(pc - CODE) as usize] == 0xc2
    }

    /// Goes on from translated address `at`.
    fn go(&mut self, mut s: State, mut at: u32) -> (State, End) {
        for _ in 0..1000 {
            let (out, end) = self.m.run(&s, at, 0);
            s = out;
            match end {
                End::Stub(reason::LINK, index) => {
                    let (target, patch_at) = self.m.exit_target(index);
                    at = self.entry(target);
                    self.m.link(patch_at, at);
                }
                End::Stub(reason::MISS_RET, _) => {
                    at = self.entry(self.return_target(s.gpr[4] as u32 - 8));
                }
                End::Stub(reason::EMULATE, pc) if self.is_shadow_ret_n(pc) => {
                    let rsp = s.gpr[4] as u32;
                    let to = self.m.read(rsp, 4).0;
                    s.gpr[4] += 8 + u64::from(self.bytes[(pc - CODE) as usize + 1]);
                    at = self.entry(u32::from_le_bytes(to.try_into().unwrap()));
                }
                End::Stub(reason::MISS_CALL, _) => {
                    at = self.entry(self.m.target());
                }
                _ => return (s, end),
            }
        }
        panic!("no end");
    }
}

/// Registers and memory at the end of a native run.
struct Reference {
    state: State,
    memory: Vec<Vec<u8>>,
}

fn reference(m: &mut Machine, name: &str, bytes: &[u8]) -> Reference {
    prepare(m, bytes);
    let (state, end) = m.run_native(&start_state(), TLS, GUEST_GS);
    assert!(matches!(end, End::Signal(libc::SIGTRAP, _)), "{name}: native {end:x?} {:x?}", state.gpr);
    let memory = WINDOWS.iter().map(|&(at, len)| m.read(at, len).1).collect();
    Reference { state, memory }
}

fn compare(name: &str, m: &Machine, native: &Reference, translated: &State) {
    for n in 0..16 {
        let (a, b) = (native.state.gpr[n], translated.gpr[n]);
        assert_eq!(a, b, "{name}: register {n}: native {a:#x}, translated {b:#x}");
    }
    assert_eq!(native.state.flags & STATUS, translated.flags & STATUS, "{name}: flags");
    assert_eq!(native.state.xmm, translated.xmm, "{name}: vector registers");
    for ((at, len), expected) in WINDOWS.iter().zip(&native.memory) {
        let (slot, _) = m.read(*at, *len);
        if let Some(k) = (0..*len).find(|&k| slot[k] != expected[k]) {
            panic!(
                "{name}: memory at {:#x}: native {:#x}, translated {:#x}",
                *at as usize + k,
                expected[k],
                slot[k]
            );
        }
    }
}

#[test]
fn snippets_run_like_native() {
    Machine::with(|m| {
        for (name, bytes) in snippets() {
            for (max, config) in [400, 1, 3].into_iter().flat_map(|max| configs().map(|c| (max, c))) {
                m.reset_code();
                m.fill_tables(CODE, bytes.len() as u32);
                let cfg = Config { max_instructions: max, ..config };
                let native = reference(m, &name, &bytes);
                let first = m.translate(&cfg, CODE, &bytes);
                let (out, end) = Run { m, cfg, bytes: &bytes }.go(start_state(), first);
                let pc = native.state.pc - 1;
                assert_eq!(end, End::Stub(reason::EMULATE, pc), "{name} max {max} {:x?}", out.gpr);
                compare(&name, m, &native, &out);
            }
        }
    });
}

/// Interrupts before translated instruction number `step`, undoes, restarts, runs to the end. None: the run was shorter.
fn interrupted(
    m: &mut Machine,
    cfg: &Config,
    name: &str,
    bytes: &[u8],
    native: &Reference,
    step: u64,
) -> Option<()> {
    prepare(m, bytes);
    let first = m.map.entries[&CODE];
    let (mut s, end) = m.run(&start_state(), first, step);
    let End::Step(rip) = end else {
        assert!(matches!(end, End::Stub(reason::EMULATE, _)), "{name} step {step}: {end:x?}");
        return None;
    };
    let f = m.fragment_at(rip).expect("inside a fragment");
    let u =
        undo(&f.rows, &f.code, f.base, rip as u32).unwrap_or_else(|| panic!("{name}: no undo at {rip:#x}"));
    for n in 0..16 {
        if u.restore[n] {
            s.gpr[n] = m.spill(n);
        }
        if u.truncate[n] {
            s.gpr[n] &= 0xffff_ffff;
        }
        assert!(s.gpr[n] >> 40 != SLOT >> 40, "{name} step {step}: real address in register {n}");
    }
    s.gpr[4] = s.gpr[4].wrapping_add_signed(i64::from(u.rsp_delta)) & 0xffff_ffff;
    s.flags &= !TF;
    m.undo_shadow(u.shadow, s.gpr[4] as u32);
    let mut run = Run { m, cfg: *cfg, bytes };
    let at = run.entry(u.pc);
    let (out, end) = run.go(s, at);
    let pc = native.state.pc - 1;
    assert_eq!(end, End::Stub(reason::EMULATE, pc), "{name} step {step} at {rip:#x}, {u:x?}: {:x?}", out.gpr);
    compare(&format!("{name} step {step} at {rip:#x}, {u:x?}"), m, native, &out);
    Some(())
}

#[test]
fn every_interruption_can_be_undone() {
    Machine::with(|m| {
        for ((name, bytes), cfg) in snippets().into_iter().flat_map(|s| configs().map(|c| (s.clone(), c))) {
            m.reset_code();
            m.fill_tables(CODE, bytes.len() as u32);
            let native = reference(m, &name, &bytes);
            prepare(m, &bytes);
            let first = m.translate(&cfg, CODE, &bytes);
            Run { m, cfg, bytes: &bytes }.go(start_state(), first);
            let steps = (1..).map_while(|k| interrupted(m, &cfg, &name, &bytes, &native, k)).count();
            println!("{name}: {steps} interruptions");
            assert!(steps > 5);
        }
    });
}

/// Where `FORGED` returns to.
const TARGET: u32 = CODE + 16;

/// Translates `bytes` at CODE with a shadow stack and runs them; at the start's rsp stands TARGET, shadowed by `word`.
fn run_with_shadow(m: &mut Machine, bytes: &[u8], word: u64) -> (State, End) {
    m.reset_code();
    m.fill_tables(CODE, 64);
    prepare(m, bytes);
    let s = start_state();
    m.write(s.gpr[4] as u32, &TARGET.to_le_bytes());
    m.set_shadow(s.gpr[4] as u32, word);
    let cfg = configs()[1];
    let first = m.translate(&cfg, CODE, bytes);
    Run { m, cfg, bytes }.go(s, first)
}

/// `ret`, and int3 everywhere else.
const FORGED: [u8; 17] = {
    let mut b = [0xcc; 17];
    b[0] = 0xc3;
    b
};

#[test]
fn a_return_needs_its_shadow_word() {
    Machine::with(|m| {
        let rsp = start_state().gpr[4] as u32;
        let good = shadow::live(TARGET);
        let (_, end) = run_with_shadow(m, &FORGED, good);
        assert_eq!(end, End::Stub(reason::EMULATE, TARGET));
        assert_eq!(m.shadow(rsp), shadow::consumed(good), "the word serves once");
        let consumed = shadow::consumed(good);
        let other = shadow::live(CODE + 15);
        for bad in [0, consumed, other, u64::from(TARGET), good ^ 1 << 63, good & !(1 << 32)] {
            let (s, end) = run_with_shadow(m, &FORGED, bad);
            let End::Signal(libc::SIGILL, rip) = end else { panic!("{bad:#x}: {end:x?}") };
            assert_eq!((m.shadow(rsp), s.gpr[4] as u32), (bad, rsp), "nothing changed");
            let f = m.fragment_at(rip).expect("inside a fragment");
            let u = undo(&f.rows, &f.code, f.base, rip as u32).expect("an original state");
            assert_eq!((u.pc, u.shadow, u.rsp_delta), (CODE, ShadowWord::Kept, 0));
            assert!(u.restore[1] && u.restore[11], "scratch registers come back");
        }
    });
}

#[test]
fn calls_and_returns_leave_no_live_word() {
    // call +1 ; int3 ; ret
    Machine::with(|m| {
        let (s, end) = run_with_shadow(m, &[0xe8, 1, 0, 0, 0, 0xcc, 0xc3], 0);
        assert_eq!(end, End::Stub(reason::EMULATE, CODE + 5));
        let word = m.shadow(s.gpr[4] as u32 - 8);
        assert_eq!(shadow::consumed_site(word), Some(CODE + 5));
    });
}
