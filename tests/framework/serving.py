"""Servers in an enclave, and clients on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from . import enclave_argv, environment

START_S = 30


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of this machine that nobody has."""
    with socket.socket(type=kind) as s:
        s.bind(("", 0))
        return int(s.getsockname()[1])


def connect(port: int, host: str = "127.0.0.1", patience: float = START_S) -> socket.socket:
    """A connection to a port of this machine, as soon as somebody listens there."""
    end = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection((host, port), timeout=START_S)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


@contextmanager
def running(argv: Sequence[str | bytes | Path], options: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A program in an enclave for as long as the block runs."""
    command = [os.fspath(a) for a in enclave_argv(argv, options)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(), start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                pytest.fail("SIGTERM did not end the program")


def installed(program: str) -> str:
    """The path of a program that the tests need."""
    found = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.skip(f"{program} is not installed; run: python3 tools/setup.py")
    return found
