//! dnotify (F_NOTIFY): a signal when something happens in a directory.
//!
//! Neighbours: `inotify` hears of what happens and keeps who watches; `signal::owner` sends. Invariants: a descriptor table
//! has one watch for an open file at most; it ends when one of its descriptors of that file is closed.
use super::file::OpenFile;
use super::inotify::{self, Hears, event};
use super::prelude::*;
use crate::signal::owner::{Band, Kind};

const DN_ACCESS: u32 = 1;
const DN_MODIFY: u32 = 2;
const DN_CREATE: u32 = 4;
const DN_DELETE: u32 = 8;
const DN_RENAME: u32 = 0x10;
const DN_ATTRIB: u32 = 0x20;
const DN_MULTISHOT: u32 = 0x8000_0000;
/// About what a watch takes of the heap.
const COST: u64 = 512;

/// A watch.
struct Dnotify {
    file: Weak<OpenFile>,
    inode: super::inode::InodeRef,
    /// Table and file: the key in `ALL`.
    key: (u64, u64),
    fd: BklCell<i32>,
    /// Events of inotify, and whether it stays after the first.
    wanted: BklCell<(u32, bool)>,
}

/// By descriptor table and open file.
static ALL: BklCell<BTreeMap<(u64, u64), Arc<Dnotify>>> = BklCell::new(BTreeMap::new());

impl Hears for Dnotify {
    fn hear(&self, _wd: i32, mask: u32, _cookie: u32, _name: &[u8], _unlinked: bool) {
        let (wanted, stays) = self.wanted.get();
        if wanted & mask == 0 {
            return;
        }
        if let Some(f) = self.file.upgrade() {
            f.owner.with(Clone::clone).tell(self.fd.get(), Band::Message);
        }
        if !stays {
            end(self.key);
        }
    }
    fn inode_ended(&self, _wd: i32) {}
}

fn end(key: (u64, u64)) {
    let gone = ALL.with_mut(|a| a.remove(&key));
    if let Some(d) = gone {
        inotify::unwatch(&d.inode, Arc::as_ptr(&d).cast(), 0);
    }
}

fn events(dn: u32) -> u32 {
    let rows = [
        (DN_ACCESS, event::ACCESS),
        (DN_MODIFY, event::MODIFY),
        (DN_CREATE, event::CREATE | event::MOVED_TO),
        (DN_DELETE, event::DELETE | event::MOVED_FROM),
        (DN_RENAME, event::RENAMED),
        (DN_ATTRIB, event::ATTRIB),
    ];
    rows.iter().filter(|(bit, _)| dn & bit != 0).fold(0, |all, (_, e)| all | e)
}

/// F_NOTIFY, for descriptor `fd` of the table `table`.
pub fn set(f: &Arc<OpenFile>, table: u64, fd: i32, what: u32) -> Result<()> {
    let key = (table, f.id);
    if what & !DN_MULTISHOT == 0 {
        end(key);
        return Ok(());
    }
    if !f.inode().is_dir() {
        return Err(ENOTDIR);
    }
    let (new, stays) = (events(what), what & DN_MULTISHOT != 0);
    f.owner.with_mut(|o| o.set_first(Kind::Process, super::env::peer().0));
    if let Some(d) = ALL.with(|a| a.get(&key).cloned()) {
        d.fd.set(fd);
        d.wanted.with_mut(|w| *w = (w.0 | new, w.1 | stays));
        return Ok(());
    }
    crate::mm::admit(COST)?;
    let inode = f.inode().clone();
    let wanted = BklCell::new((new, stays));
    let d = Arc::new(Dnotify { file: Arc::downgrade(f), inode, key, fd: BklCell::new(fd), wanted });
    let hears: Weak<dyn Hears> = Arc::downgrade(&d) as Weak<dyn Hears>;
    inotify::watch(&d.inode, hears, 0);
    ALL.with_mut(|a| a.insert(key, d));
    Ok(())
}

/// A descriptor table is gone.
pub fn table_ended(table: u64) {
    let left: Vec<_> = ALL.with(|a| a.range((table, 0)..=(table, u64::MAX)).map(|(key, _)| *key).collect());
    left.into_iter().for_each(end);
}

/// A descriptor of the table was closed.
pub fn closed(table: u64, f: &OpenFile) {
    if !ALL.with(BTreeMap::is_empty) {
        end((table, f.id));
    }
}
