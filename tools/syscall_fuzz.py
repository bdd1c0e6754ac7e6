#!/usr/bin/env python3
"""Fuzzes the system calls: hostile processes call all that is implemented, beside one that must not be harmed.

The guest program is `tests/security/src/syscalls.c`. It runs in enclaves only, never on the host. A problem is a panic,
crash or hang of the LibOS, or a neighbour that was harmed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path

import programs
from record import ROOT, Shard

SOURCE = ROOT / "tests" / "security" / "src" / "syscalls.c"
TABLE = ROOT / "enclave" / "libos" / "src" / "syscall" / "table.rs"
NUMBERS = ROOT / "common" / "linux-abi" / "src" / "nr.rs"
RUN_S = 10
# Most time for a shard of a campaign.
SHARD_S = 120
# How much longer than its time a run may take before it counts as a hang, on a busy machine too.
PATIENCE_S = 90
TITLE = "Hostile system calls"
TEXT = """
Each shard is one enclave in which processes with several threads make all implemented calls with hostile arguments
(`tests/security/src/syscalls.c`) until the shard's rounds (calls) are done; threads change the structures that the
calls of other threads point to. Beside them a neighbour checks every byte of its memory, pipe and file. At the end no
process, descriptor or memory may be left over. Counts: calls by name, arguments by class, fuzzing processes. A
problem is a panic, crash or hang of the LibOS, a neighbour that was harmed, or something left over. The digest covers
seed, calls and verdict.
"""


@cache
def numbers_by_name() -> dict[str, str]:
    """Number of each call by name."""
    return dict(re.findall(r"^\s*([A-Z0-9_]+) = (\d+) ", NUMBERS.read_text(), re.MULTILINE))


def implemented() -> list[int]:
    """Numbers of the calls that the LibOS has a row for."""
    numbers = numbers_by_name()
    rows = re.findall(r"^    ([A-Z0-9_]+) \w+\(", TABLE.read_text(), re.MULTILINE)
    return [int(numbers[row]) for row in rows]


def signatures() -> dict[int, list[str]]:
    """The kinds of their arguments, by number; what names a process or thread is of the kind `self`."""
    numbers = numbers_by_name()
    rows = re.findall(r"^    ([A-Z0-9_]+) \w+\(([^)]*)\)", TABLE.read_text(), re.MULTILINE)
    named = {int(numbers[row]): re.findall(r"(\w+): (\w+)", arguments) for row, arguments in rows}
    owns = re.compile("pid|tid|tgid|who|group")
    return {nr: ["self" if owns.search(name) else kind for name, kind in kinds] for nr, kinds in named.items()}


@cache
def build() -> Path:
    """The guest program."""
    program = ROOT / ".cache" / "guest" / "syscalls-fuzz"
    program.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O2", "-w", "-static", "-pthread", SOURCE, "-o", program], check=True)
    return program


def prepare() -> None:
    """Builds what runs need."""
    build(), programs.image(), programs.example("run")


def fuzz(seed: int, seconds: float, calls: int, image: Path | None = None) -> tuple[str, str]:
    """One enclave, until that time is over or that many calls were made: what is wrong (or nothing), and its output."""
    arguments = [str(seed), f"{seconds * 1000:.0f}", str(calls), *map(str, implemented())]
    try:
        done = subprocess.run(
            [programs.example("run"), image or programs.image(), "-m", "1024", build(), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "the LibOS hangs", ""
    if re.search(r"panicked|LibOS crash|occlum failed", done.stderr):
        return "the LibOS panics or crashes", done.stdout + done.stderr
    if done.returncode != 0:
        return f"status {done.returncode}", done.stdout + done.stderr
    made = re.search(r"^calls (\d+) ", done.stdout, re.MULTILINE)
    return "" if made and int(made[1]) > 0 else "nothing was fuzzed", done.stdout


def run(seed: int, seconds: float) -> str:
    """A slice: what is wrong, or nothing."""
    problem, output = fuzz(seed, seconds, 1 << 40)
    return f"{problem}\n{output}" if problem else ""


def shard(seed: int, number: int, rounds: int) -> Shard:
    """At least so many calls, for a campaign."""
    first = (seed * 1_000_003 + number) % 2**63
    problem, output = fuzz(first, SHARD_S, rounds)
    counts = Counter({name: int(n) for name, n in re.findall(r"^count (\S+) (\d+)$", output, re.MULTILINE)})
    numbers = {f"call-{number}": name.lower() for name, number in numbers_by_name().items()}
    named = Counter({numbers.get(name, name): n for name, n in counts.items()})
    made = re.search(r"^calls (\d+) fuzzers (\d+)", output, re.MULTILINE)
    named["processes"] = int(made[2]) if made else 0
    if problem:
        print(f"{problem}\n{output[-3000:]}", file=sys.stderr)
    digest = hashlib.sha256(repr((first, implemented(), problem)).encode()).hexdigest()[:16]
    return Shard(number, int(made[1]) if made else 0, digest, [problem] if problem else [], named)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="first seed (default: random)")
    parser.add_argument("--seconds", type=float, default=RUN_S, help="how long (default: one run)")
    options = parser.parse_args()
    seed, problems, end = options.seed, 0, time.monotonic() + options.seconds
    while time.monotonic() < end:
        if problem := run(seed, min(RUN_S, options.seconds)):
            problems += 1
            print(f"seed {seed}: {problem}", flush=True)
        seed += 1
    print(f"{seed - options.seed} runs from seed {options.seed}, {problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
