"""What nobody takes, until memory ends: a process may lose by it, the LibOS and the others do not."""

from __future__ import annotations

import os
import shutil
import sys
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


def test_a_directory_of_the_host_may_be_longer_than_memory(tmp_path: Path) -> None:
    long = tmp_path / "long"
    long.mkdir()
    first = long
    name = "n" * 200
    for n in range(250_000):
        # Most file systems allow some 60,000 links to a file.
        if n % 30_000 == 0:
            first = long / f"{name}{n}"
            first.touch()
        else:
            os.link(first, long / f"{name}{n}")
    count = "import os, errno\ntry: print(len(os.listdir('.')))\nexcept OSError as e: print(errno.errorcode[e.errno])"
    program = [sys.executable, "-S", "-c", count]
    for options in ([], ["-v", str(long)]):
        small = enclave(program, cwd=long, options=["-m", "64M", *options])
        assert (small.returncode, small.text) == (0, "ENOMEM\n"), small.errors[-2000:]
    large = enclave(program, cwd=long, options=["-m", "1G"])
    shutil.rmtree(long)
    assert (large.returncode, large.text) == (0, "250000\n"), large.errors[-2000:]
