"""`occlum check`: programs that ask for what there is not, statically and observed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from framework import OCCLUM, cc, environment
from occlum import _native

SOURCE = Path(__file__).parent / "src" / "asks.c"
# The first call that there is not.
MISSING = next((number, name) for number, name, level, _ in _native.syscalls() if level == "none")


def check(*words: str | Path) -> tuple[int, list[dict[str, str]]]:
    """Exit status and findings."""
    command = [str(word) for word in (OCCLUM, "check", "--json", *words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    start = done.stdout.find("{")
    assert start >= 0, done.stderr
    report = json.loads(done.stdout[start:])
    assert report["works"] == (done.returncode == 0)
    return done.returncode, report["findings"]


def asks(*flags: str) -> Path:
    return cc(SOURCE, "-w", f"-DNUMBER={MISSING[0]}", *flags)


def texts(findings: list[dict[str, str]], level: str) -> str:
    return "\n".join(f["text"] for f in findings if f["level"] == level)


def test_a_call_that_is_not_there_is_found_in_the_code_and_in_a_run() -> None:
    program = asks()
    status, findings = check(program)
    assert status == 0
    assert f"{MISSING[1]} (at " in texts(findings, "warning")
    assert "ENOSYS" in texts(findings, "warning")
    status, findings = check("--run", "--", program, "call")
    assert f"{MISSING[1]} failed 1 time with ENOSYS" in "\n".join(f["text"] for f in findings)


def test_an_instruction_that_is_not_there_is_a_note_until_it_runs() -> None:
    program = asks()
    status, findings = check(program)
    assert status == 0
    assert any("AVX-512" in f["text"] for f in findings if f["where"] == str(program))
    status, findings = check("--run", program, "instruction")
    assert status == 1
    assert "SIGILL" in texts(findings, "problem")
    assert check("--run", program, "nothing")[0] == 0


def test_limits_that_a_run_meets() -> None:
    _, findings = check("--run", asks(), "memory")
    assert "mmap failed 1 time with ENOMEM: mmap(NULL, 8589934592," in texts(findings, "warning")
    _, findings = check("--run", asks(), "files")
    assert "no more descriptors" in texts(findings, "warning")


def test_memory_that_the_enclave_has_not() -> None:
    program = asks("-DLARGE=200000000")
    assert check(program)[0] == 0
    status, findings = check("-m", "128M", program)
    assert status == 1
    assert "the enclave has 128 MiB" in texts(findings, "problem")


def test_a_library_that_is_not_there(tmp_path: Path) -> None:
    library = tmp_path / "libgone.so"
    subprocess.run(["cc", "-shared", "-o", library, "-x", "c", "/dev/null"], check=True)
    program = tmp_path / "program"
    source = ["-x", "c", "-", "-Wl,--no-as-needed", f"-L{tmp_path}", "-lgone", f"-Wl,-rpath,{tmp_path}"]
    subprocess.run(["cc", "-o", program, *source], input=b"int main(void) { return 0; }", check=True)
    assert check(program)[0] == 0
    library.unlink()
    status, findings = check(program)
    assert status == 1
    assert "needs libgone.so, which is not there" in texts(findings, "problem")


def test_files_that_are_no_programs(tmp_path: Path) -> None:
    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        path.chmod(0o755)
        return path

    elf = Path("/bin/true").read_bytes()
    for name, content, cause in (
        ("text", b"echo hello\n", "no ELF file"),
        ("narrow", elf[:4] + b"\x01" + elf[5:], "32-bit"),
        ("arm", elf[:18] + b"\xb7\x00" + elf[20:], "another machine"),
        ("short", elf[:40], "damaged"),
        ("object", elf[:16] + b"\x01\x00" + elf[18:], "neither a program nor a library"),
    ):
        status, findings = check(write(name, content))
        assert status == 1
        assert cause in texts(findings, "problem")
    script = write("script", b"#!/usr/bin/env -S sh -e\necho hi\n")
    assert check(script)[0] == 0
    assert check(write("loop", f"#!{tmp_path}/loop\n".encode()))[0] == 1


def test_execstack_is_warned_of() -> None:
    status, findings = check(asks("-Wl,-z,execstack"))
    assert status == 0
    assert "executable stack" in texts(findings, "warning")


@pytest.mark.parametrize("words", [["nosuchprogram"], ["/nonexistent/program"]])
def test_no_such_program_is_127(words: list[str]) -> None:
    done = subprocess.run([OCCLUM, "check", *words], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 127
    where = "" if "/" in words[0] else " in PATH"
    assert done.stderr == f"occlum: {words[0]}: not found{where} [OC400]\n"


def test_what_cannot_be_executed_is_126(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    env = os.environ | {"PATH": str(tmp_path)}
    for word in (str(plain), "plain", str(tmp_path)):
        done = subprocess.run([OCCLUM, "check", word], capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 126
        assert done.stderr == f"occlum: {word}: permission denied, or not a regular executable file [OC401]\n"
    done = subprocess.run([OCCLUM, "check", ""], capture_output=True, text=True, check=False)
    assert (done.returncode, "[OC400]" in done.stderr) == (127, True)
