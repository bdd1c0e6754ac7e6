//! Instructions that need one page at two of its places at once, where no page is at two places (`mm::copies`): the stack
//! and an operand, source and target of a copy, or the two ends of an operand in a ring that is mapped twice.
//!
//! Neighbours: `syscall::page_fault` asks, when a page that was brought in came from another place of the same domain.
//! Invariants: other threads of the domain are outside between reading and writing an operand, and other domains need the
//! kernel to reach the page, so LOCK holds; what would fault has changed nothing.
use super::address;
use crate::errno::Result;
use crate::mm::{PAGE, parts};
use crate::process::Task;
use crate::signal::{self, Info};
use crate::uaccess;
use alloc::format;
use alloc::sync::Arc;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use occlum_linux_abi::signo::SIGBUS;

const CF: u64 = 1;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const DF: u64 = 1 << 10;
const OF: u64 = 1 << 11;
const RCX: usize = 1;
const RSP: usize = 4;
const RSI: usize = 6;
const RDI: usize = 7;
/// Elements of a string that are copied before the task can be interrupted.
const STRING_MAX: u64 = 4096;

/// What a task was about to do when it met a page that its own domain had at another place.
pub type Attempt = (u32, [u64; 16]);

/// The task is about to try its instruction again. It did so before in the very same state: then the LibOS executes it.
pub fn attempt(t: &Arc<Task>) {
    let pc = t.rt.rip();
    let now = (pc, core::array::from_fn(|n| t.rt.gpr(n)));
    if t.attempt.replace(Some(now)) != Some(now) {
        return;
    }
    let Ok(insn) = super::decode(pc) else { return };
    occlum_rt::vcpu::stop_others(t.rt.slot());
    match execute(t, &insn) {
        Some(Ok(Done::Next)) => t.rt.set_rip(insn.next_ip32()),
        Some(Ok(Done::Again)) => {}
        // The fault is raised by the instruction itself.
        Some(Err(_)) => {}
        None if needs_both(t, &insn) => {
            let what = insn.mnemonic();
            occlum_rt::log(&format!(
                "occlum: pid {}: {what:?} at {pc:#x} needs a shared page at two places\n",
                t.process.pid
            ));
            signal::force(t, SIGBUS as i32, Info::fault(2, address(t, &insn)));
        }
        None => {}
    }
}

enum Done {
    Next,
    Again,
}

/// Can the instruction not get on with one place at a time?
fn needs_both(t: &Task, insn: &Instruction) -> bool {
    let size = insn.memory_size().size() as u64;
    insn.is_call_near_indirect() || address(t, insn) % PAGE + size > PAGE
}

fn execute(t: &Task, insn: &Instruction) -> Option<Result<Done>> {
    Some(match insn.mnemonic() {
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq
            if insn.op0_kind() == OpKind::MemoryESRDI =>
        {
            copy_string(t, insn)
        }
        Mnemonic::Push if insn.op0_kind() == OpKind::Memory => push(t, insn),
        Mnemonic::Pop if insn.op0_kind() == OpKind::Memory => pop(t, insn),
        _ if insn.op0_kind() != OpKind::Memory => return None,
        Mnemonic::Mov => store(t, insn),
        Mnemonic::Movups
        | Mnemonic::Movupd
        | Mnemonic::Movdqu
        | Mnemonic::Movq
        | Mnemonic::Movd
        | Mnemonic::Vmovups
        | Mnemonic::Vmovupd
        | Mnemonic::Vmovdqu
        | Mnemonic::Vmovq
        | Mnemonic::Vmovd => return store_vector(t, insn),
        m => return change(t, insn, m),
    })
}

fn read(at: u64, size: usize) -> Result<u64> {
    let mut bytes = [0; 8];
    uaccess::read_bytes(at, &mut bytes[..size])?;
    Ok(u64::from_le_bytes(bytes))
}

/// All or nothing: what cannot be written at all is known before anything is.
fn write(at: u64, bytes: &[u8]) -> Result<()> {
    for part in parts(at, bytes.len()) {
        let mut old = [0];
        uaccess::read_bytes(at + part.start as u64, &mut old)?;
        uaccess::write_bytes(at + part.start as u64, &old)?;
    }
    uaccess::write_bytes(at, bytes)
}

fn is_high(r: Register) -> bool {
    matches!(r, Register::AH | Register::CH | Register::DH | Register::BH)
}

fn register(t: &Task, r: Register) -> u64 {
    t.rt.gpr(r.full_register().number()) >> if is_high(r) { 8 } else { 0 }
}

fn set_register(t: &Task, r: Register, v: u64) {
    let n = r.full_register().number();
    let part = match r.size() {
        8 => u64::MAX,
        4 => return t.rt.set_gpr(n, v & 0xffff_ffff),
        2 => 0xffff,
        _ => 0xff,
    };
    let shift = if is_high(r) { 8 } else { 0 };
    t.rt.set_gpr(n, t.rt.gpr(n) & !(part << shift) | (v & part) << shift);
}

/// The second operand: a register or an immediate.
fn source(t: &Task, insn: &Instruction) -> Option<u64> {
    match insn.op1_kind() {
        OpKind::Register if insn.op1_register().is_gpr() => Some(register(t, insn.op1_register())),
        OpKind::Register | OpKind::Memory => None,
        _ => Some(insn.immediate(1)),
    }
}

fn copy_string(t: &Task, insn: &Instruction) -> Result<Done> {
    let size = insn.memory_size().size();
    let step = (size as u64).wrapping_mul(if t.rt.rflags() & DF != 0 { u64::MAX } else { 1 });
    let repeats = insn.has_rep_prefix() || insn.has_repne_prefix();
    let mut left = if repeats { t.rt.gpr(RCX).min(STRING_MAX) } else { 1 };
    while left > 0 {
        let (from, to) = (t.rt.gpr(RSI), t.rt.gpr(RDI));
        let v = read(from & 0xffff_ffff, size)?;
        write(to & 0xffff_ffff, &v.to_le_bytes()[..size])?;
        t.rt.set_gpr(RSI, from.wrapping_add(step));
        t.rt.set_gpr(RDI, to.wrapping_add(step));
        left -= 1;
        if repeats {
            t.rt.set_gpr(RCX, t.rt.gpr(RCX) - 1);
        }
    }
    Ok(if repeats && t.rt.gpr(RCX) != 0 { Done::Again } else { Done::Next })
}

fn push(t: &Task, insn: &Instruction) -> Result<Done> {
    let size = insn.memory_size().size();
    let v = read(address(t, insn), size)?;
    let sp = t.rt.gpr(RSP).wrapping_sub(size as u64) & 0xffff_ffff;
    write(sp, &v.to_le_bytes()[..size])?;
    t.rt.set_gpr(RSP, sp);
    Ok(Done::Next)
}

fn pop(t: &Task, insn: &Instruction) -> Result<Done> {
    let size = insn.memory_size().size();
    let sp = t.rt.gpr(RSP);
    let v = read(sp, size)?;
    // The address is that behind the pop.
    t.rt.set_gpr(RSP, sp.wrapping_add(size as u64));
    let written = write(address(t, insn), &v.to_le_bytes()[..size]);
    if written.is_err() {
        t.rt.set_gpr(RSP, sp);
    }
    written.map(|()| Done::Next)
}

fn store(t: &Task, insn: &Instruction) -> Result<Done> {
    let size = insn.memory_size().size();
    let v = source(t, insn).unwrap_or(0);
    write(address(t, insn), &v.to_le_bytes()[..size]).map(|()| Done::Next)
}

fn store_vector(t: &Task, insn: &Instruction) -> Option<Result<Done>> {
    let (size, r) = (insn.memory_size().size(), insn.op1_register());
    let mut bytes = [0; 32];
    if r.is_gpr() {
        bytes[..8].copy_from_slice(&register(t, r).to_le_bytes());
    } else if r.is_xmm() || r.is_ymm() {
        let (x, n) = (t.rt.xsave(), r.number());
        bytes[..16].copy_from_slice(&x[160 + 16 * n..176 + 16 * n]);
        bytes[16..].copy_from_slice(&x[576 + 16 * n..592 + 16 * n]);
    } else {
        return None;
    }
    Some(write(address(t, insn), bytes.get(..size)?).map(|()| Done::Next))
}

/// Reads, computes, writes, and then sets flags and registers.
fn change(t: &Task, insn: &Instruction, m: Mnemonic) -> Option<Result<Done>> {
    let size = insn.memory_size().size();
    if size > 8 {
        return None;
    }
    let (at, bits) = (address(t, insn), 8 * size as u32);
    let b = if insn.op_count() > 1 { source(t, insn)? } else { 1 };
    let old = match read(at, size) {
        Ok(v) => v,
        Err(e) => return Some(Err(e)),
    };
    let carry = t.rt.rflags() & CF;
    let (new, flags) = match m {
        Mnemonic::Add | Mnemonic::Xadd => sum(old, b, 0, bits),
        Mnemonic::Adc => sum(old, b, carry, bits),
        Mnemonic::Sub => difference(old, b, 0, bits),
        Mnemonic::Sbb => difference(old, b, carry, bits),
        Mnemonic::Inc => keep_carry(sum(old, 1, 0, bits), carry),
        Mnemonic::Dec => keep_carry(difference(old, 1, 0, bits), carry),
        Mnemonic::Neg => difference(0, old, 0, bits),
        Mnemonic::And => logic(old & b, bits),
        Mnemonic::Or => logic(old | b, bits),
        Mnemonic::Xor => logic(old ^ b, bits),
        Mnemonic::Not => (!old, t.rt.rflags()),
        Mnemonic::Xchg => (b, t.rt.rflags()),
        Mnemonic::Cmpxchg => {
            let (rest, flags) = difference(register(t, Register::RAX), old, 0, bits);
            (if cut(rest, bits) == 0 { b } else { old }, flags)
        }
        _ => return None,
    };
    if let Err(e) = write(at, &new.to_le_bytes()[..size]) {
        return Some(Err(e));
    }
    match m {
        Mnemonic::Xadd | Mnemonic::Xchg => set_register(t, insn.op1_register(), old),
        Mnemonic::Cmpxchg if flags & ZF == 0 => set_register(t, accumulator(size), old),
        _ => {}
    }
    t.rt.set_rflags(t.rt.rflags() & !(CF | PF | AF | ZF | SF | OF) | flags & (CF | PF | AF | ZF | SF | OF));
    Some(Ok(Done::Next))
}

fn accumulator(size: usize) -> Register {
    match size {
        8 => Register::RAX,
        4 => Register::EAX,
        2 => Register::AX,
        _ => Register::AL,
    }
}

fn cut(v: u64, bits: u32) -> u64 {
    v & (u64::MAX >> (64 - bits))
}

/// PF, ZF and SF of a result.
fn result_flags(r: u64, bits: u32) -> u64 {
    let even = (r as u8).count_ones().is_multiple_of(2);
    let zero = cut(r, bits) == 0;
    (if even { PF } else { 0 })
        | (if zero { ZF } else { 0 })
        | (if r >> (bits - 1) & 1 != 0 { SF } else { 0 })
}

fn logic(r: u64, bits: u32) -> (u64, u64) {
    (r, result_flags(r, bits))
}

fn arithmetic(r: u64, carries: u64, overflow: u64, aux: u64, bits: u32) -> (u64, u64) {
    let top = bits - 1;
    let of = if overflow >> top & 1 != 0 { OF } else { 0 };
    (r, result_flags(r, bits) | carries >> top & 1 | aux & AF | of)
}

fn sum(a: u64, b: u64, carry: u64, bits: u32) -> (u64, u64) {
    let r = a.wrapping_add(b).wrapping_add(carry);
    arithmetic(r, a & b | (a | b) & !r, (a ^ r) & (b ^ r), a ^ b ^ r, bits)
}

fn difference(a: u64, b: u64, borrow: u64, bits: u32) -> (u64, u64) {
    let r = a.wrapping_sub(b).wrapping_sub(borrow);
    arithmetic(r, !a & b | (!a | b) & r, (a ^ b) & (a ^ r), a ^ b ^ r, bits)
}

fn keep_carry((r, flags): (u64, u64), carry: u64) -> (u64, u64) {
    (r, flags & !CF | carry)
}
