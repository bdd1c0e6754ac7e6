//! Layers shown as one tree: the highest may be written, those below are only read.
//!
//! As in Linux' overlayfs: what is changed is copied up first; a removed name is a whiteout (a character device 0:0) in
//! the upper layer, a directory that hides those below has the attribute `trusted.overlay.opaque`. So a store that was
//! the upper layer once means the same tree whenever it is laid over the same layers. Neighbours: `inode` (the VFS's
//! view), `copy` (copying up), `mount`. Invariants: an object has an upper inode, or at least one below; what is below
//! is never written.
mod copy;
mod inode;

use super::inode::{FsInfo, InodeRef, Stat, next_dev, next_id};
use super::prelude::*;

const MAGIC: u64 = 0x794c_7630;
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// What the layers use for themselves; programs do not see it.
const PRIVATE: &[u8] = b"trusted.overlay.";

/// Where an object is found.
#[derive(Clone, Default)]
struct Layers {
    upper: Option<InodeRef>,
    /// Highest first; more than one for directories only.
    lower: Vec<InodeRef>,
}

/// What all objects of one overlay share.
struct Shared {
    info: Arc<FsInfo>,
    /// Objects by upper inode, so that hard links are one object.
    by_upper: BklCell<BTreeMap<(u64, u64), Weak<OverlayInode>>>,
}

/// An object of the tree.
struct OverlayInode {
    shared: Arc<Shared>,
    me: Weak<OverlayInode>,
    layers: BklCell<Layers>,
    /// Directory and name: where a copy goes. `None` for the root, and for files that never had a name.
    place: BklCell<Option<(Arc<OverlayInode>, Vec<u8>)>>,
    kind: u32,
    ino: u64,
    mapped: BklCell<bool>,
}

/// The tree of these layers, the lowest first; the last is written unless `read_only`.
pub fn root(mut layers: Vec<InodeRef>, read_only: bool) -> Result<InodeRef> {
    let upper = if read_only { None } else { layers.pop() };
    layers.reverse();
    let info = Arc::new(FsInfo {
        name: "overlay",
        magic: MAGIC,
        dev: next_dev(),
        read_only,
        cached: true,
        reported: false,
        host: None,
    });
    let shared = Arc::new(Shared { info, by_upper: BklCell::new(BTreeMap::new()) });
    Ok(OverlayInode::new(&shared, Layers { upper, lower: layers }, None)?)
}

/// Is it in a tree that several layers show?
pub fn is_merged(inode: &InodeRef) -> bool {
    inode.as_any().is::<OverlayInode>()
}
fn is_whiteout(inode: &InodeRef) -> bool {
    inode.kind() == S_IFCHR && inode.stat().is_ok_and(|s| s.rdev == 0)
}
fn is_opaque(inode: &InodeRef) -> bool {
    inode.xattr(OPAQUE).is_ok_and(|v| v == b"y")
}
/// The entry of one layer, if it has one.
fn entry(dir: &InodeRef, name: &[u8]) -> Result<Option<InodeRef>> {
    match dir.lookup(name) {
        Ok(i) => Ok(Some(i)),
        Err(ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Looks a name up, from the highest layer down.
fn find(dirs: &[(InodeRef, bool)], name: &[u8]) -> Result<Layers> {
    let mut found = Layers::default();
    for (dir, is_upper) in dirs {
        let Some(i) = entry(dir, name)? else { continue };
        let first = found.upper.is_none() && found.lower.is_empty();
        if is_whiteout(&i) || (!first && !i.is_dir()) {
            break;
        }
        let (last, is_dir) = (is_opaque(&i), i.is_dir());
        if *is_upper {
            found.upper = Some(i);
        } else {
            found.lower.push(i);
        }
        if !is_dir || last {
            break;
        }
    }
    if found.upper.is_none() && found.lower.is_empty() { Err(ENOENT) } else { Ok(found) }
}

impl OverlayInode {
    fn new(
        shared: &Arc<Shared>,
        layers: Layers,
        place: Option<(Arc<OverlayInode>, Vec<u8>)>,
    ) -> Result<Arc<Self>> {
        let top = layers.upper.as_ref().or(layers.lower.first()).ok_or(EIO)?;
        let (kind, stat) = (top.kind(), top.stat()?);
        let key = layers.upper.as_ref().filter(|_| kind != S_IFDIR).map(|_| (stat.dev, stat.ino));
        if let Some(known) = key.and_then(|k| shared.by_upper.with(|m| m.get(&k).and_then(Weak::upgrade))) {
            return Ok(known);
        }
        let made = Arc::new_cyclic(|me| Self {
            shared: shared.clone(),
            me: me.clone(),
            layers: BklCell::new(layers),
            place: BklCell::new(place),
            kind,
            ino: next_id(),
            mapped: BklCell::new(false),
        });
        if let Some(key) = key {
            made.register(key);
        }
        Ok(made)
    }
    fn register(&self, key: (u64, u64)) {
        self.shared.by_upper.with_mut(|m| {
            if m.len() > 4096 {
                m.retain(|_, w| w.strong_count() > 0);
            }
            m.insert(key, self.me.clone());
        });
    }
    /// Where its content is.
    fn top(&self) -> Result<InodeRef> {
        self.layers.with(|l| l.upper.clone().or_else(|| l.lower.first().cloned())).ok_or(EIO)
    }
    fn upper(&self) -> Option<InodeRef> {
        self.layers.with(|l| l.upper.clone())
    }
    fn has_lower(&self) -> bool {
        self.layers.with(|l| !l.lower.is_empty())
    }
    fn writable(&self) -> Result<()> {
        if self.shared.info.read_only { Err(EROFS) } else { Ok(()) }
    }
    /// The directories that a name is looked up in, highest first, and whether it is the upper one.
    fn dirs(&self) -> Result<Vec<(InodeRef, bool)>> {
        if self.kind != S_IFDIR {
            return Err(ENOTDIR);
        }
        Ok(self.layers.with(|l| {
            let upper = l.upper.iter().map(|i| (i.clone(), true));
            upper.chain(l.lower.iter().map(|i| (i.clone(), false))).collect()
        }))
    }
    fn child(&self, name: &[u8]) -> Result<Arc<OverlayInode>> {
        let found = find(&self.dirs()?, name)?;
        let me = self.me.upgrade().ok_or(EIO)?;
        Self::new(&self.shared, found, Some((me, name.to_vec())))
    }
    /// Does a layer below have something of this name?
    fn is_below(&self, name: &[u8]) -> Result<bool> {
        let below: Vec<_> = self.dirs()?.into_iter().filter(|(_, upper)| !upper).collect();
        match find(&below, name) {
            Ok(_) => Ok(true),
            Err(ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }
    /// Names of the merged directory, by layer.
    fn merged(&self) -> Result<Vec<super::inode::DirEntry>> {
        let (mut seen, mut out) = (BTreeSet::new(), Vec::new());
        for (dir, _) in self.dirs()? {
            for e in dir.list()? {
                if !seen.insert(e.name.clone()) {
                    continue;
                }
                // DT_CHR
                if e.d_type == 2 && entry(&dir, &e.name)?.is_none_or(|i| is_whiteout(&i)) {
                    continue;
                }
                out.push(e);
            }
        }
        Ok(out)
    }
    fn shown(&self, mut s: Stat) -> Stat {
        (s.dev, s.ino) = (self.shared.info.dev, self.ino);
        if self.kind == S_IFDIR && self.has_lower() {
            // Nobody counts the directories in it.
            s.nlink = 1;
        }
        s
    }
}
