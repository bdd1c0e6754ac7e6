"""The wheel alone gives a working command, with the enclave image inside, on a machine without Rust."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from framework import OCCLUM, ROOT, environment


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `pip wheel .` builds."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_wheel_carries_the_image(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        image = archive.read("occlum/_data/occlum-libos.elf")
        assert {"occlum/_native.pyi", "occlum/py.typed"} <= set(archive.namelist())
    # One wheel for every Python from 3.11 on.
    assert "-cp311-abi3-" in wheel.name
    assert image == (ROOT / "build" / "enclave" / "occlum-libos.elf").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_wheel_alone_works(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "CARGO", "RUST"))}
    # Nothing but Python is needed.
    environ["PATH"] = f"{binaries}:/usr/bin:/bin"
    assert shutil.which("cargo", path=environ["PATH"]) is None
    subprocess.run([binaries / "python", "-m", "pip", "install", "--quiet", str(wheel)], check=True, env=environ)
    installed = binaries / "occlum"
    measured = [
        subprocess.run([command, "print", "mrenclave"], capture_output=True, check=True, cwd=tmp_path, env=environ)
        for command in (installed, OCCLUM)
    ]
    assert measured[0].stdout == measured[1].stdout
    program = ["busybox", "echo", "hello"]
    done = subprocess.run(
        [installed, "try", "--quiet", *program], capture_output=True, check=True, cwd=tmp_path, env=environment()
    )
    assert done.stdout == b"hello\n"
