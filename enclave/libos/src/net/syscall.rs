//! Socket system calls: arguments are fetched and checked here, the sockets do the work.
//!
//! Blocking lives here: a socket says `EAGAIN`, and the call waits on the socket's queue as long as O_NONBLOCK,
//! MSG_DONTWAIT and the time-outs let it.
use super::addr::{self, AF_INET, AF_INET6, AF_NETLINK, AF_UNIX};
use super::options::{
    SO_ACCEPTCONN, SO_BINDTODEVICE, SO_DOMAIN, SO_ERROR, SO_PEERCRED, SO_PROTOCOL, SO_TYPE, SOL_SOCKET,
};
use super::packet::Control;
use super::ports::Proto;
use super::tcp::TcpSocket;
use super::udp::UdpSocket;
use super::unix::{Kind, UnixSocket};
use super::{
    MSG_DONTWAIT, MSG_ERRQUEUE, MSG_NOSIGNAL, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, Outgoing, Received,
    SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM, Socket,
};
use crate::fs::file::{File, wait_for};
use crate::fs::prelude::*;
use crate::fs::syscall::fd::install_pair;
use crate::fs::syscall::{Args, after, int, real_file, timespec};
use crate::fs::uio::{Dst, Src, partial, try_vec};
use crate::fs::{OpenFile, env};
use crate::uaccess;

const SOCK_CLOEXEC: u32 = O_CLOEXEC;
const SOCK_NONBLOCK: u32 = O_NONBLOCK;
const MSG_CTRUNC: u32 = 8;
const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;
const MSG_WAITFORONE: u32 = 0x1_0000;
const MSG_DONTROUTE: u32 = 4;
const MSG_CONFIRM: u32 = 0x800;
const MSG_EOR: u32 = 0x80;
/// Means something after SO_ZEROCOPY only, which no socket has.
const MSG_ZEROCOPY: u32 = 0x400_0000;
const MSG_FASTOPEN: u32 = 0x2000_0000;
const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
/// Most descriptors in one message.
const SCM_MAX_FD: usize = 253;
/// Flags that a send and a receive know.
const SEND_FLAGS: u32 = MSG_OOB
    | MSG_DONTROUTE
    | MSG_DONTWAIT
    | MSG_EOR
    | MSG_CONFIRM
    | MSG_NOSIGNAL
    | super::MSG_MORE
    | MSG_ZEROCOPY
    | MSG_FASTOPEN;
const RECEIVE_FLAGS: u32 = MSG_OOB
    | MSG_PEEK
    | MSG_TRUNC
    | MSG_DONTWAIT
    | MSG_WAITALL
    | MSG_ERRQUEUE
    | MSG_NOSIGNAL
    | MSG_WAITFORONE
    | MSG_CMSG_CLOEXEC;

/// An open socket.
struct Open {
    file: Arc<OpenFile>,
}
impl Open {
    fn get(v: u64) -> Result<Self> {
        let file = real_file(v)?;
        match file.special().and_then(|s| s.as_socket()) {
            Some(_) => Ok(Self { file }),
            None => Err(ENOTSOCK),
        }
    }
    fn special(&self) -> Result<&Arc<dyn File>> {
        self.file.special().ok_or(ENOTSOCK)
    }
    fn socket(&self) -> Result<&dyn Socket> {
        self.special()?.as_socket().ok_or(ENOTSOCK)
    }
    /// Runs `op` until it gives something else than EAGAIN, as far as waiting is allowed.
    fn wait<T>(&self, flags: u32, timeout: u64, mut op: impl FnMut() -> Result<T>) -> Result<T> {
        match op() {
            Err(EAGAIN) if flags & MSG_DONTWAIT == 0 && !self.file.nonblocking() => {}
            r => return r,
        }
        let deadline = (timeout > 0).then(|| after(timeout));
        wait_for(self.special()?, deadline, op).map_err(|e| if e == ETIMEDOUT { EAGAIN } else { e })
    }
}

const TCP: u32 = 6;
const UDP: u32 = 17;
const UDP_LITE: u32 = 136;
/// What socket(2) makes: family, type, protocols that stand for it, and how.
type Maker = fn(u16) -> Arc<dyn File>;
const MAKERS: &[(u16, u32, &[u32], Maker)] = &[
    (AF_UNIX, SOCK_STREAM, &[0, 1], |_| UnixSocket::new(Kind::Stream)),
    (AF_UNIX, SOCK_DGRAM, &[0, 1], |_| UnixSocket::new(Kind::Datagram)),
    // As in Linux, a raw local socket is a datagram socket.
    (AF_UNIX, SOCK_RAW, &[0, 1], |_| UnixSocket::new(Kind::Datagram)),
    (AF_UNIX, SOCK_SEQPACKET, &[0, 1], |_| UnixSocket::new(Kind::Packet)),
    (AF_INET, SOCK_STREAM, &[0, TCP], |f| TcpSocket::new(f)),
    (AF_INET6, SOCK_STREAM, &[0, TCP], |f| TcpSocket::new(f)),
    (AF_INET, SOCK_DGRAM, &[0, UDP], |f| UdpSocket::new(f, Proto::Udp)),
    (AF_INET6, SOCK_DGRAM, &[0, UDP], |f| UdpSocket::new(f, Proto::Udp)),
    (AF_INET, SOCK_DGRAM, &[UDP_LITE], |f| UdpSocket::new(f, Proto::UdpLite)),
    (AF_INET6, SOCK_DGRAM, &[UDP_LITE], |f| UdpSocket::new(f, Proto::UdpLite)),
];

/// The socket that these arguments ask for, not yet open.
fn make(family: u64, kind: u64, protocol: u64) -> Result<(Arc<dyn File>, u32)> {
    let flags = int(kind) & (SOCK_CLOEXEC | SOCK_NONBLOCK);
    let (family, kind, protocol) = (int(family), int(kind) & !flags, int(protocol));
    if kind & !0xf != 0 {
        return Err(EINVAL);
    }
    if family == u32::from(AF_NETLINK) {
        return match kind {
            SOCK_RAW | SOCK_DGRAM => Ok((super::netlink::make(kind, protocol)?, flags)),
            _ => Err(ESOCKTNOSUPPORT),
        };
    }
    let of_family = || MAKERS.iter().filter(|m| u32::from(m.0) == family);
    if of_family().next().is_none() {
        return Err(EAFNOSUPPORT);
    }
    if kind > 10 {
        return Err(EINVAL);
    }
    let inet = matches!(family as u16, AF_INET | AF_INET6);
    if inet && protocol >= 256 {
        return Err(EINVAL);
    }
    let mut of_kind = of_family().filter(|m| m.1 == kind).peekable();
    if inet && kind == SOCK_RAW && protocol != 0 {
        return Err(EPERM);
    }
    if inet && kind == SOCK_DGRAM && matches!(protocol, 1 | 58) {
        return Err(EACCES);
    }
    if of_kind.peek().is_none() && family as u16 != AF_UNIX && kind == SOCK_RAW {
        return Err(EPROTONOSUPPORT);
    }
    if of_kind.peek().is_none() {
        return Err(ESOCKTNOSUPPORT);
    }
    let maker = of_kind.find(|m| m.2.contains(&protocol)).ok_or(EPROTONOSUPPORT)?;
    crate::mm::admit(2048).map_err(|_| ENOBUFS)?;
    Ok(((maker.3)(maker.0), flags))
}
fn open(s: Arc<dyn File>, flags: u32) -> Arc<OpenFile> {
    OpenFile::anonymous(S_IFSOCK, "socket", s, O_RDWR | (flags & SOCK_NONBLOCK))
}
fn install(s: Arc<dyn File>, flags: u32) -> Result<usize> {
    Ok(env::files().add(open(s, flags), flags & SOCK_CLOEXEC != 0)? as usize)
}
/// socket(2).
pub fn sys_socket(a: &Args) -> Result<usize> {
    let (socket, flags) = make(a[0], a[1], a[2])?;
    install(socket, flags)
}
/// socketpair(2).
pub fn sys_socketpair(a: &Args) -> Result<usize> {
    let (first, flags) = make(a[0], a[1], a[2])?;
    let Some(unix) = first.as_any().downcast_ref::<UnixSocket>() else { return Err(EOPNOTSUPP) };
    let (x, y) = UnixSocket::pair(unix.kind);
    install_pair(a[3], open(x, flags), open(y, flags), flags & SOCK_CLOEXEC != 0)
}

/// The bytes of an address argument.
fn read_addr(off: u64, len: u64) -> Result<Vec<u8>> {
    let len = int(len) as usize;
    if len > addr::MAX {
        return Err(EINVAL);
    }
    let mut b = vec![0; len];
    uaccess::read_bytes(off, &mut b)?;
    Ok(b)
}
/// Writes an address, cut to the room there is; returns its full length.
fn write_addr_to(off: u64, room: u32, addr: &[u8]) -> Result<u32> {
    uaccess::write_bytes(off, &addr[..addr.len().min(room as usize)])?;
    Ok(addr.len() as u32)
}
fn write_addr(off: u64, len_off: u64, addr: &[u8]) -> Result<usize> {
    let room: i32 = uaccess::read_val(len_off)?;
    let room = u32::try_from(room).map_err(|_| EINVAL)?;
    let full = write_addr_to(off, room, addr)?;
    uaccess::write_val(len_off, full)?;
    Ok(0)
}
/// bind(2).
pub fn sys_bind(a: &Args) -> Result<usize> {
    let s = Open::get(a[0])?;
    s.socket()?.bind(&read_addr(a[1], a[2])?).map(|()| 0)
}
/// listen(2).
pub fn sys_listen(a: &Args) -> Result<usize> {
    Open::get(a[0])?.socket()?.listen(int(a[1]) as usize).map(|()| 0)
}
/// connect(2).
pub fn sys_connect(a: &Args) -> Result<usize> {
    let s = Open::get(a[0])?;
    s.socket()?.connect(&read_addr(a[1], a[2])?, s.file.nonblocking()).map(|()| 0)
}
/// accept4(2).
pub fn sys_accept4(a: &Args) -> Result<usize> {
    let flags = int(a[3]);
    if flags & !(SOCK_CLOEXEC | SOCK_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    let s = Open::get(a[0])?;
    let socket = s.socket()?;
    let (new, from) = s.wait(0, socket.common().receive_timeout(), || socket.accept())?;
    let fd = install(new, flags)?;
    if a[1] != 0
        && let Err(e) = write_addr(a[1], a[2], &from)
    {
        let _ = env::files().close(fd as i32);
        return Err(e);
    }
    Ok(fd)
}
/// accept(2).
pub fn sys_accept(a: &Args) -> Result<usize> {
    sys_accept4(&[a[0], a[1], a[2], 0, 0, 0])
}
/// getsockname(2).
pub fn sys_getsockname(a: &Args) -> Result<usize> {
    write_addr(a[1], a[2], &Open::get(a[0])?.socket()?.name())
}
/// getpeername(2).
pub fn sys_getpeername(a: &Args) -> Result<usize> {
    write_addr(a[1], a[2], &Open::get(a[0])?.socket()?.peer_name()?)
}
/// shutdown(2).
pub fn sys_shutdown(a: &Args) -> Result<usize> {
    let (read, write) = match int(a[1]) {
        0 => (true, false),
        1 => (false, true),
        2 => (true, true),
        _ => return Err(EINVAL),
    };
    Open::get(a[0])?.socket()?.shutdown(read, write).map(|()| 0)
}

/// Flags that nothing here knows are counted, and refused where Linux would do something for them.
fn check_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known != 0 {
        crate::stats::add("unknown-flags", 1);
        return Err(EINVAL);
    }
    Ok(())
}
fn is_tcp(socket: &dyn Socket) -> bool {
    let class = socket.class();
    super::tcp::is_inet(class.family) && class.kind == SOCK_STREAM
}
fn do_send(s: &Open, src: &mut Src, mut out: Outgoing) -> Result<usize> {
    check_flags(out.flags, SEND_FLAGS)?;
    let socket = s.socket()?;
    let is_tcp = is_tcp(socket);
    if out.flags & MSG_OOB != 0 && !is_tcp && socket.class().family != AF_UNIX {
        return Err(EOPNOTSUPP);
    }
    if out.flags & MSG_FASTOPEN != 0 && is_tcp {
        let nonblocking = out.flags & MSG_DONTWAIT != 0 || s.file.nonblocking();
        socket.connect(&out.to.take().ok_or(EINVAL)?, nonblocking)?;
    }
    let (flags, timeout) = (out.flags, socket.common().send_timeout());
    let stream = socket.class().kind == SOCK_STREAM;
    let mut total = 0;
    loop {
        let r = s.wait(flags, timeout, || socket.send(src, &mut out));
        match r {
            Ok(n) => total += n,
            Err(e) => {
                if e == EPIPE && stream && flags & MSG_NOSIGNAL == 0 {
                    env::signal_self(SIGPIPE);
                }
                return partial(total, e);
            }
        }
        if !stream || src.remaining() == 0 || matches!(r, Ok(0)) {
            return Ok(total);
        }
    }
}
fn do_receive(s: &Open, dst: &mut Dst, flags: u32) -> Result<Received> {
    check_flags(flags, RECEIVE_FLAGS)?;
    let socket = s.socket()?;
    if flags & MSG_ERRQUEUE != 0 {
        return socket.receive_error(dst);
    }
    if flags & MSG_OOB != 0
        && let Some(r) = socket.receive_urgent(dst, flags)
    {
        return r;
    }
    let timeout = socket.common().receive_timeout();
    let mut r = s.wait(flags, timeout, || socket.receive(dst, flags))?;
    let stream = socket.class().kind == SOCK_STREAM;
    let again = flags & MSG_WAITALL != 0 && flags & (MSG_PEEK | MSG_TRUNC) == 0 && stream;
    while again && dst.remaining() > 0 && r.len > 0 && !socket.is_at_mark() {
        match s.wait(flags, timeout, || socket.receive(dst, flags)) {
            Ok(more) if more.len > 0 => {
                r.len += more.len;
                r.full = r.len;
                r.files.extend(more.files);
            }
            _ => break,
        }
    }
    Ok(r)
}
/// sendto(2).
pub fn sys_sendto(a: &Args) -> Result<usize> {
    let s = Open::get(a[0])?;
    let to = if a[4] == 0 { None } else { Some(read_addr(a[4], a[5])?) };
    do_send(&s, &mut Src::user(a[1], a[2]), Outgoing { to, flags: int(a[3]), ..Outgoing::default() })
}
/// recvfrom(2).
pub fn sys_recvfrom(a: &Args) -> Result<usize> {
    let s = Open::get(a[0])?;
    let r = do_receive(&s, &mut Dst::user(a[1], a[2]), int(a[3]))?;
    if a[4] != 0 {
        write_addr(a[4], a[5], r.from.as_deref().unwrap_or(&[]))?;
    }
    Ok(if int(a[3]) & MSG_TRUNC != 0 { r.full } else { r.len })
}

/// A `struct msghdr`.
struct Header {
    name: u64,
    name_len: u32,
    iov: Vec<(u64, u64)>,
    control: u64,
    control_len: u64,
}
fn read_header(off: u64) -> Result<Header> {
    let word = |i: u64| uaccess::read_val::<u64>(off + i * 8);
    let count = word(3)?;
    if count > IOV_MAX {
        return Err(EMSGSIZE);
    }
    Ok(Header {
        name: word(0)?,
        name_len: word(1)? as u32,
        iov: uaccess::read_iovecs(word(2)?, count)?,
        control: word(4)?,
        control_len: word(5)?,
    })
}
/// The descriptors of a message's control data, and what is for other levels.
fn read_control(h: &Header) -> Result<(Vec<Arc<OpenFile>>, Vec<Control>)> {
    let (mut files, mut others) = (Vec::new(), Vec::new());
    if h.control == 0 || h.control_len == 0 {
        return Ok((files, others));
    }
    if h.control_len > 64 << 10 {
        return Err(ENOBUFS);
    }
    let mut b = try_vec(h.control_len as usize)?;
    uaccess::read_bytes(h.control, &mut b)?;
    let mut rest = &b[..];
    while rest.len() >= 16 {
        let len = u64::from_le_bytes(core::array::from_fn(|i| rest[i]));
        let level = u32::from_le_bytes(core::array::from_fn(|i| rest[8 + i]));
        let kind = u32::from_le_bytes(core::array::from_fn(|i| rest[12 + i]));
        let len = usize::try_from(len).ok().filter(|n| (16..=rest.len()).contains(n)).ok_or(EINVAL)?;
        match (level, kind) {
            (SOL_SOCKET, SCM_RIGHTS) => {
                for c in rest[16..len].chunks_exact(4) {
                    files.push(env::file(i32::from_le_bytes([c[0], c[1], c[2], c[3]]))?);
                }
            }
            (SOL_SOCKET, SCM_CREDENTIALS) => {}
            (SOL_SOCKET, _) => return Err(EINVAL),
            _ => others.push((level, kind, rest[16..len].to_vec())),
        }
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    if files.len() > SCM_MAX_FD { Err(EINVAL) } else { Ok((files, others)) }
}
fn send_message(s: &Open, msg: u64, flags: u32) -> Result<usize> {
    let h = read_header(msg)?;
    let (files, control) = read_control(&h)?;
    let to =
        if h.name == 0 || h.name_len == 0 { None } else { Some(read_addr(h.name, u64::from(h.name_len))?) };
    do_send(s, &mut Src::iovec(h.iov), Outgoing { files, to, flags, control })
}
/// sendmsg(2).
pub fn sys_sendmsg(a: &Args) -> Result<usize> {
    send_message(&Open::get(a[0])?, a[1], int(a[2]))
}

/// Appends a control message, cut to `room`; returns `MSG_CTRUNC` if it was cut, or had no room at all.
fn put_control(out: &mut Vec<u8>, room: usize, level: u32, kind: u32, data: &[u8]) -> u32 {
    let left = room.saturating_sub(out.len());
    if left < 16 {
        return MSG_CTRUNC;
    }
    let len = (16 + data.len()).min(left);
    out.extend_from_slice(&(len as u64).to_le_bytes());
    out.extend_from_slice(&level.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&data[..len - 16]);
    out.resize(out.len().next_multiple_of(8), 0);
    if len < 16 + data.len() { MSG_CTRUNC } else { 0 }
}
/// Writes credentials and descriptors; returns the length used and `MSG_CTRUNC` if something had no room.
fn write_control(s: &Open, h: &Header, r: Received, flags: u32) -> Result<(u64, u32)> {
    let room = if h.control == 0 { 0 } else { h.control_len as usize };
    let mut out = Vec::new();
    let mut truncated = 0;
    for (level, kind, data) in &r.control {
        truncated |= put_control(&mut out, room, *level, *kind, data);
    }
    if s.file.downcast::<UnixSocket>().is_some_and(UnixSocket::pass_cred) {
        let (pid, uid, gid) = r.cred;
        let data = [pid.to_le_bytes(), uid.to_le_bytes(), gid.to_le_bytes()].concat();
        truncated |= put_control(&mut out, room, SOL_SOCKET, SCM_CREDENTIALS, &data);
    }
    let fits = room.saturating_sub(out.len() + 16) / 4;
    if r.files.len() > fits {
        truncated = MSG_CTRUNC;
    }
    let mut fds = Vec::new();
    for f in r.files.into_iter().take(fits) {
        match env::files().add(f, flags & MSG_CMSG_CLOEXEC != 0) {
            Ok(fd) => fds.extend_from_slice(&fd.to_le_bytes()),
            Err(_) => {
                truncated = MSG_CTRUNC;
                break;
            }
        }
    }
    if !fds.is_empty() {
        truncated |= put_control(&mut out, room, SOL_SOCKET, SCM_RIGHTS, &fds);
    }
    let n = out.len().min(room);
    uaccess::write_bytes(h.control, &out[..n])?;
    Ok((n as u64, truncated))
}
fn receive_message(s: &Open, msg: u64, flags: u32) -> Result<usize> {
    let h = read_header(msg)?;
    let r = do_receive(s, &mut Dst::iovec(h.iov.clone()), flags)?;
    let (len, full) = (r.len, r.full);
    if h.name != 0 {
        let n = match &r.from {
            Some(f) => write_addr_to(h.name, h.name_len, f)?,
            None => 0,
        };
        uaccess::write_val(msg + 8, n)?;
    }
    let told = r.flags;
    let (control, mut out_flags) = write_control(s, &h, r, flags)?;
    out_flags |= told;
    if full > len {
        out_flags |= MSG_TRUNC;
    }
    uaccess::write_val(msg + 40, control)?;
    uaccess::write_val(msg + 48, out_flags)?;
    Ok(if flags & MSG_TRUNC != 0 { full } else { len })
}
/// recvmsg(2).
pub fn sys_recvmsg(a: &Args) -> Result<usize> {
    receive_message(&Open::get(a[0])?, a[1], int(a[2]))
}
/// Bytes of a `struct mmsghdr`; its length field is at 56.
const MMSGHDR: u64 = 64;
fn many(a: &Args, deadline: Option<u64>, one: fn(&Open, u64, u32) -> Result<usize>) -> Result<usize> {
    let s = Open::get(a[0])?;
    let mut done = 0;
    for i in 0..u64::from(int(a[2])).min(IOV_MAX) {
        // As in Linux, the time is looked at only between messages.
        if done > 0 && deadline.is_some_and(|d| d <= crate::time::monotonic_ns()) {
            break;
        }
        let at = a[1].wrapping_add(i * MMSGHDR);
        let waits = done == 0 || int(a[3]) & MSG_WAITFORONE == 0;
        let flags = if waits { int(a[3]) } else { int(a[3]) | MSG_DONTWAIT };
        match one(&s, at, flags).and_then(|n| uaccess::write_val(at + 56, n as u32)) {
            Ok(()) => done += 1,
            Err(e) => return partial(done, e),
        }
    }
    Ok(done)
}
/// sendmmsg(2).
pub fn sys_sendmmsg(a: &Args) -> Result<usize> {
    many(a, None, send_message)
}
/// recvmmsg(2).
pub fn sys_recvmmsg(a: &Args) -> Result<usize> {
    let deadline = if a[4] == 0 { None } else { Some(after(timespec(a[4])?)) };
    many(a, deadline, receive_message)
}

/// setsockopt(2).
pub fn sys_setsockopt(a: &Args) -> Result<usize> {
    /// No option is longer.
    const LONGEST: u32 = 256;
    let s = Open::get(a[0])?;
    let socket = s.socket()?;
    let (level, name) = (int(a[1]), int(a[2]));
    if (int(a[4]) as i32) < 0 {
        return Err(EINVAL);
    }
    let mut value = vec![0; int(a[4]).min(LONGEST) as usize];
    uaccess::read_bytes(a[3], &mut value)?;
    if (level, name) == (SOL_SOCKET, SO_BINDTODEVICE) {
        return bind_to_device(&value);
    }
    if let Some(r) = socket.set_option(level, name, &value) {
        return r.map(|()| 0);
    }
    if let Some(v) = socket.common().set(socket.class(), level, name, &value)? {
        socket.option_changed(level, name, v);
    }
    Ok(0)
}
/// SO_BINDTODEVICE: sockets are bound to none, and no privilege is there to change that.
fn bind_to_device(value: &[u8]) -> Result<usize> {
    let name = value.split(|b| *b == 0).next().unwrap_or(&[]);
    match super::interfaces::all().iter().any(|i| i.name == name) {
        _ if name.is_empty() => Ok(0),
        true => Err(EPERM),
        false => Err(ENODEV),
    }
}
/// getsockopt(2).
pub fn sys_getsockopt(a: &Args) -> Result<usize> {
    let s = Open::get(a[0])?;
    let socket = s.socket()?;
    let (level, name) = (int(a[1]), int(a[2]));
    let room: i32 = uaccess::read_val(a[4])?;
    let room = usize::try_from(room).map_err(|_| EINVAL)?;
    let class = socket.class();
    let number = |v: i32| Ok(v.to_le_bytes().to_vec());
    let value = match (level, name) {
        (SOL_SOCKET, SO_BINDTODEVICE) => Ok(Vec::new()),
        (SOL_SOCKET, SO_TYPE) => number(class.kind as i32),
        (SOL_SOCKET, SO_DOMAIN) => number(i32::from(class.family)),
        (SOL_SOCKET, SO_PROTOCOL) => number(class.protocol as i32),
        (SOL_SOCKET, SO_ERROR) => number(socket.take_error()),
        (SOL_SOCKET, SO_ACCEPTCONN) => number(i32::from(socket.is_listening())),
        _ => match socket.get_option(level, name) {
            Some(r) => r,
            // Nobody is known at the other end.
            None if (level, name) == (SOL_SOCKET, SO_PEERCRED) => {
                Ok([0, u32::MAX, u32::MAX].map(u32::to_le_bytes).concat())
            }
            None => socket.common().get(class, level, name),
        },
    }?;
    let n = value.len().min(room);
    uaccess::write_bytes(a[3], &value[..n])?;
    uaccess::write_val(a[4], n as u32)?;
    Ok(0)
}
