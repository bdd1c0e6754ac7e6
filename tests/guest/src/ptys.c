/* Pseudo-terminals: pairs, line discipline, job control, hang-up, packet mode. */
#include "guest.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif

static int master, slave;

static void open_pair(void) {
    master = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    CHECK(slave >= 0);
}

static void show(const char *what, const char *bytes, long n) {
    printf("%s %ld:", what, n);
    for (long i = 0; i < n; i++) {
        printf(bytes[i] >= 33 && bytes[i] < 127 ? " %c" : " %02x", (unsigned char)bytes[i]);
    }
    puts("");
}

/* What is there now, without waiting. */
static void show_now(const char *what, int fd) {
    char buffer[8192];
    long n = 0;
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    sleep_ms(5);
    for (;;) {
        long got = read(fd, buffer + n, sizeof buffer - n);
        if (got < 0) {
            show(what, buffer, n);
            if (errno != EAGAIN) {
                printf("  %s\n", strerrorname_of(errno));
            }
            break;
        }
        if (got == 0) {
            show(what, buffer, n);
            puts("  end of file");
            break;
        }
        n += got;
    }
    fcntl(fd, F_SETFL, flags);
}

static void put(int fd, const char *text) { CHECK(write(fd, text, strlen(text)) == (long)strlen(text)); }

static void set_modes(int fd, int clear, int set) {
    struct termios t;
    CHECK(tcgetattr(fd, &t) == 0);
    t.c_lflag = (t.c_lflag & ~clear) | set;
    CHECK(tcsetattr(fd, TCSANOW, &t) == 0);
}

static void make_raw(int fd, int min, int time) {
    struct termios t;
    CHECK(tcgetattr(fd, &t) == 0);
    cfmakeraw(&t);
    t.c_cc[VMIN] = min;
    t.c_cc[VTIME] = time;
    CHECK(tcsetattr(fd, TCSANOW, &t) == 0);
}

CASE(pairs) {
    int m = open("/dev/ptmx", O_RDWR | O_NOCTTY), locked = -1, number = -1, peer;
    CHECK(m >= 0 && ioctl(m, TIOCGPTN, &number) == 0 && number >= 0);
    CHECK(ioctl(m, TIOCGPTLCK, &locked) == 0 && locked == 1);
    char name[64], other[64];
    CHECK(ptsname_r(m, name, sizeof name) == 0);
    snprintf(other, sizeof other, "/dev/pts/%d", number);
    CHECK(strcmp(name, other) == 0);
    CHECK_ERRNO(open(name, O_RDWR | O_NOCTTY), EIO);
    CHECK_ERRNO(ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY), EIO);
    CHECK(unlockpt(m) == 0 && (peer = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY)) >= 0 && ioctl(m, TIOCGPTLCK, &locked) == 0 && locked == 0);
    int s = open(name, O_RDWR | O_NOCTTY);
    struct stat a, b;
    CHECK(s >= 0 && isatty(s) && isatty(m) && isatty(peer));
    CHECK(fstat(s, &a) == 0 && stat(name, &b) == 0 && a.st_rdev == b.st_rdev && S_ISCHR(a.st_mode));
    CHECK(major(a.st_rdev) == 136 && (int)minor(a.st_rdev) == number && a.st_uid == geteuid());
    CHECK(ttyname_r(s, other, sizeof other) == 0 && strcmp(name, other) == 0);
    CHECK(fchmod(s, 0600) == 0 && stat(name, &b) == 0 && (b.st_mode & 0777) == 0600);
    CHECK_ERRNO(lseek(s, 0, SEEK_SET), ESPIPE);
    CHECK_ERRNO(ioctl(s, TIOCGPTN, &number), ENOTTY);
    CHECK_ERRNO(ioctl(s, TCGETS, (void *)8), EFAULT);
    CHECK_ERRNO(read(s, (void *)8, 0) ? 0 : -1, 0);
    int exclusive = -1;
    CHECK(ioctl(s, TIOCEXCL) == 0 && ioctl(s, TIOCGEXCL, &exclusive) == 0 && exclusive == 1 && ioctl(s, TIOCNXCL) == 0);
    close(m);
    CHECK_ERRNO(access(name, F_OK), ENOENT);
    CHECK_ERRNO(write(s, "x", 1), EIO);
    puts("done");
}

CASE(lines) {
    open_pair();
    static const char *const typed[] = {
        "hello\n", "ab\177\177\177c\n", "one two  three\027\027four\n", "gone\025kept\r", "a\tb\177\177c\n", "\001\002\177x\n",
        "q\026\003u\026\177o\n", "half\004", "\004", "re\022print\n", "\033[A\n", "caf\303\251\177e\n", "a\tbc\t\177\177\177\177d\n",
    };
    for (unsigned i = 0; i < sizeof typed / sizeof *typed; i++) {
        put(master, typed[i]);
        show_now("read", slave);
        show_now("echo", master);
    }
    put(slave, "out\tput\nnext\r\n");
    show_now("output", master);
    char few[3];
    put(master, "abcdef\nsecond\n");
    CHECK(read(slave, few, 3) == 3 && memcmp(few, "abc", 3) == 0);
    int ready = -1;
    CHECK(ioctl(slave, FIONREAD, &ready) == 0);
    printf("ready %d\n", ready);
    show_now("rest", slave);
    show_now("echo", master);
    set_modes(slave, ECHO, 0);
    put(master, "secret\nx\177y\n");
    show_now("quiet", slave);
    show_now("echo", master);
    set_modes(slave, 0, ECHONL);
    put(master, "newline only\n");
    show_now("echo", master);
    set_modes(slave, ECHOE | ECHOK | ECHONL, ECHO);
    put(master, "ab\177c\025d\n");
    show_now("no erase", slave);
    show_now("echo", master);
    set_modes(slave, 0, ECHOE | ECHOPRT);
    put(master, "abc\177\177d\n");
    show_now("print", slave);
    show_now("echo", master);
}

CASE(lines_and_bytes_change) {
    open_pair();
    put(master, "line\npart");
    make_raw(slave, 1, 0);
    show_now("raw", slave);
    put(master, "xy");
    sleep_ms(10);
    struct termios t;
    tcgetattr(slave, &t);
    t.c_lflag |= ICANON;
    tcsetattr(slave, TCSANOW, &t);
    show_now("lines", slave);
    put(master, "flushed\n");
    sleep_ms(10);
    CHECK(tcflush(slave, TCIFLUSH) == 0);
    show_now("after flush", slave);
    CHECK(tcflush(slave, TCOFLUSH) == 0);
    CHECK(tcflush(master, TCIOFLUSH) == 0 && tcdrain(slave) == 0 && tcsendbreak(slave, 0) == 0);
    CHECK_ERRNO(tcflush(slave, 9), EINVAL);
    put(master, "gone\n");
    sleep_ms(10);
    t.c_lflag |= ICANON;
    CHECK(tcsetattr(slave, TCSAFLUSH, &t) == 0);
    show_now("after TCSAFLUSH", slave);
}

CASE(minimum_and_time) {
    open_pair();
    make_raw(slave, 0, 0);
    char b[16];
    CHECK(read(slave, b, 16) == 0);
    make_raw(slave, 0, 1);
    int64_t start = now_ms();
    CHECK(read(slave, b, 16) == 0 && now_ms() - start >= 80);
    put(master, "z");
    CHECK(read(slave, b, 16) == 1);
    make_raw(slave, 3, 0);
    pid_t child = fork_clean();
    if (child == 0) {
        sleep_ms(20);
        put(master, "ab");
        sleep_ms(20);
        put(master, "cd");
        _exit(0);
    }
    long n = read(slave, b, 16);
    CHECK(n >= 3 && n <= 4 && memcmp(b, "abcd", n) == 0);
    report("writer", child);
    tcflush(slave, TCIFLUSH);
    put(master, "q");
    struct pollfd f = {slave, POLLIN, 0};
    CHECK(poll(&f, 1, 0) == 0);
    fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK);
    CHECK(read(slave, b, 16) == 1);
    CHECK_ERRNO(read(slave, b, 16), EAGAIN);
    fcntl(slave, F_SETFL, O_RDWR);
    make_raw(slave, 5, 1);
    put(master, "12");
    start = now_ms();
    CHECK(read(slave, b, 16) == 2 && now_ms() - start >= 50);
    puts("done");
}

static uint64_t state;
static unsigned rnd(unsigned n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % n;
}

/* Random modes, random keys: both ends must see what they see on Linux. */
CASE(random_keys) {
    static const tcflag_t in[] = {ISTRIP, INLCR, IGNCR, ICRNL, IXON, IXANY, IUTF8, PARMRK};
    static const tcflag_t out[] = {OPOST, ONLCR, OCRNL, ONOCR, ONLRET, XTABS, OLCUC};
    static const tcflag_t local[] = {ICANON, ECHO, ECHOE, ECHOK, ECHONL, ECHOCTL, ECHOPRT, ECHOKE, IEXTEN};
    static const char keys[] = "\001\002\004\004\010\n\n\n\r\r\017\022\023\021\025\026\026\027\027\177\177\177\177\033 _-aBc19\303\251\377";
    state = strtoull(getenv("GUEST_SEED") ?: "1", NULL, 0);
    for (int round = 0; round < 150; round++) {
        open_pair();
        struct termios t;
        tcgetattr(slave, &t);
        for (unsigned i = 0; i < sizeof in / sizeof *in; i++) {
            t.c_iflag = rnd(3) ? t.c_iflag : t.c_iflag ^ in[i];
        }
        for (unsigned i = 0; i < sizeof out / sizeof *out; i++) {
            t.c_oflag = rnd(4) ? t.c_oflag : t.c_oflag ^ out[i];
        }
        for (unsigned i = 0; i < sizeof local / sizeof *local; i++) {
            t.c_lflag = rnd(4) ? t.c_lflag : t.c_lflag ^ local[i];
        }
        if (rnd(3) == 0) {
            t.c_cc[VEOL] = 'B';
        }
        CHECK(tcsetattr(slave, TCSANOW, &t) == 0);
        char typed[64];
        int n = 0;
        for (int i = rnd(40); i >= 0; i--) {
            typed[n++] = keys[rnd(sizeof keys - 1)];
        }
        CHECK(write(master, typed, n) == n);
        show("typed", typed, n);
        show_now("read", slave);
        tcflow(slave, TCOON);
        put(master, "\021\021");
        show_now("echo", master);
        n = 0;
        for (int i = rnd(20); i >= 0; i--) {
            typed[n++] = "ab\t\n\r\010\303\251Z"[rnd(9)];
        }
        CHECK(write(slave, typed, n) == n);
        show_now("output", master);
        close(slave);
        close(master);
    }
}

CASE(flow_control) {
    open_pair();
    put(master, "\023");
    sleep_ms(10);
    fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK);
    CHECK_ERRNO(write(slave, "x", 1), EAGAIN);
    struct pollfd f = {slave, POLLOUT, 0};
    CHECK(poll(&f, 1, 0) == 0);
    put(master, "\021");
    CHECK(poll(&f, 1, 1000) == 1 && write(slave, "x", 1) == 1);
    show_now("through", master);
    CHECK(tcflow(slave, TCOOFF) == 0);
    CHECK_ERRNO(write(slave, "x", 1), EAGAIN);
    CHECK(tcflow(slave, TCOON) == 0 && write(slave, "y", 1) == 1);
    CHECK(tcflow(slave, TCIOFF) == 0 && tcflow(slave, TCION) == 0);
    show_now("through", master);
    CHECK_ERRNO(tcflow(slave, 7), EINVAL);
    char block[1024];
    memset(block, 'o', sizeof block);
    long total = 0, n;
    while ((n = write(slave, block, sizeof block)) > 0) {
        total += n;
    }
    CHECK(errno == EAGAIN && total >= 4096 && total <= 1 << 20);
    CHECK(poll(&f, 1, 0) == 0);
    long got = 0;
    fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK);
    for (int quiet = 0; quiet < 10;) {
        if ((n = read(master, block, sizeof block)) > 0) {
            got += n;
            quiet = 0;
        } else {
            sleep_ms(2);
            quiet++;
        }
    }
    CHECK(got == total && poll(&f, 1, 1000) == 1);
    puts("done");
}

static void become_leader(void) {
    CHECK(setsid() > 0 && ioctl(slave, TIOCSCTTY, 0) == 0);
}

static volatile sig_atomic_t seen;
static void note(int signal) { seen = signal; }

CASE(controlling) {
    open_pair();
    char name[64];
    ptsname_r(master, name, sizeof name);
    int first = slave;
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK_ERRNO(ioctl(slave, TIOCSCTTY, 0), EPERM);
        int group = -1;
        CHECK(setsid() == getpid());
        CHECK_ERRNO(open("/dev/tty", O_RDWR), ENXIO);
        CHECK_ERRNO(tcgetpgrp(slave), ENOTTY);
        int again = open(name, O_RDWR);
        CHECK(again >= 0 && tcgetpgrp(slave) == getpid() && tcgetsid(again) == getpid());
        CHECK(ioctl(master, TIOCGPGRP, &group) == 0 && group == getpid());
        int tty = open("/dev/tty", O_RDWR);
        struct stat s;
        CHECK(tty >= 0 && isatty(tty) && fstat(tty, &s) == 0 && s.st_rdev == makedev(5, 0));
        CHECK(write(tty, "by name", 7) == 7);
        CHECK(ioctl(slave, TIOCSCTTY, 0) == 0);
        CHECK_ERRNO(tcsetpgrp(slave, 1), EPERM);
        CHECK_ERRNO(tcsetpgrp(slave, 999999), ESRCH);
        CHECK_ERRNO(tcsetpgrp(slave, -5), EINVAL);
        signal(SIGHUP, note);
        CHECK(ioctl(tty, TIOCNOTTY) == 0 && seen == SIGHUP);
        CHECK_ERRNO(open("/dev/tty", O_RDWR), ENXIO);
        _exit(guest_failures);
    }
    report("leader", child);
    show_now("wrote", master);
    CHECK(first == slave);
}

CASE(keys_send_signals) {
    open_pair();
    int go[2];
    CHECK(pipe(go) == 0);
    pid_t leader = fork_clean();
    if (leader == 0) {
        become_leader();
        static const int expected[] = {SIGINT, SIGQUIT, SIGTSTP};
        for (int i = 0; i < 3; i++) {
            signal(expected[i], note);
        }
        for (int i = 0; i < 3; i++) {
            seen = 0;
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, expected[i]);
            sigprocmask(SIG_BLOCK, &set, NULL);
            write(go[1], "g", 1);
            int got = 0;
            sigwait(&set, &got);
            CHECK(got == expected[i]);
        }
        CHECK(ioctl(master, TIOCSIG, SIGINT) == 0);
        sigset_t pending;
        CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGINT));
        write(go[1], "g", 1);
        _exit(guest_failures);
    }
    char c;
    for (int i = 0; i < 3; i++) {
        read(go[0], &c, 1);
        put(master, i == 0 ? "dropped\003" : i == 1 ? "\034" : "\032");
    }
    read(go[0], &c, 1);
    report("leader", leader);
    show_now("echo", master);
}

CASE(background_jobs) {
    open_pair();
    pid_t leader = fork_clean();
    if (leader == 0) {
        become_leader();
        int status;
        pid_t job = fork_clean();
        if (job == 0) {
            setpgid(0, 0);
            char c;
            read(slave, &c, 1);
            _exit(c);
        }
        CHECK(waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status));
        printf("reader stopped by %d\n", WSTOPSIG(status));
        CHECK(tcsetpgrp(slave, job) == 0 && tcgetpgrp(slave) == job);
        write(master, "k\n", 2);
        kill(-job, SIGCONT);
        CHECK(waitpid(job, &status, 0) == job && WIFEXITED(status) && WEXITSTATUS(status) == 'k');
        signal(SIGTTOU, SIG_IGN);
        CHECK(tcsetpgrp(slave, getpid()) == 0);
        signal(SIGTTOU, SIG_DFL);
        set_modes(slave, 0, TOSTOP);
        job = fork_clean();
        if (job == 0) {
            setpgid(0, 0);
            _exit(write(slave, "x", 1) != 1);
        }
        CHECK(waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status));
        printf("writer stopped by %d\n", WSTOPSIG(status));
        set_modes(slave, TOSTOP, 0);
        kill(-job, SIGCONT);
        report("writer", job);
        job = fork_clean();
        if (job == 0) {
            setpgid(0, 0);
            set_modes(slave, 0, 0);
            _exit(0);
        }
        CHECK(waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status));
        printf("setter stopped by %d\n", WSTOPSIG(status));
        kill(-job, SIGKILL);
        report("setter", job);
        job = fork_clean();
        if (job == 0) {
            setpgid(0, 0);
            signal(SIGTTIN, SIG_IGN);
            char c;
            CHECK_ERRNO(read(slave, &c, 1), EIO);
            _exit(guest_failures);
        }
        report("ignorer", job);
        _exit(guest_failures);
    }
    report("leader", leader);
}

CASE(window_size) {
    open_pair();
    struct winsize w = {1, 2, 3, 4};
    CHECK(ioctl(slave, TIOCGWINSZ, &w) == 0);
    printf("%d %d\n", w.ws_row, w.ws_col);
    int go[2];
    char c;
    CHECK(pipe(go) == 0);
    pid_t leader = fork_clean();
    if (leader == 0) {
        become_leader();
        signal(SIGWINCH, note);
        write(go[1], "g", 1);
        for (int i = 0; i < 500 && !seen; i++) {
            sleep_ms(10);
        }
        CHECK(seen == SIGWINCH && ioctl(slave, TIOCGWINSZ, &w) == 0);
        printf("%d %d\n", w.ws_row, w.ws_col);
        _exit(guest_failures);
    }
    read(go[0], &c, 1);
    w = (struct winsize){24, 80, 0, 0};
    CHECK(ioctl(master, TIOCSWINSZ, &w) == 0);
    report("leader", leader);
}

CASE(hang_up_by_the_master) {
    open_pair();
    int go[2];
    char c;
    CHECK(pipe(go) == 0);
    pid_t leader = fork_clean();
    if (leader == 0) {
        close(master);
        become_leader();
        signal(SIGHUP, note);
        write(go[1], "g", 1);
        long n = read(slave, &c, 1);
        CHECK(n <= 0 && seen == SIGHUP);
        CHECK(read(slave, &c, 1) == 0);
        CHECK_ERRNO(write(slave, "x", 1), EIO);
        struct termios t;
        CHECK_ERRNO(tcgetattr(slave, &t), EIO);
        struct pollfd f = {slave, POLLIN | POLLOUT, 0};
        CHECK(poll(&f, 1, 0) == 1);
        printf("events %#x\n", f.revents);
        CHECK_ERRNO(open("/dev/tty", O_RDWR), ENXIO);
        _exit(guest_failures);
    }
    close(slave);
    read(go[0], &c, 1);
    sleep_ms(20);
    close(master);
    report("leader", leader);
}

CASE(hang_up_by_the_slave) {
    open_pair();
    struct pollfd f = {master, POLLIN | POLLOUT, 0};
    put(slave, "last");
    close(slave);
    sleep_ms(5);
    CHECK(poll(&f, 1, 0) == 1);
    printf("events %#x\n", f.revents);
    show_now("rest", master);
    CHECK(poll(&f, 1, 0) == 1);
    printf("events %#x\n", f.revents);
    slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    CHECK(slave >= 0 && poll(&f, 1, 0) == 1);
    printf("events %#x\n", f.revents);
    put(slave, "again");
    show_now("again", master);
}

CASE(leader_ends) {
    open_pair();
    int ended[2];
    char c;
    CHECK(pipe(ended) == 0);
    pid_t leader = fork_clean();
    if (leader == 0) {
        become_leader();
        pid_t member = fork_clean();
        if (member == 0) {
            struct sigaction a = {.sa_handler = note};
            sigaction(SIGHUP, &a, NULL);
            char c;
            CHECK_ERRNO(read(slave, &c, 1), EINTR);
            printf("member: signal %d\n", (int)seen);
            CHECK_ERRNO(open("/dev/tty", O_RDWR), ENXIO);
            CHECK_ERRNO(tcgetpgrp(slave), ENOTTY);
            CHECK(write(slave, "x", 1) == 1);
            _exit(0);
        }
        sleep_ms(30);
        _exit(7);
    }
    close(ended[1]);
    CHECK(read(ended[0], &c, 1) == 0);
    report("leader", leader);
    CHECK(write(slave, "ours", 4) == 4);
    int again = open(ptsname(master), O_RDWR | O_NOCTTY);
    CHECK(again >= 0 && write(again, "fresh", 5) == 5);
    show_now("fresh", master);
}

CASE(packets) {
    open_pair();
    int on = 1, now = 0;
    CHECK(ioctl(master, TIOCPKT, &on) == 0 && ioctl(master, TIOCGPKT, &now) == 0 && now == 1);
    put(slave, "data");
    show_now("packet", master);
    CHECK(tcflow(slave, TCOOFF) == 0);
    struct pollfd f = {master, POLLIN | POLLPRI, 0};
    CHECK(poll(&f, 1, 0) == 1 && (f.revents & POLLPRI));
    show_now("stop", master);
    CHECK(tcflow(slave, TCOON) == 0);
    show_now("start", master);
    CHECK(tcflush(slave, TCIOFLUSH) == 0);
    show_now("flush", master);
    make_raw(slave, 1, 0);
    show_now("raw", master);
    on = 0;
    CHECK(ioctl(master, TIOCPKT, &on) == 0);
    put(slave, "plain");
    show_now("plain", master);
}

CASE(waiting) {
    open_pair();
    int e = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = 5}, got[4];
    CHECK(epoll_ctl(e, EPOLL_CTL_ADD, slave, &event) == 0);
    event.data.u32 = 6;
    CHECK(epoll_ctl(e, EPOLL_CTL_ADD, master, &event) == 0);
    CHECK(epoll_wait(e, got, 4, 0) == 0);
    put(master, "x\n");
    CHECK(epoll_wait(e, got, 1, 1000) >= 1);
    sleep_ms(5);
    while (epoll_wait(e, got, 4, 0) > 0) {
    }
    put(slave, "y");
    CHECK(epoll_wait(e, got, 4, 1000) == 1 && got[0].data.u32 == 6);
    tcflush(slave, TCIFLUSH);
    struct sigaction a = {.sa_handler = note};
    sigaction(SIGALRM, &a, NULL);
    alarm(1);
    char c;
    CHECK_ERRNO(read(slave, &c, 1), EINTR);
    CHECK(seen == SIGALRM);
    pid_t child = fork_clean();
    if (child == 0) {
        sleep_ms(20);
        put(master, "late\n");
        _exit(0);
    }
    char line[8];
    CHECK(read(slave, line, 8) == 5 && memcmp(line, "late\n", 5) == 0);
    report("writer", child);
}

CASE(injected) {
    open_pair();
    pid_t leader = fork_clean();
    if (leader == 0) {
        become_leader();
        CHECK_ERRNO(ioctl(slave, TIOCSTI, (void *)8), EFAULT);
        _exit(guest_failures);
    }
    report("leader", leader);
    int number = 0;
    CHECK_ERRNO(ioctl(master, 0x5499, &number), ENOTTY);
    CHECK_ERRNO(ioctl(slave, 0x5499, &number), ENOTTY);
    struct { unsigned short flags[4]; unsigned char line, cc[8]; } old;
    CHECK(ioctl(slave, 0x5405 /* TCGETA */, &old) == 0 && old.cc[0] == 3);
    old.cc[0] = 5;
    struct termios t;
    CHECK(ioctl(slave, 0x5406 /* TCSETA */, &old) == 0 && tcgetattr(slave, &t) == 0 && t.c_cc[VINTR] == 5);
    char block[4096];
    memset(block, 'l', sizeof block);
    CHECK(write(master, block, sizeof block) == 4096 && write(master, "\n", 1) == 1);
    long n = read(slave, block, sizeof block);
    printf("a long line: %ld, ends %d\n", n, block[n - 1]);
}
