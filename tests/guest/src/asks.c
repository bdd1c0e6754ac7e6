/* Asks for what enclaves do not have: `asks call|instruction|memory|files|nothing`. NUMBER is the number of a call. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#ifndef NUMBER
#define NUMBER 0
#endif
#ifdef LARGE
char large[LARGE];
#endif

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "nothing";
    if (strcmp(what, "call") == 0) {
        long result;
        __asm__ volatile("movl %1, %%eax\n\tsyscall" : "=a"(result) : "i"(NUMBER), "D"(-1L), "S"(0L), "d"(0L) : "rcx", "r11", "memory");
        return result == -38 ? 0 : 1;
    }
    if (strcmp(what, "instruction") == 0) {
        __asm__ volatile("vpxord %zmm0, %zmm0, %zmm0");
    } else if (strcmp(what, "memory") == 0) {
        return mmap(NULL, 8UL << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? 0 : 1;
    } else if (strcmp(what, "files") == 0) {
        struct rlimit limit = {10, 10};
        setrlimit(RLIMIT_NOFILE, &limit);
        for (int i = 0; i < 20; i++)
            open("/dev/null", O_RDONLY);
    }
    return 0;
}
