/* How many mappings of the host's memory takes: programs that would use up all of them get ENOMEM, or end, and nobody
 * else notices. Started in enclaves only; /proc/occlum says how many the LibOS thinks there are.
 */
#include "guest.h"
#include <setjmp.h>

#define PAGE 4096l
#define MIB (1l << 20)

static long mappings(void) {
    char text[1000] = "";
    int fd = open("/proc/occlum", O_RDONLY);
    CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    close(fd);
    return atol(strstr(text, "mappings ") + 9);
}

static char *take(long size, int prot) {
    return mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/* Says how many there are, and waits: the test counts the host's. */
static void compare(const char *what) {
    char c;
    printf("%s %ld\n", what, mappings());
    fflush(stdout);
    CHECK(read(0, &c, 1) == 1);
}

static void touch(char *p, long size, long step) {
    for (long at = 0; at < size; at += step)
        p[at] = 1;
}

CASE(count) {
    long size = 512 * MIB;
    compare("start");
    char *p = take(size, PROT_READ | PROT_WRITE);
    touch(p, size, MIB / 2), compare("islands");
    touch(p, size / 2, PAGE), compare("half of them one piece");
    for (long at = 0; at < 64 * MIB; at += 2 * MIB)
        mprotect(p + at, PAGE, PROT_READ), munmap(p + at + MIB, PAGE), madvise(p + at + 8 * PAGE, PAGE, MADV_DONTNEED);
    compare("holes");
    munmap(p, size), compare("gone");
    int fd = memfd_create("shared", 0);
    ftruncate(fd, 64 * MIB);
    p = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (long at = 64 * MIB - PAGE; at >= 0; at -= 5 * PAGE)
        p[at] = 1;
    compare("shared"), munmap(p, 64 * MIB), close(fd), compare("gone");
}

/* Each takes what it can get, until the kernel refuses or it is ended. */
static void many_mappings(void) {
    for (long i = 0;; i++) {
        char *p = take(PAGE, PROT_READ | i % 2 * PROT_WRITE);
        if (p == MAP_FAILED)
            break;
        (void)*(volatile char *)p;
    }
    CHECK(errno == ENOMEM);
}
static void many_rights(void) {
    char *p = take(512 * MIB, PROT_READ | PROT_WRITE);
    touch(p, 512 * MIB, PAGE);
    for (long at = 0; at < 512 * MIB; at += 2 * PAGE)
        if (mprotect(p + at, PAGE, PROT_READ)) {
            CHECK(errno == ENOMEM);
            break;
        }
}
static void many_holes(void) {
    char *p = take(512 * MIB, PROT_READ | PROT_WRITE);
    touch(p, 512 * MIB, PAGE);
    for (long at = 0; at < 512 * MIB; at += 2 * PAGE) {
        p[at] = 7;
        CHECK(madvise(p + at, PAGE, MADV_DONTNEED) == 0 && p[at] == 0);
    }
    for (long at = 0; at < 512 * MIB; at += 2 * PAGE)
        if (munmap(p + at, PAGE)) {
            CHECK(errno == ENOMEM);
            break;
        }
}
static void many_islands(void) {
    char *p = take(2000 * MIB, PROT_READ | PROT_WRITE);
    touch(p, 2000 * MIB, 272 << 10);
}
static void many_shared(void) {
    long size = 256 * MIB;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (long at = 0, n = 0; n < size / PAGE; n++, at = (at + 7919 * PAGE) % size)
        p[at] = 1;
}
static void many_tables(void) {
    /* Each page of code that is jumped to has a part of the lookup table. */
    char *p = mmap(NULL, 256 * MIB, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long at = 0; at < 256 * MIB; at += 2 * PAGE) {
        p[at] = (char)0xc3;
        ((void (*)(void))(p + at))();
    }
}
static void many_untouched(void) {
    /* All were admitted while there was nothing in them. */
    static char *all[60000];
    long n = 0;
    while (n < 60000 && (all[n] = take(PAGE, PROT_READ | n % 2 * PROT_WRITE)) != MAP_FAILED)
        n++;
    CHECK(n == 60000);
    for (long i = 0; i < n; i++)
        (void)*(volatile char *)all[i];
}
static void many_forks(void) {
    touch(take(256 * MIB, PROT_READ | PROT_WRITE), 256 * MIB, MIB / 2);
    for (pid_t child; (child = fork()) >= 0;)
        if (child == 0)
            pause();
    CHECK(errno == ENOMEM || errno == EAGAIN);
    signal(SIGTERM, SIG_IGN), kill(0, SIGTERM);
}

static sigjmp_buf past_end;
static void leave(int sig) {
    siglongjmp(past_end, sig);
}

/* Touches so many of the places; how many mappings there are then. */
__attribute__((noinline)) static long visit(char *p, unsigned count) {
    static const long places[] = {0, 100 * PAGE, 700 * MIB, 690 * MIB, 1023 * MIB, 1000 * MIB, 300 * MIB, 300 * MIB - 9 * PAGE};
    for (unsigned i = 0; i < count; i++) {
        CHECK(p[places[i]] == 0);
        p[places[i]] = 1 + i;
    }
    for (unsigned i = 0; i < count; i++)
        CHECK(p[places[i]] == (char)(1 + i));
    return mappings();
}

/* Who has used its share up goes on to touch what it has: in large holes, near their ends and far from them. */
CASE(holes) {
    char *p = take(1024 * MIB, PROT_READ | PROT_WRITE);
    int fd = memfd_create("short", 0);
    CHECK(ftruncate(fd, 1) == 0);
    char *file = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    visit(p, 0); /* its code has mappings, too */
    many_mappings();
    long before = mappings();
    CHECK(visit(p, 8) <= before + 10);
    signal(SIGBUS, leave);
    int sig = sigsetjmp(past_end, 1);
    if (sig == 0)
        (void)*(volatile char *)(file + PAGE);
    CHECK(sig == SIGBUS);
    puts("done");
}

/* Works as if nobody were there: fresh memory, stacks of children, files. */
static int victim_works(void) {
    char *p = take(8 * MIB, PROT_READ | PROT_WRITE);
    if (p == MAP_FAILED)
        return 0;
    touch(p, 8 * MIB, PAGE);
    pid_t child = fork();
    if (child == 0)
        execl("/proc/self/exe", "pieces", "nothing", NULL), _exit(9);
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0 && munmap(p, 8 * MIB) == 0;
}

CASE(nothing) {
}

CASE(hogs) {
    static void (*const hogs[])(void) = {many_mappings, many_rights, many_holes, many_islands, many_shared, many_tables, many_untouched,
                                          many_forks};
    long before = mappings();
    CHECK(victim_works());
    for (unsigned n = 0; n < sizeof hogs / sizeof *hogs; n++) {
        int ends[2];
        char c;
        CHECK(pipe(ends) == 0);
        pid_t hog = fork_clean();
        if (hog == 0) {
            setpgid(0, 0);
            hogs[n]();
            if (guest_failures)
                _exit(1);
            close(ends[0]), write(ends[1], "x", 1);
            for (;;)
                pause();
        }
        setpgid(hog, hog), close(ends[1]);
        /* It has all that it can get, or has ended. */
        read(ends[0], &c, 1), close(ends[0]);
        fprintf(stderr, "hog %u: %ld mappings\n", n, mappings());
        for (int i = 0; i < 20; i++)
            CHECK(victim_works());
        kill(-hog, SIGKILL);
        int status;
        CHECK(waitpid(hog, &status, 0) == hog && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    fprintf(stderr, "before %ld after %ld\n", before, mappings());
    CHECK(victim_works() && mappings() < before + 4000);
    puts("done");
}

/* What ended programs leave to the next ones is nobody's: who needs it gets it, as far as its share goes. */
CASE(after_others) {
    enum { OTHERS = 55, EACH = 900, OWN = 25000 };
    int ready[2], go[2];
    char c;
    CHECK(pipe(ready) == 0 && pipe(go) == 0);
    for (int i = 0; i < OTHERS; i++)
        if (fork_clean() == 0) {
            char *p = take(EACH * PAGE, PROT_READ | PROT_WRITE);
            touch(p, EACH * PAGE, PAGE);
            for (long at = 0; at < EACH * PAGE; at += 2 * PAGE)
                CHECK(mprotect(p + at, PAGE, PROT_READ) == 0);
            CHECK(write(ready[1], "x", 1) == 1);
            close(go[1]);
            _exit(read(go[0], &c, 1) != 0 || guest_failures);
        }
    for (int i = 0; i < OTHERS; i++)
        CHECK(read(ready[0], &c, 1) == 1);
    long most = mappings();
    close(go[1]);
    for (int i = 0, status; i < OTHERS; i++)
        CHECK(wait(&status) > 0 && status == 0);
    CHECK(most > OTHERS * EACH);
    char *p = take(OWN * PAGE, PROT_READ | PROT_WRITE);
    touch(p, OWN * PAGE, PAGE);
    for (long at = 0; at < OWN * PAGE; at += 2 * PAGE)
        if (mprotect(p + at, PAGE, PROT_READ) != 0) {
            printf("refused after %ld: %s\n", at / PAGE, strerrorname_of(errno));
            guest_failures++;
            break;
        }
    CHECK(mappings() > OWN);
    puts("done");
}

/* The host has hardly more memory for the enclave than it holds now, most of which ended programs have left. */
CASE(refused_memory) {
    enum { CHILDREN = 40 };
    int hold[2];
    CHECK(pipe(hold) == 0);
    for (int i = 0; i < CHILDREN; i++)
        if (fork_clean() == 0) {
            char c;
            close(hold[1]);
            touch(take(6 * MIB, PROT_READ | PROT_WRITE), 6 * MIB, PAGE);
            _exit(read(hold[0], &c, 1) != 0);
        }
    close(hold[1]);
    for (int status, i = 0; i < CHILDREN; i++)
        CHECK(wait(&status) > 0 && status == 0);
    compare("left");
    char *p = take(160 * MIB, PROT_READ | PROT_WRITE);
    touch(p, 160 * MIB, PAGE);
    for (long at = 0; at < 160 * MIB; at += PAGE)
        CHECK(p[at] == 1);
    puts("done");
}
