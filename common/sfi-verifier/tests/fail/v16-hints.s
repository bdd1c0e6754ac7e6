# V16: hints of returns. `patterns` also leaves out, delays and enters every instruction of pass/hints.
@ HintEntry a hint of an entry outside
    pushq $0x12345
    distance r11
    hint 0x12345, PROVEN
@ HintEntry a hint of a stub
    pushq $0x12345
    distance r11
    hint 0x12345, STUB_SYSCALL
@ HintEntry a hint of an address below 4 KiB
    pushq $0x12345
    distance r11
    hint 0x12345, 1
@ HintEntry a hint that leads back
    pushq $0x12345
    distance r11
1:  hint 0x12345, 1b
    jmp PROVEN
@ HintEntry a hint of the middle of an instruction
    pushq $0x12345
    distance r11
    hint 0x12345, 1f+1
    jmp PROVEN
1:  mov $0x90909090, %eax
@ HintEntry a hint of the middle of a pattern
    pushq $0x12345
    distance r11
    hint 0x12345, 1f
    jmp PROVEN
    mov %esp, %r11d
1:  mov %r11d, %eax
@ HintEntry a hint where rsp is not confined
    pushq $0x12345
    distance r11
    hint 0x12345, 1f
    jmp PROVEN
    add $8, %rsp
1:  push %rax
@ HintEntry a hint that needs r11 in its register
    fetch
    pushq $0x12345
    distance r11
    hint 0x12345, 1f
    jmp PROVEN
1:  inc %r11
@ HintEntry a hint of the last byte
    pushq $0x12345
    distance r11
    hint 0x12345, 1f-1
    jmp PROVEN
1:
@ HintEntry a hint of the own jump's middle
    pushq $0x12345
    distance r11
    hint 0x12345, 1f+2
1:  jmp PROVEN
    nop
@ HintEntry two hints at once
    pushq $0x12345
    distance r11
    hint 0x12345, 1f
    pushq $0x12345
    distance r11
    hint 0x12345, 1f
    jmp PROVEN
1:  nop
@ Broken half a hint
    pushq $0x12345
    distance r11
    movl $PROVEN, 4(%rsp,%r11)
@ Broken the other half
    pushq $0x12345
    distance r11
    movl $~0x12345, (%rsp,%r11)
@ Broken the halves the other way round
    pushq $0x12345
    distance r11
    movl $~0x12345, (%rsp,%r11)
    movl $PROVEN, 4(%rsp,%r11)
@ StackIndex a hint elsewhere
    pushq $0x12345
    distance r11
    movl $PROVEN, 12(%rsp,%r11)
    movl $~0x12345, 8(%rsp,%r11)
@ StackIndex a hint from a register
    pushq $0x12345
    distance r11
    mov %eax, 4(%rsp,%r11)
    movl $~0x12345, (%rsp,%r11)
@ StackIndex a hint at an address of the program's
    fetch
    pushq $0x12345
    hint 0x12345, PROVEN
@ FsAlone a hint without a push
    distance r11
    hint 0x12345, PROVEN
@ HintAlone a comparison that no return has
    .byte 0xe3, 29
    reload rcx, 1
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
@ HintAlone the same, into an instruction
    fetch
    .byte 0xe3, 29
    reload rcx, 1
    nop
    movabs $0x050f050f050f050f, %rax
    movabs $0x050f050f050f050f, %rax
    movabs $0x050f050f050f050f, %rax
@ Broken a return that jumps over less
    spill rcx, 1
    mov (%rsp), %r11d
    fits 28
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
    hinted
@ Broken a return that jumps over more
    spill rcx, 1
    mov (%rsp), %r11d
    fits 30
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
    hinted
@ Broken a return that jumps into its trap
    spill rcx, 1
    mov (%rsp), %r11d
    compare
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
    hinted
@ Broken a return that compares 64 bits
    spill rcx, 1
    mov (%rsp), %r11d
    distance rcx
    mov (%rsp,%rcx), %rcx
    lea 1(%rcx,%r11), %rcx
    .byte 0xe3, 29
    reload rcx, 1
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
    hinted
@ Broken a return that compares low halves alone
    spill rcx, 1
    mov (%rsp), %r11d
    distance rcx
    movslq (%rsp,%rcx), %rcx
    lea 1(%rcx,%r11), %ecx
    .byte 0xe3, 29
    reload rcx, 1
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
    hinted
@ Broken a return that loads its target anew behind the comparison
    spill rcx, 1
    mov (%rsp), %r11d
    fits
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
    distance rcx
    mov (%rsp), %r11d
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
@ StackIndex a return to the other half
    spill rcx, 1
    mov (%rsp), %r11d
    fits
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
    distance rcx
    mov (%rsp,%rcx), %r11d
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return whose first way is longer
    spill rcx, 1
    mov (%rsp), %r11d
    fits
    not %r11
    lookup 0
    {disp32} lea 8(%rsp), %rsp
    jmp *%r11
    hinted
@ Broken a return that drops arguments
    spill rcx, 1
    mov (%rsp), %r11d
    fits
    not %r11
    lookup 0
    lea 24(%rsp), %rsp
    jmp *%r11
    hinted
@ Broken the same on its other way
    spill rcx, 1
    mov (%rsp), %r11d
    fits
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
    distance rcx
    mov 4(%rsp,%rcx), %r11d
    reload rcx, 1
    lea 24(%rsp), %rsp
    jmp *%r11
@ Broken a hint is followed without a comparison
    spill rcx, 1
    distance rcx
    mov 4(%rsp,%rcx), %r11d
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
@ open HintEntry a hint of the unit's end
    pushq $0x12345
    distance r11
    hint 0x12345, 1f
    jmp PROVEN
1:
