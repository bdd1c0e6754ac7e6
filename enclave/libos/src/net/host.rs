//! The host's sockets: what leaves the enclave, and what comes from published ports.
//!
//! Every result is untrusted: descriptors are numbers that only go back to the host, lengths are checked against what
//! was asked for, addresses are only shown, and never as one of the enclave's own. Readiness is kept here: `Wait` reports
//! edges by token, a call that would block takes the bit away, so no call asks the host whether another would block.
use super::addr::{Endpoint, Ip};
use crate::fs::file::Notify;
use crate::fs::prelude::*;
use crate::host_events::{self, Source};
use occlum_enclave_abi::{
    FLAG_NET_HOST, FLAG_NET_NONE, NET_ADDR, NET_AT_MARK, NET_FROM, NET_MORE, NET_PEEK, NET_SEND_URGENT,
    NET_TO, NET_URGENT, OCALL_DATA_MAX, Ocall,
};

/// Bytes moved by one call.
pub const PIECE: usize = 64 << 10;
/// Largest datagram.
pub const DATAGRAM: usize = 65_507;

/// How the network was configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Nothing outside can be reached.
    Isolated,
    /// Other machines can be reached.
    Outbound,
    /// The host's own addresses, too.
    Host,
}
static POLICY: BklCell<Policy> = BklCell::new(Policy::Outbound);
/// Takes the policy from the launch flags.
pub fn init(flags: u32) {
    POLICY.set(match flags {
        f if f & FLAG_NET_NONE != 0 => Policy::Isolated,
        f if f & FLAG_NET_HOST != 0 => Policy::Host,
        _ => Policy::Outbound,
    });
}
/// The policy.
pub fn policy() -> Policy {
    POLICY.get()
}

/// A kind of host socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TCP.
    Stream = 1,
    /// UDP.
    Datagram = 2,
}

fn call(nr: Ocall, args: &[u64], input: &[u8], output: &mut [u8]) -> Result<u64> {
    checked(occlum_rt::ocall::call(nr, args, input, output))
}
/// The same for data of streams, in which most of a server's time goes: others have the LibOS meanwhile.
fn call_unlocked(nr: Ocall, args: &[u64], input: &[u8], output: &mut [u8]) -> Result<u64> {
    host_events::busy();
    checked(occlum_rt::ocall::call_unlocked(nr, args, input, output))
}
fn checked(r: i64) -> Result<u64> {
    match r {
        0.. => Ok(r as u64),
        // A call that does not block is not interrupted, and restart codes mean nothing outside.
        -133..0 if r != -4 => Err(errno_from(-r as i32)),
        _ => Err(EIO),
    }
}
fn bounded(n: u64, max: usize) -> Result<usize> {
    if n <= max as u64 { Ok(n as usize) } else { Err(EIO) }
}

/// Events that mean something here.
const KNOWN: u32 = POLLIN | POLLPRI | POLLOUT | POLLERR | POLLHUP | POLLRDHUP;

/// A socket of the host.
pub struct Remote {
    fd: u32,
    news: Source,
    /// Something was taken since POLLIN came: whether there is more, only the host knows.
    unsure: BklCell<bool>,
    /// The host has told of urgent data.
    has_urgent: BklCell<bool>,
}
impl Drop for Remote {
    fn drop(&mut self) {
        let _ = call(Ocall::Close, &[u64::from(self.fd)], &[], &mut []);
    }
}

/// The wire form of an endpoint.
fn to_wire(e: &Endpoint) -> [u8; NET_ADDR] {
    let mut b = [0; NET_ADDR];
    b[..16].copy_from_slice(&e.ip.0);
    b[16..18].copy_from_slice(&e.port.to_le_bytes());
    b[20..].copy_from_slice(&e.scope.to_le_bytes());
    b
}
/// From the wire form. It is only shown, and only after `interfaces::outsider`.
fn from_wire(b: &[u8]) -> Endpoint {
    let byte = |i: usize| b.get(i).copied().unwrap_or(0);
    let ip = Ip(core::array::from_fn(byte));
    let scope = u32::from_le_bytes(core::array::from_fn(|i| byte(20 + i)));
    Endpoint { ip, port: u16::from_le_bytes([byte(16), byte(17)]), scope }
}
fn options_wire(options: &[(u32, u32, i32)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (level, name, value) in options {
        for w in [*level, *name, *value as u32, 0] {
            out.extend_from_slice(&w.to_le_bytes());
        }
    }
    out
}

impl Remote {
    fn adopt(fd: Result<u64>, news: Source) -> Result<Self> {
        let fd = u32::try_from(fd?).map_err(|_| EIO)?;
        Ok(Self { fd, news, unsure: BklCell::new(false), has_urgent: BklCell::new(false) })
    }
    /// Starts a connection, or opens a datagram socket; its events notify `changed`.
    pub fn connect(
        kind: Kind,
        family4: bool,
        to: &Endpoint,
        options: &[(u32, u32, i32)],
        changed: &Arc<Notify>,
    ) -> Result<Self> {
        if policy() == Policy::Isolated {
            return Err(ENETUNREACH);
        }
        let news = Source::new(changed.queue());
        let input = [&to_wire(to)[..], &options_wire(options)].concat();
        let family = if family4 { 4 } else { 6 };
        let args = [kind as u64, family, news.token()];
        Self::adopt(call(Ocall::NetConnect, &args, &input, &mut []), news)
    }
    /// Opens a published port; `None` if it is not published.
    pub fn listen(kind: Kind, port: u16, backlog: usize, changed: &Arc<Notify>) -> Result<Option<Self>> {
        let news = Source::new(changed.queue());
        let args = [kind as u64, u64::from(port), news.token(), backlog as u64];
        match Self::adopt(call(Ocall::NetListen, &args, &[], &mut []), news) {
            Ok(r) => Ok(Some(r)),
            Err(ENOENT) => Ok(None),
            // Somebody on the host was faster.
            Err(EADDRINUSE) => Err(EADDRINUSE),
            Err(_) => Err(EIO),
        }
    }
    /// A connection from outside: the socket and its peer.
    pub fn accept(&self, changed: &Arc<Notify>) -> Result<(Self, Endpoint)> {
        let news = Source::new(changed.queue());
        let mut out = [0; 2 * NET_ADDR];
        let args = [u64::from(self.fd), news.token()];
        let events = self.events();
        let fd = self.noting_in(events, call_unlocked(Ocall::NetAccept, &args, &[], &mut out));
        let remote = Self::adopt(fd, news)?;
        self.unsure.set(true);
        Ok((remote, from_wire(&out)))
    }
    fn noting_in<T>(&self, events: u64, r: Result<T>) -> Result<T> {
        if r.as_ref().err() == Some(&EAGAIN) {
            self.forget(POLLIN, events);
        }
        r
    }
    /// Events so far.
    fn events(&self) -> u64 {
        self.news.count()
    }
    /// A call found that `bit` does not hold. What was reported since it began may be newer: that stays.
    fn forget(&self, bit: u32, events: u64) {
        if self.events() == events {
            self.news.set_bits(self.news.bits() & !bit);
        }
    }
    /// `POLL*` as far as known without asking.
    fn known(&self) -> u32 {
        let known = self.news.bits() & KNOWN;
        if known & POLLPRI != 0 {
            self.has_urgent.set(true);
        }
        known
    }
    /// `POLL*` now. The host is asked only if something was taken since it reported POLLIN, and the answer counts.
    pub fn ready(&self) -> u32 {
        let known = self.known();
        if known & POLLPRI != 0 || known & POLLIN != 0 && self.unsure.replace(false) {
            self.news.set_bits(known & !(POLLIN | POLLPRI) | self.ask() & KNOWN);
        }
        self.known()
    }
    /// What the host says is there now.
    fn ask(&self) -> u32 {
        call(Ocall::NetReady, &[u64::from(self.fd)], &[], &mut []).unwrap_or(0) as u32
    }
    /// SIOCATMARK.
    pub fn is_at_mark(&self) -> bool {
        self.known();
        self.has_urgent.get() && self.ask() & NET_AT_MARK != 0
    }
    /// Receives urgent data.
    pub fn receive_urgent(&self, byte: &mut [u8; 1], peek: bool) -> Result<()> {
        let args = [u64::from(self.fd), NET_URGENT | if peek { NET_PEEK } else { 0 }];
        let n = bounded(call(Ocall::NetRecv, &args, &[], byte)?, 1)?;
        if n == 1 { Ok(()) } else { Err(EINVAL) }
    }
    /// Sends bytes of a stream; fewer than given mean that no more fit now. The last of them may be urgent.
    pub fn send(&self, data: &[u8], more: bool, urgent: bool) -> Result<usize> {
        let data = &data[..data.len().min(OCALL_DATA_MAX)];
        let flags = if more { NET_MORE } else { 0 } | if urgent { NET_SEND_URGENT } else { 0 };
        let args = [u64::from(self.fd), flags];
        let events = self.events();
        self.sent(events, data.len(), call_unlocked(Ocall::NetSend, &args, data, &mut []))
    }
    /// Sends a datagram.
    pub fn send_datagram(&self, data: &[u8], to: Option<&Endpoint>) -> Result<usize> {
        let args = [u64::from(self.fd), if to.is_some() { NET_TO } else { 0 }];
        let events = self.events();
        let r = match to {
            None => call(Ocall::NetSend, &args, data, &mut []),
            Some(e) => call(Ocall::NetSend, &args, &[&to_wire(e)[..], data].concat(), &mut []),
        };
        self.sent(events, data.len(), r)
    }
    fn sent(&self, events: u64, len: usize, r: Result<u64>) -> Result<usize> {
        let r = r.and_then(|n| bounded(n, len));
        if r.is_err_and(|e| e == EAGAIN) || r.is_ok_and(|n| n < len) {
            self.forget(POLLOUT, events);
        }
        r
    }
    /// Receives bytes of a stream; 0 at its end.
    pub fn receive(&self, buf: &mut [u8], peek: bool) -> Result<usize> {
        // Who reads until there is nothing more would ask the host once too often each time.
        if self.known() & (POLLIN | POLLRDHUP | POLLHUP | POLLERR) == 0 && self.news.is_current() {
            return Err(EAGAIN);
        }
        let want = buf.len();
        let args = [u64::from(self.fd), if peek { NET_PEEK } else { 0 }];
        let events = self.events();
        let n = self.noting_in(events, call_unlocked(Ocall::NetRecv, &args, &[], buf))?;
        let n = bounded(n, want)?;
        if peek || self.known() & (POLLRDHUP | POLLHUP | POLLERR) != 0 {
            return Ok(n);
        }
        // Less than asked for was all; more, or the end, is a new event.
        if n > 0 && n < want {
            self.forget(POLLIN, events);
        } else {
            self.unsure.set(true);
        }
        Ok(n)
    }
    /// Receives a datagram: the bytes that fit, the full length, the sender.
    pub fn receive_from(&self, buf: &mut Vec<u8>, peek: bool) -> Result<(usize, Endpoint)> {
        const HEAD: usize = NET_ADDR + 4;
        let args = [u64::from(self.fd), NET_FROM | if peek { NET_PEEK } else { 0 }];
        let events = self.events();
        let n = self.noting_in(events, call(Ocall::NetRecv, &args, &[], buf))?;
        let n = bounded(n, buf.len())?;
        self.unsure.set(true);
        if n < HEAD {
            return Err(EIO);
        }
        let from = from_wire(buf);
        let full = u32::from_le_bytes(core::array::from_fn(|i| buf[NET_ADDR + i])) as usize;
        buf.truncate(n);
        buf.drain(..HEAD);
        // A message is at least what came of it.
        Ok((full.clamp(buf.len(), DATAGRAM.max(buf.len())), from))
    }
    /// `shutdown`.
    pub fn shutdown(&self, read: bool, write: bool) {
        let how = match (read, write) {
            (true, false) => 0,
            (false, true) => 1,
            _ => 2,
        };
        // What the program sees follows from its own state.
        let _ = call(Ocall::NetShutdown, &[u64::from(self.fd), how], &[], &mut []);
    }
    /// The address of this end, as the outside sees it.
    pub fn own_name(&self) -> Option<Endpoint> {
        let mut b = [0; NET_ADDR];
        call(Ocall::NetName, &[u64::from(self.fd), 0], &[], &mut b).ok()?;
        let ip = Ip(core::array::from_fn(|i| b[i]));
        Some(Endpoint { ip, port: u16::from_le_bytes([b[16], b[17]]), scope: 0 })
    }
    /// An option's bytes.
    pub fn option(&self, level: u32, name: u32, out: &mut [u8]) -> Result<usize> {
        let args = [u64::from(self.fd), u64::from(level), u64::from(name)];
        let len = out.len();
        bounded(call(Ocall::NetGetOption, &args, &[], out)?, len)
    }
    /// The pending error of the socket, which is taken.
    pub fn take_error(&self) -> Option<Errno> {
        let mut b = [0; 4];
        let n = self.option(super::options::SOL_SOCKET, super::options::SO_ERROR, &mut b);
        match (n, i32::from_le_bytes(b)) {
            (Err(e), _) => Some(e),
            (_, 0) => None,
            (_, e) => Some(errno_from(e)),
        }
    }
    /// Sets options; what the host refuses stays as it was.
    pub fn set_option(&self, level: u32, name: u32, value: i32) {
        let input = options_wire(&[(level, name, value)]);
        let _ = call(Ocall::NetSetOption, &[u64::from(self.fd)], &input, &mut []);
    }
}

static SCRATCH: BklCell<Vec<Vec<u8>>> = BklCell::new(Vec::new());
/// Runs `f` with a buffer of `PIECE` bytes; one for each vCPU is kept between calls. `f` may wait.
pub fn with_buffer<T>(f: impl FnOnce(&mut [u8]) -> Result<T>) -> Result<T> {
    let mut buf = match SCRATCH.with_mut(Vec::pop) {
        Some(b) => b,
        None => crate::fs::uio::try_vec(PIECE)?,
    };
    let r = f(&mut buf);
    SCRATCH.with_mut(|s| {
        if s.len() < occlum_rt::vcpu::count() as usize {
            s.push(buf);
        }
    });
    r
}

/// The host's interfaces; none if it will not say.
pub fn interfaces() -> Vec<super::interfaces::Interface> {
    let Ok(mut buf) = super::interfaces::buffer() else { return Vec::new() };
    let n = call(Ocall::NetInterfaces, &[], &[], &mut buf).and_then(|n| bounded(n, buf.len()));
    super::interfaces::parse(&buf[..n.unwrap_or(0)])
}
/// Length of the datagram that waits; 0 if there is none.
pub fn next_size(r: &Remote) -> usize {
    let mut buf = vec![0; NET_ADDR + 4];
    r.receive_from(&mut buf, true).map_or(0, |(full, _)| full)
}
