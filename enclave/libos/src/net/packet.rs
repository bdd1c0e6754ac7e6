//! What IP says of a datagram besides its bytes, as control messages of sendmsg(2) and recvmsg(2): hop limit, traffic class,
//! destination (ip(7), ipv6(7), RFC 3542).
//!
//! It travels with datagrams between programs of the enclave. Of one that came from the host no more is known than where it
//! must have been sent to. Besides: when it came (SO_TIMESTAMP), and what came back of one that nobody took (IP_RECVERR).
use super::addr::{AF_INET, Endpoint, Ip};
use super::interfaces;
use super::options::{self, Common, IP_RECVERR, IPV6_RECVERR, SOL_IP, SOL_IPV6, SOL_SOCKET, TIMESTAMPS};
use crate::fs::prelude::*;

const IP_TOS: u32 = 1;
const IP_TTL: u32 = 2;
const IP_PKTINFO: u32 = 8;
const IP_RECVTTL: u32 = 12;
const IP_RECVTOS: u32 = 13;
const IPV6_UNICAST_HOPS: u32 = 16;
const IPV6_RECVPKTINFO: u32 = 49;
const IPV6_PKTINFO: u32 = 50;
const IPV6_RECVHOPLIMIT: u32 = 51;
const IPV6_HOPLIMIT: u32 = 52;
const IPV6_RECVTCLASS: u32 = 66;
const IPV6_TCLASS: u32 = 67;
const DEFAULT_HOPS: i32 = 64;

/// A control message: level, type, bytes.
pub type Control = (u32, u32, Vec<u8>);

/// Of a datagram on its way.
#[derive(Clone, Copy)]
pub struct Info {
    /// Hops that it may still go.
    pub hops: Option<i32>,
    /// TOS or traffic class.
    pub class: Option<i32>,
    /// Where it was sent to.
    pub to: Ip,
    /// When it came (CLOCK_REALTIME ns).
    pub at: u64,
}

/// What a sender asks for one datagram.
#[derive(Clone, Copy, Default)]
pub struct Wish {
    hops: Option<i32>,
    class: Option<i32>,
    /// The source address.
    pub source: Option<Ip>,
}

fn number(data: &[u8]) -> Result<i32> {
    data.get(..4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).ok_or(EINVAL)
}
fn address<const N: usize>(data: &[u8], at: usize) -> Result<[u8; N]> {
    data.get(at..at + N).and_then(|b| b.try_into().ok()).ok_or(EINVAL)
}
/// -1 stands for the default.
fn octet(value: i32) -> Result<Option<i32>> {
    match value {
        -1 => Ok(None),
        0..=255 => Ok(Some(value)),
        _ => Err(EINVAL),
    }
}

impl Wish {
    /// Reads the control messages of IP for a socket of `family`.
    pub fn read(family: u16, control: &[Control]) -> Result<Self> {
        let mut w = Self::default();
        for (level, kind, data) in control {
            match (*level, *kind) {
                (SOL_IP, IP_TTL) => {
                    w.hops = octet(number(data)?)?.filter(|n| *n > 0).ok_or(EINVAL).map(Some)?
                }
                (SOL_IP, IP_TOS) => w.class = Some(i32::from(*data.first().ok_or(EINVAL)?)),
                (SOL_IP, IP_PKTINFO) => w.source = own(Ip::v4(address(data, 4)?))?,
                (SOL_IPV6, IPV6_HOPLIMIT) if family != AF_INET => w.hops = octet(number(data)?)?,
                (SOL_IPV6, IPV6_TCLASS) if family != AF_INET => w.class = octet(number(data)?)?,
                (SOL_IPV6, IPV6_PKTINFO) if family != AF_INET => w.source = own(Ip(address(data, 0)?))?,
                (SOL_IP | SOL_IPV6, _) => return Err(EINVAL),
                _ => {}
            }
        }
        Ok(w)
    }
    /// Of a datagram to `to` from a socket with these options.
    pub fn info(&self, common: &Common, to: Ip) -> Info {
        let [hops, class] = match to.as_v4() {
            Some(_) => [common.value(SOL_IP, IP_TTL), common.value(SOL_IP, IP_TOS)],
            None => [common.value(SOL_IPV6, IPV6_UNICAST_HOPS), common.value(SOL_IPV6, IPV6_TCLASS)],
        };
        let default = |n: i32| if n < 0 { DEFAULT_HOPS } else { n };
        let hops = Some(self.hops.unwrap_or(default(hops)));
        Info { hops, class: Some(self.class.unwrap_or(class.max(0))), ..Info::outside(to) }
    }
    /// The options that a socket of the host needs for this one datagram to `to`: level, name, value and what follows.
    pub fn for_host(&self, common: &Common, to: Ip) -> Vec<(u32, u32, i32, i32)> {
        let (level, hops, class) = match to.as_v4() {
            Some(_) => (SOL_IP, IP_TTL, IP_TOS),
            None => (SOL_IPV6, IPV6_UNICAST_HOPS, IPV6_TCLASS),
        };
        [(hops, self.hops), (class, self.class)]
            .into_iter()
            .filter_map(|(name, wish)| Some((level, name, wish?, common.value(level, name))))
            .collect()
    }
}
/// An address that a datagram may come from; the unspecified one leaves the choice.
fn own(ip: Ip) -> Result<Option<Ip>> {
    match ip.is_any() {
        true => Ok(None),
        false if interfaces::is_own(ip) => Ok(Some(ip)),
        false => Err(EINVAL),
    }
}

/// When a datagram came, as SO_TIMESTAMP and its kin ask for it.
fn stamp(common: &Common, at: u64) -> Option<Control> {
    let name = TIMESTAMPS.into_iter().find(|name| common.flag(SOL_SOCKET, *name))?;
    let parts = if options::counts_ns(name) { at % 1_000_000_000 } else { at % 1_000_000_000 / 1000 };
    Some((SOL_SOCKET, name, [at / 1_000_000_000, parts].map(u64::to_le_bytes).concat()))
}

/// A datagram that nobody took, for a socket that asked to be told (IP_RECVERR).
pub struct Refused {
    to: Endpoint,
    data: Vec<u8>,
}
impl Refused {
    /// `None`: the socket did not ask, or there is no memory to tell.
    pub fn new(common: &Common, to: Endpoint, mut data: Vec<u8>) -> Option<Self> {
        // An ICMP message quotes so much: 576 and 1280 bytes without its own heads and those of the datagram.
        let ((level, name), most) = match to.ip.as_v4() {
            Some(_) => ((SOL_IP, IP_RECVERR), 520),
            None => ((SOL_IPV6, IPV6_RECVERR), 1184),
        };
        if !common.flag(level, name) {
            return None;
        }
        data.truncate(most);
        data.shrink_to_fit();
        Some(Self { to, data })
    }
    /// What of it came back.
    pub fn data(&self) -> &[u8] {
        &self.data
    }
    /// Where it was sent to.
    pub fn to(&self) -> Endpoint {
        self.to
    }
    /// `struct sock_extended_err` and who says so, for a socket of `family`.
    pub fn told(&self, family: u16) -> Control {
        const ORIGIN_ICMP: [u8; 3] = [2, 3, 3];
        const ORIGIN_ICMP6: [u8; 3] = [3, 1, 4];
        let kind = if self.to.ip.as_v4().is_some() { ORIGIN_ICMP } else { ORIGIN_ICMP6 };
        let mut b = vec![0; 16];
        b[..4].copy_from_slice(&ECONNREFUSED.as_i32().to_le_bytes());
        b[4..7].copy_from_slice(&kind);
        b.extend(Endpoint { port: 0, ..self.to }.format(family));
        let (level, name) = if family == AF_INET { (SOL_IP, IP_RECVERR) } else { (SOL_IPV6, IPV6_RECVERR) };
        (level, name, b)
    }
}

impl Info {
    /// Of a datagram that came from the host to `to`.
    pub fn outside(to: Ip) -> Self {
        Self { hops: None, class: None, to, at: crate::time::realtime_ns() }
    }
    /// What a receiver asked to be told.
    pub fn told(&self, common: &Common) -> Vec<Control> {
        let index = interfaces::index_of(self.to);
        let number = |n: Option<i32>| n.unwrap_or(0).to_le_bytes().to_vec();
        let octet = |n: Option<i32>| vec![n.unwrap_or(0) as u8];
        let is_known = |name: u32| match name {
            IP_RECVTTL | IPV6_RECVHOPLIMIT => self.hops.is_some(),
            IP_RECVTOS | IPV6_RECVTCLASS => self.class.is_some(),
            _ => true,
        };
        let rows: [(u32, u32, u32, Vec<u8>); 3] = match self.to.as_v4() {
            Some(v4) => [
                (SOL_IP, IP_PKTINFO, IP_PKTINFO, [index.to_le_bytes(), v4, v4].concat()),
                (SOL_IP, IP_RECVTTL, IP_TTL, number(self.hops)),
                (SOL_IP, IP_RECVTOS, IP_TOS, octet(self.class)),
            ],
            None => [
                (SOL_IPV6, IPV6_RECVPKTINFO, IPV6_PKTINFO, [&self.to.0[..], &index.to_le_bytes()].concat()),
                (SOL_IPV6, IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT, number(self.hops)),
                (SOL_IPV6, IPV6_RECVTCLASS, IPV6_TCLASS, number(self.class)),
            ],
        };
        let asked = rows.into_iter().filter(|r| common.flag(r.0, r.1) && is_known(r.1));
        let asked = asked.map(|(level, _, kind, data)| (level, kind, data));
        stamp(common, self.at).into_iter().chain(asked).collect()
    }
}
