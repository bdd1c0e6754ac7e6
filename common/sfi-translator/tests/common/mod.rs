//! Helpers of the translator's tests: configuration, an empty code map, ELF text sections, and a small checker of
//! emitted code (what may stand in a fragment at all; not the automaton).

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod machine;
mod shared;

pub use shared::*;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};
use occlum_sfi_spec::{Returns, ctx, table};
use occlum_sfi_translator::{Config, Fragment, Row};
use std::collections::BTreeMap;

/// With the plain returns and with the shadow stack.
pub const fn configs() -> [Config; 2] {
    [config(), Config { returns: Returns::Shadow, ..config() }]
}

/// Executable sections whose name starts with `prefix`.
pub fn named_sections(file: &[u8], prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let wanted = |s: &Section| s.code && s.name.starts_with(prefix) && !s.content.is_empty();
    sections(file).into_iter().filter(wanted).map(|s| (s.name, s.content)).collect()
}

/// Names the first emitted instruction that no rule allows.
pub fn check(f: &Fragment) -> Result<(), String> {
    let mut d = Decoder::with_ip(64, &f.code, u64::from(f.base), DecoderOptions::NONE);
    let mut before = Instruction::default();
    while d.can_decode() {
        let at = d.position();
        let i = d.decode();
        let bytes = &f.code[at..at + i.len()];
        let trap = bytes == [0x0f, 0x0b] && before.code() == Code::Jrcxz_rel8_64;
        let good = allowed(&i, bytes) && !is_dangerous(&i) && has_good_pointers(&i, bytes, &before);
        if i.is_invalid() || !good && !trap {
            return Err(format!("{:#x}: {i} [{bytes:02x?}]", i.ip()));
        }
        before = i;
    }
    Ok(())
}

/// rsi and rdi without `65 67` only in a string operation directly behind the addition of the base.
fn has_good_pointers(i: &Instruction, bytes: &[u8], before: &Instruction) -> bool {
    let real = (0..i.op_count())
        .any(|n| matches!(i.op_kind(n), OpKind::MemorySegRSI | OpKind::MemoryESRDI | OpKind::MemorySegRDI));
    let added = before.mnemonic() == iced_x86::Mnemonic::Lea
        && matches!(before.op0_register(), Register::RSI | Register::RDI)
        && matches!(before.memory_index(), Register::RDX | Register::R11);
    !real || i.is_string_instruction() && added && !bytes.contains(&0x67)
}

/// Instructions that may not be emitted whatever their operands are.
fn is_dangerous(i: &Instruction) -> bool {
    use iced_x86::{CpuidFeature as F, Mnemonic as M};
    let features = i.cpuid_features().iter().all(|f| FEATURES.contains(f));
    let name = format!("{:?}", i.mnemonic()).to_lowercase();
    let named = [
        "popf", "int", "iret", "fnstenv", "fnsave", "fldenv", "frstor", "sgdt", "sidt", "sldt", "str", "smsw",
    ];
    let named = named.contains(&name.as_str()) || name.starts_with("popf") || name.starts_with("iret");
    let special = (0..i.op_count()).any(|n| {
        let r = i.op_register(n);
        i.op_kind(n) == OpKind::Register && (r.is_segment_register() || r.is_cr() || r.is_dr())
    });
    let ordinary = matches!(i.encoding(), iced_x86::EncodingKind::Legacy | iced_x86::EncodingKind::VEX);
    let lookalike = i.cpuid_features().contains(&F::D3NOW) && !name.starts_with("prefetch");
    !features || named || special || !ordinary || lookalike || i.is_privileged() || i.mnemonic() == M::Syscall
}

fn allowed(i: &Instruction, bytes: &[u8]) -> bool {
    let target = i.near_branch_target();
    let addr32 = bytes.starts_with(&[0x65, 0x67]);
    for n in 0..i.op_count() {
        let good = match i.op_kind(n) {
            OpKind::NearBranch64 => return (0x2000_0000..0x8000_0000).contains(&target),
            OpKind::MemorySegEDI | OpKind::MemorySegESI | OpKind::MemoryESEDI => addr32,
            OpKind::Memory => allowed_memory(i, bytes),
            _ => true,
        };
        if !good {
            return false;
        }
    }
    match i.flow_control() {
        iced_x86::FlowControl::Next => true,
        iced_x86::FlowControl::IndirectBranch => {
            i.code() == Code::Jmp_rm64 && i.op0_register() == Register::R11
        }
        _ => false,
    }
}

fn allowed_memory(i: &Instruction, bytes: &[u8]) -> bool {
    if i.mnemonic() == iced_x86::Mnemonic::Nop {
        return bytes == [0x0f, 0x1f, 0x00];
    }
    if i.mnemonic() == iced_x86::Mnemonic::Lea {
        let wide_rsp = i.memory_base() == Register::RSP && i.op0_register().is_gpr64();
        return !i.is_ip_rel_memory_operand() && (!wide_rsp || i.op0_register() == Register::RSP)
            || i.op0_register() == Register::RCX;
    }
    if bytes[0] == 0x65 && bytes[1] != 0x67 {
        let lookup =
            [0, table::CALL_DISP].iter().any(|disp| bytes == [0x65, 0x46, 0x8b, 0x1c, 0x9d, *disp, 0, 0, 0]);
        return lookup || bytes.starts_with(&[0x65, 0x0f, 0x18, 0x0c, 0x25]) && bytes.len() == 9;
    }
    if bytes.starts_with(&[0x65, 0x67]) {
        let tail = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67];
        return !tail.contains(&bytes[2])
            && !i.is_ip_rel_memory_operand()
            && matches!(i.segment_prefix(), Register::GS);
    }
    if bytes[0] == 0x64 {
        let slot = i.memory_displacement64() as u32;
        return i.memory_base() == Register::None && i.memory_index() == Register::None && slot < ctx::SIZE;
    }
    if is_shadow_access(bytes) {
        return true;
    }
    i.memory_base() == Register::RSP
        && i.memory_index() == Register::None
        && (i.memory_displacement64() as i64).abs() <= 16 << 10
        && i.segment_prefix() == Register::None
}

/// The three accesses to shadow words.
fn is_shadow_access(bytes: &[u8]) -> bool {
    bytes == [0x48, 0x8b, 0x0c, 0x0c]
        || bytes == [0xc7, 0x44, 0x0c, 4, 0, 0, 0, 0]
        || bytes.starts_with(&[0x4a, 0xc7, 0x04, 0x1c])
}

/// Mnemonics of the original instructions that `f` leaves to the emulate stub.
pub fn emulated(f: &Fragment, start: u32, bytes: &[u8]) -> Vec<Instruction> {
    let last_of = |r: &Row| !f.rows.iter().any(|q| q.start == r.start && q.off > r.off);
    f.rows
        .iter()
        .filter(|r| last_of(r))
        .filter(|r| {
            let at = r.start as usize;
            let Some(code) = f.code.get(at..at + 17) else { return false };
            let rel = i32::from_le_bytes([code[13], code[14], code[15], code[16]]);
            let to = f.base.wrapping_add(r.start + 17).wrapping_add_signed(rel);
            code.starts_with(&[0x64, 0xc7, 0x04, 0x25, ctx::EXIT as u8])
                && code[12] == 0xe9
                && to == STUBS.emulate
        })
        .map(|r| {
            let at = (r.off - start) as usize;
            Decoder::with_ip(64, &bytes[at..], u64::from(r.off), DecoderOptions::NONE).decode()
        })
        .collect()
}

/// The rsp automaton of R2 over emitted code: clean, dirty by so many bytes, or holding an offset between two halves of
/// a pattern. It must be clean at every entry, branch target, branch and stub.
pub fn check_stack(f: &Fragment) -> Result<(), String> {
    let all: Vec<Instruction> =
        Decoder::with_ip(64, &f.code, u64::from(f.base), DecoderOptions::NONE).iter().collect();
    let mut targets: Vec<u32> = all.iter().map(|i| i.near_branch_target() as u32).collect();
    targets.extend(f.entries.iter().map(|e| e.at));
    targets.sort_unstable();
    let mut dirty = Some(0u64); // None: an offset, not an address
    for (k, i) in all.iter().enumerate() {
        let at_target = targets.binary_search(&(i.ip() as u32)).is_ok();
        if at_target && dirty != Some(0) {
            return Err(format!("{:#x}: not clean at a target", i.ip()));
        }
        dirty =
            step(i, dirty, k.checked_sub(1).map(|p| &all[p])).ok_or_else(|| format!("{:#x}: {i}", i.ip()))?;
    }
    Ok(())
}

/// Next state; None: not allowed.
fn step(i: &Instruction, dirty: Option<u64>, before: Option<&Instruction>) -> Option<Option<u64>> {
    use iced_x86::{InstructionInfoFactory, Mnemonic as M, OpAccess};
    let rsp = |n: u32| i.op_kind(n) == OpKind::Register && i.op_register(n).full_register() == Register::RSP;
    if i.flow_control() != iced_x86::FlowControl::Next {
        // `ret`: the access at 0(%rsp) came first, then the lea; the indirect jump may follow. Its trap goes nowhere.
        if i.mnemonic() == M::Ud2 {
            return (dirty == Some(0)).then_some(dirty);
        }
        return (dirty == Some(0) || i.op0_register() == Register::R11 && dirty.is_some()).then_some(Some(0));
    }
    if i.mnemonic() == M::Lea {
        if !rsp(0) {
            return Some(dirty);
        }
        if i.op0_register() == Register::ESP {
            return Some(None);
        }
        if i.memory_index() != Register::None {
            let loaded = before.is_some_and(|b| {
                b.mnemonic() == M::Mov
                    && b.op0_register() == i.memory_index()
                    && b.segment_prefix() == Register::FS
                    && b.memory_displacement64() == u64::from(ctx::SLOT_BASE)
            });
            return (loaded && dirty.is_none()).then_some(Some(0));
        }
        let by = (i.memory_displacement64() as i64).unsigned_abs();
        return dirty.map(|d| d + by).filter(|&d| d <= 33 << 10).map(Some);
    }
    if matches!(i.mnemonic(), M::Push | M::Pop) {
        return dirty.filter(|&d| d <= 33 << 10).map(|_| Some(0));
    }
    let mut info = InstructionInfoFactory::new();
    let info = info.info(i);
    let writes = (0..i.op_count()).any(|n| rsp(n) && !matches!(info.op_access(n), OpAccess::Read));
    let stack = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory)
        && i.segment_prefix() == Register::None
        && i.memory_base() == Register::RSP
        && !matches!(i.mnemonic(), M::Nop);
    if stack {
        let displacement = i.memory_displacement64() as i64;
        dirty?;
        if writes {
            return (i.op0_register() == Register::ESP).then_some(None);
        }
        let conditional = format!("{:?}", i.mnemonic()).to_lowercase();
        let conditional = conditional.starts_with("prefetch")
            || conditional.contains("maskmov")
            || conditional.starts_with("cl");
        return Some(if (0..4096).contains(&displacement) && !conditional { Some(0) } else { dirty });
    }
    if !writes {
        return Some(dirty);
    }
    match i.mnemonic() {
        M::Add | M::Sub | M::And if i.op0_register() == Register::RSP && i.op1_kind() != OpKind::Register => {
            let by = (i.immediate(1) as i64).unsigned_abs();
            dirty.map(|d| d + by).filter(|&d| d <= 33 << 10).map(Some)
        }
        M::Mov if i.op0_register() == Register::ESP => Some(None),
        _ => None,
    }
}
