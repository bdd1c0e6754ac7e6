"""`occlum start`: an enclave that stays, in an owner process of its own, until `occlum stop`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from occlum._host import launch
from occlum._host.client import start_owner
from occlum.cli import fail
from occlum.cli.options import bind_option, measured_options, name_option

BANNER = "simulation: nothing is protected from this machine (development only; --quiet hides this line)"


@click.command("start", short_help="Start an enclave that stays, for `exec`.")
@name_option
@measured_options
@bind_option
@click.option("-q", "--quiet", is_flag=True, help="No banner.")
def command(
    name: str,
    memory: int,
    cpus: int,
    max_tasks: int,
    pid_max: int,
    cfi: str,
    binds: Sequence[launch.Bind],
    quiet: bool,
) -> None:
    """Start an enclave of this machine's programs that stays until `occlum stop`.

    It returns when the enclave takes programs: `occlum exec PROGRAM`. They share one writable layer above a read-only
    view of this machine's files, each as it was when first looked at.

    \b
    Examples:
      occlum start
      occlum start -n web -m 1G -v "$PWD"
    """
    options = launch.EnclaveOptions(memory, cpus, max_tasks, pid_max, cfi)
    if not quiet:
        fail(BANNER)
    start_owner(name, vars(options), [vars(bind) for bind in binds])
