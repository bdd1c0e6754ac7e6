# V7: no real address in a register that the program sees.
@ LeaOfRsp 64 bits
    lea 8(%rsp), %rax
@ LeaOfRsp with an index
    lea (%rsp,%rcx,4), %rdx
@ LeaOfRsp without displacement
    fetch
    lea (%rsp), %r11
@ LeaOfRsp with rsp and a zero register
    lea (%rsp,%rax), %rbx
@ LeaOfRsp 32-bit addressing is never emitted either
    lea 8(%esp), %rax
@ StringAlone movs
    movsb
@ StringAlone rep stos
    rep stosq
@ StringAlone lods
    lodsl
@ StringAlone scas
    repne scasb
@ StringAlone cmps
    repe cmpsb
@ FsAlone the slot base without anything
    base rax
@ Broken the slot base stays in the scratch register of a rebase
    fetch
    mov %esp, %esp
    spill r11, 11
    base r11
    lea (%rsp,%r11), %rsp
@ Broken the reload takes another register
    fetch
    mov %esp, %esp
    spill r11, 11
    base r11
    lea (%rsp,%r11), %rsp
    reload r10, 10
@ Broken the base goes to another register than the one spilled
    fetch
    mov %esp, %esp
    spill r11, 11
    base r10
    lea (%rsp,%r10), %rsp
    reload r10, 10
@ Broken a store while the scratch register holds the base
    fetch
    mov %esp, %esp
    spill r11, 11
    base r11
    mov %r11, %gs:(%eax)
    lea (%rsp,%r11), %rsp
    reload r11, 11
@ Broken leave with a 16-bit pop keeps the rest of the base
    fetch
    spill rbp, 5
    mov %ebp, %esp
    base rbp
    lea (%rsp,%rbp), %rsp
    pop %bp
@ Broken rsi keeps its address
    fetch
    spill rdx, 2
    base rdx
    mov %esi, %esi
    lea (%rsi,%rdx), %rsi
    lodsb
    reload rdx, 2
@ Broken rsi is not cut to an offset before
    fetch
    spill rdx, 2
    base rdx
    lea (%rsi,%rdx), %rsi
    lodsb
    mov %esi, %esi
    reload rdx, 2
@ Broken movs where only rsi is an address
    fetch
    spill rdx, 2
    base rdx
    mov %esi, %esi
    lea (%rsi,%rdx), %rsi
    movsb
    mov %esi, %esi
    reload rdx, 2
@ Broken stos where only rsi is an address
    fetch
    spill rdx, 2
    base rdx
    mov %esi, %esi
    lea (%rsi,%rdx), %rsi
    stosb
    mov %esi, %esi
    reload rdx, 2
@ Broken the base with an index scaled
    fetch
    spill rdx, 2
    base rdx
    mov %esi, %esi
    lea (%rsi,%rdx,2), %rsi
    lodsb
    mov %esi, %esi
    reload rdx, 2
@ Broken the base is added twice
    fetch
    spill rdx, 2
    base rdx
    mov %esi, %esi
    lea (%rsi,%rdx), %rsi
    lea (%rsi,%rdx), %rsi
    lodsb
    mov %esi, %esi
    reload rdx, 2
@ Rule port input in the place of the string operation
    fetch
    spill rdx, 2
    base rdx
    mov %edi, %edi
    lea (%rdi,%rdx), %rdi
    insb
    mov %edi, %edi
    reload rdx, 2
@ UsesR11 at home, a read
    mov %r11, %rax
@ UsesR11 at home, a store
    mov %r11, %gs:(%eax)
@ UsesR11 at home, a push
    push %r11
@ UsesR11 at home, an addition
    add %r11, %rax
@ UsesR11 at home, a base
    mov %gs:(%r11d), %eax
@ UsesR11 at home, an index
    lea (%rax,%r11), %rcx
@ UsesR11 at home, a comparison: a bit of it at a time
    cmp %r11, %rax
@ UsesR11 at home, a vector register
    movq %r11, %xmm0
@ UsesR11 at home, exchange
    xchg %r11, %rax
@ UsesR11 at home, BMI source in vvvv
    andn %rax, %r11, %rbx
@ UsesR11 at home, a partial write
    mov $1, %r11b
@ UsesR11 at home, a spill would show it to everybody
    spill r11, 11
@ UsesR11 at home, it becomes rsp
    mov %r11d, %esp
    hrebase
@ UsesR11 at home, lea makes rsp of it
    lea 8(%r11), %esp
    hrebase
@ UsesR11 at home, its low half is the target of a jump
    mov %r11d, %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
@ UsesR11 at home, it addresses the target of a jump
    mov %gs:(%r11d), %r11d
    mov %r11, %fs:TARGET
    bias
    lookup 4
    jmp *%r11
@ UsesR11 at home, in a read of rsp with another scratch register
    spill rdx, 2
    mov %esp, %edx
    mov %r11, %gs:(%edx)
    reload rdx, 2
@ UsesR11 at home, counted in a read of rsp with another scratch register
    spill rdx, 2
    mov %esp, %edx
    popcnt %r11d, %eax
    reload rdx, 2
@ UsesR11 at home, written in part in a read of rsp with another scratch register
    spill rdx, 2
    mov %esp, %edx
    mov %ax, %r11w
    reload rdx, 2
@ UsesR11 at home, with 64 bits in a read of rsp with another scratch register
    spill rdx, 2
    mov %esp, %edx
    mov %rax, %r11
    reload rdx, 2
@ UsesR11 at home, in a segment operand
    spill rcx, 1
    mov %fs:TLS, %rcx
    mov %r11, %gs:(%ecx)
    reload rcx, 1
@ UsesR11 at home, in a segment load
    mov %fs:TLS, %rax
    add %r11, %gs:(%eax)
@ UsesR11 at home, in the lea of a segment operand
    mov %fs:TLS, %rax
    lea (%r11,%rax), %eax
    mov %gs:(%eax), %rax
@ UsesR11 at home, behind a rebase it is the slot base
    mov %esp, %esp
    hrebase
    mov %r11, %gs:(%eax)
@ UsesR11 at home, behind a string operation it is the slot base
    base r11
    mov %esi, %esi
    lea (%rsi,%r11), %rsi
    lodsb
    mov %esi, %esi
    push %r11
@ UsesR11 at home, behind a pattern it is lost
    mov %esp, %r11d
    add %r11, %rax
    add %r11, %rax
@ UsesR11 at home, behind a system call it may be anything
    next
    mov %r11, %rax
@ FillsR11 at home, a fetch in the middle
    nop
    fetch
@ FillsR11 at home, a write
    mov $5, %r11d
@ Broken in its register: the slot base stays there
    fetch
    mov %esp, %esp
    hrebase
@ FsAlone in its register: the slot base for a string operation
    fetch
    base r11
    mov %esi, %esi
    lea (%rsi,%r11), %rsi
    lodsb
    mov %esi, %esi
@ GsAlone in its register: a return that does not bring it home
    fetch
    mov (%rsp), %r11d
    not %r11
    lookup 0
    lea 8(%rsp), %rsp
    jmp *%r11
