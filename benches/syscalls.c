/* Four system calls that do next to nothing, so that the way in and out is what is measured.
 *
 * Usage: syscalls [COUNT] */
#include "bench.h"
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MEASURE(name, call)                                                                                            \
    do {                                                                                                               \
        double start = now_ns();                                                                                       \
        for (long i = 0; i < count; i++)                                                                               \
            check((call) >= 0, name);                                                                                  \
        report(name, (now_ns() - start) / (double)count);                                                              \
    } while (0)

int main(int argc, char **argv) {
    long count = count_argument(argc, argv, 1, 300000);
    char byte;
    char path[] = "/tmp/bench-syscalls-XXXXXX";
    int zero = open("/dev/zero", O_RDONLY);
    int file = mkstemp(path);
    check(zero >= 0 && file >= 0 && unlink(path) == 0, "open");
    MEASURE("getppid", syscall(SYS_getppid));
    MEASURE("fcntl", fcntl(zero, F_GETFD));
    MEASURE("lseek", lseek(file, 0, SEEK_SET));
    MEASURE("read-zero", read(zero, &byte, 1));
    return 0;
}
