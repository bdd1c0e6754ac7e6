//! POSIX message queues: descriptors over named queues, which /dev/mqueue shows.
//!
//! Invariants: messages are kept by priority, then by age; a queue lives while it has a name or a descriptor; whoever
//! asked to be notified is told once, when a message comes to an empty queue that nobody waits on.
use super::*;
use crate::fs::{self, OpenFile};
use crate::net::netlink::NetlinkSocket;
use crate::signal::{self, Info};
use crate::uaccess::{read_cstr, read_val, write_val};
use alloc::collections::BTreeMap;
use alloc::format;
use core::any::Any;
use core::cmp::Reverse;
use fs::file::{File, Notify};
use fs::inode::{DirEntry, FsInfo, Inode, InodeRef, SetAttr, Stat};
use fs::uio::Dst;

const O_ACCMODE: u32 = 3;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_NONBLOCK: u32 = 0o4000;
const O_CLOEXEC: u32 = 0o2000000;
const S_IFREG: u32 = 0o100000;
const S_IFDIR: u32 = 0o040000;
const NAME_MAX: usize = 255;
const PRIORITY_MAX: u32 = 32768;
/// Limits of /proc/sys/fs/mqueue.
pub const QUEUES_MAX: usize = 256;
/// Most messages of a queue: CAP_SYS_RESOURCE, which could have more, is nobody's inside.
pub const MSG_MAX: i64 = 10;
/// Largest message.
pub const MSGSIZE_MAX: i64 = 8192;
const POLL_IN: u32 = 0x41;
const POLL_OUT: u32 = 0x104;
/// What a message takes beside its bytes.
const COST: u64 = 64;

/// Who asked to be notified, and how.
struct Watcher {
    pid: i32,
    how: Notice,
}

enum Notice {
    Nothing,
    Signal {
        signo: i32,
        value: u64,
    },
    /// SIGEV_THREAD: a helper of the program's libc reads this socket. It gets what it has said, but for the last byte.
    Socket {
        socket: Arc<OpenFile>,
        cookie: [u8; COOKIE],
    },
}
const COOKIE: usize = 32;
/// Last bytes: a message has come, or nobody is notified any more.
const NOTIFY_WOKENUP: u8 = 1;
const NOTIFY_REMOVED: u8 = 2;

impl Notice {
    /// SIGEV_*, and the signal, as /dev/mqueue shows them.
    fn shown(&self) -> (i32, i32) {
        match self {
            Self::Signal { signo, .. } => (SIGEV_SIGNAL, *signo),
            Self::Nothing => (SIGEV_NONE, 0),
            Self::Socket { .. } => (SIGEV_THREAD, 0),
        }
    }
    /// The socket hears, if there is one.
    fn tell_socket(&self, what: u8) {
        if let Self::Socket { socket, cookie } = self
            && let Some(s) = socket.downcast::<NetlinkSocket>()
        {
            let mut text = *cookie;
            text[COOKIE - 1] = what;
            s.notify(text.to_vec());
        }
    }
}
const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD: i32 = 2;

struct State {
    /// By priority (highest first), then by number.
    messages: BTreeMap<(Reverse<u32>, u64), (Vec<u8>, Kept)>,
    number: u64,
    bytes: u64,
    /// Tasks that wait for a message.
    receivers: u32,
    watcher: Option<Watcher>,
}

/// A queue.
pub struct Queue {
    max: u64,
    msgsize: u64,
    meta: BklCell<Stat>,
    state: BklCell<State>,
    changed: Notify,
}

static NAMES: BklCell<BTreeMap<Vec<u8>, Arc<Queue>>> = BklCell::new(BTreeMap::new());
static FS: BklCell<Option<Arc<FsInfo>>> = BklCell::new(None);

fn file_system() -> Arc<FsInfo> {
    if let Some(fs) = FS.with(Clone::clone) {
        return fs;
    }
    let fs = fs::mount::info("mqueue", 0x1980_0202, false);
    FS.set(Some(fs.clone()));
    fs
}

impl Queue {
    fn access(&self, flags: u32) -> Result<()> {
        let want = match flags & O_ACCMODE {
            0 => READ,
            1 => WRITE,
            2 => READ | WRITE,
            _ => return Err(Errno::EINVAL),
        };
        fs::env::cred().check(&self.meta.get(), want)
    }
    /// The process is notified no more.
    fn forget(&self, pid: i32) {
        let gone = self.state.with_mut(|s| s.watcher.take_if(|w| w.pid == pid));
        gone.iter().for_each(|w| w.how.tell_socket(NOTIFY_REMOVED));
    }
    fn text(&self) -> Vec<u8> {
        self.state.with(|s| {
            let (kind, signo) = s.watcher.as_ref().map_or((0, 0), |w| w.how.shown());
            let (bytes, pid) = (s.bytes, s.watcher.as_ref().map_or(0, |w| w.pid));
            format!("QSIZE:{bytes:<10} NOTIFY:{kind:<5} SIGNO:{signo:<5} NOTIFY_PID:{pid:<6}\n").into_bytes()
        })
    }
}

/// A descriptor's view of a queue.
pub struct MqFile(Arc<Queue>);

impl File for MqFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn descriptor_closed(&self) {
        self.0.forget(current_process().pid);
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        dst.push(&self.0.text())
    }
    fn pread(&self, off: u64, dst: &mut Dst) -> Result<usize> {
        let text = self.0.text();
        dst.push(text.get(usize::try_from(off).unwrap_or(usize::MAX)..).unwrap_or(&[]))
    }
    fn poll(&self, _want: u32) -> u32 {
        let n = self.0.state.with(|s| s.messages.len()) as u64;
        let readable = if n > 0 { POLL_IN } else { 0 };
        readable | if n < self.0.max { POLL_OUT } else { 0 }
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.0.changed.queue());
    }
}

/// The name of a queue: one component. The C library has taken the leading slash off.
fn name_at(at: u64) -> Result<Vec<u8>> {
    let name = read_cstr(at, 4095)?;
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if name.contains(&b'/') || name == b"." || name == b".." {
        return Err(Errno::EACCES);
    }
    Ok(name)
}

fn make(mode: u32, attr: u64) -> Result<Arc<Queue>> {
    let (max, msgsize) = match attr {
        0 => (MSG_MAX, MSGSIZE_MAX),
        at => (read_val::<i64>(at + 8)?, read_val::<i64>(at + 16)?),
    };
    let c = crate::process::cred();
    if !(1..=MSG_MAX).contains(&max) || !(1..=MSGSIZE_MAX).contains(&msgsize) {
        return Err(Errno::EINVAL);
    }
    if NAMES.with(BTreeMap::len) >= QUEUES_MAX {
        return Err(Errno::ENOSPC);
    }
    crate::mm::admit(1 << 10)?;
    let t = crate::time::realtime_ns() as i64;
    let meta = Stat {
        dev: file_system().dev,
        ino: fs::inode::next_id(),
        mode: S_IFREG | mode & 0o7777 & !fs::env::fs().umask(),
        nlink: 1,
        uid: c.euid,
        gid: c.egid,
        size: 80,
        blksize: 4096,
        atime: t,
        mtime: t,
        ctime: t,
        ..Stat::default()
    };
    let state = State { messages: BTreeMap::new(), number: 0, bytes: 0, receivers: 0, watcher: None };
    Ok(Arc::new(Queue {
        max: max as u64,
        msgsize: msgsize as u64,
        meta: BklCell::new(meta),
        state: BklCell::new(state),
        changed: Notify::new(),
    }))
}

/// mq_open(name, flags, mode, attr)
pub fn sys_mq_open(a: &[u64; 6]) -> Result<usize> {
    let (name, flags) = (name_at(a[0])?, a[1] as u32);
    let queue = match NAMES.with(|n| n.get(&name).cloned()) {
        Some(_) if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL => return Err(Errno::EEXIST),
        Some(q) => {
            q.access(flags)?;
            q
        }
        None if flags & O_CREAT == 0 => return Err(Errno::ENOENT),
        None => {
            let q = make(a[2] as u32, a[3])?;
            NAMES.with_mut(|n| n.insert(name.clone(), q.clone()));
            q
        }
    };
    let node = Arc::new(Node { fs: file_system(), queue: queue.clone() });
    let d = fs::dentry::Dentry::anonymous(node, &[b"/", &name[..]].concat());
    let f = OpenFile::new(d, Some(Arc::new(MqFile(queue))), flags & (O_ACCMODE | O_NONBLOCK));
    Ok(current_process().files().add(f, flags & O_CLOEXEC != 0)? as usize)
}

fn unlink(name: &[u8]) -> Result<()> {
    let q = NAMES.with(|n| n.get(name).cloned()).ok_or(Errno::ENOENT)?;
    let c = fs::env::cred();
    // The directory is everyone's, and sticky.
    if !c.can(crate::process::caps::FOWNER) && q.meta.with(|m| m.uid) != c.uid {
        return Err(Errno::EACCES);
    }
    let gone = NAMES.with_mut(|n| n.remove(name));
    drop(gone);
    q.meta.with_mut(|m| m.nlink = 0);
    Ok(())
}
/// mq_unlink(name)
pub fn sys_mq_unlink(a: &[u64; 6]) -> Result<usize> {
    unlink(&name_at(a[0])?).map(|()| 0)
}

fn file(fd: u64) -> Result<(Arc<OpenFile>, Arc<Queue>)> {
    let f = current_process().files().get(fd as i32)?;
    let q = f.downcast::<MqFile>().ok_or(Errno::EBADF)?.0.clone();
    Ok((f, q))
}
/// An absolute time of CLOCK_REALTIME as a deadline of the scheduler's clock.
fn deadline(at: u64) -> Result<Option<u64>> {
    if at == 0 {
        return Ok(None);
    }
    let ns = crate::syscall::time::read_timespec(at)?;
    let ahead = ns.saturating_sub(crate::time::realtime_ns());
    Ok(Some(crate::time::monotonic_ns().saturating_add(ahead)))
}

/// mq_timedsend(fd, message, size, priority, timeout)
pub fn sys_mq_timedsend(a: &[u64; 6]) -> Result<usize> {
    let priority = a[3] as u32;
    let deadline = deadline(a[4])?;
    if priority >= PRIORITY_MAX {
        return Err(Errno::EINVAL);
    }
    let (f, q) = file(a[0])?;
    if !f.can_write() {
        return Err(Errno::EBADF);
    }
    if a[2] > q.msgsize {
        return Err(Errno::EMSGSIZE);
    }
    let mut text = fs::try_vec(a[2] as usize)?;
    read_bytes(a[1], &mut text)?;
    let kept = Kept::take(a[2] + COST).ok_or(Errno::ENOMEM)?;
    crate::mm::admit(a[2] + COST)?;
    let mut message = Some((text, kept));
    let put = || {
        q.state.with_mut(|s| {
            if s.messages.len() as u64 >= q.max {
                return f.nonblocking().then_some(Err(Errno::EAGAIN));
            }
            let message = message.take()?;
            let first = s.messages.is_empty() && s.receivers == 0;
            s.bytes += message.0.len() as u64;
            s.number += 1;
            s.messages.insert((Reverse(priority), s.number), message);
            Some(Ok(if first { s.watcher.take() } else { None }))
        })
    };
    let watcher = q.changed.queue().wait_until(deadline, put)??;
    q.changed.notify();
    if let Some(w) = watcher {
        tell(&w);
    }
    Ok(0)
}
fn tell(w: &Watcher) {
    const SI_MESGQ: i32 = -3;
    w.how.tell_socket(NOTIFY_WOKENUP);
    let Notice::Signal { signo, value } = w.how else { return };
    let Some(p) = crate::process::Process::by_pid(w.pid).filter(|_| signo != 0) else { return };
    let sender = Info::user();
    signal::send_process(&p, signo, Info { code: SI_MESGQ, payload: [sender.payload[0], value, 0, 0] });
}

/// mq_timedreceive(fd, buffer, size, priority, timeout)
pub fn sys_mq_timedreceive(a: &[u64; 6]) -> Result<usize> {
    let deadline = deadline(a[4])?;
    let (f, q) = file(a[0])?;
    if !f.can_read() {
        return Err(Errno::EBADF);
    }
    if a[2] < q.msgsize {
        return Err(Errno::EMSGSIZE);
    }
    let take = || {
        q.state.with_mut(|s| match s.messages.pop_first() {
            Some(((Reverse(priority), _), (text, _))) => {
                s.bytes -= text.len() as u64;
                Some(Ok((priority, text)))
            }
            None => f.nonblocking().then_some(Err(Errno::EAGAIN)),
        })
    };
    q.state.with_mut(|s| s.receivers += 1);
    let got = q.changed.queue().wait_until(deadline, take);
    q.state.with_mut(|s| s.receivers -= 1);
    let (priority, text) = got??;
    q.changed.notify();
    write_bytes(a[1], &text)?;
    if a[3] != 0 {
        write_val(a[3], priority)?;
    }
    Ok(text.len())
}

/// mq_notify(fd, event)
pub fn sys_mq_notify(a: &[u64; 6]) -> Result<usize> {
    let event = match a[1] {
        0 => None,
        at => Some((read_val::<u64>(at)?, read_val::<i32>(at + 8)?, read_val::<i32>(at + 12)?)),
    };
    let pid = current_process().pid;
    let how = match event {
        None => None,
        Some((_, _, SIGEV_NONE)) => Some(Notice::Nothing),
        // Signal 0 is nobody's.
        Some((value, signo @ 0..=64, SIGEV_SIGNAL)) => Some(Notice::Signal { signo, value }),
        Some((cookie, socket, SIGEV_THREAD)) => Some(to_socket(cookie, socket)?),
        Some(_) => return Err(Errno::EINVAL),
    };
    let (_, q) = file(a[0])?;
    let Some(how) = how else {
        q.forget(pid);
        return Ok(0);
    };
    q.state.with_mut(|s| {
        if s.watcher.is_some() {
            return Err(Errno::EBUSY);
        }
        s.watcher = Some(Watcher { pid, how });
        Ok(0)
    })
}
fn to_socket(at: u64, fd: i32) -> Result<Notice> {
    let mut cookie = [0; COOKIE];
    read_bytes(at, &mut cookie)?;
    let socket = current_process().files().get(fd)?;
    match socket.special().and_then(|s| s.as_socket()).map(|_| socket.downcast::<NetlinkSocket>().is_some()) {
        None => Err(Errno::ENOTSOCK),
        Some(false) => Err(Errno::EINVAL),
        Some(true) => Ok(Notice::Socket { socket, cookie }),
    }
}

/// mq_getsetattr(fd, new, old): only O_NONBLOCK can change.
pub fn sys_mq_getsetattr(a: &[u64; 6]) -> Result<usize> {
    let new = match a[1] {
        0 => None,
        at => Some(read_val::<i64>(at)?),
    };
    if new.is_some_and(|f| f & !i64::from(O_NONBLOCK) != 0) {
        return Err(Errno::EINVAL);
    }
    let (f, q) = file(a[0])?;
    let mut b = [0; 64];
    let n = q.state.with(|s| s.messages.len()) as u64;
    put(&mut b, &[(0, u64::from(f.flags() & O_NONBLOCK)), (8, q.max), (16, q.msgsize), (24, n)]);
    if let Some(flags) = new {
        f.set_flags(f.flags() & !O_NONBLOCK | flags as u32);
    }
    if a[2] != 0 {
        write_bytes(a[2], &b)?;
    }
    Ok(0)
}

/// A process that ended is told nothing any more.
pub(super) fn process_ended(pid: i32) {
    let all: Vec<Arc<Queue>> = NAMES.with(|n| n.values().cloned().collect());
    for q in all {
        q.forget(pid);
    }
}

/// A queue as a file of /dev/mqueue.
struct Node {
    fs: Arc<FsInfo>,
    queue: Arc<Queue>,
}
impl Inode for Node {
    fn fs(&self) -> &Arc<FsInfo> {
        &self.fs
    }
    fn stat(&self) -> Result<Stat> {
        Ok(self.queue.meta.get())
    }
    fn kind(&self) -> u32 {
        S_IFREG
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn file_id(&self) -> (u64, u64) {
        (self.queue.meta.with(|m| m.ino), 0)
    }
    fn setattr(&self, attr: &SetAttr) -> Result<()> {
        self.queue.meta.with_mut(|m| fs::memfs::apply_attr(m, attr));
        Ok(())
    }
    fn open(&self, _me: &InodeRef, _flags: u32) -> Result<Option<Arc<dyn File>>> {
        Ok(Some(Arc::new(MqFile(self.queue.clone()))))
    }
}

/// The directory /dev/mqueue.
struct Root(Arc<FsInfo>);

/// Its inode, to be mounted.
pub fn root() -> InodeRef {
    Arc::new(Root(file_system()))
}
impl Inode for Root {
    fn fs(&self) -> &Arc<FsInfo> {
        &self.0
    }
    fn stat(&self) -> Result<Stat> {
        Ok(Stat {
            dev: self.0.dev,
            ino: 1,
            mode: S_IFDIR | 0o1777,
            nlink: 2,
            blksize: 4096,
            ..Stat::default()
        })
    }
    fn kind(&self) -> u32 {
        S_IFDIR
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn file_id(&self) -> (u64, u64) {
        (self.0.dev << 32, 0)
    }
    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        let queue = NAMES.with(|n| n.get(name).cloned()).ok_or(Errno::ENOENT)?;
        Ok(Arc::new(Node { fs: self.0.clone(), queue }))
    }
    fn unlink(&self, name: &[u8]) -> Result<()> {
        unlink(name)
    }
    fn list(&self) -> Result<Vec<DirEntry>> {
        let entry = |(name, q): (&Vec<u8>, &Arc<Queue>)| DirEntry {
            ino: q.meta.with(|m| m.ino),
            d_type: 8,
            name: name.clone(),
        };
        Ok(NAMES.with(|n| n.iter().map(entry).collect()))
    }
}
