"""`occlum try`: run a program of this machine in a fresh enclave.

The work is in `occlum._host.launch` and inside the enclave; here are the options, the messages and the exit status.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click

from occlum import _native
from occlum._host import launch
from occlum.cli import EXIT_OCCLUM_FAILED, EXIT_TIMED_OUT, environment_of, fail
from occlum.cli.options import (
    BIND,
    DURATION,
    INSECURE_COUNTER,
    SEALED,
    measured_options,
    network_options,
    program_arguments,
)
from occlum.cli.seeing import STANDARD_ERROR, Seeing, seeing_options
from occlum.errors import OptionError

BANNER = "simulation: nothing is protected from this machine (development only; --quiet hides this line)"
_NAMED_CHANGES = 4


class TryCommand(click.Command):
    """Options end at PROGRAM, and `--strace` takes its value only after `=`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Writes a bare `--strace` as `--strace=-` before click would take the next word for its value."""
        return super().parse_args(ctx, self._with_strace_value(ctx, args))

    def _with_strace_value(self, ctx: click.Context, args: Sequence[str]) -> list[str]:
        flags = {
            name
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option) and parameter.is_flag
            for name in (*parameter.opts, *parameter.secondary_opts)
        }
        done: list[str] = []
        rest = list(args)
        while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
            word = rest.pop(0)
            done.append(f"--strace={STANDARD_ERROR}" if word == "--strace" else word)
            takes_next = word != "--strace" and word not in flags and "=" not in word
            # `-eK` and `-m512M` carry their value with them.
            carries_value = not word.startswith("--") and len(word) > 2
            if rest and takes_next and not carries_value:
                done.append(rest.pop(0))
        return done + rest


def _report_changes(changed: Sequence[bytes], diff: bool, quiet: bool) -> None:
    """Names what the program changed and what is now gone."""
    paths = [os.fsdecode(path) for path in changed]
    if diff:
        for path in paths:
            click.echo(path, err=True)
    elif paths and not quiet and sys.stderr.isatty():
        named = ", ".join(paths[:_NAMED_CHANGES])
        more = f" and {len(paths) - _NAMED_CHANGES} more" if len(paths) > _NAMED_CHANGES else ""
        fail(f"discarded changes to {named}{more}; share a directory with -v PATH, or save them with --keep DIR")


def _keep_directory(path: str) -> str:
    """The absolute path of an empty directory for the changed files, made if it is not there."""
    # Takes a while to import.
    from pathlib import Path

    directory, fix = Path(path).absolute(), "name a new directory"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise OptionError(f"--keep {path}: the directory is not empty", fix)
    except FileExistsError:
        raise OptionError(f"--keep {path} is no directory", fix) from None
    except OSError as error:
        raise OptionError(f"--keep {path}: {error.strerror}", fix) from None
    return str(directory)


def _with_key(mounts: Sequence[launch.SealedMount], file: str | None) -> Sequence[launch.SealedMount]:
    """The mounts with the key that the file holds."""
    if file is None:
        return mounts
    # Takes a while to import.
    from dataclasses import replace
    from pathlib import Path

    from occlum.keys import read_key

    key = read_key(Path(file))
    return [replace(mount, key=key) for mount in mounts]


def _with_counter(mounts: Sequence[launch.SealedMount], file: str | None) -> Sequence[launch.SealedMount]:
    """The only mount, with its counter."""
    if file is None:
        return mounts
    if len(mounts) != 1:
        raise click.UsageError("--insecure-counter is for one sealed store: give exactly one --sealed")
    from dataclasses import replace
    from pathlib import Path

    from occlum.sealed import check_counter

    check_counter(Path(file), read_only=mounts[0].read_only)
    return [replace(mounts[0], insecure_counter=os.path.abspath(file))]


def report_stats(stats: Sequence[tuple[str, str]]) -> None:
    """Prints the figures of a run."""
    width = max((len(name) for name, _ in stats), default=0)
    for name, value in stats:
        click.echo(f"occlum: {name:<{width}}  {value}", err=True)


def _open_stats(path: str | None) -> TextIO | None:
    """The file for the statistics: before the run, or a program would have run in vain."""
    try:
        return None if path is None else open(path, "w", encoding="utf-8")
    except OSError as error:
        raise OptionError(f"--stats-file {path}: {error.strerror}", "name a file that can be written") from None


def _write_stats(out: TextIO, stats: Sequence[tuple[str, str]]) -> None:
    # Only here.
    import json

    try:
        with out as file:
            json.dump({name: int(value) for name, value in stats}, file, indent=2)
    except OSError as error:
        # The program has run: its status counts.
        fail(f"--stats-file {out.name}: {error.strerror}", "OC106")


def exit_status(outcome: _native.Outcome, timeout_s: float | None) -> int:
    """The program's status as a shell would see it, or the tool's own."""
    match outcome.kind:
        case "exited":
            return outcome.value
        case "signaled":
            return 128 + outcome.value
        case "timed-out":
            fail(f"the program was stopped after {timeout_s} s; give it more with --timeout", "OC402")
            return EXIT_TIMED_OUT
        case _:
            fail(outcome.message, "OC307")
            return EXIT_OCCLUM_FAILED


@click.command(
    "try",
    cls=TryCommand,
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] [--]",
    short_help="Run a program of this machine in a fresh enclave.",
)
@click.option(
    "-e",
    "--env",
    "settings",
    multiple=True,
    metavar="K[=V]",
    help="Set a variable; your environment passes through as it is.",
)
@click.option(
    "-w", "--cwd", metavar="DIR", help="Working directory inside.  [default: yours, or / where that is not inside]"
)
@measured_options
@click.option(
    "-v",
    "--bind",
    "binds",
    multiple=True,
    type=BIND,
    metavar="PATH",
    help="Share PATH, or HOST:GUEST, with the program; append :ro to keep it read-only.",
)
@click.option(
    "--sealed",
    multiple=True,
    type=SEALED,
    metavar="STORE:GUEST",
    help="Mount a sealed store (occlum fs mkfs) at GUEST; append :ro to keep it read-only.",
)
@click.option("--image-key", metavar="FILE", help="Key of the sealed stores; without one they are read-only images.")
@INSECURE_COUNTER
@network_options
@click.option("--timeout", type=DURATION, metavar="TIME", help="Stop the program after this long, like 30s.")
@seeing_options
@click.option("--stats", is_flag=True, help="Print statistics at the end.")
@click.option("--stats-file", metavar="FILE", help="Write the statistics to FILE, as JSON.")
@click.option("--keep", metavar="DIR", help="Save the files that the program changed under DIR.")
@click.option("--diff", is_flag=True, help="List the files that the program changed, on standard error.")
@click.option("-q", "--quiet", is_flag=True, help="No banner and no closing remarks.")
@program_arguments
def command(
    settings: Sequence[str],
    cwd: str | None,
    memory: int,
    cpus: int,
    max_tasks: int,
    pid_max: int,
    cfi: str,
    no_alias: bool,
    binds: Sequence[launch.Bind],
    sealed: Sequence[launch.SealedMount],
    image_key: str | None,
    insecure_counter: str | None,
    published: Sequence[launch.Publish],
    network: str,
    timeout: float | None,
    stats: bool,
    stats_file: str | None,
    keep: str | None,
    diff: bool,
    quiet: bool,
    program: str,
    arguments: Sequence[str],
    **seen: Any,
) -> int:
    """Run PROGRAM of this machine, unmodified, in a fresh enclave.

    It sees a read-only view of this machine's files under a writable layer in the enclave's memory, which is discarded
    at the end. The exit status is the program's own, or 128+N if signal N ended it; 124 time-out, 125 occlum failed,
    126 the program cannot be executed, 127 there is no such program.

    \b
    Examples:
      occlum try bash -c 'seq 1 100000 | sort -r | head -n 3'
      occlum try --strace ls /etc                 every system call, with decoded arguments
      occlum try --strace='-c' make               counts and times of system calls
      occlum try --profile out.json -- gzip -k f  where the time goes, for speedscope.app
      occlum try -m 512M --stats gcc --version    a smaller enclave; figures at the end
      occlum try -v "$PWD" make                   share this directory: its changes stay
      occlum try -p 8080:80 lighttpd -D -f site.conf
    """
    if keep is not None:
        keep = _keep_directory(keep)
    options = launch.EnclaveOptions(memory, cpus, max_tasks, pid_max, cfi, no_alias)
    seeing = Seeing(seen, quiet)
    job = launch.Launch(
        argv=[program, *arguments],
        env=environment_of(settings),
        cwd=None if cwd is None else os.path.normpath(os.path.join(os.getcwd(), cwd)),
        binds=binds,
        sealed=_with_counter(_with_key(sealed, image_key), insecure_counter),
        trace=seeing.options(),
        stats=stats or stats_file is not None,
        report_changes=diff or keep is not None or (sys.stderr.isatty() and not quiet),
        keep=keep,
        network=network,
        publish=published,
    )
    stats_out = _open_stats(stats_file)
    if not quiet:
        fail(BANNER)
    with seeing.session() as descriptor:
        outcome = launch.run(options, job, trace_fd=descriptor, timeout_s=timeout)
    if diff or keep is None:
        _report_changes(outcome.changed, diff, quiet)
    elif not quiet and sys.stderr.isatty():
        fail(f"{len(outcome.changed)} changed paths are saved under {keep}")
    if stats:
        report_stats(outcome.stats)
    if stats_out is not None:
        _write_stats(stats_out, outcome.stats)
    return exit_status(outcome, timeout)
