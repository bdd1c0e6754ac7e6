//! The texts of /proc/net: what runs inside the enclave. Nothing of the host's own sockets is in them.
use super::addr::{AF_INET, AF_INET6, Endpoint};
use super::interfaces;
use super::{tcp, udp, unix};
use crate::fs::prelude::*;
use alloc::format;

/// Family, both ends, state, bytes unread, user, inode.
pub(super) type Row = (u16, Endpoint, Endpoint, u8, usize, u32, u64);

/// An address as /proc/net writes it: words of the machine's byte order, in hexadecimal.
fn address(family: u16, e: &Endpoint) -> String {
    let bytes = match e.ip.as_v4() {
        Some(a) if family == AF_INET => a.to_vec(),
        _ => e.ip.0.to_vec(),
    };
    let words =
        bytes.chunks_exact(4).map(|w| format!("{:08X}", u32::from_le_bytes([w[0], w[1], w[2], w[3]])));
    format!("{}:{:04X}", words.collect::<String>(), e.port)
}
fn table(head: &str, family: u16, rows: impl Iterator<Item = Row>) -> Vec<u8> {
    let width = if family == AF_INET { 149 } else { 0 };
    let mut out = format!("{head:<width$}\n");
    for (n, (_, local, peer, state, unread, uid, inode)) in rows.filter(|r| r.0 == family).enumerate() {
        let (a, b) = (address(family, &local), address(family, &peer));
        let line = format!(
            "{n:4}: {a} {b} {state:02X} 00000000:{unread:08X} 00:00000000 00000000 {uid:5}        0 {inode} 1 \
             0000000000000000 100 0 0 10 0"
        );
        out += &format!("{line:<width$}\n");
    }
    out.into_bytes()
}
const HEAD: &str =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
const HEAD6: &str = "  sl  local_address                         remote_address                        st tx_queue \
                     rx_queue tr tm->when retrnsmt   uid  timeout inode";

fn tcp_rows(family: u16) -> Vec<u8> {
    let rows = tcp::all().filter(|s| s.is_shown()).map(|s| s.row());
    table(if family == AF_INET { HEAD } else { HEAD6 }, family, rows)
}
fn udp_rows(family: u16) -> Vec<u8> {
    let rows = udp::all().filter(|s| s.is_shown()).map(|s| s.row());
    table(if family == AF_INET { HEAD } else { HEAD6 }, family, rows)
}
/// `tcp`.
pub fn tcp4() -> Vec<u8> {
    tcp_rows(AF_INET)
}
/// `tcp6`.
pub fn tcp6() -> Vec<u8> {
    tcp_rows(AF_INET6)
}
/// `udp`.
pub fn udp4() -> Vec<u8> {
    udp_rows(AF_INET)
}
/// `udp6`.
pub fn udp6() -> Vec<u8> {
    udp_rows(AF_INET6)
}
/// `unix`.
pub fn local() -> Vec<u8> {
    let mut out = String::from("Num       RefCount Protocol Flags    Type St Inode Path\n");
    for s in unix::all() {
        let (kind, flags, state, id, name) = s.row();
        out +=
            &format!("0000000000000000: 00000002 00000000 {flags:08X} {kind:04X} {state:02X} {id:5}{name}\n");
    }
    out.into_bytes()
}
/// `dev`.
pub fn devices() -> Vec<u8> {
    let mut out = String::from(
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls \
         carrier compressed\n",
    );
    for i in interfaces::all().iter() {
        let name = String::from_utf8_lossy(&i.name).into_owned();
        out += &format!("{name:>6}: ");
        out += "      0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n";
    }
    out.into_bytes()
}
/// `if_inet6`.
pub fn addresses6() -> Vec<u8> {
    let mut out = String::new();
    for i in interfaces::all().iter() {
        for (ip, prefix) in i.addresses.iter().filter(|(ip, _)| ip.as_v4().is_none()) {
            let digits: String = ip.0.iter().map(|b| format!("{b:02x}")).collect();
            let scope = match () {
                () if ip.is_loopback() => 0x10,
                () if ip.is_link_local6() => 0x20,
                () => 0,
            };
            let name = String::from_utf8_lossy(&i.name).into_owned();
            out += &format!("{digits} {:02x} {prefix:02x} {scope:02x} 80 {name:>8}\n", i.index);
        }
    }
    out.into_bytes()
}
/// `route`.
pub fn routes() -> Vec<u8> {
    let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
    let mut out = format!("{head:<127}\n");
    for i in interfaces::all().iter().filter(|i| !i.is_loopback()) {
        for (a, prefix) in i.addresses.iter().filter_map(|(ip, p)| Some((ip.as_v4()?, *p))) {
            let mask = interfaces::mask4(prefix);
            let net = (u32::from_be_bytes(a) & mask).swap_bytes();
            let name = String::from_utf8_lossy(&i.name).into_owned();
            let line =
                format!("{name}\t{net:08X}\t00000000\t0001\t0\t0\t0\t{:08X}\t0\t0\t0", mask.swap_bytes());
            out += &format!("{line:<127}\n");
        }
    }
    out.into_bytes()
}
