"""A sealed store as a directory of this machine, through FUSE.

Neighbours: `sealed` (the store), `occlum.cli.mount` and `occlum.cli.umount`. Several threads serve; the store takes one
call at a time. What is written becomes durable at fsync and at unmounting. Reading does not change the time of access.
"""

from __future__ import annotations

import errno
import os
import stat as stat_
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mfusepy  # type: ignore[import-untyped]

from occlum import _native
from occlum.errors import StoreError
from occlum.sealed import BLOCK, Store

# The store's messages are the texts of strerror(3), in lower case.
_ERRNO = {os.strerror(number).lower(): number for number in errno.errorcode}
# Times that are not there, as libfuse hands UTIME_NOW and UTIME_OMIT on.
_NOW, _OMIT = (1 << 30) - 1, (1 << 30) - 2
_ERRNO["no such attribute"] = errno.ENODATA
_ERRNO["no space left in the store"] = errno.ENOSPC


def errno_of(error: _native.NativeError | StoreError) -> int:
    """The errno of a failure of a store; EIO for damage and whatever has no other."""
    text = error.cause if isinstance(error, StoreError) else str(error)
    return _ERRNO.get(text.rsplit(": ", 1)[-1], errno.EIO)


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except (StoreError, _native.NativeError) as error:
        raise mfusepy.FuseOSError(errno_of(error)) from None


class Tree(mfusepy.Operations):  # type: ignore[misc]
    """What FUSE asks of a mounted store; paths are text with surrogates for other bytes."""

    # Times are nanoseconds; one of the two may be set alone.
    use_ns = True
    flag_utime_omit_ok = True

    def __init__(self, open_store: Callable[[], Store], *, read_only: bool) -> None:
        self._open_store, self._read_only = open_store, read_only
        self._opened: Store | None = None

    @property
    def _store(self) -> Store:
        # Opened in the process that serves, which is not the one that mounts.
        self._opened = self._opened or self._open_store()
        return self._opened

    def init(self, path: str) -> None:  # noqa: ARG002
        """Opens the store."""
        assert self._store

    def destroy(self, path: str) -> None:  # noqa: ARG002
        """Makes everything durable and closes."""
        if self._opened is not None:
            self._opened.close()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:  # noqa: ARG002
        """stat(2)."""
        with _failing():
            s = self._store.stat(path)
        size = s.size if not stat_.S_ISDIR(s.mode) else BLOCK
        times = {"st_atime": s.atime_ns, "st_mtime": s.mtime_ns, "st_ctime": s.ctime_ns}
        ids = {"st_mode": s.mode, "st_nlink": s.nlink, "st_uid": s.uid, "st_gid": s.gid, "st_ino": s.ino}
        return {**ids, **times, "st_size": size, "st_blocks": s.blocks * 8}

    def readdir(self, path: str, fh: int) -> list[str]:  # noqa: ARG002
        """Names of a directory."""
        with _failing():
            return [".", "..", *self._store.listdir(path)]

    def readlink(self, path: str) -> str:
        """Text of a symbolic link."""
        with _failing():
            return self._store.readlink(path)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:  # noqa: ARG002
        """pread(2)."""
        with _failing():
            return self._store.read_at(path, offset, size)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:  # noqa: ARG002
        """pwrite(2)."""
        with _failing():
            self._store.write_at(path, offset, data)
        return len(data)

    def create(self, path: str, mode: int, fi: Any = None) -> int:  # noqa: ARG002
        """Makes a file."""
        return self._make(path, stat_.S_IFREG | mode)

    def mkdir(self, path: str, mode: int) -> int:
        """Makes a directory."""
        return self._make(path, stat_.S_IFDIR | mode)

    def mknod(self, path: str, mode: int, dev: int) -> int:
        """Makes a file, FIFO or socket."""
        if dev:
            raise mfusepy.FuseOSError(errno.EPERM)
        return self._make(path, mode)

    def _make(self, path: str, mode: int) -> int:
        uid, gid, _ = mfusepy.fuse_get_context()
        with _failing():
            self._store.make(path, mode, uid, gid)
        return 0

    def unlink(self, path: str) -> int:
        """Removes a name."""
        with _failing():
            self._store.remove(path)
        return 0

    def rmdir(self, path: str) -> int:
        """Removes an empty directory."""
        return self.unlink(path)

    def rename(self, old: str, new: str) -> int:
        """Moves a name."""
        with _failing():
            self._store.rename(old, new)
        return 0

    def link(self, target: str, source: str) -> int:
        """A further name."""
        with _failing():
            self._store.link(source, target)
        return 0

    def symlink(self, target: str, source: str) -> int:
        """A symbolic link at `target` to the text `source`."""
        uid, gid, _ = mfusepy.fuse_get_context()
        with _failing():
            self._store.symlink(target, source, uid, gid)
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:  # noqa: ARG002
        """Sets the length."""
        with _failing():
            self._store.truncate(path, length)
        return 0

    def chmod(self, path: str, mode: int) -> int:
        """Sets permission bits."""
        with _failing():
            self._store.set_mode(path, stat_.S_IMODE(mode))
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        """Sets owner and group; -1 leaves one alone."""
        keep = (1 << 32) - 1
        with _failing():
            s = self._store.stat(path)
            owner = (s.uid if uid in (-1, keep) else uid, s.gid if gid in (-1, keep) else gid)
            self._store.set_owner(path, stat_.S_IMODE(s.mode), *owner)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        """Sets the times of access and modification."""
        now = time.time_ns()
        wanted = (now if t == _NOW else None if t == _OMIT else int(t) for t in times or (now, now))
        accessed, modified = wanted
        with _failing():
            self._store.set_times(path, modified, accessed)
        return 0

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:  # noqa: ARG002
        """The value of an extended attribute."""
        with _failing():
            return self._store.xattr(path, name)

    def listxattr(self, path: str) -> list[str]:
        """Names of all extended attributes."""
        with _failing():
            return self._store.xattrs(path)

    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:  # noqa: ARG002
        """Sets an extended attribute."""
        exists = {os.XATTR_CREATE: False, os.XATTR_REPLACE: True}.get(options)
        with _failing():
            self._store.set_xattr(path, name, value, exists)
        return 0

    def removexattr(self, path: str, name: str) -> int:
        """Removes an extended attribute."""
        with _failing():
            self._store.remove_xattr(path, name)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:  # noqa: ARG002
        """Makes everything durable."""
        if not self._read_only:
            with _failing():
                self._store.sync()
        return 0

    def statfs(self, path: str) -> dict[str, int]:  # noqa: ARG002
        """Figures of the store."""
        with _failing():
            figures = self._store.figures()
        blocks = {"f_blocks": figures.blocks, "f_bfree": figures.free, "f_bavail": figures.free}
        return {**blocks, "f_bsize": BLOCK, "f_frsize": BLOCK, "f_files": figures.files, "f_namemax": 255}


def serve(
    store: Path,
    key: bytes | None,
    directory: Path,
    *,
    read_only: bool,
    foreground: bool,
    insecure_counter: Path | None = None,
) -> None:
    """Mounts and, once the directory shows the store, serves until it is unmounted."""
    # Whatever is wrong with store or key is said before anything is mounted.
    Store(store, key, read_only=True, insecure_counter=insecure_counter).close()
    tree = Tree(lambda: Store(store, key, read_only=read_only, insecure_counter=insecure_counter), read_only=read_only)
    options = {"fsname": str(store.absolute()), "subtype": "occlum", "default_permissions": True}
    # Hard links are different files to FUSE: attributes that it keeps would be wrong.
    options |= {"attr_timeout": 0, "entry_timeout": 0}
    if read_only:
        options["ro"] = True
    mfusepy.FUSE(tree, str(directory), foreground=foreground, **options)
