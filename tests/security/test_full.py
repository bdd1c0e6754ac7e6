"""What programs can make the LibOS keep many of, and calls that go through them when there is no memory left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from framework import cc, enclave

SOURCE = Path(__file__).parent / "src" / "full.c"
CASES = re.findall(r'\{"(\w+)", \w+\}', SOURCE.read_text())


@pytest.mark.parametrize("case", CASES)
def test_a_call_that_finds_no_memory_fails(case: str) -> None:
    result = enclave([cc(SOURCE, "-static", "-w", "-pthread"), case], options=["-m", "256M"], timeout=120)
    assert "panicked" not in result.errors
    assert (result.returncode, result.text) == (0, "alive\n"), result.errors[-2000:]
