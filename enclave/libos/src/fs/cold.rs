//! Host files that the host must first fetch from a disk: a task waits for that, no vCPU does.
//!
//! A read that `look` makes gets only what the host has at hand. If that is not all, it fails (EAGAIN) and `look` says what
//! is missing; the host fetches it beside while the task waits (`Cold::fetch`), and the read is made again. Neighbours:
//! `host`; `pages` and `bind` read by `pread`; `file` and the guest's page faults look. Invariants: nothing that `look` runs
//! waits, so there is one at a time, but within `block` (sealed stores do); reads elsewhere, and those that cannot be made
//! again, block.
use super::host;
use super::prelude::*;
use super::uio::partial;
use occlum_enclave_abi::WORK_FETCH;

/// Bytes that a file lacks.
#[derive(Clone, Copy)]
pub struct Cold {
    fd: u32,
    off: u64,
    len: u64,
}

#[derive(Clone, Copy)]
enum Mode {
    Block,
    Look,
    Found(Cold),
}
static MODE: BklCell<Mode> = BklCell::new(Mode::Block);

/// Runs `f`, which must fail as a whole when a read does, and says what was cold.
pub fn look<T>(f: impl FnOnce() -> T) -> (T, Option<Cold>) {
    let outer = MODE.replace(Mode::Look);
    let r = f();
    match MODE.replace(outer) {
        Mode::Found(cold) => (r, Some(cold)),
        _ => (r, None),
    }
}
/// Runs `f`, which can't be made again: its reads block.
pub fn block<T>(f: impl FnOnce() -> T) -> T {
    let outer = MODE.replace(Mode::Block);
    let r = f();
    MODE.set(outer);
    r
}
/// Reads a host file at an offset.
pub fn pread(fd: u32, off: u64, buf: &mut [u8]) -> Result<usize> {
    if matches!(MODE.get(), Mode::Block) {
        return host::pread(fd, off, buf);
    }
    let r = host::pread_at_hand(fd, off, buf);
    if r == Err(EAGAIN) {
        MODE.set(Mode::Found(Cold { fd, off, len: buf.len() as u64 }));
    }
    r
}

impl Cold {
    /// Waits until the host has the bytes at hand.
    pub fn fetch(self) -> Result<()> {
        host::beside(WORK_FETCH, self.fd, self.off, self.len)
    }
}

/// Pieces that one fault waits for; what it lacks beyond them, it blocks for.
const PIECES: usize = 8;

/// Runs `f`, again for each piece that was cold when it failed. `None`: a signal came before the host had it.
pub fn until_warm<E>(
    mut f: impl FnMut() -> core::result::Result<(), E>,
) -> Option<core::result::Result<(), E>> {
    for _ in 0..PIECES {
        let (r, cold) = look(&mut f);
        let Some(cold) = cold.filter(|_| r.is_err()) else { return Some(r) };
        match cold.fetch() {
            Ok(()) => {}
            Err(EINTR) => return None,
            Err(_) => break,
        }
    }
    Some(f())
}

/// A read in parts: `read` gets how much was read before.
pub fn patiently(mut read: impl FnMut(usize) -> Result<usize>) -> Result<usize> {
    let end = |total, r| match r {
        Ok(n) => Ok(total + n),
        Err(e) => partial(total, e),
    };
    let (mut total, mut last) = (0, None);
    loop {
        let (r, cold) = look(|| read(total));
        let Some(cold) = cold else { return end(total, r) };
        total += r.unwrap_or(0);
        // What does not become warm, a signal, a host that will not: then the vCPU waits.
        if last.replace(cold.off) == Some(cold.off) || cold.fetch().is_err() {
            return end(total, read(total));
        }
    }
}
