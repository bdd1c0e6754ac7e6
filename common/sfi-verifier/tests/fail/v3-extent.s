# V3: whole instructions, no falling off. The limits of the code cache are in `snippets.rs`.
@ open FallsOff plain end
    nop
@ open FallsOff a conditional branch at the end
1:  jnz 1b
@ open FallsOff the resume address of a syscall lies behind the end
    next
@ open FallsOff a pattern that does not end
    fetch
    spill r11, 11
    mov %eax, %r11d
@ open FallsOff a loop at the end
1:  loop 1b
@ open FallsOff a rebase that does not end
    fetch
    mov %esp, %esp
    spill r11, 11
@ open Cut an opcode without its operand
    jmp PROVEN
    .byte 0x0f, 0x1f
@ short Cut the last byte of the last jump is missing
    nop
@ open Cut a displacement is cut
    .byte 0xe9, 0, 0, 0
@ open Cut an immediate is cut
    .byte 0x48, 0xb8, 1, 2, 3, 4, 5
@ open Cut the fixed jump is cut
    fetch
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    .byte 0x64, 0x4c, 0x8b, 0x1c, 0x25, 0x98, 0, 0
@ open Cut a context operand is cut
    .byte 0x64, 0x4c, 0x8b, 0x1c, 0x25, 0x98, 0, 0
@ Length sixteen bytes
    .byte 0x65, 0x67, 0x66, 0xf0, 0x48, 0x81, 0x84, 0x24, 0, 0, 0, 0, 1, 0, 0, 0
