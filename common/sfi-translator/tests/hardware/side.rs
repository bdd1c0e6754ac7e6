//! Runs a sequence natively and translated and compares everything that a program can see.
//!
//! Neighbours: `machine` has the memory and enters the code, `main` makes sequences and counts.
//! A translated run has a small LibOS: it links, answers table misses, translates on demand and undoes interrupted
//! patterns. It comes first; where it left for the LibOS to emulate something, the native run stops at a breakpoint.

use crate::machine::{CACHE, CODE, Caught, END, FLAGS, GUEST_GS, Machine, PAGE, SLOT, State, TICKS, TLS};
use crate::shared::STUBS;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use occlum_sfi_spec::{Returns, ctx, reason, shadow, table};
use occlum_sfi_translator::{Config, Env, Fragment, Source, translate, undo};
use std::collections::HashMap;

/// How a run ended, the same for both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The last instruction was left for `END`.
    Done,
    /// The LibOS would have to do the instruction there.
    Emulate(u32),
    /// `syscall` there.
    Syscall(u32),
    /// The shadow stack refuses the return there.
    Refused(u32),
    /// Nothing executable there.
    Fetch(u32),
    /// Signal, place, and for memory faults (code, offset).
    Fault(i32, u32, Option<(i32, u32)>),
    /// It would go on for ever.
    Loop,
}

/// What came of a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Both sides agree.
    Same(End),
    /// The native side used or made of rsp an address above 4 GiB, which differs by design (`docs/sfi.md`, section 6).
    Wild,
    /// The native side reached memory of this test below 4 GiB.
    Own,
    /// Only flags differ, which the manual leaves undefined.
    Undefined(End),
    /// A difference that is on purpose.
    Known(Known, End),
}

/// Differences on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// `ret n` stores the return address once more, below the stack pointer (`docs/sfi.md`, section 4).
    ReturnSlot,
    /// A load through fs or gs that faults leaves the segment's base in its destination (the same).
    SegmentBase,
    /// The probe of rsp: it faults where the program would not have touched its stack, or it changed flags, which is seen
    /// because the instruction that replaces them faults (section 3). Also the probe that the CPU's `enter` makes at the end
    /// of its frame and ours does not (section 6).
    Probe,
    /// `leave` that faults has moved rsp already (section 4).
    Leave,
    /// A string operation cuts rsi and rdi (with 67 rcx, too) to 32 bits even if it repeats no time (section 4).
    String,
    /// The decoder is Intel's: AMD's CPUs refuse 0F 0D with a register, take 66 before a branch as 16-bit, and F2 or F3
    /// before `loope` and `loopne` (reserved prefixes) as a change of the condition.
    Vendor,
}

/// More exits to the LibOS than this: a loop.
const MAX_EXITS: usize = 2000;
const LIMIT: u64 = 1 << 32;
/// Returns of one `ret` before the one that is refused.
const MAX_PASSES: u32 = 64;
/// How much longer a run may take if the other side's has ended.
const PATIENCE: u64 = 60;
/// si_code of faults without an address.
const KERNEL: i32 = 0x80;

#[derive(Default)]
struct Map(HashMap<u32, u32>);

impl Env for Map {
    fn lookup(&self, off: u32) -> Option<u32> {
        self.0.get(&off).copied()
    }
}

pub struct Sides {
    pub machine: Machine,
    map: Map,
    fragments: Vec<Fragment>,
    next: u32,
    exits: Vec<(u32, u32)>,
    config: Config,
}

impl Sides {
    pub fn new(machine: Machine, config: Config) -> Sides {
        Sides { config, machine, map: Map::default(), fragments: Vec::new(), next: CACHE, exits: Vec::new() }
    }

    /// What the translations are verified for.
    pub fn returns(&self) -> Returns {
        self.config.returns
    }

    /// Forgets all translations.
    fn reset(&mut self) {
        for &off in self.map.0.keys() {
            self.machine.set_entry(table::Kind::Ret, off, STUBS.miss_ret);
            self.machine.set_entry(table::Kind::Call, off, STUBS.miss_call);
        }
        self.map.0.clear();
        self.fragments.clear();
        self.exits.clear();
        self.next = CACHE;
        if self.config.returns != Returns::Table {
            self.machine.clear_shadow();
        }
    }

    /// The translated entry of `pc`; `None`: nothing there to translate.
    fn entry(&mut self, pc: u32) -> Option<u32> {
        if let Some(&known) = self.map.0.get(&pc) {
            return Some(known);
        }
        if !(CODE..CODE + PAGE).contains(&pc) {
            return None;
        }
        let source = Source { start: pc, bytes: &self.machine.code()[(pc - CODE) as usize..] };
        let f = translate(&self.config, source, self.next, self.exits.len() as u32, &self.map).ok()?;
        self.machine.write_cache(f.base, &f.code);
        self.next = (f.base + f.code.len() as u32 + 15) & !15;
        for e in &f.entries {
            self.map.0.entry(e.off).or_insert(e.at);
            self.machine.set_entry(table::Kind::Ret, e.off, e.at);
            self.machine.set_entry(table::Kind::Call, e.off, e.at);
        }
        self.exits.extend(f.exits.iter().map(|x| (x.target, x.patch_at)));
        let at = f.entries[0].at;
        self.fragments.push(f);
        Some(at)
    }

    /// The code page's first translation as it lies in the cache, made anew: address and bytes.
    pub fn first_translation(&mut self) -> Option<(u32, Vec<u8>)> {
        self.reset();
        let at = self.entry(CODE)?;
        self.fragments.first().filter(|f| f.base == at).map(|f| (f.base, f.code.clone()))
    }

    /// Runs the code page translated, from the original state `start`.
    fn translated(&mut self, start: &State) -> (State, End) {
        let mut s = start.clone();
        let mut pc = start.rip as u32;
        for _ in 0..MAX_EXITS {
            let Some(at) = self.entry(pc) else { return (s, End::Fetch(pc)) };
            s.rip = u64::from(at);
            s.fs = self.machine.context_address();
            s.gs = SLOT;
            s.gpr[4] = SLOT + (s.gpr[4] & 0xffff_ffff);
            *self.machine.context(ctx::spill(11)) = s.gpr[11];
            *self.machine.context(ctx::SLOT_BASE) = SLOT;
            *self.machine.context(ctx::TLS) = u64::from(TLS);
            *self.machine.context(ctx::GUEST_GS) = u64::from(GUEST_GS);
            *self.machine.context(ctx::SHADOW) = shadow::DISTANCE;
            s.gpr[11] = 0xbad0_11ba_d011;
            let (out, caught) = self.machine.run(&s);
            s = out;
            match caught {
                Some(c) => {
                    let end = self.fault(&mut s, c);
                    return (s, end);
                }
                None => match self.answer(&mut s) {
                    Ok(next) => pc = next,
                    Err(end) => return (s, end),
                },
            }
        }
        (s, End::Loop)
    }

    /// At a stub: where to go on, or why not.
    fn answer(&mut self, s: &mut State) -> Result<u32, End> {
        let register = s.gpr[11] as u32;
        s.gpr[11] = *self.machine.context(ctx::spill(11));
        s.gpr[4] &= 0xffff_ffff;
        let exit = *self.machine.context(ctx::EXIT) as u32;
        match *self.machine.context(ctx::REASON) as u32 {
            reason::LINK => {
                let (target, patch_at) = self.exits[exit as usize];
                if target == END {
                    return Err(End::Done);
                }
                if let Some(to) = self.entry(target) {
                    self.machine.write_cache(patch_at, &to.wrapping_sub(patch_at + 4).to_le_bytes());
                }
                Ok(target)
            }
            reason::MISS_RET => {
                let below = self.machine.slot_u64((s.gpr[4] as u32).wrapping_sub(8));
                Ok(below.expect("a return address that was just read") as u32)
            }
            reason::MISS_CALL => Ok(*self.machine.context(ctx::TARGET) as u32),
            // r11 in its register is the next original pc (`Stubs`).
            reason::SYSCALL => Err(End::Syscall(register.wrapping_sub(2))),
            _ => Err(End::Emulate(exit)),
        }
    }

    /// A signal in translated code: undoes the pattern it interrupted.
    fn fault(&mut self, s: &mut State, c: Caught) -> End {
        if c.signal == libc::SIGPROF {
            return End::Loop;
        }
        let rip = c.rip as u32;
        let inside = |f: &&Fragment| (f.base..f.base + f.code.len() as u32).contains(&rip);
        let f = self.fragments.iter().find(inside);
        let Some(u) = f.and_then(|f| undo(&f.rows, &f.code, f.base, rip)) else {
            return End::Fault(c.signal, rip, Some((c.code, c.address as u32)));
        };
        for n in 0..16 {
            if u.restore[n] {
                s.gpr[n] = *self.machine.context(ctx::spill(n as u32));
            }
            if u.truncate[n] {
                s.gpr[n] &= 0xffff_ffff;
            }
        }
        s.gpr[4] = u64::from((s.gpr[4] as u32).wrapping_add_signed(u.rsp_delta));
        if let Some(rcx) = u.rcx {
            s.gpr[1] = u64::from(rcx);
        }
        let memory = matches!(c.signal, libc::SIGSEGV | libc::SIGBUS);
        if memory && table::entry_at(SLOT, c.address).is_some() {
            return self.missing_chunk(s, u.pc, c.address);
        }
        if self.is_refused(s, c.signal, u.pc) {
            return End::Refused(u.pc);
        }
        End::Fault(c.signal, u.pc, memory.then_some((c.code, c.address as u32)))
    }

    /// A trap of `ret` whose return address is not the one of its shadow word. (One whose is stays a fault, which no CPU has.)
    fn is_refused(&self, s: &State, signal: i32, pc: u32) -> bool {
        let i = decode(self.machine.code(), pc);
        // `ret 0` is translated as `ret`.
        let is_ret = matches!(i.code(), Code::Retnq | Code::Retnq_imm16) && i.immediate16() == 0;
        let rsp = s.gpr[4] as u32;
        self.config.returns == Returns::Shadow
            && signal == libc::SIGILL
            && is_ret
            && self.machine.slot_u64(rsp).is_none_or(|to| self.machine.shadow(rsp) != shadow::live(to as u32))
    }

    /// The lookup found no table: the instruction is undone, and its target holds no code.
    fn missing_chunk(&self, s: &mut State, pc: u32, entry: u64) -> End {
        let (_, target) = table::entry_at(SLOT, entry).expect("an entry");
        let i = decode(self.machine.code(), pc);
        let moved = match i.code() {
            Code::Retnq => 8,
            Code::Retnq_imm16 => 8 + u64::from(i.immediate16()),
            Code::Call_rm64 => 8u64.wrapping_neg(),
            _ => 0,
        };
        s.gpr[4] = s.gpr[4].wrapping_add(moved) & 0xffff_ffff;
        End::Fetch(target)
    }

    fn native_start(&self, start: &State) -> State {
        State { fs: u64::from(TLS), gs: u64::from(GUEST_GS), ..start.clone() }
    }

    /// Runs the code page natively; stops at `stop`.
    fn native(&mut self, start: &State, stop: Option<u32>) -> (State, Option<Caught>) {
        let s = self.native_start(start);
        let saved = stop.map(|at| (at, self.machine.native_byte(at, 0xcc)));
        let result = self.machine.run(&s);
        if let Some((at, byte)) = saved {
            self.machine.native_byte(at, byte);
        }
        result
    }

    /// One sequence on both sides, from `start` and pristine memory. The error says what differs.
    pub fn compare(&mut self, start: &State) -> Result<Outcome, String> {
        self.reset();
        let (slot, end) = self.translated(start);
        let stop = match end {
            End::Emulate(at) | End::Syscall(at) | End::Refused(at) if (CODE..CODE + PAGE).contains(&at) => {
                Some(at)
            }
            _ => None,
        };
        let mut rows = self.fragments.iter().flat_map(|f| &f.rows);
        let result = if stop.is_some_and(|at| rows.any(|r| r.off < at && at < r.off + u32::from(r.len))) {
            // A breakpoint would change an instruction that another path runs.
            Ok(Outcome::Own)
        } else {
            let (native, caught) = self.native(start, stop);
            let result = self.judge(start, &slot, end, &native, caught, stop);
            match stop.filter(|at| result.is_err() && u64::from(*at) != start.rip) {
                // The same `ret` may have returned before: natively, the state of one of the times it comes there is the one.
                Some(at) if matches!(end, End::Refused(_)) => (0..MAX_PASSES)
                    .map(|passes| self.compare_stepping(start, at, passes))
                    .find(Result::is_ok)
                    .unwrap_or(result),
                Some(at) => self.compare_stepping(start, at, 0),
                None => result,
            }
        };
        self.machine.restore();
        result
    }

    /// The same without a breakpoint, which the sequence could see as data.
    fn compare_stepping(&mut self, start: &State, stop: u32, passes: u32) -> Result<Outcome, String> {
        self.machine.restore();
        self.reset();
        let (slot, end) = self.translated(start);
        let (native, caught) = self.machine.run_to(&self.native_start(start), stop, passes);
        self.judge(start, &slot, end, &native, caught, Some(stop))
    }

    /// `compare`; a side that took too long while the other one ended gets more time.
    pub fn compare_patiently(&mut self, start: &State) -> Result<Outcome, String> {
        self.machine.ticks = TICKS;
        let result = self.compare(start);
        if !self.machine.was_slow {
            return result;
        }
        self.machine.was_slow = false;
        match result {
            Err(_) => {
                self.machine.ticks = PATIENCE * TICKS;
                self.compare(start)
            }
            good => good,
        }
    }

    fn judge(
        &mut self,
        start: &State,
        slot: &State,
        end: End,
        native: &State,
        caught: Option<Caught>,
        stop: Option<u32>,
    ) -> Result<Outcome, String> {
        let native_end = native_end(caught, stop, end);
        if native_end == Some(End::Loop) && end == End::Loop {
            return Ok(Outcome::Same(end));
        }
        let differs = if native_end == Some(end) {
            self.states(slot, native, end)
        } else {
            Err(format!("native {caught:x?} = {native_end:x?}, translated {end:x?}"))
        };
        let what = match differs {
            Ok(None) => return Ok(Outcome::Same(end)),
            Ok(Some(known)) => return Ok(Outcome::Known(known, end)),
            Err(what) => what,
        };
        if self.is_wild(native, caught) {
            return Ok(Outcome::Wild);
        }
        if let End::Fault(_, _, Some((_, at))) | End::Fetch(at) = end {
            if at >> 20 == STUBS.syscall >> 20 || at >> 20 == CACHE >> 20 {
                return Ok(Outcome::Own);
            }
        }
        if self.is_vendors(caught) {
            return Ok(Outcome::Known(Known::Vendor, end));
        }
        if let Some(outcome) = (what == "flags").then(|| self.flags(slot, native, end)).flatten() {
            return Ok(outcome);
        }
        if self.probe_faults(slot, end) || self.enter_touches(native, native_end) {
            return Ok(Outcome::Known(Known::Probe, end));
        }
        if self.pops_half(native, native_end) {
            return Ok(Outcome::Known(Known::Leave, end));
        }
        if self.flags_undefined_on_the_way() {
            return Ok(Outcome::Undefined(end));
        }
        if native_end == Some(end) {
            if let Some(known) = self.registers_on_purpose(slot, native, end) {
                return Ok(Outcome::Known(known, end));
            }
        }
        if self.reaches_below_return() {
            return Ok(Outcome::Known(Known::ReturnSlot, end));
        }
        let start = self.native_start(start);
        let watched = self.cut_registers();
        if self.machine.steps_wild(&start, LIMIT, &watched) { Ok(Outcome::Wild) } else { Err(what) }
    }

    /// rsp moves, then an instruction leaves flags undefined (which a CPU may do by keeping them: what a probe would
    /// change), then something reads flags.
    fn flags_undefined_on_the_way(&self) -> bool {
        let all = self.instructions();
        let undefined = |i: &Instruction| crate::flags::undefined(i) != 0;
        all.iter().any(moves_rsp) && all.iter().any(undefined) && all.iter().any(|i| i.rflags_read() != 0)
    }

    /// Is everything equal once one register is set to what it is known to differ in?
    fn registers_on_purpose(&self, slot: &State, native: &State, end: End) -> Option<Known> {
        let mut other = slot.clone();
        let known = if let Some(n) = self.loaded_through_segment(slot, end) {
            other.gpr[n] = native.gpr[n];
            Known::SegmentBase
        } else if self.is_leave(slot, end) {
            other.gpr[4] = native.gpr[4];
            Known::Leave
        } else if self.instructions().iter().any(Instruction::is_string_instruction) {
            for n in [1, 6, 7] {
                if slot.gpr[n] == native.gpr[n] & 0xffff_ffff {
                    other.gpr[n] = native.gpr[n];
                }
            }
            Known::String
        } else {
            return None;
        };
        match self.states(&other, native, end) {
            Ok(_) => Some(known),
            // Two differences on purpose at once.
            Err(what) => (what == "flags" && self.flags(slot, native, end).is_some()).then_some(known),
        }
    }

    /// A fault of `leave`, with rsp where its pop would be.
    fn is_leave(&self, slot: &State, end: End) -> bool {
        let End::Fault(_, pc, _) = end else { return false };
        let i = decode(self.machine.code(), pc);
        i.code() == Code::Leaveq && slot.gpr[4] == slot.gpr[5] & 0xffff_ffff
    }

    /// A fault at rsp itself right behind an instruction that moves it.
    fn probe_faults(&self, slot: &State, end: End) -> bool {
        let End::Fault(libc::SIGSEGV, pc, Some((_, at))) = end else { return false };
        let behind = |i: &Instruction| moves_rsp(i) && (i.ip() as u32 == pc || i.next_ip() as u32 == pc);
        u64::from(at) == slot.gpr[4] && self.instructions().iter().any(behind)
    }

    /// A native fault of `enter` at the end of its frame.
    fn enter_touches(&self, native: &State, native_end: Option<End>) -> bool {
        let Some(End::Fault(libc::SIGSEGV, pc, Some((_, at)))) = native_end else { return false };
        let i = decode(self.machine.code(), pc);
        let frame = 8 + u64::from(i.immediate16());
        i.code() == Code::Enterq_imm16_imm8
            && u64::from(at) == native.gpr[4].wrapping_sub(frame) & 0xffff_ffff
    }

    /// `pop %rsp` where the memory ends in the middle of the word: translated code reads the lower half, which is there.
    fn pops_half(&self, native: &State, native_end: Option<End>) -> bool {
        let Some(End::Fault(libc::SIGSEGV, pc, Some((_, at)))) = native_end else { return false };
        let i = decode(self.machine.code(), pc);
        i.code() == Code::Pop_r64
            && i.op0_register() == Register::RSP
            && (native.gpr[4] + 4..native.gpr[4] + 8).contains(&u64::from(at))
    }

    /// `ret n` and an access to the stack, which may reach what `ret n` left there.
    fn reaches_below_return(&self) -> bool {
        let all = self.instructions();
        let stack = |i: &Instruction| {
            let other = i.code() != Code::Retnq_imm16;
            matches!(i.memory_base(), Register::RSP | Register::ESP) || i.is_stack_instruction() && other
        };
        all.iter().any(|i| i.code() == Code::Retnq_imm16 && i.immediate16() >= 8) && all.iter().any(stack)
    }

    /// What excuses a difference of flags.
    fn flags(&self, slot: &State, native: &State, end: End) -> Option<Outcome> {
        if self.only_undefined(slot, native) {
            return Some(Outcome::Undefined(end));
        }
        let probed =
            matches!(end, End::Fault(..) | End::Emulate(_)) && self.instructions().iter().any(moves_rsp);
        probed.then_some(Outcome::Known(Known::Probe, end))
    }

    /// The register that a faulting load through fs or gs was to fill, if it holds the segment's base.
    fn loaded_through_segment(&self, slot: &State, end: End) -> Option<usize> {
        let End::Fault(_, pc, _) = end else { return None };
        let i = decode(self.machine.code(), pc);
        let segment = matches!(i.segment_prefix(), Register::FS | Register::GS);
        if !segment || i.op0_kind() != OpKind::Register || !i.op0_register().is_gpr() {
            return None;
        }
        let n = i.op0_register().full_register().number();
        (slot.gpr[n] >> 32 == 0).then_some(n)
    }

    /// Registers that translated code cuts to 32 bits, each with the place behind its instruction: above 4 GiB they differ by
    /// design (section 4). Sums of rsp, and pointers of string instructions, which may be repeated no time at all.
    fn cut_registers(&self) -> Vec<(u64, usize)> {
        let of = |i: &Instruction| {
            let sum = i.mnemonic() == Mnemonic::Lea
                && i.memory_base() == Register::RSP
                && i.op0_register().is_gpr64();
            let points = |by: OpKind| i.is_string_instruction() && i.op_kinds().any(|k| k == by);
            let source = points(OpKind::MemorySegRSI);
            let destination = points(OpKind::MemoryESRDI);
            let cut = [(sum, i.op0_register().number()), (source, 6), (destination, 7)];
            cut.map(|(is_cut, register)| is_cut.then_some((i.next_ip(), register)))
        };
        self.instructions().iter().flat_map(of).flatten().collect()
    }

    /// Does the CPU's maker explain the difference?
    fn is_vendors(&self, caught: Option<Caught>) -> bool {
        let refused = caught.is_some_and(|c| {
            let i = decode(self.machine.code(), c.rip as u32);
            c.signal == libc::SIGILL && format!("{:?}", i.code()).contains("0F0D")
        });
        let narrow = caught.is_some_and(|c| c.signal == libc::SIGSEGV && c.rip < 0x1_0000);
        let narrow = narrow && self.machine.code().contains(&0x66);
        refused || narrow || self.instructions().iter().any(|i| self.is_odd_branch(i))
    }

    /// A branch behind 66, `loope` or `loopne` behind F2 or F3.
    fn is_odd_branch(&self, i: &Instruction) -> bool {
        let bytes = &self.machine.code()[(i.ip() as u32 - CODE) as usize..];
        let prefix =
            |b: &&u8| matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
        let mut prefixes = bytes.iter().take_while(prefix);
        let odd = |b: &u8| *b == 0x66 || matches!(b, 0xf2 | 0xf3) && i.is_loopcc();
        i.op0_kind() == OpKind::NearBranch64 && prefixes.any(odd)
    }

    /// All instructions that were translated.
    fn instructions(&self) -> Vec<Instruction> {
        let rows = self.fragments.iter().flat_map(|f| &f.rows);
        let inside = rows.filter(|row| (CODE..CODE + PAGE).contains(&row.off));
        inside.map(|row| decode(self.machine.code(), row.off)).collect()
    }

    /// Equal memory, or what `ret n` leaves behind.
    fn memory(&self, end: End) -> Result<Option<Known>, u32> {
        let (mut from, mut known) = (0, None);
        while let Some(at) = self.machine.difference(from) {
            let returned = |s: &u32| {
                let code = |v: u64| (u64::from(CODE)..u64::from(CODE + PAGE)).contains(&v);
                self.machine.slot_u64(*s).is_some_and(|v| code(v) || end == End::Fetch(v as u32) && v < LIMIT)
            };
            let slot =
                (at.saturating_sub(7)..=at).find(returned).filter(|_| self.machine.code().contains(&0xc2));
            from = slot.ok_or(at)? + 8;
            known = Some(Known::ReturnSlot);
        }
        Ok(known)
    }

    /// Equal states, or with a difference in memory that is on purpose.
    fn states(&self, slot: &State, native: &State, end: End) -> Result<Option<Known>, String> {
        for n in 0..16 {
            let gone = matches!(end, End::Syscall(_)) && (n == 1 || n == 11);
            if slot.gpr[n] != native.gpr[n] && !gone {
                return Err(format!(
                    "register {n}: native {:#x}, translated {:#x}",
                    native.gpr[n], slot.gpr[n]
                ));
            }
        }
        if slot.ymm != native.ymm {
            return Err("vector registers".into());
        }
        if let Some(what) = x87_difference(&slot.fx, &native.fx) {
            return Err(format!("x87 {what}"));
        }
        let memory = self.memory(end).map_err(|at| format!("memory at {at:#x}"))?;
        if (slot.flags ^ native.flags) & FLAGS != 0 {
            return Err("flags".into());
        }
        Ok(memory)
    }

    /// Flags that the last instruction to write them leaves undefined; asked only if some differ.
    fn only_undefined(&self, slot: &State, native: &State) -> bool {
        let undefined =
            self.instructions().iter().fold(0, |all, i| all | u64::from(crate::flags::undefined(i)));
        (slot.flags ^ native.flags) & FLAGS & !undefined == 0
    }

    /// Does the native side use an address (or a stack) above 4 GiB, which translated code takes modulo 2^32?
    fn is_wild(&self, native: &State, caught: Option<Caught>) -> bool {
        let Some(c) = caught else { return native.gpr[4] >= LIMIT };
        if native.gpr[4] >= LIMIT || c.rip >= LIMIT || c.address >= LIMIT {
            return true;
        }
        // #SS is a stack address that no pointer may have.
        if c.signal == libc::SIGBUS && c.code == KERNEL {
            return true;
        }
        if !matches!(c.signal, libc::SIGSEGV | libc::SIGBUS)
            || !(u64::from(CODE)..u64::from(CODE + PAGE)).contains(&c.rip)
        {
            return false;
        }
        let i = decode(self.machine.code(), c.rip as u32);
        let flow = matches!(
            i.flow_control(),
            FlowControl::Return | FlowControl::IndirectBranch | FlowControl::IndirectCall
        );
        // #GP of these: a target that no pointer may have.
        flow && c.code == KERNEL || wild_operand(&i, native)
    }
}

/// Writes rsp otherwise than by pushing and popping.
fn moves_rsp(i: &Instruction) -> bool {
    i.op0_kind() == OpKind::Register
        && i.op0_register().full_register() == Register::RSP
        && !i.is_stack_instruction()
}

fn decode(code: &[u8], pc: u32) -> Instruction {
    let Some(bytes) = code.get(pc.wrapping_sub(CODE) as usize..) else { return Instruction::default() };
    Decoder::with_ip(64, bytes, u64::from(pc), DecoderOptions::NONE).decode()
}

/// What the native side's end is called; `None` if nothing like it exists.
fn native_end(caught: Option<Caught>, stop: Option<u32>, other: End) -> Option<End> {
    let Some(c) = caught else { return Some(End::Done) };
    if c.signal == libc::SIGPROF {
        return Some(End::Loop);
    }
    if c.signal == libc::SIGTRAP && stop.is_some_and(|at| c.rip == u64::from(at) + 1) {
        return Some(other);
    }
    if c.rip >= LIMIT || c.address >= LIMIT && c.signal == libc::SIGSEGV {
        return None;
    }
    if let End::Fetch(at) = other {
        // The fault may be at the page behind, in the middle of an instruction.
        let page = u64::from(CODE + PAGE);
        let cut = c.address == page && (page - 15..page).contains(&c.rip);
        if c.signal == libc::SIGSEGV && c.rip == u64::from(at) && (c.address == c.rip || cut) {
            return Some(other);
        }
    }
    let memory = matches!(c.signal, libc::SIGSEGV | libc::SIGBUS);
    Some(End::Fault(c.signal, c.rip as u32, memory.then_some((c.code, c.address as u32))))
}

/// Registers that name memory: does any address they give lie above 4 GiB?
fn wild_operand(i: &Instruction, s: &State) -> bool {
    let value = |r: Register, element: usize, size: usize| -> Option<u64> {
        match r {
            Register::FS => Some(u64::from(TLS)),
            Register::GS => Some(u64::from(GUEST_GS)),
            r if r.is_segment_register() => Some(0),
            r if r.is_vector_register() => {
                let all = s.ymm[r.number() & 15];
                Some(if size == 8 {
                    *all.get(element)?
                } else {
                    (*all.get(element / 2)? >> (32 * (element & 1))) & 0xffff_ffff
                })
            }
            r if r.is_gpr32() => Some(s.gpr[r.full_register().number()] & 0xffff_ffff),
            r if r.is_gpr64() => Some(s.gpr[r.number()]),
            r if r.is_gpr8() => Some(s.gpr[r.full_register().number()] & 0xff),
            _ => None,
        }
    };
    if i.mnemonic() == Mnemonic::Call || i.mnemonic() == Mnemonic::Jmp {
        let target = (i.op0_kind() == OpKind::Register).then(|| s.gpr[i.op0_register().number()]);
        if target.is_some_and(|t| t >= LIMIT) {
            return true;
        }
    }
    // A bit beyond the operand: emulated, never here.
    let implied = |n: u32| {
        matches!(
            i.op_kind(n),
            OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI | OpKind::MemorySegEDI
        )
    };
    (0..i.op_count()).any(|n| {
        (i.op_kind(n) == OpKind::Memory || implied(n))
            && (0..8).any(|element| i.virtual_address(n, element, value).is_some_and(|a| a + 63 >= LIMIT))
    })
}

/// Control, status, tags, registers and MXCSR; not the addresses of the last instruction (R12).
fn x87_difference(a: &[u8; 512], b: &[u8; 512]) -> Option<&'static str> {
    let parts: [(&str, std::ops::Range<usize>); 3] =
        [("control, status or tags", 0..5), ("MXCSR", 24..28), ("registers", 32..160)];
    let differ = |r: &std::ops::Range<usize>| a[r.clone()] != b[r.clone()];
    parts.iter().find(|(_, r)| differ(r)).map(|(name, _)| *name)
}
