//! The mounts, built once at start: those of `occlum try` (root overlay, /proc, /sys, /dev, bind mounts), or those of
//! the measured table (`table`).
use super::below::Below;
use super::bind;
use super::dentry::Dentry;
use super::inode::{FsInfo, InodeRef, next_dev};
use super::memfs::MemInode;
use super::prelude::*;
use super::tmpfs::MAGIC as TMPFS;
use super::{dev, host, proc, pty, sealed, sys};
use occlum_enclave_abi::{FLAG_REPORT_CHANGES, LaunchParams};

#[path = "table_of_mounts.rs"]
mod table;

/// A line of /proc/mounts.
pub struct Mount {
    /// Root of the mounted tree.
    pub dentry: Arc<Dentry>,
    /// File system.
    pub info: Arc<FsInfo>,
}

static ROOT: BklCell<Option<Arc<Dentry>>> = BklCell::new(None);
static MOUNTS: BklCell<Vec<Mount>> = BklCell::new(Vec::new());

/// The root directory.
pub fn root() -> Arc<Dentry> {
    match ROOT.with(|r| r.clone()) {
        Some(r) => r,
        // Before `init` (a LibOS bug elsewhere): an empty tree rather than a panic.
        None => {
            let r = Dentry::new_root(MemInode::new(&info("tmpfs", TMPFS, true), S_IFDIR | 0o755, (0, 0), 0));
            ROOT.set(Some(r.clone()));
            r
        }
    }
}

/// A file system that is not on the host.
pub fn info(name: &'static str, magic: u64, cached: bool) -> Arc<FsInfo> {
    Arc::new(FsInfo { name, magic, dev: next_dev(), read_only: false, cached, reported: false, host: None })
}

/// A layer in memory over what is below, which only `occlum try` shows and reports changes of.
fn overlay(below: Below, reported: bool) -> Result<InodeRef> {
    let host = match &below {
        Below::Host(top, _) if reported => Some(top.clone()),
        _ => None,
    };
    let fs = Arc::new(FsInfo {
        name: "overlay",
        magic: 0x794c_7630,
        dev: next_dev(),
        read_only: false,
        cached: true,
        reported,
        host,
    });
    Ok(MemInode::over(&fs, below)?)
}

/// The root of `occlum try`.
fn host_root() -> InodeRef {
    let empty = |_| -> InodeRef { MemInode::new(&info("tmpfs", TMPFS, true), S_IFDIR | 0o755, (0, 0), 0) };
    let below = host::open_top(b"/").map(|top| Below::Host(top, Vec::new()));
    below.and_then(|below| overlay(below, true)).unwrap_or_else(empty)
}

fn set_root(inode: InodeRef) {
    let info = inode.fs().clone();
    let d = Dentry::new_root(inode);
    MOUNTS.with_mut(|m| m.push(Mount { dentry: d.clone(), info }));
    ROOT.set(Some(d));
}

/// Walks `path` (no links, no `..`) down from the root.
pub fn lookup_path(path: &[u8]) -> Option<Arc<Dentry>> {
    let mut d = root();
    for name in path.split(|c| *c == b'/').filter(|n| !n.is_empty()) {
        d = d.lookup(name).ok()?;
    }
    Some(d)
}
/// Is there something at this path?
pub fn exists(path: &[u8]) -> bool {
    lookup_path(path).is_some()
}

/// Mounts `inode` at `path`, making the directories that lead there (in memory only).
pub fn mount(path: &[u8], inode: InodeRef) -> Result<Arc<Dentry>> {
    let mut names: Vec<&[u8]> = path.split(|c| *c == b'/').filter(|n| !n.is_empty()).collect();
    let last = names.pop().ok_or(EINVAL)?;
    if names.iter().chain([&last]).any(|n| *n == b"." || *n == b".." || n.len() > NAME_MAX) {
        return Err(EINVAL);
    }
    let mut d = root();
    for name in names {
        d = descend(&d, name)?;
    }
    if !inode.is_dir() || d.lookup(last).is_err() {
        let kind = inode.kind() | 0o755;
        match d.inode().create(last, kind, (0, 0), 0) {
            Ok(_) | Err(EEXIST) => {}
            // The name is then shown in listings as a mount only.
            Err(_) => {}
        }
    }
    let info = inode.fs().clone();
    let m = d.mount(last, inode);
    MOUNTS.with_mut(|v| v.push(Mount { dentry: m.clone(), info }));
    Ok(m)
}
fn descend(d: &Arc<Dentry>, name: &[u8]) -> Result<Arc<Dentry>> {
    let next = match d.lookup(name) {
        Ok(n) => n,
        Err(ENOENT) => {
            d.inode().create(name, S_IFDIR | 0o755, (0, 0), 0)?;
            d.lookup(name)?
        }
        Err(e) => return Err(e),
    };
    if next.inode().kind() != S_IFLNK {
        return Ok(next);
    }
    // A link on the way to a mount point (/var/run): follow it the plain way.
    let fs = super::table::FsContext::new(root(), root(), 0);
    let cred = super::path::Cred { caps: crate::process::caps::ALL, ..super::path::Cred::default() };
    super::path::walk(&fs, &cred, d, name, super::path::Last::Follow)?.get()
}

/// Builds the tree.
pub fn init(params: &LaunchParams) {
    let config = crate::policy::config();
    if config.is_host_view() {
        set_root(host_root());
        mount_kernel(params);
        log_failure("what --keep names", super::keep::set_directory(&params.keep));
        super::changes::keep_list(!params.keep.is_empty() || params.flags & FLAG_REPORT_CHANGES != 0);
        mount_binds(params);
    } else if let Err(e) = table::mount_all(&config.mounts, params) {
        // A program that was to have a file system must not run without it.
        crate::boot::fail(125, &e, "OC312");
    }
}

/// Is there a terminal among the standard streams?
fn with_terminal(params: &LaunchParams) -> bool {
    params.flags >> 3 & 7 != 0
}

/// /dev and what belongs below it.
fn mount_dev(params: &LaunchParams) -> Result<()> {
    let (owner, with_tty) = ((params.uid, params.gid), with_terminal(params));
    mount(b"/dev", dev::build(&info("devtmpfs", TMPFS, true), owner, with_tty))?;
    mount(b"/dev/pts", pty::root(owner, with_tty))?;
    mount(b"/dev/mqueue", crate::ipc::mq::root()).map(drop)
}

fn log_failure(what: &str, r: Result<()>) {
    if let Err(e) = r {
        occlum_rt::log(&alloc::format!("occlum: cannot mount {what}: {e}\n"));
    }
}

/// What every tree has. Errors are logged, not fatal: the program will see them.
fn mount_kernel(params: &LaunchParams) {
    log_failure("/dev", mount_dev(params));
    log_failure("/proc", mount(b"/proc", proc::root()).map(drop));
    log_failure("/sys", mount(b"/sys", sys::build()).map(drop));
}

fn mount_binds(params: &LaunchParams) {
    for (from, to, flags) in &params.binds {
        let name = String::from_utf8_lossy(to).into_owned();
        let flags = MountFlags::parse(flags);
        if flags.sealed {
            mount_sealed(from, to, &flags);
        } else {
            log_failure(&name, bind::root(from, flags.read_only).and_then(|i| mount(to, i)).map(drop));
        }
    }
}

/// What the text behind a mount says.
#[derive(Default)]
struct MountFlags {
    read_only: bool,
    sealed: bool,
    key: Option<[u8; 32]>,
    root: Option<[u8; 28]>,
    /// Path of a file that plays the counter.
    counter: Option<Vec<u8>>,
}
impl MountFlags {
    fn parse(text: &[u8]) -> Self {
        let mut flags = Self::default();
        for word in text.split(|c| *c == b',') {
            match word {
                b"ro" => flags.read_only = true,
                b"sealed" => flags.sealed = true,
                _ => {
                    flags.key = flags.key.or(word.strip_prefix(b"key=").and_then(from_hex));
                    flags.root = flags.root.or(word.strip_prefix(b"root=").and_then(from_hex));
                    flags.counter = flags.counter.or(word.strip_prefix(b"counter=").and_then(bytes_of_hex));
                }
            }
        }
        flags
    }
}
/// Any number of bytes.
fn bytes_of_hex(text: &[u8]) -> Option<Vec<u8>> {
    text.chunks(2).map(|pair| from_hex::<1>(pair).map(|[b]| b)).collect()
}
/// Exactly as many bytes.
pub(super) fn from_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    let mut out = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// A program that was to have a store must not run without it.
fn mount_sealed(from: &[u8], to: &[u8], flags: &MountFlags) {
    let (key, root, read_only) = (flags.key.as_ref(), flags.root, flags.read_only);
    let insecure_counter = flags.counter.as_deref();
    let spec =
        sealed::Spec { source: from, key, root, read_only, insecure_counter, ..sealed::Spec::default() };
    let name = |path| String::from_utf8_lossy(path).into_owned();
    let mounted = sealed::open(&spec)
        .and_then(|root| mount(to, root).map_err(|e| alloc::format!("cannot be mounted there: {e}")));
    if let Err(e) = mounted {
        let text = alloc::format!("sealed store {} for {}: {e}", name(from), name(to));
        crate::boot::fail(125, &text, "OC312");
    }
}

/// Notes a tree that was mounted later.
pub fn add(dentry: Arc<Dentry>) {
    let info = dentry.inode().fs().clone();
    MOUNTS.with_mut(|v| v.push(Mount { dentry, info }));
}
/// Forgets it.
pub fn remove(dentry: &Arc<Dentry>) {
    MOUNTS.with_mut(|v| v.retain(|m| !Arc::ptr_eq(&m.dentry, dentry)));
}

/// Visits the mounts.
pub fn each(mut f: impl FnMut(&Mount)) {
    MOUNTS.with(|m| m.iter().for_each(&mut f));
}

/// `statfs` numbers of a file system: type, bsize, blocks, bfree, bavail, files, ffree, namelen.
pub fn statfs(info: &FsInfo) -> [u64; 8] {
    if let Some(s) = super::tmpfs::statfs(info) {
        return s;
    }
    if let Some(top) = &info.host
        && let Ok(mut s) = host::statfs(top)
    {
        if !info.reported {
            return s;
        }
        s[0] = info.magic;
        return s;
    }
    let total = 1 << 20;
    match info.name {
        "tmpfs" | "devtmpfs" | "overlay" => {
            [info.magic, PAGE, total, total, total, total, total, NAME_MAX as u64]
        }
        _ => [info.magic, PAGE, 0, 0, 0, 0, 0, NAME_MAX as u64],
    }
}
