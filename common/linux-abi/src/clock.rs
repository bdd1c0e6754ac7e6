//! Clock numbers, timer flags, interval timers.
#![allow(missing_docs)]

pub const CLOCK_REALTIME: i32 = 0;
pub const CLOCK_MONOTONIC: i32 = 1;
pub const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
pub const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
pub const CLOCK_MONOTONIC_RAW: i32 = 4;
pub const CLOCK_REALTIME_COARSE: i32 = 5;
pub const CLOCK_MONOTONIC_COARSE: i32 = 6;
pub const CLOCK_BOOTTIME: i32 = 7;
pub const CLOCK_REALTIME_ALARM: i32 = 8;
pub const CLOCK_BOOTTIME_ALARM: i32 = 9;
pub const CLOCK_TAI: i32 = 11;

pub const TIMER_ABSTIME: u32 = 1;
pub const TFD_TIMER_ABSTIME: u32 = 1;
pub const TFD_TIMER_CANCEL_ON_SET: u32 = 2;

pub const ITIMER_REAL: u32 = 0;
pub const ITIMER_VIRTUAL: u32 = 1;
pub const ITIMER_PROF: u32 = 2;

/// `tv_nsec` of `utimensat`: the present time.
pub const UTIME_NOW: i64 = 0x3fff_ffff;
/// `tv_nsec` of `utimensat`: leave as it is.
pub const UTIME_OMIT: i64 = 0x3fff_fffe;

pub const NSEC_PER_SEC: u64 = 1_000_000_000;
/// Ticks per second of `times`.
pub const USER_HZ: u64 = 100;
