//! Load averages, with Linux's fixed-point numbers (`calc_load`): tasks that run or could, looked at every five seconds.
//!
//! Neighbour: `sched` calls `pass` before the number changes, so that no timer is needed and an idle vCPU sleeps on.
//! Invariant: every period that has ended counts once, with the tasks that there were at its end.

/// One, in averages.
pub const ONE: u64 = 1 << 11;
/// What remains of an average after a period, of those over 1, 5 and 15 minutes.
const REMAINS: [u64; 3] = [1884, 2014, 2037];
const PERIOD_NS: u64 = 5_000_000_000;
/// After so many periods nothing is left of what was before: of a clock that jumps, more do not count.
const PERIODS_MAX: u64 = 4096;

pub(super) struct Load {
    averages: [u64; 3],
    until_ns: u64,
}

impl Load {
    pub(super) const fn new() -> Self {
        Self { averages: [0; 3], until_ns: 0 }
    }

    /// Time went on to `now` with so many tasks.
    pub(super) fn pass(&mut self, now: u64, tasks: impl FnOnce() -> u64) {
        if self.until_ns == 0 {
            self.until_ns = now.saturating_add(PERIOD_NS);
        }
        let Some(over) = now.checked_sub(self.until_ns) else { return };
        let active = tasks() * ONE;
        let periods = over / PERIOD_NS + 1;
        for _ in 0..periods.min(PERIODS_MAX) {
            for (average, remains) in self.averages.iter_mut().zip(REMAINS) {
                let up = if active >= *average { ONE - 1 } else { 0 };
                *average = (*average * remains + active * (ONE - remains) + up) / ONE;
            }
        }
        self.until_ns = self.until_ns.saturating_add(periods.saturating_mul(PERIOD_NS));
    }

    pub(super) fn averages(&self) -> [u64; 3] {
        self.averages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_follow_the_tasks() {
        let mut load = Load::new();
        for now in [7, PERIOD_NS + 6] {
            load.pass(now, || panic!("no period has ended"));
        }
        load.pass(PERIOD_NS + 7, || 1);
        // 2048 * (2048 - 1884) / 2048, rounded up, and so on.
        assert_eq!(load.averages(), [164, 34, 11]);
        load.pass(10_000 * PERIOD_NS, || 3);
        assert_eq!(load.averages(), [3 * ONE; 3]);
        load.pass(u64::MAX, || 0);
        assert_eq!(load.averages(), [0; 3]);
    }
}
