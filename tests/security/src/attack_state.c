/* Attacks by what a new program finds in its registers. */
#include "attack.h"

/* Entered before the C library's start: stores all registers as they were. */
uint64_t first_registers[REGS], first_vectors[16][4];
int initial_state(uint64_t s) {
    int bad = 0;
    for (int i = 0; i < REGS; i++)
        bad |= is_secret(first_registers[i], s) || (first_registers[i] >> 32) != 0;
    for (int i = 0; i < 64; i++)
        bad |= first_vectors[i / 4][i % 4] != 0;
    return bad;
}
__asm__(".pushsection .text\n .globl first_instruction\n first_instruction:\n"
        "mov %rax, first_registers+8*0(%rip); mov %rbx, first_registers+8*1(%rip); mov %rcx, first_registers+8*2(%rip)\n"
        "mov %rdx, first_registers+8*3(%rip); mov %rsi, first_registers+8*4(%rip); mov %rdi, first_registers+8*5(%rip)\n"
        "mov %rbp, first_registers+8*6(%rip); mov %r8, first_registers+8*7(%rip); mov %r9, first_registers+8*8(%rip)\n"
        "mov %r10, first_registers+8*9(%rip); mov %r11, first_registers+8*10(%rip); mov %r12, first_registers+8*11(%rip)\n"
        "mov %r13, first_registers+8*12(%rip); mov %r14, first_registers+8*13(%rip); mov %r15, first_registers+8*14(%rip)\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu %ymm\\n, first_vectors+32*\\n(%rip)\n .endr\n"
        "jmp _start\n .popsection\n");

IN_C("leak", leak_initial_registers, "R17") {
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)seed);
    for (int i = 0; i < 8; i++) {
        tried();
        pid_t pid = fork();
        int status;
        if (pid == 0) {
            execl("/proc/self/exe", "attacks", "--initial", text, (char *)NULL);
            _exit(1);
        }
        waitpid(pid, &status, 0);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            escaped("a new program's registers are not clean", status);
    }
}
