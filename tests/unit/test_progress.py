"""Progress is for people: on a terminal, for what takes more than a second, and gone at the end."""

from __future__ import annotations

import subprocess
import sys

from framework.terminal import Terminal

COUNTED = """
import time
from occlum.cli.progress import counted
with counted(3) as advance:
    for name in ("one", "two", "three"):
        advance(name)
        time.sleep(0.3)
print("over")
"""
WAITING = """
import sys, time
from occlum.cli.progress import waiting
with waiting("copying the lot"):
    time.sleep(float(sys.argv[1]))
print("rich" in sys.modules)
"""
ENVIRONMENT = {"TERM": "xterm", "PATH": "/usr/bin:/bin"}


def test_a_bar_moves_on_a_terminal() -> None:
    with Terminal([sys.executable, "-c", COUNTED], ENVIRONMENT) as terminal:
        terminal.expect("1/3")
        terminal.expect("three")
        terminal.expect("over")
        assert terminal.wait() == 0


def test_long_waits_are_named_after_a_second() -> None:
    with Terminal([sys.executable, "-c", WAITING, "2"], ENVIRONMENT) as terminal:
        terminal.expect("copying the lot")
        terminal.expect("True")
        assert terminal.wait() == 0


def test_short_waits_show_nothing_and_cost_nothing() -> None:
    with Terminal([sys.executable, "-c", WAITING, "0.1"], ENVIRONMENT) as terminal:
        assert b"copying" not in terminal.expect("(?s).*False").group()
        assert terminal.wait() == 0


def test_files_get_no_bars() -> None:
    for program in (COUNTED, WAITING):
        done = subprocess.run([sys.executable, "-c", program, "1.2"], capture_output=True, text=True, check=True)
        assert done.stderr == ""
