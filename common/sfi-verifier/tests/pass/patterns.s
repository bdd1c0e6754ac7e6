# V7 to V10, V12: one of every pattern, with and without its optional steps. `patterns` also leaves out, delays and enters
# every instruction of these, which must not be accepted.
@ rebase after a move
    mov %eax, %esp
    rebase
@ rebase after a load
    mov %gs:(%eax), %esp
    rebase
@ rebase after lea
    lea 8(%rax,%rcx), %esp
    rebase
@ rebase after a constant
    mov $0x10000, %esp
    rebase
@ rebase after pop %rsp
    mov (%rsp), %esp
    rebase
@ read of rsp
    spill r11, 11
    mov %esp, %r11d
    add %r11, %rax
    reload r11, 11
@ read of rsp, push %rsp
    spill r11, 11
    mov %esp, %r11d
    push %r11
    reload r11, 11
@ write of rsp
    spill rdx, 2
    mov %esp, %edx
    or $15, %rdx
    mov %edx, %esp
    base rdx
    lea (%rsp,%rdx), %rsp
    reload rdx, 2
@ leave
    spill rbp, 5
    mov %ebp, %esp
    base rbp
    lea (%rsp,%rbp), %rsp
    pop %rbp
@ lods
    spill rdx, 2
    base rdx
    mov %esi, %esi
    lea (%rsi,%rdx), %rsi
    lodsb
    mov %esi, %esi
    reload rdx, 2
@ rep stos
    spill rdx, 2
    base rdx
    mov %edi, %edi
    lea (%rdi,%rdx), %rdi
    rep stosq
    mov %edi, %edi
    reload rdx, 2
@ scas with a 32-bit count
    spill rdx, 2
    base rdx
    mov %ecx, %ecx
    mov %edi, %edi
    lea (%rdi,%rdx), %rdi
    repne scasb
    mov %edi, %edi
    reload rdx, 2
@ movs
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
    spill rcx, 1
    mov %fs:TLS, %rcx
    addl $1, %gs:0x28(%ecx)
    reload rcx, 1
@ segment operand with base and index
    spill r11, 11
    mov %fs:GUEST_GS, %r11
    lea (%rax,%r11), %r11d
    mov %ecx, %gs:(%r11d,%ecx,8)
    reload r11, 11
@ segment load
    mov %fs:TLS, %rax
    mov %gs:0x28(%eax), %rax
@ open jmp of a register
    spill r11, 11
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    not %r11
    lower
    lower
    lookup
    jmp *%r11
@ open jmp of a slot operand
    spill r11, 11
    mov %gs:(%eax,%ecx,8), %r11d
    mov %r11, %fs:TARGET
    not %r11
    lower
    lower
    lookup
    jmp *%r11
@ open call of a stack operand
    spill r11, 11
    mov 8(%rsp), %r11d
    mov %r11, %fs:TARGET
    pushq $0x12345
    not %r11
    lower
    lower
    lookup
    jmp *%r11
@ open call of a segment operand
    spill r11, 11
    mov %fs:TLS, %r11
    lea (%rax,%r11), %r11d
    mov %gs:(%r11d,%ecx,8), %r11d
    mov %r11, %fs:TARGET
    pushq $0x12345
    not %r11
    lower
    lower
    lookup
    jmp *%r11
@ open ret
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup
    lea 8(%rsp), %rsp
    jmp *%r11
@ open ret n
    spill r11, 11
    mov (%rsp), %r11d
    {disp32} mov %r11, 0x4000(%rsp)
    not %r11
    lookup
    lea 0x4008(%rsp), %rsp
    jmp *%r11
@ syscall
    next
@ open exit to link
    movl $7, %fs:EXIT
    jmp STUB_LINK
@ open exit to emulate
    movl $0x1234, %fs:EXIT
    jmp STUB_EMULATE
