//! Directories and links. The names of a directory are items at the hash of the name; names of one hash share an
//! item. An inode without names lives on while it is held open, listed as an orphan.
use crate::btree::fits;
use crate::fs::Fs;
use crate::item::{Attr, Key, Kind, Mode, NAME_MAX, ROOT, Reader};
use crate::{Error, Result};
use alloc::vec::Vec;
use occlum_sealed_disk::BlockDevice;

/// Longest symbolic link.
const LINK_MAX: usize = 4095;
const LINK_PIECE: usize = 1024;

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Inode.
    pub ino: u64,
    /// Type bits of its mode.
    pub kind: u32,
    /// Name.
    pub name: Vec<u8>,
}

/// Changes of attributes; `None` leaves one alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Access time.
    pub atime: Option<i64>,
    /// Modification time.
    pub mtime: Option<i64>,
}

/// Who owns a new inode, and when it is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time.
    pub now: i64,
}

/// Hash of a name; the seed is secret, so nobody can choose names that meet.
pub(crate) fn hash(seed: u64, name: &[u8]) -> u64 {
    let fold = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
    let h = name.iter().fold(seed ^ 0xcbf2_9ce4_8422_2325, fold);
    let h = (h ^ h >> 32 ^ seed.rotate_left(17)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    h ^ h >> 29
}

/// Can an entry have this name?
fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
}

pub(crate) fn decode_names(value: &[u8]) -> Result<Vec<DirEntry>> {
    let (mut r, mut names) = (Reader(value), Vec::new());
    while !r.0.is_empty() {
        let (ino, kind, len) = (r.u64()?, u32::from(r.u8()?) << 12, r.u8()?);
        let name = r.bytes(usize::from(len))?.to_vec();
        if !is_name(&name) {
            return Err(Error::Corrupt("a name"));
        }
        names.push(DirEntry { ino, kind, name });
    }
    Ok(names)
}
fn encode_names(names: &[DirEntry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in names {
        out.extend_from_slice(&entry.ino.to_le_bytes());
        out.extend_from_slice(&[(entry.kind >> 12) as u8, entry.name.len() as u8]);
        out.extend_from_slice(&entry.name);
    }
    out
}

impl<D: BlockDevice> Fs<D> {
    fn name_key(&self, dir: u64, name: &[u8]) -> Key {
        Key::new(dir, Kind::Name, hash(self.hash_seed(), name))
    }
    fn names_at(&mut self, key: &Key) -> Result<Vec<DirEntry>> {
        self.tree.get(&mut self.disk, key)?.map_or(Ok(Vec::new()), |v| decode_names(&v))
    }
    fn directory(&mut self, dir: u64) -> Result<Attr> {
        let attr = self.attr(dir)?;
        if attr.is_dir() { Ok(attr) } else { Err(Error::NotDirectory) }
    }
    fn find(&mut self, dir: u64, name: &[u8]) -> Result<Option<DirEntry>> {
        self.directory(dir)?;
        if name.len() > NAME_MAX {
            return Err(Error::NameTooLong);
        }
        let key = self.name_key(dir, name);
        Ok(self.names_at(&key)?.into_iter().find(|e| e.name == name))
    }
    /// The inode that a name leads to.
    pub fn lookup(&mut self, dir: u64, name: &[u8]) -> Result<u64> {
        match name {
            b"." => Ok(dir),
            b".." => self.directory(dir).map(|a| a.parent),
            _ => self.find(dir, name)?.map(|e| e.ino).ok_or(Error::NotFound),
        }
    }
    /// The inode at a path from the root; links are not followed.
    pub fn resolve(&mut self, path: &[u8]) -> Result<u64> {
        path.split(|c| *c == b'/')
            .filter(|n| !n.is_empty())
            .try_fold(ROOT, |dir, name| self.lookup(dir, name))
    }

    /// Is this a name that can be made?
    fn check_new(&mut self, dir: u64, name: &[u8]) -> Result<()> {
        if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
            return Err(Error::Invalid);
        }
        if self.directory(dir)?.nlink == 0 {
            return Err(Error::NotFound);
        }
        if name == b"." || name == b".." || self.find(dir, name)?.is_some() {
            return Err(Error::Exists);
        }
        Ok(())
    }
    fn add_name(&mut self, dir: u64, name: &[u8], ino: u64, mode: u32, now: i64) -> Result<()> {
        let key = self.name_key(dir, name);
        let mut names = self.names_at(&key)?;
        names.push(DirEntry { ino, kind: mode & Mode::TYPE, name: name.to_vec() });
        let value = encode_names(&names);
        if !fits(&value) {
            return Err(Error::NoSpace);
        }
        self.tree.set(&mut self.disk, &mut self.space, key, value)?;
        self.update(dir, |a| {
            a.size += 1;
            (a.mtime, a.ctime) = (now, now);
        })
    }
    fn remove_name(&mut self, dir: u64, name: &[u8], now: i64) -> Result<()> {
        let key = self.name_key(dir, name);
        let mut names = self.names_at(&key)?;
        names.retain(|e| e.name != name);
        if names.is_empty() {
            self.tree.remove(&mut self.disk, &mut self.space, &key)?;
        } else {
            self.tree.set(&mut self.disk, &mut self.space, key, encode_names(&names))?;
        }
        self.update(dir, |a| {
            a.size = a.size.saturating_sub(1);
            (a.mtime, a.ctime) = (now, now);
        })
    }

    /// Makes a file, directory, FIFO, socket or device node.
    pub fn create(&mut self, dir: u64, name: &[u8], mode: u32, rdev: u64, owner: Owner) -> Result<u64> {
        self.check_new(dir, name)?;
        self.admit(8)?;
        self.change(|fs| fs.make(dir, name, mode, rdev, owner))
    }
    fn make(&mut self, dir: u64, name: &[u8], mode: u32, rdev: u64, owner: Owner) -> Result<u64> {
        let Owner { uid, gid, now } = owner;
        let ino = self.new_ino();
        let is_dir = mode & Mode::TYPE == Mode::DIRECTORY;
        let nlink = if is_dir { 2 } else { 1 };
        let (atime, mtime, ctime) = (now, now, now);
        let attr = Attr { mode, uid, gid, nlink, rdev, size: 0, blocks: 0, atime, mtime, ctime, parent: dir };
        self.add_name(dir, name, ino, mode, now)?;
        self.put_inode(ino, attr);
        if is_dir {
            self.update(dir, |a| a.nlink += 1)?;
        }
        Ok(ino)
    }
    /// Makes a symbolic link.
    pub fn symlink(&mut self, dir: u64, name: &[u8], target: &[u8], owner: Owner) -> Result<u64> {
        self.check_new(dir, name)?;
        if target.len() > LINK_MAX {
            return Err(Error::NameTooLong);
        }
        self.admit(12)?;
        self.change(|fs| {
            let ino = fs.make(dir, name, Mode::LINK | 0o777, 0, owner)?;
            for (i, piece) in target.chunks(LINK_PIECE).enumerate() {
                let key = Key::new(ino, Kind::Link, i as u64);
                fs.tree.set(&mut fs.disk, &mut fs.space, key, piece.to_vec())?;
            }
            fs.update(ino, |a| a.size = target.len() as u64)?;
            Ok(ino)
        })
    }
    /// Text of a symbolic link.
    pub fn readlink(&mut self, ino: u64) -> Result<Vec<u8>> {
        let attr = self.attr(ino)?;
        if attr.mode & Mode::TYPE != Mode::LINK {
            return Err(Error::Invalid);
        }
        let mut target = Vec::new();
        for piece in 0..LINK_MAX.div_ceil(LINK_PIECE) as u64 {
            let key = Key::new(ino, Kind::Link, piece);
            target.extend(self.tree.get(&mut self.disk, &key)?.unwrap_or_default());
        }
        Ok(target)
    }
    /// Makes a file without a name that is held: it goes when it is released, unless `link_unnamed` names it.
    pub fn create_unnamed(&mut self, mode: u32, owner: Owner) -> Result<u64> {
        self.admit(8)?;
        self.change(|fs| {
            let Owner { uid, gid, now } = owner;
            let ino = fs.new_ino();
            let attr =
                Attr { mode, uid, gid, atime: now, mtime: now, ctime: now, parent: ROOT, ..Attr::default() };
            fs.tree.set(&mut fs.disk, &mut fs.space, Key::new(0, Kind::Orphan, ino), Vec::new())?;
            fs.put_inode(ino, attr);
            fs.hold(ino);
            Ok(ino)
        })
    }
    /// Gives a file that `create_unnamed` made its first name.
    pub fn link_unnamed(&mut self, dir: u64, name: &[u8], ino: u64, now: i64) -> Result<()> {
        let attr = self.attr(ino)?;
        self.check_new(dir, name)?;
        self.admit(8)?;
        self.change(|fs| {
            fs.add_name(dir, name, ino, attr.mode, now)?;
            fs.tree.remove(&mut fs.disk, &mut fs.space, &Key::new(0, Kind::Orphan, ino))?;
            fs.update(ino, |a| {
                a.nlink = 1;
                a.ctime = now;
            })
        })
    }
    /// Adds a name for an inode.
    pub fn link(&mut self, dir: u64, name: &[u8], ino: u64, now: i64) -> Result<()> {
        let attr = self.attr(ino)?;
        if attr.is_dir() {
            return Err(Error::NotPermitted);
        }
        if attr.nlink == 0 {
            return Err(Error::NotFound);
        }
        self.check_new(dir, name)?;
        if attr.nlink == u32::MAX {
            return Err(Error::TooManyLinks);
        }
        self.admit(8)?;
        self.change(|fs| {
            fs.add_name(dir, name, ino, attr.mode, now)?;
            fs.update(ino, |a| {
                a.nlink += 1;
                a.ctime = now;
            })
        })
    }
    /// Removes a name that is not a directory.
    pub fn unlink(&mut self, dir: u64, name: &[u8], now: i64) -> Result<()> {
        let entry = self.find(dir, name)?.ok_or(Error::NotFound)?;
        if entry.kind == Mode::DIRECTORY {
            return Err(Error::IsDirectory);
        }
        self.admit_small();
        self.change(|fs| {
            fs.remove_name(dir, name, now)?;
            fs.drop_link(entry.ino, now)
        })
    }
    /// One name less; the last one ends the inode, at once or when it is released.
    fn drop_link(&mut self, ino: u64, now: i64) -> Result<()> {
        self.update(ino, |a| {
            a.nlink = if a.is_dir() { 0 } else { a.nlink.saturating_sub(1) };
            a.ctime = now;
        })?;
        if self.attr(ino)?.nlink > 0 {
            return Ok(());
        }
        if self.held.contains_key(&ino) {
            return self.tree.set(
                &mut self.disk,
                &mut self.space,
                Key::new(0, Kind::Orphan, ino),
                Vec::new(),
            );
        }
        self.delete(ino)
    }
    /// Removes an inode and all that belongs to it.
    pub(crate) fn delete(&mut self, ino: u64) -> Result<()> {
        self.cut(ino, 0)?;
        let first = Key::new(ino, Kind::Orphan, 0);
        while let Some((key, _)) = self.tree.next(&mut self.disk, &first)?.filter(|(k, _)| k.ino == ino) {
            self.tree.remove(&mut self.disk, &mut self.space, &key)?;
        }
        self.tree.remove(&mut self.disk, &mut self.space, &Key::new(0, Kind::Orphan, ino))?;
        self.forget(ino);
        Ok(())
    }
    /// Keeps an inode although its last name goes.
    pub fn hold(&mut self, ino: u64) {
        *self.held.entry(ino).or_default() += 1;
    }
    /// Gives up what `hold` took.
    pub fn release(&mut self, ino: u64) -> Result<()> {
        match self.held.get_mut(&ino) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                self.held.remove(&ino);
                if self.attr(ino)?.nlink == 0 {
                    self.change(|fs| fs.delete(ino))?;
                }
            }
            None => {}
        }
        Ok(())
    }
    /// Removes an empty directory.
    pub fn rmdir(&mut self, dir: u64, name: &[u8], now: i64) -> Result<()> {
        if name == b"." {
            return Err(Error::Invalid);
        }
        if name == b".." {
            return Err(Error::NotEmpty);
        }
        let entry = self.find(dir, name)?.ok_or(Error::NotFound)?;
        if self.directory(entry.ino)?.size > 0 {
            return Err(Error::NotEmpty);
        }
        self.admit_small();
        self.change(|fs| {
            fs.remove_name(dir, name, now)?;
            fs.update(dir, |a| a.nlink = a.nlink.saturating_sub(1))?;
            fs.drop_link(entry.ino, now)
        })
    }

    /// Moves `old` of `dir` to `new` of `to`; `exchange` swaps them.
    pub fn rename(
        &mut self,
        dir: u64,
        old: &[u8],
        to: u64,
        new: &[u8],
        exchange: bool,
        now: i64,
    ) -> Result<()> {
        let dots = |n: &[u8]| n == b"." || n == b"..";
        if dots(old) || dots(new) || new.is_empty() || new.contains(&b'/') || new.contains(&0) {
            return Err(Error::Invalid);
        }
        let from = self.find(dir, old)?.ok_or(Error::NotFound)?;
        let target = self.find(to, new)?;
        if self.directory(to)?.nlink == 0 {
            return Err(Error::NotFound);
        }
        let from_dir = from.kind == Mode::DIRECTORY;
        if from_dir && self.is_below(to, from.ino)? {
            return Err(Error::Invalid);
        }
        let Some(target) = target else {
            if exchange {
                return Err(Error::NotFound);
            }
            self.admit(8)?;
            return self.change(|fs| fs.move_name(dir, &from, to, new, now));
        };
        if target.ino == from.ino {
            return Ok(());
        }
        let target_dir = target.kind == Mode::DIRECTORY;
        if exchange {
            if target_dir && self.is_below(dir, target.ino)? {
                return Err(Error::Invalid);
            }
            self.admit(8)?;
            return self.change(|fs| {
                fs.remove_name(to, new, now)?;
                if target_dir {
                    fs.update(to, |a| a.nlink = a.nlink.saturating_sub(1))?;
                }
                fs.move_name(dir, &from, to, new, now)?;
                fs.place_name(&target, dir, old, now)
            });
        }
        match (from_dir, target_dir) {
            (true, false) => return Err(Error::NotDirectory),
            (false, true) => return Err(Error::IsDirectory),
            (true, true) if self.attr(target.ino)?.size > 0 => return Err(Error::NotEmpty),
            _ => {}
        }
        self.admit(8)?;
        self.change(|fs| {
            fs.remove_name(to, new, now)?;
            if target_dir {
                fs.update(to, |a| a.nlink = a.nlink.saturating_sub(1))?;
            }
            fs.move_name(dir, &from, to, new, now)?;
            fs.drop_link(target.ino, now)
        })
    }
    /// Is `dir` equal to `ancestor` or below it?
    fn is_below(&mut self, mut dir: u64, ancestor: u64) -> Result<bool> {
        // No path is longer than there are inodes; a loop would be damage.
        for _ in 0..1 << 20 {
            if dir == ancestor {
                return Ok(true);
            }
            if dir == ROOT {
                return Ok(false);
            }
            dir = self.attr(dir)?.parent;
        }
        Err(Error::Corrupt("directories in a loop"))
    }
    fn move_name(&mut self, dir: u64, from: &DirEntry, to: u64, new: &[u8], now: i64) -> Result<()> {
        self.remove_name(dir, &from.name, now)?;
        if from.kind == Mode::DIRECTORY {
            self.update(dir, |a| a.nlink = a.nlink.saturating_sub(1))?;
        }
        self.place_name(from, to, new, now)
    }
    fn place_name(&mut self, entry: &DirEntry, to: u64, new: &[u8], now: i64) -> Result<()> {
        self.add_name(to, new, entry.ino, entry.kind, now)?;
        if entry.kind == Mode::DIRECTORY {
            self.update(to, |a| a.nlink += 1)?;
        }
        self.update(entry.ino, |a| {
            a.parent = to;
            a.ctime = now;
        })
    }

    /// Entries of a directory from position `from` on (0: the first), at least `count` if there are; and the
    /// position to go on from.
    pub fn list(&mut self, dir: u64, from: u64, count: usize) -> Result<(Vec<DirEntry>, Option<u64>)> {
        self.directory(dir)?;
        let (mut key, mut entries) = (Key::new(dir, Kind::Name, from), Vec::new());
        while let Some((found, value)) = self.tree.next(&mut self.disk, &key)? {
            if (found.ino, found.kind) != (dir, Kind::Name) {
                break;
            }
            if entries.len() >= count {
                return Ok((entries, Some(found.at)));
            }
            entries.extend(decode_names(&value)?);
            match found.at.checked_add(1) {
                Some(next) => key.at = next,
                None => break,
            }
        }
        Ok((entries, None))
    }

    /// Changes attributes.
    pub fn set_attr(&mut self, ino: u64, set: &SetAttr, now: i64) -> Result<()> {
        self.attr(ino)?;
        self.admit_small();
        self.change(|fs| {
            fs.update(ino, |a| {
                a.mode = set.mode.map_or(a.mode, |m| a.mode & Mode::TYPE | m & 0o7777);
                a.uid = set.uid.unwrap_or(a.uid);
                a.gid = set.gid.unwrap_or(a.gid);
                a.atime = set.atime.unwrap_or(a.atime);
                a.mtime = set.mtime.unwrap_or(a.mtime);
                a.ctime = now;
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_are_not_read() {
        let read = |name: &[u8]| {
            let entry = |name: &[u8]| DirEntry { ino: 2, kind: Mode::REGULAR, name: name.to_vec() };
            decode_names(&encode_names(&[entry(b"good"), entry(name)])).is_ok()
        };
        assert!(read(b"...") && read(b"\xff\n") && read(&[b'n'; NAME_MAX]));
        for name in [&b""[..], b".", b"..", b"/", b"a/", b"../../etc/passwd", b"nul\0"] {
            assert!(!read(name), "{name:?}");
        }
    }
}
