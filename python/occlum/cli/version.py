"""`occlum version`."""

from __future__ import annotations

import click


@click.command("version")
def command() -> None:
    """Print the version."""
    import occlum

    click.echo(f"occlum {occlum.__version__}")
