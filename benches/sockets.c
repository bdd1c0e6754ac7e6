/* One byte to another process and back, through sockets: AF_UNIX and TCP over 127.0.0.1; and bulk data over TCP.
 *
 * Usage: sockets [COUNT] */
#include "bench.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void tcp_pair(int p[2]) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int on = 1, l = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(l, (struct sockaddr *)&a, n) == 0 && listen(l, 1) == 0, "listen");
    check(getsockname(l, (struct sockaddr *)&a, &n) == 0, "getsockname");
    p[0] = socket(AF_INET, SOCK_STREAM, 0);
    check(connect(p[0], (struct sockaddr *)&a, n) == 0, "connect");
    p[1] = accept(l, NULL, NULL);
    check(p[1] >= 0, "accept");
    setsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(p[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    close(l);
}

static void ping_pong(const char *metric, int p[2], long count) {
    char byte = 'x';
    pid_t pid = fork();
    check(pid >= 0, "fork");
    if (pid == 0) {
        close(p[0]);
        while (read(p[1], &byte, 1) == 1)
            check(write(p[1], &byte, 1) == 1, "write");
        _exit(0);
    }
    close(p[1]);
    double start = now_ns();
    for (long i = 0; i < count; i++) {
        check(write(p[0], &byte, 1) == 1, "write");
        check(read(p[0], &byte, 1) == 1, "read");
    }
    report(metric, (now_ns() - start) / (double)count);
    close(p[0]);
    check(waitpid(pid, NULL, 0) == pid, "waitpid");
}

/* Nanoseconds for 64 KiB. */
static void bulk(const char *metric, int p[2], long count) {
    static char block[65536];
    pid_t pid = fork();
    check(pid >= 0, "fork");
    if (pid == 0) {
        close(p[1]);
        for (long i = 0; i < count; i++)
            check(write(p[0], block, sizeof block) == sizeof block, "write");
        _exit(0);
    }
    close(p[0]);
    double start = now_ns();
    long total = 0;
    for (ssize_t n; (n = read(p[1], block, sizeof block)) > 0;)
        total += n;
    check(total == count * (long)sizeof block, "all bytes");
    report(metric, (now_ns() - start) / (double)count);
    close(p[1]);
    check(waitpid(pid, NULL, 0) == pid, "waitpid");
}

int main(int argc, char **argv) {
    long count = count_argument(argc, argv, 1, 10000);
    int p[2];
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "socketpair");
    ping_pong("unix-ping-pong", p, count);
    tcp_pair(p);
    ping_pong("tcp-ping-pong", p, count);
    tcp_pair(p);
    bulk("tcp-bulk", p, count / 2);
    return 0;
}
