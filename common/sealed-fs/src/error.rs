//! Errors, one for each errno that a file system returns.
use core::fmt;
use occlum_sealed_disk as disk;

/// An error of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No such file or directory.
    NotFound,
    /// File exists.
    Exists,
    /// Not a directory.
    NotDirectory,
    /// Is a directory.
    IsDirectory,
    /// Directory not empty.
    NotEmpty,
    /// Invalid argument.
    Invalid,
    /// File name too long.
    NameTooLong,
    /// No space left.
    NoSpace,
    /// File too large.
    TooLarge,
    /// Too many links.
    TooManyLinks,
    /// No such attribute.
    NoAttribute,
    /// Operation not permitted (links to directories).
    NotPermitted,
    /// The store's content makes no sense.
    Corrupt(&'static str),
    /// The disk below.
    Disk(disk::Error),
    /// An earlier error left an operation half done: nothing is written any more.
    Broken,
}

impl From<disk::Error> for Error {
    fn from(error: disk::Error) -> Self {
        match error {
            disk::Error::Full => Self::NoSpace,
            other => Self::Disk(other),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => write!(f, "no such file or directory"),
            Self::Exists => write!(f, "file exists"),
            Self::NotDirectory => write!(f, "not a directory"),
            Self::IsDirectory => write!(f, "is a directory"),
            Self::NotEmpty => write!(f, "directory not empty"),
            Self::Invalid => write!(f, "invalid argument"),
            Self::NameTooLong => write!(f, "file name too long"),
            Self::NoSpace => write!(f, "no space left in the store"),
            Self::TooLarge => write!(f, "file too large"),
            Self::TooManyLinks => write!(f, "too many links"),
            Self::NoAttribute => write!(f, "no such attribute"),
            Self::NotPermitted => write!(f, "operation not permitted"),
            Self::Corrupt(what) => write!(f, "the file system makes no sense: {what}"),
            Self::Disk(error) => write!(f, "{error}"),
            Self::Broken => write!(f, "an earlier error left an operation half done; open the store again"),
        }
    }
}
