/* full CASE: makes many of something, takes all memory, gives a little back, and makes calls that go through them all. The
 * calls may fail; says "alive" if that is all that comes of it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define PAGE 4096ul
#define LEFT (512ul << 10)

static void must(int ok, const char *what) {
    if (ok)
        return;
    perror(what);
    exit(1);
}

/* Nobody is killed for memory that is asked for so. */
static void fill(void) {
    size_t size = 1ul << 30, have = 0;
    char *all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    must(all != MAP_FAILED, "mmap");
    for (size_t piece = 64 * PAGE; piece >= PAGE; piece /= 64)
        while (have + piece <= size && madvise(all + have, piece, MADV_POPULATE_WRITE) == 0)
            have += piece;
    if (have == size)
        exit(2); /* too much memory for this test */
    munmap(all + have - LEFT, LEFT);
}

/* ---- mappings: every second page is one that children would not have ---- */

#define MAPPED (120ul << 20)

static char *many_mappings(void) {
    char *all = mmap(NULL, MAPPED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(all != MAP_FAILED, "mmap");
    for (size_t at = 0; at < MAPPED; at += 2 * PAGE)
        must(madvise(all + at, PAGE, MADV_DONTFORK) == 0, "madvise");
    fill();
    return all;
}
static void unmapping(void) {
    must(munmap(many_mappings(), MAPPED) == 0, "munmap");
}
static void changing_rights(void) {
    char *all = many_mappings();
    must(mprotect(all, MAPPED, PROT_READ) == 0, "mprotect");
    must(mprotect(all, MAPPED, PROT_NONE) == 0, "mprotect");
}
static void advising(void) {
    char *all = many_mappings();
    must(madvise(all, MAPPED, MADV_DONTNEED) == 0, "madvise");
    must(msync(all, MAPPED, MS_ASYNC) == 0, "msync");
    must(madvise(all, MAPPED, MADV_DOFORK) == 0, "madvise");
}
static void forking(void) {
    many_mappings();
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    if (child > 0)
        must(wait(NULL) == child, "wait");
}

/* Pages of one mapping, every second of which is there. */
static void pages(void) {
    char *all = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(all != MAP_FAILED, "mmap");
    for (size_t at = 0; at < MAPPED && madvise(all + at, PAGE, MADV_POPULATE_WRITE) == 0;)
        at += 2 * PAGE;
    fill();
    must(munmap(all, MAPPED) == 0, "munmap");
}

/* ---- waiters of one word ---- */

struct waitv {
    uint64_t value, at;
    uint32_t flags, reserved;
};
static uint32_t word, other;
static struct waitv often[128];

static void *waits(void *unused) {
    (void)unused;
    syscall(SYS_futex_waitv, often, 128, 0, NULL, 0);
    return NULL;
}
static void waiters(void) {
    pthread_attr_t small;
    pthread_t t;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (int i = 0; i < 128; i++)
        often[i] = (struct waitv){0, (uintptr_t)&word, 2 | FUTEX_PRIVATE_FLAG, 0};
    for (int i = 0; i < 1000 && pthread_create(&t, &small, waits, NULL) == 0;)
        i++;
    usleep(300000);
    fill();
    syscall(SYS_futex, &word, FUTEX_REQUEUE_PRIVATE, 0, (void *)(long)INT32_MAX, &other, 0);
    syscall(SYS_futex, &other, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/* ---- System V objects, and what lists them ---- */

static void look_at(const char *table) {
    char text[4096];
    int fd = open(table, O_RDONLY);
    if (fd >= 0)
        read(fd, text, sizeof text), close(fd);
}
static int queues(void) { return msgget(IPC_PRIVATE, 0600 | IPC_CREAT); }
static int sets(void) { return semget(IPC_PRIVATE, 1, 0600 | IPC_CREAT); }
static int segments(void) { return shmget(IPC_PRIVATE, 4096, 0600 | IPC_CREAT); }
static void listed(int (*one)(void), const char *table) {
    int n = 0;
    while (one() >= 0)
        n++;
    must(n > 1000, "objects");
    look_at(table);
    fill();
    look_at(table);
}
static void listed_queues(void) { listed(queues, "/proc/sysvipc/msg"); }
static void listed_sets(void) { listed(sets, "/proc/sysvipc/sem"); }
static void listed_segments(void) { listed(segments, "/proc/sysvipc/shm"); }
static void semaphores(void) {
    static unsigned short values[32000];
    struct sembuf one = {31999, 1, SEM_UNDO};
    int set = semget(IPC_PRIVATE, 32000, 0600 | IPC_CREAT);
    must(set >= 0, "semget");
    fill();
    semop(set, &one, 1);
    semctl(set, 0, GETALL, values);
    semctl(set, 0, SETALL, values);
}

static const struct {
    const char *name;
    void (*run)(void);
} CASES[] = {
    {"unmapping", unmapping}, {"changing_rights", changing_rights}, {"advising", advising},
    {"forking", forking},     {"pages", pages},
    {"waiters", waiters},
    {"listed_queues", listed_queues},
    {"listed_sets", listed_sets},
    {"listed_segments", listed_segments},
    {"semaphores", semaphores},
};

int main(int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < sizeof CASES / sizeof *CASES; i++)
        if (strcmp(argv[1], CASES[i].name) == 0) {
            CASES[i].run();
            puts("alive");
            return 0;
        }
    return 1;
}
