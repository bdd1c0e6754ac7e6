/* System calls with every kind of argument, for a trace that is compared with strace's of the same program. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_usr1(int signal) { (void)signal; }

int main(void) {
    char buf[64];
    struct stat st;
    int fds[2];
    write(-1, "first \"quoted\"\ttext\n\1\0012", 24);
    int fd = open("/tmp/seen-file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    write(fd, "0123456789012345678901234567890123456789", 40);
    struct iovec iov[2] = {{"one", 3}, {"two", 3}};
    writev(fd, iov, 2);
    lseek(fd, 4, SEEK_SET);
    read(fd, buf, 8);
    syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH);
    open("/nonexistent", O_RDONLY | O_DIRECTORY);
    access("/tmp", R_OK | X_OK);
    fcntl(fd, F_GETFD);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_GETFL);
    flock(fd, LOCK_EX | LOCK_NB);
    fchmod(fd, 0600);
    ftruncate(fd, 12);
    mkdir("/tmp/seen-dir", 0755);
    rename("/tmp/seen-dir", "/tmp/seen-dir2");
    symlink("target", "/tmp/seen-link");
    readlink("/tmp/seen-link", buf, sizeof buf);
    unlink("/tmp/seen-link");
    rmdir("/tmp/seen-dir2");
    unlink("/tmp/seen-file");
    pipe2(fds, O_CLOEXEC | O_NONBLOCK);
    read(fds[0], buf, 1);
    struct pollfd polled[2] = {{fds[0], POLLIN, 0}, {fds[1], POLLOUT, 0}};
    poll(polled, 2, 10);
    struct timespec t = {0, 1000000};
    nanosleep(&t, NULL);
    syscall(SYS_clock_getres, CLOCK_MONOTONIC, NULL);
    struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR2), sigaddset(&set, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sigprocmask(SIG_SETMASK, NULL, &set);
    action.sa_flags = 0;
    kill(999999, SIGTERM);
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    send(pair[0], "hello", 5, MSG_NOSIGNAL);
    recv(pair[1], buf, sizeof buf, MSG_DONTWAIT);
    shutdown(pair[0], SHUT_WR);
    int inet = socket(AF_INET, SOCK_STREAM, IPPROTO_IP);
    int one = 1;
    setsockopt(inet, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(inet, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0x7f000001)};
    connect(inet, (struct sockaddr *)&address, sizeof address);
    struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/tmp/seen-socket"};
    int un = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    connect(un, (struct sockaddr *)&local, sizeof local);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    int ev = eventfd(3, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {EPOLLIN | EPOLLET, {.u32 = 7}};
    epoll_ctl(ep, EPOLL_CTL_ADD, ev, &event);
    struct epoll_event got[4];
    epoll_wait(ep, got, 4, 0);
    timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    madvise((void *)0x1000, 4096, MADV_DONTNEED);
    umask(022);
    prctl(PR_GET_KEEPCAPS);
    struct rlimit limit = {1024, 2048};
    setrlimit(RLIMIT_CORE, &limit);
    getpriority(PRIO_PROCESS, 0);
    syscall(SYS_wait4, -1, NULL, WNOHANG, NULL);
    syscall(SYS_exit_group, 3);
}
