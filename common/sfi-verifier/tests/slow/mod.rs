//! A slow second opinion on accepted code, made with another decoder: what a single instruction does, and whether a whole
//! accepted unit keeps the rules. Shares nothing with the verifier but the numbers of `sfi-spec`.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod unit;

use super::common::FEATURES;
use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, EncodingKind, FlowControl, Instruction,
    InstructionInfoFactory, Mnemonic, OpAccess, OpCodeOperandKind, OpKind, Register,
};
use occlum_sfi_verifier::Check;
use occlum_sfi_verifier::inspect::{MemoryForm, Seen};

/// Mnemonics that no translated code has, whatever their features say.
const FORBIDDEN: &[Mnemonic] = {
    use Mnemonic as M;
    &[
        M::Int,
        M::Int1,
        M::Int3,
        M::Into,
        M::Bound,
        M::Arpl,
        M::Sgdt,
        M::Sidt,
        M::Sldt,
        M::Str,
        M::Smsw,
        M::Lar,
        M::Lsl,
        M::Verr,
        M::Verw,
        M::Lds,
        M::Les,
        M::Lfs,
        M::Lgs,
        M::Lss,
        M::Retf,
        M::Ret,
        M::Call,
        M::Iret,
        M::Iretd,
        M::Iretq,
        M::Popf,
        M::Popfd,
        M::Popfq,
        M::Ud0,
        M::Ud1,
        M::Ud2,
        M::Salc,
        M::Rsm,
        M::Sysenter,
        M::Sysexit,
        M::Syscall,
        M::Sysret,
        M::Fstenv,
        M::Fnstenv,
        M::Fsave,
        M::Fnsave,
        M::Fldenv,
        M::Frstor,
        M::Fxsave,
        M::Fxsave64,
        M::Fxrstor,
        M::Fxrstor64,
        M::Xsave,
        M::Xrstor,
        M::Cpuid,
        M::Rdtscp,
        M::Rdpmc,
        M::Xgetbv,
        M::Xsetbv,
        M::Wrfsbase,
        M::Wrgsbase,
        M::Rdfsbase,
        M::Rdgsbase,
        M::Wrpkru,
        M::Rdpkru,
        M::Swapgs,
        M::Leave,
        M::Enter,
        M::In,
        M::Out,
        M::Insb,
        M::Insw,
        M::Insd,
        M::Outsb,
        M::Outsw,
        M::Outsd,
        M::Hlt,
        M::Cli,
        M::Sti,
        M::Rdpid,
    ]
};

pub struct Slow {
    factory: InstructionInfoFactory,
}

type Answer = Result<(), &'static str>;

fn ensure(good: bool, what: &'static str) -> Answer {
    if good { Ok(()) } else { Err(what) }
}

pub fn number(r: Register) -> u8 {
    match r {
        Register::None => 16,
        Register::EIP | Register::RIP => 17,
        _ => r.full_register().number() as u8,
    }
}

fn is_gpr(r: Register) -> bool {
    r.is_gpr8() || r.is_gpr16() || r.is_gpr32() || r.is_gpr64()
}

fn is_rsp(r: Register) -> bool {
    matches!(r, Register::RSP | Register::ESP | Register::SP | Register::SPL)
}

/// The memory operand exists in the encoding but nothing is accessed.
fn untouched(i: &Instruction) -> bool {
    matches!(i.mnemonic(), Mnemonic::Lea | Mnemonic::Nop)
}

/// Bit of a written register; ah to bh have the numbers 4 to 7 in their encoding.
fn bit(r: Register) -> u16 {
    match r {
        Register::AH => 1 << 4,
        Register::CH => 1 << 5,
        Register::DH => 1 << 6,
        Register::BH => 1 << 7,
        _ => 1 << number(r),
    }
}

/// The operand is no field of the encoding.
fn is_implied(i: &Instruction, n: u32) -> bool {
    use OpCodeOperandKind as K;
    matches!(i.op_code().op_kind(n), K::al | K::ax | K::eax | K::rax | K::cl | K::dx)
}

impl Slow {
    pub fn new() -> Slow {
        Slow { factory: InstructionInfoFactory::new() }
    }

    pub fn decode(&self, bytes: &[u8], address: u32) -> Instruction {
        Decoder::with_ip(64, bytes, u64::from(address), DecoderOptions::NONE).decode()
    }

    /// Does `seen` describe the instruction at the start of `bytes`, and is that harmless?
    pub fn compare(&mut self, bytes: &[u8], address: u32, seen: &Seen) -> Answer {
        let i = self.decode(bytes, address);
        ensure(!i.is_invalid(), "invalid")?;
        ensure(i.len() == usize::from(seen.len), "length")?;
        if seen.alone.is_some_and(|c| c != Check::WritesRsp && c != Check::StringAlone) {
            return self.fixed(&i);
        }
        self.may_stand(&i)?;
        self.flow(&i, seen)?;
        self.memory(&i, bytes, seen)?;
        self.written(&i, seen)?;
        self.rsp(&i, seen)?;
        self.confines(&i, seen)
    }

    /// Instructions of patterns that are refused elsewhere: only these exist.
    fn fixed(&self, i: &Instruction) -> Answer {
        let lookup = i.code() == Code::Mov_r32_rm32
            && i.op0_register() == Register::R11D
            && i.segment_prefix() == Register::GS
            && i.memory_base() == Register::None
            && i.memory_index() == Register::R11
            && i.memory_index_scale() == 4
            && matches!(i.memory_displacement64(), 0 | 4);
        let jump = i.code() == Code::Jmp_rm64 && i.op0_register() == Register::R11;
        let resume =
            i.code() == Code::Lea_r64_m && i.op0_register() == Register::RCX && i.is_ip_rel_memory_operand();
        let context = i.mnemonic() == Mnemonic::Mov && i.segment_prefix() == Register::FS;
        ensure(lookup || jump || resume || context, "no instruction of a pattern")
    }

    fn may_stand(&self, i: &Instruction) -> Answer {
        let known = i.cpuid_features().iter().all(|f| FEATURES.contains(f)) || i.code() == Code::Rdtsc;
        ensure(known, "feature")?;
        let prefetch = format!("{:?}", i.mnemonic()).starts_with("Prefetch");
        ensure(prefetch || !i.cpuid_features().contains(&CpuidFeature::D3NOW), "3DNow!")?;
        ensure(matches!(i.encoding(), EncodingKind::Legacy | EncodingKind::VEX), "encoding")?;
        ensure(!i.is_privileged() && !FORBIDDEN.contains(&i.mnemonic()), "forbidden")?;
        let special = (0..i.op_count()).any(|n| {
            let r = i.op_register(n);
            i.op_kind(n) == OpKind::Register
                && (r.is_segment_register()
                    || r.is_cr()
                    || r.is_dr()
                    || r.is_tr()
                    || r.is_k()
                    || r.is_tmm()
                    || r.is_zmm())
        });
        ensure(!special, "special register")
    }

    fn flow(&self, i: &Instruction, seen: &Seen) -> Answer {
        match i.flow_control() {
            FlowControl::Next => ensure(seen.target.is_none(), "target"),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                ensure(i.op0_kind() == OpKind::NearBranch64, "kind of branch")?;
                ensure(seen.target == Some(i.near_branch_target() as u32), "target")
            }
            _ => Err("flow"),
        }
    }

    fn memory(&self, i: &Instruction, bytes: &[u8], seen: &Seen) -> Answer {
        let mut explicit = false;
        for n in 0..i.op_count() {
            match i.op_kind(n) {
                OpKind::Register | OpKind::NearBranch64 => {}
                OpKind::Memory => explicit = true,
                OpKind::MemorySegEDI => ensure(seen.memory == MemoryForm::Slot, "implicit operand")?,
                OpKind::MemorySegRSI | OpKind::MemoryESRDI => {
                    ensure(seen.alone == Some(Check::StringAlone), "string operand")?;
                }
                _ if i.op_kind(n) as usize >= OpKind::Immediate8 as usize
                    && i.op_kind(n) as usize <= OpKind::Immediate32to64 as usize => {}
                _ => return Err("kind of operand"),
            }
        }
        if explicit && !untouched(i) {
            self.explicit_memory(i, bytes, seen)
        } else {
            self.no_memory(i, bytes, seen)
        }
    }

    fn no_memory(&self, i: &Instruction, bytes: &[u8], seen: &Seen) -> Answer {
        if i.mnemonic() == Mnemonic::Lea {
            let rsp = is_rsp(i.memory_base()) || is_rsp(i.memory_index());
            let own = is_rsp(i.op0_register());
            ensure(!rsp || own || !i.op0_register().is_gpr64(), "address made from rsp")?;
            return ensure(!i.is_ip_rel_memory_operand(), "address made from rip");
        }
        if seen.memory == MemoryForm::Slot {
            return ensure(bytes.starts_with(&[0x65, 0x67]), "implicit operand without prefixes");
        }
        ensure(i.segment_prefix() == Register::None, "segment prefix")
    }

    fn explicit_memory(&self, i: &Instruction, bytes: &[u8], seen: &Seen) -> Answer {
        let (base, index) = (i.memory_base(), i.memory_index());
        let narrow = |r: Register| r == Register::None || r.is_gpr32() || r.is_vector_register();
        let slot = i.mnemonic() == Mnemonic::Xlatb;
        match seen.memory {
            MemoryForm::Slot => {
                ensure(bytes.starts_with(&[0x65, 0x67]) && i.segment_prefix() == Register::GS, "prefixes")?;
                ensure(slot || narrow(base) && narrow(index), "64-bit address")?;
            }
            MemoryForm::Stack => {
                ensure(i.segment_prefix() == Register::None && base == Register::RSP, "base")?;
                ensure(index == Register::None, "index")?;
                ensure((i.memory_displacement64() as i64).abs() <= 16 << 10, "reach")?;
            }
            _ => return Err("memory not seen"),
        }
        let disp = i.memory_displacement64() as i32;
        ensure(slot || seen.address == (number(base), number(index), disp), "address")
    }

    fn written(&mut self, i: &Instruction, seen: &Seen) -> Answer {
        let info = self.factory.info(i);
        let mut written = 0;
        for n in 0..i.op_count() {
            let r = i.op_register(n);
            let read = matches!(info.op_access(n), OpAccess::Read | OpAccess::None | OpAccess::CondRead);
            if i.op_kind(n) == OpKind::Register && is_gpr(r) && !read && !is_implied(i, n) {
                written |= bit(r);
            }
        }
        // 90 is xchg of rax with itself to the verifier, which has one row for 90 to 97.
        let nop = i.mnemonic() == Mnemonic::Nop && seen.written == 1;
        ensure(written == seen.written || nop, "written registers")
    }

    /// rsp changes only by push, pop and the forms that the verifier knows to change it; its high half goes nowhere.
    fn rsp(&mut self, i: &Instruction, seen: &Seen) -> Answer {
        let pushes = i.is_stack_instruction();
        let operand = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && is_rsp(i.op_register(n)));
        let info = self.factory.info(i);
        let writes = info.used_registers().iter().any(|r| {
            is_rsp(r.register())
                && !matches!(r.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
        });
        let wide =
            (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && i.op_register(n) == Register::RSP);
        let listed = matches!(i.mnemonic(), Mnemonic::Add | Mnemonic::Sub | Mnemonic::And)
            && i.op1_kind() != OpKind::Register
            && i.op1_kind() != OpKind::Memory
            || i.mnemonic() == Mnemonic::Lea && is_rsp(i.memory_base());
        ensure(!wide || listed && i.op0_register() == Register::RSP, "rsp as an operand")?;
        let moves = operand && writes && !pushes;
        ensure(!moves || listed || seen.alone == Some(Check::WritesRsp), "rsp written")?;
        ensure(!writes || pushes || moves, "rsp written implicitly")
    }

    /// What confines must access memory for sure.
    fn confines(&mut self, i: &Instruction, seen: &Seen) -> Answer {
        if !seen.confines || i.is_stack_instruction() {
            return Ok(());
        }
        let x87 = i
            .cpuid_features()
            .iter()
            .any(|f| matches!(f, CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387));
        ensure(!x87, "x87 confines")?;
        ensure((0..4096).contains(&(i.memory_displacement64() as i64)), "displacement of what confines")?;
        let name = format!("{:?}", i.mnemonic());
        ensure(!["Prefetch", "Clfl", "Clwb", "Nop"].iter().any(|n| name.starts_with(n)), "may not access")?;
        let info = self.factory.info(i);
        let sure = (0..i.op_count()).filter(|&n| i.op_kind(n) == OpKind::Memory).all(|n| {
            matches!(
                info.op_access(n),
                OpAccess::Read | OpAccess::Write | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            )
        });
        // A cmov reads its source whatever the condition is.
        ensure(sure || name.starts_with("Cmov"), "conditional access")
    }
}
