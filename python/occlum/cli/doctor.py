"""`occlum doctor`: what this machine offers, what to fix. The checks are `occlum._host.doctor`."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence

import click

from occlum._host.doctor import Finding, examine, trial
from occlum.cli.options import json_option

EXIT_BAD = 1
_COLOURS = {"ok": "green", "note": "blue", "warning": "yellow", "bad": "red"}


def _lines(findings: Sequence[Finding]) -> str:
    """For people, by group."""
    width = max(len(finding.name) for finding in findings)
    lines: list[str] = []
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            lines += ["", group] if lines else [group]
        state = click.style(f"{finding.state:<7}", fg=_COLOURS[finding.state])
        lines.append(f"  {state} {finding.name:<{width}}  {finding.found}")
        if finding.fix:
            lines.append(f"  {'':7} {'':{width}}  -> {finding.fix}")
    return "\n".join(lines)


def _verdict(findings: Sequence[Finding]) -> str:
    count = {state: sum(finding.state == state for finding in findings) for state in _COLOURS}
    if count["bad"]:
        return f"Enclaves will not run here: {count['bad']} to fix, marked bad."
    warnings = f" ({count['warning']} to look at, marked warning)" if count["warning"] else ""
    return f"Enclaves run here, simulated{warnings}."


def _report(findings: Sequence[Finding]) -> str:
    """Markdown for a bug report: nothing that names the user, the host or what they run."""
    import occlum

    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        system = "Linux"
    settings = ", ".join(sorted(name for name in os.environ if name.startswith("OCCLUM_"))) or "none"
    head = [
        f"- occlum {occlum.__version__}, simulation",
        f"- {system}, {' '.join(platform.libc_ver())}, Python {sys.version.split()[0]}",
        f"- variables set: {settings}",
    ]
    rows = [
        f"| {one.state} | {one.group} | {one.name} | {one.found.replace('|', '/')} |"
        for one in findings
        if one.name != "runtime directory"
    ]
    return "\n".join([*head, "", "| state | group | what | found |", "|---|---|---|---|", *rows])


@click.command("doctor")
@json_option
@click.option("--report", is_flag=True, help="Print Markdown to paste into a bug report.")
@click.option("--no-trial", is_flag=True, help="Start no enclave; only look.")
def command(as_json: bool, report: bool, no_trial: bool) -> int:
    """Say what this machine offers to enclaves: CPU, kernel, SGX, limits, container; and what to fix.

    It changes nothing. The exit status is 1 if something is bad, so that enclaves will not run.

    \b
    Examples:
      occlum doctor
      occlum doctor --report     for a bug report: names neither you nor this host
      occlum doctor --json --no-trial
    """
    if as_json and report:
        raise click.UsageError("--json and --report are two forms of one answer: give one of them")
    findings = list(examine())
    if not no_trial:
        findings.append(trial())
    if as_json:
        click.echo(json.dumps([finding.as_json() for finding in findings], indent=2))
    elif report:
        click.echo(_report(findings))
    else:
        click.echo(_lines(findings))
        click.echo(f"\n{_verdict(findings)}")
    return EXIT_BAD if any(finding.state == "bad" for finding in findings) else 0
