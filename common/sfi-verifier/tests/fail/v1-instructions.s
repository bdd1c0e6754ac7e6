# V1: no rule, or a field that the rule does not have.
@ Rule the system call itself
    syscall
@ Rule sysenter
    sysenter
@ Rule a software interrupt
    int $0x80
@ Rule a breakpoint
    int3
@ Rule int1
    .byte 0xf1
@ Rule cpuid leaves the enclave
    cpuid
@ Rule rdtscp
    rdtscp
@ Rule port input
    in %dx, %al
@ Rule port output from memory
    outsb
@ Rule port input to memory
    rep insb
@ Rule halt
    hlt
@ Rule interrupt flag
    cli
@ Rule fs base
    wrfsbase %rax
@ Rule gs base
    wrgsbase %rax
@ Rule reading the slot base
    rdgsbase %rax
@ Rule reading the context's address
    rdfsbase %rax
@ Rule swapgs
    swapgs
@ Rule loading a segment register
    mov %ax, %ds
@ Rule reading a segment register
    mov %ds, %eax
@ Rule popping a segment register
    pop %fs
@ Rule pushing a segment register
    push %gs
@ Rule far pointer load
    lfs %gs:(%eax), %ecx
@ Rule flags with TF and AC
    popf
@ Rule interrupt return
    iretq
@ Rule state image: it holds addresses of instructions
    fxsave %gs:(%eax)
@ Rule state image with a header
    xsave %gs:(%eax)
@ Rule xrstor writes PKRU
    xrstor %gs:(%eax)
@ Rule x87 environment
    fnstenv %gs:(%eax)
@ Rule x87 environment loaded
    fldenv %gs:(%eax)
@ Rule x87 state
    fnsave %gs:(%eax)
@ Rule protection keys
    wrpkru
@ Rule extended control register
    xgetbv
@ Rule control register
    mov %cr0, %rax
@ Rule debug register
    mov %rax, %dr7
@ Rule ENCLU
    .byte 0x0f, 0x01, 0xd7
@ Rule ENCLS
    .byte 0x0f, 0x01, 0xcf
@ Rule ENCLV
    .byte 0x0f, 0x01, 0xc0
@ Rule vmcall
    vmcall
@ Rule vmmcall
    vmmcall
@ Rule monitor takes an address in rax
    monitor
@ Rule clzero takes an address in rax
    clzero
@ Rule rdpru
    rdpru
@ Rule transaction begin: its abort address is no boundary
    .byte 0xc7, 0xf8, 0, 0, 0, 0
@ Rule transaction abort
    xabort $1
@ Rule processor number
    rdpid %rax
@ Rule access rights of a selector
    lar %ax, %eax
@ Rule local descriptor table
    sldt %eax
@ Rule global descriptor table
    sgdt %gs:(%eax)
@ Rule machine status word
    smsw %eax
@ Rule undefined by definition
    ud2
@ Rule leave takes rsp from rbp
    leave
@ Rule enter pushes and moves
    enter $16, $0
@ Rule near return
    ret
@ Rule near return with a drop
    ret $8
@ Rule far return
    lret
@ Rule near call
    call PROVEN
@ Rule indirect call
    call *%rax
@ Rule call through memory
    call *%gs:(%eax)
@ Rule indirect jump not through the table
    jmp *%rax
@ Rule jump through memory
    jmp *%gs:(%eax)
@ Rule far jump
    ljmp *%gs:(%eax)
@ Rule bit test reaches beyond its operand
    bt %rax, %gs:(%ecx)
@ Rule bit set reaches beyond its operand
    bts %eax, %gs:(%ecx)
@ Rule moffs: 67 changes its length
    .byte 0x65, 0x67, 0xa1, 0, 0, 0, 0
@ Rule EVEX
    vaddps %zmm1, %zmm2, %zmm3
@ Rule EVEX with a slot operand
    {evex} vmovdqu32 %gs:(%eax), %xmm1
@ Rule XOP
    .byte 0x8f, 0xe8, 0x78, 0xc0, 0xc8, 0x01
@ Rule 3DNow!
    pfadd %mm1, %mm2
@ Rule FMA4
    vfmaddps %xmm1, %xmm2, %xmm3, %xmm4
@ Rule SSE4a
    extrq %xmm1, %xmm2
@ Rule movdir64b writes at an address in a register
    movdir64b %gs:(%eax), %ecx
@ Rule movdiri
    movdiri %eax, %gs:(%ecx)
@ Rule enqcmd writes at an address in a register
    enqcmd %gs:(%eax), %ecx
@ Rule umonitor
    umonitor %eax
@ Rule shadow stack write
    wrssd %eax, %gs:(%ecx)
@ Rule shadow stack pointer
    incsspq %rax
@ Rule endbr64
    endbr64
@ Rule ptwrite
    ptwrite %eax
@ Rule mask register
    kmovw %k1, %eax
@ Rule tile load
    tileloadd (%rax,%rbx), %tmm1
@ Rule AVX-VNNI is newer than the list
    {vex} vpdpbusd %xmm1, %xmm2, %xmm3
@ Rule compare and add is newer than the list
    .byte 0x65, 0x67, 0xc4, 0xe2, 0x71, 0xe0, 0x10
@ Rule salc does not exist
    .byte 0xd6
@ Rule a digit that does not exist
    .byte 0xfe, 0xd0
@ Rule memory form of an instruction that has none
    .byte 0x65, 0x67, 0x66, 0x0f, 0xd7, 0x00
@ Rule register form of an instruction that has none
    .byte 0x8d, 0xc0
@ Rule xacquire and other repeats
    .byte 0xf2, 0x01, 0xc8
@ VexMap map 0
    .byte 0xc4, 0xe0, 0x78, 0x0f, 0xc0, 0x01
@ VexMap map 4
    .byte 0xc4, 0xe4, 0x78, 0x58, 0xc0
@ VexMap map 5
    .byte 0xc4, 0xe5, 0x78, 0x58, 0xc0
@ VexMap map 7
    .byte 0xc4, 0xe7, 0x7b, 0xf8, 0xc0, 0, 0, 0, 0
@ VexMap map 31
    .byte 0xc4, 0xff, 0x78, 0x58, 0xc0
@ VexLength 256 bits of vmovd
    .byte 0xc5, 0xfd, 0x6e, 0xc0
@ VexLength 128 bits of vpermd
    .byte 0xc4, 0xe2, 0x71, 0x36, 0xc0
@ VexLength 256 bits of andn
    .byte 0xc4, 0xe2, 0x74, 0xf2, 0xc0
@ VexWidth vpermq without W
    .byte 0xc4, 0xe3, 0x7d, 0x00, 0xc0, 0x01
@ VexWidth vpblendd with W
    .byte 0xc4, 0xe3, 0xf1, 0x02, 0xc0, 0x01
@ VexWidth vcvtph2ps with W
    .byte 0xc4, 0xe2, 0xf9, 0x13, 0xc0
@ VexUnused vmovups names a second source
    .byte 0xc5, 0xf0, 0x10, 0xc0
@ VexUnused rorx names a second source
    .byte 0xc4, 0xe3, 0x73, 0xf0, 0xc0, 0x01
@ VexUnused vzeroupper names a register
    .byte 0xc5, 0xf0, 0x77
@ X87Form d9 d1
    .byte 0xd9, 0xd1
@ X87Form da e8
    .byte 0xda, 0xe8
@ X87Form db e5
    .byte 0xdb, 0xe5
@ X87Form dd f0
    .byte 0xdd, 0xf0
@ X87Form df e1
    .byte 0xdf, 0xe1
@ NopForm a nop with another operand
    .byte 0x0f, 0x1f, 0x40, 0x00
@ NopForm a nop with REX
    .byte 0x41, 0x0f, 0x1f, 0x00
@ NopForm a nop with prefixes
    .byte 0x65, 0x67, 0x0f, 0x1f, 0x00
@ VsibForm a gather without SIB
    .byte 0x65, 0x67, 0xc4, 0xe2, 0x71, 0x90, 0x10
@ VsibDistinct destination is the mask
    .byte 0x65, 0x67, 0xc4, 0xe2, 0x71, 0x90, 0x0c, 0x10
@ VsibDistinct destination is the index
    .byte 0x65, 0x67, 0xc4, 0xe2, 0x71, 0x90, 0x14, 0x10
@ VsibDistinct index is the mask
    .byte 0x65, 0x67, 0xc4, 0xe2, 0x71, 0x90, 0x1c, 0x08
