//! What the host tells of by token: news of its sockets, and ends of work that it does beside.
//!
//! Neighbours: `sched` hands in what `Wait` reported; `net::host` and `fs::host` have sources. Everything is untrusted: a
//! token that nobody has is ignored, an event that never comes makes who waits for it wait.
use crate::fs::consts::{POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI};
use crate::sched::{self, WaitQueue};
use crate::signal::owner::Band;
use crate::time::monotonic_ns;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use occlum_enclave_abi::{HostEvents, MAX_EVENTS};
use occlum_rt::bkl::BklCell;

/// A busy task looks at the host's sockets as often. The host's relief (`RELIEF_NS` there) is for those that do not.
const LOOK_AFTER_NS: u64 = 250_000;

struct State {
    bits: BklCell<u32>,
    /// Counts the events.
    count: BklCell<u64>,
    changed: Arc<WaitQueue>,
}
struct Registry {
    sources: BTreeMap<u32, Weak<State>>,
    next: u32,
}
static REGISTRY: BklCell<Registry> = BklCell::new(Registry { sources: BTreeMap::new(), next: 1 });
/// Were bytes of streams moved since the last look at the host's sockets?
static BUSY: BklCell<bool> = BklCell::new(false);
/// When somebody last looked.
static LOOKED: BklCell<u64> = BklCell::new(0);

/// A token, and what the host told of it.
pub struct Source {
    token: u32,
    state: Arc<State>,
}
impl Source {
    /// A new one; its events wake `changed`.
    pub fn new(changed: Arc<WaitQueue>) -> Self {
        let state = Arc::new(State { bits: BklCell::new(0), count: BklCell::new(0), changed });
        let token = REGISTRY.with_mut(|r| {
            while r.sources.contains_key(&r.next) || r.next == 0 {
                r.next = r.next.wrapping_add(1);
            }
            let token = r.next;
            r.next = r.next.wrapping_add(1);
            r.sources.insert(token, Arc::downgrade(&state));
            token
        });
        Self { token, state }
    }
    /// Its number, for the host.
    pub fn token(&self) -> u64 {
        u64::from(self.token)
    }
    /// What was told and not forgotten.
    pub fn bits(&self) -> u32 {
        self.state.bits.get()
    }
    /// Sets that anew.
    pub fn set_bits(&self, bits: u32) {
        self.state.bits.set(bits);
    }
    /// Events so far.
    pub fn count(&self) -> u64 {
        self.state.count.get()
    }
    /// Is what was told as new as a look by a busy task? The first event may still be on its way.
    pub fn is_current(&self) -> bool {
        self.count() > 0 && !is_behind()
    }
}
impl Drop for Source {
    fn drop(&mut self) {
        REGISTRY.with_mut(|r| r.sources.remove(&self.token));
    }
}

/// Does anybody wait for the host's news?
pub fn in_use() -> bool {
    REGISTRY.with(|r| !r.sources.is_empty())
}
/// Takes what `Wait` reported: hostile bytes.
pub fn take(out: &[u8]) {
    BUSY.set(false);
    LOOKED.set(monotonic_ns());
    let count = out.get(16..24).map_or(0, |w| u64::from_le_bytes(core::array::from_fn(|i| w[i])));
    let events = out.get(size_of::<HostEvents>()..).unwrap_or(&[]);
    for e in events.chunks_exact(8).take(count.min(MAX_EVENTS as u64) as usize) {
        let token = u32::from_le_bytes([e[0], e[1], e[2], e[3]]);
        let bits = u32::from_le_bytes([e[4], e[5], e[6], e[7]]);
        let found = REGISTRY.with(|r| r.sources.get(&token).and_then(Weak::upgrade));
        if let Some(s) = found {
            let before = s.bits.replace(s.bits.get() | bits);
            s.count.with_mut(|n| *n += 1);
            s.changed.wake_all();
            tell_owners(&s.changed, bits, before);
        }
    }
}
/// Each word of input is news; of the rest, what was not known (room to write, since the last send that found none).
fn tell_owners(queue: &WaitQueue, bits: u32, before: u32) {
    let rows = [
        (POLLPRI, Band::Urgent),
        (POLLIN, Band::In),
        (POLLOUT, Band::Out),
        (POLLERR, Band::Error),
        (POLLHUP, Band::HangUp),
    ];
    rows.iter()
        .filter(|(bit, _)| (bits & !before | bits & POLLIN) & bit != 0)
        .for_each(|(_, b)| queue.tell(*b));
}
/// The caller moves bytes of streams.
pub fn busy() {
    BUSY.set(true);
}
/// Did nobody look for longer than a busy task waits?
fn is_behind() -> bool {
    monotonic_ns().saturating_sub(LOOKED.get()) > LOOK_AFTER_NS
}
/// A task that moves bytes between looks in passing, so that no other vCPU has to come for that.
pub fn look_in_passing() {
    if BUSY.get() && is_behind() {
        sched::poll_host();
    }
}
/// Looks whether the host has news, for a caller that will not wait. Is there something to look at again?
pub fn refresh() -> bool {
    if in_use() {
        sched::poll_host();
        return true;
    }
    false
}
