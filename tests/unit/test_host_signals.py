"""Signals of the process that hosts an enclave: its own faults stay its own, and nobody can forge a program's fault.

Each test runs a small program of the host in a process of its own, with an enclave on one of its threads.
"""

from __future__ import annotations

import signal
import subprocess
import sys

PRELUDE = """
import ctypes, faulthandler, os, signal, threading, time
from pathlib import Path
from occlum._host.launch import EnclaveOptions, Launch, run

BUSY = ["busybox", "sh", "-c", "i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done; exit 42"]
outcomes = []

def start(argv):
    job = Launch(argv=argv)
    thread = threading.Thread(target=lambda: outcomes.append(run(EnclaveOptions(cpus=2), job)))
    thread.start()
    return thread

def name_of(task):
    try:
        return (task / "comm").read_text()
    except OSError:  # the thread has ended since the folder was read
        return ""

def vcpu_threads():
    return [int(t.name) for t in Path("/proc/self/task").iterdir() if name_of(t).startswith("vcpu")]

def wait_for_vcpus():
    while len(vcpu_threads()) < 2:
        time.sleep(0.01)
    time.sleep(0.1)
"""


def host(program: str) -> subprocess.CompletedProcess[str]:
    """Runs a host program after the prelude."""
    command = [sys.executable, "-c", PRELUDE + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_signals_of_other_threads_reach_their_own_handlers() -> None:
    done = host(
        """
seen = []
for number in (signal.SIGSEGV, signal.SIGTRAP):
    signal.signal(number, lambda number, frame: seen.append(number))
thread = start(BUSY)
wait_for_vcpus()
for _ in range(20):
    signal.raise_signal(signal.SIGSEGV)
    signal.raise_signal(signal.SIGTRAP)
    signal.raise_signal(signal.SIGRTMIN + 3)  # a kick that came too late
assert thread.is_alive()
thread.join()
print(seen.count(signal.SIGSEGV), seen.count(signal.SIGTRAP), outcomes[0].kind, outcomes[0].value)
"""
    )
    assert (done.stdout, done.returncode) == ("20 20 exited 42\n", 0), done.stderr


def test_a_fault_of_another_thread_ends_the_process_as_it_would_without_us() -> None:
    done = host(
        """
faulthandler.enable()
start(["sleep", "100"])
wait_for_vcpus()
ctypes.string_at(16)
"""
    )
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr


def test_a_fault_without_a_handler_ends_the_process() -> None:
    done = host('start(["sleep", "100"])\nwait_for_vcpus()\nctypes.string_at(16)\n')
    assert done.returncode == -signal.SIGSEGV


def test_fault_signals_that_were_sent_are_no_faults_of_the_program() -> None:
    done = host(
        """
thread = start(BUSY)
wait_for_vcpus()
libc, sent = ctypes.CDLL(None), 0
while thread.is_alive():
    for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP):
        for tid in vcpu_threads():
            sent += libc.syscall(234, os.getpid(), tid, number) == 0  # tgkill
    time.sleep(0.001)
assert sent > 100, sent
print(outcomes[0].kind, outcomes[0].value)
"""
    )
    assert (done.stdout, done.returncode) == ("exited 42\n", 0), done.stderr
