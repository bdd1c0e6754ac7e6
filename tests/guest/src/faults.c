/* Faults: each offender dies by its own signal (or its handler sees the truth), a neighbour finishes unharmed. */
#include "guest.h"
#include <setjmp.h>
#include <sys/resource.h>
#include <ucontext.h>

/* A neighbour that computes and talks over a pipe while the offender dies. */
static pid_t neighbour(int gate) {
    pid_t child = fork_clean();
    if (child == 0) {
        char c;
        unsigned x = 1;
        char *memory = malloc(1 << 20);
        for (int i = 0; i < 1 << 20; i++)
            memory[i] = i * 7;
        read(gate, &c, 1);
        for (int i = 0; i < 1 << 20; i++)
            x = x * 31 + memory[i];
        _exit(x == 1342701569u ? 0 : (x & 0x7f) | 1);
    }
    return child;
}
static void offend(void (*crime)(void)) {
    int gate[2];
    CHECK(pipe(gate) == 0);
    pid_t other = neighbour(gate[0]);
    pid_t child = fork_clean();
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        crime();
        _exit(0);
    }
    report("offender", child);
    write(gate[1], "go", 2);
    report("neighbour", other);
}

static void null_read(void) { *(volatile int *)8; }
static void null_write(void) { *(volatile int *)0 = 1; }
static void null_call(void) { ((void (*volatile)(void))0)(); }
static void wild_read(void) { *(volatile int *)0x00000000deadb000; }
static void unmapped_after_end(void) {
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(p + 4096, 4096);
    for (int i = 0; i < 8192; i++)
        p[i] = 1;
}
static void read_only(void) {
    volatile char *text = (volatile char *)"constant";
    text[0] = 'X';
}
static void write_code(void) { *(volatile char *)(void *)null_read = 0; }
static volatile int zero;
static void divide(void) { zero = 10 / zero; }
static void divide_overflow(void) {
    volatile int low = INT_MIN, minus = -1;
    low = low / minus;
}
static int recurse(int depth) {
    volatile char frame[512];
    frame[depth & 511] = 1;
    return recurse(depth + 1) + frame[0];
}
static void stack_overflow(void) {
    struct rlimit limit = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_STACK, &limit);
    recurse(0);
}
static void undefined(void) { asm volatile("ud2"); }
static void breakpoint(void) { asm volatile("int3"); }
static void privileged(void) { asm volatile("hlt"); }
static void port(void) { asm volatile("outb %%al,$0x80" ::"a"(0)); }
static void other_interrupt(void) { asm volatile("int $0x99"); }
static void jump_to_data(void) {
    static unsigned char code[16] = {0xc3};
    ((void (*)(void))(void *)code)();
}
static void jump_to_heap(void) {
    char *p = malloc(64);
    p[0] = (char)0xc3;
    ((void (*)(void))(void *)p)();
}
static void return_to_nowhere(void) { asm volatile("push $0x1234; ret"); }
static void bad_stack(void) { asm volatile("mov $0x2000,%%esp; push %%rax; pop %%rax; call 1f; 1: ud2" ::: "memory"); }
static void past_file_end(void) {
    char path[] = "/tmp/guest-fault-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    ftruncate(fd, 100);
    char *p = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
    *(volatile char *)(p + 4096);
}
static void abort_now(void) { abort(); }

CASE(read_null) { offend(null_read); }
CASE(write_null) { offend(null_write); }
/* Where a branch to nowhere leaves the registers: rip at the target, the return address pushed or popped. */
static volatile uint64_t sp_before, return_to;
static void *nowhere[2];
static void show_landing(int sig, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    int64_t moved = r[REG_RSP] - sp_before;
    printf("signal %d code %d rip %s rsp %+d", sig, info->si_code, r[REG_RIP] == (greg_t)nowhere[0] ? "there" : "elsewhere", (int)moved);
    printf(" rbx %llx r11 %s", r[REG_RBX], r[REG_R11] == 0x11 ? "kept" : r[REG_R11] == (greg_t)nowhere[0] ? "target" : "lost");
    if (moved == -8)
        printf(" %s", *(uint64_t *)r[REG_RSP] == return_to ? "pushed" : "not pushed");
    puts("");
    fflush(stdout);
    _exit(0);
}
#define LANDING(name, instructions)                                                                          \
    static void name(void) {                                                                                 \
        asm volatile("lea 7f(%%rip), %%rax; mov %%rax, %1; mov $0x77, %%ebx; mov $0x11, %%r11d; mov %2, %%rcx;" \
                     "and $-16, %%rsp; sub $64, %%rsp; lea 64(%%rsp), %%rdx;" instructions "; 7: ud2"         \
                     : "=m"(sp_before), "=m"(return_to) : "m"(nowhere[0]), "D"(nowhere), "S"(&sp_before)      \
                     : "rax", "rbx", "rcx", "rdx", "r11", "memory");                                         \
    }
LANDING(land_call_register, "mov %%rsp, (%%rsi); call *%%rcx")
LANDING(land_call_memory, "mov %%rsp, (%%rsi); call *(%%rdi)")
LANDING(land_call_r11, "mov %%rsp, (%%rsi); mov %%rcx, %%r11; call *%%r11")
LANDING(land_jump_register, "mov %%rsp, (%%rsi); jmp *%%rcx")
LANDING(land_jump_memory, "mov %%rsp, (%%rsi); jmp *(%%rdi)")
LANDING(land_ret, "mov %%rcx, (%%rsp); mov %%rsp, (%%rsi); ret")
LANDING(land_ret_more, "mov %%rcx, (%%rsp); mov %%rsp, (%%rsi); ret $24")
static void land(void (*branch)(void)) {
    char *unreadable = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *data = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *targets[] = {(void *)0x20000, (void *)0x7ffe0000, unreadable, data + 8};
    for (int i = 0; i < 4; i++) {
        pid_t child = fork_clean();
        if (child == 0) {
            static char stack[1 << 16];
            stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
            sigaltstack(&alt, NULL);
            struct sigaction a = {.sa_sigaction = show_landing, .sa_flags = SA_SIGINFO | SA_ONSTACK};
            sigaction(SIGSEGV, &a, NULL);
            nowhere[0] = targets[i];
            branch();
        }
        report("branch", child);
    }
}
CASE(branches_to_nowhere) {
    land(land_call_register);
    land(land_call_memory);
    land(land_call_r11);
    land(land_jump_register);
    land(land_jump_memory);
    land(land_ret);
    land(land_ret_more);
}

CASE(call_null) { offend(null_call); }
CASE(read_wild) { offend(wild_read); }
CASE(write_past_a_mapping) { offend(unmapped_after_end); }
CASE(write_a_constant) { offend(read_only); }
CASE(write_own_code) { offend(write_code); }
CASE(divide_by_zero) { offend(divide); }
CASE(divide_too_large) { offend(divide_overflow); }
CASE(overflow_the_stack) { offend(stack_overflow); }
CASE(ud2) { offend(undefined); }
CASE(int3) { offend(breakpoint); }
CASE(hlt) { offend(privileged); }
CASE(out) { offend(port); }
CASE(int99) { offend(other_interrupt); }
CASE(execute_data) { offend(jump_to_data); }
CASE(execute_heap) { offend(jump_to_heap); }
CASE(return_nowhere) { offend(return_to_nowhere); }
CASE(stack_pointer_unmapped) { offend(bad_stack); }
CASE(past_the_end_of_a_file) { offend(past_file_end); }
CASE(call_abort) { offend(abort_now); }

static sigjmp_buf back;
static volatile uintptr_t seen_addr, seen_rip, seen_rax, seen_rcx, seen_rsp, seen_code, seen_trap;
static void observe(int signal, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    seen_addr = (uintptr_t)info->si_addr;
    seen_code = info->si_code;
    seen_rip = u->uc_mcontext.gregs[REG_RIP];
    seen_rax = u->uc_mcontext.gregs[REG_RAX];
    seen_rcx = u->uc_mcontext.gregs[REG_RCX];
    seen_rsp = u->uc_mcontext.gregs[REG_RSP];
    seen_trap = u->uc_mcontext.gregs[REG_TRAPNO];
    siglongjmp(back, signal);
}
static void watch(int signal) {
    struct sigaction a = {.sa_sigaction = observe, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(signal, &a, NULL);
}

extern char fault_load[], fault_store[], fault_div[], fault_ud2[], fault_pop[];
CASE(handlers_see_the_registers) {
    watch(SIGSEGV);
    watch(SIGFPE);
    watch(SIGILL);
    int s;
    if ((s = sigsetjmp(back, 1)) == 0)
        asm volatile(".globl fault_load; fault_load: movl (%%rcx,%%rax,4),%%edx" ::"a"(0x11), "c"(0x1000) : "rdx");
    printf("load: signal %d, code %ld, addr %#lx, rip %d, rax %#lx, rcx %#lx, trap %ld\n", s, (long)seen_code, seen_addr,
           seen_rip == (uintptr_t)fault_load, seen_rax, seen_rcx, (long)seen_trap);
    if ((s = sigsetjmp(back, 1)) == 0)
        asm volatile(".globl fault_store; fault_store: movb $1,(%%rcx)" ::"c"(fault_load), "a"(5));
    printf("store: signal %d, code %ld, addr %d, rip %d, rax %#lx\n", s, (long)seen_code, seen_addr == (uintptr_t)fault_load,
           seen_rip == (uintptr_t)fault_store, seen_rax);
    if ((s = sigsetjmp(back, 1)) == 0)
        asm volatile("xor %%edx,%%edx; .globl fault_div; fault_div: divl %%ecx" ::"a"(77), "c"(0) : "rdx");
    printf("div: signal %d, code %ld, addr %d, rip %d, rax %#lx\n", s, (long)seen_code, seen_addr == (uintptr_t)fault_div,
           seen_rip == (uintptr_t)fault_div, seen_rax);
    if ((s = sigsetjmp(back, 1)) == 0)
        asm volatile(".globl fault_ud2; fault_ud2: ud2" ::"a"(78));
    printf("ud2: signal %d, code %ld, addr %d, rip %d, rax %#lx\n", s, (long)seen_code, seen_addr == (uintptr_t)fault_ud2,
           seen_rip == (uintptr_t)fault_ud2, seen_rax);
}

CASE(guard_pages_move_on) {
    /* Each fault makes one more page writable: every page exactly once. */
    static char *area;
    static int faults;
    area = mmap(NULL, 64 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction a = {.sa_flags = SA_SIGINFO};
    void open_page(int signal, siginfo_t *info, void *context) {
        faults++;
        mprotect((void *)((uintptr_t)info->si_addr & ~4095ul), 4096, PROT_READ | PROT_WRITE);
        (void)signal, (void)context;
    }
    a.sa_sigaction = open_page;
    sigaction(SIGSEGV, &a, NULL);
    for (int i = 0; i < 64 * 4096; i += 512)
        area[i]++;
    memset(area, 5, 64 * 4096);
    printf("faults %d\n", faults);
}

CASE(stack_overflow_handled) {
    static char alt[65536];
    stack_t st = {.ss_sp = alt, .ss_size = sizeof alt};
    sigaltstack(&st, NULL);
    struct rlimit limit = {1 << 20, RLIM_INFINITY};
    setrlimit(RLIMIT_STACK, &limit);
    watch(SIGSEGV);
    for (int i = 0; i < 3; i++) {
        int s = sigsetjmp(back, 1);
        if (s == 0)
            recurse(0);
        printf("signal %d\n", s);
    }
}

CASE(fault_in_a_handler_kills) {
    offend(stack_overflow);
    pid_t child = fork_clean();
    if (child == 0) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGSEGV);
        sigprocmask(SIG_BLOCK, &set, NULL);
        signal(SIGSEGV, SIG_IGN);
        null_write();
        _exit(0);
    }
    report("blocked and ignored", child);
}

CASE(fault_ends_the_whole_process) {
    /* One thread's fault ends all threads of the process. */
    offend(null_read);
    pid_t child = fork_clean();
    if (child == 0) {
        char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        int thread(void *unused) {
            (void)unused;
            null_write();
            return 0;
        }
        clone(thread, stack + 65536, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, NULL);
        for (;;)
            pause();
    }
    report("process", child);
}
