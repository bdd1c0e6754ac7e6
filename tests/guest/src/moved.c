/* What is open, or somebody's working directory, while its name moves, goes or becomes another file's.
 * Each case works in a directory of its own below the current one, and leaves nothing. */
#include "guest.h"
#include <dirent.h>
#include <sys/socket.h>
#include <sys/un.h>

static char top[PATH_MAX];

/* A fresh directory as the current one. */
static void enter(const char *name) {
    if (!getcwd(top, sizeof top) || mkdir(name, 0755) || chdir(name))
        puts("no directory");
}
static void leave(const char *name) {
    char command[PATH_MAX + 20];
    snprintf(command, sizeof command, "rm -rf '%s/%s'", top, name);
    CHECK(chdir(top) == 0);
    CHECK(system(command) == 0);
}
static void say(const char *what, long result) {
    if (result < 0)
        printf("%s: %s\n", what, strerrorname_of(errno));
    else
        printf("%s: ok\n", what);
}
static int touch(int dir, const char *name) {
    int fd = openat(dir, name, O_CREAT | O_RDWR, 0644);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? -1 : 0;
}
/* What /proc calls it, from the case's directory on. */
static void say_name(const char *what, int fd) {
    char link[64], path[PATH_MAX] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0)
        say(what, -1);
    else
        printf("%s: %s\n", what, strncmp(path, top, strlen(top)) ? path : path + strlen(top));
}
static void say_cwd(const char *what) {
    char path[PATH_MAX];
    if (!getcwd(path, sizeof path))
        say(what, -1);
    else
        printf("%s: %s\n", what, strncmp(path, top, strlen(top)) ? path : path + strlen(top));
}
static void say_stat(const char *what, int fd) {
    struct stat s;
    if (fstat(fd, &s))
        say(what, -1);
    else
        printf("%s: mode %o, links %d, size %d\n", what, s.st_mode, S_ISDIR(s.st_mode) ? s.st_nlink > 0 : (int)s.st_nlink,
               S_ISDIR(s.st_mode) ? 0 : (int)s.st_size);
}
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static void say_list(const char *what, int fd) {
    char *names[20], buffer[4096];
    int count = 0;
    lseek(fd, 0, SEEK_SET);
    long n = syscall(SYS_getdents64, fd, buffer, sizeof buffer);
    if (n < 0) {
        say(what, -1);
        return;
    }
    for (long at = 0; at < n && count < 20; at += *(unsigned short *)(buffer + at + 16))
        names[count++] = buffer + at + 19;
    qsort(names, count, sizeof *names, by_name);
    printf("%s:", what);
    for (int i = 0; i < count; i++)
        printf(" %s", names[i]);
    puts("");
}
static int dir(const char *path) { return open(path, O_RDONLY | O_DIRECTORY); }

CASE(renamed_parent) {
    enter("renamed_parent");
    mkdir("a", 0755), mkdir("a/c", 0755), touch(AT_FDCWD, "a/c/own");
    int d = dir("a/c"), f = open("a/c/own", O_RDWR), p = open("a/c", O_PATH);
    say("rename", rename("a", "b"));
    say_name("directory", d), say_name("file", f), say_name("path", p);
    say("open", openat(d, "own", O_RDONLY));
    say("create", touch(d, "new"));
    say("create by path", touch(p, "new2"));
    say("there", access("b/c/new", F_OK));
    say("mkdir", mkdirat(d, "sub", 0755));
    say("fchmod", fchmod(d, 0700));
    say("symlink", symlinkat("text", d, "link"));
    say("fifo", mkfifoat(d, "fifo", 0600));
    say("unlink", unlinkat(d, "own", 0));
    say("rename within", renameat(d, "new", d, "newer"));
    say_list("list", d), say_list("list again", dir("b/c"));
    say_stat("stat", d);
    say("fchdir", fchdir(d));
    say_cwd("cwd");
    say("relative", touch(AT_FDCWD, "relative"));
    say("up", chdir(".."));
    say_cwd("cwd");
    say("another a", mkdir("../a", 0755));
    say_name("directory", d);
    say("not there", faccessat(d, "../../a/c", F_OK, 0));
    leave("renamed_parent");
}

CASE(moved_to_another_parent) {
    enter("moved_to_another_parent");
    mkdir("p", 0755), mkdir("p/c", 0755), mkdir("p/c/d", 0755), mkdir("q", 0755), mkdir("q/r", 0755);
    int c = dir("p/c"), d = dir("p/c/d");
    say("chdir", chdir("p/c/d"));
    say("rename", renameat(AT_FDCWD, "../../../p/c", AT_FDCWD, "../../../q/r/moved"));
    say_name("c", c), say_name("d", d), say_cwd("cwd");
    say("create", touch(d, "new"));
    say("up", fchdir(openat(d, "..", O_DIRECTORY)));
    say_cwd("cwd");
    say("up twice", chdir("../.."));
    say_cwd("cwd");
    say_list("list", dir("."));
    say("again", rename("r/moved", "../p/back"));
    say_name("d", d);
    say("create", touch(d, "newer"));
    say_list("list", d);
    CHECK_ERRNO(renameat(AT_FDCWD, "../p/back", d, "in-itself"), EINVAL);
    CHECK_ERRNO(renameat(AT_FDCWD, "../p", d, "in-itself"), EINVAL);
    leave("moved_to_another_parent");
}

CASE(removed_directory) {
    enter("removed_directory");
    mkdir("e", 0755);
    int d = dir("e"), p = open("e", O_PATH);
    struct stat s;
    say("rmdir", rmdir("e"));
    for (int again = 0; again < 2; again++) {
        say_name("directory", d), say_name("path", p);
        say("create", touch(d, "new"));
        say("open", openat(d, "new", O_RDONLY));
        say("mkdir", mkdirat(d, "new", 0755));
        say("symlink", symlinkat("text", d, "new"));
        say("fifo", mkfifoat(d, "new", 0600));
        say("stat", fstatat(d, "new", &s, 0));
        say("stat of .", fstatat(d, ".", &s, 0));
        say("rename in", renameat(AT_FDCWD, "e/new", d, "other"));
        say_list("list", d);
        say("links", fstat(d, &s) ? -1 : 0);
        printf("links %d\n", (int)s.st_nlink);
        say("fchmod", fchmod(d, 0711));
        say("up", faccessat(d, "../.", F_OK, 0));
        say("fchdir", fchdir(d));
        say_cwd("cwd");
        say("relative", touch(AT_FDCWD, "new"));
        say("back", chdir(".."));
        say_cwd("cwd");
        /* The name, and maybe the number, of the old one. */
        if (!again)
            say("another one", mkdir("e", 0755)), touch(AT_FDCWD, "e/inside");
    }
    say_name("new one", dir("e")), say_list("new one", dir("e")), say_stat("new one", dir("e"));
    leave("removed_directory");
}

CASE(replaced_directory) {
    enter("replaced_directory");
    mkdir("x", 0755), mkdir("y", 0755), touch(AT_FDCWD, "x/of-x");
    int x = dir("x"), y = dir("y");
    say("rename", rename("x", "y"));
    say_name("x", x), say_name("y", y);
    say("create in x", touch(x, "new")), say("create in y", touch(y, "new"));
    say_list("x", x), say_list("y", y);
    CHECK_ERRNO(rename("y", "y/z"), EINVAL);
    mkdir("full", 0755), touch(AT_FDCWD, "full/one");
    say("onto a full one", rename("y", "full"));
    say_name("x", x);
    leave("replaced_directory");
}

static void say_file(const char *what, int fd) {
    char text[64] = "";
    const struct timespec times[2] = {{5, 0}, {7, 0}};
    struct stat s;
    printf("-- %s\n", what);
    say_name("name", fd), say_stat("stat", fd);
    say("write", pwrite(fd, "written", 7, 0)), say("read", pread(fd, text, 63, 0));
    printf("%s\n", text);
    say("truncate", ftruncate(fd, 3)), say("fchmod", fchmod(fd, 0640)), say("futimens", futimens(fd, times));
    say("fchown", fchown(fd, getuid(), getgid())), say("fsync", fsync(fd));
    fstat(fd, &s);
    printf("%o %d %d %d\n", s.st_mode, (int)s.st_size, (int)s.st_atime, (int)s.st_mtime);
    char by_fd[64];
    snprintf(by_fd, sizeof by_fd, "/proc/self/fd/%d", fd);
    int again = open(by_fd, O_RDWR);
    say("reopen", again);
    say("write", write(again, "ag", 2)), say_name("reopened", again);
    say("chmod", chmod(by_fd, 0604));
    say("link", linkat(AT_FDCWD, by_fd, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW)), unlink("linked");
    close(again), close(fd);
}
static int made(const char *name) {
    int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
    CHECK(write(fd, "content", 7) == 7);
    return fd;
}
/* What others see of a name. */
static void say_other(const char *name) {
    struct stat s;
    if (lstat(name, &s))
        say(name, -1);
    else
        printf("%s: %o %d\n", name, s.st_mode, S_ISLNK(s.st_mode) ? 0 : (int)s.st_size);
}

CASE(files) {
    enter("files");
    touch(AT_FDCWD, "victim"), chmod("victim", 0600);
    int fd = made("f");
    unlink("f"), say_file("removed", fd);
    fd = made("f");
    unlink("f"), say("symlink", symlink("victim", "f")), say_file("a link now", fd), say_other("f"), say_other("victim");
    unlink("f");
    fd = made("f");
    close(made("g")), chmod("g", 0644), say("rename", rename("g", "f")), say_file("replaced", fd), say_other("f");
    fd = made("f");
    say("rename", rename("f", "h")), touch(AT_FDCWD, "f"), say_file("renamed", fd), say_other("h"), say_other("f");
    fd = made("one");
    say("link", link("one", "two")), unlink("one"), say_file("one of two names", fd), say_other("two");
    fd = open("two", O_RDWR);
    say("rename", rename("two", "three")), close(made("two")), say_file("other name", fd), say_other("three"), say_other("two");
    fd = open("h", O_PATH), unlink("h"), say_name("path", fd), say_stat("path", fd);
    char by_fd[64];
    snprintf(by_fd, sizeof by_fd, "/proc/self/fd/%d", fd);
    say("reopen", open(by_fd, O_RDONLY));
    leave("files");
}

CASE(files_in_moved_directories) {
    enter("files_in_moved_directories");
    mkdir("a", 0755), mkdir("z", 0755);
    int fd = made("a/f"), p = open("a/f", O_PATH | O_NOFOLLOW);
    say("rename", rename("a", "z/b")), mkdir("a", 0755), close(made("a/f"));
    say_name("file", fd), say_name("path", p);
    say("chmod by path", fchmodat(AT_FDCWD, "a/f", 0444, 0));
    say_stat("path", p);
    say_file("file", fd), say_other("z/b/f"), say_other("a/f");
    leave("files_in_moved_directories");
}

CASE(links_and_sockets) {
    enter("links_and_sockets");
    struct sockaddr_un name = {AF_UNIX, "a/s"};
    mkdir("a", 0755), symlink("text", "a/l"), mkfifo("a/p", 0600);
    int s = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
    say("bind", bind(s, (void *)&name, sizeof name)), say("listen", listen(s, 1));
    int l = open("a/l", O_PATH | O_NOFOLLOW), p = open("a/p", O_RDWR), d = dir("a");
    say("rename", rename("a", "b"));
    char text[20] = "", link[64];
    say("readlink", readlinkat(l, "", text, 19));
    strcpy(name.sun_path, "b/s");
    say("connect", connect(c, (void *)&name, sizeof name));
    snprintf(link, sizeof link, "/proc/self/fd/%d/p", d);
    int q = open(link, O_RDWR);
    say("write", write(q, "x", 1)), say("read", read(p, text, 1));
    say("unlink", unlink("b/l")), say_name("link", l), say("readlink", readlinkat(l, "", text, 19));
    leave("links_and_sockets");
}

CASE(modes_of_new_files) {
    enter("modes_of_new_files");
    umask(027);
    for (int mode = 0; mode < 01000; mode += 0111) {
        int fd = open("f", O_CREAT | O_EXCL | O_RDWR, mode);
        say_stat("new", fd), say("write", write(fd, "x", 1));
        close(fd), unlink("f");
        say("mkdir", mkdir("d", mode)), say_other("d"), rmdir("d");
    }
    umask(0);
    say("mkdir", mkdir("d", 0777)), say_other("d");
    int fd = open("f", O_CREAT | O_EXCL | O_WRONLY, 0444);
    say("again", openat(AT_FDCWD, "f", O_RDONLY)), say("write", write(fd, "x", 1)), say_other("f");
    leave("modes_of_new_files");
}
