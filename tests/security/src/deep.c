/* Calls that make sense, in any order: deep SEED MILLISECONDS [FOLDER]
 *
 * Objects of all kinds (pipes, sockets, terminals, memfds, epoll sets, queues, mappings) are used by many threads and processes
 * at once while they are closed, sent, sealed, mapped and forked under each other's hands; `syscalls.c` has calls that make no
 * sense. Every 150 ms all are killed and others begin. Nobody may outlive that, and at the end nothing may be left over
 * (/proc/occlum). Started in enclaves only.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define FDS 96
#define MEMORY (64 * PAGE)
/* A busy machine looks like a hang. */
#define PATIENCE_MS 30000
static char *memory;

static uint64_t next(uint64_t *s) {
    uint64_t z = (*s += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static uint64_t below(uint64_t *s, uint64_t n) { return next(s) % n; }
static int fd(uint64_t *s) { return 3 + below(s, FDS); }
static size_t length(uint64_t *s) {
    static const size_t all[] = {0, 1, 2, 7, 8, 100, 4095, 4096, 4097, 8192, 16384, 65535, 65536, 65537, 100000, 200000};
    return below(s, 4) ? all[below(s, 16)] : below(s, 3 * PAGE);
}
/* Memory of all kinds: near the ends of pages and of the whole, and what is not there. */
static char *place(uint64_t *s) {
    if (below(s, 40) == 0)
        return (char *)(uintptr_t)(next(s) >> below(s, 64));
    return memory + below(s, MEMORY / PAGE) * PAGE + (below(s, 2) ? 0 : below(s, 2) ? PAGE - below(s, 16) : below(s, PAGE));
}
static struct iovec *vector(uint64_t *s, int *n) {
    static struct iovec shared[64];
    *n = below(s, 6);
    struct iovec *v = shared + below(s, 58);
    for (int i = 0; i < *n; i++)
        v[i] = (struct iovec){place(s), below(s, 8) ? below(s, 6000) : next(s) >> below(s, 64)};
    return v;
}
static void keep(uint64_t *s, int f) {
    if (f < 0)
        return;
    dup2(f, fd(s));
    if (f >= 3 + FDS || below(s, 2))
        close(f);
}
static void keep_two(uint64_t *s, int r, int *f) {
    if (r == 0)
        keep(s, f[0]), keep(s, f[1]);
}
static void name(uint64_t *s, char *text, const char *dir) {
    sprintf(text, "%s%d", dir, (int)below(s, 6));
}

static void make(uint64_t *s) {
    int two[2], flags = below(s, 3) ? O_NONBLOCK : 0;
    char path[64];
    switch (below(s, 16)) {
    case 0: keep_two(s, pipe2(two, flags), two); break;
    case 1: keep_two(s, socketpair(AF_UNIX, SOCK_STREAM | flags, 0, two), two); break;
    case 2: keep_two(s, socketpair(AF_UNIX, SOCK_DGRAM | flags, 0, two), two); break;
    case 3: keep_two(s, socketpair(AF_UNIX, SOCK_SEQPACKET | flags, 0, two), two); break;
    case 4: {
        int m = open("/dev/ptmx", O_RDWR | O_NOCTTY * below(s, 2) | flags), unlock = 0;
        ioctl(m, TIOCSPTLCK, &unlock);
        int t = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY * below(s, 2) | flags);
        keep(s, t), keep(s, m);
        break;
    }
    case 5: case 6: keep(s, memfd_create("x", MFD_ALLOW_SEALING)); break;
    case 7: keep(s, eventfd(below(s, 3), flags | below(s, 2))); break;
    case 8: keep(s, timerfd_create(below(s, 2), flags)); break;
    case 9: case 10: keep(s, epoll_create1(0)); break;
    case 11: {
        sigset_t set;
        sigfillset(&set);
        keep(s, signalfd(-1, &set, flags));
        break;
    }
    case 12: keep(s, inotify_init1(flags)); break;
    case 13: name(s, path, "fifo"), mkfifo(path, 0666), keep(s, open(path, below(s, 3) | O_NONBLOCK)); break;
    case 14: name(s, path, "file"), keep(s, open(path, O_RDWR | O_CREAT | (below(s, 4) ? 0 : O_APPEND), 0666)); break;
    case 15: keep(s, syscall(SYS_pidfd_open, getpid(), 0)); break;
    }
}

static void move(uint64_t *s) {
    int n, f = fd(s), g = fd(s);
    struct iovec *v;
    off64_t at[2] = {below(s, 3) ? below(s, 10000) : next(s) >> below(s, 64), below(s, 10000)};
    off64_t *p = below(s, 3) ? NULL : at, *q = below(s, 3) ? NULL : at + below(s, 2);
    switch (below(s, 14)) {
    case 0: read(f, place(s), length(s)); break;
    case 1: write(f, place(s), length(s)); break;
    case 2: v = vector(s, &n), readv(f, v, n); break;
    case 3: v = vector(s, &n), writev(f, v, n); break;
    case 4: case 5: splice(f, p, g, q, length(s), below(s, 16)); break;
    case 6: tee(f, g, length(s), below(s, 4)); break;
    case 7: v = vector(s, &n), vmsplice(f, v, n, below(s, 16)); break;
    case 8: sendfile(f, g, p, length(s)); break;
    case 9: copy_file_range(f, p, g, q, length(s), 0); break;
    case 10: pread(f, place(s), length(s), at[0]); break;
    case 11: pwrite(f, place(s), length(s), at[1]); break;
    case 12: v = vector(s, &n), syscall(SYS_preadv2, f, v, n, at[0], at[0] >> 32, below(s, 32)); break;
    case 13: v = vector(s, &n), syscall(SYS_pwritev2, f, v, n, at[1], 0, below(s, 64)); break;
    }
}

static void messages(uint64_t *s) {
    static char control[4096];
    static struct msghdr m;
    static struct mmsghdr many[8];
    int n, f = fd(s);
    struct sockaddr_un a = {AF_UNIX, ""};
    name(s, a.sun_path + 1, "abstract");
    socklen_t len = 2 + 1 + strlen(a.sun_path + 1);
    m.msg_iov = vector(s, &n), m.msg_iovlen = n;
    m.msg_name = below(s, 3) ? NULL : &a, m.msg_namelen = len;
    switch (below(s, 12)) {
    case 0: case 1: case 2: {
        int count = below(s, 8);
        struct cmsghdr *c = (struct cmsghdr *)control;
        c->cmsg_level = SOL_SOCKET, c->cmsg_type = below(s, 10) ? SCM_RIGHTS : below(s, 4);
        c->cmsg_len = CMSG_LEN(count * 4);
        for (int i = 0; i < count; i++)
            ((int *)CMSG_DATA(c))[i] = below(s, 3) ? f : fd(s);
        m.msg_control = control, m.msg_controllen = CMSG_SPACE(count * 4);
        sendmsg(f, &m, below(s, 2) * MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    }
    case 3: case 4: {
        char room[512];
        m.msg_control = room, m.msg_controllen = below(s, 2) ? below(s, 100) : sizeof room;
        if (recvmsg(f, &m, (below(s, 2) ? MSG_DONTWAIT : 0) | (below(s, 3) ? 0 : MSG_PEEK) | (below(s, 4) ? 0 : MSG_WAITALL)) >= 0 && m.msg_control == room)
            for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
                if (c->cmsg_type == SCM_RIGHTS)
                    for (unsigned i = 0; i + 4 <= c->cmsg_len - CMSG_LEN(0); i += 4)
                        keep(s, *(int *)(CMSG_DATA(c) + i));
        break;
    }
    case 5: shutdown(f, below(s, 3)); break;
    case 6: {
        int on = below(s, 3);
        setsockopt(f, SOL_SOCKET, below(s, 2) ? SO_PASSCRED : below(s, 60), &on, sizeof on);
        break;
    }
    case 7: keep(s, socket(AF_UNIX, (int[]){SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}[below(s, 3)] | SOCK_NONBLOCK, 0)); break;
    case 8: bind(f, (void *)&a, len), listen(f, below(s, 5)); break;
    case 9: connect(f, (void *)&a, len); break;
    case 10: keep(s, accept4(f, NULL, NULL, below(s, 2) * SOCK_NONBLOCK)); break;
    case 11:
        for (int i = 0; i < 8; i++)
            many[i].msg_hdr = m;
        below(s, 2) ? sendmmsg(f, many, 8, MSG_DONTWAIT | MSG_NOSIGNAL) : recvmmsg(f, many, 8, MSG_DONTWAIT, NULL);
        break;
    }
}

static void watch(uint64_t *s) {
    static struct epoll_event events[32];
    static struct pollfd polls[32];
    int f = fd(s), g = fd(s);
    switch (below(s, 8)) {
    case 0: case 1: case 2: {
        struct epoll_event e = {next(s) & (below(s, 2) ? ~0u : 0xe000201f), {.u64 = next(s)}};
        epoll_ctl(f, 1 + below(s, 3), g, below(s, 30) ? &e : (void *)place(s));
        break;
    }
    case 3: case 4: epoll_wait(f, below(s, 20) ? events : (void *)place(s), below(s, 33), below(s, 3)); break;
    case 5:
        for (int i = 0; i < 32; i++)
            polls[i] = (struct pollfd){fd(s), next(s), 0};
        poll(polls, below(s, 33), below(s, 3));
        break;
    case 6: {
        fd_set sets[3];
        for (unsigned i = 0; i < sizeof sets; i++)
            ((char *)sets)[i] = next(s) & next(s);
        select(3 + FDS, sets, sets + 1, sets + 2, &(struct timeval){0, below(s, 1000)});
        break;
    }
    case 7: {
        char path[64];
        name(s, path, "file");
        below(s, 3) ? inotify_add_watch(f, below(s, 2) ? path : ".", next(s) & 0xfff) : inotify_rm_watch(f, below(s, 5));
    }
    }
}

static void control(uint64_t *s) {
    int f = fd(s);
    struct flock l = {below(s, 3), SEEK_SET, below(s, 100), below(s, 100), 0};
    struct itimerspec t = {{0, below(s, 3) * 1000}, {0, below(s, 3)}};
    switch (below(s, 16)) {
    case 0: fcntl(f, F_SETPIPE_SZ, length(s)); break;
    case 1: case 2: fcntl(f, F_ADD_SEALS, 1 << below(s, 6)); break;
    case 3: fcntl(f, F_SETFL, next(s) & (O_NONBLOCK | O_APPEND | O_ASYNC)); break;
    case 4: fcntl(f, F_SETOWN, getpid()), fcntl(f, F_SETSIG, below(s, 65)); break;
    case 5: fcntl(f, (int[]){F_SETLK, F_SETLKW, F_OFD_SETLK, F_GETLK}[below(s, 4)], &l); break;
    case 6: flock(f, 1 << below(s, 4)); break;
    case 7: case 8: ftruncate(f, length(s)); break;
    case 9: fallocate(f, below(s, 4), length(s), length(s)); break;
    case 10: lseek(f, length(s), below(s, 5)); break;
    case 11: timerfd_settime(f, below(s, 4), &t, NULL); break;
    case 12: fcntl(f, F_DUPFD, fd(s)); break;
    case 13: fchmod(f, next(s) & 07777); break;
    case 14: fsync(f); break;
    case 15: ioctl(f, FIONREAD, place(s)); break;
    }
}

static void terminal(uint64_t *s) {
    struct termios t;
    int f = fd(s), id = getpid();
    if (below(s, 2)) {
        for (unsigned i = 0; i < sizeof t; i++)
            ((char *)&t)[i] = below(s, 2) ? next(s) : 0;
        if (below(s, 2))
            t.c_lflag |= ECHO | ECHOE | ECHOK | ICANON, t.c_oflag |= OPOST | ONLCR | XTABS;
        ioctl(f, (int[]){TCSETS, TCSETSW, TCSETSF}[below(s, 3)], &t);
        char text[64];
        for (unsigned i = 0; i < sizeof text; i++)
            text[i] = below(s, 2) ? next(s) : "\b\t\n\r\3\4\21\23\25\27\22\26\177a"[below(s, 14)];
        write(f, text, below(s, 65));
        return;
    }
    static const int requests[] = {TCGETS, TCSBRK, TCXONC, TCFLSH, TIOCEXCL, TIOCNXCL, TIOCSCTTY, TIOCNOTTY, TIOCGPGRP, TIOCSPGRP,
        TIOCOUTQ, TIOCSTI, TIOCGWINSZ, TIOCSWINSZ, TIOCPKT, TIOCSETD, TIOCGSID, TIOCGPTN, TIOCSPTLCK, TIOCVHANGUP, TIOCSIG, FIONREAD};
    int r = requests[below(s, sizeof requests / sizeof *requests)];
    if (r == TIOCSPGRP)
        ioctl(f, r, &id);
    else if (r == TCXONC || r == TCFLSH || r == TIOCSIG)
        ioctl(f, r, below(s, 5));
    else
        ioctl(f, r, place(s));
    if (below(s, 50) == 0)
        setsid();
}

static void map(uint64_t *s) {
    char *at = memory + below(s, MEMORY / PAGE) * PAGE;
    size_t len = (1 + below(s, 4)) * PAGE;
    if (at + len > memory + MEMORY)
        len = memory + MEMORY - at;
    switch (below(s, 12)) {
    case 0: case 1: mmap(at, len, below(s, 8), MAP_SHARED | MAP_FIXED, fd(s), below(s, 3) * PAGE); break;
    case 2: mmap(at, len, below(s, 8), MAP_PRIVATE | MAP_FIXED, fd(s), below(s, 3) * PAGE); break;
    case 3: case 4: case 5: mmap(at, len, PROT_READ | PROT_WRITE, (below(s, 2) ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED | MAP_ANONYMOUS, -1, 0); break;
    case 6: mprotect(at, len, below(s, 8)); break;
    case 7: madvise(at, len, below(s, 26)); break;
    case 8: msync(at, len, 1 << below(s, 3)); break;
    case 9: mremap(at, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, memory + below(s, MEMORY / PAGE - 4) * PAGE); break;
    case 10: below(s, 2) ? mlock(at, len) : munlock(at, len); break;
    case 11: {
        struct iovec a = {at, len}, b = {memory, len};
        below(s, 2) ? process_vm_readv(getpid(), &a, 1, &b, 1, 0) : process_vm_writev(getpid(), &a, 1, &b, 1, 0);
    }
    }
}
static __thread int deep;
static void others(uint64_t *s) {
    union { int val; void *buf; } arg = {below(s, 3)};
    switch (below(s, 14)) {
    case 0: {
        int id = semget(1000 + below(s, 3), 3, IPC_CREAT | 0666);
        struct sembuf b[2] = {{below(s, 4), below(s, 5) - 2, below(s, 2) * IPC_NOWAIT | below(s, 2) * SEM_UNDO}, {below(s, 4), below(s, 3) - 1, IPC_NOWAIT}};
        semtimedop(id, b, 1 + below(s, 2), &(struct timespec){0, 1000000});
        if (below(s, 10) == 0) semctl(id, 0, below(s, 2) ? IPC_RMID : SETVAL, arg);
        break;
    }
    case 1: {
        int id = msgget(1000 + below(s, 3), IPC_CREAT | 0666);
        struct { long type; char text[200]; } m = {1 + below(s, 3), ""};
        below(s, 2) ? msgsnd(id, &m, below(s, 200), IPC_NOWAIT) : msgrcv(id, &m, below(s, 200), below(s, 5) - 2, IPC_NOWAIT | (next(s) & (MSG_NOERROR | MSG_EXCEPT)));
        if (below(s, 10) == 0) msgctl(id, IPC_RMID, NULL);
        break;
    }
    case 2: {
        int id = shmget(1000 + below(s, 3), 2 * PAGE, IPC_CREAT | 0666);
        char *p = shmat(id, memory + below(s, MEMORY / PAGE - 2) * PAGE, SHM_REMAP);
        if (below(s, 3) == 0) shmdt(p);
        if (below(s, 5) == 0) shmctl(id, IPC_RMID, NULL);
        break;
    }
    case 3: {
        char path[64];
        name(s, path, "/queue");
        struct mq_attr a = {0, 4, 64, 0};
        mqd_t q = mq_open(path, O_RDWR | O_CREAT | O_NONBLOCK, 0666, &a);
        unsigned priority = 0;
        below(s, 2) ? mq_send(q, memory, below(s, 65), below(s, 5)) : mq_receive(q, memory, 64, &priority);
        struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
        if (below(s, 5) == 0) mq_notify(q, below(s, 3) ? &e : NULL);
        if (below(s, 10) == 0) mq_unlink(path);
        keep(s, q);
        break;
    }
    case 4: {
        struct itimerspec t = {{0, below(s, 2) * 100000}, {0, 1 + below(s, 1000)}};
        struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 32 + below(s, 33)};
        timer_t id;
        if (timer_create(below(s, 4), &e, &id) == 0) timer_settime(id, below(s, 2), &t, NULL);
        if (below(s, 2)) timer_delete((timer_t)below(s, 10));
        break;
    }
    case 5: case 6: {
        int *word = (int *)(memory + 8 * below(s, 4));
        struct timespec t = {0, 100000};
        syscall(SYS_futex, word, below(s, 14) | (below(s, 2) * 128), below(s, 3), &t, word + 2 * below(s, 4), below(s, 2) ? 0 : next(s));
        break;
    }
    case 7: {
        if (deep > 1) break;
        pid_t pid = below(s, 3) ? fork() : vfork();
        if (pid == 0) {
            if (below(s, 3) == 0) execl("/proc/self/exe", "deep", "child", NULL);
            if (below(s, 2) || deep > 1) _exit(below(s, 3));
            deep++;
            return;
        }
        break;
    }
    case 8: waitpid(-1, NULL, WNOHANG | (next(s) & (WUNTRACED | WCONTINUED))); break;
    case 9: syscall(SYS_tgkill, getpid(), below(s, 2) ? getpid() : (int)syscall(SYS_gettid) - (int)below(s, 8), 34 + below(s, 30)); break;
    case 10: {
        static char stacks[8][16384];
        stack_t a = {stacks[below(s, 8)], below(s, 6) ? 0 : SS_DISABLE, below(s, 2) ? 16384 : below(s, 5000)};
        sigaltstack(&a, NULL);
        break;
    }
    case 11: {
        cpu_set_t set = {{1 + below(s, 3)}};
        sched_setaffinity(0, sizeof set, &set);
        struct sched_param p = {below(s, 3)};
        sched_setscheduler(0, below(s, 6), &p);
        nice(below(s, 3));
        break;
    }
    case 12: {
        char a[64], b[64];
        name(s, a, "file"), name(s, b, below(s, 2) ? "file" : "dir");
        switch (below(s, 7)) {
        case 0: rename(a, b); break;
        case 1: link(a, b); break;
        case 2: unlink(a); break;
        case 3: mkdir(b, 0777); break;
        case 4: rmdir(b); break;
        case 5: syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, below(s, 4)); break;
        case 6: symlink(a, b); break;
        }
        break;
    }
    case 13: {
        char path[64];
        sprintf(path, "/proc/%s/%s", below(s, 2) ? "self" : "1", (char *[]){"maps", "smaps", "fd", "fdinfo/5", "status", "stat", "mem", "task", "limits", "mounts", "environ", "cmdline"}[below(s, 12)]);
        keep(s, open(path, O_RDONLY));
        break;
    }
    }
}

static void one(uint64_t *s) {
    static void (*const all[])(uint64_t *) = {make, make, move, move, move, messages, messages, messages, watch, watch, control, terminal, map, others};
    all[below(s, sizeof all / sizeof *all)](s);
    if (below(s, 12) == 0) close(fd(s));
    if (below(s, 30) == 0) dup2(fd(s), fd(s));
}
static volatile uint64_t *counter;
static void *thread(void *arg) {
    uint64_t s = (uint64_t)arg;
    for (;;) {
        one(&s);
        __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
        if (below(&s, 3000) == 0) {
            if (below(&s, 4) == 0) execl("/proc/self/exe", "deep", "child", NULL);
            if (below(&s, 3) == 0) _exit(0);
            pthread_t t;
            pthread_create(&t, NULL, thread, (void *)next(&s));
            return NULL;
        }
    }
}
static void nothing(int sig) { (void)sig; }
static void hurt(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    char *at = (char *)((uint64_t)info->si_addr & ~(PAGE - 1));
    if (at < memory || at >= memory + MEMORY || mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
        _exit(3);
}
static void fuzz(uint64_t seed, const char *where) {
    uint64_t s = seed;
    char dir[64];
    setpgid(0, 0);
    sprintf(dir, "%s/%d", where, (int)below(&s, 2));
    mkdir(where, 0777), chmod(where, 0777), mkdir(dir, 0777), chmod(dir, 0777), chdir(dir);
    int null = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++) dup2(null, i);
    struct rlimit r = {128, 128}, a = {1ul << 30, 1ul << 30}, f = {4 << 20, 4 << 20}, p = {200, 200};
    setrlimit(RLIMIT_NOFILE, &r), setrlimit(RLIMIT_AS, &a), setrlimit(RLIMIT_FSIZE, &f), setrlimit(RLIMIT_NPROC, &p);
    if (below(&s, 2) && getuid() == 0 && (setgid(65534) || setuid(65534))) _exit(9);
    struct sigaction act = {.sa_handler = nothing}, fault = {.sa_sigaction = hurt, .sa_flags = SA_SIGINFO | SA_NODEFER};
    for (int i = 1; i < 65; i++)
        if (i != SIGKILL && i != SIGSTOP && i != SIGTSTP) sigaction(i, i == SIGSEGV || i == SIGBUS ? &fault : &act, NULL);
    struct itimerval tick = {{0, 5000}, {0, 5000}};
    setitimer(ITIMER_REAL, &tick, NULL);
    memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 5; i++) {
        pthread_t t;
        pthread_create(&t, NULL, thread, (void *)next(&s));
    }
    thread((void *)next(&s));
}
static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
/* What is in use, by /proc/occlum. */
struct level {
    long slots, pages, processes, tasks, files;
};
static struct level level(void) {
    char text[4000] = "";
    struct level l = {0};
    int f = open("/proc/occlum", O_RDONLY);
    ssize_t n = read(f, text, sizeof text - 1);
    close(f);
    char *at = n > 0 ? strstr(text, "slots") : NULL;
    if (!at || sscanf(at, "slots %ld shared_pages %ld processes %ld tasks %ld open_files %ld", &l.slots, &l.pages, &l.processes, &l.tasks, &l.files) != 5)
        exit(4);
    return l;
}
/* Kills everybody else; false if somebody stays. */
static int end_all(void) {
    kill(-1, SIGKILL);
    for (uint64_t since = now_ms(); now_ms() - since < PATIENCE_MS;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0 && errno == ECHILD)
            return 1;
        if (pid == 0)
            usleep(1000);
    }
    return 0;
}
static void remove_all(const char *where) {
    char text[100];
    for (int i = 0; i < 6; i++)
        sprintf(text, "/queue%d", i), mq_unlink(text);
    for (int key = 1000; key < 1003; key++) {
        msgctl(msgget(key, 0), IPC_RMID, NULL);
        semctl(semget(key, 0, 0), 0, IPC_RMID);
        shmctl(shmget(key, 0, 0), IPC_RMID, NULL);
    }
    pid_t pid = fork();
    if (pid == 0)
        execlp("rm", "rm", "-rf", where, NULL), _exit(9);
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv) {
    if (argc == 2) { /* a child of exec */
        uint64_t s = getpid();
        for (int i = 0; i < 100; i++)
            read(fd(&s), (char[10]){0}, 10);
        return 0;
    }
    uint64_t seed = strtoull(argv[1], NULL, 10), end = now_ms() + strtoull(argv[2], NULL, 10);
    char where[100];
    snprintf(where, sizeof where, "%s/deep", argc > 3 ? argv[3] : "/tmp");
    counter = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *counter = 0;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    struct level before = level(), after;
    for (unsigned round = 0; now_ms() < end; round++) {
        for (int i = 0; i < 3; i++)
            if (fork() == 0)
                fuzz(next(&seed) + i, where), _exit(0);
        usleep(150000);
        if (!end_all())
            return printf("somebody outlived round %u\n", round), 1;
    }
    remove_all(where);
    for (int i = 0; i < 100; i++, usleep(20000)) {
        after = level();
        if (!memcmp(&before, &after, sizeof after))
            break;
    }
    printf("slots %+ld pages %+ld processes %+ld tasks %+ld files %+ld\n", after.slots - before.slots, after.pages - before.pages,
           after.processes - before.processes, after.tasks - before.tasks, after.files - before.files);
    fprintf(stderr, "%llu operations\n", (unsigned long long)*counter);
    return 0;
}
