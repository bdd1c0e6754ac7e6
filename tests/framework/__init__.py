"""What every test that runs a program needs: run it natively, run it in the enclave, compare.

Neighbours: `build` (compiles guest programs), `terminal` (drives a pseudo-terminal), `watch` (proof that the
guest's code ran inside the enclave only), `tests/conftest.py` (the fixtures). Outputs are bytes and are never
stored: each test runs the program natively as well, on inputs from a fresh seed that pytest prints.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from .build import CompileError, cc, compiler
from .result import Result, TimeOut, describe, exit_status
from .terminal import Terminal
from .watch import Watch

__all__ = [
    "OCCLUM",
    "ROOT",
    "CompileError",
    "Result",
    "Terminal",
    "TimeOut",
    "Watch",
    "cc",
    "compiler",
    "enclave",
    "enclave_argv",
    "environment",
    "native",
    "same",
    "watched",
]

ROOT = Path(__file__).resolve().parents[2]
OCCLUM = Path(os.environ.get("OCCLUM_COMMAND", ROOT / ".venv" / "bin" / "occlum"))

Argument = str | bytes | Path


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The small, fixed environment both sides get, plus `extra`."""
    base = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "TZ": "UTC",
    }
    return base | dict(extra or {})


def enclave_argv(argv: Sequence[Argument], options: Sequence[str] = ()) -> list[Argument]:
    """The host command that runs `argv` in a fresh enclave."""
    return [OCCLUM, "try", "--quiet", *options, "--", *argv]


def _run(
    argv: Sequence[Argument],
    given: bytes | str | None,
    cwd: Path | str | None,
    env: Mapping[str, str] | None,
    timeout: float,
    watcher: Callable[[int], AbstractContextManager[object]] = nullcontext,
) -> Result:
    data = given.encode() if isinstance(given, str) else given
    # A new session: no terminal of the tester's leaks in, and a time-out can end the whole group.
    with subprocess.Popen(
        [os.fspath(a) for a in argv],
        stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=environment(env),
        start_new_session=True,
    ) as process:
        try:
            with watcher(process.pid):
                stdout, stderr = process.communicate(data, timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            stdout, stderr = process.communicate()
            raise TimeOut(describe(argv, f"no end after {timeout} s", stdout, stderr)) from None
    return Result(exit_status(process.returncode), stdout, stderr)


def native(
    argv: Sequence[Argument],
    input: bytes | str | None = None,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> Result:
    """Runs `argv` on the host. A death by signal N is reported as status 128+N, as shells do."""
    return _run(argv, input, cwd, env, timeout)


def enclave(
    argv: Sequence[Argument],
    input: bytes | str | None = None,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
    options: Sequence[str] = (),
) -> Result:
    """Runs `argv` in a fresh enclave; `options` are options of `occlum try`."""
    return _run(enclave_argv(argv, options), input, cwd, env, timeout)


def watched(
    argv: Sequence[Argument],
    input: bytes | str | None = None,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
    options: Sequence[str] = (),
) -> tuple[Result, Watch]:
    """Like `enclave`, and what was seen of the host's processes meanwhile."""
    seen: list[Watch] = []

    def start(pid: int) -> Watch:
        seen.append(Watch(pid))
        return seen[0]

    result = _run(enclave_argv(argv, options), input, cwd, env, timeout, start)
    return result, seen[0]


def same(
    argv: Sequence[Argument],
    input: bytes | str | None = None,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
    options: Sequence[str] = (),
    compare_stderr: bool = False,
) -> Result:
    """Runs `argv` natively and in an enclave; output and exit status must be equal. Returns the enclave's."""
    expected = native(argv, input, cwd, env, timeout)
    actual = enclave(argv, input, cwd, env, timeout, options)
    problems = []
    if actual.returncode != expected.returncode:
        problems.append(f"exit status {actual.returncode}, natively {expected.returncode}")
    if actual.stdout != expected.stdout:
        problems.append("standard output differs")
    if compare_stderr and actual.stderr != expected.stderr:
        problems.append("standard error differs")
    if problems:
        raise AssertionError(
            describe(argv, "; ".join(problems), actual.stdout, actual.stderr)
            + describe((), "natively:", expected.stdout, expected.stderr)
        )
    return actual
