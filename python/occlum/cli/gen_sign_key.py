"""`occlum gen-sign-key FILE`: a key for signing enclaves."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("gen-sign-key", short_help="Make a key for signing enclaves.")
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Write a new signing key (RSA-3072, exponent 3, PEM) to FILE, and print its MRSIGNER.

    Whoever has the key can sign enclaves that others take for yours; FILE is readable for you alone.
    """
    from occlum.image import signing

    click.echo(signing.generate_key(file).hex())
