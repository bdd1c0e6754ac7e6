//! Sockets: local ones (AF_UNIX), the internet families, and the little of netlink that programs ask for.
//!
//! Order of knowledge (a module may use those below it): `syscall`, `text` (/proc/net), `netlink` -> `sock_diag` -> `tcp`, `udp`, `unix` -> `packet`, `urgent` -> `ports`,
//! `options`, `interfaces` -> `host` -> `addr`, `counts`. Traffic between programs of the enclave never leaves it: `ports` knows who listens where,
//! and only what is meant for elsewhere, or comes from a published port, goes through the host (`host`).
//! Invariants: as in `crate::fs`: no cell is borrowed while a task waits or user memory is touched (except the byte
//! rings); what the host returns is checked in `host`.
pub mod addr;
pub mod counts;
pub mod garbage;
pub mod host;
pub mod interfaces;
pub mod netlink;
pub mod options;
pub mod packet;
pub mod ports;
mod sock_diag;
pub mod syscall;
pub mod tcp;
pub mod text;
pub mod udp;
pub mod unix;
mod urgent;

use crate::fs::OpenFile;
use crate::fs::file::File;
use crate::fs::prelude::*;
use crate::fs::uio::{Dst, Src};
use crate::sched::Breath;
use options::Common;

/// The inode number of a socket: SOCK_DIAG has 32 bits for it.
fn number(id: u64) -> u64 {
    u64::from(id as u32)
}

/// Everything that `after` finds, each after the one before; others get on meanwhile, so what comes and goes may be left out.
fn one_by_one<T>(after: impl Fn(u64) -> Option<(u64, T)>) -> impl Iterator<Item = T> {
    let (mut last, mut breath) = (0, Breath::begin());
    core::iter::from_fn(move || {
        breath.take();
        let (id, found) = after(last)?;
        last = id;
        Some(found)
    })
}

pub const SOCK_STREAM: u32 = 1;
pub const SOCK_DGRAM: u32 = 2;
pub const SOCK_RAW: u32 = 3;
pub const SOCK_SEQPACKET: u32 = 5;
pub const MSG_OOB: u32 = 1;
pub const MSG_PEEK: u32 = 2;
pub const MSG_TRUNC: u32 = 0x20;
pub const MSG_DONTWAIT: u32 = 0x40;
pub const MSG_WAITALL: u32 = 0x100;
pub const MSG_ERRQUEUE: u32 = 0x2000;
pub const MSG_NOSIGNAL: u32 = 0x4000;
pub const MSG_MORE: u32 = 0x8000;

/// What a send carries besides its bytes.
#[derive(Default)]
pub struct Outgoing {
    /// Descriptors; taken when something is sent.
    pub files: Vec<Arc<OpenFile>>,
    /// Where to, as the program passed it.
    pub to: Option<Vec<u8>>,
    /// `MSG_*`.
    pub flags: u32,
    /// Other control data.
    pub control: Vec<packet::Control>,
}

/// What a receive gives besides the bytes.
#[derive(Default)]
pub struct Received {
    /// Bytes copied.
    pub len: usize,
    /// Bytes the message had (datagrams).
    pub full: usize,
    /// Sender's address; `None` where there is nothing to say (streams).
    pub from: Option<Vec<u8>>,
    /// Descriptors.
    pub files: Vec<Arc<OpenFile>>,
    /// Sender's process, user and group.
    pub cred: (i32, u32, u32),
    /// Other control data: level, kind, bytes.
    pub control: Vec<packet::Control>,
    /// `MSG_*` that recvmsg(2) shows besides.
    pub flags: u32,
}

/// Domain, type and protocol, as SO_DOMAIN, SO_TYPE and SO_PROTOCOL show them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    /// `AF_*`.
    pub family: u16,
    /// `SOCK_*`.
    pub kind: u32,
    /// `IPPROTO_*`.
    pub protocol: u32,
}

/// A socket: what the system calls ask of every family. Addresses are the bytes of a `struct sockaddr`.
pub trait Socket: File {
    /// Domain, type, protocol.
    fn class(&self) -> Class;
    /// Options that every socket has.
    fn common(&self) -> &Common;
    /// bind(2).
    fn bind(&self, addr: &[u8]) -> Result<()>;
    /// listen(2).
    fn listen(&self, _backlog: usize) -> Result<()> {
        Err(EOPNOTSUPP)
    }
    /// connect(2); waits itself where it must, unless `nonblocking`.
    fn connect(&self, addr: &[u8], nonblocking: bool) -> Result<()>;
    /// accept(2): the new socket and its peer's address; `EAGAIN` if there is none yet.
    fn accept(&self) -> Result<(Arc<dyn File>, Vec<u8>)> {
        Err(EOPNOTSUPP)
    }
    /// getsockname(2).
    fn name(&self) -> Vec<u8>;
    /// getpeername(2).
    fn peer_name(&self) -> Result<Vec<u8>>;
    /// shutdown(2) of reading, writing or both.
    fn shutdown(&self, read: bool, write: bool) -> Result<()>;
    /// Sends what fits (streams) or one message; `EAGAIN` if the caller would have to wait.
    fn send(&self, src: &mut Src, out: &mut Outgoing) -> Result<usize>;
    /// Receives what is there; of `flags`, only MSG_PEEK and MSG_TRUNC mean something here.
    fn receive(&self, dst: &mut Dst, flags: u32) -> Result<Received>;
    /// Receives urgent data (MSG_OOB); `None`: the flag means nothing here.
    fn receive_urgent(&self, _dst: &mut Dst, _flags: u32) -> Option<Result<Received>> {
        Some(Err(EOPNOTSUPP))
    }
    /// Receives what came back of what was sent (MSG_ERRQUEUE).
    fn receive_error(&self, _dst: &mut Dst) -> Result<Received> {
        Err(EAGAIN)
    }
    /// Is the next byte at the mark of urgent data?
    fn is_at_mark(&self) -> bool {
        false
    }
    /// SO_ERROR: the pending error, which is taken.
    fn take_error(&self) -> i32 {
        0
    }
    /// SO_ACCEPTCONN.
    fn is_listening(&self) -> bool {
        false
    }
    /// An option of this kind of socket alone; `None` if it is not one.
    fn get_option(&self, _level: u32, _name: u32) -> Option<Result<Vec<u8>>> {
        None
    }
    /// Sets such an option.
    fn set_option(&self, _level: u32, _name: u32, _value: &[u8]) -> Option<Result<()>> {
        None
    }
    /// An option of the table was set.
    fn option_changed(&self, _level: u32, _name: u32, _value: i32) {}
}
