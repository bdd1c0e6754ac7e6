/* Calls that take as long as calls can, beside a process that only wants to get on: stalls
 *
 * The neighbour makes small system calls all the time and counts them. For each long call (or row of short ones) a line says
 * how many milliseconds it took, and how many calls the neighbour made meanwhile; of what makes others' calls longer, how much.
 */
#define _GNU_SOURCE
#include "waiters.h"
#include <fcntl.h>
#include <grp.h>
#include <linux/futex.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1l << 20)
#define MEMORY (256 * MIB)

static volatile uint64_t *count;
static int ends_of_pipe[2];

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000ull + t.tv_nsec / 1000000;
}
static uint64_t begun, before;
static void begin(void) { before = *count, begun = now_ms(); }
static void end(const char *name) {
    printf("%s: %llu ms, %llu calls\n", name, (unsigned long long)(now_ms() - begun), (unsigned long long)(*count - before));
    fflush(stdout);
}
#define TIMED(name, call) (begin(), call, end(name))

static char *take(long size) {
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void content(void) {
    /* The same memory again and again. */
    static struct iovec v[1024];
    char *p = take(2 * MIB);
    for (int i = 0; i < 1024; i++)
        v[i] = (struct iovec){p, 2 * MIB - 4};
    int zero = open("/dev/zero", O_RDWR), null = open("/dev/null", O_WRONLY), file = memfd_create("x", 0);
    TIMED("zeros", readv(zero, v, 1024));
    TIMED("random bytes", readv(open("/dev/urandom", O_RDONLY), v, 32));
    TIMED("writes to /dev/zero", writev(zero, v, 1024));
    TIMED("sendfile", sendfile(null, zero, NULL, 2048 * MIB));
    TIMED("process_vm_readv", syscall(SYS_process_vm_readv, getpid(), v, 1024, v, 1024, 0));
    TIMED("a large write", pwritev(file, v, 64, 0));
    ftruncate(file, 2048 * MIB);
    TIMED("a large read", preadv(file, v, 1024, 0));
    close(file);
}

static void memory(void) {
    char *p = take(MEMORY);
    TIMED("populate", madvise(p, MEMORY, MADV_POPULATE_WRITE));
    TIMED("getrandom", getrandom(p, MEMORY, 0));
    int ends[2];
    char c;
    pipe(ends);
    begin();
    pid_t child = fork();
    if (child == 0) {
        close(ends[1]);
        read(ends[0], &c, 1);
        _exit(0);
    }
    end("fork");
    begin();
    close(ends[1]), waitpid(child, NULL, 0);
    end("an end");
    munmap(p, MEMORY);
}

/* A list of very many mappings. */
static void mappings(void) {
    char *p = take(MEMORY), text[1 << 12];
    for (int i = 0; i < 20000; i++)
        mprotect(p + 8192l * i, 4096, PROT_READ);
    int fd = open("/proc/self/smaps", O_RDONLY);
    TIMED("smaps", read(fd, text, sizeof text));
    close(fd);
    /* Every second page: each stays a mapping of its own. */
    for (int i = 0; i < 30000; i++)
        mprotect(p + 8192l * i, 4096, PROT_READ);
    TIMED("rights of many mappings", mprotect(p, MEMORY, PROT_NONE));
    munmap(p, MEMORY);
}

/* A large file that a mapping writes to, and what has to do with what it wrote. */
static char *written(int file, long size) {
    ftruncate(file, size);
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    for (long i = 0; i < size; i += 4096)
        p[i] = 1;
    return p;
}
static void shared_file(void) {
    const long size = MEMORY;
    int file = memfd_create("shared", 0);
    char *p = written(file, size), c;
    TIMED("msync", msync(p, size, MS_SYNC));
    TIMED("fsync", fsync(file));
    begin();
    for (int i = 0; i < 20; i++)
        pread(file, &c, 1, i * MIB);
    end("small reads");
    TIMED("mprotect of a shared file", mprotect(p, size, PROT_READ));
    TIMED("munmap", munmap(p, size));
    begin();
    if (fork() == 0) {
        written(file, size);
        _exit(0);
    }
    wait(NULL);
    end("the end of a mapping");
    int ends[2];
    pipe(ends);
    if (fork() == 0) {
        written(file, size);
        write(ends[1], &c, 1);
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    read(ends[0], &c, 1);
    begin();
    wait(NULL);
    end("exec in place of a mapping");
    close(file);
}

/* Code in a file, and very many mappings of something else. */
static void code(void) {
    enum { PAGES = 1000, OTHERS = 20000 };
    int file = memfd_create("code", 0);
    char *p = written(file, PAGES * 4096l);
    memset(p, 0xc3, PAGES * 4096l);
    munmap(p, PAGES * 4096l);
    p = mmap(NULL, PAGES * 4096l, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    for (int i = 0; i < PAGES; i++)
        ((void (*)(void))(p + i * 4096l))();
    char *others = take(OTHERS * 8192l);
    for (int i = 0; i < OTHERS; i++)
        madvise(others + i * 8192l, 4096, MADV_DONTFORK);
    TIMED("ftruncate of code", ftruncate(file, 0));
    munmap(others, OTHERS * 8192l);
    munmap(p, PAGES * 4096l);
    close(file);
}

/* Another thread maps pages at both ends while one takes all rights: it does so before, after or in between, so the second of
 * them has its rights still if the first one has. */
static char *area;
static volatile int begun_by_one;
static void *map_ends(void *unused) {
    while (!begun_by_one)
        ;
    mmap(area, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mmap(area + MEMORY - 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return unused;
}
static int is_readable(char *at) {
    return write(ends_of_pipe[1], at, 1) == 1;
}
static void threads_and_rights(void) {
    pipe(ends_of_pipe);
    for (int round = 0; round < 3; round++) {
        pthread_t thread;
        area = take(MEMORY);
        for (int i = 0; i < 30000; i++)
            mprotect(area + 8192l * i, 4096, PROT_READ);
        begun_by_one = 0;
        pthread_create(&thread, NULL, map_ends, NULL);
        begun_by_one = 1;
        mprotect(area, MEMORY, PROT_NONE);
        pthread_join(thread, NULL);
        if (is_readable(area) && !is_readable(area + MEMORY - 4096))
            abort();
        munmap(area, MEMORY);
    }
    close(ends_of_pipe[0]), close(ends_of_pipe[1]);
}

/* One file that is watched as often as can be. */
static void watchers(void) {
    struct rlimit r = {1 << 18, 1 << 18};
    setrlimit(RLIMIT_NOFILE, &r);
    int n = 200000, one = eventfd(0, EFD_NONBLOCK), set = epoll_create1(0);
    struct pollfd *fds = calloc(n, sizeof *fds);
    for (int i = 0; i < n; i++)
        fds[i] = (struct pollfd){one, POLLIN, 0};
    TIMED("a poll of many", poll(fds, n, 0));
    TIMED("a poll of many that waits", poll(fds, n, 1));
    for (int i = 0; i < n / 2; i++) {
        struct epoll_event e = {EPOLLIN, {.u32 = i}};
        epoll_ctl(set, EPOLL_CTL_ADD, dup(one), &e);
    }
    uint64_t value = 1;
    struct epoll_event *found = calloc(n, sizeof *found);
    TIMED("a write that many wait for", write(one, &value, sizeof value));
    if (epoll_wait(set, found, n, 0) != n / 2 || poll(fds, n, -1) != n)
        abort();
    close_range(3, ~0u, 0);
    free(fds), free(found);
}

static void send_to(int to, int fd) {
    char control[CMSG_SPACE(sizeof fd)] = "", byte = 0;
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    sendmsg(to, &m, MSG_DONTWAIT);
}
/* Sockets that are sent through themselves and closed: each close could look at all of them. */
static void sockets(void) {
    struct rlimit r = {1 << 16, 1 << 16};
    setrlimit(RLIMIT_NOFILE, &r);
    begin();
    for (int i = 0, pair[2]; i < 8000 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0; i++) {
        send_to(pair[0], pair[0]), send_to(pair[1], pair[1]);
        if (i % 2)
            close(pair[0]), close(pair[1]);
    }
    end("sockets in circles");
    TIMED("all closed", close_range(3, ~0u, 0));
}

/* Timers: of signals that nobody wants, as often as can be, and very many that are due long after. */
static pid_t with_timers(int n, long ns, long every, int ready) {
    pid_t child = fork();
    if (child)
        return child;
    signal(SIGRTMIN, SIG_IGN);
    for (int i = 0; i < n; i++) {
        timer_t timer;
        struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
        struct itimerspec t = {{0, every}, {ns / 1000000000, ns % 1000000000}};
        if (timer_create(CLOCK_MONOTONIC, &e, &timer) == 0)
            timer_settime(timer, 0, &t, NULL);
    }
    write(ready, "x", 1);
    for (;;)
        pause();
}
static void timers(void) {
    pid_t child[8];
    int ends[2];
    char c;
    pipe(ends);
    for (int i = 0; i < 8; i++)
        child[i] = i < 2 ? with_timers(4000, 1, 1, ends[1]) : i < 7 ? with_timers(4000, 1000000000000, 0, ends[1]) : with_timers(1, 1000000, 1000000, ends[1]);
    for (int i = 0; i < 8; i++)
        read(ends[0], &c, 1);
    TIMED("timers", usleep(200000));
    for (int i = 0; i < 8; i++)
        kill(child[i], SIGKILL), waitpid(child[i], NULL, 0);
}

static void set(void) {
    struct rlimit r = {1 << 17, 1 << 17};
    setrlimit(RLIMIT_NOFILE, &r);
    int one = eventfd(1, EFD_NONBLOCK), set = epoll_create1(0), n = 50000;
    for (int i = 0; i < n; i++) {
        struct epoll_event e = {EPOLLIN, {.u32 = i}};
        epoll_ctl(set, EPOLL_CTL_ADD, dup(one), &e);
    }
    struct epoll_event *found = calloc(n, sizeof *found);
    TIMED("a wait for all of a set", epoll_wait(set, found, n, 0));
    TIMED("the end of a set", close(set));
    TIMED("descriptors closed", close_range(3, ~0u, 0));
    free(found);
}

static void asked_for_sockets(void) {
    struct {
        struct nlmsghdr h;
        struct unix_diag_req u;
    } q[1600];
    for (int i = 0; i < 1600; i++) {
        q[i].h = (struct nlmsghdr){sizeof *q, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, i, 0};
        q[i].u = (struct unix_diag_req){.sdiag_family = AF_UNIX, .udiag_states = -1, .udiag_show = -1};
    }
    for (int i = 0; i < 4000; i++)
        socket(AF_UNIX, SOCK_DGRAM, 0);
    int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
    TIMED("sockets asked for", send(s, q, sizeof q, 0));
    close_range(3, ~0u, 0);
}

/* What others' short calls take, with and without something that one process has very much of: never mind how long, but how
 * much longer. */
static uint64_t least_ns(void (*calls)(void)) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 20; i++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        calls();
        clock_gettime(CLOCK_MONOTONIC, &b);
        uint64_t took = (b.tv_sec - a.tv_sec) * 1000000000ull + b.tv_nsec - a.tv_nsec;
        least = took < least ? took : least;
    }
    return least;
}
static void longer(const char *name, uint64_t before, uint64_t after) {
    printf("%s: %llu times as long\n", name, (unsigned long long)((after + before / 2) / before));
}
static void closes(void) {
    for (int i = 0; i < 100; i++)
        close(open("/dev/null", O_RDONLY));
}
static void locks(void) {
    uint64_t before = least_ns(closes);
    for (int n = 0; n < 40; n++) {
        int fd = memfd_create("x", 0);
        for (int i = 0; i < 1000; i++) {
            struct flock l = {F_WRLCK, SEEK_SET, 2 * i, 1, 0};
            fcntl(fd, F_SETLK, &l);
        }
    }
    longer("closes beside locks", before, least_ns(closes));
    close_range(3, ~0u, 0);
}
static void looks(void) {
    for (int i = 0; i < 100; i++)
        access("/proc/self", F_OK);
}
static void groups(void) {
    static gid_t many[65536];
    for (int i = 0; i < 65536; i++)
        many[i] = i;
    uint64_t before = least_ns(looks);
    setgroups(65536, many);
    longer("looks of a member of many groups", before, least_ns(looks));
    setgroups(0, many);
}

static int netlink(uint32_t id) {
    int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_pid = id};
    bind(s, (void *)&a, sizeof a);
    return s;
}
static void ids(void) {
    for (int i = 0; i < 100; i++)
        close(netlink(0));
}
static void netlink_ids(void) {
    netlink(getpid());
    uint64_t before = least_ns(ids);
    for (uint32_t i = 0; i < 20000; i++)
        netlink(-4097 - i);
    longer("netlink ids beside many", before, least_ns(ids));
    close_range(3, ~0u, 0);
}

static void waiters(void) {
    begin_to_wait(1500);
    TIMED("waiters moved", move_waiters());
    TIMED("waiters woken", wake_waiters());
}

/* To a file of the host: what is said goes to the other stream. */
static void to_the_host(void) {
    static struct iovec v[128];
    char *p = take(2 * MIB);
    memset(p, 1, 2 * MIB);
    for (int i = 0; i < 128; i++)
        v[i] = (struct iovec){p, 2 * MIB};
    int out = dup(1);
    dup2(2, 1);
    TIMED("a long write to the host", writev(out, v, 128));
}

int main(int argc, char **argv) {
    count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t neighbour = fork();
    if (neighbour == 0)
        for (;;)
            syscall(SYS_getppid), ++*count;
    TIMED("nothing", usleep(100000));
    if (argc > 1)
        to_the_host();
    else
        content(), memory(), mappings(), threads_and_rights(), shared_file(), code(), sockets(), timers(), set(), watchers(),
            asked_for_sockets(), locks(), groups(), netlink_ids(), waiters();
    kill(neighbour, SIGKILL);
    return 0;
}
