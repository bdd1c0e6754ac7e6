"""Names of the numbers in system calls on x86-64 Linux, as the kernel's headers have them."""

from __future__ import annotations

import errno
import signal


def _from(first: int, *names: str) -> dict[int, str]:
    return {first + n: name for n, name in enumerate(names) if name}


def _bits(first: int, *names: str) -> dict[int, str]:
    return {1 << (first + n): name for n, name in enumerate(names) if name}


SIGNALS = {number.value: number.name for number in signal.Signals if number.value < 32} | {
    number: f"SIGRT_{number - 32}" for number in range(32, 65)
}
ERRNOS = dict(errno.errorcode) | {
    512: "ERESTARTSYS",
    513: "ERESTARTNOINTR",
    514: "ERESTARTNOHAND",
    516: "ERESTART_RESTARTBLOCK",
}

# Exactly one of these.
VALUES: dict[str, dict[int, str]] = {
    "signal": SIGNALS,
    "mask_how": _from(0, "SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK"),
    "whence": _from(0, "SEEK_SET", "SEEK_CUR", "SEEK_END", "SEEK_DATA", "SEEK_HOLE"),
    "clock": _from(
        0,
        *("CLOCK_REALTIME", "CLOCK_MONOTONIC", "CLOCK_PROCESS_CPUTIME_ID", "CLOCK_THREAD_CPUTIME_ID"),
        *("CLOCK_MONOTONIC_RAW", "CLOCK_REALTIME_COARSE", "CLOCK_MONOTONIC_COARSE", "CLOCK_BOOTTIME"),
        *("CLOCK_REALTIME_ALARM", "CLOCK_BOOTTIME_ALARM", "", "CLOCK_TAI"),
    ),
    "family": {
        0: "AF_UNSPEC",
        1: "AF_UNIX",
        2: "AF_INET",
        10: "AF_INET6",
        16: "AF_NETLINK",
        17: "AF_PACKET",
        40: "AF_VSOCK",
    },
    "sock_level": {0: "SOL_IP", 1: "SOL_SOCKET", 6: "SOL_TCP", 17: "SOL_UDP", 41: "SOL_IPV6", 270: "SOL_NETLINK"},
    "shutdown_how": _from(0, "SHUT_RD", "SHUT_WR", "SHUT_RDWR"),
    "fcntl_cmd": _from(
        0,
        *("F_DUPFD", "F_GETFD", "F_SETFD", "F_GETFL", "F_SETFL", "F_GETLK", "F_SETLK", "F_SETLKW", "F_SETOWN"),
        *("F_GETOWN", "F_SETSIG", "F_GETSIG", "", "", "", "F_SETOWN_EX", "F_GETOWN_EX"),
    )
    | _from(36, "F_OFD_GETLK", "F_OFD_SETLK", "F_OFD_SETLKW")
    | _from(1024, "F_SETLEASE", "F_GETLEASE", "F_NOTIFY", "", "", "", "F_DUPFD_CLOEXEC", "F_SETPIPE_SZ", "F_GETPIPE_SZ")
    | _from(1033, "F_ADD_SEALS", "F_GET_SEALS"),
    "ioctl_request": _from(
        0x5401,
        *("TCGETS", "TCSETS", "TCSETSW", "TCSETSF", "TCGETA", "TCSETA", "TCSETAW", "TCSETAF", "TCSBRK", "TCXONC"),
        *("TCFLSH", "TIOCEXCL", "TIOCNXCL", "TIOCSCTTY", "TIOCGPGRP", "TIOCSPGRP", "TIOCOUTQ", "TIOCSTI"),
        *("TIOCGWINSZ", "TIOCSWINSZ", "TIOCMGET", "TIOCMBIS", "TIOCMBIC", "TIOCMSET", "TIOCGSOFTCAR"),
        *("TIOCSSOFTCAR", "FIONREAD", "TIOCLINUX", "TIOCCONS", "TIOCGSERIAL", "TIOCSSERIAL", "TIOCPKT", "FIONBIO"),
        *("TIOCNOTTY", "TIOCSETD", "TIOCGETD", "TCSBRKP", "", "TIOCSBRK", "TIOCCBRK", "TIOCGSID"),
    )
    | {0x5450: "FIONCLEX", 0x5451: "FIOCLEX", 0x5452: "FIOASYNC", 0x80045430: "TIOCGPTN", 0x40045431: "TIOCSPTLCK"}
    | {
        0x8910: "SIOCGIFNAME",
        0x8912: "SIOCGIFCONF",
        0x8913: "SIOCGIFFLAGS",
        0x8915: "SIOCGIFADDR",
        0x8927: "SIOCGIFHWADDR",
    }
    | {0x40049409: "FICLONE", 0x80086601: "FS_IOC_GETFLAGS", 0x5441: "TIOCGPTPEER"},
    "advice": _from(0, "MADV_NORMAL", "MADV_RANDOM", "MADV_SEQUENTIAL", "MADV_WILLNEED", "MADV_DONTNEED")
    | _from(8, "MADV_FREE", "MADV_REMOVE", "MADV_DONTFORK", "MADV_DOFORK", "MADV_MERGEABLE", "MADV_UNMERGEABLE")
    | _from(
        14, "MADV_HUGEPAGE", "MADV_NOHUGEPAGE", "MADV_DONTDUMP", "MADV_DODUMP", "MADV_WIPEONFORK", "MADV_KEEPONFORK"
    )
    | _from(20, "MADV_COLD", "MADV_PAGEOUT", "MADV_POPULATE_READ", "MADV_POPULATE_WRITE"),
    "epoll_op": _from(1, "EPOLL_CTL_ADD", "EPOLL_CTL_DEL", "EPOLL_CTL_MOD"),
    "futex_op": _from(
        0,
        *("FUTEX_WAIT", "FUTEX_WAKE", "FUTEX_FD", "FUTEX_REQUEUE", "FUTEX_CMP_REQUEUE", "FUTEX_WAKE_OP"),
        *("FUTEX_LOCK_PI", "FUTEX_UNLOCK_PI", "FUTEX_TRYLOCK_PI", "FUTEX_WAIT_BITSET", "FUTEX_WAKE_BITSET"),
        *("FUTEX_WAIT_REQUEUE_PI", "FUTEX_CMP_REQUEUE_PI", "FUTEX_LOCK_PI2"),
    ),
    "resource": _from(
        0,
        *("RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC"),
        *("RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE"),
        *("RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME"),
    ),
    "prctl_option": {
        **_from(1, "PR_SET_PDEATHSIG", "PR_GET_PDEATHSIG", "PR_GET_DUMPABLE", "PR_SET_DUMPABLE"),
        **_from(7, "PR_GET_KEEPCAPS", "PR_SET_KEEPCAPS"),
        13: "PR_GET_TIMING",
        14: "PR_SET_TIMING",
        15: "PR_SET_NAME",
        16: "PR_GET_NAME",
        **_from(
            21, "PR_GET_SECCOMP", "PR_SET_SECCOMP", "PR_CAPBSET_READ", "PR_CAPBSET_DROP", "PR_GET_TSC", "PR_SET_TSC"
        ),
        **_from(27, "PR_GET_SECUREBITS", "PR_SET_SECUREBITS", "PR_SET_TIMERSLACK", "PR_GET_TIMERSLACK"),
        **_from(35, "PR_SET_MM", "PR_SET_CHILD_SUBREAPER", "PR_GET_CHILD_SUBREAPER", "PR_SET_NO_NEW_PRIVS"),
        **_from(39, "PR_GET_NO_NEW_PRIVS", "PR_GET_TID_ADDRESS", "PR_SET_THP_DISABLE", "PR_GET_THP_DISABLE"),
        47: "PR_CAP_AMBIENT",
        0x53564D41: "PR_SET_VMA",
        0x59616D61: "PR_SET_PTRACER",
    },
    "arch_code": _from(0x1001, "ARCH_SET_GS", "ARCH_SET_FS", "ARCH_GET_FS", "ARCH_GET_GS")
    | {0x3001: "ARCH_CET_STATUS", 0x1011: "ARCH_GET_CPUID", 0x1012: "ARCH_SET_CPUID"},
    "id_type": _from(0, "P_ALL", "P_PID", "P_PGID", "P_PIDFD"),
    "itimer": _from(0, "ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"),
    "rusage_who": {0: "RUSAGE_SELF", 1: "RUSAGE_THREAD", -1: "RUSAGE_CHILDREN"},
    "policy": {
        **_from(0, "SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH"),
        5: "SCHED_IDLE",
        6: "SCHED_DEADLINE",
    },
    "ipc_cmd": _from(0, "IPC_RMID", "IPC_SET", "IPC_STAT", "IPC_INFO")
    | _from(11, "GETPID", "GETVAL", "GETALL", "GETNCNT", "GETZCNT", "SETVAL", "SETALL"),
    "membarrier_cmd": {
        **_from(0, "MEMBARRIER_CMD_QUERY", "MEMBARRIER_CMD_GLOBAL", "MEMBARRIER_CMD_GLOBAL_EXPEDITED"),
        4: "MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED",
        8: "MEMBARRIER_CMD_PRIVATE_EXPEDITED",
        16: "MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED",
    },
    "priority_which": _from(0, "PRIO_PROCESS", "PRIO_PGRP", "PRIO_USER"),
    "si_code": {0: "SI_USER", 0x80: "SI_KERNEL", -1: "SI_QUEUE", -2: "SI_TIMER", -3: "SI_MESGQ", -6: "SI_TKILL"},
}

# Any of these; 0 is what the name under 0 says.
FLAGS: dict[str, dict[int, str]] = {
    "fd_flags": {0x800: "O_NONBLOCK", 0x80000: "O_CLOEXEC"},
    "at_flags": {
        0x100: "AT_SYMLINK_NOFOLLOW",
        0x200: "AT_REMOVEDIR",
        0x400: "AT_SYMLINK_FOLLOW",
        0x800: "AT_NO_AUTOMOUNT",
        0x1000: "AT_EMPTY_PATH",
        0x2000: "AT_STATX_FORCE_SYNC",
        0x4000: "AT_STATX_DONT_SYNC",
    },
    "prot": {0: "PROT_NONE", 1: "PROT_READ", 2: "PROT_WRITE", 4: "PROT_EXEC", 0x1000000: "PROT_GROWSDOWN"},
    "map_flags": {
        1: "MAP_SHARED",
        2: "MAP_PRIVATE",
        0x10: "MAP_FIXED",
        0x20: "MAP_ANONYMOUS",
        0x40: "MAP_32BIT",
        0x100: "MAP_GROWSDOWN",
        0x800: "MAP_DENYWRITE",
        0x1000: "MAP_EXECUTABLE",
        0x2000: "MAP_LOCKED",
        0x4000: "MAP_NORESERVE",
        0x8000: "MAP_POPULATE",
        0x10000: "MAP_NONBLOCK",
        0x20000: "MAP_STACK",
        0x40000: "MAP_HUGETLB",
        0x80000: "MAP_SYNC",
        0x100000: "MAP_FIXED_NOREPLACE",
    },
    "mremap_flags": _bits(0, "MREMAP_MAYMOVE", "MREMAP_FIXED", "MREMAP_DONTUNMAP"),
    "msync_flags": _bits(0, "MS_ASYNC", "MS_INVALIDATE", "MS_SYNC"),
    "wait_flags": {
        1: "WNOHANG",
        2: "WUNTRACED",
        4: "WEXITED",
        8: "WCONTINUED",
        0x1000000: "WNOWAIT",
        0x20000000: "__WNOTHREAD",
        0x40000000: "__WALL",
        0x80000000: "__WCLONE",
    },
    "msg_flags": _bits(
        0,
        *("MSG_OOB", "MSG_PEEK", "MSG_DONTROUTE", "MSG_CTRUNC", "MSG_PROXY", "MSG_TRUNC", "MSG_DONTWAIT", "MSG_EOR"),
        *("MSG_WAITALL", "MSG_FIN", "MSG_SYN", "MSG_CONFIRM", "MSG_RST", "MSG_ERRQUEUE", "MSG_NOSIGNAL", "MSG_MORE"),
        *("MSG_WAITFORONE",),
    )
    | {0x20000000: "MSG_FASTOPEN", 0x40000000: "MSG_CMSG_CLOEXEC"},
    "access": {0: "F_OK", 4: "R_OK", 2: "W_OK", 1: "X_OK"},
    "memfd_flags": _bits(0, "MFD_CLOEXEC", "MFD_ALLOW_SEALING", "MFD_HUGETLB"),
    "statx_mask": {0xFFF: "STATX_ALL", 0x7FF: "STATX_BASIC_STATS"}
    | _bits(
        0,
        *("STATX_TYPE", "STATX_MODE", "STATX_NLINK", "STATX_UID", "STATX_GID", "STATX_ATIME", "STATX_MTIME"),
        *("STATX_CTIME", "STATX_INO", "STATX_SIZE", "STATX_BLOCKS", "STATX_BTIME", "STATX_MNT_ID"),
    ),
    "rename_flags": _bits(0, "RENAME_NOREPLACE", "RENAME_EXCHANGE", "RENAME_WHITEOUT"),
    "random_flags": _bits(0, "GRND_NONBLOCK", "GRND_RANDOM", "GRND_INSECURE"),
    "ipc_flags": {0o1000: "IPC_CREAT", 0o2000: "IPC_EXCL", 0o4000: "IPC_NOWAIT"},
    "splice_flags": _bits(0, "SPLICE_F_MOVE", "SPLICE_F_NONBLOCK", "SPLICE_F_MORE", "SPLICE_F_GIFT"),
    "timer_flags": _bits(0, "TIMER_ABSTIME", "TFD_TIMER_CANCEL_ON_SET"),
    "inotify_mask": _bits(
        0,
        *("IN_ACCESS", "IN_MODIFY", "IN_ATTRIB", "IN_CLOSE_WRITE", "IN_CLOSE_NOWRITE", "IN_OPEN", "IN_MOVED_FROM"),
        *("IN_MOVED_TO", "IN_CREATE", "IN_DELETE", "IN_DELETE_SELF", "IN_MOVE_SELF"),
    )
    | _bits(
        24, "IN_ONLYDIR", "IN_DONT_FOLLOW", "IN_EXCL_UNLINK", "", "IN_MASK_CREATE", "IN_MASK_ADD", "", "IN_ONESHOT"
    ),
    "falloc_flags": _bits(
        0, "FALLOC_FL_KEEP_SIZE", "FALLOC_FL_PUNCH_HOLE", "", "FALLOC_FL_COLLAPSE_RANGE", "FALLOC_FL_ZERO_RANGE"
    ),
    "rw_flags": _bits(0, "RWF_HIPRI", "RWF_DSYNC", "RWF_SYNC", "RWF_NOWAIT", "RWF_APPEND"),
    "flock_op": {1: "LOCK_SH", 2: "LOCK_EX", 8: "LOCK_UN", 4: "LOCK_NB"},
    "clone": {
        0x80: "CLONE_NEWTIME",
        0x100: "CLONE_VM",
        0x200: "CLONE_FS",
        0x400: "CLONE_FILES",
        0x800: "CLONE_SIGHAND",
        0x1000: "CLONE_PIDFD",
        0x2000: "CLONE_PTRACE",
        0x4000: "CLONE_VFORK",
        0x8000: "CLONE_PARENT",
        0x10000: "CLONE_THREAD",
        0x20000: "CLONE_NEWNS",
        0x40000: "CLONE_SYSVSEM",
        0x80000: "CLONE_SETTLS",
        0x100000: "CLONE_PARENT_SETTID",
        0x200000: "CLONE_CHILD_CLEARTID",
        0x400000: "CLONE_DETACHED",
        0x800000: "CLONE_UNTRACED",
        0x1000000: "CLONE_CHILD_SETTID",
        0x2000000: "CLONE_NEWCGROUP",
        0x4000000: "CLONE_NEWUTS",
        0x8000000: "CLONE_NEWIPC",
        0x10000000: "CLONE_NEWUSER",
        0x20000000: "CLONE_NEWPID",
        0x40000000: "CLONE_NEWNET",
        0x80000000: "CLONE_IO",
        0x100000000: "CLONE_CLEAR_SIGHAND",
        0x200000000: "CLONE_INTO_CGROUP",
    },
    "open": {
        0o100: "O_CREAT",
        0o200: "O_EXCL",
        0o400: "O_NOCTTY",
        0o1000: "O_TRUNC",
        0o2000: "O_APPEND",
        0o4000: "O_NONBLOCK",
        0o4010000: "O_SYNC",
        0o10000: "O_DSYNC",
        0o20000: "FASYNC",
        0o40000: "O_DIRECT",
        0o100000: "O_LARGEFILE",
        0o20200000: "O_TMPFILE",
        0o200000: "O_DIRECTORY",
        0o400000: "O_NOFOLLOW",
        0o1000000: "O_NOATIME",
        0o2000000: "O_CLOEXEC",
        0o10000000: "O_PATH",
    },
    "sock": {0x80000: "SOCK_CLOEXEC", 0x800: "SOCK_NONBLOCK"},
    "poll": {
        1: "POLLIN",
        2: "POLLPRI",
        4: "POLLOUT",
        8: "POLLERR",
        0x10: "POLLHUP",
        0x20: "POLLNVAL",
        0x40: "POLLRDNORM",
        0x80: "POLLRDBAND",
        0x100: "POLLWRNORM",
        0x200: "POLLWRBAND",
        0x2000: "POLLRDHUP",
    },
    "epoll": {
        1: "EPOLLIN",
        2: "EPOLLPRI",
        4: "EPOLLOUT",
        8: "EPOLLERR",
        0x10: "EPOLLHUP",
        0x40: "EPOLLRDNORM",
        0x80: "EPOLLRDBAND",
        0x100: "EPOLLWRNORM",
        0x200: "EPOLLWRBAND",
        0x400: "EPOLLMSG",
        0x2000: "EPOLLRDHUP",
        1 << 28: "EPOLLEXCLUSIVE",
        1 << 29: "EPOLLWAKEUP",
        1 << 30: "EPOLLONESHOT",
        1 << 31: "EPOLLET",
    },
    "sa": {
        1: "SA_NOCLDSTOP",
        2: "SA_NOCLDWAIT",
        4: "SA_SIGINFO",
        0x4000000: "SA_RESTORER",
        0x8000000: "SA_ONSTACK",
        0x10000000: "SA_RESTART",
        0x40000000: "SA_NODEFER",
        0x80000000: "SA_RESETHAND",
    },
    "ss": {1: "SS_ONSTACK", 2: "SS_DISABLE", 1 << 31: "SS_AUTODISARM"},
}
SOCK_KINDS = _from(1, "SOCK_STREAM", "SOCK_DGRAM", "SOCK_RAW", "SOCK_RDM", "SOCK_SEQPACKET")
PROTOCOLS = {0: "IPPROTO_IP", 1: "IPPROTO_ICMP", 6: "IPPROTO_TCP", 17: "IPPROTO_UDP", 58: "IPPROTO_ICMPV6"}
SOCKET_OPTIONS: dict[int, dict[int, str]] = {
    1: _from(
        1,
        *("SO_DEBUG", "SO_REUSEADDR", "SO_TYPE", "SO_ERROR", "SO_DONTROUTE", "SO_BROADCAST", "SO_SNDBUF", "SO_RCVBUF"),
        *("SO_KEEPALIVE", "SO_OOBINLINE", "SO_NO_CHECK", "SO_PRIORITY", "SO_LINGER", "SO_BSDCOMPAT", "SO_REUSEPORT"),
        *("SO_PASSCRED", "SO_PEERCRED", "SO_RCVLOWAT", "SO_SNDLOWAT", "SO_RCVTIMEO_OLD", "SO_SNDTIMEO_OLD"),
    )
    | {28: "SO_PEERNAME", 29: "SO_TIMESTAMP_OLD", 30: "SO_ACCEPTCONN", 38: "SO_PROTOCOL", 39: "SO_DOMAIN"},
    6: {
        **_from(
            1, "TCP_NODELAY", "TCP_MAXSEG", "TCP_CORK", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_SYNCNT"
        ),
        **_from(8, "TCP_LINGER2", "TCP_DEFER_ACCEPT", "TCP_WINDOW_CLAMP", "TCP_INFO", "TCP_QUICKACK", "TCP_CONGESTION"),
        18: "TCP_USER_TIMEOUT",
        23: "TCP_FASTOPEN",
    },
    0: {
        1: "IP_TOS",
        2: "IP_TTL",
        8: "IP_PKTINFO",
        10: "IP_MTU_DISCOVER",
        11: "IP_RECVERR",
        24: "IP_BIND_ADDRESS_NO_PORT",
    },
    41: {16: "IPV6_UNICAST_HOPS", 26: "IPV6_V6ONLY", 25: "IPV6_RECVERR", 49: "IPV6_RECVPKTINFO", 67: "IPV6_TCLASS"},
}
SI_CODES: dict[str, dict[int, str]] = {
    "SIGSEGV": {1: "SEGV_MAPERR", 2: "SEGV_ACCERR", 10: "SEGV_CPERR"},
    "SIGBUS": _from(1, "BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR"),
    "SIGILL": _from(1, "ILL_ILLOPC", "ILL_ILLOPN", "ILL_ILLADR", "ILL_ILLTRP", "ILL_PRVOPC", "ILL_PRVREG"),
    "SIGFPE": _from(
        1, "FPE_INTDIV", "FPE_INTOVF", "FPE_FLTDIV", "FPE_FLTOVF", "FPE_FLTUND", "FPE_FLTRES", "FPE_FLTINV"
    ),
    "SIGTRAP": _from(1, "TRAP_BRKPT", "TRAP_TRACE"),
    "SIGCHLD": _from(1, "CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED", "CLD_CONTINUED"),
}


def flags(value: int, known: dict[int, str]) -> str:
    """`A|B|0x40`: the names of the bits, the rest as a number."""
    if value == 0:
        return known.get(0, "0")
    found = set()
    # Names of several bits first, so that they are not taken apart.
    for bits, name in sorted(known.items(), key=lambda row: -row[0].bit_count()):
        if bits and value & bits == bits:
            found.add(name)
            value &= ~bits
    text = [name for name in known.values() if name in found]
    if value:
        text.append(f"{value:#x}")
    return "|".join(text)


def signal_set(bits: int) -> str:
    """`[INT QUIT]`, or `~[KILL]` for one that is nearly full, as strace writes it."""
    names = [SIGNALS.get(n, str(n)).removeprefix("SIG") for n in range(1, 65) if bits >> (n - 1) & 1]
    if len(names) > 40:
        missing = [SIGNALS.get(n, str(n)).removeprefix("SIG") for n in range(1, 65) if not bits >> (n - 1) & 1]
        return f"~[{' '.join(missing)}]"
    return f"[{' '.join(names)}]"
