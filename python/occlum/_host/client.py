"""The other end of an owner's socket, and how owners are started. What the SDK and the commands share.

Neighbours: `protocol`, `registry`, `server` (whom this talks to). Invariants: a connection asks for one thing; nothing
here installs a signal handler, starts a thread or leaves a child; every wait ends for Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from occlum._host import registry
from occlum._host.protocol import VERSION, Decoder, Message, ProtocolError, encode
from occlum.errors import EnclaveError, EnclaveLost

if TYPE_CHECKING:
    from occlum._host.launch import Given


PROCESS, FOREGROUND, SESSION = range(3)


# Those of this process; a fork of it closes its copies, or the owner would not hear of our end.
_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _after_fork() -> None:
    for connection in list(_connections):
        connection.close()


os.register_at_fork(after_in_child=_after_fork)


class Connection:
    """One conversation with an owner."""

    def __init__(self, entry: registry.Entry) -> None:
        self._entry = entry
        self._decoder = Decoder()
        try:
            self._socket = entry.connect()
        except OSError as error:
            if not entry.path.exists():
                fix = "`occlum status` lists what runs" if error.errno else ""
                raise EnclaveError(f"no enclave named {entry.name} is running", fix, "OC302") from None
            raise self._lost() from None
        _connections.add(self)

    def fileno(self) -> int:
        """The socket's descriptor: readable when there is news."""
        return self._socket.fileno()

    def close(self) -> None:
        """Ends the conversation, and the program that it was about."""
        self._socket.close()

    def _lost(self, cause: str = "") -> EnclaveLost:
        """Why nobody answers."""
        if not cause:
            last = self._entry.log_tail().rpartition("\n")[2]
            cause = last.removeprefix("occlum: the enclave is lost: ") or "its host process is gone"
        return EnclaveLost(f"the enclave {self._entry.name} is lost: {cause}", "start a new one")

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Sends a message, with descriptors."""
        data = memoryview(encode(message))
        try:
            if descriptors:
                sent = socket.send_fds(self._socket, [data], list(descriptors), socket.MSG_NOSIGNAL)
                data = data[sent:]
            if data:
                self._socket.sendall(data, socket.MSG_NOSIGNAL)
        except OSError:
            # It may have said why before it went.
            return

    def receive(self, timeout: float | None = None) -> Message | None:
        """The next message; `None` if none came in time. EnclaveLost, EnclaveError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (message := self._decoder.next()) is None:
            if not self._wait(deadline):
                return None
            try:
                data = self._socket.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                raise self._lost()
            self._decoder.feed(data)
        if message.get("event") == "lost":
            raise self._lost(str(message.get("message")))
        if message.get("event") == "refused":
            raise EnclaveError(str(message.get("message")), code="OC305")
        return message

    def _wait(self, deadline: float | None) -> bool:
        if deadline is None:
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        left = max(0.0, deadline - time.monotonic())
        # Rounded up: not early by part of a millisecond, and not a spin.
        return bool(poll.poll(left * 1000 + (0.999 if left else 0)))


def ask(entry: registry.Entry, message: Message, timeout: float | None = None) -> Message:
    """A question and its answer. EnclaveLost if that takes too long."""
    connection = Connection(entry)
    try:
        connection.send({"v": VERSION} | message)
        answer = connection.receive(timeout)
        if answer is None:
            raise EnclaveLost(f"the enclave {entry.name} does not answer", f"`occlum stop --name {entry.name}`")
        return answer
    finally:
        connection.close()


@dataclass
class Program:
    """A program to start, as the protocol has it. `files`: number inside -> descriptor here."""

    argv: Sequence[str]
    program: str
    env: Mapping[str, str]
    cwd: str
    files: Mapping[int, int]
    umask: int = 0o022
    ignored: int = 0
    uid: int | None = None
    gid: int | None = None
    groups: Sequence[int] = field(default_factory=tuple)
    no_terminal: bool = False
    detached: bool = False

    def message(self) -> Message:
        """The request."""
        wanted: Message = {
            "v": VERSION,
            "do": "start",
            "argv": list(self.argv),
            "program": self.program,
            "env": [f"{key}={value}" for key, value in self.env.items()],
            "cwd": self.cwd,
            "files": list(self.files),
            "umask": self.umask,
            "ignored": self.ignored,
            "groups": list(self.groups),
            "no_terminal": self.no_terminal,
            "detached": self.detached,
        }
        if self.uid is not None:
            wanted["uid"] = self.uid
        if self.gid is not None:
            wanted["gid"] = self.gid
        return wanted


class StartFailed(Exception):
    """The program could not be started."""

    def __init__(self, number: int, stage: int) -> None:
        super().__init__(number, stage)
        self.errno = number
        self.is_cwd = stage == 1


class Job:
    """A program in an enclave, from its start to its end."""

    def __init__(self, entry: registry.Entry, program: Program) -> None:
        self._connection = Connection(entry)
        self.status: int | None = None
        # Signals that no answer has come for, and events that came before such an answer.
        self._unanswered = 0
        self._kept: list[Message] = []
        try:
            try:
                self._connection.send(program.message(), list(program.files.values()))
            except ProtocolError:
                raise StartFailed(7, 0) from None
            answer = self._connection.receive()
            assert answer is not None
            if answer["event"] == "failed":
                raise StartFailed(answer["errno"], answer["stage"])
        except BaseException:
            self._connection.close()
            raise
        self.pid: int = answer["pid"]
        self.number: int = answer["job"]

    def fileno(self) -> int:
        """Readable when the program has ended, was stopped or goes on."""
        return self._connection.fileno()

    @property
    def closed(self) -> bool:
        """Has it ended, or is this a fork of the process that started it?"""
        return self.status is None and self._connection.fileno() < 0

    def signal(self, number: int, target: int = PROCESS, wait: bool = False) -> None:
        """Sends a signal; a program that has ended hears nothing.

        With `wait` it returns when the signal is there, as kill(2) does; nobody else may wait for this job meanwhile.
        """
        self._connection.send({"do": "signal", "signal": int(number), "target": target})
        self._unanswered += 1
        if not wait:
            return
        while self._unanswered and self.status is None:
            message = self._connection.receive()
            assert message is not None
            if not self._took(message):
                self._kept.append(message)

    def event(self, timeout: float | None = None) -> Message | None:
        """What happens next: `ended`, `stopped`, `continued`; `None` if nothing does in time."""
        if self._kept:
            return self._kept.pop(0)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            message = self._connection.receive(left)
            if message is None or not self._took(message):
                return message

    def _took(self, message: Message) -> bool:
        """Notes what it says; true if it only answers `signal`."""
        if message["event"] == "ended":
            self.status = int(message["status"])
            self._connection.close()
        elif message["event"] == "signalled":
            self._unanswered -= 1
            return True
        return False

    def wait(self, timeout: float | None = None) -> int | None:
        """The status in wait(2)'s encoding; `None` if it has not ended in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.status is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if self.event(left) is None:
                return None
        return self.status

    def close(self) -> None:
        """Lets go of it: it ends, unless it is detached."""
        self._connection.close()


def start_owner(
    name: str,
    options: Mapping[str, int | str],
    binds: Sequence[Mapping[str, Any]] = (),
    leased: bool = False,
    instance: str | None = None,
    given: Given | None = None,
) -> int | None:
    """Starts an enclave in an owner process of its own; returns when it takes orders.

    A leased one ends when the returned descriptor is closed, by whatever way this process ends. With `instance` it is
    the one that was built there, and `options` do not count; `given` is what it is given besides.
    """
    # What a mere client does not need.
    import subprocess

    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    lease_read, lease_write = os.pipe2(os.O_CLOEXEC) if leased else (None, None)
    settings = {
        "name": name,
        "options": dict(options),
        "binds": [dict(bind) for bind in binds],
        "instance": instance,
        # On the owner's standard input, which nobody else reads: it may hold a key.
        "given": given.to_json() if given else None,
        "ready": ready_write,
        "lease": lease_read,
    }
    passed = [fd for fd in (ready_write, lease_read) if fd is not None]
    # -P: nothing of the directory that the caller happens to be in is imported.
    command = [sys.executable, "-P", "-m", "occlum._host"]
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # What it says before it has a log is about the installation: the caller sees it.
            stderr=None,
            pass_fds=passed,
            cwd="/",
            env=os.environ | {"OCCLUM_RUNTIME_DIR": str(registry.runtime_directory())},
        )
        child.communicate(json.dumps(settings).encode())
    finally:
        for descriptor in passed:
            os.close(descriptor)
    try:
        _await_ready(ready_read)
    except BaseException:
        if lease_write is not None:
            os.close(lease_write)
        raise
    return lease_write


def _await_ready(ready: int) -> None:
    with open(ready, "rb") as answers:
        line = answers.readline()
    answer: dict[str, Any] = {"error": "the owner process did not start", "code": "OC306"}
    with contextlib.suppress(ValueError):
        answer = json.loads(line)
    if "error" in answer:
        raise EnclaveError(answer["error"], answer.get("fix", ""), answer.get("code"))
