"""What programs can make the LibOS keep many of, and calls that go through them when there is no memory left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import syscall_fuzz
from framework import cc, enclave

SOURCE = Path(__file__).parent / "src" / "full.c"
EVERY = SOURCE.with_name("every.c")
# Half of what is left for allocations that cannot fail.
UNASKED_MOST_KB = 1024
KEPT = Path(__file__).parent / "src" / "kept.c"


def rows(source: Path) -> list[str]:
    return re.findall(r'\{"(\w+)", \w+\}', source.read_text())


@pytest.mark.parametrize("case", rows(SOURCE))
def test_a_call_that_finds_no_memory_fails(case: str) -> None:
    result = enclave([cc(SOURCE, "-static", "-w", "-pthread"), case], options=["-m", "256M"], timeout=120)
    assert "panicked" not in result.errors
    assert (result.returncode, result.text) == (0, "alive\n"), result.errors[-2000:]


@pytest.mark.parametrize("case", rows(SOURCE))
def test_what_may_be_large_is_asked_for(case: str) -> None:
    """The same where there is memory: the largest piece that the LibOS took without asking."""
    result = enclave([cc(SOURCE, "-static", "-w", "-pthread"), case, "unasked"], options=["-m", "512M"], timeout=120)
    assert result.returncode == 0, result.errors[-2000:]
    assert int(result.text.split()[-1]) <= UNASKED_MOST_KB


def test_every_call_without_memory() -> None:
    calls = [f"{nr}:{','.join(kinds)}" for nr, kinds in syscall_fuzz.signatures().items()]
    assert len(calls) > 200
    result = enclave([cc(EVERY, "-static", "-w"), *calls], options=["-m", "512M"], timeout=300)
    assert "panicked" not in result.errors
    assert (result.returncode, result.text) == (0, "all made\n"), result.errors[-2000:]


@pytest.mark.parametrize("kind", rows(KEPT))
def test_what_ends_with_no_process_leaves_memory_to_others(kind: str) -> None:
    result = enclave([cc(KEPT, "-static", "-w"), kind], options=["-m", "256M"], timeout=120)
    assert (result.returncode, result.text) == (0, "filled: 0\n" + 5 * "ended: 0\n"), result.errors[-2000:]
