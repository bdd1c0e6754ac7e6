//! Terminals: job control, which all of them share, and those that the host gave.
//!
//! A pseudo-terminal made inside is in `pty`. For the host's, line discipline and echo are the host's; session and
//! foreground group are ours. The signal code asks `foreground_pgrp` where a key's signal goes. The terminal that the
//! enclave was started with, if there is one, is number 0 and stays; those of later programs stay while a session has them
//! or somebody has them open.
use super::env;
use super::file::File;
use super::host::{self, HostFd};
use super::prelude::*;
use super::pty;
use super::stream::HostStream;
use crate::process::caps;
use crate::uaccess;

/// Which session a terminal controls, and its foreground group. 0: none.
pub struct Job {
    session: BklCell<i32>,
    foreground: BklCell<i32>,
}

impl Job {
    /// A terminal of this session, whose leader's group has the foreground.
    pub const fn new(session: i32) -> Self {
        Self { session: BklCell::new(session), foreground: BklCell::new(session) }
    }
    /// The session it controls; 0 if none.
    pub fn session(&self) -> i32 {
        self.session.get()
    }
    /// Foreground process group; 0 if none.
    pub fn foreground(&self) -> i32 {
        self.foreground.get()
    }
    /// A signal for the foreground group.
    pub fn signal(&self, sig: i32) {
        let group = self.foreground.get();
        if group > 0 {
            env::signal_group(group, sig);
        }
    }
    /// Nobody's terminal any more; the foreground group hangs up, and goes on if it was stopped and `resume` says so.
    pub fn end(&self, resume: bool) {
        let group = self.foreground.replace(0);
        self.session.set(0);
        if group > 0 {
            env::signal_group(group, SIGHUP);
            if resume {
                env::signal_group(group, SIGCONT);
            }
        }
    }
    /// A background job may not do that: `sig` to its group, unless that would do nothing.
    pub fn check_background(&self, sig: i32) -> Result<()> {
        let (pgid, sid, _) = env::job();
        if sid != self.session.get() || pgid == self.foreground.get() {
            return Ok(());
        }
        if env::signal_is_moot(sig) {
            return if sig == SIGTTIN { Err(EIO) } else { Ok(()) };
        }
        if env::group_is_orphaned(pgid, sid) {
            return Err(EIO);
        }
        env::signal_group(pgid, sig);
        Err(EINTR)
    }
    /// Before a read.
    pub fn check_read(&self) -> Result<()> {
        self.check_background(SIGTTIN)
    }
    /// Before a write; `tostop`: the terminal's mode.
    pub fn check_write(&self, tostop: impl FnOnce() -> bool) -> Result<()> {
        let (pgid, sid, _) = env::job();
        if sid != self.session.get() || pgid == self.foreground.get() || !tostop() {
            return Ok(());
        }
        self.check_background(SIGTTOU)
    }
    fn check_own_session(&self) -> Result<()> {
        let (_, sid, _) = env::job();
        if sid == self.session.get() { Ok(()) } else { Err(ENOTTY) }
    }
    /// The requests of job control; `None`: it is another one.
    pub fn ioctl(&self, request: u32, arg: u64) -> Option<Result<usize>> {
        Some(match request {
            TIOCGPGRP => self.check_own_session().and_then(|()| put(arg, self.foreground.get())),
            TIOCSPGRP => uaccess::read_val(arg).and_then(|pgid| self.set_foreground(pgid)),
            TIOCGSID => self.check_own_session().and_then(|()| put(arg, self.session.get())),
            TIOCSCTTY => self.acquire(arg),
            TIOCNOTTY => self.release(),
            _ => return None,
        })
    }
    fn set_foreground(&self, pgid: i32) -> Result<usize> {
        self.check_own_session()?;
        if pgid < 0 {
            return Err(EINVAL);
        }
        self.check_background(SIGTTOU)?;
        if !env::group_exists(pgid) {
            return Err(ESRCH);
        }
        if !env::group_in_session(pgid, self.session.get()) {
            return Err(EPERM);
        }
        self.foreground.set(pgid);
        Ok(0)
    }
    fn acquire(&self, force: u64) -> Result<usize> {
        let (_, sid, leader) = env::job();
        let owner = self.session.get();
        if leader && owner == sid {
            return Ok(0);
        }
        if !leader || session_has_terminal(sid) {
            return Err(EPERM);
        }
        if owner != 0 && (force != 1 || !env::cred().can(caps::SYS_ADMIN)) {
            return Err(EPERM);
        }
        self.take();
        Ok(0)
    }
    fn take(&self) {
        let (pgid, sid, _) = env::job();
        self.session.set(sid);
        self.foreground.set(pgid);
    }
    /// open(2) without O_NOCTTY: a session leader without a terminal gets a free one.
    pub fn opened(&self, flags: u32) {
        let (_, sid, leader) = env::job();
        let wants = flags & O_NOCTTY == 0 && leader && self.session.get() == 0;
        if wants && !session_has_terminal(sid) {
            self.take();
        }
    }
    fn release(&self) -> Result<usize> {
        self.check_own_session()?;
        let (_, sid, leader) = env::job();
        if leader {
            free_terminal(sid, true);
        }
        Ok(0)
    }
}

fn put(at: u64, v: i32) -> Result<usize> {
    uaccess::write_val(at, v)?;
    Ok(0)
}

/// A terminal of the host's.
pub struct Tty {
    /// A host descriptor of it.
    host: Arc<HostFd>,
    /// Its number in /dev/pts.
    index: u32,
    /// Whose it is.
    pub job: Job,
}

/// A terminal's place among those that are there.
struct Place {
    tty: Weak<Tty>,
    /// Keeps it while a session has it.
    held: Option<Arc<Tty>>,
}

static TTYS: BklCell<Vec<Place>> = BklCell::new(Vec::new());
static CONSOLE: BklCell<Option<Arc<Tty>>> = BklCell::new(None);

/// The terminal that the enclave was started with, if the host gave it one.
pub fn console() -> Option<Arc<Tty>> {
    CONSOLE.with(|t| t.clone())
}
/// Creates the console over a host descriptor (only the first counts); the first session has it.
pub fn create_console(host: &Arc<HostFd>) -> Arc<Tty> {
    if let Some(t) = console() {
        return t;
    }
    let t = Arc::new(Tty { host: host.clone(), index: 0, job: Job::new(1) });
    TTYS.with_mut(|all| all.push(Place { tty: Arc::downgrade(&t), held: None }));
    CONSOLE.set(Some(t.clone()));
    t
}
/// Creates a terminal that controls the session `sid`; 0: nobody's. ENOSPC.
pub fn create(host: &Arc<HostFd>, sid: i32) -> Result<Arc<Tty>> {
    let index = pty::free_index()?;
    let t = Arc::new(Tty { host: host.clone(), index, job: Job::new(sid) });
    TTYS.with_mut(|all| {
        all.retain(|p| p.tty.strong_count() > 0);
        all.push(Place { tty: Arc::downgrade(&t), held: (sid != 0).then(|| t.clone()) });
    });
    Ok(t)
}
/// The one with this number.
pub fn by_index(index: u32) -> Option<Arc<Tty>> {
    find(|t| t.index == index)
}
fn find(wanted: impl Fn(&Tty) -> bool) -> Option<Arc<Tty>> {
    TTYS.with(|all| all.iter().filter_map(|p| p.tty.upgrade()).find(|t| wanted(t)))
}
fn host_of_session(sid: i32) -> Option<Arc<Tty>> {
    if sid > 0 { find(|t| t.job.session() == sid) } else { None }
}
/// The group that gets the signals of the terminal that the enclave was started with.
pub fn foreground_pgrp() -> Option<i32> {
    console().map(|t| t.job.foreground()).filter(|g| *g > 0)
}
/// The group that gets the signals of a session's terminal.
pub fn foreground_of(sid: i32) -> Option<i32> {
    of_session(sid).map(|(_, group)| group).filter(|g| *g > 0)
}
fn session_has_terminal(sid: i32) -> bool {
    of_session(sid).is_some()
}
/// (Device number, foreground group) of the terminal that controls a session.
pub fn of_session(sid: i32) -> Option<(u64, i32)> {
    match host_of_session(sid) {
        Some(t) => Some((t.rdev(), t.job.foreground())),
        None => pty::of_session(sid).map(|p| (p.rdev(), p.job.foreground())),
    }
}
/// /dev/tty: the caller's controlling terminal.
pub fn open_controlling() -> Result<Arc<dyn File>> {
    let (_, sid, _) = env::job();
    match host_of_session(sid) {
        Some(t) => Ok(HostStream::on_terminal(t)),
        None => pty::of_session(sid).ok_or(ENXIO)?.open_slave(O_NOCTTY),
    }
}
/// Opens a node of a terminal of the host's.
pub fn open(t: Option<Arc<Tty>>, flags: u32) -> Result<Arc<dyn File>> {
    let t = t.ok_or(ENXIO)?;
    t.job.opened(flags);
    Ok(HostStream::on_terminal(t))
}
/// A session leader has ended: its terminal is free, the foreground group hangs up.
pub fn session_ended(sid: i32) {
    free_terminal(sid, false);
}
fn free_terminal(sid: i32, resume: bool) {
    if let Some(t) = host_of_session(sid) {
        // The host's terminal ends as one that is no pseudo-terminal.
        t.job.end(true);
        let place = |p: &&mut Place| core::ptr::eq(p.tty.as_ptr(), Arc::as_ptr(&t));
        drop(TTYS.with_mut(|all| all.iter_mut().find(place).and_then(|p| p.held.take())));
    }
    if let Some(p) = pty::of_session(sid) {
        p.job.end(resume);
    }
}

impl Tty {
    /// Device number of its node.
    pub fn rdev(&self) -> u64 {
        super::dev::makedev(136, u64::from(self.index))
    }
    /// Its number in /dev/pts.
    pub fn index(&self) -> u32 {
        self.index
    }
    /// The host's descriptor of it.
    pub fn host(&self) -> &Arc<HostFd> {
        &self.host
    }
    /// Before a read.
    pub fn check_read(&self) -> Result<()> {
        self.job.check_read()
    }
    /// Before a write.
    pub fn check_write(&self) -> Result<()> {
        self.job.check_write(|| self.tostop())
    }
    fn tostop(&self) -> bool {
        let mut t = [0u8; 36];
        let lflag = |t: &[u8; 36]| u32::from_le_bytes([t[12], t[13], t[14], t[15]]);
        host::ioctl(self.host.number(), TCGETS, &[], &mut t).is_ok() && lflag(&t) & TOSTOP != 0
    }

    /// ioctl(2).
    pub fn ioctl(&self, request: u32, arg: u64) -> Result<usize> {
        if let Some(r) = self.job.ioctl(request, arg) {
            return r;
        }
        match request {
            TCSBRK | TCXONC | TCFLSH => Ok(0),
            TCGETS => self.forward_out(request, arg, 36),
            TIOCGWINSZ => self.forward_out(request, arg, 8),
            FIONREAD => uaccess::write_val(arg, host::waiting(self.host.number())?).map(|()| 0),
            TCSETS | TCSETSW | TCSETSF => {
                self.job.check_background(SIGTTOU)?;
                self.forward_in(request, arg, 36)
            }
            TIOCSWINSZ => self.forward_in(request, arg, 8),
            _ => Err(ENOTTY),
        }
    }
    fn forward_out(&self, request: u32, arg: u64, len: usize) -> Result<usize> {
        let mut b = [0u8; 36];
        host::ioctl(self.host.number(), request, &[], &mut b[..len])?;
        uaccess::write_bytes(arg, &b[..len])?;
        Ok(0)
    }
    fn forward_in(&self, request: u32, arg: u64, len: usize) -> Result<usize> {
        let mut b = [0u8; 36];
        uaccess::read_bytes(arg, &mut b[..len])?;
        host::ioctl(self.host.number(), request, &b[..len], &mut [])?;
        Ok(0)
    }
}
