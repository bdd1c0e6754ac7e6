# V4 to V7: operands near rsp, and how rsp may move.
@ V4 near rsp
    mov 8(%rsp), %rax
    movups %xmm0, -0x80(%rsp)
    mov %eax, 0x4000(%rsp)
    mov %eax, -0x4000(%rsp)
@ V4 far from rsp: through the slot
    mov %gs:0x10000(%esp), %eax
    mov %gs:(%esp,%ecx,8), %eax
@ V5 a push, a pop and a plain access confine
    sub $0x7000, %rsp
    push %rax
    sub $0x7000, %rsp
    mov (%rsp), %rax
    sub $0x7000, %rsp
    pop %rax
    sub $0x7000, %rsp
    movups %xmm0, 0xfff(%rsp)
@ V5 the whole budget
    sub $0x4000, %rsp
    add $0x4000, %rsp
    mov (%rsp), %rax
@ V5 the largest alignment, and the smallest
    and $-4096, %rsp
    and $-1, %rsp
    push %rax
@ V5 the probe
    and $-64, %rsp
    cmp %al, (%rsp)
@ V5 a rebase
    fetch
    sub $0x8000, %rsp
    mov %esp, %esp
    rebase
    sub $0x8000, %rsp
    mov %esp, %esp
    rebase
@ V5 a cmov reads memory always
    sub $0x8000, %rsp
    cmovz (%rsp), %eax
@ V6 low halves of rsp are offsets
    mov %esp, %eax
    cmp %esp, %ecx
    mov %esp, %gs:(%eax)
    movzbl %spl, %eax
    movd %esp, %xmm0
@ V6 ah is not rsp
    mov %ah, %al
    mov $1, %ah
@ V7 lea of rsp with 32 bits
    lea 8(%rsp), %eax
    lea (%rsp,%rcx,4), %r8d
@ V6 r12 is not rsp
    mov %r12, %rax
    xchg %r12, %gs:(%eax)
    bswap %r12
@ V6 push %rsp where r11 is in its register
    fetch
    spill r11, 11
    mov %esp, %r11d
    push %r11
    reload r11, 11
