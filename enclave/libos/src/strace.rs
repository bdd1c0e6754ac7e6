//! `--strace`: one line per system call, arguments decoded by the types of the one table.
use crate::process::Task;
use crate::syscall::table::{Arg, Row};
use crate::uaccess;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use occlum_enclave_abi::Ocall;
use occlum_linux_abi::Errno;
use occlum_rt::bkl::BklCell;

static ON: BklCell<bool> = BklCell::new(false);
/// Most bytes of a buffer that are shown.
const SHOWN: usize = 32;

/// Turns tracing on.
pub fn enable() {
    ON.set(true);
}
/// Is tracing on?
pub fn is_on() -> bool {
    ON.get()
}

fn sink(text: &str) {
    occlum_rt::ocall::call(Ocall::Log, &[1], text.as_bytes(), &mut []);
}

/// The call as it is entered: "pid name(args".
pub fn enter(t: &Task, row: Option<&Row>, nr: u64, args: &[u64; 6]) -> String {
    let mut s = format!("[pid {}] ", t.tid);
    let Some(row) = row else {
        let _ = write!(s, "syscall_{nr}({:#x}, {:#x}, {:#x}", args[0], args[1], args[2]);
        return s;
    };
    let _ = write!(s, "{}(", row.name);
    for (i, (_, kind)) in row.args.iter().enumerate() {
        if i > 0 {
            s.push_str(", ");
        }
        show(&mut s, *kind, args[i]);
    }
    s
}

fn show(s: &mut String, kind: Arg, v: u64) {
    let _ = match kind {
        Arg::Int | Arg::Fd => write!(s, "{}", v as i32),
        Arg::Uint | Arg::Size => write!(s, "{v}"),
        Arg::Off => write!(s, "{}", v as i64),
        Arg::Flags | Arg::Ptr | Arg::OutBuf | Arg::Iov => write!(s, "{v:#x}"),
        Arg::Mode => write!(s, "{v:#o}"),
        Arg::InBuf => show_buf(s, v),
        Arg::Str => match uaccess::read_cstr(v, 4096) {
            Ok(b) => write!(s, "\"{}\"", b.escape_ascii()),
            Err(_) => write!(s, "{v:#x}"),
        },
    };
}

fn show_buf(s: &mut String, v: u64) -> core::fmt::Result {
    let mut b = [0u8; SHOWN];
    match uaccess::read_bytes(v, &mut b) {
        Ok(()) => write!(s, "\"{}\"...", b.escape_ascii()),
        Err(_) => write!(s, "{v:#x}"),
    }
}

/// The result, on the line that `enter` began.
pub fn leave(mut line: String, result: Result<usize, Errno>) {
    let _ = match result {
        Ok(v) if v > 0xffff_ffff => writeln!(line, ") = {v:#x}"),
        Ok(v) => writeln!(line, ") = {v}"),
        Err(e) => writeln!(line, ") = -1 {e:?}"),
    };
    sink(&line);
}

/// A line of its own (signals, exits).
pub fn note(text: &str) {
    if is_on() {
        sink(text);
    }
}
