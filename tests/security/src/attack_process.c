/* Attacks through the LibOS: forged signal frames, hostile processor state at the entries, wild pointers and pointers
 * that change meanwhile, code that changes while it runs, return addresses that change on the stack; and looking for what
 * others left: in fresh memory, in vector registers, in results of system calls, in /proc.
 */
#include "attack.h"
#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>

#define RACE_MS 60
#define NEIGHBOUR 0x10a00000000ull /* the second slot; the victim's or the driver's */

/* ---- forged signal frames ---- */
static void (*forge)(ucontext_t *, uint64_t);
static uint64_t forge_with;
static void on_forge(int sig, siginfo_t *info, void *context) { forge(context, forge_with); }
SNIPPET(raise_forge, "mov $39, %eax; syscall; mov %eax, %edi; mov $12, %esi; mov $62, %eax; syscall; xor %eax, %eax")

static int with_frame(void (*how)(ucontext_t *, uint64_t), uint64_t value) {
    struct sigaction act = {.sa_sigaction = on_forge, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaction(SIGUSR2, &act, NULL);
    forge = how;
    forge_with = value;
    registers(value);
    int sig = run(raise_forge);
    if ((uint32_t)after[RAX] == VICTIM_RAN)
        escaped("ran the victim's code", value);
    check_registers();
    return sig;
}

/* In children: some of the frames end the process. */
static void with_all_frames(void (*how)(ucontext_t *, uint64_t)) {
    for (unsigned i = 0; i < wild_count() + wild_code_count(); i++)
        if (in_child()) {
            with_frame(how, i < wild_count() ? wild(i) : wild_code(i - wild_count()));
            _exit(0);
        }
}

#define FRAME(id, aim, ...)                                                                                                \
    static void change_##id(ucontext_t *uc, uint64_t w) {                                                                  \
        greg_t *g = uc->uc_mcontext.gregs;                                                                                 \
        __VA_ARGS__;                                                                                                       \
    }                                                                                                                      \
    IN_C("sigreturn", id, aim) { with_all_frames(change_##id); }
FRAME(sigreturn_rip, "R24", g[REG_RIP] = w)
FRAME(sigreturn_rip_low, "R24", g[REG_RIP] = (uint32_t)w)
FRAME(sigreturn_rsp, "R24", g[REG_RSP] = w)
FRAME(sigreturn_rip_rsp, "R24", g[REG_RIP] = w; g[REG_RSP] = w)
FRAME(sigreturn_selectors, "R24", g[REG_CSGSFS] = w)
FRAME(sigreturn_selectors_32, "R24", g[REG_CSGSFS] = 0x23)
FRAME(sigreturn_selectors_kernel, "R24", g[REG_CSGSFS] = 0x10 | (0x18ull << 48))
FRAME(sigreturn_fpstate, "R24", uc->uc_mcontext.fpregs = (void *)w)
FRAME(sigreturn_fpstate_low, "R24", uc->uc_mcontext.fpregs = (void *)(uintptr_t)(uint32_t)w)
FRAME(sigreturn_fpstate_odd, "R24", uc->uc_mcontext.fpregs = (void *)((char *)uc->uc_mcontext.fpregs + 1))
FRAME(sigreturn_fpstate_none, "R24", uc->uc_mcontext.fpregs = NULL)
FRAME(sigreturn_header, "R13", memset((char *)uc->uc_mcontext.fpregs + 512, 0xff, 64))
FRAME(sigreturn_features, "R13", ((uint64_t *)((char *)uc->uc_mcontext.fpregs + 512))[0] = ~w)
FRAME(sigreturn_pkru, "R13", ((uint64_t *)((char *)uc->uc_mcontext.fpregs + 512))[0] |= 0x200)
FRAME(sigreturn_compact, "R13", ((uint64_t *)((char *)uc->uc_mcontext.fpregs + 512))[1] = 1ull << 63 | w)
FRAME(sigreturn_mxcsr, "R13", ((uint32_t *)uc->uc_mcontext.fpregs)[6] = ~0u)
FRAME(sigreturn_mxcsr_unmasked, "R15", ((uint32_t *)uc->uc_mcontext.fpregs)[6] = 0)
FRAME(sigreturn_x87_pending, "R15", ((uint16_t *)uc->uc_mcontext.fpregs)[0] = 0; ((uint16_t *)uc->uc_mcontext.fpregs)[1] = 0xffff)
FRAME(sigreturn_software_bytes, "R24", memset((char *)uc->uc_mcontext.fpregs + 464, 0x7f, 48))
FRAME(sigreturn_software_size, "R24", ((uint32_t *)((char *)uc->uc_mcontext.fpregs + 464))[1] = ~0u; ((uint32_t *)((char *)uc->uc_mcontext.fpregs + 464))[4] = ~0u)
FRAME(sigreturn_all_flags, "R14", g[REG_EFL] = ~0ull)
FRAME(sigreturn_trap_flag, "R14", g[REG_EFL] |= 0x100)
FRAME(sigreturn_alignment_flag, "R14", g[REG_EFL] |= 0x40000)
FRAME(sigreturn_direction_flag, "R15", g[REG_EFL] |= 0x400)
FRAME(sigreturn_iopl, "R14", g[REG_EFL] |= 0x3000)
FRAME(sigreturn_nested_task, "R14", g[REG_EFL] |= 0x4000)
FRAME(sigreturn_virtual_8086, "R14", g[REG_EFL] |= 0x20000)
FRAME(sigreturn_all_ones, "R24", memset(g, 0xff, sizeof uc->uc_mcontext.gregs))
FRAME(sigreturn_all_wild, "R24", for (int i = 0; i < NGREG; i++) g[i] = w)
FRAME(sigreturn_stack_t, "R24", uc->uc_stack.ss_sp = (void *)w; uc->uc_stack.ss_size = ~0ull; uc->uc_stack.ss_flags = 0)
FRAME(sigreturn_frame_gone, "R18", munmap((void *)((uintptr_t)uc & -4096ull), 4096))

SNIPPET(bare_sigreturn, "mov %rsp, %r15; mov %rdi, %rsp; mov $15, %eax; syscall; mov %r15, %rsp")
ATTACK("sigreturn", sigreturn_wild_frame, "R24", each_wild_in_child, bare_sigreturn)

/* The handler, its stack and its restorer where they should not be. */
#define SIGNAL(id, aim, ...)                                                                                               \
    IN_C("sigreturn", id, aim) {                                                                                           \
        for (unsigned i = 0; i < wild_code_count(); i++) {                                                                 \
            if (!in_child())                                                                                               \
                continue;                                                                                                  \
            uint64_t w = wild_code(i);                                                                                     \
            struct { uint64_t handler, flags, restorer, mask; } act = {(uint64_t)on_forge, SA_SIGINFO | SA_ONSTACK | 0x4000000, (uint64_t)on_forge, 0}; \
            __VA_ARGS__;                                                                                                       \
            syscall(SYS_rt_sigaction, SIGUSR2, &act, NULL, 8);                                                             \
            forge = change_sigreturn_nested_task;                                                                          \
            registers(w);                                                                                                  \
            run(raise_forge);                                                                                              \
            if ((uint32_t)after[RAX] == VICTIM_RAN)                                                                        \
                escaped("ran the victim's code", w);                                                                       \
            check_registers();                                                                                             \
            _exit(0);                                                                                                      \
        }                                                                                                                  \
    }
SIGNAL(signal_handler_wild, "R24", act.handler = w)
SIGNAL(signal_restorer_wild, "R25", act.restorer = w)
SIGNAL(signal_no_restorer, "R25", act.flags &= ~0x4000000ull; act.restorer = w)
SIGNAL(signal_stack_wild, "R16", stack_t s = {.ss_sp = (void *)w, .ss_size = 1 << 20}; sigaltstack(&s, NULL))

IN_C("sigreturn", signal_frame_at_bottom, "R16") {
    struct sigaction act = {.sa_sigaction = on_forge, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaction(SIGUSR2, &act, NULL);
    forge = change_sigreturn_iopl;
    static const uint64_t bases[] = {0x10000, 0x8000, 0, 0xff000000, 0xfefff000, 0xffffffffffff0000, NEIGHBOUR};
    for (unsigned i = 0; i < 7; i++) {
        stack_t s = {(void *)bases[i], 0, 0x10000};
        sigaltstack(&s, NULL);
        tried();
        if (fork() == 0) {
            raise(SIGUSR2);
            _exit(0);
        }
        wait(NULL);
    }
}

/* ---- hostile state at the entries of the LibOS ---- */
#define CALLS "mov $39, %eax; syscall; mov $63, %eax; lea 0x400(%rsi), %rdi; syscall; mov $24, %eax; syscall; xor %eax, %eax; cpuid; movl $0, 0(%rsi); xor %eax, %eax; xor %ecx, %ecx; xor %ebx, %ebx; xor %edx, %edx; ud2"
#define ENTRY(id, aim, text) SNIPPET(id, text CALLS) ATTACK("entry", id, aim, once, id)
ENTRY(entry_direction, "R15", "std;")
ENTRY(entry_alignment, "R14", "pushf; orl $0x40000, (%rsp); popf;")
ENTRY(entry_trap, "R14", "pushf; orl $0x100, (%rsp); popf;")
ENTRY(entry_nested_task, "R14", "pushf; orl $0x4000, (%rsp); popf;")
ENTRY(entry_iopl, "R14", "pushf; orl $0x3000, (%rsp); popf;")
ENTRY(entry_all_flags, "R14", "push $-1; popf;")
ENTRY(entry_popf16, "R14", "pushw $-1; popfw;")
ENTRY(entry_id_flag, "R14", "pushf; xorl $0x200000, (%rsp); popf;")
ENTRY(entry_mxcsr, "R15", "movl $0, (%rsi); ldmxcsr (%rsi);")
ENTRY(entry_mxcsr_reserved, "R13", "movl $-1, (%rsi); ldmxcsr (%rsi);")
ENTRY(entry_mxcsr_rounding, "R15", "movl $0xff80, (%rsi); ldmxcsr (%rsi);")
ENTRY(entry_x87_pending, "R15", "fninit; movw $0x300, (%rsi); fldcw (%rsi); fldz; fld1; fdivp;")
ENTRY(entry_x87_full, "R15", "fninit; fld1; fld1; fld1; fld1; fld1; fld1; fld1; fld1;")
ENTRY(entry_mmx_state, "R15", "pcmpeqd %mm0, %mm0; movq %mm0, %mm7;")
ENTRY(entry_fs_base_wild, "R23", "mov %rdi, %r12; mov $158, %eax; mov $0x1002, %edi; mov %rsi, %rbx; movabs $0x10a00000000, %rsi; syscall; mov %fs:0, %rax; mov %rbx, %rsi;")
ENTRY(entry_gs_base_wild, "R23", "mov $158, %eax; mov $0x1001, %edi; mov %rsi, %rbx; mov $-8, %rsi; syscall; mov %rbx, %rsi; mov %gs:0, %rax; mov %rdx, %gs:16;")
ENTRY(entry_stack_zero, "R16", "xor %esp, %esp;")
ENTRY(entry_stack_unaligned, "R16", "sub $3, %rsp;")
ENTRY(entry_stack_top, "R16", "mov $0xffffffff, %esp;")

#define BASE(id, aim, code, access)                                                                                        \
    SNIPPET(id, "mov %rdi, %r12; mov %rsi, %rbx; mov %rdi, %rsi; mov $" code ", %edi; mov $158, %eax; syscall;"            \
                "mov %rbx, %rsi; xor %ebx, %ebx; xor %ecx, %ecx; mov %r12, %rdi; xor %edx, %edx;" access)                   \
    ATTACK("segment", id, aim, each_wild_loose, id)
BASE(segment_fs_read, "V8", "0x1002", "mov %fs:0, %rax")
BASE(segment_fs_write, "V8", "0x1002", "mov %rdx, %fs:8")
BASE(segment_fs_index, "V8", "0x1002", "mov %fs:(%rsi), %rax; mov %rdx, %fs:(%rsi,%rsi)")
BASE(segment_fs_negative, "V8", "0x1002", "mov %fs:-0x80000000, %rax; mov %rdx, %fs:-8")
BASE(segment_fs_vector, "V8", "0x1002", "movups %fs:0, %xmm0; movups %xmm0, (%rsi)")
BASE(segment_fs_rmw, "V8", "0x1002", "lock xaddq %rdx, %fs:16")
BASE(segment_gs_read, "V9", "0x1001", "mov %gs:0, %rax")
BASE(segment_gs_write, "V9", "0x1001", "mov %rdx, %gs:8")
BASE(segment_gs_table, "V9,R19", "0x1001", "mov %gs:-8, %rax; mov %edx, %gs:-16")
BASE(segment_gs_addr32, "V9", "0x1001", ".byte 0x65,0x67,0x48,0x8b,0x06")
BASE(segment_gs_push, "V9", "0x1001", "push %gs:0; pop %rax")
BASE(segment_gs_jump, "V9", "0x1001", "jmp *%gs:0")
BASE(segment_fs_call, "V8", "0x1002", "call *%fs:8")
BASE(segment_gs_string, "R9", "0x1001", "lea 64(%rsi), %rdi; .byte 0x65; movsq")
BASE(segment_get_to_wild, "R18", "0x1003", "xor %eax, %eax")
