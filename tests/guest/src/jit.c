/* Code that changes: a small JIT compiler of our own, and each way in which memory that runs can change. After each
 * change the next call has to see the new code, as on the CPU.
 */
#include "guest.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)
#define RX (PROT_READ | PROT_EXEC)
#define RWX (RW | PROT_EXEC)

typedef unsigned char byte;
typedef int (*function)(void);

/* mov $number,%eax ; ret */
static byte *put(byte *to, int number) {
    *to = 0xb8;
    memcpy(to + 1, &number, 4);
    to[5] = 0xc3;
    return to + 6;
}

static int call(void *at) {
    return ((function)at)();
}

/* jmp or call (op e9, e8) to */
static byte *put_branch(byte *at, byte op, byte *to) {
    int rel = to - (at + 5);
    *at = op;
    memcpy(at + 1, &rel, 4);
    return at + 5;
}

static byte *map_anonymous(size_t len, int prot, int kind) {
    byte *p = mmap(NULL, len, prot, kind | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

static byte *map_file(int fd, size_t len, int prot) {
    byte *p = mmap(NULL, len, prot, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

CASE(rwx) {
    byte *p = map_anonymous(4 * PAGE, RWX, MAP_PRIVATE);
    for (int i = 0; i < 2000; i++) {
        put(p + 64 * (i % 100), i);
        CHECK(call(p + 64 * (i % 100)) == i);
    }
    for (int i = 0; i < 100; i++)
        CHECK(call(p + 64 * i) == 1900 + i);
}

/* Pages of one mapping call each other while one of them changes. */
CASE(links) {
    byte *p = map_anonymous(3 * PAGE, RWX, MAP_PRIVATE);
    put(p, 0);
    *put_branch(p + PAGE, 0xe8, p) = 0xc3;
    put_branch(p + 2 * PAGE, 0xe9, p + PAGE);
    for (int i = 1; i < 500; i++) {
        CHECK(call(p + 2 * PAGE) == i - 1);
        put(p, i);
        CHECK(call(p + PAGE) == i && call(p + 2 * PAGE) == i);
    }
    put_branch(p + 2 * PAGE, 0xe9, p);
    put(p, -7);
    CHECK(call(p + 2 * PAGE) == -7);
}

/* The same with code that uses r11, which translated code treats in its own way. */
CASE(links_r11) {
    byte *p = map_anonymous(2 * PAGE, RWX, MAP_PRIVATE);
    static const byte head[] = {0x41, 0xbb, 40, 0, 0, 0}; /* mov $40,%r11d */
    static const byte tail[] = {0x44, 0x89, 0xd8, 0xc3};  /* mov %r11d,%eax ; ret */
    for (int i = 0; i < 300; i++) {
        const byte add[] = {0x41, 0x83, 0xc3, i & 63}; /* add $i,%r11d */
        memcpy(p + PAGE, add, sizeof add);
        memcpy(p + PAGE + sizeof add, tail, sizeof tail);
        if (i == 0) {
            memcpy(p, head, sizeof head);
            put_branch(p + sizeof head, 0xe9, p + PAGE);
        }
        CHECK(call(p) == 40 + (i & 63) && call(p) == 40 + (i & 63));
    }
}

CASE(flips) {
    byte *p = map_anonymous(2 * PAGE, RW, MAP_PRIVATE);
    for (int i = 0; i < 300; i++) {
        CHECK(mprotect(p, 2 * PAGE, RW) == 0);
        put(p + 16 * (i % 256), i);
        CHECK(mprotect(p, 2 * PAGE, RX) == 0);
        CHECK(call(p + 16 * (i % 256)) == i);
        CHECK(call(p) == (i < 256 ? 0 : 256));
    }
}

/* Not executable in between: a call must not find the code of before. */
static sigjmp_buf back;
static void on_fault(int sig) {
    siglongjmp(back, sig);
}
static int guarded_call(void *at) {
    int sig = sigsetjmp(back, 1);
    return sig ? -sig : call(at);
}
static void catch_faults(void) {
    struct sigaction a = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &a, NULL);
    sigaction(SIGBUS, &a, NULL);
}
CASE(not_executable) {
    catch_faults();
    byte *p = map_anonymous(2 * PAGE, RWX, MAP_PRIVATE);
    put(p, 5);
    put_branch(p + PAGE, 0xe9, p);
    for (int i = 0; i < 5; i++) {
        CHECK(guarded_call(p + PAGE) == 5);
        CHECK(mprotect(p, 2 * PAGE, RW) == 0);
        CHECK(guarded_call(p) == -SIGSEGV && guarded_call(p + PAGE) == -SIGSEGV);
        p[100] = i;
        CHECK(mprotect(p, 2 * PAGE, RX) == 0);
        CHECK(guarded_call(p) == 5);
        CHECK(mprotect(p, PAGE, PROT_NONE) == 0);
        CHECK(guarded_call(p + PAGE) == -SIGSEGV);
        CHECK(mprotect(p, PAGE, RWX) == 0);
    }
    CHECK(munmap(p, PAGE) == 0);
    CHECK(guarded_call(p + PAGE) == -SIGSEGV);
    CHECK(mmap(p, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
    put(p, 6);
    CHECK(guarded_call(p + PAGE) == 6);
}

static int memory_file(size_t len) {
    int fd = memfd_create("code", 0);
    CHECK(fd >= 0 && ftruncate(fd, len) == 0);
    return fd;
}

/* One object mapped twice, written here and executed there. */
CASE(dual) {
    int fd = memory_file(2 * PAGE);
    byte *w = map_file(fd, 2 * PAGE, RW), *x = map_file(fd, 2 * PAGE, RX);
    for (int i = 0; i < 1000; i++) {
        put(w + 32 * (i % 200), i);
        CHECK(call(x + 32 * (i % 200)) == i);
    }
    /* and through a mapping made later */
    byte *late = map_file(fd, PAGE, RW);
    put(late, 77);
    CHECK(call(x) == 77);
    CHECK(munmap(w, 2 * PAGE) == 0);
    put(late, 78);
    CHECK(call(x) == 78);
    CHECK(mprotect(late, PAGE, PROT_READ) == 0 && call(x) == 78);
    CHECK(mprotect(late, PAGE, RW) == 0);
    put(late, 79);
    CHECK(call(x) == 79);
}

CASE(dual_anonymous) {
    byte *x = map_anonymous(PAGE, RWX, MAP_SHARED);
    byte *w = mremap(x, 0, PAGE, MREMAP_MAYMOVE); /* a second mapping of the same */
    if (w == MAP_FAILED)
        w = x;
    for (int i = 0; i < 200; i++) {
        put(w, i);
        CHECK(call(x) == i);
    }
}

/* The file changes by system calls. */
CASE(file_calls) {
    catch_faults();
    int fd = memory_file(2 * PAGE);
    byte code[8];
    byte *x = map_file(fd, 2 * PAGE, RX);
    for (int i = 0; i < 100; i++) {
        put(code, i);
        if (i % 3 == 0) {
            CHECK(pwrite(fd, code, 6, 16) == 6);
        } else if (i % 3 == 1) {
            CHECK(lseek(fd, 16, SEEK_SET) == 16 && write(fd, code, 6) == 6);
        } else {
            struct iovec { void *at; size_t len; } v[2] = {{code, 2}, {code + 2, 4}};
            CHECK(syscall(SYS_pwritev, fd, v, 2, 16, 0) == 6);
        }
        CHECK(guarded_call(x + 16) == i);
    }
    put(code, 9);
    CHECK(pwrite(fd, code, 6, PAGE) == 6 && guarded_call(x + PAGE) == 9);
    CHECK(ftruncate(fd, PAGE) == 0);
    CHECK(guarded_call(x + PAGE) == -SIGBUS);
    CHECK(ftruncate(fd, 2 * PAGE) == 0);
    put(code, 10);
    CHECK(pwrite(fd, code, 6, PAGE) == 6 && guarded_call(x + PAGE) == 10);
}

/* read(2) into memory that runs. */
CASE(copied_in) {
    byte *p = map_anonymous(PAGE, RWX, MAP_PRIVATE), code[8];
    int ends[2];
    CHECK(pipe(ends) == 0);
    for (int i = 0; i < 100; i++) {
        put(code, i);
        CHECK(write(ends[1], code, 6) == 6 && read(ends[0], p + 8, 6) == 6);
        CHECK(call(p + 8) == i);
    }
}

/* Another process writes what this one runs. */
CASE(other_process) {
    int fd = memory_file(PAGE), go[2], done[2];
    byte *x = map_file(fd, PAGE, RX);
    CHECK(pipe(go) == 0 && pipe(done) == 0);
    byte *before = map_file(fd, PAGE, RW);
    put(before, 1);
    CHECK(call(x) == 1);
    pid_t child = fork();
    if (child == 0) {
        byte *w = map_file(fd, PAGE, RW);
        char c;
        for (int i = 0; i < 200 && read(go[0], &c, 1) == 1; i++) {
            put(i & 1 ? w : before, i);
            if (call(x) != i || write(done[1], &c, 1) != 1)
                _exit(1);
        }
        _exit(0);
    }
    for (int i = 0; i < 200; i++) {
        char c = 'x';
        CHECK(write(go[1], &c, 1) == 1 && read(done[0], &c, 1) == 1);
        CHECK(call(x) == i);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* An instruction that lies in two mappings. */
static volatile long fault_at;
static void on_fault_at(int sig, siginfo_t *info, void *context) {
    fault_at = (long)info->si_addr;
    siglongjmp(back, sig);
}
CASE(in_two_mappings) {
    struct sigaction a = {.sa_sigaction = on_fault_at, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &a, NULL);
    byte *p = map_anonymous(3 * PAGE, RWX, MAP_PRIVATE), *at = p + PAGE - 3;
    CHECK(mprotect(p, PAGE, RX) == 0 && mprotect(p, PAGE, RWX) == 0);
    for (int i = 0; i < 50; i++) {
        put(at, i << 16 | 9);
        CHECK(guarded_call(at) == (i << 16 | 9) && guarded_call(at) == (i << 16 | 9));
        CHECK(mprotect(p + PAGE, PAGE, i & 1 ? RW : PROT_NONE) == 0);
        CHECK(guarded_call(at) == -SIGSEGV && fault_at == (long)p + PAGE);
        CHECK(mprotect(p + PAGE, PAGE, RW) == 0);
        p[PAGE] = 0x55; /* a byte of the number */
        CHECK(mprotect(p + PAGE, PAGE, RX) == 0);
        CHECK(guarded_call(at) == (0x55 << 16 | 9));
        CHECK(mprotect(p + PAGE, PAGE, RWX) == 0);
    }
    CHECK(munmap(p + PAGE, PAGE) == 0 && guarded_call(at) == -SIGSEGV && fault_at == (long)p + PAGE);
}

/* Code that rewrites itself: each round changes the number that the next instruction loads. */
CASE(itself) {
    byte *p = map_anonymous(PAGE, RWX, MAP_PRIVATE), *at = p;
    static const byte start[] = {0x31, 0xc9, 0x31, 0xc0}; /* xor %ecx,%ecx ; xor %eax,%eax */
    memcpy(at, start, sizeof start);
    at += sizeof start;
    byte *loop = at;
    static const byte store[] = {0xff, 0xc1, 0x89, 0x0d}; /* inc %ecx ; mov %ecx,number(%rip) */
    memcpy(at, store, sizeof store);
    byte *rel = at + sizeof store;
    at = rel + 4;
    static const byte next[] = {0xeb, 0}; /* jmp over: the new code counts from here at the latest */
    memcpy(at, next, sizeof next);
    at += sizeof next;
    *at = 0xba; /* mov $number,%edx */
    int distance = at + 1 - (rel + 4);
    memcpy(rel, &distance, 4);
    memset(at + 1, 0, 4);
    at += 5;
    static const byte rest[] = {0x01, 0xd0, 0x81, 0xf9, 0xc8, 0, 0, 0, 0x75}; /* add %edx,%eax ; cmp $200,%ecx ; jne */
    memcpy(at, rest, sizeof rest);
    at += sizeof rest;
    *at = loop - (at + 1);
    at[1] = 0xc3;
    CHECK(call(p) == 200 * 201 / 2);
    CHECK(call(p) == 200 * 201 / 2);
}

/* A string operation over the page that it stands on. */
CASE(itself_by_string) {
    byte *p = map_anonymous(3 * PAGE, RWX, MAP_PRIVATE), *at = p + 2 * PAGE - 32;
    static const byte code[] = {
        0xf3, 0xaa,                   /* rep stos %al,(%rdi) */
        0xb8, 3, 0, 0, 0, 0xc3,       /* mov $3,%eax ; ret */
    };
    memcpy(at, code, sizeof code);
    for (int i = 0; i < 20; i++) {
        memset(p, 1, PAGE);
        memset(p + 2 * PAGE, 1, PAGE);
        int result;
        byte *to = p;
        long count = 2 * PAGE - 64;
        __asm__ volatile("call *%[f]" : "=a"(result), "+D"(to), "+c"(count) : [f] "r"(at), "a"(0x90) : "memory");
        CHECK(result == 3 && p[0] == 0x90 && p[2 * PAGE - 65] == 0x90 && p[2 * PAGE] == 1 && count == 0);
    }
}

/* Threads: one writes while another runs; after the flag the new code counts. */
static byte *shared_code, *shared_alias;
static atomic_int wanted, seen;
static int rounds;
static void *runner(void *unused) {
    for (int last = 0; last < rounds;) {
        int n = atomic_load(&wanted);
        int eax = 0, ebx, ecx = 0, edx;
        __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx)); /* serialises */
        int got = call(shared_code);
        CHECK(got >= n);
        if (got > last) {
            last = got;
            atomic_store(&seen, got);
        }
    }
    return NULL;
}
static void cross_thread(byte *x, byte *w, int n) {
    pthread_t t;
    shared_code = x;
    shared_alias = w;
    rounds = n;
    atomic_store(&wanted, 0);
    atomic_store(&seen, 0);
    put(w + 3, 0);
    CHECK(pthread_create(&t, NULL, runner, NULL) == 0);
    for (int i = 1; i <= n; i++) {
        /* one aligned store, so that the runner meets the old number or the new one */
        __atomic_store_n((int *)(w + 4), i, __ATOMIC_SEQ_CST);
        atomic_store(&wanted, i);
        while (atomic_load(&seen) < i)
            sched_yield();
    }
    CHECK(pthread_join(t, NULL) == 0);
}
CASE(threads_rwx) {
    byte *p = map_anonymous(PAGE, RWX, MAP_PRIVATE);
    memset(p, 0x90, 3);
    cross_thread(p, p, 100);
}
CASE(threads_dual) {
    int fd = memory_file(PAGE);
    byte *w = map_file(fd, PAGE, RW), *x = map_file(fd, PAGE, RX);
    memset(w, 0x90, 3);
    cross_thread(x, w, 100);
}

/* A thread that never leaves its loop: when the loop's page is changed, replaced or unmapped, it must notice. */
static void *spin(void *at) {
    return (void *)(long)call(at);
}
static void put_loop(byte *p) {
    p[0] = 0xeb; /* jmp self */
    p[1] = 0xfe;
}
static long end_loop(byte *p, void (*change)(byte *)) {
    pthread_t t;
    void *result = NULL;
    CHECK(pthread_create(&t, NULL, spin, p) == 0);
    usleep(20000);
    change(p);
    CHECK(pthread_join(t, &result) == 0);
    return (long)result;
}
static byte *alias;
static void by_writing(byte *p) {
    byte code[8];
    put(code, 11);
    memcpy(p + 2, code + 2, 4);
    __atomic_store_n((short *)p, *(short *)code, __ATOMIC_SEQ_CST);
}
static void by_alias(byte *p) {
    by_writing(alias);
}
static void by_protection(byte *p) {
    CHECK(mprotect(p, PAGE, RW) == 0);
    put(p, 12);
    CHECK(mprotect(p, PAGE, RX) == 0);
}
static void by_mapping(byte *p) {
    byte *fresh = map_anonymous(PAGE, RWX, MAP_PRIVATE);
    put(fresh, 13);
    CHECK(mremap(fresh, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p) == p);
}
CASE(endless_written) {
    byte *p = map_anonymous(PAGE, RWX, MAP_PRIVATE);
    put_loop(p);
    memset(p + 2, 0, 4);
    CHECK(end_loop(p, by_writing) == 11);
}
CASE(endless_alias) {
    int fd = memory_file(PAGE);
    alias = map_file(fd, PAGE, RW);
    put_loop(alias);
    CHECK(end_loop(map_file(fd, PAGE, RX), by_alias) == 11);
}
CASE(endless_replaced) {
    byte *p = map_anonymous(PAGE, RWX, MAP_PRIVATE);
    put_loop(p);
    CHECK(end_loop(p, by_mapping) == 13);
}
static void survive(int sig, siginfo_t *info, void *context) {
    /* The thread's page lost its right or its mapping: it waits until it is executable again. */
    sched_yield();
}
CASE(endless_protected) {
    struct sigaction a = {.sa_sigaction = survive, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &a, NULL);
    byte *p = map_anonymous(PAGE, RWX, MAP_PRIVATE);
    put_loop(p);
    CHECK(mprotect(p, PAGE, RX) == 0);
    CHECK(end_loop(p, by_protection) == 12);
}
static atomic_int unmapped_faults;
static sigjmp_buf thread_back;
static void leave_loop(int sig) {
    atomic_fetch_add(&unmapped_faults, 1);
    siglongjmp(thread_back, 1);
}
static void *spin_guarded(void *at) {
    return sigsetjmp(thread_back, 1) ? (void *)99 : (void *)(long)call(at);
}
CASE(endless_unmapped) {
    struct sigaction a = {.sa_handler = leave_loop};
    sigaction(SIGSEGV, &a, NULL);
    byte *p = map_anonymous(2 * PAGE, RWX, MAP_PRIVATE);
    /* two pages that jump to each other: linked to each other */
    put_branch(p, 0xe9, p + PAGE);
    put_branch(p + PAGE, 0xe9, p);
    pthread_t t;
    void *result = NULL;
    CHECK(pthread_create(&t, NULL, spin_guarded, p) == 0);
    usleep(20000);
    CHECK(munmap(p + PAGE, PAGE) == 0);
    CHECK(pthread_join(t, &result) == 0 && result == (void *)99 && unmapped_faults == 1);
    CHECK(call(put(p, 4) - 6) == 4);
}

/* fork out of code of one's own: the child goes on in its copy, and changes only that. */
CASE(fork_inside) {
    static const byte code[] = {0xb8, SYS_fork, 0, 0, 0, 0x0f, 0x05, 0xc3}; /* mov $fork,%eax ; syscall ; ret */
    byte *p = map_anonymous(PAGE, RWX, MAP_PRIVATE);
    memcpy(p, code, sizeof code);
    put(p + 64, 1);
    CHECK(call(p + 64) == 1);
    pid_t child = call(p);
    if (child == 0) {
        put(p + 64, 2);
        _exit(call(p + 64));
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 2);
    CHECK(call(p + 64) == 1);
}

/* Not cases: `program churn N` replaces N functions by others, `program hoard N` keeps N pages of functions. Both make
 * more translations than a process may keep; the test looks at the figures. */
static void churn(int rounds) {
    byte *p = map_anonymous(64 * PAGE, RWX, MAP_PRIVATE), *helper = p + 63 * PAGE;
    put(helper, 7);
    for (int i = 0; i < rounds; i++) {
        byte *at = p + PAGE * (i % 60), *end = at;
        for (int k = 0; k < 8; k++)
            end = put_branch(end, 0xe8, helper);
        put(end, i);
        if (call(at) != i)
            exit(1);
    }
}
static void hoard(int pages) {
    byte *p = map_anonymous((size_t)pages * PAGE, RWX, MAP_PRIVATE);
    for (int i = 0; i < 4 * pages; i++) {
        byte *at = p + PAGE / 4 * (size_t)i, *end = at;
        while (end < at + PAGE / 4 - 16) {
            memcpy(end, "\x48\x8b\x0c\x24", 4); /* mov (%rsp),%rcx */
            end += 4;
        }
        put(end, i);
        if (call(at) != i || call(p) != 0 || call(p + PAGE / 4 * (size_t)(i / 2)) != i / 2)
            exit(1);
    }
}
__attribute__((constructor)) static void run_if_asked(int argc, char **argv) {
    if (argc != 3)
        return;
    if (!strcmp(argv[1], "churn"))
        churn(atoi(argv[2]));
    else if (!strcmp(argv[1], "hoard"))
        hoard(atoi(argv[2]));
    else
        return;
    puts("done");
    exit(0);
}
