//! One instruction of every form that real programs contain, executed natively and translated from equal states:
//! registers, flags, vector registers, the memory it names, or the same fault with an undo to the very same state.

mod common;

use common::machine::{End, HIGH, LOW, Machine, STATUS, State};
use common::{code_sections, configs};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use occlum_sfi_spec::reason;
use occlum_sfi_translator::undo;
use std::collections::BTreeMap;

const CODE: u32 = 0x0010_0000;
const STACK: u32 = 0x0300_0000;
const TLS: u32 = 0x0020_0000;
const GUEST_GS: u32 = 0x0021_0000;
const FILES: &[&str] = &[
    "/bin/bash",
    "/usr/bin/perl",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/x86_64-linux-gnu/libm.so.6",
    "/lib/x86_64-linux-gnu/libcrypto.so.3",
    "/lib/x86_64-linux-gnu/libstdc++.so.6",
];
/// Samples of one form.
const SAMPLES: usize = 4;

/// What makes two instructions the same form.
fn form(i: &Instruction) -> String {
    let ops: Vec<String> = (0..i.op_count())
        .map(|n| match i.op_kind(n) {
            OpKind::Register => {
                let special = i.op_register(n).full_register() == Register::RSP
                    || matches!(i.op_register(n), Register::AH | Register::BH | Register::CH | Register::DH);
                format!("r{}", if special { "s" } else { "" })
            }
            OpKind::Memory => format!(
                "m{}{}{}",
                match i.memory_base() {
                    Register::None => "n",
                    Register::RSP => "s",
                    Register::RIP => "p",
                    Register::RBP | Register::R13 => "b",
                    Register::R12 => "t",
                    _ => "r",
                },
                if i.memory_index() == Register::None { "" } else { "x" },
                i.memory_displ_size()
            ),
            k => format!("{k:?}"),
        })
        .collect();
    format!("{:?} {:?} {ops:?}", i.code(), i.segment_prefix())
}

fn wanted(i: &Instruction) -> bool {
    use Mnemonic as M;
    !i.is_invalid()
        && i.flow_control() == FlowControl::Next
        && !matches!(
            i.mnemonic(),
            M::Rdrand
                | M::Rdseed
                | M::Fldcw
                | M::Ldmxcsr
                | M::Vldmxcsr
                | M::Rdtsc
                | M::Rdtscp
                | M::Cpuid
                | M::Wrpkru
        )
        && !i.is_privileged()
}

fn samples() -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut forms: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for file in FILES.iter().filter_map(|f| std::fs::read(f).ok()) {
        for (start, bytes) in code_sections(&file) {
            let mut d = Decoder::with_ip(64, &bytes, u64::from(start), DecoderOptions::NONE);
            while d.can_decode() {
                let at = d.position();
                let i = d.decode();
                if !wanted(&i) {
                    continue;
                }
                let list = forms.entry(form(&i)).or_default();
                if list.len() < SAMPLES {
                    list.push(relocate(&d, &i, &bytes[at..at + i.len()]));
                }
            }
        }
    }
    forms
}

/// rip-relative operands are pointed at nearby data.
fn relocate(d: &Decoder<'_>, i: &Instruction, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if i.is_ip_rel_memory_operand() {
        let at = d.get_constant_offsets(i).displacement_offset();
        let distance = 0x1000 - bytes.len() as u32;
        bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
    }
    bytes
}

fn start_state(i: &Instruction, round: u64) -> State {
    let mut s = State::new(CODE);
    for n in 0..16u64 {
        s.gpr[n as usize] = 0x1_8000 + n * 0x40 + round * 0x10;
        s.xmm[n as usize] = [0x3ff1_2345_0000_4001 + n + round, 0x4000_0001_8000_7fff - n * round];
    }
    s.gpr[4] = u64::from(STACK);
    s.gpr[5] = u64::from(STACK) + 0x100;
    if i.is_string_instruction() {
        s.gpr[1] = 24;
    } else if round == 1 {
        s.gpr[0] = 0xffff_ffff_8000_0001; // as an address this is a fault, or out of reach: skipped
        s.gpr[2] = 7;
    }
    s.flags = if round == 0 { 0 } else { STATUS };
    s
}

/// Memory the instruction names, from the start state; None: no memory.
fn address(i: &Instruction, s: &State) -> Option<u64> {
    let n = (0..i.op_count()).find(|&n| i.op_kind(n) == OpKind::Memory)?;
    let value = |r: Register, _, _| match r {
        Register::FS => Some(u64::from(TLS)),
        Register::GS => Some(u64::from(GUEST_GS)),
        Register::CS | Register::DS | Register::ES | Register::SS => Some(0),
        r if r.is_gpr() => Some(s.gpr[r.full_register().number()]),
        _ => Some(0),
    };
    i.virtual_address(n, 0, value)
}

fn background(at: u32, len: usize) -> Vec<u8> {
    (0..len).map(|k| (at as usize + k).wrapping_mul(0x9e37_79b1).to_le_bytes()[2]).collect()
}

/// Returns false if the case was skipped.
fn one(m: &mut Machine, bytes: &[u8], round: u64) -> Result<bool, String> {
    let mut code = bytes.to_vec();
    code.push(0xcc);
    let i = Decoder::with_ip(64, &code, u64::from(CODE), DecoderOptions::NONE).decode();
    let s = start_state(&i, round);
    let mut windows = vec![(STACK - 0x100, 0x300), (0x1_8000, 0x600), (CODE, code.len())];
    if let Some(at) = address(&i, &s) {
        if at < u64::from(LOW) + 0x100 || at > u64::from(HIGH) - 0x200 || at.abs_diff(u64::from(CODE)) < 0x100
        {
            return Ok(false);
        }
        windows.push((at as u32 - 0x40, 0x100));
    }
    for &(at, len) in &windows {
        m.write(at, &background(at, len));
    }
    m.write(CODE, &code);
    m.reset_code();
    let entry = m.translate(&configs()[(round % 2) as usize], CODE, &code);
    m.clear_vectors();
    let (mut out, end) = m.run(&s, entry, 0);
    if end == End::Stub(reason::EMULATE, CODE) {
        return Ok(false);
    }
    m.clear_vectors();
    let (native, native_end) = m.run_native(&s, TLS, GUEST_GS);
    match (native_end, end) {
        (End::Signal(libc::SIGTRAP, _), End::Stub(reason::EMULATE, pc))
            if pc == CODE + bytes.len() as u32 => {}
        (End::Signal(a, _), End::Signal(b, rip)) if a == b => {
            let f = m.fragment_at(rip).ok_or("fault outside the fragment")?;
            let u = undo(&f.rows, &f.code, f.base, rip as u32).ok_or("no undo")?;
            for n in 0..16 {
                if u.restore[n] {
                    out.gpr[n] = m.spill(n);
                }
                if u.truncate[n] {
                    out.gpr[n] &= 0xffff_ffff;
                }
            }
            if u.pc != CODE {
                return Err(format!("fault reported at {:#x}", u.pc));
            }
        }
        _ => return Err(format!("native {native_end:x?}, translated {end:x?}")),
    }
    compare(m, &i, &windows, &native, &out).map(|()| true)
}

fn compare(
    m: &Machine,
    i: &Instruction,
    windows: &[(u32, usize)],
    native: &State,
    out: &State,
) -> Result<(), String> {
    for n in 0..16 {
        // rsp has no high half: it is always inside the slot
        let mask = if n == 4 { 0xffff_ffff } else { u64::MAX };
        if native.gpr[n] & mask != out.gpr[n] & mask {
            return Err(format!("register {n}: native {:#x}, translated {:#x}", native.gpr[n], out.gpr[n]));
        }
    }
    // Flags of small constant changes of rsp are those of the real address (R2); nothing reads them here.
    let adjusts = i.op0_register() == Register::RSP && i.op1_kind() != OpKind::Register && i.op_count() == 2;
    if !adjusts && native.flags & STATUS != out.flags & STATUS {
        return Err(format!("flags: native {:#x}, translated {:#x}", native.flags, out.flags));
    }
    if native.xmm != out.xmm {
        return Err("vector registers".into());
    }
    for &(at, len) in windows {
        let (slot, low) = m.read(at, len);
        if slot != low {
            return Err(format!("memory near {at:#x}"));
        }
    }
    Ok(())
}

#[test]
fn every_form_runs_like_native() {
    let forms = samples();
    let (mut ran, mut skipped, mut bad) = (0, 0, Vec::new());
    Machine::with(|m| {
        m.set_tls(TLS, GUEST_GS);
        for (name, list) in &forms {
            for bytes in list {
                for round in 0..2 {
                    match one(m, bytes, round) {
                        Ok(true) => ran += 1,
                        Ok(false) => skipped += 1,
                        Err(what) => bad.push(format!("{name} {bytes:02x?} round {round}: {what}")),
                    }
                }
            }
        }
    });
    println!("{} forms, {ran} cases ran, {skipped} skipped, {} differ", forms.len(), bad.len());
    for b in bad.iter().take(40) {
        println!("{b}");
    }
    assert!(bad.is_empty());
}
