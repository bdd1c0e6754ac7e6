//! Layer 0: the untrusted device. It may return anything, lose what was not flushed, and fail at every call.
use alloc::vec::Vec;

/// Bytes of a block, of the device as well as of the sealed disk.
pub const BLOCK: usize = 4096;

/// Why the device failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// It could not be read or written.
    Io,
    /// The host has no room for it.
    NoSpace,
}

/// Blocks that the host keeps. Buffers are whole blocks.
pub trait BlockDevice {
    /// How many blocks there are.
    fn blocks(&self) -> u64;
    /// Reads blocks from `block` on.
    fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<(), DeviceError>;
    /// The same for a reader that will most likely want the `next` blocks behind them, too.
    fn read_on(&mut self, block: u64, buf: &mut [u8], next: u32) -> Result<(), DeviceError> {
        let _ = next;
        self.read(block, buf)
    }
    /// Writes blocks from `block` on. The device may take its time: reads see them, and `settle` says whether it could.
    fn write(&mut self, block: u64, data: &[u8]) -> Result<(), DeviceError>;
    /// Returns when everything written has been taken. After an error the device still has it, and it may be tried again.
    fn settle(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
    /// Returns when everything written is durable. Only behind a `settle` that could.
    fn flush(&mut self) -> Result<(), DeviceError>;
}

impl<T: BlockDevice + ?Sized> BlockDevice for alloc::boxed::Box<T> {
    fn blocks(&self) -> u64 {
        (**self).blocks()
    }
    fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        (**self).read(block, buf)
    }
    fn read_on(&mut self, block: u64, buf: &mut [u8], next: u32) -> Result<(), DeviceError> {
        (**self).read_on(block, buf, next)
    }
    fn write(&mut self, block: u64, data: &[u8]) -> Result<(), DeviceError> {
        (**self).write(block, data)
    }
    fn settle(&mut self) -> Result<(), DeviceError> {
        (**self).settle()
    }
    fn flush(&mut self) -> Result<(), DeviceError> {
        (**self).flush()
    }
}

/// A device in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemDevice {
    /// All bytes.
    pub bytes: Vec<u8>,
}

impl MemDevice {
    /// A device of zeros.
    pub fn new(blocks: usize) -> Self {
        Self { bytes: alloc::vec![0; blocks * BLOCK] }
    }
    fn range(&self, block: u64, len: usize) -> Result<core::ops::Range<usize>, DeviceError> {
        let start = usize::try_from(block).ok().and_then(|b| b.checked_mul(BLOCK)).ok_or(DeviceError::Io)?;
        let end = start.checked_add(len).filter(|e| *e <= self.bytes.len()).ok_or(DeviceError::Io)?;
        Ok(start..end)
    }
}

impl BlockDevice for MemDevice {
    fn blocks(&self) -> u64 {
        (self.bytes.len() / BLOCK) as u64
    }
    fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        let range = self.range(block, buf.len())?;
        buf.copy_from_slice(&self.bytes[range]);
        Ok(())
    }
    fn write(&mut self, block: u64, data: &[u8]) -> Result<(), DeviceError> {
        let range = self.range(block, data.len())?;
        self.bytes[range].copy_from_slice(data);
        Ok(())
    }
    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}
