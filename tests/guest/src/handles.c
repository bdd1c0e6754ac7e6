/* Descriptors of things that are no files: signalfd, pidfds. */
#include "guest.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/prctl.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#define PIDFD_NONBLOCK O_NONBLOCK

static sigset_t block(int first, int second) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, first);
    sigaddset(&set, second);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    return set;
}

CASE(signals_as_records) {
    sigset_t set = block(SIGUSR1, SIGRTMIN);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    CHECK(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) && (fcntl(fd, F_GETFL) & O_NONBLOCK));
    struct signalfd_siginfo info[3];
    CHECK_ERRNO(read(fd, info, sizeof info), EAGAIN);
    CHECK_ERRNO(read(fd, info, 127), EINVAL);
    CHECK_ERRNO(write(fd, info, 128), EINVAL);
    raise(SIGUSR1);
    raise(SIGUSR1);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 42});
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 43});
    struct pollfd p = {fd, POLLIN, 0};
    CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLIN);
    CHECK(read(fd, info, sizeof info) == sizeof info);
    for (int i = 0; i < 3; i++) {
        printf("%d code %d value %d own %d uid %d\n", info[i].ssi_signo, info[i].ssi_code, info[i].ssi_int,
               info[i].ssi_pid == getpid(), info[i].ssi_uid == getuid());
    }
    CHECK_ERRNO(read(fd, info, sizeof info), EAGAIN);
    CHECK(poll(&p, 1, 0) == 0);
    sigdelset(&set, SIGUSR1);
    CHECK(signalfd(fd, &set, 0) == fd);
    raise(SIGUSR1);
    CHECK_ERRNO(read(fd, info, sizeof info), EAGAIN);
    CHECK_ERRNO(signalfd(-1, &set, 12345), EINVAL);
    CHECK_ERRNO(signalfd(0, &set, 0), EINVAL);
    CHECK_ERRNO(signalfd(99, &set, 0), EBADF);
    CHECK_ERRNO(syscall(SYS_signalfd4, -1, &set, 4, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_signalfd, -1, (void *)8, 8), EFAULT);
    CHECK((fd = syscall(SYS_signalfd, -1, &set, 8)) >= 0 && close(fd) == 0);
    puts("done");
}

CASE(signals_wake_readers) {
    sigset_t set = block(SIGUSR1, SIGCHLD);
    int fd = signalfd(-1, &set, 0), e = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}, got;
    CHECK(epoll_ctl(e, EPOLL_CTL_ADD, fd, &event) == 0);
    /* One at a time: two that wait at once would be one. */
    int taken[2];
    char c = 1;
    CHECK(pipe(taken) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        for (int i = 0; i < 2; i++) {
            sleep_ms(20);
            kill(getppid(), SIGUSR1);
            CHECK(read(taken[0], &c, 1) == 1);
        }
        sleep_ms(20);
        _exit(5);
    }
    struct signalfd_siginfo info;
    CHECK(read(fd, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1 && info.ssi_pid == child);
    CHECK(write(taken[1], &c, 1) == 1);
    CHECK(epoll_wait(e, &got, 1, 5000) == 1);
    CHECK(read(fd, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1);
    CHECK(write(taken[1], &c, 1) == 1);
    CHECK(read(fd, &info, sizeof info) == sizeof info && info.ssi_signo == SIGCHLD);
    printf("code %d status %d\n", info.ssi_code, info.ssi_status);
    CHECK(info.ssi_pid == child);
    report("child", child);
    timer_t timer;
    struct sigevent s = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77};
    CHECK(timer_create(CLOCK_MONOTONIC, &s, &timer) == 0);
    struct itimerspec at = {.it_value.tv_nsec = 1000000};
    CHECK(timer_settime(timer, 0, &at, NULL) == 0);
    CHECK(read(fd, &info, sizeof info) == sizeof info && info.ssi_code == SI_TIMER && info.ssi_int == 77);
    puts("done");
}

#define pidfd_open(pid, flags) syscall(SYS_pidfd_open, pid, flags)
#define pidfd_send_signal(fd, signal, info, flags) syscall(SYS_pidfd_send_signal, fd, signal, info, flags)

CASE(processes_as_files) {
    pid_t child = fork_clean();
    if (child == 0) {
        for (;;) {
            pause();
        }
    }
    int fd = pidfd_open(child, 0);
    CHECK(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
    struct pollfd p = {fd, POLLIN, 0};
    CHECK(poll(&p, 1, 0) == 0);
    CHECK_ERRNO(pidfd_open(0, 0), EINVAL);
    CHECK_ERRNO(pidfd_open(-1, 0), EINVAL);
    CHECK_ERRNO(pidfd_open(child, 12345), EINVAL);
    CHECK_ERRNO(pidfd_open(4000000, 0), ESRCH);
    CHECK(pidfd_send_signal(fd, 0, NULL, 0) == 0);
    CHECK_ERRNO(pidfd_send_signal(fd, 99, NULL, 0), EINVAL);
    CHECK_ERRNO(pidfd_send_signal(fd, 0, NULL, 77777), EINVAL);
    CHECK_ERRNO(pidfd_send_signal(0, 0, NULL, 0), EBADF);
    char path[40];
    sprintf(path, "/proc/%d", child);
    int directory = open(path, O_DIRECTORY | O_RDONLY);
    CHECK(directory >= 0 && pidfd_send_signal(directory, 0, NULL, 0) == 0);
    siginfo_t info = {.si_signo = SIGTERM, .si_code = SI_USER};
    CHECK_ERRNO(pidfd_send_signal(fd, SIGTERM, &info, 0), EPERM);
    CHECK_ERRNO(pidfd_send_signal(fd, SIGINT, &info, 0), EINVAL);
    char byte;
    CHECK_ERRNO(read(fd, &byte, 1), EINVAL);
    siginfo_t state = {0};
    CHECK(waitid(P_PIDFD, fd, &state, WEXITED | WNOHANG) == 0 && state.si_pid == 0);
    CHECK_ERRNO(waitid(P_PIDFD, 0, &state, WEXITED | WNOHANG), EBADF);
    CHECK(pidfd_send_signal(fd, SIGTERM, NULL, 0) == 0);
    CHECK(poll(&p, 1, 5000) == 1 && p.revents == POLLIN);
    CHECK(pidfd_send_signal(fd, SIGTERM, NULL, 0) == 0);
    CHECK(waitid(P_PIDFD, fd, &state, WEXITED) == 0 && state.si_pid == child && state.si_status == SIGTERM);
    CHECK_ERRNO(pidfd_send_signal(fd, 0, NULL, 0), ESRCH);
    CHECK_ERRNO(waitid(P_PIDFD, fd, &state, WEXITED), ECHILD);
    CHECK(poll(&p, 1, 0) == 1 && (p.revents & POLLIN));
    int own = pidfd_open(getpid(), PIDFD_NONBLOCK);
    CHECK(own >= 0 && (fcntl(own, F_GETFL) & O_NONBLOCK));
    CHECK_ERRNO(waitid(P_PIDFD, own, &state, WEXITED), ECHILD);
    puts("done");
}

#define PIDFD_THREAD O_EXCL
static volatile int other_tid, may_end;
static void *other_thread(void *unused) {
    other_tid = gettid();
    while (!may_end)
        usleep(1000);
    return unused;
}
static volatile int told;
static void on_told(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    told = 1000 * (gettid() == other_tid) + info->si_code + 100;
}
/* Who heard, and of what kind it was: the signals go to this thread (or, where a thread is named, to the other one). */
static int heard(void) {
    while (!told)
        usleep(1000);
    int what = told;
    told = 0;
    return what;
}
static int pid_in_fdinfo(int fd) {
    char path[40], text[400] = "";
    sprintf(path, "/proc/self/fdinfo/%d", fd);
    int info = open(path, O_RDONLY);
    CHECK(read(info, text, sizeof text - 1) > 0);
    close(info);
    char *pid = strstr(text, "Pid:");
    return pid ? atoi(pid + 4) : 0;
}

/* PIDFD_THREAD, and to whom signals go: the thread, the process, its group. */
CASE(threads_as_files) {
    enum { THREAD = 1, PROCESS = 2, GROUP = 4 };
    pthread_t thread;
    siginfo_t state, info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    struct sigaction a = {.sa_sigaction = on_told, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &a, NULL);
    pthread_create(&thread, NULL, other_thread, NULL);
    while (!other_tid)
        usleep(1000);
    CHECK_ERRNO(pidfd_open(other_tid, 4), EINVAL);
    int fd = pidfd_open(other_tid, PIDFD_THREAD), own = pidfd_open(getpid(), 0);
    CHECK((fcntl(fd, F_GETFL) & PIDFD_THREAD) && !(fcntl(own, F_GETFL) & PIDFD_THREAD));
    int first = pidfd_open(getpid(), PIDFD_THREAD | PIDFD_NONBLOCK);
    CHECK(first >= 0 && pid_in_fdinfo(first) == getpid() && pid_in_fdinfo(fd) == other_tid);
    CHECK_ERRNO(pidfd_send_signal(own, 0, NULL, 8), EINVAL);
    CHECK_ERRNO(pidfd_send_signal(own, 0, NULL, THREAD | PROCESS), EINVAL);
    CHECK(pidfd_send_signal(own, SIGUSR1, NULL, THREAD) == 0 && heard() == 100 + SI_TKILL);
    CHECK(pidfd_send_signal(first, SIGUSR1, NULL, 0) == 0 && heard() == 100 + SI_TKILL);
    CHECK(pidfd_send_signal(own, SIGUSR1, NULL, PROCESS) == 0 && heard() % 1000 == 100 + SI_USER);
    CHECK(pidfd_send_signal(fd, SIGUSR1, NULL, 0) == 0 && heard() == 1100 + SI_TKILL);
    CHECK(pidfd_send_signal(fd, SIGUSR1, &info, 0) == 0 && heard() == 1100 + SI_QUEUE);
    setpgid(0, 0); /* unless it leads its session */
    CHECK(getpgrp() == getpid());
    CHECK(pidfd_send_signal(own, SIGUSR1, NULL, GROUP) == 0 && heard() % 1000 == 100 + SI_USER);
    CHECK(pidfd_send_signal(own, SIGUSR1, &info, GROUP) == 0 && heard() % 1000 == 100 + SI_QUEUE);
    CHECK_ERRNO(pidfd_send_signal(fd, 0, NULL, GROUP), ESRCH);
    /* Only to oneself as if it came from the kernel or kill(2). */
    info.si_code = SI_USER;
    CHECK(pidfd_send_signal(own, SIGUSR1, &info, 0) == 0 && heard() % 1000 == 100 + SI_USER);
    CHECK_ERRNO(pidfd_send_signal(fd, SIGUSR1, &info, 0), EPERM);
    CHECK_ERRNO(pidfd_send_signal(own, SIGUSR1, &info, GROUP), EPERM);
    struct pollfd p = {fd, POLLIN, 0};
    CHECK(poll(&p, 1, 0) == 0);
    CHECK_ERRNO(waitid(P_PIDFD, fd, &state, WEXITED | WNOHANG), ECHILD);
    int copy = syscall(SYS_pidfd_getfd, fd, fd, 0);
    CHECK(copy >= 0);
    may_end = 1;
    CHECK(poll(&p, 1, -1) == 1 && (p.revents & POLLIN));
    pthread_join(thread, NULL);
    CHECK(poll(&p, 1, -1) == 1 && p.revents == (POLLIN | POLLHUP) && pid_in_fdinfo(fd) == -1);
    CHECK_ERRNO(pidfd_send_signal(fd, 0, NULL, 0), ESRCH);
    CHECK_ERRNO(pidfd_open(other_tid, PIDFD_THREAD), ESRCH);
    CHECK_ERRNO(syscall(SYS_pidfd_getfd, fd, fd, 0), ESRCH);
    p.fd = first;
    CHECK(poll(&p, 1, 0) == 0);
    puts("done");
}

CASE(clone_gives_a_pidfd) {
    int fd = -1;
    fflush(stdout);
    pid_t child = syscall(SYS_clone, 0x1000 /* CLONE_PIDFD */ | SIGCHLD, 0, &fd, 0, 0);
    if (child == 0) {
        sleep_ms(20);
        _exit(9);
    }
    siginfo_t state = {0};
    CHECK(child > 0 && fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
    CHECK(waitid(P_PIDFD, fd, &state, WEXITED) == 0 && state.si_status == 9);
    CHECK_ERRNO(syscall(SYS_clone, 0x1000 | CLONE_PARENT_SETTID | SIGCHLD, 0, &fd, 0, 0), EINVAL);
    uint64_t args[8] = {0x1000, (uintptr_t)&fd, 0, 0, SIGCHLD};
    child = syscall(SYS_clone3, args, sizeof args);
    if (child == 0) {
        sleep_ms(20);
        _exit(8);
    }
    CHECK(waitid(P_PIDFD, fd, &state, WEXITED) == 0 && state.si_status == 8);
    args[5] = 4096;
    CHECK_ERRNO(syscall(SYS_clone3, args, sizeof args), EINVAL);
    uint64_t bad[8] = {1ull << 40, 0, 0, 0, SIGCHLD};
    CHECK_ERRNO(syscall(SYS_clone3, bad, sizeof bad), EINVAL);
    CHECK_ERRNO(syscall(SYS_clone3, args, 32), EINVAL);
    CHECK_ERRNO(syscall(SYS_clone3, args, 5000), E2BIG);
    puts("done");
}

CASE(descriptors_of_others) {
    int p[2];
    CHECK(pipe(p) == 0);
    prctl(PR_SET_PTRACER, -1);
    pid_t parent = getpid();
    pid_t child = fork_clean();
    if (child == 0) {
        pause();
        _exit(0);
    }
    close(p[1]);
    int fd = pidfd_open(child, 0);
    int end = syscall(SYS_pidfd_getfd, fd, p[1], 0);
    if (end < 0 && errno == EPERM) {
        puts("not allowed here");
    } else {
        CHECK(end >= 0 && write(end, "x", 1) == 1 && (fcntl(end, F_GETFD) & FD_CLOEXEC));
        char c = 0;
        CHECK(read(p[0], &c, 1) == 1 && c == 'x');
        CHECK_ERRNO(syscall(SYS_pidfd_getfd, fd, 77, 0), EBADF);
    }
    CHECK_ERRNO(syscall(SYS_pidfd_getfd, fd, p[0], 1), EINVAL);
    CHECK_ERRNO(syscall(SYS_pidfd_getfd, p[0], p[0], 0), EBADF);
    kill(child, SIGKILL);
    report("child", child);
}
