"""`occlum run`: run one program in an enclave of an instance that was built.

Like `occlum try` it hosts the enclave in its own process; what differs is where files, limits and environment come
from. Neighbours: `try_` (the same ways of watching a run), `occlum.image.built` (what was built).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from occlum._host import launch
from occlum._host.image import read_image
from occlum.cli import environment_of, fail, without_effect
from occlum.cli.options import DURATION, given_options, network_options
from occlum.cli.seeing import Seeing, seeing_options
from occlum.cli.try_ import BANNER, TryCommand, exit_status, report_stats
from occlum.image import built


def _auto_size(instance: str, job: launch.Launch) -> int:
    """Runs with room to spare, then writes limits that fit."""
    from pathlib import Path

    from occlum.image import sizing

    with built.run_lock(instance):
        outcome, wanted = sizing.run_generously(built.load(instance), job)
    status = exit_status(outcome, None)
    if outcome.kind != "exited" or outcome.value != 0:
        fail("the limits stay as they are: the program did not succeed")
        return status
    changed = sizing.write_limits(Path(instance), wanted)
    fail(f"{changed}: {', '.join(f'{key} = {value}' for key, value in wanted.items())}; now `occlum build`")
    return status


@click.command(
    "run",
    cls=TryCommand,
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] [--]",
    short_help="Run a program in an enclave of an instance.",
)
@click.option(
    "-e", "--env", "settings", multiple=True, metavar="K[=V]", help="Set a variable (if env.untrusted has it)."
)
@given_options
@network_options
@click.option("--timeout", type=DURATION, metavar="TIME", help="Stop the program after this long, like 30s.")
@seeing_options
@click.option("--stats", is_flag=True, help="Print statistics at the end.")
@click.option("--auto-size", is_flag=True, help="Run with plenty of room, then write fitting limits.")
@click.option("-q", "--quiet", is_flag=True, help="No banner.")
@click.argument("program", metavar="[PROGRAM [ARG...]]", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
def command(
    settings: Sequence[str],
    published: Sequence[launch.Publish],
    network: str,
    timeout: float | None,
    stats: bool,
    auto_size: bool,
    quiet: bool,
    program: str | None,
    arguments: Sequence[str],
    given: launch.Given,
    **seen: Any,
) -> int:
    """Run PROGRAM, one of the entry points, in a fresh enclave of the instance in the working directory.

    Files, limits, user and working directory are the configuration's, and so is the environment, except for variables
    that `env.untrusted` names. The exit status is the program's own, or 128+N if signal N ended it; 124 time-out,
    125 occlum failed, 126 the program cannot be executed, 127 there is no such program.
    """
    instance = built.require()
    what = built.load(instance)
    words = [program, *arguments] if program is not None else what.command
    if not words:
        raise click.UsageError("name a PROGRAM; this instance has no default one (`command` in its configuration)")
    seeing = Seeing(seen, quiet)
    job = launch.Launch(
        argv=words,
        env=environment_of(settings),
        cwd="/",
        trace=seeing.options(),
        stats=stats or auto_size,
        network=network,
        publish=published,
        sources=what.host_sources(given.image_key),
        given=given,
    )
    if settings:
        without_effect(settings, what.variables())
    if not quiet:
        fail(BANNER)
        for line in filter(None, (what.banner(), what.is_stale() and "the configuration has changed since the build")):
            fail(str(line))
    what.check_runtime(read_image())
    if auto_size:
        return _auto_size(instance, job)
    with built.run_lock(instance), seeing.session() as descriptor:
        outcome = launch.run(what, job, trace_fd=descriptor, timeout_s=timeout)
    if stats:
        report_stats(outcome.stats)
    return exit_status(outcome, timeout)
