"""The scoreboard docs/compatibility.md, the results it is made from, and the reasons of cases that cannot pass.

Neighbours: `conformance` measures and hands rows over; `tests/unit/test_conformance.py` checks that the page is what
the recorded results give.
"""

from __future__ import annotations

import fnmatch
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "records" / "conformance.json"
PAGE = ROOT / "docs" / "compatibility.md"
REASONS = ROOT / "tests" / "conformance" / "reasons.toml"


@dataclass
class Row:
    """What came of a suite's cases. `native` counts those that pass natively: only they are run inside."""

    cases: int = 0
    skipped: int = 0
    native: int = 0
    inside: int = 0
    again: int = 0
    listed: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    # Cases that failed in the whole run and passed alone later, with that commit.
    since: dict[str, str] = field(default_factory=dict)
    date: str = ""
    commit: str = ""

    def __add__(self, other: Row) -> Row:
        """Both together."""
        return Row(
            self.cases + other.cases,
            self.skipped + other.skipped,
            self.native + other.native,
            self.inside + other.inside,
            self.again + other.again,
            self.listed | other.listed,
            self.failed | other.failed,
            self.unexpected + other.unexpected,
            self.since | other.since,
        )


def read_reasons() -> dict[str, str]:
    """Pattern of case ids -> why they do not pass inside."""
    with REASONS.open("rb") as file:
        return {row["case"]: row["reason"] for row in tomllib.load(file).get("reason", [])}


def reason_of(case: str, reasons: Mapping[str, str]) -> str | None:
    """Why the case cannot pass, if it is listed."""
    return next((why for pattern, why in reasons.items() if fnmatch.fnmatchcase(case, pattern)), None)


def write(rows: Mapping[str, Row], commit: str, date: str, machine: str) -> None:
    """Puts the rows among the recorded results, and writes the page."""
    data = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    data["machine"] = machine
    for name, row in rows.items():
        row.date, row.commit = date, commit
        data["rows"][name] = asdict(row)
    RESULTS.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    write_page()


def read_rows() -> dict[str, Row]:
    """The recorded results, by name of suite."""
    return {name: Row(**row) for name, row in json.loads(RESULTS.read_text())["rows"].items()}


def mend(name: str, passed: Iterable[str], commit: str) -> None:
    """Failed cases of a recorded suite pass now."""
    data = json.loads(RESULTS.read_text())
    row = Row(**data["rows"][name])
    for case in passed:
        del row.failed[case]
        row.inside += 1
        row.since[case] = commit
    data["rows"][name] = asdict(row)
    RESULTS.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    write_page()


def write_page() -> None:
    """docs/compatibility.md."""
    PAGE.write_text(page(json.loads(RESULTS.read_text())))


HEAD = """# Compatibility

Programs and other people's test suites, natively and in the enclave. `make conformance` runs them in turns, case by
case, and writes this page from its results; a slice of it runs in `make test`. *Native*: cases that pass on this
machine without an enclave; only they are run inside. *Listed*: known not to pass inside, with the reason below
(`tests/conformance/reasons.toml`); a listed case that passes fails the run. *Failed*: the rest. Failed cases that
passed when they were run again, alone (`run --failed`), count as passed and are named below.
"""


def page(data: Mapping[str, object]) -> str:
    """The page that the results give."""
    rows = {name: Row(**row) for name, row in data["rows"].items()}  # type: ignore[attr-defined]
    lines = [
        HEAD,
        f"Machine: {data['machine']}.",
        "",
        "| program or suite | cases | native | inside | listed | failed | % | run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    total = Row()
    for name, row in rows.items():
        lines.append(line(name, row, f"{row.date}, {row.commit[:10]}"))
        total += row
    lines += [line("**all**", total, ""), ""]
    lines += section("Listed", {case: why for row in rows.values() for case, why in row.listed.items()})
    lines += section("Failed", {case: last(text) for row in rows.values() for case, text in row.failed.items()})
    since = {case: f"run alone at {commit[:10]}" for row in rows.values() for case, commit in row.since.items()}
    lines += section("Failed in the whole run, and passed when run again", since)
    return "\n".join(lines).rstrip() + "\n"


def line(name: str, row: Row, run: str) -> str:
    """One line of the table."""
    share = f"{100 * row.inside / row.native:.1f}" if row.native else ""
    cells = (name, row.cases, row.native, row.inside, len(row.listed), len(row.failed), share, run)
    return f"| {' | '.join(map(str, cells))} |"


def last(text: str) -> str:
    """The last line that says something."""
    return next((part.strip() for part in reversed(text.splitlines()) if part.strip()), "")


def section(title: str, cases: Mapping[str, str]) -> list[str]:
    """Cases by reason."""
    if not cases:
        return []
    by_reason: dict[str, list[str]] = {}
    for case, why in cases.items():
        by_reason.setdefault(why, []).append(case)
    lines = [f"## {title}", ""]
    for why, names in by_reason.items():
        lines += [f"- {why}", *(f"  - `{name}`" for name in names)]
    return [*lines, ""]
