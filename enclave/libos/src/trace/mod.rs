//! What a debug enclave tells the host of its programs: system calls, signals, ends, samples, crashes, cores.
//!
//! Neighbours: `enclave-abi`'s `trace` has options and records, `syscall`, `signal`, `process` and `loader` call in here,
//! `python/occlum/trace` formats. Parts: `calls`, `sample`, `dump`, `record` (building and buffering).
//! Invariants: nothing is told unless the measured configuration says *debug*; records are only written, never read
//! back; what cannot be had (memory, a page) is left out, and no call of a program fails or changes for being told of.
mod calls;
mod dump;
mod record;
mod sample;

pub use calls::{enter, leave};
pub use dump::crash;
pub use record::flush;
pub use sample::{is_due, sample};

use crate::mm::Mm;
use crate::process::{Task, WaitStatus};
use crate::signal::Info;
use crate::syscall::table;
use alloc::format;
use alloc::vec::Vec;
use occlum_enclave_abi::{Record as Kind, TRACE_ENDS, TraceOptions};
use occlum_linux_abi::mmap::PROT_EXEC;
use occlum_rt::bkl::BklCell;
use record::Builder;

const NOTHING: TraceOptions =
    TraceOptions { flags: 0, string_limit: 0, sample_ns: 0, sample_stack: 0, signals: 0, calls: [0; 8] };
/// Most bytes that are copied of one buffer, and of a stack, whatever the host asks for.
const STRING_MAX: u32 = 16 << 10;
const STACK_MAX: u32 = 256 << 10;

static OPTIONS: BklCell<TraceOptions> = BklCell::new(NOTHING);

/// Heeds the host's options. The caller has looked that this is a debug enclave.
pub fn start(options: TraceOptions) {
    OPTIONS.set(TraceOptions {
        string_limit: options.string_limit.min(STRING_MAX),
        sample_stack: options.sample_stack.min(STACK_MAX),
        ..options
    });
    if options.calls.iter().any(|word| *word != 0) {
        table::ROWS.iter().for_each(tell_row);
    }
}

fn has(flag: u32) -> bool {
    OPTIONS.with(|o| o.flags & flag != 0)
}

/// Names and types of a call's arguments, once, for who prints them.
fn tell_row(row: &table::Row) {
    let mut b = Builder::new(Kind::Row, 0, 0);
    b.u32(row.nr);
    b.bytes(row.name.as_bytes());
    b.bytes(b"(");
    for (i, (name, kind)) in row.args.iter().enumerate() {
        b.bytes(format!("{}{name}:{}", if i > 0 { "," } else { "" }, kind.name).as_bytes());
    }
    b.bytes(b")");
    b.end();
}

/// The registers of a task that is in its original state.
fn registers(b: &mut Builder, t: &Task) {
    let r = &t.rt;
    (0..16).for_each(|n| b.u64(r.gpr(n)));
    for word in [u64::from(r.rip()), r.rflags(), u64::from(r.tls()), u64::from(r.guest_gs())] {
        b.u64(word);
    }
}

/// Memory from `at` on, as far as it is mapped, at most so many bytes.
fn memory(mm: &Mm, at: u64, most: u64) -> Vec<u8> {
    let end = mm.find(at).map_or(at, |(_, vma)| vma.end.min(at.saturating_add(most)));
    let mut bytes = crate::fs::uio::try_vec((end - at) as usize).unwrap_or_default();
    match mm.read_foreign(at, &mut bytes) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

/// What is mapped where: the executable mappings, or all.
fn maps(t: &Task, mm: &Mm, all: bool) {
    let mut b = Builder::new(Kind::Maps, t.process.pid, t.tid);
    t.process.exe.with(|exe| b.counted(exe));
    for (start, vma) in mm.vmas().filter(|(_, v)| all || v.prot() & PROT_EXEC != 0) {
        b.u32(start as u32);
        b.u32(vma.end as u32);
        b.u64(vma.backing.offset());
        b.u32(vma.prot());
        match vma.backing.file().filter(|_| vma.name.is_empty()) {
            Some(file) => b.counted(&file.path()),
            None => b.counted(vma.name.as_bytes()),
        }
    }
    b.end();
}

/// A signal is taken.
pub fn signal(t: &Task, sig: i32, info: Info, handler: u64) {
    if OPTIONS.with(|o| o.signals & crate::signal::bit(sig) == 0) {
        return;
    }
    let mut b = Builder::new(Kind::Signal, t.process.pid, t.tid);
    b.u32(sig as u32);
    b.u32(handler.min(2) as u32);
    b.bytes(&info.to_bytes(sig));
    b.end();
}

/// A task ends; with `last` its process.
pub fn end(t: &Task, status: WaitStatus, last: bool) {
    if has(TRACE_ENDS) {
        let mut b = Builder::new(Kind::End, t.process.pid, t.tid);
        b.u32(status as u32);
        b.u32(u32::from(last));
        b.end();
    }
}

/// A name that a program chose, for a line of text that somebody reads: without control characters.
pub fn printable(name: &[u8]) -> alloc::string::String {
    alloc::string::String::from_utf8_lossy(name).replace(char::is_control, "?")
}
