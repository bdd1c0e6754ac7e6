/* poll, select, ppoll, pselect, epoll, eventfd, timerfd. */
#include "guest.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

CASE(poll_a_pipe) {
    int p[2];
    CHECK(pipe(p) == 0);
    struct pollfd f[3] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}, {-1, POLLIN, 7}};
    CHECK(poll(f, 3, 0) == 1 && f[0].revents == 0 && f[1].revents == POLLOUT && f[2].revents == 0);
    write(p[1], "x", 1);
    CHECK(poll(f, 1, -1) == 1 && f[0].revents == POLLIN);
    close(p[1]);
    CHECK(poll(f, 1, -1) == 1 && f[0].revents == (POLLIN | POLLHUP));
    f[1].fd = 999;
    CHECK(poll(f + 1, 1, -1) == 1 && f[1].revents == POLLNVAL);
    int64_t start = now_ms();
    CHECK(poll(NULL, 0, 30) == 0 && now_ms() - start >= 30);
    CHECK_ERRNO(poll((void *)8, 1, 0), EFAULT);
    int q[2];
    CHECK(pipe(q) == 0 && close(q[0]) == 0);
    f[0] = (struct pollfd){q[1], POLLOUT, 0};
    CHECK(poll(f, 1, -1) == 1 && (f[0].revents & POLLERR));
    puts("done");
}

CASE(poll_wakes) {
    int p[2];
    CHECK(pipe(p) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        sleep_ms(30);
        write(p[1], "x", 1);
        _exit(0);
    }
    struct pollfd f = {p[0], POLLIN, 0};
    CHECK(poll(&f, 1, 10000) == 1 && f.revents == POLLIN);
    report("writer", child);
}

CASE(select_and_pselect) {
    int p[2];
    CHECK(pipe(p) == 0);
    fd_set r, w;
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_SET(p[0], &r);
    FD_SET(p[1], &w);
    struct timeval t = {0, 20000};
    CHECK(select(p[1] + 1, &r, &w, NULL, &t) == 1 && !FD_ISSET(p[0], &r) && FD_ISSET(p[1], &w));
    FD_SET(p[0], &r);
    t = (struct timeval){0, 20000};
    CHECK(select(p[0] + 1, &r, NULL, NULL, &t) == 0 && t.tv_usec == 0);
    FD_SET(50, &r);
    CHECK_ERRNO(select(51, &r, NULL, NULL, &t), EBADF);
    CHECK_ERRNO(select(-1, NULL, NULL, NULL, &t), EINVAL);
    t.tv_sec = -1;
    CHECK_ERRNO(select(0, NULL, NULL, NULL, &t), EINVAL);
    struct timespec ts = {0, 10000000};
    CHECK(pselect(0, NULL, NULL, NULL, &ts, NULL) == 0 && ts.tv_nsec == 10000000);
    puts("done");
}

static volatile int handled;
static void handler(int signal) { handled = signal; }
CASE(ppoll_masks) {
    signal(SIGUSR1, handler);
    sigset_t set, empty;
    sigemptyset(&empty);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    CHECK(handled == 0);
    CHECK_ERRNO(ppoll(NULL, 0, NULL, &empty), EINTR);
    printf("handled %d\n", handled);
    sigprocmask(SIG_BLOCK, NULL, &empty);
    CHECK(sigismember(&empty, SIGUSR1));
}

CASE(epoll) {
    int p[2], e = epoll_create1(EPOLL_CLOEXEC);
    CHECK(e >= 0 && pipe(p) == 0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1122334455667788}, got[4];
    CHECK(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event) == 0);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event), EEXIST);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_DEL, p[1], NULL), ENOENT);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_ADD, e, &event), EINVAL);
    CHECK(epoll_wait(e, got, 4, 0) == 0);
    write(p[1], "ab", 2);
    CHECK(epoll_wait(e, got, 4, -1) == 1 && got[0].events == EPOLLIN && got[0].data.u64 == 0x1122334455667788);
    CHECK(epoll_wait(e, got, 4, 0) == 1);
    event.events = EPOLLIN | EPOLLET;
    CHECK(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &event) == 0);
    CHECK(epoll_wait(e, got, 4, 0) == 1 && epoll_wait(e, got, 4, 0) == 0);
    write(p[1], "c", 1);
    CHECK(epoll_wait(e, got, 4, 0) == 1);
    event.events = EPOLLIN | EPOLLONESHOT;
    CHECK(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &event) == 0);
    CHECK(epoll_wait(e, got, 4, 0) == 1 && epoll_wait(e, got, 4, 0) == 0);
    CHECK_ERRNO(epoll_wait(e, got, 0, 0), EINVAL);
    CHECK_ERRNO(epoll_wait(p[0], got, 1, 0), EINVAL);
    puts("done");
}

CASE(epoll_exclusive) {
    int p[2], e = epoll_create1(0), other = epoll_create1(0);
    CHECK(pipe(p) == 0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE}, plain = {.events = EPOLLIN};
    CHECK(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event) == 0);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &event), EINVAL);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &plain), EINVAL);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_ADD, other, &event), EINVAL);
    event.events |= EPOLLONESHOT;
    CHECK_ERRNO(epoll_ctl(other, EPOLL_CTL_ADD, p[0], &event), EINVAL);
    event.events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE;
    CHECK(epoll_ctl(other, EPOLL_CTL_ADD, p[0], &event) == 0 && epoll_ctl(other, EPOLL_CTL_DEL, p[0], NULL) == 0);
    CHECK(write(p[1], "x", 1) == 1 && epoll_wait(e, &event, 1, 1000) == 1 && event.events == EPOLLIN);
}

CASE(eventfd) {
    int e = eventfd(3, EFD_NONBLOCK);
    uint64_t value = 0;
    CHECK(read(e, &value, 8) == 8 && value == 3);
    CHECK_ERRNO(read(e, &value, 8), EAGAIN);
    CHECK_ERRNO(read(e, &value, 7), EINVAL);
    value = 5;
    CHECK(write(e, &value, 8) == 8 && write(e, &value, 8) == 8 && read(e, &value, 8) == 8 && value == 10);
    int s = eventfd(2, EFD_SEMAPHORE);
    CHECK(read(s, &value, 8) == 8 && value == 1);
    puts("done");
}

CASE(timerfd) {
    int t = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec in = {{0, 5000000}, {0, 5000000}};
    CHECK(t >= 0 && timerfd_settime(t, 0, &in, NULL) == 0);
    sleep_ms(30);
    uint64_t n = 0;
    CHECK(read(t, &n, 8) == 8 && n >= 5);
    struct pollfd f = {t, POLLIN, 0};
    CHECK(poll(&f, 1, 1000) == 1);
    puts("done");
}

CASE(sets_in_sets) {
    int p[2], sets[12];
    CHECK(pipe(p) == 0);
    struct epoll_event e = {EPOLLIN, {.u64 = 7}}, got;
    for (int i = 0; i < 12; i++)
        sets[i] = epoll_create1(EPOLL_CLOEXEC);
    CHECK(epoll_ctl(sets[0], EPOLL_CTL_ADD, p[0], &e) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(epoll_ctl(sets[i + 1], EPOLL_CTL_ADD, sets[i], &e) == 0);
    CHECK(epoll_wait(sets[3], &got, 1, 0) == 0);
    write(p[1], "x", 1);
    CHECK(epoll_wait(sets[3], &got, 1, 1000) == 1 && got.data.u64 == 7 && got.events == EPOLLIN);
    CHECK_ERRNO(epoll_ctl(sets[0], EPOLL_CTL_ADD, sets[3], &e), ELOOP);
    CHECK_ERRNO(epoll_ctl(sets[0], EPOLL_CTL_ADD, sets[0], &e), EINVAL);
    int deep = 3;
    while (deep < 11 && epoll_ctl(sets[deep + 1], EPOLL_CTL_ADD, sets[deep], &e) == 0)
        deep++;
    printf("%s\n", deep < 11 && errno == ELOOP ? "too deep" : "no end");
    CHECK(epoll_ctl(sets[3], EPOLL_CTL_DEL, sets[2], NULL) == 0);
    CHECK(epoll_ctl(sets[0], EPOLL_CTL_ADD, sets[3], &e) == 0);
}

CASE(exclusive_waiters) {
    int p[2], set = epoll_create1(0), other = epoll_create1(0);
    CHECK(pipe(p) == 0);
    struct epoll_event e = {EPOLLIN | EPOLLEXCLUSIVE, {0}}, got;
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, p[0], &e) == 0);
    CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_MOD, p[0], &e), EINVAL);
    e.events = EPOLLIN;
    CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_MOD, p[0], &e), EINVAL);
    e.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
    CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_ADD, p[1], &e), EINVAL);
    e.events = EPOLLIN | EPOLLEXCLUSIVE;
    CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_ADD, other, &e), EINVAL);
    pid_t child[3];
    for (int i = 0; i < 3; i++)
        if ((child[i] = fork_clean()) == 0)
            _exit(epoll_wait(set, &got, 1, 300) >= 0 ? 0 : 1);
    sleep_ms(20);
    write(p[1], "x", 1);
    for (int i = 0; i < 3; i++)
        report("waiter", child[i]);
    CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_ADD, 999, &e), EBADF);
    CHECK_ERRNO(epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &e), EINVAL);
    CHECK_ERRNO(epoll_ctl(set, 9, p[1], &e), EINVAL);
    CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_ADD, p[1], (void *)8), EFAULT);
    CHECK_ERRNO(epoll_wait(set, &got, 0, 0), EINVAL);
    CHECK_ERRNO(epoll_create(0), EINVAL);
    CHECK(epoll_create(1) >= 0);
    CHECK_ERRNO(epoll_wait(p[0], &got, 1, 0), EINVAL);
    int file = open("/proc/self/exe", O_RDONLY);
    e.events = EPOLLIN;
    CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_ADD, file, &e), EPERM);
    struct timespec t = {0, 1000000};
    CHECK(epoll_wait(set, &got, 1, 0) == 1);
    char c;
    read(p[0], &c, 1);
    CHECK(syscall(SYS_epoll_pwait2, set, &got, 1, &t, NULL, 8) == 0);
    t.tv_nsec = 2000000000;
    CHECK_ERRNO(syscall(SYS_epoll_pwait2, set, &got, 1, &t, NULL, 8), EINVAL);
    CHECK_ERRNO(syscall(SYS_epoll_pwait2, set, &got, 1, (void *)8, NULL, 8), EFAULT);
    sigset_t mask;
    sigemptyset(&mask);
    CHECK(syscall(SYS_epoll_pwait, set, &got, 1, 1, &mask, 8) == 0);
    CHECK_ERRNO(syscall(SYS_epoll_pwait, set, &got, 1, 1, &mask, 4), EINVAL);
}

/* Adds `fd` to `set`, with itself as its data. */
static void add(int set, int fd, uint32_t events) {
    struct epoll_event e = {.events = events, .data.fd = fd};
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &e) == 0);
}
static void change(int set, int fd, uint32_t events) {
    struct epoll_event e = {.events = events, .data.fd = fd};
    CHECK(epoll_ctl(set, EPOLL_CTL_MOD, fd, &e) == 0);
}
/* Events that `fd` has in `set` now, which must be the only one there; 0 if there is none. */
static uint32_t only(int set, int fd, int timeout) {
    struct epoll_event got[4];
    int n = epoll_wait(set, got, 4, timeout);
    CHECK(n == 0 || n == 1 && got[0].data.fd == fd);
    return n > 0 ? got[0].events : 0;
}

/* What two looks find. */
static void say(const char *what, int set, int fd) {
    uint32_t first = only(set, fd, 0);
    printf("%s: %x, then %x\n", what, first, only(set, fd, 0));
}

CASE(edges_of_a_set) {
    int set = epoll_create1(0), e = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK), s[2];
    uint64_t two = 2, value;
    add(set, e, EPOLLIN | EPOLLET);
    CHECK(only(set, e, 0) == 0);
    write(e, &two, 8);
    say("written", set, e);
    read(e, &value, 8);
    say("read", set, e);
    write(e, &two, 8);
    say("written again", set, e);
    change(set, e, EPOLLIN | EPOLLET);
    say("changed", set, e);
    change(set, e, EPOLLOUT | EPOLLET);
    say("to output", set, e);
    read(e, &value, 8);
    say("read", set, e);
    CHECK(epoll_ctl(set, EPOLL_CTL_DEL, e, NULL) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    add(set, s[0], EPOLLIN | EPOLLOUT | EPOLLET);
    say("socket", set, s[0]);
    write(s[1], "ab", 2);
    say("data", set, s[0]);
    write(s[1], "c", 1);
    say("more", set, s[0]);
    shutdown(s[1], SHUT_WR);
    say("shut", set, s[0]);
    change(set, s[0], EPOLLRDHUP | EPOLLET);
    say("its end", set, s[0]);
    close(s[1]);
    say("gone", set, s[0]);
}

CASE(turns_of_a_set) {
    int set = epoll_create1(0), e[3], seen[3] = {0};
    uint64_t one = 1;
    struct epoll_event got[4];
    for (int i = 0; i < 3; i++) {
        add(set, e[i] = eventfd(1, 0), EPOLLIN);
        CHECK(e[i] == e[0] + i);
    }
    /* One at a time: each gets its turn. */
    for (int i = 0; i < 9; i++) {
        CHECK(epoll_wait(set, got, 1, 0) == 1 && got[0].events == EPOLLIN);
        seen[got[0].data.fd - e[0]]++;
    }
    printf("%d %d %d\n", seen[0], seen[1], seen[2]);
    read(e[1], &one, 8);
    CHECK(epoll_wait(set, got, 4, 0) == 2);
    /* Who is closed is gone, unless a copy is left. */
    int copy = dup(e[2]);
    close(e[0]);
    close(e[2]);
    printf("closed %d\n", epoll_wait(set, got, 4, 0));
    close(copy);
    printf("both %d\n", epoll_wait(set, got, 4, 0));
    one = 1;
    write(e[1], &one, 8);
    CHECK(only(set, e[1], 0) == EPOLLIN);
}

CASE(events_that_cannot_be_reported) {
    int set = epoll_create1(0), e[2] = {eventfd(1, 0), eventfd(1, 0)};
    struct epoll_event got[4];
    add(set, e[0], EPOLLIN | EPOLLET);
    add(set, e[1], EPOLLIN | EPOLLONESHOT);
    CHECK_ERRNO(epoll_wait(set, (void *)8, 4, 0), EFAULT);
    /* The second one lies across the end of what is mapped. */
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED && munmap(p + 4096, 4096) == 0);
    printf("one fits: %d\n", epoll_wait(set, (void *)(p + 4096 - 12), 4, 0));
    int rest = epoll_wait(set, got, 4, 0);
    printf("the other: %d, then %d\n", rest, epoll_wait(set, got, 4, 0));
    CHECK_ERRNO(epoll_wait(set, got, -1, 0), EINVAL);
    CHECK_ERRNO(epoll_wait(set, got, 0x7fffffff, 0), EINVAL);
}

CASE(edges_through_a_set) {
    int inner = epoll_create1(0), outer = epoll_create1(0), e = eventfd(0, EFD_NONBLOCK);
    uint64_t value = 1;
    add(inner, e, EPOLLIN);
    add(outer, inner, EPOLLIN | EPOLLET);
    CHECK(only(outer, inner, 0) == 0);
    write(e, &value, 8);
    say("outer", outer, inner);
    struct pollfd f = {outer, POLLIN, 0}, g = {inner, POLLIN, 0};
    int polled = poll(&f, 1, 0);
    printf("polled %d %d\n", polled, poll(&g, 1, 0));
    write(e, &value, 8);
    say("again", outer, inner);
    read(e, &value, 8);
    CHECK(poll(&g, 1, 0) == 0 && only(inner, e, 0) == 0);
    change(outer, inner, EPOLLIN);
    CHECK(only(outer, inner, 0) == 0);
    value = 1;
    write(e, &value, 8);
    say("level", outer, inner);
    read(e, &value, 8);
    CHECK(only(outer, inner, 0) == 0);
}

CASE(timers_in_sets) {
    int set = epoll_create1(0), t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec in = {{0, 3000000}, {0, 3000000}}, off = {{0, 0}, {0, 0}};
    uint64_t n = 0;
    add(set, t, EPOLLIN | EPOLLET);
    CHECK(only(set, t, 0) == 0 && timerfd_settime(t, 0, &in, NULL) == 0);
    CHECK(only(set, t, 5000) == EPOLLIN);
    /* An interval goes on from the read. */
    printf("without a read %x\n", only(set, t, 30));
    CHECK(read(t, &n, 8) == 8 && n >= 3);
    CHECK(only(set, t, 5000) == EPOLLIN && read(t, &n, 8) == 8);
    CHECK(timerfd_settime(t, 0, &off, NULL) == 0 && only(set, t, 15) == 0);
    in.it_interval.tv_nsec = 0;
    change(set, t, EPOLLIN);
    CHECK(timerfd_settime(t, 0, &in, NULL) == 0 && only(set, t, 5000) == EPOLLIN && only(set, t, 0) == EPOLLIN);
    CHECK(read(t, &n, 8) == 8 && n == 1 && only(set, t, 0) == 0);
    CHECK(timerfd_settime(t, 0, &in, NULL) == 0 && close(t) == 0);
    CHECK(epoll_wait(set, &(struct epoll_event){0}, 1, 10) == 0);
}

/* Each set of a level holds all of the level below: so many paths lead from the event up that a wake could take for ever. */
CASE(paths_through_sets) {
    enum { WIDE = 30, LEVELS = 4 };
    int event = eventfd(0, 0), sets[LEVELS][WIDE];
    struct epoll_event e = {.events = EPOLLIN | EPOLLET};
    for (int level = 0; level < LEVELS; level++) {
        int refused = 0;
        for (int i = 0; i < WIDE; i++) {
            sets[level][i] = epoll_create1(0);
            for (int k = 0; k < (level ? WIDE : 1); k++)
                if (epoll_ctl(sets[level][i], EPOLL_CTL_ADD, level ? sets[level - 1][k] : event, &e)) {
                    CHECK(errno == EINVAL);
                    refused++;
                }
        }
        printf("level %d: %d refused\n", level, refused);
    }
    /* What was taken out makes room. */
    int more = epoll_create1(0);
    printf("one more: %d\n", epoll_ctl(more, EPOLL_CTL_ADD, sets[0][0], &e));
    for (int i = 0; i < WIDE; i++)
        epoll_ctl(sets[1][0], EPOLL_CTL_DEL, sets[0][i], &e), close(sets[1][WIDE - 1 - i % 5]);
    printf("then: %d\n", epoll_ctl(more, EPOLL_CTL_ADD, sets[0][0], &e));
    /* A file that comes last, below sets that were empty. */
    int top[12], low[12];
    for (int i = 0; i < 12; i++) {
        top[i] = epoll_create1(0), low[i] = epoll_create1(0);
        for (int k = 0; k <= i; k++)
            CHECK(epoll_ctl(top[i], EPOLL_CTL_ADD, low[k], &e) == 0 && (k == i || epoll_ctl(top[k], EPOLL_CTL_ADD, low[i], &e) == 0));
    }
    int first = eventfd(0, 0), taken = 0;
    for (int i = 0; i < 12; i++)
        for (int k = 0; k < 5; k++)
            taken += epoll_ctl(low[i], EPOLL_CTL_ADD, k ? dup(first) : first, &e) == 0;
    printf("taken: %d\n", taken);
}

CASE(signals_in_sets) {
    int set = epoll_create1(0);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    int s = signalfd(-1, &mask, SFD_NONBLOCK);
    struct signalfd_siginfo info;
    add(set, s, EPOLLIN | EPOLLET);
    CHECK(only(set, s, 0) == 0);
    kill(getpid(), SIGUSR1);
    CHECK(only(set, s, 1000) == EPOLLIN && only(set, s, 0) == 0);
    CHECK(read(s, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1);
    pthread_kill(pthread_self(), SIGUSR1);
    CHECK(only(set, s, 1000) == EPOLLIN && read(s, &info, sizeof info) == sizeof info);
    pid_t parent = getpid(), child = fork_clean();
    if (child == 0) {
        sleep_ms(20);
        kill(parent, SIGUSR1);
        _exit(0);
    }
    CHECK(only(set, s, 5000) == EPOLLIN);
    report("sender", child);
}

CASE(processes_in_sets) {
    int set = epoll_create1(0);
    pid_t child[2] = {fork_clean(), 0};
    if (child[0] == 0) {
        sleep_ms(40);
        _exit(3);
    }
    int p = syscall(SYS_pidfd_open, child[0], 0);
    add(set, p, EPOLLIN | EPOLLET);
    /* Others' ends are none of its events. */
    if ((child[1] = fork_clean()) == 0)
        _exit(0);
    report("other", child[1]);
    CHECK(only(set, p, 5000) & EPOLLIN);
    report("its own", child[0]);
}

struct waiter {
    int set;
    int found;
};
static void *wait_once(void *at) {
    struct waiter *w = at;
    struct epoll_event got;
    w->found = epoll_wait(w->set, &got, 1, 400);
    return NULL;
}
/* How many of four waiters one event wakes: all in one set, or each in its own with these further events. */
static int woken(int own, uint32_t events) {
    int set = epoll_create1(0), e = eventfd(0, 0), n = 0;
    struct waiter w[4];
    pthread_t t[4];
    uint64_t one = 1;
    for (int i = 0; i < 4; i++) {
        w[i] = (struct waiter){own ? epoll_create1(0) : set, 0};
        if (own || i == 0)
            add(w[i].set, e, EPOLLIN | events);
        pthread_create(&t[i], NULL, wait_once, &w[i]);
    }
    until_threads_sleep(4);
    write(e, &one, 8);
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        n += w[i].found;
    }
    return n;
}

CASE(waiters_of_one_event) {
    printf("one set, edge: %d\n", woken(0, EPOLLET));
    printf("one set, one-shot: %d\n", woken(0, EPOLLONESHOT));
    printf("own sets: %d\n", woken(1, 0));
    printf("own sets, exclusive edge: %d\n", woken(1, EPOLLET | EPOLLEXCLUSIVE));
}

static void *wait_for_many(void *at) {
    int *set = at, n = 0;
    struct epoll_event got[8];
    uint64_t value;
    for (int k; (k = epoll_wait(*set, got, 8, 1000)) > 0;)
        for (int i = 0; i < k; i++)
            if (got[i].data.fd == -1)
                return (void *)(long)n;
            else if (read(got[i].data.fd, &value, 8) == 8)
                n += value;
    return (void *)-1L;
}
CASE(no_event_is_lost) {
    enum { FILES = 300, ROUNDS = 40 };
    int set = epoll_create1(0), e[FILES], end = eventfd(0, 0);
    uint64_t one = 1;
    for (int i = 0; i < FILES; i++)
        add(set, e[i] = eventfd(0, EFD_NONBLOCK), EPOLLIN | (i % 2 ? EPOLLET : 0));
    struct epoll_event last = {.events = EPOLLIN, .data.fd = -1};
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, wait_for_many, &set);
    for (int r = 0; r < ROUNDS; r++)
        for (int i = 0; i < FILES; i++)
            CHECK(write(e[i], &one, 8) == 8);
    struct pollfd busy = {set, POLLIN, 0};
    for (int64_t start = now_ms(); poll(&busy, 1, 0) == 1 && now_ms() - start < 10000;)
        sleep_ms(1);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, end, &last) == 0 && write(end, &one, 8) == 8);
    long sum = 0;
    for (int i = 0; i < 3; i++) {
        void *n;
        pthread_join(t[i], &n);
        CHECK((long)n >= 0);
        sum += (long)n;
    }
    printf("%ld of %d\n", sum, FILES * ROUNDS);
}

/* Datagrams faster than they are taken: senders wait, in a send or for the set, and go on. */
static void *take_slowly(void *at) {
    int s = *(int *)at, n = 0;
    char b[2000];
    while (recv(s, b, sizeof b, 0) == 1000)
        if (++n % 50 == 0)
            sleep_ms(1);
    return (void *)(long)n;
}
CASE(room_for_datagrams) {
    int server = socket(AF_UNIX, SOCK_DGRAM, 0), client[2];
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path + 1, 90, "room %d", getpid());
    CHECK(bind(server, (void *)&name, sizeof name) == 0);
    for (int i = 0; i < 2; i++)
        CHECK((client[i] = socket(AF_UNIX, SOCK_DGRAM, 0)) >= 0 && connect(client[i], (void *)&name, sizeof name) == 0);
    pthread_t t;
    pthread_create(&t, NULL, take_slowly, &server);
    static char b[1000];
    int set = epoll_create1(0), waits = 0;
    add(set, client[1], EPOLLOUT | EPOLLET);
    for (int i = 0; i < 2000; i++) {
        CHECK(send(client[0], b, sizeof b, 0) == 1000);
        while (send(client[1], b, sizeof b, MSG_DONTWAIT) < 0) {
            CHECK(errno == EAGAIN && waits++ < 100000);
            CHECK(only(set, client[1], 5000) == EPOLLOUT);
        }
    }
    CHECK(send(client[0], b, 1, 0) == 1);
    void *n;
    pthread_join(t, &n);
    printf("%ld\n", (long)n);
}
