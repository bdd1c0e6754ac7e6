# V15: the shadow stack. `patterns` also leaves out, delays and enters every instruction of pass/shadow.
@ ShadowSite the shadow word of another site
    pushq $0x12345
    distance r11
    movq $~0x12346, (%rsp,%r11)
@ ShadowSite the shadow word is the site itself
    fetch
    pushq $0x12345
    distance r11
    movq $0x12345, (%rsp,%r11)
@ ShadowSite a site above 2 GiB
    pushq $-0x12345
    distance r11
    movq $0x12344, (%rsp,%r11)
@ ShadowSite the shadow word of an indirect call's other site
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    pushq $0x12345
    distance r11
    movq $~0x12300, (%rsp,%r11)
    mov %fs:TARGET, %r11
    bias
    lookup 4
    jmp *%r11
@ FsAlone a shadow word without a push
    distance r11
    movq $~0x12345, (%rsp,%r11)
@ FsAlone a shadow word behind the push of a register
    push %rax
    distance r11
    movq $~0x12345, (%rsp,%r11)
@ StackIndex a shadow word at an address of the program's
    fetch
    pushq $0x12345
    movq $~0x12345, (%rsp,%r11)
@ StackIndex a shadow word a page away
    pushq $0x12345
    distance r11
    movq $~0x12345, 0x1000(%rsp,%r11)
@ StackIndex another register than the distance
    pushq $0x12345
    distance r11
    movq $~0x12345, (%rsp,%rax)
@ StackIndex the shadow word of a register
    pushq $0x12345
    distance r11
    mov %rax, (%rsp,%r11)
@ StackIndex half a shadow word
    pushq $0x12345
    distance r11
    movl $~0x12345, (%rsp,%r11)
@ StackIndex a shadow word at the wrong scale
    pushq $0x12345
    distance r11
    movq $~0x12345, (%rsp,%r11,2)
@ Broken a shadow word in the program's memory
    pushq $0x12345
    distance r11
    addr32 movq $~0x12345, %gs:(%esp,%r11d)
@ FsForm the distance in a register that no pattern has
    distance rax
@ FsForm the distance is changed
    mov %r11, %fs:SHADOW
@ Broken a push that no shadow word follows, in an indirect call
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    pushq $0x12345
    bias
    lookup 4
    jmp *%r11
@ TrapAlone a trap that no return has
    .byte 0xe3, 2
    ud2
@ TrapAlone the same where r11 is in its register
    fetch
    .byte 0xe3, 2
    ud2
@ Broken a return without shadow word
    mov (%rsp), %r11d
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return without shadow word where r11 is in its register
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return through its stack word, loaded again behind the comparison
    spill rcx, 1
    mov (%rsp), %r11d
    compare
    mov (%rsp), %r11d
    not %r11
    lookup 0
    consume
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return that drops arguments
    spill rcx, 1
    mov (%rsp), %r11d
    {disp32} mov %r11, 16(%rsp)
    compare
    not %r11
    lookup 0
    consume
    reload rcx, 1
    lea 24(%rsp), %rsp
    jmp *%r11
@ Broken a return that does not consume its word
    spill rcx, 1
    mov (%rsp), %r11d
    compare
    not %r11
    lookup 0
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return that skips the trap
    spill rcx, 1
    mov (%rsp), %r11d
    distance rcx
    mov (%rsp,%rcx), %rcx
    lea 1(%rcx,%r11), %rcx
    .byte 0xe3, 3
    ud2
    nop
    not %r11
    lookup 0
    consume
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return that compares 32 bits
    spill rcx, 1
    mov (%rsp), %r11d
    distance rcx
    mov (%rsp,%rcx), %rcx
    lea 1(%rcx,%r11), %ecx
    .byte 0xe3, 2
    ud2
    not %r11
    lookup 0
    consume
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return that compares ecx
    spill rcx, 1
    mov (%rsp), %r11d
    distance rcx
    mov (%rsp,%rcx), %rcx
    lea 1(%rcx,%r11), %rcx
    .byte 0x67, 0xe3, 2
    ud2
    not %r11
    lookup 0
    consume
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return that compares with the stack word itself
    spill rcx, 1
    mov (%rsp), %r11d
    mov (%rsp), %rcx
    lea 1(%rcx,%r11), %rcx
    .byte 0xe3, 2
    ud2
    not %r11
    lookup 0
    consume
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
@ StackIndex a return that compares another word
    spill rcx, 1
    mov (%rsp), %r11d
    distance rcx
    mov 8(%rsp,%rcx), %rcx
    lea 1(%rcx,%r11), %rcx
    .byte 0xe3, 2
    ud2
    not %r11
    lookup 0
    consume
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return that makes its own word
    spill rcx, 1
    mov (%rsp), %r11d
    distance rcx
    mov $-1, %rcx
    lea 1(%rcx,%r11), %rcx
    .byte 0xe3, 2
    ud2
    not %r11
    lookup 0
    consume
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return that gets rcx back from another spill slot
    spill rcx, 1
    mov (%rsp), %r11d
    compare
    not %r11
    lookup 0
    consume
    reload rdx, 2
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return that goes to a call target
    spill rcx, 1
    mov (%rsp), %r11d
    compare
    bias
    lookup 4
    consume
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
