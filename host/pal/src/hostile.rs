//! A hostile host, for tests: results of OCALLs are changed by a seeded plan before the enclave sees them.
//!
//! Only with the cargo feature `hostile`, which nothing that is shipped turns on; `examples/hostile.rs` drives it, one
//! enclave per process. Neighbour: `sim` calls `corrupt` between serving an OCALL and the return to the enclave.
use crate::ocall::Host;
use occlum_enclave_abi::{OCALL_DATA_MAX, Ocall, OcallFrame};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is changed: a class of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Results that are numbers of bytes, and the length of the output.
    Length,
    /// Descriptors that `Open` and the network's calls return.
    Descriptor,
    /// Error numbers, for calls that the host did or did not do.
    Errno,
    /// The three clocks.
    Time,
    /// What `Wait`, `Poll`, `Tick`, `Wake` and `NetReady` report.
    Event,
    /// Attributes, directory entries, link texts, terminal modes, network addresses, interfaces, datagrams, keys, what counters
    /// answer.
    Metadata,
    /// The completion of the call before, once more.
    Duplicate,
    /// The completion of an earlier call of any vCPU.
    Reorder,
}
impl Class {
    /// All, by name.
    pub const ALL: [(&'static str, Class); 8] = [
        ("length", Class::Length),
        ("descriptor", Class::Descriptor),
        ("errno", Class::Errno),
        ("time", Class::Time),
        ("event", Class::Event),
        ("metadata", Class::Metadata),
        ("duplicate", Class::Duplicate),
        ("reorder", Class::Reorder),
    ];

    /// Has this call a result of the class?
    pub fn concerns(self, call: Ocall) -> bool {
        use Ocall as O;
        match self {
            Class::Length => matches!(
                call,
                O::Pread
                    | O::Pwrite
                    | O::Read
                    | O::Write
                    | O::Readlink
                    | O::Readdir
                    | O::Stat
                    | O::Statfs
                    | O::Ioctl
                    | O::Seek
                    | O::Wait
                    | O::Clock
                    | O::NetSend
                    | O::NetRecv
                    | O::NetGetOption
                    | O::NetInterfaces
                    | O::Egetkey
                    | O::Counter
            ),
            Class::Descriptor => matches!(call, O::Open | O::NetConnect | O::NetListen | O::NetAccept),
            // A refusal to end is no result.
            Class::Errno | Class::Duplicate | Class::Reorder => call != O::Exit,
            Class::Time => call == O::Clock,
            Class::Event => matches!(call, O::Wait | O::Poll | O::Tick | O::Wake | O::NetReady | O::Begin),
            Class::Metadata => matches!(
                call,
                O::Stat
                    | O::Readdir
                    | O::Readlink
                    | O::Statfs
                    | O::Ioctl
                    | O::NetAccept
                    | O::NetRecv
                    | O::NetName
                    | O::NetGetOption
                    | O::NetInterfaces
                    | O::Egetkey
                    | O::Counter
            ),
        }
    }
}

/// Which results of one run are changed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The class of fields.
    pub class: Class,
    /// Only results of this call, and more of them.
    pub only: Option<Ocall>,
    /// Everything else follows from it.
    pub seed: u64,
}

/// SplitMix64.
struct Random(u64);
impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

struct Completion {
    ret: i64,
    out_len: u64,
    data: Vec<u8>,
}

struct State {
    class: Class,
    only: Option<Ocall>,
    random: Random,
    /// No change before the program looks at `SIGNAL`.
    waits: bool,
    /// Calls of the class that pass before the first change.
    skip: u64,
    /// One call in so many is changed.
    one_in: u64,
    /// Changes left. A host that lies for ever can deny service for ever; that shows nothing.
    left: u64,
    /// Its clock stands still, and for ever: whoever waits for it to go on may not wait long.
    stands: bool,
    /// The first reading.
    clock: [u8; 24],
    earlier: VecDeque<Completion>,
    changed: BTreeMap<&'static str, u64>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);
/// What each vCPU does outside: OCALL number + 1, 0 inside.
static LEFT: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
/// Where each vCPU was inside when the enclave was ended from outside.
static ABANDONED: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// The name of a file that a program asks for when it has begun, so that the lies of most runs meet its calls and not
/// those that load it.
const SIGNAL: &[u8] = b"lies-begin";
/// What is sent to this address (198.51.100.1, of documentation) comes back to this machine.
const OUTSIDE: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 1];
const HERE: [u8; 4] = [127, 0, 0, 1];
/// What lies behind an output that is said to be longer than it is: what programs see of it comes from the host.
const FILLER: u8 = b'A';

/// Completions that are remembered.
const EARLIER: usize = 16;
/// Bytes of output that are remembered of each.
const REMEMBERED: usize = 4096;

/// The plan of the next run of this process.
pub fn install(plan: Plan) {
    let mut random = Random(plan.seed);
    let stands = plan.class == Class::Time && plan.seed % 4 == 1;
    let left: &[u64] = if plan.only.is_some() { &[16, 1000, 6000] } else { &[1, 4, 16, 64, 256] };
    let state = State {
        class: plan.class,
        only: plan.only,
        waits: plan.only.is_some_and(|o| !at_start(o)) && plan.seed % 4 != 3,
        // The clocks are read some thousand times at the start, of which the first and the last count.
        skip: match plan.only {
            _ if stands => 0,
            Some(Ocall::NetInterfaces) => 0,
            Some(Ocall::Clock) => random.pick(&[0, 0, 1, 2, 3000]),
            Some(_) => random.below(8),
            None if plan.class == Class::Time => random.pick(&[0, 1, 3000]),
            None => random.below(100),
        },
        one_in: match plan.only {
            _ if stands => 1,
            Some(Ocall::NetInterfaces) => 1,
            Some(_) => random.pick(&[1, 1, 2, 5]),
            None => random.pick(&[1, 2, 4, 16]),
        },
        left: if stands { u64::MAX } else { random.pick(left) },
        stands,
        clock: [0; 24],
        random,
        earlier: VecDeque::new(),
        changed: BTreeMap::new(),
    };
    if let Ok(mut s) = STATE.lock() {
        *s = Some(state);
    }
}

/// Is the call made without a program that could say when?
fn at_start(call: Ocall) -> bool {
    use Ocall as O;
    matches!(
        call,
        O::Clock | O::NetInterfaces | O::NextOrder | O::JobEvent | O::Lock | O::Egetkey | O::Counter
    )
}

/// Sends this process SIGTERM after some time: the first process of an enclave that is alive ends by it.
pub fn terminate_after(time: std::time::Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        // SAFETY: 1. kill has no memory arguments; the enclave's handler is there, or the process ends.
        unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
    });
}

/// How many results of each OCALL were changed.
pub fn changed() -> Vec<(&'static str, u64)> {
    let Ok(s) = STATE.lock() else { return Vec::new() };
    s.as_ref().map_or_else(Vec::new, |s| s.changed.iter().map(|(name, n)| (*name, *n)).collect())
}

/// What each of the first `vcpus` vCPUs did when the enclave was ended from outside: the name of an OCALL, `guest`, or an
/// address in the LibOS.
pub fn whereabouts(vcpus: u32) -> Vec<String> {
    let code = occlum_sfi_spec::elrange::CODE_BASE..occlum_sfi_spec::elrange::CODE_END;
    let one = |n: usize| match (LEFT[n].load(Ordering::SeqCst), ABANDONED[n].load(Ordering::SeqCst)) {
        (0, 0) => "unknown".into(),
        (0, rip) if code.contains(&rip) => "guest".into(),
        (0, rip) => format!("{rip:#x}"),
        (nr, _) => Ocall::from_nr(nr - 1).map_or("?", Ocall::name).into(),
    };
    (0..vcpus as usize).map(one).collect()
}

/// vCPU `n` is about to be served.
pub(crate) fn begin(n: u32, frame: &OcallFrame, data: &mut [u8]) {
    LEFT[n as usize].store(frame.nr + 1, Ordering::SeqCst);
    let input = data.len().min(frame.in_len as usize);
    match Ocall::from_nr(frame.nr) {
        Some(Ocall::NetConnect | Ocall::NetSend) if data[..input].starts_with(&OUTSIDE) => {
            data[12..16].copy_from_slice(&HERE);
        }
        Some(Ocall::Stat) if data[..input].ends_with(SIGNAL) => {
            if let Ok(mut s) = STATE.lock()
                && let Some(s) = s.as_mut()
            {
                s.waits = false;
            }
        }
        _ => {}
    }
}
/// vCPU `n` was served; it goes back inside unless the enclave has ended.
pub(crate) fn end(n: u32, host: &Host) {
    if host.ended().is_none() {
        LEFT[n as usize].store(0, Ordering::SeqCst);
    }
}
/// vCPU `n` was taken out of the enclave at `rip`.
pub(crate) fn abandoned(tcs: u64, rip: u64) {
    use occlum_sgx_arch::layout;
    let n = (tcs - layout::thread(0)) / (layout::thread(1) - layout::thread(0));
    ABANDONED[n as usize % ABANDONED.len()].store(rip, Ordering::SeqCst);
}

/// Is this call to fail without being done?
pub(crate) fn refuse(frame: &OcallFrame) -> Option<i64> {
    let mut guard = STATE.lock().ok()?;
    let s = guard.as_mut()?;
    let call = Ocall::from_nr(frame.nr)?;
    if s.class != Class::Errno || !s.due(call) {
        return None;
    }
    s.note(call);
    Some(errno(&mut s.random))
}

/// Changes the completion of a served call: result, length and bytes of the output.
pub(crate) fn corrupt(asked: &OcallFrame, frame: &mut OcallFrame, data: &mut [u8]) {
    let Ok(mut guard) = STATE.lock() else { return };
    let Some(s) = guard.as_mut() else { return };
    let Some(call) = Ocall::from_nr(asked.nr) else { return };
    let n = (frame.out_len as usize).min(REMEMBERED).min(data.len());
    let honest = Completion { ret: frame.ret, out_len: frame.out_len, data: data[..n].to_vec() };
    if call == Ocall::Clock && s.clock == [0; 24] {
        s.clock.copy_from_slice(&data[..24]);
    }
    if s.class == Class::Length {
        let (from, to) = (frame.out_len as usize, asked.out_len as usize);
        data.get_mut(from..to).unwrap_or_default().fill(FILLER);
    }
    if s.class != Class::Errno && s.due(call) {
        s.note(call);
        s.change(call, asked, frame, data);
    }
    s.earlier.push_back(honest);
    if s.earlier.len() > EARLIER {
        s.earlier.pop_front();
    }
}

impl State {
    fn due(&mut self, call: Ocall) -> bool {
        if self.waits || !self.class.concerns(call) || self.left == 0 || self.only.is_some_and(|o| o != call)
        {
            return false;
        }
        // They would use up all changes of the other classes.
        let mixed = self.class != Class::Time && self.only.is_none();
        if call == Ocall::Clock && mixed && self.random.below(2000) != 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let due = self.random.below(self.one_in) == 0;
        self.left -= u64::from(due);
        due
    }

    fn note(&mut self, call: Ocall) {
        *self.changed.entry(call.name()).or_default() += 1;
    }

    fn change(&mut self, call: Ocall, asked: &OcallFrame, frame: &mut OcallFrame, data: &mut [u8]) {
        let r = &mut self.random;
        let n = (frame.out_len as usize).min(data.len());
        match self.class {
            Class::Length => lengths(r, asked, frame),
            Class::Descriptor => frame.ret = descriptor(r, frame.ret),
            Class::Errno => frame.ret = errno(r),
            Class::Time if self.stands => data[..24].copy_from_slice(&self.clock),
            Class::Time => words(r, &mut data[..24]),
            Class::Event if call == Ocall::Wait => words(r, &mut data[..n]),
            Class::Event => frame.ret = number(r, frame.ret),
            Class::Metadata => bytes(r, &mut data[..n]),
            Class::Duplicate | Class::Reorder => {
                let last = self.earlier.len().saturating_sub(1);
                let which =
                    if self.class == Class::Duplicate { last } else { r.below(EARLIER as u64) as usize };
                let Some(c) = self.earlier.get(which) else { return };
                (frame.ret, frame.out_len) = (c.ret, c.out_len);
                data[..c.data.len()].copy_from_slice(&c.data);
            }
        }
    }
}

/// Any number, often one at an edge.
fn number(r: &mut Random, honest: i64) -> i64 {
    let edges = [
        0,
        1,
        honest.wrapping_sub(1),
        honest.wrapping_add(1),
        honest.wrapping_neg(),
        4095,
        4096,
        OCALL_DATA_MAX as i64,
        OCALL_DATA_MAX as i64 + 1,
        i64::from(i32::MAX),
        1 << 31,
        i64::from(u32::MAX),
        1 << 32,
        1 << 40,
        i64::MAX,
        i64::MAX - 4095,
        i64::MIN,
    ];
    if r.below(8) == 0 { r.next() as i64 } else { r.pick(&edges) }
}

fn lengths(r: &mut Random, asked: &OcallFrame, frame: &mut OcallFrame) {
    let near = [asked.in_len as i64, asked.out_len as i64, asked.args[2] as i64, frame.ret];
    let base = r.pick(&near);
    match r.below(3) {
        0 => frame.ret = number(r, base),
        1 => frame.out_len = number(r, base) as u64,
        _ => (frame.ret, frame.out_len) = (number(r, base), number(r, base) as u64),
    }
}

fn descriptor(r: &mut Random, honest: i64) -> i64 {
    let others = [0, 1, 2, 3, honest + 1, honest - 1, 1023, 1 << 20];
    if r.below(2) == 0 { r.pick(&others) } else { number(r, honest) }
}

fn errno(r: &mut Random) -> i64 {
    let special = [4, 11, 12, 512, 513, 514, 516, 530, 4095, 4096, 1 << 31, 1 << 32, i64::MAX];
    match r.below(8) {
        0 => i64::MIN,
        1..=3 => -r.pick(&special),
        _ => -(1 + r.below(200) as i64),
    }
}

/// Some of the 8-byte words become other words.
fn words(r: &mut Random, data: &mut [u8]) {
    for chunk in data.chunks_exact_mut(8) {
        let honest = u64::from_le_bytes(std::array::from_fn(|i| chunk[i])) as i64;
        if r.below(2) == 0 {
            chunk.copy_from_slice(&number(r, honest).to_le_bytes());
        }
    }
}

/// Some bytes, or whole words, become others.
fn bytes(r: &mut Random, data: &mut [u8]) {
    if data.is_empty() {
        return;
    }
    if r.below(3) == 0 {
        return words(r, data);
    }
    for _ in 0..1 + r.below(8) {
        let at = r.below(data.len() as u64) as usize;
        data[at] =
            if r.below(2) == 0 { r.next() as u8 } else { r.pick(&[0, 1, 0x2e, 0x2f, 0x7f, 0x80, 0xff]) };
    }
}
