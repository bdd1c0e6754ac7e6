//! Pseudo-terminals: /dev/ptmx makes a pair; the slave is a name in /dev/pts (devpts).
//!
//! Neighbours: `ldisc` is what stands between the two ends, `tty` the job control that they share with the host's
//! terminal. Invariants: a pair is in `PAIRS` while an end is open; its name is there while the master is; user memory is
//! never touched while the discipline's cell is borrowed; a slave's file from before a hang-up stays hung up.
use super::env;
use super::file::{File, Notify, OpenFile, Tells};
use super::inode::{DirEntry, FsInfo, Inode, InodeRef, SetAttr, Stat};
use super::ldisc::{Ldisc, Termios};
use super::memfs::{MemInode, apply_attr};
use super::prelude::*;
use super::tty::{self, Job};
use super::uio::{Dst, Src, try_vec};
use super::{dev, mount};
use crate::process::caps;
use crate::signal::owner::Band;
use crate::time::monotonic_ns;
use crate::uaccess;

/// Most pseudo-terminals at once: /proc/sys/kernel/pty/max.
pub const MAX: u32 = 4096;
/// About what one takes of the heap.
const COST: u64 = 64 << 10;
/// Bytes moved at once.
const CHUNK: usize = 4096;
/// The group `tty` of every distribution, which /dev/pts gives its nodes to.
const TTY_GROUP: u32 = 5;

static PAIRS: BklCell<BTreeMap<u32, Arc<Pty>>> = BklCell::new(BTreeMap::new());
/// Lowest number that is given out: 0 is the host's terminal if there is one.
static FIRST: BklCell<u32> = BklCell::new(0);

/// A pair.
pub struct Pty {
    index: u32,
    /// Whose terminal the slave is.
    pub job: Job,
    ldisc: BklCell<Ldisc>,
    winsize: BklCell<[u8; 8]>,
    meta: BklCell<Stat>,
    locked: BklCell<bool>,
    exclusive: BklCell<bool>,
    packets: BklCell<bool>,
    /// The master is open.
    live: BklCell<bool>,
    slaves: BklCell<u32>,
    /// A slave was opened once: from then on "no slave" means hung up.
    met: BklCell<bool>,
    /// Hang-ups so far.
    hangups: BklCell<u32>,
    /// When input came last, for VTIME.
    last_input: BklCell<u64>,
    /// A write of the master's, or of the slave's, found too little room.
    short: BklCell<(bool, bool)>,
    /// The master's view changed.
    to_master: Notify,
    /// The slave's view changed.
    to_slave: Notify,
}

/// The pair whose slave controls a session.
pub fn of_session(sid: i32) -> Option<Arc<Pty>> {
    PAIRS.with(|p| p.values().find(|p| sid > 0 && p.job.session() == sid).cloned())
}

/// The lowest number in /dev/pts that no terminal has. ENOSPC.
pub fn free_index() -> Result<u32> {
    let free = |i: &u32| !PAIRS.with(|p| p.contains_key(i)) && tty::by_index(*i).is_none();
    (FIRST.get()..MAX).find(free).ok_or(ENOSPC)
}

/// open("/dev/ptmx").
pub fn open_master() -> Result<Arc<Master>> {
    crate::mm::admit(COST)?;
    let index = free_index()?;
    let cred = env::cred();
    let t = crate::time::realtime_ns() as i64;
    let meta = Stat {
        ino: u64::from(index) + 3,
        mode: S_IFCHR | 0o620,
        nlink: 1,
        uid: cred.uid,
        gid: TTY_GROUP,
        rdev: dev::makedev(136, u64::from(index)),
        blksize: 1024,
        atime: t,
        mtime: t,
        ctime: t,
        ..Stat::default()
    };
    let pty = Arc::new(Pty {
        index,
        job: Job::new(0),
        ldisc: BklCell::new(Ldisc::default()),
        winsize: BklCell::new([0; 8]),
        meta: BklCell::new(meta),
        locked: BklCell::new(true),
        exclusive: BklCell::new(false),
        packets: BklCell::new(false),
        live: BklCell::new(true),
        slaves: BklCell::new(0),
        met: BklCell::new(false),
        hangups: BklCell::new(0),
        last_input: BklCell::new(0),
        short: BklCell::new((false, false)),
        to_master: Notify::new(),
        to_slave: Notify::new(),
    });
    PAIRS.with_mut(|p| p.insert(index, pty.clone()));
    Ok(Arc::new(Master { pty }))
}

impl Pty {
    /// Device number of the slave.
    pub fn rdev(&self) -> u64 {
        self.meta.with(|m| m.rdev)
    }
    fn changed(&self) {
        self.to_master.notify();
        self.to_slave.notify();
    }
    /// Opens the slave.
    pub fn open_slave(self: &Arc<Self>, flags: u32) -> Result<Arc<dyn File>> {
        if self.locked.get() || !self.live.get() {
            return Err(EIO);
        }
        if self.exclusive.get() && !env::cred().can(caps::SYS_ADMIN) {
            return Err(EBUSY);
        }
        self.job.opened(flags);
        self.slaves.with_mut(|n| *n += 1);
        self.met.set(true);
        self.to_master.notify();
        Ok(Arc::new(Slave { pty: self.clone(), since: self.hangups.get() }))
    }
    fn hang_up(&self) {
        self.hangups.with_mut(|n| *n += 1);
        self.exclusive.set(false);
        self.ldisc.with_mut(|l| {
            l.flush_input();
            l.set_termios(Termios::default());
        });
        self.changed();
    }
    /// Input for the slave, or its echo for the master: how much was taken.
    fn input(&self, data: &[u8]) -> usize {
        let there = || self.ldisc.with(|l| (l.readable(), l.output_len()));
        let before = there();
        let taken = self.ldisc.with_mut(|l| l.receive(data));
        let after = there();
        if after.0 > before.0 {
            self.to_slave.tell(Band::In);
        }
        if after.1 > before.1 {
            self.to_master.tell(Band::In);
        }
        taken
    }
    fn forget_if_unused(&self) {
        if !self.live.get() && self.slaves.get() == 0 {
            let gone = PAIRS.with_mut(|p| match p.get(&self.index) {
                Some(p) if core::ptr::eq(&**p, self) => Some(self.index),
                _ => None,
            });
            let dropped = gone.and_then(|i| PAIRS.with_mut(|p| p.remove(&i)));
            drop(dropped);
        }
    }
    /// Sends the signals that keys asked for.
    fn send_signals(&self) {
        for sig in self.ldisc.with_mut(Ldisc::take_signals) {
            self.job.signal(sig);
        }
    }

    /// The requests that both ends know. `None`: it is another one.
    fn ioctl(&self, request: u32, arg: u64) -> Result<Option<usize>> {
        match request {
            TCGETS => uaccess::write_bytes(arg, &self.ldisc.with(Ldisc::termios).to_bytes())?,
            TCGETS2 => {
                let mut b = [0; Termios::SIZE + 8];
                b[..Termios::SIZE].copy_from_slice(&self.ldisc.with(Ldisc::termios).to_bytes());
                for at in [Termios::SIZE, Termios::SIZE + 4] {
                    b[at..at + 4].copy_from_slice(&38400u32.to_le_bytes());
                }
                uaccess::write_bytes(arg, &b)?;
            }
            TCSETS | TCSETSW | TCSETSF | TCSETS2 | TCSETSW2 | TCSETSF2 => {
                let mut b = [0; Termios::SIZE];
                uaccess::read_bytes(arg, &mut b)?;
                self.ldisc.with_mut(|l| {
                    if matches!(request, TCSETSF | TCSETSF2) {
                        l.flush_input();
                    }
                    l.set_termios(Termios::from_bytes(&b));
                });
                self.changed();
            }
            TCGETA => uaccess::write_bytes(arg, &self.ldisc.with(Ldisc::termios).to_old_bytes())?,
            TCSETA | TCSETAW | TCSETAF => {
                let mut b = [0; Termios::OLD_SIZE];
                uaccess::read_bytes(arg, &mut b)?;
                self.ldisc.with_mut(|l| {
                    if request == TCSETAF {
                        l.flush_input();
                    }
                    l.set_termios(l.termios().with_old_bytes(&b));
                });
                self.changed();
            }
            // No mode is locked, and nobody may lock one.
            TIOCGLCKTRMIOS => uaccess::write_bytes(arg, &[0; Termios::SIZE])?,
            TIOCSLCKTRMIOS => return Err(EPERM),
            TIOCGWINSZ => uaccess::write_bytes(arg, &self.winsize.get())?,
            TIOCSWINSZ => {
                let mut b = [0; 8];
                uaccess::read_bytes(arg, &mut b)?;
                if self.winsize.replace(b) != b {
                    self.job.signal(SIGWINCH);
                }
            }
            TCSBRK | TCSBRKP => {}
            TIOCEXCL => self.exclusive.set(true),
            TIOCNXCL => self.exclusive.set(false),
            TIOCGEXCL => uaccess::write_val(arg, i32::from(self.exclusive.get()))?,
            TIOCOUTQ | TIOCGETD => uaccess::write_val(arg, 0i32)?,
            _ => return Ok(None),
        }
        Ok(Some(0))
    }
    fn flush(&self, what: u64) -> Result<usize> {
        if what > 2 {
            return Err(EINVAL);
        }
        self.ldisc.with_mut(|l| {
            if what != 1 {
                l.flush_input();
            }
            if what != 0 {
                l.flush_output();
            }
        });
        self.changed();
        Ok(0)
    }
    fn flow(&self, what: u64) -> Result<usize> {
        self.ldisc.with_mut(|l| {
            match what {
                0 | 1 => l.hold(what == 0),
                2 | 3 => {
                    let c = l.flow_char(what == 2);
                    l.send(&[c]);
                }
                _ => return Err(EINVAL),
            }
            Ok(())
        })?;
        self.changed();
        Ok(0)
    }
}

/// The end that a terminal emulator holds.
pub struct Master {
    pty: Arc<Pty>,
}
impl Drop for Master {
    fn drop(&mut self) {
        let p = &self.pty;
        p.live.set(false);
        let sid = p.job.session();
        if sid > 0 {
            env::signal_leader(sid, SIGHUP);
            env::signal_leader(sid, SIGCONT);
        }
        p.job.end(true);
        p.hang_up();
        p.forget_if_unused();
    }
}
impl Master {
    /// The slave's node.
    fn peer(&self, flags: u32) -> Result<Arc<OpenFile>> {
        let path = alloc::format!("/dev/pts/{}", self.pty.index);
        let d = mount::lookup_path(path.as_bytes()).ok_or(EIO)?;
        let slave = self.pty.open_slave(flags)?;
        Ok(OpenFile::new(d, Some(slave), flags & (O_ACCMODE | O_NONBLOCK)))
    }
}
impl File for Master {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        let p = &self.pty;
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let packets = p.packets.get();
        if packets && p.ldisc.with(Ldisc::status) != 0 {
            return dst.push(&[p.ldisc.with_mut(Ldisc::take_status)]);
        }
        let max = dst.remaining().min(CHUNK) - usize::from(packets);
        let mut data = p.ldisc.with_mut(|l| l.drain(max));
        if data.is_empty() {
            let gone = p.met.get() && p.slaves.get() == 0;
            return Err(if gone { EIO } else { EAGAIN });
        }
        if packets {
            data.insert(0, 0);
        }
        p.to_slave.notify();
        if p.short.with_mut(|s| core::mem::take(&mut s.1)) {
            p.to_slave.tell(Band::Out);
        }
        dst.push(&data)
    }
    fn try_write(&self, src: &mut Src) -> Result<usize> {
        let p = &self.pty;
        let want = src.remaining().min(p.ldisc.with(Ldisc::receive_room)).min(CHUNK);
        if want == 0 {
            return if src.remaining() == 0 { Ok(0) } else { Err(EAGAIN) };
        }
        let mut buf = try_vec(want)?;
        let n = src.pull(&mut buf)?;
        let taken = p.input(&buf[..n]);
        src.rewind(n - taken);
        if src.remaining() > 0 {
            p.short.with_mut(|s| s.0 = true);
        }
        p.last_input.set(monotonic_ns());
        p.send_signals();
        p.changed();
        Ok(taken)
    }
    fn poll(&self, _want: u32) -> u32 {
        let p = &self.pty;
        let mut e = 0;
        p.ldisc.with(|l| {
            if l.output_len() > 0 {
                e |= POLL_IN;
            }
            if p.packets.get() && l.status() != 0 {
                e |= POLL_IN | POLLPRI;
            }
            if l.receive_room() > 0 {
                e |= POLL_OUT;
            }
        });
        if p.met.get() && p.slaves.get() == 0 {
            e |= POLLHUP;
        }
        e
    }
    fn tells(&self) -> Tells {
        Tells::Group(0)
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.pty.to_master.queue());
    }
    fn ioctl(&self, request: u32, arg: u64) -> Result<usize> {
        let p = &self.pty;
        if let Some(n) = p.ioctl(request, arg)? {
            return Ok(n);
        }
        match request {
            TIOCGPTN => uaccess::write_val(arg, p.index)?,
            TIOCSPTLCK => p.locked.set(uaccess::read_val::<i32>(arg)? != 0),
            TIOCGPTLCK => uaccess::write_val(arg, i32::from(p.locked.get()))?,
            TIOCPKT => {
                let on = uaccess::read_val::<i32>(arg)? != 0;
                if !p.packets.replace(on) && on {
                    p.ldisc.with_mut(Ldisc::take_status);
                }
            }
            TIOCGPKT => uaccess::write_val(arg, i32::from(p.packets.get()))?,
            TIOCGPTPEER => {
                let flags = arg as u32;
                return Ok(env::files().add(self.peer(flags)?, flags & O_CLOEXEC != 0)? as usize);
            }
            TIOCSIG => {
                if !(1..=64).contains(&arg) {
                    return Err(EINVAL);
                }
                p.ldisc.with_mut(|l| l.signal(arg as i32));
                p.send_signals();
                p.changed();
            }
            TIOCGPGRP => uaccess::write_val(arg, p.job.foreground())?,
            TIOCGSID => match p.job.session() {
                0 => return Err(ENOTTY),
                sid => uaccess::write_val(arg, sid)?,
            },
            FIONREAD => uaccess::write_val(arg, p.ldisc.with(Ldisc::output_len) as u32)?,
            // What the master flushes as input is the slave's output.
            TCFLSH => return p.flush(if arg < 2 { 1 - arg } else { arg }),
            TCXONC if arg < 4 => {}
            TCXONC => return Err(EINVAL),
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }
}

/// The end that programs have as their terminal.
pub struct Slave {
    pty: Arc<Pty>,
    /// Hang-ups when it was opened.
    since: u32,
}
impl Drop for Slave {
    fn drop(&mut self) {
        self.pty.slaves.with_mut(|n| *n -= 1);
        self.pty.to_master.notify();
        self.pty.forget_if_unused();
    }
}
impl Slave {
    fn hung_up(&self) -> bool {
        self.since != self.pty.hangups.get()
    }
    /// How many bytes have to be there before a read gives any.
    fn minimum(&self, wanted: usize) -> usize {
        match self.pty.ldisc.with(Ldisc::raw_wait) {
            // With VTIME the first byte starts the clock.
            Some((min, time)) if time == 0 || !self.timer_is_up(time) => min.min(wanted),
            _ => 1,
        }
    }
    fn timer_is_up(&self, time: u64) -> bool {
        monotonic_ns() >= self.pty.last_input.get().saturating_add(time)
    }
    fn read(&self, dst: &mut Dst, minimum: usize) -> Result<usize> {
        let p = &self.pty;
        if self.hung_up() {
            return Ok(0);
        }
        p.job.check_read()?;
        if dst.remaining() == 0 {
            return Ok(0);
        }
        if !p.ldisc.with(|l| l.has_input(minimum)) {
            let at_once = p.ldisc.with(Ldisc::raw_wait) == Some((0, 0));
            return if at_once { Ok(0) } else { Err(EAGAIN) };
        }
        let data = p.ldisc.with_mut(|l| l.read(dst.remaining().min(CHUNK)));
        p.to_master.notify();
        if p.short.with_mut(|s| core::mem::take(&mut s.0)) {
            p.to_master.tell(Band::Out);
        }
        dst.push(&data)
    }
}
impl File for Slave {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        self.read(dst, self.minimum(dst.remaining()))
    }
    fn try_read_now(&self, dst: &mut Dst) -> Result<usize> {
        self.read(dst, 1)
    }
    fn read_timeout(&self) -> Option<u64> {
        match self.pty.ldisc.with(Ldisc::raw_wait) {
            Some((0, time)) if time > 0 => Some(time),
            _ => None,
        }
    }
    fn deadline(&self) -> Option<u64> {
        let (min, time) = self.pty.ldisc.with(Ldisc::raw_wait)?;
        let waits = min > 0 && time > 0 && self.pty.ldisc.with(|l| l.has_input(1));
        waits.then(|| self.pty.last_input.get().saturating_add(time)).filter(|d| *d > monotonic_ns())
    }
    fn try_write(&self, src: &mut Src) -> Result<usize> {
        let p = &self.pty;
        if self.hung_up() || !p.live.get() {
            return Err(EIO);
        }
        p.job.check_write(|| p.ldisc.with(Ldisc::termios).tostop())?;
        if src.remaining() == 0 {
            return Ok(0);
        }
        if !p.ldisc.with(Ldisc::can_send) {
            return Err(EAGAIN);
        }
        let mut buf = try_vec(src.remaining().min(CHUNK))?;
        let n = src.pull(&mut buf)?;
        let taken = p.ldisc.with_mut(|l| l.send(&buf[..n]));
        src.rewind(n - taken);
        if src.remaining() > 0 {
            p.short.with_mut(|s| s.1 = true);
        }
        p.to_master.notify();
        if taken > 0 {
            p.to_master.tell(Band::In);
        }
        Ok(taken)
    }
    fn poll(&self, _want: u32) -> u32 {
        let p = &self.pty;
        if self.hung_up() {
            return POLL_IN | POLL_OUT | POLLERR | POLLHUP;
        }
        let min = match p.ldisc.with(Ldisc::raw_wait) {
            Some((min, 0)) => min,
            _ => 1,
        };
        let mut e = 0;
        p.ldisc.with(|l| {
            if l.has_input(min) {
                e |= POLL_IN;
            }
            if l.can_send() {
                e |= POLL_OUT;
            }
        });
        e
    }
    fn tells(&self) -> Tells {
        Tells::Group(self.pty.job.foreground())
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.pty.to_slave.queue());
    }
    fn ioctl(&self, request: u32, arg: u64) -> Result<usize> {
        let p = &self.pty;
        if self.hung_up() {
            return Err(if request == TIOCSPGRP { ENOTTY } else { EIO });
        }
        let changes = matches!(
            request,
            TCSETS
                | TCSETSW
                | TCSETSF
                | TCSETS2
                | TCSETSW2
                | TCSETSF2
                | TCSETA
                | TCSETAW
                | TCSETAF
                | TCSBRK
                | TCSBRKP
                | TCXONC
                | TCFLSH
        );
        if changes {
            p.job.check_background(SIGTTOU)?;
        }
        if let Some(r) = p.job.ioctl(request, arg) {
            return r;
        }
        if let Some(n) = p.ioctl(request, arg)? {
            return Ok(n);
        }
        match request {
            FIONREAD => {
                uaccess::write_val(arg, p.ldisc.with(Ldisc::readable) as u32)?;
                Ok(0)
            }
            TCFLSH => p.flush(arg),
            TCXONC => p.flow(arg),
            TIOCSTI => {
                if p.job.session() != env::job().1 && !env::cred().can(caps::SYS_ADMIN) {
                    return Err(EPERM);
                }
                let c: u8 = uaccess::read_val(arg)?;
                p.input(&[c]);
                p.send_signals();
                p.changed();
                Ok(0)
            }
            _ => Err(ENOTTY),
        }
    }
}

/// A name of /dev/pts.
struct PtsNode {
    fs: Arc<FsInfo>,
    pty: Arc<Pty>,
}
impl Inode for PtsNode {
    fn fs(&self) -> &Arc<FsInfo> {
        &self.fs
    }
    fn stat(&self) -> Result<Stat> {
        Ok(Stat { dev: self.fs.dev, ..self.pty.meta.get() })
    }
    fn kind(&self) -> u32 {
        S_IFCHR
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn file_id(&self) -> (u64, u64) {
        (self.fs.dev << 32 | u64::from(self.pty.index), 0)
    }
    fn setattr(&self, attr: &SetAttr) -> Result<()> {
        self.pty.meta.with_mut(|m| apply_attr(m, attr));
        Ok(())
    }
    fn open(&self, _me: &InodeRef, flags: u32) -> Result<Option<Arc<dyn File>>> {
        self.pty.open_slave(flags).map(Some)
    }
}

/// The root of devpts.
struct PtsRoot {
    fs: Arc<FsInfo>,
    /// The host's terminal, as 0.
    console: Option<Arc<MemInode>>,
    /// Those of programs that the host started later, by number.
    given: BklCell<BTreeMap<u32, Arc<MemInode>>>,
    ptmx: Arc<MemInode>,
}

/// /dev/pts; `owner` has the host's terminal, if there is one.
pub fn root(owner: (u32, u32), with_tty: bool) -> InodeRef {
    let fs = mount::info("devpts", 0x1cd1, false);
    FIRST.set(u32::from(with_tty));
    let console = with_tty.then(|| MemInode::new(&fs, S_IFCHR | 0o620, owner, dev::PTS0));
    let ptmx = MemInode::new(&fs, S_IFCHR | 0o666, (0, 0), dev::PTMX);
    Arc::new(PtsRoot { fs, console, given: BklCell::new(BTreeMap::new()), ptmx })
}
impl PtsRoot {
    /// The node of a terminal that the host gave later.
    fn given(&self, t: &tty::Tty) -> InodeRef {
        let node = || {
            let cred = env::cred();
            MemInode::new(&self.fs, S_IFCHR | 0o620, (cred.uid, cred.gid), t.rdev())
        };
        self.given.with_mut(|g| g.entry(t.index()).or_insert_with(node).clone())
    }
}
impl Inode for PtsRoot {
    fn fs(&self) -> &Arc<FsInfo> {
        &self.fs
    }
    fn stat(&self) -> Result<Stat> {
        Ok(Stat {
            dev: self.fs.dev,
            ino: 1,
            mode: S_IFDIR | 0o755,
            nlink: 2,
            blksize: 1024,
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
        (self.fs.dev << 32 | u64::from(u32::MAX), 0)
    }
    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        if name == b"ptmx" {
            return Ok(self.ptmx.clone());
        }
        let text = core::str::from_utf8(name).map_err(|_| ENOENT)?;
        let index: u32 = text.parse().map_err(|_| ENOENT)?;
        if index == 0
            && let Some(c) = &self.console
        {
            return Ok(c.clone());
        }
        if let Some(t) = tty::by_index(index).filter(|_| alloc::format!("{index}") == text) {
            return Ok(self.given(&t));
        }
        let found = PAIRS.with(|p| p.get(&index).filter(|p| p.live.get()).cloned());
        let pty = found.filter(|_| alloc::format!("{index}") == text).ok_or(ENOENT)?;
        Ok(Arc::new(PtsNode { fs: self.fs.clone(), pty }))
    }
    fn list(&self) -> Result<Vec<DirEntry>> {
        let entry = |name: String, ino| DirEntry { ino, d_type: 2, name: name.into_bytes() };
        let mut out = vec![entry(String::from("ptmx"), 2)];
        if self.console.is_some() {
            out.push(entry(String::from("0"), 3));
        }
        PAIRS.with(|p| {
            let live = p.values().filter(|p| p.live.get());
            out.extend(live.map(|p| entry(alloc::format!("{}", p.index), u64::from(p.index) + 3)));
        });
        Ok(out)
    }
}

/// Pseudo-terminals that exist.
pub fn count() -> usize {
    PAIRS.with(BTreeMap::len)
}
