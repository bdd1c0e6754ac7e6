//! What control-flow integrity needs to know of a fragment: which `ret`s are jumps, where calls return to, which code
//! addresses its instructions make (`docs/cfi.md`).
//!
//! Neighbours: `emit` asks and passes the answers on in `Fragment`; the policy is the LibOS's.
//! Invariants: what is not understood is a plain `ret`, which is the narrower kind; the answers depend on the fragment's
//! own instructions alone, so that every process that shares it gets the same.

use crate::Source;
use crate::classify::Class;
use crate::emit::has_memory;
use crate::extent::{Extent, Item, linear};
use alloc::vec::Vec;
use iced_x86::{Code, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use occlum_sfi_spec::domain;

/// What code says of control flow as a whole: for reports, ahead of time.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Bytes that were decoded: up to the last whole instruction.
    pub len: u32,
    /// Where its instructions begin.
    pub boundaries: Vec<u32>,
    /// As in `Fragment`.
    pub returns: Vec<u32>,
    /// As in `Fragment`.
    pub taken: Vec<u32>,
    /// As in `Fragment`.
    pub spreads: Vec<u32>,
}

/// Decodes all of `src` one instruction after the other.
pub fn survey(src: Source<'_>) -> Survey {
    let extent = linear(src);
    Survey {
        len: extent.items.last().map_or(0, |i| i.next().wrapping_sub(src.start)),
        boundaries: extent.items.iter().map(|i| i.off).collect(),
        returns: returns(&extent),
        taken: taken(&extent),
        spreads: spreads(&extent, &mut InstructionInfoFactory::new()),
    }
}

/// How many instructions before a `ret` are looked at.
const LOOK_BACK: usize = 40;

/// What an instruction before a `ret` tells about where that goes.
enum Before {
    /// The return address lies this much higher, seen from before it.
    Higher(i64),
    /// It put the return address there itself, or rsp: the `ret` is a jump.
    Jump,
    /// It pushed this register as the return address.
    Push(Register),
    /// A frame was left, or the instruction is not understood: the `ret` is a return.
    Return,
}

/// Is the `ret` at `items[n]` a jump to an address that its own straight-line code pushed or stored, or that lies on a
/// stack which this code switched to?
pub(crate) fn is_jump(extent: &Extent, n: usize, factory: &mut InstructionInfoFactory) -> bool {
    let mut slot = 0i64;
    let mut line = straight_line(extent, n);
    while let Some(i) = line.next() {
        match before(i, slot, factory) {
            Before::Higher(by) => slot = slot.wrapping_add(by),
            Before::Jump => return true,
            Before::Push(r) => return !was_popped(line, r, factory),
            Before::Return => return false,
        }
    }
    false
}

/// The instructions before item `n` that run whenever it does not come by a jump, the nearest first; none before a call.
fn straight_line(extent: &Extent, n: usize) -> impl Iterator<Item = &Instruction> {
    let mut after = extent.items[n].off;
    let near = extent.items[..n].iter().rev().take(LOOK_BACK);
    let line = near.take_while(move |item| {
        let before = item.next() == after && !item.class.ends_block() && !item.class.is_call();
        after = item.off;
        before
    });
    line.map(|item| &item.instr)
}

/// Was what `r` holds popped before? Then a push of it puts a return address back, with arguments dropped or a system
/// call made in between.
fn was_popped<'a>(
    line: impl Iterator<Item = &'a Instruction>,
    r: Register,
    factory: &mut InstructionInfoFactory,
) -> bool {
    for i in line {
        if i.mnemonic() == Mnemonic::Pop && i.op0_kind() == OpKind::Register && i.op0_register() == r {
            return true;
        }
        let mut used = factory.info(i).used_registers().iter();
        if used.any(|u| u.register().full_register() == r && !matches!(u.access(), OpAccess::Read)) {
            return false;
        }
    }
    false
}

fn before(i: &Instruction, slot: i64, factory: &mut InstructionInfoFactory) -> Before {
    if stores_at(i, slot, factory) {
        return Before::Jump;
    }
    match i.mnemonic() {
        Mnemonic::Push if slot == 0 && i.op0_kind() == OpKind::Register => Before::Push(i.op0_register()),
        Mnemonic::Push | Mnemonic::Pushfq if slot == 0 => Before::Jump,
        Mnemonic::Push | Mnemonic::Pushfq => Before::Higher(-8),
        Mnemonic::Pop if i.op0_kind() == OpKind::Register && is_rsp(i.op0_register()) => Before::Jump,
        Mnemonic::Pop | Mnemonic::Popfq => Before::Higher(8),
        Mnemonic::Leave | Mnemonic::Enter => Before::Return,
        _ if !writes_rsp(i, factory) => Before::Higher(0),
        _ => before_write(i),
    }
}

/// An instruction that writes rsp as an operand.
fn before_write(i: &Instruction) -> Before {
    let immediate = i.op_count() == 2 && i.op1_kind() != OpKind::Register && !has_memory(i);
    match i.mnemonic() {
        Mnemonic::Add if immediate => Before::Higher(i.immediate(1) as i64),
        Mnemonic::Sub if immediate => Before::Higher((i.immediate(1) as i64).wrapping_neg()),
        Mnemonic::Lea if i.memory_base() == Register::RSP && i.memory_index() == Register::None => {
            Before::Higher(i.memory_displacement64() as i64)
        }
        // What compilers do at the end of a frame, also of one with a realigned or variable stack.
        Mnemonic::Mov if i.op1_kind() == OpKind::Register && i.op1_register() == Register::RBP => {
            Before::Return
        }
        Mnemonic::Lea => Before::Return,
        Mnemonic::Mov | Mnemonic::Xchg => Before::Jump,
        _ => Before::Return,
    }
}

fn is_rsp(r: Register) -> bool {
    r.is_gpr() && r.full_register() == Register::RSP
}

fn writes_rsp(i: &Instruction, factory: &mut InstructionInfoFactory) -> bool {
    let info = factory.info(i);
    (0..i.op_count()).any(|n| {
        i.op_kind(n) == OpKind::Register
            && is_rsp(i.op_register(n))
            && !matches!(info.op_access(n), OpAccess::Read | OpAccess::None | OpAccess::NoMemAccess)
    })
}

/// Does `i` write memory at `slot` bytes above rsp?
fn stores_at(i: &Instruction, slot: i64, factory: &mut InstructionInfoFactory) -> bool {
    // `pop n(%rsp)` takes rsp as it is behind the pop, all others leave it.
    i.memory_base() == Register::RSP
        && i.memory_index() == Register::None
        && i.memory_displacement64() as i64 == slot
        && (0..i.op_count()).any(|n| {
            i.op_kind(n) == OpKind::Memory
                && matches!(
                    factory.info(i).op_access(n),
                    OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite
                )
        })
}

/// Where the calls of a fragment return to.
pub(crate) fn returns(extent: &Extent) -> Vec<u32> {
    let call = |i: &&Item| matches!(i.instr.code(), Code::Call_rel32_64 | Code::Call_rm64);
    extent.items.iter().filter(call).map(Item::next).collect()
}

/// The constants of a fragment that may be addresses of code: what `lea` of rip, `mov` and `push` make.
pub(crate) fn taken(extent: &Extent) -> Vec<u32> {
    let mut all: Vec<u32> = extent.items.iter().filter_map(|i| constant(&i.instr)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn constant(i: &Instruction) -> Option<u32> {
    let value = match i.code() {
        Code::Lea_r64_m if i.is_ip_rel_memory_operand() => i.ip_rel_memory_address(),
        Code::Mov_r32_imm32 | Code::Mov_r64_imm64 | Code::Mov_rm64_imm32 | Code::Mov_rm32_imm32 => {
            i.immediate(1)
        }
        Code::Pushq_imm32 => i.immediate(0),
        _ => return None,
    };
    (domain::MAP_MIN..domain::EXEC_MAX).contains(&value).then_some(value as u32)
}

/// The labels to which code adds an index before it jumps to the sum: `lea L(%rip),%r; lea (%r,%i,8),%r; jmp *%r`, or with
/// `add`. Steps of equal size follow there.
pub(crate) fn spreads(extent: &Extent, factory: &mut InstructionInfoFactory) -> Vec<u32> {
    let mut found = Vec::new();
    if !extent.items.iter().any(|i| i.class == Class::JmpIndirect) {
        return found;
    }
    // What each register holds: a label, or a label with something added.
    let mut held: [Option<(u32, bool)>; 16] = [None; 16];
    for item in &extent.items {
        let i = &item.instr;
        if item.class == Class::JmpIndirect && i.op0_kind() == OpKind::Register {
            found.extend(held[i.op0_register().number() & 15].filter(|h| h.1).map(|h| h.0));
        }
        let sum = sum_of_label(i, &held);
        for r in factory.info(i).used_registers() {
            let r64 = r.register().full_register();
            if r64.is_gpr64() && !matches!(r.access(), OpAccess::Read | OpAccess::CondRead) {
                held[r64.number() & 15] = None;
            }
        }
        if let Some(h) = sum {
            held[i.op0_register().full_register().number() & 15] = Some(h);
        }
    }
    found
}

/// The label that `i` puts into its first operand, and whether with something added.
fn sum_of_label(i: &Instruction, held: &[Option<(u32, bool)>; 16]) -> Option<(u32, bool)> {
    let of = |r: Register| if r.is_gpr64() { held[r.number() & 15] } else { None };
    let label = match i.code() {
        Code::Lea_r64_m if i.is_ip_rel_memory_operand() => {
            return u32::try_from(i.ip_rel_memory_address()).ok().map(|label| (label, false));
        }
        Code::Lea_r64_m => of(i.memory_base()).or(of(i.memory_index())),
        Code::Add_r64_rm64 | Code::Add_rm64_r64 | Code::Sub_r64_rm64 | Code::Sub_rm64_r64
            if i.op0_kind() == OpKind::Register =>
        {
            let other = if i.op1_kind() == OpKind::Register { of(i.op1_register()) } else { None };
            of(i.op0_register()).or(other)
        }
        _ => None,
    };
    label.map(|(label, _)| (label, true))
}
