/* What the victim hides and how an attacker recognises it without knowing it: the secret word times FACTOR is the seed
 * that both are given. Also the fixed places in the victim's memory, which attackers know.
 */
#pragma once
#include <stdint.h>

#define FACTOR 0x9e3779b97f4a7c15u
#define DATA_AT 0x50000000u
#define DATA_SIZE (1u << 20)
#define CODE_AT 0x30000000u
#define VICTIM_RAN 0x76696374u

static inline int is_secret(uint64_t word, uint64_t seed) { return word * FACTOR == seed; }

/* The one word with is_secret(word, seed): FACTOR's inverse modulo 2^64, by Newton's iteration. */
static inline uint64_t secret_of(uint64_t seed) {
    uint64_t inverse = FACTOR;
    for (int i = 0; i < 6; i++)
        inverse *= 2 - FACTOR * inverse;
    return seed * inverse;
}
