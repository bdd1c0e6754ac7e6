//! `occlum._native`: the Python face of `host/pal`, of the verifier (`verify`) and of the list of system calls. Conversions only, no policy.
//!
//! Neighbours: `host/pal` below, `python/occlum` above (its `_native.pyi` describes this module; keep the two equal).
//! Invariants: the GIL is released while an enclave runs; every error becomes `NativeError` with pal's own message and
//! its code in brackets; no hand-written `unsafe` (what PyO3's macros expand to is the one named exception in
//! ARCHITECTURE.md).

use occlum_enclave_abi as abi;
use occlum_linux_abi::nr;
use occlum_pal as pal;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;
use std::time::Duration;

mod cfi;
mod resident;
mod scan;
mod sealed;
mod verify;

pyo3::create_exception!(_native, NativeError, PyRuntimeError, "The enclave could not be measured or run.");
pyo3::create_exception!(
    _native,
    StaleError,
    NativeError,
    "A store is not the newest one, as its counter says."
);

/// Address of this machine, its port, the one inside, and whether it is UDP's.
type Published = (String, u16, u16, bool);

fn published(list: Vec<Published>) -> Vec<pal::Publish> {
    let one = |(host, port, inside, datagram)| pal::Publish { host, port, inside, datagram };
    list.into_iter().map(one).collect()
}

/// SIGSTRUCT, CONFIGID (64 bytes, or none), CONFIGSVN.
type Identity = (Vec<u8>, Vec<u8>, u16);

fn given_identity(identity: Option<Identity>) -> PyResult<pal::GivenIdentity> {
    let Some((sigstruct, id, config_svn)) = identity else { return Ok(pal::GivenIdentity::default()) };
    let id = if id.is_empty() { vec![0; 64] } else { id };
    let halves = (id.len() == 64).then(|| id.split_at(32));
    let halves = halves.and_then(|(a, b)| Some([a.try_into().ok()?, b.try_into().ok()?]));
    let config_id = halves.ok_or_else(|| NativeError::new_err("CONFIGID has 64 bytes"))?;
    Ok(pal::GivenIdentity { sigstruct, config_id, config_svn })
}

fn native_error(error: pal::PalError) -> PyErr {
    NativeError::new_err(format!("{error} [{}]", error.code()))
}

/// What to run: not measured, validated inside.
#[pyclass(frozen, module = "occlum._native")]
struct LaunchParams(abi::LaunchParams);

#[pymethods]
impl LaunchParams {
    #[new]
    #[pyo3(signature = (*, program, argv, envp, cwd, binds, hostname, uid, gid, flags, keep=None, sources=Vec::new(), trace=Vec::new()))]
    #[expect(clippy::too_many_arguments, reason = "one keyword per field of the wire form")]
    fn new(
        program: Vec<u8>,
        argv: Vec<Vec<u8>>,
        envp: Vec<Vec<u8>>,
        cwd: Vec<u8>,
        binds: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
        hostname: Vec<u8>,
        uid: u32,
        gid: u32,
        flags: u32,
        keep: Option<Vec<u8>>,
        sources: Vec<(Vec<u8>, Vec<u8>)>,
        trace: Vec<u8>,
    ) -> Self {
        Self(abi::LaunchParams {
            program,
            argv,
            envp,
            cwd,
            binds,
            sources,
            hostname,
            uid,
            gid,
            keep: keep.unwrap_or_default(),
            trace,
            flags,
        })
    }
}

/// How a run ended.
#[pyclass(frozen, get_all, module = "occlum._native")]
struct Outcome {
    /// "exited", "signaled", "timed-out" or "failed".
    kind: &'static str,
    /// Exit status or signal number; 0 for the other kinds.
    value: u8,
    /// Why occlum failed; empty otherwise.
    message: String,
    /// Changed paths that were discarded.
    changed: Vec<Py<PyBytes>>,
    /// Statistics by name, in the enclave's order.
    stats: Vec<(String, String)>,
}

impl Outcome {
    fn from_pal(py: Python<'_>, outcome: pal::RunOutcome) -> Self {
        let (kind, value, message) = match outcome.status {
            pal::ExitStatus::Exited(status) => ("exited", status, String::new()),
            pal::ExitStatus::Signaled(signal) => ("signaled", signal, String::new()),
            pal::ExitStatus::TimedOut => ("timed-out", 0, String::new()),
            pal::ExitStatus::Failed(why) => ("failed", 0, why),
        };
        let changed = outcome.changed.iter().map(|path| PyBytes::new(py, path).unbind()).collect();
        Self { kind, value, message, changed, stats: outcome.stats }
    }
}

/// MRENCLAVE of the enclave that `run` would start with the same image and configuration.
#[pyfunction]
fn measure<'py>(py: Python<'py>, image: &[u8], config: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let digest = py.detach(|| pal::measure(image, config)).map_err(native_error)?;
    Ok(PyBytes::new(py, &digest))
}

/// Loads the image, runs the program to its end, tears the enclave down.
#[pyfunction]
#[pyo3(signature = (image, config, params, *, trace_fd=None, timeout_s=None, publish=Vec::new(), identity=None))]
#[expect(clippy::too_many_arguments, reason = "one keyword per option of a run")]
fn run(
    py: Python<'_>,
    image: &[u8],
    config: &[u8],
    params: &LaunchParams,
    trace_fd: Option<i32>,
    timeout_s: Option<f64>,
    publish: Vec<Published>,
    identity: Option<Identity>,
) -> PyResult<Outcome> {
    let timeout = timeout_s
        .map(Duration::try_from_secs_f64)
        .transpose()
        .map_err(|error| NativeError::new_err(format!("time-out: {error}")))?;
    let (publish, identity) = (published(publish), given_identity(identity)?);
    let run =
        pal::RunOptions { params: params.0.clone(), trace_fd, timeout, publish, identity, control: None };
    let outcome = py.detach(|| pal::run(image, config, &run)).map_err(native_error)?;
    Ok(Outcome::from_pal(py, outcome))
}

/// The first thing that the verifier refused in a file.
#[pyclass(frozen, get_all, module = "occlum._native")]
struct Violation {
    /// Offset of the program's code that was translated.
    offset: u32,
    /// Address of the refused instruction in the code cache.
    address: u32,
    /// Its bytes.
    code: Py<PyBytes>,
    disassembly: String,
    /// Name of the check that failed, and the invariant that it serves.
    check: String,
    invariant: String,
    reason: &'static str,
}

/// What became of a file.
#[pyclass(frozen, get_all, module = "occlum._native")]
struct Verified {
    /// "accepted", "refused" or "skipped".
    kind: &'static str,
    /// Why it was skipped; empty otherwise.
    reason: &'static str,
    fragments: u64,
    source_bytes: u64,
    code_bytes: u64,
    violation: Option<Py<Violation>>,
}

/// Translates everything executable in an ELF file and verifies what comes out.
#[pyfunction]
fn verify_file(py: Python<'_>, path: PathBuf) -> PyResult<Verified> {
    let report = py.detach(|| verify::file(&path))?;
    let violation = report.violation.map(|v| {
        let code = PyBytes::new(py, &v.bytes).unbind();
        let (offset, address, disassembly) = (v.offset, v.address, v.disassembly);
        let (check, invariant, reason) = (v.check, v.invariant, v.reason);
        Py::new(py, Violation { offset, address, code, disassembly, check, invariant, reason })
    });
    let kind = match (&violation, report.skipped) {
        (Some(_), _) => "refused",
        (None, Some(_)) => "skipped",
        (None, None) => "accepted",
    };
    Ok(Verified {
        kind,
        reason: report.skipped.unwrap_or_default(),
        fragments: report.fragments,
        source_bytes: report.source_bytes,
        code_bytes: report.code_bytes,
        violation: violation.transpose()?,
    })
}

/// What a file's code asks of the enclave.
#[pyclass(frozen, get_all, module = "occlum._native")]
struct Scanned {
    /// Number of a system call, how often, address of the first.
    syscalls: Vec<(u32, u64, u64)>,
    /// `syscall` instructions whose number the code before them does not say.
    unknown_syscalls: u64,
    /// Instructions that the enclave does not have: name, how often, address of the first.
    instructions: Vec<(String, u64, u64)>,
}

/// Reads system calls and unsupported instructions off an ELF file's code; `None` if it has none for this machine.
#[pyfunction]
fn scan_file(py: Python<'_>, path: PathBuf) -> PyResult<Option<Scanned>> {
    let found = py.detach(|| scan::file(&path))?;
    Ok(found.ok().map(|f| Scanned {
        syscalls: f.syscalls.into_iter().map(|(n, (count, at))| (n, count, at)).collect(),
        unknown_syscalls: f.unknown_syscalls,
        instructions: f.instructions.into_iter().map(|(n, (count, at))| (n, count, at)).collect(),
    }))
}

/// Places of a file that control may go to.
#[pyclass(frozen, get_all, module = "occlum._native")]
struct Targets {
    /// Instructions.
    boundaries: u64,
    /// Of returns, at every level.
    returns: u64,
    /// Of indirect calls and jumps.
    branches: u64,
    /// The same with `--cfi=strict`.
    strict_branches: u64,
}

/// Counts the targets that the levels of control-flow integrity leave in a file; `None` if it has no code.
#[pyfunction]
fn count_targets(py: Python<'_>, path: PathBuf) -> PyResult<Option<Targets>> {
    let counts = py.detach(|| cfi::file(&path))?;
    Ok(counts.map(|c| {
        let (boundaries, returns) = (c.boundaries, c.returns);
        Targets { boundaries, returns, branches: c.branches, strict_branches: c.strict_branches }
    }))
}

/// The system calls of Linux: number, name, "full", "partial" or "none", and the note that belongs to it.
#[pyfunction]
fn syscalls() -> Vec<(u32, &'static str, &'static str, &'static str)> {
    nr::CALLS.iter().map(|c| (c.nr, c.name, c.support.level(), c.support.note())).collect()
}

/// What the CPU answers to CPUID: eax, ebx, ecx, edx. Zeros for a leaf that it does not have.
#[pyfunction]
fn cpuid(leaf: u32, subleaf: u32) -> (u32, u32, u32, u32) {
    pal::cpuid(leaf, subleaf).into()
}

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::sealed::{SealedFs, SealedStat};
    #[pymodule_export]
    use super::{
        LaunchParams, NativeError, Outcome, Scanned, StaleError, Targets, Verified, Violation, count_targets,
        cpuid, measure, resident::Resident, run, scan_file, syscalls, verify_file,
    };

    #[pymodule_export]
    const FLAG_STATS: u32 = super::abi::FLAG_STATS;
    #[pymodule_export]
    const FLAG_REPORT_CHANGES: u32 = super::abi::FLAG_REPORT_CHANGES;
    #[pymodule_export]
    const FLAG_RESIDENT: u32 = super::abi::FLAG_RESIDENT;
    #[pymodule_export]
    const FLAG_ANY_CWD: u32 = super::abi::FLAG_ANY_CWD;
    #[pymodule_export]
    const JOB_NO_TERMINAL: u32 = super::abi::JOB_NO_TERMINAL;
    #[pymodule_export]
    const QUERY_PROCESSES: u32 = super::abi::QUERY_PROCESSES;
    #[pymodule_export]
    const QUERY_STATS: u32 = super::abi::QUERY_STATS;
    #[pymodule_export]
    const FLAG_TTY0: u32 = super::abi::FLAG_TTY0;
    #[pymodule_export]
    const FLAG_NET_NONE: u32 = super::abi::FLAG_NET_NONE;
    #[pymodule_export]
    const FLAG_NET_HOST: u32 = super::abi::FLAG_NET_HOST;
}
