"""`occlum build`: make an image and a measured configuration of an instance."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from occlum.cli import fail
from occlum.cli.options import json_option
from occlum.image import built

if TYPE_CHECKING:
    from occlum.image.instance import Report


@contextlib.contextmanager
def reporting(quiet: bool) -> Iterator[Report]:
    """Progress on a terminal's standard error; silence elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _what, _total: lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:

        def report(what: str, total: int) -> object:
            task = progress.add_task(what, total=total or None)
            return lambda done: progress.advance(task, done)

        yield report  # type: ignore[misc]


@click.command("build", short_help="Build the enclave of an instance.")
@click.option("-f", "--force", is_flag=True, help="Build everything anew, and discard what the enclave has written.")
@click.option("--locked", is_flag=True, help="Fail if the build is not what Occlum.lock says, and leave all as it is.")
@click.option("--sign-key", type=click.Path(exists=True, path_type=Path), metavar="FILE", help="Sign with this key.")
@click.option("--sign-command", metavar="COMMAND", help="Sign with what this command prints.")
@click.option("--sign-cert", type=click.Path(exists=True, path_type=Path), metavar="FILE", help="Its public key.")
@click.option(
    "--image-key", type=click.Path(exists=True, path_type=Path), metavar="FILE", help="Encrypt the image by this key."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
def command(
    force: bool,
    locked: bool,
    sign_key: Path | None,
    sign_command: str | None,
    sign_cert: Path | None,
    image_key: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Build the enclave of the instance in the working directory.

    The same configuration and files give the same MRENCLAVE, on any machine and in any directory. Nothing is written
    anew that has not changed. What is in run/, the enclave's own, stays, except with --force.

    Debian packages have the versions that Occlum.lock names, which the first build writes; --force takes what the
    mirror has now. With --locked nothing may differ: what was built elsewhere is built again, or the message says what
    is not the same.

    Without a key of yours the development key signs, which everybody has. An image that --image-key encrypts runs only
    with that key (`occlum run --image-key`).
    """
    from occlum.image import instance, signing
    from occlum.keys import read_key

    directory = Path(built.require())
    signer = signing.signer(sign_key, sign_command, sign_cert)
    key = None if image_key is None else read_key(image_key)
    with reporting(quiet) as report:
        result = instance.build(directory, force=force, locked=locked, report=report, signer=signer, image_key=key)
    if as_json:
        click.echo(json.dumps(result._asdict()))
        return
    click.echo(f"MRENCLAVE {result.mrenclave}")
    if signer is not None:
        click.echo(f"MRSIGNER  {result.mrsigner}")
    if result.foreign_layers:
        fail(
            "what the enclave wrote to run/ is sealed to the build before: `occlum build --force` discards it; "
            'autokey_policy = "mrsigner" among the options of the layer would have kept it'
        )
    if not quiet:
        new = "" if result.image_changed else ", unchanged"
        fail(f"{result.nodes} files and directories, {result.size / (1 << 20):.1f} MiB{new}")
