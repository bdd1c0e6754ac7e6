"""The IPython magics: `%load_ext occlum`, then `%%enclave` in front of a cell or `%enclave` in front of a command.

    %%enclave
    import os
    print(os.uname().sysname, os.getpid())

The cell is the standard input of a program in the enclave: `python3 -`, or what the first line names. What it prints
appears as it comes; it ends with an interrupt of the cell, and nothing of it is left for the next one but its files.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import os
import selectors
import shlex
import subprocess
import sys
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from IPython.core.error import UsageError

from occlum.enclave import Enclave, default_enclave
from occlum.errors import CalledProcessError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load"]

_CHUNK = 1 << 16


class _Texts:
    """Bytes that come in pieces, as text to where they belong; kept, too."""

    def __init__(self, target: Any) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._target = target
        self._kept: list[str] = []

    def add(self, data: bytes) -> None:
        text = self._decoder.decode(data, final=not data)
        self._kept.append(text)
        if self._target is not None:
            self._target.write(text)
            self._target.flush()

    def text(self) -> str:
        return "".join(self._kept)


def _feed(process: subprocess.Popen[bytes], cell: bytes, outputs: dict[IO[bytes], _Texts]) -> None:
    """Gives the cell to the program and passes on what it prints, whichever is possible."""
    left = memoryview(cell)
    assert process.stdin is not None
    with selectors.DefaultSelector() as selector:
        for output in outputs:
            selector.register(output, selectors.EVENT_READ)
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            for key, _ in selector.select():
                stream: Any = key.fileobj
                if stream is process.stdin:
                    with contextlib.suppress(BlockingIOError):
                        try:
                            left = left[os.write(key.fd, left[:_CHUNK]) :]
                        except BrokenPipeError:
                            left = left[len(left) :]
                    if not left:
                        selector.unregister(stream)
                        process.stdin.close()
                    continue
                data = os.read(key.fd, _CHUNK)
                outputs[stream].add(data)
                if not data:
                    selector.unregister(stream)


class _Parser(argparse.ArgumentParser):
    """The magic's options; what is wrong with them is the cell's error, not the notebook's end."""

    def __init__(self) -> None:
        super().__init__(prog="%enclave", add_help=False)
        self.add_argument("-n", "--name")
        self.add_argument("-o", "--out", metavar="VARIABLE")
        self.add_argument("--no-raise", action="store_true")
        self.add_argument("program", nargs=argparse.REMAINDER)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {self.format_usage()}")


def _run(shell: InteractiveShell, line: str, cell: str | None) -> None:
    # In a line magic the quotes are the shell's.
    args = _Parser().parse_args(shlex.split(line, posix=cell is not None))
    enclave = Enclave.attach(args.name) if args.name else default_enclave()
    words = list(args.program) or ["python3", "-"]
    if cell is None:
        words = ["sh", "-c", " ".join(args.program)]
    process = enclave.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    output = _Texts(None if args.out else sys.stdout)
    with process:
        try:
            _feed(process, (cell or "").encode(), {process.stdout: output, process.stderr: _Texts(sys.stderr)})
            process.wait()
        except BaseException:
            process.kill()
            raise
    if args.out:
        shell.user_ns[args.out] = output.text()
    if process.returncode and not args.no_raise:
        raise CalledProcessError(process.returncode, process.args)


def load(shell: InteractiveShell) -> None:
    """What `%load_ext occlum` does."""

    def enclave(line: str, cell: str | None = None) -> None:
        """%enclave [-n NAME] [-o VARIABLE] [--no-raise] COMMAND, or %%enclave [...] [PROGRAM ARG...] and a cell.

        Runs a shell's command line, or gives the cell to a program (`python3 -`), in an enclave: this notebook's own,
        or with -n one that `occlum start` started. -o keeps what the program prints in a variable; --no-raise makes
        nothing of a failure.
        """
        _run(shell, line, cell)

    cast(Any, shell).register_magic_function(enclave, "line_cell", "enclave")
