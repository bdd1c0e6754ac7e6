/* inotify: every event, cookies, names, queues. */
#include "guest.h"
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

static char dir[64];
static int fd;

static void begin(void) {
    sprintf(dir, "/tmp/guest-watch-%d", getpid());
    CHECK(mkdir(dir, 0700) == 0 && chdir(dir) == 0);
    fd = inotify_init1(IN_NONBLOCK);
    CHECK(fd >= 0);
}
static void end(void) {
    chdir("/");
    rmdir(dir);
    close(fd);
}

static void show(const char *what) {
    static const char *const names[] = {"ACCESS", "MODIFY", "ATTRIB", "CLOSE_WRITE", "CLOSE_NOWRITE", "OPEN", "MOVED_FROM",
                                        "MOVED_TO", "CREATE", "DELETE", "DELETE_SELF", "MOVE_SELF"};
    char b[8192] __attribute__((aligned(8)));
    static uint32_t cookie;
    long n = read(fd, b, sizeof b);
    printf("%s:\n", what);
    for (long at = 0; at < n;) {
        struct inotify_event *e = (void *)(b + at);
        printf("  %d", e->wd);
        for (int i = 0; i < 12; i++) {
            if (e->mask & 1u << i) {
                printf(" %s", names[i]);
            }
        }
        printf("%s%s%s %u %s", e->mask & IN_ISDIR ? " dir" : "", e->mask & IN_IGNORED ? " ignored" : "",
               e->mask & IN_Q_OVERFLOW ? " overflow" : "", e->len, e->len ? e->name : "-");
        if (e->cookie) {
            printf(e->mask & IN_MOVED_FROM ? " cookie" : e->cookie == cookie ? " same" : " other");
            cookie = e->cookie;
        }
        puts("");
        at += sizeof *e + e->len;
    }
    if (n < 0 && errno != EAGAIN) {
        printf("  %s\n", strerrorname_of(errno));
    }
}

CASE(instances) {
    begin();
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK));
    int other = inotify_init(), third = inotify_init1(IN_CLOEXEC);
    CHECK(other >= 0 && (fcntl(third, F_GETFD) & FD_CLOEXEC));
    CHECK_ERRNO(inotify_init1(12345), EINVAL);
    int wd = inotify_add_watch(fd, ".", IN_CREATE);
    CHECK(wd == 1 && inotify_add_watch(fd, dir, IN_CREATE) == 1);
    CHECK_ERRNO(inotify_add_watch(fd, ".", 0), EINVAL);
    CHECK_ERRNO(inotify_add_watch(fd, "none", IN_CREATE), ENOENT);
    CHECK_ERRNO(inotify_add_watch(0, ".", IN_CREATE), EINVAL);
    CHECK_ERRNO(inotify_add_watch(99, ".", IN_CREATE), EBADF);
    CHECK_ERRNO(inotify_add_watch(fd, (void *)8, IN_CREATE), EFAULT);
    CHECK_ERRNO(inotify_add_watch(fd, ".", IN_CREATE | IN_MASK_CREATE), EEXIST);
    CHECK_ERRNO(inotify_add_watch(fd, ".", IN_CREATE | IN_MASK_CREATE | IN_MASK_ADD), EINVAL);
    CHECK_ERRNO(inotify_rm_watch(fd, 7), EINVAL);
    CHECK_ERRNO(inotify_rm_watch(0, 1), EINVAL);
    char b[20];
    CHECK_ERRNO(read(fd, b, 20), EAGAIN);
    close(open("created", O_CREAT | O_WRONLY, 0600));
    CHECK_ERRNO(read(fd, b, 20), EINVAL);
    int ready = 0;
    CHECK(ioctl(fd, FIONREAD, &ready) == 0);
    printf("ready %d\n", ready);
    CHECK_ERRNO(inotify_add_watch(fd, "created", IN_CREATE | IN_ONLYDIR), ENOTDIR);
    struct pollfd p = {fd, POLLIN, 0};
    CHECK(poll(&p, 1, 0) == 1);
    CHECK(inotify_rm_watch(fd, wd) == 0);
    show("removed");
    CHECK(poll(&p, 1, 0) == 0 && inotify_add_watch(fd, ".", IN_CREATE) == 2);
    unlink("created");
    end();
}

CASE(files_and_directories) {
    begin();
    inotify_add_watch(fd, ".", IN_ALL_EVENTS);
    int f = open("file", O_CREAT | O_RDWR, 0600);
    inotify_add_watch(fd, "file", IN_ALL_EVENTS);
    show("created");
    char c;
    write(f, "hello", 5);
    pread(f, &c, 1, 0);
    pread(f, &c, 1, 0);
    show("written and read");
    ftruncate(f, 2);
    fchmod(f, 0640);
    struct timespec times[2] = {{1, 0}, {2, 0}};
    futimens(f, times);
    show("changed");
    close(f);
    close(open("file", O_RDONLY));
    truncate("file", 0);
    close(open("file", O_WRONLY | O_TRUNC));
    show("opened");
    link("file", "linked");
    symlink("file", "symbolic");
    mkdir("sub", 0700);
    mkfifo("fifo", 0600);
    show("made");
    unlink("linked");
    unlink("symbolic");
    unlink("fifo");
    rmdir("sub");
    show("unmade");
    unlink("file");
    show("gone");
    end();
}

CASE(moves) {
    begin();
    mkdir("a", 0700);
    mkdir("b", 0700);
    close(open("a/x", O_CREAT | O_WRONLY, 0600));
    close(open("b/y", O_CREAT | O_WRONLY, 0600));
    inotify_add_watch(fd, "a", IN_ALL_EVENTS);
    inotify_add_watch(fd, "b", IN_ALL_EVENTS);
    inotify_add_watch(fd, "a/x", IN_ALL_EVENTS);
    inotify_add_watch(fd, "b/y", IN_ALL_EVENTS);
    CHECK(rename("a/x", "a/z") == 0);
    show("in a directory");
    CHECK(rename("a/z", "b/z") == 0);
    show("between directories");
    CHECK(rename("b/z", "b/y") == 0);
    show("over another");
    close(open("a/w", O_CREAT | O_WRONLY, 0600));
    show("another");
    CHECK(renameat2(AT_FDCWD, "a/w", AT_FDCWD, "b/y", RENAME_EXCHANGE) == 0);
    show("exchanged");
    CHECK(rename("a", "b/a") == 0);
    show("a directory");
    unlink("b/a/w");
    unlink("b/y");
    rmdir("b/a");
    show("removed");
    rmdir("b");
    show("last");
    end();
}

CASE(open_and_deleted) {
    begin();
    int f = open("file", O_CREAT | O_RDWR, 0600);
    inotify_add_watch(fd, "file", IN_ALL_EVENTS);
    inotify_add_watch(fd, ".", IN_ALL_EVENTS | IN_EXCL_UNLINK);
    unlink("file");
    show("unlinked");
    write(f, "x", 1);
    show("written");
    close(f);
    show("closed");
    end();
}

CASE(once_and_masks) {
    begin();
    inotify_add_watch(fd, ".", IN_CREATE | IN_ONESHOT);
    mkdir("one", 0700);
    mkdir("two", 0700);
    show("once");
    int wd = inotify_add_watch(fd, ".", IN_CREATE);
    CHECK(inotify_add_watch(fd, ".", IN_DELETE | IN_MASK_ADD) == wd);
    rmdir("one");
    mkdir("three", 0700);
    show("both");
    CHECK(inotify_add_watch(fd, ".", IN_DELETE) == wd);
    rmdir("two");
    mkdir("four", 0700);
    show("replaced");
    rmdir("three");
    rmdir("four");
    symlink("none", "dangling");
    CHECK_ERRNO(inotify_add_watch(fd, "dangling", IN_ATTRIB), ENOENT);
    CHECK(inotify_add_watch(fd, "dangling", IN_ATTRIB | IN_DONT_FOLLOW) > 0);
    unlink("dangling");
    show("a link itself");
    end();
}

CASE(waiting) {
    begin();
    fcntl(fd, F_SETFL, 0);
    inotify_add_watch(fd, ".", IN_CREATE);
    pid_t child = fork_clean();
    if (child == 0) {
        sleep_ms(30);
        _exit(mkdir("late", 0700));
    }
    show("waited");
    report("maker", child);
    rmdir("late");
    end();
}
