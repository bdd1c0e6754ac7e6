/* The two calls that servers make for the time: no system call where there is a vDSO.
 *
 * Usage: clocks [COUNT] */
#include "bench.h"
#include <sys/time.h>
#include <time.h>

int main(int argc, char **argv) {
    long count = count_argument(argc, argv, 1, 1000000);
    struct timespec t;
    struct timeval tv;
    double start = now_ns();
    for (long i = 0; i < count; i++)
        check(clock_gettime(CLOCK_MONOTONIC, &t) == 0, "clock_gettime");
    report("clock-gettime", (now_ns() - start) / (double)count);
    start = now_ns();
    for (long i = 0; i < count; i++)
        check(gettimeofday(&tv, NULL) == 0, "gettimeofday");
    report("gettimeofday", (now_ns() - start) / (double)count);
    return 0;
}
