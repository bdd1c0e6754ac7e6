//! What one instruction may do by itself: prefixes (V2), memory forms (V4), rsp and addresses in registers (V5 to V7).
//!
//! Neighbours: `decode` gives the fields; `pattern` the roles an instruction may play in a multi-instruction form; `lib`
//! applies the effect.
//! Invariants: an instruction whose token says `alone: None` is confined at any place where rsp is (R2), whatever the
//! registers hold, and leaves no real address in any register but rsp.

use crate::check::{Check, require};
use crate::decode::{self, Insn, NONE, RIP, WINDOW};
use crate::pattern::{self, Scratch, Token, role};
use crate::rules;
use occlum_sfi_spec::Stubs;

pub(crate) const RSP: u8 = 4;
/// Largest displacement of an operand relative to rsp without 65 67.
const MAX_REACH: i32 = 16 << 10;
/// Displacements in [0, this) confine rsp.
const CONFINING: i32 = 4096;
/// Largest alignment that `and` may give rsp.
const MAX_ALIGN: u32 = 4096;
/// Most that the pattern of `ret n` adds to rsp.
const MAX_RETURN: i32 = MAX_REACH + 8;

/// `prefetcht0 %gs:disp32`: neither faults nor loads, wherever it points.
const PREFETCH: [u8; 5] = [0x65, 0x0f, 0x18, 0x0c, 0x25];

/// Opcode of `jrcxz`, which is a branch unless a pattern has it with what it jumps over.
const JRCXZ: u8 = 0xe3;

/// What an instruction does to the state that the verifier follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    /// Faults unless rsp points into the slot.
    Confine,
    /// rsp changes by at most so many bytes.
    Move(u32),
    /// rsp becomes slot base + a 32-bit number.
    Rebase,
    /// Direct branch.
    Branch {
        target: u32,
        falls: bool,
    },
    /// Jump to a stub of the runtime.
    Stub {
        falls: bool,
    },
    /// The indirect jump of a lookup.
    Lookup,
}

/// Where a memory operand lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// None, or never accessed.
    None,
    /// gs with 32-bit addressing: inside the slot.
    Slot,
    /// Near rsp.
    Stack,
}

/// Judges the instruction at the start of `bytes`, which lies at `address`.
pub(crate) fn token(bytes: &[u8; WINDOW], address: u32, stubs: &Stubs) -> Result<Token, Check> {
    if bytes[0] == 0x64 {
        return pattern::context_token(bytes);
    }
    if bytes.starts_with(&PREFETCH) {
        return Ok(Token::plain(PREFETCH.len() as u8 + 4));
    }
    if bytes[0] == JRCXZ
        && let Some(token) = pattern::fixed_token(bytes)
    {
        return Ok(token);
    }
    let judged = decode::decode(bytes).and_then(|i| judge(&i, address, stubs));
    match judged {
        Ok(token) => Ok(token),
        Err(check) => pattern::fixed_token(bytes).ok_or(check),
    }
}

#[inline(always)]
fn judge(i: &Insn, address: u32, stubs: &Stubs) -> Result<Token, Check> {
    encoding(i)?;
    if i.has(rules::BRANCH) {
        return branch(i, address, stubs);
    }
    if i.has(rules::STRING) {
        return string(i);
    }
    let memory = memory(i)?;
    let mut token = Token::plain(i.len);
    token.r11 = r11_use(i);
    if i.has(rules::STACK)
        || memory == Memory::Stack && (0..CONFINING).contains(&i.disp) && !i.has(rules::LAX)
    {
        token.effect = Effect::Confine;
    }
    if writes_rsp(i) {
        return rsp_write(i, token);
    }
    require(!reads_all_of_rsp(i), Check::ReadsRsp)?;
    require(!(i.has(rules::LEA) && i.base == RSP && i.wide), Check::LeaOfRsp)?;
    ordinary_roles(i, memory, &mut token);
    Ok(token)
}

/// Prefixes and VEX fields that do not fit the instruction (V1, V2).
#[inline(always)]
fn encoding(i: &Insn) -> Result<(), Check> {
    let (opsize_and_repeat, lockable) = (i.opsize && i.repeat != 0, i.mem && i.has(rules::LOCK));
    require(!opsize_and_repeat || i.has(rules::P66), Check::IdleOpsize)?;
    require(!(i.opsize && i.wide && i.map == rules::ONE), Check::OpsizeWithWide)?;
    require(!i.lock || lockable, Check::Lock)?;
    if i.vex {
        vex_fields(i)?;
    }
    if i.form & (rules::X87 | rules::NOP | rules::VSIB) != 0 {
        special_forms(i)?;
    }
    Ok(())
}

fn vex_fields(i: &Insn) -> Result<(), Check> {
    require(!(i.has(rules::L0) && i.long || i.has(rules::L1) && !i.long), Check::VexLength)?;
    require(!(i.has(rules::W0) && i.wide || i.has(rules::W1) && !i.wide), Check::VexWidth)?;
    require(i.has(rules::VV) || i.vvvv == 0, Check::VexUnused)
}

fn special_forms(i: &Insn) -> Result<(), Check> {
    if i.has(rules::X87) && !i.mem {
        let known = rules::X87_FORMS[usize::from(i.opcode & 7)] >> (i.modrm & 63) & 1 == 1;
        require(known, Check::X87Form)?;
    }
    if i.has(rules::NOP) {
        let bare = !i.gs && !i.addr32 && !i.lock && i.rex == 0;
        require(i.modrm == 0 && bare, Check::NopForm)?;
    }
    if i.has(rules::VSIB) {
        require(i.index != NONE, Check::VsibForm)?;
        require(i.reg != i.index && i.reg != i.vvvv && i.index != i.vvvv, Check::VsibDistinct)?;
    }
    Ok(())
}

/// The form of the memory operand (V4).
pub(crate) fn memory(i: &Insn) -> Result<Memory, Check> {
    let confined = i.gs && i.addr32;
    if i.has(rules::IMPLICIT) {
        require(confined, Check::ImplicitForm)?;
        return Ok(Memory::Slot);
    }
    if !i.mem || i.has(rules::NOP) {
        require(!i.gs && !i.addr32, Check::IdleAddress)?;
        return Ok(Memory::None);
    }
    require(i.base != RIP, Check::RipRelative)?;
    if i.has(rules::LEA) {
        require(!i.gs, Check::IdleAddress)?;
        return Ok(Memory::None);
    }
    if confined {
        return Ok(Memory::Slot);
    }
    require(!i.gs || i.addr32, Check::GsAlone)?;
    require(!i.gs && !i.addr32 && i.base == RSP, Check::MemoryForm)?;
    require(i.index == NONE, Check::StackIndex)?;
    require(i.disp.unsigned_abs() <= MAX_REACH.unsigned_abs(), Check::StackReach)?;
    Ok(Memory::Stack)
}

fn branch(i: &Insn, address: u32, stubs: &Stubs) -> Result<Token, Check> {
    let counts = (0xe0..=0xe3).contains(&i.opcode) && i.map == rules::ONE;
    let bare = !i.gs && i.rex == 0 && (!i.addr32 || counts);
    require(bare, Check::BranchPrefix)?;
    let target = address.wrapping_add(u32::from(i.len)).wrapping_add_signed(i.imm);
    let always = i.map == rules::ONE && matches!(i.opcode, 0xe9 | 0xeb);
    let mut token = Token::plain(i.len);
    token.effect = Effect::Branch { target, falls: !always };
    if always {
        pattern::stub_roles(target, stubs, &mut token);
    }
    Ok(token)
}

/// movs, stos, lods, scas, cmps: memory at rsi and rdi as they are, so only where the pattern has made them addresses.
fn string(i: &Insn) -> Result<Token, Check> {
    require(!i.gs && !i.addr32, Check::IdleAddress)?;
    let mut token = Token::special(i.len, Check::StringAlone);
    token.roles = match i.opcode {
        0xac | 0xad => role::bit(role::STRING_SOURCE),
        0xaa | 0xab | 0xae | 0xaf => role::bit(role::STRING_TARGET),
        _ => role::bit(role::STRING_BOTH),
    };
    Ok(token)
}

/// Fields of a general-register operand: role and size in the form at `at`.
fn names_rsp(i: &Insn, at: u32, number: u8) -> bool {
    let byte = i.form >> (at + 2) & 3 == rules::SIZE_B;
    // Without REX, byte register 4 is ah.
    number == RSP && i.form >> at & 3 != 0 && (!byte || i.rex != 0)
}

/// Register operands: place in the form and number.
pub(crate) fn registers(i: &Insn) -> [(u32, u8); 3] {
    let rm = if i.mem { NONE } else { i.rm };
    [(rules::REG_AT, i.reg), (rules::RM_AT, rm), (rules::V_AT, i.vvvv)]
}

/// What an instruction does with r11.
fn r11_use(i: &Insn) -> Scratch {
    let operand = registers(i).iter().any(|&(at, n)| n == pattern::R11 && i.form >> at & 3 != 0);
    let index = i.index == pattern::R11 && !i.has(rules::VSIB);
    if !operand && !(i.mem && (i.base == pattern::R11 || index)) {
        return Scratch::Unnamed;
    }
    let narrow = !i.wide && !i.opsize && i.map == rules::ONE;
    let fills = match i.opcode {
        0x89 => !i.mem && i.reg != pattern::R11,
        0x8b => i.mem && i.base != pattern::R11 && !index,
        0xb8..=0xbf => true,
        _ => false,
    };
    if narrow && fills { Scratch::Filled } else { Scratch::Used }
}

fn writes_rsp(i: &Insn) -> bool {
    registers(i).iter().any(|&(at, n)| names_rsp(i, at, n) && i.form >> at & 3 == rules::WRITE)
}

/// Low halves of rsp are offsets, which the program may see; its high half is the slot's address.
fn reads_all_of_rsp(i: &Insn) -> bool {
    registers(i).iter().any(|&(at, n)| {
        names_rsp(i, at, n)
            && match i.form >> (at + 2) & 3 {
                rules::SIZE_W => i.wide,
                rules::SIZE_Q => !i.opsize,
                _ => false,
            }
    })
}

/// The listed forms that write rsp (V6).
fn rsp_write(i: &Insn, mut token: Token) -> Result<Token, Check> {
    let wrong = require(false, Check::WritesRsp).map(|()| Token::plain(i.len));
    if i.map != rules::ONE || i.opsize || i.lock {
        return wrong;
    }
    let moved = if i.wide { rsp_change(i) } else { None };
    if let Some(by) = moved {
        token.effect = Effect::Move(by);
        let returns = i.opcode == 0x8d && (8..=MAX_RETURN).contains(&i.disp);
        token.roles = if returns { role::bit(role::RETURN_LEA) } else { 0 };
        return Ok(token);
    }
    if i.wide && is_sum(i) {
        token.effect = Effect::Rebase;
        token.alone = Some(Check::WritesRsp);
        token.bind(role::SUM_RSP, i.index);
        token.roles = if i.index == pattern::R11 { role::bit(role::HOME_SUM_RSP) } else { 0 };
        return Ok(token);
    }
    let to_rsp = match i.opcode {
        0x89 => !i.mem,
        0x8b => i.mem,
        0x8d | 0xbc => true,
        _ => false,
    };
    if i.wide || !to_rsp {
        return wrong;
    }
    token.effect = Effect::None;
    token.alone = Some(Check::WritesRsp);
    token.roles = role::bit(role::TO_ESP);
    if i.opcode == 0x89 {
        token.bind(role::TO_ESP_SCRATCH, i.reg);
        if i.reg == pattern::R11 {
            token.roles |= role::bit(role::HOME_TO_ESP);
        }
    }
    Ok(token)
}

/// Bytes by which `add`, `sub`, `and` with a constant or `lea` move rsp.
fn rsp_change(i: &Insn) -> Option<u32> {
    let by = i.imm.unsigned_abs();
    match (i.opcode, i.modrm >> 3 & 7) {
        (0x81 | 0x83, 0 | 5) => Some(by),
        (0x81 | 0x83, 4) => (i.imm < 0 && by <= MAX_ALIGN && by.is_power_of_two()).then_some(by),
        (0x8d, _) => (i.base == RSP && i.index == NONE && !i.addr32).then_some(i.disp.unsigned_abs()),
        _ => None,
    }
}

/// `lea (%rsp,%s),%rsp`
fn is_sum(i: &Insn) -> bool {
    i.opcode == 0x8d && i.base == RSP && i.index < NONE && i.scale == 0 && i.disp == 0 && !i.addr32
}

/// What an instruction without special effect may be in a pattern.
fn ordinary_roles(i: &Insn, memory: Memory, token: &mut Token) {
    token.roles |= role::bit(role::PLAIN);
    if memory == Memory::Slot {
        token.roles |= role::bit(role::PLAIN_SLOT);
    }
    let narrow = !i.wide && !i.opsize && i.map == rules::ONE && !i.lock;
    if narrow && i.opcode == 0x8d {
        token.bind(role::LEA32, i.reg);
    }
    if narrow && i.opcode == 0x89 && i.reg == RSP && !i.mem {
        token.bind(role::FROM_ESP, i.rm);
        if i.rm == pattern::R11 {
            token.roles |= role::bit(role::HOME_FROM_ESP);
        }
    }
    let loads = i.opcode == 0x8b && i.mem && i.reg == pattern::R11;
    let copies = i.opcode == 0x89 && !i.mem && i.rm == pattern::R11;
    if narrow && (loads || copies) {
        token.roles |= role::bit(role::LOAD_R11D);
    }
}
