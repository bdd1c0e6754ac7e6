//! Times and timers.
use super::layout;

layout! {
    /// `struct timespec`.
    Timespec[16] {
        tv_sec: i64 = 0,
        tv_nsec: i64 = 8,
    }
    /// `struct timeval`.
    Timeval[16] {
        tv_sec: i64 = 0,
        tv_usec: i64 = 8,
    }
    /// `struct timezone`.
    Timezone[8] {
        tz_minuteswest: i32 = 0,
        tz_dsttime: i32 = 4,
    }
    /// `struct itimerval`.
    Itimerval[32] {
        it_interval: Timeval = 0,
        it_value: Timeval = 16,
    }
    /// `struct itimerspec`.
    Itimerspec[32] {
        it_interval: Timespec = 0,
        it_value: Timespec = 16,
    }
    /// `struct tms`, in ticks.
    Tms[32] {
        tms_utime: i64 = 0,
        tms_stime: i64 = 8,
        tms_cutime: i64 = 16,
        tms_cstime: i64 = 24,
    }
}

const NSEC_PER_SEC: i64 = 1_000_000_000;

impl Timespec {
    /// From nanoseconds, also before the epoch.
    pub const fn from_ns(ns: i64) -> Self {
        Self { tv_sec: ns.div_euclid(NSEC_PER_SEC), tv_nsec: ns.rem_euclid(NSEC_PER_SEC) }
    }

    /// A duration in nanoseconds, the largest one if it overflows; `None` if a field is out of range
    /// (EINVAL).
    pub fn duration_ns(&self) -> Option<u64> {
        if self.tv_sec < 0 || !(0..NSEC_PER_SEC).contains(&self.tv_nsec) {
            return None;
        }
        let ns = self.tv_sec.saturating_mul(NSEC_PER_SEC).saturating_add(self.tv_nsec);
        u64::try_from(ns).ok()
    }
}

impl Timeval {
    /// From nanoseconds, also before the epoch; rounded down.
    pub const fn from_ns(ns: i64) -> Self {
        Self { tv_sec: ns.div_euclid(NSEC_PER_SEC), tv_usec: ns.rem_euclid(NSEC_PER_SEC) / 1000 }
    }

    /// A duration in nanoseconds, the largest one if it overflows; `None` if a field is out of range
    /// (EINVAL).
    pub fn duration_ns(&self) -> Option<u64> {
        if !(0..1_000_000).contains(&self.tv_usec) {
            return None;
        }
        Timespec { tv_sec: self.tv_sec, tv_nsec: self.tv_usec * 1000 }.duration_ns()
    }
}
