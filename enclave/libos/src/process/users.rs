//! What the processes of a user have together, where Linux limits that: queued signals, pages of pipes.
//!
//! Neighbours: `signal::pending`, `fs::pipe`. Invariant: only users that have something are listed.
use alloc::vec::Vec;
use occlum_rt::bkl::BklCell;
use occlum_rt::mem::TryGrow;

/// How much of one kind each user has.
#[derive(Default)]
pub struct PerUser(BklCell<Vec<(u32, u64)>>);

impl PerUser {
    /// Nobody has anything.
    pub const fn new() -> Self {
        Self(BklCell::new(Vec::new()))
    }
    /// How much the user `uid` has.
    pub fn of(&self, uid: u32) -> u64 {
        self.0.with(|all| all.iter().find(|(user, _)| *user == uid).map_or(0, |(_, n)| *n))
    }
    /// The user gets `n` more. False: there is no memory to note it.
    pub fn add(&self, uid: u32, n: u64) -> bool {
        self.0.with_mut(|all| {
            if let Some((_, has)) = all.iter_mut().find(|(user, _)| *user == uid) {
                *has += n;
                return true;
            }
            let room = all.try_room(1).is_ok();
            if room {
                all.push((uid, n));
            }
            room
        })
    }
    /// The user gives `n` back.
    pub fn sub(&self, uid: u32, n: u64) {
        self.0.with_mut(|all| {
            let Some(i) = all.iter().position(|(user, _)| *user == uid) else { return };
            all[i].1 = all[i].1.saturating_sub(n);
            if all[i].1 == 0 {
                all.swap_remove(i);
            }
        });
    }
}
