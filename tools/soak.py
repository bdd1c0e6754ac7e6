#!/usr/bin/env python3
"""Keeps one enclave busy for long, and looks whether anything of it stays behind: `make soak`.

    tools/soak.py --minutes 60 --record docs/records/FILE.md
    tools/soak.py --minutes 2 --seed 7

A round runs every job of `soak.toml` at once, some of them more than once, kills a process with many threads at a
random moment, and ends when all have ended. Then the enclave is idle, and what it holds is noted: pages, heap and
tasks inside; descriptors and mappings of its host process, and its memory outside of the enclave. (What of ELRANGE is
resident goes up and down with the pages that free slots keep for the next process; the enclave's size bounds it.) A run
fails if a job ends otherwise than it should, or if any of these grows from the second third of the rounds to the last
by more than `ALLOWED` and `SLACK`. Neighbours: `conformance` runs each stressor alone and compares it with Linux.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import occlum
import record
from occlum._host import registry

JOBS = Path(__file__).with_name("soak.toml")
# So much more, as a share and in units of each, is chance: fragments, caches that fill up, a late thread.
ALLOWED = 0.05
SLACK = {"pages": 256, "heap_kib": 4096, "threads": 0, "host_kib": 4096, "descriptors": 8, "mappings": 400}
# A job that takes longer hangs.
LIMIT = 300.0
# Where ELRANGE ends (`common/sfi-spec`): what lies above is the host's.
ELRANGE_END = 1 << 46

Sample = dict[str, int]


@dataclass
class Soak:
    """What came of it."""

    runs: Counter[str] = field(default_factory=Counter)
    killed: int = 0
    problems: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def growth(self) -> list[str]:
        """What there is more of in the last third of the rounds than in the second."""
        third = len(self.samples) // 3
        found = []
        for name, slack in SLACK.items() if third else ():
            before, after = (
                statistics.median(sample[name] for sample in part)
                for part in (self.samples[third : 2 * third], self.samples[2 * third :])
            )
            if after > before * (1 + ALLOWED) + slack:
                found.append(f"{name} grew from {before:.0f} to {after:.0f}")
        return found


def owner(enclave: occlum.Enclave) -> int:
    """The enclave's host process."""
    return int(registry.entry(enclave.name).facts()["pid"])


def resident_outside(smaps: str) -> int:
    """Resident KiB of the mappings above ELRANGE, from the text of /proc/PID/smaps (proc(5))."""
    total, outside = 0, False
    for line in smaps.splitlines():
        field, _, rest = line.partition(" ")
        if field == "Rss:":
            total += int(rest.split()[0]) if outside else 0
        elif not field.endswith(":"):
            outside = int(field.split("-")[0], 16) >= ELRANGE_END
    return total


def sample(enclave: occlum.Enclave, host: int) -> Sample:
    """What an idle enclave holds."""
    deadline = time.monotonic() + 10
    while (stats := enclave.stats)["threads"] and time.monotonic() < deadline:
        time.sleep(0.1)
    return {
        "pages": stats["memory_used"] // 4096,
        "heap_kib": stats["heap_live"] // 1024,
        "threads": stats["threads"],
        "host_kib": resident_outside(Path(f"/proc/{host}/smaps").read_text()),
        "descriptors": sum(1 for _ in Path(f"/proc/{host}/fd").iterdir()),
        "mappings": Path(f"/proc/{host}/maps").read_text().count("\n"),
    }


def play(enclave: occlum.Enclave, jobs: dict[str, str], chance: random.Random, soak: Soak) -> None:
    """One round."""
    chosen = [*jobs, *chance.choices([*jobs], k=2)]
    chance.shuffle(chosen)
    running = []
    for name in chosen:
        script = jobs[name].replace("SEED", str(chance.randrange(1 << 30)))
        command = ["bash", "-c", f"set -euo pipefail; cd $(mktemp -d); trap 'rm -rf $PWD' EXIT\n{script}"]
        process = enclave.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        running.append((name, process))
    victim = enclave.Popen(
        [
            "python3",
            "-c",
            "import threading, time\nfor n in range(9): threading.Thread(target=time.sleep, args=(60,)).start()",
        ]
    )
    time.sleep(chance.random())
    victim.kill()
    victim.wait()
    soak.killed += 1
    for name, process in running:
        soak.runs[name] += 1
        try:
            output, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            soak.problems.append(f"{name} did not end")
            continue
        if process.returncode:
            log = " / ".join(registry.entry(enclave.name).log_tail(1000).splitlines()[-4:])
            soak.problems.append(f"{name} ended with {process.returncode}: {output.strip()[-4000:]!r}; the log: {log}")


def text_of(soak: Soak, minutes: float, seed: int) -> str:
    """The record."""
    lines = [f"# Soak of {datetime.now(UTC).date()}", ""]
    runs = ", ".join(f"{name} {count}" for name, count in sorted(soak.runs.items()))
    lines += [
        f"`make soak`, commit {record.commit()}, seed {seed}: {minutes:.0f} minutes in one enclave, "
        f"{len(soak.samples)} rounds.",
        f"Jobs that ran (`tools/soak.toml`): {runs}.",
        f"Processes with ten threads that were killed at a random moment: {soak.killed}.",
        "",
        "What the idle enclave held after a round:",
        "",
        "| round | " + " | ".join(SLACK) + " |",
        "|---|" + "---|" * len(SLACK),
    ]
    last = len(soak.samples) - 1
    for n in sorted({round(last * k / 8) for k in range(9)}) if last >= 0 else ():
        lines.append(f"| {n + 1} | " + " | ".join(f"{soak.samples[n][name]:,}" for name in SLACK) + " |")
    problems = soak.problems + soak.growth()
    lines += ["", "Nothing failed, and nothing grew." if not problems else "Problems:", ""]
    lines += [f"- {problem}" for problem in problems]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60, help="how long (default: an hour)")
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0xFFFFFFFF)
    parser.add_argument("--record", type=Path, metavar="FILE", help="write a record there")
    options = parser.parse_args()
    jobs = {job["name"]: job["script"] for job in tomllib.loads(JOBS.read_text())["job"]}
    soak, chance, began = Soak(), random.Random(options.seed), time.monotonic()
    with occlum.Enclave.from_host(memory="3G") as enclave:
        host = owner(enclave)
        while (passed := (time.monotonic() - began) / 60) < options.minutes:
            play(enclave, jobs, chance, soak)
            soak.samples.append(sample(enclave, host))
            print(f"round {len(soak.samples)}, {passed:.1f} min: {soak.samples[-1]}", flush=True)
    text = text_of(soak, (time.monotonic() - began) / 60, options.seed)
    print(text)
    if options.record:
        options.record.write_text(text)
    return 1 if soak.problems or soak.growth() else 0


if __name__ == "__main__":
    sys.exit(main())
