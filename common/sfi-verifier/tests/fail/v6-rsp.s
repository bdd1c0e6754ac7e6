# V6: rsp as a register operand.
@ WritesRsp a move
    mov %rax, %rsp
@ WritesRsp a load
    mov %gs:(%eax), %rsp
@ WritesRsp a constant
    mov $0x10000, %rsp
@ WritesRsp exchange
    xchg %rax, %rsp
@ WritesRsp exchange with memory
    xchg %rsp, %gs:(%eax)
@ WritesRsp the short exchange
    .byte 0x48, 0x94
@ WritesRsp pop
    pop %rsp
@ WritesRsp pop of 16 bits
    pop %sp
@ WritesRsp addition of a register
    add %rax, %rsp
@ WritesRsp addition from memory
    add %gs:(%eax), %rsp
@ WritesRsp 32-bit addition clears the base
    add $8, %esp
@ WritesRsp 16-bit addition
    add $8, %sp
@ WritesRsp an alignment that is no power of two
    and $-24, %rsp
@ WritesRsp too large an alignment
    and $-8192, %rsp
@ WritesRsp a mask that is no alignment
    and $0x7ffffff0, %rsp
@ WritesRsp or
    or $8, %rsp
@ WritesRsp carry is added
    adc $8, %rsp
@ WritesRsp shift
    shl $1, %rsp
@ WritesRsp increment
    inc %rsp
@ WritesRsp negation
    neg %rsp
@ WritesRsp byte swap
    bswap %rsp
@ WritesRsp lea of another register
    lea (%rax), %rsp
@ WritesRsp lea with an index that is no base
    lea 8(%rsp,%rax), %rsp
@ WritesRsp lea with a scaled index
    lea (%rsp,%rax,2), %rsp
@ WritesRsp the sum of the rebase alone
    fetch
    lea (%rsp,%r11), %rsp
@ WritesRsp lea of 16 bits
    lea 8(%rsp), %sp
@ WritesRsp lea with 32-bit addressing
    lea 8(%esp), %rsp
@ Broken half of a rebase
    mov %esp, %esp
@ WritesRsp cmov
    cmovz %rax, %rsp
@ WritesRsp movzx
    movzwl %ax, %esp
@ WritesRsp setcc of the low byte
    setz %spl
@ WritesRsp a move of 8 bits
    mov $1, %spl
@ WritesRsp a move from a vector register
    movq %xmm0, %rsp
@ WritesRsp rdrand
    rdrand %rsp
@ WritesRsp xadd writes both operands
    xadd %rsp, %rax
@ WritesRsp BMI: destination
    andn %rax, %rbx, %rsp
@ WritesRsp BMI: destination in vvvv
    blsr %rax, %rsp
@ WritesRsp BMI: second destination
    mulx %rax, %rsp, %rbx
@ WritesRsp a move mask
    pmovmskb %xmm0, %esp
@ WritesRsp crc32
    crc32 %eax, %esp
@ WritesRsp esp written by another instruction than the rebase has
    fetch
    .byte 0x8b, 0xe0
    rebase
@ ReadsRsp a move
    mov %rsp, %rax
@ ReadsRsp a store
    mov %rsp, %gs:(%eax)
@ ReadsRsp push
    push %rsp
@ ReadsRsp push, long form
    .byte 0xff, 0xf4
@ ReadsRsp comparison
    cmp %rsp, %rax
@ ReadsRsp test
    test %rsp, %rsp
@ ReadsRsp addition to another register
    add %rsp, %rax
@ ReadsRsp a vector register
    movq %rsp, %xmm0
@ ReadsRsp multiplication
    mul %rsp
@ ReadsRsp conditional move
    cmovz %rsp, %rax
@ ReadsRsp compare and exchange stores it
    cmpxchg %rsp, %gs:(%eax)
@ ReadsRsp BMI source in vvvv
    andn %rax, %rsp, %rbx
@ ReadsRsp BMI shift count
    shlx %rsp, %rax, %rbx
@ ReadsRsp bit test
    bt $33, %rsp
@ ReadsRsp bit scan
    bsr %rsp, %rax
@ ReadsRsp conversion
    cvtsi2sd %rsp, %xmm0
@ ReadsRsp VEX conversion
    vcvtsi2sd %rsp, %xmm0, %xmm1
@ ReadsRsp insertion of a quadword
    pinsrq $1, %rsp, %xmm0
@ ReadsRsp movnti
    movnti %rsp, %gs:(%eax)
@ ReadsRsp movbe
    movbe %rsp, %gs:(%eax)
@ ContextRsp the program's segment base becomes rsp
    mov %fs:TLS, %rsp
    mov %gs:(%eax), %eax
@ ReadsRsp a spill of rsp as if it were a scratch register
    fetch
    mov %rsp, %r11
