//! Who may look into a process: at its memory, its descriptors, where things are in it (ptrace(2), "Ptrace access mode
//! checking").
//!
//! Reading and attaching are one: no security module tells them apart. Neighbours: `syscall::peers`, `syscall::pidfd` and
//! `fs::proc` ask; `Task::set_cred` and exec say when nobody of the process's own ids may any more (`Mm::dumpable`).
use super::{Cred, Process, Task, caps, cred, try_current};

/// By which of the caller's ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ids {
    /// Those for files: who asks by a name in /proc.
    Files,
    /// The real ones.
    Real,
}

impl Task {
    /// May the caller look into the task?
    pub fn may_be_seen(&self, by: Ids) -> bool {
        self.process.lets_see(&self.cred(), by)
    }
}

impl Process {
    /// May the caller look into the process?
    pub fn may_be_seen(&self, by: Ids) -> bool {
        self.lets_see(&self.cred(), by)
    }

    fn lets_see(&self, its: &Cred, by: Ids) -> bool {
        if try_current().is_some_and(|t| core::ptr::eq(&*t.process, self)) {
            return true;
        }
        let me = cred();
        let (uid, gid, rights) = match by {
            Ids::Files => (me.fsuid, me.fsgid, me.caps.effective),
            Ids::Real => (me.uid, me.gid, me.caps.permitted),
        };
        let same = [its.uid, its.euid, its.suid] == [uid; 3] && [its.gid, its.egid, its.sgid] == [gid; 3];
        let has_less = its.caps.permitted & !rights == 0;
        me.capable(caps::SYS_PTRACE) || same && has_less && self.is_dumpable() != Some(false)
    }

    /// May it be looked into by whoever has its ids? `None`: it has no memory.
    pub fn is_dumpable(&self) -> Option<bool> {
        self.mm().map(|mm| mm.dumpable.get())
    }
}
