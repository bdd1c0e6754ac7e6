//! Names of inodes: a tree of dentries, with the mounts in it.
//!
//! A mounted root is the child of the mount point's parent, under the mount point's name: neither walking
//! down nor `..` nor path building needs a special case. Invariants: a cached child is the inode that its
//! directory would look up; mount dentries are never dropped from their parent. A dentry whose name was
//! removed is `deleted`. Where nothing is cached, `seen` are the dentries in use: a name that is looked up again is the same
//! dentry as long as it is the same inode, so that renaming and removing reach whoever has it.
use super::inode::InodeRef;
use super::prelude::*;
use super::uio::try_vec;

/// About what a name and its inode take of the heap.
const COST: u64 = 1 << 10;

/// A name in the tree.
pub struct Dentry {
    inode: InodeRef,
    parent: BklCell<Option<Arc<Dentry>>>,
    name: BklCell<Vec<u8>>,
    children: BklCell<BTreeMap<Vec<u8>, Arc<Dentry>>>,
    seen: BklCell<BTreeMap<Vec<u8>, Weak<Dentry>>>,
    deleted: BklCell<bool>,
    mount: bool,
}

impl Drop for Dentry {
    /// Lets go of the parents one after another: a deep chain of removed directories must not recurse.
    fn drop(&mut self) {
        let mut parent = self.leave();
        while let Some(d) = parent.and_then(Arc::into_inner) {
            parent = d.leave();
        }
    }
}

impl Dentry {
    fn make(inode: InodeRef, parent: Option<Arc<Dentry>>, name: &[u8], mount: bool) -> Arc<Self> {
        Arc::new(Self {
            inode,
            parent: BklCell::new(parent),
            name: BklCell::new(name.to_vec()),
            children: BklCell::new(BTreeMap::new()),
            seen: BklCell::new(BTreeMap::new()),
            deleted: BklCell::new(false),
            mount,
        })
    }
    /// Nobody has it any more: gives its parent up.
    fn leave(&self) -> Option<Arc<Dentry>> {
        let parent = self.parent.replace(None)?;
        self.name.with(|name| {
            parent.seen.with_mut(|seen| {
                // The name may be another's by now.
                if seen.get(name).is_some_and(|w| w.strong_count() == 0) {
                    seen.remove(name);
                }
            });
        });
        Some(parent)
    }
    /// The root of the tree.
    pub fn new_root(inode: InodeRef) -> Arc<Self> {
        Self::make(inode, None, b"", true)
    }
    /// A name outside the tree (pipes, memfd): `name` is shown as it is.
    pub fn anonymous(inode: InodeRef, name: &[u8]) -> Arc<Self> {
        Self::make(inode, None, name, false)
    }
    /// The inode.
    pub fn inode(&self) -> &InodeRef {
        &self.inode
    }
    /// The directory it is in; itself at the root.
    pub fn parent(self: &Arc<Self>) -> Arc<Self> {
        self.parent.with(|p| p.clone()).unwrap_or_else(|| self.clone())
    }
    /// Last component.
    pub fn name(&self) -> Vec<u8> {
        self.name.with(|n| n.clone())
    }
    /// Is it the root of a mount?
    pub fn is_mount(&self) -> bool {
        self.mount
    }
    /// Was its name removed?
    pub fn is_deleted(&self) -> bool {
        self.deleted.get()
    }

    /// The child of that name.
    pub fn lookup(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Self>> {
        let hit = self.children.with(|c| c.get(name).cloned());
        if let Some(d) = &hit
            && (d.mount || self.inode.fs().cached)
        {
            return Ok(d.clone());
        }
        if self.is_deleted() {
            return Err(ENOENT);
        }
        crate::mm::admit(COST)?;
        let inode = self.inode.lookup(name)?;
        let hit = hit.or_else(|| self.seen.with(|s| s.get(name).and_then(Weak::upgrade)));
        if let Some(d) = hit
            && Arc::ptr_eq(&d.inode, &inode)
        {
            return Ok(d);
        }
        Ok(self.attach(name, inode))
    }
    /// Notes that `name` is `inode`.
    pub fn attach(self: &Arc<Self>, name: &[u8], inode: InodeRef) -> Arc<Self> {
        let d = Self::make(inode, Some(self.clone()), name, false);
        self.put(name, &d);
        d
    }
    fn put(&self, name: &[u8], d: &Arc<Self>) {
        if self.inode.fs().cached {
            self.children.with_mut(|c| c.insert(name.to_vec(), d.clone()));
        } else {
            self.seen.with_mut(|s| s.insert(name.to_vec(), Arc::downgrade(d)));
        }
    }
    fn take(&self, name: &[u8]) -> Option<Arc<Self>> {
        let seen = self.seen.with_mut(|s| s.remove(name));
        self.children.with_mut(|c| c.remove(name)).or_else(|| seen.and_then(|w| w.upgrade()))
    }
    /// Mounts `root` at `name` of this directory.
    pub fn mount(self: &Arc<Self>, name: &[u8], root: InodeRef) -> Arc<Self> {
        let d = Self::make(root, Some(self.clone()), name, true);
        self.children.with_mut(|c| c.insert(name.to_vec(), d.clone()));
        d
    }
    /// Takes the mount at `name` away: what it hid is seen again.
    pub fn unmount(&self, name: &[u8]) {
        drop(self.children.with_mut(|c| c.remove(name)));
    }
    /// Forgets `name` after it was removed from the directory.
    pub fn detach(&self, name: &[u8]) {
        if let Some(d) = self.take(name) {
            d.deleted.set(true);
        }
    }
    /// Follows a rename that the file system has done.
    pub fn renamed(
        self: &Arc<Self>,
        old: &[u8],
        to: &Arc<Self>,
        new: &[u8],
        moved: &Arc<Self>,
        exchange: bool,
    ) {
        let (a, b) = (self.take(old), to.take(new));
        let place = |d: &Arc<Self>, dir: &Arc<Self>, name: &[u8]| {
            d.parent.set(Some(dir.clone()));
            d.name.set(name.to_vec());
            dir.put(name, d);
        };
        place(a.as_ref().unwrap_or(moved), to, new);
        match b {
            Some(b) if exchange => place(&b, self, old),
            Some(b) => b.deleted.set(true),
            None => {}
        }
    }
    /// Is `self` this directory or below it?
    pub fn is_below(self: &Arc<Self>, dir: &Arc<Self>) -> bool {
        let mut d = self.clone();
        loop {
            if Arc::ptr_eq(&d, dir) {
                return true;
            }
            let Some(p) = d.parent.with(|p| p.clone()) else { return false };
            d = p;
        }
    }
    /// Names of the mounts directly in this directory.
    pub fn mounts_in(&self) -> Vec<Arc<Self>> {
        self.children.with(|c| c.values().filter(|d| d.mount).cloned().collect())
    }

    /// The path from `root`. ENOENT: it is not below it; ENAMETOOLONG: it is longer than `most`.
    pub fn path_from(self: &Arc<Self>, root: &Arc<Self>, most: usize) -> Result<Vec<u8>> {
        let up = |d: &Arc<Self>| d.parent.with(|p| p.clone()).ok_or(ENOENT);
        let (mut d, mut len) = (self.clone(), 0);
        while !Arc::ptr_eq(&d, root) {
            len += 1 + d.name.with(Vec::len);
            if len > most {
                return Err(ENAMETOOLONG);
            }
            d = up(&d)?;
        }
        let mut out = try_vec(len.max(1))?;
        out[0] = b'/';
        let (mut d, mut at) = (self.clone(), len);
        while !Arc::ptr_eq(&d, root) {
            d.name.with(|n| {
                at -= 1 + n.len();
                out[at] = b'/';
                out[at + 1..at + 1 + n.len()].copy_from_slice(n);
            });
            d = up(&d)?;
        }
        Ok(out)
    }
    /// The whole path, as /proc shows it: anonymous names as they are, removed names marked.
    pub fn path(self: &Arc<Self>) -> Result<Vec<u8>> {
        let mut out = match self.path_from(&super::mount::root(), PATH_MAX - 1) {
            Err(ENOENT) => self.name(),
            r => r?,
        };
        if self.is_deleted() {
            out.extend_from_slice(b" (deleted)");
        }
        Ok(out)
    }
}
