//! AF_NETLINK, as far as programs ask it for interfaces, addresses and routes (getifaddrs, `ip`) and for sockets (`ss`):
//! dumps of NETLINK_ROUTE and NETLINK_SOCK_DIAG.
//!
//! A request is answered at once into the socket's own queue; nothing is ever changed, and no group has news. Invariants:
//! what waits in the queue is admitted and keeps to SO_RCVBUF, and what does not fit is missed (ENOBUFS); a dump goes on
//! where its answers are taken, one at a time for each socket, so that no request makes more at once than one part.
use super::addr::{AF_INET, AF_INET6, AF_NETLINK, AF_UNSPEC, Ip, family_of};
use super::interfaces::{self, Interface};
use super::options::{Common, SO_RCVBUF, SOL_SOCKET};
use super::{Class, MSG_PEEK, Outgoing, Received, SOCK_RAW, Socket, sock_diag};
use crate::fs::env;
use crate::fs::file::{File, Notify, Tells};
use crate::fs::prelude::*;
use crate::fs::uio::{Dst, Src, try_vec};
use crate::sched::Breath;
use crate::signal::owner::Band;

const NETLINK_ROUTE: u32 = 0;
const NETLINK_SOCK_DIAG: u32 = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_MULTI: u16 = 2;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
/// Of an error: the request that it is about is not there in full.
const NLM_F_CAPPED: u16 = 0x100;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
/// How sockets were asked for before SOCK_DIAG_BY_FAMILY.
const TCPDIAG_GETSOCK: u16 = 18;
const DCCPDIAG_GETSOCK: u16 = 19;
/// Bytes of a `struct nlmsghdr`.
const HEAD: usize = 16;
/// Bytes of answers put into one message.
const FILL: usize = 8 << 10;
/// Longest request.
const REQUEST: usize = 64 << 10;

#[derive(Default)]
struct State {
    pid: u32,
    groups: u32,
    queue: VecDeque<Vec<u8>>,
    /// What the queue takes of memory, as Linux counts it.
    bytes: usize,
    /// Something was missed, which the next receive says; until the queue is empty nothing more comes.
    error: Option<Errno>,
    congested: bool,
    /// A dump is under way, here or with who makes its next part.
    dumping: bool,
    dump: Option<Dump>,
    /// NETLINK_NO_ENOBUFS, NETLINK_CAP_ACK.
    quiet: bool,
    capped: bool,
}

/// A dump of sockets, which is made as it is taken.
struct Dump {
    request: Request,
    sockets: sock_diag::Dump,
    /// There are no more; its end has not been told yet.
    is_over: bool,
}

/// What a message counts for: about what it takes of memory.
fn cost(part: &[u8]) -> usize {
    const OVERHEAD: usize = 256;
    (part.len() + OVERHEAD).next_power_of_two() + OVERHEAD
}

/// A netlink socket.
pub struct NetlinkSocket {
    kind: u32,
    protocol: u32,
    common: Common,
    state: BklCell<State>,
    changed: Notify,
}

/// An id that is no process's, as Linux gives them: one that nobody can have taken beforehand.
fn any_id() -> u32 {
    const FIRST: u32 = 1 << 31;
    let mut b = [0; 4];
    occlum_rt::random::fill(&mut b);
    FIRST + u32::from_le_bytes(b) % (u32::MAX - 4095 - FIRST)
}

/// Ids that are taken.
static TAKEN: BklCell<BTreeSet<u32>> = BklCell::new(BTreeSet::new());

impl Drop for NetlinkSocket {
    fn drop(&mut self) {
        let pid = self.state.with(|s| s.pid);
        TAKEN.with_mut(|t| t.remove(&pid));
    }
}

impl NetlinkSocket {
    /// A socket of one of the protocols, `SOCK_RAW` or `SOCK_DGRAM`.
    pub fn new(kind: u32, protocol: u32) -> Arc<Self> {
        Arc::new(Self {
            kind,
            protocol,
            common: Common::default(),
            state: BklCell::default(),
            changed: Notify::new(),
        })
    }
    /// Takes an id: the one asked for, or the process's own, or any.
    fn take_id(&self, wanted: u32) -> Result<()> {
        if self.state.with(|s| s.pid != 0) {
            return if wanted == 0 || wanted == self.state.with(|s| s.pid) { Ok(()) } else { Err(EINVAL) };
        }
        let id = TAKEN.with_mut(|t| match wanted {
            0 => {
                let own = env::peer().0 as u32;
                core::iter::once(own).chain(core::iter::repeat_with(any_id)).find(|id| t.insert(*id))
            }
            w => t.insert(w).then_some(w),
        });
        let id = id.ok_or(EADDRINUSE)?;
        self.state.with_mut(|s| s.pid = id);
        Ok(())
    }
    fn format(pid: u32, groups: u32) -> Vec<u8> {
        let mut b = AF_NETLINK.to_le_bytes().to_vec();
        b.extend_from_slice(&[0; 2]);
        b.extend_from_slice(&pid.to_le_bytes());
        b.extend_from_slice(&groups.to_le_bytes());
        b
    }
    /// Id and groups of an address.
    fn parse(b: &[u8]) -> Result<(u32, u32)> {
        if family_of(b)? != AF_NETLINK || b.len() < 12 {
            return Err(EINVAL);
        }
        let word = |i: usize| u32::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        Ok((word(4), word(8)))
    }

    /// Answers the messages of one request.
    fn answer(&self, mut b: &[u8]) {
        let mut breath = Breath::begin();
        while b.len() >= HEAD {
            let r = Request::read(b);
            if r.len < HEAD || r.len > b.len() {
                return;
            }
            if r.flags & NLM_F_REQUEST != 0 {
                self.answer_one(r, &b[HEAD..r.len]);
            }
            b = b.get(r.len.next_multiple_of(4)..).unwrap_or(&[]);
            breath.take();
        }
    }
    fn answer_one(&self, r: Request, payload: &[u8]) {
        // Its error holds it twice while it is made.
        if crate::mm::admit(3 * r.len as u64).is_err() {
            return self.missed();
        }
        let answer = match self.protocol {
            NETLINK_SOCK_DIAG if r.kind >= 16 => r.answer_diag(payload),
            _ => r.answer_route(payload),
        };
        let (pid, capped) = self.state.with(|s| (s.pid, s.capped));
        let error = |e: i32| r.error(e, pid, if capped { None } else { Some(payload) });
        let busy = |s: &mut State| core::mem::replace(&mut s.dumping, true);
        match answer {
            Answer::Nothing => {}
            Answer::Message(kind, body) => self.put(r.message(kind, 0, pid, &body)),
            Answer::Acknowledged => self.put(error(0)),
            Answer::Failed(e) => self.put(error(e.as_i32())),
            Answer::Dump(_) if self.state.with_mut(busy) => self.put(error(EBUSY.as_i32())),
            Answer::Dump(Err(e)) => {
                self.state.with_mut(|s| s.dumping = false);
                self.put(r.done(-e.as_i32(), pid));
            }
            Answer::Dump(Ok(sockets)) => {
                self.state.with_mut(|s| s.dump = Some(Dump { request: r, sockets, is_over: false }));
                self.feed();
            }
            Answer::Rows(rows) => r.parts(rows, pid).into_iter().for_each(|part| self.put(part)),
        }
    }
    /// Makes the next part of the dump, or what ends it.
    fn go_on_with_dump(&self) {
        let Some(mut dump) = self.state.with_mut(|s| s.dump.take()) else { return };
        let pid = self.state.with(|s| s.pid);
        let is_end = dump.is_over;
        let part = if is_end { dump.request.done(0, pid) } else { dump.next_part(pid) };
        dump.is_over = part.len() <= FILL;
        self.state.with_mut(|s| {
            s.dumping = !is_end;
            s.dump = Some(dump).filter(|_| !is_end);
        });
        if !part.is_empty() {
            self.put(part);
        }
    }
    /// Puts a message into the queue if it has room.
    fn put(&self, part: Vec<u8>) {
        let cost = cost(&part);
        if !self.has_room(cost) {
            return self.missed();
        }
        self.state.with_mut(|s| {
            s.bytes += cost;
            s.queue.push_back(part);
        });
        self.changed.notify();
        self.changed.tell(Band::In);
    }
    /// The kernel tells the program something that is no answer (`ipc::mq`): like those, it may be missed.
    pub fn notify(&self, text: Vec<u8>) {
        self.put(text);
    }
    fn limit(&self) -> usize {
        usize::try_from(self.common.value(SOL_SOCKET, SO_RCVBUF)).unwrap_or(0)
    }
    fn has_room(&self, cost: usize) -> bool {
        let most = self.limit();
        self.state.with(|s| !s.congested && (s.queue.is_empty() || s.bytes + cost <= most))
    }
    /// There was no room for an answer.
    fn missed(&self) {
        self.state.with_mut(|s| {
            if !s.quiet && !core::mem::replace(&mut s.congested, true) {
                s.error = Some(ENOBUFS);
            }
        });
        self.changed.notify();
    }
    /// A message was received.
    fn taken(&self, m: &[u8]) {
        self.state.with_mut(|s| {
            s.bytes = s.bytes.saturating_sub(cost(m));
            s.congested &= !s.queue.is_empty();
        });
        self.feed();
    }
    /// Has the dump go on if there is much room.
    fn feed(&self) {
        let most = self.limit();
        let has_much = |s: &State| s.queue.is_empty() || s.bytes + 4 * FILL <= most;
        if self.state.with(|s| s.dump.is_none() || s.congested || !has_much(s)) {
            return;
        }
        if crate::mm::admit(4 * FILL as u64).is_err() {
            return self.missed();
        }
        self.go_on_with_dump();
    }
}

/// What a dump has next.
pub(super) enum Step {
    /// The content of a message.
    Row(Vec<u8>),
    /// Nothing that was asked for.
    Skipped,
    /// The end.
    End,
}
impl Dump {
    /// Rows for one part, a little more than `FILL` bytes; fewer at the end. Others get on meanwhile.
    fn next_part(&mut self, pid: u32) -> Vec<u8> {
        let (mut part, mut breath) = (Vec::new(), Breath::begin());
        while part.len() <= FILL {
            match self.sockets.step() {
                Step::Row(body) => {
                    part.extend_from_slice(&self.request.message(
                        sock_diag::BY_FAMILY,
                        NLM_F_MULTI,
                        pid,
                        &body,
                    ));
                }
                Step::Skipped => {}
                Step::End => break,
            }
            breath.take();
        }
        part
    }
}

/// How a request is answered.
enum Answer {
    Nothing,
    Message(u16, Vec<u8>),
    /// Without an error.
    Acknowledged,
    Failed(Errno),
    /// By several messages: their types and contents.
    Rows(Vec<(u16, Vec<u8>)>),
    /// By as many as there are sockets, or an end that says why there are none.
    Dump(Result<sock_diag::Dump>),
}

/// A request's head.
#[derive(Clone, Copy)]
struct Request {
    len: usize,
    kind: u16,
    flags: u16,
    seq: u32,
}
impl Request {
    fn read(b: &[u8]) -> Self {
        let word = |i: usize| u32::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        let half = |i: usize| u16::from_le_bytes([b[i], b[i + 1]]);
        Self { len: word(0) as usize, kind: half(4), flags: half(6), seq: word(8) }
    }
    fn message(&self, kind: u16, flags: u16, pid: u32, body: &[u8]) -> Vec<u8> {
        self.message_of(HEAD + body.len(), kind, flags, pid, body)
    }
    /// One that says it has `len` bytes.
    fn message_of(&self, len: usize, kind: u16, flags: u16, pid: u32, body: &[u8]) -> Vec<u8> {
        let mut out = (len as u32).to_le_bytes().to_vec();
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&pid.to_le_bytes());
        out.extend_from_slice(body);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }
    /// `payload`: the request's own, if it is to be told.
    fn error(&self, e: i32, pid: u32, payload: Option<&[u8]>) -> Vec<u8> {
        let payload = payload.filter(|_| e != 0);
        let flags = if payload.is_some() { 0 } else { NLM_F_CAPPED };
        let mut body = (-e).to_le_bytes().to_vec();
        body.extend_from_slice(&self.message_of(
            self.len,
            self.kind,
            self.flags,
            pid,
            payload.unwrap_or(&[]),
        ));
        self.message(NLMSG_ERROR, flags, pid, &body)
    }
    fn answer_diag(&self, payload: &[u8]) -> Answer {
        match self.kind {
            sock_diag::BY_FAMILY if self.flags & NLM_F_DUMP != 0 => match sock_diag::Dump::begin(payload) {
                Ok(dump) => Answer::Dump(dump),
                Err(e) => Answer::Failed(e),
            },
            // Single sockets are not looked up.
            sock_diag::BY_FAMILY => Answer::Failed(EOPNOTSUPP),
            TCPDIAG_GETSOCK | DCCPDIAG_GETSOCK => Answer::Failed(ENOENT),
            _ => Answer::Failed(EINVAL),
        }
    }
    fn answer_route(&self, payload: &[u8]) -> Answer {
        let family = payload.first().copied().unwrap_or(0);
        let dump = self.flags & NLM_F_DUMP != 0;
        let rows: Vec<(u16, Vec<u8>)> = match self.kind {
            // One link is asked for by its index.
            RTM_GETLINK if !dump => {
                let index = payload.get(4..8).map_or(0, |w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
                return match interfaces::all().iter().find(|i| i.index == index) {
                    Some(i) => Answer::Message(RTM_NEWLINK, link(i)),
                    None => Answer::Failed(ENODEV),
                };
            }
            RTM_GETLINK => interfaces::all().iter().map(|i| (RTM_NEWLINK, link(i))).collect(),
            RTM_GETADDR if dump => addresses(family).into_iter().map(|a| (RTM_NEWADDR, a)).collect(),
            RTM_GETROUTE if dump => routes(family).into_iter().map(|r| (RTM_NEWROUTE, r)).collect(),
            RTM_GETADDR | RTM_GETROUTE => return Answer::Failed(EOPNOTSUPP),
            _ if self.kind < 16 && self.flags & NLM_F_ACK != 0 => return Answer::Acknowledged,
            _ if self.kind < 16 => return Answer::Nothing,
            _ => return Answer::Failed(EPERM),
        };
        Answer::Rows(rows)
    }
    /// The messages of an answer of several, some to a part, and what ends it.
    fn parts(&self, rows: Vec<(u16, Vec<u8>)>, pid: u32) -> Vec<Vec<u8>> {
        let (mut parts, mut part) = (Vec::new(), Vec::new());
        for (kind, body) in rows {
            if part.len() > FILL {
                parts.push(core::mem::take(&mut part));
            }
            part.extend_from_slice(&self.message(kind, NLM_F_MULTI, pid, &body));
        }
        if !part.is_empty() {
            parts.push(part);
        }
        parts.push(self.done(0, pid));
        parts
    }
    fn done(&self, error: i32, pid: u32) -> Vec<u8> {
        self.message(NLMSG_DONE, NLM_F_MULTI, pid, &error.to_le_bytes())
    }
}

/// Adds an attribute.
pub(super) fn attribute(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
    out.extend_from_slice(&(4 + data.len() as u16).to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
}
fn name(i: &Interface) -> Vec<u8> {
    [&i.name[..], b"\0"].concat()
}
/// `struct ifinfomsg` and its attributes.
fn link(i: &Interface) -> Vec<u8> {
    const IFF_LOWER_UP: u32 = 1 << 16;
    let kind: u16 = if i.is_loopback() { 772 } else { 1 };
    let mut out = vec![0, 0];
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&i.index.to_le_bytes());
    out.extend_from_slice(&(i.flags | IFF_LOWER_UP).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    attribute(&mut out, 3, &name(i));
    attribute(&mut out, 13, &1000u32.to_le_bytes());
    attribute(&mut out, 16, &[if i.is_loopback() { 0 } else { 6 }]);
    attribute(&mut out, 4, &i.mtu.to_le_bytes());
    attribute(&mut out, 1, &i.hardware);
    attribute(&mut out, 2, if i.is_loopback() { &[0; 6] } else { &[0xff; 6] });
    attribute(&mut out, 7, &[0; 96]);
    out
}
/// The bytes of an address in its own family.
fn bytes(ip: &Ip) -> (u16, Vec<u8>) {
    match ip.as_v4() {
        Some(a) => (AF_INET, a.to_vec()),
        None => (AF_INET6, ip.0.to_vec()),
    }
}
fn wants(asked: u8, family: u16) -> bool {
    u16::from(asked) == family || u16::from(asked) == AF_UNSPEC
}
/// `struct ifaddrmsg` and its attributes, of all addresses of a family.
fn addresses(asked: u8) -> Vec<Vec<u8>> {
    const PERMANENT: u8 = 0x80;
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6] {
        for i in interfaces::all().iter() {
            for (ip, prefix) in i.addresses.iter().filter(|(ip, _)| bytes(ip).0 == family) {
                let scope: u8 = match () {
                    () if ip.is_loopback() => 254,
                    () if ip.is_link_local6() => 253,
                    () => 0,
                };
                let mut out = vec![family as u8, *prefix, PERMANENT, scope];
                out.extend_from_slice(&i.index.to_le_bytes());
                attribute(&mut out, 1, &bytes(ip).1);
                if family == AF_INET {
                    attribute(&mut out, 2, &bytes(ip).1);
                    if let (false, Some(a)) = (i.is_loopback(), ip.as_v4()) {
                        let all_ones = u32::from_be_bytes(a) | !interfaces::mask4(*prefix);
                        attribute(&mut out, 4, &all_ones.to_be_bytes());
                    }
                    attribute(&mut out, 3, &name(i));
                }
                attribute(&mut out, 8, &u32::from(PERMANENT).to_le_bytes());
                if wants(asked, family) {
                    all.push(out);
                }
            }
        }
    }
    all
}
/// `struct rtmsg` and its attributes: the networks of the interfaces.
fn routes(asked: u8) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for i in interfaces::all().iter().filter(|i| !i.is_loopback()) {
        for (ip, prefix) in &i.addresses {
            let (family, address) = bytes(ip);
            if !wants(asked, family) {
                continue;
            }
            // Main table, of the kernel, for the link, unicast.
            let mut out = vec![family as u8, *prefix, 0, 0, 254, 2, 253, 1];
            out.extend_from_slice(&[0; 4]);
            attribute(&mut out, 1, &masked(&address, *prefix));
            attribute(&mut out, 4, &i.index.to_le_bytes());
            all.push(out);
        }
    }
    all
}
/// The network of an address.
fn masked(address: &[u8], prefix: u8) -> Vec<u8> {
    let bit = |n: usize| usize::from(prefix).saturating_sub(n * 8).min(8);
    address.iter().enumerate().map(|(n, b)| b & !(0xffu16 >> bit(n)) as u8).collect()
}

impl Socket for NetlinkSocket {
    fn class(&self) -> Class {
        Class { family: AF_NETLINK, kind: self.kind, protocol: self.protocol }
    }
    fn common(&self) -> &Common {
        &self.common
    }
    fn bind(&self, addr: &[u8]) -> Result<()> {
        let (pid, groups) = Self::parse(addr)?;
        self.take_id(pid)?;
        self.state.with_mut(|s| s.groups = groups);
        Ok(())
    }
    fn connect(&self, addr: &[u8], _nonblocking: bool) -> Result<()> {
        if family_of(addr)? == AF_UNSPEC {
            return Ok(());
        }
        match Self::parse(addr)? {
            (0, 0) => self.take_id(0),
            _ => Err(EPERM),
        }
    }
    fn name(&self) -> Vec<u8> {
        self.state.with(|s| Self::format(s.pid, s.groups))
    }
    fn peer_name(&self) -> Result<Vec<u8>> {
        Ok(Self::format(0, 0))
    }
    fn shutdown(&self, _read: bool, _write: bool) -> Result<()> {
        Err(EOPNOTSUPP)
    }
    fn send(&self, src: &mut Src, out: &mut Outgoing) -> Result<usize> {
        if let Some(to) = &out.to
            && Self::parse(to)? != (0, 0)
        {
            return Err(ECONNREFUSED);
        }
        let n = src.remaining();
        if n > REQUEST {
            return Err(EMSGSIZE);
        }
        let mut b = try_vec(n)?;
        if src.pull(&mut b)? < n {
            return Err(EFAULT);
        }
        self.take_id(0)?;
        self.answer(&b);
        Ok(n)
    }
    fn receive(&self, dst: &mut Dst, flags: u32) -> Result<Received> {
        if let Some(e) = self.state.with_mut(|s| s.error.take()) {
            return Err(e);
        }
        if self.state.with(|s| s.queue.is_empty()) {
            // A dump for which there was no memory.
            self.feed();
        }
        let m = self.state.with_mut(|s| s.queue.pop_front()).ok_or(EAGAIN)?;
        let (pushed, full) = (dst.push(&m), m.len());
        if flags & MSG_PEEK != 0 {
            self.state.with_mut(|s| s.queue.push_front(m));
        } else {
            self.taken(&m);
        }
        let len = pushed?;
        Ok(Received { len, full, from: Some(Self::format(0, 0)), ..Received::default() })
    }
    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Option<Result<()>> {
        const SOL_NETLINK: u32 = 270;
        const NO_ENOBUFS: u32 = 5;
        const CAP_ACK: u32 = 10;
        /// NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK: how answers are written; ours need none of it.
        const HARMLESS: [u32; 2] = [11, 12];
        if level != SOL_NETLINK {
            return None;
        }
        let is_on = value.iter().take(4).any(|b| *b != 0);
        match name {
            _ if value.len() < 4 => return Some(Err(EINVAL)),
            NO_ENOBUFS => self.state.with_mut(|s| {
                s.quiet = is_on;
                s.congested &= !is_on;
            }),
            CAP_ACK => self.state.with_mut(|s| s.capped = is_on),
            name if HARMLESS.contains(&name) => {}
            _ => return Some(Err(ENOPROTOOPT)),
        }
        Some(Ok(()))
    }
    fn take_error(&self) -> i32 {
        self.state.with_mut(|s| s.error.take()).map_or(0, Errno::as_i32)
    }
}

impl File for NetlinkSocket {
    fn as_any(&self) -> &dyn Any {
        self
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
        let (empty, error) = self.state.with(|s| (s.queue.is_empty(), s.error.is_some()));
        POLL_OUT | if empty { 0 } else { POLL_IN } | if error { POLLERR } else { 0 }
    }
    fn tells(&self) -> Tells {
        Tells::Owner
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.changed.queue());
    }
    fn ioctl(&self, request: u32, arg: u64) -> Result<usize> {
        interfaces::ioctl(request, arg)
    }
}

/// The kinds of socket that netlink has.
pub fn make(kind: u32, protocol: u32) -> Result<Arc<dyn File>> {
    if ![NETLINK_ROUTE, NETLINK_SOCK_DIAG].contains(&protocol) {
        return Err(EPROTONOSUPPORT);
    }
    crate::mm::admit(2048).map_err(|_| ENOBUFS)?;
    Ok(NetlinkSocket::new(if kind == SOCK_RAW { SOCK_RAW } else { super::SOCK_DGRAM }, protocol))
}
