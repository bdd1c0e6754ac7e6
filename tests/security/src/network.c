/* Work for a lying host: talks to itself through the host's network. argv[1] is a port of the host that is published as
 * 7000, for TCP and UDP. Whatever fails, it goes on; only the enclave is judged. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_in at(unsigned ip, int port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip)};
}
static void hurry(int s) {
    struct timeval t = {0, 200000};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
}
static void ask(int s) {
    struct sockaddr_storage a;
    struct tcp_info info;
    int n;
    socklen_t len = sizeof a;
    getsockname(s, (void *)&a, &len);
    len = sizeof a;
    getpeername(s, (void *)&a, &len);
    len = sizeof info;
    getsockopt(s, IPPROTO_TCP, TCP_INFO, &info, &len);
    len = sizeof n;
    getsockopt(s, SOL_SOCKET, SO_ERROR, &n, &len);
    ioctl(s, FIONREAD, &n);
}

static void streams(int port) {
    static char block[50000];
    int l = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in any = at(INADDR_ANY, 7000), there = at(INADDR_LOOPBACK, port);
    hurry(l);
    bind(l, (void *)&any, sizeof any);
    listen(l, 5);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 5; i++) {
            int s = socket(AF_INET, SOCK_STREAM, 0);
            hurry(s);
            connect(s, (void *)&there, sizeof there);
            ask(s);
            send(s, block, sizeof block, MSG_NOSIGNAL);
            shutdown(s, SHUT_WR);
            while (recv(s, block, sizeof block, 0) > 0)
                ;
            close(s);
        }
        _exit(0);
    }
    int e = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    epoll_ctl(e, EPOLL_CTL_ADD, l, &event);
    for (int i = 0; i < 5; i++) {
        epoll_wait(e, &event, 1, 200);
        int s = accept(l, NULL, NULL);
        hurry(s);
        ask(s);
        for (int turn = 0; turn < 50; turn++) {
            ssize_t n = recv(s, block, 7000, turn == 3 ? MSG_PEEK : 0);
            if (n <= 0)
                break;
            send(s, block, n, MSG_NOSIGNAL);
        }
        close(s);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(l);
    close(e);
}

static void datagrams(int port) {
    char b[3000];
    int s = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in any = at(INADDR_ANY, 7000), there = at(INADDR_LOOPBACK, port), from;
    hurry(s);
    hurry(c);
    bind(s, (void *)&any, sizeof any);
    for (int i = 0; i < 10; i++) {
        socklen_t n = sizeof from;
        sendto(c, b, i * 200, 0, (void *)&there, sizeof there);
        ssize_t got = recvfrom(s, b, 1000, MSG_TRUNC, (void *)&from, &n);
        if (got >= 0)
            sendto(s, b, got > 3000 ? 3000 : got, 0, (void *)&from, n);
        ask(c);
        recv(c, b, sizeof b, 0);
    }
}

int main(int argc, char **argv) {
    struct ifaddrs *list;
    if (getifaddrs(&list) == 0)
        freeifaddrs(list);
    int port = argc > 1 ? atoi(argv[1]) : 7000;
    datagrams(port);
    streams(port);
    return 0;
}
