"""`EnclaveExecutor`: a `concurrent.futures.Executor` whose workers are Python processes inside an enclave.

Functions and arguments go in, results and exceptions come out, by cloudpickle. The code that runs is chosen by the
host, which sends it: that is convenient, and protects nothing from the host (see docs/sdk.md). Results are unpickled
here, so the enclave's programs are trusted by this process as any library is.

Neighbours: `enclave` (where workers run), `_host.worker` (what they run). Invariants: one thread, which all workers'
pipes are read by; a task is in `_queue`, or at a worker, or done; a worker that dies takes one task with it at most.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import importlib.util
import os
import pickle
import selectors
import struct
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from occlum.enclave import default_enclave
from occlum.errors import EnclaveError, OptionError
from occlum.process import Popen

if TYPE_CHECKING:
    from occlum.enclave import Enclave

__all__ = ["EnclaveExecutor", "RemoteTraceback", "WorkerDied"]

P = ParamSpec("P")
T = TypeVar("T")

# How long a worker whose pipes are closed may take to end.
_LAST_SECONDS = 1.0
_HEAD = struct.Struct("<Q")
_executors: weakref.WeakSet[EnclaveExecutor] = weakref.WeakSet()


class WorkerDied(concurrent.futures.BrokenExecutor):
    """The process that ran the task ended before the task did. The executor goes on with another."""


class RemoteTraceback(Exception):
    """The traceback inside the enclave, as the cause of the exception that came out."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


@dataclass(eq=False)
class _Task:
    future: concurrent.futures.Future[Any]
    data: bytes


@dataclass(eq=False)
class _Worker:
    process: Popen
    answers: bytearray = field(default_factory=bytearray)
    task: _Task | None = None
    # What is not written yet.
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    greeted: bool = False

    ended: bool = False

    def __post_init__(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        # Where its tasks go, and where its answers come from.
        self.tasks, self.out = self.process.stdin.fileno(), self.process.stdout.fileno()

    def next_answer(self) -> bytes | None:
        """A whole frame, if one is there."""
        if len(self.answers) < _HEAD.size:
            return None
        end = _HEAD.size + _HEAD.unpack_from(self.answers)[0]
        if len(self.answers) < end:
            return None
        data = bytes(self.answers[_HEAD.size : end])
        del self.answers[:end]
        return data


def _frame(data: bytes) -> bytes:
    return _HEAD.pack(len(data)) + data


def _pickle(value: object) -> bytes:
    try:
        import cloudpickle
    except ImportError:
        raise EnclaveError("EnclaveExecutor needs cloudpickle", "pip install 'occlum[executor]'", "OC203") from None
    return bytes(cloudpickle.dumps(value))


class EnclaveExecutor(concurrent.futures.Executor):
    """Runs calls in Python processes inside an enclave."""

    def __init__(
        self,
        max_workers: int = 2,
        *,
        enclave: Enclave | None = None,
        python: str | None = None,
        fork_per_task: bool = False,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        """Workers are started when tasks need them, and kept.

        Args:
            max_workers: most workers at once.
            enclave: where they run; the default enclave if it is not given.
            python: the Python that they run, a path inside; this interpreter's if it is not given.
            fork_per_task: each task runs in a fork of its worker: nothing of it is left for the next.
            initializer: called once in each worker, with `initargs`.
            initargs: see `initializer`.
        """
        if max_workers < 1:
            raise OptionError(f"{max_workers} is no number of workers", "give at least 1")
        prefixes = (sys.prefix, sys.base_prefix)
        settings = {
            "path": sys.path,
            "prefixes": prefixes,
            "fork": fork_per_task,
            "initializer": _pickle((initializer, initargs)),
        }
        self._settings = _frame(pickle.dumps(settings))
        self._most = max_workers
        self._enclave = enclave
        self._python = python or sys.executable
        self._lock = threading.Lock()
        self._queue: deque[_Task] = deque()
        self._workers: dict[int, _Worker] = {}
        self._closing = False
        # Why no worker can work, once that is known.
        self._broken: Exception | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        _executors.add(self)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
        """Queues a call: see `concurrent.futures.Executor.submit`."""
        task = _Task(concurrent.futures.Future(), _pickle((fn, args, kwargs)))
        with self._lock:
            if self._broken is not None:
                raise self._broken
            if self._closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._queue.append(task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="EnclaveExecutor", daemon=True)
                self._thread.start()
        self._wake()
        return task.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls; ends the workers when those that were taken are done."""
        with self._lock:
            self._closing = True
            cancelled = list(self._queue) if cancel_futures else []
            if cancel_futures:
                self._queue.clear()
            thread = self._thread
        for task in cancelled:
            task.future.cancel()
        self._wake()
        if thread is not None and wait:
            thread.join()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"x")
        except (BlockingIOError, OSError):
            # Full: it is awake. Closed: it is gone.
            return

    # On the thread from here on.

    def _serve(self) -> None:
        try:
            while self._assign():
                for key, mask in self._selector.select():
                    if key.fd == self._wake_read:
                        os.read(self._wake_read, 4096)
                    else:
                        self._ready(key.data, mask)
        finally:
            for worker in list(self._workers.values()):
                self._end(worker)
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _assign(self) -> bool:
        """Gives queued tasks to workers; false when there is nothing left to do."""
        while (task := self._take()) is not None:
            idle = next((worker for worker in self._workers.values() if worker.task is None), None)
            if idle is None:
                idle = self._new_worker(task)
                if idle is None:
                    continue
            idle.task = task
            self._send(idle, _frame(pickle.dumps(task.data)))
        with self._lock:
            busy = any(worker.task is not None for worker in self._workers.values())
            return not (self._closing and not busy and not self._queue)

    def _take(self) -> _Task | None:
        """The next task that somebody can do now."""
        idle = any(worker.task is None for worker in self._workers.values())
        with self._lock:
            while self._queue and (idle or len(self._workers) < self._most):
                task = self._queue.popleft()
                if task.future.set_running_or_notify_cancel():
                    return task
        return None

    def _new_worker(self, task: _Task) -> _Worker | None:
        source = importlib.util.find_spec("occlum._host.worker")
        assert source is not None
        assert source.origin is not None
        command = [self._python, "-c", Path(source.origin).read_text()]
        try:
            enclave = self._enclave or default_enclave()
            kind: type[Popen] = enclave.Popen  # type: ignore[assignment]
            worker = _Worker(kind(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0))
        except FileNotFoundError:
            fix = "name one that does with python=..."
            self._break(task, EnclaveError(f"there is no {self._python} inside the enclave", fix, "OC501"))
            return None
        except Exception as error:
            task.future.set_exception(error)
            return None
        os.set_blocking(worker.tasks, False)
        self._workers[worker.out] = worker
        self._selector.register(worker.out, selectors.EVENT_READ, worker)
        self._send(worker, self._settings)
        return worker

    def _send(self, worker: _Worker, data: bytes) -> None:
        left = bytes(worker.unsent) + data
        if not worker.unsent:
            self._selector.register(worker.tasks, selectors.EVENT_WRITE, worker)
        worker.unsent = memoryview(left)

    def _ready(self, worker: _Worker, mask: int) -> None:
        if worker.ended:
            return
        if mask & selectors.EVENT_WRITE:
            try:
                worker.unsent = worker.unsent[os.write(worker.tasks, worker.unsent) :]
            except BlockingIOError:
                return
            except OSError:
                worker.unsent = memoryview(b"")
            if not worker.unsent:
                self._selector.unregister(worker.tasks)
        if mask & selectors.EVENT_READ:
            data = os.read(worker.out, 1 << 20)
            worker.answers += data
            while (answer := worker.next_answer()) is not None:
                self._answer(worker, answer)
            if not data and not worker.ended:
                self._died(worker)

    def _answer(self, worker: _Worker, data: bytes) -> None:
        if not worker.greeted:
            worker.greeted = True
            self._check_python(worker, pickle.loads(data))
            return
        task, worker.task = worker.task, None
        if task is None:
            return
        try:
            ok, value, text = (*pickle.loads(data), "")[:3]
        except Exception as error:
            task.future.set_exception(error)
            return
        if ok:
            task.future.set_result(value)
        elif ok is None:
            task.future.set_exception(WorkerDied(f"the task's process ended with {value}"))
        else:
            value.__cause__ = RemoteTraceback(text)
            task.future.set_exception(value)

    def _check_python(self, worker: _Worker, found: tuple[tuple[int, int], str, str]) -> None:
        import cloudpickle

        own = (tuple(sys.version_info[:2]), sys.implementation.name)
        version, implementation, pickler = found
        if (version, implementation) != own:
            text = f"the enclave's Python is {implementation} {version[0]}.{version[1]}, this one"
            cause = f"{text} {own[1]} {own[0][0]}.{own[0][1]}: they do not understand each other's pickles"
            error = EnclaveError(cause, "name a matching one with python=...", "OC502")
        elif not pickler:
            error = EnclaveError(f"{self._python} inside the enclave has no cloudpickle", "install it there", "OC502")
        elif pickler.split(".")[0] != cloudpickle.__version__.split(".")[0]:
            cause = f"cloudpickle is {pickler} inside the enclave and {cloudpickle.__version__} here"
            error = EnclaveError(cause, "install the same version", "OC502")
        else:
            return
        task, worker.task = worker.task, None
        self._end(worker)
        self._break(task, error)

    def _break(self, task: _Task | None, error: Exception) -> None:
        """No worker will ever work: every task fails with the same reason."""
        with self._lock:
            self._broken = error
            failed = [task] if task is not None else []
            failed += [queued for queued in self._queue if queued.future.set_running_or_notify_cancel()]
            self._queue.clear()
        for one in failed:
            one.future.set_exception(error)

    def _died(self, worker: _Worker) -> None:
        task = worker.task
        self._end(worker)
        if task is not None:
            status = worker.process.returncode
            task.future.set_exception(WorkerDied(f"the worker that ran the task ended with {status}"))

    def _end(self, worker: _Worker) -> None:
        """Closes its pipes, which ends it, and waits for that."""
        worker.ended = True
        del self._workers[worker.out]
        self._selector.unregister(worker.out)
        if worker.unsent:
            self._selector.unregister(worker.tasks)
        assert worker.process.stdin is not None
        assert worker.process.stdout is not None
        worker.process.stdin.close()
        worker.process.stdout.close()
        with contextlib.suppress(EnclaveError):
            try:
                worker.process.wait(timeout=_LAST_SECONDS)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


def _at_exit() -> None:
    for executor in list(_executors):
        executor.shutdown()


# Before the enclaves' own: those were registered first, and go last.
atexit.register(_at_exit)
