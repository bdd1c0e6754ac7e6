"""`occlum print ...`: facts about the enclave."""

from __future__ import annotations

import click

from occlum._host import launch
from occlum.cli.options import measured_options


@click.group("print")
def command() -> None:
    """Print facts about the enclave."""


@command.command("mrenclave")
@measured_options
def mrenclave(memory: int, cpus: int, max_tasks: int, pid_max: int, cfi: str) -> None:
    """Print the measurement (MRENCLAVE) of the enclave that `occlum try` starts with the same options.

    Arguments, environment and working directory of the program are not measured.
    """
    options = launch.EnclaveOptions(memory, cpus, max_tasks, pid_max, cfi)
    click.echo(launch.measure(options).hex())
