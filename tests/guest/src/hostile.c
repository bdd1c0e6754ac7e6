/* Hostile arguments: every system call number with bad pointers, lengths, descriptors and flags. Nothing of it may harm
 * another process. What each call returns is not compared: only that the caller and its neighbour go on.
 */
#include "guest.h"
#include <sys/resource.h>

/* Calls that end, stop or block the caller, or would change the machine when run natively as root. */
static int is_excluded(long nr) {
    static const short excluded[] = {SYS_exit, SYS_exit_group, SYS_fork, SYS_vfork, SYS_clone, SYS_clone3, SYS_pause,
        SYS_rt_sigreturn, SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_rt_sigsuspend,
        SYS_reboot, SYS_kexec_load, SYS_kexec_file_load, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_mount,
        SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_swapon, SYS_swapoff, SYS_sethostname, SYS_setdomainname,
        SYS_settimeofday, SYS_clock_settime, SYS_adjtimex, SYS_clock_adjtime, SYS_acct, SYS_iopl, SYS_ioperm, SYS_vhangup,
        SYS_syslog, SYS_quotactl, SYS_unshare, SYS_setns, SYS_sync, SYS_syncfs, SYS_ptrace, SYS_process_vm_writev,
        SYS_setrlimit, SYS_prlimit64, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_mmap, SYS_brk, SYS_arch_prctl,
        SYS_pkey_mprotect, SYS_remap_file_pages, SYS_madvise, SYS_process_madvise, SYS_shmat, SYS_select, SYS_pselect6,
        SYS_poll, SYS_ppoll, SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_rt_sigtimedwait, SYS_nanosleep,
        SYS_clock_nanosleep, SYS_wait4, SYS_waitid, SYS_futex, SYS_futex_waitv, SYS_alarm, SYS_setitimer, SYS_seccomp,
        SYS_rseq, SYS_set_robust_list, SYS_set_tid_address, SYS_bpf, SYS_move_mount, SYS_open_tree, SYS_fsmount,
        SYS_mount_setattr, SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid,
        SYS_setgroups, SYS_setfsuid, SYS_setfsgid, SYS_capset, SYS_prctl, SYS_personality, SYS_mlockall, SYS_mbind,
        SYS_set_mempolicy, SYS_migrate_pages, SYS_sigaltstack, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_close_range,
        SYS_setpriority, SYS_sched_setaffinity, SYS_sched_setscheduler, SYS_sched_setparam, SYS_sched_setattr,
        SYS_ioprio_set, SYS_setsid, SYS_setpgid, SYS_userfaultfd, SYS_io_uring_enter, SYS_restart_syscall, SYS_modify_ldt,
        SYS_flock, SYS_mq_timedreceive, SYS_mq_timedsend, SYS_msgrcv, SYS_msgsnd, SYS_semop, SYS_semtimedop, SYS_accept,
        SYS_accept4, SYS_landlock_restrict_self, SYS_keyctl, SYS_memfd_secret, SYS_perf_event_open, SYS_timer_settime,
        SYS_fallocate, SYS_ftruncate, SYS_truncate, SYS_io_setup, SYS_get_robust_list,
        SYS_shmget, SYS_msgget, SYS_semget, SYS_mq_open, SYS_add_key, SYS_request_key, SYS_shmctl, SYS_msgctl, SYS_semctl};
    for (unsigned i = 0; i < sizeof excluded / sizeof *excluded; i++)
        if (excluded[i] == nr)
            return 1;
    return 0;
}

static const unsigned long values[] = {0, 1, 2, 7, 8, 4095, 4096, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff,
    0xfffff000, 0x100000000, 0x7fffffffffff, 0x800000000000, 0xffff800000000000, 0x7fffffffffffffff, 0x8000000000000000,
    0xfffffffffffffff8, -4096ul, -1ul, -100ul};
#define VALUES (sizeof values / sizeof *values)

static unsigned long seed = 88172645463325252ul;
static unsigned long rnd(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

/* Runs `attack` in a child of its own without rights, with nothing open but a file that is already deleted (what it does
 * to its descriptors must not hit the machine when run natively); it may end anyhow but must end.
 */
static void contain(void (*attack)(long), long nr) {
    pid_t child = fork();
    if (child == 0) {
        char path[] = "/tmp/guest-victim-XXXXXX";
        int victim = mkstemp(path);
        unlink(path);
        for (int i = 0; i < 3; i++)
            dup2(victim, i);
        close_range(3, ~0u, 0);
        if (setgid(65534) || setuid(65534))
            _exit(1);
        alarm(2);
        attack(nr);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
}

static void all_equal(long nr) {
    for (unsigned i = 0; i < VALUES; i++) {
        if (nr == SYS_close && values[i] < 3)
            continue;
        syscall(nr, values[i], values[i], values[i], values[i], values[i], values[i]);
    }
}
static void mixed(long nr) {
    static char valid[8192];
    for (int i = 0; i < 60; i++) {
        unsigned long a[6];
        for (int j = 0; j < 6; j++)
            a[j] = rnd() % 4 == 0 ? (unsigned long)valid + rnd() % 8192 : rnd() % 16 == 0 ? rnd() : values[rnd() % VALUES];
        syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
}

static void sweep(void (*attack)(long)) {
    const char *given = getenv("GUEST_SEED");
    if (given)
        seed ^= strtoul(given, NULL, 10) * 2654435761u;
    char dir[] = "/tmp/guest-hostile-XXXXXX";
    CHECK(mkdtemp(dir) && chmod(dir, 0755) == 0 && chdir(dir) == 0);
    int gate[2];
    CHECK(pipe(gate) == 0);
    pid_t neighbour = fork_clean();
    if (neighbour == 0) {
        char c;
        close(gate[1]);
        int n = 0;
        while (read(gate[0], &c, 1) == 1)
            n++;
        _exit(n & 127);
    }
    close(gate[0]);
    int swept = 0;
    for (long nr = 0; nr < 463; nr++)
        if (!is_excluded(nr)) {
            contain(attack, nr);
            swept++;
            write(gate[1], "x", 1);
        }
    for (long nr = 463; nr < 2000; nr += 100)
        contain(attack, nr);
    contain(attack, -1);
    contain(attack, 0x40000000);
    close(gate[1]);
    report("neighbour", neighbour);
    printf("%d calls\n", swept);
    if (chdir("/") || rmdir(dir))
        printf("left behind: %s\n", strerrorname_of(errno) );
}
CASE(equal_arguments) { sweep(all_equal); }
CASE(mixed_arguments) { sweep(mixed); }

/* The calls that `sweep` leaves out and that only concern the caller's own memory and signals. */
CASE(own_memory) {
    static const short calls[] = {SYS_munmap, SYS_mremap, SYS_mprotect, SYS_mmap, SYS_brk, SYS_madvise, SYS_arch_prctl,
        SYS_sigaltstack, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_set_robust_list, SYS_set_tid_address,
        SYS_rseq, SYS_clone3, SYS_remap_file_pages, SYS_setitimer, SYS_prctl, SYS_rt_sigsuspend, SYS_rt_sigtimedwait,
        SYS_poll, SYS_ppoll, SYS_select, SYS_pselect6, SYS_futex, SYS_wait4, SYS_waitid, SYS_nanosleep,
        SYS_clock_nanosleep, SYS_epoll_wait, SYS_timer_settime};
    void attack(long nr) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        alarm(1);
        mixed(nr);
    }
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
        contain(attack, calls[i]);
    puts("survived");
}

CASE(exact_errors) {
    int zero = open("/dev/zero", O_RDONLY);
    CHECK_ERRNO(read(zero, (void *)0x7fffff000000, 10), EFAULT);
    CHECK_ERRNO(syscall(SYS_read, zero, -1ul, 10), EFAULT);
    CHECK_ERRNO(syscall(SYS_open, -1ul, 0), EFAULT);
    CHECK_ERRNO(syscall(SYS_stat, "/", 1), EFAULT);
    CHECK_ERRNO(syscall(SYS_pipe, 8), EFAULT);
    CHECK_ERRNO(syscall(SYS_nanosleep, 0x800000000000, 0), EFAULT);
    CHECK_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, 8, 0, 8), EFAULT);
    CHECK_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, 0, 0, 7), EINVAL);
    CHECK_ERRNO(syscall(SYS_uname, 1), EFAULT);
    CHECK_ERRNO(syscall(SYS_getcwd, 8, 100), EFAULT);
    CHECK_ERRNO(syscall(SYS_getrandom, 8, 16, 0), EFAULT);
    CHECK_ERRNO(syscall(SYS_getrandom, 8, 16, 99), EINVAL);
    CHECK_ERRNO(syscall(SYS_clone, 0x10000, 0, 0, 0, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_kill, 0, 99), EINVAL);
    CHECK_ERRNO(syscall(5000), ENOSYS);
    CHECK_ERRNO(syscall(-1), ENOSYS);
    CHECK_ERRNO(syscall(SYS_select, 5, 8, 0, 0, 0), EFAULT);
    CHECK_ERRNO(syscall(SYS_writev, 1, 8, 1), EFAULT);
    CHECK_ERRNO(syscall(SYS_rt_sigprocmask, 0, 8, 0, 8), EFAULT);
    CHECK_ERRNO(syscall(SYS_wait4, -1, 8, 0, 0), ECHILD);
    pid_t child = fork_clean();
    if (child == 0)
        _exit(0);
    CHECK_ERRNO(syscall(SYS_wait4, child, 8, 0, 0), EFAULT);
    /* A buffer whose second page is missing. */
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(p + 4096, 4096);
    CHECK(read(zero, p + 4000, 1000) == 96 || errno == EFAULT);
    memset(p, 'a', 4096);
    CHECK_ERRNO(open(p + 4000, O_RDONLY), EFAULT);
    CHECK_ERRNO(access(p, F_OK), ENAMETOOLONG);
    puts("done");
}

CASE(broken_signal_frames) {
    /* rt_sigreturn on a stack full of rubbish: the process dies or goes on, nothing else. */
    for (int i = 0; i < 20; i++) {
        pid_t child = fork_clean();
        if (child == 0) {
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            alarm(2);
            static unsigned long area[4096];
            for (int j = 0; j < 4096; j++)
                area[j] = (rnd() ^ i * 1234567) % 3 ? values[rnd() % VALUES] : rnd();
            asm volatile("mov %0,%%rsp; mov $15,%%eax; syscall; ud2" ::"r"(area + 2048 - i * 8));
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && !WIFSTOPPED(status));
    }
    puts("survived");
}
