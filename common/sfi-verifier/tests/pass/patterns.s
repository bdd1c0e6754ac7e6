# V7 to V10, V12: one of every pattern, with and without its optional steps, in units that have the program's r11 in the
# register. `snippets.rs` also leaves out, delays and enters every instruction of these, which must not be accepted.
@ rebase after a move
    fetch
    mov %eax, %esp
    rebase
@ rebase after a load
    fetch
    mov %gs:(%eax), %esp
    rebase
@ rebase after lea
    fetch
    lea 8(%rax,%rcx), %esp
    rebase
@ rebase after a constant
    fetch
    mov $0x10000, %esp
    rebase
@ rebase after pop %rsp
    fetch
    mov (%rsp), %esp
    rebase
@ read of rsp
    fetch
    spill rcx, 1
    mov %esp, %ecx
    add %rcx, %rax
    reload rcx, 1
@ write of rsp
    fetch
    spill rdx, 2
    mov %esp, %edx
    or $15, %rdx
    mov %edx, %esp
    base rdx
    lea (%rsp,%rdx), %rsp
    reload rdx, 2
@ leave
    fetch
    spill rbp, 5
    mov %ebp, %esp
    base rbp
    lea (%rsp,%rbp), %rsp
    pop %rbp
@ lods
    fetch
    spill rdx, 2
    base rdx
    mov %esi, %esi
    lea (%rsi,%rdx), %rsi
    lodsb
    mov %esi, %esi
    reload rdx, 2
@ rep stos
    fetch
    spill rdx, 2
    base rdx
    mov %edi, %edi
    lea (%rdi,%rdx), %rdi
    rep stosq
    mov %edi, %edi
    reload rdx, 2
@ scas with a 32-bit count
    fetch
    spill rdx, 2
    base rdx
    mov %ecx, %ecx
    mov %edi, %edi
    lea (%rdi,%rdx), %rdi
    repne scasb
    mov %edi, %edi
    reload rdx, 2
@ movs
    fetch
    spill rdx, 2
    base rdx
    mov %esi, %esi
    lea (%rsi,%rdx), %rsi
    mov %edi, %edi
    lea (%rdi,%rdx), %rdi
    rep movsb
    mov %esi, %esi
    mov %edi, %edi
    reload rdx, 2
@ cmps with a 32-bit count
    fetch
    spill rdx, 2
    base rdx
    mov %ecx, %ecx
    mov %esi, %esi
    lea (%rsi,%rdx), %rsi
    mov %edi, %edi
    lea (%rdi,%rdx), %rdi
    repe cmpsw
    mov %esi, %esi
    mov %edi, %edi
    reload rdx, 2
@ segment operand
    fetch
    spill rcx, 1
    mov %fs:TLS, %rcx
    addl $1, %gs:0x28(%ecx)
    reload rcx, 1
@ segment operand with base and index
    fetch
    spill r10, 10
    mov %fs:GUEST_GS, %r10
    lea (%rax,%r10), %r10d
    mov %ecx, %gs:(%r10d,%ecx,8)
    reload r10, 10
@ segment load
    fetch
    mov %fs:TLS, %rax
    mov %gs:0x28(%eax), %rax
@ open jmp of a register
    fetch
    spill r11, 11
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
@ open jmp of a slot operand
    fetch
    spill r11, 11
    mov %gs:(%eax,%ecx,8), %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
@ open call of a stack operand
    fetch
    spill r11, 11
    mov 8(%rsp), %r11d
    mov %r11, %fs:TARGET
    pushq $0x12345
    bias
    lookup 4
    jmp *%r11
@ open call of a segment operand, with a prefetch
    fetch
    spill r11, 11
    mov %fs:TLS, %r11
    lea (%rax,%r11), %r11d
    mov %gs:(%r11d,%ecx,8), %r11d
    mov %r11, %fs:TARGET
    pushq $0x12345
    prefetcht0 %gs:-0x91a30
    bias
    lookup 4
    jmp *%r11
@ open ret
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
@ open ret as a jump
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    lea 8(%rsp), %rsp
    jmp *%r11
@ open ret n
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    {disp32} mov %r11, 0x4000(%rsp)
    not %r11
    lookup 0
    lea 0x4008(%rsp), %rsp
    jmp *%r11
@ syscall
    fetch
    next
@ open exit to link
    fetch
    movl $7, %fs:EXIT
    jmp STUB_LINK
@ open exit to emulate
    fetch
    movl $0x1234, %fs:EXIT
    jmp STUB_EMULATE
