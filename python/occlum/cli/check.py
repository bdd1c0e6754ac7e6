"""`occlum check`: say what of a program will not work in an enclave, and why."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from occlum._host import launch
from occlum.cli import EXIT_CANNOT_EXECUTE, EXIT_NO_PROGRAM, environment_of, fail
from occlum.cli.options import DURATION, json_option, measured_options, program_arguments

EXIT_PROBLEM = 1


@click.command(
    "check",
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] [--]",
    short_help="Say what of a program will not work in an enclave.",
)
@click.option("--run", "observe", is_flag=True, help="Also run the program in an enclave and watch what fails.")
@click.option("-e", "--env", "settings", multiple=True, metavar="K[=V]", help="Set a variable for it.")
@click.option("--timeout", type=DURATION, metavar="TIME", help="With --run: stop the program after this long.")
@click.option("-a", "--all", "everything", is_flag=True, help="Show notes, too: what works in part, what is not used.")
@json_option
@measured_options
@program_arguments
def command(
    observe: bool,
    settings: Sequence[str],
    timeout: float | None,
    everything: bool,
    as_json: bool,
    memory: int,
    cpus: int,
    max_tasks: int,
    pid_max: int,
    cfi: str,
    no_alias: bool,
    program: str,
    arguments: Sequence[str],
) -> int:
    """Look at PROGRAM and its libraries, and say what of them will not work in an enclave, and why.

    Without --run nothing is executed: headers, libraries, code and the system calls that it names are compared with
    what the enclave has. What is found in code may never run; with --run only what happened counts.

    The exit status is 0 if nothing was found that keeps the program from working, 1 if something was (a "problem"), 125
    if occlum failed, 126 if PROGRAM cannot be executed, 127 if there is no such program.

    \b
    Examples:
      occlum check redis-server
      occlum check --run -- python3 -c 'import ssl'
      occlum check --json -a node
    """
    # Slow to import, and only this command needs it.
    from occlum.check import findings, static
    from occlum.check.files import find_program

    environment = environment_of(settings)
    path = find_program(program, environment)
    if path is None:
        return _no_program(program, environment)
    enclave = launch.EnclaveOptions(memory, cpus, max_tasks, pid_max, cfi, no_alias)
    loaded, found = static.check(path, environment, enclave.memory_bytes)
    if observe and loaded is not None:
        from occlum.check.observed import observe as run

        job = launch.Launch(argv=[program, *arguments], env=environment, stats=True)
        observed = run([path, *arguments], job, enclave, timeout)
        # What ran tells more than what is merely there.
        found = [f for f in found if f.topic not in ("instruction",)] + observed.findings
    found.sort(key=lambda f: (findings.LEVELS.index(f.level), f.topic, f.where))
    if as_json:
        files = [image.path for image in loaded.images] if loaded else []
        report = {"program": path, "files": files, "findings": [f.as_json() for f in found]}
        click.echo(json.dumps(report | {"works": findings.worst(found) != "problem"}, indent=2))
    else:
        _print(path, found, everything)
    return EXIT_PROBLEM if findings.worst(found) == "problem" else 0


def _no_program(program: str, environment: Mapping[str, str]) -> int:
    """Says why there is nothing to look at; the exit status."""
    folders = [""] if "/" in program else environment.get("PATH", os.defpath).split(os.pathsep)
    if program and any(Path(folder, program).exists() for folder in folders):
        fail(f"{program}: permission denied, or not a regular executable file", "OC401")
        return EXIT_CANNOT_EXECUTE
    fail(f"{program or 'the program without a name'}: not found{'' if '/' in program else ' in PATH'}", "OC400")
    return EXIT_NO_PROGRAM


def _print(program: str, found: Sequence[object], everything: bool) -> None:
    from occlum.check.findings import Finding

    shown = [f for f in found if isinstance(f, Finding) and (everything or f.level != "note" or f.topic == "run")]
    for finding in shown:
        click.echo(f"{finding.level}: {finding.where}: {finding.text}")
        if finding.advice:
            click.echo(f"    {finding.advice}")
    hidden = len(found) - len(shown)
    more = f" ({hidden} notes are not shown; -a shows them)" if hidden else ""
    problems = sum(isinstance(f, Finding) and f.level == "problem" for f in found)
    verdict = (
        f"{problems} problem{'s' if problems > 1 else ''}"
        if problems
        else "nothing was found that keeps it from working"
    )
    click.echo(f"{program}: {verdict}{more}", err=False)
    sys.stdout.flush()
