"""The extension module and its stub."""

from __future__ import annotations

import subprocess
import sys

import pytest

from framework import ROOT
from occlum import _native
from occlum._host.image import read_image
from occlum._host.launch import EnclaveOptions


def options() -> bytes:
    """A small valid configuration."""
    return EnclaveOptions(memory_bytes=256 << 20, cpus=1, max_tasks=64, pid_max=1000).to_config()


def test_stub_describes_the_module() -> None:
    command = [sys.executable, "-m", "mypy.stubtest", "occlum._native", "--ignore-disjoint-bases"]
    done = subprocess.run(command, cwd=ROOT / "python", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("image", [b"", b"\x7fELF", b"\0" * 5000])
def test_a_bad_image_is_an_error_not_a_crash(image: bytes) -> None:
    with pytest.raises(_native.NativeError):
        _native.measure(image, options())


def test_truncated_images_are_errors() -> None:
    image = read_image()
    for length in (64, 1000, len(image) // 2):
        with pytest.raises(_native.NativeError):
            _native.measure(image[:length], options())


def test_measure_is_deterministic() -> None:
    assert _native.measure(read_image(), options()) == _native.measure(read_image(), options())
