/* Bytes between descriptors without the program: splice, tee, vmsplice, sendfile, copy_file_range; preadv2, pwritev2. */
#include "guest.h"
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

static char name[64];
static int temp_file(const char *content) {
    static int n;
    snprintf(name, sizeof name, "/tmp/occlum-moving-%d-%d", getpid(), n++);
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    unlink(name);
    CHECK(fd >= 0 && write(fd, content, strlen(content)) == (ssize_t)strlen(content) && lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}
static void show(const char *what, int fd) {
    char text[256];
    ssize_t n = read(fd, text, sizeof text);
    printf("%s: %.*s\n", what, (int)(n < 0 ? 0 : n), text);
}

CASE(splice_kinds) {
    int p[2], q[2], s[2];
    CHECK(pipe(p) == 0 && pipe(q) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    int file = temp_file("0123456789abcdef"), out = temp_file("");
    CHECK(splice(file, NULL, p[1], NULL, 4, 0) == 4 && lseek(file, 0, SEEK_CUR) == 4);
    loff_t at = 10;
    CHECK(splice(file, &at, p[1], NULL, 100, SPLICE_F_MOVE | SPLICE_F_MORE) == 6 && at == 16 && lseek(file, 0, SEEK_CUR) == 4);
    CHECK(splice(file, &at, p[1], NULL, 100, 0) == 0);
    CHECK(splice(p[0], NULL, q[1], NULL, 3, 0) == 3);
    show("pipe to pipe", q[0]);
    CHECK(splice(p[0], NULL, s[0], NULL, 3, 0) == 3);
    CHECK(splice(s[1], NULL, q[1], NULL, 100, 0) == 3);
    show("through a socket", q[0]);
    at = 2;
    CHECK(splice(p[0], NULL, out, &at, 100, 0) == 4 && at == 6 && lseek(out, 0, SEEK_CUR) == 0);
    CHECK(lseek(out, 0, SEEK_END) == 6);
    char got[8] = "";
    CHECK(pread(out, got, 8, 0) == 6 && memcmp(got, "\0\0cdef", 6) == 0);
    CHECK_ERRNO(splice(p[0], NULL, q[1], NULL, 10, SPLICE_F_NONBLOCK), EAGAIN);
    CHECK(splice(p[0], NULL, q[1], NULL, 0, 0) == 0);
    close(p[1]);
    CHECK(splice(p[0], NULL, q[1], NULL, 10, 0) == 0);
}

CASE(splice_errors) {
    int p[2], q[2];
    CHECK(pipe(p) == 0 && pipe(q) == 0);
    int file = temp_file("abc"), other = temp_file("");
    loff_t at = 0, bad = -1;
    CHECK_ERRNO(splice(file, NULL, other, NULL, 3, 0), EINVAL);
    CHECK_ERRNO(splice(p[0], NULL, p[1], NULL, 3, 0), EINVAL);
    CHECK_ERRNO(splice(p[0], &at, q[1], NULL, 3, 0), ESPIPE);
    CHECK_ERRNO(splice(file, NULL, q[1], &at, 3, 0), ESPIPE);
    CHECK_ERRNO(splice(file, NULL, q[1], NULL, 3, 64), EINVAL);
    CHECK_ERRNO(splice(file, &bad, q[1], NULL, 3, 0), EINVAL);
    CHECK_ERRNO(splice(file, (void *)8, q[1], NULL, 3, 0), EFAULT);
    CHECK_ERRNO(splice(p[1], NULL, q[1], NULL, 3, 0), EBADF);
    CHECK_ERRNO(splice(p[0], NULL, q[0], NULL, 3, 0), EBADF);
    CHECK_ERRNO(splice(999, NULL, q[1], NULL, 3, 0), EBADF);
    write(p[1], "xyz", 3);
    int append = open("/tmp", O_TMPFILE | O_RDWR | O_APPEND, 0600);
    CHECK_ERRNO(splice(p[0], NULL, append, NULL, 3, 0), EINVAL);
    signal(SIGPIPE, SIG_IGN);
    close(q[0]);
    CHECK_ERRNO(splice(p[0], NULL, q[1], NULL, 3, 0), EPIPE);
    show("still there", p[0]);
}

CASE(splice_waits) {
    int p[2], q[2];
    CHECK(pipe(p) == 0 && pipe(q) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        close(p[1]);
        close(q[0]);
        long sum = 0, n;
        while ((n = splice(p[0], NULL, q[1], NULL, 1 << 20, 0)) > 0)
            sum += n;
        _exit(n == 0 && sum == 300000 ? 0 : 1);
    }
    pid_t reader = fork_clean();
    if (reader == 0) {
        close(q[1]);
        close(p[1]);
        static char buf[7000];
        long sum = 0, n, wrong = 0;
        while ((n = read(q[0], buf, sizeof buf)) > 0) {
            for (long i = 0; i < n; i++)
                wrong += buf[i] != (char)((sum + i) % 251);
            sum += n;
        }
        _exit(sum == 300000 && wrong == 0 ? 0 : 1);
    }
    close(q[0]);
    close(q[1]);
    static char all[300000];
    for (int i = 0; i < 300000; i++)
        all[i] = (char)(i % 251);
    sleep_ms(10);
    for (int done = 0; done < 300000;)
        done += write(p[1], all + done, 300000 - done > 5000 ? 5000 : 300000 - done);
    close(p[1]);
    report("mover", child);
    report("reader", reader);
}

CASE(tee_and_vmsplice) {
    int p[2], q[2];
    CHECK(pipe(p) == 0 && pipe(q) == 0);
    struct iovec v[3] = {{"one ", 4}, {"", 0}, {"two", 3}};
    CHECK(vmsplice(p[1], v, 3, 0) == 7);
    CHECK(tee(p[0], q[1], 5, 0) == 5);
    show("copy", q[0]);
    show("original", p[0]);
    CHECK_ERRNO(tee(p[0], q[1], 5, SPLICE_F_NONBLOCK), EAGAIN);
    CHECK_ERRNO(tee(p[0], p[1], 5, 0), EINVAL);
    CHECK(tee(p[0], q[1], 0, 0) == 0);
    int file = temp_file("x");
    CHECK_ERRNO(tee(file, q[1], 5, 0), EINVAL);
    CHECK_ERRNO(tee(p[0], q[1], 5, 1 << 10), EINVAL);
    CHECK_ERRNO(tee(p[1], q[1], 5, 0), EBADF);
    CHECK_ERRNO(vmsplice(file, v, 3, 0), EBADF);
    CHECK_ERRNO(vmsplice(p[1], v, 3, 1 << 10), EINVAL);
    CHECK_ERRNO(vmsplice(p[1], v, 2000, 0), EINVAL);
    static char big[1 << 17] __attribute__((aligned(4096)));
    struct iovec b = {big, sizeof big};
    CHECK(vmsplice(p[1], &b, 1, SPLICE_F_NONBLOCK) == 65536);
    CHECK_ERRNO(vmsplice(p[1], &b, 1, SPLICE_F_NONBLOCK), EAGAIN);
    char first[4];
    struct iovec r = {first, 4};
    CHECK(vmsplice(p[0], &r, 1, 0) == 4);
    close(p[1]);
}

CASE(sendfile_kinds) {
    int p[2], s[2];
    CHECK(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    int file = temp_file("abcdefghij"), out = temp_file("");
    off_t at = 3;
    CHECK(sendfile(p[1], file, &at, 4) == 4 && at == 7 && lseek(file, 0, SEEK_CUR) == 0);
    show("pipe", p[0]);
    CHECK(sendfile(s[0], file, NULL, 100) == 10 && lseek(file, 0, SEEK_CUR) == 10);
    show("socket", s[1]);
    at = 5;
    CHECK(sendfile(out, file, &at, 2) == 2 && lseek(out, 0, SEEK_CUR) == 2);
    CHECK(sendfile(out, file, NULL, 5) == 0);
    CHECK_ERRNO(sendfile(file, p[1], NULL, 4), EBADF);
    CHECK_ERRNO(sendfile(out, p[0], &at, 4), ESPIPE);
    CHECK_ERRNO(sendfile(out, 999, NULL, 4), EBADF);
    CHECK_ERRNO(syscall(SYS_sendfile, out, file, (void *)8, 4), EFAULT);
    at = -1;
    CHECK_ERRNO(sendfile(out, file, &at, 4), EINVAL);
}

CASE(copy_ranges) {
    int file = temp_file("abcdefghij"), out = temp_file("0123456789");
    loff_t from = 2, to = 5;
    CHECK(copy_file_range(file, &from, out, &to, 3, 0) == 3 && from == 5 && to == 8);
    show("copied", out);
    CHECK(copy_file_range(file, NULL, out, NULL, 100, 0) == 10 && lseek(file, 0, SEEK_CUR) == 10 && lseek(out, 0, SEEK_CUR) == 20);
    CHECK(copy_file_range(file, NULL, out, NULL, 100, 0) == 0);
    from = 0, to = 2;
    CHECK_ERRNO(copy_file_range(file, &from, file, &to, 5, 0), EINVAL);
    to = 10;
    CHECK(copy_file_range(file, &from, file, &to, 5, 0) == 5);
    CHECK_ERRNO(copy_file_range(file, NULL, out, NULL, 5, 1), EINVAL);
    int p[2], dir = open("/tmp", O_RDONLY);
    CHECK(pipe(p) == 0);
    CHECK_ERRNO(copy_file_range(p[0], NULL, out, NULL, 5, 0), EINVAL);
    CHECK_ERRNO(copy_file_range(dir, NULL, out, NULL, 5, 0), EISDIR);
    int readonly = open("/proc/self/exe", O_RDONLY);
    CHECK_ERRNO(copy_file_range(file, NULL, readonly, NULL, 5, 0), EBADF);
    CHECK_ERRNO(copy_file_range(file, NULL, 999, NULL, 5, 0), EBADF);
}

CASE(vectors_with_flags) {
    int file = temp_file("abcdefghij");
    char a[4] = "", b[4] = "";
    struct iovec v[2] = {{a, 3}, {b, 3}};
    CHECK(preadv2(file, v, 2, 2, 0) == 6 && memcmp(a, "cde", 3) == 0 && memcmp(b, "fgh", 3) == 0);
    CHECK(lseek(file, 0, SEEK_CUR) == 0);
    CHECK(preadv2(file, v, 1, -1, 0) == 3 && lseek(file, 0, SEEK_CUR) == 3);
    CHECK(preadv2(file, v, 1, 0, RWF_HIPRI) == 3 || errno == EOPNOTSUPP);
    CHECK(pwritev2(file, v, 1, 0, RWF_DSYNC) == 3 && pwritev2(file, v, 1, -1, RWF_SYNC) == 3);
    CHECK(lseek(file, 0, SEEK_CUR) == 6);
    CHECK(pwritev2(file, v, 1, 0, RWF_APPEND) == 3 && lseek(file, 0, SEEK_END) == 13 && lseek(file, 2, SEEK_SET) == 2);
    CHECK(pwritev2(file, v, 1, -1, RWF_APPEND) == 3 && lseek(file, 0, SEEK_CUR) == 16);
    CHECK_ERRNO(preadv2(file, v, 1, 0, 1 << 20), EOPNOTSUPP);
    CHECK_ERRNO(pwritev2(file, v, 1, 0, 1 << 20), EOPNOTSUPP);
    CHECK(preadv2(file, v, 1, 0, RWF_APPEND) == 3);
    CHECK_ERRNO(preadv2(file, v, 1, -2, 0), EINVAL);
    CHECK_ERRNO(preadv2(999, v, 1, 0, 0), EBADF);
    CHECK_ERRNO(preadv2(file, v, 2000, 0, 0), EINVAL);
    int p[2];
    CHECK(pipe(p) == 0);
    CHECK_ERRNO(preadv2(p[0], v, 1, -1, RWF_NOWAIT), EAGAIN);
    CHECK_ERRNO(preadv2(p[0], v, 1, 0, 0), ESPIPE);
    CHECK(pwritev2(p[1], v, 1, -1, RWF_NOWAIT) == 3 && preadv2(p[0], v, 1, -1, RWF_NOWAIT) == 3);
    int append = open("/tmp", O_TMPFILE | O_RDWR | O_APPEND, 0600);
    CHECK(pwritev(append, v, 2, 0) == 6 && pwritev(append, v, 1, 0) == 3 && lseek(append, 0, SEEK_END) == 9);
}
