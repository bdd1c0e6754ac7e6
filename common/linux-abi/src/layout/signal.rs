//! Signals: actions, alternate stacks, `siginfo`.
use super::{Field, layout};

layout! {
    /// The kernel's `struct sigaction`.
    Sigaction[32] {
        handler: u64 = 0,
        flags: u64 = 8,
        restorer: u64 = 16,
        mask: u64 = 24,
    }
    /// `stack_t`.
    SigAltStack[24] {
        ss_sp: u64 = 0,
        ss_flags: u32 = 8,
        ss_size: u64 = 16,
    }
}

/// `siginfo_t`: three words, then a part that depends on the signal's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Siginfo {
    bytes: [u8; Siginfo::SIZE],
}
impl Siginfo {
    /// Bytes of the structure.
    pub const SIZE: usize = 128;

    /// Signal number, error number and code; the rest is zero.
    pub fn new(si_signo: i32, si_errno: i32, si_code: i32) -> Self {
        Self { bytes: [0; Self::SIZE] }.with(0, si_signo).with(4, si_errno).with(8, si_code)
    }

    /// From `kill` and its kin: the sender.
    pub fn kill(self, pid: i32, uid: u32) -> Self {
        self.with(16, pid).with(20, uid)
    }

    /// From `sigqueue`: the sender and its value.
    pub fn queue(self, pid: i32, uid: u32, value: u64) -> Self {
        self.kill(pid, uid).with(24, value)
    }

    /// From a child: who, its status (code or signal), its times in ticks.
    pub fn child(self, pid: i32, uid: u32, status: i32, utime: i64, stime: i64) -> Self {
        self.kill(pid, uid).with(24, status).with(32, utime).with(40, stime)
    }

    /// From a fault: the address.
    pub fn fault(self, addr: u64) -> Self {
        self.with(16, addr)
    }

    /// From a POSIX timer: its number, overruns, value.
    pub fn timer(self, id: i32, overrun: i32, value: u64) -> Self {
        self.with(16, id).with(20, overrun).with(24, value)
    }

    /// From a descriptor: event bits and number.
    pub fn poll(self, band: i64, fd: i32) -> Self {
        self.with(16, band).with(24, fd)
    }

    /// From a system call that is not allowed: where, its number, the architecture.
    pub fn syscall(self, call_addr: u64, nr: i32, arch: u32) -> Self {
        self.with(16, call_addr).with(24, nr).with(28, arch)
    }

    /// The signal.
    pub fn si_signo(&self) -> i32 {
        Field::take(&self.bytes)
    }

    /// `sig::SI_*` and the codes of each signal.
    pub fn si_code(&self) -> i32 {
        Field::take(&self.bytes[8..])
    }

    /// The structure as the guest sees it.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        self.bytes
    }

    /// From a guest's bytes.
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        Self { bytes: *bytes }
    }

    fn with(mut self, at: usize, value: impl Field) -> Self {
        value.put(&mut self.bytes[at..]);
        self
    }
}
