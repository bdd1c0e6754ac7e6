"""`occlum mount`: a sealed store as a directory of this machine."""

from __future__ import annotations

from pathlib import Path

import click

from occlum.cli.options import INSECURE_COUNTER
from occlum.errors import StoreError
from occlum.keys import read_key


@click.command("mount")
@click.option("--image-key", "key", type=click.Path(path_type=Path), help="File with the key of the store.")
@INSECURE_COUNTER
@click.option("--read-only", is_flag=True, help="Let nothing be changed.")
@click.option("--foreground", is_flag=True, help="Stay until it is unmounted, instead of going to the background.")
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
def command(
    key: Path | None,
    insecure_counter: str | None,
    read_only: bool,
    foreground: bool,
    store: Path,
    directory: Path,
) -> None:
    """Show the sealed STORE at DIRECTORY, until `occlum umount DIRECTORY`.

    Whoever can read DIRECTORY sees what the key protects. While it is mounted no enclave and no other command can use
    the store. Images (without a key) are shown read-only. What is written is durable after fsync, and after unmounting.
    """
    try:
        from occlum import mount
    except (ImportError, OSError) as error:
        fix = "install mfusepy (pip install 'occlum[mount]') and FUSE (Debian: fuse3)"
        raise StoreError(f"FUSE cannot be used: {error}", fix) from None
    bytes_of_key = read_key(key) if key else None
    try:
        mount.serve(
            store,
            bytes_of_key,
            directory,
            read_only=read_only or key is None,
            foreground=foreground,
            insecure_counter=None if insecure_counter is None else Path(insecure_counter).absolute(),
        )
    except RuntimeError as error:
        raise StoreError(
            f"FUSE did not mount {directory} (status {error})", "see what fusermount3 said above"
        ) from None
