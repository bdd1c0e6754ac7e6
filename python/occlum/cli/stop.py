"""`occlum stop`: ends a running enclave, gracefully, then firmly."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import click

from occlum._host import registry
from occlum._host.client import ask
from occlum.cli.options import DURATION, name_option
from occlum.cli.progress import waiting
from occlum.errors import EnclaveError, EnclaveLost

# How long the owner may take beyond the programs' grace.
_PATIENCE_S = 15.0


def _end(entry: registry.Entry) -> None:
    """An owner that does not answer is killed: what it holds ends with it."""
    pid = entry.facts().get("pid")
    if entry.is_alive() and isinstance(pid, int) and pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _PATIENCE_S
    while entry.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)


def stop(entry: registry.Entry, grace: float) -> None:
    """Stops it, or removes what a crash left of it."""
    if not entry.path.exists():
        raise EnclaveError(f"no enclave named {entry.name} is running", "`occlum status` lists what runs", "OC302")
    if entry.is_alive():
        with contextlib.suppress(EnclaveLost):
            ask(entry, {"do": "stop", "grace": grace}, timeout=grace + _PATIENCE_S)
        deadline = time.monotonic() + 1.0
        while entry.is_alive() and time.monotonic() < deadline:
            time.sleep(0.001)
        _end(entry)
    entry.remove()


@click.command("stop", short_help="Stop a running enclave.")
@name_option
@click.option("--all", "everything", is_flag=True, help="Stop every enclave of yours.")
@click.option(
    "-t",
    "--time",
    "grace",
    type=DURATION,
    default="10s",
    metavar="TIME",
    show_default=True,
    help="How long programs may take to end by themselves.",
)
def command(name: str, everything: bool, grace: float) -> None:
    """Stop an enclave: its programs get SIGTERM, and SIGKILL when TIME is over."""
    for entry in list(registry.entries()) if everything else [registry.entry(name)]:
        with waiting(f"waiting for the programs in {entry.name}"):
            stop(entry, grace)
