"""The memory of translated code is used again: a program that makes code for ever takes no more than its share."""

from __future__ import annotations

import re
from pathlib import Path

from framework import Result, cc, enclave, native

SOURCE = Path(__file__).parent / "src" / "jit.c"


def figures(*arguments: str, memory: str) -> dict[str, int]:
    program = cc(SOURCE, "-static", "-w", "-pthread")
    result = enclave([program, *arguments], options=["--stats", "--memory", memory], timeout=300)
    assert result.returncode == 0
    assert "done" in result.text
    return stats(result)


def stats(result: Result) -> dict[str, int]:
    return {
        name: int(value.replace(",", ""))
        for name, value in re.findall(r"^occlum: (\w+) +([\d,]+)", result.errors, re.MULTILINE)
    }


def test_code_that_is_rewritten_for_long() -> None:
    """200,000 functions, each in the place of an older one: their translations would take 50 MB."""
    seen = figures("churn", "200000", memory="1G")
    assert seen["translated_bytes"] > 45 << 20
    assert seen["code_cache_bytes"] < 8 << 20


def test_more_code_than_a_process_may_have() -> None:
    """120,000 functions that all stay: what is dropped for room comes back when it is called.

    They lie in 30,000 pages, and the two lookup tables take up to 16 KiB each for every one.
    """
    seen = figures("hoard", "30000", memory="2G")
    assert seen["translated_bytes"] > 120 << 20
    assert seen["code_cache_bytes"] < 96 << 20


def test_tables_of_programs_that_wait() -> None:
    """Their pages go after some seconds, and their entries come back one by one."""
    program = cc(SOURCE.with_name("idle.c"), "-static", "-w", "-pthread")
    command: list[str | bytes | Path] = [program, "programs_that_wait"]
    inside = enclave(command, options=["--stats"], env={"GUEST_SECONDS": "12"}, timeout=60)
    assert inside.text == native(command, env={"GUEST_SECONDS": "0"}).text
    assert inside.returncode == 0
    assert stats(inside)["idle_table_pages"] > 20 * 5
