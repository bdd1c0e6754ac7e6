"""`--core`: an ELF core file of a program that a signal ends, as gdb opens it (elf(5), <sys/procfs.h>).

What is in it: registers of all threads (NT_PRSTATUS, NT_FPREGSET, NT_X86_XSTATE), NT_PRPSINFO, NT_SIGINFO, NT_AUXV,
NT_FILE, and a PT_LOAD for each run of pages that was there. Invariant: memory is written as it comes, at places that
the core's first record fixes; pages that the enclave could not read are holes, which read zero.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from occlum._host.files import Place, check_can_be_written
from occlum.errors import OptionError
from occlum.trace import options
from occlum.trace.output import printable
from occlum.trace.records import Fields, Kind, Maps, Record, Registers

_PAGE = 4096
_HEAD = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_CORE, _X86_64, _LOAD, _NOTE = 4, 62, 1, 4
_PRSTATUS, _FPREGSET, _PRPSINFO, _AUXV, _SIGINFO, _FILE, _XSTATE = 1, 2, 3, 6, 0x53494749, 0x46494C45, 0x202
# PT_LOADs beyond this number need section headers to count them.
_MOST_SEGMENTS = 0xFFFE
# user_regs_struct, by the names of `Registers`; None: no such register here.
_USER = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", None),
    *("rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", None, None, None, None),
)
_SELECTORS = {"cs": 0x33, "ss": 0x2B}


@dataclass
class _Thread:
    tid: int
    registers: Registers
    pending: int
    blocked: int
    xsave: bytes


@dataclass
class _Core:
    """One that is being told of."""

    pid: int
    signal: int
    runs: list[tuple[int, int, int]]
    siginfo: bytes
    auxv: bytes
    arguments: bytes
    # uid, gid, parent, group, session
    ids: tuple[int, ...]
    name: bytes
    maps: Maps
    threads: list[_Thread] = field(default_factory=list)
    file: IO[bytes] | None = None
    places: list[tuple[int, int, int]] = field(default_factory=list)


class Core:
    """Writes cores to a file, or into a directory as `core.PROGRAM.PID`."""

    def __init__(self, target: str) -> None:
        self.target = Path(target)
        self._check_target()
        self.is_folder = self.target.is_dir()
        self.place = Place(self.target if self.is_folder else self.target.parent)
        self.maps: dict[int, Maps] = {}
        self.open: dict[int, _Core] = {}
        self.written: list[Path] = []

    def _check_target(self) -> None:
        """Can there be a core? Nothing is made before there is one."""
        try:
            check_can_be_written(self.target)
        except OSError as error:
            fix = "name a file that can be written, or a directory"
            raise OptionError(f"--core {self.target}: {error.strerror}", fix) from None

    def wants(self, joined: options.TraceOptions) -> None:
        """Cores."""
        joined.flags |= options.CORE

    def take(self, record: Record) -> None:
        """The records of a core come one behind the other."""
        match record.kind:
            case Kind.MAPS:
                self.maps[record.pid] = Maps.parse(record.body)
            case Kind.CORE:
                self._begin(record)
            case Kind.THREAD if core := self.open.get(record.pid):
                core.threads.append(_thread(record))
            case Kind.MEMORY if core := self.open.get(record.pid):
                self._memory(core, Fields(record.body))
            case Kind.CORE_END if core := self.open.pop(record.pid, None):
                self._end(core)

    def close(self) -> None:
        """Cores that were never finished are no cores."""
        for core in self.open.values():
            if core.file is not None:
                core.file.close()
                self.place.remove(self._name_of(core))
        self.place.close()

    def _name_of(self, core: _Core) -> str:
        """The file that a core goes to."""
        if not self.is_folder:
            return self.target.name
        name = printable(core.name.split(b"\0")[0].decode(errors="replace")).replace("/", "_") or "unknown"
        return f"core.{name}.{core.pid}"

    def _begin(self, record: Record) -> None:
        fields = Fields(record.body)
        signal_, count = fields.take("II")
        siginfo, auxv, arguments = fields.raw(128), fields.counted(), fields.counted()
        ids, name = fields.take("5I"), fields.raw(16)
        runs = [(start, pages * _PAGE, rights) for start, pages, rights in (fields.take("III") for _ in range(count))]
        maps = self.maps.get(record.pid, Maps("", ()))
        self.open[record.pid] = _Core(
            record.pid, signal_, runs[: _MOST_SEGMENTS - 1], siginfo, auxv, arguments, ids, name, maps
        )

    def _memory(self, core: _Core, fields: Fields) -> None:
        file = core.file or self._start(core)
        address = fields.one("I")
        data = fields.rest()
        for start, length, offset in core.places:
            if start <= address and address + len(data) <= start + length:
                file.seek(offset + address - start)
                file.write(data)
                return

    def _start(self, core: _Core) -> IO[bytes]:
        """Fixes the layout: header, program headers, notes, memory from a page boundary on."""
        core.file = os.fdopen(self.place.open(self._name_of(core)), "wb")
        notes = _notes(core)
        at = _HEAD.size + _SEGMENT.size * (len(core.runs) + 1)
        headers = [_SEGMENT.pack(_NOTE, 0, at, 0, 0, len(notes), 0, 4)]
        offset = -(-(at + len(notes)) // _PAGE) * _PAGE
        for start, length, rights in core.runs:
            flags = (rights & 1) << 2 | rights & 2 | (rights & 4) >> 2
            headers.append(_SEGMENT.pack(_LOAD, flags, offset, start, 0, length, length, _PAGE))
            core.places.append((start, length, offset))
            offset += length
        ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        head = _HEAD.pack(ident, _CORE, _X86_64, 1, 0, 64, 0, 0, 64, 56, len(headers), 0, 0, 0)
        core.file.write(head + b"".join(headers) + notes)
        core.file.truncate(offset)
        return core.file

    def _end(self, core: _Core) -> None:
        file = core.file or self._start(core)
        file.close()
        self.written.append(self.place.folder / self._name_of(core))


def _thread(record: Record) -> _Thread:
    fields = Fields(record.body)
    registers = Registers.take(fields)
    pending, blocked = fields.take("QQ")
    return _Thread(record.tid, registers, pending, blocked, fields.raw(832))


def _note(kind: int, data: bytes, owner: bytes = b"CORE\0") -> bytes:
    def padded(part: bytes) -> bytes:
        return part + bytes(-len(part) % 4)

    return struct.pack("<III", len(owner), len(data), kind) + padded(owner) + padded(data)


def _notes(core: _Core) -> bytes:
    found = []
    for n, thread in enumerate(core.threads):
        found.append(_note(_PRSTATUS, _prstatus(core, thread)))
        if n == 0:
            found.append(_note(_PRPSINFO, _prpsinfo(core)))
            found.append(_note(_SIGINFO, core.siginfo))
            found.append(_note(_AUXV, core.auxv))
            found.append(_note(_FILE, _files(core.maps)))
        found.append(_note(_FPREGSET, thread.xsave[:512]))
        found.append(_note(_XSTATE, _xstate(thread.xsave), b"LINUX\0"))
    return b"".join(found)


def _xstate(xsave: bytes) -> bytes:
    """The kernel notes XCR0 where the hardware leaves room for software."""
    return xsave[:464] + struct.pack("<Q", 7) + xsave[472:]


def _prstatus(core: _Core, thread: _Thread) -> bytes:
    _, _, parent, group, session = core.ids
    head = struct.pack(
        "<iiihxxQQiiii",
        core.signal,
        0,
        0,
        core.signal,
        thread.pending,
        thread.blocked,
        thread.tid,
        parent,
        group,
        session,
    )
    values: list[int] = []
    for name in _USER:
        if name is None:
            values.append((1 << 64) - 1 if len(values) == 15 else 0)
        else:
            values.append(_SELECTORS.get(name) or thread.registers[name])
    return head + bytes(64) + struct.pack("<27Q", *values) + struct.pack("<ixxxx", 1)


def _prpsinfo(core: _Core) -> bytes:
    uid, gid, parent, group, session = core.ids
    arguments = core.arguments.rstrip(b"\0").replace(b"\0", b" ")[:79]
    head = struct.pack("<bcbbxxxxQIIiiii", 0, b"R", 0, 0, 0, uid, gid, core.pid, parent, group, session)
    return head + core.name.ljust(16, b"\0")[:16] + arguments.ljust(80, b"\0")


def _files(maps: Maps) -> bytes:
    mapped = [m for m in maps.mappings if m.path.startswith("/")]
    head = struct.pack("<QQ", len(mapped), _PAGE)
    places = b"".join(struct.pack("<QQQ", m.start, m.end, m.offset // _PAGE) for m in mapped)
    return head + places + b"".join(m.path.encode(errors="surrogateescape") + b"\0" for m in mapped)
