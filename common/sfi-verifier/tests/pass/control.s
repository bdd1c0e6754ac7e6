# V3, V11: branches.
@ V11 inside, both ways
1:  dec %eax
    jnz 1b
    jmp 2f
    prelude
2:  nop
@ V11 to code published before
    jz PROVEN
    jmp PROVEN
    prelude
@ V11 a call is a push and a jump
    pushq $0x12345
    jmp PROVEN
    prelude
@ V11 into the start of a pattern
    jz 1f
    nop
1:  mov %esp, %esp
    rebase
@ V11 jrcxz over a jump
    jrcxz 1f
    jmp 2f
1:  jmp PROVEN
2:  nop
@ V12 an exit stub behind the code
    jz 1f
    jmp PROVEN
1:  movl $7, %fs:EXIT
    jmp STUB_LINK
@ V12 the code behind a syscall is its resume address
    next
    jz PROVEN
@ open V3 a jump to itself
1:  jmp 1b
@ V8 the reload of r11 may stand anywhere
    prelude
    sub $64, %rsp
    prelude
    mov (%rsp), %rax
