/* Changes code that has run, in each way that a program may, and prints what runs then: the old code must be gone from
 * where it was called directly, through a jump of code that did not change, and from the code that makes the change.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)
#define RX (PROT_READ | PROT_EXEC)

static sigjmp_buf back;

static void on_fault(int sig) {
    siglongjmp(back, sig);
}

/* mov $number,%eax ; ret */
static void put(unsigned char *to, unsigned char number) {
    const unsigned char bytes[] = {0xb8, number, 0, 0, 0, 0xc3};
    memcpy(to, bytes, sizeof bytes);
}

/* jmp to */
static void put_jump(unsigned char *at, unsigned char *to) {
    int rel = to - (at + 5);
    *at = 0xe9;
    memcpy(at + 1, &rel, 4);
}

static void *map(size_t len, int prot) {
    void *p = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        exit(2);
    return p;
}

static void call(const char *what, unsigned char *at) {
    int sig = sigsetjmp(back, 1);
    if (sig)
        printf("%s: signal %d\n", what, sig);
    else
        printf("%s: %d\n", what, ((int (*)(void))at)());
}

/* Memory that is writable and executable at once. */
static void both(void) {
    unsigned char *p = map(PAGE, RW | PROT_EXEC);
    put(p, 1);
    call("new", p);
    put(p, 2);
    call("written", p);
    if (madvise(p, PAGE, MADV_DONTNEED))
        exit(3);
    put(p, 3);
    call("written after MADV_DONTNEED", p);
    put(p, 4);
    call("written again", p);
}

/* A page that does not change jumps to one that does. */
static void neighbours(void) {
    unsigned char *p = map(2 * PAGE, RW);
    put_jump(p, p + PAGE);
    put(p + PAGE, 11);
    mprotect(p, 2 * PAGE, RX);
    call("through a jump", p);
    call("through a jump again", p);
    mprotect(p + PAGE, PAGE, RW);
    put(p + PAGE, 12);
    call("through a jump, not executable", p);
    mprotect(p + PAGE, PAGE, RX);
    call("through a jump, changed", p);
    call("through a jump, changed, again", p);
    munmap(p + PAGE, PAGE);
    call("through a jump, unmapped", p);
}

/* Code that unmaps the page it jumps to next: called with 0 it jumps, with another number it makes that call first. */
static void self(void) {
    unsigned char *p = map(2 * PAGE, RW);
    unsigned char code[] = {
        0x89, 0xf8,       /* mov %edi,%eax : system call, or 0 */
        0x48, 0x89, 0xf7, /* mov %rsi,%rdi */
        0x48, 0x89, 0xd6, /* mov %rdx,%rsi */
        0x85, 0xc0,       /* test %eax,%eax */
        0x74, 0x02,       /* je over */
        0x0f, 0x05,       /* syscall */
    };
    memcpy(p, code, sizeof code);
    put_jump(p + sizeof code, p + PAGE);
    put(p + PAGE, 21);
    mprotect(p, 2 * PAGE, RX);
    int (*f)(int, void *, size_t) = (int (*)(int, void *, size_t))p;
    for (int i = 0; i < 2; i++)
        printf("jumps: %d\n", f(0, p + PAGE, PAGE));
    int sig = sigsetjmp(back, 1);
    if (sig)
        printf("unmaps and jumps: signal %d\n", sig);
    else
        printf("unmaps and jumps: %d\n", f(SYS_munmap, p + PAGE, PAGE));
}

int main(void) {
    struct sigaction a = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &a, NULL);
    both();
    neighbours();
    self();
    return 0;
}
