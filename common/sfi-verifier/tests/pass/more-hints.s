# Where hints may lead.
@ hint of what stands behind the call
    pushq $0x12345
    distance r11
    hint 0x12345, 1f
    jmp PROVEN
1:  nop
@ hint of what stands behind the call, r11 in its register
    fetch
    pushq $0x12345
    distance r11
    hint 0x12345, 1f
    jmp PROVEN
1:  fetch
@ hints of two calls
    pushq $0x12345
    distance r11
    hint 0x12345, 1f
    jmp PROVEN
1:  pushq $0x12355
    distance r11
    hint 0x12355, 2f
    jmp PROVEN
2:  nop
@ hint of an exit behind the call
    fetch
    pushq $0x12345
    distance r11
    hint 0x12345, 1f
    jmp PROVEN
1:  movl $7, %fs:EXIT
    jmp STUB_LINK
