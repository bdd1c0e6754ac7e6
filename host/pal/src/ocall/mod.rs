//! OCALL servers: what the host does for the enclave. Untrusted by design: their bugs can deny service, never leak.
//!
//! Neighbours: `enclave-abi` (the table), the backend (memory, kicks). Invariants: a server touches only the frame's data
//! area and host descriptors that it opened or 0-2; every failure is a negated errno.
mod beneath;
mod files;
pub mod net;
mod stream;
mod transfers;
pub mod wait;
mod work;

use crate::control::Control;
use occlum_enclave_abi::{Ocall, OcallFrame, TraceOptions};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What the backend does for `MemProtect` and `MemAlias`. Addresses are checked by the implementation.
pub trait Memory: Send + Sync {
    /// Changes rights (1 R, 2 W, 4 X); flags 1 populate, 2 drop content, 4 appear filled with `pattern`. 0 or -errno.
    fn protect(&self, addr: u64, len: u64, rights: u32, flags: u32, pattern: u64) -> i64;
    /// Shows pages of the shared arena; `u64::MAX` puts fresh private ones back.
    fn alias(&self, addr: u64, len: u64, arena_offset: u64, rights: u32) -> i64;
}

/// How the enclave ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// 0 exited, 1 signaled, 2 occlum failed.
    pub kind: u64,
    /// Status or signal.
    pub value: u64,
}

/// State of the host side of one enclave.
pub struct Host {
    /// Sends an AEX kick to a vCPU.
    pub kick: Box<dyn Fn(u32) + Send + Sync>,
    /// Stops this process by a signal; returns when it is continued.
    pub stop: fn(i32),
    /// ELRANGE pages.
    pub mem: Box<dyn Memory>,
    trace_fd: Option<i32>,
    wait: wait::Waiter,
    ended: Mutex<Option<Ended>>,
    failure: Mutex<Vec<u8>>,
    changed: Mutex<Vec<Vec<u8>>>,
    stats: Mutex<Vec<(String, String)>>,
    terminals: stream::Terminals,
    ocalls: AtomicU64,
    files: files::Files,
    control: Option<Arc<Control>>,
    sample_ns: Option<u64>,
    net: net::Net,
    keys: Option<crate::sim::Keys>,
}

impl Host {
    /// Host state for `vcpus` vCPUs.
    pub fn new(
        vcpus: u32,
        trace_fd: Option<i32>,
        mem: Box<dyn Memory>,
        kick: Box<dyn Fn(u32) + Send + Sync>,
        stop: fn(i32),
        reach: net::Reach,
        published: Vec<net::Published>,
    ) -> std::io::Result<Host> {
        Ok(Host {
            net: net::Net::new(reach, published),
            kick,
            stop,
            mem,
            trace_fd,
            wait: wait::Waiter::new(vcpus)?,
            ended: Mutex::new(None),
            failure: Mutex::new(Vec::new()),
            changed: Mutex::new(Vec::new()),
            stats: Mutex::new(Vec::new()),
            terminals: stream::Terminals::default(),
            ocalls: AtomicU64::new(0),
            files: files::Files::default(),
            control: None,
            sample_ns: None,
            keys: None,
        })
    }

    /// The same for a resident enclave: its orders come from there.
    pub fn controlled(self, control: Option<Arc<Control>>) -> Host {
        Host { control, ..self }
    }

    /// The same with the samples that the trace options ask for.
    pub fn traced(self, options: &[u8]) -> Host {
        Host { sample_ns: TraceOptions::decode(options).map(|o| o.sample_ns).filter(|ns| *ns != 0), ..self }
    }
    /// How far apart samples are to be, if there are any.
    pub fn sample_ns(&self) -> Option<u64> {
        self.sample_ns
    }
    /// The same with the simulated CPU's keys.
    pub(crate) fn with_keys(self, keys: Option<crate::sim::Keys>) -> Host {
        Host { keys, ..self }
    }

    /// How it ended, once it did.
    pub fn ended(&self) -> Option<Ended> {
        self.ended.lock().map_or(None, |e| *e)
    }
    /// Ends it from the host's side (time-out); vCPUs leave at their next OCALL or kick.
    pub fn end(&self, e: Ended) {
        if let Ok(mut slot) = self.ended.lock() {
            slot.get_or_insert(e);
        }
        self.wait.wake_everyone();
    }
    /// Last text the enclave logged (shown when it failed).
    pub fn failure(&self) -> String {
        self.failure.lock().map_or_else(|_| String::new(), |f| String::from_utf8_lossy(&f).into_owned())
    }
    /// A host signal for the whole enclave (async-signal-safe). A busy vCPU is kicked, so that it hears of it.
    pub fn signal(&self, n: i32) {
        self.wait.signal(n);
        (self.kick)(0);
    }
    /// There are orders. A busy enclave is kicked, so that it hears of them.
    pub fn notify(&self) {
        if !self.wait.notify() {
            (self.kick)(0);
        }
    }
    /// These descriptors are the enclave's from now on.
    pub fn adopt(&self, descriptors: Vec<i32>) {
        self.files.adopt(descriptors);
    }
    /// Changed paths and statistics reported so far.
    pub fn take_reports(&self) -> (Vec<Vec<u8>>, Vec<(String, String)>) {
        let changed = self.changed.lock().map(|mut c| std::mem::take(&mut *c)).unwrap_or_default();
        let mut stats = self.stats.lock().map(|mut s| std::mem::take(&mut *s)).unwrap_or_default();
        stats.push(("ocalls".into(), self.ocalls.load(Ordering::Relaxed).to_string()));
        (changed, stats)
    }
    /// Puts changed terminal attributes back.
    pub fn restore_terminals(&self) {
        self.terminals.restore();
    }

    /// Serves one OCALL of `vcpu`. `data` is the data area: input in its first `in_len` bytes, output overwrites it.
    /// Returns the result and how many bytes of output there are.
    pub fn serve(&self, vcpu: u32, frame: &OcallFrame, data: &mut [u8]) -> (i64, usize) {
        self.ocalls.fetch_add(1, Ordering::Relaxed);
        let Some(call) = Ocall::from_nr(frame.nr) else {
            return (-i64::from(libc::ENOSYS), 0);
        };
        let in_len = (frame.in_len as usize).min(data.len());
        let out_len = (frame.out_len as usize).min(data.len());
        if let (Ocall::NextOrder, Some(control)) = (call, &self.control) {
            return control.next_order(frame.args[0], &mut data[..out_len]);
        }
        let ret = loop {
            // A kick interrupts a call that blocks: the end of the enclave must reach it, the enclave need not know.
            match self.dispatch(vcpu, call, &frame.args, data, in_len, out_len) {
                EINTR if self.ended().is_none() => {}
                ret => break ret,
            }
        };
        let produced = match call {
            _ if ret < 0 => 0,
            // Calls whose result is a number of bytes.
            Ocall::NetRecv | Ocall::NetGetOption | Ocall::NetInterfaces => ret as usize,
            Ocall::Pread | Ocall::Read | Ocall::Readlink | Ocall::Readdir | Ocall::Stat | Ocall::Statfs => {
                ret as usize
            }
            _ => out_len,
        };
        (ret, produced.min(out_len))
    }

    fn dispatch(
        &self,
        vcpu: u32,
        call: Ocall,
        a: &[u64; 6],
        data: &mut [u8],
        in_len: usize,
        out_len: usize,
    ) -> i64 {
        match call {
            Ocall::Exit => {
                self.end(Ended { kind: a[0], value: a[1] });
                0
            }
            Ocall::Wait => self.wait(vcpu, a[0], &mut data[..out_len]),
            Ocall::Wake => {
                let target = a[0] as u32;
                if a[1] != 0 {
                    (self.kick)(target)
                } else {
                    self.wait.wake(target)
                }
                0
            }
            Ocall::Log => self.log(a[0], &data[..in_len]),
            Ocall::Clock => wait::clock(&mut data[..out_len]),
            Ocall::MemProtect => self.mem.protect(a[0], a[1], a[2] as u32, a[3] as u32, a[4]),
            Ocall::MemAlias => self.mem.alias(a[0], a[1], a[2], a[3] as u32),
            Ocall::Egetkey => match &self.keys {
                Some(keys) => keys.serve(data, in_len, out_len),
                None => -i64::from(libc::ENOSYS),
            },
            Ocall::Counter => match &self.keys {
                Some(keys) => keys.serve_counter(data, in_len, out_len),
                None => -i64::from(libc::ENOSYS),
            },
            Ocall::Report => self.report(a[0], &data[..in_len]),
            Ocall::Tick => wait::tick(a[0] != 0, a[1]),
            Ocall::Poll => self.wait.poll(a[0] as i32, a[1] as u32),
            Ocall::Read => stream::read(a[0] as i32, a[1] != 0, &mut data[..out_len]),
            Ocall::Write => stream::write(a[0] as i32, a[1] != 0, &data[..in_len]),
            Ocall::Ioctl => self.terminals.ioctl(a[0] as i32, a[1], data, in_len, out_len),
            Ocall::Stop => {
                self.terminals.lend(|| (self.stop)(a[0] as i32));
                0
            }
            Ocall::JobEvent => match &self.control {
                Some(control) => control.event(a, &data[..in_len]),
                None => -i64::from(libc::ENOSYS),
            },
            Ocall::Begin => self.wait.begin(a),
            Ocall::NetConnect => self.net.connect(&self.wait, a, &data[..in_len]),
            Ocall::NetListen => self.net.listen(&self.wait, a),
            Ocall::NetAccept => self.net.accept(&self.wait, a, &mut data[..out_len]),
            Ocall::NetSend => self.net.send(a, &data[..in_len]),
            Ocall::NetRecv => self.net.receive(a, &mut data[..out_len]),
            Ocall::NetShutdown => self.net.shutdown(a),
            Ocall::NetName => self.net.name(a, &mut data[..out_len]),
            Ocall::NetGetOption => self.net.get_option(a, &mut data[..out_len]),
            Ocall::NetSetOption => self.net.set_option(a, &data[..in_len]),
            Ocall::NetInterfaces => net::interfaces(&mut data[..out_len]),
            Ocall::NetReady => self.net.ready(a),
            Ocall::Close if self.net.close(&self.wait, a[0] as i32).is_some() => 0,
            Ocall::Close => {
                self.wait.forget(a[0] as i32);
                self.files.serve(call, a, data, in_len, out_len)
            }
            Ocall::Seek => stream::seek(a[0] as i32, a[1] as i32, a[2] as i64),
            _ => self.files.serve(call, a, data, in_len, out_len),
        }
    }

    fn wait(&self, vcpu: u32, at_most: u64, out: &mut [u8]) -> i64 {
        let has_orders = || self.control.as_ref().is_some_and(|c| c.has_orders());
        self.wait.wait(vcpu, at_most, out, || self.ended().is_some(), has_orders)
    }

    fn log(&self, sink: u64, text: &[u8]) -> i64 {
        let fd = if sink == 1 { self.trace_fd } else { Some(2) };
        let Some(fd) = fd else { return text.len() as i64 };
        if sink == 0
            && let Ok(mut f) = self.failure.lock()
        {
            f.clear();
            f.extend_from_slice(text);
        }
        stream::write_all(fd, text, || self.ended().is_some());
        text.len() as i64
    }

    fn report(&self, kind: u64, text: &[u8]) -> i64 {
        match kind {
            1 => {
                if let Ok(mut c) = self.changed.lock() {
                    c.push(text.to_vec());
                }
            }
            _ => {
                let text = String::from_utf8_lossy(text);
                if let (Some((k, v)), Ok(mut s)) = (text.split_once('='), self.stats.lock()) {
                    s.push((k.into(), v.into()));
                }
            }
        }
        0
    }
}

/// An interrupted system call. Nothing has happened then, and the input is still in the data area.
const EINTR: i64 = -(libc::EINTR as i64);

/// The last system error, negated.
fn errno() -> i64 {
    -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// A system call's result: its value, or the negated errno.
fn check(r: i64) -> i64 {
    if r < 0 { errno() } else { r }
}
