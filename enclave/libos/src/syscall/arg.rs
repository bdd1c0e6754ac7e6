//! Types of system-call arguments: what `table` names, and what the trace copies of each.
//!
//! Neighbours: `trace::calls` copies, `python/occlum/trace` knows how to print each name. Invariant: one row per name.

/// What is copied of an argument, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capture {
    /// Nothing: the number says it all.
    Nothing,
    /// The path of a descriptor.
    Descriptor,
    /// A string.
    Str,
    /// An array of strings.
    Strings,
    /// So many bytes that the call reads.
    In(u16),
    /// So many bytes that the call writes.
    Out(u16),
    /// So many bytes that the call reads and writes.
    InOut(u16),
    /// A buffer that the call reads; the next argument is its length.
    InBuffer,
    /// A buffer that the call fills as far as its result says.
    OutBuffer,
    /// Elements of so many bytes that it reads and writes; the next argument is their number.
    InOutList(u16),
    /// Elements that it fills as far as its result says.
    OutList(u16),
    /// Buffers of an iovec array that it reads.
    InVector,
    /// Buffers of an iovec array that it fills as far as its result says.
    OutVector,
    /// Bytes that the call writes; the next argument leads to their number.
    OutAddress,
    /// A `msghdr` to send.
    InMessage,
    /// A `msghdr` that is filled.
    OutMessage,
    /// Descriptor sets, as many bits as argument 0 says.
    Sets,
}

/// A type of argument.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// Its name.
    pub name: &'static str,
    /// What the trace copies.
    pub capture: Capture,
}

/// The type with this name. A name that there is not ends the build.
pub const fn of(name: &str) -> Arg {
    let mut i = 0;
    while i < TYPES.len() {
        if is_equal(TYPES[i].0, name) {
            return Arg { name: TYPES[i].0, capture: TYPES[i].1 };
        }
        i += 1;
    }
    panic!("no such type of argument")
}

const fn is_equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    a.len() == b.len() && i == a.len()
}

use Capture::{
    Descriptor, In, InBuffer, InMessage, InOut, InOutList, InVector, Nothing, Out, OutAddress, OutBuffer,
    OutList, OutMessage, OutVector, Sets, Str, Strings,
};

#[rustfmt::skip]
const TYPES: &[(&str, Capture)] = &[
    // Numbers.
    ("int", Nothing), ("uint", Nothing), ("size", Nothing), ("off", Nothing), ("ptr", Nothing), ("mode", Nothing),
    ("flags", Nothing), ("fd", Descriptor), ("dirfd", Descriptor),
    // Sets of bits and numbers with names.
    ("open_flags", Nothing), ("at_flags", Nothing), ("fd_flags", Nothing), ("prot", Nothing), ("map_flags", Nothing),
    ("mremap_flags", Nothing), ("msync_flags", Nothing), ("clone_flags", Nothing), ("wait_flags", Nothing),
    ("msg_flags", Nothing), ("access", Nothing), ("memfd_flags", Nothing), ("statx_mask", Nothing),
    ("rename_flags", Nothing), ("random_flags", Nothing), ("ipc_flags", Nothing), ("splice_flags", Nothing),
    ("timer_flags", Nothing), ("inotify_mask", Nothing), ("falloc_flags", Nothing), ("rw_flags", Nothing),
    ("signal", Nothing), ("mask_how", Nothing), ("clock", Nothing), ("whence", Nothing), ("family", Nothing),
    ("sock_kind", Nothing), ("sock_level", Nothing), ("shutdown_how", Nothing), ("fcntl_cmd", Nothing),
    ("ioctl_request", Nothing), ("advice", Nothing), ("epoll_op", Nothing), ("futex_op", Nothing),
    ("resource", Nothing), ("prctl_option", Nothing), ("arch_code", Nothing), ("id_type", Nothing),
    ("flock_op", Nothing), ("itimer", Nothing), ("rusage_who", Nothing), ("policy", Nothing), ("ipc_cmd", Nothing),
    ("membarrier_cmd", Nothing), ("priority_which", Nothing),
    // Strings and buffers.
    ("str", Str), ("path", Str), ("strings", Strings), ("inbuf", InBuffer), ("outbuf", OutBuffer),
    ("iov_in", InVector), ("iov_out", OutVector), ("msghdr_in", InMessage), ("msghdr_out", OutMessage),
    ("sockaddr_in", InBuffer), ("sockaddr_out", OutAddress), ("optval_in", InBuffer), ("optval_out", OutAddress),
    ("dirents", OutBuffer),
    // Structures.
    ("fds_out", Out(8)), ("status_out", Out(4)), ("int_out", Out(4)), ("int_inout", InOut(4)), ("long_out", Out(8)),
    ("off_inout", InOut(8)),
    ("timespec_in", In(16)), ("timespec_out", Out(16)), ("timespecs_in", In(32)), ("timeval_in", In(16)),
    ("timeval_out", Out(16)), ("timevals_in", In(32)), ("itimerval_in", In(32)), ("itimerval_out", Out(32)),
    ("itimerspec_in", In(32)), ("itimerspec_out", Out(32)),
    ("stat_out", Out(144)), ("statx_out", Out(256)), ("statfs_out", Out(120)),
    ("sigset_in", In(8)), ("sigset_out", Out(8)), ("sigaction_in", In(32)), ("sigaction_out", Out(32)),
    ("siginfo_in", In(128)), ("siginfo_out", Out(128)), ("stack_in", In(24)), ("stack_out", Out(24)),
    ("sigevent_in", In(64)), ("sigmask_arg", In(16)),
    ("rlimit_in", In(16)), ("rlimit_out", Out(16)), ("rusage_out", Out(144)), ("utsname_out", Out(390)),
    ("sysinfo_out", Out(112)), ("tms_out", Out(32)), ("clone_args", In(64)), ("open_how", In(24)),
    ("pollfds", InOutList(8)), ("epoll_event", In(12)), ("epoll_events", OutList(12)), ("fd_set", Sets),
    ("flock", InOut(32)), ("ioctl_arg", InOut(60)),
];
