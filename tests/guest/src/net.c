/* TCP and UDP between programs of one machine: the calls, their errors, their options. */
#include "guest.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/errqueue.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/time.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_in at(const char *ip, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}
static struct sockaddr_in6 at6(const char *ip, int port) {
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    inet_pton(AF_INET6, ip, &a.sin6_addr);
    return a;
}
#define ADDR(a) (struct sockaddr *)&(a), sizeof(a)
static int port_of(int s) {
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    getsockname(s, (struct sockaddr *)&a, &n);
    return ntohs(a.ss_family == AF_INET ? ((struct sockaddr_in *)&a)->sin_port : ((struct sockaddr_in6 *)&a)->sin6_port);
}
/* A listener on a free port of 127.0.0.1. */
static int listener(int backlog) {
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = at("127.0.0.1", 0);
    CHECK(s >= 0 && bind(s, ADDR(a)) == 0 && listen(s, backlog) == 0);
    return s;
}
/* Two connected TCP sockets. */
static void pair(int p[2]) {
    int l = listener(5);
    struct sockaddr_in a = at("127.0.0.1", port_of(l));
    p[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(p[0], ADDR(a)) == 0);
    p[1] = accept(l, NULL, NULL);
    CHECK(p[1] >= 0);
    close(l);
}
/* Waits for an event. */
static int comes(int s, short event) {
    struct pollfd f = {s, event, 0};
    return poll(&f, 1, 5000) == 1 && f.revents & event;
}
static short events(int s) {
    struct pollfd f = {s, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
    poll(&f, 1, 0);
    return f.revents;
}
static int error_of(int s) {
    int e = -1;
    socklen_t n = sizeof e;
    getsockopt(s, SOL_SOCKET, SO_ERROR, &e, &n);
    return e;
}

CASE(names) {
    int l = listener(1), c = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = at("127.0.0.1", port_of(l)), b;
    socklen_t n = sizeof b;
    CHECK_ERRNO(getpeername(c, (void *)&b, &n), ENOTCONN);
    CHECK(getsockname(c, (void *)&b, &n) == 0 && n == 16 && b.sin_family == AF_INET && b.sin_port == 0);
    CHECK(connect(c, ADDR(a)) == 0);
    CHECK(getpeername(c, (void *)&b, &n) == 0 && b.sin_port == a.sin_port && b.sin_addr.s_addr == a.sin_addr.s_addr);
    CHECK(getsockname(c, (void *)&b, &n) == 0 && b.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && b.sin_port != 0);
    struct sockaddr_in from;
    n = sizeof from;
    int s = accept4(l, (void *)&from, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
    CHECK(s >= 0 && n == 16 && from.sin_port == b.sin_port && from.sin_addr.s_addr == b.sin_addr.s_addr);
    CHECK(fcntl(s, F_GETFD) == FD_CLOEXEC && (fcntl(s, F_GETFL) & O_NONBLOCK));
    CHECK(port_of(s) == port_of(l));
    char small[4] = "xxx";
    n = 3;
    CHECK(getsockname(s, (void *)small, &n) == 0 && n == 16 && small[3] == 0);
    n = -1;
    CHECK_ERRNO(getsockname(s, (void *)&b, &n), EINVAL);
    CHECK_ERRNO(accept4(l, NULL, NULL, 1), EINVAL);
    CHECK_ERRNO(accept(s, NULL, NULL), EINVAL);
    CHECK_ERRNO(accept(0x7fff, NULL, NULL), EBADF);
    CHECK_ERRNO(listen(0x7fff, 1), EBADF);
    puts("done");
}

CASE(kinds) {
    CHECK_ERRNO(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    CHECK_ERRNO(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
    CHECK_ERRNO(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
    CHECK_ERRNO(socket(AF_INET, 77, 0), EINVAL);
    CHECK_ERRNO(socket(AF_INET, SOCK_STREAM, 999), EINVAL);
    CHECK_ERRNO(socket(99, SOCK_STREAM, 0), EAFNOSUPPORT);
    int p[2];
    CHECK_ERRNO(socketpair(AF_INET, SOCK_STREAM, 0, p), EOPNOTSUPP);
    int s = socket(AF_INET6, SOCK_STREAM, IPPROTO_TCP), v = 0;
    socklen_t n = sizeof v;
    CHECK(getsockopt(s, SOL_SOCKET, SO_DOMAIN, &v, &n) == 0 && v == AF_INET6);
    CHECK(getsockopt(s, SOL_SOCKET, SO_TYPE, &v, &n) == 0 && v == SOCK_STREAM);
    CHECK(getsockopt(s, SOL_SOCKET, SO_PROTOCOL, &v, &n) == 0 && v == IPPROTO_TCP);
    CHECK_ERRNO(bind(1, NULL, 0), ENOTSOCK);
    puts("done");
}

CASE(bad_addresses) {
    int s = socket(AF_INET, SOCK_STREAM, 0), s6 = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in a = at("127.0.0.1", 0);
    struct sockaddr_in6 b = at6("::1", 0);
    CHECK_ERRNO(bind(s, (void *)&a, 8), EINVAL);
    CHECK_ERRNO(bind(s, (void *)&a, -1), EINVAL);
    CHECK_ERRNO(bind(s, (void *)&a, 4096), EINVAL);
    CHECK_ERRNO(bind(s, (void *)8, 16), EFAULT);
    CHECK_ERRNO(bind(s, ADDR(b)), EAFNOSUPPORT);
    CHECK_ERRNO(bind(s6, (void *)&b, 20), EINVAL);
    CHECK_ERRNO(connect(s, ADDR(b)), EAFNOSUPPORT);
    CHECK_ERRNO(connect(s, (void *)&a, 1), EINVAL);
    a = at("203.0.113.7", 0);
    CHECK_ERRNO(bind(s, ADDR(a)), EADDRNOTAVAIL);
    a = at("127.0.0.1", 0);
    CHECK(bind(s, ADDR(a)) == 0);
    CHECK_ERRNO(bind(s, ADDR(a)), EINVAL);
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    a.sin_port = 0;
    CHECK_ERRNO(sendto(u, "x", 1, 0, ADDR(a)), EINVAL);
    CHECK_ERRNO(sendto(u, "x", 1, 0, (void *)&a, 7), EINVAL);
    CHECK_ERRNO(send(u, "x", 1, 0), EDESTADDRREQ);
    CHECK_ERRNO(sendto(u, "x", 1, 0, ADDR(b)), EAFNOSUPPORT);
    puts("done");
}

CASE(refused) {
    int l = listener(1), port = port_of(l);
    close(l);
    struct sockaddr_in a = at("127.0.0.1", port);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(events(s) == (POLLOUT | POLLHUP));
    CHECK_ERRNO(connect(s, ADDR(a)), ECONNREFUSED);
    CHECK_ERRNO(send(s, "x", 1, MSG_NOSIGNAL), EPIPE);
    char b;
    CHECK_ERRNO(recv(s, &b, 1, 0), ENOTCONN);
    CHECK_ERRNO(shutdown(s, SHUT_WR), ENOTCONN);
    s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_ERRNO(connect(s, ADDR(a)), EINPROGRESS);
    struct pollfd f = {s, POLLOUT, 0};
    CHECK(poll(&f, 1, 5000) == 1);
    printf("events %#x\n", f.revents);
    CHECK(error_of(s) == ECONNREFUSED && error_of(s) == 0);
    l = listener(1);
    a = at("127.0.0.1", port_of(l));
    CHECK_ERRNO(connect(s, ADDR(a)), ECONNABORTED);
    CHECK_ERRNO(connect(s, ADDR(a)), EINPROGRESS);
    CHECK(poll(&f, 1, 5000) == 1 && f.revents == POLLOUT && error_of(s) == 0);
    CHECK(connect(s, ADDR(a)) == 0);
    CHECK_ERRNO(connect(s, ADDR(a)), EISCONN);
    puts("done");
}

CASE(streams) {
    int p[2];
    pair(p);
    char b[64] = "";
    CHECK(events(p[0]) == POLLOUT && events(p[1]) == POLLOUT);
    CHECK(send(p[0], "hello ", 6, 0) == 6 && write(p[0], "world", 5) == 5);
    int n = 0;
    CHECK(ioctl(p[1], FIONREAD, &n) == 0 && n == 11);
    CHECK(events(p[1]) == (POLLIN | POLLOUT));
    CHECK(recv(p[1], b, 5, MSG_PEEK) == 5 && memcmp(b, "hello", 5) == 0);
    CHECK(recv(p[1], b, 5, MSG_TRUNC) == 5);
    CHECK(recv(p[1], b, sizeof b, 0) == 6 && memcmp(b, " world", 6) == 0);
    CHECK_ERRNO(recv(p[1], b, 1, MSG_DONTWAIT), EAGAIN);
    struct iovec v[2] = {{"ab", 2}, {"cd", 2}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
    CHECK(sendmsg(p[1], &m, 0) == 4);
    struct iovec w[2] = {{b, 1}, {b + 8, 10}};
    struct msghdr r = {.msg_iov = w, .msg_iovlen = 2, .msg_name = b + 32, .msg_namelen = 16};
    CHECK(recvmsg(p[0], &r, 0) == 4 && b[0] == 'a' && memcmp(b + 8, "bcd", 3) == 0 && r.msg_namelen == 0 && r.msg_flags == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        for (int i = 0; i < 5; i++) {
            sleep_ms(10);
            write(p[0], "12", 2);
        }
        _exit(0);
    }
    CHECK(recv(p[1], b, 10, MSG_WAITALL) == 10 && memcmp(b, "1212121212", 10) == 0);
    report("writer", child);
    CHECK(shutdown(p[0], SHUT_WR) == 0);
    CHECK(recv(p[1], b, 10, MSG_WAITALL) == 0);
    CHECK_ERRNO(shutdown(p[0], 7), EINVAL);
    CHECK_ERRNO(recv(p[1], b, 1, MSG_OOB), EINVAL);
    CHECK(send(p[1], b, 0, 0) == 0);
    CHECK_ERRNO(send(p[1], (void *)8, 4, 0), EFAULT);
    puts("done");
}

CASE(half_close) {
    int p[2];
    pair(p);
    char b[16];
    CHECK(write(p[0], "last", 4) == 4 && shutdown(p[0], SHUT_WR) == 0);
    CHECK(events(p[1]) == (POLLIN | POLLOUT | POLLRDHUP));
    CHECK(read(p[1], b, 16) == 4 && read(p[1], b, 16) == 0 && read(p[1], b, 16) == 0);
    CHECK(write(p[1], "answer", 6) == 6 && read(p[0], b, 16) == 6);
    CHECK_ERRNO(send(p[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK(events(p[0]) == POLLOUT);
    CHECK(shutdown(p[1], SHUT_WR) == 0);
    printf("%#x %#x\n", events(p[0]), events(p[1]));
    pair(p);
    CHECK(shutdown(p[0], SHUT_RD) == 0);
    CHECK(read(p[0], b, 1) == 0);
    CHECK(events(p[0]) == (POLLIN | POLLOUT | POLLRDHUP));
    CHECK(write(p[1], "late", 4) == 4 && read(p[0], b, 16) == 4);
    puts("done");
}

CASE(resets) {
    int p[2];
    char b[16];
    pair(p);
    CHECK(write(p[0], "unread", 6) == 6 && close(p[1]) == 0);
    sleep_ms(5);
    printf("unread: %#x\n", events(p[0]));
    CHECK_ERRNO(read(p[0], b, 1), ECONNRESET);
    CHECK(read(p[0], b, 1) == 0);
    CHECK_ERRNO(send(p[0], "x", 1, MSG_NOSIGNAL), EPIPE);

    pair(p);
    CHECK(write(p[1], "data", 4) == 4 && write(p[0], "unread", 6) == 6 && close(p[1]) == 0);
    sleep_ms(5);
    CHECK(error_of(p[0]) == ECONNRESET && error_of(p[0]) == 0);

    pair(p);
    close(p[1]);
    CHECK(read(p[0], b, 1) == 0);
    CHECK(send(p[0], "x", 1, MSG_NOSIGNAL) == 1);
    sleep_ms(5);
    printf("closed: %#x\n", events(p[0]));
    CHECK(read(p[0], b, 1) == 0);
    CHECK_ERRNO(send(p[0], "x", 1, MSG_NOSIGNAL), EPIPE);

    pair(p);
    struct linger l = {1, 0};
    CHECK(setsockopt(p[1], SOL_SOCKET, SO_LINGER, &l, sizeof l) == 0 && close(p[1]) == 0);
    sleep_ms(5);
    CHECK_ERRNO(read(p[0], b, 1), ECONNRESET);
    puts("done");
}

static volatile int broken;
static void on_pipe(int signal) { broken++; }
CASE(sigpipe) {
    int p[2];
    pair(p);
    signal(SIGPIPE, on_pipe);
    shutdown(p[0], SHUT_WR);
    CHECK_ERRNO(write(p[0], "x", 1), EPIPE);
    CHECK_ERRNO(send(p[0], "x", 1, 0), EPIPE);
    CHECK_ERRNO(send(p[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    printf("signals %d\n", broken);
    pid_t child = fork_clean();
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
        write(p[0], "x", 1);
        _exit(0);
    }
    report("writer", child);
}

static volatile int alarms;
static void on_alarm(int signal) { alarms++; }
CASE(interrupted) {
    int p[2];
    char b;
    pair(p);
    struct sigaction a = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &a, NULL);
    struct itimerval t = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &t, NULL);
    CHECK_ERRNO(recv(p[0], &b, 1, 0), EINTR);
    int l = listener(1);
    setitimer(ITIMER_REAL, &t, NULL);
    CHECK_ERRNO(accept(l, NULL, NULL), EINTR);
    a.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &a, NULL);
    pid_t child = fork_clean();
    if (child == 0) {
        sleep_ms(100);
        write(p[1], "x", 1);
        _exit(0);
    }
    setitimer(ITIMER_REAL, &t, NULL);
    CHECK(recv(p[0], &b, 1, 0) == 1);
    report("writer", child);
    printf("alarms %d\n", alarms);
}

CASE(timeouts) {
    int p[2];
    char b, big[65536] = "";
    pair(p);
    struct timeval t = {0, 30000}, got;
    socklen_t n = sizeof got;
    CHECK(setsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
    CHECK(getsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &got, &n) == 0 && n == 16 && got.tv_sec == 0);
    int64_t start = now_ms();
    CHECK_ERRNO(recv(p[0], &b, 1, 0), EAGAIN);
    CHECK(now_ms() - start >= 25);
    CHECK(setsockopt(p[0], SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t) == 0);
    ssize_t sent = 1;
    for (int i = 0; i < 10000 && sent > 0; i++)
        sent = send(p[0], big, sizeof big, 0);
    if (sent >= 0)
        sent = send(p[0], big, sizeof big, 0);
    CHECK(sent == -1 && errno == EAGAIN);
    CHECK_ERRNO(setsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &t, 4), EINVAL);
    t.tv_usec = 2000000;
    CHECK_ERRNO(setsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t), EDOM);
    int l = listener(1);
    t = (struct timeval){0, 20000};
    CHECK(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
    CHECK_ERRNO(accept(l, NULL, NULL), EAGAIN);
    puts("done");
}

CASE(backpressure) {
    int p[2];
    pair(p);
    char b[32768];
    memset(b, 'b', sizeof b);
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    long total = 0, got = 0;
    ssize_t n;
    while ((n = write(p[0], b, sizeof b)) > 0)
        total += n;
    CHECK(n == -1 && errno == EAGAIN && total > 100000);
    CHECK((events(p[0]) & POLLOUT) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        close(p[0]);
        sleep_ms(20);
        while ((n = read(p[1], b, sizeof b)) > 0)
            got += n;
        _exit(got == total + 4 ? 0 : 1);
    }
    close(p[1]);
    struct pollfd f = {p[0], POLLOUT, 0};
    CHECK(poll(&f, 1, 10000) == 1 && f.revents == POLLOUT);
    CHECK(write(p[0], "tail", 4) == 4);
    close(p[0]);
    report("reader", child);
}

CASE(small_buffers) {
    int p[2], small = 4096;
    char bytes[4096] = {0};
    long sent = 0, n;
    pair(p);
    CHECK(setsockopt(p[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
    CHECK(setsockopt(p[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    while ((n = send(p[0], bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        sent += n;
    CHECK(errno == EAGAIN && sent >= 2304 && sent < 100000);
    CHECK(!(events(p[0]) & POLLOUT));
    struct pollfd f = {p[0], POLLOUT};
    while (poll(&f, 1, 0) == 0)
        CHECK((n = recv(p[1], bytes, sizeof bytes, 0)) > 0);
    CHECK(f.revents == POLLOUT && send(p[0], bytes, 1, MSG_DONTWAIT) == 1);
}

CASE(ports) {
    int on = 1, a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_INET, SOCK_STREAM, 0), port;
    struct sockaddr_in any = at("0.0.0.0", 0), lo;
    CHECK(bind(a, ADDR(any)) == 0);
    port = port_of(a);
    CHECK(port >= 1024);
    any = at("0.0.0.0", port), lo = at("127.0.0.1", port);
    CHECK_ERRNO(bind(b, ADDR(lo)), EADDRINUSE);
    setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    close(a);
    a = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    CHECK(bind(a, ADDR(any)) == 0 && bind(b, ADDR(lo)) == 0);
    CHECK(listen(a, 1) == 0);
    CHECK_ERRNO(listen(b, 1), EADDRINUSE);
    close(b);
    b = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    CHECK_ERRNO(bind(b, ADDR(lo)), EADDRINUSE);
    lo = at("127.0.0.2", port);
    close(a);
    CHECK(bind(b, ADDR(lo)) == 0 && listen(b, 1) == 0);
    lo = at("127.0.0.1", port);
    a = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(a, ADDR(lo)) == 0 && listen(a, 1) == 0);
    int c = socket(AF_INET, SOCK_STREAM, 0), d = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(c, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    setsockopt(d, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    lo = at("127.0.0.3", port);
    CHECK(bind(c, ADDR(lo)) == 0 && bind(d, ADDR(lo)) == 0 && listen(c, 1) == 0 && listen(d, 1) == 0);
    /* A server that restarts. */
    int l = socket(AF_INET, SOCK_STREAM, 0), p;
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    lo = at("127.0.0.1", 0);
    CHECK(bind(l, ADDR(lo)) == 0 && listen(l, 1) == 0);
    lo = at("127.0.0.1", port_of(l));
    p = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(p, ADDR(lo)) == 0);
    int s = accept(l, NULL, NULL);
    close(l);
    l = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_ERRNO(bind(l, ADDR(lo)), EADDRINUSE);
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    CHECK(bind(l, ADDR(lo)) == 0 && listen(l, 1) == 0);
    CHECK(write(s, "x", 1) == 1);
    puts("done");
}

CASE(dual_stack) {
    int l = socket(AF_INET6, SOCK_STREAM, 0), port, on = 1;
    struct sockaddr_in6 any = at6("::", 0), from;
    CHECK(bind(l, ADDR(any)) == 0 && listen(l, 4) == 0);
    port = port_of(l);
    struct sockaddr_in a = at("127.0.0.1", port);
    struct sockaddr_in6 b = at6("::1", port), m = at6("::ffff:127.0.0.1", port);
    int s = socket(AF_INET, SOCK_STREAM, 0), t = socket(AF_INET6, SOCK_STREAM, 0), u = socket(AF_INET6, SOCK_STREAM, 0);
    CHECK(connect(s, ADDR(a)) == 0 && connect(t, ADDR(b)) == 0 && connect(u, ADDR(m)) == 0);
    for (int i = 0; i < 3; i++) {
        char text[64];
        socklen_t n = sizeof from;
        int c = accept(l, (void *)&from, &n);
        CHECK(c >= 0 && n == sizeof from);
        puts(inet_ntop(AF_INET6, &from.sin6_addr, text, sizeof text));
    }
    int x = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_ERRNO(bind(x, ADDR(a)), EADDRINUSE);
    close(l);
    close(s), close(t), close(u);
    l = socket(AF_INET6, SOCK_STREAM, 0);
    CHECK(setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0);
    any = at6("::", 0);
    CHECK(bind(l, ADDR(any)) == 0 && listen(l, 4) == 0);
    CHECK_ERRNO(setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on), EINVAL);
    a = at("127.0.0.1", port_of(l));
    s = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_ERRNO(connect(s, ADDR(a)), ECONNREFUSED);
    CHECK(bind(x, ADDR(a)) == 0);
    puts("done");
}

CASE(options) {
    static const struct { int level, name, value; } rows[] = {
        {SOL_SOCKET, SO_REUSEADDR, 5}, {SOL_SOCKET, SO_KEEPALIVE, 1}, {SOL_SOCKET, SO_BROADCAST, 1},
        {SOL_SOCKET, SO_OOBINLINE, 1}, {SOL_SOCKET, SO_PRIORITY, 3}, {SOL_SOCKET, SO_SNDBUF, 9000},
        {SOL_SOCKET, SO_RCVBUF, 9000}, {SOL_SOCKET, SO_RCVBUF, 1}, {SOL_SOCKET, SO_REUSEPORT, 1},
        {IPPROTO_TCP, TCP_NODELAY, 1}, {IPPROTO_TCP, TCP_CORK, 1}, {IPPROTO_TCP, TCP_KEEPIDLE, 60},
        {IPPROTO_TCP, TCP_KEEPINTVL, 10}, {IPPROTO_TCP, TCP_KEEPCNT, 4}, {IPPROTO_TCP, TCP_SYNCNT, 3},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, 1000}, {IPPROTO_IP, IP_TOS, 16}, {IPPROTO_IP, IP_TTL, 32},
    };
    int s = socket(AF_INET, SOCK_STREAM, 0);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        int before = -1, after = -1;
        socklen_t n = sizeof before;
        getsockopt(s, rows[i].level, rows[i].name, &before, &n);
        int r = setsockopt(s, rows[i].level, rows[i].name, &rows[i].value, sizeof(int));
        getsockopt(s, rows[i].level, rows[i].name, &after, &n);
        int size = rows[i].level == SOL_SOCKET && (rows[i].name == SO_SNDBUF || rows[i].name == SO_RCVBUF);
        printf("%d %d: %d -> %d (%d, %d bytes)\n", rows[i].level, rows[i].name, size ? 0 : before, after, r, n);
    }
    int v = 0;
    socklen_t n = sizeof v;
    CHECK_ERRNO(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, 2), EINVAL);
    CHECK_ERRNO(setsockopt(s, SOL_SOCKET, SO_TYPE, &v, sizeof v), ENOPROTOOPT);
    CHECK_ERRNO(setsockopt(s, SOL_SOCKET, SO_ERROR, &v, sizeof v), ENOPROTOOPT);
    CHECK_ERRNO(setsockopt(s, SOL_SOCKET, 4000, &v, sizeof v), ENOPROTOOPT);
    CHECK_ERRNO(setsockopt(s, IPPROTO_TCP, 4000, &v, sizeof v), ENOPROTOOPT);
    CHECK_ERRNO(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, (void *)8, 4), EFAULT);
    CHECK_ERRNO(getsockopt(s, SOL_SOCKET, 4000, &v, &n), ENOPROTOOPT);
    v = 70000;
    CHECK_ERRNO(setsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, &v, sizeof v), EINVAL);
    n = 2;
    CHECK(getsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, &n) == 0 && n == 2);
    n = -1;
    CHECK_ERRNO(getsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, &n), EINVAL);
    n = sizeof v;
    CHECK(getsockopt(s, SOL_SOCKET, SO_ACCEPTCONN, &v, &n) == 0 && v == 0);
    CHECK(getsockopt(listener(1), SOL_SOCKET, SO_ACCEPTCONN, &v, &n) == 0 && v == 1);
    struct linger l;
    n = sizeof l;
    CHECK(getsockopt(s, SOL_SOCKET, SO_LINGER, &l, &n) == 0 && n == 8 && l.l_onoff == 0);
    int p[2];
    pair(p);
    struct tcp_info info;
    n = sizeof info;
    CHECK(getsockopt(p[0], IPPROTO_TCP, TCP_INFO, &info, &n) == 0 && info.tcpi_state == TCP_ESTABLISHED);
    char name[16];
    n = sizeof name;
    CHECK(getsockopt(p[0], IPPROTO_TCP, TCP_CONGESTION, name, &n) == 0 && n == 16);
    CHECK(getsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, name, &n) == 0 && n == 0);
    CHECK(setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "", 0) == 0 && setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "", 1) == 0);
    CHECK_ERRNO(setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "nosuch", 7), ENODEV);
    puts("done");
}

CASE(accepted_inherit) {
    int l = socket(AF_INET, SOCK_STREAM, 0), on = 1, v = 0;
    struct sockaddr_in a = at("127.0.0.1", 0);
    socklen_t n = sizeof v;
    setsockopt(l, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(l, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    fcntl(l, F_SETFL, O_NONBLOCK);
    CHECK(bind(l, ADDR(a)) == 0 && listen(l, 1) == 0);
    CHECK_ERRNO(accept(l, NULL, NULL), EAGAIN);
    a = at("127.0.0.1", port_of(l));
    int c = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(c, ADDR(a)) == 0);
    int s = accept(l, NULL, NULL);
    CHECK(s >= 0 && (fcntl(s, F_GETFL) & O_NONBLOCK) == 0);
    CHECK(getsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, &n) == 0 && v == 1);
    CHECK(getsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, &n) == 0 && v == 1);
    puts("done");
}

CASE(listener_ends) {
    int l = listener(3);
    struct sockaddr_in a = at("127.0.0.1", port_of(l));
    int c = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(c, ADDR(a)) == 0);
    close(l);
    char b;
    sleep_ms(5);
    CHECK_ERRNO(recv(c, &b, 1, 0), ECONNRESET);
    l = listener(3);
    pid_t child = fork_clean();
    if (child == 0) {
        sleep_ms(30);
        shutdown(l, SHUT_RD);
        _exit(0);
    }
    CHECK_ERRNO(accept(l, NULL, NULL), EINVAL);
    report("child", child);
    CHECK(listen(l, 1) == 0);
    puts("done");
}

CASE(backlog) {
    int l = listener(1);
    struct sockaddr_in a = at("127.0.0.1", port_of(l));
    int c[8], connected = 0;
    for (int i = 0; i < 8; i++) {
        c[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        CHECK_ERRNO(connect(c[i], ADDR(a)), EINPROGRESS);
    }
    sleep_ms(20);
    for (int i = 0; i < 8; i++)
        connected += (events(c[i]) & POLLOUT) != 0;
    CHECK(connected == 2);
    /* Everybody gets in once there is room. */
    for (int i = 0; i < 2; i++)
        CHECK(accept(l, NULL, NULL) >= 0);
    struct pollfd f = {l, POLLIN, 0};
    CHECK(poll(&f, 1, 10000) == 1);
    puts("done");
}

/* A client that found the backlog full and gave up is nobody's any more, whatever its socket does next. */
CASE(clients_that_gave_up) {
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    for (int closes = 0; closes < 2; closes++) {
        int full = listener(0), good = listener(5), c[3];
        struct sockaddr_in a = at("127.0.0.1", port_of(full)), b = at("127.0.0.1", port_of(good));
        for (int i = 0; i < 3; i++) {
            c[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            CHECK_ERRNO(connect(c[i], ADDR(a)), EINPROGRESS);
            if (i == 0)
                CHECK(comes(c[0], POLLOUT));
            else
                CHECK(events(c[i]) == 0 && connect(c[i], &none, sizeof none) == 0);
        }
        CHECK_ERRNO(connect(c[1], ADDR(b)), EINPROGRESS);
        CHECK(comes(c[1], POLLOUT));
        CHECK(listen(c[2], 5) == 0);
        b.sin_port = htons(port_of(c[2]));
        int other = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(other, ADDR(b)) == 0);
        if (closes) {
            close(full);
        } else {
            CHECK(fcntl(full, F_SETFL, O_NONBLOCK) == 0 && accept(full, NULL, NULL) >= 0);
            CHECK_ERRNO(accept(full, NULL, NULL), EAGAIN);
        }
        int s = accept(good, NULL, NULL), t = accept(c[2], NULL, NULL);
        char text[10];
        CHECK(s >= 0 && t >= 0 && send(c[1], "good", 4, 0) == 4 && send(other, "well", 4, 0) == 4);
        CHECK(recv(s, text, 4, MSG_WAITALL) == 4 && memcmp(text, "good", 4) == 0);
        CHECK(recv(t, text, 4, MSG_WAITALL) == 4 && memcmp(text, "well", 4) == 0);
        close(good), close(s), close(t), close(other);
        for (int i = 0; i < 3; i++)
            close(c[i]);
    }
}

/* Who still waits gets in, however many have left before, and as soon as the backlog is longer. */
CASE(clients_that_still_wait) {
    enum { LEFT = 20 };
    int l = listener(0), c[LEFT + 3];
    struct sockaddr_in a = at("127.0.0.1", port_of(l));
    for (int i = 0; i < LEFT + 3; i++) {
        c[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (i == LEFT + 2)
            CHECK(accept(l, NULL, NULL) >= 0 && comes(l, POLLIN) && comes(c[i - 1], POLLOUT));
        CHECK_ERRNO(connect(c[i], ADDR(a)), EINPROGRESS);
        if (i == 0)
            CHECK(comes(c[i], POLLOUT));
        else if (i <= LEFT)
            close(c[i]);
    }
    CHECK(events(c[LEFT + 2]) == 0 && listen(l, 1) == 0 && comes(c[LEFT + 2], POLLOUT));
    CHECK(accept(l, NULL, NULL) >= 0 && accept(l, NULL, NULL) >= 0 && events(l) == 0);
}

CASE(datagrams) {
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0), n = 0;
    struct sockaddr_in lo = at("127.0.0.1", 0), from;
    socklen_t len = sizeof from;
    CHECK(bind(a, ADDR(lo)) == 0);
    lo = at("127.0.0.1", port_of(a));
    CHECK(events(a) == POLLOUT);
    CHECK(sendto(b, "one", 3, 0, ADDR(lo)) == 3 && sendto(b, "", 0, 0, ADDR(lo)) == 0 && sendto(b, "three", 5, 0, ADDR(lo)) == 5);
    char text[8] = "";
    CHECK(ioctl(a, FIONREAD, &n) == 0 && n == 3);
    CHECK(recvfrom(a, text, 2, MSG_PEEK | MSG_TRUNC, (void *)&from, &len) == 3 && len == 16);
    CHECK(from.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && ntohs(from.sin_port) == port_of(b));
    CHECK(recv(a, text, 8, 0) == 3 && recv(a, text, 8, 0) == 0);
    struct iovec v = {text, 2};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_name = &from, .msg_namelen = sizeof from};
    CHECK(recvmsg(a, &m, 0) == 2 && m.msg_flags == MSG_TRUNC && m.msg_namelen == 16 && memcmp(text, "th", 2) == 0);
    CHECK_ERRNO(recv(a, text, 8, MSG_DONTWAIT), EAGAIN);
    CHECK_ERRNO(listen(a, 1), EOPNOTSUPP);
    CHECK_ERRNO(accept(a, NULL, NULL), EOPNOTSUPP);
    char *big = calloc(1, 70000);
    CHECK_ERRNO(sendto(b, big, 65508, 0, ADDR(lo)), EMSGSIZE);
    CHECK(sendto(b, big, 60000, 0, ADDR(lo)) == 60000 && recv(a, big, 70000, 0) == 60000);
    /* Connected: only the peer is heard, and nobody at the other end is an error. */
    int c = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(connect(c, ADDR(lo)) == 0 && send(c, "hi", 2, 0) == 2 && recvfrom(a, text, 8, 0, (void *)&from, &len) == 2);
    CHECK(sendto(b, "no", 2, 0, ADDR(from)) == 2 && sendto(a, "yes", 3, 0, ADDR(from)) == 3);
    CHECK(recv(c, text, 8, 0) == 3 && memcmp(text, "yes", 3) == 0);
    close(a);
    CHECK(send(c, "x", 1, 0) == 1);
    sleep_ms(2);
    CHECK_ERRNO(recv(c, text, 8, MSG_DONTWAIT), ECONNREFUSED);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    CHECK(connect(c, &none, sizeof none) == 0);
    CHECK_ERRNO(send(c, "x", 1, 0), EDESTADDRREQ);
    lo = at("255.255.255.255", 9);
    CHECK_ERRNO(sendto(b, "x", 1, 0, ADDR(lo)), EACCES);
    puts("done");
}

CASE(many_messages) {
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in lo = at("127.0.0.1", 0);
    bind(a, ADDR(lo));
    lo = at("127.0.0.1", port_of(a));
    connect(b, ADDR(lo));
    struct mmsghdr m[5];
    struct iovec v[5];
    char text[5][8];
    memset(m, 0, sizeof m);
    for (int i = 0; i < 5; i++) {
        v[i] = (struct iovec){text[i], i + 1};
        memset(text[i], 'a' + i, 8);
        m[i].msg_hdr.msg_iov = &v[i], m[i].msg_hdr.msg_iovlen = 1;
    }
    CHECK(sendmmsg(b, m, 4, 0) == 4 && m[3].msg_len == 4);
    for (int i = 0; i < 5; i++)
        v[i].iov_len = 8;
    CHECK(recvmmsg(a, m, 5, MSG_WAITFORONE, NULL) == 4 && m[2].msg_len == 3 && text[2][2] == 'c');
    CHECK_ERRNO(recvmmsg(a, m, 5, MSG_DONTWAIT, NULL), EAGAIN);
    struct timespec t = {0, 20000000};
    CHECK(sendmmsg(b, m, 1, 0) == 1 && recvmmsg(a, m, 1, 0, &t) == 1);
    pid_t child = fork_clean();
    if (child == 0) {
        sendmmsg(b, m, 1, 0);
        sleep_ms(30);
        sendmmsg(b, m, 1, 0);
        _exit(0);
    }
    CHECK(recvmmsg(a, m, 2, 0, NULL) == 2);
    report("sender", child);
    puts("done");
}

CASE(datagrams6) {
    int a = socket(AF_INET6, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET6, SOCK_DGRAM, 0);
    struct sockaddr_in6 any = at6("::", 0), from;
    CHECK(bind(a, ADDR(any)) == 0);
    struct sockaddr_in lo = at("127.0.0.1", port_of(a));
    struct sockaddr_in6 lo6 = at6("::1", port_of(a));
    CHECK(sendto(b, "4", 1, 0, ADDR(lo)) == 1 && sendto(c, "6", 1, 0, ADDR(lo6)) == 1);
    for (int i = 0; i < 2; i++) {
        char text[64], t;
        socklen_t n = sizeof from;
        CHECK(recvfrom(a, &t, 1, 0, (void *)&from, &n) == 1 && n == sizeof from);
        printf("%c %s\n", t, inet_ntop(AF_INET6, &from.sin6_addr, text, sizeof text));
    }
    puts("done");
}

/* Sends one datagram with control data and prints what control data came with it. */
static void tell(int from, int to, struct cmsghdr *control, size_t size, size_t room) {
    char byte = 'x', space[256];
    struct iovec v = {&byte, 1};
    struct msghdr out = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = size};
    CHECK(sendmsg(from, &out, 0) == 1);
    struct msghdr in = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = room};
    CHECK(recvmsg(to, &in, 0) == 1);
    printf("flags %#x, %zu bytes:", in.msg_flags, in.msg_controllen);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&in); c != NULL; c = CMSG_NXTHDR(&in, c)) {
        printf(" [%d %d:", c->cmsg_level, c->cmsg_type);
        for (size_t i = 0; i < c->cmsg_len - sizeof *c; i++)
            printf(" %d", CMSG_DATA(c)[i]);
        printf("]");
    }
    printf("\n");
}
static struct cmsghdr *control(char *b, int level, int type, const void *data, size_t n) {
    struct cmsghdr *c = (void *)b;
    *c = (struct cmsghdr){.cmsg_level = level, .cmsg_type = type, .cmsg_len = CMSG_LEN(n)};
    memcpy(CMSG_DATA(c), data, n);
    return c;
}
static void connected_datagrams(int family, int protocol, int p[2]) {
    struct sockaddr_in6 a6 = at6("::1", 0);
    struct sockaddr_in a4 = at("127.0.0.1", 0);
    for (int i = 0; i < 2; i++) {
        p[i] = socket(family, SOCK_DGRAM, protocol);
        CHECK(family == AF_INET ? bind(p[i], ADDR(a4)) == 0 : bind(p[i], ADDR(a6)) == 0);
    }
    (family == AF_INET ? &a4.sin_port : &a6.sin6_port)[0] = htons(port_of(p[1]));
    CHECK(family == AF_INET ? connect(p[0], ADDR(a4)) == 0 : connect(p[0], ADDR(a6)) == 0);
}
static void set_number(int s, int level, int name, int value) {
    CHECK(setsockopt(s, level, name, &value, sizeof value) == 0);
}

CASE(packet_information) {
    int p[2], value = 77, wrong = 300;
    char b[64];
    connected_datagrams(AF_INET6, 0, p);
    tell(p[0], p[1], NULL, 0, 256);
    set_number(p[1], IPPROTO_IPV6, 51, 1); /* IPV6_RECVHOPLIMIT */
    set_number(p[1], IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    set_number(p[1], IPPROTO_IPV6, 49, 1); /* IPV6_RECVPKTINFO */
    tell(p[0], p[1], NULL, 0, 256);
    for (size_t room = 0; room < 112; room += 7)
        tell(p[0], p[1], control(b, IPPROTO_IPV6, IPV6_TCLASS, &value, 4), CMSG_SPACE(4), room);
    set_number(p[0], IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9);
    tell(p[0], p[1], control(b, IPPROTO_IPV6, 52, &value, 4), CMSG_SPACE(4), 256);
    tell(p[0], p[1], NULL, 0, 256);
    struct iovec v = {b, 1};
    struct msghdr bad = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control(b, IPPROTO_IPV6, 52, &wrong, 4)};
    bad.msg_controllen = CMSG_SPACE(4);
    CHECK_ERRNO(sendmsg(p[0], &bad, 0), EINVAL);
    connected_datagrams(AF_INET, 0, p);
    set_number(p[1], IPPROTO_IP, IP_RECVTTL, 1);
    set_number(p[1], IPPROTO_IP, IP_RECVTOS, 1);
    set_number(p[1], IPPROTO_IP, IP_PKTINFO, 1);
    tell(p[0], p[1], NULL, 0, 256);
    tell(p[0], p[1], control(b, IPPROTO_IP, IP_TTL, &value, 4), CMSG_SPACE(4), 256);
}

CASE(udp_lite) {
    int p[2], s = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE), value = 3;
    if (s < 0 && errno == EPROTONOSUPPORT)
        return; /* a kernel without it */
    socklen_t n = sizeof value;
    CHECK(setsockopt(s, IPPROTO_UDPLITE, 10, &value, n) == 0 && getsockopt(s, IPPROTO_UDPLITE, 10, &value, &n) == 0);
    CHECK(value == 8);
    CHECK(getsockopt(s, SOL_SOCKET, SO_PROTOCOL, &value, &n) == 0 && value == IPPROTO_UDPLITE);
    CHECK_ERRNO(setsockopt(socket(AF_INET, SOCK_DGRAM, 0), IPPROTO_UDPLITE, 10, &value, n), ENOPROTOOPT);
    for (int family = AF_INET; family; family = family == AF_INET ? AF_INET6 : 0) {
        char b[8];
        connected_datagrams(family, IPPROTO_UDPLITE, p);
        /* Ports of UDP are others. */
        struct sockaddr_in a = at("127.0.0.1", port_of(p[1]));
        CHECK(family == AF_INET6 || bind(socket(AF_INET, SOCK_DGRAM, 0), ADDR(a)) == 0);
        CHECK(send(p[0], "light", 5, 0) == 5 && recv(p[1], b, sizeof b, 0) == 5 && memcmp(b, "light", 5) == 0);
    }
}

CASE(epoll_edges) {
    int p[2], e = epoll_create1(0);
    pair(p);
    struct epoll_event v = {.events = EPOLLIN | EPOLLET}, got[4];
    CHECK(epoll_ctl(e, EPOLL_CTL_ADD, p[1], &v) == 0 && epoll_wait(e, got, 4, 0) == 0);
    write(p[0], "ab", 2);
    CHECK(epoll_wait(e, got, 4, 1000) == 1 && got[0].events == EPOLLIN && epoll_wait(e, got, 4, 0) == 0);
    write(p[0], "c", 1);
    CHECK(epoll_wait(e, got, 4, 1000) == 1 && epoll_wait(e, got, 4, 0) == 0);
    v.events = EPOLLIN | EPOLLONESHOT;
    CHECK(epoll_ctl(e, EPOLL_CTL_MOD, p[1], &v) == 0);
    CHECK(epoll_wait(e, got, 4, 1000) == 1 && epoll_wait(e, got, 4, 0) == 0);
    v.events = EPOLLIN | EPOLLRDHUP;
    CHECK(epoll_ctl(e, EPOLL_CTL_MOD, p[1], &v) == 0);
    shutdown(p[0], SHUT_WR);
    CHECK(epoll_wait(e, got, 4, 1000) == 1 && got[0].events == (EPOLLIN | EPOLLRDHUP));
    close(p[1]);
    CHECK(epoll_wait(e, got, 4, 0) == 0);
    int l = listener(4);
    v.events = EPOLLIN;
    CHECK(epoll_ctl(e, EPOLL_CTL_ADD, l, &v) == 0 && epoll_wait(e, got, 4, 0) == 0);
    struct sockaddr_in a = at("127.0.0.1", port_of(l));
    CHECK(connect(socket(AF_INET, SOCK_STREAM, 0), ADDR(a)) == 0);
    CHECK(epoll_wait(e, got, 4, 1000) == 1 && accept(l, NULL, NULL) >= 0 && epoll_wait(e, got, 4, 0) == 0);
    puts("done");
}

CASE(shared_by_fork) {
    int l = listener(8);
    struct sockaddr_in a = at("127.0.0.1", port_of(l));
    pid_t children[3];
    for (int i = 0; i < 3; i++) {
        children[i] = fork_clean();
        if (children[i] == 0) {
            int s = accept(l, NULL, NULL);
            char b[16];
            ssize_t n = read(s, b, sizeof b);
            write(s, b, n);
            _exit(s < 0);
        }
    }
    for (int i = 0; i < 3; i++) {
        int c = socket(AF_INET, SOCK_STREAM, 0);
        char b[16] = "";
        CHECK(connect(c, ADDR(a)) == 0 && write(c, "echo", 4) == 4 && read(c, b, 16) == 4 && memcmp(b, "echo", 4) == 0);
        CHECK(read(c, b, 1) == 0);
        close(c);
    }
    for (int i = 0; i < 3; i++)
        report("server", children[i]);
}

CASE(files_to_sockets) {
    char name[] = "/tmp/net-XXXXXX", b[8192];
    int f = mkstemp(name), p[2];
    unlink(name);
    for (int i = 0; i < 1000; i++)
        write(f, "0123456789abcdef", 16);
    pair(p);
    off_t off = 8;
    pid_t child = fork_clean();
    if (child == 0) {
        close(p[0]);
        long n, total = 0;
        while ((n = read(p[1], b, sizeof b)) > 0)
            total += n;
        _exit(total == 15992 ? 0 : 1);
    }
    CHECK(sendfile(p[0], f, &off, 1 << 20) == 15992 && off == 16000);
    close(p[0]);
    close(p[1]);
    report("reader", child);
}

static void *echo(void *arg) {
    int s = (int)(long)arg;
    char b[4096];
    ssize_t n;
    while ((n = read(s, b, sizeof b)) > 0)
        for (ssize_t at = 0; at < n; at += write(s, b + at, n - at))
            ;
    close(s);
    return NULL;
}
CASE(threads) {
    int l = listener(32);
    struct sockaddr_in a = at("127.0.0.1", port_of(l));
    int c[16];
    pthread_t t[16];
    for (int i = 0; i < 16; i++) {
        c[i] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(c[i], ADDR(a)) == 0);
        pthread_create(&t[i], NULL, echo, (void *)(long)accept(l, NULL, NULL));
    }
    for (int round = 0; round < 20; round++)
        for (int i = 0; i < 16; i++) {
            char b[512], back[512];
            memset(b, round * 16 + i, sizeof b);
            CHECK(write(c[i], b, sizeof b) == sizeof b);
            CHECK(recv(c[i], back, sizeof back, MSG_WAITALL) == sizeof back && memcmp(b, back, sizeof b) == 0);
        }
    for (int i = 0; i < 16; i++) {
        close(c[i]);
        pthread_join(t[i], NULL);
    }
    puts("done");
}

CASE(interfaces) {
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq r = {0};
    strcpy(r.ifr_name, "lo");
    CHECK(ioctl(s, SIOCGIFFLAGS, &r) == 0 && r.ifr_flags == (IFF_UP | IFF_LOOPBACK | IFF_RUNNING));
    CHECK(ioctl(s, SIOCGIFADDR, &r) == 0 && ((struct sockaddr_in *)&r.ifr_addr)->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    CHECK(ioctl(s, SIOCGIFNETMASK, &r) == 0 && ((struct sockaddr_in *)&r.ifr_addr)->sin_addr.s_addr == htonl(0xff000000));
    CHECK(ioctl(s, SIOCGIFMTU, &r) == 0 && r.ifr_mtu == 65536);
    CHECK(ioctl(s, SIOCGIFINDEX, &r) == 0 && r.ifr_ifindex == 1);
    CHECK(ioctl(s, SIOCGIFNAME, &r) == 0 && strcmp(r.ifr_name, "lo") == 0);
    strcpy(r.ifr_name, "none0");
    CHECK_ERRNO(ioctl(s, SIOCGIFADDR, &r), ENODEV);
    struct ifconf c = {0};
    struct ifreq list[16];
    c.ifc_len = sizeof list, c.ifc_req = list;
    CHECK(ioctl(s, SIOCGIFCONF, &c) == 0 && c.ifc_len >= (int)sizeof *list && strcmp(list[0].ifr_name, "lo") == 0);
    CHECK_ERRNO(ioctl(s, SIOCGIFCONF, 8), EFAULT);
    CHECK(if_nametoindex("lo") == 1);
    puts("done");
}

CASE(addresses) {
    struct ifaddrs *list;
    CHECK(getifaddrs(&list) == 0);
    for (struct ifaddrs *i = list; i; i = i->ifa_next) {
        char text[64] = "";
        if (!i->ifa_addr || strcmp(i->ifa_name, "lo") != 0)
            continue;
        if (i->ifa_addr->sa_family == AF_INET)
            inet_ntop(AF_INET, &((struct sockaddr_in *)i->ifa_addr)->sin_addr, text, sizeof text);
        if (i->ifa_addr->sa_family == AF_INET6)
            inet_ntop(AF_INET6, &((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr, text, sizeof text);
        printf("%s %d %s\n", i->ifa_name, i->ifa_addr->sa_family, text);
    }
    freeifaddrs(list);
}

CASE(netlink) {
    int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct sockaddr_nl a = {.nl_family = AF_NETLINK};
    socklen_t n = sizeof a;
    CHECK(s >= 0 && bind(s, ADDR(a)) == 0);
    CHECK(getsockname(s, (void *)&a, &n) == 0 && n == sizeof a && a.nl_pid != 0);
    /* The process's own id is taken. */
    int other = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    a.nl_pid = 0;
    CHECK(bind(other, ADDR(a)) == 0 && getsockname(other, (void *)&a, &n) == 0);
    CHECK((int)a.nl_pid < -4096);
    struct { struct nlmsghdr h; struct rtgenmsg g; } q = {{sizeof q, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 77, 0}, {0}};
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    CHECK(sendto(s, &q, sizeof q, 0, ADDR(kernel)) == sizeof q);
    char b[65536];
    int done = 0, links = 0;
    while (!done) {
        ssize_t got = recv(s, b, sizeof b, 0);
        CHECK(got > 0);
        if (got <= 0)
            break;
        for (struct nlmsghdr *h = (void *)b; NLMSG_OK(h, got); h = NLMSG_NEXT(h, got)) {
            CHECK(h->nlmsg_seq == 77);
            done |= h->nlmsg_type == NLMSG_DONE;
            links += h->nlmsg_type == RTM_NEWLINK;
        }
    }
    CHECK(links >= 1);
    CHECK_ERRNO(recv(s, b, sizeof b, MSG_DONTWAIT), EAGAIN);
    q.h.nlmsg_type = RTM_NEWROUTE, q.h.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    CHECK(send(s, &q, 7, 0) == 7 || errno == EINVAL);
    CHECK_ERRNO(listen(s, 1), EOPNOTSUPP);
    CHECK_ERRNO(socket(AF_NETLINK, SOCK_STREAM, 0), ESOCKTNOSUPPORT);
    puts("done");
}

/* The answer of a dump for one socket, known by its inode: 0 where it is not told, else the length of its message. */
static int diag(void *request, int size, int type, int fd, void *message, int most) {
    int s = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_SOCK_DIAG), found = 0;
    struct stat st;
    CHECK(s >= 0 && fstat(fd, &st) == 0);
    struct { struct nlmsghdr h; char body[100]; } q = {{sizeof q.h + size, type, NLM_F_REQUEST | NLM_F_DUMP, 5, 0}};
    memcpy(q.body, request, size);
    CHECK(send(s, &q, q.h.nlmsg_len, 0) == q.h.nlmsg_len);
    static char b[1 << 16];
    for (int done = 0; !done;) {
        ssize_t got = recv(s, b, sizeof b, 0);
        CHECK(got > 0);
        if (got <= 0)
            break;
        for (struct nlmsghdr *h = (void *)b; NLMSG_OK(h, got); h = NLMSG_NEXT(h, got)) {
            CHECK(h->nlmsg_seq == 5);
            if (h->nlmsg_type == NLMSG_ERROR) {
                found = ((struct nlmsgerr *)NLMSG_DATA(h))->error;
                done = 1;
                continue;
            }
            if (h->nlmsg_type == NLMSG_DONE) {
                int error = *(int *)NLMSG_DATA(h);
                found = error < 0 ? error : found;
                done = 1;
                continue;
            }
            unsigned inode = *((char *)NLMSG_DATA(h)) == AF_UNIX ? ((struct unix_diag_msg *)NLMSG_DATA(h))->udiag_ino
                                                                 : ((struct inet_diag_msg *)NLMSG_DATA(h))->idiag_inode;
            if (h->nlmsg_type == SOCK_DIAG_BY_FAMILY && inode == st.st_ino) {
                found = h->nlmsg_len - sizeof *h;
                memcpy(message, NLMSG_DATA(h), found < most ? found : most);
            }
        }
    }
    close(s);
    return found;
}
static void *attribute(void *message, int len, int head, int type) {
    for (struct rtattr *a = (void *)((char *)message + head); (len -= head) > 0 && RTA_OK(a, len); head = 0, a = RTA_NEXT(a, len))
        if (a->rta_type == type)
            return RTA_DATA(a);
    return NULL;
}
static void show_inet(const char *what, int family, int protocol, int states, int fd) {
    char b[1000];
    struct inet_diag_req_v2 q = {.sdiag_family = family, .sdiag_protocol = protocol, .idiag_states = states};
    int len = diag(&q, sizeof q, SOCK_DIAG_BY_FAMILY, fd, b, sizeof b);
    if (len <= 0) {
        printf("%s: not told: %s\n", what, len ? strerrorname_of(-len) : "nothing");
        return;
    }
    struct inet_diag_msg *m = (void *)b;
    char from[64], to[64];
    inet_ntop(family, m->id.idiag_src, from, sizeof from), inet_ntop(family, m->id.idiag_dst, to, sizeof to);
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    CHECK(getsockname(fd, (void *)&a, &n) == 0 && ((struct sockaddr_in *)&a)->sin_port == m->id.idiag_sport);
    n = sizeof a;
    int port = getpeername(fd, (void *)&a, &n) == 0 ? ((struct sockaddr_in *)&a)->sin_port : 0;
    CHECK(port == m->id.idiag_dport && m->idiag_uid == getuid() && m->id.idiag_cookie[0] != INET_DIAG_NOCOOKIE);
    char *only6 = attribute(b, len, sizeof *m, INET_DIAG_SKV6ONLY);
    printf("%s: family %d state %d %s %s queues %u %u v6only %d\n", what, m->idiag_family, m->idiag_state, from, to, m->idiag_rqueue,
           m->idiag_wqueue, only6 ? *only6 : -1);
}
static void show_unix(const char *what, int states, int fd, int peer) {
    char b[1000];
    struct unix_diag_req q = {.sdiag_family = AF_UNIX, .udiag_states = states, .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN};
    int len = diag(&q, sizeof q, SOCK_DIAG_BY_FAMILY, fd, b, sizeof b);
    if (len <= 0) {
        printf("%s: not told\n", what);
        return;
    }
    struct unix_diag_msg *m = (void *)b;
    struct stat st = {0};
    if (peer >= 0)
        CHECK(fstat(peer, &st) == 0);
    unsigned *other = attribute(b, len, sizeof *m, UNIX_DIAG_PEER);
    struct unix_diag_rqlen *queues = attribute(b, len, sizeof *m, UNIX_DIAG_RQLEN);
    char *name = attribute(b, len, sizeof *m, UNIX_DIAG_NAME), *shut = attribute(b, len, sizeof *m, UNIX_DIAG_SHUTDOWN);
    CHECK((other ? *other : 0) == st.st_ino && queues && shut);
    printf("%s: type %d state %d name %s queues %u shut %d\n", what, m->udiag_type, m->udiag_state, name ? *name ? name : name + 1 : "-",
           queues ? queues->udiag_rqueue : 0, shut ? *shut : -1);
}

CASE(sock_diag) {
    enum { ALL = 0xfff, LISTENERS = 1 << 10 };
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6};
    socklen_t n = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0), l6 = socket(AF_INET6, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    show_inet("new", AF_INET, IPPROTO_TCP, ALL, l);
    CHECK(bind(l, ADDR(a)) == 0 && listen(l, 7) == 0 && getsockname(l, (void *)&a, &n) == 0);
    CHECK(bind(l6, ADDR(a6)) == 0 && listen(l6, 3) == 0);
    show_inet("listener", AF_INET, IPPROTO_TCP, ALL, l);
    show_inet("of both", AF_INET6, IPPROTO_TCP, LISTENERS, l6);
    show_inet("of another family", AF_INET, IPPROTO_TCP, ALL, l6);
    close(l6), l6 = socket(AF_INET6, SOCK_STREAM, 0);
    CHECK(setsockopt(l6, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) == 0 && bind(l6, ADDR(a6)) == 0 && listen(l6, 3) == 0);
    show_inet("IPv6 only", AF_INET6, IPPROTO_TCP, ALL, l6);
    CHECK(connect(c, ADDR(a)) == 0);
    show_inet("with one that waits", AF_INET, IPPROTO_TCP, ALL, l);
    int s = accept(l, NULL, NULL);
    CHECK(write(c, "abc", 3) == 3 && recv(s, &n, 1, MSG_PEEK) == 1);
    show_inet("server", AF_INET, IPPROTO_TCP, ALL, s);
    show_inet("client", AF_INET, IPPROTO_TCP, 1 << 1, c);
    show_inet("no listener", AF_INET, IPPROTO_TCP, LISTENERS, c);
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    a.sin_port = 0;
    CHECK(bind(u, ADDR(a)) == 0);
    show_inet("datagrams", AF_INET, IPPROTO_UDP, ALL, u);
    n = sizeof a;
    CHECK(getsockname(u, (void *)&a, &n) == 0 && connect(u, ADDR(a)) == 0);
    show_inet("connected", AF_INET, IPPROTO_UDP, ALL, u);
    show_inet("not TCP", AF_INET, IPPROTO_TCP, ALL, u);
    show_inet("no such protocol", AF_INET, 200, ALL, u);
    show_inet("no such family", 200, IPPROTO_TCP, ALL, u);
    /* Local ones. */
    int p[2], x = socket(AF_UNIX, SOCK_STREAM, 0), y = socket(AF_UNIX, SOCK_STREAM, 0), d = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
    show_unix("pair", ALL, p[0], p[1]);
    CHECK(write(p[1], "hello", 5) == 5 && shutdown(p[1], SHUT_WR) == 0);
    show_unix("with bytes", ALL, p[0], p[1]);
    show_unix("new", ALL, x, -1);
    struct sockaddr_un name = {AF_UNIX, "\0sock_diag case"};
    CHECK(bind(x, ADDR(name)) == 0 && listen(x, 5) == 0);
    show_unix("listener", LISTENERS, x, -1);
    CHECK(connect(y, ADDR(name)) == 0);
    show_unix("with one that waits", ALL, x, -1);
    show_unix("no listener", LISTENERS, y, -1);
    show_unix("datagrams", ALL, d, -1);
    /* What nobody knows. */
    int e = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
    struct { struct nlmsghdr h; char body[60]; } q = {{sizeof q, 99, NLM_F_REQUEST | NLM_F_DUMP, 6, 0}};
    struct { struct nlmsghdr h; struct nlmsgerr e; char rest[200]; } r;
    CHECK(send(e, &q, sizeof q, 0) == sizeof q && recv(e, &r, sizeof r, 0) > 0);
    printf("unknown: %d %s\n", r.h.nlmsg_type, strerrorname_of(-r.e.error));
    q.h.nlmsg_type = SOCK_DIAG_BY_FAMILY, q.body[0] = AF_INET, q.h.nlmsg_len = sizeof q.h + 20;
    CHECK(send(e, &q, q.h.nlmsg_len, 0) == q.h.nlmsg_len && recv(e, &r, sizeof r, 0) > 0);
    printf("too short: %d %s\n", r.h.nlmsg_type, strerrorname_of(-r.e.error));
}

/* One dump at a time, and no more answers than SO_RCVBUF has room for. */
CASE(netlink_limits) {
    struct rlimit most = {2100, 2100};
    CHECK(setrlimit(RLIMIT_NOFILE, &most) == 0);
    for (int i = 0; i < 2000; i++)
        CHECK(socket(AF_UNIX, SOCK_DGRAM, 0) >= 0);
    int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG), found = 0, busy = 0, done = 0;
    struct { struct nlmsghdr h; struct unix_diag_req u; } q[2] = {};
    for (int i = 0; i < 2; i++) {
        q[i].h = (struct nlmsghdr){sizeof q[i], SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, i, 0};
        q[i].u = (struct unix_diag_req){.sdiag_family = AF_UNIX, .udiag_states = -1, .udiag_show = UDIAG_SHOW_RQLEN};
    }
    CHECK(send(s, q, sizeof q, 0) == sizeof q);
    static char b[1 << 16];
    while (!done) {
        ssize_t got = recv(s, b, sizeof b, 0);
        CHECK(got > 0);
        if (got <= 0)
            break;
        for (struct nlmsghdr *h = (void *)b; NLMSG_OK(h, got); h = NLMSG_NEXT(h, got)) {
            found += h->nlmsg_type == SOCK_DIAG_BY_FAMILY && h->nlmsg_seq == 0;
            done |= h->nlmsg_type == NLMSG_DONE;
            if (h->nlmsg_type == NLMSG_ERROR && h->nlmsg_seq == 1)
                busy = -((struct nlmsgerr *)NLMSG_DATA(h))->error;
        }
    }
    CHECK(found >= 2000);
    printf("the second: %s\n", strerrorname_of(busy));
    CHECK_ERRNO(recv(s, b, sizeof b, MSG_DONTWAIT), EAGAIN);
    /* Done: another one may begin. */
    CHECK(send(s, q, sizeof q[0], 0) == sizeof q[0] && recv(s, b, sizeof b, 0) > 0 && ((struct nlmsghdr *)b)->nlmsg_type == SOCK_DIAG_BY_FAMILY);
    close(s);
    /* Errors that nobody takes. */
    s = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
    struct nlmsghdr *h = (void *)b;
    *h = (struct nlmsghdr){sizeof b, 99, NLM_F_REQUEST, 3, 0};
    for (int i = 0; i < 20; i++)
        CHECK(send(s, b, sizeof b, 0) == sizeof b);
    struct pollfd p = {s, POLLIN, 0};
    CHECK(poll(&p, 1, 0) == 1);
    printf("poll %x\n", p.revents);
    CHECK_ERRNO(recv(s, b, sizeof b, 0), ENOBUFS);
    int got = 0;
    while (recv(s, b, sizeof b, MSG_DONTWAIT) > 0)
        got++;
    CHECK(errno == EAGAIN && got >= 1 && got <= 4);
    *h = (struct nlmsghdr){1000, 99, NLM_F_REQUEST, 3, 0};
    CHECK(send(s, b, 1000, 0) == 1000);
    printf("then %zd", recv(s, b, sizeof b, MSG_DONTWAIT));
    printf(" flags %x", h->nlmsg_flags);
    int one = 1;
    CHECK(setsockopt(s, 270, NETLINK_CAP_ACK, &one, sizeof one) == 0);
    *h = (struct nlmsghdr){1000, 99, NLM_F_REQUEST, 3, 0};
    CHECK(send(s, b, 1000, 0) == 1000);
    printf(", capped %zd", recv(s, b, sizeof b, MSG_DONTWAIT));
    printf(" flags %x\n", h->nlmsg_flags);
    CHECK(setsockopt(s, 270, NETLINK_NO_ENOBUFS, &one, sizeof one) == 0);
    int least = 1;
    CHECK(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &least, sizeof least) == 0);
    for (int i = 0; i < 20; i++) {
        *h = (struct nlmsghdr){1000, 99, NLM_F_REQUEST, 3, 0};
        CHECK(send(s, b, 1000, 0) == 1000);
    }
    for (got = 0; recv(s, b, sizeof b, MSG_DONTWAIT) > 0; got++)
        ;
    CHECK(errno == EAGAIN && got >= 1 && got < 10);
}

CASE(proc_net) {
    int l = listener(1), u = socket(AF_INET6, SOCK_DGRAM, 0), found = 0;
    struct sockaddr_in6 any = at6("::1", 0);
    CHECK(bind(u, ADDR(any)) == 0);
    static const char *const files[] = {"/proc/net/tcp", "/proc/net/udp6"};
    for (int i = 0; i < 2; i++) {
        char line[512], want[32];
        snprintf(want, sizeof want, ":%04X ", port_of(i ? u : l));
        FILE *f = fopen(files[i], "r");
        CHECK(f && fgets(line, sizeof line, f) && strstr(line, "local_address"));
        while (f && fgets(line, sizeof line, f))
            found += strstr(line, want) != NULL && (i || strstr(line, " 0A "));
        fclose(f);
    }
    CHECK(found == 2);
    static const char *const others[] = {"/proc/net/tcp6", "/proc/net/udp", "/proc/net/unix", "/proc/net/dev"};
    for (int i = 0; i < 4; i++)
        CHECK(access(others[i], R_OK) == 0);
    puts("done");
}

CASE(local_packets) {
    int p[2];
    char b[16];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p) == 0);
    CHECK(write(p[0], "one", 3) == 3 && write(p[0], "two22", 5) == 5);
    CHECK(read(p[1], b, 2) == 2 && read(p[1], b, 16) == 5);
    struct iovec v = {b, 2};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    write(p[0], "three", 5);
    CHECK(recvmsg(p[1], &m, 0) == 2 && (m.msg_flags & MSG_TRUNC));
    close(p[0]);
    CHECK(read(p[1], b, 16) == 0);
    CHECK_ERRNO(send(p[1], "x", 1, MSG_NOSIGNAL), EPIPE);
    int s = socket(AF_UNIX, SOCK_DGRAM, 0), t = socket(AF_UNIX, SOCK_DGRAM, 0), on = 1;
    struct sockaddr_un a = {.sun_family = AF_UNIX}, from;
    CHECK(bind(s, (void *)&a, sizeof(sa_family_t)) == 0);
    socklen_t n = sizeof a;
    CHECK(getsockname(s, (void *)&a, &n) == 0 && n == sizeof(sa_family_t) + 6 && a.sun_path[0] == 0);
    CHECK(setsockopt(s, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    CHECK(sendto(t, "hi", 2, 0, (void *)&a, n) == 2);
    union { char b[CMSG_SPACE(sizeof(struct ucred))]; struct cmsghdr h; } c;
    v.iov_len = 16;
    m = (struct msghdr){.msg_iov = &v, .msg_iovlen = 1, .msg_name = &from, .msg_namelen = sizeof from, .msg_control = &c, .msg_controllen = sizeof c};
    CHECK(recvmsg(s, &m, 0) == 2 && m.msg_controllen == sizeof c && c.h.cmsg_type == SCM_CREDENTIALS);
    CHECK(((struct ucred *)CMSG_DATA(&c.h))->pid == getpid());
    CHECK_ERRNO(connect(t, (void *)&a, 1), EINVAL);
    CHECK(connect(t, (void *)&a, n) == 0 && send(t, "x", 1, 0) == 1);
    close(s);
    CHECK_ERRNO(send(t, "x", 1, 0), ECONNREFUSED);
    CHECK_ERRNO(setsockopt(t, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), EOPNOTSUPP);
    puts("done");
}

/* A counter of /proc/net/snmp. */
static long counter(const char *protocol, const char *name) {
    char names[1024], values[1024];
    long found = -1;
    FILE *f = fopen("/proc/net/snmp", "r");
    while (f && found < 0 && fgets(names, sizeof names, f) && fgets(values, sizeof values, f)) {
        char *n, *v, *a = strtok_r(names, " \n", &n), *b = strtok_r(values, " \n", &v);
        int mine = strncmp(a, protocol, strlen(protocol)) == 0 && a[strlen(protocol)] == ':';
        while (mine && (a = strtok_r(NULL, " \n", &n)) && (b = strtok_r(NULL, " \n", &v))) {
            if (strcmp(a, name) == 0) {
                found = atol(b);
            }
        }
    }
    fclose(f);
    return found;
}

/* Others may count meanwhile, so at least. */
CASE(counters) {
    static const char *const names[][2] = {{"Tcp", "ActiveOpens"}, {"Tcp", "PassiveOpens"}, {"Tcp", "AttemptFails"},
        {"Udp", "InDatagrams"}, {"Udp", "NoPorts"}, {"Udp", "OutDatagrams"}};
    long before[6];
    for (int i = 0; i < 6; i++) {
        before[i] = counter(names[i][0], names[i][1]);
    }
    struct sockaddr_in a = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(l, (void *)&a, len) == 0 && listen(l, 1) == 0 && getsockname(l, (void *)&a, &len) == 0);
    CHECK(connect(c, (void *)&a, len) == 0 && accept(l, NULL, NULL) >= 0);
    close(l);
    int d = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_ERRNO(connect(d, (void *)&a, len), ECONNREFUSED);
    int u = socket(AF_INET, SOCK_DGRAM, 0), v = socket(AF_INET, SOCK_DGRAM, 0);
    a.sin_port = 0;
    CHECK(bind(u, (void *)&a, len) == 0 && getsockname(u, (void *)&a, &len) == 0);
    char b[4];
    CHECK(sendto(v, "a", 1, 0, (void *)&a, len) == 1 && recv(u, b, 4, 0) == 1);
    close(u);
    CHECK(sendto(v, "b", 1, 0, (void *)&a, len) == 1);
    for (int i = 0; i < 6; i++) {
        int least = strcmp(names[i][1], "ActiveOpens") == 0 || strcmp(names[i][1], "OutDatagrams") == 0 ? 2 : 1;
        printf("%s %s: %s\n", names[i][0], names[i][1], counter(names[i][0], names[i][1]) - before[i] >= least ? "counted" : "not");
    }
}

static int at_mark(int s) {
    int mark = -1;
    CHECK(ioctl(s, SIOCATMARK, &mark) == 0);
    return mark;
}
static int unread(int s) {
    int n = -1;
    CHECK(ioctl(s, FIONREAD, &n) == 0);
    return n;
}
static volatile int urgent_signals, other_signals;
static void on_urgent(int sig, siginfo_t *info, void *context) {
    (void)context;
    if (sig == SIGURG)
        urgent_signals += info->si_code == SI_KERNEL ? 1 : 100;
    else if (info->si_code == POLL_PRI)
        other_signals += info->si_band == (POLLPRI | POLLRDBAND) ? 1 : 100;
}

/* One byte of a stream is urgent: reads stop at it, MSG_OOB reads it, its coming is a signal. */
CASE(urgent_data) {
    int p[2];
    char b[20];
    pair(p);
    CHECK(at_mark(p[1]) == 0 && recv(p[1], b, 1, MSG_OOB) == -1 && errno == EINVAL);
    struct sigaction a = {.sa_sigaction = on_urgent, .sa_flags = SA_SIGINFO};
    sigaction(SIGURG, &a, NULL), sigaction(SIGRTMIN, &a, NULL);
    CHECK(fcntl(p[1], F_SETOWN, getpid()) == 0);
    CHECK(send(p[0], "abcX", 4, MSG_OOB) == 4 && send(p[0], "def", 3, 0) == 3);
    CHECK(comes(p[1], POLLPRI) && urgent_signals == 1 && unread(p[1]) == 3 && at_mark(p[1]) == 0);
    CHECK(recv(p[1], b, 20, MSG_PEEK) == 3 && memcmp(b, "abc", 3) == 0);
    CHECK(recv(p[1], b, 1, MSG_OOB | MSG_PEEK) == 1 && b[0] == 'X' && events(p[1]) & POLLPRI);
    struct iovec v = {b, 20};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    CHECK(recvmsg(p[1], &m, MSG_OOB) == 1 && b[0] == 'X' && m.msg_flags == MSG_OOB);
    CHECK_ERRNO(recv(p[1], b, 1, MSG_OOB), EINVAL);
    CHECK(!(events(p[1]) & POLLPRI) && events(p[1]) & POLLIN);
    CHECK(recv(p[1], b, 20, MSG_WAITALL) == 3 && memcmp(b, "abc", 3) == 0 && at_mark(p[1]) == 1);
    CHECK(recv(p[1], b, 20, MSG_PEEK) == 3 && memcmp(b, "def", 3) == 0 && at_mark(p[1]) == 1);
    CHECK(recv(p[1], b, 20, 0) == 3 && memcmp(b, "def", 3) == 0 && at_mark(p[1]) == 0);
    /* A byte that nobody asks for is lost when reads pass it. */
    CHECK(send(p[0], "Y", 1, MSG_OOB) == 1 && comes(p[1], POLLPRI) && urgent_signals == 2);
    CHECK(at_mark(p[1]) == 1 && unread(p[1]) == 0 && !(events(p[1]) & POLLIN));
    CHECK(send(p[0], "gh", 2, 0) == 2 && comes(p[1], POLLIN) && recv(p[1], b, 20, 0) == 2 && b[0] == 'g');
    CHECK_ERRNO(recv(p[1], b, 1, MSG_OOB), EINVAL);
    CHECK(!(events(p[1]) & POLLPRI));
    /* The next urgent byte makes the one before it an ordinary one, unless reads are already there. */
    CHECK(send(p[0], "1A", 2, MSG_OOB) == 2 && send(p[0], "2B", 2, MSG_OOB) == 2 && comes(p[1], POLLPRI));
    CHECK(recv(p[1], b, 20, 0) == 3 && memcmp(b, "1A2", 3) == 0 && at_mark(p[1]) == 1);
    CHECK(send(p[0], "3C", 2, MSG_OOB) == 2 && comes(p[1], POLLIN) && urgent_signals == 5);
    CHECK(recv(p[1], b, 20, 0) == 1 && b[0] == '3' && recv(p[1], b, 20, MSG_OOB) == 1 && b[0] == 'C');
    /* In line with the others; so is one that MSG_OOB has read, and that no read has passed. */
    int one = 1;
    CHECK(setsockopt(p[1], SOL_SOCKET, SO_OOBINLINE, &one, sizeof one) == 0);
    CHECK(send(p[0], "4D5", 3, MSG_OOB) == 3 && comes(p[1], POLLPRI) && send(p[0], "6", 1, 0) == 1);
    CHECK_ERRNO(recv(p[1], b, 1, MSG_OOB), EINVAL);
    CHECK(recv(p[1], b, 20, 0) == 3 && memcmp(b, "C4D", 3) == 0 && at_mark(p[1]) == 1);
    CHECK(recv(p[1], b, 20, 0) == 2 && memcmp(b, "56", 2) == 0 && at_mark(p[1]) == 0);
    /* A signal of the owner's choice comes besides. */
    one = 0;
    CHECK(setsockopt(p[1], SOL_SOCKET, SO_OOBINLINE, &one, sizeof one) == 0);
    CHECK(fcntl(p[1], F_SETSIG, SIGRTMIN) == 0 && fcntl(p[1], F_SETFL, O_ASYNC) == 0);
    CHECK(send(p[0], "E", 1, MSG_OOB) == 1 && comes(p[1], POLLPRI) && other_signals == 1 && urgent_signals == 7);
    /* Select calls it an exception. */
    fd_set exceptions;
    FD_ZERO(&exceptions);
    FD_SET(p[1], &exceptions);
    CHECK(select(p[1] + 1, NULL, NULL, &exceptions, &(struct timeval){0, 0}) == 1);
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = at("127.0.0.1", 9);
    CHECK_ERRNO(sendto(u, "x", 1, MSG_OOB, ADDR(to)), EOPNOTSUPP);
    CHECK_ERRNO(recv(u, b, 1, MSG_OOB | MSG_DONTWAIT), EAGAIN);
}

/* The same of local streams, where the urgent byte is one with its message: also when nobody has asked for it. Many calls at
 * random, of which natively and inside the same has to come. */
CASE(urgent_data_of_local_streams) {
    int p[2], fds[2];
    char b[64];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
    CHECK_ERRNO(send(p[0], "", 0, MSG_OOB), EOPNOTSUPP);
    CHECK_ERRNO(recv(p[1], b, 1, MSG_OOB), EINVAL);
    struct sigaction a = {.sa_sigaction = on_urgent, .sa_flags = SA_SIGINFO};
    sigaction(SIGURG, &a, NULL), sigaction(SIGRTMIN, &a, NULL);
    CHECK(fcntl(p[1], F_SETOWN, getpid()) == 0);
    CHECK(fcntl(p[1], F_SETSIG, SIGRTMIN) == 0 && fcntl(p[1], F_SETFL, O_ASYNC | O_NONBLOCK) == 0);
    struct iovec v = {b, 20};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    CHECK(send(p[0], "abX", 3, MSG_OOB) == 3 && urgent_signals == 1 && other_signals == 1);
    CHECK(recvmsg(p[1], &m, MSG_OOB) == 1 && b[0] == 'X' && m.msg_flags == MSG_OOB);
    CHECK(unread(p[1]) == 2 && recv(p[1], b, 20, 0) == 2 && at_mark(p[1]) == 1 && unread(p[1]) == 0);
    srand(atoi(getenv("GUEST_SEED") ?: "1"));
    char next = 'A';
    for (int i = 0; i < 2000; i++) {
        int size = 1 + rand() % 6, kind = rand() % 12;
        for (int k = 0; k < size; k++)
            b[k] = next, next = next == 'z' ? 'A' : next + 1;
        errno = 0;
        long r = kind < 3    ? send(p[0], b, size, 0)
                 : kind < 6  ? send(p[0], b, size, MSG_OOB)
                 : kind < 8  ? recv(p[1], b, size, 0)
                 : kind == 8 ? recv(p[1], b, size, MSG_PEEK)
                 : kind == 9 ? recv(p[1], b, rand() % 2, MSG_OOB)
                 : kind == 10 ? recv(p[1], b, 1, MSG_OOB | MSG_PEEK)
                              : setsockopt(p[1], SOL_SOCKET, SO_OOBINLINE, &size, (size &= 1, sizeof size));
        printf("%d %d: %ld %s", kind, size, r, strerrorname_of(r < 0 ? errno : 0));
        if (kind >= 6 && kind < 11 && r > 0)
            printf(" %.*s", (int)r, b);
        printf(" %d %x\n", at_mark(p[1]), events(p[1]) & (POLLIN | POLLPRI));
        while (i % 32 == 31 && (r = recv(p[1], b, sizeof b, 0)) > 0)
            printf("%.*s\n", (int)r, b);
    }
    /* Only of streams. */
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) == 0);
    CHECK_ERRNO(send(fds[0], "x", 1, MSG_OOB), EOPNOTSUPP);
    CHECK_ERRNO(recv(fds[1], b, 1, MSG_OOB), EOPNOTSUPP);
    int mark;
    CHECK_ERRNO(ioctl(fds[1], SIOCATMARK, &mark), EOPNOTSUPP);
}

/* Reads one message of the error queue: what came back, of where, and why. */
static void show_error(const char *what, int s) {
    char data[2000], control[200];
    struct sockaddr_storage to = {0};
    struct iovec v = {data, sizeof data};
    struct msghdr m = {&to, sizeof to, &v, 1, control, sizeof control, 0};
    ssize_t n = recvmsg(s, &m, MSG_ERRQUEUE);
    if (n < 0) {
        printf("%s: %s\n", what, strerrorname_of(errno));
        return;
    }
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    CHECK(c != NULL && m.msg_flags == MSG_ERRQUEUE);
    struct sock_extended_err *e = (void *)CMSG_DATA(c);
    char by[60] = "?", at[60] = "?";
    int six = SO_EE_OFFENDER(e)->sa_family == AF_INET6;
    void *from = SO_EE_OFFENDER(e);
    inet_ntop(six ? AF_INET6 : AF_INET, six ? (void *)&((struct sockaddr_in6 *)from)->sin6_addr : (void *)&((struct sockaddr_in *)from)->sin_addr, by, sizeof by);
    inet_ntop(to.ss_family, six ? (void *)&((struct sockaddr_in6 *)&to)->sin6_addr : (void *)&((struct sockaddr_in *)&to)->sin_addr, at, sizeof at);
    printf("%s: %zd bytes %.3s to %s %u, level %d type %d length %zu: %s origin %d type %d code %d info %u data %u by %s\n", what, n, data, at,
           m.msg_namelen, c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len, strerrorname_of(e->ee_errno), e->ee_origin, e->ee_type, e->ee_code, e->ee_info, e->ee_data, by);
    CHECK(ntohs(((struct sockaddr_in *)&to)->sin_port) == 9);
}

/* What comes back of datagrams that nobody takes. */
CASE(error_queue) {
    static char large[3000];
    memset(large, 'x', sizeof large);
    for (int six = 0; six < 2; six++) {
        int s = socket(six ? AF_INET6 : AF_INET, SOCK_DGRAM, 0), on = 1, off = 0;
        int level = six ? SOL_IPV6 : SOL_IP, name = six ? IPV6_RECVERR : IP_RECVERR;
        struct sockaddr_in four = at("127.0.0.1", 9);
        struct sockaddr_in6 other = at6("::1", 9);
        struct sockaddr *to = six ? (void *)&other : (void *)&four;
        socklen_t len = six ? sizeof other : sizeof four;
        char b[10];
        /* Without being asked, nobody tells a socket that is not connected. */
        CHECK(sendto(s, "abc", 3, 0, to, len) == 3 && error_of(s) == 0);
        show_error("not asked", s);
        CHECK(setsockopt(s, level, name, &on, sizeof on) == 0);
        show_error("empty", s);
        CHECK(sendto(s, "abc", 3, 0, to, len) == 3 && comes(s, POLLERR));
        CHECK(events(s) == (POLLERR | POLLOUT) && error_of(s) == ECONNREFUSED && events(s) == (POLLERR | POLLOUT));
        show_error("told", s);
        CHECK(events(s) == POLLOUT && error_of(s) == 0);
        /* Two: the second is an error once the first was read. */
        CHECK(sendto(s, "one", 3, 0, to, len) == 3 && comes(s, POLLERR));
        CHECK_ERRNO(sendto(s, "not", 3, 0, to, len), ECONNREFUSED);
        CHECK(sendto(s, large, sizeof large, 0, to, len) == sizeof large);
        CHECK_ERRNO(recv(s, b, sizeof b, MSG_DONTWAIT), ECONNREFUSED);
        show_error("first", s);
        CHECK_ERRNO(recv(s, b, sizeof b, MSG_DONTWAIT), ECONNREFUSED);
        show_error("second", s);
        CHECK_ERRNO(recv(s, b, sizeof b, MSG_DONTWAIT), EAGAIN);
        CHECK(sendto(s, "gone", 4, 0, to, len) == 4 && comes(s, POLLERR));
        CHECK(setsockopt(s, level, name, &off, sizeof off) == 0);
        show_error("forgotten", s);
        close(s);
    }
}

/* When a datagram came. */
CASE(time_stamps) {
    int in = socket(AF_INET, SOCK_DGRAM, 0), out = socket(AF_INET, SOCK_DGRAM, 0), on = 1, off = 0;
    struct sockaddr_in a = at("127.0.0.1", 0);
    CHECK(bind(in, ADDR(a)) == 0);
    a = at("127.0.0.1", port_of(in));
    static const int kinds[] = {SO_TIMESTAMP, SO_TIMESTAMPNS};
    for (int i = 0; i < 4; i++) {
        int value = -1, other = -1, set = i % 2;
        socklen_t n = sizeof value;
        CHECK(setsockopt(in, SOL_SOCKET, kinds[set], i < 2 ? &on : &off, sizeof on) == 0);
        CHECK(getsockopt(in, SOL_SOCKET, kinds[set], &value, &n) == 0 && getsockopt(in, SOL_SOCKET, kinds[!set], &other, &n) == 0);
        struct timespec before, after;
        clock_gettime(CLOCK_REALTIME, &before);
        CHECK(sendto(out, "x", 1, 0, ADDR(a)) == 1 && comes(in, POLLIN));
        char data[10], control[200];
        struct iovec v = {data, sizeof data};
        struct msghdr m = {NULL, 0, &v, 1, control, sizeof control, 0};
        CHECK(recvmsg(in, &m, 0) == 1);
        clock_gettime(CLOCK_REALTIME, &after);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        printf("%d %d: %s\n", value, other, c ? "told" : "not told");
        if (c) {
            uint64_t parts[2];
            memcpy(parts, CMSG_DATA(c), sizeof parts);
            double came = parts[0] + parts[1] / (set ? 1e9 : 1e6), begun = before.tv_sec + before.tv_nsec / 1e9;
            CHECK(c->cmsg_level == SOL_SOCKET && c->cmsg_type == kinds[set] && c->cmsg_len == CMSG_LEN(16));
            /* Linux stamps what comes just after the first socket asked for it when it is read. */
            CHECK(came > begun - 0.01 && came < after.tv_sec + after.tv_nsec / 1e9 + 0.01);
        }
    }
}

/* A connection that begins with its first bytes. */
CASE(first_bytes_with_connect) {
    int l = listener(1), c = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = at("127.0.0.1", port_of(l));
    char b[10];
    CHECK(sendto(c, "early", 5, MSG_FASTOPEN, ADDR(a)) == 5);
    int s = accept(l, NULL, NULL);
    CHECK(s >= 0 && recv(s, b, 5, MSG_WAITALL) == 5 && memcmp(b, "early", 5) == 0);
    CHECK_ERRNO(sendto(c, "again", 5, MSG_FASTOPEN, ADDR(a)), EISCONN);
    CHECK(send(c, "more", 4, MSG_ZEROCOPY) == 4 && recv(s, b, 4, MSG_WAITALL) == 4);
}
