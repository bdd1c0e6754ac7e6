/* One byte to another process and back, through two pipes.
 *
 * Usage: pingpong [COUNT] */
#include "bench.h"
#include <sys/wait.h>
#include <unistd.h>

static void echo(int in, int out) {
    char byte;
    while (read(in, &byte, 1) == 1)
        check(write(out, &byte, 1) == 1, "write");
    _exit(0);
}

int main(int argc, char **argv) {
    long count = count_argument(argc, argv, 1, 20000);
    int there[2], back[2];
    char byte = 'x';
    check(pipe(there) == 0 && pipe(back) == 0, "pipe");
    pid_t pid = fork();
    check(pid >= 0, "fork");
    if (pid == 0) {
        close(there[1]);
        close(back[0]);
        echo(there[0], back[1]);
    }
    close(there[0]);
    close(back[1]);
    double start = now_ns();
    for (long i = 0; i < count; i++) {
        check(write(there[1], &byte, 1) == 1, "write");
        check(read(back[0], &byte, 1) == 1, "read");
    }
    report("ping-pong", (now_ns() - start) / (double)count);
    close(there[1]);
    check(waitpid(pid, NULL, 0) == pid, "waitpid");
    return 0;
}
