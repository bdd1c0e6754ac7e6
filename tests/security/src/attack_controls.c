/* No attacks: what an attack that succeeds looks like. Each of these has to be reported as an escape. */
#include "attack.h"

SNIPPET(address_in_register, "movabs $0x10a00001000, %rax")
SNIPPET(cache_address_in_register, "mov $0x41234567, %ecx")
SNIPPET(secret_to_memory, "mov before+8*14(%rip), %rax; mov %rax, 0x41(%rsi); xor %eax, %eax")
SNIPPET(nothing_at_all, "nop")
SNIPPET(victims_code, "mov $0x76696374, %eax")

ATTACK("control", control_address, "R12", once, address_in_register)
ATTACK("control", control_cache_address, "R12", once, cache_address_in_register)
ATTACK("control", control_no_fault, "V1", must_fault, nothing_at_all)
ATTACK("control", control_foreign_code, "V9", each_target, victims_code)
IN_C("control", control_secret_in_memory, "V4") {
    registers(DATA_AT);
    before[R15] = secret_of(seed);
    run(secret_to_memory);
    check_memory("secret in memory", (void *)(uintptr_t)DATA_AT, 0x10000);
}
IN_C("control", control_secret_in_register, "V4") {
    registers(DATA_AT);
    run(nothing_at_all);
    after[RBP] = secret_of(seed);
    check_registers();
}
