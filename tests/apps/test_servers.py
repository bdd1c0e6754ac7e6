"""Real servers in an enclave under load, their clients on this machine. Redis, lighttpd and memcached have tests in
tests/guest/test_net.py, too; here are those with several processes, with state that survives, and many connections."""

from __future__ import annotations

import random
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from framework import environment
from framework.serving import connect, free_port, installed, running
from framework.waiting import wait_until

PAGE = 10_240


def client(*argv: str | Path, timeout: float = 60) -> str:
    """What a client on this machine says; it must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), timeout=timeout, check=False)
    assert done.returncode == 0, f"{shlex.join(map(str, argv))}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def page(folder: Path, rng: random.Random) -> bytes:
    """A page to serve."""
    content = rng.randbytes(PAGE)
    (folder / "page.html").write_bytes(content)
    return content


def load(url: str, *, keep: bool) -> None:
    """Loads a server from 1 to 256 connections; every answer must be complete."""
    for connections in (1, 16, 256):
        options = ["-k"] if keep else []
        output = client(installed("ab"), "-q", *options, "-n", "600", "-c", str(connections), url)
        assert re.search(r"Complete requests: +600\b", output), output
        assert re.search(r"Failed requests: +0\b", output), output
        assert re.search(rf"HTML transferred: +{600 * PAGE} bytes", output), output
        assert "Non-2xx" not in output


NGINX = """
daemon off; user root; worker_processes 3; pid {tmp}/pid; error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off; keepalive_requests 100000;
    client_body_temp_path {tmp}/a; proxy_temp_path {tmp}/b; fastcgi_temp_path {tmp}/c;
    uwsgi_temp_path {tmp}/d; scgi_temp_path {tmp}/e;
    server {{ listen 7000 backlog=511; add_header X-Worker $pid; root {folder}; }}
}}
"""


def test_nginx(tmp_path: Path, rng: random.Random) -> None:
    """A master and three workers; a reload makes new workers, and no request is lost meanwhile."""
    content = page(tmp_path, rng)
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, tmp="/tmp"))
    port = free_port()
    url = f"http://127.0.0.1:{port}/page.html"
    with running([installed("nginx"), "-c", tmp_path / "nginx.conf"], ["-p", f"{port}:7000"]) as process:
        connect(port).close()
        assert subprocess.run(["curl", "-s", url], capture_output=True, check=True).stdout == content
        load(url, keep=True)
        load(url, keep=False)

        def workers() -> set[str]:
            heads = "".join(client("curl", "-s", "-I", url) for _ in range(5))
            return set(re.findall(r"X-Worker: (\d+)", heads))

        before = workers()
        process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: not workers() & before, 20), "a reload replaces the workers"


def test_lighttpd(tmp_path: Path, rng: random.Random) -> None:
    content = page(tmp_path, rng)
    (tmp_path / "site.conf").write_text(f'server.document-root = "{tmp_path}"\nserver.port = 7000\n')
    port = free_port()
    with running([installed("lighttpd"), "-D", "-f", tmp_path / "site.conf"], ["-p", f"{port}:7000"]):
        connect(port).close()
        url = f"http://127.0.0.1:{port}/page.html"
        assert subprocess.run(["curl", "-s", url], capture_output=True, check=True).stdout == content
        load(url, keep=True)


APP = """
import os
def app(environ, start_response):
    body = b"%d %s" % (os.getpid(), environ["QUERY_STRING"].encode())
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def test_gunicorn(tmp_path: Path) -> None:
    """Several workers, and an orderly end."""
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    base = f"http://127.0.0.1:{port}/"
    argv = [installed("gunicorn"), "--chdir", str(tmp_path), "-w", "3", "-b", "0.0.0.0:7000", "app:app"]
    with running(argv, ["-p", f"{port}:7000"]) as process:
        connect(port).close()
        output = client(installed("ab"), "-q", "-n", "300", "-c", "16", base)
        assert re.search(r"Failed requests: +0\b", output), output
        assert client("curl", "-s", base + "?x=1").endswith(" x=1")
        process.terminate()
        assert process.wait(timeout=20) == 0
        assert process.stdout is not None
        log = process.stdout.read().decode()
        assert len(re.findall(r"Booting worker with pid", log)) == 3
        assert len(re.findall(r"Worker exiting", log)) == 3


@contextmanager
def redis(folder: Path, *options: str) -> Iterator[tuple[str, str]]:
    """A server whose files stay in `folder`: the client's command line."""
    port = free_port()
    argv = [installed("redis-server"), "--port", "7000", "--dir", str(folder), "--protected-mode", "no", *options]
    with running(argv, ["-p", f"{port}:7000", "-v", str(folder)]):
        connect(port).close()
        cli = installed("redis-cli")
        assert wait_until(lambda: "\nloading:0" in client(cli, "-p", str(port), "info", "persistence"), 20)
        yield cli, str(port)


def test_redis_saves_and_comes_back(tmp_path: Path, rng: random.Random) -> None:
    """BGSAVE forks under load; the next server starts from the dump, the third from the append-only file."""
    value = rng.randbytes(20).hex()
    with redis(tmp_path) as (cli, port):
        bench = [installed("redis-benchmark"), "-p", port, "-q", "-r", "2000", "-n", "8000", "-c", "50"]
        client(*bench, "-t", "set,get,lpush,hset", "-P", "8")
        assert client(cli, "-p", port, "set", "ours", value) == "OK\n"
        assert client(cli, "-p", port, "bgsave") == "Background saving started\n"
        client(*bench, "-t", "get")
        assert wait_until(lambda: "rdb_bgsave_in_progress:0" in client(cli, "-p", port, "info", "persistence"), 20)
        assert "rdb_last_bgsave_status:ok" in client(cli, "-p", port, "info", "persistence")
        size = client(cli, "-p", port, "dbsize")
    with redis(tmp_path) as (cli, port):
        assert client(cli, "-p", port, "get", "ours") == f"{value}\n"
        assert client(cli, "-p", port, "dbsize") == size
        assert client(cli, "-p", port, "config", "set", "appendonly", "yes") == "OK\n"
        assert client(cli, "-p", port, "set", "later", value) == "OK\n"
        assert wait_until(lambda: "aof_base_size" in client(cli, "-p", port, "info", "persistence"), 20)
        assert wait_until(lambda: "aof_rewrite_in_progress:0" in client(cli, "-p", port, "info", "persistence"), 20)
    with redis(tmp_path, "--appendonly", "yes") as (cli, port):
        assert client(cli, "-p", port, "get", "later") == f"{value}\n"


def test_memcached() -> None:
    """Threads share the table: every client reads what another one wrote."""
    port = free_port()
    with running([installed("memcached"), "-u", "root", "-p", "7000", "-t", "4"], ["-p", f"{port}:7000"]):
        writers = [connect(port) for _ in range(32)]
        for i, s in enumerate(writers):
            s.sendall(b"set k%d 0 0 5\r\nv%04d\r\n" % (i, i))
        assert [s.recv(100) for s in writers] == [b"STORED\r\n"] * 32
        for i, s in enumerate(reversed(writers)):
            s.sendall(b"get k%d\r\n" % i)
        got = [s.recv(200) for s in reversed(writers)]
        assert got == [b"VALUE k%d 0 5\r\nv%04d\r\nEND\r\n" % (i, i) for i in range(32)]
        for s in writers:
            s.close()


POSTGRES = """
set -e
mkdir -p /tmp/data /tmp/socket
chown postgres /tmp/data /tmp/socket
as() {{ setpriv --reuid postgres --regid postgres --clear-groups "$@"; }}
as {bin}/initdb -D /tmp/data -A trust --no-sync -E UTF8 --locale C >/dev/null
echo 'host all all all trust' >>/tmp/data/pg_hba.conf
exec setpriv --reuid postgres --regid postgres --clear-groups \
    {bin}/postgres -D /tmp/data -k /tmp/socket -p 7000 -c listen_addresses='*' -c shared_buffers=32MB
"""


@pytest.mark.parametrize("sharing", [(), ("--no-alias",)], ids=["aliases", "copies"])
def test_postgresql(sharing: tuple[str, ...]) -> None:
    """initdb, a process for each connection, shared memory, an orderly end."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("postgresql is not installed; run: python3 tools/setup.py")
    port = free_port()
    at = ["-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
    bench, psql = folders[-1] / "pgbench", folders[-1] / "psql"
    with running(["bash", "-c", POSTGRES.format(bin=folders[-1])], ["-p", f"{port}:7000", *sharing]) as process:
        ready: list[str | Path] = [folders[-1] / "pg_isready", *at]
        assert wait_until(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, 60)
        client(bench, *at, "-i", "-q", "postgres")
        for mode in ("-S", "-N"):
            output = client(bench, *at, mode, "-c", "4", "-j", "2", "-T", "2", "postgres")
            assert "number of failed transactions: 0 " in output
        assert client(psql, *at, "-Atc", "select count(*) from pgbench_accounts", "postgres") == "100000\n"
        backends = {client(psql, *at, "-Atc", "select pg_backend_pid()", "postgres") for _ in range(3)}
        assert len(backends) == 3, "a process for each connection"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert process.stdout is not None
        assert b"database system is shut down" in process.stdout.read()


def test_dropbear(tmp_path: Path, rng: random.Random) -> None:
    """A secure shell: keys, commands with their status, data both ways, a terminal, many sessions."""
    server, ssh = installed("dropbear"), installed("dbclient")
    for key in ("host", "own"):
        output = client("dropbearkey", "-t", "ed25519", "-f", tmp_path / key)
    public = next(line for line in output.splitlines() if line.startswith("ssh-"))
    (tmp_path / "authorized_keys").write_text(public + "\n")
    shell = f"""
mkdir -p /root/.ssh && cp {tmp_path}/authorized_keys /root/.ssh/ && chmod 700 /root /root/.ssh
chmod 600 /root/.ssh/authorized_keys
exec {server} -F -E -r {tmp_path}/host -p 7000
"""
    port = free_port()
    base = [ssh, "-y", "-y", "-i", str(tmp_path / "own"), "-p", str(port), "root@127.0.0.1"]
    with running(["sh", "-c", shell], ["-p", f"{port}:7000"]):
        connect(port).close()

        def run(command: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
            return subprocess.run([*base, command], input=data, capture_output=True, timeout=30, check=False)

        done = run("test -r /proc/occlum && echo inside; exit 7")
        assert (done.returncode, done.stdout) == (7, b"inside\n"), done.stderr
        data = rng.randbytes(300_000)
        assert run("cat", data).stdout == data
        sessions = [
            subprocess.Popen([*base, f"sleep 0.3; echo {i}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            for i in range(4)
        ]
        assert [s.communicate(timeout=30)[0] for s in sessions] == [b"%d\n" % i for i in range(4)]
