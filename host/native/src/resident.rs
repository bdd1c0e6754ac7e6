//! A resident enclave: started on a thread of its own, asked for programs through `pal::control`.
//!
//! Invariant: whatever way the run ends, `control` is told, so that nobody waits for events in vain.
use super::{
    Identity, LaunchParams, NativeError, Outcome, Published, given_identity, native_error, published,
};
use occlum_enclave_abi as abi;
use occlum_pal::{self as pal, control::Control};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

type Run = JoinHandle<Result<pal::RunOutcome, pal::PalError>>;

/// A running enclave that takes orders.
#[pyclass(frozen, module = "occlum._native")]
pub(crate) struct Resident {
    control: Arc<Control>,
    run: Mutex<Option<Run>>,
}

/// kind, three arguments, bytes: see `JobEvent` of `enclave-abi`; kind 0: the enclave has ended.
type EventTuple = (u64, u64, u64, u64, Py<PyBytes>);

#[pymethods]
impl Resident {
    /// Starts it; `params` must have FLAG_RESIDENT.
    #[new]
    #[pyo3(signature = (image, config, params, *, trace_fd=None, publish=Vec::new(), identity=None))]
    fn new(
        image: Vec<u8>,
        config: Vec<u8>,
        params: &LaunchParams,
        trace_fd: Option<i32>,
        publish: Vec<Published>,
        identity: Option<Identity>,
    ) -> PyResult<Self> {
        let control = Control::new().map_err(native_error)?;
        let (publish, identity) = (published(publish), given_identity(identity)?);
        let (params, of_run) = (params.0.clone(), control.clone());
        let body = move || {
            let control = Some(of_run.clone());
            let run = pal::RunOptions { params, trace_fd, timeout: None, publish, control, identity };
            let result = pal::run(&image, &config, &run);
            of_run.end();
            result
        };
        let run = std::thread::Builder::new().name("enclave".into()).spawn(body)?;
        Ok(Self { control, run: Mutex::new(Some(run)) })
    }

    /// Readable while there are events.
    fn fileno(&self) -> i32 {
        self.control.event_fd().as_raw_fd()
    }

    /// Asks for a program. True: its descriptors (inside, here, access mode, terminal) are the enclave's now.
    #[pyo3(signature = (*, job, program, argv, envp, cwd, uid, gid, groups, ignored, umask, flags, files))]
    #[expect(clippy::too_many_arguments, reason = "one keyword per field of the wire form")]
    fn start(
        &self,
        job: u64,
        program: Vec<u8>,
        argv: Vec<Vec<u8>>,
        envp: Vec<Vec<u8>>,
        cwd: Vec<u8>,
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
        ignored: u64,
        umask: u32,
        flags: u32,
        files: Vec<(u32, u32, u32, bool)>,
    ) -> bool {
        let file = |(guest_fd, host_fd, mode, terminal): (u32, u32, u32, bool)| abi::JobFile {
            guest_fd,
            host_fd,
            mode,
            terminal: u32::from(terminal),
        };
        let files = files.into_iter().map(file).collect();
        #[rustfmt::skip]
        let start = abi::JobStart {
            job, program, argv, envp, cwd, uid, gid, groups, ignored, umask, flags, files,
        };
        self.control.order(&abi::Order::Start(start))
    }

    /// Sends a signal: target 0 the first process, 1 the foreground group, 2 the whole session, 3 the process with the
    /// pid that stands in the job's place.
    fn signal(&self, job: u64, target: u32, signal: u32) -> PyResult<bool> {
        let target = match target {
            0 => abi::Target::Process,
            1 => abi::Target::Foreground,
            2 => abi::Target::Session,
            3 => abi::Target::Pid,
            _ => return Err(NativeError::new_err("no such target of a signal")),
        };
        Ok(self.control.order(&abi::Order::Signal { job, target, signal }))
    }

    /// Asks for an answer, an event with this id.
    fn query(&self, id: u64, what: u32) -> bool {
        self.control.order(&abi::Order::Query { id, what })
    }

    /// Processes' starts and ends are events from now on, or not any more.
    fn watch(&self, on: bool) -> bool {
        self.control.order(&abi::Order::Watch(on))
    }

    /// Ends the enclave.
    fn end(&self) -> bool {
        self.control.order(&abi::Order::End)
    }

    /// The oldest event, if there is one.
    fn next_event(&self, py: Python<'_>) -> Option<EventTuple> {
        let e = self.control.next_event()?;
        let [a, b, c] = e.args;
        Some((e.kind, a, b, c, PyBytes::new(py, &e.bytes).unbind()))
    }

    /// Waits until the enclave is gone; how it ended.
    fn join(&self, py: Python<'_>) -> PyResult<Outcome> {
        let run = self.run.lock().ok().and_then(|mut r| r.take());
        let Some(run) = run else { return Err(NativeError::new_err("somebody else has joined the enclave")) };
        let result = py.detach(|| run.join());
        let outcome = result.map_err(|_| NativeError::new_err("the enclave's host thread panicked"))?;
        Ok(Outcome::from_pal(py, outcome.map_err(native_error)?))
    }
}
