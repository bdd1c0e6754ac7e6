# V9: table lookups and indirect jumps.
@ GsAlone a lookup alone
    lookup
@ JumpAlone a jump alone
    jmp *%r11
@ JumpAlone a jump behind a move
    mov %eax, %r11d
    jmp *%r11
@ Broken the index is not complemented
    spill r11, 11
    mov (%rsp), %r11d
    lookup
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken the index has 64 bits
    spill r11, 11
    mov (%rsp), %r11
    not %r11
    lookup
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken the index of a jump has 64 bits
    spill r11, 11
    mov %rax, %r11
    mov %r11, %fs:TARGET
    not %r11
    lower
    lower
    lookup
    jmp *%r11
@ Broken the index has 16 bits
    spill r11, 11
    mov %ax, %r11w
    mov %r11, %fs:TARGET
    not %r11
    lower
    lower
    lookup
    jmp *%r11
@ Broken only one step to the call table
    spill r11, 11
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    not %r11
    lower
    lookup
    jmp *%r11
@ Broken three steps: below the tables
    spill r11, 11
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    not %r11
    lower
    lower
    lower
    lookup
    jmp *%r11
@ Broken a jump through the return table
    spill r11, 11
    mov %eax, %r11d
    not %r11
    lookup
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return through the call table
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lower
    lower
    lookup
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken r11 is changed between the complement and the lookup
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    add %rax, %r11
    lookup
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken r11 is changed between the lookup and the jump
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup
    mov %eax, %r11d
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a step of another size
    spill r11, 11
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    not %r11
    lea -0x40000000(%r11), %r11
    lower
    lookup
    jmp *%r11
@ Broken the negative instead of the complement: offset 0 would index the slot
    spill r11, 11
    mov (%rsp), %r11d
    neg %r11
    lookup
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken the complement of 32 bits
    spill r11, 11
    mov (%rsp), %r11d
    not %r11d
    lookup
    lea 8(%rsp), %rsp
    jmp *%r11
@ GsAlone a lookup with a displacement
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    movl %gs:8(,%r11,4), %r11d
    lea 8(%rsp), %rsp
    jmp *%r11
@ GsAlone a lookup of 64 bits
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    movq %gs:(,%r11,4), %r11
    lea 8(%rsp), %rsp
    jmp *%r11
@ GsAlone a lookup with scale 8
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    movl %gs:(,%r11,8), %r11d
    lea 8(%rsp), %rsp
    jmp *%r11
@ Rule a jump through another register
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup
    lea 8(%rsp), %rsp
    jmp *%r10
@ Broken the return address from elsewhere
    spill r11, 11
    mov 8(%rsp), %r11d
    not %r11
    lookup
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return that pops nothing
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup
    jmp *%r11
@ Broken a return that goes down
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup
    lea -8(%rsp), %rsp
    jmp *%r11
@ Broken a return that drops too much
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup
    lea 0x4009(%rsp), %rsp
    jmp *%r11
@ Broken a return that pops by add
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup
    add $8, %rsp
    jmp *%r11
@ Broken a return that spills another register
    spill r10, 10
    mov (%rsp), %r11d
    not %r11
    lookup
    lea 8(%rsp), %rsp
    jmp *%r11
