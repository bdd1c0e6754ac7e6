"""What host/native exports; keep equal to host/native/src/lib.rs."""

from collections.abc import Sequence
from os import PathLike
from typing import Literal, final

__all__ = [
    "FLAG_NET_HOST",
    "FLAG_NET_NONE",
    "FLAG_REPORT_CHANGES",
    "FLAG_RESIDENT",
    "FLAG_STATS",
    "FLAG_STRACE",
    "FLAG_TTY0",
    "JOB_NO_TERMINAL",
    "LaunchParams",
    "NativeError",
    "Outcome",
    "SealedFs",
    "SealedStat",
    "Targets",
    "QUERY_PROCESSES",
    "QUERY_STATS",
    "Resident",
    "Verified",
    "Violation",
    "count_targets",
    "measure",
    "run",
    "syscalls",
    "verify_file",
]

FLAG_STRACE: int
FLAG_STATS: int
FLAG_REPORT_CHANGES: int
FLAG_TTY0: int
FLAG_RESIDENT: int
JOB_NO_TERMINAL: int
QUERY_PROCESSES: int
QUERY_STATS: int
FLAG_NET_NONE: int
FLAG_NET_HOST: int

class NativeError(RuntimeError): ...

@final
class LaunchParams:
    def __new__(
        cls,
        *,
        program: bytes,
        argv: Sequence[bytes],
        envp: Sequence[bytes],
        cwd: bytes,
        binds: Sequence[tuple[bytes, bytes, bytes]],
        hostname: bytes,
        uid: int,
        gid: int,
        flags: int,
        keep: bytes | None = None,
        sources: Sequence[tuple[bytes, bytes]] = ...,
    ) -> LaunchParams: ...

@final
class Outcome:
    @property
    def kind(self) -> Literal["exited", "signaled", "timed-out", "failed"]: ...
    @property
    def value(self) -> int: ...
    @property
    def message(self) -> str: ...
    @property
    def changed(self) -> list[bytes]: ...
    @property
    def stats(self) -> list[tuple[str, str]]: ...

def measure(image: bytes, config: bytes) -> bytes: ...
def run(
    image: bytes,
    config: bytes,
    params: LaunchParams,
    *,
    strace_fd: int | None = None,
    timeout_s: float | None = None,
    publish: Sequence[tuple[str, int, int, bool]] = ...,
) -> Outcome: ...

@final
class Resident:
    def __new__(
        cls, image: bytes, config: bytes, params: LaunchParams, *, strace_fd: int | None = None
    ) -> Resident: ...
    def fileno(self) -> int: ...
    def start(
        self,
        *,
        job: int,
        program: bytes,
        argv: Sequence[bytes],
        envp: Sequence[bytes],
        cwd: bytes,
        uid: int,
        gid: int,
        groups: Sequence[int],
        ignored: int,
        umask: int,
        flags: int,
        files: Sequence[tuple[int, int, int, bool]],
    ) -> bool: ...
    def signal(self, job: int, target: int, signal: int) -> bool: ...
    def query(self, id: int, what: int) -> bool: ...
    def watch(self, on: bool) -> bool: ...
    def end(self) -> bool: ...
    def next_event(self) -> tuple[int, int, int, int, bytes] | None: ...
    def join(self) -> Outcome: ...

@final
class Violation:
    @property
    def offset(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def code(self) -> bytes: ...
    @property
    def disassembly(self) -> str: ...
    @property
    def check(self) -> str: ...
    @property
    def invariant(self) -> str: ...
    @property
    def reason(self) -> str: ...

@final
class Verified:
    @property
    def kind(self) -> Literal["accepted", "refused", "skipped"]: ...
    @property
    def reason(self) -> str: ...
    @property
    def fragments(self) -> int: ...
    @property
    def source_bytes(self) -> int: ...
    @property
    def code_bytes(self) -> int: ...
    @property
    def violation(self) -> Violation | None: ...

def verify_file(path: str | PathLike[str]) -> Verified: ...

@final
class Targets:
    @property
    def boundaries(self) -> int: ...
    @property
    def returns(self) -> int: ...
    @property
    def branches(self) -> int: ...
    @property
    def strict_branches(self) -> int: ...

def count_targets(path: str | PathLike[str]) -> Targets | None: ...
def syscalls() -> list[tuple[int, str, str, str]]: ...

@final
class SealedStat:
    @property
    def ino(self) -> int: ...
    @property
    def mode(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def nlink(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...

@final
class SealedFs:
    def __new__(
        cls,
        path: str | PathLike[str],
        key: bytes | None,
        *,
        format: bool = False,
        read_only: bool = False,
        insecure_marks: str | PathLike[str] | None = None,
    ) -> SealedFs: ...
    def stat(self, path: bytes) -> SealedStat: ...
    def listdir(self, path: bytes) -> list[bytes]: ...
    def read(self, path: bytes, offset: int, length: int) -> bytes: ...
    def readlink(self, path: bytes) -> bytes: ...
    def create(self, path: bytes, mode: int, uid: int, gid: int) -> None: ...
    def symlink(self, path: bytes, target: bytes) -> None: ...
    def write(self, path: bytes, offset: int, data: bytes) -> None: ...
    def truncate(self, path: bytes, length: int) -> None: ...
    def set_attr(self, path: bytes, mode: int, mtime_ns: int) -> None: ...
    def remove(self, path: bytes) -> None: ...
    def sync(self) -> None: ...
    def grow(self, blocks: int) -> None: ...
    def rotate(self, key: bytes) -> None: ...
    def check(self) -> tuple[list[tuple[bytes, str]], int, int]: ...
    def figures(self) -> tuple[int, int, int, int, bytes]: ...
    def close(self, commit: bool) -> None: ...
