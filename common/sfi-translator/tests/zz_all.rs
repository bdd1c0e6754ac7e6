mod common;
use common::*;
use occlum_sfi_translator::{Source, translate};
use std::collections::BTreeMap;
#[test]
fn all() {
    let mut sum: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut total = 0usize;
    for dir in ["/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu", "/usr/libexec/gcc/x86_64-linux-gnu/12", "/usr/lib/gcc/x86_64-linux-gnu/12", "/usr/local/bin", "/usr/local/lib"] {
        let Ok(rd) = std::fs::read_dir(dir) else { continue };
        for e in rd.flatten() {
            if e.file_type().map(|t| !t.is_file()).unwrap_or(true) { continue; }
            let Ok(file) = std::fs::read(e.path()) else { continue };
            if file.len() < 64 || !file.starts_with(b"\x7fELF\x02") || file[18] != 62 || file[16] == 1 { continue; }
            let name = e.path().display().to_string();
            if name.contains("libcrypto") { continue; }
            for (start, bytes) in code_sections(&file) {
                let mut at = 0;
                while at < bytes.len() {
                    let s = Source { start: start.wrapping_add(at as u32), bytes: &bytes[at..] };
                    let Ok(f) = translate(&config(), s, BASE, 0, &Nothing) else { break };
                    if let Err(w) = check(&f).and_then(|()| check_stack(&f)) { panic!("{name} {:#x} {w}", s.start); }
                    total += f.source_len as usize;
                    for i in emulated(&f, s.start, s.bytes) {
                        let mut key = format!("{:?} {:?}", i.encoding(), i.mnemonic());
                        if key.starts_with("EVEX") || key.starts_with("VEX K") { key = "EVEX".into(); }
                        else if !matches!(i.mnemonic(), iced_x86::Mnemonic::INVALID) { key = format!("{key} {i}"); if key.len() > 60 { key.truncate(60); } }
                        let v = sum.entry(key).or_insert((0, name.clone())); v.0 += 1;
                    }
                    at += (f.source_len as usize).max(1);
                }
            }
        }
    }
    println!("total bytes {total}");
    for (k, (n, f)) in &sum { println!("== {k}: {n} {f}"); }
}
