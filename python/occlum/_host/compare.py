"""A program's time, native, in an enclave that stays, and in a fresh one, measured in turns.

Neighbours: `cli.bench` (prints it), tools/bench.py (shares the statistics). Invariant: the three are run alternately,
with the same streams (none), so that what else the machine does hits them alike.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from occlum.errors import EnclaveError

__all__ = ["KINDS", "Comparison", "Subject", "interval", "measure"]

# In the order of the first round; each round begins with another one.
KINDS = ("native", "stays", "fresh")
_RESAMPLES = 2000

Statistic = Callable[[Sequence[float]], float]


def interval(values: Sequence[float], rng: random.Random, statistic: Statistic) -> tuple[float, float]:
    """95 % bootstrap interval of the statistic."""
    results = sorted(statistic(rng.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return results[int(_RESAMPLES * 0.025)], results[int(_RESAMPLES * 0.975)]


@dataclass
class Subject:
    """What is measured: a program and the enclave's options."""

    argv: Sequence[str]
    env: Mapping[str, str]
    # As `occlum try` and `Enclave.from_host` take them.
    options: Sequence[str]
    start: Mapping[str, Any]


@dataclass
class Comparison:
    """Seconds and exit statuses of each run, by kind; the statistics of each fresh enclave."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    statuses: dict[str, set[int]] = field(default_factory=lambda: {kind: set() for kind in KINDS})
    stats: list[dict[str, int]] = field(default_factory=list)

    def median(self, kind: str) -> float:
        """Of the seconds."""
        return statistics.median(self.seconds[kind])

    def middle(self, kind: str) -> tuple[float, float]:
        """The quarters' borders: half of the runs lie between."""
        values = self.seconds[kind]
        if len(values) < 2:
            return values[0], values[0]
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return low, high

    def ratio(self, kind: str) -> tuple[float, float, float]:
        """Ratio of the medians to native, with the 95 % bootstrap interval over rounds."""
        rounds = list(zip(self.seconds[kind], self.seconds["native"], strict=True))

        def of(chosen: Sequence[Any]) -> float:
            return float(statistics.median(one for one, _ in chosen) / statistics.median(other for _, other in chosen))

        return of(rounds), *interval(rounds, random.Random(0), of)  # type: ignore[arg-type]

    def stat(self, name: str) -> float:
        """Median of a statistic of the fresh enclaves."""
        return statistics.median(stats.get(name, 0) for stats in self.stats)

    def parts(self) -> dict[str, float]:
        """Where the time of a fresh run went, in seconds, by medians: the enclave's, the translator's, the rest.

        The program's part is what is left: its translated code and its system calls.
        """
        whole = self.median("fresh")
        up, translation = self.stat("uptime_ns") / 1e9, self.stat("translation_ns") / 1e9
        return {"enclave": max(0.0, whole - up), "translation": translation, "program": max(0.0, up - translation)}


def _timed(run: Callable[[], int]) -> tuple[float, int]:
    begin = time.perf_counter()
    status = run()
    return time.perf_counter() - begin, status


def measure(subject: Subject, rounds: int, advance: Callable[[str], None]) -> Comparison:
    """Runs the subject; `advance` is called with its kind after each run. OSError: the native one cannot start."""
    # What only a measurement needs.
    from occlum.enclave import Enclave

    found = Comparison()
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory(prefix="occlum-bench-") as folder:
        file = Path(folder) / "stats"
        command = [sys.executable, "-P", "-m", "occlum", "try", "-q", "--stats-file", str(file), *subject.options, "--"]
        with Enclave.from_host(**subject.start) as enclave:
            runs: dict[str, Callable[[], int]] = {
                "native": lambda: subprocess.call(subject.argv, env=subject.env, **streams),
                "stays": lambda: enclave.call(subject.argv, env=subject.env, **streams),
                "fresh": lambda: subprocess.call([*command, *subject.argv], env=subject.env, **streams),
            }
            # What the first one brings into caches and the enclave that stays is nobody's.
            for kind in KINDS:
                runs[kind]()
                advance(kind)
            for number in range(rounds):
                for kind in (*KINDS[number % 3 :], *KINDS[: number % 3]):
                    file.unlink(missing_ok=True)
                    seconds, status = _timed(runs[kind])
                    found.seconds[kind].append(seconds)
                    # A shell's number for a signal, as `try` has it.
                    found.statuses[kind].add(status if status >= 0 else 128 - status)
                    if kind == "fresh":
                        found.stats.append(_stats(file))
                    advance(kind)
    return found


def _stats(file: Path) -> dict[str, int]:
    try:
        stats: dict[str, int] = json.loads(file.read_text())
    except FileNotFoundError:
        raise EnclaveError("a fresh enclave failed", "run the program with `occlum try` to see why", "OC307") from None
    return stats
