//! pidfd: a process as a file. It keeps naming the same process, also when the pid is used again; it is readable once
//! the process has ended.
use super::file::{File, OpenFile};
use super::prelude::*;
use crate::process::Process;

/// A process.
pub struct PidFd {
    process: Arc<Process>,
}

impl PidFd {
    /// The process, unless it was reaped.
    pub fn process(&self) -> Result<Arc<Process>> {
        let same = Process::by_pid(self.process.pid).is_some_and(|p| Arc::ptr_eq(&p, &self.process));
        if same { Ok(self.process.clone()) } else { Err(ESRCH) }
    }
    /// Its pid, dead or alive.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }
}

/// An open file of a process; `flags` may have O_NONBLOCK.
pub fn open(process: &Arc<Process>, flags: u32) -> Arc<OpenFile> {
    let f = Arc::new(PidFd { process: process.clone() });
    OpenFile::anonymous(0, "anon_inode:[pidfd]", f, O_RDWR | flags & O_NONBLOCK)
}

impl File for PidFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn poll(&self, _want: u32) -> u32 {
        if self.process.exit_status.get().is_none() {
            return 0;
        }
        POLL_IN | if self.process().is_err() { POLLHUP } else { 0 }
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.process.end_event.clone());
    }
    fn info(&self) -> String {
        let pid = if self.process().is_ok() { self.process.pid } else { -1 };
        alloc::format!("Pid:\t{pid}\nNSpid:\t{pid}\n")
    }
}
