//! AF_UNIX sockets: stream, datagram, sequenced packets; names in the tree or abstract; descriptors in
//! messages.
//!
//! Each socket owns its incoming queue; a sender puts messages into the peer's. One queue of waiters per
//! socket hears of arrivals, of room at the peer, of connections and of the peer's end. Peers know each other
//! weakly: the open file (or a listener's backlog) owns a socket.
use super::addr::{AF_UNIX, AF_UNSPEC, family_of};
use super::garbage::{self, Cargo};
use super::options::{Common, SO_OOBINLINE, SO_PASSCRED, SO_PEERCRED, SOL_SOCKET};
use super::{Class, MSG_OOB, MSG_PEEK, Outgoing, Received, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, Socket};
use crate::fs::file::{File, Notify, OpenFile, Tells, wait_for};
use crate::fs::inode::InodeRef;
use crate::fs::path::Last;
use crate::fs::prelude::*;
use crate::fs::uio::{Dst, Src, try_vec};
use crate::fs::{env, ops};
use crate::sched::later;
use crate::signal::owner::Band;
use occlum_rt::mem::TryGrow;

/// Bytes a queue holds before senders wait.
const LIMIT: usize = 208 << 10;
/// Bytes taken from a sender at a time.
const PIECE: usize = 64 << 10;
/// Messages are joined up to this size.
const JOIN: usize = 16 << 10;
/// Messages in a queue; descriptors in flight per queue are bounded by it too.
const MAX_MESSAGES: usize = 4096;

/// `TCP_*` states, which SOCK_DIAG has of these, too.
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

/// Kind of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Bytes.
    Stream,
    /// Messages without connection.
    Datagram,
    /// Messages over a connection.
    Packet,
}

/// What a message has to do with urgent data: an urgent byte (MSG_OOB) is a message of its own, at which reads stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// Nothing, or nothing any more: another one was sent after it.
    None,
    /// It is the urgent byte. There is one at most, and then `State::has_urgent`.
    Urgent,
    /// It was, and MSG_OOB has read it; ordinary reads still stop here.
    Read,
}

/// What travels.
struct Message {
    data: Vec<u8>,
    at: usize,
    cargo: Cargo,
    from: Option<Vec<u8>>,
    cred: (i32, u32, u32),
    mark: Mark,
}

#[derive(Default)]
struct State {
    addr: Option<Vec<u8>>,
    /// The file that it is bound to: others find it there as long as this is in use.
    node: Option<InodeRef>,
    peer: Option<Weak<UnixSocket>>,
    peer_addr: Option<Vec<u8>>,
    peer_cred: (i32, u32, u32),
    connected: bool,
    /// Backlog length of a listener.
    listening: Option<usize>,
    backlog: VecDeque<Arc<UnixSocket>>,
    queue: VecDeque<Message>,
    bytes: usize,
    has_urgent: bool,
    /// Senders of datagrams that found it full.
    senders: BTreeMap<u64, Weak<UnixSocket>>,
    /// No more will come: the peer is gone or has shut down, or this side has.
    eof: bool,
    shut_write: bool,
    peer_gone: bool,
    /// A send found no room.
    wants_room: bool,
    pass_cred: bool,
}

/// A socket.
pub struct UnixSocket {
    /// Its kind.
    pub kind: Kind,
    me: Weak<UnixSocket>,
    common: Common,
    state: BklCell<State>,
    changed: Notify,
    id: u64,
}

/// What is seen of a socket from outside.
pub struct Seen {
    /// SOCK_*.
    pub kind: u32,
    /// TCP_*, as the kernel keeps it for these, too.
    pub state: u8,
    /// Its number.
    pub inode: u64,
    /// Its name, as it stands in an address.
    pub name: Option<Vec<u8>>,
    /// The number of the one it is connected to.
    pub peer: Option<u64>,
    /// Bytes to read here and there; of a listener the clients that wait, and how many may.
    pub queues: [u32; 2],
    /// Receives (1), sends (2) no more.
    pub shut: u8,
}

static ALL: BklCell<BTreeMap<u64, Weak<UnixSocket>>> = BklCell::new(BTreeMap::new());
/// The socket with this identity.
pub fn by_id(id: u64) -> Option<Arc<UnixSocket>> {
    ALL.with(|a| a.get(&id)?.upgrade())
}
/// The first socket after `id`, and its own.
pub fn after(id: u64) -> Option<(u64, Arc<UnixSocket>)> {
    ALL.with(|a| a.range(id + 1..).find_map(|(id, s)| Some((*id, s.upgrade()?))))
}
/// Every socket, for /proc/net.
pub fn all() -> impl Iterator<Item = Arc<UnixSocket>> {
    super::one_by_one(after)
}
static ABSTRACT: BklCell<BTreeMap<Vec<u8>, Weak<UnixSocket>>> = BklCell::new(BTreeMap::new());

impl Drop for UnixSocket {
    fn drop(&mut self) {
        ALL.with_mut(|a| a.remove(&self.id));
        garbage::ended(self.id);
        let s = self.state.take();
        if let Some(p) = s.peer.and_then(|p| p.upgrade()) {
            p.peer_ended();
        }
        if let Some(a) = s.addr
            && a.first() == Some(&0)
        {
            ABSTRACT.with_mut(|m| m.remove(&a));
        }
        for mut m in s.queue {
            bury(m.cargo.unload());
        }
    }
}

/// Drops files that were in flight, later: sockets within queues of sockets within queues must not recurse.
fn bury(mut files: Vec<Arc<OpenFile>>) {
    const PIECE: usize = 32;
    if files.is_empty() {
        return;
    }
    later::leave(move || {
        drop(files.split_off(files.len().saturating_sub(PIECE)));
        files.is_empty()
    });
}

/// What `garbage` looks at.
impl UnixSocket {
    /// Identity.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// Calls `f` for each file in its messages.
    pub fn each_in_flight(&self, mut f: impl FnMut(&Arc<OpenFile>)) {
        self.state.with(|s| s.queue.iter().flat_map(|m| m.cargo.files()).for_each(&mut f));
    }
    /// Connections that wait to be accepted.
    pub fn waiting_ids(&self) -> Vec<u64> {
        self.state.with(|s| s.backlog.iter().map(|w| w.id).collect())
    }
    /// Does it hold files, or sockets that wait?
    pub fn holds_any(&self) -> bool {
        self.state.with(|s| !s.backlog.is_empty() || s.queue.iter().any(|m| !m.cargo.files().is_empty()))
    }
    /// Drops the files in its messages.
    pub fn drop_in_flight(&self) {
        let gone =
            self.state.with_mut(|s| s.queue.iter_mut().flat_map(|m| m.cargo.unload()).collect::<Vec<_>>());
        bury(gone);
    }
}

impl UnixSocket {
    /// An unconnected socket.
    pub fn new(kind: Kind) -> Arc<Self> {
        let id = crate::fs::inode::next_id();
        let socket = Arc::new_cyclic(|me| Self {
            kind,
            me: me.clone(),
            common: Common::default(),
            state: BklCell::new(State::default()),
            changed: Notify::new(),
            id,
        });
        ALL.with_mut(|a| a.insert(id, Arc::downgrade(&socket)));
        socket
    }
    /// Type, flags, state, id and name: a row of /proc/net/unix.
    pub fn row(&self) -> (u32, u32, u32, u64, String) {
        const ACCEPTS: u32 = 1 << 16;
        let (name, connected) = self.state.with(|s| (s.addr.clone(), s.connected));
        let shown = name.map_or(String::new(), |n| {
            let text: Vec<u8> = n.iter().map(|c| if *c == 0 { b'@' } else { *c }).collect();
            alloc::format!(" {}", String::from_utf8_lossy(&text))
        });
        let flags = if self.is_listening() { ACCEPTS } else { 0 };
        (self.class().kind, flags, if connected { 3 } else { 1 }, super::number(self.id), shown)
    }
    /// What SOCK_DIAG tells of it.
    pub fn seen(&self) -> Seen {
        let peer = self.peer();
        let unread_there = peer.as_ref().map_or(0, |p| p.state.with(|s| s.bytes));
        self.state.with(|s| Seen {
            kind: self.class().kind,
            state: if s.listening.is_some() {
                LISTEN
            } else {
                [CLOSE, ESTABLISHED][usize::from(s.connected)]
            },
            inode: super::number(self.id),
            // A path ends with a zero there.
            name: s
                .addr
                .as_ref()
                .map(|n| if n.first() == Some(&0) { n.clone() } else { [&n[..], b"\0"].concat() }),
            peer: peer.map(|p| super::number(p.id)),
            queues: s
                .listening
                .map_or([s.bytes as u32, unread_there as u32], |most| [s.backlog.len() as u32, most as u32]),
            shut: u8::from(s.eof) | u8::from(s.shut_write) << 1,
        })
    }
    /// Two connected ones.
    pub fn pair(kind: Kind) -> (Arc<Self>, Arc<Self>) {
        let (a, b) = (Self::new(kind), Self::new(kind));
        a.join(&b, None);
        b.join(&a, None);
        (a, b)
    }
    fn join(&self, peer: &Arc<Self>, addr: Option<Vec<u8>>) {
        self.state.with_mut(|s| {
            s.peer = Some(Arc::downgrade(peer));
            s.peer_addr = addr;
            s.peer_cred = env::peer();
            s.connected = true;
        });
    }
    fn peer_ended(&self) {
        let connected = self.kind != Kind::Datagram;
        self.state.with_mut(|s| {
            s.eof |= connected;
            s.peer_gone |= connected;
        });
        self.changed.notify();
        if connected {
            self.changed.tell(Band::HangUp);
        }
    }
    fn peer(&self) -> Option<Arc<Self>> {
        self.state.with(|s| s.peer.as_ref().and_then(Weak::upgrade))
    }
    fn bound_name(&self) -> Option<Vec<u8>> {
        self.state.with(|s| s.addr.clone())
    }
    fn peer_cred(&self) -> (i32, u32, u32) {
        self.state.with(|s| if s.connected { s.peer_cred } else { (0, u32::MAX, u32::MAX) })
    }
    /// SO_PASSCRED.
    pub fn pass_cred(&self) -> bool {
        self.state.with(|s| s.pass_cred)
    }
    /// A name, or -- with the family alone -- none.
    fn format(name: Option<&[u8]>) -> Vec<u8> {
        let mut b = AF_UNIX.to_le_bytes().to_vec();
        if let Some(n) = name {
            b.extend_from_slice(n);
            if n.first() != Some(&0) {
                b.push(0);
            }
        }
        b
    }
    /// The name in a `sockaddr_un` (empty if there is none), or `None` for AF_UNSPEC.
    fn parse(b: &[u8]) -> Result<Option<Vec<u8>>> {
        if b.len() > 110 {
            return Err(EINVAL);
        }
        match family_of(b)? {
            AF_UNIX => {}
            AF_UNSPEC => return Ok(None),
            _ => return Err(EINVAL),
        }
        let name = &b[2..];
        if name.first().is_some_and(|c| *c != 0) {
            return Ok(Some(name.split(|c| *c == 0).next().unwrap_or(name).to_vec()));
        }
        Ok(Some(name.to_vec()))
    }

    /// An empty name picks an abstract one.
    fn bind_name(&self, name: &[u8]) -> Result<()> {
        if self.bound_name().is_some() {
            return Err(EINVAL);
        }
        let me = self.me.upgrade().ok_or(EINVAL)?;
        let name = if name.is_empty() {
            alloc::format!("\0{:05x}", crate::fs::inode::next_id() & 0xfffff).into_bytes()
        } else {
            name.to_vec()
        };
        if name[0] == 0 {
            let taken = ABSTRACT.with(|m| m.get(&name).is_some_and(|w| w.strong_count() > 0));
            if taken {
                return Err(EADDRINUSE);
            }
            ABSTRACT.with_mut(|m| m.insert(name.clone(), Arc::downgrade(&me)));
        } else {
            let d = ops::make_socket(&name)?;
            let node = d.inode().stand_in().ok_or(EPERM)?;
            let any: Arc<dyn Any + Send + Sync> = me;
            node.attach(&any);
            self.state.with_mut(|s| s.node = Some(d.inode().clone()));
        }
        self.state.with_mut(|s| s.addr = Some(name));
        Ok(())
    }
    /// The socket bound to a name.
    fn find(name: &[u8]) -> Result<Arc<Self>> {
        if name.first() == Some(&0) {
            return ABSTRACT.with(|m| m.get(name).and_then(Weak::upgrade)).ok_or(ECONNREFUSED);
        }
        let d = ops::walk_at(AT_FDCWD, name, Last::Follow)?.get()?;
        let inode = d.inode();
        if inode.kind() != S_IFSOCK {
            return Err(ECONNREFUSED);
        }
        env::cred().check(&inode.stat()?, MAY_WRITE)?;
        let node = inode.stand_in().ok_or(ECONNREFUSED)?;
        node.attached().and_then(|a| a.downcast::<UnixSocket>().ok()).ok_or(ECONNREFUSED)
    }
    /// `EAGAIN` while the backlog is full.
    fn connect_to(&self, target: &Arc<Self>) -> Result<()> {
        if target.kind != self.kind {
            return Err(EPROTOTYPE);
        }
        let me = self.me.upgrade().ok_or(EINVAL)?;
        if self.kind == Kind::Datagram {
            self.join(target, target.bound_name());
            return Ok(());
        }
        if self.state.with(|s| s.connected) {
            return Err(EISCONN);
        }
        if self.is_listening() {
            return Err(EINVAL);
        }
        let (limit, waiting) = target.state.with(|s| (s.listening, s.backlog.len()));
        if waiting > limit.ok_or(ECONNREFUSED)? {
            return Err(EAGAIN);
        }
        let server = Self::new(self.kind);
        server.common.inherit(&target.common);
        let pass_cred = target.pass_cred();
        server.state.with_mut(|s| (s.addr, s.pass_cred) = (target.bound_name(), pass_cred));
        server.join(&me, self.bound_name());
        self.join(&server, target.bound_name());
        target.state.with_mut(|s| s.backlog.push_back(server));
        garbage::holds(target.id);
        target.changed.notify();
        target.changed.tell(Band::In);
        Ok(())
    }
    /// Forgets the peer of a datagram socket (connect to AF_UNSPEC).
    pub fn disconnect(&self) {
        self.state.with_mut(|s| {
            s.peer = None;
            s.connected = false;
        });
    }
    /// Where a send goes.
    fn target(&self, to: Option<&Arc<Self>>) -> Result<Arc<Self>> {
        if self.state.with(|s| s.shut_write) {
            return Err(EPIPE);
        }
        if let Some(t) = to {
            return if self.kind != Kind::Datagram {
                Err(if self.state.with(|s| s.connected) { EISCONN } else { EOPNOTSUPP })
            } else if t.kind != self.kind {
                Err(EPROTOTYPE)
            } else {
                Ok(t.clone())
            };
        }
        if !self.state.with(|s| s.connected) {
            return Err(ENOTCONN);
        }
        self.peer().ok_or(if self.kind == Kind::Datagram { ECONNREFUSED } else { EPIPE })
    }
    /// Sends what fits (stream) or one message; `files` are taken only if something is sent. The last byte may be `urgent`.
    fn send_to(
        &self,
        src: &mut Src,
        files: &mut Vec<Arc<OpenFile>>,
        to: Option<&Arc<Self>>,
        urgent: bool,
    ) -> Result<usize> {
        let target = self.target(to)?;
        let (used, count) = target.state.with(|s| (s.bytes, s.queue.len()));
        let want = src.remaining();
        let stream = self.kind == Kind::Stream;
        if stream && want == 0 && files.is_empty() {
            return Ok(0);
        }
        if !stream && want > LIMIT {
            return Err(EMSGSIZE);
        }
        if !files.is_empty() {
            Cargo::admit()?;
        }
        let full = if stream { used >= LIMIT } else { used > 0 && used + want > LIMIT };
        if full || count >= MAX_MESSAGES {
            self.wait_for_room(&target);
            return Err(EAGAIN);
        }
        // The urgent byte goes by itself, after the others.
        let mark = if urgent && want == 1 { Mark::Urgent } else { Mark::None };
        let most = if urgent && want > 1 { want - 1 } else { want };
        let n = if stream { most.min(PIECE).min(LIMIT - used) } else { want };
        // The queue holds at most MAX_MESSAGES, but that may be more than there is room for now.
        crate::mm::admit(n as u64 + 1024).map_err(|_| ENOBUFS)?;
        target.state.with_mut(|s| s.queue.try_room(1)).map_err(|_| ENOBUFS)?;
        let mut data = try_vec(n)?;
        let got = src.pull(&mut data)?;
        if got < n && !stream {
            return Err(EFAULT);
        }
        data.truncate(got);
        let from = self.bound_name();
        let cargo = Cargo::load(core::mem::take(files));
        if cargo.has_sockets() {
            garbage::holds(target.id);
        }
        let message = Message { data, at: 0, cargo, from, cred: env::peer(), mark };
        target.deliver(message, stream);
        Ok(got)
    }
    fn deliver(&self, m: Message, stream: bool) {
        let urgent = m.mark == Mark::Urgent;
        self.state.with_mut(|s| {
            s.bytes += m.data.len();
            if urgent && core::mem::replace(&mut s.has_urgent, true) {
                s.queue.iter_mut().filter(|m| m.mark == Mark::Urgent).for_each(|m| m.mark = Mark::None);
            }
            match s.queue.back_mut() {
                Some(last)
                    if stream
                        && m.cargo.files().is_empty()
                        && last.cargo.files().is_empty()
                        && last.cred == m.cred
                        && (last.mark, m.mark) == (Mark::None, Mark::None)
                        && last.data.len() + m.data.len() <= JOIN =>
                {
                    last.data.extend_from_slice(&m.data);
                }
                _ => s.queue.push_back(m),
            }
        });
        if urgent {
            self.changed.tell(Band::Urgent);
        }
        self.changed.notify_of(if urgent { POLL_IN | POLLPRI } else { POLL_IN });
        self.changed.tell(Band::In);
    }
    /// Anyone may send a datagram, so the receiver keeps who waits; a stream's only sender is its peer.
    fn wait_for_room(&self, target: &UnixSocket) {
        self.state.with_mut(|s| s.wants_room = true);
        if self.kind == Kind::Datagram {
            target.state.with_mut(|s| {
                // Those that are gone go when they may be half of all.
                if s.senders.len().is_power_of_two() {
                    s.senders.retain(|_, w| w.strong_count() > 0);
                }
                s.senders.insert(self.id, self.me.clone());
            });
        }
    }
    fn tell_senders(&self) {
        let peer = self.peer().filter(|_| self.kind != Kind::Datagram);
        let senders = self.state.with_mut(|s| core::mem::take(&mut s.senders));
        // Owners hear of room only where there was none, and once most of it is there again.
        let plenty = self.state.with(|s| s.bytes <= LIMIT / 4);
        for s in senders.values().filter_map(Weak::upgrade).chain(peer) {
            s.changed.notify_of(POLL_OUT);
            if plenty && s.state.with_mut(|s| core::mem::take(&mut s.wants_room)) {
                s.changed.tell(Band::Out);
            }
        }
    }
    fn nothing(&self) -> Result<Received> {
        let (eof, connected) = self.state.with(|s| (s.eof, s.connected));
        if eof {
            return Ok(Received::default());
        }
        if !connected && self.kind != Kind::Datagram { Err(EINVAL) } else { Err(EAGAIN) }
    }
    /// Receives what is there.
    fn take(&self, dst: &mut Dst, peek: bool) -> Result<Received> {
        if self.kind == Kind::Stream {
            self.receive_bytes(dst, peek)
        } else {
            self.receive_message(dst, peek)
        }
    }
    fn receive_message(&self, dst: &mut Dst, peek: bool) -> Result<Received> {
        let Some(mut m) = self.state.with_mut(|s| s.queue.pop_front()) else { return self.nothing() };
        let pushed = dst.push(&m.data);
        let mut out = Received {
            full: m.data.len(),
            from: m.from.as_deref().map(|n| Self::format(Some(n))),
            cred: m.cred,
            ..Received::default()
        };
        if peek || pushed.is_err() {
            out.files = m.cargo.files().to_vec();
            self.state.with_mut(|s| s.queue.push_front(m));
        } else {
            self.state.with_mut(|s| s.bytes -= m.data.len());
            out.files = m.cargo.unload();
            self.tell_senders();
        }
        out.len = pushed?;
        Ok(out)
    }
    fn receive_bytes(&self, dst: &mut Dst, peek: bool) -> Result<Received> {
        if dst.remaining() == 0 {
            return Ok(Received::default());
        }
        let mut out = Received::default();
        let mut seen = Vec::new();
        let mut fault = None;
        while dst.remaining() > 0 && self.goes_on(&mut seen, peek, out.len > 0) {
            let Some(mut m) = self.state.with_mut(|s| s.queue.pop_front()) else { break };
            // Descriptors stay with their bytes: a message that has some starts a receive.
            if out.len > 0 && !m.cargo.files().is_empty() {
                self.state.with_mut(|s| s.queue.push_front(m));
                break;
            }
            let n = match dst.push(&m.data[m.at..]) {
                Ok(n) => n,
                Err(e) => {
                    self.state.with_mut(|s| s.queue.push_front(m));
                    fault = Some(e);
                    break;
                }
            };
            if out.len == 0 {
                (out.from, out.cred) = (m.from.as_deref().map(|n| Self::format(Some(n))), m.cred);
                out.files = if peek { m.cargo.files().to_vec() } else { m.cargo.unload() };
            }
            out.len += n;
            if peek {
                seen.push(m);
                continue;
            }
            m.at += n;
            let had_files = !out.files.is_empty();
            self.state.with_mut(|s| {
                s.bytes -= n;
                if m.at < m.data.len() {
                    s.queue.push_front(m);
                }
            });
            if n == 0 || had_files {
                break;
            }
        }
        self.state.with_mut(|s| seen.into_iter().rev().for_each(|m| s.queue.push_front(m)));
        if out.len == 0
            && let Some(e) = fault
        {
            return Err(e);
        }
        if out.len == 0 && out.files.is_empty() {
            return self.nothing();
        }
        if !peek {
            self.tell_senders();
        }
        out.full = out.len;
        Ok(out)
    }
    /// Is there more for an ordinary read that has taken (`copied`), or not yet taken something? An urgent byte that is next
    /// goes if it is not for ordinary reads (SO_OOBINLINE), or is `seen` by one that only looks.
    fn goes_on(&self, seen: &mut Vec<Message>, peek: bool, copied: bool) -> bool {
        let inline = self.common.flag(SOL_SOCKET, SO_OOBINLINE);
        let mark = || self.state.with(|s| s.queue.front().map(|m| m.mark));
        let mut pass = |unread: usize| {
            let passed = self.state.with_mut(|s| {
                s.bytes -= if peek { 0 } else { unread };
                s.queue.pop_front()
            });
            match passed {
                Some(m) if peek => seen.push(m),
                Some(mut m) => {
                    bury(m.cargo.unload());
                    self.tell_senders();
                }
                None => {}
            }
        };
        if mark() == Some(Mark::Read) {
            if copied && !self.state.with(|s| s.has_urgent) {
                return false;
            }
            pass(0);
        }
        if mark() == Some(Mark::Urgent) {
            if copied {
                return false;
            }
            if !peek {
                self.state.with_mut(|s| {
                    s.has_urgent = false;
                    s.queue.iter_mut().take(1).for_each(|m| m.mark = Mark::None);
                });
            }
            if !inline {
                pass(1);
            }
        }
        mark().is_some()
    }
    /// The urgent byte (MSG_OOB).
    fn take_urgent(&self, dst: &mut Dst, peek: bool) -> Result<Received> {
        if !self.state.with(|s| s.connected) || self.common.flag(SOL_SOCKET, SO_OOBINLINE) {
            return Err(EINVAL);
        }
        let (byte, passed) = self.state.with_mut(|s| {
            let n = s.queue.iter().position(|m| m.mark == Mark::Urgent).ok_or(EINVAL)?;
            let m = &mut s.queue[n];
            let byte = *m.data.first().ok_or(EINVAL)?;
            if peek {
                return Ok((byte, None));
            }
            (m.mark, m.at) = (Mark::Read, m.data.len());
            s.has_urgent = false;
            s.bytes -= 1;
            // Reads stop only once.
            let before = n.checked_sub(1).filter(|n| s.queue[*n].mark == Mark::Read);
            Ok((byte, before.and_then(|n| s.queue.remove(n))))
        })?;
        passed.into_iter().for_each(|mut m| bury(m.cargo.unload()));
        dst.push(&[byte])?;
        Ok(Received { len: 1, full: 1, flags: MSG_OOB, ..Received::default() })
    }
    /// FIONREAD.
    fn available(&self) -> usize {
        self.state.with(|s| match self.kind {
            Kind::Stream => s.bytes,
            _ => s.queue.front().map_or(0, |m| m.data.len()),
        })
    }
}

impl Socket for UnixSocket {
    fn class(&self) -> Class {
        let kind = match self.kind {
            Kind::Stream => SOCK_STREAM,
            Kind::Datagram => SOCK_DGRAM,
            Kind::Packet => SOCK_SEQPACKET,
        };
        Class { family: AF_UNIX, kind, protocol: 0 }
    }
    fn common(&self) -> &Common {
        &self.common
    }
    fn bind(&self, addr: &[u8]) -> Result<()> {
        self.bind_name(&Self::parse(addr)?.ok_or(EINVAL)?)
    }
    fn listen(&self, backlog: usize) -> Result<()> {
        if self.kind == Kind::Datagram {
            return Err(EOPNOTSUPP);
        }
        self.state.with_mut(|s| {
            if s.addr.is_none() || s.connected {
                return Err(EINVAL);
            }
            s.listening = Some(backlog.min(4096));
            Ok(())
        })
    }
    fn connect(&self, addr: &[u8], nonblocking: bool) -> Result<()> {
        let Some(name) = Self::parse(addr)? else {
            self.disconnect();
            return Ok(());
        };
        let target = Self::find(&name)?;
        match self.connect_to(&target) {
            Err(EAGAIN) if !nonblocking => {}
            r => return r,
        }
        // The backlog is full: wait for the listener.
        let listener: Arc<dyn File> = target.clone();
        let timeout = self.common.send_timeout();
        let deadline = (timeout > 0).then(|| crate::time::monotonic_ns().saturating_add(timeout));
        wait_for(&listener, deadline, || self.connect_to(&target))
            .map_err(|e| if e == ETIMEDOUT { EAGAIN } else { e })
    }
    fn accept(&self) -> Result<(Arc<dyn File>, Vec<u8>)> {
        if self.kind == Kind::Datagram {
            return Err(EOPNOTSUPP);
        }
        if !self.is_listening() {
            return Err(EINVAL);
        }
        let new = self.state.with_mut(|s| s.backlog.pop_front()).ok_or(EAGAIN)?;
        self.changed.notify();
        let from = Self::format(new.state.with(|s| s.peer_addr.clone()).as_deref());
        Ok((new, from))
    }
    fn name(&self) -> Vec<u8> {
        Self::format(self.bound_name().as_deref())
    }
    fn peer_name(&self) -> Result<Vec<u8>> {
        self.state.with(
            |s| {
                if s.connected { Ok(Self::format(s.peer_addr.as_deref())) } else { Err(ENOTCONN) }
            },
        )
    }
    fn shutdown(&self, read: bool, write: bool) -> Result<()> {
        if !self.state.with(|s| s.connected) {
            return Err(ENOTCONN);
        }
        let peer = self.peer();
        self.state.with_mut(|s| {
            s.eof |= read;
            s.shut_write |= write;
        });
        if let Some(p) = peer
            && self.kind != Kind::Datagram
        {
            p.state.with_mut(|s| {
                s.eof |= write;
                s.shut_write |= read;
            });
            p.changed.notify();
            match (read, write) {
                (true, true) => p.changed.tell(Band::HangUp),
                (false, true) => p.changed.tell(Band::In),
                _ => {}
            }
        }
        self.changed.notify();
        Ok(())
    }
    fn send(&self, src: &mut Src, out: &mut Outgoing) -> Result<usize> {
        let to = match &out.to {
            Some(addr) => Some(Self::find(&Self::parse(addr)?.ok_or(EINVAL)?)?),
            None => None,
        };
        let urgent = out.flags & MSG_OOB != 0;
        if urgent && (self.kind != Kind::Stream || src.remaining() == 0) {
            return Err(EOPNOTSUPP);
        }
        self.send_to(src, &mut out.files, to.as_ref(), urgent)
    }
    fn receive(&self, dst: &mut Dst, flags: u32) -> Result<Received> {
        self.take(dst, flags & MSG_PEEK != 0)
    }
    fn receive_urgent(&self, dst: &mut Dst, flags: u32) -> Option<Result<Received>> {
        Some(match self.kind {
            Kind::Stream => self.take_urgent(dst, flags & MSG_PEEK != 0),
            _ => Err(EOPNOTSUPP),
        })
    }
    fn is_at_mark(&self) -> bool {
        self.state.with(|s| {
            let mut next = s.queue.iter().map(|m| m.mark);
            match next.next() {
                Some(Mark::Urgent) => true,
                Some(Mark::Read) => !s.has_urgent || next.next() == Some(Mark::Urgent),
                _ => false,
            }
        })
    }
    fn is_listening(&self) -> bool {
        self.state.with(|s| s.listening.is_some())
    }
    fn get_option(&self, level: u32, name: u32) -> Option<Result<Vec<u8>>> {
        match (level, name) {
            (SOL_SOCKET, SO_PASSCRED) => Some(Ok(i32::from(self.pass_cred()).to_le_bytes().to_vec())),
            (SOL_SOCKET, SO_PEERCRED) => {
                let (pid, uid, gid) = self.peer_cred();
                Some(Ok([pid.to_le_bytes(), uid.to_le_bytes(), gid.to_le_bytes()].concat()))
            }
            _ => None,
        }
    }
    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Option<Result<()>> {
        if (level, name) != (SOL_SOCKET, SO_PASSCRED) {
            return None;
        }
        let Some(v) = value.first_chunk::<4>() else { return Some(Err(EINVAL)) };
        self.state.with_mut(|s| s.pass_cred = i32::from_le_bytes(*v) != 0);
        Some(Ok(()))
    }
}

impl File for UnixSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn inode_number(&self) -> Option<u64> {
        Some(super::number(self.id))
    }
    fn as_socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
    fn is_stream(&self) -> bool {
        self.kind == Kind::Stream
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        self.take(dst, false).map(|r| r.len)
    }
    fn try_write(&self, src: &mut Src) -> Result<usize> {
        self.send_to(src, &mut Vec::new(), None, false)
    }
    fn poll(&self, _want: u32) -> u32 {
        let is_full = |p: &Arc<Self>| p.state.with(|s| s.bytes >= LIMIT || s.queue.len() >= MAX_MESSAGES);
        let full = self.peer().filter(is_full);
        full.iter().for_each(|p| self.wait_for_room(p));
        self.state.with(|s| {
            let mut e = 0;
            if !s.queue.is_empty() || !s.backlog.is_empty() || s.eof {
                e |= POLL_IN;
            }
            if s.has_urgent {
                e |= POLLPRI;
            }
            if s.eof {
                e |= POLLRDHUP;
            }
            if s.peer_gone || (s.eof && s.shut_write) {
                e |= POLLHUP;
            }
            let idle = !s.connected && self.kind != Kind::Datagram;
            if idle && s.listening.is_none() {
                e |= POLLHUP;
            }
            if s.listening.is_none() && full.is_none() {
                e |= POLL_OUT;
            }
            e
        })
    }
    fn tells(&self) -> Tells {
        Tells::Owner
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.changed.queue());
    }
    fn ioctl(&self, request: u32, arg: u64) -> Result<usize> {
        let answer = match request {
            FIONREAD => self.available() as u32,
            SIOCATMARK if self.kind == Kind::Stream => u32::from(self.is_at_mark()),
            SIOCATMARK => return Err(EOPNOTSUPP),
            _ => return super::interfaces::ioctl(request, arg),
        };
        crate::uaccess::write_val(arg, answer)?;
        Ok(0)
    }
}
