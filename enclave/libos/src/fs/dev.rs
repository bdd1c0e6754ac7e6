//! Character devices: null, zero, full, random, urandom, tty, ptmx; and the /dev directory.
use super::file::File;
use super::inode::{FsInfo, Inode, InodeRef};
use super::memfs::MemInode;
use super::prelude::*;
use super::uio::{Dst, Src, partial};
use super::{pty, tty};
use crate::sched::Breath;

/// `dev_t` of a major and minor number.
pub const fn makedev(major: u64, minor: u64) -> u64 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12
}
/// /dev/null.
pub const NULL: u64 = makedev(1, 3);
/// /dev/zero.
pub const ZERO: u64 = makedev(1, 5);
const FULL: u64 = makedev(1, 7);
const RANDOM: u64 = makedev(1, 8);
const URANDOM: u64 = makedev(1, 9);
const TTY: u64 = makedev(5, 0);
const CONSOLE: u64 = makedev(5, 1);
/// Opening it makes a pseudo-terminal.
pub const PTMX: u64 = makedev(5, 2);
/// Nodes of terminals: minor numbers count them.
pub const PTS0: u64 = makedev(136, 0);
/// Minor numbers that lie side by side.
const PTS_MAX: u64 = 256;

/// Memory devices.
struct Mem(u64);

impl Mem {
    fn fill(&self, dst: &mut Dst) -> Result<usize> {
        let mut buf = [0u8; 512];
        let (mut total, mut breath) = (0, Breath::begin());
        while dst.remaining() > 0 {
            // A kernel buffer is short, and its owner may know of room that others would take.
            if matches!(dst, Dst::User(_)) && breath.take() {
                break;
            }
            if self.0 == RANDOM || self.0 == URANDOM {
                occlum_rt::random::fill(&mut buf);
            }
            match dst.push(&buf) {
                Ok(n) => total += n,
                Err(e) => return partial(total, e),
            }
        }
        Ok(total)
    }
}
impl File for Mem {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        if self.0 == NULL { Ok(0) } else { self.fill(dst) }
    }
    fn try_write(&self, src: &mut Src) -> Result<usize> {
        if self.0 == FULL {
            return Err(ENOSPC);
        }
        let n = src.remaining();
        if self.0 == NULL {
            // As in Linux, the data is not even looked at.
            *src = Src::kernel(&[]);
            return Ok(n);
        }
        let (mut buf, mut breath) = ([0u8; 512], Breath::begin());
        while src.pull(&mut buf)? > 0 {
            breath.take();
        }
        Ok(n)
    }
    fn pread(&self, _off: u64, dst: &mut Dst) -> Result<usize> {
        self.try_read(dst)
    }
    fn pwrite(&self, _off: u64, src: &mut Src) -> Result<usize> {
        self.try_write(src)
    }
    fn seek(&self, _whence: u32, _off: i64) -> Result<u64> {
        Ok(0)
    }
}

/// Opens a character device.
pub fn open(rdev: u64, _node: &InodeRef, flags: u32) -> Result<Arc<dyn File>> {
    match rdev {
        NULL | ZERO | FULL | RANDOM | URANDOM => Ok(Arc::new(Mem(rdev))),
        TTY => tty::open_controlling(),
        PTMX => Ok(pty::open_master()?),
        CONSOLE => tty::open(tty::console(), flags),
        _ if (PTS0..PTS0 + PTS_MAX).contains(&rdev) => tty::open(tty::by_index((rdev - PTS0) as u32), flags),
        _ => Err(ENXIO),
    }
}

/// Builds /dev.
pub fn build(fs: &Arc<FsInfo>, owner: (u32, u32), with_tty: bool) -> Arc<MemInode> {
    let root = MemInode::new(fs, S_IFDIR | 0o755, (0, 0), 0);
    let devices: [(&[u8], u64); 7] = [
        (b"null", NULL),
        (b"zero", ZERO),
        (b"full", FULL),
        (b"random", RANDOM),
        (b"urandom", URANDOM),
        (b"tty", TTY),
        (b"ptmx", PTMX),
    ];
    for (name, rdev) in devices {
        root.add(name, MemInode::new(fs, S_IFCHR | 0o666, (0, 0), rdev));
    }
    let links: [(&[u8], &[u8]); 5] = [
        (b"fd", b"/proc/self/fd"),
        (b"stdin", b"/proc/self/fd/0"),
        (b"stdout", b"/proc/self/fd/1"),
        (b"stderr", b"/proc/self/fd/2"),
        (b"core", b"/proc/kcore"),
    ];
    for (name, target) in links {
        // Fails only if the name is taken.
        let _ = root.symlink(name, target, (0, 0));
    }
    root.add(b"shm", MemInode::new(fs, S_IFDIR | 0o1777, (0, 0), 0));
    root.add(b"pts", MemInode::new(fs, S_IFDIR | 0o755, (0, 0), 0));
    if with_tty {
        root.add(b"console", MemInode::new(fs, S_IFCHR | 0o600, owner, CONSOLE));
    }
    root
}
