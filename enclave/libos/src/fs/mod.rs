//! The file side of the LibOS: VFS, file systems, descriptors, pipes, terminals, polling.
//!
//! Order of knowledge (a module may use those below it): `syscall` -> `poll`, `epoll`, `event`,
//! `pipe`, `stream`, `pty`, `tty`, `ldisc`, `dev` -> `file`, `table`, `path`, `dentry` -> `memfs`, `bind`, `proc` -> `pages`,
//! `below` -> `host`. Invariants: everything runs under the BKL; no cell is borrowed while a task waits or while user
//! memory is touched (except a pipe's ring: a user-memory fault never comes back to a pipe); what the host
//! returns is checked in `host`.

pub mod anon;
pub mod below;
pub mod bind;
pub mod changes;
pub mod cold;
pub mod consts;
pub mod dentry;
pub mod dev;
mod dnotify;
pub mod env;
pub mod epoll;
pub mod event;
pub mod file;
mod hints;
pub mod host;
pub mod inode;
pub mod inotify;
mod keep;
pub mod ldisc;
pub mod leases;
pub mod locks;
pub mod memfs;
pub mod mount;
pub mod ops;
pub mod overlay;
pub mod pages;
pub mod path;
pub mod pidfd;
pub mod pipe;
pub mod poll;
pub(crate) mod prelude;
pub mod proc;
pub mod pty;
mod seal;
pub mod sealed;
pub mod sigio;
pub mod signalfd;
pub mod stream;
pub mod sys;
pub mod syscall;
pub mod table;
mod tmpfs;
pub mod tty;
pub mod uio;
mod xattr;

pub use env::unshare_files;
pub use file::OpenFile;
pub use inode::{Inode, InodeRef};
pub use pages::{is_thrashing, thrashing_ends};
pub use seal::{check_map, seals};
pub use stream::host_ready;
pub use table::{FileTable, FsContext};
pub use tty::{foreground_of, foreground_pgrp, session_ended};
pub use uio::try_vec;

use occlum_enclave_abi::{FLAG_TTY0, JOB_NO_TERMINAL, JobStart, LaunchParams};
use path::Last;
use prelude::*;

static TTY_FLAGS: BklCell<u32> = BklCell::new(0);

/// Builds the mounts. Called once, before any program runs.
pub fn init(params: &LaunchParams) {
    env::set_first_owner(params.uid, params.gid);
    TTY_FLAGS.set(params.flags);
    // A quarter of the enclave's memory may hold copies of host files.
    pages::set_budget(crate::mm::total() * PAGE / 4);
    crate::net::host::init(params.flags);
    mount::init(params);
}

/// The context at start: root and cwd are `/`.
pub fn boot_context() -> Arc<FsContext> {
    FsContext::new(mount::root(), mount::root(), 0o022)
}

/// The context of the first process: the cwd must be there, or `/` does instead.
pub fn first_fs(cwd: &[u8], or_root: bool) -> Result<Arc<FsContext>> {
    let ctx = boot_context();
    enter(&ctx, cwd).or_else(|e| if or_root { Ok(()) } else { Err(e) })?;
    Ok(ctx)
}

/// Makes `cwd`, which the caller must be allowed to enter, the working directory.
fn enter(ctx: &FsContext, cwd: &[u8]) -> Result<()> {
    let d = path::walk(ctx, &env::cred(), &ctx.root(), cwd, Last::Follow)?.get()?;
    if !d.inode().is_dir() {
        return Err(ENOTDIR);
    }
    d.inode().check(&env::cred(), MAY_EXEC)?;
    ctx.set_cwd(d);
    Ok(())
}

/// The table of the first process: the host's 0, 1, 2, as far as they are open.
pub fn first_files() -> Arc<FileTable> {
    let table = FileTable::empty();
    for fd in 0..3 {
        let host = host::HostFd::standard(fd);
        let is_tty = TTY_FLAGS.get() & (FLAG_TTY0 << fd) != 0;
        let tty = is_tty.then(|| tty::create_console(&host));
        let mode = match (is_tty, fd) {
            (true, _) => O_RDWR,
            (_, 0) => O_RDONLY,
            _ => O_WRONLY,
        };
        if let Some(f) = stream::open_given(stream::Given { host, mode, tty }) {
            // Below the limit: cannot fail.
            let _ = table.put(fd as i32, f, false);
        }
    }
    table
}

/// The context of a job, in its process: the cwd must be there.
pub fn job_fs(start: &JobStart) -> Result<Arc<FsContext>> {
    let ctx = boot_context();
    ctx.set_umask(start.umask);
    enter(&ctx, &start.cwd)?;
    Ok(ctx)
}

/// The descriptors that came with a job: closed whatever becomes of it.
pub struct HandedOver<'a> {
    start: &'a JobStart,
    hosts: Vec<Arc<host::HostFd>>,
}
impl<'a> HandedOver<'a> {
    /// Takes them over.
    pub fn new(start: &'a JobStart) -> Self {
        Self { start, hosts: start.files.iter().map(|f| host::HostFd::handed_over(f.host_fd)).collect() }
    }
    /// The job's table, made in its process. All its terminals are one: the one of session `sid`. What the host has
    /// closed is left out; a number that is no descriptor is an error.
    pub fn into_files(self, sid: i32) -> Result<Arc<FileTable>> {
        let table = FileTable::empty();
        let mut terminal = None;
        let sid = if self.start.flags & JOB_NO_TERMINAL != 0 { 0 } else { sid };
        for (f, host) in self.start.files.iter().zip(self.hosts) {
            if f.terminal != 0 && terminal.is_none() {
                terminal = Some(tty::create(&host, sid)?);
            }
            let tty = terminal.clone().filter(|_| f.terminal != 0);
            let fd = i32::try_from(f.guest_fd).map_err(|_| EBADF)?;
            if let Some(file) = stream::open_given(stream::Given { host, mode: f.mode, tty }) {
                table.put(fd, file, false)?;
            }
        }
        Ok(table)
    }
}

/// Opens a program: a regular file that the caller may execute.
pub fn open_exec(path: &[u8]) -> Result<Arc<OpenFile>> {
    let ctx = env::fs();
    let d = path::walk(&ctx, &env::cred(), &ctx.cwd(), path, Last::Follow)?.get()?;
    open_exec_dentry(d)
}
/// The same for execveat: `dirfd`, a path relative to it, `AT_*` flags.
pub fn open_exec_at(dirfd: i32, path: &[u8], flags: u32) -> Result<Arc<OpenFile>> {
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        return open_exec_dentry(env::file(dirfd)?.dentry().clone());
    }
    let last = if flags & AT_SYMLINK_NOFOLLOW != 0 { Last::NoFollow } else { Last::Follow };
    open_exec_dentry(ops::walk_at(dirfd, path, last)?.get()?)
}
fn open_exec_dentry(d: Arc<dentry::Dentry>) -> Result<Arc<OpenFile>> {
    let inode = d.inode();
    if inode.kind() == S_IFLNK {
        return Err(ELOOP);
    }
    env::cred().check(&inode.stat()?, MAY_EXEC)?;
    if !inode.is_regular() {
        return Err(EACCES);
    }
    inode.open(inode, O_RDONLY)?;
    inotify::about(&d, inotify::event::OPEN);
    Ok(OpenFile::new(d, None, O_RDONLY))
}

/// Could the caller open the file for reading?
pub fn may_read(f: &OpenFile) -> bool {
    f.inode().check(&env::cred(), MAY_READ).is_ok()
}

/// The path of an open file, as /proc shows it; nothing if it is too long.
pub fn path_of(f: &OpenFile) -> Vec<u8> {
    f.dentry().path().unwrap_or_default()
}

/// Memory is short: drops what can be read again.
pub fn reclaim() {
    pages::reclaim();
    sealed::reclaim();
}

/// The run is over: tells the host which paths changed.
pub fn at_exit(report_changes: bool) {
    keep::save();
    sealed::close_all();
    if report_changes {
        changes::report();
    }
}
