"""Lists and runs the cases of a suite, natively or in the enclave: one function pair for each kind of suite.

Neighbour: `conformance` decides what runs and compares. A case ends with "ok", "skip" or "fail"; one that takes longer
than its limit, or takes the process down, is a failure whose text says so, and the others go on without it.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFORMANCE = ROOT / "tests" / "conformance"
OCCLUM = ROOT / ".venv" / "bin" / "occlum"
PYTHON = "/usr/bin/python3"
OK, SKIP, FAIL = "ok", "skip", "fail"
# Seconds for what a module does before its first case and between cases.
START_S = 120


@dataclass(frozen=True)
class Outcome:
    """How a case ended."""

    result: str
    text: str = ""
    # At the second try.
    again: bool = False


@dataclass(frozen=True)
class Suite:
    """One row of suites.toml."""

    name: str
    kind: str
    members: tuple[str, ...]
    options: tuple[str, ...] = ()
    limit: float = 120
    # Whether slices draw from it.
    sliced: bool = True


def read_suites() -> list[Suite]:
    """All rows of suites.toml."""
    with (CONFORMANCE / "suites.toml").open("rb") as file:
        rows = tomllib.load(file)["suite"]
    return [Suite(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}) for row in rows]


def command(suite: Suite, argv: Sequence[str], inside: bool) -> list[str]:
    """The command of the host."""
    return [str(OCCLUM), "try", "--quiet", *suite.options, "--", *argv] if inside else list(argv)


def environment() -> dict[str, str]:
    """What both sides get: nothing of the tester's shell."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }


@cache
def list_cases(suite: Suite, member: str) -> tuple[str, ...]:
    """The ids of a member's cases, in their order."""
    return KINDS[suite.kind][0](suite, member)


def run_cases(suite: Suite, member: str, cases: Sequence[str], inside: bool) -> dict[str, Outcome]:
    """Runs cases of one member; there is an outcome for each."""
    return KINDS[suite.kind][1](suite, member, cases, inside) if cases else {}


def python_list(suite: Suite, member: str) -> tuple[str, ...]:
    """The cases of a module of CPython's suite."""
    argv = [PYTHON, str(CONFORMANCE / "python_cases.py"), "--list", member]
    done = subprocess.run(argv, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    return tuple(dict.fromkeys(json.loads(line)["case"] for line in done.stdout.splitlines()))


def python_run(suite: Suite, member: str, cases: Sequence[str], inside: bool) -> dict[str, Outcome]:
    """Runs cases of a module; a process that a case took down is followed by one for those that are left."""
    outcomes: dict[str, Outcome] = {}
    setup = "the module ended before it"
    while left := [case for case in cases if case not in outcomes]:
        before = len(outcomes)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(left, file)
            file.flush()
            argv = [PYTHON, str(CONFORMANCE / "python_cases.py"), member, file.name]
            for line in lines(command(suite, argv, inside), suite.limit):
                if "end" in line:
                    outcomes[line["end"]] = Outcome(line["result"], line["text"])
                setup = line.get("setup", "") + line.get("text", "") if "setup" in line else setup
        if len(outcomes) == before:
            outcomes |= {case: Outcome(FAIL, setup) for case in left}
    return outcomes


def lines(argv: Sequence[str], limit: float) -> Iterator[dict[str, str]]:
    """The reports of one process. One that hangs is killed, and the case that it had begun is reported as a failure."""
    errors = tempfile.TemporaryFile()
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment(), start_new_session=True
    )
    started, why = "", ""
    try:
        for text in timed_lines(process, limit):
            line: dict[str, str] = json.loads(text)
            started = line.get("start", "" if "end" in line else started)
            yield line
    except TimeoutError:
        why = f"no end after {limit:.0f} s"
    finally:
        kill_group(process)
    if started:
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - 1500))
        tail = errors.read().decode(errors="replace")
        yield {"end": started, "result": FAIL, "text": f"{tail}\n{why or f'ended with {process.returncode}'}"}
    errors.close()


def timed_lines(process: subprocess.Popen[bytes], limit: float) -> Iterator[bytes]:
    """Lines of a process's output until it ends; TimeoutError when nothing comes for too long.

    Children that outlive it may hold the other end: its own end counts, not the end of the file.
    """
    assert process.stdout is not None
    fd, data, end = process.stdout.fileno(), b"", time.monotonic() + START_S + limit
    while True:
        ready = select.select([fd], [], [], 0.2)[0]
        chunk = os.read(fd, 1 << 16) if ready else b""
        if chunk:
            *whole, data = (data + chunk).split(b"\n")
            yield from whole
            end = time.monotonic() + limit
        elif ready or process.poll() is not None:
            process.wait(timeout=30)
            return
        elif time.monotonic() > end:
            raise TimeoutError


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and what is left of its session's first group."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait()


KINDS: dict[
    str,
    tuple[
        Callable[[Suite, str], tuple[str, ...]],
        Callable[[Suite, str, Sequence[str], bool], dict[str, Outcome]],
    ],
] = {"python": (python_list, python_run)}
