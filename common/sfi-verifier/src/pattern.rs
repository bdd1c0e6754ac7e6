//! Multi-instruction patterns: instructions that are safe only together (V7 to V10, V12), and the matcher for them.
//!
//! Neighbours: `operand` says what roles an ordinary instruction may play; `lib` feeds the matcher. `docs/sfi.md`,
//! section 4, lists the same patterns from the translator's side.
//! A new pattern is a row of a table; a fixed instruction in it is a row of `FIXED`.
//! The matcher follows all patterns at once: a set of places, one bit for every step of every pattern. Where one ends and
//! another could go on, the next instruction decides.
//! Invariants: a scratch register holds a real address only from `LOAD_BASE` to the reload or pop that the same row
//! demands, with nothing but fixed instructions between (r11 where it is at home: until the next pattern fills it); rsp is
//! a bare offset only from a `TO_ESP` step to `SUM_RSP`; rsp with an index is an operand only where the index is the
//! distance of the shadow words and the step before has confined rsp.

use crate::check::{Check, require};
use crate::decode::{NONE, WINDOW};
use crate::operand::{Effect, RSP};
use occlum_sfi_spec::{Returns, Stubs, ctx};

const RCX: u8 = 1;
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
    /// `mov %ecx,%ecx`, `mov %esi,%esi`, `mov %edi,%edi`, `lea (%rsi,%s),%rsi`, `lea (%rdi,%s),%rdi`
    pub(crate) const CUT_ECX: u8 = 15;
    pub(crate) const CUT_ESI: u8 = 16;
    pub(crate) const CUT_EDI: u8 = 17;
    pub(crate) const SUM_RSI: u8 = 18;
    pub(crate) const SUM_RDI: u8 = 19;
    pub(crate) const STRING_SOURCE: u8 = 20;
    pub(crate) const STRING_TARGET: u8 = 21;
    pub(crate) const STRING_BOTH: u8 = 22;
    /// `mov x32,%r11d`, `mov %r11,%fs:TARGET`, `push $imm`, `prefetcht0 %gs:disp32`, `not %r11`,
    /// `lea CALL_BIAS(%r11),%r11`
    pub(crate) const LOAD_R11D: u8 = 23;
    pub(crate) const STORE_TARGET: u8 = 24;
    pub(crate) const PUSH_IMM: u8 = 25;
    pub(crate) const PREFETCH: u8 = 26;
    pub(crate) const NOT_R11: u8 = 27;
    /// `movl %gs:4(,%r11,4),%r11d`, `movl %gs:(,%r11,4),%r11d`, `jmp *%r11`
    pub(crate) const CALL_TABLE: u8 = 28;
    pub(crate) const RETURN_TABLE: u8 = 29;
    pub(crate) const JUMP_R11: u8 = 30;
    /// `mov (%rsp),%r11d`, `mov %r11,n(%rsp)`, `lea n(%rsp),%rsp`
    pub(crate) const RETURN_LOAD: u8 = 31;
    pub(crate) const RETURN_STORE: u8 = 32;
    pub(crate) const RETURN_LEA: u8 = 33;
    /// `lea 11(%rip),%rcx`, `mov $next,%r11d`, `jmp stubs.syscall`
    pub(crate) const RESUME_RCX: u8 = 34;
    pub(crate) const NEXT_R11: u8 = 35;
    pub(crate) const JUMP_SYSCALL: u8 = 36;
    /// `movl $imm,%fs:EXIT`, `jmp stubs.link` or `jmp stubs.emulate`
    pub(crate) const STORE_EXIT: u8 = 37;
    pub(crate) const JUMP_EXIT: u8 = 38;
    /// With r11 as scratch that needs no spill: `mov %fs:SLOT_BASE,%r11`, `mov %esp,%r11d`, `mov %r11d,%esp`,
    /// `lea (%rsp,%r11),%rsp`, `lea (%rsi,%r11),%rsi`, `lea (%rdi,%r11),%rdi`
    pub(crate) const HOME_BASE: u8 = 39;
    pub(crate) const HOME_FROM_ESP: u8 = 40;
    pub(crate) const HOME_TO_ESP: u8 = 41;
    pub(crate) const HOME_SUM_RSP: u8 = 42;
    pub(crate) const HOME_SUM_RSI: u8 = 43;
    pub(crate) const HOME_SUM_RDI: u8 = 44;
    /// With a shadow stack: `mov %fs:SHADOW,%r11`, `movq $~site,(%rsp,%r11)`, `mov %fs:TARGET,%r11`
    pub(crate) const SHADOW_R11: u8 = 45;
    pub(crate) const SHADOW_STORE: u8 = 46;
    pub(crate) const LOAD_TARGET: u8 = 47;
    /// `mov %fs:SHADOW,%rcx`, `mov (%rsp,%rcx),%rcx`, `lea 1(%rcx,%r11),%rcx`, `jrcxz` over `ud2`,
    /// `movl $0,4(%rsp,%rcx)`
    pub(crate) const SPILL_RCX: u8 = 48;
    pub(crate) const SHADOW_RCX: u8 = 49;
    pub(crate) const SHADOW_LOAD: u8 = 50;
    pub(crate) const SHADOW_SUM: u8 = 51;
    pub(crate) const SHADOW_TRAP: u8 = 52;
    pub(crate) const SHADOW_CONSUME: u8 = 53;
    pub(crate) const LEA_R11: u8 = 54;
    pub(crate) const COUNT: usize = 55;

    pub(crate) const fn bit(role: u8) -> u64 {
        1 << role
    }
}
use role::*;

/// Opcode of `push $imm32`.
const PUSH: u8 = 0x68;
/// A step that may be left out.
const MAYBE: u8 = 0x80;

/// A table of patterns: names and steps.
type Rows = [(&'static str, &'static [u8])];

/// Patterns of every unit.
#[rustfmt::skip]
const EVERYWHERE: &Rows = &[
    ("rebase", &[TO_ESP, SPILL, LOAD_BASE, SUM_RSP, RELOAD]),
    ("rsp read", &[SPILL, FROM_ESP, PLAIN, RELOAD]),
    ("rsp written", &[SPILL, FROM_ESP, PLAIN, TO_ESP_SCRATCH, LOAD_BASE, SUM_RSP, RELOAD]),
    ("segment operand", &[SPILL, LOAD_SEGMENT, MAYBE | LEA32, PLAIN_SLOT, RELOAD]),
    ("segment load", &[LOAD_SEGMENT, MAYBE | LEA32, PLAIN_SLOT]),
    ("syscall", &[RESUME_RCX, NEXT_R11, JUMP_SYSCALL]),
    ("exit", &[STORE_EXIT, JUMP_EXIT]),
];

/// Where the program's r11 is in its register.
#[rustfmt::skip]
const IN_REGISTER: &Rows = &[
    ("r11 goes home", &[SPILL_R11]),
    ("leave", &[SPILL_RBP, TO_ESP_SCRATCH, LOAD_BASE, SUM_RSP, POP_RBP]),
    ("lods", &[SPILL_RDX, LOAD_BASE, MAYBE | CUT_ECX, CUT_ESI, SUM_RSI, STRING_SOURCE, CUT_ESI, RELOAD]),
    ("stos, scas", &[SPILL_RDX, LOAD_BASE, MAYBE | CUT_ECX, CUT_EDI, SUM_RDI, STRING_TARGET, CUT_EDI, RELOAD]),
    ("movs, cmps", &[SPILL_RDX, LOAD_BASE, MAYBE | CUT_ECX, CUT_ESI, SUM_RSI, CUT_EDI, SUM_RDI, STRING_BOTH,
        CUT_ESI, CUT_EDI, RELOAD]),
];

/// The same, `Returns::Table`.
#[rustfmt::skip]
const IN_REGISTER_TABLE: &Rows = &[
    ("indirect jump or call", &[SPILL_R11, MAYBE | LOAD_SEGMENT, MAYBE | LEA32, LOAD_R11D, STORE_TARGET,
        MAYBE | PUSH_IMM, MAYBE | PREFETCH, LEA_R11, CALL_TABLE, JUMP_R11]),
    ("return", &[SPILL_R11, RETURN_LOAD, MAYBE | RETURN_STORE, NOT_R11, RETURN_TABLE, RETURN_LEA, JUMP_R11]),
    ("return as a jump", &[SPILL_R11, RETURN_LOAD, STORE_TARGET, LEA_R11, CALL_TABLE, RETURN_LEA, JUMP_R11]),
];

/// The same, `Returns::Shadow`.
#[rustfmt::skip]
const IN_REGISTER_SHADOW: &Rows = &[
    ("call", &[PUSH_IMM, SHADOW_R11, SHADOW_STORE]),
    ("indirect jump", &[SPILL_R11, MAYBE | LOAD_SEGMENT, MAYBE | LEA32, LOAD_R11D, STORE_TARGET, LEA_R11,
        CALL_TABLE, JUMP_R11]),
    ("indirect call", &[SPILL_R11, MAYBE | LOAD_SEGMENT, MAYBE | LEA32, LOAD_R11D, STORE_TARGET, PUSH_IMM,
        SHADOW_R11, SHADOW_STORE, MAYBE | PREFETCH, LOAD_TARGET, LEA_R11, CALL_TABLE, JUMP_R11]),
    ("return", &[SPILL_RCX, SPILL_R11, RETURN_LOAD, SHADOW_RCX, SHADOW_LOAD, SHADOW_SUM, SHADOW_TRAP, NOT_R11,
        RETURN_TABLE, SHADOW_RCX, SHADOW_CONSUME, RELOAD, RETURN_LEA, JUMP_R11]),
    ("return as a jump", &[SPILL_R11, RETURN_LOAD, STORE_TARGET, LEA_R11, CALL_TABLE, RETURN_LEA, JUMP_R11]),
];

/// Where it is at home and the register is scratch.
#[rustfmt::skip]
const AT_HOME: &Rows = &[
    ("rebase", &[TO_ESP, HOME_BASE, HOME_SUM_RSP]),
    ("rsp read", &[HOME_FROM_ESP, PLAIN]),
    ("rsp written", &[HOME_FROM_ESP, PLAIN, HOME_TO_ESP, HOME_BASE, HOME_SUM_RSP]),
    ("lods", &[HOME_BASE, MAYBE | CUT_ECX, CUT_ESI, HOME_SUM_RSI, STRING_SOURCE, CUT_ESI]),
    ("stos, scas", &[HOME_BASE, MAYBE | CUT_ECX, CUT_EDI, HOME_SUM_RDI, STRING_TARGET, CUT_EDI]),
    ("movs, cmps", &[HOME_BASE, MAYBE | CUT_ECX, CUT_ESI, HOME_SUM_RSI, CUT_EDI, HOME_SUM_RDI, STRING_BOTH,
        CUT_ESI, CUT_EDI]),
];

/// The same, `Returns::Table`.
#[rustfmt::skip]
const AT_HOME_TABLE: &Rows = &[
    ("indirect jump or call", &[LOAD_R11D, STORE_TARGET, MAYBE | PUSH_IMM, MAYBE | PREFETCH, LEA_R11, CALL_TABLE,
        JUMP_R11]),
    ("the same through a segment", &[LOAD_SEGMENT, MAYBE | LEA32, LOAD_R11D, STORE_TARGET, MAYBE | PUSH_IMM,
        MAYBE | PREFETCH, LEA_R11, CALL_TABLE, JUMP_R11]),
    ("return", &[RETURN_LOAD, MAYBE | RETURN_STORE, NOT_R11, RETURN_TABLE, RETURN_LEA, JUMP_R11]),
    ("return as a jump", &[RETURN_LOAD, STORE_TARGET, LEA_R11, CALL_TABLE, RETURN_LEA, JUMP_R11]),
];

/// The same, `Returns::Shadow`.
#[rustfmt::skip]
const AT_HOME_SHADOW: &Rows = &[
    ("call", &[PUSH_IMM, SHADOW_R11, SHADOW_STORE]),
    ("indirect jump", &[LOAD_R11D, STORE_TARGET, LEA_R11, CALL_TABLE, JUMP_R11]),
    ("the same through a segment", &[LOAD_SEGMENT, MAYBE | LEA32, LOAD_R11D, STORE_TARGET, LEA_R11, CALL_TABLE,
        JUMP_R11]),
    ("indirect call", &[LOAD_R11D, STORE_TARGET, PUSH_IMM, SHADOW_R11, SHADOW_STORE, MAYBE | PREFETCH, LOAD_TARGET,
        LEA_R11, CALL_TABLE, JUMP_R11]),
    ("the same through a segment", &[LOAD_SEGMENT, MAYBE | LEA32, LOAD_R11D, STORE_TARGET, PUSH_IMM, SHADOW_R11,
        SHADOW_STORE, MAYBE | PREFETCH, LOAD_TARGET, LEA_R11, CALL_TABLE, JUMP_R11]),
    ("return", &[SPILL_RCX, RETURN_LOAD, SHADOW_RCX, SHADOW_LOAD, SHADOW_SUM, SHADOW_TRAP, NOT_R11, RETURN_TABLE,
        SHADOW_RCX, SHADOW_CONSUME, RELOAD, RETURN_LEA, JUMP_R11]),
    ("return as a jump", &[RETURN_LOAD, STORE_TARGET, LEA_R11, CALL_TABLE, RETURN_LEA, JUMP_R11]),
];

/// An instruction that a pattern has with these very bytes.
struct Fixed {
    bytes: &'static [u8],
    role: u8,
    /// Given: the instruction is refused elsewhere, for this reason, and `bytes` is all of it. Else it is an ordinary
    /// instruction, and immediates may follow.
    only: Option<Check>,
    /// Bytes behind `bytes`, of an immediate that `step` looks at.
    immediate: u8,
}

const fn fixed(bytes: &'static [u8], role: u8) -> Fixed {
    Fixed { bytes, role, only: None, immediate: 0 }
}

const fn only(bytes: &'static [u8], role: u8, check: Check) -> Fixed {
    Fixed { bytes, role, only: Some(check), immediate: 0 }
}

/// Return address, and the complement that its shadow word is: where they stand.
const PUSHED_AT: usize = 1;
const STORED_AT: usize = 4;

#[rustfmt::skip]
const FIXED: &[Fixed] = &[
    fixed(&[0x5d], POP_RBP),
    fixed(&[0x89, 0xc9], CUT_ECX),
    fixed(&[0x89, 0xf6], CUT_ESI),
    fixed(&[0x89, 0xff], CUT_EDI),
    fixed(&[0x48, 0x8d, 0x34, 0x16], SUM_RSI),
    fixed(&[0x48, 0x8d, 0x3c, 0x17], SUM_RDI),
    fixed(&[0x4a, 0x8d, 0x34, 0x1e], HOME_SUM_RSI),
    fixed(&[0x4a, 0x8d, 0x3c, 0x1f], HOME_SUM_RDI),
    fixed(&[0x68], PUSH_IMM),
    fixed(&[0x65, 0x0f, 0x18, 0x0c, 0x25], PREFETCH),
    fixed(&[0x49, 0xf7, 0xd3], NOT_R11),
    fixed(&[0x4d, 0x8d, 0x9b, 0xff, 0xff, 0xff, 0x7f], LEA_R11),
    only(&[0x65, 0x46, 0x8b, 0x1c, 0x9d, 4, 0, 0, 0], CALL_TABLE, Check::GsAlone),
    only(&[0x65, 0x46, 0x8b, 0x1c, 0x9d, 0, 0, 0, 0], RETURN_TABLE, Check::GsAlone),
    only(&[0x41, 0xff, 0xe3], JUMP_R11, Check::JumpAlone),
    fixed(&[0x44, 0x8b, 0x1c, 0x24], RETURN_LOAD),
    fixed(&[0x4c, 0x89, 0x9c, 0x24], RETURN_STORE),
    only(&[0x48, 0x8d, 0x0d, 11, 0, 0, 0], RESUME_RCX, Check::RipRelative),
    fixed(&[0x41, 0xbb], NEXT_R11),
    Fixed { bytes: &[0x4a, 0xc7, 0x04, 0x1c], role: SHADOW_STORE, only: Some(Check::StackIndex), immediate: 4 },
    only(&[0x48, 0x8b, 0x0c, 0x0c], SHADOW_LOAD, Check::StackIndex),
    fixed(&[0x4a, 0x8d, 0x4c, 0x19, 1], SHADOW_SUM),
    only(&[0xc7, 0x44, 0x0c, 4, 0, 0, 0, 0], SHADOW_CONSUME, Check::StackIndex),
    // One instruction, so that nothing else leads to where it goes: `jrcxz` over `ud2`.
    only(&[0xe3, 2, 0x0f, 0x0b], SHADOW_TRAP, Check::TrapAlone),
];

/// What an instruction does with r11.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scratch {
    /// Nothing.
    Unnamed,
    /// Writes all of it, whatever it was.
    Filled,
    /// Anything else.
    Used,
}

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
    pub(crate) r11: Scratch,
}

impl Token {
    pub(crate) fn plain(len: u8) -> Token {
        Token { len, roles: 0, bound: 0, reg: NONE, effect: Effect::None, alone: None, r11: Scratch::Unnamed }
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

static REGISTER: Machine = compile([EVERYWHERE, IN_REGISTER, IN_REGISTER_TABLE]);
static REGISTER_SHADOW: Machine = compile([EVERYWHERE, IN_REGISTER, IN_REGISTER_SHADOW]);
static HOME: Machine = compile([EVERYWHERE, AT_HOME, AT_HOME_TABLE]);
static HOME_SHADOW: Machine = compile([EVERYWHERE, AT_HOME, AT_HOME_SHADOW]);

const fn compile<const N: usize>(tables: [&Rows; N]) -> Machine {
    let mut m = Machine { accept: [0; COUNT], start: 0, last: 0, maybe: 0 };
    let (mut place, mut t) = (0, 0);
    while t < tables.len() {
        let mut p = 0;
        while p < tables[t].len() {
            let steps = tables[t][p].1;
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
        t += 1;
    }
    assert!(m.maybe & (m.start | m.last) == 0, "the ends of a pattern are never optional");
    m
}

/// Where in which patterns the pass is.
pub(crate) struct Matcher {
    machine: &'static Machine,
    at_home: bool,
    live: u128,
    /// A pattern is whole with the instruction before, though another could go on.
    may_end: bool,
    scratch: u8,
    /// The pattern has filled r11.
    filled: bool,
    /// Immediate of the last `push $imm` that may belong to a call.
    pushed: u32,
}

impl Matcher {
    /// For a unit that has the program's r11 in its register (`in_register`), or at home.
    pub(crate) fn new(in_register: bool, returns: Returns) -> Matcher {
        let machine = match (in_register, returns) {
            (true, Returns::Table) => &REGISTER,
            (true, Returns::Shadow) => &REGISTER_SHADOW,
            (false, Returns::Table) => &HOME,
            (false, Returns::Shadow) => &HOME_SHADOW,
        };
        let at_home = !in_register;
        Matcher { machine, at_home, live: 0, may_end: false, scratch: NONE, filled: false, pushed: 0 }
    }

    /// Looks at the next instruction: true if it belongs to a pattern that has begun.
    pub(crate) fn goes_on(&mut self, t: &Token, bytes: &[u8; WINDOW]) -> bool {
        if self.may_end && self.live & self.accepting(self.roles(t, bytes)) == 0 {
            self.live = 0;
            self.over();
        }
        self.live != 0
    }

    /// No pattern goes on.
    fn over(&mut self) {
        (self.scratch, self.filled) = (NONE, false);
    }

    /// Why the instruction may not stand outside a pattern of this unit.
    fn alone(&self, t: &Token) -> Option<Check> {
        let lost = t.r11 != Scratch::Unnamed && self.at_home;
        t.alone.or(lost.then_some(Check::FillsR11))
    }

    /// Goes over one instruction, behind `goes_on`. `Err`: it may not stand here.
    pub(crate) fn step(&mut self, t: &Token, bytes: &[u8; WINDOW]) -> Result<(), Check> {
        // At home, the register may hold a real address until a pattern fills it.
        require(t.r11 != Scratch::Used || !self.at_home || self.filled, Check::UsesR11)?;
        self.shadow_site(t, bytes)?;
        let (before, wrong) = match (self.live, self.alone(t)) {
            (0, None) => {
                self.begin_call(bytes);
                return Ok(());
            }
            (0, Some(check)) => (self.machine.start, check),
            (live, _) => (live, Check::Broken),
        };
        let from = before & self.accepting(self.roles(t, bytes));
        if self.scratch == NONE {
            self.scratch = self.scratch_of(t);
        }
        self.may_end = from & self.machine.last != 0;
        self.live = self.behind(from & !self.machine.last);
        self.filled |= t.r11 == Scratch::Filled;
        if self.live == 0 {
            self.over();
        }
        require(from != 0, wrong)
    }

    /// The one pattern that begins with an instruction of any use: the push of a call, if its shadow word follows.
    fn begin_call(&mut self, bytes: &[u8; WINDOW]) {
        if bytes[0] == PUSH {
            self.live = self.behind(self.machine.start & self.machine.accept[PUSH_IMM as usize]);
            self.may_end = true;
        }
    }

    /// V15: a shadow word is the complement of the return address pushed just before it, which lies below 2 GiB.
    fn shadow_site(&mut self, t: &Token, bytes: &[u8; WINDOW]) -> Result<(), Check> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[0] == PUSH {
            self.pushed = word(PUSHED_AT);
        }
        let fits = self.pushed >> 31 == 0 && word(STORED_AT) == !self.pushed;
        require(t.roles & bit(SHADOW_STORE) == 0 || fits, Check::ShadowSite)
    }

    /// The scratch register of a pattern in which this is the first instruction that names one.
    fn scratch_of(&self, t: &Token) -> u8 {
        if t.bound & (bit(SPILL) | bit(LOAD_SEGMENT)) != 0 {
            t.reg
        } else if self.at_home && t.r11 == Scratch::Filled {
            R11
        } else {
            NONE
        }
    }

    /// What an instruction can be here.
    fn roles(&self, t: &Token, bytes: &[u8; WINDOW]) -> u64 {
        let same = self.scratch == NONE || self.scratch == t.reg;
        t.roles | fixed_roles(bytes) | if same { t.bound } else { 0 }
    }

    /// Places whose step one of `roles` can play.
    fn accepting(&self, mut roles: u64) -> u128 {
        let mut places = 0;
        while roles != 0 {
            places |= self.machine.accept.get(roles.trailing_zeros() as usize).copied().unwrap_or(0);
            roles &= roles - 1;
        }
        places
    }

    /// The places behind `places`, those behind optional steps included.
    fn behind(&self, places: u128) -> u128 {
        let mut next = places << 1;
        loop {
            let more = next | (next & self.machine.maybe) << 1;
            if more == next {
                return next;
            }
            next = more;
        }
    }
}

/// Which of `FIXED` begin with a byte: one bit each.
static FIXED_BY_BYTE: [u32; 256] = {
    let mut by_byte = [0; 256];
    let mut k = 0;
    while k < FIXED.len() {
        by_byte[FIXED[k].bytes[0] as usize] |= 1 << k;
        k += 1;
    }
    by_byte
};

fn fixed_roles(bytes: &[u8; WINDOW]) -> u64 {
    let mut candidates = FIXED_BY_BYTE[usize::from(bytes[0])];
    let mut roles = 0;
    while candidates != 0 {
        let f = &FIXED[candidates.trailing_zeros() as usize];
        if bytes.starts_with(f.bytes) {
            roles |= bit(f.role);
        }
        candidates &= candidates - 1;
    }
    roles
}

/// An instruction that is refused everywhere but in the pattern that has these bytes.
pub(crate) fn fixed_token(bytes: &[u8; WINDOW]) -> Option<Token> {
    let f = FIXED.iter().find(|f| f.only.is_some() && bytes.starts_with(f.bytes))?;
    let effect = if f.role == JUMP_R11 { Effect::Lookup } else { Effect::None };
    let len = f.bytes.len() as u8 + f.immediate;
    Some(Token { roles: bit(f.role), effect, alone: f.only, ..Token::plain(len) })
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
    require(shape, Check::FsForm)?;
    require(reg != RSP, Check::ContextRsp)?;
    let (slot, own) = (word(5), ctx::spill(u32::from(reg)));
    let mut token = Token::special(9, Check::FsAlone);
    token.r11 = match (reg == R11, b[2]) {
        (false, _) => Scratch::Unnamed,
        (true, 0x8b) => Scratch::Filled,
        (true, _) => Scratch::Used,
    };
    match b[2] {
        0x89 if slot == own => {
            token.bind(SPILL, reg);
            token.roles = match reg {
                RCX => bit(SPILL_RCX),
                RDX => bit(SPILL_RDX),
                RBP => bit(SPILL_RBP),
                R11 => bit(SPILL_R11),
                _ => 0,
            };
        }
        0x89 if slot == ctx::TARGET && reg == R11 => token.roles = bit(STORE_TARGET),
        0x8b if slot == ctx::TARGET && reg == R11 => token.roles = bit(LOAD_TARGET),
        0x8b if slot == ctx::SHADOW && reg == R11 => token.roles = bit(SHADOW_R11),
        0x8b if slot == ctx::SHADOW && reg == RCX => token.roles = bit(SHADOW_RCX),
        0x8b if slot == own => {
            token.bind(RELOAD, reg);
            // r11 is fetched at entries, and the program's own wherever this stands.
            token.alone = if reg == R11 { None } else { token.alone };
        }
        0x8b if slot == ctx::SLOT_BASE => {
            token.bind(LOAD_BASE, reg);
            token.roles = if reg == R11 { bit(HOME_BASE) } else { 0 };
        }
        0x8b if slot == ctx::TLS || slot == ctx::GUEST_GS => token.bind(LOAD_SEGMENT, reg),
        _ => require(false, Check::FsForm)?,
    }
    Ok(token)
}
