/* The vDSO: what programs call for the time instead of the kernel. An ELF file of its own that exec maps into every
 * domain and AT_SYSINFO_EHDR names; its code is translated and proven like any other.
 *
 * Neighbours: `vdso.lds` lays it out, `mod.rs` maps it and writes the data page, `build.rs` assembles it.
 * Invariants: the data page lies right behind the file and does not change; what it has no answer for is the system
 * call's to answer, which computes the same from the same numbers (`time.rs`), so that the two never disagree.
 */
#define SYS_gettimeofday 96
#define SYS_time 201
#define SYS_clock_gettime 228
#define SYS_clock_getres 229
#define SYS_getcpu 309

/* Bit n: clock n is CLOCK_MONOTONIC under some name (MONOTONIC, RAW, COARSE, BOOTTIME and its ALARM), or
 * CLOCK_REALTIME (REALTIME, COARSE, ALARM, TAI). */
#define MONOTONIC_CLOCKS ((1 << 1) | (1 << 4) | (1 << 6) | (1 << 7) | (1 << 9))
#define REALTIME_CLOCKS ((1 << 0) | (1 << 5) | (1 << 8) | (1 << 11))
#define COARSE_CLOCKS ((1 << 5) | (1 << 6))
#define COARSE_NS 4000000

/* Fields of the data page (mod.rs, Data). */
#define TSC_START 0
#define MONO_START 8
#define SCALE 16
#define REAL_FROM_MONO 24
#define DATA(field) vdso_data + field(%rip)

	.hidden vdso_data
	.text

.macro function name
	.globl __vdso_\name
	.type __vdso_\name, @function
	.weak \name
	.set \name, __vdso_\name
	.p2align 4
__vdso_\name:
	.cfi_startproc
	endbr64
.endm

.macro end_function name
	.cfi_endproc
	.size __vdso_\name, . - __vdso_\name
.endm

/* rax: CLOCK_MONOTONIC in ns. Changes rdx. lfence: the counter is not read before what the program read earlier, which
 * may be a later time of another thread. A counter that is behind its start counts as there. */
.macro monotonic_ns
	lfence
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	xor %edx, %edx
	sub DATA(TSC_START), %rax
	cmovb %rdx, %rax
	mulq DATA(SCALE)
	shrd $32, %rdx, %rax
	add DATA(MONO_START), %rax
.endm

/* rdx: seconds of the ns in rax, which rax keeps the rest of. Changes rcx. n / 10^9 = (n >> 9) * M >> 75. */
.macro split_seconds
	mov %rax, %rcx
	shr $9, %rax
	movabs $0x44b82fa09b5a53, %rdx
	mul %rdx
	shr $11, %rdx
	imul $1000000000, %rdx, %rax
	sub %rax, %rcx
	mov %rcx, %rax
.endm

function clock_gettime
	cmp $11, %edi
	ja 3f
	mov $MONOTONIC_CLOCKS, %eax
	bt %edi, %eax
	jnc 2f
	monotonic_ns
1:	split_seconds
	mov %rdx, (%rsi)
	mov %rax, 8(%rsi)
	xor %eax, %eax
	ret
2:	mov $REALTIME_CLOCKS, %eax
	bt %edi, %eax
	jnc 3f
	monotonic_ns
	add DATA(REAL_FROM_MONO), %rax
	jmp 1b
3:	mov $SYS_clock_gettime, %eax
	syscall
	ret
end_function clock_gettime

function clock_getres
	cmp $11, %edi
	ja 3f
	mov $(MONOTONIC_CLOCKS | REALTIME_CLOCKS), %eax
	bt %edi, %eax
	jnc 3f
	test %rsi, %rsi
	jz 2f
	mov $1, %edx
	mov $COARSE_CLOCKS, %eax
	mov $COARSE_NS, %ecx
	bt %edi, %eax
	cmovc %ecx, %edx
	movq $0, (%rsi)
	mov %rdx, 8(%rsi)
2:	xor %eax, %eax
	ret
3:	mov $SYS_clock_getres, %eax
	syscall
	ret
end_function clock_getres

function gettimeofday
	test %rdi, %rdi
	jz 1f
	monotonic_ns
	add DATA(REAL_FROM_MONO), %rax
	split_seconds
	mov %rdx, (%rdi)
	/* n / 1000 for n below 2^32 */
	mov $0x10624dd3, %edx
	imul %rdx, %rax
	shr $38, %rax
	mov %rax, 8(%rdi)
1:	test %rsi, %rsi
	jz 2f
	movq $0, (%rsi)
2:	xor %eax, %eax
	ret
end_function gettimeofday

function time
	monotonic_ns
	add DATA(REAL_FROM_MONO), %rax
	split_seconds
	mov %rdx, %rax
	test %rdi, %rdi
	jz 1f
	mov %rax, (%rdi)
1:	ret
end_function time

/* Which vCPU this is, translated code cannot see. */
function getcpu
	mov $SYS_getcpu, %eax
	syscall
	ret
end_function getcpu

	.section .note.GNU-stack, "", @progbits
