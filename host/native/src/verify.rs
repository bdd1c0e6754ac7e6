//! Translates and verifies a file's code ahead of time, as the enclave would do it page by page.
//!
//! Neighbours: `sfi-translator` and `sfi-verifier` do the work; `python/occlum/cli/verify.py` shows the result. Everything
//! executable is swept: fragment after fragment over each executable section (segments, if there are none), and the entry.
//! Invariants: files are hostile: any bytes give a report; nothing of a file is executed or written.

use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter, Instruction};
use occlum_sfi_spec::{Returns, Stubs, domain, elrange};
use occlum_sfi_translator::{Config, Env, Fragment, Source, translate};
use occlum_sfi_verifier::{Check, Maps, Proven, Unit, Violation, is_set, map_len, verify};
use std::ops::Range;
use std::path::Path;

/// Where fragments are placed.
const BASE: u32 = elrange::CODE_BASE as u32;
/// Stubs at some places of the image: the enclave has them at others, the patterns are the same.
const STUBS: Stubs = Stubs {
    syscall: elrange::IMAGE_BASE as u32 + 0x1000,
    link: elrange::IMAGE_BASE as u32 + 0x1100,
    miss_ret: elrange::IMAGE_BASE as u32 + 0x1200,
    miss_call: elrange::IMAGE_BASE as u32 + 0x1300,
    emulate: elrange::IMAGE_BASE as u32 + 0x1400,
};
const CONFIG: Config = Config {
    stubs: STUBS,
    max_instructions: 400,
    prefetch_returns: true,
    returns: Returns::Table,
    native_tsc: false,
};
/// Bytes of source that a fragment is made from.
const WINDOW: usize = 1024;
/// Longest instruction.
const INSTRUCTION: usize = 15;

/// What became of a file.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Why there is nothing to verify in it.
    pub(crate) skipped: Option<&'static str>,
    /// The first thing that is wrong.
    pub(crate) violation: Option<Refusal>,
    pub(crate) fragments: u64,
    pub(crate) source_bytes: u64,
    pub(crate) code_bytes: u64,
}

/// A refused fragment.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Offset of the fragment's source.
    pub(crate) offset: u32,
    /// Address of the refused instruction.
    pub(crate) address: u32,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    pub(crate) disassembly: String,
    /// Name of the check, number of the invariant, and a sentence.
    pub(crate) check: String,
    pub(crate) invariant: String,
    pub(crate) reason: &'static str,
}

/// Neither code before nor entries elsewhere.
struct Nothing;

impl Env for Nothing {
    fn lookup(&self, _off: u32) -> Option<u32> {
        None
    }
}

impl Proven for Nothing {
    fn is_entry(&self, _addr: u32) -> bool {
        false
    }

    fn is_boundary(&self, _addr: u32) -> bool {
        false
    }
}

/// Reads and verifies a file.
pub(crate) fn file(path: &Path) -> std::io::Result<Report> {
    let mut head = [0; 4];
    let mut file = std::fs::File::open(path)?;
    let magic = std::io::Read::read_exact(&mut file, &mut head).is_ok() && head == *b"\x7fELF";
    if !magic {
        return Ok(Report { skipped: Some("not an ELF file"), ..Report::default() });
    }
    Ok(bytes(&std::fs::read(path)?))
}

/// Verifies a file's content.
pub(crate) fn bytes(file: &[u8]) -> Report {
    let mut report = Report::default();
    match executable(file) {
        Err(why) => report.skipped = Some(why),
        Ok(parts) if parts.is_empty() => report.skipped = Some("no executable code"),
        Ok(parts) => {
            let mut buffers = Buffers::default();
            for part in &parts {
                sweep(file, part, &mut buffers, &mut report);
            }
            entry(file, &parts, &mut buffers, &mut report);
        }
    }
    report
}

/// Code in a file and where it is loaded.
pub(crate) struct Part {
    pub(crate) offset: u32,
    pub(crate) file: Range<usize>,
}

fn number(file: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = file.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0, |value, &b| value << 8 | u64::from(b)))
}

/// Executable sections, or segments if there are no sections. `Err`: no file for this machine.
pub(crate) fn executable(file: &[u8]) -> Result<Vec<Part>, &'static str> {
    if !file.starts_with(b"\x7fELF") {
        return Err("not an ELF file");
    }
    if file.get(4..6) != Some(&[2, 1]) || number(file, 18, 2) != Some(62) {
        return Err("not for x86-64");
    }
    if !matches!(number(file, 16, 2), Some(2 | 3)) {
        return Err("neither a program nor a shared object");
    }
    // Section headers: type PROGBITS, flag EXECINSTR. Program headers: type LOAD, flag X.
    let mut parts = table(file, [40, 58, 60], |h| {
        let wanted = number(file, h + 4, 4)? == 1 && number(file, h + 8, 8)? & 4 != 0;
        wanted.then_some((number(file, h + 16, 8)?, number(file, h + 24, 8)?, number(file, h + 32, 8)?))
    });
    if parts.is_empty() {
        parts = table(file, [32, 54, 56], |h| {
            let wanted = number(file, h, 4)? == 1 && number(file, h + 4, 4)? & 1 != 0;
            wanted.then_some((number(file, h + 16, 8)?, number(file, h + 8, 8)?, number(file, h + 32, 8)?))
        });
    }
    let limit = domain::EXEC_MAX;
    if parts.iter().any(|&(address, _, len)| address.checked_add(len).is_none_or(|end| end > limit)) {
        return Err("code above 2 GiB");
    }
    let inside = |(address, at, len): (u64, u64, u64)| {
        let (at, len) = (usize::try_from(at).ok()?, usize::try_from(len).ok()?);
        let end = at.checked_add(len)?.min(file.len());
        (at < end).then_some(Part { offset: address as u32, file: at..end })
    };
    Ok(parts.into_iter().filter_map(inside).collect())
}

/// (address, place in the file, length) of the entries of a header table that `pick` takes. `fields`: where the ELF header
/// has the table's place, the size of an entry, their number.
fn table(
    file: &[u8],
    fields: [usize; 3],
    pick: impl Fn(usize) -> Option<(u64, u64, u64)>,
) -> Vec<(u64, u64, u64)> {
    let place = number(file, fields[0], 8).and_then(|v| usize::try_from(v).ok()).unwrap_or(usize::MAX);
    let (size, count) = (number(file, fields[1], 2).unwrap_or(0), number(file, fields[2], 2).unwrap_or(0));
    let place_of = |n: u64| place.checked_add(usize::try_from(n * size).ok()?);
    (0..count).filter_map(|n| pick(place_of(n).filter(|&h| h < file.len())?)).collect()
}

/// The verifier's maps.
#[derive(Default)]
struct Buffers {
    boundaries: Vec<u8>,
    entries: Vec<u8>,
    targets: Vec<u8>,
}

impl Buffers {
    fn maps(&mut self, code_len: usize) -> Maps<'_> {
        let len = map_len(code_len);
        for map in [&mut self.boundaries, &mut self.entries, &mut self.targets] {
            map.resize(len, 0);
        }
        Maps { boundaries: &mut self.boundaries, entries: &mut self.entries, targets: &mut self.targets }
    }
}

/// Fragment after fragment over a part.
fn sweep(file: &[u8], part: &Part, buffers: &mut Buffers, report: &mut Report) {
    let code = &file[part.file.clone()];
    let mut at = 0;
    while at < code.len() && report.violation.is_none() {
        at += fragment(code, part.offset, at, buffers, report);
    }
}

/// The fragment at `at`; returns how many bytes of source it took.
fn fragment(code: &[u8], offset: u32, at: usize, buffers: &mut Buffers, report: &mut Report) -> usize {
    let end = code.len().min(at + WINDOW);
    let start = offset.wrapping_add(at as u32);
    let Ok(f) = translate(&CONFIG, Source { start, bytes: &code[at..end] }, BASE, 0, &Nothing) else {
        // An instruction that the part's end cuts: the enclave would see the bytes behind, or a fault.
        return INSTRUCTION;
    };
    report.fragments += 1;
    report.source_bytes += u64::from(f.source_len);
    report.code_bytes += f.code.len() as u64;
    if let Err(v) = prove(&f, buffers) {
        report.violation = Some(refusal(start, &f, &v));
    }
    (f.source_len as usize).max(1)
}

/// The file's entry point, which may lie inside a fragment of the sweep.
fn entry(file: &[u8], parts: &[Part], buffers: &mut Buffers, report: &mut Report) {
    let Some(entry) = number(file, 24, 8).and_then(|e| u32::try_from(e).ok()) else { return };
    for part in parts {
        let at = entry.wrapping_sub(part.offset) as usize;
        if at < part.file.len() && report.violation.is_none() {
            fragment(&file[part.file.clone()], part.offset, at, buffers, report);
        }
    }
}

/// What the enclave asks before it publishes a fragment, and later before it links it.
fn prove(f: &Fragment, buffers: &mut Buffers) -> Result<(), Violation> {
    verify(
        &STUBS,
        CONFIG.returns,
        Unit { base: f.base, code: &f.code },
        &Nothing,
        &mut buffers.maps(f.code.len()),
    )?;
    for e in &f.entries {
        if !is_set(&buffers.entries, e.at.wrapping_sub(f.base) as usize) {
            return Err(Violation { at: e.at, len: 0, check: Check::EntryUnproven });
        }
    }
    Ok(())
}

fn refusal(offset: u32, f: &Fragment, v: &Violation) -> Refusal {
    let at = v.at.wrapping_sub(f.base) as usize;
    let rest = f.code.get(at..).unwrap_or(&[]);
    let mut instr = Instruction::default();
    Decoder::with_ip(64, rest, u64::from(v.at), DecoderOptions::NONE).decode_out(&mut instr);
    let len = if v.len == 0 { instr.len() } else { usize::from(v.len) };
    let mut disassembly = String::new();
    GasFormatter::new().format(&instr, &mut disassembly);
    Refusal {
        offset,
        address: v.at,
        bytes: rest[..len.min(rest.len())].to_vec(),
        disassembly,
        check: format!("{:?}", v.check),
        invariant: format!("{:?}", v.invariant()),
        reason: v.check.reason(),
    }
}
