/* What the small benchmark programs share: the clock, the report line, the check of a result.
 *
 * A program prints one line per metric: its name and the nanoseconds of one operation. tools/bench.py reads them. */
#ifndef BENCH_H
#define BENCH_H
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline void report(const char *metric, double ns) { printf("%s %.1f\n", metric, ns); }

static inline void check(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

/* The count given as argument `n`, or the default. */
static inline long count_argument(int argc, char **argv, int n, long otherwise) {
    return argc > n ? atol(argv[n]) : otherwise;
}
#endif
