//! The log and the end of the enclave after a bug. Nothing here allocates or takes a lock.
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use occlum_enclave_abi::Ocall;

static QUIET: AtomicBool = AtomicBool::new(false);

/// Whether `log` says nothing; a panic is told all the same.
pub fn quiet_log(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Writes text to the host's stderr.
pub fn log(text: &str) {
    if QUIET.load(Ordering::Relaxed) {
        return;
    }
    for part in text.as_bytes().chunks(occlum_enclave_abi::OCALL_DATA_MAX) {
        crate::ocall::call(Ocall::Log, &[0], part, &mut []);
    }
}

/// A message of bounded length on the stack.
pub(crate) struct Line {
    buf: [u8; 512],
    len: usize,
}
impl Line {
    pub(crate) const fn new() -> Self {
        Self { buf: [0; 512], len: 0 }
    }
    pub(crate) fn flush(&self) {
        crate::ocall::call(Ocall::Log, &[0], &self.buf[..self.len], &mut []);
    }
}
impl Write for Line {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        let room = self.buf.len() - self.len;
        let n = s.len().min(room);
        self.buf[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

/// The panic handler: says what and where, then ends the enclave.
pub fn on_panic(info: &PanicInfo<'_>) -> ! {
    let mut line = Line::new();
    let _ = writeln!(line, "occlum: LibOS {info}");
    line.flush();
    crate::ocall::call(Ocall::Exit, &[2, 101], &[], &mut []);
    crate::vcpu::halt()
}
