//! Extended attributes: items at the hash of the name; names of one hash share an item.
use crate::btree::fits;
use crate::fs::Fs;
use crate::item::{Key, Kind, NAME_MAX, Reader};
use crate::names::hash;
use crate::{Error, Result};
use alloc::vec::Vec;
use occlum_sealed_disk::BlockDevice;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn decode(value: &[u8]) -> Result<Pairs> {
    let (mut r, mut pairs) = (Reader(value), Vec::new());
    while !r.0.is_empty() {
        let (name, len) = (r.u8()?, r.u16()?);
        pairs.push((r.bytes(usize::from(name))?.to_vec(), r.bytes(usize::from(len))?.to_vec()));
    }
    Ok(pairs)
}
fn encode(pairs: &Pairs) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in pairs {
        out.push(name.len() as u8);
        out.extend_from_slice(&(value.len() as u16).to_le_bytes());
        out.extend_from_slice(name);
        out.extend_from_slice(value);
    }
    out
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
        pairs.into_iter().find(|p| p.0 == name).map(|p| p.1).ok_or(Error::NoAttribute)
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
        let exists = pairs.iter().any(|p| p.0 == name);
        match must_exist {
            Some(true) if !exists => return Err(Error::NoAttribute),
            Some(false) if exists => return Err(Error::Exists),
            _ => {}
        }
        pairs.retain(|p| p.0 != name);
        pairs.push((name.to_vec(), value.to_vec()));
        if value.len() > usize::from(u16::MAX) || !fits(&encode(&pairs)) {
            return Err(Error::NoSpace);
        }
        self.admit(8)?;
        self.change(|fs| {
            fs.tree.set(&mut fs.disk, &mut fs.space, key, encode(&pairs))?;
            fs.update(ino, |a| a.ctime = now)
        })
    }
    /// Removes an attribute.
    pub fn remove_xattr(&mut self, ino: u64, name: &[u8], now: i64) -> Result<()> {
        let (key, mut pairs) = self.pairs(ino, name)?;
        if !pairs.iter().any(|p| p.0 == name) {
            return Err(Error::NoAttribute);
        }
        pairs.retain(|p| p.0 != name);
        self.admit_small();
        self.change(|fs| {
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
