"""`occlum package`: an archive of an instance that runs where only the runtime is installed."""

from __future__ import annotations

from pathlib import Path

import click

from occlum.cli.progress import waiting
from occlum.image import built


@click.command("package", short_help="Pack an instance for other machines.")
@click.option("--debug", is_flag=True, help="Pack a debug enclave all the same.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
def command(debug: bool, file: Path | None) -> None:
    """Write what was built of the instance in the working directory to FILE.  [default: NAME.tar.gz]

    Unpack it on a machine that has occlum, change to the directory, and `occlum run`; its MRENCLAVE is the same there.
    It holds the image and the configuration, not what the enclave has written. A debug enclave is refused, since
    whoever runs it could look into it.
    """
    from occlum.image import packing

    directory = Path(built.require())
    target = file or Path(f"{directory.name}.tar.gz")
    with waiting("packing"):
        packing.pack(directory, target, debug=debug)
    click.echo(str(target))
