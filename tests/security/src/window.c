/* Looks for a moment in which memory that is being set up has rights that it is not to have: one thread brings a page of
 * a read-only file mapping in, the other stores to it a random time later. Prints how many stores were not refused.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (64 * 4096) /* brought in at once */

static volatile unsigned char *page;
static volatile int go, done;
static volatile unsigned long sink;
static volatile int stored; // counted behind the store
static __thread sigjmp_buf back;

static void on_fault(int sig) {
    siglongjmp(back, 1);
}

static void *store(void *arg) {
    int rounds = *(int *)arg;
    unsigned long seed = 88172645463325252;
    for (int i = 1; i <= rounds; i++) {
        while (go != i)
            ;
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        for (unsigned long n = seed % 300000; n; n--)
            sink = n;
        if (sigsetjmp(back, 1) == 0) {
            page[SIZE - 64] = 0xee;
            stored++;
        }
        done = i;
    }
    return NULL;
}

static int try(int flags, int fd, int rounds) {
    pthread_t t;
    stored = go = done = 0;
    page = mmap(NULL, SIZE, PROT_READ, flags, fd, 0);
    if (page == MAP_FAILED || pthread_create(&t, NULL, store, &rounds))
        exit(2);
    for (int i = 1; i <= rounds; i++) {
        go = i;
        sink = page[0];
        while (done != i)
            ;
        void *fresh = mmap((void *)page, SIZE, PROT_READ, flags | MAP_FIXED, fd, 0);
        if (fresh != page)
            exit(3);
    }
    pthread_join(t, NULL);
    return stored;
}

int main(int argc, char **argv) {
    struct sigaction a = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    static char bytes[SIZE] = "content";
    char name[] = "/tmp/window.XXXXXX";
    int rounds = argc > 1 ? atoi(argv[1]) : 1000;
    int fd = mkstemp(name);
    if (fd < 0 || write(fd, bytes, SIZE) != SIZE || unlink(name))
        return 4;
    sigaction(SIGSEGV, &a, NULL);
    printf("private: %d\n", try(MAP_PRIVATE, fd, rounds));
    printf("shared: %d\n", try(MAP_SHARED, fd, rounds));
    return 0;
}
