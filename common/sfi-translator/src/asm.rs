//! The output buffer of one fragment and the few fixed instructions that patterns are made of.
//!
//! Neighbours: `emit` and `pattern` call it. Every instruction here leaves the flags alone unless its name says otherwise.
//! Invariants: registers are hardware numbers 0..16; positions are byte offsets from the fragment's base.

use alloc::vec::Vec;
use occlum_sfi_spec::{ctx, shadow, table};

pub(crate) const RCX: u8 = 1;
pub(crate) const RDX: u8 = 2;
pub(crate) const RSP: u8 = 4;
pub(crate) const RBP: u8 = 5;
pub(crate) const RSI: u8 = 6;
pub(crate) const RDI: u8 = 7;
pub(crate) const R11: u8 = 11;

/// Nops by length.
const NOPS: [&[u8]; 4] = [&[], &[0x90], &[0x66, 0x90], &[0x0f, 0x1f, 0x00]];

/// Growing code of one fragment.
pub(crate) struct Asm {
    pub(crate) base: u32,
    pub(crate) code: Vec<u8>,
}

/// REX byte bit for register `n` at bit `which`.
fn ext(n: u8, which: u8) -> u8 {
    (n >> 3) << which
}

impl Asm {
    pub(crate) fn at(&self) -> u32 {
        self.code.len() as u32
    }

    pub(crate) fn bytes(&mut self, b: &[u8]) {
        self.code.extend_from_slice(b);
    }

    fn imm32(&mut self, v: u32) {
        self.bytes(&v.to_le_bytes());
    }

    /// `op %fs:slot` with `reg` in ModRM.reg, 64-bit.
    fn fs_op(&mut self, op: u8, reg: u8, slot: u32) {
        self.bytes(&[0x64, 0x48 | ext(reg, 2), op, (reg & 7) << 3 | 4, 0x25]);
        self.imm32(slot);
    }

    /// mov %reg, %fs:slot
    pub(crate) fn store(&mut self, reg: u8, slot: u32) {
        self.fs_op(0x89, reg, slot);
    }

    /// mov %fs:slot, %reg
    pub(crate) fn load(&mut self, reg: u8, slot: u32) {
        self.fs_op(0x8b, reg, slot);
    }

    pub(crate) fn spill(&mut self, reg: u8) {
        self.store(reg, ctx::spill(u32::from(reg)));
    }

    pub(crate) fn reload(&mut self, reg: u8) {
        self.load(reg, ctx::spill(u32::from(reg)));
    }

    /// movl $value, %fs:slot
    pub(crate) fn store_imm(&mut self, slot: u32, value: u32) {
        self.bytes(&[0x64, 0xc7, 0x04, 0x25]);
        self.imm32(slot);
        self.imm32(value);
    }

    /// mov %src32, %dst32
    pub(crate) fn mov32(&mut self, dst: u8, src: u8) {
        let rex = ext(src, 2) | ext(dst, 0);
        if rex != 0 {
            self.bytes(&[0x40 | rex]);
        }
        self.bytes(&[0x89, 0xc0 | (src & 7) << 3 | dst & 7]);
    }

    /// mov $value, %dst32
    pub(crate) fn mov_imm32(&mut self, dst: u8, value: u32) {
        if dst >= 8 {
            self.bytes(&[0x41]);
        }
        self.bytes(&[0xb8 | dst & 7]);
        self.imm32(value);
    }

    /// mov $value, %dst16, behind a 66 prefix
    pub(crate) fn mov_imm16(&mut self, dst: u8, value: u16) {
        if dst >= 8 {
            self.bytes(&[0x41]);
        }
        self.bytes(&[0xb8 | dst & 7]);
        self.bytes(&value.to_le_bytes());
    }

    /// mov $value, %dst (64-bit)
    pub(crate) fn mov_imm64(&mut self, dst: u8, value: u64) {
        self.bytes(&[0x48 | dst >> 3, 0xb8 | dst & 7]);
        self.bytes(&value.to_le_bytes());
    }

    /// lea (%base,%index), %dst, 64-bit (`wide`) or 32-bit. `index` is not rsp.
    pub(crate) fn lea_sum(&mut self, dst: u8, base: u8, index: u8, wide: bool) {
        let rex = if wide { 0x48 } else { 0x40 } | ext(dst, 2) | ext(index, 1) | ext(base, 0);
        let modrm = (dst & 7) << 3 | 4;
        let sib = (index & 7) << 3 | base & 7;
        if base & 7 == 5 {
            self.bytes(&[rex, 0x8d, modrm | 0x40, sib, 0]);
        } else {
            self.bytes(&[rex, 0x8d, modrm, sib]);
        }
    }

    /// lea disp(%rsp), %rsp
    pub(crate) fn lea_rsp(&mut self, disp: i32) {
        match i8::try_from(disp) {
            Ok(d) => self.bytes(&[0x48, 0x8d, 0x64, 0x24, d as u8]),
            Err(_) => {
                self.bytes(&[0x48, 0x8d, 0xa4, 0x24]);
                self.imm32(disp as u32);
            }
        }
    }

    pub(crate) fn push(&mut self, reg: u8) {
        if reg >= 8 {
            self.bytes(&[0x41]);
        }
        self.bytes(&[0x50 | reg & 7]);
    }

    pub(crate) fn pop(&mut self, reg: u8) {
        if reg >= 8 {
            self.bytes(&[0x41]);
        }
        self.bytes(&[0x58 | reg & 7]);
    }

    /// push $value (below 2 GiB, so that the sign extension is zero)
    pub(crate) fn push_imm(&mut self, value: u32) {
        self.bytes(&[0x68]);
        self.imm32(value);
    }

    /// `prefetcht0 %gs:disp32`: a hint that never faults.
    pub(crate) fn prefetch_gs(&mut self, disp: i32) {
        self.bytes(&[0x65, 0x0f, 0x18, 0x0c, 0x25]);
        self.bytes(&disp.to_le_bytes());
    }

    /// `jmp rel32` to an absolute address.
    pub(crate) fn jmp(&mut self, target: u32) {
        self.bytes(&[0xe9]);
        let next = self.base.wrapping_add(self.at()).wrapping_add(4);
        self.imm32(target.wrapping_sub(next));
    }

    /// `jmp *%r11`
    pub(crate) fn jmp_r11(&mut self) {
        self.bytes(&[0x41, 0xff, 0xe3]);
    }

    /// The table lookup (R19): `not %r11` or `lea CALL_BIAS(%r11),%r11`, then `movl %gs:disp(,%r11,4),%r11d`.
    pub(crate) fn table_lookup(&mut self, kind: table::Kind) {
        let disp = match kind {
            table::Kind::Ret => {
                self.bytes(&[0x49, 0xf7, 0xd3]);
                0
            }
            table::Kind::Call => {
                self.bytes(&[0x4d, 0x8d, 0x9b]);
                self.imm32(table::CALL_BIAS as u32);
                table::CALL_DISP
            }
        };
        self.bytes(&[0x65, 0x46, 0x8b, 0x1c, 0x9d, disp, 0, 0, 0]);
    }

    /// `movq $live(site), (%rsp,%r11)`: the shadow word of the return address just pushed, r11 the distance.
    pub(crate) fn shadow_store(&mut self, site: u32) {
        self.bytes(&[0x4a, 0xc7, 0x04, 0x1c]);
        self.imm32(shadow::live(site) as u32); // sign-extended: sites lie below 2 GiB
    }

    /// rcx = 0 if the shadow word at rsp is that of r11d, a return address; a trap otherwise.
    pub(crate) fn shadow_compare(&mut self) {
        self.load(RCX, ctx::SHADOW);
        self.bytes(&[0x48, 0x8b, 0x0c, 0x0c]); // mov (%rsp,%rcx), %rcx
        self.bytes(&[0x4a, 0x8d, 0x4c, 0x19, 1]); // lea 1(%rcx,%r11), %rcx
        self.bytes(&[0xe3, 2, 0x0f, 0x0b]); // jrcxz over ud2
    }

    /// Consumes the shadow word at rsp.
    pub(crate) fn shadow_consume(&mut self) {
        self.load(RCX, ctx::SHADOW);
        self.bytes(&[0xc7, 0x44, 0x0c, 4, 0, 0, 0, 0]); // movl $0, 4(%rsp,%rcx)
    }

    /// `cmp %al, (%rsp)`: confines rsp, changes the status flags.
    pub(crate) fn probe(&mut self) {
        self.bytes(&[0x38, 0x04, 0x24]);
    }

    /// Pads so that the 4 bytes that start `ahead` bytes from here lie within one 16-byte line (R21).
    pub(crate) fn align_patch(&mut self, ahead: u32) {
        let at = (self.base.wrapping_add(self.at()).wrapping_add(ahead)) & 15;
        if at > 12 {
            self.bytes(NOPS[(16 - at) as usize]);
        }
    }

    pub(crate) fn patch32(&mut self, at: u32, value: u32) {
        self.code[at as usize..at as usize + 4].copy_from_slice(&value.to_le_bytes());
    }
}
