"""The owner process: hostile and dying clients harm nobody else; a lost enclave is an exception."""

from __future__ import annotations

import array
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import occlum
from framework.waiting import wait_until
from occlum._host import registry
from occlum._host.protocol import VERSION, Decoder, Message, ProtocolError, encode
from occlum.enclave import Enclave


@pytest.fixture
def client(enclave: Enclave) -> Iterator[socket.socket]:
    """A bare connection to the owner."""
    with registry.entry(enclave.name).connect() as connection:
        connection.settimeout(20)
        yield connection


def answer(client: socket.socket) -> Message | None:
    """The next message; `None` if the owner hung up."""
    decoder = Decoder()
    while (message := decoder.next()) is None:
        try:
            data = client.recv(1 << 16)
        except ConnectionResetError:
            return None
        if not data:
            return None
        decoder.feed(data)
    return message


def start(**changes: object) -> Message:
    """A good request, or one that `changes` made bad."""
    good: Message = {"v": VERSION, "do": "start", "argv": ["true"], "program": "true", "env": [], "cwd": "/"}
    return good | {"files": []} | changes


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100,
        struct.pack("<I", 0xFFFFFFFF),
        struct.pack("<I", 3) + b"\xff\xfe\xfd",
        struct.pack("<I", 2) + b"[]",
        struct.pack("<I", 200_000) + b"[" * 200_000,
        struct.pack("<I", 9) + b'{"v": 1e9',
    ],
    ids=["http", "ones", "huge", "binary", "list", "nested", "cut"],
)
def test_rubbish_ends_the_connection(enclave: Enclave, client: socket.socket, data: bytes) -> None:
    client.sendall(data)
    message = answer(client)
    assert message is None or message["event"] == "refused"
    assert answer(client) is None
    assert enclave.call(["true"]) == 0


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"v": VERSION},
        {"v": VERSION + 1, "do": "status"},
        {"v": VERSION, "do": "nonsense"},
        {"v": VERSION, "do": ["start"]},
        {"v": VERSION, "do": "query", "what": "everything"},
        {"v": VERSION, "do": "stop", "grace": -1},
        {"v": VERSION, "do": "stop", "grace": "now"},
        {"v": VERSION, "do": "signal", "pid": 1, "signal": 9},
        {"v": VERSION, "do": "signal", "pid": 10**30, "signal": 9},
        start(argv="true"),
        start(argv=[1]),
        start(env=["A=\0"]),
        start(program="a\ud800b"),
        start(cwd="relative"),
        start(files=[0, 1, 2]),
        start(files=[-1]),
        start(files=[True]),
        start(uid=-1),
        start(umask=1 << 40),
        start(ignored=1 << 64),
        start(groups=[0] * 2000),
    ],
    ids=lambda message: json.dumps(message)[:60],
)
def test_requests_that_make_no_sense_are_refused(enclave: Enclave, client: socket.socket, message: Message) -> None:
    client.sendall(encode(message))
    refusal = answer(client)
    assert refusal is not None
    assert refusal["event"] == "refused"
    assert refusal["message"]
    assert answer(client) is None
    assert enclave.call(["true"]) == 0


def test_a_connection_asks_for_one_thing(client: socket.socket) -> None:
    client.sendall(encode({"v": VERSION, "do": "watch"}))
    assert answer(client) == {"event": "watching"}
    client.sendall(encode({"do": "watch"}))
    refusal = answer(client)
    assert refusal is not None
    assert refusal["event"] == "refused"


def test_random_bytes_and_halves_of_messages(enclave: Enclave, rng: random.Random) -> None:
    good = encode(start())
    for _ in range(100):
        with registry.entry(enclave.name).connect() as client:
            data = bytearray(good[: rng.randrange(len(good) + 1)])
            for _ in range(rng.randrange(4)):
                if data:
                    data[rng.randrange(len(data))] = rng.randrange(256)
            client.sendall(data)
    assert enclave.call(["true"]) == 0


def descriptors_of(enclave: Enclave) -> int:
    """How many the owner has open."""
    pid = registry.entry(enclave.name).facts()["pid"]
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_descriptors_that_nobody_named_are_closed(enclave: Enclave) -> None:
    assert wait_until(lambda: enclave.processes() == [])
    before = descriptors_of(enclave)
    for _ in range(20):
        with registry.entry(enclave.name).connect() as client:
            many = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", many))]
            client.sendmsg([encode(start())[:-1]], rights)
            for descriptor in many:
                os.close(descriptor)
    assert wait_until(lambda: descriptors_of(enclave) <= before + 1)


def test_a_thousand_programs_leave_no_descriptor(enclave: Enclave) -> None:
    assert wait_until(lambda: enclave.processes() == [])
    before = descriptors_of(enclave)
    for _ in range(300):
        enclave.run(["true"], capture_output=True, input=b"")
    assert wait_until(lambda: descriptors_of(enclave) <= before)


def test_a_client_that_does_not_read_is_dropped(enclave: Enclave) -> None:
    with registry.entry(enclave.name).connect() as watcher:
        watcher.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        watcher.sendall(encode({"v": VERSION, "do": "watch"}))
        script = "for i in $(seq 3000); do /bin/true; done"
        assert enclave.call(script, shell=True) == 0
        assert enclave.call(["true"]) == 0


def test_many_connections_at_once(enclave: Enclave) -> None:
    idle = [registry.entry(enclave.name).connect() for _ in range(300)]
    assert enclave.call(["true"]) == 0
    for client in idle:
        client.close()


def test_a_client_that_dies_takes_its_program_along(enclave: Enclave) -> None:
    script = """
import sys, occlum, os
enclave = occlum.Enclave.attach(sys.argv[1])
enclave.Popen("sleep 1000 & sleep 1000", shell=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script, enclave.name], timeout=60, check=False)
    assert done.returncode == -9
    assert wait_until(lambda: not [p for p in enclave.processes() if "sleep" in p.program])


def test_a_killed_owner_is_enclave_lost() -> None:
    enclave = Enclave.from_host(memory="256M")
    process = enclave.Popen(["sleep", "1000"])
    os.kill(registry.entry(enclave.name).facts()["pid"], signal.SIGKILL)
    with pytest.raises(occlum.EnclaveLost, match=enclave.name):
        process.wait(20)
    assert process.poll() == -9
    with pytest.raises(occlum.EnclaveLost):
        enclave.run(["true"])
    enclave.close()
    assert not registry.entry(enclave.name).path.exists()


def test_a_crashed_simulator_is_enclave_lost() -> None:
    with Enclave.from_host(memory="256M") as enclave:
        process = enclave.Popen(["sleep", "1000"])
        os.kill(registry.entry(enclave.name).facts()["pid"], signal.SIGABRT)
        with pytest.raises(occlum.EnclaveLost):
            process.communicate(timeout=20)


def test_an_owner_ends_with_its_starter(runtime_directory: Path) -> None:
    script = """
import occlum, os
enclave = occlum.Enclave.from_host(memory="256M")
print(enclave.name, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    name = done.stdout.strip()
    assert name.startswith("sdk-")
    assert wait_until(lambda: not (runtime_directory / name).exists())


def test_a_default_enclave_that_is_lost_is_replaced() -> None:
    assert occlum.call(["true"]) == 0
    first = occlum.default_enclave()
    os.kill(registry.entry(first.name).facts()["pid"], signal.SIGKILL)
    assert wait_until(lambda: not registry.entry(first.name).is_alive())
    assert occlum.call(["true"]) == 0
    assert occlum.default_enclave().name != first.name


def test_closing_says_sigterm_first() -> None:
    enclave = Enclave.from_host(memory="256M")
    script = "trap 'echo ended; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
    process = enclave.Popen(script, shell=True, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    start_time = time.monotonic()
    enclave.close(grace=20)
    assert time.monotonic() - start_time < 10
    assert process.communicate(timeout=10)[0] == "ended\n"
    assert process.returncode == 0
    with pytest.raises(occlum.EnclaveError, match="closed"):
        enclave.run(["true"])


def test_messages_have_a_limit() -> None:
    with pytest.raises(ProtocolError, match="too long"):
        encode({"text": "x" * (25 << 20)})


@pytest.mark.parametrize("size", [100_000, 1_500_000])
def test_long_arguments_arrive(enclave: Enclave, size: int) -> None:
    # Each is at most 128 KiB, as Linux has it.
    words = ["x" * 50_000] * (size // 50_000)
    script = "n=0; for a; do n=$((n+${#a})); done; echo $n"
    assert enclave.check_output(["bash", "-c", script, "bash", *words], env={}) == f"{size}\n".encode()


def test_arguments_that_are_too_long_are_the_same_error(enclave: Enclave) -> None:
    for size in (3_000_000, 20_000_000):
        with pytest.raises(OSError, match="too long"):
            enclave.run(["true", "x" * size])
    assert enclave.call(["true"]) == 0
