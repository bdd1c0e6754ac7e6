//! The platform adaptation layer: loads and measures the enclave image, runs its vCPUs, serves its OCALLs.
//!
//! Neighbours: `common/sgx-arch` (structures, layout), `common/enclave-abi` (OCALLs); used by `host/native`. All of it is
//! untrusted. Invariants: one enclave at a time per process (its addresses are fixed); after `run` nothing of it is left:
//! no mapping, thread, handler or terminal attribute.
#![allow(unsafe_code)]
#![warn(missing_docs)]

pub mod control;
#[cfg(feature = "hostile")]
pub mod hostile;
mod image;
mod ocall;
mod sim;

use occlum_enclave_abi::{Config, ConfigError, LaunchParams};
use occlum_sgx_arch::sigstruct::EinitError;
use std::sync::Arc;
use std::time::Duration;

/// Fewest and most bytes of memory that an enclave can have.
const MEMORY: core::ops::RangeInclusive<u64> = 64 << 20..=1 << 40;

/// One run: what to start and how to watch it.
#[derive(Clone, Default)]
pub struct RunOptions {
    /// Program, arguments, environment, mounts.
    pub params: LaunchParams,
    /// Where the records of `LaunchParams::trace` go.
    pub trace_fd: Option<i32>,
    /// Ends the enclave after this time.
    pub timeout: Option<Duration>,
    /// Of a resident enclave: where its orders come from. The signals of this process are then not the enclave's.
    pub control: Option<Arc<control::Control>>,
    /// Ports of this machine that lead inside.
    pub publish: Vec<Publish>,
    /// What the enclave is created and initialized with, besides its pages.
    pub identity: GivenIdentity,
}

/// What the CPU is told of an enclave that is not measured.
#[derive(Clone, Debug, Default)]
pub struct GivenIdentity {
    /// SIGSTRUCT; may be empty for the host's view, which has no keys.
    pub sigstruct: Vec<u8>,
    /// CONFIGID; only with KSS.
    pub config_id: [[u8; 32]; 2],
    /// CONFIGSVN; only with KSS.
    pub config_svn: u16,
}

/// A port of this machine that leads to one inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Address of this machine; all of them if empty.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Port inside.
    pub inside: u16,
    /// UDP rather than TCP.
    pub datagram: bool,
}

/// How the first process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// Exit code.
    Exited(u8),
    /// Signal number.
    Signaled(u8),
    /// `RunOptions::timeout` ran out.
    TimedOut,
    /// The LibOS itself failed; its last words.
    Failed(String),
}

/// What a run leaves.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Paths that the run changed in its writable layer.
    pub changed: Vec<Vec<u8>>,
    /// Counters, by name.
    pub stats: Vec<(String, String)>,
}

/// Why an enclave can't be made or run.
#[derive(Debug, thiserror::Error)]
pub enum PalError {
    /// The image file is not what the build makes.
    #[error("the enclave image is damaged: {0}; build or install occlum again")]
    Image(&'static str),
    /// Options out of range.
    #[error("{0}")]
    Options(&'static str),
    /// The configuration is not one.
    #[error("the configuration is damaged: {0}; build it again")]
    Config(ConfigError),
    /// EINIT refuses the enclave.
    #[error("the enclave's signature is refused: {0}")]
    Einit(EinitError),
    /// EINIT would accept the enclave, but it would say of itself what the configuration does not.
    #[error(
        "the enclave's signature has other ids or versions than its configuration; build and sign it again"
    )]
    Identity,
    /// An address range of ELRANGE is in use.
    #[error("the enclave's address range {start:#x}-{end:#x} is not free in this process ({})", said(error))]
    AddressInUse {
        /// First address.
        start: u64,
        /// Exclusive end.
        end: u64,
        /// What the system said.
        error: std::io::Error,
    },
    /// Another enclave runs in this process.
    #[error("another enclave runs in this process; one process hosts one enclave")]
    Busy,
    /// A CPU feature is missing.
    #[error("this CPU or kernel lacks {0}, which the simulator needs")]
    Cpu(&'static str),
    /// A port of this machine cannot be had.
    #[error(
        "port {port} of this machine cannot be published: {}; name another one, or stop what uses it",
        said(error)
    )]
    Publish {
        /// The port.
        port: u16,
        /// What the system said.
        error: std::io::Error,
    },
    /// A system call failed.
    #[error("{what}: {}", said(error))]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}
impl PalError {
    /// The code under which `occlum explain` knows it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Image(_) => "OC200",
            Self::Options(_) => "OC101",
            Self::Config(_) => "OC600",
            Self::Einit(_) | Self::Identity => "OC601",
            Self::AddressInUse { .. } => "OC308",
            Self::Busy => "OC309",
            Self::Cpu(_) => "OC202",
            Self::Publish { .. } => "OC310",
            Self::System { .. } => "OC300",
        }
    }

    fn last_os(what: &'static str) -> Self {
        Self::System { what, error: std::io::Error::last_os_error() }
    }
}

/// The system's own words, without the number that Rust adds.
pub fn said(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.into(),
        None => text,
    }
}

/// CPUID's eax, ebx, ecx, edx; zeros for a leaf that the CPU does not have (it would answer with another's).
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    use core::arch::x86_64::__cpuid_count;
    if leaf > __cpuid_count(leaf & 0x8000_0000, 0).eax {
        return [0; 4];
    }
    let r = __cpuid_count(leaf, subleaf);
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// Reads a configuration and checks that an enclave can be made of it.
fn read(config: &[u8]) -> Result<Config, PalError> {
    let c = Config::decode(config).map_err(PalError::Config)?;
    if !(1..=occlum_sgx_arch::layout::MAX_VCPUS).contains(&c.vcpus) {
        return Err(PalError::Options("the number of CPUs must be 1 to 64"));
    }
    if !MEMORY.contains(&c.memory_bytes) {
        return Err(PalError::Options(
            "an enclave cannot have so much or so little memory; give at least 64M and at most 1T",
        ));
    }
    Ok(c)
}

/// MRENCLAVE of the enclave that `run` would start with this configuration (`Config::encode`).
pub fn measure(image: &[u8], config: &[u8]) -> Result<[u8; 32], PalError> {
    let vcpus = read(config)?.vcpus;
    let mut m = image::measurement();
    image::each_page(image, config, vcpus, &mut |page| {
        m.add_page(page.addr, page.flags, &page.bytes);
        Ok(())
    })?;
    Ok(m.finish())
}

/// Runs a program in a fresh simulated enclave until it ends.
pub fn run(image: &[u8], config: &[u8], r: &RunOptions) -> Result<RunOutcome, PalError> {
    let vcpus = read(config)?.vcpus;
    sim::run(image, config, vcpus, r)
}
