"""`occlum fs`: look into sealed stores and change them. The work is `occlum.sealed`; here are arguments and output."""

from __future__ import annotations

import json
import stat as stat_
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from occlum.cli import fail
from occlum.cli.options import INSECURE_COUNTER
from occlum.cli.progress import waiting
from occlum.errors import OcclumError, StoreError, refused
from occlum.keys import generate_key, read_key
from occlum.sealed import BLOCK, Store

EXIT_DAMAGED = 1
_LARGEST = (1 << 63) - 1
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
F = TypeVar("F", bound=Callable[..., Any])


def parse_size(ctx: click.Context, param: click.Parameter, value: str) -> int:  # noqa: ARG001
    """Bytes of a text such as 512M."""
    unit = _UNITS.get(value[-1:].upper(), 1)
    digits = value[:-1] if unit > 1 else value
    if not digits.isdecimal() or len(digits) > 18:
        raise click.BadParameter(f"{value!r} is not a size; try 512M or 2G")
    size = int(digits) * unit
    if size > _LARGEST:
        raise click.BadParameter(f"{value} is more than any file can have; try 512M or 2G")
    return size


@click.group("fs")
def command() -> None:
    """Look into sealed stores and change them.

    A store is one file. Paths inside it begin at its root. Without --image-key the store is one that is only
    protected against changes (an image), not encrypted. Old copies are told from the newest one with
    --insecure-counter only, given each time.
    """


def _store(function: F) -> F:
    """The arguments that all subcommands have."""
    key = click.option(
        "--image-key", "key", type=click.Path(exists=True, path_type=Path), help="File with the key of the store."
    )
    return click.argument("store", type=click.Path(path_type=Path))(key(INSECURE_COUNTER(function)))


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _open(store: Path, key: Path | None, counter: str | None, *, read_only: bool = True) -> Store:
    return Store(store, read_key(key) if key else None, read_only=read_only, insecure_counter=_path(counter))


@command.command("gen-key")
@click.argument("file", type=click.Path(path_type=Path))
def gen_key(file: Path) -> None:
    """Write a new image key to FILE."""
    generate_key(file)


@command.command()
@_store
@click.option("--size", metavar="SIZE", callback=parse_size, required=True, help="Size of the store, such as 512M.")
@click.option("--from", "source", type=click.Path(exists=True, path_type=Path), help="Directory to copy into it.")
def mkfs(store: Path, key: Path | None, insecure_counter: str | None, size: int, source: Path | None) -> None:
    """Make an empty store, or one with the content of a directory."""
    bytes_of_key = read_key(key) if key else None
    with (
        waiting("writing"),
        Store.create(store, size, bytes_of_key, insecure_counter=_path(insecure_counter)) as made,
    ):
        if source:
            made.copy_in(source, "/")


@command.command()
@_store
@click.argument("path", default="/")
@click.option("-l", "long", is_flag=True, help="Show attributes.")
def ls(store: Path, key: Path | None, insecure_counter: str | None, path: str, long: bool) -> None:
    """List a directory, or name a file."""
    with _open(store, key, insecure_counter) as opened:
        for name in opened.listdir(path) if opened.is_dir(path) else [path]:
            full = f"{path.rstrip('/')}/{name}" if opened.is_dir(path) else path
            click.echo(_long_line(opened, full, name) if long else name)


def _long_line(store: Store, path: str, name: str) -> str:
    status = store.stat(path)
    when = datetime.fromtimestamp(status.mtime_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M")
    arrow = f" -> {store.readlink(path)}" if stat_.S_ISLNK(status.mode) else ""
    owner = f"{status.uid:>5} {status.gid:>5}"
    return f"{stat_.filemode(status.mode)} {status.nlink:>3} {owner} {status.size:>12} {when} {name}{arrow}"


@command.command()
@_store
@click.argument("path")
def cat(store: Path, key: Path | None, insecure_counter: str | None, path: str) -> None:
    """Write a file's content to standard output."""
    with _open(store, key, insecure_counter) as opened:
        for chunk in opened.chunks(path):
            sys.stdout.buffer.write(chunk)


@command.command()
@_store
@click.argument("source")
@click.argument("target")
def cp(store: Path, key: Path | None, insecure_counter: str | None, source: str, target: str) -> None:
    """Copy files or directories; a path inside the store begins with a colon (:/etc)."""
    if source.startswith(":") == target.startswith(":"):
        raise click.UsageError("one of the two paths must begin with a colon: it is the one inside the store")
    with waiting("copying"), _open(store, key, insecure_counter, read_only=source.startswith(":")) as opened:
        try:
            if source.startswith(":"):
                opened.copy_out(source[1:], Path(target))
            else:
                opened.copy_in(Path(source), target[1:])
        except OSError as error:
            raise OcclumError(refused(error), code="OC404") from None


@command.command()
@_store
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def fsck(store: Path, key: Path | None, insecure_counter: str | None, as_json: bool) -> None:
    """Read everything, prove it whole, and name the files that are damaged."""
    with waiting("reading everything"), _open(store, key, insecure_counter) as opened:
        check = opened.check()
    if as_json:
        findings = [{"path": f.path, "what": f.what} for f in check.findings]
        click.echo(json.dumps({"findings": findings, "inodes": check.inodes, "blocks": check.blocks}))
    else:
        for finding in check.findings:
            click.echo(f"{finding.path or '(metadata)'}: {finding.what}")
        count = len(check.findings)
        problems = f"{count or 'no'} problem{'' if count == 1 else 's'}"
        click.echo(f"{check.inodes} inodes, {check.blocks} blocks: {problems}")
    sys.exit(EXIT_DAMAGED if check.findings else 0)


@command.command("stat")
@_store
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def stat_command(store: Path, key: Path | None, insecure_counter: str | None, as_json: bool) -> None:
    """Show size, free space, generation and root of a store."""
    with _open(store, key, insecure_counter) as opened:
        figures = opened.figures()
    facts = {
        "size": figures.blocks * BLOCK,
        "free": figures.free * BLOCK,
        "inodes": figures.files,
        "generation": figures.generation,
        "root": figures.root.hex(),
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for name, value in facts.items():
            click.echo(f"{name:<11} {value}")


@command.command()
@_store
@click.option("--size", metavar="SIZE", callback=parse_size, required=True, help="New size of the store.")
def grow(store: Path, key: Path | None, insecure_counter: str | None, size: int) -> None:
    """Make a store larger."""
    with _open(store, key, insecure_counter, read_only=False) as opened:
        with store.open("r+b") as file:
            old = file.seek(0, 2)
            if size < old:
                raise StoreError(f"{store} has {old} bytes already; stores cannot shrink")
            file.truncate(size // BLOCK * BLOCK)
        opened.grow(size // BLOCK)


@command.command()
@_store
@click.argument("size", metavar="SIZE|none")
def limit(store: Path, key: Path | None, insecure_counter: str | None, size: str) -> None:
    """Let files and metadata take at most SIZE of a store, or all of it.

    Writers beyond it get ENOSPC; what is in use already stays.
    """
    wanted = None if size == "none" else parse_size(click.get_current_context(), limit.params[-1], size)
    with _open(store, key, insecure_counter, read_only=False) as opened:
        opened.set_limit(None if wanted is None else wanted // BLOCK)
        is_full = wanted is not None and opened.figures().free == 0
    if is_full:
        fail(f"{store} has as much as that in use already: until some of it is removed, nothing can be written")


@command.command()
@_store
@click.option(
    "--new-key", type=click.Path(exists=True, path_type=Path), required=True, help="The key to use from now on."
)
def rotate(store: Path, key: Path | None, insecure_counter: str | None, new_key: Path) -> None:
    """Replace the key of a store; the data is not written again."""
    with _open(store, key, insecure_counter, read_only=False) as opened:
        opened.rotate(read_key(new_key))
