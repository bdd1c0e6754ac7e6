"""`occlum verify`: translate and verify ELF files ahead of time.

The work is `_native.verify_file`, which releases the interpreter lock; here are the walk over trees, the threads, the
report and the exit status.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

from occlum import _native
from occlum.cli import fail
from occlum.cli.progress import counted

EXIT_REFUSED = 1
_MEGABYTE = 1e6


@dataclass
class Result:
    """One file: what the verifier says, or why it could not be asked."""

    path: str
    verified: _native.Verified | None = None
    error: str = ""
    targets: _native.Targets | None = None

    @property
    def kind(self) -> str:
        """The word for the report."""
        return self.verified.kind if self.verified else "unreadable"

    def as_json(self) -> dict[str, object]:
        """The file's part of `--json`."""
        if self.verified is None:
            return {"path": self.path, "status": self.kind, "reason": self.error}
        entry: dict[str, object] = {"path": self.path, "status": self.kind}
        if self.kind == "skipped":
            return entry | {"reason": self.verified.reason}
        for name in ("fragments", "source_bytes", "code_bytes"):
            entry[name] = getattr(self.verified, name)
        if self.targets:
            entry["cfi"] = targets_as_json(self.targets)
        if self.verified.violation:
            entry["violation"] = _violation_as_json(self.verified.violation)
        return entry


_TARGETS = ("boundaries", "returns", "branches", "strict_branches")


def targets_as_json(targets: _native.Targets) -> dict[str, int]:
    """How many places of a file control may go to."""
    return {name: getattr(targets, name) for name in _TARGETS}


def _violation_as_json(violation: _native.Violation) -> dict[str, object]:
    names = ("offset", "address", "disassembly", "check", "invariant", "reason")
    return {name: getattr(violation, name) for name in names} | {"bytes": violation.code.hex()}


@dataclass
class Totals:
    """Sums over all files."""

    kinds: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    fragments: int = 0
    source_bytes: int = 0
    code_bytes: int = 0
    targets: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        """Counts one file."""
        self.kinds[result.kind] += 1
        if result.verified is not None:
            if result.kind == "skipped":
                self.skipped[result.verified.reason] += 1
            self.fragments += result.verified.fragments
            self.source_bytes += result.verified.source_bytes
            self.code_bytes += result.verified.code_bytes
        if result.targets is not None:
            self.targets.update(targets_as_json(result.targets))

    @property
    def is_good(self) -> bool:
        """Something was verified, and nothing refused."""
        return bool(self.kinds["accepted"]) and not self.kinds["refused"] and not self.kinds["unreadable"]

    def as_json(self) -> dict[str, object]:
        """The sums of `--json`."""
        kinds = {kind: self.kinds[kind] for kind in ("accepted", "refused", "skipped", "unreadable")}
        sums = {"fragments": self.fragments, "source_bytes": self.source_bytes, "code_bytes": self.code_bytes}
        cfi = {"cfi": dict(self.targets)} if self.targets else {}
        return {**kinds, "skipped_because": dict(self.skipped), **sums, **cfi}


def find_files(paths: Sequence[str]) -> Iterator[str]:
    """The named files, and the regular files under the named directories, each once however many names it has."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        for name in _walk(path) if Path(path).is_dir() else [path]:
            try:
                status = Path(name).stat()
            except OSError:
                yield name  # reading it says what is wrong
                continue
            key = (status.st_dev, status.st_ino)
            if stat.S_ISREG(status.st_mode) and key not in seen:
                seen.add(key)
                yield name


def _walk(top: str) -> Iterator[str]:
    """Regular files below a directory in order of name; links are not followed."""
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)  # noqa: PTH118 (Path is five times slower over a whole system)
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG(os.lstat(path).st_mode):
                    yield path


def verify_one(path: str, cfi: bool = False) -> Result:
    """Verifies one file; what the system says is part of the result. `cfi`: counts its targets, too."""
    try:
        result = Result(path, _native.verify_file(path))
        if cfi and result.kind != "skipped":
            result.targets = _native.count_targets(path)
        return result
    except OSError as error:
        return Result(path, error=str(error).partition(" (os error")[0])


def _line(result: Result) -> str:
    """What people read of one file."""
    if result.verified is None:
        return f"unreadable {result.path}: {result.error}"
    if violation := result.verified.violation:
        return (
            f"refused    {result.path}\n"
            f"  code at {violation.offset:#x}, translated to {violation.address:#x}: {violation.disassembly}\n"
            f"  [{violation.code.hex(' ')}] {violation.invariant}, {violation.check}: {violation.reason}"
        )
    if result.kind == "skipped":
        return f"skipped    {result.path}: {result.verified.reason}"
    size = result.verified.source_bytes / _MEGABYTE
    line = f"accepted   {result.path} ({size:.2f} MB of code, {result.verified.fragments} fragments)"
    return line + (f"\n  {_targets(targets_as_json(result.targets))}" if result.targets else "")


def _targets(counts: Mapping[str, int]) -> str:
    """The levels of control-flow integrity, as what they leave of a file's instructions."""
    whole = counts["boundaries"] or 1

    def left(name: str) -> str:
        return f"{counts[name]} ({counts[name] / whole:.1%})"

    return (
        f"{counts['boundaries']} instructions; returns go to {left('returns')}; "
        f"calls and jumps: default {left('branches')}, strict {left('strict_branches')}"
    )


def _summary(totals: Totals, seconds: float) -> str:
    cfi = f"\n{_targets(totals.targets)}" if totals.targets else ""
    kinds = ", ".join(f"{totals.kinds[kind]} {kind}" for kind in ("accepted", "refused", "skipped"))
    if totals.kinds["unreadable"]:
        kinds += f", {totals.kinds['unreadable']} unreadable"
    source, code = totals.source_bytes / _MEGABYTE, totals.code_bytes / _MEGABYTE
    return (
        f"{kinds}; {source:.1f} MB of code became {code:.1f} MB in {totals.fragments} fragments; {seconds:.1f} s{cfi}"
    )


@click.command("verify", short_help="Check that programs can be confined, without running them.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
@click.option("--cfi", is_flag=True, help="Count where control may go at each level of --cfi.")
@click.option("-q", "--quiet", is_flag=True, help="Only what is refused, and the summary.")
@click.option("-j", "--jobs", type=click.IntRange(1), metavar="N", help="Threads.  [default: one for each CPU]")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True), metavar="PATH...")
def command(as_json: bool, cfi: bool, quiet: bool, jobs: int | None, paths: Sequence[str]) -> int:
    """Translate the code of ELF files and verify every byte of the result.

    A PATH is a file, or a directory that is searched. Nothing is run, and no enclave is started: each executable
    section is translated as `occlum try` would do it, and the translation is given to the same verifier that the
    enclave asks before code can execute. A file is accepted, or refused with the first violation: the instruction,
    the invariant (V1 to V14) that does not hold, and where the program's code is. Files that are not ELF files for
    x86-64 are skipped; a file with many names counts once.

    \b
      occlum verify /bin/busybox
      occlum verify /usr/bin /usr/lib/x86_64-linux-gnu
      occlum verify --cfi /bin/bash
      occlum verify --json app.so | jq '.files[] | select(.status == "refused")'

    The exit status is 0 if all files are accepted; 1 if one is refused or cannot be read, or there was nothing to
    verify.
    """
    named = {path for path in paths if not Path(path).is_dir()}
    files = list(find_files(paths))
    totals, entries = Totals(), []
    begin = time.monotonic()
    with (
        ThreadPoolExecutor(jobs or os.cpu_count()) as pool,
        counted(len(files), len(files) > 1 and not as_json) as advance,
    ):
        try:
            for result in pool.map(partial(verify_one, cfi=cfi), files):
                advance(Path(result.path).name)
                totals.add(result)
                if as_json:
                    entries.append(result.as_json())
                elif _is_shown(result, quiet, result.path in named):
                    click.echo(_line(result))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if as_json:
        click.echo(json.dumps({"files": entries, "totals": totals.as_json()}, indent=2))
    else:
        click.echo(_summary(totals, time.monotonic() - begin))
        if not totals.kinds["accepted"] and not totals.kinds["refused"]:
            fail("no ELF file for x86-64 with code among them", "OC405")
    return 0 if totals.is_good else EXIT_REFUSED


def _is_shown(result: Result, quiet: bool, is_named: bool) -> bool:
    """Whether people see a line for this file: what is wrong always, what is skipped only if they named it."""
    if result.kind in ("refused", "unreadable"):
        return True
    return not quiet and (result.kind == "accepted" or is_named)
