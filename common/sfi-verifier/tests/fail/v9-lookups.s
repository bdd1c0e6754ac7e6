# V9: table lookups and indirect jumps.
@ GsAlone a lookup alone
    lookup 4
@ JumpAlone a jump alone
    fetch
    jmp *%r11
@ JumpAlone a jump behind a move
    fetch
    mov %eax, %r11d
    jmp *%r11
@ Broken the index is not complemented
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
@ GsAlone the index has 64 bits
    fetch
    spill r11, 11
    mov (%rsp), %r11
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
@ FsAlone the index of a jump has 64 bits
    fetch
    spill r11, 11
    mov %rax, %r11
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
@ FsAlone the index has 16 bits
    fetch
    spill r11, 11
    mov %ax, %r11w
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
@ Broken a jump through the return sites
    fetch
    spill r11, 11
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    not %r11
    lookup 0
    jmp *%r11
@ Broken a jump through the return sites, r11 at home
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    not %r11
    lookup 0
    jmp *%r11
@ Broken the start of a jump and the end of a return
    mov %eax, %r11d
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return through the call targets
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    bias
    lookup 4
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken r11 is changed between the complement and the lookup
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    add %rax, %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken r11 is changed between the lookup and the jump
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup 0
    mov %eax, %r11d
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken the negative instead of the complement: offset 0 would index the slot
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    neg %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken the complement of 32 bits
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11d
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a jump whose index is complemented: offset 1 would index the slot
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    not %r11
    lookup 4
    jmp *%r11
@ Broken a return whose index is biased
    mov (%rsp), %r11d
    bias
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a jump whose index is not biased
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    lookup 4
    jmp *%r11
@ Broken a smaller bias: offset 0 would index the gap above the slot
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    lea 0x3fffffff(%r11), %r11
    lookup 4
    jmp *%r11
@ Broken a bias of 32 bits: high offsets would index the slot
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    lea 0x7fffffff(%r11), %r11d
    lookup 4
    jmp *%r11
@ Broken a negative bias
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    lea -0x7fffffff(%r11), %r11
    lookup 4
    jmp *%r11
@ Broken a bias of another register
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    lea 0x7fffffff(%r10), %r11
    lookup 4
    jmp *%r11
@ Broken two biases
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    bias
    bias
    lookup 4
    jmp *%r11
@ GsAlone the call table without its displacement
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    bias
    movl %gs:8(,%r11,4), %r11d
    jmp *%r11
@ GsAlone a lookup with a displacement
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    movl %gs:8(,%r11,4), %r11d
    lea 8(%rsp), %rsp
    jmp *%r11
@ GsAlone a lookup of 64 bits
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    movq %gs:(,%r11,4), %r11
    lea 8(%rsp), %rsp
    jmp *%r11
@ GsAlone a lookup with scale 8
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    movl %gs:(,%r11,8), %r11d
    lea 8(%rsp), %rsp
    jmp *%r11
@ Rule a jump through another register
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r10
@ Broken the return address from elsewhere
    fetch
    spill r11, 11
    mov 8(%rsp), %r11d
    bias
    lookup 4
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a return that pops nothing
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup 0
    jmp *%r11
@ Broken a return that goes down
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup 0
    lea -8(%rsp), %rsp
    jmp *%r11
@ Broken a return that drops too much
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup 0
    lea 0x4009(%rsp), %rsp
    jmp *%r11
@ Broken a return that pops by add
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup 0
    add $8, %rsp
    jmp *%r11
@ Broken a return that spills another register
    fetch
    spill r10, 10
    mov (%rsp), %r11d
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
@ GsAlone a lookup at a negative displacement
    mov (%rsp), %r11d
    not %r11
    movl %gs:-8(,%r11,4), %r11d
    lea 8(%rsp), %rsp
    jmp *%r11
@ GsAlone a lookup with a base
    mov (%rsp), %r11d
    not %r11
    movl %gs:(%rax,%r11,4), %r11d
    lea 8(%rsp), %rsp
    jmp *%r11
@ GsAlone a prefetch relative to a register
    prefetcht0 %gs:(%rax)
@ GsAlone a store where the prefetch may point
    movl $0, %gs:-0x1000
@ Broken a prefetch in a return
    mov (%rsp), %r11d
    not %r11
    prefetcht0 %gs:-0x1000
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
