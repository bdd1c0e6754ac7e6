//! System calls: who made which, with what, and what came of it. What arguments lead to is copied as their types say.
//!
//! Neighbours: `syscall::arg` has the types. Invariant: memory is copied once, for the record only; the handler copies it
//! again for itself, so a program can make the two differ, which fools nobody but its own trace.
use super::record::Builder;
use super::{OPTIONS, has};
use crate::errno::{Errno, Result};
use crate::process::Task;
use crate::syscall::arg::Capture;
use crate::syscall::table::Row;
use crate::uaccess::{self, read_bytes, read_val};
use alloc::vec::Vec;
use occlum_enclave_abi::{
    BLOB_BYTES, BLOB_LIST, BLOB_PATH, BLOB_UNREADABLE, Record as Kind, TRACE_ARGUMENTS, TRACE_PATHS,
};
use occlum_linux_abi::nr;

/// The result, where a blob names its argument.
const RESULT: u8 = 6;
/// Most elements of a list, and bytes of one that goes on.
const LIST_MAX: usize = 64;
const LIST_BYTES: usize = 128 << 10;
/// Most bytes of a string.
const PATH_MAX: usize = 4096;
/// Bytes of `msghdr` and of `iovec`.
const MSGHDR: usize = 56;
/// Calls whose result is a descriptor.
const MAKE_DESCRIPTORS: [u32; 18] = [
    nr::OPEN,
    nr::OPENAT,
    nr::OPENAT2,
    nr::CREAT,
    nr::DUP,
    nr::DUP2,
    nr::DUP3,
    nr::SOCKET,
    nr::ACCEPT,
    nr::ACCEPT4,
    nr::EPOLL_CREATE1,
    nr::EVENTFD2,
    nr::TIMERFD_CREATE,
    nr::SIGNALFD4,
    nr::INOTIFY_INIT1,
    nr::MEMFD_CREATE,
    nr::PIDFD_OPEN,
    nr::MQ_OPEN,
];

/// A call begins. True: `leave` wants to hear of its end.
pub fn enter(t: &Task, row: Option<&Row>, number: u64, args: &[u64; 6]) -> bool {
    let wanted = OPTIONS.with(|o| {
        let word = o.calls.get(usize::try_from(number / 64).unwrap_or(usize::MAX));
        word.is_some_and(|w| w >> (number % 64) & 1 != 0)
    });
    if wanted {
        let mut b = Builder::new(Kind::Enter, t.process.pid, t.tid);
        b.u32(number as u32);
        args.iter().for_each(|a| b.u64(*a));
        if let Some(row) = row.filter(|_| has(TRACE_ARGUMENTS)) {
            each(row, |n, capture| before(&mut b, n, capture, args));
        }
        b.end();
    }
    // These do not return.
    wanted && !matches!(number as u32, nr::EXIT | nr::EXIT_GROUP)
}

/// A call that `enter` told of is done.
pub fn leave(t: &Task, row: Option<&Row>, number: u64, args: &[u64; 6], result: Result<usize>) {
    let mut b = Builder::new(Kind::Leave, t.process.pid, t.tid);
    b.u32(number as u32);
    b.u64(match result {
        Ok(v) => v as u64,
        Err(e) => i64::from(-e.as_i32()) as u64,
    });
    if let Some(row) = row.filter(|_| has(TRACE_ARGUMENTS)) {
        if let Ok(done) = result {
            each(row, |n, capture| after(&mut b, n, capture, args, done));
            if has(TRACE_PATHS) && MAKE_DESCRIPTORS.contains(&row.nr) {
                path(&mut b, RESULT, done as u64);
            }
        }
        b.end();
        // Line by line, so that a program that hangs or crashes has told its last call.
        return super::flush();
    }
    b.end();
}

fn each(row: &Row, mut act: impl FnMut(usize, Capture)) {
    row.args.iter().enumerate().for_each(|(n, (_, kind))| act(n, kind.capture));
}

/// What the call reads, of argument `n`.
fn before(b: &mut Builder, n: usize, capture: Capture, args: &[u64; 6]) {
    let (at, next) = (args[n], args.get(n + 1).copied().unwrap_or(0));
    let arg = n as u8;
    match capture {
        Capture::Descriptor if has(TRACE_PATHS) => path(b, arg, at),
        Capture::Str => blob(b, arg, string(at, PATH_MAX)),
        Capture::Strings => strings(b, arg, at),
        Capture::In(size) | Capture::InOut(size) => copy(b, arg, at, u64::from(size)),
        Capture::InBuffer => copy(b, arg, at, next.min(limit())),
        Capture::InOutList(size) => copy(b, arg, at, next.min(LIST_MAX as u64) * u64::from(size)),
        Capture::InVector => vector(b, arg, at, next, u64::MAX, &[]),
        Capture::InMessage => message(b, arg, at, u64::MAX),
        Capture::Sets => copy(b, arg, at, args[0].min(1024).div_ceil(64) * 8),
        _ => {}
    }
}

/// What the call wrote, of argument `n`, when it returned `done`.
fn after(b: &mut Builder, n: usize, capture: Capture, args: &[u64; 6], done: usize) {
    let (at, next) = (args[n], args.get(n + 1).copied().unwrap_or(0));
    let (arg, done) = (n as u8, done as u64);
    match capture {
        Capture::Out(size) | Capture::InOut(size) => copy(b, arg, at, u64::from(size)),
        Capture::OutBuffer => copy(b, arg, at, done.min(limit())),
        Capture::InOutList(size) => copy(b, arg, at, next.min(LIST_MAX as u64) * u64::from(size)),
        Capture::OutList(size) => copy(b, arg, at, done.min(LIST_MAX as u64) * u64::from(size)),
        Capture::OutVector => vector(b, arg, at, next, done, &[]),
        Capture::OutMessage => message(b, arg, at, done),
        Capture::OutAddress => copy(b, arg, at, u64::from(read_val::<u32>(next).unwrap_or(0)).min(128)),
        Capture::Sets => copy(b, arg, at, args[0].min(1024).div_ceil(64) * 8),
        _ => {}
    }
}

fn limit() -> u64 {
    OPTIONS.with(|o| u64::from(o.string_limit))
}

fn head(b: &mut Builder, arg: u8, form: u8, len: usize) {
    b.bytes(&[arg, form, 0, 0]);
    b.u32(len as u32);
}

fn blob(b: &mut Builder, arg: u8, content: Result<Vec<u8>>) {
    match content {
        Ok(bytes) => {
            head(b, arg, BLOB_BYTES, bytes.len());
            b.bytes(&bytes);
        }
        Err(_) => head(b, arg, BLOB_UNREADABLE, 0),
    }
}

/// A copy of the program's memory.
fn bytes(at: u64, len: u64) -> Result<Vec<u8>> {
    let mut out = crate::fs::uio::try_vec(len as usize)?;
    read_bytes(at, &mut out)?;
    Ok(out)
}

/// Nothing for a null pointer: there is nothing to say.
fn copy(b: &mut Builder, arg: u8, at: u64, len: u64) {
    if at != 0 {
        blob(b, arg, bytes(at, len));
    }
}

/// A string as far as it can be read; with a NUL only if it is whole.
fn string(at: u64, max: usize) -> Result<Vec<u8>> {
    match uaccess::read_cstr(at, max) {
        Ok(mut s) => {
            s.push(0);
            Ok(s)
        }
        Err(Errno::ENAMETOOLONG) => bytes(at, max as u64),
        Err(e) => Err(e),
    }
}

/// One element of a list: how long it is, and what was copied of it.
fn element(b: &mut Vec<u8>, whole: u64, copied: &[u8]) {
    b.extend_from_slice(&(whole as u32).to_le_bytes());
    b.extend_from_slice(&(copied.len() as u32).to_le_bytes());
    b.extend_from_slice(copied);
}

fn list(b: &mut Builder, arg: u8, elements: &[u8]) {
    head(b, arg, BLOB_LIST, elements.len());
    b.bytes(elements);
}

fn strings(b: &mut Builder, arg: u8, at: u64) {
    let mut out = Vec::new();
    for n in 0..LIST_MAX as u64 {
        if out.len() > LIST_BYTES {
            break;
        }
        let Ok(one) = read_val::<u64>(at.wrapping_add(8 * n)) else {
            return if n == 0 { blob(b, arg, Err(Errno::EFAULT)) } else { list(b, arg, &out) };
        };
        if one == 0 {
            break;
        }
        let mut text = string(one, PATH_MAX).unwrap_or_default();
        let whole = text.len() as u64;
        text.truncate(limit() as usize + 1);
        element(&mut out, whole, &text);
    }
    list(b, arg, &out);
}

/// The buffers of an iovec array, of which `done` bytes count; `first` are elements before them.
fn vector(b: &mut Builder, arg: u8, at: u64, count: u64, done: u64, first: &[u8]) {
    let mut out = first.to_vec();
    let mut left = done;
    for n in 0..count.min(LIST_MAX as u64) {
        let at = at.wrapping_add(16 * n);
        let (Ok(base), Ok(len)) = (read_val::<u64>(at), read_val::<u64>(at.wrapping_add(8))) else { break };
        if out.len() > LIST_BYTES {
            break;
        }
        let used = len.min(left);
        left -= used;
        let part = bytes(base, used.min(limit())).unwrap_or_default();
        element(&mut out, len, &part);
    }
    list(b, arg, &out);
}

/// A message: its header, its address, its control data, then its buffers.
fn message(b: &mut Builder, arg: u8, at: u64, done: u64) {
    let Ok(header) = bytes(at, MSGHDR as u64) else { return blob(b, arg, Err(Errno::EFAULT)) };
    let word = |i: usize| u64::from_le_bytes(core::array::from_fn(|k| header[i + k]));
    let mut out = Vec::new();
    element(&mut out, MSGHDR as u64, &header);
    for (at, len) in [(word(0), word(8) & 0xffff_ffff), (word(32), word(40))] {
        let part = if at == 0 { Vec::new() } else { bytes(at, len.min(128)).unwrap_or_default() };
        element(&mut out, len, &part);
    }
    vector(b, arg, word(16), word(24), done, &out);
}

fn path(b: &mut Builder, arg: u8, fd: u64) {
    let files = crate::process::current_process().files.with(Clone::clone);
    let Some(file) = files.and_then(|f| f.get(fd as i32).ok()) else { return };
    let path = crate::fs::path_of(&file);
    head(b, arg, BLOB_PATH, path.len());
    b.bytes(&path);
}
