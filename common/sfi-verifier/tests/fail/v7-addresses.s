# V7: no real address in a register that the program sees.
@ LeaOfRsp 64 bits
    lea 8(%rsp), %rax
@ LeaOfRsp with an index
    lea (%rsp,%rcx,4), %rdx
@ LeaOfRsp without displacement
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
    mov %esp, %esp
    spill r11, 11
    base r11
    lea (%rsp,%r11), %rsp
@ Broken the reload takes another register
    mov %esp, %esp
    spill r11, 11
    base r11
    lea (%rsp,%r11), %rsp
    reload r10, 10
@ Broken the base goes to another register than the one spilled
    mov %esp, %esp
    spill r11, 11
    base r10
    lea (%rsp,%r10), %rsp
    reload r10, 10
@ Broken a store while the scratch register holds the base
    mov %esp, %esp
    spill r11, 11
    base r11
    mov %r11, %gs:(%eax)
    lea (%rsp,%r11), %rsp
    reload r11, 11
@ Broken leave with a 16-bit pop keeps the rest of the base
    spill rbp, 5
    mov %ebp, %esp
    base rbp
    lea (%rsp,%rbp), %rsp
    pop %bp
@ Broken rsi keeps its address
    spill rdx, 2
    base rdx
    mov %esi, %esi
    lea (%rsi,%rdx), %rsi
    lodsb
    reload rdx, 2
@ Broken rsi is not cut to an offset before
    spill rdx, 2
    base rdx
    lea (%rsi,%rdx), %rsi
    lodsb
    mov %esi, %esi
    reload rdx, 2
@ Broken movs where only rsi is an address
    spill rdx, 2
    base rdx
    mov %esi, %esi
    lea (%rsi,%rdx), %rsi
    movsb
    mov %esi, %esi
    reload rdx, 2
@ Broken stos where only rsi is an address
    spill rdx, 2
    base rdx
    mov %esi, %esi
    lea (%rsi,%rdx), %rsi
    stosb
    mov %esi, %esi
    reload rdx, 2
@ Broken the base with an index scaled
    spill rdx, 2
    base rdx
    mov %esi, %esi
    lea (%rsi,%rdx,2), %rsi
    lodsb
    mov %esi, %esi
    reload rdx, 2
@ Broken the base is added twice
    spill rdx, 2
    base rdx
    mov %esi, %esi
    lea (%rsi,%rdx), %rsi
    lea (%rsi,%rdx), %rsi
    lodsb
    mov %esi, %esi
    reload rdx, 2
@ Rule port input in the place of the string operation
    spill rdx, 2
    base rdx
    mov %edi, %edi
    lea (%rdi,%rdx), %rdi
    insb
    mov %edi, %edi
    reload rdx, 2
