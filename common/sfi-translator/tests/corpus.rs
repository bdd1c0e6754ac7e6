//! Every instruction of real programs: it translates, the emitted code passes the checker, and what is left to emulation
//! is only what has to be. Files that are missing on this machine are skipped.

mod common;

use common::{BASE, Nothing, check, check_stack, code_sections, configs, emulated};
use occlum_sfi_translator::{Config, Source, translate, undo};
use std::collections::BTreeMap;

/// More files may be named in `SFI_CORPUS`, separated by colons.
const FILES: &[&str] = &["/bin/bash", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libm.so.6"];

#[derive(Default)]
struct Sum {
    original: usize,
    translated: usize,
    fragments: usize,
    exits: usize,
    rows: usize,
    emulated: BTreeMap<String, usize>,
}

fn sweep(cfg: &Config, start: u32, bytes: &[u8], sum: &mut Sum) {
    let mut at = 0;
    while at < bytes.len() {
        let source = Source { start: start + at as u32, bytes: &bytes[at..] };
        let Ok(f) = translate(cfg, source, BASE, 0, &Nothing) else {
            assert!(bytes.len() - at < 16, "no fragment at {:#x}", source.start);
            return;
        };
        if let Err(what) = check(&f).and_then(|()| check_stack(&f)) {
            panic!("fragment at {:#x}: {what}", source.start);
        }
        for i in emulated(&f, source.start, source.bytes) {
            *sum.emulated.entry(format!("{:?} {:?}", i.encoding(), i.mnemonic())).or_default() += 1;
        }
        for e in &f.exits {
            assert!(e.patch_at & 15 <= 12, "patch site straddles a line");
        }
        for r in &f.rows {
            if (r.start as usize) < f.code.len() {
                assert!(undo(&f.rows, &f.code, f.base, f.base + r.start).is_some());
            }
        }
        sum.original += f.source_len as usize;
        sum.translated += f.code.len();
        sum.fragments += 1;
        sum.exits += f.exits.len();
        sum.rows += f.rows.len();
        at += (f.source_len as usize).max(1);
    }
}

#[test]
fn real_programs_translate() {
    let more = std::env::var("SFI_CORPUS").unwrap_or_default();
    for name in FILES.iter().copied().chain(more.split(':')) {
        let Ok(file) = std::fs::read(name) else { continue };
        for cfg in configs() {
            let mut sum = Sum::default();
            let begin = std::time::Instant::now();
            for (start, bytes) in code_sections(&file) {
                sweep(&cfg, start, &bytes, &mut sum);
            }
            println!(
                "{name} ({:?}): {} -> {} bytes ({:.2}), {} fragments, {} exits, {} rows, {:?}",
                cfg.returns,
                sum.original,
                sum.translated,
                sum.translated as f64 / sum.original as f64,
                sum.fragments,
                sum.exits,
                sum.rows,
                begin.elapsed()
            );
            println!("   emulated: {:?}", sum.emulated);
        }
    }
}
