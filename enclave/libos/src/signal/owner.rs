//! Owners of open files: who is told of what happens to them, and with which signal (F_SETOWN, F_SETSIG).
//!
//! Neighbours: `fs::sigio` and `fs::dnotify` say what happens. Invariant: an owner is told only where whoever set him could
//! have sent him the signal.
use super::{Info, post_process, post_task};
use crate::errno::{Errno, Result};
use crate::process::{Process, Task};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use occlum_linux_abi::sig::SI_SIGIO;
use occlum_linux_abi::signo::*;

/// What happened, as `si_code` says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Band {
    /// Something to read.
    In = 1,
    /// Room to write.
    Out = 2,
    /// A directory that is watched changed.
    Message = 3,
    /// An error.
    Error = 4,
    /// Urgent data.
    Urgent = 5,
    /// The other end hung up.
    HangUp = 6,
    /// Of which file and what is not known: who hears it looks.
    Any,
}

impl Band {
    /// `si_band`.
    fn events(self) -> u64 {
        match self {
            Band::In => 0x41,
            Band::Out => 0x304,
            Band::Message => 0x441,
            Band::Error => 0x8,
            Band::Urgent => 0x82,
            Band::HangUp => 0x18,
            Band::Any => 0,
        }
    }
    fn info(self, sig: i32, fd: i32) -> Info {
        // Those have codes of their own with the same numbers.
        let ambiguous = matches!(sig as u32, SIGILL | SIGTRAP | SIGBUS | SIGFPE | SIGSEGV | SIGCHLD | SIGSYS);
        let code = if ambiguous { SI_SIGIO } else { self as i32 };
        Info { code, payload: [self.events(), u64::from(fd as u32), 0, 0] }
    }
}

/// Whom F_SETOWN and F_SETOWN_EX name.
#[derive(Clone, Default)]
enum Who {
    #[default]
    Nobody,
    Thread(Weak<Task>),
    Process(Weak<Process>),
    Group(i32),
}

/// F_OWNER_*.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// F_OWNER_TID.
    Thread = 0,
    /// F_OWNER_PID.
    Process = 1,
    /// F_OWNER_PGRP.
    Group = 2,
}

/// Who is told, with which signal, and by whose rights.
#[derive(Clone, Default)]
pub struct Owner {
    who: Who,
    kind: u8,
    uid: u32,
    euid: u32,
    /// F_SETSIG; 0: SIGIO without more.
    pub sig: i32,
}

/// Who gets a signal.
enum Receiver {
    Thread(Arc<Task>),
    Process(Arc<Process>),
}
impl Receiver {
    fn process(&self) -> &Process {
        match self {
            Self::Thread(t) => &t.process,
            Self::Process(p) => p,
        }
    }
    fn post(&self, sig: i32, info: Info) -> Result<()> {
        match self {
            Self::Thread(t) => post_task(t, sig, info),
            Self::Process(p) => post_process(p, sig, info),
        }
    }
}

impl Owner {
    /// Names the owner; 0 nobody. ESRCH.
    pub fn set(&mut self, kind: Kind, id: i32) -> Result<()> {
        let process = || Process::by_pid(id).or_else(|| Task::by_tid(id).map(|t| t.process.clone()));
        self.who = match kind {
            _ if id == 0 => Who::Nobody,
            Kind::Thread => Who::Thread(Arc::downgrade(&Task::by_tid(id).ok_or(Errno::ESRCH)?)),
            Kind::Process => Who::Process(Arc::downgrade(&process().ok_or(Errno::ESRCH)?)),
            Kind::Group if id > 0 && Process::all().iter().any(|p| p.pgid.get() == id || p.pid == id) => {
                Who::Group(id)
            }
            Kind::Group => return Err(Errno::ESRCH),
        };
        self.kind = kind as u8;
        (self.uid, self.euid) = crate::process::current().with_cred(|c| (c.uid, c.euid));
        Ok(())
    }
    /// The same, where nobody was named before.
    pub fn set_first(&mut self, kind: Kind, id: i32) {
        if matches!(self.who, Who::Nobody) {
            // Who has gone is not told.
            let _ = self.set(kind, id);
        }
    }
    /// Kind (F_OWNER_*) and id; 0 once it has ended.
    pub fn get(&self) -> (u8, i32) {
        let id = match &self.who {
            Who::Nobody => 0,
            Who::Thread(t) => t.upgrade().map_or(0, |t| t.tid),
            Who::Process(p) => p.upgrade().map_or(0, |p| p.pid),
            Who::Group(g) if Process::all().iter().any(|p| p.pgid.get() == *g) => *g,
            Who::Group(_) => 0,
        };
        (self.kind, id)
    }
    /// Tells that something happened to the file that was `fd` when it was asked for. Without room for a real-time signal
    /// that says more, it is SIGIO after all; urgent data has a signal of its own (`tell_urgent`).
    pub fn tell(&self, fd: i32, band: Band) {
        if band == Band::Urgent && self.sig == 0 {
            return;
        }
        for to in self.told() {
            if self.sig == 0 || to.post(self.sig, band.info(self.sig, fd)).is_err() {
                // A classic signal of the kernel's: it always has room.
                let _ = to.post(SIGIO as i32, Info::kernel());
            }
        }
    }
    /// Urgent data has arrived.
    pub fn tell_urgent(&self) {
        for to in self.told() {
            let _ = to.post(SIGURG as i32, Info::kernel());
        }
    }
    /// Whom to send signals to.
    fn told(&self) -> Vec<Receiver> {
        let mut all = match &self.who {
            Who::Nobody => Vec::new(),
            Who::Thread(t) => t.upgrade().map(Receiver::Thread).into_iter().collect(),
            Who::Process(p) => p.upgrade().map(Receiver::Process).into_iter().collect(),
            Who::Group(g) => {
                let group = Process::all().into_iter().filter(|p| p.pgid.get() == *g);
                group.map(Receiver::Process).collect()
            }
        };
        all.retain(|to| self.may_tell(to.process()));
        all
    }
    fn may_tell(&self, p: &Process) -> bool {
        let (uid, suid) = p.with_cred(|c| (c.uid, c.suid));
        self.euid == 0 || [self.uid, self.euid].iter().any(|id| *id == uid || *id == suid)
    }
}
