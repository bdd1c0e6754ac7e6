//! Counters for `--stats`: plain names and numbers, reported once at exit.
use alloc::{collections::BTreeMap, format, vec::Vec};
use occlum_enclave_abi::Ocall;
use occlum_rt::bkl::BklCell;

static COUNTERS: BklCell<BTreeMap<&'static str, u64>> = BklCell::new(BTreeMap::new());

/// System calls so far. Apart from the others: no look-up on that path.
static SYSTEM_CALLS: BklCell<u64> = BklCell::new(0);

/// Counts a system call.
pub fn system_call() {
    SYSTEM_CALLS.with_mut(|n| *n += 1);
}

/// How many there were.
pub fn system_calls() -> u64 {
    SYSTEM_CALLS.get()
}

/// Adds `n` to a counter.
pub fn add(name: &'static str, n: u64) {
    COUNTERS.with_mut(|c| *c.entry(name).or_insert(0) += n);
}

/// Every counter as a `name=value` line.
pub fn lines() -> Vec<u8> {
    let (heap, live) = (occlum_rt::mem::heap_used(), occlum_rt::mem::heap_live());
    let mut out =
        format!("heap_bytes={heap}\nheap_live={live}\nsystem_calls={}\n", SYSTEM_CALLS.with(|n| *n));
    out +=
        &format!("peak_memory={}\npeak_threads={}\n", occlum_rt::mem::peak(), crate::process::peak_tasks());
    COUNTERS.with(|c| c.iter().for_each(|(name, value)| out += &format!("{name}={value}\n")));
    out.into_bytes()
}

/// Hands every counter to the host.
pub fn report() {
    crate::code::report();
    add("heap_bytes", occlum_rt::mem::heap_used());
    add("heap_live", occlum_rt::mem::heap_live());
    add("system_calls", SYSTEM_CALLS.with(|n| *n));
    add("uptime_ns", crate::time::uptime_ns());
    add("peak_memory", occlum_rt::mem::peak());
    add("peak_threads", crate::process::peak_tasks() as u64);
    COUNTERS.with(|c| {
        for (name, value) in c {
            let line = format!("{name}={value}");
            occlum_rt::ocall::call(Ocall::Report, &[2], line.as_bytes(), &mut []);
        }
    });
}
