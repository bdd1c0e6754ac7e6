"""The result of one run, and how a failed one is shown."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SHOWN_BYTES = 2000


@dataclass(frozen=True)
class Result:
    """Exit status as a shell sees it (128+N by signal N) and the output, in bytes."""

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="backslashreplace")

    @property
    def errors(self) -> str:
        """Standard error as text."""
        return self.stderr.decode(errors="backslashreplace")


class TimeOut(AssertionError):
    """The program did not end in time; its process group was killed."""


def exit_status(returncode: int) -> int:
    """Python's return code (negative by signal) as a shell's exit status."""
    return 128 - returncode if returncode < 0 else returncode


def describe(argv: Sequence[str | bytes | Path], headline: str, stdout: bytes, stderr: bytes) -> str:
    """Command, headline and the ends of both outputs, for an assertion message."""
    command = shlex.join(os.fsdecode(a) for a in argv)
    return f"{command}\n{headline}\n{_shown('stdout', stdout)}{_shown('stderr', stderr)}"


def _shown(name: str, data: bytes) -> str:
    text = data[-_SHOWN_BYTES:].decode(errors="backslashreplace")
    cut = f", last {_SHOWN_BYTES} of {len(data)} bytes" if len(data) > _SHOWN_BYTES else ""
    return f"--- {name}{cut}\n{text}\n"
