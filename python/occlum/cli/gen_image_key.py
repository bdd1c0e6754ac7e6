"""`occlum gen-image-key`."""

from __future__ import annotations

from pathlib import Path

import click

from occlum.errors import StoreError
from occlum.keys import generate_key


@click.command("gen-image-key")
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Make a new image key in FILE, which must not exist.

    Whoever has the key can read and change the stores that it opens. FILE is readable by you only. Keys of the original
    Occlum (16 bytes, `xx-xx-...`) are accepted wherever a key is.
    """
    try:
        generate_key(file)
    except OSError as error:
        raise StoreError(f"cannot make {file}: {error.strerror}", "name a new file") from None
