"""`occlum kill`: a signal for processes of a running enclave."""

from __future__ import annotations

import signal

import click

from occlum._host import registry
from occlum._host.client import ask
from occlum.cli import fail
from occlum.cli.options import name_option
from occlum.cli.ps import processes


def signal_number(text: str) -> int:
    """`9`, `KILL` or `SIGKILL`."""
    if text.isdigit() and 1 <= int(text) <= 64:
        return int(text)
    name = text.upper()
    found = signal.Signals.__members__.get(name if name.startswith("SIG") else f"SIG{name}")
    if found is None:
        raise click.UsageError(f"{text!r} is no signal; write a number or a name, like TERM")
    return int(found)


@click.command("kill", short_help="Send a signal to processes of a running enclave.")
@name_option
@click.option("-s", "--signal", "text", default="TERM", metavar="SIGNAL", show_default=True, help="Which one.")
@click.argument("pids", nargs=-1, required=True, type=click.IntRange(2), metavar="PID...")
def command(name: str, text: str, pids: tuple[int, ...]) -> int:
    """Send a signal to processes of a running enclave, by their ids inside (see `occlum ps`)."""
    number, entry = signal_number(text), registry.entry(name)
    alive = {process["pid"] for process in processes(entry)}
    for pid in pids:
        if pid in alive:
            ask(entry, {"do": "signal", "pid": pid, "signal": number}, timeout=10.0)
        else:
            fail(f"{pid}: no such process in the enclave {name}", "OC403")
    return 0 if alive.issuperset(pids) else 1
