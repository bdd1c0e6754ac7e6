/* Faults at the ends of memory and in signal frames: what the handler is told, and who dies. */
#include "guest.h"
#include <setjmp.h>
#include <sys/resource.h>
#include <ucontext.h>

static char *alternate;
static sigjmp_buf back;
static volatile int handled;
static char *code_start;

static void tell(int sig, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    long rip = r[REG_RIP] - (long)code_start, rsp = r[REG_RSP];
    printf("signal %d, code %d, address %lx, rip +%lx, rsp %lx, rax %llx, error %llx, trap %lld\n", sig, info->si_code,
           (long)info->si_addr, rip >= 0 && rip < 4096 ? rip : -1, rsp < 0x10000 || rsp > 0xf0000000 && rsp < 0x100000000 ? rsp : -1, r[REG_RAX],
           info->si_code > 0 && info->si_code < 0x80 ? r[REG_ERR] : 0, info->si_code < 0x80 ? r[REG_TRAPNO] : 0);
    fflush(stdout);
    handled++;
    siglongjmp(back, 1);
}

static void handle(int sig, void (*f)(int, siginfo_t *, void *), int flags) {
    struct sigaction a = {.sa_sigaction = f, .sa_flags = SA_SIGINFO | flags};
    CHECK(sigaction(sig, &a, NULL) == 0);
}

static void prepare(void) {
    size_t size = 1 << 16;
    alternate = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t stack = {.ss_sp = alternate, .ss_size = size};
    CHECK(sigaltstack(&stack, NULL) == 0);
    handle(SIGSEGV, tell, SA_ONSTACK);
    handle(SIGBUS, tell, SA_ONSTACK);
}

/* Code that sets rsp to `rsp` and executes `what`; rax is 5. */
static void with_stack(const char *title, unsigned long rsp, const unsigned char *what, int len) {
    if (!code_start)
        code_start = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mprotect(code_start, 4096, PROT_READ | PROT_WRITE) == 0);
    unsigned char *at = (unsigned char *)code_start;
    static const unsigned char head[] = {0xb8, 5, 0, 0, 0, 0x48, 0x89, 0xfc}; /* mov $5,%eax ; mov %rdi,%rsp */
    memcpy(at, head, sizeof head);
    memcpy(at + sizeof head, what, len);
    memcpy(at + sizeof head + len, "\x0f\x0b", 2);
    CHECK(mprotect(code_start, 4096, PROT_READ | PROT_EXEC) == 0);
    printf("%s, rsp %lx: ", title, rsp);
    if (!sigsetjmp(back, 1))
        ((void (*)(unsigned long))code_start)(rsp);
}

#define FORM(...) (const unsigned char[]){__VA_ARGS__}, sizeof((const unsigned char[]){__VA_ARGS__})

CASE(ends_of_memory) {
    prepare();
    static const unsigned long places[] = {0, 1, 4, 7, 8, 9, 16, 0x80, 0x1000, 0x2008, 0xffff, 0xffff0000, 0xfffffff0};
    for (int i = 0; i < sizeof places / sizeof *places; i++) {
        unsigned long rsp = places[i];
        with_stack("push", rsp, FORM(0x50));
        with_stack("push $1", rsp, FORM(0x6a, 1));
        with_stack("pop", rsp, FORM(0x5b));
        with_stack("call", rsp, FORM(0xe8, 0, 0, 0, 0));
        with_stack("ret", rsp, FORM(0xc3));
        with_stack("load below", rsp, FORM(0x48, 0x8b, 0x44, 0x24, 0xf0));           /* mov -16(%rsp),%rax */
        with_stack("store below", rsp, FORM(0x48, 0x89, 0x44, 0x24, 0xf0));
        with_stack("store far below", rsp, FORM(0x89, 0x84, 0x24, 0, 0xe0, 0xff, 0xff)); /* mov %eax,-0x2000(%rsp) */
        with_stack("store above", rsp, FORM(0x48, 0x89, 0x44, 0x24, 0x10));
        with_stack("indirect call", rsp, FORM(0xff, 0xd0)); /* call *%rax */
    }
    CHECK(handled == 10 * sizeof places / sizeof *places);
}

/* sigreturn from a frame that can't be read, and from one whose vector state can't be. */
CASE(bad_sigreturn) {
    prepare();
    static const unsigned char call[] = {0xb8, 15, 0, 0, 0, 0x0f, 0x05};
    with_stack("no frame", 0x2000, call, sizeof call);
    char *half = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(half + 4096, 4096);
    memset(half, 0, 4096);
    if (!sigsetjmp(back, 1)) {
        printf("half a frame: ");
        code_start = half;
        __asm__ volatile("mov %0, %%rsp ; mov $15, %%eax ; syscall" : : "r"(half + 4096 - 64) : "rax", "memory");
    }
    CHECK(handled == 2);
}

/* Its vector state can't be read: SIGSEGV finds the registers of the frame. */
static void spoil(int sig, siginfo_t *info, void *context) {
    ((ucontext_t *)context)->uc_mcontext.fpregs = (void *)0x1008;
}
static volatile long marks[2];
static void look(int sig, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    marks[0] = r[REG_RBX];
    marks[1] = r[REG_RAX];
    sigset_t set;
    sigprocmask(SIG_BLOCK, NULL, &set);
    printf("code %d, address %p, USR1 blocked %d, SEGV %d\n", info->si_code, info->si_addr, sigismember(&set, SIGUSR1),
           sigismember(&set, SIGSEGV));
    fflush(stdout);
}
CASE(bad_vector_state) {
    handle(SIGUSR1, spoil, 0);
    handle(SIGSEGV, look, 0);
    long result = SYS_tgkill;
    register long rbx __asm__("rbx") = 4711;
    __asm__ volatile("syscall" : "+a"(result) : "D"(getpid()), "S"(syscall(SYS_gettid)), "d"(SIGUSR1), "r"(rbx)
                     : "rcx", "r11", "memory");
    CHECK(marks[0] == 4711 && marks[1] == 0 && result == 0);
}

static void in_child(const char *title, void (*f)(void)) {
    pid_t child = fork_clean();
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        f();
        _exit(0);
    }
    report(title, child);
}

static void signal_on_bad_stack(int sig) {
    code_start = NULL;
    printf("%s on a bad stack: ", strsignal(sig));
    fflush(stdout);
    if (!sigsetjmp(back, 1))
        __asm__ volatile("mov $0x3000, %%rsp ; syscall ; ud2"
                         : : "a"(SYS_tgkill), "D"(getpid()), "S"(syscall(SYS_gettid)), "d"(sig) : "rcx", "r11", "memory");
}
static void unused(int sig, siginfo_t *info, void *context) { _exit(3); }

static void usr1_reported(void) {
    prepare();
    handle(SIGUSR1, unused, 0);
    signal_on_bad_stack(SIGUSR1);
    handle(SIGUSR1, unused, SA_RESETHAND);
    signal_on_bad_stack(SIGUSR1);
    struct sigaction now;
    CHECK(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    sigset_t set;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &set) == 0 && !sigismember(&set, SIGUSR1) && handled == 2);
}
static void usr1_kills(void) {
    handle(SIGUSR1, unused, 0);
    signal_on_bad_stack(SIGUSR1);
}
static void segv_without_stack_kills(void) {
    handle(SIGUSR1, unused, 0);
    handle(SIGSEGV, unused, 0);
    signal_on_bad_stack(SIGUSR1);
}
static void segv_blocked_kills(void) {
    sigset_t set;
    prepare();
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    sigprocmask(SIG_BLOCK, &set, NULL);
    handle(SIGUSR1, unused, 0);
    signal_on_bad_stack(SIGUSR1);
}
static void segv_itself_kills(void) {
    prepare();
    handle(SIGSEGV, unused, 0);
    signal_on_bad_stack(SIGSEGV);
}
static void default_of_segv_kills(void) {
    handle(SIGUSR1, unused, SA_ONSTACK);
    signal(SIGSEGV, SIG_IGN);
    signal_on_bad_stack(SIGUSR1);
}
CASE(unwritable_handler_stack) {
    in_child("reported", usr1_reported);
    in_child("no handler", usr1_kills);
    in_child("no stack for the other either", segv_without_stack_kills);
    in_child("blocked", segv_blocked_kills);
    in_child("itself", segv_itself_kills);
    in_child("ignored", default_of_segv_kills);
}

/* An alternate stack that is too small for the next frame: what lies below it stays as it is. */
static volatile int depth;
static void deeper(int sig, siginfo_t *info, void *context) {
    depth++;
    raise(SIGUSR1);
}
static void overflow_alternate(void) {
    size_t size = 32768;
    char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(p, 7, 1 << 20);
    stack_t stack = {.ss_sp = p + (1 << 20) - size, .ss_size = size};
    CHECK(sigaltstack(&stack, NULL) == 0);
    handle(SIGUSR1, deeper, SA_ONSTACK | SA_NODEFER);
    raise(SIGUSR1);
}
CASE(alternate_stack_overflow) { in_child("overflow", overflow_alternate); }
