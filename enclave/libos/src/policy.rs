//! What the measured configuration allows, held against what the host asks for.
//!
//! Neighbours: `boot` and `jobs` pass everything through here that the host says about a program; whoever needs another
//! part of the configuration asks here. Invariants: the configuration never changes; with an instance's, the host
//! chooses arguments, the values of the variables named in `env_untrusted`, and one of the entry points: nothing else.
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_enclave_abi::{CONFIG_DISABLE_LOG, Config, FLAG_REPORT_CHANGES, JobStart, LaunchParams};
use occlum_rt::bkl::BklCell;

static CONFIG: BklCell<Option<Arc<Config>>> = BklCell::new(None);

/// Called once, first of all.
pub fn init(config: Config) {
    occlum_rt::quiet_log(config.flags & CONFIG_DISABLE_LOG != 0);
    CONFIG.set(Some(Arc::new(config)));
}

/// The configuration.
pub fn config() -> Arc<Config> {
    CONFIG.with(Clone::clone).unwrap_or_default()
}

/// Is it a debug enclave? Only such a one lets the host trace, profile, dump or debug its programs.
pub fn is_debug() -> bool {
    CONFIG.with(|c| c.as_ref().is_some_and(|c| c.is_debug()))
}

/// Takes out of the launch parameters what is not the host's to choose.
pub fn restrict_launch(p: &mut LaunchParams) {
    let c = config();
    if !c.is_debug() {
        p.trace.clear();
    }
    if c.is_host_view() {
        return;
    }
    p.flags &= !FLAG_REPORT_CHANGES;
    p.binds.clear();
    p.keep.clear();
    p.cwd.clone_from(&c.cwd);
    (p.uid, p.gid) = (c.uid, c.gid);
    p.envp = environment(&c, &p.envp);
}

/// The same of a job.
pub fn restrict_job(j: &mut JobStart) {
    let c = config();
    if c.is_host_view() {
        return;
    }
    j.cwd.clone_from(&c.cwd);
    (j.uid, j.gid) = (c.uid, c.gid);
    j.groups.clear();
    j.umask = 0o022;
    j.envp = environment(&c, &j.envp);
}

/// The configured environment, with the host's values of the variables that it may set.
fn environment(c: &Config, host: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let name = |setting: &[u8]| setting.split(|b| *b == b'=').next().unwrap_or_default().to_vec();
    let given: Vec<&Vec<u8>> = host
        .iter()
        .filter(|s| s.contains(&b'=') && c.env_untrusted.iter().any(|allowed| *allowed == name(s)))
        .collect();
    let kept = c.env_default.iter().filter(|s| !given.iter().any(|g| name(g) == name(s)));
    kept.chain(given.iter().copied()).cloned().collect()
}

/// May the host start the program at this absolute path? It must be an entry point, or lie below one.
pub fn may_start(path: &[u8]) -> bool {
    let c = config();
    let below = |entry: &Vec<u8>| match path.strip_prefix(entry.as_slice()) {
        Some(rest) => rest.is_empty() || rest.starts_with(b"/") || entry == b"/",
        None => false,
    };
    let plain = !path.split(|b| *b == b'/').any(|name| name == b"." || name == b"..");
    c.is_host_view() || plain && c.entry_points.iter().any(below)
}

/// What to do against a lack of memory: the name of the limit, and a value.
pub fn more_memory() -> String {
    let c = config();
    let mebibytes = (c.memory_bytes >> 20) * 2;
    if c.is_host_view() {
        format!("raise --memory (try {mebibytes}M)")
    } else {
        format!("raise resource_limits.user_space_size (try {mebibytes}MB) and build again")
    }
}

/// What to do when there are too many processes and threads.
pub fn more_tasks() -> String {
    let c = config();
    let tasks = u64::from(c.max_tasks) * 2;
    if c.is_host_view() {
        format!("raise --max-tasks (try {tasks})")
    } else {
        format!("raise resource_limits.max_num_of_threads (try {tasks}) and build again")
    }
}
