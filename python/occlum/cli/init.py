"""`occlum init`: make an instance of the working directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from occlum.cli.new import instance_options, settings_of


@click.command("init", short_help="Make an instance of the working directory.")
@instance_options
def command(as_json: bool, include: Sequence[str], debian: Sequence[str], oci: str | None) -> None:
    """Make an instance of the working directory; what is there stays as it is."""
    from occlum.image import instance

    here = Path.cwd()
    instance.create(here, as_json=as_json, settings=settings_of(here, include, debian, oci))
