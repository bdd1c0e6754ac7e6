//! The multi-instruction patterns: indirect branches, string operations, rsp arithmetic, fs and gs operands.
//!
//! Neighbours: `emit` calls one function here per instruction; `docs/sfi.md` lists every pattern with its commit point.
//! Invariants: flags and every register but the results are preserved; before the commit point a restart of the original
//! instruction after `undo` gives the same result; a scratch register is spilled before it is written.

use crate::asm::{R11, RBP, RCX, RDI, RDX, RSI, RSP};
use crate::classify::{has_implicit_memory, has_tls_segment};
use crate::emit::{Emitter, Flags, Home, MAX_DIRTY, has_memory};
use crate::extent::Item;
use crate::parts::Parts;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpAccess, OpKind, Register};
use occlum_sfi_spec::{ctx, table};

/// Scratch registers in order of preference.
const SCRATCH: [u8; 7] = [11, 10, 9, 8, 2, 1, 3];
/// The same if the instruction cannot carry a REX prefix (ah, ch, dh, bh).
const SCRATCH_LOW: [u8; 7] = [2, 1, 3, 6, 7, 0, 5];
/// Largest `ret n` done inline: the moved return address stays in reach of the un-prefixed form.
const MAX_RET_DROP: u16 = 16 << 10;

fn is_gpr(r: Register) -> bool {
    r.is_gpr8() || r.is_gpr16() || r.is_gpr32() || r.is_gpr64()
}

/// Hardware number of a general register of any size.
fn number(r: Register) -> u8 {
    r.full_register().number() as u8 & 15
}

fn is_rsp(r: Register) -> bool {
    is_gpr(r) && r.full_register() == Register::RSP
}

fn has_high_byte(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| {
        i.op_kind(n) == OpKind::Register
            && matches!(i.op_register(n), Register::AH | Register::CH | Register::DH | Register::BH)
    })
}

fn has_rsp_operand(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && is_rsp(i.op_register(n)))
}

/// Base register of the memory operand, rip excluded.
fn base(i: &Instruction) -> Option<u8> {
    let r = i.memory_base();
    (r != Register::None && !i.is_ip_rel_memory_operand()).then(|| number(r))
}

/// Index register and scale of the memory operand.
fn index(i: &Instruction) -> Option<(u8, u8)> {
    let r = i.memory_index();
    (r != Register::None).then(|| (number(r), i.memory_index_scale().trailing_zeros() as u8))
}

fn displacement(i: &Instruction) -> i32 {
    if i.is_ip_rel_memory_operand() {
        i.ip_rel_memory_address() as i32
    } else {
        i.memory_displacement64() as i32
    }
}

/// Context slot that holds the base of the guest's own segment.
fn segment_slot(i: &Instruction) -> u32 {
    if i.segment_prefix() == Register::FS { ctx::TLS } else { ctx::GUEST_GS }
}

/// Instructions that may write rsp through a scratch copy: they write nothing else but flags, and do not read these.
fn may_write_rsp(m: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        m,
        M::Mov
            | M::Add
            | M::Sub
            | M::And
            | M::Or
            | M::Xor
            | M::Neg
            | M::Not
            | M::Inc
            | M::Dec
            | M::Shl
            | M::Sal
            | M::Shr
            | M::Sar
            | M::Imul
            | M::Movzx
            | M::Movsx
            | M::Movsxd
            | M::Movq
            | M::Movd
            | M::Bsf
            | M::Bsr
            | M::Lzcnt
            | M::Tzcnt
            | M::Popcnt
            | M::Cmova
            | M::Cmovae
            | M::Cmovb
            | M::Cmovbe
            | M::Cmove
            | M::Cmovg
            | M::Cmovge
            | M::Cmovl
            | M::Cmovle
            | M::Cmovne
            | M::Cmovno
            | M::Cmovnp
            | M::Cmovns
            | M::Cmovo
            | M::Cmovp
            | M::Cmovs
    )
}

impl Emitter<'_> {
    /// Everything without control flow or a form of its own.
    pub(crate) fn plain(&mut self, n: usize, item: &Item) {
        let i = &item.instr;
        if has_rsp_operand(i) {
            self.rsp_operand(n, item);
        } else if has_tls_segment(i) && has_memory(i) {
            self.tls_operand(item);
        } else {
            self.ordinary(item);
        }
    }

    /// A general register that `i` does not use and that its encoding can name.
    fn scratch(&mut self, i: &Instruction) -> Option<u8> {
        let mut used = 1u16 << RSP;
        for r in self.factory.info(i).used_registers() {
            if is_gpr(r.register()) {
                used |= 1 << number(r.register());
            }
        }
        let candidates = if has_high_byte(i) { &SCRATCH_LOW } else { &SCRATCH };
        candidates.iter().copied().find(|&r| used >> r & 1 == 0)
    }

    // ---- branches ----

    /// Target of an indirect branch into r11d. False: not expressible.
    fn load_target(&mut self, item: &Item) -> bool {
        let i = &item.instr;
        if i.op0_kind() == OpKind::Register {
            self.free(R11);
            self.asm.mov32(R11, number(i.op0_register()));
            return true;
        }
        let Some(mut p) = self.parts(item) else { return false };
        p.opcode[0] = 0x8b;
        p.set_size32();
        p.set_reg(R11);
        if has_tls_segment(i) {
            if base(i) == Some(R11) || index(i).is_some_and(|x| x.0 == R11) {
                return false;
            }
            self.free(R11);
            self.asm.load(R11, segment_slot(i));
            self.tls_memory(i, &mut p, R11);
        } else {
            if !self.place_memory(item, &mut p) {
                return false;
            }
            self.free(R11);
        }
        p.write(&mut self.asm.code);
        true
    }

    /// `jmp *target`, and `call *target` if it is call `n`, through the call table.
    pub(crate) fn indirect(&mut self, item: &Item, call: Option<usize>) {
        if !self.load_target(item) {
            return self.emulate_late(item.off);
        }
        self.asm.store(R11, ctx::TARGET);
        if let Some(n) = call {
            self.push_return(n);
            if self.has_shadow() {
                self.asm.load(R11, ctx::TARGET);
            }
        }
        self.asm.table_lookup(table::Kind::Call);
        self.asm.jmp_r11();
    }

    /// `ret` and `ret n` through the return table; a miss finds the target just below rsp.
    pub(crate) fn ret(&mut self, off: u32, drop: u16) {
        let shadow = self.has_shadow();
        // With a shadow word, a miss finds its target in the one it consumed, which is that of the word below rsp.
        if drop > MAX_RET_DROP || (1..8).contains(&drop) || drop != 0 && shadow {
            return self.emulate_late(off);
        }
        if shadow {
            self.asm.spill(RCX);
        }
        self.free(R11);
        self.asm.bytes(&[0x44, 0x8b, 0x1c, 0x24]); // mov (%rsp), %r11d
        self.dirty = 0;
        if drop != 0 {
            self.asm.bytes(&[0x4c, 0x89, 0x9c, 0x24]); // mov %r11, drop(%rsp)
            self.asm.bytes(&u32::from(drop).to_le_bytes());
        }
        if shadow {
            self.asm.shadow_compare();
        }
        self.asm.table_lookup(table::Kind::Ret);
        if shadow {
            // Behind the last access that can fault.
            self.asm.shadow_consume();
            self.asm.reload(RCX);
        }
        self.asm.lea_rsp(8 + i32::from(drop));
        self.asm.jmp_r11();
    }

    /// A `ret` that is a jump (`flow::is_jump`): through the call table.
    pub(crate) fn ret_jump(&mut self) {
        self.free(R11);
        self.asm.bytes(&[0x44, 0x8b, 0x1c, 0x24]); // mov (%rsp), %r11d
        self.asm.store(R11, ctx::TARGET);
        self.asm.table_lookup(table::Kind::Call);
        self.asm.lea_rsp(8);
        self.asm.jmp_r11();
        self.dirty = 0;
    }

    // ---- stack frames ----

    /// `leave`: before the pop commits, the new rsp and the old rbp are the same number.
    pub(crate) fn leave(&mut self) {
        let s = if self.r11 == Home::Slot { R11 } else { RBP };
        if s == RBP {
            self.asm.spill(RBP);
        }
        self.asm.mov32(RSP, RBP);
        self.asm.load(s, ctx::SLOT_BASE);
        self.asm.lea_sum(RSP, RSP, s, true);
        self.asm.pop(RBP);
        self.commit_clean();
    }

    /// `enter size, 0`
    pub(crate) fn enter(&mut self, size: u16) {
        let size = i32::from(size);
        self.asm.push(RBP);
        self.asm.lea_rsp(-size);
        self.asm.bytes(&[0x8d, 0xac, 0x24]); // lea size(%rsp), %ebp
        self.asm.bytes(&size.to_le_bytes());
        self.commit_clean();
        if size != 0 {
            self.moved(size as u32);
        }
    }

    /// Commit point of a pattern whose last access confined rsp: a scratch of its own needs no undo behind it.
    fn commit_clean(&mut self) {
        self.commit();
        self.dirty = 0;
    }

    // ---- string operations (R9) ----

    /// movs, stos, lods, scas, cmps: real addresses in rsi and rdi, only inside the pattern.
    pub(crate) fn string(&mut self, item: &Item) {
        let i = &item.instr;
        let Some(mut p) = self.parts(item) else { return self.emulate_late(item.off) };
        let uses = |kinds: [OpKind; 2]| (0..i.op_count()).any(|n| kinds.contains(&i.op_kind(n)));
        let source = uses([OpKind::MemorySegRSI, OpKind::MemorySegESI]);
        let destination = uses([OpKind::MemoryESRDI, OpKind::MemoryESEDI]);
        let s = if self.r11 == Home::Slot { R11 } else { RDX };
        self.free(s);
        self.asm.load(s, ctx::SLOT_BASE);
        if p.addr32 && p.rep != 0 {
            self.asm.mov32(1, 1);
        }
        p.addr32 = false;
        for (used, r) in [(source, RSI), (destination, RDI)] {
            if used {
                self.asm.mov32(r, r);
                self.asm.lea_sum(r, r, s, true);
            }
        }
        p.write(&mut self.asm.code);
        self.commit();
        for (used, r) in [(source, RSI), (destination, RDI)] {
            if used {
                self.asm.mov32(r, r);
            }
        }
        self.give_back(s);
    }

    // ---- the guest's own fs and gs ----

    /// Memory operand relative to the segment base in scratch `s` (loaded by the caller).
    fn tls_memory(&mut self, i: &Instruction, p: &mut Parts, s: u8) {
        match (base(i), index(i)) {
            (None, x) => p.set_memory(Some(s), x, displacement(i)),
            (Some(b), None) => p.set_memory(Some(b), Some((s, 0)), displacement(i)),
            (Some(b), x) => {
                self.asm.lea_sum(s, b, s, false);
                // `pop` moves rsp before it makes the address.
                let moved =
                    if i.mnemonic() == Mnemonic::Pop && b == RSP { i.memory_size().size() as i32 } else { 0 };
                p.set_memory(Some(s), x, displacement(i).wrapping_add(moved));
            }
        }
        p.gs = true;
    }

    /// The destination of a plain load may carry the segment base before.
    fn own_scratch(i: &Instruction) -> Option<u8> {
        let load =
            matches!(i.mnemonic(), Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd);
        if !load || i.op0_kind() != OpKind::Register {
            return None;
        }
        let r = i.op0_register();
        let n = number(r);
        let free = (r.is_gpr64() || r.is_gpr32()) && base(i) != Some(n) && index(i).is_none_or(|x| x.0 != n);
        free.then_some(n)
    }

    fn tls_operand(&mut self, item: &Item) {
        let i = &item.instr;
        let vector_index = i.memory_index() != Register::None && !is_gpr(i.memory_index());
        let Some(mut p) = self.parts(item) else { return self.emulate_late(item.off) };
        let own = Self::own_scratch(i);
        let scratch = own.or_else(|| self.scratch(i));
        let (Some(s), false) = (scratch, vector_index || has_implicit_memory(i.mnemonic())) else {
            return self.emulate_late(item.off);
        };
        if !p.has_memory() && !p.make_moffs(0) {
            return self.emulate_late(item.off);
        }
        let mut longest = p.clone();
        longest.gs = true;
        longest.set_memory(Some(s), Some((s, 0)), displacement(i) | 1);
        if !longest.fits() {
            return self.emulate_late(item.off);
        }
        if own.is_none() {
            self.free(s);
        }
        self.asm.load(s, segment_slot(i));
        self.tls_memory(i, &mut p, s);
        p.write(&mut self.asm.code);
        self.commit();
        if own.is_none() {
            self.give_back(s);
        }
        if matches!(i.mnemonic(), Mnemonic::Push | Mnemonic::Pop) {
            self.dirty = 0;
        }
    }

    // ---- rsp as an operand ----

    fn rsp_operand(&mut self, n: usize, item: &Item) {
        let i = &item.instr;
        if has_tls_segment(i) && has_memory(i) {
            return self.emulate_late(item.off);
        }
        match i.mnemonic() {
            Mnemonic::Push if i.op0_register() == Register::RSP => self.push_rsp(),
            Mnemonic::Pop => self.pop_rsp(item),
            Mnemonic::Mov if is_rsp(i.op0_register()) => self.mov_to_rsp(item),
            Mnemonic::Mov if i.op0_kind() == OpKind::Register && i.op1_register() == Register::RSP => {
                self.asm.mov32(number(i.op0_register()), RSP);
            }
            _ if self.adjust(n, item) => {}
            _ if self.only_reads_low(i) => self.ordinary(item),
            _ => self.substitute(item),
        }
    }

    /// True if rsp is only read, and at most 32 bits of it: these are the offset's.
    fn only_reads_low(&mut self, i: &Instruction) -> bool {
        let info = self.factory.info(i);
        (0..i.op_count()).all(|n| {
            let rsp = i.op_kind(n) == OpKind::Register && is_rsp(i.op_register(n));
            !rsp || !i.op_register(n).is_gpr64() && info.op_access(n) == OpAccess::Read
        })
    }

    fn push_rsp(&mut self) {
        self.free(R11);
        self.asm.mov32(R11, RSP);
        self.asm.push(R11);
        self.commit_clean();
        self.give_back(R11);
    }

    fn pop_rsp(&mut self, item: &Item) {
        if item.instr.op0_register() != Register::RSP {
            return self.emulate_late(item.off);
        }
        self.asm.bytes(&[0x8b, 0x24, 0x24]); // mov (%rsp), %esp
        self.commit();
        self.rebase();
    }

    /// `mov ..., %rsp` (and esp): the low half of the source is the new offset.
    fn mov_to_rsp(&mut self, item: &Item) {
        let i = &item.instr;
        if !matches!(i.op0_register(), Register::RSP | Register::ESP) {
            return self.substitute(item);
        }
        match i.op1_kind() {
            OpKind::Register if is_gpr(i.op1_register()) => self.asm.mov32(RSP, number(i.op1_register())),
            OpKind::Memory => {
                let Some(mut p) = self.parts(item) else { return self.emulate_late(item.off) };
                p.set_size32();
                if !self.place_memory(item, &mut p) {
                    return self.emulate_late(item.off);
                }
                p.write(&mut self.asm.code);
            }
            OpKind::Register => return self.substitute(item),
            _ => self.asm.mov_imm32(RSP, i.immediate(1) as u32),
        }
        self.commit();
        self.rebase();
    }

    /// Small constant changes of rsp stay as they are (R2). False: `item` is none, or its flags are wanted.
    fn adjust(&mut self, n: usize, item: &Item) -> bool {
        let i = &item.instr;
        if i.op0_register() != Register::RSP
            || i.op_count() != 2
            || has_memory(i)
            || i.op1_kind() == OpKind::Register
        {
            return false;
        }
        let imm = i.immediate(1) as i64;
        let by = match i.mnemonic() {
            Mnemonic::Add | Mnemonic::Sub => imm.unsigned_abs(),
            Mnemonic::And if (-4096..0).contains(&imm) && imm.unsigned_abs().is_power_of_two() => {
                imm.unsigned_abs()
            }
            _ => return false,
        };
        if by > u64::from(MAX_DIRTY) || self.flags_after(n) == Flags::Live {
            return false;
        }
        let Some(mut p) = self.parts(item) else { return false };
        p.addr32 = false;
        self.make_room(item.off, by as u32);
        p.write(&mut self.asm.code);
        self.commit();
        self.moved(by as u32);
        self.probe_if_needed(n);
        true
    }

    /// `lea`: no memory access; rsp and rip become offsets (R11).
    pub(crate) fn lea(&mut self, n: usize, item: &Item) {
        let i = &item.instr;
        let to_rsp = matches!(i.op0_register(), Register::RSP | Register::ESP);
        if is_rsp(i.op0_register()) && !to_rsp {
            return self.emulate_late(item.off);
        }
        if i.is_ip_rel_memory_operand() {
            self.lea_rip(i);
        } else if to_rsp && self.lea_adjust(n, item) {
            return;
        } else {
            let Some(mut p) = self.parts(item) else { return self.emulate_late(item.off) };
            let uses_rsp = i.memory_base().full_register() == Register::RSP;
            if to_rsp || uses_rsp && i.op0_register().is_gpr64() {
                p.set_size32();
            }
            p.write(&mut self.asm.code);
        }
        self.commit();
        if to_rsp {
            self.rebase();
        }
    }

    fn lea_rip(&mut self, i: &Instruction) {
        let value = i.ip_rel_memory_address();
        let to = number(i.op0_register());
        if i.op0_register().is_gpr16() {
            self.asm.bytes(&[0x66]);
            self.asm.mov_imm16(to, value as u16);
        } else if i.op0_register().is_gpr32() || to == RSP || u32::try_from(value).is_ok() {
            self.asm.mov_imm32(to, value as u32);
        } else {
            self.asm.mov_imm64(to, value);
        }
    }

    /// `lea small(%rsp), %rsp`
    fn lea_adjust(&mut self, n: usize, item: &Item) -> bool {
        let i = &item.instr;
        let by = i.memory_displacement64() as i64;
        let fits = i.op0_register() == Register::RSP
            && i.memory_base() == Register::RSP
            && i.memory_index() == Register::None
            && by.unsigned_abs() <= u64::from(MAX_DIRTY);
        if !fits {
            return false;
        }
        self.make_room(item.off, by.unsigned_abs() as u32);
        self.asm.lea_rsp(by as i32);
        self.commit();
        self.moved(by.unsigned_abs() as u32);
        self.probe_if_needed(n);
        true
    }

    /// The general case: a scratch register with the offset stands in for rsp.
    fn substitute(&mut self, item: &Item) {
        let i = item.instr;
        let writes = {
            let info = self.factory.info(&i);
            (0..i.op_count()).any(|n| {
                i.op_kind(n) == OpKind::Register
                    && is_rsp(i.op_register(n))
                    && !matches!(info.op_access(n), OpAccess::Read)
            })
        };
        let scratch = self.scratch(&i);
        let parts = self.parts(item);
        let (Some(s), Some(p)) = (scratch, parts) else { return self.emulate_late(item.off) };
        let Some(mut p) = replace_rsp(&i, &p, s) else { return self.emulate_late(item.off) };
        if writes && !may_write_rsp(i.mnemonic()) || !self.place_memory(item, &mut p) {
            return self.emulate_late(item.off);
        }
        self.free(s);
        self.asm.mov32(s, RSP);
        p.write(&mut self.asm.code);
        if writes {
            self.asm.mov32(RSP, s);
            self.commit();
            self.rebase_by(s);
        } else {
            self.commit();
            self.give_back(s);
        }
    }
}

/// `p` with `s` in place of rsp; checked by decoding, so that the field is never guessed.
fn replace_rsp(i: &Instruction, p: &Parts, s: u8) -> Option<Parts> {
    let register_form = p.modrm.is_some_and(|m| m >> 6 == 3);
    [(true, false), (false, true), (true, true)].into_iter().find_map(|(reg, rm)| {
        let mut q = p.clone();
        if rm && !(register_form && p.rm() == RSP) || reg && p.reg() != RSP {
            return None;
        }
        if reg {
            q.set_reg(s);
        }
        if rm {
            q.set_rm(s);
        }
        is_replaced(i, &q, s).then_some(q)
    })
}

/// True if `q` is `i` with exactly the rsp operands replaced by `s`.
fn is_replaced(i: &Instruction, q: &Parts, s: u8) -> bool {
    let mut bytes = alloc::vec::Vec::with_capacity(16);
    q.write(&mut bytes);
    let d = Decoder::with_ip(64, &bytes, i.ip(), DecoderOptions::NONE).decode();
    d.code() == i.code()
        && (0..i.op_count()).all(|n| {
            if i.op_kind(n) != OpKind::Register {
                return d.op_kind(n) == i.op_kind(n);
            }
            let (old, new) = (i.op_register(n), d.op_register(n));
            if is_rsp(old) { number(new) == s && new.size() == old.size() } else { new == old }
        })
}
