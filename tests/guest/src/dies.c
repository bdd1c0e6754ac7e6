/* Dies by a fault some calls deep, while other threads sleep and spin. `dies KIND`: read, jump, divide, trap, abort; `dies
 * child` has a child that dies; `dies handled` survives. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *kind;
static sigjmp_buf back;
static void on_fault(int signal) { siglongjmp(back, signal); }

__attribute__((noinline)) static int fail(int *where) {
    if (strcmp(kind, "jump") == 0) {
        ((void (*)(void))0x1234)();
    } else if (strcmp(kind, "divide") == 0) {
        volatile int zero = 0;
        return 100 / zero;
    } else if (strcmp(kind, "trap") == 0) {
        __builtin_trap();
    } else if (strcmp(kind, "abort") == 0) {
        abort();
    }
    return *where + 1;
}
__attribute__((noinline)) int nested(int depth, int *where) {
    return depth == 0 ? fail(where) + 1 : nested(depth - 1, where) + 1;
}
static int compare(const void *a, const void *b) { return nested(2, NULL); }
static void *sleeps(void *unused) {
    sleep(1000);
    return NULL;
}
static void *spins(void *unused) {
    for (volatile long n = 0;; n++)
        ;
}

int main(int argc, char **argv) {
    int values[4] = {4, 3, 2, 1};
    kind = argc > 1 ? argv[1] : "read";
    if (strcmp(kind, "handled") == 0) {
        signal(SIGSEGV, on_fault);
        if (sigsetjmp(back, 1)) {
            return 0;
        }
    } else if (strcmp(kind, "child") == 0) {
        int status;
        if (fork() != 0) {
            wait(&status);
            printf("%d %d\n", WTERMSIG(status), WCOREDUMP(status) != 0);
            return 0;
        }
        kind = "read";
    }
    pthread_t thread;
    pthread_create(&thread, NULL, sleeps, NULL);
    pthread_create(&thread, NULL, spins, NULL);
    usleep(20000);
    qsort(values, 4, sizeof *values, compare);
    return values[0];
}
