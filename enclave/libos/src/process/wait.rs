//! wait4 and waitid: a child's change of state.
//!
//! Invariant: each end is reported once (and reaps), each stop or continue once, unless WNOWAIT leaves it.
use super::exit::reap;
use super::{Process, WaitStatus, current_process};
use crate::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_linux_abi::wait as w;

/// Which children wait4/waitid asks for.
#[derive(Clone, Copy)]
pub enum WaitFor {
    /// Any child.
    Any,
    /// This pid.
    Pid(i32),
    /// Children of this group.
    Group(i32),
}

/// One wait result.
pub struct Waited {
    /// The child.
    pub process: Arc<Process>,
    /// Status in wait4's encoding.
    pub status: WaitStatus,
}

/// Waits for a child's change of state. `Ok(None)` under WNOHANG when none is ready; ECHILD without children.
pub fn do_wait(which: WaitFor, options: u32) -> Result<Option<Waited>> {
    let me = current_process();
    let matches = |c: &Arc<Process>| match which {
        WaitFor::Any => true,
        WaitFor::Pid(pid) => c.pid == pid,
        WaitFor::Group(g) => c.pgid.get() == g,
    };
    let mut poll = || -> Option<Result<Option<Waited>>> {
        let candidates: Vec<_> = me.children.with(|c| c.iter().filter(|c| matches(c)).cloned().collect());
        if candidates.is_empty() {
            return Some(Err(Errno::ECHILD));
        }
        for c in &candidates {
            if let Some(status) = ready_status(c, options) {
                if c.exit_status.get().is_some() && options & w::WNOWAIT == 0 {
                    reap(&me, c);
                }
                return Some(Ok(Some(Waited { process: c.clone(), status })));
            }
        }
        if options & w::WNOHANG != 0 { Some(Ok(None)) } else { None }
    };
    let queue = me.child_event.clone();
    queue.wait_until(None, &mut poll)?
}

pub(super) fn ready_status(c: &Arc<Process>, options: u32) -> Option<WaitStatus> {
    if let Some(s) = c.exit_status.get() {
        return (options & w::WEXITED != 0).then_some(s);
    }
    let event = c.job_event.get()?;
    let wanted = if event == 0xffff { w::WCONTINUED } else { w::WSTOPPED };
    if options & wanted == 0 {
        return None;
    }
    if options & w::WNOWAIT == 0 {
        c.job_event.set(None);
    }
    Some(event)
}
