"""Drives a program on a pseudo-terminal: type, wait for output, resize, read the exit status."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from .result import TimeOut, exit_status


class Terminal:
    """A program whose standard streams and controlling terminal are a fresh pseudo-terminal."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        env: Mapping[str, str],
        cwd: Path | str | None = None,
        size: tuple[int, int] = (24, 80),
    ) -> None:
        self.output = b""
        self._seen = 0
        self._status: int | None = None
        command = [os.fspath(a) for a in argv]
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                if cwd is not None:
                    os.chdir(cwd)
                os.execvpe(command[0], command, dict(env))
            finally:
                os._exit(127)
        self.resize(*size)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def resize(self, rows: int, columns: int) -> None:
        """Sets the window size; the program gets SIGWINCH."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text: str | bytes) -> None:
        """Types `text` as it is (add "\\r" for Enter, "\\x03" for Ctrl-C)."""
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(self._fd, data) :]

    def expect(self, pattern: str, timeout: float = 20) -> re.Match[bytes]:
        """Waits until output after the last match fits the regular expression."""
        expression = re.compile(pattern.encode(), re.DOTALL)
        deadline = time.monotonic() + timeout
        while True:
            found = expression.search(self.output, self._seen)
            if found:
                self._seen = found.end()
                return found
            if not self._read(deadline):
                rest = self.output[self._seen :].decode(errors="backslashreplace")
                raise TimeOut(f"waited {timeout} s for {pattern!r}; unmatched output:\n{rest}")

    def wait(self, timeout: float = 20) -> int:
        """Waits for the end; returns the exit status as a shell sees it."""
        deadline = time.monotonic() + timeout
        while self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = exit_status(os.waitstatus_to_exitcode(status))
            elif time.monotonic() > deadline:
                raise TimeOut(f"no end after {timeout} s; output:\n{self.output.decode(errors='backslashreplace')}")
            else:
                self._read(min(deadline, time.monotonic() + 0.02))
        return self._status

    def close(self) -> None:
        """Closes the terminal (the program gets SIGHUP) and reaps the program, by force if it must be."""
        with contextlib.suppress(OSError):
            os.close(self._fd)
        if self._status is not None:
            return
        for _ in range(100):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = exit_status(os.waitstatus_to_exitcode(status))
                return
            time.sleep(0.02)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)

    def _read(self, deadline: float) -> bool:
        """Reads what there is; false at the deadline or at the end of the output."""
        ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: the last holder of the terminal's other side is gone
            return False
        self.output += data
        return bool(data)
