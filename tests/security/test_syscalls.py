"""A slice of the system-call fuzzer (`make syscall-fuzz`), from the seed of this commit."""

from __future__ import annotations

import record
import syscall_fuzz

SLICE_S = 15


def test_hostile_calls_harm_nobody_else() -> None:
    seed = record.commit_seed()
    print(f"seed {seed}")
    assert syscall_fuzz.run(seed, SLICE_S) == ""


def test_all_implemented_calls_are_fuzzed() -> None:
    numbers = syscall_fuzz.implemented()
    assert len(numbers) > 200
    assert len(set(numbers)) == len(numbers)
