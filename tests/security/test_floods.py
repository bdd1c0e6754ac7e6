"""What nobody takes, until memory ends: a process may lose by it, the LibOS and the others do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework import cc, enclave

SOURCE = Path(__file__).parent / "src" / "floods.c"


@pytest.mark.parametrize(
    ("case", "memory", "said"),
    [
        ("netlink_errors", "128M", "alive\n"),
        ("dump", "256M", "all of them\nalive\n"),
        ("circle", "256M", "alive\n"),
        ("clients", "128M", "0 refused\nalive\n"),
    ],
)
def test_others_go_on(case: str, memory: str, said: str) -> None:
    result = enclave([cc(SOURCE, "-static", "-w"), case], options=["-m", memory], timeout=120)
    assert "panicked" not in result.errors
    assert (result.returncode, result.text) == (0, said), result.errors[-2000:]
