/* Attacks on invariants that the other files do not reach by their nature: ends of code, r11, direct branches at the edges
 * of the slot, the stubs, links and table entries, spill slots under nested handlers, stores of translated code, fork
 * beside threads, and what the processor says of itself.
 */
#include "attack.h"
#include <sched.h>
#include <setjmp.h>
#include <sys/auxv.h>

#define RACE_MS 50
#define IMAGE 0x20000000u
#define CACHE 0x40000000u

static uint64_t random_state;
static uint64_t next_random(void) {
    random_state = random_state * 6364136223846793005u + (seed | 1);
    return random_state >> 24;
}

/* Executable memory of `pages` pages, at `at` if that is not 0. */
static unsigned char *code_at(uintptr_t at, unsigned pages) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED_NOREPLACE : MAP_32BIT);
    void *p = mmap((void *)at, pages * 4096ul, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0);
    if (p == MAP_FAILED)
        _exit(2);
    return p;
}
static int run_at(const void *code) {
    registers(DATA_AT + 0xc000);
    run((void (*)(void))(uintptr_t)code);
    if ((uint32_t)after[RAX] == VICTIM_RAN)
        escaped("ran the victim's code", (uintptr_t)code);
    check_registers();
    return fault;
}
static void must_segv(const void *code, const char *what) {
    if (run_at(code) != SIGSEGV)
        escaped(what, (uintptr_t)code);
}

/* ---- V3: code ends where its bytes end ---- */
IN_C("end", end_in_page_without_right, "V3") {
    unsigned char *p = code_at(0, 2);
    memcpy(p + 4090, "\x48\xb8\x00\x00\x00\x00\x00\x00\x00\x00\xc3", 11); /* movabs over the edge; ret */
    mprotect(p + 4096, 4096, PROT_READ);
    must_segv(p + 4090, "half of it was not executable");
}
IN_C("end", end_in_prefixes, "V3") {
    unsigned char *p = code_at(0, 2);
    munmap(p + 4096, 4096);
    memset(p, 0x2e, 4096);
    for (int i = 1; i < 20; i++)
        if (!run_at(p + 4096 - i))
            escaped("prefixes alone ran", i);
}
IN_C("end", end_changes_meanwhile, "V3") {
    unsigned char *p = code_at(0, 2);
    for (int i = 0; i < 200; i++) {
        p[4095] = 0xb8; /* mov $imm,%eax: its immediate comes and goes */
        memcpy(p + 4096, "\x01\x00\x00\x00\xc3", 5);
        if (run_at(p + 4095) || (uint32_t)after[RAX] != 1)
            escaped("code that is there did not run", after[RAX]);
        mprotect(p + 4096, 4096, PROT_NONE);
        must_segv(p + 4095, "ran over the end");
        mprotect(p + 4096, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    }
}
/* ---- V7: r11 holds rubbish in many fragments; nobody may see it ---- */
#define SHOW_R11 "mov %r11, %rax; push %r11; pop %rcx; movzbl %r11b, %edx; mov %r11, (%rsi)\n"
#define R11(id, text) SNIPPET(id, text) ATTACK("register", id, "V7", once, id)
R11(r11_after_rebase, "mov %rsp, %r15; mov %rsi, %rsp; mov %r15, %rsp; mov $0x110e, %r15d\n" SHOW_R11)
R11(r11_after_string, "lea 64(%rsi), %rdi; mov $8, %ecx; rep movsb; lea 64(%rsi), %rdi; mov $0x50008000, %esi\n" SHOW_R11)
R11(r11_after_segment, "mov %fs:0, %rax; mov %rax, %fs:0; add %rax, %fs:8; sub %rax, %fs:8\n" SHOW_R11)
R11(r11_after_transfers, "call 1f; jmp 2f; 1: ret; 2: lea 3f(%rip), %rax; jmp *%rax; 3: push $4f; ret; 4:\n" SHOW_R11)
R11(r11_after_entries, "mov $39, %eax; syscall; mov %r11, (%rsi); xor %eax, %eax; cpuid; mov $0x1101, %ebx; mov $0x50008000, %esi; mov %rsp, %r11; mov %r11, 8(%rsi)\n" SHOW_R11)
R11(r11_in_a_loop, "mov $1000, %ecx; 1: push %rbp; mov %rsp, %rbp; sub $64, %rsp; and $-32, %rsp; leave; xchg %r11, %rax; xchg %r11, %rax; dec %ecx; jnz 1b\n" SHOW_R11)

/* ---- V11: direct branches at the edges ---- */
static void branch_from(uintptr_t at, unsigned char opcode, int32_t rel) {
    unsigned char *p = code_at(at & -4096ul, 1) + (at & 4095);
    memcpy(p, "\x48\x39\xc0", 3); /* cmp %rax,%rax: a je is taken */
    p += 3;
    if (opcode == 0x84)
        *p++ = 0x0f;
    *p++ = opcode;
    memcpy(p, &rel, 4);
    p[4] = 0xc3;
    must_segv((void *)at, "a branch out of the slot led somewhere");
}
IN_C("branch", branch_below_zero, "V11") { branch_from(0x10000, 0xe9, -0x20000); }
IN_C("branch", branch_below_zero_call, "V11") { branch_from(0x10800, 0xe8, -0x7fffffff); }
IN_C("branch", branch_above_executable, "V11") { branch_from(0x7ffef000, 0xe9, 0x7ffff000); }
IN_C("branch", branch_jcc_above, "V11") { branch_from(0x7ffef800, 0x84, 0x10000); }

/* ---- V12: the stubs are no place for programs ---- */
static uint64_t stub_target;
static void call_target(void) { run_at((void *)(uintptr_t)stub_target); }
SNIPPET(stub_by_jump, "lea 9f(%rip), %rcx; mov %rdi, %r11; jmp *%rdi; 9:")
SNIPPET(stub_by_return, "lea 9f(%rip), %rcx; push %rdi; mov %edi, %r11d; ret; 9:")
SNIPPET(stub_by_memory, "mov %rdi, (%rsi); mov %rdi, 64(%rsi); mov %rsi, %r11; jmp *64(%r11); 9:")
static void each_stub(void (*how)(void)) {
    for (unsigned i = 0; i < 3000; i++) {
        stub_target = i < 1500 ? IMAGE + (next_random() % (1 << 20)) : CACHE + next_random() % (4 << 20);
        if (i % 2)
            stub_target &= -16ull;
        if (mine(stub_target))
            continue;
        registers(stub_target);
        if (how)
            run(how);
        else
            call_target();
        if (fault != SIGSEGV)
            escaped("a place of the LibOS was reached", stub_target);
        check_registers();
    }
}
IN_C("stub", stubs_called, "V12") { each_stub(NULL); }
IN_C("stub", stubs_jumped_to, "V12") { each_stub(stub_by_jump); }
IN_C("stub", stubs_returned_to, "V12") { each_stub(stub_by_return); }
IN_C("stub", stubs_through_memory, "V12") { each_stub(stub_by_memory); }
static void on_stub(int sig, siginfo_t *info, void *context) {
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = stub_target;
}
SNIPPET(raise_usr2, "mov $39, %eax; syscall; mov %eax, %edi; mov $12, %esi; mov $62, %eax; syscall; xor %eax, %eax")
IN_C("stub", stubs_by_sigreturn, "V12,R20") {
    struct sigaction act = {.sa_sigaction = on_stub, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaction(SIGUSR2, &act, NULL);
    for (unsigned i = 0; i < 1000; i++) {
        stub_target = (i % 2 ? IMAGE : CACHE) + (next_random() % (1 << 20));
        registers(stub_target);
        if (run(raise_usr2) != SIGSEGV)
            escaped("a place of the LibOS was reached", stub_target);
        check_registers();
    }
}

/* ---- V13, V14, R21: links and table entries of code that comes and goes ---- */
static const unsigned char yes[] = {0xb8, 1, 0, 0, 0, 0xc3}, no[] = {0xb8, 2, 0, 0, 0, 0xc3};

/* A caller that is linked to a callee on the next page, whose page then changes by `change`. */
static unsigned char *linked(void) {
    unsigned char *p = code_at(0, 2);
    int32_t rel = 4096 - 5;
    p[0] = 0xe9;
    memcpy(p + 1, &rel, 4);
    memcpy(p + 4096, yes, sizeof yes);
    for (int i = 0; i < 3; i++)
        if (run_at(p) || (uint32_t)after[RAX] != 1)
            escaped("linked code went astray", after[RAX]);
    return p;
}
IN_C("link", link_to_unmapped, "V13") {
    unsigned char *p = linked();
    munmap(p + 4096, 4096);
    must_segv(p, "a link outlived its target");
}
IN_C("link", link_to_other_code, "V13") {
    unsigned char *p = linked();
    mmap(p + 4096, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memcpy(p + 4096, no, sizeof no);
    if (run_at(p) || (uint32_t)after[RAX] != 2)
        escaped("a link led to old code", after[RAX]);
}
IN_C("link", link_to_data, "V13") {
    unsigned char *p = linked();
    mprotect(p + 4096, 4096, PROT_READ | PROT_WRITE);
    must_segv(p, "a link led to what is no code any more");
}
IN_C("link", link_moved, "V13,V14") {
    unsigned char *p = linked();
    if (mremap(p + 4096, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, p + 65536) == MAP_FAILED)
        _exit(2);
    must_segv(p, "a link led to where code was");
}
/* Branches at each place of a 16-byte line: none of their displacements may be torn while others run them. */
static unsigned char *line;
static volatile int over;
static void *run_line(void *unused) {
    while (!over)
        for (int i = 0; i < 64; i++)
            ((void (*)(void))(line + 64 * i + i % 16))();
    return NULL;
}
IN_C("link", link_patched_under_way, "V13,R21") {
    for (int round = 0; round < 12; round++) {
        pthread_t t[3];
        unsigned char *code = code_at(0, 2);
        for (int i = 0; i < 64; i++) {
            unsigned char *at = code + 64 * i + i % 16;
            int32_t rel = (int32_t)(code + 4096 + 16 * i - (at + 5));
            *at = 0xe9;
            memcpy(at + 1, &rel, 4);
            code[4096 + 16 * i] = 0xc3;
        }
        line = code;
        over = 0;
        for (int i = 0; i < 3; i++)
            if (pthread_create(&t[i], NULL, run_line, NULL))
                _exit(2);
        tried();
        usleep(3000);
        over = 1;
        for (int i = 0; i < 3; i++)
            pthread_join(t[i], NULL);
    }
}
IN_C("link", link_chain_broken, "R21") {
    unsigned char *p = code_at(0, 64);
    for (int i = 0; i < 63; i++)
        memcpy(p + 4096 * i, "\xe9\xfb\x0f\x00\x00", 5);
    memcpy(p + 4096 * 63, yes, sizeof yes);
    for (int i = 62; i > 0; i -= 7) {
        if (run_at(p) || (uint32_t)after[RAX] != 1)
            escaped("a chain of links went astray", i);
        mprotect(p + 4096 * i, 4096, PROT_READ);
        must_segv(p, "a chain went over what is no code");
        mprotect(p + 4096 * i, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    }
}
SNIPPET(call_di, "call *%rdi")
static void entry_after(int how) {
    unsigned char *p = code_at(0, 2);
    memcpy(p, yes, sizeof yes);
    registers((uintptr_t)p);
    if (run(call_di) || (uint32_t)after[RAX] != 1)
        escaped("called code went astray", after[RAX]);
    if (how == 0)
        munmap(p, 4096);
    else if (how == 1)
        mprotect(p, 4096, PROT_READ);
    else
        madvise(p, 4096, MADV_DONTNEED); /* zeros: add %al,(%rax) */
    registers((uintptr_t)p);
    before[RAX] = 0;
    if (run(call_di) != SIGSEGV)
        escaped("a table entry outlived its code", how);
    check_registers();
}
IN_C("link", entry_of_unmapped, "V14") { entry_after(0); }
IN_C("link", entry_of_data, "V14") { entry_after(1); }
IN_C("link", entry_of_discarded, "V14,V13") { entry_after(2); }

/* ---- R23: spill slots under handlers that use them, too ---- */
SNIPPET(spilling, "mov $200, %r13d; 1: lea 64(%rsi), %rdi; mov $0x50008000, %esi; mov $32, %ecx; rep movsb; mov $0x50008000, %esi; mov %fs:0, %r10; mov %rsp, %r14; lea (%r14), %rsp; xchg %rsp, %r14; xchg %rsp, %r14; dec %r13d; jnz 1b; cmp $0x110a, %r11d; je 2f; ud2; 2: mov $0x110d, %r14d; mov $0x1109, %r10d")
static volatile unsigned handled;
static volatile int nested;
static void on_nested(int sig, siginfo_t *info, void *context) {
    handled++;
    uint64_t r11 = 0x7777, rbx = 0x8888, out11, outbx;
    __asm__ volatile("mov %2, %%r11; mov %3, %%rbx; mov %%fs:0, %%rax; push %%rsp; pop %%rax; call 1f; jmp 2f; 1: ret; 2: mov %%r11, %0; mov %%rbx, %1"
                     : "=r"(out11), "=r"(outbx)
                     : "r"(r11), "r"(rbx)
                     : "rax", "rbx", "r11", "memory");
    if (out11 != r11 || outbx != rbx)
        escaped("a handler's registers changed", out11);
    if (nested && handled % 4 == 0)
        raise(SIGUSR1);
}
static void *send_usr1(void *pid) {
    while (!over) {
        syscall(SYS_tgkill, getpid(), (pid_t)(intptr_t)pid, SIGUSR1);
        for (volatile int i = 0; i < 20000; i++)
            ;
    }
    return NULL;
}
static void under_signals(int flags) {
    struct sigaction act = {.sa_sigaction = on_nested, .sa_flags = SA_SIGINFO | SA_RESTART | flags};
    sigaction(SIGUSR1, &act, NULL);
    pthread_t t;
    over = 0;
    if (pthread_create(&t, NULL, send_usr1, (void *)(intptr_t)syscall(SYS_gettid)))
        _exit(2);
    for (uint64_t end = now_ms() + RACE_MS; now_ms() < end;) {
        registers(DATA_AT + 0x8000);
        if (run(spilling))
            escaped("a register changed under a handler", fault_rip);
        check_registers();
    }
    over = 1;
    pthread_join(t, NULL);
}
IN_C("spill", spill_under_handlers, "R23") { under_signals(SA_ONSTACK); }
IN_C("spill", spill_under_nested_handlers, "R23") {
    nested = 1;
    under_signals(SA_ONSTACK);
}
static sigjmp_buf out;
static void on_leave(int sig) { siglongjmp(out, 1); }
IN_C("spill", spill_left_by_longjmp, "R23") {
    struct sigaction act = {.sa_handler = on_leave, .sa_flags = SA_ONSTACK};
    sigaction(SIGALRM, &act, NULL);
    for (int i = 0; i < 20; i++) {
        tried();
        if (sigsetjmp(out, 1) == 0) {
            ualarm(500 + i * 37, 0);
            for (;;) {
                registers(DATA_AT + 0x8000);
                run(spilling);
            }
        }
        registers(DATA_AT + 0x8000);
        if (run(spilling))
            escaped("a register of the past", fault_rip);
        check_registers();
    }
    alarm(10);
}

/* ---- R25: returns to what no call left behind ---- */
SNIPPET(return_to_rdi, "lea 9f(%rip), %rax; push %rax; push %rdi; ret; 9:")
static void return_to(uint64_t where, int sig) {
    registers(where);
    if (run(return_to_rdi) != sig)
        escaped("a forged return went through", where);
    check_registers();
}
IN_C("return", return_to_data, "R25") { return_to(DATA_AT + 0x100, SIGSEGV); }
IN_C("return", return_to_stack, "R25") {
    static const unsigned char ret = 0xc3;
    volatile unsigned char own[64];
    memset((void *)own, ret, sizeof own);
    return_to((uintptr_t)own, SIGSEGV);
}
IN_C("return", return_to_unreadable, "R25") {
    unsigned char *p = code_at(0, 1);
    memcpy(p, yes, sizeof yes);
    mprotect(p, 4096, PROT_NONE);
    return_to((uintptr_t)p, SIGSEGV);
}

/* ---- R28: storms of code, which are the stormer's own ---- */
/* What they compute may look like an address; only the secret counts. */
static void run_storm(const void *code) {
    registers(DATA_AT + 0xc000);
    run((void (*)(void))(uintptr_t)code);
    for (int i = 0; i < REGS; i++)
        if (is_secret(after[i], seed))
            escaped("secret in register", i);
}
IN_C("storm", storm_of_regions, "R28") {
    for (int i = 0; i < 400; i++) {
        unsigned char *p = code_at(0, 1);
        memcpy(p, yes, sizeof yes);
        run_storm(p);
        if (i % 2)
            munmap(p, 4096);
    }
}
IN_C("storm", storm_of_tables, "R28") {
    unsigned char *p = code_at(0, 4000);
    for (int i = 0; i < 4000; i++)
        p[4096ul * i + i % 4096] = 0xc3;
    for (int i = 0; i < 4000; i++)
        run_storm(p + 4096ul * i + i % 4096);
}
IN_C("storm", storm_of_exits, "R28") {
    unsigned char *p = code_at(0, 16);
    for (unsigned i = 0; i + 8 < 16 * 4096; i += 6) { /* jcc to everywhere */
        int32_t rel = next_random() % (1 << 16);
        p[i] = 0x0f;
        p[i + 1] = 0x84;
        memcpy(p + i + 2, &rel, 4);
    }
    for (int i = 0; i < 20; i++) {
        unsigned char *at[25];
        for (int j = 0; j < 25; j++)
            at[j] = p + next_random() % (15 * 4096);
        if (in_child()) { /* decoded from the middle, it may loop for ever or write over what its own process needs */
            alarm(1);
            for (int j = 0; j < 25; j++)
                run_storm(at[j]);
            _exit(0);
        }
    }
}
IN_C("storm", storm_of_overlapping_code, "R28") {
    unsigned char *p = code_at(0, 4);
    memset(p, 0xc3, 4 * 4096);
    for (int i = 0; i < 2 * 4096; i++)
        p[i] = "\x48\xb8\x66\x90"[next_random() % 4];
    for (int i = 0; i < 2 * 4096; i++)
        run_storm(p + i);
}

/* ---- R29: fork beside threads that change what is copied ---- */
static char *moving;
static void *remap(void *unused) {
    while (!over) {
        munmap(moving, 65536);
        mmap(moving, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        memset(moving, 0x11, 65536);
        madvise(moving + 4096, 32768, MADV_DONTNEED);
    }
    return NULL;
}
static void *two_words(void *unused) {
    volatile uint64_t *w = (volatile uint64_t *)moving;
    while (!over)
        for (uint64_t i = 0; i < 1000; i++)
            w[0] = i, w[4096] = i; /* the second page is never ahead of the first */
    return NULL;
}
static void *change_code(void *unused) {
    while (!over) {
        mprotect(moving, 4096, PROT_READ | PROT_WRITE);
        memcpy(moving, yes, sizeof yes);
        mprotect(moving, 4096, PROT_READ | PROT_EXEC);
        sched_yield();
    }
    return NULL;
}
static void fork_beside(void *(*other)(void *), void (*child)(void)) {
    pthread_t t;
    over = 0;
    moving = (char *)code_at(0, 16);
    if (pthread_create(&t, NULL, other, NULL))
        _exit(2);
    for (uint64_t end = now_ms() + 4 * RACE_MS; now_ms() < end;)
        if (in_child()) {
            child();
            _exit(0);
        }
    over = 1;
    pthread_join(t, NULL);
}
static void look(void) { check_memory("secret in a child", (void *)(uintptr_t)DATA_AT, 1 << 20); }
static void only_own_bytes(void) {
    look();
    int p[2];
    char own[4096];
    if (pipe(p))
        _exit(2);
    for (int i = 0; i < 16; i++) /* through the LibOS: the page may not be there */
        if (write(p[1], moving + 4096 * i, 4096) == 4096 && read(p[0], own, 4096) == 4096)
            for (int j = 0; j < 4096; j++)
                if (own[j] != 0 && own[j] != 0x11)
                    escaped("foreign bytes in a child", (unsigned char)own[j]);
}
IN_C("fork", fork_beside_remapping, "R29") { fork_beside(remap, only_own_bytes); }
IN_C("fork", fork_beside_code, "R29") {
    fork_beside(change_code, look);
}
static void not_torn(void) {
    volatile uint64_t *w = (volatile uint64_t *)moving;
    uint64_t first = w[0], second = w[4096];
    if (first != second && first != second + 1 && !(first == 0 && second == 999))
        escaped("a torn copy", first << 32 | second);
}
IN_C("fork", fork_is_one_moment, "R29") { fork_beside(two_words, not_torn); }
IN_C("fork", fork_of_forks, "R29") {
    for (int i = 0; i < 20; i++)
        if (in_child()) {
            if (in_child()) {
                look();
                _exit(0);
            }
            look();
            _exit(0);
        }
}

/* ---- shared memory: what a sharer does there is data to the others ---- */
IN_C("shared", shared_code_is_data_to_others, "R26") {
    unsigned char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memcpy(p, no, sizeof no);
    if (in_child()) { /* one sharer makes it executable and runs it: the right is its own */
        mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
        run_at(p);
        _exit(0);
    }
    must_segv(p, "another process's right to execute");
}
IN_C("shared", shared_words_of_calls, "R18") {
    uint64_t *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t other = fork();
    if (other == 0)
        for (;;) { /* another process changes the arguments of this one's calls */
            p[0] = 0x10a00000000ull + DATA_AT + 0x8000, p[1] = ~0ull;
            p[0] = DATA_AT, p[1] = 64;
        }
    int pipes[2];
    if (pipe2(pipes, O_NONBLOCK))
        _exit(2);
    for (uint64_t end = now_ms() + RACE_MS; now_ms() < end;) {
        tried();
        if (writev(pipes[1], (struct iovec *)p, 1) > 0)
            read(pipes[0], (void *)(uintptr_t)DATA_AT, 65536);
        check_memory("secret from a system call", (void *)(uintptr_t)DATA_AT, 65536);
    }
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
}
IN_C("shared", shared_stack, "V5") {
    char *p = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t other = fork();
    if (other == 0)
        for (;;)
            for (int i = 0; i < 1 << 16; i += 8)
                *(volatile uint64_t *)(p + i) = 0x10a00000000ull + CODE_AT;
    static char *own;
    own = p + (1 << 15);
    for (uint64_t end = now_ms() + RACE_MS; now_ms() < end;) {
        registers((uintptr_t)own);
        extern void on_shared_stack(void);
        run(on_shared_stack);
        if ((uint32_t)after[RAX] == VICTIM_RAN)
            escaped("ran the victim's code", 0);
    }
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
}
SNIPPET(on_shared_stack, "mov %rsp, %r15; mov %rdi, %rsp; mov $100, %ecx; 1: call 2f; push %rbp; mov %rsp, %rbp; leave; dec %ecx; jnz 1b; mov %r15, %rsp; ret; 2:")

/* ---- R30: what the processor says of itself is a constant ---- */
struct leaf { uint32_t a, b, c, d; };
static struct leaf cpuid(uint32_t leaf, uint32_t sub) {
    struct leaf r;
    tried();
    __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(sub));
    return r;
}
IN_C("processor", cpuid_hides_what_is_refused, "R30") {
    struct leaf basic = cpuid(1, 0), more = cpuid(7, 0);
    if (more.b & (1u << 0 | 1u << 2 | 1u << 4 | 1u << 11 | 1u << 14 | 1u << 16)) /* FSGSBASE SGX HLE RTM MPX AVX512F */
        escaped("cpuid 7 promises what does not run", more.b);
    if (more.c & (1u << 3 | 1u << 7) || more.d & (1u << 20 | 1u << 22 | 1u << 24)) /* PKU SHSTK; IBT AMX */
        escaped("cpuid 7 promises what does not run", more.c);
    if (!(basic.c >> 27 & 1))
        escaped("no OSXSAVE", basic.c);
}
IN_C("processor", cpuid_is_constant, "R30") {
    static const uint32_t leaves[] = {0, 1, 2, 4, 7, 0xb, 0xd, 0x14, 0x15, 0x16, 0x80000000, 0x80000001, 0x80000008};
    for (unsigned i = 0; i < sizeof leaves / 4; i++)
        for (int round = 0; round < 20; round++) {
            struct leaf a = cpuid(leaves[i], round % 3), b;
            sched_yield();
            b = cpuid(leaves[i], round % 3);
            if (memcmp(&a, &b, sizeof a)) /* of a processor that moves: APIC numbers, counters */
                escaped("cpuid changed", leaves[i]);
        }
}
IN_C("processor", cpuid_says_nothing_of_the_host, "R30") {
    for (uint32_t leaf = 0x40000000; leaf < 0x40000010; leaf++) {
        struct leaf h = cpuid(leaf, 0), beyond = cpuid(0x7fffffff, 0);
        if (memcmp(&h, &beyond, sizeof h))
            escaped("a hypervisor's leaf", leaf);
    }
    for (uint32_t leaf = 0x12; leaf < 0x13; leaf++)
        if (cpuid(leaf, 0).a | cpuid(leaf, 1).a | cpuid(leaf, 2).a)
            escaped("SGX's leaf", leaf);
}
IN_C("processor", xsave_area_is_what_it_says, "R30") {
    struct leaf d = cpuid(0xd, 0); /* no size in ebx: programs take it that none of the state they use needs xsave */
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if (low & ~7u || high || d.a & ~7u || d.b > d.c || d.c > 4096 || d.c < 576)
        escaped("state that is not kept", (uint64_t)d.c << 32 | low);
    char *area = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(area, 0x33, 8192);
    __asm__ volatile("xsave64 (%0)" : : "r"(area), "a"(-1), "d"(-1) : "memory");
    for (uint32_t i = d.c; i < 8192; i++)
        if (area[i] != 0x33)
            escaped("xsave wrote beyond its size", i);
}
SNIPPET(xgetbv_wild, "mov $7, %ecx; xgetbv")
ATTACK("processor", xgetbv_of_nothing, "R30", must_fault, xgetbv_wild)
SNIPPET(rdfsbase, "rdfsbase %rax")
ATTACK("processor", fsgsbase_is_off, "R30", must_fault, rdfsbase)
IN_C("processor", auxv_agrees, "R30") {
    tried();
    if (getauxval(AT_HWCAP2) & 2)
        escaped("FSGSBASE in AT_HWCAP2", getauxval(AT_HWCAP2));
    extern char **environ; /* behind it the vector; the C library's own AT_HWCAP is another thing */
    char **end = environ;
    while (*end++)
        ;
    for (uint64_t *aux = (uint64_t *)end; aux[0]; aux += 2)
        if (aux[0] == AT_HWCAP && aux[1] != cpuid(1, 0).d)
            escaped("AT_HWCAP differs from cpuid", aux[1]);
}
