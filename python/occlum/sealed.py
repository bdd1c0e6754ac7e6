"""Sealed stores on the host: files in a store that its key opens.

`Store` puts paths, a lock against two writers and Python's ways around `_native.SealedFs`. The format is described in
docs/sealed-format.md; `occlum fs` is the command line of this module.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat as stat_
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, ParamSpec, Self, TypeVar

from occlum import _native
from occlum._host.files import check_can_be_written
from occlum.errors import StoreError

BLOCK = 4096
# The format's own places and a little room.
SMALLEST = 256 << 10
_CHUNK = 1 << 20
P = ParamSpec("P")
T = TypeVar("T")


class Finding(NamedTuple):
    """One thing that a check found."""

    path: str
    what: str


class Check(NamedTuple):
    """What a check did and found."""

    findings: list[Finding]
    inodes: int
    blocks: int


class Figures(NamedTuple):
    """Figures of a store, in blocks of 4 KiB."""

    blocks: int
    free: int
    files: int
    generation: int
    root: bytes


def _store_error(where: str, error: _native.NativeError) -> StoreError:
    """What went wrong, with the code of stores that are not the newest where that is it."""
    if isinstance(error, _native.StaleError):
        fix = "put the newest copy back; see `occlum explain OC903`"
        return StoreError(f"{where}{error}", fix, code="OC903")
    return StoreError(f"{where}{error}")


def _wrong_form(file: Path, *, is_encrypted: bool) -> StoreError:
    if is_encrypted:
        return StoreError(f"{file} is encrypted", "give its key: --image-key FILE", "OC901")
    return StoreError(f"{file} is protected against changes only, and has no key", "leave --image-key out", "OC901")


def check_counter(file: Path, *, read_only: bool) -> None:
    """StoreError if no counter can be kept in that file."""
    try:
        if read_only:
            # Not made, but where it would be looked for has to be there.
            file.parent.stat()
        else:
            check_can_be_written(file)
    except OSError as error:
        fix = "name a file that can be written with --insecure-counter"
        raise StoreError(f"the counter {file} cannot be used: {error.strerror}", fix, "OC903") from None


def _bytes(path: str | PurePosixPath) -> bytes:
    return os.fsencode(str(path))


class Store:
    """A store in a host file; close it, or use it in a `with` statement.

    `insecure_counter` names a file that plays the trusted counter: for development and against mistakes, since who can
    change the store can change it as well.
    """

    def __init__(
        self,
        file: Path,
        key: bytes | None,
        *,
        format: bool = False,
        read_only: bool = False,
        insecure_counter: Path | None = None,
    ) -> None:
        if insecure_counter is not None:
            check_counter(insecure_counter, read_only=read_only)
        self._lock = _locked(file, shared=read_only)
        self._read_only = read_only
        try:
            self._fs = _native.SealedFs(
                file, key, format=format, read_only=read_only, insecure_counter=insecure_counter
            )
        except _native.NativeError as error:
            self._lock.close()
            if "needs a key" in str(error):
                raise _wrong_form(file, is_encrypted=key is None) from error
            raise _store_error(f"{file}: ", error) from error

    @classmethod
    def create(cls, file: Path, size: int, key: bytes | None, *, insecure_counter: Path | None = None) -> Self:
        """Makes a file of `size` bytes, with its blocks reserved, and an empty store in it."""
        if size < SMALLEST:
            raise StoreError(
                f"a store of {size} bytes would be too small", f"give it at least {SMALLEST >> 10}K", "OC101"
            )
        try:
            with file.open("xb") as new:
                os.posix_fallocate(new.fileno(), 0, size // BLOCK * BLOCK)
            return cls(file, key, format=True, insecure_counter=insecure_counter)
        except FileExistsError as error:
            raise StoreError(f"{file} exists already", "name a new file") from error
        except (OSError, StoreError, OverflowError) as error:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            if isinstance(error, StoreError):
                raise
            fix = "name a file that can be written, and a size that fits on that disk"
            said = getattr(error, "strerror", None) or "too large for any file"
            raise StoreError(f"{file} cannot be made: {said}", fix) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(commit=kind is None)

    def close(self, *, commit: bool = True) -> None:
        """Commits and closes; without `commit`, what the last one left stays."""
        try:
            self._call(self._fs.close, commit and not self._read_only)
        finally:
            self._lock.close()

    @staticmethod
    def _call(method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except _native.NativeError as error:
            raise _store_error("", error) from error

    def stat(self, path: str) -> _native.SealedStat:
        """Attributes; links are not followed."""
        return self._at(path, self._fs.stat, _bytes(path))

    @staticmethod
    def _at(path: str, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except _native.NativeError as error:
            raise _store_error(f"{path}: ", error) from error

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted."""
        return sorted(os.fsdecode(name) for name in self._at(path, self._fs.listdir, _bytes(path)))

    def readlink(self, path: str) -> str:
        """Text of a symbolic link."""
        return os.fsdecode(self._at(path, self._fs.readlink, _bytes(path)))

    def chunks(self, path: str) -> Iterator[bytes]:
        """The content of a file, piece by piece."""
        if not stat_.S_ISREG(self.stat(path).mode):
            raise StoreError(f"{path}: not a regular file")
        offset = 0
        while chunk := self._at(path, self._fs.read, _bytes(path), offset, _CHUNK):
            yield chunk
            offset += len(chunk)

    def read_bytes(self, path: str) -> bytes:
        """All content of a file."""
        return b"".join(self.chunks(path))

    def write_from(self, path: str, source: BinaryIO, mode: int = 0o644) -> None:
        """Makes or replaces a file by what `source` has."""
        name = _bytes(path)
        try:
            self._fs.truncate(name, 0)
        except _native.NativeError:
            self._at(path, self._fs.create, name, stat_.S_IFREG | mode, 0, 0)
        offset = 0
        while chunk := source.read(_CHUNK):
            self._at(path, self._fs.write, name, offset, chunk)
            offset += len(chunk)

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        """Makes a directory."""
        self._at(path, self._fs.create, _bytes(path), stat_.S_IFDIR | mode, 0, 0)

    def make(self, path: str, mode: int, uid: int, gid: int) -> None:
        """Makes a file, directory, FIFO or socket, as the type bits of `mode` say."""
        self._at(path, self._fs.create, _bytes(path), mode, uid, gid)

    def link(self, path: str, other: str) -> None:
        """Gives what is at `path` the further name `other`."""
        self._at(other, self._fs.link, _bytes(path), _bytes(other))

    def symlink(self, path: str, target: str, uid: int = 0, gid: int = 0) -> None:
        """Makes a symbolic link at `path`."""
        self._at(path, self._fs.symlink, _bytes(path), _bytes(target), uid, gid)

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        """Content from `offset` on, shorter at the end."""
        return self._at(path, self._fs.read, _bytes(path), offset, length)

    def write_at(self, path: str, offset: int, data: bytes) -> None:
        """Writes all of `data` at `offset`."""
        self._at(path, self._fs.write, _bytes(path), offset, data)

    def truncate(self, path: str, length: int) -> None:
        """Sets the length of a file."""
        self._at(path, self._fs.truncate, _bytes(path), length)

    def set_owner(self, path: str, mode: int, uid: int, gid: int) -> None:
        """Sets owner, group and permission bits."""
        self._at(path, self._fs.set_owner, _bytes(path), mode, uid, gid)

    def set_times(self, path: str, mtime_ns: int | None, atime_ns: int | None = None) -> None:
        """Sets the times of modification and access that are given."""
        self._at(path, self._fs.set_times, _bytes(path), atime_ns, mtime_ns)

    def set_mode(self, path: str, mode: int) -> None:
        """Sets permission bits."""
        self._at(path, self._fs.set_mode, _bytes(path), mode)

    def xattr(self, path: str, name: str) -> bytes:
        """The value of an extended attribute."""
        return self._at(path, self._fs.xattr, _bytes(path), os.fsencode(name))

    def xattrs(self, path: str) -> list[str]:
        """Names of all extended attributes, sorted."""
        return sorted(os.fsdecode(name) for name in self._at(path, self._fs.xattrs, _bytes(path)))

    def set_xattr(self, path: str, name: str, value: bytes, exists: bool | None = None) -> None:
        """Sets an extended attribute; `exists`: whether there has to be one already."""
        self._at(path, self._fs.set_xattr, _bytes(path), os.fsencode(name), value, exists)

    def remove_xattr(self, path: str, name: str) -> None:
        """Removes an extended attribute."""
        self._at(path, self._fs.remove_xattr, _bytes(path), os.fsencode(name))

    def set_limit(self, blocks: int | None) -> None:
        """Lets files use so many blocks at most; None: all that there are."""
        self._call(self._fs.set_limit, blocks)

    def rename(self, old: str, new: str) -> None:
        """Moves a name; what has the new one already is replaced."""
        self._at(old, self._fs.rename, _bytes(old), _bytes(new))

    def remove(self, path: str) -> None:
        """Removes a file or an empty directory."""
        self._at(path, self._fs.remove, _bytes(path))

    def is_dir(self, path: str) -> bool:
        """Is there a directory of this name?"""
        try:
            return stat_.S_ISDIR(self._fs.stat(_bytes(path)).mode)
        except _native.NativeError:
            return False

    def copy_in(self, source: Path, path: str) -> None:
        """Copies a host's file, link or directory with all that is in it."""
        status = source.lstat()
        if stat_.S_ISLNK(status.st_mode):
            self._at(path, self._fs.symlink, _bytes(path), os.fsencode(source.readlink()))
            return
        if stat_.S_ISDIR(status.st_mode):
            if not self.is_dir(path):
                self.mkdir(path)
            for child in sorted(source.iterdir()):
                self.copy_in(child, str(PurePosixPath(path) / child.name))
        elif stat_.S_ISREG(status.st_mode):
            with source.open("rb") as file:
                self.write_from(path, file)
        else:
            raise StoreError(f"{source}: neither a file nor a link nor a directory")
        self.set_mode(path, stat_.S_IMODE(status.st_mode))
        self.set_times(path, status.st_mtime_ns)

    def copy_out(self, path: str, target: Path) -> None:
        """Copies a file, link or directory with all that is in it to the host."""
        status = self.stat(path)
        if stat_.S_ISDIR(status.mode):
            target.mkdir(exist_ok=True)
            for name in self.listdir(path):
                if name in (".", "..") or "/" in name:
                    raise StoreError(f"{path}: an entry with a name that cannot be")
                self.copy_out(str(PurePosixPath(path) / name), target / name)
        elif stat_.S_ISLNK(status.mode):
            target.symlink_to(self.readlink(path))
        else:
            # Never through a link that an earlier entry of the store has made.
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "wb") as file:
                for chunk in self.chunks(path):
                    file.write(chunk)
                os.fchmod(file.fileno(), status.mode & 0o777)

    def sync(self) -> None:
        """Makes everything durable."""
        self._call(self._fs.sync)

    def grow(self, blocks: int) -> None:
        """Takes in what the host's file has gained."""
        self._call(self._fs.grow, blocks)

    def rotate(self, key: bytes) -> None:
        """From now on another key opens the store."""
        self._call(self._fs.rotate, key)

    def check(self) -> Check:
        """Reads everything; says what is wrong, and with which file."""
        findings, inodes, blocks = self._call(self._fs.check)
        return Check([Finding(os.fsdecode(path), what) for path, what in findings], inodes, blocks)

    def figures(self) -> Figures:
        """Figures of the store."""
        return Figures(*self._call(self._fs.figures))


def _locked(file: Path, *, shared: bool) -> BinaryIO:
    """Opens a store's file and takes the lock that keeps a second writer out."""
    try:
        handle = file.open("rb")
    except OSError as error:
        raise StoreError(f"cannot open {file}: {error.strerror}") from error
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.close()
        raise StoreError(f"{file} is in use by another process", code="OC902") from error
    return handle
