//! Socket options as data: one row for each option that is a number, with its level, range and default.
//!
//! What is not here and not special (`syscall`, the sockets' own) is `ENOPROTOOPT`: an option that would be accepted
//! without effect is worse than none. Rows marked `host` also go to the host's socket, once there is one.
use super::{Class, SOCK_DGRAM, SOCK_STREAM};
use crate::fs::prelude::*;

pub const SOL_IP: u32 = 0;
pub const SOL_SOCKET: u32 = 1;
pub const SOL_TCP: u32 = 6;
pub const SOL_UDP: u32 = 17;
pub const SOL_IPV6: u32 = 41;
pub const SOL_UDPLITE: u32 = 136;

pub const SO_REUSEADDR: u32 = 2;
pub const SO_TYPE: u32 = 3;
pub const SO_ERROR: u32 = 4;
pub const SO_BROADCAST: u32 = 6;
pub const SO_SNDBUF: u32 = 7;
pub const SO_RCVBUF: u32 = 8;
pub const SO_KEEPALIVE: u32 = 9;
pub const SO_OOBINLINE: u32 = 10;
pub const SO_PRIORITY: u32 = 12;
pub const SO_LINGER: u32 = 13;
pub const SO_REUSEPORT: u32 = 15;
pub const SO_PASSCRED: u32 = 16;
pub const SO_PEERCRED: u32 = 17;
pub const SO_RCVTIMEO: u32 = 20;
pub const SO_SNDTIMEO: u32 = 21;
pub const SO_BINDTODEVICE: u32 = 25;
pub const SO_TIMESTAMP: u32 = 29;
pub const SO_ACCEPTCONN: u32 = 30;
pub const SO_TIMESTAMPNS: u32 = 35;
pub const SO_PROTOCOL: u32 = 38;
pub const SO_DOMAIN: u32 = 39;
pub const SO_TIMESTAMP_NEW: u32 = 63;
pub const SO_TIMESTAMPNS_NEW: u32 = 64;
pub const IP_RECVERR: u32 = 11;
pub const IPV6_RECVERR: u32 = 25;
pub const TCP_NODELAY: u32 = 1;
pub const TCP_INFO: u32 = 11;
pub const TCP_CONGESTION: u32 = 13;
pub const IPV6_V6ONLY: u32 = 26;

/// Options of which one is on at most.
pub const TIMESTAMPS: [u32; 4] = [SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW];
/// Does a time stamp have nanoseconds?
pub fn counts_ns(name: u32) -> bool {
    matches!(name, SO_TIMESTAMPNS | SO_TIMESTAMPNS_NEW)
}

/// Sockets that have an option.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    All,
    Tcp,
    Inet,
    Inet6,
    Datagram,
    Datagram6,
    UdpLite,
}

/// What values a row takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Range {
    /// Anything, kept as 0 or 1.
    Bool,
    /// From, to.
    Int(i32, i32),
    /// A buffer size with its least value: kept doubled, as Linux does.
    Buffer(i32),
    /// Bytes under a checksum: 0 is all, the header (8) is the least.
    Coverage,
    /// Cannot be set.
    ReadOnly,
    /// Setting is for administrators only.
    Admin,
}
use Range::{Admin, Bool, Buffer, Coverage, Int, ReadOnly};

/// One option.
struct Row {
    level: u32,
    name: u32,
    sockets: For,
    range: Range,
    default: i32,
    /// Does it mean something on the host's side of a connection?
    host: bool,
}
const fn row(level: u32, name: u32, sockets: For, range: Range, default: i32, host: bool) -> Row {
    Row { level, name, sockets, range, default, host }
}

/// Most bytes that SO_SNDBUF and SO_RCVBUF ask for (net.core.wmem_max).
const BUFFER_MAX: i32 = 212_992;
const ROWS: &[Row] = &[
    row(SOL_SOCKET, 1, For::All, Admin, 0, false), // SO_DEBUG
    row(SOL_SOCKET, SO_REUSEADDR, For::All, Bool, 0, false),
    row(SOL_SOCKET, SO_TYPE, For::All, ReadOnly, 0, false),
    row(SOL_SOCKET, SO_ERROR, For::All, ReadOnly, 0, false),
    row(SOL_SOCKET, 5, For::All, Bool, 0, true), // SO_DONTROUTE
    row(SOL_SOCKET, SO_BROADCAST, For::All, Bool, 0, true),
    row(SOL_SOCKET, SO_SNDBUF, For::All, Buffer(4608), BUFFER_MAX, true),
    row(SOL_SOCKET, SO_RCVBUF, For::All, Buffer(2304), BUFFER_MAX, true),
    row(SOL_SOCKET, SO_KEEPALIVE, For::All, Bool, 0, true),
    row(SOL_SOCKET, SO_OOBINLINE, For::All, Bool, 0, true),
    row(SOL_SOCKET, SO_PRIORITY, For::All, Int(0, 6), 0, false),
    row(SOL_SOCKET, SO_REUSEPORT, For::All, Bool, 0, false),
    row(SOL_SOCKET, SO_PEERCRED, For::All, ReadOnly, 0, false),
    row(SOL_SOCKET, 18, For::All, ReadOnly, 1, false), // SO_RCVLOWAT
    row(SOL_SOCKET, 19, For::All, ReadOnly, 1, false), // SO_SNDLOWAT
    row(SOL_SOCKET, SO_ACCEPTCONN, For::All, ReadOnly, 0, false),
    row(SOL_SOCKET, 32, For::All, Admin, 0, false), // SO_SNDBUFFORCE
    row(SOL_SOCKET, 33, For::All, Admin, 0, false), // SO_RCVBUFFORCE
    row(SOL_SOCKET, 36, For::All, Admin, 0, false), // SO_MARK
    row(SOL_SOCKET, SO_PROTOCOL, For::All, ReadOnly, 0, false),
    row(SOL_SOCKET, SO_DOMAIN, For::All, ReadOnly, 0, false),
    row(SOL_TCP, TCP_NODELAY, For::Tcp, Bool, 0, true),
    row(SOL_TCP, 2, For::Tcp, Int(88, 32767), 536, false), // TCP_MAXSEG
    row(SOL_TCP, 3, For::Tcp, Bool, 0, true),              // TCP_CORK
    row(SOL_TCP, 4, For::Tcp, Int(1, 32767), 7200, true),  // TCP_KEEPIDLE
    row(SOL_TCP, 5, For::Tcp, Int(1, 32767), 75, true),    // TCP_KEEPINTVL
    row(SOL_TCP, 6, For::Tcp, Int(1, 127), 9, true),       // TCP_KEEPCNT
    row(SOL_TCP, 7, For::Tcp, Int(1, 127), 6, true),       // TCP_SYNCNT
    row(SOL_TCP, 8, For::Tcp, Int(-1, 120), 60, true),     // TCP_LINGER2
    // Nothing arrives later than the connection here: a listener need not defer it.
    row(SOL_TCP, 9, For::Tcp, Int(0, i32::MAX), 0, false), // TCP_DEFER_ACCEPT
    row(SOL_TCP, 12, For::Tcp, Bool, 1, true),             // TCP_QUICKACK
    row(SOL_TCP, 18, For::Tcp, Int(0, i32::MAX), 0, true), // TCP_USER_TIMEOUT
    row(SOL_TCP, 25, For::Tcp, Int(0, i32::MAX), 0, true), // TCP_NOTSENT_LOWAT
    row(SOL_IP, 1, For::Inet, Int(0, 255), 0, true),       // IP_TOS
    row(SOL_IP, 2, For::Inet, Int(1, 255), 64, true),      // IP_TTL
    row(SOL_IP, 10, For::Inet, Int(0, 5), 1, true),        // IP_MTU_DISCOVER
    row(SOL_IP, 24, For::Inet, Bool, 0, false),            // IP_BIND_ADDRESS_NO_PORT
    row(SOL_IP, 33, For::Inet, Int(0, 255), 1, true),      // IP_MULTICAST_TTL
    row(SOL_IP, 34, For::Inet, Bool, 1, true),             // IP_MULTICAST_LOOP
    row(SOL_IP, IP_RECVERR, For::Inet, Bool, 0, true),
    row(SOL_IPV6, 16, For::Inet6, Int(-1, 255), 64, true), // IPV6_UNICAST_HOPS
    row(SOL_IPV6, 18, For::Inet6, Int(-1, 255), 1, true),  // IPV6_MULTICAST_HOPS
    row(SOL_IPV6, 19, For::Inet6, Bool, 1, true),          // IPV6_MULTICAST_LOOP
    row(SOL_IPV6, 23, For::Inet6, Int(0, 5), 1, true),     // IPV6_MTU_DISCOVER
    row(SOL_IPV6, IPV6_RECVERR, For::Inet6, Bool, 0, true),
    row(SOL_IPV6, IPV6_V6ONLY, For::Inet6, Bool, 0, false),
    row(SOL_IPV6, 67, For::Inet6, Int(-1, 255), 0, true), // IPV6_TCLASS
    // What `packet` tells of datagrams.
    row(SOL_SOCKET, SO_TIMESTAMP, For::Datagram, Bool, 0, false),
    row(SOL_SOCKET, SO_TIMESTAMPNS, For::Datagram, Bool, 0, false),
    row(SOL_SOCKET, SO_TIMESTAMP_NEW, For::Datagram, Bool, 0, false),
    row(SOL_SOCKET, SO_TIMESTAMPNS_NEW, For::Datagram, Bool, 0, false),
    row(SOL_IP, 8, For::Datagram, Bool, 0, false),  // IP_PKTINFO
    row(SOL_IP, 12, For::Datagram, Bool, 0, false), // IP_RECVTTL
    row(SOL_IP, 13, For::Datagram, Bool, 0, false), // IP_RECVTOS
    row(SOL_IPV6, 49, For::Datagram6, Bool, 0, false), // IPV6_RECVPKTINFO
    row(SOL_IPV6, 51, For::Datagram6, Bool, 0, false), // IPV6_RECVHOPLIMIT
    row(SOL_IPV6, 66, For::Datagram6, Bool, 0, false), // IPV6_RECVTCLASS
    // How much of a datagram its checksum covers: inside the enclave nothing is ever damaged.
    row(SOL_UDPLITE, 10, For::UdpLite, Coverage, 0, false), // UDPLITE_SEND_CSCOV
    row(SOL_UDPLITE, 11, For::UdpLite, Coverage, 0, false), // UDPLITE_RECV_CSCOV
];

fn applies(sockets: For, class: Class) -> bool {
    use super::addr::{AF_INET, AF_INET6};
    let inet = matches!(class.family, AF_INET | AF_INET6);
    match sockets {
        For::All => true,
        For::Tcp => inet && class.kind == SOCK_STREAM,
        For::Inet => inet,
        For::Inet6 => class.family == AF_INET6,
        For::Datagram => inet && class.kind == SOCK_DGRAM,
        For::Datagram6 => class.family == AF_INET6 && class.kind == SOCK_DGRAM,
        For::UdpLite => inet && class.protocol == SOL_UDPLITE,
    }
}
fn find(class: Class, level: u32, name: u32) -> Result<&'static Row> {
    ROWS.iter()
        .find(|r| r.level == level && r.name == name && applies(r.sockets, class))
        .ok_or_else(|| missing(class, level))
}
/// The error for an option that a socket does not have.
pub fn missing(class: Class, level: u32) -> Errno {
    use super::addr::{AF_NETLINK, AF_UNIX};
    match class.family {
        AF_UNIX if level != SOL_SOCKET => EOPNOTSUPP,
        AF_NETLINK => ENOPROTOOPT,
        _ if class.kind == SOCK_DGRAM && level == SOL_TCP => ENOPROTOOPT,
        _ => ENOPROTOOPT,
    }
}

/// What every socket keeps of its options.
#[derive(Default)]
pub struct Common {
    values: BklCell<BTreeMap<(u32, u32), i32>>,
    receive_timeout: BklCell<u64>,
    send_timeout: BklCell<u64>,
    linger: BklCell<(i32, i32)>,
}
impl Common {
    /// The value of a number option; 0 if the socket has no such option.
    pub fn value(&self, level: u32, name: u32) -> i32 {
        let default = ROWS.iter().find(|r| r.level == level && r.name == name).map_or(0, |r| r.default);
        self.values.with(|v| v.get(&(level, name)).copied()).unwrap_or(default)
    }
    /// The value of a number option that the program has set.
    pub fn given(&self, level: u32, name: u32) -> Option<i32> {
        self.values.with(|v| v.get(&(level, name)).copied())
    }
    /// A number option that is on or off.
    pub fn flag(&self, level: u32, name: u32) -> bool {
        self.value(level, name) != 0
    }
    /// The numbers that were set and mean something to the host: level, name, value.
    pub fn for_host(&self) -> Vec<(u32, u32, i32)> {
        let is_host = |l: u32, n: u32| ROWS.iter().any(|r| r.level == l && r.name == n && r.host);
        self.values.with(|v| {
            v.iter().filter(|((l, n), _)| is_host(*l, *n)).map(|((l, n), v)| (*l, *n, *v)).collect()
        })
    }
    /// Takes over what a listener has: accepted sockets inherit their options.
    pub fn inherit(&self, from: &Common) {
        self.values.set(from.values.with(Clone::clone));
        self.receive_timeout.set(from.receive_timeout.get());
        self.send_timeout.set(from.send_timeout.get());
        self.linger.set(from.linger.get());
    }
    /// SO_RCVTIMEO in ns; 0 is none.
    pub fn receive_timeout(&self) -> u64 {
        self.receive_timeout.get()
    }
    /// SO_SNDTIMEO in ns; 0 is none.
    pub fn send_timeout(&self) -> u64 {
        self.send_timeout.get()
    }
    /// SO_LINGER: the seconds, if it is on.
    pub fn linger(&self) -> Option<i32> {
        let (on, seconds) = self.linger.get();
        (on != 0).then_some(seconds)
    }

    /// Sets an option of the table. Gives the value if the host's socket should have it too.
    pub fn set(&self, class: Class, level: u32, name: u32, value: &[u8]) -> Result<Option<i32>> {
        match (level, name) {
            (SOL_SOCKET, SO_RCVTIMEO | SO_SNDTIMEO) => return self.set_timeout(name, value).map(|()| None),
            (SOL_SOCKET, SO_LINGER) => return self.set_linger(value).map(|()| None),
            _ => {}
        }
        let row = find(class, level, name)?;
        let given = int_of(level, value)?;
        let kept = match row.range {
            ReadOnly => return Err(ENOPROTOOPT),
            Admin if name == 1 => return Err(EACCES),
            Admin => return Err(EPERM),
            Bool => i32::from(given != 0),
            Coverage if given == 0 => 0,
            Coverage => given.clamp(8, 65535),
            Buffer(least) => (given as u32).min(BUFFER_MAX as u32).saturating_mul(2).max(least as u32) as i32,
            // -1 stands for the default of what belongs to packets.
            Int(1, 255) if given == -1 => row.default,
            Int(..) if level == SOL_TCP && name == 4 && given > 32767 => return Err(EINVAL),
            Int(from, to) if (from..=to).contains(&given) => given,
            Int(..) if name == SO_PRIORITY && level == SOL_SOCKET => return Err(EPERM),
            Int(..) => return Err(EINVAL),
        };
        if level == SOL_SOCKET && TIMESTAMPS.contains(&name) {
            self.values.with_mut(|v| TIMESTAMPS.iter().for_each(|other| _ = v.remove(&(level, *other))));
        }
        self.values.with_mut(|v| v.insert((level, name), kept));
        let to_host = if matches!(row.range, Buffer(_)) { given } else { kept };
        Ok(row.host.then_some(to_host))
    }
    /// The bytes of an option of the table.
    pub fn get(&self, class: Class, level: u32, name: u32) -> Result<Vec<u8>> {
        let time = |ns: u64| [ns / 1_000_000_000, ns % 1_000_000_000 / 1000].map(u64::to_le_bytes).concat();
        match (level, name) {
            (SOL_SOCKET, SO_RCVTIMEO) => return Ok(time(self.receive_timeout())),
            (SOL_SOCKET, SO_SNDTIMEO) => return Ok(time(self.send_timeout())),
            (SOL_SOCKET, SO_LINGER) => {
                let (on, seconds) = self.linger.get();
                return Ok([on.to_le_bytes(), seconds.to_le_bytes()].concat());
            }
            _ => {}
        }
        find(class, level, name)?;
        Ok(self.value(level, name).to_le_bytes().to_vec())
    }
    fn set_timeout(&self, name: u32, value: &[u8]) -> Result<()> {
        let word = |i: usize| value.get(i..i + 8).map(|w| i64::from_le_bytes(core::array::from_fn(|k| w[k])));
        let (Some(s), Some(us)) = (word(0), word(8)) else { return Err(EINVAL) };
        if !(0..1_000_000).contains(&us) {
            return Err(EDOM);
        }
        // A time before the start is no time: do not wait at all.
        let ns = match u64::try_from(s) {
            Ok(s) => s.saturating_mul(1_000_000_000).saturating_add(us as u64 * 1000),
            Err(_) => 1,
        };
        if name == SO_RCVTIMEO {
            self.receive_timeout.set(ns)
        } else {
            self.send_timeout.set(ns)
        }
        Ok(())
    }
    fn set_linger(&self, value: &[u8]) -> Result<()> {
        let [a, b, c, d, e, f, g, h, ..] = value else { return Err(EINVAL) };
        let on = i32::from_le_bytes([*a, *b, *c, *d]) != 0;
        self.linger.set((i32::from(on), i32::from_le_bytes([*e, *f, *g, *h])));
        Ok(())
    }
}

/// A number as programs pass it; options of packets also take a single byte.
fn int_of(level: u32, value: &[u8]) -> Result<i32> {
    match value {
        [a, b, c, d, ..] => Ok(i32::from_le_bytes([*a, *b, *c, *d])),
        [a, ..] if level == SOL_IP => Ok(i32::from(*a)),
        _ => Err(EINVAL),
    }
}
