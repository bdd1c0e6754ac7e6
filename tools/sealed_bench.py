#!/usr/bin/env python3
"""Measures sealed storage beside ext4 and other encrypting file systems of this machine, in turns; writes a record.

The same program works in a directory of ext4, of gocryptfs and of encfs on ext4, and in an enclave on a sealed store
whose file lies on the same ext4. Before each one that reads, nothing of its files is in memory. A program prints its
own time, so that starting it counts for nothing. Of all rounds the median counts. The cost of growth is the difference
of two runs: `make sealed-bench BENCH_OPTIONS="--size 1G"` and `--size 20G`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "python"))

from occlum._host.units import parse_size  # noqa: E402
from occlum.keys import generate_key, read_key  # noqa: E402
from occlum.sealed import Store  # noqa: E402

OCCLUM = ROOT / ".venv" / "bin" / "occlum"
MOUNT = "/tmp/store"
MEBIBYTE = 1 << 20


class Job(NamedTuple):
    """What is measured: a shell command in the directory {d}, with {size} bytes and {files} files."""

    name: str
    command: str
    # From the output: what is better when it is larger.
    figure: Callable[[str], float]
    # Least ratio to ext4.
    at_least: float
    # Bytes that the program itself writes; 0: not asked for.
    writes: Callable[[int], int] = lambda _: 0


def _fio(direction: str) -> Callable[[str], float]:
    def figure(text: str) -> float:
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])["jobs"][0][direction]
        return float(found["bw_bytes"]) / MEBIBYTE

    return figure


def _timed(text: str) -> float:
    """Turns in a second: how often it could have been done."""
    (line,) = (line for line in text.splitlines() if line.startswith("NANOSECONDS "))
    return 1e9 / int(line.split()[1])


def _clock(command: str) -> str:
    return f"a=$(date +%s%N); {command}; sync {{d}}/.; b=$(date +%s%N); echo NANOSECONDS $((b-a))"


_FIO = "fio --name=j --thread --ioengine=psync --output-format=json --filename={d}/fio --size={size}"
_FILES = """
import os, sys, time
d, n = sys.argv[1], int(sys.argv[2]); os.makedirs(d + "/m"); os.chdir(d + "/m"); a = time.monotonic_ns()
for i in range(n):
    f = os.open(f"f{i}", os.O_CREAT | os.O_WRONLY, 0o600); os.write(f, b"x" * 500); os.close(f)
os.sync()
for i in range(n): os.unlink(f"f{i}")
os.sync(); print("NANOSECONDS", time.monotonic_ns() - a)
"""
_INSERTS = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1] + "/db", isolation_level=None); db.execute("pragma journal_mode=wal")
db.execute("pragma synchronous=full"); db.execute("create table t (i integer primary key, v text)")
a = time.monotonic_ns()
for i in range(int(sys.argv[2])): db.execute("insert into t values (?, ?)", (i, "x" * 100))
print("NANOSECONDS", time.monotonic_ns() - a)
"""

JOBS = (
    Job("sequential write", _FIO + " --rw=write --bs=128k --end_fsync=1", _fio("write"), 0.7, lambda size: size),
    Job("sequential read", _FIO + " --rw=read --bs=128k", _fio("read"), 0.7),
    Job("random read, 4 KiB", _FIO + " --rw=randread --bs=4k --io_size={part}", _fio("read"), 0.5),
    Job(
        "random write, 4 KiB, fsync per 32",
        _FIO + " --rw=randwrite --bs=4k --fsync=32 --io_size={part}",
        _fio("write"),
        0.7,
        lambda size: size // 8,
    ),
    Job("untar", _clock("mkdir {d}/t; tar -xf {tar} -C {d}/t"), _timed, 0.5),
    Job("create and delete files", "python3 {script}/files.py {d} {files}", _timed, 0.5),
    Job("git checkout", _clock("git clone -q {git} {d}/g 2>&1"), _timed, 0.5),
    Job("sqlite inserts, WAL", "python3 {script}/inserts.py {d} 2000", _timed, 0.7),
)


class Place:
    """Where jobs run. `run` gives a job's output, blocks of 512 bytes written and KiB of memory."""

    name = "ext4"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = folder / self.name
        self.directory.mkdir()

    def argv(self, command: str) -> list[str]:
        """The command line of a job's command."""
        return ["bash", "-c", command.replace("{d}", str(self.directory))]

    def forget(self) -> None:
        """Nothing of the files stays in memory."""
        os.sync()
        for path in self.directory.rglob("*"):
            if path.is_file() and not path.is_symlink():
                _drop(path)

    def run(self, command: str) -> tuple[str, int, int]:
        """Runs it."""
        self.forget()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(self.argv(command), capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            raise SystemExit(f"{self.name}: {command}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout, after.ru_oublock - before.ru_oublock, after.ru_maxrss

    def close(self) -> None:
        """Unmounts."""


def _drop(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


class Mounted(Place):
    """An encrypting file system through FUSE, over a directory of ext4."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.below = folder / f"{self.name}.below"
        self.below.mkdir()
        (folder / "password").write_text("password\n")
        for command in self.commands():
            subprocess.run(command, check=True, capture_output=True, input=b"password\n")

    def commands(self) -> list[list[str]]:
        """What makes and mounts it."""
        raise NotImplementedError

    def forget(self) -> None:
        super().forget()
        for path in self.below.rglob("*"):
            if path.is_file() and not path.is_symlink():
                _drop(path)

    def close(self) -> None:
        subprocess.run(["fusermount3", "-u", self.directory], check=True)


class Gocryptfs(Mounted):
    """AES-256-GCM for each block of 4 KiB; nothing binds blocks or files to each other's state."""

    name = "gocryptfs"

    def commands(self) -> list[list[str]]:
        password = ["-q", "-passfile", str(self.folder / "password")]
        return [
            ["gocryptfs", *password, "-init", str(self.below)],
            ["gocryptfs", *password, str(self.below), str(self.directory)],
        ]


class Encfs(Mounted):
    """AES without authentication, in its standard configuration."""

    name = "encfs"

    def commands(self) -> list[list[str]]:
        return [["encfs", "--standard", "--stdinpass", str(self.below), str(self.directory)]]


class Sealed(Place):
    """A sealed store in an enclave."""

    name = "sealed"

    def __init__(self, folder: Path, size: int) -> None:
        super().__init__(folder)
        self.key, self.store = folder / "key", folder / "store"
        generate_key(self.key)
        Store.create(self.store, size, read_key(self.key)).close()

    def argv(self, command: str) -> list[str]:
        options = ["-q", "-m", "2G", "--sealed", f"{self.store}:{MOUNT}", "--image-key", str(self.key)]
        return [str(OCCLUM), "try", *options, "--", "bash", "-c", command.replace("{d}", MOUNT)]

    def forget(self) -> None:
        os.sync()
        _drop(self.store)


@contextmanager
def places(folder: Path, size: int, without: list[str]) -> Iterator[list[Place]]:
    """All that this machine has, but for those named."""
    made: list[Place] = []
    try:
        made.append(Place(folder))
        made.append(Sealed(folder, 4 * size + (4 << 30)))
        kinds = [kind for kind in (Gocryptfs, Encfs) if kind.name not in without and shutil.which(kind.name)]
        made.extend(kind(folder) for kind in kinds)
        yield made
    finally:
        for place in made:
            place.close()


def inputs(folder: Path, options: argparse.Namespace) -> dict[str, str]:
    """What the jobs need: scripts, an archive and a repository of this machine's headers."""
    (folder / "files.py").write_text(_FILES)
    (folder / "inserts.py").write_text(_INSERTS)
    tree = Path("/usr/include")
    subprocess.run(["tar", "-chf", folder / "tree.tar", "-C", tree, "."], check=True)
    git = ["git", "-C", str(folder / "repository"), "-c", "user.name=a", "-c", "user.email=a@b"]
    (folder / "repository").mkdir()
    subprocess.run(["tar", "-xf", folder / "tree.tar", "-C", folder / "repository"], check=True)
    for words in (["init", "-q"], ["add", "-Af"], ["commit", "-q", "-m", "headers"], ["repack", "-qad"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    size = options.size
    return {
        "size": str(size), "part": str(size // 8), "files": str(options.files), "script": str(folder),
        "tar": str(folder / "tree.tar"), "git": f"file://{folder}/repository",
    }  # fmt: skip


def measure(options: argparse.Namespace, folder: Path) -> list[str]:
    """The rows of the table."""
    words = inputs(folder, options)
    figures: dict[tuple[str, str], list[float]] = defaultdict(list)
    written: dict[tuple[str, str], list[int]] = defaultdict(list)
    memory: dict[str, int] = defaultdict(int)
    jobs = [job for job in JOBS if re.search(options.jobs, job.name)]
    with places(folder, options.size, options.without) as all_places:
        for turn in range(options.rounds):
            for job in jobs:
                # `t`, `m`, `g` and `db` are new each time; what fio wrote is read by the jobs behind.
                command = f"rm -rf {{d}}/t {{d}}/m {{d}}/g {{d}}/db*; {job.command}"
                for name, value in words.items():
                    command = command.replace(f"{{{name}}}", value)
                for place in all_places[turn % len(all_places) :] + all_places[: turn % len(all_places)]:
                    text, blocks, resident = place.run(command)
                    figures[job.name, place.name].append(job.figure(text))
                    written[job.name, place.name].append(blocks * 512)
                    memory[place.name] = max(memory[place.name], resident)
                    print(f"{job.name}, {place.name}: {figures[job.name, place.name][-1]:.2f}", flush=True)
        kinds = [p.name for p in all_places]
    names = [name for name in kinds if name != "ext4"]
    rows = [f"| job | {' | '.join(names)} | aim | sealed: bytes to the disk for each written |"]
    rows.append("|---" * (len(names) + 3) + "|")
    for job in jobs:
        base = statistics.median(figures[job.name, "ext4"])
        ratios = [statistics.median(figures[job.name, name]) / base for name in names]
        amount = job.writes(options.size)
        extra = f"{statistics.median(written[job.name, 'sealed']) / amount:.2f}" if amount else ""
        rows.append(f"| {job.name} | {' | '.join(f'{r:.2f}' for r in ratios)} | {job.at_least} | {extra} |")
    rows += ["", f"Memory of the enclave's process: {memory['sealed'] // 1024} MiB, of 2 GiB configured.", ""]
    rows += ["Single figures, in the order of the rounds (MiB/s, or turns in a second):", ""]
    rows += [f"| job | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for job in jobs:
        each = (", ".join(f"{figure:.2f}" for figure in figures[job.name, name]) for name in kinds)
        rows.append(f"| {job.name} | {' | '.join(each)} |")
    return rows


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=1 << 30, help="of the file")
    parser.add_argument("--files", type=int, default=100_000, help="that are created and deleted")
    parser.add_argument("--rounds", type=int, default=3, help="of all jobs")
    parser.add_argument("--jobs", metavar="REGEX", default="", help="only jobs with such a name")
    parser.add_argument("--without", action="append", default=[], help="leave this file system out")
    parser.add_argument("--record", type=Path, help="write the record here")
    options = parser.parse_args()
    commit = ["git", "rev-parse", "--short", "HEAD"]
    commit_id = subprocess.run(commit, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="sealed-bench-") as folder:
        rows = measure(options, Path(folder))
    lines = [
        f"# Sealed storage: figures of {datetime.now(UTC):%Y-%m-%d}",
        "",
        f"`make sealed-bench` at commit {commit_id}, {platform.release()}: a file of {options.size // MEBIBYTE} MiB,"
        f" {options.files} files, medians of {options.rounds} rounds in turns. Figures are ratios to ext4 on the same"
        " disk: above 1 is faster.",
        "",
        *rows,
    ]
    print("\n".join(lines))
    if options.record:
        options.record.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
