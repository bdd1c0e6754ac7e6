//! The SFI translator: guest x86-64 code in, confined x86-64 code out (`docs/sfi.md` has the rules R.. and all patterns).
//!
//! Neighbours: `enclave/libos` calls `translate` on a code-cache miss and `undo` at every interruption; the numbers both
//! sides need stand in `sfi-spec`. Nothing here touches memory of a guest or of the code cache.
//! Modules: `extent` finds the instructions of a fragment, `classify` says what each one is, `parts` takes encodings
//! apart, `flow` says what control-flow integrity has to know, `asm` writes fixed instructions, `emit` writes a fragment, `pattern` its multi-instruction forms, `undo` reads
//! them back.
//! Invariants: hostile input gives an `EMULATE` exit or an `Error`, never a panic; every emitted instruction belongs to a
//! `Row`, and from any instruction boundary of it `undo` finds an original program counter.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod asm;
mod classify;
mod emit;
mod extent;
mod flow;
mod parts;
mod pattern;
mod undo;

use alloc::vec::Vec;
use occlum_sfi_spec as sfi_spec;

pub use flow::{Survey, survey};
pub use undo::undo;

/// Executable guest bytes.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Guest offset of `bytes[0]`, where translation starts.
    pub start: u32,
    /// Executable bytes available from there; may end in the middle of an instruction.
    pub bytes: &'a [u8],
}

/// What the caller's code map knows.
pub trait Env {
    /// Address of the entry for everybody (`Entry::at`) that exists already for offset `off`.
    fn lookup(&self, off: u32) -> Option<u32>;
}

/// What does not change between calls.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Addresses of the runtime's stubs.
    pub stubs: sfi_spec::Stubs,
    /// Most original instructions in one fragment.
    pub max_instructions: usize,
    /// Calls fetch the table entry of their return site into the cache: for code whose tables outgrow it.
    pub prefetch_returns: bool,
    /// How returns are checked.
    pub returns: sfi_spec::Returns,
    /// `rdtsc` is executed, not left to the LibOS (which can refuse it: `PR_SET_TSC`).
    pub native_tsc: bool,
}

/// Why an entry exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// The offset `translate` was asked for.
    Start,
    /// The instruction after a call.
    ReturnSite,
    /// A branch target inside the fragment.
    Internal,
}

/// A place where translated code may be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Original offset.
    pub off: u32,
    /// Translated address: the guest's r11 is in its spill slot, all other registers are the guest's.
    pub at: u32,
    /// Why it exists.
    pub kind: EntryKind,
}

/// A direct branch out of the fragment that is not linked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitSite {
    /// The number its stub reports: `first_exit_index` + position in `Fragment::exits`.
    pub index: u32,
    /// Original offset it wants to go to.
    pub target: u32,
    /// Address of the rel32 to patch; the four bytes lie within one 16-byte line.
    pub patch_at: u32,
}

/// Map row: the translated bytes of one original instruction, up to the next row's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Original offset.
    pub off: u32,
    /// First translated byte, counted from the fragment's base.
    pub start: u32,
    /// Length of the original instruction; `off + len` is the pc after the commit point.
    pub len: u8,
    /// Bytes from `start` to the commit point; `Row::NEVER`: with its last instruction only.
    pub commit: u8,
    /// True: starts with the guest's r11 in its spill slot.
    pub home: bool,
}

impl Row {
    /// `commit` of a row that never maps forward.
    pub const NEVER: u8 = 255;
}

/// One translated extent.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// Address it was made for.
    pub base: u32,
    /// Its bytes.
    pub code: Vec<u8>,
    /// Where it may be entered; the first is the start.
    pub entries: Vec<Entry>,
    /// Branches to be linked.
    pub exits: Vec<ExitSite>,
    /// Offsets behind its calls.
    pub returns: Vec<u32>,
    /// Constants of it that may be addresses of code, in ascending order.
    pub taken: Vec<u32>,
    /// Addresses to which its code adds an index, and then jumps.
    pub spreads: Vec<u32>,
    /// Map for `undo`, in order of `start`.
    pub rows: Vec<Row>,
    /// Original bytes from the start offset up to the last instruction's end.
    pub source_len: u32,
}

/// Why nothing was translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The first instruction is cut: more bytes are needed (or there are none).
    Truncated,
    /// `start` or `base` lies outside the range the rules allow.
    BadAddress,
}

/// What an interrupted pattern did to the shadow word of its return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ShadowWord {
    /// Nothing.
    #[default]
    Kept,
    /// Written, by a call: goes away with the push.
    Pushed,
    /// Consumed, by a return: is live again.
    Consumed,
}

/// How to get from an interrupted place in translated code to an original state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Undo {
    /// Original pc to report and restart at.
    pub pc: u32,
    /// Register n must be reloaded from its spill slot.
    pub restore: [bool; 16],
    /// Register n must be masked to 32 bits. Always set for rsp: its low half is the offset, and the slot base must be
    /// put in front of it again, because an interrupted rsp may be dirty or a bare offset (R2).
    pub truncate: [bool; 16],
    /// To be added to rsp.
    pub rsp_delta: i32,
    /// rcx holds a translated address and becomes this: what `syscall`, which is in its way, leaves there.
    pub rcx: Option<u32>,
    /// The shadow word of the original stack top (`Consumed`), or of the word below it (`Pushed`).
    pub shadow: ShadowWord,
}

/// Is this instruction translated, rather than left to the LibOS (which emulates some, and has no others)?
pub fn is_translated(i: &iced_x86::Instruction) -> bool {
    !matches!(classify::classify(i, false), classify::Class::Emulate)
}

/// Translates the code at `src.start` for placement at `base` (16-aligned, below 2 GiB).
///
/// If `env` knows the start already, the fragment is only a jump to it.
pub fn translate(
    cfg: &Config,
    src: Source<'_>,
    base: u32,
    first_exit_index: u32,
    env: &dyn Env,
) -> Result<Fragment, Error> {
    let end = u64::from(src.start) + src.bytes.len() as u64;
    if u64::from(src.start) >= sfi_spec::domain::EXEC_MAX
        || end > sfi_spec::domain::SIZE
        || !base.is_multiple_of(16)
    {
        return Err(Error::BadAddress);
    }
    let extent = extent::find(cfg, src, env)?;
    Ok(emit::fragment(cfg, src, base, first_exit_index, env, &extent))
}
