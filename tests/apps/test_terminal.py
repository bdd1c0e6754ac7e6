"""Interactive programs on a pseudo-terminal, natively and in an enclave: what the user sees must be the same."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator

import pytest

from framework import OCCLUM, Terminal, enclave_argv, environment

BASH = ["/bin/bash", "--norc", "--noprofile", "-i"]


class Start:
    """Starts programs on fresh terminals, all on one side."""

    def __init__(self, side: str) -> None:
        self.side = side
        self.opened: list[Terminal] = []

    def __call__(self, argv: list[str]) -> Terminal:
        command = argv if self.side == "native" else [str(a) for a in enclave_argv(argv)]
        terminal = Terminal(command, environment({"PS1": "ready> ", "INPUTRC": "/dev/null"}), cwd="/tmp")
        self.opened.append(terminal)
        return terminal


@pytest.fixture(params=["native", "enclave"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts a program on a fresh terminal; closes it after the test."""
    starter = Start(request.param)
    yield starter
    for terminal in starter.opened:
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


def in_shell(t: Terminal, start: Start, argv: list[str]) -> None:
    """Types the command that runs `argv` natively or in an enclave, as `start` does, into the shell on `t`."""
    t.expect("ready> ")
    prefix = [] if start.side == "native" else [OCCLUM, "try", "--quiet"]
    t.send(shlex.join(map(str, [*prefix, *argv])) + "\r")


def echoes(t: Terminal, word: str) -> None:
    """A `cat` on the terminal is there: what is typed comes twice."""
    t.send(f"{word}\r")
    t.expect(f"{word}\r\n{word}\r\n")


def test_stopping_gives_the_users_shell_its_prompt_back(start: Start) -> None:
    with Terminal(BASH, environment({"PS1": "ready> ", "INPUTRC": "/dev/null"}), size=(24, 200)) as t:
        in_shell(t, start, ["sh", "-c", "echo go; cat; exit 7"])
        t.expect("\ngo\r\n")
        for word in ("once", "again"):
            echoes(t, word)
            t.send("\x1a")
            t.expect("Stopped")
            t.expect("ready> ")
            t.send("fg\r")
            t.expect("exit 7'\r\n")
        echoes(t, "at last")
        t.send("\x04")
        t.expect("ready> ")
        t.send("echo status=$?\r")
        t.expect("status=7\r\n")


def test_a_stopped_program_lends_the_terminal_with_the_old_modes() -> None:
    # Natively the program's modes stay: this shell does not put its own back.
    with Terminal(["/bin/dash", "-i"], environment({"PS1": "ready> "}), size=(24, 200)) as t:
        in_shell(t, Start("enclave"), ["sh", "-c", "stty -echo; echo go; cat"])
        t.expect("\ngo\r\n")
        t.send("silent\r")
        t.expect("silent\r\n")
        t.send("\x1a")
        t.expect("ready> ")
        t.send("stty -a | tr ' ' '\\n' | grep -x -e echo -e -echo\r")
        t.expect("\r\necho\r\n")
        t.expect("ready> ")
        t.send("fg\r")
        t.expect('cat"\r\n')
        time.sleep(0.3)
        t.send("silent\r")
        assert t.expect(".*silent\r\n")[0] == b"silent\r\n"
        t.send("\x04")
        t.expect("ready> ")


def test_nobody_could_continue_an_orphaned_job(start: Start) -> None:
    with start(["cat"]) as t:
        echoes(t, "before")
        t.send("\x1a")
        t.expect(r"\^Z")
        time.sleep(0.3)
        echoes(t, "after")
        t.send("\x04")
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
