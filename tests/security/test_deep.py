"""A slice of the fuzzer of calls that make sense, from the seed of this commit: nothing hangs, nothing is left over."""

from __future__ import annotations

import os
import random
import re
import threading
from pathlib import Path

import pytest

import record
from framework import OCCLUM, cc, enclave, native

SOURCE = Path(__file__).parent / "src" / "deep.c"
SLICE_MS = 8000
NOTHING = "slots +0 pages +0 processes +0 tasks +0 files +0\n"


@pytest.mark.parametrize("options", [["--cpus", "2"], ["--cpus", "1"], ["--no-alias"]], ids=" ".join)
def test_objects_that_are_used_under_each_others_hands(options: list[str]) -> None:
    seed = record.commit_seed()
    print(f"seed {seed}")
    program = cc(SOURCE, "-static", "-pthread", "-w")
    result = enclave([program, str(seed), str(SLICE_MS)], options=["-m", "1G", *options], timeout=120)
    assert (result.returncode, result.text) == (0, NOTHING), result.errors[-2000:]
    assert not re.search(r"panicked|LibOS crash|occlum failed", result.errors)
    made = re.search(r"(\d+) operations", result.errors)
    assert made
    assert int(made[1]) > 1000


def test_a_sealed_store_that_the_host_changes_meanwhile(tmp_path: Path) -> None:
    """What is damaged fails; nobody hangs, and the LibOS goes on."""
    store, key = tmp_path / "store.sealed", tmp_path / "image.key"
    assert native([OCCLUM, "gen-image-key", key]).returncode == 0
    assert native([OCCLUM, "fs", "mkfs", "--image-key", key, "--size", "64M", store]).returncode == 0
    seed, over = record.commit_seed(), threading.Event()

    def change() -> None:
        chance = random.Random(seed)
        with store.open("r+b", buffering=0) as file:
            while not over.wait(0.01):
                os.pwrite(file.fileno(), chance.randbytes(chance.choice((1, 16, 4096))), chance.randrange(64 << 20))

    # The store is opened first.
    changer = threading.Timer(2, change)
    changer.start()
    program = cc(SOURCE, "-static", "-pthread", "-w")
    options = ["-m", "1G", "--sealed", f"{store}:/data", "--image-key", str(key)]
    try:
        result = enclave([program, str(seed), str(SLICE_MS), "/data"], options=options, timeout=120)
    finally:
        over.set()
        changer.join()
    assert (result.returncode, result.text) == (0, NOTHING), result.errors[-2000:]
    assert not re.search(r"panicked|LibOS crash|occlum failed", result.errors)
