//! UDP and UDP-Lite sockets, IPv4 and IPv6.
//!
//! A datagram to one of the enclave's own addresses goes straight into the queue of the socket that `ports` finds; others
//! go through a socket of the host, which is opened when it is first needed, and which also brings the answers. A socket
//! bound to a published port receives what arrives there. A send to a port inside that nobody has is an error of the next
//! call, as the ICMP message would make it, and waits in a queue for who asked for that (IP_RECVERR). UDP-Lite reaches the enclave only.
use super::addr::{AF_INET, AF_INET6, Endpoint, Ip, family_of};
use super::counts::{Count, count};
use super::host::{self, DATAGRAM, Kind, Remote};
use super::options::{
    Common, IP_RECVERR, IPV6_RECVERR, IPV6_V6ONLY, SO_BROADCAST, SO_REUSEADDR, SO_REUSEPORT, SOL_IP,
    SOL_IPV6, SOL_SOCKET, SOL_UDP, SOL_UDPLITE,
};
use super::packet::{Info, Refused, Wish};
use super::ports::{self, Binding, Claim, Proto};
use super::{Class, MSG_ERRQUEUE, MSG_PEEK, Outgoing, Received, SOCK_DGRAM, Socket, interfaces};
use crate::fs::file::{File, Notify, Tells};
use crate::fs::prelude::*;
use crate::fs::uio::{Dst, Src, try_vec};
use crate::signal::owner::Band;
use occlum_rt::mem::TryGrow;

/// Bytes that a queue holds; more are dropped, as the network would.
const LIMIT: usize = 208 << 10;
/// What a datagram costs besides its bytes.
const OVERHEAD: usize = 128;
/// Programs of the host that an answer finds back to.
const MAX_CALLERS: usize = 1024;
/// Bytes of what stands before a datagram from the host.
const HEAD: usize = occlum_enclave_abi::NET_ADDR + 4;

struct Message {
    from: Endpoint,
    info: Info,
    data: Vec<u8>,
}

/// What a receive took: bytes, all the bytes that there were, sender, what IP says.
struct Taken {
    len: usize,
    full: usize,
    from: Endpoint,
    info: Option<Info>,
}

#[derive(Default)]
struct State {
    binding: Option<Binding>,
    local: Option<Endpoint>,
    peer: Option<Endpoint>,
    queue: VecDeque<Message>,
    used: usize,
    error: Option<Errno>,
    /// What came back, for MSG_ERRQUEUE.
    refused: VecDeque<Refused>,
    shut_read: bool,
    shut_write: bool,
    /// Sends to outside, and receives the answers.
    outward: Option<Arc<Remote>>,
    /// Receives what comes to a published port.
    published: Option<Arc<Remote>>,
    /// The true addresses of programs of the host that have called, by port.
    callers: BTreeMap<u16, Ip>,
}

/// A UDP socket.
pub struct UdpSocket {
    family: u16,
    proto: Proto,
    me: Weak<UdpSocket>,
    common: Common,
    state: BklCell<State>,
    changed: Arc<Notify>,
    owner: (u64, u32),
}

static ALL: BklCell<BTreeMap<u64, Weak<UdpSocket>>> = BklCell::new(BTreeMap::new());
/// The first socket after `id`, and its own.
pub fn after(id: u64) -> Option<(u64, Arc<UdpSocket>)> {
    ALL.with(|a| a.range(id + 1..).find_map(|(id, s)| Some((*id, s.upgrade()?))))
}
/// Every socket, for /proc/net.
pub fn all() -> impl Iterator<Item = Arc<UdpSocket>> {
    super::one_by_one(after)
}
impl Drop for UdpSocket {
    fn drop(&mut self) {
        ALL.with_mut(|a| a.remove(&self.owner.0));
    }
}

impl UdpSocket {
    /// An unbound socket of AF_INET or AF_INET6.
    pub fn new(family: u16, proto: Proto) -> Arc<Self> {
        let id = crate::fs::inode::next_id();
        let socket = Arc::new_cyclic(|me| Self {
            family,
            proto,
            me: me.clone(),
            common: Common::default(),
            state: BklCell::new(State::default()),
            changed: Arc::new(Notify::new()),
            owner: (id, crate::fs::env::cred().uid),
        });
        ALL.with_mut(|a| a.insert(id, Arc::downgrade(&socket)));
        socket
    }
    fn family4(&self) -> bool {
        self.family == AF_INET
    }
    fn unbound(&self) -> Endpoint {
        Endpoint::new(if self.family4() { Ip::ANY4 } else { Ip::ANY6 }, 0)
    }
    fn local(&self) -> Endpoint {
        self.state.with(|s| s.local).unwrap_or(self.unbound())
    }
    /// Family, both ends, state, bytes unread, user, id: a row of /proc/net/udp.
    pub fn row(&self) -> (u16, Endpoint, Endpoint, u8, usize, u32, u64) {
        let (peer, used) = self.state.with(|s| (s.peer, s.used));
        let state = if peer.is_some() { 1 } else { 7 };
        (
            self.family,
            self.local(),
            peer.unwrap_or(self.unbound()),
            state,
            used,
            self.owner.1,
            super::number(self.owner.0),
        )
    }
    /// Is it one of /proc/net/udp's?
    pub fn is_shown(&self) -> bool {
        self.proto == Proto::Udp && self.is_bound()
    }
    fn is_bound(&self) -> bool {
        self.state.with(|s| s.binding.is_some())
    }
    fn bind_to(&self, at: Endpoint) -> Result<()> {
        let me: Weak<dyn Any + Send + Sync> = self.me.clone();
        let claim = Claim {
            at,
            v6_only: self.common.flag(SOL_IPV6, IPV6_V6ONLY),
            reuse: self.common.flag(SOL_SOCKET, SO_REUSEADDR),
            reuse_port: self.common.flag(SOL_SOCKET, SO_REUSEPORT),
        };
        let binding = ports::bind(self.proto, claim, me)?;
        let at = Endpoint { port: binding.port(), ..at };
        self.state.with_mut(|s| (s.binding, s.local) = (Some(binding), Some(at)));
        if !at.ip.is_loopback() && self.proto == Proto::Udp {
            let published = Remote::listen(Kind::Datagram, at.port, 0, &self.changed)?;
            self.state.with_mut(|s| s.published = published.map(Arc::new));
        }
        Ok(())
    }
    fn ensure_bound(&self) -> Result<()> {
        if self.is_bound() { Ok(()) } else { self.bind_to(self.unbound()) }
    }
    /// Where a datagram with this destination goes.
    fn destination(&self, to: &[u8]) -> Result<Endpoint> {
        // An IPv6 socket takes an IPv4 destination; AF_UNSPEC stands for AF_INET.
        let family = match family_of(to)? {
            AF_INET if self.family == AF_INET6 => AF_INET,
            _ => self.family,
        };
        let to = Endpoint::parse(family, to)?.ok_or(if self.family4() { EAFNOSUPPORT } else { EINVAL })?;
        if to.port == 0 {
            return Err(EINVAL);
        }
        self.routed(to)
    }
    fn routed(&self, to: Endpoint) -> Result<Endpoint> {
        if self.common.flag(SOL_IPV6, IPV6_V6ONLY) && to.ip.as_v4().is_some() && !self.family4() {
            return Err(ENETUNREACH);
        }
        if to.ip == Ip::v4([255; 4]) && !self.common.flag(SOL_SOCKET, SO_BROADCAST) {
            return Err(EACCES);
        }
        let ip = match to.ip {
            Ip::ANY4 => Ip::LOOPBACK4,
            Ip::ANY6 => Ip::LOOPBACK6,
            ip => ip,
        };
        Ok(Endpoint { ip, ..to })
    }
    fn outward(&self, to: Endpoint) -> Result<Arc<Remote>> {
        if self.proto != Proto::Udp {
            return Err(ENETUNREACH);
        }
        if let Some(r) = self.state.with(|s| s.outward.clone()) {
            return Ok(r);
        }
        let connected = self.state.with(|s| s.peer);
        let target = connected.unwrap_or(Endpoint::new(to.ip, 0));
        let options = self.common.for_host();
        let open = |v4| Remote::connect(Kind::Datagram, v4, &target, &options, &self.changed);
        let r = match open(self.family4()) {
            // A host without IPv6 still has IPv4.
            Err(EAFNOSUPPORT) if to.ip.as_v4().is_some() => open(true),
            r => r,
        };
        let r = Arc::new(r?);
        self.state.with_mut(|s| s.outward = Some(r.clone()));
        Ok(r)
    }
    /// Who a datagram from here comes from, as seen inside.
    fn source(&self, to: Ip) -> Endpoint {
        let local = self.local();
        let ip = match (local.ip.is_any(), to.is_loopback()) {
            (false, _) => local.ip,
            (true, true) if to.as_v4().is_some() => Ip::LOOPBACK4,
            (true, _) => to,
        };
        Endpoint { ip, ..local }
    }
    fn send_inside(&self, to: Endpoint, data: Vec<u8>, wish: &Wish) {
        let source = self.source(to.ip);
        let from = Endpoint { ip: wish.source.unwrap_or(source.ip), ..source };
        let info = wish.info(&self.common, to.ip);
        let takes = |s: &UdpSocket| s.state.with(|s| s.peer.is_none_or(|p| p == from));
        match ports::find(self.proto, to, takes) {
            Some(target) => return target.deliver(Message { from, info, data }),
            None => self.came_back(to, data),
        }
        self.count(Count::UdpNoPorts);
    }
    /// Nobody took a datagram: a connected socket hears of it, and one that asked for more.
    fn came_back(&self, to: Endpoint, data: Vec<u8>) {
        let refused = Refused::new(&self.common, to, data);
        if refused.is_none() && self.state.with(|s| s.peer.is_none()) {
            return;
        }
        self.state.with_mut(|s| {
            s.error = Some(ECONNREFUSED);
            let Some(r) = refused else { return };
            let cost = r.data().len() + OVERHEAD;
            if s.used + cost <= LIMIT && s.refused.try_room(1).is_ok() {
                s.used += cost;
                s.refused.push_back(r);
            }
        });
        self.changed.notify();
        self.changed.tell(Band::Error);
    }
    fn forget_refused(&self) {
        self.state.with_mut(|s| {
            s.used -= s.refused.iter().map(|r| r.data().len() + OVERHEAD).sum::<usize>();
            s.refused.clear();
        });
    }
    /// /proc/net/snmp is about UDP of IPv4.
    fn count(&self, what: Count) {
        if self.family == AF_INET && self.proto == Proto::Udp {
            count(what);
        }
    }
    fn deliver(&self, m: Message) {
        let cost = m.data.len() + OVERHEAD;
        let taken = self.state.with_mut(|s| {
            let room = s.used + cost <= LIMIT || s.queue.is_empty();
            if !room || s.shut_read || s.queue.try_room(1).is_err() {
                return false;
            }
            s.used += cost;
            s.queue.push_back(m);
            true
        });
        if !taken {
            self.count(Count::UdpRcvbufErrors);
        }
        if taken {
            self.changed.notify();
            self.changed.tell(Band::In);
        }
    }
    fn send_outside(&self, to: Endpoint, data: &[u8], wish: &Wish) -> Result<usize> {
        let options = wish.for_host(&self.common, to.ip);
        let send = |r: &Remote, to: Option<&Endpoint>| {
            options.iter().for_each(|(level, name, value, _)| r.set_option(*level, *name, *value));
            let sent = r.send_datagram(data, to);
            options.iter().for_each(|(level, name, _, after)| r.set_option(*level, *name, *after));
            sent
        };
        // An answer to who came by the published port leaves by it.
        let (published, connected) = self.state.with(|s| (s.published.clone(), s.peer.is_some()));
        let caller = self.state.with(|s| s.callers.get(&to.port).copied());
        let answer = caller.filter(|_| to.ip == Ip::HOST4 || to.ip == Ip::HOST6);
        let n = match published {
            Some(p) if answer.is_some() || !connected => {
                send(&p, Some(&Endpoint { ip: answer.unwrap_or(to.ip), ..to }))
            }
            _ => {
                let remote = self.outward(to)?;
                send(&remote, (!connected).then_some(&to))
            }
        };
        n.map(|_| data.len())
    }
    /// The first datagram, which stays in the queue if it is only peeked at, or if user memory takes nothing of it.
    fn take_inside(&self, dst: &mut Dst, peek: bool) -> Option<Result<Taken>> {
        let m = self.state.with_mut(|s| s.queue.pop_front())?;
        let pushed = dst.push(&m.data);
        let (full, from, info) = (m.data.len(), m.from, Some(m.info));
        if peek {
            self.state.with_mut(|s| s.queue.push_front(m));
        } else {
            self.state.with_mut(|s| s.used -= full + OVERHEAD);
        }
        Some(pushed.map(|len| Taken { len, full, from, info }))
    }
    fn take_outside(&self, remote: &Remote, dst: &mut Dst, peek: bool) -> Result<Taken> {
        let want = dst.remaining().min(DATAGRAM);
        let mut buf = try_vec(want + HEAD)?;
        let (full, from) = remote.receive_from(&mut buf, peek)?;
        let shown = interfaces::outsider(from, self.family4());
        if shown.ip != from.ip {
            self.state.with_mut(|s| {
                if s.callers.len() >= MAX_CALLERS {
                    s.callers.pop_first();
                }
                s.callers.insert(from.port, from.ip);
            });
        }
        // Of a published port, the address that leads to whoever sent it.
        let local = self.local().ip;
        let to = if local.is_any() { interfaces::outward(shown.ip) } else { local };
        Ok(Taken { len: dst.push(&buf)?, full, from: shown, info: Some(Info::outside(to)) })
    }
    fn remotes(&self) -> [Option<Arc<Remote>>; 2] {
        self.state.with(|s| [s.published.clone(), s.outward.clone()])
    }
    fn take(&self, dst: &mut Dst, peek: bool) -> Result<Taken> {
        if let Some(e) = self.state.with_mut(|s| s.error.take()) {
            return Err(e);
        }
        if let Some(r) = self.take_inside(dst, peek) {
            return r;
        }
        for remote in self.remotes().iter().flatten() {
            match self.take_outside(remote, dst, peek) {
                Err(EAGAIN) => {}
                r => return r,
            }
        }
        if !self.state.with(|s| s.shut_read) {
            return Err(EAGAIN);
        }
        Ok(Taken { len: 0, full: 0, from: self.unbound(), info: None })
    }
}

impl Socket for UdpSocket {
    fn class(&self) -> Class {
        Class {
            family: self.family,
            kind: SOCK_DGRAM,
            protocol: if self.proto == Proto::Udp { SOL_UDP } else { SOL_UDPLITE },
        }
    }
    fn common(&self) -> &Common {
        &self.common
    }
    fn bind(&self, addr: &[u8]) -> Result<()> {
        let at = Endpoint::parse(self.family, addr)?.ok_or(EAFNOSUPPORT)?;
        if self.is_bound() {
            return Err(EINVAL);
        }
        if !at.ip.is_any() && !at.ip.is_group() && !interfaces::is_own(at.ip) {
            return Err(EADDRNOTAVAIL);
        }
        self.bind_to(at)
    }
    fn connect(&self, addr: &[u8], _nonblocking: bool) -> Result<()> {
        let Some(to) = Endpoint::parse(self.family, addr)? else {
            self.state.with_mut(|s| {
                s.peer = None;
                s.outward = None;
            });
            return Ok(());
        };
        let to = self.routed(to)?;
        self.ensure_bound()?;
        self.state.with_mut(|s| {
            s.outward = None;
            s.peer = Some(to);
        });
        let mut local = self.source(to.ip);
        if !interfaces::is_own(to.ip) {
            let opened = self.outward(to);
            if let Err(e) = opened {
                self.state.with_mut(|s| s.peer = None);
                return Err(e);
            }
            // The program learns which of its addresses leads there.
            let own = opened?.own_name().map_or(interfaces::outward(to.ip), |e| e.ip);
            local.ip = if self.local().ip.is_any() { own } else { self.local().ip };
        }
        self.state.with_mut(|s| s.local = Some(local));
        Ok(())
    }
    fn name(&self) -> Vec<u8> {
        self.local().format(self.family)
    }
    fn peer_name(&self) -> Result<Vec<u8>> {
        Ok(self.state.with(|s| s.peer).ok_or(ENOTCONN)?.format(self.family))
    }
    fn shutdown(&self, read: bool, write: bool) -> Result<()> {
        self.state.with_mut(|s| {
            s.shut_read |= read;
            s.shut_write |= write;
            if s.peer.is_some() { Ok(()) } else { Err(ENOTCONN) }
        })?;
        self.changed.notify();
        Ok(())
    }
    fn send(&self, src: &mut Src, out: &mut Outgoing) -> Result<usize> {
        if let Some(e) = self.state.with_mut(|s| s.error.take()) {
            return Err(e);
        }
        let to = match &out.to {
            Some(to) => self.destination(to)?,
            None => self.state.with(|s| s.peer).ok_or(EDESTADDRREQ)?,
        };
        if self.state.with(|s| s.shut_write) {
            return Err(EPIPE);
        }
        let n = src.remaining();
        if n > DATAGRAM {
            return Err(EMSGSIZE);
        }
        let wish = Wish::read(self.family, &out.control)?;
        self.ensure_bound()?;
        crate::mm::admit(n as u64 + 1024).map_err(|_| ENOBUFS)?;
        let mut data = try_vec(n)?;
        if src.pull(&mut data)? < n {
            return Err(EFAULT);
        }
        if interfaces::is_own(to.ip) {
            self.count(Count::UdpOutDatagrams);
            self.send_inside(to, data, &wish);
            return Ok(n);
        }
        let r = self.send_outside(to, &data, &wish);
        if r.is_ok() {
            self.count(Count::UdpOutDatagrams);
        }
        if r == Err(EAGAIN) {
            src.rewind(n);
        }
        r
    }
    fn receive(&self, dst: &mut Dst, flags: u32) -> Result<Received> {
        let t = self.take(dst, flags & MSG_PEEK != 0)?;
        if flags & MSG_PEEK == 0 {
            self.count(Count::UdpInDatagrams);
        }
        let control = t.info.map(|i| i.told(&self.common)).unwrap_or_default();
        let from = Some(t.from.format(self.family));
        Ok(Received { len: t.len, full: t.full, from, control, ..Received::default() })
    }
    fn receive_urgent(&self, _dst: &mut Dst, _flags: u32) -> Option<Result<Received>> {
        None
    }
    fn receive_error(&self, dst: &mut Dst) -> Result<Received> {
        let r = self.state.with_mut(|s| {
            let r = s.refused.pop_front()?;
            s.used -= r.data().len() + OVERHEAD;
            s.error = s.refused.front().map(|_| ECONNREFUSED);
            Some(r)
        });
        let r = r.ok_or(EAGAIN)?;
        let len = dst.push(r.data())?;
        let from = Some(r.to().format(self.family));
        let control = vec![r.told(self.family)];
        Ok(Received { len, full: r.data().len(), from, control, flags: MSG_ERRQUEUE, ..Received::default() })
    }
    fn take_error(&self) -> i32 {
        self.state.with_mut(|s| s.error.take()).map_or(0, |e| e.as_i32())
    }
    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Option<Result<()>> {
        const IP_ADD_MEMBERSHIP: u32 = 35;
        const IPV6_ADD_MEMBERSHIP: u32 = 20;
        match (level, name) {
            (SOL_IPV6, IPV6_V6ONLY) if self.is_bound() => Some(Err(EINVAL)),
            // No group is delivered to anyone: say so.
            (SOL_IP, IP_ADD_MEMBERSHIP) | (SOL_IPV6, IPV6_ADD_MEMBERSHIP) => {
                Some(Err(if value.len() < 8 { EINVAL } else { ENODEV }))
            }
            _ => None,
        }
    }
    fn option_changed(&self, level: u32, name: u32, value: i32) {
        if matches!((level, name), (SOL_IP, IP_RECVERR) | (SOL_IPV6, IPV6_RECVERR)) {
            if value == 0 {
                self.forget_refused();
            }
            return;
        }
        for r in self.remotes().iter().flatten() {
            r.set_option(level, name, value);
        }
    }
}

impl File for UdpSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn inode_number(&self) -> Option<u64> {
        Some(super::number(self.owner.0))
    }
    fn as_socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
    fn is_stream(&self) -> bool {
        false
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        self.receive(dst, 0).map(|r| r.len)
    }
    fn try_write(&self, src: &mut Src) -> Result<usize> {
        self.send(src, &mut Outgoing::default())
    }
    fn poll(&self, _want: u32) -> u32 {
        let readable = self.remotes().iter().flatten().any(|r| r.ready() & (POLLIN | POLLERR) != 0);
        self.state.with(|s| {
            let mut e = POLL_OUT;
            if readable || !s.queue.is_empty() || s.shut_read {
                e |= POLL_IN;
            }
            if s.error.is_some() || !s.refused.is_empty() {
                e |= POLLERR;
            }
            if s.shut_read {
                e |= POLLRDHUP;
            }
            if s.shut_read && s.shut_write {
                e |= POLLHUP;
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
        if request != FIONREAD {
            return interfaces::ioctl(request, arg);
        }
        let first = self.state.with(|s| s.queue.front().map(|m| m.data.len()));
        let n = match first {
            Some(n) => n,
            None => {
                let mut sizes = self.remotes().into_iter().flatten().map(|r| host::next_size(&r));
                sizes.find(|n| *n > 0).unwrap_or(0)
            }
        };
        crate::uaccess::write_val(arg, n as u32)?;
        Ok(0)
    }
}
