"""The conformance driver: how outcomes become verdicts, how a runner that hangs or dies is read, what the page says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import conformance
import debian_source
import scoreboard
import suites
from scoreboard import Row
from suites import FAIL, OK, SKIP, Outcome

MODULE = """
import os, time, unittest
class Cases(unittest.TestCase):
    def test_a_passes(self): pass
    def test_b_fails(self): self.fail("on purpose")
    def test_c_dies(self): os._exit(9)
    def test_d_hangs(self): time.sleep(60)
    def test_e_skips(self): self.skipTest("on purpose")
    def test_f_fails_in_part(self):
        with self.subTest("part"):
            self.fail("in part")
    def test_g_forks_and_falls_through(self):
        child = os.fork()
        if child == 0:
            raise RuntimeError("in the child")
        os.waitpid(child, 0)
class Broken(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise RuntimeError("set-up")
    def test_never_runs(self): pass
"""


def test_a_process_that_dies_or_hangs_costs_one_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "given_cases.py").write_text(MODULE)
    suite = suites.PythonSuite(name="given", members=("given_cases",), limit=2)
    monkeypatch.setattr(suites, "environment", lambda: {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)})
    outcomes = suite.run_cases("given_cases", suite.list_cases("given_cases"), inside=False)
    short = {case.rsplit(".", 1)[1]: outcome.result for case, outcome in outcomes.items()}
    assert short == {
        "test_a_passes": OK,
        "test_b_fails": FAIL,
        "test_c_dies": FAIL,
        "test_d_hangs": FAIL,
        "test_e_skips": SKIP,
        "test_f_fails_in_part": FAIL,
        "test_g_forks_and_falls_through": OK,
        "test_never_runs": FAIL,
    }
    texts = {case.rsplit(".", 1)[1]: outcome.text for case, outcome in outcomes.items()}
    assert "on purpose" in texts["test_b_fails"]
    assert "ended with 9" in texts["test_c_dies"]
    assert "no end after 2 s" in texts["test_d_hangs"]
    assert "set-up" in texts["test_never_runs"]


def test_verdicts() -> None:
    native = dict.fromkeys("abcd", Outcome(OK)) | {"e": Outcome(FAIL), "f": Outcome(SKIP)}
    inside = {"a": Outcome(OK), "b": Outcome(FAIL, "why"), "c": Outcome(OK), "d": Outcome(SKIP, "no such call")}
    row = conformance.verdicts(native, inside, {"c*": "a call", "d": "another"})
    assert (row.cases, row.native, row.inside, row.skipped) == (6, 4, 2, 1)
    assert row.failed == {"b": "why"}
    assert row.unexpected == ["c"], "a listed case that passes is reported"
    assert row.listed == {"d": "another"}


@pytest.mark.parametrize(
    ("status", "output", "result"),
    [
        (0, "stress-ng: info: [1] successful run completed in 3.02s", OK),
        (0, "stress-ng: fail:  [3] epoll: epoll_ctl_add failed, errno=17", FAIL),
        (2, "", FAIL),
        (0, "stress-ng: info: fanotify stressor will be skipped, system call not supported", SKIP),
        (3, "leak: tasks 3, 5 afterwards", FAIL),
    ],
)
def test_what_stress_ng_says(status: int, output: str, result: str) -> None:
    assert suites.stress_outcome(status, output).result == result


def test_rows_add_up() -> None:
    total = Row(cases=2, native=2, inside=1, failed={"a": "x"}) + Row(cases=3, native=1, inside=1, unexpected=["b"])
    assert total == Row(cases=5, native=3, inside=2, failed={"a": "x"}, unexpected=["b"])


def test_cases_that_failed_count_when_they_pass_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoreboard, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(scoreboard, "PAGE", tmp_path / "page.md")
    row = scoreboard.Row(cases=3, native=3, inside=1, failed={"a": "broken", "b": "broken"})
    scoreboard.write({"suite": row}, "0123456789abcdef", "2026-01-01", "a machine")
    scoreboard.mend("suite", ["a"], "fedcba9876543210")
    mended = scoreboard.read_rows()["suite"]
    assert (mended.inside, list(mended.failed), mended.commit) == (2, ["b"], "0123456789abcdef")
    page = (tmp_path / "page.md").read_text()
    assert "| suite | 3 | 3 | 2 | 0 | 1 | 66.7 | 2026-01-01, 0123456789 |" in page
    assert "run alone at fedcba9876\n  - `a`" in page


def test_the_page_is_what_the_results_give() -> None:
    if not scoreboard.RESULTS.exists():
        pytest.skip("nothing recorded")
    assert scoreboard.PAGE.read_text() == scoreboard.page(json.loads(scoreboard.RESULTS.read_text()))


def test_suites_and_reasons_are_well_formed() -> None:
    known = suites.read_suites()
    assert len({suite.name for suite in known}) == len(known) > 10
    for pattern, why in scoreboard.read_reasons().items():
        assert pattern.strip("*")
        assert len(why) > 10, "a reason names a call, a flag or an instruction"


def test_sources_come_from_debian_s_own_archive(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text(
        "deb http://mirror.example/debian stable main\ndeb http://x.example/other y z\n"
    )
    (parts / "debian.sources").write_text(
        "Types: deb\n# old\nURIs: http://mirror.example/debian/\nSuites: a b\nComponents: main\nSigned-By: /k.gpg\n\n"
        "Types: deb\nURIs: http://mirror.example/debian-security\nSuites: c\n"
    )
    assert debian_source.source_lists(tmp_path).splitlines() == [
        "deb-src http://mirror.example/debian stable main",
        "deb-src [signed-by=/k.gpg] http://mirror.example/debian/ a main",
        "deb-src [signed-by=/k.gpg] http://mirror.example/debian/ b main",
    ]


@pytest.mark.parametrize(("fsck", "result"), [("exit 0", OK), ("echo torn; exit 1", FAIL)])
def test_a_store_must_be_whole_after_a_stressor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsck: str, result: str
) -> None:
    tool = tmp_path / "occlum"
    tool.write_text(f'#!/bin/sh\nif [ "$2" = fsck ]; then {fsck}; fi\n')
    tool.chmod(0o755)
    monkeypatch.setattr(suites, "OCCLUM", tool)
    suite = suites.SealedStressSuite(name="given", members=("chmod",), seconds=1)
    (case,) = suite.list_cases("chmod")
    outcome = suite.run_cases("chmod", [case], inside=True)[case]
    assert (case, outcome.result) == ("chmod on a sealed store", result)
    assert ("torn" in outcome.text) == (result == FAIL)
