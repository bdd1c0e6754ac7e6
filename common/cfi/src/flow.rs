//! What the signals of a process allow: the return into a restorer, one sigreturn for each frame, and one return to each
//! place that a handler put off.
//!
//! Neighbours: `enclave/libos` tells what it delivers and asks. Invariants: bounded, however many signals come.
use alloc::collections::{BTreeMap, VecDeque};

/// Most signal frames that a process may have open; the oldest are forgotten.
const FRAMES_MAX: usize = 4096;
/// Most interrupted places that a process may owe a return to.
const OWED_MAX: usize = 16384;
/// A signal frame that a handler has not returned from.
#[derive(Clone, Copy)]
struct Frame {
    at: u32,
    rip: u32,
    restorer: u32,
}

/// Where sigreturn goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// No signal was delivered with that frame.
    NoFrame,
    /// Where the signal interrupted.
    Interrupted,
    /// Where the handler chose.
    Elsewhere,
}

/// What the signals of a process allow.
#[derive(Clone, Default)]
pub struct Flow {
    frames: VecDeque<Frame>,
    /// Interrupted places that a handler put off by another rip in its frame, as Go's preemption does: the code it chose
    /// returns there. How often each.
    owed: BTreeMap<u32, u32>,
}

impl Flow {
    /// A handler's frame was built; what it lies over is gone.
    pub fn delivered(&mut self, at: u32, size: u32, rip: u32, restorer: u32) {
        self.frames.retain(|f| f.at.abs_diff(at) >= size);
        if self.frames.len() >= FRAMES_MAX {
            self.frames.pop_front();
        }
        if self.frames.try_reserve(1).is_ok() {
            self.frames.push_back(Frame { at, rip, restorer });
        }
    }

    /// Does an open frame name this restorer?
    pub fn restores(&self, restorer: u32) -> bool {
        self.frames.iter().any(|f| f.restorer == restorer)
    }

    /// sigreturn takes the frame at `at` and goes on at `rip`.
    pub fn returned(&mut self, at: u32, rip: u32) -> Resumed {
        let at = self.frames.iter().rposition(|f| f.at == at);
        match at.and_then(|n| self.frames.remove(n)) {
            None => Resumed::NoFrame,
            Some(f) if f.rip == rip => Resumed::Interrupted,
            Some(f) => {
                self.owe(f.rip);
                Resumed::Elsewhere
            }
        }
    }

    fn owe(&mut self, rip: u32) {
        if self.owed.len() >= OWED_MAX && !self.owed.contains_key(&rip) {
            self.owed.pop_first();
        }
        let times = self.owed.entry(rip).or_insert(0);
        *times = times.saturating_add(1);
    }

    /// Takes one return to `rip` off what is owed. False: none is.
    pub fn pay(&mut self, rip: u32) -> bool {
        let Some(times) = self.owed.get_mut(&rip) else { return false };
        *times = times.saturating_sub(1);
        if *times == 0 {
            self.owed.remove(&rip);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_serves_one_sigreturn() {
        let mut f = Flow::default();
        f.delivered(0x1000, 440, 7, 9);
        assert_eq!(f.returned(0x1008, 7), Resumed::NoFrame);
        assert_eq!(f.returned(0x1000, 7), Resumed::Interrupted);
        assert_eq!(f.returned(0x1000, 7), Resumed::NoFrame);
        assert!(!f.pay(7), "nothing was put off");
    }

    #[test]
    fn an_edited_frame_owes_one_return_to_the_interrupted_place() {
        let mut f = Flow::default();
        for _ in 0..2 {
            f.delivered(0x1000, 440, 7, 9);
            assert_eq!(f.returned(0x1000, 8), Resumed::Elsewhere);
        }
        assert!(f.pay(7) && f.pay(7));
        assert!(!f.pay(7) && !f.pay(8));
    }

    #[test]
    fn frames_under_a_new_one_and_the_oldest_are_forgotten() {
        let mut f = Flow::default();
        f.delivered(0x1000, 440, 7, 9);
        f.delivered(0x1100, 440, 7, 9);
        assert_eq!(f.returned(0x1000, 7), Resumed::NoFrame);
        for n in 0..FRAMES_MAX as u32 {
            f.delivered(0x10_0000 + n * 440, 440, n, 9);
        }
        assert_eq!(f.returned(0x1100, 7), Resumed::NoFrame);
        assert_eq!(f.returned(0x10_0000, 0), Resumed::Interrupted);
    }

    #[test]
    fn what_is_owed_is_bounded() {
        let mut f = Flow::default();
        for rip in 0..OWED_MAX as u32 + 10 {
            f.owe(rip);
        }
        assert_eq!(f.owed.len(), OWED_MAX);
        assert!(f.pay(OWED_MAX as u32 + 9));
    }
}
