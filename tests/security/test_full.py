"""What programs can make the LibOS keep many of, and calls that go through them when there is no memory left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from framework import cc, enclave

SOURCE = Path(__file__).parent / "src" / "full.c"
KEPT = Path(__file__).parent / "src" / "kept.c"


def rows(source: Path) -> list[str]:
    return re.findall(r'\{"(\w+)", \w+\}', source.read_text())


@pytest.mark.parametrize("case", rows(SOURCE))
def test_a_call_that_finds_no_memory_fails(case: str) -> None:
    result = enclave([cc(SOURCE, "-static", "-w", "-pthread"), case], options=["-m", "256M"], timeout=120)
    assert "panicked" not in result.errors
    assert (result.returncode, result.text) == (0, "alive\n"), result.errors[-2000:]


@pytest.mark.parametrize("kind", rows(KEPT))
def test_what_ends_with_no_process_leaves_memory_to_others(kind: str) -> None:
    result = enclave([cc(KEPT, "-static", "-w"), kind], options=["-m", "256M"], timeout=120)
    assert (result.returncode, result.text) == (0, "filled: 0\n" + 5 * "ended: 0\n"), result.errors[-2000:]
