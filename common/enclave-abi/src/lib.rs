//! The enclave's edge: ECALL and OCALL numbers, what crosses with them, the measured configuration.
//!
//! Neighbours: `enclave/rt` (inside) and `host/pal` (outside) meet only here. Every value that comes in is untrusted:
//! the LibOS checks lengths, ranges and errno values before use. Buffers cross by copy through one buffer per TCS.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
use alloc::vec::Vec;

mod config;
mod job;
mod trace;
pub use config::*;
pub use job::*;
pub use trace::*;

/// Bytes of the untrusted OCALL buffer of each TCS. Layout: `OcallFrame` first, then data from `OCALL_DATA`.
pub const OCALL_BUF_SIZE: usize = (1 << 20) + 4096;
/// Offset of the data area in the OCALL buffer; inputs are copied there, outputs overwrite it.
pub const OCALL_DATA: usize = 4096;
/// Most bytes one OCALL can move in or out.
pub const OCALL_DATA_MAX: usize = 1 << 20;

/// The frame at the start of the OCALL buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct OcallFrame {
    /// `Ocall` number.
    pub nr: u64,
    /// Arguments; meaning per call.
    pub args: [u64; 6],
    /// Bytes of input in the data area.
    pub in_len: u64,
    /// Bytes of output the enclave will accept in the data area.
    pub out_len: u64,
    /// Result: >= 0, or a negated errno.
    pub ret: i64,
}

/// Instead of a directory: the path is one of the host's own.
pub const ANYWHERE: u64 = u64::MAX;

macro_rules! ocalls {
    ($($(#[$doc:meta])* $name:ident = $nr:literal,)*) => {
        /// The OCALL table. `args` are listed in order; "in"/"out" name what the data area carries.
        ///
        /// A path is resolved beneath a directory, a descriptor from `Open`: components are names, no link is followed on the
        /// way or at the end, so nothing outside is reached; no path at all is what the descriptor itself names. With
        /// `ANYWHERE` instead of a directory it is a path that the user named at the start, where links are followed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u64)]
        pub enum Ocall { $($(#[$doc])* $name = $nr,)* }
        impl Ocall {
            /// The call with this number.
            pub fn from_nr(nr: u64) -> Option<Self> {
                match nr { $($nr => Some(Self::$name),)* _ => None }
            }
            /// Is its result how many bytes of its output were read? Callers look at no others.
            pub fn reads(self) -> bool {
                matches!(self, Self::Pread | Self::Read | Self::NetRecv)
            }
            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}
ocalls! {
    /// Ends the enclave. args: status kind (0 exited, 1 signaled, 2 occlum failed), value. Does not return on this vCPU;
    /// other vCPUs are kicked out by the host.
    Exit = 0,
    /// Idle vCPU waits. args: for how many ns at most (u64::MAX: no end). out: `HostEvents`. A `Wake` of this vCPU since its
    /// last `Wait` makes it return at once.
    Wait = 1,
    /// Wakes vCPU args[0] from `Wait` (or kicks it with an AEX if args[1] != 0 and it runs guest code).
    Wake = 2,
    /// in: log text, or records (stderr of the host, or the file given by args[0]: 0 stderr, 1 records (`Record`)).
    Log = 3,
    /// out: 3 u64: CLOCK_REALTIME ns, CLOCK_MONOTONIC ns, TSC at the same moment.
    Clock = 4,
    /// Changes ELRANGE pages. args: address, length, rights (1 R, 2 W, 4 X), flags (1 populate now, 2 drop content: next
    /// use reads zero, 4 the pages appear filled with the u32 args[4]). The address range must be inside ELRANGE.
    MemProtect = 5,
    /// in: path. args: open flags (Linux), mode, directory (`ANYWHERE`). Returns a host descriptor.
    Open = 6,
    /// args: fd.
    Close = 7,
    /// args: fd, offset, length, 1 for only what takes no waiting (-EAGAIN if that is nothing), how much behind it will be read
    /// next. out: bytes. Returns bytes read (0 at end).
    Pread = 8,
    /// args: fd, offset, 1 to have the host begin to make it durable. in: bytes. Returns bytes written. With the 1 they may still
    /// be on their way: a later read sees them, and what became of them is for `Fsync` (or the next such write) to say. A write
    /// that failed is kept, and made again each time that is asked.
    Pwrite = 9,
    /// in: path, or nothing. args: fd or directory (`ANYWHERE`). out: `HostStat`.
    Stat = 10,
    /// in: path. args: directory (`ANYWHERE`). out: link text. Returns its length.
    Readlink = 11,
    /// args: fd of a directory, position cookie (0 first). out: packed entries: u64 ino, u64 next cookie, u8 d_type,
    /// u16 name length, name. Returns bytes used; 0 at end.
    Readdir = 12,
    /// args: stream fd (0-2 or from Open), non-blocking. out: bytes. -EAGAIN if none.
    Read = 13,
    /// args: stream fd, non-blocking. in: bytes. Returns bytes taken.
    Write = 14,
    /// Registers interest: args: fd, events (POLLIN 1 | POLLOUT 4). Returns the events ready now; when none is,
    /// a later `Wait` returns with `HostEvents::ready` set. With `POLL_EDGES`, each `Wait` from now on does when there is
    /// something new, and 0 is returned.
    Poll = 15,
    /// args: fd, request (allow-listed terminal ioctls: TCGETS TCSETS* TIOCGWINSZ TIOCSWINSZ FIONREAD), in/out: argument.
    Ioctl = 16,
    /// Operations on names in shared directories. args: operation (1 mkdir(mode) 2 rmdir 3 unlink 4 rename 5 symlink 6 link
    /// 7 chmod(mode) 8 mknod(mode) 9 utimens(atime ns, mtime ns) 10 chown(uid, gid)), its two arguments, directory, directory
    /// of path2. in: path, or path NUL path2; of a symlink, path NUL text. Never `ANYWHERE`.
    PathOp = 17,
    /// args: fd, length.
    Ftruncate = 18,
    /// args: fd, 1 to wait only for writes that are on their way.
    Fsync = 19,
    /// Tells the host what to print at exit. args[0]: 1 changed path (in), 2 statistic (in: name=value).
    Report = 20,
    /// Starts (args[0]=1) or stops (0) the preemption timer of this vCPU; args[1] period ns.
    Tick = 21,
    /// args: fd, whence, offset: lseek on a host stream.
    Seek = 22,
    /// args: fd. out: statfs: u64 type, bsize, blocks, bfree, bavail, files, ffree, namelen.
    Statfs = 23,
    /// args: address, length, arena offset, rights: shows pages of the shared arena (a memfd of the simulated backend) at
    /// an ELRANGE address; arena offset u64::MAX puts fresh private pages there. A declared capability of `sim`.
    MemAlias = 24,
    /// args: stop signal. The foreground job of the terminal, with the first process, has stopped: the host stops too, so
    /// that the user's shell has the terminal, and returns when it is continued (at once if it cannot stop).
    Stop = 25,
    /// args: fd, 0 shared or 1 exclusive. Takes a lock on the file, which keeps others who ask for it out until the
    /// descriptor is closed; -EAGAIN if somebody has it. Cooperative: it protects against mistakes, not against the host.
    Lock = 26,
    /// EGETKEY of the simulated CPU. in: KEYREQUEST. out: the key. Returns 0, an error code of the SDM, or a negated errno.
    Egetkey = 27,
    /// A trusted counter, which in simulation is the CPU's. in: a request of `sgx-arch`'s `counter`. out: the answer.
    Counter = 28,
    /// Begins work on a file that may take its time, and returns 0. args: `WORK_FETCH` (makes the host have these bytes at
    /// hand) or `WORK_SYNC`, fd, offset, length, token. A later `Wait` reports an event of the token: `WORK_DONE` and an errno.
    Begin = 29,
    /// A socket that leads out of the enclave, non-blocking. args: kind (1 stream, 2 datagram), family (4 or 6), token of its
    /// events. in: `NetAddr` to connect to (a datagram socket with port 0 stays unconnected), then `NetOption`s. Returns a
    /// descriptor; the connection of a stream is under way.
    NetConnect = 40,
    /// Opens a published port. args: kind, port inside, token of its events, backlog. Returns a descriptor (a listener, or
    /// a datagram socket), or -ENOENT if that port is not published. Closing it makes the host refuse again.
    NetListen = 41,
    /// args: listener, token of the new socket's events. out: `NetAddr` of the peer, `NetAddr` of this end. Returns a
    /// descriptor.
    NetAccept = 42,
    /// args: fd, flags (`NET_TO`: in starts with the `NetAddr` to send to; `NET_MORE`; `NET_SEND_URGENT`). in: bytes. Returns bytes taken.
    NetSend = 43,
    /// args: fd, flags (`NET_PEEK`; `NET_URGENT`; `NET_FROM`: out starts with the `NetAddr` of the sender and the message's full length as
    /// u32). out: bytes. Returns bytes of out.
    NetRecv = 44,
    /// args: fd, 0 read, 1 write, 2 both.
    NetShutdown = 45,
    /// args: fd, 0 this end, 1 the peer. out: `NetAddr`.
    NetName = 46,
    /// args: fd, level, name. out: value. Returns its length.
    NetGetOption = 47,
    /// args: fd. in: `NetOption`s; those not on the host's list are refused.
    NetSetOption = 48,
    /// out: the host's network interfaces: `NetInterface` head, then so many `NetAddr`s (scope: prefix length), each.
    /// Returns bytes used.
    NetInterfaces = 49,
    /// args: fd. Returns the events (`POLL*`) that are there now, and `NET_AT_MARK`.
    NetReady = 50,
    /// args: offset. out: that part of the next order (`Order`; offset 0 goes on to the next one). Returns the whole
    /// order's length; 0 when there is none.
    NextOrder = 60,
    /// args: `JobEvent`, then its arguments. in: as it says.
    JobEvent = 61,
}

/// `Begin`: bytes of a file are to be at hand.
pub const WORK_FETCH: u64 = 1;
/// `Begin`: fsync.
pub const WORK_SYNC: u64 = 2;
/// Event of work that has ended; the errno stands below.
pub const WORK_DONE: u32 = 1 << 16;
/// `Poll`: tell of everything new, from now on.
pub const POLL_EDGES: u32 = 1 << 31;
/// `NetSend`: the input starts with an address.
pub const NET_TO: u64 = 1;
/// `NetSend`: more follows at once (MSG_MORE).
pub const NET_MORE: u64 = 2;
/// `NetSend`: the last byte is urgent (MSG_OOB).
pub const NET_SEND_URGENT: u64 = 4;
/// `NetRecv`: the urgent byte.
pub const NET_URGENT: u64 = 4;
/// `NetReady`: the next byte is at the mark of urgent data.
pub const NET_AT_MARK: u32 = 1 << 16;
/// `NetRecv`: leave the bytes there.
pub const NET_PEEK: u64 = 1;
/// `NetRecv`: the output starts with the sender and the full length.
pub const NET_FROM: u64 = 2;
/// Bytes of a wire `NetAddr`: 16 of address (IPv4 as IPv4-mapped), u16 port, u16 zero, u32 scope; little-endian.
pub const NET_ADDR: usize = 24;
/// Bytes of a wire `NetOption`: u32 level, u32 name, i32 value, u32 zero.
pub const NET_OPTION: usize = 16;
/// Bytes of a wire `NetInterface`: u32 index, u32 flags, u32 MTU, u16 name length, u16 number of addresses, 8 bytes of
/// hardware address, 16 of name.
pub const NET_INTERFACE: usize = 40;
/// Most readiness events that one `Wait` reports.
pub const MAX_EVENTS: usize = 64;

/// What `Wait` returns in the data area, followed by `count` events of sockets: u32 token, u32 events (`POLL*`) each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct HostEvents {
    /// Bit n-1: host signal n arrived for the whole enclave (SIGINT, SIGTSTP, SIGWINCH, SIGTERM, SIGHUP, SIGCONT, SIGQUIT).
    pub signals: u64,
    /// 1 if a polled descriptor became ready.
    pub ready: u64,
    /// How many events of sockets follow; at most `MAX_EVENTS`.
    pub count: u64,
    /// 1 if there are orders to fetch.
    pub orders: u64,
}
impl HostEvents {
    /// Bytes of the data area with all events.
    pub const FULL: usize = size_of::<HostEvents>() + 8 * MAX_EVENTS;
}

/// Host `stat`, fixed layout.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostStat {
    /// Device.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u64,
    /// Links.
    pub nlink: u64,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Device number of a device node.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// Block size.
    pub blksize: u64,
    /// 512-byte blocks.
    pub blocks: u64,
    /// Access, modification, change: ns since the epoch.
    pub atime_ns: i64,
    /// Modification time.
    pub mtime_ns: i64,
    /// Change time.
    pub ctime_ns: i64,
}
impl HostStat {
    /// Bytes of the wire form: 13 little-endian u64.
    pub const SIZE: usize = 13 * 8;
    /// Wire form.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let v = [
            self.dev,
            self.ino,
            self.mode,
            self.nlink,
            self.uid,
            self.gid,
            self.rdev,
            self.size,
            self.blksize,
            self.blocks,
            self.atime_ns as u64,
            self.mtime_ns as u64,
            self.ctime_ns as u64,
        ];
        let mut out = [0; Self::SIZE];
        for (i, x) in v.iter().enumerate() {
            out[i * 8..i * 8 + 8].copy_from_slice(&x.to_le_bytes());
        }
        out
    }
    /// From the wire form.
    pub fn from_bytes(b: &[u8; Self::SIZE]) -> Self {
        let at = |i: usize| {
            let mut w = [0; 8];
            w.copy_from_slice(&b[i * 8..i * 8 + 8]);
            u64::from_le_bytes(w)
        };
        Self {
            dev: at(0),
            ino: at(1),
            mode: at(2),
            nlink: at(3),
            uid: at(4),
            gid: at(5),
            rdev: at(6),
            size: at(7),
            blksize: at(8),
            blocks: at(9),
            atime_ns: at(10) as i64,
            mtime_ns: at(11) as i64,
            ctime_ns: at(12) as i64,
        }
    }
}

/// Untrusted launch parameters: what to run. Not measured; the LibOS validates them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchParams {
    /// Program as typed by the user (PATH is searched inside).
    pub program: Vec<u8>,
    /// argv, argv[0] included.
    pub argv: Vec<Vec<u8>>,
    /// KEY=VALUE strings.
    pub envp: Vec<Vec<u8>>,
    /// Working directory (absolute).
    pub cwd: Vec<u8>,
    /// Bind mounts: host path, guest path, then flags as text ("ro" or "rw").
    pub binds: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
    /// Where on the host the sources of the mount table are: name, host path. No paths are `SOURCE_COUNTER`, which tells the
    /// counters of instances of one enclave apart, and `SOURCE_IMAGE_KEY`.
    pub sources: Vec<(Vec<u8>, Vec<u8>)>,
    /// Host name for uname.
    pub hostname: Vec<u8>,
    /// uid, gid of the first process.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Host directory that the changed files are saved in at exit; empty: they are discarded.
    pub keep: Vec<u8>,
    /// What is to be told of the programs (`TraceOptions`); empty: nothing. Only a debug enclave heeds it.
    pub trace: Vec<u8>,
    /// bit 1 stats, bit 2 report changed files, bits 3-5: host fd 0,1,2 is a terminal,
    /// 6-7: network, bit 8 resident, bit 9 any working directory.
    pub flags: u32,
}
/// Name in `LaunchParams::sources` of the text that names this instance's counters.
pub const SOURCE_COUNTER: &[u8] = b"counter";
/// Name in `LaunchParams::sources` of the image key, 64 hexadecimal digits.
pub const SOURCE_IMAGE_KEY: &[u8] = b"image-key";
/// `LaunchParams::flags`: print statistics at exit.
pub const FLAG_STATS: u32 = 2;
/// `LaunchParams::flags`: report the changed files at exit.
pub const FLAG_REPORT_CHANGES: u32 = 4;
/// `LaunchParams::flags`: no first program; the enclave lives until `Order::End` and runs what orders ask for.
pub const FLAG_RESIDENT: u32 = 256;
/// `LaunchParams::flags`: the working directory is where the user happened to be; without it inside, `/`.
pub const FLAG_ANY_CWD: u32 = 512;
/// `LaunchParams::flags`: descriptor n is a terminal: `FLAG_TTY0 << n`.
pub const FLAG_TTY0: u32 = 8;
/// `LaunchParams::flags`: the enclave has no network but its own.
pub const FLAG_NET_NONE: u32 = 64;
/// `LaunchParams::flags`: what listens on the host's own addresses can be reached.
pub const FLAG_NET_HOST: u32 = 128;

impl LaunchParams {
    /// Wire form: a sequence of u32-length-prefixed byte strings and u32 counts, in field order.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, &self.program);
        for list in [&self.argv, &self.envp] {
            out.extend_from_slice(&(list.len() as u32).to_le_bytes());
            for s in list {
                put(&mut out, s);
            }
        }
        put(&mut out, &self.cwd);
        out.extend_from_slice(&(self.binds.len() as u32).to_le_bytes());
        for (a, b, c) in &self.binds {
            put(&mut out, a);
            put(&mut out, b);
            put(&mut out, c);
        }
        out.extend_from_slice(&(self.sources.len() as u32).to_le_bytes());
        for (name, path) in &self.sources {
            put(&mut out, name);
            put(&mut out, path);
        }
        put(&mut out, &self.hostname);
        put(&mut out, &self.keep);
        put(&mut out, &self.trace);
        for v in [self.uid, self.gid, self.flags] {
            out.extend_from_slice(&v.to_le_bytes());
        }
        out
    }
    /// Decodes hostile bytes; `None` if they are not well formed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader { bytes };
        let program = r.bytes()?;
        let argv = r.list()?;
        let envp = r.list()?;
        let cwd = r.bytes()?;
        let n = r.u32()?;
        let mut binds = Vec::new();
        for _ in 0..n {
            binds.push((r.bytes()?, r.bytes()?, r.bytes()?));
        }
        let n = r.u32()?;
        let mut sources = Vec::new();
        for _ in 0..n {
            sources.push((r.bytes()?, r.bytes()?));
        }
        let hostname = r.bytes()?;
        let keep = r.bytes()?;
        let trace = r.bytes()?;
        Some(Self {
            program,
            argv,
            envp,
            cwd,
            binds,
            sources,
            hostname,
            keep,
            trace,
            uid: r.u32()?,
            gid: r.u32()?,
            flags: r.u32()?,
        })
    }
}

fn put(out: &mut Vec<u8>, b: &[u8]) {
    out.extend_from_slice(&(b.len() as u32).to_le_bytes());
    out.extend_from_slice(b);
}

struct Reader<'a> {
    bytes: &'a [u8],
}
impl Reader<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.bytes.split_first_chunk::<4>()?;
        self.bytes = rest;
        Some(u32::from_le_bytes(*head))
    }
    fn u64(&mut self) -> Option<u64> {
        let (head, rest) = self.bytes.split_first_chunk::<8>()?;
        self.bytes = rest;
        Some(u64::from_le_bytes(*head))
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*head)
    }
    fn bytes(&mut self) -> Option<Vec<u8>> {
        let n = self.u32()? as usize;
        let (head, rest) = self.bytes.split_at_checked(n)?;
        self.bytes = rest;
        Some(head.to_vec())
    }
    fn list(&mut self) -> Option<Vec<Vec<u8>>> {
        let n = self.u32()?;
        let mut v = Vec::new();
        for _ in 0..n {
            v.push(self.bytes()?);
        }
        Some(v)
    }
}
