"""The pipe that the enclave's records come through, and the thread that hands them to their readers.

Invariants: records are read until the enclave is gone, whatever happens to a reader, or the enclave would wait for ever
to write; a reader that fails is told of once and gets no more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from occlum.errors import refused
from occlum.trace.options import TraceOptions

if TYPE_CHECKING:
    from occlum.trace.records import Record

_PIECE = 1 << 20
# A reader that does nothing for so long hangs.
_PATIENCE_S = 5


class Reader(Protocol):
    """Who wants records."""

    def wants(self, options: TraceOptions) -> None:
        """Adds what it needs to the options."""

    def take(self, record: Record) -> None:
        """Is given each record, also those that others asked for."""

    def close(self) -> None:
        """There are no more."""


def options_of(readers: Sequence[Reader]) -> bytes:
    """The options for all of them; nothing if there are none."""
    if not readers:
        return b""
    options = TraceOptions()
    for reader in readers:
        reader.wants(options)
    return options.encode()


@contextlib.contextmanager
def session(readers: Sequence[Reader]) -> Iterator[int | None]:
    """A descriptor for the records of one run; at the end all of them have been read."""
    if not readers:
        yield None
        return
    out, into = os.pipe2(os.O_CLOEXEC)
    # Fewer waits for this process; a system that has not so much memory for it goes on without.
    with contextlib.suppress(OSError):
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIECE)
    handled = [0]
    thread = threading.Thread(target=_read, args=(out, list(readers), handled), name="trace", daemon=True)
    thread.start()
    try:
        yield into
    finally:
        os.close(into)
        _join(thread, handled)


def _join(thread: threading.Thread, handled: list[int]) -> None:
    """Waits for the readers as long as they get on. One that hangs, at a pipe that nobody reads, is left behind."""
    before = -1
    while thread.is_alive() and handled[0] != before:
        before = handled[0]
        thread.join(_PATIENCE_S)
    if thread.is_alive():
        _say("the trace is not complete: it could not be written", "OC106")


def _read(descriptor: int, readers: list[Reader], handled: list[int]) -> None:
    rest = b""
    with contextlib.closing(os.fdopen(descriptor, "rb", buffering=0)) as stream:
        while piece := stream.read(_PIECE):
            if not readers:
                continue
            # Only when there are any: a run without records pays nothing.
            from occlum.trace.records import RecordError, split

            try:
                records, rest = split(rest + piece)
            except RecordError as error:
                _say(f"the enclave's records make no sense: {error}", "OC307")
                readers.clear()
                continue
            for record in records:
                handled[0] += 1
                for reader in list(readers):
                    _guarded(readers, reader, partial(reader.take, record))
    for reader in list(readers):
        _guarded(readers, reader, reader.close)


def _guarded(readers: list[Reader], reader: Reader, act: Callable[[], None]) -> None:
    try:
        act()
    except BrokenPipeError:
        # Who read the trace has gone away.
        readers.remove(reader)
    except OSError as error:
        readers.remove(reader)
        _say(f"--{type(reader).__name__.lower()}: {refused(error)}", "OC106")
    except (ValueError, LookupError, struct.error) as error:
        readers.remove(reader)
        _say(f"--{type(reader).__name__.lower()}: what the enclave says makes no sense: {error}", "OC307")


def _say(text: str, code: str) -> None:
    print(f"occlum: {text} [{code}]", file=sys.stderr)
