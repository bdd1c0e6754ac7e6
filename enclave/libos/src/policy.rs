//! What the measured configuration allows.
//!
//! Neighbours: `boot` hands the configuration over before anything else runs; whoever needs a part of it asks here.
//! Invariant: the configuration never changes.
use alloc::sync::Arc;
use occlum_enclave_abi::Config;
use occlum_rt::bkl::BklCell;

static CONFIG: BklCell<Option<Arc<Config>>> = BklCell::new(None);

/// Called once, first of all.
pub fn init(config: Config) {
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
