/* Files and directories in a fresh directory under /tmp: links, rights, times, names, sizes, errors. */
#include "guest.h"
#include <dirent.h>
#include <sys/file.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <sys/uio.h>

static char dir[] = "/tmp/guest-files-XXXXXX";
__attribute__((constructor)) static void nothing(void) {}
static void enter(void) { CHECK(mkdtemp(dir) && chdir(dir) == 0); }
static void leave(void) {
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (chdir("/") || system(command))
        puts("cannot clean up");
}
static void put(const char *name, const char *text) {
    int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}
static void show(const char *name) {
    struct stat st;
    if (lstat(name, &st) < 0)
        printf("%s: %s\n", name, strerrorname_of(errno));
    else
        printf("%s: mode %o, links %ld, size %ld\n", name, st.st_mode, (long)st.st_nlink,
               S_ISDIR(st.st_mode) ? 0L : (long)st.st_size);
}
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static void list(const char *path) {
    char *names[100];
    int n = 0;
    DIR *d = opendir(path);
    if (!d) {
        printf("%s: %s\n", path, strerrorname_of(errno));
        return;
    }
    for (struct dirent *e; n < 100 && (e = readdir(d));)
        names[n++] = strdup(e->d_name);
    closedir(d);
    qsort(names, n, sizeof *names, by_name);
    printf("%s:", path);
    for (int i = 0; i < n; i++)
        printf(" %s", names[i]);
    puts("");
}

CASE(create_write_read) {
    enter();
    put("a", "hello file");
    show("a");
    int fd = open("a", O_RDWR);
    char text[20] = "";
    CHECK(pread(fd, text, 4, 6) == 4 && strcmp(text, "file") == 0);
    CHECK(lseek(fd, 100, SEEK_SET) == 100 && write(fd, "end", 3) == 3 && lseek(fd, -3, SEEK_END) == 100);
    CHECK(pread(fd, text, 10, 50) == 10 && text[0] == 0);
    CHECK(ftruncate(fd, 5) == 0 && read(fd, text, 1) == 0);
    CHECK_ERRNO(lseek(fd, -1, SEEK_SET), EINVAL);
    CHECK_ERRNO(lseek(fd, 0, 99), EINVAL);
    CHECK_ERRNO(pread(fd, text, 1, -1), EINVAL);
    CHECK_ERRNO(ftruncate(fd, -1), EINVAL);
    show("a");
    CHECK_ERRNO(open("a", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
    CHECK_ERRNO(open("missing", O_RDONLY), ENOENT);
    CHECK_ERRNO(open("a/b", O_RDONLY), ENOTDIR);
    CHECK_ERRNO(open("a", O_DIRECTORY), ENOTDIR);
    CHECK_ERRNO(open(".", O_WRONLY), EISDIR);
    CHECK_ERRNO(write(open("a", O_RDONLY), "x", 1), EBADF);
    int app = open("a", O_WRONLY | O_APPEND);
    lseek(app, 0, SEEK_SET);
    CHECK(write(app, "+more", 5) == 5);
    show("a");
    CHECK(truncate("a", 1 << 20) == 0);
    show("a");
    int tmp = open(".", O_TMPFILE | O_RDWR, 0600);
    CHECK(tmp < 0 || write(tmp, "x", 1) == 1);
    leave();
}

CASE(directories) {
    enter();
    CHECK(mkdir("d", 0755) == 0 && mkdir("d/e", 0700) == 0);
    CHECK_ERRNO(mkdir("d", 0755), EEXIST);
    CHECK_ERRNO(mkdir("x/y", 0755), ENOENT);
    CHECK_ERRNO(rmdir("d"), ENOTEMPTY);
    CHECK_ERRNO(unlink("d/e"), EISDIR);
    put("d/f", "1");
    list("d");
    show("d/e");
    CHECK(rmdir("d/e") == 0);
    CHECK_ERRNO(rmdir("d/f"), ENOTDIR);
    CHECK_ERRNO(rmdir("d/."), EINVAL);
    list("d");
    list(".");
    list("missing");
    for (int i = 0; i < 60; i++) {
        char name[20];
        snprintf(name, sizeof name, "file-%02d", i);
        put(name, "");
    }
    list(".");
    CHECK(chdir("d") == 0);
    char path[100];
    CHECK(getcwd(path, sizeof path) != NULL && strcmp(path + strlen(path) - 2, "/d") == 0);
    CHECK_ERRNO(syscall(SYS_getcwd, path, 3), ERANGE);
    CHECK(chdir("..") == 0 && access("d", F_OK) == 0);
    CHECK_ERRNO(chdir("d/f"), ENOTDIR);
    int fd = open("d", O_RDONLY | O_DIRECTORY);
    CHECK(fchdir(fd) == 0 && access("f", F_OK) == 0);
    CHECK_ERRNO(read(fd, path, 1), EISDIR);
    leave();
}

/* Looking at files does not change the order in which their directory lists them. */
CASE(listings_keep_their_order) {
    enum { MOST = 2000 };
    char *names[MOST];
    int n = 0, same = 0, again = 0;
    DIR *d = opendir("/etc");
    CHECK(d != NULL);
    for (struct dirent *e; n < MOST && (e = readdir(d));)
        names[n++] = strdup(e->d_name);
    for (int i = n - 1; i >= 0; i -= 2) {
        struct stat st;
        char path[300];
        snprintf(path, sizeof path, "/etc/%s", names[i]);
        CHECK(lstat(path, &st) == 0);
    }
    rewinddir(d);
    for (struct dirent *e; again < MOST && (e = readdir(d)); again++)
        same += again < n && strcmp(names[again], e->d_name) == 0;
    closedir(d);
    CHECK(n > 10 && again == n && same == n);
    puts("the same order");
}

CASE(links) {
    enter();
    put("a", "content");
    CHECK(link("a", "b") == 0);
    show("b");
    CHECK(unlink("a") == 0);
    show("a");
    show("b");
    CHECK(symlink("b", "s") == 0 && symlink("missing", "dangling") == 0);
    char target[20] = "";
    CHECK(readlink("s", target, sizeof target) == 1 && target[0] == 'b');
    CHECK_ERRNO(readlink("b", target, sizeof target), EINVAL);
    CHECK_ERRNO(open("dangling", O_RDONLY), ENOENT);
    CHECK_ERRNO(open("s", O_RDONLY | O_NOFOLLOW), ELOOP);
    CHECK_ERRNO(link("missing", "x"), ENOENT);
    CHECK_ERRNO(link("b", "s"), EEXIST);
    CHECK_ERRNO(link(".", "x"), EPERM);
    CHECK(open("dangling", O_CREAT | O_WRONLY, 0644) >= 0);
    show("missing");
    show("s");
    CHECK(symlink("c2", "c1") == 0 && symlink("c1", "c2") == 0);
    CHECK_ERRNO(open("c1", O_RDONLY), ELOOP);
    CHECK(mkdir("d", 0755) == 0 && symlink("../d", "d/up") == 0 && access("d/up/up/up", F_OK) == 0);
    leave();
}

CASE(renames) {
    enter();
    put("a", "1");
    put("b", "22");
    CHECK(rename("a", "b") == 0);
    show("a");
    show("b");
    CHECK(mkdir("d", 0755) == 0 && mkdir("d/sub", 0755) == 0 && rename("b", "d/b") == 0);
    CHECK_ERRNO(rename("d", "d/sub/x"), EINVAL);
    CHECK_ERRNO(rename("missing", "x"), ENOENT);
    CHECK_ERRNO(rename("d/b", "d/sub"), EISDIR);
    CHECK_ERRNO(rename("d/sub", "d/b"), ENOTDIR);
    CHECK(mkdir("full", 0755) == 0);
    put("full/x", "");
    CHECK_ERRNO(rename("d", "full"), ENOTEMPTY);
    CHECK(rename("d/sub", "moved") == 0);
    list(".");
    list("d");
    put("p", "p");
    put("q", "q");
    CHECK_ERRNO(renameat2(AT_FDCWD, "p", AT_FDCWD, "q", RENAME_NOREPLACE), EEXIST);
    CHECK(rename("p", "p") == 0);
    leave();
}

CASE(rights_and_times) {
    enter();
    umask(022);
    put("a", "x");
    CHECK(chmod("a", 0640) == 0);
    show("a");
    CHECK(chmod("a", 04755) == 0);
    show("a");
    umask(077);
    CHECK(mkdir("private", 0777) == 0);
    show("private");
    CHECK_ERRNO(chmod("missing", 0600), ENOENT);
    CHECK(access("a", R_OK | W_OK | X_OK) == 0);
    struct timespec t[2] = {{1000000000, 5}, {1100000000, 123456789}};
    CHECK(utimensat(AT_FDCWD, "a", t, 0) == 0);
    struct stat st;
    CHECK(stat("a", &st) == 0);
    printf("%ld.%09ld %ld.%09ld\n", (long)st.st_atim.tv_sec, st.st_atim.tv_nsec, (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    t[0].tv_nsec = UTIME_OMIT;
    t[1].tv_nsec = UTIME_NOW;
    CHECK(utimensat(AT_FDCWD, "a", t, 0) == 0 && stat("a", &st) == 0);
    CHECK(st.st_atim.tv_sec == 1000000000 && labs(st.st_mtim.tv_sec - time(NULL)) < 5);
    t[0].tv_nsec = -5;
    CHECK_ERRNO(utimensat(AT_FDCWD, "a", t, 0), EINVAL);
    CHECK(fchown(open("a", O_RDONLY), getuid(), getgid()) == 0);
    struct statfs fs;
    CHECK(statfs(".", &fs) == 0 && fs.f_bsize > 0 && fs.f_namelen == 255);
    leave();
}

CASE(at_calls_and_statx) {
    enter();
    CHECK(mkdir("d", 0755) == 0);
    put("d/f", "12345");
    int fd = open("d", O_PATH | O_DIRECTORY);
    struct stat st;
    CHECK(fstatat(fd, "f", &st, 0) == 0 && st.st_size == 5);
    CHECK(fstatat(fd, "", &st, AT_EMPTY_PATH) == 0 && S_ISDIR(st.st_mode));
    CHECK_ERRNO(fstatat(999, "f", &st, 0), EBADF);
    CHECK_ERRNO(fstatat(fd, "", &st, 0), ENOENT);
    CHECK_ERRNO(read(fd, &st, 1), EBADF);
    struct statx sx;
    CHECK(statx(fd, "f", 0, STATX_BASIC_STATS, &sx) == 0 && sx.stx_size == 5 && (sx.stx_mode & 0777) == 0644);
    CHECK(mkdirat(fd, "e", 0700) == 0 && unlinkat(fd, "e", AT_REMOVEDIR) == 0);
    CHECK(renameat(fd, "f", AT_FDCWD, "g") == 0 && faccessat(AT_FDCWD, "g", R_OK, 0) == 0);
    list(".");
    leave();
}

CASE(names_too_long) {
    enter();
    char name[6000];
    memset(name, 'n', sizeof name);
    name[256] = 0;
    CHECK_ERRNO(open(name, O_CREAT | O_RDWR, 0600), ENAMETOOLONG);
    name[255] = 0;
    int fd = open(name, O_CREAT | O_RDWR, 0600);
    CHECK(fd >= 0 && unlink(name) == 0);
    memset(name, '/', sizeof name);
    name[4095] = 0;
    CHECK(access(name, F_OK) == 0);
    name[4095] = '/';
    name[4096] = 0;
    CHECK_ERRNO(access(name, F_OK), ENAMETOOLONG);
    CHECK_ERRNO(access("", F_OK), ENOENT);
    CHECK_ERRNO(access((char *)8, F_OK), EFAULT);
    CHECK(access(".//.///./../.", F_OK) == 0);
    leave();
}

CASE(deleted_while_open) {
    enter();
    put("a", "still here");
    int fd = open("a", O_RDONLY);
    CHECK(unlink("a") == 0);
    char text[20] = "";
    CHECK(read(fd, text, 19) == 10);
    puts(text);
    struct stat st;
    CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0);
    CHECK(mkdir("d", 0700) == 0 && chdir("d") == 0 && rmdir("../d") == 0);
    CHECK_ERRNO(open("x", O_CREAT | O_RDWR, 0600), ENOENT);
    CHECK_ERRNO(syscall(SYS_getcwd, text, 20), ENOENT);
    leave();
}

CASE(locks) {
    enter();
    put("a", "x");
    int fd = open("a", O_RDWR);
    struct flock lock = {.l_type = F_WRLCK};
    CHECK(fcntl(fd, F_SETLK, &lock) == 0 && flock(fd, LOCK_SH) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        int other = open("a", O_RDWR);
        CHECK(fcntl(other, F_SETLK, &lock) == -1 && (errno == EAGAIN || errno == EACCES));
        CHECK_ERRNO(flock(other, LOCK_EX | LOCK_NB), EAGAIN);
        _exit(guest_failures);
    }
    report("other", child);
    lock.l_type = F_UNLCK;
    CHECK(fcntl(fd, F_SETLK, &lock) == 0 && flock(fd, LOCK_UN) == 0);
    leave();
}

CASE(copying) {
    enter();
    char *data = malloc(300000);
    unsigned x = 7;
    for (int i = 0; i < 300000; i++)
        data[i] = (x = x * 1103515245 + 12345) >> 16;
    int a = open("a", O_CREAT | O_RDWR, 0600), b = open("b", O_CREAT | O_RDWR, 0600);
    CHECK(write(a, data, 300000) == 300000 && lseek(a, 0, SEEK_SET) == 0);
    char block[4099];
    ssize_t n;
    while ((n = read(a, block, sizeof block)) > 0)
        CHECK(write(b, block, n) == n);
    char *back = malloc(300000);
    CHECK(pread(b, back, 300000, 0) == 300000 && memcmp(data, back, 300000) == 0);
    struct iovec v[2] = {{back, 100}, {back + 1000, 200}};
    CHECK(preadv(b, v, 2, 50) == 300 && memcmp(back, data + 50, 100) == 0 && memcmp(back + 1000, data + 150, 200) == 0);
    FILE *f = fopen("text", "w+");
    for (int i = 0; i < 1000; i++)
        fprintf(f, "line %d\n", i);
    rewind(f);
    int lines = 0;
    char line[50];
    while (fgets(line, sizeof line, f))
        lines++;
    printf("%d lines, last %s", lines, line);
    fclose(f);
    leave();
}

CASE(proc) {
    char text[4096], link[256] = "";
    int fd = open("/proc/self/stat", O_RDONLY);
    int pid = -1;
    CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 20 && sscanf(text, "%d", &pid) == 1 && pid == getpid());
    ssize_t n = readlink("/proc/self/exe", link, sizeof link);
    CHECK(n > 0 && access(link, X_OK) == 0);
    n = readlink("/proc/self/cwd", link, sizeof link - 1);
    CHECK(n > 0);
    FILE *maps = fopen("/proc/self/maps", "r");
    int stack = 0, lines = 0;
    while (maps && fgets(text, sizeof text, maps)) {
        lines++;
        stack += strstr(text, "[stack]") != NULL;
    }
    CHECK(stack == 1 && lines > 3);
    fd = open("/proc/self/fd/1", O_WRONLY);
    CHECK(fd >= 0);
    fd = open("/proc/meminfo", O_RDONLY);
    CHECK(fd >= 0 && read(fd, text, 100) > 10 && strncmp(text, "MemTotal:", 9) == 0);
    CHECK_ERRNO(open("/proc/self/no-such", O_RDONLY), ENOENT);
    CHECK_ERRNO(open("/proc/999999", O_RDONLY), ENOENT);
    puts("done");
}
