//! epoll: a set of watched files, level- or edge-triggered, one-shot, exclusive.
//!
//! A set keeps a list of the items that may be ready, so a wait costs what is ready, not what is watched. Neighbours:
//! `sched` (items watch the queues of their file), `file`. Invariants: an item whose file is ready in a way that was not
//! reported stands in the list: it comes there when it is added or changed, at each wake of a queue of its file, and stays
//! (at the end) as long as it is level-triggered and was ready at the last look. So a file must wake its queues whenever
//! `poll` may say more than before. Items hold their file weakly: closing the last descriptor takes it out of the set.
use super::file::{File, OpenFile};
use super::prelude::*;
use crate::sched::{self, Watcher};

const EPOLLEXCLUSIVE: u32 = 1 << 28;
const EPOLLWAKEUP: u32 = 1 << 29;
const EPOLLONESHOT: u32 = 1 << 30;
const EPOLLET: u32 = 1 << 31;
/// What may stand beside EPOLLEXCLUSIVE.
const WITH_EXCLUSIVE: u32 = POLL_IN | POLL_OUT | POLLERR | POLLHUP | EPOLLET | EPOLLWAKEUP | EPOLLEXCLUSIVE;
const CONTROL: u32 = EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET;
/// What every item waits for.
const ALWAYS: u32 = POLLERR | POLLHUP;

/// Sets within sets.
const NESTS: usize = 4;
const CLEAN_LEAST: usize = 64;

struct Item {
    me: Weak<Item>,
    set: Weak<Epoll>,
    file: Weak<OpenFile>,
    queues: Vec<Arc<WaitQueue>>,
    /// What it waits for, `ALWAYS` included, and what it reports. Only `CONTROL` is left of a one-shot that has fired,
    /// nothing of one that was removed.
    interest: BklCell<(u32, u64)>,
    /// Does it stand in the set's list?
    listed: BklCell<bool>,
}

impl Item {
    fn watcher(&self) -> Weak<dyn Watcher> {
        self.me.clone()
    }
    /// Its file's events that it waits for now.
    fn found(&self) -> u32 {
        let wanted = self.interest.get().0 & !CONTROL;
        match self.file.upgrade() {
            Some(file) if wanted != 0 => file.poll(wanted) & wanted,
            _ => 0,
        }
    }
    /// Takes it out for good.
    fn end(&self) {
        self.interest.set((0, 0));
        self.queues.iter().for_each(|q| q.unwatch(&self.watcher()));
    }
}

impl Watcher for Item {
    fn woken(&self, events: u32) -> bool {
        let interest = self.interest.get().0;
        let concerns = interest & !CONTROL != 0 && (events == 0 || events & interest != 0);
        let (Some(set), Some(me), true) = (self.set.upgrade(), self.me.upgrade(), concerns) else {
            return false;
        };
        // As in Linux: an exclusive item is satisfied by a waiter, and by one direction that it asked for.
        let direction = events & (POLLIN | POLLOUT);
        let suits = direction == 0 || direction != POLLIN | POLLOUT && interest & direction != 0;
        set.list(me) && suits
    }
    fn is_exclusive(&self) -> bool {
        self.interest.get().0 & EPOLLEXCLUSIVE != 0
    }
}

/// An epoll set.
pub struct Epoll {
    items: BklCell<BTreeMap<(i32, u64), Arc<Item>>>,
    /// Items that may be ready, in the order of their wakes.
    ready: BklCell<VecDeque<Arc<Item>>>,
    /// Tasks in `wait`: one is enough for one item.
    waiters: WaitQueue,
    /// Who watches the set as a file.
    pollers: Arc<WaitQueue>,
    /// Size of the set at which items of closed files are looked for: so seldom that adding many stays cheap.
    clean_at: BklCell<usize>,
    me: Weak<Epoll>,
    /// Sets that hold this one.
    outer: BklCell<Vec<Weak<Epoll>>>,
}

impl Drop for Epoll {
    fn drop(&mut self) {
        self.items.take().values().for_each(|i| i.end());
    }
}

impl Epoll {
    /// An empty set.
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            items: BklCell::new(BTreeMap::new()),
            ready: BklCell::new(VecDeque::new()),
            waiters: WaitQueue::new(),
            pollers: Arc::new(WaitQueue::new()),
            clean_at: BklCell::new(CLEAN_LEAST),
            me: me.clone(),
            outer: BklCell::new(Vec::new()),
        })
    }
    fn files(&self) -> Vec<Arc<OpenFile>> {
        self.items.with(|i| i.values().filter_map(|i| i.file.upgrade()).collect())
    }
    /// How many sets deep this one's nesting is; ELOOP if it is deeper than may be, or leads to `to`.
    fn depth_to(&self, to: &Epoll, left: usize) -> Result<usize> {
        if core::ptr::eq(self, to) || left == 0 {
            return Err(ELOOP);
        }
        let all = self.files();
        let inner = all.iter().filter_map(|f| f.downcast::<Epoll>());
        inner.map(|e| e.depth_to(to, left - 1)).try_fold(1, |most, d| Ok(most.max(d? + 1)))
    }
    fn holds(&self, inner: &Epoll) -> bool {
        self.files().iter().filter_map(|f| f.downcast::<Epoll>()).any(|e| core::ptr::eq(e, inner))
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
        let Some(special) = file.special() else { return Err(EPERM) };
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
        crate::mm::admit(512)?;
        self.clean();
        let key = (fd, file.id);
        if self.items.with(|m| m.contains_key(&key)) {
            return Err(EEXIST);
        }
        let mut queues = Vec::new();
        special.queues(&mut queues);
        let item = Arc::new_cyclic(|me| Item {
            me: me.clone(),
            set: self.me.clone(),
            file: Arc::downgrade(file),
            queues,
            interest: BklCell::new((events | ALWAYS, data)),
            listed: BklCell::new(false),
        });
        item.queues.iter().for_each(|q| q.watch(item.watcher()));
        self.items.with_mut(|m| m.insert(key, item.clone()));
        self.look_at(item, file);
        Ok(())
    }
    /// Drops items of closed files.
    fn clean(&self) {
        if self.items.with(BTreeMap::len) < self.clean_at.get() {
            return;
        }
        self.items.with_mut(|m| {
            m.retain(|_, i| {
                let is_open = i.file.strong_count() > 0;
                if !is_open {
                    i.end();
                }
                is_open
            });
            self.clean_at.set((2 * m.len()).max(CLEAN_LEAST));
        });
    }
    /// EPOLL_CTL_MOD; EPOLLEXCLUSIVE is for good.
    pub fn modify(&self, fd: i32, file: &Arc<OpenFile>, events: u32, data: u64) -> Result<()> {
        let item = self.items.with(|m| m.get(&(fd, file.id)).cloned()).ok_or(ENOENT)?;
        if (events | item.interest.get().0) & EPOLLEXCLUSIVE != 0 {
            return Err(EINVAL);
        }
        item.interest.set((events | ALWAYS, data));
        self.look_at(item, file);
        Ok(())
    }
    /// EPOLL_CTL_DEL.
    pub fn remove(&self, fd: i32, file: &Arc<OpenFile>) -> Result<()> {
        let item = self.items.with_mut(|m| m.remove(&(fd, file.id))).ok_or(ENOENT)?;
        item.end();
        self.ready.with_mut(|r| r.retain(|i| !Arc::ptr_eq(i, &item)));
        Ok(())
    }
    /// Takes the item's interest up: lists it if it is ready.
    fn look_at(&self, item: Arc<Item>, file: &Arc<OpenFile>) {
        if item.interest.get().0 & EPOLLET != 0 {
            file.special().iter().for_each(|s| s.watch_edges());
        }
        if item.found() != 0 {
            self.list(item);
        }
    }
    /// Puts an item at the end of the list, and wakes a waiter; false if there is none.
    fn list(&self, item: Arc<Item>) -> bool {
        self.enlist(item);
        let taken = self.waiters.wake_n(1) > 0;
        self.pollers.wake(POLL_IN);
        taken
    }
    fn enlist(&self, item: Arc<Item>) {
        if !item.listed.replace(true) {
            self.ready.with_mut(|r| r.push_back(item));
        }
    }
    fn is_empty(&self) -> bool {
        self.ready.with(VecDeque::is_empty)
    }
    /// The first item of the list that is ready, with what it found; others leave the list.
    fn next(&self) -> Option<(Arc<Item>, u32)> {
        for _ in 0..self.ready.with(VecDeque::len) {
            let item = self.ready.with_mut(VecDeque::pop_front)?;
            item.listed.set(false);
            let found = item.found();
            if found != 0 {
                return Some((item, found));
            }
        }
        None
    }
    fn put_back(&self, item: Arc<Item>) {
        if !item.listed.replace(true) {
            self.ready.with_mut(|r| r.push_front(item));
        }
    }
    /// Reports up to `max` items, each with its number; how many. What `report` fails at stays.
    fn collect(&self, max: usize, report: &mut Report) -> Result<usize> {
        let mut again = Vec::new();
        let mut done = Ok(0);
        for n in 0..max {
            let Some((item, found)) = self.next() else { break };
            let (events, data) = item.interest.get();
            if let Err(e) = report(n, found, data) {
                self.put_back(item);
                done = if n > 0 { done } else { Err(e) };
                break;
            }
            done = Ok(n + 1);
            if events & EPOLLONESHOT != 0 {
                item.interest.set((events & CONTROL, data));
            } else if events & EPOLLET == 0 {
                again.push(item);
            }
        }
        // Level-triggered: the next look says whether they still are.
        again.into_iter().for_each(|i| self.enlist(i));
        if !self.is_empty() {
            self.waiters.wake_one();
        }
        done
    }
    /// Waits for events until the deadline, and reports up to `max`; how many.
    pub fn wait(&self, max: usize, deadline: Option<u64>, report: &mut Report) -> Result<usize> {
        loop {
            sched::fire_timers();
            let n = self.collect(max, report)?;
            if n > 0 {
                return Ok(n);
            }
            if deadline.is_some_and(|d| d <= crate::time::monotonic_ns()) {
                // Who never waits would hear of the host's sockets only by chance.
                return if crate::host_events::refresh() { self.collect(max, report) } else { Ok(0) };
            }
            match self.waiters.wait_until(deadline, || (!self.is_empty()).then_some(())) {
                Ok(()) => {}
                Err(ETIMEDOUT) => return Ok(0),
                Err(e) => return Err(e),
            }
        }
    }
}
/// Takes an item's number in this wait, its events and its data.
pub type Report<'a> = dyn FnMut(usize, u32, u64) -> Result<()> + 'a;

impl File for Epoll {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn poll(&self, _want: u32) -> u32 {
        match self.next() {
            Some((item, _)) => {
                self.put_back(item);
                POLL_IN
            }
            None => 0,
        }
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.pollers.clone());
    }
}
