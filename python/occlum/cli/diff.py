"""`occlum diff A B`: why two instances have different measurements."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from occlum.cli.options import json_option
from occlum.image import built

EXIT_DIFFERENT = 1


def _facts(path: Path) -> dict[str, Any]:
    from occlum.config import page
    from occlum.image import instance

    what = built.load(built.require(str(path)))
    try:
        manifest = json.loads((path / instance.MANIFEST).read_text())["nodes"]
    except (OSError, ValueError, KeyError, TypeError):
        raise built.InstanceError(f"{path} has no list of its image's files", "build it again") from None
    return {
        "mrenclave": what.mrenclave,
        "runtime": what.runtime,
        "config": page.describe(page.Config.decode(what.config)),
        "files": {node.pop("path"): node for node in manifest},
    }


def compare(a: Path, b: Path) -> list[str]:
    """What differs, one line each; empty if the measurements are equal."""
    one, other = _facts(a), _facts(b)
    if one["mrenclave"] == other["mrenclave"]:
        return []
    lines = []
    if one["runtime"] != other["runtime"]:
        lines.append(f"enclave image (version of occlum): {one['runtime'][:16]} {other['runtime'][:16]}")
    for name, value in one["config"].items():
        if (now := other["config"][name]) != value:
            lines.append(f"config {name}: {value} -> {now}")
    for path in sorted({*one["files"], *other["files"]}):
        before, after = one["files"].get(path), other["files"].get(path)
        if before is None or after is None:
            lines.append(f"file {path}: {'removed' if after is None else 'added'}")
        elif before != after:
            what = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
            lines.append(f"file {path}: {', '.join(what)}")
    return lines


@click.command("diff", short_help="Say why two instances have different measurements.")
@click.argument("a", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("b", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
def command(a: Path, b: Path, as_json: bool) -> None:
    """Say what changed from instance A to instance B, as far as MRENCLAVE covers it. Status 1 if anything did."""
    lines = compare(a, b)
    if as_json:
        click.echo(json.dumps(lines))
    else:
        click.echo("\n".join(lines) or "the measurements are equal")
    sys.exit(EXIT_DIFFERENT if lines else 0)
