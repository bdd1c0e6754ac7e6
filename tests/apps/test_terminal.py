"""Interactive programs on a pseudo-terminal, natively and in an enclave: what the user sees must be the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from framework import Terminal, enclave_argv, environment

BASH = ["/bin/bash", "--norc", "--noprofile", "-i"]
Start = Callable[[list[str]], Terminal]


@pytest.fixture(params=["native", "enclave"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts a program on a fresh terminal; closes it after the test."""
    opened: list[Terminal] = []

    def run(argv: list[str]) -> Terminal:
        command = argv if request.param == "native" else [str(a) for a in enclave_argv(argv)]
        terminal = Terminal(command, environment({"PS1": "ready> ", "INPUTRC": "/dev/null"}), cwd="/tmp")
        opened.append(terminal)
        return terminal

    yield run
    for terminal in opened:
        terminal.close()


def started(terminal: Terminal, line: str) -> None:
    """Waits until the shell has given the terminal to the program of this line."""
    terminal.expect(f"{line}\r\n")
    time.sleep(0.3)


def test_prompt_and_exit_status(start: Start) -> None:
    with start(BASH) as t:
        t.expect("ready> ")
        t.send("echo $((6 * 7))-answer\r")
        t.expect("42-answer\r\n")
        t.expect("ready> ")
        t.send("exit 33\r")
        assert t.wait() == 33


def test_line_editing_and_history(start: Start) -> None:
    with start(BASH) as t:
        t.expect("ready> ")
        t.send("echo abX\x7fc\x01\x05d\r")  # backspace, start of line, end of line
        t.expect("\nabcd\r\n")
        t.expect("ready> ")
        t.send("\x1b[A\r")  # the line before
        t.expect("\nabcd\r\n")
        t.expect("ready> ")
        t.send("echo /etc/host\tend\r")  # completion is ambiguous or not, but the line works
        t.expect("ready> ")
        t.send("\x04")
        assert t.wait() == 0


def test_interrupt(start: Start) -> None:
    with start(BASH) as t:
        t.expect("ready> ")
        t.send("sleep 100\r")
        started(t, "sleep 100")
        t.send("\x03")
        t.expect("ready> ")
        t.send("echo status-$?\r")
        t.expect("\nstatus-130\r\n")
        t.send("while :; do :; done\r")
        started(t, "done")
        t.send("\x03")
        t.expect("ready> ")
        t.send("exit\r")
        assert t.wait() in (0, 130)


def test_stop_and_foreground(start: Start) -> None:
    with start(BASH) as t:
        t.expect("ready> ")
        t.send("cat\r")
        started(t, "cat")
        t.send("one line\r")
        t.expect("one line\r\none line\r\n")
        t.send("\x1a")
        t.expect("Stopped")
        t.expect("ready> ")
        t.send("jobs\r")
        t.expect("Stopped.*cat")
        t.send("fg\r")
        started(t, "fg\r\ncat")
        t.send("again\r")
        t.expect("again\r\nagain\r\n")
        t.send("\x04")
        t.expect("ready> ")
        t.send("exit 5\r")
        assert t.wait() == 5


def test_window_size(start: Start) -> None:
    with start(BASH) as t:
        t.expect("ready> ")
        t.resize(33, 111)
        t.send("stty size\r")
        t.expect("33 111\r\n")
        t.send("trap 'echo resized-now' WINCH\r")
        t.expect("ready> ")
        t.resize(40, 120)
        t.send("stty size\r")
        t.expect("40 120")
        t.send("exit\r")
        assert t.wait() == 0


def test_raw_mode(start: Start) -> None:
    with start(["/bin/sh", "-c", "stty raw -echo; printf 'go!'; head -c 3 | od -An -tx1; stty sane; echo over"]) as t:
        t.expect("go!")
        t.send("a\x03\r")
        t.expect("61 03 0d")
        t.expect("over")
        assert t.wait() == 0


def test_terminal_identity(start: Start) -> None:
    with start(["/bin/sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo yes > /dev/tty; tty | grep -c /"]) as t:
        t.expect("yes\r\n1\r\n")
        assert t.wait() == 0


def test_python_prompt(start: Start) -> None:
    with start(["/usr/bin/python3", "-q"]) as t:
        t.expect(">>> ")
        t.send("sum(range(101))\r")
        t.expect("\n5050\r\n")
        t.send("exit(3)\r")
        assert t.wait() == 3
