"""`occlum completion`: the script with which a shell completes `occlum`'s words. The commands say what is offered."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_OCCLUM_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes `occlum` in SHELL: its commands, options, enclaves and programs.

    \b
    To have it in every shell that you open:
      bash   occlum completion bash > ~/.local/share/bash-completion/completions/occlum
      zsh    occlum completion zsh > "${fpath[1]}/_occlum"
      fish   occlum completion fish > ~/.config/fish/completions/occlum.fish
    To have it now:
      eval "$(occlum completion bash)"
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "occlum", VARIABLE).source())
