"""Seeing inside a debug enclave: system calls, profiles, crash reports, cores.

Neighbours: `common/enclave-abi/src/trace.rs` has the wire formats, `enclave/libos/src/trace` writes the records that
`records` reads here; `cli/try_` asks for it. Parts: `options` (what the enclave is to tell), `session` (the pipe and
who reads it), `strace` with `decode` and `names`, `profile`, `crash`, `core`, and below them `elf` and `unwind`.
Invariants: records come from an enclave that runs hostile programs: nothing in them is trusted, only printed; files are
read from this machine by the paths that the enclave names, so what was changed inside has no symbols.
"""
