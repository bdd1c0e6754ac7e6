"""Proof that a guest ran inside the enclave: while it runs, no host process executes or maps its file executable.

A thread samples /proc for the started process group. What it sees goes to `executable` (files mapped executable) and
`processes` (process ids): no guest file may be in the first, only occlum's own process in the second.
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

_PERIOD_S = 0.003


class Watch:
    """Context manager that samples the process `pid` and its descendants until it is left."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="watch", daemon=True)
        self.samples = 0
        self.executable: set[str] = set()
        self.processes: set[int] = set()

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stop.is_set():
            for pid in _family(self._pid):
                self.processes.add(pid)
                self._sample(pid)
            self.samples += 1
            self._stop.wait(_PERIOD_S)

    def _sample(self, pid: int) -> None:
        try:
            maps = Path(f"/proc/{pid}/maps").read_text()
        except OSError:
            return  # it ended between the listing and the reading
        for line in maps.splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and "x" in fields[1] and fields[5].startswith("/"):
                self.executable.add(fields[5].removesuffix(" (deleted)"))


def _family(root: int) -> list[int]:
    """`root` and its descendants, from the kernel's children lists of every thread."""
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                queue += [int(child) for child in children.read_text().split()]
            except OSError:
                continue
    return found
