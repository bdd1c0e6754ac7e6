//! Clocks: calibrated once against the host, then read from the time-stamp counter; never going back (M5).
use occlum_enclave_abi::Ocall;
use occlum_rt::bkl::BklCell;

#[derive(Clone, Copy)]
struct Calibration {
    tsc0: u64,
    mono0: u64,
    real0: u64,
    /// ns per TSC tick, as a 32.32 fixed-point number.
    mult: u64,
    last: u64,
}

static CAL: BklCell<Calibration> =
    BklCell::new(Calibration { tsc0: 0, mono0: 0, real0: 0, mult: 1 << 32, last: 0 });

fn host_clock() -> (u64, u64, u64) {
    let mut out = [0u8; 24];
    let _ = occlum_rt::ocall::call(Ocall::Clock, &[], &[], &mut out);
    let at = |i: usize| {
        let mut w = [0; 8];
        w.copy_from_slice(&out[i..i + 8]);
        u64::from_le_bytes(w)
    };
    (at(0), at(8), at(16))
}

/// Calibrates the counter: two host readings some microseconds apart give the scale, bounded to 0.5-10 GHz.
pub fn init() {
    let (_, mono_a, tsc_a) = host_clock();
    let (mut real, mut mono_b, mut tsc_b) = host_clock();
    let mut rounds = 0;
    while mono_b.wrapping_sub(mono_a) < 1_000_000 && rounds < 100_000 {
        (real, mono_b, tsc_b) = host_clock();
        rounds += 1;
    }
    let ns = mono_b.saturating_sub(mono_a).max(1);
    let ticks = tsc_b.saturating_sub(tsc_a).max(1);
    let mult = (((ns as u128) << 32) / ticks as u128) as u64;
    let mult = mult.clamp((1 << 32) / 10, (1 << 32) * 2);
    CAL.set(Calibration { tsc0: tsc_b, mono0: mono_b, real0: real, mult, last: mono_b });
}

/// CLOCK_MONOTONIC in ns.
pub fn monotonic_ns() -> u64 {
    CAL.with_mut(|c| {
        let ticks = occlum_rt::time::tsc().saturating_sub(c.tsc0);
        let now = c.mono0.wrapping_add(((u128::from(ticks) * u128::from(c.mult)) >> 32) as u64);
        c.last = c.last.max(now);
        c.last
    })
}

/// Since the clocks were calibrated, which the boot begins with.
pub fn uptime_ns() -> u64 {
    monotonic_ns().saturating_sub(CAL.with(|c| c.mono0))
}

/// What the clocks are computed from, for programs that compute them themselves (`vdso`): the counter's start,
/// CLOCK_MONOTONIC then, ns per tick (32.32), CLOCK_REALTIME less CLOCK_MONOTONIC.
pub fn parameters() -> [u64; 4] {
    CAL.with(|c| [c.tsc0, c.mono0, c.mult, c.real0.wrapping_sub(c.mono0)])
}

/// Frequency of the time-stamp counter, kHz.
pub fn tsc_khz() -> u64 {
    let mult = CAL.with(|c| c.mult).max(1);
    (u128::from(1_000_000u32) << 32).checked_div(u128::from(mult)).map_or(0, |v| v as u64)
}

/// CLOCK_REALTIME in ns since the epoch.
pub fn realtime_ns() -> u64 {
    let now = monotonic_ns();
    CAL.with(|c| now.wrapping_add(c.real0.wrapping_sub(c.mono0)))
}
