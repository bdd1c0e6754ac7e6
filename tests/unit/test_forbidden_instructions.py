"""The enclave image must not contain an instruction that faults or leaves the enclave (SDM volume 3D, section 35.3)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from framework import ROOT

IMAGE = ROOT / "build" / "enclave" / "occlum-libos.elf"

FORBIDDEN = {
    "changes of privilege": {
        "syscall",
        "sysenter",
        "sysret",
        "sysexit",
        "iret",
        "iretq",
        "int",
        "into",
        "int1",
        "icebp",
    },
    "VM exits": {"cpuid", "rdpmc", "sgdt", "sidt", "sldt", "str", "vmcall", "vmfunc", "getsec", "smsw", "invd"},
    "I/O": {"in", "ins", "insb", "insl", "insw", "out", "outs", "outsb", "outsl", "outsw"},
    "far transfers": {"lcall", "ljmp", "lret", "retf", "lcallq", "ljmpq", "lretq", "rex.W lret"},
    "privileged": {"hlt", "cli", "sti", "wrmsr", "rdmsr", "lgdt", "lidt", "lldt", "ltr", "clts", "swapgs", "xsetbv"},
    "segment loads": {"lfs", "lgs", "lss"},
    "protection keys": {"wrpkru"},
}
# The time-stamp counter is readable inside SGX2 enclaves: one function of the runtime reads it.
TIME_STAMP = {"rdtsc", "rdtscp"}
# A move to a segment register: `mov %eax,%ds`; reading one is harmless.
SEGMENT_WRITE = re.compile(r"^mov\w*\s.*,%[cdefgs]s$")
SYMBOL = re.compile(r"^[0-9a-f]+ <(.+)>:$")
INSTRUCTION = re.compile(r"^\s+[0-9a-f]+:\t(\S+)(.*)$")
PREFIXES = {"lock", "rep", "repz", "repnz", "data16", "addr32", "cs", "ds", "es", "ss", "fs", "gs", "notrack", "bnd"}


def instructions() -> Iterator[tuple[str, str, str]]:
    """(function, mnemonic, whole text) of each instruction of the image."""
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed; run: python3 tools/setup.py")
    command = ["objdump", "--disassemble", "--no-show-raw-insn", "--demangle", str(IMAGE)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    function = ""
    for line in listing.splitlines():
        if symbol := SYMBOL.match(line):
            function = symbol[1]
        elif found := INSTRUCTION.match(line):
            words = (found[1] + found[2]).split()
            while len(words) > 1 and (words[0] in PREFIXES or words[0].startswith("rex")):
                words.pop(0)
            yield function, words[0], " ".join(words)


@pytest.fixture(scope="module")
def listing() -> list[tuple[str, str, str]]:
    """The whole image, disassembled once."""
    if not IMAGE.exists():
        pytest.fail(f"{IMAGE} is missing; run: make build")
    return list(instructions())


def test_image_is_disassembled(listing: list[tuple[str, str, str]]) -> None:
    assert len(listing) > 10_000


@pytest.mark.parametrize("why", FORBIDDEN)
def test_no_forbidden_instruction(listing: list[tuple[str, str, str]], why: str) -> None:
    found = [f"{function}: {text}" for function, mnemonic, text in listing if mnemonic in FORBIDDEN[why]]
    assert found == []


def test_no_segment_register_is_loaded(listing: list[tuple[str, str, str]]) -> None:
    assert [text for _, _, text in listing if SEGMENT_WRITE.match(text)] == []


def test_time_stamp_is_read_in_one_place(listing: list[tuple[str, str, str]]) -> None:
    readers = {function for function, mnemonic, _ in listing if mnemonic in TIME_STAMP}
    assert all("occlum_rt" in function for function in readers)
    assert len(readers) <= 1
