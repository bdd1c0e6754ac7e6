mod common;
use common::*;
use occlum_sfi_translator::{Source, translate};
#[test]
fn count() {
    for name in ["/bin/bash", "/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/git", "/usr/bin/perl"] {
        let file = std::fs::read(name).unwrap();
        let (mut rebase, mut probe, mut spill, mut rows, mut ret) = (0, 0, 0, 0, 0);
        let mut shown = 0;
        for (start, bytes) in code_sections(&file) {
            let mut at = 0;
            while at < bytes.len() {
                let Ok(f) = translate(&config(), Source { start: start + at as u32, bytes: &bytes[at..] }, BASE, 0, &Nothing) else { break };
                let c = &f.code;
                for (k, w) in c.windows(9).enumerate() {
                    if w.starts_with(&[0x89, 0xe4, 0x64, 0x4c, 0x89, 0x1c, 0x25]) { rebase += 1;
                        if shown < 12 { shown += 1; let r = f.rows.iter().rev().find(|r| r.start as usize <= k).unwrap(); println!("{name} rebase before {:#x}", r.off); } }
                    if w.starts_with(&[0x38, 0x04, 0x24]) { probe += 1; }
                    if w.starts_with(&[0x64, 0x4c, 0x89, 0x1c, 0x25]) { spill += 1; }
                    if w.starts_with(&[0x44, 0x8b, 0x1c, 0x24]) { ret += 1; }
                }
                rows += f.rows.len();
                at += (f.source_len as usize).max(1);
            }
        }
        println!("{name}: rows {rows} rebase {rebase} probe {probe} r11 spills {spill} rets {ret}");
    }
}
