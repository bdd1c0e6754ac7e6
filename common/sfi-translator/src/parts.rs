//! One x86-64 instruction taken apart into its encoding fields, and put together again.
//!
//! Neighbours: `emit` and `pattern` change operands here and write the result. Only the length and the fields are known
//! here, never the meaning: that is the decoder's.
//! Invariants: `write` keeps the prefix order of R4 (65 67 66 F2/F3 F0 REX opcode); EVEX and XOP never come here.

use alloc::vec::Vec;

/// VEX prefix bytes behind C5 or C4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vex {
    None,
    Two(u8),
    Three(u8, u8),
}

/// The encoding fields of one instruction.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// Emit `65 67`: the slot-relative form.
    pub(crate) gs: bool,
    pub(crate) addr32: bool,
    pub(crate) opsize: bool,
    /// 0, F2 or F3.
    pub(crate) rep: u8,
    pub(crate) lock: bool,
    /// 0 or 40..4F.
    pub(crate) rex: u8,
    pub(crate) vex: Vex,
    pub(crate) opcode: [u8; 3],
    pub(crate) opcode_len: usize,
    pub(crate) modrm: Option<u8>,
    sib: Option<u8>,
    disp: i32,
    disp_len: u8,
    pub(crate) imm: [u8; 8],
    pub(crate) imm_len: usize,
}

/// 64-bit mode, one-byte opcodes with a ModRM byte; bit n of word m is opcode 32 * m + n.
const MODRM_MAP1: [u32; 8] =
    [0x0f0f_0f0f, 0x0f0f_0f0f, 0x0000_0000, 0x0000_0a08, 0x0000_ffff, 0x0000_0000, 0xff0f_00c3, 0xc0c0_0000];
/// Two-byte (0F) opcodes WITHOUT a ModRM byte.
const PLAIN_MAP2: [u32; 8] =
    [0x0000_4be0, 0x00ff_0000, 0x0000_0000, 0x0080_0000, 0x0000_ffff, 0x0000_0707, 0x0000_ff00, 0x0000_0000];

fn bit(table: &[u32; 8], n: u8) -> bool {
    table[usize::from(n >> 5)] >> (n & 31) & 1 == 1
}

fn has_modrm(map: u8, op: u8) -> bool {
    match map {
        1 => bit(&MODRM_MAP1, op),
        2 => !bit(&PLAIN_MAP2, op),
        _ => true,
    }
}

/// Reads the bytes of one instruction in order.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let b = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(b)
    }
}

impl Parts {
    /// Takes apart `bytes`, which must be exactly one instruction. `None`: an encoding this crate does not rewrite.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Parts> {
        let mut r = Reader { bytes, at: 0 };
        let mut p = Parts::empty();
        let mut b = p.parse_prefixes(&mut r)?;
        match b {
            0xc5 => p.vex = Vex::Two(r.next()?),
            0xc4 => p.vex = Vex::Three(r.next()?, r.next()?),
            0x62 => return None,
            _ => {}
        }
        if p.vex == Vex::None {
            p.parse_opcode(b, &mut r)?;
        } else {
            b = r.next()?;
            p.push_opcode(b);
            if b != 0x77 {
                p.parse_modrm(&mut r)?; // vzeroupper and vzeroall alone have none
            }
        }
        p.imm_len = bytes.len() - r.at;
        if p.imm_len > 8 {
            return None;
        }
        p.imm[..p.imm_len].copy_from_slice(&bytes[r.at..]);
        Some(p)
    }

    pub(crate) fn empty() -> Parts {
        Parts {
            gs: false,
            addr32: false,
            opsize: false,
            rep: 0,
            lock: false,
            rex: 0,
            vex: Vex::None,
            opcode: [0; 3],
            opcode_len: 0,
            modrm: None,
            sib: None,
            disp: 0,
            disp_len: 0,
            imm: [0; 8],
            imm_len: 0,
        }
    }

    /// Legacy prefixes and REX; returns the first byte after them. Segment overrides are dropped.
    fn parse_prefixes(&mut self, r: &mut Reader<'_>) -> Option<u8> {
        loop {
            let b = r.next()?;
            match b {
                0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 => {}
                0x66 => self.opsize = true,
                0x67 => self.addr32 = true,
                0xf2 | 0xf3 => self.rep = b,
                0xf0 => self.lock = true,
                0x40..=0x4f => {
                    self.rex = b;
                    continue;
                }
                _ => return Some(b),
            }
            self.rex = 0; // a REX before a legacy prefix means nothing
        }
    }

    fn push_opcode(&mut self, b: u8) {
        self.opcode[self.opcode_len] = b;
        self.opcode_len += 1;
    }

    fn parse_opcode(&mut self, first: u8, r: &mut Reader<'_>) -> Option<()> {
        self.push_opcode(first);
        let mut op = first;
        let mut map = 1;
        if first == 0x0f {
            op = r.next()?;
            self.push_opcode(op);
            map = 2;
            if op == 0x38 || op == 0x3a {
                let third = r.next()?;
                self.push_opcode(third);
                map = 3;
            }
        }
        if has_modrm(map, op) { self.parse_modrm(r) } else { Some(()) }
    }

    fn parse_modrm(&mut self, r: &mut Reader<'_>) -> Option<()> {
        let m = r.next()?;
        self.modrm = Some(m);
        let (mode, rm) = (m >> 6, m & 7);
        if mode == 3 {
            return Some(());
        }
        let mut base = rm;
        if rm == 4 {
            let s = r.next()?;
            self.sib = Some(s);
            base = s & 7;
        }
        self.disp_len = match mode {
            0 if base == 5 => 4,
            0 => 0,
            1 => 1,
            _ => 4,
        };
        let mut disp = [0u8; 4];
        for d in disp.iter_mut().take(usize::from(self.disp_len)) {
            *d = r.next()?;
        }
        self.disp = if self.disp_len == 1 { i32::from(disp[0] as i8) } else { i32::from_le_bytes(disp) };
        Some(())
    }

    /// Appends the encoding.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        if self.gs {
            out.extend_from_slice(&[0x65, 0x67]);
        } else if self.addr32 {
            out.push(0x67);
        }
        match self.vex {
            Vex::Two(a) => out.extend_from_slice(&[0xc5, a]),
            Vex::Three(a, b) => out.extend_from_slice(&[0xc4, a, b]),
            Vex::None => self.write_legacy_prefixes(out),
        }
        out.extend_from_slice(&self.opcode[..self.opcode_len]);
        out.extend(self.modrm);
        out.extend(self.sib);
        out.extend_from_slice(&self.disp.to_le_bytes()[..usize::from(self.disp_len)]);
        out.extend_from_slice(&self.imm[..self.imm_len]);
    }

    /// True if the encoding keeps to the 15 bytes an instruction may have.
    pub(crate) fn fits(&self) -> bool {
        let prefixes = match self.vex {
            Vex::None => {
                usize::from(self.opsize)
                    + usize::from(self.rep != 0)
                    + usize::from(self.lock)
                    + usize::from(self.rex != 0)
            }
            Vex::Two(_) => 2,
            Vex::Three(..) => 3,
        };
        let segment = if self.gs { 2 } else { usize::from(self.addr32) };
        let operand =
            usize::from(self.modrm.is_some()) + usize::from(self.sib.is_some()) + usize::from(self.disp_len);
        segment + prefixes + self.opcode_len + operand + self.imm_len <= 15
    }

    /// Drops a 66 that REX.W overrides (one-byte opcodes only: in the others it may select the instruction).
    pub(crate) fn drop_idle_opsize(&mut self) {
        if self.rex & 8 != 0 && self.opcode_len == 1 && self.vex == Vex::None {
            self.opsize = false;
        }
    }

    fn write_legacy_prefixes(&self, out: &mut Vec<u8>) {
        if self.opsize {
            out.push(0x66);
        }
        if self.rep != 0 {
            out.push(self.rep);
        }
        if self.lock {
            out.push(0xf0);
        }
        if self.rex != 0 {
            out.push(self.rex);
        }
    }

    /// True if the ModRM byte names memory.
    pub(crate) fn has_memory(&self) -> bool {
        self.modrm.is_some_and(|m| m >> 6 != 3)
    }

    /// Puts general or vector register `n` into ModRM.reg.
    pub(crate) fn set_reg(&mut self, n: u8) {
        if let Some(m) = self.modrm.as_mut() {
            *m = *m & !0x38 | (n & 7) << 3;
        }
        self.set_extension(2, n >= 8);
    }

    /// Puts register `n` into ModRM.rm (register form).
    pub(crate) fn set_rm(&mut self, n: u8) {
        if let Some(m) = self.modrm.as_mut() {
            *m = 0xc0 | *m & 0x38 | n & 7;
        }
        self.set_extension(0, n >= 8);
    }

    /// Number in ModRM.reg, extension included.
    pub(crate) fn reg(&self) -> u8 {
        self.modrm.map_or(0, |m| m >> 3 & 7) | u8::from(self.extension(2)) << 3
    }

    /// Number in ModRM.rm, extension included.
    pub(crate) fn rm(&self) -> u8 {
        self.modrm.map_or(0, |m| m & 7) | u8::from(self.extension(0)) << 3
    }

    /// Extension bit: 0 B, 1 X, 2 R.
    fn extension(&self, which: u8) -> bool {
        match self.vex {
            Vex::None => self.rex >> which & 1 == 1,
            Vex::Two(a) => which == 2 && a & 0x80 == 0,
            Vex::Three(a, _) => a >> (5 + which) & 1 == 0,
        }
    }

    fn set_extension(&mut self, which: u8, on: bool) {
        match &mut self.vex {
            Vex::None if on => self.rex |= 0x40 | 1 << which,
            Vex::None => self.rex &= !(1 << which),
            Vex::Two(_) | Vex::Three(..) => self.set_vex_extension(which, on),
        }
    }

    fn set_vex_extension(&mut self, which: u8, on: bool) {
        if let Vex::Two(a) = self.vex {
            if which == 2 {
                self.vex = Vex::Two(a & 0x7f | u8::from(!on) << 7);
                return;
            }
            if !on {
                return;
            }
            self.vex = Vex::Three(a & 0x80 | 0x61, a & 0x7f);
        }
        if let Vex::Three(a, b) = self.vex {
            let mask = 1 << (5 + which);
            self.vex = Vex::Three(if on { a & !mask } else { a | mask }, b);
        }
    }

    /// Replaces the memory operand by `disp(base, index, 1 << scale)`. Base or index may be missing.
    pub(crate) fn set_memory(&mut self, base: Option<u8>, index: Option<(u8, u8)>, disp: i32) {
        let reg = self.modrm.unwrap_or(0) & 0x38;
        self.disp = disp;
        let (mode, disp_len) = match base {
            None => (0, 4),
            Some(b) if disp == 0 && b & 7 != 5 => (0, 0),
            Some(_) if i8::try_from(disp).is_ok() => (1, 1),
            Some(_) => (2, 4),
        };
        self.disp_len = disp_len;
        let needs_sib = index.is_some() || base.is_none_or(|b| b & 7 == 4);
        let base_bits = base.unwrap_or(5);
        if needs_sib {
            let (i, s) = index.unwrap_or((4, 0));
            self.sib = Some(s << 6 | (i & 7) << 3 | base_bits & 7);
            self.modrm = Some(mode << 6 | reg | 4);
            self.set_extension(1, i >= 8);
        } else {
            self.sib = None;
            self.modrm = Some(mode << 6 | reg | base_bits & 7);
            self.set_extension(1, false);
        }
        self.set_extension(0, base_bits >= 8);
    }

    /// Rewrites `mov moffs` (A0-A3) to its ModRM form (R5). False: it is no such instruction.
    pub(crate) fn make_moffs(&mut self, disp: i32) -> bool {
        if self.opcode_len != 1 || !matches!(self.opcode[0], 0xa0..=0xa3) {
            return false;
        }
        const FORMS: [u8; 4] = [0x8a, 0x8b, 0x88, 0x89];
        self.opcode[0] = FORMS[usize::from(self.opcode[0] & 3)];
        self.imm_len = 0;
        self.modrm = Some(0);
        self.rex &= !7;
        self.set_memory(None, None, disp);
        true
    }

    /// Operand size 32: neither REX.W nor 66.
    pub(crate) fn set_size32(&mut self) {
        self.rex &= !8;
        self.opsize = false;
    }
}
