"""The table of system calls: what it claims, its printed forms, and the tests that its `full` rows name."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from framework import ROOT
from occlum import _native

GUESTS = ROOT / "tests" / "guest" / "src"
FULL = [(name, note) for _, name, level, note in _native.syscalls() if level == "full"]
# What the C library calls it, where the names differ.
LIBRARY = {
    "clock_gettime": r"clock_gettime",
    "exit_group": r"_exit|exit",
    "getdents64": r"getdents64|readdir",
    "mq_getsetattr": r"mq_getattr|mq_setattr",
    "newfstatat": r"fstatat",
    "pread64": r"pread",
    "prlimit64": r"prlimit|getrlimit|setrlimit",
    "pselect6": r"pselect",
    "pwrite64": r"pwrite",
    "rt_sigaction": r"sigaction",
    "rt_sigpending": r"sigpending",
    "rt_sigprocmask": r"sigprocmask",
    "rt_sigqueueinfo": r"sigqueue",
    "rt_sigreturn": r"SYS_rt_sigreturn|rt_sigreturn",
    "rt_sigsuspend": r"sigsuspend",
    "signalfd4": r"signalfd",
    "rt_sigtimedwait": r"sigtimedwait|sigwaitinfo",
    "wait4": r"waitpid|wait4",
}


def cli(*arguments: str) -> str:
    command = [sys.executable, "-c", "from occlum.cli import main; main()", "syscalls", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("name", "case"), FULL, ids=[name for name, _ in FULL])
def test_a_full_row_names_a_case_that_makes_the_call(name: str, case: str) -> None:
    topic, _, title = case.partition("/")
    from_case = (GUESTS / f"{topic}.c").read_text().partition(f"CASE({title})")[2]
    body = from_case.partition("\nCASE(")[0]
    assert re.search(rf"\b(SYS_{name}|{LIBRARY.get(name, name)})\b", body), f"{case} does not call {name}"
    topics = (ROOT / "tests" / "guest" / "test_topics.py").read_text()
    assert re.search(rf"\b{topic}\b", topics), f"no test runs {topic}"


def test_the_page_is_current() -> None:
    tool = ROOT / "tools" / "syscall_docs.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_missing_leaves_out_what_is_full() -> None:
    everything, missing = cli(), cli("--missing")
    assert re.search(r"^  0 read +full ", everything, re.MULTILINE)
    assert " read " not in missing
    assert re.search(r"^101 ptrace +none ", missing, re.MULTILINE)


def test_json_has_every_call_once() -> None:
    rows = json.loads(cli("--json"))
    assert len(rows) == len({row["number"] for row in rows}) == len(_native.syscalls())
    assert set(rows[0]) == {"number", "name", "support", "note"}
