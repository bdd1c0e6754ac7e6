/* Returns to code that has changed, or is not there any more, since its call, in files that are large. The next return has to
 * see what is there now, as on the CPU.
 */
#include "guest.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/time.h>

#define PAGE 4096
#define LENGTH (5 << 20)
#define RX (PROT_READ | PROT_EXEC)

typedef unsigned char byte;
/* What runs between a call and its return: it sees where the return address stands. */
typedef void helper(long *slot);
typedef int caller(helper *run, void *through);
typedef int deep(int levels);

/* Places in the files: a call of a register, a direct call (to JUMP), a call of itself; and where they return to. */
enum { CALL, SITE = 6, DIRECT = 64, DIRECT_SITE = 73, JUMP = 96, DEEP = 128 };

static byte *code, *through;
static jmp_buf env;
static void *volatile fault;

/* A file whose calls give `number`. */
static int file(int number) {
    static const byte call[] = {0x48, 0x83, 0xec, 8, 0xff, 0xd6, 0xb8, 0, 0, 0, 0, 0x48, 0x83, 0xc4, 8, 0xc3};
    static const byte direct[] = {0x48, 0x83, 0xec, 8,    0xe8, 23,   0,    0, 0,
                                  0xb8, 0,    0,    0, 0, 0x48, 0x83, 0xc4, 8, 0xc3};
    static const byte jump[] = {0xff, 0xe6};
    /* lea 1(%rdi),%eax ; dec %edi ; jle 1f ; call itself ; inc %eax ; 1: ret */
    static const byte self[] = {0x8d, 0x47, 1, 0xff, 0xcf, 0x7e, 7, 0xe8, 0xf4, 0xff, 0xff, 0xff, 0xff, 0xc0, 0xc3};
    char name[] = "/tmp/returnsXXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0 && ftruncate(fd, LENGTH) == 0);
    unlink(name);
    CHECK(pwrite(fd, call, sizeof call, CALL) == sizeof call);
    CHECK(pwrite(fd, direct, sizeof direct, DIRECT) == sizeof direct);
    CHECK(pwrite(fd, jump, sizeof jump, JUMP) == sizeof jump);
    CHECK(pwrite(fd, self, sizeof self, DEEP) == sizeof self);
    CHECK(pwrite(fd, &number, 4, SITE + 1) == 4);
    number += 100;
    CHECK(pwrite(fd, &number, 4, DIRECT_SITE + 1) == 4);
    return fd;
}

/* Its only function calls the helper, and returns for it. */
static byte *map_through(void) {
    /* sub $8,%rsp ; mov %rdi,%rax ; lea 8(%rsp),%rdi ; call *%rax ; add $8,%rsp ; ret */
    static const byte bytes[] = {0x48, 0x83, 0xec, 8,    0x48, 0x89, 0xf8, 0x48, 0x8d, 0x7c,
                                 0x24, 8,    0xff, 0xd0, 0x48, 0x83, 0xc4, 8,    0xc3};
    char name[] = "/tmp/returnsXXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0 && ftruncate(fd, LENGTH) == 0);
    unlink(name);
    CHECK(pwrite(fd, bytes, sizeof bytes, 0) == sizeof bytes);
    byte *p = mmap(NULL, LENGTH, RX, MAP_PRIVATE, fd, 0);
    CHECK(p != MAP_FAILED);
    close(fd);
    return p;
}

static void map(int number, void *at) {
    int fd = file(number), fixed = at ? MAP_FIXED : 0;
    byte *p = mmap(at, LENGTH, RX, MAP_PRIVATE | fixed, fd, 0);
    CHECK(p != MAP_FAILED);
    close(fd);
    code = p;
}

static int call(int place, helper *run) {
    return ((caller *)(code + place))(run, through);
}

static void nothing(long *slot) {}

static void begin(void) {
    through = map_through();
    map(1, NULL);
    for (int i = 0; i < 100; i++) {
        CHECK(call(CALL, nothing) == 1);
        CHECK(call(DIRECT, nothing) == 101);
    }
}

static void on_fault(int signal, siginfo_t *info, void *context) {
    fault = info->si_addr;
    siglongjmp(env, 1);
}

/* The offset in the code at which a call with this helper faults; -1: it comes back. */
static long faults(int place, helper *run) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    byte *was = code;
    fault = NULL;
    if (sigsetjmp(env, 1) == 0) {
        call(place, run);
        return -1;
    }
    return (byte *)fault - was;
}

/* Its calls run once, so that returns may go behind them (docs/cfi.md). */
static void run_both(int number) {
    CHECK(call(CALL, nothing) == number);
    CHECK(call(DIRECT, nothing) == number + 100);
}
static void replace(long *slot) {
    map(2, code);
    run_both(2);
}
CASE(replaced) {
    begin();
    CHECK(call(CALL, replace) == 2);
    map(1, code);
    CHECK(call(DIRECT, replace) == 102);
}

static void take_away(long *slot) {
    CHECK(munmap(code, LENGTH) == 0);
}
CASE(taken_away) {
    begin();
    CHECK(faults(CALL, take_away) == SITE);
    map(1, code);
    CHECK(faults(DIRECT, take_away) == DIRECT_SITE);
    map(3, code);
    CHECK(call(CALL, nothing) == 3);
}

static void take_part(long *slot) {
    CHECK(munmap(code, PAGE) == 0);
}
CASE(part_taken_away) {
    begin();
    CHECK(faults(CALL, take_part) == SITE);
}

static void forbid(long *slot) {
    CHECK(mprotect(code, LENGTH, PROT_READ) == 0);
}
CASE(forbidden) {
    begin();
    CHECK(faults(CALL, forbid) == SITE);
    CHECK(mprotect(code, LENGTH, RX) == 0);
    CHECK(call(CALL, nothing) == 1);
    CHECK(call(DIRECT, nothing) == 101);
}

static void rewrite(long *slot) {
    CHECK(mprotect(code, PAGE, RX | PROT_WRITE) == 0);
    code[SITE + 1] = 7;
}
CASE(rewritten) {
    begin();
    CHECK(call(CALL, rewrite) == 7);
    CHECK(call(CALL, nothing) == 7);
    CHECK(call(DIRECT, nothing) == 101);
}

static void move(long *slot) {
    byte *other = mmap(NULL, LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mremap(code, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, other) == other);
    code = other;
}
CASE(moved) {
    begin();
    CHECK(faults(CALL, move) == SITE);
    CHECK(call(CALL, nothing) == 1);
}

static void *in_a_thread(void *run) {
    ((helper *)run)(NULL);
    return NULL;
}
static void thread(helper *run) {
    pthread_t other;
    CHECK(pthread_create(&other, NULL, in_a_thread, run) == 0);
    CHECK(pthread_join(other, NULL) == 0);
}
static void replace_in_thread(long *slot) {
    thread(replace);
}
static void take_away_in_thread(long *slot) {
    thread(take_away);
}
CASE(by_another_thread) {
    begin();
    CHECK(call(CALL, replace_in_thread) == 2);
    CHECK(faults(CALL, take_away_in_thread) == SITE);
}

/* The return address is another site's, or none. */
static void redirect(long *slot) {
    CHECK(*slot == (long)code + SITE);
    *slot = (long)code + DIRECT_SITE;
}
static void to_nowhere(long *slot) {
    *slot = 0;
}
CASE(redirected) {
    begin();
    CHECK(call(CALL, redirect) == 101);
    CHECK(call(CALL, nothing) == 1);
    CHECK(faults(CALL, to_nowhere) == -(long)code);
}

/* A child returns through frames of its parent's. */
static void split(long *slot) {
    pid_t child = fork();
    if (child == 0) {
        map(4, code);
        run_both(4);
        return;
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 4);
}
CASE(forked) {
    begin();
    pid_t self = getpid();
    int got = call(CALL, split);
    if (getpid() != self)
        _exit(got);
    CHECK(got == 1);
}

static void leave(long *slot) {
    longjmp(env, 1);
}
CASE(left_by_longjmp) {
    begin();
    for (int i = 0; i < 1000; i++) {
        if (setjmp(env) == 0)
            call(i % 2 ? CALL : DIRECT, leave);
        CHECK(call(CALL, nothing) == 1);
    }
}

CASE(stack) {
    begin();
    deep *down = (deep *)(code + DEEP);
    for (int i = 1; i <= 100000; i *= 10)
        CHECK(down(i) == i + 1);
}

/* Stack memory that goes away with what calls left for it. */
static void *on_a_stack(void *stack) {
    for (int i = 0; i < 100; i++) {
        CHECK(call(CALL, nothing) == 1);
        CHECK(((deep *)(code + DEEP))(1000) == 1001);
        CHECK(madvise(stack, 256 * PAGE, MADV_DONTNEED) == 0);
    }
    return NULL;
}
CASE(stacks) {
    begin();
    for (int round = 0; round < 5; round++) {
        pthread_t threads[4];
        byte *stacks[4];
        for (int i = 0; i < 4; i++) {
            pthread_attr_t attr;
            pthread_attr_init(&attr);
            stacks[i] = mmap(NULL, 512 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            CHECK(pthread_attr_setstack(&attr, stacks[i], 512 * PAGE) == 0);
            CHECK(pthread_create(&threads[i], &attr, on_a_stack, stacks[i]) == 0);
        }
        for (int i = 0; i < 4; i++) {
            CHECK(pthread_join(threads[i], NULL) == 0);
            CHECK(munmap(stacks[i], 512 * PAGE) == 0);
        }
    }
}

static atomic_int ticks;
static void tick(int signal) {
    ticks++;
    if (call(CALL, nothing) != 1)
        _exit(1);
}
CASE(interrupted) {
    begin();
    signal(SIGALRM, tick);
    struct itimerval every = {{0, 200}, {0, 200}};
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
    while (ticks < 300)
        if (call(DIRECT, nothing) != 101 || ((deep *)(code + DEEP))(50) != 51)
            _exit(1);
}

/* One thread replaces the code while others call it: each return goes to some code that was there. */
static atomic_int stop;
static void *keep_calling(void *unused) {
    while (!stop) {
        int got = call(CALL, nothing);
        if (got != 1 && got != 2)
            _exit(1);
    }
    return NULL;
}
CASE(replaced_meanwhile) {
    begin();
    int fds[] = {file(1), file(2)};
    for (int i = 0; i < 2; i++) {
        CHECK(mmap(code, LENGTH, RX, MAP_PRIVATE | MAP_FIXED, fds[i], 0) == code);
        run_both(i + 1);
    }
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, keep_calling, NULL) == 0);
    for (int i = 0; i < 100; i++)
        CHECK(mmap(code, LENGTH, RX, MAP_PRIVATE | MAP_FIXED, fds[i % 2], 0) == code);
    stop = 1;
    for (int i = 0; i < 3; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}
