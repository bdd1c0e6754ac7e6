"""What each level of control-flow integrity costs: the CPU-bound jobs of benches/jobs.toml at every level, in turns.

A round runs a job once at each level; CPU time of all its threads counts, which other load on the machine disturbs less
than wall time. A figure is the median over the rounds of a level's time divided by that of `default` in the same round,
with the smallest and the largest; the column "again" is `default` once more: what the machine makes of no difference.
`--other NAME=COMMAND` adds a column: COMMAND takes the place of `occlum try --cfi=LEVEL`. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import bench

LEVELS = ("default", "again", "strict", "shadow-stack")
OMIT = ("gzip", "openssl")


def cpu_seconds(command: Sequence[str]) -> float:
    """Runs a command to its end; user and system time of it and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "LC_ALL": "C"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def launcher(level: str, others: dict[str, list[str]]) -> list[str]:
    """The command before the program."""
    if level in others:
        return others[level]
    return [str(bench.OCCLUM), "try", "--quiet", f"--cfi={'default' if level == 'again' else level}", "--"]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs of each job at each level")
    parser.add_argument("--jobs", default=".*", help="regular expression: which jobs")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=COMMAND", help="one more column")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    others = {name: shlex.split(command) for name, _, command in (text.partition("=") for text in options.other)}
    levels = [*LEVELS, *others]
    rng = random.Random(options.seed)
    bench.WORK.mkdir(parents=True, exist_ok=True)
    names = {"root": str(bench.ROOT), **bench.make_inputs(rng)}
    jobs = [job for job in bench.read_jobs(options.jobs) if job.group == "cpu" and job.name not in OMIT]
    ratios: dict[tuple[str, str], list[float]] = {(job.name, level): [] for job in jobs for level in levels[1:]}
    for done in range(1, options.rounds + 1):
        for job in jobs:
            argv = [re.sub(r"{(\w+)}", lambda m: names[m[1]], word) for word in job.argv]
            order = rng.sample(levels, len(levels))
            times = {level: cpu_seconds([*launcher(level, others), *argv]) for level in order}
            for level in levels[1:]:
                ratios[job.name, level].append(times[level] / times["default"])
        # After every round: a run that is cut short has its figures, too.
        print(f"\n{done} rounds, seed {options.seed}, load {os.getloadavg()[0]:.1f}\n")
        print("| job | " + " | ".join(levels[1:]) + " |\n|---|" + "---|" * len(levels[1:]))
        for job in jobs:
            cells = (ratios[job.name, level] for level in levels[1:])
            figures = (f"{statistics.median(r):.3f} ({min(r):.2f}-{max(r):.2f})" for r in cells)
            print(f"| {job.name} | " + " | ".join(figures) + " |", flush=True)


if __name__ == "__main__":
    main()
