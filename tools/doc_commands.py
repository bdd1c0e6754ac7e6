"""Runs what README, tutorial, guides and other pages show, so that they stay true.

A page is run from its beginning to its end in one shell, in an empty directory and an empty home:

    ```console            each line that begins with `$ ` is a command, `> ` goes on with it; lines behind it are its
                          output, where a line `...` stands for any number of lines and `...` in a line for any text
    ```python title="f"   written to the file f, as is any other block with a title
    ```python             run as a program

A command has to succeed, unless a line `# exit status N` stands first in its output. An HTML comment in front of a
block says what is special about it: `<!-- run: fresh-clone -->` (only where a whole build is due, by `make
tutorial-test`), and `<!-- run: no, because ... -->`. What is not run has to give such a reason.

    tools/doc_commands.py [--fresh-clone] [PAGE...]
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^( *)```(\w*)(?: title=\"([^\"]+)\")?\s*$")
DIRECTIVE = re.compile(r"^ *<!-- run: (fresh-clone|no, because .+) -->$")
STATUS = re.compile(r"^# exit status (\d+)$")
TIMEOUT_S = 300
# Of the page that builds everything; ten minutes are enough on a machine that does nothing else.
BUILD_TIMEOUT_S = 3600


@dataclass
class Step:
    """One thing to do: a command of the shell, and what the page says comes out."""

    line: int
    command: str
    expected: list[str]
    status: int = 0
    fresh_clone: bool = False


@dataclass
class Block:
    """A fenced block: its first line's number, language, title, text, and the directive before it."""

    line: int
    language: str
    title: str
    text: list[str]
    directive: str


def pages() -> list[Path]:
    """All pages whose commands are run."""
    return [
        ROOT / "README.md",
        ROOT / "examples" / "README.md",
        *sorted(DOCS.glob("*.md")),
        *sorted(DOCS.glob("guides/*.md")),
    ]


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    lines = text.splitlines()
    at, directive = 0, ""
    while at < len(lines):
        opening = FENCE.match(lines[at])
        if opening is None:
            found = DIRECTIVE.match(lines[at])
            if found:
                directive = found[1]
            elif lines[at].strip():
                directive = ""
            at += 1
            continue
        indent, first, inside = len(opening[1]), at + 1, []
        at += 1
        while lines[at].strip() != "```":
            inside.append(lines[at][indent:])
            at += 1
        yield Block(first, opening[2], opening[3] or "", inside, directive)
        at, directive = at + 1, ""


def _console(block: Block) -> Iterator[Step]:
    step: Step | None = None
    for offset, line in enumerate(block.text):
        if line.startswith("$ "):
            if step is not None:
                yield step
            step = Step(block.line + offset + 1, line[2:], [], fresh_clone=block.directive == "fresh-clone")
        elif step is None:
            raise ValueError(f"line {block.line + offset + 1}: a console block begins with a command: `$ ...`")
        elif line.startswith("> ") and not step.expected:
            step.command += "\n" + line[2:]
        elif (found := STATUS.match(line)) and not step.expected:
            step.status = int(found[1])
        else:
            step.expected.append(line)
    if step is not None:
        yield step


def _file(block: Block) -> Step:
    text = "\n".join(block.text)
    return Step(block.line, f"cat > {block.title} <<'END-OF-FILE'\n{text}\nEND-OF-FILE", [])


def steps(text: str) -> list[Step]:
    """What a page does."""
    found: list[Step] = []
    for block in blocks(text):
        if block.directive.startswith("no, because"):
            continue
        if block.title:
            found.append(_file(block))
        elif block.language == "console":
            found += _console(block)
        elif block.language == "python":
            program = "\n".join(block.text)
            found.append(Step(block.line, f"python <<'END-OF-PROGRAM'\n{program}\nEND-OF-PROGRAM", []))
    return found


def matches(expected: Sequence[str], output: Sequence[str]) -> bool:
    """Is this what the page shows?"""
    if not expected:
        return True
    pattern = ""
    for line in expected:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(part.rstrip()) for part in line.split("...")) + r"[ \t]*\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in output)) is not None


def _script(todo: Sequence[Step], mark: str) -> str:
    lines = ["exec 2>&1 </dev/null"]
    for number, step in enumerate(todo):
        # In a file of its own: a command may be many lines, and must not end the script with a syntax error.
        lines.append(f"eval {_quoted(step.command)}")
        lines.append(f"printf '\\n%s %d %d\\n' {mark} {number} $?")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def environment(binaries: Path, home: Path) -> dict[str, str]:
    """A fresh user's: nothing of the caller's but where the tools of the system and of Rust are."""
    path = [str(binaries), *(place for place in os.environ["PATH"].split(":") if "/.venv/" not in place)]
    kept = {name: os.environ[name] for name in ("CARGO_HOME", "RUSTUP_HOME", "LANG") if name in os.environ}
    for name, folder in (("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")):
        kept.setdefault(name, str(Path.home() / folder))
    runtime = home / "run"
    # EXAMPLES as examples/README.md has it.
    own = {"PATH": ":".join(path), "HOME": str(home), "EXAMPLES": str(binaries.parents[1] / "examples")}
    return kept | own | {"OCCLUM_RUNTIME_DIR": str(runtime), "TERM": "dumb"}


def run_page(path: Path, text: str, start_in: Path, env: dict[str, str], fresh_clone: bool) -> list[str]:
    """Runs a page; a complaint for each step that did not do what the page says."""
    todo = [step for step in steps(text) if fresh_clone or not step.fresh_clone]
    mark = f"step-{os.getpid()}-{time.monotonic_ns()}"
    script = Path(env["HOME"]) / f"{mark}.sh"
    script.write_text(_script(todo, mark))
    output = _output(["bash", str(script)], start_in, env, BUILD_TIMEOUT_S if fresh_clone else TIMEOUT_S)
    complaints, rest = [], output
    for number, step in enumerate(todo):
        said, found, rest = rest.partition(f"\n{mark} {number} ")
        if not found:
            complaints.append(f"{path}:{step.line}: no end: {step.command}\n{said}")
            break
        status, _, rest = rest.partition("\n")
        lines = said.rstrip("\n").splitlines()
        if int(status) != step.status:
            complaints.append(f"{path}:{step.line}: exit status {status}: {step.command}\n{said}")
        elif not matches(step.expected, lines):
            wanted = "\n".join(step.expected)
            complaints.append(f"{path}:{step.line}: other output: {step.command}\n{said}\n-- the page has:\n{wanted}")
    return complaints


def _output(command: list[str], start_in: Path, env: dict[str, str], timeout_s: int) -> str:
    """What a command prints; nothing of it is left when its time is over."""
    with subprocess.Popen(command, cwd=start_in, env=env, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
    return said.decode(errors="replace")


def untold(text: str) -> list[int]:
    """Lines of blocks of commands that are not in the form that is run, without a reason."""
    shown = {"bash", "sh", "shell", ""}
    return [
        block.line
        for block in blocks(text)
        if block.language in shown
        and not block.title
        and not block.directive
        and any(re.match(r"\$ |occlum \w", line) for line in block.text)
    ]


def fresh_clone(folder: Path) -> Path:
    """A clone of what is committed."""
    clone = folder / "occlum"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    return clone


def main() -> int:
    """Runs the pages; 1 with the complaints if one is not true."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fresh-clone", action="store_true", help="clone and build first, as the README says")
    parser.add_argument("pages", nargs="*", type=Path)
    args = parser.parse_args()
    complaints: list[str] = []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="occlum-docs-") as name:
        folder = Path(name)
        home = folder / "home"
        (home / "run").mkdir(parents=True, mode=0o700)
        tree = fresh_clone(folder) if args.fresh_clone else ROOT
        env = environment(tree / ".venv" / "bin", home)
        for number, page in enumerate(args.pages or pages()):
            text = page.read_text()
            is_top = page.resolve() == ROOT / "README.md"
            start_in = tree if args.fresh_clone and is_top else folder / "work" / str(number)
            start_in.mkdir(parents=True, exist_ok=True)
            found = run_page(page, text, start_in, env, args.fresh_clone and is_top)
            print(f"{'FAILED' if found else 'ok':<7}{page} ({len(steps(text))} steps)", flush=True)
            complaints += found
            if not (tree / ".venv/bin/occlum").exists():
                # The README builds what the others use.
                break
        shutil.rmtree(folder / "work", ignore_errors=True)
    print("\n\n".join(complaints))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (time.monotonic() - begin) / 60, (used.ru_utime + used.ru_stime) / 60
    print(
        f"{len(complaints)} of what the pages show is not so; {minutes[0]:.1f} min ({minutes[1]:.1f} min of CPU time)"
    )
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
