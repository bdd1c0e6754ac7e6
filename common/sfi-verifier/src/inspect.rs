//! One instruction as the verifier sees it: for tests that compare it with another decoder.
//!
//! Neighbours: `tests/agreement.rs`. Nothing else may call this.

use crate::decode::{self, NONE, WINDOW};
use crate::operand::{self, Effect, Memory};
use crate::{Check, pattern, rules};
use occlum_sfi_spec::Stubs;

/// A description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Bytes.
    pub len: u8,
    /// Why it may not stand outside a pattern.
    pub alone: Option<Check>,
    /// Confines rsp.
    pub confines: bool,
    /// Memory operand; `None` also for forms that only patterns have.
    pub memory: Memory,
    /// Fields of the memory operand: base, index (16: none, 17: rip), displacement.
    pub address: (u8, u8, i32),
    /// General registers written as explicit operands, by hardware number. For byte operands without REX, numbers 4 to 7
    /// stand for ah to bh.
    pub written: u16,
    /// Target of a direct branch.
    pub target: Option<u32>,
}

pub use operand::Memory as MemoryForm;

/// What the instruction at the start of `code`, at `address`, is; `Err`: refused everywhere.
pub fn inspect(code: &[u8], address: u32, stubs: &Stubs) -> Result<Seen, Check> {
    let mut bytes = [0; WINDOW];
    let n = code.len().min(WINDOW);
    bytes[..n].copy_from_slice(&code[..n]);
    let token = operand::token(&bytes, address, stubs)?;
    let mut seen = Seen {
        len: token.len,
        alone: token.alone,
        confines: token.effect == Effect::Confine,
        memory: Memory::None,
        address: (NONE, NONE, 0),
        written: 0,
        target: None,
    };
    if let Effect::Branch { target, .. } = token.effect {
        seen.target = Some(target);
    }
    let ordinary = token.roles & pattern::role::bit(pattern::role::PLAIN) != 0;
    if let (true, Ok(i)) = (ordinary, decode::decode(&bytes)) {
        seen.memory = operand::memory(&i)?;
        seen.address = (i.base, i.index, i.disp);
        for (at, number) in operand::registers(&i) {
            if i.form >> at & 3 == rules::WRITE && number < NONE {
                seen.written |= 1 << number;
            }
        }
    }
    Ok(seen)
}
