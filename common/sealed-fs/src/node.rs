//! A node of the B-tree, in memory and as a block.
use crate::item::{KEY, Key, Reader};
use crate::{Error, Result};
use alloc::vec::Vec;
use occlum_sealed_disk::BLOCK;

const HEAD: usize = 4;
const LEAF: u8 = 1;
const INNER: u8 = 2;
/// Bytes of items in a node.
pub(crate) const CAPACITY: usize = BLOCK - HEAD;

/// A node.
#[derive(Debug)]
pub(crate) enum Node {
    /// Items in order.
    Leaf(Vec<(Key, Vec<u8>)>),
    /// Children, each with a key that is not above its items' (the first one's counts for nothing).
    Inner(Vec<(Key, u32)>),
}

/// Bytes that an item of a leaf takes.
pub(crate) fn item_bytes(value: &[u8]) -> usize {
    KEY + 2 + value.len()
}

impl Node {
    /// Bytes of all items.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Leaf(items) => items.iter().map(|(_, v)| item_bytes(v)).sum(),
            Self::Inner(children) => children.len() * (KEY + 4),
        }
    }
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Inner(children) => children.len(),
        }
    }
    pub(crate) fn first_key(&self) -> Option<Key> {
        match self {
            Self::Leaf(items) => items.first().map(|i| i.0),
            Self::Inner(children) => children.first().map(|i| i.0),
        }
    }
    /// Cuts off what is from `at` on.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        match self {
            Self::Leaf(items) => Self::Leaf(items.split_off(at)),
            Self::Inner(children) => Self::Inner(children.split_off(at)),
        }
    }
    /// Where a split leaves about half of the bytes on each side.
    pub(crate) fn middle(&self) -> usize {
        match self {
            Self::Leaf(items) => {
                let (half, mut sum) = (self.bytes() / 2, 0);
                let over = items.iter().position(|(_, v)| {
                    sum += item_bytes(v);
                    sum > half
                });
                over.unwrap_or(1).clamp(1, items.len().saturating_sub(1).max(1))
            }
            Self::Inner(children) => children.len() / 2,
        }
    }
    /// Appends a node of the same kind whose keys are above.
    pub(crate) fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Leaf(a), Self::Leaf(mut b)) => a.append(&mut b),
            (Self::Inner(a), Self::Inner(mut b)) => a.append(&mut b),
            _ => {}
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK);
        let kind = if matches!(self, Self::Leaf(_)) { LEAF } else { INNER };
        out.extend_from_slice(&[kind, 0]);
        out.extend_from_slice(&(self.len() as u16).to_le_bytes());
        match self {
            Self::Leaf(items) => {
                for (key, value) in items {
                    key.write(&mut out);
                    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
                    out.extend_from_slice(value);
                }
            }
            Self::Inner(children) => {
                for (key, child) in children {
                    key.write(&mut out);
                    out.extend_from_slice(&child.to_le_bytes());
                }
            }
        }
        out.resize(BLOCK, 0);
        out
    }

    pub(crate) fn decode(block: &[u8]) -> Result<Self> {
        let mut r = Reader(block);
        let (kind, _, count) = (r.u8()?, r.u8()?, r.u16()?);
        let node = match kind {
            LEAF => Self::Leaf((0..count).map(|_| Self::item(&mut r)).collect::<Result<_>>()?),
            INNER => {
                Self::Inner((0..count).map(|_| Ok((Key::read(&mut r)?, r.u32()?))).collect::<Result<_>>()?)
            }
            _ => return Err(Error::Corrupt("kind of a node")),
        };
        if node.len() == 0 && kind == INNER {
            return Err(Error::Corrupt("a node without children"));
        }
        let sorted = match &node {
            Self::Leaf(items) => items.is_sorted_by(|a, b| a.0 < b.0),
            Self::Inner(children) => children.is_sorted_by(|a, b| a.0 < b.0),
        };
        if sorted { Ok(node) } else { Err(Error::Corrupt("a node that is not in order")) }
    }
    fn item(r: &mut Reader<'_>) -> Result<(Key, Vec<u8>)> {
        let key = Key::read(r)?;
        let len = r.u16()?;
        Ok((key, r.bytes(usize::from(len))?.to_vec()))
    }
}
