//! Waiting for many files at once: the engine of poll, select and their relatives.
use super::file::OpenFile;
use super::prelude::*;
use crate::sched::{self, Breath};

/// Files that are looked at before others may get on.
pub const PIECE: usize = 256;

/// One watched file.
pub struct Watch {
    /// The file; `None` reports POLLNVAL.
    pub file: Option<Arc<OpenFile>>,
    /// Events asked for.
    pub events: u32,
    /// Events found.
    pub found: u32,
}

/// Of many files, others get on between pieces.
fn scan(list: &mut [Watch]) -> usize {
    let (mut n, mut breath) = (0, Breath::begin());
    for (i, w) in list.iter_mut().enumerate() {
        if i % PIECE == PIECE - 1 {
            breath.take();
        }
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
    let (mut queues, mut breath) = (Vec::new(), Breath::begin());
    for piece in list.chunks(PIECE) {
        piece.iter().filter_map(|w| w.file.as_ref()).for_each(|f| f.queues(&mut queues));
        breath.take();
    }
    if queues.is_empty() {
        // Nothing will wake us but time or a signal.
        queues.push(Arc::new(WaitQueue::new()));
    }
    let found = || match scan(list) {
        0 => None,
        n => Some(n),
    };
    let r = if queues.len() < PIECE {
        sched::wait_any(&queues, deadline, found)
    } else {
        sched::wait_many(&queues, deadline, found)
    };
    if r == Err(ETIMEDOUT) { Ok(0) } else { r }
}
