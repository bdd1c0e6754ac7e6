"""A file tree on its way into an image.

Neighbours: what reads trees from elsewhere (`oci`, a directory here), `store` (writes them). Invariants: every path is
absolute and plain; every file's parent is a directory of the tree; nothing but files, directories and links is in it;
owner and times of a directory's files are left out, since they depend on machine and moment: equal trees are equal.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from occlum.errors import OcclumError

Kind = Literal["file", "dir", "link", "hard"]

# The time of everything in an image: the first that all archive formats know (1980-01-01).
FIXED_TIME = 315_532_800
_CHUNK = 1 << 20
_PYC_HEAD = struct.Struct("<4sIII")
_PYC = re.compile(r"(.*)/__pycache__/([^/]+)\.cpython-\d+(?:\.opt-[12])?\.pyc")


class BuildError(OcclumError):
    """An image cannot be built of what it is to be built of."""

    code = "OC720"


@dataclass(frozen=True)
class Node:
    """A file, directory or link. Of a file: where its content is; of a link: what it says."""

    kind: Kind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    target: str = ""
    source: Path | None = None
    offset: int = 0
    size: int = 0
    # Instead of the first bytes of the content.
    head: bytes = b""

    def chunks(self) -> Iterator[bytes]:
        """The content. BuildError if it is not as long as it was."""
        left = self.size
        if self.source is None:
            yield self.head
            return
        try:
            with self.source.open("rb") as file:
                file.seek(self.offset)
                while left:
                    chunk = file.read(min(left, _CHUNK))
                    if not chunk:
                        raise BuildError(f"{self.source} became shorter while it was read", "build again")
                    if left == self.size and self.head:
                        chunk = self.head + chunk[len(self.head) :]
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise BuildError(f"{self.source}: {error.strerror}") from None


@dataclass
class Tree:
    """Nodes by path."""

    nodes: dict[str, Node] = field(default_factory=lambda: {"/": Node("dir")})
    # The paths right below a path.
    _below: dict[str, set[str]] = field(default_factory=dict)

    def add(self, path: str, node: Node) -> None:
        """Puts a node at a path, in the place of what is there; directories that lead there are made."""
        path = plain(path)
        missing, parent = [], os.path.dirname(path)
        while parent not in self.nodes:
            missing.append(parent)
            parent = os.path.dirname(parent)
        if path != "/" and self.nodes[parent].kind != "dir":
            raise BuildError(f"{path} cannot be made: {parent} is no directory")
        if (old := self.nodes.get(path)) is not None and old.kind == "dir" and node.kind != "dir":
            self.remove(path)
        for directory in reversed(missing):
            self._put(directory, Node("dir"))
        self._put(path, node)

    def _put(self, path: str, node: Node) -> None:
        self.nodes[path] = node
        if path != "/":
            self._below.setdefault(os.path.dirname(path), set()).add(path)

    def remove(self, path: str) -> None:
        """Removes a path, and what is below it."""
        self.remove_below(path)
        if path != "/" and self.nodes.pop(path, None) is not None:
            self._below[os.path.dirname(path)].discard(path)

    def remove_below(self, path: str) -> None:
        """Removes what is below a path."""
        rest = list(self._below.pop(path, ()))
        while rest:
            name = rest.pop()
            del self.nodes[name]
            rest.extend(self._below.pop(name, ()))

    def add_mount_point(self, path: str) -> None:
        """A directory at a path, unless there is something."""
        place = self.resolve(path)
        if place not in self.nodes:
            self.add(place, Node("dir"))

    def ordered(self) -> Iterator[tuple[str, Node]]:
        """All, directories before what is in them, other names of files behind their first."""
        everything = sorted(self.nodes.items(), key=lambda item: os.fsencode(item[0]))
        yield from (item for item in everything if item[1].kind != "hard")
        yield from (item for item in everything if item[1].kind == "hard")

    def resolve(self, path: str, depth: int = 0) -> str:
        """The path that links lead to, inside the tree."""
        done = ""
        names = plain(path).strip("/").split("/")
        for place, name in enumerate(names):
            here = f"{done}/{name}"
            node = self.nodes.get(here)
            if node is not None and node.kind == "link":
                if depth > 40:
                    raise BuildError(f"{path}: too many levels of links")
                rest = "/".join(names[place + 1 :])
                return self.resolve(os.path.normpath(os.path.join(done or "/", node.target, rest)), depth + 1)
            done = here
        return done or "/"


def plain(path: str) -> str:
    """An absolute path in its shortest form. BuildError if it leads out of the tree."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    too_long = len(os.fsencode(path)) > 4095 or any(len(os.fsencode(name)) > 255 for name in names)
    if ".." in names or "\0" in path or too_long:
        raise BuildError(f"{path!r} cannot be a path in an image")
    return "/" + "/".join(names)


def from_directory(top: Path) -> Tree:
    """The tree in a directory, as root's. BuildError for devices, sockets and the like."""
    tree = Tree()
    seen: dict[tuple[int, int], str] = {}
    for place, entry in _walk(top, ""):
        status = entry.lstat()
        tree.add(place, _node(entry, status, place, seen))
    return tree


def _walk(directory: Path, place: str) -> Iterator[tuple[str, Path]]:
    try:
        names = sorted(os.listdir(directory), key=os.fsencode)
    except OSError as error:
        raise BuildError(f"{directory}: {error.strerror}") from None
    for name in names:
        entry = directory / name
        yield f"{place}/{name}", entry
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry, f"{place}/{name}")


def _node(entry: Path, status: os.stat_result, place: str, seen: dict[tuple[int, int], str]) -> Node:
    mode = stat.S_IMODE(status.st_mode)
    # What a umask left behind is no part of the tree; /tmp and its like stay open.
    mode = mode if mode & stat.S_ISVTX else mode & ~0o022
    if stat.S_ISDIR(status.st_mode):
        return Node("dir", mode)
    if stat.S_ISLNK(status.st_mode):
        return Node("link", 0o777, target=str(entry.readlink()))
    if not stat.S_ISREG(status.st_mode):
        raise BuildError(f"{entry} is neither file nor directory nor link", "remove it: devices are the enclave's own")
    if status.st_nlink > 1:
        first = seen.setdefault((status.st_dev, status.st_ino), place)
        if first != place:
            return Node("hard", mode, target=first)
    return file_node(entry, mode, status)


def file_node(path: Path, mode: int, status: os.stat_result | None = None) -> Node:
    """A file of the host's."""
    status = status or path.stat()
    return Node("file", mode, source=path, size=status.st_size, head=_compiled_head(path))


def _compiled_head(path: Path) -> bytes:
    """The head of a compiled Python module that fits its source, with the time that the source has in the image.

    Python compares them: without this, every import would compile again.
    """
    found = _PYC.fullmatch(str(path)) if path.suffix == ".pyc" else None
    if found is None:
        return b""
    with contextlib.suppress(OSError, struct.error):
        with path.open("rb") as file:
            magic, flags, time, size = _PYC_HEAD.unpack(file.read(_PYC_HEAD.size))
        source = os.stat(f"{found[1]}/{found[2]}.py")
        if flags == 0 and time == int(source.st_mtime) & 0xFFFF_FFFF and size == source.st_size & 0xFFFF_FFFF:
            return _PYC_HEAD.pack(magic, flags, FIXED_TIME, size)
    return b""


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file in one step, durably."""
    fresh = path.with_name(f".new-{path.name}")
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    with contextlib.suppress(OSError):
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)
