"""Nothing leaks: memory, processes and descriptors are the same after many processes came and went, failures too."""

from __future__ import annotations

from pathlib import Path

from framework import cc, enclave, native

SOURCE = Path(__file__).parent / "src" / "leaks.c"
SLACK_KIB = 2048


def test_nothing_leaks() -> None:
    program = cc(SOURCE, "-static", "-pthread", "-w")
    assert native([program, "5"]).returncode == 0
    result = enclave([program, "150"], timeout=60)
    assert result.returncode == 0
    memory_kib, processes, descriptors = map(int, result.text.split())
    assert (processes, descriptors) == (0, 0)
    assert memory_kib < SLACK_KIB, f"{memory_kib} KiB are gone after 600 processes"
