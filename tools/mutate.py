#!/usr/bin/env python3
"""Takes checks out one at a time and asks the tests: a mutant that they accept is a survivor.

    tools/mutate.py verifier     the verifier's source, one condition at a time, against the crate's tests
    tools/mutate.py boundary     what the LibOS checks of OCALL results and of user pointers, against the runtime's
                                 self-test, hostile hosts, hostile guests, and programs that must end as natively

Works on a copy of the tree, on what is committed or not. All mutants are compiled at once where that goes (`schemata`),
so that each costs only tests: the most telling first, to the first that notices. Survivors are printed and, with
`--record`, listed on a page of docs/records, to be argued away (`equivalent.toml`) or to get a test. `--only`,
`--every` and `--seconds` make it less, and the record says so.
"""

from __future__ import annotations

import argparse
import functools
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import hostile_host
import programs
import record
import schemata
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
EQUIVALENT = tomllib.loads((ROOT / "tools" / "equivalent.toml").read_text())["mutant"]
# Classes that show what the checks of OCALL results are for, and runs of each.
FIELDS = ("length:", "descriptor:", "errno:", "metadata:", "time:", "event:")
RUNS = 4
ROUNDS = 400
# Where guests' pointers are checked: hostile guests run so long.
GUESTS = ("uaccess.rs", "slot.rs")
FUZZ_S = 2
# What the runtime's self-test asks a host that refuses; it says at once when the lies are to begin.
REFUSALS = ("errno:MemProtect", tuple(range(12)))
# For the gate itself.
GATE = {"Pread", "Readlink", "Stat", "NetRecv", "MemProtect", "Wait"}


@dataclass(frozen=True)
class Mutant:
    """One changed place. Numbers begin at 1; 0 is no change at all."""

    number: int
    file: str
    line: int
    before: str
    after: str


@dataclass(frozen=True)
class Bench:
    """Where one worker runs mutants: the built binaries, a folder of its own for copies of them."""

    binaries: dict[str, Path]
    folder: Path

    def binary(self, name: str, number: int) -> Path:
        """The binary, with a mutant selected if it has several."""
        copy = self.folder / name
        if number:
            return schemata.select(self.binaries[name], number, copy)
        copy.unlink(missing_ok=True)
        return Path(shutil.copy(self.binaries[name], copy))


@dataclass(frozen=True)
class Subject:
    """What is mutated, and the tests that have to notice, quick to slow."""

    title: str
    files: tuple[str, ...]
    changes: tuple[tuple[str, str], ...]
    # The file that gets the number's module, and what reads the number, by the begin of a path.
    module: str
    selected: tuple[tuple[str, str], ...]
    build: Callable[[Path], tuple[dict[str, Path], str]]
    steps: dict[str, Callable[[Bench, Mutant, int], bool]]
    # Makes ready what a worker needs in its folder.
    prepare: Callable[[Path], object] = lambda _: None


def mutants(subject: Subject, only: str) -> Iterator[Mutant]:
    """Every change of every line that can carry one."""
    number = 0
    for file in subject.files:
        for line, text in enumerate((ROOT / file).read_text().splitlines()):
            if SKIP.search(text):
                continue
            seen = {text}
            for pattern, new in subject.changes:
                for found in re.finditer(pattern, text):
                    after = text[: found.start()] + found.expand(new) + text[found.end() :]
                    if after in seen:
                        continue
                    seen.add(after)
                    number += 1
                    if only in file:
                        yield Mutant(number, file, line, text, after)


def run(command: list[str], folder: Path, seconds: float = 300) -> bool:
    """True if it succeeds in time: a mutant may loop for ever."""
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=seconds).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def target() -> Path:
    """Where mutants are compiled: dependencies stay from run to run."""
    return ROOT / "target" / "mutation"


def build_tests(tree: Path) -> tuple[dict[str, Path], str]:
    """The verifier's test programs by name, or what the compiler says."""
    command = ["cargo", "test", "--offline", "--no-run", "-p", "occlum-sfi-verifier", "--target-dir", str(target())]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    found = re.findall(r"Executable tests/(\w+)\.rs \((.*)\)", done.stderr)
    return {name: tree / path for name, path in found} if done.returncode == 0 else {}, done.stderr


def crate_test(name: str) -> Callable[[Bench, Mutant, int], bool]:
    """One of the verifier's test programs."""
    folder = ROOT / "common" / "sfi-verifier"
    return lambda bench, _, number: run([str(bench.binary(name, number))], folder)


def build_image(tree: Path) -> tuple[dict[str, Path], str]:
    """The enclave image and the runtime's self-test, compiled quickly rather than well, or what the compiler says."""
    quick = {"LTO": "off", "CODEGEN_UNITS": "64", "OPT_LEVEL": "1", "INCREMENTAL": "true"}
    environment = os.environ | {f"CARGO_PROFILE_ENCLAVE_{key}": value for key, value in quick.items()}
    built = {}
    for name, options in (("image", []), ("selftest", ["--example", "selftest"])):
        built[name] = tree / f"{name}.elf"
        command = [sys.executable, "tools/build_enclave.py", "--no-check", "--target-dir", str(target()), *options]
        command += ["--output", str(built[name])]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            return {}, done.stderr
    return built, ""


def tests_itself(bench: Bench, mutant: Mutant, number: int) -> bool:
    """The runtime, asked directly."""
    if "enclave/rt/" not in mutant.file:
        return True
    image = bench.binary("selftest", number)
    command = [str(hostile_host.build()), str(image), hostile_host.HONEST, "1", "60", "selftest"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except subprocess.TimeoutExpired:
        return False
    return "selftest: all ok" in done.stderr and refusals(image) == expected_refusals(bench.binaries["selftest"])


def refusals(image: Path) -> list[str]:
    """What the self-test says of a host that does not give memory or take it back: it follows from the seed alone."""
    field, seeds = REFUSALS
    said = []
    for seed in seeds:
        command = [str(hostile_host.build()), str(image), field, str(seed), "60", "refused"]
        try:
            said.append(subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stderr)
        except subprocess.TimeoutExpired:
            said.append("")
    return said


@functools.cache
def expected_refusals(image: Path) -> list[str]:
    """The same without a mutant: none is selected in what was built."""
    return refusals(image)


@functools.cache
def compiled(source: str) -> Path:
    """A test program."""
    program = ROOT / ".cache" / "guest" / f"{Path(source).stem}-mutation"
    program.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O2", "-w", "-static", "-pthread", str(ROOT / source), "-o", str(program)], check=True)
    return program


@functools.cache
def natively(program: tuple[str, ...]) -> tuple[int, bytes]:
    """How it ends natively, and what it says."""
    done = subprocess.run(program, capture_output=True, check=False)
    return done.returncode, done.stdout


def runs_like(source: str, *arguments: str, memory: int = 512) -> Callable[[Bench, Mutant, int], bool]:
    """A test program that ends as it does natively."""

    def step(bench: Bench, _: Mutant, number: int) -> bool:
        program = (str(compiled(source)), *arguments)
        image = bench.binary("image", number)
        command = [str(programs.example("run")), str(image), "-m", str(memory), *program]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=120)
        except subprocess.TimeoutExpired:
            return False
        return (done.returncode, done.stdout) == natively(program)

    return step


def survives_want(bench: Bench, mutant: Mutant, number: int) -> bool:
    """The LibOS's memory ends, in arguments of programs among others."""
    if not mutant.file.endswith(GUESTS):
        return True
    program = str(compiled("tests/guest/src/exhaust.c"))
    command = [str(programs.example("run")), str(bench.binary("image", number)), "-m", "64", program]
    return all(run([*command, case], bench.folder) for case in ("the_libos_runs_out", "pages_run_out"))


@functools.cache
def host_bench(folder: Path) -> hostile_host.Bench:
    """Where runs under a hostile host find what they need."""
    here = folder / "bench"
    here.mkdir()
    for reachable in (here, folder, folder.parent):
        reachable.chmod(0o755)
    return hostile_host.Bench(here, hostile_host.build(), rounds=ROUNDS)


@functools.cache
def file_calls() -> dict[str, set[str]]:
    """The OCALLs that each function of `fs::host` makes."""
    source = (ROOT / "enclave/libos/src/fs/host.rs").read_text()
    parts = re.split(r"^pub fn (\w+)", source, flags=re.MULTILINE)
    return {name: named_calls(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def named_calls(text: str) -> set[str]:
    """OCALLs by name."""
    return set(re.findall(r"Ocall::(\w+)", text))


def calls_of(mutant: Mutant) -> set[str]:
    """The OCALLs that the changed function makes, or all of its file; through the gate go all."""
    if mutant.file.endswith("ocall.rs"):
        return GATE
    source = (ROOT / mutant.file).read_text()
    start = schemata.offsets(source)[mutant.line]
    around = [f for f in schemata.functions(source) if f.start <= start < f.end]
    text = source[around[-1].start : around[-1].end] if around else ""
    of_files = (file_calls().get(name, set()) for name in re.findall(r"\bhost::(\w+)\(", text))
    return named_calls(text).union(*of_files) or named_calls(source)


def works_as_natively(bench: Bench, mutant: Mutant, number: int) -> bool:
    """Folders and sockets of an honest host, and none of them where there are to be none."""
    if mutant.file.endswith(GUESTS):
        return True
    place = host_bench(bench.folder)
    shutil.copy(bench.binary("image", number), place.image)
    try:
        return place.answers_as_natively() and place.keeps_what_is_read_only() and place.stays_alone()
    except subprocess.TimeoutExpired:
        return False


def survives_hosts(bench: Bench, mutant: Mutant, number: int) -> bool:
    """Lies about the results of the OCALLs that the mutant has to do with."""
    place = host_bench(bench.folder)
    shutil.copy(bench.binary("image", number), place.image)
    calls = calls_of(mutant)
    wanted = [f for f in hostile_host.fields() if f.startswith(FIELDS) and f.partition(":")[2] in calls]
    return not any(place.run(f, seed).problem for seed in range(RUNS) for f in wanted)


def survives_guests(bench: Bench, mutant: Mutant, number: int) -> bool:
    """Hostile system calls, where guests' pointers are checked."""
    if not mutant.file.endswith(GUESTS):
        return True
    return not syscall_fuzz.fuzz(1, FUZZ_S, 1 << 40, bench.binary("image", number))[0]


SUBJECTS = {
    "verifier": Subject(
        "Checks of the verifier, one at a time",
        tuple(f"common/sfi-verifier/src/{name}.rs" for name in ("decode", "operand", "pattern", "lib")),
        VERIFIER,
        "common/sfi-verifier/src/lib.rs",
        (("", "crate::mutant::selected()"),),
        build_tests,
        {name: crate_test(name) for name in ("snippets", "corpus", "fuzz", "agreement", "complete")},
    ),
    "boundary": Subject(
        "Checks of OCALL results and user pointers, one at a time",
        (
            "enclave/libos/src/uaccess.rs",
            "enclave/libos/src/fs/host.rs",
            "enclave/libos/src/net/host.rs",
            "enclave/rt/src/slot.rs",
            "enclave/rt/src/ocall.rs",
            "enclave/libos/src/fs/bind.rs",
            "enclave/libos/src/time.rs",
        ),
        BOUNDARY,
        "enclave/rt/src/lib.rs",
        (("enclave/rt", "crate::mutant::selected()"), ("", "occlum_rt::mutant::selected()")),
        build_image,
        {
            "selftest": tests_itself,
            "pointers": runs_like("tests/security/src/pointers.c"),
            "futexes": runs_like("tests/guest/src/futexes.c", "wake_op"),
            "honest": works_as_natively,
            "hosts": survives_hosts,
            "guests": survives_guests,
            "want": survives_want,
        },
        host_bench,
    ),
}


def write(tree: Path, subject: Subject, chosen: list[Mutant]) -> tuple[set[int], dict[str, dict[int, int]]]:
    """Weaves the mutants into the copy's sources: those that could be, and whose each line of a file is."""
    woven: set[int] = set()
    owners = {}
    for file in subject.files:
        changes = [schemata.Change(m.number, m.line, m.after) for m in chosen if m.file == file]
        selected = next(text for begin, text in subject.selected if file.startswith(begin))
        text, done, owners[file] = schemata.weave((ROOT / file).read_text(), changes, selected)
        woven |= done
        (tree / file).write_text(text)
    module = tree / subject.module
    source = module if subject.module in subject.files else ROOT / subject.module
    module.write_text(source.read_text() + schemata.MODULE)
    return woven, owners


def blamed(errors: str, owners: dict[str, dict[int, int]]) -> set[int]:
    """The mutants in whose lines the compiler found errors."""
    found = re.findall(r"^error.*\n\s*--> (?:/occlum/)?(\S+?):(\d+):", errors, re.MULTILINE)
    return {owners[file][int(line) - 1] for file, line in found if int(line) - 1 in owners.get(file, {})}


def build_all(tree: Path, subject: Subject, chosen: list[Mutant]) -> tuple[dict[str, Path], set[int]]:
    """One build with as many mutants as compile together; which they are."""
    left = chosen
    while True:
        woven, owners = write(tree, subject, left)
        binaries, errors = subject.build(tree)
        if binaries:
            return binaries, woven
        bad = blamed(errors, owners)
        if not bad:
            raise SystemExit(f"the mutants do not build together:\n{errors[-3000:]}")
        left = [m for m in left if m.number not in bad]


def build_one(tree: Path, subject: Subject, mutant: Mutant) -> dict[str, Path]:
    """A build with one mutant; nothing if it does not compile."""
    for file in {*subject.files, subject.module}:
        (tree / file).write_text((ROOT / file).read_text())
    lines = (ROOT / mutant.file).read_text().splitlines(keepends=True)
    lines[mutant.line] = mutant.after + "\n"
    (tree / mutant.file).write_text("".join(lines))
    return subject.build(tree)[0]


def argument(mutant: Mutant) -> str:
    """Why a survivor changes nothing, if that is known."""
    known = (
        e["why"]
        for e in EQUIVALENT
        if mutant.file.endswith(e["file"]) and e["change"] in mutant.after and e.get("before", "") in mutant.before
    )
    return next(known, "")


@dataclass
class Result:
    """What came of it."""

    total: int
    unviable: int = 0
    noticed: Counter[str] = field(default_factory=Counter)
    survivors: list[Mutant] = field(default_factory=list)

    @property
    def ran(self) -> int:
        """Mutants of which it is known what became of them."""
        return self.unviable + self.noticed.total() + len(self.survivors)

    def note(self, mutant: Mutant, by: str) -> None:
        """A mutant was noticed by a test, or survived."""
        if by:
            self.noticed[by] += 1
            return
        self.survivors.append(mutant)
        place = f"{mutant.file}:{mutant.line + 1}"
        print(f"survived: {place}\n  - {mutant.before}\n  + {mutant.after}\n  {argument(mutant)}", flush=True)

    def page(self, subject: Subject, commit: str, minutes: float) -> str:
        """The record."""
        facts = [
            ("commit", commit),
            ("machine", record.machine()),
            ("minutes", f"{minutes:.0f}"),
            ("mutants", str(self.total)),
            ("of them ran", str(self.ran)),
            ("did not build", str(self.unviable)),
            *((f"noticed by *{name}*", str(self.noticed[name])) for name in subject.steps),
            ("survived", str(len(self.survivors))),
        ]
        text = f"# {subject.title} ({datetime.now(UTC):%Y-%m-%d})\n\n"
        text += "`tools/mutate.py`; the first test that noticed counts.\n\n"
        text += record.table(facts, "what", "value") + "\n## Survivors\n\n"
        for m in sorted(self.survivors, key=lambda m: m.number):
            why = argument(m) or "no argument yet"
            text += f"- `{m.file}:{m.line + 1}`: `{m.before.strip()}` became `{m.after.strip()}`: {why}\n"
        return text + ("" if self.survivors else "None.\n")


@dataclass
class Session:
    """One run of the tool."""

    options: argparse.Namespace
    subject: Subject
    folder: Path
    result: Result
    begin: float = field(default_factory=time.monotonic)
    commit: str = field(default_factory=record.commit)
    lock: threading.Lock = field(default_factory=threading.Lock)
    # Made before the workers run: a program that one copies, the fork of another one could hold open.
    folders: queue.SimpleQueue[Path] = field(default_factory=queue.SimpleQueue)

    def prepare(self) -> None:
        """A folder for each worker."""
        for _ in range(self.options.jobs):
            here = Path(tempfile.mkdtemp(dir=self.folder))
            self.subject.prepare(here)
            self.folders.put(here)

    def notices(self, binaries: dict[str, Path], mutant: Mutant, number: int) -> str:
        """The first test that notices, or nothing."""
        here = self.folders.get()
        try:
            bench = Bench(binaries, here)
            return next((name for name, step in self.subject.steps.items() if not step(bench, mutant, number)), "")
        finally:
            self.folders.put(here)

    def try_mutant(self, binaries: dict[str, Path], mutant: Mutant, number: int) -> None:
        """Runs the tests on a mutant, if there is time, and notes what came of it."""
        if time.monotonic() - self.begin > self.options.seconds:
            return
        by = self.notices(binaries, mutant, number)
        with self.lock:
            self.result.note(mutant, by)
            self.save()

    def save(self) -> None:
        """What is known so far."""
        if self.result.ran % 10 == 0:
            print(f"{self.result.ran} of {self.result.total}, {len(self.result.survivors)} survived", flush=True)
        if self.options.record:
            minutes = (time.monotonic() - self.begin) / 60
            self.options.record.write_text(self.result.page(self.subject, self.commit, minutes))


def mutate(options: argparse.Namespace, folder: Path) -> Result:
    """All mutants that were asked for, in a copy of the tree."""
    subject = SUBJECTS[options.subject]
    tree = folder / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns("target", ".venv", ".git", ".cache", "build"))
    chosen = list(mutants(subject, options.only))[:: options.every]
    session = Session(options, subject, folder, Result(len(chosen)))
    binaries, woven = build_all(tree, subject, chosen)
    session.prepare()
    if by := session.notices(binaries, Mutant(0, subject.files[0], 0, "", ""), 0):
        raise SystemExit(f"{by} fails without any change")
    with ThreadPoolExecutor(options.jobs) as pool:
        running = [pool.submit(session.try_mutant, binaries, m, m.number) for m in chosen if m.number in woven]
        for future in running:
            future.result()
    for m in (m for m in chosen if m.number not in woven):
        if time.monotonic() - session.begin > options.seconds:
            break
        if alone := build_one(tree, subject, m):
            session.try_mutant(alone, m, 0)
        else:
            session.result.unviable += 1
            session.save()
    return session.result


def main() -> int:
    """0 if nothing survived for which there is no argument."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--only", default="", help="files whose name has this in it")
    parser.add_argument("--every", type=int, default=1, help="only every Nth mutant")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no mutant later than this")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time (default: 1)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    options = parser.parse_args()
    if options.list:
        for m in mutants(SUBJECTS[options.subject], options.only):
            print(f"{m.file}:{m.line + 1}\n  - {m.before.strip()}\n  + {m.after.strip()}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        result = mutate(options, Path(folder))
    print(f"{result.ran} mutants, {result.unviable} of them did not build, {len(result.survivors)} survived")
    return 1 if any(not argument(m) for m in result.survivors) else 0


if __name__ == "__main__":
    sys.exit(main())
