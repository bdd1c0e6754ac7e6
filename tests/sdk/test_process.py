"""`occlum.run` and its like do what subprocess's do; what CPython's own tests do not look at."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import occlum
from occlum.enclave import Enclave


def test_run_captures_text(enclave: Enclave) -> None:
    done = enclave.run(["sh", "-c", "cat; echo err >&2"], input="in\n", capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr, done.returncode) == ("in\n", "err\n", 0)


def test_module_functions_use_one_default_enclave() -> None:
    name = "/tmp/occlum-sdk-test-default"
    assert occlum.call(["sh", "-c", f"echo kept > {name}"]) == 0
    assert occlum.check_output(["cat", name]) == b"kept\n"
    assert not Path(name).exists()
    assert occlum.check_call(["true"]) == 0
    assert occlum.getoutput("echo a; echo b") == "a\nb"
    assert occlum.getstatusoutput("exit 7") == (7, "")


@pytest.mark.parametrize("status", [0, 1, 72, 127, 200, 255])
def test_statuses_are_exact(enclave: Enclave, status: int) -> None:
    assert enclave.call(f"exit {status}", shell=True) == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMIN])
def test_death_by_signal_is_negative(enclave: Enclave, number: int) -> None:
    assert enclave.call(f"kill -{int(number)} $$; sleep 10", shell=True) == -number


def test_errors_are_subprocess_errors(enclave: Enclave) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        enclave.run("echo out; exit 3", shell=True, check=True, capture_output=True)
    assert isinstance(failed.value, occlum.CalledProcessError)
    assert (failed.value.returncode, failed.value.output) == (3, b"out\n")
    with pytest.raises(subprocess.TimeoutExpired) as late:
        enclave.run("echo early; sleep 60", shell=True, timeout=0.5, capture_output=True)
    assert isinstance(late.value, occlum.TimeoutExpired)
    assert late.value.output == b"early\n"


@pytest.mark.parametrize(
    ("argv", "cwd", "error", "name"),
    [
        (["no-such-program"], None, FileNotFoundError, "no-such-program"),
        (["/etc/passwd"], None, PermissionError, "/etc/passwd"),
        (["true"], "/no/such/directory", FileNotFoundError, "/no/such/directory"),
        (["true"], "/etc/passwd", NotADirectoryError, "/etc/passwd"),
    ],
)
def test_what_cannot_start_is_the_same_error(
    enclave: Enclave, argv: list[str], cwd: str | None, error: type[OSError], name: str
) -> None:
    for popen in (subprocess.Popen, enclave.Popen):
        with pytest.raises(error) as caught:
            popen(argv, cwd=cwd)
        assert caught.value.filename == name


def test_descriptors_are_real(enclave: Enclave) -> None:
    with enclave.Popen(["cat"], stdin=occlum.PIPE, stdout=occlum.PIPE) as process, selectors.DefaultSelector() as found:
        assert process.stdin is not None
        assert process.stdout is not None
        found.register(process.stdout, selectors.EVENT_READ)
        assert found.select(0) == []
        process.stdin.write(b"x")
        process.stdin.flush()
        assert found.select(10)
        assert os.read(process.stdout.fileno(), 10) == b"x"
        process.stdin.close()
        assert found.select(10)
        assert os.read(process.stdout.fileno(), 10) == b""


def test_files_and_pass_fds(enclave: Enclave, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with target.open("wb") as file:
        assert enclave.call(["echo", "to a file"], stdout=file) == 0
        file.write(b"behind it\n")
    assert target.read_text() == "to a file\nbehind it\n"
    read, write = os.pipe()
    assert enclave.call(["bash", "-c", f"echo through >&{write}"], pass_fds=[write]) == 0
    assert enclave.call(["bash", "-c", f"echo closed >&{write}"], stderr=occlum.DEVNULL) != 0
    os.close(write)
    with open(read) as stream:
        assert stream.read() == "through\n"


def test_megabytes_through_both_pipes(enclave: Enclave) -> None:
    data = os.urandom(5_000_000)
    assert enclave.run(["cat"], input=data, stdout=occlum.PIPE, check=True).stdout == data


def test_environment_and_directory(enclave: Enclave, tmp_path: Path) -> None:
    script = 'printf "%s %s" "$PWD" "$A"'
    out = enclave.check_output(script, shell=True, cwd=tmp_path, env={"A": "ü\udcff"})
    assert out == os.fsencode(f"{tmp_path} ü\udcff")


def test_what_cannot_be_is_refused_with_the_reason(enclave: Enclave) -> None:
    with pytest.raises(occlum.Unsupported, match="preexec_fn"):
        enclave.Popen(["true"], preexec_fn=lambda: None)
    with pytest.raises(ValueError, match="group of its own"):
        enclave.Popen(["true"], process_group=12345)


def test_stop_and_continue(enclave: Enclave) -> None:
    with enclave.Popen(["sh", "-c", "echo ready; read x; echo $x"], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        process.stdin.write("go\n")
        process.stdin.flush()
        with pytest.raises(occlum.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "go\n"
        assert process.wait(10) == 0


def test_many_at_once(enclave: Enclave) -> None:
    running = [enclave.Popen(f"sleep 0.{i % 3}; exit {i}", shell=True) for i in range(60)]
    assert [process.wait(60) for process in running] == list(range(60))


def test_waits_of_several_threads_end_together(enclave: Enclave) -> None:
    process = enclave.Popen(["sleep", "0.3"])
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(process.wait(30))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [0] * 5


def python(script: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a script in a Python of its own."""
    command = [sys.executable, *options.pop("flags", ()), "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


INTERRUPTED = """
import occlum, os, signal, sys, threading, time
occlum.run(["true"])
call = {
    "run": lambda: occlum.run(["sleep", "60"]),
    "captured": lambda: occlum.run(["sleep", "60"], capture_output=True),
    "wait": lambda: occlum.Popen(["sleep", "60"]).wait(),
    "timed": lambda: occlum.call(["sleep", "60"], timeout=50),
}[sys.argv[1]]
sent = []
def send():
    time.sleep(0.5)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=send).start()
try:
    call()
except KeyboardInterrupt:
    print(time.monotonic() - sent[0])
"""


@pytest.mark.parametrize("call", ["run", "captured", "wait", "timed"])
def test_interrupts_arrive_within_a_tenth_of_a_second(call: str) -> None:
    # The best of three: the machine may have other things to do.
    delays = []
    for _ in range(3):
        done = python(INTERRUPTED, call)
        assert done.stdout, done.stderr
        delays.append(float(done.stdout))
    assert min(delays) < 0.1


FORKED = """
import occlum, os
process = occlum.Popen(["sh", "-c", "read x; exit 5"], stdin=occlum.PIPE)
child = os.fork()
if child == 0:
    assert process.wait() == 0  # nobody's child here
    assert occlum.run(["echo", "child"], stdout=occlum.PIPE).stdout == b"child\\n"
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
process.stdin.close()
assert process.wait() == 5
print("parent", occlum.run(["echo", "again"], stdout=occlum.PIPE, text=True).stdout.strip())
"""


def test_a_fork_of_the_process_is_harmless() -> None:
    done = python(FORKED)
    assert (done.returncode, done.stdout) == (0, "parent again\n"), done.stderr


def test_an_exit_with_open_enclaves_is_named_and_leaves_nothing(runtime_directory: Path) -> None:
    before = set(runtime_directory.iterdir())
    script = """
import occlum
enclave = occlum.Enclave.from_host(memory="256M")
process = enclave.Popen(["sleep", "1000"])
occlum.run(["true"])
"""
    start = time.monotonic()
    done = python(script, flags=["-X", "dev"])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("ResourceWarning: unclosed enclave") == 1
    assert time.monotonic() - start < 20
    deadline = time.monotonic() + 10
    while set(runtime_directory.iterdir()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(runtime_directory.iterdir()) <= before


def test_faulthandler_stays_the_interpreters(enclave: Enclave) -> None:
    script = "import faulthandler, occlum, sys; faulthandler.enable(); occlum.run(['true']); faulthandler._sigsegv()"
    done = python(script)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert enclave.call(["true"]) == 0


def test_no_signal_handler_and_no_thread_in_this_process() -> None:
    script = """
import signal, threading
numbers = [n for n in signal.valid_signals() if n not in (9, 19)]
before = [signal.getsignal(n) for n in numbers], open("/proc/self/status").read().split("SigCgt")[1].split()[1]
import occlum
occlum.run(["true"])
after = [signal.getsignal(n) for n in numbers], open("/proc/self/status").read().split("SigCgt")[1].split()[1]
assert before == after and threading.active_count() == 1
assert "_native" not in " ".join(__import__("sys").modules)
"""
    done = python(script)
    assert done.returncode == 0, done.stderr


def test_importing_imports_nothing_else() -> None:
    script = """
import sys
before = set(sys.modules)
import occlum
assert set(sys.modules) - before <= {"occlum", "__future__"}, set(sys.modules) - before
"""
    assert python(script).returncode == 0
