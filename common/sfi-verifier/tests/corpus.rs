//! Every fragment of real programs is accepted, all entries that the translator reports are proven, and fast enough.

mod common;

use common::{RETURNS, assert_entries, check_with, code_sections, sweep};
use occlum_sfi_verifier::Violation;
use std::time::{Duration, Instant};

/// More files may be named in `SFI_CORPUS`, separated by colons.
const FILES: &[&str] = &["/bin/bash", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libm.so.6"];

/// What is wrong, with the instruction.
fn describe(v: &Violation, base: u32, code: &[u8]) -> String {
    use iced_x86::{Decoder, DecoderOptions};
    let at = (v.at - base) as usize;
    let i = Decoder::with_ip(64, &code[at..], u64::from(v.at), DecoderOptions::NONE).decode();
    format!("{:?} at {:#x}: {i} [{:02x?}]", v.check, v.at, &code[at..code.len().min(at + 16)])
}

#[test]
fn real_programs_are_accepted() {
    let more = std::env::var("SFI_CORPUS").unwrap_or_default();
    let (mut bytes, mut time, mut files) = (0, Duration::ZERO, 0);
    for name in FILES.iter().copied().chain(more.split(':').filter(|n| !n.is_empty())) {
        let file = std::fs::read(name).unwrap();
        for (start, section) in code_sections(&file) {
            for returns in RETURNS {
                sweep(returns, start, &section, |f| {
                    let begin = Instant::now();
                    let result = check_with(returns, f.base, &f.code);
                    time += begin.elapsed();
                    bytes += f.code.len();
                    match result {
                        Ok(boundaries) => assert_entries(f, &boundaries),
                        Err(v) => {
                            panic!("{name}, {:#x}: {}", f.entries[0].off, describe(&v, f.base, &f.code))
                        }
                    }
                });
            }
        }
        files += 1;
    }
    let speed = bytes as f64 / time.as_secs_f64() / 1e6;
    println!("{files} files, {bytes} bytes of translated code, {speed:.1} MB/s");
}
