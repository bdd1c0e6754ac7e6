"""Changes the verifier's source one condition at a time and asks its tests: a mutant that they accept is a survivor.

Works on a copy of the tree in a temporary directory. What survives is printed, to be argued away or to get a test.
Takes half an hour: `python3 tools/mutate_verifier.py [--only PART_OF_FILE_NAME]`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CRATE = Path("common") / "sfi-verifier"
FILES = ("decode.rs", "operand.rs", "pattern.rs", "lib.rs")
# What is replaced by what. `require` is in here too: its condition becomes true.
CHANGES = (
    (r" && ", " || "),
    (r" \|\| ", " && "),
    (r" == ", " != "),
    (r" != ", " == "),
    (r" <= ", " < "),
    (r" < ", " <= "),
    (r" >= ", " > "),
    (r" > ", " >= "),
    (r"!(?=[a-z(])(?<![a-z_])", ""),
    (r"\brequire\((?!false)", "require(true || "),
    (r"\b8\.\.=", "9..="),
    (r"\.unsigned_abs\(\)", " as u32"),
)
# Lines that are no condition: comments, attributes, types, tables.
SKIP = re.compile(
    r"^\s*(//|#|pub |use |fn |const fn |static |impl|\(\"|fixed\(|only\(|let mut out|assert!)|->|=> \w+,$|<'"
)
# Quick to slow; the first that fails settles it.
STEPS = (
    ["--test", "snippets"],
    ["--test", "corpus"],
    ["--test", "fuzz"],
    ["--test", "complete"],
    ["--test", "agreement"],
)


@dataclass(frozen=True)
class Mutant:
    """One changed place."""

    file: str
    line: int
    before: str
    after: str


def mutants(only: str) -> Iterator[Mutant]:
    """Every change of every line that can carry one."""
    for file in FILES:
        if only not in file:
            continue
        for number, line in enumerate((ROOT / CRATE / "src" / file).read_text().splitlines()):
            if SKIP.search(line):
                continue
            for pattern, new in CHANGES:
                for found in re.finditer(pattern, line):
                    yield Mutant(file, number, line, line[: found.start()] + new + line[found.end() :])


def run(tree: Path, arguments: list[str]) -> bool:
    """True if the tests pass."""
    command = ["cargo", "test", "--offline", "--quiet", "-p", "occlum-sfi-verifier", *arguments]
    # A mutant may loop for ever.
    try:
        return subprocess.run(command, cwd=tree, capture_output=True, check=False, timeout=300).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def survives(tree: Path, mutant: Mutant) -> bool:
    """Builds the mutant and runs the tests until one fails."""
    file = tree / CRATE / "src" / mutant.file
    original = file.read_text()
    lines = original.splitlines(keepends=True)
    lines[mutant.line] = mutant.after + "\n"
    file.write_text("".join(lines))
    try:
        return all(run(tree, step) for step in STEPS)
    finally:
        file.write_text(original)


def main() -> int:
    """0 if nothing survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="files whose name has this in it")
    chosen = list(mutants(parser.parse_args().only))
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns("target", ".venv", ".git", ".cache", "build"))
        for count, mutant in enumerate(chosen, 1):
            if survives(tree, mutant):
                survivors += 1
                print(f"survived: {mutant.file}:{mutant.line + 1}\n  - {mutant.before}\n  + {mutant.after}", flush=True)
            if count % 20 == 0:
                print(f"{count} of {len(chosen)}, {survivors} survived", flush=True)
    print(f"{len(chosen)} mutants, {survivors} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
