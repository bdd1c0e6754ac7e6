//! epoll: a set of watched files, level- or edge-triggered, one-shot.
//!
//! The set is scanned at each wait. Edges are told by the file's count of events: an item is reported again
//! only when that has moved. Items hold their file weakly: closing the last descriptor takes it out of the
//! set.
use super::file::{File, Notify, OpenFile};
use super::prelude::*;
use crate::sched;

const EPOLLEXCLUSIVE: u32 = 1 << 28;
const EPOLLWAKEUP: u32 = 1 << 29;
const EPOLLONESHOT: u32 = 1 << 30;
const EPOLLET: u32 = 1 << 31;
/// What may stand beside EPOLLEXCLUSIVE.
const WITH_EXCLUSIVE: u32 = POLL_IN | POLL_OUT | POLLERR | POLLHUP | EPOLLET | EPOLLWAKEUP | EPOLLEXCLUSIVE;
const CONTROL: u32 = EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET;

/// Sets within sets.
const NESTS: usize = 4;
const CLEAN_LEAST: usize = 64;

struct Item {
    file: Weak<OpenFile>,
    events: u32,
    data: u64,
    /// Count of events when it was last reported, for edges.
    seen: Option<u64>,
    /// One-shot and fired.
    off: bool,
}

/// An epoll set.
pub struct Epoll {
    items: BklCell<BTreeMap<(i32, u64), Item>>,
    /// Size of the set at which items of closed files are looked for: so seldom that adding many stays cheap.
    clean_at: BklCell<usize>,
    changed: Notify,
    me: Weak<Epoll>,
    /// Sets that hold this one.
    outer: BklCell<Vec<Weak<Epoll>>>,
}

impl Epoll {
    /// An empty set.
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            items: BklCell::new(BTreeMap::new()),
            clean_at: BklCell::new(CLEAN_LEAST),
            changed: Notify::new(),
            me: me.clone(),
            outer: BklCell::new(Vec::new()),
        })
    }
    fn files(&self) -> Vec<Arc<OpenFile>> {
        self.items.with(|i| i.values().filter(|i| !i.off).filter_map(|i| i.file.upgrade()).collect())
    }
    /// How many sets deep this one's nesting is; ELOOP if it is deeper than may be, or leads to `to`.
    fn depth_to(&self, to: &Epoll, left: usize) -> Result<usize> {
        if core::ptr::eq(self, to) || left == 0 {
            return Err(ELOOP);
        }
        let all = self.items.with(|i| i.values().filter_map(|i| i.file.upgrade()).collect::<Vec<_>>());
        let inner = all.iter().filter_map(|f| f.downcast::<Epoll>());
        inner.map(|e| e.depth_to(to, left - 1)).try_fold(1, |most, d| Ok(most.max(d? + 1)))
    }
    fn holds(&self, inner: &Epoll) -> bool {
        let all = self.items.with(|i| i.values().filter_map(|i| i.file.upgrade()).collect::<Vec<_>>());
        all.iter().filter_map(|f| f.downcast::<Epoll>()).any(|e| core::ptr::eq(e, inner))
    }
    /// How many sets this one is in, one in another.
    fn height(&self, left: usize) -> usize {
        let outer = self.outer.with(|o| o.iter().filter_map(Weak::upgrade).collect::<Vec<_>>());
        let held = outer.iter().filter(|e| e.holds(self));
        match left {
            0 => 0,
            _ => held.map(|e| e.height(left - 1) + 1).max().unwrap_or(0),
        }
    }
    /// Sets nest, but in no circles and only so deep that walking them needs little stack.
    fn check_nesting(&self, inner: &Epoll) -> Result<()> {
        let below = inner.depth_to(self, NESTS + 1)?;
        if below + self.height(NESTS + 1) > NESTS {
            return Err(ELOOP);
        }
        inner.outer.with_mut(|o| {
            o.retain(|w| w.strong_count() > 0);
            o.push(self.me.clone());
        });
        Ok(())
    }
    /// EPOLL_CTL_ADD.
    pub fn add(&self, fd: i32, file: &Arc<OpenFile>, events: u32, data: u64) -> Result<()> {
        if file.special().is_none() {
            return Err(EPERM);
        }
        let inner = file.downcast::<Epoll>();
        if inner.is_some_and(|inner| core::ptr::eq(inner, self)) {
            return Err(EINVAL);
        }
        if events & EPOLLEXCLUSIVE != 0 && (inner.is_some() || events & !WITH_EXCLUSIVE != 0) {
            return Err(EINVAL);
        }
        if let Some(inner) = inner {
            self.check_nesting(inner)?;
        }
        crate::mm::admit(256)?;
        let item = Item { file: Arc::downgrade(file), events, data, seen: None, off: false };
        self.items.with_mut(|m| {
            if m.len() >= self.clean_at.get() {
                m.retain(|_, i| i.file.strong_count() > 0);
                self.clean_at.set((2 * m.len()).max(CLEAN_LEAST));
            }
            if m.contains_key(&(fd, file.id)) {
                return Err(EEXIST);
            }
            m.insert((fd, file.id), item);
            Ok(())
        })?;
        self.changed.notify();
        Ok(())
    }
    /// EPOLL_CTL_MOD; EPOLLEXCLUSIVE is for good.
    pub fn modify(&self, fd: i32, file: &Arc<OpenFile>, events: u32, data: u64) -> Result<()> {
        self.items.with_mut(|m| {
            let i = m.get_mut(&(fd, file.id)).ok_or(ENOENT)?;
            if (events | i.events) & EPOLLEXCLUSIVE != 0 {
                return Err(EINVAL);
            }
            (i.events, i.data, i.seen, i.off) = (events, data, None, false);
            Ok(())
        })?;
        self.changed.notify();
        Ok(())
    }
    /// EPOLL_CTL_DEL.
    pub fn remove(&self, fd: i32, file: &Arc<OpenFile>) -> Result<()> {
        self.items.with_mut(|m| m.remove(&(fd, file.id)).map(drop).ok_or(ENOENT))
    }
    /// The ready ones, at most `max`; `take` marks them as reported.
    fn ready(&self, max: usize, take: bool) -> Vec<(u32, u64)> {
        let list: Vec<_> = self.items.with(|m| {
            let live = m.iter().filter(|(_, i)| !i.off);
            live.filter_map(|(k, i)| Some((*k, i.file.upgrade()?, i.events, i.data, i.seen))).collect()
        });
        let mut out = Vec::new();
        for (key, file, events, data, seen) in list {
            if out.len() >= max {
                break;
            }
            let seq = file.special().map_or(0, |s| s.seq());
            if events & EPOLLET != 0 && seen == Some(seq) {
                continue;
            }
            let want = events & !CONTROL;
            let found = file.poll(want) & (want | POLLERR | POLLHUP);
            if found == 0 {
                continue;
            }
            out.push((found, data));
            if take {
                self.items.with_mut(|m| {
                    if let Some(i) = m.get_mut(&key) {
                        i.seen = Some(seq);
                        i.off = events & EPOLLONESHOT != 0;
                    }
                });
            }
        }
        out
    }
    /// Waits for events until the deadline.
    pub fn wait(&self, max: usize, deadline: Option<u64>) -> Result<Vec<(u32, u64)>> {
        loop {
            let now = self.ready(max, true);
            if !now.is_empty() {
                return Ok(now);
            }
            if deadline.is_some_and(|d| d <= crate::time::monotonic_ns()) {
                // Who never waits would hear of the host's sockets only by chance.
                return Ok(if crate::net::host::refresh() { self.ready(max, true) } else { now });
            }
            let files = self.files();
            let mut queues = vec![self.changed.queue()];
            for f in &files {
                f.queues(&mut queues);
            }
            let own = super::poll::own_deadline(files.iter());
            let until = match (deadline, own) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            let version = self.changed.seq();
            let r = sched::wait_any(&queues, until, || {
                let some = !self.ready(1, false).is_empty() || self.changed.seq() != version;
                some.then_some(())
            });
            match r {
                Ok(()) | Err(ETIMEDOUT) => {}
                Err(e) => return Err(e),
            }
        }
    }
}
impl File for Epoll {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn poll(&self, _want: u32) -> u32 {
        if self.ready(1, false).is_empty() { 0 } else { POLL_IN }
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.changed.queue());
        for f in self.files() {
            f.queues(out);
        }
    }
    fn deadline(&self) -> Option<u64> {
        super::poll::own_deadline(self.files().iter())
    }
    fn seq(&self) -> u64 {
        self.files()
            .iter()
            .filter_map(|f| f.special().map(|s| s.seq()))
            .fold(self.changed.seq(), u64::wrapping_add)
    }
}
