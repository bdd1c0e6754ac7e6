//! What a file's code asks of the enclave, read off it without running it: system calls, and instructions that neither the
//! translator nor the LibOS has.
//!
//! Neighbours: `verify` finds the executable parts; `python/occlum/check` judges. A linear sweep, so data between
//! functions can look like code: what is found is a hint, with its place. Invariant: files are hostile; any bytes give a
//! result.
use crate::verify::executable;
use iced_x86::{Code, Decoder, DecoderOptions, EncodingKind, Instruction, Mnemonic, OpKind, Register};
use occlum_sfi_translator::is_translated;
use std::collections::BTreeMap;
use std::path::Path;

/// What was found.
#[derive(Default)]
pub(crate) struct Found {
    /// Number of a system call: how often, and where first.
    pub(crate) syscalls: BTreeMap<u32, (u64, u64)>,
    /// `syscall` instructions whose number the code before them does not say.
    pub(crate) unknown_syscalls: u64,
    /// Instructions that there are not: how often, and where first.
    pub(crate) instructions: BTreeMap<String, (u64, u64)>,
}

/// What the LibOS emulates (`libos/src/emulate.rs`), or raises natively too, of what the translator leaves to it.
const EMULATED: &[Mnemonic] = {
    use Mnemonic as M;
    &[
        M::Cpuid,
        M::Rdtsc,
        M::Rdtscp,
        M::Xgetbv,
        M::Popfq,
        M::Popf,
        M::Pushfq,
        M::Pushf,
        M::Bt,
        M::Bts,
        M::Btr,
        M::Btc,
        M::Fxsave,
        M::Fxsave64,
        M::Xsave,
        M::Xsave64,
        M::Xsavec,
        M::Xsavec64,
        M::Xsaveopt,
        M::Xsaveopt64,
        M::Fxrstor,
        M::Fxrstor64,
        M::Xrstor,
        M::Xrstor64,
        M::Fnstenv,
        M::Fnsave,
        M::Fldenv,
        M::Frstor,
        M::Int3,
        M::Int1,
        M::Ud2,
        M::Ud0,
        M::Ud1,
        M::Mov,
        M::Push,
        M::Pop,
        M::Xlatb,
        M::Enter,
        M::Xchg,
        M::Ret,
        // As natively: SIGSEGV.
        M::Hlt,
        M::In,
        M::Out,
        M::Cli,
        M::Sti,
        M::Int,
        M::Insb,
        M::Insd,
        M::Insw,
        M::Outsb,
        M::Outsd,
        M::Outsw,
        M::Iretq,
        M::Iretd,
    ]
};

/// Reads a file.
pub(crate) fn file(path: &Path) -> std::io::Result<Result<Found, &'static str>> {
    let content = std::fs::read(path)?;
    Ok(executable(&content).map(|parts| {
        let mut found = Found::default();
        for part in parts {
            sweep(&content[part.file.clone()], u64::from(part.offset), &mut found);
        }
        found
    }))
}

fn sweep(code: &[u8], address: u64, found: &mut Found) {
    // What rax is known to hold.
    let mut number = None;
    for i in Decoder::with_ip(64, code, address, DecoderOptions::NONE).iter() {
        if i.code() == Code::Syscall {
            match number {
                Some(n) => note(&mut found.syscalls, n, i.ip()),
                None => found.unknown_syscalls += 1,
            }
        } else if let Some(name) = missing(&i) {
            note(&mut found.instructions, name, i.ip());
        }
        number = rax_after(&i, number);
    }
}

fn note<K: Ord>(all: &mut BTreeMap<K, (u64, u64)>, key: K, at: u64) {
    all.entry(key).or_insert((0, at)).0 += 1;
}

/// What rax holds behind `i`, if the code says so.
fn rax_after(i: &Instruction, before: Option<u32>) -> Option<u32> {
    let first =
        (i.op_count() > 0 && i.op0_kind() == OpKind::Register).then(|| i.op0_register().full_register());
    match i.mnemonic() {
        Mnemonic::Mov if first == Some(Register::RAX) => match i.op1_kind() {
            OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64 => {
                Some(i.immediate(1) as u32)
            }
            _ => None,
        },
        Mnemonic::Xor if first == Some(Register::RAX) && i.op1_register() == i.op0_register() => Some(0),
        Mnemonic::Cmp | Mnemonic::Test => before,
        Mnemonic::Call
        | Mnemonic::Jmp
        | Mnemonic::Ret
        | Mnemonic::Syscall
        | Mnemonic::Mul
        | Mnemonic::Div => None,
        _ if first == Some(Register::RAX) => None,
        _ => before,
    }
}

/// The name of an instruction that the enclave does not have.
fn missing(i: &Instruction) -> Option<String> {
    if i.is_invalid() || i.is_privileged() || is_translated(i) || EMULATED.contains(&i.mnemonic()) {
        return None;
    }
    Some(match i.encoding() {
        EncodingKind::EVEX => "AVX-512".to_owned(),
        EncodingKind::XOP => "XOP".to_owned(),
        EncodingKind::D3NOW => "3DNow!".to_owned(),
        _ => format!("{:?}", i.mnemonic()).to_lowercase(),
    })
}
