"""The options of `--strace`: strace's own, as far as they have a meaning here.

Neighbours: `classes` reads expressions, `strace` does what was asked for.
"""

from __future__ import annotations

import getopt
import shlex
from dataclasses import dataclass, field

from occlum.errors import OptionError
from occlum.trace import names
from occlum.trace.classes import select
from occlum.trace.structures import Style

_LETTERS = "AcCe:fhno:P:qrs:S:tTvwyzZ"
SORTS = {
    "time": 1,
    "time-total": 1,
    "total-time": 1,
    "calls": 3,
    "count": 3,
    "errors": 4,
    "error": 4,
    "name": 5,
    "syscall": 5,
}
HELP = """options of --strace (all processes are traced, as with -f):
  -e trace=SET   calls to trace: names, %classes, /regexes, separated by commas; !SET negates it
                 classes: %file %network %process %signal %memory %ipc %desc %stat %statfs %clock %creds %pure
  -e signal=SET  signals to trace, like !SIGCHLD; none for none
  -e status=SET  successful, failed
  -P PATH        only calls with this path, or a descriptor of it
  -o FILE, -A    write to FILE, append to it; -ff: to FILE.PID for each process
  -c, -C         count time, calls and errors at the end, or as well; -S time|calls|errors|name sorts it
  -t, -tt, -ttt  time of day, with microseconds, as seconds since 1970; -r: since the last line; -T: time in the call
  -s N           at most N bytes of strings (32); -v: whole structures; -y: paths of descriptors; -n: numbers of calls
  -z, -Z         only calls that succeed, that fail; -qq: no lines about ends of processes"""


@dataclass
class Options:
    """What was asked for."""

    calls: set[int] = field(default_factory=set)
    signals: set[int] = field(default_factory=lambda: set(range(1, 65)))
    target: str | None = None
    append: bool = False
    follow: bool = False
    split: bool = False
    count: bool = False
    lines: bool = True
    sort: str = "time"
    clock: int = 0
    relative: bool = False
    spent: bool = False
    numbers: bool = False
    terse: bool = False
    quiet: bool = False
    successful: bool = True
    failed: bool = True
    paths: list[str] = field(default_factory=list)
    style: Style = field(default_factory=Style)


def parse(text: str, known: dict[str, int]) -> Options:
    """From the value of --strace: options of strace, or the name of a file (`-`: standard error)."""
    found = Options(calls=set(known.values()))
    if not text.startswith("-") or text == "-":
        found.target = None if text == "-" else text
        return found
    try:
        pairs, rest = getopt.getopt(shlex.split(text), _LETTERS)
    except (getopt.GetoptError, ValueError) as error:
        raise OptionError(f"--strace={text}: {error}", "see --strace=-h") from None
    if rest:
        raise OptionError(
            f"--strace={text}: {rest[0]!r} is no option", "quote the value, like --strace='-e trace=%file'"
        )
    for letter, value in pairs:
        _apply(found, letter, value, known)
    if found.split and found.target is None:
        raise OptionError("--strace: -ff needs a file", "add -o FILE")
    return found


def _apply(found: Options, letter: str, value: str, known: dict[str, int]) -> None:
    style = found.style
    match letter:
        case "-e":
            _expression(found, value, known)
        case "-o":
            found.target = value
        case "-P":
            found.paths.append(value)
        case "-f":
            # Once for all processes, which is so anyway; twice for a file each.
            found.split, found.follow = found.follow, True
        case "-c":
            found.count, found.lines = True, False
        case "-C":
            found.count = True
        case "-s":
            if not value.isdigit():
                raise OptionError(f"--strace: -s {value}: not a number", "write how many bytes of a string to show")
            found.style = Style(int(value), style.paths, style.whole)
        case "-S":
            if value not in SORTS:
                raise OptionError(f"--strace: -S {value}: no such column", "take time, calls, errors or name")
            found.sort = value
        case "-v":
            found.style = Style(style.string_limit, style.paths, True)
        case "-y":
            found.style = Style(style.string_limit, True, style.whole)
        case "-t":
            found.clock += 1
        case "-q":
            # Once is about attaching, of which there is none.
            found.quiet, found.terse = found.terse, True
        case "-z":
            found.failed = False
        case "-Z":
            found.successful = False
        case _:
            names_ = {"-A": "append", "-r": "relative", "-T": "spent", "-n": "numbers"}
            if letter in names_:
                setattr(found, names_[letter], True)


def _expression(found: Options, value: str, known: dict[str, int]) -> None:
    what, equals, expression = value.partition("=")
    if not equals:
        what, expression = "trace", value
    match what:
        case "trace" | "t":
            found.calls = select(expression, known, "trace")
        case "signal" | "signals" | "s":
            long = {name: number for number, name in names.SIGNALS.items()}
            short = {name.removeprefix("SIG"): number for name, number in long.items()}
            found.signals = select(expression, long | short, "signal")
        case "status":
            chosen = set(expression.removeprefix("!").split(","))
            if not chosen <= {"successful", "failed", "all", "none"}:
                raise OptionError(f"--strace: -e {value}: no such status", "take successful or failed")
            both = {"successful", "failed"} if "all" in chosen else chosen
            negated = expression.startswith("!")
            found.successful = ("successful" in both) != negated
            found.failed = ("failed" in both) != negated
        case "abbrev":
            found.style = Style(found.style.string_limit, found.style.paths, expression == "none")
        case "quiet" | "q":
            found.quiet = True
        case _:
            raise OptionError(f"--strace: -e {what}= is not supported", "see --strace=-h for what is")
