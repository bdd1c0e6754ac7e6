//! What a debug enclave tells the host of its programs: the options that cross at launch, and the records that come out.
//!
//! Neighbours: `enclave/libos/src/trace` writes records, `python/occlum/trace` writes options and reads records. The
//! enclave only copies; what things mean is decided in Python. Invariants: a record is `RecordHead`, then its fields,
//! little-endian without padding; records are whole in the stream, never split by others. Only enclaves whose measured
//! configuration says *debug* (`CONFIG_DEBUG`) heed the options.

/// What to tell. Wire form: the fields in order, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceOptions {
    /// `TRACE_*`.
    pub flags: u32,
    /// Most bytes of a buffer that are copied.
    pub string_limit: u32,
    /// Time between two samples of each vCPU, ns; 0: none.
    pub sample_ns: u64,
    /// Most bytes of stack in a sample.
    pub sample_stack: u32,
    /// Bit n-1: tell of signal n.
    pub signals: u64,
    /// Bit n: tell of system call n.
    pub calls: [u64; 8],
}

/// `TraceOptions::flags`: arguments are copied, not only counted.
pub const TRACE_ARGUMENTS: u32 = 1;
/// `TraceOptions::flags`: paths of descriptors.
pub const TRACE_PATHS: u32 = 2;
/// `TraceOptions::flags`: how processes end.
pub const TRACE_ENDS: u32 = 4;
/// `TraceOptions::flags`: a report of the first program's crash.
pub const TRACE_CRASH_FIRST: u32 = 8;
/// `TraceOptions::flags`: a report of every program's crash.
pub const TRACE_CRASH_ALL: u32 = 16;
/// `TraceOptions::flags`: the memory of programs that a signal with a core ends.
pub const TRACE_CORE: u32 = 32;

impl TraceOptions {
    /// Bytes of the wire form.
    pub const SIZE: usize = 4 + 4 + 8 + 4 + 8 + 64;

    /// Reads the wire form; `None` unless it has exactly that size.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::SIZE {
            return None;
        }
        let u32_at = |i: usize| u32::from_le_bytes(core::array::from_fn(|k| bytes[i + k]));
        let u64_at = |i: usize| u64::from_le_bytes(core::array::from_fn(|k| bytes[i + k]));
        Some(Self {
            flags: u32_at(0),
            string_limit: u32_at(4),
            sample_ns: u64_at(8),
            sample_stack: u32_at(16),
            signals: u64_at(20),
            calls: core::array::from_fn(|n| u64_at(28 + 8 * n)),
        })
    }
}

/// Kinds of records. *Blobs* are: u8 argument (6: the result), u8 `BLOB_*`, u16 zero, u32 length, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Record {
    /// A row of the system-call table: u32 number, then text: `name(argument:type,...)`.
    Row = 1,
    /// A call is made: u32 number, u64 arguments (6), blobs.
    Enter = 2,
    /// It is done: u32 number, i64 result (a negated errno), blobs.
    Leave = 3,
    /// A signal is taken: u32 signal, u32 disposition (0 default, 1 ignored, 2 handler), siginfo (128).
    Signal = 4,
    /// A task ended: u32 wait status, u32 1 if its process ended with it.
    End = 5,
    /// The file mappings of a process: u32 length of its command's path, the path; then for each: u32 start, u32 end,
    /// u64 file offset, u32 rights, u32 length of the path, the path. Those of no file have names in brackets or none.
    Maps = 6,
    /// A sample: `REGISTERS`, stack from rsp on.
    Sample = 7,
    /// A signal ends a program: u32 signal, i32 code, u64 address, u32 fault error code, u32 length of code, code at
    /// rip; `REGISTERS`; stack from rsp on.
    Crash = 8,
    /// A core begins: u32 signal, u32 number of runs, siginfo (128), u32 length of the auxiliary vector, the vector, u32
    /// length of the arguments, the arguments, u32 uid, u32 gid, u32 parent, u32 group, u32 session, u8 thread name (16);
    /// for each run u32 start, u32 pages, u32 rights.
    Core = 9,
    /// A thread of the core: `REGISTERS`, u64 pending, u64 blocked, XSAVE image (832).
    Thread = 10,
    /// Pages of a run, in order: u32 address, bytes.
    Memory = 11,
    /// The core is complete.
    CoreEnd = 12,
    /// Records were dropped for lack of memory: u64 how many.
    Lost = 13,
}

/// Bytes of the head of each record: u32 length of the whole, u16 `Record`, u16 zero, i32 pid, i32 tid, u64
/// CLOCK_REALTIME ns.
pub const RECORD_HEAD: usize = 24;
/// A register set: rax rcx rdx rbx rsp rbp rsi rdi r8..r15, rip, rflags, fs base, gs base; u64 each.
pub const REGISTERS: usize = 20 * 8;

/// A blob is the bytes.
pub const BLOB_BYTES: u8 = 0;
/// The argument leads nowhere.
pub const BLOB_UNREADABLE: u8 = 1;
/// A list: u32 whole length, u32 copied length, bytes, for each element.
pub const BLOB_LIST: u8 = 2;
/// Path of a descriptor.
pub const BLOB_PATH: u8 = 3;
