"""`occlum start`, `exec`, `stop` and the others, end to end: statuses, streams, terminal, signals, nothing left."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import occlum
from framework import OCCLUM, Terminal
from occlum.errors import OptionError

NAME = "commands"


def command(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `occlum ...`."""
    given = {"capture_output": True, "text": True, "timeout": 120, "check": False} | options
    return subprocess.run([str(OCCLUM), *map(str, words)], **given)


def execute(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `occlum exec` in the tests' enclave."""
    return command("exec", "-n", NAME, *words, **options)


@pytest.fixture(scope="module", autouse=True)
def started(runtime_directory: Path) -> Iterator[None]:  # noqa: ARG001
    """The enclave of these tests."""
    done = command("start", "-q", "-n", NAME, "-m", "1G")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    yield
    assert command("stop", "-n", NAME).returncode == 0
    assert command("status", NAME).returncode == 1


def pids(marker: str = "") -> set[int]:
    """The processes inside whose program has `marker` in its path."""
    found = json.loads(command("ps", "-n", NAME, "--json").stdout)
    return {process["pid"] for process in found if marker in process["program"]}


@pytest.mark.parametrize("status", [0, 1, 72, 124, 200, 255])
def test_statuses_are_exact(status: int) -> None:
    assert execute("sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_signal_is_128_plus_its_number(number: int) -> None:
    assert execute("sh", "-c", f"kill -{int(number)} $$").returncode == 128 + number


def test_what_cannot_run_is_126_and_127() -> None:
    for word, status in (("no-such-program", 127), ("/etc/passwd", 126)):
        done = execute(word)
        assert done.returncode == status
        assert word in done.stderr
    assert execute("-w", "/no/such/directory", "true").returncode == 126
    nobody = command("exec", "-n", "nobody", "true")
    assert nobody.returncode == 125
    assert "no enclave named nobody" in nobody.stderr


def test_streams_environment_and_directory(tmp_path: Path) -> None:
    script = 'cat; echo "$A $PWD" >&2'
    done = execute("-i", "-e", "A=b", "-w", tmp_path, "sh", "-c", script, input="through\n")
    assert (done.stdout, done.stderr) == ("through\n", f"b {tmp_path}\n")


def test_programs_share_the_enclave_and_nothing_comes_out() -> None:
    name = "/tmp/occlum-commands-shared"
    assert execute("sh", "-c", f"echo kept > {name}").returncode == 0
    assert execute("cat", name).stdout == "kept\n"
    assert not Path(name).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    argv = [str(OCCLUM), "exec", "-n", NAME, "bash", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        client.send_signal(number)
        assert client.stdout.readline() == "got\n"
        assert client.wait(30) == 9


def test_a_terminal_is_the_programs_own() -> None:
    argv = [str(OCCLUM), "exec", "-n", NAME, "-it", "bash", "--norc"]
    with Terminal(argv, os.environ | {"PS1": "inside> "}) as terminal:
        terminal.expect("inside> ")
        terminal.send("tty; stty size\r")
        terminal.expect(r"/dev/pts/\d+\r\n24 80\r\n.*inside> ")
        terminal.resize(30, 100)
        terminal.send("stty size\r")
        terminal.expect("30 100\r\n.*inside> ")
        terminal.send("sleep 100\r")
        time.sleep(0.3)
        terminal.send("\x03")
        terminal.expect("inside> ")
        terminal.send("sleep 100\r")
        time.sleep(0.3)
        terminal.send("\x1a")
        terminal.expect("Stopped.*inside> ")
        terminal.send("kill %1; exit 7\r")
        assert terminal.wait() == 7


def test_stopping_with_ctrl_z_stops_the_client_too() -> None:
    with Terminal(["bash", "--norc"], os.environ | {"PS1": "outside> "}) as terminal:
        terminal.expect("outside> ")
        terminal.send(f"{OCCLUM} exec -n {NAME} sh -c 'echo run\\ning; read x; echo got $x'\r")
        terminal.expect("run.?ning\r\n")
        terminal.send("\x1a")
        terminal.expect("Stopped.*outside> ")
        terminal.send("fg\r")
        terminal.expect("exec -n.*\r\n")
        terminal.send("word\r")
        terminal.expect("got word\r\n.*outside> ")
        terminal.send("exit\r")
        assert terminal.wait() == 0


def test_detached_programs_go_on_and_can_be_killed() -> None:
    done = execute("-d", "sh", "-c", "echo from the background; exec sleep 1000")
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while pid not in pids("sleep") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert pid in pids("sleep")
    assert "sh -c" in command("ps", "-n", NAME).stdout
    top = json.loads(command("top", "-n", NAME, "-c", "1", "--json").stdout)
    assert pid in {process["pid"] for process in top["processes"]}
    assert "from the background\n" in command("logs", "-n", NAME).stdout
    assert command("kill", "-n", NAME, "-s", "KILL", str(pid)).returncode == 0
    while pid in pids() and time.monotonic() < deadline:
        time.sleep(0.05)
    gone = command("kill", "-n", NAME, str(pid))
    assert (gone.returncode, "no such process" in gone.stderr) == (1, True)


def test_copies_in_and_out(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deeper").mkdir(parents=True)
    (tree / "deeper" / "file").write_bytes(bytes(range(256)) * 100)
    (tree / "link").symlink_to("deeper/file")
    assert command("cp", tree, f"{NAME}:/copied/there").returncode == 0
    assert command("cp", f"{NAME}:/copied/there", tmp_path / "back").returncode == 0
    assert (tmp_path / "back" / "deeper" / "file").read_bytes() == bytes(range(256)) * 100
    assert (tmp_path / "back" / "link").readlink() == Path("deeper/file")
    missing = command("cp", f"{NAME}:/no/such/file", tmp_path / "x")
    assert missing.returncode == 125
    assert "No such file" in missing.stderr


def test_a_second_start_of_the_name_is_refused() -> None:
    done = command("start", "-q", "-n", NAME)
    assert done.returncode == 125
    assert f"occlum stop {NAME}" in done.stderr or NAME in done.stderr
    assert execute("true").returncode == 0


def test_a_hundred_at_once_with_clients_killed_at_random_leave_nothing(rng: random.Random) -> None:
    before = pids()
    running = []
    for n in range(100):
        status, seconds = rng.randrange(256), rng.choice([0, 0, 0.1, 0.5, 1])
        script = f"sleep {seconds} & wait; exit {status}" if n % 2 else f"sleep {seconds}; exit {status}"
        argv = [str(OCCLUM), "exec", "-n", NAME, "sh", "-c", script]
        client = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        running.append((client, status, rng.random() < 0.3))
    doomed = [client for client, _, is_doomed in running if is_doomed]
    rng.shuffle(doomed)
    for client in doomed:
        time.sleep(rng.random() * 0.1)
        client.kill()
    for client, status, is_doomed in running:
        assert client.stderr is not None
        with client.stderr:
            errors = client.stderr.read()
        assert client.wait(120) in ({status, -9} if is_doomed else {status}), errors
    deadline = time.monotonic() + 20
    while pids() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert pids() <= before, command("ps", "-n", NAME).stdout
    assert json.loads(command("status", "--json", NAME).stdout)[0]["programs"] == []


def free_port() -> int:
    """A port of this machine that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def reads(port: int) -> bytes:
    """What a server says that may still be starting."""
    for _ in range(100):
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as connection:
                if data := connection.recv(100):
                    return data
        except OSError:
            pass
        time.sleep(0.1)
    return b""


def test_ports_lead_into_an_enclave_that_stays() -> None:
    port, published = free_port(), ("-n", "ports", "-p")
    assert command("start", "-q", *published, f"127.0.0.1:{port}:8080", "--network", "none").returncode == 0
    try:
        server = ("busybox", "nc", "-ll", "-p", "8080", "-e", "echo", "here")
        assert command("exec", "-n", "ports", "-d", *server).returncode == 0
        assert reads(port) == b"here\n"
        taken = command("start", "-q", "-n", "other", "-p", f"127.0.0.1:{port}:1")
        assert (taken.returncode, "OC310" in taken.stderr) == (125, True)
    finally:
        command("stop", "-n", "ports")
    ports = [f"127.0.0.1:{port}:8080"]
    with occlum.Enclave.from_host(memory="512M", publish=ports) as enclave, enclave.Popen(server) as process:
        assert reads(port) == b"here\n"
        process.kill()
    with pytest.raises(OptionError):
        occlum.Enclave.from_host(network="everything")


def test_stop_is_firm_with_programs_that_do_not_end(runtime_directory: Path) -> None:
    assert command("start", "-q", "-n", "stubborn", "-m", "256M").returncode == 0
    script = "trap '' TERM; echo ready; while :; do sleep 1; done"
    argv = [str(OCCLUM), "exec", "-n", "stubborn", "sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        start = time.monotonic()
        assert command("stop", "-n", "stubborn", "-t", "500ms").returncode == 0
        assert 0.4 < time.monotonic() - start < 20
        assert client.wait(30) in (125, 137)
    assert not (runtime_directory / "stubborn").exists()


def test_what_a_crash_left_is_recognised_and_replaced(runtime_directory: Path) -> None:
    assert command("start", "-q", "-n", "crashed", "-m", "256M").returncode == 0
    facts = json.loads(command("status", "--json", "crashed").stdout)[0]
    os.kill(facts["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while command("status", "crashed").returncode == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "lost" in command("status", "crashed").stdout
    lost = command("exec", "-n", "crashed", "true")
    assert lost.returncode == 125
    assert "lost" in lost.stderr
    assert command("start", "-q", "-n", "crashed", "-m", "256M").returncode == 0
    assert command("exec", "-n", "crashed", "true").returncode == 0
    assert command("stop", "-n", "crashed").returncode == 0
    assert not (runtime_directory / "crashed").exists()


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden", "x" * 65, "a b"])
def test_names_that_are_no_names(name: str) -> None:
    done = command("start", "-q", "-n", name)
    assert done.returncode == 125
    assert "cannot name an enclave" in done.stderr


def test_a_runtime_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = command("status", env=os.environ | {"OCCLUM_RUNTIME_DIR": str(tmp_path)})
    assert done.returncode == 125
    assert "open to other users" in done.stderr


@pytest.mark.parametrize("module", ["try_", "exec_"])
def test_what_runs_programs_imports_nothing_slow(module: str) -> None:
    script = f"import sys, occlum.cli, occlum.cli.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"rich", "pydantic", "cryptography"}.isdisjoint(done.stdout.split())
