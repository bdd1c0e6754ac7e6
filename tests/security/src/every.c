/* every NUMBER:KIND,KIND... ...: makes each of these system calls, with arguments of these kinds, when all memory is taken but
 * for a little: another process holds it, and is replaced when it is killed. The calls may do what they like to the process
 * that makes them; says "all made" at the end.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define PAGE 4096ul
#define LEFT (512ul << 10)
#define ARENA (64ul << 10)
#define TIMES 24
#define CALLS 512
#define PATIENCE_MS 2000

/* Whose turn it is: one word for each call, and one that says that memory is full. */
static uint32_t *words;
static uint64_t *arena;
static int fds[16], fd_count;

static void wait_for(uint32_t *word) {
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == 0)
        syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);
}
static void set(uint32_t *word) {
    __atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void hold_all_memory(void) {
    size_t size = 1ul << 30, have = 0;
    char *all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (size_t piece = 64 * PAGE; piece >= PAGE; piece /= 64)
        while (have + piece <= size && madvise(all + have, piece, MADV_POPULATE_WRITE) == 0)
            have += piece;
    munmap(all + have - LEFT, LEFT);
    set(&words[CALLS]);
    for (;;)
        pause();
}

static void stir(int turn) {
    for (size_t i = 0; i < ARENA / 8; i++)
        arena[i] = turn % 4 == 0 ? 0 : turn % 4 == 1 ? (uint64_t)arena + i % 64 * 512 : turn % 4 == 2 ? i % 2 + 1 : 4096;
}
static int starts(const char *kind, const char *with) { return strncmp(kind, with, strlen(with)) == 0; }
static uint64_t value(const char *kind, unsigned turn) {
    static const char *const paths[] = {"/tmp/x", "/tmp", "/bin/true", "/proc/self/smaps", "/proc/net/unix", "/proc/sysvipc/shm",
                                        "/dev/ptmx", "/tmp/y/z"};
    static const uint64_t sizes[] = {4096, 65536, 1, 1 << 20, 128, 0, 32768};
    static const uint64_t numbers[] = {0, 1, 2, 3, 8, 16, 64, 512, 4096, -1, 1 << 17};
    static char *argv[] = {"/bin/true", "x", NULL};
    if (starts(kind, "self"))
        return getpid();
    if (starts(kind, "signal"))
        return (const int[]){0, SIGURG, SIGCHLD, 34}[turn % 4];
    if (starts(kind, "dirfd"))
        return turn % 2 ? (uint64_t)AT_FDCWD : (uint64_t)fds[0];
    if (starts(kind, "fd") && strcmp(kind, "fd") == 0)
        return fds[turn % fd_count];
    if (strcmp(kind, "path") == 0 || strcmp(kind, "str") == 0)
        return (uint64_t)paths[turn % 8];
    if (strcmp(kind, "strings") == 0)
        return (uint64_t)argv;
    if (strcmp(kind, "size") == 0)
        return sizes[turn % 7];
    if (strcmp(kind, "ptr") == 0 || strstr(kind, "_in") || strstr(kind, "_out") || strstr(kind, "buf") || strstr(kind, "fds") ||
        strstr(kind, "events"))
        return (uint64_t)arena + turn % 2 * PAGE;
    return numbers[turn % 11];
}

static int ticks;
static void tick(int sig) {
    (void)sig;
    if (++ticks > 20)
        _exit(0);
}

static void make(const char *call) {
    char kinds[6][32] = {""};
    long nr = strtol(call, (char **)&call, 10);
    for (int i = 0; i < 6 && *call; i++) {
        size_t n = strcspn(++call, ",");
        memcpy(kinds[i], call, n < 31 ? n : 31);
        call += n;
    }
    struct sigaction a = {.sa_handler = tick};
    sigaction(SIGALRM, &a, NULL);
    struct itimerval often = {{0, 10000}, {0, 10000}};
    setitimer(ITIMER_REAL, &often, NULL);
    pid_t self = getpid();
    for (unsigned turn = 0; turn < TIMES; turn++) {
        uint64_t v[6];
        stir(turn);
        for (unsigned i = 0; i < 6; i++)
            v[i] = value(kinds[i], turn * (i + 1) + i);
        syscall(nr == SYS_vfork ? SYS_fork : nr, v[0], v[1], v[2], v[3], v[4], v[5]);
        if (getpid() != self)
            break;
    }
    _exit(0);
}

int main(int argc, char **argv) {
    static pid_t callers[CALLS];
    words = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int pair[2], ends[2];
    pipe(ends), socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    int own[] = {open("/tmp", O_RDONLY), open("/tmp/x", O_RDWR | O_CREAT, 0600), ends[0], ends[1], pair[0], pair[1], epoll_create(1),
                 eventfd(0, EFD_NONBLOCK), socket(AF_INET, SOCK_DGRAM, 0), memfd_create("x", 0), open("/proc/self/maps", O_RDONLY)};
    fd_count = sizeof own / sizeof *own;
    memcpy(fds, own, sizeof own);
    for (int i = 1; i < argc && i < CALLS; i++)
        if ((callers[i] = fork()) == 0) {
            setpgid(0, 0);
            wait_for(&words[i]);
            make(argv[i]);
        }
    pid_t holder = 0;
    int made = 0;
    for (int i = 1; i < argc && i < CALLS; i++) {
        if (holder == 0 || waitpid(holder, NULL, WNOHANG) != 0) {
            words[CALLS] = 0;
            if ((holder = fork()) == 0)
                hold_all_memory();
            wait_for(&words[CALLS]);
        }
        set(&words[i]);
        for (int ms = 0; waitpid(callers[i], NULL, WNOHANG) == 0; ms++) {
            usleep(1000);
            if (ms >= PATIENCE_MS)
                kill(callers[i], SIGKILL);
        }
        made++;
    }
    kill(holder, SIGKILL);
    puts(made == argc - 1 ? "all made" : "not all");
    return 0;
}
