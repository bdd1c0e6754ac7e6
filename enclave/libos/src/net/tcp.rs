//! TCP sockets, IPv4 and IPv6.
//!
//! A connection between two sockets of the enclave is two byte rings and never leaves it: what is meant for the enclave's
//! own addresses goes through `ports` to a listener's backlog. Anything else is a socket of the host (`host`), and a
//! listener on a published port also takes what the host accepts. Peers know each other weakly: the open file (or a
//! backlog) owns a socket, and its drop is the close that the peer sees.
use super::addr::{AF_INET, AF_INET6, Endpoint, Ip};
use super::counts::{Count, count};
use super::host::{self, Kind, Policy, Remote};
use super::options::{
    Common, IPV6_V6ONLY, SO_OOBINLINE, SO_RCVBUF, SO_REUSEADDR, SO_REUSEPORT, SO_SNDBUF, SOL_IPV6,
    SOL_SOCKET, SOL_TCP, TCP_CONGESTION, TCP_INFO,
};
use super::ports::{self, Binding, Claim, Proto};
use super::urgent::{Stretch, Urgent};
use super::{Class, MSG_MORE, MSG_OOB, MSG_PEEK, MSG_TRUNC, Outgoing, Received, SOCK_STREAM, Socket};
use crate::fs::file::{File, Notify, Tells, wait_for};
use crate::fs::pipe::Ring;
use crate::fs::prelude::*;
use crate::fs::uio::{Dst, Place, Src, partial};
use crate::signal::owner::Band;

/// Bytes on the way in one direction of a connection within the enclave.
const WINDOW: usize = 256 << 10;
/// The part of the window that must be free to make a full ring writable again.
const ROOM: usize = 3;
/// Longest backlog (net.core.somaxconn).
const BACKLOG: usize = 4096;
/// Most clients that wait for room in a backlog: they are all told when the listener ends.
const WAITING: usize = 1 << 16;
/// About what one of them takes of the heap.
const WAITING_COST: u64 = 128;
/// `TCP_*` states as TCP_INFO and /proc/net/tcp show them.
pub const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const FIN_WAIT2: u8 = 5;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;

/// Where a socket is in its life.
#[derive(Default)]
enum Phase {
    /// Not connected: new, or after a connection that failed or was reset.
    #[default]
    Idle,
    Listening(Backlog),
    /// Waits for room in a listener's backlog, or for the host.
    #[expect(dead_code, reason = "a turn is there to be dropped")]
    Connecting(Option<Turn>),
    Connected,
}
#[derive(Default)]
struct Backlog {
    limit: usize,
    ready: VecDeque<Arc<TcpSocket>>,
    /// Clients that found it full, by the numbers of their turns.
    waiting: BTreeMap<u64, Weak<TcpSocket>>,
}
impl Backlog {
    fn is_full(&self) -> bool {
        self.ready.len() > self.limit
    }
}

/// A client's place among those that wait for a listener. It is the client's phase that has it: whatever else becomes of
/// the client, it waits no more.
struct Turn {
    listener: Weak<TcpSocket>,
    number: u64,
}
impl Drop for Turn {
    fn drop(&mut self) {
        let Some(listener) = self.listener.upgrade() else { return };
        listener.state.with_mut(|s| {
            if let Phase::Listening(b) = &mut s.phase {
                b.waiting.remove(&self.number);
            }
        });
    }
}
static NEXT_TURN: BklCell<u64> = BklCell::new(0);

#[derive(Default)]
struct State {
    phase: Phase,
    binding: Option<Arc<Binding>>,
    local: Option<Endpoint>,
    /// Bound to a wildcard or address by the program.
    bound_to: Option<Endpoint>,
    peer_addr: Option<Endpoint>,
    /// The other socket of a connection within the enclave.
    peer: Weak<TcpSocket>,
    /// The host's socket of a connection that leaves it, or of a published port.
    remote: Option<Arc<Remote>>,
    error: Option<Errno>,
    /// The peer sends no more.
    eof: bool,
    /// The peer is gone: what is sent to it comes back as a reset.
    gone: bool,
    shut_read: bool,
    shut_write: bool,
    /// Urgent data in the ring.
    urgent: Option<Urgent>,
    /// A sender found the peer's ring full and waits for room.
    wants_room: bool,
    /// connect(2) said "in progress" and has not told the end of it.
    untold: bool,
}

/// A TCP socket.
pub struct TcpSocket {
    family: u16,
    me: Weak<TcpSocket>,
    common: Common,
    state: BklCell<State>,
    /// Bytes that have arrived, from inside; or that a faulting receive could not place.
    ring: BklCell<Ring>,
    changed: Arc<Notify>,
    owner: (u64, u32),
}

static ALL: BklCell<BTreeMap<u64, Weak<TcpSocket>>> = BklCell::new(BTreeMap::new());
/// The first socket after `id`, and its own.
pub fn after(id: u64) -> Option<(u64, Arc<TcpSocket>)> {
    ALL.with(|a| a.range(id + 1..).find_map(|(id, s)| Some((*id, s.upgrade()?))))
}
/// Every socket, for /proc/net.
pub fn all() -> impl Iterator<Item = Arc<TcpSocket>> {
    super::one_by_one(after)
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        ALL.with_mut(|a| a.remove(&self.owner.0));
        let s = self.state.take();
        if let Some(peer) = s.peer.upgrade() {
            // Unread bytes, or SO_LINGER with no time: the connection is not closed but torn.
            let torn = !self.ring.with(Ring::is_empty) || self.common.linger() == Some(0);
            peer.peer_closed(torn);
        }
        if let Phase::Listening(backlog) = s.phase {
            stop_listening(s.binding.as_deref(), backlog);
        }
        if let Some(r) = s.remote
            && self.common.linger() == Some(0)
        {
            r.set_option(SOL_SOCKET, super::options::SO_LINGER, 0);
        }
    }
}

/// A listener has ended: its clients are turned away. Accepted connections keep the port, but do not listen.
fn stop_listening(binding: Option<&Binding>, backlog: Backlog) {
    if let Some(b) = binding {
        // Only becoming a listener can fail.
        let _ = b.listen(false);
    }
    for client in backlog.waiting.values().filter_map(Weak::upgrade) {
        client.connect_failed(ECONNREFUSED);
    }
    for server in &backlog.ready {
        if let Some(client) = server.state.with(|s| s.peer.upgrade()) {
            client.peer_closed(true);
        }
        server.state.with_mut(|s| s.peer = Weak::new());
    }
}

impl TcpSocket {
    /// An unconnected socket of AF_INET or AF_INET6.
    pub fn new(family: u16) -> Arc<Self> {
        let id = crate::fs::inode::next_id();
        let socket = Arc::new_cyclic(|me| Self {
            family,
            me: me.clone(),
            common: Common::default(),
            state: BklCell::new(State::default()),
            ring: BklCell::new(Ring::new(WINDOW)),
            changed: Arc::new(Notify::new()),
            owner: (id, crate::fs::env::cred().uid),
        });
        ALL.with_mut(|a| a.insert(id, Arc::downgrade(&socket)));
        socket
    }
    fn class_of(family: u16) -> Class {
        Class { family, kind: SOCK_STREAM, protocol: super::options::SOL_TCP }
    }
    fn family4(&self) -> bool {
        self.family == AF_INET
    }
    fn any(&self) -> Ip {
        if self.family4() { Ip::ANY4 } else { Ip::ANY6 }
    }
    fn unbound(&self) -> Endpoint {
        Endpoint::new(self.any(), 0)
    }
    fn remote(&self) -> Option<Arc<Remote>> {
        self.state.with(|s| s.remote.clone())
    }
    fn is_connected(&self) -> bool {
        self.state.with(|s| matches!(s.phase, Phase::Connected))
    }
    /// This end, the other end, state, bytes unread, user: a row of /proc/net/tcp.
    pub fn row(&self) -> (u16, Endpoint, Endpoint, u8, usize, u32, u64) {
        let (local, peer) = self.state.with(|s| (s.local, s.peer_addr));
        let none = self.unbound();
        let unread = self.ring.with(Ring::len);
        let row = (self.family, local.unwrap_or(none), peer.unwrap_or(none));
        (row.0, row.1, row.2, self.tcp_state(), unread, self.owner.1, super::number(self.owner.0))
    }
    /// Is it one of /proc/net/tcp's?
    pub fn is_shown(&self) -> bool {
        self.tcp_state() != CLOSE
    }
    /// Of a listener: connections that wait, how many may, and whether it keeps IPv4 out.
    pub fn backlog(&self) -> Option<(usize, usize, bool)> {
        let only6 = self.common.flag(SOL_IPV6, IPV6_V6ONLY);
        self.state.with(|s| match &s.phase {
            Phase::Listening(b) => Some((b.ready.len(), b.limit, only6)),
            _ => None,
        })
    }
    fn tcp_state(&self) -> u8 {
        self.state.with(|s| match s.phase {
            Phase::Idle => CLOSE,
            Phase::Listening(_) => LISTEN,
            Phase::Connecting(_) => SYN_SENT,
            Phase::Connected if s.eof => CLOSE_WAIT,
            Phase::Connected if s.shut_write => FIN_WAIT2,
            Phase::Connected => ESTABLISHED,
        })
    }

    fn claim(&self, at: Endpoint) -> Claim {
        Claim {
            at,
            v6_only: self.common.flag(SOL_IPV6, IPV6_V6ONLY),
            reuse: self.common.flag(SOL_SOCKET, SO_REUSEADDR),
            reuse_port: self.common.flag(SOL_SOCKET, SO_REUSEPORT),
        }
    }
    fn bind_to(&self, at: Endpoint) -> Result<()> {
        self.keep(at, ports::bind(Proto::Tcp, self.claim(at), self.me.clone())?);
        Ok(())
    }
    fn keep(&self, at: Endpoint, binding: Binding) {
        let at = Endpoint { port: binding.port(), ..at };
        self.state.with_mut(|s| {
            s.binding = Some(Arc::new(binding));
            (s.local, s.bound_to) = (Some(at), Some(at));
        });
    }
    /// Takes a port if there is none yet.
    fn ensure_bound(&self) -> Result<Endpoint> {
        if self.state.with(|s| s.binding.is_none()) {
            self.bind_to(self.unbound())?;
        }
        Ok(self.state.with(|s| s.bound_to).unwrap_or(self.unbound()))
    }

    /// Takes a port for a connection to `to` if there is none yet, or only what an earlier connection took.
    fn ensure_bound_for(&self, to: Endpoint) -> Result<Endpoint> {
        if self.state.with(|s| s.binding.as_ref().is_none_or(|b| b.serves_other(to))) {
            let from = self.unbound();
            self.keep(from, ports::connect(Proto::Tcp, self.claim(from), to, self.me.clone())?);
        }
        Ok(self.state.with(|s| s.bound_to).unwrap_or(self.unbound()))
    }

    // -- becoming connected

    /// Starts a connection; `Ok` if it stands.
    fn start(&self, to: Endpoint) -> Result<()> {
        let to = Endpoint { ip: if to.ip.is_any() { loopback_like(to.ip) } else { to.ip }, ..to };
        if to.ip.is_group() {
            return Err(ENETUNREACH);
        }
        let v6_only = self.common.flag(SOL_IPV6, IPV6_V6ONLY);
        if v6_only && to.ip.as_v4().is_some() {
            return Err(ENETUNREACH);
        }
        let from = self.ensure_bound_for(to)?;
        count(Count::TcpActiveOpens);
        if super::interfaces::is_own(to.ip) {
            return match self.start_inside(from, to) {
                Err(ECONNREFUSED) if host::policy() == Policy::Host => self.start_outside(to),
                r => r,
            };
        }
        self.start_outside(to)
    }
    fn start_outside(&self, to: Endpoint) -> Result<()> {
        let options = self.common.for_host();
        let v4 = to.ip.as_v4().is_some();
        let remote = Remote::connect(Kind::Stream, v4, &to, &options, &self.changed)?;
        self.state.with_mut(|s| {
            s.remote = Some(Arc::new(remote));
            s.peer_addr = Some(to);
            s.phase = Phase::Connecting(None);
        });
        Err(EINPROGRESS)
    }
    fn start_inside(&self, from: Endpoint, to: Endpoint) -> Result<()> {
        let Some(listener) = ports::find(Proto::Tcp, to, |s: &TcpSocket| s.is_listening()) else {
            count(Count::TcpAttemptFails);
            return Err(ECONNREFUSED);
        };
        let ip = if from.ip.is_any() { source_for(to.ip) } else { from.ip };
        let turn = listener.turn_for(self)?;
        let waits = turn.is_some();
        self.state.with_mut(|s| {
            s.local = Some(Endpoint { ip, ..from });
            s.peer_addr = Some(to);
            if waits {
                s.phase = Phase::Connecting(turn);
            }
        });
        if waits { Err(EINPROGRESS) } else { listener.take_client(self) }
    }
    /// Makes a client wait if the backlog is full.
    fn turn_for(&self, client: &TcpSocket) -> Result<Option<Turn>> {
        crate::mm::admit(WAITING_COST).map_err(|_| ENOBUFS)?;
        self.state.with_mut(|s| match &mut s.phase {
            Phase::Listening(b) if b.is_full() && b.waiting.len() >= WAITING => Err(ETIMEDOUT),
            Phase::Listening(b) if b.is_full() => {
                let number = NEXT_TURN.with_mut(|n| core::mem::replace(n, *n + 1));
                b.waiting.insert(number, client.me.clone());
                Ok(Some(Turn { listener: self.me.clone(), number }))
            }
            _ => Ok(None),
        })
    }
    /// Takes clients that wait while there is room.
    fn fill_backlog(&self) {
        let Some(me) = self.me.upgrade() else { return };
        let next = || {
            self.state.with_mut(|s| match &mut s.phase {
                Phase::Listening(b) if !b.is_full() => b.waiting.pop_first(),
                _ => None,
            })
        };
        while let Some((_, client)) = next() {
            let Some(client) = client.upgrade() else { continue };
            match me.take_client(&client) {
                Ok(()) => client.changed.notify(),
                Err(e) => client.connect_failed(e),
            }
        }
    }
    /// Makes the server's side of a connection and puts it into the backlog.
    fn take_client(self: &Arc<Self>, client: &TcpSocket) -> Result<()> {
        crate::mm::admit(4096).map_err(|_| ENOBUFS)?;
        let (from, to) = client.state.with(|s| (s.local, s.peer_addr));
        count(Count::TcpPassiveOpens);
        let server = Self::new(self.family);
        server.common.inherit(&self.common);
        let binding = self.state.with(|s| s.binding.clone());
        server.state.with_mut(|s| {
            s.phase = Phase::Connected;
            // The port stays taken as long as one of its connections lives.
            s.binding = binding;
            (s.local, s.bound_to, s.peer_addr) = (to, to, from);
            s.peer = client.me.clone();
        });
        client.state.with_mut(|s| {
            s.peer = Arc::downgrade(&server);
            s.phase = Phase::Connected;
        });
        self.state.with_mut(|s| {
            if let Phase::Listening(b) = &mut s.phase {
                b.ready.push_back(server);
            }
        });
        self.changed.notify_of(POLL_IN);
        self.changed.tell(Band::In);
        client.changed.tell(Band::Out);
        Ok(())
    }
    fn connect_failed(&self, e: Errno) {
        self.state.with_mut(|s| {
            s.phase = Phase::Idle;
            s.error = Some(e);
            s.remote = None;
            s.peer_addr = None;
        });
        self.changed.notify();
        self.changed.tell(Band::Error);
    }
    /// Looks whether the host has an answer.
    fn look_at_host(&self) {
        if !self.state.with(|s| matches!(s.phase, Phase::Connecting(_))) {
            return;
        }
        let Some(remote) = self.remote() else { return };
        if remote.ready() & (POLLOUT | POLLERR | POLLHUP) == 0 {
            return;
        }
        match remote.take_error() {
            Some(e) => self.connect_failed(e),
            None => {
                let name = remote.own_name();
                self.state.with_mut(|s| {
                    s.phase = Phase::Connected;
                    if let (Some(local), Some(name)) = (&mut s.local, name)
                        && local.ip.is_any()
                    {
                        local.ip = name.ip;
                    }
                });
            }
        }
    }
    /// How connecting ended; `EAGAIN` while it has not.
    fn outcome(&self) -> Result<()> {
        self.look_at_host();
        self.state.with_mut(|s| match s.phase {
            Phase::Connecting(_) => Err(EAGAIN),
            Phase::Connected => {
                s.untold = false;
                Ok(())
            }
            _ => {
                s.untold = false;
                Err(s.error.take().unwrap_or(ECONNABORTED))
            }
        })
    }
    /// What another connect(2) says to a socket that is not idle.
    fn connect_again(&self) -> Option<Result<()>> {
        self.look_at_host();
        self.state.with_mut(|s| match s.phase {
            Phase::Connecting(_) => Some(Err(EALREADY)),
            Phase::Connected if core::mem::take(&mut s.untold) => Some(Ok(())),
            Phase::Connected | Phase::Listening(_) => Some(Err(EISCONN)),
            Phase::Idle if core::mem::take(&mut s.untold) => {
                Some(Err(s.error.take().unwrap_or(ECONNABORTED)))
            }
            Phase::Idle => None,
        })
    }
    /// connect(2) to AF_UNSPEC.
    fn disconnect(&self) {
        let old = self.state.with_mut(|s| {
            let keep = s.binding.take();
            let bound_to = s.bound_to;
            let old = core::mem::take(s);
            (s.binding, s.bound_to, s.local) = (keep, bound_to, bound_to);
            old
        });
        if let Some(p) = old.peer.upgrade() {
            p.peer_closed(true);
        }
        if let Phase::Listening(b) = old.phase {
            stop_listening(self.state.with(|s| s.binding.clone()).as_deref(), b);
        }
        self.ring.set(Ring::new(WINDOW));
        self.changed.notify();
    }

    // -- what the peer does

    fn peer_closed(&self, torn: bool) {
        self.state.with_mut(|s| {
            if torn {
                // After the peer's last byte a reset only says that nobody takes what is sent.
                s.error = Some(if s.eof { EPIPE } else { ECONNRESET });
                (s.shut_read, s.shut_write, s.phase) = (true, true, Phase::Idle);
            }
            (s.eof, s.gone) = (true, true);
            s.peer = Weak::new();
        });
        self.changed.notify();
        if torn {
            count(Count::TcpEstabResets);
            self.changed.tell(Band::Error);
        } else {
            self.tell_end();
        }
    }
    /// The peer's last byte was its last: the end, which can be read, too.
    fn tell_end(&self) {
        self.changed.tell(if self.state.with(|s| s.shut_write) { Band::HangUp } else { Band::In });
        self.changed.tell(Band::In);
    }

    // -- data

    fn check_send(&self) -> Result<()> {
        self.look_at_host();
        self.state.with_mut(|s| {
            if let Some(e) = s.error.take() {
                return Err(e);
            }
            match s.phase {
                _ if s.shut_write => Err(EPIPE),
                Phase::Connecting(_) => Err(EAGAIN),
                Phase::Connected => Ok(()),
                _ => Err(EPIPE),
            }
        })
    }
    /// Bytes that `peer` still takes from here, and whether that is enough to wake who waits. SO_SNDBUF and SO_RCVBUF
    /// make the window smaller, where both are set.
    fn room(&self, peer: &TcpSocket) -> (usize, bool) {
        let asked = |c: &Common, name| c.given(SOL_SOCKET, name).map_or(WINDOW, |n| n as usize);
        let window = (asked(&self.common, SO_SNDBUF) + asked(&peer.common, SO_RCVBUF)).min(WINDOW);
        let free = window.saturating_sub(peer.ring.with(Ring::len));
        (free, free >= window / ROOM)
    }
    fn send_inside(&self, src: &mut Src, urgent: bool) -> Result<usize> {
        let Some(peer) = self.state.with(|s| s.peer.upgrade()) else { return self.send_to_nobody(src) };
        let free = self.room(&peer).0;
        let want = src.remaining();
        if free < want {
            self.state.with_mut(|s| s.wants_room = true);
        }
        if free == 0 {
            return Err(EAGAIN);
        }
        let n = want.min(free);
        crate::mm::admit(n as u64).map_err(|_| ENOBUFS)?;
        let n = peer.ring.with_mut(|r| r.push(src, n))?;
        if n > 0 {
            if urgent {
                peer.urgent_arrived(n);
            }
            peer.changed.notify_of(if urgent { POLL_IN | POLLPRI } else { POLL_IN });
            peer.changed.tell(Band::In);
        }
        Ok(n)
    }
    /// The last of `n` bytes that have just arrived is urgent. An older urgent byte that is next leaves the stream, others
    /// are ordinary bytes now.
    fn urgent_arrived(&self, n: usize) {
        let unread = self.ring.with(Ring::len);
        let is_passed = self.stretch().hole > 0 && unread > n;
        if is_passed {
            self.ring.with_mut(|r| r.skip(1));
        }
        let unread = self.ring.with(Ring::len);
        let last = self.ring.with(Ring::last);
        self.state.with_mut(|s| s.urgent = last.map(|byte| Urgent::at_end(unread, byte)));
        self.changed.tell(Band::Urgent);
    }
    /// What the next read may take of the ring.
    fn stretch(&self) -> Stretch {
        let inline = self.common.flag(SOL_SOCKET, SO_OOBINLINE);
        let free = Stretch { hole: 0, most: usize::MAX };
        self.state.with(|s| s.urgent.map_or(free, |u| u.stretch(inline)))
    }
    /// Bytes left the ring.
    fn passed(&self, n: usize) {
        self.state.with_mut(|s| s.urgent = s.urgent.and_then(|u| u.after(n)));
    }
    /// The next byte is urgent, and not for ordinary reads: it goes.
    fn pass_urgent(&self, peek: bool) {
        if !peek && self.stretch().hole > 0 {
            self.ring.with_mut(|r| r.skip(1));
            self.passed(1);
        }
    }
    /// Are there bytes for an ordinary read?
    fn has_bytes(&self) -> bool {
        self.ring.with(Ring::len) > self.stretch().hole
    }
    /// The urgent byte of a connection within the enclave.
    fn take_urgent(&self, dst: &mut Dst, flags: u32) -> Result<Received> {
        let peek = flags & MSG_PEEK != 0;
        let byte = self.state.with_mut(|s| s.urgent.as_mut().and_then(|u| u.read(peek))).ok_or(EINVAL)?;
        if dst.remaining() == 0 {
            return Ok(Received { flags: MSG_OOB | MSG_TRUNC, ..Received::default() });
        }
        if flags & MSG_TRUNC == 0 {
            dst.push(&[byte])?;
        }
        Ok(Received { len: 1, full: 1, flags: MSG_OOB, ..Received::default() })
    }
    /// The peer has closed: the bytes are lost, and its answer is a reset.
    fn send_to_nobody(&self, src: &mut Src) -> Result<usize> {
        let mut sink = [0; 512];
        let mut total = 0;
        // What would be under way when it is found that nobody is there; no more is sent then.
        while total < WINDOW {
            match src.pull(&mut sink) {
                Ok(0) => break,
                Ok(n) => total += n,
                Err(e) => return partial(total, e),
            }
        }
        src.give_up();
        self.state.with_mut(|s| {
            s.error = Some(EPIPE);
            s.shut_write = true;
        });
        self.changed.notify();
        self.changed.tell(Band::Error);
        Ok(total)
    }
    fn send_outside(&self, remote: &Remote, src: &mut Src, flags: u32) -> Result<usize> {
        let r = host::with_buffer(|buf| {
            let n = src.pull(buf)?;
            let sent = remote.send(&buf[..n], flags & MSG_MORE != 0, flags & MSG_OOB != 0);
            src.rewind(n - sent.unwrap_or(0));
            sent
        });
        if matches!(r, Err(ECONNRESET | EPIPE | ETIMEDOUT)) {
            self.state.with_mut(|s| s.shut_write = true);
        }
        r
    }
    /// Bytes that have arrived are read even after the end of a connection.
    fn receive_bytes(&self, dst: &mut Dst, flags: u32) -> Result<usize> {
        self.look_at_host();
        if dst.remaining() == 0 {
            return Ok(0);
        }
        self.pass_urgent(flags & MSG_PEEK != 0);
        if self.has_bytes() {
            return self.take_bytes(dst, flags);
        }
        let remote = self.state.with_mut(|s| {
            if s.eof && !s.gone {
                return Ok(None);
            }
            if let Some(e) = s.error {
                // The peer's end was seen before the error: that is the end, and the error is for senders.
                if e != EPIPE {
                    s.error = None;
                    return Err(e);
                }
            }
            match s.phase {
                _ if s.shut_read || s.eof => Ok(None),
                Phase::Connected if s.remote.is_some() => Ok(s.remote.clone()),
                Phase::Connected | Phase::Connecting(_) => Err(EAGAIN),
                _ => Err(ENOTCONN),
            }
        })?;
        match remote {
            Some(r) => self.receive_outside(&r, dst, flags),
            None => Ok(0),
        }
    }
    fn take_bytes(&self, dst: &mut Dst, flags: u32) -> Result<usize> {
        let Stretch { hole, most } = self.stretch();
        if flags & MSG_PEEK != 0 && flags & MSG_TRUNC == 0 {
            return dst.within(most, |dst| self.ring.with(|r| peek(r, hole, dst))).0;
        }
        let n = if flags & MSG_TRUNC != 0 {
            let max = dst.remaining().min(most);
            match flags & MSG_PEEK {
                0 => self.ring.with_mut(|r| r.skip(max)),
                _ => return Ok(max.min(self.ring.with(Ring::len) - hole)),
            }
        } else {
            dst.within(most, |dst| self.ring.with_mut(|r| r.pop(dst))).0?
        };
        self.passed(n);
        self.made_room();
        Ok(n)
    }
    /// A sender that waits for room hears of it.
    fn made_room(&self) {
        let Some(p) = self.state.with(|s| s.peer.upgrade()) else { return };
        if p.state.with(|s| s.wants_room) && p.room(self).1 {
            p.state.with_mut(|s| s.wants_room = false);
            p.changed.notify_of(POLL_OUT);
            p.changed.tell(Band::Out);
        }
    }
    fn receive_outside(&self, remote: &Remote, dst: &mut Dst, flags: u32) -> Result<usize> {
        let want = dst.remaining().min(host::PIECE);
        let r = host::with_buffer(|buf| {
            let n = remote.receive(&mut buf[..want], flags & MSG_PEEK != 0)?;
            if flags & MSG_TRUNC != 0 {
                return Ok(n);
            }
            let placed = dst.push(&buf[..n]);
            let at = placed.unwrap_or(0);
            if at < n && flags & MSG_PEEK == 0 {
                // What user memory did not take is kept for the next receive.
                self.ring.with_mut(|r| r.push(&mut Src::kernel(&buf[at..n]), n - at))?;
            }
            if n == 0 { Ok(0) } else { placed }
        });
        if let Ok(0) = r {
            self.state.with_mut(|s| s.eof = true);
        }
        r
    }
    fn available(&self) -> Result<usize> {
        if self.is_listening() {
            return Err(EINVAL);
        }
        let (unread, stretch) = (self.ring.with(Ring::len), self.stretch());
        let inside = if stretch.hole > 0 { 0 } else { unread.min(stretch.most) };
        let Some(remote) = self.remote().filter(|_| inside == 0) else { return Ok(inside) };
        // Counting by peeking: the host's own count would have to be believed anyway.
        host::with_buffer(|buf| Ok(remote.receive(buf, true).unwrap_or(0)))
    }
    fn info(&self) -> Vec<u8> {
        let mut b = [0u8; 104];
        if let Some(r) = self.remote().filter(|_| self.is_connected()) {
            let n = r.option(SOL_TCP, TCP_INFO, &mut b).unwrap_or(0);
            b[n..].fill(0);
        } else {
            let word = |b: &mut [u8], i: usize, v: u32| b[i..i + 4].copy_from_slice(&v.to_le_bytes());
            word(&mut b, 8, 200_000);
            word(&mut b, 16, 32_768);
            word(&mut b, 20, 32_768);
            word(&mut b, 80, 10);
        }
        b[0] = self.tcp_state();
        b.to_vec()
    }
    /// Takes a connection that the host has accepted.
    fn accept_outside(&self, remote: &Remote) -> Result<Arc<Self>> {
        let new = Self::new(self.family);
        let (r, peer) = remote.accept(&new.changed)?;
        let peer = super::interfaces::outsider(peer, self.family4());
        count(Count::TcpPassiveOpens);
        new.common.inherit(&self.common);
        for (level, name, value) in new.common.for_host() {
            r.set_option(level, name, value);
        }
        let local = self.state.with(|s| s.local).unwrap_or(self.unbound());
        let ip = if local.ip.is_any() { super::interfaces::outward(peer.ip) } else { local.ip };
        let binding = self.state.with(|s| s.binding.clone());
        new.state.with_mut(|s| {
            s.phase = Phase::Connected;
            s.binding = binding;
            s.local = Some(Endpoint { ip, ..local });
            s.bound_to = s.local;
            s.peer_addr = Some(peer);
            s.remote = Some(Arc::new(r));
        });
        Ok(new)
    }
    fn accept_inside(&self) -> Option<Arc<Self>> {
        let new = self.state.with_mut(|s| match &mut s.phase {
            Phase::Listening(b) => b.ready.pop_front(),
            _ => None,
        });
        self.fill_backlog();
        new
    }
}

/// Shows what is in a ring, behind the first `hole` bytes.
fn peek(ring: &Ring, hole: usize, dst: &mut Dst) -> Result<usize> {
    let (a, b) = ring.filled();
    let a = a.get(hole..).unwrap_or(&[]);
    let n = dst.push(a)?;
    if n < a.len() { Ok(n) } else { Ok(n + dst.push(b).unwrap_or(0)) }
}
fn loopback_like(any: Ip) -> Ip {
    if any == Ip::ANY6 { Ip::LOOPBACK6 } else { Ip::LOOPBACK4 }
}
/// The address that a connection within the enclave comes from.
fn source_for(to: Ip) -> Ip {
    if to.as_v4().is_some_and(|a| a[0] == 127) { Ip::LOOPBACK4 } else { to }
}

impl Socket for TcpSocket {
    fn class(&self) -> Class {
        Self::class_of(self.family)
    }
    fn common(&self) -> &Common {
        &self.common
    }
    fn bind(&self, addr: &[u8]) -> Result<()> {
        let at = match Endpoint::parse(self.family, addr)? {
            Some(e) => e,
            // For old programs: no family and no address is the wildcard.
            None if self.family4() && addr.len() >= 16 && addr[4..8] == [0; 4] => {
                Endpoint::new(Ip::ANY4, u16::from_be_bytes([addr[2], addr[3]]))
            }
            None if self.family4() && addr.len() < 16 => return Err(EINVAL),
            None => return Err(EAFNOSUPPORT),
        };
        if self.state.with(|s| s.binding.is_some()) {
            return Err(EINVAL);
        }
        if !at.ip.is_any() && !super::interfaces::is_own(at.ip) {
            return Err(EADDRNOTAVAIL);
        }
        self.bind_to(at)
    }
    fn listen(&self, backlog: usize) -> Result<()> {
        if self.state.with(|s| matches!(s.phase, Phase::Connected | Phase::Connecting(_))) {
            return Err(EINVAL);
        }
        let at = self.ensure_bound()?;
        let limit = backlog.min(BACKLOG);
        if let Some(b) = self.state.with(|s| s.binding.clone()) {
            b.listen(true)?;
        }
        let fresh = self.state.with_mut(|s| match &mut s.phase {
            Phase::Listening(b) => {
                b.limit = limit;
                false
            }
            p => {
                *p = Phase::Listening(Backlog { limit, ..Backlog::default() });
                s.error = None;
                true
            }
        });
        // Only what is bound to all addresses, or to one that others can reach, is meant for others.
        if fresh && !at.ip.is_loopback() {
            match Remote::listen(Kind::Stream, at.port, limit, &self.changed) {
                Ok(remote) => self.state.with_mut(|s| s.remote = remote.map(Arc::new)),
                Err(e) => {
                    self.disconnect();
                    return Err(e);
                }
            }
        }
        self.fill_backlog();
        self.changed.notify();
        Ok(())
    }
    fn connect(&self, addr: &[u8], nonblocking: bool) -> Result<()> {
        let Some(to) = Endpoint::parse(self.family, addr)? else {
            self.disconnect();
            return Ok(());
        };
        match self.connect_again() {
            // Waits on, as the first one does.
            Some(Err(EALREADY)) if !nonblocking => {}
            Some(r) => return r,
            None => {
                match self.start(to) {
                    // Linux's handshake is never over within the call: programs rely on hearing of it later.
                    Ok(()) if nonblocking => {}
                    Ok(()) => return Ok(()),
                    Err(EINPROGRESS) => {}
                    Err(e @ ECONNREFUSED) if nonblocking => self.connect_failed(e),
                    Err(e) => return Err(e),
                }
                if nonblocking {
                    self.state.with_mut(|s| s.untold = true);
                    return Err(EINPROGRESS);
                }
            }
        }
        let me: Arc<dyn File> = self.me.upgrade().ok_or(EINVAL)?;
        let timeout = self.common.send_timeout();
        let deadline = (timeout > 0).then(|| crate::time::monotonic_ns().saturating_add(timeout));
        wait_for(&me, deadline, || self.outcome()).map_err(|e| if e == EAGAIN { EINPROGRESS } else { e })
    }
    fn accept(&self) -> Result<(Arc<dyn File>, Vec<u8>)> {
        if !self.is_listening() {
            return Err(EINVAL);
        }
        let new = match (self.accept_inside(), self.remote()) {
            (Some(new), _) => new,
            (None, Some(remote)) => self.accept_outside(&remote)?,
            (None, None) => return Err(EAGAIN),
        };
        let peer = new.state.with(|s| s.peer_addr).unwrap_or(new.unbound()).format(self.family);
        Ok((new, peer))
    }
    fn name(&self) -> Vec<u8> {
        self.state.with(|s| s.local).unwrap_or(self.unbound()).format(self.family)
    }
    fn peer_name(&self) -> Result<Vec<u8>> {
        self.look_at_host();
        let peer = self.state.with(|s| s.peer_addr.filter(|_| matches!(s.phase, Phase::Connected)));
        Ok(peer.ok_or(ENOTCONN)?.format(self.family))
    }
    fn shutdown(&self, read: bool, write: bool) -> Result<()> {
        self.look_at_host();
        if self.is_listening() {
            if read {
                self.disconnect();
            }
            return Ok(());
        }
        if !self.is_connected() {
            return Err(ENOTCONN);
        }
        let (peer, remote) = self.state.with_mut(|s| {
            s.shut_read |= read;
            s.shut_write |= write;
            (s.peer.upgrade(), s.remote.clone())
        });
        if let Some(p) = peer.filter(|_| write) {
            p.state.with_mut(|s| s.eof = true);
            p.changed.notify();
            p.tell_end();
        }
        if let Some(r) = remote {
            r.shutdown(read, write);
        }
        self.changed.notify();
        Ok(())
    }
    fn send(&self, src: &mut Src, out: &mut Outgoing) -> Result<usize> {
        self.check_send()?;
        if src.remaining() == 0 {
            return Ok(0);
        }
        match self.remote() {
            Some(r) => self.send_outside(&r, src, out.flags),
            None => self.send_inside(src, out.flags & MSG_OOB != 0),
        }
    }
    fn receive(&self, dst: &mut Dst, flags: u32) -> Result<Received> {
        if self.is_listening() {
            return Err(ENOTCONN);
        }
        let len = self.receive_bytes(dst, flags)?;
        Ok(Received { len, full: len, ..Received::default() })
    }
    fn receive_urgent(&self, dst: &mut Dst, flags: u32) -> Option<Result<Received>> {
        if self.common.flag(SOL_SOCKET, SO_OOBINLINE) || self.is_listening() {
            return Some(Err(EINVAL));
        }
        Some(match self.remote().filter(|_| self.is_connected()) {
            Some(r) => {
                let mut byte = [0];
                r.receive_urgent(&mut byte, flags & MSG_PEEK != 0).and_then(|()| {
                    let len = if flags & MSG_TRUNC == 0 { dst.push(&byte)? } else { dst.remaining().min(1) };
                    let cut = if len == 0 { MSG_TRUNC } else { 0 };
                    Ok(Received { len, full: len, flags: MSG_OOB | cut, ..Received::default() })
                })
            }
            None => self.take_urgent(dst, flags),
        })
    }
    fn is_at_mark(&self) -> bool {
        match self.remote().filter(|_| self.is_connected()) {
            Some(r) => r.is_at_mark(),
            None => self.state.with(|s| s.urgent.is_some_and(|u| u.is_next())),
        }
    }
    fn take_error(&self) -> i32 {
        self.look_at_host();
        let own = self.state.with_mut(|s| s.error.take());
        let found = own.or_else(|| {
            let r = self.remote().filter(|r| self.is_connected() && r.ready() & POLLERR != 0)?;
            r.take_error()
        });
        found.map_or(0, |e| e.as_i32())
    }
    fn is_listening(&self) -> bool {
        self.state.with(|s| matches!(s.phase, Phase::Listening(_)))
    }
    fn get_option(&self, level: u32, name: u32) -> Option<Result<Vec<u8>>> {
        match (level, name) {
            (SOL_TCP, TCP_INFO) => Some(Ok(self.info())),
            (SOL_TCP, TCP_CONGESTION) => Some(Ok(b"cubic\0\0\0\0\0\0\0\0\0\0\0".to_vec())),
            _ => None,
        }
    }
    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Option<Result<()>> {
        match (level, name) {
            (SOL_TCP, TCP_CONGESTION) => {
                let known = value.split(|b| *b == 0).next() == Some(b"cubic");
                Some(if known { Ok(()) } else { Err(ENOENT) })
            }
            (SOL_IPV6, IPV6_V6ONLY) if self.state.with(|s| s.binding.is_some()) => Some(Err(EINVAL)),
            _ => None,
        }
    }
    fn option_changed(&self, level: u32, name: u32, value: i32) {
        if let Some(r) = self.remote().filter(|_| !self.is_listening()) {
            r.set_option(level, name, value);
        }
    }
}

impl File for TcpSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn inode_number(&self) -> Option<u64> {
        Some(super::number(self.owner.0))
    }
    fn as_socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        self.receive(dst, 0).map(|r| r.len)
    }
    fn try_write(&self, src: &mut Src) -> Result<usize> {
        self.send(src, &mut Outgoing::default())
    }
    fn poll(&self, _want: u32) -> u32 {
        self.look_at_host();
        let remote = self.remote().map_or(0, |r| r.ready());
        let unread = self.has_bytes();
        let (peer, error) = self.state.with(|s| (s.peer.upgrade(), s.error.is_some()));
        let room = match &peer {
            Some(p) => self.room(p).1,
            None => true,
        };
        if !room {
            self.state.with_mut(|s| s.wants_room = true);
        }
        let when = |on: bool, e: u32| if on { e } else { 0 };
        let err = when(error, POLLERR);
        let urgent = self.state.with(|s| s.urgent.is_some_and(|u| u.is_unread())) || remote & POLLPRI != 0;
        let pri = when(urgent, POLLPRI);
        self.state.with(|s| match &s.phase {
            Phase::Listening(b) => when(!b.ready.is_empty() || remote & POLLIN != 0, POLL_IN),
            Phase::Connecting(_) => err,
            Phase::Idle if s.gone => err | POLL_IN | POLL_OUT | POLLHUP | POLLRDHUP,
            Phase::Idle => err | POLL_OUT | POLLHUP | when(error, POLL_IN | POLLRDHUP),
            Phase::Connected => {
                let end = s.eof || s.shut_read || remote & (POLLRDHUP | POLLHUP) != 0;
                let outside = s.remote.is_some();
                let can_send = s.shut_write || (if outside { remote & POLLOUT != 0 } else { room });
                err | pri
                    | when(unread || end || remote & POLLIN != 0, POLL_IN)
                    | when(end, POLLRDHUP)
                    | when(can_send, POLL_OUT)
                    | when((s.eof || s.shut_read) && s.shut_write || remote & POLLHUP != 0, POLLHUP)
                    | when(remote & POLLERR != 0, POLLERR)
            }
        })
    }
    fn tells(&self) -> Tells {
        Tells::Owner
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.changed.queue());
    }
    fn ioctl(&self, request: u32, arg: u64) -> Result<usize> {
        match request {
            FIONREAD => {
                crate::uaccess::write_val(arg, self.available()? as u32)?;
                Ok(0)
            }
            SIOCATMARK => {
                // News of the host's that is on its way may be of urgent data.
                crate::host_events::refresh();
                crate::uaccess::write_val(arg, u32::from(self.is_at_mark()))?;
                Ok(0)
            }
            _ => super::interfaces::ioctl(request, arg),
        }
    }
}

/// The families that have TCP.
pub fn is_inet(family: u16) -> bool {
    matches!(family, AF_INET | AF_INET6)
}
