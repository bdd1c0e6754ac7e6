//! epoll: a set of watched files, level- or edge-triggered, one-shot, exclusive.
//!
//! A set keeps a list of the items that may be ready, so a wait costs what is ready, not what is watched. Neighbours:
//! `sched` (items watch the queues of their file), `file`. Invariants: an item whose file is ready in a way that was not
//! reported stands in the list: it comes there when it is added or changed, at each wake of a queue of its file, and stays
//! (at the end) as long as it is level-triggered and was ready at the last look. So a file must wake its queues whenever
//! `poll` may say more than before. Items hold their file weakly: closing the last descriptor takes it out of the set.
mod paths;

use super::file::{File, OpenFile};
use super::prelude::*;
use crate::sched::{self, Breath, Watcher, later};
use core::ops::Bound;
use occlum_rt::mem::TryGrow;
use paths::Holders;

const EPOLLEXCLUSIVE: u32 = 1 << 28;
const EPOLLWAKEUP: u32 = 1 << 29;
const EPOLLONESHOT: u32 = 1 << 30;
const EPOLLET: u32 = 1 << 31;
/// What may stand beside EPOLLEXCLUSIVE.
const WITH_EXCLUSIVE: u32 = POLL_IN | POLL_OUT | POLLERR | POLLHUP | EPOLLET | EPOLLWAKEUP | EPOLLEXCLUSIVE;
const CONTROL: u32 = EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET;
/// What every item waits for.
const ALWAYS: u32 = POLLERR | POLLHUP;

const CLEAN_LEAST: usize = 64;
/// Items that are ended, or reported, before others may get on.
const PIECE: usize = 64;

struct Item {
    /// Its own among all items: what it watches queues by.
    id: u64,
    me: Weak<Item>,
    set: Weak<Epoll>,
    file: Weak<OpenFile>,
    file_id: u64,
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
        paths::went(&self.set, self.file_id, self.file.upgrade().as_deref());
        self.queues.iter().for_each(|q| q.unwatch(self.id));
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
    outer: BklCell<Holders>,
}

impl Drop for Epoll {
    fn drop(&mut self) {
        self.ready.take();
        let mut items = self.items.take();
        later::leave(move || {
            for _ in 0..PIECE {
                let Some((_, item)) = items.pop_first() else { return true };
                item.end();
            }
            false
        });
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
            outer: BklCell::new(Holders::new()),
        })
    }
    fn files(&self) -> Vec<Arc<OpenFile>> {
        self.items.with(|i| i.values().filter_map(|i| i.file.upgrade()).collect())
    }
    /// Sets that hold this one, and how often each does.
    fn outer_sets(&self) -> Vec<(Arc<Epoll>, usize)> {
        self.outer.with(Holders::list)
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
        let concerned = match inner {
            Some(inner) => paths::check_nesting(self, inner)?,
            None if self.outer.with(Holders::is_empty) => Vec::new(),
            None => vec![file.id],
        };
        crate::mm::admit(512)?;
        self.clean();
        let key = (fd, file.id);
        if self.items.with(|m| m.contains_key(&key)) {
            return Err(EEXIST);
        }
        self.make_room()?;
        let mut queues = Vec::new();
        special.queues(&mut queues);
        let item = Arc::new_cyclic(|me| Item {
            id: super::inode::next_id(),
            me: me.clone(),
            set: self.me.clone(),
            file: Arc::downgrade(file),
            file_id: file.id,
            queues,
            interest: BklCell::new((events | ALWAYS, data)),
            listed: BklCell::new(false),
        });
        paths::came(&self.me, file);
        if let Err(e) = paths::check_paths(&concerned) {
            paths::went(&self.me, file.id, Some(file.as_ref()));
            return Err(e);
        }
        item.queues.iter().for_each(|q| q.watch(item.id, item.watcher()));
        self.items.with_mut(|m| m.insert(key, item.clone()));
        self.look_at(item, file);
        Ok(())
    }
    /// So that one item more can be listed whatever stands in the list: a wake cannot fail.
    fn make_room(&self) -> Result<()> {
        let most = self.items.with(BTreeMap::len) + 1;
        if self.ready.with(|r| r.capacity() - r.len()) < most {
            crate::mm::admit((2 * most * size_of::<Arc<Item>>()) as u64)?;
            self.ready.with_mut(|r| r.try_room(most)).map_err(|_| ENOMEM)?;
        }
        Ok(())
    }
    /// Drops items of closed files.
    fn clean(&self) {
        if self.items.with(BTreeMap::len) < self.clean_at.get() {
            return;
        }
        let (mut from, mut breath) = ((i32::MIN, 0), Breath::begin());
        // Nobody else begins meanwhile.
        self.clean_at.set(usize::MAX);
        loop {
            let seen: Vec<_> = self.items.with(|m| {
                let next = m.range((Bound::Excluded(from), Bound::Unbounded)).take(PIECE);
                next.map(|(key, i)| (*key, i.clone())).collect()
            });
            let Some((last, _)) = seen.last() else { break };
            from = *last;
            for (key, item) in seen.iter().filter(|(_, i)| i.file.strong_count() == 0) {
                self.items.with_mut(|m| m.remove(key));
                item.end();
            }
            breath.take();
        }
        self.clean_at.set((2 * self.items.with(BTreeMap::len)).max(CLEAN_LEAST));
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
        if item.listed.get() {
            self.ready.with_mut(|r| r.retain(|i| !Arc::ptr_eq(i, &item)));
        }
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
    /// The first ready one of the list's first `left` items, with what it found; others leave the list.
    fn next(&self, left: &mut usize) -> Option<(Arc<Item>, u32)> {
        while *left > 0 {
            *left -= 1;
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
        let mut left = self.ready.with(VecDeque::len);
        let mut done = Ok(0);
        let mut breath = None;
        for n in 0..max {
            if n % PIECE == PIECE - 1 {
                breath.get_or_insert_with(Breath::begin).take();
            }
            let Some((item, found)) = self.next(&mut left) else { break };
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
                // Level-triggered: the next call's look says whether it still is.
                self.enlist(item);
            }
        }
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
        match self.next(&mut self.ready.with(VecDeque::len)) {
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
