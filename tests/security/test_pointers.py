"""System calls with pointers at every edge: the LibOS answers as Linux does."""

from __future__ import annotations

from pathlib import Path

from framework import cc, same

SOURCE = Path(__file__).parent / "src" / "pointers.c"


def test_every_pointer_is_answered_as_by_linux() -> None:
    program = cc(SOURCE, "-static", "-w")
    assert len(same([program]).text.splitlines()) > 300
