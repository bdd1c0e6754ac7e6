"""`Enclave.fs`: the files that the programs of an enclave see.

What is done here is done by programs inside (cat, dd, find, tar), with their rights and their view: this machine's
files as they were when first looked at, under what programs changed since. Data goes through pipes that those programs
hold.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from occlum.errors import CalledProcessError

if TYPE_CHECKING:
    from occlum.enclave import Enclave

__all__ = ["Entry", "FileSystem"]

_PIPE, _DEVNULL = -1, -3
# The C locale's messages of the programs that are run here, as errors.
_ERRORS = {
    os.strerror(number): number
    for number in (
        *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
        *(errno.ENOTEMPTY, errno.ENOSPC, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG),
    )
}
_KINDS = {"f": stat.S_IFREG, "d": stat.S_IFDIR, "l": stat.S_IFLNK, "p": stat.S_IFIFO, "s": stat.S_IFSOCK}


@dataclass(frozen=True)
class Entry:
    """An entry of a directory."""

    name: str
    mode: int
    size: int
    mtime: float

    def is_dir(self) -> bool:
        """Is it a directory?"""
        return stat.S_ISDIR(self.mode)

    def is_file(self) -> bool:
        """Is it a regular file?"""
        return stat.S_ISREG(self.mode)

    def is_symlink(self) -> bool:
        """Is it a symbolic link?"""
        return stat.S_ISLNK(self.mode)


def _rename(new: Path, there: Path) -> None:
    """Gives the name to what is new. A file that came there meanwhile is not replaced."""
    if there.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(there))
    new.rename(there)


def _error(message: bytes, path: str) -> OSError:
    """What a program's message says, as Python would."""
    text = message.decode(errors="replace").strip()
    for words, number in _ERRORS.items():
        if words in text:
            return OSError(number, words, path)
    return OSError(errno.EIO, text or "the program inside failed", path)


class FileSystem:
    """Reads, writes, lists and copies. Paths are absolute, or relative to `/`."""

    def __init__(self, enclave: Enclave) -> None:
        self._enclave = enclave

    @staticmethod
    def _path(path: str | os.PathLike[str]) -> str:
        return str(PurePosixPath("/") / os.fspath(path))

    def _run(self, argv: list[str], path: str, input: bytes | None = None) -> bytes:
        given: dict[str, Any] = {"stdin": _DEVNULL} if input is None else {"input": input}
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
        run: Callable[..., Any] = self._enclave.run
        done = run(argv, stdout=_PIPE, stderr=_PIPE, cwd="/", env=env, check=False, **given)
        if done.returncode:
            raise _error(done.stderr, path)
        output: bytes = done.stdout
        return output

    def read_bytes(self, path: str | os.PathLike[str]) -> bytes:
        """The content of a file."""
        name = self._path(path)
        return self._run(["cat", "--", name], name)

    def read_text(self, path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
        """The content of a text file."""
        return self.read_bytes(path).decode(encoding)

    def write_bytes(self, path: str | os.PathLike[str], data: bytes) -> None:
        """Makes or replaces a file."""
        name = self._path(path)
        self._run(["dd", f"of={name}", "bs=1M", "status=none"], name, data)

    def write_text(self, path: str | os.PathLike[str], text: str, encoding: str = "utf-8") -> None:
        """Makes or replaces a text file."""
        self.write_bytes(path, text.encode(encoding))

    def list(self, path: str | os.PathLike[str] = "/") -> list[Entry]:
        """The entries of a directory, by name."""
        name = self._path(path)
        shown = "%y %m %s %T@ %f\\0"
        data = self._run(["find", name + "/", "-mindepth", "1", "-maxdepth", "1", "-printf", shown], name)
        return sorted((self._entry(line) for line in data.split(b"\0") if line), key=lambda entry: entry.name)

    @staticmethod
    def _entry(line: bytes) -> Entry:
        kind, mode, size, mtime, name = line.split(b" ", 4)
        bits = _KINDS.get(kind.decode(), 0) | int(mode, 8)
        return Entry(os.fsdecode(name), bits, int(size), float(mtime))

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Is there something?"""
        return self._enclave.call(["test", "-e", self._path(path)], cwd="/") == 0

    def mkdir(self, path: str | os.PathLike[str]) -> None:
        """Makes a directory, with those that lead to it."""
        name = self._path(path)
        self._run(["mkdir", "-p", "--", name], name)

    def remove(self, path: str | os.PathLike[str]) -> None:
        """Removes a file, or a directory with everything in it."""
        name = self._path(path)
        self._run(["rm", "-r", "--", name], name)

    def copy_in(self, source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
        """Copies a file or a directory of this machine to `target` inside."""
        here, name = Path(source), self._path(target)
        if not here.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        parent, base = os.path.split(name)
        self.mkdir(parent)
        command = ["tar", "-x", "--no-same-owner", "-f", "-", "-C", parent]
        with self._enclave.Popen(command, stdin=_PIPE, stderr=_PIPE, cwd="/") as process:
            assert process.stdin is not None
            assert process.stderr is not None
            try:
                with process.stdin as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
                    archive.add(here, arcname=base)
            except BrokenPipeError:
                pass
            message = process.stderr.read()
        if process.returncode:
            raise _error(message, name)

    def copy_out(self, source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
        """Copies a file or a directory inside to `target` on this machine, which must not exist yet."""
        name, there = self._path(source), Path(target)
        if there.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        parent, base = os.path.split(name)
        command = ["tar", "-c", "-f", "-", "-C", parent, "--", base]
        with self._enclave.Popen(command, stdout=_PIPE, stderr=_PIPE, cwd="/") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            # What tar says about it is better.
            with contextlib.suppress(tarfile.ReadError):
                self._unpack(process.stdout, base, there)
            message = process.stderr.read()
        if process.returncode:
            raise _error(message, name)

    @staticmethod
    def _unpack(stream: IO[bytes], base: str, there: Path) -> None:
        """Unpacks what comes from inside, which is not trusted: nothing but below `there`, no devices, no links out.

        It grows in a fresh directory, of which only what was asked for is kept.
        """

        def inside(name: str) -> str:
            if name != base and not name.startswith(base + "/"):
                raise CalledProcessError(1, ["tar"])
            return name[len(base) + 1 :] or "."

        with (
            tarfile.open(fileobj=stream, mode="r|") as archive,
            tempfile.TemporaryDirectory(prefix=".occlum-", dir=there.parent) as folder,
        ):
            new = Path(folder) / "new"
            for member in archive:
                member.name = inside(member.name)
                if member.islnk():
                    member.linkname = inside(member.linkname)
                if member.name == "." and not member.isdir():
                    member.name = new.name
                    archive.extract(member, folder, filter="data")
                else:
                    new.mkdir(exist_ok=True)
                    archive.extract(member, new, filter="data")
            if new.is_symlink() or new.exists():
                _rename(new, there)
