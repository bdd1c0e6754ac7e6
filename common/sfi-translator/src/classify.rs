//! What one decoded instruction is to the translator. This is the allow-list: what is not named here is emulated (R10).
//!
//! Neighbours: `extent` asks for the class, `emit` acts on it.
//! Invariants: a class other than `Emulate` means that the instruction can touch only memory its operands name, the stack,
//! or the implicit operands of `String` and `Plain` (maskmov, xlat), and can fault but never leave user code.

use iced_x86::{Code, CpuidFeature, EncodingKind, Instruction, Mnemonic, OpKind, Register};

/// Kind of treatment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Same instruction, operands rewritten.
    Plain,
    /// Nothing is emitted.
    Nop,
    /// Left to the LibOS (or to its SIGILL).
    Emulate,
    Syscall,
    Jmp(u32),
    Jcc(u32),
    /// jrcxz, jecxz, loop, loope, loopne.
    Loop(u32),
    Call(u32),
    JmpIndirect,
    CallIndirect,
    /// Near return; bytes to drop behind the return address.
    Ret(u16),
    /// movs, stos, lods, scas, cmps with any repeat prefix.
    String,
    Lea,
    Leave,
    /// `enter n, 0`.
    Enter(u16),
}

impl Class {
    /// True if control never goes to the next instruction by itself.
    pub(crate) fn ends_block(self) -> bool {
        matches!(self, Class::Emulate | Class::Jmp(_) | Class::JmpIndirect | Class::Ret(_))
    }

    pub(crate) fn is_call(self) -> bool {
        matches!(self, Class::Call(_) | Class::CallIndirect)
    }
}

/// CPU features whose instructions reach memory only through their operands.
fn is_allowed_feature(f: CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(
        f,
        F::INTEL8086
            | F::INTEL186
            | F::INTEL286
            | F::INTEL386
            | F::INTEL486
            | F::X64
            | F::FPU
            | F::FPU287
            | F::FPU387
            | F::CMOV
            | F::MMX
            | F::SSE
            | F::SSE2
            | F::SSE3
            | F::SSSE3
            | F::SSE4_1
            | F::SSE4_2
            | F::AVX
            | F::AVX2
            | F::AES
            | F::VAES
            | F::PCLMULQDQ
            | F::VPCLMULQDQ
            | F::GFNI
            | F::FMA
            | F::F16C
            | F::BMI1
            | F::BMI2
            | F::LZCNT
            | F::POPCNT
            | F::MOVBE
            | F::ADX
            | F::SHA
            | F::RDRAND
            | F::RDSEED
            | F::CX8
            | F::CMPXCHG16B
            | F::PAUSE
            | F::CLFSH
            | F::CLFLUSHOPT
            | F::CLWB
            | F::PREFETCHW
    )
}

/// Old instructions that the feature list would let through.
fn is_denied(m: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        m,
        M::Int
            | M::Int1
            | M::Int3
            | M::Into
            | M::Bound
            | M::Arpl
            | M::Sgdt
            | M::Sidt
            | M::Sldt
            | M::Str
            | M::Smsw
            | M::Lar
            | M::Lsl
            | M::Verr
            | M::Verw
            | M::Lds
            | M::Les
            | M::Lfs
            | M::Lgs
            | M::Lss
            | M::Retf
            | M::Iret
            | M::Popf
            | M::Popfd
            | M::Popfq
            | M::Pushf
            | M::Pushfq
            | M::Ud0
            | M::Ud1
            | M::Ud2
            | M::Salc
            | M::Rsm
            | M::Sysenter
            | M::Fstenv
            | M::Fnstenv
            | M::Fsave
            | M::Fnsave
            | M::Fldenv
            | M::Frstor
    )
}

fn is_nop(m: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(m, M::Nop | M::Reservednop | M::Endbr32 | M::Endbr64 | M::Rdsspd | M::Rdsspq)
}

/// Prefetches: no fault, no effect, hence never confining.
pub(crate) fn is_prefetch(m: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        m,
        M::Prefetch
            | M::Prefetchw
            | M::Prefetchwt1
            | M::Prefetchnta
            | M::Prefetcht0
            | M::Prefetcht1
            | M::Prefetcht2
    )
}

/// Instructions whose implicit access to the stack confines rsp (R2).
pub(crate) fn is_stack_access(m: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(m, M::Push | M::Pop)
}

/// x87: with an unmasked exception a store may leave memory alone and raise the fault later, or never (`fnclex`).
pub(crate) fn is_x87(i: &Instruction) -> bool {
    use CpuidFeature as F;
    i.cpuid_features().iter().any(|f| matches!(f, F::FPU | F::FPU287 | F::FPU387))
}

/// Memory named by no ModRM byte that `65 67` reaches all the same (R7).
pub(crate) fn has_implicit_memory(m: Mnemonic) -> bool {
    matches!(m, Mnemonic::Maskmovq | Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu | Mnemonic::Xlatb)
}

/// True if fs or gs overrides the segment of a memory operand.
pub(crate) fn has_tls_segment(i: &Instruction) -> bool {
    matches!(i.segment_prefix(), Register::FS | Register::GS)
}

fn has_special_register(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| {
        i.op_kind(n) == OpKind::Register && {
            let r = i.op_register(n);
            r.is_segment_register()
                || r.is_cr()
                || r.is_dr()
                || r.is_tr()
                || r.is_bnd()
                || r.is_k()
                || r.is_tmm()
                || r.is_zmm()
        }
    })
}

/// `bt` family with the bit number in a register: reaches beyond its operand (R8).
fn is_far_bit_test(i: &Instruction) -> bool {
    matches!(i.mnemonic(), Mnemonic::Bt | Mnemonic::Btc | Mnemonic::Btr | Mnemonic::Bts)
        && i.op0_kind() == OpKind::Memory
        && i.op1_kind() == OpKind::Register
}

/// Class of `i`; `Emulate` for everything unknown.
pub(crate) fn classify(i: &Instruction, native_tsc: bool) -> Class {
    // With idle prefixes it is nobody's.
    if native_tsc && i.code() == Code::Rdtsc && i.len() == 2 {
        return Class::Plain;
    }
    if i.is_invalid()
        || i.is_privileged()
        || !matches!(i.encoding(), EncodingKind::Legacy | EncodingKind::VEX)
    {
        return Class::Emulate;
    }
    if is_nop(i.mnemonic()) {
        return Class::Nop;
    }
    if i.mnemonic() == Mnemonic::Syscall {
        return Class::Syscall;
    }
    if is_prefetch(i.mnemonic()) {
        return if has_tls_segment(i) { Class::Nop } else { Class::Plain };
    }
    let known = i.cpuid_features().iter().all(|&f| is_allowed_feature(f));
    if !known || is_denied(i.mnemonic()) || has_special_register(i) || is_far_bit_test(i) {
        return Class::Emulate;
    }
    classify_flow(i).unwrap_or_else(|| classify_other(i))
}

fn classify_flow(i: &Instruction) -> Option<Class> {
    let target = i.near_branch_target() as u32;
    Some(match i.code() {
        Code::Jmp_rel8_64 | Code::Jmp_rel32_64 => Class::Jmp(target),
        Code::Call_rel32_64 => Class::Call(target),
        Code::Jmp_rm64 => Class::JmpIndirect,
        Code::Call_rm64 => Class::CallIndirect,
        Code::Retnq => Class::Ret(0),
        Code::Retnq_imm16 => Class::Ret(i.immediate16()),
        _ if i.is_jcc_short_or_near() && i.op0_kind() == OpKind::NearBranch64 => Class::Jcc(target),
        _ if (i.is_loop() || i.is_loopcc() || i.is_jcx_short()) && i.op0_kind() == OpKind::NearBranch64 => {
            Class::Loop(target)
        }
        _ if i.flow_control() != iced_x86::FlowControl::Next => Class::Emulate,
        _ => return None,
    })
}

fn classify_other(i: &Instruction) -> Class {
    use Mnemonic as M;
    match i.mnemonic() {
        M::Lea => Class::Lea,
        M::Leave if i.code() == Code::Leaveq => Class::Leave,
        M::Enter
            if i.code() == Code::Enterq_imm16_imm8 && i.immediate8_2nd() == 0 && i.immediate16() <= 4096 =>
        {
            Class::Enter(i.immediate16())
        }
        M::Leave | M::Enter => Class::Emulate,
        _ if i.is_string_instruction() => {
            let reads_source = (0..i.op_count()).any(|n| {
                matches!(i.op_kind(n), OpKind::MemorySegRSI | OpKind::MemorySegESI | OpKind::MemorySegSI)
            });
            if reads_source && has_tls_segment(i) { Class::Emulate } else { Class::String }
        }
        m if has_implicit_memory(m) && has_tls_segment(i) => Class::Emulate,
        _ => Class::Plain,
    }
}
