//! Waiting for many files at once: the engine of poll, select and their relatives.
use super::file::OpenFile;
use super::prelude::*;
use crate::sched;

/// One watched file.
pub struct Watch {
    /// The file; `None` reports POLLNVAL.
    pub file: Option<Arc<OpenFile>>,
    /// Events asked for.
    pub events: u32,
    /// Events found.
    pub found: u32,
}

fn scan(list: &mut [Watch]) -> usize {
    let mut n = 0;
    for w in list {
        w.found = match &w.file {
            Some(f) => f.poll(w.events) & (w.events | POLLERR | POLLHUP),
            None => POLLNVAL,
        };
        n += usize::from(w.found != 0);
    }
    n
}

/// Waits until at least one file is ready or the deadline (ns, monotonic) has passed; returns how many are.
pub fn wait(list: &mut [Watch], deadline: Option<u64>) -> Result<usize> {
    let n = scan(list);
    if n > 0 {
        return Ok(n);
    }
    if deadline.is_some_and(|d| d <= crate::time::monotonic_ns()) {
        // Who never waits would hear of the host's sockets only by chance.
        return Ok(if crate::host_events::refresh() { scan(list) } else { 0 });
    }
    let mut queues = Vec::new();
    for f in list.iter().filter_map(|w| w.file.as_ref()) {
        f.queues(&mut queues);
    }
    if queues.is_empty() {
        // Nothing will wake us but time or a signal.
        queues.push(Arc::new(WaitQueue::new()));
    }
    let r = sched::wait_any(&queues, deadline, || match scan(list) {
        0 => None,
        n => Some(n),
    });
    if r == Err(ETIMEDOUT) { Ok(0) } else { r }
}
