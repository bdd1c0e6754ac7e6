"""The source distribution, built in a directory of its own, gives the same image, so the same MRENCLAVE, as make."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from framework import ROOT
from occlum._host.launch import EnclaveOptions
from occlum.sgx import layout


def source_distribution(folder: Path) -> Path:
    """Made and unpacked below `folder`: what git tracks, and nothing that was built here."""
    hook = f"import sys; sys.path.insert(0, 'tools'); import build_backend; build_backend.build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", hook], cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        sources.extractall(folder / "another directory with a long name", filter="data")
    (tree,) = (folder / "another directory with a long name").iterdir()
    return tree


def wheel_of(tree: Path, folder: Path) -> Path:
    """What `pip install` would build of it first."""
    environment = {key: value for key, value in os.environ.items() if key != "CARGO_TARGET_DIR"}
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--wheel-dir", str(folder), str(tree)]
    subprocess.run(command, env=environment, check=True, stdin=subprocess.DEVNULL)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_source_distribution_gives_the_same_enclave(tmp_path: Path) -> None:
    here = (ROOT / "build" / "enclave" / "occlum-libos.elf").read_bytes()
    tree = source_distribution(tmp_path)
    assert not list(tree.rglob("*.elf"))
    with zipfile.ZipFile(wheel_of(tree, tmp_path)) as archive:
        there = archive.read("occlum/_data/occlum-libos.elf")
    config = EnclaveOptions(memory_bytes=1 << 30).to_config()
    assert layout.mrenclave(there, config).hex() == layout.mrenclave(here, config).hex()
    assert there == here
    assert str(tree).encode() not in there
