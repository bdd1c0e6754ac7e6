"""What campaigns and their slices run: the enclave image and the host's example programs, built when asked for.

Neighbours: `hostile_host`, `syscall_fuzz`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from record import ROOT

IMAGE = ROOT / "build" / "enclave" / "occlum-libos.elf"


@cache
def image() -> Path:
    """The enclave image, up to date."""
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "tools/build_enclave.py", "--no-check", "--output", str(IMAGE)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return IMAGE


@cache
def example(name: str, features: str = "") -> Path:
    """An example program of `host/pal`, up to date."""
    command = ["cargo", "build", "--release", "--quiet", "-p", "occlum-pal", "--features", features]
    subprocess.run([*command, "--example", name], cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "examples" / name
