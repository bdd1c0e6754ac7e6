"""`occlum bench`: a program's speed, native and inside. The measurement is `occlum._host.compare`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import click

from occlum._host import launch
from occlum._host.compare import KINDS, Comparison, Subject, measure
from occlum.cli import EXIT_CANNOT_EXECUTE, EXIT_NO_PROGRAM, environment_of, fail
from occlum.cli.options import bind_option, json_option, measured_options, program_arguments
from occlum.cli.progress import counted

EXIT_DIFFERENT = 1
_NAMES = {"native": "native", "stays": "in an enclave that stays", "fresh": "in a fresh enclave"}


def _time(seconds: float) -> str:
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.2f} {unit}"
    return f"{seconds * 1e6:.0f} us"


def _table(found: Comparison) -> list[str]:
    lines = [f"{'':<26}{'median':>11}  {'half of the runs':^24}{'ratio':>9}  95 % interval"]
    for kind in KINDS:
        low, high = found.middle(kind)
        line = f"{_NAMES[kind]:<26}{_time(found.median(kind)):>11}  {_time(low):>11} - {_time(high):<10}"
        if kind != "native":
            ratio, least, most = found.ratio(kind)
            line += f"{ratio:>8.2f}x  {least:.2f}x - {most:.2f}x"
        lines.append(line.rstrip())
    return lines


def _where(found: Comparison) -> list[str]:
    """What the time of a fresh run is made of."""
    parts = found.parts()
    counts = {name: int(found.stat(name)) for name in ("fragments", "translated_bytes", "system_calls", "ocalls")}
    translated = f"{counts['fragments']:,} fragments, {counts['translated_bytes'] / 1e6:.2f} MB"
    program = f"native: {_time(found.median('native'))}; {counts['system_calls']:,} system calls"
    rows = [
        ("start and end of the enclave", parts["enclave"], f"{counts['ocalls']:,} OCALLs in all"),
        ("translation and its proof", parts["translation"], translated),
        ("the program, translated", parts["program"], program),
    ]
    shown = [f"  {name:<30}{_time(seconds):>11}   {note}" for name, seconds, note in rows]
    return ["Where a fresh run's time goes (medians):", *shown]


def _as_json(found: Comparison) -> dict[str, Any]:
    entries = {}
    for kind in KINDS:
        entry: dict[str, Any] = {"seconds": found.seconds[kind], "median": found.median(kind)}
        entry["statuses"] = sorted(found.statuses[kind])
        if kind != "native":
            ratio, low, high = found.ratio(kind)
            entry |= {"ratio": ratio, "interval": [low, high]}
        entries[kind] = entry
    return entries | {"fresh_parts": found.parts(), "fresh_stats": found.stats}


@click.command(
    "bench",
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] [--]",
    short_help="Compare a program's speed, native and in an enclave.",
)
@click.option("-n", "--rounds", type=click.IntRange(1), default=10, metavar="N", show_default=True, help="How often.")
@click.option("-e", "--env", "settings", multiple=True, metavar="K[=V]", help="Set a variable.")
@measured_options
@bind_option
@json_option
@program_arguments
def command(
    rounds: int,
    settings: Sequence[str],
    memory: int,
    cpus: int,
    max_tasks: int,
    pid_max: int,
    cfi: str,
    no_alias: bool,
    binds: Sequence[launch.Bind],
    as_json: bool,
    program: str,
    arguments: Sequence[str],
) -> int:
    """Run PROGRAM natively, in an enclave that stays, and in a fresh enclave, in turns, and compare the times.

    Its streams lead nowhere. Ratios are those of medians, with a bootstrap interval over the rounds; a fresh run's time
    includes the command itself. The exit status is 1 if PROGRAM ends otherwise inside than outside.

    \b
    Examples:
      occlum bench true
      occlum bench -n 30 -- python3 -c 'sum(range(10**6))'
      occlum bench --json sha256sum /bin/bash
    """
    sizes = [
        "-m",
        str(memory),
        "--cpus",
        str(cpus),
        "--max-tasks",
        str(max_tasks),
        "--cfi",
        cfi,
        *(["--no-alias"] if no_alias else []),
    ]
    shared = [f"{bind.host}:{bind.guest}{':ro' if bind.read_only else ''}" for bind in binds]
    subject = Subject(
        argv=[program, *arguments],
        env=environment_of(settings),
        options=[*sizes, "--pid-max", str(pid_max), *(word for bind in shared for word in ("-v", bind))],
        start={
            "memory": memory,
            "cpus": cpus,
            "max_tasks": max_tasks,
            "cfi": cfi,
            "no_alias": no_alias,
            "binds": shared,
        },
    )
    try:
        with counted(len(KINDS) * (rounds + 1)) as advance:
            found = measure(subject, rounds, advance)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        fail(f"{program}: {os.strerror(error.errno or 0)}", "OC400" if missing else "OC401")
        return EXIT_NO_PROGRAM if missing else EXIT_CANNOT_EXECUTE
    if as_json:
        click.echo(json.dumps(_as_json(found), indent=2))
    else:
        click.echo("\n".join([f"{rounds} rounds", *_table(found), "", *_where(found)]))
    outside = found.statuses["native"]
    if any(found.statuses[kind] != outside for kind in KINDS):
        ends = "; ".join(f"{_NAMES[kind]}: {', '.join(map(str, sorted(found.statuses[kind])))}" for kind in KINDS)
        fail(f"the exit statuses differ: {ends}", "OC407")
        return EXIT_DIFFERENT
    return 0
