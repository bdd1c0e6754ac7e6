#!/usr/bin/env python3
"""Runs other people's test suites natively and in the enclave, in turns, and compares case by case.

    tools/conformance.py run                                  everything; with --record also the scoreboard
    tools/conformance.py run --suites 'CPython.*signal' --cases '.*wakeup.*'
    tools/conformance.py run --failed --record                what the records say failed, once more
    tools/conformance.py run --seconds 60 --seed 7            a slice: random cases until the time is over

`tests/conformance/suites.toml` says what there is, `tests/conformance/reasons.toml` which cases cannot pass inside and
why (a call, a flag, an instruction). A run fails when a case that passes natively fails inside and is not listed, and
when a listed one passes. A case that fails inside gets a second run alone, for the machine may be busy; such cases are
counted. Neighbours: `suites` runs the cases of each kind, `scoreboard` writes docs/compatibility.md.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import record
import scoreboard
from scoreboard import Row, read_reasons
from suites import FAIL, OK, SKIP, Outcome, StressSuite, Suite, read_suites

CHUNK = 12


def verdicts(native: Mapping[str, Outcome], inside: Mapping[str, Outcome], reasons: Mapping[str, str]) -> Row:
    """What came of the cases of one suite."""
    row = Row(cases=len(native))
    for case, expected in native.items():
        if expected.result == SKIP:
            row.skipped += 1
        if expected.result != OK:
            continue
        row.native += 1
        actual = inside.get(case, Outcome(FAIL, "did not run"))
        listed = scoreboard.reason_of(case, reasons)
        if actual.result == OK:
            row.inside += 1
            row.again += actual.again
            if listed is not None:
                row.unexpected.append(case)
        elif listed is not None:
            row.listed[case] = listed
        else:
            row.failed[case] = actual.text or actual.result
    return row


def compare(suite: Suite, member: str, cases: Sequence[str], reasons: Mapping[str, str]) -> Row:
    """Runs cases of one member natively, those that pass inside, and failures a second time."""
    native = suite.run_cases(member, cases, inside=False)
    passed = [case for case, outcome in native.items() if outcome.result == OK]
    inside = suite.run_cases(member, passed, inside=True)
    for case in passed:
        if inside[case].result != OK and scoreboard.reason_of(case, reasons) is None:
            second = suite.run_cases(member, [case], inside=True)[case]
            inside[case] = Outcome(second.result, second.text or inside[case].text, again=True)
    return verdicts(native, inside, reasons)


def report(suite: Suite, member: str, row: Row, seconds: float) -> None:
    """Lines for the terminal."""
    print(
        f"{suite.name}: {member}: {row.cases} cases, {row.native} pass natively, {row.inside} inside"
        f"{f' ({row.again} at the second try)' if row.again else ''}, {len(row.listed)} listed, {seconds:.0f} s",
        flush=True,
    )
    for case, text in row.failed.items():
        print(f"  FAILED {case}\n" + "\n".join(f"    {line}" for line in text.splitlines()[-12:]), flush=True)
    for case in row.unexpected:
        print(f"  PASSES, but reasons.toml lists it: {case}", flush=True)


def whole(suites: Sequence[Suite], wanted: re.Pattern[str]) -> Iterator[tuple[Suite, str, list[str]]]:
    """Every member with its cases."""
    for suite in suites:
        for member in suite.members:
            cases = [case for case in suite.list_cases(member) if wanted.search(case)]
            if cases:
                yield suite, member, cases


def slices(
    suites: Sequence[Suite], wanted: re.Pattern[str], rng: random.Random, end: float
) -> Iterator[tuple[Suite, str, list[str]]]:
    """Random members with a few of their cases, until the time is over."""
    members = [(suite, member) for suite in suites if suite.sliced for member in suite.members]
    while members and time.monotonic() < end:
        rng.shuffle(members)
        for suite, member in members:
            cases = [case for case in suite.list_cases(member) if wanted.search(case)]
            if cases and time.monotonic() < end:
                start = rng.randrange(len(cases))
                yield suite, member, cases[start : start + CHUNK]


def run_failed(options: argparse.Namespace, tested: str) -> int:
    """Runs the cases that the records say failed; 1 if some still do."""
    reasons, recorded = read_reasons(), scoreboard.read_rows()
    wrong = 0
    for suite in read_suites():
        failed = recorded[suite.name].failed if suite.name in recorded else {}
        for member in suite.members if failed and re.search(options.suites, suite.name) else ():
            cases = [case for case in suite.list_cases(member) if case in failed]
            row = compare(suite, member, cases, reasons)
            passed = [case for case in cases if case not in row.failed] if row.native == len(cases) else []
            wrong += len(cases) - len(passed)
            if cases:
                print(f"{suite.name}: {member}: {len(passed)} of {len(cases)} pass now", flush=True)
            if passed and options.record:
                scoreboard.mend(suite.name, passed, tested)
    return 1 if wrong else 0


def run(options: argparse.Namespace) -> int:
    """Runs what was asked for; 1 if something differs."""
    tested = record.commit()
    if options.record and tested.endswith("-dirty"):
        print("a record needs a commit: commit your changes first", file=sys.stderr)
        return 2
    if options.failed:
        return run_failed(options, tested)
    suites = [suite for suite in read_suites() if re.search(options.suites, suite.name)]
    if options.stress_seconds is not None:
        suites = [s.lasting(options.stress_seconds) if isinstance(s, StressSuite) else s for s in suites]
    reasons, wanted = read_reasons(), re.compile(options.cases)
    rows: dict[str, Row] = {}
    begin = time.monotonic()
    if options.seconds is None:
        work = whole(suites, wanted)
    else:
        print(f"seed {options.seed}")
        work = slices(suites, wanted, random.Random(options.seed), begin + options.seconds)
    for suite, member, cases in work:
        start = time.monotonic()
        row = compare(suite, member, cases, reasons)
        report(suite, member, row, time.monotonic() - start)
        rows[suite.name] = rows.get(suite.name, Row()) + row
        if options.record:
            date = f"{datetime.now(UTC):%Y-%m-%d}"
            scoreboard.write(rows, tested, date, record.machine())
    wrong = [case for row in rows.values() for case in (*row.failed, *row.unexpected)]
    print(f"{len(wrong)} differ, {(time.monotonic() - begin) / 60:.1f} min")
    return 1 if wrong else 0


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    runner = commands.add_parser("run", help="run suites")
    runner.add_argument("--suites", default="", metavar="REGEX", help="only suites with such a name")
    runner.add_argument("--cases", default="", metavar="REGEX", help="only cases with such an id")
    runner.add_argument("--seconds", type=float, help="a slice: random cases, none started later than this")
    runner.add_argument("--stress-seconds", type=int, metavar="N", help="of each stressor; the record says so")
    runner.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of the slice")
    runner.add_argument("--failed", action="store_true", help="only what the records say failed")
    runner.add_argument("--record", action="store_true", help="write results and the page")
    runner.set_defaults(act=run)
    page = commands.add_parser("page", help="write docs/compatibility.md from the recorded results")
    page.set_defaults(act=lambda _: scoreboard.write_page())
    options = parser.parse_args()
    return int(options.act(options) or 0)


if __name__ == "__main__":
    raise SystemExit(main())
