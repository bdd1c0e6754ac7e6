"""`occlum copy-bom`, also installed as `copy_bom`: copy what a BOM file lists into a directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from occlum import cli
from occlum.cli import fail

if TYPE_CHECKING:
    from occlum.image.tree import Node

# The original's exit statuses, as a shell sees them.
COPY_FAILED, BAD_BOM, MKDIR_FAILED, LINK_FAILED = (status & 0xFF for status in (-2, -3, -4, -5))


def _apply(root: Path, dry_run: bool, path: str, include_dirs: Sequence[str]) -> None:
    """Carries the BOM out; nothing is ever removed. SystemExit with the original's status."""
    from occlum.image.bom import BomError, Plan
    from occlum.image.tree import BuildError

    try:
        tree = Plan(path, list(include_dirs)).tree()
    except BuildError as error:
        fail(str(error))
        sys.exit(error.status if isinstance(error, BomError) else BAD_BOM)
    for place, node in tree.ordered():
        if dry_run:
            click.echo(f"{node.kind} {place}" + (f" <- {node.source or node.target}" if node.kind != "dir" else ""))
            continue
        try:
            _make(root / place.lstrip("/"), node)
        except (OSError, BuildError) as error:
            fail(
                f"{place}: {error.strerror}" if isinstance(error, OSError) else str(error),
                "" if isinstance(error, BuildError) else "OC721",
            )
            sys.exit({"dir": MKDIR_FAILED, "link": LINK_FAILED}.get(node.kind, COPY_FAILED))


def _make(target: Path, node: Node) -> None:
    if node.kind == "dir":
        target.mkdir(parents=True, exist_ok=True)
    elif node.kind == "link":
        _link(target, node.target)
    else:
        _copy(target, node)


def _link(target: Path, to: str) -> None:
    if target.is_symlink() or target.is_file():
        target.unlink()
    target.symlink_to(to)


def _copy(target: Path, node: Node) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Never through a link that is there already.
    fresh = target.with_name(f".new-{target.name}")
    with fresh.open("wb") as file:
        for chunk in node.chunks():
            file.write(chunk)
    fresh.chmod(node.mode)
    if node.source is not None:
        # With the time of the original: compiled Python modules are held against it.
        status = node.source.stat()
        os.utime(fresh, ns=(status.st_mtime_ns, status.st_mtime_ns))
    fresh.rename(target)


@click.command("copy-bom", short_help="Copy what a BOM file lists into a directory.")
@click.option("-f", "--file", "path", required=True, metavar="FILE", help="The BOM file.")
@click.option("--root", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where to: an image/.")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@click.option("-i", "--include-dir", "include_dirs", multiple=True, metavar="DIR", help="Where included BOMs are.")
def command(path: str, root: Path, dry_run: bool, include_dirs: Sequence[str]) -> None:
    """Copy the files, directories and links that FILE lists, with the shared libraries they need, to DIR.

    FILE has the schema of the original's copy_bom (docs/images.md). Exit statuses are the original's, too: 255 a file
    is missing, 254 it cannot be copied, 253 the BOM makes no sense, 252 a directory or 251 a link cannot be made, 249 a
    hash is another one, 248 a library is missing.
    """
    _apply(root, dry_run, path, include_dirs)


def main() -> None:
    """The command `copy_bom`."""
    sys.exit(cli.main(command=command, name="copy_bom"))
