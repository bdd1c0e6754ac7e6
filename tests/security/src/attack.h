/* What attacks share: how one is declared, the wild addresses, how a piece of hostile code is run and survived, and what
 * counts as an escape. `attacks.c` is the driver; the other files each hold some families of attacks.
 *
 * Reports: an attack calls `escaped` if it can show that it read, ran or saw what is not its own, and the driver notes
 * how often it tried, so that one that does nothing is found out. Harm to others is the victim's and the driver's to see.
 */
#pragma once
#define _GNU_SOURCE
#include "secret.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

struct attack {
    const char *family, *name, *aim;
    void (*run)(const struct attack *);
    void (*code)(void); /* for attacks that are one snippet */
};

/* All attacks stand in one section, which is the table. */
#define ATTACK(family, id, aim, how, snippet)                                                                             \
    static const struct attack attack_##id __attribute__((used, section("attacks"), aligned(8))) = {family, #id, aim, how, \
                                                                                                  snippet};
/* A function in assembly, called through `run`; `id_end` is behind it. */
#define SNIPPET(id, text)                                                                                                  \
    __asm__(".pushsection .text\n" #id ": " text "\n ret\n" #id "_end:\n .popsection\n");                                  \
    extern void id(void) __asm__(#id);
/* An attack in C. */
#define IN_C(family, id, aim)                                                                                              \
    static void id(const struct attack *);                                                                                 \
    ATTACK(family, id, aim, id, NULL)                                                                                      \
    static void id(const struct attack *self __attribute__((unused)))

enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8, R9, R10, R11, R12, R13, R14, R15, REGS };
#define POISON 0x5a5adeadbeef5a5au

extern uint64_t seed;
extern uint64_t before[REGS], after[REGS]; /* registers at the start and at the end of a snippet */
extern volatile int fault;                 /* the signal that ended the last snippet, or 0 */
extern volatile uint64_t fault_rip, fault_addr;
extern char *altstack;
#define ALTSTACK (256 << 10)

_Noreturn void escaped(const char *what, uint64_t value);
void tried(void);

/* Runs a snippet: registers from `before`, then to `after`. Returns the signal that ended it, or 0. */
int run(void (*code)(void));
/* Sets `before` for a wild address: rdi the address, rsi own memory, rdx poison, rcx and rbx the address' halves, r8 an
 * eighth of it, r9 all ones; the others a pattern. */
void registers(uint64_t wild);
/* Exits with the evidence if `after` holds the secret or an enclave address that `before` did not. */
void check_registers(void);
void check_value(const char *what, uint64_t v);
int is_address(uint64_t v);
int mine(uint64_t v); /* v lies in a mapping of this process */
void check_memory(const char *what, const void *p, size_t n);

/* In a child: true in it; it ends with `_exit`, and the parent goes on (or ends, too, if the child escaped). */
int in_child(void);

unsigned wild_count(void);
uint64_t wild(unsigned i);
unsigned wild_code_count(void);
uint64_t wild_code(unsigned i);
unsigned char *rwx(void); /* a page to write code to */
uint64_t now_ms(void);

/* How snippets are run: for all wild addresses (loose: it computes with them, so that only the secret counts); for all
 * wild code addresses; once, with rdi in own memory; once, and it has to fault.
 */
void each_wild(const struct attack *);
void each_wild_loose(const struct attack *);
void each_wild_in_child(const struct attack *);
void each_target(const struct attack *);
void once(const struct attack *);
void must_fault(const struct attack *);
