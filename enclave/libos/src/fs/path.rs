//! Path resolution: symbolic links, `..`, trailing slashes, search permission.
//!
//! One walk serves all system calls; it reports the directory, the last name and what is there. Neighbours:
//! `dentry` below, `ops` and the system calls above. Limits: path 4095 bytes, name 255, 40 links.
use super::dentry::Dentry;
use super::inode::Stat;
use super::prelude::*;
use super::table::FsContext;
use crate::process::{Groups, caps};

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Cred {
    /// User for file access.
    pub uid: u32,
    /// Group for file access.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Groups,
    /// Capabilities in force.
    pub caps: u64,
}
impl Cred {
    /// May the caller do what this capability allows?
    pub fn can(&self, cap: u32) -> bool {
        self.caps & (1 << cap) != 0
    }
    /// Is the group one of the caller's?
    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(gid)
    }
    /// Checks `want` (`MAY_*`) against the permission bits.
    pub fn check(&self, s: &Stat, want: u32) -> Result<()> {
        let is_dir = s.mode & S_IFMT == S_IFDIR;
        let no_exec = want & MAY_EXEC != 0 && !is_dir && s.mode & 0o111 == 0;
        let reads = want & !MAY_READ == 0 || is_dir && want & MAY_WRITE == 0;
        if self.can(caps::DAC_OVERRIDE) && !no_exec || self.can(caps::DAC_READ_SEARCH) && reads {
            return Ok(());
        }
        let shift = if self.uid == s.uid {
            6
        } else if self.in_group(s.gid) {
            3
        } else {
            0
        };
        if (s.mode >> shift) & want == want { Ok(()) } else { Err(EACCES) }
    }
}

/// What a walk found.
pub struct Walked {
    /// The directory of the last component (of the object itself, if the path ends in `.`, `..` or `/`).
    pub parent: Arc<Dentry>,
    /// The last component.
    pub name: Vec<u8>,
    /// What is there; `None` if nothing.
    pub found: Option<Arc<Dentry>>,
    /// The path ended in a slash.
    pub slash: bool,
    /// The last component was `.`, `..` or the root: it cannot be created, removed or renamed.
    pub special: bool,
}
impl Walked {
    /// What is there, or `ENOENT`.
    pub fn get(&self) -> Result<Arc<Dentry>> {
        self.found.clone().ok_or(ENOENT)
    }
}

/// Whether a final symbolic link is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// Follow it.
    Follow,
    /// The link itself, unless a slash follows it.
    NoFollow,
    /// Whatever has the name, with a slash behind it or not: it is to be made, removed or renamed.
    Name,
}

/// A walk in progress.
struct Walk<'a> {
    /// Absolute links and `..` go no further up.
    root: Arc<Dentry>,
    /// `RESOLVE_*`.
    limits: u32,
    /// Where `RESOLVE_BENEATH` must stay.
    top: &'a Arc<Dentry>,
    cred: &'a Cred,
    dir: Arc<Dentry>,
    rest: Vec<u8>,
    pos: usize,
    links: u32,
}

/// Walks `path` from `base`.
pub fn walk(fs: &FsContext, cred: &Cred, base: &Arc<Dentry>, path: &[u8], last: Last) -> Result<Walked> {
    walk_within(fs, cred, base, path, last, 0)
}

/// The same, within the limits `RESOLVE_*`.
pub fn walk_within(
    fs: &FsContext,
    cred: &Cred,
    base: &Arc<Dentry>,
    path: &[u8],
    last: Last,
    limits: u32,
) -> Result<Walked> {
    if path.is_empty() {
        return Err(ENOENT);
    }
    if path.len() >= PATH_MAX {
        return Err(ENAMETOOLONG);
    }
    let root = if limits & RESOLVE_IN_ROOT != 0 { base.clone() } else { fs.root() };
    let mut w =
        Walk { root, limits, top: base, cred, dir: base.clone(), rest: path.to_vec(), pos: 0, links: 0 };
    if path[0] == b'/' {
        w.go_to_root(false)?;
    }
    loop {
        if let Some(done) = w.step(last)? {
            return Ok(done);
        }
    }
}

impl Walk<'_> {
    /// The next component as a range of `rest`, and whether it is the last, and whether a slash follows it.
    fn component(&mut self) -> (core::ops::Range<usize>, bool, bool) {
        let b = &self.rest;
        let mut start = self.pos;
        while start < b.len() && b[start] == b'/' {
            start += 1;
        }
        let mut end = start;
        while end < b.len() && b[end] != b'/' {
            end += 1;
        }
        let slash = end < b.len();
        let mut next = end;
        while next < b.len() && b[next] == b'/' {
            next += 1;
        }
        let last = next == b.len();
        self.pos = next;
        (start..end, last, slash)
    }

    fn limited(&self, by: u32) -> bool {
        self.limits & by != 0
    }
    /// To the root, from a path or a link that begins with a slash.
    fn go_to_root(&mut self, from_here: bool) -> Result<()> {
        if self.limited(RESOLVE_BENEATH) {
            return Err(EXDEV);
        }
        let root = self.root.clone();
        if from_here && self.limited(RESOLVE_NO_XDEV) && root.inode().fs().dev != self.dir.inode().fs().dev {
            return Err(EXDEV);
        }
        self.dir = root;
        Ok(())
    }
    fn go_up(&mut self) -> Result<()> {
        if self.limited(RESOLVE_BENEATH) && Arc::ptr_eq(&self.dir, self.top) {
            return Err(EXDEV);
        }
        if !Arc::ptr_eq(&self.dir, &self.root) {
            if self.dir.is_mount() && self.limited(RESOLVE_NO_XDEV) {
                return Err(EXDEV);
            }
            self.dir = self.dir.parent();
        }
        Ok(())
    }

    fn search_permission(&self) -> Result<()> {
        let i = self.dir.inode();
        if !i.is_dir() {
            return Err(ENOTDIR);
        }
        if self.cred.can(caps::DAC_READ_SEARCH) { Ok(()) } else { i.check(self.cred, MAY_EXEC) }
    }

    fn step(&mut self, last_mode: Last) -> Result<Option<Walked>> {
        let (range, last, slash) = self.component();
        self.search_permission()?;
        if &self.rest[range.clone()] == b".." {
            self.go_up()?;
        }
        let name = &self.rest[range.clone()];
        if name.is_empty() || name == b"." || name == b".." {
            let done = Walked {
                parent: self.dir.clone(),
                name: name.to_vec(),
                found: Some(self.dir.clone()),
                slash,
                special: true,
            };
            return Ok(last.then_some(done));
        }
        if name.len() > NAME_MAX {
            return Err(ENAMETOOLONG);
        }
        let child = match self.dir.lookup(name) {
            Ok(c) => c,
            Err(ENOENT) if last => {
                let (parent, name) = (self.dir.clone(), name.to_vec());
                return Ok(Some(Walked { parent, name, found: None, slash, special: false }));
            }
            Err(e) => return Err(e),
        };
        if child.is_mount() && self.limited(RESOLVE_NO_XDEV) {
            return Err(EXDEV);
        }
        let follow = !last || last_mode == Last::Follow || slash && last_mode == Last::NoFollow;
        if child.inode().kind() == S_IFLNK && follow {
            return self.follow(&child, last, slash);
        }
        if !last {
            self.dir = child;
            return Ok(None);
        }
        if slash && last_mode != Last::Name && !child.inode().is_dir() {
            return Err(ENOTDIR);
        }
        let (parent, name) = (self.dir.clone(), name.to_vec());
        Ok(Some(Walked { parent, name, found: Some(child), slash, special: false }))
    }

    fn follow(&mut self, link: &Arc<Dentry>, last: bool, slash: bool) -> Result<Option<Walked>> {
        self.links += 1;
        if self.links > SYMLINK_MAX {
            return Err(ELOOP);
        }
        if self.limited(RESOLVE_NO_SYMLINKS) {
            return Err(ELOOP);
        }
        if let Some(target) = link.inode().magic_link() {
            if self.limited(RESOLVE_NO_MAGICLINKS) {
                return Err(ELOOP);
            }
            if self.limited(RESOLVE_BENEATH | RESOLVE_IN_ROOT) {
                return Err(EXDEV);
            }
            let target = target?;
            if last {
                let parent = target.parent();
                if slash && !target.inode().is_dir() {
                    return Err(ENOTDIR);
                }
                return Ok(Some(Walked {
                    parent,
                    name: target.name(),
                    found: Some(target),
                    slash,
                    special: true,
                }));
            }
            self.dir = target;
            return Ok(None);
        }
        let mut text = link.inode().readlink()?;
        if text.is_empty() {
            return Err(ENOENT);
        }
        if text[0] == b'/' {
            self.go_to_root(true)?;
        }
        if slash || !last {
            text.push(b'/');
        }
        text.extend_from_slice(&self.rest[self.pos..]);
        if text.len() >= 2 * PATH_MAX {
            return Err(ENAMETOOLONG);
        }
        self.rest = text;
        self.pos = 0;
        Ok(None)
    }
}
