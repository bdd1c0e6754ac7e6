# V3, V11: branches.
@ V11 inside, both ways
1:  dec %eax
    jnz 1b
    jmp 2f
    nop
2:  nop
@ V11 to code published before
    jz PROVEN
    jmp PROVEN
    nop
@ V11 a call is a push and a jump
    pushq $0x12345
    prefetcht0 %gs:-0x91a30
    jmp PROVEN
    nop
@ V11 into the start of a pattern
    fetch
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
@ V7 r11 in its register: fetched at entries, brought home before an exit
    fetch
1:  add %r11, %rax
    mov $5, %r11d
    jz 1b
    spill r11, 11
    jz PROVEN
    pushq $0x12345
    jmp PROVEN
    fetch
    imul %r11, %rcx
    spill r11, 11
    movl $0x1234, %fs:EXIT
    jmp STUB_EMULATE
    fetch
    jmp 1b
@ V7 r11 behind a system call is the program's
    fetch
    next
    add %r11, %rax
@ V8 the reload of r11 may stand anywhere
    fetch
    sub $64, %rsp
    fetch
    mov (%rsp), %rax
