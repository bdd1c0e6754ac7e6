//! What a layer in memory stands over: the host's files (`occlum try`), or those of an image.
//!
//! Neighbours: `memfs` (the layer), `pages` (content), `host`, `sealed`. Invariant: nothing below is ever changed. What
//! the host gives is only as good as the host; what an image gives is proven by its root, and where it is not there,
//! the file is named in the log and cannot be read.
use super::host::{self, At, HostFd};
use super::inode::{DirEntry, InodeRef, Stat};
use super::memfs::stat_of_host;
use super::prelude::*;

/// An object below.
#[derive(Clone)]
pub enum Below {
    /// Names beneath a directory of the host's.
    Host(Arc<HostFd>, Vec<u8>),
    /// An object of an image, and its path there.
    Image(InodeRef, Vec<u8>),
}

/// A name in a directory, of which no name is the top.
fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut p = dir.to_vec();
    if !p.is_empty() && p.last() != Some(&b'/') {
        p.push(b'/');
    }
    p.extend_from_slice(name);
    p
}

impl Below {
    /// The entry of a directory. The host's may turn out not to be there when it is used.
    pub fn child(&self, name: &[u8]) -> Result<Self> {
        match self {
            Self::Host(top, path) => Ok(Self::Host(top.clone(), join(path, name))),
            Self::Image(inode, path) => {
                let child = self.checked(inode.lookup(name))?;
                Ok(Self::Image(child, join(path, name)))
            }
        }
    }
    /// Metadata.
    pub fn stat(&self) -> Result<Stat> {
        match self {
            Self::Host(top, path) => Ok(stat_of_host(&host::lstat(At::beneath(top, path))?)),
            Self::Image(inode, _) => self.checked(inode.stat()),
        }
    }
    /// Text of a symbolic link.
    pub fn readlink(&self) -> Result<Vec<u8>> {
        match self {
            Self::Host(top, path) => Ok(host::readlink(At::beneath(top, path))?),
            Self::Image(inode, _) => self.checked(inode.readlink()),
        }
    }
    /// Entries of a directory.
    pub fn list(&self) -> Result<Vec<DirEntry>> {
        match self {
            Self::Host(top, path) => {
                let entry = |e: host::HostEntry| DirEntry { ino: e.ino, d_type: e.d_type, name: e.name };
                Ok(host::list(At::beneath(top, path))?.into_iter().map(entry).collect())
            }
            Self::Image(inode, _) => self.checked(inode.list()),
        }
    }
    /// Content of an object of an image; the host's is read through a descriptor.
    pub fn read_image(&self, off: u64, buf: &mut [u8]) -> Result<usize> {
        match self {
            Self::Host(..) => Err(EINVAL),
            Self::Image(inode, _) => self.checked(inode.read_at(off, buf)),
        }
    }

    /// Says which file a failure is about; not again and again.
    fn checked<T>(&self, result: Result<T>) -> Result<T> {
        static LAST: BklCell<Vec<u8>> = BklCell::new(Vec::new());
        if let (Err(EIO), Self::Image(_, path)) = (&result, self)
            && LAST.replace(path.clone()) != *path
        {
            let name = String::from_utf8_lossy(path).into_owned();
            occlum_rt::log(&alloc::format!("occlum: {name}: the image is damaged there, or was changed\n"));
        }
        result
    }
}
