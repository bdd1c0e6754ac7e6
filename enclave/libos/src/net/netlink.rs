//! AF_NETLINK, as far as programs ask it for interfaces, addresses and routes (getifaddrs, `ip`): NETLINK_ROUTE dumps.
//!
//! A request is answered at once into the socket's own queue; nothing is ever changed, and no group has news.
use super::addr::{AF_INET, AF_INET6, AF_NETLINK, AF_UNSPEC, Ip, family_of};
use super::interfaces::{self, Interface};
use super::options::Common;
use super::{Class, MSG_PEEK, Outgoing, Received, SOCK_RAW, Socket};
use crate::fs::env;
use crate::fs::file::{File, Notify};
use crate::fs::prelude::*;
use crate::fs::uio::{Dst, Src, try_vec};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_MULTI: u16 = 2;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
/// Bytes of a `struct nlmsghdr`.
const HEAD: usize = 16;
/// Answers that may wait.
const MAX_QUEUE: usize = 256;
/// Bytes of answers put into one message.
const FILL: usize = 8 << 10;
/// Longest request.
const REQUEST: usize = 64 << 10;

struct State {
    pid: u32,
    groups: u32,
    queue: VecDeque<Vec<u8>>,
}

/// A netlink socket.
pub struct NetlinkSocket {
    kind: u32,
    common: Common,
    state: BklCell<State>,
    changed: Notify,
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
    /// A socket of NETLINK_ROUTE, `SOCK_RAW` or `SOCK_DGRAM`.
    pub fn new(kind: u32) -> Arc<Self> {
        let state = State { pid: 0, groups: 0, queue: VecDeque::new() };
        Arc::new(Self { kind, common: Common::default(), state: BklCell::new(state), changed: Notify::new() })
    }
    /// Takes an id: the one asked for, or the process's own, or any.
    fn take_id(&self, wanted: u32) -> Result<()> {
        if self.state.with(|s| s.pid != 0) {
            return if wanted == 0 || wanted == self.state.with(|s| s.pid) { Ok(()) } else { Err(EINVAL) };
        }
        let id = TAKEN.with_mut(|t| match wanted {
            0 => {
                let own = env::peer().0 as u32;
                let mut others = core::iter::once(own).chain((1..).map(|n| u32::MAX - 4096 - n));
                others.find(|id| t.insert(*id))
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
        while b.len() >= HEAD {
            let r = Request::read(b);
            if r.len < HEAD || r.len > b.len() {
                return;
            }
            let pid = self.state.with(|s| s.pid);
            if r.flags & NLM_F_REQUEST != 0 {
                for part in r.answer(&b[HEAD..r.len], pid) {
                    self.put(part);
                }
            }
            b = b.get(r.len.next_multiple_of(4)..).unwrap_or(&[]);
        }
        self.changed.notify();
    }
    fn put(&self, part: Vec<u8>) {
        self.state.with_mut(|s| {
            if s.queue.len() < MAX_QUEUE {
                s.queue.push_back(part);
            }
        });
    }
}

/// A request's head.
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
        let mut out = ((HEAD + body.len()) as u32).to_le_bytes().to_vec();
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&pid.to_le_bytes());
        out.extend_from_slice(body);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }
    fn error(&self, e: i32, pid: u32, payload: &[u8]) -> Vec<u8> {
        let mut body = (-e).to_le_bytes().to_vec();
        body.extend_from_slice(&self.message(self.kind, self.flags, pid, if e == 0 { &[] } else { payload }));
        self.message(NLMSG_ERROR, 0, pid, &body)
    }
    fn answer(&self, payload: &[u8], pid: u32) -> Vec<Vec<u8>> {
        let family = payload.first().copied().unwrap_or(0);
        let dump = self.flags & NLM_F_DUMP != 0;
        let bodies: Vec<(u16, Vec<u8>)> = match self.kind {
            // One link is asked for by its index.
            RTM_GETLINK if !dump => {
                let index = payload.get(4..8).map_or(0, |w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
                match interfaces::all().iter().find(|i| i.index == index) {
                    Some(i) => return vec![self.message(RTM_NEWLINK, 0, pid, &link(i))],
                    None => return vec![self.error(ENODEV.as_i32(), pid, payload)],
                }
            }
            RTM_GETLINK => interfaces::all().iter().map(|i| (RTM_NEWLINK, link(i))).collect(),
            RTM_GETADDR if dump => addresses(family).into_iter().map(|a| (RTM_NEWADDR, a)).collect(),
            RTM_GETROUTE if dump => routes(family).into_iter().map(|r| (RTM_NEWROUTE, r)).collect(),
            RTM_GETADDR | RTM_GETROUTE => return vec![self.error(EOPNOTSUPP.as_i32(), pid, payload)],
            _ if self.kind < 16 => {
                let ack = self.flags & NLM_F_ACK != 0;
                return if ack { vec![self.error(0, pid, payload)] } else { Vec::new() };
            }
            _ => return vec![self.error(EPERM.as_i32(), pid, payload)],
        };
        let mut parts = Vec::new();
        let mut part = Vec::new();
        for (kind, body) in bodies {
            if part.len() > FILL {
                parts.push(core::mem::take(&mut part));
            }
            part.extend_from_slice(&self.message(kind, NLM_F_MULTI, pid, &body));
        }
        if !part.is_empty() {
            parts.push(part);
        }
        parts.push(self.message(NLMSG_DONE, NLM_F_MULTI, pid, &[0; 4]));
        parts
    }
}

/// Adds an attribute.
fn attribute(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
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
        Class { family: AF_NETLINK, kind: self.kind, protocol: 0 }
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
        let m = self.state.with_mut(|s| s.queue.pop_front()).ok_or(EAGAIN)?;
        let len = dst.push(&m)?;
        let full = m.len();
        if flags & MSG_PEEK != 0 {
            self.state.with_mut(|s| s.queue.push_front(m));
        }
        Ok(Received { len, full, from: Some(Self::format(0, 0)), ..Received::default() })
    }
    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Option<Result<()>> {
        const SOL_NETLINK: u32 = 270;
        /// NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK: how answers are written; ours need none of it.
        const HARMLESS: [u32; 3] = [10, 11, 12];
        if level != SOL_NETLINK {
            return None;
        }
        let known = HARMLESS.contains(&name) && value.len() >= 4;
        Some(if known { Ok(()) } else { Err(ENOPROTOOPT) })
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
        POLL_OUT | if self.state.with(|s| s.queue.is_empty()) { 0 } else { POLL_IN }
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
    if protocol != 0 {
        return Err(EPROTONOSUPPORT);
    }
    Ok(NetlinkSocket::new(if kind == SOCK_RAW { SOCK_RAW } else { super::SOCK_DGRAM }))
}
