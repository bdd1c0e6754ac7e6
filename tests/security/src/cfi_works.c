/* Correct programs whose returns, calls and jumps are unusual: every line must be printed natively and at each level of
 * control-flow integrity. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

/* switch_to(&old, new): a coroutine switch that ends with `ret` on the other stack.
 * finish: where a coroutine's function returns, never called. back: behind a nop that stands for a call, as in Go.
 * retpoline(f): calls f by `ret`. pushed(f): the same with push. */
__asm__(".text\n"
        "switch_to: push %rbx; push %rbp; mov %rsp,(%rdi); mov %rsi,%rsp; pop %rbp; pop %rbx; ret\n"
        "finish: mov %rbx,%rdi; call leave_coroutine; hlt\n"
        "exit_of: nop; call behind_nop; hlt\n"
        "retpoline: call 1f; 2: pause; lfence; jmp 2b; 1: mov %rdi,(%rsp); ret\n"
        "pushed: push %rdi; ret\n"
        "resume_point: ret $128\n");
void switch_to(void **old, void *new), finish(void), exit_of(void), retpoline(void (*)(void)), pushed(void (*)(void));
void resume_point(void);

static void *main_sp, *other_sp;
static char stack[4][65536] __attribute__((aligned(16)));
static volatile int steps;

__attribute__((used)) void leave_coroutine(void) {
    puts("coroutine ended");
    switch_to(&other_sp, main_sp);
}
__attribute__((used)) void behind_nop(void) {
    puts("returned behind the nop");
    switch_to(&other_sp, main_sp);
}
static void body(void) {
    for (int i = 0; i < 3; i++) {
        steps++;
        switch_to(&other_sp, main_sp);
    }
}

/* A fresh stack: switch_to pops rbp and rbx and returns to body; body returns to `end`. */
static void coroutine(int n, uintptr_t end) {
    uintptr_t *top = (uintptr_t *)(stack[n] + sizeof stack[n] - 32);
    top[0] = end;
    *--top = (uintptr_t)body;
    *--top = 0;
    *--top = 0;
    other_sp = top;
    for (int i = 0; i < 4; i++)
        switch_to(&main_sp, other_sp);
    printf("%d steps\n", steps);
}

static void hello(void) { puts("hello"); }

static volatile int spins, edited;
/* What Go's preemption does: the handler pushes the interrupted rip, below the red zone, and goes on elsewhere, which
 * returns there with rsp as it was. */
static void preempt(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    greg_t *r = uc->uc_mcontext.gregs;
    r[REG_RSP] -= 128 + 8;
    *(greg_t *)r[REG_RSP] = r[REG_RIP];
    r[REG_RIP] = (greg_t)resume_point;
    edited++;
}
/* Most of its instructions are none that a call returns to. */
static void spin(void) {
    while (edited < 5)
        spins++;
}

static sigjmp_buf jump;
static volatile int depth;
static void nested(int sig) {
    if (++depth < 5)
        raise(SIGUSR2);
    if (depth == 5) {
        depth = 6;
        siglongjmp(jump, 1);
    }
}
static void plain(int sig) { depth++; }

static void signals(void) {
    struct sigaction sa = {.sa_sigaction = preempt, .sa_flags = SA_SIGINFO};
    sigaction(SIGALRM, &sa, 0);
    struct { long a, b, c, d; } it = {0, 2000, 0, 2000};
    extern int setitimer();
    setitimer(0, &it, 0);
    spin();
    struct { long a, b, c, d; } off = {0, 0, 0, 0};
    setitimer(0, &off, 0);
    printf("preempted %d times or more\n", edited >= 5 ? 5 : edited);
    sa = (struct sigaction){.sa_handler = nested, .sa_flags = SA_NODEFER};
    sigaction(SIGUSR2, &sa, 0);
    if (sigsetjmp(jump, 1) == 0)
        raise(SIGUSR2);
    printf("depth %d\n", depth);
    signal(SIGUSR1, plain);
    /* fork inside: the child returns from a handler of its own and from main's frames. */
    for (int i = 0; i < 3; i++)
        raise(SIGUSR1);
    fflush(stdout);
    if (fork() == 0) {
        raise(SIGUSR1);
        printf("child depth %d\n", depth);
        fflush(stdout);
        _exit(0);
    }
    wait(0);
}
static void fork_in_handler(int sig) {
    if (fork() != 0)
        wait(0);
}

/* Code that is written anew while a frame of it is on the stack: the return comes back behind the call. */
static unsigned char *code;
static void rewrite(void) {
    mprotect(code, 4096, PROT_READ | PROT_WRITE);
    code[64] = 0x90;
    mprotect(code, 4096, PROT_READ | PROT_EXEC);
}
static void jit(void) {
    code = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    /* push %rbx; mov %rdi,%rbx; call *%rbx; lea 7(%rax),%eax ...; pop %rbx; mov $41,%eax; inc %eax; ret */
    static const unsigned char bytes[] = {0x53, 0x48, 0x89, 0xfb, 0xff, 0xd3, 0x5b, 0xb8, 41, 0, 0, 0, 0xff, 0xc0, 0xc3};
    memcpy(code, bytes, sizeof bytes);
    mprotect(code, 4096, PROT_READ | PROT_EXEC);
    for (int i = 0; i < 3; i++)
        printf("jit %d\n", ((int (*)(void (*)(void)))code)(rewrite));
}

static ucontext_t main_context, generator;
static void generate(int from, int to) {
    for (int i = from; i < to; i++) {
        printf("%d ", i);
        swapcontext(&generator, &main_context);
    }
}
static void contexts(void) {
    getcontext(&generator);
    generator.uc_stack.ss_sp = stack[3];
    generator.uc_stack.ss_size = sizeof stack[3];
    generator.uc_link = &main_context;
    makecontext(&generator, (void (*)(void))generate, 2, 3, 6);
    for (int i = 0; i < 4; i++)
        swapcontext(&main_context, &generator);
    puts("end of contexts");
}

static int by_value(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
static int dispatch(int n) {
    switch (n) { /* a jump table */
    case 0: return 7; case 1: return 11; case 2: return 2 + printf("two\n"); case 3: return n * 31; case 4: return -n;
    case 5: return n ^ 99; case 6: return n << 3; case 7: return puts("seven") >= 0; default: return 0;
    }
}
static int labels(const char *p) {
    static void *const table[] = {&&stop, &&add, &&twice};
    int v = 1;
next:
    goto *table[(int)*p++];
add:
    v += 5;
    goto next;
twice:
    v *= 2;
    goto next;
stop:
    return v;
}

int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IOLBF, 0);
    coroutine(0, (uintptr_t)finish);
    steps = 0;
    coroutine(1, (uintptr_t)exit_of + 1);
    retpoline(hello);
    pushed(hello);
    signals();
    signal(SIGUSR1, fork_in_handler);
    raise(SIGUSR1);
    puts("after the fork in a handler");
    jit();
    contexts();
    int v[] = {3, 1, 2};
    qsort(v, 3, sizeof *v, by_value);
    int sum = 0;
    for (int i = 0; i < 9; i++)
        sum += dispatch((i + argc) % 9);
    printf("%d%d%d %d %d\n", v[0], v[1], v[2], sum, labels("\1\2\1\0"));
    int (*f)(const char *) = (int (*)(const char *))dlsym(RTLD_DEFAULT, "puts");
    if (f)
        f("by dlsym");
    if (vfork() == 0)
        _exit(3);
    int status;
    wait(&status);
    printf("vfork %d\n", WEXITSTATUS(status));
    return 0;
}
