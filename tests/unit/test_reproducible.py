"""Two checkouts in different directories give the same image, so the same MRENCLAVE."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from framework import ROOT
from occlum._host.launch import EnclaveOptions
from occlum.sgx import layout


def checkout(target: Path) -> None:
    """Copies what git tracks, and what it would track, to `target`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def build(tree: Path) -> bytes:
    """The enclave image of that tree, built there."""
    output = tree / "out" / "image.elf"
    environment = {key: value for key, value in os.environ.items() if key != "CARGO_TARGET_DIR"}
    command = [sys.executable, str(tree / "tools" / "build_enclave.py"), "--output", str(output)]
    subprocess.run(command, cwd=tree, env=environment, check=True, stdin=subprocess.DEVNULL)
    return output.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_checkouts_give_one_mrenclave(tmp_path: Path) -> None:
    here = (ROOT / "build" / "enclave" / "occlum-libos.elf").read_bytes()
    tree = tmp_path / "another directory with a long name"
    checkout(tree)
    there = build(tree)
    config = EnclaveOptions(memory_bytes=1 << 30).to_config()
    assert layout.mrenclave(there, config).hex() == layout.mrenclave(here, config).hex()
    assert there == here
    assert str(tree).encode() not in there
