"""`occlum start`: an enclave that stays, in an owner process of its own, until `occlum stop`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from occlum._host import launch
from occlum._host.client import start_owner
from occlum.cli import fail
from occlum.cli.options import bind_option, given_options, measured_options, name_option, network_options

BANNER = "simulation: nothing is protected from this machine (development only; --quiet hides this line)"


def _instance(ctx: click.Context) -> str | None:
    """The instance in the working directory. Options that are its configuration's to say are refused there."""
    if not Path(".occlum").is_dir():
        return None
    from occlum.image import built

    settled = ("memory", "cpus", "max_tasks", "pid_max", "cfi", "no_alias", "binds")
    named = [name for name in settled if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT]
    if named:
        option = named[0].replace("_", "-")
        raise click.UsageError(f"--{option} is for the configuration of this instance to say; edit it, and build")
    return built.require()


def _start_instance(name: str, instance: str, given: launch.Given, quiet: bool) -> None:
    from occlum.image import built

    what = built.load(instance)
    if not quiet and what.banner():
        fail(what.banner())
    start_owner(name, {}, instance=instance, given=given)


@click.command("start", short_help="Start an enclave that stays, for `exec`.")
@name_option
@measured_options
@bind_option
@given_options
@network_options
@click.option("-q", "--quiet", is_flag=True, help="No banner.")
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    memory: int,
    cpus: int,
    max_tasks: int,
    pid_max: int,
    cfi: str,
    no_alias: bool,
    binds: Sequence[launch.Bind],
    given: launch.Given,
    published: Sequence[launch.Publish],
    network: str,
    quiet: bool,
) -> None:
    """Start an enclave that stays until `occlum stop`.

    It returns when the enclave takes programs: `occlum exec PROGRAM`. In the directory of an instance it is the enclave
    that was built there; its configuration says all that is measured. Elsewhere its programs share one writable
    layer above a read-only view of this machine's files, each as it was when first looked at.

    \b
    Examples:
      occlum start
      occlum start -n web -m 1G -v "$PWD" -p 127.0.0.1:8080:80
    """
    if not quiet:
        fail(BANNER)
    if (instance := _instance(ctx)) is not None:
        _start_instance(name, instance, given._replace(publish=tuple(published), network=network), quiet)
        return
    if given != launch.NOTHING_GIVEN:
        raise click.UsageError("--image-key, --config-id and --config-svn are for instances; this directory is none")
    outside = launch.Given(network=network, publish=tuple(published))
    options = launch.EnclaveOptions(memory, cpus, max_tasks, pid_max, cfi, no_alias)
    start_owner(name, vars(options), [bind._asdict() for bind in binds], given=outside)
