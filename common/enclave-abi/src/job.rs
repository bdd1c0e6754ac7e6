//! Orders and what comes back: how a running enclave gets further programs.
//!
//! The host queues orders and says so in `HostEvents::orders`; the enclave fetches them with `Ocall::NextOrder` and tells
//! what became of them with `Ocall::JobEvent`. A *job* is a program that the host asked for, in a session of its own; the
//! host chooses its number. Decoding takes hostile bytes.
use crate::{Reader, put};
use alloc::vec::Vec;

/// Longest order that an enclave takes.
pub const ORDER_MAX: usize = 4 << 20;
/// Most supplementary groups of one job.
pub const JOB_GROUPS_MAX: usize = 1024;
/// Most descriptors of one job.
pub const JOB_FILES_MAX: usize = 253;

/// A host descriptor that a job gets. The enclave closes it when the last user inside does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobFile {
    /// Number inside.
    pub guest_fd: u32,
    /// Number on the host.
    pub host_fd: u32,
    /// O_RDONLY, O_WRONLY or O_RDWR.
    pub mode: u32,
    /// 1 if it is a terminal: the job's controlling one, unless `JobStart::flags` says otherwise.
    pub terminal: u32,
}

/// A program to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobStart {
    /// The host's number for it, not 0 and not in use.
    pub job: u64,
    /// Program; PATH of `envp` is searched if it has no slash.
    pub program: Vec<u8>,
    /// argv, argv[0] included.
    pub argv: Vec<Vec<u8>>,
    /// KEY=VALUE strings.
    pub envp: Vec<Vec<u8>>,
    /// Working directory (absolute).
    pub cwd: Vec<u8>,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Bit n-1: signal n is ignored at the start.
    pub ignored: u64,
    /// umask.
    pub umask: u32,
    /// `JOB_*`.
    pub flags: u32,
    /// Descriptors.
    pub files: Vec<JobFile>,
}
/// `JobStart::flags`: a terminal among the descriptors does not control the job.
pub const JOB_NO_TERMINAL: u32 = 1;

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Target {
    /// The job's first process.
    Process = 0,
    /// The foreground group of the job's terminal; without one, the first process's group.
    Foreground = 1,
    /// Every process of the job's session.
    Session = 2,
    /// The process with this pid, which stands in the job's place.
    Pid = 3,
}

/// What the host asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start a program.
    Start(JobStart),
    /// Send a signal.
    Signal {
        /// Job.
        job: u64,
        /// Who of it.
        target: Target,
        /// Signal number.
        signal: u32,
    },
    /// Answer with `JobEvent::Reply`.
    Query {
        /// Number of the answer.
        id: u64,
        /// `QUERY_*`.
        what: u32,
    },
    /// Tell about the start and end of every process from now on, or no more.
    Watch(bool),
    /// End the enclave.
    End,
}
/// `Order::Query`: a line for each process: pid, ppid, pgid, sid, state letter, resident KiB, CPU ns, argv or name.
pub const QUERY_PROCESSES: u32 = 0;
/// `Order::Query`: `name=value` lines.
pub const QUERY_STATS: u32 = 1;

/// What `Ocall::JobEvent` tells: args[0]. The others depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum JobEvent {
    /// The program runs. args: job, pid.
    Started = 1,
    /// It could not be started. args: job, errno, stage (`STAGE_*`).
    Failed = 2,
    /// Its first process has ended. args: job, status in wait4's encoding.
    Ended = 3,
    /// Its first process was stopped. args: job, signal.
    Stopped = 4,
    /// It goes on. args: job.
    Continued = 5,
    /// Watching: a process runs a program. args: pid, parent. in: path.
    ProcessStarted = 6,
    /// Watching: a process has ended. args: pid, status.
    ProcessEnded = 7,
    /// args: number of the query. in: the answer.
    Reply = 8,
    /// A signal for a job is where it belongs. args: job.
    Signalled = 9,
}
/// `JobEvent::Failed`: the program could not be executed.
pub const STAGE_EXEC: u64 = 0;
/// `JobEvent::Failed`: the working directory is none.
pub const STAGE_CWD: u64 = 1;

const START: u32 = 1;
const SIGNAL: u32 = 2;
const QUERY: u32 = 3;
const WATCH: u32 = 4;
const END: u32 = 5;

fn put_u32(out: &mut Vec<u8>, v: u32) {
    out.extend_from_slice(&v.to_le_bytes());
}
fn put_u64(out: &mut Vec<u8>, v: u64) {
    out.extend_from_slice(&v.to_le_bytes());
}

impl Order {
    /// Wire form: the kind, then the fields in order, as `LaunchParams` has them.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Start(s) => {
                put_u32(&mut out, START);
                s.encode(&mut out);
            }
            Self::Signal { job, target, signal } => {
                put_u32(&mut out, SIGNAL);
                put_u64(&mut out, *job);
                put_u32(&mut out, *target as u32);
                put_u32(&mut out, *signal);
            }
            Self::Query { id, what } => {
                put_u32(&mut out, QUERY);
                put_u64(&mut out, *id);
                put_u32(&mut out, *what);
            }
            Self::Watch(on) => {
                put_u32(&mut out, WATCH);
                put_u32(&mut out, u32::from(*on));
            }
            Self::End => put_u32(&mut out, END),
        }
        out
    }
    /// The job that an order asks for, from its first bytes.
    pub fn job_of(bytes: &[u8]) -> Option<u64> {
        let mut r = Reader { bytes };
        if r.u32()? == START { r.u64() } else { None }
    }
    /// Decodes hostile bytes; `None` if they are not well formed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader { bytes };
        let order = match r.u32()? {
            START => Self::Start(JobStart::decode(&mut r)?),
            SIGNAL => Self::Signal {
                job: r.u64()?,
                target: match r.u32()? {
                    0 => Target::Process,
                    1 => Target::Foreground,
                    2 => Target::Session,
                    3 => Target::Pid,
                    _ => return None,
                },
                signal: r.u32().filter(|s| (1..=64).contains(s))?,
            },
            QUERY => Self::Query { id: r.u64()?, what: r.u32()? },
            WATCH => Self::Watch(r.u32()? != 0),
            END => Self::End,
            _ => return None,
        };
        r.bytes.is_empty().then_some(order)
    }
}

impl JobStart {
    fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.job);
        put(out, &self.program);
        for list in [&self.argv, &self.envp] {
            put_u32(out, list.len() as u32);
            list.iter().for_each(|s| put(out, s));
        }
        put(out, &self.cwd);
        put_u64(out, self.ignored);
        put_u32(out, self.groups.len() as u32);
        self.groups.iter().for_each(|g| put_u32(out, *g));
        for v in [self.uid, self.gid, self.umask, self.flags, self.files.len() as u32] {
            put_u32(out, v);
        }
        for f in &self.files {
            [f.guest_fd, f.host_fd, f.mode, f.terminal].into_iter().for_each(|v| put_u32(out, v));
        }
    }
    fn decode(r: &mut Reader<'_>) -> Option<Self> {
        let job = r.u64().filter(|j| *j != 0)?;
        let program = r.bytes()?;
        let argv = r.list()?;
        let envp = r.list()?;
        let cwd = r.bytes()?;
        let ignored = r.u64()?;
        let n = r.u32().filter(|n| *n as usize <= JOB_GROUPS_MAX)?;
        let groups = (0..n).map(|_| r.u32()).collect::<Option<_>>()?;
        let (uid, gid, umask, flags) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
        let n = r.u32().filter(|n| *n as usize <= JOB_FILES_MAX)?;
        let mut files = Vec::new();
        for _ in 0..n {
            let (guest_fd, host_fd, mode, terminal) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
            if mode > 2 || terminal > 1 {
                return None;
            }
            files.push(JobFile { guest_fd, host_fd, mode, terminal });
        }
        Some(Self {
            job,
            program,
            argv,
            envp,
            cwd,
            uid,
            gid,
            groups,
            ignored,
            umask: umask & 0o777,
            flags,
            files,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Order {
        Order::Start(JobStart {
            job: 7,
            program: b"true".to_vec(),
            argv: [b"true".to_vec(), Vec::new()].to_vec(),
            envp: [b"A=B".to_vec()].to_vec(),
            cwd: b"/tmp".to_vec(),
            uid: 1,
            gid: 2,
            groups: [3, 4].to_vec(),
            ignored: 1 << 12,
            umask: 0o22,
            flags: JOB_NO_TERMINAL,
            files: [JobFile { guest_fd: 0, host_fd: 9, mode: 2, terminal: 1 }].to_vec(),
        })
    }

    #[test]
    fn orders_survive_the_wire() {
        let signal = Order::Signal { job: 1 << 40, target: Target::Session, signal: 9 };
        for order in
            [start(), signal, Order::Query { id: 3, what: QUERY_STATS }, Order::Watch(true), Order::End]
        {
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
    }

    #[test]
    fn a_start_is_known_by_its_head() {
        assert_eq!(Order::job_of(&start().encode()[..12]), Some(7));
        assert_eq!(Order::job_of(&Order::End.encode()), None);
    }

    #[test]
    fn every_cut_and_every_tail_is_refused() {
        let bytes = start().encode();
        for n in 0..bytes.len() {
            assert_eq!(Order::decode(&bytes[..n]), None);
        }
        assert_eq!(Order::decode(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn nonsense_is_refused() {
        let signal = |target: u32, signal: u32| {
            let mut b = Vec::new();
            put_u32(&mut b, SIGNAL);
            put_u64(&mut b, 1);
            put_u32(&mut b, target);
            put_u32(&mut b, signal);
            b
        };
        assert!(Order::decode(&signal(0, 9)).is_some());
        for bad in [signal(4, 9), signal(0, 0), signal(0, 65), [9, 0, 0, 0].to_vec()] {
            assert_eq!(Order::decode(&bad), None);
        }
        let Order::Start(good) = start() else { panic!("start() is a start") };
        for change in [
            |s: &mut JobStart| s.job = 0,
            |s: &mut JobStart| s.files[0].mode = 3,
            |s: &mut JobStart| s.files = [JobFile::default()].repeat(JOB_FILES_MAX + 1),
        ] {
            let mut s = good.clone();
            change(&mut s);
            assert_eq!(Order::decode(&Order::Start(s).encode()), None);
        }
    }
}
