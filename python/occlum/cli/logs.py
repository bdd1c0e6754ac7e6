"""`occlum logs`: what an enclave and its owner process logged, and the output of detached programs."""

from __future__ import annotations

import shutil
import sys
import time

import click

from occlum._host import registry
from occlum.cli.options import name_option
from occlum.errors import EnclaveError


@click.command("logs", short_help="Show what a running enclave's host process logged.")
@name_option
@click.option("-f", "--follow", is_flag=True, help="Go on until the enclave ends.")
def command(name: str, follow: bool) -> None:
    """Show the log of an enclave, also of one that is lost; the output of `exec -d` is in it."""
    entry = registry.entry(name)
    try:
        log = open(entry.path / registry.LOG, "rb")  # noqa: SIM115
    except OSError:
        raise EnclaveError(f"there is no enclave named {name}", "`occlum status` lists what runs", "OC302") from None
    with log:
        while True:
            # Asked before reading: what comes last is not missed.
            alive = follow and entry.is_alive()
            shutil.copyfileobj(log, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            if not alive:
                return
            time.sleep(0.1)
