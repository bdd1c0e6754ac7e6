"""Files of this machine that are written for a program: can they be, asked before it starts, so that none runs in vain;
and no others than those, whatever it does meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path


def check_can_be_written(path: Path) -> None:
    """OSError, without a name, if the file may not be written, or none can be made there. Makes nothing."""
    is_there = os.path.lexists(path)
    where = path if is_there else path.parent
    try:
        mode = where.stat().st_mode
    except OSError as error:
        raise OSError(error.errno, error.strerror) from None
    if not is_there and not stat.S_ISDIR(mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(where, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def is_full(error: OSError) -> bool:
    """Is it for want of room?"""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class Place:
    """Where files are to be written while programs run that may change names there, or in front of it.

    The directory is held open, and no link is followed in it: what is written is there, and nowhere else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open(self, name: str, append: bool = False) -> int:
        """A descriptor for writing to the regular file of that name, which is made or emptied. OSError otherwise."""
        # A FIFO would have to be waited for.
        how = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_APPEND if append else 0)
        descriptor = os.open(name, how, 0o644, dir_fd=self._descriptor)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "no regular file", str(self.folder / name))
            if not append:
                os.ftruncate(descriptor, 0)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def remove(self, name: str) -> None:
        """Takes the name away, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def close(self) -> None:
        """Nothing is written there any more."""
        os.close(self._descriptor)
