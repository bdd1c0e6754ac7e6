# V10: patterns are whole. `patterns` also leaves out, delays and enters every instruction of every pattern in pass/.
@ FsAlone a pattern begins in its middle
    reload rdx, 2
@ Broken a spill and then something else
    spill rax, 0
    nop
@ Broken two patterns begin at once
    fetch
    spill r11, 11
    spill r10, 10
@ Broken a branch in a pattern
    fetch
    spill r11, 11
    mov %esp, %r11d
    jmp 1f
1:  reload r11, 11
@ Broken an adjustment of rsp as the instruction of a read pattern
    fetch
    spill r11, 11
    mov %esp, %r11d
    sub $16, %rsp
    reload r11, 11
@ Broken a write of esp as the instruction of a read pattern
    fetch
    spill r11, 11
    mov %esp, %r11d
    mov %eax, %esp
    reload r11, 11
@ Broken two instructions in a read pattern
    fetch
    spill r11, 11
    mov %esp, %r11d
    nop
    nop
    reload r11, 11
@ Broken a segment operand that is none
    spill rcx, 1
    mov %fs:TLS, %rcx
    add %rcx, %rax
    reload rcx, 1
@ Broken a segment operand near rsp
    spill rcx, 1
    mov %fs:TLS, %rcx
    add 8(%rsp), %rcx
    reload rcx, 1
@ Broken another register reloaded
    spill rcx, 1
    mov %fs:TLS, %rcx
    mov %eax, %gs:(%ecx)
    reload rdx, 2
@ Broken the wrong scratch register in leave
    fetch
    spill rdx, 2
    mov %edx, %esp
    base rdx
    lea (%rsp,%rdx), %rsp
    pop %rbp
@ Broken leave from another register
    fetch
    spill rbp, 5
    mov %eax, %esp
    base rbp
    lea (%rsp,%rbp), %rsp
    pop %rbp
@ Broken a rebase whose sum takes another register
    fetch
    mov %esp, %esp
    spill r11, 11
    base r11
    lea (%rsp,%r10), %rsp
    reload r11, 11
@ Broken a push while rsp is an offset
    mov %esp, %esp
    push %rax
@ Broken an access near rsp while rsp is an offset
    fetch
    mov %eax, %esp
    spill r11, 11
    mov %eax, (%rsp)
    base r11
    lea (%rsp,%r11), %rsp
    reload r11, 11
@ Broken a second write of esp
    fetch
    mov %eax, %esp
    mov %ecx, %esp
    rebase
@ Broken a ret through the call table does not say its target
    mov (%rsp), %r11d
    bias
    lookup 4
    lea 8(%rsp), %rsp
    jmp *%r11
@ Broken a ret that is a jump goes through the return table
    mov (%rsp), %r11d
    mov %r11, %fs:TARGET
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
