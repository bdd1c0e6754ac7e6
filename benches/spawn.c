/* Starts PROGRAM again and again and waits for it. The first start is reported apart: it may translate or read.
 *
 * Usage: spawn PROGRAM [COUNT] */
#include "bench.h"
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static double start_once(char *program) {
    char *argv[] = {program, NULL};
    pid_t pid;
    int status;
    double start = now_ns();
    check(posix_spawn(&pid, program, NULL, NULL, argv, environ) == 0, "posix_spawn");
    check(waitpid(pid, &status, 0) == pid && status == 0, "waitpid");
    return now_ns() - start;
}

int main(int argc, char **argv) {
    check(argc > 1, "usage: spawn PROGRAM [COUNT]");
    long count = count_argument(argc, argv, 2, 1000);
    report("spawn-first", start_once(argv[1]));
    double start = now_ns();
    for (long i = 0; i < count; i++)
        start_once(argv[1]);
    report("spawn", (now_ns() - start) / (double)count);
    return 0;
}
