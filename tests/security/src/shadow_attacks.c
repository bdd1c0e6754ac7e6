/* Attacks on returns that the level `default` lets through, one of each kind: `PROGRAM NAME` exits with 7 if control
 * reached what it should not, and dies if a return is refused. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* From a stack word to its shadow word: what an attacker knows from the source. */
#define DISTANCE 0x100000840ull
#define NOINLINE __attribute__((noinline))

/* A function whose address the program takes: the level `default` lets returns go there. */
__attribute__((used, noreturn)) NOINLINE void win(void) {
    static const char text[] = "ran\n";
    __asm__ volatile("and $-16,%%rsp; mov $1,%%eax; mov $1,%%edi; mov $4,%%edx; syscall; mov $231,%%eax; mov $7,%%edi; syscall"
                     ::"S"(text) : "memory");
    __builtin_unreachable();
}
static uintptr_t taken(void) {
    uintptr_t at;
    __asm__("lea win(%%rip),%0" : "=r"(at));
    return at;
}

/* call_me(f): f(address of the return address of that call). It returns to `site`, which counts, and wins when more came
 * than were called. jump_back(frame): leave and ret there, as at the end of any function. as_one, as_two: call_me(f), and
 * win if the other's call comes back here. */
__asm__(".text\n"
        "call_me: push %rbp; mov %rsp,%rbp; mov %rdi,%rax; lea -24(%rsp),%rdi; sub $16,%rsp; call *%rax\n"
        "site: lock incl laps(%rip); mov limit(%rip),%eax; cmp %eax,laps(%rip); jg win; leave; ret\n"
        "jump_back: mov %rdi,%rbp; leave; ret\n"
        "as_one: push %rbx; mov $1,%ebx; call call_me; cmp $1,%ebx; jne win; pop %rbx; ret\n"
        "as_two: push %rbx; mov $2,%ebx; call call_me; cmp $2,%ebx; jne win; pop %rbx; ret\n"
        ".data; laps: .long 0; .globl limit; limit: .long 0x7fffffff; .balign 8; site_at: .quad site-site_at\n.text\n");
void call_me(void (*f)(uintptr_t *)), as_one(void (*f)(uintptr_t *)), as_two(void (*f)(uintptr_t *));
__attribute__((noreturn)) void jump_back(uintptr_t *frame);
extern const int64_t site_at;
extern volatile int limit;
static uintptr_t site(void) { return (uintptr_t)&site_at + *(volatile const int64_t *)&site_at; }

static uintptr_t *word;
static void remember(uintptr_t *at) { word = at; }
static void overwrite(uintptr_t *at) { *at = taken(); }

/* Far below the caller's frames, so that later calls do not come by. */
NOINLINE static void deep(void (*f)(uintptr_t *)) {
    volatile char room[16384];
    room[0] = 1;
    call_me(f);
    room[1] = 2;
}

/* Returns through the word at `at`, again and again: what runs behind `site` leaves the same frame. */
NOINLINE static void return_through(uintptr_t *at) {
    at[-1] = (uintptr_t)(at - 1);
    at[0] = site();
    jump_back(at - 1);
}

/* The word has served its call: once more. */
static void reuse(void) {
    limit = 1;
    deep(remember);
    return_through(word);
}

static jmp_buf out;
static void leap(uintptr_t *at) {
    word = at;
    longjmp(out, 1);
}
/* A frame that was jumped over leaves its shadow word behind. It serves one return, no more. */
static void abandoned(void) {
    limit = 1;
    if (setjmp(out) == 0)
        deep(leap);
    return_through(word);
}

/* Two stacks, each with a live return; their return addresses change places. */
static uintptr_t *first, *second;
static pthread_barrier_t barrier;
NOINLINE static void in_first(uintptr_t *at) {
    first = at;
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
}
NOINLINE static void in_second(uintptr_t *at) {
    second = at;
    pthread_barrier_wait(&barrier);
    uintptr_t w = first[4]; /* above call_me's two words and rbp: where call_me returns */
    first[4] = second[4];
    second[4] = w;
    pthread_barrier_wait(&barrier);
}
static void *meet(void *unused) {
    as_two(in_second);
    return 0;
}
NOINLINE static void swapped(void) {
    pthread_t t;
    pthread_barrier_init(&barrier, 0, 2);
    pthread_create(&t, 0, meet, 0);
    as_one(in_first);
    pthread_join(t, 0);
}

/* Writes to the shadow word by every way that a program has, then returns through the word. */
static void store(uint64_t at, uint64_t v) { *(volatile uint64_t *)at = v; }
static void store_string(uint64_t at, uint64_t v) { __asm__ volatile("stosq" ::"a"(v), "D"(at) : "memory"); }
static void store_move(uint64_t at, uint64_t v) { __asm__ volatile("movsq" ::"S"(&v), "D"(at) : "memory"); }
static void store_stream(uint64_t at, uint64_t v) { __asm__ volatile("movnti %0,(%1)" ::"r"(v), "r"(at) : "memory"); }
static void store_index(uint64_t at, uint64_t v) {
    __asm__ volatile("mov %0,(%1,%2)" ::"r"(v), "r"(at - DISTANCE), "r"(DISTANCE) : "memory");
}
static void store_scaled(uint64_t at, uint64_t v) {
    __asm__ volatile("mov %0,0x840(%1,%2,8)" ::"r"(v), "r"(at - DISTANCE), "r"((DISTANCE - 0x840) / 8) : "memory");
}
static void store_stack(uint64_t at, uint64_t v) {
    __asm__ volatile("mov %0,(%%rsp,%1)" ::"r"(v), "r"(at - (uint64_t)__builtin_frame_address(0)) : "memory");
}
static void store_push(uint64_t at, uint64_t v) {
    __asm__ volatile("mov %%rsp,%%r12; lea 8(%1),%%rsp; push %0; mov %%r12,%%rsp" ::"r"(v), "r"(at) : "r12", "memory");
}
static void store_atomic(uint64_t at, uint64_t v) { __asm__ volatile("xchg %0,(%1)" : "+r"(v) : "r"(at) : "memory"); }
static void store_vector(uint64_t at, uint64_t v) {
    __asm__ volatile("movq %0,%%xmm0; movlps %%xmm0,(%1)" ::"r"(v), "r"(at) : "xmm0", "memory");
}
static void store_masked(uint64_t at, uint64_t v) {
    __asm__ volatile("movq %0,%%xmm0; pcmpeqd %%xmm1,%%xmm1; maskmovdqu %%xmm1,%%xmm0" ::"r"(v), "D"(at) : "xmm0", "xmm1", "memory");
}
static void store_fs(uint64_t at, uint64_t v) {
    uint64_t base;
    __asm__ volatile("mov %%fs:0,%0" : "=r"(base));
    __asm__ volatile("mov %0,%%fs:(%1)" ::"r"(v), "r"(at - base) : "memory");
}
static void (*const STORES[])(uint64_t, uint64_t) = {
    store, store_string, store_move, store_stream, store_index, store_scaled, store_stack, store_push, store_atomic,
    store_vector, store_masked, store_fs,
};
static int way;
static void forge(uintptr_t *at) {
    /* The low 4 GiB of such an address are the program's own: it writes into the room of `deep`. */
    STORES[way]((uint64_t)at + DISTANCE, ~(uint64_t)taken());
    *at = taken();
}

/* Another thread turns the word over and over, while it is compared and used. */
static volatile int stop;
static uintptr_t *volatile target_word;
static void *racer(void *unused) {
    while (!stop) {
        uintptr_t *w = target_word;
        if (w) {
            *(volatile uintptr_t *)w = taken();
            for (volatile int i = 0; i < 10; i++) {
            }
            *(volatile uintptr_t *)w = site();
            for (volatile int i = 0; i < 10; i++) {
            }
        }
    }
    return 0;
}
static void expose(uintptr_t *at) {
    target_word = at;
    for (volatile int i = 0; i < 20; i++) {
    }
}
NOINLINE static void race(void) {
    pthread_t t;
    pthread_create(&t, 0, racer, 0);
    for (time_t end = time(0) + 10; time(0) < end;)
        for (int n = 0; n < 1000; n++)
            call_me(expose);
    target_word = 0;
    stop = 1;
    pthread_join(t, 0);
}

/* The stack moves to memory that no call has used, full of frames that return behind a call. */
static void pivot(void) {
    uintptr_t *fresh = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 4096; i < 8000; i += 2) {
        fresh[i] = (uintptr_t)&fresh[i + 2];
        fresh[i + 1] = site();
    }
    limit = 1;
    call_me(remember);
    jump_back(fresh + 4096);
}

/* The same where a word for this very return was left, on a page that is unmapped and mapped anew. */
static void remapped(void) {
    char *stack = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    limit = 0;
    if (setjmp(out) == 0)
        __asm__ volatile("mov %0,%%rsp; call *%2" ::"r"(stack + 65536 - 64), "D"(leap), "r"(call_me));
    munmap(stack, 65536);
    mmap(stack, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return_through(word);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    way = argc > 2 ? atoi(argv[2]) : 0;
    setvbuf(stdout, 0, _IONBF, 0);
#define ATTACK(text, act) if (strcmp(name, text) == 0) { act; return 0; }
    ATTACK("overwrite", call_me(overwrite));
    ATTACK("reuse", reuse());
    ATTACK("abandoned", abandoned());
    ATTACK("swapped", swapped());
    ATTACK("forge", deep(forge));
    ATTACK("race", race());
    ATTACK("pivot", pivot());
    ATTACK("remapped", remapped());
    return 99;
}
