/* Signal-driven I/O: owners, O_ASYNC on everything that has it, dnotify, the limit of queued signals. */
#include "guest.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <termios.h>

#define SIG (SIGRTMIN + 3)

static sigset_t all;

static void block(void) {
    sigemptyset(&all);
    sigaddset(&all, SIG);
    sigaddset(&all, SIGIO);
    sigaddset(&all, SIGCHLD);
    sigprocmask(SIG_BLOCK, &all, NULL);
}

/* Prints the signals that wait, with what they say. */
static void show(const char *what) {
    printf("%s:", what);
    siginfo_t i;
    struct timespec none = {0, 0};
    int sig;
    while ((sig = sigtimedwait(&all, &i, &none)) > 0) {
        if (sig == SIG) {
            printf(" %d/%#lx/%d", i.si_code, (long)i.si_band, i.si_fd);
        } else {
            printf(" SIGIO %d %d", i.si_code, i.si_pid);
        }
    }
    puts("");
}
static void async(int fd) {
    CHECK(fcntl(fd, F_SETOWN, getpid()) == 0 && fcntl(fd, F_SETSIG, SIG) == 0);
    CHECK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC | O_NONBLOCK) == 0);
    CHECK((fcntl(fd, F_GETFL) & O_ASYNC) != 0);
}

CASE(owners) {
    int p[2];
    CHECK(pipe(p) == 0);
    CHECK(fcntl(p[0], F_GETOWN) == 0 && fcntl(p[0], F_GETSIG) == 0);
    CHECK(fcntl(p[0], F_SETOWN, getpid()) == 0 && fcntl(p[0], F_GETOWN) == getpid());
    CHECK(fcntl(p[0], F_SETOWN, -getpgrp()) == 0);
    struct f_owner_ex ex = {7, 7};
    CHECK(fcntl(p[0], F_GETOWN_EX, &ex) == 0 && ex.type == F_OWNER_PGRP && ex.pid == getpgrp());
    CHECK(fcntl(p[0], F_GETOWN) == -getpgrp());
    CHECK_ERRNO(fcntl(p[0], F_SETOWN, 4000000), ESRCH);
    CHECK_ERRNO(fcntl(p[0], F_SETOWN, -4000000), ESRCH);
    CHECK_ERRNO(syscall(SYS_fcntl, p[0], F_SETOWN, INT_MIN), EINVAL);
    ex = (struct f_owner_ex){F_OWNER_TID, gettid()};
    CHECK(fcntl(p[0], F_SETOWN_EX, &ex) == 0);
    ex = (struct f_owner_ex){7, 7};
    CHECK(fcntl(p[0], F_GETOWN_EX, &ex) == 0 && ex.type == F_OWNER_TID && ex.pid == gettid());
    ex = (struct f_owner_ex){3, getpid()};
    CHECK_ERRNO(fcntl(p[0], F_SETOWN_EX, &ex), EINVAL);
    ex = (struct f_owner_ex){F_OWNER_PID, 4000000};
    CHECK_ERRNO(fcntl(p[0], F_SETOWN_EX, &ex), ESRCH);
    ex.pid = -getpid();
    CHECK_ERRNO(fcntl(p[0], F_SETOWN_EX, &ex), ESRCH);
    CHECK_ERRNO(fcntl(p[0], F_SETOWN_EX, (void *)8), EFAULT);
    CHECK_ERRNO(fcntl(p[0], F_GETOWN_EX, (void *)8), EFAULT);
    ex = (struct f_owner_ex){F_OWNER_PID, 0};
    CHECK(fcntl(p[0], F_SETOWN_EX, &ex) == 0 && fcntl(p[0], F_GETOWN) == 0);
    CHECK_ERRNO(fcntl(p[0], F_SETSIG, 65), EINVAL);
    CHECK_ERRNO(fcntl(p[0], F_SETSIG, -1), EINVAL);
    CHECK(fcntl(p[0], F_SETSIG, SIG) == 0 && fcntl(p[0], F_GETSIG) == SIG);
    /* The owner belongs to the open file, not to the descriptor. */
    int d = dup(p[0]);
    CHECK(fcntl(d, F_GETSIG) == SIG && fcntl(p[1], F_GETSIG) == 0);
    /* Somebody who has ended is nobody. */
    pid_t child = fork_clean();
    if (child == 0) {
        pause();
    }
    CHECK(fcntl(d, F_SETOWN, child) == 0 && fcntl(d, F_GETOWN) == child);
    kill(child, SIGKILL);
    report("child", child);
    CHECK(fcntl(d, F_GETOWN) == 0);
    int path = open("/tmp", O_PATH);
    CHECK_ERRNO(fcntl(path, F_GETOWN), EBADF);
    CHECK_ERRNO(fcntl(path, F_SETSIG, 0), EBADF);
}

CASE(pipes) {
    block();
    int p[2];
    char b[70000] = {0};
    CHECK(pipe(p) == 0);
    async(p[0]);
    async(p[1]);
    show("nothing");
    CHECK(write(p[1], "abc", 3) == 3);
    show("written");
    CHECK(write(p[1], "def", 3) == 3 && write(p[1], "ghi", 3) == 3);
    show("written twice");
    CHECK(read(p[0], b, 2) == 2);
    show("read");
    CHECK(write(p[1], b, 0) == 0);
    show("written nothing");
    CHECK(read(p[0], b, sizeof b) == 7);
    show("emptied");
    CHECK(write(p[1], b, sizeof b) == 65536);
    show("filled");
    CHECK(read(p[0], b, 65536) == 65536);
    show("emptied");
    /* Off and on again. */
    CHECK(fcntl(p[0], F_SETFL, O_NONBLOCK) == 0);
    CHECK(write(p[1], "x", 1) == 1);
    show("off");
    int on = 1;
    CHECK(ioctl(p[0], FIOASYNC, &on) == 0 && (fcntl(p[0], F_GETFL) & O_ASYNC));
    show("on with input there");
    CHECK(write(p[1], "x", 1) == 1);
    show("on");
    on = 0;
    CHECK(ioctl(p[0], FIOASYNC, &on) == 0 && !(fcntl(p[0], F_GETFL) & O_ASYNC));
    on = 1;
    CHECK(ioctl(p[0], FIOASYNC, &on) == 0);
    /* Without F_SETSIG it is SIGIO, from the kernel, once. */
    CHECK(fcntl(p[0], F_SETSIG, 0) == 0);
    CHECK(write(p[1], "x", 1) == 1 && write(p[1], "x", 1) == 1);
    show("plain");
    CHECK(fcntl(p[0], F_SETSIG, SIGIO) == 0);
    CHECK(write(p[1], "x", 1) == 1);
    siginfo_t i;
    CHECK(sigtimedwait(&all, &i, &(struct timespec){0, 0}) == SIGIO);
    printf("SIGIO by name: %d %#lx\n", i.si_code, (long)i.si_band);
    CHECK(fcntl(p[0], F_SETSIG, SIGCHLD) == 0);
    CHECK(write(p[1], "x", 1) == 1);
    CHECK(sigtimedwait(&all, &i, &(struct timespec){0, 0}) == SIGCHLD);
    printf("ambiguous: %d %#lx\n", i.si_code, (long)i.si_band);
    CHECK(fcntl(p[0], F_SETSIG, SIG) == 0);
    close(p[1]);
    show("no writer");
    CHECK(pipe(p) == 0);
    async(p[1]);
    close(p[0]);
    show("no reader");
    /* splice and tee. */
    int q[2];
    CHECK(pipe(p) == 0 && pipe(q) == 0);
    async(p[1]);
    async(q[0]);
    CHECK(write(p[1], "spliced", 7) == 7);
    CHECK(tee(p[0], q[1], 7, 0) == 7);
    show("tee");
    CHECK(splice(p[0], NULL, q[1], NULL, 7, 0) == 7);
    show("splice");
}

CASE(who_is_told) {
    block();
    sigdelset(&all, SIGCHLD);
    int p[2];
    CHECK(pipe(p) == 0);
    async(p[0]);
    /* Nobody. */
    CHECK(fcntl(p[0], F_SETOWN, 0) == 0 && write(p[1], "x", 1) == 1);
    show("nobody");
    /* A group: the child's own, of which this process is none. */
    int sync[2];
    CHECK(pipe(sync) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        setpgid(0, 0);
        write(sync[1], "1", 1);
        siginfo_t i;
        struct timespec t = {5, 0};
        int sig = sigtimedwait(&all, &i, &t);
        printf("child: %d %d %d\n", sig == SIG, i.si_code, i.si_fd == p[0]);
        fflush(stdout);
        write(sync[1], "2", 1);
        sig = sigtimedwait(&all, &i, &t);
        _exit(sig == SIG ? 7 : 8);
    }
    char c;
    CHECK(read(sync[0], &c, 1) == 1);
    CHECK(fcntl(p[0], F_SETOWN, -child) == 0 && write(p[1], "x", 1) == 1);
    CHECK(read(sync[0], &c, 1) == 1);
    show("not for me");
    CHECK(fcntl(p[0], F_SETOWN, child) == 0 && write(p[1], "x", 1) == 1);
    report("child", child);
    CHECK(write(p[1], "x", 1) == 1);
    show("gone");
    /* A thread. */
    struct f_owner_ex ex = {F_OWNER_TID, gettid()};
    CHECK(fcntl(p[0], F_SETOWN_EX, &ex) == 0 && write(p[1], "x", 1) == 1);
    show("thread");
    /* The descriptor number is the one that asked, even when it is closed. */
    int d = dup2(p[0], 50);
    CHECK(fcntl(d, F_SETFL, O_NONBLOCK) == 0 && fcntl(d, F_SETFL, O_NONBLOCK | O_ASYNC) == 0);
    close(d);
    CHECK(write(p[1], "x", 1) == 1);
    show("by 50");
    /* open(2) and files without signals. */
    int f = open("/tmp", O_TMPFILE | O_RDWR | O_ASYNC, 0600);
    CHECK(f >= 0 && (fcntl(f, F_GETFL) & O_ASYNC));
    int on = 0;
    CHECK_ERRNO(ioctl(f, FIOASYNC, &on), ENOTTY);
    CHECK(fcntl(f, F_SETFL, 0) == 0 && fcntl(f, F_SETFL, O_ASYNC) == 0 && (fcntl(f, F_GETFL) & O_ASYNC));
    on = 1;
    int e = eventfd(0, 0);
    CHECK_ERRNO(ioctl(e, FIOASYNC, &on), ENOTTY);
    CHECK_ERRNO(ioctl(e, FIOASYNC, (void *)8), EFAULT);
    CHECK(fcntl(e, F_SETFL, O_ASYNC) == 0);
    CHECK(fcntl(e, F_SETOWN, getpid()) == 0 && eventfd_write(e, 1) == 0);
    show("eventfd");
}

CASE(rights_to_tell) {
    if (geteuid() != 0) {
        return;
    }
    block();
    int p[2], sync[2];
    CHECK(pipe(p) == 0 && pipe(sync) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK(setuid(12345) == 0);
        CHECK(fcntl(p[0], F_SETOWN, getppid()) == 0 && fcntl(p[0], F_SETSIG, SIG) == 0);
        CHECK(fcntl(p[0], F_SETFL, O_ASYNC) == 0);
        CHECK(write(p[1], "x", 1) == 1);
        _exit(guest_failures);
    }
    report("child", child);
    sigdelset(&all, SIGCHLD);
    show("not mine to be told by others");
    CHECK(fcntl(p[0], F_SETOWN, getpid()) == 0 && write(p[1], "x", 1) == 1);
    show("by myself");
}

CASE(unix_sockets) {
    block();
    int s[2];
    char b[4096] = {0};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    async(s[0]);
    CHECK(write(s[1], "abc", 3) == 3);
    show("received");
    CHECK(write(s[1], "def", 3) == 3);
    show("more");
    CHECK(read(s[0], b, 3) == 3);
    show("read");
    CHECK(write(s[0], "abc", 3) == 3 && read(s[1], b, 3) == 3);
    show("sent, and taken");
    /* Room is told of once there was none. */
    long n, sum = 0;
    while ((n = write(s[0], b, sizeof b)) > 0) {
        sum += n;
    }
    CHECK(n < 0 && errno == EAGAIN);
    show("full");
    while (sum > 0 && (n = read(s[1], b, sizeof b)) > 0) {
        sum -= n;
    }
    show("room");
    CHECK(shutdown(s[1], SHUT_WR) == 0);
    show("end");
    CHECK(shutdown(s[1], SHUT_RDWR) == 0);
    show("both ends");
    close(s[1]);
    show("closed");
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
    async(s[0]);
    CHECK(send(s[1], "a", 1, 0) == 1 && send(s[1], "b", 1, 0) == 1);
    show("datagrams");
    close(s[1]);
    show("datagrams: closed");
    /* A listener, and the calls of BSD. */
    struct sockaddr_un a = {AF_UNIX};
    sprintf(a.sun_path + 1, "guest-sigio-%d", getpid());
    int l = socket(AF_UNIX, SOCK_SEQPACKET, 0), c = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    CHECK(bind(l, (void *)&a, sizeof a) == 0 && listen(l, 3) == 0);
    int on = 1, me = getpid(), got = 0;
    CHECK(ioctl(l, FIOASYNC, &on) == 0 && ioctl(l, FIOSETOWN, &me) == 0 && fcntl(l, F_SETSIG, SIG) == 0);
    CHECK(ioctl(l, FIOGETOWN, &got) == 0 && got == me);
    got = -getpgrp();
    CHECK(ioctl(l, SIOCSPGRP, &got) == 0 && ioctl(l, SIOCGPGRP, &got) == 0 && got == -getpgrp());
    CHECK(ioctl(l, SIOCSPGRP, &me) == 0);
    CHECK(connect(c, (void *)&a, sizeof a) == 0);
    show("asked");
}

CASE(inet_sockets) {
    block();
    struct sockaddr_in a = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;
    int u = socket(AF_INET, SOCK_DGRAM, 0), v = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(bind(u, (void *)&a, sizeof a) == 0 && getsockname(u, (void *)&a, &len) == 0);
    async(u);
    CHECK(sendto(v, "a", 1, 0, (void *)&a, len) == 1 && sendto(v, "b", 1, 0, (void *)&a, len) == 1);
    show("datagrams");
    a.sin_port = 0;
    int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(l, (void *)&a, sizeof a) == 0 && listen(l, 3) == 0 && getsockname(l, (void *)&a, &len) == 0);
    async(l);
    CHECK(connect(c, (void *)&a, sizeof a) == 0);
    show("asked");
    int s = accept(l, NULL, NULL);
    CHECK(s >= 0);
    /* A socket that was accepted has no owner. */
    CHECK(fcntl(s, F_GETOWN) == 0 && fcntl(s, F_GETSIG) == 0 && !(fcntl(s, F_GETFL) & O_ASYNC));
    async(s);
    char b[4096] = {0};
    CHECK(write(c, "abc", 3) == 3);
    show("received");
    CHECK(read(s, b, 3) == 3 && write(s, "abc", 3) == 3 && read(c, b, 3) == 3);
    show("sent, and taken");
    CHECK(shutdown(c, SHUT_WR) == 0);
    show("end");
    close(s);
    s = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(s, (void *)&(struct sockaddr_in){AF_INET, 0, {htonl(INADDR_LOOPBACK)}}, sizeof a) == 0);
    async(s);
    int r = connect(s, (void *)&a, sizeof a);
    CHECK(r == 0 || errno == EINPROGRESS);
    struct timespec t = {5, 0};
    siginfo_t i;
    /* The listener and the client, in whatever order. */
    int seen = 0;
    for (int n = 0; n < 2; n++) {
        CHECK(sigtimedwait(&all, &i, &t) == SIG);
        seen |= i.si_fd == l && i.si_code == POLL_IN ? 1 : i.si_fd == s && i.si_code == POLL_OUT ? 2 : 4;
    }
    printf("connected: %d\n", seen);
    int w = accept(l, NULL, NULL);
    struct linger hard = {1, 0};
    CHECK(setsockopt(w, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
    close(w);
    CHECK(sigtimedwait(&all, &i, &t) == SIG);
    printf("reset: %d %#lx\n", i.si_code, (long)i.si_band);
}

CASE(terminals) {
    block();
    int m = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(grantpt(m) == 0 && unlockpt(m) == 0);
    int s = open(ptsname(m), O_RDWR | O_NOCTTY);
    CHECK(m >= 0 && s >= 0);
    /* Who switches it on owns it, unless the terminal has a foreground group. */
    CHECK(fcntl(s, F_SETSIG, SIG) == 0 && fcntl(s, F_SETFL, O_ASYNC | O_NONBLOCK) == 0);
    CHECK(fcntl(s, F_GETOWN) == getpid());
    struct termios t;
    CHECK(tcgetattr(s, &t) == 0);
    t.c_lflag &= ~ECHO;
    t.c_oflag &= ~OPOST;
    CHECK(tcsetattr(s, TCSANOW, &t) == 0);
    struct timespec wait = {5, 0};
    siginfo_t i;
    char b[64];
    CHECK(write(m, "abc", 3) == 3);
    sleep_ms(20);
    show("no line yet");
    CHECK(write(m, "def\n", 4) == 4);
    CHECK(sigtimedwait(&all, &i, &wait) == SIG);
    printf("line: %d %#lx\n", i.si_code, (long)i.si_band);
    CHECK(read(s, b, sizeof b) == 7);
    t.c_lflag &= ~ICANON;
    t.c_cc[VMIN] = 1;
    CHECK(tcsetattr(s, TCSANOW, &t) == 0);
    show("read");
    CHECK(write(m, "x", 1) == 1);
    CHECK(sigtimedwait(&all, &i, &wait) == SIG);
    printf("byte: %d %#lx\n", i.si_code, (long)i.si_band);
    CHECK(fcntl(s, F_SETFL, O_NONBLOCK) == 0);
    async(m);
    CHECK(write(s, "out", 3) == 3);
    CHECK(sigtimedwait(&all, &i, &wait) == SIG);
    printf("output: %d %#lx\n", i.si_code, (long)i.si_band);
    CHECK(read(m, b, sizeof b) == 3);
    /* A group in the foreground. */
    pid_t child = fork_clean();
    if (child == 0) {
        setsid();
        CHECK(ioctl(s, TIOCSCTTY, 0) == 0);
        int own = open(ptsname(m), O_RDWR);
        CHECK(fcntl(own, F_SETFL, O_ASYNC) == 0);
        _exit(fcntl(own, F_GETOWN) == -getpid() ? 3 : 4);
    }
    report("foreground", child);
}

CASE(others) {
    block();
    int n = inotify_init1(IN_NONBLOCK);
    char dir[64];
    sprintf(dir, "/tmp/guest-sigio-%d", getpid());
    CHECK(mkdir(dir, 0700) == 0 && chdir(dir) == 0);
    CHECK(inotify_add_watch(n, dir, IN_CREATE | IN_DELETE) == 1);
    async(n);
    close(open("name", O_CREAT | O_WRONLY, 0600));
    unlink("name");
    siginfo_t i;
    for (int k = 0; k < 2; k++) {
        CHECK(sigtimedwait(&all, &i, &(struct timespec){0, 0}) == SIG);
        printf("inotify: %d %#lx %d\n", i.si_code, (long)i.si_band, i.si_fd == n);
    }
    /* A FIFO that is open for both. */
    CHECK(mkfifo("fifo", 0600) == 0);
    int f = open("fifo", O_RDWR);
    async(f);
    close(n);
    while (sigtimedwait(&all, &i, &(struct timespec){0, 0}) > 0)
        ;
    CHECK(write(f, "x", 1) == 1);
    show("fifo, written");
    char c;
    CHECK(read(f, &c, 1) == 1);
    show("fifo, read");
    unlink("fifo"), chdir("/"), rmdir(dir);
}

CASE(directories) {
    block();
    char dir[64];
    sprintf(dir, "/tmp/guest-dnotify-%d", getpid());
    CHECK(mkdir(dir, 0700) == 0 && chdir(dir) == 0);
    int d = open(".", O_RDONLY);
    CHECK(fcntl(d, F_SETSIG, SIG) == 0);
    CHECK_ERRNO(fcntl(0, F_NOTIFY, DN_CREATE), ENOTDIR);
    CHECK(fcntl(d, F_NOTIFY, DN_CREATE | DN_MULTISHOT) == 0 && fcntl(d, F_GETOWN) == getpid());
    close(open("a", O_CREAT | O_WRONLY, 0600));
    show("create");
    CHECK(mkdir("sub", 0700) == 0);
    show("mkdir");
    CHECK(rename("a", "b") == 0);
    show("rename is a create");
    unlink("b");
    show("unlink is not asked for");
    CHECK(fcntl(d, F_NOTIFY, DN_DELETE | DN_RENAME | DN_ATTRIB | DN_MODIFY) == 0);
    close(open("a", O_CREAT | O_WRONLY, 0600));
    show("added: create");
    int f = open("a", O_RDWR);
    CHECK(write(f, "x", 1) == 1);
    show("modify");
    CHECK(fchmod(f, 0640) == 0);
    show("attributes");
    CHECK(fcntl(d, F_NOTIFY, 0) == 0);
    CHECK(write(f, "x", 1) == 1);
    show("off");
    CHECK(fcntl(d, F_NOTIFY, DN_ACCESS) == 0);
    char c;
    CHECK(pread(f, &c, 1, 0) == 1);
    show("access");
    CHECK(pread(f, &c, 1, 0) == 1);
    show("only once");
    CHECK(fcntl(d, F_NOTIFY, DN_RENAME) == 0 && rename("a", "c") == 0);
    show("rename");
    CHECK(fcntl(d, F_NOTIFY, DN_RENAME) == 0 && rename("c", "sub/c") == 0);
    show("rename away is none");
    CHECK(fcntl(d, F_NOTIFY, DN_DELETE) == 0 && rename("sub/c", "c") == 0);
    show("not a delete");
    CHECK(unlink("c") == 0);
    show("delete");
    /* SIGIO, for a directory that nobody closes; then closed by way of another descriptor. */
    CHECK(fcntl(d, F_SETSIG, 0) == 0 && fcntl(d, F_NOTIFY, DN_CREATE | DN_MULTISHOT) == 0);
    close(open("a", O_CREAT | O_WRONLY, 0600));
    show("plain");
    close(dup(d));
    close(open("b", O_CREAT | O_WRONLY, 0600));
    show("closed");
    /* A child that has the directory, too, and ends. */
    CHECK(fcntl(d, F_NOTIFY, DN_CREATE | DN_MULTISHOT) == 0);
    sigdelset(&all, SIGCHLD);
    pid_t child = fork_clean();
    if (child == 0) {
        _exit(0);
    }
    report("child", child);
    close(open("d", O_CREAT | O_WRONLY, 0600));
    show("still there");
    close(d);
    unlink("a"), unlink("b"), unlink("d"), rmdir("sub"), chdir("/"), rmdir(dir);
}

static long queued(int sig) {
    union sigval v = {.sival_int = 5};
    return sigqueue(getpid(), sig, v);
}
static void status(const char *what, int base) {
    char line[256];
    int n = -1, most = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, f)) {
        sscanf(line, "SigQ: %d/%d", &n, &most);
    }
    fclose(f);
    printf("%s: %d of %d\n", what, n - base, most);
}

/* As a user of its own, of whom nobody else has signals. */
CASE(limit_of_signals) {
    block();
    if (geteuid() == 0) {
        CHECK(setresuid(23456, 23456, 23456) == 0);
    }
    struct rlimit few = {4, 4};
    CHECK(setrlimit(RLIMIT_SIGPENDING, &few) == 0);
    status("none", 0);
    int n = 0;
    while (n < 100 && queued(SIG) == 0) {
        n++;
    }
    printf("%d, then %s\n", n, strerrorname_of(errno));
    status("full", 0);
    /* kill(2) always sends; what is told of it may be nothing. */
    CHECK(kill(getpid(), SIG) == 0);
    CHECK_ERRNO(syscall(SYS_tgkill, getpid(), gettid(), SIG), EAGAIN);
    CHECK_ERRNO(queued(SIG), EAGAIN);
    CHECK(kill(getpid(), SIGCHLD) == 0 && queued(SIGIO) == 0);
    status("classic ones", 0);
    timer_t timer;
    CHECK_ERRNO(timer_create(CLOCK_MONOTONIC, NULL, &timer), EAGAIN);
    /* An owner that wants more told gets SIGIO instead. */
    siginfo_t i;
    struct timespec none = {0, 0};
    sigset_t io;
    sigemptyset(&io);
    sigaddset(&io, SIGIO);
    CHECK(sigtimedwait(&io, &i, &none) == SIGIO);
    printf("SIGIO: %d %d\n", i.si_code, i.si_pid);
    int p[2];
    CHECK(pipe(p) == 0);
    async(p[0]);
    CHECK(write(p[1], "x", 1) == 1);
    CHECK(sigtimedwait(&io, &i, &none) == SIGIO);
    printf("overflow: %d\n", i.si_code);
    for (int k = 0; sigtimedwait(&all, &i, &none) > 0; k++) {
        printf("%d: code %d value %d\n", k, i.si_code, i.si_code == SI_QUEUE ? i.si_value.sival_int : 0);
    }
    status("taken", 0);
    /* A number without more: all places are a timer's. */
    struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIG};
    timer_t timers[4];
    for (int k = 0; k < 4; k++) {
        CHECK(timer_create(CLOCK_MONOTONIC, &e, &timers[k]) == 0);
    }
    status("timers", 0);
    CHECK_ERRNO(queued(SIG), EAGAIN);
    CHECK(kill(getpid(), SIG) == 0);
    CHECK(sigtimedwait(&all, &i, &none) == SIG);
    printf("number alone: %d %d %d\n", i.si_code, i.si_pid, i.si_uid);
    struct itimerspec soon = {{0, 0}, {0, 1000}};
    CHECK(timer_settime(timers[0], 0, &soon, NULL) == 0);
    struct timespec wait = {5, 0};
    CHECK(sigtimedwait(&all, &i, &wait) == SIG);
    printf("timer: %d\n", i.si_code);
    for (int k = 0; k < 4; k++) {
        CHECK(timer_delete(timers[k]) == 0);
    }
    CHECK(queued(SIG) == 0);
    /* The user's other processes count. */
    pid_t child = fork_clean();
    if (child == 0) {
        int m = 0;
        while (m < 100 && queued(SIG) == 0) {
            m++;
        }
        _exit(m);
    }
    report("child", child);
    status("child is gone", 0);
}

/* The file of the lease cases, in a directory of its own. */
static char leased[64];
static void make_leased(void) {
    strcpy(leased, "/tmp/leaseXXXXXX");
    int fd = mkstemp(leased);
    CHECK(fd >= 0 && write(fd, "abc", 3) == 3 && close(fd) == 0);
}
static const char *kind_of(int lease) {
    return lease == F_RDLCK ? "read" : lease == F_WRLCK ? "write" : lease == F_UNLCK ? "none" : "error";
}
static void print_lease(const char *what, int fd) {
    printf("%s: %s\n", what, kind_of(fcntl(fd, F_GETLEASE)));
}

CASE(leases) {
    make_leased();
    int r = open(leased, O_RDONLY), w = open(leased, O_RDWR);
    CHECK(fcntl(r, F_GETLEASE) == F_UNLCK);
    CHECK_ERRNO(fcntl(r, F_SETLEASE, F_UNLCK), EAGAIN);
    CHECK_ERRNO(fcntl(r, F_SETLEASE, 3), EINVAL);
    CHECK_ERRNO(fcntl(r, F_SETLEASE, -1), EINVAL);
    CHECK_ERRNO(fcntl(r, F_SETLEASE, F_RDLCK), EAGAIN); /* a writer has it open */
    CHECK_ERRNO(fcntl(w, F_SETLEASE, F_RDLCK), EAGAIN);
    CHECK_ERRNO(fcntl(w, F_SETLEASE, F_WRLCK), EAGAIN); /* a reader has */
    close(w);
    CHECK(fcntl(r, F_SETLEASE, F_RDLCK) == 0 && fcntl(r, F_GETOWN) == getpid());
    print_lease("read lease", r);
    int second = open(leased, O_RDONLY);
    CHECK(fcntl(second, F_GETLEASE) == F_UNLCK && fcntl(second, F_SETLEASE, F_RDLCK) == 0);
    CHECK_ERRNO(fcntl(r, F_SETLEASE, F_WRLCK), EAGAIN);
    close(second);
    CHECK(fcntl(r, F_SETLEASE, F_WRLCK) == 0);
    print_lease("write lease", r);
    int d = dup(r);
    print_lease("of the open file", d);
    CHECK(fcntl(r, F_SETSIG, SIG) == 0);
    close(r);
    print_lease("one descriptor closed", d);
    CHECK(fcntl(d, F_SETLEASE, F_UNLCK) == 0 && fcntl(d, F_GETOWN) == 0 && fcntl(d, F_GETSIG) == 0);
    print_lease("given back", d);
    close(d);
    w = open(leased, O_RDWR);
    CHECK(fcntl(w, F_SETLEASE, F_WRLCK) == 0);
    CHECK_ERRNO(fcntl(w, F_SETLEASE, F_RDLCK), EAGAIN); /* it writes itself */
    print_lease("still", w);
    close(w);
    int path = open(leased, O_PATH), directory = open("/tmp", O_RDONLY), p[2];
    CHECK_ERRNO(fcntl(path, F_GETLEASE), EBADF);
    CHECK_ERRNO(fcntl(directory, F_SETLEASE, F_RDLCK), EINVAL);
    CHECK(pipe(p) == 0);
    CHECK_ERRNO(fcntl(p[0], F_SETLEASE, F_RDLCK), EINVAL);
    /* A mapping keeps the file open. */
    r = open(leased, O_RDONLY), w = open(leased, O_RDWR);
    char *m = mmap(NULL, 1, PROT_READ, MAP_SHARED, w, 0);
    close(w);
    CHECK_ERRNO(fcntl(r, F_SETLEASE, F_RDLCK), EAGAIN);
    munmap(m, 1);
    CHECK(fcntl(r, F_SETLEASE, F_RDLCK) == 0);
    if (geteuid() == 0) { /* somebody else's file takes CAP_LEASE */
        pid_t child = fork_clean();
        if (child == 0) {
            chmod(leased, 0644);
            CHECK(setuid(1234) == 0);
            int other = open(leased, O_RDONLY);
            CHECK_ERRNO(fcntl(other, F_SETLEASE, F_RDLCK), EACCES);
            fflush(stdout);
            _exit(guest_failures);
        }
        report("somebody else", child);
    }
    unlink(leased);
}

/* Opens, or says why not, and how it was when it waited. */
static pid_t opener(int flags) {
    pid_t child = fork_clean();
    if (child == 0) {
        close(20); /* the lease is the parent's alone */
        int fd = open(leased, flags);
        printf("opened: %s\n", fd >= 0 ? "yes" : strerrorname_of(errno));
        fflush(stdout);
        _exit(0);
    }
    return child;
}
static void await_break(const char *what) {
    siginfo_t i;
    int sig = sigwaitinfo(&all, &i);
    printf("%s: %s %d/%#lx/%d\n", what, sig == SIG ? "SIG" : "other", i.si_code, (long)i.si_band, i.si_fd == 20);
    fflush(stdout);
}
static void ignore_it(int sig) {
}
static void lease(int flags, int kind) {
    int fd = open(leased, flags);
    CHECK(dup2(fd, 20) == 20 && close(fd) == 0);
    CHECK(fcntl(20, F_SETLEASE, kind) == 0 && fcntl(20, F_SETSIG, SIG) == 0);
}

CASE(broken_leases) {
    sigemptyset(&all);
    sigaddset(&all, SIG);
    sigaddset(&all, SIGIO);
    sigprocmask(SIG_BLOCK, &all, NULL);
    make_leased();
    lease(O_RDONLY, F_RDLCK);
    report("reader", opener(O_RDONLY));
    show("does not break");
    fflush(stdout);
    report("who does not wait", opener(O_WRONLY | O_NONBLOCK));
    await_break("told");
    print_lease("has to become", 20);
    fflush(stdout);
    report("once more", opener(O_WRONLY | O_NONBLOCK));
    show("not told again");
    CHECK(fcntl(20, F_SETLEASE, F_UNLCK) == 0);
    fflush(stdout);
    report("free", opener(O_WRONLY | O_NONBLOCK));
    /* A writer waits until the lease is given back. */
    lease(O_RDONLY, F_RDLCK);
    pid_t child = opener(O_RDWR);
    await_break("writer waits");
    CHECK(fcntl(20, F_SETLEASE, F_UNLCK) == 0);
    report("writer", child);
    /* A reader waits until a write lease is a read lease; both have it then. */
    lease(O_RDONLY, F_WRLCK);
    child = opener(O_RDONLY);
    await_break("reader waits");
    print_lease("has to become", 20);
    CHECK(fcntl(20, F_SETLEASE, F_RDLCK) == 0);
    report("reader", child);
    print_lease("is", 20);
    CHECK(fcntl(20, F_SETLEASE, F_UNLCK) == 0);
    /* It ends with the open file. */
    lease(O_RDWR, F_WRLCK);
    fflush(stdout);
    child = opener(O_RDONLY);
    await_break("reader waits");
    close(20);
    report("reader", child);
    /* Cutting a file by its name opens it to write. */
    lease(O_RDONLY, F_RDLCK);
    child = fork_clean();
    if (child == 0)
        _exit(close(20) != 0 || truncate(leased, 1) != 0);
    await_break("cutter waits");
    struct stat before;
    CHECK(fstat(20, &before) == 0 && before.st_size == 3);
    CHECK(fcntl(20, F_SETLEASE, F_UNLCK) == 0);
    report("cutter", child);
    /* A signal ends the wait. */
    lease(O_RDONLY, F_RDLCK);
    child = fork_clean();
    if (child == 0) {
        close(20);
        struct sigaction action = {.sa_handler = ignore_it};
        sigaction(SIGALRM, &action, NULL);
        struct itimerval often = {{0, 20000}, {0, 20000}};
        setitimer(ITIMER_REAL, &often, NULL);
        CHECK_ERRNO(open(leased, O_WRONLY), EINTR);
        fflush(stdout);
        _exit(guest_failures);
    }
    report("interrupted", child);
    await_break("told");
    close(20);
    unlink(leased);
}

static int set_break_time(const char *text) {
    int fd = open("/proc/sys/fs/lease-break-time", O_WRONLY);
    int done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int saved = errno;
    close(fd);
    errno = saved;
    return done ? 0 : -1;
}
/* How long a lease's holder has is the administrator's to say. Natively it stays as it is: it is everybody's. */
CASE(lease_break_time) {
    if (geteuid() != 0)
        return;
    char before[20] = "", text[20] = "";
    int fd = open("/proc/sys/fs/lease-break-time", O_RDONLY);
    CHECK(read(fd, before, sizeof before - 1) > 0 && atoi(before) > 0);
    CHECK(set_break_time(before) == 0);
    CHECK_ERRNO(set_break_time("soon\n"), EINVAL);
    CHECK(pread(fd, text, sizeof text - 1, 0) > 0 && strcmp(text, before) == 0);
    if (access("/proc/occlum", F_OK) == 0) {
        make_leased();
        int r = open(leased, O_RDONLY);
        signal(SIGIO, SIG_IGN);
        CHECK(set_break_time("1\n") == 0 && fcntl(r, F_SETLEASE, F_RDLCK) == 0);
        pid_t child = fork_clean();
        if (child == 0) {
            int64_t start = now_ms();
            int w = open(leased, O_WRONLY);
            _exit(w < 0 || now_ms() - start < 900 || now_ms() - start > 30000);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0 && fcntl(r, F_GETLEASE) == F_UNLCK);
        CHECK(set_break_time(before) == 0);
        unlink(leased);
    }
}
