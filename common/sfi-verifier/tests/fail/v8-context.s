# V8: the trusted context.
@ FsForm the kernel stack pointer
    mov %fs:0xd0, %rax
@ FsForm the resume address
    mov %rax, %fs:0xe8
@ FsForm the slot base written
    mov %rax, %fs:SLOT_BASE
@ FsForm the segment base written
    mov %rax, %fs:TLS
@ FsForm the context's own address
    mov %fs:0, %rax
@ FsForm the spill slot of another register
    mov %rax, %fs:0x40 + 8
@ FsForm the spill slot of another register read
    mov %fs:0x40 + 8, %rax
@ ContextRsp a spill of rsp
    mov %rsp, %fs:0x40 + 8 * 4
@ ContextRsp a reload of rsp
    mov %fs:0x40 + 8 * 4, %rsp
@ FsForm 32 bits of a spill
    mov %eax, %fs:0x40
@ FsForm 32 bits of a reload
    fetch
    mov %fs:0x40 + 8 * 11, %r11d
@ FsForm a reload with an index
    .byte 0x64, 0x4c, 0x8b, 0x1c, 0x65, 0x98, 0, 0, 0
@ FsForm a reload relative to rip
    .byte 0x64, 0x4c, 0x8b, 0x1d, 0x25, 0x98, 0, 0, 0
@ FsForm a store through a register
    mov %rax, %fs:(%rax)
@ FsForm a load with 32-bit addressing
    mov %fs:(%eax), %rax
@ FsForm another instruction
    add %rax, %fs:0x40
@ FsForm a vector load
    movups %fs:0x200, %xmm0
@ FsForm another slot for the constant
    movl $1, %fs:0xf0
@ FsForm the constant with 64 bits
    movq $1, %fs:EXIT
@ FsForm another register in TARGET
    mov %rax, %fs:TARGET
@ FsForm a push of the context
    push %fs:0xd0
@ FsForm a jump through the context
    jmp *%fs:0xe8
@ FsForm the pending mark cleared
    movl $0, %fs:0x20
@ FsForm an index
    mov %fs:0x40(,%rax,8), %rax
@ FsForm behind the context
    mov %fs:0x700, %rax
@ FsAlone a reload of another register than r11
    reload rax, 0
@ Broken EXIT outside its pattern
    movl $1, %fs:EXIT
@ FsAlone TARGET outside its pattern
    fetch
    mov %r11, %fs:TARGET
@ FsAlone the slot base in r11
    fetch
    base r11
