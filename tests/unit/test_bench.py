"""The arithmetic of tools/bench.py, and that its jobs are well formed."""

from __future__ import annotations

import random

import pytest

import bench
from occlum._host.compare import interval

TIMES = [(0.5, "0.5 ns"), (1500, "1.5 us"), (2.5e6, "2.5 ms"), (3e9, "3 s"), (None, "")]


def series(ratio: float, noise: float = 1.0, metric: str = "m", **job: object) -> bench.Series:
    """Eleven pairs with this enclave/native ratio."""
    row = bench.Job(metric, "self", ("x",), {"m": 0.5}, **job)  # type: ignore[arg-type]
    native = [100.0 + i for i in range(11)]
    return bench.Series(metric, row, native, [ratio * n * (1 + noise) / 2 for n in native], [noise * n for n in native])


def test_ratio_and_noise_are_told_apart() -> None:
    figure = bench.figure(series(0.25, noise=1.1), random.Random(1))
    assert figure.ratio == pytest.approx(0.25)
    assert (figure.low, figure.high) == pytest.approx((0.25, 0.25))
    assert figure.noise_low == pytest.approx(1.1)


@pytest.mark.parametrize(("ratio", "word"), [(0.4, "reached"), (0.6, "missed")])
def test_verdict(ratio: float, word: str) -> None:
    assert bench.verdict(bench.figure(series(ratio), random.Random(1))) == word


def test_mean_is_geometric() -> None:
    members = [series(0.5), series(2.0)]
    assert bench.mean_figure("x", members, None, random.Random(1)).ratio == pytest.approx(1.0)


def test_interval_covers_the_middle(rng: random.Random) -> None:
    values = [rng.gauss(1, 0.1) for _ in range(101)]
    low, high = interval(values, rng, lambda v: sum(v) / len(v))
    assert low < sum(values) / len(values) < high
    assert high - low < 0.1


@pytest.mark.parametrize(("ns", "text"), TIMES)
def test_times_are_for_people(ns: float | None, text: str) -> None:
    assert bench.human(ns) == text


def test_jobs_are_well_formed() -> None:
    jobs = bench.read_jobs(".*")
    assert len({job.name for job in jobs}) == len(jobs)
    known = {*bench.PROGRAMS, "text", "sql", "csource", "large", "cc1", "pgbench", "root"}
    for job in jobs:
        assert job.kind in ("self", "wall", "serve")
        assert (job.kind == "serve") == bool(job.server) == bool(job.rate)
        served = {"port", "vary"} if job.kind == "serve" else set()
        for word in (*job.argv, *job.server):
            word.format(**dict.fromkeys(known | served, ""))


def test_a_job_is_run_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def run_once(job: bench.Job, _: object, side: str) -> bench.Samples:
        order.append(side)
        return {job.name: {"native": 1.0, "enclave": 2.0, "runsc": 7.0}[side]}

    monkeypatch.setattr(bench, "run_once", run_once)
    (result,) = bench.run_job(bench.Job("m", "wall", ("x",), {}), {}, pairs=2, peer=True)
    assert order == ["native", "enclave", "native"] * 2 + ["runsc"] * bench.PEER_RUNS
    assert result.ratios() == [2.0, 2.0]
    assert bench.figure(result, random.Random(1)).peer == pytest.approx(7.0)
