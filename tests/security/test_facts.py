"""Crafted ELF files cost the LibOS what it admits, and are known only as long as there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework import cc, enclave

SOURCE = Path(__file__).parent / "src" / "facts.c"


@pytest.mark.parametrize(("case", "files", "memory"), [("bitmaps", 1, "256M"), ("functions", 80, "256M")])
def test_others_go_on(case: str, files: int, memory: str) -> None:
    result = enclave([cc(SOURCE, "-w"), case, str(files)], options=["-m", memory], timeout=300)
    assert (result.returncode, result.text) == (0, "alive\n"), result.errors[-2000:]
