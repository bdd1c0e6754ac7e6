//! NETLINK_SOCK_DIAG: the sockets of the enclave as `ss` asks for them.
//!
//! The rows are those of /proc/net (`text`). Neighbour: `netlink` frames what is answered here. What a request filters by
//! bytecode, its sender filters again, as `ss` does.
use super::addr::{AF_INET, AF_INET6, AF_UNIX, Endpoint};
use super::netlink::{Step, attribute};
use super::options::{SOL_TCP, SOL_UDP};
use super::{tcp, udp, unix};
use crate::fs::prelude::*;

/// SOCK_DIAG_BY_FAMILY: of requests and of answers.
pub const BY_FAMILY: u16 = 20;
/// Bytes of the requests (`struct inet_diag_req_v2`, `struct unix_diag_req`).
const INET_REQUEST: usize = 56;
const UNIX_REQUEST: usize = 24;

/// A dump of sockets: what was asked for, and after which socket it goes on.
pub struct Dump {
    request: Vec<u8>,
    of: Of,
    after: u64,
}
#[derive(Clone, Copy)]
enum Of {
    Tcp,
    Udp,
    Local,
}

impl Dump {
    /// Begins one; the inner error is what the end of the dump says instead.
    pub fn begin(request: &[u8]) -> Result<Result<Dump>> {
        /// Families that Linux could know.
        const FAMILIES: u16 = 46;
        let family = u16::from(*request.first().ok_or(EINVAL)?);
        let (of, len) = match family {
            AF_INET | AF_INET6 if request.len() < INET_REQUEST => return Err(EINVAL),
            AF_UNIX if request.len() < UNIX_REQUEST => return Err(EINVAL),
            AF_UNIX => (Of::Local, UNIX_REQUEST),
            AF_INET | AF_INET6 => match protocol(request) {
                SOL_TCP => (Of::Tcp, INET_REQUEST),
                SOL_UDP => (Of::Udp, INET_REQUEST),
                _ => return Ok(Err(ENOENT)),
            },
            _ => return Err(if family < FAMILIES { ENOENT } else { EINVAL }),
        };
        Ok(Ok(Dump { request: request[..len].to_vec(), of, after: 0 }))
    }
    /// The next socket.
    pub fn step(&mut self) -> Step {
        let found = match self.of {
            Of::Tcp => tcp::after(self.after).map(|(id, s)| {
                (id, s.is_shown().then(|| Row::of(s.row(), s.backlog())).and_then(|r| self.inet(&r)))
            }),
            Of::Udp => udp::after(self.after).map(|(id, s)| {
                (id, s.is_shown().then(|| Row::of(s.row(), None)).and_then(|r| self.inet(&r)))
            }),
            Of::Local => unix::after(self.after).map(|(id, s)| (id, local(&self.request, s.seen()))),
        };
        let Some((id, row)) = found else { return Step::End };
        self.after = id;
        row.map_or(Step::Skipped, Step::Row)
    }
    /// `struct inet_diag_req_v2`: is this socket asked for?
    fn inet(&self, r: &Row) -> Option<Vec<u8>> {
        let port = |at: usize| u16::from_be_bytes([self.request[at], self.request[at + 1]]);
        let asked = |wanted: u16, port: u16| wanted == 0 || wanted == port;
        let hit = r.family == u16::from(self.request[0])
            && wants(word(&self.request, 4), r.state)
            && asked(port(8), r.local.port)
            && asked(port(10), r.peer.port);
        hit.then(|| r.message())
    }
}

/// The protocol asked for; one that does not fit its byte stands in an attribute.
fn protocol(request: &[u8]) -> u32 {
    const PROTOCOL: u16 = 3;
    let mut rest = &request[INET_REQUEST..];
    while rest.len() >= 4 {
        let half = |at: usize| u16::from_le_bytes([rest[at], rest[at + 1]]);
        let (len, kind) = (usize::from(half(0)), half(2));
        if kind == PROTOCOL && len == 8 && rest.len() >= len {
            return word(rest, 4);
        }
        rest = rest.get(len.max(4).next_multiple_of(4)..).unwrap_or(&[]);
    }
    u32::from(request[1])
}

fn word(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}
/// Does the request want sockets in this state (TCP_*)?
fn wants(states: u32, state: u8) -> bool {
    states & 1u32.checked_shl(u32::from(state)).unwrap_or(0) != 0
}
/// A row of /proc/net/tcp or udp.
struct Row {
    family: u16,
    local: Endpoint,
    peer: Endpoint,
    state: u8,
    queues: [u32; 2],
    uid: u32,
    inode: u64,
    v6_only: Option<bool>,
}

/// Connections that wait to be accepted, how many may, and whether IPv4 is kept out.
pub type Backlog = (usize, usize, bool);

impl Row {
    fn of(row: super::text::Row, backlog: Option<Backlog>) -> Row {
        let (family, local, peer, state, unread, uid, inode) = row;
        let queues = backlog.map_or([unread as u32, 0], |(waiting, most, _)| [waiting as u32, most as u32]);
        Row { family, local, peer, state, queues, uid, inode, v6_only: backlog.map(|b| b.2) }
    }

    /// `struct inet_diag_msg` and its attributes.
    fn message(&self) -> Vec<u8> {
        const SKV6ONLY: u16 = 11;
        let mut out = vec![self.family as u8, self.state, 0, 0];
        [self.local.port, self.peer.port].iter().for_each(|p| out.extend_from_slice(&p.to_be_bytes()));
        [&self.local, &self.peer].iter().for_each(|e| out.extend_from_slice(&self.address(e)));
        // No interface; the cookie is the inode, which no other socket ever has.
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.inode.to_le_bytes());
        for n in [0, self.queues[0], self.queues[1], self.uid, self.inode as u32] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        if let Some(only) = self.v6_only.filter(|_| self.family == AF_INET6) {
            attribute(&mut out, SKV6ONLY, &[u8::from(only)]);
        }
        out
    }
    fn address(&self, e: &Endpoint) -> [u8; 16] {
        let mut out = e.ip.0;
        if let Some(a) = e.ip.as_v4().filter(|_| self.family == AF_INET) {
            out = [0; 16];
            out[..4].copy_from_slice(&a);
        }
        out
    }
}

/// `struct unix_diag_req`: a local socket, if it is asked for.
fn local(request: &[u8], s: unix::Seen) -> Option<Vec<u8>> {
    const SHOW: [(u32, u16); 3] = [(1, 0), (4, 2), (0x10, 4)];
    let (states, inode, show) = (word(request, 4), word(request, 8), word(request, 12));
    if !wants(states, s.state) || inode != 0 && inode != s.inode as u32 {
        return None;
    }
    let mut out = vec![AF_UNIX as u8, s.kind as u8, s.state, 0];
    out.extend_from_slice(&(s.inode as u32).to_le_bytes());
    out.extend_from_slice(&s.inode.to_le_bytes());
    let queues = [s.queues[0].to_le_bytes(), s.queues[1].to_le_bytes()].concat();
    let peer = s.peer.map(|id| (id as u32).to_le_bytes().to_vec());
    for ((bit, kind), data) in SHOW.into_iter().zip([s.name, peer, Some(queues)]) {
        if let Some(data) = data.filter(|_| show & bit != 0) {
            attribute(&mut out, kind, &data);
        }
    }
    attribute(&mut out, 6, &[s.shut]);
    Some(out)
}
