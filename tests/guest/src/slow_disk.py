"""slow_disk.py DIRECTORY: a FUSE file system whose reads and syncs take their time.

Of `slow`, all can be read; of `broken`, no more than the first half. Other files can be made.
"""

from __future__ import annotations

import errno
import stat
import sys
import time
from typing import Any

import mfusepy  # type: ignore[import-untyped]

SIZE = 8 << 20
DELAY = 0.3
BROKEN_SIZE = 64 << 10
CONTENT = bytes(ord("a") + i % 26 for i in range(26 * 1024))


class Disk(mfusepy.Operations):  # type: ignore[misc]
    """Byte `i` of both is the letter `i % 26`."""

    use_ns = True

    def __init__(self) -> None:
        self.made: dict[str, bytes] = {}

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path == "/slow":
            return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": SIZE}
        if path == "/broken":
            return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": BROKEN_SIZE}
        if path in self.made:
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": len(self.made[path])}
        raise mfusepy.FuseOSError(errno.ENOENT)

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", "slow", "broken", *(name[1:] for name in self.made)]

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        if path in self.made:
            return self.made[path][offset : offset + size]
        end = SIZE if path == "/slow" else BROKEN_SIZE // 2
        if path == "/slow":
            time.sleep(DELAY)
        elif offset + size > end:
            raise mfusepy.FuseOSError(errno.EIO)
        start, size = offset % 26, min(size, end - offset)
        return (CONTENT * (size // len(CONTENT) + 2))[start : start + size]

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self.made[path] = b""
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self.made[path] = self.made[path][:length].ljust(length, b"\0")
        return 0

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        old = self.made[path].ljust(offset, b"\0")
        self.made[path] = old[:offset] + data + old[offset + len(data) :]
        return len(data)

    def chmod(self, path: str, mode: int) -> int:
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        time.sleep(DELAY)
        return 0


if __name__ == "__main__":
    mfusepy.FUSE(Disk(), sys.argv[1], foreground=True, nothreads=True)
