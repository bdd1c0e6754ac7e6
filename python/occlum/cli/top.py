"""`occlum top`: the processes of a running enclave, those first that use most CPU time now."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import click

from occlum._host import registry
from occlum._host.client import ask
from occlum.cli import ps
from occlum.cli.options import DURATION, json_option, name_option

_CLEAR = "\x1b[H\x1b[J"


def _sample(entry: registry.Entry, before: dict[int, float], seconds: float) -> dict[str, Any]:
    found = ps.processes(entry)
    for process in found:
        used = process["cpu_seconds"] - before.get(process["pid"], process["cpu_seconds"])
        process["cpu_percent"] = round(max(0.0, 100 * used / seconds), 1) if seconds else 0.0
    found.sort(key=lambda process: (-process["cpu_percent"], -process["cpu_seconds"], process["pid"]))
    text = str(ask(entry, {"do": "query", "what": "stats"}, timeout=10.0)["text"])
    stats = {key: int(value) for key, _, value in (line.partition("=") for line in text.splitlines())}
    return {"time": time.time(), "stats": stats, "processes": found}


def _show(sample: dict[str, Any], rows: int | None) -> str:
    stats, found = sample["stats"], sample["processes"]
    used, total = stats["memory_used"] >> 20, stats["memory_total"] >> 20
    head = f"{len(found)} processes, {stats['threads']} threads, {used} of {total} MiB"
    table = ps.lines(found)
    percents = ["  %CPU", *(f"{process['cpu_percent']:>6}" for process in found)]
    return "\n".join([head, *(f"{left} {right}" for left, right in zip(percents, table, strict=True))][:rows])


@click.command("top", short_help="Watch the processes of a running enclave.")
@name_option
@click.option("-d", "--delay", type=DURATION, default="2s", metavar="TIME", show_default=True, help="Between samples.")
@click.option("-c", "--count", type=click.IntRange(1), metavar="N", help="End after N samples.  [default: never]")
@json_option
def command(name: str, delay: float, count: int | None, as_json: bool) -> None:
    """Watch the processes of a running enclave. Ctrl-C ends it."""
    entry, before, then = registry.entry(name), dict[int, float](), 0.0
    clear = _CLEAR if sys.stdout.isatty() and not as_json else ""
    left = count
    while left is None or left > 0:
        now = time.monotonic()
        sample = _sample(entry, before, now - then if then else 0.0)
        before, then = {process["pid"]: process["cpu_seconds"] for process in sample["processes"]}, now
        rows = os.get_terminal_size(1).lines - 1 if clear else None
        click.echo(json.dumps(sample) if as_json else clear + _show(sample, rows))
        left = None if left is None else left - 1
        if left != 0:
            time.sleep(delay)
