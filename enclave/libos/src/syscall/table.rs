//! THE system-call table: number, name, argument types, handler. Dispatch and `--strace` read it; a call that is not here
//! is ENOSYS and counted. How far each call is supported stands beside its number in `occlum_linux_abi::nr`.
use super::{caps, futex, memory, misc, pidfd, proc, sched, signals, time, timers};
use crate::errno::Result;
use crate::fs::syscall as fs;
use crate::ipc::{mq, msg, sem, shm};
use crate::net::syscall as net;
use occlum_linux_abi::nr;

/// Type of an argument, for printing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arg {
    /// Signed number.
    Int,
    /// Unsigned number.
    Uint,
    /// Descriptor.
    Fd,
    /// Byte count.
    Size,
    /// File offset.
    Off,
    /// Bit set.
    Flags,
    /// Permission bits.
    Mode,
    /// Address of a structure.
    Ptr,
    /// Path or other string.
    Str,
    /// Buffer that the call fills.
    OutBuf,
    /// Buffer that the call reads.
    InBuf,
    /// Array of iovecs.
    Iov,
}

/// One system call.
pub struct Row {
    /// Linux x86-64 number.
    pub nr: u32,
    /// Name.
    pub name: &'static str,
    /// Arguments: name and type.
    pub args: &'static [(&'static str, Arg)],
    /// Handler: arguments as the guest passed them.
    pub handler: fn(&[u64; 6]) -> Result<usize>,
    /// On success the handler has set every register itself.
    pub sets_registers: bool,
}

macro_rules! kind {
    (int) => {
        Arg::Int
    };
    (uint) => {
        Arg::Uint
    };
    (fd) => {
        Arg::Fd
    };
    (size) => {
        Arg::Size
    };
    (off) => {
        Arg::Off
    };
    (flags) => {
        Arg::Flags
    };
    (mode) => {
        Arg::Mode
    };
    (ptr) => {
        Arg::Ptr
    };
    (str) => {
        Arg::Str
    };
    (outbuf) => {
        Arg::OutBuf
    };
    (inbuf) => {
        Arg::InBuf
    };
    (iov) => {
        Arg::Iov
    };
}
macro_rules! table {
    ($($nr:ident $name:ident($($a:ident: $k:ident),*) => $h:expr $(, $own:ident)?;)*) => {
        /// The rows, in no particular order.
        pub static ROWS: &[Row] = &[$(Row {
            nr: nr::$nr,
            name: stringify!($name),
            args: &[$((stringify!($a), kind!($k))),*],
            handler: $h,
            sets_registers: table!(@own $($own)?),
        }),*];
    };
    (@own) => { false };
    (@own own) => { true };
}

const LAST: usize = nr::LIMIT as usize - 1;

/// Index into `ROWS` by number, built at compile time; `u16::MAX`: none.
static INDEX: [u16; LAST + 1] = {
    let mut index = [u16::MAX; LAST + 1];
    let mut i = 0;
    while i < ROWS.len() {
        index[ROWS[i].nr as usize] = i as u16;
        i += 1;
    }
    index
};

// What `nr` says of support is true: a call has a handler if and only if it is not `none` there.
const _: () = {
    assert!(ROWS.len() == nr::HANDLED);
    let mut i = 0;
    while i < ROWS.len() {
        assert!(!matches!(nr::support(ROWS[i].nr), None | Some(nr::Support::None(_))));
        i += 1;
    }
};

/// The row of a number.
pub fn row(nr: u64) -> Option<&'static Row> {
    let i = *INDEX.get(usize::try_from(nr).ok()?)?;
    ROWS.get(usize::from(i))
}

table! {
    FORK fork() => proc::sys_fork;
    VFORK vfork() => proc::sys_vfork;
    CLONE clone(flags: flags, stack: ptr, parent_tid: ptr, child_tid: ptr, tls: ptr) => proc::sys_clone;
    CLONE3 clone3(args: ptr, size: size) => proc::sys_clone3;
    EXECVE execve(path: str, argv: ptr, envp: ptr) => proc::sys_execve, own;
    EXECVEAT execveat(dirfd: fd, path: str, argv: ptr, envp: ptr, flags: flags) => proc::sys_execveat, own;
    EXIT exit(status: int) => proc::sys_exit;
    EXIT_GROUP exit_group(status: int) => proc::sys_exit_group;
    WAIT4 wait4(pid: int, status: ptr, options: flags, rusage: ptr) => proc::sys_wait4;
    WAITID waitid(idtype: int, id: int, info: ptr, options: flags, rusage: ptr) => proc::sys_waitid;
    PIDFD_OPEN pidfd_open(pid: int, flags: flags) => pidfd::sys_pidfd_open;
    PIDFD_SEND_SIGNAL pidfd_send_signal(pidfd: fd, sig: int, info: ptr, flags: flags) => pidfd::sys_pidfd_send_signal;
    PIDFD_GETFD pidfd_getfd(pidfd: fd, fd: fd, flags: flags) => pidfd::sys_pidfd_getfd;
    SHMGET shmget(key: int, size: size, flags: flags) => shm::sys_shmget;
    SHMAT shmat(id: int, addr: ptr, flags: flags) => shm::sys_shmat;
    SHMDT shmdt(addr: ptr) => shm::sys_shmdt;
    SHMCTL shmctl(id: int, cmd: int, buf: ptr) => shm::sys_shmctl;
    SEMGET semget(key: int, count: int, flags: flags) => sem::sys_semget;
    SEMOP semop(id: int, ops: ptr, n: size) => sem::sys_semop;
    SEMTIMEDOP semtimedop(id: int, ops: ptr, n: size, timeout: ptr) => sem::sys_semtimedop;
    SEMCTL semctl(id: int, num: int, cmd: int, arg: ptr) => sem::sys_semctl;
    MSGGET msgget(key: int, flags: flags) => msg::sys_msgget;
    MSGSND msgsnd(id: int, message: ptr, size: size, flags: flags) => msg::sys_msgsnd;
    MSGRCV msgrcv(id: int, message: ptr, size: size, kind: int, flags: flags) => msg::sys_msgrcv;
    MSGCTL msgctl(id: int, cmd: int, buf: ptr) => msg::sys_msgctl;
    MQ_OPEN mq_open(name: str, flags: flags, mode: mode, attr: ptr) => mq::sys_mq_open;
    MQ_UNLINK mq_unlink(name: str) => mq::sys_mq_unlink;
    MQ_TIMEDSEND mq_timedsend(fd: fd, message: inbuf, size: size, priority: uint, timeout: ptr) => mq::sys_mq_timedsend;
    MQ_TIMEDRECEIVE mq_timedreceive(fd: fd, buf: outbuf, size: size, priority: ptr, timeout: ptr) => mq::sys_mq_timedreceive;
    MQ_NOTIFY mq_notify(fd: fd, event: ptr) => mq::sys_mq_notify;
    MQ_GETSETATTR mq_getsetattr(fd: fd, new: ptr, old: ptr) => mq::sys_mq_getsetattr;
    GETPID getpid() => proc::sys_getpid;
    GETTID gettid() => proc::sys_gettid;
    GETPPID getppid() => proc::sys_getppid;
    GETUID getuid() => proc::sys_getuid;
    GETEUID geteuid() => proc::sys_geteuid;
    GETGID getgid() => proc::sys_getgid;
    GETEGID getegid() => proc::sys_getegid;
    GETPGRP getpgrp() => proc::sys_getpgrp;
    SETUID setuid(uid: int) => proc::sys_setuid;
    SETGID setgid(gid: int) => proc::sys_setgid;
    SETREUID setreuid(ruid: int, euid: int) => proc::sys_setreuid;
    SETREGID setregid(rgid: int, egid: int) => proc::sys_setregid;
    SETRESUID setresuid(ruid: int, euid: int, suid: int) => proc::sys_setresuid;
    SETRESGID setresgid(rgid: int, egid: int, sgid: int) => proc::sys_setresgid;
    GETRESUID getresuid(ruid: ptr, euid: ptr, suid: ptr) => proc::sys_getresuid;
    GETRESGID getresgid(rgid: ptr, egid: ptr, sgid: ptr) => proc::sys_getresgid;
    SETFSUID setfsuid(uid: int) => proc::sys_setfsuid;
    SETFSGID setfsgid(gid: int) => proc::sys_setfsgid;
    GETGROUPS getgroups(size: int, list: ptr) => proc::sys_getgroups;
    SETGROUPS setgroups(size: int, list: ptr) => proc::sys_setgroups;
    SETPGID setpgid(pid: int, pgid: int) => proc::sys_setpgid;
    GETPGID getpgid(pid: int) => proc::sys_getpgid;
    SETSID setsid() => proc::sys_setsid;
    GETSID getsid(pid: int) => proc::sys_getsid;
    SET_TID_ADDRESS set_tid_address(at: ptr) => proc::sys_set_tid_address;
    PRLIMIT64 prlimit64(pid: int, resource: int, new: ptr, old: ptr) => proc::sys_prlimit64;
    GETRLIMIT getrlimit(resource: int, old: ptr) => proc::sys_getrlimit;
    SETRLIMIT setrlimit(resource: int, new: ptr) => proc::sys_setrlimit;
    PRCTL prctl(option: int, a: ptr, b: ptr, c: ptr, d: ptr) => proc::sys_prctl;
    ARCH_PRCTL arch_prctl(code: flags, addr: ptr) => proc::sys_arch_prctl;
    SCHED_YIELD sched_yield() => sched::sys_sched_yield;
    SCHED_GETAFFINITY sched_getaffinity(pid: int, size: size, mask: ptr) => sched::sys_sched_getaffinity;
    SCHED_SETAFFINITY sched_setaffinity(pid: int, size: size, mask: ptr) => sched::sys_sched_setaffinity;
    SCHED_GETSCHEDULER sched_getscheduler(pid: int) => sched::sys_sched_getscheduler;
    SCHED_GETPARAM sched_getparam(pid: int, param: ptr) => sched::sys_sched_getparam;
    SCHED_SETSCHEDULER sched_setscheduler(pid: int, policy: int, param: ptr) => sched::sys_sched_setscheduler;
    SCHED_GET_PRIORITY_MAX sched_get_priority_max(policy: int) => sched::sys_sched_get_priority_max;
    SCHED_GET_PRIORITY_MIN sched_get_priority_min(policy: int) => sched::sys_sched_get_priority_min;
    SCHED_SETPARAM sched_setparam(pid: int, param: ptr) => sched::sys_sched_setparam;
    SCHED_RR_GET_INTERVAL sched_rr_get_interval(pid: int, interval: ptr) => sched::sys_sched_rr_get_interval;
    SCHED_SETATTR sched_setattr(pid: int, attr: ptr, flags: flags) => sched::sys_sched_setattr;
    SCHED_GETATTR sched_getattr(pid: int, attr: ptr, size: size, flags: flags) => sched::sys_sched_getattr;
    IOPRIO_SET ioprio_set(which: int, who: int, ioprio: int) => sched::sys_ioprio_set;
    IOPRIO_GET ioprio_get(which: int, who: int) => sched::sys_ioprio_get;
    GETPRIORITY getpriority(which: int, who: int) => sched::sys_getpriority;
    SETPRIORITY setpriority(which: int, who: int, prio: int) => sched::sys_setpriority;
    GETCPU getcpu(cpu: ptr, node: ptr) => proc::sys_getcpu;
    PERSONALITY personality(persona: flags) => proc::sys_personality;
    MMAP mmap(addr: ptr, len: size, prot: flags, flags: flags, fd: fd, off: off) => memory::sys_mmap;
    MUNMAP munmap(addr: ptr, len: size) => memory::sys_munmap;
    MPROTECT mprotect(addr: ptr, len: size, prot: flags) => memory::sys_mprotect;
    BRK brk(addr: ptr) => memory::sys_brk;
    MREMAP mremap(old: ptr, old_len: size, new_len: size, flags: flags, new: ptr) => memory::sys_mremap;
    MADVISE madvise(addr: ptr, len: size, advice: int) => memory::sys_madvise;
    MSYNC msync(addr: ptr, len: size, flags: flags) => memory::sys_msync;
    MINCORE mincore(addr: ptr, len: size, vec: ptr) => memory::sys_mincore;
    MLOCK mlock(addr: ptr, len: size) => memory::sys_mlock;
    MLOCK2 mlock2(addr: ptr, len: size, flags: flags) => memory::sys_mlock;
    MUNLOCK munlock(addr: ptr, len: size) => memory::sys_mlock;
    MLOCKALL mlockall(flags: flags) => memory::sys_mlockall;
    MUNLOCKALL munlockall() => memory::sys_mlockall;
    FUTEX futex(at: ptr, op: int, val: uint, timeout: ptr, at2: ptr, val3: uint) => futex::sys_futex;
    FUTEX_WAITV futex_waitv(waiters: ptr, n: uint, flags: flags, timeout: ptr, clock: int) => futex::many::sys_futex_waitv;
    SET_ROBUST_LIST set_robust_list(head: ptr, len: size) => futex::sys_set_robust_list;
    GET_ROBUST_LIST get_robust_list(pid: int, head: ptr, len: ptr) => futex::sys_get_robust_list;
    RT_SIGACTION rt_sigaction(sig: int, act: ptr, old: ptr, size: size) => signals::sys_rt_sigaction;
    RT_SIGPROCMASK rt_sigprocmask(how: int, set: ptr, old: ptr, size: size) => signals::sys_rt_sigprocmask;
    RT_SIGPENDING rt_sigpending(set: ptr, size: size) => signals::sys_rt_sigpending;
    RT_SIGSUSPEND rt_sigsuspend(mask: ptr, size: size) => signals::sys_rt_sigsuspend;
    RT_SIGTIMEDWAIT rt_sigtimedwait(set: ptr, info: ptr, timeout: ptr, size: size) => signals::sys_rt_sigtimedwait;
    RT_SIGQUEUEINFO rt_sigqueueinfo(pid: int, sig: int, info: ptr) => signals::sys_rt_sigqueueinfo;
    RT_SIGRETURN rt_sigreturn() => signals::sys_rt_sigreturn, own;
    PAUSE pause() => signals::sys_pause;
    SIGALTSTACK sigaltstack(new: ptr, old: ptr) => signals::sys_sigaltstack;
    KILL kill(pid: int, sig: int) => signals::sys_kill;
    TGKILL tgkill(tgid: int, tid: int, sig: int) => signals::sys_tgkill;
    TKILL tkill(tid: int, sig: int) => signals::sys_tkill;
    CLOCK_GETTIME clock_gettime(clock: int, ts: ptr) => time::sys_clock_gettime;
    CLOCK_GETRES clock_getres(clock: int, ts: ptr) => time::sys_clock_getres;
    CLOCK_SETTIME clock_settime(clock: int, ts: ptr) => time::sys_clock_settime;
    CLOCK_NANOSLEEP clock_nanosleep(clock: int, flags: flags, req: ptr, rem: ptr) => time::sys_clock_nanosleep;
    NANOSLEEP nanosleep(req: ptr, rem: ptr) => time::sys_nanosleep;
    GETTIMEOFDAY gettimeofday(tv: ptr, tz: ptr) => time::sys_gettimeofday;
    TIME time(at: ptr) => time::sys_time;
    ALARM alarm(seconds: uint) => time::sys_alarm;
    SETITIMER setitimer(which: int, new: ptr, old: ptr) => time::sys_setitimer;
    TIMER_CREATE timer_create(clock: int, event: ptr, id: ptr) => timers::sys_timer_create;
    TIMER_SETTIME timer_settime(id: int, flags: flags, new: ptr, old: ptr) => timers::sys_timer_settime;
    TIMER_GETTIME timer_gettime(id: int, value: ptr) => timers::sys_timer_gettime;
    TIMER_GETOVERRUN timer_getoverrun(id: int) => timers::sys_timer_getoverrun;
    TIMER_DELETE timer_delete(id: int) => timers::sys_timer_delete;
    GETITIMER getitimer(which: int, value: ptr) => time::sys_getitimer;
    GETRUSAGE getrusage(who: int, usage: ptr) => time::sys_getrusage;
    TIMES times(buf: ptr) => time::sys_times;
    UNAME uname(buf: ptr) => misc::sys_uname;
    SYSINFO sysinfo(info: ptr) => misc::sys_sysinfo;
    GETRANDOM getrandom(buf: outbuf, len: size, flags: flags) => misc::sys_getrandom;
    MEMBARRIER membarrier(cmd: int, flags: flags) => misc::sys_membarrier;
    CAPGET capget(header: ptr, data: ptr) => caps::sys_capget;
    CAPSET capset(header: ptr, data: ptr) => caps::sys_capset;
    SETHOSTNAME sethostname(name: ptr, len: size) => misc::sys_not_permitted;
    SYSLOG syslog(kind: int, buf: ptr, len: size) => misc::sys_syslog;
    READ read(fd:fd, buf:outbuf, len:size) => fs::rw::sys_read;
    WRITE write(fd:fd, buf:inbuf, len:size) => fs::rw::sys_write;
    READV readv(fd:fd, iov:iov, count:int) => fs::rw::sys_readv;
    WRITEV writev(fd:fd, iov:iov, count:int) => fs::rw::sys_writev;
    PREAD64 pread64(fd:fd, buf:outbuf, len:size, offset:off) => fs::rw::sys_pread64;
    PWRITE64 pwrite64(fd:fd, buf:inbuf, len:size, offset:off) => fs::rw::sys_pwrite64;
    PREADV preadv(fd:fd, iov:iov, count:int, offset:off) => fs::rw::sys_preadv;
    PWRITEV pwritev(fd:fd, iov:iov, count:int, offset:off) => fs::rw::sys_pwritev;
    PREADV2 preadv2(fd:fd, iov:iov, count:int, offset:off, high:off, flags:flags) => fs::rw::sys_preadv2;
    PWRITEV2 pwritev2(fd:fd, iov:iov, count:int, offset:off, high:off, flags:flags) => fs::rw::sys_pwritev2;
    LSEEK lseek(fd:fd, offset:off, whence:int) => fs::rw::sys_lseek;
    SENDFILE sendfile(out:fd, in_fd:fd, offset:ptr, len:size) => fs::rw::sys_sendfile;
    COPY_FILE_RANGE copy_file_range(in_fd:fd, in_off:ptr, out:fd, out_off:ptr, len:size, flags:flags) => fs::rw::sys_copy_file_range;
    SPLICE splice(in_fd:fd, in_off:ptr, out:fd, out_off:ptr, len:size, flags:flags) => fs::splice::sys_splice;
    TEE tee(in_fd:fd, out:fd, len:size, flags:flags) => fs::splice::sys_tee;
    VMSPLICE vmsplice(fd:fd, iov:iov, count:int, flags:flags) => fs::splice::sys_vmsplice;
    OPEN open(path:str, flags:flags, mode:mode) => fs::open::sys_open;
    OPENAT openat(dirfd:fd, path:str, flags:flags, mode:mode) => fs::open::sys_openat;
    OPENAT2 openat2(dirfd:fd, path:str, how:ptr, size:size) => fs::open::sys_openat2;
    CREAT creat(path:str, mode:mode) => fs::open::sys_creat;
    CLOSE close(fd:fd) => fs::open::sys_close;
    STAT stat(path:str, buf:ptr) => fs::stat::sys_stat;
    LSTAT lstat(path:str, buf:ptr) => fs::stat::sys_lstat;
    FSTAT fstat(fd:fd, buf:ptr) => fs::stat::sys_fstat;
    NEWFSTATAT newfstatat(dirfd:fd, path:str, buf:ptr, flags:flags) => fs::stat::sys_newfstatat;
    STATX statx(dirfd:fd, path:str, flags:flags, mask:flags, buf:ptr) => fs::stat::sys_statx;
    ACCESS access(path:str, mode:mode) => fs::stat::sys_access;
    FACCESSAT faccessat(dirfd:fd, path:str, mode:mode) => fs::stat::sys_faccessat;
    FACCESSAT2 faccessat2(dirfd:fd, path:str, mode:mode, flags:flags) => fs::stat::sys_faccessat2;
    STATFS statfs(path:str, buf:ptr) => fs::stat::sys_statfs;
    FSTATFS fstatfs(fd:fd, buf:ptr) => fs::stat::sys_fstatfs;
    GETDENTS64 getdents64(fd:fd, buf:ptr, len:size) => fs::dir::sys_getdents64;
    GETDENTS getdents(fd:fd, buf:ptr, len:size) => fs::dir::sys_getdents;
    GETCWD getcwd(buf:ptr, len:size) => fs::dir::sys_getcwd;
    CHDIR chdir(path:str) => fs::dir::sys_chdir;
    FCHDIR fchdir(fd:fd) => fs::dir::sys_fchdir;
    CHROOT chroot(path:str) => fs::dir::sys_chroot;
    MKDIR mkdir(path:str, mode:mode) => fs::dir::sys_mkdir;
    MKDIRAT mkdirat(dirfd:fd, path:str, mode:mode) => fs::dir::sys_mkdirat;
    MKNOD mknod(path:str, mode:mode, dev:uint) => fs::dir::sys_mknod;
    MKNODAT mknodat(dirfd:fd, path:str, mode:mode, dev:uint) => fs::dir::sys_mknodat;
    RMDIR rmdir(path:str) => fs::dir::sys_rmdir;
    UNLINK unlink(path:str) => fs::dir::sys_unlink;
    UNLINKAT unlinkat(dirfd:fd, path:str, flags:flags) => fs::dir::sys_unlinkat;
    RENAME rename(old:str, new:str) => fs::dir::sys_rename;
    RENAMEAT renameat(olddir:fd, old:str, newdir:fd, new:str) => fs::dir::sys_renameat;
    RENAMEAT2 renameat2(olddir:fd, old:str, newdir:fd, new:str, flags:flags) => fs::dir::sys_renameat2;
    LINK link(old:str, new:str) => fs::dir::sys_link;
    LINKAT linkat(olddir:fd, old:str, newdir:fd, new:str, flags:flags) => fs::dir::sys_linkat;
    SYMLINK symlink(target:str, path:str) => fs::dir::sys_symlink;
    SYMLINKAT symlinkat(target:str, dirfd:fd, path:str) => fs::dir::sys_symlinkat;
    READLINK readlink(path:str, buf:ptr, len:size) => fs::dir::sys_readlink;
    READLINKAT readlinkat(dirfd:fd, path:str, buf:ptr, len:size) => fs::dir::sys_readlinkat;
    CHMOD chmod(path:str, mode:mode) => fs::attr::sys_chmod;
    FCHMOD fchmod(fd:fd, mode:mode) => fs::attr::sys_fchmod;
    FCHMODAT fchmodat(dirfd:fd, path:str, mode:mode) => fs::attr::sys_fchmodat;
    FCHMODAT2 fchmodat2(dirfd:fd, path:str, mode:mode, flags:flags) => fs::attr::sys_fchmodat2;
    CHOWN chown(path:str, uid:int, gid:int) => fs::attr::sys_chown;
    LCHOWN lchown(path:str, uid:int, gid:int) => fs::attr::sys_lchown;
    FCHOWN fchown(fd:fd, uid:int, gid:int) => fs::attr::sys_fchown;
    FCHOWNAT fchownat(dirfd:fd, path:str, uid:int, gid:int, flags:flags) => fs::attr::sys_fchownat;
    UMASK umask(mask:mode) => fs::attr::sys_umask;
    TRUNCATE truncate(path:str, len:off) => fs::attr::sys_truncate;
    FTRUNCATE ftruncate(fd:fd, len:off) => fs::attr::sys_ftruncate;
    FALLOCATE fallocate(fd:fd, mode:flags, offset:off, len:off) => fs::attr::sys_fallocate;
    UTIMENSAT utimensat(dirfd:fd, path:str, times:ptr, flags:flags) => fs::attr::sys_utimensat;
    UTIMES utimes(path:str, times:ptr) => fs::attr::sys_utimes;
    FUTIMESAT futimesat(dirfd:fd, path:str, times:ptr) => fs::attr::sys_futimesat;
    UTIME utime(path:str, times:ptr) => fs::attr::sys_utime;
    GETXATTR getxattr(path:str, name:str, value:ptr, size:size) => fs::xattr::sys_getxattr;
    LGETXATTR lgetxattr(path:str, name:str, value:ptr, size:size) => fs::xattr::sys_lgetxattr;
    FGETXATTR fgetxattr(fd:fd, name:str, value:ptr, size:size) => fs::xattr::sys_fgetxattr;
    LISTXATTR listxattr(path:str, list:ptr, size:size) => fs::xattr::sys_listxattr;
    LLISTXATTR llistxattr(path:str, list:ptr, size:size) => fs::xattr::sys_llistxattr;
    FLISTXATTR flistxattr(fd:fd, list:ptr, size:size) => fs::xattr::sys_flistxattr;
    SETXATTR setxattr(path:str, name:str, value:ptr, size:size, flags:flags) => fs::xattr::sys_setxattr;
    LSETXATTR lsetxattr(path:str, name:str, value:ptr, size:size, flags:flags) => fs::xattr::sys_lsetxattr;
    FSETXATTR fsetxattr(fd:fd, name:str, value:ptr, size:size, flags:flags) => fs::xattr::sys_fsetxattr;
    REMOVEXATTR removexattr(path:str, name:str) => fs::xattr::sys_removexattr;
    LREMOVEXATTR lremovexattr(path:str, name:str) => fs::xattr::sys_lremovexattr;
    FREMOVEXATTR fremovexattr(fd:fd, name:str) => fs::xattr::sys_fremovexattr;
    DUP dup(fd:fd) => fs::fd::sys_dup;
    DUP2 dup2(old:fd, new:fd) => fs::fd::sys_dup2;
    DUP3 dup3(old:fd, new:fd, flags:flags) => fs::fd::sys_dup3;
    CLOSE_RANGE close_range(first:uint, last:uint, flags:flags) => fs::fd::sys_close_range;
    FCNTL fcntl(fd:fd, cmd:int, arg:ptr) => fs::fd::sys_fcntl;
    FLOCK flock(fd:fd, operation:int) => fs::fd::sys_flock;
    IOCTL ioctl(fd:fd, request:flags, arg:ptr) => fs::fd::sys_ioctl;
    PIPE pipe(fds:ptr) => fs::fd::sys_pipe;
    PIPE2 pipe2(fds:ptr, flags:flags) => fs::fd::sys_pipe2;
    FSYNC fsync(fd:fd) => fs::misc::sys_fsync;
    FDATASYNC fdatasync(fd:fd) => fs::misc::sys_fsync;
    SYNC sync() => fs::misc::sys_sync;
    SYNCFS syncfs(fd:fd) => fs::misc::sys_syncfs;
    SYNC_FILE_RANGE sync_file_range(fd:fd, offset:off, len:off, flags:flags) => fs::misc::sys_sync_file_range;
    FADVISE64 fadvise64(fd:fd, offset:off, len:size, advice:int) => fs::misc::sys_fadvise64;
    READAHEAD readahead(fd:fd, offset:off, len:size) => fs::misc::sys_readahead;
    MOUNT mount(source:str, target:str, fstype:str, flags:flags, data:ptr) => fs::misc::sys_mount;
    UMOUNT2 umount2(target:str, flags:flags) => fs::misc::sys_mount;
    PIVOT_ROOT pivot_root(new_root:str, put_old:str) => fs::misc::sys_mount;
    SWAPON swapon(path:str, flags:flags) => fs::misc::sys_not_permitted;
    SWAPOFF swapoff(path:str) => fs::misc::sys_not_permitted;
    ACCT acct(path:str) => fs::misc::sys_not_permitted;
    QUOTACTL quotactl(cmd:int, special:str, id:int, addr:ptr) => fs::misc::sys_not_permitted;
    NAME_TO_HANDLE_AT name_to_handle_at(dirfd:fd, path:str, handle:ptr, mount_id:ptr, flags:flags) => fs::misc::sys_name_to_handle_at;
    OPEN_BY_HANDLE_AT open_by_handle_at(mount_fd:fd, handle:ptr, flags:flags) => fs::misc::sys_not_permitted;
    MEMFD_CREATE memfd_create(name:str, flags:flags) => fs::misc::sys_memfd_create;
    EVENTFD eventfd(count:uint) => fs::event::sys_eventfd;
    EVENTFD2 eventfd2(count:uint, flags:flags) => fs::event::sys_eventfd2;
    TIMERFD_CREATE timerfd_create(clock:int, flags:flags) => fs::event::sys_timerfd_create;
    TIMERFD_SETTIME timerfd_settime(fd:fd, flags:flags, new:ptr, old:ptr) => fs::event::sys_timerfd_settime;
    TIMERFD_GETTIME timerfd_gettime(fd:fd, cur:ptr) => fs::event::sys_timerfd_gettime;
    SIGNALFD signalfd(fd:fd, mask:ptr, size:size) => fs::event::sys_signalfd;
    SIGNALFD4 signalfd4(fd:fd, mask:ptr, size:size, flags:flags) => fs::event::sys_signalfd4;
    INOTIFY_INIT inotify_init() => fs::event::sys_inotify_init;
    INOTIFY_INIT1 inotify_init1(flags:flags) => fs::event::sys_inotify_init1;
    INOTIFY_ADD_WATCH inotify_add_watch(fd:fd, path:str, mask:flags) => fs::event::sys_inotify_add_watch;
    INOTIFY_RM_WATCH inotify_rm_watch(fd:fd, wd:int) => fs::event::sys_inotify_rm_watch;
    POLL poll(fds:ptr, n:size, timeout:int) => fs::wait::sys_poll;
    PPOLL ppoll(fds:ptr, n:size, timeout:ptr, mask:ptr, size:size) => fs::wait::sys_ppoll;
    SELECT select(n:int, readfds:ptr, writefds:ptr, exceptfds:ptr, timeout:ptr) => fs::wait::sys_select;
    PSELECT6 pselect6(n:int, readfds:ptr, writefds:ptr, exceptfds:ptr, timeout:ptr, mask:ptr) => fs::wait::sys_pselect6;
    EPOLL_CREATE epoll_create(size:int) => fs::wait::sys_epoll_create;
    EPOLL_CREATE1 epoll_create1(flags:flags) => fs::wait::sys_epoll_create1;
    EPOLL_CTL epoll_ctl(epfd:fd, op:int, fd:fd, event:ptr) => fs::wait::sys_epoll_ctl;
    EPOLL_WAIT epoll_wait(epfd:fd, events:ptr, max:int, timeout:int) => fs::wait::sys_epoll_wait;
    EPOLL_PWAIT epoll_pwait(epfd:fd, events:ptr, max:int, timeout:int, mask:ptr, size:size) => fs::wait::sys_epoll_pwait;
    EPOLL_PWAIT2 epoll_pwait2(epfd:fd, events:ptr, max:int, timeout:ptr, mask:ptr, size:size) => fs::wait::sys_epoll_pwait2;
    SOCKET socket(family: int, kind: flags, protocol: int) => net::sys_socket;
    SOCKETPAIR socketpair(family: int, kind: flags, protocol: int, fds: ptr) => net::sys_socketpair;
    BIND bind(fd: fd, addr: ptr, len: size) => net::sys_bind;
    LISTEN listen(fd: fd, backlog: int) => net::sys_listen;
    ACCEPT accept(fd: fd, addr: ptr, len: ptr) => net::sys_accept;
    ACCEPT4 accept4(fd: fd, addr: ptr, len: ptr, flags: flags) => net::sys_accept4;
    CONNECT connect(fd: fd, addr: ptr, len: size) => net::sys_connect;
    GETSOCKNAME getsockname(fd: fd, addr: ptr, len: ptr) => net::sys_getsockname;
    GETPEERNAME getpeername(fd: fd, addr: ptr, len: ptr) => net::sys_getpeername;
    SENDTO sendto(fd: fd, buf: inbuf, len: size, flags: flags, addr: ptr, addrlen: size) => net::sys_sendto;
    RECVFROM recvfrom(fd: fd, buf: outbuf, len: size, flags: flags, addr: ptr, addrlen: ptr) => net::sys_recvfrom;
    SENDMSG sendmsg(fd: fd, msg: ptr, flags: flags) => net::sys_sendmsg;
    RECVMSG recvmsg(fd: fd, msg: ptr, flags: flags) => net::sys_recvmsg;
    SENDMMSG sendmmsg(fd: fd, msgs: ptr, n: uint, flags: flags) => net::sys_sendmmsg;
    RECVMMSG recvmmsg(fd: fd, msgs: ptr, n: uint, flags: flags, timeout: ptr) => net::sys_recvmmsg;
    SHUTDOWN shutdown(fd: fd, how: int) => net::sys_shutdown;
    SETSOCKOPT setsockopt(fd: fd, level: int, name: int, value: ptr, len: size) => net::sys_setsockopt;
    GETSOCKOPT getsockopt(fd: fd, level: int, name: int, value: ptr, len: ptr) => net::sys_getsockopt;
}
