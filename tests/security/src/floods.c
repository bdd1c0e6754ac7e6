/* What fills the LibOS's memory by what nobody takes, beside a parent that goes on: floods CASE
 *
 * netlink_errors: answers to bad requests, of very many sockets. dump: a dump of very many sockets. circle: a descriptor closed
 * beside very many sockets, one of them in a message. clients: very many clients of a full listener that give up. Each ends
 * with "alive", whatever the child came to.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void netlink_errors(void) {
    static char b[65536];
    *(struct nlmsghdr *)b = (struct nlmsghdr){sizeof b, 999, NLM_F_REQUEST, 0, 0};
    for (int i = 0; i < 1500; i++) {
        int s = socket(AF_NETLINK, SOCK_RAW, 0);
        if (s < 0)
            break;
        for (int k = 0; k < 8; k++)
            send(s, b, sizeof b, 0);
    }
}
static void many_sockets(void) {
    for (int i = 0; i < 150000 && socket(AF_UNIX, SOCK_DGRAM, 0) >= 0; i++)
        ;
}
static void dump(void) {
    int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
    many_sockets();
    struct {
        struct nlmsghdr h;
        struct unix_diag_req u;
    } q = {{sizeof q, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {.sdiag_family = AF_UNIX, .udiag_states = -1, .udiag_show = -1}};
    char b[1 << 15];
    long found = 0;
    ssize_t got;
    send(s, &q, sizeof q, 0);
    do {
        got = recv(s, b, sizeof b, MSG_DONTWAIT);
        ssize_t left = got;
        for (struct nlmsghdr *h = (void *)b; left > 0 && NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            found += h->nlmsg_type == SOCK_DIAG_BY_FAMILY;
            if (h->nlmsg_type == NLMSG_DONE)
                puts(found >= 150000 ? "all of them" : "some of them");
        }
    } while (got > 0);
    fflush(stdout);
}
static void circle(void) {
    int p[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, p);
    many_sockets();
    char control[CMSG_SPACE(sizeof(int))] = "", byte = 0;
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &p[1], sizeof(int));
    sendmsg(p[0], &m, 0);
    for (int fd = 1000; fd < 100000; fd++)
        close(fd);
}
static void clients(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    socklen_t n = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0), refused = 0;
    bind(l, (void *)&a, n);
    listen(l, 0);
    getsockname(l, (void *)&a, &n);
    for (int i = 0; i < 400000; i++) {
        int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        refused += connect(s, (void *)&a, n) == 0 || errno != EINPROGRESS;
        if (i == 0)
            continue;
        if (i % 2)
            refused += connect(s, &none, sizeof none) != 0;
        close(s);
    }
    printf("%d refused\n", refused);
    fflush(stdout);
}

int main(int argc, char **argv) {
    struct rlimit r = {200000, 200000};
    setrlimit(RLIMIT_NOFILE, &r);
    if (fork() == 0) {
        if (strcmp(argv[1], "netlink_errors") == 0)
            netlink_errors();
        if (strcmp(argv[1], "dump") == 0)
            dump();
        if (strcmp(argv[1], "circle") == 0)
            circle();
        if (strcmp(argv[1], "clients") == 0)
            clients();
        _exit(0);
    }
    wait(NULL);
    puts("alive");
    return 0;
}
