//! Capabilities (capabilities(7)): what a process may do beyond its ids, and how the sets follow ids and exec.
//!
//! The sets are a thread's (`Task::cred`). Files carry none, so exec gives what root's rule and the ambient set give.
//! Neighbours: `syscall::caps` reads and sets them, `Cred::capable` asks.
use super::Cred;
use crate::errno::{Errno, Result};

/// CAP_CHOWN.
pub const CHOWN: u32 = 0;
/// CAP_DAC_OVERRIDE.
pub const DAC_OVERRIDE: u32 = 1;
/// CAP_DAC_READ_SEARCH.
pub const DAC_READ_SEARCH: u32 = 2;
/// CAP_FOWNER.
pub const FOWNER: u32 = 3;
/// CAP_FSETID.
pub const FSETID: u32 = 4;
/// CAP_KILL.
pub const KILL: u32 = 5;
/// CAP_SETGID.
pub const SETGID: u32 = 6;
/// CAP_SETUID.
pub const SETUID: u32 = 7;
/// CAP_SETPCAP.
pub const SETPCAP: u32 = 8;
/// CAP_NET_BIND_SERVICE.
pub const NET_BIND_SERVICE: u32 = 10;
/// CAP_IPC_LOCK.
pub const IPC_LOCK: u32 = 14;
/// CAP_IPC_OWNER.
pub const IPC_OWNER: u32 = 15;
/// CAP_SYS_CHROOT.
pub const SYS_CHROOT: u32 = 18;
/// CAP_SYS_PTRACE.
pub const SYS_PTRACE: u32 = 19;
/// CAP_SYS_ADMIN.
pub const SYS_ADMIN: u32 = 21;
/// CAP_SYS_NICE.
pub const SYS_NICE: u32 = 23;
/// CAP_SYS_RESOURCE.
pub const SYS_RESOURCE: u32 = 24;
/// CAP_MKNOD.
pub const MKNOD: u32 = 27;
/// CAP_LEASE.
pub const LEASE: u32 = 28;
/// CAP_WAKE_ALARM.
pub const WAKE_ALARM: u32 = 35;
/// The last one there is: CAP_CHECKPOINT_RESTORE.
pub const LAST: u32 = 40;
/// All of them.
pub const ALL: u64 = (1 << (LAST + 1)) - 1;

/// The sets of a thread.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// In force.
    pub effective: u64,
    /// What may be put in force.
    pub permitted: u64,
    /// What exec may hand on.
    pub inheritable: u64,
    /// What exec can give at most.
    pub bounding: u64,
    /// What exec keeps without the file's help.
    pub ambient: u64,
    /// PR_SET_KEEPCAPS: leaving root keeps the permitted ones.
    pub keep: bool,
}

impl Caps {
    /// What a process of this user starts with.
    pub const fn of(uid: u32) -> Self {
        let own = if uid == 0 { ALL } else { 0 };
        Self { effective: own, permitted: own, inheritable: 0, bounding: ALL, ambient: 0, keep: false }
    }
    /// capset(2): EPERM if it would add something that was not permitted.
    pub fn set(&mut self, effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
        let may_inherit = self.inheritable | self.permitted;
        let reach = if self.has(SETPCAP) { may_inherit | self.bounding } else { may_inherit };
        let bounded = self.inheritable | self.bounding;
        let adds = permitted & !self.permitted != 0 || effective & !permitted != 0;
        if adds || inheritable & !reach != 0 || inheritable & !bounded != 0 {
            return Err(Errno::EPERM);
        }
        (self.effective, self.permitted, self.inheritable) = (effective, permitted, inheritable);
        self.ambient &= permitted & inheritable;
        Ok(())
    }
    /// Is it in force?
    pub const fn has(&self, cap: u32) -> bool {
        self.effective & (1 << cap) != 0
    }
}

impl Default for Caps {
    fn default() -> Self {
        Self::of(0)
    }
}

impl Cred {
    /// May the process do what this capability allows?
    pub fn capable(&self, cap: u32) -> bool {
        self.caps.has(cap)
    }
    /// The sets after a change of user ids.
    pub fn follow_ids(&mut self, old: [u32; 3]) {
        let new = [self.uid, self.euid, self.suid];
        let c = &mut self.caps;
        if old.contains(&0) && !new.contains(&0) {
            c.ambient = 0;
            if !c.keep {
                (c.permitted, c.effective) = (0, 0);
            }
        }
        match (old[1], new[1]) {
            (0, 1..) => c.effective = 0,
            (1.., 0) => c.effective = c.permitted,
            _ => {}
        }
    }
    /// Those that have to do with files, after a change of the user for files.
    pub fn follow_fs_id(&mut self, old: u32) {
        /// CAP_LINUX_IMMUTABLE and CAP_MAC_OVERRIDE, which nothing here asks for, are of them.
        const OF_FILES: u64 = 1 << CHOWN
            | 1 << DAC_OVERRIDE
            | 1 << DAC_READ_SEARCH
            | 1 << FOWNER
            | 1 << FSETID
            | 1 << 9
            | 1 << MKNOD
            | 1 << 32;
        let c = &mut self.caps;
        match (old, self.fsuid) {
            (0, 1..) => c.effective &= !OF_FILES,
            (1.., 0) => c.effective |= c.permitted & OF_FILES,
            _ => {}
        }
    }
    /// Ids and sets after exec of a file without capabilities.
    pub fn follow_exec(&mut self) {
        (self.suid, self.fsuid) = (self.euid, self.euid);
        (self.sgid, self.fsgid) = (self.egid, self.egid);
        let root = self.uid == 0 || self.euid == 0;
        let c = &mut self.caps;
        c.permitted = if root { c.inheritable | c.bounding } else { c.ambient };
        c.effective = if self.euid == 0 { c.permitted } else { c.ambient };
        c.keep = false;
    }
}
