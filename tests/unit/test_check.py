"""What `occlum check` reads of files, which may be damaged in any way."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path

import pytest

from occlum.check.files import NotLoadable, load, read_image


@pytest.fixture(scope="module")
def elf() -> bytes:
    """A program with libraries."""
    return Path(shutil.which("env") or "/usr/bin/env").read_bytes()


@pytest.mark.parametrize("length", [4, 5, 6, 16, 63, 64, 100])
def test_an_elf_file_that_is_cut_short_is_damaged(tmp_path: Path, elf: bytes, length: int) -> None:
    path = tmp_path / "short"
    path.write_bytes(elf[:length])
    with pytest.raises(NotLoadable, match="damaged"):
        read_image(str(path))


def test_a_damaged_elf_file_is_read_or_refused(tmp_path: Path, elf: bytes, rng: random.Random) -> None:
    path = tmp_path / "damaged"
    for _ in range(200):
        damaged = bytearray(elf)
        for _ in range(rng.randrange(1, 8)):
            damaged[rng.randrange(4, 0x400)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        path.write_bytes(damaged[: rng.choice((len(damaged), rng.randrange(len(damaged))))])
        with contextlib.suppress(NotLoadable):
            read_image(str(path))


def test_headers_beyond_all_offsets_are_damage(tmp_path: Path, elf: bytes) -> None:
    path = tmp_path / "beyond"
    path.write_bytes(elf[:32] + b"\xff" * 8 + elf[40:])
    with pytest.raises(NotLoadable, match="damaged"):
        read_image(str(path))


@pytest.mark.parametrize(
    "line", [b"#!", b"#! ", b"#!/usr/bin/env -S", b"#!/no\0such", b"#!\0", b"#!/usr/bin/env -S \0 x"]
)
def test_odd_lines_of_scripts(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "script"
    path.write_bytes(line + b"\n")
    with contextlib.suppress(NotLoadable):
        load(str(path), {"PATH": "/bin"})
