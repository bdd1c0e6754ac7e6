"""Classes of system calls, as strace's users know them (`-e trace=%file`), and expressions over them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from occlum.errors import OptionError

_TEXT = {
    "file": """
        access acct chdir chmod chown chroot creat execve execveat faccessat faccessat2 fchmodat fchmodat2 fchownat
        fspick futimesat getcwd getxattr inotify_add_watch lchown lgetxattr link linkat listxattr llistxattr
        lremovexattr lsetxattr lstat mkdir mkdirat mknod mknodat mount mount_setattr move_mount name_to_handle_at
        newfstatat open open_tree openat openat2 pivot_root quotactl readlink readlinkat removexattr rename renameat
        renameat2 rmdir setxattr stat statfs statx swapoff swapon symlink symlinkat truncate umount2 unlink unlinkat
        uselib utime utimensat utimes""",
    "network": """
        accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg
        sendmsg sendto setsockopt shutdown socket socketpair sendfile""",
    "process": """
        clone clone3 execve execveat exit exit_group fork kill pidfd_open pidfd_send_signal rt_sigqueueinfo
        rt_tgsigqueueinfo tgkill tkill unshare vfork wait4 waitid""",
    "signal": """
        kill pause pidfd_send_signal rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
        rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack signalfd signalfd4 tgkill tkill""",
    "memory": """
        brk get_mempolicy madvise mbind migrate_pages mincore mlock mlock2 mlockall mmap move_pages mprotect mremap
        msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages mseal
        set_mempolicy shmat shmdt userfaultfd""",
    "ipc": """
        mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl
        semget semop semtimedop shmat shmctl shmdt shmget""",
    "desc": """
        accept accept4 bind cachestat close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
        epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 execveat faccessat faccessat2
        fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock
        fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getdents getdents64 getpeername getsockname
        getsockopt inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl linkat listen lseek
        memfd_create mkdirat mknodat mmap mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend
        name_to_handle_at newfstatat open open_by_handle_at openat openat2 pidfd_getfd pidfd_open pidfd_send_signal
        pipe pipe2 poll ppoll pread64 preadv preadv2 process_madvise process_mrelease pselect6 pwrite64 pwritev
        pwritev2 read readahead readlinkat readv recvfrom recvmmsg recvmsg renameat renameat2 select sendfile
        sendmmsg sendmsg sendto setsockopt shutdown signalfd signalfd4 socket socketpair splice statx symlinkat
        sync_file_range syncfs tee timerfd_create timerfd_gettime timerfd_settime unlinkat utimensat vmsplice write
        writev""",
    "stat": "stat lstat fstat newfstatat statx oldstat",
    "lstat": "lstat",
    "fstat": "fstat newfstatat statx",
    "statfs": "statfs fstatfs",
    "clock": "adjtimex clock_adjtime clock_getres clock_gettime clock_settime gettimeofday settimeofday time",
    "creds": """
        capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid setgroups
        setregid setresgid setresuid setreuid setuid""",
    "pure": "getegid geteuid getgid getpgrp getpid getppid gettid getuid",
}
_SHORT = {"descriptors": "desc", "descs": "desc", "ptr": "process", "net": "network"}
CLASSES: dict[str, frozenset[str]] = {name: frozenset(text.split()) for name, text in _TEXT.items()}


def _matching(word: str, known: Mapping[str, int], what: str) -> set[int]:
    """The numbers that one word of an expression names."""
    optional = word.startswith("?")
    word = word.removeprefix("?")
    if word.startswith("/"):
        try:
            pattern = re.compile(word[1:])
        except re.error as error:
            raise OptionError(f"-e {what}={word}: {error}", "write a regular expression behind the slash") from None
        return {number for name, number in known.items() if pattern.search(name)}
    if word.startswith("%") or (word in CLASSES and word not in known):
        name = word.removeprefix("%")
        members = CLASSES.get(_SHORT.get(name, name))
        if members is None:
            classes = ", ".join(f"%{name}" for name in sorted(CLASSES))
            raise OptionError(f"-e {what}={word}: there is no such class", f"take one of {classes}")
        return {known[name] for name in members if name in known}
    if word.isdigit():
        return {int(word)}
    if word not in known and not optional:
        raise OptionError(f"-e {what}={word}: there is no such name", "see `occlum syscalls`, or put ? before it")
    return {known[word]} if word in known else set()


def select(expression: str, known: Mapping[str, int], what: str) -> set[int]:
    """The numbers of an expression: names, %classes, /patterns, `all`, `none`, separated by commas; `!` negates it."""
    negated = expression.startswith("!")
    words: Iterable[str] = expression.removeprefix("!").split(",")
    everything = set(known.values())
    chosen: set[int] = set()
    for word in words:
        if word == "all":
            chosen |= everything
        elif word not in ("none", ""):
            chosen |= _matching(word, known, what)
    return everything - chosen if negated else chosen
