//! Network interfaces: the enclave's own loopback, and what the host says it has. A claim of the host's only decides which
//! addresses stay inside, are shown, and can be bound to.
use super::addr::{AF_INET, Endpoint, Ip};
use super::host::{self, Policy};
use crate::fs::prelude::*;
use crate::fs::uio::try_vec;
use crate::uaccess;

/// An interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Index; the loopback is 1.
    pub index: u32,
    /// `IFF_*`.
    pub flags: u32,
    /// Most bytes of a packet.
    pub mtu: u32,
    /// Name, at most 15 bytes.
    pub name: Vec<u8>,
    /// Hardware address.
    pub hardware: [u8; 6],
    /// Addresses with the length of their prefix (IPv4: of 32).
    pub addresses: Vec<(Ip, u8)>,
}
impl Interface {
    /// Is it the loopback?
    pub fn is_loopback(&self) -> bool {
        self.index == 1
    }
}

const IFF_UP: u32 = 1;
const IFF_BROADCAST: u32 = 2;
const IFF_LOOPBACK: u32 = 8;
const IFF_RUNNING: u32 = 0x40;
const IFF_MULTICAST: u32 = 0x1000;

fn loopback() -> Interface {
    Interface {
        index: 1,
        flags: IFF_UP | IFF_LOOPBACK | IFF_RUNNING,
        mtu: 65536,
        name: b"lo".to_vec(),
        hardware: [0; 6],
        addresses: vec![(Ip::LOOPBACK4, 8), (Ip::LOOPBACK6, 128)],
    }
}

static LIST: BklCell<Option<Arc<Vec<Interface>>>> = BklCell::new(None);
/// All interfaces, the loopback first. The host is asked once.
pub fn all() -> Arc<Vec<Interface>> {
    if let Some(l) = LIST.with(Clone::clone) {
        return l;
    }
    let mut list = vec![loopback()];
    if host::policy() != Policy::Isolated {
        list.extend(host::interfaces().into_iter().filter_map(checked));
    }
    let list = Arc::new(list);
    LIST.set(Some(list.clone()));
    list
}
/// An interface of the host's as the enclave takes it: nothing in it can pass for the loopback.
fn checked(mut i: Interface) -> Option<Interface> {
    let printable = i.name.iter().all(|c| c.is_ascii_graphic() && *c != b'/');
    if i.index < 2 || i.name.is_empty() || i.name.len() > 15 || !printable || i.name == b"lo" {
        return None;
    }
    i.flags &= IFF_UP | IFF_BROADCAST | IFF_RUNNING | IFF_MULTICAST;
    i.addresses.retain(|(ip, _)| !ip.is_loopback() && !ip.is_any() && !ip.is_group());
    Some(i)
}

/// Does what is sent there stay inside?
pub fn is_own(ip: Ip) -> bool {
    ip.is_loopback() || all().iter().any(|i| i.addresses.iter().any(|(a, _)| *a == ip))
}
/// The index of the interface with this address; the loopback's for what it has not.
pub fn index_of(ip: Ip) -> u32 {
    let has = |i: &&Interface| i.addresses.iter().any(|(a, _)| *a == ip);
    all().iter().find(has).map_or(1, |i| i.index)
}
/// Who comes from outside, as a socket of `family4` shows it: nobody there has one of the enclave's own addresses.
pub fn outsider(e: Endpoint, family4: bool) -> Endpoint {
    let v4 = e.ip.as_v4().is_some();
    let ip = match is_own(e.ip) || e.ip.is_any() {
        _ if family4 && !v4 => Ip::HOST4,
        true if v4 => Ip::HOST4,
        true => Ip::HOST6,
        false => e.ip,
    };
    Endpoint { ip, ..e }
}
/// The address of ours that a peer outside sees, for want of a better one the first of its family.
pub fn outward(peer: Ip) -> Ip {
    let v4 = peer.as_v4().is_some();
    let list = all();
    let mut addresses = list.iter().skip(1).flat_map(|i| i.addresses.iter());
    let found = addresses.find(|(a, _)| a.as_v4().is_some() == v4 && !a.is_link_local6());
    found.map_or(if v4 { Ip::ANY4 } else { Ip::ANY6 }, |(a, _)| *a)
}
/// The netmask of an IPv4 prefix.
pub fn mask4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

/// Bytes of a `struct ifreq`: 16 of name, then a union.
const IFREQ: usize = 40;
const SIOCGIFNAME: u32 = 0x8910;
const SIOCGIFCONF: u32 = 0x8912;
const SIOCGIFFLAGS: u32 = 0x8913;
const SIOCGIFADDR: u32 = 0x8915;
const SIOCGIFBRDADDR: u32 = 0x8919;
const SIOCGIFNETMASK: u32 = 0x891b;
const SIOCGIFMETRIC: u32 = 0x891d;
const SIOCGIFMTU: u32 = 0x8921;
const SIOCGIFHWADDR: u32 = 0x8927;
const SIOCGIFINDEX: u32 = 0x8933;
const SIOCGIFTXQLEN: u32 = 0x8942;
const SIOCETHTOOL: u32 = 0x8946;
/// Requests that would change something: for administrators only.
const CHANGES: [u32; 10] = [0x890b, 0x890c, 0x8914, 0x8916, 0x891a, 0x891c, 0x8922, 0x8923, 0x8924, 0x8943];

/// ioctl(2) of a socket about interfaces.
pub fn ioctl(request: u32, arg: u64) -> Result<usize> {
    match request {
        SIOCGIFCONF => list_addresses(arg),
        SIOCGIFNAME => {
            let index: u32 = uaccess::read_val(arg + 16)?;
            let list = all();
            let i = list.iter().find(|i| i.index == index).ok_or(ENODEV)?;
            let mut name = i.name.clone();
            name.resize(16, 0);
            uaccess::write_bytes(arg, &name)?;
            Ok(0)
        }
        r if CHANGES.contains(&r) => Err(EPERM),
        SIOCGIFFLAGS..=SIOCGIFHWADDR | SIOCGIFINDEX | SIOCGIFTXQLEN | SIOCETHTOOL => attribute(request, arg),
        _ => Err(ENOTTY),
    }
}
/// The first IPv4 address.
fn first4(i: &Interface) -> Option<([u8; 4], u8)> {
    i.addresses.iter().find_map(|(a, p)| Some((a.as_v4()?, *p)))
}
fn attribute(request: u32, arg: u64) -> Result<usize> {
    let mut name = [0; 16];
    uaccess::read_bytes(arg, &mut name)?;
    let end = name.iter().position(|b| *b == 0).unwrap_or(15);
    let list = all();
    let i = list.iter().find(|i| i.name == name[..end]).ok_or(ENODEV)?;
    let address = |a: [u8; 4]| Ok(Endpoint::new(Ip::v4(a), 0).format(AF_INET));
    let word = |v: u32| Ok(v.to_le_bytes().to_vec());
    let (a, prefix) = first4(i).unwrap_or_default();
    let has = first4(i).is_some();
    let value: Result<Vec<u8>> = match request {
        SIOCGIFFLAGS => Ok((i.flags as u16).to_le_bytes().to_vec()),
        SIOCGIFMTU => word(i.mtu),
        SIOCGIFINDEX => word(i.index),
        // No interface here has a driver that could be asked for its speed.
        SIOCETHTOOL => Err(EOPNOTSUPP),
        SIOCGIFMETRIC => word(0),
        SIOCGIFTXQLEN => word(1000),
        SIOCGIFHWADDR => {
            let kind: u16 = if i.is_loopback() { 772 } else { 1 };
            Ok([&kind.to_le_bytes()[..], &i.hardware].concat())
        }
        SIOCGIFADDR | SIOCGIFNETMASK | SIOCGIFBRDADDR if !has => Err(EADDRNOTAVAIL),
        SIOCGIFADDR => address(a),
        SIOCGIFNETMASK => address(mask4(prefix).to_be_bytes()),
        SIOCGIFBRDADDR if i.is_loopback() => address([0; 4]),
        SIOCGIFBRDADDR => address((u32::from_be_bytes(a) | !mask4(prefix)).to_be_bytes()),
        _ => Err(ENOTTY),
    };
    uaccess::write_bytes(arg + 16, &value?)?;
    Ok(0)
}
fn list_addresses(arg: u64) -> Result<usize> {
    let (len, buf): (i32, u64) = (uaccess::read_val(arg)?, uaccess::read_val(arg + 8)?);
    let mut out = Vec::new();
    for i in all().iter() {
        for a in i.addresses.iter().filter_map(|(a, _)| a.as_v4()) {
            let mut entry = i.name.clone();
            entry.resize(16, 0);
            entry.extend_from_slice(&Endpoint::new(Ip::v4(a), 0).format(AF_INET));
            entry.resize(IFREQ, 0);
            out.extend_from_slice(&entry);
        }
    }
    if buf != 0 {
        let room = usize::try_from(len).map_err(|_| EINVAL)? / IFREQ * IFREQ;
        out.truncate(room);
        uaccess::write_bytes(buf, &out)?;
    }
    uaccess::write_val(arg, out.len() as u32)?;
    Ok(0)
}

/// Reads the host's list: hostile bytes; what does not parse ends it.
pub fn parse(mut b: &[u8]) -> Vec<Interface> {
    use occlum_enclave_abi::{NET_ADDR, NET_INTERFACE};
    let mut out = Vec::new();
    while let Some((head, rest)) = b.split_at_checked(NET_INTERFACE) {
        let word = |at: usize| u32::from_le_bytes(core::array::from_fn(|k| head[at + k]));
        let half = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let Some((addresses, rest)) = rest.split_at_checked(half(14) * NET_ADDR) else { break };
        let name = &head[24..24 + half(12).min(15)];
        let addresses = addresses.chunks_exact(NET_ADDR).map(|a| {
            let ip = Ip(core::array::from_fn(|i| a[i]));
            let most = if ip.as_v4().is_some() { 32 } else { 128 };
            (ip, a[20].min(most))
        });
        out.push(Interface {
            index: word(0),
            flags: word(4),
            mtu: word(8),
            name: name.to_vec(),
            hardware: core::array::from_fn(|i| head[16 + i]),
            addresses: addresses.collect(),
        });
        b = rest;
    }
    out
}
/// A buffer for the host's list.
pub fn buffer() -> Result<Vec<u8>> {
    try_vec(64 << 10)
}
