/* lies FOLDER PORT CLASS OCALL ROUNDS: makes the LibOS ask the host for one thing again and again, whatever it answers, and
 * checks that a program sees nothing that Linux never shows, however the host lies. FOLDER is shared with the host, and
 * PORT, a port of it, is published as 7000 for TCP and UDP; what is sent to OUTSIDE comes back there. The lies begin when
 * the program asks for a file (`host/pal/src/hostile.rs`). `tools/hostile_host.py` judges.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define OUTSIDE 0xc6336401 /* 198.51.100.1 */

static char buf[70000];
static int rounds, port, file = -1, peer = -1, sock = -1;
/* The host lies about lengths only, not about bytes. */
static int bytes_are_true;

static void want(int holds, const char *what) {
    if (!holds) {
        dprintf(2, "a program sees what Linux never shows: %s\n", what);
        _exit(3);
    }
}

/* What a call may return: at most `most`, or an error that Linux has and shows. */
static long sane(long r, long most, const char *what) {
    want(r <= most && r >= -1, what);
    if (r < 0)
        want(errno > 0 && errno <= 133, "an error that is none");
    return r;
}

/* Letters of the file, or nothing at all: never what lay in the LibOS's memory. */
static void only_letters(const char *p, long n) {
    for (long i = 0; bytes_are_true && i < n; i++)
        want(p[i] == 'A' || p[i] == 0, "bytes that are not of the file");
}

static int ready_file(void) {
    if (file < 0)
        file = sane(open("letters", O_RDWR | O_CREAT, 0644), 1 << 20, "a descriptor");
    return file;
}

/* A new file each time: of others the LibOS has a descriptor already. */
static void do_open(void) {
    int fd = sane(open("new", O_RDWR | O_CREAT, 0600), 1 << 20, "a descriptor");
    sane(read(fd, buf, 10), 10, "more than was asked for");
    close(fd);
    sane(unlink("new"), 0, "unlink");
}

static void do_pread(void) {
    int n = 1 + rounds % 9000;
    memset(buf, 'A', n);
    only_letters(buf, sane(pread(ready_file(), buf, n, rounds % 70000), n, "more than was asked for"));
    /* Of a stream, if it is a file. */
    sane(pread(0, buf, n, 0), n, "more than was asked for");
}

static void do_pwrite(void) {
    memset(buf, 'A', 200);
    sane(pwrite(ready_file(), buf, 1 + rounds % 200, rounds % 70000), 1 + rounds % 200, "more than was given");
}

static void check_stat(const struct stat *s) {
    want(s->st_size >= 0, "a negative size");
    want(s->st_mtim.tv_nsec >= 0 && s->st_mtim.tv_nsec < 1000000000, "nanoseconds beyond a second");
    want((s->st_mode & ~(S_IFMT | 07777)) == 0, "bits of a mode that are none");
}

static void do_stat(void) {
    struct stat s;
    if (sane(stat("letters", &s), 0, "stat") == 0)
        check_stat(&s);
    if (sane(fstat(ready_file(), &s), 0, "fstat") == 0)
        check_stat(&s);
    sane(lseek(file, 0, SEEK_END), INT64_MAX, "a position");
    /* Each time another file outside of the folder, which the LibOS asks for once. */
    static DIR *others;
    struct dirent *e = NULL;
    if (others || (others = opendir("/usr/bin")))
        e = readdir(others);
    if (e && fstatat(dirfd(others), e->d_name, &s, AT_SYMLINK_NOFOLLOW) == 0)
        check_stat(&s);
}

static void do_readlink(void) {
    memset(buf, 'x', 5000);
    long n = sane(readlink("link", buf, 5000), 4096, "a link text");
    want(n <= 0 || memchr(buf, 0, n) == NULL, "a link text with a NUL");
    struct stat s;
    stat("link", &s);
}

static void do_readdir(void) {
    struct {
        uint64_t ino, off;
        unsigned short len;
        unsigned char type;
        char name[];
    } *e;
    int fd = open(".", O_RDONLY | O_DIRECTORY);
    long n = sane(syscall(SYS_getdents64, fd, buf, sizeof buf), sizeof buf, "more than was asked for");
    for (long at = 0; at < n; at += e->len) {
        e = (void *)(buf + at);
        want(e->len >= 20 && at + e->len <= n, "an entry beyond the end");
        want(strnlen(e->name, e->len - 19) > 0 && strnlen(e->name, 256) < 256, "a name without end");
        want(strchr(e->name, '/') == NULL, "a name with a slash");
    }
    close(fd);
}

static void do_read(void) {
    fcntl(0, F_SETFL, O_NONBLOCK);
    memset(buf, 'A', 100);
    sane(read(0, buf, 1 + rounds % 100), 1 + rounds % 100, "more than was asked for");
}

static void do_write(void) {
    sane(write(1, "AAAAAAA\n", 8), 8, "more than was given");
}

static void do_poll(void) {
    struct pollfd p[2] = { { 0, POLLIN, 0 }, { 1, POLLOUT, 0 } };
    sane(poll(p, 2, 0), 2, "poll");
    want((p[0].revents & ~(POLLIN | POLLERR | POLLHUP | POLLNVAL | POLLRDHUP)) == 0, "an event not asked for");
    want((p[1].revents & ~(POLLOUT | POLLERR | POLLHUP | POLLNVAL | POLLRDHUP)) == 0, "an event not asked for");
}

static void do_ioctl(void) {
    struct termios t;
    struct winsize w;
    int n = 0;
    sane(tcgetattr(0, &t), 0, "tcgetattr");
    sane(ioctl(0, TIOCGWINSZ, &w), 0, "TIOCGWINSZ");
    sane(ioctl(0, FIONREAD, &n), 0, "FIONREAD");
    want(n >= 0, "a negative number of bytes");
    tcsetattr(0, TCSANOW, &t);
}

static void do_seek(void) {
    sane(lseek(0, rounds % 900, rounds % 2 ? SEEK_SET : SEEK_END), INT64_MAX, "a position");
}

static void do_statfs(void) {
    struct statfs s;
    sane(statfs(".", &s), 0, "statfs");
}

static void do_paths(void) {
    sane(mkdir("d", 0755), 0, "mkdir"), sane(rename("d", "e"), 0, "rename"), sane(rmdir("e"), 0, "rmdir");
    rmdir("d");
    sane(chmod("letters", 0644), 0, "chmod");
}

static void do_ftruncate(void) {
    sane(ftruncate(ready_file(), 66000), 0, "ftruncate");
}

static void do_begin(void) {
    sane(fsync(ready_file()), 0, "fsync");
}

static void nothing(int signal) { (void)signal; }

/* Only who is interrupted asks for it at once. */
static void do_fsync(void) {
    static const struct itimerval often = { { 0, 50 }, { 0, 50 } };
    signal(SIGALRM, nothing);
    setitimer(ITIMER_REAL, &often, NULL);
    do_begin();
    setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
}

/* In memory until the end, when all is reported. */
static void do_report(void) {
    char name[40];
    sprintf(name, "/tmp/file-%d", rounds);
    close(open(name, O_CREAT | O_WRONLY, 0600));
}

static void do_log(void) {
    getppid();
}

static void do_wait(void) {
    struct timespec t = { 0, 1000 };
    nanosleep(&t, NULL);
}

/* A thread that another one wakes while it works on: an idle vCPU is woken, ticks start, and stop when all sleep. */
static void *take(void *pipe) {
    char c;
    while (read(*(int *)pipe, &c, 1) == 1)
        ;
    return NULL;
}

static void do_wake(void) {
    static int ends[2], made;
    pthread_t t;
    if (!made++ && pipe(ends) == 0)
        pthread_create(&t, NULL, take, ends);
    write(ends[1], "", 1);
    for (int i = 0; i < 300; i++)
        getppid();
    do_wait();
}

static void do_clock(void) {
    static struct timespec last;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    want(now.tv_nsec < 1000000000 && now.tv_nsec >= 0, "nanoseconds beyond a second");
    want(now.tv_sec > last.tv_sec || now.tv_sec == last.tv_sec && now.tv_nsec >= last.tv_nsec, "time going back");
    last = now;
}

static sigjmp_buf again;
static void on_fault(int sig) {
    siglongjmp(again, sig);
}

static void touch(volatile char *p, size_t n) {
    for (size_t i = 0; i < n; i += 4096) {
        want(p[i] == 0, "memory that is not zero");
        p[i] = 's';
    }
}

/* Each page is fresh, or a fault. */
static void do_memory(void) {
    char *p = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return;
    if (!sigsetjmp(again, 1)) {
        touch(p, 1 << 16);
        mprotect(p, 4096, PROT_READ), mprotect(p, 4096, PROT_READ | PROT_WRITE);
        if (madvise(p, 1 << 16, MADV_DONTNEED) == 0)
            touch(p, 1 << 16);
    }
    munmap(p, 1 << 16);
}

/* Fresh shared memory is zero, whatever the host says of what was there before. */
static void do_shared(void) {
    char *p = mmap(NULL, 4 << 12, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return;
    if (!sigsetjmp(again, 1))
        touch(p, 4 << 12);
    munmap(p, 4 << 12);
}

static void do_stop(void) {
    kill(getpid(), SIGTSTP);
}

static struct sockaddr_in at(unsigned ip, int port) {
    return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip) };
}

static void hurry(int s) {
    struct timeval t = { 0, 20000 };
    struct linger now = { 1, 0 };
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    setsockopt(s, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

static void check_address(int r, const struct sockaddr_in *a, socklen_t n) {
    if (r >= 0 && n > 0)
        want(a->sin_family == AF_INET && n == sizeof *a, "an address of another kind");
}

static void drop(int *s) {
    if (*s >= 0)
        close(*s);
    *s = -1;
}

/* The end of a datagram socket that leads out and in again by the published port; or a new one. */
static int datagram(void) {
    struct sockaddr_in any = at(INADDR_ANY, 7000), there = at(OUTSIDE, port);
    if (peer < 0) {
        peer = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        bind(peer, (void *)&any, sizeof any);
    }
    if (sock < 0) {
        sock = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        connect(sock, (void *)&there, sizeof there);
    }
    return sock;
}

static void do_send(void) {
    memset(buf, 'A', 300);
    if (sane(send(datagram(), buf, rounds % 300, MSG_NOSIGNAL), 300, "more than was given") < 0 && rounds % 7 == 0)
        drop(&sock);
    recv(peer, buf, 300, 0);
}

static void do_recv(void) {
    struct sockaddr_in from;
    socklen_t n = sizeof from;
    memset(buf, 'A', 500);
    send(datagram(), buf, 200, MSG_NOSIGNAL);
    struct pollfd p = { peer, POLLIN, 0 };
    poll(&p, 1, 0);
    long got = recvfrom(peer, buf, 500, rounds % 3 ? 0 : MSG_PEEK, (void *)&from, &n);
    sane(got, 500, "more than was asked for");
    check_address(got, &from, n);
    only_letters(buf, got);
    sane(recv(peer, buf, 10, MSG_TRUNC), 65507, "a datagram longer than one can be");
    if (got < 0 && rounds % 13 == 0)
        drop(&peer);
}

static void do_ready(void) {
    struct pollfd p[2] = { { peer, POLLIN, 0 }, { sock, POLLIN | POLLOUT, 0 } };
    do_recv();
    poll(p, 2, 0);
    want((p[0].revents & ~(POLLIN | POLLERR | POLLHUP | POLLNVAL)) == 0, "an event not asked for");
    if (rounds % 5 == 0)
        drop(&peer), drop(&sock);
}

static void do_name(void) {
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    int s = datagram();
    int r = getsockname(s, (void *)&a, &n);
    check_address(r, &a, n);
    n = sizeof a;
    r = getpeername(s, (void *)&a, &n);
    check_address(r, &a, n);
    if (rounds % 3 == 0)
        drop(&sock);
}

static void do_connect(void) {
    datagram();
    drop(&sock);
}

static void do_listen(void) {
    struct sockaddr_in any = at(INADDR_ANY, 7000);
    int s = socket(AF_INET, rounds % 2 ? SOCK_DGRAM : SOCK_STREAM, 0);
    sane(bind(s, (void *)&any, sizeof any), 0, "bind"), sane(listen(s, 2), 0, "listen");
    close(s);
}

/* A connection to ourselves. */
static int stream(int *other) {
    static int listener = -1;
    struct sockaddr_in any = at(INADDR_ANY, 7000), there = at(OUTSIDE, port), from;
    socklen_t n = sizeof from;
    if (listener < 0) {
        int yes = 1;
        listener = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        hurry(listener), bind(listener, (void *)&any, sizeof any), listen(listener, 5);
    }
    int s = socket(AF_INET, SOCK_STREAM, 0);
    hurry(s);
    sane(connect(s, (void *)&there, sizeof there), 0, "connect");
    *other = sane(accept(listener, (void *)&from, &n), 1 << 20, "a descriptor");
    check_address(*other, &from, n);
    if (*other >= 0)
        hurry(*other);
    else if (rounds % 5 == 0)
        drop(&listener);
    return s;
}

static void do_accept(void) {
    int other, s = stream(&other);
    drop(&other), drop(&s);
}

static void do_options(void) {
    struct tcp_info info;
    int n = 0, yes = 1;
    socklen_t len = sizeof info;
    if (sock < 0)
        sock = stream(&peer);
    if (sane(getsockopt(sock, IPPROTO_TCP, TCP_INFO, &info, &len), 0, "getsockopt") == 0)
        want(len <= sizeof info, "more than was asked for");
    len = sizeof n;
    sane(getsockopt(sock, SOL_SOCKET, SO_ERROR, &n, &len), 0, "SO_ERROR");
    want(n >= 0 && n <= 133, "an error that is none");
    sane(setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes), 0, "setsockopt");
    sane(setsockopt(sock, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes), 0, "setsockopt");
}

static void do_shutdown(void) {
    int other, s = stream(&other);
    shutdown(s, SHUT_WR);
    sane(recv(other, buf, 10, 0), 10, "more than was asked for");
    shutdown(other, SHUT_RD), shutdown(other, SHUT_WR), shutdown(s, SHUT_RD);
    drop(&other), drop(&s);
    for (int i = 0; i < 8; i++)
        shutdown(datagram(), i % 3), drop(&sock);
}

static void do_interfaces(void) {
    struct ifaddrs *list;
    if (getifaddrs(&list) == 0)
        freeifaddrs(list);
}

static const struct {
    const char *name;
    void (*act)(void);
} KINDS[] = {
    { "Open", do_open },        { "Close", do_open },         { "Pread", do_pread },
    { "Pwrite", do_pwrite },    { "Stat", do_stat },          { "Readlink", do_readlink },
    { "Readdir", do_readdir },  { "Read", do_read },          { "Write", do_write },
    { "Poll", do_poll },        { "Ioctl", do_ioctl },        { "Seek", do_seek },
    { "Statfs", do_statfs },    { "PathOp", do_paths },       { "Ftruncate", do_ftruncate },
    { "Fsync", do_fsync },      { "Begin", do_begin },        { "Report", do_report },
    { "Log", do_log },
    { "Wait", do_wait },        { "Wake", do_wake },          { "Tick", do_wake },
    { "Clock", do_clock },      { "MemProtect", do_memory },  { "MemAlias", do_shared },
    { "Stop", do_stop },        { "NetSend", do_send },       { "NetRecv", do_recv },
    { "NetReady", do_ready },   { "NetName", do_name },       { "NetConnect", do_connect },
    { "NetListen", do_listen }, { "NetAccept", do_accept },   { "NetGetOption", do_options },
    { "NetSetOption", do_options }, { "NetShutdown", do_shutdown }, { "NetInterfaces", do_interfaces },
};

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    signal(SIGBUS, on_fault), signal(SIGSEGV, on_fault);
    if (argc != 6)
        return 2;
    /* The host may refuse, but not for ever. */
    for (int tries = 0; chdir(argv[1]) && tries < 1000; tries++)
        ;
    port = atoi(argv[2]), bytes_are_true = strcmp(argv[3], "length") == 0;
    symlink("letters", "link");
    for (unsigned i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (strcmp(KINDS[i].name, argv[4]) == 0)
            for (rounds = atoi(argv[5]); rounds > 0; rounds--) {
                KINDS[i].act();
                if (rounds == atoi(argv[5]))
                    access("lies-begin", F_OK);
            }
    return 0;
}
