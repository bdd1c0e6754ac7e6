//! Multi-instruction patterns: instructions that are safe only together (V7 to V10, V12), and the matcher for them.
//!
//! Neighbours: `operand` says what roles an ordinary instruction may play; `lib` feeds the matcher. `docs/sfi.md`,
//! section 4, lists the same patterns from the translator's side.
//! A new pattern is a row of `PATTERNS`; a fixed instruction in it is a row of `FIXED`.
//! The matcher follows all patterns at once: a set of places, one bit for every step of every pattern.
//! Invariants: a scratch register holds a real address only from `LOAD_BASE` to the reload or pop that the same row
//! demands, with nothing but fixed instructions between; rsp is a bare offset only from a `TO_ESP` step to `SUM_RSP`.

use crate::check::{Check, require};
use crate::decode::{NONE, WINDOW};
use crate::operand::{Effect, RSP};
use occlum_sfi_spec::{Stubs, ctx};

const RDX: u8 = 2;
const RBP: u8 = 5;
pub(crate) const R11: u8 = 11;

/// What an instruction may be in a pattern.
pub(crate) mod role {
    /// With the scratch register of the pattern: `mov %s,%fs:SPILL(s)`, back, `mov %fs:SLOT_BASE,%s`, ..
    pub(crate) const SPILL: u8 = 0;
    pub(crate) const RELOAD: u8 = 1;
    pub(crate) const LOAD_BASE: u8 = 2;
    /// `mov %fs:TLS,%s` or `mov %fs:GUEST_GS,%s`
    pub(crate) const LOAD_SEGMENT: u8 = 3;
    /// `mov %esp,%s32`, `mov %s32,%esp`, `lea (%rsp,%s),%rsp`, `lea m,%s32`
    pub(crate) const FROM_ESP: u8 = 4;
    pub(crate) const TO_ESP_SCRATCH: u8 = 5;
    pub(crate) const SUM_RSP: u8 = 6;
    pub(crate) const LEA32: u8 = 7;
    /// Spills of one register.
    pub(crate) const SPILL_RDX: u8 = 8;
    pub(crate) const SPILL_RBP: u8 = 9;
    pub(crate) const SPILL_R11: u8 = 10;
    /// Any instruction that writes esp as a whole (and so clears the high half of rsp).
    pub(crate) const TO_ESP: u8 = 11;
    /// Any instruction that may stand alone, without rsp changes and control flow; the same with a slot operand.
    pub(crate) const PLAIN: u8 = 12;
    pub(crate) const PLAIN_SLOT: u8 = 13;
    pub(crate) const POP_RBP: u8 = 14;
    /// `mov %ecx,%ecx`, `mov %esi,%esi`, `mov %edi,%edi`, `lea (%rsi,%rdx),%rsi`, `lea (%rdi,%rdx),%rdi`
    pub(crate) const CUT_ECX: u8 = 15;
    pub(crate) const CUT_ESI: u8 = 16;
    pub(crate) const CUT_EDI: u8 = 17;
    pub(crate) const SUM_RSI: u8 = 18;
    pub(crate) const SUM_RDI: u8 = 19;
    pub(crate) const STRING_SOURCE: u8 = 20;
    pub(crate) const STRING_TARGET: u8 = 21;
    pub(crate) const STRING_BOTH: u8 = 22;
    /// `mov x32,%r11d`, `mov %r11,%fs:TARGET`, `push $imm`, `not %r11`, `lea -0x80000000(%r11),%r11`
    pub(crate) const LOAD_R11D: u8 = 23;
    pub(crate) const STORE_TARGET: u8 = 24;
    pub(crate) const PUSH_IMM: u8 = 25;
    pub(crate) const NOT_R11: u8 = 26;
    pub(crate) const LOWER_R11: u8 = 27;
    /// `movl %gs:(,%r11,4),%r11d`, `jmp *%r11`
    pub(crate) const TABLE: u8 = 28;
    pub(crate) const JUMP_R11: u8 = 29;
    /// `mov (%rsp),%r11d`, `mov %r11,n(%rsp)`, `lea n(%rsp),%rsp`
    pub(crate) const RETURN_LOAD: u8 = 30;
    pub(crate) const RETURN_STORE: u8 = 31;
    pub(crate) const RETURN_LEA: u8 = 32;
    /// `lea 11(%rip),%rcx`, `mov $next,%r11d`, `jmp stubs.syscall`
    pub(crate) const RESUME_RCX: u8 = 33;
    pub(crate) const NEXT_R11: u8 = 34;
    pub(crate) const JUMP_SYSCALL: u8 = 35;
    /// `movl $imm,%fs:EXIT`, `jmp stubs.link` or `jmp stubs.emulate`
    pub(crate) const STORE_EXIT: u8 = 36;
    pub(crate) const JUMP_EXIT: u8 = 37;
    pub(crate) const COUNT: usize = 38;

    pub(crate) const fn bit(role: u8) -> u64 {
        1 << role
    }
}
use role::*;

/// A step that may be left out.
const MAYBE: u8 = 0x80;

/// Every pattern: its name and its steps.
#[rustfmt::skip]
pub(crate) const PATTERNS: &[(&str, &[u8])] = &[
    ("rebase", &[TO_ESP, SPILL, LOAD_BASE, SUM_RSP, RELOAD]),
    ("rsp read", &[SPILL, FROM_ESP, PLAIN, RELOAD]),
    ("rsp written", &[SPILL, FROM_ESP, PLAIN, TO_ESP_SCRATCH, LOAD_BASE, SUM_RSP, RELOAD]),
    ("leave", &[SPILL_RBP, TO_ESP_SCRATCH, LOAD_BASE, SUM_RSP, POP_RBP]),
    ("lods", &[SPILL_RDX, LOAD_BASE, MAYBE | CUT_ECX, CUT_ESI, SUM_RSI, STRING_SOURCE, CUT_ESI, RELOAD]),
    ("stos, scas", &[SPILL_RDX, LOAD_BASE, MAYBE | CUT_ECX, CUT_EDI, SUM_RDI, STRING_TARGET, CUT_EDI, RELOAD]),
    ("movs, cmps", &[SPILL_RDX, LOAD_BASE, MAYBE | CUT_ECX, CUT_ESI, SUM_RSI, CUT_EDI, SUM_RDI, STRING_BOTH,
        CUT_ESI, CUT_EDI, RELOAD]),
    ("segment operand", &[SPILL, LOAD_SEGMENT, MAYBE | LEA32, PLAIN_SLOT, RELOAD]),
    ("segment load", &[LOAD_SEGMENT, MAYBE | LEA32, PLAIN_SLOT]),
    ("indirect jump or call", &[SPILL_R11, MAYBE | LOAD_SEGMENT, MAYBE | LEA32, LOAD_R11D, STORE_TARGET,
        MAYBE | PUSH_IMM, NOT_R11, LOWER_R11, LOWER_R11, TABLE, JUMP_R11]),
    ("return", &[SPILL_R11, RETURN_LOAD, MAYBE | RETURN_STORE, NOT_R11, TABLE, RETURN_LEA, JUMP_R11]),
    ("syscall", &[RESUME_RCX, NEXT_R11, JUMP_SYSCALL]),
    ("exit", &[STORE_EXIT, JUMP_EXIT]),
];

/// An instruction that a pattern has with these very bytes.
struct Fixed {
    bytes: &'static [u8],
    role: u8,
    /// Given: the instruction is refused elsewhere, for this reason, and `bytes` is all of it. Else it is an ordinary
    /// instruction, and immediates may follow.
    only: Option<Check>,
}

const fn fixed(bytes: &'static [u8], role: u8) -> Fixed {
    Fixed { bytes, role, only: None }
}

const fn only(bytes: &'static [u8], role: u8, check: Check) -> Fixed {
    Fixed { bytes, role, only: Some(check) }
}

#[rustfmt::skip]
const FIXED: &[Fixed] = &[
    fixed(&[0x5d], POP_RBP),
    fixed(&[0x89, 0xc9], CUT_ECX),
    fixed(&[0x89, 0xf6], CUT_ESI),
    fixed(&[0x89, 0xff], CUT_EDI),
    fixed(&[0x48, 0x8d, 0x34, 0x16], SUM_RSI),
    fixed(&[0x48, 0x8d, 0x3c, 0x17], SUM_RDI),
    fixed(&[0x68], PUSH_IMM),
    fixed(&[0x49, 0xf7, 0xd3], NOT_R11),
    fixed(&[0x4d, 0x8d, 0x9b, 0, 0, 0, 0x80], LOWER_R11),
    only(&[0x65, 0x46, 0x8b, 0x1c, 0x9d, 0, 0, 0, 0], TABLE, Check::GsAlone),
    only(&[0x41, 0xff, 0xe3], JUMP_R11, Check::JumpAlone),
    fixed(&[0x44, 0x8b, 0x1c, 0x24], RETURN_LOAD),
    fixed(&[0x4c, 0x89, 0x9c, 0x24], RETURN_STORE),
    only(&[0x48, 0x8d, 0x0d, 11, 0, 0, 0], RESUME_RCX, Check::RipRelative),
    fixed(&[0x41, 0xbb], NEXT_R11),
];

/// What the verifier needs to know of one instruction.
#[derive(Clone, Copy)]
pub(crate) struct Token {
    pub(crate) len: u8,
    /// Roles it may play in any pattern.
    pub(crate) roles: u64,
    /// Roles it may play if the pattern's scratch register is `reg`.
    bound: u64,
    reg: u8,
    pub(crate) effect: Effect,
    /// Why it may not stand outside a pattern.
    pub(crate) alone: Option<Check>,
}

impl Token {
    pub(crate) fn plain(len: u8) -> Token {
        Token { len, roles: 0, bound: 0, reg: NONE, effect: Effect::None, alone: None }
    }

    pub(crate) fn special(len: u8, check: Check) -> Token {
        Token { alone: Some(check), ..Token::plain(len) }
    }

    pub(crate) fn bind(&mut self, role: u8, reg: u8) {
        self.bound |= bit(role);
        self.reg = reg;
    }
}

/// The pattern table as bit sets over all steps.
struct Machine {
    accept: [u128; COUNT],
    start: u128,
    last: u128,
    maybe: u128,
}

static MACHINE: Machine = compile();

const fn compile() -> Machine {
    let mut m = Machine { accept: [0; COUNT], start: 0, last: 0, maybe: 0 };
    let (mut place, mut p) = (0, 0);
    while p < PATTERNS.len() {
        let steps = PATTERNS[p].1;
        let mut k = 0;
        m.start |= 1 << place;
        while k < steps.len() {
            m.accept[(steps[k] & !MAYBE) as usize] |= 1 << place;
            m.maybe |= ((steps[k] >> 7) as u128) << place;
            place += 1;
            k += 1;
        }
        m.last |= 1 << (place - 1);
        p += 1;
    }
    assert!(m.maybe & (m.start | m.last) == 0, "the ends of a pattern are never optional");
    m
}

/// Where in which patterns the pass is.
pub(crate) struct Matcher {
    live: u128,
    scratch: u8,
}

impl Matcher {
    pub(crate) fn new() -> Matcher {
        Matcher { live: 0, scratch: NONE }
    }

    /// True outside every pattern.
    pub(crate) fn is_idle(&self) -> bool {
        self.live == 0
    }

    /// Goes over one instruction. `Err`: it may not stand here.
    pub(crate) fn step(&mut self, t: &Token, bytes: &[u8; WINDOW]) -> Result<(), Check> {
        let from = if self.is_idle() {
            let Some(check) = t.alone else { return Ok(()) };
            let from = MACHINE.start & accepting(self.roles(t));
            if from == 0 {
                return require(false, check);
            }
            from
        } else {
            self.live & accepting(self.roles(t) | fixed_roles(bytes))
        };
        if t.bound & (bit(SPILL) | bit(LOAD_SEGMENT)) != 0 && self.scratch == NONE {
            self.scratch = t.reg;
        }
        self.live = behind(from & !MACHINE.last);
        if self.live == 0 {
            self.scratch = NONE;
        }
        require(from != 0, Check::Broken)
    }

    fn roles(&self, t: &Token) -> u64 {
        let same = self.scratch == NONE || self.scratch == t.reg;
        t.roles | if same { t.bound } else { 0 }
    }
}

/// Places whose step one of `roles` can play.
fn accepting(mut roles: u64) -> u128 {
    let mut places = 0;
    while roles != 0 {
        places |= MACHINE.accept.get(roles.trailing_zeros() as usize).copied().unwrap_or(0);
        roles &= roles - 1;
    }
    places
}

/// The places behind `places`, those behind optional steps included.
fn behind(places: u128) -> u128 {
    let mut next = places << 1;
    loop {
        let more = next | (next & MACHINE.maybe) << 1;
        if more == next {
            return next;
        }
        next = more;
    }
}

fn fixed_roles(bytes: &[u8; WINDOW]) -> u64 {
    let matching = FIXED.iter().filter(|f| bytes.starts_with(f.bytes));
    matching.fold(0, |roles, f| roles | bit(f.role))
}

/// An instruction that is refused everywhere but in the pattern that has these bytes.
pub(crate) fn fixed_token(bytes: &[u8; WINDOW]) -> Option<Token> {
    let f = FIXED.iter().find(|f| f.only.is_some() && bytes.starts_with(f.bytes))?;
    let effect = if f.role == JUMP_R11 { Effect::Lookup } else { Effect::None };
    Some(Token { roles: bit(f.role), effect, alone: f.only, ..Token::plain(f.bytes.len() as u8) })
}

/// An unconditional branch that leads to a stub.
pub(crate) fn stub_roles(target: u32, stubs: &Stubs, token: &mut Token) {
    let exit = target == stubs.link || target == stubs.emulate;
    let syscall = target == stubs.syscall;
    if exit || syscall {
        token.alone = Some(Check::StubAlone);
        token.roles = bit(if exit { JUMP_EXIT } else { JUMP_SYSCALL });
        token.effect = Effect::Stub { falls: syscall };
    }
}

/// An instruction with an fs operand: only `mov` between listed slots of the context and a register or constant (V8).
pub(crate) fn context_token(b: &[u8; WINDOW]) -> Result<Token, Check> {
    let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    if b[1..4] == [0xc7, 0x04, 0x25] && word(4) == ctx::EXIT {
        let mut token = Token::special(12, Check::FsAlone);
        token.roles = bit(STORE_EXIT);
        return Ok(token);
    }
    let (rex, modrm) = (b[1], b[3]);
    let reg = modrm >> 3 & 7 | (rex & 4) << 1;
    let shape = rex & 0xfb == 0x48 && modrm & 0xc7 == 0x04 && b[4] == 0x25;
    require(shape && reg != RSP, Check::FsForm)?;
    let (slot, own) = (word(5), ctx::spill(u32::from(reg)));
    let mut token = Token::special(9, Check::FsAlone);
    match b[2] {
        0x89 if slot == own => {
            token.bind(SPILL, reg);
            token.roles = match reg {
                RDX => bit(SPILL_RDX),
                RBP => bit(SPILL_RBP),
                R11 => bit(SPILL_R11),
                _ => 0,
            };
        }
        0x89 if slot == ctx::TARGET && reg == R11 => token.roles = bit(STORE_TARGET),
        0x8b if slot == own => {
            token.bind(RELOAD, reg);
            // The reload of a prelude: r11 is the program's own, wherever this stands.
            token.alone = if reg == R11 { None } else { token.alone };
        }
        0x8b if slot == ctx::SLOT_BASE => token.bind(LOAD_BASE, reg),
        0x8b if slot == ctx::TLS || slot == ctx::GUEST_GS => token.bind(LOAD_SEGMENT, reg),
        _ => require(false, Check::FsForm)?,
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pattern_ends_where_another_goes_on() {
        for (name, steps) in PATTERNS {
            for (other, longer) in PATTERNS {
                let required =
                    |s: &[u8]| s.iter().filter(|&&r| r & MAYBE == 0).copied().collect::<alloc::vec::Vec<_>>();
                let (short, long) = (required(steps), required(longer));
                assert!(name == other || !long.starts_with(&short), "{name} is the beginning of {other}");
            }
        }
    }
}
