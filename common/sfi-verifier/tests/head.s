# Before every file of pass/ and fail/: names for the context's slots and for the fixed instructions of patterns.
# The file format: `@ CHECK why` begins a snippet; in pass/ the word behind @ is the feature shown, in fail/ the check that
# must fail. `jmp PROVEN` is put behind it: not if `open` stands first, and without its last byte if `short` does.
.set EXIT, 0xc8
.set TARGET, 0xc0
.set SLOT_BASE, 0x08
.set TLS, 0x10
.set GUEST_GS, 0x18
.macro spill r, n
    mov %\r, %fs:0x40 + 8 * \n
.endm
.macro reload r, n
    mov %fs:0x40 + 8 * \n, %\r
.endm
.macro base r
    mov %fs:SLOT_BASE, %\r
.endm
# First in a unit whose code names r11, and at its other entries.
.macro fetch
    reload r11, 11
.endm
# Makes an address of the offset in rsp: where r11 is in its register, and where it is at home.
.macro rebase
    spill r11, 11
    base r11
    lea (%rsp,%r11), %rsp
    reload r11, 11
.endm
.macro hrebase
    base r11
    lea (%rsp,%r11), %rsp
.endm
# lookup 0: return site; lookup 4: call target
.macro lookup disp
    {disp32} movl %gs:\disp(,%r11,4), %r11d
.endm
# The index of a call target; that of a return site is `not %r11`.
.macro bias
    lea 0x7fffffff(%r11), %r11
.endm
.macro next to=0x1234
    lea 11(%rip), %rcx
    mov $\to, %r11d
    jmp STUB_SYSCALL
.endm
# The shadow stack: the distance, the comparison and the consumption of a return, the word of a call.
.set SHADOW, 0xf8
.macro distance r
    mov %fs:SHADOW, %\r
.endm
.macro compare
    distance rcx
    mov (%rsp,%rcx), %rcx
    lea 1(%rcx,%r11), %rcx
    .byte 0xe3, 2
    ud2
.endm
.macro consume
    distance rcx
    movl $0, 4(%rsp,%rcx)
.endm
.macro shadowed site
    pushq $\site
    distance r11
    movq $~\site, (%rsp,%r11)
.endm
