//! Addresses: the bytes that programs pass, and the endpoints of the internet families behind them.
//!
//! An `Ip` holds both families: IPv4 addresses are kept as IPv4-mapped ones, so that a dual-stack socket needs no second
//! code path. Neighbours: `ports` (who has which endpoint), `tcp`, `udp`, `wire` (the same over OCALLs).
use crate::fs::prelude::*;

pub const AF_UNSPEC: u16 = 0;
pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const AF_NETLINK: u16 = 16;
/// Longest address that a program may pass (`struct sockaddr_storage`).
pub const MAX: usize = 128;

/// An IPv6 address, or an IPv4 one as IPv4-mapped IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ip(pub [u8; 16]);
impl Ip {
    /// `0.0.0.0`.
    pub const ANY4: Ip = Ip::v4([0; 4]);
    /// `::`.
    pub const ANY6: Ip = Ip([0; 16]);
    /// `127.0.0.1`.
    pub const LOOPBACK4: Ip = Ip::v4([127, 0, 0, 1]);
    /// `::1`.
    pub const LOOPBACK6: Ip = Ip([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    /// The IPv4 dummy address (RFC 7600): who comes from the host's own loopback.
    pub const HOST4: Ip = Ip::v4([192, 0, 0, 8]);
    /// The same for IPv6: of the discard-only prefix (RFC 6666).
    pub const HOST6: Ip = Ip([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8]);

    /// An IPv4 address.
    pub const fn v4(a: [u8; 4]) -> Ip {
        Ip([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a[0], a[1], a[2], a[3]])
    }
    /// The IPv4 address, if it is one.
    pub fn as_v4(&self) -> Option<[u8; 4]> {
        let mapped = self.0[..12] == Ip::ANY4.0[..12];
        mapped.then(|| core::array::from_fn(|i| self.0[12 + i]))
    }
    /// The wildcard of its family?
    pub fn is_any(&self) -> bool {
        *self == Ip::ANY4 || *self == Ip::ANY6
    }
    /// `127.0.0.0/8` or `::1`?
    pub fn is_loopback(&self) -> bool {
        *self == Ip::LOOPBACK6 || self.as_v4().is_some_and(|a| a[0] == 127)
    }
    /// Multicast or broadcast?
    pub fn is_group(&self) -> bool {
        match self.as_v4() {
            Some(a) => a[0] >= 224,
            None => self.0[0] == 0xff,
        }
    }
    /// `fe80::/10`: means something only with an interface.
    pub fn is_link_local6(&self) -> bool {
        self.0[0] == 0xfe && self.0[1] & 0xc0 == 0x80
    }
}

/// Address and port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Endpoint {
    /// Address.
    pub ip: Ip,
    /// Port; 0 is none.
    pub port: u16,
    /// Interface of a link-local address.
    pub scope: u32,
}
impl Endpoint {
    /// Without a scope.
    pub const fn new(ip: Ip, port: u16) -> Self {
        Self { ip, port, scope: 0 }
    }
    /// Reads a `sockaddr_in` or `sockaddr_in6`, as a socket of `family` takes it. `None` is AF_UNSPEC.
    pub fn parse(family: u16, b: &[u8]) -> Result<Option<Self>> {
        let given = family_of(b)?;
        if given == AF_UNSPEC {
            return Ok(None);
        }
        let shortest = if family == AF_INET6 { 24 } else { 16 };
        if b.len() < shortest {
            return Err(EINVAL);
        }
        if given != family {
            return Err(EAFNOSUPPORT);
        }
        let port = u16::from_be_bytes([b[2], b[3]]);
        if family == AF_INET {
            return Ok(Some(Self::new(Ip::v4([b[4], b[5], b[6], b[7]]), port)));
        }
        let scope = b.get(24..28).map_or(0, |s| u32::from_le_bytes([s[0], s[1], s[2], s[3]]));
        Ok(Some(Self { ip: Ip(core::array::from_fn(|i| b[8 + i])), port, scope }))
    }
    /// The address as a socket of `family` shows it.
    pub fn format(&self, family: u16) -> Vec<u8> {
        let mut out = family.to_le_bytes().to_vec();
        out.extend_from_slice(&self.port.to_be_bytes());
        if family == AF_INET {
            out.extend_from_slice(&self.ip.as_v4().unwrap_or_default());
            out.resize(16, 0);
            return out;
        }
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.ip.0);
        out.extend_from_slice(&self.scope.to_le_bytes());
        out
    }
}

/// The family field of an address.
pub fn family_of(b: &[u8]) -> Result<u16> {
    match b {
        [a, b, ..] => Ok(u16::from_le_bytes([*a, *b])),
        _ => Err(EINVAL),
    }
}
