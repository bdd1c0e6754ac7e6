//! mount(2) and umount2(2) of tmpfs: trees in memory with a size, as tmpfs(5) describes them.
//!
//! Neighbours: `memfs` is the file system, and asks here before a tree of this kind grows; `mount` keeps the list. Other
//! mounts are the configuration's. Invariant: what a tree uses is counted by its device: pages of content, and nodes.
use super::dentry::Dentry;
use super::inode::{FsInfo, next_dev};
use super::memfs::MemInode;
use super::ops;
use super::path::Last;
use super::prelude::*;
use super::{env, mount};
use crate::process::caps;

/// `statfs` magic.
pub const MAGIC: u64 = 0x0102_1994;

/// Limits and use of one tree.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Most pages.
    pub pages: u64,
    /// Most nodes.
    pub nodes: u64,
    /// Pages in use.
    pub used_pages: u64,
    /// Nodes in use.
    pub used_nodes: u64,
}

static QUOTAS: BklCell<BTreeMap<u64, Quota>> = BklCell::new(BTreeMap::new());

/// The quota of a file system; `None`: it has none.
pub fn quota(fs: &FsInfo) -> Option<Quota> {
    QUOTAS.with(|q| if q.is_empty() { None } else { q.get(&fs.dev).copied() })
}
fn change(fs: &FsInfo, f: impl FnOnce(&mut Quota)) {
    QUOTAS.with_mut(|q| {
        if let Some(q) = q.get_mut(&fs.dev) {
            f(q);
        }
    });
}
/// May the tree get one more node? Counts it.
pub fn take_node(fs: &FsInfo) -> Result<()> {
    match quota(fs) {
        Some(q) if q.used_nodes >= q.nodes => Err(ENOSPC),
        Some(_) => {
            change(fs, |q| q.used_nodes += 1);
            Ok(())
        }
        None => Ok(()),
    }
}
/// A node with so many pages is gone.
pub fn give_back(fs: &FsInfo, pages: u64) {
    change(fs, |q| {
        q.used_nodes = q.used_nodes.saturating_sub(1);
        q.used_pages = q.used_pages.saturating_sub(pages);
    });
}
/// Pages that the tree may still get.
pub fn room(fs: &FsInfo) -> u64 {
    quota(fs).map_or(u64::MAX, |q| q.pages.saturating_sub(q.used_pages))
}
/// A file of the tree had `before` pages and has `after` now.
pub fn resized(fs: &FsInfo, before: u64, after: u64) {
    if before != after {
        change(fs, |q| q.used_pages = (q.used_pages + after).saturating_sub(before));
    }
}
/// `statfs` numbers.
pub fn statfs(fs: &FsInfo) -> Option<[u64; 8]> {
    let q = quota(fs)?;
    let (free, nodes) = (q.pages.saturating_sub(q.used_pages), q.nodes.saturating_sub(q.used_nodes));
    Some([fs.magic, PAGE, q.pages, free, free, q.nodes, nodes, NAME_MAX as u64])
}

struct Options {
    pages: u64,
    nodes: u64,
    mode: u32,
    owner: (u32, u32),
}

/// A number with the suffix k, m, g or t.
fn sized(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'm' | b'M' => (&text[..text.len() - 1], 1 << 20),
        b'g' | b'G' => (&text[..text.len() - 1], 1 << 30),
        b't' | b'T' => (&text[..text.len() - 1], 1u64 << 40),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn parse(data: &[u8]) -> Result<Options> {
    let half = crate::mm::total() / 2;
    let mut o = Options { pages: half, nodes: half, mode: 0o1777, owner: (0, 0) };
    let text = core::str::from_utf8(data).map_err(|_| EINVAL)?;
    for word in text.split(',').filter(|w| !w.is_empty()) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || sized(value).ok_or(EINVAL);
        // 0 means no limit.
        let limit = |n: u64| if n == 0 { u64::MAX / 2 } else { n };
        match key {
            "size" => match value.strip_suffix('%') {
                Some(percent) => {
                    let percent: u64 = percent.parse().map_err(|_| EINVAL)?;
                    o.pages = limit(crate::mm::total().saturating_mul(percent) / 100);
                }
                None => o.pages = limit(number()?.div_ceil(PAGE)),
            },
            "nr_blocks" => o.pages = limit(number()?),
            "nr_inodes" => o.nodes = limit(number()?),
            "mode" => o.mode = u32::from_str_radix(value, 8).map_err(|_| EINVAL)? & 0o7777,
            "uid" => o.owner.0 = value.parse().map_err(|_| EINVAL)?,
            "gid" => o.owner.1 = value.parse().map_err(|_| EINVAL)?,
            "noswap" | "inode32" | "inode64" => {}
            _ => return Err(EINVAL),
        }
    }
    Ok(o)
}

fn may_mount() -> Result<()> {
    if env::cred().can(caps::SYS_ADMIN) { Ok(()) } else { Err(EPERM) }
}

const MS_RDONLY: u64 = 1;
/// Flags that change nothing here: MS_NOSUID (set-ID bits give nothing anyway), MS_NODEV (only root makes device nodes),
/// MS_SYNCHRONOUS, MS_NOATIME, MS_NODIRATIME, MS_SILENT, MS_RELATIME, MS_STRICTATIME. MS_NOEXEC would, and is refused.
const MS_HARMLESS: u64 = 2 | 4 | 16 | 1 << 10 | 1 << 11 | 1 << 15 | 1 << 21 | 1 << 24;
/// What old programs put into the upper half.
const MS_MGC_MASK: u64 = 0xffff_0000;
const MS_MGC_VAL: u64 = 0xc0ed_0000;

/// mount(2): a new tmpfs.
pub fn mount_new(target: &[u8], kind: &[u8], flags: u64, data: &[u8]) -> Result<()> {
    may_mount()?;
    let flags = if flags & MS_MGC_MASK == MS_MGC_VAL { flags & !MS_MGC_MASK } else { flags };
    let at = ops::walk_at(AT_FDCWD, target, Last::Follow)?.get()?;
    if kind != b"tmpfs" {
        return Err(if matches!(kind, b"proc" | b"sysfs" | b"devtmpfs" | b"overlay") {
            EPERM
        } else {
            ENODEV
        });
    }
    if flags & !(MS_RDONLY | MS_HARMLESS) != 0 {
        return Err(EINVAL);
    }
    if !at.inode().is_dir() {
        return Err(ENOTDIR);
    }
    if at.is_mount() || !at.mounts_in().is_empty() {
        return Err(EBUSY);
    }
    let o = parse(data)?;
    crate::mm::admit(4096)?;
    let fs = Arc::new(FsInfo {
        name: "tmpfs",
        magic: MAGIC,
        dev: next_dev(),
        read_only: flags & MS_RDONLY != 0,
        cached: true,
        reported: false,
        host: None,
    });
    let q = Quota { pages: o.pages, nodes: o.nodes, used_pages: 0, used_nodes: 1 };
    QUOTAS.with_mut(|all| all.insert(fs.dev, q));
    let root = MemInode::new(&fs, S_IFDIR | o.mode, o.owner, 0);
    mount::add(at.parent().mount(&at.name(), root));
    Ok(())
}

/// Does a process use something of the tree?
fn is_used(root: &Arc<Dentry>) -> bool {
    let below = |d: &Arc<Dentry>| d.is_below(root);
    crate::process::Process::all().iter().any(|p| {
        let fs = p.fs();
        let files = p.files();
        let open = |fd: &i32| files.get(*fd).is_ok_and(|f| below(f.dentry()));
        below(&fs.cwd()) || below(&fs.root()) || files.fds().any(|f| open(&f))
    })
}

/// umount2(2): a tmpfs that was mounted by mount(2).
pub fn unmount(target: &[u8], flags: u64) -> Result<()> {
    const MNT_FORCE: u64 = 1;
    const MNT_DETACH: u64 = 2;
    const UMOUNT_NOFOLLOW: u64 = 8;
    if flags & !(MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW) != 0 {
        return Err(EINVAL);
    }
    may_mount()?;
    let last = if flags & UMOUNT_NOFOLLOW != 0 { Last::NoFollow } else { Last::Follow };
    let d = ops::walk_at(AT_FDCWD, target, last)?.get()?;
    if !d.is_mount() {
        return Err(EINVAL);
    }
    // The others are the configuration's.
    if quota(d.inode().fs()).is_none() {
        return Err(EBUSY);
    }
    if flags & MNT_DETACH == 0 && (!d.mounts_in().is_empty() || is_used(&d)) {
        return Err(EBUSY);
    }
    mount::remove(&d);
    d.parent().unmount(&d.name());
    Ok(())
}
