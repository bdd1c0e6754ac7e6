//! Instruction bytes into fields and length: the verifier's own decoder.
//!
//! Neighbours: `rules` says which encodings there are; `operand` judges what is read here; `lib` calls for every
//! instruction of a unit. Shares nothing with the translator or its decoder.
//! Invariants: reads the bytes once, in order; any bytes give a result; what comes out follows the prefix order
//! 65 67 66 F2/F3 F0 REX opcode, each at most once, because nothing else is looked for (V2).

use crate::check::{Check, require};
use crate::rules::{self, Form};

/// Bytes given to the decoder: more than it can read. What lies behind the unit's end is zero.
pub(crate) const WINDOW: usize = 32;
/// The most an instruction may have.
const MAX_LENGTH: usize = 15;
/// `Insn::base` and `Insn::index`: none; `base` also: the instruction pointer.
pub(crate) const NONE: u8 = 16;
pub(crate) const RIP: u8 = 17;

/// The fields of one instruction.
#[derive(Clone, Copy, Default)]
pub(crate) struct Insn {
    pub(crate) len: u8,
    pub(crate) gs: bool,
    pub(crate) addr32: bool,
    pub(crate) opsize: bool,
    /// 0, F2 or F3.
    pub(crate) repeat: u8,
    pub(crate) lock: bool,
    pub(crate) rex: u8,
    pub(crate) vex: bool,
    /// REX.W or VEX.W.
    pub(crate) wide: bool,
    /// VEX.L.
    pub(crate) long: bool,
    pub(crate) map: u8,
    pub(crate) opcode: u8,
    pub(crate) modrm: u8,
    /// ModRM names memory.
    pub(crate) mem: bool,
    /// Register numbers with their extension; `rm` also for registers in the opcode.
    pub(crate) reg: u8,
    pub(crate) rm: u8,
    pub(crate) vvvv: u8,
    pub(crate) base: u8,
    pub(crate) index: u8,
    pub(crate) scale: u8,
    pub(crate) disp: i32,
    /// Low 32 bits of the immediate, sign-extended.
    pub(crate) imm: i32,
    pub(crate) form: Form,
}

impl Insn {
    pub(crate) fn has(&self, bit: Form) -> bool {
        self.form & bit != 0
    }

    /// Column of the rules that the mandatory prefix selects.
    fn column(&self) -> u8 {
        match self.repeat {
            0xf3 => 2,
            0xf2 => 3,
            _ => u8::from(self.opsize),
        }
    }
}

struct Cursor<'a> {
    bytes: &'a [u8; WINDOW],
    at: usize,
}

impl Cursor<'_> {
    #[inline(always)]
    fn peek(&self) -> u8 {
        self.bytes[self.at % WINDOW]
    }

    #[inline(always)]
    fn next(&mut self) -> u8 {
        let b = self.peek();
        self.at += 1;
        b
    }

    /// With branches on purpose: LLVM 22 loses the increment of `at += usize::from(found)`.
    #[inline(always)]
    fn take(&mut self, wanted: u8) -> bool {
        if self.peek() == wanted {
            self.at += 1;
            return true;
        }
        false
    }

    fn word(&mut self) -> i32 {
        i32::from_le_bytes([self.next(), self.next(), self.next(), self.next()])
    }
}

/// Takes the instruction at the start of `bytes` apart.
pub(crate) fn decode(bytes: &[u8; WINDOW]) -> Result<Insn, Check> {
    let mut c = Cursor { bytes, at: 0 };
    let mut i = Insn { base: NONE, index: NONE, ..Insn::default() };
    prefixes(&mut c, &mut i);
    match c.peek() {
        0xc4 | 0xc5 => vex(&mut c, &mut i)?,
        _ => opcode(&mut c, &mut i),
    }
    i.modrm = c.peek();
    let selected = if i.modrm >= 0xc0 { 8 } else { 0 } | u32::from(i.modrm >> 3 & 7);
    i.form = match rules::find(i.map, i.column(), i.opcode, selected) {
        Some(form) => form,
        None => require(false, Check::Rule).map(|()| rules::M)?,
    };
    if i.has(rules::M) {
        modrm(&mut c, &mut i);
    }
    if i.has(rules::OPREG) {
        i.rm = i.opcode & 7 | (i.rex & 1) << 3;
    }
    immediate(&mut c, &mut i);
    require(c.at <= MAX_LENGTH, Check::Length)?;
    i.len = c.at as u8;
    Ok(i)
}

#[inline(always)]
fn prefixes(c: &mut Cursor<'_>, i: &mut Insn) {
    i.gs = c.take(0x65);
    i.addr32 = c.take(0x67);
    i.opsize = c.take(0x66);
    if c.peek() & 0xfe == 0xf2 {
        i.repeat = c.next();
    }
    i.lock = c.take(0xf0);
    if c.peek() & 0xf0 == 0x40 {
        i.rex = c.next();
        i.wide = i.rex & 8 != 0;
    }
}

fn opcode(c: &mut Cursor<'_>, i: &mut Insn) {
    i.map = rules::ONE;
    if c.take(0x0f) {
        i.map += 1;
        if c.take(0x38) {
            i.map += 1;
        } else if c.take(0x3a) {
            i.map += 2;
        }
    }
    i.opcode = c.next();
}

/// VEX: its bits become those of the legacy prefixes, so that the rest need not know.
fn vex(c: &mut Cursor<'_>, i: &mut Insn) -> Result<(), Check> {
    require(!i.opsize && i.repeat == 0 && !i.lock && i.rex == 0, Check::VexPrefix)?;
    let three = c.next() == 0xc4;
    let (first, second) = (c.next(), if three { c.next() } else { 0 });
    // Two-byte form: R vvvv L pp, map 1. Three-byte form: R X B map, W vvvv L pp.
    let last = if three { second } else { first & 0x7f };
    i.rex = if three { !first >> 5 & 7 } else { !first >> 5 & 4 };
    let map = if three { first & 31 } else { 1 };
    require((1..=3).contains(&map), Check::VexMap)?;
    i.vex = true;
    i.map = rules::VEX + map.wrapping_sub(1);
    i.wide = last & 0x80 != 0;
    i.vvvv = !last >> 3 & 15;
    i.long = last & 4 != 0;
    i.opsize = last & 3 == 1;
    i.repeat = [0, 0, 0xf3, 0xf2][usize::from(last & 3)];
    i.opcode = c.next();
    Ok(())
}

#[inline(always)]
fn modrm(c: &mut Cursor<'_>, i: &mut Insn) {
    let m = c.next();
    let (mode, low) = (m >> 6, m & 7);
    i.reg = m >> 3 & 7 | (i.rex & 4) << 1;
    i.rm = low | (i.rex & 1) << 3;
    i.mem = mode != 3;
    if !i.mem {
        return;
    }
    i.base = i.rm;
    if low == 4 {
        let sib = c.next();
        i.base = sib & 7 | (i.rex & 1) << 3;
        let index = sib >> 3 & 7 | (i.rex & 2) << 2;
        i.scale = sib >> 6;
        i.index = if index == 4 && !i.has(rules::VSIB) { NONE } else { index };
        if mode == 0 && sib & 7 == 5 {
            i.base = NONE;
        }
    } else if mode == 0 && low == 5 {
        i.base = RIP;
    }
    if mode == 1 {
        i.disp = i32::from(c.next() as i8);
    } else if mode == 2 || i.base >= NONE {
        i.disp = c.word();
    }
}

#[inline(always)]
fn immediate(c: &mut Cursor<'_>, i: &mut Insn) {
    if i.has(rules::IB) {
        i.imm = i32::from(c.next() as i8);
    } else if i.has(rules::IZ | rules::IV) {
        if i.has(rules::IV) && i.wide {
            i.imm = c.word();
            c.at += 4;
        } else if i.opsize && !i.wide {
            i.imm = i32::from(i16::from_le_bytes([c.next(), c.next()]));
        } else {
            i.imm = c.word();
        }
    }
}
