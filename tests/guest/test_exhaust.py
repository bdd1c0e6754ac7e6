"""Memory that ends: in every step of making a process, and in the LibOS itself. Nothing is lost, neighbours work on.

No native run to compare with: a machine this small does not exist. The guest checks every errno and every signal, and
compares what /proc/occlum counts (pages, heap, slots, processes, tasks, open files) before and after.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from framework import cc, enclave

SOURCE = Path(__file__).parent / "src" / "exhaust.c"
CLEAN = "slots +0 shared pages +0 processes +0 tasks +0 files +0\nneighbour: exit 42\n"


@pytest.mark.parametrize("memory", ["64M", "71M"])
@pytest.mark.parametrize("case", ["pages_run_out", "the_libos_runs_out"])
def test_everything_comes_back(case: str, memory: str) -> None:
    program = cc(SOURCE, "-static", "-pthread", "-w")
    result = enclave([program, case], timeout=120, options=["-m", memory])
    assert (result.returncode, result.text) == (0, CLEAN), result.errors[-2000:]
    assert "panicked" not in result.errors


@pytest.mark.parametrize("memory", ["64M", "100M"])
def test_what_is_too_long_to_tell_fails(memory: str) -> None:
    program = cc(SOURCE, "-static", "-pthread", "-w")
    result = enclave([program, "long_lists"], timeout=120, options=["-m", memory])
    assert (result.returncode, result.text) == (0, "done\n"), result.errors[-2000:]


def test_the_largest_process_ends() -> None:
    """Linux's rule: size, moved by oom_score_adj; whoever asks for the page goes on."""
    program = cc(SOURCE, "-static", "-pthread", "-w")
    result = enclave([program, "the_largest_ends"], timeout=60, options=["-m", "96M"])
    said = "grower: exit 7\nlarge: signal 9\ngrower: signal 9\nprotected: signal 15\n"
    said += "grower: exit 7\nfirst: signal 9\nlarge: signal 15\n"
    assert (result.returncode, result.text) == (0, said), result.errors[-2000:]
    assert result.errors.count("out of enclave memory") == 3


def test_names_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    """Only what hides a name below is kept."""
    (tmp_path / "below").write_text("")
    program = cc(SOURCE, "-static", "-pthread", "-w")
    result = enclave([program, "names_leave_nothing"], timeout=60, env={"PLACE": str(tmp_path)})
    assert (result.returncode, result.text) == (0, "done\n"), result.errors[-2000:]
    assert (tmp_path / "below").exists()
