//! Options and selectors of `wait4` and `waitid`, and the packing of a wait status.
#![allow(missing_docs)]

pub const WNOHANG: u32 = 1;
pub const WUNTRACED: u32 = 2;
pub const WSTOPPED: u32 = 2;
pub const WEXITED: u32 = 4;
pub const WCONTINUED: u32 = 8;
pub const WNOWAIT: u32 = 0x0100_0000;
pub const __WNOTHREAD: u32 = 0x2000_0000;
pub const __WALL: u32 = 0x4000_0000;
pub const __WCLONE: u32 = 0x8000_0000;

pub const P_ALL: u32 = 0;
pub const P_PID: u32 = 1;
pub const P_PGID: u32 = 2;
pub const P_PIDFD: u32 = 3;

/// Wait status of a process that exited.
pub const fn exited(code: u32) -> u32 {
    (code & 0xff) << 8
}

/// Wait status of a process that a signal ended.
pub const fn killed(signal: u32, dumped_core: bool) -> u32 {
    signal & 0x7f | if dumped_core { 0x80 } else { 0 }
}

/// Wait status of a stopped process.
pub const fn stopped(signal: u32) -> u32 {
    (signal & 0xff) << 8 | 0x7f
}

/// Wait status of a process that goes on.
pub const CONTINUED: u32 = 0xffff;
