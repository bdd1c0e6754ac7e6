//! Sockets of the host: connections that leave the enclave, and published ports.
//!
//! Neighbours: `wait` (readiness: every socket is registered once, edge-triggered), `enclave-abi` (wire forms). The rules
//! of what may be reached are applied here a second time: the host protects itself with them, whatever the enclave asks.
use super::wait::Waiter;
use super::{check, errno};
use occlum_enclave_abi::{
    NET_ADDR, NET_AT_MARK, NET_FROM, NET_INTERFACE, NET_MORE, NET_OPTION, NET_PEEK, NET_SEND_URGENT, NET_TO,
    NET_URGENT,
};
use std::collections::BTreeSet;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Mutex;

/// What the enclave may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Nothing.
    Nothing,
    /// Other machines.
    #[default]
    Outside,
    /// This machine's own addresses, too.
    Host,
}

/// A port of this machine that leads to one inside.
#[derive(Debug)]
pub struct Published {
    /// The host's socket, bound but not listening.
    pub socket: OwnedFd,
    /// UDP rather than TCP.
    pub datagram: bool,
    /// Port inside.
    pub inside: u16,
}

/// Sockets of one enclave.
pub struct Net {
    reach: Reach,
    published: Vec<Published>,
    open: Mutex<BTreeSet<i32>>,
}

const STREAM: u64 = 1;
/// Options that pass: level and name.
const OPTIONS: &[(i32, i32)] = &[
    (libc::SOL_SOCKET, libc::SO_DONTROUTE),
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_CORK),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2),
    (libc::IPPROTO_TCP, libc::TCP_QUICKACK),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, 25), // TCP_NOTSENT_LOWAT
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TTL),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP),
    (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP),
    (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
];
/// Options that can be read besides.
const READABLE: &[(i32, i32)] = &[(libc::SOL_SOCKET, libc::SO_ERROR), (libc::IPPROTO_TCP, libc::TCP_INFO)];

const EBADF: i64 = -(libc::EBADF as i64);
const EINVAL: i64 = -(libc::EINVAL as i64);
const ENETUNREACH: i64 = -(libc::ENETUNREACH as i64);

impl Drop for Net {
    fn drop(&mut self) {
        if let Ok(open) = self.open.get_mut() {
            for fd in open.iter() {
                if !self.published.iter().any(|p| p.socket.as_raw_fd() == *fd) {
                    // SAFETY: 1. the descriptor was opened for the enclave, which has ended.
                    unsafe { libc::close(*fd) };
                }
            }
        }
    }
}

impl Net {
    pub(super) fn new(reach: Reach, published: Vec<Published>) -> Self {
        Self { reach, published, open: Mutex::default() }
    }
    fn has(&self, fd: i32) -> bool {
        self.open.lock().is_ok_and(|o| o.contains(&fd))
    }
    /// Registers a descriptor's readiness under the enclave's token.
    fn adopt(&self, wait: &Waiter, fd: i32, token: u64) -> i64 {
        let r = wait.register(fd, token);
        if r < 0 {
            return r;
        }
        if let Ok(mut open) = self.open.lock() {
            open.insert(fd);
        }
        i64::from(fd)
    }
    /// Closes a socket; `None` if it is not one of ours. A published port is bound on, so that it stays ours.
    pub(super) fn close(&self, wait: &Waiter, fd: i32) -> Option<i64> {
        if !self.open.lock().ok()?.remove(&fd) {
            return None;
        }
        if self.published.iter().any(|p| p.socket.as_raw_fd() == fd) {
            wait.forget(fd);
            // SAFETY: 1. shutdown has no memory arguments; it ends listening.
            unsafe { libc::shutdown(fd, libc::SHUT_RD) };
            return Some(0);
        }
        // SAFETY: 1. the descriptor is the enclave's.
        unsafe { libc::close(fd) };
        Some(0)
    }

    fn may_reach(&self, to: &SocketAddr) -> Result<(), i64> {
        match self.reach {
            Reach::Nothing => Err(ENETUNREACH),
            Reach::Host => Ok(()),
            Reach::Outside if is_own(to) => Err(-i64::from(libc::ECONNREFUSED)),
            Reach::Outside => Ok(()),
        }
    }
    /// Only a socket that may reach this machine sends to all of a network: this machine is one of them.
    fn set_options(&self, fd: i32, options: &[u8]) {
        set_options(fd, options, self.reach == Reach::Host);
    }
    pub(super) fn connect(&self, wait: &Waiter, a: &[u64; 6], input: &[u8]) -> i64 {
        let Some((to, options)) = address(input) else { return EINVAL };
        let refused = if a[0] == STREAM || to.port() != 0 { self.may_reach(&to).err() } else { None };
        if let Some(e) = refused.or((self.reach == Reach::Nothing).then_some(ENETUNREACH)) {
            return e;
        }
        let v4 = a[1] == 4;
        let family = if v4 { libc::AF_INET } else { libc::AF_INET6 };
        let kind = if a[0] == STREAM { libc::SOCK_STREAM } else { libc::SOCK_DGRAM };
        // SAFETY: 1. socket has no memory arguments.
        let fd = unsafe { libc::socket(family, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return errno();
        }
        self.set_options(fd, options);
        let r = if to.port() == 0 && a[0] != STREAM { 0 } else { connect(fd, &to, v4) };
        let r = if r == 0 || r == -i64::from(libc::EINPROGRESS) { self.adopt(wait, fd, a[2]) } else { r };
        if r < 0 {
            // SAFETY: 1. the descriptor is ours and is not used after this.
            unsafe { libc::close(fd) };
        }
        r
    }
    pub(super) fn listen(&self, wait: &Waiter, a: &[u64; 6]) -> i64 {
        let datagram = a[0] != STREAM;
        let found = self.published.iter().find(|p| p.datagram == datagram && u64::from(p.inside) == a[1]);
        let Some(fd) = found.map(|p| p.socket.as_raw_fd()).filter(|fd| !self.has(*fd)) else {
            return -i64::from(libc::ENOENT);
        };
        self.set_options(fd, &[]);
        if datagram {
            discard(fd);
        } else {
            // SAFETY: 1. listen has no memory arguments.
            let r = check(i64::from(unsafe { libc::listen(fd, a[3].clamp(1, 4096) as i32) }));
            if r < 0 {
                return r;
            }
        }
        self.adopt(wait, fd, a[2])
    }
    pub(super) fn accept(&self, wait: &Waiter, a: &[u64; 6], out: &mut [u8]) -> i64 {
        let fd = a[0] as i32;
        if !self.has(fd) {
            return EBADF;
        }
        // SAFETY: 1. null address and length are allowed.
        let new = unsafe {
            libc::accept4(
                fd,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            )
        };
        if new < 0 {
            return errno();
        }
        for (at, own) in [(0, false), (NET_ADDR, true)] {
            if let (Some(out), Ok(b)) = (out.get_mut(at..at + NET_ADDR), name_of(new, own)) {
                out.copy_from_slice(&b);
            }
        }
        self.adopt(wait, new, a[1])
    }
    pub(super) fn send(&self, a: &[u64; 6], input: &[u8]) -> i64 {
        let fd = a[0] as i32;
        if !self.has(fd) {
            return EBADF;
        }
        let more = if a[1] & NET_MORE != 0 { libc::MSG_MORE } else { 0 };
        let urgent = if a[1] & NET_SEND_URGENT != 0 { libc::MSG_OOB } else { 0 };
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | more | urgent;
        if a[1] & NET_TO == 0 {
            // Not by the C library's function, which a thread could be cancelled in: that costs, and none is.
            // SAFETY: 1. `input` is readable for its length; 2. there is no address.
            return check(unsafe {
                libc::syscall(libc::SYS_sendto, fd, input.as_ptr(), input.len(), flags, 0usize, 0usize)
            });
        }
        let Some((to, data)) = address(input) else { return EINVAL };
        // An answer to who came by a published port from this machine may go back there.
        let published = self.published.iter().any(|p| p.socket.as_raw_fd() == fd);
        let answers = published && !plain(to.ip()).is_multicast();
        if let (false, Err(e)) = (answers, self.may_reach(&to)) {
            return e;
        }
        let (raw, len) = raw_address(&to, family_of(fd) == libc::AF_INET);
        // SAFETY: 1. `data` is readable for its length; 2. `raw` is an address of `len` bytes.
        check(unsafe {
            let raw = (&raw const raw).cast();
            libc::sendto(fd, data.as_ptr().cast(), data.len(), flags, raw, len)
        } as i64)
    }
    pub(super) fn receive(&self, a: &[u64; 6], out: &mut [u8]) -> i64 {
        const HEAD: usize = NET_ADDR + 4;
        let fd = a[0] as i32;
        if !self.has(fd) {
            return EBADF;
        }
        let peek = if a[1] & NET_PEEK != 0 { libc::MSG_PEEK } else { 0 };
        let urgent = if a[1] & NET_URGENT != 0 { libc::MSG_OOB } else { 0 };
        let flags = libc::MSG_DONTWAIT | peek | urgent;
        if a[1] & NET_FROM == 0 {
            // SAFETY: 1. `out` is writable for its length; 2. no address is asked for.
            return check(unsafe {
                libc::syscall(libc::SYS_recvfrom, fd, out.as_mut_ptr(), out.len(), flags, 0usize, 0usize)
            });
        }
        let Some((head, body)) = out.split_at_mut_checked(HEAD) else { return EINVAL };
        // SAFETY: 1. an all-zero address is valid; 2. `body` is writable for its length; 3. `from` has `len` bytes.
        let (n, from) = unsafe {
            let mut from: libc::sockaddr_storage = zeroed();
            let mut len = size_of::<libc::sockaddr_storage>() as u32;
            let to = (&raw mut from).cast();
            let n = libc::recvfrom(
                fd,
                body.as_mut_ptr().cast(),
                body.len(),
                flags | libc::MSG_TRUNC,
                to,
                &mut len,
            );
            (n, from)
        };
        if n < 0 {
            return errno();
        }
        head[..NET_ADDR].copy_from_slice(&wire(&from));
        head[NET_ADDR..].copy_from_slice(&(n as u32).to_le_bytes());
        (HEAD + (n as usize).min(body.len())) as i64
    }
    pub(super) fn shutdown(&self, a: &[u64; 6]) -> i64 {
        if !self.has(a[0] as i32) {
            return EBADF;
        }
        // SAFETY: 1. shutdown has no memory arguments.
        check(i64::from(unsafe { libc::shutdown(a[0] as i32, a[1] as i32) }))
    }
    pub(super) fn name(&self, a: &[u64; 6], out: &mut [u8]) -> i64 {
        match (self.has(a[0] as i32), out.first_chunk_mut::<NET_ADDR>()) {
            (true, Some(out)) => match name_of(a[0] as i32, a[1] == 0) {
                Ok(b) => {
                    out.copy_from_slice(&b);
                    0
                }
                Err(e) => e,
            },
            (false, _) => EBADF,
            _ => EINVAL,
        }
    }
    pub(super) fn get_option(&self, a: &[u64; 6], out: &mut [u8]) -> i64 {
        let (fd, level, name) = (a[0] as i32, a[1] as i32, a[2] as i32);
        if !self.has(fd) {
            return EBADF;
        }
        if !OPTIONS.iter().chain(READABLE).any(|o| *o == (level, name)) {
            return -i64::from(libc::ENOPROTOOPT);
        }
        let mut len = out.len() as u32;
        // SAFETY: 1. `out` is writable for `len` bytes.
        let r = unsafe { libc::getsockopt(fd, level, name, out.as_mut_ptr().cast(), &mut len) };
        if r < 0 { errno() } else { i64::from(len) }
    }
    pub(super) fn set_option(&self, a: &[u64; 6], input: &[u8]) -> i64 {
        if !self.has(a[0] as i32) {
            return EBADF;
        }
        self.set_options(a[0] as i32, input);
        0
    }
    pub(super) fn ready(&self, a: &[u64; 6]) -> i64 {
        if !self.has(a[0] as i32) {
            return EBADF;
        }
        let events = libc::POLLIN | libc::POLLPRI | libc::POLLOUT | libc::POLLRDHUP;
        let mut p = libc::pollfd { fd: a[0] as i32, events, revents: 0 };
        // SAFETY: 1. `p` is one pollfd.
        match unsafe { libc::poll(&mut p, 1, 0) } {
            n if n < 0 => errno(),
            _ => i64::from(u32::from(p.revents as u16) | at_mark(a[0] as i32)),
        }
    }
}

/// `NET_AT_MARK`, or 0 (also of sockets that know no urgent data).
fn at_mark(fd: i32) -> u32 {
    const SIOCATMARK: libc::c_ulong = 0x8905;
    let mut is_at_mark: libc::c_int = 0;
    // SAFETY: 1. SIOCATMARK writes one int.
    let r = unsafe { libc::ioctl(fd, SIOCATMARK, &raw mut is_at_mark) };
    if r == 0 && is_at_mark != 0 { NET_AT_MARK } else { 0 }
}

/// What waits in a datagram socket came before anyone inside was there.
fn discard(fd: i32) {
    let mut b = [0u8; 1];
    // SAFETY: 1. `b` is writable for its length; no call waits.
    while unsafe { libc::recv(fd, b.as_mut_ptr().cast(), 1, libc::MSG_DONTWAIT | libc::MSG_TRUNC) } >= 0 {}
}

/// Options that let this machine hear what is sent to all of a network or a group.
const TO_ALL: [(i32, i32); 3] = [
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP),
];

fn set_options(fd: i32, options: &[u8], to_all: bool) {
    let set = |(level, name): (i32, i32), value: i32| {
        // SAFETY: 1. `value` is one int. What the host refuses stays as it was.
        unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), 4) };
    };
    if !to_all {
        TO_ALL.iter().for_each(|o| set(*o, 0));
    }
    for o in options.chunks_exact(NET_OPTION) {
        let word = |i: usize| i32::from_le_bytes(std::array::from_fn(|k| o[i * 4 + k]));
        let (level, name, value) = (word(0), word(1), word(2));
        if (level, name) == (libc::SOL_SOCKET, libc::SO_LINGER) {
            let l = libc::linger { l_onoff: 1, l_linger: value };
            // SAFETY: 1. `l` is one linger.
            unsafe {
                libc::setsockopt(fd, level, name, (&raw const l).cast(), size_of::<libc::linger>() as u32)
            };
        } else if OPTIONS.contains(&(level, name)) && (to_all || !TO_ALL.contains(&(level, name))) {
            set((level, name), value);
        }
    }
}

/// The address at the start of the input, and what follows.
fn address(input: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (b, rest) = input.split_first_chunk::<NET_ADDR>()?;
    let ip = Ipv6Addr::from(<[u8; 16]>::try_from(&b[..16]).ok()?);
    let port = u16::from_le_bytes([b[16], b[17]]);
    let scope = u32::from_le_bytes([b[20], b[21], b[22], b[23]]);
    Some((SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)), rest))
}
/// As the system takes it; IPv4 as such for sockets that have no other.
fn raw_address(to: &SocketAddr, v4: bool) -> (libc::sockaddr_storage, u32) {
    // SAFETY: 1. an all-zero address is valid; 2. both kinds fit into it and are plain data.
    unsafe {
        let mut out: libc::sockaddr_storage = zeroed();
        let SocketAddr::V6(a) = to else { return (out, 0) };
        let mapped = a.ip().to_ipv4_mapped();
        if let (true, Some(ip)) = (v4, mapped) {
            let s = &mut *(&raw mut out).cast::<libc::sockaddr_in>();
            s.sin_family = libc::AF_INET as u16;
            s.sin_port = a.port().to_be();
            s.sin_addr.s_addr = u32::from(ip).to_be();
            return (out, size_of::<libc::sockaddr_in>() as u32);
        }
        let s = &mut *(&raw mut out).cast::<libc::sockaddr_in6>();
        s.sin6_family = libc::AF_INET6 as u16;
        s.sin6_port = a.port().to_be();
        s.sin6_addr.s6_addr = a.ip().octets();
        s.sin6_scope_id = a.scope_id();
        (out, size_of::<libc::sockaddr_in6>() as u32)
    }
}
fn connect(fd: i32, to: &SocketAddr, v4: bool) -> i64 {
    let (raw, len) = raw_address(to, v4);
    // SAFETY: 1. `raw` is an address of `len` bytes.
    check(i64::from(unsafe { libc::connect(fd, (&raw const raw).cast(), len) }))
}
fn wire(from: &libc::sockaddr_storage) -> [u8; NET_ADDR] {
    let mut out = [0; NET_ADDR];
    let (ip, port, scope) = match i32::from(from.ss_family) {
        libc::AF_INET => {
            // SAFETY: 1. the family says that it is a sockaddr_in, which fits.
            let s = unsafe { &*std::ptr::from_ref(from).cast::<libc::sockaddr_in>() };
            let v4 = std::net::Ipv4Addr::from(u32::from_be(s.sin_addr.s_addr));
            (v4.to_ipv6_mapped().octets(), u16::from_be(s.sin_port), 0)
        }
        libc::AF_INET6 => {
            // SAFETY: 1. the family says that it is a sockaddr_in6, which fits.
            let s = unsafe { &*std::ptr::from_ref(from).cast::<libc::sockaddr_in6>() };
            (s.sin6_addr.s6_addr, u16::from_be(s.sin6_port), s.sin6_scope_id)
        }
        _ => return out,
    };
    out[..16].copy_from_slice(&ip);
    out[16..18].copy_from_slice(&port.to_le_bytes());
    out[20..].copy_from_slice(&scope.to_le_bytes());
    out
}
fn name_of(fd: i32, own: bool) -> Result<[u8; NET_ADDR], i64> {
    // SAFETY: 1. an all-zero address is valid; 2. `a` has `len` bytes.
    unsafe {
        let mut a: libc::sockaddr_storage = zeroed();
        let mut len = size_of::<libc::sockaddr_storage>() as u32;
        let p = (&raw mut a).cast();
        let r = if own { libc::getsockname(fd, p, &mut len) } else { libc::getpeername(fd, p, &mut len) };
        if r < 0 { Err(errno()) } else { Ok(wire(&a)) }
    }
}
fn family_of(fd: i32) -> i32 {
    let (mut v, mut len) = (0i32, 4u32);
    // SAFETY: 1. `v` is one int.
    unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, (&raw mut v).cast(), &mut len) };
    v
}

fn plain(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        v4 => v4,
    }
}
/// Does it lead to this machine? Connecting a datagram socket sends nothing and says where from it would be sent: from the
/// address itself, if it is ours, or by the loopback; and it is refused for the broadcast address of a network.
fn is_own(to: &SocketAddr) -> bool {
    let ip = plain(to.ip());
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    let any: IpAddr = if ip.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let mut there = *to;
    there.set_ip(ip);
    there.set_port(9);
    let probe = match UdpSocket::bind((any, 0)) {
        Ok(probe) => probe,
        // Where there is no such family it leads nowhere; else it is not known.
        Err(e) => return !matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)),
    };
    match probe.connect(there).and_then(|()| probe.local_addr()) {
        Ok(from) => from.ip() == ip || from.ip().is_loopback(),
        Err(e) => e.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

/// Binds a port of this machine. `host` is the address to bind, all of them if it is empty.
pub fn publish(host: &str, port: u16, inside: u16, datagram: bool) -> std::io::Result<Published> {
    let both = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), [0, 0, 0, 0].into()];
    let addresses: Vec<IpAddr> = if host.is_empty() {
        both.to_vec()
    } else {
        vec![host.trim_matches(['[', ']']).parse().map_err(std::io::Error::other)?]
    };
    let mut failed = None;
    for ip in addresses {
        match bind(ip, port, datagram) {
            Ok(socket) => return Ok(Published { socket, datagram, inside }),
            // A machine without IPv6 has IPv4.
            Err(e) if host.is_empty() && e.raw_os_error() != Some(libc::EADDRINUSE) => failed = Some(e),
            Err(e) => return Err(e),
        }
    }
    Err(failed.unwrap_or_else(|| std::io::Error::other("no address")))
}
fn bind(ip: IpAddr, port: u16, datagram: bool) -> std::io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = if datagram { libc::SOCK_DGRAM } else { libc::SOCK_STREAM };
    // SAFETY: 1. socket has no memory arguments; 2. the new descriptor is owned by nobody else.
    let fd = unsafe {
        let fd = libc::socket(family, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let to = SocketAddr::new(ip, port);
    let v6 = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let (raw, len) = raw_address(&SocketAddr::V6(SocketAddrV6::new(v6, to.port(), 0, 0)), ip.is_ipv4());
    let (on, off) = (1i32, 0i32);
    // SAFETY: 1. `on` and `off` are ints; 2. `raw` is an address of `len` bytes.
    let r = unsafe {
        let raw_fd = fd.as_raw_fd();
        if !datagram {
            libc::setsockopt(raw_fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, (&raw const on).cast(), 4);
        }
        libc::setsockopt(raw_fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, (&raw const off).cast(), 4);
        match libc::bind(raw_fd, (&raw const raw).cast(), len) {
            // Listening for a moment tells whether anybody else does; then the port refuses until a program inside wants it.
            0 if !datagram => libc::listen(raw_fd, 1).min(libc::shutdown(raw_fd, libc::SHUT_RD)),
            r => r,
        }
    };
    if r < 0 { Err(std::io::Error::last_os_error()) } else { Ok(fd) }
}

/// The interfaces but the loopback, with their addresses, in the wire form.
pub(super) fn interfaces(out: &mut [u8]) -> i64 {
    let mut all = Vec::new();
    for (name, list) in by_name() {
        let Some(head) = head(&name, list.len()) else { continue };
        all.extend_from_slice(&head);
        list.iter().for_each(|a| all.extend_from_slice(a));
    }
    let n = all.len().min(out.len());
    out[..n].copy_from_slice(&all[..n]);
    n as i64
}
/// Addresses (scope: prefix length) of each interface.
fn by_name() -> std::collections::BTreeMap<String, Vec<[u8; NET_ADDR]>> {
    let mut found = std::collections::BTreeMap::<String, Vec<[u8; NET_ADDR]>>::new();
    let mut first = std::ptr::null_mut();
    // SAFETY: 1. `first` takes a list, which is freed at the end; 2. its pointers are null or valid until then.
    unsafe {
        if libc::getifaddrs(&mut first) < 0 {
            return found;
        }
        let mut at = first;
        while let Some(i) = at.as_ref() {
            at = i.ifa_next;
            if i.ifa_flags & libc::IFF_LOOPBACK as u32 != 0 {
                continue;
            }
            let name = std::ffi::CStr::from_ptr(i.ifa_name).to_string_lossy().into_owned();
            let list = found.entry(name).or_default();
            if let (Some(a), Some(m)) = (i.ifa_addr.as_ref(), i.ifa_netmask.as_ref())
                && matches!(i32::from(a.sa_family), libc::AF_INET | libc::AF_INET6)
            {
                let v4 = i32::from(a.sa_family) == libc::AF_INET;
                let size = if v4 { size_of::<libc::sockaddr_in>() } else { size_of::<libc::sockaddr_in6>() };
                let copy = |p: *const libc::sockaddr| {
                    let mut s: libc::sockaddr_storage = zeroed();
                    std::ptr::copy_nonoverlapping(p.cast::<u8>(), (&raw mut s).cast(), size);
                    s
                };
                let (mut address, mask) = (wire(&copy(a)), wire(&copy(m)));
                let bits: u32 = mask[if v4 { 12 } else { 0 }..16].iter().map(|b| b.count_ones()).sum();
                address[20..].copy_from_slice(&bits.to_le_bytes());
                list.push(address);
            }
        }
        libc::freeifaddrs(first);
    }
    found
}
fn head(name: &str, addresses: usize) -> Option<[u8; NET_INTERFACE]> {
    let read = |what: &str| std::fs::read_to_string(format!("/sys/class/net/{name}/{what}")).ok();
    let number = |what: &str| {
        let text = read(what)?;
        let text = text.trim();
        match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    };
    let c = std::ffi::CString::new(name).ok()?;
    // SAFETY: 1. `c` is a C string.
    let index = unsafe { libc::if_nametoindex(c.as_ptr()) };
    let up = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
    let mut b = [0; NET_INTERFACE];
    b[..4].copy_from_slice(&index.to_le_bytes());
    b[4..8].copy_from_slice(&(number("flags").unwrap_or(up) | libc::IFF_RUNNING as u32).to_le_bytes());
    b[8..12].copy_from_slice(&number("mtu").unwrap_or(1500).to_le_bytes());
    let bytes = &name.as_bytes()[..name.len().min(15)];
    b[12..14].copy_from_slice(&(bytes.len() as u16).to_le_bytes());
    b[14..16].copy_from_slice(&(addresses as u16).to_le_bytes());
    let hardware = read("address").unwrap_or_default();
    for (out, part) in b[16..22].iter_mut().zip(hardware.trim().split(':')) {
        *out = u8::from_str_radix(part, 16).unwrap_or(0);
    }
    b[24..24 + bytes.len()].copy_from_slice(bytes);
    Some(b)
}
