# A program without a C library: writes a line, then exits with 42.
    .globl _start
_start:
    mov $1, %eax
    mov $1, %edi
    lea text(%rip), %rsi
    mov $text_len, %edx
    syscall
    mov $231, %eax
    mov $42, %edi
    syscall
    ud2
    .section .rodata
text:
    .ascii "no library here\n"
    .set text_len, . - text
    .section .note.GNU-stack, "", @progbits
