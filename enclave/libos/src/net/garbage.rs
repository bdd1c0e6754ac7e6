//! Open files in messages: how many a user may have there (`Cargo`), and sockets that only messages hold, for an AF_UNIX
//! socket can be sent through itself, or two through each other, and closed.
//!
//! Neighbours: `unix` keeps the messages, `fs::table` calls when a descriptor was closed. Invariant: a socket is garbage when
//! every reference to its open file is in a message of a queue that is garbage, or waits at a listener that is; a task
//! that uses one holds a reference of its own. Messages of garbage are dropped, which ends it. What holds others is in
//! `HOLDERS`: a look costs as much as there are of those, not as there are sockets.
use super::unix::{self, UnixSocket};
use crate::errno::{Errno, Result};
use crate::fs::{OpenFile, env};
use crate::process::caps;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_rt::bkl::BklCell;

/// Was a socket sent since the last look that found none in flight?
static SENT: BklCell<bool> = BklCell::new(false);
/// Descriptors to be closed before the next look, which costs more the more sockets there are: so it is a little of each.
static CREDIT: BklCell<usize> = BklCell::new(0);
/// Sockets that a look may find for each descriptor that was closed before it.
const LOOKED_AT: usize = 4;

/// With so few sockets that hold others a look costs nothing.
const FEW: usize = 1024;
/// Sockets that may hold others, in messages or because those wait to be accepted.
static HOLDERS: BklCell<BTreeSet<u64>> = BklCell::new(BTreeSet::new());

/// The socket `id` holds another one from now on.
pub fn holds(id: u64) {
    HOLDERS.with_mut(|h| h.insert(id));
}
/// It has ended.
pub fn ended(id: u64) {
    HOLDERS.with_mut(|h| h.remove(&id));
}

fn as_unix(f: &OpenFile) -> Option<&UnixSocket> {
    f.downcast::<UnixSocket>()
}

/// How many files messages of each user carry.
static IN_FLIGHT: BklCell<BTreeMap<u32, u64>> = BklCell::new(BTreeMap::new());

/// The files of a message, which count against the user who sent them until they are taken out.
#[derive(Default)]
pub struct Cargo {
    files: Vec<Arc<OpenFile>>,
    uid: u32,
}
impl Cargo {
    /// May the caller send files at all? Not when more are under way than it may have open (unix(7), ETOOMANYREFS).
    pub fn admit() -> Result<()> {
        let cred = env::cred();
        let sent = IN_FLIGHT.with(|all| all.get(&cred.uid).copied().unwrap_or(0));
        let may = cred.can(caps::SYS_RESOURCE) || cred.can(caps::SYS_ADMIN);
        if sent > env::nofile() as u64 && !may { Err(Errno::ETOOMANYREFS) } else { Ok(()) }
    }
    /// Of a message that is sent now.
    pub fn load(files: Vec<Arc<OpenFile>>) -> Self {
        if files.is_empty() {
            return Self::default();
        }
        if files.iter().any(|f| as_unix(f).is_some()) {
            SENT.set(true);
        }
        let uid = env::cred().uid;
        IN_FLIGHT.with_mut(|all| *all.entry(uid).or_default() += files.len() as u64);
        Self { files, uid }
    }
    /// Takes them out.
    pub fn unload(&mut self) -> Vec<Arc<OpenFile>> {
        let files = core::mem::take(&mut self.files);
        if files.is_empty() {
            return files;
        }
        IN_FLIGHT.with_mut(|all| {
            let left = all.get(&self.uid).map_or(0, |n| n.saturating_sub(files.len() as u64));
            if left == 0 { all.remove(&self.uid) } else { all.insert(self.uid, left) }
        });
        files
    }
    /// Are there sockets among them that could hold others?
    pub fn has_sockets(&self) -> bool {
        self.files.iter().any(|f| as_unix(f).is_some())
    }
    /// The files.
    pub fn files(&self) -> &[Arc<OpenFile>] {
        &self.files
    }
}
impl Drop for Cargo {
    fn drop(&mut self) {
        self.unload();
    }
}

/// A descriptor was closed.
pub fn after_close() {
    if SENT.get() && CREDIT.with_mut(|c| core::mem::replace(c, c.saturating_sub(1))) == 0 {
        collect();
    }
}

/// The same among many, at whose end comes `after_end`.
pub fn after_one_of_many() {
    if HOLDERS.with(BTreeSet::len) > FEW {
        after_close();
    }
}

/// A process has ended.
pub fn after_end() {
    if HOLDERS.with(BTreeSet::len) <= FEW {
        collect();
    }
}

/// Drops the messages of sockets that nobody can reach any more.
fn collect() {
    /// What the lists below take for each of them, with what it holds.
    const COST: u64 = 512;
    let count = HOLDERS.with(BTreeSet::len);
    CREDIT.set(count / LOOKED_AT);
    if !SENT.get() || crate::mm::admit(COST * count as u64).is_err() {
        return;
    }
    let all: Vec<Arc<UnixSocket>> =
        HOLDERS.with(|h| h.iter().filter_map(|id| unix::by_id(*id)).filter(|s| s.holds_any()).collect());
    HOLDERS.set(all.iter().map(|s| s.id()).collect());
    // References by messages to each open file of a socket.
    let mut held: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    let mut any = false;
    for s in &all {
        s.each_in_flight(|f| {
            if let Some(u) = as_unix(f) {
                any = true;
                let entry = held.entry(u.id()).or_insert((0, 0));
                *entry = (entry.0 + 1, Arc::strong_count(f));
            }
        });
    }
    SENT.set(any);
    let only_in_messages = |id: u64| held.get(&id).is_some_and(|(n, refs)| n == refs);
    let waiting: BTreeSet<u64> = all.iter().flat_map(|s| s.waiting_ids()).collect();
    let by_id: BTreeMap<u64, &Arc<UnixSocket>> = all.iter().map(|s| (s.id(), s)).collect();
    let is_root = |s: &&Arc<UnixSocket>| !only_in_messages(s.id()) && !waiting.contains(&s.id());
    let mut work: Vec<&Arc<UnixSocket>> = all.iter().filter(is_root).collect();
    let mut reached: BTreeSet<u64> = work.iter().map(|s| s.id()).collect();
    while let Some(s) = work.pop() {
        let mut next = s.waiting_ids();
        s.each_in_flight(|f| next.extend(as_unix(f).map(UnixSocket::id)));
        work.extend(
            next.into_iter().filter(|id| reached.insert(*id)).filter_map(|id| by_id.get(&id).copied()),
        );
    }
    for s in all.iter().filter(|s| !reached.contains(&s.id())) {
        s.drop_in_flight();
    }
}
