//! Signals that wait to be taken, and how many a user may have waiting (RLIMIT_SIGPENDING).
//!
//! Neighbours: `signal` sends and takes; `timers` keeps a place for each POSIX timer. Invariants: a signal in a queue has a
//! place of its own, or its timer has one; a number in the set without one in the queue is a signal for which there was no
//! room, of which nothing is known but that it was sent.
use super::{Info, bit};
use crate::process::users::PerUser;
use alloc::collections::VecDeque;
use occlum_linux_abi::signo::*;
use occlum_rt::mem::TryGrow;

/// How many signals the processes of a user may have queued.
pub const RLIMIT_SIGPENDING: usize = 11;

/// Queued signals.
static QUEUED: PerUser = PerUser::new();

/// A queued signal's part of its user's limit.
pub struct Place(u32);

impl Place {
    /// One for a process of the user `uid`; none if that would be more than `limit`, if there is one, or if memory is short.
    pub fn take(uid: u32, limit: Option<u64>) -> Option<Self> {
        const COST: u64 = 256;
        if limit.is_some_and(|most| QUEUED.of(uid) >= most || crate::mm::admit(COST).is_err()) {
            return None;
        }
        QUEUED.add(uid, 1).then(|| Self(uid))
    }
    /// How many the user has.
    pub fn taken(uid: u32) -> u64 {
        QUEUED.of(uid)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        QUEUED.sub(self.0, 1);
    }
}

struct Queued {
    sig: i32,
    info: Info,
    /// Its own; a timer's signal has none.
    _place: Option<Place>,
}

/// Pending signals: a bit each below 32 (first info kept), a queue each from 32.
#[derive(Default)]
pub struct Pending {
    set: u64,
    queue: VecDeque<Queued>,
}

impl Pending {
    /// Adds a signal, one below 32 only once. Without a place only its number is kept.
    pub(super) fn add(&mut self, sig: i32, info: Info, place: Option<Place>) {
        if place.is_some() {
            self.push(sig, info, place);
        }
        self.set |= bit(sig);
    }
    /// Queues another one, whether or not one is pending. False: there is no memory for it.
    pub(super) fn push(&mut self, sig: i32, info: Info, place: Option<Place>) -> bool {
        if self.queue.try_room(1).is_err() {
            return false;
        }
        self.set |= bit(sig);
        self.queue.push_back(Queued { sig, info, _place: place });
        true
    }
    pub(super) fn remove(&mut self, mask: u64) {
        if self.set & mask != 0 {
            self.set &= !mask;
            self.queue.retain(|q| mask & bit(q.sig) == 0);
        }
    }
    /// Takes those out of which `f` says so.
    pub(super) fn remove_if(&mut self, f: impl Fn(&Info) -> bool) {
        let mut gone = 0;
        self.queue.retain(|q| {
            let stays = !f(&q.info);
            gone |= if stays { 0 } else { bit(q.sig) };
            stays
        });
        if gone != 0 {
            self.set = self.queue.iter().fold(self.set & !gone, |set, q| set | bit(q.sig));
        }
    }
    /// Lowest-numbered pending signal in `mask`; faults first.
    pub(super) fn take(&mut self, mask: u64) -> Option<(i32, Info)> {
        let ready = self.set & mask;
        if ready == 0 {
            return None;
        }
        const SYNC: u64 = bit(SIGSEGV as i32)
            | bit(SIGBUS as i32)
            | bit(SIGILL as i32)
            | bit(SIGTRAP as i32)
            | bit(SIGFPE as i32)
            | bit(SIGSYS as i32);
        let pick = if ready & SYNC != 0 { ready & SYNC } else { ready };
        let sig = pick.trailing_zeros() as i32 + 1;
        let at = self.queue.iter().position(|q| q.sig == sig);
        let found = at.and_then(|at| self.queue.remove(at));
        if !self.queue.iter().any(|q| q.sig == sig) {
            self.set &= !bit(sig);
        }
        Some((sig, found.map_or(Info::default(), |q| q.info)))
    }
    /// The set.
    pub fn set(&self) -> u64 {
        self.set
    }
}
