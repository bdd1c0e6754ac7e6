//! Extended attributes: items at the hash of the name; names of one hash share an item. A value that is too long for that
//! is kept in pieces, items of a number of its own.
use crate::btree::fits;
use crate::fs::Fs;
use crate::item::{Key, Kind, NAME_MAX, Reader};
use crate::names::hash;
use crate::{Error, Result};
use alloc::vec::Vec;
use occlum_sealed_disk::BlockDevice;

/// Longest value (XATTR_SIZE_MAX).
const VALUE_LARGEST: usize = 65536;
/// Longest value beside its name.
const SHORT: usize = 512;
/// Bytes of a piece, and pieces of a number.
const PIECE: usize = 1024;
pub(crate) const PIECES: u64 = 64;
/// In place of a length: the value is in pieces.
const LONG: u16 = u16::MAX;

/// A value, or where its pieces are.
#[derive(Clone, PartialEq, Eq)]
enum Value {
    Short(Vec<u8>),
    Long { number: u64, length: u32 },
}
type Pairs = Vec<(Vec<u8>, Value)>;

fn decode(item: &[u8]) -> Result<Pairs> {
    let (mut r, mut pairs) = (Reader(item), Vec::new());
    while !r.0.is_empty() {
        let (name, length) = (r.u8()?, r.u16()?);
        let name = r.bytes(usize::from(name))?.to_vec();
        let value = match length {
            LONG => Value::Long { number: r.u64()?, length: r.u32()? },
            short => Value::Short(r.bytes(usize::from(short))?.to_vec()),
        };
        pairs.push((name, value));
    }
    Ok(pairs)
}
fn encode(pairs: &Pairs) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in pairs {
        out.push(name.len() as u8);
        let length = if let Value::Short(bytes) = value { bytes.len() as u16 } else { LONG };
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(name);
        match value {
            Value::Short(bytes) => out.extend_from_slice(bytes),
            Value::Long { number, length } => {
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&length.to_le_bytes());
            }
        }
    }
    out
}
/// Numbers of the long values in an item, and how many pieces each has.
pub(crate) fn long_values(item: &[u8]) -> Result<Vec<(u64, u64)>> {
    let pieces = |length: u32| (length as usize).div_ceil(PIECE) as u64;
    Ok(decode(item)?
        .into_iter()
        .filter_map(|(_, value)| match value {
            Value::Long { number, length } => Some((number, pieces(length))),
            Value::Short(_) => None,
        })
        .collect())
}
fn piece(ino: u64, number: u64, i: u64) -> Key {
    Key::new(ino, Kind::Value, number.wrapping_mul(PIECES).wrapping_add(i))
}

impl<D: BlockDevice> Fs<D> {
    fn pairs(&mut self, ino: u64, name: &[u8]) -> Result<(Key, Pairs)> {
        self.attr(ino)?;
        let key = Key::new(ino, Kind::Xattr, hash(self.hash_seed(), name));
        let pairs = self.tree.get(&mut self.disk, &key)?.map_or(Ok(Vec::new()), |v| decode(&v))?;
        Ok((key, pairs))
    }
    /// The value of an attribute.
    pub fn get_xattr(&mut self, ino: u64, name: &[u8]) -> Result<Vec<u8>> {
        let (_, pairs) = self.pairs(ino, name)?;
        match pairs.into_iter().find(|p| p.0 == name).map(|p| p.1).ok_or(Error::NoAttribute)? {
            Value::Short(bytes) => Ok(bytes),
            Value::Long { number, length } => self.pieces(ino, number, length as usize),
        }
    }
    fn pieces(&mut self, ino: u64, number: u64, length: usize) -> Result<Vec<u8>> {
        let mut value = Vec::new();
        for i in 0..length.min(VALUE_LARGEST).div_ceil(PIECE) as u64 {
            let part = self.tree.get(&mut self.disk, &piece(ino, number, i))?;
            value.extend(part.ok_or(Error::Corrupt("a piece of an attribute is missing"))?);
        }
        if value.len() == length { Ok(value) } else { Err(Error::Corrupt("the length of an attribute")) }
    }
    /// Removes the pieces of a value, if it has some.
    fn drop_pieces(&mut self, ino: u64, value: Option<&Value>) -> Result<()> {
        if let Some(Value::Long { number, length }) = value {
            for i in 0..(*length as usize).min(VALUE_LARGEST).div_ceil(PIECE) as u64 {
                self.tree.remove(&mut self.disk, &mut self.space, &piece(ino, *number, i))?;
            }
        }
        Ok(())
    }
    /// Sets an attribute; `must_exist` is its state before, if that matters.
    pub fn set_xattr(
        &mut self,
        ino: u64,
        name: &[u8],
        value: &[u8],
        must_exist: Option<bool>,
        now: i64,
    ) -> Result<()> {
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(Error::Invalid);
        }
        let (key, mut pairs) = self.pairs(ino, name)?;
        let old = pairs.iter().position(|p| p.0 == name).map(|i| pairs.remove(i).1);
        match must_exist {
            Some(true) if old.is_none() => return Err(Error::NoAttribute),
            Some(false) if old.is_some() => return Err(Error::Exists),
            _ => {}
        }
        if value.len() > VALUE_LARGEST {
            return Err(Error::NoSpace);
        }
        let new = if value.len() <= SHORT {
            Value::Short(value.to_vec())
        } else {
            Value::Long { number: self.new_number(), length: value.len() as u32 }
        };
        pairs.push((name.to_vec(), new.clone()));
        if !fits(&encode(&pairs)) {
            return Err(Error::NoSpace);
        }
        self.admit(8 + value.len() as u64 / PIECE as u64)?;
        self.change(|fs| {
            fs.drop_pieces(ino, old.as_ref())?;
            if let Value::Long { number, .. } = new {
                for (i, part) in value.chunks(PIECE).enumerate() {
                    let key = piece(ino, number, i as u64);
                    fs.tree.set(&mut fs.disk, &mut fs.space, key, part.to_vec())?;
                }
            }
            fs.tree.set(&mut fs.disk, &mut fs.space, key, encode(&pairs))?;
            fs.update(ino, |a| a.ctime = now)
        })
    }
    /// Removes an attribute.
    pub fn remove_xattr(&mut self, ino: u64, name: &[u8], now: i64) -> Result<()> {
        let (key, mut pairs) = self.pairs(ino, name)?;
        let at = pairs.iter().position(|p| p.0 == name).ok_or(Error::NoAttribute)?;
        let (_, old) = pairs.remove(at);
        self.admit_small();
        self.change(|fs| {
            fs.drop_pieces(ino, Some(&old))?;
            if pairs.is_empty() {
                fs.tree.remove(&mut fs.disk, &mut fs.space, &key)?;
            } else {
                fs.tree.set(&mut fs.disk, &mut fs.space, key, encode(&pairs))?;
            }
            fs.update(ino, |a| a.ctime = now)
        })
    }
    /// Names of all attributes.
    pub fn list_xattr(&mut self, ino: u64) -> Result<Vec<Vec<u8>>> {
        self.attr(ino)?;
        let (mut key, mut names) = (Key::new(ino, Kind::Xattr, 0), Vec::new());
        while let Some((found, value)) = self.tree.next(&mut self.disk, &key)? {
            if (found.ino, found.kind) != (ino, Kind::Xattr) {
                break;
            }
            names.extend(decode(&value)?.into_iter().map(|p| p.0));
            match found.at.checked_add(1) {
                Some(next) => key.at = next,
                None => break,
            }
        }
        Ok(names)
    }
}
