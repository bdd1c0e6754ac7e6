"""Hostile files and arguments: damaged ELF files, interpreters, scripts, paths; the right errno, nothing harmed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from framework import cc, enclave, same

GUEST = Path(__file__).parents[1] / "guest" / "src"
SOURCES = Path(__file__).parent / "src"


@pytest.fixture(scope="module")
def tryexec() -> Path:
    """Executes each argument in a child, with a neighbour that must survive; prints how each ended."""
    return cc(SOURCES / "tryexec.c", "-static")


@pytest.fixture
def good() -> bytes:
    return cc(GUEST / "bare.S", "-nostdlib", "-static").read_bytes()


def damaged(good: bytes, rng: random.Random) -> bytes:
    """A copy with a few changed bytes in its headers, or cut."""
    data = bytearray(good)
    edges = [0, 1, 0xFFF, 0x1000, 2**31, 2**32 - 4096, 2**32, 2**47, 2**63, 2**64 - 1, 0x38, 0x400000]
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(4, 64 + 56 * 3)
        match rng.randrange(3):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at & ~7 : (at & ~7) + 8] = struct.pack("<Q", rng.choice(edges))
            case _:
                data[at] ^= 1 << rng.randrange(8)
    return bytes(data[: rng.randrange(len(data))] if rng.randrange(5) == 0 else data)


def executable(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o755)
    return path


def test_damaged_elf_files_harm_nobody(tmp_path: Path, tryexec: Path, good: bytes, rng: random.Random) -> None:
    """60 damaged programs in one enclave: each ends somehow, the caller and the neighbour go on."""
    files = [executable(tmp_path / f"{i:03}", damaged(good, rng)) for i in range(60)]
    result = enclave([tryexec, *files], timeout=60)
    assert result.returncode == 0, result.text + result.errors
    assert result.text.count("\n") == len(files) + 1
    assert "neighbour: unharmed" in result.text


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 16, 63, 64, 100, 175])
def test_truncated_in_the_headers(length: int, tmp_path: Path, tryexec: Path, good: bytes) -> None:
    """Files that end inside their headers: the same errno as natively."""
    same([tryexec, executable(tmp_path / "cut", good[:length])])


def patch(at: int, form: str, value: int) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        packed = struct.pack(form, value)
        return data[:at] + packed + data[at + len(packed) :]

    return apply


HEADERS = {
    "other-machine": patch(18, "<H", 183),
    "relocatable": patch(16, "<H", 1),
    "core": patch(16, "<H", 4),
    "no-program-headers": patch(56, "<H", 0),
    "many-program-headers": patch(56, "<H", 0xFFFF),
    "entry-size": patch(54, "<H", 32),
    "table-beyond-the-end": patch(32, "<Q", 2**40),
    "table-at-the-limit": patch(32, "<Q", 2**64 - 8),
    "magic": patch(1, "<B", 0),
}


@pytest.mark.parametrize("title", HEADERS)
def test_wrong_headers(title: str, tmp_path: Path, tryexec: Path, good: bytes) -> None:
    result = same([tryexec, executable(tmp_path / "wrong", HEADERS[title](good))])
    assert "ENOEXEC" in result.text


def dynamic(tmp_path: Path, interpreter: str) -> Path:
    """A program that asks for this interpreter."""
    return cc(GUEST / "hello.c", f"-Wl,--dynamic-linker={interpreter}")


@pytest.mark.parametrize("interpreter", ["/no/such/ld.so", "/tmp", "/etc/passwd", "/dev/null"])
def test_bad_interpreter(interpreter: str, tmp_path: Path, tryexec: Path) -> None:
    same([tryexec, dynamic(tmp_path, interpreter)])


def test_interpreter_is_the_program_itself(tmp_path: Path, tryexec: Path) -> None:
    path = Path("/tmp/occlum-test-self-interpreter")
    program = dynamic(tmp_path, str(path))
    try:
        executable(path, program.read_bytes())
        result = enclave([tryexec, path], timeout=30)
    finally:
        path.unlink()
    assert "neighbour: unharmed" in result.text


def test_interpreter_path_without_end(tmp_path: Path, tryexec: Path) -> None:
    data = bytearray(cc(GUEST / "hello.c").read_bytes())
    at = data.index(b"/lib64/ld-linux-x86-64.so.2\0")
    data[at + 27] = ord("x")
    same([tryexec, executable(tmp_path / "unterminated", bytes(data))])


@pytest.mark.parametrize(
    "first_line", ["#!{self}", "#!{dir}", "#!/etc/passwd", "#!{missing}", "#!", "#!/bin/sh\0x", "#!" + "/" * 300]
)
def test_odd_scripts(first_line: str, tmp_path: Path, tryexec: Path) -> None:
    script = tmp_path / "script"
    line = first_line.format(self=script, dir=tmp_path, missing=tmp_path / "missing")
    executable(script, line.encode() + b"\necho ran\n")
    result = enclave([tryexec, script])
    assert result.returncode == 0
    assert "neighbour: unharmed" in result.text


def test_what_the_tool_says(tmp_path: Path) -> None:
    """The command's own exit statuses and messages."""
    missing = enclave([tmp_path / "missing"])
    assert missing.returncode == 127
    assert "missing" in missing.errors
    assert enclave(["no-such-program-in-path"]).returncode == 127
    assert enclave([tmp_path]).returncode == 126
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    assert enclave([plain]).returncode == 126
    wrong = executable(
        tmp_path / "wrong", patch(18, "<H", 183)(cc(GUEST / "bare.S", "-nostdlib", "-static").read_bytes())
    )
    result = enclave([wrong])
    assert result.returncode == 126
    assert "Traceback" not in result.errors


def test_time_out() -> None:
    result = enclave(["sleep", "100"], options=["--timeout", "1"], timeout=20)
    assert result.returncode == 124


def test_random_code_harms_nobody(tmp_path: Path, tryexec: Path, good: bytes, rng: random.Random) -> None:
    """Random bytes as code: every kind of instruction, valid or not, and wild jumps."""
    entry = struct.unpack_from("<Q", good, 24)[0]
    start = next(
        struct.unpack_from("<Q", good, 64 + 56 * i + 8)[0] + entry - struct.unpack_from("<Q", good, 64 + 56 * i + 16)[0]
        for i in range(struct.unpack_from("<H", good, 56)[0])
        if struct.unpack_from("<I", good, 64 + 56 * i + 4)[0] & 1
    )
    files = []
    for i in range(60):
        code = rng.randbytes(64)
        files.append(executable(tmp_path / f"{i:03}", good[:start] + code + good[start + len(code) :]))
    result = enclave([tryexec, *files], timeout=60)
    assert result.returncode == 0, result.text + result.errors
    assert "neighbour: unharmed" in result.text
