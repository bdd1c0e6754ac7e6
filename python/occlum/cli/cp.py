"""`occlum cp`: files into or out of a running enclave."""

from __future__ import annotations

import os
from pathlib import Path

import click

from occlum.errors import OcclumError


def _split(text: str) -> tuple[str | None, str]:
    """`NAME:PATH`, or a path of this machine (which `./` in front makes of any)."""
    name, colon, path = text.partition(":")
    if colon and "/" not in name and name:
        return name, path
    return None, text


@click.command("cp", short_help="Copy files into or out of a running enclave.")
@click.argument("source")
@click.argument("target")
def command(source: str, target: str) -> None:
    """Copy a file or a directory: SOURCE or TARGET is NAME:PATH, a path inside the enclave NAME.

    A TARGET that is a directory gets the copy under the name it had.
    """
    (source_name, source_path), (target_name, target_path) = _split(source), _split(target)
    if (source_name is None) == (target_name is None):
        raise click.UsageError("one of SOURCE and TARGET is NAME:PATH, like default:/tmp/file")
    # Needs more of the package than the other commands.
    from occlum.cli.progress import waiting
    from occlum.enclave import Enclave

    enclave = Enclave.attach(source_name or target_name or "")
    base = os.path.basename(source_path.rstrip("/"))  # noqa: PTH119
    try:
        with waiting("copying"):
            if target_name is not None:
                is_directory = enclave.call(["test", "-d", target_path], cwd="/") == 0
                enclave.fs.copy_in(source_path, os.path.join(target_path, base) if is_directory else target_path)  # noqa: PTH118
            else:
                there = Path(target_path)
                enclave.fs.copy_out(source_path, there / base if there.is_dir() else there)
    except OSError as error:
        raise OcclumError(f"{error.filename}: {error.strerror}", code="OC404") from None
