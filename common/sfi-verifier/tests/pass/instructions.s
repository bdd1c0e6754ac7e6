# V1, V2: what the allow-list names, with the prefixes it may have.
@ V1 arithmetic with slot operands
    addl $1, %gs:(%eax)
    adc %gs:8(%edi,%ecx,2), %rdx
    lock cmpxchg %rbx, %gs:(%esi)
    lock cmpxchg16b %gs:(%esi)
    xadd %eax, %gs:0x10(%esi)
    imul $100, %gs:(%r8d), %r9d
@ V1 vectors, legacy and VEX, up to AVX2 and FMA
    movups %gs:(%eax), %xmm1
    pshufb %xmm1, %xmm2
    vaddps %gs:(%eax), %ymm1, %ymm2
    vfmadd231sd %xmm1, %xmm2, %xmm3
    vpermq $3, %ymm1, %ymm2
    vzeroupper
@ V1 gathers truncate every element
    vpgatherdd %ymm1, %gs:(%eax,%ymm2,4), %ymm3
    vgatherqpd %xmm1, %gs:(%ecx,%xmm2,8), %xmm3
@ V1 x87 without environment
    fldt %gs:(%eax)
    faddp
    fstpl %gs:(%eax)
    fldcw %gs:(%eax)
    fnstsw %ax
@ V1 bit tests on registers or with a constant
    bt %rax, %rbx
    lock btsl $5, %gs:(%eax)
    bsf %gs:(%eax), %ecx
@ V1 bmi, random numbers, fences, pause
    andn %eax, %ebx, %ecx
    pdep %rax, %rbx, %rcx
    blsr %rax, %rbx
    mulx %rax, %rbx, %rcx
    rdrand %rax
    mfence
    pause
@ V1 the time-stamp counter
    lfence
    rdtsc
@ V1 implicit memory operands take the same prefixes
    .byte 0x65, 0x67, 0xd7                  # xlat
    .byte 0x65, 0x67, 0x66, 0x0f, 0xf7, 0xc1 # maskmovdqu
    .byte 0x65, 0x67, 0xc5, 0xf9, 0xf7, 0xc1 # vmaskmovdqu
@ V1 the only multi-byte nop, and the short ones
    .byte 0x0f, 0x1f, 0x00
    nop
    xchg %ax, %ax
@ V2 all prefixes in their order
    fetch
    .byte 0x65, 0x67, 0x66, 0xf0, 0x41, 0x81, 0x04, 0x24, 0x34, 0x12 # lock addw $0x1234, %gs:(%r12d)
    .byte 0x65, 0x67, 0x66, 0xf3, 0x45, 0x0f, 0xb8, 0x03            # popcnt %gs:(%r11d), %r8w
@ V2 lea may have 67
    lea (%eax,%ebx), %rcx
@ V2 67 of jrcxz and loop
    .byte 0x67, 0xe3, 0x00
    loop 1f
1:  jecxz 1b
