//! A second opinion on whole units: an abstract interpreter that follows what every general register may hold, without
//! knowing any pattern. It proves of straight-line code that memory outside the slot and the listed context slots is not
//! touched, that real addresses do not stay in registers, and that control leaves only where it may.

use super::{is_gpr, is_rsp, number};
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};
use occlum_sfi_spec::{Returns, Stubs, ctx, table};

/// What a general register may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// Anything of the program's own.
    Guest,
    /// The same, and below 4 GiB.
    Low,
    /// The slot's base.
    Base,
    /// Base + a `Low` number.
    Pointer,
    /// What a string operation made of a `Pointer`.
    Moved,
    /// The complement of a `Low` number.
    Complement,
    /// The bias of the call table + a `Low` number.
    Biased,
    /// From a lookup table.
    Entry,
    /// An address of this unit.
    Code(u32),
    /// Whatever an earlier unit left.
    Rubbish,
    /// From a stack word to its shadow word: a constant, no secret.
    Distance,
    /// The shadow word at rsp.
    Word,
    /// That, and r11, and 1.
    Difference,
}
use Value::*;

/// Where rsp may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stack {
    /// So many bytes below and above a place inside the slot at most.
    Near(u64, u64),
    /// A number below 4 GiB, no address.
    Low,
}

/// Reach of everything: below and above a slot 64 KiB are never mapped.
const GUARD: u64 = 64 << 10;
const MAX_RETURN: u64 = (16 << 10) + 8;

/// What is known of the shadow stack.
#[derive(Clone, Copy, Default)]
struct Shadow {
    /// The last instruction pushed this constant, or fetched the distance behind that.
    pushed: Option<u32>,
    /// r11 is what was compared with the shadow word at rsp, or its complement.
    compared: bool,
    /// The next instruction is the trap that was jumped over.
    trap: bool,
    /// A return site was looked up, its shadow word is to be consumed.
    owed: bool,
}

pub struct Machine<'a> {
    factory: InstructionInfoFactory,
    returns: Returns,
    regs: [Value; 16],
    /// What TARGET holds.
    target: Value,
    stack: Stack,
    shadow: Shadow,
    /// The last instruction stored EXIT.
    exit: bool,
    stubs: &'a Stubs,
    proven: &'a dyn Places,
}

/// What the verifier has proven, of the unit and elsewhere.
pub trait Places {
    /// May be entered by anybody, whatever is in r11's register.
    fn is_entry(&self, at: u32) -> bool;
    /// May be a branch target inside the unit, with the program's r11 in its register unless it is an entry.
    fn is_boundary(&self, at: u32) -> bool;
}

type Answer<T = ()> = Result<T, &'static str>;

fn ensure(good: bool, what: &'static str) -> Answer {
    if good { Ok(()) } else { Err(what) }
}

/// Runs over all of `code`.
pub fn check_unit(
    returns: Returns,
    base: u32,
    code: &[u8],
    stubs: &Stubs,
    proven: &dyn Places,
) -> Result<(), String> {
    let mut m = Machine {
        factory: InstructionInfoFactory::new(),
        returns,
        regs: [Guest; 16],
        target: Guest,
        stack: Stack::Near(0, 0),
        shadow: Shadow::default(),
        exit: false,
        stubs,
        proven,
    };
    m.regs[11] = Rubbish;
    let mut d = Decoder::with_ip(64, code, u64::from(base), DecoderOptions::NONE);
    let mut falls = true;
    while d.can_decode() {
        let i = d.decode();
        let fail = |what: &str| format!("{:#x}: {i}: {what}", i.ip());
        if !falls {
            m.reset();
        }
        m.arrive(i.ip() as u32).map_err(fail)?;
        falls = m.step(&i).map_err(fail)?;
    }
    if falls { Err("falls off".into()) } else { Ok(()) }
}

impl Machine<'_> {
    fn reset(&mut self) {
        (self.regs, self.stack, self.exit) = ([Guest; 16], Stack::Near(0, 0), false);
        (self.target, self.shadow) = (Guest, Shadow::default());
    }

    fn is_own(&self, n: usize) -> bool {
        matches!(self.regs[n], Guest | Low | Complement | Biased | Distance)
    }

    /// Control comes to `at` from before; it may also come from elsewhere.
    fn arrive(&mut self, at: u32) -> Answer {
        if self.proven.is_entry(at) {
            self.is_clean()?;
            self.regs[11] = Rubbish;
        } else if self.proven.is_boundary(at) {
            self.is_clean()?;
            ensure(self.is_own(11), "no r11 of the program's")?;
        }
        Ok(())
    }

    /// Nothing but the program's own values in registers but r11, rsp inside the slot.
    fn is_clean(&self) -> Answer {
        ensure((0..16).all(|n| n == 4 || n == 11 || self.is_own(n)), "an address in a register")?;
        ensure(self.stack == Stack::Near(0, 0), "rsp not confined")
    }

    /// True: control may go on behind `i`.
    fn step(&mut self, i: &Instruction) -> Answer<bool> {
        ensure(!i.is_invalid(), "invalid")?;
        let exit = core::mem::take(&mut self.exit);
        let trap = core::mem::take(&mut self.shadow.trap);
        self.note_r11(i);
        if self.compares(i)? || trap && i.code() == Code::Ud2 {
            return Ok(true);
        }
        match i.flow_control() {
            FlowControl::Next => self.ordinary(i).map(|()| true),
            FlowControl::ConditionalBranch => self.leave(i.near_branch_target() as u32).map(|()| true),
            FlowControl::UnconditionalBranch => self.jump(i, exit),
            FlowControl::IndirectBranch => self.indirect(i).map(|()| false),
            _ => Err("control flow"),
        }
    }

    /// What was compared is r11 as it was.
    fn note_r11(&mut self, i: &Instruction) {
        let writes = self.factory.info(i).used_registers().iter().any(|u| {
            u.register().full_register() == Register::R11
                && !matches!(u.access(), OpAccess::Read | OpAccess::CondRead)
        });
        if writes && i.code() != Code::Not_rm64 && !is_lookup(i) {
            self.shadow.compared = false;
            self.regs.iter_mut().filter(|r| **r == Difference).for_each(|r| *r = Word);
        }
        let distance = i.segment_prefix() == Register::FS && i.memory_displacement64() == ctx::SHADOW.into();
        match i.code() {
            Code::Pushq_imm32 => self.shadow.pushed = Some(i.immediate32to64() as u32),
            Code::Mov_r64_rm64 if distance => {}
            Code::Mov_rm64_imm32 => {}
            _ => self.shadow.pushed = None,
        }
    }

    /// True: `i` is the jump over the trap.
    fn compares(&mut self, i: &Instruction) -> Answer<bool> {
        if i.code() != Code::Jrcxz_rel8_64 || self.regs[1] != Difference {
            return Ok(false);
        }
        ensure(i.near_branch_target() == i.next_ip() + 2, "where the comparison goes")?;
        self.regs[1] = Guest;
        (self.shadow.compared, self.shadow.trap) = (true, true);
        Ok(true)
    }

    /// The accesses to shadow words. True: `i` was one.
    fn shadow_word(&mut self, i: &Instruction) -> Answer<bool> {
        let memory = i.memory_base() == Register::RSP && i.memory_index() != Register::None;
        if !memory || i.mnemonic() == Mnemonic::Lea || i.segment_prefix() != Register::None {
            return Ok(false);
        }
        ensure(self.returns == Returns::Shadow, "a shadow word")?;
        let plain = i.memory_index_scale() == 1 && self.stack == Stack::Near(0, 0);
        ensure(plain && self.regs[number(i.memory_index()) as usize] == Distance, "place of a shadow word")?;
        match (i.code(), i.memory_displacement64()) {
            (Code::Mov_r64_rm64, 0) => self.regs[number(i.op0_register()) as usize] = Word,
            (Code::Mov_rm64_imm32, 0) => {
                let site = !(i.immediate32to64() as u32);
                ensure(self.shadow.pushed.take() == Some(site) && site >> 31 == 0, "site of a shadow word")?;
            }
            (Code::Mov_rm32_imm32, 4) if i.immediate32() == 0 => self.shadow.owed = false,
            _ => return Err("access to a shadow word"),
        }
        Ok(true)
    }

    fn leave(&mut self, target: u32) -> Answer {
        self.is_clean()?;
        let entry = self.proven.is_entry(target);
        ensure(entry || self.proven.is_boundary(target) && self.is_own(11), "branch to no entry")
    }

    fn jump(&mut self, i: &Instruction, exit: bool) -> Answer<bool> {
        let target = i.near_branch_target() as u32;
        if target == self.stubs.syscall {
            let next = i.next_ip() as u32;
            ensure(self.regs[1] == Code(next) && self.proven.is_boundary(next), "resume address")?;
            // The runtime puts the program's flags into r11.
            (self.regs[1], self.regs[11]) = (Guest, Guest);
            self.is_clean()?;
            return Ok(true);
        }
        if target == self.stubs.link || target == self.stubs.emulate {
            ensure(exit, "EXIT is not set")?;
            self.is_clean()?;
            return Ok(false);
        }
        self.leave(target).map(|()| false)
    }

    fn indirect(&mut self, i: &Instruction) -> Answer {
        ensure(i.code() == Code::Jmp_rm64 && i.op0_register() == Register::R11, "indirect jump")?;
        ensure(core::mem::replace(&mut self.regs[11], Guest) == Entry, "no entry in r11")?;
        ensure(!self.shadow.owed, "the shadow word is not consumed")?;
        match self.stack {
            Stack::Near(0, up) if up <= MAX_RETURN => self.stack = Stack::Near(0, 0),
            _ => return Err("rsp not confined"),
        }
        self.is_clean()
    }

    fn ordinary(&mut self, i: &Instruction) -> Answer {
        if i.segment_prefix() == Register::FS {
            return self.context(i);
        }
        if is_table_hint(i) {
            return Ok(());
        }
        if self.shadow_word(i)? || self.special(i)? {
            return Ok(());
        }
        self.access(i)?;
        let info = self.factory.info(i).clone();
        let mut rsp = false;
        for u in info.used_registers() {
            let r = u.register();
            if !is_gpr(r) {
                continue;
            }
            let n = number(r) as usize;
            let writes = !matches!(u.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
            if n == 4 {
                rsp |= writes;
                continue;
            }
            let whole = u.access() == OpAccess::Write && (r.is_gpr64() || r.is_gpr32());
            ensure(whole || self.is_own(n), "a real address is used")?;
            if writes {
                let low = i.op0_register().is_gpr32() && number(i.op0_register()) == n as u8;
                self.regs[n] = if low { Low } else { Guest };
            }
        }
        self.rsp_operand(i)?;
        if rsp { self.rsp_change(i) } else { Ok(()) }
    }

    /// Moves between registers and listed slots of the context.
    fn context(&mut self, i: &Instruction) -> Answer {
        ensure(
            i.memory_base() == Register::None && i.memory_index() == Register::None,
            "address in the context",
        )?;
        let slot = i.memory_displacement64() as u32;
        if i.code() == Code::Mov_rm32_imm32 {
            self.exit = slot == ctx::EXIT;
            return ensure(self.exit, "constant in the context");
        }
        let store = i.code() == Code::Mov_rm64_r64;
        ensure(store || i.code() == Code::Mov_r64_rm64, "operation on the context")?;
        let r = if store { i.op1_register() } else { i.op0_register() };
        let n = number(r) as usize;
        let own = slot == ctx::spill(n as u32) && n != 4;
        if store {
            ensure(own || slot == ctx::TARGET, "store to the context")?;
            if slot == ctx::TARGET {
                self.target = self.regs[n];
            }
            return ensure(n != 4 && self.is_own(n), "a real address is stored");
        }
        ensure(n != 4, "rsp from the context")?;
        self.regs[n] = match slot {
            ctx::SLOT_BASE => Base,
            ctx::TLS | ctx::GUEST_GS => Low,
            ctx::TARGET if n == 11 => self.target,
            ctx::SHADOW => Distance,
            _ => Guest,
        };
        ensure(own || slot == ctx::TARGET && n == 11 || self.regs[n] != Guest, "load from the context")
    }

    /// Instructions that make or take real addresses. True: `i` was one.
    fn special(&mut self, i: &Instruction) -> Answer<bool> {
        let to = || number(i.op0_register()) as usize;
        match i.code() {
            Code::Mov_rm32_r32 if i.op0_kind() == OpKind::Register => {
                self.truncate(number(i.op1_register()) as usize, to())?;
                Ok(true)
            }
            Code::Mov_r32_rm32 if is_lookup(i) => {
                let index = if i.memory_displacement64() == 0 { Complement } else { Biased };
                ensure(self.regs[number(i.memory_index()) as usize] == index, "index of a lookup")?;
                if self.returns == Returns::Shadow && i.memory_displacement64() == 0 {
                    ensure(core::mem::take(&mut self.shadow.compared), "a return that was not compared")?;
                    self.shadow.owed = true;
                }
                self.regs[to()] = Entry;
                Ok(true)
            }
            Code::Not_rm64 if i.op0_kind() == OpKind::Register && self.regs[to()] == Low => {
                self.regs[to()] = Complement;
                Ok(true)
            }
            Code::Lea_r64_m => self.lea(i),
            _ if i.is_string_instruction() => {
                self.string(i)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// `mov %from32, %to32`
    fn truncate(&mut self, from: usize, to: usize) -> Answer {
        let good = from == 4 || self.is_own(from) || matches!(self.regs[from], Pointer | Moved);
        ensure(good, "half of an address")?;
        if to == 4 {
            self.stack = Stack::Low;
        } else {
            self.regs[to] = Low;
        }
        Ok(())
    }

    fn lea(&mut self, i: &Instruction) -> Answer<bool> {
        let to = number(i.op0_register()) as usize;
        if i.is_ip_rel_memory_operand() {
            self.regs[to] = Code(i.ip_rel_memory_address() as u32);
            return Ok(true);
        }
        let (base, index) = (i.memory_base(), i.memory_index());
        let register = |r: Register| if r.is_gpr64() { self.regs[number(r) as usize] } else { Guest };
        let sums = i.memory_displacement64() == 1 && i.memory_index_scale() == 1;
        if sums && index == Register::R11 && (register(base), register(index)) == (Word, Low) {
            self.regs[to] = Difference;
            return Ok(true);
        }
        let biases = i.memory_displacement64() == table::CALL_BIAS as u64 && index == Register::None;
        if biases && to != 4 && register(base) == Low {
            self.regs[to] = Biased;
            return Ok(true);
        }
        let plain = i.memory_displacement64() == 0 && i.memory_index_scale() == 1 && base.is_gpr64();
        if plain && index != Register::None && self.regs[number(index) as usize] == Base {
            if is_rsp(base) {
                ensure(to == 4 && self.stack == Stack::Low, "sum of rsp")?;
                self.stack = Stack::Near(0, 0);
            } else {
                let low = self.regs[number(base) as usize] == Low;
                ensure(low && to == number(base) as usize, "sum of an address")?;
                self.regs[to] = Pointer;
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn string(&mut self, i: &Instruction) -> Answer {
        ensure(i.segment_prefix() == Register::None, "segment of a string operation")?;
        for n in 0..i.op_count() {
            let r = match i.op_kind(n) {
                OpKind::MemorySegRSI => 6,
                OpKind::MemoryESRDI => 7,
                OpKind::Register => continue,
                _ => return Err("operand of a string operation"),
            };
            ensure(self.regs[r] == Pointer, "a string operation at no pointer")?;
            self.regs[r] = Moved;
        }
        Ok(())
    }

    /// Memory operands of an ordinary instruction.
    fn access(&mut self, i: &Instruction) -> Answer {
        if i.mnemonic() == Mnemonic::Nop || i.mnemonic() == Mnemonic::Lea {
            let rsp = is_rsp(i.memory_base()) || is_rsp(i.memory_index());
            return ensure(
                !(rsp && i.op0_register().is_gpr64() && !is_rsp(i.op0_register())),
                "an address from rsp",
            );
        }
        for n in 0..i.op_count() {
            match i.op_kind(n) {
                OpKind::Memory if i.segment_prefix() == Register::GS => {
                    let narrow = |r: Register| r == Register::None || r.is_gpr32() || r.is_vector_register();
                    let xlat = i.mnemonic() == Mnemonic::Xlatb && i.memory_base() == Register::EBX;
                    ensure(xlat || narrow(i.memory_base()) && narrow(i.memory_index()), "64-bit address")?;
                }
                OpKind::Memory => self.near(i, n)?,
                OpKind::MemorySegEDI => ensure(i.segment_prefix() == Register::GS, "implicit operand")?,
                OpKind::Register
                | OpKind::Immediate8
                | OpKind::Immediate16
                | OpKind::Immediate32
                | OpKind::Immediate64
                | OpKind::Immediate8to16
                | OpKind::Immediate8to32
                | OpKind::Immediate8to64
                | OpKind::Immediate32to64 => {}
                _ => return Err("kind of operand"),
            }
        }
        Ok(())
    }

    /// An access at disp(%rsp).
    fn near(&mut self, i: &Instruction, n: u32) -> Answer {
        let Stack::Near(down, up) = self.stack else { return Err("rsp is an offset") };
        ensure(i.memory_base() == Register::RSP && i.memory_index() == Register::None, "base")?;
        ensure(i.segment_prefix() == Register::None, "segment")?;
        let disp = i.memory_displacement64() as i64;
        let reach = disp.unsigned_abs() + 64;
        ensure(down.max(up) + reach < GUARD, "reach")?;
        let x87 = i.cpuid_features().iter().any(|f| matches!(f, iced_x86::CpuidFeature::FPU));
        let access = self.factory.info(i).op_access(n);
        let sure = matches!(
            access,
            OpAccess::Read | OpAccess::Write | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        ) || i.is_cmov();
        let quiet =
            ["Prefetch", "Clflush", "Clwb"].iter().any(|p| format!("{:?}", i.mnemonic()).starts_with(p));
        if sure && !x87 && !quiet && (0..4096).contains(&disp) {
            self.stack = Stack::Near(0, 0);
        }
        Ok(())
    }

    /// rsp as a register operand is only read, and not all of it, unless it is moved.
    fn rsp_operand(&mut self, i: &Instruction) -> Answer {
        let wide =
            (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && i.op_register(n) == Register::RSP);
        let moved = i.op0_register() == Register::RSP
            && matches!(i.mnemonic(), Mnemonic::Add | Mnemonic::Sub | Mnemonic::And | Mnemonic::Lea);
        ensure(!wide || moved, "rsp is read")
    }

    fn rsp_change(&mut self, i: &Instruction) -> Answer {
        let into = i.op0_kind() == OpKind::Register && is_rsp(i.op0_register());
        if i.is_stack_instruction() && !(into && i.mnemonic() == Mnemonic::Pop) {
            ensure(matches!(self.stack, Stack::Near(..)), "a push while rsp is an offset")?;
            self.stack = Stack::Near(0, 0);
            return Ok(());
        }
        ensure(into, "rsp written")?;
        let by = i.immediate_or_displacement();
        match (i.code(), self.stack) {
            (Code::Mov_r32_rm32 | Code::Mov_r32_imm32 | Code::Lea_r32_m, _) => self.stack = Stack::Low,
            (Code::Add_rm64_imm8 | Code::Add_rm64_imm32 | Code::Lea_r64_m, Stack::Near(..)) => {
                let own = i.mnemonic() != Mnemonic::Lea
                    || i.memory_base() == Register::RSP && i.memory_index() == Register::None;
                ensure(own, "lea of rsp")?;
                self.shift(by)?;
            }
            (Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32, Stack::Near(..)) => self.shift(by.wrapping_neg())?,
            (Code::And_rm64_imm8 | Code::And_rm64_imm32, Stack::Near(..)) => {
                ensure((-4096..0).contains(&by) && by.unsigned_abs().is_power_of_two(), "mask")?;
                self.shift(by)?;
            }
            _ => return Err("rsp written"),
        }
        Ok(())
    }

    fn shift(&mut self, by: i64) -> Answer {
        let Stack::Near(mut down, mut up) = self.stack else { return Err("rsp is an offset") };
        let far = if by < 0 { &mut down } else { &mut up };
        *far = far.saturating_add(by.unsigned_abs());
        ensure(down.max(up) <= 32 << 10, "too far")?;
        self.stack = Stack::Near(down, up);
        Ok(())
    }
}

fn is_lookup(i: &Instruction) -> bool {
    i.segment_prefix() == Register::GS
        && i.memory_base() == Register::None
        && i.memory_index() == Register::R11
        && i.memory_index_scale() == 4
        && matches!(i.memory_displacement64(), 0 | 4)
}

/// A prefetch neither faults nor loads.
fn is_table_hint(i: &Instruction) -> bool {
    i.mnemonic() == Mnemonic::Prefetcht0
        && i.segment_prefix() == Register::GS
        && i.memory_base() == Register::None
        && i.memory_index() == Register::None
}

trait Constants {
    fn immediate_or_displacement(&self) -> i64;
    fn is_cmov(&self) -> bool;
}

impl Constants for Instruction {
    fn immediate_or_displacement(&self) -> i64 {
        match self.op1_kind() {
            OpKind::Memory => self.memory_displacement64() as i64,
            OpKind::Register => 0,
            _ => self.immediate(1) as i64,
        }
    }

    fn is_cmov(&self) -> bool {
        format!("{:?}", self.mnemonic()).starts_with("Cmov")
    }
}
