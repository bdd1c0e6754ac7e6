//! What the end of something large, or a wake of very many, leaves to be done in pieces: others may be looking on there.
//!
//! A destructor may run while its caller borrows shared state, so it takes no breath (`Breath`). It leaves its work here, and
//! the task that it ran in does it when its call is over, before its program goes on, or before it sleeps. Neighbours:
//! `syscall`, `process::exit` and `sched` say when that is. Invariant: only memory and watchers of files wait for the work.
use super::{Breath, may_wait};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use occlum_rt::bkl::BklCell;

/// Does a piece that takes some microseconds; true when all is done.
type Work = Box<dyn FnMut() -> bool + Send>;

static LEFT: BklCell<Vec<Work>> = BklCell::new(Vec::new());

/// Leaves `work` for later.
pub fn leave(work: impl FnMut() -> bool + Send + 'static) {
    LEFT.with_mut(|l| l.push(Box::new(work)));
}

/// Does `f` with all values of a map: at once if they are few.
pub fn use_up<K: Ord + Send + 'static, V: Send + 'static>(
    mut map: BTreeMap<K, V>,
    mut f: impl FnMut(V) + Send + 'static,
) {
    /// So many in a piece.
    const PIECE: usize = 1 << 8;
    let mut some = move || {
        core::iter::from_fn(|| map.pop_first()).take(PIECE).for_each(|(_, v)| f(v));
        map.is_empty()
    };
    if !some() {
        leave(some);
    }
}

/// Does what is left, if anything; others get on between its pieces. The caller borrows nothing.
pub fn finish() -> bool {
    if LEFT.with(Vec::is_empty) || !may_wait() {
        return false;
    }
    let mut breath = Breath::begin();
    // What was taken is this task's alone; what comes meanwhile is somebody else's, or more of the same.
    while let Some(mut work) = LEFT.with_mut(Vec::pop) {
        while !work() {
            breath.take();
        }
    }
    true
}
