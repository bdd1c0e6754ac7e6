#!/usr/bin/env python3
"""Runs a program under a host that lies about every OCALL's results, and judges how it ended.

`host/pal/src/hostile.rs` changes the results by a seeded plan; each run is a process of its own. The enclave may refuse
to go on and the program may fail: the LibOS may not panic or crash, hang on its own, or show one process's data to
another, and the host's side may not crash. Started directly it mixes all calls, class by class; a campaign
(`tools/campaign.py`, `make hostile-host`) takes every class with every call that has a result of it, one a shard.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import BinaryIO

import programs
import record
from record import ROOT, Shard

SOURCES = ROOT / "tests" / "security" / "src"
PROGRAMS = ("stale", "lies", "network", "bound", "readonly")
CLASSES = ("length", "descriptor", "errno", "time", "event", "metadata", "duplicate", "reorder")
# After this time the host sends SIGTERM, and 3 s later it ends the enclave. If the program has not ended by then,
# whoever waits for the host or runs the program is not to blame.
LIMIT_S = 2
CALL_LIMIT_S = 6
HARD_LIMIT_S = 30
# A busy machine looks like a hang: what seems to hang runs again, this often and with this many times the limits.
AGAIN = 2
PATIENCE = 8
BLAMELESS = {"Wait", "guest"}
NOBODY = 65534
# Whoever sends there in an enclave reaches this machine.
OUTSIDE = "198.51.100.1"
SECRET = "the-other-process's-secret"
# Pipes, files of the host and of the enclave, directories, sleep; processes with a secret, and others that must not see
# it: `stale` looks in fresh memory. `network` talks to itself through the host's sockets, by the published PORT.
WORKLOAD = f"""
./network PORT &
yes "{SECRET}" | head -c 300000 | tail -c 3 >/dev/null
cat letters | tail -c 70000
read line; echo "$line" | tr a-z A-Z
echo one > shared/file; echo two >> shared/file; cat shared/file
dd if=letters of=shared/synced bs=3000 conv=fsync 2>/dev/null; rm shared/synced
mkdir shared/dir; ln -s ../file shared/dir/link; mv shared/dir shared/moved; ls -lR shared | wc -l
dd if=letters of=shared/copy bs=3000 2>/dev/null; truncate -s 5 shared/copy; df shared >/dev/null
cp letters /tmp/private; find /etc -name 'host*' | wc -l
./stale
sleep 0.02 & sleep 0.01; wait; rm -r shared/moved shared/file shared/copy
"""
# For campaigns: one OCALL, thousands of times, between processes with secrets.
ROUNDS = 12_000
LIES = "for n in 1 2 3 4 5 6 7 8; do ./lies shared PORT CLASS OCALL ROUNDS && break; done"
ONE_CALL = f'yes "{SECRET}" | head -c 20000 | tail -c 3 >/dev/null; {LIES}; ./stale'
# What `lies` says when a program sees what no lie may lead to.
IMPOSSIBLE = "a program sees what Linux never shows"
# Fewer rounds where each asks the host many times, or takes long.
SLOW = {
    "MemProtect": 400,
    "MemAlias": 1000,
    "Report": 3000,
    "Wait": 6000,
    "Wake": 4000,
    "Tick": 4000,
    "Readdir": 6000,
    "Fsync": 3000,
    "Begin": 3000,
    "NetAccept": 2000,
    "NetShutdown": 2000,
    "NetListen": 5000,
    "NetInterfaces": 1,
}
# The first process itself, without a shell: clocks are read at the start only, and only that process stops the host.
ALONE = {"Clock", "NetInterfaces", "Stop"}
# A resident enclave.
ORDERS = {"NextOrder", "JobEvent"}
# An instance with sealed layers, whose mounts ask for keys, locks and counters.
LAYERS = {"Egetkey", "Lock", "Counter"}
# No result of it exists without orders: the host does not lie.
HONEST = "errno:JobEvent"
# Standard input is a terminal.
TERMINAL = {"Ioctl", "Stop"}
# Results to change in a shard of a campaign, fewest runs (each has a plan of its own), and most time for it.
WANTED = 10_000
FEWEST_RUNS = 4
SHARD_S = 180
TITLE = "A host that lies about OCALL results"
TEXT = f"""
A shard is one class of results of one OCALL: runs of an enclave in which these results are changed before the enclave
sees them, until {WANTED} were changed in at least {FEWEST_RUNS} runs, or the shard's rounds (runs) or {SHARD_S} seconds
were over. The counts are of changed results. A problem is a panic or crash of the LibOS, a hang of its own, a crash of
the host's side, an end that does not name the OCALL, data of one process in another one's output, or a program that
sees what Linux never shows (`tests/security/src/lies.c`). *end-*: how the runs ended; *end-success* is status 0 all the
same, *end-timed-out* waits for what the host withheld, *end-failed* the LibOS refused and named the OCALL. The digest
covers what was asked and the problems; how many results a run changes depends on time.
"""
LAST_LINE = re.compile(r"^hostile: changed (\S*) ended (.*)$", re.MULTILINE)


@dataclass
class Judged:
    """One run."""

    changed: Counter[str]
    ended: str
    problem: str = ""
    output: str = ""
    slow: bool = False


@dataclass
class Tally:
    """All runs of one class of fields."""

    runs: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def judge(done: subprocess.CompletedProcess[bytes] | None) -> Judged:
    """What a run shows; `None` if it had to be killed."""
    if done is None:
        return Judged(Counter(), "killed", "the host process hangs", slow=True)
    errors = done.stderr.decode(errors="replace")
    last = LAST_LINE.search(errors)
    changed = Counter({name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", last[1])}) if last else Counter()
    ended = last[2] if last else f"status {done.returncode}"
    judged = Judged(changed, ended, output=errors)
    if re.search(r"panicked|LibOS crash|LibOS panic", errors):
        judged.problem = "the LibOS panics or crashes"
    elif done.returncode != 0 or last is None:
        judged.problem = f"the host process ends with {done.returncode}"
        # SIGTERM before there was an enclave to take it.
        judged.slow = done.returncode == -signal.SIGTERM
    elif SECRET[4:].encode() in done.stdout:
        judged.problem = "a process sees another one's data"
    elif IMPOSSIBLE in errors:
        judged.problem = errors[errors.index(IMPOSSIBLE) :].partition("\n")[0]
    elif ended.startswith("timed-out") and not set(ended.partition(":")[2].split(",")) <= BLAMELESS:
        judged.problem, judged.slow = "the LibOS hangs", True
    elif ended.startswith("failed") and "Log" not in changed and not names_an_ocall(errors, changed):
        judged.problem = "the enclave ends without naming the OCALL"
    return judged


def as_it_was(now: os.stat_result, before: os.stat_result) -> bool:
    """The same file, unchanged?"""
    return all(getattr(now, f"st_{name}") == getattr(before, f"st_{name}") for name in ("mode", "size", "ctime_ns"))


def names_an_ocall(errors: str, changed: Counter[str]) -> bool:
    """Does a message name a call whose result was changed?"""
    return any(re.search(rf"^occlum: .*\b{name}\b", errors, re.MULTILINE) for name in changed)


def free_port() -> int:
    """A port of this machine that nobody uses, for TCP or UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port


class Bench:
    """Copies of what a run needs, where an unprivileged user can use them."""

    def __init__(self, folder: Path, runner: Path, image: Path = programs.IMAGE, rounds: int = ROUNDS) -> None:
        self.folder, self.rounds = folder, rounds
        # What `bound.c` says natively, once it was asked.
        self.native = b""
        folder.chmod(0o755)
        self.runner = Path(shutil.copy(runner, folder / "hostile"))
        self.image = Path(shutil.copy(image, folder / "image.elf"))
        self.image.chmod(0o644)
        self.letters = b"A" * 200_000
        for name in PROGRAMS:
            command = ["gcc", "-O2", "-w", "-static", str(SOURCES / f"{name}.c"), "-o", str(folder / name)]
            subprocess.run(command, check=True)

    def _bound(self, is_enclave: bool) -> bytes:
        """What `bound.c` says in a folder of the host, which is named by links, and what is there then."""
        with tempfile.TemporaryDirectory(dir=self.folder) as text:
            here = Path(text)
            here.chmod(0o755)
            (here / "real").mkdir()
            (here / "real").chmod(0o777)
            (here / "relative").symlink_to("real")
            (here / "link").symlink_to(here / "relative")
            folder, port = str(here / "link"), str(free_port())
            (here / "line").write_text("some line\n")
            with (here / "line").open("rb") as file:
                program = [str(self.folder / "bound"), folder]
                if is_enclave:
                    options = ["-b", folder, "-p", port]
                    done = self._honest(options, [*program, "7000", OUTSIDE, port], file)
                    if not LAST_LINE.search(done.stderr.decode(errors="replace")):
                        return b"no end"
                else:
                    command = [*program, port, "127.0.0.1", port]
                    done = subprocess.run(command, stdin=file, capture_output=True, timeout=HARD_LIMIT_S, check=False)
            return done.stdout + repr(sorted(path.name for path in (here / "real").iterdir())).encode()

    def _honest(
        self, options: list[str], program: list[str], given: BinaryIO | None = None, lies: str = HONEST
    ) -> subprocess.CompletedProcess[bytes]:
        """A program under a host that does not lie, or only as it is told."""
        command = [str(self.runner), str(self.image), lies, "1", str(CALL_LIMIT_S * PATIENCE), *options, *program]
        return subprocess.run(command, stdin=given, capture_output=True, timeout=HARD_LIMIT_S, check=False)

    def answers_as_natively(self) -> bool:
        """Does `bound.c` with an honest host say what it says natively?"""
        self.native = self.native or self._bound(is_enclave=False)
        return bool(self.native) and self._bound(is_enclave=True) == self.native

    def keeps_what_is_read_only(self) -> bool:
        """Is every change refused to a folder that may only be read, and none made?"""
        with tempfile.TemporaryDirectory(dir=self.folder) as text:
            here = Path(text)
            (here / "folder").mkdir()
            (here / "file").write_text("bytes")
            (here / "link").symlink_to("file")
            # Whoever runs the tests could do all that `readonly.c` tries.
            for path in (here, here / "file", here / "folder"):
                path.chmod(0o777)
            before = {path: path.lstat() for path in (here, *here.iterdir())}
            done = self._honest(["-o", text], [str(self.folder / "readonly"), text])
            # Reading moves the time of access, for which the host alone is to blame.
            kept = all(as_it_was(path.lstat(), old) for path, old in before.items())
            return done.stdout == b"done\n" and kept and len(list(here.iterdir())) == len(before) - 1

    def stays_alone(self) -> bool:
        """Does nothing leave an enclave without a network, even if the host would let it?"""
        done = self._honest(["-n"], [str(self.folder / "bound"), OUTSIDE, "9"], lies="descriptor:NetConnect")
        return done.stdout == b"reach: -1 ENETUNREACH\n" * 101 and not judge(done).changed

    def run(self, name: str, seed: int) -> Judged:
        """One run of a class with one seed, again if it was only slow."""
        judged = self._run(name, seed, 1)
        for _ in range(AGAIN):
            if judged.problem and judged.slow:
                judged = self._run(name, seed, PATIENCE)
        return judged

    def _run(self, name: str, seed: int, patience: int) -> Judged:
        with tempfile.TemporaryDirectory(dir=self.folder) as text:
            here = Path(text)
            shared = here / "shared"
            shared.mkdir()
            (here / "letters").write_bytes(self.letters)
            for program in PROGRAMS:
                (here / program).hardlink_to(self.folder / program)
            here.chmod(0o755)
            shared.chmod(0o777)
            return judge(self._start(here, name, seed, patience))

    def _start(self, here: Path, name: str, seed: int, patience: int) -> subprocess.CompletedProcess[bytes] | None:
        _, _, call = name.partition(":")
        port = free_port()
        limit = (CALL_LIMIT_S if call else LIMIT_S) * patience
        shared = here / "shared"
        command = [str(self.runner), str(self.image), name, str(seed), str(limit), "-b", str(shared), "-p", str(port)]
        command += (["-s"] if call == "Log" else []) + (["-t"] if call in TERMINAL else [])
        command += ["-r"] if call in ORDERS else []
        command += (["-l"] if call in LAYERS else []) + program(here, name, port, self.rounds)
        user = NOBODY if os.getuid() == 0 else None
        with standard_input(here, call in TERMINAL, seed % 2 == 0 or not call) as given:
            try:
                return subprocess.run(
                    command,
                    stdin=given,
                    capture_output=True,
                    timeout=HARD_LIMIT_S * patience,
                    user=user,
                    env=os.environ | {"OCCLUM_FUSE_KEY": str(shared / "fuse.key")},
                    group=user,
                    extra_groups=[] if user else None,
                    # Nobody could continue it, so a stop of the host returns at once.
                    start_new_session=True,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return None


def program(here: Path, name: str, port: int, most: int) -> list[str]:
    """What the enclave runs, with `most` rounds."""
    kind, _, call = name.partition(":")
    rounds = str(min(SLOW.get(call, ROUNDS), most))
    if call in ORDERS | LAYERS:
        return ["/bin/true"]
    if call in ALONE:
        return [str(here / "lies"), str(here / "shared"), str(port), kind, call, rounds]
    work = WORKLOAD
    if call:
        work = ONE_CALL.replace("ROUNDS", rounds).replace("CLASS", kind).replace("OCALL", call)
    return ["busybox", "sh", "-c", f"cd {here}\n{work.replace('PORT', str(port))}"]


@contextlib.contextmanager
def standard_input(here: Path, is_terminal: bool, is_pipe: bool) -> Iterator[int]:
    """A terminal, a pipe or a file with some lines: they are different to a host."""
    text = b"some line\n" * 100
    path = here / "input"
    path.write_bytes(text)
    if is_terminal:
        ours, given = os.openpty()
    elif is_pipe:
        given, ours = os.pipe()
    else:
        ours = given = os.open(path, os.O_RDONLY)
    if ours != given:
        os.write(ours, text)
        if is_pipe and not is_terminal:
            os.close(ours)
            ours = given
    try:
        yield given
    finally:
        for descriptor in {ours, given}:
            os.close(descriptor)


def build() -> Path:
    """The runner, up to date."""
    return programs.example("hostile", "hostile")


def prepare() -> None:
    """Builds what runs need."""
    programs.image(), build()


@cache
def fields() -> list[str]:
    """Every `class:OCALL` there is."""
    listed = subprocess.run([build(), "--list"], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def shard(seed: int, number: int, rounds: int) -> Shard:
    """One class of results of one OCALL, for a campaign."""
    prepare()
    name = fields()[number % len(fields())]
    tally, end = Tally(), time.monotonic() + SHARD_S
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), build())
        while tally.runs < rounds and time.monotonic() < end:
            if tally.changed.total() >= WANTED and tally.runs >= FEWEST_RUNS:
                break
            note({name: tally}, name, seed + tally.runs, bench.run(name, seed + tally.runs))
    counts = Counter({name: tally.changed.total(), "runs": tally.runs})
    counts.update({f"end-{how}": n for how, n in tally.ends.items()})
    digest = hashlib.sha256(repr((name, seed, tally.problems)).encode()).hexdigest()[:16]
    return Shard(number, tally.changed.total(), digest, tally.problems, counts)


def plans(
    classes: list[str], first_seed: int, tallies: dict[str, Tally], wanted: int, end: float
) -> Iterator[tuple[str, int]]:
    """Class and seed of each run, until every class has `wanted` changed results or the time is over."""
    seed = first_seed
    while time.monotonic() < end:
        lacking = [name for name in classes if tallies[name].changed.total() < wanted]
        if not lacking:
            return
        for name in lacking:
            yield name, seed
        seed += 1


def campaign(bench: Bench, classes: list[str], seed: int, wanted: int, seconds: float, jobs: int) -> dict[str, Tally]:
    """Runs until there is enough of every class, or the time is over."""
    tallies = {name: Tally() for name in classes}

    def one(name: str, seed: int) -> tuple[str, int, Judged]:
        return name, seed, bench.run(name, seed)

    running: set[Future[tuple[str, int, Judged]]] = set()
    with ThreadPoolExecutor(jobs) as pool:
        for plan in plans(classes, seed, tallies, wanted, time.monotonic() + seconds):
            running.add(pool.submit(one, *plan))
            if len(running) >= jobs:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    note(tallies, *future.result())
        for future in wait(running).done:
            note(tallies, *future.result())
    return tallies


def note(tallies: dict[str, Tally], name: str, seed: int, judged: Judged) -> None:
    """Adds a run; says at once if it shows a problem."""
    tally = tallies[name]
    tally.runs += 1
    tally.changed += judged.changed
    kind = judged.ended.partition(":")[0]
    tally.ends["success" if judged.ended == "exited:0" else kind] += 1
    if judged.problem:
        tally.problems.append(f"{name} {seed}: {judged.problem} ({judged.ended})")
        print(f"{tally.problems[-1]}\n{judged.output[-1500:]}", file=sys.stderr)


def table(tallies: dict[str, Tally]) -> str:
    """What came of it."""
    rows = []
    for name, t in tallies.items():
        calls = ", ".join(f"{call} {n}" for call, n in t.changed.most_common())
        ends = ", ".join(f"{end} {n}" for end, n in t.ends.most_common())
        rows.append((name, str(t.runs), str(t.changed.total()), calls, ends, str(len(t.problems))))
    return record.table(rows, "field class", "runs", "results changed", "of OCALLs", "how the runs ended", "problems")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--class",
        dest="classes",
        action="append",
        choices=[*CLASSES, *fields()],
        metavar="CLASS[:OCALL]",
        help="only this class, or this class of one OCALL (repeatable)",
    )
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="first seed (default: random)")
    parser.add_argument("--changes", type=int, default=10_000, help="results to change in each class (default: 10000)")
    parser.add_argument("--seconds", type=float, default=4 * 3600, help="most time to take")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="runs at a time")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), build())
        tallies = campaign(
            bench, options.classes or list(CLASSES), options.seed, options.changes, options.seconds, options.jobs
        )
    print(table(tallies))
    return 1 if any(t.problems for t in tallies.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
