"""`occlum bench`: the three times, the parts, and programs that end otherwise inside."""

from __future__ import annotations

import json
import subprocess

from framework import OCCLUM


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command."""
    return subprocess.run([OCCLUM, "bench", *arguments], capture_output=True, text=True, check=False)


def test_ratios_and_parts_add_up() -> None:
    done = bench("--json", "-n", "3", "-m", "512M", "--", "sh", "-c", "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for kind in ("native", "stays", "fresh"):
        assert len(found[kind]["seconds"]) == 3
        assert found[kind]["statuses"] == [0]
    for kind in ("stays", "fresh"):
        low, high = found[kind]["interval"]
        assert low <= found[kind]["ratio"] <= high
    parts = found["fresh_parts"]
    assert min(parts.values()) > 0
    assert sum(parts.values()) <= 1.5 * found["fresh"]["median"]
    assert found["fresh_stats"][0]["system_calls"] > 10
    assert found["fresh_stats"][0]["translation_ns"] > 0


def test_people_get_a_table() -> None:
    done = bench("-n", "1", "true")
    assert done.returncode == 0, done.stderr
    assert "in a fresh enclave" in done.stdout
    assert "translation and its proof" in done.stdout


def test_different_ends_are_no_comparison() -> None:
    done = bench("-n", "1", "sh", "-c", "test -e /proc/occlum && exit 3; exit 4")
    assert done.returncode == 1
    assert "native: 4; in an enclave that stays: 3; in a fresh enclave: 3 [OC407]" in done.stderr


def test_a_program_that_is_not_there() -> None:
    done = bench("no-such-program")
    assert (done.returncode, done.stderr) == (127, "occlum: no-such-program: No such file or directory [OC400]\n")
