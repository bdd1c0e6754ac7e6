//! Layer 2: sealed blocks on the device. Writes to consecutive blocks are gathered and reach the device as one.
use crate::bytes;
use crate::device::{BLOCK, BlockDevice};
use crate::error::{Error, Part};
use crate::guard::{Guard, Kind, Place, SEAL, Seal};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Bytes of an entry: place on the device and seal.
pub(crate) const ENTRY: usize = 32;
/// Most bytes that are gathered into one write.
const STAGE_MAX: usize = 128 * BLOCK;

/// Where a block is on the device, and what opens it. Block 0 stands for a block of zeros that is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) block: u32,
    pub(crate) seal: Seal,
}

impl Entry {
    pub(crate) const HOLE: Self = Self { block: 0, seal: [0; SEAL] };

    pub(crate) fn is_hole(&self) -> bool {
        self.block == 0
    }
    pub(crate) fn read(from: &[u8], at: usize) -> Self {
        Self { block: bytes::get32(from, at), seal: bytes::array(from, at + 4) }
    }
    pub(crate) fn write(&self, to: &mut [u8], at: usize) {
        bytes::put(to, at, &self.block.to_le_bytes());
        bytes::put(to, at + 4, &self.seal);
    }
}

/// The part that a place is, for messages.
pub(crate) fn part(place: &Place) -> Part {
    let index = place.index as u32;
    match place.kind {
        Kind::Data => Part::Data(index),
        Kind::Map => Part::Map(place.level, index),
        Kind::SpaceTree => Part::SpaceTree(place.level, index),
        Kind::Space => Part::Space(index),
        Kind::Journal | Kind::Super => Part::Superblock,
    }
}

pub(crate) struct Io<D> {
    pub(crate) device: D,
    pub(crate) guard: Box<dyn Guard + Send>,
    stage_at: u64,
    /// What is gathered, in the first `staged` bytes.
    stage: Vec<u8>,
    staged: usize,
    /// Blocks as they came from the device.
    raw: Vec<u8>,
    /// A flush failed, or the trusted store refused: nothing more is written.
    pub(crate) failed: bool,
    pub(crate) written: u64,
    pub(crate) read: u64,
    pub(crate) flushes: u64,
}

impl<D: BlockDevice> Io<D> {
    pub(crate) fn new(device: D, guard: Box<dyn Guard + Send>) -> Self {
        Self {
            device,
            guard,
            stage_at: 0,
            stage: Vec::new(),
            staged: 0,
            raw: Vec::new(),
            failed: false,
            written: 0,
            read: 0,
            flushes: 0,
        }
    }

    /// Reads blocks as they are on the device, or will be once what was gathered is there. The `next` behind them are likely
    /// to be wanted, too.
    pub(crate) fn read_raw(&mut self, block: u64, buf: &mut [u8], next: u32) -> Result<(), Error> {
        let end = block.saturating_add((buf.len() / BLOCK) as u64);
        if end > self.device.blocks() {
            return Err(Error::Truncated { expected: end, found: self.device.blocks() });
        }
        self.read = self.read.saturating_add((buf.len() / BLOCK) as u64);
        self.device.read_on(block, buf, next)?;
        let stage_end = self.stage_at.saturating_add((self.staged / BLOCK) as u64);
        let staged = block.max(self.stage_at)..end.min(stage_end);
        if !staged.is_empty() {
            let bytes = |n: u64| n as usize * BLOCK;
            let from = bytes(staged.start - self.stage_at)..bytes(staged.end - self.stage_at);
            let to = bytes(staged.start - block)..bytes(staged.end - block);
            if let (Some(to), Some(from)) = (buf.get_mut(to), self.stage.get(from)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// Reads and opens blocks that are neighbours on the device, from `first` on, each into a buffer of its own. Of the
    /// blocks that do not open the first is the error.
    pub(crate) fn load_run<'a>(
        &mut self,
        first: u32,
        blocks: impl ExactSizeIterator<Item = (Place, &'a Seal, &'a mut [u8])>,
        next: u32,
    ) -> Result<(), Error> {
        let mut raw = core::mem::take(&mut self.raw);
        let len = blocks.len() * BLOCK;
        if raw.len() < len {
            raw.try_reserve_exact(len - raw.len()).map_err(|_| Error::Memory)?;
            raw.resize(len, 0);
        }
        let (sealed, _) = raw.split_at_mut(len);
        let done = self.read_raw(u64::from(first), sealed, next).and_then(|()| {
            for ((place, seal, to), from) in blocks.zip(sealed.chunks_exact(BLOCK)) {
                if !self.guard.open(&place, &[], from, to, seal) {
                    to.fill(0);
                    return Err(Error::Damaged(part(&place)));
                }
            }
            Ok(())
        });
        self.raw = raw;
        done
    }

    /// Reads and opens one block.
    pub(crate) fn load(&mut self, place: &Place, entry: &Entry, buf: &mut [u8]) -> Result<(), Error> {
        self.load_run(entry.block, core::iter::once((*place, &entry.seal, buf)), 0)
    }

    /// Seals and writes one block (later, with its neighbours).
    pub(crate) fn store(&mut self, place: &Place, block: u32, data: &[u8]) -> Result<Entry, Error> {
        self.make_room(u64::from(block))?;
        let Some(to) = self.stage.get_mut(self.staged..self.staged + BLOCK) else {
            return Err(Error::Memory);
        };
        let seal = self.guard.seal(place, &[], data, to);
        self.staged += BLOCK;
        Ok(Entry { block, seal })
    }

    /// Writes one block as it is (later, with its neighbours).
    pub(crate) fn put(&mut self, block: u64, data: &[u8; BLOCK]) -> Result<(), Error> {
        self.make_room(block)?;
        let Some(to) = self.stage.get_mut(self.staged..self.staged + BLOCK) else {
            return Err(Error::Memory);
        };
        to.copy_from_slice(data);
        self.staged += BLOCK;
        Ok(())
    }

    /// Makes room for one block in the stage, behind its neighbour.
    fn make_room(&mut self, block: u64) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        let next = self.stage_at.saturating_add((self.staged / BLOCK) as u64);
        if self.staged == 0 || next != block || self.staged >= STAGE_MAX {
            self.push()?;
            self.stage_at = block;
        }
        let end = self.staged + BLOCK;
        if self.stage.len() < end {
            self.stage.try_reserve(BLOCK).map_err(|_| Error::Memory)?;
            self.stage.resize(end, 0);
        }
        Ok(())
    }

    /// Hands what was gathered to the device. After an error it is still gathered.
    pub(crate) fn push(&mut self) -> Result<(), Error> {
        if let Some(gathered) = self.stage.get(..self.staged).filter(|g| !g.is_empty()) {
            self.device.write(self.stage_at, gathered)?;
            self.written = self.written.saturating_add((self.staged / BLOCK) as u64);
            self.staged = 0;
        }
        Ok(())
    }

    /// Makes everything written durable. After a failure nobody knows what is, so nothing is written any more.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.push()?;
        self.device.settle()?;
        self.flushes = self.flushes.saturating_add(1);
        self.device.flush().map_err(|error| {
            self.failed = true;
            Error::Device(error)
        })
    }
}
