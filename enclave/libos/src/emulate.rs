//! Instructions that an enclave may not execute or that the translator leaves to the LibOS: cpuid, clocks, flags,
//! extended state, and the exceptions that int3, ud2 and privileged instructions raise (R13, R14, R30, R31).
//!
//! Part: `twice` (accesses to shared memory). Neighbours: `code` (next pc), `signal` (exceptions). Invariants: guest memory is read and written only through
//! `uaccess`; headers of state images are checked on a copy; an unknown instruction is SIGILL and named in the log.
pub mod twice;

use crate::errno::{Errno, Result};
use crate::process::Task;
use crate::signal::{self, Info};
use crate::uaccess;
use alloc::format;
use alloc::sync::Arc;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use occlum_linux_abi::signo;

/// cpuid 1 edx: fpu tsc msr pae cx8 sep pge cmov pat clfsh mmx fxsr sse sse2 (no ht, no psn).
pub const CPUID_1_EDX: u32 = 1
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 11
    | 1 << 13
    | 1 << 15
    | 1 << 16
    | 1 << 19
    | 1 << 23
    | 1 << 24
    | 1 << 25
    | 1 << 26;
/// cpuid 1 ecx: sse3 pclmul ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt aes xsave osxsave avx f16c rdrand hypervisor.
const CPUID_1_ECX: u32 = 1
    | 1 << 1
    | 1 << 9
    | 1 << 12
    | 1 << 13
    | 1 << 19
    | 1 << 20
    | 1 << 22
    | 1 << 23
    | 1 << 25
    | 1 << 26
    | 1 << 27
    | 1 << 28
    | 1 << 29
    | 1 << 30
    | 1 << 31;
/// cpuid 7 ebx: bmi1 avx2 bmi2 erms sha (every CPU with SGX2 and EDMM has SHA; the simulator checks for it).
const CPUID_7_EBX: u32 = 1 << 3 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 29;

/// What the CPU calls itself.
pub const BRAND: &str = "Occlum virtual CPU";

/// Sixteen bytes of the brand.
fn brand(part: usize) -> [u32; 4] {
    let byte = |i: usize| BRAND.as_bytes().get(16 * part + i).copied().unwrap_or(0);
    core::array::from_fn(|n| u32::from_le_bytes(core::array::from_fn(|k| byte(4 * n + k))))
}

/// The constant cpuid table: x86-64-v3, nothing that the translator refuses (R30). Leaf 0xd says no size, so that ld.so
/// picks fxsave for its lazy-binding trampoline.
pub fn cpuid(leaf: u32, sub: u32) -> [u32; 4] {
    match (leaf, sub) {
        // "GenuineIntel"
        (0, _) => [0xd, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
        (1, _) => [0x0003_06c3, 0x0001_0800, CPUID_1_ECX, CPUID_1_EDX],
        // Cache descriptors and deterministic cache parameters: 32 KiB L1, 512 KiB L2, 8 MiB L3.
        (2, _) => [0x00ff_ff01, 0, 0, 0],
        (4, 0) => [0x121, 7 << 22 | 63, 63, 0],
        (4, 1) => [0x122, 7 << 22 | 63, 63, 0],
        (4, 2) => [0x143, 7 << 22 | 63, 1023, 0],
        (4, 3) => [0x163, 15 << 22 | 63, 8191, 0],
        (7, 0) => [0, CPUID_7_EBX, 0, 0],
        (0xd, 0) => [7, 0, 832, 0],
        (0x8000_0000, _) => [0x8000_0008, 0, 0, 0],
        // lahf, lzcnt; syscall, nx, lm, rdtscp
        (0x8000_0001, _) => [0, 0, 1 | 1 << 5, 1 << 11 | 1 << 20 | 1 << 27 | 1 << 29],
        (0x8000_0002..=0x8000_0004, _) => brand((leaf - 0x8000_0002) as usize),
        (0x8000_0007, _) => [0, 0, 0, 1 << 8],
        (0x8000_0008, _) => [0x3027, 0, 0, 0],
        _ => [0; 4],
    }
}

/// The bytes at `pc` as far as they are mapped, at most an instruction's. Error: no memory to bring them in (text is
/// translated from the page cache; here it has to be resident).
fn fetch(pc: u32) -> Result<([u8; 15], usize)> {
    let mut bytes = [0u8; 15];
    for have in (1..=15).rev() {
        match uaccess::read_bytes(u64::from(pc), &mut bytes[..have]) {
            Ok(()) => return Ok((bytes, have)),
            Err(Errno::ENOMEM) => return Err(Errno::ENOMEM),
            Err(_) => {}
        }
    }
    Ok((bytes, 0))
}

fn decode(pc: u32) -> Result<Instruction> {
    let (bytes, have) = fetch(pc)?;
    Ok(Decoder::with_ip(64, &bytes[..have], u64::from(pc), DecoderOptions::NONE).decode())
}

/// What the branch at `pc` adds to rsp, and where the next instruction is.
pub fn branch_rsp_delta(pc: u32) -> Result<(i32, u32)> {
    let insn = decode(pc)?;
    // A near call or return, or a jump: exactly what the decoder knows of their stack use.
    Ok((insn.stack_pointer_increment(), insn.next_ip32()))
}

/// Is a near return at `pc`?
pub fn is_return(pc: u32) -> bool {
    decode(pc).is_ok_and(|i| i.code() == Code::Retnq)
}

/// Emulates the instruction at `pc`; the task goes on behind it, or gets its signal.
pub fn instruction(t: &Arc<Task>, pc: u32) {
    t.rt.set_rip(pc);
    t.resolve.set(true);
    let Ok((bytes, have)) = fetch(pc) else { return crate::syscall::kill_for_memory(t) };
    let insn = Decoder::with_ip(64, &bytes[..have], u64::from(pc), DecoderOptions::NONE).decode();
    match step(t, &insn, pc) {
        Outcome::Next => t.rt.set_rip(insn.next_ip32()),
        Outcome::Done => {}
        Outcome::Signal(sig, info) => signal::force(t, sig as i32, info),
        Outcome::Unsupported => {
            let text = format!(
                "occlum: pid {}: unsupported instruction {:?} at {pc:#x}: {:02x?}\n",
                t.process.pid,
                insn.mnemonic(),
                &bytes[..insn.len().max(1).min(have)]
            );
            occlum_rt::log(&text);
            crate::stats::add("unsupported_instructions", 1);
            signal::force(t, signo::SIGILL as i32, Info::fault(2, u64::from(pc)));
        }
    }
}

enum Outcome {
    Next,
    /// rip is set, or a signal raised.
    Done,
    Signal(u32, Info),
    Unsupported,
}

fn step(t: &Arc<Task>, insn: &Instruction, pc: u32) -> Outcome {
    let r = &t.rt;
    match insn.mnemonic() {
        Mnemonic::Cpuid => {
            let out = cpuid(r.gpr(0) as u32, r.gpr(1) as u32);
            for (n, v) in [0, 3, 1, 2].iter().zip(out) {
                r.set_gpr(*n, u64::from(v));
            }
            Outcome::Next
        }
        Mnemonic::Rdtsc | Mnemonic::Rdtscp if t.tsc_denied.get() => {
            Outcome::Signal(signo::SIGSEGV, Info::kernel())
        }
        Mnemonic::Rdtsc | Mnemonic::Rdtscp => {
            let tsc = occlum_rt::time::tsc();
            r.set_gpr(0, tsc & 0xffff_ffff);
            r.set_gpr(2, tsc >> 32);
            if insn.mnemonic() == Mnemonic::Rdtscp {
                r.set_gpr(1, 0);
            }
            Outcome::Next
        }
        // Only XCR0: the table's leaf 0xd, 1 names no other.
        Mnemonic::Xgetbv if r.gpr(1) as u32 != 0 => Outcome::Signal(signo::SIGSEGV, Info::kernel()),
        Mnemonic::Xgetbv => {
            r.set_gpr(0, 7);
            r.set_gpr(2, 0);
            Outcome::Next
        }
        Mnemonic::Popfq | Mnemonic::Popf => pop_flags(t, insn),
        Mnemonic::Pushfq | Mnemonic::Pushf => push_flags(t, insn),
        Mnemonic::Rdpid => Outcome::Unsupported,
        Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc => bit_string(t, insn),
        Mnemonic::Fxsave
        | Mnemonic::Fxsave64
        | Mnemonic::Xsave
        | Mnemonic::Xsave64
        | Mnemonic::Xsavec
        | Mnemonic::Xsavec64
        | Mnemonic::Xsaveopt
        | Mnemonic::Xsaveopt64 => save_state(t, insn),
        Mnemonic::Fxrstor | Mnemonic::Fxrstor64 | Mnemonic::Xrstor | Mnemonic::Xrstor64 => {
            restore_state(t, insn)
        }
        Mnemonic::Fnstenv => store_env(t, insn, false),
        Mnemonic::Fnsave => store_env(t, insn, true),
        Mnemonic::Fldenv => load_env(t, insn, false),
        Mnemonic::Frstor => load_env(t, insn, true),
        Mnemonic::Int3 => {
            r.set_rip(insn.next_ip32());
            Outcome::Signal(signo::SIGTRAP, Info::kernel())
        }
        Mnemonic::Int1 => {
            r.set_rip(insn.next_ip32());
            Outcome::Signal(signo::SIGTRAP, Info::fault(1, u64::from(pc)))
        }
        Mnemonic::Ud2 | Mnemonic::Ud0 | Mnemonic::Ud1 => {
            Outcome::Signal(signo::SIGILL, Info::fault(2, u64::from(pc)))
        }
        Mnemonic::Hlt
        | Mnemonic::In
        | Mnemonic::Out
        | Mnemonic::Cli
        | Mnemonic::Sti
        | Mnemonic::Int
        | Mnemonic::Insb
        | Mnemonic::Insd
        | Mnemonic::Insw
        | Mnemonic::Outsb
        | Mnemonic::Outsd
        | Mnemonic::Outsw
        | Mnemonic::Wrmsr
        | Mnemonic::Rdmsr
        | Mnemonic::Iretq
        | Mnemonic::Iretd
        | Mnemonic::Invd
        | Mnemonic::Wbinvd
        | Mnemonic::Lgdt
        | Mnemonic::Lidt
        | Mnemonic::Swapgs => Outcome::Signal(signo::SIGSEGV, Info::kernel()),
        Mnemonic::INVALID => Outcome::Signal(signo::SIGILL, Info::fault(2, u64::from(pc))),
        Mnemonic::Mov | Mnemonic::Push | Mnemonic::Pop => segment_move(t, insn),
        Mnemonic::Xlatb => {
            let at = (r.gpr(3).wrapping_add(r.gpr(0) & 0xff)) & 0xffff_ffff;
            match uaccess::read_val::<u8>(at) {
                Ok(v) => {
                    r.set_gpr(0, r.gpr(0) & !0xff | u64::from(v));
                    Outcome::Next
                }
                Err(_) => segv(at),
            }
        }
        Mnemonic::Enter => enter(t, insn),
        Mnemonic::Xchg => exchange(t, insn),
        Mnemonic::Ret if insn.code() == Code::Retnq_imm16 && crate::shadow::is_on() => {
            crate::shadow::take_return(t, insn.immediate16());
            Outcome::Done
        }
        _ => Outcome::Unsupported,
    }
}

fn segv(at: u64) -> Outcome {
    Outcome::Signal(signo::SIGSEGV, Info::fault(1, at))
}

/// Effective address of the memory operand, mod 2^32.
fn address(t: &Task, insn: &Instruction) -> u64 {
    let read = |reg: Register| match reg {
        Register::None => 0,
        Register::RIP | Register::EIP => 0,
        reg => t.rt.gpr(reg.full_register().number()),
    };
    let base = insn.memory_base();
    let mut at = insn.memory_displacement64();
    if base != Register::RIP && base != Register::EIP {
        at = at.wrapping_add(read(base));
    }
    at = at.wrapping_add(read(insn.memory_index()).wrapping_mul(u64::from(insn.memory_index_scale())));
    match insn.segment_prefix() {
        Register::FS => at = at.wrapping_add(u64::from(t.rt.tls())),
        Register::GS => at = at.wrapping_add(u64::from(t.rt.guest_gs())),
        _ => {}
    }
    at & 0xffff_ffff
}

/// AC and ID: a program sees them as it set them, and they do nothing (AC in the CPU would fault in the LibOS, R14).
const IDLE_FLAGS: u64 = 1 << 18 | 1 << 21;

fn pop_flags(t: &Task, insn: &Instruction) -> Outcome {
    let sp = t.rt.gpr(4);
    let (flags, n) = if insn.code() == Code::Popfw {
        (uaccess::read_val::<u16>(sp).map(u64::from), 2)
    } else {
        (uaccess::read_val::<u64>(sp), 8)
    };
    match flags {
        Ok(f) => {
            t.rt.set_rflags(f);
            t.idle_flags.set(if n == 8 { f & IDLE_FLAGS } else { t.idle_flags.get() });
            t.rt.set_gpr(4, sp.wrapping_add(n) & 0xffff_ffff);
            Outcome::Next
        }
        Err(_) => segv(sp),
    }
}

fn push_flags(t: &Task, insn: &Instruction) -> Outcome {
    let n = if insn.code() == Code::Pushfw { 2 } else { 8 };
    let sp = t.rt.gpr(4).wrapping_sub(n) & 0xffff_ffff;
    let flags = (t.rt.rflags() | t.idle_flags.get()).to_le_bytes();
    match uaccess::write_bytes(sp, &flags[..n as usize]) {
        Ok(()) => {
            t.rt.set_gpr(4, sp);
            Outcome::Next
        }
        Err(_) => segv(sp),
    }
}

/// bt/bts/btr/btc with a memory operand: the bit offset reaches beyond the operand (R8). Against other threads the word is
/// changed by compare-and-exchange, with LOCK or without.
fn bit_string(t: &Task, insn: &Instruction) -> Outcome {
    let size = insn.memory_size().size() as u64;
    // Another thread may have made another instruction of it since it was translated.
    if size == 0 {
        return Outcome::Unsupported;
    }
    let bits = size * 8;
    let raw = if insn.op1_kind() == OpKind::Register {
        let v = t.rt.gpr(insn.op1_register().full_register().number());
        match size {
            2 => i64::from(v as i16),
            4 => i64::from(v as i32),
            _ => v as i64,
        }
    } else {
        i64::from(insn.immediate8()) & (bits as i64 - 1)
    };
    let at = address(t, insn).wrapping_add_signed((raw >> bits.trailing_zeros()) * size as i64) & 0xffff_ffff;
    let n = raw as u64 & (bits - 1);
    // A bit lies in one aligned word, whatever the operand's alignment.
    let byte = at + n / 8;
    let (word_at, mask) = (byte & !3, 1u32 << (byte % 4 * 8 + n % 8));
    loop {
        let Ok(old) = uaccess::read_val::<u32>(word_at) else { return segv(at) };
        let new = match insn.mnemonic() {
            Mnemonic::Bts => old | mask,
            Mnemonic::Btr => old & !mask,
            Mnemonic::Btc => old ^ mask,
            _ => old,
        };
        if new != old {
            match uaccess::exchange(word_at, old, new) {
                Ok(seen) if seen == old => {}
                Ok(_) => continue,
                Err(_) => return segv(at),
            }
        }
        let flags = t.rt.rflags() & !1;
        t.rt.set_rflags(flags | u64::from(old & mask != 0));
        return Outcome::Next;
    }
}

fn is_fx(insn: &Instruction) -> bool {
    matches!(insn.mnemonic(), Mnemonic::Fxsave | Mnemonic::Fxsave64 | Mnemonic::Fxrstor | Mnemonic::Fxrstor64)
}

/// fxsave and the xsave family in standard form; instruction and data pointers are zero (R12).
fn save_state(t: &Task, insn: &Instruction) -> Outcome {
    let at = address(t, insn);
    let fx = is_fx(insn);
    if !at.is_multiple_of(if fx { 16 } else { 64 }) {
        return Outcome::Signal(signo::SIGSEGV, Info::kernel());
    }
    let mut x = t.rt.xsave();
    x[8..24].fill(0);
    if fx {
        return write_or_segv(at, &x[..464]);
    }
    let mask = (t.rt.gpr(0) & 7) as u8;
    let compact = matches!(insn.mnemonic(), Mnemonic::Xsavec | Mnemonic::Xsavec64);
    let mut header = [0u8; 64];
    header[0] = mask;
    if compact {
        header[8] = mask;
        header[15] = 0x80;
    }
    let parts: [(bool, usize, usize); 3] =
        [(mask & 3 != 0, 0, 160), (mask & 2 != 0, 160, 416), (mask & 4 != 0, 576, 832)];
    for (on, from, to) in parts {
        if on && uaccess::write_bytes(at + from as u64, &x[from..to]).is_err() {
            return segv(at);
        }
    }
    write_or_segv(at + 512, &header)
}

fn write_or_segv(at: u64, b: &[u8]) -> Outcome {
    match uaccess::write_bytes(at, b) {
        Ok(()) => Outcome::Next,
        Err(_) => segv(at),
    }
}

fn restore_state(t: &Task, insn: &Instruction) -> Outcome {
    let at = address(t, insn);
    let fx = is_fx(insn);
    if !at.is_multiple_of(if fx { 16 } else { 64 }) {
        return Outcome::Signal(signo::SIGSEGV, Info::kernel());
    }
    let mut x = t.rt.xsave();
    if fx {
        if uaccess::read_bytes(at, &mut x[..416]).is_err() {
            return segv(at);
        }
        x[512] |= 3;
    } else {
        let mut img = [0u8; 832];
        if uaccess::read_bytes(at, &mut img[..576]).is_err() {
            return segv(at);
        }
        let (have, asked) = (img[512], (t.rt.gpr(0) & 7) as u8);
        if img[513..520].iter().any(|b| *b != 0) || have & !7 != 0 {
            return Outcome::Signal(signo::SIGSEGV, Info::kernel());
        }
        if have & asked & 4 != 0 && uaccess::read_bytes(at + 576, &mut img[576..]).is_err() {
            return segv(at);
        }
        restore_parts(&mut x, &img, have, asked);
    }
    x[464..512].fill(0);
    if t.rt.set_xsave(&x) { Outcome::Next } else { Outcome::Signal(signo::SIGSEGV, Info::kernel()) }
}

/// Components asked for come from the image, or take their initial state when the image has none.
fn restore_parts(x: &mut [u8; 832], img: &[u8; 832], have: u8, asked: u8) {
    let mut part = |bit: u8, from: usize, to: usize| {
        if asked & bit != 0 {
            if have & bit != 0 {
                x[from..to].copy_from_slice(&img[from..to]);
            } else {
                x[from..to].fill(0);
            }
        }
    };
    part(1, 0, 24);
    part(1, 32, 160);
    part(2, 160, 416);
    part(4, 576, 832);
    if asked & 1 != 0 && have & 1 == 0 {
        x[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
    }
    if asked & 6 != 0 {
        x[24..32].copy_from_slice(&img[24..32]);
    }
    x[512] |= asked;
}

/// The abridged tag word of fxsave as the full one: 3 empty, else 0 (valid is close enough for what reads it back).
fn full_tags(abridged: u8) -> u16 {
    (0..8).fold(0, |w, i| if abridged >> i & 1 == 0 { w | 3 << (2 * i) } else { w })
}

fn store_env(t: &Task, insn: &Instruction, with_regs: bool) -> Outcome {
    let at = address(t, insn);
    let x = t.rt.xsave();
    let mut env = [0u8; 28];
    env[0..2].copy_from_slice(&x[0..2]);
    env[2..4].fill(0xff);
    env[4..6].copy_from_slice(&x[2..4]);
    env[6..8].fill(0xff);
    env[8..10].copy_from_slice(&full_tags(x[4]).to_le_bytes());
    env[10..12].fill(0xff);
    env[26..28].fill(0xff);
    if let o @ Outcome::Signal(..) = write_or_segv(at, &env) {
        return o;
    }
    let mut next = x;
    if with_regs {
        for i in 0..8 {
            let reg = &x[32 + 16 * i..42 + 16 * i];
            if uaccess::write_bytes(at + 28 + 10 * i as u64, reg).is_err() {
                return segv(at);
            }
        }
        next[0..24].fill(0);
        next[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
    } else {
        // fnstenv masks all exceptions.
        next[0] |= 0x3f;
    }
    next[512] |= 1;
    t.rt.set_xsave(&next);
    Outcome::Next
}

fn load_env(t: &Task, insn: &Instruction, with_regs: bool) -> Outcome {
    let at = address(t, insn);
    let mut env = [0u8; 28];
    if uaccess::read_bytes(at, &mut env).is_err() {
        return segv(at);
    }
    let mut x = t.rt.xsave();
    x[0..2].copy_from_slice(&env[0..2]);
    x[2..4].copy_from_slice(&env[4..6]);
    let tags = u16::from_le_bytes([env[8], env[9]]);
    x[4] = (0..8).fold(0, |b, i| if tags >> (2 * i) & 3 == 3 { b } else { b | 1 << i });
    if with_regs {
        for i in 0..8 {
            if uaccess::read_bytes(at + 28 + 10 * i as u64, &mut x[32 + 16 * i..42 + 16 * i]).is_err() {
                return segv(at);
            }
        }
    }
    x[512] |= 1;
    t.rt.set_xsave(&x);
    Outcome::Next
}

/// mov and push of segment registers: the values that 64-bit Linux shows. Loading one is refused.
fn segment_move(t: &Task, insn: &Instruction) -> Outcome {
    let value = |r: Register| match r {
        Register::CS => Some(0x33u64),
        Register::SS => Some(0x2b),
        Register::DS | Register::ES | Register::FS | Register::GS => Some(0),
        _ => None,
    };
    if insn.mnemonic() != Mnemonic::Mov || insn.op1_kind() != OpKind::Register {
        return Outcome::Unsupported;
    }
    let Some(v) = value(insn.op1_register()) else {
        return Outcome::Signal(signo::SIGSEGV, Info::kernel());
    };
    if insn.op0_kind() == OpKind::Register {
        let reg = insn.op0_register();
        let n = reg.full_register().number();
        let old = t.rt.gpr(n);
        t.rt.set_gpr(n, if reg.size() == 2 { old & !0xffff | v } else { v });
        return Outcome::Next;
    }
    write_or_segv(address(t, insn), &(v as u16).to_le_bytes())
}

/// xchg of two 64-bit registers, one of them rsp (stack switches by hand).
fn exchange(t: &Task, insn: &Instruction) -> Outcome {
    let (a, b) = (insn.op0_register(), insn.op1_register());
    if insn.op0_kind() != OpKind::Register || insn.op1_kind() != OpKind::Register || a.size() != 8 {
        return Outcome::Unsupported;
    }
    let (x, y) = (t.rt.gpr(a.number()), t.rt.gpr(b.number()));
    t.rt.set_gpr(a.number(), y);
    t.rt.set_gpr(b.number(), x);
    Outcome::Next
}

fn enter(t: &Task, insn: &Instruction) -> Outcome {
    if insn.immediate8_2nd() != 0 {
        return Outcome::Unsupported;
    }
    let sp = t.rt.gpr(4).wrapping_sub(8) & 0xffff_ffff;
    if uaccess::write_val(sp, t.rt.gpr(5)).is_err() {
        return segv(sp);
    }
    t.rt.set_gpr(5, sp);
    t.rt.set_gpr(4, sp.wrapping_sub(u64::from(insn.immediate16())) & 0xffff_ffff);
    Outcome::Next
}
