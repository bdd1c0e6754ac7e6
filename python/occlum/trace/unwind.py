"""Backtraces from registers and a piece of stack, by the frame descriptions (.eh_frame) of the files that are mapped.

What they say (DWARF 5, section 6.4, and the Linux Standard Base on .eh_frame_hdr): for each address where the caller's
frame is (the CFA), and where it saved which registers. Where there is no description, frame pointers are followed while
they lead up the stack, and else words that look like return addresses are taken (such frames are marked).

Invariants: tables and stacks are hostile: every step moves up the stack, and there are at most `FRAMES_MAX` of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from occlum.trace import elf
from occlum.trace.records import Maps, Registers

FRAMES_MAX = 128
# Rows that a description may keep at once; compilers keep one.
_MOST_SAVED = 64
_SCAN_WORDS = 4096
# DWARF numbers of the registers on x86-64.
_RBP, _RSP, _RETURN = 6, 7, 16
_DWARF = ("rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)), "rip")

Location = tuple[str, int]


@dataclass(frozen=True)
class Frame:
    """A place in a program."""

    address: int
    # "registers", "frame description", "frame pointer" or "guess".
    by: str


@dataclass
class Row:
    """What holds at an address: the CFA as register and offset, or none; where registers are, relative to it."""

    cfa: tuple[int, int] | None = None
    registers: dict[int, Location] = field(default_factory=dict)


class _Bytes:
    """DWARF's numbers, read in order; addresses relative to where they stand."""

    def __init__(self, file: elf.Elf, address: int, length: int) -> None:
        self.base = address
        self.data = file.read(address, length)
        self.at = 0

    @property
    def address(self) -> int:
        return self.base + self.at

    def number(self, format_: str) -> int:
        wire = struct.Struct("<" + format_)
        (value,) = wire.unpack_from(self.data, self.at)
        self.at += wire.size
        return int(value)

    def uleb(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self.number("B")
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        return value

    def sleb(self) -> int:
        start = self.at
        value = self.uleb()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if self.data[self.at - 1] & 0x40 else value

    def encoded(self, encoding: int, data_base: int = 0) -> int:
        """A pointer in one of the encodings of exception tables."""
        here = self.address
        form = encoding & 15
        fixed = {0: "Q", 2: "H", 3: "I", 4: "Q", 10: "h", 11: "i", 12: "q"}
        value = {1: self.uleb, 9: self.sleb}[form]() if form in (1, 9) else self.number(fixed[form])
        relative = {0: 0, 0x10: here, 0x30: data_base}[encoding & 0x70]
        return value + relative & 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True)
class _Common:
    """What a common information entry says."""

    code_step: int
    data_step: int
    encoding: int
    augmented: bool
    program: bytes
    is_signal: bool


def _common(file: elf.Elf, at: int) -> _Common:
    head = _Bytes(file, at, 4)
    body = _Bytes(file, at + 4, head.number("I"))
    body.number("I")
    body.number("B")
    end = body.data.index(b"\0", body.at)
    letters, body.at = body.data[body.at : end], end + 1
    code_step, data_step = body.uleb(), body.sleb()
    body.uleb()
    encoding = 0
    if letters[:1] == b"z":
        length = body.uleb()
        stop = body.at + length
        for letter in letters[1:].decode("latin-1"):
            if letter == "R":
                encoding = body.number("B")
            elif letter == "P":
                body.encoded(body.number("B"))
            elif letter == "L":
                body.number("B")
        body.at = stop
    augmented = letters[:1] == b"z"
    return _Common(code_step, data_step, encoding, augmented, body.data[body.at :], b"S" in letters)


def _entry_for(file: elf.Elf, address: int) -> int | None:
    """Where the frame description for `address` is, by binary search in .eh_frame_hdr."""
    if file.eh_frame_hdr is None:
        return None
    head = _Bytes(file, file.eh_frame_hdr, 12)
    _, pointer, count_encoding, table = (head.number("B") for _ in range(4))
    if table != 0x3B or count_encoding != 3:
        return None
    head.encoded(pointer)
    count, base = head.number("I"), file.eh_frame_hdr
    first = head.address
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        start, _ = struct.unpack("<ii", file.read(first + 8 * middle, 8))
        if base + start <= address:
            low = middle + 1
        else:
            high = middle
    if low == 0:
        return None
    _, entry = struct.unpack("<ii", file.read(first + 8 * (low - 1), 8))
    return base + int(entry)


class _Machine:
    """Runs the instructions of a frame description up to an address."""

    def __init__(self, file: elf.Elf, common: _Common) -> None:
        self.file = file
        self.common = common
        self.row = Row()
        self.initial: dict[int, Location] = {}
        self.saved: list[tuple[tuple[int, int] | None, dict[int, Location]]] = []

    def run(self, program: bytes, location: int, until: int) -> None:
        """Changes the row."""
        code = _Bytes(self.file, 0, 0)
        code.data = program
        while code.at < len(program):
            byte = code.number("B")
            kind, low = byte & 0xC0, byte & 0x3F
            if kind == 0x40 or byte in (1, 2, 3, 4):
                step = low if kind else {1: 0, 2: 1, 3: 2, 4: 4}[byte]
                delta = step if kind else code.number({2: "B", 3: "H", 4: "I"}[byte]) if byte != 1 else 0
                location += delta * self.common.code_step
                if location > until:
                    return
            elif kind == 0x80:
                self.row.registers[low] = ("cfa", code.uleb() * self.common.data_step)
            elif kind == 0xC0:
                self._restore(low)
            elif not self._other(code, byte):
                return

    def _restore(self, register: int) -> None:
        self.row.registers.pop(register, None)
        if register in self.initial:
            self.row.registers[register] = self.initial[register]

    def _other(self, code: _Bytes, byte: int) -> bool:
        row, step = self.row, self.common.data_step
        match byte:
            case 0x00:
                pass
            case 0x05:
                register = code.uleb()
                row.registers[register] = ("cfa", code.uleb() * step)
            case 0x06:
                self._restore(code.uleb())
            case 0x07:
                row.registers[code.uleb()] = ("undefined", 0)
            case 0x08:
                row.registers.pop(code.uleb(), None)
            case 0x09:
                register = code.uleb()
                row.registers[register] = ("register", code.uleb())
            case 0x0A:
                if len(self.saved) >= _MOST_SAVED:
                    return False
                self.saved.append((row.cfa, dict(row.registers)))
            case 0x0B:
                if self.saved:
                    row.cfa, row.registers = self.saved.pop()
            case 0x0C:
                row.cfa = (code.uleb(), code.uleb())
            case 0x0D:
                row.cfa = (code.uleb(), row.cfa[1] if row.cfa else 0)
            case 0x0E:
                row.cfa = (row.cfa[0] if row.cfa else _RSP, code.uleb())
            case 0x0F:
                # A CFA by expression: the PLT's is known (rsp + 8, or 16 behind its push), others are not.
                length = code.uleb()
                row.cfa = None
                code.at += length
            case 0x10 | 0x16:
                row.registers[code.uleb()] = ("expression", 0)
                code.at += code.uleb()
            case 0x11:
                register = code.uleb()
                row.registers[register] = ("cfa", code.sleb() * step)
            case 0x12:
                row.cfa = (code.uleb(), code.sleb() * step)
            case 0x13:
                row.cfa = (row.cfa[0] if row.cfa else _RSP, code.sleb() * step)
            case 0x2E:
                code.uleb()
            case _:
                return False
        return True


def _row(path: str, address: int) -> Row | None:
    """What holds at an address of a file; `None` where nothing is known."""
    file = elf.read(path)
    try:
        entry = _entry_for(file, address) if file else None
        if file is None or entry is None:
            return None
        head = _Bytes(file, entry, 8)
        length = head.number("I")
        common = _common(file, entry + 4 - head.number("I"))
        body = _Bytes(file, entry + 8, length - 4)
        start = body.encoded(common.encoding)
        size = body.encoded(common.encoding & 15)
        if not start <= address < start + size:
            return None
        if common.augmented:
            skip = body.uleb()
            body.at += skip
        machine = _Machine(file, common)
        machine.run(common.program, 0, 1 << 64)
        machine.initial = dict(machine.row.registers)
        machine.run(body.data[body.at :], start, address)
    except (struct.error, KeyError, IndexError, ValueError):
        return None
    return machine.row


class Unwinder:
    """Walks one stack."""

    def __init__(self, maps: Maps, registers: Registers, stack: bytes) -> None:
        self.maps = maps
        self.values = {n: registers[name] for n, name in enumerate(_DWARF)}
        self.base = registers["rsp"]
        self.stack = stack

    def word(self, address: int) -> int | None:
        """A word of the stack."""
        at = address - self.base
        if not 0 <= at <= len(self.stack) - 8:
            return None
        return int.from_bytes(self.stack[at : at + 8], "little")

    def frames(self) -> list[Frame]:
        """From the innermost outwards."""
        found = [Frame(self.values[_RETURN], "registers")]
        while len(found) < FRAMES_MAX:
            before = self.values[_RSP]
            by = self._step(first=len(found) == 1)
            if by is None or self.values[_RSP] <= before or not self._is_code(self.values[_RETURN]):
                break
            found.append(Frame(self.values[_RETURN], by))
        return found

    def _is_code(self, address: int) -> bool:
        key = ("code", address)
        if key not in self.maps.known:
            mapping = self.maps.find(address)
            self.maps.known[key] = mapping is not None and bool(mapping.rights & 4)
        return bool(self.maps.known[key])

    def _step(self, first: bool) -> str | None:
        pc = self.values[_RETURN]
        row = self._described(pc if first else pc - 1)
        if row is not None and row.cfa is not None:
            return "frame description" if self._by_row(row) else None
        if first and not self._is_code(pc):
            # A jump to nowhere: the caller's address is on top.
            return self._return_on_top()
        return self._by_pointer() or self._by_scan()

    def _described(self, pc: int) -> Row | None:
        """What holds at an address, which is often the same."""
        known = self.maps.known.get(pc, self)
        if known is self:
            known = self.maps.known[pc] = self._look_up(pc)
        return known if isinstance(known, Row) else None

    def _look_up(self, pc: int) -> Row | None:
        mapping = self.maps.find(pc)
        if mapping is None or not mapping.path.startswith("/"):
            return None
        file = elf.read(mapping.path)
        address = file.address_of(pc - mapping.start + mapping.offset) if file else None
        return None if address is None else _row(mapping.path, address)

    def _by_row(self, row: Row) -> bool:
        assert row.cfa is not None
        cfa = self.values.get(row.cfa[0], 0) + row.cfa[1]
        values = dict(self.values)
        for register, (kind, offset) in row.registers.items():
            if kind == "cfa":
                word = self.word(cfa + offset)
                if word is None:
                    if register == _RETURN:
                        return False
                    continue
                values[register] = word
            elif kind == "register":
                values[register] = self.values.get(offset, 0)
            elif kind == "undefined" and register == _RETURN:
                return False
        values[_RSP] = cfa
        self.values = values
        return True

    def _return_on_top(self) -> str | None:
        word = self.word(self.values[_RSP])
        if word is None or not self._is_code(word):
            return self._by_scan()
        self.values |= {_RETURN: word, _RSP: self.values[_RSP] + 8}
        return "guess"

    def _by_pointer(self) -> str | None:
        frame = self.values[_RBP]
        saved, back = self.word(frame), self.word(frame + 8)
        if saved is None or back is None or frame < self.values[_RSP] or not self._follows_call(back):
            return None
        self.values |= {_RBP: saved, _RETURN: back, _RSP: frame + 16}
        return "frame pointer"

    def _by_scan(self) -> str | None:
        for n in range(_SCAN_WORDS):
            at = self.values[_RSP] + 8 * n
            word = self.word(at)
            if word is None:
                return None
            if self._follows_call(word):
                self.values |= {_RETURN: word, _RSP: at + 8}
                return "guess"
        return None

    def _follows_call(self, address: int) -> bool:
        """Is it executable, and does a call stand before it?"""
        mapping = self.maps.find(address)
        if mapping is None or not mapping.rights & 4:
            return False
        file = elf.read(mapping.path) if mapping.path.startswith("/") else None
        if file is None:
            return False
        vaddr = file.address_of(address - mapping.start + mapping.offset)
        before = file.read(vaddr - 7, 7) if vaddr else b""
        return len(before) == 7 and (
            before[2] == 0xE8 or any(before[n] == 0xFF and before[n + 1] & 0x38 == 0x10 for n in range(6))
        )


def symbol(maps: Maps, address: int, after_call: bool = True) -> tuple[str, str]:
    """The name of the function at an address and the file that it is in: `malloc+0x12`, `/usr/lib/libc.so.6`."""
    mapping = maps.find(address)
    if mapping is None:
        return f"{address:#x}", ""
    if not mapping.path.startswith("/"):
        return mapping.path or f"{address:#x}", mapping.path
    file = elf.read(mapping.path)
    place = address - (1 if after_call else 0)
    vaddr = file.address_of(place - mapping.start + mapping.offset) if file else None
    found = file.function(vaddr) if file and vaddr is not None else None
    if found is None:
        name = mapping.path.rsplit("/", 1)[-1]
        return f"{name}+{address - mapping.start + mapping.offset:#x}", mapping.path
    return f"{found[0]}+{found[1] + (1 if after_call else 0):#x}", mapping.path
