//! The SFI verifier: proves from the bytes alone that a unit of translated code stays confined. It knows nothing of the
//! translator and trusts nothing it says; the promise of isolation rests on this crate, `enclave/rt` and `sfi-spec`.
//!
//! Neighbours: `enclave/rt` calls `verify` before it publishes code, `check_patch` before it links and
//! `check_table_entry` before it fills in a lookup table; `occlum verify` calls it on the host. `docs/verifier.md` has the
//! argument, `docs/sfi.md` the rules R.. and the patterns.
//! Modules: `rules` is the allow-list, `decode` reads instructions, `operand` judges one, `pattern` judges several
//! together, `check` names everything that can be wrong.
//!
//! Invariants that an accepted unit has (the checks that serve each: `check::Check`):
//!
//! - V1 Every instruction is named by the allow-list, by encoding: map, opcode, mandatory prefix, digit, register or
//!   memory form, VEX fields. No other instruction stands in it (R8, R10, R12 to R14, R30, R31).
//! - V2 Prefixes stand in the order 65 67 66 F2/F3 F0 REX, none twice and none without meaning (R4, R11).
//! - V3 The bytes are whole instructions from first to last; the unit lies inside the code cache; control never falls out
//!   of its end.
//! - V4 A memory operand is gs with 32-bit addressing and without rip, or disp(%rsp) without index and with
//!   |disp| <= 16 KiB, or a listed fs slot (V8) (R2, R5 to R7).
//! - V5 rsp is at most 32 KiB from where it was last confined, and confined at every branch, stub and lookup. What
//!   confines: pushes, pops, plain accesses at disp in [0, 4096), the rebase pattern (R2).
//! - V6 rsp is written only by push, pop, constant additions, `and` with a small power of two, and patterns that end in
//!   a rebase; as a register operand only its low half is read (R2, R12).
//! - V7 No real address is in a register that the program sees: scratch registers, rsi, rdi and rcx hold one only inside a
//!   pattern; r11 is not read where its register may hold one (below); `lea` of rsp has 32 bits (R9, R12).
//! - V8 fs names the trusted context: only moves of the listed slots, and only where a pattern has them (the reload and the
//!   spill of r11 may stand alone in a unit that has it in the register). fs, gs, segments, PKRU: never written (V1).
//! - V9 gs without 67 is the table lookup, whose index is the complement of a 32-bit number or 2^31 - 1 more than one, or a
//!   prefetch; an indirect jump is `jmp *%r11` right behind the lookup (R19).
//! - V10 A pattern is whole and cannot be entered inside.
//! - V11 A direct branch leads to a proven entry: an instruction of this unit outside patterns with rsp confined, or what
//!   `Proven` knows of code published before (R20).
//! - V12 A stub is entered only by its pattern: link and emulate behind the store of EXIT, syscall behind the loads of rcx
//!   (the resume address, which is a boundary) and r11; the miss stubs only through the tables.
//! - V13 A patch is the rel32 of a proven `jmp` or `jcc`, lies within one 16-byte line and leads to a proven entry (R21).
//! - V14 A table entry is a proven entry.
//! - V15 With `Returns::Shadow`: a lookup among the return sites comes only behind a comparison of the very number it looks
//!   up with the shadow word at rsp, and consumes that word. Shadow words are written otherwise only behind `push $site`,
//!   as the complement of the site. With `Returns::Table`, nothing touches them.
//!
//! r11 is at home, in its spill slot, when a unit is entered, and its register may hold a real address. So a unit that
//! begins with the reload of r11 has the program's r11 in the register, is entered from outside only at such reloads and at
//! exits, which do not look at it, and saves it before a pattern uses it; any other unit names r11 only in patterns that fill it before they read it (V7).
#![no_std]
#![forbid(unsafe_code)]

mod check;
mod decode;
#[doc(hidden)]
pub mod inspect;
mod operand;
mod pattern;
mod rules;

#[cfg(feature = "mutate")]
pub use check::mutate;
pub use check::{Check, Invariant};

use check::require;
use decode::WINDOW;
use occlum_sfi_spec::{Returns, Stubs, ctx, elrange};
use operand::Effect;
use pattern::{Matcher, Token};

/// Most that rsp may move between two confinements.
const BUDGET: u32 = 32 << 10;
/// Bytes of a patchable displacement.
const PATCH: u32 = 4;
/// Bytes that a patch may not straddle.
const LINE: u32 = 16;

/// Translated code that is to lie at `base`.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// Address of `code[0]`.
    pub base: u32,
    /// All its bytes.
    pub code: &'a [u8],
}

/// What is known of code published before.
pub trait Proven {
    /// True if `addr` was in `Maps::entries` of an accepted unit that is still published.
    fn is_entry(&self, addr: u32) -> bool;
    /// The same for `Maps::boundaries`.
    fn is_boundary(&self, addr: u32) -> bool;
}

/// Bitmaps of a unit, one bit for every byte of code; `map_len` says how long. `verify` clears them first.
pub struct Maps<'a> {
    /// Out: starts of instructions outside patterns with rsp confined. All clear after an error.
    pub boundaries: &'a mut [u8],
    /// Out: proven entries, that is boundaries that need no r11 in its register. All clear after an error.
    pub entries: &'a mut [u8],
    /// Scratch: targets of branches inside the unit.
    pub targets: &'a mut [u8],
}

/// What is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Address of the instruction.
    pub at: u32,
    /// Its length as far as it is known; 0: not known.
    pub len: u8,
    /// What it fails.
    pub check: Check,
}

impl Violation {
    /// The invariant that does not hold.
    pub fn invariant(&self) -> Invariant {
        self.check.invariant()
    }
}

/// Bytes that a map for `code_len` bytes of code needs.
pub const fn map_len(code_len: usize) -> usize {
    code_len.div_ceil(8)
}

/// Is bit `n` of a map set? False behind its end.
pub fn is_set(map: &[u8], n: usize) -> bool {
    map.get(n / 8).is_some_and(|b| b >> (n % 8) & 1 == 1)
}

fn set(map: &mut [u8], n: usize) {
    if let Some(b) = map.get_mut(n / 8) {
        *b |= 1 << (n % 8);
    }
}

/// Proves `unit`. The bytes must be the very ones that are published afterwards.
///
/// # Panics
/// If a map is shorter than `map_len` of the code.
pub fn verify(
    stubs: &Stubs,
    returns: Returns,
    unit: Unit<'_>,
    proven: &dyn Proven,
    maps: &mut Maps<'_>,
) -> Result<(), Violation> {
    let need = map_len(unit.code.len());
    let long = |m: &[u8]| m.len() >= need;
    assert!(long(maps.boundaries) && long(maps.entries) && long(maps.targets), "map too short");
    maps.clear();
    let in_register = unit.code.starts_with(&FETCH);
    let matcher = Matcher::new(in_register, returns);
    let mut pass =
        Pass { stubs, returns, unit, proven, in_register, matcher, moved: 0, falls: true, blamed: None };
    let mut result = in_cache(unit).and_then(|()| pass.run(maps));
    if result.is_ok()
        && let Some(n) = stray_target(maps, need)
    {
        pass.blamed = Some(unit.base.wrapping_add(n as u32));
        result = pass.run(maps);
    }
    if result.is_err() {
        maps.clear();
    }
    result
}

impl Maps<'_> {
    fn clear(&mut self) {
        self.boundaries.fill(0);
        self.entries.fill(0);
        self.targets.fill(0);
    }
}

/// First branch target that is no boundary.
fn stray_target(maps: &Maps<'_>, need: usize) -> Option<usize> {
    let pairs = maps.targets.iter().zip(maps.boundaries.iter()).take(need);
    let (n, stray) = pairs.map(|(t, b)| t & !b).enumerate().find(|&(_, stray)| stray != 0)?;
    Some(n * 8 + stray.trailing_zeros() as usize)
}

/// V3: all bytes between `CODE_BASE` and `CODE_END`.
fn in_cache(unit: Unit<'_>) -> Result<(), Violation> {
    let end = u64::from(unit.base) + unit.code.len() as u64;
    let good = u64::from(unit.base) >= elrange::CODE_BASE && end <= elrange::CODE_END;
    require(good, Check::InCache).map_err(|check| Violation { at: unit.base, len: 0, check })
}

/// The last bytes of a unit, with zeros behind.
#[cold]
fn pad(rest: &[u8]) -> [u8; WINDOW] {
    let mut bytes = [0; WINDOW];
    bytes.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    bytes
}

/// One pass over a unit.
struct Pass<'a> {
    stubs: &'a Stubs,
    returns: Returns,
    unit: Unit<'a>,
    proven: &'a dyn Proven,
    /// The program's r11 is in its register, except at entries.
    in_register: bool,
    matcher: Matcher,
    /// How far rsp may be from where it was confined.
    moved: u32,
    /// Control may go on behind the last instruction.
    falls: bool,
    /// A target known to be wrong: the pass ends with the first branch that leads there.
    blamed: Option<u32>,
}

impl Pass<'_> {
    fn run(&mut self, maps: &mut Maps<'_>) -> Result<(), Violation> {
        (self.matcher, self.moved, self.falls) = (Matcher::new(self.in_register, self.returns), 0, true);
        let code = self.unit.code;
        let (mut at, mut address, mut len) = (0, self.unit.base, 0);
        while at < code.len() {
            address = self.unit.base.wrapping_add(at as u32);
            len = 0;
            self.instruction(at, address, &mut len, maps).map_err(|check| Violation {
                at: address,
                len,
                check,
            })?;
            at += usize::from(len);
        }
        require(!self.falls, Check::FallsOff).map_err(|check| Violation { at: address, len, check })
    }

    /// The instruction at offset `at`; its length comes back in `len`.
    fn instruction(
        &mut self,
        at: usize,
        address: u32,
        len: &mut u8,
        maps: &mut Maps<'_>,
    ) -> Result<(), Check> {
        let rest = self.unit.code.get(at..).unwrap_or(&[]);
        let padded;
        let bytes = match rest.first_chunk() {
            Some(whole) => whole,
            None => {
                padded = pad(rest);
                &padded
            }
        };
        let token = operand::token(bytes, address, self.stubs)?;
        *len = token.len;
        require(usize::from(token.len) <= rest.len(), Check::Cut)?;
        let inside = self.matcher.goes_on(&token, bytes);
        if !inside && self.moved == 0 {
            set(maps.boundaries, at);
            if !self.in_register || bytes.starts_with(&FETCH) || bytes.starts_with(&EXIT) {
                set(maps.entries, at);
            }
        }
        self.matcher.step(&token, bytes)?;
        self.apply(&token, inside, maps)
    }

    /// `inside`: a pattern had begun before.
    fn apply(&mut self, token: &Token, inside: bool, maps: &mut Maps<'_>) -> Result<(), Check> {
        self.falls = true;
        match token.effect {
            Effect::None => {}
            Effect::Confine | Effect::Rebase => self.moved = 0,
            // The one change inside a pattern is that of `ret`, upwards from an access (V5).
            Effect::Move(_) if inside => {}
            Effect::Move(by) => {
                self.moved = self.moved.saturating_add(by);
                require(self.moved <= BUDGET, Check::Budget)?;
            }
            Effect::Branch { target, falls } => {
                self.falls = falls;
                require(self.moved == 0, Check::CleanBranch)?;
                self.branch(target, maps)?;
            }
            Effect::Stub { falls } => {
                self.falls = falls;
                require(self.moved == 0, Check::CleanBranch)?;
            }
            Effect::Lookup => {
                self.falls = false;
                require(self.moved == 0, Check::CleanLookup)?;
            }
        }
        Ok(())
    }

    /// V11. Targets inside are judged when all boundaries are known.
    fn branch(&mut self, target: u32, maps: &mut Maps<'_>) -> Result<(), Check> {
        let at = target.wrapping_sub(self.unit.base) as usize;
        if at < self.unit.code.len() {
            set(maps.targets, at);
            return require(self.blamed != Some(target), Check::TargetInside);
        }
        require(self.proven.is_entry(target), Check::TargetOutside)
    }
}

/// What begins a unit that has r11 in its register, and each of its entries: `mov %fs:SPILL(r11),%r11`.
const FETCH: [u8; 9] = [0x64, 0x4c, 0x8b, 0x1c, 0x25, ctx::spill(11) as u8, 0, 0, 0];

/// What an exit begins with, whatever the number: `movl $imm,%fs:EXIT`. It reads no register, and its stub takes the
/// program's r11 from its home: an entry in every unit, so that a link can be taken back to it.
const EXIT: [u8; 8] = [0x64, 0xc7, 0x04, 0x25, ctx::EXIT as u8, 0, 0, 0];

/// V14: may `entry` stand in a lookup table?
pub fn check_table_entry(entry: u32, proven: &dyn Proven) -> Result<(), Violation> {
    let fail = |check| Violation { at: entry, len: 0, check };
    require(proven.is_entry(entry), Check::EntryUnproven).map_err(fail)
}

/// V13: may the 4 bytes at `site`, behind the two bytes `before`, be changed so that they lead to `target`? The site must
/// lie in published code.
pub fn check_patch(site: u32, before: [u8; 2], target: u32, proven: &dyn Proven) -> Result<(), Violation> {
    let fail = |check| Violation { at: site, len: PATCH as u8, check };
    require(site % LINE <= LINE - PATCH, Check::PatchLine).map_err(fail)?;
    let jmp = before[1] == 0xe9 && proven.is_boundary(site.wrapping_sub(1));
    let jcc = before[0] == 0x0f && before[1] & 0xf0 == 0x80 && proven.is_boundary(site.wrapping_sub(2));
    require(jmp || jcc, Check::PatchSite).map_err(fail)?;
    require(proven.is_entry(target), Check::PatchTarget).map_err(fail)
}
