"""Who waits for a program to die by a fault, and has it reported.

Nearly every `occlum try` has one, so it imports nothing before there is a crash.
"""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING

from occlum.trace import options

if TYPE_CHECKING:
    from occlum.trace.records import Maps, Record


class Crash:
    """Prints reports."""

    def __init__(self, everyone: bool, target: IO[str] | None = None) -> None:
        self.everyone = everyone
        self.target = target
        self.maps: dict[int, Maps] = {}

    def wants(self, joined: options.TraceOptions) -> None:
        """Crashes of the first program, or of all."""
        joined.flags |= options.CRASH_ALL if self.everyone else options.CRASH_FIRST

    def take(self, record: Record) -> None:
        """Mappings, then the crash."""
        from occlum.trace.records import Kind, Maps

        if record.kind == Kind.MAPS:
            self.maps[record.pid] = Maps.parse(record.body)
        elif record.kind == Kind.CRASH:
            from occlum.trace.crash_report import report

            out = self.target or sys.stderr
            out.write(report(record, self.maps.get(record.pid, Maps("?", ()))))
            out.flush()

    def close(self) -> None:
        """Nothing is left to do."""
