/* Looks for what another process left: "stale" has children that fill their memory with a pattern and end, and others
 * (fresh programs, in whatever place comes next) that map memory and look for the pattern in what must be zero.
 * Prints that it saw the secret if one finds it. `tools/hostile_host.py` runs it under a host that lies about memory.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (1 << 20)
#define SECRET 0x7365637265742121u

static uint64_t bss[SIZE / 8];

static uint64_t *map(void) {
    void *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void fill(uint64_t *p, size_t n) {
    for (size_t i = 0; p && i < n; i++)
        p[i] = SECRET;
}

static void look(const uint64_t *p, size_t n) {
    for (size_t i = 0; p && i < n; i++)
        if (p[i]) {
            puts(p[i] == SECRET ? "the-other-process's-secret" : "not zero");
            return;
        }
}

/* A hole in what is mapped comes back as zeros, too. */
static void again(void) {
    uint64_t *p = map();
    if (!p)
        return;
    fill(p, SIZE / 8);
    if (munmap((char *)p + 65536, 65536) == 0 &&
        mmap((char *)p + 65536, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
        look(p + 65536 / 8, 65536 / 8);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        look(bss, SIZE / 8);
        look(map(), SIZE / 8);
        look(sbrk(SIZE), SIZE / 8);
        again();
        return 0;
    }
    for (int i = 0; i < 8; i++) {
        pid_t child = fork();
        if (child == 0) {
            if (i % 2) {
                execl("/proc/self/exe", argv[0], "look", (char *)NULL);
                _exit(1);
            }
            fill(bss, SIZE / 8);
            fill(map(), SIZE / 8);
            fill(sbrk(SIZE), SIZE / 8);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    return 0;
}
