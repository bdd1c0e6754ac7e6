/* Looking for what others left and for addresses of the enclave: in fresh memory, in vector registers, in registers and
 * structures after system calls, below the stack pointer, in signal frames, in /proc.
 */
#include "attack.h"
#include <dirent.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>

#define NEIGHBOUR 0x10a00000000ull

/* Text that looks like an address: digits of the C library's own. */
static int is_text(uint64_t v) {
    for (; v; v >>= 8)
        if ((v & 0xff) != '\n' && ((v & 0xff) < ' ' || (v & 0xff) > '~'))
            return 0;
    return 1;
}

/* At any byte: the secret, or a word that is an address of the slots' range or above it. */
static void scan(const char *what, const void *p, size_t n) {
    check_memory(what, p, n);
    for (size_t i = 0; i + 8 <= n; i += 4) {
        uint64_t v;
        memcpy(&v, (const char *)p + i, 8);
        int is_magic = (uint32_t)v == 0x46505853; /* FP_XSTATE_MAGIC1, then the frame's size */
        if (v >= (1ull << 40) && v < (1ull << 46) && i % 8 == 0 && !is_magic && !is_text(v))
            escaped(what, v);
    }
}

static void must_be_zero(const char *what, const void *p, size_t n) {
    tried();
    for (size_t i = 0; i < n; i++)
        if (((const volatile char *)p)[i])
            escaped(what, i);
}
static char *map(size_t n) {
    char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        _exit(2);
    return p;
}

/* ---- memory ---- */
IN_C("leak", leak_fresh_mapping, "R17") {
    for (int i = 0; i < 16; i++)
        must_be_zero("fresh mapping", map(1 << 20), 1 << 20);
}
IN_C("leak", leak_fresh_heap, "R17") {
    for (int i = 0; i < 16; i++)
        must_be_zero("fresh heap", sbrk(1 << 18), 1 << 18);
}
IN_C("leak", leak_heap_again, "R17") {
    char *p = sbrk(1 << 18);
    memset(p, 0x77, 1 << 18);
    sbrk(-(1 << 18));
    must_be_zero("heap given back", sbrk(1 << 18), 1 << 18);
}
IN_C("leak", leak_hole, "R17") {
    char *p = map(1 << 20);
    memset(p, 0x77, 1 << 20);
    munmap(p + 65536, 65536);
    if (mmap(p + 65536, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        _exit(2);
    must_be_zero("filled hole", p + 65536, 65536);
}
IN_C("leak", leak_dont_need, "R17") {
    char *p = map(1 << 18);
    memset(p, 0x77, 1 << 18);
    madvise(p, 1 << 18, MADV_DONTNEED);
    must_be_zero("dropped pages", p, 1 << 18);
}
IN_C("leak", leak_grown_mapping, "R17") {
    char *p = map(65536);
    memset(p, 0x77, 65536);
    p = mremap(p, 65536, 1 << 20, MREMAP_MAYMOVE);
    if (p == MAP_FAILED)
        _exit(2);
    must_be_zero("grown part", p + 65536, (1 << 20) - 65536);
}
IN_C("leak", leak_child_memory, "R29") {
    for (int i = 0; i < 8; i++)
        if (in_child()) {
            must_be_zero("a child's memory", map(1 << 20), 1 << 20);
            must_be_zero("a child's heap", sbrk(1 << 18), 1 << 18);
            _exit(0);
        }
}
static void *look_at_stack(void *unused) {
    char here;
    char *low = (char *)(((uintptr_t)&here - 65536) & -16ull);
    must_be_zero("thread stack", low, 32768);
    return NULL;
}
IN_C("leak", leak_thread_stack, "R17") {
    for (int i = 0; i < 8; i++) {
        pthread_t t;
        pthread_attr_t a;
        pthread_attr_init(&a);
        pthread_attr_setstack(&a, map(1 << 18), 1 << 18);
        if (pthread_create(&t, &a, look_at_stack, NULL) == 0)
            pthread_join(t, NULL);
    }
}
IN_C("leak", leak_file_tail, "R17") {
    char path[] = "/tmp/attack-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    if (write(fd, "x", 1) != 1 || ftruncate(fd, 100000))
        _exit(2);
    char *p = mmap(NULL, 102400, PROT_READ, MAP_PRIVATE, fd, 0);
    must_be_zero("file tail", p + 1, 102399);
    char buffer[65536];
    memset(buffer, 0x55, sizeof buffer);
    ssize_t n = pread(fd, buffer, sizeof buffer, 1);
    must_be_zero("file hole", buffer, n);
}
IN_C("leak", leak_shared_mapping, "R17") {
    char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must_be_zero("shared mapping", p, 1 << 20);
}
IN_C("leak", leak_memfd, "R17") {
    int fd = syscall(SYS_memfd_create, "x", 0);
    if (fd >= 0 && ftruncate(fd, 1 << 18) == 0) {
        char *p = mmap(NULL, 1 << 18, PROT_READ, MAP_SHARED, fd, 0);
        must_be_zero("memfd", p, 1 << 18);
    }
    tried();
}
IN_C("leak", leak_initial_stack, "R12") {
    extern char **environ;
    tried();
    char *end = (char *)environ;
    for (unsigned i = 0; mine((uintptr_t)end + 4096); i++)
        end += 4096;
    scan("initial stack", (char *)environ - 64, end - (char *)environ);
}
IN_C("leak", leak_below_stack, "R16") {
    char here;
    for (int i = 0; i < 20; i++) {
        tried();
        getppid();
        kill(getpid(), 0);
        sched_yield();
    }
    uintptr_t low = ((uintptr_t)&here - 65536) & -4096ull;
    while (!mine(low))
        low += 4096;
    scan("below the stack", (char *)low, (uintptr_t)&here - low);
}
static void nothing(int sig) {}
IN_C("leak", leak_signal_frame, "R12") {
    struct sigaction act = {.sa_handler = nothing, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &act, NULL);
    for (int i = 0; i < 8; i++) {
        tried();
        raise(SIGUSR1);
        scan("signal frame", altstack, ALTSTACK);
    }
}
SNIPPET(fault_in_pattern, "lea 8(%rsi), %rdi; xor %esi, %esi; mov $5, %ecx; rep movsb")
IN_C("leak", leak_fault_frame, "R22") {
    registers(DATA_AT);
    run(fault_in_pattern);
    check_registers();
    scan("fault frame", altstack, ALTSTACK);
}
SNIPPET(plain_load, "mov (%rdi), %rax")
IN_C("leak", leak_fault_address, "R12") {
    for (unsigned i = 0; i < wild_count(); i++) {
        registers(wild(i));
        if (run(plain_load) && fault_addr >> 32)
            if (fault_addr != before[RDI])
                escaped("address in si_addr", fault_addr);
    }
}

/* ---- registers ---- */
static uint64_t vectors[16][4] __attribute__((aligned(32)));
SNIPPET(clear_yield_store, "vzeroall; mov $24, %eax; syscall; .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu %ymm\\n, vectors+32*\\n(%rip)\n .endr; xor %eax, %eax; xor %ecx, %ecx; xor %r11d, %r11d")
SNIPPET(clear_work_store, "vzeroall; mov $3000000, %ecx; 1: dec %ecx; jnz 1b; .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu %ymm\\n, vectors+32*\\n(%rip)\n .endr")
SNIPPET(x87_after_yield, "fninit; mov $24, %eax; syscall; fxsave64 (%rsi); fnstenv 0x400(%rsi); xor %eax, %eax; xor %ecx, %ecx; xor %r11d, %r11d")
static void vectors_after(void (*code)(void), int times) {
    for (int i = 0; i < times; i++) {
        registers(0);
        run(code);
        check_registers();
        must_be_zero("vector registers", vectors, sizeof vectors);
    }
}
IN_C("leak", leak_vectors_after_switch, "R17") { vectors_after(clear_yield_store, 300); }
IN_C("leak", leak_vectors_after_preemption, "R17") { vectors_after(clear_work_store, 20); }
IN_C("leak", leak_x87_after_switch, "R17") {
    for (int i = 0; i < 100; i++) {
        registers(0);
        run(x87_after_yield);
        check_memory("x87 state", (void *)before[RSI], 2048);
        must_be_zero("x87 registers", (char *)before[RSI] + 32, 128);
    }
}
static void *store_vectors(void *unused) {
    __asm__ volatile(".irp n,8,9,10,11,12,13,14,15\n vmovdqu %%ymm\\n, vectors+32*\\n(%%rip)\n .endr" ::: "memory");
    return NULL;
}
IN_C("leak", leak_vectors_in_thread, "R17") {
    for (int i = 0; i < 20; i++) {
        pthread_t t;
        tried();
        if (pthread_create(&t, NULL, store_vectors, NULL) == 0)
            pthread_join(t, NULL);
        check_memory("a thread's vector registers", vectors, sizeof vectors);
    }
}

/* After each system call: all registers but rax, rcx and r11 are what they were, rcx the next instruction, no address. */
SNIPPET(any_call, "mov %r15, %rax; syscall; 1: sub $1b, %rcx; and $~0xed7, %r11")
static int ends_or_waits(long nr) {
    static const short skipped[] = {SYS_exit, SYS_exit_group, SYS_fork, SYS_vfork, SYS_clone, SYS_clone3, SYS_pause, SYS_rt_sigreturn,
        SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_rt_sigaction, SYS_sigaltstack, SYS_kill, SYS_tkill, SYS_tgkill, SYS_close_range,
        SYS_munmap, SYS_reboot, SYS_brk, SYS_setrlimit, SYS_prlimit64, SYS_arch_prctl, SYS_setuid, SYS_alarm, SYS_sync, SYS_vhangup,
        SYS_select, SYS_pselect6, SYS_poll, SYS_ppoll, SYS_wait4, SYS_waitid, SYS_chroot};
    for (unsigned i = 0; i < sizeof skipped / sizeof *skipped; i++)
        if (skipped[i] == nr)
            return 1;
    return 0;
}
static void all_calls(uint64_t argument) {
    for (long nr = 0; nr < 470; nr++) {
        if (ends_or_waits(nr) || !in_child())
            continue;
        alarm(1);
        registers(0);
        for (int r = RDX; r <= RDI; r++)
            before[r] = argument;
        before[R8] = before[R9] = before[R10] = argument;
        before[R15] = nr;
        if (run(any_call) == 0) {
            for (int r = 0; r < REGS; r++)
                if (r != RAX && r != RCX && r != R11 && after[r] != before[r])
                    escaped("a call changed a register", nr << 8 | r);
            if (after[RCX] != 0)
                escaped("rcx behind a call", after[RCX]);
            if (after[R11] != 0)
                escaped("r11 behind a call", after[R11]);
            if ((int64_t)after[RAX] > 0 && is_address(after[RAX]) && after[RAX] >> 32)
                escaped("address as a result", after[RAX]);
        }
        _exit(0);
    }
}
IN_C("leak", leak_calls_with_minus_one, "R12") { all_calls(-1); }
IN_C("leak", leak_calls_with_neighbour, "R18") { all_calls(NEIGHBOUR + DATA_AT + 0x8000); }
IN_C("leak", leak_calls_with_top, "R18") { all_calls(0xfffffff8); }
IN_C("leak", leak_calls_with_image, "R18") { all_calls(0x20100000); }

/* ---- results of system calls: buffers are full of a pattern before ---- */
#define RESULT(id, ...)                                                                                                    \
    IN_C("leak", id, "R12") {                                                                                              \
        static char b[65536] __attribute__((aligned(64)));                                                                 \
        memset(b, 0x55, sizeof b);                                                                                         \
        tried();                                                                                                           \
        __VA_ARGS__;                                                                                                       \
        scan(#id, b, sizeof b);                                                                                            \
    }
RESULT(leak_stat, stat("/", (void *)b); stat("/proc/self/exe", (void *)(b + 512)); fstat(0, (void *)(b + 1024)); syscall(SYS_statx, AT_FDCWD, "/", 0, 0xfff, b + 2048); memset(b + 2048, 0, 8)) /* mask and block size look like one */
RESULT(leak_statfs, statfs("/", (void *)b); statfs("/proc", (void *)(b + 1024)))
RESULT(leak_getdents, int fd = open("/", O_RDONLY); syscall(SYS_getdents64, fd, b, 30000); fd = open("/proc/self", O_RDONLY); syscall(SYS_getdents64, fd, b + 32768, 30000))
RESULT(leak_uname, uname((void *)b))
RESULT(leak_sysinfo, sysinfo((void *)b); getrusage(0, (void *)(b + 512)); times((void *)(b + 1024)))
RESULT(leak_rlimits, for (int i = 0; i < 16; i++) getrlimit(i, (void *)(b + 16 * i)))
RESULT(leak_times, for (int i = 0; i < 12; i++) clock_getres(i, (void *)(b + 16 * i)); gettimeofday((void *)(b + 512), (void *)(b + 600)); getitimer(0, (void *)(b + 700)))
RESULT(leak_signal_state, for (int i = 1; i < 65; i++) syscall(SYS_rt_sigaction, i, NULL, b + 32 * i, 8); sigaltstack(NULL, (void *)(b + 4096)); syscall(SYS_rt_sigpending, b + 5000, 8))
RESULT(leak_siginfo, pid_t p = fork(); if (p == 0) _exit(3); waitid(P_PID, p, (void *)b, WEXITED))
RESULT(leak_socket_names, int s[2]; socklen_t n = 200; socketpair(AF_UNIX, SOCK_STREAM, 0, s); getsockname(s[0], (void *)b, &n); n = 200; getpeername(s[1], (void *)(b + 256), &n); n = 200; getsockopt(s[0], SOL_SOCKET, 17, b + 512, &n))
RESULT(leak_message, int s[2]; socketpair(AF_UNIX, SOCK_DGRAM, 0, s); struct iovec v = {b, 1000}; struct msghdr m = {.msg_name = b + 2048, .msg_namelen = 128, .msg_iov = &v, .msg_iovlen = 1, .msg_control = b + 4096, .msg_controllen = 1024}; send(s[0], "x", 1, 0); recvmsg(s[1], &m, MSG_DONTWAIT))
RESULT(leak_epoll, int e = epoll_create1(0); int p[2]; struct epoll_event ev = {EPOLLIN}; ev.data.u64 = 1; pipe(p); epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev); write(p[1], "x", 1); epoll_wait(e, (void *)b, 100, 0))
RESULT(leak_links, readlink("/proc/self/exe", b, 4096); readlink("/proc/self/cwd", b + 4096, 4096); getcwd(b + 8192, 4096); readlink("/proc/self/fd/0", b + 16384, 4096))
RESULT(leak_affinity, sched_getaffinity(0, 1024, (void *)b); syscall(SYS_getcpu, b + 1024, b + 1032, NULL); syscall(SYS_get_robust_list, 0, b + 2048, b + 2056))
RESULT(leak_pipe_short, int p[2]; pipe(p); write(p[1], "abc", 3); read(p[0], b, 60000))
RESULT(leak_mincore, char *p = map(1 << 20); mincore(p, 1 << 20, (void *)b))
RESULT(leak_random, syscall(SYS_getrandom, b, 0, 0); read(open("/dev/zero", O_RDONLY), b, 60000))

/* ---- /proc: no number in it, and no bytes, that are an enclave's address or the secret ---- */
static void scan_text(const char *what, char *b, size_t n) {
    check_memory(what, b, n);
    for (size_t i = 0; i < n; i++) {
        char *end;
        if (i && ((b[i - 1] >= '0' && b[i - 1] <= '9') || (b[i - 1] >= 'a' && b[i - 1] <= 'f')))
            continue;
        uint64_t v = strtoull(b + i, &end, 16);
        int digits = end - (b + i);
        if (digits >= 11 && digits <= 12 && v >= (1ull << 40) && v < (1ull << 46) && strspn(b + i, "0123456789abcdef") == digits && strcspn(b + i, "abcdef") < digits)
            escaped(what, v);
    }
}
static void scan_tree(const char *at, int depth) {
    static char b[1 << 20];
    DIR *d = opendir(at);
    struct dirent *e;
    char path[512];
    while (d && (e = readdir(d))) {
        if (e->d_name[0] == '.' || strcmp(e->d_name, "mem") == 0 || strcmp(at, "/proc/sys/kernel/random") == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", at, e->d_name);
        struct stat st;
        if (lstat(path, &st))
            continue;
        if (S_ISDIR(st.st_mode) && depth)
            scan_tree(path, depth - 1);
        if (!S_ISREG(st.st_mode))
            continue;
        int fd = open(path, O_RDONLY | O_NONBLOCK);
        size_t n = 0;
        ssize_t k;
        while (fd >= 0 && n < sizeof b - 1 && (k = read(fd, b + n, sizeof b - 1 - n)) > 0)
            n += k;
        close(fd);
        b[n] = 0;
        tried();
        scan_text(path, b, n);
    }
    if (d)
        closedir(d);
}
IN_C("leak", leak_proc_self, "R12") { scan_tree("/proc/self", 2); }
IN_C("leak", leak_proc_parent, "R12") {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d", getppid());
    scan_tree(path, 1);
    scan_tree("/proc/1", 1);
}
IN_C("leak", leak_proc, "R12") { scan_tree("/proc", 0); scan_tree("/proc/sys", 3); }

/* ---- other processes' memory by name ---- */
IN_C("leak", leak_proc_mem, "V4") {
    static char b[4096];
    for (int pid = 1; pid < 40; pid++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/mem", pid);
        int fd = open(path, O_RDWR);
        tried();
        static const uint64_t at[] = {DATA_AT, NEIGHBOUR + DATA_AT, 0x40000000, 0x20000000, (uint64_t)-4096, 0x4000000000};
        for (int i = 0; fd >= 0 && i < 6; i++)
            if (pread(fd, b, sizeof b, at[i]) > 0 && at[i] >> 32)
                escaped("wild address in /proc/mem", at[i]);
        if (fd >= 0)
            close(fd);
    }
}
IN_C("leak", leak_own_proc_mem, "R18") {
    int fd = open("/proc/self/mem", O_RDWR);
    static char b[4096];
    for (unsigned i = 0; i < wild_count(); i++) {
        tried();
        if (pread(fd, b, sizeof b, wild(i)) > 0 && wild(i) >> 32)
            escaped("wild address in /proc/self/mem", wild(i));
        if (pwrite(fd, b, 8, wild(i)) > 0 && wild(i) >> 32)
            escaped("wild write to /proc/self/mem", wild(i));
        check_memory("/proc/self/mem", b, sizeof b);
    }
}
IN_C("leak", leak_process_vm, "R18") {
    static char b[4096];
    for (unsigned i = 0; i < wild_count(); i++) {
        struct iovec own = {b, 4096}, other = {(void *)wild(i), 4096};
        tried();
        if (syscall(SYS_process_vm_readv, getpid(), &own, 1, &other, 1, 0) > 0 && wild(i) >> 32)
            escaped("process_vm_readv", wild(i));
        check_memory("process_vm_readv", b, sizeof b);
    }
}
/* System calls as deputies: what they read for us or write for us at wild addresses. */
#define DEPUTY(id, ...)                                                                                                    \
    IN_C("deputy", id, "R18") {                                                                                            \
        int p[2];                                                                                                          \
        char *b = map(65536);                                                                                              \
        pipe2(p, O_NONBLOCK);                                                                                              \
        for (unsigned i = 0; i < wild_count(); i++) {                                                                      \
            char *w = (char *)wild(i);                                                                                     \
            long n = -1;                                                                                                   \
            tried();                                                                                                       \
            __VA_ARGS__;                                                                                                   \
            if (n > 0 && (uint64_t)w >> 32)                                                                                \
                escaped("a call took a wild address", (uint64_t)w);                                                        \
        }                                                                                                                  \
    }
DEPUTY(deputy_write, n = write(p[1], w, 64); if (read(p[0], b, 4096) > 0) check_memory("write", b, 4096))
DEPUTY(deputy_read, write(p[1], b, 8); n = read(p[0], w, 8); read(p[0], b, 4096))
DEPUTY(deputy_long_write, n = write(p[1], w, 1 << 20); while (read(p[0], b, 65536) > 0) check_memory("write", b, 65536))
DEPUTY(deputy_end_of_buffer, n = write(p[1], b, (size_t)w - (size_t)b); if (n > 65536) escaped("read past the end", n); n = -1; while (read(p[0], b, 65536) > 0) check_memory("write", b, 65536))
DEPUTY(deputy_writev, struct iovec v = {w, 64}; n = writev(p[1], &v, 1); read(p[0], b, 4096))
DEPUTY(deputy_iovec_array, n = writev(p[1], (void *)w, 3) > 0; while (read(p[0], b, 65536) > 0) check_memory("writev", b, 65536))
DEPUTY(deputy_path, n = open(w, O_RDONLY) >= 0; stat(w, (void *)b); stat("/", (void *)w); readlink("/proc/self/exe", w, 64); mkdir(w, 0700))
DEPUTY(deputy_execve, char *v[] = {"x", w, NULL}; pid_t c = fork(); if (c == 0) { execve("/proc/self/exe", v, (char **)w); execve("/proc/self/exe", (char **)w, v); execve(w, v, v); _exit(0); } int st; waitpid(c, &st, 0))
DEPUTY(deputy_mmap_fixed, n = (long)mmap(w, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0); if (n > 0 && (n >> 32 || ((uint64_t)n < 65536))) escaped("mapped outside", n); n = -1)
DEPUTY(deputy_mmap_length, n = (long)mmap(NULL, (size_t)w & -4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); if (n != -1 && (uint64_t)w >> 32) escaped("mapped too much", n); if (n != -1) munmap((void *)n, (size_t)w & -4096); n = -1)
DEPUTY(deputy_mprotect, n = ((uint64_t)w >> 32) && mprotect((char *)((uint64_t)w & -4096), 4096, 7) == 0)
DEPUTY(deputy_munmap, if ((uint64_t)w >> 32) munmap((char *)((uint64_t)w & -4096), 4096))
DEPUTY(deputy_munmap_length, munmap((char *)0xfe000000, (size_t)w | 1ull << 32))
DEPUTY(deputy_mremap, n = (long)mremap(b, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, (char *)((uint64_t)w & -4096)); if (n != -1) b = map(65536); n = n > 0 && n >> 32)
DEPUTY(deputy_futex, syscall(SYS_futex, w, 1, 1, NULL, NULL, 0); n = syscall(SYS_futex, b, 4, 1, 1, w, 0) > 0; syscall(SYS_futex, w, 5, 1, 1, b, 0xa5a5a5))
DEPUTY(deputy_clear_tid, if (fork() == 0) { syscall(SYS_set_tid_address, w); syscall(SYS_set_robust_list, w, 24); _exit(0); } wait(NULL))
DEPUTY(deputy_clone, pid_t c = syscall(SYS_clone, SIGCHLD | 0x01300000, 0, w, w, w); if (c == 0) _exit(0); if (c > 0) waitpid(c, NULL, 0))
DEPUTY(deputy_clone_stack, uint64_t a[11] = {0, 0, (uint64_t)w, (uint64_t)w, SIGCHLD, (uint64_t)w, 4096, 0, 0, 0, 0}; pid_t c = syscall(SYS_clone3, a, 88); if (c == 0) _exit(0); if (c > 0) waitpid(c, NULL, 0))
DEPUTY(deputy_time, n = syscall(SYS_clock_gettime, 1, w) == 0; syscall(SYS_gettimeofday, w, NULL); syscall(SYS_clock_getres, 1, w); syscall(SYS_times, w))
DEPUTY(deputy_random, n = syscall(SYS_getrandom, w, 64, 0))
DEPUTY(deputy_socket, int s[2]; socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, s); n = send(s[0], w, 64, 0); recv(s[1], b, 4096, 0); send(s[0], b, 64, 0); recv(s[1], w, 64, 0); getsockname(s[0], (void *)w, (void *)b); connect(s[0], (void *)w, 110); sendmsg(s[0], (void *)w, 0); recvmsg(s[1], (void *)w, 0); close(s[0]); close(s[1]))
DEPUTY(deputy_signal_mask, n = syscall(SYS_rt_sigprocmask, 0, w, b, 8) == 0; syscall(SYS_rt_sigprocmask, 0, NULL, w, 8); syscall(SYS_rt_sigaction, SIGUSR1, NULL, w, 8))
DEPUTY(deputy_poll, n = syscall(SYS_poll, w, 4, 0) > 0; struct timeval t = {0, 0}; select(64, (void *)w, NULL, NULL, &t))
DEPUTY(deputy_getcwd, n = syscall(SYS_getcwd, w, 4096); uname((void *)w); sysinfo((void *)w); getrusage(0, (void *)w))
DEPUTY(deputy_arch_prctl, syscall(SYS_arch_prctl, 0x1003, w); syscall(SYS_arch_prctl, 0x1004, w))
