# The patterns of units whose code does not name r11: its register is scratch. `snippets.rs` also leaves out, delays and
# enters every instruction of these, which must not be accepted.
@ rebase at home
    mov %esp, %esp
    hrebase
@ rebase after a load at home
    mov %gs:(%eax), %esp
    hrebase
@ rebase with another scratch register at home
    mov %ecx, %esp
    spill rdx, 2
    base rdx
    lea (%rsp,%rdx), %rsp
    reload rdx, 2
@ leave at home
    mov %ebp, %esp
    hrebase
    pop %rbp
@ read of rsp at home
    mov %esp, %r11d
    add %r11, %rax
@ push %rsp at home
    mov %esp, %r11d
    push %r11
@ read of rsp with another scratch register at home
    spill rdx, 2
    mov %esp, %edx
    mov %ah, %dl
    reload rdx, 2
@ write of rsp at home
    mov %esp, %r11d
    or $15, %r11
    mov %r11d, %esp
    hrebase
@ lods at home
    base r11
    mov %esi, %esi
    lea (%rsi,%r11), %rsi
    lodsb
    mov %esi, %esi
@ stos with a 32-bit count at home
    base r11
    mov %ecx, %ecx
    mov %edi, %edi
    lea (%rdi,%r11), %rdi
    rep stosb
    mov %edi, %edi
@ movs at home
    base r11
    mov %esi, %esi
    lea (%rsi,%r11), %rsi
    mov %edi, %edi
    lea (%rdi,%r11), %rdi
    rep movsb
    mov %esi, %esi
    mov %edi, %edi
@ segment operand at home
    mov %fs:TLS, %r11
    addl $1, %gs:0x28(%r11d)
@ segment operand with base and index at home
    mov %fs:TLS, %r11
    lea (%rax,%r11), %r11d
    mov %ecx, %gs:(%r11d,%ecx,8)
@ segment load at home
    mov %fs:TLS, %rax
    mov %gs:0x28(%eax), %rax
@ open jmp of a register at home
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
@ open jmp of rsp at home
    mov %esp, %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
@ open call of a slot operand at home
    mov %gs:(%eax,%ecx,8), %r11d
    mov %r11, %fs:TARGET
    pushq $0x12345
    prefetcht0 %gs:-0x91a30
    bias
    lookup 4
    jmp *%r11
@ open jmp of a segment operand at home
    mov %fs:TLS, %r11
    lea (%rax,%r11), %r11d
    mov %gs:(%r11d,%ecx,8), %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
@ open ret at home
    mov (%rsp), %r11d
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
@ open ret as a jump at home
    mov (%rsp), %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    lea 8(%rsp), %rsp
    jmp *%r11
@ open ret n at home
    mov (%rsp), %r11d
    {disp32} mov %r11, 16(%rsp)
    not %r11
    lookup 0
    lea 24(%rsp), %rsp
    jmp *%r11
@ syscall at home
    next
@ open exit at home
    movl $7, %fs:EXIT
    jmp STUB_LINK
