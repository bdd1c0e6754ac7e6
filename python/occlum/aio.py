"""asyncio's functions for programs in an enclave: `create_subprocess_exec`, `create_subprocess_shell`, `run`.

Names and meaning are asyncio's. A program's start is asked for on a thread of the loop's executor, for it takes a
millisecond; from then on the loop itself watches its pipes and its end. Neighbours: `process` (Popen).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from occlum.errors import CalledProcessError, EnclaveLost, TimeoutExpired
from occlum.process import CompletedProcess, Popen

if TYPE_CHECKING:
    from occlum.enclave import Enclave

__all__ = ["DEVNULL", "PIPE", "STDOUT", "Process", "create_subprocess_exec", "create_subprocess_shell", "run"]

PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL
_LIMIT = 1 << 16


class Process:
    """A program in an enclave: see `asyncio.subprocess.Process`."""

    def __init__(self, popen: Popen) -> None:
        self._popen = popen
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        # An enclave that is lost while nobody waits is not worth a message when this object goes.
        self._ended.add_done_callback(lambda future: future.exception())
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None

    async def _connect(self, limit: int) -> None:
        """Gives the pipes to the loop."""
        if (pipe := self._popen.stdin) is not None:
            protocol = asyncio.streams.FlowControlMixin(loop=self._loop)
            transport, _ = await self._loop.connect_write_pipe(lambda: protocol, pipe)
            self.stdin = asyncio.StreamWriter(transport, protocol, None, self._loop)
        self.stdout = await self._reader(self._popen.stdout, limit)
        self.stderr = await self._reader(self._popen.stderr, limit)
        self._look()

    async def _reader(self, pipe: Any, limit: int) -> asyncio.StreamReader | None:
        if pipe is None:
            return None
        reader = asyncio.StreamReader(limit, self._loop)
        await self._loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader, loop=self._loop), pipe)
        return reader

    def _look(self) -> None:
        """Has it ended? If not, the loop tells when there is news."""
        descriptor = -1
        with contextlib.suppress(ValueError):
            descriptor = self._popen.fileno()
        if descriptor >= 0:
            self._loop.remove_reader(descriptor)
        try:
            status = self._popen.poll()
        except EnclaveLost as error:
            if not self._ended.done():
                self._ended.set_exception(error)
            return
        if status is None:
            self._loop.add_reader(descriptor, self._look)
        elif not self._ended.done():
            self._ended.set_result(status)

    @property
    def pid(self) -> int:
        """Its process id inside."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Its return code; `None` while it runs."""
        return self._popen.returncode

    async def wait(self) -> int:
        """Waits for its end; the return code."""
        return await asyncio.shield(self._ended)

    def send_signal(self, signal: int) -> None:
        """Sends a signal."""
        if self._popen.returncode is not None:
            raise ProcessLookupError
        self._popen.send_signal(signal)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    async def communicate(self, input: bytes | None = None) -> tuple[bytes | None, bytes | None]:
        """Writes the input, reads all output, waits for the end."""
        stdout, stderr, _ = await asyncio.gather(self._all(self.stdout), self._all(self.stderr), self._feed(input))
        await self.wait()
        return stdout, stderr

    @staticmethod
    async def _all(reader: asyncio.StreamReader | None) -> bytes | None:
        return None if reader is None else await reader.read()

    async def _feed(self, input: bytes | None) -> None:
        if self.stdin is None:
            return
        # A program need not read it all.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if input:
                self.stdin.write(input)
                await self.stdin.drain()
        self.stdin.close()


async def _create(args: Any, enclave: Enclave | None, limit: int, **kwargs: Any) -> Process:
    for name in ("text", "universal_newlines", "encoding", "errors"):
        if kwargs.get(name):
            raise ValueError(f"{name} is not supported: streams of asyncio carry bytes")
    if kwargs.pop("bufsize", 0) != 0:
        raise ValueError("bufsize must be 0")
    kind: type[Popen] = Popen if enclave is None else enclave.Popen  # type: ignore[assignment]
    loop = asyncio.get_running_loop()
    popen = await loop.run_in_executor(None, lambda: kind(args, bufsize=0, **kwargs))
    process = Process(popen)
    try:
        await process._connect(limit)
    except BaseException:
        popen.kill()
        raise
    return process


async def create_subprocess_exec(
    program: Any, *args: Any, enclave: Enclave | None = None, limit: int = _LIMIT, **kwargs: Any
) -> Process:
    """Starts a program in `enclave` (the default one): see `asyncio.create_subprocess_exec`."""
    return await _create([program, *args], enclave, limit, **kwargs)


async def create_subprocess_shell(
    cmd: str | bytes, *, enclave: Enclave | None = None, limit: int = _LIMIT, **kwargs: Any
) -> Process:
    """Runs a command in the guest's /bin/sh: see `asyncio.create_subprocess_shell`."""
    return await _create(cmd, enclave, limit, shell=True, **kwargs)


async def run(
    args: Sequence[Any],
    *,
    input: bytes | None = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    enclave: Enclave | None = None,
    **kwargs: Any,
) -> CompletedProcess:
    """Runs a program to its end, as `occlum.run` does; output is bytes."""
    if input is not None:
        kwargs["stdin"] = PIPE
    if capture_output:
        kwargs["stdout"] = kwargs["stderr"] = PIPE
    process = await create_subprocess_exec(*args, enclave=enclave, **kwargs)
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(input), timeout)
    except TimeoutError:
        raise TimeoutExpired(args, timeout or 0.0) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    done = CompletedProcess(args, process.returncode, stdout, stderr)
    if check and process.returncode:
        raise CalledProcessError(process.returncode, args, stdout, stderr)
    return done
