//! Texts of /proc/PID about memory: maps, smaps, statm, and the rows of status.
//!
//! Invariants: sizes never say more than a process can have (4 GiB); a page counts as resident if it is in the slot, so
//! text that runs translated is not, and neither are pages that were never touched.
use super::super::prelude::*;
use crate::mm::{Backing, Mm, Vma};
use crate::process::{Process, Task};
use crate::sched::Breath;
use alloc::format;
use occlum_linux_abi::mmap as mf;
use occlum_rt::mem::TryGrow;

type P<'a> = &'a Arc<Process>;
type T<'a> = &'a Arc<Task>;

/// KiB of a process, by what they are.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Mapped.
    pub size: u64,
    /// Resident: of no file, of files, shared.
    pub anon: u64,
    /// The same of files.
    pub file: u64,
    /// The same of shared memory.
    pub shared: u64,
    /// Mapped private and writable, without stack.
    pub data: u64,
    /// Stack.
    pub stack: u64,
    /// Executable, of the program.
    pub exe: u64,
    /// Executable, of libraries.
    pub lib: u64,
    /// Locked (mlock).
    pub locked: u64,
}
impl Usage {
    /// All that is resident.
    pub fn rss(&self) -> u64 {
        self.anon + self.file + self.shared
    }
    fn add(&mut self, start: u64, v: &Vma, rss: u64, code: &core::ops::Range<u64>) {
        let kib = (v.end - start) / 1024;
        self.size += kib;
        self.locked += if v.locked { kib } else { 0 };
        match v.backing {
            Backing::Shared(..) => self.shared += rss,
            // A private page of a file that was written to is the process's own.
            Backing::File(..) if v.is_pristine() => self.file += rss,
            _ => self.anon += rss,
        }
        let stack = v.name == crate::mm::STACK;
        if stack {
            self.stack += kib;
        } else if v.prot() & mf::PROT_EXEC != 0 {
            *(if code.contains(&start) { &mut self.exe } else { &mut self.lib }) += kib;
        } else if v.prot() & mf::PROT_WRITE != 0 && !matches!(v.backing, Backing::Shared(..)) {
            self.data += kib;
        }
    }
}

/// Longest text of one mapping: rows, and a path.
const AREA_MAX: usize = 2048 + 4096;

struct Area {
    start: u64,
    vma: Vma,
    rss: u64,
}
/// One at a time: there may be too many for a list, and others get on meanwhile.
fn areas(mm: &Mm) -> impl Iterator<Item = Area> {
    let mut breath = Breath::begin();
    mm.vmas().map(move |(start, vma)| {
        breath.take();
        let rss = mm.resident_runs(start..vma.end).map(|r| (r.end - r.start) / 1024).sum();
        Area { start, vma, rss }
    })
}

/// What the process uses.
pub fn usage(p: P) -> Usage {
    let mut u = Usage::default();
    if let Some(mm) = p.mm() {
        let code = mm.layout().code;
        areas(&mm).for_each(|a| u.add(a.start, &a.vma, a.rss, &code));
    }
    u
}

fn line(start: u64, v: &Vma) -> String {
    let bit = |b: u32, c: char| if v.prot() & b != 0 { c } else { '-' };
    let shared = matches!(v.backing, Backing::Shared(..));
    let (off, ino, dev, path) = match &v.backing {
        // The vDSO is a file to nobody.
        Backing::File(..) if !v.name.is_empty() => (0, 0, 0, String::from(v.name)),
        Backing::File(f, off) => {
            let s = f.0.stat().unwrap_or_default();
            (*off, s.ino, s.dev, String::from_utf8_lossy(&f.path()).into_owned())
        }
        Backing::Shared(_, off, _) => match v.backing.file() {
            Some(f) => {
                let s = f.0.stat().unwrap_or_default();
                (*off, s.ino, s.dev, String::from_utf8_lossy(&f.path()).into_owned())
            }
            None => (*off, 0, 0, String::from(v.name)),
        },
        Backing::Anon => (0, 0, 0, String::from(v.name)),
    };
    let head = format!(
        "{start:08x}-{:08x} {}{}{}{} {off:08x} {:02x}:{:02x} {ino} ",
        v.end,
        bit(1, 'r'),
        bit(2, 'w'),
        bit(4, 'x'),
        if shared { 's' } else { 'p' },
        dev >> 8 & 0xfff,
        dev & 0xff
    );
    if path.is_empty() { format!("{head}\n") } else { format!("{head:<73}{path}\n") }
}

/// /proc/PID/maps.
pub fn maps(p: P) -> Result<Vec<u8>> {
    let Some(mm) = p.mm() else { return Ok(Vec::new()) };
    let (mut out, mut breath) = (Vec::new(), Breath::begin());
    for (start, v) in mm.vmas() {
        breath.take();
        let line = line(start, &v);
        out.try_room(line.len()).map_err(|_| ENOMEM)?;
        out.extend_from_slice(line.as_bytes());
    }
    Ok(out)
}

/// The rows of smaps and smaps_rollup, in KiB.
fn rows(u: &Usage, mapped: Option<u64>) -> String {
    let mut out = String::new();
    if let Some(kib) = mapped {
        out += &format!(
            "Size:           {kib:8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n"
        );
    }
    let private_clean = u.file;
    for (name, kib) in [
        ("Rss:", u.rss()),
        ("Pss:", u.rss()),
        ("Shared_Clean:", 0),
        ("Shared_Dirty:", u.shared),
        ("Private_Clean:", private_clean),
        ("Private_Dirty:", u.anon),
        ("Referenced:", u.rss()),
        ("Anonymous:", u.anon),
        ("LazyFree:", 0),
        ("AnonHugePages:", 0),
        ("ShmemPmdMapped:", 0),
        ("FilePmdMapped:", 0),
        ("Shared_Hugetlb:", 0),
        ("Private_Hugetlb:", 0),
        ("Swap:", 0),
        ("SwapPss:", 0),
        ("Locked:", u.locked),
    ] {
        out += &format!("{name:<16}{kib:8} kB\n");
    }
    out
}

fn vm_flags(v: &Vma) -> String {
    let mut out = String::from("VmFlags:");
    for (bit, name) in [(1, " rd"), (2, " wr"), (4, " ex")] {
        if v.prot() & bit != 0 {
            out += name;
        }
    }
    if matches!(v.backing, Backing::Shared(..)) {
        out += " sh";
    }
    out += " mr mw me";
    if v.sealed {
        out += " sl";
    }
    out + "\n"
}

/// /proc/PID/smaps.
pub fn smaps(p: P) -> Result<Vec<u8>> {
    let mut out = String::new();
    let Some(mm) = p.mm() else { return Ok(Vec::new()) };
    for a in areas(&mm) {
        out.try_room(AREA_MAX).map_err(|_| ENOMEM)?;
        let mut u = Usage::default();
        u.add(a.start, &a.vma, a.rss, &(0..0));
        out += &line(a.start, &a.vma);
        out += &rows(&u, Some((a.vma.end - a.start) / 1024));
        out += "THPeligible:           0\n";
        out += &vm_flags(&a.vma);
    }
    Ok(out.into_bytes())
}

/// /proc/PID/smaps_rollup.
pub fn smaps_rollup(p: P, _t: T) -> Vec<u8> {
    let Some(mm) = p.mm() else { return Vec::new() };
    let (first, last) = (mm.vmas().next(), mm.vmas().last());
    let (Some((start, _)), Some((_, last))) = (first, last) else { return Vec::new() };
    let head = format!("{:08x}-{:08x} ---p 00000000 00:00 0 ", start, last.end);
    format!("{head:<73}[rollup]\n{}", rows(&usage(p), None)).into_bytes()
}

/// /proc/PID/statm, in pages.
pub fn statm(p: P, _t: T) -> Vec<u8> {
    let u = usage(p);
    let pages = |kib: u64| kib / 4;
    format!(
        "{} {} {} {} 0 {} 0\n",
        pages(u.size),
        pages(u.rss()),
        pages(u.file + u.shared),
        pages(u.exe),
        pages(u.data + u.stack)
    )
    .into_bytes()
}
