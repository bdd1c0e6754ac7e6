//! Sockets that only messages hold: an AF_UNIX socket can be sent through itself, or two through each other, and closed.
//!
//! Neighbours: `unix` keeps the messages, `fs::table` calls when a descriptor was closed. Invariant: a socket is garbage when
//! every reference to its open file is in a message of a queue that is garbage, or waits at a listener that is; a task
//! that uses one holds a reference of its own. Messages of garbage are dropped, which ends it.
use super::unix::{self, UnixSocket};
use crate::fs::OpenFile;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_rt::bkl::BklCell;

/// Was a socket sent since the last look that found none in flight?
static SENT: BklCell<bool> = BklCell::new(false);

fn as_unix(f: &OpenFile) -> Option<&UnixSocket> {
    f.downcast::<UnixSocket>()
}

/// A message with these files was sent.
pub fn sent(files: &[Arc<OpenFile>]) {
    if files.iter().any(|f| as_unix(f).is_some()) {
        SENT.set(true);
    }
}

/// A descriptor was closed: drops the messages of sockets that nobody can reach any more.
pub fn collect() {
    if !SENT.get() {
        return;
    }
    let all = unix::all();
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
