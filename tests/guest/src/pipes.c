/* Pipes, FIFOs, descriptors, socketpair-free data flow. */
#include "guest.h"
#include <sys/resource.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

CASE(data_through_a_pipe) {
    int p[2];
    CHECK(pipe(p) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        close(p[0]);
        unsigned x = 1;
        for (int i = 0; i < 300; i++) {
            char block[1000];
            for (int j = 0; j < 1000; j++)
                block[j] = (x = x * 1103515245 + 12345) >> 16;
            CHECK(write(p[1], block, 1000) == 1000);
        }
        _exit(guest_failures);
    }
    close(p[1]);
    unsigned x = 1, bad = 0;
    long total = 0;
    char block[777];
    ssize_t n;
    while ((n = read(p[0], block, sizeof block)) > 0) {
        for (int j = 0; j < n; j++)
            bad += block[j] != (char)((x = x * 1103515245 + 12345) >> 16);
        total += n;
    }
    printf("%ld bytes, %u wrong\n", total, bad);
    report("writer", child);
}

CASE(ends) {
    int p[2];
    char c;
    CHECK(pipe(p) == 0 && close(p[1]) == 0 && read(p[0], &c, 1) == 0);
    CHECK(close(p[0]) == 0);
    CHECK(pipe(p) == 0 && close(p[0]) == 0);
    signal(SIGPIPE, SIG_IGN);
    CHECK_ERRNO(write(p[1], "x", 1), EPIPE);
    pid_t child = fork_clean();
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
        write(p[1], "x", 1);
        _exit(0);
    }
    report("SIGPIPE", child);
    CHECK_ERRNO(read(p[1], &c, 1), EBADF);
    CHECK_ERRNO(lseek(p[1], 0, SEEK_SET), ESPIPE);
}

CASE(non_blocking) {
    int p[2];
    char c, block[4096] = {0};
    CHECK(pipe2(p, O_NONBLOCK | O_CLOEXEC) == 0);
    CHECK_ERRNO(read(p[0], &c, 1), EAGAIN);
    long total = 0;
    ssize_t n;
    while ((n = write(p[1], block, sizeof block)) > 0)
        total += n;
    printf("capacity %ld, errno %s, F_GETPIPE_SZ %d\n", total, strerrorname_of(errno), fcntl(p[1], F_GETPIPE_SZ));
    int ready = 0;
    CHECK(ioctl(p[0], FIONREAD, &ready) == 0 && ready == total);
    CHECK((fcntl(p[0], F_GETFL) & (O_NONBLOCK | O_ACCMODE)) == O_NONBLOCK);
    CHECK(fcntl(p[0], F_SETFL, 0) == 0 && (fcntl(p[0], F_GETFL) & O_NONBLOCK) == 0);
    CHECK_ERRNO(pipe2(p, 0x40000000), EINVAL);
}

CASE(atomic_writes) {
    int p[2];
    CHECK(pipe(p) == 0);
    fflush(stdout);
    for (int i = 0; i < 4; i++)
        if (fork() == 0) {
            char line[512];
            memset(line, 'A' + i, sizeof line);
            for (int j = 0; j < 50; j++)
                write(p[1], line, sizeof line);
            _exit(0);
        }
    close(p[1]);
    char got[512];
    int lines[4] = {0}, mixed = 0;
    for (;;) {
        size_t have = 0;
        ssize_t n;
        while (have < sizeof got && (n = read(p[0], got + have, sizeof got - have)) > 0)
            have += n;
        if (have < sizeof got)
            break;
        for (int k = 1; k < 512; k++)
            mixed += got[k] != got[0];
        lines[(got[0] - 'A') & 3]++;
    }
    while (wait(NULL) > 0)
        ;
    printf("%d %d %d %d, mixed %d\n", lines[0], lines[1], lines[2], lines[3], mixed);
}

CASE(descriptors) {
    int fd = open("/dev/null", O_RDWR);
    CHECK(fcntl(fd, F_DUPFD, 50) == 50 && fcntl(fd, F_DUPFD_CLOEXEC, 50) == 51);
    CHECK(fcntl(50, F_GETFD) == 0 && fcntl(51, F_GETFD) == FD_CLOEXEC);
    CHECK(dup2(fd, fd) == fd);
    CHECK_ERRNO(dup3(fd, fd, 0), EINVAL);
    CHECK_ERRNO(dup2(1000, 5), EBADF);
    CHECK_ERRNO(dup2(fd, -1), EBADF);
    CHECK_ERRNO(dup2(fd, 1 << 30), EBADF);
    CHECK_ERRNO(close(999), EBADF);
    CHECK_ERRNO(fcntl(999, F_GETFD), EBADF);
    CHECK_ERRNO(fcntl(fd, 9999), EINVAL);
    close(50);
    CHECK(fcntl(fd, F_DUPFD, 0) > fd && close_range(51, 60, 0) == 0);
    CHECK_ERRNO(fcntl(51, F_GETFD), EBADF);
}

CASE(shared_offset) {
    char path[] = "/tmp/guest-offset-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    pid_t child = fork_clean();
    if (child == 0) {
        write(fd, "from the child", 14);
        _exit(0);
    }
    report("child", child);
    printf("offset %ld\n", (long)lseek(fd, 0, SEEK_CUR));
    int other = dup(fd);
    CHECK(lseek(other, 5, SEEK_SET) == 5 && lseek(fd, 0, SEEK_CUR) == 5);
}

CASE(vectors) {
    int p[2];
    CHECK(pipe(p) == 0);
    struct iovec out[3] = {{"one ", 4}, {"", 0}, {"two", 3}};
    CHECK(writev(p[1], out, 3) == 7);
    char a[3] = "", b[10] = "";
    struct iovec in[2] = {{a, 2}, {b, 9}};
    CHECK(readv(p[0], in, 2) == 7);
    printf("<%s><%s>\n", a, b);
    CHECK_ERRNO(writev(p[1], out, -1), EINVAL);
    CHECK_ERRNO(writev(p[1], out, 2000), EINVAL);
    CHECK(writev(p[1], out, 0) == 0);
    struct iovec bad[1] = {{(void *)8, 5}};
    CHECK_ERRNO(writev(p[1], bad, 1), EFAULT);
}

CASE(fifo) {
    char path[] = "/tmp/guest-fifo-XXXXXX";
    close(mkstemp(path));
    unlink(path);
    CHECK(mkfifo(path, 0600) == 0);
    CHECK_ERRNO(open(path, O_WRONLY | O_NONBLOCK), ENXIO);
    pid_t child = fork_clean();
    if (child == 0) {
        int fd = open(path, O_WRONLY);
        write(fd, "through a name", 14);
        _exit(0);
    }
    int fd = open(path, O_RDONLY);
    char text[20] = "";
    CHECK(read(fd, text, 19) == 14 && read(fd, text + 14, 1) == 0);
    puts(text);
    report("writer", child);
    unlink(path);
}

CASE(ping_pong) {
    int a[2], b[2];
    CHECK(pipe(a) == 0 && pipe(b) == 0);
    pid_t child = fork_clean();
    char c = 0;
    if (child == 0) {
        close(a[1]);
        close(b[0]);
        while (read(a[0], &c, 1) == 1) {
            c++;
            write(b[1], &c, 1);
        }
        _exit(c);
    }
    close(a[0]);
    close(b[1]);
    for (int i = 0; i < 2000; i++) {
        write(a[1], &c, 1);
        CHECK(read(b[0], &c, 1) == 1);
    }
    close(a[1]);
    report("partner", child);
    printf("%d\n", (unsigned char)c);
}

CASE(eight_stage_pipeline) {
    int in = open("/dev/null", O_RDONLY);
    int first[2];
    CHECK(pipe(first) == 0);
    close(in);
    in = first[0];
    fflush(stdout);
    for (int i = 0; i < 8; i++) {
        int p[2];
        CHECK(pipe(p) == 0);
        if (fork() == 0) {
            close(first[1]);
            close(p[0]);
            unsigned char block[300];
            ssize_t n;
            while ((n = read(in, block, sizeof block)) > 0) {
                for (int j = 0; j < n; j++)
                    block[j]++;
                for (ssize_t done = 0; done < n;)
                    done += write(p[1], block + done, n - done);
            }
            _exit(0);
        }
        close(in);
        close(p[1]);
        in = p[0];
    }
    if (fork() == 0) {
        close(in);
        unsigned char block[1000] = {0};
        for (int i = 0; i < 100; i++)
            write(first[1], block, sizeof block);
        _exit(0);
    }
    close(first[1]);
    unsigned char block[500];
    long total = 0, sum = 0;
    ssize_t n;
    while ((n = read(in, block, sizeof block)) > 0) {
        total += n;
        for (int j = 0; j < n; j++)
            sum += block[j];
    }
    while (wait(NULL) > 0)
        ;
    printf("%ld bytes, mean %ld\n", total, total ? sum / total : 0);
}

CASE(device_files) {
    char buffer[8] = "xxxxxxx";
    int zero = open("/dev/zero", O_RDONLY), full = open("/dev/full", O_RDWR), null = open("/dev/null", O_RDWR);
    CHECK(read(zero, buffer, 7) == 7 && buffer[6] == 0);
    CHECK_ERRNO(write(full, "x", 1), ENOSPC);
    CHECK(read(full, buffer, 7) == 7 && read(null, buffer, 7) == 0 && write(null, buffer, 7) == 7);
    int random = open("/dev/urandom", O_RDONLY);
    char a[32], b[32];
    CHECK(read(random, a, 32) == 32 && read(random, b, 32) == 32 && memcmp(a, b, 32));
    struct stat st;
    CHECK(fstat(null, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0x103);
    CHECK(access("/dev/fd/0", F_OK) == 0);
}

/* A user without privileges who has many pages of pipes gets small ones, and none of them grows (pipe(7)). */
CASE(pages_of_a_user) {
    if (geteuid() == 0) {
        CHECK(setresuid(34567, 34567, 34567) == 0);
    }
    struct rlimit many = {4096, 4096};
    CHECK(setrlimit(RLIMIT_NOFILE, &many) == 0);
    int first[2], second[2], p[2], n = 0;
    CHECK(pipe(first) == 0 && pipe(second) == 0);
    CHECK_ERRNO(fcntl(first[0], F_SETPIPE_SZ, 2 << 20), EPERM);
    CHECK_ERRNO(fcntl(first[0], F_SETPIPE_SZ, 1u << 31 | 1), EINVAL);
    for (n = 0; n < 63; n++) {
        CHECK(pipe(p) == 0 && fcntl(p[0], F_SETPIPE_SZ, 1 << 20) == 1 << 20);
    }
    for (n = 0; pipe(p) == 0 && fcntl(p[0], F_GETPIPE_SZ) == 65536; n++)
        ;
    printf("%d more, then %d\n", n, fcntl(p[0], F_GETPIPE_SZ));
    CHECK_ERRNO(fcntl(p[0], F_SETPIPE_SZ, 65536), EPERM);
    CHECK_ERRNO(fcntl(first[0], F_SETPIPE_SZ, 131072), EPERM);
    CHECK(fcntl(p[0], F_SETPIPE_SZ, 4096) == 4096);
    char b[70000] = {0};
    CHECK(fcntl(p[1], F_SETFL, O_NONBLOCK) == 0 && write(p[1], b, sizeof b) == 4096);
    /* Smaller is always allowed, and makes room for others. */
    CHECK(fcntl(first[0], F_SETPIPE_SZ, 4096) == 4096 && fcntl(second[0], F_SETPIPE_SZ, 4096) == 4096);
    CHECK(pipe(p) == 0);
    printf("again %d\n", fcntl(p[0], F_GETPIPE_SZ));
    char text[64] = "";
    int f = open("/proc/sys/fs/pipe-user-pages-soft", O_RDONLY);
    CHECK(read(f, text, 63) > 0);
    int h = open("/proc/sys/fs/pipe-user-pages-hard", O_RDONLY);
    CHECK(read(h, text + strlen(text), 20) > 0);
    printf("%s", text);
}
