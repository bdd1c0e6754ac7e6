"""`occlum exec`: a program in a running enclave, as if it were here: streams, terminal, signals, status.

The streams are handed over; this process only waits, passes signals on, and stops and continues with the program. It
holds the connection that the program's life depends on: when it is killed, so is the program.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from occlum._host import registry
from occlum._host.client import FOREGROUND, PROCESS, Job, Program, StartFailed
from occlum.cli import EXIT_CANNOT_EXECUTE, EXIT_NO_PROGRAM, environment_of, fail, without_effect
from occlum.cli.options import name_option, program_arguments

# Those of the terminal's keys and size are for the program's foreground group, others for the program.
_OF_TERMINAL = {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH}
_FORWARDED = {*_OF_TERMINAL, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


class Terminal:
    """The terminal among the streams: it has our attributes whenever the program does not run."""

    def __init__(self) -> None:
        self._descriptor = next((number for number in range(3) if os.isatty(number)), None)
        self._ours: list[Any] | None = None
        if self._descriptor is not None:
            # Only where it is used.
            import termios

            self._termios = termios
            self._ours = termios.tcgetattr(self._descriptor)

    def is_background(self) -> bool:
        """Do we have no right to read from it?"""
        try:
            return os.isatty(0) and os.tcgetpgrp(0) != os.getpgrp()
        except OSError:
            return False

    def take(self) -> list[Any] | None:
        """Gives it our attributes; those it had."""
        if self._descriptor is None or self._ours is None:
            return None
        try:
            found: list[Any] = self._termios.tcgetattr(self._descriptor)
            self.give(self._ours)
        except self._termios.error:
            # It hung up.
            return None
        return found

    def give(self, attributes: list[Any] | None) -> None:
        """Sets its attributes, even from the background."""
        if self._descriptor is None or attributes is None:
            return
        old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            self._termios.tcsetattr(self._descriptor, self._termios.TCSANOW, attributes)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)


@contextmanager
def _signals() -> Iterator[int]:
    """A descriptor from which the numbers of signals that arrive can be read."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in _FORWARDED:
        # What the caller ignores (nohup) stays ignored.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    yield read


def _stop_with(job: Job, terminal: Terminal) -> None:
    """The program has stopped: so do we, until somebody continues us."""
    attributes = terminal.take()
    os.kill(os.getpid(), signal.SIGSTOP)
    terminal.give(attributes)
    job.signal(signal.SIGCONT, FOREGROUND)
    job.signal(signal.SIGWINCH, FOREGROUND)


def _follow(job: Job, terminal: Terminal, signals: int) -> int:
    """Until its end; the status in wait(2)'s encoding."""
    poll = select.poll()
    poll.register(signals, select.POLLIN)
    poll.register(job, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == signals:
                for number in os.read(signals, 64):
                    job.signal(number, FOREGROUND if number in _OF_TERMINAL else PROCESS)
                continue
            message = job.event(0)
            while message is not None and job.status is None:
                if message["event"] == "stopped":
                    _stop_with(job, terminal)
                message = job.event(0)
            if job.status is not None:
                return job.status


def _status(raw: int) -> int:
    code = os.waitstatus_to_exitcode(raw & ~0x80 if raw & 0x7F else raw)
    return code if code >= 0 else 128 - code


def _files(detached: bool, background: bool, entry: registry.Entry) -> dict[int, int]:
    """What becomes of the three streams. A detached program's output goes to the enclave's log."""
    files = {}
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            continue
        files[number] = number
    if detached or (background and 0 in files):
        files[0] = os.open(os.devnull, os.O_RDONLY)
    if detached:
        files[1] = files[2] = os.open(entry.path / registry.LOG, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    return files


@click.command(
    "exec",
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] [--]",
    short_help="Run a program in a running enclave.",
)
@name_option
@click.option("-e", "--env", "settings", multiple=True, metavar="K[=V]", help="Set a variable.")
@click.option("-w", "--cwd", metavar="DIR", help="Working directory inside.  [default: yours]")
@click.option("-i", "--interactive", is_flag=True, help="Standard input is passed on: it always is (without -d).")
@click.option("-t", "--tty", is_flag=True, help="Fail if none of the streams is a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Do not wait: print the process id; output goes to the log.")
@program_arguments
def command(
    name: str,
    settings: Sequence[str],
    cwd: str | None,
    interactive: bool,
    tty: bool,
    detach: bool,
    program: str,
    arguments: Sequence[str],
) -> int:
    """Run PROGRAM in a running enclave (see `occlum start`).

    Your streams, terminal, environment and signals are the program's. The exit status is its own, or 128+N if signal N
    ended it; 125 occlum failed, 126 the program cannot be executed, 127 there is no such program.

    \b
    Examples:
      occlum exec bash
      occlum exec -n web -e DEBUG=1 python3 -m http.server 8000
      occlum exec -d sleep 60        prints the process id and goes on
    """
    if detach and (interactive or tty):
        raise click.UsageError("-d has no streams for -i or -t")
    terminal = Terminal()
    if tty and not any(os.isatty(number) for number in range(3)):
        raise click.UsageError("-t: none of the streams is a terminal")
    entry = registry.entry(name)
    wanted = Program(
        argv=[program, *arguments],
        program=program,
        env=environment_of(settings),
        cwd=os.path.normpath(Path.cwd() / (cwd or ".")),
        files=_files(detach, terminal.is_background(), entry) if entry.path.exists() else {},
        umask=_umask(),
        detached=detach,
    )
    if settings and (allowed := entry.facts().get("variables")) is not None:
        without_effect(settings, allowed)
    try:
        with _signals() as signals:
            job = Job(entry, wanted)
            if detach:
                click.echo(str(job.pid))
                job.close()
                return 0
            try:
                return _status(_follow(job, terminal, signals))
            finally:
                terminal.take()
    except StartFailed as error:
        missing = error.errno == errno.ENOENT and not error.is_cwd
        subject = cwd if error.is_cwd else program
        fail(f"{subject}: {os.strerror(error.errno)} (inside the enclave {name})", "OC400" if missing else "OC401")
        return EXIT_NO_PROGRAM if missing else EXIT_CANNOT_EXECUTE


def _umask() -> int:
    """Ours; this process has one thread, so it may change it for a moment."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
