"""What the documentation site takes from elsewhere: commands from click, errors from `occlum.codes`, the trusted code
from cargo, pages from the top of the tree. mkdocs calls the `on_...` functions (mkdocs.yml).

Neighbours: tools/tcb.toml (why each crate is in the blob), docs/. Invariant: the pages are made of what the code says
now; nothing generated is checked in.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

WIDTH = 84
# Pages of the top directory, shown below project/.
TOP = ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
SITE_PLACE = "project/"


# Commands.


def _contexts(command: click.Command, parent: click.Context | None, name: str) -> Iterator[click.Context]:
    """The command and all below it."""
    settings: dict[str, Any] = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield context
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from _contexts(found, context, child)


def commands_page() -> str:
    """`--help` of every command."""
    from occlum.cli import occlum

    parts = [
        "# Commands\n",
        "What `--help` says, of every command. `occlum completion` completes all of it in your shell.\n",
    ]
    for context in _contexts(occlum, None, "occlum"):
        depth = "##" if context.parent is None or context.parent.parent is None else "###"
        parts.append(f"{depth} {context.command_path}\n\n```text\n{context.get_help()}\n```\n")
    return "\n".join(parts)


# Errors.


def errors_page() -> str:
    """The two tables of `occlum explain`."""
    from occlum.codes import ERRORS, STATUSES

    parts = [
        "# Errors\n",
        "Every error of the tool and of the SDK ends with its code in brackets. `occlum explain CODE` prints what is "
        "here; in Python it is the attribute `code` of the exception.\n",
        "## Exit statuses\n\n| status | of | meaning |\n|---|---|---|",
        *(f"| {row.status} | {row.of} | {row.meaning} |" for row in STATUSES),
        "\n## Codes\n",
    ]
    for code, entry in ERRORS.items():
        parts.append(f"### {code}: {entry.title}\n\n{entry.cause}\n\n**Fix:** {entry.fix}\n")
    return "\n".join(parts)


# The configuration.


def _keys(model: Any, prefix: str) -> Iterator[str]:
    """A section for a model, and for those in it."""
    from occlum.config import files, models

    rows, nested = [], []
    for name, info in model.model_fields.items():
        below = next(iter(files.models_in(info.annotation)), None)
        if below is not None:
            if below is not model and f".{name}." not in f".{prefix}":
                nested.append((name, below))
            continue
        default = info.get_default(call_default_factory=True)
        if name.endswith("_size") and isinstance(default, int):
            default = models.format_size(default)
        shown = "required" if info.is_required() else "" if default in (None, ()) else f"`{default}`"
        rows.append(f"| `{name}` | {shown} | {info.description or ''} |")
    doc = (model.__doc__ or "").strip()
    yield f"## {f'`{prefix}`' if prefix else 'At the top'}\n\n{doc}\n"
    if rows:
        yield "\n".join(["| key | default | meaning |", "|---|---|---|", *rows]) + "\n"
    for name, below in nested:
        yield from _keys(below, f"{prefix}.{name}" if prefix else name)


def configuration_page() -> str:
    """Every key of `Occlum.toml`, from its models."""
    from occlum.config import models

    head = [
        "# Configuration",
        "What `Occlum.toml`, and `Occlum.json` with the same vocabulary, can say. All of it is measured. Sizes are "
        "whole numbers with KB, MB, GB or TB, powers of 1024. Unknown keys are errors. `occlum config explain KEY` "
        "prints the same, `occlum config check` finds everything that is wrong with a file.\n",
    ]
    return "\n\n".join([*head, *_keys(models.Config, "")])


# The trusted computing base.


def blob_packages() -> list[dict[str, Any]]:
    """The packages that are linked into the enclave image, as cargo's metadata has them, the workspace's own first."""
    tree = [
        "cargo",
        "tree",
        "-p",
        "occlum-blob",
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]
    lines = subprocess.run(tree, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    linked = {tuple(line.split()[:2]) for line in lines if line.strip()}
    whole = ["cargo", "metadata", "--format-version", "1"]
    listing = json.loads(subprocess.run(whole, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    found = [one for one in listing["packages"] if (one["name"], f"v{one['version']}") in linked]
    return sorted(found, key=lambda one: (one["source"] is not None, one["name"]))


def _lines_of_code(package: dict[str, Any]) -> int:
    """Lines of its library that are neither empty nor comments, its tests included where they stand beside the code."""
    source = Path(package["manifest_path"]).parent / "src"
    lines = (line.strip() for path in source.rglob("*.rs") for line in path.read_text(errors="replace").splitlines())
    return sum(bool(line) and not line.startswith("//") for line in lines)


def reasons() -> dict[str, str]:
    """Why each is in the blob."""
    table: dict[str, str] = tomllib.loads((ROOT / "tools" / "tcb.toml").read_text())
    return table


def _who(package: dict[str, Any]) -> str:
    names = [re.sub(r"\s*<[^>]*>", "", author) for author in package["authors"]]
    return ", ".join(names) or "not named"


def tcb_page() -> str:
    """Each crate in the image."""
    packages, why = blob_packages(), reasons()
    rows = {True: list[str](), False: list[str]()}
    total = {True: 0, False: 0}
    for package in packages:
        own, lines = package["source"] is None, _lines_of_code(package)
        total[own] += lines
        name, reason = f"`{package['name']}` {'' if own else package['version']}".strip(), why[package["name"]]
        licence = (package["license"] or "").replace("/", " or ")
        rows[own].append(f"| {name} | {reason} | {lines:,} |" + ("" if own else f" {licence} | {_who(package)} |"))
    return f"""# Trusted code

Everything that MRENCLAVE stands for is in one file, the enclave image. These are all the crates it is linked from, as
cargo says for this version; nothing else runs inside with the LibOS's rights. Beside them is Rust's `core` and `alloc`.

Lines are those of the whole library, without empty lines and comments; the linker leaves out what is not used. Tests
that stand beside the code are counted, too.

## Of this project: {total[True]:,} lines

Only `occlum-rt` contains `unsafe`, each block with its conditions. The verifier decides alone what may execute:
the translator, and iced-x86 with it, is trusted to be faithful, not for isolation.

| crate | what for | lines |
|---|---|---:|
{chr(10).join(rows[True])}

## Of others: {total[False]:,} lines

| crate | why | lines | licence | authors, as the crate names them |
|---|---|---:|---|---|
{chr(10).join(rows[False])}

Versions are pinned in Cargo.lock, with their hashes. A new crate in the image needs a reason in `tools/tcb.toml`: a
test compares.
"""


GENERATED = {
    "reference/commands.md": commands_page,
    "reference/configuration.md": configuration_page,
    "reference/errors.md": errors_page,
    "reference/tcb.md": tcb_page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that no file below docs/ has."""
    for place, make in GENERATED.items():
        files.append(File.generated(config, place, content=make()))
    for name in TOP:
        files.append(File.generated(config, SITE_PLACE + name, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Links between the top of the tree and docs/ lead to where the pages are in the site; directives are not shown."""
    if page.file.src_uri.startswith(SITE_PLACE):
        markdown = markdown.replace("](docs/", "](../")
    else:
        up = "../" * page.file.src_uri.count("/")
        markdown = re.sub(r"\]\((?:\.\./)+([A-Z]+\.md)", rf"]({up}{SITE_PLACE}\1", markdown)
    return re.sub(r"(?m)^<!-- run: .* -->\n", "", markdown)
