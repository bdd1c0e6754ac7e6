//! Helpers of the verifier's tests: configuration, fragments of real programs, assembling snippets.

#![allow(dead_code, reason = "each test file uses its own part")]

#[path = "../../../sfi-translator/tests/common/shared.rs"]
mod shared;

pub use shared::*;

use occlum_sfi_spec::Returns;
use occlum_sfi_translator::{Config, Fragment, Source, translate};
use occlum_sfi_verifier::{Maps, Proven, Unit, Violation, is_set, map_len, verify};
use std::sync::atomic::{AtomicUsize, Ordering};

pub const RETURNS: [Returns; 2] = [Returns::Table, Returns::Shadow];
/// The one address outside a unit that counts as proven.
pub const PROVEN: u32 = 0x4100_0000;

pub struct Known;

impl Proven for Known {
    fn is_entry(&self, addr: u32) -> bool {
        addr == PROVEN
    }

    fn is_boundary(&self, addr: u32) -> bool {
        self.is_entry(addr)
    }
}

/// What is proven of a unit.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub boundaries: Vec<u8>,
    pub entries: Vec<u8>,
}

pub fn check(base: u32, code: &[u8]) -> Result<Accepted, Violation> {
    check_with(Returns::Table, base, code)
}

pub fn check_with(returns: Returns, base: u32, code: &[u8]) -> Result<Accepted, Violation> {
    let mut boundaries = vec![0; map_len(code.len())];
    let (mut targets, mut entries) = (boundaries.clone(), boundaries.clone());
    let mut maps = Maps { boundaries: &mut boundaries, entries: &mut entries, targets: &mut targets };
    verify(&STUBS, returns, Unit { base, code }, &Known, &mut maps)?;
    Ok(Accepted { boundaries, entries })
}

/// Every entry that the translator reports must be one of `entries`.
pub fn assert_entries(f: &Fragment, accepted: &Accepted) {
    for e in &f.entries {
        assert!(is_set(&accepted.entries, (e.at - f.base) as usize), "entry {:#x} is not proven", e.at);
    }
    for e in &f.exits {
        let site = (e.patch_at - f.base) as usize;
        let start = site - if f.code[site - 1] == 0xe9 { 1 } else { 2 };
        assert!(is_set(&accepted.boundaries, start), "exit {:#x} cannot be patched", e.patch_at);
    }
}

/// Every fragment of a linear sweep over `bytes`.
pub fn sweep(returns: Returns, start: u32, bytes: &[u8], mut visit: impl FnMut(&Fragment)) {
    let config = Config { returns, ..config() };
    let mut at = 0;
    while at < bytes.len() {
        let source = Source { start: start + at as u32, bytes: &bytes[at..] };
        let Ok(f) = translate(&config, source, BASE, 0, &Nothing) else {
            assert!(bytes.len() - at < 16, "no fragment at {:#x}", source.start);
            return;
        };
        visit(&f);
        at += (f.source_len as usize).max(1);
    }
}

/// One snippet of `pass/` or `fail/`, assembled.
pub struct Snippet {
    pub file: String,
    /// The line behind `@` without `open` and `short`: feature or check, then why.
    pub title: String,
    pub open: bool,
    pub short: bool,
    pub base: u32,
    pub code: Vec<u8>,
}

impl Snippet {
    /// First word of the title.
    pub fn word(&self) -> &str {
        self.title.split(' ').next().unwrap()
    }

    /// What it is to be verified for.
    pub fn returns(&self) -> Returns {
        if self.file.ends_with("shadow") { Returns::Shadow } else { Returns::Table }
    }

    /// Verifies it, or `code` in its place.
    pub fn check(&self, code: &[u8]) -> Result<Accepted, Violation> {
        check_with(self.returns(), self.base, code)
    }
}

/// Distance between two snippets in memory.
const STRIDE: u32 = 0x1000;

/// All snippets of `tests/<folder>`, assembled with `as` and linked with `ld` at `BASE`.
pub fn snippets(folder: &str) -> Vec<Snippet> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut files: Vec<_> = root.join(folder).read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut source = std::fs::read_to_string(root.join("head.s")).unwrap();
    let mut found: Vec<Snippet> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        for line in text.lines() {
            let Some(title) = line.strip_prefix("@ ") else {
                source += &format!("{line}\n");
                continue;
            };
            source += &end_of_snippet(found.last(), found.len());
            source += &format!(".balign {STRIDE}\nstart{}:\n", found.len());
            let (open, title) = title.strip_prefix("open ").map_or((false, title), |t| (true, t));
            let (short, title) = title.strip_prefix("short ").map_or((false, title), |t| (true, t));
            found.push(Snippet {
                file: name.clone(),
                title: title.into(),
                open,
                short,
                base: 0,
                code: Vec::new(),
            });
        }
    }
    source += &end_of_snippet(found.last(), found.len());
    let file = assemble(folder, &source);
    for (n, (snippet, place)) in found.iter_mut().zip(section(&file, ".places").chunks(16)).enumerate() {
        let (from, to) = (number(place, 0, 8) as u32, number(place, 8, 8) as u32 - u32::from(snippet.short));
        assert_eq!(from, BASE + n as u32 * STRIDE);
        let text = section(&file, ".text");
        snippet.base = from;
        snippet.code = text[(from - BASE) as usize..(to - BASE) as usize].to_vec();
    }
    found
}

fn end_of_snippet(last: Option<&Snippet>, count: usize) -> String {
    let Some(last) = last else { return String::new() };
    let jump = if last.open { "" } else { "jmp PROVEN" };
    let n = count - 1;
    format!("{jump}\nend{n}:\n.pushsection .places,\"a\"\n.quad start{n}, end{n}\n.popsection\n")
}

/// The linked file.
fn assemble(name: &str, source: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let at = |end: &str| folder.join(format!("{name}-{}-{count}{end}", std::process::id()));
    std::fs::write(at(".s"), source).unwrap();
    let run = |command: &mut std::process::Command| {
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    run(std::process::Command::new("as").arg("-o").arg(at(".o")).arg(at(".s")));
    let mut ld = std::process::Command::new("ld");
    ld.args([
        "-e",
        "0",
        "--no-warn-rwx-segments",
        "--section-start=.text=0x40000000",
        "--section-start=.places=0x50000000",
    ]);
    let symbols = [
        ("PROVEN", PROVEN),
        ("STUB_SYSCALL", STUBS.syscall),
        ("STUB_LINK", STUBS.link),
        ("STUB_MISS_RET", STUBS.miss_ret),
        ("STUB_MISS_CALL", STUBS.miss_call),
        ("STUB_EMULATE", STUBS.emulate),
    ];
    ld.args(symbols.map(|(name, value)| format!("--defsym={name}={value:#x}")));
    run(ld.arg("-o").arg(at(".elf")).arg(at(".o")));
    let file = std::fs::read(at(".elf")).unwrap();
    for end in [".s", ".o", ".elf"] {
        std::fs::remove_file(at(end)).unwrap();
    }
    file
}

/// Content of a section by name.
fn section(file: &[u8], wanted: &str) -> Vec<u8> {
    sections(file).into_iter().find(|s| s.name == wanted).unwrap().content
}
