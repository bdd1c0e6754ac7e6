/* sched(7): policies, priorities, nice values, affinity, and what they do to shares of the CPU. */
#include "guest.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

struct attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
    uint32_t util_min, util_max, more;
};

static int set_policy(pid_t pid, int policy, int priority) {
    struct sched_param p = {priority};
    return sched_setscheduler(pid, policy, &p);
}

/* Real-time policies take a right that not every run has, natively or inside. */
static int may_rt(void) {
    int ok = set_policy(0, SCHED_FIFO, 1) == 0;
    set_policy(0, SCHED_OTHER, 0);
    return ok;
}

CASE(policies) {
    CHECK(sched_getscheduler(0) == SCHED_OTHER);
    CHECK(set_policy(0, SCHED_BATCH, 0) == 0 && sched_getscheduler(0) == SCHED_BATCH);
    CHECK(set_policy(0, SCHED_OTHER | SCHED_RESET_ON_FORK, 0) == 0 &&
          sched_getscheduler(0) == (SCHED_OTHER | SCHED_RESET_ON_FORK));
    CHECK_ERRNO(set_policy(0, SCHED_OTHER, 1), EINVAL);
    CHECK_ERRNO(set_policy(0, SCHED_FIFO, 0), EINVAL);
    CHECK_ERRNO(set_policy(0, SCHED_RR, 100), EINVAL);
    CHECK_ERRNO(set_policy(0, 4, 0), EINVAL);
    CHECK_ERRNO(set_policy(0, 77, 0), EINVAL);
    CHECK_ERRNO(set_policy(-1, SCHED_OTHER, 0), EINVAL);
    CHECK_ERRNO(set_policy(0x3fffffff, SCHED_OTHER, 0), ESRCH);
    CHECK_ERRNO(sched_setscheduler(0, SCHED_OTHER, NULL), EINVAL);
    CHECK_ERRNO(sched_getscheduler(-1), EINVAL);
    CHECK_ERRNO(sched_getscheduler(0x3fffffff), ESRCH);
    struct sched_param p = {9};
    CHECK(sched_getparam(0, &p) == 0 && p.sched_priority == 0);
    CHECK_ERRNO(sched_getparam(0, NULL), EINVAL);
    CHECK_ERRNO(sched_getparam(-5, &p), EINVAL);
    CHECK_ERRNO(syscall(SYS_sched_getparam, 0, (void *)8), EFAULT);
    p.sched_priority = 5;
    CHECK_ERRNO(sched_setparam(0, &p), EINVAL);
    p.sched_priority = 0;
    CHECK(sched_setparam(0, &p) == 0);
    static const int all[] = {SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE, 6};
    for (unsigned i = 0; i < 6; i++)
        printf("%d: %d to %d\n", all[i], sched_get_priority_min(all[i]), sched_get_priority_max(all[i]));
    CHECK_ERRNO(sched_get_priority_max(4), EINVAL);
    CHECK_ERRNO(sched_get_priority_min(-1), EINVAL);
    struct timespec t;
    CHECK(sched_rr_get_interval(0, &t) == 0 && t.tv_sec == 0);
    CHECK_ERRNO(sched_rr_get_interval(-1, &t), EINVAL);
    CHECK_ERRNO(sched_rr_get_interval(0x3fffffff, &t), ESRCH);
    if (may_rt()) {
        CHECK(set_policy(0, SCHED_RR, 7) == 0 && sched_getscheduler(0) == SCHED_RR);
        CHECK(sched_getparam(0, &p) == 0 && p.sched_priority == 7);
        CHECK(sched_rr_get_interval(0, &t) == 0 && t.tv_nsec == 100000000);
        p.sched_priority = 9;
        CHECK(sched_setparam(0, &p) == 0 && sched_getparam(0, &p) == 0 && p.sched_priority == 9);
        pid_t child = fork_clean();
        if (child == 0)
            _exit(sched_getscheduler(0) == SCHED_RR && sched_getparam(0, &p) == 0 && p.sched_priority == 9 ? 0 : 1);
        report("inherited", child);
        CHECK(set_policy(0, SCHED_FIFO | SCHED_RESET_ON_FORK, 3) == 0);
        CHECK(sched_rr_get_interval(0, &t) == 0 && t.tv_nsec == 0);
        child = fork_clean();
        if (child == 0)
            _exit(sched_getscheduler(0) == SCHED_OTHER ? 0 : 1);
        report("reset", child);
        CHECK(set_policy(0, SCHED_OTHER, 0) == 0);
    } else {
        puts("inherited: exit 0\nreset: exit 0");
    }
    CHECK(set_policy(0, SCHED_IDLE, 0) == 0 && sched_getscheduler(0) == SCHED_IDLE);
}

static long set_attr(struct attr *a) {
    return syscall(SYS_sched_setattr, 0, a, 0);
}

CASE(attributes) {
    struct attr a = {0};
    CHECK(syscall(SYS_sched_getattr, 0, &a, 48, 0) == 0 && a.size == 48 && a.policy == SCHED_OTHER && a.nice == 0);
    CHECK_ERRNO(syscall(SYS_sched_getattr, 0, &a, 47, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_sched_getattr, 0, &a, 5000, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_sched_getattr, 0, &a, 48, 1), EINVAL);
    CHECK_ERRNO(syscall(SYS_sched_getattr, -1, &a, 48, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_sched_getattr, 0, NULL, 48, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_sched_getattr, 0x3fffffff, &a, 48, 0), ESRCH);
    a = (struct attr){.size = 48, .policy = SCHED_BATCH, .nice = 4, .flags = 1};
    CHECK(set_attr(&a) == 0);
    memset(&a, 0, sizeof a);
    CHECK(syscall(SYS_sched_getattr, 0, &a, 48, 0) == 0 && a.policy == SCHED_BATCH && a.nice == 4 && a.flags == 1);
    CHECK(getpriority(PRIO_PROCESS, 0) == 4);
    a = (struct attr){.size = 48, .policy = SCHED_OTHER, .nice = 99};
    a.flags = 1;
    CHECK(set_attr(&a) == 0 && getpriority(PRIO_PROCESS, 0) == 19);
    a = (struct attr){.size = 40};
    CHECK_ERRNO(set_attr(&a), E2BIG);
    CHECK(a.size >= 48);
    a = (struct attr){.size = sizeof a, .more = 1};
    CHECK_ERRNO(set_attr(&a), E2BIG);
    a = (struct attr){.size = 48, .flags = 1 << 20};
    CHECK_ERRNO(set_attr(&a), EINVAL);
    a = (struct attr){.size = 48, .policy = 55};
    CHECK_ERRNO(set_attr(&a), EINVAL);
    CHECK_ERRNO(syscall(SYS_sched_setattr, 0, NULL, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_sched_setattr, 0, &a, 1), EINVAL);
}

static atomic_int turn, turns;
static void *takes_turns(void *arg) {
    for (int i = 0; i < 200; i++) {
        while (turn != (int)(long)arg)
            sched_yield();
        turns++;
        turn = !turn;
    }
    return NULL;
}

CASE(yielding) {
    cpu_set_t one;
    CPU_ZERO(&one);
    sched_getaffinity(0, sizeof one, &one);
    int first = 0;
    while (!CPU_ISSET(first, &one))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    pthread_t t[2];
    for (long i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, takes_turns, (void *)i);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    printf("%d turns, yield %d\n", turns, sched_yield());
}

static void *where(void *arg) {
    cpu_set_t s;
    sched_getaffinity(0, sizeof s, &s);
    return (void *)(long)(CPU_COUNT(&s) == 1 && CPU_ISSET((int)(long)arg, &s) && sched_getcpu() == (int)(long)arg);
}

CASE(affinity) {
    cpu_set_t all, one, none;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    int cpus = CPU_COUNT(&all);
    CHECK(cpus >= 1);
    unsigned cpu = 99, node = 99;
    CHECK(syscall(SYS_getcpu, &cpu, &node, NULL) == 0 && CPU_ISSET(cpu, &all) && node == 0);
    CHECK(syscall(SYS_getcpu, NULL, NULL, NULL) == 0);
    CHECK_ERRNO(syscall(SYS_getcpu, (void *)8, NULL, NULL), EFAULT);
    for (int c = 0, seen = 0; seen < cpus; c++) {
        if (!CPU_ISSET(c, &all))
            continue;
        seen++;
        CPU_ZERO(&one);
        CPU_SET(c, &one);
        CHECK(sched_setaffinity(0, sizeof one, &one) == 0 && sched_getcpu() == c);
        for (int i = 0; i < 50; i++) {
            sched_yield();
            CHECK(sched_getcpu() == c);
        }
        sleep_ms(2);
        CHECK(sched_getcpu() == c);
        cpu_set_t got;
        CHECK(sched_getaffinity(getpid(), sizeof got, &got) == 0 && CPU_EQUAL(&got, &one));
        pthread_t t;
        void *same;
        pthread_create(&t, NULL, where, (void *)(long)c);
        pthread_join(t, &same);
        CHECK(same);
        pid_t child = fork_clean();
        if (child == 0)
            _exit(where((void *)(long)c) ? 0 : 1);
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    CPU_ZERO(&none);
    CHECK_ERRNO(sched_setaffinity(0, sizeof none, &none), EINVAL);
    CHECK_ERRNO(sched_setaffinity(0x3fffffff, sizeof all, &all), ESRCH);
    CHECK_ERRNO(sched_setaffinity(-1, sizeof all, &all), ESRCH);
    CHECK_ERRNO(syscall(SYS_sched_setaffinity, 0, 8, (void *)8), EFAULT);
    CHECK_ERRNO(syscall(SYS_sched_getaffinity, 0, 4, &one), EINVAL);
    CHECK_ERRNO(syscall(SYS_sched_getaffinity, 0, 12, &one), EINVAL);
    CHECK_ERRNO(sched_getaffinity(0x3fffffff, sizeof all, &all), ESRCH);
    CHECK(syscall(SYS_sched_setaffinity, 0, sizeof all, &all) == 0);
}

/* Another process is moved while it computes. */
CASE(affinity_of_others) {
    cpu_set_t all, one;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    atomic_int *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork_clean();
    if (child == 0)
        for (;;)
            *at = sched_getcpu() + 1;
    while (!*at)
        sleep_ms(1);
    for (int c = 0; c < CPU_SETSIZE; c++) {
        if (!CPU_ISSET(c, &all))
            continue;
        CPU_ZERO(&one);
        CPU_SET(c, &one);
        CHECK(sched_setaffinity(child, sizeof one, &one) == 0);
        /* A busy machine takes its time; once moved, it stays. */
        for (int i = 0; i < 3000 && *at != c + 1; i++)
            sleep_ms(1);
        for (int i = 0; i < 5; i++) {
            CHECK(*at == c + 1);
            sleep_ms(1);
        }
    }
    kill(child, SIGKILL);
    report("moved", child);
}

CASE(nice_values) {
    CHECK(getpriority(PRIO_PROCESS, 0) == 0);
    CHECK(nice(3) == 3 && getpriority(PRIO_PROCESS, getpid()) == 3);
    CHECK(setpriority(PRIO_PROCESS, 0, 50) == 0 && getpriority(PRIO_PROCESS, 0) == 19);
    CHECK_ERRNO(setpriority(7, 0, 0), EINVAL);
    CHECK_ERRNO(getpriority(-1, 0), EINVAL);
    CHECK_ERRNO(setpriority(PRIO_PROCESS, 0x3fffffff, 0), ESRCH);
    CHECK_ERRNO(getpriority(PRIO_PGRP, 0x3fffffff), ESRCH);
    CHECK_ERRNO(getpriority(PRIO_USER, 0x3ffffff), ESRCH);
    setpgid(0, 0);
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK(getpriority(PRIO_PROCESS, 0) == 19);
        setpriority(PRIO_PROCESS, 0, 10);
        if (getpriority(PRIO_PROCESS, 0) == 10)
            CHECK(getpriority(PRIO_PGRP, 0) == 10);
        _exit(guest_failures);
    }
    report("child", child);
    CHECK(setpriority(PRIO_PGRP, 0, 19) == 0 && getpriority(PRIO_PGRP, 0) == 19);
    CHECK(getpriority(PRIO_USER, getuid()) <= 19);
}

static long ioprio_set(int which, int who, int value) {
    return syscall(SYS_ioprio_set, which, who, value);
}
static long ioprio_get(int which, int who) {
    return syscall(SYS_ioprio_get, which, who);
}

CASE(io_priorities) {
    const int best_effort = 2 << 13, idle = 3 << 13;
    CHECK(ioprio_set(1, 0, best_effort | 6) == 0 && ioprio_get(1, 0) == (best_effort | 6));
    pid_t child = fork_clean();
    if (child == 0)
        _exit(ioprio_get(1, 0) == (best_effort | 6) ? 0 : 1);
    report("inherited", child);
    CHECK(ioprio_set(1, getpid(), idle) == 0 && ioprio_get(1, getpid()) == idle);
    CHECK_ERRNO(ioprio_set(0, 0, best_effort), EINVAL);
    CHECK_ERRNO(ioprio_set(1, 0, 5 << 13), EINVAL);
    CHECK_ERRNO(ioprio_set(1, 0, 3), EINVAL);
    CHECK_ERRNO(ioprio_set(1, 0x3fffffff, best_effort), ESRCH);
    CHECK_ERRNO(ioprio_get(9, 0), EINVAL);
    CHECK_ERRNO(ioprio_get(1, 0x3fffffff), ESRCH);
}

static void pin(void) {
    cpu_set_t s;
    sched_getaffinity(0, sizeof s, &s);
    int first = 0;
    while (!CPU_ISSET(first, &s))
        first++;
    CPU_ZERO(&s);
    CPU_SET(first, &s);
    CHECK(sched_setaffinity(0, sizeof s, &s) == 0);
}

static atomic_int hogs_go;
struct hog {
    pthread_t thread;
    int nice, policy;
    int64_t cpu_us;
};
static void *hog(void *arg) {
    struct hog *h = arg;
    if (h->policy)
        CHECK(set_policy(0, h->policy, 0) == 0);
    CHECK(setpriority(PRIO_PROCESS, 0, h->nice) == 0);
    while (hogs_go == 0)
        sleep_ms(1);
    while (hogs_go == 1)
        for (volatile int i = 0; i < 1000; i++)
            ;
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    h->cpu_us = t.tv_sec * 1000000 + t.tv_nsec / 1000;
    return NULL;
}
static void run_hogs(struct hog *h, int n, int ms) {
    hogs_go = 0;
    for (int i = 0; i < n; i++)
        CHECK(pthread_create(&h[i].thread, NULL, hog, &h[i]) == 0);
    sleep_ms(20);
    hogs_go = 1;
    sleep_ms(ms);
    hogs_go = 2;
    for (int i = 0; i < n; i++)
        pthread_join(h[i].thread, NULL);
}

CASE(shares) {
    pin();
    struct hog equal[4] = {{0}};
    run_hogs(equal, 4, 400);
    int64_t least = equal[0].cpu_us, most = least;
    for (int i = 1; i < 4; i++) {
        least = equal[i].cpu_us < least ? equal[i].cpu_us : least;
        most = equal[i].cpu_us > most ? equal[i].cpu_us : most;
    }
    printf("equals: %s\n", least * 2 > most ? "fair" : "not fair");
    struct hog nices[2] = {{.nice = 0}, {.nice = 10}};
    run_hogs(nices, 2, 400);
    printf("nice 10: %s\n", nices[0].cpu_us > 3 * nices[1].cpu_us && nices[1].cpu_us > 0 ? "less" : "not less");
    struct hog idle[2] = {{.policy = SCHED_BATCH}, {.policy = SCHED_IDLE}};
    run_hogs(idle, 2, 400);
    printf("idle: %s\n", idle[0].cpu_us > 10 * idle[1].cpu_us ? "least" : "not least");
}

/* A thread that never enters the kernel shares its CPU as well. */
CASE(shares_of_three) {
    struct hog three[3] = {{0}};
    run_hogs(three, 3, 400);
    int64_t least = three[0].cpu_us, most = least;
    for (int i = 1; i < 3; i++) {
        least = three[i].cpu_us < least ? three[i].cpu_us : least;
        most = three[i].cpu_us > most ? three[i].cpu_us : most;
    }
    printf("%s\n", least * 4 > most ? "all run" : "one hardly runs");
}

static char order[8];
static atomic_int order_length, gate;
static void *in_order(void *arg) {
    int priority = (int)(long)arg;
    CHECK(set_policy(0, SCHED_FIFO, priority) == 0);
    while (!gate)
        sleep_ms(1);
    order[order_length++] = (char)('0' + priority);
    return NULL;
}

CASE(real_time_first) {
    pin();
    if (!may_rt()) {
        puts("0 missed");
        return;
    }
    /* One that is woken goes before the one that woke it. */
    int missed = 0;
    for (int round = 0; round < 5; round++) {
        order_length = gate = 0;
        CHECK(set_policy(0, SCHED_FIFO, 2) == 0);
        pthread_t low, high;
        pthread_create(&low, NULL, in_order, (void *)1L);
        pthread_create(&high, NULL, in_order, (void *)4L);
        sleep_ms(5);
        gate = 1;
        for (int64_t until = now_ms() + 1000; now_ms() < until && order_length == 0;)
            ;
        for (int64_t until = now_ms() + 10; now_ms() < until;)
            ;
        missed += order_length != 1 || order[0] != '4';
        CHECK(set_policy(0, SCHED_OTHER, 0) == 0);
        pthread_join(low, NULL);
        pthread_join(high, NULL);
    }
    printf("%d missed\n", missed);
}
