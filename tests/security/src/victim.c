/* The neighbour that attacks must not reach: victim SEED. It fills memory, stack and vector registers with a secret word,
 * and for each byte on standard input works one round: checks all of it, mixes it into a digest, gives memory back and
 * takes new, and answers with '+' (or '!' if anything has changed). At the end it prints the digest; the caller knows it.
 * With a second argument it only fills memory and ends, so that its pages are somebody else's next.
 */
#define _GNU_SOURCE
#include "secret.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t *map(void *at, size_t size, int prot) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0);
    uint64_t *p = mmap(at, size, prot, flags, -1, 0);
    if (p == MAP_FAILED)
        _exit(3);
    return p;
}

static void fill(uint64_t *p, size_t n, uint64_t word) {
    for (size_t i = 0; i < n; i++)
        ((volatile uint64_t *)p)[i] = word;
}

/* Keeps the secret in all vector registers for a while; false if one of them has changed. */
static int vectors_hold(uint64_t word) {
    uint64_t equal;
    __asm__ volatile(
        "vmovq %1, %%xmm0\n vpbroadcastq %%xmm0, %%ymm0\n"
        ".irp n,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqa %%ymm0, %%ymm\\n\n .endr\n"
        "mov $200000, %%ecx\n 1: dec %%ecx\n jnz 1b\n"
        ".irp n,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vpcmpeqq %%ymm\\n, %%ymm0, %%ymm\\n\n vpand %%ymm\\n, %%ymm15, %%ymm15\n .endr\n"
        "vpmovmskb %%ymm15, %%ecx\n vmovq %%xmm0, %%rdx\n cmp %1, %%rdx\n mov $0, %0\n jne 2f\n"
        "not %%ecx\n test %%ecx, %%ecx\n jne 2f\n mov $1, %0\n 2:\n"
        : "=&r"(equal)
        : "r"(word)
        : "rcx", "rdx", "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
          "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    return equal;
}

int main(int argc, char **argv) {
    static const unsigned char code[] = {0xb8, 't', 'c', 'i', 'v', 0xc3}; /* mov $VICTIM_RAN,%eax; ret */
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0, word = secret_of(seed), digest = seed, stack[64];
    uint64_t *data = map((void *)(uintptr_t)DATA_AT, DATA_SIZE, PROT_READ | PROT_WRITE);
    char *own = (char *)map((void *)(uintptr_t)CODE_AT, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    memcpy(own, code, sizeof code);
    fill(data, DATA_SIZE / 8, word);
    fill((uint64_t *)(own + 0x800), 0x800 / 8, word);
    fill(stack, 64, word);
    if (argc > 2)
        return 0;
    char c;
    while (read(0, &c, 1) == 1) {
        int good = vectors_hold(word);
        for (size_t i = 0; i < DATA_SIZE / 8; i++) {
            good &= data[i] == word;
            digest = (digest ^ data[i]) * 0x100000001b3u + i;
        }
        for (size_t i = 0; i < 64; i++)
            good &= ((volatile uint64_t *)stack)[i] == word;
        good &= memcmp(own, code, sizeof code) == 0 && ((unsigned (*)(void))own)() == VICTIM_RAN;
        uint64_t *passing = map(NULL, 65536, PROT_READ | PROT_WRITE);
        fill(passing, 65536 / 8, word);
        munmap(passing, 65536);
        if (write(1, good ? "+" : "!", 1) != 1)
            return 4;
    }
    printf("%016llx\n", (unsigned long long)digest);
    return 0;
}
