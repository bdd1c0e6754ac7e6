"""Which shared libraries an ELF program needs, and where its loader finds them (ld.so(8)), without running anything.

Neighbours: `bom` and `include` ask. Files are hostile: what is no ELF file needs nothing, what is cut off is an error.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import struct
import subprocess
from dataclasses import dataclass, field

from occlum.image.tree import BuildError

# What the loaders search without being told (ld.so(8); musl's ldso/dynlink.c has the second list).
GLIBC_DIRS = (*("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"),)
MUSL_DIRS = ("/lib", "/usr/local/lib", "/usr/lib", "/lib/x86_64-linux-musl", "/usr/lib/x86_64-linux-musl")

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 15, 29
_PROGRAM = struct.Struct("<IIQQQQQQ")
_MOST_HEADERS, _MOST_TEXT = 256, 256 << 20


@dataclass
class Elf:
    """What the loader reads of a file."""

    interpreter: str = ""
    needed: list[str] = field(default_factory=list)
    rpath: list[str] = field(default_factory=list)
    runpath: list[str] = field(default_factory=list)


def read(path: str) -> Elf | None:
    """The file's needs; None if it is no x86-64 ELF file. BuildError if it is damaged."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01" or head[18:20] != b"\x3e\x00":
                return None
            # Neither a program nor a library: object files and core dumps need nothing.
            if head[16:18] not in (b"\2\0", b"\3\0"):
                return None
            (table,) = struct.unpack_from("<Q", head, 32)
            size, count = struct.unpack_from("<HH", head, 54)
            if size != _PROGRAM.size or count > _MOST_HEADERS:
                raise BuildError(f"{path} has program headers that cannot be")
            headers = [_PROGRAM.unpack(_at(file, table + n * size, size)) for n in range(count)]
            return _parse(file, headers)
    except (struct.error, OverflowError, EOFError, ValueError):
        raise BuildError(f"{path} is a damaged ELF file") from None
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}") from None


def _at(file: object, offset: int, size: int) -> bytes:
    if size > _MOST_TEXT:
        raise EOFError
    file.seek(offset)  # type: ignore[attr-defined]
    data: bytes = file.read(size)  # type: ignore[attr-defined]
    if len(data) < size:
        raise EOFError
    return data


def _parse(file: object, headers: list[tuple[int, ...]]) -> Elf:
    elf = Elf()
    dynamic: list[tuple[int, int]] = []
    for kind, _, offset, _, _, size, _, _ in headers:
        if kind == _PT_INTERP:
            elf.interpreter = os.fsdecode(_at(file, offset, size).split(b"\0")[0])
        elif kind == _PT_DYNAMIC:
            data = _at(file, offset, size // 16 * 16)
            dynamic = list(itertools.takewhile(lambda entry: entry[0], struct.iter_unpack("<QQ", data)))
    values = dict(reversed(dynamic))
    if _DT_STRTAB not in values:
        return elf
    strings = _at(file, _offset(headers, values[_DT_STRTAB]), values.get(_DT_STRSZ, 0))

    def text(at: int) -> str:
        return os.fsdecode(strings[at : strings.index(b"\0", at)])

    for tag, value in dynamic:
        if tag == _DT_NEEDED:
            elf.needed.append(text(value))
        elif tag == _DT_RPATH:
            elf.rpath = text(value).split(":")
        elif tag == _DT_RUNPATH:
            elf.runpath = text(value).split(":")
    return elf


def _offset(headers: list[tuple[int, ...]], address: int) -> int:
    for kind, _, offset, start, _, size, _, _ in headers:
        if kind == _PT_LOAD and start <= address < start + size:
            return offset + address - start
    raise EOFError


@functools.cache
def loader_cache() -> dict[str, str]:
    """Library name -> path, as /etc/ld.so.cache has it for x86-64."""
    try:
        command = ["/sbin/ldconfig", "-p"]
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    found = re.findall(r"^\s*(\S+) \((?:libc6|ELF),x86-64[^)]*\) => (\S+)$", text, re.MULTILINE)
    return dict(reversed(found))


def dependencies(path: str, extra: tuple[str, ...] = ()) -> dict[str, str]:
    """All libraries that a file needs, and theirs: path as the loader finds it -> the same. BuildError if one is not
    there. `extra`: directories searched first, as with LD_LIBRARY_PATH. The program's loader is among them.
    """
    first = read(path)
    if first is None:
        return {}
    found: dict[str, str] = {}
    if first.interpreter:
        _require(first.interpreter, path)
        found[first.interpreter] = first.interpreter
    musl = "ld-musl" in first.interpreter
    names: set[str] = set()
    queue = [(path, first, list[str]())]
    while queue:
        file, elf, inherited = queue.pop(0)
        rpath = [_expand(entry, file) for entry in elf.rpath] if not elf.runpath else []
        rpath += inherited
        runpath = [_expand(entry, file) for entry in elf.runpath]
        for name in elf.needed:
            if name in names:
                continue
            names.add(name)
            if musl and name.startswith(("libc.musl-", "libc.so")):
                continue
            library = _find(name, [*rpath, *extra, *runpath], musl)
            if library is None:
                raise BuildError(
                    f"{path}: its library {name} is not found",
                    "install it, or name its directory (copy_bom: LD_LIBRARY_PATH)",
                    "OC722",
                )
            found[library] = library
            needs = read(library)
            if needs is not None:
                queue.append((library, needs, rpath))
    return found


def _require(interpreter: str, path: str) -> None:
    if not os.path.exists(interpreter):
        raise BuildError(
            f"{path}: its loader {interpreter} is not there", "install the C library it was made for", "OC722"
        )


def _expand(entry: str, file: str) -> str:
    origin = os.path.dirname(os.path.realpath(file))
    return entry.replace("${ORIGIN}", origin).replace("$ORIGIN", origin).replace("$LIB", "lib/x86_64-linux-gnu")


def _find(name: str, directories: list[str], musl: bool) -> str | None:
    if "/" in name:
        return name if is_library(name) else None
    for directory in directories:
        if directory and is_library(candidate := os.path.join(directory, name)):
            return os.path.normpath(candidate)
    if not musl and (cached := loader_cache().get(name)) and is_library(cached):
        return cached
    for directory in MUSL_DIRS if musl else GLIBC_DIRS:
        if is_library(candidate := os.path.join(directory, name)):
            return candidate
    return None


def is_library(path: str) -> bool:
    """Is it a 64-bit ELF file?"""
    try:
        with open(path, "rb") as file:
            return file.read(5) == b"\x7fELF\x02"
    except OSError:
        return False
