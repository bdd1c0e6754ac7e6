"""The stream of records that a debug enclave writes (common/enclave-abi/src/trace.rs), taken apart."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

_HEAD = struct.Struct("<IHHiiQ")
# No record is longer: a sample's stack, a piece of memory, the runs of a core.
_LONGEST = 64 << 20
_BLOB = struct.Struct("<BBHI")


class Kind(enum.IntEnum):
    """Kinds of records."""

    ROW = 1
    ENTER = 2
    LEAVE = 3
    SIGNAL = 4
    END = 5
    MAPS = 6
    SAMPLE = 7
    CRASH = 8
    CORE = 9
    THREAD = 10
    MEMORY = 11
    CORE_END = 12
    LOST = 13


class Form(enum.IntEnum):
    """What a blob is."""

    BYTES = 0
    UNREADABLE = 1
    LIST = 2
    PATH = 3


class RecordError(ValueError):
    """The stream is not one of records."""


@dataclass(frozen=True)
class Record:
    """One record; pid and tid are those inside, 0 for none; the time is CLOCK_REALTIME in ns."""

    kind: Kind
    pid: int
    tid: int
    time_ns: int
    body: bytes


def split(data: bytes) -> tuple[list[Record], bytes]:
    """The whole records at the start of `data`, and the rest."""
    records = []
    at = 0
    while len(data) - at >= _HEAD.size:
        length, kind, _, pid, tid, time_ns = _HEAD.unpack_from(data, at)
        if not _HEAD.size <= length <= _LONGEST:
            raise RecordError(f"a record of {length} bytes")
        if len(data) - at < length:
            break
        try:
            records.append(Record(Kind(kind), pid, tid, time_ns, data[at + _HEAD.size : at + length]))
        except ValueError:
            raise RecordError(f"a record of kind {kind}") from None
        at += length
    return records, data[at:]


class Fields:
    """Reads a record's fields in order."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0

    def take(self, format_: str) -> tuple[int, ...]:
        """Integers by a `struct` format without byte order."""
        wire = struct.Struct("<" + format_)
        try:
            values = wire.unpack_from(self.body, self.at)
        except struct.error:
            raise RecordError("a record is cut off") from None
        self.at += wire.size
        return values

    def one(self, format_: str) -> int:
        """One integer."""
        return self.take(format_)[0]

    def raw(self, length: int) -> bytes:
        """So many bytes."""
        part = self.body[self.at : self.at + length]
        if len(part) != length:
            raise RecordError("a record is cut off")
        self.at += length
        return part

    def counted(self) -> bytes:
        """Bytes behind their number."""
        return self.raw(self.one("I"))

    def rest(self) -> bytes:
        """What is left."""
        return self.raw(len(self.body) - self.at)

    def __bool__(self) -> bool:
        return self.at < len(self.body)


@dataclass(frozen=True)
class Blob:
    """What an argument leads to."""

    form: Form
    data: bytes

    def elements(self) -> Iterator[tuple[int, bytes]]:
        """Of a list: each element's whole length, and what was copied of it."""
        fields = Fields(self.data)
        while fields:
            whole, copied = fields.take("II")
            yield whole, fields.raw(copied)


def blobs(fields: Fields) -> dict[int, Blob]:
    """The blobs by argument (6: the result). A path does not hide another blob of the same argument."""
    found: dict[int, Blob] = {}
    while fields:
        argument, form, _ = fields.take("BBH")
        found[argument] = Blob(Form(form), fields.counted())
    return found


@dataclass(frozen=True)
class Registers:
    """General registers by the names that gdb gives them, and segment bases."""

    values: tuple[int, ...]

    NAMES = (
        *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
        *(f"r{n}" for n in range(8, 16)),
        *("rip", "eflags", "fs_base", "gs_base"),
    )

    @classmethod
    def take(cls, fields: Fields) -> Registers:
        """The next 160 bytes."""
        return cls(fields.take("20Q"))

    def __getitem__(self, name: str) -> int:
        return self.values[self.NAMES.index(name)]


@dataclass(frozen=True)
class Mapping:
    """A mapping of a process."""

    start: int
    end: int
    offset: int
    # 1 read, 2 write, 4 execute.
    rights: int
    path: str


@dataclass(frozen=True)
class Maps:
    """The mappings of a process, by address."""

    program: str
    mappings: tuple[Mapping, ...]
    # What readers found out about addresses.
    known: dict[object, object] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def parse(cls, body: bytes) -> Maps:
        """From the body of a `MAPS` record."""
        fields = Fields(body)
        program = fields.counted().decode(errors="surrogateescape")
        found = []
        while fields:
            start, end, offset, rights = fields.take("IIQI")
            path = fields.counted().decode(errors="surrogateescape")
            found.append(Mapping(start, end, offset, rights, path))
        return cls(program, tuple(found))

    def find(self, address: int) -> Mapping | None:
        """The mapping that holds `address`."""
        # Imported by who has records only.
        from bisect import bisect_right

        at = bisect_right(self.mappings, address, key=lambda m: m.start) - 1
        if at >= 0 and address < self.mappings[at].end:
            return self.mappings[at]
        return None
