//! What IP says of a datagram besides its bytes, as control messages of sendmsg(2) and recvmsg(2): hop limit, traffic class,
//! destination (ip(7), ipv6(7), RFC 3542).
//!
//! It travels with datagrams between programs of the enclave. Of one that came from the host nothing is known for sure,
//! so nothing is said.
use super::addr::{AF_INET, Ip};
use super::interfaces;
use super::options::{Common, SOL_IP, SOL_IPV6};
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
    pub hops: i32,
    /// TOS or traffic class.
    pub class: i32,
    /// Where it was sent to.
    pub to: Ip,
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
        Info { hops: self.hops.unwrap_or(default(hops)), class: self.class.unwrap_or(class.max(0)), to }
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

impl Info {
    /// What a receiver asked to be told.
    pub fn told(&self, common: &Common) -> Vec<Control> {
        let index = interfaces::index_of(self.to);
        let rows: [(u32, u32, u32, Vec<u8>); 3] = match self.to.as_v4() {
            Some(v4) => [
                (SOL_IP, IP_PKTINFO, IP_PKTINFO, [index.to_le_bytes(), v4, v4].concat()),
                (SOL_IP, IP_RECVTTL, IP_TTL, self.hops.to_le_bytes().to_vec()),
                (SOL_IP, IP_RECVTOS, IP_TOS, vec![self.class as u8]),
            ],
            None => [
                (SOL_IPV6, IPV6_RECVPKTINFO, IPV6_PKTINFO, [&self.to.0[..], &index.to_le_bytes()].concat()),
                (SOL_IPV6, IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT, self.hops.to_le_bytes().to_vec()),
                (SOL_IPV6, IPV6_RECVTCLASS, IPV6_TCLASS, self.class.to_le_bytes().to_vec()),
            ],
        };
        let asked = rows.into_iter().filter(|r| common.flag(r.0, r.1));
        asked.map(|(level, _, kind, data)| (level, kind, data)).collect()
    }
}
