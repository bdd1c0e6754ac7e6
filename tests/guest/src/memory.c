/* Memory: mmap, mprotect, mremap, brk; private, shared, files; large and sparse. */
#include "guest.h"
#include <sys/resource.h>

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
static char *map(size_t size) {
    char *p = mmap(NULL, size, RW, ANON, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}
static int temporary(size_t size) {
    char path[] = "/tmp/guest-memory-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && unlink(path) == 0 && ftruncate(fd, size) == 0);
    return fd;
}
/* 1 if the page can be read, by a system call that must not fault. */
static int readable(const void *p) {
    int pipe_fd[2];
    CHECK(pipe(pipe_fd) == 0);
    int ok = write(pipe_fd[1], p, 1) == 1;
    close(pipe_fd[0]);
    close(pipe_fd[1]);
    return ok;
}

/* mremap of nothing maps shared pages once more. */
CASE(mapped_again) {
    char *p = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    p[4096] = 'a';
    char *again = mremap(p + 4096, 0, 2 * 4096, MREMAP_MAYMOVE);
    CHECK(again != MAP_FAILED && again[0] == 'a');
    again[1] = 'b';
    p[2 * 4096] = 'c';
    CHECK(p[4097] == 'b' && again[4096] == 'c');
    CHECK_ERRNO(mremap(p, 0, 4096, 0), ENOMEM);
    char *place = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mremap(p + 4096, 0, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place && place[1] == 'b');
    CHECK(munmap(p, 4 * 4096) == 0 && place[0] == 'a' && again[4096] == 'c');
    char *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_ERRNO(mremap(own, 0, 4096, MREMAP_MAYMOVE), EINVAL);
    CHECK_ERRNO(mremap(p, 0, 4096, MREMAP_MAYMOVE), EFAULT);
    int fd = memfd_create("again", 0);
    CHECK(ftruncate(fd, 3 * 4096) == 0 && pwrite(fd, "file", 4, 4096) == 4);
    char *file = mmap(NULL, 3 * 4096, PROT_READ, MAP_SHARED, fd, 0);
    again = mremap(file + 4096, 0, 4096, MREMAP_MAYMOVE);
    CHECK(again != MAP_FAILED && memcmp(again, "file", 4) == 0);
}

CASE(anonymous) {
    char *p = map(100 * PAGE);
    long sum = 0;
    for (int i = 0; i < 100 * PAGE; i++)
        sum += p[i];
    CHECK(sum == 0);
    memset(p, 1, 100 * PAGE);
    CHECK(munmap(p + 10 * PAGE, PAGE) == 0 && !readable(p + 10 * PAGE) && readable(p + 9 * PAGE) && readable(p + 11 * PAGE));
    char *again = mmap(p + 10 * PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0);
    CHECK(again == p + 10 * PAGE && *again == 0);
    CHECK_ERRNO(mmap(p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    CHECK(munmap(p, 100 * PAGE) == 0 && munmap(p, 100 * PAGE) == 0);
    CHECK_ERRNO(munmap(p + 1, PAGE), EINVAL);
    CHECK_ERRNO(munmap(p, 0), EINVAL);
    CHECK_ERRNO(mmap(NULL, 0, RW, ANON, -1, 0), EINVAL);
    CHECK_ERRNO(mmap(NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK_ERRNO(mmap((void *)123, PAGE, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
    CHECK_ERRNO(mmap(NULL, PAGE, RW, MAP_PRIVATE, 999, 0), EBADF);
    CHECK_ERRNO(mmap(NULL, PAGE, RW, MAP_PRIVATE, 0, 1), EINVAL);
    CHECK_ERRNO(mmap(NULL, (size_t)1 << 62, RW, ANON, -1, 0), ENOMEM);
    CHECK_ERRNO(mmap(NULL, SIZE_MAX, RW, ANON, -1, 0), ENOMEM);
}

CASE(protections) {
    char *p = map(4 * PAGE);
    p[0] = 1;
    CHECK(mprotect(p, PAGE, PROT_READ) == 0 && readable(p));
    CHECK_ERRNO(read(open("/dev/zero", O_RDONLY), p, 1), EFAULT);
    CHECK(mprotect(p, PAGE, PROT_NONE) == 0 && !readable(p));
    CHECK(mprotect(p, 4 * PAGE, RW) == 0 && p[0] == 1);
    CHECK_ERRNO(mprotect(p + 1, PAGE, RW), EINVAL);
    munmap(p + PAGE, PAGE);
    CHECK_ERRNO(mprotect(p, 4 * PAGE, PROT_READ), ENOMEM);
    CHECK(mprotect(p, 0, RW) == 0);
    CHECK_ERRNO(madvise(p, PAGE, 9999), EINVAL);
    p = map(2 * PAGE);
    p[0] = p[PAGE] = 9;
    CHECK(madvise(p, PAGE, MADV_DONTNEED) == 0 && p[0] == 0 && p[PAGE] == 9);
    CHECK(madvise(p, PAGE, MADV_WILLNEED) == 0 && mlock(p, PAGE) == 0 && munlock(p, PAGE) == 0);
}

/* What dynamic loaders do for libraries that want an executable stack. */
CASE(rights_of_the_whole_stack) {
    char here;
    char *page = (char *)((long)&here & -PAGE), *other = map(PAGE);
    CHECK(mprotect(page, PAGE, RW | PROT_GROWSDOWN) == 0);
    CHECK(mprotect(page, PAGE, RW | PROT_EXEC | PROT_GROWSDOWN) == 0);
    here = 1;
    CHECK_ERRNO(mprotect(page, PAGE, RW | PROT_GROWSUP), EINVAL);
    CHECK_ERRNO(mprotect(page, PAGE, RW | PROT_GROWSDOWN | PROT_GROWSUP), EINVAL);
    CHECK_ERRNO(mprotect(other, PAGE, RW | PROT_GROWSDOWN), EINVAL);
    CHECK_ERRNO(mprotect(other, PAGE, RW | 16), EINVAL);
    CHECK(munmap(other, PAGE) == 0);
    CHECK_ERRNO(mprotect(other, PAGE, RW | PROT_GROWSDOWN), ENOMEM);
    return 0;
}

CASE(moving) {
    char *p = map(4 * PAGE);
    for (int i = 0; i < 4; i++)
        p[i * PAGE] = i + 1;
    char *q = mremap(p, 4 * PAGE, 2 * PAGE, 0);
    CHECK(q == p && !readable(p + 2 * PAGE));
    char *block = mmap(p + 2 * PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0);
    CHECK(block == p + 2 * PAGE);
    CHECK_ERRNO(mremap(p, 2 * PAGE, 8 * PAGE, 0), ENOMEM);
    q = mremap(p, 2 * PAGE, 8 * PAGE, MREMAP_MAYMOVE);
    CHECK(q != MAP_FAILED && q != p && q[0] == 1 && q[PAGE] == 2 && q[7 * PAGE] == 0 && !readable(p));
    char *to = map(8 * PAGE);
    CHECK(mremap(q, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to && to[PAGE] == 2);
    CHECK_ERRNO(mremap(to + 1, PAGE, PAGE, 0), EINVAL);
    CHECK_ERRNO(mremap(to, PAGE, PAGE, MREMAP_FIXED, to), EINVAL);
    CHECK_ERRNO(mremap((void *)0x10000, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
    char *big = malloc(1 << 20);
    memset(big, 7, 1 << 20);
    big = realloc(big, 8 << 20);
    CHECK(big[0] == 7 && big[(1 << 20) - 1] == 7);
}

/* Moved pages come to where freed ones lay: the sum of what is resident stays right. */
CASE(moving_to_freed_places) {
    for (int i = 0; i < 300; i++) {
        char *p = map(16 * PAGE);
        memset(p, 1, 16 * PAGE);
        CHECK(mremap(p, 16 * PAGE, 8 * PAGE, 0) == p && munmap(p + 3 * PAGE, PAGE) == 0);
        char *q = mremap(p, 2 * PAGE, 7 * PAGE, MREMAP_MAYMOVE);
        CHECK(q != MAP_FAILED && q[0] == 1 && q[2 * PAGE - 1] == 1 && q[2 * PAGE] == 0 && q[7 * PAGE - 1] == 0);
        CHECK(munmap(q, 7 * PAGE) == 0 && munmap(p + 2 * PAGE, 6 * PAGE) == 0);
    }
    long size, resident;
    FILE *f = fopen("/proc/self/statm", "r");
    CHECK(fscanf(f, "%ld %ld", &size, &resident) == 2 && resident < 550);
    fclose(f);
    return 0;
}

CASE(program_break) {
    char *start = sbrk(0);
    CHECK(sbrk(10 * PAGE) == start);
    memset(start, 3, 10 * PAGE);
    CHECK(sbrk(-5 * PAGE) == start + 10 * PAGE && sbrk(0) == start + 5 * PAGE);
    CHECK(sbrk(5 * PAGE) == start + 5 * PAGE && start[6 * PAGE] == 0 && start[4 * PAGE] == 3);
    CHECK(syscall(SYS_brk, 0) == (long)(start + 10 * PAGE));
    CHECK(syscall(SYS_brk, 1) == (long)(start + 10 * PAGE));
}

CASE(private_file) {
    int fd = temporary(0);
    char text[3 * PAGE];
    for (int i = 0; i < 3 * PAGE; i++)
        text[i] = 'a' + i % 26;
    CHECK(write(fd, text, 2 * PAGE + 100) == 2 * PAGE + 100);
    char *p = mmap(NULL, 3 * PAGE, RW, MAP_PRIVATE, fd, 0);
    CHECK(memcmp(p, text, 2 * PAGE + 100) == 0 && p[2 * PAGE + 100] == 0);
    p[5] = 'X';
    char c;
    CHECK(pread(fd, &c, 1, 5) == 1 && c == 'f');
    char *q = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE);
    CHECK(q[0] == text[PAGE]);
    close(fd);
    CHECK(q[1] == text[PAGE + 1] && p[5] == 'X');
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK(p[5] == 'X');
        p[5] = 'Y';
        _exit(guest_failures);
    }
    report("child", child);
    CHECK(p[5] == 'X');
}

CASE(shared_file) {
    int fd = temporary(2 * PAGE);
    char *p = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0), *q = mmap(NULL, PAGE, RW, MAP_SHARED, fd, PAGE);
    CHECK(p != MAP_FAILED && q != MAP_FAILED);
    strcpy(p + PAGE, "through two mappings");
    puts(q);
    char text[30] = "";
    CHECK(msync(p, 2 * PAGE, MS_SYNC) == 0 && pread(fd, text, 29, PAGE) == 29);
    puts(text);
    CHECK(pwrite(fd, "WRITTEN", 7, PAGE) == 7);
    puts(q);
    pid_t child = fork_clean();
    if (child == 0) {
        strcpy(q, "by the child");
        _exit(0);
    }
    report("child", child);
    puts(p + PAGE);
    int ro = open("/bin/true", O_RDONLY);
    CHECK_ERRNO(mmap(NULL, PAGE, RW, MAP_SHARED, ro, 0), EACCES);
    CHECK_ERRNO(msync((void *)(p + 1), 1, MS_SYNC), EINVAL);
    CHECK_ERRNO(msync(p, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
    CHECK_ERRNO(msync(p, 0, 64), EINVAL);
    CHECK(msync(p, 0, 0) == 0 && msync(p, PAGE, MS_INVALIDATE) == 0 && msync(p, (size_t)-1, MS_SYNC) == 0);
    char *parts = mmap(NULL, 3 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(munmap(parts + PAGE, PAGE) == 0 && mlock(parts, PAGE) == 0);
    CHECK_ERRNO(msync(parts, 3 * PAGE, MS_SYNC), ENOMEM);
    CHECK_ERRNO(msync(parts, 3 * PAGE, MS_INVALIDATE), EBUSY);
    CHECK(msync(parts + 2 * PAGE, PAGE, MS_INVALIDATE | MS_SYNC) == 0);
}

CASE(shared_anonymous) {
    int *p = mmap(NULL, 64 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fflush(stdout);
    for (int i = 0; i < 4; i++)
        if (fork() == 0) {
            for (int j = 0; j < 10000; j++)
                __atomic_fetch_add(&p[50 * 1024], 1, __ATOMIC_RELAXED);
            p[i * 1024] = i + 1;
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
    printf("%d, %d %d %d %d\n", p[50 * 1024], p[0], p[1024], p[2048], p[3072]);
    CHECK(mprotect(p, PAGE, PROT_READ) == 0 && p[0] == 1);
}

CASE(memory_file) {
    int fd = memfd_create("name", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
    char *p = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
    strcpy(p, "in a memfd");
    char text[20] = "";
    CHECK(pread(fd, text, 19, 0) == 19);
    puts(text);
}

CASE(large_and_sparse) {
    size_t size = (size_t)512 << 20;
    char *p = mmap(NULL, size, RW, ANON | MAP_NORESERVE, -1, 0);
    CHECK(p != MAP_FAILED);
    for (size_t i = 0; i < size; i += 16 << 20)
        p[i] = 1;
    long sum = 0;
    for (size_t i = 0; i < size; i += 16 << 20)
        sum += p[i] + p[i + PAGE];
    printf("%ld\n", sum);
    CHECK(munmap(p, size) == 0);
}

CASE(code_in_memory) {
    /* mov $N,%eax; ret: written, made executable, changed, run again. */
    unsigned char *code = mmap(NULL, PAGE, RW, ANON, -1, 0);
    int (*run)(void) = (int (*)(void))(void *)code;
    for (int i = 1; i <= 5; i++) {
        unsigned char bytes[] = {0xb8, i, 0, 0, 0, 0xc3};
        memcpy(code, bytes, sizeof bytes);
        CHECK(mprotect(code, PAGE, PROT_READ | PROT_EXEC) == 0);
        printf("%d ", run());
        CHECK(mprotect(code, PAGE, RW) == 0);
    }
    puts("");
    unsigned char *rwx = mmap(NULL, PAGE, RW | PROT_EXEC, ANON, -1, 0);
    if (rwx != MAP_FAILED) {
        run = (int (*)(void))(void *)rwx;
        for (int i = 1; i <= 5; i++) {
            unsigned char bytes[] = {0xb8, i, 1, 0, 0, 0xc3};
            memcpy(rwx, bytes, sizeof bytes);
            printf("%d ", run());
        }
    }
    puts("");
}

CASE(file_shrinks_under_a_mapping) {
    int fd = temporary(2 * PAGE);
    char *p = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0);
    p[PAGE] = 1;
    CHECK(ftruncate(fd, PAGE) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        p[PAGE] = 2;
        _exit(0);
    }
    report("beyond the end", child);
    CHECK(ftruncate(fd, 2 * PAGE) == 0 && p[PAGE] == 0);
}

CASE(pages_of_generated_code_come_back_writable) {
    unsigned char *p = mmap((void *)0x30000000, 4 * PAGE, RW, ANON | MAP_FIXED, -1, 0);
    CHECK(p != MAP_FAILED);
    p[0] = p[PAGE] = 1;
    for (int round = 0; round < 4; round++) {
        pid_t child = fork_clean();
        CHECK(child >= 0);
        if (child == 0) {
            p[PAGE] = 2;
            if (round % 2 == 0) {
                CHECK(mprotect(p, 4 * PAGE, RW | PROT_EXEC) == 0);
                memcpy(p, "\xb8\x07\0\0\0\xc3", 6);
                CHECK(((int (*)(void))(void *)p)() == 7);
            }
            _exit(guest_failures);
        }
        report("round", child);
    }
}

/* What an access does, in a child: its exit status is the byte read, or the signal is reported with its code. */
static char *touched;
static void on_bus(int signal, siginfo_t *info, void *context) {
    printf("signal %d code %d %s\n", signal, info->si_code, info->si_addr == touched ? "there" : "elsewhere");
    fflush(stdout);
    _exit(77);
    (void)context;
}
static void touch(const char *what, char *p, int write) {
    pid_t child = fork_clean();
    if (child == 0) {
        struct sigaction a = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
        sigaction(SIGBUS, &a, NULL);
        touched = p;
        if (write)
            *(volatile char *)p = 1;
        _exit(*(volatile char *)p);
    }
    report(what, child);
}

CASE(truncation_reaches_every_mapping) {
    int fd = temporary(0);
    char text[4 * PAGE];
    memset(text, 'x', sizeof text);
    CHECK(write(fd, text, sizeof text) == sizeof text);
    char *shared = mmap(NULL, 6 * PAGE, RW, MAP_SHARED, fd, 0), *late = mmap(NULL, 6 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    char *reader = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, fd, 0), *offset = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 2 * PAGE);
    char *mine = mmap(NULL, 4 * PAGE, RW, MAP_PRIVATE, fd, 0), *clean = mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    touch("beyond the end from the start", shared + 4 * PAGE, 0);
    CHECK(shared[0] == 'x' && reader[3 * PAGE] == 'x' && clean[PAGE + 200] == 'x' && clean[3 * PAGE] == 'x' && offset[0] == 'x');
    mine[PAGE] = 'm', mine[2 * PAGE] = 'm';
    shared[PAGE + 1] = 's', shared[2 * PAGE] = 's';
    CHECK(mine[3 * PAGE] == 'x');
    CHECK(ftruncate(fd, PAGE + 100) == 0);
    CHECK(shared[PAGE + 1] == 's' && shared[PAGE + 99] == 'x' && shared[PAGE + 100] == 0 && shared[2 * PAGE - 1] == 0);
    CHECK(reader[PAGE + 1] == 's' && reader[PAGE + 100] == 0 && late[PAGE + 99] == 'x' && late[PAGE + 100] == 0);
    CHECK(mine[PAGE] == 'm' && mine[PAGE + 100] == 'x' && clean[PAGE + 99] == 'x' && clean[PAGE + 100] == 0);
    touch("shared", shared + 2 * PAGE, 1);
    touch("late", late + 2 * PAGE, 0);
    touch("reader", reader + 3 * PAGE, 0);
    touch("offset", offset, 0);
    touch("private copy", mine + 2 * PAGE, 0);
    touch("private", mine + 3 * PAGE, 1);
    touch("private, clean", clean + 2 * PAGE, 0);
    int sink[2];
    CHECK(pipe(sink) == 0);
    CHECK_ERRNO(write(sink[1], shared + 2 * PAGE, 1), EFAULT);
    CHECK(ftruncate(fd, 4 * PAGE) == 0 && shared[2 * PAGE] == 0 && late[3 * PAGE] == 0 && mine[2 * PAGE] == 0 && clean[2 * PAGE] == 0);
    char byte = 1;
    CHECK(pread(fd, &byte, 1, PAGE + 1) == 1 && byte == 's' && pread(fd, &byte, 1, PAGE + 100) == 1 && byte == 0);
    CHECK(pwrite(fd, "W", 1, 2 * PAGE) == 1 && late[2 * PAGE] == 'W' && offset[0] == 'W');
    shared[3 * PAGE] = 'h';
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * PAGE, PAGE) == 0);
    CHECK(late[2 * PAGE] == 0 && late[3 * PAGE] == 'h' && pread(fd, &byte, 1, 3 * PAGE) == 1 && byte == 'h');
    char path[40];
    sprintf(path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR | O_TRUNC);
    CHECK(again >= 0);
    touch("emptied", shared, 0);
    touch("emptied, private", mine, 0);
}

CASE(writes_survive_the_mapping) {
    int fd = temporary(3 * PAGE);
    char *p = mmap(NULL, 3 * PAGE, RW, MAP_SHARED, fd, 0), c = 0;
    p[0] = 'a', p[PAGE] = 'b', p[2 * PAGE] = 'c';
    CHECK(mprotect(p, PAGE, PROT_READ) == 0 && munmap(p, PAGE) == 0 && pread(fd, &c, 1, 0) == 1 && c == 'a');
    CHECK(mmap(p + PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0) == p + PAGE && pread(fd, &c, 1, PAGE) == 1 && c == 'b');
    p[2 * PAGE + 1] = 'd';
    char *q = mremap(p + 2 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
    CHECK(q != MAP_FAILED && q[0] == 'c' && q[1] == 'd' && munmap(q, 2 * PAGE) == 0);
    CHECK(pread(fd, &c, 1, 2 * PAGE + 1) == 1 && c == 'd');
    char *r = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(r[0] == 'a' && pwrite(fd, "z", 1, 0) == 1 && r[0] == 'z');
}

CASE(fork_keeps_many_mappings) {
    char *p[50];
    for (int i = 0; i < 50; i++) {
        p[i] = map((i + 1) * PAGE);
        memset(p[i], i, (i + 1) * PAGE);
        if (i % 3 == 0)
            mprotect(p[i], PAGE, PROT_READ);
    }
    pid_t child = fork_clean();
    if (child == 0) {
        for (int i = 0; i < 50; i++)
            CHECK(p[i][0] == i && p[i][(i + 1) * PAGE - 1] == i);
        for (int i = 1; i < 50; i += 3)
            memset(p[i], 0x55, PAGE);
        _exit(guest_failures);
    }
    report("child", child);
    for (int i = 0; i < 50; i++)
        CHECK(p[i][0] == i);
}

CASE(incore_and_limits) {
    char *p = map(4 * PAGE);
    p[0] = 1;
    unsigned char vec[4];
    CHECK(mincore(p, 4 * PAGE, vec) == 0 && (vec[0] & 1));
    CHECK_ERRNO(mincore(p + 1, PAGE, vec), EINVAL);
    puts("done");
}

/* What each advice does, and to what it may be given. */
CASE(advice) {
    char *p = mmap(NULL, 6 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(p, 1, 6 * PAGE);
    CHECK(munmap(p + 2 * PAGE, PAGE) == 0);
    /* Where nothing is mapped it is ENOMEM, and the rest is done. */
    CHECK_ERRNO(madvise(p, 4 * PAGE, MADV_DONTNEED), ENOMEM);
    CHECK(p[0] == 0 && p[PAGE] == 0 && p[3 * PAGE] == 0 && p[4 * PAGE] == 1);
    CHECK_ERRNO(madvise(p + 2 * PAGE, PAGE, MADV_FREE), ENOMEM);
    CHECK_ERRNO(madvise(p, 4 * PAGE, MADV_COLD), ENOMEM);
    CHECK_ERRNO(madvise(p, PAGE, 7), EINVAL);
    CHECK_ERRNO(madvise(p, 0, 7), EINVAL);
    CHECK_ERRNO(madvise(p + 1, 0, MADV_NORMAL), EINVAL);
    CHECK_ERRNO(madvise(p, (size_t)-4097, MADV_NORMAL), EINVAL);
    CHECK(madvise(p + 2 * PAGE, 0, MADV_DONTNEED) == 0);
    CHECK(madvise(p, PAGE, MADV_COLD) == 0 && madvise(p, PAGE, MADV_PAGEOUT) == 0 && p[0] == 0);
    /* A page given away with MADV_FREE that is written again is the program's. */
    CHECK(madvise(p + 4 * PAGE, 2 * PAGE, MADV_FREE) == 0);
    p[4 * PAGE] = 5;
    CHECK(p[4 * PAGE] == 5 && (p[5 * PAGE] == 1 || p[5 * PAGE] == 0));
    /* What is locked stays. */
    CHECK(mlock(p, PAGE) == 0);
    p[0] = 3;
    static const int refused[] = {MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_COLD, MADV_PAGEOUT};
    for (unsigned i = 0; i < sizeof refused / sizeof *refused; i++)
        CHECK_ERRNO(madvise(p, PAGE, refused[i]), EINVAL);
    CHECK(p[0] == 3 && madvise(p, PAGE, 24 /* MADV_DONTNEED_LOCKED */) == 0 && p[0] == 0 && munlock(p, PAGE) == 0);
    /* Populated as far as it may be touched. */
    CHECK(mprotect(p, PAGE, PROT_NONE) == 0);
    CHECK_ERRNO(madvise(p, PAGE, MADV_POPULATE_READ), EINVAL);
    CHECK_ERRNO(madvise(p + PAGE, 2 * PAGE, MADV_POPULATE_WRITE), ENOMEM);
    CHECK(madvise(p + PAGE, PAGE, MADV_POPULATE_WRITE) == 0);
    int fd = temporary(2 * PAGE);
    char *f = mmap(NULL, 4 * PAGE, RW, MAP_PRIVATE, fd, 0);
    CHECK(madvise(f, 2 * PAGE, MADV_POPULATE_READ) == 0);
    CHECK_ERRNO(madvise(f, 4 * PAGE, MADV_POPULATE_READ), EFAULT);
    CHECK_ERRNO(madvise(f, PAGE, MADV_FREE), EINVAL);
    CHECK_ERRNO(madvise(f, PAGE, MADV_WIPEONFORK), EINVAL);
}

/* MADV_REMOVE: zero for everybody who maps it, and in the file. */
CASE(removed_pages) {
    int fd = memfd_create("removed", 0);
    CHECK(ftruncate(fd, 4 * PAGE) == 0);
    char *p = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0), *q = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE);
    char *private = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, PAGE);
    memset(p, 7, 4 * PAGE);
    CHECK(*q == 7 && *private == 7);
    private[0] = 9;
    CHECK(madvise(p + PAGE, 2 * PAGE, MADV_REMOVE) == 0);
    char b[2] = {1, 1};
    CHECK(p[0] == 7 && p[PAGE] == 0 && p[2 * PAGE] == 0 && p[3 * PAGE] == 7 && *q == 0 && private[0] == 9);
    CHECK(pread(fd, b, 2, 2 * PAGE - 1) == 2 && b[0] == 0 && b[1] == 0 && lseek(fd, 0, SEEK_END) == 4 * PAGE);
    p[PAGE] = 8;
    CHECK(*q == 8);
    struct stat s;
    CHECK(fstat(fd, &s) == 0 && s.st_size == 4 * PAGE);
    CHECK_ERRNO(madvise(private, PAGE, MADV_REMOVE), EACCES);
    char *a = mmap(NULL, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_ERRNO(madvise(a, PAGE, MADV_REMOVE), EINVAL);
    int sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
    CHECK(ftruncate(sealed, PAGE) == 0);
    char *r = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, sealed, 0);
    CHECK(madvise(r, PAGE, MADV_REMOVE) == 0);
    /* Of shared memory without a name, too, where a child sees it. */
    a = mmap(NULL, 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(a, 5, 2 * PAGE);
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK(a[0] == 5 && madvise(a, PAGE, MADV_REMOVE) == 0 && a[0] == 0 && a[PAGE] == 5);
        a[1] = 6;
        _exit(guest_failures);
    }
    report("child", child);
    CHECK(a[0] == 0 && a[1] == 6 && a[PAGE] == 5);
}

/* A mapping that an access below it makes larger, unless something else is near. */
CASE(growing_down) {
    enum { SPACE = 1200, TOP = 1100 };
    char *p = mmap(NULL, SPACE * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(munmap(p, SPACE * PAGE) == 0);
    CHECK(mmap(p, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
    char *top = mmap(p + TOP * PAGE, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
    CHECK(top == p + TOP * PAGE);
    top[0] = 1, top[-1] = 2, top[-600 * PAGE] = 3;
    CHECK(top[-1] == 2 && top[-600 * PAGE] == 3 && top[-300 * PAGE] == 0);
    /* Calls of the kernel do the same. */
    int fd = temporary(PAGE);
    CHECK(pread(fd, top - 700 * PAGE, 1, 0) == 1);
    CHECK(mprotect(top + PAGE, PAGE, PROT_READ | PROT_GROWSDOWN) == 0);
    CHECK_ERRNO(pread(fd, top, 1, 0), EFAULT);
    CHECK(mprotect(top + PAGE, PAGE, RW | PROT_GROWSDOWN) == 0);
    pid_t child = fork_clean();
    if (child == 0) {
        top[-701 * PAGE] = 1;
        _exit(top[-701 * PAGE] != 1);
    }
    report("child", child);
    child = fork_clean();
    if (child == 0) {
        top[-(TOP - 200) * PAGE] = 1;
        _exit(0);
    }
    report("near another one", child);
    child = fork_clean();
    if (child == 0) {
        struct rlimit limit = {702 * PAGE, 702 * PAGE};
        CHECK(setrlimit(RLIMIT_STACK, &limit) == 0);
        top[-701 * PAGE] = 1;
        _exit(0);
    }
    report("beyond the limit", child);
    CHECK(mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_GROWSDOWN, fd, 0) == MAP_FAILED && errno == EINVAL);
}

/* Huge pages, where there are none. */
CASE(huge_pages) {
    enum { HUGE_2M = 21 << 26, HUGE_1K = 10 << 26, LEN = 4 << 20 };
    int fd = memfd_create("file", 0), count = open("/proc/sys/vm/nr_hugepages", O_RDONLY);
    char pages = '0';
    CHECK(fd >= 0 && ftruncate(fd, LEN) == 0 && (count < 0 || read(count, &pages, 1) == 1));
    if (pages == '0') {
        CHECK_ERRNO((long)mmap(NULL, LEN, PROT_READ, ANON | MAP_HUGETLB, -1, 0), ENOMEM);
        CHECK_ERRNO((long)mmap(NULL, LEN, PROT_READ, ANON | MAP_HUGETLB | HUGE_2M, -1, 0), ENOMEM);
    }
    CHECK_ERRNO((long)mmap(NULL, LEN, PROT_READ, ANON | MAP_HUGETLB | HUGE_1K, -1, 0), EINVAL);
    CHECK_ERRNO((long)mmap(NULL, LEN, PROT_READ, MAP_SHARED | MAP_HUGETLB, fd, 0), EINVAL);
    CHECK_ERRNO((long)mmap(NULL, LEN, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0), EOPNOTSUPP);
    CHECK_ERRNO((long)mmap(NULL, LEN, PROT_READ, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK(mmap(NULL, LEN, PROT_READ, MAP_SHARED_VALIDATE, fd, 0) != MAP_FAILED);
    CHECK(mmap(NULL, LEN, PROT_READ, MAP_PRIVATE | MAP_SYNC, fd, 0) != MAP_FAILED);
}

/* What each of these does to every second page makes mappings, of which there are only so many. */
static int advise(char *p) { return madvise(p, PAGE, MADV_DONTFORK); }
static int protect(char *p) { return mprotect(p, PAGE, PROT_READ); }
static int lock(char *p) { return mlock2(p, PAGE, MLOCK_ONFAULT); }
static int take_out(char *p) { return munmap(p, PAGE); }
CASE(as_many_mappings_as_there_may_be) {
    static int (*const split[])(char *) = {advise, protect, lock, take_out};
    const size_t len = 140000l * PAGE;
    for (unsigned i = 0; i < sizeof split / sizeof *split; i++) {
        char *p = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(p != MAP_FAILED);
        size_t at = 0;
        while (at < len && split[i](p + at + PAGE) == 0)
            at += 2 * PAGE;
        printf("%u: %s\n", i, at == len ? "without end" : strerrorname_of(errno));
        /* Nothing that needs one more, but all that does not. */
        CHECK_ERRNO(munmap(p + len - 8 * PAGE, PAGE), ENOMEM);
        CHECK(mprotect(p + len - 4 * PAGE, PAGE, PROT_NONE) == 0 && munmap(p + len - PAGE, PAGE) == 0);
        CHECK(munmap(p, 16 * PAGE) == 0 && munmap(p + len - 8 * PAGE, PAGE) == 0);
        CHECK(munmap(p, len) == 0);
    }
}

/* Code that grows runs at its new end, too, or there is no room for it. */
CASE(code_grows) {
    static const unsigned char returns_42[] = {0xb8, 42, 0, 0, 0, 0xc3};
    char *limit = (char *)0x80000000, *p = limit - 2 * PAGE;
    for (int may_move = 0; may_move < 2; may_move++) {
        char *code = mmap(p, 2 * PAGE, RW | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        char *grown = mremap(code, 2 * PAGE, 4 * PAGE, may_move ? MREMAP_MAYMOVE : 0);
        if (grown == MAP_FAILED) {
            CHECK(errno == ENOMEM && !may_move && munmap(code, 2 * PAGE) == 0);
        } else {
            memcpy(grown + 3 * PAGE, returns_42, sizeof returns_42);
            CHECK(((int (*)(void))(grown + 3 * PAGE))() == 42 && munmap(grown, 4 * PAGE) == 0);
        }
    }
}

/* mseal: such a mapping stays, with its rights; where it cannot be written, with what it shows. */
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#define mseal(at, len, flags) syscall(SYS_mseal, at, (size_t)(len), (size_t)(flags))
static char *anew(size_t len, int rights) { return mmap(NULL, len, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }
CASE(sealed_mappings) {
    const int both = PROT_READ | PROT_WRITE;
    char *p = anew(16 * PAGE, both);
    CHECK_ERRNO(mseal(p + 1, PAGE, 0), EINVAL);
    CHECK_ERRNO(mseal(p, PAGE, 1), EINVAL);
    CHECK_ERRNO(mseal(p, -PAGE, 0), EINVAL);
    CHECK_ERRNO(mseal(p, -1, 0), EINVAL);
    CHECK_ERRNO(mseal(p, 1l << 40, 0), ENOMEM);
    CHECK(mseal(p, 0, 0) == 0 && munmap(p + 8 * PAGE, PAGE) == 0);
    CHECK_ERRNO(mseal(p, 16 * PAGE, 0), ENOMEM);
    CHECK(mprotect(p, PAGE, both) == 0 && mseal(p, 4 * PAGE, 0) == 0 && mseal(p, 4 * PAGE, 0) == 0);
    p[0] = 'x';
    CHECK_ERRNO(mprotect(p, PAGE, PROT_READ), EPERM);
    CHECK_ERRNO(mprotect(p, PAGE, both), EPERM);
    CHECK_ERRNO(munmap(p + 3 * PAGE, 2 * PAGE), EPERM);
    p[3 * PAGE] = p[4 * PAGE] = 'y';
    CHECK_ERRNO(mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EPERM);
    CHECK_ERRNO(mremap(p, 4 * PAGE, PAGE, 0), EPERM);
    CHECK_ERRNO(mmap(p, PAGE, both, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), EPERM);
    char *other = anew(PAGE, both);
    CHECK_ERRNO(mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p), EPERM);
    CHECK(p[0] == 'x' && madvise(p, PAGE, MADV_DONTNEED) == 0 && p[0] == 0);
    CHECK(madvise(p, PAGE, MADV_FREE) == 0 && mlock(p, PAGE) == 0 && munlock(p, PAGE) == 0);
    /* What comes next is sealed no more than it asks for. */
    CHECK(munmap(p + 4 * PAGE, PAGE) == 0);
    char *q = anew(4 * PAGE, PROT_READ);
    CHECK(mseal(q, 4 * PAGE, 0) == 0);
    const int takes[] = {MADV_DONTNEED, MADV_FREE, MADV_DONTNEED_LOCKED, MADV_DONTFORK, MADV_WIPEONFORK};
    for (int i = 0; i < 5; i++)
        CHECK_ERRNO(madvise(q, PAGE, takes[i]), EPERM);
    CHECK(madvise(q, PAGE, MADV_DOFORK) == 0 && madvise(q, PAGE, MADV_WILLNEED) == 0);
    /* Rights change up to the first one that is sealed. */
    char *w = anew(3 * PAGE, both);
    CHECK(mseal(w + PAGE, PAGE, 0) == 0);
    CHECK_ERRNO(mprotect(w, 3 * PAGE, PROT_READ), EPERM);
    int ends[2];
    CHECK(pipe(ends) == 0 && write(ends[1], "abc", 3) == 3);
    CHECK_ERRNO(read(ends[0], w, 1), EFAULT);
    CHECK(read(ends[0], w + PAGE, 1) == 1 && read(ends[0], w + 2 * PAGE, 1) == 1);
    /* Files' mappings; children inherit it. */
    int file = memfd_create("x", 0);
    CHECK(ftruncate(file, 2 * PAGE) == 0);
    char *s = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0), *t = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
    CHECK(mseal(s, PAGE, 0) == 0 && mseal(t, PAGE, 0) == 0);
    CHECK(madvise(s, PAGE, MADV_DONTNEED) == 0 && madvise(t, PAGE, MADV_DONTNEED) == 0);
    CHECK_ERRNO(mremap(s, 0, PAGE, MREMAP_MAYMOVE), EPERM);
    if (fork() == 0) {
        CHECK_ERRNO(munmap(q, PAGE), EPERM);
        exit(guest_failures);
    }
    int status;
    CHECK(wait(&status) > 0 && status == 0);
}
