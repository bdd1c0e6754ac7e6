//! What the B-tree holds: keys, the record of an inode, and little-endian fields.
use crate::content::SIZE_MAX;
use crate::{Error, Result};
use alloc::vec::Vec;

/// Inode of the root directory.
pub const ROOT: u64 = 1;
/// Longest name.
pub const NAME_MAX: usize = 255;
/// Longest value of an item: three fit in a node, so that a split always helps.
pub(crate) const VALUE_MAX: usize = 1300;

/// What an item is. The numbers are in the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Kind {
    /// An inode that has no name any more but is open (of inode 0; position: the inode).
    Orphan = 0,
    /// The record of an inode.
    Inode = 1,
    /// Extended attributes; position: hash of the name.
    Xattr = 2,
    /// Names in a directory; position: hash of the name.
    Name = 3,
    /// Blocks of a file; position: first block.
    Extent = 4,
    /// A piece of a symbolic link; position: number of the piece.
    Link = 5,
    /// A piece of a long extended attribute; position: number of the value times 64, and number of the piece.
    Value = 6,
}

impl Kind {
    fn from_u8(n: u8) -> Option<Self> {
        use Kind as K;
        const ALL: [Kind; 7] = [K::Orphan, K::Inode, K::Xattr, K::Name, K::Extent, K::Link, K::Value];
        ALL.get(usize::from(n)).copied()
    }
}

/// Key of an item; the order of its fields is the order in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) ino: u64,
    pub(crate) kind: Kind,
    pub(crate) at: u64,
}

/// Bytes of a key.
pub(crate) const KEY: usize = 17;

impl Key {
    pub(crate) fn new(ino: u64, kind: Kind, at: u64) -> Self {
        Self { ino, kind, at }
    }
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.ino.to_le_bytes());
        to.push(self.kind as u8);
        to.extend_from_slice(&self.at.to_le_bytes());
    }
    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self> {
        let ino = from.u64()?;
        let kind = Kind::from_u8(from.u8()?).ok_or(Error::Corrupt("kind of an item"))?;
        Ok(Self { ino, kind, at: from.u64()? })
    }
}

/// Takes fields off a slice.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Error::Corrupt("a record is too short"))?;
        self.0 = rest;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.bytes(N)?.try_into().map_err(|_| Error::Corrupt("a record is too short"))
    }
    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[b]| b)
    }
    pub(crate) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }
    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
    pub(crate) fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }
}

/// Type bits of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode;

impl Mode {
    /// The type bits.
    pub const TYPE: u32 = 0o170_000;
    /// Directory.
    pub const DIRECTORY: u32 = 0o040_000;
    /// Regular file.
    pub const REGULAR: u32 = 0o100_000;
    /// Symbolic link.
    pub const LINK: u32 = 0o120_000;
}

/// The record of an inode. Times are nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub nlink: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Bytes; of a directory: entries.
    pub size: u64,
    /// 4 KiB blocks.
    pub blocks: u64,
    /// Last access.
    pub atime: i64,
    /// Last modification.
    pub mtime: i64,
    /// Last change of this record.
    pub ctime: i64,
    /// Of a directory: the directory above it.
    pub parent: u64,
}

impl Attr {
    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        self.mode & Mode::TYPE == Mode::DIRECTORY
    }
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(72);
        for n in [self.mode, self.uid, self.gid, self.nlink] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for n in [self.rdev, self.size, self.blocks, self.parent] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for n in [self.atime, self.mtime, self.ctime] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out
    }
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader(bytes);
        let (mode, uid, gid, nlink) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
        let (rdev, size, blocks, parent) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
        let (atime, mtime, ctime) = (r.i64()?, r.i64()?, r.i64()?);
        if size > SIZE_MAX {
            return Err(Error::Corrupt("size of a file"));
        }
        Ok(Self { mode, uid, gid, nlink, rdev, size, blocks, atime, mtime, ctime, parent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_longer_than_its_blocks_can_be_numbered() {
        for (size, is_read) in [(0, true), (SIZE_MAX, true), (SIZE_MAX + 1, false), (1 << 50, false)] {
            let attr = Attr { mode: Mode::REGULAR, size, ..Attr::default() };
            assert_eq!(Attr::decode(&attr.encode()).is_ok(), is_read, "{size}");
        }
    }
}
