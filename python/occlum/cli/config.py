"""`occlum config check|explain|migrate`: configurations of instances."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from occlum.cli.options import json_option

EXIT_WRONG = 1


@click.group("config")
def command() -> None:
    """Check, explain and convert the configuration of an instance."""


def _file(path: Path | None) -> Path:
    from occlum.config import files

    return path if path is not None else files.find(Path.cwd())


@command.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@json_option
def check(file: Path | None, as_json: bool) -> None:
    """Say everything that is wrong with a configuration, and what weakens or has no effect. Status 1 if it is wrong."""
    from occlum.config import files
    from occlum.config.compile import compile_config

    path = _file(file)
    wrong, notes, weak = files.problems(path), list[str](), list[str]()
    if not wrong:
        config = files.read(path)
        notes, weak = files.notes(config), files.weaknesses(config)
        try:
            compile_config(config, b"\1" * 28)
        except files.ConfigurationError as error:
            wrong = [error.cause]
    if as_json:
        click.echo(json.dumps({"file": str(path), "problems": wrong, "notes": notes, "weaknesses": weak}))
    else:
        for kind, lines in (("wrong", wrong), ("weak", weak), ("note", notes)):
            for line in lines:
                click.echo(f"{kind}: {line}")
        click.echo(f"{path.name}: {len(wrong) or 'no'} problem{'' if len(wrong) == 1 else 's'}")
    sys.exit(EXIT_WRONG if wrong else 0)


@command.command("explain")
@click.argument("key", required=False)
def explain(key: str | None) -> None:
    """Describe every key of the configuration, or those that begin with KEY, with their defaults."""
    from occlum.config import models

    found = [line for line in _describe(models.Config) if key is None or line.startswith(key)]
    if not found:
        raise click.UsageError(f"no key begins with {key}; `occlum config explain` lists all")
    for line in found:
        click.echo(line)


def _describe(model: Any, prefix: str = "", above: tuple[Any, ...] = ()) -> list[str]:
    from occlum.config import files, models

    lines = []
    for name, info in model.model_fields.items():
        nested = next(iter(files.models_in(info.annotation)), None)
        if nested is not None and nested not in above:
            if nested.__doc__:
                lines.append(f"{prefix}{name}: {nested.__doc__.strip()}")
            lines += _describe(nested, f"{prefix}{name}.", (*above, model))
            continue
        default = info.get_default(call_default_factory=True)
        if name.endswith("_size") and isinstance(default, int):
            default = models.format_size(default)
        shown = "" if info.is_required() or default in (None, ()) else f"  [default: {default}]"
        lines.append(f"{prefix}{name}: {info.description}{shown}")
    return lines


@command.command("migrate")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), default="Occlum.json")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write it there.  [default: standard output]")
def migrate(file: Path, output: Path | None) -> None:
    """Write Occlum.toml for an Occlum.json of the original's."""
    from occlum.config import files

    config = files.read(file)
    text = files.to_toml(config)
    for note in files.notes(config):
        click.echo(f"occlum: {note}", err=True)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("x") as new:
            new.write(text)
    except FileExistsError:
        raise click.UsageError(f"{output} exists already; name another file") from None
