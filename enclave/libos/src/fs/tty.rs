//! The terminal: job control, and ioctls that the host's terminal answers.
//!
//! Line discipline and echo are the host's; session and foreground group are ours. The signal code
//! asks `foreground_pgrp` where a key's signal goes. Terminals are numbered as /dev/pts shows them; the one that the
//! enclave was started with, if there is one, is number 0.
use super::env;
use super::host::{self, HostFd};
use super::prelude::*;
use crate::uaccess;

/// A terminal.
pub struct Tty {
    /// A host descriptor of it.
    host: Arc<HostFd>,
    /// Its number in /dev/pts.
    index: usize,
    session: BklCell<i32>,
    foreground: BklCell<i32>,
}

/// A place in /dev/pts.
struct Place {
    tty: Weak<Tty>,
    /// Keeps it while a session has it, or for ever.
    held: Option<Arc<Tty>>,
}

static PLACES: BklCell<Vec<Place>> = BklCell::new(Vec::new());
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
    let t = create(host, 1);
    CONSOLE.set(Some(t.clone()));
    t
}
/// Creates a terminal that controls the session `sid`, whose leader is the foreground group; 0: nobody's.
pub fn create(host: &Arc<HostFd>, sid: i32) -> Arc<Tty> {
    PLACES.with_mut(|places| {
        let free = places.iter().position(|p| p.tty.strong_count() == 0);
        let index = free.unwrap_or(places.len());
        let (session, foreground) = (BklCell::new(sid), BklCell::new(sid));
        let t = Arc::new(Tty { host: host.clone(), index, session, foreground });
        let place = Place { tty: Arc::downgrade(&t), held: (sid != 0).then(|| t.clone()) };
        match places.get_mut(index) {
            Some(p) => *p = place,
            None => places.push(place),
        }
        t
    })
}
/// The terminal with this number.
pub fn by_index(index: usize) -> Option<Arc<Tty>> {
    PLACES.with(|p| p.get(index)?.tty.upgrade())
}
/// The terminal that controls the session.
pub fn of_session(sid: i32) -> Option<Arc<Tty>> {
    PLACES.with(|p| p.iter().filter_map(|p| p.tty.upgrade()).find(|t| t.session.get() == sid && sid != 0))
}
/// The group that gets the signals of the terminal that the enclave was started with.
pub fn foreground_pgrp() -> Option<i32> {
    console().map(|t| t.foreground.get()).filter(|g| *g > 0)
}
/// The group that gets the signals of a session's terminal.
pub fn foreground_of(sid: i32) -> Option<i32> {
    of_session(sid).map(|t| t.foreground.get()).filter(|g| *g > 0)
}
/// A session leader has ended: its terminal is free, the foreground group hangs up.
pub fn session_ended(sid: i32) {
    if let Some(t) = of_session(sid) {
        drop(PLACES.with_mut(|p| p.get_mut(t.index).and_then(|p| p.held.take())));
        let group = t.foreground.replace(0);
        t.session.set(0);
        if group > 0 {
            env::signal_group(group, SIGHUP);
            env::signal_group(group, SIGCONT);
        }
    }
}

impl Tty {
    /// Its number in /dev/pts.
    pub fn index(&self) -> usize {
        self.index
    }
    /// The host's descriptor of it.
    pub fn host(&self) -> &Arc<HostFd> {
        &self.host
    }
    /// Foreground process group.
    pub fn foreground_pgrp(&self) -> i32 {
        self.foreground.get()
    }
    /// A background job may not do that: `sig` to its group, unless that would do nothing.
    fn check_background(&self, sig: i32) -> Result<()> {
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
    /// Before a write.
    pub fn check_write(&self) -> Result<()> {
        let (pgid, sid, _) = env::job();
        if sid != self.session.get() || pgid == self.foreground.get() || !self.tostop() {
            return Ok(());
        }
        self.check_background(SIGTTOU)
    }
    fn tostop(&self) -> bool {
        let mut t = [0u8; 36];
        let lflag = |t: &[u8; 36]| u32::from_le_bytes([t[12], t[13], t[14], t[15]]);
        host::ioctl(self.host.number(), TCGETS, &[], &mut t).is_ok() && lflag(&t) & TOSTOP != 0
    }

    /// ioctl(2).
    pub fn ioctl(&self, request: u32, arg: u64) -> Result<usize> {
        match request {
            TIOCGPGRP => self.get_pgrp(arg),
            TIOCSPGRP => self.set_pgrp(uaccess::read_val(arg)?),
            TIOCGSID => {
                self.own_session()?;
                uaccess::write_val(arg, self.session.get())?;
                Ok(0)
            }
            TIOCSCTTY => self.acquire(arg),
            TIOCNOTTY => self.release(),
            TCSBRK | TCXONC | TCFLSH => Ok(0),
            TCGETS => self.forward_out(request, arg, 36),
            TIOCGWINSZ => self.forward_out(request, arg, 8),
            FIONREAD => self.forward_out(request, arg, 4),
            TCSETS | TCSETSW | TCSETSF => {
                self.check_background(SIGTTOU)?;
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
    fn own_session(&self) -> Result<()> {
        let (_, sid, _) = env::job();
        if sid == self.session.get() { Ok(()) } else { Err(ENOTTY) }
    }
    fn get_pgrp(&self, arg: u64) -> Result<usize> {
        self.own_session()?;
        uaccess::write_val(arg, self.foreground.get())?;
        Ok(0)
    }
    fn set_pgrp(&self, pgid: i32) -> Result<usize> {
        self.own_session()?;
        if pgid < 0 {
            return Err(EINVAL);
        }
        self.check_background(SIGTTOU)?;
        if !env::group_in_session(pgid, self.session.get()) {
            return Err(EPERM);
        }
        self.foreground.set(pgid);
        Ok(0)
    }
    fn acquire(&self, force: u64) -> Result<usize> {
        let (pgid, sid, leader) = env::job();
        if !leader {
            return Err(EPERM);
        }
        let owner = self.session.get();
        if owner == sid {
            return Ok(0);
        }
        if owner != 0 && (force != 1 || !env::cred().is_root()) {
            return Err(EPERM);
        }
        self.session.set(sid);
        self.foreground.set(pgid);
        Ok(0)
    }
    fn release(&self) -> Result<usize> {
        self.own_session()?;
        let (_, sid, leader) = env::job();
        if leader {
            session_ended(sid);
        }
        Ok(0)
    }
}
