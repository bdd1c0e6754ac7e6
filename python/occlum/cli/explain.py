"""`occlum explain`: what is behind an error's code or an exit status. The tables are in `occlum.codes`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence

import click

from occlum.cli.options import json_option
from occlum.codes import ERRORS, STATUSES, Status
from occlum.errors import OptionError

_WIDTH = 100


def statuses_for(number: int) -> list[Status]:
    """The rows that speak of this exit status."""
    own = [row for row in STATUSES if row.status == str(number)]
    return own or [row for row in STATUSES if row.status == ("128+N" if 128 < number <= 128 + 64 else "0-255")]


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    return [code for code in ERRORS if code.startswith(incomplete.upper())]


def _paragraph(label: str, text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=f"  {label:<7}", subsequent_indent=" " * 9)


def _error(code: str) -> str:
    found = ERRORS[code]
    return f"{code}: {found.title}\n\n{_paragraph('Cause', found.cause)}\n{_paragraph('Fix', found.fix)}"


def _status(number: int) -> str:
    lines = [f"Exit status {number}", *(f"  {row.of}: {row.meaning}" for row in statuses_for(number))]
    if 128 < number <= 128 + 64:
        # Only here.
        from signal import Signals

        known = {int(signal): signal.name for signal in Signals}
        lines.append(f"  N is {number - 128}: {known.get(number - 128, 'a real-time signal')}")
    return "\n".join(lines)


def _all() -> str:
    codes = [f"  {code}  {found.title}" for code, found in ERRORS.items()]
    width = max(len(row.status) for row in STATUSES)
    statuses = [f"  {row.status:<{width}}  {row.meaning} ({row.of})" for row in STATUSES]
    return "\n".join(["Errors:", *codes, "", "Exit statuses:", *statuses])


@click.command("explain")
@json_option
@click.argument("codes", metavar="[CODE...]", nargs=-1, shell_complete=_complete)
def command(as_json: bool, codes: Sequence[str]) -> None:
    """Explain an error's CODE, which stands in brackets behind its message, or an exit status. Without one, list all.

    \b
    Examples:
      occlum explain OC400
      occlum explain 126
    """
    wanted = [code.upper() for code in codes]
    for code in wanted:
        if code not in ERRORS and not (code.isdecimal() and int(code) < 256):
            raise OptionError(f"there is no code {code}", "`occlum explain` lists all", "OC105")
    if as_json:
        found = {code: ERRORS[code] for code in wanted or ERRORS if code in ERRORS}
        statuses = [row for code in wanted if code.isdecimal() for row in statuses_for(int(code))]
        rows = statuses if wanted else STATUSES
        errors = [{"code": code} | entry._asdict() for code, entry in found.items()]
        click.echo(json.dumps({"errors": errors, "statuses": [row._asdict() for row in rows]}, indent=2))
        return
    texts = [_error(code) if code in ERRORS else _status(int(code)) for code in wanted]
    click.echo("\n\n".join(texts) if texts else _all())
