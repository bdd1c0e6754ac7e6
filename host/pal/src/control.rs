//! Control of a resident enclave: orders go in, events come out, from any thread.
//!
//! Neighbours: `ocall` serves `NextOrder` and `JobEvent` from here; `enclave-abi` has the vocabulary; `host/native` gives it
//! to Python. Invariants: descriptors of an order belong to the enclave from `order` on (it closes them, the end of the
//! enclave closes the rest); `event_fd` is readable while there are events, and for ever once the enclave has ended.
use crate::PalError;
use crate::ocall::{Host, wait};
use occlum_enclave_abi::{JobEvent, Order};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What the enclave told about a job, a process or a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `JobEvent` as a number; 0 when the enclave has ended.
    pub kind: u64,
    /// Its arguments.
    pub args: [u64; 3],
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Most events that wait for the control plane; watching an enclave that forks wildly must not fill this process.
const EVENTS_MAX: usize = 100_000;

#[derive(Default)]
struct Queues {
    orders: VecDeque<Vec<u8>>,
    current: Vec<u8>,
    events: VecDeque<Event>,
    /// The descriptors of orders that come before the enclave is there.
    early: Vec<i32>,
    host: Weak<Host>,
    ended: bool,
}

/// The two queues.
pub struct Control {
    queues: Mutex<Queues>,
    event: OwnedFd,
}

impl Control {
    /// Empty queues, for one enclave.
    pub fn new() -> Result<Arc<Control>, PalError> {
        let event =
            wait::event_fd().map_err(|error| PalError::System { what: "an event descriptor", error })?;
        Ok(Arc::new(Control { queues: Mutex::default(), event }))
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readable while there are events.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Queues an order. The descriptors that it names are the enclave's then. False: the enclave has ended, and they
    /// are still the caller's.
    pub fn order(&self, order: &Order) -> bool {
        let mut q = self.lock();
        if q.ended {
            return false;
        }
        let descriptors = match order {
            Order::Start(s) => s.files.iter().map(|f| f.host_fd as i32).collect(),
            _ => Vec::new(),
        };
        match q.host.upgrade() {
            Some(host) => {
                host.adopt(descriptors);
                q.orders.push_back(order.encode());
                drop(q);
                host.notify();
            }
            None => {
                q.early.extend(descriptors);
                q.orders.push_back(order.encode());
            }
        }
        true
    }

    /// The oldest event.
    pub fn next_event(&self) -> Option<Event> {
        let mut q = self.lock();
        let event = q.events.pop_front();
        if q.events.is_empty() && !q.ended {
            wait::drain(self.event.as_raw_fd());
        }
        event
    }

    /// The enclave is there.
    pub(crate) fn attach(&self, host: &Arc<Host>) {
        let mut q = self.lock();
        q.host = Arc::downgrade(host);
        host.adopt(std::mem::take(&mut q.early));
        drop(q);
        host.notify();
    }

    /// The enclave is gone: no more orders, and nobody waits in vain.
    pub fn end(&self) {
        let mut q = self.lock();
        if !q.ended {
            q.ended = true;
            q.events.push_back(Event { kind: 0, args: [0; 3], bytes: Vec::new() });
        }
        drop(q);
        wait::ring(self.event.as_raw_fd());
    }

    pub(crate) fn has_orders(&self) -> bool {
        !self.lock().orders.is_empty()
    }

    /// Serves `NextOrder`: the part from `offset`, and the whole length.
    pub(crate) fn next_order(&self, offset: u64, out: &mut [u8]) -> (i64, usize) {
        let mut q = self.lock();
        if offset == 0 {
            q.current = q.orders.pop_front().unwrap_or_default();
        }
        let part = usize::try_from(offset).ok().and_then(|o| q.current.get(o..)).unwrap_or_default();
        let n = part.len().min(out.len());
        out[..n].copy_from_slice(&part[..n]);
        (q.current.len() as i64, n)
    }

    /// Serves `JobEvent`.
    pub(crate) fn event(&self, args: &[u64; 6], bytes: &[u8]) -> i64 {
        let mut q = self.lock();
        let optional = args[0] == JobEvent::ProcessStarted as u64 || args[0] == JobEvent::ProcessEnded as u64;
        if optional && q.events.len() >= EVENTS_MAX {
            return -i64::from(libc::ENOSPC);
        }
        let args3 = [args[1], args[2], args[3]];
        q.events.push_back(Event { kind: args[0], args: args3, bytes: bytes.to_vec() });
        drop(q);
        wait::ring(self.event.as_raw_fd());
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_served_in_pieces_and_in_turn() {
        let c = Control::new().unwrap();
        let (a, b) = (Order::Query { id: 1, what: 2 }, Order::End);
        assert!(c.order(&a) && c.order(&b) && c.has_orders());
        let (wire, mut got, mut piece) = (a.encode(), Vec::new(), [0u8; 5]);
        while got.len() < wire.len() {
            let (total, n) = c.next_order(got.len() as u64, &mut piece);
            assert_eq!(total, wire.len() as i64);
            got.extend_from_slice(&piece[..n]);
        }
        assert_eq!(got, wire);
        assert_eq!(c.next_order(1 << 40, &mut piece), (wire.len() as i64, 0));
        assert_eq!(c.next_order(0, &mut piece).0, b.encode().len() as i64);
        assert!(!c.has_orders());
        assert_eq!(c.next_order(0, &mut piece), (0, 0));
    }

    #[test]
    fn an_ended_enclave_takes_no_order_and_says_so_once() {
        let c = Control::new().unwrap();
        c.end();
        c.end();
        assert!(!c.order(&Order::End));
        assert_eq!(c.next_event().map(|e| e.kind), Some(0));
        assert_eq!(c.next_event(), None);
    }

    #[test]
    fn unread_process_events_have_a_limit_and_others_get_through() {
        let c = Control::new().unwrap();
        let watched = [JobEvent::ProcessEnded as u64, 5, 0, 0, 0, 0];
        (0..EVENTS_MAX).for_each(|_| assert_eq!(c.event(&watched, &[]), 0));
        assert!(c.event(&watched, &[]) < 0);
        assert_eq!(c.event(&[JobEvent::Ended as u64, 1, 0, 0, 0, 0], b"x"), 0);
    }
}
