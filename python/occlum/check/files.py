"""A program and the files that it is loaded with: its `#!` interpreter, its loader, its libraries.

The search is that of ld.so(8): RPATH (without RUNPATH), LD_LIBRARY_PATH, RUNPATH, the cache of ldconfig, the default
directories. Invariant: nothing is executed but `ldconfig -p`, which prints the cache.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

_HEAD = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_LOAD, _DYNAMIC, _INTERP, _STACK = 1, 2, 3, 0x6474E551
_NEEDED, _STRTAB, _SYMTAB, _STRSZ, _RPATH, _RUNPATH, _HASH, _GNU_HASH = 1, 5, 6, 10, 15, 29, 4, 0x6FFFFEF5
_DEFAULT_DIRECTORIES = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)
_SCRIPT_DEPTH = 4
_X86_64 = 62


class NotLoadable(Exception):
    """Why a file is no program for this machine."""


@dataclass
class Image:
    """An ELF file, as far as loading goes."""

    path: str
    # Is it a program that is placed where it says?
    fixed: bool
    # Bytes of memory that its segments take.
    memory: int
    # The highest address of executable segments, from the file's own start.
    code_end: int
    executable_stack: bool
    interpreter: str | None = None
    needed: list[str] = field(default_factory=list)
    rpath: list[str] = field(default_factory=list)
    runpath: list[str] = field(default_factory=list)
    # Symbols that it takes from others.
    imports: set[str] = field(default_factory=set)


def read_image(path: str) -> Image:
    """Reads the headers and the dynamic section."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise NotLoadable(f"cannot be read: {error.strerror}") from None
    if data[:4] != b"\x7fELF":
        raise NotLoadable("is no ELF file and has no #! line")
    try:
        return _parse(path, data)
    except (struct.error, OverflowError):
        raise NotLoadable("is a damaged ELF file") from None


def _parse(path: str, data: bytes) -> Image:
    head = _HEAD.unpack_from(data)
    if data[4] != 2 or data[5] != 1:
        raise NotLoadable("is a 32-bit program; only 64-bit ones run")
    if head[2] != _X86_64:
        raise NotLoadable("is for another machine than x86-64")
    if head[1] not in (2, 3):
        raise NotLoadable("is neither a program nor a library")
    segments = [_SEGMENT.unpack_from(data, head[5] + n * _SEGMENT.size) for n in range(head[10])]
    loads = [s for s in segments if s[0] == _LOAD]
    memory = sum(-(-s[6] // 4096) * 4096 for s in loads)
    code_end = max((s[3] + s[6] for s in loads if s[1] & 1), default=0)
    stack = any(s[0] == _STACK and s[1] & 1 for s in segments)
    image = Image(path, head[1] == 2, memory, code_end, stack)
    for type_, _, offset, _, _, size, _, _ in segments:
        if type_ == _INTERP:
            image.interpreter = data[offset : offset + size].rstrip(b"\0").decode(errors="surrogateescape")
        elif type_ == _DYNAMIC:
            _dynamic(image, data, data[offset : offset + size], loads)
    return image


def _dynamic(image: Image, data: bytes, section: bytes, loads: list[tuple[int, ...]]) -> None:
    entries = list(struct.iter_unpack("<QQ", section[: len(section) - len(section) % 16]))
    first = dict(reversed(entries))

    def place(address: int) -> int | None:
        return next((address - s[3] + s[2] for s in loads if s[3] <= address < s[3] + s[5]), None)

    strings_at = place(first.get(_STRTAB, 0))
    if strings_at is None:
        return
    strings = data[strings_at : strings_at + first.get(_STRSZ, 0)]

    def text(at: int) -> str:
        return strings[at : strings.find(b"\0", at)].decode(errors="surrogateescape")

    origin = str(Path(image.path).resolve().parent)
    for tag, value in entries:
        if tag == _NEEDED:
            image.needed.append(text(value))
        elif tag in (_RPATH, _RUNPATH):
            found = [re.sub(r"\$ORIGIN|\$\{ORIGIN\}", origin, part) for part in text(value).split(":")]
            (image.rpath if tag == _RPATH else image.runpath).extend(found)
        elif tag == 0:
            break
    symbols_at = place(first.get(_SYMTAB, 0))
    if symbols_at is not None:
        # The string table follows the symbols in every linker's output; it bounds them where no hash table does.
        end = strings_at if strings_at > symbols_at else symbols_at
        body = data[symbols_at : end - (end - symbols_at) % _SYMBOL.size]
        image.imports = {
            text(name) for name, _, _, section_, _, _ in _SYMBOL.iter_unpack(body) if section_ == 0 and name
        }


@lru_cache(maxsize=1)
def _cache() -> dict[str, str]:
    """What ldconfig knows for x86-64."""
    tool = shutil.which("ldconfig", path=f"/sbin:/usr/sbin:{os.environ.get('PATH', '')}")
    if tool is None:
        return {}
    done = subprocess.run([tool, "-p"], capture_output=True, text=True, check=False)
    lines = re.findall(r"^\s+(\S+) \(([^)]*)\) => (.*)$", done.stdout, re.MULTILINE)
    return {name: path for name, kind, path in reversed(lines) if "x86-64" in kind}


def find_library(name: str, by: Image, environment: Mapping[str, str]) -> str | None:
    """The file that the loader would take for a needed library."""
    if "/" in name:
        return name if Path(name).exists() else None
    directories = [
        *(by.rpath if not by.runpath else ()),
        *environment.get("LD_LIBRARY_PATH", "").split(":"),
        *by.runpath,
    ]
    for directory in filter(None, directories):
        candidate = Path(directory, name)
        if candidate.exists():
            return str(candidate)
    if name in _cache():
        return _cache()[name]
    return next((str(Path(d, name)) for d in _DEFAULT_DIRECTORIES if Path(d, name).exists()), None)


def find_program(name: str, environment: Mapping[str, str]) -> str | None:
    """As execvp finds it."""
    return shutil.which(name, path=environment.get("PATH", os.defpath))


def interpreter_of_script(path: str) -> list[str] | None:
    """The words of a `#!` line."""
    try:
        with Path(path).open("rb") as file:
            line = file.read(256)
    except OSError:
        return None
    if line[:2] != b"#!":
        return None
    # A C string to the kernel.
    words = line[2:].split(b"\n")[0].split(b"\0")[0].strip().split(None, 1)
    return [word.decode(errors="surrogateescape").strip() for word in words]


@dataclass
class Loaded:
    """All that starts with a program."""

    # The scripts on the way to the program, then the program.
    chain: list[str]
    program: Image
    images: list[Image]
    # Libraries that are not there: name, and who needs them.
    missing: list[tuple[str, str]]


def load(program: str, environment: Mapping[str, str]) -> Loaded:
    """Follows `#!` lines, the loader, and needed libraries breadth first."""
    chain = [program]
    while words := interpreter_of_script(chain[-1]):
        if len(chain) > _SCRIPT_DEPTH:
            raise NotLoadable("is a script whose interpreters are scripts, too deep for the kernel")
        target = words[0]
        # `env` looks its program up itself.
        if Path(target).name == "env" and len(words) > 1 and (rest := words[1].removeprefix("-S").split()):
            target = find_program(rest[0], environment) or rest[0]
        chain.append(target)
    image = read_image(chain[-1])
    images, missing, known = [image], [], set()
    if image.interpreter:
        if Path(image.interpreter).exists():
            images.append(read_image(image.interpreter))
        else:
            missing.append((image.interpreter, image.path))
    for by in images:
        for name in by.needed:
            if name in known:
                continue
            known.add(name)
            path = find_library(name, by, environment)
            if path is None:
                missing.append((name, by.path))
            elif all(Path(path).resolve() != Path(other.path).resolve() for other in images):
                images.append(read_image(path))
    return Loaded(chain, image, images, missing)
