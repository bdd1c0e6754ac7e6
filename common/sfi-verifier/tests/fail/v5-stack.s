# V5: how far rsp may go. The last push confines, so that only the budget is wrong.
@ Budget at once
    sub $0x8001, %rsp
    push %rax
@ Budget in two steps
    sub $0x4000, %rsp
    sub $0x4001, %rsp
    push %rax
@ Budget down and up count both
    sub $0x4000, %rsp
    add $0x4000, %rsp
    sub $8, %rsp
    push %rax
@ Budget lea
    lea -0x8008(%rsp), %rsp
    push %rax
@ Budget lea upwards with a large displacement
    lea 0x7fffffff(%rsp), %rsp
    push %rax
@ Budget alignment counts
    sub $0x8000, %rsp
    and $-16, %rsp
    push %rax
@ Budget an access below rsp does not confine
    sub $0x7ff0, %rsp
    mov %rax, -8(%rsp)
    sub $0x7ff0, %rsp
    push %rax
@ Budget an access far above does not confine
    sub $0x7ff0, %rsp
    mov 0x1000(%rsp), %rax
    sub $0x7ff0, %rsp
    push %rax
@ Budget the far access of the first escape
    sub $0x7ff0, %rsp
    mov 0x4000(%rsp), %rax
    sub $0x7ff0, %rsp
    push %rax
@ Budget a prefetch does not confine
    sub $0x7ff0, %rsp
    prefetcht0 (%rsp)
    sub $0x7ff0, %rsp
    push %rax
@ Budget prefetchw does not confine
    sub $0x7ff0, %rsp
    prefetchw (%rsp)
    sub $0x7ff0, %rsp
    push %rax
@ Budget clflush does not confine
    sub $0x7ff0, %rsp
    clflush (%rsp)
    sub $0x7ff0, %rsp
    push %rax
@ Budget clwb does not confine
    sub $0x7ff0, %rsp
    clwb (%rsp)
    sub $0x7ff0, %rsp
    push %rax
@ Budget a masked move with an empty mask does not touch memory
    sub $0x7ff0, %rsp
    vmaskmovps (%rsp), %xmm1, %xmm2
    sub $0x7ff0, %rsp
    push %rax
@ Budget a masked integer store
    sub $0x7ff0, %rsp
    vpmaskmovd %xmm1, %xmm2, (%rsp)
    sub $0x7ff0, %rsp
    push %rax
@ Budget an x87 store with an unmasked exception may not happen
    sub $0x7ff0, %rsp
    fistpl (%rsp)
    sub $0x7ff0, %rsp
    push %rax
@ Budget lea touches nothing
    sub $0x7ff0, %rsp
    lea (%rsp), %eax
    sub $0x7ff0, %rsp
    push %rax
@ Budget a slot access says nothing of rsp
    sub $0x7ff0, %rsp
    mov %gs:(%esp), %eax
    sub $0x7ff0, %rsp
    push %rax
@ Budget a segment operand says nothing of rsp
    sub $0x7ff0, %rsp
    mov %fs:TLS, %rax
    mov %gs:(%eax), %rax
    sub $0x7ff0, %rsp
    push %rax
@ CleanBranch a jump
    sub $8, %rsp
    jmp PROVEN
@ CleanBranch a conditional jump
    sub $8, %rsp
    jz PROVEN
    push %rax
@ CleanBranch a loop of small steps
1:  sub $8, %rsp
    loop 1b
@ CleanBranch the link stub
    sub $8, %rsp
    movl $1, %fs:EXIT
    jmp STUB_LINK
@ CleanBranch a system call
    sub $8, %rsp
    next
@ CleanBranch the end of the pattern of lea
    and $-64, %rsp
    jmp PROVEN
@ open CleanLookup an indirect jump
    fetch
    sub $8, %rsp
    spill r11, 11
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
@ open CleanLookup a jump through memory above rsp
    fetch
    sub $8, %rsp
    spill r11, 11
    mov 0x1000(%rsp), %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
@ open CleanLookup a jump through the slot
    fetch
    add $8, %rsp
    spill r11, 11
    mov %gs:(%eax), %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
