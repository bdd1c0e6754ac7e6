//! The time-stamp counter. One function, so that a test of the image can exempt exactly one `rdtsc`.
unsafe extern "C" {
    safe fn occlum_rt_rdtsc() -> u64;
}

/// The time-stamp counter now.
#[inline]
pub fn tsc() -> u64 {
    occlum_rt_rdtsc()
}
