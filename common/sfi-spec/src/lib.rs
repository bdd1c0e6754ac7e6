//! The SFI contract as data: enclave address map, domain layout, trusted-context layout, spill slots.
//!
//! Neighbours: `sfi-translator` emits code against it, `sfi-verifier` checks against it, `enclave/rt` builds it.
//! Invariants: nothing here decodes or encodes instructions; every number that two crates must agree on stands here once.
//! Rules named R.. are listed in `docs/sfi.md`.
#![no_std]
#![forbid(unsafe_code)]

/// Page size, bytes.
pub const PAGE: u64 = 4096;

/// ELRANGE. Base 0, so that table entries and code addresses fit 32 bits (P1); everything below lies inside it (R3).
pub mod elrange {
    /// First address of ELRANGE (SECS.BASEADDR).
    pub const BASE: u64 = 0;
    /// Size of ELRANGE (SECS.SIZE), a power of two.
    pub const SIZE: u64 = 1 << 46;
    /// The measured LibOS image (linked at this address, not relocatable), TCS/SSA pages behind it.
    pub const IMAGE_BASE: u64 = 0x2000_0000;
    /// Exclusive end of the image region.
    pub const IMAGE_END: u64 = 0x4000_0000;
    /// The code cache: below 2 GiB, so rel32 reaches the image's stubs and 4-byte table entries suffice.
    pub const CODE_BASE: u64 = 0x4000_0000;
    /// Exclusive end of the code cache.
    pub const CODE_END: u64 = 0x7fff_0000;
    /// LibOS heap.
    pub const HEAP_BASE: u64 = 0x40_0000_0000;
    /// Reserved size of the LibOS heap.
    pub const HEAP_SIZE: u64 = 64 << 30;
    /// Kernel stacks: one every `KSTACK_STRIDE`, the low part of each stride is never mapped (guard).
    pub const KSTACK_BASE: u64 = 0x60_0000_0000;
    /// Distance between two kernel stacks.
    pub const KSTACK_STRIDE: u64 = 256 << 10;
    /// Usable bytes of a kernel stack (at the top of its stride).
    pub const KSTACK_SIZE: u64 = 128 << 10;
    /// Most kernel stacks (= most tasks).
    pub const KSTACK_MAX: u64 = 8192;
}

/// Domains (slots): 4 GiB-aligned 4 GiB slots, lookup tables below each, gaps between (R1).
pub mod domain {
    /// Size of the guest-addressable slot.
    pub const SIZE: u64 = 1 << 32;
    /// Base of slot 0.
    pub const FIRST_BASE: u64 = (1 << 40) + STRIDE;
    /// Distance between two slot bases: 16 GiB return table, 4 GiB slot, 4 GiB gap, which holds shadow words,
    /// 16 GiB call table.
    pub const STRIDE: u64 = 40 << 30;
    /// Number of slots.
    pub const COUNT: u64 = 1500;
    /// Offsets below this are never mapped.
    pub const MAP_MIN: u64 = 64 << 10;
    /// Offsets from here up are never mapped (last 16 MiB).
    pub const MAP_MAX: u64 = SIZE - (16 << 20);
    /// Executable guest mappings lie below this offset (`push imm32` of return addresses sign-extends).
    pub const EXEC_MAX: u64 = 1 << 31;

    /// Base address of slot `index`.
    pub const fn base(index: u64) -> u64 {
        FIRST_BASE + index * STRIDE
    }
}

/// How translated code checks where a `ret` leads; `Shadow` is a choice for all code of an enclave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Returns {
    /// The return table alone: to any return site.
    #[default]
    Table,
    /// The shadow word first: to where the call came from.
    Shadow,
}

/// The shadow stack (`Returns::Shadow`): one word for each stack word of a slot, in the gap above the slot, which no
/// operand of a program reaches. A call writes the complement of its return address, a return compares and consumes it.
pub mod shadow {
    use super::{PAGE, domain};
    /// So that a stack word and its shadow share neither their low 12 bits nor a cache set.
    pub const SKEW: u64 = 0x840;
    /// From a stack word to its shadow word.
    pub const DISTANCE: u64 = domain::SIZE + SKEW;
    /// Shadow bytes of a slot that can ever be committed, as offsets from the slot's base: whole pages, those of the
    /// lowest and of the last mapped stack word included.
    pub const START: u64 = domain::SIZE + domain::MAP_MIN;
    /// Exclusive end of them.
    pub const END: u64 = domain::SIZE + domain::MAP_MAX + PAGE;
    /// What a call with return address `site` leaves.
    pub const fn live(site: u32) -> u64 {
        !(site as u64)
    }
    /// What a return with this shadow word leaves: its high half is cleared, the low half still says where it went.
    pub const fn consumed(word: u64) -> u64 {
        word & 0xffff_ffff
    }
    /// The return address that a live word stands for.
    pub const fn site(word: u64) -> Option<u32> {
        if word >> 32 == 0xffff_ffff { Some(!(word as u32)) } else { None }
    }
    /// The return address of the return that consumed a word.
    pub const fn consumed_site(word: u64) -> Option<u32> {
        if word >> 32 == 0 && word != 0 { Some(!(word as u32)) } else { None }
    }
}

/// The lookup tables of a slot, 4 bytes for each 32-bit number a program may jump to. That of the return sites grows
/// downwards from the slot's base: `movl %gs:(,%r11,4)` with r11 = !off. That of call and jump targets grows upwards from
/// `CALL_TABLE` above it: `movl %gs:4(,%r11,4)` with r11 = off + `CALL_BIAS`.
pub mod table {
    /// Which table.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Kind {
        /// Return sites.
        Ret,
        /// Call and jump targets.
        Call,
    }
    /// Bytes of an entry.
    pub const ENTRY: u64 = 4;
    /// What the index of the call table is above the offset: as much as one `lea` adds.
    pub const CALL_BIAS: i32 = i32::MAX;
    /// Displacement that makes up for the bias being odd.
    pub const CALL_DISP: u8 = 4;
    /// From the slot's base to the call table's entry for offset 0.
    pub const CALL_TABLE: u64 = ENTRY * CALL_BIAS as u64 + CALL_DISP as u64;
    /// Bytes of one table.
    pub const SIZE: u64 = ENTRY << 32;
    /// Address of the entry for code offset `off` of the slot at `slot_base`.
    pub const fn entry_addr(slot_base: u64, kind: Kind, off: u32) -> u64 {
        match kind {
            Kind::Ret => slot_base - ENTRY * (off as u64 + 1),
            Kind::Call => slot_base + CALL_TABLE + ENTRY * off as u64,
        }
    }
    /// Which entry of the tables of the slot at `slot_base` lies at `addr`.
    pub const fn entry_at(slot_base: u64, addr: u64) -> Option<(Kind, u32)> {
        let below = slot_base.wrapping_sub(addr).wrapping_sub(1);
        let above = addr.wrapping_sub(slot_base).wrapping_sub(CALL_TABLE);
        if below < SIZE {
            Some((Kind::Ret, (below / ENTRY) as u32))
        } else if above < SIZE {
            Some((Kind::Call, (above / ENTRY) as u32))
        } else {
            None
        }
    }
    /// Return sites below this offset have entries within 2 GiB below the slot: `prefetcht0 %gs:disp32` reaches them.
    pub const PREFETCH_MAX: u32 = 1 << 29;
    /// The displacement from GS base to the entry of return site `off`, if 32 bits hold it.
    pub const fn ret_entry_disp(off: u32) -> Option<i32> {
        if off < PREFETCH_MAX { Some(-(ENTRY as i32) * (off as i32 + 1)) } else { None }
    }
}

/// The trusted thread context: FS base points to it while translated code and the LibOS run for a task.
/// All numbers are byte offsets from FS base.
pub mod ctx {
    /// Linear address of this context itself.
    pub const SELF: u32 = 0x000;
    /// Slot base (also the GS base), u64.
    pub const SLOT_BASE: u32 = 0x008;
    /// The program's own FS base, an offset, u64 (<= 32 bits).
    pub const TLS: u32 = 0x010;
    /// The program's own GS base, an offset, u64 (<= 32 bits).
    pub const GUEST_GS: u32 = 0x018;
    /// Set asynchronously: leave the guest at the next chance (u32).
    pub const PENDING: u32 = 0x020;
    /// Spill slot of general register `n` (hardware number): `SPILL + 8 * n`.
    pub const SPILL: u32 = 0x040;
    /// Original target of an indirect call or jump (u64, low 32 bits count).
    pub const TARGET: u32 = 0x0c0;
    /// Exit index of the link stub, or original pc of the emulate stub (u32).
    pub const EXIT: u32 = 0x0c8;
    /// Kernel stack pointer to load when leaving the guest.
    pub const KSTACK: u32 = 0x0d0;
    /// LibOS-owned word (task handle).
    pub const TAG: u32 = 0x0d8;
    /// rt-owned: per-vCPU block.
    pub const VCPU: u32 = 0x0e0;
    /// Translated address at which the guest resumes.
    pub const RESUME: u32 = 0x0e8;
    /// Exit reason, written by the stubs (u32).
    pub const REASON: u32 = 0x0f0;
    /// 1 if XSAVE holds the x87, MXCSR and upper-vector state of this task (u32).
    pub const XSTATE_SAVED: u32 = 0x0f4;
    /// `shadow::DISTANCE`, u64: what the patterns of shadow words add to rsp.
    pub const SHADOW: u32 = 0x0f8;
    /// General registers by hardware number (rax rcx rdx rbx rsp rbp rsi rdi r8..r15), u64 each; rsp is a real address.
    pub const GPR: u32 = 0x100;
    /// Original program counter, u64 offset.
    pub const RIP: u32 = 0x180;
    /// RFLAGS.
    pub const RFLAGS: u32 = 0x188;
    /// xmm0-15, authoritative at every kernel entry.
    pub const XMM: u32 = 0x200;
    /// XSAVE area (standard format, XCR0 = x87|SSE|AVX), 64-aligned.
    pub const XSAVE: u32 = 0x340;
    /// Bytes of the XSAVE area.
    pub const XSAVE_SIZE: u32 = 832;
    /// Size of the context.
    pub const SIZE: u32 = 0x700;
    /// `SPILL` slot of register `n`.
    pub const fn spill(n: u32) -> u32 {
        SPILL + 8 * n
    }
}

/// Why the guest left for the LibOS (`ctx::REASON`).
pub mod reason {
    /// `syscall`: RESUME and RIP are set to the following instruction.
    pub const SYSCALL: u32 = 1;
    /// A direct branch not linked yet: EXIT is its exit index.
    pub const LINK: u32 = 2;
    /// Return-table miss: the target is the 8 bytes at rsp-8.
    pub const MISS_RET: u32 = 3;
    /// Call-table miss: the target is in TARGET.
    pub const MISS_CALL: u32 = 4;
    /// The LibOS must emulate the original instruction at EXIT (or raise SIGILL/SIGTRAP/...).
    pub const EMULATE: u32 = 5;
    /// A hardware exception or a kick; state was taken from the SSA (full state, RIP = translated address).
    pub const AEX: u32 = 6;
}

/// Addresses of the runtime's stubs (in the image), which translated code jumps to by rel32. At each of them the guest's
/// r11 is in its spill slot; other registers and the flags are the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stubs {
    /// In: rcx = resume address, r11d = original next pc. Behind it r11, in its register and its slot, is the flags.
    pub syscall: u32,
    /// In: `ctx::EXIT` = exit index.
    pub link: u32,
    /// Table miss of `ret`.
    pub miss_ret: u32,
    /// Table miss of an indirect call or jump: `ctx::TARGET` is set.
    pub miss_call: u32,
    /// In: `ctx::EXIT` = original pc.
    pub emulate: u32,
}
