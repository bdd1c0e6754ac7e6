//! The measured mount table: what an instance's programs see.
//!
//! Neighbours: `mount` (puts inodes into the tree), `sealed`, `memfs`, `bind`. The table is measured; where its sources
//! are on the host is not, so what is found there is held to its root or key, or is the host's and not trusted.
//! Invariant: all of it is mounted, or nothing runs.
use super::{
    Below, InodeRef, MemInode, bind, host, info, mount, mount_dev, overlay, proc, sealed, set_root, sys,
};
use crate::fs::prelude::*;
use crate::fs::tmpfs::MAGIC as TMPFS;
use alloc::format;
use occlum_enclave_abi::{LaunchParams, MOUNT_READ_ONLY, Mount, MountKind, SOURCE_COUNTER, SOURCE_IMAGE_KEY};
use occlum_sgx_arch::keys::policy;

/// Why a mount failed, for the user.
type Outcome<T> = core::result::Result<T, String>;

/// Mounts the rows in order; rows of one target that follow each other are layers.
pub(super) fn mount_all(rows: &[Mount], params: &LaunchParams) -> Outcome<()> {
    for layers in rows.chunk_by(|a, b| a.target == b.target) {
        mount_layers(layers, params).map_err(|e| {
            let target = layers.first().map_or(&b""[..], |m| &m.target);
            format!("{}: {e}", String::from_utf8_lossy(target))
        })?;
    }
    Ok(())
}

fn mount_layers(layers: &[Mount], params: &LaunchParams) -> Outcome<()> {
    let Some(top) = layers.last() else { return Ok(()) };
    let text = |e| format!("cannot be mounted there: {e}");
    if top.kind == MountKind::DevFs {
        return mount_dev(params).map_err(text);
    }
    let inode = match layers {
        [one] => single(one, params)?,
        [below, above] if above.kind == MountKind::RamFs => {
            overlay(under(below, params)?, false).map_err(|e| format!("what is below cannot be read: {e}"))?
        }
        _ => stacked(layers, params)?,
    };
    if top.target == b"/" {
        set_root(inode);
        return Ok(());
    }
    mount(&top.target, inode).map(drop).map_err(text)
}

/// Layers that each are a file system: what is changed goes to the last, unless that is only read, too.
fn stacked(layers: &[Mount], params: &LaunchParams) -> Outcome<InodeRef> {
    let roots: Outcome<Vec<InodeRef>> = layers.iter().map(|row| single(row, params)).collect();
    let read_only = layers.last().is_some_and(|top| top.flags & MOUNT_READ_ONLY != 0);
    crate::fs::overlay::root(roots?, read_only).map_err(|e| format!("the layers cannot be read: {e}"))
}

/// A mount of one layer.
fn single(row: &Mount, params: &LaunchParams) -> Outcome<InodeRef> {
    let read_only = row.flags & MOUNT_READ_ONLY != 0;
    match row.kind {
        MountKind::SealedImage => image(row, params),
        MountKind::HostFs => {
            bind::root(source(row, params)?, read_only).map_err(|e| format!("the host's directory: {e}"))
        }
        MountKind::RamFs => {
            let mode = S_IFDIR | if row.target == b"/" { 0o755 } else { 0o1777 };
            Ok(MemInode::new(&info("tmpfs", TMPFS, true), mode, (0, 0), 0))
        }
        MountKind::ProcFs => Ok(proc::root()),
        MountKind::SysFs => Ok(sys::build()),
        MountKind::SealedLayer => layer(row, params),
        MountKind::DevFs => Err(String::from("this kind cannot stand there alone")),
    }
}

/// What a layer in memory stands over.
fn under(row: &Mount, params: &LaunchParams) -> Outcome<Below> {
    match row.kind {
        MountKind::SealedImage => Ok(Below::Image(image(row, params)?, row.target.clone())),
        MountKind::HostFs => match host::open_top(source(row, params)?) {
            Ok(top) => Ok(Below::Host(top, Vec::new())),
            Err(e) => Err(format!("the host's directory: {e}")),
        },
        _ => Err(String::from("only an image or a directory of the host can be below")),
    }
}

fn image(row: &Mount, params: &LaunchParams) -> Outcome<InodeRef> {
    let root = row.root.first_chunk().copied();
    let key = if is_image_keyed(row) { Some(image_key(params)?) } else { None };
    let source = source(row, params)?;
    let spec = sealed::Spec { source, key: key.as_ref(), root, read_only: true, ..sealed::Spec::default() };
    sealed::open(&spec).map_err(|e| format!("the image is not the one that was built: {e}"))
}

/// A writable layer; made at its first start.
fn layer(row: &Mount, params: &LaunchParams) -> Outcome<InodeRef> {
    /// Bytes of a layer whose row names none.
    const SIZE: u64 = 16 << 30;
    let bits = number(row, b"policy=").and_then(|bits| u16::try_from(bits).ok()).unwrap_or(policy::MRENCLAVE);
    if bits & (policy::MRENCLAVE | policy::MRSIGNER) == 0 {
        return Err(String::from("its key policy names neither MRENCLAVE nor MRSIGNER"));
    }
    let svn = crate::policy::config().identity.svn;
    let key = if is_image_keyed(row) {
        image_key(params)?
    } else {
        crate::seal::layer_key(&row.target, bits, svn)?
    };
    let older = |steps: u16| {
        let svn = svn.checked_sub(steps)?.checked_sub(1)?;
        crate::seal::layer_key(&row.target, bits, svn).ok()
    };
    let read_only = row.flags & MOUNT_READ_ONLY != 0;
    let instance = params.sources.iter().find(|(name, _)| name == SOURCE_COUNTER);
    let counter = crate::seal::counter(instance.map_or(&[], |(_, id)| id), &row.target, bits)?;
    let spec = sealed::Spec {
        source: source(row, params)?,
        key: Some(&key),
        older: if is_image_keyed(row) { None } else { Some(&older) },
        root: None,
        read_only,
        counter: Some(counter),
        insecure_counter: None,
    };
    sealed::open_or_make(&spec, number(row, b"size=").unwrap_or(SIZE))
}

/// Does the image key open it, rather than one of the CPU's?
fn is_image_keyed(row: &Mount) -> bool {
    row.options.split(|c| *c == b',').any(|option| option == b"key=image")
}

/// The image key, which the host hands over; a wrong one opens nothing.
fn image_key(params: &LaunchParams) -> Outcome<[u8; 32]> {
    let given = params.sources.iter().find(|(name, _)| name == SOURCE_IMAGE_KEY);
    let (_, digits) = given.ok_or_else(|| String::from("it needs the image key"))?;
    crate::fs::mount::from_hex(digits).ok_or_else(|| String::from("what was given is no image key"))
}

/// A number among a row's options.
fn number(row: &Mount, name: &[u8]) -> Option<u64> {
    let value = row.options.split(|c| *c == b',').find_map(|o| o.strip_prefix(name))?;
    core::str::from_utf8(value).ok()?.parse().ok()
}

/// Where the host says that a source is.
fn source<'a>(row: &Mount, params: &'a LaunchParams) -> Outcome<&'a [u8]> {
    let found = params.sources.iter().find(|(name, _)| *name == row.source);
    found
        .map(|(_, path)| path.as_slice())
        .ok_or_else(|| format!("the host does not say where {} is", String::from_utf8_lossy(&row.source)))
}
