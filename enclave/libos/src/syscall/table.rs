//! THE system-call table: number, name, argument types, handler. Dispatch and the trace read it; a call that is not here
//! is ENOSYS and counted. How far each call is supported stands beside its number in `occlum_linux_abi::nr`.
use super::arg::{self, Arg};
use super::{caps, futex, memory, misc, peers, pidfd, prctl, proc, sched, signals, time, timers};
use crate::errno::Result;
use crate::fs::syscall as fs;
use crate::ipc::{mq, msg, sem, shm};
use crate::net::syscall as net;
use occlum_linux_abi::nr;

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

macro_rules! table {
    ($($nr:ident $name:ident($($a:ident: $k:ident),*) => $h:expr $(, $own:ident)?;)*) => {
        /// The rows, in no particular order.
        pub static ROWS: &[Row] = &[$(Row {
            nr: nr::$nr,
            name: stringify!($name),
            args: &[$((stringify!($a), arg::of(stringify!($k)))),*],
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
    CLONE clone(flags: clone_flags, stack: ptr, parent_tid: int_out, child_tid: int_out, tls: ptr) => proc::sys_clone;
    CLONE3 clone3(args: clone_args, size: size) => proc::sys_clone3;
    EXECVE execve(path: path, argv: strings, envp: strings) => proc::sys_execve, own;
    EXECVEAT execveat(dirfd: dirfd, path: path, argv: strings, envp: strings, flags: at_flags) => proc::sys_execveat, own;
    EXIT exit(status: int) => proc::sys_exit;
    EXIT_GROUP exit_group(status: int) => proc::sys_exit_group;
    WAIT4 wait4(pid: int, status: status_out, options: wait_flags, rusage: rusage_out) => proc::sys_wait4;
    WAITID waitid(idtype: id_type, id: int, info: siginfo_out, options: wait_flags, rusage: rusage_out) => proc::sys_waitid;
    PIDFD_OPEN pidfd_open(pid: int, flags: flags) => pidfd::sys_pidfd_open;
    PIDFD_SEND_SIGNAL pidfd_send_signal(pidfd: fd, sig: signal, info: siginfo_in, flags: flags) => pidfd::sys_pidfd_send_signal;
    PIDFD_GETFD pidfd_getfd(pidfd: fd, fd: fd, flags: flags) => pidfd::sys_pidfd_getfd;
    SHMGET shmget(key: int, size: size, flags: ipc_flags) => shm::sys_shmget;
    SHMAT shmat(id: int, addr: ptr, flags: ipc_flags) => shm::sys_shmat;
    SHMDT shmdt(addr: ptr) => shm::sys_shmdt;
    SHMCTL shmctl(id: int, cmd: ipc_cmd, buf: ptr) => shm::sys_shmctl;
    SEMGET semget(key: int, count: int, flags: ipc_flags) => sem::sys_semget;
    SEMOP semop(id: int, ops: ptr, n: size) => sem::sys_semop;
    SEMTIMEDOP semtimedop(id: int, ops: ptr, n: size, timeout: timespec_in) => sem::sys_semtimedop;
    SEMCTL semctl(id: int, num: int, cmd: ipc_cmd, arg: ptr) => sem::sys_semctl;
    MSGGET msgget(key: int, flags: ipc_flags) => msg::sys_msgget;
    MSGSND msgsnd(id: int, message: ptr, size: size, flags: ipc_flags) => msg::sys_msgsnd;
    MSGRCV msgrcv(id: int, message: ptr, size: size, kind: int, flags: ipc_flags) => msg::sys_msgrcv;
    MSGCTL msgctl(id: int, cmd: ipc_cmd, buf: ptr) => msg::sys_msgctl;
    MQ_OPEN mq_open(name: str, flags: open_flags, mode: mode, attr: ptr) => mq::sys_mq_open;
    MQ_UNLINK mq_unlink(name: str) => mq::sys_mq_unlink;
    MQ_TIMEDSEND mq_timedsend(fd: fd, message: inbuf, size: size, priority: uint, timeout: timespec_in) => mq::sys_mq_timedsend;
    MQ_TIMEDRECEIVE mq_timedreceive(fd: fd, buf: outbuf, size: size, priority: int_out, timeout: timespec_in) => mq::sys_mq_timedreceive;
    MQ_NOTIFY mq_notify(fd: fd, event: sigevent_in) => mq::sys_mq_notify;
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
    GETRESUID getresuid(ruid: int_out, euid: int_out, suid: int_out) => proc::sys_getresuid;
    GETRESGID getresgid(rgid: int_out, egid: int_out, sgid: int_out) => proc::sys_getresgid;
    SETFSUID setfsuid(uid: int) => proc::sys_setfsuid;
    SETFSGID setfsgid(gid: int) => proc::sys_setfsgid;
    GETGROUPS getgroups(size: int, list: ptr) => proc::sys_getgroups;
    SETGROUPS setgroups(size: int, list: ptr) => proc::sys_setgroups;
    SETPGID setpgid(pid: int, pgid: int) => proc::sys_setpgid;
    GETPGID getpgid(pid: int) => proc::sys_getpgid;
    SETSID setsid() => proc::sys_setsid;
    GETSID getsid(pid: int) => proc::sys_getsid;
    SET_TID_ADDRESS set_tid_address(at: ptr) => proc::sys_set_tid_address;
    PRLIMIT64 prlimit64(pid: int, resource: resource, new: rlimit_in, old: rlimit_out) => proc::sys_prlimit64;
    GETRLIMIT getrlimit(resource: resource, old: rlimit_out) => proc::sys_getrlimit;
    SETRLIMIT setrlimit(resource: resource, new: rlimit_in) => proc::sys_setrlimit;
    PRCTL prctl(option: prctl_option, a: ptr, b: ptr, c: ptr, d: ptr) => prctl::sys_prctl;
    ARCH_PRCTL arch_prctl(code: arch_code, addr: ptr) => proc::sys_arch_prctl;
    SCHED_YIELD sched_yield() => sched::sys_sched_yield;
    SCHED_GETAFFINITY sched_getaffinity(pid: int, size: size, mask: ptr) => sched::sys_sched_getaffinity;
    SCHED_SETAFFINITY sched_setaffinity(pid: int, size: size, mask: ptr) => sched::sys_sched_setaffinity;
    SCHED_GETSCHEDULER sched_getscheduler(pid: int) => sched::sys_sched_getscheduler;
    SCHED_GETPARAM sched_getparam(pid: int, param: ptr) => sched::sys_sched_getparam;
    SCHED_SETSCHEDULER sched_setscheduler(pid: int, policy: policy, param: ptr) => sched::sys_sched_setscheduler;
    SCHED_GET_PRIORITY_MAX sched_get_priority_max(policy: policy) => sched::sys_sched_get_priority_max;
    SCHED_GET_PRIORITY_MIN sched_get_priority_min(policy: policy) => sched::sys_sched_get_priority_min;
    SCHED_SETPARAM sched_setparam(pid: int, param: ptr) => sched::sys_sched_setparam;
    SCHED_RR_GET_INTERVAL sched_rr_get_interval(pid: int, interval: ptr) => sched::sys_sched_rr_get_interval;
    SCHED_SETATTR sched_setattr(pid: int, attr: ptr, flags: flags) => sched::sys_sched_setattr;
    SCHED_GETATTR sched_getattr(pid: int, attr: ptr, size: size, flags: flags) => sched::sys_sched_getattr;
    IOPRIO_SET ioprio_set(which: int, who: int, ioprio: int) => sched::sys_ioprio_set;
    IOPRIO_GET ioprio_get(which: int, who: int) => sched::sys_ioprio_get;
    KCMP kcmp(pid1: int, pid2: int, kind: int, idx1: uint, idx2: uint) => peers::sys_kcmp;
    PROCESS_VM_READV process_vm_readv(pid: int, local: ptr, n: size, remote: ptr, m: size, flags: flags) => peers::sys_process_vm_readv;
    PROCESS_VM_WRITEV process_vm_writev(pid: int, local: ptr, n: size, remote: ptr, m: size, flags: flags) => peers::sys_process_vm_writev;
    PROCESS_MADVISE process_madvise(pidfd: fd, iov: ptr, n: size, advice: advice, flags: flags) => peers::sys_process_madvise;
    PROCESS_MRELEASE process_mrelease(pidfd: fd, flags: flags) => peers::sys_process_mrelease;
    UNSHARE unshare(flags: clone_flags) => peers::sys_unshare;
    RT_TGSIGQUEUEINFO rt_tgsigqueueinfo(tgid: int, tid: int, sig: signal, info: siginfo_in) => signals::sys_rt_tgsigqueueinfo;
    GETPRIORITY getpriority(which: priority_which, who: int) => sched::sys_getpriority;
    SETPRIORITY setpriority(which: priority_which, who: int, prio: int) => sched::sys_setpriority;
    GETCPU getcpu(cpu: int_out, node: int_out) => proc::sys_getcpu;
    PERSONALITY personality(persona: flags) => prctl::sys_personality;
    MMAP mmap(addr: ptr, len: size, prot: prot, flags: map_flags, fd: fd, off: off) => memory::sys_mmap;
    MUNMAP munmap(addr: ptr, len: size) => memory::sys_munmap;
    MPROTECT mprotect(addr: ptr, len: size, prot: prot) => memory::sys_mprotect;
    BRK brk(addr: ptr) => memory::sys_brk;
    MREMAP mremap(old: ptr, old_len: size, new_len: size, flags: mremap_flags, new: ptr) => memory::sys_mremap;
    MADVISE madvise(addr: ptr, len: size, advice: advice) => memory::sys_madvise;
    MSYNC msync(addr: ptr, len: size, flags: msync_flags) => memory::sys_msync;
    MINCORE mincore(addr: ptr, len: size, vec: ptr) => memory::sys_mincore;
    MLOCK mlock(addr: ptr, len: size) => memory::sys_mlock;
    MLOCK2 mlock2(addr: ptr, len: size, flags: flags) => memory::sys_mlock2;
    MUNLOCK munlock(addr: ptr, len: size) => memory::sys_munlock;
    MLOCKALL mlockall(flags: flags) => memory::sys_mlockall;
    MUNLOCKALL munlockall() => memory::sys_munlockall;
    FUTEX futex(at: ptr, op: futex_op, val: uint, timeout: ptr, at2: ptr, val3: uint) => futex::sys_futex;
    FUTEX_WAKE futex_wake(address: ptr, mask: ptr, most: int, flags: flags) => futex::many::sys_futex_wake;
    FUTEX_WAIT futex_wait(address: ptr, value: ptr, mask: ptr, flags: flags, timeout: ptr, clock: int) => futex::many::sys_futex_wait;
    FUTEX_REQUEUE futex_requeue(waiters: ptr, flags: flags, wake: int, move: int) => futex::many::sys_futex_requeue;
    FUTEX_WAITV futex_waitv(waiters: ptr, n: uint, flags: flags, timeout: ptr, clock: int) => futex::many::sys_futex_waitv;
    SET_ROBUST_LIST set_robust_list(head: ptr, len: size) => futex::sys_set_robust_list;
    GET_ROBUST_LIST get_robust_list(pid: int, head: ptr, len: ptr) => futex::sys_get_robust_list;
    RT_SIGACTION rt_sigaction(sig: signal, act: sigaction_in, old: sigaction_out, size: size) => signals::sys_rt_sigaction;
    RT_SIGPROCMASK rt_sigprocmask(how: mask_how, set: sigset_in, old: sigset_out, size: size) => signals::sys_rt_sigprocmask;
    RT_SIGPENDING rt_sigpending(set: sigset_out, size: size) => signals::sys_rt_sigpending;
    RT_SIGSUSPEND rt_sigsuspend(mask: sigset_in, size: size) => signals::sys_rt_sigsuspend;
    RT_SIGTIMEDWAIT rt_sigtimedwait(set: sigset_in, info: siginfo_out, timeout: timespec_in, size: size) => signals::sys_rt_sigtimedwait;
    RT_SIGQUEUEINFO rt_sigqueueinfo(pid: int, sig: signal, info: siginfo_in) => signals::sys_rt_sigqueueinfo;
    RT_SIGRETURN rt_sigreturn() => signals::sys_rt_sigreturn, own;
    PAUSE pause() => signals::sys_pause;
    SIGALTSTACK sigaltstack(new: stack_in, old: stack_out) => signals::sys_sigaltstack;
    KILL kill(pid: int, sig: signal) => signals::sys_kill;
    TGKILL tgkill(tgid: int, tid: int, sig: signal) => signals::sys_tgkill;
    TKILL tkill(tid: int, sig: signal) => signals::sys_tkill;
    CLOCK_GETTIME clock_gettime(clock: clock, ts: timespec_out) => time::sys_clock_gettime;
    CLOCK_GETRES clock_getres(clock: clock, ts: timespec_out) => time::sys_clock_getres;
    CLOCK_SETTIME clock_settime(clock: clock, ts: timespec_in) => time::sys_clock_settime;
    ADJTIMEX adjtimex(timex: ptr) => time::sys_adjtimex;
    CLOCK_ADJTIME clock_adjtime(clock: clock, timex: ptr) => time::sys_clock_adjtime;
    CLOCK_NANOSLEEP clock_nanosleep(clock: clock, flags: timer_flags, req: timespec_in, rem: timespec_out) => time::sys_clock_nanosleep;
    NANOSLEEP nanosleep(req: timespec_in, rem: timespec_out) => time::sys_nanosleep;
    GETTIMEOFDAY gettimeofday(tv: timeval_out, tz: ptr) => time::sys_gettimeofday;
    TIME time(at: long_out) => time::sys_time;
    ALARM alarm(seconds: uint) => time::sys_alarm;
    SETITIMER setitimer(which: itimer, new: itimerval_in, old: itimerval_out) => time::sys_setitimer;
    TIMER_CREATE timer_create(clock: clock, event: sigevent_in, id: int_out) => timers::sys_timer_create;
    TIMER_SETTIME timer_settime(id: int, flags: timer_flags, new: itimerspec_in, old: itimerspec_out) => timers::sys_timer_settime;
    TIMER_GETTIME timer_gettime(id: int, value: itimerspec_out) => timers::sys_timer_gettime;
    TIMER_GETOVERRUN timer_getoverrun(id: int) => timers::sys_timer_getoverrun;
    TIMER_DELETE timer_delete(id: int) => timers::sys_timer_delete;
    GETITIMER getitimer(which: itimer, value: itimerval_out) => time::sys_getitimer;
    GETRUSAGE getrusage(who: rusage_who, usage: rusage_out) => time::sys_getrusage;
    TIMES times(buf: tms_out) => time::sys_times;
    UNAME uname(buf: utsname_out) => misc::sys_uname;
    SYSINFO sysinfo(info: sysinfo_out) => misc::sys_sysinfo;
    GETRANDOM getrandom(buf: outbuf, len: size, flags: random_flags) => misc::sys_getrandom;
    MEMBARRIER membarrier(cmd: membarrier_cmd, flags: flags) => memory::sys_membarrier;
    MSEAL mseal(addr: ptr, len: size, flags: flags) => memory::sys_mseal;
    CAPGET capget(header: ptr, data: ptr) => caps::sys_capget;
    CAPSET capset(header: ptr, data: ptr) => caps::sys_capset;
    SETHOSTNAME sethostname(name: inbuf, len: size) => misc::sys_sethostname;
    SETDOMAINNAME setdomainname(name: inbuf, len: size) => misc::sys_setdomainname;
    SYSLOG syslog(kind: int, buf: ptr, len: size) => misc::sys_syslog;
    READ read(fd:fd, buf:outbuf, len:size) => fs::rw::sys_read;
    WRITE write(fd:fd, buf:inbuf, len:size) => fs::rw::sys_write;
    READV readv(fd: fd, iov: iov_out, count: int) => fs::rw::sys_readv;
    WRITEV writev(fd: fd, iov: iov_in, count: int) => fs::rw::sys_writev;
    PREAD64 pread64(fd:fd, buf:outbuf, len:size, offset:off) => fs::rw::sys_pread64;
    PWRITE64 pwrite64(fd:fd, buf:inbuf, len:size, offset:off) => fs::rw::sys_pwrite64;
    PREADV preadv(fd: fd, iov: iov_out, count: int, offset: off) => fs::rw::sys_preadv;
    PWRITEV pwritev(fd: fd, iov: iov_in, count: int, offset: off) => fs::rw::sys_pwritev;
    PREADV2 preadv2(fd: fd, iov: iov_out, count: int, offset: off, high: off, flags: rw_flags) => fs::rw::sys_preadv2;
    PWRITEV2 pwritev2(fd: fd, iov: iov_in, count: int, offset: off, high: off, flags: rw_flags) => fs::rw::sys_pwritev2;
    LSEEK lseek(fd: fd, offset: off, whence: whence) => fs::rw::sys_lseek;
    SENDFILE sendfile(out: fd, in_fd: fd, offset: off_inout, len: size) => fs::rw::sys_sendfile;
    COPY_FILE_RANGE copy_file_range(in_fd: fd, in_off: off_inout, out: fd, out_off: off_inout, len: size, flags: flags) => fs::rw::sys_copy_file_range;
    SPLICE splice(in_fd: fd, in_off: off_inout, out: fd, out_off: off_inout, len: size, flags: splice_flags) => fs::splice::sys_splice;
    TEE tee(in_fd: fd, out: fd, len: size, flags: splice_flags) => fs::splice::sys_tee;
    VMSPLICE vmsplice(fd: fd, iov: iov_in, count: int, flags: splice_flags) => fs::splice::sys_vmsplice;
    OPEN open(path: path, flags: open_flags, mode: mode) => fs::open::sys_open;
    OPENAT openat(dirfd: dirfd, path: path, flags: open_flags, mode: mode) => fs::open::sys_openat;
    OPENAT2 openat2(dirfd: dirfd, path: path, how: open_how, size: size) => fs::open::sys_openat2;
    CREAT creat(path: path, mode: mode) => fs::open::sys_creat;
    CLOSE close(fd:fd) => fs::open::sys_close;
    STAT stat(path: path, buf: stat_out) => fs::stat::sys_stat;
    LSTAT lstat(path: path, buf: stat_out) => fs::stat::sys_lstat;
    FSTAT fstat(fd: fd, buf: stat_out) => fs::stat::sys_fstat;
    NEWFSTATAT newfstatat(dirfd: dirfd, path: path, buf: stat_out, flags: at_flags) => fs::stat::sys_newfstatat;
    STATX statx(dirfd: dirfd, path: path, flags: at_flags, mask: statx_mask, buf: statx_out) => fs::stat::sys_statx;
    ACCESS access(path: path, mode: access) => fs::stat::sys_access;
    FACCESSAT faccessat(dirfd: dirfd, path: path, mode: access) => fs::stat::sys_faccessat;
    FACCESSAT2 faccessat2(dirfd: dirfd, path: path, mode: access, flags: at_flags) => fs::stat::sys_faccessat2;
    STATFS statfs(path: path, buf: statfs_out) => fs::stat::sys_statfs;
    FSTATFS fstatfs(fd: fd, buf: statfs_out) => fs::stat::sys_fstatfs;
    GETDENTS64 getdents64(fd: fd, buf: dirents, len: size) => fs::dir::sys_getdents64;
    GETDENTS getdents(fd: fd, buf: ptr, len: size) => fs::dir::sys_getdents;
    GETCWD getcwd(buf: outbuf, len: size) => fs::dir::sys_getcwd;
    CHDIR chdir(path: path) => fs::dir::sys_chdir;
    FCHDIR fchdir(fd:fd) => fs::dir::sys_fchdir;
    CHROOT chroot(path: path) => fs::dir::sys_chroot;
    MKDIR mkdir(path: path, mode: mode) => fs::dir::sys_mkdir;
    MKDIRAT mkdirat(dirfd: dirfd, path: path, mode: mode) => fs::dir::sys_mkdirat;
    MKNOD mknod(path: path, mode: mode, dev: uint) => fs::dir::sys_mknod;
    MKNODAT mknodat(dirfd: dirfd, path: path, mode: mode, dev: uint) => fs::dir::sys_mknodat;
    RMDIR rmdir(path: path) => fs::dir::sys_rmdir;
    UNLINK unlink(path: path) => fs::dir::sys_unlink;
    UNLINKAT unlinkat(dirfd: dirfd, path: path, flags: at_flags) => fs::dir::sys_unlinkat;
    RENAME rename(old: path, new: path) => fs::dir::sys_rename;
    RENAMEAT renameat(olddir: dirfd, old: path, newdir: dirfd, new: path) => fs::dir::sys_renameat;
    RENAMEAT2 renameat2(olddir: dirfd, old: path, newdir: dirfd, new: path, flags: rename_flags) => fs::dir::sys_renameat2;
    LINK link(old: path, new: path) => fs::dir::sys_link;
    LINKAT linkat(olddir: dirfd, old: path, newdir: dirfd, new: path, flags: at_flags) => fs::dir::sys_linkat;
    SYMLINK symlink(target: path, path: path) => fs::dir::sys_symlink;
    SYMLINKAT symlinkat(target: path, dirfd: dirfd, path: path) => fs::dir::sys_symlinkat;
    READLINK readlink(path: path, buf: outbuf, len: size) => fs::dir::sys_readlink;
    READLINKAT readlinkat(dirfd: dirfd, path: path, buf: outbuf, len: size) => fs::dir::sys_readlinkat;
    CHMOD chmod(path: path, mode: mode) => fs::attr::sys_chmod;
    FCHMOD fchmod(fd:fd, mode:mode) => fs::attr::sys_fchmod;
    FCHMODAT fchmodat(dirfd: dirfd, path: path, mode: mode) => fs::attr::sys_fchmodat;
    FCHMODAT2 fchmodat2(dirfd: dirfd, path: path, mode: mode, flags: at_flags) => fs::attr::sys_fchmodat2;
    CHOWN chown(path: path, uid: int, gid: int) => fs::attr::sys_chown;
    LCHOWN lchown(path: path, uid: int, gid: int) => fs::attr::sys_lchown;
    FCHOWN fchown(fd:fd, uid:int, gid:int) => fs::attr::sys_fchown;
    FCHOWNAT fchownat(dirfd: dirfd, path: path, uid: int, gid: int, flags: at_flags) => fs::attr::sys_fchownat;
    UMASK umask(mask:mode) => fs::attr::sys_umask;
    TRUNCATE truncate(path: path, len: off) => fs::attr::sys_truncate;
    FTRUNCATE ftruncate(fd:fd, len:off) => fs::attr::sys_ftruncate;
    FALLOCATE fallocate(fd: fd, mode: falloc_flags, offset: off, len: off) => fs::attr::sys_fallocate;
    UTIMENSAT utimensat(dirfd: dirfd, path: path, times: timespecs_in, flags: at_flags) => fs::attr::sys_utimensat;
    UTIMES utimes(path: path, times: timevals_in) => fs::attr::sys_utimes;
    FUTIMESAT futimesat(dirfd: dirfd, path: path, times: timevals_in) => fs::attr::sys_futimesat;
    UTIME utime(path: path, times: ptr) => fs::attr::sys_utime;
    GETXATTR getxattr(path: path, name: str, value: outbuf, size: size) => fs::xattr::sys_getxattr;
    LGETXATTR lgetxattr(path: path, name: str, value: outbuf, size: size) => fs::xattr::sys_lgetxattr;
    FGETXATTR fgetxattr(fd: fd, name: str, value: outbuf, size: size) => fs::xattr::sys_fgetxattr;
    LISTXATTR listxattr(path: path, list: outbuf, size: size) => fs::xattr::sys_listxattr;
    LLISTXATTR llistxattr(path: path, list: outbuf, size: size) => fs::xattr::sys_llistxattr;
    FLISTXATTR flistxattr(fd: fd, list: outbuf, size: size) => fs::xattr::sys_flistxattr;
    SETXATTR setxattr(path: path, name: str, value: inbuf, size: size, flags: flags) => fs::xattr::sys_setxattr;
    LSETXATTR lsetxattr(path: path, name: str, value: inbuf, size: size, flags: flags) => fs::xattr::sys_lsetxattr;
    FSETXATTR fsetxattr(fd: fd, name: str, value: inbuf, size: size, flags: flags) => fs::xattr::sys_fsetxattr;
    REMOVEXATTR removexattr(path: path, name: str) => fs::xattr::sys_removexattr;
    LREMOVEXATTR lremovexattr(path: path, name: str) => fs::xattr::sys_lremovexattr;
    FREMOVEXATTR fremovexattr(fd:fd, name:str) => fs::xattr::sys_fremovexattr;
    DUP dup(fd:fd) => fs::fd::sys_dup;
    DUP2 dup2(old:fd, new:fd) => fs::fd::sys_dup2;
    DUP3 dup3(old: fd, new: fd, flags: fd_flags) => fs::fd::sys_dup3;
    CLOSE_RANGE close_range(first:uint, last:uint, flags:flags) => fs::fd::sys_close_range;
    FCNTL fcntl(fd: fd, cmd: fcntl_cmd, arg: flock) => fs::fd::sys_fcntl;
    FLOCK flock(fd: fd, operation: flock_op) => fs::fd::sys_flock;
    IOCTL ioctl(fd: fd, request: ioctl_request, arg: ioctl_arg) => fs::fd::sys_ioctl;
    PIPE pipe(fds: fds_out) => fs::fd::sys_pipe;
    PIPE2 pipe2(fds: fds_out, flags: fd_flags) => fs::fd::sys_pipe2;
    FSYNC fsync(fd:fd) => fs::misc::sys_fsync;
    FDATASYNC fdatasync(fd:fd) => fs::misc::sys_fsync;
    SYNC sync() => fs::misc::sys_sync;
    SYNCFS syncfs(fd:fd) => fs::misc::sys_syncfs;
    SYNC_FILE_RANGE sync_file_range(fd:fd, offset:off, len:off, flags:flags) => fs::misc::sys_sync_file_range;
    FADVISE64 fadvise64(fd: fd, offset: off, len: size, advice: int) => fs::misc::sys_fadvise64;
    READAHEAD readahead(fd:fd, offset:off, len:size) => fs::misc::sys_readahead;
    CACHESTAT cachestat(fd: fd, range: ptr, stat: ptr, flags: flags) => fs::misc::sys_cachestat;
    MOUNT mount(source: str, target: path, fstype: str, flags: flags, data: ptr) => fs::misc::sys_mount;
    UMOUNT2 umount2(target: path, flags: flags) => fs::misc::sys_umount2;
    PIVOT_ROOT pivot_root(new_root: path, put_old: path) => fs::misc::sys_not_permitted;
    SWAPON swapon(path: path, flags: flags) => fs::misc::sys_not_permitted;
    SWAPOFF swapoff(path: path) => fs::misc::sys_not_permitted;
    ACCT acct(path: path) => fs::misc::sys_not_permitted;
    SETTIMEOFDAY settimeofday(tv: timeval_in, tz: ptr) => fs::misc::sys_not_permitted;
    VHANGUP vhangup() => fs::misc::sys_not_permitted;
    REBOOT reboot(magic: int, magic2: int, cmd: int, arg: ptr) => fs::misc::sys_not_permitted;
    QUOTACTL quotactl(cmd: int, special: path, id: int, addr: ptr) => fs::misc::sys_not_permitted;
    NAME_TO_HANDLE_AT name_to_handle_at(dirfd: dirfd, path: path, handle: ptr, mount_id: ptr, flags: at_flags) => fs::misc::sys_name_to_handle_at;
    OPEN_BY_HANDLE_AT open_by_handle_at(mount_fd:fd, handle:ptr, flags:flags) => fs::misc::sys_not_permitted;
    MEMFD_CREATE memfd_create(name: str, flags: memfd_flags) => fs::misc::sys_memfd_create;
    EVENTFD eventfd(count:uint) => fs::event::sys_eventfd;
    EVENTFD2 eventfd2(count: uint, flags: fd_flags) => fs::event::sys_eventfd2;
    TIMERFD_CREATE timerfd_create(clock: clock, flags: fd_flags) => fs::event::sys_timerfd_create;
    TIMERFD_SETTIME timerfd_settime(fd: fd, flags: timer_flags, new: itimerspec_in, old: itimerspec_out) => fs::event::sys_timerfd_settime;
    TIMERFD_GETTIME timerfd_gettime(fd: fd, cur: itimerspec_out) => fs::event::sys_timerfd_gettime;
    SIGNALFD signalfd(fd: fd, mask: sigset_in, size: size) => fs::event::sys_signalfd;
    SIGNALFD4 signalfd4(fd: fd, mask: sigset_in, size: size, flags: fd_flags) => fs::event::sys_signalfd4;
    INOTIFY_INIT inotify_init() => fs::event::sys_inotify_init;
    INOTIFY_INIT1 inotify_init1(flags: fd_flags) => fs::event::sys_inotify_init1;
    INOTIFY_ADD_WATCH inotify_add_watch(fd: fd, path: path, mask: inotify_mask) => fs::event::sys_inotify_add_watch;
    INOTIFY_RM_WATCH inotify_rm_watch(fd:fd, wd:int) => fs::event::sys_inotify_rm_watch;
    POLL poll(fds: pollfds, n: size, timeout: int) => fs::wait::sys_poll;
    PPOLL ppoll(fds: pollfds, n: size, timeout: timespec_in, mask: sigset_in, size: size) => fs::wait::sys_ppoll;
    SELECT select(n: int, readfds: fd_set, writefds: fd_set, exceptfds: fd_set, timeout: timeval_in) => fs::wait::sys_select;
    PSELECT6 pselect6(n: int, readfds: fd_set, writefds: fd_set, exceptfds: fd_set, timeout: timespec_in, mask: sigmask_arg) => fs::wait::sys_pselect6;
    EPOLL_CREATE epoll_create(size:int) => fs::wait::sys_epoll_create;
    EPOLL_CREATE1 epoll_create1(flags: fd_flags) => fs::wait::sys_epoll_create1;
    EPOLL_CTL epoll_ctl(epfd: fd, op: epoll_op, fd: fd, event: epoll_event) => fs::wait::sys_epoll_ctl;
    EPOLL_WAIT epoll_wait(epfd: fd, events: epoll_events, max: int, timeout: int) => fs::wait::sys_epoll_wait;
    EPOLL_PWAIT epoll_pwait(epfd: fd, events: epoll_events, max: int, timeout: int, mask: sigset_in, size: size) => fs::wait::sys_epoll_pwait;
    EPOLL_PWAIT2 epoll_pwait2(epfd: fd, events: epoll_events, max: int, timeout: timespec_in, mask: sigset_in, size: size) => fs::wait::sys_epoll_pwait2;
    SOCKET socket(family: family, kind: sock_kind, protocol: int) => net::sys_socket;
    SOCKETPAIR socketpair(family: family, kind: sock_kind, protocol: int, fds: fds_out) => net::sys_socketpair;
    BIND bind(fd: fd, addr: sockaddr_in, len: size) => net::sys_bind;
    LISTEN listen(fd: fd, backlog: int) => net::sys_listen;
    ACCEPT accept(fd: fd, addr: sockaddr_out, len: int_inout) => net::sys_accept;
    ACCEPT4 accept4(fd: fd, addr: sockaddr_out, len: int_inout, flags: fd_flags) => net::sys_accept4;
    CONNECT connect(fd: fd, addr: sockaddr_in, len: size) => net::sys_connect;
    GETSOCKNAME getsockname(fd: fd, addr: sockaddr_out, len: int_inout) => net::sys_getsockname;
    GETPEERNAME getpeername(fd: fd, addr: sockaddr_out, len: int_inout) => net::sys_getpeername;
    SENDTO sendto(fd: fd, buf: inbuf, len: size, flags: msg_flags, addr: sockaddr_in, addrlen: size) => net::sys_sendto;
    RECVFROM recvfrom(fd: fd, buf: outbuf, len: size, flags: msg_flags, addr: sockaddr_out, addrlen: int_inout) => net::sys_recvfrom;
    SENDMSG sendmsg(fd: fd, msg: msghdr_in, flags: msg_flags) => net::sys_sendmsg;
    RECVMSG recvmsg(fd: fd, msg: msghdr_out, flags: msg_flags) => net::sys_recvmsg;
    SENDMMSG sendmmsg(fd: fd, msgs: ptr, n: uint, flags: msg_flags) => net::sys_sendmmsg;
    RECVMMSG recvmmsg(fd: fd, msgs: ptr, n: uint, flags: msg_flags, timeout: timespec_in) => net::sys_recvmmsg;
    SHUTDOWN shutdown(fd: fd, how: shutdown_how) => net::sys_shutdown;
    SETSOCKOPT setsockopt(fd: fd, level: sock_level, name: int, value: optval_in, len: size) => net::sys_setsockopt;
    GETSOCKOPT getsockopt(fd: fd, level: sock_level, name: int, value: optval_out, len: int_inout) => net::sys_getsockopt;
}
