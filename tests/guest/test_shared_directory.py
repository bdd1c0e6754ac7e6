"""A directory of the host: what moves or goes while it is open, and FIFOs and AF_UNIX sockets, which have only names there."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

from framework import cc, enclave, same

SPECIAL_FILES = """
import os, socket, stat

def said(name):
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(name)
    except OSError as error:
        return error.strerror
    client.send(b"hello")
    return "sent"

os.mkfifo("fifo", 0o640)
print(stat.filemode(os.stat("fifo").st_mode))
if os.fork() == 0:
    with open("fifo", "w") as f:
        f.write("through the fifo")
    os._exit(0)
print(open("fifo").read())
os.wait()

server = socket.socket(socket.AF_UNIX)
server.bind("one")
server.listen()
print(stat.filemode(os.stat("one").st_mode)[0])
if os.fork() == 0:
    print(said("one"), flush=True)
    os._exit(0)
print(server.accept()[0].recv(9))
os.wait()
try:
    socket.socket(socket.AF_UNIX).bind("one")
except OSError as error:
    print(error.strerror)
os.rename("one", "two")
print(said("one"), said("two"))
os.unlink("two")
print(said("two"))
second = socket.socket(socket.AF_UNIX)
second.bind("two")
second.listen()
print(said("two"), sorted(os.listdir()))
second.close()
print(said("two"))
os.unlink("two")
os.unlink("fifo")
print(os.listdir())
"""


def test_what_is_open_while_names_change(tmp_path: Path) -> None:
    program = cc(Path(__file__).parent / "src" / "moved.c", "-static", "-w")
    result = same([program], cwd=tmp_path, options=["-v", str(tmp_path)])
    assert "not so" not in result.text
    assert not list(tmp_path.iterdir())


def test_one_call_of_the_host_for_each_name(tmp_path: Path) -> None:
    """Nothing is kept, so each component is asked for; but what was just looked up is not asked for again."""
    deep, names, times = tmp_path / "a/b/c/d", 5, 20_000
    deep.mkdir(parents=True)
    (deep / "file").touch()
    script = "import os, sys; [os.stat('a/b/c/d/file') for _ in range(int(sys.argv[1]))]"
    calls = []
    for count in (0, times):
        stats = tmp_path / f"stats-{count}"
        options = ["-v", str(tmp_path), "--stats-file", str(stats)]
        assert enclave(["python3", "-c", script, str(count)], cwd=tmp_path, options=options).returncode == 0
        calls.append(json.loads(stats.read_text())["ocalls"])
    # Starts and idle vCPUs make thousands, on a busy machine more than on others.
    assert round((calls[1] - calls[0]) / times) == names


def test_special_files(tmp_path: Path) -> None:
    same(["python3", "-c", SPECIAL_FILES], cwd=tmp_path, options=["-v", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_sockets_of_the_host_are_not_reached(tmp_path: Path) -> None:
    """What the host has bound, or does with a name of the enclave, reaches nobody inside."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "outside"))
        server.listen()
        script = "import socket; socket.socket(socket.AF_UNIX).connect('outside')"
        result = enclave(["python3", "-c", script], cwd=tmp_path, options=["-v", str(tmp_path)])
        assert b"ConnectionRefusedError" in result.stderr
        server.setblocking(False)
        try:
            server.accept()
        except BlockingIOError:
            pass
        else:
            raise AssertionError("somebody connected")
    result = enclave(["mkfifo", "fifo"], cwd=tmp_path, options=["-v", str(tmp_path)])
    assert result.returncode == 0
    assert stat.S_ISFIFO((tmp_path / "fifo").lstat().st_mode)
    result = enclave(["mknod", "null", "c", "1", "3"], cwd=tmp_path, options=["-v", str(tmp_path)])
    assert result.returncode == 1
    assert not (tmp_path / "null").exists()
