"""`occlum ps`: the processes in running enclaves."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from typing import Any

import click

from occlum._host import registry
from occlum._host.client import ask
from occlum.cli.options import json_option
from occlum.errors import EnclaveLost
from occlum.events import Process

_HEAD = f"{'ENCLAVE':<16} {'PID':>6} {'PPID':>6} S {'RSS':>8} {'CPU':>9} PROGRAM"


def processes(entry: registry.Entry) -> list[dict[str, Any]]:
    """The processes of an enclave; those that `exec` started have their arguments."""
    text = str(ask(entry, {"do": "query", "what": "processes"}, timeout=10.0)["text"])
    jobs = {job["pid"]: job for job in ask(entry, {"do": "status"}, timeout=10.0)["jobs"]}
    found = []
    for line in text.splitlines():
        process = asdict(Process.parse(line))
        job = jobs.get(process["pid"])
        found.append({"enclave": entry.name} | process | {"argv": job and job["argv"]})
    return found


def lines(found: list[dict[str, Any]]) -> list[str]:
    """As a table."""
    return [
        _HEAD,
        *(
            f"{p['enclave']:<16} {p['pid']:>6} {p['parent']:>6} {p['state']} {p['resident_kib']:>7}K"
            f" {p['cpu_seconds']:>8.2f}s {shlex.join(p['argv']) if p['argv'] else p['program']}"
            for p in found
        ),
    ]


@click.command("ps", short_help="List the processes in running enclaves.")
@click.option("-n", "--name", metavar="NAME", help="Only of this enclave.  [default: of all]")
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the processes in running enclaves: process ids are those inside."""
    found: list[dict[str, Any]] = []
    if name is not None:
        found = processes(registry.entry(name))
    else:
        for entry in registry.entries():
            try:
                found += processes(entry) if entry.is_alive() else []
            except EnclaveLost:
                continue
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo("\n".join(lines(found)))
