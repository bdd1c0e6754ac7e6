# The patterns of calls that leave a hint, and of returns that look at it. `snippets.rs` leaves out, delays and enters every
# instruction.
@ hinted call
    fetch
    pushq $0x12345
    distance r11
    hint 0x12345, 1f
1:  fetch
@ hinted call at home
    pushq $0x7fffffff
    distance r11
    hint 0x7fffffff, 1f
1:
@ hinted call of a register
    fetch
    spill r11, 11
    mov %eax, %r11d
    mov %r11, %fs:TARGET
    pushq $0x12345
    distance r11
    hint 0x12345, 1f
    mov %fs:TARGET, %r11
    bias
    lookup 4
    jmp *%r11
1:  fetch
@ hinted call of a slot operand at home
    mov %gs:(%eax,%ecx,8), %r11d
    mov %r11, %fs:TARGET
    pushq $0x12345
    distance r11
    hint 0x12345, 1f
    mov %fs:TARGET, %r11
    bias
    lookup 4
    jmp *%r11
1:
@ open hinted return
    fetch
    spill rcx, 1
    spill r11, 11
    mov (%rsp), %r11d
    fits
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
    hinted
@ open hinted return at home
    spill rcx, 1
    mov (%rsp), %r11d
    fits
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
    hinted
