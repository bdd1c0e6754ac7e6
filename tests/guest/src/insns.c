/* Instructions whose operands hide an address: string instructions, bit tests with far offsets, stack switching, odd
 * addressing, AVX2; results are printed and compared with a native run.
 */
#include "guest.h"
#include <cpuid.h>
#include <immintrin.h>

static unsigned char a[512], b[512];
static void fill(void) {
    for (int i = 0; i < 512; i++) {
        a[i] = i * 7 + 3;
        b[i] = 255 - i;
    }
}
static unsigned hash(const void *p, size_t n) {
    const unsigned char *c = p;
    unsigned h = 2166136261u;
    while (n--)
        h = (h ^ *c++) * 16777619;
    return h;
}

CASE(string_instructions) {
    fill();
    unsigned long si = (unsigned long)a, di = (unsigned long)b, cx = 100, flags;
    asm volatile("cld; rep movsb" : "+S"(si), "+D"(di), "+c"(cx)::"memory");
    printf("movsb %ld %ld %lu %x\n", si - (long)a, di - (long)b, cx, hash(b, 512));
    si = (unsigned long)a + 200, di = (unsigned long)b + 300, cx = 20;
    asm volatile("std; rep movsq; cld" : "+S"(si), "+D"(di), "+c"(cx)::"memory");
    printf("movsq back %ld %ld %lu %x\n", si - (long)a, di - (long)b, cx, hash(b, 512));
    di = (unsigned long)b + 5, cx = 33;
    asm volatile("rep stosl" : "+D"(di), "+c"(cx) : "a"(0x12345678) : "memory");
    printf("stosl %ld %lu %x\n", di - (long)b, cx, hash(b, 512));
    di = (unsigned long)a, cx = 512;
    asm volatile("repne scasb" : "+D"(di), "+c"(cx) : "a"(a[77]) : "memory", "cc");
    printf("scasb %ld %lu\n", di - (long)a, cx);
    memcpy(b, a, 512);
    b[300]++;
    si = (unsigned long)a, di = (unsigned long)b, cx = 512;
    asm volatile("repe cmpsb; pushfq; popq %3" : "+S"(si), "+D"(di), "+c"(cx), "=r"(flags)::"memory", "cc");
    printf("cmpsb %ld %ld %lu %lx\n", si - (long)a, di - (long)b, cx, flags & 0x8d5);
    unsigned long ax = 0;
    si = (unsigned long)a + 9;
    asm volatile("lodsw; lodsb" : "+S"(si), "+a"(ax));
    printf("lods %ld %lx\n", si - (long)a, ax);
    cx = 0, di = (unsigned long)b;
    asm volatile("rep stosb" : "+D"(di), "+c"(cx) : "a"(1) : "memory");
    printf("none %ld\n", di - (long)b);
}

CASE(string_instruction_into_a_hole) {
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(p + 4096, 4096);
    pid_t child = fork_clean();
    if (child == 0) {
        unsigned long di = (unsigned long)p + 4000, cx = 1000;
        asm volatile("rep stosb" : "+D"(di), "+c"(cx) : "a"(1) : "memory");
        _exit(0);
    }
    report("stosb", child);
}

CASE(bit_tests) {
    static unsigned char bits[4096];
    unsigned char c;
    int results = 0;
    for (long i = -16000; i < 16000; i += 777) {
        asm volatile("btsq %2,%1; setc %0" : "=r"(c), "+m"(*(unsigned long *)(bits + 2048)) : "r"(i) : "memory", "cc");
        results = results * 2 + c;
        asm volatile("btl %2,%1; setc %0" : "=r"(c) : "m"(*(unsigned *)(bits + 2048)), "r"((int)i) : "memory", "cc");
        results = (results * 31 + c) & 0xffffff;
    }
    for (long i = -9000; i < 9000; i += 333)
        asm volatile("btcq %1,%0" : "+m"(*(unsigned long *)(bits + 2048)) : "r"(i) : "memory", "cc");
    asm volatile("lock btrq %1,%0" : "+m"(*(unsigned long *)(bits + 2048)) : "r"(777l) : "memory", "cc");
    asm volatile("btsw $13,%0" : "+m"(*(unsigned short *)bits)::"cc");
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(p + 4096, 4096);
    long n = 13;
    asm volatile("btsw %w1,%0" : "+m"(*(unsigned short *)(p + 4094)) : "r"(n) : "cc");
    asm volatile("lock btsl %k1,%0" : "+m"(*(unsigned *)(p + 61)) : "r"(n) : "cc");
    printf("%x %x %x\n", results, hash(bits, sizeof bits), hash((void *)p, 4096));
}

CASE(stack_switching) {
    static unsigned long stack[512];
    unsigned long out = 0, top = (unsigned long)(stack + 500);
    asm volatile("mov %%rsp,%%rbx; mov %1,%%rsp; push $5; push $7; pop %%rax; add (%%rsp),%%rax; mov %%rbx,%%rsp; mov %%rax,%0"
                 : "=m"(out) : "r"(top) : "rax", "rbx", "memory");
    printf("%lu\n", out);
    asm volatile("mov %%rsp,%%rbx; xchg %1,%%rsp; push %%rsp; pop %%rax; sub %1,%%rax; mov %%rbx,%%rsp; mov %%rax,%0"
                 : "=m"(out), "+r"(top) : : "rax", "rbx", "memory");
    asm volatile("mov %%rsp,%%rbx; push %%rbp; lea -64(%%rsp),%%rsp; mov $9,%%eax; mov %%rax,8(%%rsp); and $-32,%%rsp;"
                 "mov %%rsp,%%rcx; and $31,%%ecx; mov %%rbx,%%rsp; mov -8(%%rsp),%%rbp; mov %%rcx,%0"
                 : "=m"(out) : : "rax", "rbx", "rcx", "memory");
    printf("aligned %lu\n", out);
    asm volatile("push $3; push $4; pop %%rax; pop %%rcx; lea (%%rax,%%rcx,8),%%rax; mov %%rax,%0" : "=m"(out)::"rax", "rcx", "memory");
    printf("%lu\n", out);
    top = (unsigned long)(stack + 400);
    stack[400] = 44;
    asm volatile("mov %%rsp,%%rbx; mov %1,%%rsp; pop %%rax; mov %%rsp,%%rcx; sub %1,%%rcx; shl $8,%%rcx; or %%rcx,%%rax; mov %%rbx,%%rsp; mov %%rax,%0"
                 : "=m"(out) : "r"(top) : "rax", "rbx", "rcx", "memory");
    printf("%lu\n", out);
    asm volatile("enter $32,$0; mov %%rbp,%%rax; sub %%rsp,%%rax; leave; mov %%rax,%0" : "=m"(out)::"rax", "memory");
    printf("enter %lu\n", out);
    asm volatile("pushfq; pushq $0x55; popq %%rax; popfq; mov %%rax,%0" : "=m"(out)::"rax", "memory", "cc");
    printf("%lx\n", out);
}

CASE(calls_through_memory) {
    extern char target_one[], target_two[];
    static void *table[2];
    unsigned long out;
    table[0] = target_one;
    table[1] = target_two;
    asm volatile("xor %%eax,%%eax; call *%1; call *8(%2); lea %1,%%rcx; call *(%%rcx); jmp 3f;"
                 "target_one: add $1,%%eax; ret; target_two: add $100,%%eax; ret $0; 3: mov %%rax,%0"
                 : "=m"(out) : "m"(table[0]), "r"(table) : "rax", "rcx", "memory");
    printf("%lu\n", out);
    asm volatile("mov $7,%%eax; call 1f; jmp 2f; 1: push $0; add $8,%%rsp; cmpl $7,(%%rsp); ret $0; 2: mov %%rax,%0" : "=m"(out)::"rax", "memory", "cc");
    printf("%lu\n", out);
    asm volatile("lea 1f(%%rip),%%rcx; push %%rcx; ret; ud2; 1: mov $77,%%eax; mov %%rax,%0" : "=m"(out)::"rax", "rcx", "memory");
    printf("%lu\n", out);
    asm volatile("call 1f; 1: pop %%rax; lea 1b(%%rip),%%rcx; sub %%rcx,%%rax; mov %%rax,%0" : "=m"(out)::"rax", "rcx", "memory");
    printf("%lu\n", out);
    asm volatile("mov $3,%%ecx; xor %%eax,%%eax; 1: add $5,%%eax; loop 1b; jrcxz 2f; ud2; 2: mov %%rax,%0" : "=m"(out)::"rax", "rcx", "memory", "cc");
    printf("%lu\n", out);
}

CASE(addressing) {
    static unsigned table[64];
    for (int i = 0; i < 64; i++)
        table[i] = i * i;
    unsigned long out;
    asm volatile("mov $5,%%ecx; mov (%1,%%rcx,4),%%eax; add 8(%1,%%rcx,8),%%eax; mov %%rax,%0" : "=m"(out) : "r"(table) : "rax", "rcx");
    printf("%lu\n", out);
    asm volatile("mov $-3,%%rcx; mov 40(%1,%%rcx,4),%%eax; mov %%rax,%0" : "=m"(out) : "r"(table) : "rax", "rcx");
    printf("%lu\n", out);
    asm volatile("movslq %1,%%rax; movzbl %1,%%ecx; xchg %%cl,%%ah; mov %%rax,%0" : "=m"(out) : "m"(table[63]) : "rax", "rcx");
    printf("%lu\n", out);
    static unsigned char map[256];
    for (int i = 0; i < 256; i++)
        map[i] = i ^ 0x5a;
    asm volatile("mov $0x33,%%eax; xlatb; mov %%rax,%0" : "=m"(out) : "b"(map) : "rax");
    printf("%lx\n", out);
    unsigned long mem = 5, expected = 5;
    asm volatile("lock cmpxchgq %2,%0" : "+m"(mem), "+a"(expected) : "r"(9l) : "cc");
    asm volatile("lock xaddq %0,%1" : "+r"(expected), "+m"(mem)::"cc");
    printf("%lu %lu\n", mem, expected);
    __int128 wide = 0;
    unsigned long lo = 0, hi = 0;
    asm volatile("lock cmpxchg16b %0" : "+m"(wide), "+a"(lo), "+d"(hi) : "b"(1l), "c"(2l) : "cc");
    printf("%lu %lu\n", (unsigned long)wide, (unsigned long)(wide >> 64));
}

__attribute__((target("avx2"))) static void avx2(void) {
    fill();
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i + 32 <= 512; i += 32) {
        __m256i x = _mm256_loadu_si256((void *)(a + i)), y = _mm256_loadu_si256((void *)(b + i));
        sum = _mm256_add_epi64(sum, _mm256_sad_epu8(x, y));
        _mm256_storeu_si256((void *)(a + i), _mm256_shuffle_epi8(x, y));
    }
    long parts[4];
    _mm256_storeu_si256((void *)parts, sum);
    printf("%ld %ld %ld %ld %x\n", parts[0], parts[1], parts[2], parts[3], hash(a, 512));
    int base[64], index[8] = {3, 1, 4, 1, 5, 9, 2, 6}, got[8];
    for (int i = 0; i < 64; i++)
        base[i] = 1000 + i;
    _mm256_storeu_si256((void *)got, _mm256_i32gather_epi32(base, _mm256_loadu_si256((void *)index), 4));
    for (int i = 0; i < 8; i++)
        printf("%d ", got[i]);
    _mm256_maskstore_epi32(got, _mm256_setr_epi32(-1, 0, -1, 0, -1, 0, -1, 0), _mm256_set1_epi32(-5));
    for (int i = 0; i < 8; i++)
        printf("%d ", got[i]);
    puts("");
    double d[4] = {1.5, 2.5, 3.5, 4.5};
    __m256d v = _mm256_loadu_pd(d);
    v = _mm256_permute4x64_pd(_mm256_mul_pd(v, v), 0x1b);
    _mm256_storeu_pd(d, v);
    printf("%g %g %g %g\n", d[0], d[1], d[2], d[3]);
}
CASE(avx2_code) {
    if (__builtin_cpu_supports("avx2"))
        avx2();
    else
        puts("no AVX2 here");
}

CASE(upper_halves_survive) {
    if (!__builtin_cpu_supports("avx")) {
        puts("no AVX here");
        return;
    }
    /* Values in ymm15's upper half across system calls, preemption and other processes' use. */
    pid_t child = fork_clean();
    if (child == 0)
        for (;;)
            asm volatile("vpcmpeqd %%xmm15,%%xmm15,%%xmm15; vinsertf128 $1,%%xmm15,%%ymm15,%%ymm15" ::: "xmm15");
    int wrong = 0;
    for (int i = 0; i < 300; i++) {
        double in[4] = {i, i + 1, i + 2, i + 3}, out[4];
        asm volatile("vmovupd %1,%%ymm15; mov $39,%%eax; syscall; mov $24,%%eax; syscall;"
                     "mov $20000,%%edx; 1: dec %%edx; jnz 1b; vmovupd %%ymm15,%0; vzeroupper"
                     : "=m"(out) : "m"(in) : "rax", "rcx", "rdx", "r11", "xmm15", "memory", "cc");
        wrong += memcmp(in, out, sizeof in) != 0;
    }
    kill(child, SIGKILL);
    report("other", child);
    printf("wrong %d\n", wrong);
}

CASE(x87_and_sse_state) {
    unsigned short control = 0, changed = 0x0c7f, status;
    unsigned mxcsr;
    asm volatile("fnstcw %0" : "=m"(control));
    asm volatile("fldcw %0" ::"m"(changed));
    getppid();
    asm volatile("fnstcw %0; fldcw %1" : "=m"(status) : "m"(control));
    asm volatile("stmxcsr %0" : "=m"(mxcsr));
    printf("%x %x %x\n", control, status, mxcsr & ~0x3f);
    double x;
    asm volatile("fldpi; fldl2e; faddp; fsqrt; fstpl %0" : "=m"(x));
    printf("%.17g\n", x);
    unsigned char image[512] __attribute__((aligned(16)));
    asm volatile("fxsave %0" : "=m"(image));
    asm volatile("fxrstor %0" ::"m"(image));
    puts("done");
}

CASE(flags_survive) {
    unsigned long before, after;
    asm volatile("mov $0x7fffffff,%%eax; add $1,%%eax; pushfq; popq %0; mov $39,%%eax; syscall; pushfq; popq %1"
                 : "=&r"(before), "=&r"(after)::"rax", "rcx", "r11", "cc", "memory");
    printf("%lx %lx\n", before & 0x8d5, after & 0x8d5);
    asm volatile("std; mov $39,%%eax; syscall; pushfq; popq %0; cld" : "=r"(after)::"rax", "rcx", "r11", "cc", "memory");
    printf("direction %lu\n", after >> 10 & 1);
}

CASE(thread_pointer) {
    unsigned long self, base;
    asm volatile("mov %%fs:0,%0" : "=r"(self));
    asm volatile("mov %%fs:0x10,%0" : "=r"(base));
    printf("%d\n", self == *(unsigned long *)self && base != 0);
    syscall(SYS_arch_prctl, 0x1003, &base);
    printf("%d\n", base == self);
    static unsigned long area[4] = {11, 22, 33, 44};
    unsigned long got;
    syscall(SYS_arch_prctl, 0x1001, area);
    asm volatile("mov %%gs:16,%0" : "=r"(got));
    printf("%lu\n", got);
}

CASE(identification) {
    unsigned eax, ebx, ecx, edx;
    __cpuid(1, eax, ebx, ecx, edx);
    printf("sse2 %d\n", !!(edx & bit_SSE2));
    unsigned lo, hi, lo2, hi2;
    asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
    asm volatile("rdtscp" : "=a"(lo2), "=d"(hi2)::"rcx");
    printf("forward %d\n", ((unsigned long)hi2 << 32 | lo2) >= ((unsigned long)hi << 32 | lo));
}

CASE(rare_but_used) {
    unsigned long x = 0x123456789abcdef0, y;
    asm volatile("bswap %0" : "+r"(x));
    asm volatile("popcnt %1,%0" : "=r"(y) : "r"(x));
    printf("%lx %lu\n", x, y);
    asm volatile("bsf %1,%0; bsr %1,%%rcx; shl $8,%%rcx; or %%rcx,%0" : "=&r"(y) : "r"(x) : "rcx", "cc");
    printf("%lx\n", y);
    asm volatile("mov $100,%%eax; cltd; mov $7,%%ecx; idivl %%ecx; shl $32,%%rdx; or %%rdx,%%rax; mov %%rax,%0" : "=m"(y)::"rax", "rcx", "rdx", "cc");
    printf("%lx\n", y);
    asm volatile("shld $12,%1,%0" : "+r"(x) : "r"(y) : "cc");
    asm volatile("movbe %1,%0" : "=r"(y) : "m"(x));
    printf("%lx %lx\n", x, y);
    asm volatile("pause; lfence; mfence; sfence; prefetcht0 (%0); nopw 0(%%rax,%%rax,1)" ::"r"(&x));
    asm volatile("clc; cmc; sbb %0,%0" : "=r"(y)::"cc");
    printf("%lx\n", y);
}

/* How programs recognise a 386 and a 486: AC and ID can be changed on what came later. */
CASE(flags_that_identify) {
    unsigned long was, on, off;
    asm volatile("pushfq; popq %0; mov %0,%%rax; or $0x240000,%%rax; push %%rax; popfq; pushfq; popq %1;"
                 "and $~0x240000,%%rax; push %%rax; popfq; pushfq; popq %2"
                 : "=&r"(was), "=&r"(on), "=&r"(off)::"rax", "memory", "cc");
    printf("%lx %lx\n", on & 0x240000, off & 0x240000);
}
