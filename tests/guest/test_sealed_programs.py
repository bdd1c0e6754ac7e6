"""Slices of the campaigns with real programs on sealed storage (`make sealed-campaign`)."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from framework import ROOT

SLICES: dict[str, tuple[tuple[str, ...], str]] = {
    "crashes": (("--points", "160"), r"git: 40 crash points"),
    "kills": (("--times", "4"), r"kills: 4"),
    "faults": (("--times", "6"), r"faults: 6"),
    "rules": ((), r"tmpfs: \d+ cases, 0 differ"),
    "fsx": (("--operations", "30000"), r"hostfs: 30000 operations"),
}


@pytest.mark.parametrize("what", SLICES)
def test_programs_find_what_they_were_promised(what: str, seed: int) -> None:
    options, last = SLICES[what]
    command = [sys.executable, str(ROOT / "tools" / "sealed_programs.py"), what, *options, "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(last, done.stdout)
