/* Attacks by return addresses that overlap: calls and returns with rsp not aligned, in a file so large that its calls may
 * leave more than the return address, wherever that is kept. What a return finds is then made of parts of two calls.
 */
#include "attack.h"
#include <sys/time.h>

#define LENGTH (5 << 20)
#define AT 0x30000000 /* of the file's code, so that its return addresses are chosen */
#define BYTES(text) text, sizeof text - 1

static void put(int fd, int at, const char *bytes, size_t n) {
    if (pwrite(fd, bytes, n, at) != (ssize_t)n)
        _exit(70);
}

static void branch(int fd, int at, char opcode, int to) {
    char bytes[5] = {opcode};
    int distance = to - (at + 5);
    memcpy(bytes + 1, &distance, 4);
    put(fd, at, BYTES("\x90\x90\x90\x90\x90"));
    put(fd, at, bytes, 5);
}

/* Code that calls at `word`, calls from `site` at `word` + `by`, and returns by what then stands at `word`. */
static void *code(int by, int site) {
    enum { FIRST = 0x80, SECOND = 0x100 };
    char name[] = "/tmp/framesXXXXXX", up = (char)(8 + by), down = (char)-by;
    int fd = mkstemp(name);
    if (fd < 0 || unlink(name) || ftruncate(fd, LENGTH))
        _exit(70);
    /* mov %rsp,0x100(%rdi) ; lea 8(%rdi),%rsp ; call FIRST ; mov 0x100(%rdi),%rsp ; ret */
    put(fd, 0, BYTES("\x48\x89\xa7\0\1\0\0\x48\x8d\x67\x08"));
    branch(fd, 11, 0xe8, FIRST);
    put(fd, 16, BYTES("\x48\x8b\xa7\0\1\0\0\xc3"));
    /* FIRST: lea 8+by(%rdi),%rsp ; jmp to the call of SECOND */
    put(fd, FIRST, BYTES("\x48\x8d\x67"));
    put(fd, FIRST + 3, &up, 1);
    branch(fd, FIRST + 4, 0xe9, site - 5);
    branch(fd, site - 5, 0xe8, SECOND);
    put(fd, site, BYTES("\x90\x0f\x0b"));
    /* SECOND: lea -by(%rsp),%rsp ; ret */
    put(fd, SECOND, BYTES("\x48\x8d\x64\x24"));
    put(fd, SECOND + 4, &down, 1);
    put(fd, SECOND + 5, BYTES("\xc3"));
    void *at = mmap((void *)AT, LENGTH, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0);
    close(fd);
    return at == MAP_FAILED ? NULL : at;
}

/* Each way to overlap; the return addresses are such that their bytes, or the complements, are wild addresses' parts. */
IN_C("frame", overlapping_frames, "V9,R20") {
    static const unsigned parts[] = {0x1234, 0x2008, 0x2010, 0x4000, 0xffff, 0x0001};
    char *stack = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int by = -7; by < 8; by++)
        for (unsigned i = 0; by && i < 2 * sizeof parts / sizeof *parts; i++) {
            unsigned site = i % 2 ? parts[i / 2] : ~parts[i / 2] & 0xffff;
            tried();
            if (!in_child())
                continue;
            /* 0x10000 more: the places of the code itself are lower. */
            void *run = code(by, 0x10000 + (int)site);
            if (!run)
                _exit(70);
            /* Some go round and round. */
            setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_usec = 20000}, NULL);
            /* Twice: what is kept may come in with the first. */
            for (int n = 0; n < 2; n++)
                ((void (*)(void *))run)(stack + (1 << 15));
            _exit(0);
        }
}
