//! The names of what is enforced: invariants (V1..V15, listed in `lib`) and the single checks that serve them.
//!
//! Neighbours: every refusal in this crate goes through `require` with its `Check`; `docs/verifier.md` explains them.
//! Invariants: a check belongs to one invariant; `require` is the only place where a check can be switched off, and only
//! in a build with the feature `mutate`.

/// What must hold of a unit; the head of `lib` says each in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Allow-list of instructions by encoding.
    V1,
    /// Prefix discipline.
    V2,
    /// Whole instructions inside the code cache, no falling off.
    V3,
    /// Forms of memory operands.
    V4,
    /// How far rsp may be from its last confinement.
    V5,
    /// rsp as a register operand.
    V6,
    /// No real address in a register the program sees.
    V7,
    /// Uses of the trusted context.
    V8,
    /// Table lookups and indirect jumps.
    V9,
    /// Patterns are whole.
    V10,
    /// Direct branches.
    V11,
    /// Stubs.
    V12,
    /// Patches.
    V13,
    /// Table entries.
    V14,
    /// The shadow stack.
    V15,
}

macro_rules! checks {
    ($($(#[doc = $text:literal])* $name:ident: $invariant:ident,)*) => {
        /// One condition that can fail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check {
            $($(#[doc = $text])* $name,)*
        }

        impl Check {
            /// All checks in order; the position is the number that `mutate` uses.
            pub const ALL: &'static [Check] = &[$(Check::$name,)*];

            /// The invariant it serves.
            pub const fn invariant(self) -> Invariant {
                match self { $(Check::$name => Invariant::$invariant,)* }
            }

            /// What is wrong where it fails.
            pub const fn reason(self) -> &'static str {
                match self { $(Check::$name => concat!($($text),*).trim_ascii(),)* }
            }
        }
    };
}

checks! {
    /// no rule of the allow-list names this encoding
    Rule: V1,
    /// the VEX prefix names an opcode map above 3
    VexMap: V1,
    /// VEX.L has a value the instruction does not have
    VexLength: V1,
    /// VEX.W has a value the instruction does not have
    VexWidth: V1,
    /// VEX.vvvv names a register that the instruction does not use
    VexUnused: V1,
    /// no x87 instruction has this register form
    X87Form: V1,
    /// a multi-byte nop other than 0f 1f 00
    NopForm: V1,
    /// a gather without index register
    VsibForm: V1,
    /// destination, index and mask of a gather are not three registers
    VsibDistinct: V1,
    /// 66 beside f2 or f3 where it selects nothing
    IdleOpsize: V2,
    /// 66 beside REX.W on a one-byte opcode
    OpsizeWithWide: V2,
    /// lock on an instruction that cannot be locked
    Lock: V2,
    /// a prefix before VEX other than 65 67
    VexPrefix: V2,
    /// 65 or 67 on an instruction without memory operand
    IdleAddress: V2,
    /// a prefix on a direct branch
    BranchPrefix: V2,
    /// the unit does not lie inside the code cache
    InCache: V3,
    /// the instruction is longer than 15 bytes
    Length: V3,
    /// the instruction goes on behind the unit's end
    Cut: V3,
    /// control falls out of the unit's end
    FallsOff: V3,
    /// a memory operand relative to rip
    RipRelative: V4,
    /// a memory operand that is neither gs with 32-bit addressing nor near rsp
    MemoryForm: V4,
    /// an unprefixed rsp operand with index
    StackIndex: V4,
    /// an unprefixed rsp operand with a large displacement
    StackReach: V4,
    /// an implicit memory operand without 65 67
    ImplicitForm: V4,
    /// rsp moved too far since it was last confined
    Budget: V5,
    /// a branch or stub is reached with rsp not confined
    CleanBranch: V5,
    /// an indirect jump is reached with rsp not confined
    CleanLookup: V5,
    /// rsp written other than by a listed form
    WritesRsp: V6,
    /// all 64 bits of rsp read as an operand
    ReadsRsp: V6,
    /// rsp in a move between a register and the context
    ContextRsp: V6,
    /// lea of a 64-bit address made from rsp
    LeaOfRsp: V7,
    /// a string operation outside its pattern
    StringAlone: V7,
    /// r11 used where its register may hold a real address
    UsesR11: V7,
    /// r11 written outside a pattern where the program's is in its spill slot
    FillsR11: V7,
    /// an fs operand that is no listed form
    FsForm: V8,
    /// a listed fs operand outside its pattern
    FsAlone: V8,
    /// gs without 32-bit addressing outside the lookup pattern
    GsAlone: V9,
    /// an indirect jump outside the lookup pattern
    JumpAlone: V9,
    /// a pattern begins here or before and does not go on as one
    Broken: V10,
    /// a branch inside the unit to no proven entry
    TargetInside: V11,
    /// a branch out of the unit to no proven entry
    TargetOutside: V11,
    /// a stub entered outside its pattern
    StubAlone: V12,
    /// the patched bytes do not lie within one 16-byte line
    PatchLine: V13,
    /// the patched bytes are no displacement of a proven branch
    PatchSite: V13,
    /// the patch leads to no proven entry
    PatchTarget: V13,
    /// a table entry names no proven entry
    EntryUnproven: V14,
    /// a shadow word that is not the complement of the return address just pushed
    ShadowSite: V15,
    /// a trap outside the return pattern
    TrapAlone: V15,
}

/// `Err(check)` unless `good`.
#[inline(always)]
pub(crate) fn require(good: bool, check: Check) -> Result<(), Check> {
    if good || is_disabled(check) { Ok(()) } else { Err(check) }
}

#[cfg(not(feature = "mutate"))]
#[inline(always)]
const fn is_disabled(_check: Check) -> bool {
    false
}

#[cfg(feature = "mutate")]
pub(crate) fn is_disabled(check: Check) -> bool {
    mutate::DISABLED.load(core::sync::atomic::Ordering::Relaxed) == check as usize
}

/// Taking out one check, to see that a test notices.
#[cfg(feature = "mutate")]
pub mod mutate {
    use core::sync::atomic::{AtomicUsize, Ordering};

    pub(super) static DISABLED: AtomicUsize = AtomicUsize::new(usize::MAX);

    /// Takes check number `n` (its place in `Check::ALL`) out; a number beyond the end takes out nothing.
    pub fn disable(n: usize) {
        DISABLED.store(n, Ordering::Relaxed);
    }
}
