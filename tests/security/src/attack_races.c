/* Attacks by two threads: on return addresses and jump targets in memory, on arguments of system calls, on mappings and on
 * code that is being run; and code that changes itself.
 */
#include "attack.h"
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define RACE_MS 50
#define NEIGHBOUR 0x10a00000000ull

static volatile int over;
static uint64_t end_ms;

static int going(void) {
    tried();
    return now_ms() < end_ms;
}

static void race(void *(*other)(void *), void *argument, void (*own)(void)) {
    pthread_t t;
    end_ms = now_ms() + RACE_MS;
    over = 0;
    if (pthread_create(&t, NULL, other, argument))
        _exit(2);
    while (going())
        own();
    over = 1;
    pthread_join(t, NULL);
}

/* ---- words that another thread flips between a good and a wild value ---- */
static volatile uint64_t *flipped;
static volatile uint64_t good_value, bad_value;

static void *flip(void *unused) {
    while (!over) {
        for (int i = 0; i < 200; i++) {
            *flipped = bad_value;
            __asm__ volatile("pause");
            *flipped = good_value;
        }
    }
    return NULL;
}

static volatile uint64_t target_word;
extern void good_target(void), race_call(void), race_return(void), race_jump(void);
__asm__(".pushsection .text\n good_target: ret\n"
        "race_call: sub $8, %rsp; .rept 64; call *target_word(%rip); .endr; add $8, %rsp; ret\n"
        "race_jump: lea 1f(%rip), %rax; push %rax; jmp *target_word(%rip); 1: ret\n"
        "race_return: mov $100, %ecx; 2: call 3f; dec %ecx; jnz 2b; ret; 3: mov %rsp, flipped(%rip); mov (%rsp), %rax; mov %rax, good_value(%rip);"
        " .rept 40; nop; .endr; ret\n .popsection\n");

/* A fault is expected: the wild value was seen. */
static void run_it(void (*code)(void)) {
    registers(0);
    run(code);
    if ((uint32_t)after[RAX] == VICTIM_RAN)
        escaped("ran the victim's code", bad_value);
}
static void own_call(void) { run_it(race_call); }
static void own_jump(void) { run_it(race_jump); }
static void own_return(void) { run_it(race_return); }

#define TRANSFER(id, aim, own, bad)                                                                                        \
    IN_C("race", id, aim) {                                                                                                \
        flipped = &target_word;                                                                                            \
        good_value = target_word = (uint64_t)good_target;                                                                  \
        bad_value = bad;                                                                                                   \
        race(flip, NULL, own);                                                                                             \
    }
TRANSFER(race_call_neighbour, "V9", own_call, NEIGHBOUR + CODE_AT)
TRANSFER(race_call_cache, "V9,V14", own_call, 0x40000040)
TRANSFER(race_jump_neighbour, "V9", own_jump, NEIGHBOUR + CODE_AT)
TRANSFER(race_jump_image, "V9", own_jump, 0x20001000)
TRANSFER(race_return_neighbour, "V9", own_return, NEIGHBOUR + CODE_AT)
TRANSFER(race_return_cache, "V9,V14", own_return, 0x40000100)
TRANSFER(race_return_middle, "V10,R20", own_return, (uint64_t)good_target + 1)

/* ---- arguments of system calls ---- */
static struct iovec iov[4];
static struct msghdr msg;
static uint64_t *box; /* a structure with a pointer that flips */
static int pipe_in, pipe_out, sockets[2], file;
static char *own_data;

static void set_up(void) {
    int p[2];
    if (pipe2(p, O_NONBLOCK) || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, sockets))
        _exit(2);
    pipe_in = p[0], pipe_out = p[1];
    char path[] = "/tmp/attack-XXXXXX";
    file = mkstemp(path);
    unlink(path);
    own_data = (char *)(uintptr_t)DATA_AT;
    if (ftruncate(file, 65536))
        _exit(2);
}
static void look(void) { check_memory("secret from a system call", own_data, 4096); }

#define ARGUMENT(id, aim, word, good, bad, ...)                                                                            \
    static void own_##id(void) { __VA_ARGS__; }                                                                            \
    IN_C("race", id, aim) {                                                                                                \
        set_up();                                                                                                          \
        flipped = (volatile uint64_t *)(word);                                                                             \
        good_value = *flipped = (uint64_t)(good);                                                                          \
        bad_value = (uint64_t)(bad);                                                                                       \
        race(flip, NULL, own_##id);                                                                                        \
        look();                                                                                                            \
    }
#define VICTIM_DATA (NEIGHBOUR + DATA_AT + 0x8000)
ARGUMENT(race_writev_base, "R18", &iov[0].iov_base, own_data, VICTIM_DATA, iov[0].iov_len = 512; if (writev(pipe_out, iov, 1) > 0) read(pipe_in, own_data, 4096); look())
ARGUMENT(race_readv_base, "R18", &iov[0].iov_base, own_data, VICTIM_DATA, iov[0].iov_len = 512; write(pipe_out, own_data, 512); readv(pipe_in, iov, 1))
ARGUMENT(race_iov_length, "R18", &iov[0].iov_len, 64, 0xffffffffffff, iov[0].iov_base = own_data; preadv(file, iov, 1, 0); pwritev(file, iov, 1, 0))
ARGUMENT(race_iov_second, "R18", &iov[1].iov_base, own_data + 512, 0x40000000, iov[0].iov_base = own_data; iov[0].iov_len = iov[1].iov_len = 300; preadv(file, iov, 2, 0); pwritev(file, iov, 2, 0))
ARGUMENT(race_sendmsg_iov, "R18", &msg.msg_iov, iov, NEIGHBOUR, iov[0].iov_base = own_data; iov[0].iov_len = 64; msg.msg_iovlen = 1; if (sendmsg(sockets[0], &msg, 0) > 0) recv(sockets[1], own_data, 4096, 0); look())
ARGUMENT(race_sendmsg_count, "R18", &msg.msg_iovlen, 1, 0x1000000000000, iov[0].iov_base = own_data; iov[0].iov_len = 64; msg.msg_iov = iov; if (sendmsg(sockets[0], &msg, 0) > 0) recv(sockets[1], own_data, 4096, 0))
ARGUMENT(race_recvmsg_name, "R18", &msg.msg_name, own_data, VICTIM_DATA, iov[0].iov_base = own_data; iov[0].iov_len = 64; msg.msg_iov = iov; msg.msg_iovlen = 1; msg.msg_namelen = 64; send(sockets[0], "x", 1, 0); recvmsg(sockets[1], &msg, 0))
ARGUMENT(race_recvmsg_control, "R18", &msg.msg_controllen, 64, -1, iov[0].iov_base = own_data; iov[0].iov_len = 64; msg.msg_iov = iov; msg.msg_iovlen = 1; msg.msg_control = own_data + 1024; send(sockets[0], "x", 1, 0); recvmsg(sockets[1], &msg, 0))
static char *vector[4];
static void exec_it(void) {
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t t;
        over = 0;
        if (pthread_create(&t, NULL, flip, NULL) == 0)
            execve("/proc/self/exe", vector, NULL);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}
ARGUMENT(race_execve_pointer, "R18", &vector[1], "--list", VICTIM_DATA, vector[0] = "attacks"; exec_it())
ARGUMENT(race_execve_low, "R18", &vector[1], "--list", 0xff000000, vector[0] = "attacks"; exec_it())
static char path_text[16] = "/dev/zero";
ARGUMENT(race_path, "R18", path_text, *(uint64_t *)"/dev/zer", *(uint64_t *)"////////", int fd = open(path_text, O_RDONLY); if (fd >= 0) close(fd); struct stat st; stat(path_text, &st))
static uint64_t action[4];
ARGUMENT(race_sigaction, "R24", &action[0], good_target, VICTIM_DATA, action[1] = 0x4000000; action[2] = (uint64_t)good_target; syscall(SYS_rt_sigaction, SIGUSR1, action, NULL, 8))
static uint64_t stack_words[3];
ARGUMENT(race_sigaltstack, "R16", &stack_words[0], altstack, NEIGHBOUR, stack_words[1] = 0; stack_words[2] = ALTSTACK; syscall(SYS_sigaltstack, stack_words, NULL))
static volatile uint64_t futex_word;
static struct timespec short_time = {0, 1000};
ARGUMENT(race_futex_time, "R18", &short_time.tv_nsec, 1000, -1, syscall(SYS_futex, &futex_word, 0, 0, &short_time, NULL, 0))
static struct timespec nap_time = {0, 100};
ARGUMENT(race_nanosleep, "R18", &nap_time.tv_sec, 0, INT64_MIN, nanosleep(&nap_time, NULL))

/* ---- mappings that go and come under a system call ---- */
static void *remap(void *place) {
    while (!over) {
        munmap(place, 4096);
        mmap(place, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        mprotect(place, 4096, PROT_NONE);
        mprotect(place, 4096, PROT_READ | PROT_WRITE);
    }
    return NULL;
}
#define MAPPING(id, aim, ...)                                                                                              \
    static void own_##id(void) { __VA_ARGS__; }                                                                            \
    IN_C("race", id, aim) {                                                                                                \
        set_up();                                                                                                          \
        race(remap, own_data + 0x10000, own_##id);                                                                         \
        look();                                                                                                            \
    }
MAPPING(race_read_into_vanishing, "R18", pread(file, own_data + 0xf000, 0x3000, 0))
MAPPING(race_write_from_vanishing, "R18", pwrite(file, own_data + 0xf000, 0x3000, 0); pread(file, own_data, 4096, 0x1000); look())
MAPPING(race_stat_into_vanishing, "R18", fstat(file, (struct stat *)(own_data + 0x10000 - 64)))
MAPPING(race_pipe_into_vanishing, "R18", write(pipe_out, own_data, 4096); read(pipe_in, own_data + 0x10000 - 2048, 4096))
MAPPING(race_iov_in_vanishing, "R18", readv(pipe_in, (struct iovec *)(own_data + 0x10000 - 8), 2))
SNIPPET(touch_vanishing, "mov $2000, %ecx; mov $0x50010000, %edi; 1: mov (%rdi), %rax; mov %rdx, (%rdi); dec %ecx; jnz 1b")
SNIPPET(string_vanishing, "mov $0x5000f800, %edi; mov $0x1000, %ecx; mov %rdx, %rax; rep stosb")
SNIPPET(stack_vanishing, "mov %rsp, %r12; mov $0x50010100, %esp; mov $1000, %ecx; 1: push %rdx; pop %rax; call 2f; 2: pop %rax; dec %ecx; jnz 1b; mov %r12, %rsp; xor %eax, %eax; mov $0x100c, %r12d")
static void run_checked(void (*code)(void)) {
    registers(DATA_AT + 0x10000);
    run(code);
    check_registers();
}
MAPPING(race_access_vanishing, "R22", run_checked(touch_vanishing))
MAPPING(race_string_vanishing, "R22", run_checked(string_vanishing))
MAPPING(race_stack_vanishing, "R22", run_checked(stack_vanishing))

/* Signals at any instruction of patterns: no context may show an address. */
static void *send_signals(void *pid) {
    while (!over) {
        syscall(SYS_tgkill, getpid(), (pid_t)(intptr_t)pid, SIGUSR1);
        for (volatile int i = 0; i < 20000; i++) /* faster than the handler, and nothing else would run */
            ;
    }
    return NULL;
}
extern const char patterns_start[] __asm__("patterns"), patterns_end[];
static void on_signal(int sig, siginfo_t *info, void *context) {
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    /* Elsewhere a register may hold a number that looks like an address: `is_address` has some. */
    if (g[REG_RIP] < (greg_t)patterns_start || g[REG_RIP] >= (greg_t)patterns_end)
        return;
    for (int i = 0; i <= REG_RIP; i++)
        if (is_address(g[i]) && (uint64_t)g[i] >> 32)
            escaped("address in a signal's context", g[i]);
}
SNIPPET(patterns, "mov $300, %r13d; 1: mov %rsi, %rdi; mov $16, %ecx; rep stosb; lea 64(%rsi), %rdi; push %rsi; movsq; pop %rsi; push %rsp; pop %rax; mov %rsp, %rbx; mov %fs:0, %rdx; push %rbp; mov %rsp, %rbp; sub $0x100, %rsp; and $-64, %rsp; leave; call 2f; lea 3f(%rip), %rax; jmp *%rax; 2: ret; 3: dec %r13d; jnz 1b")
static void own_patterns(void) {
    registers(DATA_AT + 0x8000);
    run(patterns);
    check_registers();
}
IN_C("race", race_signals_in_patterns, "R22") {
    struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigaction(SIGUSR1, &act, NULL);
    race(send_signals, (void *)(intptr_t)syscall(SYS_gettid), own_patterns);
}

/* ---- code that changes ---- */
static unsigned char *page;
static const unsigned char harmless[8] = {0xb8, 1, 0, 0, 0, 0xc3, 0x90, 0x90};
#define CHANGE(id, ...)                                                                                                    \
    static const unsigned char code_##id[8] = {__VA_ARGS__};                                                               \
    IN_C("code", id, "R26") { change_code(code_##id); }

static void *change(void *code) {
    while (!over) {
        memcpy(page, code, 8);
        sched_yield();
        memcpy(page, harmless, 8);
        sched_yield();
    }
    return NULL;
}
static void own_page(void) {
    registers(VICTIM_DATA);
    before[RAX] = DATA_AT + 64;
    run((void (*)(void))page);
    check_registers();
}
/* First by one thread, then by two. */
static void change_code(const unsigned char *code) {
    if (!(page = rwx()))
        _exit(2);
    for (int i = 0; i < 20; i++) {
        memcpy(page, i % 2 ? code : harmless, 8);
        own_page();
        if (i % 2 == 0 && (fault || (uint32_t)after[RAX] != 1))
            escaped("stale code ran", after[RAX]);
    }
    memcpy(page, harmless, 8);
    race(change, (void *)code, own_page);
}
CHANGE(code_to_load, 0x48, 0x8b, 0x07, 0xc3)
CHANGE(code_to_store, 0x48, 0x89, 0x17, 0xc3)
CHANGE(code_to_syscall, 0x31, 0xc0, 0x0f, 0x05, 0xc3)
CHANGE(code_to_hlt, 0xf4, 0xc3)
CHANGE(code_to_wrmsr, 0x0f, 0x30, 0xc3)
CHANGE(code_to_jump_away, 0xff, 0xe7)
CHANGE(code_to_far_jump, 0xe9, 0, 0, 0, 0x40)
CHANGE(code_to_gs, 0x65, 0x48, 0x8b, 0x07, 0xc3)
CHANGE(code_to_ud2, 0x0f, 0x0b)
CHANGE(code_to_cut_short, 0x48, 0xb8, 0xc3, 0xc3, 0xc3, 0xc3, 0xc3, 0xc3)
CHANGE(code_to_enclu, 0x0f, 0x01, 0xd7, 0xc3)

SNIPPET(writes_itself, "lea 1f(%rip), %rax; movb $0xf4, (%rax); jmp 1f; .balign 64; 1: nop; ret")
IN_C("code", code_text_is_not_writable, "R26") {
    registers(0);
    if (run(writes_itself) == 0)
        escaped("text was written", 0);
}
IN_C("code", code_writes_next_instruction, "R26") {
    /* movl $0xc390f4, 7(%rip-ish): the store hits the instruction behind it. */
    static const unsigned char bytes[] = {0xc6, 0x05, 0, 0, 0, 0, 0xf4, 0x90, 0xc3};
    page = rwx();
    memcpy(page, bytes, sizeof bytes);
    registers(0);
    run((void (*)(void))page);
    run((void (*)(void))page);
    if (!fault)
        escaped("stale code ran", 0);
}
static void *flip_rights(void *unused) {
    while (!over) {
        mprotect(page, 4096, PROT_READ | PROT_WRITE);
        memcpy(page, harmless, 8);
        mprotect(page, 4096, PROT_READ | PROT_EXEC);
        mprotect(page, 4096, PROT_NONE);
        mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    }
    return NULL;
}
IN_C("code", code_rights_flip, "R21,V13") {
    page = rwx();
    memcpy(page, harmless, 8);
    race(flip_rights, NULL, own_page);
}
static void *unmap_code(void *unused) {
    while (!over) {
        munmap(page, 4096);
        mmap(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        memcpy(page, harmless, 8);
    }
    return NULL;
}
IN_C("code", code_unmapped_meanwhile, "R21,V13") {
    page = rwx();
    memcpy(page, harmless, 8);
    race(unmap_code, NULL, own_page);
}
IN_C("code", code_gone, "R21") {
    for (int i = 0; i < 10; i++) {
        page = rwx();
        memcpy(page, harmless, 8);
        own_page();
        munmap(page, 8192);
        own_page();
        if (fault != SIGSEGV)
            escaped("unmapped code ran", i);
    }
}
IN_C("code", code_not_executable, "R26") {
    page = rwx();
    memcpy(page, harmless, 8);
    own_page();
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
    own_page();
    if (fault != SIGSEGV)
        escaped("code without the right ran", 0);
}
IN_C("code", code_written_without_right, "R26") {
    page = rwx();
    memcpy(page, harmless, 8);
    own_page();
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
    page[1] = 2;
    mprotect(page, 4096, PROT_READ | PROT_EXEC);
    own_page();
    if (fault || (uint32_t)after[RAX] != 2)
        escaped("stale code ran", after[RAX]);
}
IN_C("code", code_through_file, "R26") {
    set_up();
    if (pwrite(file, harmless, 8, 0) != 8)
        _exit(2);
    page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_32BIT, file, 0);
    if (page == MAP_FAILED)
        _exit(2);
    own_page();
    static const unsigned char other[] = {0x48, 0x8b, 0x07, 0xc3};
    pwrite(file, other, 4, 0);
    own_page();
}
IN_C("code", code_by_read, "R26") {
    set_up();
    page = rwx();
    memcpy(page, harmless, 8);
    own_page();
    static const unsigned char stop[] = {0xf4, 0xc3};
    pwrite(file, stop, 2, 0);
    if (pread(file, page, 2, 0) == 2) {
        own_page();
        if (!fault)
            escaped("stale code ran", 0);
    }
}
IN_C("code", code_forked, "R26") {
    page = rwx();
    memcpy(page, harmless, 8);
    own_page();
    if (in_child()) {
        page[1] = 77;
        own_page();
        if ((uint32_t)after[RAX] != 77)
            escaped("the parent's code ran", after[RAX]);
        _exit(0);
    }
    own_page();
    if ((uint32_t)after[RAX] != 1)
        escaped("the child's code ran", after[RAX]);
}
IN_C("code", code_at_page_end, "V3") {
    page = rwx();
    munmap(page + 4096, 4096);
    for (int i = 1; i < 8; i++) {
        static const unsigned char cut[] = {0x65, 0x67, 0x48, 0xb8, 1, 2, 3, 4};
        memcpy(page + 4096 - i, cut, i);
        registers(0);
        if (run((void (*)(void))(page + 4096 - i)) == 0)
            escaped("ran off its page", i);
    }
}
IN_C("code", code_storm, "R28") {
    uint64_t end = now_ms() + 300;
    for (int i = 0; now_ms() < end && i < 200; i++) {
        unsigned char *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        if (p == MAP_FAILED)
            break;
        for (int at = 0; at < 65536; at += 64) {
            memcpy(p + at, harmless, 8);
            registers(0);
            if (at % 1024 == 0)
                run((void (*)(void))(p + at));
        }
        if (i % 2)
            munmap(p, 65536);
    }
}
