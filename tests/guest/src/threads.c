/* Threads: pthreads, mutexes, conditions, thread-local storage, exit, signals to threads, futexes. */
#include "guest.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/time.h>

#define N 8
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long shared_count;
static _Thread_local int local = 5;
static long futex(void *word, int op, int value, void *timeout, void *word2, int value3) {
    return syscall(SYS_futex, word, op, value, timeout, word2, value3);
}

static void *counter(void *arg) {
    for (int i = 0; i < 5000; i++) {
        pthread_mutex_lock(&mutex);
        shared_count++;
        pthread_mutex_unlock(&mutex);
        if (i % 1000 == 0)
            sched_yield();
    }
    local += (int)(intptr_t)arg;
    return (void *)(intptr_t)local;
}
CASE(mutex_and_join) {
    pthread_t t[N];
    long sum = 0;
    for (int i = 0; i < N; i++)
        CHECK(pthread_create(&t[i], NULL, counter, (void *)(intptr_t)i) == 0);
    for (int i = 0; i < N; i++) {
        void *result;
        CHECK(pthread_join(t[i], &result) == 0);
        sum += (intptr_t)result;
    }
    printf("%ld, thread-local sum %ld, own %d\n", shared_count, sum, local);
}

static int queue[16], head, tail, done;
static void *consumer(void *arg) {
    long sum = 0;
    (void)arg;
    pthread_mutex_lock(&mutex);
    for (;;) {
        while (head == tail && !done)
            pthread_cond_wait(&cond, &mutex);
        if (head == tail)
            break;
        sum += queue[tail++ % 16];
        pthread_cond_broadcast(&cond);
    }
    pthread_mutex_unlock(&mutex);
    return (void *)sum;
}
CASE(conditions) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, consumer, NULL);
    pthread_mutex_lock(&mutex);
    for (int i = 1; i <= 2000; i++) {
        while (head - tail == 16)
            pthread_cond_wait(&cond, &mutex);
        queue[head++ % 16] = i;
        pthread_cond_broadcast(&cond);
    }
    done = 1;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&mutex);
    long sum = 0;
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(t[i], &result);
        sum += (long)result;
    }
    printf("%ld\n", sum);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec = (until.tv_nsec + 20000000) % 1000000000;
    pthread_mutex_lock(&mutex);
    printf("timed wait: %s\n", strerrorname_of(pthread_cond_timedwait(&cond, &mutex, &until) ? ETIMEDOUT : 0));
}

static void *barrier_user(void *arg) {
    static atomic_int order;
    for (int i = 0; i < 50; i++) {
        pthread_barrier_wait(arg);
        atomic_fetch_add(&order, 1);
        pthread_barrier_wait(arg);
        if (atomic_load(&order) != (i + 1) * 4)
            return (void *)1;
        pthread_barrier_wait(arg);
    }
    return NULL;
}
CASE(barriers) {
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 4);
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, barrier_user, &barrier);
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(t[i], &result);
        CHECK(result == NULL);
    }
    puts("done");
}

static pthread_key_t key;
static atomic_int destroyed;
static void destroy(void *value) { atomic_fetch_add(&destroyed, (int)(intptr_t)value); }
static void *key_user(void *arg) {
    pthread_setspecific(key, arg);
    pthread_exit(NULL);
}
CASE(keys_and_exit) {
    pthread_key_create(&key, destroy);
    pthread_t t[5];
    for (int i = 0; i < 5; i++)
        pthread_create(&t[i], NULL, key_user, (void *)(intptr_t)(i + 1));
    for (int i = 0; i < 5; i++)
        pthread_join(t[i], NULL);
    printf("destructors %d\n", destroyed);
}

static void *sleeper(void *arg) {
    (void)arg;
    for (;;)
        pause();
}
CASE(exit_group_ends_sleepers) {
    pid_t child = fork_clean();
    if (child == 0) {
        pthread_t t;
        for (int i = 0; i < 5; i++)
            pthread_create(&t, NULL, sleeper, NULL);
        exit(17);
    }
    report("exit", child);
}
static void *exits(void *arg) {
    (void)arg;
    exit(18);
}
CASE(exit_from_a_thread) {
    pid_t child = fork_clean();
    if (child == 0) {
        pthread_t t;
        pthread_create(&t, NULL, exits, NULL);
        for (;;)
            pause();
    }
    report("exit", child);
}
static void *late(void *arg) {
    (void)arg;
    sleep_ms(30);
    puts("the last thread speaks");
    return NULL;
}
CASE(main_thread_ends_first) {
    pid_t child = fork_clean();
    if (child == 0) {
        pthread_t t;
        pthread_create(&t, NULL, late, NULL);
        pthread_exit(NULL);
    }
    report("process", child);
}

static atomic_int got_signal;
static pthread_t target;
static void on_signal(int signal) {
    atomic_store(&got_signal, pthread_equal(pthread_self(), target) ? signal : -1);
}
static void *spin(void *arg) {
    (void)arg;
    while (!atomic_load(&got_signal))
        ;
    return NULL;
}
CASE(signal_to_a_busy_thread) {
    signal(SIGUSR1, on_signal);
    pthread_create(&target, NULL, spin, NULL);
    sleep_ms(10);
    pthread_kill(target, SIGUSR1);
    pthread_join(target, NULL);
    printf("signal %d\n", got_signal);
}

static void *wait_for_ever(void *arg) {
    (void)arg;
    sleep(1000);
    return NULL;
}
CASE(cancel) {
    pthread_t t;
    void *result;
    pthread_create(&t, NULL, wait_for_ever, NULL);
    sleep_ms(10);
    pthread_cancel(t);
    pthread_join(t, &result);
    printf("cancelled %d\n", result == PTHREAD_CANCELED);
}

static void *forker(void *arg) {
    (void)arg;
    pid_t child = fork();
    if (child == 0)
        _exit(33);
    int status;
    waitpid(child, &status, 0);
    return (void *)(intptr_t)WEXITSTATUS(status);
}
CASE(fork_from_threads) {
    pthread_t t[6];
    long sum = 0;
    for (int i = 0; i < 6; i++)
        pthread_create(&t[i], NULL, forker, NULL);
    for (int i = 0; i < 6; i++) {
        void *result;
        pthread_join(t[i], &result);
        sum += (intptr_t)result;
    }
    printf("%ld\n", sum);
}

static void *execer(void *arg) {
    (void)arg;
    execl("/bin/echo", "echo", "exec from a thread", (char *)NULL);
    return NULL;
}
CASE(exec_from_a_thread) {
    pid_t child = fork_clean();
    if (child == 0) {
        pthread_t t, u;
        pthread_create(&u, NULL, sleeper, NULL);
        pthread_create(&t, NULL, execer, NULL);
        for (;;)
            pause();
    }
    report("exec", child);
}

/* Who waits for a child that has its memory ends all the same: by a signal, with its process, for another thread's exec. */
static void *begets(void *told) {
    if (vfork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        write(*(int *)told, "x", 1);
        for (;;)
            pause();
    }
    return NULL;
}
CASE(vfork_parents_end) {
    enum { KILLED, EXITS, EXECS, WAYS };
    static const char *const names[] = {"killed", "exits", "execs"};
    for (int how = 0; how < WAYS; how++) {
        int ends[2];
        char c;
        CHECK(pipe(ends) == 0);
        pid_t child = fork_clean();
        if (child == 0) {
            pthread_t thread;
            pthread_create(&thread, NULL, begets, &ends[1]);
            if (how == KILLED)
                pthread_join(thread, NULL);
            read(ends[0], &c, 1);
            if (how == EXECS)
                execl("/bin/echo", "echo", "after exec", (char *)NULL);
            _exit(7);
        }
        if (how == KILLED) {
            CHECK(read(ends[0], &c, 1) == 1);
            CHECK(kill(child, SIGKILL) == 0);
        }
        report(names[how], child);
        close(ends[0]), close(ends[1]);
    }
}

static pthread_barrier_t together;
static void *becomes_true(void *unused) {
    (void)unused;
    pthread_barrier_wait(&together);
    execl("/bin/true", "true", (char *)NULL);
    return NULL;
}
CASE(execs_at_once) {
    for (int round = 0; round < 30; round++) {
        pid_t child = fork_clean();
        if (child == 0) {
            pthread_t thread;
            pthread_barrier_init(&together, NULL, 4);
            for (int i = 0; i < 3; i++)
                pthread_create(&thread, NULL, becomes_true, NULL);
            becomes_true(NULL);
            _exit(1);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
}

CASE(many_threads) {
    static pthread_t t[100];
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 65536);
    sem_t gate;
    sem_init(&gate, 0, 0);
    void *waiter(void *arg) {
        sem_wait(arg);
        return NULL;
    }
    for (int i = 0; i < 100; i++)
        CHECK(pthread_create(&t[i], &attr, waiter, &gate) == 0);
    for (int i = 0; i < 100; i++)
        sem_post(&gate);
    for (int i = 0; i < 100; i++)
        pthread_join(t[i], NULL);
    puts("100 joined");
    for (int i = 0; i < 300; i++) {
        pthread_t one;
        CHECK(pthread_create(&one, &attr, key_user, NULL) == 0);
        pthread_join(one, NULL);
    }
    puts("300 one after another");
}

CASE(rwlocks_and_once) {
    static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
    static long value;
    void *reader(void *arg) {
        (void)arg;
        long bad = 0;
        for (int i = 0; i < 1000; i++) {
            pthread_rwlock_rdlock(&lock);
            bad += value % 2;
            pthread_rwlock_unlock(&lock);
        }
        return (void *)bad;
    }
    void *writer(void *arg) {
        (void)arg;
        for (int i = 0; i < 1000; i++) {
            pthread_rwlock_wrlock(&lock);
            value++;
            value++;
            pthread_rwlock_unlock(&lock);
        }
        return NULL;
    }
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, i % 2 ? reader : writer, NULL);
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(t[i], &bad);
        CHECK(bad == NULL);
    }
    printf("%ld\n", value);
}

CASE(futex_errors) {
    uint32_t word = 7;
    CHECK_ERRNO(futex(&word, FUTEX_WAIT, 8, NULL, NULL, 0), EAGAIN);
    struct timespec t = {0, 10000000}, bad = {0, 2000000000};
    CHECK_ERRNO(futex(&word, FUTEX_WAIT, 7, &t, NULL, 0), ETIMEDOUT);
    CHECK_ERRNO(futex(&word, FUTEX_WAIT, 7, &bad, NULL, 0), EINVAL);
    CHECK_ERRNO(futex((char *)&word + 1, FUTEX_WAIT, 7, &t, NULL, 0), EINVAL);
    CHECK_ERRNO(futex((void *)8, FUTEX_WAIT, 7, &t, NULL, 0), EFAULT);
    CHECK_ERRNO(futex(&word, 99, 7, &t, NULL, 0), ENOSYS);
    CHECK_ERRNO(futex(&word, FUTEX_WAIT_BITSET, 7, &t, NULL, 0), EINVAL);
    CHECK(futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0) == 0);
}

CASE(futex_requeue) {
    static uint32_t a, b;
    static atomic_int woken;
    void *waiter(void *arg) {
        (void)arg;
        while (futex(&a, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) != 0)
            ;
        atomic_fetch_add(&woken, 1);
        return NULL;
    }
    pthread_t t[5];
    for (int i = 0; i < 5; i++)
        pthread_create(&t[i], NULL, waiter, NULL);
    until_threads_sleep(5);
    long moved = futex(&a, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10, &b, 0);
    CHECK_ERRNO(futex(&a, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10, &b, 5), EAGAIN);
    long rest = futex(&b, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0);
    for (int i = 0; i < 5; i++)
        pthread_join(t[i], NULL);
    printf("moved %ld, then woken %ld, all %d\n", moved, rest, woken);
}

CASE(futex_between_processes) {
    uint32_t *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork_clean();
    if (child == 0) {
        while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == 0)
            futex(word, FUTEX_WAIT, 0, NULL, NULL, 0);
        _exit(*word);
    }
    sleep_ms(20);
    __atomic_store_n(word, 55, __ATOMIC_RELEASE);
    futex(word, FUTEX_WAKE, 1, NULL, NULL, 0);
    report("woken", child);
    sem_t *sem = (sem_t *)(word + 16);
    sem_init(sem, 1, 0);
    child = fork_clean();
    if (child == 0) {
        for (int i = 0; i < 100; i++)
            sem_wait(sem);
        _exit(3);
    }
    for (int i = 0; i < 100; i++)
        sem_post(sem);
    report("semaphore", child);
}

CASE(robust_mutex) {
    pthread_mutex_t *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(m, &attr);
    pid_t child = fork_clean();
    if (child == 0) {
        pthread_mutex_lock(m);
        kill(getpid(), SIGKILL);
    }
    report("owner", child);
    int result = pthread_mutex_lock(m);
    printf("lock: %s\n", strerrorname_of(result));
    CHECK(pthread_mutex_consistent(m) == 0 && pthread_mutex_unlock(m) == 0);
}

CASE(progress_with_busy_neighbours) {
    /* More spinning processes than CPUs: preemption must let the sleeper finish. */
    pid_t child[4];
    fflush(stdout);
    for (int i = 0; i < 4; i++)
        if ((child[i] = fork()) == 0)
            for (;;)
                asm volatile("");
    sleep_ms(100);
    puts("awake");
    for (int i = 0; i < 4; i++) {
        kill(child[i], SIGKILL);
        report("spinner", child[i]);
    }
}
