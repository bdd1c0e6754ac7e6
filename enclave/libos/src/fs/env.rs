//! The one place where the file side asks the rest of the LibOS: who runs, with which files, rights and
//! limits.
use super::file::OpenFile;
use super::path::Cred;
use super::prelude::*;
use super::table::{FileTable, FsContext};
use crate::process::caps::Caps;
use crate::process::{self, Groups, Process, Restart};

const RLIMIT_FSIZE: usize = 1;
const RLIMIT_NOFILE: usize = 7;
/// Rights of the first process, for what happens before any task runs.
static FIRST: BklCell<(u32, u32)> = BklCell::new((0, 0));
/// Remembers the first process's user and group.
pub fn set_first_owner(uid: u32, gid: u32) {
    FIRST.set((uid, gid));
}

fn try_process() -> Option<Arc<Process>> {
    process::with_current(|t| t.process.clone())
}
/// Looks at the credentials of the running thread, if one runs.
fn with_cred<R>(f: impl FnOnce(&process::Cred) -> R) -> Option<R> {
    process::with_current(|t| t.with_cred(f))
}
/// Files of the current process.
pub fn files() -> Arc<FileTable> {
    process::with_current(|t| t.process.files()).unwrap_or_else(FileTable::empty)
}
/// From now on the current process has a descriptor table of its own.
pub fn unshare_files() -> Result<()> {
    let p = process::current_process();
    if let Some(files) = p.files.with(Clone::clone)
        && Arc::strong_count(&files) > 2
    {
        let own = files.dup_all()?;
        drop(p.files.replace(Some(own)));
    }
    Ok(())
}
/// An open file of the current process. EBADF.
pub fn file(fd: i32) -> Result<Arc<OpenFile>> {
    process::with_current(|t| t.process.files.with(|f| f.as_ref().map_or(Err(EBADF), |f| f.get(fd))))
        .unwrap_or(Err(EBADF))
}
/// Root, cwd and umask of the current process; those of the first one before it runs.
pub fn fs() -> Arc<FsContext> {
    try_process().map_or_else(super::boot_context, |p| p.fs())
}
/// Effective rights of the current process.
pub fn cred() -> Cred {
    let (uid, gid) = FIRST.get();
    let first = || Cred { uid, gid, groups: Groups::default(), caps: Caps::of(uid).effective };
    with_cred(|c| Cred { uid: c.fsuid, gid: c.fsgid, groups: c.groups.clone(), caps: c.caps.effective })
        .unwrap_or_else(first)
}
/// May the current process do what this capability allows?
pub fn capable(cap: u32) -> bool {
    with_cred(|c| c.capable(cap)).unwrap_or_else(|| cred().can(cap))
}
/// Real rights (access(2)).
pub fn real_cred() -> Cred {
    let c = process::cred();
    let caps = if c.uid == 0 { c.caps.permitted } else { 0 };
    Cred { uid: c.uid, gid: c.gid, groups: c.groups, caps }
}
/// Real user of the current process.
pub fn real_uid() -> u32 {
    with_cred(|c| c.uid).unwrap_or(FIRST.get().0)
}
/// (pid, uid, gid) of the current process, for SCM_CREDENTIALS and SO_PEERCRED.
pub fn peer() -> (i32, u32, u32) {
    let c = process::cred();
    (process::current_process().pid, c.euid, c.egid)
}
/// Most descriptors of the current process.
pub fn nofile() -> usize {
    try_process().map_or(1024, |p| p.rlimit(RLIMIT_NOFILE).min(1 << 20) as usize)
}
/// The call that a signal interrupts just now is not begun again.
pub fn never_restart() {
    process::with_current(|t| t.restart.set(Some(Restart::Never)));
}
/// If no handler runs, the call that a signal interrupts just now is begun again and waits until `deadline`.
pub fn restart_until(deadline: Option<u64>) {
    process::with_current(|t| t.restart.set(Some(Restart::Until(deadline))));
}
/// Until when the call waits that is begun again; `None`: it is none.
pub fn restarted() -> Option<Option<u64>> {
    process::with_current(process::Task::restarted).flatten()
}
/// Largest file the current process may write.
pub fn fsize() -> u64 {
    try_process().map_or(u64::MAX, |p| p.rlimit(RLIMIT_FSIZE))
}
/// Sends a signal to the caller.
pub fn signal_self(sig: i32) {
    if process::try_current().is_some() {
        crate::signal::send_to_current(sig);
    }
}
/// Sends a signal to a process group.
pub fn signal_group(pgid: i32, sig: i32) {
    crate::signal::send_group(pgid, sig);
}
/// Sends a signal to the process that leads a session.
pub fn signal_leader(sid: i32, sig: i32) {
    if let Some(p) = Process::by_pid(sid) {
        crate::signal::send_process(&p, sig, crate::signal::Info::kernel());
    }
}
/// Process group and session of the caller, and whether it leads the session.
pub fn job() -> (i32, i32, bool) {
    let p = process::current_process();
    let sid = p.sid.get();
    (p.pgid.get(), sid, sid == p.pid)
}
/// Is there such a group?
pub fn group_exists(pgid: i32) -> bool {
    Process::all().iter().any(|p| p.pgid.get() == pgid)
}
/// Is there such a group in that session?
pub fn group_in_session(pgid: i32, sid: i32) -> bool {
    Process::all().iter().any(|p| p.pgid.get() == pgid && p.sid.get() == sid)
}
/// Would the signal do nothing to the caller (blocked or ignored)?
pub fn signal_is_moot(sig: i32) -> bool {
    let t = process::current();
    let blocked = t.mask.get() & (1 << (sig - 1)) != 0;
    const SIG_IGN: u64 = 1;
    blocked || t.process.actions.with(|a| a.get(sig).handler == SIG_IGN)
}
/// Has the group no parent outside it in its session? Then it is not stopped but gets EIO.
pub fn group_is_orphaned(pgid: i32, sid: i32) -> bool {
    !Process::all()
        .iter()
        .filter(|p| p.pgid.get() == pgid)
        .any(|p| p.parent.with(|q| q.upgrade()).is_some_and(|q| q.pgid.get() != pgid && q.sid.get() == sid))
}
/// For ppoll and friends: blocks `mask` until the call returns. Gives the old mask for `end_mask`.
pub fn begin_mask(mask: u64) -> u64 {
    const KILL_AND_STOP: u64 = 1 << 8 | 1 << 18;
    let t = process::current();
    let old = t.mask.replace(mask & !KILL_AND_STOP);
    t.saved_mask.set(Some(old));
    old
}
/// Restores the mask, unless a signal ended the call: its delivery does that after the handler.
pub fn end_mask(old: u64, interrupted: bool) {
    if !interrupted {
        let t = process::current();
        t.mask.set(old);
        t.saved_mask.set(None);
    }
}
