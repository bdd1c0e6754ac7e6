/* fork and wait in a small process.
 *
 * Usage: fork [COUNT] */
#include "bench.h"
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    long count = count_argument(argc, argv, 1, 1000);
    double start = now_ns();
    for (long i = 0; i < count; i++) {
        int status;
        pid_t pid = fork();
        check(pid >= 0, "fork");
        if (pid == 0)
            _exit(0);
        check(waitpid(pid, &status, 0) == pid && status == 0, "waitpid");
    }
    report("fork", (now_ns() - start) / (double)count);
    return 0;
}
