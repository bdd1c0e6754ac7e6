# The patterns of units with a shadow stack (`Returns::Shadow`). `snippets.rs` leaves out, delays and enters every instruction.
@ shadowed call
    fetch
    pushq $0x12345
    distance r11
    movq $~0x12345, (%rsp,%r11)
@ shadowed call at home
    pushq $0x7fffffff
    distance r11
    movq $~0x7fffffff, (%rsp,%r11)
@ open shadowed call of a register
    fetch
    spill r11, 11
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    pushq $0x12345
    distance r11
    movq $~0x12345, (%rsp,%r11)
    mov %fs:TARGET, %r11
    bias
    lookup 4
    jmp *%r11
@ open shadowed call of a segment operand, with a prefetch
    fetch
    spill r11, 11
    mov %fs:TLS, %r11
    lea (%rax,%r11), %r11d
    mov %gs:(%r11d,%ecx,8), %r11d
    mov %r11, %fs:TARGET
    pushq $0x12345
    distance r11
    movq $~0x12345, (%rsp,%r11)
    prefetcht0 %gs:-0x91a30
    mov %fs:TARGET, %r11
    bias
    lookup 4
    jmp *%r11
@ open jump of a register beside shadowed calls
    fetch
    spill r11, 11
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
@ open shadowed return
    fetch
    spill rcx, 1
    spill r11, 11
    mov (%rsp), %r11d
    compare
    not %r11
    lookup 0
    consume
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
@ open shadowed call of a slot operand at home
    mov %gs:(%eax,%ecx,8), %r11d
    mov %r11, %fs:TARGET
    pushq $0x12345
    distance r11
    movq $~0x12345, (%rsp,%r11)
    prefetcht0 %gs:-0x91a30
    mov %fs:TARGET, %r11
    bias
    lookup 4
    jmp *%r11
@ open shadowed call of a segment operand at home
    mov %fs:TLS, %r11
    mov %gs:(%r11d,%ecx,8), %r11d
    mov %r11, %fs:TARGET
    pushq $0x12345
    distance r11
    movq $~0x12345, (%rsp,%r11)
    mov %fs:TARGET, %r11
    bias
    lookup 4
    jmp *%r11
@ open jump of a register at home beside shadowed calls
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
@ open shadowed return at home
    spill rcx, 1
    mov (%rsp), %r11d
    compare
    not %r11
    lookup 0
    consume
    reload rcx, 1
    lea 8(%rsp), %rsp
    jmp *%r11
