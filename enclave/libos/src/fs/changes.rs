//! The list of paths that the run changed in the root overlay, for the report at exit and for --keep. It is kept only if
//! one of them was asked for: it grows with every name that ever was.
use super::dentry::Dentry;
use super::host::{self, At};
use super::prelude::*;

static PATHS: BklCell<BTreeSet<Vec<u8>>> = BklCell::new(BTreeSet::new());

static WANTED: BklCell<bool> = BklCell::new(false);
/// Something could not be noted.
static LOST: BklCell<bool> = BklCell::new(false);

/// Whether there will be a use for the list; before any program runs.
pub fn keep_list(wanted: bool) {
    WANTED.set(wanted);
}

/// Longest path that is noted.
const LONGEST: usize = 64 << 10;

/// Notes a change of what `d` names.
pub fn note(d: &Arc<Dentry>) {
    note_path(d, b"");
}
/// Notes a change of an entry of `dir`.
pub fn note_entry(dir: &Arc<Dentry>, name: &[u8]) {
    note_path(dir, name);
}
fn note_path(d: &Arc<Dentry>, name: &[u8]) {
    if !WANTED.get() || !d.inode().fs().reported {
        return;
    }
    let noted = d.path_from(&super::mount::root(), LONGEST).and_then(|mut p| {
        crate::mm::admit(2 * (p.len() + name.len()) as u64 + 128)?;
        if !name.is_empty() {
            if p.last() != Some(&b'/') {
                p.push(b'/');
            }
            p.extend_from_slice(name);
        }
        PATHS.with_mut(|s| s.insert(p));
        Ok(())
    });
    if matches!(noted, Err(ENAMETOOLONG | ENOMEM)) && !LOST.replace(true) {
        occlum_rt::log("occlum: there was no room to note all that the program changed\n");
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
