//! Who is bound to which endpoint: the enclave's own port space, one for each of TCP, UDP and UDP-Lite.
//!
//! The rules are Linux's: two sockets may share a port if their addresses cannot meet, or if all sides asked for it
//! (SO_REUSEADDR while nobody listens, SO_REUSEPORT of one user), or if they only were connected, each to another peer. A port is free again as soon as its sockets are closed:
//! inside the enclave no stray packet can come later, so there is no TIME_WAIT.
use super::addr::{Endpoint, Ip};
use crate::fs::env;
use crate::fs::prelude::*;
use crate::process::caps;
use core::cmp::Ordering;

/// Ports that are given to those who ask for none (net.ipv4.ip_local_port_range).
const EPHEMERAL: core::ops::RangeInclusive<u16> = 32768..=60999;
/// Below this only root may bind.
const PRIVILEGED: u16 = 1024;

/// About what a place in the table takes of the heap.
const COST: u64 = 256;

/// The socket of a place in the table.
type Owner = Weak<dyn Any + Send + Sync>;

/// What has ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// UDP-Lite.
    UdpLite,
}

/// What a socket asks for when it binds.
#[derive(Clone, Copy)]
pub struct Claim {
    /// Where.
    pub at: Endpoint,
    /// Takes IPv6 only.
    pub v6_only: bool,
    /// SO_REUSEADDR.
    pub reuse: bool,
    /// SO_REUSEPORT.
    pub reuse_port: bool,
}
impl Claim {
    /// Can a packet be for both?
    fn meets(&self, other: &Claim) -> bool {
        let (a, b) = (self.at.ip, other.at.ip);
        a == b || self.covers(b) || other.covers(a)
    }
    /// Is it a wildcard that takes packets to `ip`?
    fn covers(&self, ip: Ip) -> bool {
        match self.at.ip {
            Ip::ANY4 => ip.as_v4().is_some(),
            Ip::ANY6 => ip.as_v4().is_none() || !self.v6_only,
            _ => false,
        }
    }
    /// How well it fits a packet to `ip`: an exact address before a wildcard of its family before the other one's.
    fn fit(&self, ip: Ip) -> u32 {
        match () {
            () if self.at.ip == ip => 3,
            () if !self.covers(ip) => 0,
            () if (self.at.ip == Ip::ANY4) == ip.as_v4().is_some() => 2,
            () => 1,
        }
    }
}

struct Entry {
    id: u64,
    claim: Claim,
    uid: u32,
    listening: bool,
    /// Where the socket that never bound itself was connected to.
    peer: Option<Endpoint>,
    socket: Owner,
}

struct Table {
    entries: BTreeMap<(Proto, u16), Vec<Entry>>,
    next_id: u64,
    next_port: u16,
    /// Which of several sockets that share a port is next.
    turn: usize,
}
static TABLE: BklCell<Table> =
    BklCell::new(Table { entries: BTreeMap::new(), next_id: 1, next_port: *EPHEMERAL.start(), turn: 0 });

/// A place in the table; dropping it gives the port back.
pub struct Binding {
    proto: Proto,
    port: u16,
    id: u64,
}
impl Binding {
    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
    fn with<T>(&self, f: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        TABLE.with_mut(|t| {
            t.entries.get_mut(&(self.proto, self.port))?.iter_mut().find(|e| e.id == self.id).map(f)
        })
    }
    /// Was it made for a connection to something else?
    pub fn serves_other(&self, to: Endpoint) -> bool {
        self.with(|e| e.peer.is_some_and(|p| p != to)).unwrap_or(false)
    }
    /// Becomes a listener: two of them may share a port only by SO_REUSEPORT.
    pub fn listen(&self, on: bool) -> Result<()> {
        if on {
            let uid = env::cred().uid;
            TABLE.with(|t| {
                let list = t.entries.get(&(self.proto, self.port)).map_or(&[][..], |l| &l[..]);
                let me = list.iter().find(|e| e.id == self.id).ok_or(EINVAL)?;
                let rival = |e: &&Entry| e.id != me.id && e.listening && e.claim.meets(&me.claim);
                let shared = |e: &Entry| e.claim.reuse_port && me.claim.reuse_port && e.uid == uid;
                if list.iter().filter(rival).any(|e| !shared(e)) { Err(EADDRINUSE) } else { Ok(()) }
            })?;
        }
        self.with(|e| e.listening = on);
        Ok(())
    }
}
impl Drop for Binding {
    fn drop(&mut self) {
        let gone = TABLE.with_mut(|t| {
            let list = t.entries.get_mut(&(self.proto, self.port))?;
            let at = list.iter().position(|e| e.id == self.id)?;
            let entry = list.swap_remove(at);
            if list.is_empty() {
                t.entries.remove(&(self.proto, self.port));
            }
            Some(entry)
        });
        drop(gone);
    }
}

impl Table {
    fn conflict(&self, proto: Proto, c: &Claim, uid: u32) -> bool {
        let list = self.entries.get(&(proto, c.at.port)).map_or(&[][..], |l| &l[..]);
        list.iter().filter(|e| e.claim.meets(c)).any(|e| {
            let quiet = proto != Proto::Tcp || !e.listening;
            let reuse = e.claim.reuse && c.reuse && quiet;
            let reuse_port = e.claim.reuse_port && c.reuse_port && e.uid == uid;
            !reuse && !reuse_port
        })
    }
    /// A port that nobody has or, for a connection to `peer`, that only connections to others have.
    fn free_port(&mut self, proto: Proto, peer: Option<Endpoint>) -> Option<u16> {
        for _ in EPHEMERAL {
            let port = self.next_port;
            self.next_port = if port == *EPHEMERAL.end() { *EPHEMERAL.start() } else { port + 1 };
            let list = self.entries.get(&(proto, port)).map_or(&[][..], |l| &l[..]);
            if list.iter().all(|e| peer.is_some() && e.peer.is_some() && e.peer != peer) {
                return Some(port);
            }
        }
        None
    }
    fn add(&mut self, proto: Proto, claim: Claim, peer: Option<Endpoint>, socket: Owner) -> Binding {
        let (id, port, uid) = (self.next_id, claim.at.port, env::cred().uid);
        self.next_id += 1;
        let entry = Entry { id, claim, uid, listening: false, peer, socket };
        self.entries.entry((proto, port)).or_default().push(entry);
        Binding { proto, port, id }
    }
}

/// Binds; port 0 picks a free one.
pub fn bind(proto: Proto, mut claim: Claim, socket: Owner) -> Result<Binding> {
    let cred = env::cred();
    if claim.at.port != 0 && claim.at.port < PRIVILEGED && !cred.can(caps::NET_BIND_SERVICE) {
        return Err(EACCES);
    }
    crate::mm::admit(COST)?;
    TABLE.with_mut(|t| {
        if claim.at.port == 0 {
            claim.at.port = t.free_port(proto, None).ok_or(EADDRINUSE)?;
        } else if t.conflict(proto, &claim, cred.uid) {
            return Err(EADDRINUSE);
        }
        Ok(t.add(proto, claim, None, socket))
    })
}
/// Picks a port for a connection to `peer`: connections to different peers may share one.
pub fn connect(proto: Proto, mut claim: Claim, peer: Endpoint, socket: Owner) -> Result<Binding> {
    crate::mm::admit(COST)?;
    TABLE.with_mut(|t| {
        claim.at.port = t.free_port(proto, Some(peer)).ok_or(EADDRNOTAVAIL)?;
        Ok(t.add(proto, claim, Some(peer), socket))
    })
}

/// The socket that a packet to `to` reaches: the best fitting one; of several that share the port, each in turn.
pub fn find<T: Any + Send + Sync>(proto: Proto, to: Endpoint, want: impl Fn(&T) -> bool) -> Option<Arc<T>> {
    TABLE.with_mut(|t| {
        t.turn = t.turn.wrapping_add(1);
        let list = t.entries.get(&(proto, to.port))?;
        // Gone through twice: a list of those that fit would be memory that may not be there.
        let fitting = || {
            list.iter().filter_map(|e| {
                let fit = Some(e.claim.fit(to.ip)).filter(|fit| *fit > 0)?;
                let socket = e.socket.upgrade()?.downcast::<T>().ok()?;
                want(&socket).then_some((fit, socket))
            })
        };
        let (best, ties) = fitting().fold((0, 0), |(best, ties), (fit, _)| match fit.cmp(&best) {
            Ordering::Less => (best, ties),
            Ordering::Equal => (best, ties + 1),
            Ordering::Greater => (fit, 1),
        });
        let turn = t.turn.checked_rem(ties)?;
        fitting().filter(|(fit, _)| *fit == best).nth(turn).map(|(_, socket)| socket)
    })
}
