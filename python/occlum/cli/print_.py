"""`occlum print ...`: facts about the enclave: of the instance in the working directory, or of what `try` starts."""

from __future__ import annotations

import json

import click
from click.core import ParameterSource

from occlum._host import launch
from occlum.cli import fail
from occlum.cli.options import json_option, measured_options
from occlum.image import built


@click.group("print")
def command() -> None:
    """Print facts about the enclave."""


@command.command("mrenclave")
@measured_options
@click.pass_context
def mrenclave(
    ctx: click.Context, memory: int, cpus: int, max_tasks: int, pid_max: int, cfi: str, no_alias: bool
) -> None:
    """Print the measurement (MRENCLAVE) of the enclave.

    In the directory of an instance, and without options, it is the one that `occlum build` made; otherwise the one that
    `occlum try` starts with the same options. Arguments of the program are not measured.
    """
    given = any(ctx.get_parameter_source(name) is not ParameterSource.DEFAULT for name in ctx.params)
    instance = built.find()
    if instance is not None and not given:
        click.echo(built.load(instance).mrenclave)
        return
    options = launch.EnclaveOptions(memory, cpus, max_tasks, pid_max, cfi, no_alias)
    click.echo(launch.measure(options).hex())


@command.command("mrsigner")
@click.option(
    "--key", type=click.Path(exists=True), metavar="FILE", help="Of this key, not of the instance's signature."
)
def mrsigner(key: str | None) -> None:
    """Print who signed (MRSIGNER) the instance in the working directory.

    What nobody has signed with a key of their own is signed by the development key, which everybody has.
    """
    from pathlib import Path

    from occlum.image import signing
    from occlum.sgx import sigstruct

    if key is not None:
        click.echo(sigstruct.mrsigner(signing.load_key(Path(key)).public_key().public_numbers().n).hex())
        return
    signer = signing.read_signature(built.load(built.require())).mrsigner
    if signing.is_development(signer):
        fail("signed by the development key, which everybody has; `occlum build --sign-key FILE` signs with yours")
    click.echo(signer.hex())


@command.command("config")
@json_option
def config(as_json: bool) -> None:
    """Print the measured configuration of the instance in the working directory, as the enclave reads it."""
    from occlum.config import page

    facts = page.describe(page.Config.decode(built.load(built.require()).config))
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, list):
            click.echo(f"{name}:" + ("" if value else " none"))
            for item in value:
                click.echo(f"  {item}")
        else:
            click.echo(f"{name}: {value}")
