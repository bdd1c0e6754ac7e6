//! How much the tests of both sealed crates run, and from which seed. Neighbours: `crash.rs`, `sealed-fs/tests/model.rs`.

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().expect("a number"))
}
/// How long and how much: a campaign's amount if it is given, else as much as a few seconds allow.
pub struct Slice {
    amount: u64,
    end: Option<std::time::Instant>,
}
impl Slice {
    pub fn of(name: &str) -> Self {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        let campaign = std::env::var(name).is_ok();
        Self { amount: number(name, u64::MAX), end: (!campaign).then_some(end) }
    }
    /// Goes on after `done`; the first is always done.
    pub fn more(&self, done: u64) -> bool {
        done == 0 || done < self.amount && self.end.is_none_or(|end| std::time::Instant::now() < end)
    }
}
/// OCCLUM_TEST_SEED, else from the clock; printed.
pub fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("time").as_nanos();
    let seed = number("OCCLUM_TEST_SEED", now as u64);
    println!("OCCLUM_TEST_SEED={seed}");
    seed
}
