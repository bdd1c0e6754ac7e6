"""Lookup tables that a slot keeps for the next process of the same program lead to nothing that this one has not mapped."""

from __future__ import annotations

from pathlib import Path

from framework import cc, same

SOURCE = Path(__file__).parent / "src" / "keptcode.c"


def test_no_code_of_the_last_process_runs() -> None:
    same([cc(SOURCE, "-static", "-w")])
