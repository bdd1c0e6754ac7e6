"""Option types and groups of options that several commands share."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from occlum._host import launch, units
from occlum.cli import BadValue
from occlum.errors import OptionError

F = TypeVar("F", bound=Callable[..., Any])


# Generic only in newer releases of click.
if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType


class _Parsed(_ParamType):
    """A parameter read by one of the package's own parsers."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Text to value; the parser's cause and fix become the usage error."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except OptionError as error:
            raise BadValue(error, param, ctx) from None


SIZE = _Parsed("size", units.parse_size)
DURATION = _Parsed("duration", units.parse_duration)
BIND = _Parsed("bind", launch.Bind.parse)
SEALED = _Parsed("sealed", launch.SealedMount.parse)
PUBLISH = _Parsed("publish", launch.Publish.parse)
CONFIG_ID = _Parsed("CONFIGID", launch.parse_config_id)

# Of the commands that open sealed stores of this machine. Text: pathlib would be felt on the way to `occlum try`.
INSECURE_COUNTER = click.option(
    "--insecure-counter",
    metavar="FILE",
    type=click.Path(),
    help="Refuse a copy of the store that is older than what FILE knows (made at the first use, one for each store)."
    " Insecure: who can change the store can change FILE, too.",
)

# Of the commands that start, use and stop enclaves that stay.
DEFAULT_NAME = "default"


def default_name() -> str:
    """The name that counts when none is given: in the directory of an instance, that instance's."""
    if not os.access(".occlum", os.F_OK):
        return DEFAULT_NAME
    # Most are not started in one.
    from occlum.image import built

    return built.enclave_name(built.require())


_MEASURED = (
    click.option(
        "-m",
        "--memory",
        type=SIZE,
        default=launch.DEFAULT_MEMORY,
        metavar="SIZE",
        show_default=True,
        help="Memory of the enclave, like 512M or 4G (measured).",
    ),
    click.option(
        "--cpus",
        type=click.IntRange(1, 64),
        default=launch.DEFAULT_CPUS,
        metavar="N",
        show_default=True,
        help="Host threads that may run in the enclave at once (measured).",
    ),
    click.option(
        "--max-tasks",
        type=click.IntRange(1, 1 << 20),
        default=launch.DEFAULT_MAX_TASKS,
        metavar="N",
        show_default=True,
        help="Most processes and threads at once (measured).",
    ),
    click.option(
        "--pid-max",
        type=click.IntRange(8, 1 << 22),
        default=launch.DEFAULT_PID_MAX,
        metavar="N",
        show_default=True,
        help="Process ids start again below this number (measured).",
    ),
    click.option(
        "--cfi",
        type=click.Choice(launch.CFI_LEVELS),
        default=launch.CFI_LEVELS[0],
        metavar="LEVEL",
        show_default=True,
        help="Control-flow integrity: default, strict or shadow-stack (measured).",
    ),
    click.option(
        "--no-alias",
        is_flag=True,
        help="Shared memory as on hardware: no page is in two places at once (measured).",
    ),
)


def _lazy(name: str) -> Callable[[click.Context, click.Parameter, str], Any]:
    """A function of `completing`, which is imported only while somebody presses the key."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
        from occlum.cli import completing

        return getattr(completing, name)(ctx, param, incomplete)

    return complete


def name_option(function: F) -> F:
    """Adds `--name`: which running enclave."""
    return click.option(
        "-n",
        "--name",
        default=default_name,
        metavar="NAME",
        show_default=f"{DEFAULT_NAME}, or the instance in the working directory",
        help="Name of the enclave.",
        shell_complete=_lazy("enclaves"),
    )(function)


def program_arguments(function: F) -> F:
    """Adds PROGRAM and its ARGs, where options end."""
    program = click.argument("program", metavar="PROGRAM [ARG...]", shell_complete=_lazy("programs"))
    rest = click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="", shell_complete=_lazy("files"))
    return program(rest(function))


def json_option(function: F) -> F:
    """Adds `--json`: output for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def bind_option(function: F) -> F:
    """Adds `-v`."""
    return click.option(
        "-v",
        "--bind",
        "binds",
        multiple=True,
        type=BIND,
        metavar="PATH",
        help="Share PATH, or HOST:GUEST, with the programs; append :ro to keep it read-only.",
    )(function)


def measured_options(function: F) -> F:
    """Adds the options that MRENCLAVE covers: the same ones to every command that names an enclave."""
    for option in reversed(_MEASURED):
        function = option(function)
    return function


def given_options(function: F) -> F:
    """`--image-key`, `--config-id`, `--config-svn`: what an instance's enclave is given; passed on as `given`."""

    @click.option("--image-key", metavar="FILE", help="Key of what `occlum build --image-key` has encrypted.")
    @click.option("--config-id", type=CONFIG_ID, metavar="BASE64", help="CONFIGID of the enclave (KSS).")
    @click.option("--config-svn", type=click.IntRange(0, 65535), metavar="N", help="CONFIGSVN of the enclave (KSS).")
    @functools.wraps(function)
    def with_given(
        *args: Any, image_key: str | None, config_id: bytes | None, config_svn: int | None, **rest: Any
    ) -> Any:
        key = None
        if image_key is not None:
            # Takes a while to import.
            from pathlib import Path

            from occlum.keys import read_key

            key = read_key(Path(image_key))
        return function(*args, given=launch.Given(config_id or b"", config_svn or 0, key), **rest)

    return with_given  # type: ignore[return-value]


def network_options(function: F) -> F:
    """`-p` and `--network`: what reaches the enclave, and what it reaches."""
    function = click.option(
        "--network",
        type=click.Choice(list(launch.NETWORKS)),
        default="outbound",
        show_default=True,
        help="What can be reached from inside: nothing, other machines, or this machine's own ports, too.",
    )(function)
    return click.option(
        "-p",
        "--publish",
        "published",
        multiple=True,
        type=PUBLISH,
        metavar="[HOST:]PORT:PORT[/udp]",
        help="Lead a port of this machine to one inside.",
    )(function)
