# Small programs for tests/native.rs. Each section is one snippet: it starts at its first byte, ends with int3, and runs
# natively and translated from equal registers and memory. rsp, rbp, rsi, rdi, rbx point to memory; r12 = its own start.

    .section .t.plain, "ax"
    mov $5, %eax
    add %rax, %rcx
    adc 8(%rsi), %rdx
    mov %edx, 16(%rdi,%r8,4)
    sub $1, %r9
    xchg %r9, (%rdi)
    lock addl $7, 32(%rdi)
    movzbl 3(%rsi), %r10d
    int3

    .section .t.stack, "ax"
    push %rbp
    mov %rsp, %rbp
    sub $0x48, %rsp
    mov %rax, -8(%rbp)
    mov %rcx, 16(%rsp)
    lea 8(%rsp), %rdx
    mov (%rdx), %r8
    and $-32, %rsp
    movq $1, (%rsp)
    lea -0x48(%rbp), %rsp
    pushq $77
    pop %r9
    leave
    int3

    .section .t.rsp_forms, "ax"
    push %rsp
    pop %rax
    mov %rsp, (%rdi)
    mov %esp, 8(%rdi)
    mov %sp, 16(%rdi)
    cmp %rsp, %rax
    sete %cl
    add %rsp, %rdx
    sub %rax, %rdx
    movq %rsp, %xmm4
    mov %rsp, %r13
    sub %r8, %rsp
    mov %r9, 8(%rsp)
    mov %r13, %rsp
    lea 16(%rsp,%r8,8), %rbx
    mov %rsp, %r14
    push %r14
    pop %rsp
    mov %rsp, 24(%rdi)
    mov 24(%rdi), %rsp
    add $0x10000, %rsp
    push %rax
    pop %rax
    sub $0x10000, %rsp
    xor %rax, %rax
    cmove %r13, %rsp
    movabs $0x2000000, %r11
    test %rsp, %rsp
    lea 0(%rsp), %rsp
    lea 1(%esp), %eax
    enter $64, $0
    movq $3, (%rsp)
    leave
    int3

    .section .t.calls, "ax"
    call 1f
    mov %rax, %rbx
    lea 3f(%rip), %rdx
    call *%rdx
    push %rdx
    call *(%rsp)
    xor %r8d, %r8d
    call *(%rsp,%r8,8)
    pop %rdx
    lea 2f(%rip), %r11
    jmp *%r11
    ud2
1:  mov $1, %eax
    add $1, %rcx
    ret
3:  add $3, %rcx
    stc
    ret
2:  lea 4f(%rip), %r10
    push %r9
    push %r10
    ret $8
4:  movq $0, -8(%rsp)
    int3

    .section .t.branches, "ax"
    mov $10, %ecx
    xor %eax, %eax
1:  add %rcx, %rax
    test $1, %cl
    je 2f
    add $100, %rax
    jmp 3f
2:  sub $1, %rax
3:  loop 1b
    mov $3, %ecx
4:  add $2, %rbx
    cmp %rbx, %rbx
    loope 4b
    mov $0, %ecx
    jrcxz 5f
    ud2
5:  mov $2, %ecx
    jecxz 6f
    dec %ecx
    jmp 5b + 5
6:  setc %dl
    int3

    .section .t.strings, "ax"
    cld
    mov $64, %ecx
    push %rsi
    push %rdi
    rep movsb
    mov %rdi, %r8
    pop %rdi
    pop %rsi
    mov $8, %ecx
    mov $0x41, %eax
    rep stosq
    lea -64(%rdi), %rdi
    mov $100, %ecx
    repe cmpsb
    mov $0x41, %al
    mov $100, %ecx
    repne scasb
    std
    lodsb
    movsw
    cld
    stosl
    .byte 0x67
    movsl
    mov $5, %ecx
    .byte 0x67
    rep stosb
    int3

    .section .t.tls, "ax"
    mov %fs:0, %rax
    mov %fs:0x28, %rcx
    mov %rcx, %fs:0x30
    mov $0x40, %r8d
    mov %fs:(%r8), %rdx
    add %rdx, %fs:8(%r8)
    mov $2, %r9d
    movb $9, %fs:0x10(%r8,%r9,8)
    cmpq $0, %fs:0x40
    sub %fs:0x28, %rcx
    movzbl %fs:0x11, %r10d
    mov %fs:0xfffffffffffffff8, %r11
    mov %gs:0x10, %rbx
    mov %rax, %gs:0x18
    pushq %fs:0x28
    popq %fs:0x38
    mov %ah, %fs:0x60
    movups %fs:0x20, %xmm3
    lock incl %fs:0x70
    int3

    .section .t.rip, "ax"
    lea 1f(%rip), %rax
    mov 1f(%rip), %rcx
    add %rcx, 1f+8(%rip)
    movb $5, 1f+16(%rip)
    movups 1f(%rip), %xmm1
    cmpl $3, 1f(%rip)
    lea -0x7f000000(%rip), %rdx
    lea 1f(%rip), %r13d
    lea 1f(%rip), %r14w
    movabs 0x02000010, %al
    movabs 0x02000010, %rax
    movabs %eax, 0x02000020
    int3
    .balign 16
1:  .quad 0x1122334455667788, 9, 10, 11

    .section .t.vector, "ax"
    movdqu (%rsi), %xmm0
    paddd 16(%rsi), %xmm0
    vmovdqu (%rsi), %ymm1
    vpaddq (%rsi,%r8,8), %ymm1, %ymm2
    vmovups %ymm2, 64(%rdi)
    vpcmpeqd %ymm3, %ymm3, %ymm3
    vpxor %xmm5, %xmm5, %xmm5
    vpgatherdd %ymm3, 8(%rsi,%ymm5,4), %ymm6
    vextracti128 $1, %ymm6, %xmm7
    vmaskmovps (%rsi), %ymm3, %ymm4
    pcmpeqb %xmm8, %xmm8
    push %rdi
    lea 256(%rdi), %rdi
    maskmovdqu %xmm8, %xmm0
    pop %rdi
    mov %rsi, %rbx
    mov $3, %al
    xlatb
    vmovdqu %xmm6, 0x300(%rsp)
    movaps %xmm0, %xmm9
    fldl (%rsi)
    fstpl 0x100(%rdi)
    vzeroupper
    int3

    .section .t.bits, "ax"
    bt $3, %eax
    btsl $5, (%rdi)
    bts %rcx, %rdx
    shlx %rcx, 8(%rsi), %rax
    andn 8(%rsi), %rax, %r11
    cmpxchg %rcx, (%rdi)
    xadd %rdx, 8(%rdi)
    cmpxchg16b 32(%rdi)
    movbe (%rsi), %r10
    crc32q 8(%rsi), %r10
    popcnt 16(%rsi), %r12
    bswap %rax
    cqo
    imul $77, 8(%rsi), %r13
    mul %rcx
    setne 3(%rdi)
    cmovb (%rsi), %r14
    nopw 0x0(%rax,%rax,1)
    endbr64
    pause
    prefetcht0 (%rsi)
    int3

    .section .t.frame, "ax"
    sub $0x4000, %rsp
    test %rax, %rax
    jne 1f
    nop
1:  mov %rax, 0x3ff8(%rsp)
    sub $0x4000, %rsp
    lea -0x4000(%rsp), %rsp
    sub $0x4000, %rsp
    add $0x10000, %rsp
    add $8, %rsp
    sub $8, %rsp
    stc
    lea -0x20(%rsp), %rsp
    jc 2f
    ud2
2:  lea 0x20(%rsp), %rsp
    sub %rax, %rax
    mov %rsp, %rcx
    mov $0x4000, %ecx
    sub $0x10, %rsp
    jz 3f
    add $0x10, %rsp
    mov $7, %eax
3:  int3
