"""`occlum.trace` on records that are cut, split, hostile, or about hostile files."""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path

import pytest

from occlum.errors import OptionError
from occlum.trace import elf, unwind
from occlum.trace.classes import select
from occlum.trace.options import TraceOptions
from occlum.trace.records import Fields, Kind, Mapping, Maps, RecordError, Registers, blobs, split

HEAD = struct.Struct("<IHHiiQ")
KNOWN = {"read": 0, "write": 1, "open": 2, "stat": 4, "mmap": 9, "kill": 62}


def record(kind: int, body: bytes) -> bytes:
    return HEAD.pack(HEAD.size + len(body), kind, 0, 1, 2, 3) + body


def test_records_come_whole_however_they_are_split(rng: random.Random) -> None:
    bodies = [rng.randbytes(rng.randrange(200)) for _ in range(50)]
    stream = b"".join(record(Kind.LOST, body) for body in bodies)
    found, rest = [], b""
    while stream:
        cut = rng.randrange(1, 100)
        records, rest = split(rest + stream[:cut])
        stream = stream[cut:]
        found += records
    assert rest == b""
    assert [r.body for r in found] == bodies
    assert {(r.pid, r.tid, r.time_ns) for r in found} == {(1, 2, 3)}


@pytest.mark.parametrize("stream", [HEAD.pack(4, 1, 0, 0, 0, 0), HEAD.pack(1 << 31, 1, 0, 0, 0, 0), record(99, b"")])
def test_what_is_no_record_is_said_to_be_none(stream: bytes) -> None:
    with pytest.raises(RecordError):
        split(stream)


def test_fields_and_blobs_that_are_cut_off(rng: random.Random) -> None:
    for _ in range(500):
        body = rng.randbytes(rng.randrange(40))
        for read in (Maps.parse, lambda b: blobs(Fields(b)), lambda b: Registers.take(Fields(b))):
            try:
                read(body)
            except (RecordError, ValueError):
                continue


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("all", {*KNOWN}),
        ("none", set()),
        ("read,write", {"read", "write"}),
        ("!read,write", {*KNOWN} - {"read", "write"}),
        ("%file", {"open", "stat"}),
        ("file", {"open", "stat"}),
        ("!%memory,%signal", {*KNOWN} - {"mmap", "kill"}),
        ("/^(re|wr)", {"read", "write"}),
        ("?nosuch,read", {"read"}),
        ("62", {"kill"}),
    ],
)
def test_expressions(expression: str, names: set[str]) -> None:
    assert select(expression, KNOWN, "trace") == {KNOWN[name] for name in names}


@pytest.mark.parametrize("expression", ["nosuch", "%nosuch", "/(", "!nosuch"])
def test_expressions_that_name_nothing(expression: str) -> None:
    with pytest.raises(OptionError):
        select(expression, KNOWN, "trace")


def test_options_on_the_wire() -> None:
    wire = TraceOptions(
        flags=5, string_limit=32, sample_ns=7, sample_stack=9, signals={1, 64}, calls={0, 65, 511}
    ).encode()
    assert len(wire) == 92
    words = struct.unpack("<IIQIQ8Q", wire)
    assert words[:5] == (5, 32, 7, 9, 1 << 63 | 1)
    assert [words[5], words[6], words[12]] == [1, 2, 1 << 63]


def test_symbols_are_those_that_nm_has() -> None:
    file = elf.read(shutil.which("bash") or "/bin/bash")
    assert file is not None
    found = {name: start for start, name in file.functions()}
    start = found["execute_command"]
    assert file.function(start) == ("execute_command", 0)
    assert file.function(start + 1) == ("execute_command", 1)
    assert file.function(1 << 40) is None


def test_hostile_files_and_stacks_only_give_less(rng: random.Random, tmp_path: Path) -> None:
    original = Path(shutil.which("true") or "/bin/true").read_bytes()
    for n in range(60):
        data = bytearray(original)
        for _ in range(rng.randrange(1, 400)):
            data[rng.randrange(64, len(data))] = rng.randrange(256)
        path = tmp_path / f"file{n}"
        path.write_bytes(data)
        size = -(-len(data) // 4096) * 4096
        maps = Maps("x", (Mapping(0x10000, 0x10000 + size, 0, 5, str(path)),))
        for _ in range(20):
            values = tuple(rng.choice((0x10000 + rng.randrange(size), rng.getrandbits(64))) for _ in Registers.NAMES)
            stack = b"".join(struct.pack("<Q", 0x10000 + rng.randrange(size)) for _ in range(64))
            frames = unwind.Unwinder(maps, Registers(values), stack).frames()
            assert 1 <= len(frames) <= unwind.FRAMES_MAX
            unwind.symbol(maps, frames[-1].address)
