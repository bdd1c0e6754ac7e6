"""What the shell offers for words that only this machine knows: programs, files, running enclaves."""

from __future__ import annotations

import contextlib
import os

import click
from click.shell_completion import CompletionItem

from occlum._host import registry


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """The shell's own completion of paths."""
    return [CompletionItem(incomplete, type="file")]


def programs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names in PATH, or paths."""
    if "/" in incomplete:
        return files(ctx, param, incomplete)
    names: set[str] = set()
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        with contextlib.suppress(OSError), os.scandir(directory or ".") as entries:
            names.update(entry.name for entry in entries if entry.name.startswith(incomplete))
    return [CompletionItem(name) for name in sorted(names)]


def enclaves(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Names of running enclaves."""
    return [CompletionItem(entry.name) for entry in registry.entries() if entry.name.startswith(incomplete)]
