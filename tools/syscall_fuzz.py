#!/usr/bin/env python3
"""Fuzzes the system calls: hostile processes call all that is implemented, beside one that must not be harmed.

The guest program is `tests/security/src/syscalls.c`. It runs in enclaves only, never on the host. A problem is a panic,
crash or hang of the LibOS, or a neighbour that was harmed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "tests" / "security" / "src" / "syscalls.c"
TABLE = ROOT / "enclave" / "libos" / "src" / "syscall" / "table.rs"
NUMBERS = ROOT / "common" / "linux-abi" / "src" / "nr.rs"
OCCLUM = ROOT / ".venv" / "bin" / "occlum"
RUN_S = 10
# How much longer than its time a run may take before it counts as a hang, on a busy machine too.
PATIENCE_S = 90


def implemented() -> list[int]:
    """Numbers of the calls that the LibOS has a row for."""
    numbers = dict(re.findall(r"^\s*([A-Z0-9_]+) = (\d+) ", NUMBERS.read_text(), re.MULTILINE))
    rows = re.findall(r"^    ([A-Z0-9_]+) \w+\(", TABLE.read_text(), re.MULTILINE)
    return [int(numbers[row]) for row in rows]


def run(program: Path, seed: int, seconds: float) -> str:
    """One enclave; what is wrong with it, or nothing."""
    options = ["--quiet", "--memory", "1G", "--timeout", f"{seconds + PATIENCE_S:.0f}s"]
    arguments = [str(seed), f"{seconds * 1000:.0f}", *map(str, implemented())]
    done = subprocess.run(
        [OCCLUM, "try", *options, "--", program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 2 * PATIENCE_S,
        check=False,
    )
    if re.search(r"panicked|LibOS crash|occlum failed", done.stderr):
        return f"the LibOS panics or crashes\n{done.stderr}"
    if done.returncode != 0:
        return f"status {done.returncode}\n{done.stdout}{done.stderr}"
    return "" if done.stdout.strip().isdigit() and int(done.stdout) > 0 else f"nothing was fuzzed\n{done.stdout}"


def build() -> Path:
    """The guest program."""
    program = ROOT / ".cache" / "guest" / "syscalls-fuzz"
    program.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O2", "-w", "-static", "-pthread", SOURCE, "-o", program], check=True)
    return program


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="first seed (default: random)")
    parser.add_argument("--seconds", type=float, default=3600, help="how long (default: an hour)")
    options = parser.parse_args()
    program, seed, problems = build(), options.seed, 0
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        if problem := run(program, seed, min(RUN_S, options.seconds)):
            problems += 1
            print(f"seed {seed}: {problem}", flush=True)
        seed += 1
    print(f"{seed - options.seed} runs from seed {options.seed}, {problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
