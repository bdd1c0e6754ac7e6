/* Programs that wait so long that they lose their lookup tables, and go on; one that works meanwhile. */
#include "guest.h"
#include <pthread.h>

#define CHILDREN 20

static volatile int woken;
static void handler(int sig) {
    woken = sig;
}
static int one(int x) {
    return x + 1;
}
static int two(int x) {
    return x * 2;
}
static int (*volatile table[2])(int) = {one, two};
static int work(int n) {
    int x = 0;
    for (int i = 0; i < n; i++) {
        x = table[i & 1](x) & 0xffff;
    }
    return x;
}
static void *thread(void *arg) {
    return (void *)(long)work((long)arg);
}

static void child(int n) {
    sigset_t none;
    sigemptyset(&none);
    int before = work(1000);
    while (!woken) {
        sigsuspend(&none);
    }
    pthread_t t;
    void *got;
    pthread_create(&t, NULL, thread, (void *)1000L);
    pthread_join(t, &got);
    char text[32];
    snprintf(text, sizeof text, "%d", before);
    _exit(work(1000) == before && (long)got == before && atoi(text) == before ? n : 99);
}

CASE(programs_that_wait) {
    int rounds = atoi(getenv("GUEST_SECONDS"));
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGUSR1, handler);
    pid_t children[CHILDREN], busy = fork_clean();
    if (busy == 0) {
        for (;;) {
            work(1000000);
            sleep_ms(50);
        }
    }
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork_clean();
        if (children[i] == 0) {
            child(i + 1);
        }
    }
    sleep_ms(rounds * 1000);
    for (int i = 0; i < CHILDREN; i++) {
        kill(children[i], SIGUSR1);
        report("waited", children[i]);
    }
    kill(busy, SIGKILL);
    report("busy", busy);
}
