"""Compiles guest programs once per content and flags; the outputs live in the project's one cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "guest"


class CompileError(AssertionError):
    """A guest program did not compile."""


def compiler(name: str = "gcc") -> str:
    """The compiler's path; the test is skipped if it is not installed (tools/setup.py installs it)."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; run: python3 tools/setup.py")
    return found


def cc(sources: Path | Sequence[Path], *flags: str, program: str = "gcc") -> Path:
    """Compiles C (or with `program="g++"` C++) sources to one executable and returns its path."""
    files = [sources] if isinstance(sources, Path) else list(sources)
    tool = compiler(program)
    key = hashlib.sha256("\0".join([tool, *flags]).encode())
    for file in files:
        key.update(file.read_bytes())
        for header in sorted(file.parent.glob("*.h")):
            key.update(header.read_bytes())
    output = _CACHE / f"{files[0].stem}-{key.hexdigest()[:16]}"
    if not output.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        part = output.with_name(f"{output.name}.{os.getpid()}")
        command = [tool, "-O2", "-g0", *flags, *map(str, files), "-o", str(part)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CompileError(f"{' '.join(command)}\n{done.stderr}")
        part.rename(output)  # atomic: parallel test workers never see half a program
    return output
