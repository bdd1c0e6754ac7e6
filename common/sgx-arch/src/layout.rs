//! Where the pages of a thread (vCPU) stand in the image region, behind the ELF image, and how entries are
//! numbered.
//!
//! Neighbours: `host/pal` adds these pages to the measured image, `enclave/rt` finds its state from the TCS
//! address.

/// The measured configuration: its first page. As many follow as it is long.
pub const CONFIG_BASE: u64 = 0x37f0_0000;
/// The block of vCPU 0; its TCS is the first page.
pub const THREADS_BASE: u64 = 0x3800_0000;
/// Distance between two blocks.
pub const THREAD_STRIDE: u64 = 256 << 10;
/// Most vCPUs.
pub const MAX_VCPUS: u32 = 64;
/// SSA frames (NSSA).
pub const NSSA: u32 = 2;

/// Offsets inside a block.
pub const SSA: u64 = 0x1000;
/// rt's page: `Vcpu`, with the idle context in its second half.
pub const VCPU: u64 = 0x3000;
/// The idle context (OFSBASE points here).
pub const IDLE_CTX: u64 = VCPU + 0x800;
/// Stack of stage 1: low end (the page before it is never mapped).
pub const STAGE1_STACK: u64 = 0x5000;
/// Stack of stage 1: high end. The stack for a last message after a crash lies above.
pub const STAGE1_STACK_TOP: u64 = 0x8000;
/// Crash stack: low end.
pub const CRASH_STACK: u64 = 0x9000;
/// Crash stack: high end.
pub const CRASH_STACK_TOP: u64 = 0xd000;
/// Stack of the idle context: low end.
pub const IDLE_STACK: u64 = 0x1_0000;
/// Stack of the idle context: high end.
pub const IDLE_STACK_TOP: u64 = 0x3_0000;

/// Offset in rt's page of the word through which a simulated EEXIT leaves. Zero when measured and on hardware
/// (ENCLU is used then); the simulator fills it in after EINIT.
pub const SIM_GATE: u64 = VCPU;

/// Page runs of a block that are added as ordinary read-write pages: (offset, end).
pub const RW_RUNS: [(u64, u64); 4] = [
    (SSA, VCPU + 0x1000),
    (STAGE1_STACK, STAGE1_STACK_TOP),
    (CRASH_STACK, CRASH_STACK_TOP),
    (IDLE_STACK, IDLE_STACK_TOP),
];

/// The block of vCPU `n`.
pub const fn thread(n: u32) -> u64 {
    THREADS_BASE + THREAD_STRIDE * n as u64
}

/// ECALL: start this vCPU. rsi = its OCALL buffer, rdx = launch parameters (vCPU 0), r8 = their length.
pub const CMD_START: u64 = 0;
/// ECALL: return from an OCALL.
pub const CMD_RETURN: u64 = 1;
/// Exit (rdi): an OCALL is in the buffer.
pub const EXIT_OCALL: u64 = 0;
/// Exit (rdi): stage 1 is done, ERESUME.
pub const EXIT_AEX_DONE: u64 = 1;
/// Exit (rdi): the entry was refused.
pub const EXIT_REFUSED: u64 = 2;
