"""`occlum syscalls`: how far each system call of Linux is supported. Reads the table; starts no enclave."""

from __future__ import annotations

import json

import click


@click.command("syscalls")
@click.option("--missing", is_flag=True, help="Only the calls that are not fully supported.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array of objects.")
def command(missing: bool, as_json: bool) -> None:
    """Print which system calls are supported.

    A call is `full` (the note names the test that compares it with native Linux), `partial` (the note says what is
    missing) or `none` (ENOSYS; the note says why).
    """
    from occlum import _native

    calls = [call for call in _native.syscalls() if not missing or call[2] != "full"]
    if as_json:
        keys = ("number", "name", "support", "note")
        click.echo(json.dumps([dict(zip(keys, call, strict=True)) for call in calls], indent=2))
        return
    for number, name, support, note in calls:
        click.echo(f"{number:3} {name:24} {support:8} {note}")
