"""Long calls of one process, beside one that wants to get on: nobody has the LibOS for himself.

Counts, not times: whoever is kept out for the whole of a call makes none.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from framework import cc, enclave, enclave_argv

SOURCE = Path(__file__).parent / "src" / "stalls.c"
LINE = re.compile(r"^(.*): (\d+) ms, (\d+) calls$", re.MULTILINE)
LONGER = re.compile(r"^(.*): (\d+) times as long$", re.MULTILINE)
# What grows with what another one has grows by hundreds and more.
TIMES = 20
# Shorter ones say nothing: they may be over before the other's turn.
LONG_MS = 50
# So many of the neighbour's calls have room beside a call that goes on for so many ms.
CALLS = 10
EACH_MS = 50


def check(text: str, count: int) -> None:
    lines = [(name, int(ms), int(calls)) for name, ms, calls in LINE.findall(text)]
    assert len(lines) == count
    assert [line for line in lines if line[1] >= LONG_MS and line[2] < line[1] // EACH_MS * CALLS] == []


@pytest.mark.parametrize("cpus", ["1", "2"])
def test_neighbours_get_on_beside_long_calls(cpus: str) -> None:
    result = enclave([cc(SOURCE, "-static", "-w", "-pthread")], options=["-m", "1G", "--cpus", cpus], timeout=120)
    assert result.returncode == 0, result.errors[-2000:]
    check(result.text, 34)
    longer = [(name, int(times)) for name, times in LONGER.findall(result.text)]
    assert len(longer) == 3
    assert [line for line in longer if line[1] > TIMES] == []


def test_neighbours_get_on_beside_a_long_write_to_the_host(tmp_path: Path) -> None:
    program = cc(SOURCE, "-static", "-w", "-pthread")
    with (tmp_path / "out").open("wb") as out:
        argv = enclave_argv([program, "write"], ["--cpus", "2"])
        done = subprocess.run(argv, stdout=out, stderr=subprocess.PIPE, timeout=120, check=True)
    check(done.stderr.decode(), 1)
    assert (tmp_path / "out").stat().st_size > 256 << 20
