//! What can go wrong, in words that say which part of a store is concerned.
use crate::device::DeviceError;
use core::fmt;

/// A part of a store, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Both superblocks.
    Superblock,
    /// A node of the map: level and index.
    Map(u8, u32),
    /// A node of the space tree: level and index.
    SpaceTree(u8, u32),
    /// A block of the free-space bitmap.
    Space(u32),
    /// A logical block.
    Data(u32),
}

/// Why a trusted store of marks cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// It does not answer.
    Unreachable,
    /// What it answered is not from it, or not to this question.
    Forged,
    /// What it keeps was changed.
    Damaged,
}

/// An error of the sealed disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The host device failed.
    Device(DeviceError),
    /// There is no store on the device.
    NotAStore,
    /// A store of a version that is not known.
    Version(u32),
    /// An integrity-only store was opened with a key, or an encrypted one without.
    WrongForm,
    /// The key does not open the store.
    WrongKey,
    /// The device is shorter than the store.
    Truncated {
        /// Blocks of the store.
        expected: u64,
        /// Blocks of the device.
        found: u64,
    },
    /// A part does not have the content that was written.
    Damaged(Part),
    /// An older state than the trusted store knows of.
    RolledBack {
        /// Generation and commits found.
        found: (u64, u64),
        /// Generation and commits that the trusted store knows.
        trusted: (u64, u64),
    },
    /// A state of the right generation that is not the one the trusted store knows: another writer's copy.
    Forked,
    /// An image whose root is not the expected one.
    WrongRoot,
    /// Not the store that the counter stands for.
    Replaced,
    /// The counter of a store that was counted is not there.
    Uncounted,
    /// The trusted store failed: unreachable, or what it said is not authentic.
    Freshness(Distrust),
    /// No room.
    Full,
    /// Too small, or too large, for a store.
    Size,
    /// A block number beyond the disk.
    Range,
    /// Not enough memory.
    Memory,
    /// A flush failed before, so that what is durable is unknown, or the trusted store refused, until the store is
    /// opened again.
    Failed,
}

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superblock => write!(f, "the superblocks"),
            Self::Map(level, index) => write!(f, "node {index} on level {level} of the map"),
            Self::SpaceTree(level, index) => write!(f, "node {index} on level {level} of the space tree"),
            Self::Space(index) => write!(f, "block {index} of the free-space bitmap"),
            Self::Data(block) => write!(f, "logical block {block}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(DeviceError::Io) => write!(f, "the host could not read or write the store"),
            Self::Device(DeviceError::NoSpace) => write!(f, "the host has no room for the store"),
            Self::NotAStore => write!(f, "not a sealed store"),
            Self::Version(v) => write!(f, "the store has format version {v}, which is not supported"),
            Self::WrongForm => write!(f, "an encrypted store needs a key, an integrity-only one has none"),
            Self::WrongKey => write!(f, "wrong key, or the store's header was changed"),
            Self::Truncated { expected, found } => {
                write!(f, "the store is truncated: {found} of {expected} blocks are there")
            }
            Self::Damaged(part) => write!(f, "the store is damaged: {part} is not what was written"),
            Self::RolledBack { found, trusted } => write!(
                f,
                "the store was rolled back: it shows generation {}.{}, but {}.{} was reached",
                found.0, found.1, trusted.0, trusted.1
            ),
            Self::Forked => write!(f, "the store is a copy that another writer changed (forked or replayed)"),
            Self::WrongRoot => write!(f, "the image does not have the expected root"),
            Self::Replaced => write!(f, "the store was swapped: its counter stands for another store"),
            Self::Uncounted => write!(
                f,
                "the store's counter is gone: it was deleted, or store or instance come from elsewhere (replayed)"
            ),
            Self::Freshness(why) => write!(
                f,
                "{}",
                match why {
                    Distrust::Unreachable => "the store's counter cannot be reached",
                    Distrust::Forged => "the answer of the store's counter is not authentic",
                    Distrust::Damaged => "the store's counter was changed by somebody",
                }
            ),
            Self::Full => write!(f, "the store is full"),
            Self::Size => write!(f, "too small or too large for a store"),
            Self::Range => write!(f, "a block beyond the disk"),
            Self::Memory => write!(f, "not enough memory"),
            Self::Failed => write!(
                f,
                "the host failed to make data durable, or the counter to count it; open the store again"
            ),
        }
    }
}
