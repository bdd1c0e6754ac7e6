/* Wakes between two threads, there and back: a mutex handed over through a condition variable, and an eventfd that one
 * writes and the other reads.
 *
 * Usage: wakes [COUNT] */
#include "bench.h"
#include <pthread.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

static long count;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t handed_over = PTHREAD_COND_INITIALIZER;
static int turn, there, back;

static void take_turns(int mine) {
    pthread_mutex_lock(&mutex);
    for (long i = 0; i < count; i++) {
        while (turn != mine)
            pthread_cond_wait(&handed_over, &mutex);
        turn = !mine;
        pthread_cond_signal(&handed_over);
    }
    pthread_mutex_unlock(&mutex);
}

static void *other_turns(void *unused) {
    take_turns(1);
    return unused;
}

static void *echo(void *unused) {
    uint64_t n;
    for (long i = 0; i < count; i++)
        check(read(there, &n, 8) == 8 && write(back, &n, 8) == 8, "echo");
    return unused;
}

/* Nanoseconds of one round beside a thread that runs `other`. */
static double measure(void *(*other)(void *), void (*own)(void)) {
    pthread_t thread;
    check(pthread_create(&thread, NULL, other, NULL) == 0, "pthread_create");
    double start = now_ns();
    own();
    double ns = (now_ns() - start) / (double)count;
    pthread_join(thread, NULL);
    return ns;
}

static void own_turns(void) { take_turns(0); }

static void ask(void) {
    uint64_t n = 1;
    for (long i = 0; i < count; i++)
        check(write(there, &n, 8) == 8 && read(back, &n, 8) == 8, "ask");
}

int main(int argc, char **argv) {
    count = count_argument(argc, argv, 1, 20000);
    there = eventfd(0, 0);
    back = eventfd(0, 0);
    check(there >= 0 && back >= 0, "eventfd");
    report("mutex-hand-off", measure(other_turns, own_turns));
    report("eventfd-wake", measure(echo, ask));
    return 0;
}
