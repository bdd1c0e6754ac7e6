#!/usr/bin/env python3
"""Takes checks out one at a time and asks the tests: a mutant that they accept is a survivor.

    tools/mutate.py verifier     the verifier's source, one condition at a time, against the crate's tests
    tools/mutate.py boundary     what the LibOS checks of OCALL results and of user pointers, against hostile hosts,
                                 hostile guests and `tests/security/src/pointers.c`

Works on a copy of the tree in a temporary directory, on what is committed or not. Survivors are printed and, with
`--record`, listed on a page of docs/records, to be argued away (`EQUIVALENT` below) or to get a test. Either takes an
hour or two; `--only`, `--every` and `--seconds` make it less, and the record says so.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import hostile_host
import programs
import record
import syscall_fuzz
from record import ROOT

# What is replaced by what in both subjects.
OPERATORS = (
    (r" && ", " || "),
    (r"(?<=[)\w]) \|\| ", " && "),
    (r" <= ", " < "),
    (r" < ", " <= "),
    (r" >= ", " > "),
    (r" > ", " >= "),
)
# `require` is in here too: its condition becomes true.
VERIFIER = (
    *OPERATORS,
    (r" == ", " != "),
    (r" != ", " == "),
    (r"!(?=[a-z(])(?<![a-z_])", ""),
    (r"\brequire\((?!false)", "require(true || "),
    (r"\b8\.\.=", "9..="),
    (r"\.unsigned_abs\(\)", " as u32"),
)
# A check that is left out, either way, a bound that is not kept, a step that is not done.
BOUNDARY = (
    *OPERATORS,
    (r"\bif (?!let )([^{]+?) \{", r"if false && (\1) {"),
    (r"\bif (?!let )([^{]+?) \{", r"if true || (\1) {"),
    (r"(Some\(\w+\)) if [^=]+? =>", r"\1 =>"),
    (r"\.min\([^()]*(?:\([^()]*\)[^()]*)*\)", ""),
    (r"\.filter\(\|\w+\| [^|]*?\)\)", ""),
    (r"\bbounded\((.*), [^,]+\)$", r"Ok((\1) as usize)"),
    (r"\bcheck\(off, [^?]*\)\?;", ""),
    (r"^(\s+)(output\[n\.\.\]\.fill\(0\)|save_vectors\(\)|self\.scrub\(off, len\)|buf\.truncate\(n\));", r"\1"),
    (r"^(\s+)s\.mode &= .*;", r"\1"),
)
# Lines that are no condition: comments, attributes, types, tables.
SKIP = re.compile(
    r"^\s*(//|#|pub |use |fn |const fn |static |impl|\(\"|fixed\(|only\(|let mut out|assert!)|->|=> \w+,$|<'"
)
# Survivors that change nothing, by file and a part of the new line, and why.
EQUIVALENT: tuple[tuple[str, str, str], ...] = (
    ("uaccess.rs", "if end < domain::SIZE", "the last 16 MiB of a slot are never mapped: EFAULT all the same"),
)
# Classes that show what the checks of OCALL results are for, and runs of each.
FIELDS = ("length:", "descriptor:", "errno:", "metadata:")
RUNS = 2
FUZZ_S = 6


@dataclass(frozen=True)
class Mutant:
    """One changed place."""

    file: str
    line: int
    before: str
    after: str


@dataclass(frozen=True)
class Subject:
    """What is mutated, and the tests that have to notice, quick to slow."""

    title: str
    files: tuple[str, ...]
    changes: tuple[tuple[str, str], ...]
    steps: tuple[Callable[[Path, Mutant], bool], ...]


class Unviable(Exception):
    """The mutant does not build."""


def mutants(subject: Subject, only: str) -> Iterator[Mutant]:
    """Every change of every line that can carry one."""
    for file in subject.files:
        if only not in file:
            continue
        for number, line in enumerate((ROOT / file).read_text().splitlines()):
            if SKIP.search(line):
                continue
            for pattern, new in subject.changes:
                for found in re.finditer(pattern, line):
                    after = line[: found.start()] + found.expand(new) + line[found.end() :]
                    yield Mutant(file, number, line, after)


def run(tree: Path, command: list[str], seconds: float = 300) -> bool:
    """True if it succeeds in time: a mutant may loop for ever."""
    try:
        return subprocess.run(command, cwd=tree, capture_output=True, check=False, timeout=seconds).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def crate_test(name: str) -> Callable[[Path, Mutant], bool]:
    """One of the verifier's tests."""
    command = ["cargo", "test", "--offline", "--quiet", "-p", "occlum-sfi-verifier", "--test", name]
    return lambda tree, _: run(tree, command)


def image(tree: Path) -> Path:
    """Where the mutant's enclave image is."""
    return tree / "build" / "enclave" / "occlum-libos.elf"


def builds(tree: Path, _: Mutant) -> bool:
    """Builds the image, quickly rather than well."""
    quick = {"LTO": "off", "CODEGEN_UNITS": "16", "OPT_LEVEL": "1"}
    environment = os.environ | {f"CARGO_PROFILE_ENCLAVE_{key}": value for key, value in quick.items()}
    command = [sys.executable, "tools/build_enclave.py", "--no-check"]
    done = subprocess.run(command, cwd=tree, capture_output=True, check=False, env=environment)
    if done.returncode:
        raise Unviable
    return True


@functools.cache
def pointers() -> tuple[Path, bytes]:
    """The program of `pointers.c`, and what it says natively."""
    program = ROOT / ".cache" / "guest" / "pointers-mutation"
    program.parent.mkdir(parents=True, exist_ok=True)
    source = ROOT / "tests" / "security" / "src" / "pointers.c"
    subprocess.run(["gcc", "-O2", "-w", "-static", str(source), "-o", str(program)], check=True)
    return program, subprocess.run([program], capture_output=True, check=True).stdout


def answers_as_linux(tree: Path, _: Mutant) -> bool:
    """Pointers at every edge."""
    program, expected = pointers()
    command = [str(programs.example("run")), str(image(tree)), "-m", "512", str(program)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        return False
    return done.stdout == expected


@functools.cache
def bench(tree: Path) -> hostile_host.Bench:
    """Where runs under a hostile host find what they need."""
    folder = tree / "bench"
    folder.mkdir()
    tree.parent.chmod(0o755)
    tree.chmod(0o755)
    return hostile_host.Bench(folder, hostile_host.build(), image(tree))


def survives_hosts(tree: Path, _: Mutant) -> bool:
    """Lies about every OCALL's results."""
    place = bench(tree)
    shutil.copy(image(tree), place.image)
    fields = [f for f in hostile_host.fields() if f.startswith(FIELDS)]
    return not any(place.run(f, seed).problem for f in fields for seed in range(RUNS))


def survives_guests(tree: Path, _: Mutant) -> bool:
    """Hostile system calls."""
    return not syscall_fuzz.fuzz(1, FUZZ_S, 1 << 40, image(tree))[0]


SUBJECTS = {
    "verifier": Subject(
        "Checks of the verifier, one at a time",
        tuple(f"common/sfi-verifier/src/{name}.rs" for name in ("decode", "operand", "pattern", "lib")),
        VERIFIER,
        tuple(crate_test(name) for name in ("snippets", "corpus", "fuzz", "complete", "agreement")),
    ),
    "boundary": Subject(
        "Checks of OCALL results and user pointers, one at a time",
        (
            "enclave/libos/src/uaccess.rs",
            "enclave/libos/src/fs/host.rs",
            "enclave/rt/src/slot.rs",
            "enclave/rt/src/ocall.rs",
            "enclave/libos/src/fs/bind.rs",
        ),
        BOUNDARY,
        (builds, answers_as_linux, survives_guests, survives_hosts),
    ),
}


def survives(tree: Path, subject: Subject, mutant: Mutant) -> bool:
    """Runs the tests on the mutant until one fails."""
    file = tree / mutant.file
    original = file.read_text()
    lines = original.splitlines(keepends=True)
    lines[mutant.line] = mutant.after + "\n"
    file.write_text("".join(lines))
    try:
        return all(step(tree, mutant) for step in subject.steps)
    finally:
        file.write_text(original)


def argument(mutant: Mutant) -> str:
    """Why a survivor changes nothing, if that is known."""
    known = (why for file, part, why in EQUIVALENT if mutant.file.endswith(file) and part in mutant.after)
    return next(known, "")


@dataclass
class Result:
    """What came of it."""

    total: int
    ran: int = 0
    unviable: int = 0
    survivors: list[Mutant] | None = None

    def page(self, subject: Subject, commit: str, minutes: float) -> str:
        """The record."""
        survivors = self.survivors or []
        facts = [
            ("commit", commit),
            ("machine", record.machine()),
            ("minutes", f"{minutes:.0f}"),
            ("mutants", str(self.total)),
            ("of them ran", str(self.ran)),
            ("did not build", str(self.unviable)),
            ("noticed", str(self.ran - self.unviable - len(survivors))),
            ("survived", str(len(survivors))),
        ]
        text = f"# {subject.title} ({datetime.now(UTC):%Y-%m-%d})\n\n`tools/mutate.py`\n\n"
        text += record.table(facts, "what", "value") + "\n## Survivors\n\n"
        for m in survivors:
            why = argument(m) or "no argument yet"
            text += f"- `{m.file}:{m.line + 1}`: `{m.before.strip()}` became `{m.after.strip()}`: {why}\n"
        return text + ("" if survivors else "None.\n")


def mutate(options: argparse.Namespace, tree: Path) -> Result:
    """All mutants that were asked for, in the copy `tree`."""
    subject = SUBJECTS[options.subject]
    chosen = list(mutants(subject, options.only))
    result, begin, commit = Result(len(chosen), survivors=[]), time.monotonic(), record.commit()
    nothing = Mutant(subject.files[0], 0, "", (ROOT / subject.files[0]).read_text().splitlines()[0])
    if not survives(tree, subject, nothing):
        raise SystemExit("the tests fail without any change")
    for count, mutant in enumerate(chosen[:: options.every], 1):
        if time.monotonic() - begin > options.seconds:
            break
        result.ran += 1
        try:
            if survives(tree, subject, mutant):
                result.survivors = [*(result.survivors or []), mutant]
                place = f"{mutant.file}:{mutant.line + 1}"
                print(f"survived: {place}\n  - {mutant.before}\n  + {mutant.after}\n  {argument(mutant)}", flush=True)
        except Unviable:
            result.unviable += 1
        if count % 10 == 0:
            print(f"{count} of {len(chosen)}, {len(result.survivors or [])} survived", flush=True)
        if options.record:
            options.record.write_text(result.page(subject, commit, (time.monotonic() - begin) / 60))
    return result


def main() -> int:
    """0 if nothing survived for which there is no argument."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--only", default="", help="files whose name has this in it")
    parser.add_argument("--every", type=int, default=1, help="only every Nth mutant")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no mutant later than this")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    options = parser.parse_args()
    if options.list:
        for m in mutants(SUBJECTS[options.subject], options.only):
            print(f"{m.file}:{m.line + 1}\n  - {m.before.strip()}\n  + {m.after.strip()}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns("target", ".venv", ".git", ".cache", "build"))
        result = mutate(options, tree)
    survivors = result.survivors or []
    print(f"{result.ran} mutants, {result.unviable} of them did not build, {len(survivors)} survived")
    return 1 if any(not argument(m) for m in survivors) else 0


if __name__ == "__main__":
    sys.exit(main())
