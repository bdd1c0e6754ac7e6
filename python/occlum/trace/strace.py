"""`--strace`: system calls and signals in strace's form, with the options that its users know.

Neighbours: `classes` (what to trace), `decode` (arguments), `session` (gives records). All processes of the enclave are
traced, as with `strace -f`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from occlum._host.files import Place
from occlum.errors import OptionError
from occlum.trace import decode, names, options
from occlum.trace.decode import Argument, Call
from occlum.trace.output import Output
from occlum.trace.records import Fields, Kind, Record, blobs
from occlum.trace.strace_options import SORTS, Options, parse
from occlum.trace.structures import siginfo

_COLUMN = 40


@dataclass
class _Row:
    """What the summary knows of a call."""

    calls: int = 0
    errors: int = 0
    ns: int = 0


@dataclass
class _Open:
    """A call that has not returned."""

    call: Call
    entered_ns: int
    # Arguments that stand in the line already; `None`: nothing is written yet.
    shown: int | None = None


class Strace:
    """Prints calls and signals as their records come."""

    def __init__(self, wanted: Options, known: dict[str, int]) -> None:
        self.wanted = wanted
        self.names = {number: name for name, number in known.items()}
        self.table: dict[int, tuple[str, tuple[Argument, ...]]] = {}
        self.open: dict[int, _Open] = {}
        self.rows: dict[str, _Row] = {}
        self.pids: set[int] = set()
        self.last_ns = 0
        self.streams: dict[int, Output] = {}
        # Of the files of `-ff`, which are opened while programs run.
        self.place: Place | None = None
        # The task whose line is not ended, and how long it is.
        self.unfinished: int | None = None
        self.column = 0

    def wants(self, joined: options.TraceOptions) -> None:
        """Calls, signals, ends."""
        joined.calls |= self.wanted.calls
        joined.signals |= self.wanted.signals if self.wanted.lines else set()
        if self.wanted.lines:
            joined.flags |= options.ARGUMENTS | options.ENDS
            joined.string_limit = max(joined.string_limit, self.wanted.style.string_limit)
        if self.wanted.style.paths or self.wanted.paths:
            joined.flags |= options.PATHS

    def open_target(self) -> None:
        """Opens the file, so that a bad name fails before the program runs."""
        if not self.wanted.split:
            self._stream(0)
        elif self.wanted.target is not None:
            self.place = Place(Path(self.wanted.target).parent)

    def take(self, record: Record) -> None:
        """One record."""
        match record.kind:
            case Kind.ROW:
                self._row(Fields(record.body))
            case Kind.ENTER:
                self._enter(record)
            case Kind.LEAVE:
                self._leave(record)
            case Kind.SIGNAL if self.wanted.lines:
                self._signal(record)
            case Kind.END if self.wanted.lines:
                self._end(record)
            case Kind.LOST:
                self._note(record, f"occlum: {Fields(record.body).one('Q')} records were lost: no memory for them")

    def close(self) -> None:
        """Ends the last line; the summary."""
        self._break_line()
        if self.wanted.count:
            self._stream(0).write(self._summary())
        for stream in self.streams.values():
            stream.close()
        if self.place is not None:
            self.place.close()

    def _row(self, fields: Fields) -> None:
        number = fields.one("I")
        name, _, rest = fields.rest().decode().partition("(")
        words = [word.split(":") for word in rest.rstrip(")").split(",") if word]
        self.table[number] = (name, tuple(Argument(word[0], word[-1]) for word in words))

    def _call(self, fields: Fields) -> Call:
        number = fields.one("I")
        values = fields.take("6Q")
        name, arguments = self.table.get(number, (self.names.get(number, f"syscall_{number:#x}"), ()))
        if number not in self.table:
            arguments = tuple(Argument(f"a{n}", "flags") for n in range(6))
        return Call(number, name, arguments, values[: len(arguments)] or values, blobs(fields))

    def _enter(self, record: Record) -> None:
        call = self._call(Fields(record.body))
        self.open[record.tid] = opened = _Open(call, record.time_ns)
        self.pids.add(record.tid)
        held = self.wanted.paths or not (self.wanted.successful and self.wanted.failed)
        if self.wanted.lines and call.number in self.wanted.calls and not held:
            self._start_line(record)
            self._write(record, self._head(call))
            opened.shown = self._arguments(record, call, 0, done=False)

    def _head(self, call: Call) -> str:
        return (f"[{call.number:4}] " if self.wanted.numbers else "") + f"{call.name}("

    def _arguments(self, record: Record, call: Call, first: int, done: bool) -> int:
        """Writes arguments from `first` on, as far as they are known yet; returns where it stopped."""
        for n in range(first, decode.shown_arguments(call)):
            if not done and decode.is_written(call.arguments[n].type):
                return n
            self._write(record, (", " if n else "") + decode.argument(call, n, self.wanted.style))
        return decode.shown_arguments(call)

    def _leave(self, record: Record) -> None:
        opened = self.open.pop(record.tid, None)
        if opened is None:
            return
        fields = Fields(record.body)
        fields.one("I")
        call = opened.call
        call.result = fields.one("q")
        call.after = blobs(fields)
        spent = record.time_ns - opened.entered_ns
        if call.number not in self.wanted.calls or not self._is_wanted(call):
            return
        row = self.rows.setdefault(call.name, _Row())
        row.calls += 1
        row.errors += call.failed
        row.ns += max(spent, 0)
        if self.wanted.lines:
            self._finish(record, opened, spent)

    def _is_wanted(self, call: Call) -> bool:
        if not (self.wanted.failed if call.failed else self.wanted.successful):
            return False
        if not self.wanted.paths:
            return True
        paths = {blob.data.rstrip(b"\0").decode(errors="replace") for blob in (call.before | call.after).values()}
        return bool(paths & set(self.wanted.paths))

    def _finish(self, record: Record, opened: _Open, spent: int) -> None:
        call = opened.call
        if opened.shown is None:
            self._start_line(record)
            self._write(record, self._head(call))
            self._arguments(record, call, 0, done=True)
        elif self.unfinished == record.tid:
            self._arguments(record, call, opened.shown, done=True)
        else:
            self._start_line(record)
            self._write(record, f"<... {call.name} resumed>")
            self._arguments(record, call, opened.shown, done=True)
        padding = " " * max(1, _COLUMN - self.column - 1)
        took = f" <{spent / 1e9:.6f}>" if self.wanted.spent else ""
        self._write(record, f"){padding}{decode.result(call, self.wanted.style)}{took}\n")
        self.unfinished = None
        self._stream(record.tid).flush()

    def _signal(self, record: Record) -> None:
        fields = Fields(record.body)
        number, _ = fields.take("II")
        if number in self.wanted.signals:
            name = names.SIGNALS.get(number, str(number))
            self._note(record, f"--- {name} {siginfo(fields.raw(128))} ---")

    def _end(self, record: Record) -> None:
        status, last = Fields(record.body).take("II")
        opened = self.open.pop(record.tid, None)
        if opened is not None and opened.shown is not None:
            if self.unfinished != record.tid:
                self._start_line(record)
                self._write(record, f"<... {opened.call.name} resumed>")
            self._write(record, ")" + " " * max(1, _COLUMN - self.column - 1) + "= ?\n")
            self.unfinished = None
        if last:
            self.pids.discard(record.pid)
        if self.wanted.quiet:
            return
        if status & 0x7F:
            dumped = " (core dumped)" if status & 0x80 else ""
            self._note(record, f"+++ killed by {names.SIGNALS.get(status & 0x7F, status & 0x7F)}{dumped} +++")
        else:
            self._note(record, f"+++ exited with {status >> 8 & 0xFF} +++")

    def _note(self, record: Record, text: str) -> None:
        self._start_line(record)
        self._write(record, text + "\n")
        self.unfinished = None
        self._stream(record.tid).flush()

    def _break_line(self) -> None:
        """Ends the line of a call that has not returned."""
        if self.unfinished is not None and not self.wanted.split:
            self._stream(self.unfinished).write(" <unfinished ...>\n")
        self.unfinished = None

    def _start_line(self, record: Record) -> None:
        self._break_line()
        self.pids.add(record.tid)
        self.unfinished = record.tid
        self.column = 0
        stream = self._stream(record.tid)
        prefix = ""
        if not self.wanted.split:
            if self.wanted.target is not None:
                prefix = f"{record.tid:<5} "
            elif len(self.pids) > 1:
                prefix = f"[pid {record.tid:5}] "
        stream.write(prefix + self._time(record))

    def _time(self, record: Record) -> str:
        if self.wanted.relative:
            since = record.time_ns - (self.last_ns or record.time_ns)
            self.last_ns = record.time_ns
            return f"{since / 1e9:12.6f} "
        seconds, rest = divmod(record.time_ns, 10**9)
        match self.wanted.clock:
            case 0:
                return ""
            case 1:
                return datetime.fromtimestamp(seconds).strftime("%H:%M:%S ")
            case 2:
                return datetime.fromtimestamp(seconds).strftime("%H:%M:%S.") + f"{rest // 1000:06} "
            case _:
                return f"{seconds}.{rest // 1000:06} "

    def _write(self, record: Record, text: str) -> None:
        stream = self._stream(record.tid)
        stream.write(text)
        self.column += len(text)
        if self.wanted.target is None:
            stream.flush()

    def _stream(self, tid: int) -> Output:
        """Where lines of a task go."""
        key = tid if self.wanted.split else 0
        if key not in self.streams:
            if self.wanted.target is None:
                self.streams[key] = Output(2)
            elif self.place is not None:
                name = f"{Path(self.wanted.target).name}.{tid}"
                self.streams[key] = Output(self.place.open(name, self.wanted.append))
            else:
                self.streams[key] = Output.open(self.wanted.target, self.wanted.append)
        return self.streams[key]

    def _summary(self) -> str:
        total = sum(row.ns for row in self.rows.values())
        lines = []
        for name, row in self.rows.items():
            share = 100 * row.ns / total if total else 0.0
            lines.append((share, row.ns, row.ns // 1000 // max(row.calls, 1), row.calls, row.errors, name))
        column = SORTS[self.wanted.sort]
        lines.sort(key=lambda line: line[column], reverse=column != 5)
        rule = "------ ----------- ----------- --------- --------- ----------------\n"
        text = "% time     seconds  usecs/call     calls    errors syscall\n" + rule
        for share, ns, each, calls, errors, name in lines:
            text += f"{share:6.2f} {ns / 1e9:11.6f} {each:11} {calls:9} {errors or '':>9} {name}\n"
        calls = sum(row.calls for row in self.rows.values())
        errors = sum(row.errors for row in self.rows.values())
        each = total // 1000 // max(calls, 1)
        return (
            text
            + rule
            + f"{100 if lines else 0:6.2f} {total / 1e9:11.6f} {each:11} {calls:9} {errors or '':>9} total\n"
        )


def reader(text: str, known: dict[str, int]) -> Strace:
    """The reader that the value of --strace asks for."""
    found = Strace(parse(text, known), known)
    try:
        found.open_target()
    except OSError as error:
        raise OptionError(
            f"--strace: {found.wanted.target}: {error.strerror}", "name a file that can be written"
        ) from None
    return found


def numbers_of(calls: Sequence[tuple[int, str, str, str]]) -> dict[str, int]:
    """Numbers by name, of `_native.syscalls()`."""
    return {name: number for number, name, _, _ in calls}
