/* poll, select, ppoll, pselect, epoll, eventfd, timerfd. */
#include "guest.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/timerfd.h>

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
