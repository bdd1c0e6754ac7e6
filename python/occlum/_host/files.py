"""Questions about files of this machine that are asked before a program starts, so that none runs in vain."""

from __future__ import annotations

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
