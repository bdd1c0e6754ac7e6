"""`occlum new PATH`: make an instance. `init` does the same with the working directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def instance_options(function: F) -> F:
    """What `new` and `init` have in common."""
    options = (
        click.option("--json", "as_json", is_flag=True, help="Write Occlum.json, as the original has it."),
        click.option(
            "--include", multiple=True, metavar="PROGRAM", help="Take PROGRAM of this machine into the image."
        ),
        click.option("--debian", multiple=True, metavar="PACKAGE", help="Take a Debian package into the image."),
        click.option("--oci", metavar="FILE", help="Begin with an OCI image: docker-archive or OCI layout."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def settings_of(
    directory: Path, include: Sequence[str], debian: Sequence[str], oci: str | None
) -> dict[str, str | list[str]]:
    """The table `image` of the configuration."""
    settings: dict[str, str | list[str]] = {}
    if oci is not None:
        if not Path(oci).exists():
            raise click.UsageError(f"--oci {oci}: there is no such file")
        settings["oci"] = os.path.relpath(oci, directory)
    if debian:
        settings["debian"] = list(debian)
    if include:
        settings["include"] = list(include)
    return settings


@click.command("new", short_help="Make an instance: a directory from which an enclave is built.")
@instance_options
@click.argument("path", type=click.Path(path_type=Path))
def command(path: Path, as_json: bool, include: Sequence[str], debian: Sequence[str], oci: str | None) -> None:
    """Make an instance in the new directory PATH.

    Fill its image/ with the files that programs inside shall see (or let --include, --debian or --oci do that), edit
    Occlum.toml, then `occlum build` and `occlum run PROGRAM`.
    """
    from occlum.image import instance

    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise click.UsageError(f"{path} exists already; `occlum init` makes an instance of a directory") from None
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    instance.create(path, as_json=as_json, settings=settings_of(path, include, debian, oci))
    click.echo(f"{path}: fill image/, edit the configuration, then `occlum build`", err=True)
