"""What `Enclave.events` and `Enclave.processes` give."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Event", "Process", "ProcessEnded", "ProcessStarted"]

_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}


@dataclass(frozen=True)
class ProcessStarted:
    """A process runs a program (exec)."""

    pid: int
    parent: int
    program: str
    time: float


@dataclass(frozen=True)
class ProcessEnded:
    """A process has ended: with a status, or by a signal (negative, as in `subprocess`)."""

    pid: int
    returncode: int
    time: float

    @property
    def fault(self) -> signal.Signals | None:
        """The signal, if it is one that says the program did what it may not."""
        number = -self.returncode
        return signal.Signals(number) if number in _FAULTS else None


Event = ProcessStarted | ProcessEnded


def parse(message: Mapping[str, Any]) -> Event | None:
    """An owner's message as an event; `None` if it is none."""
    match message.get("event"):
        case "process-started":
            program = str(message["program"])
            return ProcessStarted(int(message["pid"]), int(message["parent"]), program, float(message["time"]))
        case "process-ended":
            returncode = os.waitstatus_to_exitcode(int(message["status"]) & ~0x80)
            return ProcessEnded(int(message["pid"]), returncode, float(message["time"]))
        case _:
            return None


@dataclass(frozen=True)
class Process:
    """A process in an enclave."""

    pid: int
    parent: int
    group: int
    session: int
    # R running, S sleeping, T stopped, Z ended.
    state: str
    resident_kib: int
    cpu_seconds: float
    program: str

    @classmethod
    def parse(cls, line: str) -> Process:
        """From a line of the enclave's answer, which has no control characters."""
        pid, parent, group, session, state, resident, cpu_ns, program = line.split(" ", 7)
        ids = int(pid), int(parent), int(group), int(session)
        return cls(*ids, state, int(resident), int(cpu_ns) / 1e9, program)
