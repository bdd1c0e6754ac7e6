/* The calls that take a directory and a name, and the rest of what can be asked or said of a file. */
#include "guest.h"
#include <dirent.h>
#include <linux/stat.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <utime.h>

static char dir[64];
static int at;
static void enter(void) {
    umask(022);
    snprintf(dir, sizeof dir, "/tmp/occlum-names-XXXXXX");
    CHECK(mkdtemp(dir) != NULL && (at = open(dir, O_RDONLY | O_DIRECTORY)) >= 0 && chdir(dir) == 0);
}
static void leave(void) {
    char command[128];
    chdir("/");
    snprintf(command, sizeof command, "rm -rf %s", dir);
    system(command);
}
static int make(const char *name) {
    int fd = openat(at, name, O_CREAT | O_RDWR, 0644);
    CHECK(fd >= 0);
    return fd;
}

CASE(making_and_removing) {
    enter();
    struct stat s;
    CHECK(mkdirat(at, "d", 0750) == 0 && fstatat(at, "d", &s, 0) == 0 && s.st_mode == (S_IFDIR | 0750));
    CHECK_ERRNO(mkdirat(at, "d", 0750), EEXIST);
    CHECK_ERRNO(mkdirat(at, "none/d", 0750), ENOENT);
    CHECK_ERRNO(mkdirat(999, "x", 0750), EBADF);
    CHECK(mkdirat(999, "/tmp", 0) == -1 && errno == EEXIST);
    int file = make("f");
    CHECK_ERRNO(mkdirat(file, "x", 0750), ENOTDIR);
    CHECK_ERRNO(mkdirat(at, "f/x", 0750), ENOTDIR);
    CHECK_ERRNO(mkdirat(at, "", 0750), ENOENT);
    CHECK_ERRNO(mkdirat(at, (void *)8, 0750), EFAULT);
    CHECK(mknodat(at, "fifo", S_IFIFO | 0600, 0) == 0 && mknod("plain", S_IFREG | 0640, 0) == 0 && mknodat(at, "sock", S_IFSOCK | 0600, 0) == 0);
    CHECK(fstatat(at, "fifo", &s, 0) == 0 && S_ISFIFO(s.st_mode) && stat("plain", &s) == 0 && s.st_mode == (S_IFREG | 0640));
    CHECK_ERRNO(mknodat(at, "fifo", S_IFIFO | 0600, 0), EEXIST);
    CHECK_ERRNO(mknod("dir", S_IFDIR | 0600, 0), EPERM);
    CHECK_ERRNO(mknod("odd", S_IFLNK | 0600, 0), EINVAL);
    if (geteuid() != 0)
        CHECK_ERRNO(mknod("null", S_IFCHR | 0600, makedev(1, 3)), EPERM);
    CHECK(symlinkat("f", at, "link") == 0 && symlink("nowhere", "dangling") == 0);
    CHECK_ERRNO(symlinkat("f", at, "link"), EEXIST);
    CHECK_ERRNO(symlinkat("", at, "empty"), ENOENT);
    char text[64];
    CHECK(readlinkat(at, "link", text, 64) == 1 && text[0] == 'f' && readlinkat(at, "dangling", text, 3) == 3);
    CHECK_ERRNO(readlinkat(at, "f", text, 64), EINVAL);
    CHECK_ERRNO(readlinkat(at, "link", text, 0), EINVAL);
    CHECK_ERRNO(readlinkat(999, "link", text, 64), EBADF);
    int link = openat(at, "link", O_PATH | O_NOFOLLOW);
    CHECK(link >= 0 && readlinkat(link, "", text, 64) == 1);
    CHECK(linkat(at, "f", at, "hard", 0) == 0 && fstat(file, &s) == 0 && s.st_nlink == 2);
    CHECK(linkat(at, "link", at, "soft", 0) == 0 && fstatat(at, "soft", &s, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(s.st_mode));
    CHECK(linkat(at, "link", at, "through", AT_SYMLINK_FOLLOW) == 0 && fstat(file, &s) == 0 && s.st_nlink == 3);
    CHECK_ERRNO(linkat(at, "f", at, "hard", 0), EEXIST);
    CHECK_ERRNO(linkat(at, "d", at, "dir", 0), EPERM);
    CHECK_ERRNO(linkat(at, "f", at, "x", 1 << 20), EINVAL);
    CHECK_ERRNO(linkat(at, "none", at, "x", 0), ENOENT);
    CHECK(renameat(at, "hard", at, "d/moved") == 0 && fstatat(at, "d/moved", &s, 0) == 0);
    CHECK_ERRNO(renameat(at, "none", at, "x"), ENOENT);
    CHECK_ERRNO(renameat(at, "d", at, "f"), ENOTDIR);
    CHECK_ERRNO(renameat(at, "f", at, "d"), EISDIR);
    CHECK_ERRNO(renameat(at, "d", at, "d/inside"), EINVAL);
    CHECK_ERRNO(unlinkat(at, "d", 0), EISDIR);
    CHECK_ERRNO(unlinkat(at, "d", AT_REMOVEDIR), ENOTEMPTY);
    CHECK_ERRNO(unlinkat(at, "f", AT_REMOVEDIR), ENOTDIR);
    CHECK_ERRNO(unlinkat(at, "f", 1 << 20), EINVAL);
    CHECK_ERRNO(unlinkat(at, "none", 0), ENOENT);
    CHECK(unlinkat(at, "d/moved", 0) == 0 && unlinkat(at, "d", AT_REMOVEDIR) == 0 && unlinkat(at, "dangling", 0) == 0);
    int made = creat("created", 0600);
    CHECK(made >= 0 && write(made, "abc", 3) == 3 && creat("created", 0) >= 0 && fstat(made, &s) == 0 && s.st_size == 0);
    CHECK_ERRNO(creat(dir, 0600), EISDIR);
    CHECK_ERRNO(openat(at, "f", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
    CHECK_ERRNO(openat(at, "f", O_DIRECTORY | O_RDONLY), ENOTDIR);
    CHECK_ERRNO(openat(at, "link", O_NOFOLLOW | O_RDONLY), ELOOP);
    leave();
}

CASE(asking) {
    enter();
    int file = make("f");
    write(file, "12345", 5);
    CHECK(symlink("f", "link") == 0);
    struct stat s, l;
    CHECK(lstat("link", &l) == 0 && S_ISLNK(l.st_mode) && l.st_size == 1 && stat("link", &s) == 0 && s.st_size == 5);
    CHECK(fstatat(at, "link", &l, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(l.st_mode) && fstatat(at, "link", &l, 0) == 0 && l.st_ino == s.st_ino);
    CHECK(fstatat(file, "", &l, AT_EMPTY_PATH) == 0 && l.st_ino == s.st_ino);
    CHECK_ERRNO(fstatat(file, "", &l, 0), ENOENT);
    CHECK_ERRNO(fstatat(at, "f", &l, 1 << 20), EINVAL);
    CHECK_ERRNO(fstatat(999, "f", &l, 0), EBADF);
    CHECK_ERRNO(lstat("none", &l), ENOENT);
    CHECK_ERRNO(lstat("f/x", &l), ENOTDIR);
    CHECK_ERRNO(syscall(SYS_lstat, "f", (void *)8), EFAULT);
    CHECK_ERRNO(syscall(SYS_newfstatat, at, "f", (void *)8, 0), EFAULT);
    struct statx x;
    memset(&x, 0x55, sizeof x);
    CHECK(statx(at, "f", 0, STATX_BASIC_STATS, &x) == 0 && (x.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
    CHECK(x.stx_size == 5 && x.stx_ino == s.st_ino && x.stx_mode == s.st_mode && x.stx_nlink == 1 && x.stx_uid == s.st_uid && x.stx_blksize > 0);
    CHECK(makedev(x.stx_dev_major, x.stx_dev_minor) == s.st_dev && x.stx_mtime.tv_sec == s.st_mtim.tv_sec);
    CHECK(statx(file, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_SIZE, &x) == 0 && x.stx_size == 5);
    CHECK(statx(at, "link", AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC, STATX_TYPE, &x) == 0 && S_ISLNK(x.stx_mode));
    CHECK(statx(at, "f", 0, 0, &x) == 0);
    CHECK_ERRNO(statx(at, "f", AT_STATX_DONT_SYNC | AT_STATX_FORCE_SYNC, STATX_ALL, &x), EINVAL);
    CHECK_ERRNO(statx(at, "f", 0, 1u << 31, &x), EINVAL);
    CHECK_ERRNO(statx(at, "f", 1 << 20, STATX_ALL, &x), EINVAL);
    CHECK_ERRNO(syscall(SYS_statx, at, "f", 0, STATX_ALL, (void *)8), EFAULT);
    CHECK_ERRNO(statx(at, "none", 0, STATX_ALL, &x), ENOENT);
    CHECK(faccessat(at, "f", R_OK, 0) == 0 && syscall(SYS_faccessat, at, "f", F_OK) == 0);
    CHECK_ERRNO(syscall(SYS_faccessat, at, "none", F_OK), ENOENT);
    CHECK_ERRNO(syscall(SYS_faccessat, at, "f", X_OK), EACCES);
    CHECK_ERRNO(syscall(SYS_faccessat, at, "f", 16), EINVAL);
    CHECK(syscall(SYS_faccessat2, at, "f", W_OK, AT_EACCESS) == 0);
    CHECK(syscall(SYS_faccessat2, file, "", R_OK, AT_EMPTY_PATH) == 0);
    CHECK(syscall(SYS_faccessat2, at, "link", F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK_ERRNO(syscall(SYS_faccessat2, at, "f", R_OK, 1 << 20), EINVAL);
    CHECK_ERRNO(syscall(SYS_faccessat2, at, "f", 16, 0), EINVAL);
    struct statfs fs, ffs;
    CHECK(statfs(dir, &fs) == 0 && fstatfs(file, &ffs) == 0 && fs.f_type == ffs.f_type && fs.f_bsize > 0 && fs.f_namelen == 255);
    CHECK_ERRNO(statfs("none", &fs), ENOENT);
    CHECK_ERRNO(fstatfs(999, &fs), EBADF);
    CHECK_ERRNO(syscall(SYS_statfs, dir, (void *)8), EFAULT);
    CHECK_ERRNO(syscall(SYS_fstatfs, file, (void *)8), EFAULT);
    leave();
}

#ifndef SYS_fchmodat2 /* headers of before 6.6 */
#define SYS_fchmodat2 452
#endif
CASE(modes_and_owners) {
    enter();
    int file = make("f");
    struct stat s;
    CHECK(fchmod(file, 04711) == 0 && fstat(file, &s) == 0 && (s.st_mode & 07777) == 04711);
    CHECK(fchmodat(at, "f", 0640, 0) == 0 && fstat(file, &s) == 0 && (s.st_mode & 07777) == 0640);
    CHECK_ERRNO(fchmod(999, 0), EBADF);
    CHECK_ERRNO(syscall(SYS_fchmodat, at, "none", 0), ENOENT);
    CHECK(symlink("f", "link") == 0);
    /* Linux before 6.6 has not got it. */
    if (syscall(SYS_fchmodat2, at, "f", 0600, 0) == 0 || errno != ENOSYS) {
        int p = open("f", O_PATH), l = open("link", O_PATH | O_NOFOLLOW);
        CHECK(syscall(SYS_fchmodat2, at, "link", 0640, 0) == 0 && fstat(file, &s) == 0 && (s.st_mode & 07777) == 0640);
        CHECK(syscall(SYS_fchmodat2, p, "", 0604, AT_EMPTY_PATH) == 0 && fstat(file, &s) == 0 && (s.st_mode & 07777) == 0604);
        CHECK(syscall(SYS_fchmodat2, at, "f", 0170000 | 0600, 0) == 0 && fstat(file, &s) == 0 && s.st_mode == (S_IFREG | 0600));
        CHECK_ERRNO(syscall(SYS_fchmodat2, at, "link", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
        CHECK_ERRNO(syscall(SYS_fchmodat2, l, "", 0600, AT_EMPTY_PATH), EOPNOTSUPP);
        CHECK_ERRNO(syscall(SYS_fchmodat2, p, "", 0600, 0), ENOENT);
        CHECK_ERRNO(syscall(SYS_fchmodat2, p, "x", 0600, 0), ENOTDIR);
        CHECK_ERRNO(syscall(SYS_fchmodat2, at, "f", 0600, AT_NO_AUTOMOUNT), EINVAL);
        CHECK_ERRNO(syscall(SYS_fchmodat2, at, "f", 0600, 1 << 20), EINVAL);
        CHECK_ERRNO(syscall(SYS_fchmodat2, 999, "f", 0600, 0), EBADF);
        CHECK_ERRNO(syscall(SYS_fchmodat2, at, (void *)8, 0600, 0), EFAULT);
        close(p), close(l);
    }
    uid_t me = geteuid();
    gid_t mine = getegid();
    CHECK(chown("f", me, mine) == 0 && fchown(file, -1, -1) == 0 && lchown("link", me, -1) == 0);
    CHECK(fchownat(at, "link", me, mine, AT_SYMLINK_NOFOLLOW) == 0 && fchownat(file, "", me, mine, AT_EMPTY_PATH) == 0);
    CHECK_ERRNO(fchownat(at, "f", me, mine, 1 << 20), EINVAL);
    CHECK_ERRNO(chown("none", me, mine), ENOENT);
    CHECK_ERRNO(lchown("none", me, mine), ENOENT);
    CHECK_ERRNO(fchown(999, me, mine), EBADF);
    if (me == 0) {
        CHECK(fchmod(file, 06755) == 0 && chown("link", 12, 34) == 0 && fstat(file, &s) == 0 && s.st_uid == 12 && s.st_gid == 34);
        CHECK((s.st_mode & 07777) == 0755);
        CHECK(lchown("link", 56, 78) == 0 && lstat("link", &s) == 0 && s.st_uid == 56 && stat("link", &s) == 0 && s.st_uid == 12);
        CHECK(fchown(file, 0, 0) == 0);
    } else {
        CHECK_ERRNO(chown("f", 12, -1), EPERM);
        CHECK_ERRNO(fchown(file, 12, -1), EPERM);
    }
    int path = open("f", O_PATH);
    CHECK_ERRNO(fchmod(path, 0600), EBADF);
    CHECK_ERRNO(fchown(path, me, mine), EBADF);
    leave();
}

CASE(times_of_files) {
    enter();
    int file = make("f");
    struct stat s;
    struct timespec t[2] = {{1000, 5}, {2000, 7}};
    CHECK(utimensat(at, "f", t, 0) == 0 && fstat(file, &s) == 0 && s.st_atim.tv_sec == 1000 && s.st_mtim.tv_sec == 2000 && s.st_mtim.tv_nsec == 7);
    t[0].tv_nsec = UTIME_OMIT, t[1].tv_nsec = UTIME_NOW;
    CHECK(futimens(file, t) == 0 && fstat(file, &s) == 0 && s.st_atim.tv_sec == 1000 && s.st_mtim.tv_sec > 1000000);
    CHECK(symlink("f", "link") == 0);
    t[0] = t[1] = (struct timespec){3000, 0};
    CHECK(utimensat(at, "link", t, AT_SYMLINK_NOFOLLOW) == 0 && lstat("link", &s) == 0 && s.st_mtim.tv_sec == 3000);
    t[0].tv_nsec = 1000000000;
    CHECK_ERRNO(utimensat(at, "f", t, 0), EINVAL);
    CHECK_ERRNO(utimensat(at, "none", NULL, 0), ENOENT);
    CHECK_ERRNO(utimensat(at, "f", NULL, 1 << 20), EINVAL);
    CHECK_ERRNO(syscall(SYS_utimensat, at, "f", (void *)8, 0), EFAULT);
    struct timeval v[2] = {{4000, 10}, {5000, 20}};
    CHECK(utimes("f", v) == 0 && fstat(file, &s) == 0 && s.st_atim.tv_nsec == 10000 && s.st_mtim.tv_sec == 5000);
    CHECK(syscall(SYS_futimesat, at, "f", v) == 0 && syscall(SYS_futimesat, file, NULL, NULL) == 0);
    v[0].tv_usec = 1000000;
    CHECK_ERRNO(syscall(SYS_utimes, "f", v), EINVAL);
    CHECK_ERRNO(syscall(SYS_futimesat, at, "f", v), EINVAL);
    struct utimbuf b = {6000, 7000};
    CHECK(syscall(SYS_utime, "f", &b) == 0 && fstat(file, &s) == 0 && s.st_atim.tv_sec == 6000 && s.st_mtim.tv_sec == 7000);
    CHECK_ERRNO(syscall(SYS_utime, "none", &b), ENOENT);
    CHECK_ERRNO(syscall(SYS_utime, "f", (void *)8), EFAULT);
    leave();
}

CASE(reading_directories) {
    enter();
    for (int i = 0; i < 40; i++) {
        char name[20];
        sprintf(name, "file-%02d", i);
        close(make(name));
    }
    char buf[512];
    int seen = 0;
    long n;
    while ((n = syscall(SYS_getdents64, at, buf, sizeof buf)) > 0)
        for (long i = 0; i < n;) {
            struct dirent64 *d = (void *)(buf + i);
            seen += strncmp(d->d_name, "file-", 5) == 0;
            i += d->d_reclen;
        }
    CHECK(n == 0 && lseek(at, 0, SEEK_SET) == 0);
    int old = 0;
    while ((n = syscall(SYS_getdents, at, buf, sizeof buf)) > 0)
        for (long i = 0; i < n;) {
            unsigned short len = *(unsigned short *)(buf + i + 16);
            old += strncmp(buf + i + 18, "file-", 5) == 0;
            i += len;
        }
    printf("%d, %d\n", seen, old);
    CHECK(lseek(at, 0, SEEK_SET) == 0);
    CHECK_ERRNO(syscall(SYS_getdents64, at, buf, 5), EINVAL);
    CHECK_ERRNO(syscall(SYS_getdents, at, buf, 5), EINVAL);
    CHECK_ERRNO(syscall(SYS_getdents64, at, (void *)8, 512), EFAULT);
    CHECK_ERRNO(syscall(SYS_getdents64, 999, buf, 512), EBADF);
    int file = make("plain");
    CHECK_ERRNO(syscall(SYS_getdents64, file, buf, 512), ENOTDIR);
    CHECK_ERRNO(syscall(SYS_getdents, file, buf, 512), ENOTDIR);
    leave();
}

CASE(syncing) {
    enter();
    int file = make("f"), p[2];
    CHECK(pipe(p) == 0 && write(file, "abc", 3) == 3);
    CHECK(fsync(file) == 0 && fdatasync(file) == 0 && fsync(at) == 0 && syncfs(file) == 0);
    sync();
    CHECK_ERRNO(fsync(p[0]), EINVAL);
    CHECK_ERRNO(fdatasync(p[0]), EINVAL);
    CHECK_ERRNO(fsync(999), EBADF);
    CHECK_ERRNO(fdatasync(999), EBADF);
    CHECK_ERRNO(syncfs(999), EBADF);
    CHECK(sync_file_range(file, 0, 100, SYNC_FILE_RANGE_WRITE) == 0);
    CHECK_ERRNO(sync_file_range(file, 0, 100, 64), EINVAL);
    CHECK_ERRNO(sync_file_range(file, -1, 100, 0), EINVAL);
    CHECK_ERRNO(sync_file_range(p[0], 0, 100, 0), ESPIPE);
    CHECK_ERRNO(sync_file_range(999, 0, 100, 0), EBADF);
    for (int advice = 0; advice < 6; advice++)
        CHECK(syscall(SYS_fadvise64, file, 0, 0, advice) == 0);
    CHECK_ERRNO(syscall(SYS_fadvise64, file, 0, 0, 6), EINVAL);
    CHECK_ERRNO(syscall(SYS_fadvise64, p[0], 0, 0, 0), ESPIPE);
    CHECK_ERRNO(syscall(SYS_fadvise64, 999, 0, 0, 0), EBADF);
    CHECK(readahead(file, 0, 100) == 0);
    CHECK_ERRNO(readahead(p[0], 0, 100), EINVAL);
    CHECK_ERRNO(readahead(999, 0, 100), EBADF);
    int wo = open("f", O_WRONLY);
    CHECK_ERRNO(readahead(wo, 0, 100), EBADF);
    leave();
}

CASE(counters_and_timers) {
    uint64_t v = 0;
    int e = eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(e >= 0 && read(e, &v, 8) == 8 && v == 3 && fcntl(e, F_GETFD) == FD_CLOEXEC);
    CHECK_ERRNO(read(e, &v, 8), EAGAIN);
    v = UINT64_MAX - 1;
    CHECK(write(e, &v, 8) == 8);
    v = 1;
    CHECK_ERRNO(write(e, &v, 8), EAGAIN);
    v = UINT64_MAX;
    CHECK_ERRNO(write(e, &v, 8), EINVAL);
    CHECK_ERRNO(read(e, &v, 4), EINVAL);
    CHECK_ERRNO(syscall(SYS_eventfd2, 0, 1 << 10), EINVAL);
    e = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    CHECK(read(e, &v, 8) == 8 && v == 1 && read(e, &v, 8) == 8 && v == 1);
    CHECK_ERRNO(read(e, &v, 8), EAGAIN);
    CHECK(syscall(SYS_eventfd, 7) >= 0);
    int t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct itimerspec set = {{0, 5000000}, {0, 10000000}}, got;
    CHECK(t >= 0 && timerfd_gettime(t, &got) == 0 && got.it_value.tv_sec == 0 && got.it_value.tv_nsec == 0);
    CHECK_ERRNO(read(t, &v, 8), EAGAIN);
    CHECK(timerfd_settime(t, 0, &set, NULL) == 0 && timerfd_gettime(t, &got) == 0 && got.it_interval.tv_nsec == 5000000);
    sleep_ms(60);
    CHECK(read(t, &v, 8) == 8 && v >= 5 && v < 1000);
    set = (struct itimerspec){{0, 0}, {0, 0}};
    CHECK(timerfd_settime(t, 0, &set, &got) == 0 && got.it_interval.tv_nsec == 5000000);
    sleep_ms(10);
    CHECK_ERRNO(read(t, &v, 8), EAGAIN);
    clock_gettime(CLOCK_MONOTONIC, &set.it_value);
    CHECK(timerfd_settime(t, TFD_TIMER_ABSTIME, &set, NULL) == 0);
    sleep_ms(5);
    CHECK(read(t, &v, 8) == 8 && v == 1);
    CHECK_ERRNO(timerfd_settime(t, 64, &set, NULL), EINVAL);
    set.it_value.tv_nsec = 1000000000;
    CHECK_ERRNO(timerfd_settime(t, 0, &set, NULL), EINVAL);
    set.it_value.tv_nsec = 0;
    CHECK_ERRNO(timerfd_settime(e, 0, &set, NULL), EINVAL);
    CHECK_ERRNO(timerfd_settime(999, 0, &set, NULL), EBADF);
    CHECK_ERRNO(timerfd_gettime(e, &got), EINVAL);
    CHECK_ERRNO(syscall(SYS_timerfd_gettime, t, (void *)8), EFAULT);
    CHECK_ERRNO(timerfd_create(77, 0), EINVAL);
    CHECK_ERRNO(timerfd_create(CLOCK_REALTIME, 1 << 10), EINVAL);
}

CASE(roots) {
    enter();
    CHECK(mkdir("jail", 0755) == 0 && close(make("jail/inside")) == 0);
    CHECK_ERRNO(chroot("none"), ENOENT);
    CHECK_ERRNO(chroot("jail/inside"), ENOTDIR);
    if (geteuid() != 0 || chroot("jail") != 0) {
        CHECK(errno == EPERM);
    } else {
        struct stat s;
        CHECK(stat("/inside", &s) == 0 && stat("/../../inside", &s) == 0 && stat("/tmp", &s) == -1);
        CHECK(chdir("/") == 0);
        char text[64];
        CHECK(getcwd(text, 64) && strcmp(text, "/") == 0);
        CHECK(fchdir(at) == 0 && chroot(".") == 0);
        chdir("..");
        /* Out of the old root's sight, but not of this one's. */
    }
    if (geteuid() != 0)
        leave();
}

static void nothing(int s) { (void)s; }
CASE(dispositions) {
    struct sigaction a = {.sa_handler = nothing, .sa_flags = SA_RESTART | SA_NODEFER}, old;
    sigaddset(&a.sa_mask, SIGUSR2);
    CHECK(sigaction(SIGUSR1, &a, NULL) == 0 && sigaction(SIGUSR1, NULL, &old) == 0);
    CHECK(old.sa_handler == nothing && (old.sa_flags & (SA_RESTART | SA_NODEFER)) == (SA_RESTART | SA_NODEFER) && sigismember(&old.sa_mask, SIGUSR2));
    CHECK_ERRNO(syscall(SYS_rt_sigaction, SIGKILL, &a, NULL, 8), EINVAL);
    CHECK_ERRNO(syscall(SYS_rt_sigaction, SIGSTOP, &a, NULL, 8), EINVAL);
    CHECK_ERRNO(syscall(SYS_rt_sigaction, 65, NULL, NULL, 8), EINVAL);
    CHECK_ERRNO(syscall(SYS_rt_sigaction, 0, NULL, NULL, 8), EINVAL);
    CHECK_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4), EINVAL);
    CHECK_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, (void *)8, NULL, 8), EFAULT);
    CHECK_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, NULL, (void *)8, 8), EFAULT);
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } raw;
    CHECK(syscall(SYS_rt_sigaction, SIGUSR1, NULL, &raw, 8) == 0 && raw.handler == (void *)nothing);
    /* SIGKILL and SIGSTOP never are in a mask. */
    raw.mask = ~0ul;
    CHECK(syscall(SYS_rt_sigaction, SIGUSR1, &raw, NULL, 8) == 0 && syscall(SYS_rt_sigaction, SIGUSR1, NULL, &raw, 8) == 0);
    CHECK((raw.mask & (1ul << (SIGKILL - 1) | 1ul << (SIGSTOP - 1))) == 0);
}

CASE(locked_pages) {
    char *m = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mlock(m, 4096) == 0 && munlock(m, 4096) == 0 && mlock(m + 100, 10) == 0);
    CHECK(syscall(SYS_mlock2, m, 4096, 0) == 0 && syscall(SYS_mlock2, m, 4096, 1) == 0);
    CHECK_ERRNO(syscall(SYS_mlock2, m, 4096, 2), EINVAL);
    munmap(m + 4096, 4096);
    CHECK_ERRNO(mlock(m, 3 * 4096), ENOMEM);
    CHECK_ERRNO(munlock(m, 3 * 4096), ENOMEM);
    CHECK_ERRNO(mlockall(0), EINVAL);
    CHECK_ERRNO(mlockall(64), EINVAL);
    CHECK_ERRNO(mlockall(MCL_ONFAULT), EINVAL);
    CHECK(munlockall() == 0);
    /* Without the right to lock more, the limit counts. */
    if (geteuid() == 0)
        CHECK(setresuid(1234, 1234, 1234) == 0);
    struct rlimit limit = {2 * 4096, 2 * 4096};
    CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    char *n = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mlock(n, 2 * 4096) == 0 && mlock(n, 4096) == 0);
    CHECK_ERRNO(mlock(n + 2 * 4096, 4096), ENOMEM);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0) == MAP_FAILED && errno == EAGAIN);
    CHECK_ERRNO((long)mremap(n, 2 * 4096, 3 * 4096, MREMAP_MAYMOVE), EAGAIN);
    CHECK(munlock(n, 4096) == 0 && mlock(n + 2 * 4096, 4096) == 0);
    CHECK(munmap(n, 4 * 4096) == 0);
    CHECK_ERRNO(mlockall(MCL_CURRENT), ENOMEM);
    CHECK(mlockall(MCL_FUTURE) == 0);
    CHECK(mmap(NULL, 3 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EAGAIN);
    pid_t child = fork_clean();
    if (child == 0)
        _exit(mmap(NULL, 3 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    report("not inherited", child);
    CHECK(munlockall() == 0);
    limit.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    CHECK_ERRNO(mlock(m, 4096), EPERM);
}

CASE(moved_mappings) {
    char *m = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(m, 'a', 4 * 4096);
    char *stays = (char *)syscall(SYS_mremap, m, 2 * 4096, 2 * 4096, MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */, 0);
    CHECK(stays != MAP_FAILED && stays != m && stays[8191] == 'a' && m[0] == 0 && m[8191] == 0 && m[8192] == 'a');
    m[0] = 'b';
    CHECK(stays[0] == 'a');
    CHECK(mremap(m, 4096, 8192, MREMAP_MAYMOVE | 4) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(m, 4096, 4096, 4) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(m, 4096, 4096, 64) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(m + 1, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(m, 4096, 0, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap((void *)(1ul << 30), 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
    char *to = mmap(NULL, 4 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mremap(m + 8192, 4096, 8192, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to && to[0] == 'a' && to[4096] == 0);
    CHECK(mremap(to, 8192, 8192, MREMAP_MAYMOVE | MREMAP_FIXED, to + 4096) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(to, 8192, 4096, 0) == to);
    char *grown = mremap(stays, 8192, 64 * 4096, MREMAP_MAYMOVE);
    CHECK(grown != MAP_FAILED && grown[0] == 'a' && grown[8192] == 0);
}

CASE(programs_by_descriptor) {
    char *const arguments[] = {"names", "no such case", NULL}, *const none[] = {NULL};
    int exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    enter();
    CHECK(symlink("/proc/self/exe", "link") == 0);
    close(make("plain"));
    for (int way = 0; way < 3; way++) {
        pid_t child = fork_clean();
        if (child == 0) {
            if (way == 0)
                syscall(SYS_execveat, exe, "", arguments, none, AT_EMPTY_PATH);
            else if (way == 1)
                syscall(SYS_execveat, at, "link", arguments, none, 0);
            else
                syscall(SYS_execveat, 999, "/proc/self/exe", arguments, none, 0);
            _exit(1);
        }
        report("way", child);
    }
    CHECK_ERRNO(syscall(SYS_execveat, at, "link", arguments, none, AT_SYMLINK_NOFOLLOW), ELOOP);
    CHECK_ERRNO(syscall(SYS_execveat, at, "plain", arguments, none, 0), EACCES);
    CHECK_ERRNO(syscall(SYS_execveat, at, "none", arguments, none, 0), ENOENT);
    CHECK_ERRNO(syscall(SYS_execveat, at, "", arguments, none, 0), ENOENT);
    CHECK_ERRNO(syscall(SYS_execveat, exe, "", arguments, none, 1 << 20 | AT_EMPTY_PATH), EINVAL);
    /* A program that has no name. */
    int copy = memfd_create("copy", 0);
    static char text[65536];
    ssize_t n;
    lseek(exe, 0, SEEK_SET);
    while ((n = read(exe, text, sizeof text)) > 0)
        CHECK(write(copy, text, n) == n);
    pid_t child = fork_clean();
    if (child == 0) {
        fexecve(copy, arguments, none);
        _exit(1);
    }
    report("without a name", child);
    CHECK_ERRNO(syscall(SYS_execveat, 999, "x", arguments, none, 0), EBADF);
    CHECK_ERRNO(syscall(SYS_execveat, exe, "x", arguments, none, 0), ENOTDIR);
    leave();
}

/* cachestat: how much of a file is in memory. */
CASE(pages_in_memory) {
    struct {
        uint64_t off, len;
    } range = {0, 0};
    uint64_t stat[5] = {7, 7, 7, 7, 7};
    enum { CACHESTAT = 451 };
    int file = memfd_create("x", 0), ends[2];
    CHECK(ftruncate(file, 65536) == 0 && pwrite(file, "x", 1, 0) == 1 && pwrite(file, "x", 1, 20000) == 1);
    static const uint64_t RANGES[][2] = {{0, 0}, {0, 4096}, {4096, 4096}, {4095, 2}, {16384, 1}, {4096, 12289}, {-1ul, 5}, {8192, -1ul}};
    for (unsigned i = 0; i < sizeof RANGES / sizeof *RANGES; i++) {
        range.off = RANGES[i][0], range.len = RANGES[i][1];
        CHECK(syscall(CACHESTAT, file, &range, stat, 0) == 0);
        printf("%u: %lu %lu %lu %lu %lu\n", i, stat[0], stat[1], stat[2], stat[3], stat[4]);
    }
    CHECK_ERRNO(syscall(CACHESTAT, file, &range, stat, 1), EINVAL);
    CHECK_ERRNO(syscall(CACHESTAT, 99, &range, stat, 0), EBADF);
    CHECK_ERRNO(syscall(CACHESTAT, file, 0, stat, 0), EFAULT);
    CHECK_ERRNO(syscall(CACHESTAT, file, &range, 0, 0), EFAULT);
    CHECK_ERRNO(syscall(CACHESTAT, open("/", O_PATH), &range, stat, 0), EBADF);
    CHECK(pipe(ends) == 0 && syscall(CACHESTAT, ends[0], &range, stat, 0) == 0 && stat[0] == 0);
}
