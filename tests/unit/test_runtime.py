"""The runtime's self-test: an image with a miniature LibOS (`enclave/rt/examples/selftest.rs`), built and run.

Cargo rebuilds it only when the runtime changes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from framework import ROOT

IMAGE = ROOT / "build" / "enclave" / "selftest.elf"
PASSED = 42

RUN = """
import sys
from occlum import _native
from occlum._host.launch import EnclaveOptions
config = EnclaveOptions(memory_bytes=256 << 20, cpus=int(sys.argv[2]), max_tasks=64, pid_max=1000).to_config()
params = _native.LaunchParams(program=b"selftest", argv=[b"selftest"], envp=[], cwd=b"/", binds=[],
                              hostname=b"host", uid=0, gid=0, flags=0)
with open(sys.argv[1], "rb") as file:
    outcome = _native.run(file.read(), config, params, timeout_s=60)
print(outcome.kind, outcome.value, outcome.message)
"""


@pytest.fixture(scope="module")
def image() -> Path:
    """The self-test's image, up to date."""
    command = [sys.executable, "tools/build_enclave.py", "--example", "selftest", "--output", str(IMAGE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return IMAGE


@pytest.mark.parametrize("vcpus", [1, 2, 4])
def test_the_self_test_passes(image: Path, vcpus: int) -> None:
    command = [sys.executable, "-c", RUN, str(image), str(vcpus)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == f"exited {PASSED}", done.stdout + done.stderr
    assert "selftest: all ok" in done.stderr
