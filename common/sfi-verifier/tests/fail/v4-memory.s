# V4: memory operands.
@ MemoryForm a register as base
    mov (%rax), %ecx
@ MemoryForm r12, whose encoding is like that of rsp
    mov (%r12), %ecx
@ MemoryForm rbp
    mov -8(%rbp), %ecx
@ MemoryForm absolute
    mov 0x1000, %ecx
@ MemoryForm 32-bit addressing without gs is absolute
    mov (%eax), %ecx
@ MemoryForm esp without gs
    mov (%esp), %ecx
@ MemoryForm a store
    movups %xmm0, (%rdi)
@ MemoryForm an index alone
    mov (,%rcx,8), %eax
@ MemoryForm a gather
    vpgatherdd %ymm1, (%rax,%ymm2,4), %ymm3
@ MemoryForm a prefetch
    prefetcht0 (%rax)
@ MemoryForm x87
    fldt (%rax)
@ MemoryForm push of memory
    push (%rax)
@ MemoryForm VEX
    vmovups (%rax), %ymm1
@ GsAlone gs with a 64-bit base
    mov %gs:(%rax), %ecx
@ GsAlone gs with rsp
    mov %gs:(%rsp), %ecx
@ GsAlone gs with a displacement: sign-extended, 2 GiB below the slot
    mov %gs:-0x1000, %ecx
@ GsAlone a store into the tables
    fetch
    mov %eax, %gs:(,%r11,4)
@ GsAlone an atomic through gs
    lock incl %gs:(%rax)
@ RipRelative rip
    mov 0x100(%rip), %eax
@ RipRelative eip under gs
    .byte 0x65, 0x67, 0x8b, 0x05, 0, 0, 0, 0
@ RipRelative lea of rip: an address of translated code
    lea 0x100(%rip), %rax
@ RipRelative lea of rip into ecx
    lea 11(%rip), %ecx
@ RipRelative push
    push 8(%rip)
@ StackIndex an index on rsp
    mov (%rsp,%rax), %ecx
@ StackIndex a scaled index on rsp
    mov %ecx, 8(%rsp,%r12,8)
@ StackIndex an index in a vector access
    movups (%rsp,%rdi), %xmm1
@ StackReach just beyond 16 KiB
    mov 0x4001(%rsp), %eax
@ StackReach just below -16 KiB
    mov %eax, -0x4001(%rsp)
@ StackReach 2 GiB up: the next slot
    mov 0x7fff0000(%rsp), %rax
@ StackReach 2 GiB down: the tables
    mov %rax, -0x7ffe0188(%rsp)
@ StackReach the smallest number has no absolute value
    mov -0x80000000(%rsp), %eax
@ StackReach the store of ret n far away
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    {disp32} mov %r11, 0x7fff0000(%rsp)
    not %r11
    lookup 0
    lea 0x4008(%rsp), %rsp
    jmp *%r11
@ ImplicitForm maskmovdqu without prefixes
    maskmovdqu %xmm1, %xmm0
@ ImplicitForm maskmovq without prefixes
    maskmovq %mm1, %mm0
@ ImplicitForm xlat without prefixes
    xlat
@ ImplicitForm gs without 67
    .byte 0x65, 0xd7
@ ImplicitForm 67 without gs
    .byte 0x67, 0xc5, 0xf9, 0xf7, 0xc1
