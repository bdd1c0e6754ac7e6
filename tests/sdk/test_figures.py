"""What starting things costs, as ratios to the same thing without Occlum, measured in turns in one run.

A machine that does other things at the same time makes ratios worse, never better: the best of a few rounds counts.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from framework import OCCLUM
from occlum.enclave import Enclave

ROUNDS = 8


def seconds(function: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def best_ratio(one: Callable[[], object], other: Callable[[], object], pairs: int, enough: float) -> float:
    """`one` by `other`: the median of pairs, of the best round; no more rounds than are needed."""
    best = float("inf")
    for _ in range(ROUNDS):
        ratios = []
        for _ in range(pairs):
            base = seconds(other)
            ratios.append(seconds(one) / base)
        best = min(best, statistics.median(ratios))
        if best <= enough:
            break
    print(f"ratio {best:.2f}, aim {enough}")
    return best


def command(*words: object) -> Callable[[], object]:
    """A command whose output is nobody's."""
    argv = [str(word) for word in words]
    return lambda: subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


PASS = command(sys.executable, "-c", "pass")


def test_a_run_costs_at_most_twice_a_native_one(enclave: Enclave) -> None:
    inside: Callable[[], object] = lambda: enclave.run(["true"], check=True)  # noqa: E731
    outside: Callable[[], object] = lambda: subprocess.run(["true"], check=True)  # noqa: E731
    inside()
    assert best_ratio(inside, outside, 40, 2.0) <= 2.0


def test_importing_costs_at_most_as_much_again_as_python() -> None:
    assert best_ratio(command(sys.executable, "-c", "import occlum"), PASS, 7, 2.0) <= 2.0


def test_try_costs_at_most_six_times_python() -> None:
    assert best_ratio(command(OCCLUM, "try", "-q", "true"), PASS, 7, 6.0) <= 6.0


def test_exec_costs_about_what_try_does(enclave: Enclave) -> None:
    name = enclave.name
    assert os.environ["OCCLUM_RUNTIME_DIR"]
    execute = command(OCCLUM, "exec", "-n", name, "true")
    assert best_ratio(execute, command(OCCLUM, "try", "-q", "true"), 7, 1.0) <= 1.2
