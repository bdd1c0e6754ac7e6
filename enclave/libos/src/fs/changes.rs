//! The list of paths that the run changed in the root overlay, for the report at exit and for --keep. It is kept only if
//! one of them was asked for: it grows with every name that ever was.
use super::dentry::Dentry;
use super::host::{self, At};
use super::prelude::*;

static PATHS: BklCell<BTreeSet<Vec<u8>>> = BklCell::new(BTreeSet::new());

static WANTED: BklCell<bool> = BklCell::new(false);

/// Whether there will be a use for the list; before any program runs.
pub fn keep_list(wanted: bool) {
    WANTED.set(wanted);
}

/// Notes a change of what `d` names.
pub fn note(d: &Arc<Dentry>) {
    if WANTED.get()
        && d.inode().fs().reported
        && let Some(p) = d.path_from(&super::mount::root())
    {
        PATHS.with_mut(|s| s.insert(p));
    }
}
/// Notes a change of an entry of `dir`.
pub fn note_entry(dir: &Arc<Dentry>, name: &[u8]) {
    if WANTED.get()
        && dir.inode().fs().reported
        && let Some(mut p) = dir.path_from(&super::mount::root())
    {
        if p.last() != Some(&b'/') {
            p.push(b'/');
        }
        p.extend_from_slice(name);
        PATHS.with_mut(|s| s.insert(p));
    }
}
/// The list, in order.
pub fn paths() -> Vec<Vec<u8>> {
    PATHS.with(|s| s.iter().cloned().collect())
}
/// Does the host have something at this path, links not followed?
pub fn is_on_host(path: &[u8]) -> bool {
    let root = super::mount::root();
    let names = path.strip_prefix(b"/").unwrap_or(path);
    root.inode().fs().host.as_ref().is_some_and(|top| host::lstat(At::beneath(top, names)).is_ok())
}
/// Tells the host. Paths that exist neither here nor there were temporary.
pub fn report() {
    for p in PATHS.take() {
        let here = super::mount::exists(&p);
        if here || is_on_host(&p) {
            host::report_path(&p);
        }
    }
}
