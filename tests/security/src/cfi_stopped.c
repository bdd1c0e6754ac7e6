/* Hijacks of one kind each: `PROGRAM NAME` says "ran" (status 7) if control reached what it should not, and dies if not.
 * With a handler, `PROGRAM NAME handler`: what the signal says. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define RAN "ran\n"
/* Reached only by hijack. `win` has no address that code takes; `offsets` are distances from nowhere, so
 * that no word of the program's data and no table of distances from a place that code knows is one of the addresses. behind_call: a call that never runs stands before.
 * middle: inside an instruction (movabs with a jump to win as immediate). */
__asm__(".text\n"
        "nop; win: endbr64; and $-16,%rsp; mov $1,%edi; lea ran_text(%rip),%rsi; mov $4,%edx; mov $1,%eax; syscall;"
        " mov $7,%edi; mov $60,%eax; syscall\n"
        "plain: nop; and $-16,%rsp; mov $1,%edi; lea ran_text(%rip),%rsi; mov $4,%edx; mov $1,%eax; syscall;"
        " mov $7,%edi; mov $60,%eax; syscall\n"
        "ud2; call win; behind_call: nop; jmp plain\n"
        "ud2; inside: movabs $0x9090909090909090,%rax; jmp plain\n"
        "get_sp: ret\n"
        ".data; ran_text: .ascii \"ran\\n\"\n"
        ".set far, offsets-0x40000000\n"
        "offsets: .quad win-far, plain-far, behind_call-far, inside+2-far\n"
        ".text\n");
extern const int64_t offsets[];
enum { WIN, PLAIN, BEHIND_CALL, INSIDE };
static uintptr_t at(int n) { return (uintptr_t)offsets - 0x40000000 + ((volatile const int64_t *)offsets)[n]; }

/* Returns to `target`: the return address of this very frame is overwritten, as an overflow does. */
__attribute__((noinline)) static void return_to(uintptr_t target) {
    volatile uintptr_t *frame = __builtin_frame_address(0);
    frame[1] = target;
}
__attribute__((noinline)) static void jump_to(uintptr_t target) { ((void (*)(void))target)(); }

static void handler(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    const greg_t *r = uc->uc_mcontext.gregs;
    char line[120];
    int n = snprintf(line, sizeof line, "signal %d code %d address %p trap %ld error %ld\n", sig, info->si_code,
                     info->si_addr, (long)r[REG_TRAPNO], (long)r[REG_ERR]);
    write(1, line, n);
    _exit(0);
}
static void quiet(int sig) {}

/* A frame for rt_sigreturn that no signal brought. */
static void forged_frame(int through_restorer) {
    static char stack[65536] __attribute__((aligned(64)));
    ucontext_t *uc = (ucontext_t *)(stack + 32768);
    memset(uc, 0, sizeof *uc);
    uc->uc_mcontext.gregs[REG_RIP] = at(PLAIN);
    uc->uc_mcontext.gregs[REG_RSP] = (greg_t)(stack + 60000);
    uc->uc_mcontext.gregs[REG_CSGSFS] = 0x2b000000000033;
    struct { void *handler; unsigned long flags; void *restorer; unsigned long mask; } sa;
    signal(SIGUSR1, quiet);
    raise(SIGUSR1);
    syscall(13, SIGUSR1, 0, &sa, 8);
    if (through_restorer)
        __asm__ volatile("mov %0,%%rsp; jmp *%1" ::"r"(uc), "r"(sa.restorer));
    __asm__ volatile("mov %0,%%rsp; mov $15,%%eax; syscall" ::"r"(uc));
}

/* Returns into the restorer with a frame behind the return address. */
__attribute__((noinline)) static void return_to_restorer(void) {
    struct { void *handler; unsigned long flags; void *restorer; unsigned long mask; } sa;
    signal(SIGUSR1, quiet);
    raise(SIGUSR1);
    syscall(13, SIGUSR1, 0, &sa, 8);
    volatile uintptr_t *frame = __builtin_frame_address(0);
    frame[1] = (uintptr_t)sa.restorer;
    ucontext_t *uc = (ucontext_t *)(frame + 2);
    memset(uc, 0, sizeof *uc);
    uc->uc_mcontext.gregs[REG_RIP] = at(PLAIN);
    uc->uc_mcontext.gregs[REG_RSP] = (greg_t)(uc + 4);
    uc->uc_mcontext.gregs[REG_CSGSFS] = 0x2b000000000033;
    __asm__ volatile("" ::: "memory");
}
__attribute__((noinline)) static void room_for_a_frame(void) {
    volatile char room[8192];
    room[0] = room[8191] = 1;
    return_to_restorer();
    room[1] = 2;
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (argc > 2) {
        struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
        sigaction(SIGSEGV, &sa, 0);
    }
#define HIJACK(text, act) if (strcmp(name, text) == 0) act
    HIJACK("return-to-function", return_to(at(WIN)));
    HIJACK("return-to-instruction", return_to(at(PLAIN)));
    HIJACK("return-behind-unused-call", return_to(at(BEHIND_CALL)));
    HIJACK("return-into-instruction", return_to(at(INSIDE)));
    HIJACK("jump-to-endbr", jump_to(at(WIN)));
    HIJACK("jump-to-instruction", jump_to(at(PLAIN)));
    HIJACK("jump-into-instruction", jump_to(at(INSIDE)));
    HIJACK("forged-sigreturn", forged_frame(0));
    HIJACK("forged-sigreturn-by-restorer", forged_frame(1));
    HIJACK("return-to-restorer", room_for_a_frame());
    return 99;
}
