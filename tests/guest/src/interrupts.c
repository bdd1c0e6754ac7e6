/* Signals while calls wait: which of them end with EINTR, which begin again, by handler, SA_RESTART, or no handler. */
#include "guest.h"
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <termios.h>

static int pair[2], full[2], quiet[2], listener, timed, event, timer, watch, sigs, epoll, sem, msg, lock_fd, dgram[2];
static mqd_t queue;
static char fifo[64], lock_file[64], big[1 << 20];
static uint32_t word;
static struct sockaddr_in bound;
static struct sockaddr_un full_name;

static long wait_read(void) { char c; return read(quiet[0], &c, 1); }
static long wait_readv(void) { char c; struct { void *p; size_t n; } v = {&c, 1}; return syscall(SYS_readv, quiet[0], &v, 1); }
static long wait_write(void) { return write(full[1], big, 4096); }
static long wait_recv(void) { char c; return recv(pair[0], &c, 1, 0); }
static long wait_recv_timeout(void) { char c; return recv(timed, &c, 1, 0); }
static long wait_recvmsg(void) { char c; struct { void *p; size_t n; } v = {&c, 1}; struct msghdr m = {.msg_iov = (void *)&v, .msg_iovlen = 1}; return recvmsg(pair[0], &m, 0); }
static long wait_send(void) { return send(dgram[0], big, 1000, 0); }
static long wait_accept(void) { return accept(listener, NULL, NULL); }
/* On a socket of its own: the time limit would hold for all who accept there. */
static long wait_accept_timeout(void) { struct sockaddr_in any = {.sin_family = AF_INET}; struct timeval t = {5, 0}; int s = socket(AF_INET, SOCK_STREAM, 0); bind(s, (struct sockaddr *)&any, sizeof any); listen(s, 4); setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t); long r = accept(s, NULL, NULL); int e = errno; close(s); errno = e; return r; }
static long wait_eventfd(void) { uint64_t v; return read(event, &v, 8); }
static long wait_timerfd(void) { uint64_t v; return read(timer, &v, 8); }
static long wait_inotify(void) { return read(watch, big, 4096); }
static long wait_signalfd(void) { return read(sigs, big, 128); }
static long wait_fifo(void) { return open(fifo, O_RDONLY); }
static long wait_flock(void) { int fd = open(lock_file, O_RDWR); long r = flock(fd, LOCK_EX); int e = errno; close(fd); errno = e; return r; }
static long wait_setlkw(void) { struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET}; return fcntl(lock_fd, F_SETLKW, &l); }
static long wait_ofd(void) { struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET}; return fcntl(lock_fd, F_OFD_SETLKW, &l); }
static long wait_poll(void) { struct pollfd p = {quiet[0], POLLIN, 0}; return poll(&p, 1, 5000); }
static long wait_poll_for_ever(void) { struct pollfd p = {quiet[0], POLLIN, 0}; return poll(&p, 1, -1); }
static long wait_ppoll(void) { struct pollfd p = {quiet[0], POLLIN, 0}; struct timespec t = {5, 0}; return ppoll(&p, 1, &t, NULL); }
static long wait_select(void) { struct timeval t = {5, 0}; return select(0, NULL, NULL, NULL, &t); }
static long wait_pselect(void) { struct timespec t = {5, 0}; return pselect(0, NULL, NULL, NULL, &t, NULL); }
static long wait_epoll(void) { struct epoll_event e; return epoll_wait(epoll, &e, 1, 5000); }
static long wait_epoll_pwait(void) { struct epoll_event e; return epoll_pwait(epoll, &e, 1, -1, NULL); }
static long wait_pause(void) { return pause(); }
static long wait_sigsuspend(void) { sigset_t s; sigemptyset(&s); return sigsuspend(&s); }
static long wait_sigtimedwait(void) { sigset_t s; sigemptyset(&s); sigaddset(&s, SIGWINCH); struct timespec t = {5, 0}; return sigtimedwait(&s, NULL, &t); }
static long wait_nanosleep(void) { struct timespec t = {5, 0}; return nanosleep(&t, NULL); }
static long wait_clock(void) { struct timespec t = {5, 0}; errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL); return errno ? -1 : 0; }
static long wait_clock_until(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); t.tv_sec += 5; errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL); return errno ? -1 : 0; }
static long wait_child(void) { return waitpid(-1, NULL, 0); }
static long wait_id(void) { siginfo_t i; return waitid(P_ALL, 0, &i, WEXITED); }
static long wait_semop(void) { struct sembuf b = {0, -1, 0}; return semop(sem, &b, 1); }
static long wait_msgrcv(void) { struct { long type; char text[8]; } m; return msgrcv(msg, &m, 8, 1, 0); }
static long wait_mq(void) { return mq_receive(queue, big, 64, NULL); }
static long wait_mq_timed(void) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); t.tv_sec += 5; return mq_timedreceive(queue, big, 64, NULL, &t); }
static long wait_futex(void) { return syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0); }
static long wait_futex_timed(void) { struct timespec t = {5, 0}; return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0); }
static long wait_connect(void) { int s = socket(AF_UNIX, SOCK_STREAM, 0); long r = connect(s, (struct sockaddr *)&full_name, sizeof full_name); int e = errno; close(s); errno = e; return r; }

static const struct {
    const char *name;
    long (*wait)(void);
} calls[] = {
    {"read", wait_read}, {"readv", wait_readv}, {"write", wait_write}, {"recv", wait_recv}, {"recv timeout", wait_recv_timeout},
    {"recvmsg", wait_recvmsg}, {"send", wait_send}, {"accept", wait_accept}, {"accept timeout", wait_accept_timeout},
    {"eventfd", wait_eventfd}, {"timerfd", wait_timerfd}, {"inotify", wait_inotify}, {"signalfd", wait_signalfd},
    {"fifo", wait_fifo}, {"flock", wait_flock}, {"setlkw", wait_setlkw}, {"ofd", wait_ofd}, {"poll", wait_poll},
    {"poll for ever", wait_poll_for_ever}, {"ppoll", wait_ppoll}, {"select", wait_select}, {"pselect", wait_pselect},
    {"epoll", wait_epoll}, {"epoll_pwait", wait_epoll_pwait}, {"pause", wait_pause}, {"sigsuspend", wait_sigsuspend},
    {"sigtimedwait", wait_sigtimedwait}, {"nanosleep", wait_nanosleep}, {"clock_nanosleep", wait_clock},
    {"clock_nanosleep until", wait_clock_until}, {"waitpid", wait_child}, {"waitid", wait_id}, {"semop", wait_semop},
    {"msgrcv", wait_msgrcv}, {"mq_receive", wait_mq}, {"mq_timedreceive", wait_mq_timed}, {"futex", wait_futex},
    {"futex timed", wait_futex_timed}, {"connect", wait_connect},
};
enum { CALLS = sizeof calls / sizeof *calls };

static volatile int *handled;
static void on_signal(int s) { (void)s; ++*handled; }

static void prepare(void) {
    handled = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(pipe(quiet) == 0 && pipe(full) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    fcntl(full[1], F_SETFL, O_NONBLOCK);
    while (write(full[1], big, 4096) > 0)
        ;
    fcntl(full[1], F_SETFL, 0);
    int other[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, other) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram) == 0);
    timed = other[0];
    struct timeval t = {5, 0};
    CHECK(setsockopt(timed, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
    while (send(dgram[0], big, 1000, MSG_DONTWAIT) > 0)
        ;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    bound.sin_family = AF_INET;
    bound.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(listener, (struct sockaddr *)&bound, sizeof bound) == 0 && listen(listener, 4) == 0);
    event = eventfd(0, 0);
    timer = timerfd_create(CLOCK_MONOTONIC, 0);
    watch = inotify_init();
    sigset_t s;
    sigemptyset(&s);
    sigs = signalfd(-1, &s, 0);
    epoll = epoll_create1(0);
    struct epoll_event e = {EPOLLIN, {0}};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, quiet[0], &e) == 0);
    sem = semget(IPC_PRIVATE, 1, 0600);
    msg = msgget(IPC_PRIVATE, 0600);
    struct mq_attr a = {.mq_maxmsg = 1, .mq_msgsize = 64};
    char name[64];
    snprintf(name, sizeof name, "/occlum-interrupts-%d", getpid());
    queue = mq_open(name, O_RDWR | O_CREAT, 0600, &a);
    mq_unlink(name);
    CHECK(event >= 0 && timer >= 0 && watch >= 0 && sigs >= 0 && sem >= 0 && msg >= 0 && queue >= 0);
    snprintf(fifo, sizeof fifo, "/tmp/occlum-fifo-%d", getpid());
    snprintf(lock_file, sizeof lock_file, "/tmp/occlum-lock-%d", getpid());
    CHECK(mkfifo(fifo, 0600) == 0);
    lock_fd = open(lock_file, O_RDWR | O_CREAT, 0600);
    CHECK(flock(lock_fd, LOCK_EX) == 0);
    /* A listener with no room left. */
    int full_one = socket(AF_UNIX, SOCK_STREAM, 0);
    full_name.sun_family = AF_UNIX;
    snprintf(full_name.sun_path + 1, 60, "occlum full %d", getpid());
    CHECK(bind(full_one, (struct sockaddr *)&full_name, sizeof full_name) == 0 && listen(full_one, 0) == 0);
    for (;;) {
        int c = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(c, (struct sockaddr *)&full_name, sizeof full_name) < 0)
            break;
    }
}
static void clean_up(void) {
    unlink(fifo);
    unlink(lock_file);
    semctl(sem, 0, IPC_RMID);
    msgctl(msg, IPC_RMID, NULL);
}

/* A process that holds the POSIX lock until it is killed. */
static pid_t hold_lock(void) {
    int ready[2];
    char c;
    CHECK(pipe(ready) == 0);
    pid_t holder = fork_clean();
    if (holder == 0) {
        int fd = open(lock_file, O_RDWR);
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        fcntl(fd, F_SETLK, &l);
        write(ready[1], "x", 1);
        for (;;)
            pause();
    }
    read(ready[0], &c, 1);
    close(ready[0]);
    close(ready[1]);
    return holder;
}

/* Starts a child in the call, disturbs it, and says whether the call ended. */
static void try_all(int flags, int stop) {
    prepare();
    pid_t holder = hold_lock();
    pid_t child[CALLS];
    fflush(stdout);
    for (int i = 0; i < CALLS; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            struct sigaction a = {.sa_handler = on_signal, .sa_flags = flags};
            if (!stop)
                sigaction(SIGUSR1, &a, NULL);
            /* Something to wait for. */
            pid_t grandchild = fork();
            if (grandchild == 0) {
                sleep_ms(3000);
                _exit(0);
            }
            errno = 0;
            long r = calls[i].wait();
            int e = errno;
            kill(grandchild, SIGKILL);
            _exit(r == -1 && e == EINTR ? 1 : r == -1 ? 100 + e % 100 : 2);
        }
    }
    sleep_ms(300);
    for (int i = 0; i < CALLS; i++)
        kill(child[i], stop ? SIGSTOP : SIGUSR1);
    if (stop) {
        sleep_ms(50);
        for (int i = 0; i < CALLS; i++)
            kill(child[i], SIGCONT);
    }
    sleep_ms(400);
    for (int i = 0; i < CALLS; i++) {
        int status;
        pid_t got = waitpid(child[i], &status, WNOHANG);
        if (got == 0)
            printf("%s: goes on\n", calls[i].name);
        else if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
            printf("%s: EINTR\n", calls[i].name);
        else
            printf("%s: status %#x\n", calls[i].name, status);
        if (got == 0) {
            kill(child[i], SIGKILL);
            waitpid(child[i], NULL, 0);
        }
    }
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    clean_up();
    printf("handled: %s\n", stop ? "-" : *handled == CALLS ? "all" : "not all");
}

CASE(handler) {
    try_all(0, 0);
}
CASE(restarting_handler) {
    try_all(SA_RESTART, 0);
}
CASE(stop_and_continue) {
    try_all(0, 1);
}

/* Time goes on while a call is stopped. */
CASE(stopped_sleeps_end_in_time) {
    pid_t child = fork_clean();
    if (child == 0) {
        int64_t start = now_ms();
        struct timespec t = {0, 300000000};
        int r = nanosleep(&t, NULL);
        int64_t took = now_ms() - start;
        CHECK(r == 0 && took >= 299 && took < 2000);
        start = now_ms();
        CHECK(poll(NULL, 0, 300) == 0);
        took = now_ms() - start;
        CHECK(took >= 299 && took < 2000);
        _exit(guest_failures);
    }
    for (int i = 0; i < 8; i++) {
        sleep_ms(40);
        kill(child, SIGSTOP);
        sleep_ms(20);
        kill(child, SIGCONT);
    }
    report("sleeper", child);
}

/* Signals all the time: reads and writes of a pipe lose nothing. */
static void nothing(int s) { (void)s; }
CASE(storm) {
    int p[2];
    CHECK(pipe(p) == 0);
    struct sigaction a = {.sa_handler = nothing};
    sigaction(SIGALRM, &a, NULL);
    pid_t child = fork_clean();
    if (child == 0) {
        struct itimerval t = {{0, 300}, {0, 300}};
        setitimer(ITIMER_REAL, &t, NULL);
        for (unsigned i = 0; i < 60000;) {
            unsigned block[256];
            for (unsigned k = 0; k < 256; k++)
                block[k] = i + k;
            size_t done = 0;
            while (done < sizeof block) {
                ssize_t n = write(p[1], (char *)block + done, sizeof block - done);
                if (n > 0)
                    done += (size_t)n;
                else if (errno != EINTR)
                    _exit(9);
            }
            i += 256;
        }
        _exit(0);
    }
    close(p[1]);
    struct itimerval t = {{0, 500}, {0, 500}};
    setitimer(ITIMER_REAL, &t, NULL);
    unsigned expected = 0, value;
    size_t have = 0;
    for (;;) {
        ssize_t n = read(p[0], (char *)&value + have, sizeof value - have);
        if (n == 0)
            break;
        if (n < 0) {
            CHECK(errno == EINTR);
            continue;
        }
        have += (size_t)n;
        if (have == sizeof value) {
            if (value != expected++) {
                puts("lost something");
                break;
            }
            have = 0;
        }
    }
    t = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &t, NULL);
    printf("%u\n", expected);
    report("writer", child);
}
