"""The `occlum` command. Subcommands live in one file each and are imported only when they are used.

Exit statuses of the tool's own failures follow container tools, so that scripts can tell them from the program's: see
`EXIT_*`. Nothing in the package imports `cli`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection, Sequence

import click

from occlum.errors import OcclumError, refused

EXIT_TIMED_OUT = 124
EXIT_OCCLUM_FAILED = 125
EXIT_CANNOT_EXECUTE = 126
EXIT_NO_PROGRAM = 127
EXIT_INTERRUPTED = 130

# Command name -> (module under occlum.cli, one-line help). The help is here so that `occlum --help` imports nothing.
COMMANDS = {
    "build": ("build", "Build the enclave of an instance."),
    "config": ("config", "Check, explain and convert the configuration of an instance."),
    "copy-bom": ("copy_bom", "Copy what a BOM file lists into a directory."),
    "diff": ("diff", "Say why two instances have different measurements."),
    "export": ("export", "Write the enclave as .sgxs and .sig files."),
    "gen-sign-key": ("gen_sign_key", "Make a key for signing enclaves."),
    "package": ("package", "Pack an instance for other machines."),
    "init": ("init", "Make an instance of the working directory."),
    "new": ("new", "Make an instance: a directory from which an enclave is built."),
    "run": ("run", "Run a program in an enclave of an instance."),
    "fs": ("fs", "Look into sealed stores and change them."),
    "bench": ("bench", "Compare a program's speed, native and in an enclave."),
    "check": ("check", "Say what of a program will not work in an enclave."),
    "completion": ("completion", "Print the script that completes `occlum` in your shell."),
    "doctor": ("doctor", "Say what this machine offers, and what to fix."),
    "explain": ("explain", "Explain an error's code or an exit status."),
    "cp": ("cp", "Copy files into or out of a running enclave."),
    "mount": ("mount", "Show a sealed store as a directory of this machine."),
    "umount": ("umount", "Unmount a sealed store."),
    "gen-image-key": ("gen_image_key", "Make a key for encrypted images and sealed stores."),
    "exec": ("exec_", "Run a program in a running enclave."),
    "kill": ("kill", "Send a signal to processes of a running enclave."),
    "logs": ("logs", "Show what a running enclave's host process logged."),
    "ps": ("ps", "List the processes in running enclaves."),
    "start": ("start", "Start an enclave that stays, for `exec`."),
    "status": ("status", "Say which enclaves run."),
    "stop": ("stop", "Stop a running enclave."),
    "top": ("top", "Watch the processes of a running enclave."),
    "print": ("print_", "Print facts about the enclave, such as its measurement."),
    "syscalls": ("syscalls", "Print which system calls are supported, and how far."),
    "try": ("try_", "Run a program of this machine in a fresh enclave."),
    "verify": ("verify", "Check that programs can be confined, without running them."),
    "version": ("version", "Print the version."),
}

# What `occlum --help` lists, in this order; what stands in none of them would be hidden (a test looks).
GROUPS = {
    "Run programs": ("try", "check", "bench", "verify"),
    "Instances": ("new", "init", "build", "run", "config", "copy-bom", "package"),
    "Enclaves that stay": ("start", "exec", "ps", "top", "status", "logs", "cp", "kill", "stop"),
    "Measurements": ("print", "diff", "gen-sign-key", "export"),
    "Sealed files": ("fs", "gen-image-key", "mount", "umount"),
    "Help": ("doctor", "explain", "syscalls", "completion", "version"),
}

EXAMPLES = """\b
Examples:
  occlum try python3 -c 'print(6*7)'    one program, in an enclave of its own
  occlum try --strace -v "$PWD" make    its system calls; this directory shared
  occlum start                          an enclave that stays, for `occlum exec`
  occlum COMMAND --help                 options and more examples
"""

FIRST = """\
Occlum runs unmodified Linux programs, many processes of them, inside one SGX enclave (simulated).

Four commands to try first:

  occlum try bash     a shell, and all that it starts, in an enclave of its own
  occlum new app      an instance: then `occlum build` and `occlum run` in it, the same enclave everywhere
  occlum doctor       what this machine offers, and what to fix
  occlum --help       everything else
"""


class LazyGroup(click.Group):
    """A group whose commands come from `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """Imports the module of that command."""
        if name not in COMMANDS:
            return None
        command = importlib.import_module(f"occlum.cli.{COMMANDS[name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The groups of commands, without importing them."""
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, COMMANDS[name][1]) for name in names])


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001
    if value:
        import occlum as package

        click.echo(f"occlum {package.__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    epilog=EXAMPLES,
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version, as `occlum version` does.",
)
@click.pass_context
def occlum(ctx: click.Context) -> None:
    """Run unmodified programs, and many processes of them, inside one SGX enclave (simulated)."""
    if ctx.invoked_subcommand is None:
        click.echo(FIRST, nl=False)


class BadValue(click.BadParameter):
    """A usage error with a code of its own."""

    def __init__(self, error: OcclumError, param: click.Parameter | None, ctx: click.Context | None) -> None:
        super().__init__(f"{error.cause}; {error.fix}", ctx, param)
        self.code = error.code


def fail(message: str, code: str = "") -> None:
    """One line on standard error in the tool's own name; an error has its code (`occlum.codes`)."""
    click.echo(f"occlum: {message} [{code}]" if code else f"occlum: {message}", err=True)


def environment_of(settings: Sequence[str]) -> dict[str, str]:
    """The caller's environment with the `-e` options applied in order."""
    env = dict(os.environ)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not key:
            raise click.UsageError(f"-e {setting!r} has no name; write NAME=VALUE")
        if equals:
            env[key] = value
    return env


def without_effect(settings: Sequence[str], allowed: Collection[str]) -> None:
    """Names the variables of `-e` options that an instance's configuration does not let the host set."""
    names = dict.fromkeys(setting.partition("=")[0] for setting in settings)
    if ignored := [name for name in names if name not in allowed]:
        fail(f"-e {', '.join(ignored)} has no effect: env.untrusted of the instance's configuration does not name it")


def main(words: Sequence[str] | None = None, command: click.Command = occlum, name: str = "occlum") -> int:
    """Runs the command of these words, or of the process's own; its exit status."""
    try:
        status = command.main(words, prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            click.echo(error.format_message(), err=True)
        else:
            place = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else name
            fail(f"{error.format_message()} (see `{place} --help`)", getattr(error, "code", "OC100"))
        status = EXIT_OCCLUM_FAILED
    except OcclumError as error:
        fail(str(error))
        status = EXIT_OCCLUM_FAILED
    except (KeyboardInterrupt, click.Abort):
        status = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone; keep the interpreter's own flush at exit from failing too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = EXIT_OCCLUM_FAILED
    except OSError as error:
        fail(refused(error), "OC106")
        status = EXIT_OCCLUM_FAILED
    return status if isinstance(status, int) else 0
