"""The owner process's control plane: one enclave, its socket, its clients, its jobs.

Neighbours: `protocol` (the messages), `registry` (the place), `occlum._native.Resident` (the data plane). One thread,
one loop. Each connection asks for one thing: a program (`start`), an answer (`query`), what happens (`watch`), the end
(`stop`). Invariants: a client can harm nobody but itself: nothing here blocks on a client, and whoever sends rubbish,
does not read, or goes away is dropped; a descriptor that arrived has one owner, who closes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from occlum import _native
from occlum._host.protocol import MAX_DESCRIPTORS, VERSION, Decoder, Message, ProtocolError, encode

STARTED, FAILED, ENDED, STOPPED, CONTINUED, PROCESS_STARTED, PROCESS_ENDED, REPLY, SIGNALLED = range(1, 10)
PROCESS, FOREGROUND, SESSION, PID = range(4)
QUERIES = {"processes": _native.QUERY_PROCESSES, "stats": _native.QUERY_STATS}
MOST_UNREAD = 4 << 20
MOST_CLIENTS = 4096
# How long a dying enclave may take before the owner leaves without it.
LAST_SECONDS = 5.0


@dataclass(eq=False)
class Client:
    """A connection."""

    socket: socket.socket
    decoder: Decoder = field(default_factory=Decoder)
    descriptors: list[int] = field(default_factory=list)
    unsent: bytearray = field(default_factory=bytearray)
    greeted: bool = False
    job: Job | None = None
    watches: bool = False
    query: int | None = None
    closing: bool = False


@dataclass(eq=False)
class Job:
    """A program that a client asked for."""

    number: int
    argv: list[str]
    started: float
    client: Client | None
    # What becomes of it when its client goes: nothing, or its end.
    detached: bool
    pid: int = 0


class Refused(Exception):
    """A request that makes no sense; the client is told, and dropped."""


def _checked(message: Message, key: str, kind: type, default: Any = None) -> Any:
    value = message.get(key, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Refused(f"{key} is not {kind.__name__}")
    return value


def _texts(message: Message, key: str) -> list[bytes]:
    values = _checked(message, key, list)
    if not all(isinstance(value, str) for value in values):
        raise Refused(f"{key} is not a list of text")
    return [_bytes(value) for value in values]


def _bytes(text: str) -> bytes:
    try:
        found = os.fsencode(text)
    except UnicodeEncodeError:
        raise Refused("text that is no file name") from None
    if b"\0" in found:
        raise Refused("text with a null character")
    return found


def _numbers(message: Message, key: str, limit: int) -> list[int]:
    values = _checked(message, key, list, [])
    if not all(type(value) is int and 0 <= value < 1 << 32 for value in values) or len(values) > limit:
        raise Refused(f"{key} is not a list of at most {limit} numbers")
    return list(values)


class Owner:
    """Serves one enclave until it ends."""

    def __init__(self, enclave: _native.Resident, listener: socket.socket, lease: int | None) -> None:
        self.enclave = enclave
        self.listener = listener
        self.lease = lease
        self.jobs: dict[int, Job] = {}
        self.clients: set[Client] = set()
        self.queries: dict[int, Client] = {}
        self.stopping: list[Client] = []
        self.lost = ""
        self._started = time.time()
        self._next = 1
        self._running = True
        # After the first time everybody is asked to end, after the second made to, after the third not waited for.
        self._deadlines: list[float] = []
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """The loop; returns when the enclave is gone."""
        listener = self.listener
        listener.setblocking(False)
        self._on(listener, lambda _: self._accept())
        self._on(self.enclave.fileno(), lambda _: self._events())
        if self.lease is not None:
            self._on(self.lease, lambda _: self._lease_over())
        with self._signals():
            while self._running:
                for key, mask in self._selector.select(self._timeout()):
                    key.data(mask)
                self._past_deadline()
        for client in list(self.clients):
            self._drop(client)
        self._selector.close()

    def _on(self, what: Any, call: Callable[[int], None], mask: int = selectors.EVENT_READ) -> None:
        self._selector.register(what, mask, call)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and its like stop the enclave gracefully."""
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

        def stop(_: int) -> None:
            os.read(read, 64)
            self.stop(LAST_SECONDS)

        self._on(read, stop)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            os.close(read)
            os.close(write)

    # The end.

    def stop(self, grace: float) -> None:
        """Asks every job to end, and sees to it."""
        if self._deadlines:
            return
        now = time.monotonic()
        self._deadlines = [now + grace, now + grace + LAST_SECONDS]
        for job in self.jobs.values():
            self.enclave.signal(job.number, SESSION, signal.SIGTERM)
            self.enclave.signal(job.number, SESSION, signal.SIGCONT)
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._deadlines and not self.jobs:
            self.enclave.end()

    def _timeout(self) -> float | None:
        return max(0.0, self._deadlines[0] - time.monotonic()) if self._deadlines else None

    def _past_deadline(self) -> None:
        if not self._deadlines or time.monotonic() < self._deadlines[0]:
            return
        self._deadlines.pop(0)
        if self._deadlines:
            # Ending the enclave ends what runs in it, whatever it does.
            self.enclave.end()
        else:
            self.lost = "it did not end when told to"
            self._running = False

    def _lease_over(self) -> None:
        """Whoever this enclave was for is gone."""
        assert self.lease is not None
        self._selector.unregister(self.lease)
        self.stop(0.0)

    def _enclave_ended(self) -> None:
        self._running = False
        try:
            outcome = self.enclave.join()
            if outcome.kind != "exited" or outcome.value != 0:
                self.lost = outcome.message.strip() or "it failed without a word"
        except _native.NativeError as error:
            self.lost = str(error)
        last: Message = {"event": "lost", "message": self.lost} if self.lost else {"event": "over"}
        for client in list(self.clients):
            if self.lost or client.job is None:
                self._send(client, last)

    # Clients.

    def _accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                # Rather than spin: somebody has to go first.
                time.sleep(0.01)
            return
        peer = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if peer[1] != os.getuid() or len(self.clients) >= MOST_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        client = Client(connection)
        self.clients.add(client)
        self._on(connection, lambda mask: self._ready(client, mask))
        self._ready(client, selectors.EVENT_READ)

    def _ready(self, client: Client, mask: int) -> None:
        if mask & selectors.EVENT_WRITE and client in self.clients:
            self._flush(client)
        if mask & selectors.EVENT_READ and client in self.clients:
            self._read(client)

    def _read(self, client: Client) -> None:
        try:
            data, descriptors, flags, _ = socket.recv_fds(
                client.socket, 1 << 18, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        client.descriptors += descriptors
        if not data:
            self._drop(client)
            return
        try:
            if flags & socket.MSG_CTRUNC or len(client.descriptors) > MAX_DESCRIPTORS:
                raise Refused("not all descriptors arrived: there are too many")
            client.decoder.feed(data)
            while client in self.clients and (message := client.decoder.next()) is not None:
                self._message(client, message)
        except (Refused, ProtocolError) as error:
            self._send(client, {"event": "refused", "message": str(error)})
            self._close_soon(client)

    def _close_soon(self, client: Client) -> None:
        client.closing = True
        if client in self.clients and not client.unsent:
            self._drop(client)

    def _send(self, client: Client, message: Message) -> None:
        if client not in self.clients:
            return
        client.unsent += encode(message)
        self._flush(client)

    def _flush(self, client: Client) -> None:
        try:
            sent = client.socket.send(client.unsent, socket.MSG_NOSIGNAL)
            del client.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        if len(client.unsent) > MOST_UNREAD or (client.closing and not client.unsent):
            self._drop(client)
            return
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
        if self._selector.get_key(client.socket).events != mask:
            self._selector.modify(client.socket, mask, lambda ready: self._ready(client, ready))

    def _drop(self, client: Client) -> None:
        """The connection is over: its job ends unless it is detached."""
        if client not in self.clients:
            return
        self.clients.discard(client)
        self._selector.unregister(client.socket)
        client.socket.close()
        for descriptor in client.descriptors:
            os.close(descriptor)
        client.descriptors.clear()
        if client.query is not None:
            self.queries.pop(client.query, None)
        if client in self.stopping:
            self.stopping.remove(client)
        if client.watches and not any(other.watches for other in self.clients):
            self.enclave.watch(False)
        if (job := client.job) is not None:
            job.client = None
            if job.number in self.jobs and not job.detached:
                self.enclave.signal(job.number, SESSION, signal.SIGKILL)

    def _message(self, client: Client, message: Message) -> None:
        if not client.greeted and message.get("v") != VERSION:
            raise Refused(f"this owner speaks version {VERSION} of the protocol; the client, {message.get('v')!r}")
        client.greeted = True
        what = _checked(message, "do", str)
        if client.job is not None and what == "signal":
            self._signal(client.job, message)
            return
        if client.job is not None or client.watches or client.query is not None:
            raise Refused("a connection asks for one thing")
        requests = {
            "start": self._start,
            "signal": self._signal_by_pid,
            "query": self._query,
            "watch": self._watch,
            "stop": self._stop,
            "status": self._status,
        }
        if what not in requests:
            raise Refused(f"there is nothing called {what!r} to do")
        requests[what](client, message)

    # What can be asked for.

    def _start(self, client: Client, message: Message) -> None:
        if self._deadlines:
            raise Refused("the enclave is stopping")
        argv, env = _texts(message, "argv"), _texts(message, "env")
        program, cwd = _bytes(_checked(message, "program", str)), _bytes(_checked(message, "cwd", str))
        numbers = _numbers(message, "files", MAX_DESCRIPTORS)
        groups = _numbers(message, "groups", 1024)
        ignored = _checked(message, "ignored", int, 0)
        uid, gid = _checked(message, "uid", int, os.getuid()), _checked(message, "gid", int, os.getgid())
        umask = _checked(message, "umask", int, 0o022)
        if not all(0 <= value < 1 << 32 for value in (uid, gid, umask)) or not 0 <= ignored < 1 << 64:
            raise Refused("a number is out of range")
        if (uid, gid) != (os.getuid(), os.getgid()) and os.getuid() != 0:
            raise Refused("only root may choose a user")
        if not cwd.startswith(b"/") or len(numbers) != len(client.descriptors) or len(set(numbers)) != len(numbers):
            raise Refused("the working directory or the list of descriptors makes no sense")
        flags = _native.JOB_NO_TERMINAL if message.get("no_terminal") else 0
        detached = message.get("detached") is True
        job = Job(self._next, [os.fsdecode(word) for word in argv], time.time(), client, detached)
        self._next += 1
        files = [
            (number, descriptor, fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE, os.isatty(descriptor))
            for number, descriptor in zip(numbers, client.descriptors, strict=True)
        ]
        # O_PATH descriptors and the like have no access mode that means anything.
        files = [(number, descriptor, mode if mode <= 2 else 0, tty) for number, descriptor, mode, tty in files]
        ok = self.enclave.start(
            job=job.number,
            program=program,
            argv=argv,
            envp=env,
            cwd=cwd,
            uid=uid,
            gid=gid,
            groups=groups,
            ignored=ignored,
            umask=umask,
            flags=flags,
            files=files,
        )
        if not ok:
            raise Refused("the enclave has ended")
        client.descriptors.clear()
        client.job = job
        self.jobs[job.number] = job

    def _signal(self, job: Job, message: Message) -> None:
        number, target = _checked(message, "signal", int), _checked(message, "target", int, PROCESS)
        if not 1 <= number <= 64 or target not in (PROCESS, FOREGROUND, SESSION):
            raise Refused("there is no such signal or target")
        if job.number in self.jobs:
            self.enclave.signal(job.number, target, number)

    def _signal_by_pid(self, client: Client, message: Message) -> None:
        pid, number = _checked(message, "pid", int), _checked(message, "signal", int)
        if not 1 <= number <= 64 or not 1 < pid < 1 << 31:
            raise Refused("there is no such signal or process")
        self.enclave.signal(pid, PID, number)
        self._send(client, {"event": "done"})
        self._close_soon(client)

    def _query(self, client: Client, message: Message) -> None:
        what = _checked(message, "what", str)
        if what not in QUERIES:
            raise Refused(f"there is no query {what!r}")
        client.query = self._next
        self.queries[client.query] = client
        self._next += 1
        self.enclave.query(client.query, QUERIES[what])

    def _watch(self, client: Client, message: Message) -> None:  # noqa: ARG002
        client.watches = True
        self.enclave.watch(True)
        self._send(client, {"event": "watching"})

    def _stop(self, client: Client, message: Message) -> None:
        grace = message.get("grace", 10.0)
        if not isinstance(grace, int | float) or not 0 <= grace <= 3600:
            raise Refused("grace is not a number of seconds")
        self.stopping.append(client)
        self.stop(float(grace))

    def _status(self, client: Client, message: Message) -> None:  # noqa: ARG002
        jobs = [
            {"job": job.number, "pid": job.pid, "argv": job.argv, "started": job.started, "detached": job.detached}
            for job in self.jobs.values()
        ]
        answer = {"event": "status", "pid": os.getpid(), "started": self._started, "jobs": jobs}
        self._send(client, answer | {"stopping": bool(self._deadlines)})
        self._close_soon(client)

    # What the enclave tells.

    def _events(self) -> None:
        # Not for ever: clients have their turn, too.
        for _ in range(256):
            event = self.enclave.next_event()
            if event is None:
                return
            kind, first, second, third, data = event
            if kind == 0:
                self._enclave_ended()
                return
            if kind in (PROCESS_STARTED, PROCESS_ENDED):
                self._process_event(kind, first, second, data)
            elif kind == REPLY:
                self._reply(first, data)
            elif (job := self.jobs.get(first)) is not None:
                self._job_event(job, kind, second, third)

    def _job_event(self, job: Job, kind: int, second: int, third: int) -> None:
        messages: dict[int, Message] = {
            STARTED: {"event": "started", "pid": second, "job": job.number},
            FAILED: {"event": "failed", "errno": second, "stage": third},
            ENDED: {"event": "ended", "status": second},
            STOPPED: {"event": "stopped", "signal": second},
            CONTINUED: {"event": "continued"},
            SIGNALLED: {"event": "signalled"},
        }
        if kind == STARTED:
            job.pid = second
            # Nobody could end it before it was there.
            if job.client is None and not job.detached:
                self.enclave.signal(job.number, SESSION, signal.SIGKILL)
        if kind in (FAILED, ENDED):
            del self.jobs[job.number]
        if job.client is not None and kind in messages:
            self._send(job.client, messages[kind])
            if kind in (FAILED, ENDED):
                self._close_soon(job.client)
        self._end_if_idle()

    def _reply(self, number: int, data: bytes) -> None:
        client = self.queries.pop(number, None)
        if client is not None:
            self._send(client, {"event": "reply", "text": data.decode(errors="replace")})
            self._close_soon(client)

    def _process_event(self, kind: int, pid: int, value: int, data: bytes) -> None:
        now = time.time()
        message: Message = {"event": "process-ended", "pid": pid, "status": value, "time": now}
        if kind == PROCESS_STARTED:
            program = os.fsdecode(data)
            message = {"event": "process-started", "pid": pid, "parent": value, "program": program, "time": now}
        for client in [client for client in self.clients if client.watches]:
            self._send(client, message)
