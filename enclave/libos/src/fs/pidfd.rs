//! pidfd: a process or a thread as a file. It keeps naming the same one, also when its number is used again; it is readable
//! once that has ended.
use super::file::{File, OpenFile};
use super::prelude::*;
use crate::process::{Process, Task};

/// A process, or one of its threads (PIDFD_THREAD).
pub struct PidFd {
    process: Arc<Process>,
    /// Its number, and the thread itself as long as it runs.
    thread: Option<(i32, Weak<Task>)>,
}

impl PidFd {
    /// The process, unless it was reaped, or the thread has ended.
    pub fn process(&self) -> Result<Arc<Process>> {
        if self.is_other_thread() && self.task().is_none() {
            return Err(ESRCH);
        }
        let same = Process::by_pid(self.process.pid).is_some_and(|p| Arc::ptr_eq(&p, &self.process));
        if same { Ok(self.process.clone()) } else { Err(ESRCH) }
    }
    /// Its pid (of a thread: the thread's), dead or alive.
    pub fn pid(&self) -> i32 {
        self.thread.as_ref().map_or(self.process.pid, |(tid, _)| *tid)
    }
    /// Does it stand for one thread?
    pub fn is_of_thread(&self) -> bool {
        self.thread.is_some()
    }
    /// The first thread of a process ends with it, and is waited for.
    fn is_other_thread(&self) -> bool {
        self.pid() != self.process.pid
    }
    fn task(&self) -> Option<Arc<Task>> {
        let (tid, task) = self.thread.as_ref()?;
        let same = |t: &Arc<Task>| Weak::ptr_eq(&Arc::downgrade(t), task);
        Task::by_tid(*tid).filter(same)
    }
}

/// An open file of a process; `flags` may have O_NONBLOCK.
pub fn open(process: &Arc<Process>, flags: u32) -> Arc<OpenFile> {
    anonymous(PidFd { process: process.clone(), thread: None }, flags)
}
/// The same of one thread.
pub fn open_thread(task: &Arc<Task>, flags: u32) -> Arc<OpenFile> {
    let thread = Some((task.tid, Arc::downgrade(task)));
    let file = anonymous(PidFd { process: task.process.clone(), thread }, flags);
    file.add_flags(PIDFD_THREAD);
    file
}
fn anonymous(f: PidFd, flags: u32) -> Arc<OpenFile> {
    OpenFile::anonymous(0, "anon_inode:[pidfd]", Arc::new(f), O_RDWR | flags & O_NONBLOCK)
}
/// In flags of the open file, too.
pub const PIDFD_THREAD: u32 = O_EXCL;

impl File for PidFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn poll(&self, _want: u32) -> u32 {
        if self.is_other_thread() {
            return if self.task().is_some() { 0 } else { POLL_IN | POLLHUP };
        }
        if self.process.exit_status.get().is_none() {
            return 0;
        }
        POLL_IN | if self.process().is_err() { POLLHUP } else { 0 }
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.process.end_event.clone());
    }
    fn info(&self) -> String {
        let pid = if self.process().is_ok() { self.pid() } else { -1 };
        alloc::format!("Pid:\t{pid}\nNSpid:\t{pid}\n")
    }
}
