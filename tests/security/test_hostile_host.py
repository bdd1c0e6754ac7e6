"""A slice of the hostile-host campaign (`make hostile-host`), from the seed of this commit."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

import hostile_host
import record
from framework import ROOT

SLICE_S = 20
# Where pages of one process once stayed in reach of the next.
MEMORY = ("errno:MemProtect", "errno:MemAlias", "reorder:MemProtect")
# How many of the pairs of class and OCALL this commit tries.
PAIRS = 10
RESULTS_OF_A_PAIR = 300


def test_no_lie_of_the_host_breaks_the_libos() -> None:
    hostile_host.build()
    command = [sys.executable, "tools/hostile_host.py", "--seed", str(record.commit_seed()), "--seconds", str(SLICE_S)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith(("| length", "| errno"))]
    assert len(rows) == 2
    assert all(int(row[3]) > 0 for row in rows), done.stdout


def test_no_lie_about_one_call_shows_a_program_what_linux_never_does() -> None:
    pairs = [*MEMORY, *random.Random(record.commit_seed()).sample(hostile_host.fields(), PAIRS)]
    command = [sys.executable, "tools/hostile_host.py", "--seed", str(record.commit_seed()), "--seconds", str(SLICE_S)]
    command += ["--changes", str(RESULTS_OF_A_PAIR), *(f"--class={pair}" for pair in pairs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_shipped_has_no_hostile_host() -> None:
    command = ["cargo", "tree", "--offline", "--package", "occlum-native", "--edges", "features"]
    tree = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "occlum-pal" in tree
    assert "hostile" not in tree


def run(stderr: str, returncode: int = 0, stdout: bytes = b"") -> hostile_host.Judged:
    """The judgement of a made-up run."""
    return hostile_host.judge(subprocess.CompletedProcess([], returncode, stdout, stderr.encode()))


@pytest.mark.parametrize(
    ("stderr", "problem"),
    [
        ("occlum: LibOS panicked at x\nhostile: changed Read=1 ended failed", "panics"),
        ("occlum: LibOS crash: exception 14\nhostile: changed Read=1 ended failed", "panics"),
        ("hostile: changed Read=1 ended timed-out:Wait,0x20012345", "hangs"),
        ("hostile: changed Read=1 ended timed-out:Read,Wait", "hangs"),
        ("hostile: changed Read=1 ended failed", "without naming"),
        ("occlum: the host refused MemProtect\nhostile: changed Read=1 ended failed", "without naming"),
        ("", "host process"),
    ],
)
def test_the_judge_sees_problems(stderr: str, problem: str) -> None:
    assert problem in run(stderr).problem


def test_the_judge_sees_crashes_hangs_and_leaks_of_the_host() -> None:
    good = "hostile: changed Read=1 ended exited:0"
    assert "-11" in run(good, returncode=-11).problem
    assert "data" in run(good, stdout=b"xx" + hostile_host.SECRET.encode()).problem
    assert "hangs" in hostile_host.judge(None).problem


@pytest.mark.parametrize(
    "ended", ["exited:0", "exited:1", "signaled:11", "timed-out:Wait,guest", "failed", "refused:no memory"]
)
def test_the_judge_lets_what_a_host_may_do_pass(ended: str) -> None:
    text = f"occlum: the host refused MemProtect (result -12)\nhostile: changed MemProtect=1 ended {ended}"
    assert run(text).problem == ""
