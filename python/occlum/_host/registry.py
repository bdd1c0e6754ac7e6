"""Which enclaves of this user run, and where: a private directory with a directory for each.

`<runtime>/<name>` holds `sock` (the owner's socket), `lock` (locked for as long as the owner lives; its text says who
that is) and `log`. Invariants: nothing here trusts a path that another user could have made; an enclave is alive
exactly while its lock is held, so what a crash leaves is recognised and removed by the next start of that name.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from occlum.errors import EnclaveError, OptionError

SOCKET = "sock"
LOCK = "lock"
LOG = "log"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# struct flock: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi4x")


def _whole_file(kind: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0)


def check_name(name: str) -> str:
    """The name itself, if it can be one."""
    if not _NAME.fullmatch(name):
        raise OptionError(f"{name!r} cannot name an enclave", "use up to 64 letters, digits, '.', '_' and '-'", "OC104")
    return name


def runtime_directory() -> Path:
    """The directory of this user's enclaves: made if it is not there, refused if others could write it."""
    given = os.environ.get("OCCLUM_RUNTIME_DIR")
    run = os.environ.get("XDG_RUNTIME_DIR")
    directory = Path(given) if given else Path(run) / "occlum" if run else Path(f"/tmp/occlum-{os.getuid()}")
    directory = directory.absolute()
    try:
        directory.mkdir(mode=0o700, parents=bool(given))
    except FileExistsError:
        pass
    except OSError as error:
        raise EnclaveError(f"{directory} cannot be made: {error.strerror}", "set OCCLUM_RUNTIME_DIR", "OC201") from None
    _check_private(directory)
    return directory


def _check_private(directory: Path) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise EnclaveError(f"{directory} is not a directory", "remove it, or set OCCLUM_RUNTIME_DIR", "OC201")
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        fix = f"`chmod 700 {directory}` if it is yours, or set OCCLUM_RUNTIME_DIR"
        raise EnclaveError(f"{directory} is open to other users", fix, "OC201")


@dataclass(frozen=True)
class Entry:
    """An enclave's directory."""

    name: str
    path: Path

    def is_alive(self) -> bool:
        """Is the lock held?"""
        try:
            descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            # A question only: taking the lock for a moment would keep a starter from it.
            answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
        finally:
            os.close(descriptor)
        return int(_FLOCK.unpack(answer)[0]) != fcntl.F_UNLCK

    def facts(self) -> dict[str, Any]:
        """What the owner wrote about itself; empty if that cannot be read."""
        try:
            facts = json.loads((self.path / LOCK).read_text())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def log_tail(self, size: int = 4096) -> str:
        """The end of the log."""
        try:
            with open(self.path / LOG, "rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - size))
                return log.read().decode(errors="replace").strip()
        except OSError:
            return ""

    def remove(self) -> None:
        """Removes the directory."""
        # Imports much, and is rarely needed.
        import shutil

        shutil.rmtree(self.path, ignore_errors=True)

    def connect(self) -> socket.socket:
        """A connection to the owner. FileNotFoundError or ConnectionRefusedError if there is none."""
        # By way of the directory's descriptor: its path may be longer than a socket's may be.
        directory = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                client.connect(f"/proc/self/fd/{directory}/{SOCKET}")
            except BaseException:
                client.close()
                raise
        finally:
            os.close(directory)
        return client


def entry(name: str) -> Entry:
    """The entry of that name, whether or not it exists."""
    return Entry(check_name(name), runtime_directory() / name)


def entries() -> Iterator[Entry]:
    """All entries, by name."""
    for path in sorted(runtime_directory().iterdir()):
        if _NAME.fullmatch(path.name) and path.is_dir():
            yield Entry(path.name, path)


class Claim:
    """An owner's hold of a name: the directory, and the lock in it. One at a time."""

    def __init__(self, name: str, facts: dict[str, Any]) -> None:
        self.entry = entry(name)
        # A starter that finds its directory removed by another tries again.
        for _ in range(100):
            self.entry.path.mkdir(mode=0o700, exist_ok=True)
            try:
                self._lock = os.open(self.entry.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue
            if self._take():
                break
            os.close(self._lock)
        else:
            raise EnclaveError(f"{self.entry.path} does not stay", "look who removes it", "OC201")
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps(facts).encode(), 0)

    def _take(self) -> bool:
        """Locks; false if the file is not the directory's any more."""
        try:
            fcntl.fcntl(self._lock, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_WRLCK))
        except OSError:
            os.close(self._lock)
            fix = f"stop it with `occlum stop --name {self.entry.name}`, or use another name"
            raise EnclaveError(f"an enclave named {self.entry.name} is running", fix, "OC303") from None
        try:
            return os.fstat(self._lock).st_ino == (self.entry.path / LOCK).stat().st_ino
        except FileNotFoundError:
            return False

    def listen(self) -> socket.socket:
        """The socket, in the place of what a crash may have left."""
        (self.entry.path / SOCKET).unlink(missing_ok=True)
        directory = os.open(self.entry.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            server.bind(f"/proc/self/fd/{directory}/{SOCKET}")
        finally:
            os.close(directory)
        server.listen(1024)
        return server

    def release(self) -> None:
        """Removes everything, then lets go."""
        self.entry.remove()
        os.close(self._lock)
