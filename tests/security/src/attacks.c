/* Attacks on the isolation of processes, run one after the other in children of this process, beside a victim:
 *
 *     attacks --list                        family, name and aim (invariant V, docs/verifier.md; rule R, docs/sfi.md)
 *     attacks SEED VICTIM [NAME...]         runs them all, or those named
 *
 * Prints one line for each attack: its name, how it ended, how often it tried, and "victim ok" or "victim harmed"; and at
 * last the victim's own report. An attack that sees its own success ends with status ESCAPED and its evidence.
 */
#include "attack.h"
#include <sys/resource.h>
#include <time.h>

#define ESCAPED 66
#define OTHER_FAULT 67 /* a fault outside snippets: of a thread that only races, or of the checks */
#define ATTACK_S 30 /* far more than any needs: on a busy machine, too, only one that hangs takes so long */
#define FIRST_SLOT ((1ull << 40) + (40ull << 30))
#define SLOT_STRIDE (40ull << 30)
#define SLOTS 6
#define SLOT_END (1ull << 32)

uint64_t seed, before[REGS], after[REGS];
volatile int fault;
volatile uint64_t fault_rip, fault_addr;
char *altstack;
uint64_t saved_rsp, run_target;

/* Shared with the driver: how often an attack tried, what it found. */
static struct {
    volatile unsigned tries, faults;
    char evidence[120];
} *report;

extern const struct attack __start_attacks[], __stop_attacks[];

void tried(void) { report->tries++; }

_Noreturn void escaped(const char *what, uint64_t value) {
    snprintf(report->evidence, sizeof report->evidence, "%s %#llx", what, (unsigned long long)value);
    _exit(ESCAPED);
}

uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- running a snippet ---- */

__asm__(".pushsection .text\n"
        "run_raw: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rsp, saved_rsp(%rip)\n mov %rdi, run_target(%rip)\n"
        "mov before+8*0(%rip), %rax; mov before+8*1(%rip), %rbx; mov before+8*2(%rip), %rcx; mov before+8*3(%rip), %rdx\n"
        "mov before+8*4(%rip), %rsi; mov before+8*5(%rip), %rdi; mov before+8*6(%rip), %rbp; mov before+8*7(%rip), %r8\n"
        "mov before+8*8(%rip), %r9; mov before+8*9(%rip), %r10; mov before+8*10(%rip), %r11; mov before+8*11(%rip), %r12\n"
        "mov before+8*12(%rip), %r13; mov before+8*13(%rip), %r14; mov before+8*14(%rip), %r15\n"
        "call *run_target(%rip)\n"
        "mov %rax, after+8*0(%rip); mov %rbx, after+8*1(%rip); mov %rcx, after+8*2(%rip); mov %rdx, after+8*3(%rip)\n"
        "mov %rsi, after+8*4(%rip); mov %rdi, after+8*5(%rip); mov %rbp, after+8*6(%rip); mov %r8, after+8*7(%rip)\n"
        "mov %r9, after+8*8(%rip); mov %r10, after+8*9(%rip); mov %r11, after+8*10(%rip); mov %r12, after+8*11(%rip)\n"
        "mov %r13, after+8*12(%rip); mov %r14, after+8*13(%rip); mov %r15, after+8*14(%rip)\n"
        ".globl run_recover\n"
        "run_recover: mov saved_rsp(%rip), %rsp\n cld\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n ret\n .popsection\n");
extern void run_raw(void (*)(void)), run_recover(void);
static uint64_t own_fs, own_gs;
static volatile int running; /* a snippet */
static long main_thread; /* only it runs snippets */

/* No function of the C library here: a snippet may have moved the segment bases. */
static long raw2(long nr, uint64_t a, uint64_t b) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b) : "rcx", "r11", "memory");
    return result;
}
static void own_bases(void) {
    raw2(SYS_arch_prctl, 0x1002, own_fs);
    raw2(SYS_arch_prctl, 0x1001, own_gs);
}

static void on_fault(int sig, siginfo_t *info, void *context) {
    static const int order[REGS] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_R8,
                                    REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    if (!running || fault || raw2(SYS_gettid, 0, 0) != main_thread) /* fault: the way back faults, for ever */
        _exit(OTHER_FAULT);
    own_bases();
    report->faults++;
    fault = sig;
    fault_rip = g[REG_RIP];
    fault_addr = (uint64_t)info->si_addr;
    for (int i = 0; i < REGS; i++)
        after[i] = g[order[i]];
    g[REG_RIP] = (greg_t)run_recover;
    g[REG_EFL] = 0x202;
    g[REG_RSP] = saved_rsp;
}

int run(void (*code)(void)) {
    fault = 0;
    fault_rip = fault_addr = 0;
    tried();
    running = 1;
    run_raw(code);
    running = 0;
    own_bases();
    return fault;
}

void registers(uint64_t w) {
    for (int i = 0; i < REGS; i++)
        before[i] = 0x1100 + i;
    before[RDI] = w;
    before[RSI] = DATA_AT + 0x8000;
    before[RDX] = POISON;
    before[RCX] = (uint32_t)w;
    before[RBX] = w & ~0xffffffffull;
    before[R8] = w >> 3;
    before[R9] = ~0ull;
}

/* ---- what counts as an escape ---- */

static struct { uint64_t start, end; } maps[512];
static unsigned map_count;

static void read_maps(void) {
    FILE *f = fopen("/proc/self/maps", "r");
    unsigned long long a, b;
    char line[512];
    map_count = 0;
    while (f && map_count < 512 && fgets(line, sizeof line, f))
        if (sscanf(line, "%llx-%llx", &a, &b) == 2)
            maps[map_count].start = a, maps[map_count++].end = b;
    if (f)
        fclose(f);
}

int mine(uint64_t v) {
    for (unsigned i = 0; i < map_count; i++)
        if (v >= maps[i].start && v < maps[i].end)
            return 1;
    return 0;
}

int is_address(uint64_t v) {
    if (v >= (1ull << 32) && v < (1ull << 46))
        return 1;
    return v >= 0x40000000 && v < 0x7fff0000 && !mine(v);
}

void check_value(const char *what, uint64_t v) {
    if (is_secret(v, seed))
        escaped(what, v);
    if (is_address(v))
        escaped(what, v);
}

/* Made from an input: no more than some displacement away from it, or from its low half if it is one itself. */
static int from_input(uint64_t v) {
    for (int i = 0; i < REGS; i++) {
        uint64_t from = (v >> 32) ? before[i] : (uint32_t)before[i];
        if (v - from + (1 << 20) <= (2u << 20))
            return 1;
    }
    return 0;
}

void check_registers(void) {
    for (int i = 0; i < REGS; i++) {
        if (is_secret(after[i], seed))
            escaped("secret in register", i);
        if (after[i] != before[i] && is_address(after[i]) && !from_input(after[i]))
            escaped("address in a register", after[i]);
    }
    if (fault && (fault_rip >> 32) != 0 && !from_input(fault_rip))
        escaped("address in rip", fault_rip);
}

void check_memory(const char *what, const void *p, size_t n) {
    for (size_t i = 0; i + 8 <= n; i++) {
        uint64_t v;
        memcpy(&v, (const char *)p + i, 8);
        if (is_secret(v, seed))
            escaped(what, v);
    }
}

/* ---- where attacks aim ---- */

/* In each slot: the victim's data, what lies beside its code, the table below, the top, what follows. */
static const int64_t IN_SLOT[] = {DATA_AT + 0x8000, CODE_AT + 0x800, CODE_AT + 0xff8, -8, -0x100000, SLOT_END - 4, SLOT_END + 0x8000};
static const uint64_t ELSEWHERE[] = {
    0, 0x1000, 0xfff8, 0x20000000, 0x20100000, 0x40000000, 0x40000040, 0x7ffeffff, 0xfefffffc, 0xff000000, 0xfffffff8,
    SLOT_END - 1, SLOT_END, SLOT_END + DATA_AT, 0x4000000000, 0x4000200000, 0x600001f000, 0x6000020000, (1ull << 46) - 8,
    1ull << 46, 0x7ffffffff000, 0x800000000000, 0xffff800000000000, (uint64_t)-4096, (uint64_t)-8, (uint64_t)-1,
};
#define COUNT(a) (sizeof(a) / sizeof *(a))

unsigned wild_count(void) { return SLOTS * COUNT(IN_SLOT) + COUNT(ELSEWHERE); }
uint64_t wild(unsigned i) {
    if (i < SLOTS * COUNT(IN_SLOT))
        return FIRST_SLOT + i / COUNT(IN_SLOT) * SLOT_STRIDE + IN_SLOT[i % COUNT(IN_SLOT)];
    return ELSEWHERE[i - SLOTS * COUNT(IN_SLOT)];
}

/* The page at CODE_AT holds other code here than in the victim. The rest is nothing that this process has mapped. */
static const uint64_t CODE[] = {
    0, 0x10000, 0x20000000, 0x20000010, 0x20001000, 0x20040000, 0x20100000, 0x40000000, 0x40000001, 0x40000040, 0x40001000,
    0x40100000, 0x50000000 - 64, 0x7ffefff0, 0x7fffffff, 0x80000000, 0xff000000, 0xfffffff0, 0xffffffff, 0x4000000000,
    0x6000010000, 0x7ffffffff000, 0xffffffff00000000, (uint64_t)-1, 0x8000000000000000,
};
unsigned wild_code_count(void) { return 2 * SLOTS + COUNT(CODE); }
uint64_t wild_code(unsigned i) {
    if (i < 2 * SLOTS)
        return FIRST_SLOT + i / 2 * SLOT_STRIDE + (i % 2 ? CODE_AT : (uint64_t)-0x1000);
    return CODE[i - 2 * SLOTS];
}

unsigned char *rwx(void) {
    void *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void each_wild(const struct attack *self) {
    for (unsigned i = 0; i < wild_count(); i++) {
        registers(wild(i));
        run(self->code);
        check_registers();
        check_memory("secret in memory", (void *)(uintptr_t)DATA_AT, 0x10000);
    }
}

void each_wild_loose(const struct attack *self) {
    for (unsigned i = 0; i < wild_count(); i++) {
        registers(wild(i));
        run(self->code);
        for (int r = 0; r < REGS; r++)
            if (is_secret(after[r], seed))
                escaped("secret in register", r);
    }
}

int in_child(void) {
    int status;
    tried();
    pid_t pid = fork();
    if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == ESCAPED)
        _exit(ESCAPED);
    if (pid == 0)
        main_thread = raw2(SYS_gettid, 0, 0);
    return pid == 0;
}

void each_wild_in_child(const struct attack *self) {
    for (unsigned i = 0; i < wild_count(); i++)
        if (in_child()) {
            registers(wild(i));
            run(self->code);
            check_registers();
            _exit(0);
        }
}

/* Control may only come to the page at CODE_AT, or fault at the very place that was aimed at. */
void each_target(const struct attack *self) {
    for (unsigned i = 0; i < wild_code_count(); i++) {
        uint64_t w = wild_code(i);
        registers(w);
        run(self->code);
        if ((uint32_t)after[RAX] == VICTIM_RAN)
            escaped("ran the victim's code", w);
        if (!fault && (uint32_t)w != CODE_AT)
            escaped("ran on from foreign code", w);
        check_registers();
    }
}

void once(const struct attack *self) {
    registers(DATA_AT + 0xc000);
    run(self->code);
    check_registers();
    check_memory("secret in memory", (void *)(uintptr_t)DATA_AT, 0x10000);
}

void must_fault(const struct attack *self) {
    once(self);
    if (!fault)
        escaped("what must not run ran", (uint64_t)self->code);
}

/* ---- the driver ---- */

static void prepare(void) {
    static const unsigned char code[] = {0xb8, 1, 0, 0, 0, 0xc3}; /* mov $1,%eax; ret */
    static const int signals[] = {SIGSEGV, SIGILL, SIGBUS, SIGFPE, SIGTRAP, SIGSYS};
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    char *data = mmap((void *)(uintptr_t)DATA_AT, DATA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    char *own = mmap((void *)(uintptr_t)CODE_AT, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    altstack = mmap(NULL, ALTSTACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED || own == MAP_FAILED || altstack == MAP_FAILED)
        _exit(2);
    memcpy(own, code, sizeof code);
    stack_t stack = {.ss_sp = altstack, .ss_size = ALTSTACK};
    sigaltstack(&stack, NULL);
    struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    for (unsigned i = 0; i < COUNT(signals); i++)
        sigaction(signals[i], &act, NULL);
    raw2(SYS_arch_prctl, 0x1003, (uint64_t)&own_fs);
    raw2(SYS_arch_prctl, 0x1004, (uint64_t)&own_gs);
    main_thread = raw2(SYS_gettid, 0, 0);
    read_maps();
}

static int to_victim, from_victim;

static pid_t start_victim(const char *path, const char *seed_text) {
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
        _exit(2);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execl(path, path, seed_text, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    to_victim = in[1];
    from_victim = out[0];
    return pid;
}

/* Ends a victim of the same seed, whose memory is free now. */
static void leave_memory(const char *path, const char *seed_text) {
    pid_t pid = fork();
    if (pid == 0) {
        execl(path, path, seed_text, "die", (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

static void one(const struct attack *a) {
    int status;
    char answer = 0;
    memset(report, 0, sizeof *report);
    if (write(to_victim, "x", 1) != 1)
        answer = '?';
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++)
            dup2(null, fd);
        close_range(3, ~0u, 0);
        setpgid(0, 0);
        struct sigaction end = {.sa_handler = SIG_DFL};
        sigaction(SIGALRM, &end, NULL);
        alarm(ATTACK_S);
        prepare();
        a->run(a);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    kill(-pid, SIGKILL);
    if (answer || read(from_victim, &answer, 1) != 1)
        answer = '?';
    printf("%s: ", a->name);
    if (WIFSIGNALED(status))
        printf("signal %d", WTERMSIG(status));
    else
        printf("exit %d", WEXITSTATUS(status));
    printf(", %u tries, %u faults, victim %s", report->tries, report->faults, answer == '+' ? "ok" : "harmed");
    if (report->evidence[0])
        printf(", escaped: %.*s", (int)sizeof report->evidence, report->evidence);
    printf("\n");
    fflush(stdout);
}

static int named(const char *name, char **names) {
    if (!*names)
        return 1;
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return 1;
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--list") == 0) {
        for (const struct attack *a = __start_attacks; a < __stop_attacks; a++)
            printf("%s %s %s\n", a->family, a->name, a->aim);
        return 0;
    }
    if (argc > 2 && strcmp(argv[1], "--initial") == 0) {
        extern int initial_state(uint64_t);
        return initial_state(strtoull(argv[2], NULL, 10)) ? ESCAPED : 0;
    }
    if (argc < 3)
        return 2;
    seed = strtoull(argv[1], NULL, 10);
    report = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    signal(SIGPIPE, SIG_IGN);
    leave_memory(argv[2], argv[1]);
    pid_t victim = start_victim(argv[2], argv[1]);
    for (const struct attack *a = __start_attacks; a < __stop_attacks; a++)
        if (named(a->name, argv + 3))
            one(a);
    close(to_victim);
    char digest[64] = "";
    ssize_t n = read(from_victim, digest, sizeof digest - 1);
    int status;
    waitpid(victim, &status, 0);
    printf("victim: status %d, %s", status, n > 0 ? digest : "nothing\n");
    return 0;
}
