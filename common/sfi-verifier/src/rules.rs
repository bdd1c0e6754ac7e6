//! The allow-list: every instruction that may stand in translated code, by encoding (V1).
//!
//! Neighbours: `decode` looks a form up here and reads operands as it says; `operand` judges them.
//! A rule covers opcodes of one map under some mandatory prefixes, and says which register fields name general registers
//! and whether these are written. What no rule names is refused: system and privileged instructions, segment registers,
//! `syscall` and its kin, state images (fxsave, xsave, fnstenv), flag loads, `bt` with memory and a register bit number,
//! near and far transfers but the listed branches, EVEX, XOP, and everything newer than AVX2.
//! Invariants: rules of one opcode that differ only in `sel` stand side by side with the same map, prefixes and range.

/// What an instruction is made of: bits below.
pub(crate) type Form = u64;

/// ModRM follows.
pub(crate) const M: Form = 1;
/// Immediate: one byte; 2 or 4 bytes by operand size; the same or 8 with REX.W.
pub(crate) const IB: Form = 1 << 1;
pub(crate) const IZ: Form = 1 << 2;
pub(crate) const IV: Form = 1 << 3;
/// Size of a general-register operand: at most 32 bits; 64 with W; byte; 64 without 66.
pub(crate) const SIZE_W: Form = 1;
pub(crate) const SIZE_B: Form = 2;
pub(crate) const SIZE_Q: Form = 3;
/// Fields: 1 read, 2 written, then the size in the two bits above.
pub(crate) const READ: Form = 1;
pub(crate) const WRITE: Form = 2;
pub(crate) const REG_AT: u32 = 4;
pub(crate) const RM_AT: u32 = 8;
pub(crate) const V_AT: u32 = 12;

const GRD: Form = READ << REG_AT;
const GWD: Form = WRITE << REG_AT;
const GRV: Form = GRD | SIZE_W << (REG_AT + 2);
const GWV: Form = GWD | SIZE_W << (REG_AT + 2);
const GR8: Form = GRD | SIZE_B << (REG_AT + 2);
const GW8: Form = GWD | SIZE_B << (REG_AT + 2);
const ERD: Form = READ << RM_AT;
const EWD: Form = WRITE << RM_AT;
const ERV: Form = ERD | SIZE_W << (RM_AT + 2);
const EWV: Form = EWD | SIZE_W << (RM_AT + 2);
const ER8: Form = ERD | SIZE_B << (RM_AT + 2);
const EW8: Form = EWD | SIZE_B << (RM_AT + 2);
const ERQ: Form = ERD | SIZE_Q << (RM_AT + 2);
const EWQ: Form = EWD | SIZE_Q << (RM_AT + 2);
const VR: Form = (READ | SIZE_W << 2) << V_AT | VV;
const VW: Form = (WRITE | SIZE_W << 2) << V_AT | VV;
/// vvvv is used (a vector register unless `VR` or `VW`).
pub(crate) const VV: Form = 1 << 16;
/// VEX.L and VEX.W have one allowed value.
pub(crate) const L0: Form = 1 << 17;
pub(crate) const L1: Form = 1 << 18;
pub(crate) const W0: Form = 1 << 19;
pub(crate) const W1: Form = 1 << 20;
/// A memory operand may not be touched, or not fault: it does not confine rsp (V5).
pub(crate) const LAX: Form = 1 << 21;
/// `lock` is allowed with a memory operand.
pub(crate) const LOCK: Form = 1 << 22;
/// Pushes or pops: confines rsp.
pub(crate) const STACK: Form = 1 << 23;
/// Memory without ModRM: needs 65 67.
pub(crate) const IMPLICIT: Form = 1 << 24;
/// Vector index.
pub(crate) const VSIB: Form = 1 << 25;
pub(crate) const STRING: Form = 1 << 26;
/// Direct branch with a relative displacement.
pub(crate) const BRANCH: Form = 1 << 27;
/// The low three bits of the opcode name a general register, described as rm.
pub(crate) const OPREG: Form = 1 << 28;
/// 66 may stand beside F2 or F3.
pub(crate) const P66: Form = 1 << 29;
pub(crate) const LEA: Form = 1 << 30;
/// Only with ModRM 00 and nothing before.
pub(crate) const NOP: Form = 1 << 31;
pub(crate) const X87: Form = 1 << 32;

/// Mandatory prefixes: none, 66, F3, F2 (in this order also the column of the index).
const N: u8 = 1;
const P: u8 = 2;
const S: u8 = 4;
const D: u8 = 8;
const NP: u8 = N | P;
const SD: u8 = S | D;
const ALL: u8 = NP | SD;

/// Opcode maps, in the order of the index's planes.
pub(crate) const ONE: u8 = 0;
const M0F: u8 = 1;
const M38: u8 = 2;
const M3A: u8 = 3;
/// VEX map m is `VEX + m - 1`.
pub(crate) const VEX: u8 = 4;
const V1: u8 = VEX;
const V2: u8 = VEX + 1;
const V3: u8 = VEX + 2;
const MAPS: usize = 7;

/// One rule, with the ModRM selections it covers: bit `digit` for memory, bit 8 + `digit` for registers.
#[derive(Clone, Copy)]
struct Rule {
    map: u8,
    prefixes: u8,
    first: u8,
    last: u8,
    step: u8,
    sel: u16,
    form: Form,
}

const MEM: u16 = 0x00ff;
const REG: u16 = 0xff00;
const ANY: u16 = 0xffff;

/// Digits `mask`, memory or register.
const fn both(mask: u16) -> u16 {
    mask | mask << 8
}

const fn rule(map: u8, prefixes: u8, first: u8, last: u8, sel: u16, form: Form) -> Rule {
    Rule { map, prefixes, first, last, step: 1, sel, form }
}

/// Every eighth opcode from `first` to `last`: one column of the arithmetic block.
const fn alu(first: u8, last: u8, form: Form) -> Rule {
    Rule { map: ONE, prefixes: NP, first, last, step: 8, sel: ANY, form }
}

#[rustfmt::skip]
const RULES: &[Rule] = &[
    rule(ONE, 0, 0, 0, 0, 0), // number 0 means: no rule
    // ---- one byte: add or adc sbb and sub xor, cmp
    alu(0x00, 0x30, M | EW8 | GR8 | LOCK), alu(0x01, 0x31, M | EWV | GRV | LOCK),
    alu(0x02, 0x32, M | GW8 | ER8), alu(0x03, 0x33, M | GWV | ERV),
    alu(0x04, 0x3c, IB), alu(0x05, 0x3d, IZ),
    rule(ONE, NP, 0x38, 0x38, ANY, M | ER8 | GR8), rule(ONE, NP, 0x39, 0x39, ANY, M | ERV | GRV),
    rule(ONE, NP, 0x3a, 0x3a, ANY, M | GR8 | ER8), rule(ONE, NP, 0x3b, 0x3b, ANY, M | GRV | ERV),
    // push, pop, movsxd, push imm, imul
    rule(ONE, NP, 0x50, 0x57, ANY, OPREG | ERQ | STACK), rule(ONE, NP, 0x58, 0x5f, ANY, OPREG | EWQ | STACK),
    rule(ONE, NP, 0x63, 0x63, ANY, M | GWV | ERD),
    rule(ONE, NP, 0x68, 0x68, ANY, IZ | STACK), rule(ONE, NP, 0x6a, 0x6a, ANY, IB | STACK),
    rule(ONE, NP, 0x69, 0x69, ANY, M | GWV | ERV | IZ), rule(ONE, NP, 0x6b, 0x6b, ANY, M | GWV | ERV | IB),
    // jcc
    rule(ONE, N, 0x70, 0x7f, ANY, BRANCH | IB),
    // group 1: 7 is cmp
    rule(ONE, NP, 0x80, 0x80, both(0x7f), M | EW8 | IB | LOCK), rule(ONE, NP, 0x80, 0x80, both(0x80), M | ER8 | IB),
    rule(ONE, NP, 0x81, 0x81, both(0x7f), M | EWV | IZ | LOCK), rule(ONE, NP, 0x81, 0x81, both(0x80), M | ERV | IZ),
    rule(ONE, NP, 0x83, 0x83, both(0x7f), M | EWV | IB | LOCK), rule(ONE, NP, 0x83, 0x83, both(0x80), M | ERV | IB),
    // test, xchg, mov, lea, pop m
    rule(ONE, NP, 0x84, 0x84, ANY, M | ER8 | GR8), rule(ONE, NP, 0x85, 0x85, ANY, M | ERV | GRV),
    rule(ONE, NP, 0x86, 0x86, ANY, M | EW8 | GW8 | LOCK), rule(ONE, NP, 0x87, 0x87, ANY, M | EWV | GWV | LOCK),
    rule(ONE, NP, 0x88, 0x88, ANY, M | EW8 | GR8), rule(ONE, NP, 0x89, 0x89, ANY, M | EWV | GRV),
    rule(ONE, NP, 0x8a, 0x8a, ANY, M | GW8 | ER8), rule(ONE, NP, 0x8b, 0x8b, ANY, M | GWV | ERV),
    rule(ONE, NP, 0x8d, 0x8d, MEM, M | GWV | LEA),
    rule(ONE, NP, 0x8f, 0x8f, both(1), M | EWQ | STACK),
    // nop and xchg with rax, pause, cbw, cwd, fwait, sahf, lahf
    rule(ONE, NP, 0x90, 0x97, ANY, OPREG | EWV), rule(ONE, S, 0x90, 0x90, ANY, 0),
    rule(ONE, NP, 0x98, 0x99, ANY, 0), rule(ONE, NP, 0x9b, 0x9b, ANY, 0),
    rule(ONE, NP, 0x9e, 0x9f, ANY, 0),
    // movs cmps stos lods scas, test imm
    rule(ONE, ALL, 0xa4, 0xa7, ANY, STRING | P66), rule(ONE, ALL, 0xaa, 0xaf, ANY, STRING | P66),
    rule(ONE, NP, 0xa8, 0xa8, ANY, IB), rule(ONE, NP, 0xa9, 0xa9, ANY, IZ),
    // mov imm
    rule(ONE, NP, 0xb0, 0xb7, ANY, OPREG | EW8 | IB), rule(ONE, NP, 0xb8, 0xbf, ANY, OPREG | EWV | IV),
    // shifts
    rule(ONE, NP, 0xc0, 0xc0, ANY, M | EW8 | IB), rule(ONE, NP, 0xc1, 0xc1, ANY, M | EWV | IB),
    rule(ONE, NP, 0xd0, 0xd0, ANY, M | EW8), rule(ONE, NP, 0xd1, 0xd1, ANY, M | EWV),
    rule(ONE, NP, 0xd2, 0xd2, ANY, M | EW8), rule(ONE, NP, 0xd3, 0xd3, ANY, M | EWV),
    rule(ONE, NP, 0xc6, 0xc6, both(1), M | EW8 | IB), rule(ONE, NP, 0xc7, 0xc7, both(1), M | EWV | IZ),
    rule(ONE, NP, 0xd7, 0xd7, ANY, IMPLICIT),
    // x87 without environment and state
    rule(ONE, NP, 0xd8, 0xd8, ANY, M | X87 | LAX), rule(ONE, NP, 0xd9, 0xd9, REG | 0xad, M | X87 | LAX),
    rule(ONE, NP, 0xda, 0xda, ANY, M | X87 | LAX), rule(ONE, NP, 0xdb, 0xdb, REG | 0xaf, M | X87 | LAX),
    rule(ONE, NP, 0xdc, 0xdc, ANY, M | X87 | LAX), rule(ONE, NP, 0xdd, 0xdd, REG | 0x8f, M | X87 | LAX),
    rule(ONE, NP, 0xde, 0xdf, ANY, M | X87 | LAX),
    // loop, jrcxz, jmp
    rule(ONE, N, 0xe0, 0xe3, ANY, BRANCH | IB), rule(ONE, N, 0xe9, 0xe9, ANY, BRANCH | IZ),
    rule(ONE, N, 0xeb, 0xeb, ANY, BRANCH | IB),
    // cmc clc stc cld std, group 3, inc, dec, push m
    rule(ONE, NP, 0xf5, 0xf5, ANY, 0), rule(ONE, NP, 0xf8, 0xf9, ANY, 0), rule(ONE, NP, 0xfc, 0xfd, ANY, 0),
    rule(ONE, NP, 0xf6, 0xf6, both(0x03), M | ER8 | IB), rule(ONE, NP, 0xf6, 0xf6, both(0x0c), M | EW8 | LOCK),
    rule(ONE, NP, 0xf6, 0xf6, both(0xf0), M | ER8),
    rule(ONE, NP, 0xf7, 0xf7, both(0x03), M | ERV | IZ), rule(ONE, NP, 0xf7, 0xf7, both(0x0c), M | EWV | LOCK),
    rule(ONE, NP, 0xf7, 0xf7, both(0xf0), M | ERV),
    rule(ONE, NP, 0xfe, 0xfe, both(0x03), M | EW8 | LOCK),
    rule(ONE, NP, 0xff, 0xff, both(0x03), M | EWV | LOCK), rule(ONE, NP, 0xff, 0xff, both(0x40), M | ERQ | STACK),
    // ---- 0F: prefetches, moves
    rule(M0F, NP, 0x0d, 0x0d, MEM, M | LAX), rule(M0F, NP, 0x18, 0x18, 0x0f, M | LAX),
    rule(M0F, N, 0x1f, 0x1f, 0x01, M | NOP),
    rule(M0F, ALL, 0x10, 0x11, ANY, M), rule(M0F, N, 0x12, 0x12, ANY, M), rule(M0F, P, 0x12, 0x12, MEM, M),
    rule(M0F, SD, 0x12, 0x12, ANY, M), rule(M0F, NP, 0x13, 0x13, MEM, M), rule(M0F, NP, 0x14, 0x15, ANY, M),
    rule(M0F, N | S, 0x16, 0x16, ANY, M), rule(M0F, P, 0x16, 0x16, MEM, M), rule(M0F, NP, 0x17, 0x17, MEM, M),
    rule(M0F, NP, 0x28, 0x29, ANY, M), rule(M0F, NP, 0x2a, 0x2a, ANY, M), rule(M0F, SD, 0x2a, 0x2a, ANY, M | ERV),
    rule(M0F, NP, 0x2b, 0x2b, MEM, M), rule(M0F, NP, 0x2c, 0x2d, ANY, M), rule(M0F, SD, 0x2c, 0x2d, ANY, M | GWV),
    rule(M0F, NP, 0x2e, 0x2f, ANY, M),
    // cmov, movmsk, arithmetic
    // rdtsc: an enclave may execute it where there is SGX2; it tells nothing that a program may not know.
    rule(M0F, N, 0x31, 0x31, ANY, 0),
    rule(M0F, NP, 0x40, 0x4f, ANY, M | GWV | ERV), rule(M0F, NP, 0x50, 0x50, REG, M | GWD),
    rule(M0F, ALL, 0x51, 0x51, ANY, M), rule(M0F, N | S, 0x52, 0x53, ANY, M), rule(M0F, NP, 0x54, 0x57, ANY, M),
    rule(M0F, ALL, 0x58, 0x5a, ANY, M), rule(M0F, NP | S, 0x5b, 0x5b, ANY, M), rule(M0F, ALL, 0x5c, 0x5f, ANY, M),
    rule(M0F, NP, 0x60, 0x6b, ANY, M), rule(M0F, P, 0x6c, 0x6d, ANY, M), rule(M0F, NP, 0x6e, 0x6e, ANY, M | ERV),
    rule(M0F, NP | S, 0x6f, 0x6f, ANY, M), rule(M0F, ALL, 0x70, 0x70, ANY, M | IB),
    rule(M0F, NP, 0x71, 0x72, 0x5400, M | IB), rule(M0F, N, 0x73, 0x73, 0x4400, M | IB),
    rule(M0F, P, 0x73, 0x73, 0xcc00, M | IB), rule(M0F, NP, 0x74, 0x76, ANY, M), rule(M0F, N, 0x77, 0x77, ANY, 0),
    rule(M0F, P | D, 0x7c, 0x7d, ANY, M), rule(M0F, NP, 0x7e, 0x7e, ANY, M | EWV), rule(M0F, S, 0x7e, 0x7e, ANY, M),
    rule(M0F, NP | S, 0x7f, 0x7f, ANY, M),
    // jcc, setcc, bit tests on registers, double shifts, imul
    rule(M0F, N, 0x80, 0x8f, ANY, BRANCH | IZ), rule(M0F, NP, 0x90, 0x9f, ANY, M | EW8),
    rule(M0F, NP, 0xa3, 0xa3, REG, M | ERV | GRV), rule(M0F, NP, 0xab, 0xab, REG, M | EWV | GRV),
    rule(M0F, NP, 0xb3, 0xb3, REG, M | EWV | GRV), rule(M0F, NP, 0xbb, 0xbb, REG, M | EWV | GRV),
    rule(M0F, NP, 0xa4, 0xa4, ANY, M | EWV | GRV | IB), rule(M0F, NP, 0xa5, 0xa5, ANY, M | EWV | GRV),
    rule(M0F, NP, 0xac, 0xac, ANY, M | EWV | GRV | IB), rule(M0F, NP, 0xad, 0xad, ANY, M | EWV | GRV),
    rule(M0F, NP, 0xaf, 0xaf, ANY, M | GWV | ERV),
    // ldmxcsr, stmxcsr, clflush, fences; clwb, clflushopt
    rule(M0F, N, 0xae, 0xae, 0xe00c, M), rule(M0F, N, 0xae, 0xae, 0x0080, M | LAX),
    rule(M0F, P, 0xae, 0xae, 0x00c0, M | LAX),
    // cmpxchg, movzx, movsx, popcnt, bit tests with immediate, scans
    rule(M0F, NP, 0xb0, 0xb0, ANY, M | EW8 | GR8 | LOCK), rule(M0F, NP, 0xb1, 0xb1, ANY, M | EWV | GRV | LOCK),
    rule(M0F, NP, 0xb6, 0xb6, ANY, M | GWV | ER8), rule(M0F, NP, 0xb7, 0xb7, ANY, M | GWV | ERD),
    rule(M0F, NP, 0xbe, 0xbe, ANY, M | GWV | ER8), rule(M0F, NP, 0xbf, 0xbf, ANY, M | GWV | ERD),
    rule(M0F, S, 0xb8, 0xb8, ANY, M | GWV | ERV | P66),
    rule(M0F, NP, 0xba, 0xba, both(0x10), M | ERV | IB), rule(M0F, NP, 0xba, 0xba, both(0xe0), M | EWV | IB | LOCK),
    rule(M0F, NP, 0xbc, 0xbd, ANY, M | GWV | ERV), rule(M0F, S, 0xbc, 0xbd, ANY, M | GWV | ERV | P66),
    // xadd, vectors, cmpxchg8b, rdrand, rdseed, bswap
    rule(M0F, NP, 0xc0, 0xc0, ANY, M | EW8 | GW8 | LOCK), rule(M0F, NP, 0xc1, 0xc1, ANY, M | EWV | GWV | LOCK),
    rule(M0F, ALL, 0xc2, 0xc2, ANY, M | IB), rule(M0F, N, 0xc3, 0xc3, MEM, M | GRV),
    rule(M0F, NP, 0xc4, 0xc4, ANY, M | ERV | IB), rule(M0F, NP, 0xc5, 0xc5, REG, M | GWD | IB),
    rule(M0F, NP, 0xc6, 0xc6, ANY, M | IB),
    rule(M0F, NP, 0xc7, 0xc7, 0x0002, M | LOCK), rule(M0F, NP, 0xc7, 0xc7, 0xc000, M | EWV),
    rule(M0F, NP, 0xc8, 0xcf, ANY, OPREG | EWV),
    rule(M0F, P | D, 0xd0, 0xd0, ANY, M), rule(M0F, NP, 0xd1, 0xd5, ANY, M), rule(M0F, P, 0xd6, 0xd6, ANY, M),
    rule(M0F, SD, 0xd6, 0xd6, REG, M), rule(M0F, NP, 0xd7, 0xd7, REG, M | GWD), rule(M0F, NP, 0xd8, 0xe5, ANY, M),
    rule(M0F, P | SD, 0xe6, 0xe6, ANY, M), rule(M0F, NP, 0xe7, 0xe7, MEM, M), rule(M0F, NP, 0xe8, 0xef, ANY, M),
    rule(M0F, D, 0xf0, 0xf0, MEM, M), rule(M0F, NP, 0xf1, 0xf6, ANY, M), rule(M0F, NP, 0xf7, 0xf7, REG, M | IMPLICIT),
    rule(M0F, NP, 0xf8, 0xfe, ANY, M),
    // ---- 0F 38
    rule(M38, NP, 0x00, 0x0b, ANY, M), rule(M38, P, 0x10, 0x10, ANY, M), rule(M38, P, 0x14, 0x15, ANY, M),
    rule(M38, P, 0x17, 0x17, ANY, M), rule(M38, NP, 0x1c, 0x1e, ANY, M), rule(M38, P, 0x20, 0x25, ANY, M),
    rule(M38, P, 0x28, 0x29, ANY, M), rule(M38, P, 0x2a, 0x2a, MEM, M), rule(M38, P, 0x2b, 0x2b, ANY, M),
    rule(M38, P, 0x30, 0x35, ANY, M), rule(M38, P, 0x37, 0x41, ANY, M), rule(M38, N, 0xc8, 0xcd, ANY, M),
    rule(M38, P, 0xcf, 0xcf, ANY, M), rule(M38, P, 0xdb, 0xdf, ANY, M),
    rule(M38, NP, 0xf0, 0xf0, MEM, M | GWV), rule(M38, NP, 0xf1, 0xf1, MEM, M | GRV),
    rule(M38, D, 0xf0, 0xf0, ANY, M | GWV | ER8 | P66), rule(M38, D, 0xf1, 0xf1, ANY, M | GWV | ERV | P66),
    rule(M38, P | S, 0xf6, 0xf6, ANY, M | GWV | ERV),
    // ---- 0F 3A
    rule(M3A, P, 0x08, 0x0e, ANY, M | IB), rule(M3A, NP, 0x0f, 0x0f, ANY, M | IB),
    rule(M3A, P, 0x14, 0x15, ANY, M | EWD | IB), rule(M3A, P, 0x16, 0x16, ANY, M | EWV | IB),
    rule(M3A, P, 0x17, 0x17, ANY, M | EWD | IB), rule(M3A, P, 0x20, 0x20, ANY, M | ERV | IB),
    rule(M3A, P, 0x21, 0x21, ANY, M | IB), rule(M3A, P, 0x22, 0x22, ANY, M | ERV | IB),
    rule(M3A, P, 0x40, 0x42, ANY, M | IB), rule(M3A, P, 0x44, 0x44, ANY, M | IB), rule(M3A, P, 0x60, 0x63, ANY, M | IB),
    rule(M3A, N, 0xcc, 0xcc, ANY, M | IB), rule(M3A, P, 0xce, 0xcf, ANY, M | IB), rule(M3A, P, 0xdf, 0xdf, ANY, M | IB),
    // ---- VEX 0F: moves
    rule(V1, NP, 0x10, 0x11, ANY, M), rule(V1, SD, 0x10, 0x11, MEM, M), rule(V1, SD, 0x10, 0x11, REG, M | VV),
    rule(V1, N, 0x12, 0x12, ANY, M | VV | L0), rule(V1, P, 0x12, 0x12, MEM, M | VV | L0),
    rule(V1, SD, 0x12, 0x12, ANY, M), rule(V1, NP, 0x13, 0x13, MEM, M | L0), rule(V1, NP, 0x14, 0x15, ANY, M | VV),
    rule(V1, N, 0x16, 0x16, ANY, M | VV | L0), rule(V1, P, 0x16, 0x16, MEM, M | VV | L0),
    rule(V1, S, 0x16, 0x16, ANY, M), rule(V1, NP, 0x17, 0x17, MEM, M | L0),
    rule(V1, NP, 0x28, 0x29, ANY, M), rule(V1, SD, 0x2a, 0x2a, ANY, M | VV | ERV), rule(V1, NP, 0x2b, 0x2b, MEM, M),
    rule(V1, SD, 0x2c, 0x2d, ANY, M | GWV), rule(V1, NP, 0x2e, 0x2f, ANY, M),
    rule(V1, NP, 0x50, 0x50, REG, M | GWD), rule(V1, NP, 0x51, 0x51, ANY, M), rule(V1, SD, 0x51, 0x51, ANY, M | VV),
    rule(V1, N, 0x52, 0x53, ANY, M), rule(V1, S, 0x52, 0x53, ANY, M | VV), rule(V1, NP, 0x54, 0x57, ANY, M | VV),
    rule(V1, ALL, 0x58, 0x59, ANY, M | VV), rule(V1, NP, 0x5a, 0x5a, ANY, M), rule(V1, SD, 0x5a, 0x5a, ANY, M | VV),
    rule(V1, NP | S, 0x5b, 0x5b, ANY, M), rule(V1, ALL, 0x5c, 0x5f, ANY, M | VV),
    rule(V1, P, 0x60, 0x6d, ANY, M | VV), rule(V1, P, 0x6e, 0x6e, ANY, M | L0 | ERV), rule(V1, P | S, 0x6f, 0x6f, ANY, M),
    rule(V1, P | SD, 0x70, 0x70, ANY, M | IB), rule(V1, P, 0x71, 0x72, 0x5400, M | VV | IB),
    rule(V1, P, 0x73, 0x73, 0xcc00, M | VV | IB), rule(V1, P, 0x74, 0x76, ANY, M | VV), rule(V1, N, 0x77, 0x77, ANY, 0),
    rule(V1, P | D, 0x7c, 0x7d, ANY, M | VV), rule(V1, P, 0x7e, 0x7e, ANY, M | L0 | EWV),
    rule(V1, S, 0x7e, 0x7e, ANY, M | L0), rule(V1, P | S, 0x7f, 0x7f, ANY, M),
    rule(V1, N, 0xae, 0xae, 0x000c, M | L0), rule(V1, ALL, 0xc2, 0xc2, ANY, M | VV | IB),
    rule(V1, P, 0xc4, 0xc4, ANY, M | VV | L0 | ERV | IB), rule(V1, P, 0xc5, 0xc5, REG, M | L0 | GWD | IB),
    rule(V1, NP, 0xc6, 0xc6, ANY, M | VV | IB), rule(V1, P | D, 0xd0, 0xd0, ANY, M | VV),
    rule(V1, P, 0xd1, 0xd5, ANY, M | VV), rule(V1, P, 0xd6, 0xd6, ANY, M | L0), rule(V1, P, 0xd7, 0xd7, REG, M | GWD),
    rule(V1, P, 0xd8, 0xe5, ANY, M | VV), rule(V1, P | SD, 0xe6, 0xe6, ANY, M), rule(V1, P, 0xe7, 0xe7, MEM, M),
    rule(V1, P, 0xe8, 0xef, ANY, M | VV), rule(V1, D, 0xf0, 0xf0, MEM, M), rule(V1, P, 0xf1, 0xf6, ANY, M | VV),
    rule(V1, P, 0xf7, 0xf7, REG, M | L0 | IMPLICIT), rule(V1, P, 0xf8, 0xfe, ANY, M | VV),
    // ---- VEX 0F 38
    rule(V2, P, 0x00, 0x0b, ANY, M | VV), rule(V2, P, 0x0c, 0x0d, ANY, M | VV | W0), rule(V2, P, 0x0e, 0x0f, ANY, M | W0),
    rule(V2, P, 0x13, 0x13, ANY, M | W0), rule(V2, P, 0x16, 0x16, ANY, M | VV | L1 | W0), rule(V2, P, 0x17, 0x17, ANY, M),
    rule(V2, P, 0x18, 0x18, ANY, M | W0), rule(V2, P, 0x19, 0x19, ANY, M | L1 | W0),
    rule(V2, P, 0x1a, 0x1a, MEM, M | L1 | W0), rule(V2, P, 0x1c, 0x1e, ANY, M), rule(V2, P, 0x20, 0x25, ANY, M),
    rule(V2, P, 0x28, 0x29, ANY, M | VV), rule(V2, P, 0x2a, 0x2a, MEM, M), rule(V2, P, 0x2b, 0x2b, ANY, M | VV),
    rule(V2, P, 0x2c, 0x2f, MEM, M | VV | W0 | LAX), rule(V2, P, 0x30, 0x35, ANY, M),
    rule(V2, P, 0x36, 0x36, ANY, M | VV | L1 | W0), rule(V2, P, 0x37, 0x40, ANY, M | VV), rule(V2, P, 0x41, 0x41, ANY, M | L0),
    rule(V2, P, 0x45, 0x45, ANY, M | VV), rule(V2, P, 0x46, 0x46, ANY, M | VV | W0), rule(V2, P, 0x47, 0x47, ANY, M | VV),
    rule(V2, P, 0x58, 0x59, ANY, M | W0), rule(V2, P, 0x5a, 0x5a, MEM, M | L1 | W0), rule(V2, P, 0x78, 0x79, ANY, M | W0),
    rule(V2, P, 0x8c, 0x8c, MEM, M | VV | LAX), rule(V2, P, 0x8e, 0x8e, MEM, M | VV | LAX),
    rule(V2, P, 0x90, 0x93, MEM, M | VV | VSIB | LAX), rule(V2, P, 0x96, 0x9f, ANY, M | VV),
    rule(V2, P, 0xa6, 0xaf, ANY, M | VV), rule(V2, P, 0xb6, 0xbf, ANY, M | VV), rule(V2, P, 0xcf, 0xcf, ANY, M | VV | W0),
    rule(V2, P, 0xdb, 0xdb, ANY, M | L0), rule(V2, P, 0xdc, 0xdf, ANY, M | VV),
    rule(V2, N, 0xf2, 0xf2, ANY, M | L0 | GWV | VR | ERV), rule(V2, N, 0xf3, 0xf3, both(0x0e), M | L0 | VW | ERV),
    rule(V2, N | SD, 0xf5, 0xf5, ANY, M | L0 | GWV | VR | ERV), rule(V2, D, 0xf6, 0xf6, ANY, M | L0 | GWV | VW | ERV),
    rule(V2, ALL, 0xf7, 0xf7, ANY, M | L0 | GWV | VR | ERV),
    // ---- VEX 0F 3A
    rule(V3, P, 0x00, 0x01, ANY, M | L1 | W1 | IB), rule(V3, P, 0x02, 0x02, ANY, M | VV | W0 | IB),
    rule(V3, P, 0x04, 0x05, ANY, M | W0 | IB), rule(V3, P, 0x06, 0x06, ANY, M | VV | L1 | W0 | IB),
    rule(V3, P, 0x08, 0x09, ANY, M | IB), rule(V3, P, 0x0a, 0x0f, ANY, M | VV | IB),
    rule(V3, P, 0x14, 0x15, ANY, M | L0 | EWD | IB), rule(V3, P, 0x16, 0x16, ANY, M | L0 | EWV | IB),
    rule(V3, P, 0x17, 0x17, ANY, M | L0 | EWD | IB), rule(V3, P, 0x18, 0x18, ANY, M | VV | L1 | W0 | IB),
    rule(V3, P, 0x19, 0x19, ANY, M | L1 | W0 | IB), rule(V3, P, 0x1d, 0x1d, ANY, M | W0 | IB),
    rule(V3, P, 0x20, 0x20, ANY, M | VV | L0 | ERV | IB), rule(V3, P, 0x21, 0x21, ANY, M | VV | L0 | IB),
    rule(V3, P, 0x22, 0x22, ANY, M | VV | L0 | ERV | IB), rule(V3, P, 0x38, 0x38, ANY, M | VV | L1 | W0 | IB),
    rule(V3, P, 0x39, 0x39, ANY, M | L1 | W0 | IB), rule(V3, P, 0x40, 0x40, ANY, M | VV | IB),
    rule(V3, P, 0x41, 0x41, ANY, M | VV | L0 | IB), rule(V3, P, 0x42, 0x42, ANY, M | VV | IB),
    rule(V3, P, 0x44, 0x44, ANY, M | VV | IB), rule(V3, P, 0x46, 0x46, ANY, M | VV | L1 | W0 | IB),
    rule(V3, P, 0x4a, 0x4c, ANY, M | VV | W0 | IB), rule(V3, P, 0x60, 0x63, ANY, M | L0 | IB),
    rule(V3, P, 0xce, 0xcf, ANY, M | VV | W1 | IB), rule(V3, P, 0xdf, 0xdf, ANY, M | L0 | IB),
    rule(V3, D, 0xf0, 0xf0, ANY, M | L0 | GWV | ERV | IB),
];

/// Register forms of D8..DF: bit n stands for ModRM C0 + n.
pub(crate) const X87_FORMS: [u64; 8] = [
    u64::MAX,
    0xffff_7f33_ff01_ffff,
    0x0000_0200_ffff_ffff,
    0x00ff_ff1f_ffff_ffff,
    u64::MAX,
    0x0000_ffff_ffff_ffff,
    0xffff_ffff_02ff_ffff,
    0x00ff_ff01_ffff_ffff,
];

/// A rule as the lookup needs it.
#[derive(Clone, Copy)]
struct Packed {
    form: Form,
    sel: u16,
    /// The next rule may cover what this one does not.
    more: bool,
}

static PACKED: [Packed; RULES.len()] = pack();
/// First rule of every opcode by map, mandatory prefix and opcode.
static INDEX: [[u16; 256]; MAPS * 4] = index();

const fn same_place(a: &Rule, b: &Rule) -> bool {
    a.map == b.map && a.prefixes == b.prefixes && a.first == b.first && a.last == b.last
}

const fn pack() -> [Packed; RULES.len()] {
    let mut out = [Packed { form: 0, sel: 0, more: false }; RULES.len()];
    let mut k = 1;
    while k < RULES.len() {
        let more = k + 1 < RULES.len() && same_place(&RULES[k], &RULES[k + 1]);
        out[k] = Packed { form: RULES[k].form, sel: RULES[k].sel, more };
        k += 1;
    }
    out
}

const fn index() -> [[u16; 256]; MAPS * 4] {
    let mut out = [[0u16; 256]; MAPS * 4];
    let mut k = RULES.len() - 1;
    while k > 0 {
        let r = &RULES[k];
        let mut column = 0;
        while column < 4 {
            let mut op = r.first as usize;
            while r.prefixes >> column & 1 == 1 && op <= r.last as usize {
                let cell = &mut out[r.map as usize * 4 + column][op];
                // Rules of one place come in one run; anything else would hide a rule.
                assert!(*cell == 0 || *cell as usize == k + 1 && same_place(r, &RULES[k + 1]));
                *cell = k as u16;
                op += r.step as usize;
            }
            column += 1;
        }
        k -= 1;
    }
    out
}

/// The form of an opcode under mandatory prefix `column`; `key` is the ModRM selection (see `Rule`).
#[inline]
pub(crate) fn find(map: u8, column: u8, opcode: u8, key: u32) -> Option<Form> {
    let plane = usize::from(map) * 4 + usize::from(column);
    let mut k = usize::from(*INDEX.get(plane)?.get(usize::from(opcode))?);
    loop {
        let rule = PACKED.get(k)?;
        if rule.sel >> (key & 15) & 1 == 1 {
            return Some(rule.form);
        }
        if !rule.more {
            return None;
        }
        k += 1;
    }
}
