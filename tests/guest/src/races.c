/* Threads that map, protect and unmap what others read into, write from and touch: calls fail or not, accesses fault or
 * not, but everybody goes on, and what nobody disturbs stays right.
 */
#include "guest.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/uio.h>

#define PAGE 4096
#define PAGES 48
#define RW (PROT_READ | PROT_WRITE)

static char *area;
static atomic_int stop;
static atomic_long progress[8];
static __thread sigjmp_buf back;
static __thread int expected;

static void on_fault(int sig) {
    if (!expected)
        _exit(40);
    siglongjmp(back, sig);
}

static unsigned draw(unsigned *seed) {
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static int file;

static void change(unsigned *seed) {
    size_t from = draw(seed) % PAGES, n = 1 + draw(seed) % 8;
    if (from + n > PAGES)
        n = PAGES - from;
    char *at = area + from * PAGE;
    static const int rights[] = {PROT_NONE, PROT_READ, RW, RW, RW | PROT_EXEC, PROT_READ | PROT_EXEC};
    int prot = rights[draw(seed) % 6];
    switch (draw(seed) % 8) {
    case 0:
        munmap(at, n * PAGE);
        break;
    case 1:
    case 2:
        mprotect(at, n * PAGE, prot);
        break;
    case 3:
        madvise(at, n * PAGE, MADV_DONTNEED);
        break;
    case 4:
        mmap(at, n * PAGE, prot, MAP_FIXED | MAP_PRIVATE, file, 0);
        break;
    case 5:
        mmap(at, n * PAGE, prot, MAP_FIXED | MAP_SHARED, file, 0);
        break;
    default:
        mmap(at, n * PAGE, prot, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
}

static void copy(unsigned *seed) {
    char *at = area + draw(seed) % (PAGES * PAGE - 3 * PAGE);
    size_t n = draw(seed) % (3 * PAGE);
    struct iovec v[2] = {{at, n / 2}, {at + n / 2, n - n / 2}};
    switch (draw(seed) % 5) {
    case 0:
        pread(file, at, n, 0);
        break;
    case 1:
        preadv(file, v, 2, 100);
        break;
    case 2:
        pwrite(file, at, n, 0);
        break;
    case 3:
        syscall(SYS_getcwd, at, n);
        break;
    default:
        readv(file, v, 2);
        lseek(file, 0, SEEK_SET);
    }
}

static void touch(unsigned *seed) {
    volatile char *at = area + draw(seed) % (PAGES * PAGE);
    expected = 1;
    if (!sigsetjmp(back, 0)) {
        if (draw(seed) & 1)
            *at = 1;
        else
            *at;
    }
    expected = 0;
}

/* The last two: rights of pages that hold nothing but `ret`. */
static char *returns;
static void protect(unsigned *seed) {
    size_t from = draw(seed) % PAGES, n = 1 + draw(seed) % (PAGES - from);
    mprotect(returns + from * PAGE, n * PAGE, draw(seed) % 8);
}
static void execute(unsigned *seed) {
    char *at = returns + draw(seed) % (PAGES * PAGE);
    expected = 1;
    if (!sigsetjmp(back, 0)) {
        if (draw(seed) % 4 == 0)
            *at = 0xc3;
        ((void (*)(void))at)();
    }
    expected = 0;
}

static void (*const works[])(unsigned *) = {change, copy, touch, change, copy, protect, execute, execute};

static void *worker(void *number) {
    long n = (long)number;
    const char *given = getenv("GUEST_SEED");
    unsigned seed = (given ? atoi(given) : 1) + n;
    while (!atomic_load(&stop)) {
        works[n](&seed);
        atomic_fetch_add(&progress[n], 1);
    }
    return NULL;
}

static void race(int first, int workers, int ms) {
    struct sigaction a = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &a, NULL);
    sigaction(SIGBUS, &a, NULL);
    file = memfd_create("data", 0);
    CHECK(file >= 0 && ftruncate(file, 8 * PAGE) == 0);
    area = mmap(NULL, PAGES * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    returns = mmap(NULL, PAGES * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(returns, 0xc3, PAGES * PAGE);
    char *quiet = mmap(NULL, 64 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(quiet, 5, 64 * PAGE);
    pthread_t t[8];
    for (long n = 0; n < workers; n++)
        CHECK(pthread_create(&t[n], NULL, worker, (void *)(first + n)) == 0);
    for (int i = 0; i < ms / 50; i++) {
        long before[8];
        for (int n = first; n < first + workers; n++)
            before[n] = atomic_load(&progress[n]);
        usleep(50000);
        for (int n = first; n < first + workers; n++)
            for (int wait = 0; atomic_load(&progress[n]) == before[n]; wait++) {
                if (wait == 200) {
                    printf("worker %d does not go on\n", n);
                    _exit(41);
                }
                usleep(50000);
            }
    }
    atomic_store(&stop, 1);
    for (int n = 0; n < workers; n++)
        CHECK(pthread_join(t[n], NULL) == 0);
    int wrong = 0;
    for (int i = 0; i < 64 * PAGE; i++)
        wrong += quiet[i] != 5;
    CHECK(wrong == 0);
}

CASE(map_and_copy) { race(0, 2, 600); }
CASE(map_and_touch) { race(2, 2, 600); }
CASE(protect_and_execute) { race(5, 3, 600); }
CASE(all_at_once) { race(0, 8, 1000); }
