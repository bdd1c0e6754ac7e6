/* As many waiters of one word as can be: threads that each wait for it 128 times. */
#pragma once
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct waitv {
    uint64_t value, at;
    uint32_t flags, reserved;
};
static uint32_t word, other;
static struct waitv often[128];

static void *waits(void *unused) {
    (void)unused;
    syscall(SYS_futex_waitv, often, 128, 0, NULL, 0);
    return NULL;
}

/* Starts so many threads, or as many as there can be, and comes back when all wait. */
static void begin_to_wait(int threads) {
    pthread_attr_t small;
    pthread_t t;
    int n = 0;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (int i = 0; i < 128; i++)
        often[i] = (struct waitv){0, (uintptr_t)&word, 2 | FUTEX_PRIVATE_FLAG, 0};
    while (n < threads && pthread_create(&t, &small, waits, NULL) == 0)
        n++;
    /* All wait when nobody new comes. */
    for (int moved = -1, now = 0; now != moved; usleep(50000)) {
        moved = now;
        now = syscall(SYS_futex, &word, FUTEX_REQUEUE_PRIVATE, 0, (void *)(long)INT32_MAX, &word, 0);
    }
}

static void move_waiters(void) {
    syscall(SYS_futex, &word, FUTEX_REQUEUE_PRIVATE, 0, (void *)(long)INT32_MAX, &other, 0);
}
static void wake_waiters(void) {
    syscall(SYS_futex, &other, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}
