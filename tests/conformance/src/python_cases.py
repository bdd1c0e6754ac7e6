"""Runs cases of CPython's own regression suite and reports each in one line of JSON on standard output.

    python3 python_cases.py --list MODULE        one line {"case": ID} for each case
    python3 python_cases.py MODULE FILE          runs the cases whose ids FILE (JSON) lists, in the suite's own order

`--also LIB` before these adds CPython's folder Lib of another source: for modules that the installed suite lacks.

Runs natively and in the enclave, always by the same interpreter; `tools/suites.py` starts it and reads. A case is
announced before it runs ({"start": ID}), so that the reader knows which one hung or took the process down; then comes
{"end": ID, "result": "ok" | "skip" | "fail", "text": ...}. What the tests themselves print goes to standard error.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import tempfile
import traceback
import unittest
from collections.abc import Iterator
from typing import Any

import test
from test import support
from test.support import os_helper, threading_helper

# Above what the tests themselves count with, so that they find the numbers they expect.
REPORT_FD = 200
SHOWN = 1500


class Report(unittest.TestResult):
    """One line for each start and end of a case."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.fd = fd
        self.pid = os.getpid()
        self.outcome = ""
        self.text = ""

    def say(self, **fields: str) -> None:
        """A line; children that a case forked and that fall back into here say nothing."""
        if os.getpid() == self.pid:
            os.write(self.fd, json.dumps(fields).encode() + b"\n")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.outcome, self.text = "ok", ""
        self.say(start=test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self.say(end=test.id(), result=self.outcome, text=self.text)

    def failed(self, test: unittest.TestCase, err: Any) -> None:
        """A failure of a case, of a part of it, or of what a class sets up (then there is no case to end)."""
        self.outcome = "fail"
        self.text = "".join(traceback.format_exception(*err))[-SHOWN:]
        if not isinstance(test, unittest.TestCase):
            self.say(setup=str(test), text=self.text)

    def addError(self, test: Any, err: Any) -> None:
        self.failed(test, err)

    def addFailure(self, test: Any, err: Any) -> None:
        self.failed(test, err)

    def addSubTest(self, test: Any, _part: Any, err: Any) -> None:
        if err is not None:
            self.failed(test, err)

    def addSkip(self, test: Any, reason: str) -> None:
        if isinstance(test, unittest.TestCase):
            self.outcome, self.text = "skip", reason

    def addExpectedFailure(self, _test: Any, _err: Any) -> None:
        self.outcome = "ok"

    def addUnexpectedSuccess(self, _test: Any) -> None:
        self.outcome, self.text = "fail", "unexpected success"


def cases(suite: Any) -> Iterator[unittest.TestCase]:
    """All cases of nested suites, in order."""
    for item in suite:
        if isinstance(item, unittest.TestCase):
            yield item
        else:
            yield from cases(item)


def prepare() -> None:
    """The settings that regrtest makes: every resource but the internet, sound and a screen."""
    support.use_resources = ["cpu", "subprocess", "walltime", "decimal", "tzdata", "curses"]
    support.verbose = False
    support.SHORT_TIMEOUT = max(support.SHORT_TIMEOUT, 60.0)
    support.LOOPBACK_TIMEOUT = max(support.LOOPBACK_TIMEOUT, 10.0)


def run(module: str, wanted: set[str], fd: int) -> None:
    """Runs the wanted cases in one suite, so that class and module fixtures run as they do in regrtest."""
    chosen = unittest.TestSuite(
        case for case in cases(unittest.defaultTestLoader.loadTestsFromName(module)) if case.id() in wanted
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, os_helper.temp_cwd(folder + "/cwd"):
        chosen.run(Report(fd))
        with contextlib.suppress(Exception):
            threading_helper.threading_cleanup()
            support.reap_children()


def main() -> None:
    """Command line."""
    words = sys.argv[1:]
    if words[0] == "--also":
        test.__path__.append(f"{words[1]}/test")
        # Where packages of the suite look for their modules.
        support.STDLIB_DIR = words[1]
        words = words[2:]
    prepare()
    if words[0] == "--list":
        for case in cases(unittest.defaultTestLoader.loadTestsFromName(words[1])):
            print(json.dumps({"case": case.id()}))
        return
    fd = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, REPORT_FD)
    os.dup2(2, 1)
    with open(words[1]) as file:
        wanted = set(json.load(file))
    run(words[0], wanted, fd)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
