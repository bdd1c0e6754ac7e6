#!/usr/bin/env python3
"""Long runs of what `cargo test` does in slices for sealed storage: crashes, tampering, fsx; writes a record."""

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
    """One test, as a campaign."""

    name: str
    crate: str
    test: str
    case: str
    variable: str
    option: str


PARTS = (
    Part("disk: crashes", "occlum-sealed-disk", "crash", "crashes_lose", "OCCLUM_CRASH_POINTS", "crash_points"),
    Part("disk: tampering", "occlum-sealed-disk", "crash", "tampering_is", "OCCLUM_MUTATIONS", "mutations"),
    Part("files: crashes", "occlum-sealed-fs", "model", "a_crash_leaves", "OCCLUM_CRASH_POINTS", "fs_crash_points"),
    Part("files: damage", "occlum-sealed-fs", "model", "damage_is_found", "OCCLUM_MUTATIONS", "fs_mutations"),
    Part("files: fsx", "occlum-sealed-fs", "model", "fsx", "OCCLUM_FSX_OPS", "fsx_ops"),
)


def run(part: Part, amount: int, seed: int) -> tuple[bool, float, str]:
    """Runs one part: whether it passed, minutes, what it printed."""
    command = ["cargo", "test", "--release", "--quiet", "-p", part.crate, "--test", part.test]
    command += [part.case, "--", "--nocapture"]
    env = dict(os.environ, OCCLUM_TEST_SEED=str(seed)) | {part.variable: str(amount)}
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return done.returncode == 0, (time.monotonic() - start) / 60, done.stdout + done.stderr


def details(text: str) -> str:
    """The lines of a test's output that say what it did."""
    kept = (line for line in text.splitlines() if re.match(r"[a-z ]+: \d|thread|.*panicked", line))
    return "; ".join(kept)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, help="write the record here")
    parser.add_argument("--seed", type=int, default=secrets.randbits(48))
    parser.add_argument("--crash-points", type=int, default=20_000)
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--fs-crash-points", type=int, default=5_000)
    parser.add_argument("--fs-mutations", type=int, default=5_000)
    parser.add_argument("--fsx-ops", type=int, default=1_000_000)
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    lines = [
        f"# Sealed storage: campaign of {datetime.now(UTC):%Y-%m-%d}",
        "",
        f"`make sealed-campaign` at commit {commit}, seed {options.seed}.",
        "",
        "| part | amount | result | minutes | details |",
        "|---|---|---|---|---|",
    ]
    passed = True
    for part in PARTS:
        amount = getattr(options, part.option)
        ok, minutes, text = run(part, amount, options.seed)
        passed &= ok
        lines.append(f"| {part.name} | {amount:,} | {'passed' if ok else 'FAILED'} | {minutes:.1f} | {details(text)} |")
        print(lines[-1], flush=True)
        if not ok:
            print(text)
        if options.record:
            options.record.write_text("\n".join(lines) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
