"""What a worker of `EnclaveExecutor` runs inside the enclave: its text is given to the guest's Python with `-c`.

It knows nothing of the package. Frames are eight bytes of length, little-endian, and a pickle. First the worker says
which Python it is, and gets the settings; then it gets tasks and answers each: `(True, result)` or `(False, exception,
traceback)`. With `fork` a task runs in a child of its own, so nothing of it is left for the next.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
import traceback
from typing import Any


def read(stream: Any) -> Any:
    """The next frame's object. EOFError at the end."""
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    return pickle.loads(stream.read(struct.unpack("<Q", head)[0]))


def write(descriptor: int, data: bytes) -> None:
    """Writes a frame."""
    left = memoryview(struct.pack("<Q", len(data)) + data)
    while left:
        left = left[os.write(descriptor, left) :]


def answer(task: bytes) -> bytes:
    """Runs a task; the frame that says how it went."""
    import cloudpickle  # type: ignore[import-not-found,unused-ignore]

    try:
        function, args, kwargs = pickle.loads(task)
        return bytes(cloudpickle.dumps((True, function(*args, **kwargs))))
    except BaseException as error:
        text = traceback.format_exc()
        try:
            data = cloudpickle.dumps((False, error, text))
            # An exception may go out and not come back.
            pickle.loads(data)
            return bytes(data)
        except BaseException:
            return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}"), text))


def path_for(settings: Any) -> list[str]:
    """Where modules are found. The same interpreter finds what the executor's process does.

    Another one goes on finding its own, built for it, and behind them the user's: those in neither of the prefixes.
    """
    if sys.prefix == settings["prefixes"][0]:
        return list(settings["path"])
    foreign = tuple(f"{prefix}/lib" for prefix in settings["prefixes"])
    return [*sys.path, *(place for place in settings["path"] if not place.startswith(foreign))]


def in_child(task: bytes, out: int) -> None:
    """Runs a task in a fork of this process, which answers itself if it can."""
    child = os.fork()
    if child == 0:
        try:
            write(out, answer(task))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        write(out, pickle.dumps((None, os.waitstatus_to_exitcode(status), "")))


def main() -> None:
    """Serves until the executor closes its end."""
    tasks, out = os.fdopen(os.dup(0), "rb"), os.dup(1)
    # What tasks read is empty; what they print goes to standard error.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    try:
        import cloudpickle

        pickler = cloudpickle.__version__
    except ImportError:
        pickler = ""
    write(out, pickle.dumps((tuple(sys.version_info[:2]), sys.implementation.name, pickler)))
    try:
        settings = read(tasks)
        sys.path[:] = path_for(settings)
        initializer, args = pickle.loads(settings["initializer"])
        if initializer is not None:
            initializer(*args)
        while True:
            task = read(tasks)
            if settings["fork"]:
                in_child(task, out)
            else:
                write(out, answer(task))
    except EOFError:
        pass


if __name__ == "__main__":
    main()
