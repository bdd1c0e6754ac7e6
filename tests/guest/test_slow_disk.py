"""A slow disk of the host: whoever waits for it, no vCPU does. The disk is a FUSE file system that sleeps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import cc, enclave, same
from framework.waiting import wait_until

SOURCES = Path(__file__).parent / "src"
WAITING = "a_neighbour_of_who_waits"
BROKEN = "pages_that_cannot_be_read"
WENT_ON = "done, slow, the neighbour went on"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system: reads of its file `slow` and syncs take a third of a second each, `broken` is half readable."""
    if not Path("/dev/fuse").exists():
        pytest.skip("this machine has no /dev/fuse")
    place = tmp_path / "disk"
    place.mkdir()
    with subprocess.Popen([sys.executable, SOURCES / "slow_disk.py", place]) as server:
        try:
            assert wait_until((place / "slow").exists)
            yield place
        finally:
            subprocess.run(["fusermount", "-u", "-z", place], check=False)
            server.terminate()


@pytest.fixture(scope="module")
def program() -> Path:
    return cc(SOURCES / "slow.c", "-static", "-w", "-pthread")


def test_a_shared_directory(disk: Path, program: Path) -> None:
    """On one vCPU, reads, faults and syncs wait beside it, and give the same as natively."""
    env = {"SLOW_FILE": str(disk / "slow"), "SLOW_DIRECTORY": str(disk)}
    result = same([program, WAITING], env=env, options=["--cpus", "1", "-v", str(disk)])
    assert result.returncode == 0
    assert result.text.count(WENT_ON) == 3, result.text


def test_files_below(disk: Path, program: Path) -> None:
    """The same of a file that is seen read-only; what is written stays in memory, so its sync is at once."""
    env = {"SLOW_FILE": str(disk / "slow"), "SLOW_DIRECTORY": "/tmp"}
    result = enclave([program, WAITING], env=env, options=["--cpus", "1"])
    assert result.returncode == 0
    assert result.text.count(WENT_ON) == 2, result.text
    assert "two threads: all bytes" in result.text


def test_what_is_spliced(disk: Path, program: Path) -> None:
    """A pipe keeps its room for a splice that waits for its file. (Natively nobody else writes meanwhile.)"""
    env = {"SLOW_FILE": str(disk / "slow")}
    result = enclave([program, "splices_lose_nothing"], env=env, options=["-v", str(disk)])
    assert "position as spliced, all of the file, all that was written" in result.text


@pytest.mark.parametrize("options", [["-v", "DISK"], [], ["--no-alias"]], ids=["shared", "below", "without aliases"])
def test_what_cannot_be_read(disk: Path, program: Path, options: list[str]) -> None:
    """Whoever touches a page of it gets SIGBUS."""
    options = [str(disk) if option == "DISK" else option for option in options]
    result = same([program, BROKEN], env={"SLOW_DISK": str(disk)}, options=options)
    assert result.returncode == 0
    assert result.text.count("signal 7, code 2, there") == 9, result.text
