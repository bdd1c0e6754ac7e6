/* Control flow that does not return the usual way: setjmp, makecontext, tail calls, function pointers, deep recursion. */
#include "guest.h"
#include <setjmp.h>
#include <ucontext.h>

static jmp_buf buffer;
static void deep(int n) {
    volatile char frame[100];
    frame[0] = n;
    if (n == 0)
        longjmp(buffer, 5);
    deep(n - 1);
    frame[1] = n;
}
CASE(long_jumps) {
    volatile int jumps = 0;
    int value = setjmp(buffer);
    if (value == 0)
        deep(100);
    if (++jumps < 10)
        deep(jumps * 50);
    printf("%d jumps, value %d\n", jumps, value);
}

CASE(masks_are_restored) {
    sigjmp_buf b;
    sigset_t set, now;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    if (sigsetjmp(b, 1) == 0) {
        sigprocmask(SIG_BLOCK, &set, NULL);
        siglongjmp(b, 1);
    }
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("blocked %d\n", sigismember(&now, SIGUSR1));
}

static ucontext_t main_context, generator;
static int produced;
static void generate(int from, int to) {
    for (int i = from; i < to; i++) {
        produced = i;
        swapcontext(&generator, &main_context);
    }
    produced = -1;
}
CASE(contexts) {
    static char stack[65536];
    getcontext(&generator);
    generator.uc_stack.ss_sp = stack;
    generator.uc_stack.ss_size = sizeof stack;
    generator.uc_link = &main_context;
    makecontext(&generator, (void (*)(void))generate, 2, 3, 9);
    for (;;) {
        swapcontext(&main_context, &generator);
        if (produced < 0)
            break;
        printf("%d ", produced);
    }
    puts("end");
}

static ucontext_t ring[10], home;
static int hops;
static void hop(int me) {
    while (hops < 5000) {
        hops++;
        swapcontext(&ring[me], &ring[(me + 1) % 10]);
    }
    setcontext(&home);
}
CASE(ring_of_contexts) {
    static char stacks[10][32768];
    volatile int back = 0;
    for (int i = 0; i < 10; i++) {
        getcontext(&ring[i]);
        ring[i].uc_stack.ss_sp = stacks[i];
        ring[i].uc_stack.ss_size = sizeof stacks[i];
        ring[i].uc_link = NULL;
        makecontext(&ring[i], (void (*)(void))hop, 1, i);
    }
    getcontext(&home);
    if (!back++)
        setcontext(&ring[0]);
    printf("%d hops\n", hops);
}

static int ackermann(int m, int n) {
    return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}
static int add(int a, int b) { return a + b; }
static int sub(int a, int b) { return a - b; }
static int mul(int a, int b) { return a * b; }
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
CASE(recursion_and_pointers) {
    printf("%d\n", ackermann(2, 300));
    int (*volatile table[])(int, int) = {add, sub, mul};
    int x = 1;
    for (int i = 0; i < 30000; i++)
        x = table[i % 3](x, i) & 0xffff;
    printf("%d\n", x);
    int a[1000], y = 1;
    for (int i = 0; i < 1000; i++)
        a[i] = (y = y * 1103515245 + 12345) >> 8 & 0xffff;
    qsort(a, 1000, sizeof *a, compare);
    int sorted = 1;
    for (int i = 1; i < 1000; i++)
        sorted &= a[i - 1] <= a[i];
    printf("sorted %d\n", sorted);
}

static int classify(int x) {
    switch (x) {
    case 0: return 10;
    case 1: return x * 7 + 3;
    case 2: return 99;
    case 3: return x - 50;
    case 4: return 12;
    case 5: return x << 3;
    case 6: return 1;
    case 7: return x ^ 21;
    default: return -1;
    }
}
CASE(jump_tables) {
    int sum = 0;
    for (int i = 0; i < 1000; i++)
        sum += classify(i * 7 % 11);
    printf("%d\n", sum);
    static void *const labels[] = {&&one, &&two, &&three, &&end};
    int n = 0, total = 0;
    goto *labels[0];
one:
    total += 1;
    goto *labels[++n % 3];
two:
    total += 10;
    goto *labels[++n % 3];
three:
    total += 100;
    n++;
    goto *labels[n > 300 ? 3 : 0];
end:
    printf("%d\n", total);
}
