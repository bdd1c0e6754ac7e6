"""The network from both sides: published ports, what can be reached, real servers and clients inside and on the host.

What sockets do between programs of one machine is in `src/net.c`, which `test_topics` runs.
"""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from framework import enclave, native, same
from framework.serving import connect, free_port, installed, running

PYTHON = sys.executable if "venv" not in sys.executable else "/usr/bin/python3"


def python(text: str, *arguments: str) -> list[str]:
    return [PYTHON, "-c", text, *arguments]


ECHO = """
import socket, sys, threading
port = int(sys.argv[1])
family = socket.AF_INET6 if len(sys.argv) > 2 else socket.AF_INET
listener = socket.create_server(("", port), family=family, backlog=128)
def serve(connection):
    with connection:
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
        except OSError:
            pass
while True:
    connection, peer = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
"""


def test_published_port(rng: random.Random) -> None:
    """Large data both ways at once, and a half-closed connection's end."""
    port = free_port()
    data = rng.randbytes(3 << 20)
    with running(python(ECHO, "7000"), ["-p", f"{port}:7000"]), connect(port) as client:

        def send() -> None:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = b"".join(iter(lambda: client.recv(1 << 16), b""))
        sender.join()
    assert got == data


def test_published_port_refuses_until_somebody_listens() -> None:
    port = free_port()
    wait = "import time, socket\ntime.sleep(2)\ns = socket.create_server(('', 7000))\ns.accept()[0].sendall(b'here')"
    with running(python(wait), ["-p", f"127.0.0.1:{port}:7000"]):
        time.sleep(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with connect(port) as client:
            assert client.recv(10) == b"here"


def test_published_port_of_loopback_listeners_stays_shut() -> None:
    """As with containers: who listens on 127.0.0.1 inside means only programs inside."""
    port = free_port()
    listen = "import time, socket\ns = socket.create_server(('127.0.0.1', 7000))\nprint(1, flush=True)\ntime.sleep(60)"
    with running(python(listen), ["-p", f"{port}:7000"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_peers_from_the_host_are_not_loopback() -> None:
    port = free_port()
    tell = """
import socket
s = socket.create_server(("", 7000))
c, peer = s.accept()
c.sendall(f"{peer[0]} {c.getpeername()[0]} {c.getsockname()[1]}".encode())
"""
    with running(python(tell), ["-p", f"{port}:7000"]), connect(port) as client:
        assert client.recv(100) == b"192.0.0.8 192.0.0.8 7000"


def test_urgent_data_crosses() -> None:
    """MSG_OOB of a connection that leaves the enclave is the host's socket's, with SIGURG and SIOCATMARK."""
    port = free_port()
    program = """
import array, fcntl, os, select, signal, socket
urgent = []
signal.signal(signal.SIGURG, lambda *_: urgent.append(1))
s = socket.create_server(("", 7000))
c, _ = s.accept()
fcntl.fcntl(c, fcntl.F_SETOWN, os.getpid())
def at_mark():
    mark = array.array("i", [0])
    fcntl.ioctl(c, 0x8905, mark)
    return mark[0]
c.sendall(b"ready")
poll = select.poll()
poll.register(c, select.POLLPRI)
assert poll.poll(20000) == [(c.fileno(), select.POLLPRI)]
assert c.recv(10) == b"abc" and at_mark() == 1 and len(urgent) == 1
assert c.recv(10, socket.MSG_OOB) == b"X" and poll.poll(0) == []
assert c.recv(3, socket.MSG_WAITALL) == b"def" and at_mark() == 0
c.send(b"gY", socket.MSG_OOB)
c.sendall(b"h")
print(len(urgent), flush=True)
c.recv(1)
"""
    with running(python(program), ["-p", f"{port}:7000"]) as process, connect(port) as client:
        assert client.recv(5) == b"ready"
        client.send(b"abcX", socket.MSG_OOB)
        client.sendall(b"def")
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        assert client.recv(10) == b"g"
        assert client.recv(1, socket.MSG_OOB) == b"Y"
        assert client.recv(10) == b"h"


def test_published_port_ipv6() -> None:
    port = free_port()
    with running(python(ECHO, "7000", "6"), ["-p", f"[::1]:{port}:7000"]), connect(port, "::1") as client:
        client.sendall(b"six")
        assert client.recv(10) == b"six"


def test_published_datagrams() -> None:
    port = free_port(socket.SOCK_DGRAM)
    echo = """
import socket
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(("", 7000))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(65536)
    s.sendto(data[::-1], peer)
"""
    with running(python(echo), ["-p", f"{port}:7000/udp"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            for message in (b"", b"abc", bytes(range(256)) * 200):
                client.sendto(message, ("127.0.0.1", port))
                assert client.recv(65536) == message[::-1]


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_port_in_use_is_the_tool_s_error(kind: socket.SocketKind) -> None:
    with socket.socket(type=kind) as taken:
        taken.bind(("", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        protocol = "udp" if kind == socket.SOCK_DGRAM else "tcp"
        result = enclave(["true"], options=["-p", f"{port}:7000/{protocol}"])
    assert result.returncode == 125
    assert f"port {port} of this machine cannot be published".encode() in result.stderr


@pytest.mark.parametrize("text", ["1", "1:", "0:1", "1:70000", "a:1:2", "1:2/sctp", "1:2:3:4", "1:2/"])
def test_bad_publish(text: str) -> None:
    result = enclave(["true"], options=["-p", text])
    assert result.returncode == 125
    assert b"does not name ports to publish" in result.stderr


FETCH = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as s:
        print(s.recv(100).decode(), s.getpeername()[0] == sys.argv[1])
except OSError as error:
    print(type(error).__name__, error.errno)
"""


@contextmanager
def host_service(address: str) -> Iterator[int]:
    """Says hello to whoever comes."""
    with socket.create_server((address, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                with connection:
                    connection.sendall(b"hello")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def own_address() -> str:
    """An address of this machine that others use."""
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.connect(("192.0.2.1", 9))
        return str(s.getsockname()[0])


@pytest.mark.parametrize("where", ["127.0.0.1", "own"])
def test_services_of_the_host_are_out_of_reach(where: str) -> None:
    address = own_address() if where == "own" else where
    with host_service("0.0.0.0") as port:
        fetch = python(FETCH, address, str(port))
        assert native(fetch).stdout == b"hello True\n"
        assert enclave(fetch).stdout == b"ConnectionRefusedError 111\n"
        assert enclave(fetch, options=["--network=none"]).returncode == 0
        assert enclave(fetch, options=["--network=host"]).stdout == b"hello True\n"


SEND_TO_ALL = """
import socket, sys
for address in sys.argv[2:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for connected in (False, True):
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
            else:
                s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            to = socket.getaddrinfo(address, int(sys.argv[1]), family)[0][4]
            try:
                if connected:
                    s.connect(to)
                    s.send(address.encode())
                else:
                    s.sendto(address.encode(), to)
            except OSError:
                pass
"""


def heard(service: socket.socket, end: str) -> set[bytes]:
    """What has come to a service of this machine, which gets one more message to know that this was all."""
    with socket.socket(service.family, socket.SOCK_DGRAM) as s:
        s.sendto(b"end", (end, service.getsockname()[1]))
    return set(iter(lambda: service.recv(100), b"end"))


def test_services_of_the_host_do_not_hear_what_is_sent_to_all() -> None:
    """Broadcasts and multicasts of an enclave are for other machines."""
    own = own_address()
    addresses = ["239.1.2.3", "255.255.255.255", own.rsplit(".", 1)[0] + ".255"]
    with socket.socket(type=socket.SOCK_DGRAM) as service:
        service.settimeout(20)
        service.bind(("", 0))
        service.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(addresses[0]) + bytes(4))
        send = python(SEND_TO_ALL, str(service.getsockname()[1]), *addresses)
        assert native(send).returncode == 0
        natively = heard(service, "127.0.0.1")
        assert natively
        assert enclave(send, options=["--network=host"]).returncode == 0
        assert heard(service, "127.0.0.1") == natively
        assert enclave(send).returncode == 0
        assert heard(service, "127.0.0.1") == set()
        # Nor from a published port.
        port = free_port(socket.SOCK_DGRAM)
        bound = [a.replace("s.setsockopt(socket.SOL", "s.bind(('', 7000)); s.setsockopt(socket.SOL", 1) for a in send]
        assert enclave(bound, options=["-p", f"{port}:7000/udp"]).returncode == 0
        assert heard(service, "127.0.0.1") == set()


def test_groups_of_ipv6_do_not_reach_the_host() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as service:
        service.settimeout(20)
        service.bind(("::", 0))
        groups = [f"ff02::1%{i}" for i, _ in socket.if_nameindex()]
        send = python(SEND_TO_ALL, str(service.getsockname()[1]), *groups)
        assert native(send).returncode == 0
        assert heard(service, "::1")
        assert enclave(send).returncode == 0
        assert heard(service, "::1") == set()


def test_no_network() -> None:
    result = enclave(python(FETCH, "203.0.113.7", "80"), options=["--network", "none"])
    assert result.stdout == b"OSError 101\n"
    listing = "import socket; print([name for _, name in socket.if_nameindex()])"
    assert enclave(python(listing), options=["--network", "none"]).stdout == b"['lo']\n"


def test_traffic_inside_never_leaves() -> None:
    """100 MB over 127.0.0.1, and hardly an OCALL."""
    text = """
import socket, threading
l = socket.create_server(("127.0.0.1", 0))
def send():
    with socket.create_connection(l.getsockname()) as c:
        for _ in range(100):
            c.sendall(bytes(1 << 20))
threading.Thread(target=send).start()
c = l.accept()[0]
print(sum(iter(lambda: len(c.recv(1 << 20)), 0)))
"""
    result = enclave(python(text), options=["--stats"])
    assert result.stdout == b"104857600\n"
    ocalls = next(line.split()[-1] for line in result.stderr.decode().splitlines() if " ocalls " in line)
    assert int(ocalls) < 30_000


def test_connections_to_different_peers_share_ports() -> None:
    """The ports of ip(7)'s local range are used up for one peer (connect(2): EADDRNOTAVAIL), and free for another."""
    text = """
import resource, socket
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
first, other = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
kept = []
def fill(server, most):
    for _ in range(most):
        kept.append(socket.create_connection(server.getsockname()))
        server.accept()[0].close()
try:
    fill(first, 30000)
except OSError as error:
    print(error.strerror, len(kept))
fill(other, 100)
"""
    assert enclave(python(text)).stdout == b"Cannot assign requested address 28230\n"


def reset(s: socket.socket) -> None:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def test_clients_that_vanish(rng: random.Random) -> None:
    """Resets at every moment; the server goes on, and keeps no descriptors."""
    count = """
import asyncio, os
async def serve(reader, writer):
    try:
        while data := await reader.read(1000):
            if data == b"count":
                data = str(len(os.listdir("/proc/self/fd"))).encode()
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
async def main():
    async with await asyncio.start_server(serve, "", 7000) as server:
        await server.serve_forever()
asyncio.run(main())
"""
    port = free_port()
    with running(python(count), ["-p", f"{port}:7000"]):

        def descriptors() -> int:
            with connect(port) as client:
                client.sendall(b"count")
                return int(client.recv(100))

        before = descriptors()
        for _ in range(300):
            client = connect(port)
            match rng.randrange(4):
                case 0:
                    client.sendall(rng.randbytes(rng.randrange(1, 5000)))
                case 1:
                    client.sendall(b"x")
                    client.recv(1)
                case 2:
                    client.shutdown(socket.SHUT_WR)
                case _:
                    pass
            reset(client) if rng.randrange(2) else client.close()
        time.sleep(0.5)
        assert descriptors() <= before + 1


@pytest.mark.parametrize("cpus", [1, 2])
def test_many_connections_at_once(cpus: int, rng: random.Random) -> None:
    port = free_port()
    with running(python(ECHO, "7000"), ["-p", f"{port}:7000", "--cpus", str(cpus)]):
        connect(port).close()
        clients = [connect(port) for _ in range(100)]
        messages = [rng.randbytes(rng.randrange(1, 20000)) for _ in clients]
        for client, message in zip(clients, messages, strict=True):
            client.sendall(message)
        for client, message in zip(clients, messages, strict=True):
            got = b""
            while len(got) < len(message):
                got += client.recv(65536)
            assert got == message
            client.close()


WORKERS = """
import os, select, socket, sys
listener = socket.create_server(("", 7000), backlog=256)
listener.setblocking(False)
for _ in range(int(sys.argv[1]) - 1):
    if os.fork() == 0:
        break
watched = select.epoll()
watched.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
clients = {}
def accept():
    while True:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            return
        client.setblocking(False)
        clients[client.fileno()] = client, bytearray()
        watched.register(client, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)
def is_over(client, left):
    try:
        while True:
            while left:
                del left[:client.send(left)]
            data = client.recv(65536)
            if not data:
                return True
            left += data
    except BlockingIOError:
        return False
    except OSError:
        return True
while True:
    for fd, _ in watched.poll():
        if fd == listener.fileno():
            accept()
        elif is_over(*clients[fd]):
            clients.pop(fd)[0].close()
"""


@pytest.mark.parametrize(("workers", "cpus"), [(1, 2), (3, 1), (3, 2)])
def test_workers_that_hear_edges(workers: int, cpus: int, rng: random.Random) -> None:
    """Servers of one listener, exclusive and edge-triggered: each byte comes back, also to who has shut its side."""
    port = free_port()

    def echoed(message: bytes) -> bool:
        with connect(port) as client:
            if len(message) % 5 == 0:
                # It vanishes.
                client.sendall(message)
                reset(client)
                return True
            client.sendall(message)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b"")) == message

    def work(messages: list[bytes]) -> None:
        good.extend(map(echoed, messages))

    good: list[bool] = []
    with running(python(WORKERS, str(workers)), ["-p", f"{port}:7000", "--cpus", str(cpus)]):
        connect(port).close()
        batches = [[rng.randbytes(rng.randrange(1, 60_000)) for _ in range(10)] for _ in range(24)]
        threads = [threading.Thread(target=work, args=(batch,)) for batch in batches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert good == [True] * 240


def test_a_busy_enclave_hears_the_network() -> None:
    """One vCPU, a program that computes without end, and another that answers."""
    port = free_port()
    text = f"import os\nif os.fork() == 0:\n    while True: pass\nexec({ECHO!r})"
    with running(python(text, "7000"), ["-p", f"{port}:7000", "--cpus", "1"]), connect(port) as client:
        start = time.monotonic()
        for _ in range(20):
            client.sendall(b"ping")
            assert client.recv(10) == b"ping"
        assert time.monotonic() - start < 10


def test_who_never_waits_hears_too() -> None:
    """Zero time-outs only, with one vCPU."""
    port = free_port()
    text = """
import select, socket
listener = socket.create_server(("", 7000))
listener.setblocking(False)
poll = select.epoll()
poll.register(listener, select.EPOLLIN)
while not poll.poll(0): pass
connection, _ = listener.accept()
connection.setblocking(False)
while not select.select([connection], [], [], 0)[0]: pass
connection.sendall(connection.recv(100))
"""
    with running(python(text), ["-p", f"{port}:7000", "--cpus", "1"]), connect(port) as client:
        client.sendall(b"spin")
        assert client.recv(100) == b"spin"


def test_python_http_server(tmp_path: Path, rng: random.Random) -> None:
    data = rng.randbytes(300_000)
    (tmp_path / "file").write_bytes(data)
    port = free_port()
    command = [PYTHON, "-m", "http.server", "--directory", str(tmp_path), "7000"]
    with running(command, ["-p", f"{port}:7000"]):
        connect(port).close()
        curl = ["curl", "-sS", f"http://127.0.0.1:{port}/file"]
        assert subprocess.run(curl, capture_output=True, check=True, timeout=30).stdout == data


LOCAL = {
    "asyncio": """
import asyncio
async def serve(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()
async def ask(port, n):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"number %d\\n" % n)
    answer = await reader.readline()
    writer.close()
    return answer
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(sorted(await asyncio.gather(*(ask(port, n) for n in range(100)))))
asyncio.run(main())
""",
    "socketserver": """
import socket, socketserver, threading
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline()[::-1])
with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever).start()
    for n in range(30):
        with socket.create_connection(server.server_address) as c:
            c.sendall(b"%d\\n" % (n * 111))
            print(c.makefile().read())
    server.shutdown()
""",
    "urllib": """
import http.server, threading, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("::1", 0), Handler) if False else http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for n in range(20):
    print(urllib.request.urlopen(f"http://localhost:{server.server_address[1]}/{n}").read())
server.shutdown()
""",
    "names": """
import socket
print(sorted({a[4][0] for a in socket.getaddrinfo("localhost", 80, socket.AF_INET)}))
print(socket.getservbyname("http"), socket.inet_ntop(socket.AF_INET6, bytes(16)))
""",
    "multiprocessing": """
from multiprocessing.connection import Client, Listener
import threading
with Listener(("127.0.0.1", 0), authkey=b"key") as listener:
    def ask():
        with Client(listener.address, authkey=b"key") as c:
            c.send(list(range(1000)))
            print(sum(c.recv()))
    t = threading.Thread(target=ask)
    t.start()
    with listener.accept() as c:
        c.send(c.recv())
    t.join()
""",
}


@pytest.mark.parametrize("name", LOCAL)
def test_python_inside(name: str) -> None:
    assert same(python(LOCAL[name]), timeout=60).returncode == 0


def test_netcat_inside() -> None:
    nc = installed("nc")
    port = free_port()
    script = (
        f"{nc} -l 127.0.0.1 {port} >/tmp/got.$$ & until echo some text | {nc} -N 127.0.0.1 {port}; do sleep 0.1; done"
    )
    result = same(["sh", "-c", f"{script}; wait; cat /tmp/got.$$; rm /tmp/got.$$"], timeout=30)
    assert result.stdout == b"some text\n"


def test_curl_inside(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    port = free_port()
    script = (
        f"{PYTHON} -m http.server --bind 127.0.0.1 {port} >/dev/null 2>&1 & "
        f"curl -sS --retry 50 --retry-connrefused --retry-delay 1 http://127.0.0.1:{port}/file; kill $!"
    )
    assert same(["sh", "-c", script], cwd=tmp_path, timeout=60).stdout == b"content\n"


def test_redis_inside() -> None:
    """Server and client in one enclave."""
    server, client = installed("redis-server"), installed("redis-cli")
    port = free_port()
    script = f"""
{server} --port {port} --save '' >/dev/null &
until {client} -p {port} ping 2>/dev/null | grep -q PONG; do sleep 0.1; done
for n in 1 2 3; do {client} -p {port} incr counter; done
{client} -p {port} eval 'return redis.call("get", "counter") + 39' 0
{client} -p {port} shutdown nosave
wait
"""
    assert same(["sh", "-c", script], timeout=60).stdout.split() == [b"1", b"2", b"3", b"42"]


def test_redis_from_the_host(tmp_path: Path) -> None:
    server = installed("redis-server")
    port = free_port()
    command = [server, "--port", "7000", "--save", "", "--protected-mode", "no"]
    with running(command, ["-p", f"{port}:7000"]):
        connect(port).close()
        load = [installed("redis-benchmark"), "-p", str(port), "-t", "set,get,lpush", "-n", "5000", "-P", "4", "-q"]
        done = subprocess.run(load, capture_output=True, check=True, timeout=60)
    assert done.stdout.count(b"requests per second") == 3


LIGHTTPD = """
server.document-root = "{root}"
server.port = 7000
server.max-keep-alive-requests = 100000
"""


def test_lighttpd_from_the_host(tmp_path: Path, rng: random.Random) -> None:
    server, load = installed("lighttpd"), installed("ab")
    (tmp_path / "page").write_bytes(rng.randbytes(10240))
    (tmp_path / "conf").write_text(LIGHTTPD.format(root=tmp_path))
    port = free_port()
    with running([server, "-D", "-f", tmp_path / "conf"], ["-p", f"{port}:7000"]):
        connect(port).close()
        for options in (["-k"], []):
            command = [load, "-q", *options, "-n", "3000", "-c", "64", f"http://127.0.0.1:{port}/page"]
            done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=120)
            assert "Failed requests:        0" in done.stdout
            assert "Non-2xx" not in done.stdout
            assert "Complete requests:      3000" in done.stdout


def test_memcached_from_the_host() -> None:
    server = installed("memcached")
    port = free_port()
    with running([server, "-u", "root", "-p", "7000", "-t", "4"], ["-p", f"{port}:7000"]), connect(port) as client:
        file = client.makefile("rwb")
        for n in range(500):
            value = str(n).encode() * 50
            file.write(b"set key%d 0 0 %d\r\n%s\r\nget key%d\r\n" % (n, len(value), value, n))
            file.flush()
            assert file.readline() == b"STORED\r\n"
            assert file.readline() == b"VALUE key%d 0 %d\r\n" % (n, len(value))
            assert file.readline() == value + b"\r\n"
            assert file.readline() == b"END\r\n"
