"""Fixtures of the SDK's tests: a runtime directory of their own, which must be empty at the end, and an enclave."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import occlum
from framework.waiting import wait_until


def owners(directory: Path) -> list[int]:
    """The owner processes that use this runtime directory: from /proc, not from what they wrote."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                is_owner = b"occlum._host" in (entry / "cmdline").read_bytes()
                if is_owner and str(directory).encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.fixture(scope="package", autouse=True)
def runtime_directory() -> Iterator[Path]:
    """Where this run's enclaves are; at the end there must be none, and no owner process."""
    with tempfile.TemporaryDirectory(prefix="occlum-test-") as name:
        directory = Path(name) / "run"
        os.environ["OCCLUM_RUNTIME_DIR"] = str(directory)
        yield directory
        default = occlum.default_enclave()
        default.close()
        assert wait_until(lambda: not owners(directory)), f"left: {owners(directory)}"
        assert [entry.name for entry in directory.iterdir()] == []


@pytest.fixture(scope="package")
def enclave(runtime_directory: Path) -> Iterator[occlum.Enclave]:  # noqa: ARG001
    """An enclave that tests share."""
    with occlum.Enclave.from_host(memory="1G") as shared:
        yield shared
