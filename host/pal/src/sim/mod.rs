//! The simulated backend: any x86-64 Linux with FSGSBASE. ELRANGE is ordinary memory, a vCPU an ordinary thread, a signal
//! an AEX. It protects nothing; it behaves as SGX does.
//!
//! Neighbours: `memory` (ELRANGE), `entry` (EENTER, EEXIT), `aex` (signals). Invariant: only this module starts threads.
mod aex;
mod counter;
mod egetkey;
mod entry;
mod memory;
mod signals;

use crate::ocall::net::{self, Published, Reach};
use crate::ocall::{Ended, Host, wait};
use crate::{ExitStatus, PalError, Publish, RunOptions, RunOutcome, image};
pub(crate) use egetkey::Keys;
use entry::Thread;
use memory::Elrange;
use occlum_enclave_abi::{FLAG_NET_HOST, FLAG_NET_NONE, OCALL_BUF_SIZE, OCALL_DATA, OcallFrame};
use occlum_sgx_arch::layout;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

/// One enclave per process.
static BUSY: Mutex<()> = Mutex::new(());

/// `Ended::kind` of a time-out; the enclave itself uses 0-2.
const TIMED_OUT: u64 = 3;
/// `Ended::kind` of an entry that was refused or a vCPU that crashed.
const CRASHED: u64 = 2;

/// Host thread ids of the vCPUs, for kicks.
struct Tids(Vec<AtomicI32>);
impl Tids {
    fn kick(&self, vcpu: u32) {
        let tid = self.0.get(vcpu as usize).map_or(0, |t| t.load(Ordering::Acquire));
        if tid > 0 {
            // SAFETY: 1. tgkill has no memory arguments; a thread that is gone gives ESRCH.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, wait::kick_signal()) };
        }
    }
}

/// Runs the program; returns when the enclave is gone.
pub(crate) fn run(file: &[u8], config: &[u8], vcpus: u32, r: &RunOptions) -> Result<RunOutcome, PalError> {
    let _busy = BUSY.try_lock().map_err(|_| PalError::Busy)?;
    let has = [
        std::arch::is_x86_feature_detected!("avx2"),
        std::arch::is_x86_feature_detected!("bmi2"),
        std::arch::is_x86_feature_detected!("sha"),
        std::arch::is_x86_feature_detected!("aes"),
        std::arch::is_x86_feature_detected!("pclmulqdq"),
    ];
    if has.contains(&false) {
        return Err(PalError::Cpu("AVX2, BMI2, SHA-NI, AES-NI or PCLMULQDQ"));
    }
    let elrange = Arc::new(Elrange::create()?);
    let mut loader = elrange.loader()?;
    image::each_page(file, config, vcpus, &mut |p| loader.add_page(p))?;
    loader.finish()?;
    for n in 0..vcpus {
        elrange.set_gate(n, entry::gate());
    }
    let tids = Arc::new(Tids((0..vcpus).map(|_| AtomicI32::new(0)).collect()));
    let kicker = tids.clone();
    let host = Host::new(
        vcpus,
        r.trace_fd,
        Box::new(elrange.clone()),
        Box::new(move |v| kicker.kick(v)),
        signals::stop_process,
        reach(r.params.flags),
        publish(&r.publish)?,
    )
    .map_err(|error| PalError::System { what: "event descriptors", error })?;
    // The host's view has no layers of its own, and starts without measuring.
    let keys =
        if crate::read(config)?.is_host_view() { None } else { Some(Keys::new(file, config, &r.identity)?) };
    let host = Arc::new(host.controlled(r.control.clone()).with_keys(keys).traced(&r.params.trace));
    let launch = r.params.encode();
    // Declared before the threads' guard: the stacks outlive the handlers.
    let _altstacks = entry::Altstacks::reserve()?;
    let guard = signals::install(&host, r.control.is_none())?;
    if let Some(control) = &r.control {
        control.attach(&host);
    }
    let done = Arc::new((Mutex::new(0u32), Condvar::new()));
    let (threads, started) = start_vcpus(vcpus, &host, &tids, &launch, &done);
    if started.is_err() {
        host.end(Ended { kind: CRASHED, value: 0 });
    }
    supervise(threads.len() as u32, &host, &tids, &done, r);
    for t in threads {
        let _ = t.join();
    }
    if let Some(control) = &r.control {
        control.end();
    }
    drop(guard);
    host.restore_terminals();
    started?;
    let (changed, stats) = host.take_reports();
    Ok(RunOutcome { status: status(&host), changed, stats })
}

/// Starts the vCPU threads. If one cannot be started, those before it run and are the caller's to stop.
fn start_vcpus(
    vcpus: u32,
    host: &Arc<Host>,
    tids: &Arc<Tids>,
    launch: &[u8],
    done: &Arc<(Mutex<u32>, Condvar)>,
) -> (Vec<JoinHandle<()>>, Result<(), PalError>) {
    let mut threads = Vec::new();
    for n in 0..vcpus {
        let (host, tids, done) = (host.clone(), tids.clone(), done.clone());
        let launch = if n == 0 { launch.to_vec() } else { Vec::new() };
        let body = move || {
            if let Err(e) = vcpu(n, &host, &tids, &launch) {
                eprintln!("occlum: vCPU {n}: {e}");
                host.end(Ended { kind: CRASHED, value: 0 });
            }
            tids.0[n as usize].store(0, Ordering::Release);
            if let Ok(mut count) = done.0.lock() {
                *count += 1;
            }
            done.1.notify_all();
        };
        let t = std::thread::Builder::new().name(format!("vcpu{n}")).spawn(body);
        match t {
            Ok(t) => threads.push(t),
            Err(error) => {
                return (threads, Err(PalError::System { what: "starting a vCPU thread", error }));
            }
        }
    }
    (threads, Ok(()))
}

/// What the launch flags let the enclave reach.
fn reach(flags: u32) -> Reach {
    match flags {
        f if f & FLAG_NET_NONE != 0 => Reach::Nothing,
        f if f & FLAG_NET_HOST != 0 => Reach::Host,
        _ => Reach::Outside,
    }
}

/// Takes the ports of this machine, before anything else is done.
fn publish(list: &[Publish]) -> Result<Vec<Published>, PalError> {
    let one = |p: &Publish| {
        net::publish(&p.host, p.port, p.inside, p.datagram)
            .map_err(|error| PalError::Publish { port: p.port, error })
    };
    list.iter().map(one).collect()
}

/// Waits until every vCPU thread is done; enforces the time-out; kicks vCPUs out once the enclave has ended.
fn supervise(vcpus: u32, host: &Host, tids: &Tids, done: &(Mutex<u32>, Condvar), r: &RunOptions) {
    let deadline = r.timeout.map(|t| Instant::now() + t);
    let Ok(mut count) = done.0.lock() else { return };
    while *count < vcpus {
        if deadline.is_some_and(|d| Instant::now() >= d) {
            host.end(Ended { kind: TIMED_OUT, value: 0 });
        }
        let nap = if host.ended().is_some() {
            (0..vcpus).for_each(|v| tids.kick(v));
            std::time::Duration::from_millis(1)
        } else {
            let left =
                deadline.map_or(u64::MAX, |d| d.saturating_duration_since(Instant::now()).as_millis() as u64);
            std::time::Duration::from_millis(left.clamp(1, 1000))
        };
        match done.1.wait_timeout(count, nap) {
            Ok((c, _)) => count = c,
            Err(_) => return,
        }
    }
}

fn status(host: &Host) -> ExitStatus {
    match host.ended() {
        Some(Ended { kind: 0, value }) => ExitStatus::Exited(value as u8),
        Some(Ended { kind: 1, value }) => ExitStatus::Signaled(value as u8),
        Some(Ended { kind: TIMED_OUT, .. }) => ExitStatus::TimedOut,
        _ => ExitStatus::Failed(host.failure()),
    }
}

/// Programs ask the LibOS for the slack of their timers; the kernel's own, 50 us, would come on top, and make a nap at the
/// LibOS's lock three times as long.
fn wake_on_time() {
    // SAFETY: 1. this option has no memory arguments, and concerns this thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
}

/// The life of one vCPU thread: enter, serve OCALLs, return, until the enclave has ended.
fn vcpu(n: u32, host: &Host, tids: &Tids, launch: &[u8]) -> Result<(), PalError> {
    let mut thread = Thread::new(n, host)?;
    // SAFETY: 1. gettid has no arguments.
    tids.0[n as usize].store(unsafe { libc::gettid() }, Ordering::Release);
    wake_on_time();
    let mut buf = vec![0u64; OCALL_BUF_SIZE / 8];
    let address = buf.as_mut_ptr() as u64;
    let _sampler = host.sample_ns().map(wait::Sampler::start);
    let mut command = layout::CMD_START;
    let mut args = [address, launch.as_ptr() as u64, launch.len() as u64];
    loop {
        match thread.enter(command, &args) {
            layout::EXIT_OCALL => serve(n, host, &mut buf),
            entry::EXIT_ABANDONED => break,
            _ => return Err(PalError::Image("it refused an entry")),
        }
        if host.ended().is_some() {
            break;
        }
        command = layout::CMD_RETURN;
        args = [0; 3];
    }
    wait::drop_timer();
    Ok(())
}

/// Serves the OCALL in the buffer.
fn serve(n: u32, host: &Host, buf: &mut [u64]) {
    // SAFETY: 1. a u64 slice is valid as bytes; 2. OcallFrame is plain data at its start, and the buffer is larger.
    let (asked, data) = unsafe {
        let bytes = std::slice::from_raw_parts_mut(buf.as_mut_ptr().cast::<u8>(), buf.len() * 8);
        (bytes.as_ptr().cast::<OcallFrame>().read(), &mut bytes[OCALL_DATA..])
    };
    let frame = complete(n, host, &asked, data);
    // SAFETY: as above.
    unsafe { buf.as_mut_ptr().cast::<OcallFrame>().write(frame) };
}

/// Does what was asked for; the frame with the results.
#[cfg(not(feature = "hostile"))]
fn complete(n: u32, host: &Host, asked: &OcallFrame, data: &mut [u8]) -> OcallFrame {
    let (ret, produced) = host.serve(n, asked, data);
    OcallFrame { ret, out_len: produced as u64, ..*asked }
}

/// The same, by a host that lies.
#[cfg(feature = "hostile")]
fn complete(n: u32, host: &Host, asked: &OcallFrame, data: &mut [u8]) -> OcallFrame {
    use crate::hostile;
    hostile::begin(n, asked, data);
    let (ret, produced) = match hostile::refuse(asked) {
        Some(error) => (error, 0),
        None => host.serve(n, asked, data),
    };
    let mut frame = OcallFrame { ret, out_len: produced as u64, ..*asked };
    hostile::corrupt(asked, &mut frame, data);
    hostile::end(n, host);
    frame
}
