/* What a process does while another one waits for a slow disk: a read, a page of a mapping, fsync. SLOW_FILE is on that
 * disk; in SLOW_DIRECTORY a file is made. */
#include "guest.h"
#include <pthread.h>

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
