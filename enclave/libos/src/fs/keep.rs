//! `--keep DIR`: at exit the changed files of the root overlay are written into a host directory.
//!
//! Neighbours: `changes` (which paths), `host` (writing). Each changed path becomes DIR/path with its mode; paths that
//! were removed are listed in DIR/.occlum-removed, one a line.
use super::InodeRef;
use super::host::{self, At, HostFd, Op};
use super::prelude::*;

static DIRECTORY: BklCell<Option<Arc<HostFd>>> = BklCell::new(None);
const LIST: &[u8] = b".occlum-removed";
const O_WRONLY_CREAT_TRUNC: u32 = 0o1101;
const PIECE: usize = 256 << 10;

/// Where to save; empty: nowhere. Before any program runs: none can lead it elsewhere.
pub fn set_directory(path: &[u8]) -> Result<()> {
    if !path.is_empty() {
        DIRECTORY.set(Some(host::open_top(path)?));
    }
    Ok(())
}

/// Saves what changed. A file that can't be written is named on the log; the others go on.
pub fn save() {
    let Some(dir) = DIRECTORY.with(Clone::clone) else { return };
    let mut removed = Vec::new();
    for path in super::changes::paths() {
        let Some(d) = super::mount::lookup_path(&path) else {
            if super::changes::is_on_host(&path) {
                removed.extend_from_slice(&path);
                removed.push(b'\n');
            }
            continue;
        };
        let names = path.strip_prefix(b"/").unwrap_or(&path);
        if let Err(e) = make_parents(&dir, names).and_then(|()| save_one(d.inode(), At::beneath(&dir, names)))
        {
            let name = String::from_utf8_lossy(&path).into_owned();
            occlum_rt::log(&alloc::format!("occlum: --keep: {name}: {e:?}\n"));
        }
    }
    if !removed.is_empty() {
        let _ = write_file(At::beneath(&dir, LIST), 0o644, &mut |off, buf: &mut [u8]| {
            let left = removed.get(off as usize..).unwrap_or_default();
            let n = left.len().min(buf.len());
            buf[..n].copy_from_slice(&left[..n]);
            Ok(n)
        });
    }
}

fn existing_is_fine(r: Result<()>) -> Result<()> {
    match r {
        Err(EEXIST) => Ok(()),
        r => r,
    }
}

fn make_parents(dir: &HostFd, names: &[u8]) -> Result<()> {
    for (i, _) in names.iter().enumerate().filter(|(_, c)| **c == b'/') {
        existing_is_fine(host::path_op(Op::Mkdir, 0o755, 0, At::beneath(dir, &names[..i])))?;
    }
    Ok(())
}

fn save_one(inode: &InodeRef, target: At) -> Result<()> {
    let mode = inode.stat()?.mode & 0o7777;
    match inode.kind() {
        S_IFDIR => existing_is_fine(host::path_op(Op::Mkdir, u64::from(mode | 0o700), 0, target)),
        S_IFLNK => host::symlink(&inode.readlink()?, target),
        S_IFREG => write_file(target, mode, &mut |off, buf: &mut [u8]| inode.read_at(off, buf)),
        // Devices, sockets and FIFOs mean nothing outside.
        _ => Ok(()),
    }
}

fn write_file(at: At, mode: u32, read: &mut dyn FnMut(u64, &mut [u8]) -> Result<usize>) -> Result<()> {
    let fd = host::open(at, O_WRONLY_CREAT_TRUNC, mode | 0o200)?;
    let mut buf = alloc::vec![0u8; PIECE];
    let mut off = 0;
    let result = loop {
        let n = match read(off, &mut buf) {
            Ok(0) => break Ok(()),
            Ok(n) => n,
            Err(e) => break Err(e),
        };
        match host::pwrite(fd, off, &buf[..n]) {
            Ok(m) if m > 0 => off += m as u64,
            Ok(_) => break Err(EIO),
            Err(e) => break Err(e),
        }
    };
    host::close(fd);
    result?;
    host::path_op(Op::Chmod, u64::from(mode), 0, at)
}
