"""Measures the enclave against native Linux: the jobs of benches/jobs.toml, in turns, with noise beside each figure.

Each pair runs a job natively, in the enclave, and natively again; enclave/native gives the ratio, native/native (A/A)
the noise. The figure is the median ratio with a 95 % bootstrap interval. docs/benchmarks.md says what the jobs are.
Output: results.json (every sample), table.md, and plot.png where matplotlib is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import random
import re
import socket
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from occlum._host.compare import interval

ROOT = Path(__file__).resolve().parents[1]
BENCHES = ROOT / "benches"
WORK = ROOT / ".cache" / "bench"
OCCLUM = ROOT / ".venv" / "bin" / "occlum"
PROGRAMS = ("tiny", "spawn", "fork", "syscalls", "pingpong", "pipe", "sockets", "clocks", "wakes")
PINNED_CPUS = 2
# Of 26 lines each: a C file of some 58,000 lines.
LARGE_FUNCTIONS = 2231
# gVisor, a peer that also stands between programs and the kernel; here it has no network.
RUNSC = ("runsc", "--platform=ptrace", "--network=none", "do")
PEER_RUNS = 3
TIMEOUT_S = 600
START_S = 120

Samples = dict[str, float]


@dataclass(frozen=True)
class Job:
    """One row of jobs.toml."""

    name: str
    kind: str
    argv: tuple[str, ...]
    at_most: dict[str, float]
    group: str = ""
    mean: str = ""
    repeat_last: int = 1
    server: tuple[str, ...] = ()
    rate: str = ""
    vary: tuple[str, ...] = ("",)


@dataclass
class Series:
    """All samples of one metric: pairs of native, enclave, native again."""

    metric: str
    job: Job
    native: list[float] = field(default_factory=list)
    enclave: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    # Under gVisor, where it was asked for and runs.
    peer: list[float] = field(default_factory=list)

    def ratios(self) -> list[float]:
        """Enclave/native of each pair; the native side is the mean of the runs before and after."""
        return [e / ((n + a) / 2) for n, e, a in zip(self.native, self.enclave, self.again, strict=True)]

    def noise(self) -> list[float]:
        """Native/native of each pair."""
        return [a / n for n, a in zip(self.native, self.again, strict=True)]


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    metric: str
    ratio: float
    low: float
    high: float
    noise_low: float
    noise_high: float
    native: float | None
    enclave: float | None
    at_most: float | None
    unit: str
    peer: float | None = None


class BenchError(Exception):
    """A job did not run; the message says why."""


def read_jobs(wanted: str) -> list[Job]:
    """The jobs whose name fits the regular expression."""
    with (BENCHES / "jobs.toml").open("rb") as file:
        rows: list[dict[str, Any]] = tomllib.load(file)["job"]
    for row in rows:
        row.update({key: tuple(value) for key, value in row.items() if isinstance(value, list)})
    jobs = [Job(**row) for row in rows]
    return [job for job in jobs if re.fullmatch(wanted, job.name)]


def compile_programs() -> dict[str, str]:
    """Compiles the C programs, statically, now: nothing is measured that was built elsewhere."""
    names = {}
    for name in PROGRAMS:
        output = WORK / name
        source = BENCHES / f"{name}.c"
        subprocess.run(["gcc", "-O2", "-static", "-pthread", str(source), "-o", str(output)], check=True)
        names[name] = str(output)
    return names


def make_inputs(rng: random.Random) -> dict[str, str]:
    """Inputs of the CPU-bound jobs, from the seed; sizes are such that each job runs for seconds."""
    words = ["".join(rng.choices("etaoinshrdlucmfw", k=rng.randint(2, 9))) for _ in range(20_000)]
    text = WORK / "text"
    text.write_text("\n".join(" ".join(rng.choices(words, k=10)) for _ in range(700_000)))
    sql = WORK / "job.sql"
    sql.write_text(
        "create table t(id integer primary key, k text, v integer);\n"
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1200000)\n"
        f"insert into t select i, hex((i * {rng.randrange(1, 9999) * 2 + 1}) % 100003), i * 7 % 1013 from n;\n"
        "create index by_k on t(k);\n"
        "select count(*), sum(v) from t where k like '3%';\n"
        "select k, count(*) c from t group by k order by c desc, k limit 5;\n"
        "select sum(a.v * b.v) from t a join t b on a.k = b.k where a.id < 20000;\n"
    )
    source = WORK / "job.c"
    source.write_text("\n".join(_c_function(rng, number) for number in range(90)))
    large = WORK / "large.c"
    large.write_text("\n".join(_c_function(rng, number) for number in range(LARGE_FUNCTIONS)))
    cc1 = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True, check=True).stdout.strip()
    (WORK / "page.html").write_text("".join(rng.choices("abcdefgh \n", k=10240)))
    files = {"text": text, "sql": sql, "csource": source, "large": large}
    return {name: str(path) for name, path in files.items()} | {"cc1": cc1, "pgbench": pgbench()}


def pgbench() -> str:
    """Debian's newest; it is not in PATH."""
    return str(max(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), default="pgbench"))


def _c_function(rng: random.Random, number: int) -> str:
    lines = [f"int f{number}(int *a, int n) {{ int s = {rng.randrange(100)}; for (int i = 0; i < n; i++) {{"]
    for _ in range(12):
        operator = rng.choice(["+", "^", "-", "*", "|"])
        factor, divisor = rng.randrange(9), rng.randrange(2, 50)
        lines.append(f"  if (a[i] % {divisor} == {rng.randrange(2)}) s = s {operator} a[(i * {factor}) % n];")
        lines.append(
            f"  switch (s & 7) {{ case {rng.randrange(8)}: s += {rng.randrange(1000)}; break; default: s >>= 1; }}"
        )
    lines.append("} return s; }")
    return "\n".join(lines)


PREFIX = {"native": (), "enclave": (str(OCCLUM), "try", "--quiet", "--"), "runsc": RUNSC}


def run_once(job: Job, argv: Sequence[str], side: str) -> Samples:
    """One run; metric -> nanoseconds."""
    command = [*PREFIX[side], *argv]
    output = subprocess.PIPE if job.kind == "self" else subprocess.DEVNULL
    start = time.perf_counter_ns()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, timeout=TIMEOUT_S, check=False
    )
    elapsed = float(time.perf_counter_ns() - start)
    if done.returncode != 0:
        raise BenchError(f"status {done.returncode}, {side}: {done.stderr.decode(errors='replace')[-300:]}")
    if job.kind == "wall":
        return {job.name: elapsed}
    lines = (line.split() for line in done.stdout.decode().splitlines())
    return {words[0]: float(words[1]) for words in lines if len(words) == 2}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Returns when somebody listens."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise BenchError("the server does not come up")


def run_served(job: Job, names: dict[str, str], inside: bool) -> Samples:
    """A server, natively or in an enclave, under the load of a client on this machine; nanoseconds per request."""
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "ROOT": str(WORK)}
    server = [word.format(**names, port=port) for word in job.server]
    if inside:
        server = [str(OCCLUM), "try", "--quiet", "-p", f"{port}:{port}", "--", *server]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    best: Samples = {}
    with subprocess.Popen(server, env=environment, **quiet) as process:  # type: ignore[call-overload]
        try:
            wait_for(port, process)
            for value in job.vary:
                client = [word.format(**names, port=port, vary=value) for word in job.argv]
                done = subprocess.run(client, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
                if done.returncode != 0:
                    raise BenchError(f"the client ends with {done.returncode}: {done.stderr[-300:]}")
                for found in re.finditer(job.rate, done.stdout):
                    suffix = found.groupdict().get("name")
                    metric = f"{job.name}-{suffix.lower()}" if suffix else job.name
                    best[metric] = min(best.get(metric, math.inf), 1e9 / float(found["rate"]))
        finally:
            process.terminate()
    return best


def run_job(job: Job, names: dict[str, str], pairs: int, peer: bool = False) -> list[Series]:
    """All pairs of one job, and a few runs of the peer."""
    words = (*job.argv, *job.argv[-1:] * (job.repeat_last - 1))

    def run(side: str) -> Samples:
        if job.kind == "serve":
            return run_served(job, names, side == "enclave")
        return run_once(job, [word.format(**names) for word in words], side)

    series: dict[str, Series] = {}
    for _ in range(pairs):
        turns = [run(side) for side in ("native", "enclave", "native")]
        for metric in turns[0]:
            one = series.setdefault(metric, Series(metric, job))
            for samples, turn in zip((one.native, one.enclave, one.again), turns, strict=True):
                samples.append(turn[metric])
    if peer and job.kind != "serve":
        with contextlib.suppress(BenchError, subprocess.TimeoutExpired):
            for _ in range(PEER_RUNS):
                for metric, value in run("runsc").items():
                    series[metric].peer.append(value)
    return list(series.values())


def figure(series: Series, rng: random.Random) -> Figure:
    """The line of one metric."""
    low, high = interval(series.ratios(), rng, statistics.median)
    noise_low, noise_high = interval(series.noise(), rng, statistics.median)
    return Figure(
        metric=series.metric,
        ratio=statistics.median(series.ratios()),
        low=low,
        high=high,
        noise_low=noise_low,
        noise_high=noise_high,
        native=statistics.median(series.native + series.again),
        enclave=statistics.median(series.enclave),
        at_most=series.job.at_most.get(series.metric),
        unit="run" if series.job.kind == "wall" else "op",
        peer=statistics.median(series.peer) / statistics.median(series.native) if series.peer else None,
    )


def mean_figure(name: str, members: Sequence[Series], at_most: float | None, rng: random.Random) -> Figure:
    """The geometric mean of several metrics, pair by pair."""
    by_pair = [statistics.geometric_mean(ratios) for ratios in zip(*(s.ratios() for s in members), strict=True)]
    noise = [statistics.geometric_mean(ratios) for ratios in zip(*(s.noise() for s in members), strict=True)]
    low, high = interval(by_pair, rng, statistics.median)
    noise_low, noise_high = interval(noise, rng, statistics.median)
    return Figure(
        f"{name} (mean)", statistics.median(by_pair), low, high, noise_low, noise_high, None, None, at_most, ""
    )


def means(series: Sequence[Series], rng: random.Random) -> Iterator[Figure]:
    """The rows that are geometric means: of one job's metrics, and of the CPU-bound group."""
    for name in dict.fromkeys(s.job.mean for s in series if s.job.mean):
        members = [s for s in series if s.job.mean == name]
        yield mean_figure(name, members, members[0].job.at_most.get(name), rng)
    group = [s for s in series if s.job.group == "cpu"]
    if group:
        yield mean_figure("cpu", group, 1.25, rng)


def human(ns: float | None) -> str:
    """Nanoseconds for people."""
    if ns is None:
        return ""
    for factor, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if ns >= factor:
            return f"{ns / factor:.3g} {unit}"
    return f"{ns:.3g} ns"


def verdict(row: Figure) -> str:
    """Whether the aim is reached; undecided while it lies in the interval."""
    if row.at_most is None:
        return ""
    if row.high <= row.at_most:
        return "reached"
    return "missed" if row.low > row.at_most else "undecided"


def table(figures: Sequence[Figure], host: dict[str, str], failures: dict[str, str]) -> str:
    """The results as Markdown."""
    lines = [
        f"Host: {host['cpu']}, {host['cpus']} CPUs, {host['kernel']}; {host['pairs']} pairs; seed {host['seed']}.",
        "Ratio: enclave/native time, median of pairs, 95 % interval; below 1 the enclave is faster; the same of runsc.",
        "",
        "| metric | native | enclave | ratio | interval | A/A interval | aim | | runsc |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in figures:
        aim = "" if row.at_most is None else f"<= {row.at_most:g}"
        peer = "" if row.peer is None else f"{row.peer:.3g}"
        lines.append(
            f"| {row.metric} | {human(row.native)} | {human(row.enclave)} | {row.ratio:.3f} "
            f"| {row.low:.3f}-{row.high:.3f} | {row.noise_low:.3f}-{row.noise_high:.3f} "
            f"| {aim} | {verdict(row)} | {peer} |"
        )
    lines += [f"\nNot measured: {name}: {why}" for name, why in failures.items()]
    return "\n".join(lines) + "\n"


def plot(figures: Sequence[Figure], target: Path) -> None:
    """Ratios as bars on a logarithmic axis, if matplotlib is there."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        print("bench: matplotlib is not installed; no plot", file=sys.stderr)
        return
    _, axes = pyplot.subplots(figsize=(8, 0.35 * len(figures) + 1.5))
    places = range(len(figures))
    errors = [[max(0.0, f.ratio - f.low) for f in figures], [max(0.0, f.high - f.ratio) for f in figures]]
    axes.barh(places, [f.ratio for f in figures], xerr=errors, color="#4477aa")
    for place, row in zip(places, figures, strict=True):
        if row.at_most is not None:
            axes.plot([row.at_most, row.at_most], [place - 0.4, place + 0.4], color="#cc3311")
    axes.set_yticks(list(places), [f.metric for f in figures])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("enclave time / native time (red: aim, at most)")
    pyplot.tight_layout()
    pyplot.savefig(target, dpi=120)


def host_facts(pairs: int, seed: int) -> dict[str, str]:
    """What the reader must know to judge the figures."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": cpu[1] if cpu else platform.processor(),
        "cpus": str(len(os.sched_getaffinity(0))),
        "kernel": f"{platform.system()} {platform.release()}",
        "pairs": str(pairs),
        "seed": str(seed),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write_results(
    output: Path, series: Sequence[Series], figures: Sequence[Figure], text: str, host: dict[str, str]
) -> None:
    """results.json, table.md, plot.png."""
    output.mkdir(parents=True, exist_ok=True)
    samples = {s.metric: {"native": s.native, "enclave": s.enclave, "again": s.again, "runsc": s.peer} for s in series}
    data = {"host": host, "figures": [vars(f) for f in figures], "samples_ns": samples}
    (output / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    (output / "table.md").write_text(text)
    if figures:
        plot(figures, output / "plot.png")


def measure(jobs: Sequence[Job], names: dict[str, str], pairs: int, peer: bool) -> tuple[list[Series], dict[str, str]]:
    """Runs the jobs one after another; a job that fails is reported and does not stop the others."""
    series: list[Series] = []
    failures: dict[str, str] = {}
    for job in jobs:
        print(f"bench: {job.name}", file=sys.stderr, flush=True)
        try:
            series += run_job(job, names, pairs, peer)
        except (BenchError, OSError, subprocess.TimeoutExpired) as error:
            failures[job.name] = str(error).strip()
            print(f"bench: {job.name}: {failures[job.name]}", file=sys.stderr)
    return series, failures


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measures the enclave against native Linux.")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench", help="folder for the results")
    parser.add_argument("--pairs", type=int, default=11, help="pairs of runs for each job")
    parser.add_argument("--jobs", default=".*", help="regular expression: which jobs")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--runsc", action="store_true", help="run jobs without network under gVisor (ptrace), too")
    options = parser.parse_args()
    host = host_facts(options.pairs, options.seed)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PINNED_CPUS])
    WORK.mkdir(parents=True, exist_ok=True)
    rng = random.Random(options.seed)
    names = {"root": str(ROOT), **compile_programs(), **make_inputs(rng)}
    series, failures = measure(read_jobs(options.jobs), names, options.pairs, options.runsc)
    figures = [figure(s, rng) for s in series] + list(means(series, rng))
    figures = [f for f in figures if math.isfinite(f.ratio)]
    text = table(figures, host, failures)
    write_results(options.output, series, figures, text, host)
    print(text)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
