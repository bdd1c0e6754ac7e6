/* full CASE [unasked]: makes many of something, takes all memory, gives a little back, and makes calls that go through them all. The
 * calls may fail; says "alive" if that is all that comes of it. With `unasked` memory stays, and the largest piece is told that
 * the LibOS took without asking whether it is there.
 */
#define _GNU_SOURCE
#include "waiters.h"
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
#include <sys/stat.h>
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

static int keeps_memory;

/* Nobody is killed for memory that is asked for so. */
static void fill(void) {
    if (keeps_memory)
        return;
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

static void waiters(void) {
    begin_to_wait(500);
    fill();
    move_waiters();
    wake_waiters();
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

/* ---- a path of many names ---- */

static void deep(void) {
    char name[251], path[4096];
    memset(name, 'a', 250), name[250] = 0;
    must(chdir("/tmp") == 0, "chdir");
    for (int i = 0; i < 4000; i++)
        must(mkdir(name, 0777) == 0 && chdir(name) == 0, "mkdir");
    int fd = open("x", O_RDWR | O_CREAT, 0600);
    must(fd >= 0 && ftruncate(fd, PAGE) == 0, "open");
    must(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED, "mmap");
    fill();
    must(readlink("/proc/self/cwd", path, sizeof path) < 0, "readlink");
    must(getcwd(path, sizeof path) == NULL, "getcwd");
    look_at("/proc/self/maps"), look_at("/proc/self/smaps");
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
    {"deep", deep},
};

static void tell_unasked(void) {
    unsigned kb;
    char row[128];
    FILE *f = fopen("/proc/occlum", "r");
    while (f && fgets(row, sizeof row, f))
        if (sscanf(row, "unasked_kb %u", &kb) == 1)
            printf("%u\n", kb);
}

int main(int argc, char **argv) {
    keeps_memory = argc > 2;
    for (size_t i = 0; argc > 1 && i < sizeof CASES / sizeof *CASES; i++)
        if (strcmp(argv[1], CASES[i].name) == 0) {
            CASES[i].run();
            puts("alive");
            if (keeps_memory)
                tell_unasked();
            return 0;
        }
    return 1;
}
