"""ELF files of this machine: names of functions, and where the tables for unwinding are.

Invariants: files are hostile; what does not fit gives no names, never an error. Addresses are those of the file; who
asks knows how a mapping moves them.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

_HEAD = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_LOAD, _NOTE_SEGMENT, _EH_FRAME_HDR = 1, 4, 0x6474E550
_DEBUG_FILES = "/usr/lib/debug/.build-id"
_SYMTAB, _DYNSYM = 2, 11
_FUNCTION, _INDIRECT_FUNCTION = 2, 10
_MOST_SYMBOLS = 4_000_000


@dataclass(frozen=True)
class Segment:
    """A program header."""

    type: int
    offset: int
    address: int
    file_size: int
    memory_size: int


class Elf:
    """A file, mapped."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data = data
        head = _HEAD.unpack_from(data)
        if head[0][:6] != b"\x7fELF\x02\x01":
            raise ValueError("no ELF file of this machine")
        self.kind, self._segments_at, self._sections_at = head[1], head[5], head[6]
        self._segment_count, self._section_count = head[10], head[12]

    @cached_property
    def segments(self) -> list[Segment]:
        """The program headers."""
        found = []
        for n in range(self._segment_count):
            type_, _, offset, address, _, file_size, memory_size, _ = _SEGMENT.unpack_from(
                self.data, self._segments_at + n * _SEGMENT.size
            )
            found.append(Segment(type_, offset, address, file_size, memory_size))
        return found

    def address_of(self, offset: int) -> int | None:
        """The address that byte `offset` of the file has."""
        for s in self.segments:
            if s.type == _LOAD and s.offset - s.offset % 4096 <= offset < s.offset + s.file_size:
                return offset - s.offset + s.address
        return None

    def read(self, address: int, length: int) -> bytes:
        """Bytes at an address of the file; fewer where it ends."""
        for s in self.segments:
            if s.type == _LOAD and s.address <= address < s.address + s.file_size:
                start = address - s.address + s.offset
                return bytes(self.data[start : min(start + length, s.offset + s.file_size)])
        return b""

    @cached_property
    def eh_frame_hdr(self) -> int | None:
        """The address of the table that leads to the frame descriptions."""
        return next((s.address for s in self.segments if s.type == _EH_FRAME_HDR), None)

    @cached_property
    def build_id(self) -> str:
        """In hex, or nothing."""
        for s in self.segments:
            if s.type == _NOTE_SEGMENT:
                notes = bytes(self.data[s.offset : s.offset + min(s.file_size, 1 << 16)])
                at = notes.find(b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0")
                if at >= 0:
                    return notes[at + 16 : at + 36].hex()
        return ""

    @cached_property
    def _functions(self) -> tuple[list[int], list[tuple[int, bytes]]]:
        found: dict[int, tuple[int, bytes]] = {}
        self._collect(found)
        # What distributions take out of programs (Debian: packages *-dbg, *-dbgsym).
        if separate := read(f"{_DEBUG_FILES}/{self.build_id[:2]}/{self.build_id[2:]}.debug") if self.build_id else None:
            separate._collect(found)
        starts = sorted(found)
        return starts, [found[start] for start in starts]

    def _collect(self, found: dict[int, tuple[int, bytes]]) -> None:
        for n in range(self._section_count):
            # A table that points nowhere has no names.
            with contextlib.suppress(struct.error):
                section = _SECTION.unpack_from(self.data, self._sections_at + n * _SECTION.size)
                if section[1] in (_SYMTAB, _DYNSYM):
                    self._symbols(section, found)

    def _symbols(self, section: tuple[int, ...], found: dict[int, tuple[int, bytes]]) -> None:
        offset, size, link = section[4], section[5], section[6]
        names = _SECTION.unpack_from(self.data, self._sections_at + link * _SECTION.size)
        text = bytes(self.data[names[4] : names[4] + names[5]])
        body = bytes(self.data[offset : offset + min(size, _MOST_SYMBOLS * _SYMBOL.size)])
        body = body[: len(body) - len(body) % _SYMBOL.size]
        for name, info, _, place, value, length in _SYMBOL.iter_unpack(body):
            if info & 15 in (_FUNCTION, _INDIRECT_FUNCTION) and place:
                label = text[name : text.find(b"\0", name)]
                # Of several names the first public one, else the first.
                if label and (value not in found or (info >> 4 and label[:1] != b"_" and found[value][1][:1] == b"_")):
                    found[value] = (length, label)

    def function(self, address: int) -> tuple[str, int] | None:
        """The function at an address, and how far into it that is."""
        starts, rest = self._functions
        n = bisect_right(starts, address) - 1
        if n < 0:
            return None
        length, name = rest[n]
        into = address - starts[n]
        # Assembly has no sizes: up to the next name, within reason.
        if into >= (length or 4096):
            return None
        return name.decode(errors="replace"), into

    def functions(self) -> Iterator[tuple[int, str]]:
        """All of them by address."""
        starts, rest = self._functions
        for start, (_, name) in zip(starts, rest, strict=True):
            yield start, name.decode(errors="replace")


@lru_cache(maxsize=512)
def read(path: str) -> Elf | None:
    """The file, if it is there and is one."""
    try:
        # A FIFO of that name would have to be waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            elf = Elf(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        _ = elf.segments, elf.eh_frame_hdr
    except (OSError, ValueError, struct.error):
        return None
    return elf
