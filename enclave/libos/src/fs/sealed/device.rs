//! A host file as the block device of a store. Everything that comes back is untrusted: lengths are checked here, bytes
//! by the sealed disk.
use super::super::host::{self, At};
use super::super::prelude::*;
use occlum_sealed_fs::disk::{BLOCK, BlockDevice, DeviceError};

/// A host that interrupts a call this often in a row is not served any longer.
const INTERRUPTED_MAX: u32 = 1000;

/// Longer writes are not kept back by the host: what a flush would wait for is on its way to the disk before. Nor are they
/// waited for.
const LONG: usize = 64 * BLOCK;

/// A host file, locked against others who ask for the lock.
pub(super) struct HostStore {
    fd: u32,
    blocks: u64,
}

impl HostStore {
    /// Opens the store at a host path. `EBUSY`: another enclave or tool has it open.
    pub(super) fn open(path: &[u8], read_only: bool) -> Result<Self> {
        let fd = host::open(At::named(path), if read_only { O_RDONLY } else { O_RDWR }, 0)?;
        let mut store = Self { fd, blocks: 0 };
        host::lock(fd, !read_only).map_err(|e| if e == EAGAIN { EBUSY } else { e })?;
        store.blocks = host::fstat(fd)?.size / BLOCK as u64;
        Ok(store)
    }

    /// A store that has still to be made: the file is not there, empty, begins with zeros only, or `anew` says that what is
    /// there counts for nothing. `None`: there is one.
    pub(super) fn make(path: &[u8], bytes: u64, anew: bool) -> Result<Option<Self>> {
        let fd = host::open(At::named(path), O_RDWR | O_CREAT, 0o600)?;
        let mut store = Self { fd, blocks: 0 };
        host::lock(fd, true).map_err(|e| if e == EAGAIN { EBUSY } else { e })?;
        store.blocks = host::fstat(fd)?.size / BLOCK as u64;
        let mut first = [0; 2 * BLOCK];
        let made = store.blocks != 0 && !anew;
        if made && (store.read(0, &mut first).is_err() || first.iter().any(|b| *b != 0)) {
            return Ok(None);
        }
        // As long as the configuration says, whatever the host says: it is measured, and memory goes by it.
        host::ftruncate(fd, bytes)?;
        store.blocks = bytes / BLOCK as u64;
        Ok(Some(store))
    }
}

impl Drop for HostStore {
    fn drop(&mut self) {
        host::close(self.fd);
    }
}

fn failed(e: Errno) -> DeviceError {
    if e == ENOSPC || e == Errno::EDQUOT { DeviceError::NoSpace } else { DeviceError::Io }
}

/// Calls `piece` with what is left, until nothing is. A piece of no bytes is a failure.
fn whole(len: usize, mut piece: impl FnMut(usize) -> Result<usize>) -> core::result::Result<(), DeviceError> {
    let (mut done, mut interrupted) = (0, 0);
    while done < len {
        match piece(done) {
            Ok(0) => return Err(DeviceError::Io),
            Ok(n) => (done, interrupted) = (done + n, 0),
            Err(EINTR) if interrupted < INTERRUPTED_MAX => interrupted += 1,
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(())
}

impl BlockDevice for HostStore {
    fn blocks(&self) -> u64 {
        self.blocks
    }
    fn read(&mut self, block: u64, buf: &mut [u8]) -> core::result::Result<(), DeviceError> {
        let off = block.checked_mul(BLOCK as u64).ok_or(DeviceError::Io)?;
        whole(buf.len(), |done| host::pread(self.fd, off + done as u64, &mut buf[done..]))
    }
    fn read_on(&mut self, block: u64, buf: &mut [u8], next: u32) -> core::result::Result<(), DeviceError> {
        let off = block.checked_mul(BLOCK as u64).ok_or(DeviceError::Io)?;
        let next = u64::from(next) * BLOCK as u64;
        whole(buf.len(), |done| host::pread_on(self.fd, off + done as u64, &mut buf[done..], next))
    }
    fn write(&mut self, block: u64, data: &[u8]) -> core::result::Result<(), DeviceError> {
        let off = block.checked_mul(BLOCK as u64).ok_or(DeviceError::Io)?;
        let write = if data.len() >= LONG { host::pwrite_through } else { host::pwrite };
        whole(data.len(), |done| write(self.fd, off + done as u64, &data[done..]))
    }
    fn settle(&mut self) -> core::result::Result<(), DeviceError> {
        host::settle(self.fd).map_err(failed)
    }
    fn flush(&mut self) -> core::result::Result<(), DeviceError> {
        host::fsync(self.fd).map_err(failed)
    }
}
