/* What a process does while another one waits for a slow disk: a read, a page of a mapping, fsync. SLOW_FILE is on that
 * disk; in SLOW_DIRECTORY a file is made. */
#include "guest.h"
#include <pthread.h>
#include <setjmp.h>

static volatile long *turns;

/* Did the neighbour go on during `work`, which takes a fifth of a second at least? */
static void beside(const char *what, int ok, long before, int64_t start) {
    int64_t took = now_ms() - start;
    printf("%s: %s, %s, %s\n", what, ok ? "done" : strerror(errno), took >= 200 ? "slow" : "at once",
           *turns - before >= 10 ? "the neighbour went on" : "the neighbour stood still");
}
#define BESIDE(what, work)                                                                                             \
    do {                                                                                                               \
        long before = *turns;                                                                                          \
        int64_t start = now_ms();                                                                                      \
        int ok = (work);                                                                                               \
        beside(what, ok, before, start);                                                                               \
    } while (0)

static int fd, sum;
static void *reads_on(void *unused) {
    char b[1000];
    ssize_t n = read(fd, b, sizeof b);
    for (ssize_t i = 0; i < n; i++)
        __atomic_add_fetch(&sum, b[i], __ATOMIC_RELAXED);
    return unused;
}

CASE(a_neighbour_of_who_waits) {
    turns = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t neighbour = fork();
    if (neighbour == 0)
        for (;; ++*turns)
            sleep_ms(1);
    static char b[1 << 20];
    fd = open(getenv("SLOW_FILE"), O_RDONLY);
    BESIDE("read", read(fd, b, 1000) == 1000 && b[999] == 'a' + 999 % 26);
    /* Two threads at one position: each byte is read once. */
    CHECK(lseek(fd, 2 << 20, SEEK_SET) == 2 << 20);
    pthread_t t[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, reads_on, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    int wanted = 0;
    for (int i = 0; i < 2000; i++)
        wanted += 'a' + ((2 << 20) + i) % 26;
    printf("two threads: %s, then at %ld\n", sum == wanted ? "all bytes" : "other bytes", (long)lseek(fd, 0, SEEK_CUR));
    char *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 4 << 20);
    CHECK(p != MAP_FAILED);
    BESIDE("page", p[5] == 'a' + ((4 << 20) + 5) % 26);
    BESIDE("again", pread(fd, b, 100, 0) == 100);
    char name[4096];
    snprintf(name, sizeof name, "%s/made", getenv("SLOW_DIRECTORY"));
    int out = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(out >= 0 && write(out, "x", 1) == 1);
    BESIDE("fsync", fsync(out) == 0);
    kill(neighbour, SIGKILL);
}

static sigjmp_buf back;
static volatile int signalled, code;
static void *volatile where;
static void on_fault(int signal, siginfo_t *info, void *context) {
    signalled = signal, code = info->si_code, where = info->si_addr;
    (void)context;
    siglongjmp(back, 1);
}
/* Reads a byte of a mapping: which it is, or the signal. */
static void touch(const char *what, volatile char *p, int write) {
    if (sigsetjmp(back, 1) == 0)
        printf("%s: %c\n", what, write ? (*p = 'w') : *p);
    else
        printf("%s: signal %d, code %d, %s\n", what, signalled, code, where == p ? "there" : "elsewhere");
}

/* A file of which the second half cannot be read. */
CASE(pages_that_cannot_be_read) {
    char name[4096];
    snprintf(name, sizeof name, "%s/broken", getenv("SLOW_DISK"));
    struct sigaction a = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &a, NULL), sigaction(SIGSEGV, &a, NULL);
    fd = open(name, O_RDONLY);
    static char b[64 << 10];
    size_t half = sizeof b / 2;
    CHECK(pread(fd, b, 100, 0) == 100 && b[99] == 'a' + 99 % 26);
    CHECK_ERRNO(pread(fd, b, 4096, half), EIO);
    for (int i = 0; i < 3; i++) {
        int rights = PROT_READ | (i == 1 ? PROT_WRITE : 0);
        char *p = mmap(NULL, 2 * half + 4096, rights, i == 2 ? MAP_SHARED : MAP_PRIVATE, fd, 0);
        CHECK(p != MAP_FAILED);
        touch("first page", p + 1, 0);
        touch("unreadable page", p + half, 0);
        touch("once more", p + half + 4097, i == 1);
        touch("beyond the end", p + 2 * half, 0);
        touch("last page", p + half - 1, 0);
        CHECK_ERRNO(write(1, p + half, 1), EFAULT);
        CHECK_ERRNO(pread(fd, p + half, 1, 0), EFAULT);
        CHECK_ERRNO(madvise(p + half, 4096, MADV_POPULATE_READ), EFAULT);
        munmap(p, 2 * half + 4096);
    }
    fflush(stdout);
    pid_t child = fork_clean();
    if (child == 0) {
        signal(SIGBUS, SIG_DFL);
        char *p = mmap(NULL, 2 * half, PROT_READ, MAP_PRIVATE, fd, 0);
        _exit(p[half]);
    }
    report("without a handler", child);
}

static int ends[2];
static void *splices(void *spliced) {
    *(long *)spliced = splice(fd, NULL, ends[1], NULL, 30000, 0);
    return NULL;
}

/* Another writer fills the pipe while a splice into it waits for the disk. */
CASE(splices_lose_nothing) {
    static char b[1 << 20];
    fd = open(getenv("SLOW_FILE"), O_RDONLY);
    CHECK(lseek(fd, 6 << 20, SEEK_SET) == 6 << 20 && pipe2(ends, O_NONBLOCK) == 0);
    long spliced = 0, written = 0, got = 0;
    pthread_t t;
    pthread_create(&t, NULL, splices, &spliced);
    sleep_ms(100);
    memset(b, '.', sizeof b);
    for (long n; (n = write(ends[1], b, 5000)) > 0;)
        written += n;
    pthread_join(t, NULL);
    printf("%s, ", lseek(fd, 0, SEEK_CUR) == (6 << 20) + spliced ? "position as spliced" : "another position");
    long letters = 0;
    for (long n; (n = read(ends[0], b, sizeof b)) > 0; got += n)
        for (long i = 0; i < n; i++)
            letters += b[i] != '.';
    printf("%s, %s\n", letters == spliced ? "all of the file" : "less of the file",
           got == spliced + written ? "all that was written" : "less than was written");
}
