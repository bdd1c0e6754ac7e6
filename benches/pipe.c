/* Throughput of a pipe between two processes: nanoseconds for each KiB, by size of the writes.
 *
 * Usage: pipe [MIB] (for the largest size; small writes move less) */
#include "bench.h"
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LARGEST = 65536 };
static char buffer[LARGEST];

static void drain(int in) {
    while (read(in, buffer, sizeof buffer) > 0) {
    }
    _exit(0);
}

/* Writes `total` bytes in pieces of `size` to a fresh reader; returns when the reader has taken all. */
static double transfer(size_t size, size_t total) {
    int ends[2];
    check(pipe(ends) == 0, "pipe");
    double start = now_ns();
    pid_t pid = fork();
    check(pid >= 0, "fork");
    if (pid == 0) {
        close(ends[1]);
        drain(ends[0]);
    }
    close(ends[0]);
    for (size_t sent = 0; sent < total; sent += size)
        check(write(ends[1], buffer, size) == (ssize_t)size, "write");
    close(ends[1]);
    check(waitpid(pid, NULL, 0) == pid, "waitpid");
    return (now_ns() - start) / ((double)total / 1024);
}

int main(int argc, char **argv) {
    size_t most = (size_t)count_argument(argc, argv, 1, 128) << 20;
    memset(buffer, 'x', sizeof buffer);
    for (size_t size = 64; size <= LARGEST; size *= 4) {
        char metric[32];
        size_t total = size < 4096 ? most / (4096 / size) : most;
        snprintf(metric, sizeof metric, "pipe-%zu", size);
        report(metric, transfer(size, total));
    }
    return 0;
}
