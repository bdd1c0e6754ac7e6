//! For tests: repeatable random numbers, a device that remembers every write and shows what a crash could leave,
//! and a trusted store in memory.
use crate::device::{BLOCK, BlockDevice, DeviceError, MemDevice};
use crate::error::Error;
use crate::freshness::{Freshness, Mark};
use crate::keys::Random;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes that a device writes in one piece.
const SECTOR: usize = 512;

/// Repeatable numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    /// A number below `n` (which is not 0).
    pub fn below(&mut self, n: u64) -> u64 {
        self.number() % n.max(1)
    }
    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

impl Random for Rng {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.number() as u8;
        }
    }
}

/// One step of a device.
#[derive(Clone, Debug)]
pub enum Step {
    /// Blocks written from here on.
    Write(u64, Vec<u8>),
    /// Everything before is durable.
    Flush,
}

/// A device in memory that remembers its steps, and can be told to fail.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// The content now.
    pub now: MemDevice,
    /// What was done.
    pub steps: Vec<Step>,
    /// How many steps, for those who don't own the device.
    pub count: Arc<AtomicU64>,
    /// Writes fail with this error while `failing` is not zero.
    pub error: DeviceError,
    /// Not zero: writes fail.
    pub failing: Arc<AtomicU64>,
    /// Not zero: the write of this number, counted from now, fails; those after it do not.
    pub trip: Arc<AtomicU64>,
    /// If there is one: writes that were taken and are still to be made, with the next one or when they are waited for.
    pub late: Option<Vec<(u64, Vec<u8>)>>,
}

impl Recorder {
    /// A device of zeros.
    pub fn new(blocks: usize) -> Self {
        Self {
            now: MemDevice::new(blocks),
            steps: Vec::new(),
            count: Arc::default(),
            error: DeviceError::NoSpace,
            failing: Arc::default(),
            trip: Arc::default(),
            late: None,
        }
    }
    /// The same, whose writes take their time.
    pub fn late(self) -> Self {
        Self { late: Some(Vec::new()), ..self }
    }
    fn fails(&self) -> bool {
        let trip = self.trip.load(Ordering::Relaxed);
        self.trip.store(trip.saturating_sub(1), Ordering::Relaxed);
        self.failing.load(Ordering::Relaxed) != 0 || trip == 1
    }
    fn make(&mut self, block: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.now.write(block, data)?;
        self.step(Step::Write(block, data.to_vec()));
        Ok(())
    }
    fn step(&mut self, step: Step) {
        self.steps.push(step);
        self.count.store(self.steps.len() as u64, Ordering::Relaxed);
    }
}

impl BlockDevice for Recorder {
    fn blocks(&self) -> u64 {
        self.now.blocks()
    }
    fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        if self.late.as_ref().is_none_or(Vec::is_empty) {
            return self.now.read(block, buf);
        }
        let mut device = self.now.clone();
        for (block, data) in self.late.iter().flatten() {
            device.write(*block, data)?;
        }
        device.read(block, buf)
    }
    fn write(&mut self, block: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.settle()?;
        if let Some(late) = &mut self.late {
            late.push((block, data.to_vec()));
            return Ok(());
        }
        if self.fails() { Err(self.error) } else { self.make(block, data) }
    }
    fn settle(&mut self) -> Result<(), DeviceError> {
        while let Some((block, data)) = self.late.as_ref().and_then(|late| late.first()).cloned() {
            if self.fails() {
                return Err(self.error);
            }
            self.make(block, &data)?;
            self.late.iter_mut().for_each(|late| drop(late.remove(0)));
        }
        Ok(())
    }
    fn flush(&mut self) -> Result<(), DeviceError> {
        assert!(self.late.as_ref().is_none_or(Vec::is_empty), "a flush before all writes are made");
        self.step(Step::Flush);
        Ok(())
    }
}

/// Goes along recorded steps and shows what a crash after each could leave.
pub struct Crashes<'a> {
    steps: &'a [Step],
    /// Everything up to the last flush.
    durable: MemDevice,
    /// Written since.
    volatile: Vec<(u64, &'a [u8])>,
    at: usize,
}

impl<'a> Crashes<'a> {
    /// Starts at the beginning, on a device of zeros.
    pub fn new(steps: &'a [Step], blocks: usize) -> Self {
        Self { steps, durable: MemDevice::new(blocks), volatile: Vec::new(), at: 0 }
    }
    /// Steps done.
    pub fn at(&self) -> usize {
        self.at
    }
    /// Goes on until `step` steps are done.
    pub fn advance(&mut self, step: usize) {
        while self.at < step {
            match self.steps.get(self.at) {
                Some(Step::Write(block, data)) => self.volatile.push((*block, data)),
                Some(Step::Flush) => {
                    for (block, data) in self.volatile.drain(..) {
                        let _ = self.durable.write(block, data);
                    }
                }
                None => return,
            }
            self.at += 1;
        }
    }
    /// Everything that was written arrived, in order.
    pub fn whole(&self) -> MemDevice {
        let mut device = self.durable.clone();
        for (block, data) in &self.volatile {
            let _ = device.write(*block, data);
        }
        device
    }
    /// Of what was not flushed some is lost, some torn, all in any order.
    pub fn torn(&self, rng: &mut Rng) -> MemDevice {
        let mut device = self.durable.clone();
        let mut pieces: Vec<(usize, &[u8])> = Vec::new();
        let keep = rng.below(5);
        for (block, data) in &self.volatile {
            for (i, content) in data.chunks(BLOCK).enumerate() {
                let start = (*block as usize + i) * BLOCK;
                match keep + rng.below(4) {
                    0..3 => {}
                    3..6 => pieces.push((start, content)),
                    _ => {
                        let sectors = content.chunks(SECTOR).enumerate();
                        pieces
                            .extend(sectors.filter(|_| rng.one_in(2)).map(|(s, c)| (start + s * SECTOR, c)));
                    }
                }
            }
        }
        while !pieces.is_empty() {
            let (start, content) = pieces.swap_remove(rng.below(pieces.len() as u64) as usize);
            if let Some(to) = device.bytes.get_mut(start..start + content.len()) {
                to.copy_from_slice(content);
            }
        }
        device
    }
}

/// A trusted store in memory.
#[derive(Clone, Default)]
pub struct OneMark {
    /// The mark, once there is one.
    pub mark: Option<Mark>,
}

impl Freshness for OneMark {
    fn read(&mut self, _id: &[u8; 16]) -> Result<Option<Mark>, Error> {
        Ok(self.mark)
    }
    fn advance(&mut self, _id: &[u8; 16], from: Option<&Mark>, to: &Mark) -> Result<(), Error> {
        if self.mark.as_ref() != from {
            return Err(Error::Forked);
        }
        self.mark = Some(*to);
        Ok(())
    }
}
