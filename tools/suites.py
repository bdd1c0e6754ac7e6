"""Lists and runs the cases of a suite, natively or in the enclave: one class for each kind of suite.

Neighbour: `conformance` decides what runs and compares. A case ends with "ok", "skip" or "fail"; one that takes longer
than its limit, or takes the process down, is a failure whose text says so, and the others go on without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from debian_source import fetch

ROOT = Path(__file__).resolve().parents[1]
CONFORMANCE = ROOT / "tests" / "conformance"
OCCLUM = ROOT / ".venv" / "bin" / "occlum"
OK, SKIP, FAIL = "ok", "skip", "fail"
# Seconds for what a module does before its first case.
START_S = 120
COUNTED = str(CONFORMANCE / "src" / "counted.sh")
# Bytes of a failed case's output that are kept.
SHOWN = 1500


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
    # Parts that are run by themselves: what they are depends on the kind.
    members: tuple[str, ...] = ()
    # Options of `occlum try`.
    options: tuple[str, ...] = ()
    # Seconds that one case may take.
    limit: float = 120
    # Whether slices draw from it.
    sliced: bool = True

    def list_cases(self, member: str) -> tuple[str, ...]:
        """The ids of a member's cases, in their order."""
        raise NotImplementedError

    def run_cases(self, member: str, cases: Sequence[str], inside: bool) -> dict[str, Outcome]:
        """Runs cases of one member; there is an outcome for each."""
        raise NotImplementedError

    def command(self, argv: Sequence[str], inside: bool) -> list[str]:
        """The command of the host."""
        return [str(OCCLUM), "try", "--quiet", *self.options, "--", *argv] if inside else list(argv)


@dataclass(frozen=True)
class PythonSuite(Suite):
    """Modules of CPython's own suite; its cases are test methods."""

    PYTHON: ClassVar[str] = "/usr/bin/python3"
    RUNNER: ClassVar[str] = str(CONFORMANCE / "src" / "python_cases.py")
    # The Debian source that has the modules, where the package of the suite lacks them.
    source: str = ""

    def runner(self) -> list[str]:
        """The command that runs cases, and where it finds modules."""
        more = ["--also", str(fetch(self.source) / "Lib")] if self.source else []
        return [self.PYTHON, self.RUNNER, *more]

    def list_cases(self, member: str) -> tuple[str, ...]:
        argv = [*self.runner(), "--list", member]
        done = subprocess.run(argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        return tuple(dict.fromkeys(json.loads(line)["case"] for line in done.stdout.splitlines()))

    def run_cases(self, member: str, cases: Sequence[str], inside: bool) -> dict[str, Outcome]:
        """A process that a case took down is followed by one for those that are left."""
        outcomes: dict[str, Outcome] = {}
        setup = "the module ended before it"
        while left := [case for case in cases if case not in outcomes]:
            before = len(outcomes)
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(left, file)
                file.flush()
                argv = [*self.runner(), member, file.name]
                for line in reports(self.command(argv, inside), self.limit):
                    if "end" in line:
                        outcomes[line["end"]] = Outcome(line["result"], line["text"])
                    elif "setup" in line:
                        setup = f"{line['setup']}\n{line['text']}"
            if len(outcomes) == before:
                outcomes |= {case: Outcome(FAIL, setup) for case in left}
        return outcomes


@dataclass(frozen=True)
class StressSuite(Suite):
    """Stressors of stress-ng under --verify; inside, what the LibOS counts is compared before and after."""

    # Seconds that each stressor runs.
    seconds: int = 30
    # Stressors that refuse to run as root.
    unprivileged: tuple[str, ...] = ()

    def lasting(self, seconds: int) -> StressSuite:
        """The same suite with this time for each stressor."""
        return replace(self, seconds=seconds, name=f"{self.name.split(',')[0]}, {seconds} s each")

    def list_cases(self, member: str) -> tuple[str, ...]:
        return (member,)

    def run_cases(self, member: str, cases: Sequence[str], inside: bool) -> dict[str, Outcome]:  # noqa: ARG002
        return {case: self.run_case(case, inside) for case in cases}

    def run_case(self, case: str, inside: bool) -> Outcome:
        """One stressor."""
        words = self.stressor(case, "/tmp")
        if case in self.unprivileged and os.geteuid() == 0:
            words = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", *words]
        # Natively only to see that this machine has it, and that its own checks pass.
        argv = [COUNTED, str(self.seconds), *words] if inside else [*words, "--timeout", "1"]
        return self.run(self.command(argv, inside))

    @staticmethod
    def stressor(name: str, folder: str) -> list[str]:
        """Its command, but for the time."""
        return ["stress-ng", f"--{name}", "2", "--verify", "--temp-path", folder]

    def run(self, command: list[str]) -> Outcome:
        """What becomes of it."""
        try:
            done = subprocess.run(
                command,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self.seconds + self.limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return Outcome(FAIL, f"{(error.output or b'').decode()[-SHOWN:]}\nno end after {error.timeout:.0f} s")
        return stress_outcome(done.returncode, done.stdout.decode(errors="replace"))


def stress_outcome(status: int, output: str) -> Outcome:
    """What stress-ng's status and output mean: it also says of failures that do not change its status."""
    bad = [line for line in output.splitlines() if re.search(r"(fail|error):|^leak", line)]
    if re.search(r"skipp|unsupported|not supported", output) and not any("fail:" in line for line in bad):
        return Outcome(SKIP, output[-SHOWN:])
    if status != 0 or bad:
        return Outcome(FAIL, "\n".join(bad)[-SHOWN:] or f"{output[-SHOWN:]}\nstatus {status}")
    return Outcome(OK)


@dataclass(frozen=True)
class SealedStressSuite(StressSuite):
    """Stressors whose files lie on a sealed store, which must be whole afterwards."""

    # Bytes of the store; and where its mount, or the folder of the native run, is.
    SIZE: ClassVar[str] = "2G"
    MOUNT: ClassVar[str] = "/sealed"
    BEHIND: ClassVar[str] = " on a sealed store"

    def list_cases(self, member: str) -> tuple[str, ...]:
        return (member + self.BEHIND,)

    def run_case(self, case: str, inside: bool) -> Outcome:
        """One stressor, on a store of its own. What the store keeps in memory is no leak."""
        name = case.removesuffix(self.BEHIND)
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            if not inside:
                return self.run([*self.stressor(name, folder), "--timeout", "1"])
            key, store = f"{folder}/key", f"{folder}/store"
            of_store = ["--image-key", key, store]
            for command in (["gen-image-key", key], ["fs", "mkfs", "--size", self.SIZE, *of_store]):
                subprocess.run([OCCLUM, *command], stdout=subprocess.DEVNULL, check=True)
            mounted = replace(self, options=(*self.options, "--sealed", f"{store}:{self.MOUNT}", "--image-key", key))
            words = [*self.stressor(name, self.MOUNT), "--timeout", str(self.seconds)]
            outcome = self.run(mounted.command(words, inside))
            check = subprocess.run([OCCLUM, "fs", "fsck", *of_store], capture_output=True, text=True, check=False)
        return outcome if check.returncode == 0 else Outcome(FAIL, f"fsck: {check.stdout}{check.stderr}")


@dataclass(frozen=True)
class PytestSuite(Suite):
    """This project's own tests of other people's programs: each compares with a native run itself."""

    PYTEST: ClassVar[tuple[str, ...]] = (str(ROOT / ".venv/bin/python"), "-m", "pytest", "-p", "no:cacheprovider")

    def list_cases(self, member: str) -> tuple[str, ...]:
        argv = [*self.PYTEST, "--collect-only", "-q", member]
        done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        return tuple(line for line in done.stdout.splitlines() if "::" in line)

    def run_cases(self, member: str, cases: Sequence[str], inside: bool) -> dict[str, Outcome]:  # noqa: ARG002
        if not inside:
            return {case: Outcome(OK) for case in cases}
        return {case: self.run_case(case) for case in cases}

    def run_case(self, case: str) -> Outcome:
        """One test."""
        argv = [*self.PYTEST, "-q", "--tb=short", case]
        done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        result = OK if done.returncode == 0 else FAIL
        return Outcome(SKIP if re.search(r"^1 skipped", done.stdout, re.MULTILINE) else result, done.stdout[-SHOWN:])


@dataclass(frozen=True)
class ScriptSuite(Suite):
    """Test scripts of a Debian source, found by patterns; a case is a script, and passes if `run` ends with 0."""

    source: str = ""
    # Shell commands in the source's folder: once after unpacking, and for the script $1.
    prepare: str = "true"
    run: str = ""

    def tree(self) -> Path:
        """The source, prepared."""
        tree = fetch(self.source)
        done = tree / ".prepared"
        if not done.exists():
            subprocess.run(["sh", "-ec", self.prepare], cwd=tree, env=environment(), check=True)
            done.touch()
        return tree

    def list_cases(self, member: str) -> tuple[str, ...]:
        tree = self.tree()
        return tuple(sorted(f"{self.source}/{path.relative_to(tree)}" for path in tree.glob(member)))

    def run_cases(self, member: str, cases: Sequence[str], inside: bool) -> dict[str, Outcome]:  # noqa: ARG002
        """In a copy of the source, which scripts may change."""
        with tempfile.TemporaryDirectory() as place:
            tree = shutil.copytree(self.tree(), Path(place) / "tree", symlinks=True)
            return {case: self.run_case(tree, case.removeprefix(f"{self.source}/"), inside) for case in cases}

    def run_case(self, tree: Path, script: str, inside: bool) -> Outcome:
        """One script."""
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                self.command(["sh", "-c", self.run, "sh", script], inside),
                cwd=tree,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                ended = f"status {process.wait(timeout=self.limit)}"
            except subprocess.TimeoutExpired:
                ended = f"no end after {self.limit:.0f} s"
            finally:
                kill_group(process)
            output.seek(max(0, output.seek(0, os.SEEK_END) - SHOWN))
            text = output.read().decode(errors="replace")
        return Outcome(OK if ended == "status 0" else FAIL, f"{text}\n{ended}")


KINDS: dict[str, type[Suite]] = {
    "python": PythonSuite,
    "stress": StressSuite,
    "sealed-stress": SealedStressSuite,
    "scripts": ScriptSuite,
    "tests": PytestSuite,
}


def read_suites() -> list[Suite]:
    """All rows of suites.toml."""
    with (CONFORMANCE / "suites.toml").open("rb") as file:
        rows: list[dict[str, Any]] = tomllib.load(file)["suite"]
    suites = []
    for row in rows:
        made = KINDS[row.pop("kind")]
        lists = {key: tuple(value) for key, value in row.items() if isinstance(value, list)}
        suites.append(made(**(row | lists)))
    return suites


def environment() -> dict[str, str]:
    """What both sides get: nothing of the tester's shell."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }


def reports(argv: Sequence[str], limit: float) -> Iterator[dict[str, str]]:
    """The reports of one process. One that hangs is killed, and the case that it had begun is reported as a failure."""
    started, why = "", ""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(),
            start_new_session=True,
        )
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
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - SHOWN))
            tail = errors.read().decode(errors="replace")
            yield {"end": started, "result": FAIL, "text": f"{tail}\n{why or f'ended with {process.returncode}'}"}


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
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
            return
        elif time.monotonic() > end:
            raise TimeoutError


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and what is left of its session's first group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
