/* What files have besides content: extended attributes, seals, locks; and the ways to name them: openat2, renameat2. */
#include "guest.h"
#include <linux/openat2.h>
#include <linux/xattr.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/xattr.h>

static char dir[64], path[128];
static const char *in(const char *name) {
    static char all[4][128];
    static int n;
    n = (n + 1) & 3;
    snprintf(all[n], sizeof all[n], "%s/%s", dir, name);
    return all[n];
}
static void enter(void) {
    snprintf(dir, sizeof dir, "/tmp/occlum-attributes-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
}
static void leave(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    system(command);
}
static int touch(const char *name) {
    int fd = open(in(name), O_RDWR | O_CREAT, 0644);
    CHECK(fd >= 0);
    return fd;
}
static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}
static void list(const char *what, const char *names, ssize_t n) {
    const char *all[16];
    int k = 0;
    for (ssize_t i = 0; i < n && k < 16; i += strlen(names + i) + 1)
        if (strncmp(names + i, "security.", 9) != 0)
            all[k++] = names + i;
    qsort(all, k, sizeof *all, by_name);
    printf("%s:", what);
    for (int i = 0; i < k; i++)
        printf(" %s", all[i]);
    puts("");
}

CASE(extended) {
    enter();
    int fd = touch("file");
    const char *file = strdup(in("file"));
    char text[300];
    CHECK(setxattr(file, "user.one", "first", 5, 0) == 0);
    CHECK(fsetxattr(fd, "user.two", "", 0, XATTR_CREATE) == 0);
    CHECK(lsetxattr(file, "user.one", "changed", 7, XATTR_REPLACE) == 0);
    CHECK(getxattr(file, "user.one", text, sizeof text) == 7 && memcmp(text, "changed", 7) == 0);
    CHECK(fgetxattr(fd, "user.two", text, sizeof text) == 0 && lgetxattr(file, "user.one", NULL, 0) == 7);
    ssize_t n = listxattr(file, text, sizeof text);
    CHECK(n > 0 && flistxattr(fd, NULL, 0) == n && llistxattr(file, text, sizeof text) == n);
    list("file", text, n);
    CHECK_ERRNO(setxattr(file, "user.one", "x", 1, XATTR_CREATE), EEXIST);
    CHECK_ERRNO(setxattr(file, "user.three", "x", 1, XATTR_REPLACE), ENODATA);
    CHECK_ERRNO(setxattr(file, "user.one", "x", 1, 8), EINVAL);
    CHECK_ERRNO(setxattr(file, "", "x", 1, 0), ERANGE);
    CHECK_ERRNO(setxattr(file, "nothing.one", "x", 1, 0), EOPNOTSUPP);
    CHECK_ERRNO(setxattr(in("none"), "user.one", "x", 1, 0), ENOENT);
    CHECK_ERRNO(fsetxattr(999, "user.one", "x", 1, 0), EBADF);
    memset(text, 'n', sizeof text);
    memcpy(text, "user.", 5);
    text[299] = 0;
    CHECK_ERRNO(setxattr(file, text, "x", 1, 0), ERANGE);
    static char big[70000];
    CHECK_ERRNO(setxattr(file, "user.big", big, sizeof big, 0), E2BIG);
    CHECK_ERRNO(setxattr(file, "user.one", (void *)8, 10, 0), EFAULT);
    CHECK_ERRNO(getxattr(file, "user.one", text, 3), ERANGE);
    CHECK_ERRNO(listxattr(file, text, 3), ERANGE);
    CHECK_ERRNO(getxattr(file, "user.none", text, 3), ENODATA);
    CHECK_ERRNO(getxattr(file, "user.one", (void *)8, 300), EFAULT);
    CHECK_ERRNO(removexattr(file, "user.none"), ENODATA);
    CHECK(removexattr(file, "user.one") == 0 && fremovexattr(fd, "user.two") == 0);
    CHECK_ERRNO(lremovexattr(file, "user.two"), ENODATA);
    n = listxattr(file, text, sizeof text);
    list("empty", text, n);
    CHECK(symlink("file", in("link")) == 0 && mkfifo(in("fifo"), 0600) == 0);
    CHECK_ERRNO(lsetxattr(in("link"), "user.one", "x", 1, 0), EPERM);
    CHECK_ERRNO(lgetxattr(in("link"), "user.one", text, 9), ENODATA);
    CHECK_ERRNO(setxattr(in("fifo"), "user.one", "x", 1, 0), EPERM);
    CHECK(setxattr(in("link"), "user.via", "link", 4, 0) == 0 && getxattr(file, "user.via", text, 9) == 4);
    CHECK(setxattr(dir, "user.dir", "d", 1, 0) == 0 && getxattr(dir, "user.dir", text, 9) == 1);
    int only_path = open(file, O_PATH);
    CHECK_ERRNO(fsetxattr(only_path, "user.x", "x", 1, 0), EBADF);
    CHECK_ERRNO(fgetxattr(only_path, "user.via", text, 9), EBADF);
    /* They go along with the file, and end with it. */
    CHECK(rename(file, in("moved")) == 0 && getxattr(in("moved"), "user.via", text, 9) == 4);
    if (geteuid() == 0) {
        CHECK(setxattr(in("moved"), "trusted.t", "t", 1, 0) == 0 && getxattr(in("moved"), "trusted.t", text, 9) == 1);
        CHECK(chmod(dir, 0755) == 0 && seteuid(65534) == 0);
        CHECK_ERRNO(setxattr(in("moved"), "trusted.t", "t", 1, 0), EPERM);
        CHECK_ERRNO(getxattr(in("moved"), "trusted.t", text, 9), ENODATA);
        CHECK_ERRNO(setxattr(in("moved"), "user.no", "t", 1, 0), EACCES);
        CHECK_ERRNO(setxattr(in("moved"), "security.no", "t", 1, 0), EPERM);
        CHECK(seteuid(0) == 0);
    }
    leave();
}

CASE(seals) {
    int fd = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    CHECK(fd >= 0 && fcntl(fd, F_GET_SEALS) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(write(fd, "0123456789", 10) == 10);
    CHECK_ERRNO(fcntl(fd, F_ADD_SEALS, 1 << 20), EINVAL);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
    CHECK_ERRNO(ftruncate(fd, 5), EPERM);
    CHECK(ftruncate(fd, 20) == 0);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) == 0 && fcntl(fd, F_GET_SEALS) == (F_SEAL_GROW | F_SEAL_SHRINK));
    CHECK_ERRNO(ftruncate(fd, 30), EPERM);
    CHECK(pwrite(fd, "ab", 2, 18) == 2);
    CHECK_ERRNO(pwrite(fd, "abc", 3, 18), EPERM);
    CHECK_ERRNO(fallocate(fd, 0, 0, 100), EPERM);
    char *map = mmap(NULL, 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    CHECK_ERRNO(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0);
    map[0] = 'M';
    CHECK_ERRNO(pwrite(fd, "x", 1, 0), EPERM);
    CHECK(mmap(NULL, 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
    munmap(map, 20);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0);
    char *private = mmap(NULL, 20, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(private != MAP_FAILED && private[0] == 'M');
    private[0] = 'P';
    CHECK_ERRNO(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 5), EPERM);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) == 0);
    CHECK_ERRNO(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM);
    char c;
    CHECK(pread(fd, &c, 1, 0) == 1 && c == 'M');
    int plain = memfd_create("plain", 0);
    CHECK(fcntl(plain, F_GET_SEALS) == F_SEAL_SEAL);
    CHECK_ERRNO(fcntl(plain, F_ADD_SEALS, F_SEAL_GROW), EPERM);
    int p[2];
    CHECK(pipe(p) == 0);
    CHECK_ERRNO(fcntl(p[0], F_GET_SEALS), EINVAL);
    CHECK_ERRNO(fcntl(p[1], F_ADD_SEALS, F_SEAL_GROW), EINVAL);
    CHECK_ERRNO(memfd_create("flags", 1 << 12), EINVAL);
    static char long_name[300];
    memset(long_name, 'n', 299);
    CHECK_ERRNO(memfd_create(long_name, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_memfd_create, (void *)8, 0), EFAULT);
    int quiet = memfd_create("noexec", 8 /* MFD_NOEXEC_SEAL */);
    struct stat s;
    CHECK(quiet >= 0 && fstat(quiet, &s) == 0 && (s.st_mode & 0111) == 0 && fcntl(quiet, F_GET_SEALS) == 0x20);
    CHECK_ERRNO(fchmod(quiet, 0755), EPERM);
    CHECK_ERRNO(memfd_create("both", 8 | 16), EINVAL);
}

CASE(read_only_files_stay_so) {
    enter();
    int fd = touch("file");
    write(fd, "abc", 3);
    int ro = open(in("file"), O_RDONLY);
    char *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, ro, 0);
    CHECK(map != MAP_FAILED);
    CHECK_ERRNO(mprotect(map, 4096, PROT_READ | PROT_WRITE), EACCES);
    char *other = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(other != MAP_FAILED && mprotect(other, 4096, PROT_READ | PROT_WRITE) == 0);
    other[0] = 'X';
    CHECK(map[0] == 'X');
    char *mine = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, ro, 0);
    CHECK(mine != MAP_FAILED && mprotect(mine, 4096, PROT_READ | PROT_WRITE) == 0);
    leave();
}

static long open2(int at, const char *name, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct open_how how = {flags, mode, resolve};
    long fd = syscall(SYS_openat2, at, name, &how, sizeof how);
    if (fd >= 0)
        close(fd);
    return fd >= 0 ? 0 : fd;
}

CASE(openat2_limits) {
    enter();
    CHECK(mkdir(in("sub"), 0755) == 0 && mkdir(in("sub/deep"), 0755) == 0);
    close(touch("sub/file"));
    close(touch("outside"));
    CHECK(symlink("file", in("sub/link")) == 0 && symlink("../outside", in("sub/up")) == 0);
    CHECK(symlink("/etc/passwd", in("sub/abs")) == 0 && symlink("/file", in("sub/rooted")) == 0);
    int sub = open(in("sub"), O_RDONLY | O_DIRECTORY);
    CHECK(open2(sub, "file", O_RDWR, 0, 0) == 0 && open2(sub, "new", O_CREAT | O_RDWR, 0600, 0) == 0);
    CHECK(open2(sub, "deep/../file", O_RDONLY, 0, RESOLVE_BENEATH) == 0);
    CHECK(open2(sub, "link", O_RDONLY, 0, RESOLVE_BENEATH) == 0);
    CHECK_ERRNO(open2(sub, "up", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    CHECK_ERRNO(open2(sub, "abs", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    CHECK_ERRNO(open2(sub, "../outside", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    CHECK_ERRNO(open2(sub, "/etc/passwd", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    CHECK_ERRNO(open2(sub, "up", O_RDONLY, 0, RESOLVE_IN_ROOT), ENOENT);
    CHECK(open2(sub, "/file", O_RDONLY, 0, RESOLVE_IN_ROOT) == 0 && open2(sub, "rooted", O_RDONLY, 0, RESOLVE_IN_ROOT) == 0);
    CHECK(open2(sub, "../../../file", O_RDONLY, 0, RESOLVE_IN_ROOT) == 0);
    CHECK_ERRNO(open2(sub, "link", O_RDONLY, 0, RESOLVE_NO_SYMLINKS), ELOOP);
    CHECK(open2(sub, "link", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS) == 0);
    CHECK(open2(AT_FDCWD, "/proc/self/exe", O_RDONLY, 0, 0) == 0);
    CHECK_ERRNO(open2(AT_FDCWD, "/proc/self/exe", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS), ELOOP);
    CHECK_ERRNO(open2(AT_FDCWD, "/proc/self/exe", O_RDONLY, 0, RESOLVE_NO_XDEV), EXDEV);
    CHECK(open2(sub, "file", O_RDONLY, 0, RESOLVE_NO_XDEV) == 0);
    CHECK_ERRNO(open2(sub, "file", O_RDONLY, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT), EINVAL);
    CHECK_ERRNO(open2(sub, "file", O_RDONLY, 0, 1 << 10), EINVAL);
    CHECK_ERRNO(open2(sub, "file", O_RDONLY, 0600, 0), EINVAL);
    CHECK_ERRNO(open2(sub, "file", O_CREAT | O_RDWR, 0200000, 0), EINVAL);
    CHECK_ERRNO(open2(sub, "file", 1ull << 40, 0, 0), EINVAL);
    CHECK_ERRNO(open2(sub, "file", O_PATH | O_RDWR, 0, 0), EINVAL);
    CHECK_ERRNO(open2(sub, "x", O_CREAT | O_RDWR, 0600, RESOLVE_CACHED), EAGAIN);
    struct {
        struct open_how how;
        uint64_t more;
    } longer = {{O_RDONLY, 0, 0}, 0};
    CHECK(syscall(SYS_openat2, sub, "file", &longer, sizeof longer) >= 0);
    longer.more = 1;
    CHECK_ERRNO(syscall(SYS_openat2, sub, "file", &longer, sizeof longer), E2BIG);
    CHECK_ERRNO(syscall(SYS_openat2, sub, "file", &longer, 23), EINVAL);
    CHECK_ERRNO(syscall(SYS_openat2, sub, "file", (void *)8, 24), EFAULT);
    leave();
}

CASE(renames_with_flags) {
    enter();
    close(touch("a"));
    close(touch("b"));
    CHECK(mkdir(in("d"), 0755) == 0);
    CHECK_ERRNO(renameat2(AT_FDCWD, in("a"), AT_FDCWD, in("b"), RENAME_NOREPLACE), EEXIST);
    CHECK(renameat2(AT_FDCWD, in("a"), AT_FDCWD, in("c"), RENAME_NOREPLACE) == 0);
    CHECK(renameat2(AT_FDCWD, in("c"), AT_FDCWD, in("d"), RENAME_EXCHANGE) == 0);
    struct stat s;
    CHECK(stat(in("c"), &s) == 0 && S_ISDIR(s.st_mode) && stat(in("d"), &s) == 0 && S_ISREG(s.st_mode));
    CHECK_ERRNO(renameat2(AT_FDCWD, in("c"), AT_FDCWD, in("none"), RENAME_EXCHANGE), ENOENT);
    CHECK_ERRNO(renameat2(AT_FDCWD, in("c"), AT_FDCWD, in("d"), RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    CHECK_ERRNO(renameat2(AT_FDCWD, in("c"), AT_FDCWD, in("d"), RENAME_EXCHANGE | RENAME_WHITEOUT), EINVAL);
    CHECK_ERRNO(renameat2(AT_FDCWD, in("c"), AT_FDCWD, in("d"), 64), EINVAL);
    int r = renameat2(AT_FDCWD, in("b"), AT_FDCWD, in("w"), RENAME_WHITEOUT);
    if (r == 0)
        CHECK(lstat(in("b"), &s) == 0 && S_ISCHR(s.st_mode) && s.st_rdev == 0 && stat(in("w"), &s) == 0);
    leave();
}

static int lock(int fd, int command, short type, off_t start, off_t len) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, command, &l);
}

CASE(locks_that_would_wait_for_each_other) {
    enter();
    int fd = touch("file");
    int ready[2];
    char c;
    CHECK(pipe(ready) == 0);
    CHECK(lock(fd, F_SETLK, F_WRLCK, 0, 1) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK(lock(fd, F_SETLK, F_WRLCK, 5, 1) == 0);
        write(ready[1], "x", 1);
        int r = lock(fd, F_SETLKW, F_WRLCK, 0, 1);
        _exit(r == 0 ? 0 : 1);
    }
    read(ready[0], &c, 1);
    sleep_ms(30);
    CHECK_ERRNO(lock(fd, F_SETLKW, F_WRLCK, 5, 1), EDEADLK);
    CHECK(lock(fd, F_SETLK, F_UNLCK, 0, 0) == 0);
    report("other", child);
    CHECK(lock(fd, F_SETLKW, F_WRLCK, 5, 1) == 0);
    CHECK_ERRNO(lock(fd, F_SETLK, 9, 0, 1), EINVAL);
    CHECK_ERRNO(lock(999, F_SETLK, F_WRLCK, 0, 1), EBADF);
    int ro = open(in("file"), O_RDONLY);
    CHECK_ERRNO(lock(ro, F_SETLK, F_WRLCK, 0, 1), EBADF);
    /* Open file description locks: between descriptors of one process. */
    int a = open(in("file"), O_RDWR), b = open(in("file"), O_RDWR);
    CHECK(lock(a, F_OFD_SETLK, F_WRLCK, 100, 10) == 0);
    CHECK_ERRNO(lock(b, F_OFD_SETLK, F_RDLCK, 105, 1), EAGAIN);
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
    CHECK(fcntl(b, F_OFD_GETLK, &l) == 0 && l.l_type == F_WRLCK);
    l = (struct flock){.l_type = F_WRLCK, .l_pid = 7};
    CHECK_ERRNO(fcntl(b, F_OFD_SETLK, &l), EINVAL);
    close(a);
    CHECK(lock(b, F_OFD_SETLK, F_RDLCK, 105, 1) == 0);
    CHECK(flock(b, LOCK_SH) == 0 && flock(fd, LOCK_SH | LOCK_NB) == 0);
    CHECK_ERRNO(flock(fd, LOCK_EX | LOCK_NB), EAGAIN);
    CHECK(flock(b, LOCK_UN) == 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
    CHECK_ERRNO(flock(fd, 77), EINVAL);
    CHECK_ERRNO(flock(999, LOCK_SH), EBADF);
    leave();
}

static int fds[5];
static int shares(void *arg) {
    (void)arg;
    return close_range(fds[0], ~0u, CLOSE_RANGE_UNSHARE) == 0 && fcntl(fds[0], F_GETFD) == -1 ? 3 : 4;
}

CASE(descriptor_ranges) {
    for (int i = 0; i < 5; i++)
        fds[i] = open("/dev/null", O_RDONLY);
    CHECK(close_range(fds[1], fds[2], 0) == 0);
    CHECK(fcntl(fds[0], F_GETFD) == 0 && fcntl(fds[1], F_GETFD) == -1 && fcntl(fds[3], F_GETFD) == 0);
    CHECK(close_range(fds[3], ~0u, CLOSE_RANGE_CLOEXEC) == 0 && fcntl(fds[4], F_GETFD) == FD_CLOEXEC);
    CHECK_ERRNO(close_range(5, 4, 0), EINVAL);
    CHECK_ERRNO(close_range(3, 4, 1 << 8), EINVAL);
    /* A table that was shared is not any more. */
    static char stack[65536] __attribute__((aligned(16)));
    pid_t child = clone(shares, stack + sizeof stack, CLONE_FILES | SIGCHLD, NULL);
    report("unshared", child);
    CHECK(fcntl(fds[0], F_GETFD) == 0);
}

/* How long what is written will live: kept with the file, for the owner to say. */
CASE(hints_of_writers) {
    char name[] = "/tmp/occlum-hints-XXXXXX";
    int fd = mkstemp(name), other = open(name, O_RDONLY);
    uint64_t hint = 9;
    CHECK(fcntl(fd, F_GET_RW_HINT, &hint) == 0 && hint == RWH_WRITE_LIFE_NOT_SET);
    hint = RWH_WRITE_LIFE_SHORT;
    CHECK(fcntl(fd, F_SET_RW_HINT, &hint) == 0);
    hint = 9;
    CHECK(fcntl(other, F_GET_RW_HINT, &hint) == 0 && hint == RWH_WRITE_LIFE_SHORT);
    hint = 6;
    CHECK_ERRNO(fcntl(fd, F_SET_RW_HINT, &hint), EINVAL);
    CHECK_ERRNO(fcntl(fd, F_SET_RW_HINT, (void *)8), EFAULT);
    CHECK_ERRNO(fcntl(fd, F_GET_RW_HINT, (void *)8), EFAULT);
    hint = RWH_WRITE_LIFE_NOT_SET;
    CHECK(fcntl(other, F_SET_RW_HINT, &hint) == 0);
    hint = 9;
    CHECK(fcntl(fd, F_GET_RW_HINT, &hint) == 0 && hint == 0);
    if (geteuid() == 0) {
        pid_t child = fork_clean();
        if (child == 0) {
            CHECK(setuid(1234) == 0);
            CHECK_ERRNO(fcntl(fd, F_SET_RW_HINT, &hint), EPERM);
            fflush(stdout);
            _exit(guest_failures);
        }
        report("another user", child);
    }
    unlink(name);
}
