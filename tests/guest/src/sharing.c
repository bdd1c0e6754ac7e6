/* Memory that processes share, whatever it is made of: every kind of access, from several processes at once. */
#include "guest.h"
#include <immintrin.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/uio.h>

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)

static char *shared(size_t pages) {
    char *p = mmap(NULL, pages * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

static int memory_file(size_t pages) {
    int fd = memfd_create("shared", 0);
    CHECK(fd >= 0 && ftruncate(fd, pages * PAGE) == 0);
    return fd;
}

static char *map(int fd, size_t pages, int prot) {
    char *p = mmap(NULL, pages * PAGE, prot, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

/* Runs `work(n)` in `count` children at once, which begin together. */
static void together(int count, void (*work)(int)) {
    volatile int *gate = (int *)shared(1);
    for (int n = 0; n < count; n++)
        if (fork_clean() == 0) {
            __atomic_fetch_add(gate, 1, __ATOMIC_SEQ_CST);
            while (*gate < count)
                sched_yield();
            work(n);
            fflush(stdout);
            _exit(guest_failures != 0);
        }
    for (int n = 0, status; n < count; n++)
        CHECK(wait(&status) > 0 && status == 0);
    munmap((void *)gate, PAGE);
}

static char *area;

static void locked_work(int n) {
    (void)n;
    long *w = (long *)area;
    for (int i = 0; i < 5000; i++) {
        __atomic_fetch_add(&w[0], 1, __ATOMIC_SEQ_CST);
        __asm__ volatile("lock incl %0" : "+m"(*(int *)&w[1])::"cc");
        __asm__ volatile("lock decw %0" : "+m"(*(short *)&w[2])::"cc");
        long seen = __atomic_load_n(&w[3], __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&w[3], &seen, seen + 3, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
            ;
        long got = __atomic_exchange_n(&w[4], 0, __ATOMIC_SEQ_CST);
        __atomic_fetch_add(&w[4], got + 1, __ATOMIC_SEQ_CST);
        __asm__ volatile("lock btsl %1, %0; jc 1f; lock addl $1, 4%0; 1:" : "+m"(*(int *)&w[5]) : "r"(i & 31) : "cc");
        unsigned long lo = 0, hi = 0;
        char carry;
        do
            __asm__ volatile("lock cmpxchg16b %0"
                             : "+m"(*(__int128 *)&w[8]), "+a"(lo), "+d"(hi), "=@ccz"(carry)
                             : "b"(lo + 1), "c"(hi + 2));
        while (!carry);
    }
}

CASE(locked_instructions) {
    area = shared(1);
    together(2, locked_work);
    long *w = (long *)area;
    printf("%ld %d %d %ld %ld %x %d %ld %ld\n", w[0], (int)w[1], (short)w[2], w[3], w[4], (int)w[5], (int)(w[5] >> 32), w[8], w[9]);
}

/* Words that lie in two pages, which change hands independently. */
__attribute__((target("avx2"))) static void straddling_work(int n) {
    for (int i = 0; i < 40; i++) {
        __asm__ volatile("lock addq $1, %0" : "+m"(*(long *)(area + PAGE - 4))::"cc");
        __asm__ volatile("lock addl $0x10001, %0" : "+m"(*(int *)(area + 2 * PAGE - 1))::"cc");
        __m256i v = _mm256_set1_epi8((char)(i + n));
        _mm256_storeu_si256((__m256i *)(area + (3 + n) * PAGE - 13 - n), v);
        __m256i r = _mm256_loadu_si256((__m256i *)(area + (3 + n) * PAGE - 13 - n));
        CHECK(_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, r)) == -1);
    }
}

CASE(accesses_in_two_pages) {
    area = shared(6);
    together(2, straddling_work);
    printf("%ld %#x\n", *(long *)(area + PAGE - 4), *(int *)(area + 2 * PAGE - 1));
}

/* Both copy between the same two pages, under a lock that is in a third. */
static void copying_work(int n) {
    int *lock = (int *)(area + 2 * PAGE);
    for (int i = 0; i < 200; i++) {
        while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE))
            sched_yield();
        char *from = area + (i + n) % 2 * PAGE, *to = area + (i + n + 1) % 2 * PAGE;
        ++*(int *)from;
        void *si = from, *di = to;
        long count = PAGE;
        __asm__ volatile("rep movsb" : "+S"(si), "+D"(di), "+c"(count)::"memory");
        CHECK(memcmp(from, to, PAGE) == 0);
        __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
    }
}

CASE(copies_between_shared_pages) {
    area = shared(3);
    for (int i = 4; i < PAGE; i++)
        area[i] = i;
    together(2, copying_work);
    printf("%d %d\n", *(int *)area, memcmp(area, area + PAGE, PAGE));
}

/* Stores become visible in their order, and a fence orders loads behind stores (store buffering). */
static void ordering_work(int n) {
    volatile int *w = (int *)area;
    for (int i = 1; i <= 40; i++) {
        w[n * 1024] = i;
        _mm_mfence();
        w[(2 + n) * 1024 + 1] = w[(1 - n) * 1024];
        __atomic_fetch_add((int *)w + 4096, 1, __ATOMIC_SEQ_CST);
        while (w[4096] < 2 * (2 * i - 1))
            sched_yield();
        if (n == 0)
            CHECK(w[2 * 1024 + 1] == i || w[3 * 1024 + 1] == i);
        __atomic_fetch_add((int *)w + 4096, 1, __ATOMIC_SEQ_CST);
        while (w[4096] < 4 * i)
            sched_yield();
    }
}

CASE(order_of_accesses) {
    area = shared(5);
    together(2, ordering_work);
    puts("done");
}

/* A value and its complement, written one behind the other: readers under a sequence counter see pairs. */
static void sequence_work(int n) {
    volatile unsigned long *w = (unsigned long *)area;
    if (n == 0) {
        for (unsigned long i = 1; i <= 2000; i++) {
            w[0]++;
            w[600] = i;
            w[1024 + 7] = ~i;
            w[0]++;
        }
        w[1] = 1;
        return;
    }
    while (!w[1]) {
        unsigned long before = w[0], a = w[600], b = w[1024 + 7];
        if (before % 2 == 0 && w[0] == before)
            CHECK(before == 0 || a == ~b);
    }
}

CASE(readers_and_a_writer) {
    area = shared(3);
    together(3, sequence_work);
    puts("done");
}

struct locks {
    pthread_mutex_t mutex, robust;
    pthread_cond_t cond;
    pthread_barrier_t barrier;
    pthread_rwlock_t rw;
    sem_t sem;
    long count, turn, written;
};

static void locks_work(int n) {
    struct locks *l = (struct locks *)area;
    for (int i = 0; i < 300; i++) {
        pthread_mutex_lock(&l->mutex);
        l->count++;
        pthread_mutex_unlock(&l->mutex);
        pthread_rwlock_wrlock(&l->rw);
        l->written++;
        pthread_rwlock_unlock(&l->rw);
        pthread_rwlock_rdlock(&l->rw);
        pthread_rwlock_unlock(&l->rw);
    }
    pthread_barrier_wait(&l->barrier);
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&l->mutex);
        while (l->turn % 3 != n)
            pthread_cond_wait(&l->cond, &l->mutex);
        l->turn++;
        pthread_cond_broadcast(&l->cond);
        pthread_mutex_unlock(&l->mutex);
    }
    sem_post(&l->sem);
}

CASE(locks_of_processes) {
    struct locks *l = (struct locks *)(area = shared(2));
    pthread_mutexattr_t m;
    pthread_mutexattr_init(&m);
    pthread_mutexattr_setpshared(&m, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&l->mutex, &m);
    pthread_mutexattr_setrobust(&m, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&l->robust, &m);
    pthread_condattr_t c;
    pthread_condattr_init(&c);
    pthread_condattr_setpshared(&c, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&l->cond, &c);
    pthread_barrierattr_t b;
    pthread_barrierattr_init(&b);
    pthread_barrierattr_setpshared(&b, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&l->barrier, &b, 3);
    pthread_rwlockattr_t r;
    pthread_rwlockattr_init(&r);
    pthread_rwlockattr_setpshared(&r, PTHREAD_PROCESS_SHARED);
    pthread_rwlock_init(&l->rw, &r);
    sem_init(&l->sem, 1, 0);
    together(3, locks_work);
    int posts = 0;
    sem_getvalue(&l->sem, &posts);
    printf("%ld %ld %ld %d\n", l->count, l->written, l->turn, posts);
    pid_t child = fork_clean();
    if (child == 0) {
        pthread_mutex_lock(&l->robust);
        _exit(0);
    }
    report("owner", child);
    CHECK(pthread_mutex_lock(&l->robust) == EOWNERDEAD && pthread_mutex_consistent(&l->robust) == 0);
    CHECK(pthread_mutex_unlock(&l->robust) == 0);
}

/* One page at two places of one process. */
CASE(two_places_in_one_process) {
    int fd = memory_file(2);
    char *p = map(fd, 2, RW), *q = map(fd, 2, RW), *r = map(fd, 2, PROT_READ);
    for (int i = 0; i < 200; i++) {
        ++*(int *)p;
        ++*(int *)q;
        __atomic_fetch_add((int *)(i % 2 ? p : q), 1, __ATOMIC_SEQ_CST);
        CHECK(*(int *)r == 3 * (i + 1));
    }
    strcpy(p + 100, "copied from one place to the other");
    memcpy(q + 200, p + 100, 40);
    memcpy(p + 300, r + 200, 40);
    puts(r + 300);
    for (int size = 1; size <= 8; size *= 2) {
        void *si = p + 100, *di = q + 1000;
        long count = 32 / size;
        if (size == 1)
            __asm__ volatile("rep movsb" : "+S"(si), "+D"(di), "+c"(count)::"memory");
        else if (size == 2)
            __asm__ volatile("rep movsw" : "+S"(si), "+D"(di), "+c"(count)::"memory");
        else if (size == 4)
            __asm__ volatile("rep movsl" : "+S"(si), "+D"(di), "+c"(count)::"memory");
        else
            __asm__ volatile("rep movsq" : "+S"(si), "+D"(di), "+c"(count)::"memory");
        CHECK(si == p + 132 && di == q + 1032 && count == 0);
        printf("%d %.32s\n", size, p + 1000);
        memset(p + 1000, 0, 40);
    }
    /* Overlapping in what they show, not in their addresses: whether a byte is copied before the next is read is the
     * CPU's, whose fast string operations compare addresses. */
    void *si = p + 2000, *di = q + 2001;
    long count = 20;
    p[2000] = 'x';
    __asm__ volatile("rep movsb" : "+S"(si), "+D"(di), "+c"(count)::"memory");
    CHECK(r[2000] == 'x' && r[2001] == 'x' && (r[2020] == 'x' || r[2020] == 0));
    si = p + 2100, di = q + 2140, count = 20;
    memset(p + 2100, '-', 20);
    p[2120] = 0;
    __asm__ volatile("std; rep movsb; cld" : "+S"(si), "+D"(di), "+c"(count)::"memory", "cc");
    printf("%.20s|\n", r + 2121);
    strcpy(p + 3000, "equal"), strcpy(q + 3100, "equally");
    si = p + 3000, di = q + 3100, count = 10;
    __asm__ volatile("repe cmpsb" : "+S"(si), "+D"(di), "+c"(count)::"memory", "cc");
    printf("%ld\n", count);
}

/* The stack is one place, the operand the other. */
CASE(stack_in_shared_memory) {
    int fd = memory_file(2);
    char *p = map(fd, 2, RW), *q = map(fd, 2, RW);
    *(long *)(q + 64) = 0x1234567890;
    long got = 0, old;
    __asm__ volatile("mov %%rsp, %0; lea 2048(%2), %%rsp; pushq 64(%3); popq 72(%3); pushw 64(%3); mov (%%rsp), %1; mov %0, %%rsp"
                     : "=&r"(old), "=&r"(got)
                     : "r"(p), "r"(q)
                     : "memory");
    printf("%lx %lx %lx\n", *(long *)(p + 72), got & 0xffff, *(long *)(p + 2040) >> 48);
}

/* A ring whose end is its beginning, as ring buffers are mapped: also accesses across the seam. */
CASE(mirrored_ring) {
    for (size_t pages = 1; pages <= 2; pages++) {
        int fd = memory_file(pages);
        size_t size = pages * PAGE;
        char *p = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(mmap(p, size, RW, MAP_SHARED | MAP_FIXED, fd, 0) == p);
        CHECK(mmap(p + size, size, RW, MAP_SHARED | MAP_FIXED, fd, 0) == p + size);
        memcpy(p + size - 7, "across the seam", 16);
        puts(p + size - 7);
        printf("%.7s|%s\n", p + size - 7, p);
        *(volatile long *)(p + size - 3) = 0x4847464544434241;
        *(volatile int *)(p + size - 11) = 0x64636261;
        *(volatile short *)(p + size - 1) += 0x101;
        CHECK(*(volatile long *)(p + size - 3) == 0x4847464545444241);
        printf("%.5s %.3s\n", p, p + size - 3);
        __m128i v = _mm_set1_epi8('v');
        _mm_storeu_si128((__m128i *)(p + size - 5), v);
        CHECK(_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_loadu_si128((__m128i *)(p + size - 5)))) == 0xffff);
        int ends[2];
        CHECK(pipe(ends) == 0 && write(ends[1], p, 2 * size) == (long)(2 * size));
        memset(p, 0, size);
        CHECK(read(ends[0], p, 2 * size) == (long)(2 * size));
        printf("%.11s\n", p);
        CHECK(memcmp(p, p + size, size) == 0);
        munmap(p, 2 * size);
        close(fd), close(ends[0]), close(ends[1]);
    }
}

/* Rights of one process are its own; what another does to the page is seen when it is looked at again. */
CASE(rights_are_each_mappings_own) {
    int fd = memory_file(4);
    volatile int *p = (int *)map(fd, 4, RW);
    volatile int *gate = (int *)shared(1);
    p[0] = 1, p[1024] = 2;
    pid_t child = fork_clean();
    if (child == 0) {
        volatile int *q = (int *)map(fd, 4, PROT_READ);
        CHECK(q[0] == 1 && q[1024] == 2);
        *gate = 1;
        while (*gate != 2)
            sched_yield();
        CHECK(q[0] == 10 && q[1024] == 20);
        CHECK(mprotect((void *)q, PAGE, RW) == 0);
        q[0] = 100;
        *gate = 3;
        while (*gate != 4)
            sched_yield();
        q[1024] = 1;
        _exit(0);
    }
    while (*gate != 1)
        sched_yield();
    p[0] = 10, p[1024] = 20;
    CHECK(mprotect((void *)p, 2 * PAGE, PROT_NONE) == 0);
    *gate = 2;
    while (*gate != 3)
        sched_yield();
    CHECK(mprotect((void *)p, 2 * PAGE, RW) == 0 && p[0] == 100 && p[1024] == 20);
    *gate = 4;
    report("writer to read-only", child);
    CHECK(p[1024] == 20);
}

/* What the last owner wrote is there for the next, however it ended. */
CASE(content_outlives_its_writer) {
    int id = shmget(IPC_PRIVATE, 3 * PAGE, IPC_CREAT | 0600);
    char name[32];
    snprintf(name, sizeof name, "/guest-%d", getpid());
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(id >= 0 && fd >= 0 && ftruncate(fd, PAGE) == 0);
    for (int i = 0; i < 4; i++) {
        pid_t child = fork_clean();
        if (child == 0) {
            int *p = shmat(id, NULL, 0);
            char *q = map(fd, 1, RW);
            p[0] += 1, p[2048] += 10;
            q[i] = 'a' + i;
            if (i == 1)
                kill(getpid(), SIGKILL);
            if (i == 2)
                execl("/bin/true", "true", NULL);
            _exit(0);
        }
        report("writer", child);
    }
    int *p = shmat(id, NULL, SHM_RDONLY);
    printf("%d %d %d\n", p[0], p[1024], p[2048]);
    char text[8] = "";
    CHECK(pread(fd, text, 4, 0) == 4 && shm_unlink(name) == 0 && shmctl(id, IPC_RMID, NULL) == 0);
    puts(text);
}

/* write(2), read(2) and truncation beside mappings of two processes. */
CASE(files_agree_with_mappings) {
    char path[] = "/tmp/sharing-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && ftruncate(fd, 2 * PAGE) == 0 && unlink(path) == 0);
    char *p = map(fd, 2, RW);
    volatile int *gate = (int *)shared(1);
    pid_t child = fork_clean();
    if (child == 0) {
        p[10] = 'c';
        *gate = 1;
        while (*gate != 2)
            sched_yield();
        CHECK(p[0] == 'w' && p[10] == 'c' && p[20] == 'p');
        p[30] = 'C';
        *gate = 3;
        while (*gate != 4)
            sched_yield();
        p[PAGE] = 1;
        _exit(0);
    }
    while (*gate != 1)
        sched_yield();
    p[20] = 'p';
    CHECK(pwrite(fd, "w", 1, 0) == 1);
    CHECK(p[0] == 'w' && p[10] == 'c' && p[20] == 'p');
    *gate = 2;
    while (*gate != 3)
        sched_yield();
    char text[40] = "";
    CHECK(pread(fd, text, 40, 0) == 40 && text[0] == 'w' && text[10] == 'c' && text[20] == 'p' && text[30] == 'C');
    p[PAGE - 1] = 'e', p[PAGE] = 'f';
    CHECK(ftruncate(fd, 25) == 0 && p[20] == 'p' && p[30] == 0 && p[PAGE - 1] == 0);
    *gate = 4;
    report("beyond the end", child);
    CHECK(ftruncate(fd, 2 * PAGE) == 0 && p[20] == 'p' && p[30] == 0 && p[PAGE] == 0);
}

/* The kernel's copies, into and out of shared memory of others. */
static void calls_work(int n) {
    struct iovec here = {area + n * 8, 8}, there = {area + PAGE + n * 8, 8};
    for (long i = 1; i <= 100; i++) {
        *(volatile long *)(area + n * 8) = i;
        CHECK(process_vm_writev(getpid(), &here, 1, &there, 1, 0) == 8);
        CHECK(*(volatile long *)(area + PAGE + n * 8) == i);
        int ends[2];
        CHECK(pipe(ends) == 0 && write(ends[1], area + PAGE + n * 8, 8) == 8);
        CHECK(read(ends[0], area + 2 * PAGE - 16 + n * 8, 8) == 8 && *(volatile long *)(area + 2 * PAGE - 16 + n * 8) == i);
        close(ends[0]), close(ends[1]);
    }
}

CASE(calls_on_shared_memory) {
    area = shared(3);
    together(3, calls_work);
    puts("done");
}

/* Code in shared memory: what another process writes is what runs next. */
CASE(code_that_another_process_writes) {
    int fd = memory_file(1);
    unsigned char *code = (void *)map(fd, 1, RW | PROT_EXEC);
    volatile int *gate = (int *)shared(1);
    memcpy(code, "\xb8\x01\x00\x00\x00\xc3", 6);
    int (*f)(void) = (void *)code;
    CHECK(f() == 1);
    pid_t child = fork_clean();
    if (child == 0) {
        for (int i = 2; i < 20; i++) {
            while (*gate != i - 2)
                sched_yield();
            CHECK(f() == i - 1);
            code[1] = i;
            *gate = i;
            while (*gate != 100 + i)
                sched_yield();
            *gate = i - 1;
        }
        _exit(guest_failures);
    }
    for (int i = 2; i < 20; i++) {
        while (*gate != i)
            sched_yield();
        CHECK(f() == i);
        *gate = 100 + i;
    }
    report("writer of code", child);
}

/* Many processes, one page each touches: all copies are given back. */
static void many_work(int n) {
    for (int i = 0; i < 50; i++)
        __atomic_fetch_add((int *)area + (i * 64 + n) % 1024, 1, __ATOMIC_SEQ_CST);
}

CASE(many_processes) {
    area = shared(1);
    together(12, many_work);
    long sum = 0;
    for (int i = 0; i < 1024; i++)
        sum += ((int *)area)[i];
    printf("%ld\n", sum);
}

/* Handed back and forth without a system call. */
static void turns_work(int n) {
    volatile int *turn = (int *)area;
    for (int i = 0; i < 50; i++) {
        while (*turn % 2 != n)
            _mm_pause();
        ++*turn;
    }
}

CASE(turns_by_spinning) {
    area = shared(1);
    together(2, turns_work);
    printf("%d\n", *(int *)area);
}
