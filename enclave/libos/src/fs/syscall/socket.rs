//! Sockets: AF_UNIX only; other families are refused with `EAFNOSUPPORT`.
use super::super::file::wait_for;
use super::super::prelude::*;
use super::super::uio::{Dst, Src, try_vec};
use super::super::unix::{Kind, Received, UnixSocket};
use super::super::{OpenFile, env};
use super::{Args, after, int, real_file};
use crate::uaccess;

const AF_UNIX: u16 = 1;
const SOCK_CLOEXEC: u32 = O_CLOEXEC;
const SOCK_NONBLOCK: u32 = O_NONBLOCK;
const MSG_PEEK: u32 = 2;
const MSG_CTRUNC: u32 = 8;
const MSG_TRUNC: u32 = 0x20;
const MSG_DONTWAIT: u32 = 0x40;
const MSG_WAITALL: u32 = 0x100;
const MSG_NOSIGNAL: u32 = 0x4000;
const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;
const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
/// Most descriptors in one message.
const SCM_MAX_FD: usize = 253;

/// An open socket.
struct Socket {
    file: Arc<OpenFile>,
}
impl Socket {
    fn get(v: u64) -> Result<Self> {
        let file = real_file(v)?;
        if file.downcast::<UnixSocket>().is_none() {
            return Err(ENOTSOCK);
        }
        Ok(Self { file })
    }
    fn unix(&self) -> Result<&UnixSocket> {
        self.file.downcast().ok_or(ENOTSOCK)
    }
    /// Runs `op` until it gives something else than EAGAIN, as far as waiting is allowed.
    fn wait<T>(&self, flags: u32, timeout: u64, mut op: impl FnMut() -> Result<T>) -> Result<T> {
        match op() {
            Err(EAGAIN) if flags & MSG_DONTWAIT == 0 && !self.file.nonblocking() => {}
            r => return r,
        }
        let special = self.file.special().ok_or(ENOTSOCK)?;
        let deadline = (timeout > 0).then(|| after(timeout));
        wait_for(special, deadline, op).map_err(|e| if e == ETIMEDOUT { EAGAIN } else { e })
    }
}

fn kind_of(family: u64, kind: u64) -> Result<(Kind, u32)> {
    if int(family) != u32::from(AF_UNIX) {
        return Err(EAFNOSUPPORT);
    }
    let flags = int(kind) & (SOCK_CLOEXEC | SOCK_NONBLOCK);
    match int(kind) & !flags {
        1 => Ok((Kind::Stream, flags)),
        2 | 3 => Ok((Kind::Datagram, flags)),
        5 => Ok((Kind::Packet, flags)),
        _ => Err(ESOCKTNOSUPPORT),
    }
}
fn open(s: Arc<UnixSocket>, flags: u32) -> Arc<OpenFile> {
    OpenFile::anonymous(S_IFSOCK, "socket", s, O_RDWR | (flags & SOCK_NONBLOCK))
}
fn install(s: Arc<UnixSocket>, flags: u32) -> Result<usize> {
    Ok(env::files().add(open(s, flags), flags & SOCK_CLOEXEC != 0)? as usize)
}
/// socket(2).
pub fn sys_socket(a: &Args) -> Result<usize> {
    let (kind, flags) = kind_of(a[0], a[1])?;
    if int(a[2]) > 1 {
        return Err(EPROTONOSUPPORT);
    }
    install(UnixSocket::new(kind), flags)
}
/// socketpair(2).
pub fn sys_socketpair(a: &Args) -> Result<usize> {
    let (kind, flags) = kind_of(a[0], a[1])?;
    if int(a[2]) > 1 {
        return Err(EPROTONOSUPPORT);
    }
    let (x, y) = UnixSocket::pair(kind);
    super::fd::install_pair(a[3], open(x, flags), open(y, flags), flags & SOCK_CLOEXEC != 0)
}

/// Reads a `sockaddr_un`: the name (empty if unnamed), or `None` for AF_UNSPEC.
fn read_addr(off: u64, len: u64) -> Result<Option<Vec<u8>>> {
    let len = int(len) as usize;
    if !(2..=110).contains(&len) {
        return Err(EINVAL);
    }
    let mut b = [0u8; 110];
    uaccess::read_bytes(off, &mut b[..len])?;
    match u16::from_le_bytes([b[0], b[1]]) {
        AF_UNIX => {}
        0 => return Ok(None),
        _ => return Err(EINVAL),
    }
    let name = &b[2..len];
    if name.first().is_some_and(|c| *c != 0) {
        let end = name.iter().position(|c| *c == 0).unwrap_or(name.len());
        return Ok(Some(name[..end].to_vec()));
    }
    Ok(Some(name.to_vec()))
}
/// Writes a `sockaddr_un`, cut to the room there is; returns its full length.
fn write_addr_to(off: u64, room: u32, name: Option<&[u8]>) -> Result<u32> {
    let mut b = AF_UNIX.to_le_bytes().to_vec();
    if let Some(n) = name {
        b.extend_from_slice(n);
        if n.first() != Some(&0) {
            b.push(0);
        }
    }
    let n = b.len().min(room as usize);
    uaccess::write_bytes(off, &b[..n])?;
    Ok(b.len() as u32)
}
fn write_addr(off: u64, len_off: u64, name: Option<&[u8]>) -> Result<usize> {
    if off == 0 {
        return Ok(0);
    }
    let room: i32 = uaccess::read_val(len_off)?;
    let room = u32::try_from(room).map_err(|_| EINVAL)?;
    let full = write_addr_to(off, room, name)?;
    uaccess::write_val(len_off, full)?;
    Ok(0)
}
/// bind(2).
pub fn sys_bind(a: &Args) -> Result<usize> {
    let s = Socket::get(a[0])?;
    let name = read_addr(a[1], a[2])?.ok_or(EINVAL)?;
    s.unix()?.bind(&name).map(|()| 0)
}
/// listen(2).
pub fn sys_listen(a: &Args) -> Result<usize> {
    Socket::get(a[0])?.unix()?.listen(int(a[1]) as usize).map(|()| 0)
}
/// connect(2).
pub fn sys_connect(a: &Args) -> Result<usize> {
    let s = Socket::get(a[0])?;
    let Some(name) = read_addr(a[1], a[2])? else {
        s.unix()?.disconnect();
        return Ok(0);
    };
    let target = UnixSocket::find(&name)?;
    match s.unix()?.connect(&target) {
        Err(EAGAIN) if !s.file.nonblocking() => {}
        r => return r.map(|()| 0),
    }
    // The backlog is full: wait for the listener.
    let listener: Arc<dyn super::super::file::File> = target.clone();
    wait_for(&listener, None, || s.unix()?.connect(&target)).map(|()| 0)
}
/// accept4(2).
pub fn sys_accept4(a: &Args) -> Result<usize> {
    let flags = int(a[3]);
    if flags & !(SOCK_CLOEXEC | SOCK_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    let s = Socket::get(a[0])?;
    let new = s.wait(0, s.unix()?.timeouts().0, || s.unix()?.accept())?;
    let from = new.peer_name().unwrap_or(None);
    let fd = install(new, flags)?;
    if let Err(e) = write_addr(a[1], a[2], from.as_deref()) {
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
    write_addr(a[1], a[2], Socket::get(a[0])?.unix()?.name().as_deref())
}
/// getpeername(2).
pub fn sys_getpeername(a: &Args) -> Result<usize> {
    write_addr(a[1], a[2], Socket::get(a[0])?.unix()?.peer_name()?.as_deref())
}
/// shutdown(2).
pub fn sys_shutdown(a: &Args) -> Result<usize> {
    Socket::get(a[0])?.unix()?.shutdown(int(a[1])).map(|()| 0)
}

fn do_send(
    s: &Socket,
    src: &mut Src,
    mut files: Vec<Arc<OpenFile>>,
    to: Option<Vec<u8>>,
    flags: u32,
) -> Result<usize> {
    let u = s.unix()?;
    let to = match to {
        Some(name) => Some(UnixSocket::find(&name)?),
        None => None,
    };
    let timeout = u.timeouts().1;
    let mut total = 0;
    loop {
        let r = s.wait(flags, timeout, || u.send(src, &mut files, to.as_ref()));
        match r {
            Ok(n) => total += n,
            Err(e) => {
                if e == EPIPE && flags & MSG_NOSIGNAL == 0 {
                    env::signal_self(SIGPIPE);
                }
                return super::super::uio::partial(total, e);
            }
        }
        if u.kind != Kind::Stream || src.remaining() == 0 || matches!(r, Ok(0)) {
            return Ok(total);
        }
    }
}
fn do_receive(s: &Socket, dst: &mut Dst, flags: u32) -> Result<Received> {
    let u = s.unix()?;
    let timeout = u.timeouts().0;
    let peek = flags & MSG_PEEK != 0;
    let mut r = s.wait(flags, timeout, || u.receive(dst, peek))?;
    while flags & MSG_WAITALL != 0 && !peek && u.kind == Kind::Stream && dst.remaining() > 0 && r.len > 0 {
        match s.wait(flags, timeout, || u.receive(dst, false)) {
            Ok(more) if more.len > 0 => {
                r.len += more.len;
                r.files.extend(more.files);
            }
            _ => break,
        }
    }
    Ok(r)
}
/// sendto(2).
pub fn sys_sendto(a: &Args) -> Result<usize> {
    let s = Socket::get(a[0])?;
    let to = if a[4] == 0 { None } else { read_addr(a[4], a[5])? };
    do_send(&s, &mut Src::user(a[1], a[2]), Vec::new(), to, int(a[3]))
}
/// recvfrom(2).
pub fn sys_recvfrom(a: &Args) -> Result<usize> {
    let s = Socket::get(a[0])?;
    let r = do_receive(&s, &mut Dst::user(a[1], a[2]), int(a[3]))?;
    if a[4] != 0 {
        write_addr(a[4], a[5], r.from.as_deref())?;
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
/// Collects the descriptors of a message's control data.
fn read_control(h: &Header) -> Result<Vec<Arc<OpenFile>>> {
    let mut files = Vec::new();
    if h.control == 0 || h.control_len == 0 {
        return Ok(files);
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
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    if files.len() > SCM_MAX_FD { Err(EINVAL) } else { Ok(files) }
}
fn send_message(s: &Socket, msg: u64, flags: u32) -> Result<usize> {
    let h = read_header(msg)?;
    let files = read_control(&h)?;
    let to = if h.name == 0 { None } else { read_addr(h.name, u64::from(h.name_len))? };
    do_send(s, &mut Src::iovec(h.iov), files, to, flags)
}
/// sendmsg(2).
pub fn sys_sendmsg(a: &Args) -> Result<usize> {
    send_message(&Socket::get(a[0])?, a[1], int(a[2]))
}

fn put_control(out: &mut Vec<u8>, kind: u32, data: &[u8]) {
    out.extend_from_slice(&(16 + data.len() as u64).to_le_bytes());
    out.extend_from_slice(&SOL_SOCKET.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(8), 0);
}
/// Writes credentials and descriptors; returns the length used and `MSG_CTRUNC` if something had no room.
fn write_control(s: &Socket, h: &Header, r: Received, flags: u32) -> Result<(u64, u32)> {
    let room = if h.control == 0 { 0 } else { h.control_len as usize };
    let mut out = Vec::new();
    let mut truncated = 0;
    if s.unix()?.pass_cred() {
        let (pid, uid, gid) = r.cred;
        let data = [pid.to_le_bytes(), uid.to_le_bytes(), gid.to_le_bytes()].concat();
        if room >= 32 { put_control(&mut out, SCM_CREDENTIALS, &data) } else { truncated = MSG_CTRUNC }
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
        put_control(&mut out, SCM_RIGHTS, &fds);
    }
    let n = out.len().min(room);
    uaccess::write_bytes(h.control, &out[..n])?;
    Ok((n as u64, truncated))
}
fn receive_message(s: &Socket, msg: u64, flags: u32) -> Result<usize> {
    let h = read_header(msg)?;
    let r = do_receive(s, &mut Dst::iovec(h.iov.clone()), flags)?;
    let (len, full) = (r.len, r.full);
    if h.name != 0 {
        let n = match &r.from {
            Some(f) => write_addr_to(h.name, h.name_len, Some(f))?,
            None => 0,
        };
        uaccess::write_val(msg + 8, n)?;
    }
    let (control, mut out_flags) = write_control(s, &h, r, flags)?;
    if full > len {
        out_flags |= MSG_TRUNC;
    }
    uaccess::write_val(msg + 40, control)?;
    uaccess::write_val(msg + 48, out_flags)?;
    Ok(if flags & MSG_TRUNC != 0 { full } else { len })
}
/// recvmsg(2).
pub fn sys_recvmsg(a: &Args) -> Result<usize> {
    receive_message(&Socket::get(a[0])?, a[1], int(a[2]))
}
/// Bytes of a `struct mmsghdr`; its length field is at 56.
const MMSGHDR: u64 = 64;
fn many(a: &Args, one: fn(&Socket, u64, u32) -> Result<usize>) -> Result<usize> {
    let s = Socket::get(a[0])?;
    let mut done = 0;
    for i in 0..u64::from(int(a[2])).min(IOV_MAX) {
        let at = a[1] + i * MMSGHDR;
        let flags = if done > 0 { int(a[3]) | MSG_DONTWAIT } else { int(a[3]) };
        match one(&s, at, flags).and_then(|n| uaccess::write_val(at + 56, n as u32)) {
            Ok(()) => done += 1,
            Err(e) => return super::super::uio::partial(done, e),
        }
    }
    Ok(done)
}
/// sendmmsg(2).
pub fn sys_sendmmsg(a: &Args) -> Result<usize> {
    many(a, send_message)
}
/// recvmmsg(2).
pub fn sys_recvmmsg(a: &Args) -> Result<usize> {
    many(a, receive_message)
}

const SO_TYPE: u32 = 3;
const SO_ERROR: u32 = 4;
const SO_SNDBUF: u32 = 7;
const SO_RCVBUF: u32 = 8;
const SO_PASSCRED: u32 = 16;
const SO_PEERCRED: u32 = 17;
const SO_RCVTIMEO: u32 = 20;
const SO_SNDTIMEO: u32 = 21;
const SO_ACCEPTCONN: u32 = 30;
const SO_PROTOCOL: u32 = 38;
const SO_DOMAIN: u32 = 39;

/// setsockopt(2): options without meaning here are accepted.
pub fn sys_setsockopt(a: &Args) -> Result<usize> {
    let s = Socket::get(a[0])?;
    let u = s.unix()?;
    if int(a[1]) != SOL_SOCKET {
        return Err(EOPNOTSUPP);
    }
    match int(a[2]) {
        SO_PASSCRED => u.set_pass_cred(uaccess::read_val::<i32>(a[3])? != 0),
        name @ (SO_RCVTIMEO | SO_SNDTIMEO) => {
            if int(a[4]) < 16 {
                return Err(EINVAL);
            }
            let (sec, us): (u64, u64) = (uaccess::read_val(a[3])?, uaccess::read_val(a[3] + 8)?);
            let ns = sec.saturating_mul(1_000_000_000).saturating_add(us.saturating_mul(1000));
            u.set_timeout(name == SO_RCVTIMEO, ns);
        }
        SO_TYPE | SO_ERROR | SO_PEERCRED | SO_ACCEPTCONN | SO_PROTOCOL | SO_DOMAIN => {
            return Err(ENOPROTOOPT);
        }
        1..=60 => drop(uaccess::read_val::<i32>(a[3])?),
        _ => return Err(ENOPROTOOPT),
    }
    Ok(0)
}
/// getsockopt(2).
pub fn sys_getsockopt(a: &Args) -> Result<usize> {
    let s = Socket::get(a[0])?;
    let u = s.unix()?;
    if int(a[1]) != SOL_SOCKET {
        return Err(EOPNOTSUPP);
    }
    let number = |v: i32| v.to_le_bytes().to_vec();
    let time =
        |ns: u64| [(ns / 1_000_000_000).to_le_bytes(), (ns % 1_000_000_000 / 1000).to_le_bytes()].concat();
    let value = match int(a[2]) {
        SO_TYPE => number(match u.kind {
            Kind::Stream => 1,
            Kind::Datagram => 2,
            Kind::Packet => 5,
        }),
        SO_DOMAIN => number(i32::from(AF_UNIX)),
        SO_SNDBUF | SO_RCVBUF => number(212_992),
        SO_PASSCRED => number(i32::from(u.pass_cred())),
        SO_ACCEPTCONN => number(i32::from(u.is_listening())),
        SO_PEERCRED => {
            let (pid, uid, gid) = u.peer_cred();
            [pid.to_le_bytes(), uid.to_le_bytes(), gid.to_le_bytes()].concat()
        }
        SO_RCVTIMEO => time(u.timeouts().0),
        SO_SNDTIMEO => time(u.timeouts().1),
        1..=60 => number(0),
        _ => return Err(ENOPROTOOPT),
    };
    let room: i32 = uaccess::read_val(a[4])?;
    let n = value.len().min(usize::try_from(room).map_err(|_| EINVAL)?);
    uaccess::write_bytes(a[3], &value[..n])?;
    uaccess::write_val(a[4], n as u32)?;
    Ok(0)
}
