/* futex(2) beyond wait and wake: locks with priority inheritance, requeueing to them, many at once, robust lists. */
#include "guest.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

static long futex(void *at, int op, uint32_t val, void *timeout, void *at2, uint32_t val3) {
    return syscall(SYS_futex, at, op, val, timeout, at2, val3);
}

static struct timespec in_ms(clockid_t clock, long ms) {
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += ms * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static atomic_uint sum, stop;

static void *adds(void *arg) {
    uintptr_t times = 0;
    for (; !stop; times++)
        sum++;
    return (void *)times;
}

static void *waits(void *word) {
    futex(word, FUTEX_WAIT, 0, NULL, NULL, 0);
    CHECK(!"a thread was woken whose word is no more");
    return NULL;
}
/* Who waits for a word that is no more takes nobody's wake-up: no other word is that one, wherever it lies. */
CASE(words_that_are_no_more) {
    enum { WORDS = 32, ROUNDS = 40 };
    uint32_t *words[WORDS];
    for (int i = 0; i < WORDS; i++) {
        pthread_t t;
        words[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        words[i][1] = i;
        pthread_create(&t, NULL, waits, words[i]);
    }
    for (int i = 0; i < WORDS; i++) {
        /* One is there if it can be moved to where it is. */
        while (futex(words[i], FUTEX_REQUEUE, 0, (void *)1, words[i], 0) == 0)
            sleep_ms(1);
        munmap(words[i], 4096);
    }
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        pid_t child = fork_clean();
        if (child == 0)
            _exit(futex(word, FUTEX_WAIT, 0, NULL, NULL, 0));
        while (futex(word, FUTEX_WAKE, 1, NULL, NULL, 0) == 0)
            sleep_ms(1);
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
}

/* The kernel's change of a word and those of other threads both count. */
CASE(wake_op) {
    enum { BY_KERNEL = 100000 };
    void *times;
    pthread_t t;
    pthread_create(&t, NULL, adds, NULL);
    for (int i = 0; i < BY_KERNEL; i++)
        futex(&i, FUTEX_WAKE_OP_PRIVATE, 0, NULL, &sum, FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0));
    stop = 1;
    pthread_join(t, &times);
    CHECK(sum == (uint32_t)(uintptr_t)times + BY_KERNEL);
    uint32_t *fresh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(futex(&sum, FUTEX_WAKE_OP, 0, NULL, fresh, FUTEX_OP(FUTEX_OP_SET, 7, FUTEX_OP_CMP_EQ, 0)) == 0 && *fresh == 7);
    mprotect(fresh, 4096, PROT_READ);
    CHECK_ERRNO(futex(&sum, FUTEX_WAKE_OP, 0, NULL, fresh, FUTEX_OP(FUTEX_OP_SET, 8, FUTEX_OP_CMP_EQ, 0)), EFAULT);
    CHECK_ERRNO(futex(&sum, FUTEX_WAKE_OP, 0, NULL, (char *)&sum + 1, FUTEX_OP(FUTEX_OP_SET, 8, 0, 0)), EINVAL);
}

static uint32_t pi_word, other_word;
static atomic_int stage;

static void *holds(void *arg) {
    CHECK(futex(&pi_word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
    stage = 1;
    while (stage < 2)
        sleep_ms(1);
    CHECK(futex(&pi_word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0);
    return arg;
}

CASE(locks) {
    uint32_t me = (uint32_t)syscall(SYS_gettid);
    CHECK(futex(&pi_word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0 && pi_word == me);
    CHECK_ERRNO(futex(&pi_word, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EDEADLK);
    CHECK_ERRNO(futex(&pi_word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), EDEADLK);
    CHECK(futex(&pi_word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0 && pi_word == 0);
    CHECK_ERRNO(futex(&pi_word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), EPERM);
    CHECK(futex(&pi_word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0) == 0 && pi_word == me);
    CHECK(futex(&pi_word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
    pi_word = FUTEX_OWNER_DIED;
    CHECK(futex(&pi_word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0 && pi_word == (me | FUTEX_OWNER_DIED));
    pi_word = 0x3ffffff0;
    CHECK_ERRNO(futex(&pi_word, FUTEX_LOCK_PI, 0, NULL, NULL, 0), ESRCH);
    CHECK_ERRNO(futex((void *)8, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EFAULT);
    CHECK_ERRNO(futex((char *)&pi_word + 2, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EINVAL);
    CHECK_ERRNO(futex(&pi_word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0), ENOSYS);
    pi_word = 0;
    pthread_t t;
    pthread_create(&t, NULL, holds, NULL);
    while (stage < 1)
        sleep_ms(1);
    CHECK_ERRNO(futex(&pi_word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), EAGAIN);
    struct timespec soon = in_ms(CLOCK_REALTIME, 20);
    CHECK_ERRNO(futex(&pi_word, FUTEX_LOCK_PI, 0, &soon, NULL, 0), ETIMEDOUT);
    soon = in_ms(CLOCK_MONOTONIC, 20);
    CHECK_ERRNO(futex(&pi_word, 13 /* FUTEX_LOCK_PI2 */, 0, &soon, NULL, 0), ETIMEDOUT);
    CHECK(pi_word & FUTEX_WAITERS);
    stage = 2;
    CHECK(futex(&pi_word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0 && (pi_word & FUTEX_TID_MASK) == me);
    pthread_join(t, NULL);
    CHECK(futex(&pi_word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0 && pi_word == 0);
}

static void *locks_both(void *arg) {
    CHECK(futex(&other_word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
    stage = 1;
    CHECK(futex(&pi_word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
    CHECK(futex(&pi_word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0);
    CHECK(futex(&other_word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0);
    return arg;
}

CASE(deadlocks_are_found) {
    pi_word = other_word = stage = 0;
    CHECK(futex(&pi_word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
    pthread_t t;
    pthread_create(&t, NULL, locks_both, NULL);
    while (stage < 1)
        sleep_ms(1);
    while (!(pi_word & FUTEX_WAITERS))
        sleep_ms(1);
    sleep_ms(10);
    CHECK_ERRNO(futex(&other_word, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EDEADLK);
    CHECK(futex(&pi_word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0);
    pthread_join(t, NULL);
}

static pthread_mutex_t inherit;
static volatile int spinning;
static int one_cpu(void) {
    cpu_set_t s;
    sched_getaffinity(0, sizeof s, &s);
    int first = 0;
    while (!CPU_ISSET(first, &s))
        first++;
    CPU_ZERO(&s);
    CPU_SET(first, &s);
    return sched_setaffinity(0, sizeof s, &s);
}
static void *low(void *arg) {
    pthread_mutex_lock(&inherit);
    stage = 1;
    while (stage < 2)
        ;
    for (volatile int i = 0; i < 3000000; i++)
        ;
    pthread_mutex_unlock(&inherit);
    return arg;
}
static void *middle(void *arg) {
    struct sched_param p = {5};
    CHECK(sched_setscheduler(0, SCHED_FIFO, &p) == 0);
    while (spinning)
        ;
    return arg;
}

/* A thread of no priority holds a lock: who waits for it lends its own, so that busy ones between them do no harm. */
CASE(inherited_priority) {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    CHECK(pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT) == 0);
    CHECK(pthread_mutex_init(&inherit, &a) == 0);
    CHECK(one_cpu() == 0);
    pthread_t t[5];
    spinning = 1;
    stage = 0;
    struct sched_param p = {9};
    if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &p) < 0) {
        puts("soon");
        return;
    }
    pthread_create(&t[0], NULL, low, NULL);
    while (stage < 1)
        sleep_ms(1);
    for (int i = 1; i < 5; i++)
        pthread_create(&t[i], NULL, middle, NULL);
    stage = 2;
    int64_t start = now_ms();
    CHECK(pthread_mutex_lock(&inherit) == 0);
    int64_t took = now_ms() - start;
    spinning = 0;
    CHECK(pthread_mutex_unlock(&inherit) == 0);
    for (int i = 0; i < 5; i++)
        pthread_join(t[i], NULL);
    printf("%s\n", took < 900 ? "soon" : "late");
}

static uint32_t condition;
static atomic_int got;
static void *waits_requeued(void *arg) {
    struct timespec soon = in_ms(CLOCK_MONOTONIC, 4000);
    CHECK(futex(&condition, FUTEX_WAIT_REQUEUE_PI, 0, &soon, &pi_word, FUTEX_BITSET_MATCH_ANY) == 0);
    CHECK((pi_word & FUTEX_TID_MASK) == (uint32_t)syscall(SYS_gettid));
    got++;
    CHECK(futex(&pi_word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0);
    return arg;
}

CASE(requeued_to_a_lock) {
    pi_word = condition = 0;
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, waits_requeued, NULL);
    until_threads_sleep(3);
    CHECK_ERRNO(futex(&condition, FUTEX_CMP_REQUEUE_PI, 1, (void *)9, &pi_word, 7), EAGAIN);
    CHECK_ERRNO(futex(&condition, FUTEX_CMP_REQUEUE_PI, 2, (void *)9, &pi_word, 0), EINVAL);
    CHECK_ERRNO(futex(&condition, FUTEX_CMP_REQUEUE_PI, 1, (void *)9, &other_word, 0), EINVAL);
    CHECK_ERRNO(futex(&condition, FUTEX_WAKE, 1, NULL, NULL, 0), EINVAL);
    CHECK(futex(&condition, FUTEX_CMP_REQUEUE_PI, 1, (void *)9, &pi_word, 0) == 3);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    printf("%d got it, word %x\n", got, pi_word);
    struct timespec soon = in_ms(CLOCK_MONOTONIC, 20);
    CHECK_ERRNO(futex(&condition, FUTEX_WAIT_REQUEUE_PI, 0, &soon, &pi_word, ~0u), ETIMEDOUT);
    CHECK_ERRNO(futex(&condition, FUTEX_WAIT_REQUEUE_PI, 1, &soon, &pi_word, ~0u), EAGAIN);
    CHECK_ERRNO(futex(&condition, FUTEX_WAIT_REQUEUE_PI, 0, &soon, &condition, ~0u), EINVAL);
}

static void *dies_with_lock(void *arg) {
    CHECK(futex(&pi_word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
    stage = 1;
    while (stage < 2)
        sleep_ms(1);
    sleep_ms(20);
    return arg;
}

CASE(owner_ends) {
    pi_word = stage = 0;
    pthread_t t;
    pthread_create(&t, NULL, dies_with_lock, NULL);
    while (stage < 1)
        sleep_ms(1);
    stage = 2;
    CHECK(futex(&pi_word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
    printf("%s, %s\n", (pi_word & FUTEX_TID_MASK) == (uint32_t)getpid() ? "mine" : "not mine",
           pi_word & FUTEX_OWNER_DIED ? "died" : "not died");
    pthread_join(t, NULL);
    pthread_mutex_t *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    CHECK(pthread_mutex_init(m, &a) == 0);
    atomic_int *locked = (atomic_int *)(m + 1);
    for (int waits = 0; waits < 2; waits++) {
        *locked = 0;
        pid_t child = fork_clean();
        if (child == 0) {
            pthread_mutex_lock(m);
            *locked = 1;
            if (waits)
                sleep_ms(50);
            raise(SIGKILL);
        }
        while (!*locked)
            sleep_ms(1);
        if (!waits)
            report("owner", child);
        int r = pthread_mutex_lock(m);
        printf("lock: %s\n", strerrorname_of(r));
        CHECK(pthread_mutex_consistent(m) == 0 && pthread_mutex_unlock(m) == 0);
        if (waits)
            report("owner", child);
    }
}

struct waitv {
    uint64_t value, at;
    uint32_t flags, reserved;
};
static uint32_t words[130];
static void *wakes_one(void *arg) {
    sleep_ms(30);
    CHECK(futex(&words[2], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 1);
    return arg;
}

CASE(wait_for_many) {
    struct waitv w[130] = {{0}};
    for (int i = 0; i < 130; i++)
        w[i] = (struct waitv){0, (uint64_t)(uintptr_t)&words[i], 2 | 128, 0};
    pthread_t t;
    pthread_create(&t, NULL, wakes_one, NULL);
    CHECK(syscall(SYS_futex_waitv, w, 4, 0, NULL, 0) == 2);
    pthread_join(t, NULL);
    CHECK(futex(&words[1], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 0);
    struct timespec soon = in_ms(CLOCK_MONOTONIC, 20);
    CHECK_ERRNO(syscall(SYS_futex_waitv, w, 128, 0, &soon, CLOCK_MONOTONIC), ETIMEDOUT);
    soon = in_ms(CLOCK_REALTIME, 20);
    CHECK_ERRNO(syscall(SYS_futex_waitv, w, 2, 0, &soon, CLOCK_REALTIME), ETIMEDOUT);
    CHECK_ERRNO(syscall(SYS_futex_waitv, w, 2, 0, &soon, 7), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_waitv, w, 129, 0, NULL, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_waitv, w, 0, 0, NULL, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_waitv, NULL, 1, 0, NULL, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_waitv, w, 2, 1, NULL, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_waitv, (void *)8, 1, 0, NULL, 0), EFAULT);
    w[1].value = 5;
    CHECK_ERRNO(syscall(SYS_futex_waitv, w, 2, 0, NULL, 0), EAGAIN);
    w[1].value = 0, w[1].reserved = 1;
    CHECK_ERRNO(syscall(SYS_futex_waitv, w, 2, 0, NULL, 0), EINVAL);
    w[1].reserved = 0, w[1].flags = 0x40;
    CHECK_ERRNO(syscall(SYS_futex_waitv, w, 2, 0, NULL, 0), EINVAL);
    w[1].flags = 2, w[1].at = 2;
    CHECK_ERRNO(syscall(SYS_futex_waitv, w, 2, 0, NULL, 0), EINVAL);
}

CASE(robust_lists) {
    void *head;
    size_t size;
    CHECK(syscall(SYS_get_robust_list, 0, &head, &size) == 0 && size == 24 && head != NULL);
    CHECK(syscall(SYS_set_robust_list, head, 24) == 0);
    CHECK_ERRNO(syscall(SYS_set_robust_list, head, 23), EINVAL);
    CHECK_ERRNO(syscall(SYS_get_robust_list, 0x3fffffff, &head, &size), ESRCH);
    CHECK_ERRNO(syscall(SYS_get_robust_list, 0, &head, (void *)8), EFAULT);
    /* A list that leads nowhere, or round in circles, does no harm. */
    for (int kind = 0; kind < 3; kind++) {
        pid_t child = fork_clean();
        if (child == 0) {
            static uintptr_t list[8];
            list[0] = kind == 0 ? (uintptr_t)&list[4] : kind == 1 ? 0x10 : (uintptr_t)&list[0];
            list[4] = (uintptr_t)&list[4];
            list[1] = 8, list[2] = 0;
            syscall(SYS_set_robust_list, list, 24);
            _exit(3);
        }
        report("list", child);
    }
}

CASE(operations_on_words) {
    uint32_t a = 0, b = 5;
    /* b += 3; wake at b if the old value was greater than 4. */
    CHECK(futex(&a, FUTEX_WAKE_OP, 1, (void *)1, &b, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_GT, 4)) == 0 && b == 8);
    CHECK(futex(&a, FUTEX_WAKE_OP, 1, (void *)1, &b, FUTEX_OP(FUTEX_OP_SET, 1, FUTEX_OP_CMP_EQ, 8)) == 0 && b == 1);
    CHECK(futex(&a, FUTEX_WAKE_OP, 1, (void *)1, &b, FUTEX_OP(FUTEX_OP_OR, 6, FUTEX_OP_CMP_NE, 8)) == 0 && b == 7);
    CHECK(futex(&a, FUTEX_WAKE_OP, 1, (void *)1, &b, FUTEX_OP(FUTEX_OP_ANDN, 2, FUTEX_OP_CMP_LT, 8)) == 0 && b == 5);
    CHECK(futex(&a, FUTEX_WAKE_OP, 1, (void *)1, &b, FUTEX_OP(FUTEX_OP_XOR, 1, FUTEX_OP_CMP_LE, 8)) == 0 && b == 4);
    CHECK(futex(&a, FUTEX_WAKE_OP, 1, (void *)1, &b,
                FUTEX_OP(FUTEX_OP_SET | FUTEX_OP_OPARG_SHIFT, 5, FUTEX_OP_CMP_GE, 8)) == 0 && b == 32);
    CHECK_ERRNO(futex(&a, FUTEX_WAKE_OP, 1, (void *)1, &b, FUTEX_OP(7, 5, FUTEX_OP_CMP_GE, 8)), ENOSYS);
    CHECK_ERRNO(futex(&a, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0), EINVAL);
    CHECK_ERRNO(futex(&a, FUTEX_REQUEUE, -1, (void *)1, &b, 0), EINVAL);
}

#ifndef SYS_futex_wake /* headers of before 6.7 */
#define SYS_futex_wake 454
#define SYS_futex_wait 455
#define SYS_futex_requeue 456
#endif
static volatile int asleep, awake;
static void *waits_by_call(void *which) {
    int *word = which;
    asleep++;
    CHECK(syscall(SYS_futex_wait, word, 0, 6, 2 | 128, NULL, 0) == 0);
    __atomic_add_fetch(&awake, 1, __ATOMIC_SEQ_CST);
    return NULL;
}
/* futex_wait, futex_wake and futex_requeue: like futex(2), but strict. */
CASE(calls_of_their_own) {
    static int a, b, c;
    if (syscall(SYS_futex_wake, &a, 1, 1, 2) < 0 && errno == ENOSYS)
        return; /* Linux before 6.7 */
    struct timespec soon = in_ms(CLOCK_MONOTONIC, 20);
    CHECK_ERRNO(syscall(SYS_futex_wait, &a, 0, 1, 2, &soon, CLOCK_MONOTONIC), ETIMEDOUT);
    soon = in_ms(CLOCK_REALTIME, 20);
    CHECK_ERRNO(syscall(SYS_futex_wait, &a, 0, 1, 2, &soon, CLOCK_REALTIME), ETIMEDOUT);
    CHECK_ERRNO(syscall(SYS_futex_wait, &a, 0, 1, 2, &soon, 7), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_wait, &a, 5, 1, 2, NULL, 0), EAGAIN);
    CHECK_ERRNO(syscall(SYS_futex_wait, &a, 0, 0, 2, NULL, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_wait, &a, 1ul << 32, 1, 2, NULL, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_wait, &a, 0, 1ul << 32, 2, NULL, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_wait, &a, 0, 1, 1, NULL, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_wait, &a, 0, 1, 2 | 0x40, NULL, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_wait, (char *)&a + 1, 0, 1, 2, NULL, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_wait, 8, 0, 1, 2, NULL, 0), EFAULT);
    CHECK_ERRNO(syscall(SYS_futex_wake, &a, 0, 1, 2), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_wake, &a, 1, 1, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_wake, &a, 1ul << 32, 1, 2), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_wake, (char *)&a + 2, 1, 1, 2), EINVAL);
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&t[i], NULL, waits_by_call, &b) == 0);
    /* All sleep once three can be moved away. */
    struct waitv w[2] = {{0, (uintptr_t)&b, 2 | 128, 0}, {0, (uintptr_t)&c, 2 | 128, 0}};
    int moved = 0;
    for (int i = 0; i < 2000 && moved < 3; i++) {
        long n = syscall(SYS_futex_requeue, w, 0, 0, 3);
        CHECK(n >= 0);
        moved += n;
        sleep_ms(5);
    }
    CHECK(moved == 3 && awake == 0);
    CHECK(syscall(SYS_futex_wake, &b, 2, 1, 2 | 128) == 0 && syscall(SYS_futex_wake, &c, 8, 9, 2 | 128) == 0);
    CHECK(syscall(SYS_futex_wake, &c, 2, 0, 2 | 128) == 0 && syscall(SYS_futex_wake, &c, 2, 1, 2 | 128) == 1);
    CHECK(syscall(SYS_futex_wake, &c, 4, 9, 2 | 128) == 2);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    CHECK(awake == 3);
    CHECK_ERRNO(syscall(SYS_futex_requeue, w, 1, 0, 1), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_requeue, NULL, 0, 0, 1), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_requeue, w, 0, -1, 1), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex_requeue, 8, 0, 0, 1), EFAULT);
    w[0].value = 7;
    CHECK_ERRNO(syscall(SYS_futex_requeue, w, 0, 0, 1), EAGAIN);
}
