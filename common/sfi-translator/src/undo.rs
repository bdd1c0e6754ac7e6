//! From a place in translated code back to the original state (R22).
//!
//! Neighbours: rows come from `emit`; the LibOS applies the result.
//! The emitted bytes of the row are decoded from its start to the interrupted place. What they did so far is undone if
//! the commit point is not passed, else only tidied up. Only spill slots are ever named as a source.
//! rsp is always to be set anew from its low half (`truncate`), which makes it clean for a restart at any entry.
//! What is left shows no translated address: the program's rcx is lost in the pattern of `syscall`, which overwrites it.
//! Invariants: works on any bytes without panic; an address that is no instruction boundary of a row gives `None`.

use crate::asm::{RDI, RSI, RSP};
use crate::{Row, ShadowWord, Undo};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};
use occlum_sfi_spec::ctx;

/// What to do so that the state at `translated_pc` becomes an original one.
pub fn undo(rows: &[Row], code: &[u8], base: u32, translated_pc: u32) -> Option<Undo> {
    let at = translated_pc.checked_sub(base)?;
    if at as usize >= code.len() {
        return None;
    }
    let row = rows[..rows.partition_point(|r| r.start <= at)].last()?;
    let mut state = Undo { pc: row.off, ..Undo::default() };
    if row.home {
        state.restore[11] = true;
    }
    let bytes = code.get(row.start as usize..at as usize)?;
    let mut decoder = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE);
    while decoder.can_decode() {
        let i = decoder.decode();
        if i.is_invalid() {
            return None;
        }
        track(&i, &mut state);
        if i.code() == Code::Lea_r64_m && i.is_ip_rel_memory_operand() {
            state.rcx = Some(row.off.wrapping_add(u32::from(row.len)));
        }
    }
    if row.commit != Row::NEVER && at - row.start >= u32::from(row.commit) {
        state.pc = row.off.wrapping_add(u32::from(row.len));
        state.rsp_delta = 0;
        state.shadow = ShadowWord::Kept;
        state.restore[usize::from(RSP)] = false;
    }
    // rsp may be dirty, or hold an offset between two halves of a pattern: an original state needs it inside the slot.
    state.truncate[usize::from(RSP)] = true;
    Some(state)
}

/// Applies the effect of one executed pattern instruction to the account.
fn track(i: &Instruction, state: &mut Undo) {
    match i.code() {
        Code::Mov_rm64_r64 => {
            if let Some(n) = spill_slot(i, i.op1_register()) {
                state.restore[n] = true;
            }
        }
        Code::Mov_r64_rm64 => {
            if let Some(n) = spill_slot(i, i.op0_register()) {
                state.restore[n] = false;
            }
        }
        Code::Mov_rm32_r32 if i.op0_kind() == OpKind::Register && i.op0_register() == i.op1_register() => {
            state.truncate[i.op0_register().number()] = false;
        }
        Code::Lea_r64_m => track_lea(i, state),
        Code::Mov_rm64_imm32 if i.memory_base() == Register::RSP && i.memory_index() == Register::R11 => {
            state.shadow = ShadowWord::Pushed;
        }
        Code::Mov_rm32_imm32 if i.memory_base() == Register::RSP && i.memory_index() == Register::RCX => {
            state.shadow = ShadowWord::Consumed;
        }
        Code::Pushq_imm8 | Code::Pushq_imm32 | Code::Push_r64 => {
            state.rsp_delta = state.rsp_delta.wrapping_add(8);
        }
        _ => {}
    }
}

fn track_lea(i: &Instruction, state: &mut Undo) {
    let n = i.op0_register().number();
    if i.op0_register() != i.memory_base() {
        return;
    }
    if i.memory_index() == Register::None && n == usize::from(RSP) {
        state.rsp_delta = state.rsp_delta.wrapping_sub(i.memory_displacement64() as i32);
    } else if n == usize::from(RSI) || n == usize::from(RDI) {
        state.truncate[n] = true;
    }
}

/// Register number if `i` moves `reg` to or from its own spill slot.
fn spill_slot(i: &Instruction, reg: Register) -> Option<usize> {
    let is_slot = i.segment_prefix() == Register::FS
        && i.memory_base() == Register::None
        && i.memory_index() == Register::None
        && i.memory_displacement64() == u64::from(ctx::spill(reg.number() as u32));
    is_slot.then(|| reg.number())
}
