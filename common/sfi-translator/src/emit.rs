//! Writes one fragment: rows, entries, branches, exit stubs, and the account of rsp (R2).
//!
//! Neighbours: `extent` gives the instructions, `pattern` the multi-instruction forms, `asm` the bytes.
//! Invariants: at every entry, branch and exit `dirty` is 0; every byte belongs to a row; every unlinked branch has an
//! `ExitSite` whose four bytes lie within one 16-byte line.

use crate::asm::{Asm, R11, RSP};
use crate::classify::{Class, is_prefetch, is_stack_access, is_x87};
use crate::extent::{Extent, Item};
use crate::parts::Parts;
use crate::{Config, Entry, EntryKind, Env, ExitSite, Fragment, Row, Source};
use alloc::vec;
use alloc::vec::Vec;
use iced_x86::{ConditionCode, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register, RflagsBits};
use occlum_sfi_spec::{Returns, ctx, table};

/// Largest displacement of an unprefixed rsp operand (R2).
const MAX_STACK_DISP: i64 = 16 << 10;
/// Most rsp may move between two confining accesses (R2).
pub(crate) const MAX_DIRTY: u32 = 32 << 10;
/// Displacements in [0, this) confine rsp (R2).
const CONFINING_DISP: i64 = 4096;
/// Original distance up to which a forward branch is first tried in its short form.
const SHORT_GUESS: u32 = 56;
/// How far the scans for flags and for confining accesses look.
const SCAN: usize = 48;
const STATUS: u32 =
    RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::AF | RflagsBits::CF | RflagsBits::PF;

/// A branch inside the fragment whose displacement is filled in at the end.
struct Fix {
    at: u32,
    short: bool,
    from: usize,
    to: usize,
}

/// What happens to the status flags behind an instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flags {
    /// Overwritten before anything reads them.
    Dead,
    /// Read.
    Live,
    /// The scan came to a place it does not look behind.
    Unknown,
}

/// Where the guest's r11 is inside a fragment. At every entry and exit it is at home, in its spill slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// At home: no instruction names it, the register is scratch.
    Slot,
    /// In the register; never written.
    Read,
    /// In the register.
    Written,
}

/// How the instructions of a fragment use r11. As a register operand it counts as written.
fn r11_use(extent: &Extent) -> Home {
    let is_r11 = |r: Register| r.is_gpr() && r.full_register() == Register::R11;
    let mut home = Home::Slot;
    for item in extent.items.iter().filter(|i| !matches!(i.class, Class::Syscall | Class::Emulate)) {
        let i = &item.instr;
        if (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && is_r11(i.op_register(n))) {
            return Home::Written;
        }
        if is_r11(i.memory_base()) || is_r11(i.memory_index()) {
            home = Home::Read;
        }
    }
    home
}

/// State while a fragment is written.
pub(crate) struct Emitter<'a> {
    pub(crate) cfg: &'a Config,
    src: Source<'a>,
    env: &'a dyn Env,
    extent: &'a Extent,
    pub(crate) asm: Asm,
    pub(crate) factory: InstructionInfoFactory,
    /// Bytes rsp may have moved since it was last confined; 0: clean.
    pub(crate) dirty: u32,
    /// Where the guest's r11 is.
    pub(crate) r11: Home,
    /// In a register, r11 may differ from its home.
    stale: bool,
    rows: Vec<Row>,
    entries: Vec<Entry>,
    /// Position of the rel32 and original target of every unlinked branch.
    exits: Vec<(u32, u32)>,
    /// Offset and position of leaders that need r11 in the register.
    ways_in: Vec<(u32, u32)>,
    labels: Vec<u32>,
    fixes: Vec<Fix>,
}

/// Writes the fragment for `extent`.
pub(crate) fn fragment(
    cfg: &Config,
    src: Source<'_>,
    base: u32,
    first_exit_index: u32,
    env: &dyn Env,
    extent: &Extent,
) -> Fragment {
    let mut long = vec![false; extent.items.len()];
    let r11 = r11_use(extent);
    loop {
        let mut e = Emitter {
            cfg,
            src,
            env,
            extent,
            asm: Asm { base, code: Vec::with_capacity(extent.items.len() * 8 + 64) },
            factory: InstructionInfoFactory::new(),
            dirty: 0,
            r11,
            stale: false,
            rows: Vec::with_capacity(extent.items.len() + 8),
            entries: Vec::new(),
            exits: Vec::new(),
            ways_in: Vec::new(),
            labels: Vec::with_capacity(extent.items.len()),
            fixes: Vec::new(),
        };
        e.body(&long);
        if e.resolve(&mut long) {
            return e.finish(first_exit_index);
        }
    }
}

impl<'a> Emitter<'a> {
    fn body(&mut self, long: &[bool]) {
        let start = self.src.start;
        if let Some(address) = self.env.lookup(start) {
            self.entries.push(Entry { off: start, at: self.here(), kind: EntryKind::Start });
            self.begin_row(start, 0);
            self.asm.jmp(address);
            return;
        }
        self.entry(start, EntryKind::Start);
        let extent = self.extent;
        for (n, item) in extent.items.iter().enumerate() {
            self.place(n, item);
            self.instruction(n, item, long[n]);
            let falls_to = extent.items.get(n + 1).map(|next| next.off);
            if !item.class.ends_block() && falls_to != Some(item.next()) {
                self.clean(item.next());
                self.leave_home(item.next(), item.next());
                self.begin_row(item.next(), 0);
                self.branch(n, None, item.next(), long[n]);
            }
        }
    }

    fn here(&self) -> u32 {
        self.asm.base.wrapping_add(self.asm.at())
    }

    /// Binds the label of item `n` and makes its entries.
    fn place(&mut self, n: usize, item: &Item) {
        if n > 0 && (item.leader || item.return_site) {
            self.clean(item.off);
        }
        if n > 0 && item.return_site {
            self.entry(item.off, EntryKind::ReturnSite);
        } else if n > 0 && item.leader {
            self.inner_entry(item.off);
        }
        if item.leader {
            self.stale = self.r11 == Home::Written;
        }
        self.labels.push(self.asm.at());
    }

    /// An entry for all: if the fragment has r11 in the register, it is fetched first.
    fn entry(&mut self, off: u32, kind: EntryKind) {
        self.entries.push(Entry { off, at: self.here(), kind });
        if self.r11 != Home::Slot {
            self.row(off, 0, true);
            self.asm.reload(R11);
            self.stale = false;
        }
    }

    /// An entry in the middle: where r11 is in the register, `finish` makes a way in that fetches it.
    fn inner_entry(&mut self, off: u32) {
        if self.r11 == Home::Slot {
            self.entries.push(Entry { off, at: self.here(), kind: EntryKind::Internal });
        } else {
            self.ways_in.push((off, self.asm.at()));
        }
    }

    /// Brings r11 home before an exit.
    pub(crate) fn go_home(&mut self, off: u32) {
        if self.stale {
            self.begin_row(off, 0);
            self.asm.spill(R11);
            self.stale = false;
        }
    }

    /// Brings r11 home before a branch to `target`, unless that stays inside.
    fn leave_home(&mut self, off: u32, target: u32) {
        if self.extent.leader_at(target).is_none() {
            self.go_home(off);
        }
    }

    fn row(&mut self, off: u32, len: usize, home: bool) {
        self.rows.push(Row { off, start: self.asm.at(), len: len as u8, commit: Row::NEVER, home });
    }

    /// The current row has r11 at home from its start.
    pub(crate) fn at_home(&mut self) {
        if let Some(row) = self.rows.last_mut() {
            row.home = true;
        }
    }

    pub(crate) fn begin_row(&mut self, off: u32, len: usize) {
        self.row(off, len, self.r11 == Home::Slot);
    }

    /// Marks the commit point of the current row: from here on the next original instruction is the state.
    pub(crate) fn commit(&mut self) {
        let at = self.asm.at();
        if let Some(row) = self.rows.last_mut() {
            row.commit = u8::try_from(at - row.start).unwrap_or(Row::NEVER);
        }
    }

    fn instruction(&mut self, n: usize, item: &Item, long: bool) {
        let i = &item.instr;
        match item.class {
            Class::Jmp(_)
            | Class::Jcc(_)
            | Class::Loop(_)
            | Class::JmpIndirect
            | Class::Syscall
            | Class::Emulate => {
                self.clean(item.off);
            }
            _ => {}
        }
        match item.class {
            Class::Jmp(t) | Class::Jcc(t) | Class::Loop(t) => self.leave_home(item.off, t),
            Class::Call(_) | Class::Emulate => self.go_home(item.off),
            _ => {}
        }
        self.begin_row(item.off, i.len());
        if matches!(item.class, Class::Call(_)) && self.has_shadow() {
            self.at_home();
        }
        match item.class {
            Class::Nop => {}
            Class::Emulate => self.emulate(item.off),
            Class::Syscall => self.syscall(item.next()),
            Class::Jmp(t) if self.extent.items.get(n + 1).is_some_and(|next| next.off == t) => {}
            Class::Jmp(t) => self.branch(n, None, t, long),
            Class::Jcc(t) => self.branch(n, Some(condition(i)), t, long),
            Class::Loop(t) => self.loop_branch(n, item, t, long),
            Class::Call(t) => {
                self.push_return(n);
                self.give_back_after_call(t);
                self.branch(n, None, t, long);
            }
            Class::JmpIndirect => self.indirect(item, None),
            Class::CallIndirect => self.indirect(item, Some(n)),
            Class::Ret(0) if crate::flow::is_jump(self.extent, n, &mut self.factory) => self.ret_jump(),
            Class::Ret(drop) => self.ret(item.off, drop),
            Class::String => self.string(item),
            Class::Lea => self.lea(n, item),
            Class::Leave => self.leave(),
            Class::Enter(size) => self.enter(size),
            Class::Plain => self.plain(n, item),
        }
        if self.r11 == Home::Written && !matches!(item.class, Class::Jcc(_) | Class::Loop(_) | Class::Nop) {
            self.stale = item.class != Class::Syscall;
        }
    }

    /// Bytes of an item.
    pub(crate) fn source(&self, item: &Item) -> &'a [u8] {
        let at = item.off.wrapping_sub(self.src.start) as usize;
        self.src.bytes.get(at..at + item.instr.len()).unwrap_or(&[])
    }

    /// Fields of an item, prefixes without meaning dropped.
    pub(crate) fn parts(&self, item: &Item) -> Option<Parts> {
        let i = &item.instr;
        let mut p = Parts::parse(self.source(item))?;
        if i.mnemonic() == Mnemonic::Pause && p.rex & 1 != 0 {
            return None; // iced-x86 says pause, CPUs exchange r8 and rax
        }
        let repeats =
            i.has_rep_prefix() || i.has_repne_prefix() || i.has_xacquire_prefix() || i.has_xrelease_prefix();
        if repeats && item.class != Class::String {
            p.rep = 0;
        }
        let sized =
            matches!(i.mnemonic(), Mnemonic::Popcnt | Mnemonic::Lzcnt | Mnemonic::Tzcnt | Mnemonic::Crc32);
        if p.rep != 0 && item.class != Class::String && !sized {
            p.opsize = false; // F2 or F3 selects the instruction
        }
        p.drop_idle_opsize();
        Some(p)
    }

    /// An instruction that keeps its form: only its memory operand is rewritten.
    pub(crate) fn ordinary(&mut self, item: &Item) {
        let Some(mut p) = self.parts(item) else { return self.emulate_late(item.off) };
        if !self.place_memory(item, &mut p) {
            return self.emulate_late(item.off);
        }
        p.write(&mut self.asm.code);
        self.account(&item.instr, &p);
    }

    /// Gives a memory operand without fs or gs its confined form. False: no such form.
    pub(crate) fn place_memory(&mut self, item: &Item, p: &mut Parts) -> bool {
        let i = &item.instr;
        if crate::classify::has_implicit_memory(i.mnemonic()) {
            p.gs = true;
            return p.fits();
        }
        if !has_memory(i) {
            p.addr32 = false;
            return true;
        }
        if i.is_ip_rel_memory_operand() {
            p.set_memory(None, None, i.ip_rel_memory_address() as i32);
        } else if !p.has_memory() && !p.make_moffs(i.memory_displacement64() as i32) {
            return false;
        }
        p.gs = !is_stack_form(i, p);
        p.fits()
    }

    /// Keeps the account of rsp after an ordinary instruction.
    fn account(&mut self, i: &Instruction, p: &Parts) {
        let stack = is_stack_access(i.mnemonic());
        if stack || !p.gs && has_memory(i) && confines(i) {
            self.dirty = 0;
        }
    }

    /// Adds a constant change of rsp to the account; the caller made room with `make_room`.
    pub(crate) fn moved(&mut self, by: u32) {
        self.dirty = self.dirty.saturating_add(by).max(1);
    }

    /// Cleans before item `off` if a change by `by` would leave the budget.
    pub(crate) fn make_room(&mut self, off: u32, by: u32) {
        if self.dirty.saturating_add(by) > MAX_DIRTY {
            let last = self.rows.pop(); // the row of the instruction itself starts behind the cleaning
            self.clean(off);
            if let Some(row) = last {
                self.rows.push(Row { start: self.asm.at(), ..row });
            }
        }
    }

    /// Makes rsp clean without a fault and without flags: adds the base to its low half again.
    fn clean(&mut self, off: u32) {
        if self.dirty == 0 {
            return;
        }
        self.begin_row(off, 0);
        self.asm.mov32(RSP, RSP);
        self.rebase();
    }

    /// Makes `s` free for use. At home, r11 is free as it is.
    pub(crate) fn free(&mut self, s: u8) {
        if s != R11 || self.r11 != Home::Slot {
            self.asm.spill(s);
        }
    }

    /// Ends the use of `s`.
    pub(crate) fn give_back(&mut self, s: u8) {
        if s != R11 || self.r11 != Home::Slot {
            self.asm.reload(s);
        }
    }

    /// rsp holds an offset: adds the slot base.
    pub(crate) fn rebase(&mut self) {
        self.free(R11);
        self.rebase_by(R11);
    }

    /// The same with scratch `s`, free already; gives it back.
    pub(crate) fn rebase_by(&mut self, s: u8) {
        self.asm.load(s, ctx::SLOT_BASE);
        self.asm.lea_sum(RSP, RSP, s, true);
        self.give_back(s);
        self.dirty = 0;
    }

    /// After item `n` moved rsp: a cheap probe, if rsp must become clean before the next access confines it.
    pub(crate) fn probe_if_needed(&mut self, n: usize) {
        if self.dirty > 0 && !self.confined_soon(n) && self.flags_after(n) == Flags::Dead {
            self.asm.probe();
            self.dirty = 0;
        }
    }

    /// The items that follow `n` without a gap.
    fn following(&self, n: usize) -> impl Iterator<Item = &'a Item> {
        let items: &'a [Item] = &self.extent.items;
        let mut expected = items[n].next();
        items[n + 1..].iter().take(SCAN).take_while(move |i| {
            let here = i.off == expected;
            expected = i.next();
            here
        })
    }

    /// True if an access confines rsp before it has to be clean, or if rsp moves again first.
    fn confined_soon(&self, n: usize) -> bool {
        for item in self.following(n) {
            if item.leader || item.return_site {
                return false;
            }
            match item.class {
                Class::Call(_) | Class::CallIndirect | Class::Ret(_) | Class::Leave | Class::Enter(_) => {
                    return true;
                }
                Class::Nop | Class::Lea | Class::String => {}
                Class::Plain => {
                    let i = &item.instr;
                    let stack = is_stack_access(i.mnemonic());
                    if stack || writes_rsp(i) || has_memory(i) && is_stack_operand(i) && confines(i) {
                        return true;
                    }
                }
                _ => return false,
            }
        }
        false
    }

    /// What becomes of the status flags as they are behind item `n`.
    pub(crate) fn flags_after(&self, n: usize) -> Flags {
        let mut live = STATUS;
        for item in self.following(n) {
            let i = &item.instr;
            if i.rflags_read() & live != 0 {
                return Flags::Live;
            }
            match item.class {
                Class::Plain | Class::Nop | Class::Lea => {}
                _ => return Flags::Unknown,
            }
            if !writes_flags_sometimes(i) {
                live &= !i.rflags_modified();
            }
            if live == 0 {
                return Flags::Dead;
            }
        }
        Flags::Unknown
    }

    /// A direct branch (`cond`: jcc) from item `n` to an original offset.
    fn branch(&mut self, n: usize, cond: Option<u8>, target: u32, long: bool) {
        if let Some(to) = self.extent.leader_at(target) {
            self.branch_inside(n, cond, to, long);
        } else if let Some(address) = self.env.lookup(target) {
            self.long_opcode(cond);
            let next = self.asm.base.wrapping_add(self.asm.at()).wrapping_add(4);
            self.asm.bytes(&address.wrapping_sub(next).to_le_bytes());
        } else {
            self.asm.align_patch(if cond.is_some() { 2 } else { 1 });
            self.long_opcode(cond);
            self.exits.push((self.asm.at(), target));
            self.asm.bytes(&[0; 4]);
        }
    }

    /// The push of call `n`, with its shadow word (r11 is free, and lost); the table entry that the callee's `ret` will load
    /// may be far from the caches.
    pub(crate) fn push_return(&mut self, n: usize) {
        let site = self.extent.items[n].next();
        self.asm.push_imm(site);
        self.dirty = 0;
        if self.has_shadow() {
            self.asm.load(R11, ctx::SHADOW);
            self.asm.shadow_store(site);
        }
        if self.cfg.prefetch_returns
            && let Some(disp) = table::ret_entry_disp(site)
        {
            self.asm.prefetch_gs(disp);
        }
    }

    pub(crate) fn has_shadow(&self) -> bool {
        self.cfg.returns == Returns::Shadow
    }

    /// A call inside the fragment: its target expects r11 in the register. (It is at home as well, like before any call.)
    fn give_back_after_call(&mut self, target: u32) {
        if self.has_shadow() && self.r11 != Home::Slot && self.extent.leader_at(target).is_some() {
            self.asm.reload(R11);
        }
    }

    fn long_opcode(&mut self, cond: Option<u8>) {
        match cond {
            Some(c) => self.asm.bytes(&[0x0f, 0x80 | c]),
            None => self.asm.bytes(&[0xe9]),
        }
    }

    fn branch_inside(&mut self, n: usize, cond: Option<u8>, to: usize, long: bool) {
        let short = match self.labels.get(to) {
            Some(&label) => self.asm.at() + 2 - label <= 128,
            None => !long && self.extent.items[to].off.wrapping_sub(self.extent.items[n].off) <= SHORT_GUESS,
        };
        if short {
            self.asm.bytes(&[cond.map_or(0xeb, |c| 0x70 | c), 0]);
            self.fixes.push(Fix { at: self.asm.at() - 1, short, from: n, to });
        } else {
            self.long_opcode(cond);
            self.asm.bytes(&[0; 4]);
            self.fixes.push(Fix { at: self.asm.at() - 4, short, from: n, to });
        }
    }

    /// jrcxz and loop know only rel8: over a short jump to the real one.
    fn loop_branch(&mut self, n: usize, item: &Item, target: u32, long: bool) {
        let opcode = match item.instr.mnemonic() {
            Mnemonic::Loopne => 0xe0,
            Mnemonic::Loope => 0xe1,
            Mnemonic::Loop => 0xe2,
            _ => 0xe3,
        };
        if Parts::parse(self.source(item)).is_some_and(|p| p.addr32) {
            self.asm.bytes(&[0x67]);
        }
        self.asm.bytes(&[opcode, 2]);
        self.begin_row(item.next(), 0);
        self.asm.bytes(&[0xeb, 0]);
        let from = self.asm.at();
        self.begin_row(target, 0);
        self.branch(n, None, target, long);
        let distance = self.asm.at() - from;
        self.asm.code[from as usize - 1] = distance as u8;
    }

    fn emulate(&mut self, off: u32) {
        self.at_home();
        self.asm.store_imm(ctx::EXIT, off);
        self.asm.jmp(self.cfg.stubs.emulate);
    }

    /// Emulation found necessary only while writing: the row has begun and nothing is written yet.
    pub(crate) fn emulate_late(&mut self, off: u32) {
        self.rows.pop();
        self.clean(off);
        self.go_home(off);
        self.begin_row(off, 0);
        self.emulate(off);
    }

    fn syscall(&mut self, next: u32) {
        const REST: u8 = 6 + 5; // the mov and the jmp behind the lea
        self.asm.bytes(&[0x48, 0x8d, 0x0d, REST, 0, 0, 0]);
        self.asm.mov_imm32(R11, next);
        self.asm.jmp(self.cfg.stubs.syscall);
    }

    /// Fills in the branches inside. False: some short form does not reach; `long` says which for the next try.
    fn resolve(&mut self, long: &mut [bool]) -> bool {
        let mut good = true;
        for k in 0..self.fixes.len() {
            let Fix { at, short, from, to } = self.fixes[k];
            let label = self.labels[to];
            if !short {
                self.asm.patch32(at, label.wrapping_sub(at + 4));
                continue;
            }
            match i8::try_from(i64::from(label) - i64::from(at) - 1) {
                Ok(d) => self.asm.code[at as usize] = d as u8,
                Err(_) => {
                    long[from] = true;
                    good = false;
                }
            }
        }
        good
    }

    /// Adds the exit stubs.
    fn finish(mut self, first_exit_index: u32) -> Fragment {
        let sites = core::mem::take(&mut self.exits);
        let mut exits = Vec::with_capacity(sites.len());
        for (k, (at, target)) in sites.into_iter().enumerate() {
            let index = first_exit_index.wrapping_add(k as u32);
            let stub = self.asm.at();
            self.asm.patch32(at, stub.wrapping_sub(at + 4));
            self.row(target, 0, true);
            self.asm.store_imm(ctx::EXIT, index);
            self.asm.jmp(self.cfg.stubs.link);
            exits.push(ExitSite { index, target, patch_at: self.asm.base.wrapping_add(at) });
        }
        for (off, inner) in core::mem::take(&mut self.ways_in) {
            self.entry(off, EntryKind::Internal);
            self.row(off, 0, false);
            self.asm.jmp(self.asm.base.wrapping_add(inner));
        }
        let end = self.extent.items.last().map_or(self.src.start, Item::next);
        Fragment {
            base: self.asm.base,
            code: self.asm.code,
            entries: self.entries,
            exits,
            returns: crate::flow::returns(self.extent),
            taken: crate::flow::taken(self.extent),
            spreads: crate::flow::spreads(self.extent, &mut self.factory),
            rows: self.rows,
            source_len: end.wrapping_sub(self.src.start),
        }
    }
}

/// Condition number of a jcc, as in its opcode.
fn condition(i: &Instruction) -> u8 {
    (i.condition_code() as u8).wrapping_sub(ConditionCode::o as u8) & 15
}

/// True if a ModRM or moffs memory operand is there (of any use).
pub(crate) fn has_memory(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory)
}

/// True if `i` may keep its unprefixed rsp operand (R2).
fn is_stack_operand(i: &Instruction) -> bool {
    i.memory_base() == Register::RSP
        && i.memory_index() == Register::None
        && !crate::classify::has_tls_segment(i)
        && (i.memory_displacement64() as i64).unsigned_abs() <= MAX_STACK_DISP as u64
}

fn is_stack_form(i: &Instruction, p: &Parts) -> bool {
    is_stack_operand(i) && !p.addr32
}

/// True if a stack operand of `i` is a plain access that faults unless rsp is confined.
fn confines(i: &Instruction) -> bool {
    use Mnemonic as M;
    let m = i.mnemonic();
    let conditional = is_prefetch(m)
        || is_x87(i)
        || matches!(
            m,
            M::Lea
                | M::Nop
                | M::Clflush
                | M::Clflushopt
                | M::Clwb
                | M::Vmaskmovpd
                | M::Vmaskmovps
                | M::Vpmaskmovd
                | M::Vpmaskmovq
        );
    !conditional && (0..CONFINING_DISP).contains(&(i.memory_displacement64() as i64))
}

/// True if the first operand is rsp and not merely read.
fn writes_rsp(i: &Instruction) -> bool {
    i.op_count() > 0
        && i.op0_kind() == OpKind::Register
        && i.op0_register().full_register() == Register::RSP
        && !matches!(i.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push)
}

/// Shifts and rotates may leave the flags as they are.
fn writes_flags_sometimes(i: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        i.mnemonic(),
        M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shld | M::Shrd
    )
}
