//! eventfd and timerfd.
use super::file::{File, Notify};
use super::prelude::*;
use super::uio::{Dst, Src};
use crate::sched;
use crate::time::{monotonic_ns, realtime_ns};

/// An event counter.
pub struct EventFd {
    count: BklCell<u64>,
    semaphore: bool,
    changed: Notify,
}
impl EventFd {
    /// A counter.
    pub fn new(count: u64, semaphore: bool) -> Arc<Self> {
        Arc::new(Self { count: BklCell::new(count), semaphore, changed: Notify::new() })
    }
}
impl File for EventFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn is_stream(&self) -> bool {
        false
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(EINVAL);
        }
        let count = self.count.get();
        if count == 0 {
            return Err(EAGAIN);
        }
        let n = if self.semaphore { 1 } else { count };
        dst.push(&n.to_le_bytes())?;
        self.count.set(count - n);
        self.changed.notify_of(POLL_OUT);
        Ok(8)
    }
    fn try_write(&self, src: &mut Src) -> Result<usize> {
        if src.remaining() < 8 {
            return Err(EINVAL);
        }
        let mut b = [0; 8];
        src.pull(&mut b)?;
        let n = u64::from_le_bytes(b);
        if n == u64::MAX {
            return Err(EINVAL);
        }
        match self.count.get().checked_add(n).filter(|c| *c < u64::MAX) {
            Some(c) => {
                self.count.set(c);
                self.changed.notify_of(POLL_IN);
                Ok(8)
            }
            None => {
                src.rewind(8);
                Err(EAGAIN)
            }
        }
    }
    fn poll(&self, _want: u32) -> u32 {
        let c = self.count.get();
        let r = if c > 0 { POLL_IN } else { 0 };
        r | if c < u64::MAX - 1 { POLL_OUT } else { 0 }
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.changed.queue());
    }
}

/// A timer as a file. Times are CLOCK_MONOTONIC ns inside. While it is armed and has not expired, the scheduler wakes its
/// queue at the expiry; an interval goes on from the read that takes it, as in Linux.
pub struct TimerFd {
    id: u64,
    realtime: bool,
    /// Next expiry (0: disarmed) and interval.
    state: BklCell<(u64, u64)>,
    changed: Notify,
}
impl TimerFd {
    /// A disarmed timer.
    pub fn new(realtime: bool) -> Arc<Self> {
        Arc::new(Self {
            id: super::inode::next_id(),
            realtime,
            state: BklCell::new((0, 0)),
            changed: Notify::new(),
        })
    }
    /// Sets first expiry (0 disarms) and interval; gives what was left before.
    pub fn set(&self, value: u64, interval: u64, absolute: bool) -> (u64, u64) {
        let old = self.left();
        let now = monotonic_ns();
        let at = match (value, absolute) {
            (0, _) => 0,
            (v, false) => now.saturating_add(v),
            (v, true) if self.realtime => now.saturating_add(v.saturating_sub(realtime_ns())),
            (v, true) => v,
        };
        self.become_due(at, interval);
        self.changed.notify();
        old
    }
    fn become_due(&self, at: u64, interval: u64) {
        let (old, _) = self.state.replace((at, interval));
        sched::clear_alarm(old, self.id);
        if at > monotonic_ns() {
            sched::set_alarm(at, self.id, &self.changed.queue());
        }
    }
    /// Time to the next expiry, and the interval.
    pub fn left(&self) -> (u64, u64) {
        let (at, interval) = self.state.get();
        let now = monotonic_ns();
        let left = match at {
            0 => 0,
            at if at > now => at - now,
            _ if interval > 0 => interval - (now - at) % interval,
            _ => 0,
        };
        (left, interval)
    }
    fn expirations(&self) -> u64 {
        let (at, interval) = self.state.get();
        let now = monotonic_ns();
        if at == 0 || at > now {
            return 0;
        }
        1 + (now - at).checked_div(interval).unwrap_or(0)
    }
}
impl Drop for TimerFd {
    fn drop(&mut self) {
        sched::clear_alarm(self.state.get().0, self.id);
    }
}
impl File for TimerFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(EINVAL);
        }
        let n = self.expirations();
        if n == 0 {
            return Err(EAGAIN);
        }
        dst.push(&n.to_le_bytes())?;
        let (at, interval) = self.state.get();
        let next = if interval == 0 { 0 } else { at.saturating_add(interval.saturating_mul(n)) };
        self.become_due(next, interval);
        Ok(8)
    }
    fn poll(&self, _want: u32) -> u32 {
        if self.expirations() > 0 { POLL_IN } else { 0 }
    }
    fn queues(&self, out: &mut Vec<Arc<WaitQueue>>) {
        out.push(self.changed.queue());
    }
}
