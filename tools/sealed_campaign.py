#!/usr/bin/env python3
"""Long runs of what the tests of sealed storage do in slices; writes a record.

Crashes, tampering and fsx against models (`common/sealed-*/tests`); real programs in enclaves (`sealed_programs.py`).
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Part(NamedTuple):
    """One part: a command, the option or variable that tells it how much, and our own option for that."""

    name: str
    command: tuple[str, ...]
    told: str
    option: str
    default: int


def _cargo(crate: str, test: str, case: str) -> tuple[str, ...]:
    cargo = ("cargo", "test", "--release", "--quiet", "-p", f"occlum-sealed-{crate}", "--test", test, case)
    return (*cargo, "--", "--nocapture")


def _programs(what: str) -> tuple[str, ...]:
    return (".venv/bin/python", "tools/sealed_programs.py", what)


PARTS = (
    Part("disk: crashes", _cargo("disk", "crash", "crashes_lose"), "OCCLUM_CRASH_POINTS", "crash_points", 20_000),
    Part("disk: no room", _cargo("disk", "crash", "a_checkpoint_that"), "OCCLUM_CRASH_POINTS", "room_points", 20_000),
    Part("disk: tampering", _cargo("disk", "crash", "tampering_is"), "OCCLUM_MUTATIONS", "mutations", 100_000),
    Part("files: crashes", _cargo("fs", "model", "a_crash_leaves"), "OCCLUM_CRASH_POINTS", "fs_crash_points", 20_000),
    Part("files: damage", _cargo("fs", "model", "damage_is_found"), "OCCLUM_MUTATIONS", "fs_mutations", 20_000),
    Part("files: fsx", _cargo("fs", "model", "fsx"), "OCCLUM_FSX_OPS", "fs_fsx_ops", 10_000_000),
    Part("programs: crashes", _programs("crashes"), "--points", "program_points", 20_000),
    Part("programs: kills", _programs("kills"), "--times", "kills", 500),
    Part("programs: faults", _programs("faults"), "--times", "faults", 300),
    Part("mounts: fsx", _programs("fsx"), "--operations", "fsx_ops", 10_000_000),
)


def run(part: Part, amount: int, seed: int) -> tuple[bool, float, str]:
    """Runs one part: whether it passed, minutes, what it printed."""
    env, command = dict(os.environ, OCCLUM_TEST_SEED=str(seed)), list(part.command)
    if part.told.startswith("--"):
        command += [part.told, str(amount)]
    else:
        env[part.told] = str(amount)
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return done.returncode == 0, (time.monotonic() - start) / 60, done.stdout + done.stderr


def details(text: str) -> str:
    """The lines of a test's output that say what it did."""
    kept = (
        line
        for line in text.splitlines()
        if re.match(r"[a-zA-Z ]+: \d|not supported|thread|.*panicked|Violation", line)
    )
    return "; ".join(kept)


HEAD = f"""# Sealed storage: campaign of {datetime.now(UTC):%Y-%m-%d}

`make sealed-campaign`; of each part the last run, at its commit and seed.

| part | amount | result | minutes | commit | seed | details |
|---|---|---|---|---|---|---|
"""


def read_rows(record: Path | None) -> dict[str, str]:
    """The parts that a record has already, by name."""
    if record is None or not record.exists():
        return {}
    lines = record.read_text().splitlines()
    return {line.split(" | ")[0].strip("| "): line for line in lines if line.count("|") == 8}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, help="write the record here")
    parser.add_argument("--seed", type=int, default=secrets.randbits(48))
    parser.add_argument("--only", default="", help="parts whose name matches this regular expression")
    for part in PARTS:
        parser.add_argument(f"--{part.option.replace('_', '-')}", type=int, default=part.default)
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    rows = read_rows(options.record)
    passed = True
    for part in (p for p in PARTS if re.search(options.only, p.name)):
        amount = getattr(options, part.option)
        ok, minutes, text = run(part, amount, options.seed)
        passed &= ok
        result = "passed" if ok else "FAILED"
        row = f"| {part.name} | {amount:,} | {result} | {minutes:.1f} | {commit} | {options.seed} | {details(text)} |"
        rows[part.name] = row
        print(row, flush=True)
        if not ok:
            print(text)
        if options.record:
            # Others may have finished meanwhile.
            rows = read_rows(options.record) | {part.name: row}
            options.record.write_text(HEAD + "".join(f"{rows[p.name]}\n" for p in PARTS if p.name in rows))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
