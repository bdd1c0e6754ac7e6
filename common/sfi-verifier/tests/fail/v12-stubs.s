# V12: the runtime's stubs.
@ open StubAlone the link stub without EXIT
    jmp STUB_LINK
@ open StubAlone the emulate stub without EXIT
    jmp STUB_EMULATE
@ StubAlone the syscall stub with any rcx: it is the resume address
    jmp STUB_SYSCALL
@ StubAlone the syscall stub behind a move
    mov $0x41000000, %ecx
    jmp STUB_SYSCALL
@ TargetOutside a conditional jump to the link stub
    jz STUB_LINK
@ TargetOutside a conditional jump to the syscall stub
    jz STUB_SYSCALL
@ open TargetOutside the miss stub of returns
    jmp STUB_MISS_RET
@ open TargetOutside the miss stub of calls
    jmp STUB_MISS_CALL
@ Broken EXIT and then the syscall stub
    movl $1, %fs:EXIT
    jmp STUB_SYSCALL
@ Broken EXIT and then a miss stub
    movl $1, %fs:EXIT
    jmp STUB_MISS_CALL
@ Broken EXIT and then something else
    movl $1, %fs:EXIT
    nop
    jmp STUB_LINK
@ Broken the loads of a system call and then the link stub
    fetch
    lea 11(%rip), %rcx
    mov $1, %r11d
    jmp STUB_LINK
@ Broken rcx changes before the syscall stub
    fetch
    lea 11(%rip), %rcx
    mov $1, %r11d
    mov %eax, %ecx
    jmp STUB_SYSCALL
@ Broken the order of the loads
    lea 11(%rip), %rcx
    jmp STUB_SYSCALL
@ RipRelative a resume address in the pattern
    fetch
    lea 6(%rip), %rcx
    mov $1, %r11d
    jmp STUB_SYSCALL
@ RipRelative a resume address further on
    fetch
    lea 12(%rip), %rcx
    mov $1, %r11d
    jmp STUB_SYSCALL
@ RipRelative a resume address in another register
    fetch
    lea 11(%rip), %rdx
    mov $1, %r11d
    jmp STUB_SYSCALL
@ Broken r11 loaded with 64 bits
    fetch
    lea 11(%rip), %rcx
    movabs $1, %r11
    jmp STUB_SYSCALL
