//! /proc/cpuinfo: what the LibOS's cpuid says, in the kernel's words.
use super::super::prelude::*;
use crate::emulate::{BRAND, cpuid};
use alloc::format;

/// Names of the bits of a register that cpuid fills: leaf, register (eax ebx ecx edx), names by bit.
type Flags = (u32, usize, &'static [(u32, &'static str)]);
#[rustfmt::skip]
const FLAGS: &[Flags] = &[
    (1, 3, &[(0, "fpu"), (4, "tsc"), (5, "msr"), (6, "pae"), (8, "cx8"), (11, "sep"), (13, "pge"), (15, "cmov"),
        (16, "pat"), (19, "clflush"), (23, "mmx"), (24, "fxsr"), (25, "sse"), (26, "sse2")]),
    (0x8000_0001, 3, &[(11, "syscall"), (20, "nx"), (27, "rdtscp"), (29, "lm")]),
    (0x8000_0007, 3, &[(8, "constant_tsc nonstop_tsc")]),
    (1, 2, &[(0, "pni"), (1, "pclmulqdq"), (9, "ssse3"), (12, "fma"), (13, "cx16"), (19, "sse4_1"), (20, "sse4_2"),
        (22, "movbe"), (23, "popcnt"), (25, "aes"), (26, "xsave"), (28, "avx"), (29, "f16c"), (30, "rdrand"),
        (31, "hypervisor")]),
    (0x8000_0001, 2, &[(0, "lahf_lm"), (5, "abm")]),
    (7, 1, &[(3, "bmi1"), (5, "avx2"), (8, "bmi2"), (9, "erms"), (29, "sha_ni")]),
];

fn flags() -> String {
    let mut out = String::new();
    for (leaf, register, names) in FLAGS {
        let word = cpuid(*leaf, 0)[*register];
        for (_, name) in names.iter().filter(|(bit, _)| word >> bit & 1 != 0) {
            out += name;
            out += " ";
        }
    }
    out.pop();
    out
}

/// Family, model, stepping of cpuid 1 eax.
fn version() -> (u32, u32, u32) {
    let eax = cpuid(1, 0)[0];
    (eax >> 8 & 15, eax >> 4 & 15 | eax >> 12 & 0xf0, eax & 15)
}

/// MHz of the counter, with three decimals.
fn mhz() -> String {
    let khz = crate::time::tsc_khz();
    format!("{}.{:03}", khz / 1000, khz % 1000)
}

/// /proc/cpuinfo.
pub fn cpuinfo() -> Vec<u8> {
    let n = occlum_rt::vcpu::count().max(1);
    let (family, model, stepping) = version();
    let mut out = String::new();
    for i in 0..n {
        let rows = [
            ("processor\t", format!("{i}")),
            ("vendor_id\t", String::from("GenuineIntel")),
            ("cpu family\t", format!("{family}")),
            ("model\t\t", format!("{model}")),
            ("model name\t", String::from(BRAND)),
            ("stepping\t", format!("{stepping}")),
            ("microcode\t", String::from("0x1")),
            ("cpu MHz\t\t", mhz()),
            ("cache size\t", String::from("8192 KB")),
            ("physical id\t", String::from("0")),
            ("siblings\t", format!("{n}")),
            ("core id\t\t", format!("{i}")),
            ("cpu cores\t", format!("{n}")),
            ("apicid\t\t", format!("{i}")),
            ("initial apicid\t", format!("{i}")),
            ("fpu\t\t", String::from("yes")),
            ("fpu_exception\t", String::from("yes")),
            ("cpuid level\t", format!("{}", cpuid(0, 0)[0])),
            ("wp\t\t", String::from("yes")),
            ("flags\t\t", flags()),
            ("bugs\t\t", String::new()),
            ("bogomips\t", mhz()),
            ("clflush size\t", String::from("64")),
            ("cache_alignment\t", String::from("64")),
            ("address sizes\t", String::from("39 bits physical, 48 bits virtual")),
            ("power management", String::new()),
        ];
        rows.iter().for_each(|(k, v)| out += &format!("{k}: {v}\n"));
        out.push('\n');
    }
    out.into_bytes()
}
