"""Options of commands that run a program under the eyes of `occlum.trace`: --strace, --profile, --core and more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from occlum.cli import fail

if TYPE_CHECKING:
    from occlum.trace.core import Core
    from occlum.trace.session import Reader

F = TypeVar("F", bound=Callable[..., Any])

STANDARD_ERROR = "-"
_OPTIONS = (
    click.option(
        "--strace",
        metavar="[=FILE|=OPTIONS]",
        help="Print every system call, to standard error or to FILE; or by strace's own options, like"
        " --strace='-e trace=%file -y -o log' (--strace=-h lists them).",
    ),
    click.option(
        "--profile", metavar="FILE", help="Sample where the programs spend their time; FILE.json for speedscope."
    ),
    click.option(
        "--profile-format",
        type=click.Choice(("speedscope", "collapsed")),
        help="Format of the profile.  [default: by the file's extension]",
    ),
    click.option(
        "--profile-frequency",
        type=click.IntRange(1, 10_000),
        default=199,
        metavar="HZ",
        show_default=True,
        help="Samples of each vCPU a second.",
    ),
    click.option(
        "--crash-report/--no-crash-report",
        default=None,
        help="Report each program that dies by a fault, or none.  [default: only PROGRAM itself, unless --quiet]",
    ),
    click.option(
        "--core",
        metavar="FILE|DIR",
        help="Write a core file for gdb when a signal ends a program; in DIR, core.NAME.PID for each.",
    ),
)


def seeing_options(function: F) -> F:
    """Adds them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


class Seeing:
    """What was asked for: the options for the enclave, and who reads its records."""

    def __init__(self, wanted: Mapping[str, Any], quiet: bool) -> None:
        self.quiet = quiet
        self.readers: list[Reader] = []
        self.core: Core | None = None
        self._add_strace(wanted["strace"])
        self._add_others(wanted)

    def _add_strace(self, value: str | None) -> None:
        if value is None:
            return
        # Imported by who asks for it only: a start is to be quick.
        from occlum import _native
        from occlum.trace import strace, strace_options

        if value == "-h":
            click.echo(strace_options.HELP)
            raise click.exceptions.Exit(0)
        self.readers.append(strace.reader(value, strace.numbers_of(_native.syscalls())))

    def _add_others(self, wanted: Mapping[str, Any]) -> None:
        if wanted["profile"] is not None:
            from occlum.trace.profile import Profile

            self.readers.append(Profile(wanted["profile"], wanted["profile_format"], wanted["profile_frequency"]))
        elif wanted["profile_format"] is not None:
            raise click.UsageError("--profile-format without --profile; name a file with --profile FILE")
        report = wanted["crash_report"]
        if report or (report is None and not self.quiet):
            from occlum.trace.crash import Crash

            self.readers.append(Crash(everyone=bool(report)))
        if wanted["core"] is not None:
            from occlum.trace.core import Core

            self.core = Core(wanted["core"])
            self.readers.append(self.core)

    def options(self) -> bytes:
        """The wire form for the enclave."""
        if not self.readers:
            return b""
        from occlum.trace.session import options_of

        return options_of(self.readers)

    @contextmanager
    def session(self) -> Iterator[int | None]:
        """Around the run: a descriptor for the records. At the end all is written."""
        if not self.readers:
            yield None
            return
        from occlum.trace.session import session

        with session(self.readers) as descriptor:
            yield descriptor
        written: Sequence[object] = self.core.written if self.core else ()
        if not self.quiet:
            for path in written:
                fail(f"core written to {path}; open it with: gdb PROGRAM {path}")
