/* codestorm MAPPINGS KEPT: maps that many pages with code, each a mapping of its own, runs each, and keeps the last KEPT of
 * them mapped: translations that nobody maps any more have to go. Beside it a process computes without a system call, and
 * one function comes back again and again. Prints how many functions answered as they should.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 1024

/* mov $number, %eax; jmp over a gap; ret */
static void make(unsigned char *page, int number) {
    const unsigned char code[] = { 0xb8, 0, 0, 0, 0, 0xe9, 0x40, 0, 0, 0 };
    memcpy(page, code, sizeof code);
    memcpy(page + 1, &number, sizeof number);
    page[sizeof code + 0x40] = 0xc3;
}

static int run(void *code) {
    return ((int (*)(void))code)();
}

static uint64_t step(uint64_t x) {
    return x * 6364136223846793005u + 1442695040888963407u;
}

int main(int argc, char **argv) {
    int count = atoi(argv[1]), kept = atoi(argv[2]), good = 0, file = open("/tmp/code", O_RDWR | O_CREAT, 0700);
    volatile uint64_t *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned char page[PAGE] = "";
    void **all = calloc(count, sizeof *all);
    for (int i = 0; i < PAGES; i++)
        make(page, i * 3), pwrite(file, page, PAGE, (off_t)i * PAGE);
    if (fork() == 0) {
        uint64_t x = 1, steps = 0;
        while (!shared[0])
            x = step(x), steps++;
        shared[1] = x, shared[2] = steps;
        _exit(0);
    }
    void *same = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 7 * PAGE);
    char *place = mmap(NULL, (size_t)(kept + 1) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < count; i++) {
        int which = i % PAGES;
        void *at = place + (size_t)(i % (kept + 1)) * PAGE;
        all[i] = mmap(at, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, file, (off_t)which * PAGE);
        if (all[i] == MAP_FAILED)
            break;
        good += run(all[i]) == which * 3 && run(same) == 21;
    }
    shared[0] = 1;
    wait(NULL);
    uint64_t x = 1;
    for (uint64_t n = 0; n < shared[2]; n++)
        x = step(x);
    printf("%d of %d, %s\n", good, count, x == shared[1] && shared[2] ? "computed well" : "computed wrong");
    return 0;
}
