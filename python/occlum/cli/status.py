"""`occlum status`: which enclaves of this user run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from occlum._host import registry, units
from occlum._host.client import ask
from occlum.cli.options import json_option
from occlum.errors import EnclaveError, OcclumError

EXIT_NOT_RUNNING = 1


def facts_of(entry: registry.Entry) -> dict[str, Any]:
    """What is known about an enclave."""
    found: dict[str, Any] = {"name": entry.name, "state": "lost"} | entry.facts()
    if entry.is_alive():
        try:
            answer = ask(entry, {"do": "status"}, timeout=5.0)
            found |= {"state": "stopping" if answer["stopping"] else "running", "programs": answer["jobs"]}
        except EnclaveError:
            found["state"] = "lost"
    return found


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


@click.command("status", short_help="Say which enclaves run.")
@json_option
@click.argument("names", nargs=-1, metavar="[NAME...]")
def command(as_json: bool, names: tuple[str, ...]) -> int:
    """Say which enclaves of yours run, or whether those that are named do: the exit status is 1 if one does not.

    A `lost` one has crashed: `occlum logs` may say why, `occlum stop` or another start of that name removes it.
    """
    if not names and not as_json and Path(".occlum").is_dir():
        click.echo(_instance_line())
    entries = [registry.entry(name) for name in names] if names else list(registry.entries())
    found = [facts_of(entry) if entry.path.exists() else {"name": entry.name, "state": "none"} for entry in entries]
    if as_json:
        click.echo(json.dumps(found))
    else:
        for facts in found:
            click.echo(_line(facts))
    return EXIT_NOT_RUNNING if names and any(facts["state"] != "running" for facts in found) else 0


def _instance_line() -> str:
    """How far the instance in the working directory is."""
    from occlum.image import built

    try:
        what = built.load(built.require())
    except OcclumError as error:
        return f"instance: initialized; {error.cause}"
    changed = "; its configuration has changed since" if what.is_stale() else ""
    return f"instance: built, MRENCLAVE {what.mrenclave}{changed}"


def _line(facts: dict[str, Any]) -> str:
    line = f"{facts['name']:<20} {facts['state']:<9}"
    if facts["state"] in ("running", "stopping"):
        size, age = units.format_size(int(facts["memory"])), _age(time.time() - float(facts["started"]))
        count = len(facts["programs"])
        line += f" {size:>6}  {facts['cpus']} CPUs  {count} program{'' if count == 1 else 's'}  since {age}"
        line += f"  host process {facts['pid']}  shared memory: {facts['shared_memory']}"
    return line.rstrip()
