/* Calls system calls with hostile arguments from several threads of several processes, beside a process that does its
 * own work: syscalls SEED MILLISECONDS CALLS NUMBER...
 *
 * Ends after that time or that many calls. The fuzzing processes may do what they like to themselves: they are replaced
 * all the time. While calls are at work, threads change the structures they point to. The neighbour checks every byte that
 * it keeps and passes on; at the end no process, descriptor or memory may be left over. Prints how many processes fuzzed and
 * `count NAME N` for calls by number and arguments by class; the exit status is 0 if nothing was harmed or lost.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FUZZERS 4
#define THREADS 6
#define LIFE_MS 200
#define ARENA 0x20000
#define NOBODY 65534
/* Memory that caches may keep. */
#define SLACK_KIB 65536

enum kind { EDGE, END, PATH, PAGE, INSIDE, ALIGNED, SIZE_EDGE, POWER, SPARSE, SMALL, KINDS };
static const char *const KIND_NAMES[KINDS] = {
    "address-edge", "address-arena-end", "address-path", "address-page", "address-unaligned", "address-aligned",
    "number-edge", "number-power", "number-sparse", "number-small",
};

/* Shared by all fuzzers. */
struct counts {
    uint64_t calls[512], total, kinds[KINDS], over;
};
static struct counts *counts;
static int numbers[512], count;
static unsigned char *arena;

static uint64_t next(uint64_t *s) {
    uint64_t z = (*s += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static uint64_t below(uint64_t *s, uint64_t n) { return next(s) % n; }

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the neighbour ---- */

static void must(int ok, const char *what) {
    if (ok)
        return;
    fprintf(stderr, "neighbour: %s (errno %d)\n", what, errno);
    _exit(1);
}

static int soft(void) { return errno == EINTR || errno == EAGAIN || errno == ENOMEM; }

static void all_through(int out, int in, unsigned char *give, unsigned char *take, size_t n) {
    size_t done = 0;
    while (done < n) {
        ssize_t k = write(out, give + done, n - done);
        if (k < 0 && soft())
            continue;
        must(k > 0, "write");
        for (size_t got = 0; got < (size_t)k;) {
            ssize_t r = read(in, take + done + got, k - got);
            if (r < 0 && soft())
                continue;
            must(r > 0, "read");
            got += r;
        }
        done += k;
    }
}

static int neighbour(uint64_t seed, volatile uint64_t *over) {
    enum { SIZE = 1 << 20, PIECE = 4096 };
    unsigned char *own = malloc(SIZE), give[PIECE], take[PIECE];
    int pipes[2], file = open("/tmp/neighbour", O_RDWR | O_CREAT | O_EXCL, 0600);
    must(own && file >= 0 && pipe(pipes) == 0, "set-up");
    uint64_t state = seed, check;
    for (int i = 0; i < SIZE; i++)
        own[i] = next(&state);
    memcpy(give, own, PIECE);
    all_through(file, file, give, take, 0);
    must(pwrite(file, give, PIECE, 0) == PIECE, "pwrite");
    unsigned rounds = 0;
    do {
        check = seed;
        for (int i = 0; i < SIZE; i++)
            must(own[i] == (unsigned char)next(&check), "its memory has changed");
        memcpy(give, own + rounds % 255 * PIECE, PIECE);
        all_through(pipes[1], pipes[0], give, take, PIECE);
        must(memcmp(give, take, PIECE) == 0, "its pipe has changed");
        ssize_t n = pread(file, take, PIECE, 0);
        must(n == PIECE ? memcmp(own, take, PIECE) == 0 : n < 0 && soft(), "its file has changed");
        rounds++;
    } while (!*over);
    return 0;
}

/* ---- the fuzzers ---- */

static const char *const PATHS[] = {
    "", "/", ".", "..", "/tmp/fuzz", "/tmp/fuzz/a", "/tmp/fuzz/b/c", "a", "b/../a", "/proc/self/fd/0", "/proc/self/maps",
    "/proc/self/exe", "/proc/self/task", "/proc/1/stat", "/proc/self/mem", "/proc/meminfo", "/dev/null", "/dev/zero",
    "/dev/tty", "/dev/full", "/dev/random", "/sys", "/etc/passwd", "/bin/busybox", "/no/such/path", "/tmp/neighbour",
};

static uint64_t address(uint64_t *s, int *kind) {
    static const uint64_t edges[] = {
        0, 1, 7, 0xfff, 0x10000, 0x20000000, 0x40000000, 0x7fffffff, 0x80000000, 0xfeffffff, 0xff000000, 0xfffff000,
        0xffffffff, 0x100000000, 0x100000001, 0x4000000000, 0x10a00000000, 0x7fffffffffff, 0x800000000000,
        0xffffffff80000000, 0xfffffffffffff000, 0xffffffffffffffff,
    };
    switch (below(s, 8)) {
    case 0: return *kind = EDGE, edges[below(s, sizeof edges / sizeof *edges)];
    case 1: return *kind = END, (uint64_t)arena + ARENA - below(s, 64);
    case 2: return *kind = PATH, (uint64_t)PATHS[below(s, sizeof PATHS / sizeof *PATHS)];
    case 3: return *kind = PAGE, (uint64_t)arena + below(s, ARENA / 4096) * 4096;
    case 4: return *kind = INSIDE, below(s, 16) ? (uint64_t)arena + below(s, ARENA) : next(s) >> below(s, 64);
    default: return *kind = ALIGNED, (uint64_t)arena + below(s, ARENA / 8) * 8;
    }
}

static uint64_t number(uint64_t *s, int *kind) {
    static const uint64_t sizes[] = {
        8, 16, 24, 36, 64, 128, 144, 255, 256, 4095, 4096, 4097, 65536, 1 << 20, 1 << 24, 0x7fffffff, 0x80000000,
        0xffffffff, 0x100000000, 0x10000000000, INT64_MAX, (uint64_t)INT64_MIN, -1, -2, -100, -4096,
    };
    switch (below(s, 6)) {
    case 0: return *kind = SIZE_EDGE, sizes[below(s, sizeof sizes / sizeof *sizes)];
    case 1: return *kind = POWER, 1ull << below(s, 64);
    case 2: return *kind = SPARSE, next(s) & next(s) & next(s);
    default: return *kind = SMALL, below(s, 24);
    }
}

/* Structures in the arena: pointers, numbers and noise, so that iovecs, timespecs and sigactions make sense at times. */
static void stir(uint64_t *s) {
    uint64_t *words = (uint64_t *)arena;
    int kind;
    for (int i = 0; i < 64; i++) {
        uint64_t at = below(s, ARENA / 8);
        words[at] = below(s, 3) ? number(s, &kind) : address(s, &kind);
    }
    const char *path = PATHS[below(s, sizeof PATHS / sizeof *PATHS)];
    strcpy((char *)arena + below(s, ARENA - 64), path);
}

static int own_process(uint64_t *s) {
    int ids[] = { getpid(), (int)syscall(SYS_gettid), 999999, INT_MIN, INT_MAX };
    return ids[below(s, 5)];
}

/* Where one hostile call would only end the fuzzer early, or hit the neighbour as Linux lets it. */
static int tame(uint64_t *s, long nr, uint64_t *a) {
    switch (nr) {
    case SYS_exit: case SYS_exit_group: case SYS_rt_sigreturn: return below(s, 200) == 0;
    case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo:
        a[0] = own_process(s);
        return below(s, 20) == 0;
    case SYS_munmap: case SYS_mprotect: case SYS_mremap: case SYS_madvise: case SYS_brk:
        if (below(s, 50))
            a[0] = (uint64_t)arena + below(s, ARENA / 4096) * 4096, a[1] = below(s, 4) * 4096;
        return 1;
    case SYS_fork: case SYS_vfork: case SYS_clone: return below(s, 10) == 0;
    default: return 1;
    }
}

static void add(uint64_t *to) { __atomic_fetch_add(to, 1, __ATOMIC_RELAXED); }

static void call(uint64_t *s) {
    long nr = numbers[below(s, count)];
    uint64_t a[6];
    int kinds[6];
    for (int i = 0; i < 6; i++)
        a[i] = below(s, 2) ? address(s, kinds + i) : number(s, kinds + i);
    if (!tame(s, nr, a))
        return;
    add(&counts->calls[nr]), add(&counts->total);
    for (int i = 0; i < 6; i++)
        add(&counts->kinds[kinds[i]]);
    if (nr == SYS_vfork)
        nr = SYS_fork;
    pid_t self = getpid();
    syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (getpid() != self)
        _exit(0);
}

static void *thread(void *arg) {
    uint64_t s = (uint64_t)arg;
    for (;;) {
        if (below(&s, 32) == 0)
            stir(&s);
        call(&s);
    }
    return NULL;
}

static void nothing(int sig) { (void)sig; }

static void limit(int what, rlim_t n) {
    struct rlimit r = { n, n };
    setrlimit(what, &r);
}

static void fuzz(uint64_t seed) {
    struct itimerval tick = { { 0, 5000 }, { 0, 5000 } };
    struct sigaction act = { .sa_handler = nothing };
    uint64_t s = seed;
    setpgid(0, 0);
    int null = open("/dev/null", O_RDWR);
    if (null < 0)
        _exit(7);
    for (int i = 0; i < 3; i++)
        dup2(null, i);
    mkdir("/tmp/fuzz", 0777);
    chdir("/tmp/fuzz");
    limit(RLIMIT_AS, 256 << 20), limit(RLIMIT_FSIZE, 1 << 20), limit(RLIMIT_NPROC, 64), limit(RLIMIT_NOFILE, 64);
    if (getuid() == 0 && (setgid(NOBODY) || setuid(NOBODY)))
        _exit(9);
    arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (arena == MAP_FAILED)
        _exit(8);
    stir(&s);
    sigaction(SIGALRM, &act, NULL);
    setitimer(ITIMER_REAL, &tick, NULL);
    for (int i = 1; i < THREADS; i++) {
        pthread_t t;
        pthread_create(&t, NULL, thread, (void *)next(&s));
    }
    thread((void *)next(&s));
}

static pid_t start(uint64_t seed) {
    pid_t pid = fork();
    if (pid == 0) {
        fuzz(seed);
        _exit(0);
    }
    return pid;
}

static void nap(void) {
    struct timespec t = { 0, 20 * 1000000 };
    nanosleep(&t, NULL);
}

/* ---- what is left ---- */

static long free_kib(void) {
    char text[4096], *at;
    int fd = open("/proc/meminfo", O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    at = strstr(text, "MemFree:");
    return at ? strtol(at + 8, NULL, 10) : -1;
}

/* Numbers among the names of a directory. */
static int entries(const char *path) {
    DIR *d = opendir(path);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] >= '0' && e->d_name[0] <= '9';
    if (d)
        closedir(d);
    return n;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st, (void)type, (void)at;
    return remove(path), 0;
}

struct level {
    int processes, descriptors;
    long free;
};

static struct level level(void) {
    struct level l = { entries("/proc"), entries("/proc/self/fd"), free_kib() };
    return l;
}

/* Ends everybody else, and compares with `before`. */
static int lost(struct level before) {
    struct level now;
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    nftw("/tmp/fuzz", remove_one, 16, FTW_DEPTH | FTW_PHYS);
    for (int i = 0; i < 100; i++, nap()) {
        now = level();
        if (now.processes <= before.processes && now.descriptors == before.descriptors &&
            now.free > before.free - SLACK_KIB)
            break;
    }
    printf("level processes %d %d descriptors %d %d free %ld %ld\n", before.processes, now.processes,
           before.descriptors, now.descriptors, before.free, now.free);
    return now.processes > before.processes || now.descriptors != before.descriptors ||
           now.free < before.free - SLACK_KIB;
}

/* Runs fuzzers until it is time or there were enough calls; how many. */
static unsigned supervise(uint64_t seed, uint64_t end, uint64_t calls) {
    pid_t pids[FUZZERS] = { 0 };
    uint64_t born[FUZZERS];
    unsigned started = 0;
    while (now_ms() < end && counts->total < calls) {
        for (int i = 0; i < FUZZERS; i++) {
            if (pids[i] > 0 && now_ms() - born[i] > LIFE_MS)
                kill(pids[i], SIGKILL), waitpid(pids[i], NULL, 0), pids[i] = 0;
            if (pids[i] > 0 && waitpid(pids[i], NULL, WNOHANG) == pids[i])
                pids[i] = 0;
            if (pids[i] <= 0)
                pids[i] = start(next(&seed)), born[i] = now_ms(), started += pids[i] > 0;
        }
        nap();
    }
    for (int i = 0; i < FUZZERS; i++)
        if (pids[i] > 0)
            kill(pids[i], SIGKILL), waitpid(pids[i], NULL, 0);
    return started;
}

int main(int argc, char **argv) {
    uint64_t seed = strtoull(argv[1], NULL, 10), end = now_ms() + strtoull(argv[2], NULL, 10);
    uint64_t calls = strtoull(argv[3], NULL, 10);
    pid_t friend;
    int status;
    for (int i = 4; i < argc && count < 512; i++)
        numbers[count++] = atoi(argv[i]);
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED)
        return 2;
    struct level before = level();
    if ((friend = fork()) == 0)
        _exit(neighbour(seed, &counts->over));
    unsigned started = supervise(seed, end, calls);
    counts->over = 1;
    if (waitpid(friend, &status, 0) != friend || status != 0) {
        printf("the neighbour ended with %#x\n", status);
        return 1;
    }
    unlink("/tmp/neighbour");
    if (lost(before)) {
        printf("something is left over\n");
        return 1;
    }
    for (int i = 0; i < count; i++)
        printf("count call-%d %llu\n", numbers[i], (unsigned long long)counts->calls[numbers[i]]);
    for (int i = 0; i < KINDS; i++)
        printf("count %s %llu\n", KIND_NAMES[i], (unsigned long long)counts->kinds[i]);
    printf("calls %llu fuzzers %u\n", (unsigned long long)counts->total, started);
    return 0;
}
