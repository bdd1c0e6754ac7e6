# V11: direct branches.
@ TargetInside the middle of an instruction ahead
    jmp 1f + 1
1:  mov $0x050f050f, %eax
@ TargetInside the middle of an instruction behind
1:  mov $0x050f050f, %eax
    jnz 1b + 1
@ TargetInside the middle of the branch itself
1:  jmp 1b + 1
@ TargetInside behind the spill of a rebase
    fetch
    jz 1f
    mov %eax, %esp
    spill r11, 11
1:  base r11
    lea (%rsp,%r11), %rsp
    reload r11, 11
@ TargetInside the sum of a rebase
    fetch
    jz 1f
    mov %eax, %esp
    spill r11, 11
    base r11
1:  lea (%rsp,%r11), %rsp
    reload r11, 11
@ TargetInside the string operation of its pattern
    fetch
    jz 1f
    spill rdx, 2
    base rdx
    mov %edi, %edi
    lea (%rdi,%rdx), %rdi
1:  stosb
    mov %edi, %edi
    reload rdx, 2
@ TargetInside the jump of a lookup
    fetch
    jz 1f
    spill r11, 11
    mov (%rsp), %r11d
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
1:  jmp *%r11
@ TargetInside the jump of a system call
    fetch
    jz 1f
    lea 11(%rip), %rcx
    mov $1, %r11d
1:  jmp STUB_SYSCALL
@ TargetInside the jump of an exit
    jz 1f
    movl $1, %fs:EXIT
1:  jmp STUB_EMULATE
@ TargetInside an instruction where rsp is not confined
    jz 1f
    sub $0x8000, %rsp
1:  push %rax
@ TargetInside a loop into a place where rsp is not confined
    sub $8, %rsp
1:  nop
    push %rax
    loop 1b
@ open TargetOutside just behind the unit
    jz 1f
    jmp PROVEN
1:
@ TargetOutside just before the unit
    jmp . - 16
@ TargetOutside the middle of published code
    jmp PROVEN + 1
@ TargetOutside code that was never published
    jmp PROVEN + 0x1000
@ TargetOutside the image
    jmp STUB_LINK + 1
@ TargetOutside address 0
    jmp 0
@ TargetOutside a conditional jump out
    jz PROVEN + 4
@ TargetOutside above 2 GiB
    .byte 0xe9, 0, 0, 0, 0x70
